/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * iommu_op: each operation and each error, against the model in
 * pviommu-model.c
 */

#include "qemu/osdep.h"
#include "qemu/bswap.h"
#include "qemu/log.h"
#include "pviommu-calls.h"

#define RO XEN_IOMMUOP_map_readonly

static void test_unknown_operation_fails(void)
{
    static const uint16_t codes[] = {
        0, IOMMU_OPS_END, 31, 32, 33, 43, 255, 256, 0xffff,
    };
    FixtureConfig config = config_small;
    struct xen_iommu_op op;
    Fixture *f;

    config.max_irqs = 16;
    f = fixture_new(&config);
    for (int i = 0; i < ARRAY_SIZE(codes); i++) {
        op = (struct xen_iommu_op) { .op = cpu_to_le16(codes[i]) };
        FAILS(EOPNOTSUPP, fixture_op(f, &op));
    }
    fixture_free(f);

    /* What the backend cannot do, before anything else */
    config.ops = ~(1u << XEN_IOMMUOP_map | 1u << XEN_IOMMUOP_alloc_context);
    config.no_control = true;
    f = fixture_new(&config);
    FAILS(EOPNOTSUPP, do_map(f, 9, 0, 0, 7, 0xffff));
    op = (struct xen_iommu_op) {
        .op = cpu_to_le16(XEN_IOMMUOP_alloc_context),
    };
    FAILS(EOPNOTSUPP, fixture_op(f, &op));
    op = (struct xen_iommu_op) { .op = cpu_to_le16(XEN_IOMMUOP_query_caps) };
    OK(fixture_op(f, &op));
    g_assert_cmphex(le32_to_cpu(op.u.query_caps.ops), ==,
                    IOMMU_OPS_ALL & config.ops);
    fixture_free(f);
}

static void test_no_control_refuses_all_but_query_caps(void)
{
    FixtureConfig config = config_small;
    Fixture *f;

    config.no_control = true;
    config.max_irqs = 16;
    f = fixture_new(&config);
    for (uint16_t code = 1; code < IOMMU_OPS_END; code++) {
        struct xen_iommu_op op = { .op = cpu_to_le16(code) };

        if (code == XEN_IOMMUOP_query_caps) {
            /* Also with no feature, and with anything in it */
            f->core.accepted = 0;
            memset(&op.u, 0xff, sizeof(op.u));
            OK(fixture_op(f, &op));
            g_assert_cmphex(op.u.query_caps.state, ==,
                            XEN_IOMMU_STATE_identity);
            f->core.accepted = XEN_IOMMU_FEATURES_ALL;
        } else {
            FAILS(EACCES, fixture_op(f, &op));
            op.flags = 0xffff;
            FAILS(EACCES, fixture_op(f, &op));
        }
    }
    g_assert_true(f->core.identity);
    fixture_free(f);
}

/* Operations that succeed, into which one wrong bit is put */
static struct xen_iommu_op good_op(unsigned code)
{
    struct xen_iommu_op op = { .op = cpu_to_le16(code) };

    switch (code) {
    case XEN_IOMMUOP_map:
        op.u.map.bfn = cpu_to_le64(100);
        op.u.map.gfn = cpu_to_le64(300);
        op.u.map.domid = cpu_to_le16(DOMID_SELF);
        break;
    case XEN_IOMMUOP_unmap:
    case XEN_IOMMUOP_lookup_bfn:
        op.u.map.bfn = cpu_to_le64(10);
        break;
    case XEN_IOMMUOP_lookup_gfn:
        op.u.lookup.gfn = cpu_to_le64(310);
        break;
    case XEN_IOMMUOP_free_context:
        op.u.context.ctx = cpu_to_le16(1);
        break;
    case XEN_IOMMUOP_set_queue:
        op.u.set_queue.addr = cpu_to_le64(QUEUE_BASE);
        op.u.set_queue.nr_ops = cpu_to_le32(16);
        break;
    }
    return op;
}

static Fixture *good_fixture(void)
{
    Fixture *f = fixture_new(&config_small);
    uint16_t ctx;

    OK(do_map(f, 0, 10, 310, 4, 0));
    OK(do_alloc(f, &ctx));
    g_assert_cmpuint(ctx, ==, 1);
    return f;
}

static void test_nonzero_pads_fail(void)
{
    static const struct {
        uint8_t code;
        uint8_t first, end;     /* bytes of u */
    } pads[] = {
        { XEN_IOMMUOP_query_reserved, 4, 8 },
        { XEN_IOMMUOP_query_reserved, 16, 20 }, /* sbdf, without its flag */
        { XEN_IOMMUOP_query_reserved, 22, 24 },
        { XEN_IOMMUOP_unmap, 8, 18 },
        { XEN_IOMMUOP_flush, 8, 18 },
        { XEN_IOMMUOP_lookup_bfn, 8, 18 },
        { XEN_IOMMUOP_lookup_bfn, 20, 24 },
        { XEN_IOMMUOP_lookup_gfn, 16, 18 },
        { XEN_IOMMUOP_lookup_gfn, 20, 24 },
        { XEN_IOMMUOP_alloc_context, 0, 24 },
        { XEN_IOMMUOP_free_context, 2, 24 },
        { XEN_IOMMUOP_attach_device, 6, 24 },
        { XEN_IOMMUOP_enable, 0, 24 },
        { XEN_IOMMUOP_set_queue, 8, 18 },
    };

    for (int i = 0; i < ARRAY_SIZE(pads); i++) {
        for (unsigned bit = pads[i].first * 8; bit < pads[i].end * 8; bit++) {
            Fixture *f = good_fixture();
            struct xen_iommu_op op = good_op(pads[i].code);

            ((uint8_t *)&op.u)[bit / 8] |= 1 << (bit % 8);
            FAILS(EINVAL, fixture_op(f, &op));
            fixture_free(f);
        }
    }
    for (unsigned code = 1; code <= XEN_IOMMUOP_set_queue; code++) {
        Fixture *f = good_fixture();
        struct xen_iommu_op op;

        for (unsigned bit = 0; bit < 16; bit++) {
            if (bit || (code != XEN_IOMMUOP_map && code != XEN_IOMMUOP_unmap &&
                        code != XEN_IOMMUOP_query_reserved &&
                        code != XEN_IOMMUOP_alloc_context)) {
                op = good_op(code);
                op.flags = cpu_to_le16(1u << bit);
                FAILS(EINVAL, fixture_op(f, &op));
            }
        }
        op = good_op(code);
        /* What was in status before does not matter. */
        op.status = -1;
        OK(fixture_op(f, &op));
        fixture_free(f);
    }
}

static void test_features_not_accepted_fail(void)
{
    Fixture *f = fixture_new(&config_small);
    struct xen_iommu_op op;
    uint16_t ctx;
    uint32_t nr;

    f->core.accepted = XEN_IOMMU_FEATURES_ALL & ~XEN_IOMMU_FEATURE_RANGES;
    FAILS(EINVAL, do_map(f, 0, 1, 1, 1, 0));
    FAILS(EINVAL, do_map(f, 0, 1, 1, 2, 0));
    OK(do_map(f, 0, 1, 1, 0, 0));
    FAILS(EINVAL, do_unmap(f, 0, 1, 1));
    OK(do_unmap(f, 0, 1, 0));
    FAILS(EINVAL, do_flush(f, 0, 1, 1));
    OK(do_flush(f, 0, 1, 0));
    g_assert_cmpuint(fixture_page_refs(f, 1), ==, 0);
    OK(do_flush_all(f, 0));

    f->core.accepted = XEN_IOMMU_FEATURES_ALL & ~XEN_IOMMU_FEATURE_CONTEXTS;
    FAILS(EINVAL, do_map(f, 1, 1, 1, 1, 0));
    FAILS(EINVAL, do_unmap(f, 1, 1, 1));
    FAILS(EINVAL, do_flush(f, 1, 1, 1));
    FAILS(EINVAL, do_flush_all(f, 1));
    FAILS(EINVAL, do_lookup(f, XEN_IOMMUOP_lookup_bfn, 1, 1, 0, &op));
    FAILS(EINVAL, do_lookup(f, XEN_IOMMUOP_lookup_gfn, 1, 1, 0, &op));
    FAILS(EINVAL, do_alloc(f, &ctx));
    FAILS(EINVAL, do_free(f, 1));
    FAILS(EINVAL, do_attach(f, f->dev[0].sbdf, 0));
    FAILS(EINVAL, do_query_reserved(f, 0, 0, 1, STORE_BASE, 10, &nr));
    FAILS(EINVAL, do_query_reserved(f, 1, 0, 0, STORE_BASE, 10, &nr));
    OK(do_query_reserved(f, 0, 0, 0, STORE_BASE, 10, &nr));

    f->core.accepted = XEN_IOMMU_FEATURES_ALL & ~XEN_IOMMU_FEATURE_LOOKUP;
    FAILS(EINVAL, do_lookup(f, XEN_IOMMUOP_lookup_bfn, 0, 1, 0, &op));
    FAILS(EINVAL, do_lookup(f, XEN_IOMMUOP_lookup_gfn, 0, 1, 0, &op));

    f->core.accepted = XEN_IOMMU_FEATURES_ALL & ~XEN_IOMMU_FEATURE_QUEUE;
    FAILS(EINVAL, do_set_queue(f, 0, QUEUE_BASE, 16));
    FAILS(EINVAL, do_set_queue(f, 0, 0, 0));
    FAILS(EINVAL, do_unmap_skip(f, 0, 1, 1));
    f->core.accepted = XEN_IOMMU_FEATURE_QUEUE;
    FAILS(EINVAL, do_set_queue(f, 1, QUEUE_BASE, 16));
    FAILS(EINVAL, do_unmap_skip(f, 0, 1, 1));
    OK(do_unmap_skip(f, 0, 1, 0));
    OK(do_set_queue(f, 0, QUEUE_BASE, 16));
    fixture_free(f);
}

static void test_out_of_range_fails(void)
{
    uint64_t limit = 1 << 12;
    Fixture *f = fixture_new(&config_small);
    struct xen_iommu_op op;

    f->backend.huge = true;
    FAILS(EINVAL, do_map(f, 0, limit, 1, 0, 0));
    FAILS(EINVAL, do_map(f, 0, limit - 1, 1, 2, 0));
    FAILS(EINVAL, do_map(f, 0, 1, 1, UINT32_MAX, 0));
    FAILS(EINVAL, do_map(f, 0, UINT64_MAX, 1, 0, 0));
    FAILS(EINVAL, do_map(f, 0, UINT64_MAX, 1, 2, 0));
    FAILS(EINVAL, do_map(f, 0, UINT64_MAX - 1, 1, UINT32_MAX, 0));
    FAILS(EINVAL, do_map(f, 0, 1ull << 52, 1, 0, 0));
    FAILS(EINVAL, do_map(f, 0, 1, 1ull << 40, 0, 0));
    FAILS(EINVAL, do_map(f, 0, 1, (1ull << 40) - 1, 2, 0));
    FAILS(EINVAL, do_map(f, 0, 1, UINT64_MAX, 0, 0));
    FAILS(EINVAL, do_map(f, 0, 1, UINT64_MAX, 2, 0));
    FAILS(EINVAL, do_unmap(f, 0, limit, 0));
    FAILS(EINVAL, do_unmap(f, 0, limit - 1, 2));
    FAILS(EINVAL, do_unmap(f, 0, UINT64_MAX, 0));
    FAILS(EINVAL, do_unmap(f, 0, UINT64_MAX, 2));
    FAILS(EINVAL, do_flush(f, 0, limit, 0));
    FAILS(EINVAL, do_flush(f, 0, limit - 1, 2));
    FAILS(EINVAL, do_flush(f, 0, 0, limit + 1));
    FAILS(EINVAL, do_flush(f, 0, UINT64_MAX, 1));
    FAILS(EINVAL, do_flush(f, 0, UINT64_MAX - 1, 0));
    FAILS(EINVAL, do_lookup(f, XEN_IOMMUOP_lookup_bfn, 0, limit, 0, &op));
    FAILS(EINVAL, do_lookup(f, XEN_IOMMUOP_lookup_gfn, 0, limit, 0, &op));
    FAILS(EINVAL, do_lookup(f, XEN_IOMMUOP_lookup_gfn, 0, 0, 1ull << 40, &op));
    /* None of them was good enough to enable translation. */
    g_assert_true(f->core.identity);

    f->backend.huge = false;
    OK(do_map(f, 0, limit - 1, 1, 0, 0));
    OK(do_map(f, 0, limit - 2, 1, 1, 0));
    OK(do_flush(f, 0, 0, limit));
    OK(do_unmap(f, 0, limit - 2, 2));
    OK(do_flush(f, 0, limit - 1, 0));
    g_assert_cmpuint(f->core.pending_frames, ==, 1);
    fixture_free(f);
}

static void test_map_refuses_pages_by_kind(void)
{
    Fixture *f = fixture_new(&config_small);
    struct xen_iommu_op op = good_op(XEN_IOMMUOP_map);

    op.u.map.domid = cpu_to_le16(DOMID_FOREIGN);
    FAILS(EPERM, fixture_op(f, &op));
    op.u.map.domid = cpu_to_le16(DOMID_FOREIGN + 1);
    FAILS(ESRCH, fixture_op(f, &op));
    op.u.map.domid = 0;
    FAILS(ESRCH, fixture_op(f, &op));

    FAILS(ENOENT, do_map(f, 0, 1, 3000, 0, 0));
    FAILS(ENOENT, do_map(f, 0, 1, (1ull << 40) - 1, 0, 0));
    FAILS(ENOENT, do_map(f, 0, 1, 2999, 2, 0));
    FAILS(EPERM, do_map(f, 0, 1, 160, 0, 0));
    FAILS(EPERM, do_map(f, 0, 1, 160, 0, RO));
    FAILS(EPERM, do_map(f, 0, 1, 150, 20, 0));
    FAILS(EPERM, do_map(f, 0, 1, 200, 0, 0));
    FAILS(EPERM, do_map(f, 0, 1, 250, 10, 0));
    OK(do_map(f, 0, 1, 250, 10, RO));
    g_assert_cmpuint(f->core.mapped_frames, ==, 10);

    f->backend.kind[500] = KIND_PAGED;
    f->backend.kind[505] = KIND_PAGED;
    FAILS(EAGAIN, do_map(f, 0, 100, 495, 20, 0));
    FAILS(EAGAIN, do_map(f, 0, 100, 495, 20, 0));
    g_assert_cmpuint(fixture_page_refs(f, 495), ==, 0);
    OK(do_map(f, 0, 100, 495, 20, 0));
    g_assert_cmpuint(f->backend.rw[495], ==, 1);
    g_assert_cmpuint(f->backend.ro[495], ==, 0);
    g_assert_cmpuint(f->backend.ro[250], ==, 1);
    g_assert_cmpuint(f->backend.rw[250], ==, 0);
    fixture_free(f);
}

/* A BAR is as RAM: mapped, pending, and gone by itself. */
static void test_map_of_a_bar_needs_its_feature(void)
{
    Fixture *f = fixture_new(&config_small);

    fixture_accept(f, XEN_IOMMU_FEATURES_ALL & ~XEN_IOMMU_FEATURE_MMIO);
    FAILS(EPERM, do_map(f, 0, 1, 3100, 0, 0));
    FAILS(EPERM, do_map(f, 0, 1, 3131, 2, RO));
    fixture_accept(f, XEN_IOMMU_FEATURES_ALL);
    FAILS(ENOENT, do_map(f, 0, 1, 3099, 2, 0));
    OK(do_map(f, 0, 1, 3130, 4, 0));
    OK(do_map(f, 0, 8, 3100, 0, RO));
    OK(do_map(f, 0, 9, 3110, 0, 0));
    OK(do_unmap(f, 0, 9, 0));

    /* What is mapped stays when the guest accepts less. */
    fixture_accept(f, 0);
    g_assert_cmpuint(fixture_page_refs(f, 3131), ==, 1);
    FAILS(EPERM, do_map(f, 0, 10, 3100, 0, 0));
    fixture_invalidate(f, 3100, 32);
    g_assert_cmpuint(f->core.mapped_frames, ==, 2);
    g_assert_cmpuint(f->core.pending_frames, ==, 0);
    g_assert_cmpuint(fixture_page_refs(f, 3132), ==, 1);
    fixture_free(f);
}

static void test_map_and_unmap_are_all_or_nothing(void)
{
    Fixture *f = fixture_new(&config_small);

    OK(do_map(f, 0, 10, 310, 10, 0));
    /* All or nothing */
    FAILS(EEXIST, do_map(f, 0, 10, 310, 0, 0));
    FAILS(EEXIST, do_map(f, 0, 5, 305, 6, 0));
    FAILS(EEXIST, do_map(f, 0, 19, 305, 600, 0));
    FAILS(EEXIST, do_map(f, 0, 0, 305, 100, RO));
    g_assert_cmpuint(f->backend.total, ==, 10);
    /* The same page again, elsewhere */
    OK(do_map(f, 0, 20, 310, 10, RO));
    g_assert_cmpuint(fixture_page_refs(f, 310), ==, 2);

    /* One map, several unmaps */
    OK(do_unmap(f, 0, 12, 1));
    FAILS(ENOENT, do_unmap(f, 0, 12, 1));
    FAILS(ENOENT, do_unmap(f, 0, 10, 10));
    FAILS(ENOENT, do_unmap(f, 0, 9, 2));
    FAILS(ENOENT, do_unmap(f, 0, 29, 2));
    FAILS(ENOENT, do_unmap(f, 0, 3000, 0));
    g_assert_cmpuint(f->core.mapped_frames, ==, 19);
    /* Several maps, one unmap */
    OK(do_unmap(f, 0, 15, 10));
    OK(do_unmap(f, 0, 10, 2));
    g_assert_cmpuint(f->core.pending_frames, ==, 13);
    fixture_check(f);
    OK(do_flush_all(f, 0));
    g_assert_cmpuint(f->backend.total, ==, 7);
    /* No reference is dropped twice. */
    FAILS(ENOENT, do_unmap(f, 0, 12, 1));
    OK(do_flush_all(f, 0));
    g_assert_cmpuint(f->backend.total, ==, 7);
    fixture_free(f);
}

static void test_unmap_can_skip_unmapped(void)
{
    const XenPVIOMMUReserved reserved = { 40, 5, 0 };
    FixtureConfig config = config_small;
    Fixture *f;
    uint16_t ctx;

    config.reserved = &reserved;
    config.nr_reserved = 1;
    f = fixture_new(&config);
    OK(do_alloc(f, &ctx));
    /* It enables translation, too, if nothing is mapped. */
    OK(do_unmap_skip(f, 0, 0, 1 << 12));
    g_assert_false(f->core.identity);
    FAILS(ENOENT, do_unmap_skip(f, 3, 0, 1));
    FAILS(EINVAL, do_unmap_skip(f, 0, 0, (1 << 12) + 1));
    OK(do_unmap_skip(f, 0, 42, 1));
    OK(do_unmap_skip(f, 0, 40, 5));

    OK(do_map(f, 0, 0, 300, 3, 0));
    OK(do_map(f, 0, 5, 400, 10, RO));
    OK(do_map(f, 0, 15, 500, 5, 0));
    OK(do_map(f, 0, 39, 600, 1, 0));
    OK(do_map(f, 0, 45, 601, 2, 0));
    OK(do_map(f, 0, (1 << 12) - 1, 7, 1, 0));
    OK(do_map(f, ctx, 0, 300, 30, 0));
    /* A part of a run at each end, and a gap */
    OK(do_unmap_skip(f, 0, 2, 5));
    g_assert_cmpuint(f->core.pending_frames, ==, 3);
    /* Around what is reserved */
    OK(do_unmap_skip(f, 0, 30, 16));
    g_assert_cmpuint(f->core.pending_frames, ==, 5);
    OK(do_unmap_skip(f, 0, 0, 1 << 12));
    g_assert_cmpuint(f->core.contexts[0]->mapped_frames, ==, 0);
    g_assert_cmpuint(f->core.mapped_frames, ==, 30);
    fixture_check(f);
    OK(do_flush_all(f, 0));
    g_assert_cmpuint(f->backend.total, ==, 30);
    fixture_free(f);
}

/* As many runs as can wait, with gaps between them, and one more */
static void test_unmap_ends_where_pending_is_full(void)
{
    FixtureConfig config = config_small;
    Fixture *f;

    config.max_mappings = 100000;
    config.bfn_bits = 14;
    f = fixture_new(&config);
    for (unsigned i = 0; i < 4097; i++) {
        OK(do_map(f, 0, 3 * i, 300, 0, 0));
    }
    /* It is unmapped in parts, as far as there is room. */
    FAILS(ENOSPC, do_unmap_skip(f, 0, 0, 1 << 14));
    g_assert_cmpuint(f->core.mapped_frames, ==, 1);
    FAILS(ENOSPC, do_unmap_skip(f, 0, 0, 1 << 14));
    OK(do_unmap_skip(f, 0, 0, 3 * 4096));
    OK(do_flush_all(f, 0));
    OK(do_unmap_skip(f, 0, 0, 1 << 14));
    fixture_free(f);
}

static void test_set_queue_refuses_bad_memory(void)
{
    Fixture *f = fixture_new(&config_small);
    uint16_t ctx;

    OK(do_alloc(f, &ctx));
    for (uint32_t nr = 1; nr <= 1024; nr *= 2) {
        OK(do_set_queue(f, 0, QUEUE_BASE, nr));
        OK(do_set_queue(f, ctx, QUEUE_BASE + 0x10000, nr));
        FAILS(EINVAL, do_set_queue(f, 0, QUEUE_BASE, nr + 2048));
        FAILS(EINVAL, do_set_queue(f, 0, QUEUE_BASE + 2 * nr, nr));
    }
    for (unsigned bit = 11; bit < 32; bit++) {
        FAILS(EINVAL, do_set_queue(f, 0, QUEUE_BASE, 1u << bit));
    }
    FAILS(EINVAL, do_set_queue(f, 0, QUEUE_BASE, 0));
    FAILS(EINVAL, do_set_queue(f, 0, 0, 16));
    FAILS(EINVAL, do_set_queue(f, 0, QUEUE_BASE, 3));
    FAILS(EINVAL, do_set_queue(f, 0, QUEUE_BASE, UINT32_MAX));
    FAILS(EINVAL, do_set_queue(f, 9, QUEUE_BASE + 1, 16));
    FAILS(EINVAL, do_set_queue(f, 0, UINT64_MAX - 4095, 1024));
    FAILS(ENOENT, do_set_queue(f, 2, QUEUE_BASE, 16));
    FAILS(ENOENT, do_set_queue(f, 2, 0, 0));
    FAILS(EFAULT, do_set_queue(f, 0, QUEUE_BASE - 0x1000, 16));
    FAILS(EFAULT, do_set_queue(f, 0, QUEUE_BASE + QUEUE_SIZE - 0x8000, 1024));
    FAILS(EFAULT, do_set_queue(f, 0, UINT64_MAX - 4095, 16));
    OK(do_set_queue(f, 0, QUEUE_BASE + QUEUE_SIZE - 0x9000, 1024));
    OK(do_set_queue(f, 0, 0, 0));
    OK(do_set_queue(f, 0, 0, 0));
    g_assert_true(f->core.identity);

    /* It is freed with its context, and at a reset. */
    OK(do_free(f, ctx));
    OK(do_alloc(f, &ctx));
    g_assert_null(f->core.contexts[ctx]->queue);
    OK(do_set_queue(f, 0, QUEUE_BASE, 16));
    OK(do_set_queue(f, ctx, QUEUE_BASE, 16));
    fixture_reset(f);
    g_assert_null(f->core.contexts[0]->queue);
    fixture_free(f);
}

static void test_queue_takes_map_unmap_and_flush_only(void)
{
    Fixture *f = fixture_new(&config_small);
    struct xen_iommu_op op;
    uint16_t ctx;

    OK(do_alloc(f, &ctx));
    for (uint16_t code = 0; code < 20; code++) {
        for (uint16_t id = 0; id <= ctx; id++) {
            op = good_op(code);
            if (id || code == XEN_IOMMUOP_flush || code < XEN_IOMMUOP_map ||
                code > XEN_IOMMUOP_flush) {
                /* What is right in an array may be none for a queue. */
                int ret = fixture_queued_op(f, id, &op);

                g_assert_cmpint(ret, ==, id || code != XEN_IOMMUOP_flush
                                         ? -XEN_IOMMU_EINVAL : 0);
            }
        }
    }
    g_assert_true(f->core.identity);

    for (uint32_t nr = 0; nr < 600; nr += nr < 3 ? 1 : nr < 509 ? 169 : 1) {
        bool fits = nr <= 512;

        op = good_op(XEN_IOMMUOP_map);
        op.u.map.nr_frames = cpu_to_le32(nr);
        g_assert_cmpint(fixture_queued_op(f, 0, &op), ==,
                        fits ? 0 : -XEN_IOMMU_EINVAL);
        op = good_op(XEN_IOMMUOP_unmap);
        op.u.unmap.bfn = cpu_to_le64(100);
        op.u.unmap.nr_frames = cpu_to_le32(nr);
        g_assert_cmpint(fixture_queued_op(f, 0, &op), ==,
                        fits ? 0 : -XEN_IOMMU_EINVAL);
    }
    op = good_op(XEN_IOMMUOP_flush);
    op.u.flush.nr_frames = cpu_to_le32(4000);
    OK(fixture_queued_op(f, 0, &op));
    fixture_free(f);
}

static void test_reserved_cannot_be_mapped(void)
{
    static const XenPVIOMMUReserved reserved[] = {
        { 1000, 100, XEN_IOMMU_RESERVED_msi },
        { 2000, 1, 0 },
        /* Overlaps with both, around and between them */
        { 900, 1200, 2 },
        { 1050, 10, 4 },
    };
    FixtureConfig config = config_small;
    uint16_t ctx;
    uint32_t nr;
    Fixture *f;

    config.reserved = reserved;
    config.nr_reserved = ARRAY_SIZE(reserved);
    f = fixture_new(&config);
    fixture_reserve(f, 1, 10, 5, 8);
    fixture_reserve(f, 1, 2090, 20, 16);
    fixture_reserve(f, 2, 12, 5, 32);

    FAILS(EADDRNOTAVAIL, do_map(f, 0, 1000, 300, 0, 0));
    FAILS(EADDRNOTAVAIL, do_map(f, 0, 899, 300, 2, 0));
    FAILS(EADDRNOTAVAIL, do_map(f, 0, 2099, 300, 2, 0));
    FAILS(EADDRNOTAVAIL, do_map(f, 0, 0, 300, 2500, 0));
    FAILS(EADDRNOTAVAIL, do_unmap(f, 0, 1000, 1));
    FAILS(EADDRNOTAVAIL, do_unmap(f, 0, 2050, 100));
    FAILS(EADDRNOTAVAIL, do_map(f, 0, 16, 300, 0, 0));
    OK(do_map(f, 0, 899, 300, 1, 0));
    OK(do_map(f, 0, 17, 300, 1, 0));
    OK(do_map(f, 0, 2110, 300, 1, 0));

    /* 900, 1000, 1100, 2000, 2001 ... 2100 */
    OK(do_alloc(f, &ctx));
    OK(do_query_reserved(f, 0, 0, ctx, STORE_BASE, 5, &nr));
    g_assert_cmpuint(nr, ==, 5);
    FAILS(ENOBUFS, do_query_reserved(f, 0, 0, ctx, STORE_BASE, 4, &nr));
    g_assert_cmpuint(nr, ==, 5);
    FAILS(ENOBUFS, do_query_reserved(f, 0, 0, ctx, 0, 0, &nr));
    FAILS(EFAULT, do_query_reserved(f, 0, 0, ctx, 0, 5, &nr));
    FAILS(EFAULT, do_query_reserved(f, 0, 0, ctx, UINT64_MAX - 7, 5, &nr));
    FAILS(EFAULT, do_query_reserved(f, 0, 0, ctx,
                                    STORE_BASE + STORE_SIZE - 64, 5, &nr));
    FAILS(ENOENT, do_query_reserved(f, 0, 0, 3, STORE_BASE, 100, &nr));
    OK(do_query_reserved(f, 0, 0, 0, STORE_BASE + 1, 100, &nr));
    g_assert_cmpuint(nr, ==, 8);
    OK(do_query_reserved(f, 1, f->dev[1].sbdf, 0, STORE_BASE, UINT32_MAX, &nr));
    g_assert_cmpuint(nr, ==, 7);
    OK(do_query_reserved(f, 1, f->dev[3].sbdf, 0, STORE_BASE, 100, &nr));
    g_assert_cmpuint(nr, ==, 5);
    FAILS(ENODEV, do_query_reserved(f, 1, 0x1234, 0, STORE_BASE, 100, &nr));

    /* Other contexts' devices do not matter. */
    OK(do_map(f, ctx, 10, 300, 10, 0));
    FAILS(EADDRNOTAVAIL, do_attach(f, f->dev[1].sbdf, ctx));
    FAILS(EADDRNOTAVAIL, do_attach(f, f->dev[2].sbdf, ctx));
    OK(do_attach(f, f->dev[3].sbdf, ctx));
    OK(do_unmap(f, ctx, 10, 7));
    OK(do_attach(f, f->dev[1].sbdf, ctx));
    FAILS(EADDRNOTAVAIL, do_map(f, ctx, 10, 300, 0, 0));
    OK(do_map(f, 0, 10, 300, 2, 0));
    fixture_free(f);

    /* None */
    f = fixture_new(&config_small);
    OK(do_query_reserved(f, 0, 0, 0, 0, 0, &nr));
    g_assert_cmpuint(nr, ==, 0);
    fixture_free(f);
}

/* A range longer than an entry can say */
static void test_long_reserved_range_is_several_entries(void)
{
    static const XenPVIOMMUReserved reserved[] = {
        { 5, 2ull * UINT32_MAX + 7, 3 },
    };
    const struct xen_iommu_reserved_range expected[] = {
        { cpu_to_le64(5), cpu_to_le32(UINT32_MAX), cpu_to_le32(3) },
        { cpu_to_le64(5ull + UINT32_MAX), cpu_to_le32(UINT32_MAX),
          cpu_to_le32(3) },
        { cpu_to_le64(5 + 2ull * UINT32_MAX), cpu_to_le32(7), cpu_to_le32(3) },
    };
    FixtureConfig config = config_large;
    uint32_t nr;
    Fixture *f;

    config.reserved = reserved;
    config.nr_reserved = 1;
    f = fixture_new(&config);
    OK(do_query_reserved(f, 0, 0, 0, STORE_BASE, 3, &nr));
    g_assert_cmpuint(nr, ==, 3);
    g_assert_cmpmem(f->stored, sizeof(expected), expected, sizeof(expected));
    fixture_free(f);
}

static void test_changes_enable_translation(void)
{
    FixtureConfig config = config_small;
    struct xen_iommu_op op;
    uint16_t ctx;
    uint32_t nr;
    Fixture *f = fixture_new(&config);

    /* Those that change nothing leave it. */
    OK(do_flush_all(f, 0));
    OK(do_alloc(f, &ctx));
    OK(do_free(f, ctx));
    OK(do_query_reserved(f, 0, 0, 0, STORE_BASE, 1, &nr));
    FAILS(ENOENT, do_lookup(f, XEN_IOMMUOP_lookup_bfn, 0, 0, 0, &op));
    g_assert_true(f->core.identity);
    OK(do_enable(f));
    g_assert_false(f->core.identity);
    OK(do_enable(f));
    OK(do_map(f, 0, 0, 300, 0, 0));
    g_assert_cmpuint(f->enabled, ==, 1);
    OK(do_unmap(f, 0, 0, 0));
    OK(do_alloc(f, &ctx));
    OK(do_attach(f, f->dev[2].sbdf, ctx));

    /* Back to the start */
    fixture_reset(f);
    g_assert_true(f->core.identity);
    f->core.accepted = XEN_IOMMU_FEATURES_ALL;
    FAILS(ENOENT, do_lookup(f, XEN_IOMMUOP_lookup_bfn, 0, 0, 0, &op));
    FAILS(ENOENT, do_map(f, ctx, 0, 300, 0, 0));
    g_assert_false(f->core.identity);

    /* It need not succeed. */
    fixture_reset(f);
    FAILS(ENOENT, do_unmap(f, 0, 0, 0));
    g_assert_false(f->core.identity);
    fixture_reset(f);
    f->core.accepted = XEN_IOMMU_FEATURES_ALL;
    FAILS(ENODEV, do_attach(f, 0xffff, 0));
    g_assert_false(f->core.identity);
    g_assert_cmpuint(f->enabled, ==, 4);
    fixture_free(f);

    config.premap = false;
    f = fixture_new(&config);
    g_assert_false(f->core.identity);
    OK(do_enable(f));
    g_assert_cmpuint(f->enabled, ==, 0);
    fixture_reset(f);
    g_assert_false(f->core.identity);
    fixture_free(f);
}

static void test_lookup_finds_runs_both_ways(void)
{
    Fixture *f = fixture_new(&config_small);
    struct xen_iommu_op op;

    OK(do_map(f, 0, 10, 310, 5, RO));
    OK(do_map(f, 0, 15, 315, 5, RO));
    OK(do_map(f, 0, 20, 320, 5, 0));
    OK(do_map(f, 0, 25, 310, 5, 0));
    OK(do_map(f, 0, 500, 312, 0, 0));
    OK(do_lookup(f, XEN_IOMMUOP_lookup_bfn, 0, 12, 0, &op));
    g_assert_cmphex(le64_to_cpu(op.u.lookup.gfn), ==, 312);
    g_assert_cmpuint(le32_to_cpu(op.u.lookup.nr_frames), ==, 8);
    g_assert_cmpuint(le16_to_cpu(op.flags), ==, RO);
    FAILS(ENOENT, do_lookup(f, XEN_IOMMUOP_lookup_bfn, 0, 9, 0, &op));
    FAILS(ENOENT, do_lookup(f, XEN_IOMMUOP_lookup_bfn, 2, 12, 0, &op));

    /* One after the other */
    OK(do_lookup(f, XEN_IOMMUOP_lookup_gfn, 0, 0, 312, &op));
    g_assert_cmphex(le64_to_cpu(op.u.lookup.bfn), ==, 12);
    OK(do_lookup(f, XEN_IOMMUOP_lookup_gfn, 0, 12, 312, &op));
    g_assert_cmphex(le64_to_cpu(op.u.lookup.bfn), ==, 12);
    OK(do_lookup(f, XEN_IOMMUOP_lookup_gfn, 0, 13, 312, &op));
    g_assert_cmphex(le64_to_cpu(op.u.lookup.bfn), ==, 27);
    g_assert_cmpuint(le32_to_cpu(op.u.lookup.nr_frames), ==, 3);
    OK(do_lookup(f, XEN_IOMMUOP_lookup_gfn, 0, 28, 312, &op));
    g_assert_cmphex(le64_to_cpu(op.u.lookup.bfn), ==, 500);
    FAILS(ENOENT, do_lookup(f, XEN_IOMMUOP_lookup_gfn, 0, 501, 312, &op));
    FAILS(ENOENT, do_lookup(f, XEN_IOMMUOP_lookup_gfn, 2, 0, 312, &op));
    /* Waiting for a flush is not mapped. */
    OK(do_unmap(f, 0, 12, 0));
    FAILS(ENOENT, do_lookup(f, XEN_IOMMUOP_lookup_bfn, 0, 12, 0, &op));
    OK(do_lookup(f, XEN_IOMMUOP_lookup_gfn, 0, 0, 312, &op));
    g_assert_cmphex(le64_to_cpu(op.u.lookup.bfn), ==, 27);
    fixture_free(f);
}

/* A guest cannot fill the disk. */
static void test_log_is_limited(void)
{
    g_autofree char *name = NULL;
    g_autofree char *text = NULL;
    Fixture *f = fixture_new(&config_small);
    Error *err = NULL;
    unsigned lines = 0, seconds;
    int64_t begun = g_get_monotonic_time();
    int fd = g_file_open_tmp("xen-pviommu-log-XXXXXX", &name, NULL);

    g_assert_cmpint(fd, >=, 0);
    close(fd);
    g_assert_true(qemu_set_log_filename_flags(name, LOG_GUEST_ERROR, &err));
    for (int i = 0; i < 10000; i++) {
        FAILS(ENOENT, do_unmap(f, 0, 5, 0));
    }
    g_assert_true(qemu_set_log_filename_flags(NULL, 0, &err));
    seconds = (g_get_monotonic_time() - begun) / G_USEC_PER_SEC;
    g_assert_true(g_file_get_contents(name, &text, NULL, NULL));
    for (const char *c = text; *c; c++) {
        lines += *c == '\n';
    }
    g_assert_cmpuint(lines, >=, 1);
    /* Few a second, however many seconds it took. */
    g_assert_cmpuint(lines, <, 100 * (seconds + 1));
    unlink(name);
    fixture_free(f);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_random_set_seed(g_test_rand_int());
    g_test_add_func("/iommu-op/unknown-operation-fails",
                    test_unknown_operation_fails);
    g_test_add_func("/iommu-op/no-control-refuses-all-but-query-caps",
                    test_no_control_refuses_all_but_query_caps);
    g_test_add_func("/iommu-op/nonzero-pads-fail", test_nonzero_pads_fail);
    g_test_add_func("/iommu-op/features-not-accepted-fail",
                    test_features_not_accepted_fail);
    g_test_add_func("/iommu-op/out-of-range-fails", test_out_of_range_fails);
    g_test_add_func("/iommu-op/map-refuses-pages-by-kind",
                    test_map_refuses_pages_by_kind);
    g_test_add_func("/iommu-op/map-of-a-bar-needs-its-feature",
                    test_map_of_a_bar_needs_its_feature);
    g_test_add_func("/iommu-op/map-and-unmap-are-all-or-nothing",
                    test_map_and_unmap_are_all_or_nothing);
    g_test_add_func("/iommu-op/unmap-can-skip-unmapped",
                    test_unmap_can_skip_unmapped);
    g_test_add_func("/iommu-op/unmap-ends-where-pending-is-full",
                    test_unmap_ends_where_pending_is_full);
    g_test_add_func("/iommu-op/set-queue-refuses-bad-memory",
                    test_set_queue_refuses_bad_memory);
    g_test_add_func("/iommu-op/queue-takes-map-unmap-and-flush-only",
                    test_queue_takes_map_unmap_and_flush_only);
    g_test_add_func("/iommu-op/reserved-cannot-be-mapped",
                    test_reserved_cannot_be_mapped);
    g_test_add_func("/iommu-op/long-reserved-range-is-several-entries",
                    test_long_reserved_range_is_several_entries);
    g_test_add_func("/iommu-op/changes-enable-translation",
                    test_changes_enable_translation);
    g_test_add_func("/iommu-op/lookup-finds-runs-both-ways",
                    test_lookup_finds_runs_both_ways);
    g_test_add_func("/iommu-op/log-is-limited", test_log_is_limited);
    return g_test_run();
}
