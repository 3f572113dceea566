/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * BFN table: which GFN a device reaches at a BFN
 *
 * A radix tree of 512-way nodes. A slot holds nothing, a child, or a leaf; a
 * leaf at level n maps 512^n frames, so that a range costs a few slots
 * however long it is. Only the BFN has to be aligned for that, the GFN not.
 * Every leaf also carries the order of the aligned block it belongs to, so
 * that one translation answers for the whole block.
 *
 * Locking: any number of readers (bfn_table_translate) in RCU critical
 * sections beside one writer; everything else is the writer's. With QEMU's
 * device that is the holder of XenPVIOMMUState.lock.
 *
 * Units: bfn, gfn and nr count frames. All ranges must lie within the table;
 * callers check what a guest gives before.
 */

#ifndef HW_XEN_PVIOMMU_BFN_TABLE_H
#define HW_XEN_PVIOMMU_BFN_TABLE_H

#include "budget.h"

#define BFN_TABLE_MIN_BITS 12
#define BFN_TABLE_MAX_BITS 40

typedef struct BfnTable BfnTable;

/* Frames that follow each other on both sides. */
typedef struct BfnRun {
    uint64_t bfn;
    uint64_t gfn;
    uint64_t nr;
    bool readonly;
} BfnRun;

typedef struct BfnTranslation {
    uint64_t gfn;
    /*
     * The frames of the naturally aligned block of 1 << order frames around
     * the BFN translate the same way, to the block of that size around gfn.
     */
    unsigned order;
    bool readonly;
} BfnTranslation;

/**
 * bfn_table_new: an empty table
 * @bfn_bits: BFNs are below 1 << @bfn_bits
 * @budget: where its memory is counted; outlives the table
 *
 * Returns: NULL if the budget does not allow it, or there is no memory.
 */
BfnTable *bfn_table_new(unsigned bfn_bits, XenPVIOMMUBudget *budget);

/**
 * bfn_table_free: give the table back once no reader can see it any more
 *
 * The caller has made it unreachable for new readers; those that still walk
 * it are waited for by RCU.
 */
void bfn_table_free(BfnTable *t);

/**
 * bfn_table_detach: the same, but bfn_table_free_part() frees its memory
 *
 * Nothing is mapped or unmapped any more. Its nodes stay in the budget until
 * they are freed.
 */
void bfn_table_detach(BfnTable *t);

/** bfn_table_next: the next in a list of detached tables; the list's owner's */
BfnTable **bfn_table_next(BfnTable *t);

/** bfn_table_quiet: no reader of a detached table is left */
bool bfn_table_quiet(const BfnTable *t);

/**
 * bfn_table_free_part: free some nodes of a detached table
 * @max: how many at the most; returns how many may still be freed
 *
 * While the table is not quiet, RCU frees them.
 *
 * Returns: true when the table is gone.
 */
bool bfn_table_free_part(BfnTable *t, unsigned *max);

/**
 * bfn_table_translate: what @bfn maps to
 *
 * Lock-free; within an RCU critical section.
 *
 * Returns: false if it is not mapped.
 */
bool bfn_table_translate(const BfnTable *t, uint64_t bfn, BfnTranslation *out);

/** bfn_table_range_empty: true if nothing is mapped in [@bfn, @bfn + @nr) */
bool bfn_table_range_empty(const BfnTable *t, uint64_t bfn, uint64_t nr);

/**
 * bfn_table_next_run: the first run that starts in [@bfn, @end)
 *
 * A run ends where either side stops being contiguous, where readonly
 * changes, and at @end. A run that began before @bfn is reported from @bfn.
 *
 * Returns: false if nothing is mapped there.
 */
bool bfn_table_next_run(const BfnTable *t, uint64_t bfn, uint64_t end,
                        BfnRun *run);

/**
 * bfn_table_next_part: the same, in bounded time
 * @max_slots: a run that has more is cut; its rest is returned by the next call
 */
bool bfn_table_next_part(const BfnTable *t, uint64_t bfn, uint64_t end,
                         uint64_t max_slots, BfnRun *run);

/**
 * bfn_table_map: map an empty range
 *
 * Precondition: bfn_table_range_empty().
 *
 * Returns: false, with nothing changed, if the budget has no room for what it
 * could need, or there is no memory.
 */
bool bfn_table_map(BfnTable *t, const BfnRun *run);

/**
 * bfn_table_prepare: see to it that the next bfn_table_unmap() finds what
 * memory it may need
 *
 * Nothing may be mapped in between. It may be beyond the budget's max_bytes, as
 * what it takes was reserved.
 *
 * Returns: false if there is no memory.
 */
bool bfn_table_prepare(BfnTable *t);

/**
 * bfn_table_extend: make @run, which is mapped as one, reach over all leaves
 * that a part of it is in
 *
 * bfn_table_unmap() needs no memory for it then.
 */
void bfn_table_extend(const BfnTable *t, BfnRun *run);

/**
 * bfn_table_unmap: take [@bfn, @bfn + @nr) away
 *
 * Preconditions: every frame of it is mapped; bfn_table_prepare(), unless it
 * ends where leaves do, as what was mapped does as a whole.
 */
void bfn_table_unmap(BfnTable *t, uint64_t bfn, uint64_t nr);

#endif /* HW_XEN_PVIOMMU_BFN_TABLE_H */
