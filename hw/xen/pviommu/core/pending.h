/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What was unmapped and waits for a flush
 *
 * A context keeps one record for each run, in the order of the unmaps, in
 * chunks. Looking at a few hundred records takes as long as looking one up in a
 * tree; of more than that a flush releases all, which is always allowed, and
 * with a backend that counts references by number takes no time.
 *
 * Records that listeners were not notified of follow each other at the end,
 * and are few: see XEN_PVIOMMU_UNNOTIFIED_MAX.
 *
 * Locking: that of state.h.
 */

#ifndef HW_XEN_PVIOMMU_PENDING_H
#define HW_XEN_PVIOMMU_PENDING_H

#include "state.h"

/*
 * With more records than this in a context a flush of a range is one of the
 * whole context, and with more in all contexts an invalidation flushes all.
 */
#define XEN_PVIOMMU_PENDING_EXACT 256

/* Notifications of one operation, which is unfinished while there are more. */
#define XEN_PVIOMMU_NOTIFY_AT_ONCE 128

/*
 * Records of a context from the first one that is not notified on. What
 * notifies of all of them at once (an invalidation, a detach) is bounded by it.
 */
#define XEN_PVIOMMU_UNNOTIFIED_MAX 1280

/** xen_pviommu_pending_max: records at a time, in all contexts */
uint64_t xen_pviommu_pending_max(const XenPVIOMMUCore *core);

/** xen_pviommu_pending_max_bytes: the memory that all of them can take */
size_t xen_pviommu_pending_max_bytes(const XenPVIOMMUCore *core);

/** xen_pviommu_pending_room: how many records may be added */
uint64_t xen_pviommu_pending_room(const XenPVIOMMUCore *core);

/** xen_pviommu_pending_reserve: memory for @nr more; false if there is none */
bool xen_pviommu_pending_reserve(XenPVIOMMUCore *core, uint64_t nr);

/** xen_pviommu_pending_add: one more record; room and memory are there */
void xen_pviommu_pending_add(XenPVIOMMUCore *core, XenPVIOMMUContext *ctx,
                             const BfnRun *run, bool notified);

/**
 * xen_pviommu_pending_notify: listeners drop [@bfn, @bfn + @nr) of what is
 * pending
 * @max: notifications at the most
 *
 * Neighbours are merged. Work: one notification each.
 *
 * Returns: false if some are left.
 */
bool xen_pviommu_pending_notify(XenPVIOMMUCore *core, XenPVIOMMUContext *ctx,
                                uint64_t bfn, uint64_t nr, unsigned max);

/** xen_pviommu_pending_notify_all: the same for all that is pending */
void xen_pviommu_pending_notify_all(XenPVIOMMUCore *core,
                                    XenPVIOMMUContext *ctx);

/**
 * xen_pviommu_pending_release: drop the references on a range of BFNs
 *
 * Listeners were notified of it. What stays of a record is a record, or two if
 * there is room; else all of it is released.
 */
void xen_pviommu_pending_release(XenPVIOMMUCore *core, XenPVIOMMUContext *ctx,
                                 uint64_t bfn, uint64_t nr);

/** xen_pviommu_pending_release_all: of all of @ctx; listeners were notified */
void xen_pviommu_pending_release_all(XenPVIOMMUCore *core,
                                     XenPVIOMMUContext *ctx);

/**
 * xen_pviommu_pending_invalidate: release [@gfn, @gfn + @nr) in all contexts
 *
 * Or all there is, if that is much. Notifies listeners.
 */
void xen_pviommu_pending_invalidate(XenPVIOMMUCore *core,
                                    uint64_t gfn, uint64_t nr);

/** xen_pviommu_pending_init, _finalize: for a core; nothing is pending */
void xen_pviommu_pending_init(XenPVIOMMUCore *core);
void xen_pviommu_pending_finalize(XenPVIOMMUCore *core);

/** xen_pviommu_pending_context_init: nothing is pending in @ctx */
void xen_pviommu_pending_context_init(XenPVIOMMUContext *ctx);

/* A visit of pending runs, during which none is added or released */
typedef struct XenPVIOMMUPendingIter {
    const XenPVIOMMUContext *ctx;       /* that the run is of */
    bool notified;                      /* listeners were, of the run */
    bool all;
    XenPVIOMMUPendingPos pos;           /* of the next one */
} XenPVIOMMUPendingIter;

/** xen_pviommu_pending_visit: begin to visit the runs of @ctx, oldest first */
void xen_pviommu_pending_visit(XenPVIOMMUPendingIter *it,
                               const XenPVIOMMUContext *ctx);

/** xen_pviommu_pending_visit_all: begin to visit those of all contexts */
void xen_pviommu_pending_visit_all(XenPVIOMMUPendingIter *it,
                                   const XenPVIOMMUCore *core);

/** xen_pviommu_pending_next: false, with @run as it was, if there is no more */
bool xen_pviommu_pending_next(XenPVIOMMUPendingIter *it, BfnRun *run);

#endif /* HW_XEN_PVIOMMU_PENDING_H */
