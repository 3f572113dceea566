/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * BFN table: mapping and unmapping
 */

#include "qemu/osdep.h"
#include "qemu/atomic.h"
#include "bfn-node.h"

/* What it costs to free a node, in slots; RCU's thread does a part of it. */
#define RETIRE_WORK     128

/* A table keeps this many empty nodes, as the same BFNs come and go. */
#define IDLE_NODES_MAX  16

QEMU_BUILD_BUG_ON(sizeof(BfnNode) > NODE_POOL_NODE_SIZE);

static uint64_t slot_child(BfnNode *n)
{
    return (uintptr_t)n + CHILD;
}

/* In a block of @order; both sides have to be aligned to what it says. */
static uint64_t slot_with_order(uint64_t slot, unsigned order)
{
    return slot_without_order(slot) |
           (uint64_t)MIN(order, ctz64(slot_delta(slot))) << LEAF_ORDER_SHIFT;
}

static uint64_t slot_leaf(uint64_t delta, bool readonly, unsigned order)
{
    return slot_with_order(delta << LEAF_DELTA_SHIFT | LEAF |
                           (readonly ? LEAF_READONLY : 0), order);
}

/* Readers may be looking: what the value leads to must be there first. */
static void slot_publish(uint64_t *slot, uint64_t value)
{
#if HOST_LONG_BITS == 64
    qatomic_rcu_set(slot, value);
#else
    smp_wmb(); /* pairs with the dependency of what a reader loads by it */
    qatomic_set_u64(slot, value);
#endif
}

/* A leaf, or nothing: it leads nowhere. */
static void slot_set(uint64_t *slot, uint64_t value)
{
#if HOST_LONG_BITS == 64
    qatomic_set(slot, value);
#else
    qatomic_set_u64(slot, value);
#endif
}

/* The largest aligned block that starts at @pos and ends by @end. */
static unsigned block_order(uint64_t pos, uint64_t end)
{
    unsigned order = MIN(ORDER_MAX, 63 - clz64(end - pos));

    return pos ? MIN(order, ctz64(pos)) : order;
}

/* One that was prepared for. */
static BfnNode *node_new(BfnTable *t, BfnNode *parent, unsigned index)
{
    NodeChunk *chunk;
    BfnNode *n = node_pool_alloc(t->pool, &chunk);

    assert(n);
    n->chunk = chunk;
    n->parent = parent;
    n->index = index;
    QTAILQ_INSERT_TAIL(&t->nodes, n, all);
    t->budget->nodes++;
    return n;
}

static void node_reclaim(BfnNode *n)
{
    node_pool_free(n, n->chunk);
}

static void node_retire(BfnTable *t, BfnNode *n)
{
    t->budget->nodes--;
    QTAILQ_REMOVE(&t->nodes, n, all);
    /* It is not gone yet: few of them should wait for RCU at a time. */
    t->budget->work += RETIRE_WORK;
    call_rcu(n, node_reclaim, rcu);
}

static void node_unidle(BfnTable *t, BfnNode *n)
{
    QTAILQ_REMOVE(&t->idle, n, idle);
    t->nr_idle--;
}

/* @n, of which slots became 0, may have become empty. */
static void node_check_idle(BfnTable *t, BfnNode *n)
{
    if (!n->used && n != t->root) {
        QTAILQ_INSERT_TAIL(&t->idle, n, idle);
        t->nr_idle++;
    }
}

/*
 * Let go of the oldest empty nodes, and of parents that are empty without
 * them. Never while node_clear() is on its way down: a parent may be its.
 */
static void table_trim_idle(BfnTable *t, unsigned keep)
{
    while (t->nr_idle > keep) {
        BfnNode *old = QTAILQ_FIRST(&t->idle);
        BfnNode *parent = old->parent;

        node_unidle(t, old);
        slot_publish(&parent->slot[old->index], 0);
        node_retire(t, old);
        parent->used--;
        node_check_idle(t, parent);
    }
}

/* Let go of @n and what is below it; nothing is mapped there. */
static void node_retire_tree(BfnTable *t, BfnNode *n)
{
    if (!n->used) {
        node_unidle(t, n);
    }
    for (unsigned i = 0; n->used; i++) {
        if (n->slot[i]) {
            assert(!slot_is_leaf(n->slot[i]));
            node_retire_tree(t, slot_node(n->slot[i]));
            n->used--;
        }
    }
    node_retire(t, n);
}

static void node_take_slots(BfnTable *t, BfnNode *n, unsigned nr)
{
    if (!n->used && nr && n != t->root) {
        node_unidle(t, n);
    }
    n->used += nr;
}

/* The node of @level that @bfn is in, made if it is missing. */
static BfnNode *table_node(BfnTable *t, uint64_t bfn, unsigned level)
{
    BfnNode *n = t->root;

    for (unsigned l = t->levels - 1; l > level; l--) {
        unsigned i = slot_index(bfn, l);

        if (!n->slot[i]) {
            BfnNode *child = node_new(t, n, i);

            node_take_slots(t, n, 1);
            /* Empty, as all nodes that are not in use: see node_take_slots() */
            QTAILQ_INSERT_TAIL(&t->idle, child, idle);
            t->nr_idle++;
            slot_publish(&n->slot[i], slot_child(child));
        }
        assert(!slot_is_leaf(n->slot[i]));
        n = slot_node(n->slot[i]);
    }
    return n;
}

/* Nodes that a map or an unmap may need: it has two ends. */
static unsigned table_edge_nodes(const BfnTable *t)
{
    return 2 * (t->levels - 1);
}

static void table_reserve(BfnTable *t, size_t more)
{
    t->reserved += more;
    t->budget->reserved += more;
}

/* What @nr leaves of @level can take, split as far as can be */
static size_t leaf_reserve(unsigned level, uint64_t nr)
{
    uint64_t nodes = ((1ull << level_shift(level)) - 1) / (LEVEL_SLOTS - 1);

    return nodes * nr * NODE_POOL_NODE_BYTES;
}

/* The order of the block that @bfn, which is mapped, is in */
static unsigned table_order(const BfnTable *t, uint64_t bfn)
{
    unsigned level;
    const BfnNode *n = table_find(t, bfn, &level);

    return slot_order(n->slot[slot_index(bfn, level)]);
}

BfnTable *bfn_table_new(unsigned bfn_bits, XenPVIOMMUBudget *budget)
{
    BfnTable *t;

    assert(bfn_bits >= BFN_TABLE_MIN_BITS && bfn_bits <= BFN_TABLE_MAX_BITS);
    if (!xen_pviommu_budget_prepare(budget, 1, 0)) {
        return NULL;
    }
    t = xen_pviommu_budget_alloc(budget, sizeof(*t));
    if (!t) {
        return NULL;
    }
    t->levels = DIV_ROUND_UP(bfn_bits, LEVEL_BITS);
    t->root_shift = level_shift(t->levels - 1);
    t->budget = budget;
    t->pool = budget->pool;
    QTAILQ_INIT(&t->nodes);
    QTAILQ_INIT(&t->idle);
    t->root = node_new(t, NULL, 0);
    return t;
}

static void table_reclaim(BfnTable *t)
{
    node_pool_heap_free(t->pool, t, sizeof(*t));
}

void bfn_table_free(BfnTable *t)
{
    BfnNode *n;

    table_reserve(t, -t->reserved);
    while ((n = QTAILQ_FIRST(&t->nodes))) {
        node_retire(t, n);
    }
    call_rcu(t, table_reclaim, rcu);
}

static void table_readers_gone(BfnTable *t)
{
    if (qatomic_xchg(&t->state, DETACHED_QUIET) == DETACHED_EMPTY) {
        table_reclaim(t);
    }
}

void bfn_table_detach(BfnTable *t)
{
    table_reserve(t, -t->reserved);
    call_rcu(t, table_readers_gone, rcu);
}

BfnTable **bfn_table_next(BfnTable *t)
{
    return &t->next;
}

bool bfn_table_quiet(const BfnTable *t)
{
    return qatomic_load_acquire(&t->state) == DETACHED_QUIET;
}

bool bfn_table_free_part(BfnTable *t, unsigned *max)
{
    bool quiet = bfn_table_quiet(t);
    BfnNode *n;

    for (; *max && (n = QTAILQ_FIRST(&t->nodes)); --*max) {
        if (!quiet) {
            node_retire(t, n);
            continue;
        }
        QTAILQ_REMOVE(&t->nodes, n, all);
        t->budget->nodes--;
        node_reclaim(n);
    }
    if (!QTAILQ_EMPTY(&t->nodes)) {
        return false;
    }
    if (qatomic_xchg(&t->state, DETACHED_EMPTY) == DETACHED_QUIET) {
        table_reclaim(t);
    }
    return true;
}

bool bfn_table_map(BfnTable *t, const BfnRun *run)
{
    uint64_t end = run->bfn + run->nr;
    size_t reserve = run->nr < LEVEL_SLOTS ? 0 :
                     DIV_ROUND_UP(run->nr, LEVEL_SLOTS - 1) *
                     NODE_POOL_NODE_BYTES;

    if (!xen_pviommu_budget_prepare(t->budget, table_edge_nodes(t), reserve)) {
        /* Those come back when no reader can see them any more. */
        table_trim_idle(t, 0);
        return false;
    }
    for (uint64_t bfn = run->bfn; bfn < end; ) {
        unsigned order = block_order(bfn, end);
        unsigned level = MIN(order / LEVEL_BITS, t->levels - 1);
        unsigned nr = 1u << (order - level_shift(level));
        BfnNode *n = table_node(t, bfn, level);
        uint64_t *slot = &n->slot[slot_index(bfn, level)];
        uint64_t leaf = slot_leaf(run->gfn - run->bfn, run->readonly, order);
        unsigned taken = 0;

        for (unsigned i = 0; i < nr; i++) {
            uint64_t old = slot[i];

            slot_set(&slot[i], leaf);
            if (!old) {
                taken++;
            } else {
                /* Empty nodes that were kept stood where the leaf is now. */
                node_retire_tree(t, slot_node(old));
            }
        }
        node_take_slots(t, n, taken);
        table_reserve(t, leaf_reserve(level, nr));
        t->budget->work += nr;
        bfn += 1ull << order;
    }
    return true;
}

/* Make no leaf reach across @bfn; what is mapped stays the same. */
static void table_split(BfnTable *t, uint64_t bfn)
{
    BfnNode *n = t->root;

    if (bfn >> level_shift(t->levels)) {
        return;
    }
    for (unsigned l = t->levels - 1; bfn & ((1ull << level_shift(l)) - 1);
         l--) {
        unsigned i = slot_index(bfn, l);
        uint64_t slot = n->slot[i];

        if (!slot) {
            return;
        }
        if (slot_is_leaf(slot)) {
            BfnNode *child = node_new(t, n, i);

            for (unsigned j = 0; j < LEVEL_SLOTS; j++) {
                child->slot[j] = slot;
            }
            child->used = LEVEL_SLOTS;
            table_reserve(t, leaf_reserve(l - 1, LEVEL_SLOTS) -
                             leaf_reserve(l, 1));
            t->budget->work += LEVEL_SLOTS;
            slot_publish(&n->slot[i], slot_child(child));
            slot = n->slot[i];
        }
        n = slot_node(slot);
    }
}

/* Give the leaves of [@bfn, @end), all mapped as one run, their new blocks. */
static void table_reblock(BfnTable *t, uint64_t bfn, uint64_t end)
{
    while (bfn < end) {
        unsigned order = block_order(bfn, end);
        uint64_t last = bfn + (1ull << order);

        while (bfn < last) {
            BfnNode *n = t->root;
            unsigned l = t->levels - 1;

            while (!slot_is_leaf(n->slot[slot_index(bfn, l)])) {
                n = slot_node(n->slot[slot_index(bfn, l--)]);
            }
            for (unsigned i = slot_index(bfn, l);
                 bfn < last && i < LEVEL_SLOTS && slot_is_leaf(n->slot[i]);
                 i++) {
                slot_set(&n->slot[i], slot_with_order(n->slot[i], order));
                bfn += 1ull << level_shift(l);
                t->budget->work++;
            }
        }
    }
}

/* Clear what @n, whose first frame is @base, has in [@bfn, @end). */
static void node_clear(BfnTable *t, BfnNode *n, unsigned level, uint64_t base,
                       uint64_t bfn, uint64_t end)
{
    uint64_t step = 1ull << level_shift(level);
    unsigned first = bfn > base ? (bfn - base) >> level_shift(level) : 0;

    for (unsigned i = first; i < LEVEL_SLOTS && base + i * step < end; i++) {
        uint64_t slot = n->slot[i];

        t->budget->work++;
        if (slot_is_leaf(slot)) {
            slot_set(&n->slot[i], 0);
            n->used--;
            table_reserve(t, -leaf_reserve(level, 1));
        } else if (slot && slot_node(slot)->used) {
            node_clear(t, slot_node(slot), level - 1, base + i * step,
                       bfn, end);
        }
    }
    node_check_idle(t, n);
}

/*
 * Unmap what is whole blocks in one node of level 0: most of what drivers do.
 * False, and nothing done, if it is something else.
 */
static bool table_unmap_blocks(BfnTable *t, uint64_t bfn, uint64_t nr)
{
    unsigned first = slot_index(bfn, 0), last = first + nr - 1;
    unsigned level = t->levels - 1;
    BfnNode *n = t->root;

    if (nr > LEVEL_SLOTS - first) {
        return false;
    }
    for (; level; level--) {
        uint64_t slot = n->slot[slot_index(bfn, level)];

        if (slot_is_leaf(slot)) {
            return false;
        }
        n = slot_node(slot);
    }
    if ((first & ((1u << slot_order(n->slot[first])) - 1)) ||
        (~last & ((1u << slot_order(n->slot[last])) - 1))) {
        return false;
    }
    for (unsigned i = first; i <= last; i++) {
        slot_set(&n->slot[i], 0);
    }
    n->used -= nr;
    t->budget->work += nr;
    node_check_idle(t, n);
    return true;
}

bool bfn_table_prepare(BfnTable *t)
{
    return node_pool_fill(t->pool, table_edge_nodes(t));
}

/* How many frames the leaf of @bfn, which is mapped, has */
static uint64_t table_leaf_span(const BfnTable *t, uint64_t bfn)
{
    unsigned level;

    table_find(t, bfn, &level);
    return 1ull << level_shift(level);
}

void bfn_table_extend(const BfnTable *t, BfnRun *run)
{
    uint64_t before = run->bfn & (table_leaf_span(t, run->bfn) - 1);
    uint64_t last = run->bfn + run->nr - 1;

    last |= table_leaf_span(t, last) - 1;
    run->bfn -= before;
    run->gfn -= before;
    run->nr = last - run->bfn + 1;
}

void bfn_table_unmap(BfnTable *t, uint64_t bfn, uint64_t nr)
{
    uint64_t end = bfn + nr;
    uint64_t block_start, block_end;

    if (table_unmap_blocks(t, bfn, nr)) {
        table_trim_idle(t, IDLE_NODES_MAX);
        return;
    }
    block_start = bfn & ~((1ull << table_order(t, bfn)) - 1);
    block_end = ((end - 1) | ((1ull << table_order(t, end - 1)) - 1)) + 1;

    table_split(t, bfn);
    table_split(t, end);
    table_reblock(t, block_start, bfn);
    table_reblock(t, end, block_end);
    /*
     * Readers must see smaller blocks before a part of a block is cleared:
     * else a reader could take a translation of the rest for one of that part.
     */
    smp_wmb();
    node_clear(t, t->root, t->levels - 1, 0, bfn, end);
    table_trim_idle(t, IDLE_NODES_MAX);
}
