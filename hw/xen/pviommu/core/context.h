/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Contexts: BFN address spaces, what they map, and what waits for a flush
 *
 * Invariants, which core/check.c verifies:
 * - Each page has as many of the backend's references as it is mapped and
 *   pending, in all contexts together.
 * - What a context maps, its table and the core's GFN index both say.
 *
 * Locking: that of state.h. Readers of a context's table and queue are in an
 * RCU critical section.
 */

#ifndef HW_XEN_PVIOMMU_CONTEXT_H
#define HW_XEN_PVIOMMU_CONTEXT_H

#include "state.h"

/** xen_pviommu_context_find: the context with this ID, or NULL */
XenPVIOMMUContext *xen_pviommu_context_find(XenPVIOMMUCore *core, uint32_t id);

/**
 * xen_pviommu_context_alloc: a new, empty context with an ID of its own
 *
 * Returns: 0, -XEN_IOMMU_ENOSPC when there are max-contexts, or
 * -XEN_IOMMU_ENOMEM.
 */
int xen_pviommu_context_alloc(XenPVIOMMUCore *core, XenPVIOMMUContext **ctx);

/**
 * xen_pviommu_context_new: the same with a given, free ID (migration)
 *
 * Returns: NULL if there is no memory.
 */
XenPVIOMMUContext *xen_pviommu_context_new(XenPVIOMMUCore *core, uint16_t id);

/** xen_pviommu_context_clear_reserved: ctx->reserved is an empty list */
void xen_pviommu_context_clear_reserved(XenPVIOMMUContext *ctx);

/** xen_pviommu_context_reserved: a part of the range is reserved in @ctx */
bool xen_pviommu_context_reserved(const XenPVIOMMUCore *core,
                                  const XenPVIOMMUContext *ctx,
                                  uint64_t bfn, uint64_t nr);

/**
 * xen_pviommu_context_free: -EBUSY while it has devices, -EAGAIN when there
 * was too much in it to unmap at a time: a part of that is unmapped then
 */
int xen_pviommu_context_free(XenPVIOMMUCore *core, XenPVIOMMUContext *ctx);

/**
 * xen_pviommu_context_map: all of @run or nothing
 *
 * The range is within bfn-bits and GFN_INDEX_BITS. Takes the backend's
 * reference on each page. XEN_PVIOMMU_UNFINISHED, with nothing mapped, if
 * listeners have to be notified of very much that was there before.
 */
int xen_pviommu_context_map(XenPVIOMMUCore *core, XenPVIOMMUContext *ctx,
                            uint16_t domid, const BfnRun *run);

/**
 * xen_pviommu_context_unmap_part: unmap the first part of a range
 * @bfn: in: where it begins; out: where what is left begins
 * @nr: in: its frames; out: how many are left
 * @skip_unmapped: frames that are not mapped are no error
 *
 * Emulated devices lose the part at once; references stay until a flush. The
 * part is all that is left if it is not more than XEN_IOMMU_UNMAP_RUNS runs and
 * not very many slots of the table.
 *
 * Returns: 0 when nothing is left, XEN_PVIOMMU_UNFINISHED, or an error: then
 * the part stays as it was.
 */
int xen_pviommu_context_unmap_part(XenPVIOMMUCore *core, XenPVIOMMUContext *ctx,
                                   uint64_t *bfn, uint64_t *nr,
                                   bool skip_unmapped);

/** xen_pviommu_context_unmap: all parts; takes as long as there are runs */
int xen_pviommu_context_unmap(XenPVIOMMUCore *core, XenPVIOMMUContext *ctx,
                              uint64_t bfn, uint64_t nr, bool skip_unmapped);

/**
 * xen_pviommu_context_load_pending: as if @run had been mapped, and unmapped
 *
 * For migration; the backend's reference is taken again.
 */
int xen_pviommu_context_load_pending(XenPVIOMMUCore *core,
                                     XenPVIOMMUContext *ctx, const BfnRun *run);

/**
 * xen_pviommu_context_flush_part: a bounded part of a flush
 *
 * Returns: false if listeners have to be notified of more: call it again. True
 * when no device has a translation of what was unmapped in the range, and its
 * references are dropped; maybe also those of other ranges.
 */
bool xen_pviommu_context_flush_part(XenPVIOMMUCore *core,
                                    XenPVIOMMUContext *ctx,
                                    uint64_t bfn, uint64_t nr);

/** xen_pviommu_context_flush: all parts of it */
void xen_pviommu_context_flush(XenPVIOMMUCore *core, XenPVIOMMUContext *ctx,
                               uint64_t bfn, uint64_t nr);

/** xen_pviommu_context_flush_all: the same, wherever it was unmapped */
void xen_pviommu_context_flush_all(XenPVIOMMUCore *core,
                                   XenPVIOMMUContext *ctx);

/* For core.c */

/**
 * xen_pviommu_context_remove_run: unmap a part of what @ctx maps, and drop its
 * references
 *
 * Returns: false if there was no memory to split what @run is a part of. Then
 * it has grown, and all of it was unmapped.
 */
bool xen_pviommu_context_remove_run(XenPVIOMMUCore *core,
                                    XenPVIOMMUContext *ctx, BfnRun *run);

/**
 * xen_pviommu_context_empty: unmap all of @ctx, until that was @max_work
 *
 * Returns: true if nothing is left.
 */
bool xen_pviommu_context_empty(XenPVIOMMUCore *core, XenPVIOMMUContext *ctx,
                               uint64_t max_work);

/**
 * xen_pviommu_context_unlink: nothing in the core leads to @ctx any more
 *
 * It is empty, or its table is freed or detached by the caller.
 */
void xen_pviommu_context_unlink(XenPVIOMMUCore *core, XenPVIOMMUContext *ctx);

#endif /* HW_XEN_PVIOMMU_CONTEXT_H */
