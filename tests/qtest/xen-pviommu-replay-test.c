/*
 * xen-pviommu: a device that mirrors maps (VFIO) is attached to a context with
 * very many: it is notified of them in parts, and all can change in between
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/bswap.h"
#include "libqos/pci.h"
#include "libqos/pviommu-mirror.h"

#define GFN             PVIOMMU_FREE_GFN
#define BFN             0x4000000ull
#define SLOT            0x11

/* A part of a replay notifies no more than this. */
#define PART            512

/* Single pages, no two of which follow each other; then a run that is askew. */
#define PAGES           5000
#define ASKEW           3000
#define FRAMES          (PAGES + ASKEW)

typedef struct Fixture {
    QXenPVIOMMU *iommu;
    QMirror m;
    uint16_t ctx;
} Fixture;

static uint64_t page_bfn(unsigned i)
{
    return BFN + 3 * i;
}

static uint64_t page_gfn(unsigned i)
{
    return GFN + 2 * i;
}

#define ASKEW_BFN       (BFN + 0x100000)
#define ASKEW_GFN       (GFN + 2 * PAGES + 1)

static void map_pages(Fixture *f)
{
    g_autofree struct xen_iommu_op *ops = g_new(struct xen_iommu_op, PAGES);

    for (unsigned i = 0; i < PAGES; i++) {
        ops[i] = pviommu_op_map(f->ctx, page_bfn(i), page_gfn(i), 0, 0);
    }
    pviommu_run(f->iommu, ops, PAGES);
    for (unsigned i = 0; i < PAGES; i++) {
        assert_status(pviommu_status(&ops[i]), 0);
    }
    assert_status(pviommu_map(f->iommu, f->ctx, ASKEW_BFN, ASKEW_GFN, ASKEW, 0),
                  0);
}

static Fixture *fixture_new(void)
{
    g_autofree char *mirror = g_strdup_printf(MIRROR_DEVICE("map"), SLOT);
    Fixture *f = g_new0(Fixture, 1);

    /* A check of all tables after each doorbell takes long. */
    f->iommu = pviommu_start("q35", "premap=off,x-check=off", mirror);
    mirror_init(&f->m, f->iommu, QPCI_DEVFN(SLOT, 0));
    pviommu_accept(f->iommu, XEN_IOMMU_FEATURES_ALL);
    f->ctx = pviommu_alloc_context(f->iommu);
    map_pages(f);
    mirror_clear(&f->m);
    return f;
}

static void fixture_free(Fixture *f)
{
    mirror_assert_sane(&f->m);
    pviommu_quit(f->iommu);
    g_free(f);
}

static void store_attach(Fixture *f, uint16_t ctx)
{
    struct xen_iommu_op op = pviommu_op_attach(f->m.sbdf, ctx);

    pviommu_store_ops(f->iommu, PVIOMMU_OPS_ADDR, &op, 1);
}

/* One doorbell for the operation that was stored. True if it is done. */
static bool ring_once(Fixture *f)
{
    uint32_t done;

    assert_status(pviommu_ring(f->iommu, 0, PVIOMMU_OPS_ADDR, 1, &done), 0);
    return done;
}

/* Begin to attach the mirror, with so many doorbells. */
static void attach_partly(Fixture *f, unsigned rings)
{
    store_attach(f, f->ctx);
    while (rings--) {
        g_assert_false(ring_once(f));
    }
}

static void attach_rest(Fixture *f)
{
    assert_status(pviommu_attach(f->iommu, f->m.sbdf, f->ctx), 0);
}

/* In parts, as that takes long as well */
static void free_context(Fixture *f)
{
    int32_t status;

    do {
        status = pviommu_free_context(f->iommu, f->ctx);
    } while (status == -XEN_IOMMU_EAGAIN);
    assert_status(status, 0);
}

/* It takes as many doorbells as it needs, none of which notifies of much. */
static void test_takes_several_doorbells(void)
{
    Fixture *f = fixture_new();
    uint64_t ops = pviommu_counter(f->iommu, XEN_PVIOMMU_COUNTER_OPS);
    unsigned rings = 1;
    uint64_t maps = 0;
    struct xen_iommu_op op;

    store_attach(f, f->ctx);
    while (!ring_once(f)) {
        uint64_t now = mirror_counter(&f->m, PVIOMMU_MIRROR_MAPS);

        g_assert_cmpuint(now - maps, >, 0);
        g_assert_cmpuint(now - maps, <=, PART);
        maps = now;
        pviommu_load_ops(f->iommu, PVIOMMU_OPS_ADDR, &op, 1);
        g_assert_cmphex(le32_to_cpu(op.status), ==, PVIOMMU_STATUS_NONE);
        rings++;
    }
    pviommu_load_ops(f->iommu, PVIOMMU_OPS_ADDR, &op, 1);
    assert_status(pviommu_status(&op), 0);
    g_assert_cmpuint(rings, >=, FRAMES / PART);
    /* It is one operation, and it did not fail. */
    g_assert_cmpuint(pviommu_counter(f->iommu, XEN_PVIOMMU_COUNTER_OPS), ==,
                     ops + 1);
    g_assert_cmpuint(pviommu_counter(f->iommu, XEN_PVIOMMU_COUNTER_ERRORS), ==,
                     0);
    mirror_assert_equal(&f->m, f->ctx, FRAMES);
    mirror_assert_notified(&f->m, FRAMES,
                           mirror_counter(&f->m, PVIOMMU_MIRROR_UNMAPS));

    /* From then on it is notified of each change. */
    mirror_clear(&f->m);
    assert_status(pviommu_map(f->iommu, f->ctx, BFN + 0x200000, GFN, 0, 0), 0);
    mirror_assert_notified(&f->m, 1, 0);
    fixture_free(f);
}

/* The same for one that saw all memory until then, and begins to listen */
static void test_from_identity_takes_several_doorbells(void)
{
    Fixture *f = fixture_new();
    struct xen_iommu_op op = pviommu_op_alloc();
    uint16_t identity;

    op.flags = cpu_to_le16(XEN_IOMMUOP_alloc_context_identity);
    assert_status(pviommu_op(f->iommu, &op), 0);
    identity = le16_to_cpu(op.u.context.ctx);
    for (unsigned round = 0; round < 2; round++) {
        unsigned rings = 1;

        assert_status(pviommu_attach(f->iommu, f->m.sbdf, identity), 0);
        g_assert_cmpuint(mirror_counter(&f->m, PVIOMMU_MIRROR_PAGES), ==, 0);
        mirror_assert_page(&f->m, GFN, GFN, 3);
        mirror_clear(&f->m);
        store_attach(f, f->ctx);
        while (!ring_once(f)) {
            g_assert_cmpuint(mirror_counter(&f->m, PVIOMMU_MIRROR_MAPS), <=,
                             PART * rings);
            rings++;
        }
        g_assert_cmpuint(rings, >=, FRAMES / PART);
        mirror_assert_equal(&f->m, f->ctx, FRAMES);
    }
    fixture_free(f);
}

/* What changes below, at and above what it knows is as if it had known all. */
static void test_changes_in_between_are_seen(void)
{
    Fixture *f = fixture_new();
    uint64_t frames = FRAMES;

    for (unsigned part = 1; part <= 4; part++) {
        unsigned known;

        attach_partly(f, 1);
        known = mirror_counter(&f->m, PVIOMMU_MIRROR_PAGES);
        for (int side = -1; side <= 1; side++) {
            unsigned i = known + side * 100;

            /* Unmapped, and flushed now, or later */
            assert_status(pviommu_unmap(f->iommu, f->ctx, page_bfn(i), 0), 0);
            assert_status(pviommu_flush(f->iommu, f->ctx, page_bfn(i), 0), 0);
            assert_status(pviommu_unmap(f->iommu, f->ctx, page_bfn(i + 1), 0),
                          0);
            /* Another page at once, and one where nothing was */
            assert_status(pviommu_unmap(f->iommu, f->ctx, page_bfn(i + 2), 0),
                          0);
            assert_status(pviommu_map(f->iommu, f->ctx, page_bfn(i + 2),
                                      GFN + part, 0, 0), 0);
            assert_status(pviommu_map(f->iommu, f->ctx, page_bfn(i + 3) + 1,
                                      GFN + part, 0, 0), 0);
            frames--;
        }
        if (part % 2) {
            assert_status(pviommu_flush_all(f->iommu, f->ctx), 0);
        }
    }
    /* In the middle of what is askew, and across where the mirror is */
    assert_status(pviommu_unmap(f->iommu, f->ctx, ASKEW_BFN + 100, 1000), 0);
    assert_status(pviommu_map(f->iommu, f->ctx, ASKEW_BFN + 200, GFN, 512, 0),
                  0);
    attach_rest(f);
    frames += 512 - 1000;
    assert_status(pviommu_flush_all(f->iommu, f->ctx), 0);
    mirror_assert_equal(&f->m, f->ctx, frames);
    pviommu_assert_frames(f->iommu, frames, 0);
    fixture_free(f);
}

/* The guest never goes on with it, but does something else. */
static void test_may_be_abandoned(void)
{
    Fixture *f = fixture_new();
    uint16_t other = pviommu_alloc_context(f->iommu);

    assert_status(pviommu_map(f->iommu, other, BFN, GFN, 5, 0), 0);
    /* To another context, and back to where it was begun */
    attach_partly(f, 2);
    assert_status(pviommu_attach(f->iommu, f->m.sbdf, other), 0);
    mirror_assert_equal(&f->m, other, 5);
    attach_partly(f, 1);
    assert_status(pviommu_free_context(f->iommu, f->ctx), XEN_IOMMU_EBUSY);
    attach_rest(f);
    mirror_assert_equal(&f->m, f->ctx, FRAMES);

    /* Away, and the context with it */
    assert_status(pviommu_attach(f->iommu, f->m.sbdf, 0), 0);
    g_assert_cmpuint(mirror_counter(&f->m, PVIOMMU_MIRROR_PAGES), ==, 0);
    attach_partly(f, 2);
    assert_status(pviommu_unmap(f->iommu, f->ctx, ASKEW_BFN, ASKEW), 0);
    assert_status(pviommu_attach(f->iommu, f->m.sbdf, 0), 0);
    free_context(f);
    pviommu_assert_frames(f->iommu, 5, 0);
    mirror_assert_equal(&f->m, 0, 0);

    /* A reset */
    f->ctx = pviommu_alloc_context(f->iommu);
    map_pages(f);
    attach_partly(f, 3);
    pviommu_reset(f->iommu);
    mirror_init(&f->m, f->iommu, QPCI_DEVFN(SLOT, 0));
    pviommu_accept(f->iommu, XEN_IOMMU_FEATURES_ALL);
    mirror_assert_equal(&f->m, 0, 0);
    assert_status(pviommu_map(f->iommu, 0, BFN, GFN, 7, 0), 0);
    mirror_assert_equal(&f->m, 0, 7);

    /* It is notified of pages that leave as well: only of those it knows. */
    f->ctx = pviommu_alloc_context(f->iommu);
    map_pages(f);
    attach_partly(f, 1);
    fixture_free(f);
}

/* Unplugged in the middle; the next device has all. */
static void test_ends_with_its_device(void)
{
    QXenPVIOMMU *iommu = pviommu_start("pc", "premap=off,x-check=off", NULL);
    Fixture f = { .iommu = iommu, .ctx = 0 };

    pviommu_accept(iommu, XEN_IOMMU_FEATURES_ALL);
    f.ctx = pviommu_alloc_context(iommu);
    map_pages(&f);
    for (unsigned round = 0; round < 3; round++) {
        qtest_qmp_device_add(iommu->qts, "pviommu-mirror", "m0",
                             "{'addr': '0x11'}");
        mirror_init(&f.m, iommu, QPCI_DEVFN(SLOT, 0));
        g_assert_cmpuint(mirror_counter(&f.m, PVIOMMU_MIRROR_PAGES), ==, 0);
        attach_partly(&f, 1 + round);
        qpci_unplug_acpi_device_test(iommu->qts, "m0", SLOT);
        assert_status(pviommu_attach(iommu, f.m.sbdf, f.ctx),
                      XEN_IOMMU_ENODEV);
        assert_status(pviommu_unmap(iommu, f.ctx, page_bfn(round), 0), 0);
        assert_status(pviommu_flush_all(iommu, f.ctx), 0);
    }
    qtest_qmp_device_add(iommu->qts, "pviommu-mirror", "m0",
                         "{'addr': '0x11'}");
    mirror_init(&f.m, iommu, QPCI_DEVFN(SLOT, 0));
    attach_rest(&f);
    mirror_assert_equal(&f.m, f.ctx, FRAMES - 3);
    pviommu_quit(iommu);
}

#define LARGE           512

/*
 * VFIO's sync of its dirty log replays to a notifier that it does not register.
 * That must leave nothing for one that is later at the same place.
 */
static void test_dirty_sync_leaves_nothing(void)
{
    g_autofree char *mirror = g_strdup_printf(MIRROR_DEVICE("map"), SLOT);
    QXenPVIOMMU *iommu = pviommu_start("q35", "premap=off", mirror);
    QMirror m;

    mirror_init(&m, iommu, QPCI_DEVFN(SLOT, 0));
    pviommu_accept(iommu, XEN_IOMMU_FEATURES_ALL);
    assert_status(pviommu_map(iommu, 0, BFN, 2 * LARGE * LARGE / 32, LARGE, 0),
                  0);
    for (unsigned i = 0; i < 3; i++) {
        mirror_clear(&m);
        g_assert_true(mirror_cmd(&m, PVIOMMU_MIRROR_CMD_SYNC));
        /* It is notified of what is mapped, and of no unmap. */
        g_assert_cmpuint(mirror_counter(&m, PVIOMMU_MIRROR_OTHER_MAPS), >, 0);
        g_assert_cmpuint(mirror_counter(&m, PVIOMMU_MIRROR_OTHER_UNMAPS), ==,
                         0);
        /* Nor is the other notifier called. */
        mirror_assert_notified(&m, 0, 0);

        g_assert_true(mirror_cmd(&m, PVIOMMU_MIRROR_CMD_LISTEN));
        mirror_clear(&m);
        assert_status(pviommu_unmap(iommu, 0, BFN + 7 + i, 1), 0);
        assert_status(pviommu_flush_all(iommu, 0), 0);
        g_assert_cmpuint(mirror_counter(&m, PVIOMMU_MIRROR_OTHER_UNMAPS), ==,
                         1);
        g_assert_cmpuint(mirror_counter(&m, PVIOMMU_MIRROR_OTHER_LARGEST), ==,
                         PVIOMMU_PAGE);
        g_assert_cmpuint(mirror_counter(&m, PVIOMMU_MIRROR_OTHER_MAPS), ==, 0);
        mirror_cmd(&m, PVIOMMU_MIRROR_CMD_UNLISTEN);
        mirror_assert_equal(&m, 0, LARGE - 1 - i);
    }
    pviommu_quit(iommu);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    pviommu_add("replay/takes-several-doorbells", test_takes_several_doorbells);
    pviommu_add("replay/from-identity-takes-several-doorbells",
                test_from_identity_takes_several_doorbells);
    pviommu_add("replay/changes-in-between-are-seen",
                test_changes_in_between_are_seen);
    pviommu_add("replay/may-be-abandoned", test_may_be_abandoned);
    pviommu_add("replay/ends-with-its-device", test_ends_with_its_device);
    pviommu_add("replay/dirty-sync-leaves-nothing",
                test_dirty_sync_leaves_nothing);
    return g_test_run();
}
