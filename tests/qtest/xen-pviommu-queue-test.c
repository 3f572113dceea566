/*
 * xen-pviommu: queues, whose operations need no call
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "libqos/edu.h"
#include "libqos/queue-fixture.h"

/* What set_queue refuses, and that it changes nothing then. */
static void test_set_queue_refuses_bad_memory(const void *machine)
{
    Fixture *f = fixture_new(machine, NULL, NULL);
    const uint64_t end = PVIOMMU_RAM;
    const struct {
        uint16_t ctx;
        uint64_t addr;
        uint32_t nr_ops;
        int error;
    } cases[] = {
        { 0, QUEUE(1), 3, XEN_IOMMU_EINVAL },
        { 0, QUEUE(1), 17, XEN_IOMMU_EINVAL },
        { 0, QUEUE(1), 1023, XEN_IOMMU_EINVAL },
        { 0, QUEUE(1), 2048, XEN_IOMMU_EINVAL },
        { 0, QUEUE(1), 1u << 31, XEN_IOMMU_EINVAL },
        { 0, QUEUE(1), UINT32_MAX, XEN_IOMMU_EINVAL },
        { 0, QUEUE(1) + 1, 16, XEN_IOMMU_EINVAL },
        { 0, QUEUE(1) + 64, 16, XEN_IOMMU_EINVAL },
        { 0, QUEUE(1) + 2048, 16, XEN_IOMMU_EINVAL },
        { 0, QUEUE(1) + 4095, 16, XEN_IOMMU_EINVAL },
        { 0, UINT64_MAX, 16, XEN_IOMMU_EINVAL },
        { 0, 0, 16, XEN_IOMMU_EINVAL },
        { 0, QUEUE(1), 0, XEN_IOMMU_EINVAL },
        { 0, 1, 0, XEN_IOMMU_EINVAL },
        { 0, -0x1000ull, 1024, XEN_IOMMU_EINVAL },
        /* What is malformed is that first. */
        { 9, QUEUE(1) + 1, 16, XEN_IOMMU_EINVAL },
        { 9, end, 3, XEN_IOMMU_EINVAL },
        { 9, QUEUE(1), 16, XEN_IOMMU_ENOENT },
        { UINT16_MAX, QUEUE(1), 16, XEN_IOMMU_ENOENT },
        { 9, 0, 0, XEN_IOMMU_ENOENT },
        { 9, end, 16, XEN_IOMMU_ENOENT },
        { 0, end, 1, XEN_IOMMU_EFAULT },
        { 0, end - 0x1000, 128, XEN_IOMMU_EFAULT },
        { 0, end - 0x8000, 1024, XEN_IOMMU_EFAULT },
        { 0, f->iommu->bar.addr, 1, XEN_IOMMU_EFAULT },
        { 0, f->iommu->bar.addr - 0x1000, 1, XEN_IOMMU_EFAULT },
        { 0, PVIOMMU_BIOS_ADDR, 16, XEN_IOMMU_EFAULT },
        { 0, 0x100000000 - 0x1000, 128, XEN_IOMMU_EFAULT },
        { 0, 0xfee00000, 16, XEN_IOMMU_EFAULT },
        { 0, 1ull << 63, 16, XEN_IOMMU_EFAULT },
        { 0, -0x1000ull, 1, XEN_IOMMU_EFAULT },
    };
    const struct {
        uint64_t addr;
        uint32_t nr_ops;
    } good[] = {
        { QUEUE(1), 1 }, { QUEUE(1), 1024 }, { end - 0x1000, 64 },
        { end - 0x9000, 1024 }, { 0x1000, 2 },
    };

    for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
        g_test_message("context %u, 0x%" PRIx64 ", %u operations",
                       cases[i].ctx, cases[i].addr, cases[i].nr_ops);
        assert_status(pviommu_set_queue(f->iommu, cases[i].ctx, cases[i].addr,
                                        cases[i].nr_ops), cases[i].error);
    }
    pviommu_accept(f->iommu, XEN_IOMMU_FEATURES_ALL &
                             ~XEN_IOMMU_FEATURE_QUEUE);
    assert_status(pviommu_set_queue(f->iommu, 0, QUEUE(1), 16),
                  XEN_IOMMU_EINVAL);
    assert_status(pviommu_set_queue(f->iommu, 0, 0, 0), XEN_IOMMU_EINVAL);
    pviommu_accept(f->iommu, XEN_IOMMU_FEATURES_ALL &
                             ~XEN_IOMMU_FEATURE_CONTEXTS);
    assert_status(pviommu_set_queue(f->iommu, 1, QUEUE(1), 16),
                  XEN_IOMMU_EINVAL);
    pviommu_accept(f->iommu, XEN_IOMMU_FEATURES_ALL);

    /* The queue of before is still the one. */
    push_map(&f->q, BFN, GFN, 0);
    assert_reaches(&f->m, BFN, GFN);
    assert_ran(&f->q, 0);

    /* From the least to the most, and up to the end of RAM. */
    for (unsigned i = 0; i < ARRAY_SIZE(good); i++) {
        pviommu_queue_init(&f->q, f->iommu, 0, good[i].addr, good[i].nr_ops);
        for (unsigned n = 0; n < good[i].nr_ops; n++) {
            push_map(&f->q, BFN + 1 + n, GFN + n % 77, 0);
        }
        assert_not_ran(&f->q, good[i].nr_ops);
        pviommu_queue_kick(&f->q);
        assert_ran(&f->q, 0);
        assert_status(pviommu_unmap(f->iommu, 0, BFN + 1, good[i].nr_ops), 0);
        assert_status(pviommu_flush_all(f->iommu, 0), 0);
    }

    /* Taken away, and once more: there is none. */
    for (unsigned i = 0; i < 2; i++) {
        assert_status(pviommu_set_queue(f->iommu, 0, 0, 0), 0);
        assert_gone(f, &f->q);
    }
    pviommu_assert_frames(f->iommu, 1, 0);
    fixture_free(f);
}

/* A machine that does not offer them */
static void test_off_is_not_offered(const void *machine)
{
    Fixture *f = g_new0(Fixture, 1);
    struct xen_iommu_op op = pviommu_op_query_caps();
    const uint64_t without = XEN_IOMMU_FEATURES_ALL & ~XEN_IOMMU_FEATURE_QUEUE;

    f->iommu = pviommu_start(machine, "queues=off", NULL);
    g_assert_cmphex(pviommu_readq(f->iommu, XEN_PVIOMMU_REG_FEATURES), ==,
                    without);
    pviommu_writeq(f->iommu, XEN_PVIOMMU_REG_ACCEPTED, XEN_IOMMU_FEATURES_ALL);
    g_assert_cmphex(pviommu_readq(f->iommu, XEN_PVIOMMU_REG_ACCEPTED), ==,
                    without);
    assert_status(pviommu_op(f->iommu, &op), 0);
    g_assert_cmphex(le64_to_cpu(op.u.query_caps.features), ==, without);
    g_assert_cmphex(le32_to_cpu(op.u.query_caps.ops), ==,
                    IOMMU_OPS_ALL & ~(1u << XEN_IOMMUOP_set_queue));
    assert_status(pviommu_set_queue(f->iommu, 0, QUEUE(0), 16),
                  XEN_IOMMU_EOPNOTSUPP);
    assert_status(pviommu_map(f->iommu, 0, BFN, GFN, 1, 0), 0);
    assert_status(pviommu_unmap_skip(f->iommu, 0, BFN, 1), XEN_IOMMU_EINVAL);
    assert_status(pviommu_unmap(f->iommu, 0, BFN, 1), 0);
    fixture_free(f);
}

/* All that is ever stored are head, errors, flags, and what failed. */
static void test_only_results_are_stored(const void *machine)
{
    Fixture *f = fixture_new_bare(machine, "premap=off", NULL);
    QTestState *qts = f->iommu->qts;
    const uint64_t size = pviommu_queue_size(NR_OPS), guard = PVIOMMU_PAGE;
    g_autofree uint8_t *old = g_malloc0(size + 2 * guard);
    g_autofree uint8_t *got = g_malloc(size + 2 * guard);
    struct xen_iommu_op op;

    memset(old, 0xa5, guard);
    memset(old + guard + size, 0xa5, guard);
    qtest_bufwrite(qts, QUEUE(0) - guard, old, size + 2 * guard);
    /* The operation sets flags, whatever they were. */
    qtest_writel(qts, QUEUE(0) + FIELD(flags), UINT32_MAX);
    f->q = (QPVIOMMUQueue) { f->iommu, 0, QUEUE(0), NR_OPS };
    assert_status(pviommu_set_queue(f->iommu, 0, QUEUE(0), NR_OPS), 0);
    qtest_bufread(qts, QUEUE(0) - guard, got, size + 2 * guard);
    g_assert_cmpmem(got, size + 2 * guard, old, size + 2 * guard);

    push_map(&f->q, BFN, GFN, 2);
    push_map(&f->q, BFN + 1, GFN, 0);
    push_unmap(&f->q, BFN, 1);
    qtest_bufread(qts, QUEUE(0) - guard, old, size + 2 * guard);
    g_assert_cmpuint(ldl_le_p(old + guard + FIELD(tail)), ==, 3);
    stl_le_p(old + guard + FIELD(head), 3);
    stl_le_p(old + guard + FIELD(errors), 1);
    memcpy(&op, old + guard + FIELD(ops[1]), sizeof(op));
    op.status = cpu_to_le32(-XEN_IOMMU_EEXIST);
    memcpy(old + guard + FIELD(ops[1]), &op, sizeof(op));

    assert_reaches(&f->m, BFN + 1, GFN + 1);
    qtest_bufread(qts, QUEUE(0) - guard, got, size + 2 * guard);
    g_assert_cmpmem(got, size + 2 * guard, old, size + 2 * guard);
    call(f);
    qtest_bufread(qts, QUEUE(0) - guard, got, size + 2 * guard);
    g_assert_cmpmem(got, size + 2 * guard, old, size + 2 * guard);
    pviommu_assert_frames(f->iommu, 1, 1);
    fixture_free(f);
}

/* What is queued is there with the next DMA. */
static void test_map_runs_before_dma(const void *machine)
{
    Fixture *f = fixture_new(machine, NULL, EDU_DEVICE ",addr=12");
    uint64_t doorbells;
    QEdu edu;

    edu_init(&edu, f->iommu, QPCI_DEVFN(0x12, 0));
    edu_map_window(&edu, f->iommu, 0, 0);
    doorbells = counter(f, XEN_PVIOMMU_COUNTER_DOORBELLS);

    g_assert_cmphex(pviommu_queue_flags(&f->q), ==, 0);
    push_map(&f->q, BFN, GFN, 0);
    push_map(&f->q, BFN + 1, GFN + 9, 3);
    pviommu_queue_push(&f->q, pviommu_op_map(0, BFN + 4, GFN + 1, 1,
                                             XEN_IOMMUOP_map_readonly));
    assert_not_ran(&f->q, 3);
    edu_assert_access(&edu, ADDR(BFN), ADDR(GFN), PVIOMMU_PAGE);
    assert_ran(&f->q, 0);
    edu_assert_access(&edu, ADDR(BFN + 3) - 64, ADDR(GFN + 11) - 64, 128);
    edu_assert_readonly(&edu, ADDR(BFN + 4), ADDR(GFN + 1), 64);
    edu_assert_no_access(&edu, ADDR(BFN + 5), ADDR(GFN + 2), 64);

    /* Of other devices in the context, too. */
    push_map(&f->q, BFN + 5, GFN + 2, 0);
    assert_reaches(&f->m, BFN + 5, GFN + 2);
    edu_assert_access(&edu, ADDR(BFN + 5), ADDR(GFN + 2), 64);

    /* A translation without DMA, as vhost does */
    push_map(&f->q, BFN + 8, GFN + 8, 8);
    g_assert_cmpuint(mirror_translate(&f->m, ADDR(BFN + 9), true), ==,
                     ADDR(8));
    assert_ran(&f->q, 0);
    /* And a DMA that is mapped for long */
    push_map(&f->q, BFN + 16, GFN + 16, 8);
    g_assert_cmpuint(mirror_hold(&f->m, 0, ADDR(BFN + 16), ADDR(8), true), ==,
                     ADDR(8));
    assert_ran(&f->q, 0);
    mirror_release(&f->m, 0, 0);

    g_assert_cmpuint(counter(f, XEN_PVIOMMU_COUNTER_DOORBELLS), ==, doorbells);
    call(f);
    g_assert_cmpuint(counter(f, XEN_PVIOMMU_COUNTER_DOORBELLS), ==,
                     doorbells + 1);
    g_assert_cmpuint(counter(f, XEN_PVIOMMU_COUNTER_MAPS), ==, 1 + 6);
    g_assert_cmphex(pviommu_queue_flags(&f->q), ==, 0);
    pviommu_assert_frames(f->iommu, 1 + 6 + 16, 0);
    fixture_free(f);
}

/* What is unmapped in the queue is out of reach of the very next DMA. */
static void test_unmap_runs_before_dma(const void *machine)
{
    Fixture *f = fixture_new(machine, NULL, NULL);

    pviommu_fault_ring(f->iommu, 64);
    for (unsigned flush = 0; flush < 2; flush++) {
        uint32_t tail = pviommu_readl(f->iommu, XEN_PVIOMMU_REG_FAULT_TAIL);

        push_map(&f->q, BFN, GFN, 4);
        assert_reaches(&f->m, BFN + 1, GFN + 1);
        push_unmap(&f->q, BFN + 1, 1);
        if (flush) {
            push_flush(&f->q);
        }
        assert_not_ran(&f->q, 1 + flush);
        assert_fault(&f->m, BFN + 1, GFN + 1);
        assert_ran(&f->q, 0);
        pviommu_wait_faults(f->iommu, tail + 2);
        pviommu_assert_fault(f->iommu, tail, f->m.sbdf, 0, ADDR(BFN + 1), true,
                             XEN_IOMMU_FAULT_REASON_unmapped);
        assert_reaches(&f->m, BFN, GFN);
        assert_reaches(&f->m, BFN + 2, GFN + 2);

        /* The same BFN again and again: each time the page it is then */
        for (unsigned i = 0; i < 5; i++) {
            push_map(&f->q, BFN + 1, GFN + 100 + i, 1);
            if (i % 2) {
                assert_reaches(&f->m, BFN + 1, GFN + 100 + i);
            }
            push_unmap(&f->q, BFN + 1, 1);
        }
        push_map(&f->q, BFN + 1, GFN + 77, 1);
        assert_reaches(&f->m, BFN + 1, GFN + 77);
        push_unmap(&f->q, BFN, 4);
        push_flush(&f->q);
        assert_fault(&f->m, BFN + 2, GFN + 2);
        pviommu_assert_frames(f->iommu, 0, 0);
    }
    assert_ran(&f->q, 0);
    fixture_free(f);
}

/* DMA that is under way goes on where it began; the next one does not. */
static void test_dma_in_flight_ends_where_it_began(const void *machine)
{
    Fixture *f = fixture_new(machine, NULL, NULL);

    push_map(&f->q, BFN, GFN, 8);
    g_assert_cmpuint(mirror_hold(&f->m, 0, ADDR(BFN), ADDR(4), true), ==,
                     ADDR(4));
    push_unmap(&f->q, BFN, 8);
    push_flush(&f->q);
    push_map(&f->q, BFN, GFN + 8, 8);
    mirror_touch_write(&f->m, 0, 16, 0x1234);
    assert_not_ran(&f->q, 3);
    assert_reaches(&f->m, BFN, GFN + 8);
    assert_ran(&f->q, 0);
    mirror_touch_write(&f->m, 0, ADDR(3), 0x5678);
    g_assert_cmphex(qtest_readq(f->iommu->qts, ADDR(GFN) + 16), ==, 0x1234);
    g_assert_cmphex(qtest_readq(f->iommu->qts, ADDR(GFN + 3)), ==, 0x5678);
    mirror_release(&f->m, 0, ADDR(4));
    pviommu_assert_frames(f->iommu, 8, 0);
    fixture_free(f);
}

/* Every call runs what is queued, before its own operations. */
static void test_calls_run_it_first(const void *machine)
{
    Fixture *f = fixture_new(machine, NULL, NULL);
    struct xen_iommu_op ops[] = {
        pviommu_op_lookup_bfn(0, BFN),
        pviommu_op_unmap(0, BFN, 4),
        pviommu_op_map(0, BFN, GFN + 50, 1, 0),
    };
    uint64_t nr_ops = counter(f, XEN_PVIOMMU_COUNTER_OPS);
    uint32_t done = 1;

    /* None of its own */
    push_map(&f->q, BFN, GFN, 4);
    push_map(&f->q, BFN, GFN, 4);
    assert_status(pviommu_ring(f->iommu, 3, UINT64_MAX, 0, &done), 0);
    g_assert_cmpuint(done, ==, 0);
    assert_ran(&f->q, 1);
    pviommu_assert_frames(f->iommu, 4, 0);
    g_assert_cmpuint(counter(f, XEN_PVIOMMU_COUNTER_OPS), ==, nr_ops + 2);
    g_assert_cmpuint(counter(f, XEN_PVIOMMU_COUNTER_ERRORS), ==, 1);
    g_assert_cmpuint(counter(f, XEN_PVIOMMU_COUNTER_MAPS), ==, 1);

    push_unmap(&f->q, BFN, 4);
    push_map(&f->q, BFN, GFN + 20, 4);
    pviommu_run(f->iommu, ops, ARRAY_SIZE(ops));
    for (unsigned i = 0; i < ARRAY_SIZE(ops); i++) {
        assert_status(pviommu_status(&ops[i]), 0);
    }
    g_assert_cmphex(le64_to_cpu(ops[0].u.lookup.gfn), ==, GFN + 20);
    assert_ran(&f->q, 1);
    pviommu_assert_frames(f->iommu, 1, 8);

    push_unmap(&f->q, BFN, 1);
    push_flush(&f->q);
    pviommu_assert_unmapped(f->iommu, 0, BFN);
    pviommu_assert_frames(f->iommu, 0, 0);

    /* Also one that cannot read its own */
    push_map(&f->q, BFN, GFN, 1);
    assert_status(pviommu_ring(f->iommu, 0, PVIOMMU_RAM, 1, NULL),
                  XEN_IOMMU_EFAULT);
    assert_ran(&f->q, 1);
    g_assert_cmpuint(counter(f, XEN_PVIOMMU_COUNTER_UNMAPS), ==, 3);
    g_assert_cmpuint(counter(f, XEN_PVIOMMU_COUNTER_FLUSHES), ==, 1);
    fixture_free(f);
}

/* Round and round, with the ring full, half full, and almost empty. */
static void test_wraps_at_any_fill(const void *machine)
{
    static const uint32_t sizes[] = { 1, 2, 4, 16, 64 };
    Fixture *f = fixture_new_bare(machine, "premap=off", NULL);

    for (unsigned i = 0; i < ARRAY_SIZE(sizes); i++) {
        uint32_t nr = sizes[i], live = 0;

        pviommu_queue_init(&f->q, f->iommu, 0, QUEUE(0), nr);
        for (unsigned round = 0; round < 20; round++) {
            /* Of each size, up to a full one */
            uint32_t n = MIN(nr, 1 + round * 7 % nr + round % 2);

            for (unsigned j = 0; j < n; j++, live = (live + 1) % 3) {
                uint64_t bfn = BFN + f->q.tail / 3 % 5;

                if (live == 0) {
                    push_map(&f->q, bfn, GFN + f->q.tail % 99, 0);
                } else if (live == 1) {
                    push_unmap(&f->q, bfn, 0);
                } else {
                    push_flush(&f->q);
                }
            }
            assert_not_ran(&f->q, n);
            if (round % 3) {
                mirror_translate(&f->m, ADDR(BFN + 10), false);
            } else {
                call(f);
            }
            assert_ran(&f->q, 0);
        }
        if (live) {
            assert_status(pviommu_unmap_skip(f->iommu, 0, BFN, 5), 0);
            assert_status(pviommu_flush_all(f->iommu, 0), 0);
        }
        call(f);
        pviommu_assert_frames(f->iommu, 0, 0);
    }
    fixture_free(f);
}

/* The largest queue, full of the largest operations: calls, or DMA, run it */
static void test_full_of_large_operations_runs(void)
{
    const unsigned frames = XEN_IOMMU_QUEUE_MAX_FRAMES;
    Fixture *f = fixture_new_bare("q35", "premap=off,x-check=off", NULL);

    pviommu_queue_init(&f->q, f->iommu, 0, QUEUE(0), XEN_IOMMU_QUEUE_MAX_OPS);
    for (unsigned by_dma = 0; by_dma < 2; by_dma++) {
        /* More at once is too much for a device to wait for. */
        unsigned nr = by_dma ? 80 : XEN_IOMMU_QUEUE_MAX_OPS;
        uint64_t gfns = by_dma ? frames : 1;
        uint64_t last = BFN + (uint64_t)nr * frames - 1;

        for (unsigned i = 0; i < nr; i++) {
            push_map(&f->q, BFN + (uint64_t)i * frames, GFN + i * gfns, frames);
        }
        if (!by_dma) {
            pviommu_queue_kick(&f->q);
        }
        assert_reaches(&f->m, last, GFN + (nr - 1) * gfns + frames - 1);
        assert_ran(&f->q, 0);
        pviommu_assert_frames(f->iommu, (uint64_t)nr * frames, 0);

        for (unsigned i = 0; i < nr; i++) {
            push_unmap(&f->q, BFN + (uint64_t)i * frames, frames);
        }
        if (!by_dma) {
            pviommu_queue_kick(&f->q);
        }
        assert_fault(&f->m, last, GFN);
        assert_ran(&f->q, 0);
        assert_status(pviommu_flush_all(f->iommu, 0), 0);
        pviommu_assert_frames(f->iommu, 0, 0);
    }
    fixture_free(f);
}

/*
 * What keeps a device waiting for more than some milliseconds: the queue dies,
 * and what it did not run is still there to be run as an array.
 */
static void test_too_much_work_in_dma_makes_it_dead(void)
{
    const unsigned nr = XEN_IOMMU_QUEUE_MAX_OPS;
    const unsigned frames = XEN_IOMMU_QUEUE_MAX_FRAMES;
    g_autofree struct xen_iommu_op *ops = g_new0(struct xen_iommu_op, nr);
    Fixture *f = fixture_new_bare("q35", "premap=off,x-check=off", NULL);
    uint64_t last = BFN + (uint64_t)nr * frames - 1;
    uint32_t head;

    pviommu_queue_init(&f->q, f->iommu, 0, QUEUE(0), nr);
    for (unsigned i = 0; i < nr; i++) {
        /* All of them have pages in common, at places of their own. */
        push_map(&f->q, BFN + (uint64_t)i * frames, GFN + i, frames);
    }
    assert_fault(&f->m, last, GFN);
    head = pviommu_queue_head(&f->q);
    g_assert_cmpuint(head, >, 0);
    g_assert_cmpuint(head, <, nr);
    g_assert_cmphex(pviommu_queue_flags(&f->q) & DEAD, ==, DEAD);
    pviommu_assert_frames(f->iommu, (uint64_t)head * frames, 0);
    assert_reaches(&f->m, BFN, GFN);

    pviommu_load_ops(f->iommu, f->q.addr + FIELD(ops), ops, nr);
    pviommu_run(f->iommu, ops + head, nr - head);
    assert_reaches(&f->m, last, GFN + nr - 1 + frames - 1);
    pviommu_assert_frames(f->iommu, (uint64_t)nr * frames, 0);
    /* A new queue in its place works. */
    pviommu_queue_init(&f->q, f->iommu, 0, QUEUE(0), nr);
    push_unmap(&f->q, BFN, frames);
    assert_fault(&f->m, BFN, GFN);
    assert_ran(&f->q, 0);
    fixture_free(f);
}

/* No call runs more than a doorbell may; its own operations have to wait. */
static void test_calls_run_a_bounded_part(void)
{
    const unsigned nr = 128, frames = XEN_IOMMU_QUEUE_MAX_FRAMES;
    g_autofree char *extra = g_strdup_printf(MIRROR_DEVICE("map"), SLOT + 1);
    Fixture *f = fixture_new_bare("q35", "premap=off,x-check=off", extra);
    struct xen_iommu_op op = pviommu_op_lookup_bfn(0, BFN + nr * frames - 1);
    uint32_t done = 1;
    QMirror m;

    mirror_init(&m, f->iommu, QPCI_DEVFN(SLOT + 1, 0));
    pviommu_queue_init(&f->q, f->iommu, 0, QUEUE(0), nr);
    g_assert_cmphex(pviommu_queue_flags(&f->q), ==, DOORBELL);
    for (unsigned i = 0; i < nr; i++) {
        /* So that each page is a notification of its own */
        push_map(&f->q, BFN + i * frames, GFN + 1 + i, frames);
    }
    pviommu_store_ops(f->iommu, PVIOMMU_OPS_ADDR, &op, 1);
    assert_status(pviommu_ring(f->iommu, 0, PVIOMMU_OPS_ADDR, 1, &done), 0);
    g_assert_cmpuint(done, ==, 0);
    g_assert_cmpuint(pviommu_queue_head(&f->q), >, 0);
    g_assert_cmpuint(pviommu_queue_head(&f->q), <, nr);
    assert_status(pviommu_op(f->iommu, &op), 0);
    assert_ran(&f->q, 0);
    g_assert_cmpuint(mirror_counter(&m, PVIOMMU_MIRROR_PAGES), ==, nr * frames);
    fixture_free(f);
}

/*
 * Very many unmaps of the same BFNs that wait for a flush: they neither hinder
 * nor slow maps of these BFNs, and stay until the flush.
 */
static void test_pending_runs_do_not_slow_maps(void)
{
    const unsigned nr = XEN_IOMMU_QUEUE_MAX_OPS;
    const unsigned frames = XEN_IOMMU_QUEUE_MAX_FRAMES;
    g_autofree struct xen_iommu_op *ops =
        g_new0(struct xen_iommu_op, frames + 1);
    Fixture *f = fixture_new_bare("q35", "premap=off,x-check=off", NULL);

    pviommu_queue_init(&f->q, f->iommu, 0, QUEUE(0), nr);
    assert_status(pviommu_map(f->iommu, 0, BFN + frames, GFN, 1, 0), 0);
    for (unsigned i = 0; i < 100; i++) {
        ops[0] = pviommu_op_map(0, BFN, GFN, frames, 0);
        for (unsigned j = 0; j < frames; j++) {
            ops[1 + j] = pviommu_op_unmap(0, BFN + j, 1);
        }
        pviommu_run(f->iommu, ops, frames + 1);
    }
    pviommu_assert_frames(f->iommu, 1, 100 * frames);

    for (unsigned i = 0; i < nr; i += 2) {
        push_map(&f->q, BFN, GFN, frames);
        push_unmap(&f->q, BFN, frames);
    }
    g_assert_cmphex(pviommu_queue_flags(&f->q), ==, 0);
    assert_reaches(&f->m, BFN + frames, GFN);
    assert_ran(&f->q, 0);
    pviommu_assert_frames(f->iommu, 1, (100 + nr / 2) * frames);

    /* Of so many, a flush of a part is one of all. */
    push_unmap(&f->q, BFN + frames, 1);
    pviommu_queue_push(&f->q, pviommu_op_flush(0, BFN + 1, frames));
    assert_fault(&f->m, BFN + frames, GFN);
    pviommu_assert_frames(f->iommu, 0, 0);
    /* A part of one that is in one piece; then all */
    push_map(&f->q, BFN, GFN, frames);
    push_unmap(&f->q, BFN, frames);
    pviommu_queue_push(&f->q, pviommu_op_flush(0, BFN + 1, 5));
    assert_fault(&f->m, BFN + frames, GFN);
    pviommu_assert_frames(f->iommu, 0, frames - 5);
    push_flush(&f->q);
    assert_fault(&f->m, BFN + frames, GFN);
    pviommu_assert_frames(f->iommu, 0, 0);
    fixture_free(f);
}

/* What is more than a full ring is nothing that the device could follow. */
static void test_bad_tail_makes_it_dead(const void *machine)
{
    static const uint32_t ahead[] = { NR_OPS + 1, 0x80000000, UINT32_MAX };

    for (unsigned i = 0; i < 2 * ARRAY_SIZE(ahead); i++) {
        Fixture *f = fixture_new(machine, NULL, NULL);
        QTestState *qts = f->iommu->qts;
        struct xen_iommu_op ops[NR_OPS];

        push_map(&f->q, BFN, GFN, 1);
        assert_reaches(&f->m, BFN, GFN);
        for (unsigned n = 0; n < NR_OPS; n++) {
            ops[n] = pviommu_op_unmap(0, BFN, 1);
        }
        pviommu_store_ops(f->iommu, f->q.addr + FIELD(ops), ops, NR_OPS);
        qtest_writel(qts, f->q.addr + FIELD(tail), 1 + ahead[i / 2]);
        if (i % 2) {
            call(f);
        }
        assert_reaches(&f->m, BFN, GFN);
        g_assert_cmphex(pviommu_queue_flags(&f->q) & DEAD, ==, DEAD);
        g_assert_cmpuint(pviommu_queue_head(&f->q), ==, 1);
        g_assert_cmpuint(pviommu_queue_errors(&f->q), ==, 0);

        /* Not looked at any more, with a tail that would be right */
        qtest_writel(qts, f->q.addr + FIELD(tail), 2);
        assert_reaches(&f->m, BFN, GFN);
        call(f);
        g_assert_cmpuint(pviommu_queue_head(&f->q), ==, 1);
        assert_reaches(&f->m, BFN, GFN);

        /* Calls work, and a new queue, in the same place, does. */
        assert_status(pviommu_map(f->iommu, 0, BFN + 1, GFN + 1, 1, 0), 0);
        assert_reaches(&f->m, BFN + 1, GFN + 1);
        pviommu_queue_init(&f->q, f->iommu, 0, QUEUE(0), NR_OPS);
        g_assert_cmphex(pviommu_queue_flags(&f->q), ==, 0);
        push_unmap(&f->q, BFN, 2);
        push_map(&f->q, BFN, GFN + 7, 1);
        assert_reaches(&f->m, BFN, GFN + 7);
        assert_fault(&f->m, BFN + 1, GFN + 1);
        fixture_free(f);
    }
}

/* There are so many at a time; another one for a context is none more. */
static void test_at_most_256(void)
{
    const unsigned max = 256;
    Fixture *f = fixture_new_bare("q35", "premap=off", NULL);
    QPVIOMMUQueue q;
    uint16_t ctx = 0;

    for (unsigned i = 0; i < max; i++) {
        assert_status(pviommu_set_queue(f->iommu, ctx, ADDR(GFN + i), 1), 0);
        ctx = pviommu_alloc_context(f->iommu);
    }
    assert_status(pviommu_set_queue(f->iommu, ctx, QUEUE(0), 1),
                  XEN_IOMMU_ENOSPC);
    pviommu_queue_init(&q, f->iommu, 0, QUEUE(0), 1);
    push_map(&q, BFN, GFN, 1);
    assert_reaches(&f->m, BFN, GFN);
    assert_ran(&q, 0);
    assert_status(pviommu_set_queue(f->iommu, 1, 0, 0), 0);
    pviommu_queue_init(&q, f->iommu, ctx, QUEUE(1), 1);
    push_map(&q, BFN, GFN, 1);
    call(f);
    assert_ran(&q, 0);
    assert_status(pviommu_set_queue(f->iommu, 1, QUEUE(2), 1),
                  XEN_IOMMU_ENOSPC);
    assert_status(pviommu_free_context(f->iommu, 2), 0);
    assert_status(pviommu_set_queue(f->iommu, 1, QUEUE(2), 1), 0);
    fixture_free(f);
}

/* A context's queue is its own. */
static void test_each_context_has_its_own(const void *machine)
{
    g_autofree char *extra = g_strdup_printf(MIRROR_DEVICE("none"), SLOT + 1);
    Fixture *f = fixture_new(machine, NULL, extra);
    uint16_t ctx = pviommu_alloc_context(f->iommu);
    QPVIOMMUQueue q;
    QMirror m;

    mirror_init(&m, f->iommu, QPCI_DEVFN(SLOT + 1, 0));
    assert_status(pviommu_attach(f->iommu, m.sbdf, ctx), 0);
    pviommu_queue_init(&q, f->iommu, ctx, QUEUE(1), 4);

    push_map(&f->q, BFN, GFN, 1);
    push_map(&q, BFN, GFN + 1, 1);
    assert_reaches(&m, BFN, GFN + 1);
    assert_ran(&q, 0);
    assert_not_ran(&f->q, 1);
    assert_reaches(&f->m, BFN, GFN);
    assert_ran(&f->q, 0);

    push_unmap(&f->q, BFN, 1);
    push_unmap(&q, BFN, 1);
    assert_fault(&f->m, BFN, GFN);
    assert_not_ran(&q, 1);
    push_map(&f->q, BFN, GFN + 2, 1);
    push_map(&q, BFN, GFN + 3, 1);
    call(f);
    assert_ran(&f->q, 0);
    assert_ran(&q, 0);
    assert_reaches(&f->m, BFN, GFN + 2);
    assert_reaches(&m, BFN, GFN + 3);

    /* A device that is attached sees what is queued in its new context. */
    push_map(&f->q, BFN + 1, GFN + 4, 1);
    push_map(&q, BFN + 1, GFN + 5, 1);
    assert_status(pviommu_attach(f->iommu, m.sbdf, 0), 0);
    assert_reaches(&m, BFN + 1, GFN + 4);
    push_map(&f->q, BFN + 2, GFN + 6, 1);
    push_map(&q, BFN + 2, GFN + 7, 1);
    assert_reaches(&m, BFN + 2, GFN + 6);
    assert_not_ran(&q, 1);

    /* One that fails or dies is none of the other's business. */
    qtest_writel(f->iommu->qts, q.addr + FIELD(tail), q.tail + 100);
    push_map(&f->q, BFN + 3, GFN + 8, 1);
    call(f);
    assert_ran(&f->q, 0);
    g_assert_cmphex(pviommu_queue_flags(&q) & DEAD, ==, DEAD);
    g_assert_cmphex(pviommu_queue_flags(&f->q), ==, 0);
    assert_reaches(&f->m, BFN + 3, GFN + 8);

    /* Taken away with its context */
    assert_status(pviommu_free_context(f->iommu, ctx), 0);
    assert_gone(f, &q);
    g_assert_cmpuint(pviommu_alloc_context(f->iommu), ==, ctx);
    assert_gone(f, &q);
    assert_reaches(&f->m, BFN, GFN + 2);
    fixture_free(f);
}

/* A queue is run before another takes its place. */
static void test_runs_before_it_is_replaced(const void *machine)
{
    Fixture *f = fixture_new(machine, NULL, NULL);
    QPVIOMMUQueue next;
    struct xen_iommu_op ops[] = {
        pviommu_op_lookup_bfn(0, BFN + 2),
        pviommu_op_set_queue(0, QUEUE(2), 4),
        pviommu_op_set_queue(0, 0, 0),
        pviommu_op_set_queue(0, QUEUE(3), 8),
    };

    push_map(&f->q, BFN, GFN, 1);
    push_map(&f->q, BFN, GFN + 1, 1);
    pviommu_queue_init(&next, f->iommu, 0, QUEUE(1), 4);
    assert_ran(&f->q, 1);
    push_map(&next, BFN + 1, GFN + 1, 1);
    assert_reaches(&f->m, BFN, GFN);
    assert_reaches(&f->m, BFN + 1, GFN + 1);
    assert_ran(&next, 0);
    assert_gone(f, &f->q);

    push_map(&next, BFN + 2, GFN + 2, 1);
    assert_status(pviommu_set_queue(f->iommu, 0, 0, 0), 0);
    assert_ran(&next, 0);
    assert_reaches(&f->m, BFN + 2, GFN + 2);
    assert_gone(f, &next);

    /* Several in one array: the last one is the one. */
    qtest_memset(f->iommu->qts, QUEUE(2), 0, pviommu_queue_size(4));
    qtest_memset(f->iommu->qts, QUEUE(3), 0, pviommu_queue_size(8));
    pviommu_run(f->iommu, ops, ARRAY_SIZE(ops));
    for (unsigned i = 0; i < ARRAY_SIZE(ops); i++) {
        assert_status(pviommu_status(&ops[i]), 0);
    }
    next = (QPVIOMMUQueue) { f->iommu, 0, QUEUE(3), 8 };
    push_unmap(&next, BFN, 3);
    assert_fault(&f->m, BFN + 1, GFN + 1);
    assert_ran(&next, 0);
    next.addr = QUEUE(2);
    next.nr_ops = 4;
    assert_gone(f, &next);

    /* Again in the same place: it begins from 0. */
    for (unsigned i = 0; i < 3; i++) {
        pviommu_queue_init(&next, f->iommu, 0, QUEUE(3), 8);
        g_assert_cmpuint(pviommu_queue_head(&next), ==, 0);
        push_map(&next, BFN + 10 + i, GFN, 1);
        assert_reaches(&f->m, BFN + 10 + i, GFN);
        assert_ran(&next, 0);
    }
    fixture_free(f);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    pviommu_add_for_machines("queue/set-queue-refuses-bad-memory",
                             test_set_queue_refuses_bad_memory);
    pviommu_add_for_machines("queue/off-is-not-offered",
                             test_off_is_not_offered);
    pviommu_add_for_machines("queue/only-results-are-stored",
                             test_only_results_are_stored);
    pviommu_add_for_machines("queue/map-runs-before-dma",
                             test_map_runs_before_dma);
    pviommu_add_for_machines("queue/unmap-runs-before-dma",
                             test_unmap_runs_before_dma);
    pviommu_add_for_machines("queue/dma-in-flight-ends-where-it-began",
                             test_dma_in_flight_ends_where_it_began);
    pviommu_add_for_machines("queue/calls-run-it-first",
                             test_calls_run_it_first);
    pviommu_add_for_machines("queue/wraps-at-any-fill", test_wraps_at_any_fill);
    pviommu_add("queue/full-of-large-operations-runs",
                test_full_of_large_operations_runs);
    pviommu_add("queue/too-much-work-in-dma-makes-it-dead",
                test_too_much_work_in_dma_makes_it_dead);
    pviommu_add("queue/calls-run-a-bounded-part",
                test_calls_run_a_bounded_part);
    pviommu_add("queue/pending-runs-do-not-slow-maps",
                test_pending_runs_do_not_slow_maps);
    pviommu_add_for_machines("queue/bad-tail-makes-it-dead",
                             test_bad_tail_makes_it_dead);
    pviommu_add("queue/at-most-256", test_at_most_256);
    pviommu_add_for_machines("queue/each-context-has-its-own",
                             test_each_context_has_its_own);
    pviommu_add_for_machines("queue/runs-before-it-is-replaced",
                             test_runs_before_it_is_replaced);
    return g_test_run();
}
