/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * GFN index: at which BFNs, in which contexts, a GFN is mapped
 */

#include "qemu/osdep.h"
#include "qemu/host-utils.h"
#include "gfn-node.h"

/*
 * What a run may need: at each of its ends a child on each level, and the sets
 * beside it.
 */
#define EDGE_NODES      (2 * TOP_LEVEL)

/* A run, by which the recursions below go. */
typedef struct GfnRun {
    uint64_t gfn;
    uint64_t end;
    uint64_t bfn;
    uint16_t ctx;
} GfnRun;

static GfnNode *node_new(GfnIndex *index)
{
    NodeChunk *chunk;
    GfnNode *n;

    if (index->nr_spare) {
        return index->spare[--index->nr_spare];
    }
    n = node_pool_alloc(index->places.budget->pool, &chunk);
    if (n) {
        n->chunk = chunk;
        QLIST_INSERT_HEAD(&index->nodes, n, next);
    }
    return n;
}

/* Nothing is in it. */
static void node_delete(GfnIndex *index, GfnNode *n)
{
    if (index->nr_spare == SPARE_MAX) {
        QLIST_REMOVE(n, next);
        node_pool_free(n, n->chunk);
        return;
    }
    n->most = 0;
    n->has_children = false;
    index->spare[index->nr_spare++] = n;
}

/* At most so many places has a GFN in slot @i. */
static inline unsigned node_slot_most(GfnNode *n, unsigned level, unsigned i)
{
    unsigned count = place_set_count(node_set(n, level, i));

    return level && n->child[i] ? count + n->child[i]->most : count;
}

/* Something was added to slot @i. */
static inline void node_slot_added(GfnNode *n, unsigned level, unsigned i)
{
    n->most = MAX(n->most, node_slot_most(n, level, i));
}

static void node_update_most(GfnIndex *index, GfnNode *n, unsigned level)
{
    n->most = 0;
    for (unsigned i = 0; i < LEVEL_SLOTS; i++) {
        node_slot_added(n, level, i);
    }
    index->places.work += LEVEL_SLOTS;
}

/* What a run that is noted as one on @level could take in pieces. */
static size_t level_reserve(unsigned level)
{
    return level ? level_span(level) * PLACE_SET_PLACE_BYTES : 0;
}

/* The node that has the set of a slot of @n: itself, or its sets. */
static inline GfnNode *node_with_sets(GfnIndex *index, GfnNode *n,
                                      unsigned level)
{
    if (!level) {
        return n;
    }
    if (!n->sets) {
        n->sets = node_new(index);
        assert(n->sets);
        n->used++;
    }
    return n->sets;
}

static inline bool node_set_add(GfnIndex *index, GfnNode *n, unsigned level,
                                unsigned i, uint64_t key)
{
    GfnNode *with = node_with_sets(index, n, level);
    PlaceSet *set = &with->set[i];

    index->places.work++;
    if (!*set) {
        *set = key << 1 | 1;
        with->used++;
        if (!level) {
            n->most = MAX(n->most, 1);
            return true;
        }
    } else if (!place_set_add_further(&index->places, set, key)) {
        return false;
    }
    if (level) {
        place_memory_reserve(&index->places, level_reserve(level));
        index->nr_runs++;
    }
    node_slot_added(n, level, i);
    return true;
}

/* The sets of @n, from which something was removed, may be empty now. */
static inline void node_trim_sets(GfnIndex *index, GfnNode *n)
{
    if (!n->sets->used) {
        node_delete(index, g_steal_pointer(&n->sets));
        n->used--;
    }
}

static inline bool node_set_remove(GfnIndex *index, GfnNode *n, unsigned level,
                                   unsigned i, uint64_t key)
{
    GfnNode *with = level ? n->sets : n;
    PlaceSet *set = with ? &with->set[i] : NULL;

    index->places.work++;
    if (!set || !*set) {
        return false;
    }
    if (place_set_is_single(*set)) {
        if (*set >> 1 != key) {
            return false;
        }
        *set = 0;
        with->used--;
    } else if (!place_set_remove_further(&index->places, set, key)) {
        return false;
    }
    if (level) {
        place_memory_reserve(&index->places, -level_reserve(level));
        index->nr_runs--;
        node_trim_sets(index, n);
    }
    return true;
}

GfnIndex *gfn_index_new(XenPVIOMMUBudget *budget)
{
    GfnIndex *index = node_pool_heap_alloc(budget->pool, sizeof(*index));

    if (!index) {
        return NULL;
    }
    index->places.budget = budget;
    QLIST_INIT(&index->nodes);
    index->root = node_new(index);
    if (!index->root) {
        node_pool_heap_free(budget->pool, index, sizeof(*index));
        return NULL;
    }
    index->root->has_children = true;
    return index;
}

GfnIndex **gfn_index_next(GfnIndex *index)
{
    return &index->next;
}

/* Free the arrays that @n has; false if *@max came first. */
static bool node_free_sets(GfnIndex *index, GfnNode *n, unsigned *max)
{
    for (unsigned i = 0; i < LEVEL_SLOTS && !n->has_children; i++) {
        PlaceSet set = n->set[i];

        if (set && !place_set_is_single(set)) {
            if (!*max) {
                return false;
            }
            --*max;
            place_array_free(&index->places, place_set_array(set));
            n->set[i] = 0;
        }
    }
    return true;
}

bool gfn_index_free_part(GfnIndex *index, unsigned *max)
{
    GfnNode *n;

    /* In any order, as none is reached from another one any more. */
    while ((n = QLIST_FIRST(&index->nodes))) {
        if (!*max || !node_free_sets(index, n, max)) {
            return false;
        }
        QLIST_REMOVE(n, next);
        node_pool_free(n, n->chunk);
        *max -= !!*max;
    }
    place_memory_reserve(&index->places, -index->places.reserved);
    node_pool_heap_free(index->places.budget->pool, index, sizeof(*index));
    return true;
}

void gfn_index_free(GfnIndex *index)
{
    unsigned max;

    do {
        max = UINT_MAX;
    } while (!gfn_index_free_part(index, &max));
}

/* That of slot @i of @n, which is of @level */
static inline GfnNode *node_child(GfnIndex *index, GfnNode *n, unsigned level,
                                  unsigned i)
{
    if (!n->child[i]) {
        n->child[i] = node_new(index);
        assert(n->child[i]);
        n->child[i]->has_children = level > 1;
        n->used++;
    }
    return n->child[i];
}

/* The child at @i, of which something was removed, may be empty now. */
static inline void node_trim_child(GfnIndex *index, GfnNode *n, unsigned i)
{
    GfnNode *child = n->child[i];

    if (!child->used) {
        n->child[i] = NULL;
        n->used--;
        node_delete(index, child);
    }
}

/*
 * Returns: where it ended: run->end, or before the first slot for which there
 * is no memory.
 */
static uint64_t node_add(GfnIndex *index, GfnNode *n, unsigned level,
                         uint64_t base, const GfnRun *run)
{
    uint64_t span = level_span(level), start, key;
    unsigned i, last;

    node_slots(level, base, run->gfn, run->end, &i, &last);
    start = base + i * span;
    if (start < run->gfn || start + span > run->end) {
        uint64_t end = node_add(index, node_child(index, n, level, i),
                                level - 1, start, run);

        node_slot_added(n, level, i);
        start += span;
        if (end != MIN(start, run->end)) {
            return end;
        }
        i++;
    }
    key = place_key(run->ctx, run->bfn + (start - run->gfn));
    for (; i <= last && start + span <= run->end; i++) {
        if (!node_set_add(index, n, level, i, key)) {
            return start;
        }
        start += span;
        key += span;
    }
    if (i <= last) {
        start = node_add(index, node_child(index, n, level, i), level - 1,
                         start, run);
        node_slot_added(n, level, i);
    }
    return MIN(start, run->end);
}

/* All that is noted of @run is in it as a whole. */
static void node_remove(GfnIndex *index, GfnNode *n, unsigned level,
                        uint64_t base, const GfnRun *run)
{
    uint64_t span = level_span(level);
    unsigned first, last;

    node_slots(level, base, run->gfn, run->end, &first, &last);
    for (unsigned i = first; i <= last; i++) {
        uint64_t start = base + i * span;

        if (start >= run->gfn && start + span <= run->end &&
            node_set_remove(index, n, level, i,
                            place_key(run->ctx,
                                      run->bfn + (start - run->gfn)))) {
            continue;
        }
        assert(level && n->child[i]);
        node_remove(index, n->child[i], level - 1, start, run);
        node_trim_child(index, n, i);
    }
    if (index->places.shrunk) {
        node_update_most(index, n, level);
    }
}

/*
 * The level at which @run touches more than one slot, covers one, or is all
 * but one below that.
 */
static unsigned run_level(const GfnRun *run)
{
    uint64_t differ = run->gfn ^ (run->end - 1);
    unsigned level = differ ? (64 - clz64(differ)) / LEVEL_BITS : 0;

    return MIN(level, TOP_LEVEL);
}

/* The first GFN of the node of @level that @gfn is in */
static uint64_t node_base(uint64_t gfn, unsigned level)
{
    return gfn & ~(level_span(level + 1) - 1);
}

bool gfn_index_add(GfnIndex *index, uint64_t gfn, uint64_t nr,
                   uint16_t ctx, uint64_t bfn)
{
    GfnRun run = { gfn, gfn + nr, bfn, ctx };
    GfnNode *path[TOP_LEVEL + 1] = { [TOP_LEVEL] = index->root };
    unsigned bottom = run_level(&run), level, most;
    uint64_t end;

    if (!xen_pviommu_budget_prepare(index->places.budget, 2 * EDGE_NODES,
                                    nr < LEVEL_SLOTS ? 0 :
                                    nr * PLACE_SET_PLACE_BYTES)) {
        return false;
    }
    for (level = TOP_LEVEL; level > bottom; level--) {
        path[level - 1] = node_child(index, path[level], level,
                                     slot_index(gfn, level));
    }
    most = path[bottom]->most;
    end = node_add(index, path[bottom], bottom, node_base(gfn, bottom), &run);
    while (level < TOP_LEVEL && path[level]->most != most) {
        level++;
        most = path[level]->most;
        node_slot_added(path[level], level, slot_index(gfn, level));
    }
    if (end == run.end) {
        return true;
    }
    /* Nothing was made but for what is noted now. */
    if (end > gfn) {
        gfn_index_remove(index, gfn, end - gfn, ctx, bfn);
    }
    return false;
}

/*
 * Note what slot @i has of @run, which reaches over @gfn, in its child instead,
 * in parts that end there.
 */
static bool node_push_down(GfnIndex *index, GfnNode *n, unsigned level,
                           unsigned i, uint64_t gfn, const GfnRun *run)
{
    GfnRun head = { run->gfn, gfn, run->bfn, run->ctx };
    GfnRun tail = { gfn, run->end, run->bfn + (gfn - run->gfn), run->ctx };
    GfnNode *child;
    uint64_t end;

    if (!node_pool_fill(index->places.budget->pool, EDGE_NODES)) {
        return false;
    }
    child = node_child(index, n, level, i);
    index->places.splitting = true;
    end = node_add(index, child, level - 1, run->gfn, &head);
    if (end == gfn) {
        end = node_add(index, child, level - 1, run->gfn, &tail);
    }
    index->places.splitting = false;
    if (end != run->end) {
        head.end = MIN(gfn, end);
        if (head.end > head.gfn) {
            node_remove(index, child, level - 1, run->gfn, &head);
        }
        tail.end = end;
        if (tail.end > tail.gfn) {
            node_remove(index, child, level - 1, run->gfn, &tail);
        }
        index->places.shrunk = false;
        return false;
    }
    node_set_remove(index, n, level, i, place_key(run->ctx, run->bfn));
    index->places.shrunk = false;
    node_slot_added(n, level, i);
    return true;
}

/* Note all that slot @i has in its child instead, once for each slot there. */
static bool node_push_down_all(GfnIndex *index, GfnNode *n, unsigned level,
                               unsigned i)
{
    PlaceArray *fresh[LEVEL_SLOTS] = { };
    PlaceSet set = n->sets->set[i];
    unsigned below = level - 1, nr = place_set_count(set), j;
    GfnNode *child, *with;

    if (!node_pool_fill(index->places.budget->pool, 2)) {
        return false;
    }
    child = node_child(index, n, level, i);
    with = node_with_sets(index, child, below);
    for (j = 0; j < LEVEL_SLOTS; j++) {
        if (!place_set_grow(&index->places, &with->set[j], nr, &fresh[j])) {
            break;
        }
    }
    if (j < LEVEL_SLOTS) {
        while (j--) {
            place_set_ungrow(&index->places, &with->set[j], fresh[j]);
        }
        if (below) {
            node_trim_sets(index, child);
        }
        node_trim_child(index, n, i);
        return false;
    }
    for (j = 0; j < LEVEL_SLOTS; j++) {
        with->used += !with->set[j];
        place_set_add_all(&index->places, &with->set[j], fresh[j], set,
                          j * level_span(below));
        node_slot_added(child, below, j);
    }
    if (below) {
        place_memory_reserve(&index->places,
                             level_reserve(below) * nr * LEVEL_SLOTS);
        index->nr_runs += (uint64_t)nr * LEVEL_SLOTS;
    }
    place_memory_reserve(&index->places, -level_reserve(level) * nr);
    index->nr_runs -= nr;
    if (!place_set_is_single(set)) {
        place_array_free(&index->places, place_set_array(set));
    }
    n->sets->set[i] = 0;
    n->sets->used--;
    node_trim_sets(index, n);
    node_slot_added(n, level, i);
    return true;
}

bool gfn_index_split_all(GfnIndex *index, uint64_t gfn)
{
    GfnNode *n = index->root;

    for (unsigned level = TOP_LEVEL;
         n && index->nr_runs && (gfn & (level_span(level) - 1)); level--) {
        unsigned i = slot_index(gfn, level);

        if (node_set(n, level, i) && !node_push_down_all(index, n, level, i)) {
            return false;
        }
        n = n->child[i];
    }
    return true;
}

/*
 * Where the run that @gfn, which @ctx maps at @bfn, is in is noted as one that
 * reaches over @gfn: the node, or NULL.
 */
static GfnNode *index_find_over(const GfnIndex *index, uint64_t gfn,
                                uint16_t ctx, uint64_t bfn, unsigned *level)
{
    GfnNode *n = index->root;

    if (!index->nr_runs) {
        return NULL;
    }
    for (*level = TOP_LEVEL; n && (gfn & (level_span(*level) - 1));
         --*level) {
        unsigned i = slot_index(gfn, *level);
        uint64_t offset = gfn & (level_span(*level) - 1);

        if (n->sets && bfn >= offset &&
            place_set_has(n->sets->set[i], place_key(ctx, bfn - offset))) {
            return n;
        }
        n = n->child[i];
    }
    return NULL;
}

bool gfn_index_split(GfnIndex *index, uint64_t gfn, uint16_t ctx, uint64_t bfn)
{
    unsigned level;
    GfnNode *n = index_find_over(index, gfn, ctx, bfn, &level);
    uint64_t offset;

    if (!n) {
        return true;
    }
    offset = gfn & (level_span(level) - 1);
    return node_push_down(index, n, level, slot_index(gfn, level), gfn,
                          &(GfnRun) { gfn - offset,
                                      gfn - offset + level_span(level),
                                      bfn - offset, ctx });
}

bool gfn_index_has_runs(const GfnIndex *index)
{
    return index->nr_runs;
}

void gfn_index_extend(const GfnIndex *index, GfnPlace *run)
{
    uint64_t end = run->gfn + run->nr, offset;
    unsigned level;

    if (index_find_over(index, end, run->ctx, run->bfn + run->nr, &level)) {
        run->nr += level_span(level) - (end & (level_span(level) - 1));
    }
    if (index_find_over(index, run->gfn, run->ctx, run->bfn, &level)) {
        offset = run->gfn & (level_span(level) - 1);
        run->gfn -= offset;
        run->bfn -= offset;
        run->nr += offset;
    }
}

void gfn_index_remove(GfnIndex *index, uint64_t gfn, uint64_t nr,
                      uint16_t ctx, uint64_t bfn)
{
    GfnRun run = { gfn, gfn + nr, bfn, ctx };
    GfnNode *path[TOP_LEVEL + 1] = { [TOP_LEVEL] = index->root };
    unsigned bottom = run_level(&run), level;

    for (level = TOP_LEVEL; level > bottom; level--) {
        path[level - 1] = path[level]->child[slot_index(gfn, level)];
        assert(path[level - 1]);
    }
    node_remove(index, path[level], level, node_base(gfn, level), &run);
    while (level < TOP_LEVEL && (!path[level]->used || index->places.shrunk)) {
        level++;
        node_trim_child(index, path[level], slot_index(gfn, level));
        if (index->places.shrunk) {
            node_update_most(index, path[level], level);
        }
    }
    index->places.shrunk = false;
}

uint64_t gfn_index_places(uint64_t nr)
{
    uint64_t places = 0;

    /* At each level two edges, which are less than a node of it. */
    for (; nr; nr >>= LEVEL_BITS) {
        places += MIN(nr, 2 * (LEVEL_SLOTS - 1));
    }
    return places;
}

uint64_t gfn_index_work(const GfnIndex *index)
{
    return index->places.work;
}
