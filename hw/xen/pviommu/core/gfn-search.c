/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * GFN index: looking for what is in it
 */

#include "qemu/osdep.h"
#include "gfn-node.h"

/* A GFN of the range has more than @max places, from @n down. */
static bool node_crowded(GfnIndex *index, GfnNode *n, unsigned level,
                         uint64_t base, uint64_t gfn, uint64_t end,
                         unsigned max)
{
    unsigned first, last;

    if (n->most <= max) {
        return false;
    }
    node_slots(level, base, gfn, end, &first, &last);
    index->places.work += last - first + 1;
    for (unsigned i = first; i <= last; i++) {
        unsigned count = place_set_count(node_set(n, level, i));

        if (count > max ||
            (level && n->child[i] &&
             node_crowded(index, n->child[i], level - 1,
                          base + i * level_span(level), gfn, end,
                          max - count))) {
            return true;
        }
    }
    return false;
}

bool gfn_index_crowded(GfnIndex *index, uint64_t gfn, uint64_t nr,
                       unsigned max)
{
    return node_crowded(index, index->root, TOP_LEVEL, 0, gfn, gfn + nr, max);
}

unsigned gfn_index_most(const GfnIndex *index)
{
    return index->root->most;
}

void gfn_index_prefetch(const GfnIndex *index, uint64_t gfn)
{
    const GfnNode *n = index->root;

    for (unsigned level = TOP_LEVEL; level && n; level--) {
        n = n->child[slot_index(gfn, level)];
    }
    if (n) {
        __builtin_prefetch(&n->set[slot_index(gfn, 0)], 1);
    }
}

/* The part of slot @i of a node at @base that is in [@gfn, @end) */
static GfnPlace slot_part(unsigned level, uint64_t base, unsigned i,
                          uint64_t gfn, uint64_t end)
{
    uint64_t start = base + i * level_span(level);
    GfnPlace part = { .gfn = MAX(start, gfn), .bfn = MAX(start, gfn) - start };

    part.nr = MIN(start + level_span(level), end) - part.gfn;
    return part;
}

static GfnPlace place_of(GfnPlace part, uint64_t key)
{
    part.ctx = place_ctx(key);
    part.bfn += place_bfn(key);
    return part;
}

static bool node_first(GfnNode *n, unsigned level, uint64_t base,
                       uint64_t gfn, uint64_t end, GfnPlace *place)
{
    unsigned first, last;

    node_slots(level, base, gfn, end, &first, &last);
    for (unsigned i = first; i <= last; i++) {
        PlaceSet set = node_set(n, level, i);

        if (set) {
            *place = place_of(slot_part(level, base, i, gfn, end),
                              place_set_key(set, place_set_count(set) - 1));
            return true;
        }
        if (level && n->child[i] &&
            node_first(n->child[i], level - 1, base + i * level_span(level),
                       gfn, end, place)) {
            return true;
        }
    }
    return false;
}

bool gfn_index_first(const GfnIndex *index, uint64_t gfn, uint64_t nr,
                     GfnPlace *place)
{
    return node_first(index->root, TOP_LEVEL, 0, gfn, gfn + nr, place);
}

static bool node_visit(GfnNode *n, unsigned level, uint64_t base,
                       uint64_t gfn, uint64_t end, GfnIndexFunc *func,
                       void *opaque)
{
    unsigned first, last;

    node_slots(level, base, gfn, end, &first, &last);
    for (unsigned i = first; i <= last; i++) {
        PlaceSet set = node_set(n, level, i);

        for (unsigned j = 0; j < place_set_count(set); j++) {
            GfnPlace p = place_of(slot_part(level, base, i, gfn, end),
                                  place_set_key(set, j));

            if (!func(opaque, p.ctx, p.bfn, p.gfn, p.nr)) {
                return false;
            }
        }
        if (level && n->child[i] &&
            !node_visit(n->child[i], level - 1, base + i * level_span(level),
                        gfn, end, func, opaque)) {
            return false;
        }
    }
    return true;
}

bool gfn_index_foreach(GfnIndex *index, uint64_t gfn, uint64_t nr,
                       GfnIndexFunc *func, void *opaque)
{
    return node_visit(index->root, TOP_LEVEL, 0, gfn, gfn + nr, func, opaque);
}

bool gfn_index_find(GfnIndex *index, uint64_t gfn, uint16_t ctx, uint64_t from,
                    uint64_t *bfn)
{
    GfnNode *n = index->root;

    *bfn = UINT64_MAX;
    for (unsigned level = TOP_LEVEL; ; level--) {
        unsigned i = slot_index(gfn, level);
        uint64_t offset = gfn & (level_span(level) - 1);
        PlaceSet set = node_set(n, level, i);

        if (set) {
            uint64_t key = place_key(ctx, from > offset ? from - offset : 0);

            if (!place_set_is_single(set)) {
                key = place_set_lowest(&index->places, set, key);
            } else {
                key = set >> 1 >= key ? set >> 1 : UINT64_MAX;
            }
            if (key != UINT64_MAX && place_ctx(key) == ctx) {
                *bfn = MIN(*bfn, place_bfn(key) + offset);
            }
        }
        if (!level || !n->child[i]) {
            return *bfn != UINT64_MAX;
        }
        n = n->child[i];
    }
}
