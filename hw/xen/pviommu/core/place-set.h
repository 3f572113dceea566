/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Sets of places, which the slots of the GFN index hold
 *
 * A place is a context and a BFN packed into a key. Most sets are empty or have
 * one, and are a word; others are an array in no order: to add to many at once,
 * or to remove all, takes no time for each that is there.
 *
 * Locking: that of the index.
 */

#ifndef HW_XEN_PVIOMMU_PLACE_SET_H
#define HW_XEN_PVIOMMU_PLACE_SET_H

#include "budget.h"

/*
 * What the budget has for each place of a set beyond the first, as its array
 * may be larger, or grow by the next.
 */
#define PLACE_SET_PLACE_BYTES 32

/* What all sets of an index share. */
typedef struct PlaceMemory {
    XenPVIOMMUBudget *budget;
    size_t reserved;            /* of the budget's */
    bool splitting;             /* what is added was reserved */
    bool shrunk;                /* a large set, since it was false */
    uint64_t work;
} PlaceMemory;

/* Nothing, one key (odd), or the address of an array of them */
typedef uint64_t PlaceSet;

typedef struct PlaceArray {
    uint32_t nr;                /* two at least */
    uint32_t room;
    uint64_t key[];
} PlaceArray;

static inline bool place_set_is_single(PlaceSet set)
{
    return set & 1;
}

static inline PlaceArray *place_set_array(PlaceSet set)
{
    return (PlaceArray *)(uintptr_t)set;
}

static inline unsigned place_set_count(PlaceSet set)
{
    return !set ? 0 : place_set_is_single(set) ? 1 : place_set_array(set)->nr;
}

/* The @i-th, which is below place_set_count(); in no order */
static inline uint64_t place_set_key(PlaceSet set, unsigned i)
{
    return place_set_is_single(set) ? set >> 1 : place_set_array(set)->key[i];
}

/** place_memory_reserve: change what is reserved by @more bytes */
void place_memory_reserve(PlaceMemory *mem, size_t more);

/** place_array_free: with all that is in it */
void place_array_free(PlaceMemory *mem, PlaceArray *a);

/**
 * place_set_add_further: one more place, where there is one
 *
 * Returns: false if the budget does not allow it, or there is no memory.
 */
bool place_set_add_further(PlaceMemory *mem, PlaceSet *set, uint64_t key);

/**
 * place_set_grow: make room for @nr places more
 * @fresh: returns an array for them, if @set has none and will need one
 *
 * Returns: false if there is no memory.
 */
bool place_set_grow(PlaceMemory *mem, PlaceSet *set, unsigned nr,
                    PlaceArray **fresh);

/** place_set_ungrow: take back what place_set_grow() did */
void place_set_ungrow(PlaceMemory *mem, PlaceSet *set, PlaceArray *fresh);

/**
 * place_set_add_all: add all keys of @from, each larger by @more
 *
 * place_set_grow() made room.
 */
void place_set_add_all(PlaceMemory *mem, PlaceSet *set, PlaceArray *fresh,
                       PlaceSet from, uint64_t more);

/** place_set_remove_further: from an array; false if it is not there */
bool place_set_remove_further(PlaceMemory *mem, PlaceSet *set, uint64_t key);

bool place_set_has(PlaceSet set, uint64_t key);

/**
 * place_set_lowest: the lowest key that is not below @key; UINT64_MAX if there
 * is none
 */
uint64_t place_set_lowest(PlaceMemory *mem, PlaceSet set, uint64_t key);

#endif /* HW_XEN_PVIOMMU_PLACE_SET_H */
