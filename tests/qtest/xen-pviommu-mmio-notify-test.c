/*
 * xen-pviommu: what VFIO and vhost are notified of where BARs of PCI functions
 * are mapped
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "hw/pci/pci_regs.h"
#include "libqos/pci.h"
#include "libqos/pviommu-mirror.h"

#define GFN             PVIOMMU_FREE_GFN
#define BFN             0x4000000ull
#define RAM_BFN         (BFN + 0x10000)
#define ADDR(frame)     ((uint64_t)(frame) * PVIOMMU_PAGE)
#define RO              XEN_IOMMUOP_map_readonly

#define SLOT            0x11
#define PEER_SLOT       0x12

/* RAM, aligned, as one block of frames */
#define RAM_FRAMES      16

/* Where BARs are moved to; nothing else is there. */
#define ELSEWHERE       0xf0000000u

/* BAR 4 of a mirror that is like an assigned device, and memory in it */
#define BAR_FRAMES      (PVIOMMU_MIRROR_ASSIGNED_SIZE / PVIOMMU_PAGE)
#define MEMORY_FIRST    (PVIOMMU_MIRROR_MEMORY_OFFSET / PVIOMMU_PAGE)
#define MEMORY_FRAMES   (PVIOMMU_MIRROR_MEMORY_SIZE / PVIOMMU_PAGE)

typedef struct Fixture {
    QXenPVIOMMU *iommu;
    QMirror m;                  /* that listens */
    QMirror peer;               /* whose BARs are mapped */
    QPCIBar bar;                /* BAR 4 of peer */
    uint64_t gfn;               /* of that */
} Fixture;

static void find_bar(Fixture *f, uint64_t addr)
{
    f->bar.addr = addr;
    f->gfn = addr / PVIOMMU_PAGE;
}

static Fixture start(const char *machine, const char *notifier)
{
    g_autofree char *devices = g_strdup_printf(
        "-device '{\"driver\":\"pviommu-mirror\",\"addr\":\"%x\","
        "\"notifier\":\"%s\"}' "
        "-device '{\"driver\":\"pviommu-mirror\",\"addr\":\"%x\","
        "\"notifier\":\"none\",\"assigned\":true,\"alias\":%u}'",
        SLOT, notifier, PEER_SLOT, 0x8000000);
    Fixture f = {
        .iommu = pviommu_start_accepted(machine, "premap=off", devices),
    };

    mirror_init(&f.m, f.iommu, QPCI_DEVFN(SLOT, 0));
    mirror_init(&f.peer, f.iommu, QPCI_DEVFN(PEER_SLOT, 0));
    f.bar = qpci_iomap(&f.peer.dev, PVIOMMU_MIRROR_ASSIGNED_BAR, NULL);
    find_bar(&f, f.bar.addr);
    mirror_clear(&f.m);
    return f;
}

static void quit(Fixture *f)
{
    mirror_assert_sane(&f->m);
    pviommu_quit(f->iommu);
}

static void move_bar(Fixture *f, unsigned nr, uint32_t addr)
{
    qpci_config_writel(&f->peer.dev, PCI_BASE_ADDRESS_0 + 4 * nr, addr);
}

static void map_ram(Fixture *f, uint16_t ctx)
{
    assert_status(pviommu_map(f->iommu, ctx, RAM_BFN, GFN, RAM_FRAMES, 0), 0);
}

/* The registers of the peer, of which no page is memory */
static uint64_t registers(Fixture *f)
{
    return f->peer.bar.addr / PVIOMMU_PAGE;
}

static void test_vfio_is_not_notified(const void *machine)
{
    Fixture f = start(machine, "map");

    assert_status(pviommu_map(f.iommu, 0, BFN, registers(&f), 1, 0), 0);
    assert_status(pviommu_map(f.iommu, 0, BFN + 2, registers(&f), 1, RO), 0);
    mirror_assert_notified(&f.m, 0, 0);
    map_ram(&f, 0);
    mirror_assert_notified(&f.m, 1, 0);
    mirror_assert_equal(&f.m, 0, RAM_FRAMES);

    /* The device that QEMU emulates reaches it all the same. */
    mirror_write(&f.peer, PVIOMMU_MIRROR_DATA, 0x1234);
    g_assert_cmpuint(mirror_translate(&f.m, ADDR(BFN), true), ==, PVIOMMU_PAGE);
    g_assert_true(mirror_dma_write(&f.m, ADDR(BFN) + PVIOMMU_MIRROR_DATA,
                                   0x5678, 8));
    g_assert_cmphex(mirror_read(&f.peer, PVIOMMU_MIRROR_DATA), ==, 0x5678);

    /* Unmapped by the guest, and as the BAR moves */
    assert_status(pviommu_unmap(f.iommu, 0, BFN, 1), 0);
    assert_status(pviommu_flush_all(f.iommu, 0), 0);
    mirror_assert_equal(&f.m, 0, RAM_FRAMES);
    move_bar(&f, 0, ELSEWHERE);
    pviommu_assert_unmapped(f.iommu, 0, BFN + 2);
    mirror_assert_equal(&f.m, 0, RAM_FRAMES);
    f.peer.bar.addr = ELSEWHERE;

    /* RAM at the same BFN is what it is notified of. */
    assert_status(pviommu_map(f.iommu, 0, BFN, GFN, 1, 0), 0);
    mirror_assert_page(&f.m, BFN, GFN, 3);
    assert_status(pviommu_unmap(f.iommu, 0, BFN, 1), 0);
    assert_status(pviommu_map(f.iommu, 0, BFN, registers(&f), 1, 0), 0);
    mirror_assert_no_page(&f.m, BFN);
    mirror_assert_equal(&f.m, 0, RAM_FRAMES);
    quit(&f);
}

/* What assigned devices reach of each other */
static void test_vfio_is_notified_of_device_memory(const void *machine)
{
    Fixture f = start(machine, "map");

    for (unsigned readonly = 0; readonly < 2; readonly++) {
        assert_status(pviommu_map(f.iommu, 0, BFN, f.gfn, BAR_FRAMES,
                                  readonly ? RO : 0), 0);
        pviommu_assert_mapped(f.iommu, 0, BFN, f.gfn, BAR_FRAMES,
                              readonly ? RO : 0);
        g_assert_cmpuint(mirror_counter(&f.m, PVIOMMU_MIRROR_PAGES), ==,
                         MEMORY_FRAMES);
        for (unsigned i = 0; i < BAR_FRAMES; i++) {
            if (i >= MEMORY_FIRST && i < MEMORY_FIRST + MEMORY_FRAMES) {
                mirror_assert_page(&f.m, BFN + i, f.gfn + i, readonly ? 1 : 3);
            } else {
                mirror_assert_no_page(&f.m, BFN + i);
            }
        }
        /* A part of it first */
        assert_status(pviommu_unmap(f.iommu, 0, BFN + MEMORY_FIRST - 1, 3), 0);
        assert_status(pviommu_flush_all(f.iommu, 0), 0);
        mirror_assert_no_page(&f.m, BFN + MEMORY_FIRST + 1);
        mirror_assert_page(&f.m, BFN + MEMORY_FIRST + 2,
                           f.gfn + MEMORY_FIRST + 2, readonly ? 1 : 3);
        mirror_assert_sane(&f.m);
        assert_status(pviommu_unmap_skip(f.iommu, 0, BFN, BAR_FRAMES), 0);
        assert_status(pviommu_flush_all(f.iommu, 0), 0);
        mirror_assert_equal(&f.m, 0, 0);
    }

    assert_status(pviommu_map(f.iommu, 0, BFN, f.gfn, BAR_FRAMES, 0), 0);
    map_ram(&f, 0);
    move_bar(&f, PVIOMMU_MIRROR_ASSIGNED_BAR, ELSEWHERE);
    pviommu_assert_unmapped(f.iommu, 0, BFN);
    mirror_assert_equal(&f.m, 0, RAM_FRAMES);
    quit(&f);
}

/* VFIO traps accesses to a BAR while an interrupt is handled. */
static void test_device_memory_can_be_hidden(const void *machine)
{
    Fixture f = start(machine, "map");
    const uint64_t later = BFN + 0x1000;

    assert_status(pviommu_map(f.iommu, 0, BFN, f.gfn, BAR_FRAMES, 0), 0);
    for (unsigned i = 0; i < 3; i++) {
        mirror_write(&f.peer, PVIOMMU_MIRROR_HIDE, 1);
        g_assert_cmpuint(mirror_counter(&f.m, PVIOMMU_MIRROR_PAGES), ==, 0);
        pviommu_assert_mapped(f.iommu, 0, BFN, f.gfn, BAR_FRAMES, 0);
        if (i == 1) {
            /* What is mapped meanwhile is not missed. */
            assert_status(pviommu_map(f.iommu, 0, later, f.gfn, BAR_FRAMES, RO),
                          0);
            g_assert_cmpuint(mirror_counter(&f.m, PVIOMMU_MIRROR_PAGES), ==, 0);
        }
        mirror_write(&f.peer, PVIOMMU_MIRROR_HIDE, 0);
        mirror_assert_page(&f.m, BFN + MEMORY_FIRST, f.gfn + MEMORY_FIRST, 3);
        mirror_assert_no_page(&f.m, BFN + MEMORY_FIRST - 1);
        if (i) {
            mirror_assert_page(&f.m, later + MEMORY_FIRST,
                               f.gfn + MEMORY_FIRST, 1);
        }
        g_assert_cmpuint(mirror_counter(&f.m, PVIOMMU_MIRROR_PAGES), ==,
                         (i ? 2 : 1) * MEMORY_FRAMES);
    }
    quit(&f);
}

/* One operation for RAM and the BAR that follows on it */
static void test_range_may_have_both(const void *machine)
{
    Fixture f = start(machine, "map");
    const uint64_t ram = ELSEWHERE / PVIOMMU_PAGE;
    const uint64_t nr = PVIOMMU_MIRROR_ALIAS_SIZE / PVIOMMU_PAGE;

    move_bar(&f, PVIOMMU_MIRROR_ALIAS_BAR, ELSEWHERE);
    move_bar(&f, PVIOMMU_MIRROR_ASSIGNED_BAR,
             ELSEWHERE + PVIOMMU_MIRROR_ALIAS_SIZE);
    find_bar(&f, ELSEWHERE + PVIOMMU_MIRROR_ALIAS_SIZE);
    assert_status(pviommu_map(f.iommu, 0, BFN, ram, nr + BAR_FRAMES, 0), 0);
    pviommu_assert_mapped(f.iommu, 0, BFN, ram, nr + BAR_FRAMES, 0);
    mirror_assert_page(&f.m, BFN + nr - 1, ram + nr - 1, 3);
    mirror_assert_no_page(&f.m, BFN + nr);
    mirror_assert_page(&f.m, BFN + nr + MEMORY_FIRST, f.gfn + MEMORY_FIRST, 3);
    g_assert_cmpuint(mirror_counter(&f.m, PVIOMMU_MIRROR_PAGES), ==,
                     nr + MEMORY_FRAMES);

    /* The one goes, and the other stays. */
    move_bar(&f, PVIOMMU_MIRROR_ASSIGNED_BAR, ELSEWHERE + 0x1000000);
    mirror_assert_equal(&f.m, 0, nr);
    move_bar(&f, PVIOMMU_MIRROR_ALIAS_BAR, ELSEWHERE + 0x2000000);
    mirror_assert_equal(&f.m, 0, 0);
    pviommu_assert_frames(f.iommu, 0, 0);
    quit(&f);
}

static void test_attach_replay(const void *machine)
{
    Fixture f = start(machine, "map");
    uint16_t ctx = pviommu_alloc_context(f.iommu);
    const uint64_t frames = MEMORY_FRAMES + RAM_FRAMES;

    assert_status(pviommu_map(f.iommu, ctx, BFN - 8, registers(&f), 1, 0), 0);
    assert_status(pviommu_map(f.iommu, ctx, BFN, f.gfn, BAR_FRAMES, 0), 0);
    map_ram(&f, ctx);
    mirror_assert_notified(&f.m, 0, 0);
    for (unsigned i = 0; i < 2; i++) {
        assert_status(pviommu_attach(f.iommu, f.m.sbdf, ctx), 0);
        g_assert_cmpuint(mirror_counter(&f.m, PVIOMMU_MIRROR_PAGES), ==,
                         frames);
        mirror_assert_no_page(&f.m, BFN - 8);
        mirror_assert_no_page(&f.m, BFN);
        mirror_assert_page(&f.m, BFN + MEMORY_FIRST, f.gfn + MEMORY_FIRST, 3);

        /* As VFIO does it, to another notifier */
        mirror_clear(&f.m);
        g_assert_true(mirror_cmd(&f.m, PVIOMMU_MIRROR_CMD_SYNC));
        g_assert_cmpuint(mirror_counter(&f.m, PVIOMMU_MIRROR_OTHER_MAPS), >, 0);
        mirror_assert_notified(&f.m, 0, 0);

        assert_status(pviommu_attach(f.iommu, f.m.sbdf, 0), 0);
        g_assert_cmpuint(mirror_counter(&f.m, PVIOMMU_MIRROR_PAGES), ==, 0);
    }
    /* The BAR goes while nothing listens to the context. */
    move_bar(&f, PVIOMMU_MIRROR_ASSIGNED_BAR, ELSEWHERE);
    assert_status(pviommu_attach(f.iommu, f.m.sbdf, ctx), 0);
    mirror_assert_equal(&f.m, ctx, RAM_FRAMES);
    quit(&f);
}

/* A cache of translations has it, until the BAR is gone. */
static void test_vhost_forgets_it(const void *machine)
{
    static const char *const notifiers[] = { "deviotlb", "unmap" };

    for (unsigned i = 0; i < ARRAY_SIZE(notifiers); i++) {
        Fixture f = start(machine, notifiers[i]);
        uint64_t addr = f.bar.addr;

        assert_status(pviommu_map(f.iommu, 0, BFN, f.gfn, BAR_FRAMES, 0), 0);
        for (unsigned frame = 0; frame < BAR_FRAMES; frame++) {
            g_assert_true(mirror_fill(&f.m, ADDR(BFN + frame), true));
            mirror_assert_page(&f.m, BFN + frame, f.gfn + frame, 3);
        }
        move_bar(&f, PVIOMMU_MIRROR_ASSIGNED_BAR, ELSEWHERE);
        for (unsigned frame = 0; frame < BAR_FRAMES; frame++) {
            mirror_assert_no_page(&f.m, BFN + frame);
            g_assert_false(mirror_fill(&f.m, ADDR(BFN + frame), false));
        }
        move_bar(&f, PVIOMMU_MIRROR_ASSIGNED_BAR, addr);
        g_assert_false(mirror_fill(&f.m, ADDR(BFN), true));
        assert_status(pviommu_map(f.iommu, 0, BFN, f.gfn, BAR_FRAMES, 0), 0);
        g_assert_true(mirror_fill(&f.m, ADDR(BFN), true));
        assert_status(pviommu_unmap(f.iommu, 0, BFN, BAR_FRAMES), 0);
        assert_status(pviommu_flush_all(f.iommu, 0), 0);
        mirror_assert_no_page(&f.m, BFN);
        quit(&f);
    }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    pviommu_add_for_machines("mmio-notify/vfio-is-not-notified",
                             test_vfio_is_not_notified);
    pviommu_add_for_machines("mmio-notify/vfio-is-notified-of-device-memory",
                             test_vfio_is_notified_of_device_memory);
    pviommu_add_for_machines("mmio-notify/device-memory-can-be-hidden",
                             test_device_memory_can_be_hidden);
    pviommu_add_for_machines("mmio-notify/range-may-have-both",
                             test_range_may_have_both);
    pviommu_add_for_machines("mmio-notify/attach-replay", test_attach_replay);
    pviommu_add_for_machines("mmio-notify/vhost-forgets-it",
                             test_vhost_forgets_it);
    return g_test_run();
}
