/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * GFN index: at which BFNs, in which contexts, a GFN is mapped
 *
 * The BFN tables backwards, for all contexts at once: a page that goes away
 * is found without a walk over what is mapped. A radix tree by GFN; a run
 * that covers a slot's whole span is noted there once, whatever its length.
 *
 * Locking: none inside; the writer of the BFN tables is its only user.
 *
 * Memory: 8 bytes a guest page where single pages are mapped, in nodes of 512,
 * and one tree node for each further BFN of a page.
 */

#ifndef HW_XEN_PVIOMMU_GFN_INDEX_H
#define HW_XEN_PVIOMMU_GFN_INDEX_H

#define GFN_INDEX_BITS 40

typedef struct GfnIndex GfnIndex;

/**
 * GfnIndexFunc: called with a part of what is mapped
 * @ctx: the context
 * @bfn: where [@gfn, @gfn + @nr) begins there
 *
 * Returns: false to visit no more.
 */
typedef bool GfnIndexFunc(void *opaque, uint16_t ctx, uint64_t bfn,
                          uint64_t gfn, uint64_t nr);

GfnIndex *gfn_index_new(void);
void gfn_index_free(GfnIndex *index);

/**
 * gfn_index_free_part: free some nodes of an index that nobody uses any more
 * @max: how many at the most, BFNs beyond the first of a page counted like
 * nodes; returns how many may still be freed
 *
 * Returns: true when the index is gone.
 */
bool gfn_index_free_part(GfnIndex *index, unsigned *max);

/**
 * gfn_index_add: note that @ctx maps [@gfn, @gfn + @nr) at @bfn
 *
 * GFNs are below 1 << GFN_INDEX_BITS, BFNs below 1 << BFN_TABLE_MAX_BITS.
 */
void gfn_index_add(GfnIndex *index, uint64_t gfn, uint64_t nr,
                   uint16_t ctx, uint64_t bfn);

/** gfn_index_remove: take back what gfn_index_add() noted, or a part of it */
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
 * gfn_index_foreach: visit all that maps a part of [@gfn, @gfn + @nr)
 *
 * @func must not change the index. A run may be visited in pieces.
 *
 * Returns: false if @func ended it.
 */
bool gfn_index_foreach(GfnIndex *index, uint64_t gfn, uint64_t nr,
                       GfnIndexFunc *func, void *opaque);

#endif /* HW_XEN_PVIOMMU_GFN_INDEX_H */
