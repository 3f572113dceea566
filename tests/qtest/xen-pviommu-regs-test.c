/*
 * xen-pviommu: its PCI identity and its registers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/bitops.h"
#include "hw/pci/pci_regs.h"
#include "libqos/xen-pviommu.h"

#define ACCEPTED        XEN_PVIOMMU_REG_ACCEPTED
#define BLOCK(n)        (XEN_PVIOMMU_BLOCKS + (n) * XEN_PVIOMMU_BLOCK_STRIDE)

static void test_pci_header_is_as_specified(const void *machine)
{
    QXenPVIOMMU *iommu = pviommu_start(machine, NULL, NULL);
    QPCIDevice *dev = &iommu->dev;
    uint8_t cap;

    g_assert_cmphex(qpci_config_readw(dev, PCI_VENDOR_ID), ==, 0x5853);
    g_assert_cmphex(qpci_config_readw(dev, PCI_DEVICE_ID), ==, 0x0003);
    g_assert_cmphex(qpci_config_readw(dev, PCI_CLASS_DEVICE), ==, 0x0806);
    g_assert_cmphex(qpci_config_readb(dev, PCI_CLASS_PROG), ==, 0);
    g_assert_cmphex(qpci_config_readb(dev, PCI_REVISION_ID), ==, 1);
    g_assert_cmphex(qpci_config_readb(dev, PCI_HEADER_TYPE), ==,
                    PCI_HEADER_TYPE_NORMAL);

    /* One BAR: memory, 32 bits, not prefetchable, 16 KiB. */
    qpci_config_writel(dev, PCI_BASE_ADDRESS_0, 0xffffffff);
    g_assert_cmphex(qpci_config_readl(dev, PCI_BASE_ADDRESS_0), ==,
                    (uint32_t)-XEN_PVIOMMU_BAR_SIZE);
    for (unsigned bar = PCI_BASE_ADDRESS_1; bar <= PCI_BASE_ADDRESS_5;
         bar += 4) {
        qpci_config_writel(dev, bar, 0xffffffff);
        g_assert_cmphex(qpci_config_readl(dev, bar), ==, 0);
    }

    cap = qpci_find_capability(dev, PCI_CAP_ID_MSIX, 0);
    g_assert_cmphex(cap, !=, 0);
    g_assert_cmpuint(qpci_msix_table_size(dev), ==,
                     XEN_PVIOMMU_NR_MSIX_VECTORS);
    g_assert_cmphex(qpci_config_readl(dev, cap + PCI_MSIX_TABLE), ==,
                    XEN_PVIOMMU_MSIX_TABLE | XEN_PVIOMMU_BAR);
    g_assert_cmphex(qpci_config_readl(dev, cap + PCI_MSIX_PBA), ==,
                    XEN_PVIOMMU_MSIX_PBA | XEN_PVIOMMU_BAR);
    pviommu_quit(iommu);
}

static void test_device_id_can_be_set(void)
{
    QXenPVIOMMU *iommu = pviommu_start("q35", "device-id=0xc147", NULL);

    g_assert_cmphex(qpci_config_readw(&iommu->dev, PCI_VENDOR_ID), ==, 0x5853);
    g_assert_cmphex(qpci_config_readw(&iommu->dev, PCI_DEVICE_ID), ==, 0xc147);
    g_assert_cmpuint(pviommu_readl(iommu, XEN_PVIOMMU_REG_VERSION), ==, 1);
    pviommu_quit(iommu);
}

static void assert_reset_values(QXenPVIOMMU *iommu)
{
    g_assert_cmpuint(pviommu_readl(iommu, XEN_PVIOMMU_REG_VERSION), ==,
                     XEN_PVIOMMU_VERSION);
    g_assert_cmpuint(pviommu_readl(iommu, XEN_PVIOMMU_REG_NR_BLOCKS), >=, 2);
    g_assert_cmpuint(pviommu_readl(iommu, XEN_PVIOMMU_REG_NR_BLOCKS), <=,
                     XEN_PVIOMMU_MAX_BLOCKS);
    g_assert_cmphex(pviommu_readq(iommu, XEN_PVIOMMU_REG_FEATURES), ==,
                    XEN_IOMMU_FEATURES_ALL);
    g_assert_cmphex(pviommu_readq(iommu, ACCEPTED), ==, 0);
    g_assert_cmpuint(pviommu_readl(iommu, XEN_PVIOMMU_REG_MAX_OPS), ==, 512);
    g_assert_cmpuint(pviommu_readl(iommu, XEN_PVIOMMU_REG_BFN_BITS), ==, 36);
    g_assert_cmphex(pviommu_readl(iommu, XEN_PVIOMMU_REG_STATE), ==,
                    XEN_IOMMU_STATE_identity | XEN_IOMMU_STATE_control);
    g_assert_cmphex(pviommu_readl(iommu, XEN_PVIOMMU_REG_FAULT_CTRL), ==, 0);
    g_assert_cmphex(pviommu_readq(iommu, XEN_PVIOMMU_REG_FAULT_RING), ==, 0);
    g_assert_cmpuint(pviommu_readl(iommu, XEN_PVIOMMU_REG_FAULT_SIZE), ==, 0);
    g_assert_cmpuint(pviommu_readl(iommu, XEN_PVIOMMU_REG_FAULT_HEAD), ==, 0);
    g_assert_cmpuint(pviommu_readl(iommu, XEN_PVIOMMU_REG_FAULT_TAIL), ==, 0);
    g_assert_cmpuint(pviommu_readl(iommu, XEN_PVIOMMU_REG_FAULT_LOST), ==, 0);
    for (unsigned i = 0; i < XEN_PVIOMMU_NR_COUNTERS; i++) {
        g_assert_cmpuint(pviommu_counter(iommu, i), ==, 0);
    }
    for (unsigned i = 0; i < XEN_PVIOMMU_MAX_BLOCKS; i++) {
        g_assert_cmphex(pviommu_readq(iommu, BLOCK(i) +
                                      XEN_PVIOMMU_BLOCK_ARRAY), ==, 0);
        g_assert_cmpuint(pviommu_readl(iommu, BLOCK(i) +
                                       XEN_PVIOMMU_BLOCK_DONE), ==, 0);
        g_assert_cmpint(pviommu_readl(iommu, BLOCK(i) +
                                      XEN_PVIOMMU_BLOCK_RESULT), ==, 0);
    }
}

static void test_reset_restores_values(const void *machine)
{
    QXenPVIOMMU *iommu = pviommu_start(machine, NULL, NULL);
    uint32_t done;

    assert_reset_values(iommu);

    /* Leave nothing as it is, and reset. */
    pviommu_accept(iommu, XEN_IOMMU_FEATURES_ALL);
    assert_status(pviommu_map(iommu, 0, 1, PVIOMMU_FREE_GFN, 4, 0), 0);
    assert_status(pviommu_unmap(iommu, 0, 1, 2), 0);
    assert_status(pviommu_flush(iommu, 0, 1, 1), 0);
    assert_status(pviommu_unmap(iommu, 0, 1, 1), XEN_IOMMU_ENOENT);
    pviommu_fault_ring(iommu, 16);
    pviommu_writel(iommu, XEN_PVIOMMU_REG_FAULT_HEAD, 7);
    assert_status(pviommu_ring(iommu, 5, PVIOMMU_RAM, 1, &done),
                  XEN_IOMMU_EFAULT);
    pviommu_reset(iommu);
    assert_reset_values(iommu);
    pviommu_quit(iommu);
}

/* What a register reads as does not depend on how it is read. */
static void test_reads_of_any_width_agree(void)
{
    QXenPVIOMMU *iommu = pviommu_start("q35", "bfn-bits=33,max-ops=0x1234",
                                       NULL);
    QTestState *qts = iommu->qts;
    uint64_t bar = iommu->bar.addr;

    pviommu_accept(iommu, XEN_IOMMU_FEATURES_ALL);
    pviommu_writeq(iommu, XEN_PVIOMMU_REG_FAULT_RING, 0x0123456789abcde0);
    pviommu_writel(iommu, XEN_PVIOMMU_REG_FAULT_SIZE, 0x10000);
    pviommu_writel(iommu, XEN_PVIOMMU_REG_FAULT_HEAD, 0x87654321);
    assert_status(pviommu_map(iommu, 0, 1, PVIOMMU_FREE_GFN, 0x321, 0), 0);
    pviommu_writeq(iommu, BLOCK(1) + XEN_PVIOMMU_BLOCK_ARRAY,
                   0xfedcba9876543210);

    for (uint64_t reg = 0; reg < XEN_PVIOMMU_BLOCKS + 0x100; reg += 8) {
        uint64_t value = qtest_readq(qts, bar + reg);

        if (reg >= 0x100 && reg < XEN_PVIOMMU_BLOCKS) {
            /* Nothing there, or MSI-X, which is QEMU's own. */
            continue;
        }
        for (unsigned i = 0; i < 8; i++) {
            g_assert_cmphex(qtest_readb(qts, bar + reg + i), ==,
                            extract64(value, i * 8, 8));
        }
        for (unsigned i = 0; i < 8; i += 2) {
            g_assert_cmphex(qtest_readw(qts, bar + reg + i), ==,
                            extract64(value, i * 8, 16));
        }
        for (unsigned i = 0; i < 8; i += 4) {
            g_assert_cmphex(qtest_readl(qts, bar + reg + i), ==,
                            extract64(value, i * 8, 32));
        }
    }
    g_assert_cmphex(qtest_readq(qts, bar + XEN_PVIOMMU_REG_MAX_OPS), ==,
                    (33ull << 32) | 0x1234);
    g_assert_cmphex(qtest_readq(qts, bar + XEN_PVIOMMU_REG_FAULT_RING), ==,
                    0x0123456789abcde0);
    g_assert_cmphex(qtest_readq(qts, bar + XEN_PVIOMMU_REG_FAULT_SIZE), ==,
                    0x8765432100010000);
    g_assert_cmphex(qtest_readq(qts, bar + BLOCK(1)), ==, 0xfedcba9876543210);
    g_assert_cmphex(qtest_readb(qts, bar + BLOCK(1) + 7), ==, 0xfe);
    g_assert_cmphex(qtest_readw(qts, bar + BLOCK(1) + 2), ==, 0x7654);
    pviommu_quit(iommu);
}

/* 64-bit registers take 64 bits, or either half; the other half stays. */
static void test_narrow_writes_are_ignored(void)
{
    static const uint32_t regs[] = {
        XEN_PVIOMMU_REG_FAULT_RING,
        BLOCK(0) + XEN_PVIOMMU_BLOCK_ARRAY,
        BLOCK(63) + XEN_PVIOMMU_BLOCK_ARRAY,
    };
    QXenPVIOMMU *iommu = pviommu_start("pc", NULL, NULL);
    QTestState *qts = iommu->qts;

    for (unsigned i = 0; i < ARRAY_SIZE(regs); i++) {
        uint64_t addr = iommu->bar.addr + regs[i];

        qtest_writeq(qts, addr, 0x1122334455667788);
        g_assert_cmphex(qtest_readq(qts, addr), ==, 0x1122334455667788);
        qtest_writel(qts, addr, 0xaabbccdd);
        g_assert_cmphex(qtest_readq(qts, addr), ==, 0x11223344aabbccdd);
        qtest_writel(qts, addr + 4, 0x99887766);
        g_assert_cmphex(qtest_readq(qts, addr), ==, 0x99887766aabbccdd);

        /* Too narrow: ignored, all of it. */
        for (unsigned b = 0; b < 8; b++) {
            qtest_writeb(qts, addr + b, 0);
            g_assert_cmphex(qtest_readq(qts, addr), ==, 0x99887766aabbccdd);
        }
        for (unsigned b = 0; b < 8; b += 2) {
            qtest_writew(qts, addr + b, 0);
            g_assert_cmphex(qtest_readq(qts, addr), ==, 0x99887766aabbccdd);
        }
    }

    /* A narrow doorbell is none. */
    qtest_writeb(qts, iommu->bar.addr + BLOCK(0) + XEN_PVIOMMU_BLOCK_DOORBELL,
                 1);
    qtest_writew(qts, iommu->bar.addr + BLOCK(0) + XEN_PVIOMMU_BLOCK_DOORBELL,
                 1);
    g_assert_cmpuint(pviommu_counter(iommu, XEN_PVIOMMU_COUNTER_DOORBELLS), ==,
                     0);

    /* Nor is a narrow acceptance one. */
    qtest_writeb(qts, iommu->bar.addr + ACCEPTED, 7);
    qtest_writew(qts, iommu->bar.addr + ACCEPTED, 7);
    g_assert_cmphex(pviommu_readq(iommu, ACCEPTED), ==, 0);
    pviommu_quit(iommu);
}

static void test_read_only_ones_stay(void)
{
    static const uint32_t regs[] = {
        XEN_PVIOMMU_REG_VERSION, XEN_PVIOMMU_REG_NR_BLOCKS,
        XEN_PVIOMMU_REG_FEATURES, XEN_PVIOMMU_REG_FEATURES + 4,
        XEN_PVIOMMU_REG_MAX_OPS, XEN_PVIOMMU_REG_BFN_BITS,
        XEN_PVIOMMU_REG_STATE, XEN_PVIOMMU_REG_FAULT_TAIL,
        XEN_PVIOMMU_REG_FAULT_LOST,
        BLOCK(3) + XEN_PVIOMMU_BLOCK_DONE, BLOCK(3) + XEN_PVIOMMU_BLOCK_RESULT,
    };
    QXenPVIOMMU *iommu = pviommu_start("q35", NULL, NULL);

    for (unsigned i = 0; i < ARRAY_SIZE(regs); i++) {
        uint32_t old = pviommu_readl(iommu, regs[i]);

        pviommu_writel(iommu, regs[i], ~old);
        g_assert_cmphex(pviommu_readl(iommu, regs[i]), ==, old);
    }
    for (unsigned i = 0; i < XEN_PVIOMMU_NR_COUNTERS; i++) {
        pviommu_writeq(iommu, XEN_PVIOMMU_REG_COUNTER(i), 0x12345678);
        g_assert_cmphex(pviommu_counter(iommu, i), ==, 0);
    }
    /* The doorbell is only for writing. */
    pviommu_ring(iommu, 3, PVIOMMU_OPS_ADDR, 2, NULL);
    g_assert_cmpuint(pviommu_readl(iommu, BLOCK(3) +
                                   XEN_PVIOMMU_BLOCK_DOORBELL), ==, 0);
    pviommu_quit(iommu);
}

/* Where there are no registers, reads are 0 and writes do nothing. */
static void test_gaps_read_zero(void)
{
    static const uint32_t gaps[] = {
        0x40, 0x7c, XEN_PVIOMMU_REG_COUNTER(XEN_PVIOMMU_NR_COUNTERS), 0xffc,
        BLOCK(0) + 0x14, BLOCK(0) + 0x3c,
        BLOCK(XEN_PVIOMMU_MAX_BLOCKS - 1) + 0x3c,
        BLOCK(XEN_PVIOMMU_MAX_BLOCKS), XEN_PVIOMMU_BAR_SIZE - 4,
    };
    QXenPVIOMMU *iommu = pviommu_start("q35", NULL, NULL);

    for (unsigned i = 0; i < ARRAY_SIZE(gaps); i++) {
        g_assert_cmphex(pviommu_readl(iommu, gaps[i]), ==, 0);
        pviommu_writel(iommu, gaps[i], 0xffffffff);
        g_assert_cmphex(pviommu_readl(iommu, gaps[i]), ==, 0);
    }
    assert_reset_values(iommu);
    pviommu_quit(iommu);
}

static void test_only_offered_features_are_accepted(void)
{
    QXenPVIOMMU *iommu = pviommu_start("q35", NULL, NULL);

    pviommu_writeq(iommu, ACCEPTED, UINT64_MAX);
    g_assert_cmphex(pviommu_readq(iommu, ACCEPTED), ==,
                    XEN_IOMMU_FEATURES_ALL);
    pviommu_writel(iommu, ACCEPTED + 4, UINT32_MAX);
    g_assert_cmphex(pviommu_readq(iommu, ACCEPTED), ==,
                    XEN_IOMMU_FEATURES_ALL);
    pviommu_writel(iommu, ACCEPTED, XEN_IOMMU_FEATURE_LOOKUP | 0x80000000);
    g_assert_cmphex(pviommu_readq(iommu, ACCEPTED), ==,
                    XEN_IOMMU_FEATURE_LOOKUP);
    pviommu_writeq(iommu, ACCEPTED, 0);
    g_assert_cmphex(pviommu_readq(iommu, ACCEPTED), ==, 0);
    pviommu_quit(iommu);
}

/* The counters count, those of what is follow it up and down. */
static void test_counters_count(void)
{
    QXenPVIOMMU *iommu = pviommu_start("pc", NULL, NULL);
    struct xen_iommu_op ops[] = {
        pviommu_op_map(0, 0x10, PVIOMMU_FREE_GFN, 16, 0),
        pviommu_op_map(0, 0x10, PVIOMMU_FREE_GFN, 16, 0),       /* EEXIST */
        pviommu_op_unmap(0, 0x10, 5),
        pviommu_op_unmap(0, 0x15, 1),
        pviommu_op_flush(0, 0x10, 3),
        pviommu_op_query_caps(),
    };

    pviommu_accept(iommu, XEN_IOMMU_FEATURE_RANGES);
    pviommu_run(iommu, ops, ARRAY_SIZE(ops));
    g_assert_cmpuint(pviommu_counter(iommu, XEN_PVIOMMU_COUNTER_DOORBELLS), ==,
                     1);
    g_assert_cmpuint(pviommu_counter(iommu, XEN_PVIOMMU_COUNTER_OPS), ==, 6);
    g_assert_cmpuint(pviommu_counter(iommu, XEN_PVIOMMU_COUNTER_ERRORS), ==, 1);
    g_assert_cmpuint(pviommu_counter(iommu, XEN_PVIOMMU_COUNTER_MAPS), ==, 1);
    g_assert_cmpuint(pviommu_counter(iommu, XEN_PVIOMMU_COUNTER_UNMAPS), ==, 2);
    g_assert_cmpuint(pviommu_counter(iommu, XEN_PVIOMMU_COUNTER_FLUSHES), ==,
                     1);
    g_assert_cmpuint(pviommu_counter(iommu, XEN_PVIOMMU_COUNTER_FAULTS), ==, 0);
    g_assert_cmpuint(pviommu_counter(iommu, XEN_PVIOMMU_COUNTER_INVALIDATED),
                     ==, 0);
    pviommu_assert_frames(iommu, 10, 3);
    assert_status(pviommu_flush_all(iommu, 0), 0);
    pviommu_assert_frames(iommu, 10, 0);
    pviommu_quit(iommu);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    pviommu_add_for_machines("regs/pci-header-is-as-specified",
                             test_pci_header_is_as_specified);
    pviommu_add_for_machines("regs/reset-restores-values",
                             test_reset_restores_values);
    pviommu_add("regs/device-id-can-be-set", test_device_id_can_be_set);
    pviommu_add("regs/reads-of-any-width-agree", test_reads_of_any_width_agree);
    pviommu_add("regs/narrow-writes-are-ignored",
                test_narrow_writes_are_ignored);
    pviommu_add("regs/read-only-ones-stay", test_read_only_ones_stay);
    pviommu_add("regs/gaps-read-zero", test_gaps_read_zero);
    pviommu_add("regs/only-offered-features-are-accepted",
                test_only_offered_features_are_accepted);
    pviommu_add("regs/counters-count", test_counters_count);
    return g_test_run();
}
