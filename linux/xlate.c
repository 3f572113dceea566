// SPDX-License-Identifier: GPL-2.0
/*
 * Cached translations: all but the inline part of each map and unmap
 */

#include <linux/minmax.h>

#include "xlate.h"

/* Frames of a run that are cached one by one as well, for the next lookups. */
#define XLATE_AHEAD	64

/* Sets [@set, @end): forget what is in [@bfn, @bfn + @nr). */
static void xlate_clear(struct pviommu_xlate *x, unsigned int set,
			unsigned int end, u64 bfn, u64 nr)
{
	for_each_set_bit_from(set, x->used, end) {
		u64 *way, left = 0;

		for (way = x->frames[set]; way < x->frames[set + 1]; way++) {
			u64 b = (*way >> XLATE_GFN_BITS) * XLATE_SETS + set;

			if (*way && b - bfn < nr)
				WRITE_ONCE(*way, 0);
			left |= *way;
		}
		if (!left)
			__clear_bit(set, x->used);
	}
}

/* Keep the part of the run behind the range, or the part before it. */
static void xlate_cut_run(struct pviommu_xlate *x, u64 bfn, u64 nr)
{
	u64 end = x->bfn + x->nr;

	if (bfn >= end || bfn + nr <= x->bfn)
		return;
	if (bfn + nr < end) {
		x->gfn += bfn + nr - x->bfn;
		x->bfn = bfn + nr;
		x->nr = end - x->bfn;
	} else {
		x->nr = bfn > x->bfn ? bfn - x->bfn : 0;
	}
}

/**
 * pviommu_xlate_remove() - forget where a range led
 * @x: the cache; the domain's lock is held
 * @bfn: where the range starts
 * @nr: its length, in frames
 */
void pviommu_xlate_remove(struct pviommu_xlate *x, u64 bfn, u64 nr)
{
	unsigned int set = bfn % XLATE_SETS;
	u64 end = set + min_t(u64, nr, XLATE_SETS);

	x->removals++;
	xlate_cut_run(x, bfn, nr);
	xlate_clear(x, set, min_t(u64, end, XLATE_SETS), bfn, nr);
	if (end > XLATE_SETS)
		xlate_clear(x, 0, end - XLATE_SETS, bfn, nr);
}

/**
 * pviommu_xlate_add_run() - the device said where a range leads
 * @x: the cache; the domain's lock is held
 * @bfn: where the range starts
 * @gfn: where it leads
 * @nr: its length, in frames
 */
void pviommu_xlate_add_run(struct pviommu_xlate *x, u64 bfn, u64 gfn, u64 nr)
{
	u64 i;

	for (i = 0; i < nr && i < XLATE_AHEAD; i++)
		xlate_add(x, bfn + i, gfn + i);
	x->bfn = bfn;
	x->gfn = gfn;
	x->nr = nr;
}
