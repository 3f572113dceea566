/*
 * xen-pviommu: faults, and how the guest hears of them
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/bswap.h"
#include "hw/pci/pci_regs.h"
#include "libqos/edu.h"

#define GFN             PVIOMMU_FREE_GFN
#define BFN             0x4000000
#define ADDR(frame)     ((uint64_t)(frame) * PVIOMMU_PAGE)
#define SBDF_IOMMU      (PVIOMMU_SLOT << 3)

#define UNMAPPED        XEN_IOMMU_FAULT_REASON_unmapped
#define READONLY        XEN_IOMMU_FAULT_REASON_readonly
#define RANGE           XEN_IOMMU_FAULT_REASON_range

/* Where the test lets the device write its interrupt. */
#define MSI_BFN         0x123
#define MSI_GFN         (GFN + 0x800)
#define MSI_DATA        0x5aa51234

static uint64_t count(QXenPVIOMMU *iommu)
{
    return pviommu_counter(iommu, XEN_PVIOMMU_COUNTER_FAULTS);
}

static uint32_t dropped(QXenPVIOMMU *iommu)
{
    return pviommu_readl(iommu, XEN_PVIOMMU_REG_FAULT_LOST);
}

static uint32_t tail(QXenPVIOMMU *iommu)
{
    return pviommu_readl(iommu, XEN_PVIOMMU_REG_FAULT_TAIL);
}

static void set_head(QXenPVIOMMU *iommu, uint32_t head)
{
    pviommu_writel(iommu, XEN_PVIOMMU_REG_FAULT_HEAD, head);
}

static void test_records_describe_the_access(const void *machine)
{
    QEdu edu;
    QXenPVIOMMU *iommu = edu_start(machine, NULL, &edu);
    uint16_t ctx = pviommu_alloc_context(iommu);

    pviommu_fault_ring(iommu, 16);
    g_assert_cmpuint(tail(iommu), ==, 0);
    edu_dma(&edu, false, ADDR(BFN), 8);
    pviommu_wait_faults(iommu, 1);
    pviommu_assert_fault(iommu, 0, EDU_SBDF_A, 0, ADDR(BFN), false, UNMAPPED);

    edu_dma(&edu, true, ADDR(BFN) + 0x238, 8);
    pviommu_wait_faults(iommu, 2);
    pviommu_assert_fault(iommu, 1, EDU_SBDF_A, 0, ADDR(BFN) + 0x238, true,
                         UNMAPPED);

    assert_status(pviommu_map(iommu, 0, BFN, GFN, 0,
                              XEN_IOMMUOP_map_readonly), 0);
    edu_dma(&edu, false, ADDR(BFN) + 0x40, 8);
    edu_dma(&edu, true, ADDR(BFN) + 0x40, 8);
    pviommu_wait_faults(iommu, 3);
    pviommu_assert_fault(iommu, 2, EDU_SBDF_A, 0, ADDR(BFN) + 0x40, true,
                         READONLY);

    edu_dma(&edu, true, ADDR(1ull << 36), 8);
    pviommu_wait_faults(iommu, 4);
    pviommu_assert_fault(iommu, 3, EDU_SBDF_A, 0, ADDR(1ull << 36), true,
                         RANGE);
    edu_dma(&edu, false, 0xfffffffffffff000, 8);
    pviommu_wait_faults(iommu, 5);
    pviommu_assert_fault(iommu, 4, EDU_SBDF_A, 0, 0xfffffffffffff000, false,
                         RANGE);

    /* In a context of its own; what the default one maps is not there. */
    assert_status(pviommu_attach(iommu, EDU_SBDF_A, ctx), 0);
    edu_dma(&edu, false, ADDR(BFN) + 0x40, 8);
    pviommu_wait_faults(iommu, 6);
    pviommu_assert_fault(iommu, 5, EDU_SBDF_A, ctx, ADDR(BFN) + 0x40, false,
                         UNMAPPED);
    g_assert_cmpuint(count(iommu), ==, 6);
    g_assert_cmpuint(dropped(iommu), ==, 0);
    pviommu_quit(iommu);
}

/* A page is one fault, however often QEMU tries; two pages are two. */
static void test_one_record_a_page(void)
{
    QEdu edu;
    QXenPVIOMMU *iommu = edu_start("q35", NULL, &edu);

    pviommu_fault_ring(iommu, 16);
    edu_dma(&edu, true, ADDR(BFN), PVIOMMU_PAGE);
    pviommu_wait_faults(iommu, 1);
    g_assert_cmpuint(count(iommu), ==, 1);
    pviommu_assert_fault(iommu, 0, EDU_SBDF_A, 0, ADDR(BFN), true, UNMAPPED);

    edu_dma(&edu, false, ADDR(BFN) + 0x800, PVIOMMU_PAGE);
    pviommu_wait_faults(iommu, 3);
    g_assert_cmpuint(count(iommu), ==, 3);
    pviommu_assert_fault(iommu, 1, EDU_SBDF_A, 0, ADDR(BFN) + 0x800, false,
                         UNMAPPED);
    pviommu_assert_fault(iommu, 2, EDU_SBDF_A, 0, ADDR(BFN + 1), false,
                         UNMAPPED);

    /* Once there was a record, the next fault has one, too. */
    edu_dma(&edu, false, ADDR(BFN + 1), 8);
    pviommu_wait_faults(iommu, 4);
    pviommu_assert_fault(iommu, 3, EDU_SBDF_A, 0, ADDR(BFN + 1), false,
                         UNMAPPED);
    pviommu_quit(iommu);
}

/* A full ring: faults wait until there is room, and the ring goes round. */
static void test_full_ring_delays_records(const void *machine)
{
    QEdu edu;
    QXenPVIOMMU *iommu = edu_start(machine, NULL, &edu);

    pviommu_fault_ring(iommu, 4);
    for (unsigned i = 0; i < 10; i++) {
        edu_dma(&edu, true, ADDR(BFN + i), 8);
    }
    pviommu_wait_faults(iommu, 4);
    g_assert_cmpuint(count(iommu), ==, 10);
    g_assert_cmpuint(tail(iommu), ==, 4);
    for (unsigned i = 0; i < 4; i++) {
        pviommu_assert_fault(iommu, i, EDU_SBDF_A, 0, ADDR(BFN + i), true,
                             UNMAPPED);
    }

    set_head(iommu, 1);
    pviommu_wait_faults(iommu, 5);
    pviommu_assert_fault(iommu, 4, EDU_SBDF_A, 0, ADDR(BFN + 4), true,
                         UNMAPPED);
    pviommu_assert_fault(iommu, 1, EDU_SBDF_A, 0, ADDR(BFN + 1), true,
                         UNMAPPED);
    set_head(iommu, 5);
    pviommu_wait_faults(iommu, 9);
    set_head(iommu, 9);
    pviommu_wait_faults(iommu, 10);
    pviommu_assert_fault(iommu, 9, EDU_SBDF_A, 0, ADDR(BFN + 9), true,
                         UNMAPPED);
    g_assert_cmpuint(dropped(iommu), ==, 0);

    /* A head ahead of the tail makes no room, and breaks nothing. */
    set_head(iommu, 1000);
    edu_dma(&edu, true, ADDR(BFN), 8);
    edu_dma(&edu, true, ADDR(BFN + 1), 8);
    g_assert_cmpuint(tail(iommu), ==, 10);
    set_head(iommu, 10);
    pviommu_wait_faults(iommu, 12);
    pviommu_quit(iommu);
}

/* What finds no room anywhere is counted. */
static void test_excess_is_counted(void)
{
    const unsigned nr = 400;
    QEdu edu;
    QXenPVIOMMU *iommu = edu_start("q35", NULL, &edu);
    uint32_t last, before;

    pviommu_fault_ring(iommu, 1);
    for (unsigned i = 0; i < nr; i++) {
        edu_dma(&edu, false, ADDR(BFN + i), 8);
    }
    g_assert_cmpuint(dropped(iommu), >, 0);
    g_assert_cmpuint(dropped(iommu), <, count(iommu));

    /* The others come, in their order. */
    last = count(iommu) - dropped(iommu);
    before = dropped(iommu);
    g_assert_cmpuint(last, <, nr);
    for (uint32_t i = 0; i < last; i++) {
        pviommu_wait_faults(iommu, i + 1);
        pviommu_assert_fault(iommu, i, EDU_SBDF_A, 0, ADDR(BFN + i), false,
                             UNMAPPED);
        set_head(iommu, i + 1);
    }
    edu_dma(&edu, true, ADDR(BFN) + 8, 8);
    pviommu_wait_faults(iommu, last + 1);
    pviommu_assert_fault(iommu, last, EDU_SBDF_A, 0, ADDR(BFN) + 8, true,
                         UNMAPPED);
    g_assert_cmpuint(dropped(iommu), ==, before);
    pviommu_quit(iommu);
}

static void test_bad_ring_is_not_enabled(const void *machine)
{
    static const struct {
        uint64_t ring;
        uint32_t size, ctrl;
    } bad[] = {
        { PVIOMMU_RING_ADDR, 0, 1 },
        { PVIOMMU_RING_ADDR, 3, 1 },
        { PVIOMMU_RING_ADDR, 255, 1 },
        { PVIOMMU_RING_ADDR, XEN_PVIOMMU_FAULT_MAX_SIZE * 2, 1 },
        { PVIOMMU_RING_ADDR, 0x80000000, 1 },
        { PVIOMMU_RING_ADDR + 16, 16, 1 },
        { PVIOMMU_RING_ADDR + 1, 16, 1 },
        { PVIOMMU_RING_ADDR, 16, 2 },
        { PVIOMMU_RING_ADDR, 16, 3 },
        { PVIOMMU_RING_ADDR, 16, 0xffffffff },
    };
    QEdu edu;
    QXenPVIOMMU *iommu = edu_start(machine, NULL, &edu);

    for (unsigned i = 0; i < ARRAY_SIZE(bad); i++) {
        pviommu_writeq(iommu, XEN_PVIOMMU_REG_FAULT_RING, bad[i].ring);
        pviommu_writel(iommu, XEN_PVIOMMU_REG_FAULT_SIZE, bad[i].size);
        pviommu_writel(iommu, XEN_PVIOMMU_REG_FAULT_CTRL, bad[i].ctrl);
        g_assert_cmphex(pviommu_readl(iommu, XEN_PVIOMMU_REG_FAULT_CTRL), ==,
                        0);
    }

    /* While it is on, a ring is what it was. */
    pviommu_fault_ring(iommu, 16);
    pviommu_writeq(iommu, XEN_PVIOMMU_REG_FAULT_RING, PVIOMMU_OPS_ADDR);
    pviommu_writel(iommu, XEN_PVIOMMU_REG_FAULT_SIZE, 32);
    pviommu_writel(iommu, XEN_PVIOMMU_REG_FAULT_CTRL, 3);
    g_assert_cmphex(pviommu_readq(iommu, XEN_PVIOMMU_REG_FAULT_RING), ==,
                    PVIOMMU_RING_ADDR);
    g_assert_cmpuint(pviommu_readl(iommu, XEN_PVIOMMU_REG_FAULT_SIZE), ==, 16);
    g_assert_cmphex(pviommu_readl(iommu, XEN_PVIOMMU_REG_FAULT_CTRL), ==,
                    XEN_PVIOMMU_FAULT_CTRL_ENABLE);
    edu_dma(&edu, false, ADDR(BFN), 8);
    pviommu_wait_faults(iommu, 1);
    pviommu_assert_fault(iommu, 0, EDU_SBDF_A, 0, ADDR(BFN), false, UNMAPPED);

    /* Set up anew, it begins anew; the largest one is fine. */
    pviommu_writel(iommu, XEN_PVIOMMU_REG_FAULT_CTRL, 0);
    pviommu_writel(iommu, XEN_PVIOMMU_REG_FAULT_SIZE,
                   XEN_PVIOMMU_FAULT_MAX_SIZE);
    pviommu_writel(iommu, XEN_PVIOMMU_REG_FAULT_CTRL,
                   XEN_PVIOMMU_FAULT_CTRL_ENABLE);
    g_assert_cmphex(pviommu_readl(iommu, XEN_PVIOMMU_REG_FAULT_CTRL), ==,
                    XEN_PVIOMMU_FAULT_CTRL_ENABLE);
    g_assert_cmpuint(tail(iommu), ==, 0);
    g_assert_cmpuint(pviommu_readl(iommu, XEN_PVIOMMU_REG_FAULT_HEAD), ==, 0);
    pviommu_quit(iommu);
}

/* A ring that is not in RAM: faults are dropped, and no more. */
static void test_ring_outside_ram_drops_records(void)
{
    QEdu edu;
    QXenPVIOMMU *iommu = edu_start("q35", NULL, &edu);
    const uint64_t rings[] = {
        iommu->bar.addr, iommu->bar.addr + XEN_PVIOMMU_BLOCKS,
        PVIOMMU_BIOS_ADDR, PVIOMMU_RAM, edu.bar.addr, 0x8000000000000000,
        UINT64_MAX - 31,
    };

    for (unsigned i = 0; i < ARRAY_SIZE(rings); i++) {
        pviommu_writel(iommu, XEN_PVIOMMU_REG_FAULT_CTRL, 0);
        pviommu_writeq(iommu, XEN_PVIOMMU_REG_FAULT_RING, rings[i]);
        pviommu_writel(iommu, XEN_PVIOMMU_REG_FAULT_SIZE, 4);
        pviommu_writel(iommu, XEN_PVIOMMU_REG_FAULT_CTRL,
                       XEN_PVIOMMU_FAULT_CTRL_ENABLE);
        edu_dma(&edu, true, ADDR(BFN), 8);
        pviommu_wait_readl(iommu->qts,
                           iommu->bar.addr + XEN_PVIOMMU_REG_FAULT_LOST, i + 1);
        g_assert_cmpuint(tail(iommu), ==, 0);
    }
    pviommu_quit(iommu);
}

/* Without bus mastering the device stores nothing, and forgets nothing. */
static void test_records_wait_for_bus_mastering(void)
{
    QEdu edu;
    QXenPVIOMMU *iommu = edu_start("pc", NULL, &edu);

    pviommu_fault_ring(iommu, 16);
    pviommu_set_bus_master(iommu, false);
    edu_dma(&edu, true, ADDR(BFN), 8);
    g_assert_cmpuint(count(iommu), ==, 1);
    g_assert_cmpuint(tail(iommu), ==, 0);
    pviommu_set_bus_master(iommu, true);
    set_head(iommu, 0);
    pviommu_wait_faults(iommu, 1);
    pviommu_assert_fault(iommu, 0, EDU_SBDF_A, 0, ADDR(BFN), true, UNMAPPED);
    pviommu_quit(iommu);
}

static uint16_t msix_flags(QXenPVIOMMU *iommu)
{
    return qpci_find_capability(&iommu->dev, PCI_CAP_ID_MSIX, 0) +
           PCI_MSIX_FLAGS;
}

static void set_vector(QXenPVIOMMU *iommu, uint64_t addr, bool masked)
{
    const uint64_t entry = XEN_PVIOMMU_MSIX_TABLE +
                           XEN_PVIOMMU_MSIX_VECTOR_FAULT * PCI_MSIX_ENTRY_SIZE;

    pviommu_writel(iommu, entry + PCI_MSIX_ENTRY_LOWER_ADDR, addr);
    pviommu_writel(iommu, entry + PCI_MSIX_ENTRY_UPPER_ADDR, addr >> 32);
    pviommu_writel(iommu, entry + PCI_MSIX_ENTRY_DATA, MSI_DATA);
    pviommu_writel(iommu, entry + PCI_MSIX_ENTRY_VECTOR_CTRL,
                   masked ? PCI_MSIX_ENTRY_CTRL_MASKBIT : 0);
}

static void set_msix(QXenPVIOMMU *iommu, uint16_t flags)
{
    qpci_config_writew(&iommu->dev, msix_flags(iommu), flags);
}

static bool pending(QXenPVIOMMU *iommu)
{
    return pviommu_readl(iommu, XEN_PVIOMMU_MSIX_PBA) &
           (1u << XEN_PVIOMMU_MSIX_VECTOR_FAULT);
}

/* The interrupt was raised; the next one will be seen. */
static void wait_msi(QXenPVIOMMU *iommu)
{
    pviommu_wait_readl(iommu->qts, ADDR(MSI_GFN), MSI_DATA);
    qtest_writel(iommu->qts, ADDR(MSI_GFN), 0);
}

static void test_record_raises_an_interrupt(const void *machine)
{
    QEdu edu;
    QXenPVIOMMU *iommu = edu_start(machine, NULL, &edu);

    /* The function's own DMA goes through its own address space. */
    assert_status(pviommu_map(iommu, 0, MSI_BFN, MSI_GFN, 0, 0), 0);
    qtest_writel(iommu->qts, ADDR(MSI_GFN), 0);
    pviommu_fault_ring(iommu, 4);
    set_vector(iommu, ADDR(MSI_BFN), false);
    set_msix(iommu, PCI_MSIX_FLAGS_ENABLE);

    edu_dma(&edu, true, ADDR(BFN), 8);
    wait_msi(iommu);
    g_assert_cmpuint(tail(iommu), ==, 1);
    g_assert_false(pending(iommu));
    edu_dma(&edu, false, ADDR(BFN), 8);
    wait_msi(iommu);
    g_assert_cmpuint(tail(iommu), ==, 2);

    /* Room again, and more to tell: that is an interrupt as well. */
    for (unsigned i = 0; i < 5; i++) {
        edu_dma(&edu, false, ADDR(BFN + i), 8);
    }
    pviommu_wait_faults(iommu, 4);
    wait_msi(iommu);
    set_head(iommu, 4);
    pviommu_wait_faults(iommu, 7);
    wait_msi(iommu);

    /* No news, no interrupt. */
    set_head(iommu, 7);
    pviommu_counter(iommu, XEN_PVIOMMU_COUNTER_FAULTS);
    g_assert_cmphex(qtest_readl(iommu->qts, ADDR(MSI_GFN)), ==, 0);
    pviommu_quit(iommu);
}

static void test_masked_interrupt_is_pending(const void *machine)
{
    QEdu edu;
    QXenPVIOMMU *iommu = edu_start(machine, NULL, &edu);

    assert_status(pviommu_map(iommu, 0, MSI_BFN, MSI_GFN, 0, 0), 0);
    qtest_writel(iommu->qts, ADDR(MSI_GFN), 0);
    pviommu_fault_ring(iommu, 16);

    /* Off: the ring still works. */
    set_vector(iommu, ADDR(MSI_BFN), true);
    edu_dma(&edu, true, ADDR(BFN), 8);
    pviommu_wait_faults(iommu, 1);
    g_assert_cmphex(qtest_readl(iommu->qts, ADDR(MSI_GFN)), ==, 0);

    set_msix(iommu, PCI_MSIX_FLAGS_ENABLE);
    edu_dma(&edu, true, ADDR(BFN), 8);
    pviommu_wait_faults(iommu, 2);
    g_assert_true(pending(iommu));
    g_assert_cmphex(qtest_readl(iommu->qts, ADDR(MSI_GFN)), ==, 0);
    set_vector(iommu, ADDR(MSI_BFN), false);
    wait_msi(iommu);
    g_assert_false(pending(iommu));

    /* The whole function masked. */
    set_msix(iommu, PCI_MSIX_FLAGS_ENABLE | PCI_MSIX_FLAGS_MASKALL);
    edu_dma(&edu, true, ADDR(BFN), 8);
    pviommu_wait_faults(iommu, 3);
    g_assert_true(pending(iommu));
    g_assert_cmphex(qtest_readl(iommu->qts, ADDR(MSI_GFN)), ==, 0);
    set_msix(iommu, PCI_MSIX_FLAGS_ENABLE);
    wait_msi(iommu);
    pviommu_quit(iommu);
}

/* An interrupt that itself faults is recorded, and QEMU runs on. */
static void test_unmapped_interrupt_is_a_fault(void)
{
    QEdu edu;
    QXenPVIOMMU *iommu = edu_start("q35", NULL, &edu);

    pviommu_fault_ring(iommu, 8);
    set_vector(iommu, ADDR(MSI_BFN), false);
    set_msix(iommu, PCI_MSIX_FLAGS_ENABLE);
    edu_dma(&edu, true, ADDR(BFN), 8);
    pviommu_wait_faults(iommu, 2);
    pviommu_assert_fault(iommu, 0, EDU_SBDF_A, 0, ADDR(BFN), true, UNMAPPED);
    pviommu_assert_fault(iommu, 1, SBDF_IOMMU, 0, ADDR(MSI_BFN), true,
                         UNMAPPED);

    /* The interrupt's own fault raised none: those are all. */
    edu_dma(&edu, true, ADDR(BFN + 1), 8);
    pviommu_wait_faults(iommu, 4);
    pviommu_assert_fault(iommu, 2, EDU_SBDF_A, 0, ADDR(BFN + 1), true,
                         UNMAPPED);
    pviommu_assert_fault(iommu, 3, SBDF_IOMMU, 0, ADDR(MSI_BFN), true,
                         UNMAPPED);
    g_assert_cmpuint(tail(iommu), ==, 4);

    assert_status(pviommu_map(iommu, 0, MSI_BFN, MSI_GFN, 0, 0), 0);
    qtest_writel(iommu->qts, ADDR(MSI_GFN), 0);
    edu_dma(&edu, true, ADDR(BFN + 2), 8);
    wait_msi(iommu);
    pviommu_quit(iommu);
}

/* Nobody listens: faults are counted. */
static void test_without_a_ring_is_counted(void)
{
    QEdu edu;
    QXenPVIOMMU *iommu = edu_start("q35", NULL, &edu);

    for (unsigned i = 0; i < 300; i++) {
        edu_dma(&edu, true, ADDR(BFN + i), 8);
    }
    g_assert_cmpuint(count(iommu), ==, 300);
    g_assert_cmpuint(tail(iommu), ==, 0);
    pviommu_quit(iommu);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    pviommu_add_for_machines("fault/records-describe-the-access",
                             test_records_describe_the_access);
    pviommu_add_for_machines("fault/full-ring-delays-records",
                             test_full_ring_delays_records);
    pviommu_add_for_machines("fault/bad-ring-is-not-enabled",
                             test_bad_ring_is_not_enabled);
    pviommu_add_for_machines("fault/record-raises-an-interrupt",
                             test_record_raises_an_interrupt);
    pviommu_add_for_machines("fault/masked-interrupt-is-pending",
                             test_masked_interrupt_is_pending);
    pviommu_add("fault/one-record-a-page", test_one_record_a_page);
    pviommu_add("fault/excess-is-counted", test_excess_is_counted);
    pviommu_add("fault/ring-outside-ram-drops-records",
                test_ring_outside_ram_drops_records);
    pviommu_add("fault/records-wait-for-bus-mastering",
                test_records_wait_for_bus_mastering);
    pviommu_add("fault/unmapped-interrupt-is-a-fault",
                test_unmapped_interrupt_is_a_fault);
    pviommu_add("fault/without-a-ring-is-counted",
                test_without_a_ring_is_counted);
    return g_test_run();
}
