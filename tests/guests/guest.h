/*
 * What the parts of the Linux test guest share: the layout of a page, and its writers.
 *
 * A page of an arena (little endian):
 *
 *   0     u64  c            stored first
 *   8     u64  magic        "BGSNAPPG"
 *   16    u32  writer
 *   20    u32  pages        of this writer
 *   24    u32  index        place in the order of writing (not in memory)
 *   28    u32  seed         of the filler; 0: the filler is zero
 *   32         filler       written once
 *   4088  u64  c            stored second: a page caught between the two has c and c-1
 */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define PAGE 4096u
#define WORDS (PAGE / 8)
#define FIRST_FILLER 4
#define LAST_FILLER (WORDS - 2)
#define TAIL (WORDS - 1)
#define MAGIC 0x47505041534e4742ull /* "BGSNAPPG" */
#define MAX_WRITERS 64
#define MAX_DISKS 8
#define RECORD_MAGIC 0x435250414e534742ull /* "BGSNAPRC" */
#define DISK_MAGIC 0x4b4450414e534742ull /* "BGSNAPDK" */
#define FILE_MAGIC 0x4c4650414e534742ull /* "BGSNAPFL" */

typedef struct {
    uint64_t *base;
    uint32_t id, pages, stride, seed;
    _Alignas(64) _Atomic uint64_t writes;
    _Atomic uint64_t corrupt;
    _Atomic uint64_t checked;
    _Atomic uint64_t max_gap; /* in TSC ticks, since the reporter last took it */
} writer;

/* What memory knows of the disks: the only page whose first word is RECORD_MAGIC and whose last word is its complement. */
typedef struct {
    uint64_t magic;
    uint32_t kind; /* RECORD_DISK or RECORD_EXT4 */
    uint32_t disks, slots, stride_kib;
    _Atomic uint64_t issued;
    _Atomic uint64_t acknowledged;
    uint64_t unused[WORDS - 6];
    uint64_t end_magic;
} record;
enum { RECORD_DISK = 1, RECORD_EXT4 = 2 };
_Static_assert(sizeof(record) == PAGE, "a record is a page");

typedef struct {
    uint32_t id, pages;
    bool random_fill, random_order, huge_pages;
} arena_options;

/* init.c */
extern double ticks_per_us;
__attribute__((noreturn)) void die(const char *what);
long number(const char *name, long fallback);
__attribute__((format(printf, 1, 2))) void say(const char *format, ...);

/* pages.c */
void make_arena(writer *w, const arena_options *options);
void make_page(writer *w, uint32_t index, uint64_t c);
uint32_t check_pages(writer *w, uint32_t from, uint32_t count, uint64_t c);

/* writers.c: bodies of threads, each given its writer */
void *fill(void *argument);
void *count(void *argument);
void *write_at_rate(void *argument);
void *check_only(void *argument);
void report_latencies(uint64_t second);
void note_latency(writer *w, uint64_t ticks);

/* devices.c: loads drivers and waits for that many disks that can be written to */
/* Loads the driver of a balloon. */
void give_to_balloon(void);

void find_disks(unsigned wanted, char paths[MAX_DISKS][32]);
bool find_channel(const char *name, char path[64]);

/* disk.c */
uint64_t checksum(const uint64_t *words, unsigned count);
record *make_record(uint32_t kind);
void prepare_disks(writer *w);
void *write_disks(void *argument);
uint64_t last_acknowledged(void);

/* spare.c */
void make_spare(uint32_t pages);
void move_spare(void);
uint64_t corrupt_spare(void);

/* files.c */
void prepare_files(void);
void *write_files(void *argument);
uint64_t last_file(void);

static inline uint64_t tsc(void)
{
    uint32_t low, high;
    __asm__ volatile("rdtsc" : "=a"(low), "=d"(high));
    return (uint64_t)high << 32 | low;
}

/* The page at a place in the order of writing. The stride is odd and shares no factor with the
 * number of pages, so every page has one place. */
static inline uint64_t *page_of(const writer *w, uint32_t index)
{
    uint32_t slot = w->stride == 1 ? index : (uint32_t)((uint64_t)index * w->stride % w->pages);
    return w->base + (size_t)slot * WORDS;
}

static inline bool header_is_right(const writer *w, const uint64_t *page, uint32_t index)
{
    return page[1] == MAGIC && page[2] == ((uint64_t)w->pages << 32 | w->id)
        && page[3] == ((uint64_t)w->seed << 32 | index);
}
