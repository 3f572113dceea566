/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The GFN index against a plain list
 */

#include "qemu/osdep.h"
#include "../../hw/xen/pviommu/core/bfn-table.h"
#include "../../hw/xen/pviommu/core/gfn-index.h"
#include "../../hw/xen/pviommu/core/node-pool.h"
#include "test-random.h"

#define GFN_LIMIT (1ull << GFN_INDEX_BITS)
#define BFN_LIMIT (1ull << BFN_TABLE_MAX_BITS)

typedef struct Place {
    uint16_t ctx;
    uint64_t bfn;
    uint64_t gfn;
    uint64_t nr;
} Place;

typedef struct Model {
    XenPVIOMMUBudget budget;
    GfnIndex *index;
    GArray *places;             /* of Place */
} Model;

static Place *place_at(const GArray *places, guint i)
{
    return &g_array_index(places, Place, i);
}

static void model_init(Model *m)
{
    *m = (Model) { };
    xen_pviommu_budget_init(&m->budget, SIZE_MAX / 2);
    m->index = gfn_index_new(&m->budget);
    m->places = g_array_new(false, false, sizeof(Place));
}

/* A few nodes at a time, never more than was said. */
static void index_free_in_parts(GfnIndex *index)
{
    size_t before = node_pool_nodes();
    unsigned max = 0, parts = 0;
    bool done;

    g_assert_false(gfn_index_free_part(index, &max));
    g_assert_cmpuint(node_pool_nodes(), ==, before);
    do {
        max = 3;
        before = node_pool_nodes();
        done = gfn_index_free_part(index, &max);
        g_assert_cmpuint(before - node_pool_nodes(), <=, 3);
        g_assert_cmpuint(parts++, <, 1000000);
    } while (!done);
}

static void model_destroy(Model *m)
{
    gfn_index_free(m->index);
    g_assert_cmpuint(m->budget.reserved, ==, 0);
    g_assert_cmpuint(node_pool_heap_bytes(m->budget.pool), ==, 0);
    xen_pviommu_budget_destroy(&m->budget);
    g_assert_cmpuint(node_pool_nodes(), ==, 0);
    g_array_free(m->places, true);
}

/* A BFN maps one GFN: what is in a context at a time does not overlap. */
static bool bfn_free(const Model *m, uint16_t ctx, uint64_t bfn, uint64_t nr)
{
    for (guint i = 0; i < m->places->len; i++) {
        const Place *p = place_at(m->places, i);

        if (p->ctx == ctx && p->bfn < bfn + nr && bfn < p->bfn + p->nr) {
            return false;
        }
    }
    return true;
}

static void model_add(Model *m, uint16_t ctx, uint64_t bfn, uint64_t gfn,
                      uint64_t nr)
{
    Place p = { ctx, bfn, gfn, nr };

    g_assert_true(bfn_free(m, ctx, bfn, nr));
    g_assert_true(gfn_index_add(m->index, gfn, nr, ctx, bfn));
    g_array_append_val(m->places, p);
}

/* A run, maybe of several places that follow each other on both sides. */
static void model_remove(Model *m, uint16_t ctx, uint64_t bfn, uint64_t gfn,
                         uint64_t nr)
{
    uint64_t left = nr;

    g_assert_true(gfn_index_split(m->index, gfn, ctx, bfn));
    g_assert_true(gfn_index_split(m->index, gfn + nr, ctx, bfn + nr));
    gfn_index_remove(m->index, gfn, nr, ctx, bfn);
    for (guint i = 0; i < m->places->len; ) {
        Place p = *place_at(m->places, i);
        uint64_t start = MAX(p.bfn, bfn), end = MIN(p.bfn + p.nr, bfn + nr);

        if (p.ctx != ctx || start >= end) {
            i++;
            continue;
        }
        g_assert_cmphex(p.gfn + (start - p.bfn), ==, gfn + (start - bfn));
        left -= end - start;
        g_array_remove_index_fast(m->places, i);
        if (p.bfn < start) {
            Place head = { ctx, p.bfn, p.gfn, start - p.bfn };

            g_array_append_val(m->places, head);
        }
        if (p.bfn + p.nr > end) {
            Place tail = {
                ctx, end, p.gfn + (end - p.bfn), p.bfn + p.nr - end
            };

            g_array_append_val(m->places, tail);
        }
    }
    g_assert_cmpuint(left, ==, 0);
}

static gint place_compare(gconstpointer a, gconstpointer b)
{
    const Place *x = a, *y = b;

    if (x->ctx != y->ctx) {
        return x->ctx < y->ctx ? -1 : 1;
    }
    return x->bfn < y->bfn ? -1 : x->bfn > y->bfn;
}

/* Sorted, and in as few pieces as can be. */
static void normalise(GArray *places)
{
    guint n = 0;

    g_array_sort(places, place_compare);
    for (guint i = 0; i < places->len; i++) {
        Place *p = place_at(places, i);
        Place *last = n ? place_at(places, n - 1) : NULL;

        if (last && last->ctx == p->ctx && last->bfn + last->nr == p->bfn &&
            last->gfn + last->nr == p->gfn) {
            last->nr += p->nr;
        } else {
            *place_at(places, n++) = *p;
        }
    }
    g_array_set_size(places, n);
}

static bool collect(void *opaque, uint16_t ctx, uint64_t bfn, uint64_t gfn,
                    uint64_t nr)
{
    Place p = { ctx, bfn, gfn, nr };

    g_assert_cmpuint(nr, >, 0);
    g_array_append_val((GArray *)opaque, p);
    return true;
}

static void check(const Model *m, uint64_t gfn, uint64_t nr)
{
    g_autoptr(GArray) expected = g_array_new(false, false, sizeof(Place));
    g_autoptr(GArray) found = g_array_new(false, false, sizeof(Place));

    for (guint i = 0; i < m->places->len; i++) {
        const Place *p = place_at(m->places, i);
        uint64_t start = MAX(p->gfn, gfn), end = MIN(p->gfn + p->nr, gfn + nr);

        if (start < end) {
            collect(expected, p->ctx, p->bfn + (start - p->gfn), start,
                    end - start);
        }
    }
    gfn_index_foreach(m->index, gfn, nr, collect, found);
    normalise(expected);
    normalise(found);
    g_assert_cmpuint(found->len, ==, expected->len);
    for (guint i = 0; i < found->len; i++) {
        const Place *f = place_at(found, i), *e = place_at(expected, i);

        g_assert_cmpuint(f->ctx, ==, e->ctx);
        g_assert_cmphex(f->bfn, ==, e->bfn);
        g_assert_cmphex(f->gfn, ==, e->gfn);
        g_assert_cmphex(f->nr, ==, e->nr);
    }
}

static void check_all(const Model *m)
{
    check(m, 0, GFN_LIMIT);
}

static void check_around(const Model *m, uint64_t gfn, uint64_t nr)
{
    check(m, gfn, nr);
    check(m, gfn, 1);
    check(m, gfn + nr - 1, 1);
    check(m, gfn + random_below(nr), 1);
    if (gfn) {
        check(m, gfn - 1, 1);
        check(m, gfn - 1, MIN(nr + 2, GFN_LIMIT - gfn + 1));
    }
    if (gfn + nr < GFN_LIMIT) {
        check(m, gfn + nr, 1);
    }
}

static uint64_t random_nr(unsigned max_order)
{
    uint64_t nr = 1ull << g_random_int_range(0, max_order + 1);

    return chance(50) ? nr : nr + random_below(nr);
}

static void random_add(Model *m, unsigned max_order)
{
    uint64_t nr = random_nr(max_order);
    uint64_t gfn = random_below(GFN_LIMIT - nr + 1);
    uint64_t bfn = random_below(BFN_LIMIT - nr + 1);
    uint16_t ctx = chance(20) ? g_random_int() : g_random_int_range(0, 3);

    if (m->places->len && chance(60)) {
        /* The same GFNs again, or going on where another ends. */
        const Place *p = place_at(m->places,
                                  g_random_int_range(0, m->places->len));

        if (chance(30)) {
            ctx = p->ctx;
            gfn = MIN(p->gfn + p->nr, GFN_LIMIT - nr);
            bfn = MIN(p->bfn + p->nr, BFN_LIMIT - nr);
        } else {
            gfn = MIN(p->gfn + random_below(p->nr), GFN_LIMIT - nr);
        }
    } else if (chance(50)) {
        /* All near each other. */
        gfn = random_below(1ull << 20);
    }
    if (chance(20)) {
        bfn = random_below(1000);
    }
    if (chance(30)) {
        gfn &= ~((1ull << g_random_int_range(0, max_order + 1)) - 1);
    }
    if (bfn_free(m, ctx, bfn, nr)) {
        model_add(m, ctx, bfn, gfn, nr);
        check_around(m, gfn, nr);
    }
}

static void random_remove(Model *m)
{
    Place p = *place_at(m->places, g_random_int_range(0, m->places->len));

    if (chance(30)) {
        /* With what goes on behind it. */
        for (guint i = 0; i < m->places->len; i++) {
            const Place *q = place_at(m->places, i);

            if (q->ctx == p.ctx && q->bfn == p.bfn + p.nr &&
                q->gfn == p.gfn + p.nr) {
                p.nr += q->nr;
            }
        }
    }
    if (chance(60)) {
        uint64_t skip = chance(50) ? random_below(MIN(p.nr, 600))
                                   : random_below(p.nr);

        p.gfn += skip;
        p.bfn += skip;
        p.nr -= skip;
        if (chance(70)) {
            p.nr -= chance(50) ? random_below(MIN(p.nr, 600))
                               : random_below(p.nr);
        }
    }
    model_remove(m, p.ctx, p.bfn, p.gfn, p.nr);
    check_around(m, p.gfn, p.nr);
}

static void test_random(gconstpointer opaque)
{
    unsigned max_order = GPOINTER_TO_UINT(opaque);

    for (unsigned round = 0; round < 3 * scale(); round++) {
        unsigned max_places = g_random_int_range(2, 250);
        Model m;

        model_init(&m);
        for (unsigned i = 0; i < 1200; i++) {
            if (m.places->len < max_places && chance(60)) {
                random_add(&m, max_order);
            } else if (m.places->len) {
                random_remove(&m);
            }
            if (!(i % 32)) {
                uint64_t gfn = random_below(GFN_LIMIT);

                check_all(&m);
                check(&m, gfn, 1 + random_below(GFN_LIMIT - gfn));
            }
        }
        if (round & 1) {
            while (m.places->len) {
                Place p = *place_at(m.places, 0);

                model_remove(&m, p.ctx, p.bfn, p.gfn, p.nr);
            }
            check_all(&m);
        }
        if (round & 2) {
            index_free_in_parts(m.index);
            m.index = gfn_index_new(&m.budget);
            g_array_set_size(m.places, 0);
            check_all(&m);
            random_add(&m, max_order);
            check_all(&m);
        }
        model_destroy(&m);
    }
}

static bool count_two(void *opaque, uint16_t ctx, uint64_t bfn, uint64_t gfn,
                      uint64_t nr)
{
    return ++*(unsigned *)opaque < 2;
}

/* A callback that ends the search is not called again. */
static void test_callback_can_end_the_search(void)
{
    unsigned calls = 0;
    Model m;

    model_init(&m);
    for (unsigned i = 0; i < 100; i++) {
        model_add(&m, 0, 1000 + i * 600, 0x200, 1 + i % 2 * 511);
    }
    g_assert_false(gfn_index_foreach(m.index, 0x200, 1, count_two, &calls));
    g_assert_cmpuint(calls, ==, 2);
    g_assert_true(gfn_index_foreach(m.index, 0x600, 1, count_two, &calls));
    g_assert_cmpuint(calls, ==, 2);
    model_destroy(&m);
}

/* One page at many BFNs. */
static void test_many_places_of_a_page_are_found(void)
{
    Model m;

    model_init(&m);
    for (unsigned i = 0; i < 2000; i++) {
        model_add(&m, i % 5, (uint64_t)i * 3 + 1, 0x1234, 1);
    }
    check(&m, 0x1234, 1);
    check(&m, 0x1233, 1);
    /* The same in runs that cover it, one a level */
    for (unsigned order = 1; order < 32; order++) {
        model_add(&m, 6, (1ull << 39) + (1ull << order), 0, 1ull << order);
    }
    check_all(&m);
    check(&m, 0x1234, 1);
    while (m.places->len > 1) {
        Place p = *place_at(m.places,
                            g_random_int_range(0, m.places->len));

        model_remove(&m, p.ctx, p.bfn, p.gfn, p.nr);
        if (!(m.places->len % 64)) {
            check_all(&m);
        }
    }
    check_all(&m);
    model_destroy(&m);
}

static void test_first_and_last_frames_work(void)
{
    Model m;

    model_init(&m);
    model_add(&m, UINT16_MAX, 0, 0, BFN_LIMIT);
    check_around(&m, GFN_LIMIT - 1, 1);
    model_remove(&m, UINT16_MAX, BFN_LIMIT / 2, GFN_LIMIT / 2, 1);
    check_all(&m);
    check_around(&m, GFN_LIMIT / 2, 1);
    model_remove(&m, UINT16_MAX, BFN_LIMIT - 1, GFN_LIMIT - 1, 1);
    model_remove(&m, UINT16_MAX, 0, 0, 1);
    check_all(&m);
    model_add(&m, UINT16_MAX, BFN_LIMIT - 1, GFN_LIMIT - 1, 1);
    model_add(&m, UINT16_MAX, 0, GFN_LIMIT - 1, 1);
    model_add(&m, 0, BFN_LIMIT - 1, 0, 1);
    check_all(&m);
    check_around(&m, 0, 1);
    model_destroy(&m);
}

/* The BFN is below what the GFN is beyond its slot's start. */
static void test_bfn_below_its_offset_works(void)
{
    Model m;

    model_init(&m);
    model_add(&m, 0, 0, (1 << 18) - 1, (1 << 18) + 2);
    model_add(&m, 1, 1, (1 << 18) + 5, 2);
    model_add(&m, 1, 5, (1 << 18) + 7, 512);
    check_all(&m);
    model_remove(&m, 1, 1, (1 << 18) + 5, 1);
    model_remove(&m, 1, 6, (1 << 18) + 8, 1);
    model_remove(&m, 0, 0, (1 << 18) - 1, 1);
    model_remove(&m, 0, 2, (1 << 18) + 1, 1);
    check_all(&m);
    model_destroy(&m);
}

int main(int argc, char **argv)
{
    static const unsigned orders[] = { 0, 4, 10, 19, 28, 32 };

    g_test_init(&argc, &argv, NULL);
    g_random_set_seed(g_test_rand_int());
    for (int i = 0; i < ARRAY_SIZE(orders); i++) {
        g_autofree char *path =
            g_strdup_printf("/gfn-index/random-places-match-a-list/%u",
                            orders[i]);

        g_test_add_data_func(path, GUINT_TO_POINTER(orders[i]), test_random);
    }
    g_test_add_func("/gfn-index/many-places-of-a-page-are-found",
                    test_many_places_of_a_page_are_found);
    g_test_add_func("/gfn-index/first-and-last-frames-work",
                    test_first_and_last_frames_work);
    g_test_add_func("/gfn-index/bfn-below-its-offset-works",
                    test_bfn_below_its_offset_works);
    g_test_add_func("/gfn-index/callback-can-end-the-search",
                    test_callback_can_end_the_search);
    return g_test_run();
}
