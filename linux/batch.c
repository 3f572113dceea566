// SPDX-License-Identifier: GPL-2.0
/*
 * The batch of a domain: operations whose statuses the driver looks at
 *
 * They wait in an array, which one doorbell runs when a caller needs them done,
 * or when the array is full. Operations that failed for lack of room are then
 * repaired (repair.c). A batch that does not end with a flush gets one if many
 * frames wait for it.
 *
 * The batch holds unmaps first and maps after them: an unmap never follows a
 * map in one batch. So a map that has to be tried again, after the batch,
 * cannot bring back what a later operation took away.
 *
 * All of it is under the domain's lock.
 */

#include <linux/errno.h>
#include <linux/gfp.h>

#include "domain.h"

#define ARRAY_ORDER	1
#define BATCH_OPS	((PAGE_SIZE << ARRAY_ORDER) / sizeof(struct xen_iommu_op))

/* Slots of the batch that only the operation that sends it may use. */
#define BATCH_LAST	1

/**
 * pviommu_batch_init() - make an empty batch
 * @d: the domain
 *
 * Returns: 0 or -ENOMEM.
 */
int pviommu_batch_init(struct pviommu_domain *d)
{
	d->ops = (void *)__get_free_pages(GFP_KERNEL | __GFP_ZERO, ARRAY_ORDER);
	return d->ops ? 0 : -ENOMEM;
}

/**
 * pviommu_batch_free() - free it, with what it holds
 * @d: the domain, or one of which pviommu_batch_init() failed
 */
void pviommu_batch_free(struct pviommu_domain *d)
{
	free_pages((unsigned long)d->ops, ARRAY_ORDER);
}

/* Maps that failed */

static void failure_add(struct pviommu_domain *d, u64 bfn, u64 end, int error)
{
	struct pviommu_failure *f;

	/* The pieces of a scatterlist fail one after the other. */
	for (f = d->failures; f < d->failures + d->nr_failures; f++) {
		if (f->end == bfn) {
			f->end = end;
			return;
		}
	}
	/* Report a failure for another map under way rather than lose one. */
	if (d->nr_failures == NR_FAILURES) {
		f--;
		f->bfn = min(f->bfn, bfn);
		f->end = max(f->end, end);
		return;
	}
	*f = (struct pviommu_failure){ bfn, end, error };
	d->nr_failures++;
}

/**
 * pviommu_failures_take() - what failed in a range, before its mapper asked
 * @d: the domain
 * @bfn: where the range starts
 * @nr: its length, in frames
 *
 * Forgets the failures in the range. Failures beside it belong to other
 * mappers, even where both maps were one operation.
 *
 * Returns: the error of a map there, or 0.
 */
int pviommu_failures_take(struct pviommu_domain *d, u64 bfn, u64 nr)
{
	unsigned int i;
	int error = 0;

	for (i = d->nr_failures; i--; ) {
		struct pviommu_failure f = d->failures[i];
		u64 before, behind;

		if (f.end <= bfn || f.bfn >= bfn + nr)
			continue;
		error = f.error;
		d->failures[i] = d->failures[--d->nr_failures];
		before = f.bfn < bfn ? bfn - f.bfn : 0;
		behind = f.end > bfn + nr ? f.end - (bfn + nr) : 0;
		/* One entry for both would cover the range between them again. */
		if (before && behind && d->nr_failures + 2 > NR_FAILURES) {
			if (before < behind)
				before = 0;
			else
				behind = 0;
		}
		if (before)
			failure_add(d, f.bfn, bfn, f.error);
		if (behind)
			failure_add(d, bfn + nr, f.end, f.error);
	}
	return error;
}

static struct xen_iommu_op op_map(const struct pviommu_domain *d, u64 bfn,
				  u64 gfn, u32 nr, u16 flags)
{
	return (struct xen_iommu_op) {
		.op = XEN_IOMMUOP_map,
		.flags = flags,
		.u.map = {
			.bfn = bfn,
			.gfn = gfn,
			.domid = XEN_IOMMU_DOMID_SELF,
			.ctx = d->ctx,
			.nr_frames = nr,
		},
	};
}

static void batch_map_failed(struct pviommu_domain *d,
			     const struct xen_iommu_op *op)
{
	u64 bfn = op->u.map.bfn;
	u32 nr = op->u.map.nr_frames;

	failure_add(d, bfn, bfn + nr, op->status);
	pviommu_xlate_remove(&d->xlate, bfn, nr);
}

/**
 * pviommu_again_try() - try maps again whose pages were missing
 * @d: the domain; its lock is held
 * @bfn: where the range of their mapper starts
 * @nr: its length, in frames
 * @last: a map whose page is still missing has failed
 *
 * A map that is only in part in the range has another mapper as well. The first
 * of the two to call tries it; neither waits for the other.
 *
 * Returns: whether there are maps in the range that are to be tried again.
 */
bool pviommu_again_try(struct pviommu_domain *d, u64 bfn, u64 nr, bool last)
{
	struct pviommu_repair repair = {};
	struct xen_iommu_op op;
	bool again = false;
	unsigned int i;

	for (i = d->nr_again; i--; ) {
		op = d->again[i];
		if (op.u.map.bfn >= bfn + nr ||
		    op.u.map.bfn + op.u.map.nr_frames <= bfn)
			continue;
		pviommu_run_copy(d->v, &op, 1);
		pviommu_repair_op(d, &op, &repair);
		if (op.status == -EAGAIN && !last) {
			again = true;
			continue;
		}
		d->again[i] = d->again[--d->nr_again];
		if (op.status)
			batch_map_failed(d, &op);
	}
	return again;
}

static void batch_op_failed(struct pviommu_domain *d, struct xen_iommu_op *op,
			    struct pviommu_repair *repair)
{
	struct xen_iommu_op complaint = {};

	switch (op->op) {
	case XEN_IOMMUOP_map:
		pviommu_repair_op(d, op, repair);
		if (op->status == -EAGAIN && d->nr_again < NR_AGAIN)
			d->again[d->nr_again++] = *op;
		else if (op->status)
			batch_map_failed(d, op);
		break;
	case XEN_IOMMUOP_unmap:
		pviommu_repair_unmap(d, op, repair, &complaint);
		if (complaint.op)
			domain_complain(d, &complaint);
		break;
	case XEN_IOMMUOP_flush:
		domain_complain(d, op);
		break;
	}
}

static void batch_store(struct pviommu_domain *d, const struct xen_iommu_op *op)
{
	struct xen_iommu_op *slot = &d->ops[d->nr_batched++];

	domain_leave_queue(d);
	*slot = *op;
	slot->status = PVIOMMU_NOT_RUN;
}

/**
 * pviommu_batch_send() - run the batch
 * @d: the domain
 *
 * Afterwards every operation in it has run. pviommu_failures_take() returns
 * which maps failed.
 */
void pviommu_batch_send(struct pviommu_domain *d)
{
	struct pviommu_repair repair = {};
	struct xen_iommu_op flush, *last;
	bool repaired = false;
	unsigned int i, nr;

	lockdep_assert_held(&d->lock);

	if (!d->nr_batched)
		return;
	last = &d->ops[d->nr_batched - 1];
	/*
	 * The doorbell would run the queue first. But if the queue is dead, its
	 * operations would run after the batch. A lookup alone can be repeated.
	 */
	if (d->nr_batched > 1 || last->op != XEN_IOMMUOP_lookup_bfn)
		pviommu_domain_queue_run(d);
	if (unlikely(d->waiting >= FLUSH_ALONG) &&
	    (last->op == XEN_IOMMUOP_map || last->op == XEN_IOMMUOP_unmap)) {
		flush = op_flush_all(d->ctx);
		batch_store(d, &flush);
		d->unflushed = false;
		d->waiting = 0;
	}
	nr = d->nr_batched;
	d->nr_batched = 0;
	d->maps_batched = false;
	if (likely(!pviommu_run(d->v, d->block, d->ops, nr)))
		return;
	for (i = 0; i < nr; i++) {
		if (likely(!d->ops[i].status))
			continue;
		batch_op_failed(d, &d->ops[i], &repair);
		if (d->ops[i].op != XEN_IOMMUOP_lookup_bfn)
			repaired = true;
	}
	if (likely(!repaired))
		return;

	/* A flush, or a lookup, has to come after the operations it is for. */
	last = &d->ops[nr - 1];
	if (last->op == XEN_IOMMUOP_flush) {
		pviommu_run_copy(d->v, last, 1);
		if (last->status)
			domain_complain(d, last);
	} else if (last->op == XEN_IOMMUOP_lookup_bfn) {
		*last = op_lookup(d->ctx, last->u.lookup.bfn);
		pviommu_run_copy(d->v, last, 1);
	}
}

static void batch_add(struct pviommu_domain *d, const struct xen_iommu_op *op)
{
	if (d->nr_batched == BATCH_OPS - BATCH_LAST)
		pviommu_batch_send(d);
	batch_store(d, op);
}

/**
 * pviommu_batch_send_with() - run the batch, and an operation at its end
 * @d: the domain
 * @op: a flush or lookup; it gets its answer
 */
void pviommu_batch_send_with(struct pviommu_domain *d, struct xen_iommu_op *op)
{
	struct xen_iommu_op *last = &d->ops[d->nr_batched];

	batch_store(d, op);
	pviommu_batch_send(d);
	*op = *last;
}

static struct xen_iommu_op *batch_last(struct pviommu_domain *d, u16 opcode)
{
	struct xen_iommu_op *last;

	if (!d->nr_batched)
		return NULL;
	last = &d->ops[d->nr_batched - 1];
	return last->op == opcode ? last : NULL;
}

static void batch_map_part(struct pviommu_domain *d, u64 bfn, u64 gfn,
			   u32 nr, u16 flags)
{
	struct xen_iommu_op op = op_map(d, bfn, gfn, nr, flags);
	struct xen_iommu_op *last = batch_last(d, XEN_IOMMUOP_map);

	if (last && last->flags == flags &&
	    last->u.map.bfn + last->u.map.nr_frames == bfn &&
	    last->u.map.gfn + last->u.map.nr_frames == gfn &&
	    last->u.map.nr_frames + nr <= RANGE_MAX) {
		last->u.map.nr_frames += nr;
		return;
	}
	batch_add(d, &op);
	d->maps_batched = true;
}

/**
 * pviommu_batch_map() - add a map to the batch
 * @d: the domain
 * @bfn: where to
 * @gfn: what
 * @nr: how many frames
 * @flags: XEN_IOMMUOP_map_*
 */
void pviommu_batch_map(struct pviommu_domain *d, u64 bfn, u64 gfn, u64 nr,
		       u16 flags)
{
	u64 done;
	u32 part;

	for (done = 0; done < nr; done += part) {
		part = min_t(u64, nr - done, RANGE_MAX);
		batch_map_part(d, bfn + done, gfn + done, part, flags);
	}
}

static void batch_unmap_part(struct pviommu_domain *d, u64 bfn, u32 nr)
{
	struct xen_iommu_op op = op_unmap(d->ctx, bfn, nr);
	struct xen_iommu_op *last = batch_last(d, XEN_IOMMUOP_unmap);

	if (last && last->u.unmap.bfn + last->u.unmap.nr_frames == bfn &&
	    last->u.unmap.nr_frames + nr <= RANGE_MAX) {
		last->u.unmap.nr_frames += nr;
	} else {
		if (d->maps_batched)
			pviommu_batch_send(d);
		batch_add(d, &op);
	}
	/* After batch_add(), which may send the batch with a flush at its end. */
	d->unflushed = true;
	d->waiting += nr;
}

/**
 * pviommu_batch_unmap() - add an unmap to the batch
 * @d: the domain
 * @bfn: where from
 * @nr: how many frames
 */
void pviommu_batch_unmap(struct pviommu_domain *d, u64 bfn, u64 nr)
{
	u64 done;
	u32 part;

	for (done = 0; done < nr; done += part) {
		part = min_t(u64, nr - done, RANGE_MAX);
		batch_unmap_part(d, bfn + done, part);
	}
}
