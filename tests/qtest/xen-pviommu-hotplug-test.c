/*
 * xen-pviommu: devices that come and go
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qobject/qdict.h"
#include "libqos/bridge.h"
#include "libqos/edu.h"

#define GFN             PVIOMMU_FREE_GFN
#define BFN             0x4000000
#define ADDR(frame)     ((uint64_t)(frame) * PVIOMMU_PAGE)
#define UNMAPPED        XEN_IOMMU_FAULT_REASON_unmapped

#define assert_status(expr, expected) \
    g_assert_cmpint((expr), ==, -(int)(expected))

/* The machine's hot-plug controller: select a bus, eject a slot. */
#define PCIHP_ICH9      0x0cc0
#define PCIHP_PC        0xae00
#define PCIHP_EJECT     0x08
#define PCIHP_SELECT    0x10

#define ROOT_PORT       "-device pcie-root-port,id=rp0,chassis=1,addr=5"
#define SBDF            0x100

static void plug(QXenPVIOMMU *iommu, const char *bus, const char *slot)
{
    qtest_qmp_device_add(iommu->qts, "edu", "hot",
                         "{'bus': %s, 'addr': %s, "
                         "'dma_mask': 18446744073709551615}", bus, slot);
}

static void unplug(QXenPVIOMMU *iommu, unsigned port, unsigned bus,
                   unsigned slot)
{
    qtest_qmp_device_del_send(iommu->qts, "hot");
    qtest_outl(iommu->qts, port + PCIHP_SELECT, bus);
    qtest_outl(iommu->qts, port + PCIHP_EJECT, 1u << slot);
    qtest_qmp_eventwait(iommu->qts, "DEVICE_DELETED");
}

static QXenPVIOMMU *start_root_port_with(const char *props)
{
    QXenPVIOMMU *iommu = pviommu_start("q35", props, ROOT_PORT);

    bridge_init(iommu->pci, QPCI_DEVFN(5, 0), 0, 1, 1);
    pviommu_accept(iommu, XEN_IOMMU_FEATURES_ALL);
    return iommu;
}

static QXenPVIOMMU *start_root_port(void)
{
    return start_root_port_with(NULL);
}

/* A device that comes is in the default context, as it is by then. */
static void test_plug(void)
{
    QXenPVIOMMU *iommu = start_root_port();
    QEdu edu;
    uint16_t ctx;

    assert_status(pviommu_map(iommu, 0, BFN, GFN, 0, 0), 0);
    pviommu_fault_ring(iommu, 16);
    assert_status(pviommu_attach(iommu, SBDF, 0), XEN_IOMMU_ENODEV);

    plug(iommu, "rp0", "0");
    edu_init(&edu, iommu, BRIDGE_DEVFN(1, 0, 0));
    edu_map_window(&edu, iommu, 0, 0);
    edu_assert_access(&edu, ADDR(BFN), ADDR(GFN), 64);
    g_assert_cmpuint(pviommu_readl(iommu, XEN_PVIOMMU_REG_FAULT_TAIL), ==, 0);
    edu_dma(&edu, true, ADDR(BFN + 1), 8);
    pviommu_wait_faults(iommu, 1);
    pviommu_assert_fault(iommu, 0, SBDF, 0, ADDR(BFN + 1), true, UNMAPPED);

    ctx = pviommu_alloc_context(iommu);
    assert_status(pviommu_attach(iommu, SBDF, ctx), 0);
    edu_dma(&edu, true, ADDR(BFN), 8);
    pviommu_wait_faults(iommu, 2);
    pviommu_assert_fault(iommu, 1, SBDF, ctx, ADDR(BFN), true, UNMAPPED);
    edu_map_window(&edu, iommu, ctx, 0);
    assert_status(pviommu_map(iommu, ctx, BFN, GFN + 1, 0, 0), 0);
    edu_assert_access(&edu, ADDR(BFN), ADDR(GFN + 1), 64);
    pviommu_quit(iommu);
}

/* Before the switch it sees the machine, and loses it like all others. */
static void test_plug_identity(void)
{
    QXenPVIOMMU *iommu = start_root_port();
    QEdu edu;

    plug(iommu, "rp0", "0");
    edu_init(&edu, iommu, BRIDGE_DEVFN(1, 0, 0));
    edu_assert_access(&edu, ADDR(GFN), ADDR(GFN), 64);
    g_assert_true(pviommu_identity(iommu));
    assert_status(pviommu_enable(iommu), 0);
    edu_map_window(&edu, iommu, 0, 0);
    edu_assert_no_access(&edu, ADDR(GFN), ADDR(GFN), 64);
    pviommu_quit(iommu);
}

/* It goes, and what it left behind is in nobody's way. */
static void test_unplug(void)
{
    QXenPVIOMMU *iommu = start_root_port();
    uint16_t ctx = pviommu_alloc_context(iommu);
    QEdu edu;

    for (unsigned round = 0; round < 3; round++) {
        plug(iommu, "rp0", "0");
        edu_init(&edu, iommu, BRIDGE_DEVFN(1, 0, 0));
        assert_status(pviommu_attach(iommu, SBDF, ctx), 0);
        edu_map_window(&edu, iommu, ctx, 0);
        assert_status(pviommu_map(iommu, ctx, BFN, GFN + round, 0, 0), 0);
        edu_assert_access(&edu, ADDR(BFN), ADDR(GFN + round), 64);

        /* The driver detaches it first. */
        assert_status(pviommu_attach(iommu, SBDF, 0), 0);
        unplug(iommu, PCIHP_ICH9, 0, 0);
        g_assert_null(qpci_device_find(iommu->pci, BRIDGE_DEVFN(1, 0, 0)));
        assert_status(pviommu_unmap(iommu, ctx, BFN, 1), 0);
        assert_status(pviommu_unmap(iommu, ctx, edu.window / PVIOMMU_PAGE, 1),
                      0);
        assert_status(pviommu_flush_all(iommu, ctx), 0);
    }
    assert_status(pviommu_free_context(iommu, ctx), 0);
    pviommu_assert_frames(iommu, 0, 0);
    pviommu_quit(iommu);
}

/* Gone without a word: its place can still be detached. */
static void test_surprise(void)
{
    QXenPVIOMMU *iommu = start_root_port();
    uint16_t ctx = pviommu_alloc_context(iommu);

    plug(iommu, "rp0", "0");
    assert_status(pviommu_attach(iommu, SBDF, ctx), 0);
    assert_status(pviommu_map(iommu, ctx, BFN, GFN, 0, 0), 0);
    unplug(iommu, PCIHP_ICH9, 0, 0);
    pviommu_attach(iommu, SBDF, 0);
    assert_status(pviommu_free_context(iommu, ctx), 0);
    pviommu_assert_frames(iommu, 0, 0);
    pviommu_quit(iommu);
}

/* A new device begins in the default context, whoever was there before. */
static void test_replaced(void)
{
    QXenPVIOMMU *iommu = start_root_port();
    uint16_t ctx = pviommu_alloc_context(iommu);
    QEdu edu;

    plug(iommu, "rp0", "0");
    assert_status(pviommu_attach(iommu, SBDF, ctx), 0);
    assert_status(pviommu_map(iommu, ctx, BFN, GFN, 0, 0), 0);
    unplug(iommu, PCIHP_ICH9, 0, 0);
    plug(iommu, "rp0", "0");
    edu_init(&edu, iommu, BRIDGE_DEVFN(1, 0, 0));
    pviommu_fault_ring(iommu, 16);
    edu_dma(&edu, false, ADDR(BFN + 1), 8);
    pviommu_wait_faults(iommu, 1);
    pviommu_assert_fault(iommu, 0, SBDF, 0, ADDR(BFN + 1), false, UNMAPPED);
    edu_map_window(&edu, iommu, 0, 0);
    edu_assert_no_access(&edu, ADDR(BFN), ADDR(GFN), 64);
    assert_status(pviommu_free_context(iommu, ctx), 0);
    pviommu_quit(iommu);
}

/* The same behind a bridge that puts its ID on their requests. */
static void test_replaced_bridged(void)
{
    QXenPVIOMMU *iommu = pviommu_start("q35", NULL,
        ROOT_PORT " -device pcie-pci-bridge,id=br0,bus=rp0");
    uint16_t ctx;
    QEdu edu;

    bridge_init(iommu->pci, QPCI_DEVFN(5, 0), 0, 1, 2);
    bridge_init(iommu->pci, BRIDGE_DEVFN(1, 0, 0), 1, 2, 2);
    pviommu_accept(iommu, XEN_IOMMU_FEATURES_ALL);
    pviommu_fault_ring(iommu, 16);
    /* The big switch */
    assert_status(pviommu_unmap(iommu, 0, BFN, 1), XEN_IOMMU_ENOENT);
    for (unsigned round = 0; round < 2; round++) {
        qtest_qmp_device_add(iommu->qts, "edu", "hot",
                             "{'bus': 'br0', 'addr': '3', "
                             "'dma_mask': 18446744073709551615}");
        edu_init(&edu, iommu, BRIDGE_DEVFN(2, 3, 0));
        edu_dma(&edu, false, ADDR(BFN + round), 8);
        pviommu_wait_faults(iommu, round + 1);
        pviommu_assert_fault(iommu, round, 0x200, 0, ADDR(BFN + round), false,
                             UNMAPPED);
        ctx = pviommu_alloc_context(iommu);
        assert_status(pviommu_attach(iommu, 0x200, ctx), 0);
        assert_status(pviommu_free_context(iommu, ctx), XEN_IOMMU_EBUSY);
        unplug(iommu, PCIHP_ICH9, 1, 3);
    }
    /* Nobody is left in either. */
    assert_status(pviommu_free_context(iommu, ctx), 0);
    assert_status(pviommu_free_context(iommu, ctx - 1), 0);
    pviommu_quit(iommu);
}

/* What a place reserves, it does while there is a device. */
static void test_reserved(void)
{
    g_autofree char *props = g_strdup_printf(
        "\"device-reserved-regions\":[\"rp0/00.0=0x%x000:0x%xfff:0\"]",
        GFN, GFN + 1);
    QXenPVIOMMU *iommu = start_root_port_with(props);
    struct xen_iommu_op op;
    uint16_t ctx;
    QEdu edu;

    for (unsigned round = 0; round < 2; round++) {
        assert_status(pviommu_map(iommu, 0, GFN, GFN + 16, 0, 0), 0);
        plug(iommu, "rp0", "0");
        op = pviommu_op_lookup_bfn(0, GFN);
        assert_status(pviommu_op(iommu, &op), XEN_IOMMU_ENOENT);
        assert_status(pviommu_map(iommu, 0, GFN + 1, GFN + 16, 0, 0),
                      XEN_IOMMU_EADDRNOTAVAIL);
        edu_init(&edu, iommu, BRIDGE_DEVFN(1, 0, 0));
        edu_map_window(&edu, iommu, 0, 0);
        edu_assert_access(&edu, ADDR(GFN), ADDR(GFN), 64);
        assert_status(pviommu_unmap(iommu, 0, edu.window / PVIOMMU_PAGE, 1), 0);
        ctx = pviommu_alloc_context(iommu);
        assert_status(pviommu_attach(iommu, SBDF, ctx), 0);
        unplug(iommu, PCIHP_ICH9, 0, 0);
        assert_status(pviommu_free_context(iommu, ctx), 0);
    }
    pviommu_quit(iommu);
}

/* On the root bus of pc as well. */
static void test_plug_pc(void)
{
    QXenPVIOMMU *iommu = pviommu_start("pc", NULL, NULL);
    QEdu edu;

    pviommu_accept(iommu, XEN_IOMMU_FEATURES_ALL);
    pviommu_fault_ring(iommu, 16);
    for (unsigned round = 0; round < 2; round++) {
        plug(iommu, "pci.0", "11");
        edu_init(&edu, iommu, QPCI_DEVFN(0x11, 0));
        edu_map_window(&edu, iommu, 0, round);
        edu_assert_no_access(&edu, ADDR(GFN), ADDR(GFN), 64);
        pviommu_wait_faults(iommu, 2 * round + 2);
        pviommu_assert_fault(iommu, 2 * round, 0x11 << 3, 0, ADDR(GFN), false,
                             UNMAPPED);
        unplug(iommu, PCIHP_PC, 0, 0x11);
    }
    pviommu_quit(iommu);
}

/* The IOMMU itself neither comes nor goes. */
static void test_itself(const void *machine)
{
    g_autofree char *args = pviommu_args(machine, "id=iommu", NULL);
    QTestState *qts = qtest_init(args);
    QDict *rsp;

    rsp = qtest_qmp(qts, "{'execute': 'device_del', "
                    "'arguments': {'id': 'iommu'}}");
    g_assert_true(qdict_haskey(rsp, "error"));
    qobject_unref(rsp);
    rsp = qtest_qmp(qts, "{'execute': 'device_add', "
                    "'arguments': {'driver': 'xen-pviommu'}}");
    g_assert_true(qdict_haskey(rsp, "error"));
    qobject_unref(rsp);
    qtest_quit(qts);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    qtest_add_func("/xen-pviommu/hotplug/plug", test_plug);
    qtest_add_func("/xen-pviommu/hotplug/plug-identity", test_plug_identity);
    qtest_add_func("/xen-pviommu/hotplug/unplug", test_unplug);
    qtest_add_func("/xen-pviommu/hotplug/surprise", test_surprise);
    qtest_add_func("/xen-pviommu/hotplug/replaced", test_replaced);
    qtest_add_func("/xen-pviommu/hotplug/replaced-bridged",
                   test_replaced_bridged);
    qtest_add_func("/xen-pviommu/hotplug/reserved", test_reserved);
    qtest_add_func("/xen-pviommu/hotplug/plug-pc", test_plug_pc);
    pviommu_add_for_machines("hotplug/itself", test_itself);
    return g_test_run();
}
