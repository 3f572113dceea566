// SPDX-License-Identifier: GPL-2.0
/*
 * Queues: operations of a context that need no doorbell
 *
 * A ring of operations in memory, which the device runs before it looks at the
 * context for somebody. How they are stored and published is in pviommu.h, as
 * that is what each map and unmap does; here is all that happens seldom.
 */

#include <linux/errno.h>
#include <linux/gfp.h>
#include <linux/io.h>
#include <linux/timekeeping.h>

#include "pviommu.h"

#define QUEUE_SIZE	(sizeof(struct xen_iommu_queue) + \
			 PVIOMMU_QUEUE_OPS * sizeof(struct xen_iommu_op))

static_assert(sizeof(struct xen_iommu_queue) == 128);
static_assert(!(PVIOMMU_QUEUE_OPS & (PVIOMMU_QUEUE_OPS - 1)));
static_assert(PVIOMMU_QUEUE_OPS <= XEN_IOMMU_QUEUE_MAX_OPS);

static int queue_set(struct pviommu *v, u16 ctx,
		     struct xen_iommu_queue *shared)
{
	struct xen_iommu_op op = {
		.op = XEN_IOMMUOP_set_queue,
		.u.set_queue = {
			.addr = shared ? virt_to_phys(shared) : 0,
			.ctx = ctx,
			.nr_ops = shared ? PVIOMMU_QUEUE_OPS : 0,
		},
	};

	return pviommu_call(v, &op);
}

/**
 * pviommu_queue_start() - make a queue, and show it to the device
 * @q: the queue, all zero
 * @v: the device
 * @ctx: the context
 *
 * Context: Process context.
 * Returns: 0, or an error: then there is none.
 */
int pviommu_queue_start(struct pviommu_queue *q, struct pviommu *v, u16 ctx)
{
	int error;

	q->shared = alloc_pages_exact(QUEUE_SIZE, GFP_KERNEL | __GFP_ZERO);
	if (!q->shared)
		return -ENOMEM;
	error = queue_set(v, ctx, q->shared);
	if (error) {
		dev_info_once(&v->pdev->dev,
			      "context %u gets no queue, its operations need doorbells: error %d\n",
			      ctx, error);
		pviommu_queue_free(q);
	}
	return error;
}

/**
 * pviommu_queue_stop() - take a queue away from the device
 * @v: the device
 * @ctx: the queue's context; nobody stores anything there any more
 *
 * What is in it runs first, unless it is dead.
 *
 * Context: Process context.
 * Returns: 0, or an error: then the memory stays the device's.
 */
int pviommu_queue_stop(struct pviommu *v, u16 ctx)
{
	int error = queue_set(v, ctx, NULL);

	if (error)
		dev_err(&v->pdev->dev,
			"context %u: its queue cannot be taken away: error %d\n",
			ctx, error);
	return error;
}

/**
 * pviommu_queue_free() - free the memory of a queue
 * @q: the queue, which the device has forgotten, with its context or without
 */
void pviommu_queue_free(struct pviommu_queue *q)
{
	if (q->shared)
		free_pages_exact(q->shared, QUEUE_SIZE);
	q->shared = NULL;
}

/**
 * pviommu_queue_run() - have everything run that was published
 * @q: the queue
 * @v: the device
 * @own: as for pviommu_ring()
 *
 * Context: Any; the domain's lock is held.
 * Returns: whether it did; if not, the queue is dead, or the device at fault.
 */
bool pviommu_queue_run(struct pviommu_queue *q, struct pviommu *v,
		       struct pviommu_block *own)
{
	u32 head = READ_ONCE(q->shared->head), before;
	u64 now, since = ktime_get_mono_fast_ns();

	while (head != q->tail) {
		if (pviommu_queue_dead(q))
			return false;
		before = head;
		pviommu_ring(v, own);
		head = READ_ONCE(q->shared->head);
		now = ktime_get_mono_fast_ns();
		/* It may be busy with one operation, or other queues. */
		if (head != before)
			since = now;
		else if (now - since > PVIOMMU_IDLE_NS)
			return false;
	}
	return true;
}

/**
 * pviommu_queue_failed() - look at the operations that ran
 * @q: the queue
 * @op: where to copy one that failed
 *
 * Goes on where it was the last time. When there is no more to look at, their
 * slots can be used again.
 *
 * Context: Any; the domain's lock is held.
 * Returns: whether there is one that failed.
 */
bool pviommu_queue_failed(struct pviommu_queue *q, struct xen_iommu_op *op)
{
	/* Failures are stored before. */
	u32 head = virt_load_acquire(&q->shared->head);
	const struct xen_iommu_op *slot;

	/* A head beyond the tail is wrong. */
	if (head - q->seen > q->tail - q->seen)
		return false;

	if (READ_ONCE(q->shared->errors) == q->errors)
		q->seen = head;
	while (q->seen != head) {
		slot = &q->shared->ops[q->seen++ % PVIOMMU_QUEUE_OPS];
		if (slot->status) {
			WRITE_ONCE(q->errors, q->errors + 1);
			*op = *slot;
			return true;
		}
	}
	return false;
}
