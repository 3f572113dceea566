// SPDX-License-Identifier: GPL-2.0
/*
 * The batch of a domain: operations whose statuses somebody wants to know
 *
 * They wait in an array and go out with one doorbell, when somebody needs them
 * done, or when the array is full. What failed for want of something that can
 * be had is mended then. A batch that does not end with a flush gets one if
 * much waits for it.
 *
 * The batch holds unmaps first and maps after them: an unmap never follows a
 * map in one batch. So a map that has to be tried again, after the batch,
 * cannot bring back what a later operation took away.
 *
 * All of it is under the domain's lock.
 */

#include <linux/delay.h>
#include <linux/errno.h>
#include <linux/gfp.h>

#include "domain.h"

/* The array of a domain: the batch, then a slot to repair what went wrong. */
#define ARRAY_ORDER	1
#define ARRAY_OPS	((PAGE_SIZE << ARRAY_ORDER) / sizeof(struct xen_iommu_op))
#define BATCH_OPS	(ARRAY_OPS - 1)

/* Slots of the batch that only the operation that sends it may use. */
#define BATCH_LAST	1

/*
 * How often in a batch, and how long apart, maps are tried again whose page is
 * not here.
 */
#define MAP_TRIES	100
#define MAP_WAIT_US	20

/**
 * struct pviommu_repair - what the repair of a batch did so far
 * @waits: how often it waited for a page
 * @flushed: what nothing was unmapped in since: 1 the context, 2 everything
 */
struct pviommu_repair {
	unsigned int waits;
	unsigned int flushed;
};

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

	/* A scatterlist that fails, fails piece after piece. */
	for (f = d->failures; f < d->failures + d->nr_failures; f++) {
		if (f->end == bfn) {
			f->end = end;
			return;
		}
	}
	/* Better to fail a map too many, among those on their way, than lose one. */
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
 * Forgets what failed in the range. What failed beside it is somebody else's,
 * even where both went as one operation.
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
		/* To merge them would bring back what lies between. */
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

/* Run one operation by itself, in the slot for repairs; @op gets its answer. */
static void batch_run_one(struct pviommu_domain *d, struct xen_iommu_op *op)
{
	struct xen_iommu_op *slot = &d->ops[BATCH_OPS];

	*slot = *op;
	slot->status = PVIOMMU_NOT_RUN;
	pviommu_run(d->v, d->block, slot, 1);
	*op = *slot;
}

/*
 * What waits for a flush, in whatever context, takes room. To flush what its
 * users have not asked for yet does no harm.
 */
static void batch_flush_everywhere(struct pviommu_domain *d)
{
	struct xen_iommu_op flush;
	unsigned int ctx;

	for_each_set_bit(ctx, d->v->contexts, d->v->max_contexts) {
		flush = op_flush_all(ctx);
		batch_run_one(d, &flush);
	}
}

/*
 * Try a map or unmap again that found no room, or no page yet: without more
 * ado, as an operation before it may have been helped already; then with more
 * room in this context, then with more everywhere; and until the page is here.
 * What an operation before it did in vain is not done again.
 */
static void batch_try_again(struct pviommu_domain *d, struct xen_iommu_op *op,
			    struct pviommu_repair *repair)
{
	struct xen_iommu_op flush;
	bool again = false;

	for (;;) {
		if (op->status == -EAGAIN && repair->waits < MAP_TRIES) {
			repair->waits++;
			udelay(MAP_WAIT_US);
		} else if (op->status == -ENOSPC && !again) {
			again = true;
		} else if (op->status == -ENOSPC && !repair->flushed) {
			flush = op_flush_all(d->ctx);
			batch_run_one(d, &flush);
			repair->flushed = 1;
		} else if (op->status == -ENOSPC && repair->flushed == 1) {
			batch_flush_everywhere(d);
			repair->flushed = 2;
		} else {
			break;
		}
		batch_run_one(d, op);
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
static void batch_unmap_runs(struct pviommu_domain *d,
			     const struct xen_iommu_op *op,
			     struct pviommu_repair *repair)
{
	u64 end = op->u.unmap.bfn + op->u.unmap.nr_frames;
	struct xen_iommu_op lookup, unmap = *op;
	u64 bfn, nr;

	for (bfn = op->u.unmap.bfn; bfn < end; bfn += nr) {
		lookup = op_lookup(d->ctx, bfn);
		batch_run_one(d, &lookup);
		/* Without the length of the hole this could take forever. */
		if (lookup.status &&
		    (lookup.status != -ENOENT || !lookup.u.lookup.nr_frames)) {
			domain_complain(d, &lookup);
			break;
		}
		/* Where nothing is mapped, this can be the length of the hole. */
		nr = clamp_t(u64, lookup.u.lookup.nr_frames, 1, end - bfn);
		if (lookup.status)
			continue;

		unmap.u.unmap.bfn = bfn;
		unmap.u.unmap.nr_frames = nr;
		batch_run_one(d, &unmap);
		batch_try_again(d, &unmap, repair);
		if (!unmap.status)
			frames_remove(d, nr);
		else if (!not_mapped(unmap.status))
			domain_complain(d, &unmap);
	}
}

static void batch_op_failed(struct pviommu_domain *d, struct xen_iommu_op *op,
			    struct pviommu_repair *repair)
{
	u64 bfn = op->u.map.bfn;
	u32 nr = op->u.map.nr_frames;

	switch (op->op) {
	case XEN_IOMMUOP_map:
		batch_try_again(d, op, repair);
		if (!op->status)
			break;
		failure_add(d, bfn, bfn + nr, op->status);
		frames_remove(d, nr);
		pviommu_xlate_remove(d, bfn, nr);
		break;
	case XEN_IOMMUOP_unmap:
		batch_try_again(d, op, repair);
		if (!op->status)
			frames_remove(d, nr);
		else if (nr > 1 &&
			 (not_mapped(op->status) || op->status == -ENOSPC))
			batch_unmap_runs(d, op, repair);
		else if (!not_mapped(op->status))
			domain_complain(d, op);
		break;
	case XEN_IOMMUOP_flush:
		domain_complain(d, op);
		break;
	}
}

static void batch_store(struct pviommu_domain *d, const struct xen_iommu_op *op)
{
	struct xen_iommu_op *slot = &d->ops[d->nr_batched++];

	WRITE_ONCE(d->direct, false);
	*slot = *op;
	slot->status = PVIOMMU_NOT_RUN;
}

/**
 * pviommu_batch_send() - run the batch
 * @d: the domain
 *
 * Afterwards every operation in it has run; what failed to map is what
 * pviommu_failures_take() tells.
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
	 * The doorbell would run the queue first; but if it finds it dead
	 * instead, it would be too late. A lookup alone can be repeated.
	 */
	if (d->nr_batched > 1 || last->op != XEN_IOMMUOP_lookup_bfn)
		pviommu_domain_run_queue(d);
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
	if (likely(!pviommu_run(d->v, d->block, d->ops, nr)) &&
	    PVIOMMU_SYNC_MAP_REPORTS)
		return;
	for (i = 0; i < nr; i++) {
		if (unlikely(d->ops[i].status)) {
			batch_op_failed(d, &d->ops[i], &repair);
			if (d->ops[i].op != XEN_IOMMUOP_lookup_bfn)
				repaired = true;
		} else if (d->ops[i].op == XEN_IOMMUOP_unmap) {
			frames_remove(d, d->ops[i].u.unmap.nr_frames);
		}
	}

	if (likely(!repaired))
		return;

	/* A flush, or a lookup, has to come after the operations it is for. */
	last = &d->ops[nr - 1];
	if (last->op == XEN_IOMMUOP_flush) {
		batch_run_one(d, last);
		if (last->status)
			domain_complain(d, last);
	} else if (last->op == XEN_IOMMUOP_lookup_bfn) {
		*last = op_lookup(d->ctx, last->u.lookup.bfn);
		batch_run_one(d, last);
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

/**
 * pviommu_batch_run_dead() - run what the device left in a dead queue
 * @d: the domain
 *
 * In the device's place: statuses, errors and head are stored where it stores
 * them. One by one, and in order: what finds no room is mended before the next
 * one runs, as the device would have done, too.
 */
void pviommu_batch_run_dead(struct pviommu_domain *d)
{
	struct pviommu_queue *q = &d->queue;
	u32 head = READ_ONCE(q->shared->head);
	struct pviommu_repair repair = {};
	struct xen_iommu_op op, *slot;

	lockdep_assert_held(&d->lock);

	/* Not to be trusted if it is beyond what there is. */
	if (head - q->seen > q->tail - q->seen)
		return;

	for (; head != q->tail; head++) {
		slot = pviommu_queue_slot(q, head);
		op = *slot;
		batch_run_one(d, &op);
		batch_try_again(d, &op, &repair);
		slot->status = op.status;
		if (op.status)
			q->shared->errors++;
	}
	q->shared->head = head;
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
	/* Not before: what is sent for want of room can end with a flush. */
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
