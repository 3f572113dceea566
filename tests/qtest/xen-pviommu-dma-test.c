/*
 * xen-pviommu: what DMA reaches
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/bswap.h"
#include "libqos/edu.h"

#define GFN             PVIOMMU_FREE_GFN
#define BFN             0x4000000
#define ADDR(frame)     ((uint64_t)(frame) * PVIOMMU_PAGE)
#define RO              XEN_IOMMUOP_map_readonly

static uint64_t faults(QXenPVIOMMU *iommu)
{
    return pviommu_counter(iommu, XEN_PVIOMMU_COUNTER_FAULTS);
}

static void test_reaches_mapped_pages(const void *machine)
{
    QEdu edu;
    QXenPVIOMMU *iommu = edu_start(machine, NULL, &edu);
    const uint64_t high = (1ull << 36) - 1;

    assert_status(pviommu_map(iommu, 0, BFN, GFN, 0, 0), 0);
    edu_assert_access(&edu, ADDR(BFN), ADDR(GFN), PVIOMMU_PAGE);
    edu_assert_access(&edu, ADDR(BFN) + 0x123, ADDR(GFN) + 0x123, 0x456);
    edu_assert_access(&edu, ADDR(BFN) + 0xfff, ADDR(GFN) + 0xfff, 1);

    /* The first BFN and the last one, and one page at two of them. */
    assert_status(pviommu_map(iommu, 0, 0, GFN + 1, 0, 0), 0);
    assert_status(pviommu_map(iommu, 0, high, GFN + 1, 0, 0), 0);
    edu_assert_access(&edu, 8, ADDR(GFN + 1) + 8, 64);
    edu_assert_access(&edu, ADDR(high) + 8, ADDR(GFN + 1) + 8, 64);
    g_assert_cmpuint(faults(iommu), ==, 0);
    pviommu_quit(iommu);
}

static void test_does_not_write_readonly_pages(const void *machine)
{
    QEdu edu;
    QXenPVIOMMU *iommu = edu_start(machine, NULL, &edu);
    uint8_t got[256];

    assert_status(pviommu_map(iommu, 0, BFN, GFN, 4, RO), 0);
    edu_assert_readonly(&edu, ADDR(BFN + 1), ADDR(GFN + 1), 64);
    g_assert_cmpuint(faults(iommu), ==, 1);

    /* ROM can be read. */
    assert_status(pviommu_map(iommu, 0, BFN + 8,
                              PVIOMMU_BIOS_ADDR / PVIOMMU_PAGE, 1, RO), 0);
    edu_load(&edu, ADDR(BFN + 8) + 0x10, got, sizeof(got));
    for (unsigned i = 0; i < sizeof(got); i++) {
        g_assert_cmphex(got[i], ==, PVIOMMU_BIOS_BYTE(i + 0x10));
    }
    pviommu_quit(iommu);
}

static void test_to_unmapped_bfns_faults(const void *machine)
{
    QEdu edu;
    QXenPVIOMMU *iommu = edu_start(machine, NULL, &edu);

    /* Neither what is nowhere nor the page that has this number. */
    edu_assert_no_access(&edu, ADDR(BFN), ADDR(GFN), 64);
    edu_assert_no_access(&edu, ADDR(GFN), ADDR(GFN), 64);
    edu_assert_no_access(&edu, ADDR(1ull << 36), ADDR(GFN), 64);
    edu_assert_no_access(&edu, 1ull << 63, ADDR(GFN), 64);
    edu_assert_no_access(&edu, -4096ull, ADDR(GFN), 64);
    g_assert_cmpuint(faults(iommu), ==, 10);

    /* Gone with the unmap, whatever was seen before, flushed or not. */
    assert_status(pviommu_map(iommu, 0, BFN, GFN, 3, 0), 0);
    edu_assert_access(&edu, ADDR(BFN + 1), ADDR(GFN + 1), 64);
    assert_status(pviommu_unmap(iommu, 0, BFN + 1, 1), 0);
    edu_assert_no_access(&edu, ADDR(BFN + 1), ADDR(GFN + 1), 64);
    edu_assert_access(&edu, ADDR(BFN), ADDR(GFN), 64);
    edu_assert_access(&edu, ADDR(BFN + 2), ADDR(GFN + 2), 64);
    assert_status(pviommu_flush_all(iommu, 0), 0);
    edu_assert_no_access(&edu, ADDR(BFN + 1), ADDR(GFN + 1), 64);

    /* And another page in its place is that page. */
    assert_status(pviommu_map(iommu, 0, BFN + 1, GFN + 77, 1, 0), 0);
    edu_assert_access(&edu, ADDR(BFN + 1), ADDR(GFN + 77), 64);
    edu_assert_no_access(&edu, ADDR(GFN + 77), ADDR(GFN + 77), 64);
    pviommu_quit(iommu);
}

/* Reserved ranges are 1:1, in every context. */
static void test_reserved_ranges_are_identity(const void *machine)
{
    g_autofree char *props =
        g_strdup_printf("\"reserved-regions\":[\"0x%x000:0x%xfff:0\"]",
                        GFN, GFN + 1);
    QEdu edu;
    QXenPVIOMMU *iommu = edu_start(machine, props, &edu);
    uint16_t ctx = pviommu_alloc_context(iommu);

    edu_assert_access(&edu, ADDR(GFN), ADDR(GFN), 64);
    edu_assert_access(&edu, ADDR(GFN + 1), ADDR(GFN + 1), PVIOMMU_PAGE);
    edu_assert_no_access(&edu, ADDR(GFN + 2), ADDR(GFN + 2), 64);
    edu_assert_no_access(&edu, ADDR(GFN) - 64, ADDR(GFN) - 64, 64);
    assert_status(pviommu_attach(iommu, EDU_SBDF_A, ctx), 0);
    edu_map_window(&edu, iommu, ctx, 0);
    edu_assert_access(&edu, ADDR(GFN), ADDR(GFN), 64);

    /* The page is in reach elsewhere too. */
    assert_status(pviommu_map(iommu, ctx, BFN, GFN, 1, RO), 0);
    edu_assert_readonly(&edu, ADDR(BFN), ADDR(GFN), 64);
    edu_assert_access(&edu, ADDR(GFN), ADDR(GFN), 64);
    pviommu_quit(iommu);
}

/* One DMA over several BFNs gets at several pages, wherever they are. */
static void test_crosses_pages_that_are_apart(const void *machine)
{
    const unsigned half = EDU_BUF_SIZE / 2;
    uint8_t data[EDU_BUF_SIZE], got[EDU_BUF_SIZE];
    QEdu edu;
    QXenPVIOMMU *iommu = edu_start(machine, NULL, &edu);

    for (unsigned i = 0; i < sizeof(data); i++) {
        data[i] = i * 3 + i / 256;
    }
    assert_status(pviommu_map(iommu, 0, BFN, GFN, 2, 0), 0);
    edu_assert_access(&edu, ADDR(BFN + 1) - half, ADDR(GFN + 1) - half,
                      EDU_BUF_SIZE);

    assert_status(pviommu_map(iommu, 0, BFN + 2, GFN + 100, 0, 0), 0);
    assert_status(pviommu_map(iommu, 0, BFN + 3, GFN + 50, 0, 0), 0);
    edu_store(&edu, ADDR(BFN + 3) - half, data, sizeof(data));
    qtest_bufread(iommu->qts, ADDR(GFN + 101) - half, got, half);
    g_assert_cmpmem(got, half, data, half);
    qtest_bufread(iommu->qts, ADDR(GFN + 50), got, half);
    g_assert_cmpmem(got, half, data + half, half);
    edu_load(&edu, ADDR(BFN + 3) - half, got, sizeof(got));
    g_assert_cmpmem(got, sizeof(got), data, sizeof(data));
    g_assert_cmpuint(faults(iommu), ==, 0);

    /* Into unmapped BFNs: what is before them is written, the rest faults. */
    qtest_memset(iommu->qts, ADDR(GFN + 50), 0xdd, PVIOMMU_PAGE);
    qtest_memset(iommu->qts, ADDR(GFN + 51), 0xdd, PVIOMMU_PAGE);
    edu_store(&edu, ADDR(BFN + 4) - half, data, sizeof(data));
    qtest_bufread(iommu->qts, ADDR(GFN + 51) - half, got, sizeof(got));
    g_assert_cmpmem(got, half, data, half);
    for (unsigned i = half; i < sizeof(got); i++) {
        g_assert_cmphex(got[i], ==, 0xdd);
    }
    g_assert_cmpuint(faults(iommu), ==, 1);
    pviommu_quit(iommu);
}

/* Large ranges, aligned and not: each page of them is the right one. */
static void test_large_ranges_reach_each_page(void)
{
    static const struct {
        uint64_t bfn, gfn;
        uint32_t nr;
    } ranges[] = {
        { BFN, 0x2000, 0x200 },
        { BFN + 0x401, 0x2333, 0x5ff },
        { BFN + 0x40000, 0x2000, 0x8000 },
        { BFN + 0x80200, 0x2001, 0x4000 },
    };
    QEdu edu;
    QXenPVIOMMU *iommu = edu_start("q35", NULL, &edu);

    for (unsigned i = 0; i < ARRAY_SIZE(ranges); i++) {
        uint64_t bfn = ranges[i].bfn, gfn = ranges[i].gfn;
        uint32_t nr = ranges[i].nr;

        assert_status(pviommu_map(iommu, 0, bfn, gfn, nr, 0), 0);
        for (uint32_t n = 0; n < nr; n += 1 + nr / 13) {
            edu_assert_access(&edu, ADDR(bfn + n) + 4, ADDR(gfn + n) + 4, 16);
        }
        edu_assert_access(&edu, ADDR(bfn + nr) - 16, ADDR(gfn + nr) - 16, 16);
        edu_assert_no_access(&edu, ADDR(bfn + nr), ADDR(gfn + nr), 16);
        edu_assert_no_access(&edu, ADDR(bfn) - 16, ADDR(gfn) - 16, 16);

        /* A page in the middle is unmapped, its neighbours are not. */
        assert_status(pviommu_unmap(iommu, 0, bfn + nr / 2, 1), 0);
        edu_assert_no_access(&edu, ADDR(bfn + nr / 2), ADDR(gfn + nr / 2), 16);
        edu_assert_access(&edu, ADDR(bfn + nr / 2) - 16,
                          ADDR(gfn + nr / 2) - 16, 16);
        edu_assert_access(&edu, ADDR(bfn + nr / 2 + 1),
                          ADDR(gfn + nr / 2 + 1), 16);
        edu_assert_access(&edu, ADDR(bfn), ADDR(gfn), 16);
        assert_status(pviommu_unmap(iommu, 0, bfn, nr / 2), 0);
        assert_status(pviommu_unmap(iommu, 0, bfn + nr / 2 + 1,
                                    nr - nr / 2 - 1), 0);
        edu_assert_no_access(&edu, ADDR(bfn), ADDR(gfn), 16);
        assert_status(pviommu_flush_all(iommu, 0), 0);
    }
    pviommu_assert_frames(iommu, 1, 0);
    pviommu_quit(iommu);
}

/* RAM that stops being RAM is out of reach at once. */
static void test_to_a_page_that_stops_being_ram_faults(const void *machine)
{
    QEdu edu;
    QXenPVIOMMU *iommu = edu_start(machine, NULL, &edu);
    uint64_t before;

    pviommu_set_pam(iommu, 0, PVIOMMU_PAM_RAM);
    assert_status(pviommu_map(iommu, 0, BFN, 0xf1, 1, 0), 0);
    edu_assert_access(&edu, ADDR(BFN), 0xf1000, 64);
    before = faults(iommu);
    pviommu_set_pam(iommu, 0, PVIOMMU_PAM_ROM);
    edu_dma(&edu, true, ADDR(BFN), 64);
    g_assert_cmpuint(faults(iommu), ==, before + 1);
    pviommu_set_pam(iommu, 0, PVIOMMU_PAM_RAM);
    edu_assert_no_access(&edu, ADDR(BFN), 0xf1000, 64);
    pviommu_quit(iommu);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    pviommu_add_for_machines("dma/reaches-mapped-pages",
                             test_reaches_mapped_pages);
    pviommu_add_for_machines("dma/does-not-write-readonly-pages",
                             test_does_not_write_readonly_pages);
    pviommu_add_for_machines("dma/to-unmapped-bfns-faults",
                             test_to_unmapped_bfns_faults);
    pviommu_add_for_machines("dma/reserved-ranges-are-identity",
                             test_reserved_ranges_are_identity);
    pviommu_add_for_machines("dma/crosses-pages-that-are-apart",
                             test_crosses_pages_that_are_apart);
    pviommu_add_for_machines("dma/to-a-page-that-stops-being-ram-faults",
                             test_to_a_page_that_stops_being_ram_faults);
    pviommu_add("dma/large-ranges-reach-each-page",
                test_large_ranges_reach_each_page);
    return g_test_run();
}
