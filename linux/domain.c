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
 * The DMA API does not wait for statuses. It maps RAM that is present, and the
 * device says when room is short. A map that fails all the same is found later;
 * from then on the domain uses the other ways.
 *
 * Other maps go to the batch (batch.c), an array that one doorbell runs when a
 * caller needs it done. It is for domains outside of the DMA API, whose callers
 * are told which maps failed; for maps of what is not RAM; and for times when
 * the queue needs doorbells.
 *
 *   map_pages      adds          iotlb_sync_map   sends
 *   unmap_pages
 *     in lazy mode adds          flush_iotlb_all  sends, with a flush of the
 *                                                 whole context at the end
 *
 * The callers of other unmaps, and of look-ups, wait for the result (repair.c).
 * The lock is held to run the operations before them, and not during their own
 * doorbells.
 *
 * A doorbell runs the queue before the batch, and nothing is queued while the
 * batch holds operations. So all run in the order of the calls.
 *
 * In lazy mode the core calls flush_iotlb_all() alone, after many unmaps, and
 * does not use an IOVA again before. So unmaps may wait, or run early with a
 * map.
 */

#include <linux/delay.h>
#include <linux/errno.h>
#include <linux/mm.h>

#include "domain-queue.h"

/* How often, and how long apart, a map is tried again whose page is missing. */
#define MAP_TRIES	100
#define MAP_WAIT_US	20

/* Run what is in queue and batch, and use the queue again if nothing failed. */
static noinline bool domain_use_queue(struct pviommu_domain *d, u64 nr)
{
	struct pviommu_queue *q = &d->queue;

	domain_leave_queue(d);
	if (!q->shared || nr > QUEUE_RANGE)
		return false;
	pviommu_domain_queue_look(d);
	if (d->way == PVIOMMU_WAY_SYNCHRONOUS || READ_ONCE(q->shared->flags))
		return false;
	if (!pviommu_queue_room(q, QUEUE_ROOM))
		pviommu_domain_queue_run(d);
	pviommu_batch_send(d);
	if (d->way == PVIOMMU_WAY_SYNCHRONOUS || d->nr_failures || d->nr_again)
		return false;
	/* For pviommu_domain_sync_map(): the batch is done. */
	smp_store_release(&d->way, PVIOMMU_WAY_QUEUE);
	return true;
}

/*
 * Whether a range of @nr frames is to be queued, and a flush behind it. If not,
 * it is for the batch.
 */
static bool domain_queue_ready(struct pviommu_domain *d, u64 nr)
{
	return likely(d->way == PVIOMMU_WAY_QUEUE && nr <= QUEUE_RANGE &&
		      pviommu_queue_room(&d->queue, QUEUE_ROOM)) ||
	       domain_use_queue(d, nr);
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

static noinline void domain_map(struct pviommu_domain *d, u64 bfn, u64 gfn,
				u64 nr, u16 map_flags)
{
	pviommu_again_try(d, bfn, nr, true);
	pviommu_failures_take(d, bfn, nr);
	pviommu_batch_map(d, bfn, gfn, nr, map_flags);
}

/**
 * pviommu_domain_map_pages() - map a range
 * @domain: the domain
 * @iova: where to, in bytes
 * @paddr: what, in bytes
 * @pgsize: in how large pages; it does not matter
 * @pgcount: how many of these
 * @prot: IOMMU_READ, IOMMU_WRITE, IOMMU_MMIO
 * @gfp: not used
 * @mapped: where to add how many bytes were mapped
 *
 * The map_pages() of paging domains. The range may be mapped when
 * pviommu_domain_sync_map() has returned, and not before.
 *
 * Returns: 0 or an error: nothing was mapped.
 */
int pviommu_domain_map_pages(struct iommu_domain *domain, unsigned long iova,
			     phys_addr_t paddr, size_t pgsize, size_t pgcount,
			     int prot, gfp_t gfp, size_t *mapped)
{
	struct pviommu_domain *d = to_pviommu_domain(domain);
	u16 map_flags = prot & IOMMU_WRITE ? 0 : XEN_IOMMUOP_map_readonly;
	u64 bfn = PVIOMMU_BFN(iova), gfn = PVIOMMU_BFN(paddr);
	size_t size = pgsize * pgcount;
	u64 nr = PVIOMMU_BFN(size);
	unsigned long flags;

	if (!(prot & (IOMMU_READ | IOMMU_WRITE)))
		return -EINVAL;

	flags = domain_lock(d);
	xlate_add(&d->xlate, bfn, gfn);
	/* What is not RAM may fail. */
	if (likely(!(prot & IOMMU_MMIO) && domain_queue_ready(d, nr)))
		domain_queue_map(d, bfn, gfn, nr, map_flags);
	else
		domain_map(d, bfn, gfn, nr, map_flags);
	domain_unlock(d, flags);

	*mapped = size;
	return 0;
}

static noinline int domain_sync_map(struct pviommu_domain *d,
				    unsigned long iova, size_t size)
{
	unsigned long flags = domain_lock(d);
	int error;

	pviommu_batch_send(d);
	pviommu_domain_queue_attend(d);
	error = domain_map_error(d, PVIOMMU_BFN(iova), PVIOMMU_BFN(size),
				 &flags);
	domain_unlock(d, flags);
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

	/* A map that was not queued was in a batch, which has run. */
	if (likely(smp_load_acquire(&d->way) == PVIOMMU_WAY_QUEUE &&
		   domain_queue_runs(d)))
		return 0;
	return domain_sync_map(d, iova, size);
}

/*
 * Unmap a range without the queue, and flush it. No other caller uses these
 * IOVAs, so this needs no lock; but a translation of them may be cached
 * meanwhile, and is removed at the end.
 */
static noinline u64 domain_unmap(struct pviommu_domain *d, u64 bfn, u64 nr)
{
	struct xen_iommu_op complaint = {};
	unsigned long flags;
	u64 unmapped;

	flags = domain_lock(d);
	pviommu_domain_queue_run(d);
	pviommu_batch_send(d);
	pviommu_again_try(d, bfn, nr, true);
	pviommu_failures_take(d, bfn, nr);
	domain_unlock(d, flags);

	unmapped = pviommu_unmap_now(d, bfn, nr, &complaint);

	flags = domain_lock(d);
	xlate_remove(&d->xlate, bfn, nr);
	if (unlikely(complaint.op))
		domain_complain(d, &complaint);
	domain_unlock(d, flags);
	return unmapped;
}

/**
 * pviommu_domain_unmap_pages() - unmap a range
 * @domain: the domain
 * @iova: where it starts, in bytes
 * @pgsize: in how large pages; it does not matter
 * @pgcount: how many of these
 * @gather: whether the flush is left to pviommu_domain_flush_iotlb_all()
 *
 * The unmap_pages() of paging domains. What the DMA API unmaps is what one of
 * its maps has mapped, and all of it is removed. Other callers are told how
 * much was mapped.
 *
 * Returns: how many bytes.
 */
size_t pviommu_domain_unmap_pages(struct iommu_domain *domain,
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
		if (!lazy) {
			domain_queue_flush(d, n, bfn, nr);
		} else {
			/* It may run at any time before the flush of the context. */
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

/**
 * pviommu_domain_flush_iotlb_all() - flush what was unmapped
 * @domain: the domain
 */
void pviommu_domain_flush_iotlb_all(struct iommu_domain *domain)
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
	/* Also if an unmap has queued the flush already. */
	pviommu_domain_queue_attend(d);
	domain_unlock(d, flags);
}

/**
 * pviommu_domain_iotlb_sync() - see to it that queued flushes run
 * @domain: the domain
 * @gather: not used: each unmap brings its flush, or has waited for it
 */
void pviommu_domain_iotlb_sync(struct iommu_domain *domain,
			       struct iommu_iotlb_gather *gather)
{
	struct pviommu_domain *d = to_pviommu_domain(domain);
	struct pviommu_queue *q = &d->queue;
	unsigned long flags;

	if (!q->shared || READ_ONCE(q->abandoned))
		return;
	/* By now the device may have run the queue: look for failures. */
	if (likely(domain_queue_runs(d) &&
		   READ_ONCE(q->shared->errors) == READ_ONCE(q->errors)))
		return;
	flags = domain_lock(d);
	pviommu_domain_queue_attend(d);
	domain_unlock(d, flags);
}

/*
 * All of the run that the device returns is cached, as lookups tend to go on
 * with the next page. The doorbell needs no lock; if a translation was removed
 * meanwhile, nothing is cached.
 */
static noinline phys_addr_t domain_lookup(struct pviommu_domain *d,
					  dma_addr_t iova)
{
	u64 bfn = PVIOMMU_BFN(iova), gfn, removals;
	unsigned long flags = domain_lock(d);
	struct xen_iommu_op op;
	bool abandoned;

	if (xlate_find_run(&d->xlate, bfn, &gfn)) {
		domain_unlock(d, flags);
		return PVIOMMU_ADDR(gfn) | offset_in_page(iova);
	}
	do {
		pviommu_batch_send(d);
		removals = d->xlate.removals;
		abandoned = d->queue.abandoned;
		domain_unlock(d, flags);

		op = op_lookup(d->ctx, bfn);
		pviommu_run_copy(d->v, &op, 1);

		/* If the queue was dead, its operations had not run: ask again. */
		flags = domain_lock(d);
		pviommu_domain_queue_attend(d);
	} while (unlikely(d->queue.abandoned != abandoned));
	gfn = op.u.lookup.gfn;
	if (!op.status && d->xlate.removals == removals)
		pviommu_xlate_add_run(&d->xlate, bfn, gfn,
				      max(op.u.lookup.nr_frames, 1U));
	domain_unlock(d, flags);
	return op.status ? 0 : PVIOMMU_ADDR(gfn) | offset_in_page(iova);
}

/**
 * pviommu_domain_iova_to_phys() - look up an address
 * @domain: the domain
 * @iova: the address, in bytes
 *
 * Returns: where it leads, in bytes, or 0.
 */
phys_addr_t pviommu_domain_iova_to_phys(struct iommu_domain *domain,
					dma_addr_t iova)
{
	struct pviommu_domain *d = to_pviommu_domain(domain);
	u64 gfn = xlate_find(&d->xlate, PVIOMMU_BFN(iova));

	if (unlikely(!gfn))
		return domain_lookup(d, iova);
	return PVIOMMU_ADDR(gfn) | offset_in_page(iova);
}
