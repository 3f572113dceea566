/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Lists of reserved ranges: BFNs that no guest maps and that are always 1:1
 *
 * Sorted by BFN, none overlapping. Few and short: an array serves.
 */

#ifndef HW_XEN_PVIOMMU_RESERVED_H
#define HW_XEN_PVIOMMU_RESERVED_H

typedef struct XenPVIOMMUReserved {
    uint64_t bfn;
    uint64_t nr;
    uint32_t flags;             /* XEN_IOMMU_RESERVED_* */
} XenPVIOMMUReserved;

/** xen_pviommu_reserved_new: an empty list, to be given to g_array_unref() */
GArray *xen_pviommu_reserved_new(void);

/** xen_pviommu_reserved_at: entry @i, below @list->len */
static inline const XenPVIOMMUReserved *
xen_pviommu_reserved_at(const GArray *list, guint i)
{
    return &g_array_index(list, XenPVIOMMUReserved, i);
}

/**
 * xen_pviommu_reserved_add: add a range
 *
 * Where it overlaps with what is there, that stays as it is.
 */
void xen_pviommu_reserved_add(GArray *list, uint64_t bfn, uint64_t nr,
                              uint32_t flags);

/** xen_pviommu_reserved_add_all: add the ranges of another list, or of NULL */
void xen_pviommu_reserved_add_all(GArray *list, const GArray *other);

/** xen_pviommu_reserved_hit: a part of the range is in the list, if any */
bool xen_pviommu_reserved_hit(const GArray *list, uint64_t bfn, uint64_t nr);

#endif /* HW_XEN_PVIOMMU_RESERVED_H */
