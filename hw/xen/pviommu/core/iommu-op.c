/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * iommu_op: one operation, decoded, checked and run
 */

#include "qemu/osdep.h"
#include "qemu/bswap.h"
#include "qemu/host-utils.h"
#include "context.h"
#include "core.h"
#include "iommu-op.h"
#include "irq-op.h"
#include "map-op.h"
#include "op-decode.h"
#include "trace.h"

QEMU_BUILD_BUG_ON(sizeof(struct xen_iommu_op) != 32);
QEMU_BUILD_BUG_ON(sizeof(struct xen_iommu_fault) != 32);
QEMU_BUILD_BUG_ON(sizeof(struct xen_iommu_reserved_range) != 16);

typedef struct OpInfo {
    /* A status, or XEN_PVIOMMU_UNFINISHED. */
    int (*run)(XenPVIOMMUCore *core, struct xen_iommu_op *op, uint16_t flags);
    uint16_t flags;             /* those that may be set */
    uint64_t feature;           /* that must be accepted */
    bool unprivileged;          /* works without control of the IOMMU */
} OpInfo;

/* The list as the guest reads it; a range too long for an entry takes more. */
static GArray *reserved_entries(const GArray *list)
{
    GArray *entries = g_array_new(false, false,
                                  sizeof(struct xen_iommu_reserved_range));

    for (guint i = 0; i < list->len; i++) {
        const XenPVIOMMUReserved *r = xen_pviommu_reserved_at(list, i);

        for (uint64_t done = 0, nr; done < r->nr; done += nr) {
            struct xen_iommu_reserved_range entry;

            nr = MIN(r->nr - done, UINT32_MAX);
            entry.start_bfn = cpu_to_le64(r->bfn + done);
            entry.nr_frames = cpu_to_le32(nr);
            entry.flags = cpu_to_le32(r->flags);
            g_array_append_val(entries, entry);
        }
    }
    return entries;
}

static int op_query_reserved(XenPVIOMMUCore *core, struct xen_iommu_op *op,
                             uint16_t flags)
{
    struct xen_iommu_op_query_reserved *u = &op->u.query_reserved;
    uint32_t room = le32_to_cpu(u->nr_entries);
    bool device = flags & XEN_IOMMUOP_query_reserved_device;
    g_autoptr(GArray) list = xen_pviommu_reserved_new();
    g_autoptr(GArray) entries = NULL;
    XenPVIOMMUContext *ctx;
    uint32_t id;

    if (u->pad || u->pad1 || (u->sbdf && !device) || (u->ctx && device) ||
        (device && !op_has_feature(core, XEN_IOMMU_FEATURE_CONTEXTS)) ||
        !op_decode_ctx(core, u->ctx, &id)) {
        return -XEN_IOMMU_EINVAL;
    }
    xen_pviommu_reserved_add_all(list, core->reserved);
    if (device) {
        int ret = core->attachment_ops->reserved(core->client,
                                                 le32_to_cpu(u->sbdf), list);

        if (ret) {
            return ret;
        }
    } else {
        ctx = xen_pviommu_context_find(core, id);
        if (!ctx) {
            return -XEN_IOMMU_ENOENT;
        }
        xen_pviommu_reserved_add_all(list, ctx->reserved);
    }
    entries = reserved_entries(list);
    core->work += entries->len;
    u->nr_entries = cpu_to_le32(entries->len);
    if (entries->len > room) {
        return -XEN_IOMMU_ENOBUFS;
    }
    if (!entries->len) {
        return 0;
    }
    return core->memory_ops->store(core->client, le64_to_cpu(u->ranges),
                                   entries->data,
                                   entries->len *
                                   sizeof(struct xen_iommu_reserved_range));
}

static uint32_t supported_ops(const XenPVIOMMUCore *core);

static int op_query_caps(XenPVIOMMUCore *core, struct xen_iommu_op *op,
                         uint16_t flags)
{
    op->u.query_caps = (struct xen_iommu_op_query_caps) {
        .features = cpu_to_le64(xen_pviommu_core_features(core)),
        .ops = cpu_to_le32(supported_ops(core)),
        .max_contexts = cpu_to_le16(MIN(core->limits.max_contexts, UINT16_MAX)),
        .bfn_bits = core->limits.bfn_bits,
        .state = xen_pviommu_core_state(core),
        .max_mappings = cpu_to_le64(core->limits.max_mappings),
    };
    return 0;
}

static bool context_pads_zero(const struct xen_iommu_op_context *u)
{
    return !u->pad && !u->pad1 && !u->pad2[0] && !u->pad2[1];
}

static int op_alloc_context(XenPVIOMMUCore *core, struct xen_iommu_op *op,
                            uint16_t flags)
{
    struct xen_iommu_op_context *u = &op->u.context;
    bool identity = flags & XEN_IOMMUOP_alloc_context_identity;
    XenPVIOMMUContext *ctx;
    int ret;

    if (u->ctx || !context_pads_zero(u) ||
        (identity && !op_has_feature(core, XEN_IOMMU_FEATURE_IDENTITY))) {
        return -XEN_IOMMU_EINVAL;
    }
    ret = xen_pviommu_context_alloc(core, &ctx);
    if (!ret) {
        ctx->identity = identity;
        u->ctx = cpu_to_le16(ctx->id);
    }
    if (ret == -XEN_IOMMU_ENOMEM &&
        xen_pviommu_core_reap(core, XEN_PVIOMMU_OP_REAP_NODES, false)) {
        return XEN_PVIOMMU_UNFINISHED;
    }
    return ret;
}

static int op_free_context(XenPVIOMMUCore *core, struct xen_iommu_op *op,
                           uint16_t flags)
{
    const struct xen_iommu_op_context *u = &op->u.context;
    uint32_t id = le16_to_cpu(u->ctx);
    XenPVIOMMUContext *ctx;

    /* The default context is always there. */
    if (id == XEN_IOMMU_CTX_DEFAULT || !context_pads_zero(u)) {
        return -XEN_IOMMU_EINVAL;
    }
    ctx = xen_pviommu_context_find(core, id);
    return ctx ? xen_pviommu_context_free(core, ctx) : -XEN_IOMMU_ENOENT;
}

static int op_attach_device(XenPVIOMMUCore *core, struct xen_iommu_op *op,
                            uint16_t flags)
{
    const struct xen_iommu_op_attach_device *u = &op->u.attach_device;
    uint32_t sbdf = le32_to_cpu(u->sbdf);
    uint32_t id = le16_to_cpu(u->ctx);
    XenPVIOMMUContext *ctx;
    int ret;

    if (u->pad || u->pad1[0] || u->pad1[1]) {
        return -XEN_IOMMU_EINVAL;
    }
    ctx = xen_pviommu_context_find(core, id);
    if (!ctx || !ctx->identity) {
        /* Else nothing changes for the device, nor for others. */
        xen_pviommu_core_enable(core);
    }
    ret = ctx ? core->attachment_ops->attach(core->client, sbdf, ctx)
              : -XEN_IOMMU_ENOENT;
    trace_xen_pviommu_attach(sbdf, id, ret);
    return ret;
}

static int op_enable(XenPVIOMMUCore *core, struct xen_iommu_op *op,
                     uint16_t flags)
{
    const struct xen_iommu_op_enable *u = &op->u.enable;
    bool irqs = flags & XEN_IOMMUOP_enable_irqs;

    if (u->pad[0] || u->pad[1] || u->pad[2] ||
        (irqs && !op_has_feature(core, XEN_IOMMU_FEATURE_INTERRUPTS))) {
        return -XEN_IOMMU_EINVAL;
    }
    if (irqs) {
        xen_pviommu_core_enable_irqs(core);
    } else {
        xen_pviommu_core_enable(core);
    }
    return 0;
}

bool xen_pviommu_queue_valid(uint64_t addr, uint32_t nr_ops)
{
    uint64_t len = sizeof(struct xen_iommu_queue) +
                   nr_ops * sizeof(struct xen_iommu_op);

    return addr && !(addr & XEN_PVIOMMU_PAGE_MASK) &&
           is_power_of_2(nr_ops) && nr_ops <= XEN_IOMMU_QUEUE_MAX_OPS &&
           addr + len > addr;
}

static int op_set_queue(XenPVIOMMUCore *core, struct xen_iommu_op *op,
                        uint16_t flags)
{
    const struct xen_iommu_op_set_queue *u = &op->u.set_queue;
    uint64_t addr = le64_to_cpu(u->addr);
    uint32_t nr_ops = le32_to_cpu(u->nr_ops);
    XenPVIOMMUContext *ctx;
    uint32_t id;

    if (u->pad || u->pad1 || !op_decode_ctx(core, u->ctx, &id) ||
        ((addr || nr_ops) && !xen_pviommu_queue_valid(addr, nr_ops))) {
        return -XEN_IOMMU_EINVAL;
    }
    ctx = xen_pviommu_context_find(core, id);
    if (!op_ctx_has_table(ctx)) {
        return -XEN_IOMMU_EINVAL;
    }
    return ctx ? core->memory_ops->set_queue(core->client, ctx, addr, nr_ops)
               : -XEN_IOMMU_ENOENT;
}

static const OpInfo op_info[] = {
    [XEN_IOMMUOP_query_reserved] = {
        .run = op_query_reserved,
        .flags = XEN_IOMMUOP_query_reserved_device,
    },
    [XEN_IOMMUOP_map] = {
        .run = xen_pviommu_op_map,
        .flags = XEN_IOMMUOP_map_readonly,
    },
    [XEN_IOMMUOP_unmap] = {
        .run = xen_pviommu_op_unmap,
        .flags = XEN_IOMMUOP_unmap_holes,
    },
    [XEN_IOMMUOP_flush] = {
        .run = xen_pviommu_op_flush,
    },
    [XEN_IOMMUOP_query_caps] = {
        .run = op_query_caps,
        .unprivileged = true,
    },
    [XEN_IOMMUOP_lookup_bfn] = {
        .run = xen_pviommu_op_lookup_bfn,
        .feature = XEN_IOMMU_FEATURE_LOOKUP,
    },
    [XEN_IOMMUOP_lookup_gfn] = {
        .run = xen_pviommu_op_lookup_gfn,
        .feature = XEN_IOMMU_FEATURE_LOOKUP,
    },
    [XEN_IOMMUOP_alloc_context] = {
        .run = op_alloc_context,
        .flags = XEN_IOMMUOP_alloc_context_identity,
        .feature = XEN_IOMMU_FEATURE_CONTEXTS,
    },
    [XEN_IOMMUOP_free_context] = {
        .run = op_free_context,
        .feature = XEN_IOMMU_FEATURE_CONTEXTS,
    },
    [XEN_IOMMUOP_attach_device] = {
        .run = op_attach_device,
        .feature = XEN_IOMMU_FEATURE_CONTEXTS,
    },
    [XEN_IOMMUOP_enable] = {
        .run = op_enable,
        .flags = XEN_IOMMUOP_enable_irqs,
    },
    [XEN_IOMMUOP_set_queue] = {
        .run = op_set_queue,
        .feature = XEN_IOMMU_FEATURE_QUEUE,
    },
    [XEN_IOMMUOP_alloc_irqs] = {
        .run = xen_pviommu_op_alloc_irqs,
        .feature = XEN_IOMMU_FEATURE_INTERRUPTS,
    },
    [XEN_IOMMUOP_set_irq] = {
        .run = xen_pviommu_op_set_irq,
        .flags = XEN_IOMMUOP_set_irq_masked | XEN_IOMMUOP_set_irq_logical |
                 XEN_IOMMUOP_set_irq_level,
        .feature = XEN_IOMMU_FEATURE_INTERRUPTS,
    },
    [XEN_IOMMUOP_free_irqs] = {
        .run = xen_pviommu_op_free_irqs,
        .feature = XEN_IOMMU_FEATURE_INTERRUPTS,
    },
    [XEN_IOMMUOP_direct_irqs] = {
        .run = xen_pviommu_op_direct_irqs,
        .flags = XEN_IOMMUOP_direct_irqs_on,
        .feature = XEN_IOMMU_FEATURE_INTERRUPTS,
    },
};

/* Neither this code nor the backend leaves it out. */
static bool op_supported(const XenPVIOMMUCore *core, unsigned op)
{
    return op < ARRAY_SIZE(op_info) && op_info[op].run &&
           !(op_info[op].feature & ~xen_pviommu_core_features(core)) &&
           (core->backend_ops->ops & (1u << op));
}

static uint32_t supported_ops(const XenPVIOMMUCore *core)
{
    uint32_t ops = 0;

    for (unsigned op = 0; op < ARRAY_SIZE(op_info); op++) {
        if (op_supported(core, op)) {
            ops |= 1u << op;
        }
    }
    return ops;
}

static int op_check(const XenPVIOMMUCore *core, uint16_t op, uint16_t flags)
{
    if (!op_supported(core, op)) {
        return -XEN_IOMMU_EOPNOTSUPP;
    }
    if (!core->control && !op_info[op].unprivileged) {
        return -XEN_IOMMU_EACCES;
    }
    if (!op_has_feature(core, op_info[op].feature) ||
        (flags & ~op_info[op].flags)) {
        return -XEN_IOMMU_EINVAL;
    }
    return 0;
}

static int op_run(XenPVIOMMUCore *core, struct xen_iommu_op *op, int ret)
{
    uint16_t code = le16_to_cpu(op->op);
    uint16_t flags = le16_to_cpu(op->flags);

    core->work++;
    if (!ret) {
        ret = op_check(core, code, flags);
    }
    if (!ret) {
        ret = op_info[code].run(core, op, flags);
    }
    if (ret == XEN_PVIOMMU_UNFINISHED) {
        return ret;
    }
    op->status = cpu_to_le32(ret);
    core->counter[XEN_PVIOMMU_COUNTER_OPS]++;
    trace_xen_pviommu_op(code, flags, ret);
    if (ret) {
        core->counter[XEN_PVIOMMU_COUNTER_ERRORS]++;
        xen_pviommu_guest_error(core, "operation %u (flags 0x%x): error %d",
                                code, flags, ret);
    }
    return ret;
}

bool xen_pviommu_op_execute(XenPVIOMMUCore *core, struct xen_iommu_op *op)
{
    return op_run(core, op, 0) != XEN_PVIOMMU_UNFINISHED;
}

/* What a queue takes: nothing that needs the BQL, or much time. */
static bool op_fits_queue(const XenPVIOMMUContext *ctx,
                          const struct xen_iommu_op *op)
{
    /* Maps, unmaps and flushes have these in one place. */
    uint32_t nr_frames = le32_to_cpu(op->u.map.nr_frames);

    switch (le16_to_cpu(op->op)) {
    case XEN_IOMMUOP_map:
    case XEN_IOMMUOP_unmap:
        return le16_to_cpu(op->u.map.ctx) == ctx->id &&
               nr_frames <= XEN_IOMMU_QUEUE_MAX_FRAMES;
    case XEN_IOMMUOP_flush:
        return le16_to_cpu(op->u.flush.ctx) == ctx->id;
    default:
        return false;
    }
}

int xen_pviommu_op_execute_queued(XenPVIOMMUCore *core,
                                  const XenPVIOMMUContext *ctx,
                                  struct xen_iommu_op *op)
{
    return op_run(core, op, op_fits_queue(ctx, op) ? 0 : -XEN_IOMMU_EINVAL);
}
