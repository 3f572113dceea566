/*
 * xen-pviommu: what migration carries, and what it does not believe
 *
 * Most tests use the commands that Xen's toolstack saves and loads devices
 * with: they work on one machine, again and again, and leave out RAM.
 *
 * To record the stream of test_v1() anew - a released layout must not be -:
 *   XEN_PVIOMMU_RECORD=FILE xen-pviommu-vmstate-test -p /xen-pviommu/q35/vmstate/record
 * To measure (-m 8G or more, for as many pages of their own):
 *   XEN_PVIOMMU_RUNS=1000000 xen-pviommu-vmstate-test -p /xen-pviommu/q35/vmstate/many
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/bswap.h"
#include "qobject/qdict.h"
#include "hw/pci/pci_regs.h"
#include "libqos/edu.h"

#define V1_STREAM       "data/xen-pviommu-v1.stream"

#define EDU_SLOT        0x11
#define PORT_SLOT       0x12
#define PORT_BUS        5       /* not what firmware would have given it */
#define EDU_SBDF        PCI_SBDF(0, EDU_SLOT)
#define BEHIND_SBDF     PCI_SBDF(PORT_BUS, 0)
#define PCI_SBDF(bus, slot) ((bus) << 8 | (slot) << 3)

#define FAULT_RING_SIZE 4
#define FAULTS          7

/* What the state of fill() has. */
#define RUNS            40
#define GFN(i)          (PVIOMMU_FREE_GFN + (i))

/* Xen's way needs a stream that begins with the devices. */
#define XEN_ARGS        "-global migration.send-configuration=off "
#define XEN_MACHINE(m)  m ",suppress-vmdesc=on"
#define TWO_EDUS        EDU_DEVICE ",addr=11 " \
                        "-device pcie-root-port,id=port,addr=12,chassis=1 " \
                        EDU_DEVICE ",bus=port,addr=0 "

#define OFFSET_NONE     SIZE_MAX

static char *dir;

static char *tmp_file(const char *name)
{
    return g_build_filename(dir, name, NULL);
}

static QXenPVIOMMU *start(const char *props, const char *extra)
{
    g_autofree char *all = g_strconcat(XEN_ARGS TWO_EDUS, extra, NULL);

    return pviommu_start(XEN_MACHINE("q35"), props, all);
}

static void stop(QXenPVIOMMU *iommu)
{
    qtest_qmp_assert_success(iommu->qts, "{'execute': 'stop'}");
}

static void cont(QXenPVIOMMU *iommu)
{
    qtest_qmp_assert_success(iommu->qts, "{'execute': 'cont'}");
}

static void save(QXenPVIOMMU *iommu, const char *path)
{
    qtest_qmp_assert_success(iommu->qts,
                             "{'execute': 'xen-save-devices-state',"
                             " 'arguments': {'filename': %s}}", path);
}

/* Into a machine that is stopped; false if it is refused. */
static bool load(QXenPVIOMMU *iommu, const char *path)
{
    QDict *rsp = qtest_qmp(iommu->qts,
                           "{'execute': 'xen-load-devices-state',"
                           " 'arguments': {'filename': %s}}", path);
    bool ok = qdict_haskey(rsp, "return");

    qobject_unref(rsp);
    return ok;
}

static void assert_load(QXenPVIOMMU *iommu, const char *path)
{
    stop(iommu);
    g_assert_true(load(iommu, path));
    cont(iommu);
}

static size_t find(const uint8_t *data, size_t len, size_t from,
                   const void *what, size_t what_len)
{
    for (; from + what_len <= len; from++) {
        if (!memcmp(data + from, what, what_len)) {
            return from;
        }
    }
    return OFFSET_NONE;
}

/* Of a whole stream, its header and the section of our device alone. */
static void own_section(const char *from, const char *to)
{
    static const char name[] = "\x18" "0000:00:10.0/xen-pviommu";
    g_autofree char *data = NULL;
    g_autofree char *own = NULL;
    uint8_t footer[5] = { 0x7e }, next[5] = { 4 };
    size_t len, start, end;

    g_assert_true(g_file_get_contents(from, &data, &len, NULL));
    start = find((uint8_t *)data, len, 0, name, strlen(name));
    g_assert_cmpuint(start, !=, OFFSET_NONE);
    /* Type and ID; the footer has the ID again, and the next one is there. */
    start -= 5;
    memcpy(footer + 1, data + start + 1, 4);
    stl_be_p(next + 1, ldl_be_p(data + start + 1) + 1);
    for (end = start; ; end++) {
        end = find((uint8_t *)data, len, end, footer, sizeof(footer));
        g_assert_cmpuint(end, !=, OFFSET_NONE);
        if (!memcmp(data + end + sizeof(footer), next, sizeof(next))) {
            break;
        }
    }
    end += sizeof(footer);
    own = g_malloc0(8 + end - start + 1);
    memcpy(own, data, 8);
    memcpy(own + 8, data + start, end - start);
    g_assert_true(g_file_set_contents(to, own, 8 + end - start + 1, NULL));
}

/* Give the root port's bus a number. */
static void number_bus(QXenPVIOMMU *iommu)
{
    QPCIDevice *port = qpci_device_find(iommu->pci, QPCI_DEVFN(PORT_SLOT, 0));

    qpci_device_enable(port);
    qpci_config_writeb(port, PCI_PRIMARY_BUS, 0);
    qpci_config_writeb(port, PCI_SECONDARY_BUS, PORT_BUS);
    qpci_config_writeb(port, PCI_SUBORDINATE_BUS, PORT_BUS);
    qpci_config_writel(port, PCI_MEMORY_BASE, 0xfff0e000);
    g_free(port);
}

/* The edu on the root bus; it has no state that migrates. */
static void init_edu(QEdu *edu, QXenPVIOMMU *iommu)
{
    edu_init(edu, iommu, QPCI_DEVFN(EDU_SLOT, 0));
}

static uint64_t run_bfn(unsigned i)
{
    return 0x100000ull + i * 3 + ((uint64_t)(i % 4) << 30);
}

static uint32_t run_nr(unsigned i)
{
    return 1 + i % 2;
}

/* Two contexts that map, one of both devices each, and an empty one. */
static void fill(QXenPVIOMMU *iommu)
{
    QEdu edu;
    uint16_t a, b, c;

    number_bus(iommu);
    pviommu_accept(iommu, XEN_IOMMU_FEATURES_ALL);
    a = pviommu_alloc_context(iommu);
    b = pviommu_alloc_context(iommu);
    c = pviommu_alloc_context(iommu);
    g_assert_cmpuint(a, ==, 1);
    g_assert_cmpuint(c, ==, 3);
    g_assert_cmpint(pviommu_free_context(iommu, b), ==, 0);
    g_assert_cmpint(pviommu_attach(iommu, EDU_SBDF, a), ==, 0);
    g_assert_cmpint(pviommu_attach(iommu, BEHIND_SBDF, c), ==, 0);

    for (unsigned i = 0; i < RUNS; i++) {
        g_assert_cmpint(pviommu_map(iommu, i % 3 ? a : c, run_bfn(i),
                                    GFN(i * 5), run_nr(i), i % 2), ==, 0);
    }
    /* Pending: a part of a run; all of one whose BFN is used again. */
    g_assert_cmpint(pviommu_map(iommu, a, 0x10, GFN(0x1000), 8, 0), ==, 0);
    g_assert_cmpint(pviommu_map(iommu, a, 0x20, GFN(0x1010), 1, 1), ==, 0);
    g_assert_cmpint(pviommu_unmap(iommu, a, 0x12, 3), ==, 0);
    g_assert_cmpint(pviommu_unmap(iommu, a, 0x20, 1), ==, 0);
    g_assert_cmpint(pviommu_map(iommu, a, 0x20, GFN(0x1020), 1, 0), ==, 0);
    /* As large as they come, in the default context. */
    g_assert_cmpint(pviommu_map(iommu, 0, 0xfff000000, GFN(0), 0x4000, 0), ==,
                    0);

    init_edu(&edu, iommu);
    edu_map_window(&edu, iommu, a, 0);
    pviommu_fault_ring(iommu, FAULT_RING_SIZE);
    for (unsigned i = 0; i < FAULTS; i++) {
        edu_dma(&edu, false, 0x5000000 + i * PVIOMMU_PAGE, 4);
    }
    pviommu_wait_faults(iommu, FAULT_RING_SIZE);
    /* A call that fails leaves that in its block. */
    g_assert_cmpint(pviommu_ring(iommu, 63, 0xffffffffff000, 1, NULL), ==,
                    -XEN_IOMMU_EFAULT);
}

/* All that fill() did, but for what is in RAM. */
static void check(QXenPVIOMMU *iommu)
{
    uint64_t mapped = 8 - 3 + 1 + 0x4000 + 1;
    struct xen_iommu_op op;

    g_assert_false(pviommu_identity(iommu));
    g_assert_cmphex(pviommu_readq(iommu, XEN_PVIOMMU_REG_ACCEPTED), ==,
                    XEN_IOMMU_FEATURES_ALL);
    for (unsigned i = 0; i < RUNS; i++) {
        pviommu_assert_mapped(iommu, i % 3 ? 1 : 3, run_bfn(i), GFN(i * 5),
                              run_nr(i), i % 2);
        pviommu_assert_unmapped(iommu, i % 3 ? 3 : 1, run_bfn(i));
        mapped += run_nr(i);
    }
    pviommu_assert_mapped(iommu, 1, 0x10, GFN(0x1000), 2, 0);
    pviommu_assert_unmapped(iommu, 1, 0x12);
    pviommu_assert_mapped(iommu, 1, 0x15, GFN(0x1005), 3, 0);
    pviommu_assert_mapped(iommu, 1, 0x20, GFN(0x1020), 1, 0);
    pviommu_assert_mapped(iommu, 0, 0xfff000000, GFN(0), 0x4000, 0);
    pviommu_assert_frames(iommu, mapped, 4);
    op = pviommu_op_lookup_gfn(1, GFN(0x1010), 0);
    g_assert_cmpint(pviommu_op(iommu, &op), ==, -XEN_IOMMU_ENOENT);
    op = pviommu_op_lookup_bfn(2, 0);
    g_assert_cmpint(pviommu_op(iommu, &op), ==, -XEN_IOMMU_ENOENT);
    g_assert_cmpint(pviommu_free_context(iommu, 1), ==, -XEN_IOMMU_EBUSY);
    g_assert_cmpint(pviommu_free_context(iommu, 3), ==, -XEN_IOMMU_EBUSY);
    g_assert_cmpint(pviommu_free_context(iommu, 2), ==, -XEN_IOMMU_ENOENT);
    g_assert_cmpint((int32_t)pviommu_readl(iommu, XEN_PVIOMMU_BLOCKS +
                                           63 * XEN_PVIOMMU_BLOCK_STRIDE +
                                           XEN_PVIOMMU_BLOCK_RESULT), ==,
                    -XEN_IOMMU_EFAULT);
}

/* The faults that waited come when there is room for them. */
static void check_faults(QXenPVIOMMU *iommu)
{
    g_assert_cmpuint(pviommu_readl(iommu, XEN_PVIOMMU_REG_FAULT_TAIL), ==,
                     FAULT_RING_SIZE);
    g_assert_cmpuint(pviommu_counter(iommu, XEN_PVIOMMU_COUNTER_FAULTS), ==,
                     FAULTS);
    pviommu_writel(iommu, XEN_PVIOMMU_REG_FAULT_HEAD, FAULT_RING_SIZE);
    pviommu_wait_faults(iommu, FAULTS);
    for (unsigned i = FAULT_RING_SIZE; i < FAULTS; i++) {
        pviommu_assert_fault(iommu, i, EDU_SBDF, 1,
                             0x5000000 + i * PVIOMMU_PAGE, false,
                             XEN_IOMMU_FAULT_REASON_unmapped);
    }
}

/* The edu on the root bus sees context 1, with what was not read-only. */
static void check_dma(QXenPVIOMMU *iommu)
{
    QEdu edu;

    init_edu(&edu, iommu);
    edu_assert_access(&edu, 0x20 * PVIOMMU_PAGE,
                      (uint64_t)GFN(0x1020) * PVIOMMU_PAGE, 64);
    edu_assert_no_access(&edu, 0x12 * PVIOMMU_PAGE,
                         (uint64_t)GFN(0x1002) * PVIOMMU_PAGE, 64);
    edu_assert_readonly(&edu, run_bfn(1) * PVIOMMU_PAGE,
                        (uint64_t)GFN(5) * PVIOMMU_PAGE, 64);
}

/* Loaded where all is different, saved again: the same comes out. */
static void test_same_machine(void)
{
    g_autofree char *first = tmp_file("first");
    g_autofree char *second = tmp_file("second");
    g_autofree char *own1 = tmp_file("own1");
    g_autofree char *own2 = tmp_file("own2");
    g_autofree char *data1 = NULL;
    g_autofree char *data2 = NULL;
    QXenPVIOMMU *iommu = start(NULL, "");
    size_t len1, len2;

    fill(iommu);
    stop(iommu);
    save(iommu, first);
    cont(iommu);

    g_assert_cmpint(pviommu_attach(iommu, EDU_SBDF, 0), ==, 0);
    g_assert_cmpint(pviommu_free_context(iommu, 1), ==, 0);
    g_assert_cmpuint(pviommu_alloc_context(iommu), ==, 1);
    g_assert_cmpint(pviommu_map(iommu, 1, 0x12, 0x12, 1, 0), ==, 0);
    g_assert_cmpint(pviommu_attach(iommu, BEHIND_SBDF, 1), ==, 0);
    pviommu_writel(iommu, XEN_PVIOMMU_REG_FAULT_CTRL, 0);

    stop(iommu);
    g_assert_true(load(iommu, first));
    save(iommu, second);
    cont(iommu);
    own_section(first, own1);
    own_section(second, own2);
    g_assert_true(g_file_get_contents(own1, &data1, &len1, NULL));
    g_assert_true(g_file_get_contents(own2, &data2, &len2, NULL));
    g_assert_cmpmem(data1, len1, data2, len2);

    check(iommu);
    check_faults(iommu);
    check_dma(iommu);
    /* The books, too: all that is held can be let go of. */
    g_assert_cmpint(pviommu_flush_all(iommu, 1), ==, 0);
    g_assert_cmpuint(pviommu_counter(iommu, XEN_PVIOMMU_COUNTER_PENDING), ==,
                     0);
    g_assert_cmpint(pviommu_attach(iommu, BEHIND_SBDF, 0), ==, 0);
    g_assert_cmpint(pviommu_free_context(iommu, 3), ==, 0);
    pviommu_quit(iommu);
}

/* The same state before the big switch: nothing but a context. */
static void test_identity(void)
{
    g_autofree char *path = tmp_file("identity");
    QXenPVIOMMU *iommu = start(NULL, "");

    pviommu_accept(iommu, XEN_IOMMU_FEATURES_ALL);
    g_assert_cmpuint(pviommu_alloc_context(iommu), ==, 1);
    stop(iommu);
    save(iommu, path);
    cont(iommu);
    g_assert_cmpint(pviommu_map(iommu, 1, 1, GFN(0), 1, 0), ==, 0);
    g_assert_false(pviommu_identity(iommu));

    assert_load(iommu, path);
    g_assert_true(pviommu_identity(iommu));
    pviommu_assert_unmapped(iommu, 1, 1);
    pviommu_assert_frames(iommu, 0, 0);
    g_assert_cmpint(pviommu_free_context(iommu, 1), ==, 0);
    pviommu_quit(iommu);
}

static char *v1_stream(void)
{
    return g_test_build_filename(G_TEST_DIST, V1_STREAM, NULL);
}

static void test_record(void)
{
    const char *to = getenv("XEN_PVIOMMU_RECORD");
    g_autofree char *path = tmp_file("record");
    QXenPVIOMMU *iommu;

    if (!to) {
        g_test_skip("XEN_PVIOMMU_RECORD is not set");
        return;
    }
    iommu = start(NULL, "");
    fill(iommu);
    stop(iommu);
    save(iommu, path);
    own_section(path, to);
    pviommu_quit(iommu);
}

/* What the first release wrote can be read for ever. */
static void test_v1(void)
{
    g_autofree char *path = v1_stream();
    QXenPVIOMMU *iommu = start(NULL, "");

    number_bus(iommu);
    assert_load(iommu, path);
    check(iommu);
    check_faults(iommu);
    check_dma(iommu);
    /* And where it was attached by the way to it, whatever its number. */
    g_assert_cmpint(pviommu_attach(iommu, BEHIND_SBDF, 0), ==, 0);
    g_assert_cmpint(pviommu_free_context(iommu, 3), ==, 0);
    pviommu_quit(iommu);
}

typedef struct Fit {
    const char *machine;
    const char *props;
    const char *extra;
    bool fits;
} Fit;

/* The same stream on machines that are not the source's. */
static void test_fit(void)
{
    static const Fit fits[] = {
        { "q35", "max-contexts=65535,bfn-bits=40,max-mappings=99999999",
          TWO_EDUS, true },
        { "q35", "max-contexts=4,bfn-bits=36,max-mappings=16455", TWO_EDUS,
          true },
        { "q35", "max-contexts=3", TWO_EDUS, false },
        { "q35", "bfn-bits=35", TWO_EDUS, false },
        { "q35", "max-mappings=16454", TWO_EDUS, false },
        /* No root port. */
        { "q35", NULL, EDU_DEVICE ",addr=11", false },
        { "pc", NULL, EDU_DEVICE ",addr=11", false },
        /* A context maps what a device in it reserves, or all must not map. */
        { "q35", "\"device-reserved-regions\":"
          "[\"pcie.0/11.0=0x20000:0x20fff:0\"]", TWO_EDUS, false },
        { "q35", "\"device-reserved-regions\":"
          "[\"port/00.0=0x20000:0x20fff:0\"]", TWO_EDUS, true },
        { "q35", "\"device-reserved-regions\":"
          "[\"pcie.0/11.0=0xfff000000000:0xfff000000fff:0\"]", TWO_EDUS, true },
        { "q35", "\"reserved-regions\":[\"0x20000:0x20fff:0\"]", TWO_EDUS,
          false },
    };
    g_autofree char *path = v1_stream();

    for (size_t i = 0; i < ARRAY_SIZE(fits); i++) {
        g_autofree char *machine = g_strconcat(fits[i].machine,
                                               ",suppress-vmdesc=on", NULL);
        g_autofree char *extra = g_strconcat(XEN_ARGS, fits[i].extra,
                                             fits[i].fits ? "" :
                                             " 2>/dev/null", NULL);
        QXenPVIOMMU *iommu = pviommu_start(machine, fits[i].props, extra);

        stop(iommu);
        g_assert_cmpint(load(iommu, path), ==, fits[i].fits);
        if (fits[i].fits) {
            cont(iommu);
            check(iommu);
        }
        /* Whatever came of it, a reset is a new beginning. */
        cont(iommu);
        pviommu_reset(iommu);
        pviommu_assert_frames(iommu, 0, 0);
        g_assert_true(pviommu_identity(iommu));
        g_assert_cmpint(pviommu_map(iommu, 0, 0x12, GFN(0), 0, 0), ==, 0);
        pviommu_quit(iommu);
    }
}

/* Pages that are there no more are lost, and the rest is not. */
static void test_gone(void)
{
    g_autofree char *path = v1_stream();
    /* RAM ends within the large run of the default context. */
    QXenPVIOMMU *iommu = start(NULL, "-m 40 2>/dev/null");

    assert_load(iommu, path);
    pviommu_assert_unmapped(iommu, 0, 0xfff000000);
    pviommu_assert_mapped(iommu, 1, run_bfn(1), GFN(5), run_nr(1), 1);
    pviommu_quit(iommu);
}

/* ROM where the guest had RAM, and a BAR that was RAM, while it is loaded. */
static void test_memory_map(const void *data)
{
    const char *machine = data;
    bool q35 = g_str_equal(machine, "q35");
    g_autofree char *path = tmp_file("memory-map");
    g_autofree char *full = g_strconcat(machine, ",suppress-vmdesc=on", NULL);
    QXenPVIOMMU *iommu = pviommu_start(full, NULL, XEN_ARGS
                                       "-device bochs-display,addr=11");
    QPCIDevice *host = qpci_device_find(iommu->pci, QPCI_DEVFN(0, 0));
    QPCIDevice *vga = qpci_device_find(iommu->pci, QPCI_DEVFN(0x11, 0));
    QPCIBar bar = qpci_iomap(vga, 0, NULL);
    uint64_t vram = bar.addr / PVIOMMU_PAGE;
    uint64_t invalidated;

    qpci_device_enable(vga);
    /* All from 0xc0000 to 0xfffff is RAM. */
    for (unsigned i = 0; i < 7; i++) {
        qpci_config_writeb(host, (q35 ? 0x90 : 0x59) + i, i ? 0x33 : 0x30);
    }
    pviommu_accept(iommu, XEN_IOMMU_FEATURES_ALL);
    g_assert_cmpint(pviommu_map(iommu, 0, 0x10, 0xd0, 16, 0), ==, 0);
    g_assert_cmpint(pviommu_map(iommu, 0, 0x40, 0xf0, 16, 1), ==, 0);
    g_assert_cmpint(pviommu_map(iommu, 0, 0x100, vram, 64, 0), ==, 0);
    g_assert_cmpint(pviommu_map(iommu, 0, 0x200, vram, 64, 0), ==, 0);
    g_assert_cmpint(pviommu_map(iommu, 0, 0x300, GFN(0), 64, 0), ==, 0);
    g_assert_cmpint(pviommu_unmap(iommu, 0, 0x200, 32), ==, 0);
    g_assert_cmpint(pviommu_unmap(iommu, 0, 0x4c, 4), ==, 0);
    invalidated = pviommu_counter(iommu, XEN_PVIOMMU_COUNTER_INVALIDATED);
    stop(iommu);
    save(iommu, path);
    cont(iommu);

    for (unsigned i = 0; i < 2; i++) {
        if (!i) {
            pviommu_reset(iommu);
            g_assert_cmpint(pviommu_map(iommu, 0, 0x10, 0xd0, 16, 0), ==,
                            -XEN_IOMMU_EPERM);
        }
        stop(iommu);
        g_assert_true(load(iommu, path));
        if (i) {
            /* Loaded, saved before it ever ran, and loaded again. */
            save(iommu, path);
            g_assert_true(load(iommu, path));
        }
        cont(iommu);
        pviommu_assert_mapped(iommu, 0, 0x10, 0xd0, 16, 0);
        pviommu_assert_mapped(iommu, 0, 0x40, 0xf0, 12, 1);
        pviommu_assert_unmapped(iommu, 0, 0x4c);
        pviommu_assert_mapped(iommu, 0, 0x100, vram, 64, 0);
        pviommu_assert_unmapped(iommu, 0, 0x200);
        pviommu_assert_mapped(iommu, 0, 0x220, vram + 32, 32, 0);
        pviommu_assert_mapped(iommu, 0, 0x300, GFN(0), 64, 0);
        pviommu_assert_frames(iommu, 16 + 12 + 64 + 32 + 64, 36);
        g_assert_cmpuint(pviommu_counter(iommu,
                                         XEN_PVIOMMU_COUNTER_INVALIDATED), ==,
                         invalidated);
    }
    /* It is an ordinary mapping again: what goes away is gone. */
    qpci_config_writew(vga, PCI_COMMAND, 0);
    pviommu_assert_unmapped(iommu, 0, 0x100);
    pviommu_assert_frames(iommu, 16 + 12 + 64, 4);
    g_free(host);
    g_free(vga);
    pviommu_quit(iommu);
}

/* Refused or taken, as the case may be, but it lives on with books in order. */
static void try_damaged(QXenPVIOMMU *iommu, const char *path,
                        const uint8_t *data, size_t len, unsigned *taken)
{
    g_assert_true(g_file_set_contents(path, (char *)data, len, NULL));
    *taken += load(iommu, path);
}

static void test_damaged(void)
{
    g_autofree char *path = v1_stream();
    g_autofree char *damaged = tmp_file("damaged");
    g_autofree char *data = NULL;
    QXenPVIOMMU *iommu = start("max-mappings=100000", "2>/dev/null");
    g_autoptr(GRand) rand = g_rand_new_with_seed(1);
    unsigned taken = 0, tried = 0;
    size_t len, rest;

    g_assert_true(g_file_get_contents(path, &data, &len, NULL));
    stop(iommu);
    try_damaged(iommu, damaged, (uint8_t *)data, len, &taken);
    g_assert_cmpuint(taken, ==, 1);
    taken = 0;

    /* Cut short: everywhere in what is ours alone, here and there before. */
    rest = len - 512;
    for (size_t cut = 8; cut + 1 < len; cut += cut < rest ? 61 : 1) {
        try_damaged(iommu, damaged, (uint8_t *)data, cut, &taken);
    }
    g_assert_cmpuint(taken, ==, 0);

    for (unsigned i = 0; i < 1500; i++) {
        g_autofree uint8_t *bad = g_memdup2(data, len);
        unsigned bytes = g_rand_int_range(rand, 1, 4);

        while (bytes--) {
            /* Most of them to where no field is fixed. */
            size_t at = g_rand_int_range(rand, i % 8 ? rest : 8, len);
            static const uint8_t values[] = { 0, 0xff, 0x80, 0x7f, 1, 0x1f };

            bad[at] = g_rand_boolean(rand)
                ? values[g_rand_int_range(rand, 0, sizeof(values))]
                : bad[at] ^ 1u << g_rand_int_range(rand, 0, 8);
        }
        try_damaged(iommu, damaged, bad, len, &taken);
        tried++;
        if (i % 64 == 0) {
            /* Whatever it holds now, a doorbell checks the books. */
            cont(iommu);
            pviommu_set_bus_master(iommu, true);
            pviommu_ring(iommu, 0, PVIOMMU_OPS_ADDR, 1, NULL);
            stop(iommu);
        }
    }
    g_test_message("%u of %u were taken", taken, tried);
    g_assert_cmpuint(taken, <, tried);

    /* Nothing of that stays. */
    try_damaged(iommu, damaged, (uint8_t *)data, len, &taken);
    cont(iommu);
    check(iommu);
    pviommu_quit(iommu);
}

static char *query_status(QTestState *qts, const char *command)
{
    QDict *rsp = qtest_qmp_assert_success_ref(qts, "{'execute': %s}", command);
    char *status = g_strdup(qdict_get_try_str(rsp, "status") ?: "");

    qobject_unref(rsp);
    return status;
}

static void wait_status(QTestState *qts, const char *command, const char *want)
{
    for (;;) {
        g_autofree char *status = query_status(qts, command);

        if (g_str_equal(status, want)) {
            return;
        }
        g_assert_cmpstr(status, !=, "failed");
        g_usleep(2000);
    }
}

/* A page of its own for each run, and no two that follow each other. */
static uint64_t many_gfn(uint64_t first, uint64_t pages, uint64_t i)
{
    return first + i * 0x9e3779b1 % pages;
}

static void test_many(void)
{
    const char *wanted = getenv("XEN_PVIOMMU_RUNS");
    uint64_t runs = wanted ? strtoull(wanted, NULL, 0) : 50000;
    /* Above 4 GiB, if there is more than the other tests have. */
    uint64_t first = wanted ? 1 << 20 : PVIOMMU_FREE_GFN;
    uint64_t pages = wanted ? pow2ceil(runs) :
                              PVIOMMU_RAM_GFNS - PVIOMMU_FREE_GFN;
    g_autofree char *stream = tmp_file("many");
    g_autofree char *ram = tmp_file("ram");
    g_autofree char *uri = g_strdup_printf("file:%s", stream);
    /* RAM that stays where it is: what is left is the devices' pause. */
    g_autofree char *common = g_strdup_printf(
        "-m %" PRIu64 " -machine memory-backend=ram -object memory-backend-file,"
        "id=ram,share=on,mem-path=%s,size=%" PRIu64 "M,reserve=off %s",
        wanted ? 4096 + pages / 256 : PVIOMMU_RAM >> 20, ram,
        wanted ? 4096 + pages / 256 : PVIOMMU_RAM >> 20,
        wanted ? "-trace vmstate_downtime_save -trace vmstate_downtime_load "
                 "-trace xen_pviommu_save -trace xen_pviommu_load" : "");
    g_autofree char *to_args = g_strconcat(common, " -incoming defer", NULL);
    const char *props = "x-check=off,max-mappings=100000000";
    static const char ignore_shared[] =
        "{'execute': 'migrate-set-capabilities', 'arguments':"
        " {'capabilities': [{'capability': 'x-ignore-shared',"
        " 'state': true}]}}";
    QXenPVIOMMU *iommu = pviommu_start("q35", props, common);
    g_autofree struct xen_iommu_op *ops = g_new(struct xen_iommu_op, 4096);
    g_autofree char *all = pviommu_args("q35", props, to_args);
    QTestState *to;
    GStatBuf st;

    for (uint64_t i = 0; i < runs; ) {
        unsigned n = 0;

        for (; n < 4096 && i < runs; n++, i++) {
            ops[n] = pviommu_op_map(0, i, many_gfn(first, pages, i), 0, 0);
        }
        pviommu_run(iommu, ops, n);
        while (n--) {
            g_assert_cmpint(pviommu_status(&ops[n]), ==, 0);
        }
    }
    pviommu_accept(iommu, XEN_IOMMU_FEATURES_ALL);

    qtest_qmp_assert_success(iommu->qts, ignore_shared);
    qtest_qmp_assert_success(iommu->qts, "{'execute': 'migrate',"
                             " 'arguments': {'uri': %s}}", uri);
    wait_status(iommu->qts, "query-migrate", "completed");
    g_assert_cmpint(g_stat(stream, &st), ==, 0);
    g_test_message("%" PRIu64 " runs, %zu bytes of stream", runs,
                   (size_t)st.st_size);
    /* No more than six bytes a run, and what else there is. */
    g_assert_cmpuint(st.st_size, <, 6 * runs + 400000);

    to = qtest_init(all);
    qtest_qmp_assert_success(to, ignore_shared);
    qtest_qmp_assert_success(to, "{'execute': 'migrate-incoming',"
                             " 'arguments': {'uri': %s}}", uri);
    wait_status(to, "query-status", "running");
    qtest_quit(iommu->qts);
    pviommu_moved(iommu, to);
    pviommu_assert_frames(iommu, runs, 0);
    for (uint64_t i = 0; i < runs; i += runs / 100) {
        pviommu_assert_mapped(iommu, 0, i, many_gfn(first, pages, i), 1, 0);
    }
    pviommu_quit(iommu);
    unlink(stream);
    unlink(ram);
}

static void remove_dir(void)
{
    GDir *d = g_dir_open(dir, 0, NULL);
    const char *name;

    while (d && (name = g_dir_read_name(d))) {
        g_autofree char *path = tmp_file(name);

        unlink(path);
    }
    g_clear_pointer(&d, g_dir_close);
    rmdir(dir);
    g_free(dir);
}

int main(int argc, char **argv)
{
    int ret;

    g_test_init(&argc, &argv, NULL);
    dir = g_dir_make_tmp("pviommu-vmstate-XXXXXX", NULL);
    g_assert_nonnull(dir);

    qtest_add_func("/xen-pviommu/q35/vmstate/same-machine", test_same_machine);
    qtest_add_func("/xen-pviommu/q35/vmstate/identity", test_identity);
    qtest_add_func("/xen-pviommu/q35/vmstate/record", test_record);
    qtest_add_func("/xen-pviommu/q35/vmstate/v1", test_v1);
    qtest_add_func("/xen-pviommu/q35/vmstate/fit", test_fit);
    qtest_add_func("/xen-pviommu/q35/vmstate/gone", test_gone);
    pviommu_add_for_machines("vmstate/memory-map", test_memory_map);
    qtest_add_func("/xen-pviommu/q35/vmstate/damaged", test_damaged);
    qtest_add_func("/xen-pviommu/q35/vmstate/many", test_many);

    ret = g_test_run();
    remove_dir();
    return ret;
}
