/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * BFN table: its nodes, for bfn-table.c, which changes them, and bfn-search.c,
 * which looks
 *
 * Invariants:
 * - A slot that readers may see is changed by one store, and what it leads to
 *   is complete before.
 * - A node that no slot leads to any more is freed by RCU.
 * - All nodes but the root are in use, or in BfnTable.idle and empty.
 */

#ifndef HW_XEN_PVIOMMU_BFN_NODE_H
#define HW_XEN_PVIOMMU_BFN_NODE_H

#include "qemu/host-utils.h"
#include "qemu/queue.h"
#include "qemu/rcu.h"
#include "bfn-table.h"

#define LEVEL_BITS      9
#define LEVEL_SLOTS     (1u << LEVEL_BITS)

/*
 * A slot: 0, the address of a child and CHILD, or a leaf: how much higher the
 * GFN is than the BFN above bit 12, the order of the block around a frame that
 * is mapped alike, and two flags. All leaves of a block are the same thus,
 * whatever their level.
 */
#define CHILD           1ull
#define LEAF            2ull
#define LEAF_READONLY   4ull
#define LEAF_ORDER_SHIFT 3
#define LEAF_ORDER_MASK 0x1full
#define LEAF_DELTA_SHIFT 12
#define ORDER_MAX       31

typedef struct BfnNode BfnNode;

struct BfnNode {
    union {
        struct rcu_head rcu;            /* once it is retired */
        QTAILQ_ENTRY(BfnNode) all;      /* in BfnTable.nodes until then */
    };
    NodeChunk *chunk;
    BfnNode *parent;
    QTAILQ_ENTRY(BfnNode) idle;     /* in BfnTable.idle while used == 0 */
    uint16_t index;                 /* of its slot in parent */
    uint16_t used;                  /* slots that are not 0 */
    uint64_t slot[LEVEL_SLOTS] QEMU_ALIGNED(64);
};

/* Of a detached table: the reaper or RCU frees it, whichever is last. */
typedef enum DetachedState {
    DETACHED_READERS,           /* there may be some */
    DETACHED_QUIET,             /* there are none */
    DETACHED_EMPTY,             /* all nodes are freed, readers or not */
} DetachedState;

struct BfnTable {
    struct rcu_head rcu;
    int state;                  /* DetachedState; atomic */
    BfnTable *next;             /* of the detached ones */
    QTAILQ_HEAD(, BfnNode) nodes;   /* all of them */
    BfnNode *root;
    unsigned levels;
    unsigned root_shift;
    unsigned nr_idle;
    QTAILQ_HEAD(, BfnNode) idle;    /* oldest first; never the root */
    XenPVIOMMUBudget *budget;
    size_t reserved;                /* of the budget's */
    NodePool *pool;                 /* the budget's, which may be gone */
};

static inline BfnNode *slot_node(uint64_t slot)
{
    return (BfnNode *)(uintptr_t)(slot - CHILD);
}

static inline bool slot_is_leaf(uint64_t slot)
{
    return slot & LEAF;
}

/* Nothing is mapped there, but a node may have been kept. */
static inline bool slot_is_empty(uint64_t slot)
{
    return !slot || ((slot & CHILD) && !slot_node(slot)->used);
}

static inline uint64_t slot_delta(uint64_t slot)
{
    return (int64_t)slot >> LEAF_DELTA_SHIFT;
}

static inline unsigned slot_order(uint64_t slot)
{
    return (slot >> LEAF_ORDER_SHIFT) & LEAF_ORDER_MASK;
}

static inline uint64_t slot_without_order(uint64_t slot)
{
    return slot & ~(LEAF_ORDER_MASK << LEAF_ORDER_SHIFT);
}

static inline unsigned level_shift(unsigned level)
{
    return level * LEVEL_BITS;
}

static inline unsigned slot_index(uint64_t bfn, unsigned level)
{
    return (bfn >> level_shift(level)) & (LEVEL_SLOTS - 1);
}

/*
 * The node, with something below it unless it is the root, whose slot decides
 * on @bfn. Writer only.
 */
static inline const BfnNode *table_find(const BfnTable *t, uint64_t bfn,
                                        unsigned *level)
{
    const BfnNode *n = t->root;

    for (*level = t->levels - 1; ; --*level) {
        uint64_t slot = n->slot[slot_index(bfn, *level)];

        if (!(slot & CHILD) || !slot_node(slot)->used) {
            return n;
        }
        n = slot_node(slot);
    }
}

#endif /* HW_XEN_PVIOMMU_BFN_NODE_H */
