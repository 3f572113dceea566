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
#define REQUEST(b, i)   ((b)->requests + (i) * 64)
#define STATUS(b, i)    (REQUEST(b, i) + 32)

typedef struct Bench {
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
    uint8_t pam;                /* a register of the host bridge; or 0 */
    GRand *rand;
} Bench;

static unsigned below(Bench *b, unsigned n)
{
    return g_rand_int_range(b->rand, 0, n);
}

/* As a driver does: without a call, unless it takes one. */
static void push(Bench *b, struct xen_iommu_op op)
{
    if (b->q.tail - pviommu_queue_head(&b->q) == b->q.nr_ops) {
        pviommu_queue_kick(&b->q);
    }
    pviommu_queue_push(&b->q, op);
}

static void publish(Bench *b)
{
    uint32_t flags = pviommu_queue_flags(&b->q);

    g_assert_cmphex(flags, ==, b->listening ? XEN_IOMMU_QUEUE_doorbell : 0);
    if (flags) {
        pviommu_queue_kick(&b->q);
    }
}

static void new_queue(Bench *b)
{
    b->second = !b->second;
    pviommu_queue_init(&b->q, b->iommu, 0, PVIOMMU_QUEUE_ADDR +
                       b->second * PVIOMMU_QUEUE_STRIDE, 4u << below(b, 6));
}

/* @machine: or NULL, for a simulated hypervisor that can do @features */
static Bench *bench_new(const char *machine, const char *props,
                        const char *features)
{
    const uint64_t not_ours = QVIRTIO_F_BAD_FEATURE |
                              1ull << VIRTIO_RING_F_INDIRECT_DESC |
                              1ull << VIRTIO_RING_F_EVENT_IDX |
                              1ull << VIRTIO_BLK_F_SCSI;
    QPCIAddress addr = { .devfn = QPCI_DEVFN(SLOT, 0) };
    Bench *b = g_new0(Bench, 1);
    uint32_t seed = g_test_rand_int();
    QVirtioDevice *vdev;

    g_test_message("seed %u", seed);
    b->rand = g_rand_new_with_seed(seed);
    if (machine) {
        b->iommu = pviommu_start(machine, props, DEVICES);
    } else {
        const XenSimOptions options = { .features = features };
        g_autofree char *args = g_strdup_printf(
            "-device xen-pviommu,addr=%x,%s " DEVICES, PVIOMMU_SLOT, props);

        b->sim = xensim_start(&options, args);
        b->iommu = pviommu_new(b->sim->qts);
        pviommu_probe(b->iommu);
    }
    pviommu_accept(b->iommu, XEN_IOMMU_FEATURES_ALL);
    assert_status(pviommu_map(b->iommu, 0, ALLOC_START / PVIOMMU_PAGE,
                              ALLOC_START / PVIOMMU_PAGE,
                              (ALLOC_END - ALLOC_START) / PVIOMMU_PAGE, 0), 0);
    b->other = pviommu_alloc_context(b->iommu);
    new_queue(b);
    mirror_init(&b->mirror, b->iommu, QPCI_DEVFN(MIRROR_SLOT, 0));

    b->dev = virtio_pci_new(b->iommu->pci, &addr);
    g_assert_nonnull(b->dev);
    vdev = &b->dev->vdev;
    qvirtio_pci_device_enable(b->dev);
    qvirtio_start_device(vdev);
    qvirtio_set_features(vdev, qvirtio_get_features(vdev) & ~not_ours);
    alloc_init(&b->alloc, 0, ALLOC_START, ALLOC_END, PVIOMMU_PAGE);
    b->requests = guest_alloc(&b->alloc, PVIOMMU_PAGE);
    b->vq = qvirtqueue_setup(vdev, &b->alloc, 0);
    g_assert_cmpuint(b->vq->size, >=, 3 * DEPTH);
    qvirtio_set_driver_ok(vdev);
    return b;
}

static void bench_free(Bench *b)
{
    qvirtqueue_cleanup(b->dev->vdev.bus, b->vq, &b->alloc);
    guest_free(&b->alloc, b->requests);
    alloc_destroy(&b->alloc);
    qvirtio_pci_destructor(&b->dev->obj);
    g_free(b->dev);
    if (b->sim) {
        pviommu_free(b->iommu);
        xensim_quit(b->sim);
    } else {
        pviommu_quit(b->iommu);
    }
    g_rand_free(b->rand);
    g_free(b);
}

/* The page of request @i goes, and another one comes. */
static void remap(Bench *b, unsigned i)
{
    if (b->gfn[i]) {
        /* Where pages leave, it may be gone before this runs. */
        push(b, b->sim ? pviommu_op_unmap_holes(0, BFN + i, 0)
                       : pviommu_op_unmap(0, BFN + i, 0));
        if (!below(b, 4)) {
            push(b, pviommu_op_flush(0, BFN + i, 0));
        }
    }
    b->gfn[i] = GFN + i * POOL + below(b, POOL);
    qtest_memset(b->iommu->qts, ADDR(b->gfn[i]), UNTOUCHED, 2 * SECTOR);
    push(b, pviommu_op_map(0, BFN + i, b->gfn[i], 0, 0));
    publish(b);
}

static void submit(Bench *b, unsigned i)
{
    QTestState *qts = b->iommu->qts;
    struct virtio_blk_outhdr hdr = {
        .type = cpu_to_le32(VIRTIO_BLK_T_IN),
        .sector = cpu_to_le64(i),
    };

    qtest_bufwrite(qts, REQUEST(b, i), &hdr, sizeof(hdr));
    qtest_writeb(qts, STATUS(b, i), 0xff);
    /* Each request has its descriptors. */
    b->vq->free_head = 3 * i;
    b->vq->num_free = 3;
    qvirtqueue_add(qts, b->vq, REQUEST(b, i), sizeof(hdr), false, true);
    qvirtqueue_add(qts, b->vq, ADDR(BFN + i), SECTOR, true, true);
    qvirtqueue_add(qts, b->vq, STATUS(b, i), 1, true, false);
    qvirtqueue_kick(qts, &b->dev->vdev, b->vq, 3 * i);
    b->used++;
}

static void wait_used(Bench *b)
{
    uint64_t at = b->vq->used + offsetof(struct vring_used, idx);
    gint64 end = g_get_monotonic_time() + PVIOMMU_WAIT_US;

    while (qtest_readw(b->iommu->qts, at) != b->used) {
        g_assert_cmpint(g_get_monotonic_time(), <, end);
    }
}

/* It has read a sector into the page that was mapped, and nothing else. */
static void check_request(Bench *b, unsigned i)
{
    uint8_t expected[2 * SECTOR], got[2 * SECTOR];

    g_assert_cmpuint(qtest_readb(b->iommu->qts, STATUS(b, i)), ==,
                     VIRTIO_BLK_S_OK);
    memset(expected, 0, SECTOR);
    memset(expected + SECTOR, UNTOUCHED, SECTOR);
    qtest_bufread(b->iommu->qts, ADDR(b->gfn[i]), got, sizeof(got));
    g_assert_cmpmem(got, sizeof(got), expected, sizeof(expected));
    qtest_memset(b->iommu->qts, ADDR(b->gfn[i]), UNTOUCHED, SECTOR);
}

/* No page that is not mapped has been written to. */
static void check_pools(Bench *b)
{
    uint8_t page[2 * SECTOR];

    for (unsigned i = 0; i < DEPTH * POOL; i++) {
        qtest_bufread(b->iommu->qts, ADDR(GFN + i), page, sizeof(page));
        for (unsigned j = 0; j < sizeof(page); j++) {
            g_assert_cmphex(page[j], ==, UNTOUCHED);
        }
    }
}

/* A page of its own for one DMA, and then no more */
static void disturb_by_dma(Bench *b)
{
    uint64_t bfn = MIRROR_BFN + below(b, 4);
    uint64_t gfn = OTHER_GFN + below(b, 64), data;

    qtest_writeq(b->iommu->qts, ADDR(gfn), ~gfn);
    push(b, pviommu_op_map(0, bfn, gfn, 0, 0));
    publish(b);
    g_assert_true(mirror_dma_read(&b->mirror, ADDR(bfn), &data));
    g_assert_cmphex(data, ==, ~gfn);
    push(b, pviommu_op_unmap(0, bfn, 0));
    publish(b);
    g_assert_false(mirror_dma_write(&b->mirror, ADDR(bfn), 0, 8));
    g_assert_cmphex(qtest_readq(b->iommu->qts, ADDR(gfn)), ==, ~gfn);
}

static void disturb_by_call(Bench *b)
{
    uint16_t ctx = below(b, 2) ? b->other : 0;
    uint64_t bfn = CALL_BFN + below(b, 64);
    uint32_t nr = 1 + below(b, 600);
    struct xen_iommu_op ops[] = {
        pviommu_op_map(ctx, bfn, OTHER_GFN, nr, 0),
        pviommu_op_lookup_bfn(ctx, bfn + nr - 1),
        pviommu_op_unmap(ctx, bfn, nr),
        pviommu_op_flush(ctx, below(b, 2) ? bfn : XEN_IOMMU_FLUSH_ALL, 0),
    };

    pviommu_run(b->iommu, ops, ARRAY_SIZE(ops));
    for (unsigned i = 0; i < ARRAY_SIZE(ops); i++) {
        assert_status(pviommu_status(&ops[i]), 0);
    }
}

static void show_bios_ram(Bench *b, bool ram)
{
    g_autofree QPCIDevice *bridge = qpci_device_find(b->iommu->pci,
                                                     QPCI_DEVFN(0, 0));

    qpci_config_writeb(bridge, b->pam, ram ? 0x30 : 0);
}

static void disturb(Bench *b)
{
    if (b->pam) {
        for (unsigned i = below(b, 8); i; i--) {
            show_bios_ram(b, i % 2);
        }
    }
    switch (below(b, 12)) {
    case 0:
        disturb_by_dma(b);
        break;
    case 1:
        disturb_by_call(b);
        break;
    case 2:
        assert_status(pviommu_ring(b->iommu, 1, 0, 0, NULL), 0);
        break;
    case 3:
        /* The one of before is run first. */
        if (!below(b, 4)) {
            new_queue(b);
        }
        break;
    }
}

static void run_requests(Bench *b, unsigned rounds)
{
    uint32_t errors = 0;

    qtest_memset(b->iommu->qts, ADDR(GFN), UNTOUCHED, ADDR(DEPTH * POOL));
    for (unsigned round = 0; round < rounds; round++) {
        unsigned nr = 1 + below(b, DEPTH);

        for (unsigned i = 0; i < nr; i++) {
            remap(b, i);
            submit(b, i);
            disturb(b);
        }
        wait_used(b);
        for (unsigned i = 0; i < nr; i++) {
            check_request(b, i);
        }
        errors += pviommu_queue_errors(&b->q);
    }
    g_assert_cmpuint(errors, ==, 0);
    check_pools(b);
}

static void finish(Bench *b)
{
    assert_status(pviommu_unmap_holes(b->iommu, 0, BFN, DEPTH), 0);
    assert_status(pviommu_flush_all(b->iommu, 0), 0);
    assert_status(pviommu_flush_all(b->iommu, b->other), 0);
    pviommu_assert_frames(b->iommu, (ALLOC_END - ALLOC_START) / PVIOMMU_PAGE,
                          0);
    bench_free(b);
}

static void test_requests(const void *machine)
{
    Bench *b = bench_new(machine, "premap=off,x-check=off", NULL);

    run_requests(b, 800);
    finish(b);
}

/* The same with all books checked, whoever runs the queue */
static void test_checked(const void *machine)
{
    Bench *b = bench_new(machine, "premap=off", NULL);

    run_requests(b, 60);
    finish(b);
}

/* Who listens takes the queue from the thread, and leaves it to it again. */
static void test_listener(void)
{
    Bench *b = bench_new("pc", "premap=off,x-check=off", NULL);
    QTestState *qts = b->iommu->qts;

    qtest_memset(qts, ADDR(GFN), UNTOUCHED, ADDR(DEPTH * POOL));
    for (unsigned i = 0; i < 12; i++) {
        /* Requests are under way as it comes, and as it goes. */
        remap(b, 0);
        submit(b, 0);
        qtest_qmp_device_add(qts, "pviommu-mirror", "m0", "{'addr':'0x13'}");
        b->listening = true;
        mirror_init(&b->listener, b->iommu, QPCI_DEVFN(LISTENER_SLOT, 0));
        wait_used(b);
        check_request(b, 0);
        run_requests(b, 15);
        remap(b, 0);
        submit(b, 0);
        mirror_assert_sane(&b->listener);
        qpci_unplug_acpi_device_test(qts, "m0", LISTENER_SLOT);
        b->listening = false;
        wait_used(b);
        check_request(b, 0);
        run_requests(b, 15);
    }
    finish(b);
}

static Bench *bench_with_bridge(const char *machine)
{
    Bench *b = bench_new(machine, "premap=off,x-check=off", NULL);

    b->pam = g_str_equal(machine, "pc") ? 0x59 : 0x90;
    return b;
}

/*
 * RAM below 1 MiB comes and goes, and all of the machine's becomes another
 * section: what it maps of the rest is neither refused nor lost.
 */
static void test_memory_map(const void *machine)
{
    Bench *b = bench_with_bridge(machine);

    run_requests(b, 400);
    show_bios_ram(b, false);
    finish(b);
}

/*
 * The thread maps a page as it goes: whether it still could, or could not any
 * more, it is not mapped afterwards. One that stays is.
 */
static void test_memory_map_races(const void *machine)
{
    Bench *b = bench_with_bridge(machine);
    const uint64_t bfn = BFN + DEPTH;
    unsigned mapped = 0;

    qtest_memset(b->iommu->qts, ADDR(GFN), UNTOUCHED, ADDR(DEPTH * POOL));
    for (unsigned round = 0; round < 1000; round++) {
        unsigned spare = below(b, 24);
        uint32_t map;

        show_bios_ram(b, true);
        if (b->q.nr_ops < 32) {
            pviommu_queue_init(&b->q, b->iommu, 0, PVIOMMU_QUEUE_ADDR, 32);
        }
        pviommu_queue_kick(&b->q);
        for (unsigned i = 0; i < spare; i++) {
            push(b, pviommu_op_flush(0, BFN, 0));
        }
        map = pviommu_queue_push(&b->q, pviommu_op_map(
            0, bfn, BIOS_GFN + below(b, BIOS_GFNS), 0, 0));
        push(b, pviommu_op_map(0, bfn + 1, OTHER_GFN + below(b, 64), 0, 0));
        remap(b, 0);
        submit(b, 0);
        show_bios_ram(b, false);
        wait_used(b);
        check_request(b, 0);
        pviommu_queue_kick(&b->q);
        mapped += !pviommu_queue_status(&b->q, map);
        pviommu_assert_unmapped(b->iommu, 0, bfn);
        assert_status(pviommu_unmap(b->iommu, 0, bfn + 1, 0), 0);
    }
    g_test_message("mapped first in %u rounds", mapped);
    finish(b);
}

/* Returns: the page that was there. */
static uint32_t take_away(Bench *b, uint64_t gfn)
{
    const XenSimIoreq req = {
        .type = XENSIM_INVALIDATE_PAGE, .addr = ADDR(gfn), .size = 8,
        .count = 1,
    };
    uint32_t page = xensim_page(b->sim, gfn);

    xensim_remove(b->sim, gfn, 1);
    xensim_ioreq(b->sim, 0, &req);
    return page;
}

/*
 * Pages leave the guest, from just beside those that the thread maps and reads
 * into, and then those; and come back.
 */
static void test_pages_leave(const void *features)
{
    Bench *b = bench_new(NULL, "premap=off,x-check=off", features);

    qtest_memset(b->iommu->qts, ADDR(GFN), UNTOUCHED, ADDR(DEPTH * POOL));
    for (unsigned round = 0; round < 300; round++) {
        unsigned nr = 1 + below(b, DEPTH);
        uint32_t pages[DEPTH];

        for (unsigned i = 0; i < nr; i++) {
            uint64_t gfn;

            remap(b, i);
            submit(b, i);
            /* One of the pool that is not mapped */
            gfn = GFN + i * POOL +
                  (b->gfn[i] - GFN - i * POOL + 1 + below(b, POOL - 1)) % POOL;
            pages[i] = take_away(b, gfn);
            xensim_add(b->sim, gfn, 1);
            qtest_memset(b->iommu->qts, ADDR(gfn), UNTOUCHED, ADDR(1));
        }
        wait_used(b);
        for (unsigned i = 0; i < nr; i++) {
            check_request(b, i);
            /* No DMA is under way. */
            g_assert_cmpuint(xensim_mapped(b->sim, pages[i], 1), ==, 0);
        }
        if (!below(b, 4)) {
            unsigned i = below(b, nr);
            uint32_t page = take_away(b, b->gfn[i]);

            g_assert_cmpuint(xensim_mapped(b->sim, page, 1), ==, 0);
            xensim_add(b->sim, b->gfn[i], 1);
            qtest_memset(b->iommu->qts, ADDR(b->gfn[i]), UNTOUCHED, ADDR(1));
            pviommu_assert_unmapped(b->iommu, 0, BFN + i);
            b->gfn[i] = 0;
        }
    }
    g_assert_cmpuint(pviommu_queue_errors(&b->q), ==, 0);
    check_pools(b);
    finish(b);
}

/* A page leaves while the thread maps it: it is not mapped afterwards. */
static void test_page_races(const void *features)
{
    Bench *b = bench_new(NULL, "premap=off,x-check=off", features);
    const uint64_t bfn = BFN + DEPTH;

    qtest_memset(b->iommu->qts, ADDR(GFN), UNTOUCHED, ADDR(DEPTH * POOL));
    for (unsigned round = 0; round < 400; round++) {
        uint64_t gfn = OTHER_GFN + below(b, 256);
        unsigned spare = below(b, 16);

        /* The mapcache knows it. */
        qtest_readb(b->iommu->qts, ADDR(gfn));
        for (unsigned i = 0; i < spare; i++) {
            push(b, pviommu_op_flush(0, BFN, 0));
        }
        push(b, pviommu_op_map(0, bfn, gfn, 0, 0));
        remap(b, 0);
        submit(b, 0);
        take_away(b, gfn);
        wait_used(b);
        check_request(b, 0);
        pviommu_queue_kick(&b->q);
        pviommu_assert_unmapped(b->iommu, 0, bfn);
        xensim_add(b->sim, gfn, 1);
    }
    finish(b);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    pviommu_add_for_machines("iothread/requests", test_requests);
    pviommu_add_for_machines("iothread/checked", test_checked);
    qtest_add_func("/xen-pviommu/iothread/listener", test_listener);
    pviommu_add_for_machines("iothread/memory-map", test_memory_map);
    pviommu_add_for_machines("iothread/memory-map-races",
                             test_memory_map_races);
    if (g_getenv("XENSIM_DIR")) {
        qtest_add_data_func("/xen-pviommu/iothread/pages-leave/split",
                            "invalidate-page", test_pages_leave);
        qtest_add_data_func("/xen-pviommu/iothread/pages-leave/whole",
                            "invalidate-page,whole-maps", test_pages_leave);
        qtest_add_data_func("/xen-pviommu/iothread/page-races",
                            "invalidate-page", test_page_races);
    }
    return g_test_run();
}
