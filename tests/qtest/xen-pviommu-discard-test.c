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

typedef struct Bench {
    QXenPVIOMMU *iommu;
    QMirror mirror;             /* as VFIO */
    QMirror cache;              /* as vhost */
    QVirtioRam ram;
} Bench;

/* A machine with a mirror, a cache, and what @device says, in RAM_SLOT. */
static Bench *bench_new(const char *machine, const char *props,
                        const char *device, unsigned nr_queues)
{
    g_autofree char *extra =
        g_strdup_printf("%s " MIRROR_DEVICE("map") MIRROR_DEVICE("deviotlb"),
                        device, SLOT, SLOT + 1);
    Bench *b = g_new0(Bench, 1);

    b->iommu = pviommu_start(machine, props, extra);
    mirror_init(&b->mirror, b->iommu, QPCI_DEVFN(SLOT, 0));
    mirror_init(&b->cache, b->iommu, QPCI_DEVFN(SLOT + 1, 0));
    virtio_ram_init(&b->ram, b->iommu, QPCI_DEVFN(RAM_SLOT, 0), nr_queues);
    pviommu_accept(b->iommu, XEN_IOMMU_FEATURES_ALL);
    pviommu_fault_ring(b->iommu, 64);
    return b;
}

static void bench_free(Bench *b)
{
    mirror_assert_sane(&b->mirror);
    mirror_assert_sane(&b->cache);
    virtio_ram_finalize(&b->ram);
    pviommu_quit(b->iommu);
    g_free(b);
}

static void map(Bench *b, uint16_t ctx, uint64_t bfn, uint64_t gfn, uint32_t nr)
{
    assert_status(pviommu_map(b->iommu, ctx, bfn, gfn, nr, 0), 0);
}

static void salt(Bench *b, uint64_t gfn, unsigned nr)
{
    for (unsigned i = 0; i < nr; i++) {
        qtest_writeq(b->iommu->qts, ADDR(gfn + i), SALT(gfn + i));
    }
}

/* The host has, or has not, what these pages held. */
static void assert_salted(Bench *b, uint64_t gfn, unsigned nr, bool salted)
{
    for (unsigned i = 0; i < nr; i++) {
        g_assert_cmphex(qtest_readq(b->iommu->qts, ADDR(gfn + i)), ==,
                        salted ? SALT(gfn + i) : 0);
    }
}

/* From here on the mirror notes what is at @gfn as it has to let go. */
static void watch(Bench *b, uint64_t gfn)
{
    mirror_clear(&b->mirror);
    mirror_write(&b->mirror, REG(WATCH), ADDR(gfn));
}

/* It had to, and then the page was still there. */
static void assert_told_before(Bench *b, uint64_t gfn)
{
    g_assert_cmphex(mirror_read(&b->mirror, REG(SEEN)), ==, SALT(gfn));
}

static void assert_invalidated(Bench *b, uint64_t frames)
{
    g_assert_cmpuint(pviommu_counter(b->iommu, XEN_PVIOMMU_COUNTER_INVALIDATED),
                     ==, frames);
}

/* DMA at @bfn does not get anywhere, and is a fault. */
static void assert_fault(Bench *b, uint64_t bfn)
{
    uint32_t tail = pviommu_readl(b->iommu, XEN_PVIOMMU_REG_FAULT_TAIL);
    uint64_t data;

    pviommu_assert_unmapped(b->iommu, 0, bfn);
    g_assert_false(mirror_dma_write(&b->mirror, ADDR(bfn), 1, 8));
    pviommu_wait_faults(b->iommu, tail + 1);
    pviommu_assert_fault(b->iommu, tail, b->mirror.sbdf, 0, ADDR(bfn), true,
                         XEN_IOMMU_FAULT_REASON_unmapped);
    g_assert_false(mirror_dma_read(&b->mirror, ADDR(bfn), &data));
    pviommu_wait_faults(b->iommu, tail + 2);
    pviommu_writel(b->iommu, XEN_PVIOMMU_REG_FAULT_HEAD, tail + 2);
}

/* DMA at @bfn reaches @gfn. */
static void assert_reaches(Bench *b, uint64_t bfn, uint64_t gfn)
{
    uint64_t at = ADDR(gfn) + 8, data;

    qtest_writeq(b->iommu->qts, at, ~SALT(gfn));
    g_assert_true(mirror_dma_read(&b->mirror, ADDR(bfn) + 8, &data));
    g_assert_cmphex(data, ==, ~SALT(gfn));
    g_assert_true(mirror_dma_write(&b->mirror, ADDR(bfn) + 8, data + 1, 8));
    g_assert_cmphex(qtest_readq(b->iommu->qts, at), ==, data + 1);
}

/* One page out of the middle of a block that was mapped as one */
static void check_page(Bench *b)
{
    const unsigned n = 5;

    map(b, 0, BFN, GFN, BLOCK);
    salt(b, GFN, BLOCK);
    g_assert_true(mirror_fill(&b->cache, ADDR(BFN + n), true));
    mirror_assert_equal(&b->mirror, 0, BLOCK);
    watch(b, GFN + n);
    balloon_give(&b->ram, BALLOON_INFLATE, GFN + n, 1);

    assert_told_before(b, GFN + n);
    mirror_assert_no_page(&b->cache, BFN + n);
    mirror_assert_equal(&b->mirror, 0, BLOCK - 1);
    pviommu_assert_mapped(b->iommu, 0, BFN, GFN, n, 0);
    pviommu_assert_mapped(b->iommu, 0, BFN + n + 1, GFN + n + 1, BLOCK - n - 1,
                          0);
    pviommu_assert_frames(b->iommu, BLOCK - 1, 0);
    assert_invalidated(b, 1);
    assert_fault(b, BFN + n);
    assert_salted(b, GFN, n, true);
    assert_salted(b, GFN + n, 1, false);
    assert_salted(b, GFN + n + 1, BLOCK - n - 1, true);
    assert_reaches(b, BFN + n - 1, GFN + n - 1);
    assert_reaches(b, BFN + n + 1, GFN + n + 1);

    /* Deflating gives no mapping back; but there is a page to map again. */
    balloon_give(&b->ram, BALLOON_DEFLATE, GFN + n, 1);
    assert_fault(b, BFN + n);
    map(b, 0, BFN + n, GFN + n, 0);
    assert_reaches(b, BFN + n, GFN + n);
    mirror_assert_equal(&b->mirror, 0, BLOCK);
}

static void test_page(const void *machine)
{
    Bench *b = bench_new(machine, "premap=off", BALLOON, 3);

    check_page(b);
    bench_free(b);
}

/* RAM that is a file, and shared with others */
static void test_shared(void)
{
    Bench *b = bench_new("pc,memory-backend=ram", "premap=off",
                         "-object memory-backend-memfd,id=ram,size=256M,"
                         "share=on " BALLOON, 3);

    check_page(b);
    bench_free(b);
}

/* What was given is not mapped, or what is mapped was not given. */
static void test_nothing_given(const void *machine)
{
    Bench *b = bench_new(machine, NULL, BALLOON, 3);

    /* Given, but not mapped: neither now nor before the big switch. */
    salt(b, GFN, 64);
    balloon_give(&b->ram, BALLOON_INFLATE, GFN, 32);
    assert_salted(b, GFN, 32, false);
    /* Until then devices see all memory, what was given back included. */
    assert_reaches(b, GFN, GFN);

    map(b, 0, BFN, GFN + 64, 64);
    mirror_clear(&b->mirror);
    balloon_give(&b->ram, BALLOON_INFLATE, GFN + 32, 32);
    assert_salted(b, GFN + 32, 32, false);
    mirror_assert_told(&b->mirror, 0, 0);
    /* Mapped, but not given */
    balloon_give(&b->ram, BALLOON_DEFLATE, GFN + 64, 64);
    /* No page of RAM at all: the firmware, and nothing */
    assert_status(pviommu_map(b->iommu, 0, BFN + 64,
                              PVIOMMU_BIOS_ADDR / PVIOMMU_PAGE, 1,
                              XEN_IOMMUOP_map_readonly), 0);
    balloon_give(&b->ram, BALLOON_INFLATE, PVIOMMU_BIOS_ADDR / PVIOMMU_PAGE, 1);
    balloon_give(&b->ram, BALLOON_INFLATE, PVIOMMU_RAM_GFNS, 16);
    pviommu_assert_mapped(b->iommu, 0, BFN, GFN + 64, 64, 0);
    pviommu_assert_frames(b->iommu, 65, 0);
    assert_invalidated(b, 0);
    bench_free(b);
}

/* A page at several BFNs, in several contexts, read-only and not */
static void test_everywhere(const void *machine)
{
    Bench *b = bench_new(machine, "premap=off", BALLOON, 3);
    uint16_t ctx = pviommu_alloc_context(b->iommu);
    uint16_t empty = pviommu_alloc_context(b->iommu);

    assert_status(pviommu_attach(b->iommu, b->cache.sbdf, ctx), 0);
    map(b, 0, BFN, GFN, 8);
    map(b, 0, BFN + 0x100, GFN + 3, 1);
    map(b, 0, BFN + 0x207, GFN, 8);
    map(b, ctx, BFN, GFN + 2, 4);
    assert_status(pviommu_map(b->iommu, ctx, BFN + 0x300, GFN, 8,
                              XEN_IOMMUOP_map_readonly), 0);
    map(b, empty, 0x1000, GFN + 3, 1);
    salt(b, GFN, 8);
    g_assert_true(mirror_fill(&b->cache, ADDR(BFN + 1), true));
    g_assert_true(mirror_fill(&b->cache, ADDR(BFN + 0x303), false));
    watch(b, GFN + 3);
    balloon_give(&b->ram, BALLOON_INFLATE, GFN + 3, 1);

    assert_told_before(b, GFN + 3);
    assert_invalidated(b, 6);
    pviommu_assert_frames(b->iommu, 8 + 1 + 8 + 4 + 8 + 1 - 6, 0);
    assert_fault(b, BFN + 3);
    assert_fault(b, BFN + 0x100);
    assert_fault(b, BFN + 0x207 + 3);
    pviommu_assert_unmapped(b->iommu, ctx, BFN + 1);
    pviommu_assert_unmapped(b->iommu, ctx, BFN + 0x303);
    pviommu_assert_unmapped(b->iommu, empty, 0x1000);
    mirror_assert_equal(&b->mirror, 0, 14);
    mirror_assert_no_page(&b->cache, BFN + 1);
    mirror_assert_no_page(&b->cache, BFN + 0x303);
    pviommu_assert_mapped(b->iommu, ctx, BFN + 2, GFN + 4, 2, 0);
    pviommu_assert_mapped(b->iommu, ctx, BFN + 0x304, GFN + 4, 4,
                          XEN_IOMMUOP_map_readonly);
    assert_salted(b, GFN + 3, 1, false);
    bench_free(b);
}

/* Unmapped, but not flushed: what VFIO has of it must go as well. */
static void test_pending(const void *machine)
{
    Bench *b = bench_new(machine, "premap=off", BALLOON, 3);

    map(b, 0, BFN, GFN, 8);
    salt(b, GFN, 8);
    assert_status(pviommu_unmap(b->iommu, 0, BFN, 8), 0);
    mirror_assert_page(&b->mirror, BFN + 3, GFN + 3, RW);
    watch(b, GFN + 3);
    balloon_give(&b->ram, BALLOON_INFLATE, GFN + 3, 1);
    assert_told_before(b, GFN + 3);
    mirror_assert_no_page(&b->mirror, BFN + 3);
    pviommu_assert_frames(b->iommu, 0, 7);
    assert_salted(b, GFN + 3, 1, false);
    balloon_give(&b->ram, BALLOON_INFLATE, GFN, 8);
    pviommu_assert_frames(b->iommu, 0, 0);

    /* The BFN is in use again, with another page: that one stays. */
    map(b, 0, BFN, GFN + 16, 8);
    assert_status(pviommu_unmap(b->iommu, 0, BFN, 8), 0);
    map(b, 0, BFN, GFN + 32, 8);
    balloon_give(&b->ram, BALLOON_INFLATE, GFN + 16, 8);
    pviommu_assert_frames(b->iommu, 8, 0);
    mirror_assert_equal(&b->mirror, 0, 8);
    assert_reaches(b, BFN + 7, GFN + 39);
    bench_free(b);
}

/* DMA that is under way ends in the page it began in; there is no next. */
static void test_in_flight(const void *machine)
{
    Bench *b = bench_new(machine, "premap=off", BALLOON, 3);
    QTestState *qts = b->iommu->qts;

    map(b, 0, BFN, GFN, 4);
    salt(b, GFN, 4);
    g_assert_cmpuint(mirror_hold(&b->mirror, 0, ADDR(BFN), ADDR(2ull), true),
                     ==, ADDR(2ull));
    g_assert_cmpuint(mirror_hold(&b->mirror, 1, ADDR(BFN + 2), ADDR(2ull),
                                 false), ==, ADDR(2ull));
    balloon_give(&b->ram, BALLOON_INFLATE, GFN, 4);
    pviommu_assert_frames(b->iommu, 0, 0);
    assert_salted(b, GFN, 4, false);
    g_assert_cmphex(mirror_touch_read(&b->mirror, 1, 0), ==, 0);
    mirror_touch_write(&b->mirror, 0, 16, 0x1234);
    g_assert_cmphex(qtest_readq(qts, ADDR(GFN) + 16), ==, 0x1234);
    assert_fault(b, BFN);
    mirror_release(&b->mirror, 0, ADDR(2ull));
    mirror_release(&b->mirror, 1, ADDR(2ull));
    assert_fault(b, BFN + 1);
    bench_free(b);
}

/* A guest that says what is free: large pieces, and without asking back */
static void test_report(const void *machine)
{
    Bench *b = bench_new(machine, "premap=off",
                         "-device virtio-balloon-pci,addr=14,"
                         "free-page-reporting=on", 4);

    map(b, 0, BFN, GFN, 3 * BLOCK);
    map(b, 0, BFN + 4 * BLOCK, GFN + BLOCK, BLOCK);
    assert_status(pviommu_unmap(b->iommu, 0, BFN + 4 * BLOCK, BLOCK), 0);
    salt(b, GFN, 3 * BLOCK);
    watch(b, GFN + BLOCK);
    balloon_report(&b->ram, ADDR(GFN + BLOCK), ADDR(BLOCK));
    assert_told_before(b, GFN + BLOCK);
    assert_salted(b, GFN + BLOCK, BLOCK, false);
    pviommu_assert_mapped(b->iommu, 0, BFN, GFN, BLOCK, 0);
    pviommu_assert_mapped(b->iommu, 0, BFN + 2 * BLOCK, GFN + 2 * BLOCK, BLOCK,
                          0);
    pviommu_assert_frames(b->iommu, 2 * BLOCK, 0);
    mirror_assert_equal(&b->mirror, 0, 2 * BLOCK);
    assert_fault(b, BFN + BLOCK);
    assert_fault(b, BFN + 2 * BLOCK - 1);
    bench_free(b);
}

/* A page's place in RAM is not its place in the machine. */
static void test_above_4g(const void *machine)
{
    g_autofree char *split = g_strdup_printf("%s,max-ram-below-4g=128M",
                                             (const char *)machine);
    Bench *b = bench_new(split, "premap=off", BALLOON, 3);
    const uint64_t low = PVIOMMU_RAM_GFNS / 2, high = 0x100000;

    map(b, 0, BFN, low - 1, 1);
    map(b, 0, BFN + 1, high, 8);
    salt(b, high, 8);
    salt(b, low - 1, 1);
    watch(b, high);
    balloon_give(&b->ram, BALLOON_INFLATE, high, 2);
    assert_told_before(b, high);
    assert_fault(b, BFN + 1);
    assert_fault(b, BFN + 2);
    assert_salted(b, high, 2, false);
    pviommu_assert_mapped(b->iommu, 0, BFN, low - 1, 1, 0);
    pviommu_assert_frames(b->iommu, 7, 0);
    balloon_give(&b->ram, BALLOON_INFLATE, low - 1, 1);
    pviommu_assert_frames(b->iommu, 6, 0);
    assert_salted(b, low - 1, 1, false);
    bench_free(b);
}

/* RAM that the guest has at two places goes from both. */
static void test_alias(const void *machine)
{
    g_autofree char *device =
        g_strdup_printf(BALLOON "-device pviommu-mirror,addr=15,alias=0x%"
                        PRIx64, (uint64_t)ADDR(GFN));
    Bench *b = bench_new(machine, "premap=off", device, 3);
    QMirror aliased;
    uint64_t bar;

    mirror_init(&aliased, b->iommu, QPCI_DEVFN(0x15, 0));
    bar = qpci_iomap(&aliased.dev, PVIOMMU_MIRROR_ALIAS_BAR, NULL).addr;
    salt(b, GFN, 8);
    g_assert_cmphex(qtest_readq(b->iommu->qts, bar), ==, SALT(GFN));

    map(b, 0, BFN, GFN, 8);
    map(b, 0, BFN + 8, bar / PVIOMMU_PAGE, 8);
    mirror_assert_equal(&b->mirror, 0, 16);
    balloon_give(&b->ram, BALLOON_INFLATE, GFN + 1, 1);
    assert_fault(b, BFN + 1);
    assert_fault(b, BFN + 9);
    balloon_give(&b->ram, BALLOON_INFLATE, bar / PVIOMMU_PAGE + 6, 1);
    assert_fault(b, BFN + 6);
    assert_fault(b, BFN + 14);
    mirror_assert_equal(&b->mirror, 0, 12);
    assert_reaches(b, BFN + 15, GFN + 7);
    bench_free(b);
}

static void set_plugged(Bench *b, uint64_t gfn, unsigned blocks, bool plugged)
{
    g_assert_cmpint(virtio_mem_request(&b->ram, plugged ? VIRTIO_MEM_REQ_PLUG
                                                        : VIRTIO_MEM_REQ_UNPLUG,
                                       ADDR(gfn), blocks),
                    ==, VIRTIO_MEM_RESP_ACK);
}

static Bench *bench_new_mem(const char *machine, const char *props,
                            const char *mem_props, uint64_t *gfn, uint64_t *nr)
{
    g_autofree char *device =
        g_strdup_printf("-m maxmem=1G -object memory-backend-ram,id=mem,"
                        "size=128M -device virtio-mem-pci,addr=14,memdev=mem,"
                        "id=vmem,requested-size=128M%s", mem_props);
    Bench *b = bench_new(machine, props, device, 1);

    *gfn = virtio_mem_addr(&b->ram) / PVIOMMU_PAGE;
    *nr = virtio_mem_block_size(&b->ram) / PVIOMMU_PAGE;
    return b;
}

/* What is not plugged is no memory; what is unplugged is none any more. */
static void check_virtio_mem(const char *machine, const char *mem_props)
{
    uint64_t gfn, nr;
    Bench *b = bench_new_mem(machine, "premap=off", mem_props, &gfn, &nr);
    int not_there = pviommu_map(b->iommu, 0, BFN, gfn, 1, 0);

    assert_status(not_there, XEN_IOMMU_ENOENT);
    set_plugged(b, gfn, 3, true);
    map(b, 0, BFN, gfn, 3 * nr);
    assert_status(pviommu_map(b->iommu, 0, BFN + 4 * nr, gfn + 3 * nr - 1, 2,
                              0), XEN_IOMMU_ENOENT);
    salt(b, gfn, 3 * nr);
    mirror_assert_equal(&b->mirror, 0, 3 * nr);
    watch(b, gfn + nr);
    set_plugged(b, gfn + nr, 1, false);
    assert_told_before(b, gfn + nr);
    mirror_assert_equal(&b->mirror, 0, 2 * nr);
    assert_invalidated(b, nr);
    assert_fault(b, BFN + nr);
    assert_fault(b, BFN + 2 * nr - 1);
    pviommu_assert_mapped(b->iommu, 0, BFN, gfn, nr, 0);
    pviommu_assert_mapped(b->iommu, 0, BFN + 2 * nr, gfn + 2 * nr, nr, 0);
    assert_reaches(b, BFN + nr - 1, gfn + nr - 1);
    assert_status(pviommu_map(b->iommu, 0, BFN + nr, gfn + nr, nr, 0),
                  XEN_IOMMU_ENOENT);
    assert_status(pviommu_map(b->iommu, 0, BFN + nr, gfn + nr, 1,
                              XEN_IOMMUOP_map_readonly), XEN_IOMMU_ENOENT);

    /* Plugged again, it is new memory. */
    set_plugged(b, gfn + nr, 1, true);
    assert_fault(b, BFN + nr);
    map(b, 0, BFN + nr, gfn + nr, nr);
    assert_salted(b, gfn + nr, nr, false);
    assert_reaches(b, BFN + nr, gfn + nr);

    g_assert_cmpint(virtio_mem_request(&b->ram, VIRTIO_MEM_REQ_UNPLUG_ALL, 0,
                                       0), ==, VIRTIO_MEM_RESP_ACK);
    pviommu_assert_frames(b->iommu, 0, 0);
    mirror_assert_equal(&b->mirror, 0, 0);
    bench_free(b);
}

static void test_virtio_mem(const void *machine)
{
    check_virtio_mem(machine, "");
}

/* Parts of the memory that have nothing plugged are not there at all. */
static void test_virtio_mem_slots(const void *machine)
{
    check_virtio_mem(machine, ",dynamic-memslots=on");
}

/*
 * What VFIO would decide about the machine of @props: whether RAM can be
 * discarded before the big switch, and after it; and if it can, that VFIO is
 * told before.
 */
static void check_pins(const char *machine, const char *props, bool before,
                       bool after)
{
    g_autofree char *args = pviommu_args(machine, props, BALLOON PINS);
    Bench *b = g_new0(Bench, 1);

    b->iommu = pviommu_new(qtest_init(args));
    for (unsigned i = 0; i < 2; i++) {
        uint64_t gfn = GFN + i * 16;

        pviommu_probe(b->iommu);
        mirror_init(&b->mirror, b->iommu, QPCI_DEVFN(SLOT, 0));
        virtio_ram_init(&b->ram, b->iommu, QPCI_DEVFN(RAM_SLOT, 0), 3);
        pviommu_accept(b->iommu, XEN_IOMMU_FEATURES_ALL);
        salt(b, gfn, 16);
        balloon_give(&b->ram, BALLOON_INFLATE, gfn, 4);
        assert_salted(b, gfn, 4, !before);
        map(b, 0, 0x1000, gfn + 4, 8);
        watch(b, gfn + 4);
        balloon_give(&b->ram, BALLOON_INFLATE, gfn + 4, 4);
        assert_salted(b, gfn + 4, 4, !after);
        mirror_assert_equal(&b->mirror, 0, after ? 4 : 8);
        if (after) {
            assert_told_before(b, gfn + 4);
        }
        virtio_ram_finalize(&b->ram);
        /* With premap=on devices see all memory again. */
        qtest_system_reset(b->iommu->qts);
    }
    pviommu_quit(b->iommu);
    g_free(b);
}

static void test_pins(const void *machine)
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
static void check_give(Bench *b, uint64_t gfn, bool discards)
{
    salt(b, gfn, 1);
    balloon_give(&b->ram, BALLOON_INFLATE, gfn, 1);
    assert_salted(b, gfn, 1, !discards);
}

static void plug_mirror(Bench *b)
{
    qtest_qmp_device_add(b->iommu->qts, "pviommu-mirror", "m0",
                         "{'addr': '0x11', 'pins': true}");
    mirror_init(&b->mirror, b->iommu, QPCI_DEVFN(SLOT, 0));
}

static void unplug_mirror(Bench *b)
{
    qpci_unplug_acpi_device_test(b->iommu->qts, "m0", SLOT);
}

/* Devices come and go: what each of them forbids is taken back with it. */
static void check_pins_plug(const char *props, bool before, bool after)
{
    g_autofree char *args = pviommu_args("pc", props, BALLOON);
    Bench *b = g_new0(Bench, 1);

    b->iommu = pviommu_new(qtest_init(args));
    pviommu_probe(b->iommu);
    virtio_ram_init(&b->ram, b->iommu, QPCI_DEVFN(RAM_SLOT, 0), 3);
    pviommu_accept(b->iommu, XEN_IOMMU_FEATURES_ALL);

    check_give(b, GFN, true);
    plug_mirror(b);
    check_give(b, GFN, before);
    unplug_mirror(b);
    check_give(b, GFN, true);

    plug_mirror(b);
    check_give(b, GFN, before);
    map(b, 0, BFN, GFN, 8);
    check_give(b, GFN, after);
    mirror_assert_equal(&b->mirror, 0, after ? 7 : 8);
    unplug_mirror(b);
    check_give(b, GFN + 1, true);
    plug_mirror(b);
    check_give(b, GFN + 2, after);
    mirror_assert_equal(&b->mirror, 0, after ? 5 : 7);
    virtio_ram_finalize(&b->ram);
    pviommu_quit(b->iommu);
    g_free(b);
}

static void test_pins_plug(void)
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
    pviommu_add_for_machines("discard/page", test_page);
    pviommu_add_for_machines("discard/nothing", test_nothing_given);
    pviommu_add_for_machines("discard/everywhere", test_everywhere);
    pviommu_add_for_machines("discard/pending", test_pending);
    pviommu_add_for_machines("discard/in-flight", test_in_flight);
    pviommu_add_for_machines("discard/report", test_report);
    pviommu_add_for_machines("discard/above-4g", test_above_4g);
    pviommu_add_for_machines("discard/alias", test_alias);
    pviommu_add_for_machines("discard/virtio-mem", test_virtio_mem);
    pviommu_add_for_machines("discard/virtio-mem-slots", test_virtio_mem_slots);
    pviommu_add_for_machines("discard/pins", test_pins);
    qtest_add_func("/xen-pviommu/discard/shared", test_shared);
    qtest_add_func("/xen-pviommu/discard/pins-plug", test_pins_plug);
    return g_test_run();
}
