/*
 * own-pages NR: a guest's own pages, as its balloon would give and take them
 *
 * Runs in a guest, with xen-privcmd. Holds NR pages, in no order, and does what
 * its standard input says, an answer a line:
 *   gfn I            the frame of page I
 *   fill I SEED      data of that seed into it
 *   holds I SEED     "yes" if that is in it, or "no"
 *   give I, take I   out of the guest, and a new one in its place
 *   time NR ROUNDS   the fastest round, in us, of giving NR pages at once
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>
#include <xenctrl.h>

#define PAGE        4096
#define PAGE_WORDS  (PAGE / sizeof(uint32_t))
#define MAX_PAGES   4096

static xc_interface *xch;
static unsigned nr;
static uint32_t *page[MAX_PAGES];
static xen_pfn_t gfn[MAX_PAGES];

static void die(const char *what)
{
    fprintf(stderr, "own-pages: %s: %s\n", what, strerror(errno));
    exit(EXIT_FAILURE);
}

/* Pages of this process that stay where they are, and their frames. */
static void get_pages(void)
{
    int map = open("/proc/self/pagemap", O_RDONLY);
    char *memory = mmap(NULL, nr * PAGE, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (map < 0 || memory == MAP_FAILED) {
        die("no pages");
    }
    madvise(memory, nr * PAGE, MADV_NOHUGEPAGE);
    if (mlock(memory, nr * PAGE)) {
        die("pages that stay");
    }
    for (unsigned i = 0; i < nr; i++) {
        page[i] = (uint32_t *)(memory + i * PAGE);
    }
    for (unsigned i = nr; i > 1; i--) {
        unsigned j = rand() % i;
        uint32_t *other = page[j];

        page[j] = page[i - 1];
        page[i - 1] = other;
    }
    for (unsigned i = 0; i < nr; i++) {
        uint64_t entry;

        if (pread(map, &entry, sizeof(entry),
                  (uintptr_t)page[i] / PAGE * sizeof(entry)) != sizeof(entry) ||
            !(entry >> 63)) {
            die("the frame of a page");
        }
        gfn[i] = entry & ((1ull << 55) - 1);
    }
    close(map);
}

static uint32_t word(uint32_t seed, unsigned i)
{
    return (seed << 12 | i) * 2654435761u;
}

static bool holds(const uint32_t *data, uint32_t seed)
{
    for (unsigned i = 0; i < PAGE_WORDS; i++) {
        if (data[i] != word(seed, i)) {
            return false;
        }
    }
    return true;
}

static int give(unsigned i, unsigned n)
{
    return xc_domain_decrease_reservation_exact(xch, DOMID_SELF, n, 0, &gfn[i]);
}

static int take(unsigned i, unsigned n)
{
    return xc_domain_populate_physmap_exact(xch, DOMID_SELF, n, 0, 0, &gfn[i]);
}

static long fastest(unsigned n, unsigned rounds)
{
    long best = -1;

    while (rounds--) {
        struct timespec begun, ended;
        long us;

        clock_gettime(CLOCK_MONOTONIC, &begun);
        if (give(0, n)) {
            die("pages cannot be given");
        }
        clock_gettime(CLOCK_MONOTONIC, &ended);
        if (take(0, n)) {
            die("pages do not come back");
        }
        us = (ended.tv_sec - begun.tv_sec) * 1000000 +
             (ended.tv_nsec - begun.tv_nsec) / 1000;
        if (best < 0 || us < best) {
            best = us;
        }
    }
    return best;
}

int main(int argc, char **argv)
{
    char line[80], what[80];
    unsigned i, n;

    setvbuf(stdout, NULL, _IOLBF, 0);
    if (argc != 2 || sscanf(argv[1], "%u", &nr) != 1 || !nr ||
        nr > MAX_PAGES) {
        fprintf(stderr, "usage: own-pages NR\n");
        return EXIT_FAILURE;
    }
    xch = xc_interface_open(NULL, NULL, 0);
    if (!xch) {
        die("hypercalls");
    }
    get_pages();
    while (fgets(line, sizeof(line), stdin)) {
        n = 0;
        if (sscanf(line, "%79s %u %u", what, &i, &n) < 2 || i > nr ||
            (i == nr && strcmp(what, "time"))) {
            printf("what?\n");
        } else if (!strcmp(what, "gfn")) {
            printf("%llu\n", (unsigned long long)gfn[i]);
        } else if (!strcmp(what, "fill")) {
            for (unsigned w = 0; w < PAGE_WORDS; w++) {
                page[i][w] = word(n, w);
            }
            printf("done\n");
        } else if (!strcmp(what, "holds")) {
            printf("%s\n", holds(page[i], n) ? "yes" : "no");
        } else if (!strcmp(what, "give")) {
            printf("%s\n", give(i, 1) ? strerror(errno) : "done");
        } else if (!strcmp(what, "take")) {
            printf("%s\n", take(i, 1) ? strerror(errno) : "done");
        } else if (!strcmp(what, "time")) {
            printf("%ld\n", fastest(i, n));
        } else {
            printf("what?\n");
        }
    }
    return EXIT_SUCCESS;
}
