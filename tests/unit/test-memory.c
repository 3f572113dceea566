/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Memory: how much a guest can make the core take, and what happens when there
 * is none
 *
 * XEN_PVIOMMU_TEST_SCALE: 16 tries the limits with the default max-mappings.
 */

#include "qemu/osdep.h"
#include "qemu/bswap.h"
#include "qemu/units.h"
#include <malloc.h>
#include "pviommu-calls.h"
#include "test-random.h"
#include "test-rcu-barrier.h"

#define RO XEN_IOMMUOP_map_readonly

/* --- no memory ----------------------------------------------------------- */

static struct {
    uint64_t asked;             /* allocations since the start */
    uint64_t first, last;       /* those that fail */
    uint64_t failed;
} alloc;

static bool alloc_fails(void)
{
    bool fails = alloc.asked >= alloc.first && alloc.asked <= alloc.last;

    alloc.asked++;
    alloc.failed += fails;
    return fails;
}

static void alloc_fail(uint64_t first, uint64_t last)
{
    alloc.asked = 0;
    alloc.failed = 0;
    alloc.first = first;
    alloc.last = last;
    node_pool_test_fails = alloc_fails;
}

static const FixtureConfig modelled = {
    .bfn_bits = 12,
    .max_contexts = 4,
    .max_mappings = 20000,
};

static uint64_t below(GRand *rand, uint64_t limit)
{
    return g_rand_int_range(rand, 0, limit);
}

/* Mostly ranges that are noted as one, on both sides, and parts of them */
static int program_op(Fixture *f, GRand *rand)
{
    uint16_t ctx = below(rand, 3), new;
    uint64_t bfn = below(rand, 4096), gfn = 256 + below(rand, 2500);
    uint64_t nr = below(rand, 2) ? 1 + below(rand, 4)
                                 : 512 + below(rand, 700);

    nr = MIN(nr, MIN(4096 - bfn, 2900 - gfn));
    if (below(rand, 2)) {
        bfn &= ~511;
        gfn &= ~511;
    }
    switch (below(rand, 12)) {
    case 0 ... 4:
        return do_map(f, ctx, bfn, MAX(gfn, 512), nr, 0);
    case 5 ... 6:
        return do_unmap(f, ctx, bfn, 1 + below(rand, nr));
    case 7 ... 8:
        return do_unmap_skip(f, ctx, bfn, nr);
    case 9:
        return do_flush_all(f, ctx);
    case 10:
        return below(rand, 3) ? do_alloc(f, &new) : do_free(f, ctx);
    default:
        fixture_invalidate(f, gfn, 1 + below(rand, 3));
        return 0;
    }
}

static void program_run(Fixture *f, GRand *rand, unsigned nr)
{
    for (unsigned i = 0; i < nr; i++) {
        uint64_t failed = alloc.failed;
        int ret;

        f->may_lose = true;
        ret = program_op(f, rand);
        f->may_lose = false;
        if (ret == -XEN_IOMMU_ENOMEM) {
            g_assert_cmpuint(alloc.failed, >, failed);
        }
    }
}

/* With some allocations failing, then with all that succeed. */
static void program(guint32 seed, uint64_t first, uint64_t last)
{
    GRand *rand = g_rand_new_with_seed(seed);
    Fixture *f = fixture_new(&modelled);

    f->pressed = true;
    alloc_fail(first, last);
    program_run(f, rand, 80);
    /* A reset does what it has to, and takes no part in it. */
    fixture_reset(f);
    f->core.accepted = xen_pviommu_core_features(&f->core);
    program_run(f, rand, 20);
    node_pool_test_fails = NULL;
    f->pressed = false;
    fixture_check(f);
    program_run(f, rand, 20);
    OK(do_flush_all(f, 0));
    fixture_invalidate(f, 0, NR_GFNS);
    g_assert_cmpuint(f->backend.total, ==, 0);
    OK(do_map(f, 0, 5, 256, 2000, RO));
    fixture_free(f);
    rcu_barrier();
    g_rand_free(rand);
}

/*
 * Each allocation fails once: alone, with a few behind it, and with all behind
 * it. Operations succeed or change nothing, and all goes on afterwards.
 */
static void test_failed_allocation_changes_nothing(void)
{
    for (unsigned round = 0; round < scale(); round++) {
        guint32 seed = g_test_rand_int();
        uint64_t asked;

        program(seed, UINT64_MAX, UINT64_MAX);
        asked = alloc.asked;
        g_assert_cmpuint(asked, >, 30);
        for (uint64_t n = 0; n < asked; n++) {
            program(seed, n, n);
            g_assert_cmpuint(alloc.failed, ==, 1);
        }
        for (uint64_t n = 0; n < asked; n += 7) {
            program(seed, n, n + 5);
            program(seed, n, UINT64_MAX);
        }
    }
}

/*
 * A page leaves that is a part of large mappings, and nothing can be split: it
 * is gone, with what it was mapped as one with, and nothing else is.
 */
static void test_invalidation_needs_no_memory(void)
{
    Fixture *f = fixture_new(&modelled);

    OK(do_map(f, 0, 512, 1024, 1024, 0));
    OK(do_map(f, 0, 2048, 1024, 5, 0));
    OK(do_map(f, 0, 3000, 1100, 600, RO));
    OK(do_map(f, 0, 5, 1023, 1, 0));
    alloc_fail(0, UINT64_MAX);
    f->may_lose = true;
    fixture_invalidate(f, 1026, 1);
    g_assert_cmpuint(f->core.mapped_frames, ==, 512 + 4 + 600 + 1);
    fixture_check(f);
    fixture_invalidate(f, 1600, 1);
    f->may_lose = false;
    /* The first block of the last but one is in a leaf of its own. */
    g_assert_cmpuint(f->core.mapped_frames, >=, 4 + 1);
    g_assert_cmpuint(f->core.mapped_frames, <, 512 + 4 + 600 + 1);
    node_pool_test_fails = NULL;
    g_assert_cmphex(f->dev[0].tlb[2048], ==, frame_new(1024, false));
    OK(do_unmap(f, 0, 5, 1));
    OK(do_map(f, 0, 512, 1024, 400, 0));
    fixture_free(f);
}

/* --- how many places a page has ------------------------------------------ */

static const FixtureConfig large = {
    .bfn_bits = 36,
    .max_contexts = 1024,
    .max_mappings = 1ull << 24,
};

static uint64_t work(Fixture *f)
{
    return xen_pviommu_core_work(&f->core);
}

static void test_page_at_too_many_bfns_fails(void)
{
    const unsigned max = XEN_IOMMU_MAX_PLACES;
    Fixture *f = fixture_new(&large);
    uint64_t total, before;
    uint16_t ctx[2];

    OK(do_alloc(f, &ctx[0]));
    OK(do_alloc(f, &ctx[1]));
    for (unsigned i = 0; i < max; i++) {
        /* As one, before another, behind another */
        OK(do_map(f, ctx[i % 2], i * 8, 2001 - i % 3, 1 + i % 3 + i % 2, 0));
    }
    total = f->backend.total;
    FAILS(ENOSPC, do_map(f, 0, 0, 2001, 1, 0));
    FAILS(ENOSPC, do_map(f, ctx[0], max * 8, 2000, 2, RO));
    FAILS(ENOSPC, do_map(f, ctx[1], max * 8, 1000, 1500, 0));
    g_assert_cmpuint(f->backend.total, ==, total);
    fixture_check(f);
    /* Those beside it, and one less */
    OK(do_map(f, 0, 100, 2003, 1, 0));
    OK(do_unmap(f, ctx[1], 9, 1));
    OK(do_map(f, 0, 0, 2000, 2, 0));
    FAILS(ENOSPC, do_map(f, 0, 2, 2001, 1, 0));
    /* As many of another page: that one is not hindered. */
    for (unsigned i = 0; i < max; i++) {
        OK(do_map(f, 0, 1000 + i, 2500, 1, 0));
    }
    FAILS(ENOSPC, do_map(f, 0, 900, 2500, 1, 0));
    FAILS(ENOSPC, do_map(f, 0, 900, 2499, 2, 0));
    OK(do_map(f, 0, 900, 2499, 1, 0));
    before = work(f);
    fixture_invalidate(f, 2500, 1);
    g_assert_cmpuint(work(f) - before, <, max * 100);
    OK(do_map(f, 0, 901, 2500, 1, 0));
    fixture_check(f);
    fixture_invalidate(f, 2000, 4);
    g_assert_cmpuint(f->backend.total, ==,
                     f->core.mapped_frames + f->core.pending_frames);
    OK(do_map(f, 0, 0, 2001, 1, 0));
    fixture_check(f);
    fixture_free(f);
}

static bool count_frames(void *opaque, uint16_t ctx, uint64_t bfn,
                         uint64_t gfn, uint64_t nr)
{
    *(uint64_t *)opaque += nr;
    return true;
}

/* In ranges that are noted at upper levels, too */
static void check_frames(Fixture *f)
{
    uint64_t frames = 0;
    GfnPlace p;

    for (uint64_t gfn = 0; gfn_index_first(f->core.gfn_index, gfn, 1ull << 30,
                                           &p); gfn = p.gfn + p.nr) {
        gfn_index_foreach(f->core.gfn_index, p.gfn, p.nr, count_frames,
                          &frames);
    }
    g_assert_cmpuint(frames, ==, f->core.mapped_frames);
    g_assert_cmpuint(f->backend.total, ==, frames + f->core.pending_frames);
}

static void test_page_in_too_many_large_ranges_fails(void)
{
    const unsigned max = XEN_IOMMU_MAX_PLACES;
    const unsigned max_large = XEN_IOMMU_MAX_LARGE_PLACES;
    const uint64_t gfn = 1 << 20, page = gfn + 777;
    Fixture *f = fixture_new(&large);
    uint64_t bfn = 0, before;
    unsigned nr = 0;

    f->backend.huge = true;
    /* Two for the page each: one on level 1, or across two slots of it */
    for (; nr < max_large - 10; nr += 2, bfn += 8192) {
        OK(do_map(f, 0, bfn, gfn, 1024, 0));
        OK(do_map(f, 0, bfn + 4096, page - 256, 512 + nr % 3, 0));
    }
    for (; nr < max_large; nr++, bfn += 1 << 19) {
        /* Of level 2 */
        OK(do_map(f, 0, bfn, gfn, 1 << 18, 0));
    }
    FAILS(ENOSPC, do_map(f, 0, bfn, gfn, 1 << 18, 0));
    FAILS(ENOSPC, do_map(f, 0, bfn, page - 511, 512, 0));
    FAILS(ENOSPC, do_map(f, 0, bfn, page, 512, 0));
    FAILS(ENOSPC, do_map(f, 0, bfn, 0, 1 << 22, 0));
    OK(do_map(f, 0, bfn, page - 768, 512, 0));
    OK(do_map(f, 0, bfn + 1024, page + 700, 512, 0));
    bfn += 4096;
    check_frames(f);
    /* Shorter ones are still allowed. */
    for (; nr < max; nr++, bfn += 512) {
        OK(do_map(f, 0, bfn, page - nr % 400, 511, 0));
    }
    FAILS(ENOSPC, do_map(f, 0, bfn, page, 1, 0));
    FAILS(ENOSPC, do_map(f, 0, bfn, page - 510, 511, 0));
    OK(do_map(f, 0, bfn, page + 511, 1, 0));
    check_frames(f);
    before = work(f);
    fixture_invalidate(f, page, 1);
    g_assert_cmpuint(work(f) - before, <, 2000000);
    check_frames(f);
    OK(do_map(f, 0, bfn + 512, page, 1, 0));
    fixture_free(f);
}

static int load_run(Fixture *f, uint64_t bfn, uint64_t gfn, uint64_t nr)
{
    BfnRun run = { .bfn = bfn, .gfn = gfn, .nr = nr };
    int ret;

    xen_pviommu_core_load_begin(&f->core);
    ret = xen_pviommu_context_map(&f->core, f->core.contexts[0], DOMID_SELF,
                                  &run);
    xen_pviommu_core_load_end(&f->core);
    return ret;
}

/* What a guest had elsewhere is taken, and nothing beyond what there may be. */
static void test_more_than_the_limits_can_be_loaded(void)
{
    const unsigned nr = XEN_IOMMU_MAX_PLACES + 1000;
    FixtureConfig config = large;
    uint64_t loaded, i;
    Fixture *f;

    config.max_mappings = 1 << 18;
    f = fixture_new(&config);
    f->backend.huge = true;
    for (i = 0; i < nr; i++) {
        OK(load_run(f, i, 5000, 1));
    }
    FAILS(ENOSPC, do_map(f, 0, i, 5000, 1, 0));
    OK(do_map(f, 0, i, 5001, 1, 0));
    for (i = XEN_IOMMU_MAX_PLACES - 1; i < nr; i++) {
        FAILS(ENOSPC, do_map(f, 0, 1 << 20, 5000, 1, 0));
        OK(do_unmap(f, 0, i, 1));
    }
    OK(do_map(f, 0, 1 << 20, 5000, 1, 0));
    FAILS(ENOSPC, do_map(f, 0, 1 << 21, 5000, 1, 0));
    fixture_invalidate(f, 5000, 1);
    OK(do_flush_all(f, 0));

    /* Twice the memory, and no more */
    for (i = 0; !load_run(f, (i + 1) << 18, 10000 + (i << 9), 1); i++) {
        /* Each has nodes of its own. */
    }
    g_assert_cmpint(load_run(f, (i + 1) << 18, 10000 + (i << 9), 1), ==,
                    -XEN_IOMMU_ENOMEM);
    loaded = xen_pviommu_core_bytes(&f->core);
    g_assert_cmpuint(loaded, >, 2 * f->core.budget.max_bytes - (4 << 20));
    g_assert_cmpuint(loaded, <=, 2 * f->core.budget.max_bytes);
    FAILS(ENOMEM, do_map(f, 0, 7, 10000, 1, 0));
    for (uint64_t bfn = 1 << 19; bfn < (i + 1) << 18; bfn += 1 << 26) {
        OK(do_unmap_skip(f, 0, bfn, 1 << 26));
        OK(do_flush_all(f, 0));
    }
    rcu_barrier();
    OK(do_map(f, 0, 7, 10000, 1, 0));
    fixture_free(f);
    rcu_barrier();
}

/* --- how much memory ----------------------------------------------------- */

typedef struct Hostile {
    Fixture *f;
    size_t heap;                /* of malloc() before, without the core's */
    size_t most;
    uint64_t ops;
} Hostile;

static size_t malloc_bytes(void)
{
    struct mallinfo2 info = mallinfo2();

    return info.uordblks + info.hblkhd;
}

static size_t core_heap(Hostile *h)
{
    return node_pool_heap_bytes(h->f->core.budget.pool);
}

static void hostile_begin(Hostile *h, uint64_t max_mappings,
                          uint32_t max_contexts)
{
    FixtureConfig config = large;

    config.max_mappings = max_mappings * scale();
    config.max_contexts = max_contexts;
    *h = (Hostile) { .f = fixture_new(&config) };
    h->f->backend.huge = true;
    h->f->backend.by_number = true;
    h->heap = malloc_bytes() - core_heap(h);
}

/* What is counted is what there is, and no more than is said. */
static void hostile_check(Hostile *h)
{
    size_t bytes = xen_pviommu_core_bytes(&h->f->core);

    g_assert_cmpuint(bytes, <=, xen_pviommu_core_max_bytes(&h->f->core));
    h->most = MAX(h->most, bytes);
#ifndef __SANITIZE_ADDRESS__
    /* malloc() may give some bytes more than it has to. */
    g_assert_cmpuint(malloc_bytes(), <=, h->heap + core_heap(h) * 65 / 64 +
                     16 * KiB);
#endif
}

static int hostile_op(Hostile *h, int ret)
{
    if (!(++h->ops % 512)) {
        hostile_check(h);
    }
    return ret;
}

static void hostile_end(Hostile *h)
{
    hostile_check(h);
    g_test_message("%" PRIu64 " operations, %zu of %zu KiB", h->ops,
                   h->most >> 10,
                   xen_pviommu_core_max_bytes(&h->f->core) >> 10);
    fixture_free(h->f);
    rcu_barrier();
    g_assert_cmpuint(node_pool_nodes(), ==, 0);
}

/* It ends with -ENOMEM, and with less mapped it goes on. */
static void hostile_full(Hostile *h)
{
    g_assert_cmpuint(h->most + (4 << 20), >=,
                     h->f->core.budget.max_bytes);
    while (h->f->core.mapped_frames > 1000) {
        uint64_t nr = 1 << 12;
        BfnRun run;

        g_assert_true(bfn_table_next_run(h->f->core.contexts[0]->table, 0,
                                         1ull << 36, &run));
        OK(do_unmap_skip(h->f, 0, run.bfn, MIN(nr, (1ull << 36) - run.bfn)));
        OK(do_flush_all(h->f, 0));
        hostile_check(h);
    }
    rcu_barrier();
    OK(do_map(h->f, 0, (1ull << 35) - 1, 5000, 2, 0));
}

/* A node for each frame of the table, of the index, or of both */
static void test_sparse_mappings_stay_in_the_budget(const void *opaque)
{
    unsigned how = GPOINTER_TO_UINT(opaque);
    unsigned bfn_shift = how & 1 ? 9 : 0, gfn_shift = how & 2 ? 9 : 0;
    Hostile h;
    uint64_t i = 0;
    int ret;

    hostile_begin(&h, 1 << 20, 16);
    do {
        ret = hostile_op(&h, do_map(h.f, 0, i << bfn_shift,
                                    10000 + (i << gfn_shift), 1, 0));
        i++;
    } while (!ret);
    g_assert_cmpint(ret, ==, -XEN_IOMMU_ENOMEM);
    hostile_full(&h);
    hostile_end(&h);
}

/* Pages with so many BFNs that their arrays are as empty as they can be */
static void test_aliases_stay_in_the_budget(void)
{
    static const unsigned places[] = { 2, 3, 7, 63, 255 };

    for (int k = 0; k < ARRAY_SIZE(places); k++) {
        uint64_t i, nr = (1 << 18) * scale();
        Hostile h;

        hostile_begin(&h, 1 << 18, 16);
        for (i = 0; i < nr; i++) {
            uint64_t gfn = 10000 + i % (nr / places[k] + 1);

            OK(hostile_op(&h, do_map(h.f, 0, i, gfn, 1, 0)));
        }
        FAILS(ENOSPC, do_map(h.f, 0, i, 10000, 1, 0));
        hostile_end(&h);
    }
}

/* Ranges that are noted as one, and then page by page */
static void test_splits_take_what_was_reserved(void)
{
    Hostile h;
    uint64_t nr = (1 << 17) * scale(), most;

    hostile_begin(&h, 1 << 20, 16);
    for (uint64_t i = 0; i < 7; i++) {
        OK(hostile_op(&h, do_map(h.f, 0, i << 30, 1 << 20, nr, 0)));
    }
    hostile_check(&h);
    most = h.most;
    for (uint64_t i = 0; i < nr; i += 512) {
        fixture_invalidate(h.f, (1 << 20) + i, 1);
        hostile_op(&h, 0);
        /* It was reserved. */
        g_assert_cmpuint(xen_pviommu_core_bytes(&h.f->core), <=,
                         most + NODE_POOL_CHUNK_SIZE);
    }
    check_frames(h.f);
    hostile_end(&h);
}

/* One page in each of many contexts, and then contexts */
static void test_contexts_stay_in_the_budget(void)
{
    uint16_t ctx[65535], other;
    unsigned nr = 0;
    Hostile h;
    int ret;

    hostile_begin(&h, 1 << 12, 65535);
    do {
        ret = hostile_op(&h, do_alloc(h.f, &ctx[nr]));
        if (!ret) {
            ret = do_map(h.f, ctx[nr++], 1ull << 35, 10000, 1, 0);
        }
    } while (!ret);
    g_assert_cmpint(ret, ==, -XEN_IOMMU_ENOMEM);
    while (!(ret = hostile_op(&h, do_alloc(h.f, &ctx[nr])))) {
        nr++;
    }
    g_assert_cmpint(ret, ==, -XEN_IOMMU_ENOMEM);
    OK(do_free(h.f, ctx[--nr]));
    OK(do_free(h.f, ctx[--nr]));
    rcu_barrier();
    OK(do_alloc(h.f, &other));
    hostile_end(&h);
}

/* What is unmapped waits: in records, or for RCU. */
static void test_memory_counts_until_it_is_freed(void)
{
    uint64_t nr = (1 << 16) * scale(), i;
    Hostile h;
    int ret;

    hostile_begin(&h, 1 << 20, 16);
    for (i = 0; i < nr; i++) {
        ret = hostile_op(&h, do_map(h.f, 0, i * 512 + i % 512, 10000 + i * 3, 1,
                                    0));
        if (ret == -XEN_IOMMU_ENOMEM) {
            /* RCU has not freed enough. */
            rcu_barrier();
            continue;
        }
        OK(ret);
        ret = do_unmap(h.f, 0, i * 512 + i % 512, 1);
        if (ret == -XEN_IOMMU_ENOSPC) {
            OK(do_flush_all(h.f, 0));
        } else {
            OK(ret);
        }
    }
    hostile_end(&h);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/memory/failed-allocation-changes-nothing",
                    test_failed_allocation_changes_nothing);
    g_test_add_func("/memory/invalidation-needs-no-memory",
                    test_invalidation_needs_no_memory);
    g_test_add_func("/memory/page-at-too-many-bfns-fails",
                    test_page_at_too_many_bfns_fails);
    g_test_add_func("/memory/page-in-too-many-large-ranges-fails",
                    test_page_in_too_many_large_ranges_fails);
    g_test_add_func("/memory/more-than-the-limits-can-be-loaded",
                    test_more_than_the_limits_can_be_loaded);
    g_test_add_data_func("/memory/sparse-bfns-stay-in-the-budget",
                         GUINT_TO_POINTER(1),
                         test_sparse_mappings_stay_in_the_budget);
    g_test_add_data_func("/memory/sparse-gfns-stay-in-the-budget",
                         GUINT_TO_POINTER(2),
                         test_sparse_mappings_stay_in_the_budget);
    g_test_add_data_func("/memory/sparse-pairs-stay-in-the-budget",
                         GUINT_TO_POINTER(3),
                         test_sparse_mappings_stay_in_the_budget);
    g_test_add_func("/memory/aliases-stay-in-the-budget",
                    test_aliases_stay_in_the_budget);
    g_test_add_func("/memory/splits-take-what-was-reserved",
                    test_splits_take_what_was_reserved);
    g_test_add_func("/memory/contexts-stay-in-the-budget",
                    test_contexts_stay_in_the_budget);
    g_test_add_func("/memory/memory-counts-until-it-is-freed",
                    test_memory_counts_until_it_is_freed);
    return g_test_run();
}
