/*
 * xen-pviommu: how translation is enabled, and reset
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/bswap.h"
#include "libqos/edu.h"

#define GFN             PVIOMMU_FREE_GFN
#define BFN             0x4000000
#define ADDR(frame)     ((uint64_t)(frame) * PVIOMMU_PAGE)
#define SBDF            (0x11 << 3)

static QXenPVIOMMU *start(const char *machine, const char *props, QEdu *edu)
{
    QXenPVIOMMU *iommu = pviommu_start(machine, props, EDU_DEVICE ",addr=11");

    edu_init(edu, iommu, QPCI_DEVFN(0x11, 0));
    return iommu;
}

static void reset(QXenPVIOMMU *iommu, QEdu *edu)
{
    pviommu_reset(iommu);
    edu_init(edu, iommu, QPCI_DEVFN(0x11, 0));
}

/* Until translation is enabled a device sees the machine as it is. */
static void test_identity_mode_ends_when_enabled(const void *machine)
{
    QEdu edu;
    QXenPVIOMMU *iommu = start(machine, NULL, &edu);
    uint8_t got[64];

    g_assert_true(pviommu_identity(iommu));
    edu_assert_access(&edu, ADDR(GFN), ADDR(GFN), PVIOMMU_PAGE);
    edu_assert_access(&edu, PVIOMMU_RAM - 64, PVIOMMU_RAM - 64, 64);
    edu_load(&edu, PVIOMMU_BIOS_ADDR, got, sizeof(got));
    for (unsigned i = 0; i < sizeof(got); i++) {
        g_assert_cmphex(got[i], ==, PVIOMMU_BIOS_BYTE(i));
    }
    g_assert_cmpuint(pviommu_counter(iommu, XEN_PVIOMMU_COUNTER_FAULTS), ==, 0);

    /* Enabled, a device sees nothing. */
    assert_status(pviommu_enable(iommu), 0);
    g_assert_false(pviommu_identity(iommu));
    edu_dma(&edu, false, ADDR(GFN), 8);
    g_assert_cmpuint(pviommu_counter(iommu, XEN_PVIOMMU_COUNTER_FAULTS), ==, 1);
    edu_map_window(&edu, iommu, 0, 0);
    edu_assert_no_access(&edu, ADDR(GFN), ADDR(GFN), 64);
    edu_assert_no_access(&edu, PVIOMMU_RAM - 64, PVIOMMU_RAM - 64, 64);

    /* It is enabled once; to do so again is no error. */
    assert_status(pviommu_enable(iommu), 0);
    g_assert_false(pviommu_identity(iommu));
    pviommu_quit(iommu);
}

/* Operations that modify enable it, also if they then fail. */
static void test_changes_enable(void)
{
    const struct {
        struct xen_iommu_op op;
        int error;
    } cases[] = {
        { pviommu_op_enable(), 0 },
        { pviommu_op_map(0, BFN, GFN, 1, 0), 0 },
        { pviommu_op_map(0, BFN, PVIOMMU_RAM_GFNS, 1, 0), XEN_IOMMU_ENOENT },
        { pviommu_op_unmap(0, BFN, 1), XEN_IOMMU_ENOENT },
        { pviommu_op_attach(SBDF, 0), 0 },
    };
    QEdu edu;
    QXenPVIOMMU *iommu = start("q35", NULL, &edu);

    for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
        struct xen_iommu_op op = cases[i].op;

        if (i) {
            reset(iommu, &edu);
        }
        pviommu_accept(iommu, XEN_IOMMU_FEATURES_ALL);
        g_assert_true(pviommu_identity(iommu));
        edu_assert_access(&edu, ADDR(GFN + 1), ADDR(GFN + 1), 64);
        assert_status(pviommu_op(iommu, &op), cases[i].error);
        g_assert_false(pviommu_identity(iommu));
        edu_map_window(&edu, iommu, 0, 0);
        edu_assert_no_access(&edu, ADDR(GFN + 1), ADDR(GFN + 1), 64);
    }
    pviommu_quit(iommu);
}

/* Those that ask, or are not valid, leave it as it is. */
static void test_queries_do_not_enable(const void *machine)
{
    struct xen_iommu_op ops[] = {
        pviommu_op_query_caps(),
        pviommu_op_query_reserved(0, 8, PVIOMMU_OPS_ADDR + 0x10000),
        pviommu_op_flush(0, BFN, 1),
        pviommu_op_flush(0, XEN_IOMMU_FLUSH_ALL, 0),
        pviommu_op_lookup_bfn(0, BFN),
        pviommu_op_lookup_gfn(0, GFN, 0),
        pviommu_op_alloc(),
        pviommu_op_free(1),
        pviommu_op_free(1),
        pviommu_op_map(0, 1ull << 60, GFN, 1, 0),
        pviommu_op_map(0, BFN, GFN, 1, 0x8000),
        pviommu_op_unmap(0, 1ull << 60, 1),
        pviommu_op_enable(),            /* with a pad that is not zero */
        { .op = cpu_to_le16(4711) },
    };
    QEdu edu;
    QXenPVIOMMU *iommu = start(machine, NULL, &edu);

    ops[12].u.enable.pad[1] = 1;
    pviommu_accept(iommu, XEN_IOMMU_FEATURES_ALL);
    pviommu_run(iommu, ops, ARRAY_SIZE(ops));
    for (unsigned i = 0; i < ARRAY_SIZE(ops); i++) {
        int32_t status = pviommu_status(&ops[i]);

        if (i < 4 || i == 6 || i == 7) {
            assert_status(status, 0);
        } else {
            g_assert_cmpint(status, <, 0);
        }
    }
    g_assert_true(pviommu_identity(iommu));
    edu_assert_access(&edu, ADDR(GFN), ADDR(GFN), 64);
    pviommu_quit(iommu);
}

/* Without control of it the guest keeps the identity map. */
static void test_no_control_keeps_identity_mode(void)
{
    QEdu edu;
    QXenPVIOMMU *iommu = start("q35", "control=off", &edu);

    assert_status(pviommu_enable(iommu), XEN_IOMMU_EACCES);
    assert_status(pviommu_map(iommu, 0, BFN, GFN, 0, 0), XEN_IOMMU_EACCES);
    g_assert_true(pviommu_identity(iommu));
    edu_assert_access(&edu, ADDR(GFN), ADDR(GFN), 64);
    pviommu_quit(iommu);
}

static void test_premap_off_starts_enabled(const void *machine)
{
    QEdu edu;
    QXenPVIOMMU *iommu = start(machine, "premap=off", &edu);
    uint8_t got[64];

    for (unsigned round = 0; round < 2; round++) {
        g_assert_false(pviommu_identity(iommu));
        qtest_memset(iommu->qts, ADDR(GFN), 0xab, 64);
        edu_dma(&edu, false, ADDR(GFN), 64);
        edu_dma(&edu, true, ADDR(GFN + 1), 64);
        g_assert_cmpuint(pviommu_counter(iommu, XEN_PVIOMMU_COUNTER_FAULTS), ==,
                         2);
        edu_map_window(&edu, iommu, 0, 0);
        edu_get_buffer(&edu, got, sizeof(got));
        for (unsigned i = 0; i < sizeof(got); i++) {
            g_assert_cmphex(got[i], !=, 0xab);
        }
        edu_assert_no_access(&edu, ADDR(GFN), ADDR(GFN), 64);
        assert_status(pviommu_map(iommu, 0, GFN, GFN, 0, 0), 0);
        edu_assert_access(&edu, ADDR(GFN), ADDR(GFN), 64);

        /* The start is as it was. */
        reset(iommu, &edu);
    }
    pviommu_quit(iommu);
}

static void test_premap_off_shows_reserved_ranges(void)
{
    g_autofree char *props =
        g_strdup_printf("\"premap\":false,"
                        "\"reserved-regions\":[\"0x%x000:0x%xfff:0\"]",
                        GFN, GFN);
    QEdu edu;
    QXenPVIOMMU *iommu = start("q35", props, &edu);

    edu.window = ADDR(GFN) + 0x800;
    edu.window_ram = edu.window;
    edu_assert_access(&edu, ADDR(GFN), ADDR(GFN), 64);
    edu_assert_no_access(&edu, ADDR(GFN + 1), ADDR(GFN + 1), 64);
    pviommu_quit(iommu);
}

/* Reset: all that the guest did is undone. */
static void test_reset_undoes_all(const void *machine)
{
    QEdu edu;
    QXenPVIOMMU *iommu = start(machine, "max-contexts=3", &edu);
    struct xen_iommu_op op;
    uint16_t ctx;

    for (unsigned round = 0; round < 3; round++) {
        g_assert_cmphex(pviommu_readq(iommu, XEN_PVIOMMU_REG_ACCEPTED), ==, 0);
        g_assert_true(pviommu_identity(iommu));
        edu_assert_access(&edu, ADDR(GFN), ADDR(GFN), 64);
        for (unsigned i = 0; i < XEN_PVIOMMU_NR_COUNTERS; i++) {
            g_assert_cmpuint(pviommu_counter(iommu, i), ==, 0);
        }

        pviommu_accept(iommu, XEN_IOMMU_FEATURES_ALL);
        ctx = pviommu_alloc_context(iommu);
        pviommu_alloc_context(iommu);
        op = pviommu_op_alloc();
        assert_status(pviommu_op(iommu, &op), XEN_IOMMU_ENOSPC);

        /* Whatever there was: it is not mapped, in either context. */
        pviommu_assert_unmapped(iommu, 0, BFN);
        pviommu_assert_unmapped(iommu, ctx, BFN);
        assert_status(pviommu_map(iommu, 0, BFN, GFN, 100, 0), 0);
        assert_status(pviommu_map(iommu, ctx, BFN, GFN + 100, 100, 0), 0);
        assert_status(pviommu_unmap(iommu, 0, BFN + 50, 10), 0);
        assert_status(pviommu_unmap(iommu, ctx, BFN + 50, 10), 0);
        edu_map_window(&edu, iommu, 0, 0);
        edu_assert_access(&edu, ADDR(BFN), ADDR(GFN), 64);
        assert_status(pviommu_attach(iommu, SBDF, ctx), 0);
        edu_map_window(&edu, iommu, ctx, 1);
        edu_assert_access(&edu, ADDR(BFN), ADDR(GFN + 100), 64);
        pviommu_fault_ring(iommu, 1);
        for (unsigned i = 0; i < 3; i++) {
            edu_dma(&edu, true, ADDR(GFN + i), 8);
        }
        pviommu_wait_faults(iommu, 1);
        pviommu_assert_frames(iommu, 182, 10);
        reset(iommu, &edu);
    }

    /* The faults that waited are gone too. */
    assert_status(pviommu_enable(iommu), 0);
    pviommu_fault_ring(iommu, 16);
    edu_dma(&edu, true, ADDR(BFN), 8);
    pviommu_wait_faults(iommu, 1);
    pviommu_assert_fault(iommu, 0, SBDF, 0, ADDR(BFN), true,
                         XEN_IOMMU_FAULT_REASON_unmapped);
    pviommu_quit(iommu);
}

/* QEMU renders the memory that the function sees and the system's as one. */
static bool shares_memory(QXenPVIOMMU *iommu, const char *function)
{
    g_autofree char *tree = qtest_hmp(iommu->qts, "info mtree -f");
    g_auto(GStrv) views = g_strsplit(tree, "FlatView #", -1);
    unsigned found = 0;
    bool shares = false;

    for (unsigned i = 0; views[i]; i++) {
        if (strstr(views[i], function)) {
            found++;
            shares = strstr(views[i], " AS \"memory\", root: system");
        }
    }
    g_assert_cmpuint(found, ==, 1);
    return shares;
}

/*
 * While it is 1:1 a change of the memory map costs the same, however many
 * functions there are.
 */
static void test_identity_mode_shares_one_memory_map(const void *machine)
{
    const char *function = g_str_equal(machine, "pc") ?
        " AS \"xen-pviommu-pci.0/11.0\"" : " AS \"xen-pviommu-pcie.0/11.0\"";
    QEdu edu;
    QXenPVIOMMU *iommu = start(machine, NULL, &edu);

    g_assert_true(shares_memory(iommu, function));
    assert_status(pviommu_enable(iommu), 0);
    g_assert_false(shares_memory(iommu, function));
    reset(iommu, &edu);
    g_assert_true(shares_memory(iommu, function));
    pviommu_quit(iommu);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    pviommu_add_for_machines("switch/identity-mode-ends-when-enabled",
                             test_identity_mode_ends_when_enabled);
    pviommu_add_for_machines("switch/queries-do-not-enable",
                             test_queries_do_not_enable);
    pviommu_add_for_machines("switch/premap-off-starts-enabled",
                             test_premap_off_starts_enabled);
    pviommu_add_for_machines("switch/reset-undoes-all", test_reset_undoes_all);
    pviommu_add_for_machines("switch/identity-mode-shares-one-memory-map",
                             test_identity_mode_shares_one_memory_map);
    pviommu_add("switch/changes-enable", test_changes_enable);
    pviommu_add("switch/no-control-keeps-identity-mode",
                test_no_control_keeps_identity_mode);
    pviommu_add("switch/premap-off-shows-reserved-ranges",
                test_premap_off_shows_reserved_ranges);
    return g_test_run();
}
