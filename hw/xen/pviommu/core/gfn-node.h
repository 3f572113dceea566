/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The nodes of the GFN index: of gfn-index.c, which changes them, and
 * gfn-search.c
 */

#ifndef HW_XEN_PVIOMMU_GFN_NODE_H
#define HW_XEN_PVIOMMU_GFN_NODE_H

#include "qemu/queue.h"
#include "bfn-table.h"
#include "gfn-index.h"
#include "place-set.h"

#define LEVEL_BITS      9
#define LEVEL_SLOTS     (1u << LEVEL_BITS)
#define TOP_LEVEL       ((GFN_INDEX_BITS - 1) / LEVEL_BITS)

/* Empty nodes that are kept: they come and go. */
#define SPARE_MAX       4

typedef struct GfnNode GfnNode;

struct GfnNode {
    NodeChunk *chunk;
    QLIST_ENTRY(GfnNode) next;  /* of all in the index, those kept included */
    unsigned used;              /* slots that are not 0, and sets */
    unsigned most;              /* at a GFN, from here down; or fewer are */
    /*
     * Above level 0: a node with the set of each slot, of runs that cover all
     * of its span. Few nodes have any.
     */
    GfnNode *sets;
    bool has_children;          /* or had; sets otherwise */
    union {
        PlaceSet set[LEVEL_SLOTS];      /* of level 0, or of what is above */
        GfnNode *child[LEVEL_SLOTS];
    };
};

QEMU_BUILD_BUG_ON(sizeof(GfnNode) > NODE_POOL_NODE_SIZE);

struct GfnIndex {
    GfnIndex *next;             /* of those that are to be freed */
    GfnNode *root;
    QLIST_HEAD(, GfnNode) nodes;
    GfnNode *spare[SPARE_MAX];  /* all zero */
    unsigned nr_spare;
    uint64_t nr_runs;           /* places above level 0 */
    PlaceMemory places;
};

static inline uint64_t place_key(uint16_t ctx, uint64_t bfn)
{
    return (uint64_t)ctx << BFN_TABLE_MAX_BITS | bfn;
}

static inline uint16_t place_ctx(uint64_t key)
{
    return key >> BFN_TABLE_MAX_BITS;
}

static inline uint64_t place_bfn(uint64_t key)
{
    return key & ((1ull << BFN_TABLE_MAX_BITS) - 1);
}

static inline unsigned level_shift(unsigned level)
{
    return level * LEVEL_BITS;
}

static inline uint64_t level_span(unsigned level)
{
    return 1ull << level_shift(level);
}

static inline unsigned slot_index(uint64_t gfn, unsigned level)
{
    return (gfn >> level_shift(level)) & (LEVEL_SLOTS - 1);
}

/* The sets of the slots of @n; NULL if all are empty. */
static inline PlaceSet *node_sets(GfnNode *n, unsigned level)
{
    return !level ? n->set : n->sets ? n->sets->set : NULL;
}

static inline PlaceSet node_set(GfnNode *n, unsigned level, unsigned i)
{
    PlaceSet *sets = node_sets(n, level);

    return sets ? sets[i] : 0;
}

/* The slots of the node at @base that [@gfn, @end) touches: [*first, *last]. */
static inline void node_slots(unsigned level, uint64_t base, uint64_t gfn,
                              uint64_t end, unsigned *first, unsigned *last)
{
    *first = gfn > base ? (gfn - base) >> level_shift(level) : 0;
    *last = MIN((end - 1 - base) >> level_shift(level), LEVEL_SLOTS - 1);
}

#endif /* HW_XEN_PVIOMMU_GFN_NODE_H */
