/*
 * xen-pviommu: contexts, and which device is in which
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/bswap.h"
#include "libqos/edu.h"

#define GFN             PVIOMMU_FREE_GFN
#define BFN             0x4000000
#define ADDR(frame)     ((uint64_t)(frame) * PVIOMMU_PAGE)

static void test_alloc_up_to_max_contexts(void)
{
    QXenPVIOMMU *iommu = pviommu_start_accepted("q35", "max-contexts=4", NULL);
    struct xen_iommu_op op = pviommu_op_alloc();
    uint16_t ctx[3];

    for (unsigned i = 0; i < 3; i++) {
        ctx[i] = pviommu_alloc_context(iommu);
        for (unsigned j = 0; j < i; j++) {
            g_assert_cmpuint(ctx[i], !=, ctx[j]);
        }
    }
    assert_status(pviommu_op(iommu, &op), XEN_IOMMU_ENOSPC);
    g_assert_cmpuint(op.u.context.ctx, ==, 0);

    assert_status(pviommu_free_context(iommu, ctx[1]), 0);
    assert_status(pviommu_free_context(iommu, ctx[1]), XEN_IOMMU_ENOENT);
    pviommu_alloc_context(iommu);
    op = pviommu_op_alloc();
    assert_status(pviommu_op(iommu, &op), XEN_IOMMU_ENOSPC);

    /* The default one stays; others never were. */
    assert_status(pviommu_free_context(iommu, 0), XEN_IOMMU_EINVAL);
    assert_status(pviommu_free_context(iommu, 4), XEN_IOMMU_ENOENT);
    assert_status(pviommu_free_context(iommu, 0xffff), XEN_IOMMU_ENOENT);
    pviommu_quit(iommu);

    iommu = pviommu_start("q35", "max-contexts=1", NULL);
    pviommu_accept(iommu, XEN_IOMMU_FEATURES_ALL);
    op = pviommu_op_alloc();
    assert_status(pviommu_op(iommu, &op), XEN_IOMMU_ENOSPC);
    pviommu_quit(iommu);
}

static void test_unknown_fails(void)
{
    QEduPair f = edu_start_pair("q35", NULL);
    static const uint16_t unknown[] = { 1, 1023, 1024, 0xffff };

    for (unsigned i = 0; i < ARRAY_SIZE(unknown); i++) {
        assert_status(pviommu_map(f.iommu, unknown[i], BFN, GFN, 1, 0),
                      XEN_IOMMU_ENOENT);
        assert_status(pviommu_unmap(f.iommu, unknown[i], BFN, 1),
                      XEN_IOMMU_ENOENT);
        assert_status(pviommu_flush(f.iommu, unknown[i], BFN, 1),
                      XEN_IOMMU_ENOENT);
        assert_status(pviommu_flush_all(f.iommu, unknown[i]),
                      XEN_IOMMU_ENOENT);
        assert_status(pviommu_attach(f.iommu, EDU_SBDF_A, unknown[i]),
                      XEN_IOMMU_ENOENT);
    }
    pviommu_assert_frames(f.iommu, 0, 0);
    pviommu_quit(f.iommu);
}

/* Mappings of one are in no other, and are freed with it. */
static void test_mappings_are_its_own(void)
{
    QEduPair f = edu_start_pair("q35", NULL);
    uint16_t one = pviommu_alloc_context(f.iommu);
    uint16_t two = pviommu_alloc_context(f.iommu);

    assert_status(pviommu_map(f.iommu, 0, BFN, GFN, 8, 0), 0);
    assert_status(pviommu_map(f.iommu, one, BFN, GFN + 8, 8, 0), 0);
    assert_status(pviommu_map(f.iommu, two, BFN + 4, GFN, 8,
                              XEN_IOMMUOP_map_readonly), 0);
    pviommu_assert_mapped(f.iommu, 0, BFN, GFN, 8, 0);
    pviommu_assert_mapped(f.iommu, one, BFN, GFN + 8, 8, 0);
    pviommu_assert_unmapped(f.iommu, two, BFN);
    pviommu_assert_mapped(f.iommu, two, BFN + 4, GFN, 8,
                          XEN_IOMMUOP_map_readonly);

    assert_status(pviommu_unmap(f.iommu, one, BFN, 2), 0);
    assert_status(pviommu_unmap(f.iommu, two, BFN, 1), XEN_IOMMU_ENOENT);
    pviommu_assert_mapped(f.iommu, 0, BFN, GFN, 8, 0);
    pviommu_assert_frames(f.iommu, 22, 2);
    assert_status(pviommu_flush_all(f.iommu, 0), 0);
    assert_status(pviommu_flush_all(f.iommu, two), 0);
    pviommu_assert_frames(f.iommu, 22, 2);

    /* With it go what it maps, and what waits in it. */
    assert_status(pviommu_free_context(f.iommu, one), 0);
    pviommu_assert_frames(f.iommu, 16, 0);
    assert_status(pviommu_free_context(f.iommu, two), 0);
    pviommu_assert_frames(f.iommu, 8, 0);
    pviommu_assert_mapped(f.iommu, 0, BFN, GFN, 8, 0);

    /* Its number may come again, what was in it does not. */
    one = pviommu_alloc_context(f.iommu);
    pviommu_assert_unmapped(f.iommu, one, BFN);
    pviommu_quit(f.iommu);
}

static void test_device_sees_what_it_is_attached_to(const void *machine)
{
    QEduPair f = edu_start_pair(machine, NULL);
    uint16_t ctx = pviommu_alloc_context(f.iommu);
    const uint64_t at = ADDR(BFN), zero = ADDR(GFN), own = ADDR(GFN + 1);

    assert_status(pviommu_map(f.iommu, 0, BFN, GFN, 0, 0), 0);
    assert_status(pviommu_map(f.iommu, ctx, BFN, GFN + 1, 0, 0), 0);
    edu_map_window(&f.a, f.iommu, 0, 0);
    edu_map_window(&f.b, f.iommu, 0, 1);
    edu_assert_access(&f.a, at, zero, 64);
    edu_assert_access(&f.b, at, zero, 64);

    assert_status(pviommu_attach(f.iommu, EDU_SBDF_A, ctx), 0);
    edu_map_window(&f.a, f.iommu, ctx, 0);
    edu_assert_access(&f.a, at, own, 64);
    edu_assert_no_access(&f.a, at, zero, 64);
    edu_assert_access(&f.b, at, zero, 64);

    /* Again is fine; the context is in use. */
    assert_status(pviommu_attach(f.iommu, EDU_SBDF_A, ctx), 0);
    edu_assert_access(&f.a, at, own, 64);
    assert_status(pviommu_free_context(f.iommu, ctx), XEN_IOMMU_EBUSY);
    edu_assert_access(&f.a, at, own, 64);

    /* What is mapped later is seen as well. */
    assert_status(pviommu_map(f.iommu, ctx, BFN + 9, GFN + 9, 0, 0), 0);
    edu_assert_access(&f.a, ADDR(BFN + 9), ADDR(GFN + 9), 64);
    edu_assert_no_access(&f.b, ADDR(BFN + 9), ADDR(GFN + 9), 64);

    /* A failed one moves nothing. */
    assert_status(pviommu_attach(f.iommu, EDU_SBDF_A, 77), XEN_IOMMU_ENOENT);
    edu_assert_access(&f.a, at, own, 64);

    /* Detached: the default one again. */
    assert_status(pviommu_attach(f.iommu, EDU_SBDF_A, 0), 0);
    edu_map_window(&f.a, f.iommu, 0, 2);
    edu_assert_access(&f.a, at, zero, 64);
    assert_status(pviommu_free_context(f.iommu, ctx), 0);
    edu_assert_access(&f.a, at, zero, 64);
    pviommu_quit(f.iommu);
}

/* Two devices in one context: busy until the last one left. */
static void test_busy_until_the_last_device_leaves(void)
{
    QEduPair f = edu_start_pair("q35", NULL);
    uint16_t one = pviommu_alloc_context(f.iommu);
    uint16_t two = pviommu_alloc_context(f.iommu);

    assert_status(pviommu_attach(f.iommu, EDU_SBDF_A, one), 0);
    assert_status(pviommu_attach(f.iommu, EDU_SBDF_B, one), 0);
    edu_map_window(&f.a, f.iommu, one, 0);
    edu_map_window(&f.b, f.iommu, one, 1);
    assert_status(pviommu_map(f.iommu, one, BFN, GFN, 0, 0), 0);
    edu_assert_access(&f.a, ADDR(BFN), ADDR(GFN), 64);
    edu_assert_access(&f.b, ADDR(BFN), ADDR(GFN), 64);

    assert_status(pviommu_attach(f.iommu, EDU_SBDF_A, two), 0);
    assert_status(pviommu_free_context(f.iommu, one), XEN_IOMMU_EBUSY);
    edu_assert_access(&f.b, ADDR(BFN), ADDR(GFN), 64);
    assert_status(pviommu_attach(f.iommu, EDU_SBDF_B, 0), 0);
    assert_status(pviommu_free_context(f.iommu, one), 0);
    assert_status(pviommu_free_context(f.iommu, two), XEN_IOMMU_EBUSY);
    pviommu_quit(f.iommu);
}

/* Attaching flushes what the device saw before. */
static void test_attach_flushes_the_old_one(void)
{
    QEduPair f = edu_start_pair("q35", NULL);
    uint16_t ctx = pviommu_alloc_context(f.iommu);

    assert_status(pviommu_attach(f.iommu, EDU_SBDF_A, ctx), 0);
    assert_status(pviommu_map(f.iommu, ctx, BFN, GFN, 8, 0), 0);
    assert_status(pviommu_unmap(f.iommu, ctx, BFN, 3), 0);
    pviommu_assert_frames(f.iommu, 5, 3);
    assert_status(pviommu_attach(f.iommu, EDU_SBDF_A, 0), 0);
    pviommu_assert_frames(f.iommu, 5, 0);
    pviommu_quit(f.iommu);
}

static void test_attach_of_no_device_fails(const void *machine)
{
    QEduPair f = edu_start_pair(machine, NULL);
    uint16_t ctx = pviommu_alloc_context(f.iommu);
    static const uint32_t nobody[] = {
        0x13 << 3, (0x11 << 3) | 1, 0x100, 0xff00 | EDU_SBDF_A,
        0x10000 | EDU_SBDF_A, 0xffff0000 | EDU_SBDF_A, 0xffffffff,
    };

    for (unsigned i = 0; i < ARRAY_SIZE(nobody); i++) {
        assert_status(pviommu_attach(f.iommu, nobody[i], ctx),
                      XEN_IOMMU_ENODEV);
        assert_status(pviommu_attach(f.iommu, nobody[i], 0),
                      XEN_IOMMU_ENODEV);
    }
    assert_status(pviommu_free_context(f.iommu, ctx), 0);
    pviommu_quit(f.iommu);
}

/* A range that one device reserves concerns the context it is in. */
static void test_reserved_where_the_device_is(const void *machine)
{
    bool q35 = !strcmp(machine, "q35");
    g_autofree char *props = g_strdup_printf(
        "\"device-reserved-regions\":[\"%s/11.0=0x%x000:0x%xfff:0\"]",
        q35 ? "pcie.0" : "pci.0", GFN, GFN + 1);
    QEduPair f = edu_start_pair(machine, props);
    uint16_t ctx = pviommu_alloc_context(f.iommu);
    const uint64_t at = ADDR(GFN);
    struct xen_iommu_op op;

    /* A starts in the default context. */
    assert_status(pviommu_map(f.iommu, 0, GFN, GFN + 16, 1, 0),
                  XEN_IOMMU_EADDRNOTAVAIL);
    assert_status(pviommu_unmap(f.iommu, 0, GFN + 1, 1),
                  XEN_IOMMU_EADDRNOTAVAIL);
    assert_status(pviommu_map(f.iommu, ctx, GFN, GFN + 16, 1, 0), 0);

    edu_map_window(&f.a, f.iommu, 0, 0);
    edu_map_window(&f.b, f.iommu, 0, 1);
    edu_assert_access(&f.a, at, at, 64);
    edu_assert_no_access(&f.b, at, at, 64);

    op = pviommu_op_query_reserved(0, 0, 0);
    op.flags = cpu_to_le16(XEN_IOMMUOP_query_reserved_device);
    op.u.query_reserved.sbdf = cpu_to_le32(EDU_SBDF_A);
    assert_status(pviommu_op(f.iommu, &op), XEN_IOMMU_ENOBUFS);
    g_assert_cmpuint(le32_to_cpu(op.u.query_reserved.nr_entries), ==, 2);
    op.u.query_reserved.nr_entries = 0;
    op.u.query_reserved.sbdf = cpu_to_le32(EDU_SBDF_B);
    assert_status(pviommu_op(f.iommu, &op), XEN_IOMMU_ENOBUFS);
    g_assert_cmpuint(le32_to_cpu(op.u.query_reserved.nr_entries), ==, 1);

    /* Not where that BFN is mapped; the device stays where it was. */
    assert_status(pviommu_attach(f.iommu, EDU_SBDF_A, ctx),
                  XEN_IOMMU_EADDRNOTAVAIL);
    edu_assert_access(&f.a, at, at, 64);
    assert_status(pviommu_attach(f.iommu, EDU_SBDF_B, ctx), 0);
    edu_map_window(&f.b, f.iommu, ctx, 1);
    edu_assert_access(&f.b, at, ADDR(GFN + 16), 64);

    assert_status(pviommu_unmap(f.iommu, ctx, GFN, 1), 0);
    assert_status(pviommu_attach(f.iommu, EDU_SBDF_A, ctx), 0);
    assert_status(pviommu_map(f.iommu, ctx, GFN, GFN + 16, 1, 0),
                  XEN_IOMMU_EADDRNOTAVAIL);
    assert_status(pviommu_map(f.iommu, 0, GFN, GFN + 16, 1, 0), 0);
    pviommu_quit(f.iommu);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    pviommu_add_for_machines("context/device-sees-what-it-is-attached-to",
                             test_device_sees_what_it_is_attached_to);
    pviommu_add_for_machines("context/attach-of-no-device-fails",
                             test_attach_of_no_device_fails);
    pviommu_add_for_machines("context/reserved-where-the-device-is",
                             test_reserved_where_the_device_is);
    pviommu_add("context/alloc-up-to-max-contexts",
                test_alloc_up_to_max_contexts);
    pviommu_add("context/unknown-fails", test_unknown_fails);
    pviommu_add("context/mappings-are-its-own", test_mappings_are_its_own);
    pviommu_add("context/busy-until-the-last-device-leaves",
                test_busy_until_the_last_device_leaves);
    pviommu_add("context/attach-flushes-the-old-one",
                test_attach_flushes_the_old_one);
    return g_test_run();
}
