/* SPDX-License-Identifier: GPL-2.0 */
/*
 * xen-pviommu: what a domain is, for domain.c and the files below it, which do
 * not call it: domains.c, context.c, batch.c, domain-queue.c and repair.c
 */

#ifndef XEN_PVIOMMU_DOMAIN_H
#define XEN_PVIOMMU_DOMAIN_H

#include <linux/bitmap.h>
#include <linux/compiler.h>
#include <linux/spinlock.h>

#include "pviommu.h"
#include "xlate.h"

/*
 * Frames that wait for a flush in lazy mode before one goes along with the
 * next batch, or into the queue. It costs no doorbell; what waits costs the
 * device more the more it is.
 */
#define FLUSH_ALONG	1024

/* The longest range one operation is asked for. */
#define RANGE_MAX	BIT_ULL(31)

#define NR_FAILURES	16
#define NR_AGAIN	16

/**
 * struct pviommu_failure - a map that failed before its mapper came to ask
 * @bfn: where it starts
 * @end: where it ends, exclusive
 * @error: why, a negative errno
 *
 * The batch that held it may have been sent by another CPU.
 */
struct pviommu_failure {
	u64 bfn;
	u64 end;
	int error;
};

/**
 * enum pviommu_way - where a domain's next operation goes
 * @PVIOMMU_WAY_BATCH: into the batch, until that is sent and the queue runs
 * @PVIOMMU_WAY_QUEUE: into the queue; the batch is empty, and nothing failed
 *	there that its mapper does not know
 * @PVIOMMU_WAY_SYNCHRONOUS: into the batch, which is sent at once where a mapper
 *	has to know; for good, as a map failed too late to say so
 */
enum pviommu_way {
	PVIOMMU_WAY_BATCH,
	PVIOMMU_WAY_QUEUE,
	PVIOMMU_WAY_SYNCHRONOUS,
};

/**
 * struct pviommu_domain - a context
 * @domain: what the core knows of it
 * @v: the device
 * @ctx: its number
 * @block: its own register block, or NULL; under @lock
 * @list: in pviommu.domains
 * @lock: protects all below; taken with interrupts off, around block locks.
 *	Nothing is printed under it: a console may send through this domain.
 * @queue: its queue, if it has one
 * @way: where its next operation goes; read without @lock, too
 * @ops: BATCH_OPS operations that make the batch
 * @nr_batched: how many wait in the batch
 * @maps_batched: the last of them are maps
 * @unflushed: something was unmapped and no whole flush followed
 * @waiting: frames that wait for a flush, about
 * @frames_compat: what it has of pviommu.frames_compat; without @lock
 * @nr_failures: how many of @failures are in use
 * @failures: maps that failed and whose mapper does not know yet
 * @nr_again: how many of @again are in use
 * @again: maps whose pages are not here, to be tried again by their mappers
 * @complaint: an operation that failed and should not have, for the log
 * @xlate: cached translations
 */
struct pviommu_domain {
	struct iommu_domain domain;
	struct pviommu *v;
	u16 ctx;
	struct pviommu_block *block;
	struct list_head list;

	spinlock_t lock;
	struct pviommu_queue queue;
	enum pviommu_way way;
	struct xen_iommu_op *ops;
	unsigned int nr_batched;
	bool maps_batched;
	bool unflushed;
	u64 waiting;
	atomic64_t frames_compat;
	unsigned int nr_failures;
	struct pviommu_failure failures[NR_FAILURES];
	unsigned int nr_again;
	struct xen_iommu_op again[NR_AGAIN];
	struct xen_iommu_op complaint;
	struct pviommu_xlate xlate;
};

/**
 * struct pviommu_repair - what the repair of a batch did so far
 * @flushed: what nothing was unmapped in since: 1 the context, 2 everything
 */
struct pviommu_repair {
	unsigned int flushed;
};

static inline struct pviommu_domain *
to_pviommu_domain(struct iommu_domain *domain)
{
	return container_of(domain, struct pviommu_domain, domain);
}

/* Operations go to the batch; what is queued already runs before it. */
static inline void domain_leave_queue(struct pviommu_domain *d)
{
	if (d->way == PVIOMMU_WAY_QUEUE)
		WRITE_ONCE(d->way, PVIOMMU_WAY_BATCH);
}

static inline void domain_be_synchronous(struct pviommu_domain *d)
{
	WRITE_ONCE(d->way, PVIOMMU_WAY_SYNCHRONOUS);
}

/* Have @op in the log, when the lock is released. */
static inline void domain_complain(struct pviommu_domain *d,
				   const struct xen_iommu_op *op)
{
	if (!d->complaint.op)
		d->complaint = *op;
}

/* Operations */

static inline struct xen_iommu_op op_unmap(u16 ctx, u64 bfn, u32 nr)
{
	return (struct xen_iommu_op) {
		.op = XEN_IOMMUOP_unmap,
		.u.unmap = {
			.bfn = bfn,
			.ctx = ctx,
			.nr_frames = nr,
		},
	};
}

static inline struct xen_iommu_op op_flush(u16 ctx, u64 bfn, u32 nr)
{
	return (struct xen_iommu_op) {
		.op = XEN_IOMMUOP_flush,
		.u.flush = {
			.bfn = bfn,
			.ctx = ctx,
			.nr_frames = nr,
		},
	};
}

static inline struct xen_iommu_op op_flush_all(u16 ctx)
{
	return op_flush(ctx, XEN_IOMMU_FLUSH_ALL, 0);
}

static inline struct xen_iommu_op op_lookup(u16 ctx, u64 bfn)
{
	return (struct xen_iommu_op) {
		.op = XEN_IOMMUOP_lookup_bfn,
		.u.lookup = {
			.bfn = bfn,
			.ctx = ctx,
		},
	};
}

/* domain-queue.c */

void pviommu_domain_queue_look(struct pviommu_domain *d);
void pviommu_domain_queue_run(struct pviommu_domain *d);
void pviommu_domain_queue_attend(struct pviommu_domain *d);

/* batch.c */

int pviommu_batch_init(struct pviommu_domain *d);
void pviommu_batch_free(struct pviommu_domain *d);
void pviommu_batch_map(struct pviommu_domain *d, u64 bfn, u64 gfn, u64 nr,
		       u16 flags);
void pviommu_batch_unmap(struct pviommu_domain *d, u64 bfn, u64 nr);
void pviommu_batch_send(struct pviommu_domain *d);
void pviommu_batch_send_with(struct pviommu_domain *d, struct xen_iommu_op *op);
int pviommu_failures_take(struct pviommu_domain *d, u64 bfn, u64 nr);
bool pviommu_again_try(struct pviommu_domain *d, u64 bfn, u64 nr, bool last);

/* repair.c */

void pviommu_repair_op(struct pviommu_domain *d, struct xen_iommu_op *op,
		       struct pviommu_repair *repair);
u64 pviommu_repair_unmap(struct pviommu_domain *d, struct xen_iommu_op *op,
			 struct pviommu_repair *repair,
			 struct xen_iommu_op *complaint);
u64 pviommu_unmap_now(struct pviommu_domain *d, u64 bfn, u64 nr,
		      struct xen_iommu_op *complaint);

/* domains.c */

void pviommu_domain_unlock_complain(struct pviommu_domain *d,
				    unsigned long flags)
	__releases(&d->lock);

static inline unsigned long domain_lock(struct pviommu_domain *d)
	__acquires(&d->lock)
{
	unsigned long flags;

	spin_lock_irqsave(&d->lock, flags);
	return flags;
}

static inline void domain_unlock(struct pviommu_domain *d, unsigned long flags)
	__releases(&d->lock)
{
	if (unlikely(d->complaint.op))
		pviommu_domain_unlock_complain(d, flags);
	else
		spin_unlock_irqrestore(&d->lock, flags);
}

#endif /* XEN_PVIOMMU_DOMAIN_H */
