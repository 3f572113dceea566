/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * GFN index: at which BFNs, in which contexts, a GFN is mapped
 */

#include "qemu/osdep.h"
#include "qemu/host-utils.h"
#include "qemu/queue.h"
#include "bfn-table.h"
#include "gfn-index.h"
#include "node-pool.h"

#define LEVEL_BITS      9
#define LEVEL_SLOTS     (1u << LEVEL_BITS)
#define TOP_LEVEL       ((GFN_INDEX_BITS - 1) / LEVEL_BITS)

/*
 * A set of places, each a context and a BFN packed into a key: nothing, one
 * key (odd), or the address of a GTree of them.
 */
typedef uint64_t PlaceSet;

typedef struct GfnNode GfnNode;

/* Above level 0; they are looked at together. */
typedef struct GfnSlot {
    PlaceSet set;
    GfnNode *child;
} GfnSlot;

struct GfnNode {
    NodeChunk *chunk;           /* of level 0; there are few others */
    QLIST_ENTRY(GfnNode) next;  /* of all in the index, those kept included */
    uint16_t used;              /* sets and children that are there */
    uint16_t level;
    union {
        PlaceSet set[LEVEL_SLOTS];      /* of level 0, which ends here */
        GfnSlot slot[LEVEL_SLOTS];
    };
};

QEMU_BUILD_BUG_ON(offsetof(GfnNode, set[LEVEL_SLOTS]) > NODE_POOL_NODE_SIZE);

struct GfnIndex {
    GfnNode *root;
    QLIST_HEAD(, GfnNode) nodes;
    GfnNode *spare[TOP_LEVEL];  /* of each level, empty: they come and go */
    uint64_t work;
};

/* What a GTree costs beside a slot. */
#define TREE_WORK 16

/* A run, by which the recursions below go. */
typedef struct GfnRun {
    uint64_t gfn;
    uint64_t end;
    uint64_t bfn;
    uint16_t ctx;
} GfnRun;

static uint64_t place_key(uint16_t ctx, uint64_t bfn)
{
    return (uint64_t)ctx << BFN_TABLE_MAX_BITS | bfn;
}

static uint16_t place_ctx(uint64_t key)
{
    return key >> BFN_TABLE_MAX_BITS;
}

static uint64_t place_bfn(uint64_t key)
{
    return key & ((1ull << BFN_TABLE_MAX_BITS) - 1);
}

static bool set_is_single(PlaceSet set)
{
    return set & 1;
}

static GTree *set_tree(PlaceSet set)
{
    return (GTree *)(uintptr_t)set;
}

static gint place_compare(gconstpointer a, gconstpointer b, gpointer unused)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

    return x < y ? -1 : x > y;
}

static void tree_add(GTree *tree, uint64_t key)
{
    uint64_t *k = g_new(uint64_t, 1);

    *k = key;
    g_tree_insert(tree, k, k);
}

static inline PlaceSet *node_set(GfnNode *n, unsigned level, unsigned i)
{
    return level ? &n->slot[i].set : &n->set[i];
}

static inline void node_set_add(GfnIndex *index, GfnNode *n, PlaceSet *set,
                                uint64_t key)
{
    index->work++;
    if (!*set) {
        *set = key << 1 | 1;
        n->used++;
        return;
    }
    index->work += TREE_WORK;
    if (set_is_single(*set)) {
        GTree *tree = g_tree_new_full(place_compare, NULL, g_free, NULL);

        tree_add(tree, *set >> 1);
        *set = (uintptr_t)tree;
    }
    tree_add(set_tree(*set), key);
}

static gboolean tree_first(gpointer key, gpointer value, gpointer first)
{
    *(uint64_t *)first = *(uint64_t *)key;
    return true;
}

static inline bool node_set_remove(GfnIndex *index, GfnNode *n, PlaceSet *set,
                                   uint64_t key)
{
    GTree *tree;

    index->work++;
    if (!*set) {
        return false;
    }
    if (set_is_single(*set)) {
        if (*set >> 1 != key) {
            return false;
        }
        *set = 0;
        n->used--;
        return true;
    }
    index->work += TREE_WORK;
    tree = set_tree(*set);
    if (!g_tree_remove(tree, &key)) {
        return false;
    }
    if (g_tree_nnodes(tree) == 1) {
        uint64_t last;

        g_tree_foreach(tree, tree_first, &last);
        g_tree_destroy(tree);
        *set = last << 1 | 1;
    }
    return true;
}

static GfnNode *node_new(GfnIndex *index, unsigned level)
{
    NodeChunk *chunk = NULL;
    GfnNode *n;

    if (level < TOP_LEVEL && index->spare[level]) {
        return g_steal_pointer(&index->spare[level]);
    }
    n = level ? g_new0(GfnNode, 1) : node_pool_alloc(&chunk);
    n->chunk = chunk;
    n->level = level;
    QLIST_INSERT_HEAD(&index->nodes, n, next);
    return n;
}

static void node_delete(GfnNode *n)
{
    QLIST_REMOVE(n, next);
    if (n->level) {
        g_free(n);
    } else {
        node_pool_free(n, n->chunk);
    }
}

GfnIndex *gfn_index_new(void)
{
    GfnIndex *index = g_new0(GfnIndex, 1);

    QLIST_INIT(&index->nodes);
    index->root = node_new(index, TOP_LEVEL);
    return index;
}

/* Destroy the trees that @n has; false if *@max came first. */
static bool node_free_sets(GfnNode *n, unsigned *max)
{
    for (unsigned i = 0; i < LEVEL_SLOTS; i++) {
        PlaceSet *set = n->level ? &n->slot[i].set : &n->set[i];

        if (*set && !set_is_single(*set)) {
            if (!*max) {
                return false;
            }
            *max -= MIN(*max, (unsigned)g_tree_nnodes(set_tree(*set)));
            g_tree_destroy(set_tree(*set));
            *set = 0;
        }
    }
    return true;
}

bool gfn_index_free_part(GfnIndex *index, unsigned *max)
{
    GfnNode *n;

    /* The order does not matter: nobody goes from one to another. */
    while ((n = QLIST_FIRST(&index->nodes))) {
        if (!*max || !node_free_sets(n, max)) {
            return false;
        }
        node_delete(n);
        *max -= !!*max;
    }
    g_free(index);
    return true;
}

void gfn_index_free(GfnIndex *index)
{
    unsigned max;

    do {
        max = UINT_MAX;
    } while (!gfn_index_free_part(index, &max));
}

static unsigned level_shift(unsigned level)
{
    return level * LEVEL_BITS;
}

static uint64_t level_span(unsigned level)
{
    return 1ull << level_shift(level);
}

static unsigned slot_index(uint64_t gfn, unsigned level)
{
    return (gfn >> level_shift(level)) & (LEVEL_SLOTS - 1);
}

/* The slots of the node at @base that [@gfn, @end) touches: [*first, *last]. */
static inline void node_slots(unsigned level, uint64_t base, uint64_t gfn,
                              uint64_t end, unsigned *first, unsigned *last)
{
    *first = gfn > base ? (gfn - base) >> level_shift(level) : 0;
    *last = MIN((end - 1 - base) >> level_shift(level), LEVEL_SLOTS - 1);
}

static inline GfnNode *node_child(GfnIndex *index, GfnNode *n, unsigned level,
                                  unsigned i)
{
    if (!n->slot[i].child) {
        n->slot[i].child = node_new(index, level - 1);
        n->used++;
    }
    return n->slot[i].child;
}

/* The child at @i, of which something was removed, may be empty now. */
static inline void node_trim_child(GfnIndex *index, GfnNode *n, unsigned level,
                                   unsigned i)
{
    GfnNode *child = n->slot[i].child;

    if (child->used) {
        return;
    }
    n->slot[i].child = NULL;
    n->used--;
    if (!index->spare[level - 1]) {
        index->spare[level - 1] = child;
    } else {
        node_delete(child);
    }
}

static void node_add(GfnIndex *index, GfnNode *n, unsigned level,
                     uint64_t base, const GfnRun *run)
{
    uint64_t span = level_span(level), start, key;
    unsigned i, last;

    node_slots(level, base, run->gfn, run->end, &i, &last);
    start = base + i * span;
    if (start < run->gfn || start + span > run->end) {
        node_add(index, node_child(index, n, level, i), level - 1, start, run);
        start += span;
        i++;
    }
    key = place_key(run->ctx, run->bfn + (start - run->gfn));
    for (; i <= last && start + span <= run->end; i++) {
        node_set_add(index, n, node_set(n, level, i), key);
        start += span;
        key += span;
    }
    if (i <= last) {
        node_add(index, node_child(index, n, level, i), level - 1, start, run);
    }
}

static void node_remove(GfnIndex *index, GfnNode *n, unsigned level,
                        uint64_t base, const GfnRun *run)
{
    uint64_t span = level_span(level);
    unsigned first, last;

    node_slots(level, base, run->gfn, run->end, &first, &last);
    for (unsigned i = first; i <= last; i++) {
        uint64_t start = base + i * span;
        /* Where the run that @run is a part of would have begun this slot. */
        uint64_t bfn = run->bfn + start - run->gfn;

        if ((start >= run->gfn || run->bfn >= run->gfn - start) &&
            node_set_remove(index, n, node_set(n, level, i),
                            place_key(run->ctx, bfn))) {
            /* What stays of it goes one level down. */
            if (start < run->gfn) {
                GfnRun head = { start, run->gfn, bfn, run->ctx };

                node_add(index, node_child(index, n, level, i), level - 1,
                         start, &head);
            }
            if (run->end < start + span) {
                GfnRun tail = { run->end, start + span,
                                run->bfn + (run->end - run->gfn), run->ctx };

                node_add(index, node_child(index, n, level, i), level - 1,
                         start, &tail);
            }
        } else {
            assert(level && n->slot[i].child);
            node_remove(index, n->slot[i].child, level - 1, start, run);
            node_trim_child(index, n, level, i);
        }
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

void gfn_index_add(GfnIndex *index, uint64_t gfn, uint64_t nr,
                   uint16_t ctx, uint64_t bfn)
{
    GfnRun run = { gfn, gfn + nr, bfn, ctx };
    unsigned bottom = run_level(&run);
    GfnNode *n = index->root;

    for (unsigned level = TOP_LEVEL; level > bottom; level--) {
        n = node_child(index, n, level, slot_index(gfn, level));
    }
    node_add(index, n, bottom, node_base(gfn, bottom), &run);
}

void gfn_index_remove(GfnIndex *index, uint64_t gfn, uint64_t nr,
                      uint16_t ctx, uint64_t bfn)
{
    GfnRun run = { gfn, gfn + nr, bfn, ctx };
    GfnNode *path[TOP_LEVEL + 1] = { [TOP_LEVEL] = index->root };
    unsigned bottom = run_level(&run), level;

    for (level = TOP_LEVEL; level > bottom; level--) {
        const GfnSlot *slot = &path[level]->slot[slot_index(gfn, level)];

        if (slot->set) {
            /* It may have a run that this one is a part of. */
            break;
        }
        assert(slot->child);
        path[level - 1] = slot->child;
    }
    node_remove(index, path[level], level, node_base(gfn, level), &run);
    while (level < TOP_LEVEL && !path[level]->used) {
        level++;
        node_trim_child(index, path[level], level, slot_index(gfn, level));
    }
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

void gfn_index_prefetch(const GfnIndex *index, uint64_t gfn)
{
    const GfnNode *n = index->root;

    for (unsigned level = TOP_LEVEL; level && n; level--) {
        n = n->slot[slot_index(gfn, level)].child;
    }
    if (n) {
        __builtin_prefetch(&n->set[slot_index(gfn, 0)], 1);
    }
}

uint64_t gfn_index_work(const GfnIndex *index)
{
    return index->work;
}

typedef struct GfnVisit {
    GfnIndexFunc *func;
    void *opaque;
    uint64_t start;             /* of the slot the keys are in */
    uint64_t gfn;               /* of the part that was asked for */
    uint64_t nr;
    bool ended;
} GfnVisit;

static bool visit_place(GfnVisit *v, uint64_t key)
{
    v->ended = !v->func(v->opaque, place_ctx(key),
                        place_bfn(key) + (v->gfn - v->start), v->gfn, v->nr);
    return !v->ended;
}

static gboolean visit_tree_place(gpointer key, gpointer value, gpointer visit)
{
    return !visit_place(visit, *(uint64_t *)key);
}

static void node_visit(GfnNode *n, unsigned level, uint64_t base,
                       uint64_t gfn, uint64_t end, GfnVisit *v)
{
    uint64_t span = level_span(level);
    unsigned first, last;

    node_slots(level, base, gfn, end, &first, &last);
    for (unsigned i = first; i <= last && !v->ended; i++) {
        uint64_t start = base + i * span;
        PlaceSet set = *node_set(n, level, i);

        if (set) {
            v->start = start;
            v->gfn = MAX(start, gfn);
            v->nr = MIN(start + span, end) - v->gfn;
            if (set_is_single(set)) {
                visit_place(v, set >> 1);
            } else {
                g_tree_foreach(set_tree(set), visit_tree_place, v);
            }
        }
        if (level && n->slot[i].child && !v->ended) {
            node_visit(n->slot[i].child, level - 1, start, gfn, end, v);
        }
    }
}

bool gfn_index_foreach(GfnIndex *index, uint64_t gfn, uint64_t nr,
                       GfnIndexFunc *func, void *opaque)
{
    GfnVisit visit = { .func = func, .opaque = opaque };

    node_visit(index->root, TOP_LEVEL, 0, gfn, gfn + nr, &visit);
    return !visit.ended;
}

typedef struct PlaceSearch {
    uint64_t key;               /* the lowest that will do */
    uint64_t found;             /* the lowest so far that does */
} PlaceSearch;

static gint search_place(gconstpointer key, gconstpointer opaque)
{
    PlaceSearch *search = (PlaceSearch *)opaque;
    uint64_t k = *(const uint64_t *)key;

    if (k < search->key) {
        return 1;
    }
    /* It would do; there may be a lower one. */
    search->found = k;
    return -1;
}

bool gfn_index_find(GfnIndex *index, uint64_t gfn, uint16_t ctx, uint64_t from,
                    uint64_t *bfn)
{
    GfnNode *n = index->root;

    *bfn = UINT64_MAX;
    for (unsigned level = TOP_LEVEL; ; level--) {
        unsigned i = slot_index(gfn, level);
        PlaceSet set = *node_set(n, level, i);
        uint64_t offset = gfn & (level_span(level) - 1);
        PlaceSearch search = {
            .key = place_key(ctx, from > offset ? from - offset : 0),
            .found = UINT64_MAX,
        };

        if (set_is_single(set)) {
            if (set >> 1 >= search.key) {
                search.found = set >> 1;
            }
        } else if (set) {
            g_tree_search(set_tree(set), search_place, &search);
        }
        if (search.found != UINT64_MAX && place_ctx(search.found) == ctx) {
            *bfn = MIN(*bfn, place_bfn(search.found) + offset);
        }
        if (!level || !n->slot[i].child) {
            return *bfn != UINT64_MAX;
        }
        n = n->slot[i].child;
    }
}
