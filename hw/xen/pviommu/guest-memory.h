/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The guest's memory, as the function itself reaches it: operations, faults
 * and queues
 *
 * While Bus Master Enable is off its callers read and store nothing.
 */

#ifndef HW_XEN_PVIOMMU_GUEST_MEMORY_H
#define HW_XEN_PVIOMMU_GUEST_MEMORY_H

#include "device.h"

/**
 * xen_pviommu_may_dma: the function may touch guest memory (Bus Master Enable)
 *
 * Any thread.
 */
static inline bool xen_pviommu_may_dma(const XenPVIOMMUState *s)
{
    return qatomic_read(&s->bus_master);
}

/** xen_pviommu_config_changed: configuration space may say otherwise. BQL. */
void xen_pviommu_config_changed(XenPVIOMMUState *s);

/**
 * xen_pviommu_guest_rw: copy from or to guest RAM
 *
 * @addr is guest-physical. RAM only: neither another device's registers nor
 * our own can be reached by it. BQL held.
 *
 * Returns: 0 or -XEN_IOMMU_EFAULT.
 */
int xen_pviommu_guest_rw(uint64_t addr, void *buf, size_t len, bool write);

#endif /* HW_XEN_PVIOMMU_GUEST_MEMORY_H */
