/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * GFN index: at which BFNs, in which contexts, a GFN is mapped
 *
 * The BFN tables backwards, for all contexts at once: a page that is removed
 * is found without a walk over what is mapped. A radix tree by GFN; a run
 * that covers a slot's whole span is noted there once, whatever its length.
 *
 * Locking: none inside; the writer of the BFN tables is its only user.
 *
 * Memory: 8 bytes a guest page where single pages are mapped, in nodes of 512;
 * a page with several BFNs has them in an array, which never takes more than
 * GFN_INDEX_PLACE_BYTES for each beyond the first.
 */

#ifndef HW_XEN_PVIOMMU_GFN_INDEX_H
#define HW_XEN_PVIOMMU_GFN_INDEX_H

#include "place-set.h"

#define GFN_INDEX_BITS 40

/*
 * What the budget has for each place of a page beyond the first, and for each
 * frame of a run that is noted as one.
 */
#define GFN_INDEX_PLACE_BYTES PLACE_SET_PLACE_BYTES

typedef struct GfnIndex GfnIndex;

/* A part of what is mapped: @ctx maps [@gfn, @gfn + @nr) at @bfn. */
typedef struct GfnPlace {
    uint64_t bfn;
    uint64_t gfn;
    uint64_t nr;
    uint16_t ctx;
} GfnPlace;

/**
 * GfnIndexFunc: called with a part of what is mapped
 * @ctx: the context
 * @bfn: where [@gfn, @gfn + @nr) begins there
 *
 * Returns: false to visit no more.
 */
typedef bool GfnIndexFunc(void *opaque, uint16_t ctx, uint64_t bfn,
                          uint64_t gfn, uint64_t nr);

/** gfn_index_new: an empty index; @budget outlives it. NULL: no memory */
GfnIndex *gfn_index_new(XenPVIOMMUBudget *budget);
void gfn_index_free(GfnIndex *index);

/**
 * gfn_index_free_part: free some nodes of an index that is not in use any more
 * @max: how many at the most, arrays of places counted like nodes; returns how
 * many may still be freed
 *
 * Returns: true when the index is gone.
 */
bool gfn_index_free_part(GfnIndex *index, unsigned *max);

/** gfn_index_next: the next in a list of such; the list's owner's */
GfnIndex **gfn_index_next(GfnIndex *index);

/**
 * gfn_index_crowded: a GFN of [@gfn, @gfn + @nr) is mapped at more than @max
 * BFNs
 */
bool gfn_index_crowded(GfnIndex *index, uint64_t gfn, uint64_t nr,
                       unsigned max);

/**
 * gfn_index_most: no GFN is mapped at more BFNs than that
 *
 * There may be none that is mapped at so many.
 */
unsigned gfn_index_most(const GfnIndex *index);

/**
 * gfn_index_add: note that @ctx maps [@gfn, @gfn + @nr) at @bfn
 *
 * GFNs are below 1 << GFN_INDEX_BITS, BFNs below 1 << BFN_TABLE_MAX_BITS.
 *
 * Returns: false, with nothing noted, if the budget does not allow it, or there
 * is no memory.
 */
bool gfn_index_add(GfnIndex *index, uint64_t gfn, uint64_t nr,
                   uint16_t ctx, uint64_t bfn);

/**
 * gfn_index_split: note a run as two that meet at @gfn, which @ctx maps at @bfn
 *
 * What is noted says the same before and after. Where no run is noted that
 * reaches over @gfn, nothing is done, and it cannot fail.
 *
 * Returns: false, with nothing changed, if there is no memory.
 */
bool gfn_index_split(GfnIndex *index, uint64_t gfn, uint16_t ctx, uint64_t bfn);

/**
 * gfn_index_split_all: the same for all that is noted and reaches over @gfn
 *
 * Of many places this takes less time than one after the other.
 *
 * Returns: false if there is no memory. Some may be split then.
 */
bool gfn_index_split_all(GfnIndex *index, uint64_t gfn);

/** gfn_index_has_runs: if not, gfn_index_split() has nothing to do */
bool gfn_index_has_runs(const GfnIndex *index);

/**
 * gfn_index_extend: make @run reach over all that is noted as one with a part
 * of it
 *
 * gfn_index_split() would have nothing to do at its ends then.
 */
void gfn_index_extend(const GfnIndex *index, GfnPlace *run);

/**
 * gfn_index_remove: take back what gfn_index_add() noted, or a part of it
 *
 * Precondition: gfn_index_split() at both ends, unless they are those of what
 * was added. Takes no memory.
 */
void gfn_index_remove(GfnIndex *index, uint64_t gfn, uint64_t nr,
                      uint16_t ctx, uint64_t bfn);

/** gfn_index_places: the most places that a run of @nr frames is noted at */
uint64_t gfn_index_places(uint64_t nr);

/**
 * gfn_index_find: the lowest BFN, not below @from, at which @ctx maps @gfn
 *
 * Returns: false if there is none.
 */
bool gfn_index_find(GfnIndex *index, uint64_t gfn, uint16_t ctx, uint64_t from,
                    uint64_t *bfn);

/** gfn_index_work: slots looked at and changed so far, to bound it by */
uint64_t gfn_index_work(const GfnIndex *index);

/** gfn_index_prefetch: @gfn will be added or removed soon */
void gfn_index_prefetch(const GfnIndex *index, uint64_t gfn);

/**
 * gfn_index_first: what maps a part of [@gfn, @gfn + @nr), of its lowest GFN
 *
 * To visit all and remove each, go on from place->gfn.
 *
 * Returns: false if there is none.
 */
bool gfn_index_first(const GfnIndex *index, uint64_t gfn, uint64_t nr,
                     GfnPlace *place);

/**
 * gfn_index_foreach: visit all that maps a part of [@gfn, @gfn + @nr)
 *
 * @func must not change the index. A run may be visited in pieces.
 *
 * Returns: false if @func ended it.
 */
bool gfn_index_foreach(GfnIndex *index, uint64_t gfn, uint64_t nr,
                       GfnIndexFunc *func, void *opaque);

#endif /* HW_XEN_PVIOMMU_GFN_INDEX_H */
