/*
 * xen-pviommu under a simulated hypervisor: what Xen's mapcache keeps of pages
 * that left the guest, where Linux lets it replace a part of a mapping and
 * where it does not
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "libqos/pviommu-mirror.h"
#include "libqos/virtio-ram.h"
#include "libqos/xensim.h"

#define MIRROR_SLOT     0x11
#define RNG_SLOT        0x12
#define BFN             0x123450ull
#define PAGE            ((uint64_t)PVIOMMU_PAGE)
/* What the mapcache maps at a time, in pages. */
#define BUCKET          256
/* At the start of a bucket. */
#define GFN             (PVIOMMU_FREE_GFN + 0x1000ull)
#define QUEUE_GFN       (GFN + 16)
#define NR_OPS          256     /* of several pages */

static const XenSimOptions splits, whole = {
    .features = "invalidate-page,iommu-op,whole-maps",
};

typedef struct Machine {
    XenSim *sim;
    QXenPVIOMMU *iommu;
    QMirror m;
} Machine;

static void start(Machine *v, const void *options, const char *args)
{
    g_autofree char *all = g_strdup_printf(
        "-device xen-pviommu,addr=%x,x-check=on,premap=off "
        MIRROR_DEVICE("none") "%s", PVIOMMU_SLOT, MIRROR_SLOT, args ?: "");

    v->sim = xensim_start(options, all);
    v->iommu = pviommu_new(v->sim->qts);
    pviommu_probe(v->iommu);
    pviommu_accept(v->iommu, XEN_IOMMU_FEATURES_ALL);
    mirror_init(&v->m, v->iommu, QPCI_DEVFN(MIRROR_SLOT, 0));
}

static void quit(Machine *v)
{
    pviommu_free(v->iommu);
    xensim_quit(v->sim);
}

static uint64_t mapped(Machine *v, uint32_t page)
{
    return xensim_mapped(v->sim, page, 1);
}

static void hold(Machine *v, unsigned slot, uint64_t i)
{
    g_assert_cmpuint(mirror_hold(&v->m, slot, (BFN + i) * PAGE, PAGE, true), ==,
                     PAGE);
}

/* It is done after a grace period. */
static void wait_unmapped(Machine *v, uint32_t page)
{
    for (unsigned i = 0; i < 6000 && mapped(v, page); i++) {
        g_usleep(10 * 1000);
    }
    g_assert_cmpuint(mapped(v, page), ==, 0);
}

/* --- buckets -------------------------------------------------------------- */

/* The bucket of one DMA is there for the next. */
static void test_bucket_is_used_again(const void *options)
{
    uint64_t calls;
    uint32_t page;
    Machine v;

    start(&v, options, NULL);
    assert_status(pviommu_map(v.iommu, 0, BFN, GFN, 64, 0), 0);
    hold(&v, 0, 0);
    mirror_release(&v.m, 0, PAGE);
    calls = xensim_count(v.sim, "xenforeignmemory_map2");
    for (unsigned i = 0; i < 64; i++) {
        hold(&v, 0, i);
        mirror_release(&v.m, 0, PAGE);
    }
    g_assert_cmpuint(xensim_count(v.sim, "xenforeignmemory_map2"), ==, calls);
    page = xensim_release(v.sim, GFN + 7, 1);
    g_assert_cmpuint(mapped(&v, page), ==, 0);
    quit(&v);
}

/*
 * DMA that goes on and on in a bucket, each piece beginning before the last one
 * ends: a page beside it is gone as soon as those have ended that were under
 * way.
 */
static void test_busy_bucket_drops_the_page(const void *options)
{
    bool splitting = options == &splits;
    uint32_t page, in_use;
    Machine v;

    start(&v, options, NULL);
    assert_status(pviommu_map(v.iommu, 0, BFN, GFN, 64, 0), 0);
    hold(&v, 0, 0);
    hold(&v, 1, 1);
    page = xensim_release(v.sim, GFN + 32, 1);
    g_assert_cmpuint(mapped(&v, page), ==, splitting ? 0 : 1);
    g_assert_cmpuint(xensim_counter(v.sim, "mapcache-pages"), ==, splitting);
    g_assert_cmpuint(xensim_counter(v.sim, "mapcache-deferred"), ==,
                     !splitting);
    mirror_release(&v.m, 0, PAGE);
    hold(&v, 0, 2);
    g_assert_cmpuint(mapped(&v, page), ==, splitting ? 0 : 1);
    mirror_release(&v.m, 1, PAGE);
    g_assert_cmpuint(mapped(&v, page), ==, 0);

    /* A page in use stays until its DMA ends, and is unmapped then. */
    mirror_touch_write(&v.m, 0, 8, 0x1234);
    g_assert_cmphex(xensim_readq(v.sim, (GFN + 2) * PAGE + 8), ==, 0x1234);
    hold(&v, 1, 3);
    in_use = xensim_release(v.sim, GFN + 2, 1);
    hold(&v, 2, 4);
    g_assert_cmpuint(mapped(&v, in_use), ==, 1);
    mirror_touch_write(&v.m, 0, 8, 0x5678);
    mirror_release(&v.m, 0, PAGE);
    hold(&v, 0, 5);
    mirror_release(&v.m, 1, PAGE);
    if (splitting) {
        g_assert_cmpuint(mapped(&v, in_use), ==, 0);
    }
    /* Without, its bucket is detached when the first lock tries in vain. */
    mirror_release(&v.m, 2, PAGE);
    g_assert_cmpuint(mapped(&v, in_use), ==, 0);
    mirror_release(&v.m, 0, PAGE);
    xensim_add(v.sim, GFN + 2, 1);
    assert_status(pviommu_map(v.iommu, 0, BFN + 2, GFN + 2, 1, 0), 0);
    hold(&v, 0, 2);
    mirror_touch_write(&v.m, 0, 8, 0x9abc);
    g_assert_cmphex(xensim_readq(v.sim, (GFN + 2) * PAGE + 8), ==, 0x9abc);
    mirror_release(&v.m, 0, PAGE);
    quit(&v);
}

/* Pages without locks, in a bucket without locks */
static void test_idle_bucket_drops_the_page(const void *options)
{
    bool splitting = options == &splits;
    uint32_t pages[8];
    Machine v;

    start(&v, options, NULL);
    assert_status(pviommu_map(v.iommu, 0, BFN, GFN, 64, 0), 0);
    hold(&v, 0, 0);
    mirror_release(&v.m, 0, PAGE);
    for (unsigned i = 0; i < ARRAY_SIZE(pages); i++) {
        uint64_t data;

        pages[i] = xensim_release(v.sim, GFN + 2 * i, 1);
        g_assert_cmpuint(mapped(&v, pages[i]), ==, 0);
        /* The bucket is mapped again. */
        g_assert_true(mirror_dma_read(&v.m, (BFN + 1) * PAGE, &data));
    }
    g_assert_cmpuint(xensim_counter(v.sim, "mapcache-pages"), ==,
                     splitting ? 8 : 0);
    g_assert_cmpuint(xensim_counter(v.sim, "mapcache-buckets"), ==,
                     splitting ? 0 : 8);
    g_assert_cmpuint(xensim_counter(v.sim, "mapcache-deferred"), ==, 0);
    quit(&v);
}

/*
 * A bucket without locks is dropped at the second page that leaves; not for
 * two that leave at once.
 */
static void test_unused_bucket_ends_with_the_second_page(const void *options)
{
    bool splitting = options == &splits;
    const uint64_t gfns[] = { GFN + 10, GFN + 2, GFN + 6 };
    uint32_t page, left[ARRAY_SIZE(gfns)];
    Machine v;

    start(&v, options, NULL);
    assert_status(pviommu_map(v.iommu, 0, BFN, GFN, 64, 0), 0);
    hold(&v, 0, 0);
    mirror_release(&v.m, 0, PAGE);

    for (unsigned i = 0; i < ARRAY_SIZE(gfns); i++) {
        left[i] = xensim_page(v.sim, gfns[i]);
        xensim_remove(v.sim, gfns[i], 1);
        g_assert_true(xensim_buffer_invalidate(v.sim, gfns[i],
                                               XEN_INVALIDATE_PAGE_4K));
    }
    xensim_barrier(v.sim, ARRAY_SIZE(gfns));
    for (unsigned i = 0; i < ARRAY_SIZE(gfns); i++) {
        g_assert_cmpuint(mapped(&v, left[i]), ==, 0);
    }
    page = xensim_page(v.sim, GFN);
    g_assert_cmpuint(mapped(&v, page), ==, splitting);
    g_assert_cmpuint(xensim_counter(v.sim, "mapcache-pages"), ==,
                     splitting ? 3 : 0);
    g_assert_cmpuint(xensim_counter(v.sim, "mapcache-buckets"), ==, !splitting);

    xensim_release(v.sim, GFN + 20, 1);
    g_assert_cmpuint(mapped(&v, page), ==, 0);
    g_assert_cmpuint(xensim_counter(v.sim, "mapcache-pages"), ==,
                     splitting ? 3 : 0);
    g_assert_cmpuint(xensim_counter(v.sim, "mapcache-buckets"), ==, 1);
    quit(&v);
}

/* --- long-lived maps ------------------------------------------------------ */

static void push_map(QPVIOMMUQueue *q, uint64_t bfn, uint64_t gfn)
{
    pviommu_queue_push(q, pviommu_op_map(q->ctx, bfn, gfn, 0, 0));
}

static void assert_works(Machine *v, uint64_t bfn, uint64_t gfn)
{
    static uint64_t salt = 0x1111;

    salt += 0x1111;
    g_assert_true(mirror_dma_write(&v->m, bfn * PAGE, salt, 8));
    g_assert_cmphex(xensim_readq(v->sim, gfn * PAGE), ==, salt);
}

/* A queue holds its own pages, and no other of the bucket that it is in. */
static void test_queue_keeps_its_own_pages_only(const void *options)
{
    QPVIOMMUQueue q;
    uint32_t pages[2];
    Machine v;

    start(&v, options, NULL);
    pviommu_queue_init(&q, v.iommu, 0, QUEUE_GFN * PAGE, NR_OPS);
    push_map(&q, BFN, GFN);
    assert_works(&v, BFN, GFN);
    for (unsigned i = 0; i < 40; i++) {
        uint64_t gfn = GFN + 100 + i;
        uint32_t page;

        push_map(&q, BFN + i, gfn);
        pviommu_queue_push(&q, pviommu_op_unmap(0, BFN + i, 0));
        pviommu_queue_push(&q, pviommu_op_map(0, BFN + i, gfn, 0, 0));
        assert_works(&v, BFN + i, gfn);
        g_assert_cmpuint(pviommu_queue_head(&q), ==, q.tail);
        page = xensim_release(v.sim, gfn, 1);
        g_assert_cmpuint(mapped(&v, page), ==, 0);
        g_assert_false(mirror_dma_write(&v.m, (BFN + i) * PAGE, 1, 8));
    }
    g_assert_cmpuint(pviommu_queue_errors(&q), ==, 1);
    g_assert_cmpuint(xensim_counter(v.sim, "mapcache-deferred"), ==, 0);

    /* There is no page to map. */
    push_map(&q, BFN, GFN + 100);
    g_assert_false(mirror_dma_write(&v.m, BFN * PAGE, 1, 8));
    assert_status(pviommu_queue_status(&q, q.tail - 1), XEN_IOMMU_ENOENT);

    /* Any page of its own takes it along; then nobody has them. */
    pages[1] = xensim_page(v.sim, QUEUE_GFN + 1);
    pages[0] = xensim_release(v.sim, QUEUE_GFN, 1);
    wait_unmapped(&v, pages[0]);
    g_assert_cmpuint(xensim_counter(v.sim, "mapcache-deferred"), ==, 1);
    g_assert_cmpuint(xensim_counter(v.sim, "mapcache-released"), ==, 1);
    assert_status(pviommu_set_queue(v.iommu, 0, QUEUE_GFN * PAGE, NR_OPS),
                  XEN_IOMMU_EFAULT);
    assert_status(pviommu_set_queue(v.iommu, 0, (QUEUE_GFN - 1) * PAGE,
                                    NR_OPS), XEN_IOMMU_EFAULT);
    pviommu_queue_init(&q, v.iommu, 0, (QUEUE_GFN + 1) * PAGE, NR_OPS);
    push_map(&q, BFN, GFN);
    assert_works(&v, BFN, GFN);

    /* Whose it is no more may leave without a word. */
    assert_status(pviommu_set_queue(v.iommu, 0, 0, 0), 0);
    g_assert_cmpuint(xensim_release(v.sim, QUEUE_GFN + 1, 1), ==, pages[1]);
    wait_unmapped(&v, pages[1]);
    quit(&v);
}

/* A hypervisor that does not say which: the queue notices that it is gone. */
static void test_queue_in_an_unnamed_page_is_removed(const void *options)
{
    QPVIOMMUQueue q;
    uint32_t page;
    Machine v;

    start(&v, options, NULL);
    pviommu_queue_init(&q, v.iommu, 0, QUEUE_GFN * PAGE, NR_OPS);
    push_map(&q, BFN, GFN);
    assert_works(&v, BFN, GFN);
    xensim_invalidate_all(v.sim);
    push_map(&q, BFN + 1, GFN + 1);
    assert_works(&v, BFN + 1, GFN + 1);
    page = xensim_page(v.sim, QUEUE_GFN + 1);
    xensim_remove(v.sim, QUEUE_GFN + 1, 1);
    xensim_invalidate_all(v.sim);
    wait_unmapped(&v, page);
    assert_works(&v, BFN + 1, GFN + 1);
    quit(&v);
}

/* A virtqueue behind no IOMMU is long-lived, too; pages around it are not. */
static void test_virtqueue_keeps_its_own_pages_only(const void *options)
{
    QVirtioRam rng;
    QVirtQueue *vq;
    uint32_t page;
    Machine v;

    start(&v, options, "-device virtio-rng-pci,addr=12 ");
    virtio_ram_init(&rng, v.iommu, QPCI_DEVFN(RNG_SLOT, 0), 1);
    vq = rng.queues[0];
    for (unsigned i = 0; i < 4; i++) {
        uint64_t gfn = (vq->desc / PAGE | (BUCKET - 1)) - i;
        uint32_t head;

        page = xensim_release(v.sim, gfn, 1);
        g_assert_cmpuint(mapped(&v, page), ==, 0);
        head = qvirtqueue_add(v.sim->qts, vq, rng.buffer, 8, true, false);
        qvirtqueue_kick(v.sim->qts, &rng.dev->vdev, vq, head);
        qvirtio_wait_used_elem(v.sim->qts, &rng.dev->vdev, vq, head, NULL,
                               60 * G_USEC_PER_SEC);
    }
    g_assert_cmpuint(xensim_counter(v.sim, "mapcache-deferred"), ==, 0);

    /* Its own page stays until its driver releases it. */
    for (unsigned i = 0; i < 2; i++) {
        page = xensim_release(v.sim, vq->desc / PAGE, 1);
        g_assert_cmpuint(mapped(&v, page), ==, !i);
        g_assert_cmpuint(xensim_counter(v.sim, "mapcache-deferred"), ==, 1);
        xensim_add(v.sim, vq->desc / PAGE, 1);
        if (!i) {
            qvirtio_start_device(&rng.dev->vdev);
            wait_unmapped(&v, page);
            g_assert_cmpuint(xensim_counter(v.sim, "mapcache-released"), ==, 1);
        }
    }
    virtio_ram_finalize(&rng);
    quit(&v);
}

static void add(const char *name, void (*test)(const void *options))
{
    g_autofree char *split = g_strdup_printf("mapcache/%s/split", name);
    g_autofree char *all = g_strdup_printf("mapcache/%s/whole", name);

    pviommu_add_data(split, &splits, test);
    pviommu_add_data(all, &whole, test);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    add("bucket-is-used-again", test_bucket_is_used_again);
    add("busy-bucket-drops-the-page", test_busy_bucket_drops_the_page);
    add("idle-bucket-drops-the-page", test_idle_bucket_drops_the_page);
    add("unused-bucket-ends-with-the-second-page",
        test_unused_bucket_ends_with_the_second_page);
    add("queue-keeps-its-own-pages-only", test_queue_keeps_its_own_pages_only);
    add("queue-in-an-unnamed-page-is-removed",
        test_queue_in_an_unnamed_page_is_removed);
    add("virtqueue-keeps-its-own-pages-only",
        test_virtqueue_keeps_its_own_pages_only);
    return g_test_run();
}
