/*
 * The Linux test guest: PID 1 of an initramfs, one static program.
 *
 * Writers store an increasing number into the pages of their arenas, in a fixed order, so that a
 * RAM image of one instant can be told from one that is not: for each writer, in that order, the
 * pages hold c up to one place and c-1 after it. The guest checks every page that it is about to
 * overwrite, so that a restored guest finds its own corruption. The layout of a page is in guest.h.
 *
 * Parameters, on the kernel's command line:
 *
 *   bgsnap.mode=count     writers at full speed (the default); a tick line every 200 ms
 *   bgsnap.mode=bench     the same with random filler, and a line every second
 *   bgsnap.mode=rate      one writer at bgsnap.rate=20000 writes a second, with latencies
 *   bgsnap.mode=idle      fills its memory, then only checks it
 *   bgsnap.mode=disk      one thread writes the same number to memory and to bgsnap.disks=1 disks (see disk.c), with
 *                         bgsnap.slots=128 slots bgsnap.stride=64 KiB apart; latencies of its writes each second
 *   bgsnap.mode=ext4      one thread writes bgsnap.files=32 files of the first disk (see files.c); bgsnap.agent=1: and qemu-ga
 *   bgsnap.pause=0        microseconds between two writes of these two modes
 *   bgsnap.mib=64         arena of each writer, in MiB
 *   bgsnap.writers=1      number of writers, pinned round robin over the vCPUs; with a disk they come besides, and 0 is a number
 *   bgsnap.fill=zero      zero or random: what a page holds besides its header
 *   bgsnap.order=seq      seq or random: how the order of writing lies in memory
 *   bgsnap.huge=0         1: arenas in transparent huge pages (inside the guest)
 *   bgsnap.balloon=0      1: a balloon device takes what it is told to
 *   bgsnap.spare=0        MiB of noise besides, given back to the kernel and taken again in turns, whenever an s arrives on ttyS0
 *   bgsnap.tick=200       milliseconds between two tick lines
 *
 * Output on ttyS0, one record of key=value words per line:
 *
 *   guest=linux mode=... writers=... pages=... vcpus=...     once, before memory is filled
 *   ready=1 fill_ms=...                                      once, then counting begins
 *   tick=N writes=T delta=D corrupt=C checked=F maxstall_us=U
 *                   with a disk T, D and U are those of its writer, and the line ends in disk=N, the number acknowledged last
 *   spare=given             after the first s, spare=taken after the next: every page was zero, or counts as corrupt
 *   rate=N p50_us=... p99_us=... max_us=... count=... skipped=...      each second, modes rate, disk and ext4
 *
 * Any byte that arrives on ttyS0 makes the next line come at once.
 *
 * Stalls are taken from the guest's TSC, which QEMU stops with the vCPUs: the stop window of a
 * snapshot is not in them, what the guest loses while it runs is.
 */
#define _GNU_SOURCE
#include "guest.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <sys/sysinfo.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

static writer writers[MAX_WRITERS];
static unsigned writer_count = 1;
static writer disk_writer;
static bool with_disk;
double ticks_per_us = 1000;

static uint64_t now_us(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_nsec / 1000;
}

/* One write per line, so that lines of several threads cannot mix. */
void say(const char *format, ...)
{
    char line[256];
    va_list arguments;
    va_start(arguments, format);
    int length = vsnprintf(line, sizeof line - 1, format, arguments);
    va_end(arguments);
    if (length > (int)sizeof line - 2)
        length = (int)sizeof line - 2;
    line[length++] = '\n';
    for (int done = 0; done < length;) {
        ssize_t n = write(1, line + done, (size_t)(length - done));
        if (n <= 0)
            return;
        done += (int)n;
    }
}

/* With -no-reboot QEMU ends, so that nobody waits for a guest that has given up. */
void die(const char *what)
{
    say("fatal=%s errno=%d", what, errno);
    tcdrain(1);
    for (;;)
        reboot(RB_AUTOBOOT);
}

static void put(const char *path, const char *text)
{
    int fd = open(path, O_WRONLY);
    if (fd < 0)
        return;
    if (write(fd, text, strlen(text)) < 0) { /* a kernel without this knob needs no turning of it */ }
    close(fd);
}

/* The value of a word of the command line, or the fallback. */
static const char *option(const char *name, const char *fallback)
{
    static char line[4096], value[64];
    if (!line[0]) {
        int fd = open("/proc/cmdline", O_RDONLY);
        if (fd < 0 || read(fd, line, sizeof line - 1) <= 0)
            return fallback;
        close(fd);
    }
    size_t length = strlen(name);
    for (const char *at = line; (at = strstr(at, "bgsnap.")) != NULL; at++) {
        const char *key = at + strlen("bgsnap.");
        if (strncmp(key, name, length) == 0 && key[length] == '=') {
            size_t size = strcspn(key + length + 1, " \n");
            if (size >= sizeof value)
                size = sizeof value - 1;
            memcpy(value, key + length + 1, size);
            value[size] = 0;
            return value;
        }
    }
    return fallback;
}

long number(const char *name, long fallback)
{
    const char *text = option(name, NULL);
    return text ? strtol(text, NULL, 0) : fallback;
}

/* --- reports --------------------------------------------------------------------------------- */

static void report(uint64_t tick)
{
    static uint64_t before;
    uint64_t writes = 0, corrupt = 0, checked = 0, gap = 0;
    for (unsigned i = 0; i < writer_count; i++) {
        writes += atomic_load(&writers[i].writes);
        corrupt += atomic_load(&writers[i].corrupt);
        checked += atomic_load(&writers[i].checked);
        uint64_t longest = atomic_exchange(&writers[i].max_gap, 0);
        gap = longest > gap ? longest : gap;
    }
    corrupt += corrupt_spare();
    char disk[32] = "";
    if (with_disk) {
        writes = atomic_load(&disk_writer.writes);
        corrupt += atomic_load(&disk_writer.corrupt);
        checked += atomic_load(&disk_writer.checked);
        gap = atomic_exchange(&disk_writer.max_gap, 0);
        snprintf(disk, sizeof disk, " disk=%llu", (unsigned long long)(last_acknowledged() + last_file()));
    }
    say("tick=%llu writes=%llu delta=%llu corrupt=%llu checked=%llu maxstall_us=%llu%s", (unsigned long long)tick,
        (unsigned long long)writes, (unsigned long long)(writes - before), (unsigned long long)corrupt,
        (unsigned long long)checked, (unsigned long long)((double)gap / ticks_per_us), disk);
    before = writes;
}

/* Waits for the time to pass or for a byte to arrive. */
static void wait_for_tick(long milliseconds)
{
    struct pollfd input = {.fd = 0, .events = POLLIN};
    char bytes[64];
    if (poll(&input, 1, (int)milliseconds) <= 0)
        return;
    ssize_t count = read(0, bytes, sizeof bytes);
    if (count <= 0)
        usleep((useconds_t)milliseconds * 1000);
    else if (memchr(bytes, 's', (size_t)count))
        move_spare();
}

/* --- PID 1 ----------------------------------------------------------------------------------- */

static void run_all(void *(*body)(void *), bool wait)
{
    pthread_t threads[MAX_WRITERS];
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, 64 * 1024);
    for (unsigned i = 0; i < writer_count; i++)
        if (pthread_create(&threads[i], &attributes, body, &writers[i]) != 0)
            die("pthread_create");
    for (unsigned i = 0; wait && i < writer_count; i++)
        pthread_join(threads[i], NULL);
}

static void set_up(void)
{
    mkdir("/proc", 0755);
    mkdir("/sys", 0755);
    mkdir("/dev", 0755);
    mount("proc", "/proc", "proc", 0, NULL);
    mount("sys", "/sys", "sysfs", 0, NULL);
    mount("dev", "/dev", "devtmpfs", 0, NULL);

    /* Pages must stay where they are: a copy left behind by compaction, a merge into a huge page
     * or a swap would look to a scanner like a page of another time. */
    put("/proc/sys/vm/compact_unevictable_allowed", "0");
    put("/proc/sys/vm/compaction_proactiveness", "0");
    put("/sys/kernel/mm/transparent_hugepage/khugepaged/pages_to_scan", "1");
    put("/sys/kernel/mm/transparent_hugepage/khugepaged/scan_sleep_millisecs", "4000000000");
    put("/sys/kernel/mm/transparent_hugepage/enabled", "madvise");
    put("/sys/kernel/mm/transparent_hugepage/defrag", "madvise");
    put("/proc/sys/vm/overcommit_memory", "1");

    struct termios terminal;
    if (tcgetattr(0, &terminal) == 0) {
        cfmakeraw(&terminal);
        tcsetattr(0, TCSANOW, &terminal);
    }
}

static void calibrate(void)
{
    uint64_t from_us = now_us(), from = tsc();
    usleep(20000);
    uint64_t passed = now_us() - from_us;
    ticks_per_us = (double)(tsc() - from) / (double)(passed ? passed : 1);
}

int main(void)
{
    set_up();
    mlockall(MCL_FUTURE | MCL_ONFAULT);
    char mode[16];
    snprintf(mode, sizeof mode, "%s", option("mode", "count"));
    bool disk = strcmp(mode, "disk") == 0, ext4 = strcmp(mode, "ext4") == 0;
    bool bench = strcmp(mode, "bench") == 0, rate = strcmp(mode, "rate") == 0, idle = strcmp(mode, "idle") == 0;
    with_disk = disk || ext4;
    if (!bench && !rate && !idle && !with_disk && strcmp(mode, "count") != 0)
        die("unknown-mode");
    writer_count = rate ? 1 : (unsigned)number("writers", with_disk ? 0 : 1);
    if ((writer_count < 1 && !with_disk) || writer_count > MAX_WRITERS)
        die("bad-number-of-writers");
    bool random_fill = strcmp(option("fill", bench || idle ? "random" : "zero"), "random") == 0;
    bool random_order = strcmp(option("order", rate ? "random" : "seq"), "random") == 0;
    bool huge_pages = number("huge", 0) != 0;
    long tick_ms = number("tick", bench ? 1000 : 200);
    uint32_t pages = (uint32_t)number("mib", 64) * 256;
    if (pages == 0 || tick_ms <= 0)
        die("bad-size");
    struct sysinfo memory;
    sysinfo(&memory);
    if ((uint64_t)pages * PAGE * writer_count + (8u << 20) > memory.freeram * (uint64_t)memory.mem_unit)
        die("arenas-larger-than-free-memory");

    say("guest=linux mode=%s writers=%u pages=%u vcpus=%ld fill=%s order=%s", mode, writer_count, pages,
        sysconf(_SC_NPROCESSORS_ONLN), random_fill ? "random" : "zero", random_order ? "random" : "seq");
    calibrate();
    for (uint32_t i = 0; i < writer_count; i++)
        make_arena(&writers[i], &(arena_options){i, pages, random_fill, random_order, huge_pages});
    if (number("balloon", 0))
        give_to_balloon();
    uint64_t began = now_us();
    run_all(fill, true);
    make_spare((uint32_t)number("spare", 0) * 256);
    if (disk)
        prepare_disks(&disk_writer);
    else if (ext4)
        prepare_files();
    say("ready=1 fill_ms=%llu uptime_ms=%llu", (unsigned long long)((now_us() - began) / 1000),
        (unsigned long long)(now_us() / 1000));
    run_all(idle ? check_only : rate ? write_at_rate : count, false);
    pthread_t disk_thread;
    if (with_disk && pthread_create(&disk_thread, NULL, disk ? write_disks : write_files, &disk_writer) != 0)
        die("pthread_create");

    /* The reports come in time, however busy the vCPUs are. */
    struct sched_param first = {.sched_priority = 1};
    sched_setscheduler(0, SCHED_FIFO, &first);
    uint64_t second = 0, last_second = now_us();
    for (uint64_t tick = 1;; tick++) {
        wait_for_tick(tick_ms);
        report(tick);
        if ((rate || with_disk) && now_us() - last_second >= 1000000) {
            last_second += 1000000;
            report_latencies(++second);
        }
    }
}
