/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Queues: operations of a context that run without a doorbell
 *
 * A queue is in guest memory (struct xen_iommu_queue). It runs before its
 * context is translated, in the thread that does DMA, and with every doorbell.
 *
 * Notifying needs the BQL, which a DMA thread may not hold. While anything
 * listens, only doorbells run queues, and the queues' flags tell the guest.
 *
 * Locking: XenPVIOMMUState.lock for all that is not said otherwise.
 */

#ifndef HW_XEN_PVIOMMU_QUEUE_H
#define HW_XEN_PVIOMMU_QUEUE_H

#include "qemu/bswap.h"
#include "qemu/main-loop.h"
#include "core/state.h"

typedef struct XenPVIOMMUState XenPVIOMMUState;

struct XenPVIOMMUQueue {
    struct rcu_head rcu;
    NodePool *pool;                     /* that it is from */
    QLIST_ENTRY(XenPVIOMMUQueue) next;
    XenPVIOMMUState *s;
    XenPVIOMMUContext *ctx;
    struct xen_iommu_queue *shared;     /* RCU; NULL: not looked up yet */
    MemoryRegion *mr;                   /* that it is in, at... */
    uint64_t offset;
    uint64_t addr;
    uint32_t nr_ops;
    uint32_t head;                      /* atomic */
    uint32_t errors;
    bool running;
};

/* All queues of a device. Only queue.c changes it. */
typedef struct XenPVIOMMUQueues {
    QLIST_HEAD(, XenPVIOMMUQueue) list;
    unsigned nr;
    uint32_t nr_ops;            /* that fit into them, together */
    bool doorbell;              /* only doorbells run them, as flags say */
    bool stopped;               /* DMA does not run them */
    bool quiet;                 /* atomic: and all for it to run has been run */
    unsigned threads;           /* atomic: with a queue to run, and no BQL */
    /* What DMA caused since bh ran; see queue_account(). */
    uint64_t work;
    uint64_t work_bql;          /* of it, with the BQL */
    int64_t work_begun;         /* ns, by get_clock() */
    QEMUBH *bh;
} XenPVIOMMUQueues;

/**
 * xen_pviommu_queue_set: XenPVIOMMUGuestMemoryOps.set_queue
 *
 * BQL held.
 */
int xen_pviommu_queue_set(XenPVIOMMUState *s, XenPVIOMMUContext *ctx,
                          uint64_t addr, uint32_t nr_ops);

/**
 * xen_pviommu_queue_load: add a queue as a stream has it
 *
 * Its memory is looked up by xen_pviommu_queues_remap().
 *
 * Returns: false if there can be none such in @ctx, or there is no memory.
 */
bool xen_pviommu_queue_load(XenPVIOMMUState *s, XenPVIOMMUContext *ctx,
                            uint64_t addr, uint32_t nr_ops, uint32_t head,
                            uint32_t errors);

/**
 * xen_pviommu_queues_remap: map the memory of queues that were loaded
 *
 * The machine is complete and runs, or the function may touch guest memory:
 * what could not be stored in the queues before is stored. BQL held.
 */
void xen_pviommu_queues_remap(XenPVIOMMUState *s);

/** xen_pviommu_queues_init: there are none. BQL held. */
void xen_pviommu_queues_init(XenPVIOMMUState *s);

/** xen_pviommu_queues_finalize: there will be none any more. BQL held. */
void xen_pviommu_queues_finalize(XenPVIOMMUState *s);

/** xen_pviommu_queues_remove: take all queues away */
void xen_pviommu_queues_remove(XenPVIOMMUState *s);

/**
 * xen_pviommu_queues_run: run all queues
 * @end: stop when xen_pviommu_core_work() gets there
 *
 * BQL held.
 *
 * Returns: true if nothing is left.
 */
bool xen_pviommu_queues_run(XenPVIOMMUState *s, uint64_t end);

/**
 * xen_pviommu_queues_finish: run all queues to their end, or abandon them
 *
 * A queue that would take too long is dead afterwards. BQL held.
 */
void xen_pviommu_queues_finish(XenPVIOMMUState *s);

/**
 * xen_pviommu_queues_update: set the flags by which queues need a doorbell
 *
 * If they do, all that the guest queued before it could know has run. BQL held.
 */
void xen_pviommu_queues_update(XenPVIOMMUState *s);

/**
 * xen_pviommu_queues_drain: wait until no thread wants the lock for a queue
 *
 * From then on none takes it, if queues need a doorbell as something listens.
 * BQL held, and not XenPVIOMMUState.lock.
 */
void xen_pviommu_queues_drain(XenPVIOMMUState *s);

/** xen_pviommu_queues_pages_removed: disable queues in pages that go away */
void xen_pviommu_queues_pages_removed(XenPVIOMMUState *s, uint64_t gfn,
                                      uint64_t nr);

/** xen_pviommu_queues_held: call @func for the pages that queues are in */
void xen_pviommu_queues_held(XenPVIOMMUState *s, XenPVIOMMUHeldFunc *func,
                             void *opaque);

/** xen_pviommu_queue_run_slow: see xen_pviommu_queue_run(), with work to do */
void xen_pviommu_queue_run_slow(XenPVIOMMUQueue *q);

/**
 * xen_pviommu_queue_run: before a translation in @ctx
 *
 * Any thread, in an RCU critical section, with or without the BQL.
 */
static inline void xen_pviommu_queue_run(const XenPVIOMMUContext *ctx)
{
    XenPVIOMMUQueue *q = qatomic_rcu_read(&ctx->queue);
    struct xen_iommu_queue *shared = q ? qatomic_rcu_read(&q->shared) : NULL;

    if (shared && le32_to_cpu(qatomic_load_acquire(&shared->tail)) !=
                  qatomic_load_acquire(&q->head)) {
        xen_pviommu_queue_run_slow(q);
    }
}

#endif /* HW_XEN_PVIOMMU_QUEUE_H */
