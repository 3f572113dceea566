/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Lists of reserved ranges: BFNs that no guest maps and that are always 1:1
 */

#include "qemu/osdep.h"
#include "reserved.h"

GArray *xen_pviommu_reserved_new(void)
{
    return g_array_new(false, false, sizeof(XenPVIOMMUReserved));
}

void xen_pviommu_reserved_add(GArray *list, uint64_t bfn, uint64_t nr,
                              uint32_t flags)
{
    uint64_t end = bfn + nr;

    /* Fill the gaps before and between those that are there, then the rest. */
    for (guint i = 0; bfn < end; i++) {
        const XenPVIOMMUReserved *r =
            i < list->len ? xen_pviommu_reserved_at(list, i) : NULL;
        uint64_t gap_end = r ? MIN(end, r->bfn) : end;
        uint64_t next = r ? r->bfn + r->nr : end;

        if (bfn < gap_end) {
            XenPVIOMMUReserved new = {
                .bfn = bfn,
                .nr = gap_end - bfn,
                .flags = flags,
            };

            g_array_insert_val(list, i, new);
            bfn = gap_end;
        } else {
            bfn = MAX(bfn, next);
        }
    }
}

void xen_pviommu_reserved_add_all(GArray *list, const GArray *other)
{
    for (guint i = 0; other && i < other->len; i++) {
        const XenPVIOMMUReserved *r = xen_pviommu_reserved_at(other, i);

        xen_pviommu_reserved_add(list, r->bfn, r->nr, r->flags);
    }
}

bool xen_pviommu_reserved_hit(const GArray *list, uint64_t bfn, uint64_t nr)
{
    for (guint i = 0; list && i < list->len; i++) {
        const XenPVIOMMUReserved *r = xen_pviommu_reserved_at(list, i);

        if (bfn < r->bfn + r->nr && r->bfn < bfn + nr) {
            return true;
        }
    }
    return false;
}
