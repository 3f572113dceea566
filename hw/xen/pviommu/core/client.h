/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the core asks of the device it is in
 *
 * Three interfaces, as three parts of the device implement them. All functions
 * get XenPVIOMMUCore.client for @opaque, and are called with the core's lock.
 *
 * Errors are negated XEN_IOMMU_E*.
 */

#ifndef HW_XEN_PVIOMMU_CLIENT_H
#define HW_XEN_PVIOMMU_CLIENT_H

#include "bfn-table.h"
#include "irq-table.h"

typedef struct XenPVIOMMUContext XenPVIOMMUContext;

/*
 * XenPVIOMMUFailedFunc: operation @tag of the guest's was done, and a listener
 * could not follow
 * @status: in place of 0
 */
typedef void XenPVIOMMUFailedFunc(void *opaque, unsigned tag, int status);

/* How changes reach what caches translations. The tables have changed. */
typedef struct XenPVIOMMUListenerOps {
    /* @run is new in @ctx. */
    void (*map)(void *opaque, XenPVIOMMUContext *ctx, const BfnRun *run);
    /* A device has translations of @ctx, and is to be notified of changes. */
    bool (*listening)(void *opaque, const XenPVIOMMUContext *ctx);
    /*
     * When this, and then commit, has returned no device has a translation of
     * the range.
     */
    void (*unmap)(void *opaque, XenPVIOMMUContext *ctx,
                  uint64_t bfn, uint64_t nr);
    /* Not called by the core. Operation @tag of the guest's runs now. */
    void (*begin)(void *opaque, unsigned tag);
    /*
     * Not called by the core, but before the guest sees that operations are
     * done. Calls @failed, which may be NULL, for some of those that are; what
     * they mapped is unmapped.
     */
    void (*commit)(void *opaque, XenPVIOMMUFailedFunc *failed, void *data);
} XenPVIOMMUListenerOps;

/* Which devices are in which context. */
typedef struct XenPVIOMMUAttachmentOps {
    /*
     * Move a device, and keep nr_devices and reserved of both contexts right.
     * 0, -XEN_IOMMU_ENODEV, -XEN_IOMMU_EADDRNOTAVAIL if @ctx maps what the
     * device reserves, or -XEN_IOMMU_EBUSY if @ctx is an identity context and
     * the device cannot be shown all memory at the moment. Where the memory map
     * changes for it, the lock is released meanwhile: see enabled.
     * XEN_PVIOMMU_UNFINISHED if it has been moved, but not yet been notified of
     * all that is mapped.
     */
    int (*attach)(void *opaque, uint32_t sbdf, XenPVIOMMUContext *ctx);
    /* Move all devices; those of identity contexts see memory until enabled. */
    void (*attach_all)(void *opaque, XenPVIOMMUContext *ctx);
    /* Add to @list what a device reserves; 0 or -XEN_IOMMU_ENODEV. */
    int (*reserved)(void *opaque, uint32_t sbdf, GArray *list);
    /*
     * Identity mode has ended. It changes the memory map, and so releases the
     * lock meanwhile: the caller has the BQL, and holds the lock once.
     */
    void (*enabled)(void *opaque);
    /* Whose the interrupts of a device are; NULL: there is no such device. */
    XenPVIOMMUIrqOwner *(*irq_owner)(void *opaque, uint32_t sbdf);
    /*
     * Interrupts are remapped from now on, or are not any more: then no owner
     * is direct. Releases the lock meanwhile, as enabled does.
     */
    void (*irqs_enabled)(void *opaque);
} XenPVIOMMUAttachmentOps;

/* The guest's memory: where results and queues are. */
typedef struct XenPVIOMMUGuestMemoryOps {
    /* Store to guest RAM; 0 or -XEN_IOMMU_EFAULT. */
    int (*store)(void *opaque, uint64_t addr, const void *buf, size_t len);
    /*
     * Give @ctx the queue at @addr, or with @nr_ops 0 take it away, which
     * always works. 0, -XEN_IOMMU_EFAULT, -XEN_IOMMU_ENOSPC or
     * -XEN_IOMMU_ENOMEM.
     */
    int (*set_queue)(void *opaque, XenPVIOMMUContext *ctx, uint64_t addr,
                     uint32_t nr_ops);
} XenPVIOMMUGuestMemoryOps;

#endif /* HW_XEN_PVIOMMU_CLIENT_H */
