/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * No call takes long, whatever a guest has prepared: what is more is done in
 * parts. execute_once() in pviommu-bench.c compares the work of each call with
 * XEN_PVIOMMU_OP_WORK; here is what could be most of it.
 */

#include "qemu/osdep.h"
#include "qemu/bswap.h"
#include "../../hw/xen/pviommu/core/pending.h"
#include "pviommu-calls.h"
#include "test-rcu-barrier.h"

/* Far from the pages that a bench counts one by one. */
#define GFN 100000

static Bench *bench_large(uint64_t max_mappings)
{
    const BenchConfig config = {
        .bfn_bits = 40,
        .max_contexts = 4,
        .max_mappings = max_mappings,
    };
    Bench *b = bench_new(&config);

    b->backend.huge = true;
    b->backend.by_number = true;
    return b;
}

/* No device is in context 0: nobody listens there. */
static uint16_t park_devices(Bench *b)
{
    uint16_t ctx;

    OK(do_alloc(b, &ctx));
    for (unsigned i = 0; i < NR_DEVICES; i++) {
        OK(do_attach(b, b->dev[i].sbdf, ctx));
    }
    return ctx;
}

/* No two of @nr frames from @bfn on follow each other. */
static void map_scattered(Bench *b, uint16_t ctx, uint64_t bfn, unsigned nr)
{
    for (unsigned i = 0; i < nr; i++) {
        OK(do_map(b, ctx, bfn + i, GFN + i * 7919ull % (1 << 20) * 2, 0, 0));
    }
}

static void test_unmap(void)
{
    const unsigned nr = 50000;
    Bench *b = bench_large(1 << 24);
    struct xen_iommu_op op;

    park_devices(b);
    map_scattered(b, 0, 5, nr);
    OK(do_unmap(b, 0, 5, nr));
    g_assert_cmpuint(b->parts, >=, nr / XEN_IOMMU_UNMAP_RUNS);
    g_assert_cmpuint(b->core.counter[XEN_PVIOMMU_COUNTER_UNMAPS], ==, 1);
    g_assert_cmpuint(b->core.pending.nr, ==, nr);
    FAILS(ENOENT, do_lookup(b, XEN_IOMMUOP_lookup_bfn, 0, 5, 0, &op));

    /* The flush of as much is one step. */
    b->parts = 0;
    b->most_work = 0;
    OK(do_flush_all(b, 0));
    g_assert_cmpuint(b->parts, ==, 0);
    g_assert_cmpuint(b->most_work, <, nr);
    g_assert_cmpuint(b->backend.total, ==, 0);

    /* With holes, and the rest of a large address space behind it */
    map_scattered(b, 0, 5, nr);
    OK(do_unmap_holes(b, 0, 0, UINT32_MAX));
    g_assert_cmpuint(b->core.pending.nr, ==, nr);
    OK(do_flush_all(b, 0));
    bench_free(b);
}

/* A later part fails: the operation says what is left, and can go on. */
static void test_unmap_fails(void)
{
    const unsigned nr = 5000;
    Bench *b = bench_large(1 << 24);
    struct xen_iommu_op op = {
        .op = cpu_to_le16(XEN_IOMMUOP_unmap),
        .u.unmap.nr_frames = cpu_to_le32(nr),
    };
    uint64_t bfn;

    park_devices(b);
    map_scattered(b, 0, 0, nr);
    OK(do_unmap(b, 0, 3000, 0));
    FAILS(ENOENT, bench_op(b, &op));
    bfn = le64_to_cpu(op.u.unmap.bfn);
    g_assert_cmpuint(bfn, >=, XEN_IOMMU_UNMAP_RUNS);
    g_assert_cmpuint(bfn, <=, 3000);
    g_assert_cmpuint(bfn + le32_to_cpu(op.u.unmap.nr_frames), ==, nr);
    g_assert_cmpuint(b->core.mapped_frames, ==, nr - bfn - 1);
    g_assert_cmpuint(b->core.counter[XEN_PVIOMMU_COUNTER_UNMAPS], ==, 1);
    /* The part that failed is as it was. */
    g_assert_cmpuint(b->core.pending_frames, ==, bfn + 1);
    op.flags = cpu_to_le16(XEN_IOMMUOP_unmap_holes);
    OK(bench_op(b, &op));
    g_assert_cmpuint(b->core.mapped_frames, ==, 0);
    bench_free(b);

    /* More runs than can wait for a flush: after a flush it goes on. */
    b = bench_large(1 << 18);
    park_devices(b);
    map_scattered(b, 0, 0, nr);
    op.flags = 0;
    op.u.unmap.bfn = 0;
    op.u.unmap.nr_frames = cpu_to_le32(nr);
    FAILS(ENOSPC, bench_op(b, &op));
    g_assert_cmpuint(le64_to_cpu(op.u.unmap.bfn), ==, 4096);
    OK(do_flush_all(b, 0));
    OK(bench_op(b, &op));
    g_assert_cmpuint(b->core.mapped_frames, ==, 0);
    bench_free(b);
}

/* Few runs, but many slots of a table, or many places in the GFN index */
static void test_unmap_slots(void)
{
    const unsigned nr = 300000;
    Bench *b = bench_large(1 << 24);
    struct xen_iommu_op op;
    uint64_t bfn;

    park_devices(b);
    for (unsigned i = 0; i < nr; i++) {
        OK(do_map(b, 0, i, GFN + i, 0, 0));
    }
    /* One run, of which a lookup says a part at a time. */
    for (bfn = 0; bfn < nr; bfn += le32_to_cpu(op.u.lookup.nr_frames)) {
        OK(do_lookup(b, XEN_IOMMUOP_lookup_bfn, 0, bfn, 0, &op));
        g_assert_cmphex(le64_to_cpu(op.u.lookup.gfn), ==, GFN + bfn);
        g_assert_cmpuint(le32_to_cpu(op.u.lookup.nr_frames), >, 0);
    }
    g_assert_cmpuint(bfn, ==, nr);
    OK(do_unmap(b, 0, 0, nr));
    g_assert_cmpuint(b->parts, >, 0);
    OK(do_flush_all(b, 0));

    for (unsigned copy = 0; copy < 2; copy++) {
        for (unsigned i = 0; i < 200; i++) {
            /* Unaligned: each frame of it has a place of its own. */
            OK(do_map(b, copy, i * 1022, GFN + 1 + i * 1024, 1022, 0));
        }
    }
    b->parts = 0;
    OK(do_unmap(b, 0, 0, 200 * 1022));
    g_assert_cmpuint(b->parts, >, 0);
    OK(do_flush_all(b, 0));

    /* The largest ranges are a few steps. */
    b->core.limits.max_mappings = 1ull << 40;
    b->core.budget.max_bytes = SIZE_MAX / 2;
    b->parts = 0;
    OK(do_map(b, 0, 1 << 20, GFN + 3, UINT32_MAX, 0));
    OK(do_unmap(b, 0, 1 << 20, UINT32_MAX));
    g_assert_cmpuint(b->parts, ==, 0);
    bench_free(b);
}

/* Who listens is notified a part at a time, by whatever needs it. */
static void test_notify(void)
{
    const unsigned nr = 4000;
    Bench *b = bench_large(1 << 24);
    unsigned flush_parts;

    map_scattered(b, 0, 0, nr * 2);
    for (unsigned i = 0; i < nr; i++) {
        OK(do_unmap(b, 0, i * 2, 0));
        g_assert_cmpuint(b->core.contexts[0]->pending.nr_tail, <=,
                         XEN_PVIOMMU_UNNOTIFIED_MAX);
    }
    g_assert_cmpuint(b->unmap_calls, >, 0);
    g_assert_cmpuint(b->unmap_calls, <, nr);
    b->parts = 0;
    OK(do_flush(b, 0, 0, nr * 2));
    flush_parts = b->parts;
    g_assert_cmpuint(b->unmap_calls, ==, nr);
    g_assert_cmpuint(b->core.pending_frames, ==, 0);

    /* Of what is mapped over, before it is mapped */
    for (unsigned i = 0; i < 1000; i++) {
        OK(do_unmap(b, 0, i * 2 + 1, 0));
    }
    g_assert_cmpuint(b->unmap_calls, ==, nr);
    b->parts = 0;
    OK(do_map(b, 0, 0, GFN, 2001, 0));
    g_assert_cmpuint(b->parts, >, 0);
    g_assert_cmpuint(b->unmap_calls, ==, nr + 1000);
    OK(do_flush_all(b, 0));
    g_assert_cmpuint(b->unmap_calls, ==, nr + 1000);
    g_assert_cmpuint(flush_parts, <=,
                     XEN_PVIOMMU_UNNOTIFIED_MAX / XEN_PVIOMMU_NOTIFY_AT_ONCE);
    bench_free(b);
}

/* Pages that leave, one by one, of very many that wait for a flush */
static void test_invalidate(void)
{
    const unsigned nr = 100000;
    Bench *b = bench_large(1 << 24);
    uint64_t before, work = 0;

    park_devices(b);
    map_scattered(b, 0, 0, nr);
    OK(do_unmap(b, 0, 0, nr));
    for (unsigned i = 0; i < 100; i++) {
        before = xen_pviommu_core_work(&b->core);
        bench_invalidate(b, GFN + i * 2, 1);
        work = MAX(work, xen_pviommu_core_work(&b->core) - before);
    }
    g_assert_cmpuint(work, <, nr);
    /* The same page all the time */
    for (unsigned i = 0; i < nr; i++) {
        OK(do_map(b, 0, i, GFN, 0, 0));
        OK(do_unmap(b, 0, i, 0));
    }
    before = xen_pviommu_core_work(&b->core);
    bench_invalidate(b, GFN, 1);
    g_assert_cmpuint(xen_pviommu_core_work(&b->core) - before, <, nr);
    g_assert_cmpuint(b->backend.total, ==, 0);
    bench_free(b);
}

/* A reset takes as long with nothing mapped; the memory comes back in parts. */
static void test_reset(void)
{
    const unsigned nr = 200000;
    Bench *b = bench_large(1 << 24);
    size_t nodes;

    for (unsigned round = 0; round < 3; round++) {
        uint64_t before;
        uint16_t ctx;

        b->core.accepted = xen_pviommu_core_features(&b->core);
        ctx = park_devices(b);
        map_scattered(b, 0, 0, nr);
        for (unsigned i = 0; i < 20000; i++) {
            OK(do_map(b, 0, (1ull << 30) + i * 512, GFN + i, 0, 0));
        }
        OK(do_map(b, ctx, 0, GFN, 1000, 0));
        OK(do_unmap(b, 0, 0, nr / 2));
        before = xen_pviommu_core_work(&b->core);
        xen_pviommu_core_reset(&b->core);
        g_assert_cmpuint(xen_pviommu_core_work(&b->core) - before, <, nr / 4);
        g_assert_cmpuint(b->backend.total, ==, 0);
        g_assert_cmpuint(b->core.mapped_frames, ==, 0);
        g_assert_cmpuint(b->core.pending.nr, ==, 0);
    }
    /* All of it still counts. */
    nodes = b->core.budget.nodes;
    g_assert_cmpuint(nodes, >, 3 * 20000);
    while (xen_pviommu_core_reap(&b->core, 100, false)) {
        g_assert_cmpuint(nodes - b->core.budget.nodes, <=, 100);
        nodes = b->core.budget.nodes;
    }
    g_assert_cmpuint(nodes, ==, 1);
    bench_free(b);
}

/* What readers may still look at is left alone by who can wait. */
static void test_reap_waits(void)
{
    Bench *b = bench_large(1 << 24);
    size_t nodes;

    OK(do_map(b, 0, 0, GFN, 1, 0));
    rcu_read_lock();
    xen_pviommu_core_reset(&b->core);
    nodes = b->core.budget.nodes;
    g_assert_true(xen_pviommu_core_reap(&b->core, 1000, true));
    g_assert_true(xen_pviommu_core_reap(&b->core, 1000, true));
    g_assert_cmpuint(b->core.budget.nodes, ==, nodes);
    rcu_read_unlock();
    rcu_barrier();
    while (xen_pviommu_core_reap(&b->core, 1000, true)) {
        /* All of them are quiet now. */
    }
    g_assert_cmpuint(b->core.budget.nodes, ==, 1);
    bench_free(b);
}

/* A guest that was reset finds the room that it had before. */
static void test_room_after_reset(void)
{
    Bench *b = bench_large(1 << 18);
    unsigned nr;

    for (unsigned round = 0; round < 5; round++) {
        b->core.accepted = xen_pviommu_core_features(&b->core);
        b->parts = 0;
        for (nr = 0; !do_map(b, 0, (uint64_t)nr << 18, GFN + nr % 100, 1, 0);
             nr++) {
            g_assert_cmpuint(xen_pviommu_core_bytes(&b->core), <=,
                             b->core.budget.max_bytes);
        }
        g_assert_cmpuint(nr, >, 1000);
        xen_pviommu_core_reset(&b->core);
        /* Memory that readers may look at counts until they are gone. */
        rcu_barrier();
    }
    /* It had to wait for it. */
    b->core.accepted = xen_pviommu_core_features(&b->core);
    OK(do_map(b, 0, 0, GFN, 1, 0));
    g_assert_cmpuint(b->parts, >, 0);
    bench_free(b);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/parts/unmap", test_unmap);
    g_test_add_func("/parts/unmap-fails", test_unmap_fails);
    g_test_add_func("/parts/unmap-slots", test_unmap_slots);
    g_test_add_func("/parts/notify", test_notify);
    g_test_add_func("/parts/invalidate", test_invalidate);
    g_test_add_func("/parts/reset", test_reset);
    g_test_add_func("/parts/reap-waits", test_reap_waits);
    g_test_add_func("/parts/room-after-reset", test_room_after_reset);
    return g_test_run();
}
