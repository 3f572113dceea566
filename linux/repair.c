// SPDX-License-Identifier: GPL-2.0
/*
 * Repair: operations that failed for lack of room, or of a page
 *
 * They run one at a time, with a doorbell each. This needs no domain lock; a
 * caller may hold it.
 */

#include <linux/bitmap.h>
#include <linux/errno.h>

#include "domain.h"

/* How often a map is tried at once that the device could not finish in one go. */
#define TRIES_AT_ONCE	4

/*
 * Frames that wait for a flush, in any context, take room. An early flush does
 * no harm.
 */
static void repair_flush_everywhere(struct pviommu *v)
{
	struct xen_iommu_op flush;
	unsigned int ctx;

	for_each_set_bit(ctx, v->contexts, v->max_contexts) {
		flush = op_flush_all(ctx);
		pviommu_run_copy(v, &flush, 1);
	}
}

/**
 * pviommu_repair_op() - try a map or unmap again that found no room
 * @d: the domain
 * @op: the operation, with the status that it got; gets its last one
 * @repair: what the repair of the operations before it did
 *
 * The first try changes nothing, as the repair of an earlier operation may have
 * made room. Before the second one this context is flushed, before the third
 * one all contexts; not if an earlier operation did so in vain. A map may be
 * left with -EAGAIN: its page is missing.
 */
void pviommu_repair_op(struct pviommu_domain *d, struct xen_iommu_op *op,
		       struct pviommu_repair *repair)
{
	struct xen_iommu_op flush;
	unsigned int tries = 0;
	bool again = false;

	for (;;) {
		if (op->status == -EAGAIN && tries < TRIES_AT_ONCE) {
			tries++;
		} else if (op->status == -ENOSPC && !again) {
			again = true;
		} else if (op->status == -ENOSPC && !repair->flushed) {
			flush = op_flush_all(d->ctx);
			pviommu_run_copy(d->v, &flush, 1);
			repair->flushed = 1;
		} else if (op->status == -ENOSPC && repair->flushed == 1) {
			repair_flush_everywhere(d->v);
			repair->flushed = 2;
		} else {
			break;
		}
		pviommu_run_copy(d->v, op, 1);
	}
	/* Now there is something to flush again. */
	if (op->op == XEN_IOMMUOP_unmap && !op->status)
		repair->flushed = 0;
}

/* Says that there was nothing to unmap; in a reserved range there never is. */
static bool not_mapped(int status)
{
	return status == -ENOENT || status == -EADDRNOTAVAIL;
}

/*
 * Unmap a range of which some frames were not mapped: their maps failed, or
 * the hypervisor took the pages back. Or it is of more runs than can wait for
 * a flush. Nothing of it was unmapped yet, and what is there must go, run by
 * run.
 */
static u64 repair_unmap_runs(struct pviommu_domain *d,
			     const struct xen_iommu_op *op,
			     struct pviommu_repair *repair,
			     struct xen_iommu_op *complaint)
{
	u64 end = op->u.unmap.bfn + op->u.unmap.nr_frames;
	u64 bfn, nr, unmapped = 0;
	struct xen_iommu_op lookup, unmap;

	for (bfn = op->u.unmap.bfn; bfn < end; bfn += nr) {
		lookup = op_lookup(d->ctx, bfn);
		pviommu_run_copy(d->v, &lookup, 1);
		/* Without the length of the gap, the loop might take forever. */
		if (lookup.status &&
		    (lookup.status != -ENOENT || !lookup.u.lookup.nr_frames)) {
			*complaint = lookup;
			break;
		}
		/* Where nothing is mapped, this can be the length of the gap. */
		nr = clamp_t(u64, lookup.u.lookup.nr_frames, 1, end - bfn);
		if (lookup.status)
			continue;

		unmap = op_unmap(d->ctx, bfn, nr);
		pviommu_run_copy(d->v, &unmap, 1);
		pviommu_repair_op(d, &unmap, repair);
		if (!unmap.status) {
			unmapped += nr;
			continue;
		}
		/* One that was done in part has what is left in its fields. */
		unmapped += nr - unmap.u.unmap.nr_frames;
		if (!not_mapped(unmap.status))
			*complaint = unmap;
	}
	return unmapped;
}

/**
 * pviommu_repair_unmap() - have an unmap that failed do what it can
 * @d: the domain
 * @op: the operation, as it was when it failed: of what is still to be unmapped
 * @repair: what the repair of the operations before it did
 * @complaint: where to store an operation that should not have failed
 *
 * Returns: how many frames were unmapped.
 */
u64 pviommu_repair_unmap(struct pviommu_domain *d, struct xen_iommu_op *op,
			 struct pviommu_repair *repair,
			 struct xen_iommu_op *complaint)
{
	u32 nr = op->u.unmap.nr_frames;

	pviommu_repair_op(d, op, repair);
	if (!op->status)
		return nr;
	/* It may be less by now. */
	nr -= op->u.unmap.nr_frames;
	if (op->u.unmap.nr_frames > 1 &&
	    (not_mapped(op->status) || op->status == -ENOSPC))
		nr += repair_unmap_runs(d, op, repair, complaint);
	else if (!not_mapped(op->status))
		*complaint = *op;
	return nr;
}

/**
 * pviommu_unmap_now() - unmap a range, and flush it
 * @d: the domain; its lock is not needed
 * @bfn: where the range starts
 * @nr: its length, in frames
 * @complaint: where to store an operation that should not have failed
 *
 * Frames that are not mapped are passed over.
 *
 * Returns: how many frames were unmapped.
 */
u64 pviommu_unmap_now(struct pviommu_domain *d, u64 bfn, u64 nr,
		      struct xen_iommu_op *complaint)
{
	struct pviommu_repair repair = {};
	struct xen_iommu_op ops[2];
	u64 part, unmapped = 0;

	for (; nr; bfn += part, nr -= part) {
		part = min_t(u64, nr, RANGE_MAX);
		ops[0] = op_unmap(d->ctx, bfn, part);
		ops[1] = op_flush(d->ctx, bfn, part);
		if (likely(!pviommu_run_copy(d->v, ops, ARRAY_SIZE(ops)))) {
			unmapped += part;
			continue;
		}
		if (ops[0].status) {
			/* What was unmapped before it failed. */
			unmapped += part - ops[0].u.unmap.nr_frames;
			unmapped += pviommu_repair_unmap(d, &ops[0], &repair,
							 complaint);
			ops[1] = op_flush(d->ctx, bfn, part);
			pviommu_run_copy(d->v, &ops[1], 1);
		} else {
			unmapped += part;
		}
		if (ops[1].status)
			*complaint = ops[1];
	}
	return unmapped;
}
