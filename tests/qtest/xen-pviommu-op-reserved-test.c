/*
 * xen-pviommu: reserved ranges, what reports them and what they refuse
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/bswap.h"
#include "libqos/xen-pviommu.h"

#define GFN             PVIOMMU_FREE_GFN
#define MSI_BFN         0xfee00
#define MSI_FRAMES      0x100
#define RANGES_ADDR     (PVIOMMU_OPS_ADDR + 0x10000)

static void assert_range(QXenPVIOMMU *iommu, unsigned i, uint64_t bfn,
                         uint32_t nr, uint32_t flags)
{
    struct xen_iommu_reserved_range r;

    qtest_bufread(iommu->qts, RANGES_ADDR + i * sizeof(r), &r, sizeof(r));
    g_assert_cmphex(le64_to_cpu(r.start_bfn), ==, bfn);
    g_assert_cmphex(le32_to_cpu(r.nr_frames), ==, nr);
    g_assert_cmphex(le32_to_cpu(r.flags), ==, flags);
}

static void assert_no_range(QXenPVIOMMU *iommu, unsigned i)
{
    assert_range(iommu, i, 0xa5a5a5a5a5a5a5a5, 0xa5a5a5a5, 0xa5a5a5a5);
}

static void clear_ranges(QXenPVIOMMU *iommu)
{
    qtest_memset(iommu->qts, RANGES_ADDR, 0xa5, 0x2000);
}

static void test_query_reserved_lists_the_msi_window(const void *machine)
{
    QXenPVIOMMU *iommu = pviommu_start(machine, NULL, NULL);
    struct xen_iommu_op op;

    clear_ranges(iommu);

    /* No room: how many there are. */
    op = pviommu_op_query_reserved(0, 0, RANGES_ADDR);
    assert_status(pviommu_op(iommu, &op), XEN_IOMMU_ENOBUFS);
    g_assert_cmpuint(le32_to_cpu(op.u.query_reserved.nr_entries), ==, 1);
    assert_no_range(iommu, 0);

    op = pviommu_op_query_reserved(0, 1, RANGES_ADDR);
    assert_status(pviommu_op(iommu, &op), 0);
    g_assert_cmpuint(le32_to_cpu(op.u.query_reserved.nr_entries), ==, 1);
    assert_range(iommu, 0, MSI_BFN, MSI_FRAMES, XEN_IOMMU_RESERVED_msi);
    assert_no_range(iommu, 1);

    /* More room than needed, at an odd address. */
    op = pviommu_op_query_reserved(0, 100, RANGES_ADDR + 0x1003);
    assert_status(pviommu_op(iommu, &op), 0);
    g_assert_cmpuint(le32_to_cpu(op.u.query_reserved.nr_entries), ==, 1);
    g_assert_cmphex(qtest_readq(iommu->qts, RANGES_ADDR + 0x1003), ==, MSI_BFN);

    /* Of one device; a query does not enable translation. */
    pviommu_accept(iommu, XEN_IOMMU_FEATURE_CONTEXTS);
    clear_ranges(iommu);
    op = pviommu_op_query_reserved(0, 1, RANGES_ADDR);
    op.flags = cpu_to_le16(XEN_IOMMUOP_query_reserved_device);
    op.u.query_reserved.sbdf = cpu_to_le32(PVIOMMU_SLOT << 3);
    assert_status(pviommu_op(iommu, &op), 0);
    assert_range(iommu, 0, MSI_BFN, MSI_FRAMES, XEN_IOMMU_RESERVED_msi);
    op.u.query_reserved.sbdf = cpu_to_le32(0x13 << 3);
    assert_status(pviommu_op(iommu, &op), XEN_IOMMU_ENODEV);
    op.u.query_reserved.sbdf = cpu_to_le32((1 << 16) | (PVIOMMU_SLOT << 3));
    assert_status(pviommu_op(iommu, &op), XEN_IOMMU_ENODEV);
    g_assert_true(pviommu_identity(iommu));

    /* A context of its own respects them as well. */
    clear_ranges(iommu);
    op = pviommu_op_query_reserved(pviommu_alloc_context(iommu), 1,
                                   RANGES_ADDR);
    assert_status(pviommu_op(iommu, &op), 0);
    assert_range(iommu, 0, MSI_BFN, MSI_FRAMES, XEN_IOMMU_RESERVED_msi);
    pviommu_quit(iommu);
}

static void test_query_reserved_refuses_bad_arguments(void)
{
    QXenPVIOMMU *iommu = pviommu_start("q35", NULL, NULL);
    struct xen_iommu_op op;
    /* Where no RAM is: our own doorbells, ROM, nothing, beyond 2^64. */
    const uint64_t bad[] = {
        iommu->bar.addr + XEN_PVIOMMU_BLOCKS, PVIOMMU_BIOS_ADDR,
        PVIOMMU_RAM, PVIOMMU_RAM - 8, UINT64_MAX - 7, UINT64_MAX - 15,
    };

    for (unsigned i = 0; i < ARRAY_SIZE(bad); i++) {
        op = pviommu_op_query_reserved(0, 1, bad[i]);
        assert_status(pviommu_op(iommu, &op), XEN_IOMMU_EFAULT);
    }
    g_assert_cmpuint(pviommu_counter(iommu, XEN_PVIOMMU_COUNTER_DOORBELLS), ==,
                     ARRAY_SIZE(bad));

    op = pviommu_op_query_reserved(0, 1, RANGES_ADDR);
    op.u.query_reserved.pad = 1;
    assert_status(pviommu_op(iommu, &op), XEN_IOMMU_EINVAL);
    op = pviommu_op_query_reserved(0, 1, RANGES_ADDR);
    op.u.query_reserved.pad1 = 1;
    assert_status(pviommu_op(iommu, &op), XEN_IOMMU_EINVAL);
    op = pviommu_op_query_reserved(0, 1, RANGES_ADDR);
    op.u.query_reserved.sbdf = 1;
    assert_status(pviommu_op(iommu, &op), XEN_IOMMU_EINVAL);
    op = pviommu_op_query_reserved(0, 1, RANGES_ADDR);
    op.flags = cpu_to_le16(2);
    assert_status(pviommu_op(iommu, &op), XEN_IOMMU_EINVAL);
    /* ctx without the feature, and a context that is not there with it. */
    assert_status(pviommu_run_one(iommu, pviommu_op_query_reserved(
                                  5, 1, RANGES_ADDR)), XEN_IOMMU_EINVAL);
    pviommu_accept(iommu, XEN_IOMMU_FEATURE_CONTEXTS);
    assert_status(pviommu_run_one(iommu, pviommu_op_query_reserved(
                                  5, 1, RANGES_ADDR)), XEN_IOMMU_ENOENT);
    /* A device is in a context already. */
    op = pviommu_op_query_reserved(5, 1, RANGES_ADDR);
    op.flags = cpu_to_le16(XEN_IOMMUOP_query_reserved_device);
    assert_status(pviommu_op(iommu, &op), XEN_IOMMU_EINVAL);
    pviommu_quit(iommu);
}

/* Ranges of a property: in order, apart, and not to be mapped. */
static void test_reserved_regions_cannot_be_mapped(void)
{
    QXenPVIOMMU *iommu =
        pviommu_start_accepted("q35", "\"reserved-regions\":["
                               "\"0x200000000:0x200000fff:0\","
                               "\"0xfed00000:0xfef00fff:1\","
                               "\"0x10000000:0x10001fff:0\"]", NULL);
    struct xen_iommu_op op = pviommu_op_query_reserved(0, 8, RANGES_ADDR);
    uint32_t nr;

    clear_ranges(iommu);
    assert_status(pviommu_op(iommu, &op), 0);
    nr = le32_to_cpu(op.u.query_reserved.nr_entries);
    /* The second one has the MSI window within it. */
    g_assert_cmpuint(nr, ==, 5);
    assert_range(iommu, 0, 0x10000, 2, 0);
    assert_range(iommu, 1, 0xfed00, 0x100, XEN_IOMMU_RESERVED_msi);
    assert_range(iommu, 2, MSI_BFN, MSI_FRAMES, XEN_IOMMU_RESERVED_msi);
    assert_range(iommu, 3, 0xfef00, 1, XEN_IOMMU_RESERVED_msi);
    assert_range(iommu, 4, 0x200000, 1, 0);
    assert_no_range(iommu, 5);

    op = pviommu_op_query_reserved(0, 4, RANGES_ADDR);
    assert_status(pviommu_op(iommu, &op), XEN_IOMMU_ENOBUFS);
    g_assert_cmpuint(le32_to_cpu(op.u.query_reserved.nr_entries), ==, 5);

    assert_status(pviommu_map(iommu, 0, 0x10000, GFN, 1, 0),
                  XEN_IOMMU_EADDRNOTAVAIL);
    assert_status(pviommu_unmap(iommu, 0, 0x10001, 1),
                  XEN_IOMMU_EADDRNOTAVAIL);
    assert_status(pviommu_map(iommu, 0, 0x10002, GFN, 1, 0), 0);
    assert_status(pviommu_map(iommu, 0, 0xffff, GFN, 1, 0), 0);
    assert_status(pviommu_map(iommu, 0, 0x1fffff, GFN, 2, 0),
                  XEN_IOMMU_EADDRNOTAVAIL);
    assert_status(pviommu_map(iommu, 0, 0xfed00, GFN, 1, 0),
                  XEN_IOMMU_EADDRNOTAVAIL);
    assert_status(pviommu_map(iommu, pviommu_alloc_context(iommu), 0x200000,
                              GFN, 1, 0), XEN_IOMMU_EADDRNOTAVAIL);
    pviommu_assert_frames(iommu, 2, 0);
    pviommu_quit(iommu);
}

/* More of them than fit in any small buffer on the way. */
static void test_many_reserved_regions_are_listed(void)
{
    g_autoptr(GString) props = g_string_new("\"reserved-regions\":[");
    const unsigned nr = 100;
    QXenPVIOMMU *iommu;
    struct xen_iommu_op op;

    for (unsigned i = 0; i < nr; i++) {
        g_string_append_printf(props, "%s\"0x%x000:0x%xfff:0\"", i ? "," : "",
                               0x10000 + 2 * i, 0x10000 + 2 * i);
    }
    g_string_append(props, "]");
    iommu = pviommu_start_accepted("q35", props->str, NULL);
    clear_ranges(iommu);
    op = pviommu_op_query_reserved(0, nr + 1, RANGES_ADDR);
    assert_status(pviommu_op(iommu, &op), 0);
    g_assert_cmpuint(le32_to_cpu(op.u.query_reserved.nr_entries), ==, nr + 1);
    for (unsigned i = 0; i < nr; i++) {
        assert_range(iommu, i, 0x10000 + 2 * i, 1, 0);
    }
    assert_range(iommu, nr, MSI_BFN, MSI_FRAMES, XEN_IOMMU_RESERVED_msi);
    assert_no_range(iommu, nr + 1);
    pviommu_quit(iommu);
}

static void test_msi_window_cannot_be_mapped(const void *machine)
{
    QXenPVIOMMU *iommu = pviommu_start_accepted(machine, NULL, NULL);

    assert_status(pviommu_map(iommu, 0, MSI_BFN, GFN, 0, 0),
                  XEN_IOMMU_EADDRNOTAVAIL);
    assert_status(pviommu_map(iommu, 0, MSI_BFN + MSI_FRAMES - 1, GFN, 0, 0),
                  XEN_IOMMU_EADDRNOTAVAIL);
    assert_status(pviommu_map(iommu, 0, MSI_BFN - 1, GFN, 2, 0),
                  XEN_IOMMU_EADDRNOTAVAIL);
    assert_status(pviommu_map(iommu, 0, MSI_BFN - 1, GFN, 0x200, 0),
                  XEN_IOMMU_EADDRNOTAVAIL);
    pviommu_assert_frames(iommu, 0, 0);
    assert_status(pviommu_map(iommu, 0, MSI_BFN - 1, GFN, 1, 0), 0);
    assert_status(pviommu_map(iommu, 0, MSI_BFN + MSI_FRAMES, GFN, 1, 0), 0);
    assert_status(pviommu_unmap(iommu, 0, MSI_BFN, 0),
                  XEN_IOMMU_EADDRNOTAVAIL);
    assert_status(pviommu_unmap(iommu, 0, MSI_BFN - 1, MSI_FRAMES + 2),
                  XEN_IOMMU_EADDRNOTAVAIL);
    pviommu_assert_frames(iommu, 2, 0);
    pviommu_quit(iommu);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    pviommu_add_for_machines("op/query-reserved-lists-the-msi-window",
                             test_query_reserved_lists_the_msi_window);
    pviommu_add_for_machines("op/msi-window-cannot-be-mapped",
                             test_msi_window_cannot_be_mapped);
    pviommu_add("op/query-reserved-refuses-bad-arguments",
                test_query_reserved_refuses_bad_arguments);
    pviommu_add("op/reserved-regions-cannot-be-mapped",
                test_reserved_regions_cannot_be_mapped);
    pviommu_add("op/many-reserved-regions-are-listed",
                test_many_reserved_regions_are_listed);
    return g_test_run();
}
