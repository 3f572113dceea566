/* SPDX-License-Identifier: GPL-2.0 */
/*
 * xen-pviommu: cached translations
 *
 * dma_unmap_page() asks for the physical address each time, and VFIO for that
 * of each page, and a lookup costs a doorbell. This caches the translations
 * that were last mapped or looked up. Its size is constant: others are looked
 * up.
 *
 * Single frames are found by the low bits of their BFN, their set. An entry is
 * the other bits, and the GFN: one word, so that it can be read without a lock.
 * GFN 0 is never cached. The run that was looked up last is cached as well, of
 * any length.
 */

#ifndef XEN_PVIOMMU_XLATE_H
#define XEN_PVIOMMU_XLATE_H

#include <linux/bitmap.h>
#include <linux/bits.h>
#include <linux/compiler.h>
#include <linux/types.h>

/* Sets, a power of two, and ways in each. */
#define XLATE_SETS	1024
#define XLATE_WAYS	2

#define XLATE_GFN_BITS	38
#define XLATE_BFN_MAX	(BIT_ULL(64 - XLATE_GFN_BITS) * XLATE_SETS - 1)

/**
 * struct pviommu_xlate - the cache; written under the domain's lock
 * @bfn: where the run begins
 * @gfn: where it leads
 * @nr: its length, in frames; 0: there is none
 * @removals: counts removals: a lookup that began before one may be stale
 * @used: sets that may have something
 * @frames: single frames; read without the lock, too
 */
struct pviommu_xlate {
	u64 bfn;
	u64 gfn;
	u64 nr;
	u64 removals;
	DECLARE_BITMAP(used, XLATE_SETS);
	u64 frames[XLATE_SETS][XLATE_WAYS];
};

void pviommu_xlate_remove(struct pviommu_xlate *x, u64 bfn, u64 nr);
void pviommu_xlate_add_run(struct pviommu_xlate *x, u64 bfn, u64 gfn, u64 nr);

static inline bool xlate_is(u64 entry, u64 bfn)
{
	return entry >> XLATE_GFN_BITS == bfn / XLATE_SETS;
}

/* A frame is mapped. */
static inline void xlate_add(struct pviommu_xlate *x, u64 bfn, u64 gfn)
{
	u64 *way = x->frames[bfn % XLATE_SETS];

	if (unlikely(bfn > XLATE_BFN_MAX || gfn >> XLATE_GFN_BITS))
		return;
	/* The youngest is the first. */
	if (unlikely(way[0] && !xlate_is(way[0], bfn)))
		WRITE_ONCE(way[1], way[0]);
	/* An entry that moves is in both ways for a moment, never in none. */
	smp_store_release(&way[0], bfn / XLATE_SETS << XLATE_GFN_BITS | gfn);
	__set_bit(bfn % XLATE_SETS, x->used);
}

/* pviommu_xlate_remove(). One page leaves its bit, as the next may use the set. */
static inline void xlate_remove(struct pviommu_xlate *x, u64 bfn, u64 nr)
{
	u64 *way = x->frames[bfn % XLATE_SETS];

	if (unlikely(nr != 1 || bfn - x->bfn < x->nr)) {
		pviommu_xlate_remove(x, bfn, nr);
		return;
	}
	x->removals++;
	if (likely(xlate_is(way[0], bfn)))
		WRITE_ONCE(way[0], 0);
	if (unlikely(xlate_is(way[1], bfn)))
		WRITE_ONCE(way[1], 0);
}

/* The GFN that is cached for @bfn, or 0; without the lock too. */
static inline u64 xlate_find(const struct pviommu_xlate *x, u64 bfn)
{
	const u64 *way = x->frames[bfn % XLATE_SETS];
	/* What it replaced has moved by then. */
	u64 entry = smp_load_acquire(&way[0]);

	if (unlikely(!xlate_is(entry, bfn)))
		entry = READ_ONCE(way[1]);
	if (unlikely(!xlate_is(entry, bfn)))
		return 0;
	return entry & GENMASK_ULL(XLATE_GFN_BITS - 1, 0);
}

/* Whether @bfn is in the run: then @gfn is where it leads. */
static inline bool xlate_find_run(const struct pviommu_xlate *x, u64 bfn,
				  u64 *gfn)
{
	*gfn = x->gfn + (bfn - x->bfn);
	return bfn - x->bfn < x->nr;
}

#endif /* XEN_PVIOMMU_XLATE_H */
