/*
 * xen-pviommu under a simulated hypervisor: pages leave the guest, and nobody
 * has them any more when the answer is given (docs/specs/xen-invalidate-page)
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qobject/qdict.h"
#include "libqos/invalidate-fixture.h"

/* --- one page, and many --------------------------------------------------- */

static void test_page_is_unmapped(void)
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
    xensim_release(v.sim, GFN + 1, 1);
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
    g_assert_cmpuint(xensim_counter(v.sim, "mapcache-pages"), ==, 1);
    g_assert_cmpuint(xensim_counter(v.sim, "mapcache-buckets"), ==, 0);
    g_assert_cmpuint(mapped(&v, other), ==, 1);
    assert_works(&v, 0);
    assert_works(&v, 2);
    g_assert_cmpuint(mapped(&v, page), ==, 0);
    quit(&v);
}

static void test_many_pages_are_unmapped(void)
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
    xensim_release(v.sim, GFN + from, gone);
    g_assert_cmpuint(xensim_mapped(v.sim, page + from, gone), ==, 0);
    /* The rest of two buckets stayed; the one between them was dropped. */
    g_assert_cmpuint(xensim_mapped(v.sim, page, nr), ==, nr - gone);
    g_assert_cmpuint(xensim_counter(v.sim, "mapcache-buckets"), ==, 1);
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
static void test_page_is_unmapped_in_all_contexts(void)
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
    xensim_release(v.sim, GFN + 1, 1);
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

static void test_unused_page_changes_nothing(void)
{
    uint32_t page, other;
    Machine v;

    start(&v);
    assert_status(pviommu_map(v.iommu, 0, BFN, GFN, 1, 0), 0);
    assert_works(&v, 0);
    page = xensim_page(v.sim, GFN);
    other = xensim_page(v.sim, GFN + 16 * BUCKET);
    g_assert_cmpuint(mapped(&v, other), ==, 0);
    xensim_release(v.sim, GFN + 16 * BUCKET, 1);
    /* Beyond the guest's memory: it may have been something else of Xen's. */
    xensim_invalidate(v.sim, PVIOMMU_RAM_GFNS + 5, 7);
    xensim_invalidate(v.sim, (1ull << 40) - 2, 2);
    g_assert_cmpuint(mapped(&v, other), ==, 0);
    g_assert_cmpuint(mapped(&v, page), ==, 1);
    assert_works(&v, 0);
    assert_counts(v.sim, (Counts) { .requests = 3, .pages = 10 });
    g_assert_cmpuint(xensim_counter(v.sim, "mapcache-pages"), ==, 0);
    g_assert_cmpuint(pviommu_counter(v.iommu, XEN_PVIOMMU_COUNTER_INVALIDATED),
                     ==, 0);
    quit(&v);
}

/* --- DMA in flight -------------------------------------------------------- */

static void check_in_flight(bool iommu)
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
    xensim_release(v.sim, GFN + 3, 1);
    g_assert_cmpuint(mapped(&v, page), ==, 1);
    g_assert_cmpuint(xensim_counter(v.sim, "mapcache-deferred"), ==, 1);
    mirror_touch_write(&v.m[0], 0, 16, 0x5544332211);
    xensim_peek(v.sim, page, 16, &data, sizeof(data));
    g_assert_cmphex(le64_to_cpu(data), ==, 0x5544332211);
    if (iommu) {
        assert_faults(&v, 3);
    }
    /* Another page of that bucket has no such excuse. */
    g_assert_cmpuint(mapped(&v, other), ==, 1);
    xensim_release(v.sim, GFN + 5, 1);
    g_assert_cmpuint(mapped(&v, other), ==, 0);
    g_assert_cmpuint(mapped(&v, page), ==, 1);
    /* Nor does forgetting everything take it away. */
    xensim_invalidate_all(v.sim);
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

static void test_dma_in_flight_keeps_its_page(void)
{
    check_in_flight(true);
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
    xensim_release(v.sim, GFN, 4);
    g_assert_cmpuint(xensim_mapped(v.sim, page, 4), ==, 2 + second);
    g_assert_cmpuint(mapped(&v, page + 3), ==, 0);
    mirror_touch_write(&v.m[0], 0, 8, 1);
    mirror_touch_write(&v.m[0], 1, 8, 1);

    mirror_release(&v.m[0], 0, PAGE);
    g_assert_cmpuint(mapped(&v, page), ==, same_start);
    g_assert_cmpuint(mapped(&v, page + 1), ==, 1);
    g_assert_cmpuint(xensim_counter(v.sim, "mapcache-released"), ==, second);
    mirror_touch_write(&v.m[0], 1, PAGE, 2);

    mirror_release(&v.m[0], 1, PAGE);
    g_assert_cmpuint(xensim_mapped(v.sim, page, 4), ==, 0);
    quit(&v);
}

static void test_page_with_two_locks_waits_for_both(void)
{
    check_two_locks(true, true);
    check_two_locks(true, false);
}

/* A DMA across buckets: the entry that it locks is longer than others. */
static void test_dma_across_buckets_keeps_its_pages(void)
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
    xensim_release(v.sim, GFN + BUCKET, BUCKET);
    g_assert_cmpuint(xensim_mapped(v.sim, page + BUCKET, BUCKET), ==, BUCKET);
    xensim_release(v.sim, GFN + 2 * BUCKET, BUCKET);
    g_assert_cmpuint(xensim_mapped(v.sim, page + 2 * BUCKET, BUCKET), ==,
                     BUCKET - 3);
    mirror_release(&v.m[0], 0, nr * PAGE);
    g_assert_cmpuint(xensim_mapped(v.sim, page + BUCKET, 2 * BUCKET), ==, 0);
    assert_works(&v, BUCKET - 1);
    quit(&v);
}

/* --- pages that come back ------------------------------------------------- */

static void test_new_page_has_to_be_mapped(void)
{
    uint32_t old, new;
    uint64_t data;
    Machine v;

    start(&v);
    assert_status(pviommu_map(v.iommu, 0, BFN, GFN, 3, 0), 0);
    assert_works(&v, 1);
    old = xensim_page(v.sim, GFN + 1);
    xensim_release(v.sim, GFN + 1, 1);
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
static void test_new_page_beside_dma_to_the_old(void)
{
    uint32_t old, new;
    uint64_t data;
    Machine v;

    start(&v);
    assert_status(pviommu_map(v.iommu, 0, BFN, GFN, 3, 0), 0);
    old = xensim_page(v.sim, GFN + 1);
    g_assert_cmpuint(hold(&v, 0, 1, 1), ==, PAGE);
    xensim_release(v.sim, GFN + 1, 1);
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
    xensim_release(v.sim, GFN + 1, 1);
    g_assert_cmpuint(mapped(&v, new), >=, 1);
    mirror_release(&v.m[0], 1, PAGE);
    g_assert_cmpuint(mapped(&v, new), ==, 0);
    g_assert_cmpuint(mapped(&v, old), ==, 0);
    quit(&v);
}

/* --- everything ----------------------------------------------------------- */

/* What is mapped for devices stays, as nobody said that a page is gone. */
static void test_all_leaves_device_mappings(void)
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
    xensim_release(v.sim, GFN, 1);
    xensim_add(v.sim, GFN, 1);
    assert_status(pviommu_map(v.iommu, 0, BFN, GFN, 1, 0), 0);
    assert_works(&v, 0);
    g_assert_cmpuint(xensim_mapped(v.sim, page, nr), >, nr);

    xensim_invalidate_all(v.sim);
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

static void test_mapcache_page_is_unmapped(void)
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
    xensim_release(v.sim, GFN + 1, 1);
    g_assert_cmpuint(mapped(&v, page), ==, 0);
    g_assert_cmpuint(mapped(&v, other), ==, 1);
    assert_counts(v.sim, (Counts) { .requests = 1, .pages = 1 });
    g_assert_cmpuint(xensim_counter(v.sim, "mapcache-pages"), ==, 1);
    /* DMA to a page that was removed uses a bounce buffer. */
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

static void test_mapcache_dma_in_flight_keeps_its_page(void)
{
    check_in_flight(false);
    check_two_locks(false, true);
    check_two_locks(false, false);
}

/* A hypervisor without per-page invalidation: the mapcache is emptied. */
static void test_old_hypervisor_names_no_page(void)
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
    xensim_invalidate_all(v.sim);
    g_assert_cmpuint(mapped(&v, page), ==, 0);
    assert_counts(v.sim, (Counts) { .everything = 1 });
    quit(&v);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    pviommu_add("invalidate/page-is-unmapped", test_page_is_unmapped);
    pviommu_add("invalidate/many-pages-are-unmapped",
                test_many_pages_are_unmapped);
    pviommu_add("invalidate/page-is-unmapped-in-all-contexts",
                test_page_is_unmapped_in_all_contexts);
    pviommu_add("invalidate/unused-page-changes-nothing",
                test_unused_page_changes_nothing);
    pviommu_add("invalidate/dma-in-flight-keeps-its-page",
                test_dma_in_flight_keeps_its_page);
    pviommu_add("invalidate/page-with-two-locks-waits-for-both",
                test_page_with_two_locks_waits_for_both);
    pviommu_add("invalidate/dma-across-buckets-keeps-its-pages",
                test_dma_across_buckets_keeps_its_pages);
    pviommu_add("invalidate/new-page-has-to-be-mapped",
                test_new_page_has_to_be_mapped);
    pviommu_add("invalidate/new-page-beside-dma-to-the-old",
                test_new_page_beside_dma_to_the_old);
    pviommu_add("invalidate/all-leaves-device-mappings",
                test_all_leaves_device_mappings);
    pviommu_add("invalidate/mapcache/page-is-unmapped",
                test_mapcache_page_is_unmapped);
    pviommu_add("invalidate/mapcache/dma-in-flight-keeps-its-page",
                test_mapcache_dma_in_flight_keeps_its_page);
    pviommu_add("invalidate/old-hypervisor-names-no-page",
                test_old_hypervisor_names_no_page);
    return g_test_run();
}
