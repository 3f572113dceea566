/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A queue's memory: where the guest has it, and what the device stores there
 *
 * Only the device stores its state there: head and what follows up to the
 * operations. The rest is the guest's, but for the status of operations that
 * fail.
 *
 * Locking: XenPVIOMMUState.lock; xen_pviommu_queue_map() also the BQL.
 */

#ifndef HW_XEN_PVIOMMU_QUEUE_MEMORY_H
#define HW_XEN_PVIOMMU_QUEUE_MEMORY_H

#include "device.h"

/** xen_pviommu_queue_size: bytes of a queue of @nr_ops operations */
static inline size_t xen_pviommu_queue_size(uint32_t nr_ops)
{
    return offsetof(struct xen_iommu_queue, ops) +
           nr_ops * sizeof(struct xen_iommu_op);
}

/** xen_pviommu_queue_pages: pages of @q, which begins with one */
static inline uint64_t xen_pviommu_queue_pages(const XenPVIOMMUQueue *q)
{
    return DIV_ROUND_UP(xen_pviommu_queue_size(q->nr_ops),
                        XEN_PVIOMMU_PAGE_SIZE);
}

/**
 * xen_pviommu_queue_new: a queue whose memory is not looked up, nor its
 * context's yet
 *
 * Returns: NULL if there is no memory.
 */
XenPVIOMMUQueue *xen_pviommu_queue_new(XenPVIOMMUState *s,
                                       XenPVIOMMUContext *ctx,
                                       uint64_t addr, uint32_t nr_ops);

/** xen_pviommu_queue_free: what xen_pviommu_queue_new() returned; no readers */
void xen_pviommu_queue_free(XenPVIOMMUQueue *q);

/** xen_pviommu_queue_map: q->shared; false if that is not one piece of RAM */
bool xen_pviommu_queue_map(XenPVIOMMUQueue *q);

/** xen_pviommu_queue_stored: the device stored there: migration has to know */
void xen_pviommu_queue_stored(XenPVIOMMUQueue *q, hwaddr offset, hwaddr len);

/** xen_pviommu_queue_stored_state: the same for the device's state */
void xen_pviommu_queue_stored_state(XenPVIOMMUQueue *q);

/** xen_pviommu_queue_set_flags: XEN_IOMMU_QUEUE_*, where the guest sees them */
void xen_pviommu_queue_set_flags(XenPVIOMMUQueue *q, uint32_t flags);

#endif /* HW_XEN_PVIOMMU_QUEUE_MEMORY_H */
