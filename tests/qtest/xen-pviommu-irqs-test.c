/*
 * xen-pviommu: interrupts of devices, remapped
 *
 * What arrives is looked up where it is pending, in the local APICs.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/bswap.h"
#include "hw/pci/pci_regs.h"
#include "qobject/qdict.h"
#include "qobject/qlist.h"
#include "libqos/bridge.h"
#include "libqos/pviommu-mirror.h"
#include "libqos/xen-pviommu-stream.h"

#define BUS             3       /* behind the root port */
#define SBDF(bus, slot, fn) ((bus) << 8 | (slot) << 3 | (fn))
#define SBDF_A          SBDF(0, 0x11, 0)
#define SBDF_B          SBDF(0, 0x12, 0)
#define SBDF_IOMMU      SBDF(0, PVIOMMU_SLOT, 0)
#define TWO_CPUS        "-smp 2 "
#define EDUS            TWO_CPUS EDU_DEVICE ",addr=11 " EDU_DEVICE ",addr=12 "

#define IRQ             XEN_IOMMU_FAULT_REASON_irq
#define MASKED          XEN_IOMMU_FAULT_REASON_masked
#define MASK            XEN_IOMMUOP_set_irq_masked
#define INTERRUPTS      XEN_IOMMU_FEATURE_INTERRUPTS

/* As a local APIC has it: for the CPU with this ID, and edge-triggered */
#define COMPAT_ADDR(id) (0xfee00000 | (id) << 12)

#define EDU_RAISE       0x60    /* registers of edu */
#define EDU_ACK         0x64

typedef struct Fixture {
    QXenPVIOMMU *iommu;
    QEdu a, b;
    uint32_t faults;            /* that there were so far */
} Fixture;

/* Two edus, translation on, and a ring for faults */
static Fixture start(const char *machine, const char *props)
{
    Fixture f = { .iommu = pviommu_start(machine, props, EDUS) };

    edu_init(&f.a, f.iommu, QPCI_DEVFN(0x11, 0));
    edu_init(&f.b, f.iommu, QPCI_DEVFN(0x12, 0));
    pviommu_accept(f.iommu, pviommu_readq(f.iommu, XEN_PVIOMMU_REG_FEATURES));
    edu_map_window(&f.a, f.iommu, 0, 0);
    edu_map_window(&f.b, f.iommu, 0, 1);
    pviommu_fault_ring(f.iommu, 256);
    return f;
}

/* @vector is pending at the CPU. None is ever taken there. */
static bool pending(QTestState *qts, unsigned cpu, unsigned vector)
{
    g_autofree char *command = g_strdup_printf("info lapic %u", cpu);
    g_autofree char *text = qtest_hmp(qts, "%s", command);
    g_autofree char *want = g_strdup_printf("%u", vector);
    const char *irr = strstr(text, "\nIRR\t ");
    g_auto(GStrv) lines = NULL;
    g_auto(GStrv) words = NULL;

    g_assert_nonnull(irr);
    lines = g_strsplit(irr + 1, "\n", 2);
    words = g_strsplit_set(lines[0], " \t\r(", -1);
    return g_strv_contains((const char * const *)words, want);
}

static void assert_raised(Fixture *f, unsigned cpu, unsigned vector)
{
    g_assert_true(pending(f->iommu->qts, cpu, vector));
    g_assert_false(pending(f->iommu->qts, !cpu, vector));
}

static void assert_not_raised(Fixture *f, unsigned vector)
{
    g_assert_false(pending(f->iommu->qts, 0, vector));
    g_assert_false(pending(f->iommu->qts, 1, vector));
}

static void store32(QEdu *edu, uint64_t addr, uint32_t data)
{
    data = cpu_to_le32(data);
    edu_store(edu, addr, &data, sizeof(data));
}

/* A message that names entry @n of those allocated with @handle */
static void send_irq(QEdu *edu, uint32_t handle, unsigned n)
{
    store32(edu, XEN_IOMMU_IRQ_ADDR(handle), XEN_IOMMU_IRQ_DATA(n));
}

static void assert_fault(Fixture *f, uint32_t sbdf, uint16_t ctx, uint64_t addr,
                         bool write, uint32_t reason)
{
    pviommu_wait_faults(f->iommu, f->faults + 1);
    pviommu_assert_fault(f->iommu, f->faults, sbdf, ctx, addr, write, reason);
    f->faults++;
    pviommu_writel(f->iommu, XEN_PVIOMMU_REG_FAULT_HEAD, f->faults);
}

static void assert_no_fault(Fixture *f)
{
    g_assert_cmpuint(pviommu_counter(f->iommu, XEN_PVIOMMU_COUNTER_FAULTS), ==,
                     f->faults);
}

static uint32_t alloc(QXenPVIOMMU *iommu, uint32_t sbdf, unsigned nr)
{
    uint32_t handle;

    assert_status(pviommu_alloc_irqs(iommu, sbdf, nr, &handle), 0);
    return handle;
}

static uint32_t alloc_set(QXenPVIOMMU *iommu, uint32_t sbdf, unsigned cpu,
                          unsigned vector)
{
    uint32_t handle = alloc(iommu, sbdf, 1);

    assert_status(pviommu_set_irq(iommu, handle, cpu, vector, 0, 0), 0);
    return handle;
}

/* A write, and the device's own MSI; where to changes as the guest says. */
static void test_remap(const void *machine)
{
    Fixture f = start(machine, NULL);
    uint32_t h = alloc_set(f.iommu, SBDF_A, 1, 0x61);
    uint8_t cap = qpci_find_capability(&f.a.dev, PCI_CAP_ID_MSI, 0);

    assert_status(pviommu_enable_irqs(f.iommu), 0);
    send_irq(&f.a, h, 0);
    assert_raised(&f, 1, 0x61);

    assert_status(pviommu_set_irq(f.iommu, h, 0, 0x62, 0, 0), 0);
    g_assert_true(qpci_config_readw(&f.a.dev, cap + PCI_MSI_FLAGS) &
                  PCI_MSI_FLAGS_64BIT);
    qpci_config_writel(&f.a.dev, cap + PCI_MSI_ADDRESS_LO,
                       XEN_IOMMU_IRQ_ADDR(h));
    qpci_config_writew(&f.a.dev, cap + PCI_MSI_DATA_64, XEN_IOMMU_IRQ_DATA(0));
    qpci_config_writew(&f.a.dev, cap + PCI_MSI_FLAGS,
                       PCI_MSI_FLAGS_64BIT | PCI_MSI_FLAGS_ENABLE);
    qpci_io_writel(&f.a.dev, f.a.bar, EDU_RAISE, 1);
    assert_raised(&f, 0, 0x62);
    qpci_io_writel(&f.a.dev, f.a.bar, EDU_ACK, 1);
    assert_no_fault(&f);
    pviommu_quit(f.iommu);
}

/* Whoever is asked for: by number, by a set, or all */
static void test_destinations(void)
{
    Fixture f = start("q35", NULL);
    uint32_t h = alloc(f.iommu, SBDF_A, 4);

    assert_status(pviommu_enable_irqs(f.iommu), 0);
    assert_status(pviommu_set_irq(f.iommu, h + 3, 0xff, 0x70, 0, 0), 0);
    send_irq(&f.a, h, 3);
    g_assert_true(pending(f.iommu->qts, 0, 0x70));
    g_assert_true(pending(f.iommu->qts, 1, 0x70));
    assert_status(pviommu_set_irq(f.iommu, h + 2, 1, 0x71,
                                  XEN_IOMMU_IRQ_LOWEST,
                                  XEN_IOMMUOP_set_irq_level), 0);
    send_irq(&f.a, h, 2);
    assert_raised(&f, 1, 0x71);
    /* Nobody, in no mode of the APICs, has this logical number. */
    assert_status(pviommu_set_irq(f.iommu, h, 0, 0x72, 0,
                                  XEN_IOMMUOP_set_irq_logical), 0);
    send_irq(&f.a, h, 0);
    assert_not_raised(&f, 0x72);
    assert_no_fault(&f);
    pviommu_quit(f.iommu);
}

/* Until it is enabled, and once it is not accepted, all is as ever. */
static void test_off(const void *machine)
{
    Fixture f = start(machine, NULL);
    uint32_t h = alloc_set(f.iommu, SBDF_A, 1, 0x61);

    store32(&f.a, COMPAT_ADDR(1), 0x51);
    assert_raised(&f, 1, 0x51);
    assert_no_fault(&f);

    assert_status(pviommu_enable_irqs(f.iommu), 0);
    store32(&f.a, COMPAT_ADDR(1), 0x52);
    assert_fault(&f, SBDF_A, 0, COMPAT_ADDR(1), true, IRQ);
    assert_not_raised(&f, 0x52);
    send_irq(&f.a, h, 0);
    assert_raised(&f, 1, 0x61);

    pviommu_accept(f.iommu, XEN_IOMMU_FEATURES_ALL & ~INTERRUPTS);
    store32(&f.a, COMPAT_ADDR(0), 0x53);
    assert_raised(&f, 0, 0x53);
    assert_status(pviommu_enable_irqs(f.iommu), XEN_IOMMU_EINVAL);
    pviommu_accept(f.iommu, XEN_IOMMU_FEATURES_ALL);
    store32(&f.a, COMPAT_ADDR(0), 0x54);
    assert_raised(&f, 0, 0x54);
    assert_status(pviommu_free_irqs(f.iommu, h), XEN_IOMMU_ENOENT);
    assert_no_fault(&f);
    pviommu_quit(f.iommu);
}

/* What a device may not raise: all kinds of wrong messages */
static void test_hostile(const void *machine)
{
    Fixture f = start(machine, NULL);
    uint32_t a = alloc(f.iommu, SBDF_A, 4), b, gone;
    static const uint8_t sizes[] = { 1, 2, 3, 8, 16, 64 };
    uint8_t bytes[64];
    uint64_t addr;

    b = alloc_set(f.iommu, SBDF_B, 1, 0x80);
    gone = alloc_set(f.iommu, SBDF_A, 1, 0x81);
    for (unsigned i = 0; i < 4; i++) {
        assert_status(pviommu_set_irq(f.iommu, a + i, 1, 0x90 + i, 0, 0), 0);
    }
    assert_status(pviommu_enable_irqs(f.iommu), 0);

    /* Another device's, one that is no more, and one that never was */
    send_irq(&f.a, b, 0);
    assert_fault(&f, SBDF_A, 0, XEN_IOMMU_IRQ_ADDR(b), true, IRQ);
    assert_status(pviommu_free_irqs(f.iommu, gone), 0);
    send_irq(&f.a, gone, 0);
    assert_fault(&f, SBDF_A, 0, XEN_IOMMU_IRQ_ADDR(gone), true, IRQ);
    send_irq(&f.a, 8191, 0);
    assert_fault(&f, SBDF_A, 0, XEN_IOMMU_IRQ_ADDR(8191), true, IRQ);
    send_irq(&f.a, 8192, 0);
    assert_fault(&f, SBDF_A, 0, XEN_IOMMU_IRQ_ADDR(8192), true, IRQ);
    store32(&f.a, 0xfeeffffc, XEN_IOMMU_IRQ_DATA(0));
    assert_fault(&f, SBDF_A, 0, 0xfeeffffc, true, IRQ);

    /* Its own, by another name; and beyond its own by a sum */
    send_irq(&f.a, a + 1, 0);
    assert_fault(&f, SBDF_A, 0, XEN_IOMMU_IRQ_ADDR(a + 1), true, IRQ);
    send_irq(&f.a, a + 1, -1);
    assert_fault(&f, SBDF_A, 0, XEN_IOMMU_IRQ_ADDR(a + 1), true, IRQ);
    send_irq(&f.a, a, 4);
    assert_fault(&f, SBDF_A, 0, XEN_IOMMU_IRQ_ADDR(a), true, IRQ);
    store32(&f.a, XEN_IOMMU_IRQ_ADDR(a), 0x90);
    assert_fault(&f, SBDF_A, 0, XEN_IOMMU_IRQ_ADDR(a), true, IRQ);
    store32(&f.a, XEN_IOMMU_IRQ_ADDR(a), 0x10000 | XEN_IOMMU_IRQ_DATA(0));
    assert_fault(&f, SBDF_A, 0, XEN_IOMMU_IRQ_ADDR(a), true, IRQ);

    /* Not as 4 bytes; 8 and more are not two messages. */
    for (unsigned i = 0; i < sizeof(bytes); i += 4) {
        stl_le_p(bytes + i, XEN_IOMMU_IRQ_DATA(i / 4 % 4));
    }
    for (unsigned i = 0; i < ARRAY_SIZE(sizes); i++) {
        addr = XEN_IOMMU_IRQ_ADDR(a) & ~7;
        edu_store(&f.a, addr, bytes, sizes[i]);
        assert_fault(&f, SBDF_A, 0, addr, true, IRQ);
    }
    for (unsigned i = 1; i < 4; i++) {
        edu_store(&f.a, XEN_IOMMU_IRQ_ADDR(a) + i, bytes, 4);
        assert_fault(&f, SBDF_A, 0, XEN_IOMMU_IRQ_ADDR(a) + i, true, IRQ);
    }

    /* It reads no APIC. */
    memset(bytes, 0xee, sizeof(bytes));
    edu_load(&f.a, 0xfee00020, bytes, 4);
    g_assert_cmphex(ldl_le_p(bytes), ==, 0);
    assert_fault(&f, SBDF_A, 0, 0xfee00020, false, IRQ);

    for (unsigned vector = 16; vector < 256; vector++) {
        assert_not_raised(&f, vector);
    }
    /* And what it may, it may still. */
    send_irq(&f.a, a, 3);
    assert_raised(&f, 1, 0x93);
    send_irq(&f.b, b, 0);
    assert_raised(&f, 1, 0x80);
    assert_no_fault(&f);
    pviommu_quit(f.iommu);
}

/* One address of all there are, with what names an entry of its own */
static void test_window(void)
{
    static const uint32_t messages[] = {
        XEN_IOMMU_IRQ_DATA(0), XEN_IOMMU_IRQ_DATA(1), XEN_IOMMU_IRQ_DATA(2),
        0x35, 0, UINT32_MAX,
    };
    g_autofree char *extra = g_strdup_printf(EDUS MIRROR_DEVICE("none"), 0x13);
    Fixture f = { .iommu = pviommu_start("q35", NULL, extra) };
    const uint32_t sbdf = SBDF(0, 0x13, 0);
    QMirror mirror;
    uint32_t h;

    mirror_init(&mirror, f.iommu, QPCI_DEVFN(0x13, 0));
    pviommu_accept(f.iommu, XEN_IOMMU_FEATURES_ALL);
    alloc_set(f.iommu, SBDF_A, 1, 0x60);
    h = alloc(f.iommu, sbdf, 2);
    alloc_set(f.iommu, SBDF_B, 1, 0x63);
    assert_status(pviommu_set_irq(f.iommu, h, 0, 0x61, 0, 0), 0);
    assert_status(pviommu_set_irq(f.iommu, h + 1, 1, 0x62, 0, 0), 0);
    assert_status(pviommu_enable_irqs(f.iommu), 0);
    for (unsigned i = 0; i < ARRAY_SIZE(messages); i++) {
        g_assert_cmpuint(mirror_sweep(&mirror, 0xfee00000, 0x100000,
                                      messages[i]), ==, i < 2);
    }
    for (unsigned vector = 16; vector < 256; vector++) {
        g_assert_cmpint(pending(f.iommu->qts, 0, vector), ==, vector == 0x61);
        g_assert_cmpint(pending(f.iommu->qts, 1, vector), ==, vector == 0x62);
    }
    pviommu_quit(f.iommu);
}

static void test_masked(void)
{
    Fixture f = start("q35", NULL);
    uint32_t h = alloc(f.iommu, SBDF_A, 2);

    assert_status(pviommu_enable_irqs(f.iommu), 0);
    send_irq(&f.a, h, 0);
    assert_fault(&f, SBDF_A, 0, XEN_IOMMU_IRQ_ADDR(h), true, MASKED);
    assert_status(pviommu_set_irq(f.iommu, h, 0, 0x61, 0, 0), 0);
    assert_not_raised(&f, 0x61);
    send_irq(&f.a, h, 0);
    assert_raised(&f, 0, 0x61);
    assert_status(pviommu_set_irq(f.iommu, h, 0, 0, 0, MASK), 0);
    send_irq(&f.a, h, 0);
    assert_fault(&f, SBDF_A, 0, XEN_IOMMU_IRQ_ADDR(h), true, MASKED);
    /* Of another device's it is not said whether it is masked. */
    send_irq(&f.b, h, 0);
    assert_fault(&f, SBDF_B, 0, XEN_IOMMU_IRQ_ADDR(h), true, IRQ);
    pviommu_quit(f.iommu);
}

/* Devices that go on as they were; each can be had later. */
static void test_direct(void)
{
    Fixture f = start("q35", NULL);

    assert_status(pviommu_direct_irqs(f.iommu, SBDF_A, true), 0);
    assert_status(pviommu_direct_irqs(f.iommu, SBDF(0, 0x1a, 0), true),
                  XEN_IOMMU_ENODEV);
    assert_status(pviommu_enable_irqs(f.iommu), 0);
    store32(&f.a, COMPAT_ADDR(1), 0x51);
    assert_raised(&f, 1, 0x51);
    store32(&f.b, COMPAT_ADDR(1), 0x52);
    assert_fault(&f, SBDF_B, 0, COMPAT_ADDR(1), true, IRQ);
    assert_status(pviommu_direct_irqs(f.iommu, SBDF_A, false), 0);
    store32(&f.a, COMPAT_ADDR(1), 0x53);
    assert_fault(&f, SBDF_A, 0, COMPAT_ADDR(1), true, IRQ);
    assert_not_raised(&f, 0x53);

    /* What is direct is forgotten with the feature, and by a reset. */
    assert_status(pviommu_direct_irqs(f.iommu, SBDF_A, true), 0);
    pviommu_accept(f.iommu, 0);
    pviommu_accept(f.iommu, XEN_IOMMU_FEATURES_ALL);
    assert_status(pviommu_enable_irqs(f.iommu), 0);
    store32(&f.a, COMPAT_ADDR(1), 0x54);
    assert_fault(&f, SBDF_A, 0, COMPAT_ADDR(1), true, IRQ);
    pviommu_quit(f.iommu);
}

/* Where a device sees all memory, interrupts are remapped all the same. */
static void test_identity(const void *machine)
{
    QXenPVIOMMU *iommu = pviommu_start(machine, NULL, EDUS);
    Fixture f = { .iommu = iommu };
    uint16_t ctx;
    uint32_t h;
    struct xen_iommu_op op = pviommu_op_alloc();

    edu_init(&f.a, iommu, QPCI_DEVFN(0x11, 0));
    pviommu_accept(iommu, XEN_IOMMU_FEATURES_ALL);
    pviommu_fault_ring(iommu, 64);
    h = alloc_set(iommu, SBDF_A, 1, 0x61);
    assert_status(pviommu_enable_irqs(iommu), 0);
    g_assert_true(pviommu_identity(iommu));
    send_irq(&f.a, h, 0);
    assert_raised(&f, 1, 0x61);
    store32(&f.a, COMPAT_ADDR(0), 0x51);
    assert_fault(&f, SBDF_A, 0, COMPAT_ADDR(0), true, IRQ);
    edu_assert_access(&f.a, (uint64_t)GFN(0) * PVIOMMU_PAGE,
                      (uint64_t)GFN(0) * PVIOMMU_PAGE, 64);

    op.flags = cpu_to_le16(XEN_IOMMUOP_alloc_context_identity);
    assert_status(pviommu_op(iommu, &op), 0);
    ctx = le16_to_cpu(op.u.context.ctx);
    assert_status(pviommu_attach(iommu, SBDF_A, ctx), 0);
    assert_status(pviommu_enable(iommu), 0);
    assert_status(pviommu_set_irq(iommu, h, 0, 0x62, 0, 0), 0);
    send_irq(&f.a, h, 0);
    assert_raised(&f, 0, 0x62);
    store32(&f.a, COMPAT_ADDR(0), 0x52);
    assert_fault(&f, SBDF_A, ctx, COMPAT_ADDR(0), true, IRQ);
    assert_not_raised(&f, 0x52);
    pviommu_quit(iommu);
}

/* Behind a root port each function has its own; behind PCI they share. */
static void test_bridges(void)
{
    Fixture f = {
        .iommu = pviommu_start("q35", NULL, TWO_CPUS
            "-device pcie-root-port,id=rp0,chassis=1,addr=5 "
            EDU_DEVICE ",bus=rp0,addr=0.0,multifunction=on "
            EDU_DEVICE ",bus=rp0,addr=0.1 "
            "-device pcie-pci-bridge,id=br0,addr=6 "
            EDU_DEVICE ",bus=br0,addr=1 " EDU_DEVICE ",bus=br0,addr=2"),
    };
    QXenPVIOMMU *iommu = f.iommu;
    QEdu c, d;
    uint32_t h;

    bridge_init(iommu->pci, QPCI_DEVFN(5, 0), 0, BUS, BUS);
    edu_init(&f.a, iommu, BRIDGE_DEVFN(BUS, 0, 0));
    edu_init(&f.b, iommu, BRIDGE_DEVFN(BUS, 0, 1));
    bridge_init(iommu->pci, QPCI_DEVFN(6, 0), 0, BUS + 1, BUS + 1);
    edu_init(&c, iommu, BRIDGE_DEVFN(BUS + 1, 1, 0));
    edu_init(&d, iommu, BRIDGE_DEVFN(BUS + 1, 2, 0));
    pviommu_accept(iommu, XEN_IOMMU_FEATURES_ALL);
    pviommu_fault_ring(iommu, 64);
    assert_status(pviommu_enable_irqs(iommu), 0);

    h = alloc_set(iommu, SBDF(BUS, 0, 1), 1, 0x61);
    send_irq(&f.a, h, 0);
    assert_fault(&f, SBDF(BUS, 0, 0), 0, XEN_IOMMU_IRQ_ADDR(h), true, IRQ);
    assert_not_raised(&f, 0x61);
    send_irq(&f.b, h, 0);
    assert_raised(&f, 1, 0x61);

    /* By the ID of either, and by that of the bridge */
    h = alloc_set(iommu, SBDF(BUS + 1, 2, 0), 1, 0x62);
    send_irq(&c, h, 0);
    assert_raised(&f, 1, 0x62);
    h = alloc_set(iommu, SBDF(BUS + 1, 0, 0), 1, 0x63);
    send_irq(&d, h, 0);
    assert_raised(&f, 1, 0x63);
    send_irq(&f.a, h, 0);
    assert_fault(&f, SBDF(BUS, 0, 0), 0, XEN_IOMMU_IRQ_ADDR(h), true, IRQ);

    /* They are the slot's, whatever the guest calls its bus. */
    h = alloc_set(iommu, SBDF(BUS, 0, 0), 0, 0x64);
    bridge_set_buses(iommu->pci, QPCI_DEVFN(5, 0), 0, 9, 9);
    send_irq(&f.a, h, 0);
    assert_raised(&f, 0, 0x64);
    assert_no_fault(&f);
    pviommu_quit(iommu);
}

/* The machine's hot-plug controller: select a bus, eject a slot. */
#define PCIHP_ICH9      0x0cc0
#define PCIHP_EJECT     0x08
#define PCIHP_SELECT    0x10

/* What was a device's is nobody's when it goes. */
static void test_unplug(void)
{
    Fixture f = {
        .iommu = pviommu_start("q35", NULL, TWO_CPUS
            "-device pcie-root-port,id=rp0,chassis=1,addr=5"),
    };
    QXenPVIOMMU *iommu = f.iommu;
    uint32_t handle[2];

    bridge_init(iommu->pci, QPCI_DEVFN(5, 0), 0, BUS, BUS);
    pviommu_accept(iommu, XEN_IOMMU_FEATURES_ALL);
    pviommu_fault_ring(iommu, 64);
    assert_status(pviommu_enable_irqs(iommu), 0);
    for (unsigned round = 0; round < 2; round++) {
        qtest_qmp_device_add(iommu->qts, "edu", "hot", "{'bus': 'rp0', "
                             "'addr': '0', 'dma_mask': 18446744073709551615}");
        edu_init(&f.a, iommu, BRIDGE_DEVFN(BUS, 0, 0));
        if (round) {
            send_irq(&f.a, handle[0], 0);
            assert_fault(&f, SBDF(BUS, 0, 0), 0,
                         XEN_IOMMU_IRQ_ADDR(handle[0]), true, IRQ);
            /* Nor is it direct, as the one before it was. */
            store32(&f.a, COMPAT_ADDR(0), 0x51);
            assert_fault(&f, SBDF(BUS, 0, 0), 0, COMPAT_ADDR(0), true, IRQ);
        }
        handle[round] = alloc_set(iommu, SBDF(BUS, 0, 0), 0, 0x61 + round);
        send_irq(&f.a, handle[round], 0);
        assert_raised(&f, 0, 0x61 + round);
        assert_status(pviommu_direct_irqs(iommu, SBDF(BUS, 0, 0), true), 0);

        qtest_qmp_device_del_send(iommu->qts, "hot");
        qtest_outl(iommu->qts, PCIHP_ICH9 + PCIHP_SELECT, 0);
        qtest_outl(iommu->qts, PCIHP_ICH9 + PCIHP_EJECT, 1);
        qtest_qmp_eventwait(iommu->qts, "DEVICE_DELETED");
        assert_status(pviommu_free_irqs(iommu, handle[round]),
                      XEN_IOMMU_ENOENT);
        assert_status(pviommu_direct_irqs(iommu, SBDF(BUS, 0, 0), true),
                      XEN_IOMMU_ENODEV);
    }
    assert_not_raised(&f, 0x51);
    pviommu_quit(iommu);
}

static void test_reset(const void *machine)
{
    Fixture f = start(machine, NULL);
    uint32_t h = alloc_set(f.iommu, SBDF_A, 1, 0x61);

    assert_status(pviommu_enable_irqs(f.iommu), 0);
    assert_status(pviommu_direct_irqs(f.iommu, SBDF_B, true), 0);
    send_irq(&f.a, h, 0);
    assert_raised(&f, 1, 0x61);
    pviommu_reset(f.iommu);
    edu_init(&f.a, f.iommu, QPCI_DEVFN(0x11, 0));
    edu_init(&f.b, f.iommu, QPCI_DEVFN(0x12, 0));

    assert_not_raised(&f, 0x61);
    store32(&f.a, COMPAT_ADDR(1), 0x51);
    assert_raised(&f, 1, 0x51);
    assert_status(pviommu_free_irqs(f.iommu, h), XEN_IOMMU_EINVAL);
    pviommu_accept(f.iommu, XEN_IOMMU_FEATURES_ALL);
    assert_status(pviommu_free_irqs(f.iommu, h), XEN_IOMMU_ENOENT);
    pviommu_fault_ring(f.iommu, 64);
    assert_status(pviommu_enable_irqs(f.iommu), 0);
    store32(&f.b, COMPAT_ADDR(1), 0x52);
    f.faults = 0;
    assert_fault(&f, SBDF_B, 0, COMPAT_ADDR(1), true, IRQ);
    pviommu_quit(f.iommu);
}

/* The IOMMU's own interrupt is one like any other. */
static void test_own(const void *machine)
{
    Fixture f = start(machine, NULL);
    uint32_t h = alloc_set(f.iommu, SBDF_IOMMU, 1, 0x61);
    const uint64_t entry = XEN_PVIOMMU_MSIX_TABLE;
    uint8_t cap = qpci_find_capability(&f.iommu->dev, PCI_CAP_ID_MSIX, 0);

    pviommu_writel(f.iommu, entry + PCI_MSIX_ENTRY_LOWER_ADDR,
                   XEN_IOMMU_IRQ_ADDR(h));
    pviommu_writel(f.iommu, entry + PCI_MSIX_ENTRY_UPPER_ADDR, 0);
    pviommu_writel(f.iommu, entry + PCI_MSIX_ENTRY_DATA, XEN_IOMMU_IRQ_DATA(0));
    pviommu_writel(f.iommu, entry + PCI_MSIX_ENTRY_VECTOR_CTRL, 0);
    qpci_config_writew(&f.iommu->dev, cap + PCI_MSIX_FLAGS,
                       PCI_MSIX_FLAGS_ENABLE);
    assert_status(pviommu_enable_irqs(f.iommu), 0);
    edu_dma(&f.a, true, 0x5000000, 8);
    assert_fault(&f, SBDF_A, 0, 0x5000000, true,
                 XEN_IOMMU_FAULT_REASON_unmapped);
    assert_raised(&f, 1, 0x61);

    /* If it is refused that is a fault, and raises no interrupt. */
    assert_status(pviommu_free_irqs(f.iommu, h), 0);
    edu_dma(&f.a, true, 0x6000000, 8);
    pviommu_wait_faults(f.iommu, 3);
    pviommu_assert_fault(f.iommu, 1, SBDF_A, 0, 0x6000000, true,
                         XEN_IOMMU_FAULT_REASON_unmapped);
    pviommu_assert_fault(f.iommu, 2, SBDF_IOMMU, 0, XEN_IOMMU_IRQ_ADDR(h), true,
                         IRQ);
    f.faults = 3;
    qtest_clock_step(f.iommu->qts, 1000000);
    assert_no_fault(&f);
    pviommu_quit(f.iommu);
}

/* Not offered: as if there was no such thing */
static void test_none(void)
{
    Fixture f = start("q35", "max-interrupts=0");
    uint32_t h;

    g_assert_cmphex(pviommu_readq(f.iommu, XEN_PVIOMMU_REG_FEATURES) &
                    INTERRUPTS, ==, 0);
    assert_status(pviommu_alloc_irqs(f.iommu, SBDF_A, 1, &h),
                  XEN_IOMMU_EOPNOTSUPP);
    assert_status(pviommu_enable_irqs(f.iommu), XEN_IOMMU_EINVAL);
    store32(&f.a, COMPAT_ADDR(1), 0x51);
    assert_raised(&f, 1, 0x51);
    pviommu_quit(f.iommu);
}

static void test_limit(void)
{
    Fixture f = start("q35", "max-interrupts=4");
    uint32_t h = alloc(f.iommu, SBDF_A, 3);

    assert_status(pviommu_alloc_irqs(f.iommu, SBDF_A, 2, &h),
                  XEN_IOMMU_ENOSPC);
    alloc(f.iommu, SBDF_A, 1);
    pviommu_quit(f.iommu);
}

static void check_moved(QXenPVIOMMU *iommu, uint32_t root, uint32_t behind)
{
    Fixture f = { .iommu = iommu };

    stream_init_edu(&f.a, iommu);
    edu_map_window(&f.a, iommu, 0, 0);
    pviommu_fault_ring(iommu, 64);
    f.faults = pviommu_counter(iommu, XEN_PVIOMMU_COUNTER_FAULTS);
    g_assert_cmpuint(f.faults, ==, 0);
    send_irq(&f.a, root, 2);
    g_assert_true(pending(iommu->qts, 0, 0x62));
    send_irq(&f.a, root, 1);
    assert_fault(&f, EDU_SBDF, 0, XEN_IOMMU_IRQ_ADDR(root), true, MASKED);
    send_irq(&f.a, behind, 0);
    assert_fault(&f, EDU_SBDF, 0, XEN_IOMMU_IRQ_ADDR(behind), true, IRQ);
    /* The order in which entries are looked for does not matter. */
    assert_status(pviommu_free_irqs(iommu, behind), 0);
    assert_status(pviommu_free_irqs(iommu, root), 0);
}

static QXenPVIOMMU *start_filled(const char *extra, uint32_t *root,
                                 uint32_t *behind)
{
    QXenPVIOMMU *iommu = stream_start(NULL, extra);

    stream_number_bus(iommu);
    pviommu_accept(iommu, XEN_IOMMU_FEATURES_ALL);
    alloc(iommu, BEHIND_SBDF, 3);
    *root = alloc(iommu, EDU_SBDF, 3);
    assert_status(pviommu_set_irq(iommu, *root + 2, 0, 0x62, 0, 0), 0);
    *behind = alloc_set(iommu, BEHIND_SBDF, 0, 0x63);
    assert_status(pviommu_direct_irqs(iommu, BEHIND_SBDF, true), 0);
    assert_status(pviommu_enable_irqs(iommu), 0);
    return iommu;
}

/* Back in time, by loadvm */
static void test_migration(void)
{
    g_autofree char *image = stream_file("irqs-image");
    uint32_t root, behind;
    QXenPVIOMMU *iommu = start_filled("", &root, &behind);

    snapshot_image(iommu->qts, image);
    snapshot_save(iommu->qts);
    assert_status(pviommu_set_irq(iommu, root + 2, 0, 0, 0, MASK), 0);
    assert_status(pviommu_set_irq(iommu, root + 1, 0, 0x64, 0, 0), 0);
    assert_status(pviommu_free_irqs(iommu, behind), 0);
    assert_status(pviommu_direct_irqs(iommu, EDU_SBDF, true), 0);
    pviommu_accept(iommu, 0);
    snapshot_load(iommu->qts);
    check_moved(iommu, root, behind);
    pviommu_quit(iommu);
}

/* A stream with a byte of this part changed is refused, or does no harm. */
static void test_stream(void)
{
    static const char name[] = "xen-pviommu/irqs";
    g_autofree char *extra = NULL;
    g_autofree uint8_t *data = NULL;
    uint32_t root, behind;
    unsigned refused = 0;
    QXenPVIOMMU *iommu;
    QStream st;
    size_t at;

    stream_init(&st, "irqs");
    extra = g_strconcat(st.args, "2>/dev/null", NULL);
    iommu = start_filled(extra, &root, &behind);
    stream_record(&st, iommu);
    stream_cont(iommu);
    at = stream_find(st.data, st.len, 0, name, strlen(name));
    g_assert_cmpuint(at, !=, OFFSET_NONE);
    data = g_memdup2(st.data, st.len);
    /* Behind its version, as far as the end of it, each second one */
    for (size_t i = at + strlen(name) + 4 + (g_test_rand_int() & 1); i < st.len;
         i += 2) {
        data[i] = i % 3 ? data[i] ^ 1 << i % 8 : ~data[i];
        if (stream_load(&st, iommu, data)) {
            stream_assert_works(iommu);
        } else {
            stream_assert_refused(iommu);
            refused++;
        }
        data[i] = st.data[i];
    }
    g_test_message("%u streams refused", refused);
    g_assert_cmpuint(refused, >, 10);
    g_assert_true(stream_load(&st, iommu, NULL));
    stream_assert_works(iommu);
    pviommu_quit(iommu);
    stream_free(&st);
}

/* A machine with fewer of them, or without */
static void test_fit(void)
{
    static const struct {
        const char *props;
        const char *refusal;
    } fits[] = {
        { "max-interrupts=7", NULL },
        { "max-interrupts=6", "beyond max-interrupts=6" },
        { "max-interrupts=0", "beyond max-interrupts=0" },
    };
    g_autofree char *messages = stream_file("irqs-messages");
    uint32_t root, behind;
    QXenPVIOMMU *iommu;
    QStream st;

    stream_init(&st, "irqs-fit");
    iommu = start_filled(st.args, &root, &behind);
    g_assert_cmpuint(behind, ==, 6);
    stream_record(&st, iommu);
    pviommu_quit(iommu);
    for (unsigned i = 0; i < ARRAY_SIZE(fits); i++) {
        g_autofree char *extra = g_strconcat(st.args, "2>", messages, NULL);

        iommu = stream_start(fits[i].props, extra);
        stream_open(&st, iommu);
        g_assert_cmpint(stream_load(&st, iommu, NULL), ==, !fits[i].refusal);
        if (fits[i].refusal) {
            stream_assert_printed(messages, fits[i].refusal);
            stream_assert_refused(iommu);
        } else {
            stream_cont(iommu);
            check_moved(iommu, root, behind);
        }
        pviommu_quit(iommu);
    }
    stream_free(&st);
}

static void test_monitor(void)
{
    Fixture f = start("q35", "max-interrupts=100");
    uint32_t h = alloc(f.iommu, SBDF_A, 4);
    g_autofree char *text = NULL;
    QDict *info, *irqs, *entry;
    QList *list;

    assert_status(pviommu_set_irq(f.iommu, h + 2, 1, 0x61,
                                  XEN_IOMMU_IRQ_LOWEST,
                                  XEN_IOMMUOP_set_irq_level), 0);
    assert_status(pviommu_direct_irqs(f.iommu, SBDF_B, true), 0);
    assert_status(pviommu_enable_irqs(f.iommu), 0);
    send_irq(&f.a, h, 2);
    send_irq(&f.a, h, 2);
    send_irq(&f.a, h, 3);
    info = qtest_qmp_assert_success_ref(f.iommu->qts,
                                        "{'execute': 'x-query-xen-pviommu'}");
    irqs = qdict_get_qdict(info, "interrupts");
    g_assert_true(qdict_get_bool(irqs, "remapped"));
    g_assert_cmpint(qdict_get_int(irqs, "max"), ==, 100);
    g_assert_cmpint(qdict_get_int(irqs, "used"), ==, 4);
    g_assert_cmpint(qdict_get_int(irqs, "raised"), ==, 2);
    qobject_unref(info);

    info = qtest_qmp(f.iommu->qts, "{'execute': "
                     "'x-query-xen-pviommu-interrupts', 'arguments': "
                     "{'start': %u, 'max': 2}}", h + 2);
    list = qdict_get_qlist(info, "return");
    g_assert_cmpuint(qlist_size(list), ==, 2);
    entry = qobject_to(QDict, qlist_peek(list));
    g_assert_cmpint(qdict_get_int(entry, "handle"), ==, h + 2);
    g_assert_cmpint(qdict_get_int(entry, "first"), ==, h);
    g_assert_cmpstr(qdict_get_str(entry, "sbdf"), ==, "0000:00:11.0");
    g_assert_cmpint(qdict_get_int(entry, "destination"), ==, 1);
    g_assert_cmpint(qdict_get_int(entry, "vector"), ==, 0x61);
    g_assert_cmpint(qdict_get_int(entry, "delivery"), ==, 1);
    g_assert_true(qdict_get_bool(entry, "level"));
    g_assert_false(qdict_get_bool(entry, "logical"));
    g_assert_false(qdict_get_bool(entry, "masked"));
    qobject_unref(info);

    text = qtest_hmp(f.iommu->qts, "info xen-pviommu");
    g_assert_nonnull(strstr(text, "interrupts: remapped, 4 of 100 entries, 2 "
                            "raised"));
    g_assert_nonnull(strstr(text, "4 interrupts"));
    g_assert_nonnull(strstr(text, "interrupts not remapped"));
    g_assert_nonnull(strstr(text, "masked"));
    pviommu_quit(f.iommu);
}

int main(int argc, char **argv)
{
    int ret;

    g_test_init(&argc, &argv, NULL);
    stream_begin();
    pviommu_add_for_machines("irqs/remap", test_remap);
    pviommu_add_for_machines("irqs/off-until-enabled", test_off);
    pviommu_add_for_machines("irqs/hostile-writes", test_hostile);
    pviommu_add_for_machines("irqs/identity", test_identity);
    pviommu_add_for_machines("irqs/reset", test_reset);
    pviommu_add_for_machines("irqs/own", test_own);
    qtest_add_func("/xen-pviommu/irqs/destinations", test_destinations);
    qtest_add_func("/xen-pviommu/irqs/whole-window", test_window);
    qtest_add_func("/xen-pviommu/irqs/masked", test_masked);
    qtest_add_func("/xen-pviommu/irqs/direct", test_direct);
    qtest_add_func("/xen-pviommu/irqs/bridges", test_bridges);
    qtest_add_func("/xen-pviommu/irqs/unplug", test_unplug);
    qtest_add_func("/xen-pviommu/irqs/not-offered", test_none);
    qtest_add_func("/xen-pviommu/irqs/limit", test_limit);
    qtest_add_func("/xen-pviommu/irqs/migration", test_migration);
    qtest_add_func("/xen-pviommu/irqs/stream", test_stream);
    qtest_add_func("/xen-pviommu/irqs/stream-fits", test_fit);
    qtest_add_func("/xen-pviommu/irqs/monitor", test_monitor);
    ret = g_test_run();
    stream_cleanup();
    return ret;
}
