/*
 * xen-pviommu: DMA that is under way while its mapping ends, and DMA that
 * hits the IOMMU itself
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/bswap.h"
#include "qemu/timer.h"
#include "hw/pci/pci_regs.h"
#include "libqos/edu.h"
#include "libqos/pviommu-mirror.h"

#define GFN             0x4000ull
#define BFN             0x4000000ull
#define SLOT            0x11
#define EDU_SLOT        0x12
#define LEN             (4 * PVIOMMU_PAGE)

#define BLOCK(n)        (XEN_PVIOMMU_BLOCKS + (n) * XEN_PVIOMMU_BLOCK_STRIDE)

static QXenPVIOMMU *start(const char *machine, const char *props, QMirror *m)
{
    g_autofree char *extra =
        g_strdup_printf(EDU_DEVICE ",addr=%x " MIRROR_DEVICE("deviotlb"),
                        EDU_SLOT, SLOT);
    QXenPVIOMMU *iommu = pviommu_start(machine, props, extra);

    mirror_init(m, iommu, QPCI_DEVFN(SLOT, 0));
    pviommu_accept(iommu, XEN_IOMMU_FEATURES_ALL);
    return iommu;
}

/* Two DMAs, one in each direction, with their pages mapped in @ctx. */
static void hold(QMirror *m, uint16_t ctx)
{
    assert_status(pviommu_map(m->iommu, ctx, BFN, GFN, 8, 0), 0);
    g_assert_cmpuint(mirror_hold(m, 0, BFN * PVIOMMU_PAGE, LEN, true), ==, LEN);
    g_assert_cmpuint(mirror_hold(m, 1, (BFN + 4) * PVIOMMU_PAGE, LEN, false),
                     ==, LEN);
}

/* They go on in the pages that they began in, whatever became of those. */
static void assert_in_flight(QMirror *m, uint64_t salt)
{
    QTestState *qts = m->iommu->qts;

    for (uint64_t offset = 0; offset < LEN; offset += LEN / 4 + 8) {
        uint64_t w = GFN * PVIOMMU_PAGE + offset;
        uint64_t r = (GFN + 4) * PVIOMMU_PAGE + offset;

        mirror_touch_write(m, 0, offset, salt + offset);
        g_assert_cmphex(qtest_readq(qts, w), ==, salt + offset);
        qtest_writeq(qts, r, ~salt - offset);
        g_assert_cmphex(mirror_touch_read(m, 1, offset), ==, ~salt - offset);
    }
}

/*
 * A DMA that begins now fails. QEMU may lend a buffer to one that cannot be
 * mapped, but nothing is copied into it or out of it.
 */
static void assert_no_dma(QMirror *m)
{
    uint64_t faults = pviommu_counter(m->iommu, XEN_PVIOMMU_COUNTER_FAULTS);
    uint64_t gpa = GFN * PVIOMMU_PAGE;
    uint64_t data;

    qtest_writeq(m->iommu->qts, gpa, 0x1111111111111111);
    if (mirror_hold(m, 2, BFN * PVIOMMU_PAGE, LEN, true)) {
        mirror_touch_write(m, 2, 0, 0x2222222222222222);
        mirror_release(m, 2, LEN);
        g_assert_cmphex(qtest_readq(m->iommu->qts, gpa), ==,
                        0x1111111111111111);
    }
    if (mirror_hold(m, 2, BFN * PVIOMMU_PAGE, LEN, false)) {
        g_assert_cmphex(mirror_touch_read(m, 2, 0), ==, 0);
        mirror_release(m, 2, LEN);
    }
    g_assert_false(mirror_dma_write(m, BFN * PVIOMMU_PAGE, 1, 8));
    g_assert_false(mirror_dma_read(m, BFN * PVIOMMU_PAGE, &data));
    g_assert_cmpuint(pviommu_counter(m->iommu, XEN_PVIOMMU_COUNTER_FAULTS), >,
                     faults);
}

static void release(QMirror *m)
{
    mirror_release(m, 0, LEN);
    mirror_release(m, 1, LEN);
}

static void test_goes_on_after_unmap(const void *machine)
{
    QMirror m;
    QXenPVIOMMU *iommu = start(machine, NULL, &m);

    hold(&m, 0);
    assert_in_flight(&m, 0x1000);
    assert_status(pviommu_unmap(iommu, 0, BFN, 8), 0);
    assert_in_flight(&m, 0x2000);
    assert_no_dma(&m);
    assert_status(pviommu_flush_all(iommu, 0), 0);
    assert_in_flight(&m, 0x3000);
    assert_no_dma(&m);

    /* The BFNs get other pages: what is in flight stays in the old ones. */
    assert_status(pviommu_map(iommu, 0, BFN, GFN + 100, 8, 0), 0);
    assert_in_flight(&m, 0x4000);
    g_assert_true(mirror_dma_write(&m, BFN * PVIOMMU_PAGE, 0x77, 8));
    g_assert_cmphex(qtest_readq(iommu->qts, (GFN + 100) * PVIOMMU_PAGE), ==,
                    0x77);
    release(&m);
    pviommu_assert_frames(iommu, 8, 0);
    pviommu_quit(iommu);
}

/* It ends between the unmap and the flush. */
static void test_may_end_before_the_flush(const void *machine)
{
    QMirror m;
    QXenPVIOMMU *iommu = start(machine, NULL, &m);

    hold(&m, 0);
    assert_status(pviommu_unmap(iommu, 0, BFN, 8), 0);
    assert_in_flight(&m, 0x1000);
    release(&m);
    pviommu_assert_frames(iommu, 0, 8);
    assert_status(pviommu_flush_all(iommu, 0), 0);
    pviommu_assert_frames(iommu, 0, 0);
    pviommu_quit(iommu);
}

static void test_goes_on_after_detach(const void *machine)
{
    QMirror m;
    QXenPVIOMMU *iommu = start(machine, NULL, &m);
    uint16_t ctx = pviommu_alloc_context(iommu);

    assert_status(pviommu_attach(iommu, m.sbdf, ctx), 0);
    hold(&m, ctx);
    assert_status(pviommu_attach(iommu, m.sbdf, 0), 0);
    assert_in_flight(&m, 0x1000);
    assert_no_dma(&m);
    /* Nobody is in it any more, but for what is under way. */
    assert_status(pviommu_free_context(iommu, ctx), 0);
    pviommu_assert_frames(iommu, 0, 0);
    assert_in_flight(&m, 0x2000);
    assert_no_dma(&m);
    release(&m);
    pviommu_quit(iommu);
}

static void test_goes_on_after_reset(const void *machine)
{
    static const char *const props[] = { "premap=off", "premap=on" };

    for (unsigned i = 0; i < ARRAY_SIZE(props); i++) {
        QMirror m;
        QXenPVIOMMU *iommu = start(machine, props[i], &m);
        uint16_t ctx = pviommu_alloc_context(iommu);

        assert_status(pviommu_attach(iommu, m.sbdf, ctx), 0);
        hold(&m, ctx);
        assert_status(pviommu_unmap(iommu, ctx, BFN + 2, 0), 0);
        pviommu_reset(iommu);
        mirror_init(&m, iommu, QPCI_DEVFN(SLOT, 0));
        pviommu_assert_frames(iommu, 0, 0);
        assert_in_flight(&m, 0x1000);
        if (i == 0) {
            assert_no_dma(&m);
        }
        release(&m);
        pviommu_quit(iommu);
    }
}

/* What began in identity mode ends after translation is enabled. */
static void test_goes_on_when_enabled(const void *machine)
{
    QMirror m;
    QXenPVIOMMU *iommu = start(machine, NULL, &m);

    g_assert_cmpuint(mirror_hold(&m, 0, GFN * PVIOMMU_PAGE, LEN, true), ==,
                     LEN);
    g_assert_cmpuint(mirror_hold(&m, 1, (GFN + 4) * PVIOMMU_PAGE, LEN, false),
                     ==, LEN);
    assert_status(pviommu_enable(iommu), 0);
    assert_in_flight(&m, 0x1000);
    assert_no_dma(&m);
    g_assert_false(mirror_dma_write(&m, GFN * PVIOMMU_PAGE, 1, 8));
    release(&m);
    pviommu_quit(iommu);
}

/* Unplugging the device ends its DMA. */
static void test_ends_with_unplug(void)
{
    QXenPVIOMMU *iommu = pviommu_start_accepted("pc", "premap=off", NULL);
    QMirror m;

    qtest_qmp_device_add(iommu->qts, "pviommu-mirror", "m0", "{'addr':'0x11'}");
    mirror_init(&m, iommu, QPCI_DEVFN(SLOT, 0));
    hold(&m, 0);
    qpci_unplug_acpi_device_test(iommu->qts, "m0", SLOT);
    assert_status(pviommu_unmap(iommu, 0, BFN, 8), 0);
    assert_status(pviommu_flush_all(iommu, 0), 0);
    pviommu_assert_frames(iommu, 0, 0);
    pviommu_quit(iommu);
}

/* DMA that does not fit in what is contiguous ends where that does. */
static void test_maps_what_is_contiguous(const void *machine)
{
    QMirror m;
    QXenPVIOMMU *iommu = start(machine, "premap=off", &m);

    assert_status(pviommu_map(iommu, 0, BFN, GFN, 2, 0), 0);
    assert_status(pviommu_map(iommu, 0, BFN + 2, GFN + 10, 2, 0), 0);
    g_assert_cmpuint(mirror_hold(&m, 0, BFN * PVIOMMU_PAGE + 8, LEN, true), ==,
                     2 * PVIOMMU_PAGE - 8);
    mirror_touch_write(&m, 0, PVIOMMU_PAGE, 0x1122334455667788);
    g_assert_cmphex(qtest_readq(iommu->qts, (GFN + 1) * PVIOMMU_PAGE + 8), ==,
                    0x1122334455667788);
    mirror_release(&m, 0, 0);
    pviommu_quit(iommu);
}

/* A batch that is in RAM, for a block whose ARRAY is set */
static void prepare(QXenPVIOMMU *iommu, unsigned block, uint64_t addr,
                    const struct xen_iommu_op *ops, unsigned nr)
{
    pviommu_store_ops(iommu, addr, ops, nr);
    pviommu_writeq(iommu, BLOCK(block) + XEN_PVIOMMU_BLOCK_ARRAY, addr);
}

/*
 * As long as devices see all there is, they can ring: that is a doorbell like
 * any other. The first operation takes what they see away, in the middle of
 * the DMA that rang.
 */
static void test_doorbell_by_dma_runs_in_identity_mode(const void *machine)
{
    QMirror m;
    QXenPVIOMMU *iommu = start(machine, NULL, &m);
    struct xen_iommu_op ops[] = {
        pviommu_op_query_caps(),
        pviommu_op_map(0, BFN, GFN, 0, 0),
        pviommu_op_attach(m.sbdf, 0),
    };
    uint64_t doorbell = iommu->bar.addr + BLOCK(3) +
                        XEN_PVIOMMU_BLOCK_DOORBELL;

    prepare(iommu, 3, PVIOMMU_OPS_ADDR, ops, ARRAY_SIZE(ops));
    g_assert_true(mirror_dma_write(&m, doorbell, 1, 4));
    g_assert_cmpuint(pviommu_readl(iommu, BLOCK(3) + XEN_PVIOMMU_BLOCK_DONE),
                     ==, 1);
    g_assert_true(pviommu_identity(iommu));

    /* Through a buffer, when the DMA ends */
    g_assert_cmpuint(mirror_hold(&m, 0, doorbell - 8, 16, true), ==, 16);
    mirror_touch_write(&m, 0, 0, PVIOMMU_OPS_ADDR);
    mirror_touch_write(&m, 0, 8, 1);
    mirror_release(&m, 0, 16);
    g_assert_cmpuint(pviommu_counter(iommu, XEN_PVIOMMU_COUNTER_DOORBELLS), ==,
                     2);

    g_assert_true(mirror_dma_write(&m, doorbell, 3, 4));
    g_assert_cmpuint(pviommu_readl(iommu, BLOCK(3) + XEN_PVIOMMU_BLOCK_DONE),
                     ==, 3);
    g_assert_false(pviommu_identity(iommu));
    pviommu_assert_frames(iommu, 1, 0);

    /* No more. Nor can the guest map the registers to ring them. */
    g_assert_false(mirror_dma_write(&m, doorbell, 1, 4));
    assert_status(pviommu_map(iommu, 0, BFN + 1, doorbell / PVIOMMU_PAGE, 0,
                              0), XEN_IOMMU_EPERM);
    assert_status(pviommu_map(iommu, 0, BFN + 1, doorbell / PVIOMMU_PAGE, 0,
                              XEN_IOMMUOP_map_readonly), XEN_IOMMU_EPERM);
    pviommu_quit(iommu);
}

/* The same by a device that does it from a timer */
static void test_doorbell_by_edu_runs_in_identity_mode(const void *machine)
{
    QMirror m;
    QXenPVIOMMU *iommu = start(machine, NULL, &m);
    uint64_t doorbell = iommu->bar.addr + BLOCK(3) +
                        XEN_PVIOMMU_BLOCK_DOORBELL;
    struct xen_iommu_op ops[] = {
        pviommu_op_map(0, BFN, GFN, 0, 0),
        pviommu_op_unmap(0, BFN, 0),
        pviommu_op_flush(0, BFN, 0),
    };
    uint32_t count = cpu_to_le32(ARRAY_SIZE(ops));
    QEdu edu;

    edu_init(&edu, iommu, QPCI_DEVFN(EDU_SLOT, 0));
    prepare(iommu, 3, PVIOMMU_OPS_ADDR, ops, ARRAY_SIZE(ops));
    edu_store(&edu, doorbell, &count, sizeof(count));
    g_assert_cmpuint(pviommu_readl(iommu, BLOCK(3) + XEN_PVIOMMU_BLOCK_DONE),
                     ==, ARRAY_SIZE(ops));
    g_assert_false(pviommu_identity(iommu));
    pviommu_assert_frames(iommu, 0, 0);
    pviommu_quit(iommu);
}

/* A device that reads and writes all registers, the MSI-X table and PBA */
static void test_register_writes_by_dma_are_survived(const void *machine)
{
    QMirror m;
    QXenPVIOMMU *iommu = start(machine, NULL, &m);
    struct xen_iommu_op op = pviommu_op_query_caps();

    for (unsigned reg = 0; reg < XEN_PVIOMMU_BAR_SIZE; reg += 8) {
        uint64_t data;

        mirror_dma_read(&m, iommu->bar.addr + reg, &data);
        for (unsigned len = 1; len <= 8; len *= 2) {
            mirror_dma_write(&m, iommu->bar.addr + reg, UINT64_MAX, len);
            mirror_dma_write(&m, iommu->bar.addr + reg, 0, len);
        }
    }
    assert_status(pviommu_op(iommu, &op), 0);
    pviommu_quit(iommu);
}

/* Operations that a device changes while they wait are what they are then. */
static void test_array_changed_by_dma_runs_as_it_is(const void *machine)
{
    QMirror m;
    QXenPVIOMMU *iommu = start(machine, "premap=off", &m);
    struct xen_iommu_op ops[] = {
        /* A device in the same context can reach the array ... */
        pviommu_op_map(0, BFN, PVIOMMU_OPS_ADDR / PVIOMMU_PAGE, 0, 0),
        pviommu_op_map(0, BFN + 1, GFN, 0, 0),
    };
    uint64_t data;

    pviommu_run(iommu, ops, ARRAY_SIZE(ops));
    pviommu_assert_frames(iommu, 2, 0);
    g_assert_true(mirror_dma_read(&m, BFN * PVIOMMU_PAGE, &data));
    /* ... and reads what the device stored: op 2, flags 0, status 0. */
    g_assert_cmphex(data, ==, XEN_IOMMUOP_map);
    g_assert_true(mirror_dma_write(&m, BFN * PVIOMMU_PAGE, 0xffff, 8));
    assert_status(pviommu_ring(iommu, 0, PVIOMMU_OPS_ADDR, 2, NULL), 0);
    pviommu_load_ops(iommu, PVIOMMU_OPS_ADDR, ops, 2);
    assert_status(pviommu_status(&ops[0]), XEN_IOMMU_EOPNOTSUPP);
    assert_status(pviommu_status(&ops[1]), XEN_IOMMU_EEXIST);

    /* It holds the array while a batch takes it away from it. */
    g_assert_cmpuint(mirror_hold(&m, 0, BFN * PVIOMMU_PAGE, PVIOMMU_PAGE, true),
                     ==, PVIOMMU_PAGE);
    ops[0] = pviommu_op_unmap(0, BFN, 2);
    ops[1] = pviommu_op_flush(0, BFN, 2);
    pviommu_run(iommu, ops, ARRAY_SIZE(ops));
    assert_status(pviommu_status(&ops[0]), 0);
    assert_status(pviommu_status(&ops[1]), 0);
    mirror_touch_write(&m, 0, 0, 0x1234);
    mirror_release(&m, 0, 8);
    g_assert_cmphex(qtest_readq(iommu->qts, PVIOMMU_OPS_ADDR), ==, 0x1234);
    pviommu_quit(iommu);
}

static void set_msix(QXenPVIOMMU *iommu, uint64_t addr, uint32_t data)
{
    uint64_t entry = iommu->bar.addr + XEN_PVIOMMU_MSIX_TABLE;
    uint8_t cap = qpci_find_capability(&iommu->dev, PCI_CAP_ID_MSIX, 0);

    qpci_config_writew(&iommu->dev, cap + PCI_MSIX_FLAGS,
                       PCI_MSIX_FLAGS_ENABLE);
    qtest_writeq(iommu->qts, entry, addr);
    qtest_writel(iommu->qts, entry + 8, data);
    qtest_writel(iommu->qts, entry + 12, 0);
}

/*
 * With its registers in a reserved range, devices reach them for good; but its
 * own interrupt does not ring.
 */
static void test_own_interrupt_does_not_ring(const void *machine)
{
    QMirror m;
    QXenPVIOMMU *iommu = start(machine, "\"premap\":false,\"reserved-regions\":"
                               "[\"0xe0000000:0xefffffff:0\"]", &m);
    struct xen_iommu_op op = pviommu_op_query_caps();
    uint64_t doorbell = iommu->bar.addr + BLOCK(3) +
                        XEN_PVIOMMU_BLOCK_DOORBELL;
    uint64_t rung;

    prepare(iommu, 3, PVIOMMU_OPS_ADDR + PVIOMMU_PAGE, &op, 1);
    g_assert_true(mirror_dma_write(&m, doorbell, 1, 4));
    g_assert_cmpuint(pviommu_readl(iommu, BLOCK(3) + XEN_PVIOMMU_BLOCK_DONE),
                     ==, 1);
    rung = pviommu_counter(iommu, XEN_PVIOMMU_COUNTER_DOORBELLS);

    set_msix(iommu, doorbell, 1);
    pviommu_fault_ring(iommu, 8);
    g_assert_false(mirror_dma_write(&m, BFN * PVIOMMU_PAGE, 1, 4));
    pviommu_wait_faults(iommu, 1);
    g_assert_cmpuint(pviommu_counter(iommu, XEN_PVIOMMU_COUNTER_DOORBELLS), ==,
                     rung);
    pviommu_assert_fault(iommu, 0, m.sbdf, 0, BFN * PVIOMMU_PAGE, true,
                         XEN_IOMMU_FAULT_REASON_unmapped);
    pviommu_quit(iommu);
}

/*
 * The IOMMU's own interrupt has an address that is not mapped: a fault of its
 * own. That raises no other interrupt, or there would be no end to it.
 */
static void test_own_interrupt_faults_once(const void *machine)
{
    QMirror m;
    QXenPVIOMMU *iommu = start(machine, "premap=off", &m);
    uint32_t sbdf = PVIOMMU_SLOT << 3;

    set_msix(iommu, (BFN + 7) * PVIOMMU_PAGE, 0x55);
    pviommu_fault_ring(iommu, 8);
    g_assert_false(mirror_dma_write(&m, BFN * PVIOMMU_PAGE, 1, 4));
    pviommu_wait_faults(iommu, 2);
    pviommu_assert_fault(iommu, 0, m.sbdf, 0, BFN * PVIOMMU_PAGE, true,
                         XEN_IOMMU_FAULT_REASON_unmapped);
    pviommu_assert_fault(iommu, 1, sbdf, 0, (BFN + 7) * PVIOMMU_PAGE, true,
                         XEN_IOMMU_FAULT_REASON_unmapped);
    qtest_clock_step(iommu->qts, NANOSECONDS_PER_SECOND);
    g_assert_cmpuint(pviommu_readl(iommu, XEN_PVIOMMU_REG_FAULT_TAIL), ==, 2);

    /* With the page mapped it arrives there, and all is well. */
    assert_status(pviommu_map(iommu, 0, BFN + 7, GFN, 0, 0), 0);
    qtest_writel(iommu->qts, GFN * PVIOMMU_PAGE, 0);
    pviommu_writel(iommu, XEN_PVIOMMU_REG_FAULT_HEAD, 2);
    g_assert_false(mirror_dma_write(&m, BFN * PVIOMMU_PAGE, 1, 4));
    pviommu_wait_readl(iommu->qts, GFN * PVIOMMU_PAGE, 0x55);
    pviommu_quit(iommu);
}

/* Two CPUs, each with a block, one batch here, one there, of one context */
static void test_two_blocks_take_turns(const void *machine)
{
    const unsigned nr = 64;
    QMirror m;
    QXenPVIOMMU *iommu = start(machine, "premap=off,max-ops=5", &m);
    g_autofree struct xen_iommu_op *ops = g_new(struct xen_iommu_op, nr);
    unsigned pos[2] = { 0, 0 };

    for (unsigned cpu = 0; cpu < 2; cpu++) {
        for (unsigned i = 0; i < nr; i++) {
            /* Half of what one maps the other unmaps. */
            ops[i] = cpu && i % 2 ? pviommu_op_unmap(0, BFN + i / 2, 0)
                                  : pviommu_op_map(0, BFN + cpu * 0x1000 + i,
                                                   GFN + i, 0, 0);
        }
        prepare(iommu, cpu, PVIOMMU_OPS_ADDR + cpu * 0x10000, ops, nr);
    }
    while (pos[0] < nr || pos[1] < nr) {
        for (unsigned cpu = 0; cpu < 2; cpu++) {
            uint32_t done = 0;

            if (pos[cpu] < nr) {
                uint64_t addr = PVIOMMU_OPS_ADDR + cpu * 0x10000 +
                                pos[cpu] * sizeof(*ops);

                assert_status(pviommu_ring(iommu, cpu, addr, nr - pos[cpu],
                                           &done), 0);
                g_assert_cmpuint(done, ==, MIN(5, nr - pos[cpu]));
            }
            pos[cpu] += done;
        }
    }
    for (unsigned cpu = 0; cpu < 2; cpu++) {
        pviommu_load_ops(iommu, PVIOMMU_OPS_ADDR + cpu * 0x10000, ops, nr);
        for (unsigned i = 0; i < nr; i++) {
            assert_status(pviommu_status(&ops[i]), 0);
        }
    }
    pviommu_assert_frames(iommu, nr, nr / 2);
    pviommu_quit(iommu);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    pviommu_add_for_machines("inflight/goes-on-after-unmap",
                             test_goes_on_after_unmap);
    pviommu_add_for_machines("inflight/may-end-before-the-flush",
                             test_may_end_before_the_flush);
    pviommu_add_for_machines("inflight/goes-on-after-detach",
                             test_goes_on_after_detach);
    pviommu_add_for_machines("inflight/goes-on-after-reset",
                             test_goes_on_after_reset);
    pviommu_add_for_machines("inflight/goes-on-when-enabled",
                             test_goes_on_when_enabled);
    pviommu_add_for_machines("inflight/maps-what-is-contiguous",
                             test_maps_what_is_contiguous);
    pviommu_add_for_machines("inflight/doorbell-by-dma-runs-in-identity-mode",
                             test_doorbell_by_dma_runs_in_identity_mode);
    pviommu_add_for_machines("inflight/doorbell-by-edu-runs-in-identity-mode",
                             test_doorbell_by_edu_runs_in_identity_mode);
    pviommu_add_for_machines("inflight/register-writes-by-dma-are-survived",
                             test_register_writes_by_dma_are_survived);
    pviommu_add_for_machines("inflight/array-changed-by-dma-runs-as-it-is",
                             test_array_changed_by_dma_runs_as_it_is);
    pviommu_add_for_machines("inflight/own-interrupt-does-not-ring",
                             test_own_interrupt_does_not_ring);
    pviommu_add_for_machines("inflight/own-interrupt-faults-once",
                             test_own_interrupt_faults_once);
    pviommu_add_for_machines("inflight/two-blocks-take-turns",
                             test_two_blocks_take_turns);
    pviommu_add("inflight/ends-with-unplug", test_ends_with_unplug);
    return g_test_run();
}
