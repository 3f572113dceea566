// SPDX-License-Identifier: GPL-2.0
/*
 * A domain is a context: map, unmap, flush and look up in it
 *
 * Operations take one of three ways. A domain of the DMA API has a queue
 * (queue.c), where the device finds them before a device's access needs them:
 *
 *   map_pages      queues        iotlb_sync_map   sees to it that they run
 *   unmap_pages    queues, with  iotlb_sync       the same
 *                  a flush
 *     in lazy mode queues        flush_iotlb_all  queues a flush of the context
 *
 * Nobody waits for statuses. A map of the DMA API is of RAM that is there, and
 * the device says when there is little room. One that fails all the same is
 * found later, and then the domain takes the other ways from there on.
 *
 * Maps go to the batch (batch.c), an array which goes out with one doorbell when
 * somebody needs it done. It is for domains of others, who are told what failed;
 * for maps of what is not RAM; and for when the queue does not run by itself.
 *
 *   map_pages      adds          iotlb_sync_map   sends
 *   unmap_pages
 *     in lazy mode adds          flush_iotlb_all  sends, with a flush of the
 *                                                 whole context at the end
 *
 * Other unmaps, and look-ups, are for callers who wait for what became of them
 * (repair.c). They need the lock for what is before them, and not for their own
 * doorbells.
 *
 * A doorbell runs the queue before the batch; and nothing is queued while
 * anything is in the batch. So all run in the order they came in.
 *
 * In lazy mode the core calls flush_iotlb_all() alone, after many unmaps, and
 * does not use an IOVA again before; so unmaps may wait, or run early with
 * somebody's map.
 */

#include <linux/bitmap.h>
#include <linux/delay.h>
#include <linux/errno.h>
#include <linux/gfp.h>
#include <linux/list.h>
#include <linux/mm.h>
#include <linux/seq_file.h>

#include "domain.h"

/*
 * The longest range that goes to the queue, and the room it needs there: in
 * operations of as many frames as they can have, and with a flush behind.
 */
#define QUEUE_PARTS	8
#define QUEUE_RANGE	(QUEUE_PARTS * XEN_IOMMU_QUEUE_MAX_FRAMES)
#define QUEUE_ROOM	(QUEUE_PARTS + 1)

/*
 * How often, and how long apart, its mapper tries a map again whose page is not
 * here.
 */
#define MAP_TRIES	100
#define MAP_WAIT_US	20

static struct pviommu_domain *to_pviommu_domain(struct iommu_domain *domain)
{
	return container_of(domain, struct pviommu_domain, domain);
}

static const char *op_name(unsigned int op)
{
	switch (op) {
	case XEN_IOMMUOP_map:
		return "map";
	case XEN_IOMMUOP_unmap:
		return "unmap";
	case XEN_IOMMUOP_flush:
		return "flush";
	default:
		return "lookup";
	}
}

static unsigned long domain_lock(struct pviommu_domain *d)
	__acquires(&d->lock)
{
	unsigned long flags;

	spin_lock_irqsave(&d->lock, flags);
	return flags;
}

static noinline void domain_unlock_complain(struct pviommu_domain *d,
					    unsigned long flags)
	__releases(&d->lock)
{
	struct xen_iommu_op complaint = d->complaint;

	d->complaint.op = 0;
	spin_unlock_irqrestore(&d->lock, flags);

	if (complaint.op == XEN_IOMMUOP_set_queue) {
		dev_err(&d->v->pdev->dev,
			"context %u: its queue does not run, and is not used any more\n",
			d->ctx);
		return;
	}

	/* Maps, unmaps and flushes have their BFN and count in one place. */
	dev_err_ratelimited(&d->v->pdev->dev,
			    "context %u: %s of %u frames at BFN %#llx: error %d\n",
			    d->ctx, op_name(complaint.op),
			    complaint.u.unmap.nr_frames,
			    (unsigned long long)complaint.u.unmap.bfn,
			    complaint.status);
}

static void domain_unlock(struct pviommu_domain *d, unsigned long flags)
	__releases(&d->lock)
{
	if (unlikely(d->complaint.op))
		domain_unlock_complain(d, flags);
	else
		spin_unlock_irqrestore(&d->lock, flags);
}

/* The queue */

/* From here on all goes to the batch; what is queued already will run. */
static void domain_be_careful(struct pviommu_domain *d)
{
	d->careful = true;
	WRITE_ONCE(d->direct, false);
}

static void domain_queue_lost(struct pviommu_domain *d)
{
	d->queue.lost = true;
	domain_be_careful(d);
	d->complaint.op = XEN_IOMMUOP_set_queue;
	/* If it is not dead, the device may run it still. */
	if (pviommu_queue_dead(&d->queue))
		pviommu_batch_run_dead(d);
}

/*
 * See what failed of what ran. A map that failed does so too late to repair
 * it: its user may have done with it.
 */
static void domain_queue_look(struct pviommu_domain *d)
{
	struct xen_iommu_op op;

	while (pviommu_queue_failed(&d->queue, &op)) {
		domain_complain(d, &op);
		if (op.op != XEN_IOMMUOP_map)
			continue;
		domain_be_careful(d);
		pviommu_xlate_remove(&d->xlate, op.u.map.bfn, op.u.map.nr_frames);
	}
}

/**
 * pviommu_domain_run_queue() - have run what is in the queue
 * @d: the domain; its lock is held
 *
 * By the device; or, if that has given the queue up, without it.
 */
void pviommu_domain_run_queue(struct pviommu_domain *d)
{
	if (!d->queue.shared || d->queue.lost)
		return;
	if (!pviommu_queue_run(&d->queue, d->v, d->block))
		domain_queue_lost(d);
	domain_queue_look(d);
}

/* The same, if the device does not do so by itself. */
static void domain_queue_attend(struct pviommu_domain *d)
{
	struct pviommu_queue *q = &d->queue;
	u32 flags;

	lockdep_assert_held(&d->lock);

	if (!q->shared || READ_ONCE(q->lost))
		return;
	/* After what was queued, by whichever CPU. */
	virt_mb();
	flags = READ_ONCE(q->shared->flags);
	if (flags)
		WRITE_ONCE(d->direct, false);
	if (flags & XEN_IOMMU_QUEUE_dead ||
	    (flags & XEN_IOMMU_QUEUE_doorbell &&
	     !pviommu_queue_run(q, d->v, d->block)))
		domain_queue_lost(d);
	domain_queue_look(d);
}

/*
 * Whether the device runs what this CPU had queued before, and by itself; what
 * went wrong is not looked for. Without the lock.
 */
static bool domain_queue_runs(const struct pviommu_domain *d)
{
	/* Either we see the flag, or the device sees the tail. */
	virt_mb();
	return likely(!READ_ONCE(d->queue.shared->flags));
}

static noinline bool domain_queue_ready_slow(struct pviommu_domain *d, u64 nr)
{
	struct pviommu_queue *q = &d->queue;

	WRITE_ONCE(d->direct, false);
	if (!q->shared || nr > QUEUE_RANGE)
		return false;
	domain_queue_look(d);
	if (d->careful || READ_ONCE(q->shared->flags))
		return false;
	if (!pviommu_queue_room(q, QUEUE_ROOM))
		pviommu_domain_run_queue(d);
	pviommu_batch_send(d);
	if (d->careful || d->nr_failures || d->nr_again)
		return false;
	/* Whoever reads it knows that the batch is done. */
	smp_store_release(&d->direct, true);
	return true;
}

/*
 * Whether a range of @nr frames is to be queued, and a flush behind it. If not,
 * it is for the batch.
 */
static bool domain_queue_ready(struct pviommu_domain *d, u64 nr)
{
	return likely(d->direct && nr <= QUEUE_RANGE &&
		      pviommu_queue_room(&d->queue, QUEUE_ROOM)) ||
	       domain_queue_ready_slow(d, nr);
}

/*
 * Store operation @n of the queue. All have their fields where a map has them,
 * so this is a store for each of four words; status 0 is among them.
 */
static void domain_queue_store(struct pviommu_domain *d, u32 n, u16 op,
			       u16 flags, u64 bfn, u64 gfn, u16 domid, u32 nr)
{
	u64 *words = pviommu_queue_slot(&d->queue, n);

	words[0] = op | (u32)flags << 16;
	words[1] = bfn;
	words[2] = gfn;
	words[3] = domid | (u32)d->ctx << 16 | (u64)nr << 32;
}

static void domain_queue_map(struct pviommu_domain *d, u64 bfn, u64 gfn,
			     u64 nr, u16 flags)
{
	u32 part, n = d->queue.tail;

	for (;;) {
		part = min_t(u64, nr, XEN_IOMMU_QUEUE_MAX_FRAMES);
		domain_queue_store(d, n++, XEN_IOMMUOP_map, flags, bfn, gfn,
				   XEN_IOMMU_DOMID_SELF, part);
		nr -= part;
		if (likely(!nr))
			break;
		bfn += part;
		gfn += part;
	}
	pviommu_queue_publish(&d->queue, n);
}

/* Returns where to go on: it publishes nothing yet. */
static u32 domain_queue_unmap(struct pviommu_domain *d, u64 bfn, u64 nr)
{
	u32 part, n = d->queue.tail;

	for (;;) {
		part = min_t(u64, nr, XEN_IOMMU_QUEUE_MAX_FRAMES);
		/* Holes: maps that failed, and pages that were taken away. */
		domain_queue_store(d, n++, XEN_IOMMUOP_unmap,
				   XEN_IOMMUOP_unmap_holes, bfn, 0, 0, part);
		nr -= part;
		if (likely(!nr))
			return n;
		bfn += part;
	}
}

static void domain_queue_flush(struct pviommu_domain *d, u32 n, u64 bfn, u32 nr)
{
	domain_queue_store(d, n, XEN_IOMMUOP_flush, 0, bfn, 0, 0, nr);
	pviommu_queue_publish(&d->queue, n + 1);
}

static void domain_queue_flush_all(struct pviommu_domain *d, u32 n)
{
	domain_queue_flush(d, n, XEN_IOMMU_FLUSH_ALL, 0);
	d->unflushed = false;
	d->waiting = 0;
}

/* The IOMMU API */

/*
 * The error of maps in a range. The lock is released while pages come back, and
 * interrupts are as the caller has them.
 */
static int domain_map_error(struct pviommu_domain *d, u64 bfn, u64 nr,
			    unsigned long *flags)
	__must_hold(&d->lock)
{
	unsigned int tries = 0;

	while (unlikely(d->nr_again) &&
	       pviommu_again_try(d, bfn, nr, tries == MAP_TRIES)) {
		domain_unlock(d, *flags);
		udelay(MAP_WAIT_US);
		*flags = domain_lock(d);
		tries++;
	}
	return pviommu_failures_take(d, bfn, nr);
}

static noinline int domain_map(struct pviommu_domain *d, u64 bfn, u64 gfn,
			       u64 nr, u16 map_flags, bool at_once,
			       unsigned long *flags)
	__must_hold(&d->lock)
{
	pviommu_again_try(d, bfn, nr, true);
	pviommu_failures_take(d, bfn, nr);
	pviommu_batch_map(d, bfn, gfn, nr, map_flags);
	/*
	 * Where the core does not ask for errors later, they have to come out
	 * now, at the price of a doorbell for each piece of a scatterlist.
	 * The DMA API pays it only where a map can be expected to fail: what
	 * it maps else is RAM that is there, and there is room for it.
	 */
	if (PVIOMMU_SYNC_MAP_REPORTS ||
	    (iommu_is_dma_domain(&d->domain) && !d->careful && !at_once))
		return 0;
	pviommu_batch_send(d);
	return domain_map_error(d, bfn, nr, flags);
}

static int pviommu_map_pages(struct iommu_domain *domain, unsigned long iova,
			     phys_addr_t paddr, size_t pgsize, size_t pgcount,
			     int prot, gfp_t gfp, size_t *mapped)
{
	struct pviommu_domain *d = to_pviommu_domain(domain);
	u16 map_flags = prot & IOMMU_WRITE ? 0 : XEN_IOMMUOP_map_readonly;
	u64 bfn = PVIOMMU_BFN(iova), gfn = PVIOMMU_BFN(paddr);
	size_t size = pgsize * pgcount;
	u64 nr = PVIOMMU_BFN(size);
	unsigned long flags;
	int error = 0;
	bool at_once;

	if (!(prot & (IOMMU_READ | IOMMU_WRITE)))
		return -EINVAL;

	flags = domain_lock(d);
	xlate_add(&d->xlate, bfn, gfn);
	at_once = !frames_add(d, nr) || prot & IOMMU_MMIO;
	if (likely(!at_once && domain_queue_ready(d, nr)))
		domain_queue_map(d, bfn, gfn, nr, map_flags);
	else
		error = domain_map(d, bfn, gfn, nr, map_flags, at_once, &flags);
	domain_unlock(d, flags);

	if (!error)
		*mapped = size;
	return error;
}

static noinline int domain_sync_map(struct pviommu_domain *d,
				    unsigned long iova, size_t size)
{
	unsigned long flags = domain_lock(d);
	int error;

	pviommu_batch_send(d);
	domain_queue_attend(d);
	error = domain_map_error(d, PVIOMMU_BFN(iova), PVIOMMU_BFN(size),
				 &flags);
	if (!PVIOMMU_SYNC_MAP_REPORTS && error)
		domain_be_careful(d);
	domain_unlock(d, flags);

	if (!PVIOMMU_SYNC_MAP_REPORTS && error)
		dev_err_ratelimited(&d->v->pdev->dev,
				    "context %u: map of %#zx bytes at %#lx failed, and this kernel cannot tell the driver: error %d\n",
				    d->ctx, size, iova, error);
	return error;
}

/**
 * pviommu_domain_sync_map() - have what was mapped in a range take effect
 * @domain: the domain
 * @iova: where the range starts, in bytes
 * @size: its length, in bytes
 *
 * Returns: the error of a map in it that failed.
 */
int pviommu_domain_sync_map(struct iommu_domain *domain, unsigned long iova,
			    size_t size)
{
	struct pviommu_domain *d = to_pviommu_domain(domain);

	/* What was not queued was in a batch that is done. */
	if (likely(smp_load_acquire(&d->direct)) && domain_queue_runs(d))
		return 0;
	return domain_sync_map(d, iova, size);
}

/*
 * Unmap a range that is not queued, and flush it. The caller's IOVAs are nobody
 * else's, so this needs no lock; but what is cached meanwhile must not stay.
 */
static noinline u64 domain_unmap(struct pviommu_domain *d, u64 bfn, u64 nr)
{
	struct xen_iommu_op complaint = {};
	unsigned long flags;
	u64 unmapped;

	flags = domain_lock(d);
	pviommu_domain_run_queue(d);
	pviommu_batch_send(d);
	pviommu_again_try(d, bfn, nr, true);
	pviommu_failures_take(d, bfn, nr);
	domain_unlock(d, flags);

	unmapped = pviommu_unmap_now(d, bfn, nr, &complaint);

	flags = domain_lock(d);
	xlate_remove(&d->xlate, bfn, nr);
	frames_remove(d, unmapped);
	if (unlikely(complaint.op))
		domain_complain(d, &complaint);
	domain_unlock(d, flags);
	return unmapped;
}

/*
 * What the DMA API unmaps is what one of its maps has mapped, and all of it is
 * gone. Others are told how much was there.
 */
static size_t pviommu_unmap_pages(struct iommu_domain *domain,
				  unsigned long iova, size_t pgsize,
				  size_t pgcount,
				  struct iommu_iotlb_gather *gather)
{
	struct pviommu_domain *d = to_pviommu_domain(domain);
	bool lazy = iommu_iotlb_gather_queued(gather);
	size_t size = pgsize * pgcount;
	u64 bfn = PVIOMMU_BFN(iova);
	u64 nr = PVIOMMU_BFN(size);
	unsigned long flags;
	u32 n;

	if (!iommu_is_dma_domain(domain))
		return PVIOMMU_ADDR(domain_unmap(d, bfn, nr));

	flags = domain_lock(d);
	if (likely(domain_queue_ready(d, nr))) {
		xlate_remove(&d->xlate, bfn, nr);
		n = domain_queue_unmap(d, bfn, nr);
		frames_remove(d, nr);
		if (!lazy) {
			domain_queue_flush(d, n, bfn, nr);
		} else {
			/* When it runs does not matter, until the whole flush. */
			d->unflushed = true;
			d->waiting += nr;
			if (unlikely(d->waiting >= FLUSH_ALONG))
				domain_queue_flush_all(d, n);
			else
				pviommu_queue_publish(&d->queue, n);
		}
	} else if (lazy) {
		xlate_remove(&d->xlate, bfn, nr);
		pviommu_again_try(d, bfn, nr, true);
		pviommu_failures_take(d, bfn, nr);
		pviommu_batch_unmap(d, bfn, nr);
	} else {
		domain_unlock(d, flags);
		domain_unmap(d, bfn, nr);
		return size;
	}
	domain_unlock(d, flags);
	return size;
}

static void pviommu_flush_iotlb_all(struct iommu_domain *domain)
{
	struct pviommu_domain *d = to_pviommu_domain(domain);
	unsigned long flags = domain_lock(d);
	struct xen_iommu_op op;

	if (d->unflushed) {
		if (likely(domain_queue_ready(d, 0))) {
			domain_queue_flush_all(d, d->queue.tail);
		} else {
			op = op_flush_all(d->ctx);
			d->waiting = 0;
			pviommu_batch_send_with(d, &op);
			d->unflushed = false;
		}
	}
	/* Even if a flush went along with what was unmapped last. */
	domain_queue_attend(d);
	domain_unlock(d, flags);
}

/* All that was unmapped was flushed, or is queued to be. */
static void pviommu_iotlb_sync(struct iommu_domain *domain,
			       struct iommu_iotlb_gather *gather)
{
	struct pviommu_domain *d = to_pviommu_domain(domain);
	struct pviommu_queue *q = &d->queue;
	unsigned long flags;

	if (!q->shared || READ_ONCE(q->lost))
		return;
	/* A device has had its time to run things: see whether all went well. */
	if (likely(domain_queue_runs(d) &&
		   READ_ONCE(q->shared->errors) == READ_ONCE(q->errors)))
		return;
	flags = domain_lock(d);
	domain_queue_attend(d);
	domain_unlock(d, flags);
}

/*
 * The answer is cached as far as it goes: the next to be asked for is the next.
 * The doorbell needs no lock; what was removed meanwhile must not be cached.
 */
static noinline phys_addr_t domain_lookup(struct pviommu_domain *d,
					  dma_addr_t iova)
{
	u64 bfn = PVIOMMU_BFN(iova), gfn, removals;
	unsigned long flags = domain_lock(d);
	struct xen_iommu_op op;
	bool lost;

	if (xlate_find_run(&d->xlate, bfn, &gfn)) {
		domain_unlock(d, flags);
		return PVIOMMU_ADDR(gfn) | offset_in_page(iova);
	}
	do {
		pviommu_batch_send(d);
		removals = d->xlate.removals;
		lost = d->queue.lost;
		domain_unlock(d, flags);

		op = op_lookup(d->ctx, bfn);
		pviommu_run_copy(d->v, &op, 1);

		/* If the queue is dead, this is not what it would have led to. */
		flags = domain_lock(d);
		domain_queue_attend(d);
	} while (unlikely(d->queue.lost != lost));
	gfn = op.u.lookup.gfn;
	if (!op.status && d->xlate.removals == removals)
		pviommu_xlate_add_run(&d->xlate, bfn, gfn,
				      max(op.u.lookup.nr_frames, 1U));
	domain_unlock(d, flags);
	return op.status ? 0 : PVIOMMU_ADDR(gfn) | offset_in_page(iova);
}

static phys_addr_t pviommu_iova_to_phys(struct iommu_domain *domain,
					dma_addr_t iova)
{
	struct pviommu_domain *d = to_pviommu_domain(domain);
	u64 gfn = xlate_find(&d->xlate, PVIOMMU_BFN(iova));

	if (unlikely(!gfn))
		return domain_lookup(d, iova);
	return PVIOMMU_ADDR(gfn) | offset_in_page(iova);
}

static void domain_free(struct pviommu_domain *d)
{
	pviommu_block_disown(d->v, d->block);
	pviommu_batch_free(d);
	free_pages_exact(d, sizeof(*d));
}

/**
 * pviommu_free_context() - have the device free a context
 * @v: the device
 * @ctx: the context
 *
 * One with very much in it takes many turns: as many as get something done.
 */
int pviommu_free_context(struct pviommu *v, u16 ctx)
{
	struct xen_iommu_op op = {
		.op = XEN_IOMMUOP_free_context,
		.u.context.ctx = ctx,
	};
	void __iomem *counter =
		v->regs + XEN_PVIOMMU_REG_COUNTER(XEN_PVIOMMU_COUNTER_MAPPED);
	u64 left, before = U64_MAX;

	while (pviommu_call(v, &op) == -EAGAIN) {
		left = readq(counter);
		if (left >= before)
			break;
		before = left;
	}
	return op.status;
}

/**
 * pviommu_empty_context() - unmap all of a context, and take its queue away
 * @v: the device; nothing else uses it yet
 * @ctx: the context, which is no domain's
 *
 * For the default one, which cannot be freed.
 *
 * Context: Process context.
 */
void pviommu_empty_context(struct pviommu *v, u16 ctx)
{
	struct xen_iommu_op op, flush;
	int error, failed = 0;
	u64 bfn, nr;

	if (v->features & XEN_IOMMU_FEATURE_QUEUE)
		pviommu_queue_stop(v, ctx);

	for (bfn = 0; bfn < 1ULL << v->bfn_bits; bfn += nr) {
		op = op_lookup(ctx, bfn);
		error = pviommu_call(v, &op);
		/* Without the length of the hole this could take forever. */
		nr = op.u.lookup.nr_frames;
		if ((error && error != -ENOENT) || !nr) {
			failed = error ?: -EIO;
			break;
		}
		if (error)
			continue;

		op = op_unmap(ctx, bfn, nr);
		error = pviommu_call(v, &op);
		if (error == -ENOSPC) {
			flush = op_flush_all(ctx);
			pviommu_call(v, &flush);
			error = pviommu_call(v, &op);
		}
		failed = error ?: failed;
	}
	flush = op_flush_all(ctx);
	failed = pviommu_call(v, &flush) ?: failed;
	if (failed)
		dev_err(&v->pdev->dev, "context %u cannot be emptied: error %d\n",
			ctx, failed);
}

static void pviommu_domain_free(struct iommu_domain *domain)
{
	struct pviommu_domain *d = to_pviommu_domain(domain);
	struct pviommu *v = d->v;
	int error;

	mutex_lock(&v->rids_lock);
	list_del(&d->list);
	mutex_unlock(&v->rids_lock);

	/* Takes all mappings along, and with them what is queued. */
	clear_bit(d->ctx, v->contexts);
	frames_remove(d, d->frames);
	error = pviommu_free_context(v, d->ctx);
	if (error)
		dev_err(&v->pdev->dev, "context %u cannot be freed: error %d\n",
			d->ctx, error);
	/* A dead queue the device has forgotten; no harm to say so again. */
	if (!error || (d->queue.shared && !pviommu_queue_stop(v, d->ctx)))
		pviommu_queue_free(&d->queue);
	domain_free(d);
}

/**
 * pviommu_domain_start_queue() - give a domain a queue, if it should have one
 * @domain: a domain of this driver's, with a context
 *
 * When it is about to be used: not before does it have its type. Whether there
 * is a queue then is nobody's concern.
 *
 * Context: Process context; the device's rids_lock is held.
 */
void pviommu_domain_start_queue(struct iommu_domain *domain)
{
	struct pviommu_domain *d = to_pviommu_domain(domain);
	struct pviommu_queue queue = {};
	unsigned long flags;

	lockdep_assert_held(&d->v->rids_lock);

	if (!iommu_is_dma_domain(domain) || d->queue.shared ||
	    !(d->v->features & XEN_IOMMU_FEATURE_QUEUE))
		return;
	if (pviommu_queue_start(&queue, d->v, d->ctx))
		return;
	flags = domain_lock(d);
	d->queue = queue;
	domain_unlock(d, flags);
}

/**
 * pviommu_domains_stop_queues() - have the device forget all queues
 * @v: the device
 *
 * What is queued runs before. Domains go on without, and new ones get none.
 */
void pviommu_domains_stop_queues(struct pviommu *v)
{
	struct pviommu_domain *d;
	unsigned long flags;
	int error;

	mutex_lock(&v->rids_lock);
	v->features &= ~XEN_IOMMU_FEATURE_QUEUE;
	list_for_each_entry(d, &v->domains, list) {
		if (!d->queue.shared)
			continue;
		flags = domain_lock(d);
		domain_be_careful(d);
		domain_unlock(d, flags);
		error = pviommu_queue_stop(v, d->ctx);
		flags = domain_lock(d);
		/* What was in a dead one did not run. */
		domain_queue_attend(d);
		if (!error)
			d->queue.lost = true;
		domain_unlock(d, flags);
	}
	mutex_unlock(&v->rids_lock);
}

/**
 * pviommu_domains_show_queues() - "context tail head errors flags" lines
 * @v: the device
 * @s: where to
 */
void pviommu_domains_show_queues(struct pviommu *v, struct seq_file *s)
{
	const struct xen_iommu_queue *q;
	struct pviommu_domain *d;

	mutex_lock(&v->rids_lock);
	list_for_each_entry(d, &v->domains, list) {
		q = d->queue.shared;
		if (q && !d->queue.lost)
			seq_printf(s, "%u %u %u %u %#x\n", d->ctx,
				   READ_ONCE(q->tail), READ_ONCE(q->head),
				   READ_ONCE(q->errors), READ_ONCE(q->flags));
	}
	mutex_unlock(&v->rids_lock);
}

const struct iommu_domain_ops pviommu_domain_ops = {
	.map_pages		= pviommu_map_pages,
	.unmap_pages		= pviommu_unmap_pages,
	.flush_iotlb_all	= pviommu_flush_iotlb_all,
	.iotlb_sync		= pviommu_iotlb_sync,
	.iova_to_phys		= pviommu_iova_to_phys,
	.free			= pviommu_domain_free,
	PVIOMMU_ATTACH_COMPAT
	PVIOMMU_DOMAIN_OPS_COMPAT
};

/**
 * pviommu_domain_alloc() - an empty domain, with a context of its own
 * @dev: a device that it is for, or NULL where the core does not say
 */
struct iommu_domain *pviommu_domain_alloc(struct device *dev)
{
	struct xen_iommu_op op = { .op = XEN_IOMMUOP_alloc_context };
	struct pviommu *v = pviommu_of(dev);
	struct pviommu_domain *d;
	int error;

	d = alloc_pages_exact(sizeof(*d), GFP_KERNEL | __GFP_ZERO);
	if (!d)
		return ERR_PTR(-ENOMEM);
	d->v = v;
	spin_lock_init(&d->lock);
	error = pviommu_batch_init(d);
	if (error)
		goto err_free;

	error = pviommu_call(v, &op);
	if (!error && op.u.context.ctx >= v->max_contexts)
		error = -EIO;
	if (error) {
		dev_err(&v->pdev->dev,
			"no context for another domain (%u at most, the default one included): error %d\n",
			v->max_contexts, error);
		goto err_free;
	}
	d->ctx = op.u.context.ctx;
	set_bit(d->ctx, v->contexts);
	d->block = pviommu_block_own(v);
	mutex_lock(&v->rids_lock);
	list_add_tail(&d->list, &v->domains);
	mutex_unlock(&v->rids_lock);

	/*
	 * A range of any length is one operation. Given all powers of two, the
	 * core would ask for each part of one whose length is none.
	 */
	d->domain.pgsize_bitmap = PVIOMMU_PAGE_SIZES;
	d->domain.geometry.aperture_end =
		PVIOMMU_ADDR(1ULL << v->bfn_bits) - 1;
	d->domain.geometry.force_aperture = true;
	return &d->domain;

err_free:
	domain_free(d);
	return ERR_PTR(error);
}

/**
 * pviommu_domain_ctx() - the context a domain is, or the empty default one
 * @domain: the domain, or pviommu_blocked_domain
 */
u16 pviommu_domain_ctx(struct iommu_domain *domain)
{
	if (domain == &pviommu_blocked_domain)
		return XEN_IOMMU_CTX_DEFAULT;
	return to_pviommu_domain(domain)->ctx;
}

/*
 * The default context is empty from the first modifying operation on, and
 * nothing is ever mapped there.
 */
struct iommu_domain pviommu_blocked_domain = {
	.type = IOMMU_DOMAIN_BLOCKED,
	.ops = &(const struct iommu_domain_ops) {
		PVIOMMU_ATTACH_COMPAT
		PVIOMMU_STATIC_OPS_COMPAT
	},
};
