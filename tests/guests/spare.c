/* Memory that the guest gives back to its kernel, and takes again: what a balloon or free page reporting throws away was in use before. */
#define _GNU_SOURCE
#include "guest.h"

#include <errno.h>
#include <sys/mman.h>

#define SPARE_ID (MAX_WRITERS - 1) /* its pages are told from those of the writers */

static writer spare;
static bool held;

/* Every page that the kernel hands out must be zero. */
static void take(void)
{
    for (uint32_t index = 0; index < spare.pages; index++) {
        const uint64_t *page = page_of(&spare, index);
        uint64_t any = 0;
        for (unsigned at = 0; at < WORDS; at++)
            any |= page[at];
        if (any != 0)
            atomic_fetch_add(&spare.corrupt, 1);
        make_page(&spare, index, 0);
    }
    check_pages(&spare, 0, spare.pages, 0);
    held = true;
}

/* Without a look at it: what is thrown away may never have been touched since the guest was restored. */
static void give(void)
{
    size_t length = (size_t)spare.pages * PAGE;
    munlock(spare.base, length);
    if (madvise(spare.base, length, MADV_DONTNEED) != 0)
        die("give-spare");
    held = false;
}

void make_spare(uint32_t pages)
{
    /* In huge pages, so that it is free in pieces as large as those that the kernel reports. */
    make_arena(&spare, &(arena_options){SPARE_ID, pages, true, false, true});
    if (pages > 0)
        take();
}

void move_spare(void)
{
    if (held)
        give();
    else
        take();
    say("spare=%s", held ? "taken" : "given");
}

uint64_t corrupt_spare(void) { return atomic_load(&spare.corrupt); }
