/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The table of interrupts: what a device's message raises, and whose it is
 *
 * An entry that is in use has one owner. Those that were allocated together
 * follow each other, and are numbered from 0.
 *
 * Locking: the core's lock. Errors are negated XEN_IOMMU_E*.
 */

#ifndef HW_XEN_PVIOMMU_IRQ_TABLE_H
#define HW_XEN_PVIOMMU_IRQ_TABLE_H

#include "hw/xen/interface/iommu_op.h"
#include "node-pool.h"

/* A device, or what speaks for several: a part of the client's data. */
typedef struct XenPVIOMMUIrqOwner {
    uint32_t nr;                /* entries that it has */
    bool direct;                /* its interrupts are not remapped */
    bool passed;                /* nor can they be: Xen delivers them */
} XenPVIOMMUIrqOwner;

typedef struct XenPVIOMMUIrq {
    XenPVIOMMUIrqOwner *owner;  /* NULL: free */
    uint32_t dest;
    uint8_t vector;
    uint8_t delivery;           /* XEN_IOMMU_IRQ_* */
    uint8_t flags;              /* XEN_IOMMUOP_set_irq_* */
    uint8_t index;              /* among those allocated with it */
} XenPVIOMMUIrq;

typedef struct XenPVIOMMUIrqTable {
    XenPVIOMMUIrq *entries;
    unsigned long *used;        /* a bit for each entry */
    uint32_t size;
    uint32_t nr_used;
    uint32_t next;              /* where to look for free ones first */
    bool enabled;               /* interrupts are remapped */
    uint64_t changes;           /* so far, of what messages raise */
    uint64_t raised;            /* interrupts since the reset */
} XenPVIOMMUIrqTable;

/**
 * xen_pviommu_irqs_init: an empty table of @size entries, which may be 0
 *
 * Returns: false if there is no memory.
 */
bool xen_pviommu_irqs_init(XenPVIOMMUIrqTable *t, NodePool *pool,
                           uint32_t size);

/** xen_pviommu_irqs_finalize: of a zeroed table, too */
void xen_pviommu_irqs_finalize(XenPVIOMMUIrqTable *t, NodePool *pool);

/** xen_pviommu_irqs_bytes: what a table of @size entries takes */
size_t xen_pviommu_irqs_bytes(uint32_t size);

/**
 * xen_pviommu_irqs_alloc: @nr masked entries for @owner
 * @nr: 1 to XEN_IOMMU_ALLOC_IRQS
 *
 * Returns: 0 or -XEN_IOMMU_ENOSPC.
 */
int xen_pviommu_irqs_alloc(XenPVIOMMUIrqTable *t, XenPVIOMMUIrqOwner *owner,
                           unsigned nr, uint32_t *handle);

/**
 * xen_pviommu_irqs_free: what was allocated with @handle as its first
 *
 * Returns: 0 or -XEN_IOMMU_ENOENT.
 */
int xen_pviommu_irqs_free(XenPVIOMMUIrqTable *t, uint32_t handle);

/** xen_pviommu_irqs_free_owner: all that it has */
void xen_pviommu_irqs_free_owner(XenPVIOMMUIrqTable *t,
                                 XenPVIOMMUIrqOwner *owner);

/** xen_pviommu_irqs_reset: free all, and remap no interrupts */
void xen_pviommu_irqs_reset(XenPVIOMMUIrqTable *t);

/** xen_pviommu_irq_valid: what it raises can be put into an entry */
bool xen_pviommu_irq_valid(const XenPVIOMMUIrq *irq);

/**
 * xen_pviommu_irq_set: change what an entry raises
 * @irq: valid; its owner and index do not matter
 *
 * Returns: 0 or -XEN_IOMMU_ENOENT.
 */
int xen_pviommu_irq_set(XenPVIOMMUIrqTable *t, uint32_t handle,
                        const XenPVIOMMUIrq *irq);

/**
 * xen_pviommu_irq_restore: of a migration stream: an entry as it was
 *
 * In the order of handles. Returns: false if it cannot be.
 */
bool xen_pviommu_irq_restore(XenPVIOMMUIrqTable *t, uint32_t handle,
                             const XenPVIOMMUIrq *irq);

/**
 * xen_pviommu_irq_find: what a message of @owner raises
 * @addr: where it is written to, an address
 * @reason: XEN_IOMMU_FAULT_REASON_*, if it is refused
 *
 * Returns: NULL if it is refused.
 */
const XenPVIOMMUIrq *xen_pviommu_irq_find(const XenPVIOMMUIrqTable *t,
                                          const XenPVIOMMUIrqOwner *owner,
                                          uint64_t addr, uint32_t data,
                                          uint32_t *reason);

/**
 * xen_pviommu_irqs_wrong: what is wrong with the table, for the audit
 *
 * Returns: NULL if nothing is.
 */
const char *xen_pviommu_irqs_wrong(const XenPVIOMMUIrqTable *t);

#endif /* HW_XEN_PVIOMMU_IRQ_TABLE_H */
