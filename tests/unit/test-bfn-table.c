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

static uint64_t random_u64(void)
{
    return (uint64_t)g_random_int() << 32 | g_random_int();
}

/* In [0, limit) */
static uint64_t random_below(uint64_t limit)
{
    return random_u64() % limit;
}

static bool chance(unsigned percent)
{
    return g_random_int_range(0, 100) < percent;
}

static unsigned scale(void)
{
    const char *s = g_getenv("XEN_PVIOMMU_TEST_SCALE");

    return s ? MAX(atoi(s), 1) : 1;
}

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

/* Any length counts: as likely a page as a GiB. */
static uint64_t random_nr(unsigned max_order)
{
    uint64_t nr = 1ull << g_random_int_range(0, max_order + 1);

    switch (g_random_int_range(0, 4)) {
    case 0:
        return nr;
    case 1:
        return nr + random_below(nr);
    case 2:
        return nr + 1;
    default:
        return MAX(nr - 1, 1);
    }
}

static void random_map(Model *m, unsigned max_order)
{
    uint64_t limit = model_limit(m);
    uint64_t nr = MIN(random_nr(max_order), limit);
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
        /* Beside what is there, often going on where that ends. */
        const BfnRun *p = piece_at(m, g_random_int_range(0, m->pieces->len));

        bfn = p->bfn + p->nr;
        nr = MIN(nr, limit - bfn);
        if (chance(50) && p->gfn + p->nr + nr <= 1ull << 40) {
            gfn = p->gfn + p->nr;
        }
    }
    if (nr && !model_range_empty(m, bfn, nr) && chance(80)) {
        /* Fill the hole at bfn, as far as it goes. */
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
        uint64_t nr = MIN(random_nr(63 - clz64(p.nr)), p.nr);

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
static void test_sparse(void)
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
static void test_idle_chain(void)
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
static void test_replace_idle(void)
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
static void test_split(void)
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
static void test_cost(void)
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

static void test_budget(void)
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

/*
 * Readers beside the writer. In each generation an arena is mapped as one
 * run, and all of it but every KEEP_STEP'th frame is unmapped, bit by bit.
 */
#define ARENA_BFN       ((1ull << GIB1) - 1000)
#define ARENA_NR        ((1ull << GIB1) + 3000)
#define KEEP_STEP       4099
#define NEIGHBOUR_NR    512

typedef struct Shared {
    BfnTable *t;
    unsigned gen;               /* odd: the arena is being mapped or removed */
    uint64_t arena_gfn;         /* of this generation */
    uint8_t gone[ARENA_NR];     /* unmapped for sure */
    bool stop;
    uint64_t lookups;
} Shared;

static uint64_t neighbour_gfn(uint64_t bfn)
{
    return bfn + (3ull << 30);
}

static void read_neighbour(Shared *s, GRand *rand)
{
    uint64_t bfn = g_rand_int_range(rand, 0, NEIGHBOUR_NR);
    BfnTranslation tr;

    bfn += g_rand_boolean(rand) ? ARENA_BFN - NEIGHBOUR_NR
                                : ARENA_BFN + ARENA_NR;
    g_assert_true(bfn_table_translate(s->t, bfn, &tr));
    g_assert_cmphex(tr.gfn, ==, neighbour_gfn(bfn));
    g_assert_cmpuint(tr.order, <=, 9);
    g_assert_true(tr.readonly);
}

static void read_arena(Shared *s, GRand *rand)
{
    unsigned gen = qatomic_load_acquire(&s->gen);
    uint64_t arena_gfn = qatomic_read_u64(&s->arena_gfn);
    uint64_t f = g_rand_int_range(rand, 0, ARENA_NR);
    uint64_t near = f ^ (1u << g_rand_int_range(rand, 0, 12));
    bool keep = g_rand_boolean(rand);
    bool gone, near_gone, mapped;
    BfnTranslation tr;

    if (keep) {
        f -= f % KEEP_STEP;
    }
    gone = qatomic_load_acquire(&s->gone[f]);
    /*
     * What a reader saw gone must not come back in the block of a frame that
     * stays; in the block of one that goes as well, not after the unmap.
     */
    near_gone = near < ARENA_NR &&
                (keep ? !bfn_table_translate(s->t, ARENA_BFN + near, &tr)
                      : qatomic_load_acquire(&s->gone[near]));
    /* In this order, see above; and all before gen is read again */
    smp_rmb();
    mapped = bfn_table_translate(s->t, ARENA_BFN + f, &tr);
    smp_rmb(); /* pairs with smp_wmb() in test_readers() */
    if ((gen & 1) || qatomic_read(&s->gen) != gen) {
        return;
    }
    if (keep) {
        g_assert_true(mapped);
    }
    if (gone) {
        g_assert_false(mapped);
    }
    if (mapped) {
        uint64_t size = 1ull << tr.order;
        uint64_t start = (ARENA_BFN + f) & ~(size - 1);

        g_assert_cmphex(tr.gfn, ==, arena_gfn + f);
        g_assert_false(tr.readonly);
        g_assert_cmphex(start, >=, ARENA_BFN);
        g_assert_cmphex(start + size, <=, ARENA_BFN + ARENA_NR);
        if (near_gone) {
            g_assert(ARENA_BFN + near < start ||
                     ARENA_BFN + near >= start + size);
        }
    }
}

typedef struct Reader {
    QemuThread thread;
    Shared *shared;
    uint32_t seed;
} Reader;

static void *reader_thread(void *opaque)
{
    Reader *r = opaque;
    GRand *rand = g_rand_new_with_seed(r->seed);
    uint64_t n = 0;

    rcu_register_thread();
    while (!qatomic_read(&r->shared->stop)) {
        RCU_READ_LOCK_GUARD();
        for (int i = 0; i < 64; i++, n++) {
            read_neighbour(r->shared, rand);
            read_arena(r->shared, rand);
        }
    }
    rcu_unregister_thread();
    g_rand_free(rand);
    qatomic_add(&r->shared->lookups, n);
    return NULL;
}

/* Unmap [f, f + nr) of the arena but for the frames that are kept. */
static void thin_out(Shared *s, uint64_t f, uint64_t nr)
{
    uint64_t end = MIN(f + nr, ARENA_NR);

    while (f < end) {
        uint64_t next;

        if (!(f % KEEP_STEP)) {
            f++;
            continue;
        }
        next = MIN(end, QEMU_ALIGN_UP(f, KEEP_STEP));
        while (f < next && s->gone[f]) {
            f++;
        }
        if (f < next) {
            uint64_t last = f;

            while (last < next && !s->gone[last]) {
                last++;
            }
            bfn_table_unmap(s->t, ARENA_BFN + f, last - f);
            for (; f < last; f++) {
                qatomic_store_release(&s->gone[f], 1);
            }
        }
    }
}

static void test_readers(void)
{
    XenPVIOMMUBudget budget = { };
    g_autofree Shared *s = g_new0(Shared, 1);
    int64_t end = g_get_monotonic_time() + scale() * G_USEC_PER_SEC;
    BfnRun left = {
        ARENA_BFN - NEIGHBOUR_NR, neighbour_gfn(ARENA_BFN - NEIGHBOUR_NR),
        NEIGHBOUR_NR, true
    };
    BfnRun right = {
        ARENA_BFN + ARENA_NR, neighbour_gfn(ARENA_BFN + ARENA_NR),
        NEIGHBOUR_NR, true
    };
    Reader readers[2];
    unsigned gens = 0;

    xen_pviommu_budget_init(&budget, SIZE_MAX / 2);
    s->t = bfn_table_new(40, &budget);
    s->gen = 1;
    g_assert_true(bfn_table_map(s->t, &left));
    g_assert_true(bfn_table_map(s->t, &right));
    for (int i = 0; i < ARRAY_SIZE(readers); i++) {
        readers[i].shared = s;
        readers[i].seed = g_random_int();
        qemu_thread_create(&readers[i].thread, "reader", reader_thread,
                           &readers[i], QEMU_THREAD_JOINABLE);
    }

    do {
        BfnRun run = { ARENA_BFN, 0, ARENA_NR, false };
        BfnRun rest;

        /* Often aligned, so that big blocks are seen. */
        run.gfn = chance(70) ? ARENA_BFN + (uint64_t)gens * (1ull << GIB1)
                             : random_below(1ull << 39);
        for (unsigned f = 0; f < ARENA_NR; f++) {
            qatomic_set(&s->gone[f], 0);
        }
        qatomic_set_u64(&s->arena_gfn, run.gfn);
        g_assert_true(bfn_table_map(s->t, &run));
        qatomic_store_release(&s->gen, s->gen + 1);

        for (int i = 0; i < 200; i++) {
            thin_out(s, random_below(ARENA_NR), random_nr(12));
        }
        thin_out(s, 0, ARENA_NR);

        qatomic_set(&s->gen, s->gen + 1);
        smp_wmb(); /* gen is odd before anything that was to stay goes */
        while (bfn_table_next_run(s->t, ARENA_BFN, ARENA_BFN + ARENA_NR,
                                  &rest)) {
            g_assert_cmpuint(rest.nr, ==, 1);
            g_assert_cmphex(rest.gfn, ==, run.gfn + (rest.bfn - ARENA_BFN));
            bfn_table_unmap(s->t, rest.bfn, rest.nr);
        }
        gens++;
    } while (g_get_monotonic_time() < end);

    qatomic_set(&s->stop, true);
    for (int i = 0; i < ARRAY_SIZE(readers); i++) {
        qemu_thread_join(&readers[i].thread);
    }
    g_test_message("%u generations, %" PRIu64 " lookups", gens, s->lookups);
    bfn_table_free(s->t);
    g_assert_cmpuint(budget.nodes, ==, 0);
    xen_pviommu_budget_destroy(&budget);
    rcu_barrier();
}

int main(int argc, char **argv)
{
    static const unsigned bits[] = { 12, 13, 18, 19, 27, 28, 36, 37, 40 };

    g_test_init(&argc, &argv, NULL);
    g_random_set_seed(g_test_rand_int());
    for (int i = 0; i < ARRAY_SIZE(bits); i++) {
        g_autofree char *random = g_strdup_printf("/bfn-table/random/%u",
                                                  bits[i]);
        g_autofree char *limits = g_strdup_printf("/bfn-table/limits/%u",
                                                  bits[i]);

        g_test_add_data_func(limits, GUINT_TO_POINTER(bits[i]), test_limits);
        g_test_add_data_func(random, GUINT_TO_POINTER(bits[i]), test_random);
    }
    g_test_add_func("/bfn-table/split", test_split);
    g_test_add_func("/bfn-table/cost", test_cost);
    g_test_add_func("/bfn-table/budget", test_budget);
    g_test_add_func("/bfn-table/replace-idle", test_replace_idle);
    g_test_add_func("/bfn-table/idle-chain", test_idle_chain);
    g_test_add_func("/bfn-table/sparse", test_sparse);
    g_test_add_func("/bfn-table/readers", test_readers);
    return g_test_run();
}
