/*
 * xen-pviommu: migration, of all that a guest can have set up, and of streams
 * that are not what the device saved
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/bswap.h"
#include "hw/pci/pci_regs.h"
#include "qobject/qdict.h"
#include "libqos/bridge.h"
#include "libqos/edu.h"
#include "libqos/migration.h"
#include "libqos/pviommu-mirror.h"
#include "libqos/virtio-ram.h"
#include "standard-headers/linux/virtio_mem.h"

#define GFN             PVIOMMU_FREE_GFN
#define BFN             0x4000000
#define ADDR(frame)     ((uint64_t)(frame) * PVIOMMU_PAGE)
#define RO              XEN_IOMMUOP_map_readonly
#define UNMAPPED        XEN_IOMMU_FAULT_REASON_unmapped

#define SBDF_A          (0x11 << 3)
#define SBDF_B          0x0100
#define DEVICES         EDU_DEVICE ",addr=11 " \
                        "-device pcie-root-port,id=rp0,chassis=1,addr=5 " \
                        EDU_DEVICE ",bus=rp0"

#define RINGS           2       /* entries of the fault ring */
#define FAULTS          5
#define MSI_BFN         0x123
#define MSI_GFN         (GFN + 0x800)
#define MSI_DATA        0x1234

/* What each context maps; the first of them is cut by a pending release. */
#define NR_PAGES        100
#define CUT_AT          40
#define CUT_NR          10
/* A run for itself, to be found in the stream. */
#define LONE_BFN        (BFN + 0x123456)
#define LONE_GFN        (GFN + 0x321)

static char *file;

/* What the source hands over, and the destination is to have. */
typedef struct Source {
    uint16_t ctx_a, ctx_b;
    uint64_t regs[0x100 / 8];
    uint64_t blocks[0x1000 / 8];
} Source;

/* A machine of these properties, and whether it took what is in the file. */
static QTestState *load(const char *machine, const char *props,
                        const char *devices, bool *loaded)
{
    g_autofree char *more = g_strdup_printf("%s -incoming defer", devices);
    g_autofree char *args = pviommu_args(machine, props, more);
    QTestState *qts = qtest_init(args);

    *loaded = migration_load(qts, file);
    return qts;
}

static void read_state(QXenPVIOMMU *iommu, Source *src)
{
    for (unsigned i = 0; i < ARRAY_SIZE(src->regs); i++) {
        src->regs[i] = pviommu_readq(iommu, i * 8);
    }
    for (unsigned i = 0; i < ARRAY_SIZE(src->blocks); i++) {
        src->blocks[i] = pviommu_readq(iommu, XEN_PVIOMMU_BLOCKS + i * 8);
    }
}

/* Something of everything. */
static void set_up(QXenPVIOMMU *iommu, Source *src)
{
    const uint64_t entry = XEN_PVIOMMU_MSIX_TABLE;
    uint8_t msix = qpci_find_capability(&iommu->dev, PCI_CAP_ID_MSIX, 0);
    QEdu a, b;

    edu_init(&a, iommu, QPCI_DEVFN(0x11, 0));
    bridge_init(iommu->pci, QPCI_DEVFN(5, 0), 0, 1, 1);
    edu_init(&b, iommu, BRIDGE_DEVFN(1, 0, 0));
    pviommu_accept(iommu, XEN_IOMMU_FEATURES_ALL);

    src->ctx_a = pviommu_alloc_context(iommu);
    assert_status(pviommu_free_context(iommu, src->ctx_a), 0);
    pviommu_alloc_context(iommu);
    src->ctx_a = pviommu_alloc_context(iommu);
    src->ctx_b = pviommu_alloc_context(iommu);
    assert_status(pviommu_attach(iommu, SBDF_A, src->ctx_a), 0);
    assert_status(pviommu_attach(iommu, SBDF_B, src->ctx_b), 0);

    assert_status(pviommu_map(iommu, 0, BFN, GFN, NR_PAGES, 0), 0);
    assert_status(pviommu_map(iommu, 0, 0x40000, 0x2000, 0x4000, RO), 0);
    assert_status(pviommu_map(iommu, 0, MSI_BFN, MSI_GFN, 1, 0), 0);
    assert_status(pviommu_map(iommu, src->ctx_a, BFN, GFN + NR_PAGES,
                              NR_PAGES, 0), 0);
    assert_status(pviommu_map(iommu, src->ctx_a, LONE_BFN, LONE_GFN, 7, RO),
                  0);
    assert_status(pviommu_map(iommu, src->ctx_b, BFN, GFN + 2 * NR_PAGES,
                              NR_PAGES, 0), 0);
    assert_status(pviommu_unmap(iommu, src->ctx_a, BFN + CUT_AT, CUT_NR), 0);
    assert_status(pviommu_unmap(iommu, 0, 0x40100, 0x100), 0);
    /* Waiting, and used again. */
    assert_status(pviommu_map(iommu, src->ctx_a, BFN + CUT_AT, GFN + 0x900, 1,
                              0), 0);

    pviommu_writel(iommu, entry + PCI_MSIX_ENTRY_LOWER_ADDR, ADDR(MSI_BFN));
    pviommu_writel(iommu, entry + PCI_MSIX_ENTRY_UPPER_ADDR, 0);
    pviommu_writel(iommu, entry + PCI_MSIX_ENTRY_DATA, MSI_DATA);
    pviommu_writel(iommu, entry + PCI_MSIX_ENTRY_VECTOR_CTRL, 0);
    qpci_config_writew(&iommu->dev, msix + PCI_MSIX_FLAGS,
                       PCI_MSIX_FLAGS_ENABLE);

    pviommu_fault_ring(iommu, RINGS);
    for (unsigned i = 0; i < FAULTS; i++) {
        edu_dma(i & 1 ? &b : &a, i & 1, ADDR(i + 1) + 8 * i, 8);
    }
    pviommu_wait_faults(iommu, RINGS);
    pviommu_ring(iommu, 3, PVIOMMU_RAM + 0x1234, 5, NULL);
    read_state(iommu, src);
}

static void check(QXenPVIOMMU *iommu, const Source *src)
{
    uint16_t ctx[] = { 0, src->ctx_a, src->ctx_b };
    Source now;
    QEdu a, b;

    read_state(iommu, &now);
    for (unsigned i = 0; i < ARRAY_SIZE(now.regs); i++) {
        if (now.regs[i] != src->regs[i]) {
            g_test_message("register 0x%x", i * 8);
        }
        g_assert_cmphex(now.regs[i], ==, src->regs[i]);
    }
    g_assert_cmpmem(now.blocks, sizeof(now.blocks), src->blocks,
                    sizeof(src->blocks));
    g_assert_false(pviommu_identity(iommu));

    pviommu_assert_mapped(iommu, 0, BFN, GFN, NR_PAGES, 0);
    pviommu_assert_mapped(iommu, 0, 0x40000, 0x2000, 0x100, RO);
    pviommu_assert_unmapped(iommu, 0, 0x40100);
    pviommu_assert_mapped(iommu, 0, 0x40200, 0x2200, 0x3e00, RO);
    pviommu_assert_mapped(iommu, ctx[1], BFN, GFN + NR_PAGES, CUT_AT, 0);
    pviommu_assert_mapped(iommu, ctx[1], BFN + CUT_AT, GFN + 0x900, 1, 0);
    pviommu_assert_unmapped(iommu, ctx[1], BFN + CUT_AT + 1);
    pviommu_assert_mapped(iommu, ctx[1], BFN + CUT_AT + CUT_NR,
                          GFN + NR_PAGES + CUT_AT + CUT_NR,
                          NR_PAGES - CUT_AT - CUT_NR, 0);
    pviommu_assert_mapped(iommu, ctx[1], LONE_BFN, LONE_GFN, 7, RO);
    pviommu_assert_mapped(iommu, ctx[2], BFN, GFN + 2 * NR_PAGES, NR_PAGES, 0);

    /* The devices are where they were; edu itself does not migrate. */
    edu_init(&a, iommu, QPCI_DEVFN(0x11, 0));
    bridge_init(iommu->pci, QPCI_DEVFN(5, 0), 0, 1, 1);
    edu_init(&b, iommu, BRIDGE_DEVFN(1, 0, 0));
    edu_map_window(&a, iommu, ctx[1], 0);
    edu_map_window(&b, iommu, ctx[2], 0);
    edu_assert_access(&a, ADDR(BFN + 1), ADDR(GFN + NR_PAGES + 1), 64);
    edu_assert_readonly(&a, ADDR(LONE_BFN + 6), ADDR(LONE_GFN + 6), 64);
    edu_assert_access(&b, ADDR(BFN + 1), ADDR(GFN + 2 * NR_PAGES + 1), 64);
    edu_assert_no_access(&b, ADDR(LONE_BFN), ADDR(LONE_GFN), 64);
    assert_status(pviommu_free_context(iommu, ctx[1]), XEN_IOMMU_EBUSY);
    assert_status(pviommu_free_context(iommu, ctx[2]), XEN_IOMMU_EBUSY);

    /* Faults: those that were not read, those that waited, and new ones. */
    for (unsigned i = 0; i < FAULTS; i++) {
        pviommu_wait_faults(iommu, MIN(i + RINGS, FAULTS + 1 + 2));
        pviommu_assert_fault(iommu, i, i & 1 ? SBDF_B : SBDF_A,
                             ctx[1 + (i & 1)], ADDR(i + 1) + 8 * i, i & 1,
                             UNMAPPED);
        if (i < FAULTS - 1) {
            qtest_writel(iommu->qts, ADDR(MSI_GFN), 0);
        }
        pviommu_writel(iommu, XEN_PVIOMMU_REG_FAULT_HEAD, i + 1);
    }
    pviommu_wait_faults(iommu, FAULTS + RINGS);
    g_assert_cmphex(qtest_readl(iommu->qts, ADDR(MSI_GFN)), ==, MSI_DATA);

    /* What was pending is let go of by a flush, as if nothing happened. */
    pviommu_assert_frames(iommu, src->regs[XEN_PVIOMMU_REG_COUNTER(
                              XEN_PVIOMMU_COUNTER_MAPPED) / 8] + 2,
                          CUT_NR + 0x100);
    assert_status(pviommu_flush(iommu, ctx[1], BFN + CUT_AT, CUT_NR), 0);
    assert_status(pviommu_flush_all(iommu, 0), 0);
    pviommu_assert_frames(iommu, src->regs[XEN_PVIOMMU_REG_COUNTER(
                              XEN_PVIOMMU_COUNTER_MAPPED) / 8] + 2, 0);

    assert_status(pviommu_attach(iommu, SBDF_A, 0), 0);
    assert_status(pviommu_attach(iommu, SBDF_B, 0), 0);
    assert_status(pviommu_free_context(iommu, ctx[1]), 0);
    assert_status(pviommu_free_context(iommu, ctx[2]), 0);
    pviommu_assert_frames(iommu, NR_PAGES + 0x4000 - 0x100 + 1, 0);
}

static QXenPVIOMMU *save_source(Source *src)
{
    QXenPVIOMMU *iommu = pviommu_start("q35", NULL, DEVICES);

    set_up(iommu, src);
    migration_save(iommu->qts, file);
    qtest_quit(iommu->qts);
    return iommu;
}

static void test_moves_all_state(void)
{
    Source src;
    QXenPVIOMMU *iommu = save_source(&src);
    bool loaded;

    pviommu_moved(iommu, load("q35", NULL, DEVICES, &loaded));
    g_assert_true(loaded);
    check(iommu, &src);
    pviommu_quit(iommu);
}

/* And on from there, with a reset on the way. */
static void test_moves_twice(void)
{
    Source src;
    QXenPVIOMMU *iommu = save_source(&src);
    bool loaded;

    for (unsigned i = 0; i < 2; i++) {
        pviommu_moved(iommu, load("q35", NULL, DEVICES, &loaded));
        g_assert_true(loaded);
        if (!i) {
            migration_save(iommu->qts, file);
            qtest_quit(iommu->qts);
        }
    }
    check(iommu, &src);
    pviommu_reset(iommu);
    g_assert_true(pviommu_identity(iommu));
    pviommu_assert_frames(iommu, 0, 0);
    pviommu_quit(iommu);
}

/* Identity mode is the guest's state, whatever premap each machine has. */
static void test_keeps_identity_mode(const void *machine)
{
    static const char *const premap[] = { "premap=on", "premap=off" };

    for (unsigned from = 0; from < 2; from++) {
        for (unsigned to = 0; to < 2; to++) {
            QXenPVIOMMU *iommu = pviommu_start(machine, premap[from],
                                               EDU_DEVICE ",addr=11");
            bool loaded;
            QEdu edu;

            migration_save(iommu->qts, file);
            qtest_quit(iommu->qts);
            pviommu_moved(iommu, load(machine, premap[to],
                                      EDU_DEVICE ",addr=11", &loaded));
            g_assert_true(loaded);
            edu_init(&edu, iommu, QPCI_DEVFN(0x11, 0));
            if (!from) {
                g_assert_true(pviommu_identity(iommu));
                edu_assert_access(&edu, ADDR(GFN), ADDR(GFN), 64);
                assert_status(pviommu_enable(iommu), 0);
            }
            g_assert_false(pviommu_identity(iommu));
            edu_map_window(&edu, iommu, 0, 0);
            edu_assert_no_access(&edu, ADDR(GFN), ADDR(GFN), 64);
            pviommu_quit(iommu);
        }
    }
}

/* A destination that cannot have what the guest has says so, and lives. */
static void test_smaller_machine_refuses(void)
{
    static const struct {
        const char *props, *devices;
    } cases[] = {
        { "bfn-bits=20", DEVICES },
        { "max-mappings=1000", DEVICES },
        { "max-contexts=2", DEVICES },
        { "\"reserved-regions\":[\"0x4000000000:0x4000000fff:0\"]", DEVICES },
    };
    Source src;
    QXenPVIOMMU *iommu = save_source(&src);

    for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
        bool loaded;
        QTestState *qts = load("q35", cases[i].props, cases[i].devices,
                               &loaded);

        g_assert_false(loaded);
        qtest_quit(qts);
    }
    pviommu_free(iommu);
}

/* One that is larger can. */
static void test_larger_machine_takes_it(void)
{
    Source src;
    QXenPVIOMMU *iommu = save_source(&src);
    bool loaded;
    QTestState *qts = load("q35", "bfn-bits=40,max-mappings=1000000000,"
                           "max-contexts=5000,max-ops=7", DEVICES, &loaded);

    g_assert_true(loaded);
    pviommu_moved(iommu, qts);
    g_assert_cmpuint(pviommu_readl(iommu, XEN_PVIOMMU_REG_MAX_OPS), ==, 7);
    pviommu_assert_mapped(iommu, src.ctx_b, BFN, GFN + 2 * NR_PAGES, NR_PAGES,
                          0);
    pviommu_quit(iommu);
}

/* What is plugged of a virtio-mem may be known only after the IOMMU's state. */
static void test_virtio_mem_may_load_later(void)
{
    static const char *const early[] = { "on", "off" };

    for (unsigned i = 0; i < ARRAY_SIZE(early); i++) {
        g_autofree char *devices = g_strdup_printf(
            EDU_DEVICE ",addr=11 -m maxmem=1G -object memory-backend-ram,"
            "id=mem,size=128M -device virtio-mem-pci,addr=14,memdev=mem,"
            "requested-size=128M,x-early-migration=%s", early[i]);
        QXenPVIOMMU *iommu = pviommu_start("q35", NULL, devices);
        QVirtioRam ram;
        uint64_t gfn, nr;
        bool loaded;
        QEdu edu;

        virtio_ram_init(&ram, iommu, QPCI_DEVFN(0x14, 0), 1);
        pviommu_accept(iommu, XEN_IOMMU_FEATURES_ALL);
        gfn = virtio_mem_addr(&ram) / PVIOMMU_PAGE;
        nr = virtio_mem_block_size(&ram) / PVIOMMU_PAGE;
        g_assert_cmpint(virtio_mem_request(&ram, VIRTIO_MEM_REQ_PLUG, ADDR(gfn),
                                           2), ==, VIRTIO_MEM_RESP_ACK);
        assert_status(pviommu_map(iommu, 0, BFN, gfn, 2 * nr, 0), 0);
        assert_status(pviommu_unmap(iommu, 0, BFN, 1), 0);
        virtio_ram_finalize(&ram);
        migration_save(iommu->qts, file);
        qtest_quit(iommu->qts);
        pviommu_moved(iommu, load("q35", NULL, devices, &loaded));
        g_assert_true(loaded);
        pviommu_assert_mapped(iommu, 0, BFN + 1, gfn + 1, 2 * nr - 1, 0);
        pviommu_assert_frames(iommu, 2 * nr - 1, 1);
        assert_status(pviommu_map(iommu, 0, BFN + 2 * nr, gfn + 2 * nr, 1, 0),
                      XEN_IOMMU_ENOENT);
        edu_init(&edu, iommu, QPCI_DEVFN(0x11, 0));
        edu_map_window(&edu, iommu, 0, 0);
        edu_assert_access(&edu, ADDR(BFN + 1), ADDR(gfn + 1), 64);
        pviommu_quit(iommu);
    }
}

#define QUEUE(n)        (PVIOMMU_QUEUE_ADDR + (n) * PVIOMMU_QUEUE_STRIDE)
/* Devices that listen to nothing, or one that listens */
#define QUIET           "-device '{\"driver\":\"pviommu-mirror\"," \
                        "\"addr\":\"11\",\"notifier\":\"none\"}' " \
                        "-device '{\"driver\":\"pviommu-mirror\"," \
                        "\"addr\":\"12\",\"notifier\":\"none\"}' "
#define LISTENER        "-device '{\"driver\":\"pviommu-mirror\"," \
                        "\"addr\":\"13\",\"notifier\":\"map\"}' "

static void push_map(QPVIOMMUQueue *q, uint64_t bfn, uint64_t gfn)
{
    pviommu_queue_push(q, pviommu_op_map(q->ctx, bfn, gfn, 0, 0));
}

static void assert_head(QPVIOMMUQueue *q, uint32_t errors, uint32_t flags)
{
    g_assert_cmpuint(pviommu_queue_head(q), ==, q->tail);
    g_assert_cmpuint(pviommu_queue_errors(q), ==, errors);
    g_assert_cmphex(pviommu_queue_flags(q), ==, flags);
}

/* DMA at @bfn reaches @gfn, or does not. */
static void assert_reaches(QXenPVIOMMU *iommu, unsigned slot, uint64_t bfn,
                           uint64_t gfn, bool reaches)
{
    QMirror m;

    mirror_init(&m, iommu, QPCI_DEVFN(slot, 0));
    qtest_writeq(iommu->qts, ADDR(gfn), 0);
    g_assert(mirror_dma_write(&m, ADDR(bfn), gfn, 8) == reaches);
    g_assert_cmphex(qtest_readq(iommu->qts, ADDR(gfn)), ==,
                    reaches ? gfn : 0);
}

/*
 * Queues that are full, have wrapped around, and have operations that did not
 * run yet and some that fail. On the way back nobody runs in between.
 */
static void test_queues_go_on(const void *machine)
{
    QXenPVIOMMU *iommu = pviommu_start_accepted(machine, "premap=off", QUIET);
    QPVIOMMUQueue q[3];
    uint16_t ctx, dead;
    bool loaded;

    ctx = pviommu_alloc_context(iommu);
    dead = pviommu_alloc_context(iommu);
    assert_status(pviommu_attach(iommu, 0x12 << 3, ctx), 0);
    pviommu_queue_init(&q[0], iommu, 0, QUEUE(0), 4);
    pviommu_queue_init(&q[1], iommu, ctx, QUEUE(1), 1024);
    pviommu_queue_init(&q[2], iommu, dead, QUEUE(2), 4);
    qtest_writel(iommu->qts, q[2].addr, 5);
    for (unsigned i = 0; i < 3; i++) {
        push_map(&q[0], BFN + i, GFN + i);
        assert_reaches(iommu, 0x11, BFN + i, GFN + i, true);
    }
    pviommu_queue_push(&q[0], pviommu_op_unmap(0, BFN, 0));
    push_map(&q[0], BFN + 1, GFN + 77);
    push_map(&q[0], BFN + 3, GFN + 3);
    pviommu_queue_push(&q[0], pviommu_op_flush(0, BFN, 3));
    push_map(&q[1], BFN, GFN + 50);
    g_assert_cmpuint(pviommu_queue_head(&q[0]), ==, 3);
    g_assert_cmpuint(pviommu_queue_head(&q[1]), ==, 0);

    migration_save(iommu->qts, file);
    qtest_quit(iommu->qts);
    for (unsigned i = 0; i < 2; i++) {
        pviommu_moved(iommu, load(machine, NULL, i ? QUIET : QUIET "-S ",
                                  &loaded));
        g_assert_true(loaded);
        if (!i) {
            migration_save(iommu->qts, file);
            qtest_quit(iommu->qts);
        }
    }
    qtest_qmp_assert_success(iommu->qts, "{'execute': 'cont'}");

    /* What failed did so on the source, where it ran; there is room again. */
    for (unsigned i = 0; i < 4; i++) {
        assert_status(pviommu_queue_status(&q[0], 3 + i),
                      i == 1 ? XEN_IOMMU_EEXIST : 0);
    }
    assert_head(&q[0], 1, 0);
    assert_head(&q[1], 0, 0);
    g_assert_cmphex(pviommu_queue_flags(&q[2]) & XEN_IOMMU_QUEUE_dead, ==,
                    XEN_IOMMU_QUEUE_dead);
    assert_reaches(iommu, 0x11, BFN, GFN, false);
    assert_reaches(iommu, 0x11, BFN + 1, GFN + 1, true);
    assert_reaches(iommu, 0x11, BFN + 3, GFN + 3, true);
    assert_reaches(iommu, 0x12, BFN, GFN + 50, true);

    /* And on from there. */
    push_map(&q[0], BFN, GFN + 9);
    push_map(&q[1], BFN + 9, GFN + 10);
    push_map(&q[1], BFN, GFN + 10);
    assert_reaches(iommu, 0x11, BFN, GFN + 9, true);
    assert_reaches(iommu, 0x12, BFN + 9, GFN + 10, true);
    assert_head(&q[0], 1, 0);
    assert_head(&q[1], 1, 0);
    pviommu_assert_frames(iommu, 4 + 2, 0);
    assert_status(pviommu_set_queue(iommu, dead, 0, 0), 0);
    pviommu_quit(iommu);
}

/* What runs a queue may be another thing there than here. */
static void test_queue_flags_fit_the_destination(const void *machine)
{
    static const struct {
        const char *props, *devices;
        bool calls, stopped;
    } machines[] = {
        { "premap=off", QUIET, false, false },
        { "premap=off", QUIET LISTENER, true, true },
        { "premap=off,max-mappings=1000", QUIET, true, false },
    };
    const unsigned nr = ARRAY_SIZE(machines);

    for (unsigned i = 0; i < nr * nr; i++) {
        unsigned from = i / nr, to = i % nr;
        uint32_t flags = machines[to].calls ? XEN_IOMMU_QUEUE_doorbell : 0;
        QXenPVIOMMU *iommu = pviommu_start(machine, machines[from].props,
                                           machines[from].devices);
        QPVIOMMUQueue q;
        bool loaded;

        pviommu_accept(iommu, XEN_IOMMU_FEATURES_ALL);
        pviommu_queue_init(&q, iommu, 0, QUEUE(0), 16);
        push_map(&q, BFN, GFN);
        /* Nothing runs it here. */
        pviommu_set_bus_master(iommu, i & 1);
        migration_save(iommu->qts, file);
        qtest_quit(iommu->qts);
        pviommu_moved(iommu, load(machine, machines[to].props,
                                  machines[to].devices, &loaded));
        g_assert_true(loaded);
        if (!(i & 1)) {
            g_assert_cmpuint(pviommu_queue_head(&q), ==, 0);
            assert_reaches(iommu, 0x11, BFN, GFN, false);
            pviommu_set_bus_master(iommu, true);
            /* Its guest knew that it takes a call, or finds out now. */
            if (machines[from].calls || flags) {
                pviommu_queue_kick(&q);
            }
        }
        assert_reaches(iommu, 0x11, BFN, GFN, true);
        assert_head(&q, 0, flags);

        push_map(&q, BFN + 1, GFN + 1);
        assert_reaches(iommu, 0x11, BFN + 1, GFN + 1,
                       !machines[to].stopped);
        pviommu_queue_kick(&q);
        assert_reaches(iommu, 0x11, BFN + 1, GFN + 1, true);
        assert_head(&q, 0, flags);
        pviommu_quit(iommu);
    }
}

/*
 * The source did not run the first operation, which enables translation. From
 * then on a listener wants queues to stop, while this one runs. Each operation
 * runs once.
 */
static void test_queued_operations_run_once(const void *machine)
{
    static const char *const notifiers[] = { "unmap", "deviotlb", "none" };
    static const struct {
        unsigned nr_ops, frames;
    } queues[] = { { 4, 1 }, { 1024, XEN_IOMMU_QUEUE_MAX_FRAMES } };

    for (unsigned i = 0; i < ARRAY_SIZE(notifiers) * ARRAY_SIZE(queues); i++) {
        const unsigned nr_ops = queues[i % ARRAY_SIZE(queues)].nr_ops;
        const unsigned frames = queues[i % ARRAY_SIZE(queues)].frames;
        g_autofree char *devices = g_strdup_printf(
            MIRROR_DEVICE("%s"), 0x13, notifiers[i / ARRAY_SIZE(queues)]);
        QXenPVIOMMU *iommu = pviommu_start(machine, NULL, devices);
        QPVIOMMUQueue q;
        bool loaded;

        pviommu_accept(iommu, XEN_IOMMU_FEATURES_ALL);
        pviommu_queue_init(&q, iommu, 0, QUEUE(0), nr_ops);
        pviommu_set_bus_master(iommu, false);
        for (unsigned j = 0; j < nr_ops; j++) {
            /* Neither end is aligned. */
            pviommu_queue_push(&q, pviommu_op_map(0, BFN + 1 + j * frames, GFN,
                                                  frames, 0));
        }
        migration_save(iommu->qts, file);
        qtest_quit(iommu->qts);
        pviommu_moved(iommu, load(machine, NULL, devices, &loaded));
        g_assert_true(loaded);
        pviommu_set_bus_master(iommu, true);
        g_assert_cmpuint(pviommu_queue_head(&q), ==, nr_ops);
        g_assert_cmpuint(pviommu_queue_errors(&q), ==, 0);
        g_assert_cmpuint(pviommu_counter(iommu, XEN_PVIOMMU_COUNTER_ERRORS), ==,
                         0);
        pviommu_assert_frames(iommu, nr_ops * frames, 0);
        assert_reaches(iommu, 0x13, BFN + nr_ops * frames, GFN + frames - 1,
                       true);
        assert_status(pviommu_map(iommu, 0, BFN, GFN, 1, 0), 0);
        assert_reaches(iommu, 0x13, BFN, GFN, true);
        pviommu_quit(iommu);
    }
}

/* The saved stream, and where in it the device's section is. */
typedef struct Stream {
    uint8_t *data;
    size_t len;
    size_t start, end;
} Stream;

static size_t find(const Stream *s, const void *what, size_t len, size_t from)
{
    const uint8_t *at = memmem(s->data + from, s->len - from, what, len);

    g_assert_nonnull(at);
    return at - s->data;
}

static Stream read_stream(void)
{
    const char *id = "0000:00:10.0/xen-pviommu";
    uint8_t footer[5] = { 0x7e };
    Stream s;

    g_assert_true(g_file_get_contents(file, (char **)&s.data, &s.len, NULL));
    /* Section number, length of the ID, ID, instance, version; then it. */
    s.start = find(&s, id, strlen(id), 0);
    memcpy(footer + 1, s.data + s.start - 5, 4);
    s.start += strlen(id) + 8;
    /* The footer says the number again. */
    s.end = find(&s, footer, sizeof(footer), s.start);
    return s;
}

/* Load a stream that was tampered with: refused or not, but QEMU lives. */
static bool load_stream(const uint8_t *data, size_t len)
{
    bool loaded;
    QTestState *qts;
    QDict *rsp;

    g_assert_true(g_file_set_contents(file, (const char *)data, len, NULL));
    qts = load("q35", NULL, DEVICES, &loaded);
    rsp = qtest_qmp_assert_success_ref(qts, "{'execute': 'query-status'}");
    qobject_unref(rsp);
    if (loaded) {
        /* The device still works, whatever it loaded. */
        qtest_system_reset(qts);
    }
    qtest_quit(qts);
    return loaded;
}

/* Cut off, at the beginning, anywhere, before the end. */
static void test_cut_stream_is_refused(void)
{
    Source src;
    QXenPVIOMMU *iommu = save_source(&src);
    Stream s = read_stream();
    const size_t len = s.end - s.start;

    g_assert_true(load_stream(s.data, s.len));
    g_assert_false(load_stream(s.data, s.start));
    g_assert_false(load_stream(s.data, s.start + len / 3));
    g_assert_false(load_stream(s.data, s.end - 60));
    g_assert_false(load_stream(s.data, s.end - 10));
    g_assert_false(load_stream(s.data, s.end - 1));
    g_free(s.data);
    pviommu_free(iommu);
}

/* A number as in the stream: seven bits a byte, the sign in bit 0 or none. */
static void append_number(GByteArray *bytes, uint64_t v)
{
    do {
        uint8_t byte = (v & 0x7f) | (v > 0x7f ? 0x80 : 0);

        g_byte_array_append(bytes, &byte, 1);
        v >>= 7;
    } while (v);
}

static bool load_flipped(const Stream *s, size_t at, unsigned bit)
{
    g_autofree uint8_t *bad = g_memdup2(s->data, s->len);

    bad[at] ^= 1u << bit;
    return load_stream(bad, s->len);
}

/* One bit is wrong: it is refused where that shows, and QEMU lives. */
static void test_damaged_stream_is_survived(void)
{
    const uint8_t flags = 0x1c;     /* it says BFN, GFN and how many */
    g_autoptr(GByteArray) run = g_byte_array_new();
    const unsigned flips = 20;
    Source src;
    QXenPVIOMMU *iommu = save_source(&src);
    Stream s = read_stream();
    unsigned refused = 0;
    size_t at;

    /* The only run of the last context begins there. */
    g_byte_array_append(run, &flags, 1);
    append_number(run, (uint64_t)BFN << 1);
    append_number(run, (uint64_t)(GFN + 2 * NR_PAGES) << 1);
    append_number(run, NR_PAGES);
    at = find(&s, run->data, run->len, s.start);
    g_assert_cmpuint(at, <, s.end);

    /* There are no such flags; but there is readonly. */
    for (unsigned bit = 5; bit < 8; bit++) {
        g_assert_false(load_flipped(&s, at, bit));
    }
    g_assert_true(load_flipped(&s, at, 0));

    /* Anywhere in it, with any result. */
    for (unsigned i = 0; i < flips; i++) {
        refused += !load_flipped(&s, s.start + i * (s.end - s.start) / flips,
                                 i * 3 % 8);
    }
    g_test_message("%u of %u refused", refused, flips);
    g_free(s.data);
    pviommu_free(iommu);
}

int main(int argc, char **argv)
{
    int fd, ret;

    g_test_init(&argc, &argv, NULL);
    fd = g_file_open_tmp("pviommu-migration-XXXXXX", &file, NULL);
    g_assert_cmpint(fd, >=, 0);
    close(fd);
    pviommu_add_for_machines("migration/keeps-identity-mode",
                             test_keeps_identity_mode);
    pviommu_add("migration/moves-all-state", test_moves_all_state);
    pviommu_add("migration/moves-twice", test_moves_twice);
    pviommu_add("migration/smaller-machine-refuses",
                test_smaller_machine_refuses);
    pviommu_add("migration/larger-machine-takes-it",
                test_larger_machine_takes_it);
    pviommu_add("migration/virtio-mem-may-load-later",
                test_virtio_mem_may_load_later);
    pviommu_add_for_machines("migration/queues-go-on", test_queues_go_on);
    pviommu_add_for_machines("migration/queue-flags-fit-the-destination",
                             test_queue_flags_fit_the_destination);
    pviommu_add_for_machines("migration/queued-operations-run-once",
                             test_queued_operations_run_once);
    pviommu_add("migration/cut-stream-is-refused", test_cut_stream_is_refused);
    pviommu_add("migration/damaged-stream-is-survived",
                test_damaged_stream_is_survived);
    ret = g_test_run();
    unlink(file);
    g_free(file);
    return ret;
}
