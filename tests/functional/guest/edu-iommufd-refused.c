/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * edu-iommufd: what must be refused, and changes nothing
 */

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "edu-iommufd.h"

void check_refused(Guest *g)
{
    uint8_t *page = new_pages(4 * PAGE);
    const struct {
        const char *what;
        uint32_t ioas;
        void *memory;
        uint64_t iova, size;
        uint32_t flags;
        int error;
    } maps[] = {
        { "no such IOAS", 0x7777, page, PAGE_IOVA, PAGE, RW, ENOENT },
        { "a device for an IOAS", g->a.id, page, PAGE_IOVA, PAGE, RW, ENOENT },
        { "a domain for an IOAS", g->hwpt, page, PAGE_IOVA, PAGE, RW, ENOENT },
        { "no access", g->ioas, page, PAGE_IOVA, PAGE, 0, EINVAL },
        { "an unknown flag", g->ioas, page, PAGE_IOVA, PAGE, RW | 64,
          EOPNOTSUPP },
        { "no length", g->ioas, page, PAGE_IOVA, 0, RW, EINVAL },
        { "half a page", g->ioas, page, PAGE_IOVA, PAGE / 2, RW, EINVAL },
        { "half an IOVA", g->ioas, page, PAGE_IOVA + 8, PAGE, RW, EINVAL },
        { "over what is mapped", g->ioas, page, BIG_IOVA + BIG - PAGE,
          4 * PAGE, RW, EEXIST },
        { "where interrupts are", g->ioas, page, MSI_WINDOW, PAGE, RW,
          EINVAL },
        { "into where they are", g->ioas, page, MSI_WINDOW - PAGE, 2 * PAGE,
          RW, EINVAL },
        { "behind the last IOVA", g->ioas, page, IOVA_END, PAGE, RW, EINVAL },
        { "over the last IOVA", g->ioas, page, IOVA_END - PAGE, 2 * PAGE, RW,
          EINVAL },
        { "round the end", g->ioas, page, -(uint64_t)PAGE, 2 * PAGE, RW,
          EOVERFLOW },
        { "no memory", g->ioas, NULL, PAGE_IOVA, PAGE, RW, EFAULT },
        { "memory that ends", g->ioas, page, PAGE_IOVA, 4 * PAGE, RW, EFAULT },
        { "a kernel's memory", g->ioas, (void *)-(64 * MIB), PAGE_IOVA, PAGE,
          RW, EFAULT },
        { "a device's registers", g->ioas, (void *)g->a.bar, PAGE_IOVA, PAGE,
          RW, EFAULT },
    };

    munmap(page + 2 * PAGE, 2 * PAGE);
    for (unsigned i = 0; i < sizeof(maps) / sizeof(maps[0]); i++) {
        char what[64];

        snprintf(what, sizeof(what), "map: %s", maps[i].what);
        check_error(ioas_map(g->iommufd, maps[i].ioas, maps[i].memory,
                             maps[i].iova, maps[i].size, maps[i].flags),
                    maps[i].error, what);
    }
    check_frames(g, BIG_FRAMES, "nothing of it is mapped");
    check_stopped(g, &g->a, PAGE_IOVA, page, "nor in reach");
    check_error(edu_attach(&g->a, 0x7777, NULL), ENOENT, "attach to nothing");
    check_error(edu_attach(&g->a, g->b.id, NULL), EINVAL,
                "attach to a device");
    check_error(destroy(g->iommufd, 0x7777), ENOENT, "free nothing");
    check_error(destroy(g->iommufd, g->a.id), EBUSY, "free a device");
    check_error(destroy(g->iommufd, g->ioas), EBUSY, "free what is in use");
    check_writes(g, &g->a, BIG_IOVA, g->big, "DMA after all that");
    munmap(page, 2 * PAGE);
}

/*
 * An IOAS that has what no device may map: none can be attached to it. In a new
 * domain for one that is attached elsewhere, all is mapped before it is asked
 * what it reserves; but then the IOMMU does not map it.
 */
void check_unfit(Guest *g)
{
    static const struct {
        uint64_t iova;
        int error;
    } unfit[] = {
        { MSI_WINDOW, EADDRNOTAVAIL },
        { MSI_WINDOW - PAGE, EADDRNOTAVAIL },
        { IOVA_END - PAGE, EADDRINUSE },
        { IOVA_END, EADDRINUSE },
    };
    uint8_t *page = new_pages(2 * PAGE);
    uint32_t ioas;

    for (unsigned i = 0; i < 4; i++) {
        if (ioas_alloc(g->iommufd, &ioas) ||
            ioas_map(g->iommufd, ioas, page, unfit[i].iova, 2 * PAGE, RW)) {
            die("no map at IOVA %#" PRIx64, unfit[i].iova);
        }
        check_error(edu_attach(&g->a, ioas, NULL), unfit[i].error,
                    "attach to what it may not map");
        check_error(edu_attach(&g->b, ioas, NULL), EADDRINUSE,
                    "attach the other to that");
        check_error(destroy(g->iommufd, ioas), 0, "free it");
    }
    check_frames(g, BIG_FRAMES, "nothing of it is mapped");
    check_writes(g, &g->a, BIG_IOVA, g->big, "the device is where it was");
    munmap(page, 2 * PAGE);
}

void check_limits(Guest *g, unsigned frames, unsigned contexts)
{
    uint32_t *hwpts = calloc(contexts, sizeof(*hwpts)), none, ioas;
    uint64_t size = BIG;
    unsigned n, i;
    int error;

    for (n = 0; n < contexts; n++) {
        error = hwpt_alloc(g->iommufd, &g->a, g->ioas, 0, &hwpts[n]);
        if (error) {
            break;
        }
    }
    check(error == ENOSPC && n + 1 == frames / BIG_FRAMES,
          "domains until no more can be mapped", "%u, then %s", n,
          strerror(error));
    check_frames(g, (n + 1) * BIG_FRAMES, "nothing of the last one is mapped");
    check_error(ioas_map(g->iommufd, g->ioas, g->big, OTHER_IOVA, BIG, RW),
                ENOSPC, "map for all of them");
    check_frames(g, (n + 1) * BIG_FRAMES, "nothing of that is mapped");
    check_stopped(g, &g->a, OTHER_IOVA, g->big, "nor in reach");
    for (i = 0; i < n; i++) {
        check_error(destroy(g->iommufd, hwpts[i]), 0, "free a domain");
    }
    check_error(ioas_map(g->iommufd, g->ioas, g->big, OTHER_IOVA, BIG, RW), 0,
                "map when there is room");
    check_writes(g, &g->a, OTHER_IOVA + PAGE, g->big + PAGE, "DMA there");
    ioas_unmap(g->iommufd, g->ioas, OTHER_IOVA, &size);

    if (ioas_alloc(g->iommufd, &ioas)) {
        die("no IOAS");
    }
    for (n = 0; n < contexts; n++) {
        error = hwpt_alloc(g->iommufd, &g->a, ioas, 0, &hwpts[n]);
        if (error) {
            break;
        }
    }
    check(error == ENOSPC && n, "domains until there are no more contexts",
          "%u, then %s", n, strerror(error));
    for (i = 0; i < 100; i++) {
        error |= hwpt_alloc(g->iommufd, &g->a, ioas, 0, &none) ^ ENOSPC;
    }
    check(error == ENOSPC, "and a hundred times that", "%s", strerror(error));
    check_error(edu_attach(&g->b, ioas, NULL), ENOSPC, "attach the other");
    for (i = 0; i < n; i++) {
        error |= destroy(g->iommufd, hwpts[i]);
    }
    check_error(edu_attach(&g->b, ioas, NULL), 0, "attach it then");
    check_error(edu_detach(&g->b), 0, "detach it");
    check_error(destroy(g->iommufd, ioas), 0, "free the IOAS");
    check_frames(g, BIG_FRAMES, "nothing is left of it");
    check_writes(g, &g->a, BIG_IOVA, g->big, "DMA after all that");
    free(hwpts);
}
