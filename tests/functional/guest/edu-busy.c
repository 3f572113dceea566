/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * edu-busy FILE: DMA of QEMU's edu device through VFIO, until FILE is there
 * edu-busy cost: how long maps and unmaps of VFIO take
 *
 * Runs inside the guest, as edu-dma does. What it maps stays the same while it
 * is busy, and each page that was copied is compared.
 *
 * Build: gcc -static -O2 -Wall -o edu-busy edu-busy.c edu-device.c \
 *            vfio-device.c
 */

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "edu-device.h"

/* Bus addresses, of 28 bits: edu may have no more address lines. */
#define IOVA_SOURCE     UINT64_C(0x01000000)
#define IOVA_TARGET     UINT64_C(0x01400000)

#define WORDS           (PAGE / sizeof(uint64_t))
#define MOST_PAGES      512u
#define ROUNDS          8u

const char program[] = "edu-busy";

static bool copy(Edu *edu, uint64_t *source, uint64_t *target, uint64_t n)
{
    unsigned i;

    for (i = 0; i < WORDS; i++) {
        source[i] = n * WORDS + i;
    }
    __sync_synchronize();
    edu_dma_part(edu, IOVA_SOURCE, EDU_BUFFER, PAGE, 0);
    edu_dma_part(edu, EDU_BUFFER, IOVA_TARGET, PAGE, EDU_DMA_TO_RAM);
    return !memcmp(source, target, PAGE);
}

static void be_busy(Edu *edu, const char *file)
{
    uint64_t *source = new_pages(1), *target = new_pages(1);
    uint64_t n = 0, wrong = 0;

    vfio_map(&edu->vfio, source, IOVA_SOURCE, PAGE, true);
    vfio_map(&edu->vfio, target, IOVA_TARGET, PAGE, false);
    while (access(file, F_OK)) {
        wrong += !copy(edu, source, target, ++n);
        if (n == 1) {
            printf("in use\n");
            fflush(stdout);
        }
    }
    check(n && !wrong, "each page that was copied", "%" PRIu64 " of %" PRIu64
          " wrong", wrong, n);
    vfio_unmap(&edu->vfio, IOVA_SOURCE, PAGE);
    vfio_unmap(&edu->vfio, IOVA_TARGET, PAGE);
}

static uint64_t now_us(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return ts.tv_sec * UINT64_C(1000000) + ts.tv_nsec / 1000;
}

/* Of each size the quickest of some rounds */
static void measure(Edu *edu)
{
    uint8_t *memory = (uint8_t *)new_pages(MOST_PAGES);
    unsigned pages, round;

    for (pages = 1; pages <= MOST_PAGES; pages *= 8) {
        uint64_t map = UINT64_MAX, unmap = UINT64_MAX;

        for (round = 0; round < ROUNDS; round++) {
            uint64_t begin = now_us(), mapped, end;

            vfio_map(&edu->vfio, memory, IOVA_SOURCE, (size_t)pages * PAGE,
                     false);
            mapped = now_us();
            vfio_unmap(&edu->vfio, IOVA_SOURCE, (size_t)pages * PAGE);
            end = now_us();
            map = mapped - begin < map ? mapped - begin : map;
            unmap = end - mapped < unmap ? end - mapped : unmap;
        }
        printf("%u pages: map %" PRIu64 " us, unmap %" PRIu64 " us\n", pages,
               map, unmap);
    }
}

int main(int argc, char *argv[])
{
    Edu edu;

    if (argc != 2) {
        die("usage: %s FILE, or cost", program);
    }
    edu_open(&edu);
    if (!strcmp(argv[1], "cost")) {
        measure(&edu);
    } else {
        be_busy(&edu, argv[1]);
    }
    return failed;
}
