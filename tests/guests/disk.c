/*
 * mode=disk: the same increasing number to memory and to disks.
 *
 * Number n goes to disk (n-1) % disks, there to slot (n-1) / disks % slots, at slot * stride, with O_DIRECT:
 *
 *   0     u64  magic        "BGSNAPDK"
 *   8     u64  n
 *   16    u32  disk
 *   20    u32  disks
 *   24    u32  slots
 *   28    u32  stride       in KiB
 *   32         filler       made from n
 *   4088  u64  checksum     of all before it
 *
 * What memory knows is in one page of its own (little endian; see `record` in guest.h): `issued` is stored before a
 * number is written, `acknowledged` when the disk has said that it has it. So at any instant every number up to
 * `acknowledged` is on its disk, and none beyond `issued` is. Before a slot is written it is read back, and must hold
 * what was left there: a disk that was restored from another instant than memory is found by the guest itself.
 */
#define _GNU_SOURCE
#include "guest.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

static int disks[MAX_DISKS];
static uint64_t *block, *old;
static long pause_us;
static record *memory;

uint64_t checksum(const uint64_t *words, unsigned count)
{
    uint64_t sum = 0xcbf29ce484222325ull;
    for (unsigned i = 0; i < count; i++)
        sum = (sum ^ words[i]) * 0x100000001b3ull ^ sum >> 29;
    return sum;
}

record *make_record(uint32_t kind)
{
    record *r = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (r == MAP_FAILED || mlock(r, PAGE) != 0)
        die("mmap-of-the-record");
    r->kind = kind;
    r->magic = RECORD_MAGIC;
    r->end_magic = ~RECORD_MAGIC;
    return r;
}

static void make_block(uint64_t *into, uint64_t n)
{
    into[0] = DISK_MAGIC;
    into[1] = n;
    into[2] = (uint64_t)memory->disks << 32 | (n - 1) % memory->disks;
    into[3] = (uint64_t)memory->stride_kib << 32 | memory->slots;
    for (uint32_t at = FIRST_FILLER; at < TAIL; at++)
        into[at] = (n + at) * 0x9e3779b97f4a7c15ull;
    into[TAIL] = checksum(into, TAIL);
}

static off_t place_of(uint64_t n)
{
    return (off_t)((n - 1) / memory->disks % memory->slots) * memory->stride_kib * 1024;
}

static bool holds(int disk, uint64_t n)
{
    return pread(disk, old, PAGE, place_of(n)) == PAGE && old[0] == DISK_MAGIC && old[1] == n
        && old[TAIL] == checksum(old, TAIL);
}

static void write_number(writer *w, uint64_t n)
{
    int disk = disks[(n - 1) % memory->disks];
    make_block(block, n);
    atomic_store(&memory->issued, n);
    for (;;) {
        uint64_t before = tsc();
        ssize_t wrote = pwrite(disk, block, PAGE, place_of(n));
        note_latency(w, tsc() - before);
        if (wrote == PAGE)
            break;
        atomic_fetch_add(&w->corrupt, 1);
        say("disk-error=%llu errno=%d", (unsigned long long)n, wrote < 0 ? errno : 0);
        usleep(200000);
    }
    atomic_store(&memory->acknowledged, n);
}

/* Opens the disks and fills every slot once. */
void prepare_disks(writer *w)
{
    char paths[MAX_DISKS][32];
    long count = number("disks", 1), slots = number("slots", 128), stride = number("stride", 64);
    if (count < 1 || count > MAX_DISKS || slots < 1 || stride < 4)
        die("bad-disk-layout");
    memory = make_record(RECORD_DISK);
    memory->disks = (uint32_t)count;
    memory->slots = (uint32_t)slots;
    memory->stride_kib = (uint32_t)stride;
    pause_us = number("pause", 0);
    find_disks(memory->disks, paths);
    for (unsigned i = 0; i < memory->disks; i++) {
        disks[i] = open(paths[i], O_RDWR | O_DIRECT | O_CLOEXEC);
        if (disks[i] < 0)
            die(paths[i]);
    }
    if (posix_memalign((void **)&block, PAGE, PAGE) != 0 || posix_memalign((void **)&old, PAGE, PAGE) != 0)
        die("memory-for-blocks");
    for (uint64_t n = 1; n <= (uint64_t)memory->disks * memory->slots; n++)
        write_number(w, n);
}

void *write_disks(void *argument)
{
    writer *w = argument;
    uint64_t round = (uint64_t)memory->disks * memory->slots;
    for (uint64_t n = round + 1;; n++) {
        if (!holds(disks[(n - 1) % memory->disks], n - round)) {
            atomic_fetch_add(&w->corrupt, 1);
            say("disk-wrong=%llu found=%llu", (unsigned long long)(n - round), (unsigned long long)old[1]);
        }
        atomic_fetch_add(&w->checked, 1);
        write_number(w, n);
        atomic_fetch_add(&w->writes, 1);
        if (pause_us > 0)
            usleep((useconds_t)pause_us);
    }
    return NULL;
}

uint64_t last_acknowledged(void) { return memory ? atomic_load(&memory->acknowledged) : 0; }
