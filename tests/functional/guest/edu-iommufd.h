/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * edu-iommufd: what its parts share
 */

#ifndef TESTS_GUEST_EDU_IOMMUFD_H
#define TESTS_GUEST_EDU_IOMMUFD_H

#include <linux/iommufd.h>

#include "iommufd-device.h"

#define MIB             UINT64_C(0x100000)
#define RW              (IOMMU_IOAS_MAP_READABLE | IOMMU_IOAS_MAP_WRITEABLE)
#define RO              IOMMU_IOAS_MAP_READABLE

/* Most of it in pages that are no neighbours */
#define BIG             (64 * MIB)
#define BIG_IOVA        (16 * MIB)
#define BIG_FRAMES      (BIG / PAGE)
#define PAGE_IOVA       (128 * MIB)
#define OTHER_IOVA      (160 * MIB)
#define MSI_WINDOW      UINT64_C(0xfee00000)
/* One behind the last that there may be */
#define IOVA_END        (UINT64_C(1) << 48)

typedef struct Guest {
    Edu a, b;
    int iommufd;
    uint32_t ioas;
    uint32_t hwpt;              /* what @a was attached to by its IOAS */
    uint8_t *big;               /* BIG bytes, at BIG_IOVA */
    uint8_t pattern[EDU_SIZE];  /* in the edus' buffers */
    uint64_t frames;            /* mapped before this began */
} Guest;

/* @edu writes all of the page @memory, which is at @iova. */
void check_writes(Guest *g, Edu *edu, uint64_t iova, uint8_t *memory,
                  const char *what);

/* It writes nothing, and the guest's driver counts that. */
void check_stopped(Guest *g, Edu *edu, uint64_t iova, uint8_t *memory,
                   const char *what);

/* So many frames are mapped, in all domains, and none waits for a flush. */
void check_frames(Guest *g, uint64_t wanted, const char *what);

/* What must not do any harm: bad arguments, and */
void check_refused(Guest *g);
/* an IOAS that has what no device may map, and */
void check_unfit(Guest *g);
/* more than the IOMMU has, whose limits are these. */
void check_limits(Guest *g, unsigned frames, unsigned contexts);

#endif /* TESTS_GUEST_EDU_IOMMUFD_H */
