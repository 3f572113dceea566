/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The BFN table against a list of what was mapped
 */

#include "qemu/osdep.h"
#include "qemu/atomic.h"
#include "qemu/host-utils.h"
#include "qemu/rcu.h"
#include "qemu/thread.h"
#include "../../hw/xen/pviommu/core/bfn-table.h"
#include "test-random.h"
#include "test-rcu-barrier.h"

#define KIB4    0               /* orders */
#define MIB2    9
#define GIB1    18
#define GIB512  27

#define ORDER_MAX 31            /* of a block, as the table keeps it */
#define IDLE_NODES_MAX 16

typedef struct Model {
    BfnTable *t;
    XenPVIOMMUBudget budget;
    unsigned bits;
    unsigned levels;
    GArray *pieces;             /* of BfnRun: what is left of each map */
} Model;

static Model *model_new(unsigned bits)
{
    Model *m = g_new0(Model, 1);

    m->bits = bits;
    m->levels = DIV_ROUND_UP(bits, 9);
    xen_pviommu_budget_init(&m->budget, SIZE_MAX / 2);
    m->t = bfn_table_new(bits, &m->budget);
    m->pieces = g_array_new(false, false, sizeof(BfnRun));
    g_assert_cmpuint(m->budget.nodes, ==, 1);
    return m;
}

static void model_free(Model *m)
{
    bfn_table_free(m->t);
    g_assert_cmpuint(m->budget.nodes, ==, 0);
    g_assert_cmpuint(m->budget.reserved, ==, 0);
    xen_pviommu_budget_destroy(&m->budget);
    rcu_barrier();
    g_assert_cmpuint(node_pool_nodes(), ==, 0);
    g_array_free(m->pieces, true);
    g_free(m);
}

static uint64_t model_limit(const Model *m)
{
    return 1ull << m->bits;
}

static BfnRun *piece_at(const Model *m, guint i)
{
    return &g_array_index(m->pieces, BfnRun, i);
}

/* The first piece that ends beyond @bfn. */
static guint piece_index(const Model *m, uint64_t bfn)
{
    guint lo = 0, hi = m->pieces->len;

    while (lo < hi) {
        guint mid = (lo + hi) / 2;
        const BfnRun *p = piece_at(m, mid);

        if (p->bfn + p->nr > bfn) {
            hi = mid;
        } else {
            lo = mid + 1;
        }
    }
    return lo;
}

static const BfnRun *piece_of(const Model *m, uint64_t bfn)
{
    guint i = piece_index(m, bfn);

    return i < m->pieces->len && piece_at(m, i)->bfn <= bfn ? piece_at(m, i)
                                                            : NULL;
}

static bool model_range_empty(const Model *m, uint64_t bfn, uint64_t nr)
{
    guint i = piece_index(m, bfn);

    return i == m->pieces->len || piece_at(m, i)->bfn >= bfn + nr;
}

static bool model_next_run(const Model *m, uint64_t bfn, uint64_t end,
                           BfnRun *run)
{
    guint i = piece_index(m, bfn);

    run->nr = 0;
    for (; i < m->pieces->len; i++) {
        const BfnRun *p = piece_at(m, i);
        uint64_t start = MAX(p->bfn, bfn);
        uint64_t stop = MIN(p->bfn + p->nr, end);
        uint64_t gfn = p->gfn + (start - p->bfn);

        if (start >= stop) {
            break;
        }
        if (!run->nr) {
            *run = (BfnRun) { start, gfn, 0, p->readonly };
        } else if (run->bfn + run->nr != start || run->gfn + run->nr != gfn ||
                   run->readonly != p->readonly) {
            break;
        }
        run->nr += stop - start;
    }
    return run->nr;
}

static unsigned expected_order(const BfnRun *p, uint64_t bfn)
{
    uint64_t offset = p->gfn - p->bfn;
    unsigned order = 0;

    while (order < ORDER_MAX) {
        uint64_t size = 2ull << order;
        uint64_t start = bfn & ~(size - 1);

        if (start < p->bfn || start + size > p->bfn + p->nr ||
            (offset & (size - 1))) {
            break;
        }
        order++;
    }
    return order;
}

static void check_same(const Model *m, uint64_t bfn, const BfnTranslation *tr)
{
    const BfnRun *p = piece_of(m, bfn);
    BfnTranslation other;
    uint64_t mask = (1ull << tr->order) - 1;

    g_assert_nonnull(p);
    g_assert_true(bfn_table_translate(m->t, bfn, &other));
    g_assert_cmphex(other.gfn, ==, p->gfn + (bfn - p->bfn));
    g_assert_cmphex(other.gfn, ==, (tr->gfn & ~mask) | (bfn & mask));
    g_assert_cmpuint(other.order, ==, tr->order);
    g_assert(other.readonly == tr->readonly);
}

static void check_frame(const Model *m, uint64_t bfn)
{
    const BfnRun *p;
    BfnTranslation tr;
    bool mapped;

    if (bfn >= model_limit(m)) {
        return;
    }
    RCU_READ_LOCK_GUARD();
    mapped = bfn_table_translate(m->t, bfn, &tr);
    p = piece_of(m, bfn);
    g_assert(mapped == !!p);
    if (mapped) {
        uint64_t size, start;

        g_assert_cmphex(tr.gfn, ==, p->gfn + (bfn - p->bfn));
        g_assert(tr.readonly == p->readonly);
        g_assert_cmpuint(tr.order, ==, expected_order(p, bfn));
        size = 1ull << tr.order;
        start = bfn & ~(size - 1);
        check_same(m, start, &tr);
        check_same(m, start + size - 1, &tr);
        check_same(m, start + size / 2, &tr);
        for (int i = 0; i < 4; i++) {
            check_same(m, start + random_below(size), &tr);
        }
    }
}

static void check_edges(const Model *m, uint64_t bfn, uint64_t nr)
{
    uint64_t at[] = {
        bfn, bfn + 1, bfn + nr / 2, bfn + nr - 1, bfn + nr, bfn + nr + 1,
        bfn ? bfn - 1 : 0, bfn + random_below(nr), random_below(model_limit(m)),
    };

    for (int i = 0; i < ARRAY_SIZE(at); i++) {
        check_frame(m, at[i]);
    }
}

static void check_runs(const Model *m, uint64_t bfn, uint64_t end)
{
    BfnRun expected, run;
    bool more;

    do {
        more = model_next_run(m, bfn, end, &expected);
        g_assert(bfn_table_next_run(m->t, bfn, end, &run) == more);
        if (more) {
            g_assert_cmphex(run.bfn, ==, expected.bfn);
            g_assert_cmphex(run.gfn, ==, expected.gfn);
            g_assert_cmphex(run.nr, ==, expected.nr);
            g_assert(run.readonly == expected.readonly);
            bfn = run.bfn + run.nr;
        }
    } while (more);
}

static void check_all(const Model *m)
{
    check_runs(m, 0, model_limit(m));
    for (guint i = 0; i < m->pieces->len; i++) {
        check_edges(m, piece_at(m, i)->bfn, piece_at(m, i)->nr);
    }
}

static void model_map(Model *m, uint64_t bfn, uint64_t gfn, uint64_t nr,
                      bool readonly)
{
    BfnRun run = { bfn, gfn, nr, readonly };
    size_t before = m->budget.nodes;

    g_assert_true(bfn_table_range_empty(m->t, bfn, nr));
    g_assert_true(bfn_table_map(m->t, &run));
    g_assert_cmpuint(m->budget.nodes, <=, before + 2 * (m->levels - 1));
    g_array_insert_val(m->pieces, piece_index(m, bfn), run);
    g_assert_false(bfn_table_range_empty(m->t, bfn, nr));
}

static void model_unmap(Model *m, uint64_t bfn, uint64_t nr)
{
    uint64_t end = bfn + nr;
    size_t before = m->budget.nodes;
    guint i;

    bfn_table_unmap(m->t, bfn, nr);
    g_assert_true(bfn_table_range_empty(m->t, bfn, nr));
    /* Two edges, a node a level for each */
    g_assert_cmpuint(m->budget.nodes, <=, before + 2 * (m->levels - 1));
    while ((i = piece_index(m, bfn)) < m->pieces->len &&
           piece_at(m, i)->bfn < end) {
        BfnRun p = *piece_at(m, i);

        g_array_remove_index(m->pieces, i);
        if (p.bfn + p.nr > end) {
            BfnRun tail = {
                end, p.gfn + (end - p.bfn), p.bfn + p.nr - end, p.readonly
            };

            g_array_insert_val(m->pieces, i, tail);
        }
        if (p.bfn < bfn) {
            p.nr = bfn - p.bfn;
            g_array_insert_val(m->pieces, i, p);
        }
    }
}

static void model_unmap_all(Model *m)
{
    while (m->pieces->len) {
        BfnRun p = *piece_at(m, g_random_int_range(0, m->pieces->len));

        model_unmap(m, p.bfn, p.nr);
    }
    check_runs(m, 0, model_limit(m));
    /* The root, and what leads to the empty nodes that are kept. */
    g_assert_cmpuint(m->budget.nodes, <=, 1 + IDLE_NODES_MAX * (m->levels - 1));
}

static void random_map(Model *m, unsigned max_order)
{
    uint64_t limit = model_limit(m);
    uint64_t nr = MIN(random_length(max_order), limit);
    uint64_t bfn = random_below(limit - nr + 1);
    uint64_t gfn = random_below((1ull << 40) - nr);
    unsigned align = g_random_int_range(0, max_order + 1);

    switch (g_random_int_range(0, 4)) {
    case 0:
        break;
    case 1:     /* BFN and GFN aligned */
        gfn &= ~((1ull << align) - 1);
        /* fall through */
    case 2:     /* BFN aligned */
        bfn &= ~((1ull << align) - 1);
        break;
    case 3:     /* neither, but the same way */
        gfn = (gfn & ~((1ull << align) - 1)) | (bfn & ((1ull << align) - 1));
        gfn = MIN(gfn, (1ull << 40) - nr);
        break;
    }
    if (m->pieces->len && chance(30)) {
        /* Beside what is mapped, often from its end on. */
        const BfnRun *p = piece_at(m, g_random_int_range(0, m->pieces->len));

        bfn = p->bfn + p->nr;
        nr = MIN(nr, limit - bfn);
        if (chance(50) && p->gfn + p->nr + nr <= 1ull << 40) {
            gfn = p->gfn + p->nr;
        }
    }
    if (nr && !model_range_empty(m, bfn, nr) && chance(80)) {
        /* Fill the gap at bfn, to its end. */
        guint i = piece_index(m, bfn);

        nr = piece_at(m, i)->bfn > bfn ? piece_at(m, i)->bfn - bfn : 0;
    }
    if (!nr || !model_range_empty(m, bfn, nr)) {
        if (nr) {
            g_assert_false(bfn_table_range_empty(m->t, bfn, nr));
        }
        return;
    }
    model_map(m, bfn, gfn, nr, chance(30));
    check_edges(m, bfn, nr);
}

static void random_unmap(Model *m)
{
    guint i = g_random_int_range(0, m->pieces->len);
    BfnRun p = *piece_at(m, i);
    uint64_t start = p.bfn, end = p.bfn + p.nr;

    if (chance(60)) {
        uint64_t nr = MIN(random_length(63 - clz64(p.nr)), p.nr);

        start += random_below(p.nr - nr + 1);
        if (chance(50)) {
            start = MAX(start & ~((1ull << (63 - clz64(nr))) - 1), p.bfn);
        }
        end = start + nr;
    }
    if (end == p.bfn + p.nr && chance(50)) {
        /* On into its neighbours. */
        while (++i < m->pieces->len && piece_at(m, i)->bfn == end) {
            end += piece_at(m, i)->nr;
            if (chance(30)) {
                end -= random_below(piece_at(m, i)->nr);
                break;
            }
        }
    }
    model_unmap(m, start, end - start);
    check_edges(m, start, end - start);
    check_edges(m, p.bfn, p.nr);
}

static void test_random(gconstpointer opaque)
{
    unsigned bits = GPOINTER_TO_UINT(opaque);
    unsigned rounds = 8 * scale();

    for (unsigned round = 0; round < rounds; round++) {
        Model *m = model_new(bits);
        unsigned max_order = MIN(round & 1 ? bits : bits / 2, 34);
        unsigned max_pieces = g_random_int_range(2, 300);

        for (unsigned i = 0; i < 1500; i++) {
            if (m->pieces->len < max_pieces && chance(60)) {
                random_map(m, max_order);
            } else if (m->pieces->len) {
                random_unmap(m);
            }
            if (!(i % 64)) {
                uint64_t bfn = random_below(model_limit(m));

                check_all(m);
                check_runs(m, bfn,
                           bfn + random_below(model_limit(m) - bfn + 1));
            }
            if (!(i % 500)) {
                model_unmap_all(m);
            }
        }
        if (round & 1) {
            model_unmap_all(m);
        }
        model_free(m);
    }
}

/* Lone pages all over the table come and go; what they took comes back. */
static void test_nodes_are_freed_after_unmap(void)
{
    Model *m = model_new(40);

    for (int round = 0; round < 4; round++) {
        for (int i = 0; i < 500; i++) {
            uint64_t bfn = random_below(model_limit(m));

            if (model_range_empty(m, bfn, 1)) {
                model_map(m, bfn, random_below(1ull << 40), 1, false);
            }
        }
        check_all(m);
        while (m->pieces->len > (round & 1 ? 0 : 10)) {
            BfnRun p = *piece_at(m, g_random_int_range(0, m->pieces->len));

            model_unmap(m, p.bfn, p.nr);
            check_frame(m, p.bfn);
        }
        check_all(m);
    }
    model_unmap_all(m);
    model_free(m);
}

/*
 * As many idle nodes as a table keeps, each the only one of its parent: the
 * next one sends them, their parents and itself away.
 */
static void test_idle_nodes_are_limited(void)
{
    for (unsigned shift = MIB2; shift <= GIB512; shift += 9) {
        for (unsigned nr = IDLE_NODES_MAX - 1; nr < IDLE_NODES_MAX + 4; nr++) {
            Model *m = model_new(40);

            for (unsigned round = 0; round < 6; round++) {
                /* Elsewhere each time, for the idle ones to be sent away */
                for (unsigned i = 0; i < nr; i++) {
                    model_map(m, (uint64_t)(i + round * nr) << shift, i, 1,
                              false);
                }
                check_all(m);
                while (m->pieces->len) {
                    model_unmap(m, piece_at(m, 0)->bfn, 1);
                }
            }
            model_unmap_all(m);
            /* Still all right? */
            model_map(m, 0, 0, 1ull << 36, false);
            check_all(m);
            model_unmap_all(m);
            model_free(m);
        }
    }
}

/* Bigger leaves take the place of empty nodes that were kept. */
static void test_large_leaf_replaces_idle_nodes(void)
{
    for (unsigned order = MIB2; order <= GIB512 + 1; order++) {
        Model *m = model_new(40);

        for (int i = 0; i < 20; i++) {
            uint64_t bfn = random_below(1ull << order);

            model_map(m, bfn, bfn, 1, false);
            model_unmap(m, bfn, 1);
        }
        model_map(m, 0, 0, 1ull << order, false);
        check_all(m);
        if (!(order % 9)) {
            /* Nothing is left but the path to the leaf. */
            g_assert_cmpuint(m->budget.nodes, <=, m->levels);
        }
        model_unmap_all(m);
        model_free(m);
    }
}

/* One page out of the middle of a leaf of every size. */
static void test_page_can_leave_any_leaf(void)
{
    static const unsigned orders[] = { KIB4, 1, MIB2, MIB2 + 3, GIB1, GIB1 + 1,
                                       GIB512, GIB512 + 4 };

    for (int i = 0; i < ARRAY_SIZE(orders); i++) {
        uint64_t size = 1ull << orders[i];

        for (int where = 0; where < 3; where++) {
            Model *m = model_new(40);
            uint64_t at = where == 0 ? 0 : where == 1 ? size - 1 : size / 2;
            uint64_t base = 3 * size;
            BfnTranslation tr;

            model_map(m, base, 5 * size, size, where == 1);
            WITH_RCU_READ_LOCK_GUARD() {
                g_assert_true(bfn_table_translate(m->t, base + at, &tr));
                g_assert_cmpuint(tr.order, ==, orders[i]);
            }
            check_all(m);
            model_unmap(m, base + at, 1);
            check_all(m);
            for (unsigned o = 0; o < orders[i]; o++) {
                check_frame(m, base + (at ^ (1ull << o)));
            }
            model_map(m, base + at, 7, 1, false);
            check_all(m);
            model_unmap(m, base, size);
            g_assert_cmpuint(m->pieces->len, ==, 0);
            check_all(m);
            model_unmap_all(m);
            model_free(m);
        }
    }
}

/* The first and the last BFN, and all of them at once. */
static void test_limits(gconstpointer opaque)
{
    Model *m = model_new(GPOINTER_TO_UINT(opaque));
    uint64_t limit = model_limit(m);
    BfnRun run;

    g_assert_true(bfn_table_range_empty(m->t, 0, limit));
    g_assert_false(bfn_table_next_run(m->t, 0, limit, &run));
    g_assert_false(bfn_table_next_run(m->t, limit - 1, limit, &run));
    g_assert_false(bfn_table_next_run(m->t, limit, limit, &run));

    model_map(m, limit - 1, (1ull << 40) - 1, 1, true);
    model_map(m, 0, 0, 1, false);
    check_all(m);
    g_assert_true(bfn_table_range_empty(m->t, 1, limit - 2));
    g_assert_false(bfn_table_range_empty(m->t, 1, limit - 1));
    g_assert_true(bfn_table_next_run(m->t, 1, limit, &run));
    g_assert_cmphex(run.bfn, ==, limit - 1);
    model_unmap(m, limit - 1, 1);
    model_unmap(m, 0, 1);

    model_map(m, 0, 0, limit, false);
    check_all(m);
    model_unmap(m, 0, limit);
    check_all(m);

    model_map(m, 1, 0, limit - 2, false);
    check_all(m);
    model_map(m, 0, 3, 1, false);
    model_map(m, limit - 1, limit - 2, 1, false);
    check_all(m);
    model_unmap(m, limit / 2, 1);
    check_all(m);
    model_unmap(m, limit / 2 + 1, limit / 2 - 1);
    model_unmap(m, 0, limit / 2);
    check_all(m);
    model_unmap_all(m);
    model_free(m);
}

/* What a range costs does not depend on how long it is. */
static void test_cost_does_not_depend_on_length(void)
{
    Model *m = model_new(40);

    model_map(m, 1ull << GIB1, 1ull << GIB1, 1ull << GIB1, false);
    g_assert_cmpuint(m->budget.nodes, <=, 3);
    model_unmap_all(m);
    model_free(m);

    /* The GFN's alignment costs nothing. */
    m = model_new(40);
    model_map(m, 1ull << GIB1, 12345, 1ull << GIB1, false);
    g_assert_cmpuint(m->budget.nodes, <=, 3);
    check_all(m);
    model_unmap_all(m);
    model_free(m);

    /* An unaligned BFN costs its two edges. */
    m = model_new(40);
    model_map(m, (5ull << GIB1) + 777, 12345, 1ull << GIB1, false);
    g_assert_cmpuint(m->budget.nodes, <=, 1 + 2 * 4);
    check_all(m);
    model_unmap_all(m);
    model_free(m);

    m = model_new(40);
    model_map(m, 777, 12345, (1ull << 32) - 1, false);
    g_assert_cmpuint(m->budget.nodes, <=, 1 + 2 * 4);
    check_all(m);
    model_unmap_all(m);
    model_free(m);
}

static size_t budget_taken(const Model *m)
{
    return node_pool_bytes(m->budget.pool) + m->budget.reserved;
}

static void test_map_keeps_to_the_budget(void)
{
    Model *m = model_new(40);
    BfnRun refused = { .bfn = 777, .gfn = 1, .nr = 1ull << GIB1 };
    BfnRun run = { .bfn = 5, .gfn = 5, .nr = 1 };
    size_t most;

    model_map(m, 12ull << 36, 9, 1, false);
    /* Two ends of four levels; and what it takes when it is split. */
    most = budget_taken(m) + node_pool_lacks(m->budget.pool, 8) +
           DIV_ROUND_UP(refused.nr, 511) * NODE_POOL_NODE_BYTES;
    m->budget.max_bytes = most - 1;
    g_assert_false(bfn_table_map(m->t, &refused));
    g_assert_true(bfn_table_range_empty(m->t, refused.bfn, refused.nr));
    check_all(m);

    m->budget.max_bytes = most;
    model_map(m, refused.bfn, refused.gfn, refused.nr, false);
    check_all(m);
    most = budget_taken(m);
    g_assert_cmpuint(most, <=, m->budget.max_bytes);

    /* Unmap is never refused, and takes what was reserved. */
    m->budget.max_bytes = 1;
    g_assert_false(bfn_table_map(m->t, &run));
    for (uint64_t at = 0; at + 512 < refused.nr; at += 512) {
        model_unmap(m, refused.bfn + at + random_below(512), 1);
        g_assert_cmpuint(budget_taken(m), <=, most + NODE_POOL_CHUNK_SIZE);
    }
    check_all(m);
    model_unmap_all(m);

    /* Two tables on one budget. */
    m->budget.max_bytes = SIZE_MAX / 2;
    {
        BfnTable *other = bfn_table_new(36, &m->budget);
        size_t before = m->budget.nodes;

        g_assert_true(bfn_table_map(other, &refused));
        g_assert_true(bfn_table_map(other, &run));
        g_assert_cmpuint(m->budget.nodes, >, before);
        bfn_table_free(other);
        g_assert_cmpuint(m->budget.nodes, ==, before - 1);
        g_assert_cmpuint(m->budget.reserved, ==, 0);
    }
    model_free(m);
}

int main(int argc, char **argv)
{
    static const unsigned bits[] = { 12, 13, 18, 19, 27, 28, 36, 37, 40 };

    g_test_init(&argc, &argv, NULL);
    g_random_set_seed(g_test_rand_int());
    for (int i = 0; i < ARRAY_SIZE(bits); i++) {
        g_autofree char *random =
            g_strdup_printf("/bfn-table/random-maps-match-a-list/%u", bits[i]);
        g_autofree char *limits =
            g_strdup_printf("/bfn-table/first-and-last-bfn-work/%u", bits[i]);

        g_test_add_data_func(limits, GUINT_TO_POINTER(bits[i]), test_limits);
        g_test_add_data_func(random, GUINT_TO_POINTER(bits[i]), test_random);
    }
    g_test_add_func("/bfn-table/page-can-leave-any-leaf",
                    test_page_can_leave_any_leaf);
    g_test_add_func("/bfn-table/cost-does-not-depend-on-length",
                    test_cost_does_not_depend_on_length);
    g_test_add_func("/bfn-table/map-keeps-to-the-budget",
                    test_map_keeps_to_the_budget);
    g_test_add_func("/bfn-table/large-leaf-replaces-idle-nodes",
                    test_large_leaf_replaces_idle_nodes);
    g_test_add_func("/bfn-table/idle-nodes-are-limited",
                    test_idle_nodes_are_limited);
    g_test_add_func("/bfn-table/nodes-are-freed-after-unmap",
                    test_nodes_are_freed_after_unmap);
    return g_test_run();
}
