/*
 * xen-pviommu under a simulated hypervisor: pages that are gone when they are
 * used, or of which QEMU hears only that some left
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/bswap.h"
#include "hw/pci/pci_regs.h"
#include "qobject/qdict.h"
#include "libqos/pviommu-mirror.h"
#include "libqos/xensim.h"

#define GFN             PVIOMMU_FREE_GFN
#define BFN             0x123450ull

/* In synchronous requests: @count pages from @gfn on; of 0, the barrier. */
static XenSimIoreq invalidate(uint64_t gfn, uint32_t count, uint64_t data)
{
    return (XenSimIoreq) {
        .type = XENSIM_INVALIDATE_PAGE, .addr = gfn * PVIOMMU_PAGE,
        .size = 8, .count = count, .data = data,
    };
}

/* Mappings that no bucket has any more stay until threads have used them. */
static void wait_mapped(XenSim *sim, uint32_t page, uint64_t nr, uint64_t want)
{
    gint64 end = g_get_monotonic_time() + PVIOMMU_WAIT_US;

    while (xensim_mapped(sim, page, nr) != want) {
        g_assert_cmpint(g_get_monotonic_time(), <, end);
    }
}

/* A page that left the guest, and QEMU was not notified. */
static void test_dma_to_a_missing_page_fails(void)
{
    XenSim *sim = xensim_start_mirror(NULL);
    QXenPVIOMMU *iommu = xensim_pviommu(sim);
    uint32_t page = xensim_page(sim, GFN);
    uint64_t iova = BFN * PVIOMMU_PAGE;
    uint64_t data;
    QMirror m;

    mirror_init(&m, iommu, QPCI_DEVFN(XENSIM_MIRROR_SLOT, 0));
    pviommu_accept(iommu, XEN_IOMMU_FEATURES_ALL);
    assert_status(pviommu_map(iommu, 0, BFN, GFN, 3, 0), 0);
    xensim_invalidate_all(sim);
    xensim_remove(sim, GFN + 1, 1);
    g_assert_true(mirror_dma_write(&m, iova, 1, 8));
    g_assert_true(mirror_dma_write(&m, iova + 2 * PVIOMMU_PAGE, 1, 8));
    g_assert_false(mirror_dma_write(&m, iova + PVIOMMU_PAGE, 1, 8));
    g_assert_false(mirror_dma_read(&m, iova + PVIOMMU_PAGE + 8, &data));
    g_assert_cmphex(data, ==, 0);
    /* Across its edges. */
    g_assert_false(mirror_dma_write(&m, iova + PVIOMMU_PAGE - 4, 1, 8));
    g_assert_false(mirror_dma_write(&m, iova + 2 * PVIOMMU_PAGE - 4, 1, 8));
    wait_mapped(sim, page, 3, 2);

    /* What takes its time does so in memory of QEMU's own. */
    g_assert_cmpuint(mirror_hold(&m, 0, iova + PVIOMMU_PAGE, PVIOMMU_PAGE,
                                 true), ==, PVIOMMU_PAGE);
    mirror_touch_write(&m, 0, 8, 0x1234);
    mirror_release(&m, 0, PVIOMMU_PAGE);
    g_assert_cmpuint(mirror_hold(&m, 0, iova + PVIOMMU_PAGE, PVIOMMU_PAGE,
                                 false), ==, PVIOMMU_PAGE);
    g_assert_cmphex(mirror_touch_read(&m, 0, 8), ==, 0);
    mirror_release(&m, 0, PVIOMMU_PAGE);
    xensim_peek(sim, page + 1, 8, &data, sizeof(data));
    g_assert_cmphex(data, ==, 0);

    /* It comes back by itself, with the page that is there then. */
    xensim_add(sim, GFN + 1, 1);
    g_assert_true(mirror_dma_write(&m, iova + PVIOMMU_PAGE, 0x77, 8));
    g_assert_cmphex(xensim_readq(sim, (GFN + 1) * PVIOMMU_PAGE), ==, 0x77);
    wait_mapped(sim, xensim_page(sim, GFN + 1), 1, 1);
    pviommu_free(iommu);
    xensim_quit(sim);
}

/* A page leaves while a mapping that no bucket has any more still has it. */
static void test_page_leaves_a_mapping_without_a_bucket(void)
{
    XenSim *sim = xensim_start_mirror(NULL);
    QXenPVIOMMU *iommu = xensim_pviommu(sim);
    QMirror m;

    mirror_init(&m, iommu, QPCI_DEVFN(XENSIM_MIRROR_SLOT, 0));
    pviommu_accept(iommu, XEN_IOMMU_FEATURES_ALL);
    assert_status(pviommu_map(iommu, 0, BFN, GFN, 2, 0), 0);
    xensim_invalidate_all(sim);
    xensim_remove(sim, GFN + 1, 1);
    for (unsigned i = 0; i < 20; i++) {
        uint32_t page;

        g_assert_true(mirror_dma_write(&m, BFN * PVIOMMU_PAGE, i, 8));
        /* The bucket is mapped anew, as it lacks that page. */
        g_assert_false(mirror_dma_write(&m, (BFN + 1) * PVIOMMU_PAGE, 1, 8));
        page = xensim_release(sim, GFN, 1);
        g_assert_cmpuint(xensim_mapped(sim, page, 1), ==, 0);
        xensim_add(sim, GFN, 1);
        assert_status(pviommu_map(iommu, 0, BFN, GFN, 1, 0), 0);
    }
    pviommu_free(iommu);
    xensim_quit(sim);
}

/* DMA of a guest that uses no IOMMU. */
static void test_identity_dma_to_a_missing_page_fails(void)
{
    XenSim *sim = xensim_start_mirror(NULL);
    QXenPVIOMMU *iommu = xensim_pviommu(sim);
    uint64_t data, addr = GFN * PVIOMMU_PAGE;
    QMirror m;

    mirror_init(&m, iommu, QPCI_DEVFN(XENSIM_MIRROR_SLOT, 0));
    g_assert_true(pviommu_identity(iommu));
    g_assert_true(mirror_dma_write(&m, addr, 1, 8));
    xensim_remove(sim, GFN, 1);
    xensim_invalidate_all(sim);
    g_assert_false(mirror_dma_write(&m, addr, 2, 8));
    g_assert_false(mirror_dma_write(&m, addr + 3, 2, 1));
    g_assert_false(mirror_dma_read(&m, addr, &data));
    g_assert_true(mirror_dma_read(&m, addr + PVIOMMU_PAGE, &data));
    xensim_assert_alive(sim);
    pviommu_free(iommu);
    xensim_quit(sim);
}

/* Operations, in part or all, where there is no page. */
static void test_array_in_a_missing_page_ends_there(void)
{
    const uint64_t at = (GFN + 1) * PVIOMMU_PAGE;
    const uint64_t across = at - 2 * sizeof(struct xen_iommu_op);
    XenSim *sim = xensim_start_mirror(NULL);
    QXenPVIOMMU *iommu = xensim_pviommu(sim);
    struct xen_iommu_op ops[4], back[2];
    uint32_t done;

    pviommu_accept(iommu, XEN_IOMMU_FEATURES_ALL);
    for (unsigned i = 0; i < ARRAY_SIZE(ops); i++) {
        ops[i] = pviommu_op_map(0, BFN + i, GFN + 8 + i, 0, 0);
    }
    pviommu_store_ops(iommu, across, ops, ARRAY_SIZE(ops));
    xensim_remove(sim, GFN + 1, 1);
    xensim_invalidate_all(sim);
    assert_status(pviommu_ring(iommu, 0, at, 2, &done), XEN_IOMMU_EFAULT);
    g_assert_cmpuint(done, ==, 0);
    pviommu_assert_frames(iommu, 0, 0);

    assert_status(pviommu_ring(iommu, 0, across, 4, &done), XEN_IOMMU_EFAULT);
    g_assert_cmpuint(done, ==, 2);
    pviommu_load_ops(iommu, across, back, 2);
    assert_status(pviommu_status(&back[0]), 0);
    assert_status(pviommu_status(&back[1]), 0);
    pviommu_assert_frames(iommu, 2, 0);

    /* One that has its second half there only. */
    assert_status(pviommu_ring(iommu, 0, at - 16, 1, &done), XEN_IOMMU_EFAULT);
    pviommu_assert_frames(iommu, 2, 0);
    xensim_assert_alive(sim);
    pviommu_free(iommu);
    xensim_quit(sim);
}

/* The ring of faults, and where the interrupt is written. */
static void test_fault_ring_in_a_missing_page_drops_records(void)
{
    const uint64_t vector = XEN_PVIOMMU_MSIX_TABLE +
                            XEN_PVIOMMU_MSIX_VECTOR_FAULT * PCI_MSIX_ENTRY_SIZE;
    XenSim *sim = xensim_start_mirror(NULL);
    QXenPVIOMMU *iommu = xensim_pviommu(sim);
    uint64_t ring = PVIOMMU_RING_ADDR / PVIOMMU_PAGE;
    QMirror m;

    mirror_init(&m, iommu, QPCI_DEVFN(XENSIM_MIRROR_SLOT, 0));
    pviommu_accept(iommu, XEN_IOMMU_FEATURES_ALL);
    assert_status(pviommu_map(iommu, 0, BFN, GFN, 1, 0), 0);
    pviommu_fault_ring(iommu, 4);
    pviommu_writel(iommu, vector + PCI_MSIX_ENTRY_LOWER_ADDR,
                   (uint32_t)(BFN * PVIOMMU_PAGE));
    pviommu_writel(iommu, vector + PCI_MSIX_ENTRY_UPPER_ADDR,
                   BFN * PVIOMMU_PAGE >> 32);
    pviommu_writel(iommu, vector + PCI_MSIX_ENTRY_DATA, 0x77);
    pviommu_writel(iommu, vector + PCI_MSIX_ENTRY_VECTOR_CTRL, 0);
    qpci_config_writew(&iommu->dev,
                       qpci_find_capability(&iommu->dev, PCI_CAP_ID_MSIX, 0) +
                       PCI_MSIX_FLAGS, PCI_MSIX_FLAGS_ENABLE);

    g_assert_false(mirror_dma_write(&m, 0, 1, 8));
    pviommu_wait_faults(iommu, 1);
    while (xensim_readq(sim, GFN * PVIOMMU_PAGE) != 0x77) {
        g_usleep(1000);
    }

    /* No page for the interrupt; then none for the record. */
    xensim_invalidate_all(sim);
    xensim_remove(sim, GFN, 1);
    g_assert_false(mirror_dma_write(&m, PVIOMMU_PAGE, 1, 8));
    pviommu_wait_faults(iommu, 2);
    xensim_remove(sim, ring, 1);
    xensim_invalidate_all(sim);
    g_assert_false(mirror_dma_write(&m, 2 * PVIOMMU_PAGE, 1, 8));
    while (!pviommu_readl(iommu, XEN_PVIOMMU_REG_FAULT_LOST)) {
        g_usleep(1000);
    }
    g_assert_cmpuint(pviommu_readl(iommu, XEN_PVIOMMU_REG_FAULT_TAIL), ==, 2);
    xensim_assert_alive(sim);
    pviommu_free(iommu);
    xensim_quit(sim);
}

/* Nobody says which pages left: those go that have. */
static void test_unnamed_pages_are_unmapped(void)
{
    XenSim *sim = xensim_start_mirror(NULL);
    QXenPVIOMMU *iommu = xensim_pviommu(sim);
    uint32_t page = xensim_page(sim, GFN);
    uint16_t ctx;
    QMirror m;

    mirror_init(&m, iommu, QPCI_DEVFN(XENSIM_MIRROR_SLOT, 0));
    pviommu_accept(iommu, XEN_IOMMU_FEATURES_ALL);
    ctx = pviommu_alloc_context(iommu);
    assert_status(pviommu_map(iommu, 0, BFN, GFN, 8, 0), 0);
    assert_status(pviommu_map(iommu, ctx, BFN, GFN + 4, 4, 0), 0);
    assert_status(pviommu_unmap(iommu, 0, BFN + 6, 2), 0);
    pviommu_assert_frames(iommu, 10, 2);
    qobject_unref(qtest_qmp_assert_success_ref(sim->qts,
        "{'execute': 'x-xen-pviommu-host-map',"
        " 'arguments': {'gfn': %u, 'frames': 8}}", GFN));
    g_assert_cmpuint(xensim_references(sim, page + 5), ==, 1);

    xensim_invalidate_all(sim);
    pviommu_assert_frames(iommu, 10, 2);
    xensim_remove(sim, GFN + 2, 1);
    xensim_remove(sim, GFN + 5, 2);
    xensim_invalidate_all(sim);
    pviommu_assert_unmapped(iommu, 0, BFN + 2);
    pviommu_assert_unmapped(iommu, 0, BFN + 5);
    pviommu_assert_mapped(iommu, 0, BFN, GFN, 2, 0);
    pviommu_assert_mapped(iommu, 0, BFN + 3, GFN + 3, 2, 0);
    pviommu_assert_unmapped(iommu, ctx, BFN + 1);
    pviommu_assert_mapped(iommu, ctx, BFN + 3, GFN + 7, 1, 0);
    /* 3 of context 0, 2 of the other one, and the second that is pending. */
    pviommu_assert_frames(iommu, 6, 1);
    mirror_assert_equal(&m, 0, 4);
    for (unsigned i = 0; i < 8; i++) {
        bool gone = i == 2 || i == 5 || i == 6;

        g_assert_cmpuint(xensim_references(sim, page + i), ==, !gone);
    }
    g_assert_cmpuint(xensim_mapped(sim, page, 8), ==, 0);

    /* Others are there now: not by what was mapped. */
    xensim_add(sim, GFN + 2, 1);
    xensim_invalidate_all(sim);
    pviommu_assert_unmapped(iommu, 0, BFN + 2);
    assert_status(pviommu_map(iommu, 0, BFN + 2, GFN + 2, 1, 0), 0);
    g_assert_true(mirror_dma_write(&m, (BFN + 2) * PVIOMMU_PAGE, 0x99, 8));
    g_assert_cmphex(xensim_readq(sim, (GFN + 2) * PVIOMMU_PAGE), ==, 0x99);
    pviommu_free(iommu);
    xensim_quit(sim);
}

/* Entries of the ring are not kept until other pages are there. */
static void test_entries_end_with_invalidate_all(void)
{
    XenSim *sim = xensim_start_mirror(NULL);
    QXenPVIOMMU *iommu = xensim_pviommu(sim);

    pviommu_accept(iommu, XEN_IOMMU_FEATURES_ALL);
    assert_status(pviommu_map(iommu, 0, BFN, GFN, 1, 0), 0);
    xensim_remove(sim, GFN, 1);
    g_assert_true(xensim_buffer_invalidate(sim, GFN, XEN_INVALIDATE_PAGE_4K));
    xensim_invalidate_all(sim);
    pviommu_assert_unmapped(iommu, 0, BFN);
    xensim_add(sim, GFN, 1);
    assert_status(pviommu_map(iommu, 0, BFN, GFN, 1, 0), 0);
    xensim_barrier(sim, 1);
    pviommu_assert_mapped(iommu, 0, BFN, GFN, 1, 0);
    g_assert_cmpuint(xensim_counter(sim, "malformed"), ==, 0);
    pviommu_free(iommu);
    xensim_quit(sim);
}

/* What cannot be read named some page: none stays that left. */
static void test_malformed_request_unmaps_what_left(void)
{
    XenSim *sim = xensim_start_mirror(NULL);
    QXenPVIOMMU *iommu = xensim_pviommu(sim);
    XenSimIoreq requests[] = {
        invalidate(GFN, 1, 1),          /* data with a count */
        invalidate(0, 0, 0),            /* of no entries */
        invalidate(0, 0, 1000),         /* of more than there were */
        invalidate(0, 0, 2),            /* after entries that say nothing */
    };

    pviommu_accept(iommu, XEN_IOMMU_FEATURES_ALL);
    for (unsigned i = 0; i < ARRAY_SIZE(requests); i++) {
        uint32_t page = xensim_page(sim, GFN);
        uint64_t malformed = xensim_counter(sim, "malformed");

        assert_status(pviommu_map(iommu, 0, BFN, GFN, 2, 0), 0);
        qtest_writeq(sim->qts, GFN * PVIOMMU_PAGE, 1);
        g_assert_cmpuint(xensim_mapped(sim, page, 1), ==, 1);
        xensim_remove(sim, GFN, 1);
        if (i == ARRAY_SIZE(requests) - 1) {
            /* No such class, and a block that is not aligned. */
            g_assert_true(xensim_buffer_invalidate(sim, GFN, 3));
            g_assert_true(xensim_buffer_invalidate(sim, 1,
                                                   XEN_INVALIDATE_PAGE_2M));
            malformed++;
        }
        xensim_ioreq(sim, 0, &requests[i]);
        g_assert_cmpuint(xensim_counter(sim, "malformed"), ==, malformed + 1);
        g_assert_cmpuint(xensim_counter(sim, "everything"), ==, i + 1);
        g_assert_cmpuint(xensim_mapped(sim, page, 1), ==, 0);
        pviommu_assert_unmapped(iommu, 0, BFN);
        pviommu_assert_mapped(iommu, 0, BFN + 1, GFN + 1, 1, 0);
        xensim_add(sim, GFN, 1);
        assert_status(pviommu_unmap(iommu, 0, BFN + 1, 1), 0);
        assert_status(pviommu_flush_all(iommu, 0), 0);
    }
    /* The next one is as ever: it forgets what it names. */
    requests[0].data = 0;
    xensim_ioreq(sim, 0, &requests[0]);
    g_assert_cmpuint(xensim_counter(sim, "everything"), ==,
                     ARRAY_SIZE(requests));
    pviommu_free(iommu);
    xensim_quit(sim);
}

/* A bucket that DMA keeps, and pages in it that DMA does not need. */
static void test_locked_bucket_drops_other_pages(void)
{
    XenSim *sim = xensim_start_mirror(NULL);
    QXenPVIOMMU *iommu = xensim_pviommu(sim);
    uint32_t page = xensim_page(sim, GFN);
    uint64_t addr = (GFN + 1) * PVIOMMU_PAGE;
    QMirror m;

    mirror_init(&m, iommu, QPCI_DEVFN(XENSIM_MIRROR_SLOT, 0));
    g_assert_cmpuint(mirror_hold(&m, 0, GFN * PVIOMMU_PAGE, PVIOMMU_PAGE, true),
                     ==, PVIOMMU_PAGE);
    qtest_writeq(sim->qts, addr, 1);
    g_assert_cmpuint(xensim_mapped(sim, page, 2), ==, 2);
    xensim_remove(sim, GFN + 1, 1);
    xensim_add(sim, GFN + 1, 1);
    xensim_invalidate_all(sim);
    g_assert_cmpuint(xensim_mapped(sim, page, 1), ==, 1);
    g_assert_cmpuint(xensim_mapped(sim, page + 1, 1), ==, 0);
    qtest_writeq(sim->qts, addr, 2);
    g_assert_cmphex(xensim_readq(sim, addr), ==, 2);
    /* By a second mapping of them all: it stays. */
    g_assert_cmpuint(xensim_mapped(sim, page, 1), ==, 2);
    mirror_release(&m, 0, PVIOMMU_PAGE);
    g_assert_cmpuint(xensim_mapped(sim, page, 1), ==, 1);
    pviommu_free(iommu);
    xensim_quit(sim);
}

/* Two locks begin at a page; the one that ends is the one that ended. */
static void test_locks_of_a_page_end_by_length(void)
{
    const uint64_t addr = GFN * PVIOMMU_PAGE;
    XenSim *sim = xensim_start_mirror(NULL);
    QXenPVIOMMU *iommu = xensim_pviommu(sim);
    QMirror m;

    mirror_init(&m, iommu, QPCI_DEVFN(XENSIM_MIRROR_SLOT, 0));
    for (unsigned first = 0; first < 2; first++) {
        for (unsigned ends = 0; ends < 2; ends++) {
            uint32_t page = xensim_page(sim, GFN + 1);

            /* Slot 0 has one page, slot 1 two; in either order. */
            for (unsigned i = 0; i < 2; i++) {
                unsigned slot = i ^ first;
                uint64_t len = (slot + 1) * PVIOMMU_PAGE;

                g_assert_cmpuint(mirror_hold(&m, slot, addr, len, true), ==,
                                 len);
            }
            mirror_release(&m, ends, PVIOMMU_PAGE);
            xensim_release(sim, GFN + 1, 1);
            g_assert_cmpuint(xensim_mapped(sim, page, 1), ==, !ends);
            mirror_release(&m, !ends, PVIOMMU_PAGE);
            g_assert_cmpuint(xensim_mapped(sim, page, 1), ==, 0);
            xensim_add(sim, GFN + 1, 1);
        }
    }
    xensim_invalidate_all(sim);
    g_assert_cmpuint(xensim_mapped(sim, xensim_page(sim, GFN), 1), ==, 0);
    pviommu_free(iommu);
    xensim_quit(sim);
}

/* A long range is checked in parts; nothing is mapped for that. */
static void test_long_map_runs_in_parts(void)
{
    const XenSimOptions options = { .ram_mb = 3072 };
    const uint64_t first = 0x1000, nr = 0xa4000, go = 0x8000;
    XenSim *sim = xensim_start_mirror(&options);
    QXenPVIOMMU *iommu = xensim_pviommu(sim);
    uint32_t page = xensim_page(sim, first);
    uint64_t calls;

    pviommu_accept(iommu, XEN_IOMMU_FEATURES_ALL);
    calls = xensim_count(sim, "xenforeignmemory_map2");
    for (unsigned i = 0; i < nr / go; i++) {
        assert_status(pviommu_map(iommu, 0, BFN, first, nr, 0),
                      XEN_IOMMU_EAGAIN);
    }
    pviommu_assert_frames(iommu, 0, 0);
    assert_status(pviommu_map(iommu, 0, BFN, first, nr, 0), 0);
    pviommu_assert_frames(iommu, nr, 0);
    /* The operations themselves are in this range, in one bucket. */
    g_assert_cmpuint(xensim_mapped(sim, page, nr), ==, 256);
    calls = xensim_count(sim, "xenforeignmemory_map2") - calls;
    g_assert_cmpuint(calls, >=, nr / 1024);
    g_assert_cmpuint(calls, <=, nr / 1024 + 4);

    /* What was found is forgotten when pages leave. */
    assert_status(pviommu_unmap(iommu, 0, BFN, nr), 0);
    assert_status(pviommu_flush_all(iommu, 0), 0);
    xensim_invalidate_all(sim);
    assert_status(pviommu_map(iommu, 0, BFN, first, nr, 0), XEN_IOMMU_EAGAIN);
    xensim_release(sim, first + 5, 1);
    assert_status(pviommu_map(iommu, 0, BFN, first, nr, 0), XEN_IOMMU_ENOENT);
    pviommu_assert_frames(iommu, 0, 0);
    pviommu_free(iommu);
    xensim_quit(sim);
}

/* Mappings of the process that are the guest's memory: threads have others. */
static unsigned guest_mappings(XenSim *sim)
{
    g_autofree char *path = g_strdup_printf("/proc/%d/maps",
                                            (int)qtest_pid(sim->qts));
    g_autofree char *text = NULL;
    unsigned lines = 0;

    g_assert_true(g_file_get_contents(path, &text, NULL, NULL));
    for (const char *c = text; (c = strstr(c, "/memfd:xensim-ram")); c++) {
        lines++;
    }
    return lines;
}

/* Punched ranges are limited; neighbours are one range. */
static void test_punched_pages_are_limited(void)
{
    const XenSimOptions options = { .ram_mb = 1024 };
    const unsigned bucket = 256, per_bucket = 30, first = 0x2000;
    g_autofree char *max_text = NULL;
    XenSim *sim = xensim_start_mirror(&options);
    QXenPVIOMMU *iommu = xensim_pviommu(sim);
    unsigned max = 65530, max_punched, before;
    uint64_t entries = 0;
    QMirror m;

    if (g_file_get_contents("/proc/sys/vm/max_map_count", &max_text, NULL,
                            NULL)) {
        max = atoi(max_text);
    }
    max_punched = max / 16;

    /* A lock at each end: what is between them is punched as one. */
    mirror_init(&m, iommu, QPCI_DEVFN(XENSIM_MIRROR_SLOT, 0));
    mirror_hold(&m, 0, (uint64_t)first * PVIOMMU_PAGE, 8, true);
    mirror_hold(&m, 1, (uint64_t)(first + 255) * PVIOMMU_PAGE, 8, true);
    before = guest_mappings(sim);
    xensim_invalidate(sim, first, 200 * bucket);
    g_assert_cmpuint(xensim_counter(sim, "mapcache-pages"), ==, 254);
    g_assert_cmpuint(xensim_counter(sim, "mapcache-deferred"), ==, 2);
    g_assert_cmpuint(guest_mappings(sim), ==, before + 1);
    mirror_release(&m, 0, 8);
    g_assert_cmpuint(xensim_counter(sim, "mapcache-released"), ==, 1);
    mirror_release(&m, 1, 8);
    g_assert_cmpuint(xensim_counter(sim, "mapcache-released"), ==, 1);

    /* Every second page of many buckets. */
    for (unsigned i = 0; i < 200; i++) {
        unsigned gfn = first + i * bucket;

        qtest_writeb(sim->qts, (uint64_t)gfn * PVIOMMU_PAGE, 1);
        for (unsigned j = 0; j < per_bucket; j++) {
            while (!xensim_buffer_invalidate(sim, gfn + 2 * j,
                                             XEN_INVALIDATE_PAGE_4K)) {
                xensim_barrier(sim, entries);
            }
            entries++;
        }
    }
    xensim_barrier(sim, entries);
    g_assert_cmpuint(xensim_counter(sim, "malformed"), ==, 0);
    g_assert_cmpuint(xensim_counter(sim, "entries"), ==, 200 * per_bucket);
    /* One for a bucket, and one more for a punched page. */
    g_assert_cmpuint(guest_mappings(sim), <=,
                     before + MIN(max_punched, 200 * per_bucket) + 200);
    /* Cold buckets go as a whole, whatever the limit is. */
    if (max_punched < 200 * per_bucket) {
        g_assert_cmpuint(xensim_counter(sim, "mapcache-buckets"), >, 0);
    }
    for (unsigned i = 0; i < 200; i += 13) {
        uint32_t page = xensim_page(sim, first + i * bucket);

        g_assert_cmpuint(xensim_mapped(sim, page, 1), ==, 0);
    }
    pviommu_free(iommu);
    xensim_quit(sim);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    pviommu_add("xensim/dma-to-a-missing-page-fails",
                test_dma_to_a_missing_page_fails);
    pviommu_add("xensim/page-leaves-a-mapping-without-a-bucket",
                test_page_leaves_a_mapping_without_a_bucket);
    pviommu_add("xensim/identity-dma-to-a-missing-page-fails",
                test_identity_dma_to_a_missing_page_fails);
    pviommu_add("xensim/array-in-a-missing-page-ends-there",
                test_array_in_a_missing_page_ends_there);
    pviommu_add("xensim/fault-ring-in-a-missing-page-drops-records",
                test_fault_ring_in_a_missing_page_drops_records);
    pviommu_add("xensim/unnamed-pages-are-unmapped",
                test_unnamed_pages_are_unmapped);
    pviommu_add("xensim/entries-end-with-invalidate-all",
                test_entries_end_with_invalidate_all);
    pviommu_add("xensim/malformed-request-unmaps-what-left",
                test_malformed_request_unmaps_what_left);
    pviommu_add("xensim/locked-bucket-drops-other-pages",
                test_locked_bucket_drops_other_pages);
    pviommu_add("xensim/locks-of-a-page-end-by-length",
                test_locks_of_a_page_end_by_length);
    pviommu_add("xensim/long-map-runs-in-parts",
                test_long_map_runs_in_parts);
    pviommu_add("xensim/punched-pages-are-limited",
                test_punched_pages_are_limited);
    return g_test_run();
}
