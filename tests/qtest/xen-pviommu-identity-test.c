/*
 * xen-pviommu: identity contexts, which show memory as in identity mode
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/bswap.h"
#include "libqos/edu.h"
#include "libqos/pviommu-mirror.h"
#include "libqos/snapshot.h"
#include "libqos/virtio-ram.h"
#include "libqos/xen-pviommu-qmp.h"
#include "qobject/qlist.h"

#define GFN             PVIOMMU_FREE_GFN
#define BFN             0x4000000
#define ADDR(frame)     ((uint64_t)(frame) * PVIOMMU_PAGE)
#define QUEUE           PVIOMMU_QUEUE_ADDR
#define BALLOON         "-device virtio-balloon-pci,addr=14 "
#define PINS            "-device '{\"driver\":\"pviommu-mirror\"," \
                        "\"addr\":\"11\",\"pins\":true}' "

static struct xen_iommu_op op_alloc_identity(void)
{
    struct xen_iommu_op op = pviommu_op_alloc();

    op.flags = cpu_to_le16(XEN_IOMMUOP_alloc_context_identity);
    return op;
}

static uint16_t alloc_identity(QXenPVIOMMU *iommu)
{
    struct xen_iommu_op op = op_alloc_identity();

    assert_status(pviommu_op(iommu, &op), 0);
    g_assert_cmpuint(le16_to_cpu(op.u.context.ctx), !=, 0);
    return le16_to_cpu(op.u.context.ctx);
}

/* @edu sees the machine as it is: RAM, and what is not RAM. */
static void assert_sees_all(QEdu *edu)
{
    uint8_t got[64];

    edu->window = edu->window_ram;
    edu_assert_access(edu, ADDR(GFN), ADDR(GFN), PVIOMMU_PAGE);
    edu_assert_access(edu, PVIOMMU_RAM - 64, PVIOMMU_RAM - 64, 64);
    edu_load(edu, PVIOMMU_BIOS_ADDR, got, sizeof(got));
    for (unsigned i = 0; i < sizeof(got); i++) {
        g_assert_cmphex(got[i], ==, PVIOMMU_BIOS_BYTE(i));
    }
}

static uint64_t faults(const QEduPair *f)
{
    return pviommu_counter(f->iommu, XEN_PVIOMMU_COUNTER_FAULTS);
}

/* A device that is attached before is not affected by the enabling. */
static void test_enabling_is_not_noticed(const void *machine)
{
    QEduPair f = edu_start_pair(machine, NULL);
    uint16_t id = alloc_identity(f.iommu), ctx;

    assert_status(pviommu_attach(f.iommu, EDU_SBDF_A, id), 0);
    g_assert_true(pviommu_identity(f.iommu));
    assert_sees_all(&f.a);
    assert_sees_all(&f.b);

    assert_status(pviommu_enable(f.iommu), 0);
    g_assert_false(pviommu_identity(f.iommu));
    assert_sees_all(&f.a);
    g_assert_cmpuint(faults(&f), ==, 0);
    edu_map_window(&f.b, f.iommu, 0, 0);
    edu_assert_no_access(&f.b, ADDR(GFN), ADDR(GFN), 64);
    assert_status(pviommu_free_context(f.iommu, id), XEN_IOMMU_EBUSY);

    /* It leaves: it sees what is mapped, and nothing else. */
    ctx = pviommu_alloc_context(f.iommu);
    assert_status(pviommu_map(f.iommu, ctx, BFN, GFN + 1, 1, 0), 0);
    assert_status(pviommu_attach(f.iommu, EDU_SBDF_A, ctx), 0);
    edu_map_window(&f.a, f.iommu, ctx, 1);
    edu_assert_access(&f.a, ADDR(BFN), ADDR(GFN + 1), 64);
    edu_assert_no_access(&f.a, ADDR(GFN), ADDR(GFN), 64);
    edu_assert_no_access(&f.a, PVIOMMU_RAM - 64, PVIOMMU_RAM - 64, 64);

    /* And comes back; from one identity context to another, too. */
    assert_status(pviommu_attach(f.iommu, EDU_SBDF_A, id), 0);
    assert_sees_all(&f.a);
    edu_map_window(&f.b, f.iommu, 0, 2);
    edu_assert_no_access(&f.b, ADDR(GFN), ADDR(GFN), 64);
    assert_status(pviommu_attach(f.iommu, EDU_SBDF_A, alloc_identity(f.iommu)),
                  0);
    assert_sees_all(&f.a);
    assert_status(pviommu_free_context(f.iommu, id), 0);
    assert_status(pviommu_attach(f.iommu, EDU_SBDF_A, 0), 0);
    edu_map_window(&f.a, f.iommu, 0, 3);
    edu_assert_no_access(&f.a, ADDR(GFN), ADDR(GFN), 64);
    pviommu_quit(f.iommu);
}

/* A context that is not one, and one that is, in the same batch. */
static void test_attach_elsewhere_enables(void)
{
    QEduPair f = edu_start_pair("q35", NULL);
    uint16_t id = alloc_identity(f.iommu);
    struct xen_iommu_op ops[] = {
        pviommu_op_attach(EDU_SBDF_A, id),
        pviommu_op_attach(EDU_SBDF_B, 0),
        pviommu_op_attach(EDU_SBDF_B, id),
    };

    for (unsigned i = 0; i < ARRAY_SIZE(ops); i++) {
        assert_status(pviommu_op(f.iommu, &ops[i]), 0);
        g_assert_true(pviommu_identity(f.iommu) == !i);
        assert_sees_all(&f.a);
    }
    assert_sees_all(&f.b);
    g_assert_cmpuint(faults(&f), ==, 0);
    pviommu_quit(f.iommu);
}

/* What needs a table is refused, and does not enable translation. */
static void test_table_operations_fail(const void *machine)
{
    QEduPair f = edu_start_pair(machine, NULL);
    uint16_t id = alloc_identity(f.iommu);
    struct xen_iommu_op ops[] = {
        pviommu_op_map(id, BFN, GFN, 1, 0),
        pviommu_op_unmap(id, BFN, 1),
        pviommu_op_lookup_bfn(id, BFN),
        pviommu_op_lookup_gfn(id, GFN, 0),
        pviommu_op_set_queue(id, QUEUE, 16),
        pviommu_op_set_queue(id, 0, 0),
    };

    assert_status(pviommu_attach(f.iommu, EDU_SBDF_A, id), 0);
    for (unsigned i = 0; i < ARRAY_SIZE(ops); i++) {
        assert_status(pviommu_op(f.iommu, &ops[i]), XEN_IOMMU_EINVAL);
        g_assert_true(pviommu_identity(f.iommu));
    }
    assert_status(pviommu_flush(f.iommu, id, BFN, 1), 0);
    assert_status(pviommu_flush_all(f.iommu, id), 0);
    g_assert_true(pviommu_identity(f.iommu));
    assert_status(pviommu_enable(f.iommu), 0);
    assert_status(pviommu_map(f.iommu, id, BFN, GFN, 1, 0), XEN_IOMMU_EINVAL);
    assert_sees_all(&f.a);
    pviommu_assert_frames(f.iommu, 0, 0);
    pviommu_quit(f.iommu);
}

/* A guest that did not accept it, and a machine that does not offer it. */
static void test_needs_its_feature(void)
{
    QEduPair f = edu_start_pair("q35", NULL);
    struct xen_iommu_op op = op_alloc_identity();

    pviommu_accept(f.iommu,
                   XEN_IOMMU_FEATURES_ALL & ~XEN_IOMMU_FEATURE_IDENTITY);
    assert_status(pviommu_op(f.iommu, &op), XEN_IOMMU_EINVAL);
    pviommu_accept(f.iommu, XEN_IOMMU_FEATURES_ALL);
    alloc_identity(f.iommu);
    pviommu_quit(f.iommu);

    f.iommu = pviommu_start("q35", "identity-contexts=off", EDU_PAIR);
    pviommu_accept(f.iommu,
                   XEN_IOMMU_FEATURES_ALL & ~XEN_IOMMU_FEATURE_IDENTITY);
    g_assert_cmphex(pviommu_readq(f.iommu, XEN_PVIOMMU_REG_FEATURES), ==,
                    XEN_IOMMU_FEATURES_ALL & ~XEN_IOMMU_FEATURE_IDENTITY);
    op = op_alloc_identity();
    assert_status(pviommu_op(f.iommu, &op), XEN_IOMMU_EINVAL);
    assert_status(pviommu_attach(f.iommu, EDU_SBDF_A,
                                 pviommu_alloc_context(f.iommu)), 0);
    pviommu_quit(f.iommu);
}

/* Reserved ranges are 1:1 as well: they never are in the way. */
static void test_reserved_ranges_do_not_hinder(void)
{
    g_autofree char *props = g_strdup_printf(
        "\"device-reserved-regions\":[\"pcie.0/11.0=0x%x000:0x%xfff:0\"]",
        GFN, GFN + 1);
    QEduPair f = edu_start_pair("q35", props);
    uint16_t id = alloc_identity(f.iommu);

    assert_status(pviommu_attach(f.iommu, EDU_SBDF_A, id), 0);
    assert_status(pviommu_enable(f.iommu), 0);
    assert_sees_all(&f.a);
    pviommu_quit(f.iommu);
}

static void test_reset_removes_it(const void *machine)
{
    QEduPair f = edu_start_pair(machine, NULL);

    for (unsigned i = 0; i < 4; i++) {
        uint16_t id = alloc_identity(f.iommu);

        assert_status(pviommu_attach(f.iommu, EDU_SBDF_A, id), 0);
        if (i & 1) {
            assert_status(pviommu_enable(f.iommu), 0);
        }
        assert_sees_all(&f.a);
        pviommu_reset(f.iommu);
        edu_init_pair(&f);
        g_assert_true(pviommu_identity(f.iommu));
        assert_sees_all(&f.a);
        assert_sees_all(&f.b);
    }
    assert_status(pviommu_enable(f.iommu), 0);
    edu_map_window(&f.a, f.iommu, 0, 0);
    edu_assert_no_access(&f.a, ADDR(GFN), ADDR(GFN), 64);
    pviommu_quit(f.iommu);
}

/* To a snapshot, and back, before translation is enabled and after it. */
static void check_snapshot(bool enabled)
{
    g_autofree char *path = g_strdup_printf("%s/xen-pviommu-identity-%d.qcow2",
                                            g_get_tmp_dir(), getpid());
    QEduPair f = edu_start_pair("q35", NULL);
    uint16_t id = alloc_identity(f.iommu);

    snapshot_image(f.iommu->qts, path);
    assert_status(pviommu_attach(f.iommu, EDU_SBDF_A, id), 0);
    if (enabled) {
        assert_status(pviommu_enable(f.iommu), 0);
    }
    snapshot_save(f.iommu->qts);

    assert_status(pviommu_attach(f.iommu, EDU_SBDF_A, 0), 0);
    assert_status(pviommu_free_context(f.iommu, id), 0);
    assert_status(pviommu_attach(f.iommu, EDU_SBDF_B,
                                 pviommu_alloc_context(f.iommu)), 0);
    snapshot_load(f.iommu->qts);

    g_assert_true(pviommu_identity(f.iommu) == !enabled);
    edu_init(&f.a, f.iommu, EDU_SBDF_A);
    edu_init(&f.b, f.iommu, EDU_SBDF_B);
    assert_sees_all(&f.a);
    if (enabled) {
        edu_map_window(&f.b, f.iommu, 0, 0);
        edu_assert_no_access(&f.b, ADDR(GFN), ADDR(GFN), 64);
    } else {
        assert_sees_all(&f.b);
    }
    assert_status(pviommu_map(f.iommu, id, BFN, GFN, 1, 0), XEN_IOMMU_EINVAL);
    assert_status(pviommu_attach(f.iommu, EDU_SBDF_A, 0), 0);
    assert_status(pviommu_free_context(f.iommu, id), 0);
    edu_map_window(&f.a, f.iommu, 0, 1);
    edu_assert_no_access(&f.a, ADDR(GFN), ADDR(GFN), 64);
    pviommu_quit(f.iommu);
    unlink(path);
}

static void test_snapshot_restores_it(void)
{
    check_snapshot(false);
    check_snapshot(true);
}

static void query_identity(QXenPVIOMMU *iommu, uint16_t ctx, bool expected)
{
    QDict *state = pviommu_query(iommu);
    QListEntry *e;

    QLIST_FOREACH_ENTRY(qdict_get_qlist(state, "contexts"), e) {
        QDict *c = qobject_to(QDict, qlist_entry_obj(e));

        if (qdict_get_int(c, "context") == ctx) {
            g_assert_true(qdict_haskey(c, "identity") == expected);
            qobject_unref(state);
            return;
        }
    }
    g_assert_not_reached();
}

static void test_monitor_shows_it(void)
{
    QEduPair f = edu_start_pair("q35", NULL);
    uint16_t id = alloc_identity(f.iommu);
    uint16_t ctx = pviommu_alloc_context(f.iommu);
    g_autofree char *text = NULL, *want = NULL;

    query_identity(f.iommu, id, true);
    query_identity(f.iommu, ctx, false);
    query_identity(f.iommu, 0, false);
    text = qtest_hmp(f.iommu->qts, "info xen-pviommu");
    want = g_strdup_printf("context %u: all memory, 1:1\r\n", id);
    g_assert_nonnull(strstr(text, want));
    pviommu_quit(f.iommu);
}

/*
 * A device of the host that sees all memory pins it: none can be discarded
 * while it is in such a context, and as before when it is in another.
 */
static void test_assigned_device_pins_memory(void)
{
    g_autofree char *args = pviommu_args("q35", NULL, BALLOON PINS);
    QEduPair f = { .iommu = pviommu_new(qtest_init(args)) };
    const uint32_t salt = 0x5a5a5a5a;
    QVirtioRam ram;
    QMirror mirror;
    uint16_t ids[3];

    pviommu_probe(f.iommu);
    mirror_init(&mirror, f.iommu, QPCI_DEVFN(0x11, 0));
    virtio_ram_init(&ram, f.iommu, QPCI_DEVFN(0x14, 0), 3);
    pviommu_accept(f.iommu, XEN_IOMMU_FEATURES_ALL);
    ids[0] = alloc_identity(f.iommu);
    ids[1] = pviommu_alloc_context(f.iommu);
    ids[2] = alloc_identity(f.iommu);
    assert_status(pviommu_attach(f.iommu, EDU_SBDF_A, ids[0]), 0);
    assert_status(pviommu_enable(f.iommu), 0);
    for (unsigned i = 0; i < ARRAY_SIZE(ids); i++) {
        uint64_t gfn = GFN + i;

        assert_status(pviommu_attach(f.iommu, EDU_SBDF_A, ids[i]), 0);
        qtest_writel(f.iommu->qts, ADDR(gfn), salt);
        balloon_give(&ram, BALLOON_INFLATE, gfn, 1);
        g_assert_cmphex(qtest_readl(f.iommu->qts, ADDR(gfn)), ==,
                        i == 1 ? 0 : salt);
    }
    virtio_ram_finalize(&ram);
    pviommu_quit(f.iommu);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    pviommu_add_for_machines("identity/enabling-is-not-noticed",
                             test_enabling_is_not_noticed);
    pviommu_add_for_machines("identity/table-operations-fail",
                             test_table_operations_fail);
    pviommu_add_for_machines("identity/reset-removes-it",
                             test_reset_removes_it);
    pviommu_add("identity/attach-elsewhere-enables",
                test_attach_elsewhere_enables);
    pviommu_add("identity/needs-its-feature", test_needs_its_feature);
    pviommu_add("identity/reserved-ranges-do-not-hinder",
                test_reserved_ranges_do_not_hinder);
    pviommu_add("identity/snapshot-restores-it", test_snapshot_restores_it);
    pviommu_add("identity/monitor-shows-it", test_monitor_shows_it);
    pviommu_add("identity/assigned-device-pins-memory",
                test_assigned_device_pins_memory);
    return g_test_run();
}
