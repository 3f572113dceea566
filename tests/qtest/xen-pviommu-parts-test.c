/*
 * xen-pviommu: operations that are too much for one doorbell
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/bswap.h"
#include "libqos/edu.h"
#include "libqos/pviommu-mirror.h"

#define GFN             PVIOMMU_FREE_GFN
#define BFN             0x4000000ull
#define SLOT            0x11
#define ADDR(bfn)       ((bfn) * PVIOMMU_PAGE)
#define OP_SIZE         sizeof(struct xen_iommu_op)
/* Pages that are the devices' own */
#define NR_GFNS         0x2000

static uint64_t gfn_of(unsigned i)
{
    return GFN + i * 7919u % NR_GFNS;
}

/* @nr frames from @bfn on; no two of them follow each other in GFNs. */
static void map_scattered(QXenPVIOMMU *iommu, uint16_t ctx, uint64_t bfn,
                          unsigned nr)
{
    static struct xen_iommu_op ops[2048];

    for (unsigned i = 0; i < nr; ) {
        unsigned n = MIN(nr - i, ARRAY_SIZE(ops));

        for (unsigned j = 0; j < n; j++, i++) {
            ops[j] = pviommu_op_map(ctx, bfn + i, gfn_of(i), 0, 0);
        }
        pviommu_run(iommu, ops, n);
        for (unsigned j = 0; j < n; j++) {
            assert_status(pviommu_status(&ops[j]), 0);
        }
    }
}

static void assert_reached(QEdu *edu, uint64_t bfn, unsigned i)
{
    edu_assert_access(edu, ADDR(bfn), ADDR(gfn_of(i)), 16);
}

/* The device still does all that a guest needs. */
static void assert_usable(QXenPVIOMMU *iommu, QEdu *edu, uint16_t ctx)
{
    uint32_t tail = pviommu_readl(iommu, XEN_PVIOMMU_REG_FAULT_TAIL);
    QPVIOMMUQueue q;

    assert_status(pviommu_map(iommu, ctx, BFN - 8, gfn_of(1), 0, 0), 0);
    assert_reached(edu, BFN - 8, 1);
    pviommu_queue_init(&q, iommu, ctx, PVIOMMU_QUEUE_ADDR, 8);
    pviommu_queue_push(&q, pviommu_op_unmap(ctx, BFN - 8, 0));
    pviommu_queue_push(&q, pviommu_op_map(ctx, BFN - 7, gfn_of(2), 0, 0));
    assert_reached(edu, BFN - 7, 2);
    g_assert_cmpuint(pviommu_queue_head(&q), ==, 2);
    g_assert_cmpuint(pviommu_queue_errors(&q), ==, 0);
    pviommu_fault_ring(iommu, 4);
    edu_dma(edu, true, ADDR(BFN - 8), 8);
    pviommu_wait_faults(iommu, 1);
    pviommu_assert_fault(iommu, 0, SLOT << 3, ctx, ADDR(BFN - 8), true,
                         XEN_IOMMU_FAULT_REASON_unmapped);
    pviommu_writel(iommu, XEN_PVIOMMU_REG_FAULT_CTRL, 0);
    assert_status(pviommu_set_queue(iommu, ctx, 0, 0), 0);
    assert_status(pviommu_unmap(iommu, ctx, BFN - 7, 0), 0);
    assert_status(pviommu_flush_all(iommu, ctx), 0);
    g_assert_cmpuint(tail, ==, 0);
}

/* Between two doorbells of an unmap others see what is left, and can act. */
static void test_unmap_shows_what_is_left(const void *machine)
{
    const unsigned nr = 60000;
    QEdu edu;
    QXenPVIOMMU *iommu = edu_start(machine, "x-check=off", &edu);
    struct xen_iommu_op ops[] = {
        pviommu_op_map(0, BFN - 2, GFN, 0, 0),
        pviommu_op_unmap(0, BFN, nr),
        pviommu_op_unmap(0, BFN - 2, 0),
    };
    uint64_t at = PVIOMMU_OPS_ADDR + OP_SIZE;
    unsigned unfinished = 0;
    uint32_t done;

    map_scattered(iommu, 0, BFN, nr);
    pviommu_store_ops(iommu, PVIOMMU_OPS_ADDR, ops, ARRAY_SIZE(ops));
    assert_status(pviommu_ring(iommu, 0, PVIOMMU_OPS_ADDR, ARRAY_SIZE(ops),
                               &done), 0);
    g_assert_cmpuint(done, ==, 1);
    for (;;) {
        uint64_t bfn;
        uint32_t left;

        pviommu_load_ops(iommu, PVIOMMU_OPS_ADDR, ops, ARRAY_SIZE(ops));
        g_assert_cmphex(le32_to_cpu(ops[2].status), ==, done < 2
                        ? PVIOMMU_STATUS_NONE : 0);
        if (ops[1].status != cpu_to_le32(PVIOMMU_STATUS_NONE)) {
            break;
        }
        bfn = le64_to_cpu(ops[1].u.unmap.bfn);
        left = le32_to_cpu(ops[1].u.unmap.nr_frames);
        g_assert_cmphex(bfn + left, ==, BFN + nr);
        g_assert_cmpuint(left, >, 0);
        pviommu_assert_unmapped(iommu, 0, bfn - 1);
        pviommu_assert_mapped(iommu, 0, bfn, gfn_of(bfn - BFN), 1, 0);
        if (!unfinished++) {
            assert_reached(&edu, bfn, bfn - BFN);
            edu_assert_no_access(&edu, ADDR(bfn - 1),
                                 ADDR(gfn_of(bfn - 1 - BFN)), 16);
        }
        /* Those of the assertions were stored at the same address. */
        pviommu_store_ops(iommu, at, &ops[1], 2);
        assert_status(pviommu_ring(iommu, 0, at, 2, &done), 0);
    }
    g_assert_cmpuint(unfinished, >, 1);
    g_assert_cmpuint(done, >, 0);
    if (done < 2) {
        pviommu_run(iommu, &ops[2], 1);
    }
    assert_status(pviommu_status(&ops[1]), 0);
    pviommu_assert_frames(iommu, 1, nr + 1);
    assert_status(pviommu_flush_all(iommu, 0), 0);
    pviommu_assert_frames(iommu, 1, 0);
    assert_usable(iommu, &edu, 0);
    pviommu_quit(iommu);
}

/* A later part fails; nothing more than what it says is unmapped. */
static void test_unmap_that_fails_says_how_far(void)
{
    const unsigned nr = 30000, unmapped = 29000;
    QEdu edu;
    QXenPVIOMMU *iommu = edu_start("q35", "x-check=off", &edu);
    struct xen_iommu_op op = pviommu_op_unmap(0, BFN, nr);
    uint64_t bfn;

    map_scattered(iommu, 0, BFN, nr);
    assert_status(pviommu_unmap(iommu, 0, BFN + unmapped, 0), 0);
    assert_status(pviommu_op(iommu, &op), XEN_IOMMU_ENOENT);
    bfn = le64_to_cpu(op.u.unmap.bfn);
    g_assert_cmphex(bfn + le32_to_cpu(op.u.unmap.nr_frames), ==, BFN + nr);
    g_assert_cmphex(bfn, >, BFN + XEN_IOMMU_UNMAP_RUNS);
    g_assert_cmphex(bfn, <=, BFN + unmapped);
    pviommu_assert_unmapped(iommu, 0, bfn - 1);
    assert_reached(&edu, bfn, bfn - BFN);
    assert_reached(&edu, BFN + unmapped - 1, unmapped - 1);
    assert_reached(&edu, BFN + unmapped + 1, unmapped + 1);
    op = pviommu_op_unmap_skip(0, bfn, BFN + nr - bfn);
    assert_status(pviommu_op(iommu, &op), 0);
    assert_status(pviommu_flush_all(iommu, 0), 0);
    pviommu_assert_frames(iommu, 1, 0);
    assert_usable(iommu, &edu, 0);
    pviommu_quit(iommu);
}

/* A flush with many notifications sends them in parts, and then all. */
static void test_flush_notifies_in_parts(void)
{
    const unsigned nr = 1000;
    QXenPVIOMMU *iommu =
        pviommu_start("q35", NULL, "-device '{\"driver\":\"pviommu-mirror\","
                      "\"addr\":\"11\",\"notifier\":\"map\"}' ");
    struct xen_iommu_op op = pviommu_op_flush(0, XEN_IOMMU_FLUSH_ALL, 0);
    unsigned unfinished = 0;
    uint32_t done;
    QMirror m;

    mirror_init(&m, iommu, QPCI_DEVFN(SLOT, 0));
    pviommu_accept(iommu, XEN_IOMMU_FEATURES_ALL);
    map_scattered(iommu, 0, BFN, 2 * nr);
    for (unsigned i = 0; i < nr; i++) {
        assert_status(pviommu_unmap(iommu, 0, BFN + 2 * i, 0), 0);
    }
    mirror_clear(&m);
    pviommu_store_ops(iommu, PVIOMMU_OPS_ADDR, &op, 1);
    for (;;) {
        assert_status(pviommu_ring(iommu, 0, PVIOMMU_OPS_ADDR, 1, &done), 0);
        if (done) {
            break;
        }
        pviommu_load_ops(iommu, PVIOMMU_OPS_ADDR, &op, 1);
        g_assert_cmphex(le32_to_cpu(op.status), ==, PVIOMMU_STATUS_NONE);
        g_assert_cmphex(le64_to_cpu(op.u.flush.bfn), ==, XEN_IOMMU_FLUSH_ALL);
        pviommu_assert_frames(iommu, nr, nr);
        g_assert_cmpuint(unfinished++, <, nr);
    }
    g_assert_cmpuint(unfinished, >, 0);
    mirror_assert_notified(&m, 0, nr);
    mirror_assert_equal(&m, 0, nr);
    pviommu_assert_frames(iommu, nr, 0);

    /* With too many pending runs, unmaps notify of those before them. */
    assert_status(pviommu_flush_all(iommu, 0), 0);
    map_scattered(iommu, 0, BFN + 0x10000, 6000);
    assert_status(pviommu_unmap(iommu, 0, BFN + 0x10000, 6000), 0);
    assert_status(pviommu_map(iommu, 0, BFN + 0x10000, GFN, 3000, 0), 0);
    mirror_assert_page(&m, BFN + 0x10000 + 2999, GFN + 2999, 3);
    assert_status(pviommu_flush_all(iommu, 0), 0);
    mirror_assert_equal(&m, 0, nr + 3000);
    mirror_assert_sane(&m);
    pviommu_quit(iommu);
}

/* A machine that is reset over and over begins anew each time. */
static void test_reset_begins_anew(const void *machine)
{
    QXenPVIOMMU *iommu = pviommu_start(machine, "x-check=off", EDU_DEVICE
                                       ",addr=11");
    QEdu edu;

    for (unsigned round = 0; round < 4; round++) {
        uint16_t ctx;

        pviommu_accept(iommu, XEN_IOMMU_FEATURES_ALL);
        ctx = pviommu_alloc_context(iommu);
        edu_init(&edu, iommu, QPCI_DEVFN(SLOT, 0));
        assert_status(pviommu_attach(iommu, SLOT << 3, ctx), 0);
        edu_map_window(&edu, iommu, ctx, 0);
        edu_assert_no_access(&edu, ADDR(BFN), ADDR(gfn_of(0)), 16);
        map_scattered(iommu, ctx, BFN, 40000);
        map_scattered(iommu, 0, BFN, 40000);
        assert_status(pviommu_unmap(iommu, 0, BFN, 20000), 0);
        assert_reached(&edu, BFN + 39999, 39999);
        assert_usable(iommu, &edu, ctx);
        pviommu_reset(iommu);
        if (round % 2) {
            /* What the last one left is not freed yet. */
            pviommu_reset(iommu);
        }
        g_assert_true(pviommu_identity(iommu));
        pviommu_assert_frames(iommu, 0, 0);
    }
    edu_init(&edu, iommu, QPCI_DEVFN(SLOT, 0));
    pviommu_quit(iommu);
}

/* Many runs that wait for a flush are dropped together. */
static void test_flush_of_many_drops_all(void)
{
    QEdu edu;
    QXenPVIOMMU *iommu = edu_start("pc", NULL, &edu);

    /* x-check: the device audits its references after each doorbell. */
    map_scattered(iommu, 0, BFN, 3000);
    assert_status(pviommu_unmap(iommu, 0, BFN, 3000), 0);
    map_scattered(iommu, 0, BFN + 0x1000, 1000);
    /* With so many pending runs, a flush of a part drops them all. */
    assert_status(pviommu_flush(iommu, 0, BFN, 1), 0);
    pviommu_assert_frames(iommu, 1001, 0);
    assert_status(pviommu_unmap(iommu, 0, BFN + 0x1000, 200), 0);
    assert_status(pviommu_flush(iommu, 0, BFN + 0x1000, 50), 0);
    pviommu_assert_frames(iommu, 801, 150);
    assert_usable(iommu, &edu, 0);
    pviommu_reset(iommu);
    pviommu_accept(iommu, XEN_IOMMU_FEATURES_ALL);
    assert_status(pviommu_map(iommu, 0, BFN, GFN, 1000, 0), 0);
    pviommu_assert_frames(iommu, 1000, 0);
    pviommu_quit(iommu);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    pviommu_add_for_machines("parts/unmap-shows-what-is-left",
                             test_unmap_shows_what_is_left);
    pviommu_add("parts/unmap-that-fails-says-how-far",
                test_unmap_that_fails_says_how_far);
    pviommu_add("parts/flush-notifies-in-parts", test_flush_notifies_in_parts);
    pviommu_add_for_machines("parts/reset-begins-anew", test_reset_begins_anew);
    pviommu_add("parts/flush-of-many-drops-all", test_flush_of_many_drops_all);
    return g_test_run();
}
