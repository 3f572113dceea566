/*
 * xen-pviommu: BARs of PCI functions are mapped, for DMA from one device
 * to another
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/bswap.h"
#include "qobject/qdict.h"
#include "qobject/qlist.h"
#include "libqos/mmio-fixture.h"
#include "libqos/pviommu-mirror.h"

static void test_peer_is_reached(const void *machine)
{
    Fixture f = fixture_start(machine, NULL, NULL);
    struct xen_iommu_op op;

    assert_status(map_peer(&f, BFN, 0), 0);
    pviommu_assert_mapped(f.iommu, 0, BFN, f.peer.gfn, PEER_FRAMES, 0);
    assert_reached(&f, BFN);
    assert_status(map_peer(&f, BFN, 0), XEN_IOMMU_EEXIST);

    /* The same page once more, read-only */
    assert_status(pviommu_map(f.iommu, 0, BFN + 100,
                              f.peer.gfn + PEER_TABLE / PVIOMMU_PAGE, 1, RO),
                  0);
    edu_assert_readonly(&f.edu, ADDR(BFN + 100) + PEER_TABLE % PVIOMMU_PAGE,
                        f.peer.bar.addr + PEER_TABLE, 64);
    op = pviommu_op_lookup_gfn(0, f.peer.gfn, 0);
    assert_status(pviommu_op(f.iommu, &op), 0);
    g_assert_cmphex(le64_to_cpu(op.u.lookup.bfn), ==, BFN);
    pviommu_assert_frames(f.iommu, 1 + PEER_FRAMES + 1, 0);

    assert_status(pviommu_unmap(f.iommu, 0, BFN, PEER_FRAMES), 0);
    assert_not_reached(&f, BFN);
    assert_status(pviommu_unmap(f.iommu, 0, BFN + 100, 1), 0);
    pviommu_assert_frames(f.iommu, 1, PEER_FRAMES + 1);
    assert_status(pviommu_flush_all(f.iommu, 0), 0);
    assert_works(&f);
    pviommu_quit(f.iommu);
}

/* The registers of another edu, whose BAR is 1 MiB */
static void test_registers_are_reached(const void *machine)
{
    QEduPair f = edu_start_pair(machine, NULL);
    const uint64_t bar = f.b.bar.addr;
    uint32_t value;

    assert_status(pviommu_map(f.iommu, 0, BFN, bar / PVIOMMU_PAGE, 256, 0), 0);
    edu_map_window(&f.a, f.iommu, 0, 0);
    edu_load(&f.a, ADDR(BFN), &value, sizeof(value));
    g_assert_cmphex(value, ==, qtest_readl(f.iommu->qts, bar));
    /* One that returns the complement of what was stored */
    value = 0x12345678;
    edu_store(&f.a, ADDR(BFN) + 4, &value, sizeof(value));
    g_assert_cmphex(qtest_readl(f.iommu->qts, bar + 4), ==, ~value);
    edu_load(&f.a, ADDR(BFN) + 4, &value, sizeof(value));
    g_assert_cmphex(value, ==, ~0x12345678u);
    pviommu_quit(f.iommu);
}

/* All of a BAR in which some pages show nothing, and memory of a controller */
static void test_nvme_is_reached(const void *machine)
{
    Fixture f = fixture_start(machine, NULL,
                      "-device nvme,serial=1,cmb_size_mb=1,addr=14");
    QPCIAddress addr = { .devfn = QPCI_DEVFN(0x14, 0) };
    QPCIBar regs, cmb;
    uint64_t size;
    QPCIDevice dev;

    qpci_device_init(&dev, f.iommu->pci, &addr);
    regs = qpci_iomap(&dev, 0, &size);
    cmb = qpci_iomap(&dev, 2, NULL);
    qpci_device_enable(&dev);
    assert_status(pviommu_map(f.iommu, 0, BFN, regs.addr / PVIOMMU_PAGE,
                              size / PVIOMMU_PAGE, 0), 0);
    assert_status(pviommu_map(f.iommu, 0, BFN + 0x1000, cmb.addr / PVIOMMU_PAGE,
                              256, 0), 0);
    edu_assert_access(&f.edu, ADDR(BFN + 0x1000), cmb.addr, EDU_BUF_SIZE);
    edu_assert_access(&f.edu, ADDR(BFN + 0x10ff), cmb.addr + ADDR(255), 4096);
    assert_status(pviommu_unmap(f.iommu, 0, BFN, size / PVIOMMU_PAGE), 0);
    assert_status(pviommu_unmap(f.iommu, 0, BFN + 0x1000, 256), 0);
    assert_status(pviommu_flush_all(f.iommu, 0), 0);
    assert_works(&f);
    pviommu_quit(f.iommu);
}

/* A device whose registers belong to a part of it */
static void test_xhci_is_mapped(const void *machine)
{
    Fixture f = fixture_start(machine, NULL, "-device qemu-xhci,addr=14");
    QPCIAddress addr = { .devfn = QPCI_DEVFN(0x14, 0) };
    uint32_t value;
    uint64_t size;
    QPCIDevice dev;
    QPCIBar bar;

    qpci_device_init(&dev, f.iommu->pci, &addr);
    bar = qpci_iomap(&dev, 0, &size);
    qpci_device_enable(&dev);
    assert_status(pviommu_map(f.iommu, 0, BFN, bar.addr / PVIOMMU_PAGE,
                              size / PVIOMMU_PAGE, 0), 0);
    edu_load(&f.edu, ADDR(BFN), &value, sizeof(value));
    g_assert_cmphex(value, ==, qtest_readl(f.iommu->qts, bar.addr));
    pviommu_quit(f.iommu);
}

static void test_needs_the_feature(const void *machine)
{
    const uint64_t without = XEN_IOMMU_FEATURES_ALL & ~XEN_IOMMU_FEATURE_MMIO;
    Fixture f = fixture_start(machine, NULL, NULL);
    struct xen_iommu_op op = pviommu_op_query_caps();

    assert_status(pviommu_op(f.iommu, &op), 0);
    g_assert_cmphex(le64_to_cpu(op.u.query_caps.features), ==,
                    XEN_IOMMU_FEATURES_ALL);
    pviommu_accept(f.iommu, without);
    assert_status(map_peer(&f, BFN, 0), XEN_IOMMU_EPERM);
    assert_status(map_peer(&f, BFN, RO), XEN_IOMMU_EPERM);
    assert_status(pviommu_map(f.iommu, 0, BFN, GFN, 4, 0), 0);
    assert_status(pviommu_unmap(f.iommu, 0, BFN, 4), 0);
    assert_status(pviommu_flush_all(f.iommu, 0), 0);

    /* What is mapped stays mapped when the guest accepts less. */
    pviommu_accept(f.iommu, XEN_IOMMU_FEATURES_ALL);
    assert_status(map_peer(&f, BFN, 0), 0);
    pviommu_accept(f.iommu, without);
    assert_reached(&f, BFN);
    assert_status(map_peer(&f, BFN + 0x1000, 0), XEN_IOMMU_EPERM);
    peer_move(&f.peer, ELSEWHERE);
    assert_gone(&f, BFN);
    pviommu_accept(f.iommu, XEN_IOMMU_FEATURES_ALL);
    assert_works(&f);
    pviommu_quit(f.iommu);
}

static void test_property_takes_it_away(const void *machine)
{
    const uint64_t without = XEN_IOMMU_FEATURES_ALL & ~XEN_IOMMU_FEATURE_MMIO;
    QXenPVIOMMU *iommu = pviommu_start(machine, "mmio=off", PEER "addr=13");
    struct xen_iommu_op op = pviommu_op_query_caps();
    Peer peer;

    peer_init(&peer, iommu, QPCI_DEVFN(PEER_SLOT, 0));
    g_assert_cmphex(pviommu_readq(iommu, XEN_PVIOMMU_REG_FEATURES), ==,
                    without);
    pviommu_writeq(iommu, XEN_PVIOMMU_REG_ACCEPTED, XEN_IOMMU_FEATURES_ALL);
    g_assert_cmphex(pviommu_readq(iommu, XEN_PVIOMMU_REG_ACCEPTED), ==,
                    without);
    assert_status(pviommu_op(iommu, &op), 0);
    g_assert_cmphex(le64_to_cpu(op.u.query_caps.features), ==, without);
    assert_status(pviommu_map(iommu, 0, BFN, peer.gfn, 1, 0), XEN_IOMMU_EPERM);
    assert_status(pviommu_map(iommu, 0, BFN, GFN, 1, 0), 0);
    pviommu_quit(iommu);
}

/* No device rings the IOMMU's doorbells, or writes its interrupts' table. */
static void test_own_bar_is_refused(const void *machine)
{
    Fixture f = fixture_start(machine, NULL, NULL);
    const uint64_t own = f.iommu->bar.addr / PVIOMMU_PAGE;

    /* Registers, the table, and register blocks; its last page is empty. */
    for (unsigned i = 0; i < 3; i++) {
        assert_status(pviommu_map(f.iommu, 0, BFN, own + i, 1, 0),
                      XEN_IOMMU_EPERM);
        assert_status(pviommu_map(f.iommu, 0, BFN, own + i, 1, RO),
                      XEN_IOMMU_EPERM);
    }
    /* Nor with something else before it, or behind it */
    peer_move(&f.peer, ELSEWHERE);
    qpci_config_writel(&f.iommu->dev, PCI_BASE_ADDRESS_0,
                       ELSEWHERE + PEER_FRAMES * PVIOMMU_PAGE);
    f.iommu->bar.addr = ELSEWHERE + PEER_FRAMES * PVIOMMU_PAGE;
    assert_status(pviommu_map(f.iommu, 0, BFN, f.peer.gfn, PEER_FRAMES + 1, 0),
                  XEN_IOMMU_EPERM);
    pviommu_assert_unmapped(f.iommu, 0, BFN);
    assert_works(&f);
    pviommu_quit(f.iommu);
}

/* Only BARs: a window that does not move is not a function's own. */
static void test_legacy_window_is_refused(const void *machine)
{
    Fixture f = fixture_start(machine, NULL, "-device VGA,addr=14");
    QPCIAddress addr = { .devfn = QPCI_DEVFN(0x14, 0) };
    QPCIBar memory, regs;
    QPCIDevice dev;

    qpci_device_init(&dev, f.iommu->pci, &addr);
    memory = qpci_iomap(&dev, 0, NULL);
    regs = qpci_iomap(&dev, 2, NULL);
    qpci_device_enable(&dev);
    assert_status(pviommu_map(f.iommu, 0, BFN, 0xa0, 1, 0), XEN_IOMMU_EPERM);
    assert_status(pviommu_map(f.iommu, 0, BFN, 0xa0, 1, RO), XEN_IOMMU_EPERM);
    assert_status(pviommu_map(f.iommu, 0, BFN, 0xb8, 1, 0), XEN_IOMMU_EPERM);
    /* The interrupt controllers belong to no function. */
    assert_status(pviommu_map(f.iommu, 0, BFN, 0xfec00, 1, 0),
                  XEN_IOMMU_EPERM);
    assert_status(pviommu_map(f.iommu, 0, BFN, 0xfee00, 1, 0),
                  XEN_IOMMU_EPERM);
    assert_status(pviommu_map(f.iommu, 0, BFN, regs.addr / PVIOMMU_PAGE, 1, 0),
                  0);

    /* A BAR that is RAM is RAM, and needs no feature. */
    pviommu_accept(f.iommu, XEN_IOMMU_FEATURES_ALL & ~XEN_IOMMU_FEATURE_MMIO);
    assert_status(pviommu_map(f.iommu, 0, BFN + 0x1000,
                              memory.addr / PVIOMMU_PAGE, 256, 0), 0);
    edu_assert_access(&f.edu, ADDR(BFN + 0x1000), memory.addr, 64);
    pviommu_quit(f.iommu);
}

/* A page with something else in it is no page of a BAR. */
static void test_part_of_a_page_is_refused(const void *machine)
{
    Fixture f = fixture_start(machine, NULL,
                              "-device rtl8139,romfile=,addr=14");
    QPCIAddress addr = { .devfn = QPCI_DEVFN(0x14, 0) };
    QPCIDevice dev;
    uint64_t size;
    QPCIBar bar;

    qpci_device_init(&dev, f.iommu->pci, &addr);
    bar = qpci_iomap(&dev, 1, &size);
    g_assert_cmpuint(size, <, PVIOMMU_PAGE);
    qpci_device_enable(&dev);
    assert_status(pviommu_map(f.iommu, 0, BFN, bar.addr / PVIOMMU_PAGE, 1, 0),
                  XEN_IOMMU_EPERM);
    /* In front of the last page of another BAR, as it cuts that off */
    qpci_config_writel(&dev, PCI_BASE_ADDRESS_1,
                       f.peer.bar.addr + ADDR(PEER_FRAMES) - size);
    assert_status(map_peer(&f, BFN, 0), XEN_IOMMU_EPERM);
    qpci_config_writel(&dev, PCI_BASE_ADDRESS_1, ELSEWHERE);
    assert_works(&f);
    pviommu_quit(f.iommu);
}

/* Without a call, as DMA runs it */
static void test_queue_maps_it(const void *machine)
{
    Fixture f = fixture_start(machine, NULL, NULL);
    const uint64_t own = f.iommu->bar.addr / PVIOMMU_PAGE;
    QPVIOMMUQueue q;
    uint32_t refused;

    pviommu_queue_init(&q, f.iommu, 0, PVIOMMU_QUEUE_ADDR, 16);
    refused = pviommu_queue_push(&q, pviommu_op_map(0, BFN, own, 1, 0));
    pviommu_queue_push(&q, pviommu_op_map(0, BFN, f.peer.gfn, PEER_FRAMES, 0));
    assert_reached(&f, BFN);
    g_assert_cmpuint(pviommu_queue_errors(&q), ==, 1);
    assert_status(pviommu_queue_status(&q, refused), XEN_IOMMU_EPERM);
    pviommu_queue_push(&q, pviommu_op_unmap(0, BFN, PEER_FRAMES));
    pviommu_queue_push(&q, pviommu_op_flush(0, BFN, PEER_FRAMES));
    assert_not_reached(&f, BFN);
    g_assert_cmpuint(pviommu_queue_errors(&q), ==, 1);
    assert_works(&f);
    pviommu_quit(f.iommu);
}

/* A device that does DMA to its own registers, in the midst of an access */
static void test_loop_ends(const void *machine)
{
    g_autofree char *device = g_strdup_printf(MIRROR_DEVICE("none"), 0x14);
    Fixture f = fixture_start(machine, NULL, device);
    uint64_t data;
    QMirror m;

    mirror_init(&m, f.iommu, QPCI_DEVFN(0x14, 0));
    assert_status(pviommu_map(f.iommu, 0, BFN, m.bar.addr / PVIOMMU_PAGE, 1, 0),
                  0);
    assert_status(map_peer(&f, BFN + 0x100, 0), 0);
    g_assert_false(mirror_dma_read(&m, ADDR(BFN) + PVIOMMU_MIRROR_DATA, &data));
    g_assert_false(mirror_dma_write(&m, ADDR(BFN) + PVIOMMU_MIRROR_CMD,
                                    PVIOMMU_MIRROR_CMD_DMA, 8));
    /* By the other device it is an access as any. */
    data = PVIOMMU_MIRROR_CMD_CLEAR;
    edu_store(&f.edu, ADDR(BFN) + PVIOMMU_MIRROR_SLOT, &data, sizeof(data));
    g_assert_cmphex(mirror_read(&m, PVIOMMU_MIRROR_SLOT), ==, data);
    g_assert_true(mirror_dma_write(&m, ADDR(BFN + 0x100) + PEER_TABLE,
                                   0x12345678, 4));
    g_assert_cmphex(qtest_readl(f.iommu->qts, f.peer.bar.addr + PEER_TABLE), ==,
                    0x12345678);
    pviommu_quit(f.iommu);
}

/* It is stored when the DMA ends: to nowhere, if the BAR is gone by then. */
static void test_dma_in_flight_ends_with_the_bar(const void *machine)
{
    g_autofree char *device = g_strdup_printf(MIRROR_DEVICE("none"), 0x14);
    Fixture f = fixture_start(machine, NULL, device);
    QMirror m;

    mirror_init(&m, f.iommu, QPCI_DEVFN(0x14, 0));
    for (unsigned i = 0; i < 2; i++) {
        const uint32_t value = i ? 0 : 0x12345678;

        qtest_writel(f.iommu->qts, f.peer.bar.addr + PEER_TABLE, 0);
        assert_status(map_peer(&f, BFN, 0), 0);
        g_assert_cmpuint(mirror_hold(&m, 0, ADDR(BFN) + PEER_TABLE, 8, true),
                         ==, 8);
        mirror_touch_write(&m, 0, 0, 0x12345678);
        if (i) {
            peer_move(&f.peer, ELSEWHERE);
        }
        mirror_release(&m, 0, 4);
        g_assert_cmphex(qtest_readl(f.iommu->qts, f.peer.bar.addr + PEER_TABLE),
                        ==, value);
        if (!i) {
            assert_status(pviommu_unmap(f.iommu, 0, BFN, PEER_FRAMES), 0);
            assert_status(pviommu_flush_all(f.iommu, 0), 0);
        }
    }
    pviommu_assert_frames(f.iommu, 1, 0);
    pviommu_quit(f.iommu);
}

static void test_monitor_shows_it(void)
{
    Fixture f = fixture_start("q35", NULL, NULL);
    QDict *part, *run;

    assert_status(map_peer(&f, BFN, RO), 0);
    part = qtest_qmp_assert_success_ref(f.iommu->qts,
        "{'execute': 'x-query-xen-pviommu-mappings', 'arguments': "
        "{'context': 0, 'start-bfn': %" PRIu64 "}}", (uint64_t)BFN);
    g_assert_cmpuint(qlist_size(qdict_get_qlist(part, "runs")), ==, 1);
    run = qobject_to(QDict, qlist_peek(qdict_get_qlist(part, "runs")));
    g_assert_cmphex(qdict_get_int(run, "bfn"), ==, BFN);
    g_assert_cmphex(qdict_get_int(run, "gfn"), ==, f.peer.gfn);
    g_assert_cmpuint(qdict_get_int(run, "frames"), ==, PEER_FRAMES);
    g_assert_true(qdict_get_bool(run, "readonly"));
    qobject_unref(part);
    pviommu_quit(f.iommu);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    pviommu_add_for_machines("mmio/peer-is-reached", test_peer_is_reached);
    pviommu_add_for_machines("mmio/registers-are-reached",
                             test_registers_are_reached);
    pviommu_add_for_machines("mmio/nvme-is-reached", test_nvme_is_reached);
    pviommu_add_for_machines("mmio/xhci-is-mapped", test_xhci_is_mapped);
    pviommu_add_for_machines("mmio/needs-the-feature", test_needs_the_feature);
    pviommu_add_for_machines("mmio/property-takes-it-away",
                             test_property_takes_it_away);
    pviommu_add_for_machines("mmio/own-bar-is-refused",
                             test_own_bar_is_refused);
    pviommu_add_for_machines("mmio/legacy-window-is-refused",
                             test_legacy_window_is_refused);
    pviommu_add_for_machines("mmio/part-of-a-page-is-refused",
                             test_part_of_a_page_is_refused);
    pviommu_add_for_machines("mmio/queue-maps-it", test_queue_maps_it);
    pviommu_add_for_machines("mmio/loop-ends", test_loop_ends);
    pviommu_add_for_machines("mmio/dma-in-flight-ends-with-the-bar",
                             test_dma_in_flight_ends_with_the_bar);
    pviommu_add("mmio/monitor-shows-it", test_monitor_shows_it);
    return g_test_run();
}
