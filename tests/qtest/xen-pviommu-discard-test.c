/*
 * xen-pviommu: RAM that the guest gives back to the host, by virtio-balloon
 * and virtio-mem
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "hw/pci/pci.h"
#include "libqos/pviommu-mirror.h"
#include "libqos/virtio-ram.h"
#include "standard-headers/linux/virtio_mem.h"

#define GFN             0x4000ull          /* aligned to 2 MiB */
#define BFN             0x4000000ull
#define BLOCK           512
#define SLOT            0x11
#define RAM_SLOT        0x14
#define RW              3

#define REG(name)       PVIOMMU_MIRROR_ ## name
#define ADDR(frame)     ((frame) * PVIOMMU_PAGE)
/* What a page begins with, for as long as nobody gave it back. */
#define SALT(gfn)       (0x5a5a000000000000ull | (gfn))

#define BALLOON         "-device virtio-balloon-pci,addr=14 "
#define PINS            "-device '{\"driver\":\"pviommu-mirror\"," \
                        "\"addr\":\"11\",\"pins\":true}' "

typedef struct Fixture {
    QXenPVIOMMU *iommu;
    QMirror mirror;             /* as VFIO */
    QMirror cache;              /* as vhost */
    QVirtioRam ram;
} Fixture;

/* A machine with a mirror, a cache, and what @device says, in RAM_SLOT. */
static Fixture *fixture_new(const char *machine, const char *props,
                            const char *device, unsigned nr_queues)
{
    g_autofree char *extra =
        g_strdup_printf("%s " MIRROR_DEVICE("map") MIRROR_DEVICE("deviotlb"),
                        device, SLOT, SLOT + 1);
    Fixture *f = g_new0(Fixture, 1);

    f->iommu = pviommu_start(machine, props, extra);
    mirror_init(&f->mirror, f->iommu, QPCI_DEVFN(SLOT, 0));
    mirror_init(&f->cache, f->iommu, QPCI_DEVFN(SLOT + 1, 0));
    virtio_ram_init(&f->ram, f->iommu, QPCI_DEVFN(RAM_SLOT, 0), nr_queues);
    pviommu_accept(f->iommu, XEN_IOMMU_FEATURES_ALL);
    pviommu_fault_ring(f->iommu, 64);
    return f;
}

static void fixture_free(Fixture *f)
{
    mirror_assert_sane(&f->mirror);
    mirror_assert_sane(&f->cache);
    virtio_ram_finalize(&f->ram);
    pviommu_quit(f->iommu);
    g_free(f);
}

static void map(Fixture *f, uint16_t ctx, uint64_t bfn, uint64_t gfn,
                uint32_t nr)
{
    assert_status(pviommu_map(f->iommu, ctx, bfn, gfn, nr, 0), 0);
}

static void salt(Fixture *f, uint64_t gfn, unsigned nr)
{
    for (unsigned i = 0; i < nr; i++) {
        qtest_writeq(f->iommu->qts, ADDR(gfn + i), SALT(gfn + i));
    }
}

/* The host has, or has not, what was in these pages. */
static void assert_salted(Fixture *f, uint64_t gfn, unsigned nr, bool salted)
{
    for (unsigned i = 0; i < nr; i++) {
        g_assert_cmphex(qtest_readq(f->iommu->qts, ADDR(gfn + i)), ==,
                        salted ? SALT(gfn + i) : 0);
    }
}

/* From here on the mirror notes what is at @gfn as it is unmapped. */
static void watch(Fixture *f, uint64_t gfn)
{
    mirror_clear(&f->mirror);
    mirror_write(&f->mirror, REG(WATCH), ADDR(gfn));
}

/* It was unmapped, and then the page still had its data. */
static void assert_seen_at_unmap(Fixture *f, uint64_t gfn)
{
    g_assert_cmphex(mirror_read(&f->mirror, REG(SEEN)), ==, SALT(gfn));
}

static void assert_invalidated(Fixture *f, uint64_t frames)
{
    g_assert_cmpuint(pviommu_counter(f->iommu, XEN_PVIOMMU_COUNTER_INVALIDATED),
                     ==, frames);
}

/* DMA at @bfn does not get anywhere, and is a fault. */
static void assert_fault(Fixture *f, uint64_t bfn)
{
    uint32_t tail = pviommu_readl(f->iommu, XEN_PVIOMMU_REG_FAULT_TAIL);
    uint64_t data;

    pviommu_assert_unmapped(f->iommu, 0, bfn);
    g_assert_false(mirror_dma_write(&f->mirror, ADDR(bfn), 1, 8));
    pviommu_wait_faults(f->iommu, tail + 1);
    pviommu_assert_fault(f->iommu, tail, f->mirror.sbdf, 0, ADDR(bfn), true,
                         XEN_IOMMU_FAULT_REASON_unmapped);
    g_assert_false(mirror_dma_read(&f->mirror, ADDR(bfn), &data));
    pviommu_wait_faults(f->iommu, tail + 2);
    pviommu_writel(f->iommu, XEN_PVIOMMU_REG_FAULT_HEAD, tail + 2);
}

/* DMA at @bfn reaches @gfn. */
static void assert_reaches(Fixture *f, uint64_t bfn, uint64_t gfn)
{
    uint64_t at = ADDR(gfn) + 8, data;

    qtest_writeq(f->iommu->qts, at, ~SALT(gfn));
    g_assert_true(mirror_dma_read(&f->mirror, ADDR(bfn) + 8, &data));
    g_assert_cmphex(data, ==, ~SALT(gfn));
    g_assert_true(mirror_dma_write(&f->mirror, ADDR(bfn) + 8, data + 1, 8));
    g_assert_cmphex(qtest_readq(f->iommu->qts, at), ==, data + 1);
}

/* One page out of the middle of a block that was mapped as one */
static void check_page(Fixture *f)
{
    const unsigned n = 5;

    map(f, 0, BFN, GFN, BLOCK);
    salt(f, GFN, BLOCK);
    g_assert_true(mirror_fill(&f->cache, ADDR(BFN + n), true));
    mirror_assert_equal(&f->mirror, 0, BLOCK);
    watch(f, GFN + n);
    balloon_give(&f->ram, BALLOON_INFLATE, GFN + n, 1);

    assert_seen_at_unmap(f, GFN + n);
    mirror_assert_no_page(&f->cache, BFN + n);
    mirror_assert_equal(&f->mirror, 0, BLOCK - 1);
    pviommu_assert_mapped(f->iommu, 0, BFN, GFN, n, 0);
    pviommu_assert_mapped(f->iommu, 0, BFN + n + 1, GFN + n + 1, BLOCK - n - 1,
                          0);
    pviommu_assert_frames(f->iommu, BLOCK - 1, 0);
    assert_invalidated(f, 1);
    assert_fault(f, BFN + n);
    assert_salted(f, GFN, n, true);
    assert_salted(f, GFN + n, 1, false);
    assert_salted(f, GFN + n + 1, BLOCK - n - 1, true);
    assert_reaches(f, BFN + n - 1, GFN + n - 1);
    assert_reaches(f, BFN + n + 1, GFN + n + 1);

    /* Deflating gives no mapping back; but there is a page to map again. */
    balloon_give(&f->ram, BALLOON_DEFLATE, GFN + n, 1);
    assert_fault(f, BFN + n);
    map(f, 0, BFN + n, GFN + n, 0);
    assert_reaches(f, BFN + n, GFN + n);
    mirror_assert_equal(&f->mirror, 0, BLOCK);
}

static void test_page_is_unmapped_before(const void *machine)
{
    Fixture *f = fixture_new(machine, "premap=off", BALLOON, 3);

    check_page(f);
    fixture_free(f);
}

/* RAM that is a file, and shared with others */
static void test_shared_ram_is_unmapped_before(void)
{
    Fixture *f = fixture_new("pc,memory-backend=ram", "premap=off",
                             "-object memory-backend-memfd,id=ram,size=256M,"
                             "share=on " BALLOON, 3);

    check_page(f);
    fixture_free(f);
}

/* What was given is not mapped, or what is mapped was not given. */
static void test_of_unmapped_pages_changes_nothing(const void *machine)
{
    Fixture *f = fixture_new(machine, NULL, BALLOON, 3);

    /* Given, but not mapped: neither now nor in identity mode. */
    salt(f, GFN, 64);
    balloon_give(&f->ram, BALLOON_INFLATE, GFN, 32);
    assert_salted(f, GFN, 32, false);
    /* Until then devices see all memory, what was given back included. */
    assert_reaches(f, GFN, GFN);

    map(f, 0, BFN, GFN + 64, 64);
    mirror_clear(&f->mirror);
    balloon_give(&f->ram, BALLOON_INFLATE, GFN + 32, 32);
    assert_salted(f, GFN + 32, 32, false);
    mirror_assert_notified(&f->mirror, 0, 0);
    /* Mapped, but not given */
    balloon_give(&f->ram, BALLOON_DEFLATE, GFN + 64, 64);
    /* No page of RAM at all: the firmware, and nothing */
    assert_status(pviommu_map(f->iommu, 0, BFN + 64,
                              PVIOMMU_BIOS_ADDR / PVIOMMU_PAGE, 1,
                              XEN_IOMMUOP_map_readonly), 0);
    balloon_give(&f->ram, BALLOON_INFLATE, PVIOMMU_BIOS_ADDR / PVIOMMU_PAGE, 1);
    balloon_give(&f->ram, BALLOON_INFLATE, PVIOMMU_RAM_GFNS, 16);
    pviommu_assert_mapped(f->iommu, 0, BFN, GFN + 64, 64, 0);
    pviommu_assert_frames(f->iommu, 65, 0);
    assert_invalidated(f, 0);
    fixture_free(f);
}

/* A page at several BFNs, in several contexts, read-only and not */
static void test_page_is_unmapped_in_all_contexts(const void *machine)
{
    Fixture *f = fixture_new(machine, "premap=off", BALLOON, 3);
    uint16_t ctx = pviommu_alloc_context(f->iommu);
    uint16_t empty = pviommu_alloc_context(f->iommu);

    assert_status(pviommu_attach(f->iommu, f->cache.sbdf, ctx), 0);
    map(f, 0, BFN, GFN, 8);
    map(f, 0, BFN + 0x100, GFN + 3, 1);
    map(f, 0, BFN + 0x207, GFN, 8);
    map(f, ctx, BFN, GFN + 2, 4);
    assert_status(pviommu_map(f->iommu, ctx, BFN + 0x300, GFN, 8,
                              XEN_IOMMUOP_map_readonly), 0);
    map(f, empty, 0x1000, GFN + 3, 1);
    salt(f, GFN, 8);
    g_assert_true(mirror_fill(&f->cache, ADDR(BFN + 1), true));
    g_assert_true(mirror_fill(&f->cache, ADDR(BFN + 0x303), false));
    watch(f, GFN + 3);
    balloon_give(&f->ram, BALLOON_INFLATE, GFN + 3, 1);

    assert_seen_at_unmap(f, GFN + 3);
    assert_invalidated(f, 6);
    pviommu_assert_frames(f->iommu, 8 + 1 + 8 + 4 + 8 + 1 - 6, 0);
    assert_fault(f, BFN + 3);
    assert_fault(f, BFN + 0x100);
    assert_fault(f, BFN + 0x207 + 3);
    pviommu_assert_unmapped(f->iommu, ctx, BFN + 1);
    pviommu_assert_unmapped(f->iommu, ctx, BFN + 0x303);
    pviommu_assert_unmapped(f->iommu, empty, 0x1000);
    mirror_assert_equal(&f->mirror, 0, 14);
    mirror_assert_no_page(&f->cache, BFN + 1);
    mirror_assert_no_page(&f->cache, BFN + 0x303);
    pviommu_assert_mapped(f->iommu, ctx, BFN + 2, GFN + 4, 2, 0);
    pviommu_assert_mapped(f->iommu, ctx, BFN + 0x304, GFN + 4, 4,
                          XEN_IOMMUOP_map_readonly);
    assert_salted(f, GFN + 3, 1, false);
    fixture_free(f);
}

/* Unmapped, but not flushed: what VFIO has of it must go as well. */
static void test_pending_page_is_dropped(const void *machine)
{
    Fixture *f = fixture_new(machine, "premap=off", BALLOON, 3);

    map(f, 0, BFN, GFN, 8);
    salt(f, GFN, 8);
    assert_status(pviommu_unmap(f->iommu, 0, BFN, 8), 0);
    mirror_assert_page(&f->mirror, BFN + 3, GFN + 3, RW);
    watch(f, GFN + 3);
    balloon_give(&f->ram, BALLOON_INFLATE, GFN + 3, 1);
    assert_seen_at_unmap(f, GFN + 3);
    mirror_assert_no_page(&f->mirror, BFN + 3);
    pviommu_assert_frames(f->iommu, 0, 7);
    assert_salted(f, GFN + 3, 1, false);
    balloon_give(&f->ram, BALLOON_INFLATE, GFN, 8);
    pviommu_assert_frames(f->iommu, 0, 0);

    /* The BFN is in use again, with another page: that one stays. */
    map(f, 0, BFN, GFN + 16, 8);
    assert_status(pviommu_unmap(f->iommu, 0, BFN, 8), 0);
    map(f, 0, BFN, GFN + 32, 8);
    balloon_give(&f->ram, BALLOON_INFLATE, GFN + 16, 8);
    pviommu_assert_frames(f->iommu, 8, 0);
    mirror_assert_equal(&f->mirror, 0, 8);
    assert_reaches(f, BFN + 7, GFN + 39);
    fixture_free(f);
}

/* DMA that is under way ends in the page it began in; there is no next. */
static void test_dma_in_flight_ends(const void *machine)
{
    Fixture *f = fixture_new(machine, "premap=off", BALLOON, 3);
    QTestState *qts = f->iommu->qts;

    map(f, 0, BFN, GFN, 4);
    salt(f, GFN, 4);
    g_assert_cmpuint(mirror_hold(&f->mirror, 0, ADDR(BFN), ADDR(2ull), true),
                     ==, ADDR(2ull));
    g_assert_cmpuint(mirror_hold(&f->mirror, 1, ADDR(BFN + 2), ADDR(2ull),
                                 false), ==, ADDR(2ull));
    balloon_give(&f->ram, BALLOON_INFLATE, GFN, 4);
    pviommu_assert_frames(f->iommu, 0, 0);
    assert_salted(f, GFN, 4, false);
    g_assert_cmphex(mirror_touch_read(&f->mirror, 1, 0), ==, 0);
    mirror_touch_write(&f->mirror, 0, 16, 0x1234);
    g_assert_cmphex(qtest_readq(qts, ADDR(GFN) + 16), ==, 0x1234);
    assert_fault(f, BFN);
    mirror_release(&f->mirror, 0, ADDR(2ull));
    mirror_release(&f->mirror, 1, ADDR(2ull));
    assert_fault(f, BFN + 1);
    fixture_free(f);
}

/* A guest that says what is free: large pieces, and without asking back */
static void test_free_page_report_unmaps(const void *machine)
{
    Fixture *f = fixture_new(machine, "premap=off",
                             "-device virtio-balloon-pci,addr=14,"
                             "free-page-reporting=on", 4);

    map(f, 0, BFN, GFN, 3 * BLOCK);
    map(f, 0, BFN + 4 * BLOCK, GFN + BLOCK, BLOCK);
    assert_status(pviommu_unmap(f->iommu, 0, BFN + 4 * BLOCK, BLOCK), 0);
    salt(f, GFN, 3 * BLOCK);
    watch(f, GFN + BLOCK);
    balloon_report(&f->ram, ADDR(GFN + BLOCK), ADDR(BLOCK));
    assert_seen_at_unmap(f, GFN + BLOCK);
    assert_salted(f, GFN + BLOCK, BLOCK, false);
    pviommu_assert_mapped(f->iommu, 0, BFN, GFN, BLOCK, 0);
    pviommu_assert_mapped(f->iommu, 0, BFN + 2 * BLOCK, GFN + 2 * BLOCK, BLOCK,
                          0);
    pviommu_assert_frames(f->iommu, 2 * BLOCK, 0);
    mirror_assert_equal(&f->mirror, 0, 2 * BLOCK);
    assert_fault(f, BFN + BLOCK);
    assert_fault(f, BFN + 2 * BLOCK - 1);
    fixture_free(f);
}

/* A page's place in RAM is not its place in the machine. */
static void test_ram_above_4g_is_found(const void *machine)
{
    g_autofree char *split = g_strdup_printf("%s,max-ram-below-4g=128M",
                                             (const char *)machine);
    Fixture *f = fixture_new(split, "premap=off", BALLOON, 3);
    const uint64_t low = PVIOMMU_RAM_GFNS / 2, high = 0x100000;

    map(f, 0, BFN, low - 1, 1);
    map(f, 0, BFN + 1, high, 8);
    salt(f, high, 8);
    salt(f, low - 1, 1);
    watch(f, high);
    balloon_give(&f->ram, BALLOON_INFLATE, high, 2);
    assert_seen_at_unmap(f, high);
    assert_fault(f, BFN + 1);
    assert_fault(f, BFN + 2);
    assert_salted(f, high, 2, false);
    pviommu_assert_mapped(f->iommu, 0, BFN, low - 1, 1, 0);
    pviommu_assert_frames(f->iommu, 7, 0);
    balloon_give(&f->ram, BALLOON_INFLATE, low - 1, 1);
    pviommu_assert_frames(f->iommu, 6, 0);
    assert_salted(f, low - 1, 1, false);
    fixture_free(f);
}

/* RAM that the guest has at two places is unmapped at both. */
static void test_aliased_ram_is_unmapped_twice(const void *machine)
{
    g_autofree char *device =
        g_strdup_printf(BALLOON "-device pviommu-mirror,addr=15,alias=0x%"
                        PRIx64, (uint64_t)ADDR(GFN));
    Fixture *f = fixture_new(machine, "premap=off", device, 3);
    QMirror aliased;
    uint64_t bar;

    mirror_init(&aliased, f->iommu, QPCI_DEVFN(0x15, 0));
    bar = qpci_iomap(&aliased.dev, PVIOMMU_MIRROR_ALIAS_BAR, NULL).addr;
    salt(f, GFN, 8);
    g_assert_cmphex(qtest_readq(f->iommu->qts, bar), ==, SALT(GFN));

    map(f, 0, BFN, GFN, 8);
    map(f, 0, BFN + 8, bar / PVIOMMU_PAGE, 8);
    mirror_assert_equal(&f->mirror, 0, 16);
    balloon_give(&f->ram, BALLOON_INFLATE, GFN + 1, 1);
    assert_fault(f, BFN + 1);
    assert_fault(f, BFN + 9);
    balloon_give(&f->ram, BALLOON_INFLATE, bar / PVIOMMU_PAGE + 6, 1);
    assert_fault(f, BFN + 6);
    assert_fault(f, BFN + 14);
    mirror_assert_equal(&f->mirror, 0, 12);
    assert_reaches(f, BFN + 15, GFN + 7);
    fixture_free(f);
}

static void set_plugged(Fixture *f, uint64_t gfn, unsigned blocks, bool plugged)
{
    g_assert_cmpint(virtio_mem_request(&f->ram, plugged ? VIRTIO_MEM_REQ_PLUG
                                                        : VIRTIO_MEM_REQ_UNPLUG,
                                       ADDR(gfn), blocks),
                    ==, VIRTIO_MEM_RESP_ACK);
}

static Fixture *fixture_new_mem(const char *machine, const char *props,
                                const char *mem_props, uint64_t *gfn,
                                uint64_t *nr)
{
    g_autofree char *device =
        g_strdup_printf("-m maxmem=1G -object memory-backend-ram,id=mem,"
                        "size=128M -device virtio-mem-pci,addr=14,memdev=mem,"
                        "id=vmem,requested-size=128M%s", mem_props);
    Fixture *f = fixture_new(machine, props, device, 1);

    *gfn = virtio_mem_addr(&f->ram) / PVIOMMU_PAGE;
    *nr = virtio_mem_block_size(&f->ram) / PVIOMMU_PAGE;
    return f;
}

/* What is not plugged is no memory; what is unplugged is none any more. */
static void check_virtio_mem(const char *machine, const char *mem_props)
{
    uint64_t gfn, nr;
    Fixture *f = fixture_new_mem(machine, "premap=off", mem_props, &gfn, &nr);
    int not_there = pviommu_map(f->iommu, 0, BFN, gfn, 1, 0);

    assert_status(not_there, XEN_IOMMU_ENOENT);
    set_plugged(f, gfn, 3, true);
    map(f, 0, BFN, gfn, 3 * nr);
    assert_status(pviommu_map(f->iommu, 0, BFN + 4 * nr, gfn + 3 * nr - 1, 2,
                              0), XEN_IOMMU_ENOENT);
    salt(f, gfn, 3 * nr);
    mirror_assert_equal(&f->mirror, 0, 3 * nr);
    watch(f, gfn + nr);
    set_plugged(f, gfn + nr, 1, false);
    assert_seen_at_unmap(f, gfn + nr);
    mirror_assert_equal(&f->mirror, 0, 2 * nr);
    assert_invalidated(f, nr);
    assert_fault(f, BFN + nr);
    assert_fault(f, BFN + 2 * nr - 1);
    pviommu_assert_mapped(f->iommu, 0, BFN, gfn, nr, 0);
    pviommu_assert_mapped(f->iommu, 0, BFN + 2 * nr, gfn + 2 * nr, nr, 0);
    assert_reaches(f, BFN + nr - 1, gfn + nr - 1);
    assert_status(pviommu_map(f->iommu, 0, BFN + nr, gfn + nr, nr, 0),
                  XEN_IOMMU_ENOENT);
    assert_status(pviommu_map(f->iommu, 0, BFN + nr, gfn + nr, 1,
                              XEN_IOMMUOP_map_readonly), XEN_IOMMU_ENOENT);

    /* Plugged again, it is new memory. */
    set_plugged(f, gfn + nr, 1, true);
    assert_fault(f, BFN + nr);
    map(f, 0, BFN + nr, gfn + nr, nr);
    assert_salted(f, gfn + nr, nr, false);
    assert_reaches(f, BFN + nr, gfn + nr);

    g_assert_cmpint(virtio_mem_request(&f->ram, VIRTIO_MEM_REQ_UNPLUG_ALL, 0,
                                       0), ==, VIRTIO_MEM_RESP_ACK);
    pviommu_assert_frames(f->iommu, 0, 0);
    mirror_assert_equal(&f->mirror, 0, 0);
    fixture_free(f);
}

static void test_unplugged_virtio_mem_is_unmapped(const void *machine)
{
    check_virtio_mem(machine, "");
}

/* Parts of the memory that have nothing plugged are not there at all. */
static void test_unplugged_virtio_mem_slots_are_unmapped(const void *machine)
{
    check_virtio_mem(machine, ",dynamic-memslots=on");
}

/*
 * What VFIO would decide about the machine of @props: whether RAM can be
 * discarded in identity mode, and after it; and if it can, that VFIO is
 * notified before.
 */
static void check_pins(const char *machine, const char *props, bool before,
                       bool after)
{
    g_autofree char *args = pviommu_args(machine, props, BALLOON PINS);
    Fixture *f = g_new0(Fixture, 1);

    f->iommu = pviommu_new(qtest_init(args));
    for (unsigned i = 0; i < 2; i++) {
        uint64_t gfn = GFN + i * 16;

        pviommu_probe(f->iommu);
        mirror_init(&f->mirror, f->iommu, QPCI_DEVFN(SLOT, 0));
        virtio_ram_init(&f->ram, f->iommu, QPCI_DEVFN(RAM_SLOT, 0), 3);
        pviommu_accept(f->iommu, XEN_IOMMU_FEATURES_ALL);
        salt(f, gfn, 16);
        balloon_give(&f->ram, BALLOON_INFLATE, gfn, 4);
        assert_salted(f, gfn, 4, !before);
        map(f, 0, 0x1000, gfn + 4, 8);
        watch(f, gfn + 4);
        balloon_give(&f->ram, BALLOON_INFLATE, gfn + 4, 4);
        assert_salted(f, gfn + 4, 4, !after);
        mirror_assert_equal(&f->mirror, 0, after ? 4 : 8);
        if (after) {
            assert_seen_at_unmap(f, gfn + 4);
        }
        virtio_ram_finalize(&f->ram);
        /* With premap=on devices see all memory again. */
        qtest_system_reset(f->iommu->qts);
    }
    pviommu_quit(f->iommu);
    g_free(f);
}

static void test_forbidden_while_pinned(const void *machine)
{
    check_pins(machine, "premap=off", true, true);
    check_pins(machine, "premap=on", false, true);
    /* RAM that the device sees for good */
    check_pins(machine, "\"premap\":false,\"reserved-regions\":"
               "[\"0x8000000:0x8000fff:0\"]", false, false);
    check_pins(machine, "\"premap\":true,\"reserved-regions\":"
               "[\"0xfef00000:0xfef00fff:1\"]", false, false);
    /* The interrupt window is there, whether BFNs can name it or not. */
    check_pins(machine, "premap=off,bfn-bits=19", true, true);
}

/*
 * Properties by which the device in SLOT sees RAM for good, or all others do
 * (@others).
 */
static char *reserved_props(const char *bus, bool others)
{
    g_autofree char *list = g_strdup("");

    for (unsigned slot = 0; slot < PCI_SLOT_MAX; slot++) {
        if ((slot != SLOT) == others) {
            char *old = list;

            list = g_strdup_printf("%s%s\"%s/%02x.0=0x8000000:0x8000fff:0\"",
                                   old, *old ? "," : "", bus, slot);
            g_free(old);
        }
    }
    return g_strdup_printf("\"premap\":false,\"device-reserved-regions\":[%s]",
                           list);
}

/* One page from the balloon, of which the host has or has not the data */
static void check_give(Fixture *f, uint64_t gfn, bool discards)
{
    salt(f, gfn, 1);
    balloon_give(&f->ram, BALLOON_INFLATE, gfn, 1);
    assert_salted(f, gfn, 1, !discards);
}

static void plug_mirror(Fixture *f)
{
    qtest_qmp_device_add(f->iommu->qts, "pviommu-mirror", "m0",
                         "{'addr': '0x11', 'pins': true}");
    mirror_init(&f->mirror, f->iommu, QPCI_DEVFN(SLOT, 0));
}

static void unplug_mirror(Fixture *f)
{
    qpci_unplug_acpi_device_test(f->iommu->qts, "m0", SLOT);
}

/* Devices come and go: what each of them forbids is taken back with it. */
static void check_pins_plug(const char *props, bool before, bool after)
{
    g_autofree char *args = pviommu_args("pc", props, BALLOON);
    Fixture *f = g_new0(Fixture, 1);

    f->iommu = pviommu_new(qtest_init(args));
    pviommu_probe(f->iommu);
    virtio_ram_init(&f->ram, f->iommu, QPCI_DEVFN(RAM_SLOT, 0), 3);
    pviommu_accept(f->iommu, XEN_IOMMU_FEATURES_ALL);

    check_give(f, GFN, true);
    plug_mirror(f);
    check_give(f, GFN, before);
    unplug_mirror(f);
    check_give(f, GFN, true);

    plug_mirror(f);
    check_give(f, GFN, before);
    map(f, 0, BFN, GFN, 8);
    check_give(f, GFN, after);
    mirror_assert_equal(&f->mirror, 0, after ? 7 : 8);
    unplug_mirror(f);
    check_give(f, GFN + 1, true);
    plug_mirror(f);
    check_give(f, GFN + 2, after);
    mirror_assert_equal(&f->mirror, 0, after ? 5 : 7);
    virtio_ram_finalize(&f->ram);
    pviommu_quit(f->iommu);
    g_free(f);
}

static void test_allowed_again_after_unplug(void)
{
    g_autofree char *one = reserved_props("pci.0", false);
    g_autofree char *others = reserved_props("pci.0", true);

    check_pins_plug("premap=off", true, true);
    check_pins_plug("premap=on", false, true);
    check_pins_plug(one, false, false);
    check_pins_plug(others, true, true);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    pviommu_add_for_machines("discard/page-is-unmapped-before",
                             test_page_is_unmapped_before);
    pviommu_add_for_machines("discard/of-unmapped-pages-changes-nothing",
                             test_of_unmapped_pages_changes_nothing);
    pviommu_add_for_machines("discard/page-is-unmapped-in-all-contexts",
                             test_page_is_unmapped_in_all_contexts);
    pviommu_add_for_machines("discard/pending-page-is-dropped",
                             test_pending_page_is_dropped);
    pviommu_add_for_machines("discard/dma-in-flight-ends",
                             test_dma_in_flight_ends);
    pviommu_add_for_machines("discard/free-page-report-unmaps",
                             test_free_page_report_unmaps);
    pviommu_add_for_machines("discard/ram-above-4g-is-found",
                             test_ram_above_4g_is_found);
    pviommu_add_for_machines("discard/aliased-ram-is-unmapped-twice",
                             test_aliased_ram_is_unmapped_twice);
    pviommu_add_for_machines("discard/unplugged-virtio-mem-is-unmapped",
                             test_unplugged_virtio_mem_is_unmapped);
    pviommu_add_for_machines("discard/unplugged-virtio-mem-slots-are-unmapped",
                             test_unplugged_virtio_mem_slots_are_unmapped);
    pviommu_add_for_machines("discard/forbidden-while-pinned",
                             test_forbidden_while_pinned);
    pviommu_add("discard/shared-ram-is-unmapped-before",
                test_shared_ram_is_unmapped_before);
    pviommu_add("discard/allowed-again-after-unplug",
                test_allowed_again_after_unplug);
    return g_test_run();
}
