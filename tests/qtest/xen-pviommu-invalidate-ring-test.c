/*
 * xen-pviommu under a simulated hypervisor: large counts, the buffered ring and
 * malformed requests (docs/specs/xen-invalidate-page)
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "libqos/invalidate-fixture.h"

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

        /* So long a range is invalidated in parts. */
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
        g_assert_true(xensim_buffer_invalidate(v.sim, GIB_PAGES,
                                               XEN_INVALIDATE_PAGE_1G));
        xensim_barrier(v.sim, 1);
        assert_counts(v.sim, (Counts) {
            .entries = 1, .barriers = 1, .pages = GIB_PAGES,
        });
    } else {
        xensim_release(v.sim, GIB_PAGES, GIB_PAGES);
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

static void test_gib_is_unmapped(void)
{
    check_gib(true, false);
    check_gib(true, true);
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
        if (!xensim_buffer_invalidate(v.sim, GFN + which,
                                      XEN_INVALIDATE_PAGE_4K)) {
            g_assert_cmpuint(i, ==, RING_SLOTS);
            xensim_kick(v.sim);
            xensim_wait_read(v.sim);
            g_assert_true(xensim_buffer_invalidate(v.sim, GFN + which,
                                                   XEN_INVALIDATE_PAGE_4K));
        }
    }
    xensim_barrier(v.sim, nr);
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

static void test_scattered_pages_are_unmapped(void)
{
    check_scattered(true);
}

/* Blocks, entries of something else between them, two barriers, two vCPUs. */
static void test_barrier_waits_for_all_entries(void)
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
    g_assert_true(xensim_buffer_invalidate(v.sim, GFN, XEN_INVALIDATE_PAGE_2M));
    g_assert_true(xensim_buffer(v.sim, XENSIM_PIO, false, 0, 0x71, 0x99));
    g_assert_true(xensim_buffer_invalidate(v.sim, GFN + 700,
                                           XEN_INVALIDATE_PAGE_4K));
    /* Overlaps what is there already. */
    g_assert_true(xensim_buffer_invalidate(v.sim, GFN + 2,
                                           XEN_INVALIDATE_PAGE_4K));
    /* One of them knows of one entry only, but then all of them are read. */
    xensim_ioreq(v.sim, 1, &barrier);
    g_assert_cmpuint(xensim_buffered(v.sim), ==, 0);
    g_assert_cmpuint(xensim_mapped(v.sim, page, 512), ==, 0);
    g_assert_cmpuint(mapped(&v, page + 700), ==, 0);
    xensim_barrier(v.sim, 3);
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
static void test_page_back_before_the_barrier_is_new(void)
{
    uint32_t old;
    Machine v;

    start(&v);
    assert_status(pviommu_map(v.iommu, 0, BFN, GFN, 1, 0), 0);
    assert_works(&v, 0);
    old = xensim_page(v.sim, GFN);
    xensim_remove(v.sim, GFN, 1);
    g_assert_true(xensim_buffer_invalidate(v.sim, GFN, XEN_INVALIDATE_PAGE_4K));
    xensim_kick(v.sim);
    xensim_wait_read(v.sim);
    xensim_add(v.sim, GFN, 1);
    xensim_barrier(v.sim, 1);
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

    g_assert_cmpuint(xensim_counter(v->sim, "malformed"), ==, nr);
    g_assert_cmpuint(xensim_counter(v->sim, "everything"), ==, nr);
    g_assert_cmpuint(xensim_counter(v->sim, "requests"), ==, 0);
    g_assert_cmpuint(xensim_counter(v->sim, "pages"), ==, 0);
    g_assert_cmpuint(mapped(v, page), ==, 0);
    pviommu_assert_frames(v->iommu, 4, 0);
    assert_works(v, 0);
    g_assert_cmpuint(mapped(v, page), ==, 1);
}

static void test_malformed_leaves_device_mappings(void)
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
        xensim_barrier(v.sim, i + 1);
        assert_malformed(&v, ++nr);
        g_assert_cmpuint(xensim_counter(v.sim, "barriers"), ==, i + 1);
    }
    /* One too many; and one for which the pages are there, at least. */
    xensim_barrier(v.sim, ARRAY_SIZE(entries) + 1);
    assert_malformed(&v, ++nr);
    xensim_remove(v.sim, GFN + 1, 1);
    g_assert_true(xensim_buffer_invalidate(v.sim, GFN + 1,
                                           XEN_INVALIDATE_PAGE_4K));
    xensim_barrier(v.sim, ARRAY_SIZE(entries) + 7);
    g_assert_cmpuint(xensim_counter(v.sim, "malformed"), ==, nr + 1);
    assert_faults(&v, 1);
    assert_works(&v, 0);
    quit(&v);
}

/* --- the mapcache alone --------------------------------------------------- */

static void test_mapcache_large_counts_are_unmapped(void)
{
    check_gib(false, false);
    check_gib(false, true);
    check_scattered(false);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    pviommu_add("invalidate/gib-is-unmapped", test_gib_is_unmapped);
    pviommu_add("invalidate/scattered-pages-are-unmapped",
                test_scattered_pages_are_unmapped);
    pviommu_add("invalidate/barrier-waits-for-all-entries",
                test_barrier_waits_for_all_entries);
    pviommu_add("invalidate/page-back-before-the-barrier-is-new",
                test_page_back_before_the_barrier_is_new);
    pviommu_add("invalidate/malformed-leaves-device-mappings",
                test_malformed_leaves_device_mappings);
    pviommu_add("invalidate/mapcache/large-counts-are-unmapped",
                test_mapcache_large_counts_are_unmapped);
    return g_test_run();
}
