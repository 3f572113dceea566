/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * iommu_op: the operations on mappings
 */

#include "qemu/osdep.h"
#include "qemu/bswap.h"
#include "context.h"
#include "core.h"
#include "map-op.h"
#include "op-decode.h"
#include "trace.h"

/*
 * Slots of a table that a lookup looks at: a run of more is cut. At 8 bytes
 * each, in order, that takes some tens of microseconds.
 */
#define LOOKUP_SLOTS (1u << 16)

int xen_pviommu_op_map(XenPVIOMMUCore *core, struct xen_iommu_op *op,
                       uint16_t flags)
{
    const struct xen_iommu_op_map *u = &op->u.map;
    uint16_t domid = le16_to_cpu(u->domid);
    BfnRun run = {
        .bfn = le64_to_cpu(u->bfn),
        .gfn = le64_to_cpu(u->gfn),
        .readonly = flags & XEN_IOMMUOP_map_readonly,
    };
    XenPVIOMMUContext *ctx;
    uint32_t id;
    int ret;

    if (!op_decode_ctx(core, u->ctx, &id) ||
        !op_decode_nr(core, u->nr_frames, &run.nr) ||
        !op_range_within(run.bfn, run.nr, xen_pviommu_bfn_limit(core)) ||
        !op_range_within(run.gfn, run.nr, 1ull << GFN_INDEX_BITS)) {
        return -XEN_IOMMU_EINVAL;
    }
    ctx = xen_pviommu_context_find(core, id);
    if (!op_ctx_has_table(ctx)) {
        return -XEN_IOMMU_EINVAL;
    }
    xen_pviommu_core_enable(core);
    ret = ctx ? xen_pviommu_context_map(core, ctx, domid, &run)
              : -XEN_IOMMU_ENOENT;
    if (ret == -XEN_IOMMU_ENOMEM &&
        xen_pviommu_core_reap(core, XEN_PVIOMMU_OP_REAP_NODES, false)) {
        /* The memory is that of what there was before a reset. */
        return XEN_PVIOMMU_UNFINISHED;
    }
    if (!ret) {
        core->counter[XEN_PVIOMMU_COUNTER_MAPS]++;
    }
    trace_xen_pviommu_map(id, run.bfn, run.gfn, run.nr, run.readonly, ret);
    return ret;
}

int xen_pviommu_op_unmap(XenPVIOMMUCore *core, struct xen_iommu_op *op,
                         uint16_t flags)
{
    struct xen_iommu_op_unmap *u = &op->u.unmap;
    bool skip_unmapped = flags & XEN_IOMMUOP_unmap_holes;
    uint64_t bfn = le64_to_cpu(u->bfn);
    XenPVIOMMUContext *ctx;
    uint64_t nr;
    uint32_t id;
    int ret;

    if (u->pad || u->pad1 || !op_decode_ctx(core, u->ctx, &id) ||
        !op_decode_nr(core, u->nr_frames, &nr) ||
        (skip_unmapped && !op_has_feature(core, XEN_IOMMU_FEATURE_QUEUE)) ||
        !op_range_within(bfn, nr, xen_pviommu_bfn_limit(core))) {
        return -XEN_IOMMU_EINVAL;
    }
    ctx = xen_pviommu_context_find(core, id);
    if (!op_ctx_has_table(ctx)) {
        return -XEN_IOMMU_EINVAL;
    }
    xen_pviommu_core_enable(core);
    ret = ctx ? xen_pviommu_context_unmap_part(core, ctx, &bfn, &nr,
                                               skip_unmapped)
              : -XEN_IOMMU_ENOENT;
    if (ret == XEN_PVIOMMU_UNFINISHED && bfn != le64_to_cpu(u->bfn)) {
        u->bfn = cpu_to_le64(bfn);
        u->nr_frames = cpu_to_le32(nr);
    }
    if (!ret) {
        core->counter[XEN_PVIOMMU_COUNTER_UNMAPS]++;
    }
    trace_xen_pviommu_unmap(id, bfn, nr, ret);
    return ret;
}

int xen_pviommu_op_flush(XenPVIOMMUCore *core, struct xen_iommu_op *op,
                         uint16_t flags)
{
    const struct xen_iommu_op_flush *u = &op->u.flush;
    uint64_t bfn = le64_to_cpu(u->bfn);
    bool all = bfn == XEN_IOMMU_FLUSH_ALL && !u->nr_frames;
    XenPVIOMMUContext *ctx;
    uint64_t nr;
    uint32_t id;

    if (u->pad || u->pad1 || !op_decode_ctx(core, u->ctx, &id)) {
        return -XEN_IOMMU_EINVAL;
    }
    if (!all && (!op_decode_nr(core, u->nr_frames, &nr) ||
                 !op_range_within(bfn, nr, xen_pviommu_bfn_limit(core)))) {
        return -XEN_IOMMU_EINVAL;
    }
    ctx = xen_pviommu_context_find(core, id);
    if (!ctx) {
        return -XEN_IOMMU_ENOENT;
    }
    if (all) {
        bfn = 0;
        nr = xen_pviommu_bfn_limit(core);
    }
    if (!xen_pviommu_context_flush_part(core, ctx, bfn, nr)) {
        return XEN_PVIOMMU_UNFINISHED;
    }
    core->counter[XEN_PVIOMMU_COUNTER_FLUSHES]++;
    trace_xen_pviommu_flush(id, bfn, nr);
    return 0;
}

static void lookup_result(struct xen_iommu_op *op, const BfnRun *run)
{
    op->u.lookup.bfn = cpu_to_le64(run->bfn);
    op->u.lookup.gfn = cpu_to_le64(run->gfn);
    op->u.lookup.nr_frames = cpu_to_le32(run->nr);
    op->flags = cpu_to_le16(run->readonly ? XEN_IOMMUOP_map_readonly : 0);
}

/* The run from @bfn on, as far as is looked, and nr_frames can say. */
static bool lookup_run(XenPVIOMMUCore *core, XenPVIOMMUContext *ctx,
                       uint64_t bfn, BfnRun *run)
{
    uint64_t end = MIN(bfn + UINT32_MAX, xen_pviommu_bfn_limit(core));

    core->work++;
    return bfn_table_next_part(ctx->table, bfn, end, LOOKUP_SLOTS, run) &&
           run->bfn == bfn;
}

int xen_pviommu_op_lookup_bfn(XenPVIOMMUCore *core, struct xen_iommu_op *op,
                              uint16_t flags)
{
    struct xen_iommu_op_lookup *u = &op->u.lookup;
    uint64_t bfn = le64_to_cpu(u->bfn), end;
    XenPVIOMMUContext *ctx;
    uint32_t id;
    BfnRun run;

    if (u->gfn || u->pad || u->nr_frames || !op_decode_ctx(core, u->ctx, &id) ||
        !op_range_within(bfn, 1, xen_pviommu_bfn_limit(core))) {
        return -XEN_IOMMU_EINVAL;
    }
    ctx = xen_pviommu_context_find(core, id);
    if (!op_ctx_has_table(ctx)) {
        return -XEN_IOMMU_EINVAL;
    }
    if (!ctx) {
        return -XEN_IOMMU_ENOENT;
    }
    core->work++;
    end = MIN(bfn + UINT32_MAX, xen_pviommu_bfn_limit(core));
    if (!bfn_table_next_part(ctx->table, bfn, end, LOOKUP_SLOTS, &run) ||
        run.bfn != bfn) {
        /* The guest can look on where something is mapped again. */
        u->nr_frames = cpu_to_le32((run.nr ? run.bfn : end) - bfn);
        return -XEN_IOMMU_ENOENT;
    }
    lookup_result(op, &run);
    return 0;
}

int xen_pviommu_op_lookup_gfn(XenPVIOMMUCore *core, struct xen_iommu_op *op,
                              uint16_t flags)
{
    const struct xen_iommu_op_lookup *u = &op->u.lookup;
    uint64_t gfn = le64_to_cpu(u->gfn);
    uint64_t from = le64_to_cpu(u->bfn), bfn;
    XenPVIOMMUContext *ctx;
    uint32_t id;
    BfnRun run;

    if (u->pad || u->nr_frames || !op_decode_ctx(core, u->ctx, &id) ||
        !op_range_within(from, 1, xen_pviommu_bfn_limit(core)) ||
        !op_range_within(gfn, 1, 1ull << GFN_INDEX_BITS)) {
        return -XEN_IOMMU_EINVAL;
    }
    ctx = xen_pviommu_context_find(core, id);
    if (!op_ctx_has_table(ctx)) {
        return -XEN_IOMMU_EINVAL;
    }
    if (!ctx || !gfn_index_find(core->gfn_index, gfn, id, from, &bfn) ||
        !lookup_run(core, ctx, bfn, &run)) {
        return -XEN_IOMMU_ENOENT;
    }
    lookup_result(op, &run);
    return 0;
}
