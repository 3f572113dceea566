/*
 * xen-pviommu: what each operation does, and how it fails
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/bswap.h"
#include "libqos/xen-pviommu.h"

#define GFN             PVIOMMU_FREE_GFN
#define MSI_BFN         0xfee00
#define MSI_FRAMES      0x100
#define BIOS_GFN        (PVIOMMU_BIOS_ADDR / PVIOMMU_PAGE)
/* A BFN that is no GFN of the machine: nothing is there 1:1 by accident. */
#define BFN             0x4000000
#define RANGES_ADDR     (PVIOMMU_OPS_ADDR + 0x10000)

#define RO              XEN_IOMMUOP_map_readonly

static void test_map_is_seen_by_lookup(const void *machine)
{
    QXenPVIOMMU *iommu = pviommu_start_accepted(machine, NULL, NULL);
    struct xen_iommu_op op = pviommu_op_map(0, BFN, GFN, 0, 0);
    struct xen_iommu_op old = op;

    assert_status(pviommu_op(iommu, &op), 0);
    /* Nothing but the status is stored. */
    old.status = 0;
    g_assert_cmpmem(&op, sizeof(op), &old, sizeof(old));

    pviommu_assert_mapped(iommu, 0, BFN, GFN, 1, 0);
    assert_status(pviommu_map(iommu, 0, BFN + 1, GFN + 7, 1, RO), 0);
    pviommu_assert_mapped(iommu, 0, BFN + 1, GFN + 7, 1, RO);
    pviommu_assert_unmapped(iommu, 0, BFN + 2);

    /* The ends of the BFN space and of RAM; a page twice. */
    assert_status(pviommu_map(iommu, 0, (1ull << 36) - 1, GFN, 0, 0), 0);
    pviommu_assert_mapped(iommu, 0, (1ull << 36) - 1, GFN, 1, 0);
    assert_status(pviommu_map(iommu, 0, 0, PVIOMMU_RAM_GFNS - 1, 0, 0), 0);
    pviommu_assert_mapped(iommu, 0, 0, PVIOMMU_RAM_GFNS - 1, 1, 0);
    pviommu_assert_frames(iommu, 4, 0);
    pviommu_quit(iommu);
}

static void test_unmapped_pages_are_pending_until_flushed(void)
{
    QXenPVIOMMU *iommu = pviommu_start_accepted("q35", NULL, NULL);

    assert_status(pviommu_map(iommu, 0, BFN, GFN, 16, 0), 0);
    assert_status(pviommu_unmap(iommu, 0, BFN + 4, 0), 0);
    pviommu_assert_frames(iommu, 15, 1);
    pviommu_assert_unmapped(iommu, 0, BFN + 4);
    pviommu_assert_mapped(iommu, 0, BFN, GFN, 4, 0);
    pviommu_assert_mapped(iommu, 0, BFN + 5, GFN + 5, 11, 0);

    /* Once is once. */
    assert_status(pviommu_unmap(iommu, 0, BFN + 4, 0), XEN_IOMMU_ENOENT);
    pviommu_assert_frames(iommu, 15, 1);

    /* A flush elsewhere lets go of nothing, one here of this page. */
    assert_status(pviommu_flush(iommu, 0, BFN, 4), 0);
    assert_status(pviommu_flush(iommu, 0, BFN + 5, 1000), 0);
    pviommu_assert_frames(iommu, 15, 1);
    assert_status(pviommu_flush(iommu, 0, BFN + 4, 0), 0);
    pviommu_assert_frames(iommu, 15, 0);
    /* Flushing nothing is no error. */
    assert_status(pviommu_flush(iommu, 0, BFN + 4, 0), 0);
    assert_status(pviommu_flush_all(iommu, 0), 0);

    /* A part of what waits. */
    assert_status(pviommu_unmap(iommu, 0, BFN + 5, 11), 0);
    pviommu_assert_frames(iommu, 4, 11);
    assert_status(pviommu_flush(iommu, 0, BFN + 8, 3), 0);
    pviommu_assert_frames(iommu, 4, 8);
    assert_status(pviommu_flush(iommu, 0, BFN + 7, 2), 0);
    pviommu_assert_frames(iommu, 4, 7);
    assert_status(pviommu_flush_all(iommu, 0), 0);
    pviommu_assert_frames(iommu, 4, 0);

    /* A BFN that waits for a flush may be mapped again. */
    assert_status(pviommu_unmap(iommu, 0, BFN, 1), 0);
    assert_status(pviommu_map(iommu, 0, BFN, GFN + 99, 1, 0), 0);
    pviommu_assert_frames(iommu, 4, 1);
    assert_status(pviommu_unmap(iommu, 0, BFN, 1), 0);
    pviommu_assert_frames(iommu, 3, 2);
    assert_status(pviommu_map(iommu, 0, BFN, GFN, 1, 0), 0);
    assert_status(pviommu_flush(iommu, 0, BFN, 1), 0);
    pviommu_assert_frames(iommu, 4, 0);
    pviommu_assert_mapped(iommu, 0, BFN, GFN, 4, 0);
    pviommu_quit(iommu);
}

/* An unmap takes what any number of maps brought, or nothing. */
static void test_unmap_spans_maps_or_changes_nothing(void)
{
    QXenPVIOMMU *iommu = pviommu_start_accepted("q35", NULL, NULL);

    assert_status(pviommu_map(iommu, 0, BFN, GFN, 3, 0), 0);
    assert_status(pviommu_map(iommu, 0, BFN + 3, GFN + 50, 2, RO), 0);
    assert_status(pviommu_map(iommu, 0, BFN + 6, GFN + 60, 2, 0), 0);

    assert_status(pviommu_unmap(iommu, 0, BFN, 8), XEN_IOMMU_ENOENT);
    assert_status(pviommu_unmap(iommu, 0, BFN + 4, 2), XEN_IOMMU_ENOENT);
    assert_status(pviommu_unmap(iommu, 0, BFN + 5, 2), XEN_IOMMU_ENOENT);
    pviommu_assert_frames(iommu, 7, 0);
    pviommu_assert_mapped(iommu, 0, BFN, GFN, 3, 0);
    pviommu_assert_mapped(iommu, 0, BFN + 3, GFN + 50, 2, RO);
    pviommu_assert_mapped(iommu, 0, BFN + 6, GFN + 60, 2, 0);

    assert_status(pviommu_unmap(iommu, 0, BFN + 1, 4), 0);
    pviommu_assert_frames(iommu, 3, 4);
    pviommu_assert_mapped(iommu, 0, BFN, GFN, 1, 0);
    pviommu_assert_unmapped(iommu, 0, BFN + 1);
    pviommu_assert_unmapped(iommu, 0, BFN + 4);
    pviommu_assert_mapped(iommu, 0, BFN + 6, GFN + 60, 2, 0);
    pviommu_quit(iommu);
}

/* Parts of 2 MiB and 1 GiB go, and the rest stays as it was. */
static void test_unmap_splits_large_ranges(void)
{
    g_autofree char *args = pviommu_args("q35", "x-check=off", "-m 3G");
    QXenPVIOMMU *iommu = pviommu_new(qtest_init(args));
    const uint32_t mid = 512, giant = 512 * 512;
    const uint64_t at = BFN + giant, from = giant;

    pviommu_probe(iommu);
    pviommu_accept(iommu, XEN_IOMMU_FEATURES_ALL);

    assert_status(pviommu_map(iommu, 0, BFN, mid, mid, 0), 0);
    assert_status(pviommu_unmap(iommu, 0, BFN + 100, 10), 0);
    pviommu_assert_mapped(iommu, 0, BFN, mid, 100, 0);
    pviommu_assert_unmapped(iommu, 0, BFN + 100);
    pviommu_assert_unmapped(iommu, 0, BFN + 109);
    pviommu_assert_mapped(iommu, 0, BFN + 110, mid + 110, mid - 110, 0);
    pviommu_assert_frames(iommu, mid - 10, 10);
    assert_status(pviommu_flush_all(iommu, 0), 0);

    assert_status(pviommu_map(iommu, 0, at, from, giant, RO), 0);
    pviommu_assert_mapped(iommu, 0, at, from, giant, RO);
    pviommu_assert_mapped(iommu, 0, at + 12345, from + 12345, giant - 12345,
                          RO);
    assert_status(pviommu_unmap(iommu, 0, at + 777, 1), 0);
    assert_status(pviommu_unmap(iommu, 0, at + 3 * mid, 2 * mid), 0);
    assert_status(pviommu_unmap(iommu, 0, at + giant - 1, 1), 0);
    pviommu_assert_frames(iommu, mid - 10 + giant - 2 - 2 * mid, 2 + 2 * mid);
    pviommu_assert_mapped(iommu, 0, at, from, 777, RO);
    pviommu_assert_unmapped(iommu, 0, at + 777);
    pviommu_assert_mapped(iommu, 0, at + 778, from + 778, 3 * mid - 778, RO);
    pviommu_assert_unmapped(iommu, 0, at + 3 * mid);
    pviommu_assert_unmapped(iommu, 0, at + 5 * mid - 1);
    pviommu_assert_mapped(iommu, 0, at + 5 * mid, from + 5 * mid,
                          giant - 1 - 5 * mid, RO);
    pviommu_assert_unmapped(iommu, 0, at + giant - 1);

    assert_status(pviommu_map(iommu, 0, at + 777, from + 777, 1, RO), 0);
    pviommu_assert_mapped(iommu, 0, at, from, 3 * mid, RO);
    pviommu_quit(iommu);
}

static void test_query_caps_says_limits_and_state(const void *machine)
{
    QXenPVIOMMU *iommu = pviommu_start(machine, "bfn-bits=30,max-contexts=9,"
                                       "max-mappings=12345", NULL);
    struct xen_iommu_op op = pviommu_op_query_caps();

    /* Without having accepted anything. */
    assert_status(pviommu_op(iommu, &op), 0);
    g_assert_cmphex(le64_to_cpu(op.u.query_caps.features), ==,
                    XEN_IOMMU_FEATURES_ALL);
    g_assert_cmphex(le32_to_cpu(op.u.query_caps.ops), ==, IOMMU_OPS_ALL);
    g_assert_cmpuint(le16_to_cpu(op.u.query_caps.max_contexts), ==, 9);
    g_assert_cmpuint(op.u.query_caps.bfn_bits, ==, 30);
    g_assert_cmphex(op.u.query_caps.state, ==,
                    XEN_IOMMU_STATE_identity | XEN_IOMMU_STATE_control);
    g_assert_cmpuint(le64_to_cpu(op.u.query_caps.max_mappings), ==, 12345);

    assert_status(pviommu_enable(iommu), 0);
    op = pviommu_op_query_caps();
    assert_status(pviommu_op(iommu, &op), 0);
    g_assert_cmphex(op.u.query_caps.state, ==, XEN_IOMMU_STATE_control);
    pviommu_quit(iommu);
}

static void test_lookup_finds_runs_both_ways(void)
{
    QXenPVIOMMU *iommu = pviommu_start_accepted("q35", NULL, NULL);
    uint16_t ctx = pviommu_alloc_context(iommu);
    struct xen_iommu_op op;

    assert_status(pviommu_map(iommu, 0, BFN, GFN, 10, 0), 0);
    assert_status(pviommu_map(iommu, 0, BFN + 100, GFN + 5, 10, RO), 0);
    assert_status(pviommu_map(iommu, ctx, BFN - 100, GFN + 5, 10, 0), 0);

    op = pviommu_op_lookup_bfn(0, BFN + 3);
    assert_status(pviommu_op(iommu, &op), 0);
    g_assert_cmphex(le64_to_cpu(op.u.lookup.gfn), ==, GFN + 3);
    g_assert_cmphex(le32_to_cpu(op.u.lookup.nr_frames), ==, 7);
    assert_status(pviommu_run_one(iommu, pviommu_op_lookup_bfn(0, BFN + 10)),
                  XEN_IOMMU_ENOENT);
    assert_status(pviommu_run_one(iommu, pviommu_op_lookup_bfn(ctx, BFN)),
                  XEN_IOMMU_ENOENT);

    /* The lowest BFN first, then the next one. */
    op = pviommu_op_lookup_gfn(0, GFN + 7, 0);
    assert_status(pviommu_op(iommu, &op), 0);
    g_assert_cmphex(le64_to_cpu(op.u.lookup.bfn), ==, BFN + 7);
    g_assert_cmphex(le64_to_cpu(op.u.lookup.gfn), ==, GFN + 7);
    g_assert_cmphex(le32_to_cpu(op.u.lookup.nr_frames), ==, 3);
    g_assert_cmphex(le16_to_cpu(op.flags), ==, 0);
    op = pviommu_op_lookup_gfn(0, GFN + 7, BFN + 8);
    assert_status(pviommu_op(iommu, &op), 0);
    g_assert_cmphex(le64_to_cpu(op.u.lookup.bfn), ==, BFN + 102);
    g_assert_cmphex(le32_to_cpu(op.u.lookup.nr_frames), ==, 8);
    g_assert_cmphex(le16_to_cpu(op.flags), ==, RO);
    assert_status(pviommu_run_one(iommu, pviommu_op_lookup_gfn(0, GFN + 7,
                                                               BFN + 103)),
                  XEN_IOMMU_ENOENT);
    assert_status(pviommu_run_one(iommu, pviommu_op_lookup_gfn(0, GFN + 15, 0)),
                  XEN_IOMMU_ENOENT);

    op = pviommu_op_lookup_gfn(ctx, GFN + 7, 0);
    assert_status(pviommu_op(iommu, &op), 0);
    g_assert_cmphex(le64_to_cpu(op.u.lookup.bfn), ==, BFN - 98);
    assert_status(pviommu_run_one(iommu, pviommu_op_lookup_gfn(ctx, GFN, 0)),
                  XEN_IOMMU_ENOENT);

    /* What is unmapped is not found, flushed or not. */
    assert_status(pviommu_unmap(iommu, 0, BFN + 7, 1), 0);
    op = pviommu_op_lookup_gfn(0, GFN + 7, 0);
    assert_status(pviommu_op(iommu, &op), 0);
    g_assert_cmphex(le64_to_cpu(op.u.lookup.bfn), ==, BFN + 102);
    pviommu_assert_unmapped(iommu, 0, BFN + 7);

    assert_status(pviommu_run_one(iommu, pviommu_op_lookup_bfn(77, BFN)),
                  XEN_IOMMU_ENOENT);
    assert_status(pviommu_run_one(iommu, pviommu_op_lookup_gfn(77, GFN, 0)),
                  XEN_IOMMU_ENOENT);
    pviommu_quit(iommu);
}

static void test_unknown_op_fails(void)
{
    static const uint16_t codes[] = {
        0, IOMMU_OPS_END, 31, 32, 33, 0x102, 0xffff,
    };
    QXenPVIOMMU *iommu = pviommu_start_accepted("q35", NULL, NULL);

    for (unsigned i = 0; i < ARRAY_SIZE(codes); i++) {
        struct xen_iommu_op op = pviommu_op_query_caps();

        op.op = cpu_to_le16(codes[i]);
        assert_status(pviommu_op(iommu, &op), XEN_IOMMU_EOPNOTSUPP);
    }
    pviommu_quit(iommu);
}

/* Bits that must be zero: all of them, in all operations. */
static void test_nonzero_pads_fail(void)
{
    QXenPVIOMMU *iommu = pviommu_start_accepted("q35", NULL, NULL);
    const uint16_t ctx = pviommu_alloc_context(iommu);
    const struct {
        struct xen_iommu_op op;
        /* Where zeroes must be: offsets in the operation. */
        struct {
            uint8_t from, to;
        } zero[2];
    } cases[] = {
        { pviommu_op_query_reserved(0, 1, RANGES_ADDR),
          { { 12, 16 }, { 30, 32 } } },
        { pviommu_op_unmap(0, BFN, 1), { { 16, 26 } } },
        { pviommu_op_flush(0, BFN, 1), { { 16, 26 } } },
        { pviommu_op_lookup_bfn(0, BFN), { { 16, 26 }, { 28, 32 } } },
        { pviommu_op_lookup_gfn(0, GFN, 0), { { 24, 26 }, { 28, 32 } } },
        { pviommu_op_alloc(), { { 8, 32 } } },
        { pviommu_op_free(ctx), { { 10, 32 } } },
        { pviommu_op_attach(PVIOMMU_SLOT << 3, ctx), { { 14, 32 } } },
        { pviommu_op_enable(), { { 8, 32 } } },
        { pviommu_op_alloc_irqs(PVIOMMU_SLOT << 3, 1),
          { { 8, 12 }, { 20, 32 } } },
        { pviommu_op_set_irq(0, 0, 0x61, 0, 0), { { 18, 32 } } },
        { pviommu_op_free_irqs(0), { { 12, 32 } } },
        { pviommu_op_direct_irqs(PVIOMMU_SLOT << 3, true), { { 12, 32 } } },
    };

    for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
        for (unsigned z = 0; z < 2; z++) {
            for (unsigned b = cases[i].zero[z].from; b < cases[i].zero[z].to;
                 b++) {
                struct xen_iommu_op op = cases[i].op;

                ((uint8_t *)&op)[b] = 0x80;
                assert_status(pviommu_op(iommu, &op), XEN_IOMMU_EINVAL);
            }
        }
    }
    /* None of it did anything. */
    g_assert_true(pviommu_identity(iommu));
    assert_status(pviommu_free_context(iommu, ctx), 0);
    pviommu_quit(iommu);
}

static void test_unknown_flags_fail(void)
{
    QXenPVIOMMU *iommu = pviommu_start_accepted("q35", NULL, NULL);
    const struct {
        struct xen_iommu_op op;
        uint16_t valid;
    } cases[] = {
        { pviommu_op_query_reserved(0, 1, RANGES_ADDR),
          XEN_IOMMUOP_query_reserved_device },
        { pviommu_op_map(0, BFN, GFN, 1, 0), XEN_IOMMUOP_map_readonly },
        { pviommu_op_unmap(0, BFN, 1), XEN_IOMMUOP_unmap_holes },
        { pviommu_op_flush(0, BFN, 1), 0 },
        { pviommu_op_query_caps(), 0 },
        { pviommu_op_lookup_bfn(0, BFN), 0 },
        { pviommu_op_lookup_gfn(0, GFN, 0), 0 },
        { pviommu_op_alloc(), XEN_IOMMUOP_alloc_context_identity },
        { pviommu_op_free(1), 0 },
        { pviommu_op_attach(PVIOMMU_SLOT << 3, 0), 0 },
        { pviommu_op_enable(), XEN_IOMMUOP_enable_irqs },
        { pviommu_op_alloc_irqs(PVIOMMU_SLOT << 3, 1), 0 },
        { pviommu_op_set_irq(0, 0, 0x61, 0, 0),
          XEN_IOMMUOP_set_irq_masked | XEN_IOMMUOP_set_irq_logical |
          XEN_IOMMUOP_set_irq_level },
        { pviommu_op_free_irqs(0), 0 },
        { pviommu_op_direct_irqs(PVIOMMU_SLOT << 3, true),
          XEN_IOMMUOP_direct_irqs_on },
    };

    for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
        for (unsigned bit = 0; bit < 16; bit++) {
            struct xen_iommu_op op = cases[i].op;

            if (cases[i].valid & (1u << bit)) {
                continue;
            }
            op.flags = cpu_to_le16(cases[i].valid | (1u << bit));
            assert_status(pviommu_op(iommu, &op), XEN_IOMMU_EINVAL);
        }
    }
    g_assert_true(pviommu_identity(iommu));
    pviommu_assert_frames(iommu, 0, 0);
    pviommu_quit(iommu);
}

/* What was not accepted is the interface of 2018. */
static void test_features_not_accepted_fail(void)
{
    QXenPVIOMMU *iommu = pviommu_start("q35", NULL, NULL);
    const struct {
        struct xen_iommu_op op;
        uint64_t feature;
    } cases[] = {
        { pviommu_op_map(0, BFN, GFN, 1, 0), XEN_IOMMU_FEATURE_RANGES },
        { pviommu_op_map(1, BFN, GFN, 0, 0), XEN_IOMMU_FEATURE_CONTEXTS },
        { pviommu_op_unmap(0, BFN, 1), XEN_IOMMU_FEATURE_RANGES },
        { pviommu_op_unmap(1, BFN, 0), XEN_IOMMU_FEATURE_CONTEXTS },
        { pviommu_op_flush(0, BFN, 1), XEN_IOMMU_FEATURE_RANGES },
        { pviommu_op_flush(1, BFN, 0), XEN_IOMMU_FEATURE_CONTEXTS },
        { pviommu_op_flush(1, XEN_IOMMU_FLUSH_ALL, 0),
          XEN_IOMMU_FEATURE_CONTEXTS },
        { pviommu_op_query_reserved(1, 1, RANGES_ADDR),
          XEN_IOMMU_FEATURE_CONTEXTS },
        { pviommu_op_lookup_bfn(0, BFN), XEN_IOMMU_FEATURE_LOOKUP },
        { pviommu_op_lookup_gfn(0, GFN, 0), XEN_IOMMU_FEATURE_LOOKUP },
        { pviommu_op_alloc(), XEN_IOMMU_FEATURE_CONTEXTS },
        { pviommu_op_free(1), XEN_IOMMU_FEATURE_CONTEXTS },
        { pviommu_op_attach(PVIOMMU_SLOT << 3, 0),
          XEN_IOMMU_FEATURE_CONTEXTS },
    };

    for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
        struct xen_iommu_op op = cases[i].op;

        pviommu_accept(iommu, XEN_IOMMU_FEATURES_ALL & ~cases[i].feature);
        assert_status(pviommu_op(iommu, &op), XEN_IOMMU_EINVAL);
    }
    g_assert_true(pviommu_identity(iommu));

    /* With it, it is another answer. */
    for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
        struct xen_iommu_op op = cases[i].op;

        pviommu_accept(iommu, cases[i].feature);
        g_assert_cmpint(pviommu_op(iommu, &op), !=, -XEN_IOMMU_EINVAL);
    }

    /* And 2018 works without any. */
    pviommu_reset(iommu);
    assert_status(pviommu_map(iommu, 0, BFN, GFN, 0, RO), 0);
    pviommu_assert_frames(iommu, 1, 0);
    assert_status(pviommu_unmap(iommu, 0, BFN, 0), 0);
    pviommu_assert_frames(iommu, 0, 1);
    assert_status(pviommu_flush(iommu, 0, BFN, 0), 0);
    pviommu_assert_frames(iommu, 0, 0);
    assert_status(pviommu_flush_all(iommu, 0), 0);
    assert_status(pviommu_enable(iommu), 0);
    pviommu_quit(iommu);
}

static void test_out_of_range_fails(void)
{
    QXenPVIOMMU *iommu = pviommu_start_accepted("q35", "bfn-bits=30", NULL);
    const uint64_t end = 1ull << 30;
    const struct {
        uint64_t start;
        uint32_t nr;
    } bfns[] = {
        { end, 1 }, { end, 0 }, { end - 1, 2 }, { end - 5, 6 },
        { 1ull << 52, 1 }, { UINT64_MAX, 1 }, { UINT64_MAX, 2 },
        { UINT64_MAX - 1, 4 }, { 1ull << 63, 1 }, { 1, UINT32_MAX },
    }, gfns[] = {
        { 1ull << 52, 1 }, { (1ull << 52) - 1, 2 }, { UINT64_MAX, 1 },
        { UINT64_MAX, 0 }, { UINT64_MAX, 2 }, { UINT64_MAX - 7, 16 },
        { 1ull << 63, 1 },
    };

    for (unsigned i = 0; i < ARRAY_SIZE(bfns); i++) {
        assert_status(pviommu_map(iommu, 0, bfns[i].start, GFN, bfns[i].nr, 0),
                      XEN_IOMMU_EINVAL);
        assert_status(pviommu_unmap(iommu, 0, bfns[i].start, bfns[i].nr),
                      XEN_IOMMU_EINVAL);
        /* This one is the whole context. */
        if (bfns[i].start != XEN_IOMMU_FLUSH_ALL || bfns[i].nr) {
            assert_status(pviommu_flush(iommu, 0, bfns[i].start, bfns[i].nr),
                          XEN_IOMMU_EINVAL);
        }
        if (bfns[i].start >= end) {
            assert_status(pviommu_run_one(iommu, pviommu_op_lookup_bfn(
                                          0, bfns[i].start)),
                          XEN_IOMMU_EINVAL);
            assert_status(pviommu_run_one(iommu, pviommu_op_lookup_gfn(
                                          0, GFN, bfns[i].start)),
                          XEN_IOMMU_EINVAL);
        }
    }
    for (unsigned i = 0; i < ARRAY_SIZE(gfns); i++) {
        assert_status(pviommu_map(iommu, 0, BFN, gfns[i].start, gfns[i].nr, 0),
                      XEN_IOMMU_EINVAL);
    }
    assert_status(pviommu_run_one(iommu, pviommu_op_lookup_gfn(0, UINT64_MAX,
                                                               0)),
                  XEN_IOMMU_EINVAL);
    g_assert_true(pviommu_identity(iommu));
    pviommu_assert_frames(iommu, 0, 0);

    assert_status(pviommu_map(iommu, 0, end - 2, GFN, 2, 0), 0);
    assert_status(pviommu_unmap(iommu, 0, end - 2, 2), 0);
    assert_status(pviommu_flush(iommu, 0, end - 2, 2), 0);
    pviommu_quit(iommu);
}

static void test_no_control_refuses_all_but_query_caps(const void *machine)
{
    QXenPVIOMMU *iommu = pviommu_start(machine, "control=off", NULL);
    struct xen_iommu_op ops[] = {
        pviommu_op_query_reserved(0, 1, RANGES_ADDR),
        pviommu_op_map(0, BFN, GFN, 0, 0),
        pviommu_op_unmap(0, BFN, 0),
        pviommu_op_flush(0, BFN, 0),
        pviommu_op_lookup_bfn(0, BFN),
        pviommu_op_lookup_gfn(0, GFN, 0),
        pviommu_op_alloc(),
        pviommu_op_free(1),
        pviommu_op_attach(PVIOMMU_SLOT << 3, 0),
        pviommu_op_enable(),
    };
    struct xen_iommu_op op = pviommu_op_query_caps();

    pviommu_accept(iommu, XEN_IOMMU_FEATURES_ALL);
    pviommu_run(iommu, ops, ARRAY_SIZE(ops));
    for (unsigned i = 0; i < ARRAY_SIZE(ops); i++) {
        assert_status(pviommu_status(&ops[i]), XEN_IOMMU_EACCES);
    }
    assert_status(pviommu_op(iommu, &op), 0);
    g_assert_cmphex(op.u.query_caps.state, ==, XEN_IOMMU_STATE_identity);
    g_assert_cmphex(pviommu_readl(iommu, XEN_PVIOMMU_REG_STATE), ==,
                    XEN_IOMMU_STATE_identity);
    pviommu_quit(iommu);
}

static void test_other_domids_fail(void)
{
    static const uint16_t domids[] = { 0, 1, 0x7fef, 0x7ff1, 0x7ff4, 0xffff };
    QXenPVIOMMU *iommu = pviommu_start_accepted("q35", NULL, NULL);

    for (unsigned i = 0; i < ARRAY_SIZE(domids); i++) {
        struct xen_iommu_op op = pviommu_op_map(0, BFN, GFN, 1, 0);

        op.u.map.domid = cpu_to_le16(domids[i]);
        assert_status(pviommu_op(iommu, &op), XEN_IOMMU_ESRCH);
    }
    pviommu_assert_frames(iommu, 0, 0);
    pviommu_quit(iommu);
}

/* What is at a GFN: nothing, registers, ROM, RAM. */
static void test_map_takes_ram_and_readonly_rom(const void *machine)
{
    QXenPVIOMMU *iommu = pviommu_start_accepted(machine, NULL, NULL);
    uint64_t bar_gfn = iommu->bar.addr / PVIOMMU_PAGE;

    assert_status(pviommu_map(iommu, 0, BFN, PVIOMMU_RAM_GFNS, 1, 0),
                  XEN_IOMMU_ENOENT);
    assert_status(pviommu_map(iommu, 0, BFN, PVIOMMU_RAM_GFNS, 1, RO),
                  XEN_IOMMU_ENOENT);
    assert_status(pviommu_map(iommu, 0, BFN, 0x1000000, 1, 0),
                  XEN_IOMMU_ENOENT);
    assert_status(pviommu_map(iommu, 0, BFN, PVIOMMU_RAM_GFNS - 3, 4, 0),
                  XEN_IOMMU_ENOENT);

    assert_status(pviommu_map(iommu, 0, BFN, bar_gfn, 1, 0), XEN_IOMMU_EPERM);
    assert_status(pviommu_map(iommu, 0, BFN, bar_gfn + 2, 1, RO),
                  XEN_IOMMU_EPERM);
    /* The interrupt controllers. */
    assert_status(pviommu_map(iommu, 0, BFN, 0xfec00, 1, 0), XEN_IOMMU_EPERM);
    assert_status(pviommu_map(iommu, 0, BFN, MSI_BFN, 1, 0), XEN_IOMMU_EPERM);
    assert_status(pviommu_map(iommu, 0, BFN, MSI_BFN, 1, RO), XEN_IOMMU_EPERM);

    assert_status(pviommu_map(iommu, 0, BFN, BIOS_GFN, 1, 0), XEN_IOMMU_EPERM);
    assert_status(pviommu_map(iommu, 0, BFN, 0xf0, 1, 0), XEN_IOMMU_EPERM);
    pviommu_assert_frames(iommu, 0, 0);
    assert_status(pviommu_map(iommu, 0, BFN, BIOS_GFN, 16, RO), 0);
    assert_status(pviommu_map(iommu, 0, BFN + 16, 0xf0, 1, RO), 0);
    pviommu_assert_mapped(iommu, 0, BFN, BIOS_GFN, 16, RO);
    assert_status(pviommu_map(iommu, 0, BFN + 17, 0, 0xa0, 0), 0);
    pviommu_assert_frames(iommu, 16 + 1 + 0xa0, 0);

    /* A range of RAM with ROM at its end is not all RAM. */
    assert_status(pviommu_map(iommu, 0, BFN + 0x1000, 0xe0, 0x30, 0),
                  XEN_IOMMU_EPERM);
    pviommu_quit(iommu);
}

static void test_map_over_mapped_fails(void)
{
    QXenPVIOMMU *iommu = pviommu_start_accepted("q35", NULL, NULL);

    assert_status(pviommu_map(iommu, 0, BFN, GFN, 4, 0), 0);
    assert_status(pviommu_map(iommu, 0, BFN, GFN, 1, 0), XEN_IOMMU_EEXIST);
    assert_status(pviommu_map(iommu, 0, BFN + 3, GFN + 100, 1, RO),
                  XEN_IOMMU_EEXIST);
    assert_status(pviommu_map(iommu, 0, BFN + 3, GFN + 100, 100, 0),
                  XEN_IOMMU_EEXIST);
    assert_status(pviommu_map(iommu, 0, BFN - 100, GFN + 100, 101, 0),
                  XEN_IOMMU_EEXIST);
    assert_status(pviommu_map(iommu, 0, BFN - 100, GFN + 100, 1000, 0),
                  XEN_IOMMU_EEXIST);
    pviommu_assert_mapped(iommu, 0, BFN, GFN, 4, 0);
    pviommu_assert_unmapped(iommu, 0, BFN + 4);
    pviommu_assert_unmapped(iommu, 0, BFN - 1);
    pviommu_assert_frames(iommu, 4, 0);
    pviommu_quit(iommu);
}

/* All of a range, or nothing of it: whatever is in the way, and where. */
static void test_map_that_fails_maps_nothing(void)
{
    QXenPVIOMMU *iommu = pviommu_start_accepted("q35", "max-mappings=4096",
                                                NULL);
    const struct {
        uint64_t bfn, gfn;
        uint32_t nr;
        int error;
    } cases[] = {
        { BFN, PVIOMMU_RAM_GFNS - 512, 513, XEN_IOMMU_ENOENT },
        { BFN, 0, 0xc1, XEN_IOMMU_EPERM },
        { BFN, 0x60, 0x100, XEN_IOMMU_EPERM },
        { BFN, BIOS_GFN, 16, XEN_IOMMU_EPERM },
        { MSI_BFN - 600, GFN, 601, XEN_IOMMU_EADDRNOTAVAIL },
        { BFN, GFN, 4097, XEN_IOMMU_ENOSPC },
    };

    for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
        assert_status(pviommu_map(iommu, 0, cases[i].bfn, cases[i].gfn,
                                  cases[i].nr, 0), cases[i].error);
        pviommu_assert_frames(iommu, 0, 0);
        pviommu_assert_unmapped(iommu, 0, cases[i].bfn);
        assert_status(pviommu_run_one(iommu, pviommu_op_lookup_gfn(
                                      0, cases[i].gfn, 0)), XEN_IOMMU_ENOENT);
    }
    /* Nothing of it is in the way of what can be done. */
    assert_status(pviommu_map(iommu, 0, BFN, GFN, 4096, 0), 0);
    pviommu_quit(iommu);
}

static void test_max_mappings_counts_pending(void)
{
    QXenPVIOMMU *iommu = pviommu_start_accepted("q35", "max-mappings=4", NULL);
    uint16_t ctx = pviommu_alloc_context(iommu);

    assert_status(pviommu_map(iommu, 0, BFN, GFN, 5, 0), XEN_IOMMU_ENOSPC);
    assert_status(pviommu_map(iommu, 0, BFN, GFN, 3, 0), 0);
    assert_status(pviommu_map(iommu, 0, BFN + 3, GFN, 2, 0), XEN_IOMMU_ENOSPC);
    assert_status(pviommu_map(iommu, ctx, BFN, GFN, 1, 0), 0);
    assert_status(pviommu_map(iommu, 0, BFN + 3, GFN, 1, 0), XEN_IOMMU_ENOSPC);
    pviommu_assert_frames(iommu, 4, 0);

    /* What awaits a flush still counts. */
    assert_status(pviommu_unmap(iommu, 0, BFN, 1), 0);
    assert_status(pviommu_map(iommu, 0, BFN, GFN, 1, 0), XEN_IOMMU_ENOSPC);
    pviommu_assert_frames(iommu, 3, 1);
    pviommu_assert_unmapped(iommu, 0, BFN);
    assert_status(pviommu_flush(iommu, 0, BFN, 1), 0);
    assert_status(pviommu_map(iommu, 0, BFN, GFN, 1, 0), 0);
    assert_status(pviommu_map(iommu, 0, BFN + 3, GFN, 1, 0), XEN_IOMMU_ENOSPC);

    /* Freeing a context frees the room of its mappings. */
    assert_status(pviommu_free_context(iommu, ctx), 0);
    assert_status(pviommu_map(iommu, 0, BFN + 3, GFN, 1, 0), 0);
    pviommu_assert_frames(iommu, 4, 0);
    pviommu_quit(iommu);
}

/* Many maps and unmaps of one page: its references do not underflow. */
static void test_references_are_dropped_once(void)
{
    QXenPVIOMMU *iommu = pviommu_start_accepted("q35", NULL, NULL);
    struct xen_iommu_op ops[60];

    for (unsigned i = 0; i < 20; i++) {
        ops[i] = pviommu_op_map(0, BFN + i, GFN, 1, i & 1 ? RO : 0);
        ops[20 + i] = pviommu_op_unmap(0, BFN + i, 1);
        ops[40 + i] = pviommu_op_unmap(0, BFN + i, 1);
    }
    pviommu_run(iommu, ops, ARRAY_SIZE(ops));
    for (unsigned i = 0; i < 20; i++) {
        assert_status(pviommu_status(&ops[i]), 0);
        assert_status(pviommu_status(&ops[20 + i]), 0);
        assert_status(pviommu_status(&ops[40 + i]), XEN_IOMMU_ENOENT);
    }
    pviommu_assert_frames(iommu, 0, 20);
    for (unsigned i = 0; i < 3; i++) {
        assert_status(pviommu_flush_all(iommu, 0), 0);
        pviommu_assert_frames(iommu, 0, 0);
    }
    pviommu_quit(iommu);
}

/* A page that stops being RAM is unmapped, wherever it was mapped. */
static void test_page_that_stops_being_ram_is_unmapped(const void *machine)
{
    QXenPVIOMMU *iommu = pviommu_start_accepted(machine, NULL, NULL);
    uint16_t ctx = pviommu_alloc_context(iommu);

    pviommu_set_pam(iommu, 0, PVIOMMU_PAM_RAM);
    assert_status(pviommu_map(iommu, 0, BFN, 0xf0, 16, 0), 0);
    assert_status(pviommu_map(iommu, ctx, BFN, 0xf8, 1, RO), 0);
    assert_status(pviommu_map(iommu, 0, BFN + 16, GFN, 1, 0), 0);
    assert_status(pviommu_unmap(iommu, 0, BFN + 15, 1), 0);
    pviommu_assert_frames(iommu, 17, 1);
    pviommu_assert_mapped(iommu, 0, BFN, 0xf0, 15, 0);

    pviommu_set_pam(iommu, 0, PVIOMMU_PAM_ROM);
    pviommu_assert_unmapped(iommu, 0, BFN);
    pviommu_assert_unmapped(iommu, 0, BFN + 14);
    pviommu_assert_unmapped(iommu, ctx, BFN);
    pviommu_assert_mapped(iommu, 0, BFN + 16, GFN, 1, 0);
    pviommu_assert_frames(iommu, 1, 0);
    g_assert_cmpuint(pviommu_counter(iommu, XEN_PVIOMMU_COUNTER_INVALIDATED),
                     ==, 16);
    pviommu_quit(iommu);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    pviommu_add_for_machines("op/map-is-seen-by-lookup",
                             test_map_is_seen_by_lookup);
    pviommu_add_for_machines("op/query-caps-says-limits-and-state",
                             test_query_caps_says_limits_and_state);
    pviommu_add_for_machines("op/no-control-refuses-all-but-query-caps",
                             test_no_control_refuses_all_but_query_caps);
    pviommu_add_for_machines("op/map-takes-ram-and-readonly-rom",
                             test_map_takes_ram_and_readonly_rom);
    pviommu_add_for_machines("op/page-that-stops-being-ram-is-unmapped",
                             test_page_that_stops_being_ram_is_unmapped);
    pviommu_add("op/unmapped-pages-are-pending-until-flushed",
                test_unmapped_pages_are_pending_until_flushed);
    pviommu_add("op/unmap-spans-maps-or-changes-nothing",
                test_unmap_spans_maps_or_changes_nothing);
    pviommu_add("op/unmap-splits-large-ranges", test_unmap_splits_large_ranges);
    pviommu_add("op/lookup-finds-runs-both-ways",
                test_lookup_finds_runs_both_ways);
    pviommu_add("op/unknown-op-fails", test_unknown_op_fails);
    pviommu_add("op/nonzero-pads-fail", test_nonzero_pads_fail);
    pviommu_add("op/unknown-flags-fail", test_unknown_flags_fail);
    pviommu_add("op/features-not-accepted-fail",
                test_features_not_accepted_fail);
    pviommu_add("op/out-of-range-fails", test_out_of_range_fails);
    pviommu_add("op/other-domids-fail", test_other_domids_fail);
    pviommu_add("op/map-over-mapped-fails", test_map_over_mapped_fails);
    pviommu_add("op/map-that-fails-maps-nothing",
                test_map_that_fails_maps_nothing);
    pviommu_add("op/max-mappings-counts-pending",
                test_max_mappings_counts_pending);
    pviommu_add("op/references-are-dropped-once",
                test_references_are_dropped_once);
    return g_test_run();
}
