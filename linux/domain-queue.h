/* SPDX-License-Identifier: GPL-2.0 */
/*
 * xen-pviommu: operations of a domain in its queue
 *
 * Each map and unmap of the DMA API comes through here, so it is inline. All of
 * it is under the domain's lock, but for domain_queue_runs().
 */

#ifndef XEN_PVIOMMU_DOMAIN_QUEUE_H
#define XEN_PVIOMMU_DOMAIN_QUEUE_H

#include "domain.h"

/*
 * The longest range that goes to the queue, and the room it needs there: in
 * operations of as many frames as they can have, and with a flush behind.
 */
#define QUEUE_PARTS	8
#define QUEUE_RANGE	(QUEUE_PARTS * XEN_IOMMU_QUEUE_MAX_FRAMES)
#define QUEUE_ROOM	(QUEUE_PARTS + 1)

/*
 * Whether the device runs by itself what this CPU has queued. Failures are not
 * looked for.
 */
static inline bool domain_queue_runs(const struct pviommu_domain *d)
{
	/* Either we see the flag, or the device sees the tail. */
	virt_mb();
	return likely(!READ_ONCE(d->queue.shared->flags));
}

/*
 * Store operation @n of the queue. All have their fields where a map has them,
 * so this is a store for each of four words; status 0 is among them.
 */
static inline void domain_queue_store(struct pviommu_domain *d, u32 n, u16 op,
				      u16 flags, u64 bfn, u64 gfn, u16 domid,
				      u32 nr)
{
	u64 *words = pviommu_queue_slot(&d->queue, n);

	words[0] = op | (u32)flags << 16;
	words[1] = bfn;
	words[2] = gfn;
	words[3] = domid | (u32)d->ctx << 16 | (u64)nr << 32;
}

/* A map of at most QUEUE_RANGE frames, published. */
static inline void domain_queue_map(struct pviommu_domain *d, u64 bfn, u64 gfn,
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

/*
 * An unmap of at most QUEUE_RANGE frames. Returns the tail behind it, for the
 * caller to publish.
 */
static inline u32 domain_queue_unmap(struct pviommu_domain *d, u64 bfn, u64 nr)
{
	u32 part, n = d->queue.tail;

	for (;;) {
		part = min_t(u64, nr, XEN_IOMMU_QUEUE_MAX_FRAMES);
		/* Frames may be missing: their maps failed, or pages left. */
		domain_queue_store(d, n++, XEN_IOMMUOP_unmap,
				   XEN_IOMMUOP_unmap_holes, bfn, 0, 0, part);
		nr -= part;
		if (likely(!nr))
			return n;
		bfn += part;
	}
}

/* A flush at @n, published with what was stored before it. */
static inline void domain_queue_flush(struct pviommu_domain *d, u32 n, u64 bfn,
				      u32 nr)
{
	domain_queue_store(d, n, XEN_IOMMUOP_flush, 0, bfn, 0, 0, nr);
	pviommu_queue_publish(&d->queue, n + 1);
}

static inline void domain_queue_flush_all(struct pviommu_domain *d, u32 n)
{
	domain_queue_flush(d, n, XEN_IOMMU_FLUSH_ALL, 0);
	d->unflushed = false;
	d->waiting = 0;
}

#endif /* XEN_PVIOMMU_DOMAIN_QUEUE_H */
