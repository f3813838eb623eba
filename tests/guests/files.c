/*
 * mode=ext4: files of a file system that the test made on the first disk.
 *
 * Round n writes a file of 1 to 16 blocks, each block with n and a checksum, under a passing name, syncs it, renames it
 * to f<n % files>, and syncs the directory; then memory's record says that n is acknowledged. Beside it a directory is
 * made and removed. Before a file is replaced it is read with O_DIRECT, so from the disk, and must be what was left there.
 *
 * A block: 0 u64 magic "BGSNAPFL" · 8 u64 n · 16 u32 place · 20 u32 blocks · 24 filler · 4088 u64 checksum
 *
 * bgsnap.agent=1 starts qemu-ga, which is in the larger initramfs, when the file system is mounted.
 */
#define _GNU_SOURCE
#include "guest.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#define MAX_FILES 1024u
#define LONGEST 16u
#define ROOT "/data"
#define AGENT_CHANNEL "org.qemu.guest_agent.0"

static record *memory;
static uint32_t files;
static uint64_t left[MAX_FILES]; /* the number in each file, 0: not there yet */
static uint64_t *block;
static int directory;

static uint32_t blocks_of(uint64_t n) { return (uint32_t)(n * 7 % LONGEST) + 1; }

static void make_block(uint64_t n, uint32_t place)
{
    block[0] = FILE_MAGIC;
    block[1] = n;
    block[2] = (uint64_t)blocks_of(n) << 32 | place;
    for (uint32_t at = 3; at < TAIL; at++)
        block[at] = (n * LONGEST + place + at) * 0x9e3779b97f4a7c15ull;
    block[TAIL] = checksum(block, TAIL);
}

static void failed(writer *w, const char *what, uint64_t n)
{
    atomic_fetch_add(&w->corrupt, 1);
    say("file-error=%s n=%llu errno=%d", what, (unsigned long long)n, errno);
    usleep(200000);
}

static void check_file(writer *w, uint32_t index)
{
    char name[16];
    uint64_t n = left[index];
    if (n == 0)
        return;
    snprintf(name, sizeof name, "f%u", index);
    int fd = openat(directory, name, O_RDONLY | O_DIRECT | O_CLOEXEC);
    bool right = fd >= 0;
    uint32_t place = 0;
    for (; right && place < blocks_of(n); place++)
        right = pread(fd, block, PAGE, (off_t)place * PAGE) == PAGE && block[0] == FILE_MAGIC && block[1] == n
            && (uint32_t)block[2] == place && block[TAIL] == checksum(block, TAIL);
    if (right)
        right = pread(fd, block, PAGE, (off_t)place * PAGE) == 0;
    if (fd >= 0)
        close(fd);
    if (!right)
        failed(w, "content", n);
    atomic_fetch_add(&w->checked, 1);
}

static const char *write_file(uint64_t n)
{
    char name[16], passing[24];
    snprintf(name, sizeof name, "f%u", (uint32_t)(n % files));
    snprintf(passing, sizeof passing, "d%llu", (unsigned long long)n);
    if (mkdirat(directory, passing, 0700) != 0)
        return "mkdir";
    int fd = openat(directory, "new", O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0)
        return "create";
    const char *error = NULL;
    for (uint32_t place = 0; !error && place < blocks_of(n); place++) {
        make_block(n, place);
        if (write(fd, block, PAGE) != PAGE)
            error = "write";
    }
    if (!error && fsync(fd) != 0)
        error = "fsync";
    close(fd);
    if (!error && renameat(directory, "new", directory, name) != 0)
        error = "rename";
    if (!error && unlinkat(directory, passing, AT_REMOVEDIR) != 0)
        error = "rmdir";
    if (!error && fsync(directory) != 0)
        error = "fsync-directory";
    return error;
}

static void start_agent(void)
{
    char path[64];
    mkdir("/run", 0755);
    for (int i = 0; !find_channel(AGENT_CHANNEL, path); usleep(100000))
        if (++i > 50)
            die("no-channel-for-the-agent");
    pid_t child = fork();
    if (child == 0) {
        execl("/usr/sbin/qemu-ga", "qemu-ga", "-m", "virtio-serial", "-p", path, "-t", "/run", "-f", "/run/qga.pid", (char *)NULL);
        _exit(127);
    }
    say("agent=%d", child);
}

void prepare_files(void)
{
    char paths[MAX_DISKS][32];
    files = (uint32_t)number("files", 32);
    if (files < 1 || files > MAX_FILES)
        die("bad-number-of-files");
    memory = make_record(RECORD_EXT4);
    memory->slots = files;
    if (posix_memalign((void **)&block, PAGE, PAGE) != 0)
        die("memory-for-blocks");
    find_disks(1, paths);
    mkdir(ROOT, 0755);
    if (mount(paths[0], ROOT, "ext4", 0, "errors=remount-ro") != 0)
        die("mount");
    directory = open(ROOT, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (directory < 0)
        die(ROOT);
    if (number("agent", 0))
        start_agent();
}

void *write_files(void *argument)
{
    writer *w = argument;
    long pause_us = number("pause", 0);
    for (uint64_t n = 1;; n++) {
        check_file(w, (uint32_t)(n % files));
        atomic_store(&memory->issued, n);
        uint64_t before = tsc();
        const char *error = write_file(n);
        note_latency(w, tsc() - before);
        if (error)
            failed(w, error, n);
        left[n % files] = n;
        atomic_store(&memory->acknowledged, n);
        atomic_fetch_add(&w->writes, 1);
        if (pause_us > 0)
            usleep((useconds_t)pause_us);
    }
    return NULL;
}

uint64_t last_file(void) { return memory ? atomic_load(&memory->acknowledged) : 0; }
