/* Making and checking pages. */
#define _GNU_SOURCE
#include "guest.h"

#include <sys/mman.h>

/* Word `at` of the filler. Cheap under TCG, and no compressor finds it. */
static inline uint64_t filler(uint32_t seed, uint32_t id, uint32_t index, uint32_t at)
{
    if (seed == 0)
        return 0;
    uint64_t x = ((uint64_t)(seed ^ id << 20) << 32 | index) * 0x9e3779b97f4a7c15ull + at;
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9ull;
    x = (x ^ x >> 27) * 0x94d049bb133111ebull;
    return x ^ x >> 31;
}

void make_page(writer *w, uint32_t index, uint64_t c)
{
    uint64_t *page = page_of(w, index);
    page[0] = c;
    page[1] = MAGIC;
    page[2] = (uint64_t)w->pages << 32 | w->id;
    page[3] = (uint64_t)w->seed << 32 | index;
    if (w->seed != 0)
        for (uint32_t at = FIRST_FILLER; at <= LAST_FILLER; at++)
            page[at] = filler(w->seed, w->id, index, at);
    page[TAIL] = c;
}

static bool page_is_right(const writer *w, uint32_t index, uint64_t c)
{
    const uint64_t *page = page_of(w, index);
    if (page[0] != c || page[TAIL] != c)
        return false;
    for (uint32_t at = FIRST_FILLER; at <= LAST_FILLER; at++)
        if (page[at] != filler(w->seed, w->id, index, at))
            return false;
    return header_is_right(w, page, index);
}

/* Checks whole pages between passes, when every page holds c. Returns where to go on. */
uint32_t check_pages(writer *w, uint32_t from, uint32_t count, uint64_t c)
{
    for (uint32_t i = 0; i < count; i++, from++) {
        if (from >= w->pages)
            from = 0;
        if (!page_is_right(w, from, c)) {
            atomic_fetch_add_explicit(&w->corrupt, 1, memory_order_relaxed);
            make_page(w, from, c); /* count a bad page once */
        }
    }
    atomic_fetch_add_explicit(&w->checked, count, memory_order_relaxed);
    return from;
}

static uint32_t greatest_divisor(uint32_t a, uint32_t b) { return b ? greatest_divisor(b, a % b) : a; }

void make_arena(writer *w, const arena_options *options)
{
    const size_t huge = 2u << 20;
    uint32_t pages = options->pages;
    w->id = options->id;
    w->pages = pages;
    w->seed = options->random_fill ? 0x5eed0000u | (w->id + 1) : 0;
    w->stride = 1;
    if (options->random_order && pages > 64) {
        w->stride = (uint32_t)(pages * 0.6180339887) | 1;
        while (greatest_divisor(w->stride, pages) != 1)
            w->stride += 2;
    }
    char *raw = mmap(NULL, (size_t)pages * PAGE + huge, PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (raw == MAP_FAILED)
        die("mmap");
    raw += huge - (uintptr_t)raw % huge;
    madvise(raw, (size_t)pages * PAGE, options->huge_pages ? MADV_HUGEPAGE : MADV_NOHUGEPAGE);
    w->base = (uint64_t *)raw;
}
