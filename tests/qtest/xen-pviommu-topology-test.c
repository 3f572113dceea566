/*
 * xen-pviommu: devices behind bridges and root ports, and with functions
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "libqos/bridge.h"
#include "libqos/edu.h"
#include "standard-headers/linux/pci_regs.h"

#define GFN             PVIOMMU_FREE_GFN
#define BFN             0x4000000
#define ADDR(frame)     ((uint64_t)(frame) * PVIOMMU_PAGE)
#define SBDF(bus, slot, fn)     (((bus) << 8) | ((slot) << 3) | (fn))
#define UNMAPPED        XEN_IOMMU_FAULT_REASON_unmapped

static QXenPVIOMMU *start(const char *machine, const char *devices)
{
    return pviommu_start(machine, NULL, devices);
}

static void setup(QXenPVIOMMU *iommu)
{
    pviommu_accept(iommu, XEN_IOMMU_FEATURES_ALL);
    pviommu_fault_ring(iommu, 64);
}

/* Its own faults, and its own context, by the SBDF its requests carry. */
static void check_device(QXenPVIOMMU *iommu, QEdu *edu, uint32_t attach_as,
                         uint32_t sbdf)
{
    uint32_t tail = pviommu_readl(iommu, XEN_PVIOMMU_REG_FAULT_TAIL);
    uint16_t ctx = pviommu_alloc_context(iommu);

    assert_status(pviommu_attach(iommu, attach_as, ctx), 0);
    edu_dma(edu, true, ADDR(BFN), 8);
    pviommu_wait_faults(iommu, tail + 1);
    pviommu_assert_fault(iommu, tail, sbdf, ctx, ADDR(BFN), true, UNMAPPED);
    edu_map_window(edu, iommu, ctx, 0);
    assert_status(pviommu_map(iommu, ctx, BFN, GFN + ctx, 0, 0), 0);
    edu_assert_access(edu, ADDR(BFN), ADDR(GFN + ctx), 64);
    assert_status(pviommu_free_context(iommu, ctx), XEN_IOMMU_EBUSY);

    assert_status(pviommu_attach(iommu, attach_as, 0), 0);
    edu_dma(edu, false, ADDR(BFN) + 16, 8);
    pviommu_wait_faults(iommu, tail + 2);
    pviommu_assert_fault(iommu, tail + 1, sbdf, 0, ADDR(BFN) + 16, false,
                         UNMAPPED);
    assert_status(pviommu_free_context(iommu, ctx), 0);
    pviommu_writel(iommu, XEN_PVIOMMU_REG_FAULT_HEAD, tail + 2);
}

/* Two devices at once, each in its own. */
static void check_apart(QXenPVIOMMU *iommu, QEdu *a, uint32_t sbdf_a, QEdu *b,
                        uint32_t sbdf_b)
{
    uint16_t ctx_a = pviommu_alloc_context(iommu);
    uint16_t ctx_b = pviommu_alloc_context(iommu);

    assert_status(pviommu_attach(iommu, sbdf_a, ctx_a), 0);
    assert_status(pviommu_attach(iommu, sbdf_b, ctx_b), 0);
    edu_map_window(a, iommu, ctx_a, 0);
    edu_map_window(b, iommu, ctx_b, 1);
    assert_status(pviommu_map(iommu, ctx_a, BFN, GFN + 1, 0, 0), 0);
    assert_status(pviommu_map(iommu, ctx_b, BFN, GFN + 2, 0, 0), 0);
    edu_assert_access(a, ADDR(BFN), ADDR(GFN + 1), 64);
    edu_assert_access(b, ADDR(BFN), ADDR(GFN + 2), 64);
    edu_assert_no_access(a, ADDR(BFN), ADDR(GFN + 2), 64);
    edu_assert_no_access(b, ADDR(BFN), ADDR(GFN + 1), 64);
}

static void test_functions_are_apart(const void *machine)
{
    QXenPVIOMMU *iommu = start(machine, EDU_DEVICE ",addr=11.0,"
                               "multifunction=on " EDU_DEVICE ",addr=11.3");
    QEdu a, b;

    edu_init(&a, iommu, QPCI_DEVFN(0x11, 0));
    edu_init(&b, iommu, QPCI_DEVFN(0x11, 3));
    setup(iommu);
    check_device(iommu, &a, SBDF(0, 0x11, 0), SBDF(0, 0x11, 0));
    check_device(iommu, &b, SBDF(0, 0x11, 3), SBDF(0, 0x11, 3));
    check_apart(iommu, &a, SBDF(0, 0x11, 0), &b, SBDF(0, 0x11, 3));
    pviommu_quit(iommu);
}

static void test_devices_on_root_ports_are_apart(void)
{
    QXenPVIOMMU *iommu = start("q35",
        "-device pcie-root-port,id=rp0,chassis=1,addr=5 "
        "-device pcie-root-port,id=rp1,chassis=2,addr=6 "
        EDU_DEVICE ",bus=rp0 " EDU_DEVICE ",bus=rp1");
    QEdu a, b;

    /* In no order. */
    bridge_init(iommu->pci, QPCI_DEVFN(5, 0), 0, 7, 7);
    edu_init(&a, iommu, BRIDGE_DEVFN(7, 0, 0));
    bridge_init(iommu->pci, QPCI_DEVFN(6, 0), 0, 3, 3);
    edu_init(&b, iommu, BRIDGE_DEVFN(3, 0, 0));
    setup(iommu);
    check_device(iommu, &a, SBDF(7, 0, 0), SBDF(7, 0, 0));
    check_device(iommu, &b, SBDF(3, 0, 0), SBDF(3, 0, 0));
    check_apart(iommu, &a, SBDF(7, 0, 0), &b, SBDF(3, 0, 0));
    pviommu_quit(iommu);
}

/* A device is where its bus is numbered now. */
static void test_renumbered_bus_moves_its_device(void)
{
    QXenPVIOMMU *iommu = start("q35",
        "-device pcie-root-port,id=rp0,chassis=1,addr=5 "
        EDU_DEVICE ",bus=rp0");
    uint16_t ctx;
    QEdu edu;

    bridge_init(iommu->pci, QPCI_DEVFN(5, 0), 0, 1, 1);
    edu_init(&edu, iommu, BRIDGE_DEVFN(1, 0, 0));
    setup(iommu);
    check_device(iommu, &edu, SBDF(1, 0, 0), SBDF(1, 0, 0));
    ctx = pviommu_alloc_context(iommu);
    assert_status(pviommu_attach(iommu, SBDF(1, 0, 0), ctx), 0);
    bridge_set_buses(iommu->pci, QPCI_DEVFN(5, 0), 0, 0x42, 0x42);
    edu_dma(&edu, true, ADDR(BFN), 8);
    pviommu_wait_faults(iommu, 3);
    pviommu_assert_fault(iommu, 2, SBDF(0x42, 0, 0), ctx, ADDR(BFN), true,
                         UNMAPPED);
    assert_status(pviommu_attach(iommu, SBDF(1, 0, 0), 0), XEN_IOMMU_ENODEV);
    pviommu_writel(iommu, XEN_PVIOMMU_REG_FAULT_HEAD, 3);
    check_device(iommu, &edu, SBDF(0x42, 0, 0), SBDF(0x42, 0, 0));
    pviommu_quit(iommu);
}

/* Bridges that nobody set up do not hide what is on bus 0. */
static void test_unnumbered_bridges_hide_nothing(const void *machine)
{
    bool q35 = !strcmp(machine, "q35");
    g_autofree char *devices = g_strdup_printf(
        "-device %s,id=br0,%s=1,addr=5 -device %s,id=br1,%s=2,addr=6 "
        EDU_DEVICE ",addr=11 " EDU_DEVICE ",bus=br0,addr=%s",
        q35 ? "pcie-root-port" : "pci-bridge", q35 ? "chassis" : "chassis_nr",
        q35 ? "pcie-root-port" : "pci-bridge", q35 ? "chassis" : "chassis_nr",
        q35 ? "0" : "11");
    QXenPVIOMMU *iommu = start(machine, devices);
    QEdu edu;

    edu_init(&edu, iommu, QPCI_DEVFN(0x11, 0));
    setup(iommu);
    check_device(iommu, &edu, SBDF(0, 0x11, 0), SBDF(0, 0x11, 0));
    pviommu_quit(iommu);
}

/* A port, a switch, and a device behind that. */
static void test_devices_behind_a_pcie_switch_are_found(void)
{
    QXenPVIOMMU *iommu = start("q35",
        "-device pcie-root-port,id=rp0,chassis=1,addr=5 "
        "-device x3130-upstream,id=up,bus=rp0 "
        "-device xio3130-downstream,id=down0,bus=up,chassis=2,addr=0 "
        "-device xio3130-downstream,id=down1,bus=up,chassis=3,addr=1 "
        EDU_DEVICE ",bus=down0 " EDU_DEVICE ",bus=down1");
    QEdu edu;

    /* One window, the same for all of them. */
    bridge_init(iommu->pci, QPCI_DEVFN(5, 0), 0, 1, 4);
    bridge_init(iommu->pci, BRIDGE_DEVFN(1, 0, 0), 1, 2, 4);
    bridge_set_buses(iommu->pci, BRIDGE_DEVFN(2, 0, 0), 2, 3, 3);
    bridge_init(iommu->pci, BRIDGE_DEVFN(2, 1, 0), 2, 4, 4);
    edu_init(&edu, iommu, BRIDGE_DEVFN(4, 0, 0));
    setup(iommu);
    check_device(iommu, &edu, SBDF(4, 0, 0), SBDF(4, 0, 0));
    assert_status(pviommu_attach(iommu, SBDF(3, 0, 0), 0), 0);
    assert_status(pviommu_attach(iommu, SBDF(3, 1, 0), 0), XEN_IOMMU_ENODEV);
    assert_status(pviommu_attach(iommu, SBDF(5, 0, 0), 0), XEN_IOMMU_ENODEV);
    pviommu_quit(iommu);
}

/*
 * Behind a conventional bridge all devices are the bridge: requests carry its
 * ID. The bridge and each of them name the place.
 */
static void test_devices_behind_a_pci_bridge_are_one(void)
{
    QXenPVIOMMU *iommu = start("pc",
        "-device pci-bridge,id=br0,chassis_nr=1,addr=5 "
        EDU_DEVICE ",bus=br0,addr=11 " EDU_DEVICE ",bus=br0,addr=12 "
        EDU_DEVICE ",addr=11");
    const uint32_t bridge = SBDF(0, 5, 0);
    uint16_t ctx;
    QEdu a, b, root;

    edu_init(&root, iommu, QPCI_DEVFN(0x11, 0));
    bridge_init(iommu->pci, QPCI_DEVFN(5, 0), 0, 1, 1);
    edu_init(&a, iommu, BRIDGE_DEVFN(1, 0x11, 0));
    edu_init(&b, iommu, BRIDGE_DEVFN(1, 0x12, 0));
    setup(iommu);
    check_device(iommu, &a, SBDF(1, 0x11, 0), bridge);
    check_device(iommu, &b, bridge, bridge);
    check_device(iommu, &root, SBDF(0, 0x11, 0), SBDF(0, 0x11, 0));

    ctx = pviommu_alloc_context(iommu);
    assert_status(pviommu_attach(iommu, SBDF(1, 0x11, 0), ctx), 0);
    edu_map_window(&a, iommu, ctx, 0);
    edu_map_window(&b, iommu, ctx, 1);
    assert_status(pviommu_map(iommu, ctx, BFN, GFN, 0, 0), 0);
    edu_assert_access(&a, ADDR(BFN), ADDR(GFN), 64);
    edu_assert_access(&b, ADDR(BFN), ADDR(GFN), 64);
    pviommu_quit(iommu);
}

/* A PCIe-to-PCI bridge answers as function 0 of the bus behind it. */
static void test_pcie_pci_bridge_answers_as_function_0(void)
{
    QXenPVIOMMU *iommu = start("q35",
        "-device pcie-root-port,id=rp0,chassis=1,addr=5 "
        "-device pcie-pci-bridge,id=br0,bus=rp0 "
        EDU_DEVICE ",bus=br0,addr=3");
    QEdu edu;

    bridge_init(iommu->pci, QPCI_DEVFN(5, 0), 0, 1, 2);
    bridge_init(iommu->pci, BRIDGE_DEVFN(1, 0, 0), 1, 2, 2);
    edu_init(&edu, iommu, BRIDGE_DEVFN(2, 3, 0));
    setup(iommu);
    check_device(iommu, &edu, SBDF(2, 3, 0), SBDF(2, 0, 0));
    check_device(iommu, &edu, SBDF(2, 0, 0), SBDF(2, 0, 0));
    pviommu_quit(iommu);
}

/* A root bus of its own, that is no child of a bridge. */
static void test_devices_on_an_expander_are_found(void)
{
    QXenPVIOMMU *iommu = start("q35",
        "-device pxb-pcie,id=pxb0,bus_nr=128,addr=5 "
        "-device pcie-root-port,id=rp0,bus=pxb0,chassis=1,addr=0 "
        "-device pcie-root-port,id=rp1,bus=pxb0,chassis=2,addr=1 "
        EDU_DEVICE ",bus=rp1 " EDU_DEVICE ",bus=pcie.0,addr=11");
    QEdu root, behind;

    edu_init(&root, iommu, QPCI_DEVFN(0x11, 0));
    bridge_set_buses(iommu->pci, BRIDGE_DEVFN(128, 0, 0), 128, 129, 129);
    bridge_init(iommu->pci, BRIDGE_DEVFN(128, 1, 0), 128, 130, 130);
    edu_init(&behind, iommu, BRIDGE_DEVFN(130, 0, 0));
    setup(iommu);
    check_device(iommu, &root, SBDF(0, 0x11, 0), SBDF(0, 0x11, 0));
    check_device(iommu, &behind, SBDF(130, 0, 0), SBDF(130, 0, 0));
    check_apart(iommu, &root, SBDF(0, 0x11, 0), &behind, SBDF(130, 0, 0));
    pviommu_quit(iommu);
}

/* A function that is reset is where it was; the IOMMU is another function. */
static void test_function_reset_keeps_the_context(void)
{
    QXenPVIOMMU *iommu = start("q35",
        "-device pcie-root-port,id=rp0,chassis=1,addr=5 "
        "-device virtio-rng-pci,bus=rp0,disable-legacy=on");
    struct xen_iommu_op op;
    QPCIDevice *dev;
    uint16_t ctx, control;
    uint8_t cap;

    bridge_init(iommu->pci, QPCI_DEVFN(5, 0), 0, 1, 1);
    dev = qpci_device_find(iommu->pci, BRIDGE_DEVFN(1, 0, 0));
    g_assert_nonnull(dev);
    qpci_device_enable(dev);
    setup(iommu);
    ctx = pviommu_alloc_context(iommu);
    assert_status(pviommu_attach(iommu, SBDF(1, 0, 0), ctx), 0);
    assert_status(pviommu_map(iommu, ctx, BFN, GFN, 0, 0), 0);

    cap = qpci_find_capability(dev, PCI_CAP_ID_EXP, 0);
    g_assert_cmpuint(cap, !=, 0);
    control = qpci_config_readw(dev, cap + PCI_EXP_DEVCTL);
    qpci_config_writew(dev, cap + PCI_EXP_DEVCTL,
                       control | PCI_EXP_DEVCTL_BCR_FLR);
    /* It was reset indeed. */
    g_assert_false(qpci_config_readw(dev, PCI_COMMAND) & PCI_COMMAND_MASTER);

    op = pviommu_op_lookup_bfn(ctx, BFN);
    assert_status(pviommu_op(iommu, &op), 0);
    g_assert_cmphex(op.u.lookup.gfn, ==, GFN);
    assert_status(pviommu_free_context(iommu, ctx), XEN_IOMMU_EBUSY);
    assert_status(pviommu_attach(iommu, SBDF(1, 0, 0), 0), 0);
    assert_status(pviommu_free_context(iommu, ctx), 0);
    g_free(dev);
    pviommu_quit(iommu);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    pviommu_add_for_machines("topology/functions-are-apart",
                             test_functions_are_apart);
    pviommu_add_for_machines("topology/unnumbered-bridges-hide-nothing",
                             test_unnumbered_bridges_hide_nothing);
    pviommu_add("topology/devices-on-root-ports-are-apart",
                test_devices_on_root_ports_are_apart);
    pviommu_add("topology/renumbered-bus-moves-its-device",
                test_renumbered_bus_moves_its_device);
    pviommu_add("topology/devices-behind-a-pcie-switch-are-found",
                test_devices_behind_a_pcie_switch_are_found);
    pviommu_add("topology/devices-behind-a-pci-bridge-are-one",
                test_devices_behind_a_pci_bridge_are_one);
    pviommu_add("topology/pcie-pci-bridge-answers-as-function-0",
                test_pcie_pci_bridge_answers_as_function_0);
    if (qtest_has_device("pxb-pcie")) {
        pviommu_add("topology/devices-on-an-expander-are-found",
                    test_devices_on_an_expander_are_found);
    }
    pviommu_add("topology/function-reset-keeps-the-context",
                test_function_reset_keeps_the_context);
    return g_test_run();
}
