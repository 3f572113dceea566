/*
 * xen-pviommu: an NVMe disk of the host, which VFIO assigns to the machine
 *
 * The host's disk has known words in it, by their numbers.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/bswap.h"
#include "libqos/nvme.h"
#include "libqos/vfio-host.h"

#define DEVFN           QPCI_DEVFN(0x13, 0)
#define SBDF            DEVFN
#define GFN             0x4000ull
#define BFN             0x4000000ull
#define ADDR(frame)     ((uint64_t)(frame) * PVIOMMU_PAGE)
#define WORDS           (PVIOMMU_PAGE / 8)
/* Blocks that are the test's to write; more than those with known words */
#define OWN_LBA         2048

typedef struct Fixture {
    QXenPVIOMMU *iommu;
    QNvme nvme;
} Fixture;

static Fixture start(const char *machine, const char *props)
{
    g_autofree char *args = g_strdup_printf("-device vfio-pci,host=%s,addr=13",
                                            vfio_host.nvme);
    Fixture f = { .iommu = pviommu_start_accepted(machine, props, args) };

    nvme_init(&f.nvme, f.iommu, DEVFN);
    return f;
}

static void put_page(Fixture *f, uint64_t gfn, uint8_t byte)
{
    qtest_memset(f->iommu->qts, ADDR(gfn), byte, PVIOMMU_PAGE);
}

static bool page_is(Fixture *f, uint64_t gfn, uint8_t byte)
{
    g_autofree uint8_t *got = g_malloc(PVIOMMU_PAGE);

    qtest_bufread(f->iommu->qts, ADDR(gfn), got, PVIOMMU_PAGE);
    return got[0] == byte && !memcmp(got, got + 1, PVIOMMU_PAGE - 1);
}

/* What the host's disk has from @lba on: tests/functional/listeners made it. */
static bool page_has_blocks(Fixture *f, uint64_t gfn, uint64_t lba)
{
    g_autofree uint64_t *got = g_malloc(PVIOMMU_PAGE);

    qtest_bufread(f->iommu->qts, ADDR(gfn), got, PVIOMMU_PAGE);
    for (unsigned i = 0; i < WORDS; i++) {
        uint64_t word = (lba * NVME_BLOCK / 8 + i) * 0x9e3779b97f4a7c15;

        if (le64_to_cpu(got[i]) != word) {
            return false;
        }
    }
    return true;
}

/* It reads blocks into @gfn, which it sees at @bfn. */
static void assert_reads(Fixture *f, uint64_t bfn, uint64_t gfn)
{
    static uint64_t lba;

    lba = (lba + 24) % (OWN_LBA - PVIOMMU_PAGE / NVME_BLOCK);
    put_page(f, gfn, 0xee);
    g_assert_cmphex(nvme_transfer(&f->nvme, false, lba, ADDR(bfn)), ==,
                    NVME_STATUS_SUCCESS);
    g_assert_true(page_has_blocks(f, gfn, lba));
}

/* And nothing into @gfn, which was there, whatever the disk says of it. */
static void assert_does_not_read(Fixture *f, uint64_t bfn, uint64_t gfn)
{
    put_page(f, gfn, 0xee);
    nvme_transfer(&f->nvme, false, 8, ADDR(bfn));
    g_assert_true(page_is(f, gfn, 0xee));
}

/* The kernel logs no more than some in a few seconds. */
static void assert_host_faults(Fixture *f, uint64_t bfn, uint64_t gfn)
{
    unsigned tries = 0;

    vfio_host_skip_log();
    do {
        g_assert_cmpuint(tries++, <, 10);
        assert_does_not_read(f, bfn, gfn);
    } while (!vfio_host_fault_logged(ADDR(bfn)));
}

static void unmap(Fixture *f, uint16_t ctx, uint64_t bfn, uint32_t nr)
{
    assert_status(pviommu_unmap(f->iommu, ctx, bfn, nr), 0);
    assert_status(pviommu_flush(f->iommu, ctx, bfn, nr), 0);
}

static void test_reads_and_writes_blocks(const void *machine)
{
    Fixture f = start(machine, "premap=off");
    char serial[21] = "";

    nvme_map_queues(&f.nvme, 0);
    nvme_start(&f.nvme);
    assert_status(pviommu_map(f.iommu, 0, BFN, GFN, 4, 0), 0);
    g_assert_cmphex(nvme_identify(&f.nvme, ADDR(BFN)), ==, NVME_STATUS_SUCCESS);
    qtest_bufread(f.iommu->qts, ADDR(GFN) + 4, serial, 20);
    g_assert_cmpstr(g_strchomp(serial), ==, "outer");

    assert_reads(&f, BFN, GFN);
    assert_reads(&f, BFN + 3, GFN + 3);
    put_page(&f, GFN + 1, 0x5a);
    g_assert_cmphex(nvme_transfer(&f.nvme, true, OWN_LBA, ADDR(BFN + 1)), ==,
                    NVME_STATUS_SUCCESS);
    g_assert_cmphex(nvme_transfer(&f.nvme, false, OWN_LBA, ADDR(BFN + 2)), ==,
                    NVME_STATUS_SUCCESS);
    g_assert_true(page_is(&f, GFN + 2, 0x5a));
    pviommu_quit(f.iommu);
}

static void test_unmapped_page_faults_in_the_host(const void *machine)
{
    Fixture f = start(machine, "premap=off");

    nvme_map_queues(&f.nvme, 0);
    nvme_start(&f.nvme);
    assert_status(pviommu_map(f.iommu, 0, BFN, GFN, 4, 0), 0);
    assert_reads(&f, BFN + 1, GFN + 1);
    unmap(&f, 0, BFN + 1, 1);
    assert_host_faults(&f, BFN + 1, GFN + 1);
    assert_reads(&f, BFN, GFN);
    assert_reads(&f, BFN + 2, GFN + 2);

    /* Another page there, and the same one elsewhere; read-only */
    assert_status(pviommu_map(f.iommu, 0, BFN + 1, GFN + 9, 1, 0), 0);
    assert_status(pviommu_map(f.iommu, 0, BFN + 100, GFN + 1, 1,
                              XEN_IOMMUOP_map_readonly), 0);
    assert_reads(&f, BFN + 1, GFN + 9);
    assert_does_not_read(&f, BFN + 100, GFN + 1);
    g_assert_cmphex(nvme_transfer(&f.nvme, true, OWN_LBA, ADDR(BFN + 100)), ==,
                    NVME_STATUS_SUCCESS);
    g_assert_cmphex(nvme_transfer(&f.nvme, false, OWN_LBA, ADDR(BFN)), ==,
                    NVME_STATUS_SUCCESS);
    g_assert_true(page_is(&f, GFN, 0xee));
    pviommu_quit(f.iommu);
}

/* Its queues have the same BFNs in each context that it is moved to. */
static void test_works_in_another_context(const void *machine)
{
    Fixture f = start(machine, "premap=off");
    uint16_t ctx = pviommu_alloc_context(f.iommu);

    nvme_map_queues(&f.nvme, 0);
    nvme_map_queues(&f.nvme, ctx);
    assert_status(pviommu_map(f.iommu, 0, BFN, GFN, 1, 0), 0);
    assert_status(pviommu_map(f.iommu, ctx, BFN + 5, GFN + 5, 1, 0), 0);
    nvme_start(&f.nvme);
    assert_reads(&f, BFN, GFN);
    for (unsigned i = 0; i < 2; i++) {
        assert_status(pviommu_attach(f.iommu, SBDF, ctx), 0);
        assert_reads(&f, BFN + 5, GFN + 5);
        assert_does_not_read(&f, BFN, GFN);
        assert_status(pviommu_attach(f.iommu, SBDF, 0), 0);
        assert_reads(&f, BFN, GFN);
        assert_does_not_read(&f, BFN + 5, GFN + 5);
    }
    pviommu_quit(f.iommu);
}

/* Of the controller, and of the machine, after which nothing is mapped */
static void test_works_after_a_reset(const void *machine)
{
    Fixture f = start(machine, NULL);

    for (unsigned i = 0; i < 2; i++) {
        nvme_map_queues(&f.nvme, 0);
        assert_status(pviommu_map(f.iommu, 0, BFN, GFN, 1, 0), 0);
        nvme_start(&f.nvme);
        assert_reads(&f, BFN, GFN);
        nvme_start(&f.nvme);
        assert_reads(&f, BFN, GFN);
        g_assert_true(nvme_enabled(&f.nvme));
        pviommu_reset(f.iommu);
        pviommu_accept(f.iommu, XEN_IOMMU_FEATURES_ALL);
        nvme_init(&f.nvme, f.iommu, DEVFN);
        g_assert_false(nvme_enabled(&f.nvme));
    }
    pviommu_quit(f.iommu);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    if (!vfio_host_init()) {
        return 1;
    }
    pviommu_add_data("q35/vfio-nvme/reads-and-writes-blocks", "q35",
                     test_reads_and_writes_blocks);
    pviommu_add_data("q35/vfio-nvme/unmapped-page-faults-in-the-host", "q35",
                     test_unmapped_page_faults_in_the_host);
    pviommu_add_data("q35/vfio-nvme/works-in-another-context", "q35",
                     test_works_in_another_context);
    pviommu_add_data("q35/vfio-nvme/works-after-a-reset", "q35",
                     test_works_after_a_reset);
    return g_test_run();
}
