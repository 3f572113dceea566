/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What contexts keep in step: tables, the GFN index, what waits for a flush,
 * references; and how much of it there may be
 */

#include "qemu/osdep.h"
#include "qemu/bswap.h"
#include "../../hw/xen/pviommu/core/pending.h"
#include "pviommu-calls.h"
#include "pviommu-machine.h"

#define RO XEN_IOMMUOP_map_readonly

static void test_flush_drops_what_is_pending(void)
{
    Fixture *f = fixture_new(&config_small);
    uint16_t ctx;

    OK(do_alloc(f, &ctx));
    OK(do_attach(f, f->dev[1].sbdf, ctx));
    OK(do_map(f, 0, 100, 300, 50, 0));
    OK(do_map(f, ctx, 100, 300, 50, 0));
    OK(do_unmap(f, 0, 100, 50));
    /* The device is not notified, and the page stays. */
    g_assert_cmpuint(f->unmap_calls, ==, 0);
    g_assert_cmphex(f->dev[0].tlb[100], !=, 0);
    g_assert_cmpuint(fixture_page_refs(f, 300), ==, 2);

    /* Elsewhere */
    OK(do_flush_all(f, ctx));
    OK(do_flush(f, ctx, 100, 50));
    OK(do_flush(f, 0, 0, 100));
    OK(do_flush(f, 0, 150, 100));
    g_assert_cmpuint(f->unmap_calls, ==, 0);
    g_assert_cmpuint(f->core.pending_frames, ==, 50);

    /* A part */
    OK(do_flush(f, 0, 120, 10));
    g_assert_cmpuint(f->core.pending_frames, ==, 40);
    g_assert_cmphex(f->dev[0].tlb[120], ==, 0);
    g_assert_cmphex(f->dev[1].tlb[120], !=, 0);
    g_assert_cmpuint(fixture_page_refs(f, 300), ==, 2);
    g_assert_cmpuint(fixture_page_refs(f, 319), ==, 2);
    g_assert_cmpuint(fixture_page_refs(f, 320), ==, 1);
    g_assert_cmpuint(fixture_page_refs(f, 329), ==, 1);
    g_assert_cmpuint(fixture_page_refs(f, 330), ==, 2);

    /* Mapped anew before the flush: the new one is not flushed away. */
    OK(do_map(f, 0, 110, 1000, 5, RO));
    g_assert_cmphex(f->dev[0].tlb[110], ==, frame_new(1000, true));
    g_assert_cmpuint(fixture_page_refs(f, 310), ==, 2);
    OK(do_unmap(f, 0, 110, 5));
    OK(do_map(f, 0, 110, 1100, 5, 0));
    g_assert_cmpuint(fixture_page_refs(f, 1000), ==, 1);
    OK(do_flush_all(f, 0));
    g_assert_cmphex(f->dev[0].tlb[110], ==, frame_new(1100, false));
    g_assert_cmpuint(fixture_page_refs(f, 1000), ==, 0);
    g_assert_cmpuint(fixture_page_refs(f, 310), ==, 1);
    g_assert_cmpuint(f->core.pending_frames, ==, 0);
    g_assert_cmpuint(f->core.mapped_frames, ==, 55);

    FAILS(ENOENT, do_flush_all(f, 3));
    FAILS(ENOENT, do_flush(f, 77, 0, 0));
    fixture_free(f);
}

/* The memory that two mappings take, with what was kept ready for them. */
static size_t limit_bytes(void)
{
    Fixture *f = fixture_new(&config_small);
    size_t bytes;

    f->pressed = true;
    OK(do_map(f, 0, 0, 300, 1, 0));
    OK(do_map(f, 0, 1000, 301, 10, 0));
    bytes = xen_pviommu_core_bytes(&f->core);
    fixture_free(f);
    return bytes;
}

static void test_max_mappings_counts_pending(void)
{
    FixtureConfig config = config_small;
    Fixture *f;

    config.max_mappings = 100;
    f = fixture_new(&config);
    FAILS(ENOSPC, do_map(f, 0, 0, 300, 101, 0));
    OK(do_map(f, 0, 0, 300, 100, 0));
    FAILS(ENOSPC, do_map(f, 0, 100, 300, 0, 0));
    /* What waits for a flush counts. */
    OK(do_unmap(f, 0, 50, 50));
    FAILS(ENOSPC, do_map(f, 0, 100, 300, 0, 0));
    OK(do_flush(f, 0, 50, 1));
    FAILS(ENOSPC, do_map(f, 0, 100, 300, 2, 0));
    OK(do_map(f, 0, 100, 300, 1, 0));
    fixture_free(f);

    /* No room for the tables */
    f = fixture_new(&config_small);
    f->pressed = true;
    OK(do_map(f, 0, 0, 300, 1, 0));
    f->core.budget.max_bytes = limit_bytes() - 1;
    FAILS(ENOMEM, do_map(f, 0, 1000, 301, 10, 0));
    g_assert_cmpuint(fixture_page_refs(f, 301), ==, 0);
    g_assert_cmpuint(f->core.mapped_frames, ==, 1);
    f->core.budget.max_bytes++;
    OK(do_map(f, 0, 1000, 301, 10, 0));
    fixture_free(f);
}

/* Records of what waits for a flush are bounded, too. */
static void test_pending_runs_are_limited(void)
{
    FixtureConfig config = config_small;
    Fixture *f;

    config.bfn_bits = 14;
    config.max_mappings = 20000;
    f = fixture_new(&config);
    for (unsigned i = 0; i < 4100; i++) {
        OK(do_map(f, 0, i, 300 + (i * 7) % 2000, 0, 0));
    }
    OK(do_map(f, 0, 8000, 300, 1000, 0));
    for (unsigned i = 0; i < 4095; i++) {
        OK(do_unmap(f, 0, i, 0));
    }
    FAILS(ENOSPC, do_unmap(f, 0, 4095, 2));
    g_assert_cmpuint(f->core.mapped_frames, ==, 1005);
    OK(do_unmap(f, 0, 8000, 1000));
    FAILS(ENOSPC, do_unmap(f, 0, 4095, 1));
    OK(do_flush(f, 0, 3, 1));
    OK(do_unmap(f, 0, 4095, 1));
    OK(do_unmap(f, 0, 4096, 4));
    fixture_free(f);
}

/*
 * Parts of records are flushed: there are no more of them by that than may be.
 * And with very many of them a flush of a part is one of all.
 */
static void test_partial_flush_adds_no_run(void)
{
    const unsigned exact = XEN_PVIOMMU_PENDING_EXACT;
    FixtureConfig config = config_large;
    Fixture *f;

    config.max_mappings = 1 << 18;
    f = fixture_new(&config);
    f->backend.huge = true;
    for (unsigned i = 0; i < exact; i++) {
        OK(do_map(f, 0, i * 100, 10000 + i, 31, 0));
        OK(do_unmap(f, 0, i * 100, 31));
    }
    for (unsigned i = 0; i < exact / 2; i++) {
        uint64_t total = f->backend.total;

        OK(do_flush(f, 0, i * 100 + 15, 1));
        /* What is over the limit is dropped as well. */
        if (i) {
            g_assert_cmpuint(f->core.pending_frames, ==, 0);
        } else {
            g_assert_cmpuint(f->backend.total, ==, total - 1);
            g_assert_cmpuint(f->core.pending.nr, ==, exact + 1);
        }
    }
    for (unsigned i = 0; i < 4096; i++) {
        OK(do_map(f, 0, i * 100, 10000 + i, 31, 0));
        OK(do_unmap(f, 0, i * 100, 31));
    }
    g_assert_cmpuint(f->core.pending.nr, ==, 4096);
    OK(do_map(f, 0, 1 << 20, 300, 1, 0));
    FAILS(ENOSPC, do_unmap(f, 0, 1 << 20, 0));
    /* Nothing of that is in the range. */
    OK(do_flush(f, 0, 1 << 20, 1));
    g_assert_cmpuint(f->backend.total, ==, 1);
    OK(do_unmap(f, 0, 1 << 20, 0));
    fixture_free(f);
}

/* At the limit, what stays of a record needs no room, or is dropped. */
static void test_partial_flush_works_at_the_limit(void)
{
    FixtureConfig config = config_large;
    uint16_t ctx;
    Fixture *f;

    config.max_mappings = 1 << 18;
    f = fixture_new(&config);
    f->backend.huge = true;
    OK(do_alloc(f, &ctx));
    for (unsigned i = 0; i < 4096; i++) {
        uint16_t id = i < 100 ? ctx : 0;

        OK(do_map(f, id, i * 100, 10000 + i * 40, 31, 0));
        OK(do_unmap(f, id, i * 100, 31));
    }
    g_assert_cmpuint(f->core.pending.nr, ==, 4096);
    for (unsigned i = 0; i < 100; i++) {
        uint64_t total = f->backend.total;

        OK(do_flush(f, ctx, i * 100 + 15, 1));
        g_assert_cmpuint(f->core.pending.nr, <=, 4096);
        g_assert_cmpuint(f->backend.total, ==, total - 16);
    }
    OK(do_flush(f, ctx, 0, 15));
    g_assert_cmpuint(f->core.contexts[ctx]->pending_frames, ==, 99 * 15);
    OK(do_flush_all(f, ctx));
    OK(do_flush_all(f, 0));
    g_assert_cmpuint(f->backend.total, ==, 0);
    fixture_free(f);
}

/* A context with very much in it takes several attempts. */
static void test_large_context_is_freed_in_parts(void)
{
    Fixture *f = fixture_new(&config_large);
    unsigned nr = 150000, tries = 0;
    uint64_t total;
    uint16_t ctx;
    int ret;

    f->backend.huge = true;
    OK(do_alloc(f, &ctx));
    for (unsigned i = 0; i < nr; i++) {
        OK(do_map(f, ctx, i * 2, 10000 + i % 5000, 0, 0));
        OK(do_map(f, 0, i * 2, 20000 + i % 100, 0, 0));
    }
    OK(do_unmap(f, ctx, 0, 0));
    do {
        total = f->backend.total;
        ret = do_free(f, ctx);
        g_assert_cmpuint(f->backend.total, <, total);
        g_assert_cmpuint(++tries, <, 100);
    } while (ret == -XEN_IOMMU_EAGAIN);
    g_assert_cmpint(ret, ==, 0);
    g_assert_cmpuint(f->backend.total, ==, nr);
    FAILS(ENOENT, do_free(f, ctx));
    fixture_invalidate(f, 20000, 100);
    g_assert_cmpuint(f->backend.total, ==, 0);
    fixture_free(f);
}

/* What an operation costs is counted, whether it succeeds or not. */
static void test_failed_operations_count_as_work(void)
{
    Fixture *f = fixture_new(&config_large);
    struct xen_iommu_op op;
    uint64_t before;

    f->backend.huge = true;
    for (unsigned i = 0; i < 20000; i++) {
        OK(do_map(f, 0, i, 10000 + i * 2 % 5000, 0, 0));
    }
    before = xen_pviommu_core_work(&f->core);
    FAILS(ENOENT, do_unmap(f, 0, 0, 20001));
    g_assert_cmpuint(xen_pviommu_core_work(&f->core) - before, >=, 20000);

    /* One run, but of as many leaves */
    for (unsigned i = 0; i < 20000; i++) {
        OK(do_map(f, 0, 100000 + i, 100000 + i, 0, 0));
    }
    before = xen_pviommu_core_work(&f->core);
    OK(do_lookup(f, XEN_IOMMUOP_lookup_bfn, 0, 100000, 0, &op));
    g_assert_cmpuint(le32_to_cpu(op.u.lookup.nr_frames), ==, 20000);
    g_assert_cmpuint(xen_pviommu_core_work(&f->core) - before, >=, 20000);
    before = xen_pviommu_core_work(&f->core);
    OK(do_unmap(f, 0, 100000, 20000));
    g_assert_cmpuint(xen_pviommu_core_work(&f->core) - before, >=, 20000);
    fixture_free(f);
}

static void test_contexts_are_independent(void)
{
    Fixture *f = fixture_new(&config_small);
    uint16_t one, two, three, four;

    OK(do_alloc(f, &one));
    OK(do_alloc(f, &two));
    OK(do_alloc(f, &three));
    FAILS(ENOSPC, do_alloc(f, &four));
    g_assert_true(f->core.identity);
    FAILS(EINVAL, do_free(f, 0));
    FAILS(ENOENT, do_free(f, 4));
    FAILS(ENOENT, do_free(f, UINT16_MAX));

    /* Independent of each other */
    OK(do_map(f, one, 7, 300, 0, 0));
    OK(do_map(f, two, 7, 301, 0, 0));
    FAILS(ENOENT, do_unmap(f, three, 7, 0));
    FAILS(ENOENT, do_map(f, 4, 7, 300, 0, 0));

    /* A device sees what is mapped there, and nothing from before. */
    OK(do_map(f, 0, 8, 302, 0, 0));
    OK(do_map(f, 0, 9, 303, 0, 0));
    OK(do_unmap(f, 0, 9, 0));
    OK(do_attach(f, f->dev[0].sbdf, one));
    g_assert_cmphex(f->dev[0].tlb[8], ==, 0);
    g_assert_cmphex(f->dev[0].tlb[9], ==, 0);
    g_assert_cmphex(f->dev[0].tlb[7], ==, frame_new(300, false));
    /* It left: what waited there is let go. */
    g_assert_cmpuint(fixture_page_refs(f, 303), ==, 0);
    FAILS(ENODEV, do_attach(f, 0xffff, one));
    FAILS(ENODEV, do_attach(f, f->dev[0].sbdf | 1u << 16, one));
    FAILS(ENOENT, do_attach(f, f->dev[0].sbdf, 4));

    FAILS(EBUSY, do_free(f, one));
    OK(do_unmap(f, two, 7, 0));
    OK(do_map(f, two, 70, 310, 10, RO));
    OK(do_unmap(f, two, 72, 3));
    g_assert_cmpuint(fixture_page_refs(f, 301), ==, 1);
    /* Mapped or waiting: all of it is unmapped. */
    OK(do_free(f, two));
    g_assert_cmpuint(fixture_page_refs(f, 301), ==, 0);
    g_assert_cmpuint(fixture_page_refs(f, 312), ==, 0);
    g_assert_cmpuint(fixture_page_refs(f, 319), ==, 0);
    FAILS(ENOENT, do_free(f, two));
    OK(do_alloc(f, &four));
    OK(do_map(f, four, 7, 301, 0, 0));
    OK(do_attach(f, f->dev[0].sbdf, four));
    OK(do_free(f, one));
    g_assert_cmpuint(fixture_page_refs(f, 300), ==, 0);

    /* One that was unplugged does not hold a context. */
    fixture_unplug(f, 0);
    FAILS(ENODEV, do_attach(f, f->dev[0].sbdf, 0));
    OK(do_free(f, four));
    OK(do_attach(f, f->dev[1].sbdf, 0));
    fixture_free(f);
}

/* The largest ranges there are */
static void test_largest_ranges_work(void)
{
    Fixture *f = fixture_new(&config_large);
    struct xen_iommu_op op;

    f->backend.huge = true;
    OK(do_map(f, 0, 5, 100000, UINT32_MAX, 0));
    OK(do_map(f, 0, 5ull + UINT32_MAX, 100000ull + UINT32_MAX, UINT32_MAX, 0));
    g_assert_cmpuint(f->core.mapped_frames, ==, 2ull * UINT32_MAX);
    OK(do_lookup(f, XEN_IOMMUOP_lookup_bfn, 0, 5, 0, &op));
    g_assert_cmpuint(le32_to_cpu(op.u.lookup.nr_frames), ==, UINT32_MAX);
    OK(do_lookup(f, XEN_IOMMUOP_lookup_gfn, 0, 0, 100000 + 7, &op));
    g_assert_cmphex(le64_to_cpu(op.u.lookup.bfn), ==, 12);
    g_assert_cmpuint(le32_to_cpu(op.u.lookup.nr_frames), ==, UINT32_MAX);
    OK(do_unmap(f, 0, 1000, UINT32_MAX));
    OK(do_flush(f, 0, 2000, 1ull << 31));
    g_assert_cmpuint(f->backend.total, ==, 2ull * UINT32_MAX - (1ull << 31));
    fixture_invalidate(f, 100000, UINT32_MAX);
    fixture_invalidate(f, 1, (1ull << 40) - 1);
    g_assert_cmpuint(f->backend.total, ==, 0);
    g_assert_cmpuint(f->core.counter[XEN_PVIOMMU_COUNTER_INVALIDATED], ==,
                     UINT32_MAX);
    /* The last frames on both sides */
    OK(do_map(f, 0, (1ull << 40) - 8, (1ull << 40) - 8, 8, 0));
    FAILS(EINVAL, do_map(f, 0, (1ull << 40) - 9, 100000, 10, 0));
    OK(do_unmap(f, 0, (1ull << 40) - 1, 0));
    OK(do_flush_all(f, 0));
    g_assert_cmpuint(f->backend.total, ==, 7);
    fixture_free(f);
}

static void test_page_that_leaves_is_unmapped_everywhere(void)
{
    Fixture *f = fixture_new(&config_small);
    uint16_t ctx;

    OK(do_alloc(f, &ctx));
    OK(do_attach(f, f->dev[1].sbdf, ctx));
    OK(do_map(f, 0, 10, 300, 20, 0));
    OK(do_map(f, 0, 100, 305, 1, RO));
    OK(do_map(f, 0, 1000, 290, 600, 0));
    OK(do_map(f, ctx, 77, 305, 2, 0));
    OK(do_unmap(f, 0, 18, 3));
    OK(do_map(f, 0, 19, 305, 0, 0));
    g_assert_cmpuint(fixture_page_refs(f, 305), ==, 5);

    /* Pages that are not mapped. */
    fixture_invalidate(f, 1, 100);
    fixture_invalidate(f, 3050, 100);
    g_assert_cmpuint(f->core.counter[XEN_PVIOMMU_COUNTER_INVALIDATED], ==, 0);

    fixture_invalidate(f, 305, 1);
    fixture_check(f);
    g_assert_cmpuint(f->core.counter[XEN_PVIOMMU_COUNTER_INVALIDATED], ==, 5);
    g_assert_cmphex(f->dev[0].tlb[15], ==, 0);
    g_assert_cmphex(f->dev[0].tlb[14], ==, frame_new(304, false));
    g_assert_cmphex(f->dev[0].tlb[16], ==, frame_new(306, false));
    g_assert_cmphex(f->dev[1].tlb[77], ==, 0);
    g_assert_cmphex(f->dev[1].tlb[78], ==, frame_new(306, false));
    FAILS(ENOENT, do_unmap(f, 0, 15, 0));

    /* What waits for a flush is dropped as well. */
    fixture_invalidate(f, 309, 1);
    fixture_check(f);
    g_assert_cmpuint(f->core.pending_frames, ==, 2);
    fixture_invalidate(f, 0, 1ull << 40);
    g_assert_cmpuint(f->backend.total, ==, 0);
    g_assert_cmpuint(f->core.pending_frames, ==, 0);
    fixture_free(f);
}

static void test_pending_runs_can_be_loaded(void)
{
    Fixture *f = fixture_new(&config_large);
    BfnRun run = { .bfn = 100, .gfn = 300, .nr = 10 };
    BfnRun none = { .bfn = 100, .gfn = 3000, .nr = 10 };

    OK(xen_pviommu_context_load_pending(&f->core, f->core.contexts[0], &run));
    g_assert_cmpuint(f->core.pending_frames, ==, 10);
    g_assert_cmpuint(fixture_page_refs(f, 309), ==, 1);
    FAILS(ENOENT, xen_pviommu_context_load_pending(&f->core,
                                                   f->core.contexts[0], &none));
    OK(do_map(f, 0, 105, 305, 0, 0));
    OK(do_flush(f, 0, 104, 3));
    g_assert_cmpuint(f->core.pending_frames, ==, 7);
    /* No device ever had it. */
    g_assert_cmpuint(f->unmap_calls, ==, 0);
    xen_pviommu_core_check(&f->core);
    fixture_free(f);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_random_set_seed(g_test_rand_int());
    g_test_add_func("/context/flush-drops-what-is-pending",
                    test_flush_drops_what_is_pending);
    g_test_add_func("/context/max-mappings-counts-pending",
                    test_max_mappings_counts_pending);
    g_test_add_func("/context/pending-runs-are-limited",
                    test_pending_runs_are_limited);
    g_test_add_func("/context/partial-flush-adds-no-run",
                    test_partial_flush_adds_no_run);
    g_test_add_func("/context/partial-flush-works-at-the-limit",
                    test_partial_flush_works_at_the_limit);
    g_test_add_func("/context/large-context-is-freed-in-parts",
                    test_large_context_is_freed_in_parts);
    g_test_add_func("/context/failed-operations-count-as-work",
                    test_failed_operations_count_as_work);
    g_test_add_func("/context/contexts-are-independent",
                    test_contexts_are_independent);
    g_test_add_func("/context/largest-ranges-work", test_largest_ranges_work);
    g_test_add_func("/context/page-that-leaves-is-unmapped-everywhere",
                    test_page_that_leaves_is_unmapped_everywhere);
    g_test_add_func("/context/pending-runs-can-be-loaded",
                    test_pending_runs_can_be_loaded);
    return g_test_run();
}
