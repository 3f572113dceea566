// SPDX-License-Identifier: GPL-2.0
/*
 * The queue of a domain: that it runs, and what failed in it
 *
 * How operations get into it is in domain-queue.h. All of this is under the
 * domain's lock.
 */

#include <linux/errno.h>

#include "domain-queue.h"

/*
 * Run the operations that the device left in a dead queue: statuses, errors and
 * head are stored as the device would store them. They run one by one and in
 * order, and one that finds no room is repaired before the next one runs.
 */
static void domain_queue_run_dead(struct pviommu_domain *d)
{
	struct pviommu_queue *q = &d->queue;
	u32 head = READ_ONCE(q->shared->head);
	struct pviommu_repair repair = {};
	struct xen_iommu_op op, *slot;

	/* A head beyond the tail is wrong. */
	if (head - q->seen > q->tail - q->seen)
		return;

	for (; head != q->tail; head++) {
		slot = pviommu_queue_slot(q, head);
		op = *slot;
		pviommu_run_copy(d->v, &op, 1);
		pviommu_repair_op(d, &op, &repair);
		slot->status = op.status;
		if (op.status)
			q->shared->errors++;
	}
	q->shared->head = head;
}

static void domain_queue_abandon(struct pviommu_domain *d)
{
	d->queue.abandoned = true;
	domain_be_synchronous(d);
	d->complaint.op = XEN_IOMMUOP_set_queue;
	/* If it is not dead, the device may run it still. */
	if (pviommu_queue_dead(&d->queue))
		domain_queue_run_dead(d);
}

/**
 * pviommu_domain_queue_look() - see which of the operations that ran failed
 * @d: the domain; its lock is held
 *
 * A map that failed is not repaired: its mapper may have unmapped it by now.
 * The domain is synchronous from then on.
 */
void pviommu_domain_queue_look(struct pviommu_domain *d)
{
	struct xen_iommu_op op;

	while (pviommu_queue_failed(&d->queue, &op)) {
		domain_complain(d, &op);
		if (op.op != XEN_IOMMUOP_map)
			continue;
		domain_be_synchronous(d);
		pviommu_xlate_remove(&d->xlate, op.u.map.bfn, op.u.map.nr_frames);
	}
}

/**
 * pviommu_domain_queue_run() - run what is in the queue
 * @d: the domain; its lock is held
 *
 * The device runs it; if the device has marked the queue as dead, this function
 * does.
 */
void pviommu_domain_queue_run(struct pviommu_domain *d)
{
	lockdep_assert_held(&d->lock);

	if (!d->queue.shared || d->queue.abandoned)
		return;
	if (!pviommu_queue_run(&d->queue, d->v, d->block))
		domain_queue_abandon(d);
	pviommu_domain_queue_look(d);
}

/**
 * pviommu_domain_queue_attend() - run the queue if the device does not
 * @d: the domain; its lock is held
 *
 * As pviommu_domain_queue_run(), but without a doorbell where the device runs
 * the queue before it uses the context.
 */
void pviommu_domain_queue_attend(struct pviommu_domain *d)
{
	struct pviommu_queue *q = &d->queue;
	u32 flags;

	lockdep_assert_held(&d->lock);

	if (!q->shared || READ_ONCE(q->abandoned))
		return;
	/* After what was queued, by whichever CPU. */
	virt_mb();
	flags = READ_ONCE(q->shared->flags);
	if (flags)
		domain_leave_queue(d);
	if (flags & XEN_IOMMU_QUEUE_dead ||
	    (flags & XEN_IOMMU_QUEUE_doorbell &&
	     !pviommu_queue_run(q, d->v, d->block)))
		domain_queue_abandon(d);
	pviommu_domain_queue_look(d);
}
