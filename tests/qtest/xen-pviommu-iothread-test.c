/*
 * xen-pviommu: a device that does DMA in a thread of its own, beside a guest
 * that changes what it sees
 *
 * A virtio-blk with an I/O thread reads zeroes into pages that are mapped for
 * one request each, most of them through a queue: it is the thread that has to
 * run that. Meanwhile the guest makes calls, other devices do DMA, and
 * listeners come and go, and so does RAM beside what it maps. Under a simulated
 * hypervisor, pages leave the guest.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/bswap.h"
#include "libqos/libqos-malloc.h"
#include "libqos/pviommu-mirror.h"
#include "libqos/virtio-pci.h"
#include "libqos/xensim.h"
#include "standard-headers/linux/virtio_blk.h"
#include "standard-headers/linux/virtio_config.h"
#include "standard-headers/linux/virtio_ring.h"

#define SLOT            0x11
#define MIRROR_SLOT     0x12
#define LISTENER_SLOT   0x13

#define DEVICES         "-object iothread,id=io " \
                        "-blockdev null-co,node-name=disk,read-zeroes=on " \
                        "-device '{\"driver\":\"virtio-blk-pci\"," \
                        "\"addr\":\"11\",\"drive\":\"disk\"," \
                        "\"iothread\":\"io\",\"iommu_platform\":true," \
                        "\"disable-legacy\":\"on\"}' " \
                        "-device '{\"driver\":\"pviommu-mirror\"," \
                        "\"addr\":\"12\",\"notifier\":\"none\"}' "

/* Rings and requests: mapped 1:1, as the driver of libqos knows no other */
#define ALLOC_START     0x00100000
#define ALLOC_END       PVIOMMU_OPS_ADDR

/* What requests read into: each has its BFN, and a pool of pages. */
#define DEPTH           8
#define BFN             0x4000000ull
#define GFN             0x4000ull
#define POOL            64
#define SECTOR          512
#define UNTOUCHED       0xdd

/* Places for what others do */
#define MIRROR_BFN      (BFN + 0x100)
#define CALL_BFN        (BFN + 0x200)
#define OTHER_GFN       0x6000ull

/* RAM or ROM, as the host bridge says: with all of RAM one section, or not */
#define BIOS_GFN        0xf0ull
#define BIOS_GFNS       16

#define ADDR(frame)     ((uint64_t)(frame) * PVIOMMU_PAGE)
#define REQUEST(f, i)   ((f)->requests + (i) * 64)
#define STATUS(f, i)    (REQUEST(f, i) + 32)

typedef struct Fixture {
    XenSim *sim;                /* or NULL */
    QXenPVIOMMU *iommu;
    QMirror mirror;
    QMirror listener;
    bool listening;
    QPVIOMMUQueue q;
    bool second;                /* of two places that it can be in */
    uint16_t other;             /* a context of no device */
    QGuestAllocator alloc;
    QVirtioPCIDevice *dev;
    QVirtQueue *vq;
    uint64_t requests;
    uint16_t used;
    uint64_t gfn[DEPTH];        /* 0: not mapped */
    bool changes_map;           /* RAM and ROM change places meanwhile */
    GRand *rand;
} Fixture;

static unsigned below(Fixture *f, unsigned n)
{
    return g_rand_int_range(f->rand, 0, n);
}

/* As a driver does: without a call, unless it takes one. */
static void push(Fixture *f, struct xen_iommu_op op)
{
    if (f->q.tail - pviommu_queue_head(&f->q) == f->q.nr_ops) {
        pviommu_queue_kick(&f->q);
    }
    pviommu_queue_push(&f->q, op);
}

static void publish(Fixture *f)
{
    uint32_t flags = pviommu_queue_flags(&f->q);

    g_assert_cmphex(flags, ==, f->listening ? XEN_IOMMU_QUEUE_doorbell : 0);
    if (flags) {
        pviommu_queue_kick(&f->q);
    }
}

static void new_queue(Fixture *f)
{
    f->second = !f->second;
    pviommu_queue_init(&f->q, f->iommu, 0, PVIOMMU_QUEUE_ADDR +
                       f->second * PVIOMMU_QUEUE_STRIDE, 4u << below(f, 6));
}

/* @machine: or NULL, for a simulated hypervisor that can do @features */
static Fixture *fixture_new(const char *machine, const char *props,
                            const char *features)
{
    const uint64_t not_ours = QVIRTIO_F_BAD_FEATURE |
                              1ull << VIRTIO_RING_F_INDIRECT_DESC |
                              1ull << VIRTIO_RING_F_EVENT_IDX |
                              1ull << VIRTIO_BLK_F_SCSI;
    QPCIAddress addr = { .devfn = QPCI_DEVFN(SLOT, 0) };
    Fixture *f = g_new0(Fixture, 1);
    uint32_t seed = g_test_rand_int();
    QVirtioDevice *vdev;

    g_test_message("seed %u", seed);
    f->rand = g_rand_new_with_seed(seed);
    if (machine) {
        f->iommu = pviommu_start(machine, props, DEVICES);
    } else {
        const XenSimOptions options = { .features = features };
        g_autofree char *args = g_strdup_printf(
            "-device xen-pviommu,addr=%x,%s " DEVICES, PVIOMMU_SLOT, props);

        f->sim = xensim_start(&options, args);
        f->iommu = pviommu_new(f->sim->qts);
        pviommu_probe(f->iommu);
    }
    pviommu_accept(f->iommu, XEN_IOMMU_FEATURES_ALL);
    assert_status(pviommu_map(f->iommu, 0, ALLOC_START / PVIOMMU_PAGE,
                              ALLOC_START / PVIOMMU_PAGE,
                              (ALLOC_END - ALLOC_START) / PVIOMMU_PAGE, 0), 0);
    f->other = pviommu_alloc_context(f->iommu);
    new_queue(f);
    mirror_init(&f->mirror, f->iommu, QPCI_DEVFN(MIRROR_SLOT, 0));

    f->dev = virtio_pci_new(f->iommu->pci, &addr);
    g_assert_nonnull(f->dev);
    vdev = &f->dev->vdev;
    qvirtio_pci_device_enable(f->dev);
    qvirtio_start_device(vdev);
    qvirtio_set_features(vdev, qvirtio_get_features(vdev) & ~not_ours);
    alloc_init(&f->alloc, 0, ALLOC_START, ALLOC_END, PVIOMMU_PAGE);
    f->requests = guest_alloc(&f->alloc, PVIOMMU_PAGE);
    f->vq = qvirtqueue_setup(vdev, &f->alloc, 0);
    g_assert_cmpuint(f->vq->size, >=, 3 * DEPTH);
    qvirtio_set_driver_ok(vdev);
    return f;
}

static void fixture_free(Fixture *f)
{
    qvirtqueue_cleanup(f->dev->vdev.bus, f->vq, &f->alloc);
    guest_free(&f->alloc, f->requests);
    alloc_destroy(&f->alloc);
    qvirtio_pci_destructor(&f->dev->obj);
    g_free(f->dev);
    if (f->sim) {
        pviommu_free(f->iommu);
        xensim_quit(f->sim);
    } else {
        pviommu_quit(f->iommu);
    }
    g_rand_free(f->rand);
    g_free(f);
}

/* The page of request @i is replaced by another one. */
static void remap(Fixture *f, unsigned i)
{
    if (f->gfn[i]) {
        /* Where pages leave, it may be gone before this runs. */
        push(f, f->sim ? pviommu_op_unmap_skip(0, BFN + i, 0)
                       : pviommu_op_unmap(0, BFN + i, 0));
        if (!below(f, 4)) {
            push(f, pviommu_op_flush(0, BFN + i, 0));
        }
    }
    f->gfn[i] = GFN + i * POOL + below(f, POOL);
    qtest_memset(f->iommu->qts, ADDR(f->gfn[i]), UNTOUCHED, 2 * SECTOR);
    push(f, pviommu_op_map(0, BFN + i, f->gfn[i], 0, 0));
    publish(f);
}

static void submit(Fixture *f, unsigned i)
{
    QTestState *qts = f->iommu->qts;
    struct virtio_blk_outhdr hdr = {
        .type = cpu_to_le32(VIRTIO_BLK_T_IN),
        .sector = cpu_to_le64(i),
    };

    qtest_bufwrite(qts, REQUEST(f, i), &hdr, sizeof(hdr));
    qtest_writeb(qts, STATUS(f, i), 0xff);
    /* Each request has its descriptors. */
    f->vq->free_head = 3 * i;
    f->vq->num_free = 3;
    qvirtqueue_add(qts, f->vq, REQUEST(f, i), sizeof(hdr), false, true);
    qvirtqueue_add(qts, f->vq, ADDR(BFN + i), SECTOR, true, true);
    qvirtqueue_add(qts, f->vq, STATUS(f, i), 1, true, false);
    qvirtqueue_kick(qts, &f->dev->vdev, f->vq, 3 * i);
    f->used++;
}

static void wait_used(Fixture *f)
{
    uint64_t at = f->vq->used + offsetof(struct vring_used, idx);
    gint64 end = g_get_monotonic_time() + PVIOMMU_WAIT_US;

    while (qtest_readw(f->iommu->qts, at) != f->used) {
        g_assert_cmpint(g_get_monotonic_time(), <, end);
    }
}

/* It has read a sector into the page that was mapped, and nothing else. */
static void check_request(Fixture *f, unsigned i)
{
    uint8_t expected[2 * SECTOR], got[2 * SECTOR];

    g_assert_cmpuint(qtest_readb(f->iommu->qts, STATUS(f, i)), ==,
                     VIRTIO_BLK_S_OK);
    memset(expected, 0, SECTOR);
    memset(expected + SECTOR, UNTOUCHED, SECTOR);
    qtest_bufread(f->iommu->qts, ADDR(f->gfn[i]), got, sizeof(got));
    g_assert_cmpmem(got, sizeof(got), expected, sizeof(expected));
    qtest_memset(f->iommu->qts, ADDR(f->gfn[i]), UNTOUCHED, SECTOR);
}

/* No page that is not mapped has been written to. */
static void check_pools(Fixture *f)
{
    uint8_t page[2 * SECTOR];

    for (unsigned i = 0; i < DEPTH * POOL; i++) {
        qtest_bufread(f->iommu->qts, ADDR(GFN + i), page, sizeof(page));
        for (unsigned j = 0; j < sizeof(page); j++) {
            g_assert_cmphex(page[j], ==, UNTOUCHED);
        }
    }
}

/* A page of its own for one DMA, and then no more */
static void disturb_by_dma(Fixture *f)
{
    uint64_t bfn = MIRROR_BFN + below(f, 4);
    uint64_t gfn = OTHER_GFN + below(f, 64), data;

    qtest_writeq(f->iommu->qts, ADDR(gfn), ~gfn);
    push(f, pviommu_op_map(0, bfn, gfn, 0, 0));
    publish(f);
    g_assert_true(mirror_dma_read(&f->mirror, ADDR(bfn), &data));
    g_assert_cmphex(data, ==, ~gfn);
    push(f, pviommu_op_unmap(0, bfn, 0));
    publish(f);
    g_assert_false(mirror_dma_write(&f->mirror, ADDR(bfn), 0, 8));
    g_assert_cmphex(qtest_readq(f->iommu->qts, ADDR(gfn)), ==, ~gfn);
}

static void disturb_by_call(Fixture *f)
{
    uint16_t ctx = below(f, 2) ? f->other : 0;
    uint64_t bfn = CALL_BFN + below(f, 64);
    uint32_t nr = 1 + below(f, 600);
    struct xen_iommu_op ops[] = {
        pviommu_op_map(ctx, bfn, OTHER_GFN, nr, 0),
        pviommu_op_lookup_bfn(ctx, bfn + nr - 1),
        pviommu_op_unmap(ctx, bfn, nr),
        pviommu_op_flush(ctx, below(f, 2) ? bfn : XEN_IOMMU_FLUSH_ALL, 0),
    };

    pviommu_run(f->iommu, ops, ARRAY_SIZE(ops));
    for (unsigned i = 0; i < ARRAY_SIZE(ops); i++) {
        assert_status(pviommu_status(&ops[i]), 0);
    }
}

static void show_bios_ram(Fixture *f, bool ram)
{
    pviommu_set_pam(f->iommu, 0, ram ? PVIOMMU_PAM_RAM : PVIOMMU_PAM_ROM);
}

static void disturb(Fixture *f)
{
    if (f->changes_map) {
        for (unsigned i = below(f, 8); i; i--) {
            show_bios_ram(f, i % 2);
        }
    }
    switch (below(f, 12)) {
    case 0:
        disturb_by_dma(f);
        break;
    case 1:
        disturb_by_call(f);
        break;
    case 2:
        assert_status(pviommu_ring(f->iommu, 1, 0, 0, NULL), 0);
        break;
    case 3:
        /* The one of before is run first. */
        if (!below(f, 4)) {
            new_queue(f);
        }
        break;
    }
}

static void run_requests(Fixture *f, unsigned rounds)
{
    uint32_t errors = 0;

    qtest_memset(f->iommu->qts, ADDR(GFN), UNTOUCHED, ADDR(DEPTH * POOL));
    for (unsigned round = 0; round < rounds; round++) {
        unsigned nr = 1 + below(f, DEPTH);

        for (unsigned i = 0; i < nr; i++) {
            remap(f, i);
            submit(f, i);
            disturb(f);
        }
        wait_used(f);
        for (unsigned i = 0; i < nr; i++) {
            check_request(f, i);
        }
        errors += pviommu_queue_errors(&f->q);
    }
    g_assert_cmpuint(errors, ==, 0);
    check_pools(f);
}

static void finish(Fixture *f)
{
    assert_status(pviommu_unmap_skip(f->iommu, 0, BFN, DEPTH), 0);
    assert_status(pviommu_flush_all(f->iommu, 0), 0);
    assert_status(pviommu_flush_all(f->iommu, f->other), 0);
    pviommu_assert_frames(f->iommu, (ALLOC_END - ALLOC_START) / PVIOMMU_PAGE,
                          0);
    fixture_free(f);
}

static void test_requests_reach_their_pages(const void *machine)
{
    Fixture *f = fixture_new(machine, "premap=off,x-check=off", NULL);

    run_requests(f, 800);
    finish(f);
}

/* The same with x-check=on, whichever thread runs the queue */
static void test_requests_keep_references_right(const void *machine)
{
    Fixture *f = fixture_new(machine, "premap=off", NULL);

    run_requests(f, 60);
    finish(f);
}

/* With a listener the queue needs calls; without, the thread runs it again. */
static void test_listeners_come_and_go(void)
{
    Fixture *f = fixture_new("pc", "premap=off,x-check=off", NULL);
    QTestState *qts = f->iommu->qts;

    qtest_memset(qts, ADDR(GFN), UNTOUCHED, ADDR(DEPTH * POOL));
    for (unsigned i = 0; i < 12; i++) {
        /* Requests are under way as it is plugged, and as it is unplugged. */
        remap(f, 0);
        submit(f, 0);
        qtest_qmp_device_add(qts, "pviommu-mirror", "m0", "{'addr':'0x13'}");
        f->listening = true;
        mirror_init(&f->listener, f->iommu, QPCI_DEVFN(LISTENER_SLOT, 0));
        wait_used(f);
        check_request(f, 0);
        run_requests(f, 15);
        remap(f, 0);
        submit(f, 0);
        mirror_assert_sane(&f->listener);
        qpci_unplug_acpi_device_test(qts, "m0", LISTENER_SLOT);
        f->listening = false;
        wait_used(f);
        check_request(f, 0);
        run_requests(f, 15);
    }
    finish(f);
}

static Fixture *fixture_with_bridge(const char *machine)
{
    Fixture *f = fixture_new(machine, "premap=off,x-check=off", NULL);

    f->changes_map = true;
    return f;
}

/*
 * RAM below 1 MiB is added and removed, and all of it becomes another
 * section: what it maps of the rest is neither refused nor dropped.
 */
static void test_memory_map_changes_refuse_nothing(const void *machine)
{
    Fixture *f = fixture_with_bridge(machine);

    run_requests(f, 400);
    show_bios_ram(f, false);
    finish(f);
}

/*
 * The thread maps a page as that stops being RAM: whether the map succeeded or
 * not, it is not mapped afterwards. One that stays is.
 */
static void test_page_that_becomes_rom_is_unmapped(const void *machine)
{
    Fixture *f = fixture_with_bridge(machine);
    const uint64_t bfn = BFN + DEPTH;
    unsigned mapped = 0;

    qtest_memset(f->iommu->qts, ADDR(GFN), UNTOUCHED, ADDR(DEPTH * POOL));
    for (unsigned round = 0; round < 1000; round++) {
        unsigned spare = below(f, 24);
        uint32_t map;

        show_bios_ram(f, true);
        if (f->q.nr_ops < 32) {
            pviommu_queue_init(&f->q, f->iommu, 0, PVIOMMU_QUEUE_ADDR, 32);
        }
        pviommu_queue_kick(&f->q);
        for (unsigned i = 0; i < spare; i++) {
            push(f, pviommu_op_flush(0, BFN, 0));
        }
        map = pviommu_queue_push(&f->q, pviommu_op_map(
            0, bfn, BIOS_GFN + below(f, BIOS_GFNS), 0, 0));
        push(f, pviommu_op_map(0, bfn + 1, OTHER_GFN + below(f, 64), 0, 0));
        remap(f, 0);
        submit(f, 0);
        show_bios_ram(f, false);
        wait_used(f);
        check_request(f, 0);
        pviommu_queue_kick(&f->q);
        mapped += !pviommu_queue_status(&f->q, map);
        pviommu_assert_unmapped(f->iommu, 0, bfn);
        assert_status(pviommu_unmap(f->iommu, 0, bfn + 1, 0), 0);
    }
    g_test_message("mapped first in %u rounds", mapped);
    finish(f);
}

/*
 * Pages leave the guest, from just beside those that the thread maps and reads
 * into, and then those; and come back.
 */
static void test_pages_leave_beside_dma(const void *features)
{
    Fixture *f = fixture_new(NULL, "premap=off,x-check=off", features);

    qtest_memset(f->iommu->qts, ADDR(GFN), UNTOUCHED, ADDR(DEPTH * POOL));
    for (unsigned round = 0; round < 300; round++) {
        unsigned nr = 1 + below(f, DEPTH);
        uint32_t pages[DEPTH];

        for (unsigned i = 0; i < nr; i++) {
            uint64_t gfn;

            remap(f, i);
            submit(f, i);
            /* One of the pool that is not mapped */
            gfn = GFN + i * POOL +
                  (f->gfn[i] - GFN - i * POOL + 1 + below(f, POOL - 1)) % POOL;
            pages[i] = xensim_release(f->sim, gfn, 1);
            xensim_add(f->sim, gfn, 1);
            qtest_memset(f->iommu->qts, ADDR(gfn), UNTOUCHED, ADDR(1));
        }
        wait_used(f);
        for (unsigned i = 0; i < nr; i++) {
            check_request(f, i);
            /* No DMA is under way. */
            g_assert_cmpuint(xensim_mapped(f->sim, pages[i], 1), ==, 0);
        }
        if (!below(f, 4)) {
            unsigned i = below(f, nr);
            uint32_t page = xensim_release(f->sim, f->gfn[i], 1);

            g_assert_cmpuint(xensim_mapped(f->sim, page, 1), ==, 0);
            xensim_add(f->sim, f->gfn[i], 1);
            qtest_memset(f->iommu->qts, ADDR(f->gfn[i]), UNTOUCHED, ADDR(1));
            pviommu_assert_unmapped(f->iommu, 0, BFN + i);
            f->gfn[i] = 0;
        }
    }
    g_assert_cmpuint(pviommu_queue_errors(&f->q), ==, 0);
    check_pools(f);
    finish(f);
}

/* A page leaves while the thread maps it: it is not mapped afterwards. */
static void test_page_that_leaves_is_unmapped(const void *features)
{
    Fixture *f = fixture_new(NULL, "premap=off,x-check=off", features);
    const uint64_t bfn = BFN + DEPTH;

    qtest_memset(f->iommu->qts, ADDR(GFN), UNTOUCHED, ADDR(DEPTH * POOL));
    for (unsigned round = 0; round < 400; round++) {
        uint64_t gfn = OTHER_GFN + below(f, 256);
        unsigned spare = below(f, 16);

        /* The mapcache knows it. */
        qtest_readb(f->iommu->qts, ADDR(gfn));
        for (unsigned i = 0; i < spare; i++) {
            push(f, pviommu_op_flush(0, BFN, 0));
        }
        push(f, pviommu_op_map(0, bfn, gfn, 0, 0));
        remap(f, 0);
        submit(f, 0);
        xensim_release(f->sim, gfn, 1);
        wait_used(f);
        check_request(f, 0);
        pviommu_queue_kick(&f->q);
        pviommu_assert_unmapped(f->iommu, 0, bfn);
        xensim_add(f->sim, gfn, 1);
    }
    finish(f);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    pviommu_add_for_machines("iothread/requests-reach-their-pages",
                             test_requests_reach_their_pages);
    pviommu_add_for_machines("iothread/requests-keep-references-right",
                             test_requests_keep_references_right);
    pviommu_add("iothread/listeners-come-and-go", test_listeners_come_and_go);
    pviommu_add_for_machines("iothread/memory-map-changes-refuse-nothing",
                             test_memory_map_changes_refuse_nothing);
    pviommu_add_for_machines("iothread/page-that-becomes-rom-is-unmapped",
                             test_page_that_becomes_rom_is_unmapped);
    if (g_getenv("XENSIM_DIR")) {
        pviommu_add_data("iothread/pages-leave-beside-dma/split",
                         "invalidate-page", test_pages_leave_beside_dma);
        pviommu_add_data("iothread/pages-leave-beside-dma/whole",
                         "invalidate-page,whole-maps",
                         test_pages_leave_beside_dma);
        pviommu_add_data("iothread/page-that-leaves-is-unmapped",
                         "invalidate-page", test_page_that_leaves_is_unmapped);
    }
    return g_test_run();
}
