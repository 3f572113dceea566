/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The paravirtual IOMMU without its PCI front: the core, which has the contexts
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

#ifndef HW_XEN_PVIOMMU_CORE_H
#define HW_XEN_PVIOMMU_CORE_H

#include "backend.h"
#include "bfn-table.h"
#include "client.h"
#include "context.h"
#include "gfn-index.h"
#include "guest-log.h"
#include "page.h"
#include "pending.h"
#include "reserved.h"

/* Counters of events; the two behind them are of the present state. */
#define XEN_PVIOMMU_NR_EVENT_COUNTERS XEN_PVIOMMU_COUNTER_MAPPED

typedef struct XenPVIOMMULimits {
    uint64_t max_mappings;      /* frames mapped or pending, all contexts */
    uint32_t max_contexts;      /* the default one included */
    uint32_t bfn_bits;
} XenPVIOMMULimits;

struct XenPVIOMMUCore {
    XenPVIOMMULimits limits;
    bool control;               /* the guest may control the IOMMU */
    bool premap;                /* it starts in identity mode */
    bool queues;                /* the guest may have queues */
    bool identity_contexts;     /* the guest may have identity contexts */

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
};

/**
 * xen_pviommu_core_max_bytes: the most memory that a guest can make QEMU take
 *
 * xen_pviommu_core_bytes() is never more; but for what was loaded: see
 * xen_pviommu_core_load_begin().
 */
size_t xen_pviommu_core_max_bytes(const XenPVIOMMUCore *core);

/** xen_pviommu_core_bytes: what is taken now, and reserved for splits */
size_t xen_pviommu_core_bytes(const XenPVIOMMUCore *core);

/**
 * xen_pviommu_core_load_begin: allow what a guest had elsewhere
 *
 * Older versions had no limit of places, and bounded memory in another way.
 * What they had finds room here, in twice the memory; then nothing is added
 * until there is less.
 */
void xen_pviommu_core_load_begin(XenPVIOMMUCore *core);

/** xen_pviommu_core_load_end: all limits are what they are again */
void xen_pviommu_core_load_end(XenPVIOMMUCore *core);

/**
 * xen_pviommu_core_init: the state of a reset device
 *
 * limits, control, premap, queues, identity_contexts, client and all _ops are
 * set by the caller before; backend, before the first operation.
 *
 * Returns: false if there is no memory.
 */
bool xen_pviommu_core_init(XenPVIOMMUCore *core);

/** xen_pviommu_core_finalize: let go of all pages; no context has devices */
void xen_pviommu_core_finalize(XenPVIOMMUCore *core);

/**
 * xen_pviommu_core_reset: back to the start
 *
 * Moves all devices to a new default context, removes the others, and drops
 * all references. The identity map comes back with premap. The memory of the
 * tables stays in the budget until xen_pviommu_core_reap() frees it. With a
 * backend that has put_frames, the time depends on the number of contexts and
 * devices, and not on what was mapped.
 */
void xen_pviommu_core_reset(XenPVIOMMUCore *core);

/* Nodes that are freed at a time: a fraction of a millisecond. */
#define XEN_PVIOMMU_REAP_NODES 1024

/**
 * xen_pviommu_core_reap: free some of what resets left
 * @max: nodes at the most
 * @wait: leave alone what readers may still look at; else RCU frees it
 *
 * Returns: false if there was nothing left before.
 */
bool xen_pviommu_core_reap(XenPVIOMMUCore *core, unsigned max, bool wait);

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

/**
 * xen_pviommu_core_check: abort if the reference audit fails
 *
 * Compares, page by page, what contexts map and what is pending with the
 * backend's references, and the tables with the GFN index. Slow: for tests.
 */
void xen_pviommu_core_check(XenPVIOMMUCore *core);

/**
 * xen_pviommu_core_enable: end identity mode, if it has not ended
 *
 * It lets go of the lock meanwhile: see XenPVIOMMUAttachmentOps.enabled.
 */
void xen_pviommu_core_enable(XenPVIOMMUCore *core);

/**
 * xen_pviommu_core_invalidate: pages are going away
 *
 * Unmaps [@gfn, @gfn + @nr) everywhere, notifies listeners, and drops all
 * references, also those of pending runs.
 */
void xen_pviommu_core_invalidate(XenPVIOMMUCore *core,
                                 uint64_t gfn, uint64_t nr);

/* Called with a part of what is held; frames may be visited more than once. */
typedef void XenPVIOMMUHeldFunc(void *opaque, uint64_t gfn, uint64_t nr);

/** xen_pviommu_core_held: visit all pages that are mapped, or pending */
void xen_pviommu_core_held(XenPVIOMMUCore *core, XenPVIOMMUHeldFunc *func,
                           void *opaque);

/** xen_pviommu_core_flush_all: flush all contexts, as pending runs take room */
void xen_pviommu_core_flush_all(XenPVIOMMUCore *core);

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
           ~(core->identity_contexts ? 0 : XEN_IOMMU_FEATURE_IDENTITY);
}

/** xen_pviommu_bfn_limit: BFNs are below it */
static inline uint64_t xen_pviommu_bfn_limit(const XenPVIOMMUCore *core)
{
    return 1ull << core->limits.bfn_bits;
}

#endif /* HW_XEN_PVIOMMU_CORE_H */
