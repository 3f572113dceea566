/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * BFN table: translating, and looking for what is mapped
 */

#include "qemu/osdep.h"
#include "qemu/atomic.h"
#include "bfn-node.h"

static inline uint64_t slot_read(const BfnNode *n, uint64_t bfn,
                                 unsigned shift)
{
    const uint64_t *slot = &n->slot[(bfn >> shift) & (LEVEL_SLOTS - 1)];

#if HOST_LONG_BITS == 64
    return qatomic_rcu_read(slot);
#else
    return qatomic_read_u64(slot);
#endif
}

bool bfn_table_translate(const BfnTable *t, uint64_t bfn, BfnTranslation *out)
{
    unsigned shift = t->root_shift;
    uint64_t slot = slot_read(t->root, bfn, shift);

    while (slot & CHILD) {
        shift -= LEVEL_BITS;
        slot = slot_read(slot_node(slot), bfn, shift);
    }
    out->gfn = bfn + slot_delta(slot);
    out->order = slot_order(slot);
    out->readonly = slot & LEAF_READONLY;
    return slot;
}

/* The last slot of the node of @bfn that [@bfn, @end) touches */
static unsigned slot_last(uint64_t bfn, uint64_t end, unsigned level)
{
    uint64_t more = ((end - 1) >> level_shift(level)) -
                    (bfn >> level_shift(level));

    return MIN(slot_index(bfn, level) + more, LEVEL_SLOTS - 1);
}

/* Where the @n-th slot after that of @bfn begins; @bfn itself for 0 */
static uint64_t slot_after(uint64_t bfn, unsigned n, unsigned level)
{
    return n ? ((bfn >> level_shift(level)) + n) << level_shift(level) : bfn;
}

bool bfn_table_range_empty(const BfnTable *t, uint64_t bfn, uint64_t nr)
{
    uint64_t end = bfn + nr;

    while (bfn < end) {
        unsigned level;
        const BfnNode *n = table_find(t, bfn, &level);
        unsigned first = slot_index(bfn, level), i = first;
        unsigned last = slot_last(bfn, end, level);

        while (i <= last && slot_is_empty(n->slot[i])) {
            i++;
        }
        t->budget->work += i - first + 1;
        if (i <= last && slot_is_leaf(n->slot[i])) {
            return false;
        }
        bfn = slot_after(bfn, i - first, level);
    }
    return true;
}

bool bfn_table_next_part(const BfnTable *t, uint64_t bfn, uint64_t end,
                         uint64_t max_slots, BfnRun *run)
{
    uint64_t leaf = 0, slots = 0;

    run->nr = 0;
    while (bfn < end) {
        unsigned level;
        const BfnNode *n = table_find(t, bfn, &level);
        unsigned first = slot_index(bfn, level), i = first;
        unsigned last = slot_last(bfn, end, level);

        if (!leaf) {
            while (i <= last && slot_is_empty(n->slot[i])) {
                i++;
            }
            t->budget->work += i - first + 1;
            bfn = slot_after(bfn, i - first, level);
            if (i > last || !slot_is_leaf(n->slot[i])) {
                continue;
            }
            leaf = slot_without_order(n->slot[i]);
            run->bfn = bfn;
            run->gfn = bfn + slot_delta(leaf);
            run->readonly = leaf & LEAF_READONLY;
            first = i;
        }
        while (i <= last && slot_without_order(n->slot[i]) == leaf) {
            i++;
        }
        t->budget->work += i - first + 1;
        slots += i - first;
        bfn = MIN(slot_after(bfn, i - first, level), end);
        run->nr = bfn - run->bfn;
        if (slots >= max_slots ||
            (i <= last &&
             (slot_is_leaf(n->slot[i]) || slot_is_empty(n->slot[i])))) {
            return true;
        }
    }
    return run->nr;
}

bool bfn_table_next_run(const BfnTable *t, uint64_t bfn, uint64_t end,
                        BfnRun *run)
{
    return bfn_table_next_part(t, bfn, end, UINT64_MAX, run);
}
