/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The paravirtual IOMMU without its PCI front: the state of its core, and of
 * the contexts in it
 *
 * Data flows one way: iommu-op.c decodes what a guest asks for and calls
 * context.c, which keeps the BFN tables, the GFN index, pending runs, and the
 * backend's references in step with each other. What has to reach the devices
 * leaves through the interfaces of client.h.
 *
 * Locking: "the core's lock" is XenPVIOMMUState.lock in QEMU. It protects all
 * fields of the core, of its contexts, their tables and the index; guest_log
 * and the node pool have locks of their own. Only bfn_table_translate() on a
 * context's table may run without it, in an RCU critical section.
 *
 * Units: bfn, gfn and nr count frames. Errors are negated XEN_IOMMU_E*.
 */

#ifndef HW_XEN_PVIOMMU_STATE_H
#define HW_XEN_PVIOMMU_STATE_H

#include "qemu/queue.h"
#include "qemu/rcu.h"
#include "backend.h"
#include "bfn-table.h"
#include "client.h"
#include "gfn-index.h"
#include "guest-log.h"
#include "irq-table.h"
#include "page.h"
#include "reserved.h"

typedef struct XenPVIOMMUPendingChunk XenPVIOMMUPendingChunk;
typedef struct XenPVIOMMUQueue XenPVIOMMUQueue;

/* An operation stopped before its end: run it again. Not an error number. */
#define XEN_PVIOMMU_UNFINISHED 1

/* A place in a list of records */
typedef struct XenPVIOMMUPendingPos {
    XenPVIOMMUPendingChunk *chunk;
    unsigned index;
} XenPVIOMMUPendingPos;

/* The records of a context. Only pending.c changes it. */
typedef struct XenPVIOMMUPendingList {
    QSIMPLEQ_HEAD(, XenPVIOMMUPendingChunk) chunks;
    XenPVIOMMUPendingChunk *last;       /* NULL: there are none */
    uint64_t nr;
    uint64_t nr_unnotified;
    /* If there are any: the first of them, or one before it. */
    XenPVIOMMUPendingPos unnotified;
    uint64_t nr_tail;                   /* records from there on */
} XenPVIOMMUPendingList;

/* What all contexts of a core share. Only pending.c changes it. */
typedef struct XenPVIOMMUPendingRuns {
    QLIST_HEAD(, XenPVIOMMUContext) contexts;   /* with a record or more */
    QSIMPLEQ_HEAD(, XenPVIOMMUPendingChunk) spare;  /* chunks to use again */
    unsigned nr_spare;
    uint64_t nr;                        /* records, in all contexts */
} XenPVIOMMUPendingRuns;

/* A BFN address space. */
typedef struct XenPVIOMMUContext {
    struct rcu_head rcu;
    NodePool *pool;             /* that it is from */
    uint16_t id;
    bool identity;              /* shows the machine's memory; maps nothing */
    unsigned nr_devices;
    uint64_t mapped_frames;
    uint64_t pending_frames;
    BfnTable *table;
    XenPVIOMMUPendingList pending;
    QLIST_ENTRY(XenPVIOMMUContext) next_pending;    /* while there are some */
    /* What its devices reserve for themselves; NULL: none ever did */
    GArray *reserved;
    XenPVIOMMUQueue *queue;     /* the client's; RCU; NULL if it has none */
} XenPVIOMMUContext;

/* Counters of events; the two behind them are of the present state. */
#define XEN_PVIOMMU_NR_EVENT_COUNTERS XEN_PVIOMMU_COUNTER_MAPPED

typedef struct XenPVIOMMULimits {
    uint64_t max_mappings;      /* frames mapped or pending, all contexts */
    uint32_t max_contexts;      /* the default one included */
    uint32_t bfn_bits;
    uint32_t max_irqs;          /* entries for interrupts; 0: not remapped */
} XenPVIOMMULimits;

typedef struct XenPVIOMMUCore {
    XenPVIOMMULimits limits;
    bool control;               /* the guest may control the IOMMU */
    bool premap;                /* it starts in identity mode */
    bool queues;                /* the guest may have queues */
    bool identity_contexts;     /* the guest may have identity contexts */
    bool mmio;                  /* the guest may map MMIO of PCI functions */

    bool identity;              /* in identity mode: devices see all memory */
    uint64_t accepted;          /* XEN_IOMMU_FEATURE_* */

    const XenPVIOMMUBackendOps *backend_ops;
    XenPVIOMMUBackend *backend;
    const XenPVIOMMUListenerOps *listener_ops;
    const XenPVIOMMUAttachmentOps *attachment_ops;
    const XenPVIOMMUGuestMemoryOps *memory_ops;
    void *client;

    XenPVIOMMUContext **contexts;       /* by ID; max_contexts entries */
    GfnIndex *gfn_index;
    XenPVIOMMUPendingRuns pending;
    BfnRun *unmap_runs;         /* those of the part of an unmap */
    uint64_t mapped_frames;             /* in all contexts */
    uint64_t pending_frames;
    XenPVIOMMUBudget budget;
    XenPVIOMMUIrqTable irqs;
    bool loading;               /* what a guest had elsewhere finds room here */
    GArray *reserved;           /* in every context */
    /* Lists of what resets left; xen_pviommu_core_reap() frees it in parts */
    BfnTable *detached_tables;
    GfnIndex *detached_indexes;
    uint64_t detached_work;     /* of the latter; see xen_pviommu_core_work() */

    uint64_t counter[XEN_PVIOMMU_NR_EVENT_COUNTERS];    /* since reset */
    /* Runs and notifications handled; see xen_pviommu_core_work(). */
    uint64_t work;
    XenPVIOMMUGuestLog guest_log;
} XenPVIOMMUCore;

/**
 * xen_pviommu_core_put_frames: drop @nr references, whichever pages they are on
 *
 * Returns: false, with nothing done, if the backend has to know these.
 */
static inline bool xen_pviommu_core_put_frames(XenPVIOMMUCore *core,
                                               uint64_t nr)
{
    /* Before the device is complete there are neither. */
    return !nr || (core->backend_ops->put_frames &&
                   core->backend_ops->put_frames(core->backend, nr));
}

/* What a run costs beside a slot: allocations, trees, callbacks. */
#define XEN_PVIOMMU_RUN_WORK 48

/**
 * xen_pviommu_core_work: what was done so far, to bound what is done at a time
 *
 * One is about a slot of a table: some nanoseconds.
 */
static inline uint64_t xen_pviommu_core_work(const XenPVIOMMUCore *core)
{
    /* There is no backend before the device is complete. */
    uint64_t backend = core->backend && core->backend_ops->work
        ? core->backend_ops->work(core->backend) : 0;

    return core->work * XEN_PVIOMMU_RUN_WORK + core->budget.work +
           core->detached_work + gfn_index_work(core->gfn_index) + backend;
}

/** xen_pviommu_guest_error: LOG_GUEST_ERROR; see xen_pviommu_guest_log() */
#define xen_pviommu_guest_error(core, ...) \
    xen_pviommu_guest_log(&(core)->guest_log, __VA_ARGS__)

/** xen_pviommu_core_state: XEN_IOMMU_STATE_* */
static inline uint32_t xen_pviommu_core_state(const XenPVIOMMUCore *core)
{
    return (core->identity ? XEN_IOMMU_STATE_identity : 0) |
           (core->control ? XEN_IOMMU_STATE_control : 0);
}

/** xen_pviommu_core_features: XEN_IOMMU_FEATURE_* offered */
static inline uint64_t xen_pviommu_core_features(const XenPVIOMMUCore *core)
{
    return XEN_IOMMU_FEATURES_ALL &
           ~(core->queues ? 0 : XEN_IOMMU_FEATURE_QUEUE) &
           ~(core->identity_contexts ? 0 : XEN_IOMMU_FEATURE_IDENTITY) &
           ~(core->limits.max_irqs ? 0 : XEN_IOMMU_FEATURE_INTERRUPTS) &
           ~(core->mmio ? 0 : XEN_IOMMU_FEATURE_MMIO);
}

/** xen_pviommu_bfn_limit: BFNs are below it */
static inline uint64_t xen_pviommu_bfn_limit(const XenPVIOMMUCore *core)
{
    return 1ull << core->limits.bfn_bits;
}

#endif /* HW_XEN_PVIOMMU_STATE_H */
