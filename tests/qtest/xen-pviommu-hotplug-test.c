/*
 * xen-pviommu: devices that come and go
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/bswap.h"
#include "libqos/bridge.h"
#include "libqos/edu.h"
#include "libqos/hotplug.h"
#include "libqos/pviommu-mirror.h"
#include "libqos/xen-pviommu-qmp.h"

#define GFN             PVIOMMU_FREE_GFN
#define BFN             0x4000000
#define ADDR(frame)     ((uint64_t)(frame) * PVIOMMU_PAGE)
#define UNMAPPED        XEN_IOMMU_FAULT_REASON_unmapped

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
    hotplug_eject(iommu->qts, "hot", port, bus, slot);
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

/* A new device is in the default context, as that is by then. */
static void test_new_device_is_in_context_0(void)
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

/* In identity mode it sees all memory, and none once that ends. */
static void test_new_device_is_in_identity_mode(void)
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

/* Nothing that it used hinders the next device. */
static void test_unplugged_device_leaves_nothing(void)
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
        unplug(iommu, HOTPLUG_ICH9, 0, 0);
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

/* Gone without a word: there is nothing to detach any more. */
static void test_surprise_removal_detaches(void)
{
    QXenPVIOMMU *iommu = start_root_port();
    uint16_t ctx = pviommu_alloc_context(iommu);

    plug(iommu, "rp0", "0");
    assert_status(pviommu_attach(iommu, SBDF, ctx), 0);
    assert_status(pviommu_map(iommu, ctx, BFN, GFN, 0, 0), 0);
    unplug(iommu, HOTPLUG_ICH9, 0, 0);
    assert_status(pviommu_attach(iommu, SBDF, 0), XEN_IOMMU_ENODEV);
    assert_status(pviommu_free_context(iommu, ctx), 0);
    pviommu_assert_frames(iommu, 0, 0);
    pviommu_quit(iommu);
}

/* A new device begins in the default context, whatever the last one did. */
static void test_next_device_is_in_context_0(void)
{
    QXenPVIOMMU *iommu = start_root_port();
    uint16_t ctx = pviommu_alloc_context(iommu);
    QEdu edu;

    plug(iommu, "rp0", "0");
    assert_status(pviommu_attach(iommu, SBDF, ctx), 0);
    assert_status(pviommu_map(iommu, ctx, BFN, GFN, 0, 0), 0);
    unplug(iommu, HOTPLUG_ICH9, 0, 0);
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
static void test_next_device_behind_a_bridge_is_in_context_0(void)
{
    QXenPVIOMMU *iommu = pviommu_start("q35", NULL,
        ROOT_PORT " -device pcie-pci-bridge,id=br0,bus=rp0");
    uint16_t ctx;
    QEdu edu;

    bridge_init(iommu->pci, QPCI_DEVFN(5, 0), 0, 1, 2);
    bridge_init(iommu->pci, BRIDGE_DEVFN(1, 0, 0), 1, 2, 2);
    pviommu_accept(iommu, XEN_IOMMU_FEATURES_ALL);
    pviommu_fault_ring(iommu, 16);
    /* Translation is enabled */
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
        unplug(iommu, HOTPLUG_ICH9, 1, 3);
    }
    /* Nobody is left in either. */
    assert_status(pviommu_free_context(iommu, ctx), 0);
    assert_status(pviommu_free_context(iommu, ctx - 1), 0);
    pviommu_quit(iommu);
}

/* What a place reserves, it does while there is a device. */
static void test_place_is_reserved_while_plugged(void)
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
        unplug(iommu, HOTPLUG_ICH9, 0, 0);
        assert_status(pviommu_free_context(iommu, ctx), 0);
    }
    pviommu_quit(iommu);
}

/*
 * Plug a device of the host, whose IOMMU can map what is in two ranges of
 * bus addresses. Returns: an error's text, or NULL.
 */
static char *plug_assigned(QXenPVIOMMU *iommu, const char *id, const char *bus,
                           const char *slot, const uint64_t ranges[4])
{
    return qmp_error_text(qtest_qmp(iommu->qts,
        "{'execute': 'device_add', 'arguments': {"
        " 'driver': 'pviommu-mirror', 'id': %s, 'bus': %s, 'addr': %s,"
        " 'pins': true, 'iova-ranges': [%" PRIu64 ", %" PRIu64 ", %" PRIu64
        ", %" PRIu64 "]}}", id, bus, slot, ranges[0], ranges[1], ranges[2],
        ranges[3]));
}

static void assert_plugged(QXenPVIOMMU *iommu, const char *id, const char *bus,
                           const char *slot, const uint64_t ranges[4])
{
    g_autofree char *error = plug_assigned(iommu, id, bus, slot, ranges);

    g_assert_cmpstr(error, ==, NULL);
}

/* A page that may be mapped is, and is not any more. */
static void assert_free(QXenPVIOMMU *iommu, uint64_t bfn)
{
    assert_status(pviommu_map(iommu, 0, bfn, GFN, 0, 0), 0);
    assert_status(pviommu_unmap(iommu, 0, bfn, 1), 0);
    assert_status(pviommu_flush_all(iommu, 0), 0);
}

static void assert_taken(QXenPVIOMMU *iommu, uint64_t bfn)
{
    assert_status(pviommu_map(iommu, 0, bfn, GFN, 0, 0),
                  XEN_IOMMU_EADDRNOTAVAIL);
}

/*
 * All that is reserved for what is at @sbdf, interrupts included. Neighbours
 * may come as one or several.
 */
static void assert_reserved(QXenPVIOMMU *iommu, uint32_t sbdf,
                            const struct xen_iommu_reserved_range *expected,
                            unsigned nr)
{
    const uint64_t addr = ADDR(PVIOMMU_FREE_GFN + 0x100);
    struct xen_iommu_op op = pviommu_op_query_reserved(0, 16, addr);
    struct xen_iommu_reserved_range got[16];
    unsigned n = 0;

    op.flags = cpu_to_le16(XEN_IOMMUOP_query_reserved_device);
    op.u.query_reserved.sbdf = cpu_to_le32(sbdf);
    assert_status(pviommu_op(iommu, &op), 0);
    for (unsigned i = 0; i < le32_to_cpu(op.u.query_reserved.nr_entries); i++) {
        struct xen_iommu_reserved_range r;

        qtest_bufread(iommu->qts, addr + i * sizeof(r), &r, sizeof(r));
        r.start_bfn = le64_to_cpu(r.start_bfn);
        r.nr_frames = le32_to_cpu(r.nr_frames);
        r.flags = le32_to_cpu(r.flags);
        if (n && got[n - 1].flags == r.flags &&
            got[n - 1].start_bfn + got[n - 1].nr_frames == r.start_bfn) {
            got[n - 1].nr_frames += r.nr_frames;
        } else {
            got[n++] = r;
        }
    }
    g_assert_cmpmem(got, n * sizeof(*got), expected, nr * sizeof(*got));
}

static const struct xen_iommu_reserved_range msi = {
    0xfee00, 0x100, XEN_IOMMU_RESERVED_msi
};

/* What the host cannot map for a device, a guest cannot while it is there. */
static void test_host_ranges_are_reserved(void)
{
    /* What is no whole page does not count, and all of bfn-bits does. */
    static const uint64_t ranges[] = {
        0x2800, 0x9ff7ff, 0xb00000, UINT64_MAX,
    };
    static const uint64_t narrow[] = { 0, 0xffffff, 0x2000000, 0x3000fff };
    const struct xen_iommu_reserved_range expected[] = {
        { 0, 3, 0 }, { 0x9ff, 0x101, 0 }, msi,
    };
    const uint32_t sbdf = 0x11 << 3;
    QXenPVIOMMU *iommu = pviommu_start_accepted("pc", "premap=off", NULL);
    g_autofree char *error = NULL;

    for (unsigned round = 0; round < 2; round++) {
        assert_plugged(iommu, "m0", "pci.0", "11", ranges);
        assert_reserved(iommu, sbdf, expected, ARRAY_SIZE(expected));
        for (unsigned i = 0; i < 2; i++) {
            uint64_t end = expected[i].start_bfn + expected[i].nr_frames;

            assert_taken(iommu, expected[i].start_bfn);
            assert_taken(iommu, end - 1);
            assert_free(iommu, end);
        }
        assert_free(iommu, 0x9fe);
        assert_free(iommu, (1ull << 36) - 1);
        assert_status(pviommu_map(iommu, 0, 0x9f0, GFN, 16, 0),
                      XEN_IOMMU_EADDRNOTAVAIL);
        hotplug_eject(iommu->qts, "m0", HOTPLUG_PC, 0, 0x11);
        assert_free(iommu, 0);
        assert_free(iommu, 0x9ff);
    }

    /* The rest, up to the last BFN that there is, can be more than RAM is. */
    assert_plugged(iommu, "m0", "pci.0", "11", narrow);
    assert_free(iommu, 0xfff);
    assert_taken(iommu, 0x1000);
    assert_taken(iommu, 0x1fff);
    assert_free(iommu, 0x2000);
    assert_free(iommu, 0x3000);
    assert_taken(iommu, 0x3001);
    assert_taken(iommu, (1ull << 36) - 1);
    hotplug_eject(iommu->qts, "m0", HOTPLUG_PC, 0, 0x11);

    /* It stays out while something is mapped there. */
    assert_status(pviommu_map(iommu, 0, 0x9ff, GFN, 0, 0), 0);
    error = plug_assigned(iommu, "m0", "pci.0", "11", ranges);
    g_assert_nonnull(error);
    g_assert_nonnull(strstr(error, "maps bus addresses that the host"));
    assert_free(iommu, 0);
    assert_status(pviommu_unmap(iommu, 0, 0x9ff, 1), 0);
    assert_plugged(iommu, "m0", "pci.0", "11", ranges);
    assert_taken(iommu, 0x9ff);
    pviommu_quit(iommu);
}

/* Behind a bridge two devices are one, but each has what it cannot do. */
static void test_host_ranges_behind_a_bridge_add_up(void)
{
    static const uint64_t a[] = { 0, 0x1fffff, 0x400000, UINT64_MAX };
    static const uint64_t b[] = { 0, 0x2fffff, 0x500000, UINT64_MAX };
    static const uint64_t c[] = { 0, 0x5fffff, 0x700000, UINT64_MAX };
    const struct xen_iommu_reserved_range both[] = {
        { 0x20, 0x10, 0 }, { 0x200, 0x300, 0 }, msi,
    };
    const struct xen_iommu_reserved_range first[] = {
        { 0x20, 0x10, 0 }, { 0x200, 0x200, 0 }, msi,
    };
    const struct xen_iommu_reserved_range second[] = {
        { 0x20, 0x10, 0 }, { 0x300, 0x200, 0 }, msi,
    };
    const struct xen_iommu_reserved_range none[] = { { 0x20, 0x10, 0 }, msi };
    QXenPVIOMMU *iommu = pviommu_start("q35", "\"premap\":false,"
        "\"device-reserved-regions\":[\"br0/0=0x20000:0x2ffff:0\"]",
        ROOT_PORT " -device pcie-pci-bridge,id=br0,bus=rp0");
    g_autofree char *error = NULL;

    bridge_init(iommu->pci, QPCI_DEVFN(5, 0), 0, 1, 2);
    bridge_init(iommu->pci, BRIDGE_DEVFN(1, 0, 0), 1, 2, 2);
    pviommu_accept(iommu, XEN_IOMMU_FEATURES_ALL);

    assert_plugged(iommu, "m0", "br0", "3", a);
    assert_reserved(iommu, 0x200, first, ARRAY_SIZE(first));
    assert_plugged(iommu, "m1", "br0", "4", b);
    assert_reserved(iommu, 0x200, both, ARRAY_SIZE(both));

    /* One more that is refused changes nothing. */
    assert_status(pviommu_map(iommu, 0, 0x600, GFN, 0, 0), 0);
    error = plug_assigned(iommu, "m2", "br0", "5", c);
    g_assert_nonnull(error);
    g_assert_nonnull(strstr(error, "maps bus addresses that the host"));
    assert_reserved(iommu, 0x200, both, ARRAY_SIZE(both));
    assert_taken(iommu, 0x200);
    assert_taken(iommu, 0x4ff);
    assert_free(iommu, 0x500);

    hotplug_eject(iommu->qts, "m0", HOTPLUG_ICH9, 1, 3);
    assert_reserved(iommu, 0x200, second, ARRAY_SIZE(second));
    assert_free(iommu, 0x200);
    assert_taken(iommu, 0x300);
    assert_taken(iommu, 0x4ff);
    assert_taken(iommu, 0x20);

    assert_plugged(iommu, "m0", "br0", "3", a);
    assert_reserved(iommu, 0x200, both, ARRAY_SIZE(both));
    hotplug_eject(iommu->qts, "m1", HOTPLUG_ICH9, 1, 4);
    assert_reserved(iommu, 0x200, first, ARRAY_SIZE(first));
    assert_free(iommu, 0x400);
    assert_taken(iommu, 0x3ff);

    /* The last one's removal ends all reserved ranges of the host. */
    assert_status(pviommu_unmap(iommu, 0, 0x600, 1), 0);
    assert_plugged(iommu, "m2", "br0", "5", c);
    assert_taken(iommu, 0x600);
    hotplug_eject(iommu->qts, "m0", HOTPLUG_ICH9, 1, 3);
    hotplug_eject(iommu->qts, "m2", HOTPLUG_ICH9, 1, 5);
    assert_free(iommu, 0x200);
    assert_free(iommu, 0x600);
    plug(iommu, "br0", "3");
    assert_reserved(iommu, 0x200, none, ARRAY_SIZE(none));
    pviommu_quit(iommu);
}

/* Address spaces of the machine, of ours and of devices. */
static unsigned address_spaces(QXenPVIOMMU *iommu)
{
    g_autofree char *text = qtest_hmp(iommu->qts, "info mtree");
    unsigned nr = 0;

    for (const char *at = text; (at = strstr(at, "address-space: ")); at++) {
        nr++;
    }
    return nr;
}

/* Some go with the last reader, or with their device's memory. */
static void wait_address_spaces(QXenPVIOMMU *iommu, unsigned nr)
{
    gint64 end = g_get_monotonic_time() + PVIOMMU_WAIT_US;

    while (address_spaces(iommu) != nr && g_get_monotonic_time() < end) {
        g_usleep(1000);
    }
    g_assert_cmpuint(address_spaces(iommu), ==, nr);
}

#define CYCLES          30
#define RESERVED_CYCLE  8

/*
 * Bridges are plugged and unplugged, with a device behind them. Their
 * buses are where others were in QEMU's memory, and are others all the same.
 */
static void test_bridges_come_and_go(void)
{
    g_autofree char *props = g_strdup_printf(
        "\"device-reserved-regions\":[\"br%02d/00.0=0x%x000:0x%xfff:0\"]",
        RESERVED_CYCLE, GFN, GFN + 1);
    QXenPVIOMMU *iommu = start_root_port_with(props);
    unsigned spaces = address_spaces(iommu);
    uint64_t mmio = iommu->pci->mmio_alloc_ptr;
    struct xen_iommu_op op;

    bridge_set_buses(iommu->pci, QPCI_DEVFN(5, 0), 0, 1, 2);
    assert_status(pviommu_enable(iommu), 0);
    for (unsigned i = 0; i < CYCLES; i++) {
        bool reserved = i == RESERVED_CYCLE;
        g_autofree char *br = g_strdup_printf("br%02u", i);
        g_autofree char *name = g_strdup_printf("xen-pviommu-%s/00.0", br);
        g_autofree char *text = NULL;
        uint16_t ctx;
        QEdu edu;

        iommu->pci->mmio_alloc_ptr = mmio;
        assert_status(pviommu_map(iommu, 0, GFN, GFN + 16, 0, 0), 0);
        qtest_qmp_device_add(iommu->qts, "pcie-pci-bridge", br,
                             "{'bus': 'rp0'}");
        bridge_init(iommu->pci, BRIDGE_DEVFN(1, 0, 0), 1, 2, 2);
        plug(iommu, br, "3");
        text = qtest_hmp(iommu->qts, "info mtree");
        g_assert_nonnull(strstr(text, name));

        /* It reserves what is said of its place, and evicts what was there. */
        op = pviommu_op_lookup_bfn(0, GFN);
        assert_status(pviommu_op(iommu, &op), reserved ? XEN_IOMMU_ENOENT : 0);
        assert_status(pviommu_map(iommu, 0, GFN + 1, GFN + 17, 0, 0),
                      reserved ? XEN_IOMMU_EADDRNOTAVAIL : 0);
        if (!reserved) {
            assert_status(pviommu_unmap(iommu, 0, GFN, 2), 0);
        }

        /* In context 0, whatever the one before was attached to */
        edu_init(&edu, iommu, BRIDGE_DEVFN(2, 3, 0));
        pviommu_writel(iommu, XEN_PVIOMMU_REG_FAULT_CTRL, 0);
        pviommu_fault_ring(iommu, 16);
        edu_dma(&edu, false, ADDR(BFN + i), 8);
        pviommu_wait_faults(iommu, 1);
        pviommu_assert_fault(iommu, 0, 0x200, 0, ADDR(BFN + i), false,
                             UNMAPPED);
        edu_map_window(&edu, iommu, 0, 0);
        if (reserved) {
            edu_assert_access(&edu, ADDR(GFN), ADDR(GFN), 64);
        } else {
            edu_assert_no_access(&edu, ADDR(GFN), ADDR(GFN), 64);
        }
        assert_status(pviommu_unmap(iommu, 0, edu.window / PVIOMMU_PAGE, 1), 0);
        assert_status(pviommu_flush_all(iommu, 0), 0);

        ctx = pviommu_alloc_context(iommu);
        assert_status(pviommu_attach(iommu, 0x200, ctx), 0);
        assert_status(pviommu_free_context(iommu, ctx), XEN_IOMMU_EBUSY);
        hotplug_eject(iommu->qts, br, HOTPLUG_ICH9, 0, 0);
        assert_status(pviommu_attach(iommu, 0x200, 0), XEN_IOMMU_ENODEV);
        assert_status(pviommu_free_context(iommu, ctx), 0);
        wait_address_spaces(iommu, spaces);
    }
    pviommu_quit(iommu);
}

/* What a device reserves in context 0 is free as soon as it is unplugged. */
static void test_unplug_frees_reserved_ranges(void)
{
    g_autofree char *props = g_strdup_printf(
        "\"premap\":false,"
        "\"device-reserved-regions\":[\"rp0/00.0=0x%x000:0x%xfff:0\"]",
        GFN, GFN + 1);
    QXenPVIOMMU *iommu = start_root_port_with(props);
    unsigned spaces = address_spaces(iommu);

    for (unsigned round = 0; round < 3; round++) {
        assert_free(iommu, GFN);
        plug(iommu, "rp0", "0");
        assert_taken(iommu, GFN);
        unplug(iommu, HOTPLUG_ICH9, 0, 0);
        assert_free(iommu, GFN);
        assert_free(iommu, GFN + 1);
        wait_address_spaces(iommu, spaces);
    }
    pviommu_quit(iommu);
}

/* A device that fails on its way in leaves nothing behind either. */
static void test_failed_plug_leaves_nothing(void)
{
    g_autofree char *props = g_strdup_printf(
        "\"premap\":false,"
        "\"device-reserved-regions\":[\"rp0/00.0=0x%x000:0x%xfff:0\"]",
        GFN, GFN + 1);
    QXenPVIOMMU *iommu = start_root_port_with(props);
    unsigned spaces = address_spaces(iommu);

    for (unsigned round = 0; round < 3; round++) {
        g_autofree char *error = qmp_error_text(qtest_qmp(iommu->qts,
            "{'execute': 'device_add', 'arguments': {"
            " 'driver': 'pviommu-mirror', 'bus': 'rp0',"
            " 'notifier': 'nonsense'}}"));

        g_assert_nonnull(error);
        wait_address_spaces(iommu, spaces);
        assert_free(iommu, GFN);
        if (round == 1) {
            plug(iommu, "rp0", "0");
            assert_taken(iommu, GFN);
            unplug(iommu, HOTPLUG_ICH9, 0, 0);
            assert_free(iommu, GFN);
        }
    }
    pviommu_quit(iommu);
}

/* All functions of a slot go at once, each with its address space. */
static void test_functions_are_unplugged_together(void)
{
    QXenPVIOMMU *iommu = pviommu_start_accepted("pc", "premap=off", NULL);
    unsigned spaces = address_spaces(iommu);

    for (unsigned round = 0; round < 3; round++) {
        uint16_t ctx = pviommu_alloc_context(iommu);

        for (unsigned fn = 3; fn--; ) {
            g_autofree char *id = g_strdup_printf("hot%u", fn);

            qtest_qmp_device_add(iommu->qts, "edu", id,
                                 "{'addr': %s, 'multifunction': true}",
                                 fn == 2 ? "11.2" : fn ? "11.1" : "11.0");
        }
        for (unsigned fn = 0; fn < 3; fn++) {
            assert_status(pviommu_attach(iommu, 0x11 << 3 | fn, ctx), 0);
        }
        hotplug_eject(iommu->qts, "hot0", HOTPLUG_PC, 0, 0x11);
        wait_address_spaces(iommu, spaces);
        for (unsigned fn = 0; fn < 3; fn++) {
            assert_status(pviommu_attach(iommu, 0x11 << 3 | fn, 0),
                          XEN_IOMMU_ENODEV);
        }
        assert_status(pviommu_free_context(iommu, ctx), 0);
    }
    pviommu_quit(iommu);
}

#define VF_SBDF         (SBDF | 0x80)

/* Virtual functions end with their device. */
static void test_virtual_functions_end_with_their_device(void)
{
    QXenPVIOMMU *iommu = start_root_port_with("premap=off");
    unsigned spaces = address_spaces(iommu);

    for (unsigned round = 0; round < 3; round++) {
        uint16_t ctx = pviommu_alloc_context(iommu);

        qtest_qmp_device_add(iommu->qts, "igb", "hot",
                             "{'bus': 'rp0', 'romfile': ''}");
        assert_status(pviommu_attach(iommu, VF_SBDF, ctx), 0);
        assert_status(pviommu_free_context(iommu, ctx), XEN_IOMMU_EBUSY);
        unplug(iommu, HOTPLUG_ICH9, 0, 0);
        wait_address_spaces(iommu, spaces);
        assert_status(pviommu_attach(iommu, VF_SBDF, 0), XEN_IOMMU_ENODEV);
        assert_status(pviommu_free_context(iommu, ctx), 0);
    }
    pviommu_quit(iommu);
}

/*
 * VFIO gives up its address space later than its device: until then that stays,
 * with nothing in it.
 */
static void test_late_listener_keeps_its_address_space(void)
{
    QXenPVIOMMU *iommu = start_root_port();
    unsigned spaces = address_spaces(iommu);

    assert_status(pviommu_map(iommu, 0, BFN, GFN, 100, 0), 0);
    for (unsigned round = 0; round < 4; round++) {
        uint16_t ctx = pviommu_alloc_context(iommu);

        /* With translations, and where all memory is seen */
        if (round == 2) {
            pviommu_reset(iommu);
            bridge_init(iommu->pci, QPCI_DEVFN(5, 0), 0, 1, 1);
            pviommu_accept(iommu, XEN_IOMMU_FEATURES_ALL);
            ctx = pviommu_alloc_context(iommu);
        }
        qtest_qmp_device_add(iommu->qts, "pviommu-mirror", "m0",
                             "{'bus': 'rp0', 'late': true}");
        if (round < 2) {
            assert_status(pviommu_attach(iommu, SBDF, ctx), 0);
            assert_status(pviommu_map(iommu, ctx, BFN, GFN, 10, 0), 0);
        }
        hotplug_eject(iommu->qts, "m0", HOTPLUG_ICH9, 0, 0);
        assert_status(pviommu_free_context(iommu, ctx), 0);
        wait_address_spaces(iommu, spaces);
    }
    pviommu_quit(iommu);
}

/* On the root bus of pc as well. */
static void test_new_device_on_pc_is_in_context_0(void)
{
    QXenPVIOMMU *iommu = pviommu_start_accepted("pc", NULL, NULL);
    QEdu edu;

    pviommu_fault_ring(iommu, 16);
    for (unsigned round = 0; round < 2; round++) {
        plug(iommu, "pci.0", "11");
        edu_init(&edu, iommu, QPCI_DEVFN(0x11, 0));
        edu_map_window(&edu, iommu, 0, round);
        edu_assert_no_access(&edu, ADDR(GFN), ADDR(GFN), 64);
        pviommu_wait_faults(iommu, 2 * round + 2);
        pviommu_assert_fault(iommu, 2 * round, 0x11 << 3, 0, ADDR(GFN), false,
                             UNMAPPED);
        unplug(iommu, HOTPLUG_PC, 0, 0x11);
    }
    pviommu_quit(iommu);
}

/* The IOMMU itself can be neither plugged nor unplugged. */
static void test_iommu_itself_cannot_be_plugged(const void *machine)
{
    g_autofree char *args = pviommu_args(machine, "id=iommu", NULL);
    QTestState *qts = qtest_init(args);
    g_autofree char *unplug_error = NULL, *plug_error = NULL;

    unplug_error = qmp_error_text(qtest_qmp(qts,
        "{'execute': 'device_del', 'arguments': {'id': 'iommu'}}"));
    g_assert_nonnull(unplug_error);
    plug_error = qmp_error_text(qtest_qmp(qts,
        "{'execute': 'device_add', 'arguments': {'driver': 'xen-pviommu'}}"));
    g_assert_nonnull(plug_error);
    qtest_quit(qts);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    pviommu_add("hotplug/new-device-is-in-context-0",
                test_new_device_is_in_context_0);
    pviommu_add("hotplug/new-device-is-in-identity-mode",
                test_new_device_is_in_identity_mode);
    pviommu_add("hotplug/unplugged-device-leaves-nothing",
                test_unplugged_device_leaves_nothing);
    pviommu_add("hotplug/surprise-removal-detaches",
                test_surprise_removal_detaches);
    pviommu_add("hotplug/next-device-is-in-context-0",
                test_next_device_is_in_context_0);
    pviommu_add("hotplug/next-device-behind-a-bridge-is-in-context-0",
                test_next_device_behind_a_bridge_is_in_context_0);
    pviommu_add("hotplug/place-is-reserved-while-plugged",
                test_place_is_reserved_while_plugged);
    pviommu_add("hotplug/host-ranges-are-reserved",
                test_host_ranges_are_reserved);
    pviommu_add("hotplug/host-ranges-behind-a-bridge-add-up",
                test_host_ranges_behind_a_bridge_add_up);
    pviommu_add("hotplug/bridges-come-and-go", test_bridges_come_and_go);
    pviommu_add("hotplug/unplug-frees-reserved-ranges",
                test_unplug_frees_reserved_ranges);
    pviommu_add("hotplug/failed-plug-leaves-nothing",
                test_failed_plug_leaves_nothing);
    pviommu_add("hotplug/functions-are-unplugged-together",
                test_functions_are_unplugged_together);
    if (qtest_has_device("igb")) {
        pviommu_add("hotplug/virtual-functions-end-with-their-device",
                    test_virtual_functions_end_with_their_device);
    }
    pviommu_add("hotplug/late-listener-keeps-its-address-space",
                test_late_listener_keeps_its_address_space);
    pviommu_add("hotplug/new-device-on-pc-is-in-context-0",
                test_new_device_on_pc_is_in_context_0);
    pviommu_add_for_machines("hotplug/iommu-itself-cannot-be-plugged",
                             test_iommu_itself_cannot_be_plugged);
    return g_test_run();
}
