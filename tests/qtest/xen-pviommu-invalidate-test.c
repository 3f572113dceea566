/*
 * xen-pviommu under a simulated hypervisor: pages leave the guest, and nobody
 * has them any more when the answer is given (docs/specs/xen-invalidate-page)
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/bswap.h"
#include "qobject/qdict.h"
#include "libqos/pviommu-mirror.h"
#include "libqos/xensim.h"
#include "hw/xen/interface/invalidate_page.h"

#define MIRROR_SLOT     0x11
#define BFN             0x123450ull
#define PAGE            ((uint64_t)PVIOMMU_PAGE)
/* What the mapcache maps at a time, in pages. */
#define BUCKET          256
/* At the start of a bucket. */
#define GFN             (PVIOMMU_FREE_GFN + 0x1000ull)
/* Of the buffered ring. */
#define RING_SLOTS      511
#define GIB_PAGES       0x40000ull

/* A machine with mirrors at MIRROR_SLOT and behind; they do the DMA. */
typedef struct Machine {
    XenSim *sim;
    QXenPVIOMMU *iommu;         /* the bus only, if there is no such device */
    QMirror m[3];
    uint64_t base;              /* where devices have GFN, in bytes */
} Machine;

static void start_with(Machine *v, const XenSimOptions *options, bool iommu,
                       unsigned mirrors)
{
    g_autoptr(GString) args = g_string_new(NULL);

    if (iommu) {
        g_string_append_printf(args, "-device xen-pviommu,addr=%x,x-check=on ",
                               PVIOMMU_SLOT);
    }
    for (unsigned i = 0; i < mirrors; i++) {
        g_string_append_printf(args, MIRROR_DEVICE("map"), MIRROR_SLOT + i);
    }
    v->sim = xensim_start(options, args->str);
    v->iommu = pviommu_new(v->sim->qts);
    if (iommu) {
        pviommu_probe(v->iommu);
        pviommu_accept(v->iommu, XEN_IOMMU_FEATURES_ALL);
    }
    for (unsigned i = 0; i < mirrors; i++) {
        mirror_init(&v->m[i], v->iommu, QPCI_DEVFN(MIRROR_SLOT + i, 0));
    }
    v->base = iommu ? BFN * PAGE : GFN * PAGE;
}

static void start(Machine *v)
{
    start_with(v, NULL, true, 1);
}

static void quit(Machine *v)
{
    pviommu_free(v->iommu);
    xensim_quit(v->sim);
}

/* --- what the hypervisor sends -------------------------------------------- */

static void send_pages(XenSim *sim, uint64_t gfn, uint32_t nr)
{
    const XenSimIoreq req = {
        .type = XENSIM_INVALIDATE_PAGE, .addr = gfn * PAGE, .size = 8,
        .count = nr,
    };

    xensim_ioreq(sim, 0, &req);
}

static void send_barrier(XenSim *sim, uint64_t entries)
{
    const XenSimIoreq req = {
        .type = XENSIM_INVALIDATE_PAGE, .size = 8, .data = entries,
    };

    xensim_ioreq(sim, 0, &req);
}

static void send_everything(XenSim *sim)
{
    const XenSimIoreq req = {
        .type = XENSIM_INVALIDATE, .size = 4, .count = 1, .data = ~0ull,
    };

    xensim_ioreq(sim, 0, &req);
}

static bool put_entry(XenSim *sim, uint64_t gfn, unsigned class)
{
    return xensim_buffer(sim, XENSIM_INVALIDATE_PAGE, false, class,
                         gfn >> 32, gfn);
}

/* Pages leave the p2m, and the emulator is told. */
static void take_away(Machine *v, uint64_t gfn, uint32_t nr)
{
    xensim_remove(v->sim, gfn, nr);
    send_pages(v->sim, gfn, nr);
}

/* --- what QEMU says of it ------------------------------------------------- */

static uint64_t counter(XenSim *sim, const char *name)
{
    QDict *rsp = qtest_qmp(sim->qts, "{ 'execute': 'x-query-xen-invalidate' }");
    uint64_t n = qdict_get_int(qdict_get_qdict(rsp, "return"), name);

    qobject_unref(rsp);
    return n;
}

typedef struct Counts {
    uint64_t requests, entries, barriers, pages, malformed, everything;
} Counts;

static void assert_counts(XenSim *sim, Counts c)
{
    g_assert_cmpuint(counter(sim, "requests"), ==, c.requests);
    g_assert_cmpuint(counter(sim, "entries"), ==, c.entries);
    g_assert_cmpuint(counter(sim, "barriers"), ==, c.barriers);
    g_assert_cmpuint(counter(sim, "pages"), ==, c.pages);
    g_assert_cmpuint(counter(sim, "malformed"), ==, c.malformed);
    g_assert_cmpuint(counter(sim, "everything"), ==, c.everything);
}

/* --- what devices do with page @i of those at @base ----------------------- */

static bool dma_write(Machine *v, uint64_t i, uint64_t data)
{
    return mirror_dma_write(&v->m[0], v->base + i * PAGE, data, 8);
}

static void assert_works(Machine *v, uint64_t i)
{
    uint64_t gpa = (GFN + i) * PAGE, data;

    g_assert_true(dma_write(v, i, 0xd0000 + i));
    g_assert_cmphex(xensim_readq(v->sim, gpa), ==, 0xd0000 + i);
    xensim_writeq(v->sim, gpa, ~i);
    g_assert_true(mirror_dma_read(&v->m[0], v->base + i * PAGE, &data));
    g_assert_cmphex(data, ==, ~i);
}

static void assert_faults(Machine *v, uint64_t i)
{
    uint64_t before = pviommu_counter(v->iommu, XEN_PVIOMMU_COUNTER_FAULTS);
    uint64_t data;

    g_assert_false(dma_write(v, i, 1));
    g_assert_false(mirror_dma_read(&v->m[0], v->base + i * PAGE, &data));
    g_assert_cmpuint(pviommu_counter(v->iommu, XEN_PVIOMMU_COUNTER_FAULTS), >,
                     before);
    pviommu_assert_unmapped(v->iommu, 0, BFN + i);
}

static uint64_t hold(Machine *v, unsigned slot, uint64_t i, uint64_t nr)
{
    return mirror_hold(&v->m[0], slot, v->base + i * PAGE, nr * PAGE, true);
}

static uint64_t mapped(Machine *v, uint32_t page)
{
    return xensim_mapped(v->sim, page, 1);
}

/* --- one page, and many --------------------------------------------------- */

static void test_page(void)
{
    uint32_t page, other;
    Machine v;

    start(&v);
    assert_status(pviommu_map(v.iommu, 0, BFN, GFN, 3, 0), 0);
    for (int i = 0; i < 3; i++) {
        assert_works(&v, i);
    }
    page = xensim_page(v.sim, GFN + 1);
    other = xensim_page(v.sim, GFN + 2);
    g_assert_cmpuint(mapped(&v, page), ==, 1);
    mirror_clear(&v.m[0]);
    take_away(&v, GFN + 1, 1);
    g_assert_cmpuint(mapped(&v, page), ==, 0);
    assert_faults(&v, 1);
    assert_counts(v.sim, (Counts) { .requests = 1, .pages = 1 });
    g_assert_cmpuint(pviommu_counter(v.iommu, XEN_PVIOMMU_COUNTER_INVALIDATED),
                     ==, 1);
    pviommu_assert_frames(v.iommu, 2, 0);
    assert_status(pviommu_unmap(v.iommu, 0, BFN + 1, 1), XEN_IOMMU_ENOENT);
    mirror_assert_equal(&v.m[0], 0, 2);
    mirror_assert_sane(&v.m[0]);

    /* Its neighbours did not even go for a moment. */
    g_assert_cmpuint(counter(v.sim, "mapcache-pages"), ==, 1);
    g_assert_cmpuint(counter(v.sim, "mapcache-buckets"), ==, 0);
    g_assert_cmpuint(mapped(&v, other), ==, 1);
    assert_works(&v, 0);
    assert_works(&v, 2);
    g_assert_cmpuint(mapped(&v, page), ==, 0);
    quit(&v);
}

static void test_many(void)
{
    const uint64_t nr = 3 * BUCKET, from = 200, gone = 350;
    uint32_t page;
    Machine v;

    start(&v);
    page = xensim_page(v.sim, GFN);
    assert_status(pviommu_map(v.iommu, 0, BFN, GFN, nr, 0), 0);
    for (uint64_t i = 0; i < nr; i += BUCKET) {
        assert_works(&v, i);
    }
    g_assert_cmpuint(xensim_mapped(v.sim, page, nr), ==, nr);
    take_away(&v, GFN + from, gone);
    g_assert_cmpuint(xensim_mapped(v.sim, page + from, gone), ==, 0);
    /* What was left of two buckets stayed; the one between them went. */
    g_assert_cmpuint(xensim_mapped(v.sim, page, nr), ==, nr - gone);
    g_assert_cmpuint(counter(v.sim, "mapcache-buckets"), ==, 1);
    assert_counts(v.sim, (Counts) { .requests = 1, .pages = gone });
    pviommu_assert_frames(v.iommu, nr - gone, 0);
    mirror_assert_equal(&v.m[0], 0, nr - gone);
    for (uint64_t i = 0; i < nr; i += 25) {
        if (i < from || i >= from + gone) {
            assert_works(&v, i);
        } else {
            assert_faults(&v, i);
        }
    }
    g_assert_cmpuint(xensim_mapped(v.sim, page + from, gone), ==, 0);
    quit(&v);
}

/* One page, at several BFNs in several contexts, and in a fault record. */
static void test_places(void)
{
    static const uint64_t bfns[] = { BFN, BFN + 0x1000, 5, 0x3ffffffff };
    uint16_t ctx[3] = { 0 };
    uint32_t page;
    Machine v;

    start_with(&v, NULL, true, 3);
    page = xensim_page(v.sim, GFN + 1);
    pviommu_fault_ring(v.iommu, 64);
    for (int c = 1; c < 3; c++) {
        ctx[c] = pviommu_alloc_context(v.iommu);
        assert_status(pviommu_attach(v.iommu, v.m[c].sbdf, ctx[c]), 0);
    }
    for (int c = 0; c < 3; c++) {
        for (int i = 0; i < ARRAY_SIZE(bfns); i++) {
            assert_status(pviommu_map(v.iommu, ctx[c], bfns[i] + c, GFN + 1,
                                      1, 0), 0);
        }
        assert_status(pviommu_map(v.iommu, ctx[c], 0x777, GFN, 1, 0), 0);
        /* One of them was unmapped, and waits for a flush. */
        assert_status(pviommu_unmap(v.iommu, ctx[c], bfns[2] + c, 1), 0);
        g_assert_true(mirror_dma_write(&v.m[c], (bfns[3] + c) * PAGE, 1, 8));
    }
    pviommu_assert_frames(v.iommu, 3 * 4, 3);
    g_assert_cmpuint(mapped(&v, page), ==, 1);
    take_away(&v, GFN + 1, 1);
    g_assert_cmpuint(mapped(&v, page), ==, 0);
    /* The neighbour's, and nothing that still waits for a flush. */
    pviommu_assert_frames(v.iommu, 3, 0);
    for (int c = 0; c < 3; c++) {
        mirror_assert_equal(&v.m[c], ctx[c], 1);
        g_assert_true(mirror_dma_write(&v.m[c], 0x777 * PAGE, c, 8));
        for (int i = 0; i < ARRAY_SIZE(bfns); i++) {
            pviommu_assert_unmapped(v.iommu, ctx[c], bfns[i] + c);
            g_assert_false(mirror_dma_write(&v.m[c], (bfns[i] + c) * PAGE, 1,
                                            8));
            pviommu_wait_faults(v.iommu, 4 * c + i + 1);
            pviommu_assert_fault(v.iommu, 4 * c + i, v.m[c].sbdf, ctx[c],
                                 (bfns[i] + c) * PAGE, true,
                                 XEN_IOMMU_FAULT_REASON_unmapped);
        }
    }
    assert_counts(v.sim, (Counts) { .requests = 1, .pages = 1 });
    g_assert_cmpuint(mapped(&v, page), ==, 0);
    quit(&v);
}

static void test_never_seen(void)
{
    uint32_t page, other;
    Machine v;

    start(&v);
    assert_status(pviommu_map(v.iommu, 0, BFN, GFN, 1, 0), 0);
    assert_works(&v, 0);
    page = xensim_page(v.sim, GFN);
    other = xensim_page(v.sim, GFN + 16 * BUCKET);
    g_assert_cmpuint(mapped(&v, other), ==, 0);
    take_away(&v, GFN + 16 * BUCKET, 1);
    /* Beyond the guest's memory: it may have been something else of Xen's. */
    send_pages(v.sim, PVIOMMU_RAM_GFNS + 5, 7);
    send_pages(v.sim, (1ull << 40) - 2, 2);
    g_assert_cmpuint(mapped(&v, other), ==, 0);
    g_assert_cmpuint(mapped(&v, page), ==, 1);
    assert_works(&v, 0);
    assert_counts(v.sim, (Counts) { .requests = 3, .pages = 10 });
    g_assert_cmpuint(counter(v.sim, "mapcache-pages"), ==, 0);
    g_assert_cmpuint(pviommu_counter(v.iommu, XEN_PVIOMMU_COUNTER_INVALIDATED),
                     ==, 0);
    quit(&v);
}

/* --- DMA in flight -------------------------------------------------------- */

static void check_held(bool iommu)
{
    uint32_t page, other;
    uint64_t data;
    Machine v;

    start_with(&v, NULL, iommu, 1);
    if (iommu) {
        assert_status(pviommu_map(v.iommu, 0, BFN, GFN, 8, 0), 0);
    }
    page = xensim_page(v.sim, GFN + 3);
    other = xensim_page(v.sim, GFN + 5);
    g_assert_cmpuint(hold(&v, 0, 3, 1), ==, PAGE);
    g_assert_cmpuint(mapped(&v, page), ==, 1);

    /* It was under way before: it ends where it began, and then all is gone. */
    take_away(&v, GFN + 3, 1);
    g_assert_cmpuint(mapped(&v, page), ==, 1);
    g_assert_cmpuint(counter(v.sim, "mapcache-deferred"), ==, 1);
    mirror_touch_write(&v.m[0], 0, 16, 0x5544332211);
    xensim_peek(v.sim, page, 16, &data, sizeof(data));
    g_assert_cmphex(le64_to_cpu(data), ==, 0x5544332211);
    if (iommu) {
        assert_faults(&v, 3);
    }
    /* Another page of that bucket has no such excuse. */
    g_assert_cmpuint(mapped(&v, other), ==, 1);
    take_away(&v, GFN + 5, 1);
    g_assert_cmpuint(mapped(&v, other), ==, 0);
    g_assert_cmpuint(mapped(&v, page), ==, 1);
    /* Nor does forgetting everything take it away. */
    send_everything(v.sim);
    g_assert_cmpuint(mapped(&v, page), ==, 1);
    mirror_touch_write(&v.m[0], 0, 16, 0x66);

    mirror_release(&v.m[0], 0, PAGE);
    g_assert_cmpuint(mapped(&v, page), ==, 0);
    g_assert_cmpuint(mapped(&v, other), ==, 0);
    assert_counts(v.sim, (Counts) {
        .requests = 2, .pages = 2, .everything = 1,
    });
    assert_works(&v, 2);
    g_assert_cmpuint(mapped(&v, page), ==, 0);
    quit(&v);
}

static void test_held(void)
{
    check_held(true);
}

/* Two DMAs that have a page in common, and one that each has for itself. */
static void check_two_locks(bool iommu, bool same_start)
{
    const unsigned second = same_start ? 0 : 1;
    uint32_t page;
    Machine v;

    start_with(&v, NULL, iommu, 1);
    if (iommu) {
        assert_status(pviommu_map(v.iommu, 0, BFN, GFN, 8, 0), 0);
    }
    page = xensim_page(v.sim, GFN);
    g_assert_cmpuint(hold(&v, 0, 0, 2), ==, 2 * PAGE);
    g_assert_cmpuint(hold(&v, 1, second, 2), ==, 2 * PAGE);
    take_away(&v, GFN, 4);
    g_assert_cmpuint(xensim_mapped(v.sim, page, 4), ==, 2 + second);
    g_assert_cmpuint(mapped(&v, page + 3), ==, 0);
    mirror_touch_write(&v.m[0], 0, 8, 1);
    mirror_touch_write(&v.m[0], 1, 8, 1);

    mirror_release(&v.m[0], 0, PAGE);
    g_assert_cmpuint(mapped(&v, page), ==, same_start);
    g_assert_cmpuint(mapped(&v, page + 1), ==, 1);
    g_assert_cmpuint(counter(v.sim, "mapcache-released"), ==, second);
    mirror_touch_write(&v.m[0], 1, PAGE, 2);

    mirror_release(&v.m[0], 1, PAGE);
    g_assert_cmpuint(xensim_mapped(v.sim, page, 4), ==, 0);
    quit(&v);
}

static void test_two_locks(void)
{
    check_two_locks(true, true);
    check_two_locks(true, false);
}

/* A DMA across buckets: the entry that it locks is longer than others. */
static void test_long_dma(void)
{
    const uint64_t nr = 2 * BUCKET, from = BUCKET - 3;
    uint32_t page;
    Machine v;

    start(&v);
    assert_status(pviommu_map(v.iommu, 0, BFN, GFN, 3 * BUCKET, 0), 0);
    page = xensim_page(v.sim, GFN);
    assert_works(&v, BUCKET);
    g_assert_cmpuint(hold(&v, 0, from, nr), ==, nr * PAGE);
    /* In the locked one, and in a bucket of its own. */
    g_assert_cmpuint(mapped(&v, page + BUCKET), ==, 2);
    take_away(&v, GFN + BUCKET, BUCKET);
    g_assert_cmpuint(xensim_mapped(v.sim, page + BUCKET, BUCKET), ==, BUCKET);
    take_away(&v, GFN + 2 * BUCKET, BUCKET);
    g_assert_cmpuint(xensim_mapped(v.sim, page + 2 * BUCKET, BUCKET), ==,
                     BUCKET - 3);
    mirror_release(&v.m[0], 0, nr * PAGE);
    g_assert_cmpuint(xensim_mapped(v.sim, page + BUCKET, 2 * BUCKET), ==, 0);
    assert_works(&v, BUCKET - 1);
    quit(&v);
}

/* --- pages that come back ------------------------------------------------- */

static void test_comes_back(void)
{
    uint32_t old, new;
    uint64_t data;
    Machine v;

    start(&v);
    assert_status(pviommu_map(v.iommu, 0, BFN, GFN, 3, 0), 0);
    assert_works(&v, 1);
    old = xensim_page(v.sim, GFN + 1);
    take_away(&v, GFN + 1, 1);
    xensim_add(v.sim, GFN + 1, 1);
    new = xensim_page(v.sim, GFN + 1);
    g_assert_cmpuint(new, !=, old);
    /* Nothing is mapped by itself. */
    assert_faults(&v, 1);
    g_assert_cmpuint(mapped(&v, new), ==, 0);
    assert_status(pviommu_map(v.iommu, 0, BFN + 1, GFN + 1, 1, 0), 0);
    g_assert_true(mirror_dma_read(&v.m[0], v.base + PAGE, &data));
    g_assert_cmphex(data, ==, 0);
    assert_works(&v, 1);
    g_assert_cmpuint(mapped(&v, old), ==, 0);
    g_assert_cmpuint(mapped(&v, new), ==, 1);
    assert_works(&v, 0);
    quit(&v);
}

/* While DMA to the old one is still in flight. */
static void test_comes_back_early(void)
{
    uint32_t old, new;
    uint64_t data;
    Machine v;

    start(&v);
    assert_status(pviommu_map(v.iommu, 0, BFN, GFN, 3, 0), 0);
    old = xensim_page(v.sim, GFN + 1);
    g_assert_cmpuint(hold(&v, 0, 1, 1), ==, PAGE);
    take_away(&v, GFN + 1, 1);
    xensim_add(v.sim, GFN + 1, 1);
    new = xensim_page(v.sim, GFN + 1);
    assert_status(pviommu_map(v.iommu, 0, BFN + 1, GFN + 1, 1, 0), 0);
    assert_works(&v, 1);
    g_assert_cmpuint(hold(&v, 1, 1, 1), ==, PAGE);
    mirror_touch_write(&v.m[0], 0, 0, 0x1111);
    mirror_touch_write(&v.m[0], 1, 0, 0x2222);
    xensim_peek(v.sim, old, 0, &data, sizeof(data));
    g_assert_cmphex(le64_to_cpu(data), ==, 0x1111);
    g_assert_cmphex(xensim_readq(v.sim, (GFN + 1) * PAGE), ==, 0x2222);

    mirror_release(&v.m[0], 0, PAGE);
    g_assert_cmpuint(mapped(&v, old), ==, 0);
    mirror_touch_write(&v.m[0], 1, 0, 0x3333);
    g_assert_cmphex(xensim_readq(v.sim, (GFN + 1) * PAGE), ==, 0x3333);
    /* And again, with the new one. */
    take_away(&v, GFN + 1, 1);
    g_assert_cmpuint(mapped(&v, new), >=, 1);
    mirror_release(&v.m[0], 1, PAGE);
    g_assert_cmpuint(mapped(&v, new), ==, 0);
    g_assert_cmpuint(mapped(&v, old), ==, 0);
    quit(&v);
}

/* --- large counts, and the buffered ring ---------------------------------- */

static void check_gib(bool iommu, bool ring)
{
    const XenSimOptions options = { .ram_mb = 2560 };
    const uint64_t first = GIB_PAGES - GFN;
    uint32_t page;
    Machine v;

    start_with(&v, &options, iommu, 1);
    if (iommu) {
        int ret;

        /* So long a range takes several goes. */
        do {
            ret = pviommu_map(v.iommu, 0, BFN, GFN, 2 * GIB_PAGES, 0);
        } while (ret == -XEN_IOMMU_EAGAIN);
        g_assert_cmpint(ret, ==, 0);
    }
    page = xensim_page(v.sim, GIB_PAGES);
    for (uint64_t i = 0; i < 2 * GIB_PAGES; i += GIB_PAGES / 7) {
        assert_works(&v, i);
    }
    /* A map, which looks at each page, is no use of it. */
    g_assert_cmpuint(xensim_mapped(v.sim, page, GIB_PAGES), ==, 7 * BUCKET);
    for (uint64_t i = 0; iommu && i < GIB_PAGES; i += BUCKET) {
        qtest_readb(v.sim->qts, (GIB_PAGES + i) * PAGE);
    }
    g_assert_cmpuint(xensim_mapped(v.sim, page, GIB_PAGES), ==,
                     iommu ? GIB_PAGES : 7 * BUCKET);
    assert_works(&v, first - 1);
    assert_works(&v, first + GIB_PAGES);
    if (ring) {
        xensim_remove(v.sim, GIB_PAGES, GIB_PAGES);
        g_assert_true(put_entry(v.sim, GIB_PAGES, XEN_INVALIDATE_PAGE_1G));
        send_barrier(v.sim, 1);
        assert_counts(v.sim, (Counts) {
            .entries = 1, .barriers = 1, .pages = GIB_PAGES,
        });
    } else {
        take_away(&v, GIB_PAGES, GIB_PAGES);
        assert_counts(v.sim, (Counts) { .requests = 1, .pages = GIB_PAGES });
    }
    g_assert_cmpuint(xensim_mapped(v.sim, page, GIB_PAGES), ==, 0);
    g_assert_cmpuint(mapped(&v, page - 1), ==, 1);
    g_assert_cmpuint(mapped(&v, page + GIB_PAGES), ==, 1);
    assert_works(&v, first - 1);
    assert_works(&v, first + GIB_PAGES);
    if (iommu) {
        pviommu_assert_frames(v.iommu, GIB_PAGES, 0);
        assert_faults(&v, first);
        assert_faults(&v, first + GIB_PAGES / 2);
        assert_faults(&v, first + GIB_PAGES - 1);
    }
    quit(&v);
}

static void test_gib(void)
{
    check_gib(true, false);
    check_gib(true, true);
}

static void wait_until_read(XenSim *sim)
{
    while (xensim_buffered(sim)) {
        g_usleep(1000);
    }
}

/* 512 of 1024 pages, in an order that makes no sense. */
static void check_scattered(bool iommu)
{
    const unsigned nr = 512;
    uint32_t page;
    Machine v;

    start_with(&v, NULL, iommu, 1);
    page = xensim_page(v.sim, GFN);
    if (iommu) {
        assert_status(pviommu_map(v.iommu, 0, BFN, GFN, 2 * nr, 0), 0);
    }
    for (unsigned i = 0; i < 2 * nr; i += BUCKET) {
        assert_works(&v, i);
    }
    g_assert_cmpuint(xensim_mapped(v.sim, page, 2 * nr), ==, 2 * nr);
    for (unsigned i = 0; i < nr; i++) {
        unsigned which = i * 37 % nr * 2 + 1;

        xensim_remove(v.sim, GFN + which, 1);
        if (!put_entry(v.sim, GFN + which, XEN_INVALIDATE_PAGE_4K)) {
            g_assert_cmpuint(i, ==, RING_SLOTS);
            xensim_kick(v.sim);
            wait_until_read(v.sim);
            g_assert_true(put_entry(v.sim, GFN + which,
                                    XEN_INVALIDATE_PAGE_4K));
        }
    }
    send_barrier(v.sim, nr);
    for (unsigned i = 0; i < nr; i++) {
        g_assert_cmpuint(mapped(&v, page + 2 * i + 1), ==, 0);
    }
    assert_counts(v.sim, (Counts) {
        .entries = nr, .barriers = 1, .pages = nr,
    });
    if (iommu) {
        pviommu_assert_frames(v.iommu, nr, 0);
        mirror_assert_equal(&v.m[0], 0, nr);
    }
    for (unsigned i = 0; i < nr; i += 13) {
        assert_works(&v, 2 * i);
        g_assert_cmpuint(mapped(&v, page + 2 * i + 1), ==, 0);
        if (iommu) {
            assert_faults(&v, 2 * i + 1);
        }
    }
    quit(&v);
}

static void test_scattered(void)
{
    check_scattered(true);
}

/* Blocks, entries of something else between them, two barriers, two vCPUs. */
static void test_ring(void)
{
    const XenSimOptions options = { .vcpus = 2 };
    const XenSimIoreq barrier = {
        .type = XENSIM_INVALIDATE_PAGE, .size = 8, .data = 1,
    };
    uint32_t page;
    Machine v;

    start_with(&v, &options, true, 1);
    page = xensim_page(v.sim, GFN);
    assert_status(pviommu_map(v.iommu, 0, BFN, GFN, 4 * BUCKET, 0), 0);
    for (unsigned i = 0; i < 4 * BUCKET; i += BUCKET) {
        assert_works(&v, i);
    }
    xensim_remove(v.sim, GFN, 512);
    xensim_remove(v.sim, GFN + 700, 1);
    g_assert_true(xensim_buffer(v.sim, XENSIM_PIO, false, 0, 0x70, 0x41));
    g_assert_true(put_entry(v.sim, GFN, XEN_INVALIDATE_PAGE_2M));
    g_assert_true(xensim_buffer(v.sim, XENSIM_PIO, false, 0, 0x71, 0x99));
    g_assert_true(put_entry(v.sim, GFN + 700, XEN_INVALIDATE_PAGE_4K));
    /* Overlaps what is there already. */
    g_assert_true(put_entry(v.sim, GFN + 2, XEN_INVALIDATE_PAGE_4K));
    /* One of them knows of one entry only, but then all of them are read. */
    xensim_ioreq(v.sim, 1, &barrier);
    g_assert_cmpuint(xensim_buffered(v.sim), ==, 0);
    g_assert_cmpuint(xensim_mapped(v.sim, page, 512), ==, 0);
    g_assert_cmpuint(mapped(&v, page + 700), ==, 0);
    send_barrier(v.sim, 3);
    assert_counts(v.sim, (Counts) {
        .entries = 3, .barriers = 2, .pages = 514,
    });
    pviommu_assert_frames(v.iommu, 4 * BUCKET - 513, 0);
    g_assert_cmphex(xensim_in(v.sim, 0, 0x71, 1), ==, 0x99);
    assert_works(&v, 699);
    assert_works(&v, 512);
    assert_faults(&v, 511);
    assert_faults(&v, 700);
    quit(&v);
}

/* A page is named, is back before the barrier, and is a page of its own. */
static void test_ring_comes_back(void)
{
    uint32_t old;
    Machine v;

    start(&v);
    assert_status(pviommu_map(v.iommu, 0, BFN, GFN, 1, 0), 0);
    assert_works(&v, 0);
    old = xensim_page(v.sim, GFN);
    xensim_remove(v.sim, GFN, 1);
    g_assert_true(put_entry(v.sim, GFN, XEN_INVALIDATE_PAGE_4K));
    xensim_kick(v.sim);
    wait_until_read(v.sim);
    xensim_add(v.sim, GFN, 1);
    send_barrier(v.sim, 1);
    g_assert_cmpuint(mapped(&v, old), ==, 0);
    assert_faults(&v, 0);
    assert_status(pviommu_map(v.iommu, 0, BFN, GFN, 1, 0), 0);
    assert_works(&v, 0);
    quit(&v);
}

/* --- what is malformed ---------------------------------------------------- */

/* The @nr-th: QEMU lets go of its own mappings, and keeps the BFNs. */
static void assert_malformed(Machine *v, uint64_t nr)
{
    uint32_t page = xensim_page(v->sim, GFN);

    g_assert_cmpuint(counter(v->sim, "malformed"), ==, nr);
    g_assert_cmpuint(counter(v->sim, "everything"), ==, nr);
    g_assert_cmpuint(counter(v->sim, "requests"), ==, 0);
    g_assert_cmpuint(counter(v->sim, "pages"), ==, 0);
    g_assert_cmpuint(mapped(v, page), ==, 0);
    pviommu_assert_frames(v->iommu, 4, 0);
    assert_works(v, 0);
    g_assert_cmpuint(mapped(v, page), ==, 1);
}

static void test_malformed(void)
{
    static const XenSimIoreq requests[] = {
        { .addr = GFN * PAGE, .count = 1, .read = true },
        { .addr = GFN * PAGE, .count = 1, .data_is_ptr = true },
        { .addr = GFN * PAGE, .count = 1, .df = true },
        { .addr = GFN * PAGE + 8, .count = 1 },
        { .addr = GFN * PAGE, .count = 1, .data = 1 },
        { .addr = 1ull << 52, .count = 1 },
        { .addr = (1ull << 52) - PAGE, .count = 2 },
        { .addr = -PAGE, .count = 2 },
        { .addr = -PAGE, .count = UINT32_MAX },
        { .addr = (1ull << 52) - PAGE, .count = UINT32_MAX },
        /* Barriers. */
        { .data = 1, .read = true },
        { .data = 1, .data_is_ptr = true },
        { .data = 1, .df = true },
        { .data = 0 },
        { .addr = GFN * PAGE, .data = 0 },
        { .addr = GFN * PAGE, .data = 1 },
        { .data = 1 },
        { .data = UINT32_MAX },
        { .data = INT64_MAX },
    };
    static const struct {
        uint64_t gfn;
        unsigned class;
        bool read;
    } entries[] = {
        { GFN, 3 },
        { GFN, XEN_INVALIDATE_PAGE_4K, true },
        { GFN + 1, XEN_INVALIDATE_PAGE_2M },
        { GFN + 256, XEN_INVALIDATE_PAGE_2M },
        { GFN, XEN_INVALIDATE_PAGE_1G },
        { 1ull << 40, XEN_INVALIDATE_PAGE_4K },
        { (1ull << 52) - 1, XEN_INVALIDATE_PAGE_4K },
        { (1ull << 52) - GIB_PAGES, XEN_INVALIDATE_PAGE_1G },
    };
    uint64_t nr = 0;
    Machine v;

    start(&v);
    assert_status(pviommu_map(v.iommu, 0, BFN, GFN, 4, 0), 0);
    assert_works(&v, 0);
    for (int i = 0; i < ARRAY_SIZE(requests); i++) {
        XenSimIoreq req = requests[i];

        req.type = XENSIM_INVALIDATE_PAGE;
        req.size = 8;
        xensim_ioreq(v.sim, 0, &req);
        assert_malformed(&v, ++nr);
    }
    for (int i = 0; i < ARRAY_SIZE(entries); i++) {
        g_assert_true(xensim_buffer(v.sim, XENSIM_INVALIDATE_PAGE,
                                    entries[i].read, entries[i].class,
                                    entries[i].gfn >> 32, entries[i].gfn));
        /* It counts as an entry all the same: this barrier is a good one. */
        send_barrier(v.sim, i + 1);
        assert_malformed(&v, ++nr);
        g_assert_cmpuint(counter(v.sim, "barriers"), ==, i + 1);
    }
    /* One too many; and one for which the pages are there, at least. */
    send_barrier(v.sim, ARRAY_SIZE(entries) + 1);
    assert_malformed(&v, ++nr);
    xensim_remove(v.sim, GFN + 1, 1);
    g_assert_true(put_entry(v.sim, GFN + 1, XEN_INVALIDATE_PAGE_4K));
    send_barrier(v.sim, ARRAY_SIZE(entries) + 7);
    g_assert_cmpuint(counter(v.sim, "malformed"), ==, nr + 1);
    assert_faults(&v, 1);
    assert_works(&v, 0);
    quit(&v);
}

/* --- everything ----------------------------------------------------------- */

/* What is mapped for devices stays, as nobody said that a page is gone. */
static void test_everything(void)
{
    const uint64_t nr = 3 * BUCKET;
    uint32_t page;
    Machine v;

    start(&v);
    page = xensim_page(v.sim, GFN);
    assert_status(pviommu_map(v.iommu, 0, BFN, GFN, nr, 0), 0);
    for (uint64_t i = 0; i < nr; i += BUCKET) {
        assert_works(&v, i);
    }
    /* Two entries for one bucket: one that is locked has a page missing. */
    g_assert_cmpuint(hold(&v, 0, 1, 1), ==, PAGE);
    take_away(&v, GFN, 1);
    xensim_add(v.sim, GFN, 1);
    assert_status(pviommu_map(v.iommu, 0, BFN, GFN, 1, 0), 0);
    assert_works(&v, 0);
    g_assert_cmpuint(xensim_mapped(v.sim, page, nr), >, nr);

    send_everything(v.sim);
    g_assert_cmpuint(mapped(&v, xensim_page(v.sim, GFN)), ==, 0);
    g_assert_cmpuint(mapped(&v, page + 1), ==, 1);
    g_assert_cmpuint(xensim_mapped(v.sim, page + BUCKET, 2 * BUCKET), ==, 0);
    pviommu_assert_frames(v.iommu, nr, 0);
    mirror_release(&v.m[0], 0, PAGE);
    g_assert_cmpuint(xensim_mapped(v.sim, page, nr), ==, 0);
    for (uint64_t i = 0; i < nr; i += 100) {
        assert_works(&v, i);
    }
    assert_counts(v.sim, (Counts) {
        .requests = 1, .pages = 1, .everything = 1,
    });
    quit(&v);
}

/* --- the mapcache alone --------------------------------------------------- */

static void test_mapcache_page(void)
{
    uint32_t page, other;
    Machine v;

    start_with(&v, NULL, false, 1);
    page = xensim_page(v.sim, GFN + 1);
    other = xensim_page(v.sim, GFN + 2);
    for (int i = 0; i < 3; i++) {
        assert_works(&v, i);
    }
    g_assert_cmpuint(mapped(&v, page), ==, 1);
    take_away(&v, GFN + 1, 1);
    g_assert_cmpuint(mapped(&v, page), ==, 0);
    g_assert_cmpuint(mapped(&v, other), ==, 1);
    assert_counts(v.sim, (Counts) { .requests = 1, .pages = 1 });
    g_assert_cmpuint(counter(v.sim, "mapcache-pages"), ==, 1);
    /* Memory that is not there is held like none: in a bounce buffer. */
    g_assert_cmpuint(hold(&v, 0, 1, 1), ==, PAGE);
    mirror_touch_write(&v.m[0], 0, 0, 1);
    g_assert_cmpuint(mapped(&v, page), ==, 0);
    mirror_release(&v.m[0], 0, PAGE);
    g_assert_cmpuint(mapped(&v, page), ==, 0);
    assert_works(&v, 0);
    assert_works(&v, 2);

    xensim_add(v.sim, GFN + 1, 1);
    assert_works(&v, 1);
    g_assert_cmpuint(mapped(&v, page), ==, 0);
    quit(&v);
}

static void test_mapcache_held(void)
{
    check_held(false);
    check_two_locks(false, true);
    check_two_locks(false, false);
}

static void test_mapcache_large(void)
{
    check_gib(false, false);
    check_gib(false, true);
    check_scattered(false);
}

/* An IOMMU that was unplugged is told of nothing more, and others are. */
static void test_old_hypervisor(void)
{
    const XenSimOptions options = { .features = "" };
    uint32_t page;
    QDict *rsp;
    Machine v;

    start_with(&v, &options, true, 1);
    rsp = qtest_qmp(v.sim->qts, "{ 'execute': 'x-query-xen-invalidate' }");
    g_assert_false(qdict_get_bool(qdict_get_qdict(rsp, "return"), "per-page"));
    qobject_unref(rsp);
    page = xensim_page(v.sim, GFN);
    assert_status(pviommu_map(v.iommu, 0, BFN, GFN, 1, 0), 0);
    assert_works(&v, 0);
    xensim_remove(v.sim, GFN, 1);
    send_everything(v.sim);
    g_assert_cmpuint(mapped(&v, page), ==, 0);
    assert_counts(v.sim, (Counts) { .everything = 1 });
    quit(&v);
}

/* --- all of it, in any order ---------------------------------------------- */

#define RANDOM_PAGES    (2 * BUCKET + 40)
#define RANDOM_STEPS    1500

typedef struct Random {
    Machine v;
    /* A page's number, and the slots that had it when they began. */
    uint32_t page[RANDOM_PAGES];
    struct {
        uint64_t nr;
        uint32_t pages[8];
    } held[PVIOMMU_MIRROR_NR_SLOTS];
    GArray *gone;               /* of page numbers */
    uint64_t entries;
} Random;

static bool is_held(Random *r, uint32_t page)
{
    for (int s = 0; s < PVIOMMU_MIRROR_NR_SLOTS; s++) {
        for (uint64_t i = 0; i < r->held[s].nr; i++) {
            if (r->held[s].pages[i] == page) {
                return true;
            }
        }
    }
    return false;
}

/* Pages that left are mapped if DMA has them, and only then. */
static void check_gone(Random *r)
{
    for (guint i = 0; i < r->gone->len; i++) {
        uint32_t page = g_array_index(r->gone, uint32_t, i);
        uint64_t n = xensim_mapped(r->v.sim, page, 1);

        if (is_held(r, page)) {
            g_assert_cmpuint(n, >=, 1);
        } else {
            g_assert_cmpuint(n, ==, 0);
            g_array_remove_index_fast(r->gone, i--);
        }
    }
}

static void random_remove(Random *r, uint64_t first, uint64_t nr, bool ring)
{
    Machine *v = &r->v;

    for (uint64_t i = first; i < first + nr; i++) {
        if (r->page[i] == XENSIM_NO_PAGE) {
            continue;
        }
        xensim_remove(v->sim, GFN + i, 1);
        g_array_append_val(r->gone, r->page[i]);
        r->page[i] = XENSIM_NO_PAGE;
        if (ring) {
            g_assert_true(put_entry(v->sim, GFN + i, XEN_INVALIDATE_PAGE_4K));
            r->entries++;
        }
    }
    if (!ring) {
        send_pages(v->sim, GFN + first, nr);
    } else if (r->entries) {
        send_barrier(v->sim, r->entries);
    }
}

static void random_add(Random *r, uint64_t first, uint64_t nr)
{
    for (uint64_t i = first; i < first + nr; i++) {
        if (r->page[i] == XENSIM_NO_PAGE) {
            xensim_add(r->v.sim, GFN + i, 1);
            r->page[i] = xensim_page(r->v.sim, GFN + i);
        }
    }
}

static void random_hold(Random *r, unsigned slot, uint64_t first, uint64_t nr)
{
    uint64_t len;

    if (r->held[slot].nr) {
        mirror_release(&r->v.m[0], slot, r->held[slot].nr * PAGE);
        r->held[slot].nr = 0;
        return;
    }
    nr = MIN(nr, ARRAY_SIZE(r->held[slot].pages));
    for (uint64_t i = 0; i < nr; i++) {
        if (r->page[first + i] == XENSIM_NO_PAGE) {
            return;
        }
        r->held[slot].pages[i] = r->page[first + i];
    }
    len = hold(&r->v, slot, first, nr);
    g_assert_cmpuint(len, ==, nr * PAGE);
    r->held[slot].nr = nr;
}

/* Whoever holds a page reaches that one, whatever became of it. */
static void random_touch(Random *r, unsigned slot, uint64_t value)
{
    for (uint64_t i = 0; i < r->held[slot].nr; i++) {
        uint64_t data;

        mirror_touch_write(&r->v.m[0], slot, i * PAGE + 24, value + i);
        xensim_peek(r->v.sim, r->held[slot].pages[i], 24, &data, sizeof(data));
        g_assert_cmphex(le64_to_cpu(data), ==, value + i);
    }
}

static void test_random(void)
{
    Random r = { .gone = g_array_new(false, false, sizeof(uint32_t)) };

    start_with(&r.v, NULL, false, 1);
    for (int i = 0; i < RANDOM_PAGES; i++) {
        r.page[i] = xensim_page(r.v.sim, GFN + i);
    }
    for (int step = 0; step < RANDOM_STEPS; step++) {
        unsigned slot = g_test_rand_int_range(0, PVIOMMU_MIRROR_NR_SLOTS);
        /* Often enough the same pages, and those where buckets meet. */
        unsigned first = g_test_rand_int_range(0, 3) * BUCKET +
                         g_test_rand_int_range(0, 24);
        unsigned nr = g_test_rand_int_range(1, 9);

        switch (g_test_rand_int_range(0, 12)) {
        case 0 ... 2:
            random_hold(&r, slot, first, nr);
            break;
        case 3 ... 4:
            random_touch(&r, slot, 0x1000 * step);
            break;
        case 5 ... 6:
            random_remove(&r, first, nr, step & 1);
            break;
        case 7 ... 9:
            random_add(&r, first, nr);
            break;
        case 10:
            if (r.page[first] != XENSIM_NO_PAGE) {
                assert_works(&r.v, first);
            }
            break;
        case 11:
            if (step % 4 == 0) {
                send_everything(r.v.sim);
            }
            break;
        }
        check_gone(&r);
    }
    for (unsigned s = 0; s < PVIOMMU_MIRROR_NR_SLOTS; s++) {
        random_touch(&r, s, 0x77);
        if (r.held[s].nr) {
            random_hold(&r, s, 0, 1);
        }
    }
    check_gone(&r);
    g_assert_cmpuint(r.gone->len, ==, 0);
    g_assert_cmpuint(counter(r.v.sim, "malformed"), ==, 0);
    g_array_unref(r.gone);
    quit(&r.v);
}

int main(int argc, char **argv)
{
    static const struct {
        const char *name;
        void (*test)(void);
    } tests[] = {
        { "page", test_page },
        { "many", test_many },
        { "places", test_places },
        { "never-seen", test_never_seen },
        { "held", test_held },
        { "two-locks", test_two_locks },
        { "long-dma", test_long_dma },
        { "comes-back", test_comes_back },
        { "comes-back-early", test_comes_back_early },
        { "gib", test_gib },
        { "scattered", test_scattered },
        { "ring", test_ring },
        { "ring-comes-back", test_ring_comes_back },
        { "malformed", test_malformed },
        { "everything", test_everything },
        { "mapcache/page", test_mapcache_page },
        { "mapcache/held", test_mapcache_held },
        { "mapcache/large", test_mapcache_large },
        { "old-hypervisor", test_old_hypervisor },
        { "random", test_random },
    };

    g_test_init(&argc, &argv, NULL);
    for (int i = 0; i < ARRAY_SIZE(tests); i++) {
        g_autofree char *path = g_strconcat("/xen-pviommu/invalidate/",
                                            tests[i].name, NULL);

        qtest_add_func(path, tests[i].test);
    }
    return g_test_run();
}
