/* What the threads of the guest do. */
#define _GNU_SOURCE
#include "guest.h"

#include <sched.h>
#include <unistd.h>

#define CHECKED_PER_PASS 64u /* pages that are checked whole after each pass */

static void pin(uint32_t id)
{
    long cpus = sysconf(_SC_NPROCESSORS_ONLN);
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(id % (uint32_t)(cpus > 0 ? cpus : 1), &set);
    sched_setaffinity(0, sizeof set, &set);
}

static inline void note_gap(writer *w, uint64_t gap)
{
    /* A clock that a restore set back is no stall. */
    if ((int64_t)gap > (int64_t)atomic_load_explicit(&w->max_gap, memory_order_relaxed))
        atomic_store_explicit(&w->max_gap, gap, memory_order_relaxed);
}

/* Checks that the page holds what the last pass left, then stores c at both ends of it. */
static inline void write_page(writer *w, uint32_t index, uint64_t c)
{
    volatile uint64_t *page = page_of(w, index);
    if (__builtin_expect(page[0] != c - 1 || page[TAIL] != c - 1
                         || !header_is_right(w, (const uint64_t *)page, index), 0)) {
        atomic_fetch_add_explicit(&w->corrupt, 1, memory_order_relaxed);
        make_page(w, index, c);
    }
    page[0] = c;
    page[TAIL] = c;
}

void *count(void *argument)
{
    writer *w = argument;
    uint32_t check_from = 0;
    uint64_t done = 0, last = tsc();
    pin(w->id);
    for (uint64_t c = 1;; c++) {
        for (uint32_t index = 0; index < w->pages; index++) {
            write_page(w, index, c);
            uint64_t now = tsc();
            note_gap(w, now - last);
            last = now;
            atomic_store_explicit(&w->writes, ++done, memory_order_relaxed);
        }
        check_from = check_pages(w, check_from, w->pages < CHECKED_PER_PASS ? w->pages : CHECKED_PER_PASS, c);
        last = tsc(); /* checking is no stall */
    }
    return NULL;
}

/* Latencies in buckets of 1/16 of a power of two, from 2^4 ticks. */
#define BUCKETS (60 * 16)
static _Atomic uint32_t latencies[BUCKETS];
static _Atomic uint64_t skipped;

static unsigned bucket_of(uint64_t ticks)
{
    if (ticks < 16)
        return (unsigned)ticks;
    unsigned power = 63 - (unsigned)__builtin_clzll(ticks);
    return (power - 3) * 16 + (unsigned)(ticks >> (power - 4) & 15);
}

static uint64_t upper_end(unsigned bucket)
{
    if (bucket < 16)
        return bucket + 1;
    return (uint64_t)(17 + bucket % 16) << (bucket / 16 - 1);
}

void note_latency(writer *w, uint64_t ticks)
{
    atomic_fetch_add_explicit(&latencies[bucket_of(ticks)], 1, memory_order_relaxed);
    note_gap(w, ticks);
}

void *write_at_rate(void *argument)
{
    writer *w = argument;
    uint32_t check_from = 0, index = 0;
    uint64_t c = 1, done = 0;
    double interval = ticks_per_us * 1e6 / (double)number("rate", 20000);
    pin(w->id);
    double due = (double)tsc();
    for (;;) {
        while ((double)tsc() < due)
            ;
        uint64_t before = tsc();
        write_page(w, index, c);
        uint64_t took = tsc() - before;
        note_latency(w, took);
        atomic_store_explicit(&w->writes, ++done, memory_order_relaxed);
        if (++index == w->pages) {
            index = 0;
            check_from = check_pages(w, check_from, 1, c);
            c++;
        }
        /* After a long stall the writes that were due are not made up for in a burst. */
        due += interval;
        double late = (double)tsc() - due;
        if (late > ticks_per_us * 10000) {
            atomic_fetch_add_explicit(&skipped, (uint64_t)(late / interval), memory_order_relaxed);
            due += late;
        }
    }
    return NULL;
}

void *check_only(void *argument)
{
    writer *w = argument;
    uint32_t from = 0;
    pin(w->id);
    for (;;) {
        from = check_pages(w, from, w->pages < 256 ? w->pages : 256, 0);
        usleep(20000);
    }
    return NULL;
}

void *fill(void *argument)
{
    writer *w = argument;
    pin(w->id);
    for (uint32_t index = 0; index < w->pages; index++)
        make_page(w, index, 0);
    return NULL;
}

void report_latencies(uint64_t second)
{
    static uint32_t taken[BUCKETS];
    uint64_t total = 0, seen = 0, p50 = 0, p99 = 0, max = 0;
    for (unsigned i = 0; i < BUCKETS; i++)
        total += taken[i] = atomic_exchange_explicit(&latencies[i], 0, memory_order_relaxed);
    for (unsigned i = 0; i < BUCKETS; i++) {
        if (taken[i] == 0)
            continue;
        seen += taken[i];
        max = upper_end(i);
        if (p50 == 0 && seen * 2 >= total)
            p50 = max;
        if (p99 == 0 && seen * 100 >= total * 99)
            p99 = max;
    }
    say("rate=%llu p50_us=%.2f p99_us=%.2f max_us=%.2f count=%llu skipped=%llu", (unsigned long long)second,
        (double)p50 / ticks_per_us, (double)p99 / ticks_per_us, (double)max / ticks_per_us,
        (unsigned long long)total, (unsigned long long)atomic_exchange(&skipped, 0));
}
