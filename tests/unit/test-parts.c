/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * No call takes long, whatever a guest has prepared: what is more is done in
 * parts. execute_once() in pviommu-fixture.c compares the work of each call
 * with XEN_PVIOMMU_OP_WORK; here is what could be most of it.
 */

#include "qemu/osdep.h"
#include "qemu/bswap.h"
#include "../../hw/xen/pviommu/core/pending.h"
#include "pviommu-calls.h"
#include "test-rcu-barrier.h"

/* Far from the pages that a fixture counts one by one. */
#define GFN 100000

static Fixture *fixture_large(uint64_t max_mappings)
{
    const FixtureConfig config = {
        .bfn_bits = 40,
        .max_contexts = 4,
        .max_mappings = max_mappings,
    };
    Fixture *f = fixture_new(&config);

    f->backend.huge = true;
    f->backend.by_number = true;
    return f;
}

/* No device is in context 0: nobody listens there. */
static uint16_t park_devices(Fixture *f)
{
    uint16_t ctx;

    OK(do_alloc(f, &ctx));
    for (unsigned i = 0; i < NR_DEVICES; i++) {
        OK(do_attach(f, f->dev[i].sbdf, ctx));
    }
    return ctx;
}

/* No two of @nr frames from @bfn on follow each other. */
static void map_scattered(Fixture *f, uint16_t ctx, uint64_t bfn, unsigned nr)
{
    for (unsigned i = 0; i < nr; i++) {
        OK(do_map(f, ctx, bfn + i, GFN + i * 7919ull % (1 << 20) * 2, 0, 0));
    }
}

static void test_unmap_takes_several_calls(void)
{
    const unsigned nr = 50000;
    Fixture *f = fixture_large(1 << 24);
    struct xen_iommu_op op;

    park_devices(f);
    map_scattered(f, 0, 5, nr);
    OK(do_unmap(f, 0, 5, nr));
    g_assert_cmpuint(f->parts, >=, nr / XEN_IOMMU_UNMAP_RUNS);
    g_assert_cmpuint(f->core.counter[XEN_PVIOMMU_COUNTER_UNMAPS], ==, 1);
    g_assert_cmpuint(f->core.pending.nr, ==, nr);
    FAILS(ENOENT, do_lookup(f, XEN_IOMMUOP_lookup_bfn, 0, 5, 0, &op));

    /* The flush of as much is one step. */
    f->parts = 0;
    f->most_work = 0;
    OK(do_flush_all(f, 0));
    g_assert_cmpuint(f->parts, ==, 0);
    g_assert_cmpuint(f->most_work, <, nr);
    g_assert_cmpuint(f->backend.total, ==, 0);

    /* With gaps, and the rest of a large address space behind it */
    map_scattered(f, 0, 5, nr);
    OK(do_unmap_skip(f, 0, 0, UINT32_MAX));
    g_assert_cmpuint(f->core.pending.nr, ==, nr);
    OK(do_flush_all(f, 0));
    fixture_free(f);
}

/* A later part fails: the operation says what is left, and can go on. */
static void test_unmap_that_fails_says_how_far(void)
{
    const unsigned nr = 5000;
    Fixture *f = fixture_large(1 << 24);
    struct xen_iommu_op op = {
        .op = cpu_to_le16(XEN_IOMMUOP_unmap),
        .u.unmap.nr_frames = cpu_to_le32(nr),
    };
    uint64_t bfn;

    park_devices(f);
    map_scattered(f, 0, 0, nr);
    OK(do_unmap(f, 0, 3000, 0));
    FAILS(ENOENT, fixture_op(f, &op));
    bfn = le64_to_cpu(op.u.unmap.bfn);
    g_assert_cmpuint(bfn, >=, XEN_IOMMU_UNMAP_RUNS);
    g_assert_cmpuint(bfn, <=, 3000);
    g_assert_cmpuint(bfn + le32_to_cpu(op.u.unmap.nr_frames), ==, nr);
    g_assert_cmpuint(f->core.mapped_frames, ==, nr - bfn - 1);
    g_assert_cmpuint(f->core.counter[XEN_PVIOMMU_COUNTER_UNMAPS], ==, 1);
    /* The part that failed is as it was. */
    g_assert_cmpuint(f->core.pending_frames, ==, bfn + 1);
    op.flags = cpu_to_le16(XEN_IOMMUOP_unmap_holes);
    OK(fixture_op(f, &op));
    g_assert_cmpuint(f->core.mapped_frames, ==, 0);
    fixture_free(f);

    /* More runs than can wait for a flush: after a flush it goes on. */
    f = fixture_large(1 << 18);
    park_devices(f);
    map_scattered(f, 0, 0, nr);
    op.flags = 0;
    op.u.unmap.bfn = 0;
    op.u.unmap.nr_frames = cpu_to_le32(nr);
    FAILS(ENOSPC, fixture_op(f, &op));
    g_assert_cmpuint(le64_to_cpu(op.u.unmap.bfn), ==, 4096);
    OK(do_flush_all(f, 0));
    OK(fixture_op(f, &op));
    g_assert_cmpuint(f->core.mapped_frames, ==, 0);
    fixture_free(f);
}

/* Few runs, but many slots of a table, or many places in the GFN index */
static void test_unmap_of_many_slots_takes_several_calls(void)
{
    const unsigned nr = 300000;
    Fixture *f = fixture_large(1 << 24);
    struct xen_iommu_op op;
    uint64_t bfn;

    park_devices(f);
    for (unsigned i = 0; i < nr; i++) {
        OK(do_map(f, 0, i, GFN + i, 0, 0));
    }
    /* One run, of which a lookup says a part at a time. */
    for (bfn = 0; bfn < nr; bfn += le32_to_cpu(op.u.lookup.nr_frames)) {
        OK(do_lookup(f, XEN_IOMMUOP_lookup_bfn, 0, bfn, 0, &op));
        g_assert_cmphex(le64_to_cpu(op.u.lookup.gfn), ==, GFN + bfn);
        g_assert_cmpuint(le32_to_cpu(op.u.lookup.nr_frames), >, 0);
    }
    g_assert_cmpuint(bfn, ==, nr);
    OK(do_unmap(f, 0, 0, nr));
    g_assert_cmpuint(f->parts, >, 0);
    OK(do_flush_all(f, 0));

    for (unsigned copy = 0; copy < 2; copy++) {
        for (unsigned i = 0; i < 200; i++) {
            /* Unaligned: each frame of it has a place of its own. */
            OK(do_map(f, copy, i * 1022, GFN + 1 + i * 1024, 1022, 0));
        }
    }
    f->parts = 0;
    OK(do_unmap(f, 0, 0, 200 * 1022));
    g_assert_cmpuint(f->parts, >, 0);
    OK(do_flush_all(f, 0));

    /* The largest ranges are a few steps. */
    f->core.limits.max_mappings = 1ull << 40;
    f->core.budget.max_bytes = SIZE_MAX / 2;
    f->parts = 0;
    OK(do_map(f, 0, 1 << 20, GFN + 3, UINT32_MAX, 0));
    OK(do_unmap(f, 0, 1 << 20, UINT32_MAX));
    g_assert_cmpuint(f->parts, ==, 0);
    fixture_free(f);
}

/* Listeners are notified in parts, whichever operation causes that. */
static void test_notifying_takes_several_calls(void)
{
    const unsigned nr = 4000;
    Fixture *f = fixture_large(1 << 24);
    unsigned flush_parts;

    map_scattered(f, 0, 0, nr * 2);
    for (unsigned i = 0; i < nr; i++) {
        OK(do_unmap(f, 0, i * 2, 0));
        g_assert_cmpuint(f->core.contexts[0]->pending.nr_tail, <=,
                         XEN_PVIOMMU_UNNOTIFIED_MAX);
    }
    g_assert_cmpuint(f->unmap_calls, >, 0);
    g_assert_cmpuint(f->unmap_calls, <, nr);
    f->parts = 0;
    OK(do_flush(f, 0, 0, nr * 2));
    flush_parts = f->parts;
    g_assert_cmpuint(f->unmap_calls, ==, nr);
    g_assert_cmpuint(f->core.pending_frames, ==, 0);

    /* Of what is mapped over, before it is mapped */
    for (unsigned i = 0; i < 1000; i++) {
        OK(do_unmap(f, 0, i * 2 + 1, 0));
    }
    g_assert_cmpuint(f->unmap_calls, ==, nr);
    f->parts = 0;
    OK(do_map(f, 0, 0, GFN, 2001, 0));
    g_assert_cmpuint(f->parts, >, 0);
    g_assert_cmpuint(f->unmap_calls, ==, nr + 1000);
    OK(do_flush_all(f, 0));
    g_assert_cmpuint(f->unmap_calls, ==, nr + 1000);
    g_assert_cmpuint(flush_parts, <=,
                     XEN_PVIOMMU_UNNOTIFIED_MAX / XEN_PVIOMMU_NOTIFY_AT_ONCE);
    fixture_free(f);
}

/* Pages that leave, one by one, of very many that wait for a flush */
static void test_invalidation_is_bounded(void)
{
    const unsigned nr = 100000;
    Fixture *f = fixture_large(1 << 24);
    uint64_t before, work = 0;

    park_devices(f);
    map_scattered(f, 0, 0, nr);
    OK(do_unmap(f, 0, 0, nr));
    for (unsigned i = 0; i < 100; i++) {
        before = xen_pviommu_core_work(&f->core);
        fixture_invalidate(f, GFN + i * 2, 1);
        work = MAX(work, xen_pviommu_core_work(&f->core) - before);
    }
    g_assert_cmpuint(work, <, nr);
    /* The same page all the time */
    for (unsigned i = 0; i < nr; i++) {
        OK(do_map(f, 0, i, GFN, 0, 0));
        OK(do_unmap(f, 0, i, 0));
    }
    before = xen_pviommu_core_work(&f->core);
    fixture_invalidate(f, GFN, 1);
    g_assert_cmpuint(xen_pviommu_core_work(&f->core) - before, <, nr);
    g_assert_cmpuint(f->backend.total, ==, 0);
    fixture_free(f);
}

/* A reset takes as long with nothing mapped; the memory comes back in parts. */
static void test_reset_is_bounded(void)
{
    const unsigned nr = 200000;
    Fixture *f = fixture_large(1 << 24);
    size_t nodes;

    for (unsigned round = 0; round < 3; round++) {
        uint64_t before;
        uint16_t ctx;

        f->core.accepted = xen_pviommu_core_features(&f->core);
        ctx = park_devices(f);
        map_scattered(f, 0, 0, nr);
        for (unsigned i = 0; i < 20000; i++) {
            OK(do_map(f, 0, (1ull << 30) + i * 512, GFN + i, 0, 0));
        }
        OK(do_map(f, ctx, 0, GFN, 1000, 0));
        OK(do_unmap(f, 0, 0, nr / 2));
        before = xen_pviommu_core_work(&f->core);
        xen_pviommu_core_reset(&f->core);
        g_assert_cmpuint(xen_pviommu_core_work(&f->core) - before, <, nr / 4);
        g_assert_cmpuint(f->backend.total, ==, 0);
        g_assert_cmpuint(f->core.mapped_frames, ==, 0);
        g_assert_cmpuint(f->core.pending.nr, ==, 0);
    }
    /* All of it still counts. */
    nodes = f->core.budget.nodes;
    g_assert_cmpuint(nodes, >, 3 * 20000);
    while (xen_pviommu_core_reap(&f->core, 100, false)) {
        g_assert_cmpuint(nodes - f->core.budget.nodes, <=, 100);
        nodes = f->core.budget.nodes;
    }
    g_assert_cmpuint(nodes, ==, 1);
    fixture_free(f);
}

/* Nodes that readers may still use are not freed if that can wait. */
static void test_reap_waits_for_readers(void)
{
    Fixture *f = fixture_large(1 << 24);
    size_t nodes;

    OK(do_map(f, 0, 0, GFN, 1, 0));
    rcu_read_lock();
    xen_pviommu_core_reset(&f->core);
    nodes = f->core.budget.nodes;
    g_assert_true(xen_pviommu_core_reap(&f->core, 1000, true));
    g_assert_true(xen_pviommu_core_reap(&f->core, 1000, true));
    g_assert_cmpuint(f->core.budget.nodes, ==, nodes);
    rcu_read_unlock();
    rcu_barrier();
    while (xen_pviommu_core_reap(&f->core, 1000, true)) {
        /* All of them are quiet now. */
    }
    g_assert_cmpuint(f->core.budget.nodes, ==, 1);
    fixture_free(f);
}

/* A guest that was reset finds the room that it had before. */
static void test_reset_returns_the_room(void)
{
    Fixture *f = fixture_large(1 << 18);
    unsigned nr;

    for (unsigned round = 0; round < 5; round++) {
        f->core.accepted = xen_pviommu_core_features(&f->core);
        f->parts = 0;
        for (nr = 0; !do_map(f, 0, (uint64_t)nr << 18, GFN + nr % 100, 1, 0);
             nr++) {
            g_assert_cmpuint(xen_pviommu_core_bytes(&f->core), <=,
                             f->core.budget.max_bytes);
        }
        g_assert_cmpuint(nr, >, 1000);
        xen_pviommu_core_reset(&f->core);
        /* Memory that readers may look at counts until they are gone. */
        rcu_barrier();
    }
    /* It had to wait for it. */
    f->core.accepted = xen_pviommu_core_features(&f->core);
    OK(do_map(f, 0, 0, GFN, 1, 0));
    g_assert_cmpuint(f->parts, >, 0);
    fixture_free(f);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/parts/unmap-takes-several-calls",
                    test_unmap_takes_several_calls);
    g_test_add_func("/parts/unmap-that-fails-says-how-far",
                    test_unmap_that_fails_says_how_far);
    g_test_add_func("/parts/unmap-of-many-slots-takes-several-calls",
                    test_unmap_of_many_slots_takes_several_calls);
    g_test_add_func("/parts/notifying-takes-several-calls",
                    test_notifying_takes_several_calls);
    g_test_add_func("/parts/invalidation-is-bounded",
                    test_invalidation_is_bounded);
    g_test_add_func("/parts/reset-is-bounded", test_reset_is_bounded);
    g_test_add_func("/parts/reap-waits-for-readers",
                    test_reap_waits_for_readers);
    g_test_add_func("/parts/reset-returns-the-room",
                    test_reset_returns_the_room);
    return g_test_run();
}
