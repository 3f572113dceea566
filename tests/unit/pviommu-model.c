/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * docs/specs/xen-pviommu.rst in plain arrays: what each operation has to return
 */

#include "qemu/osdep.h"
#include "qemu/bswap.h"
#include "../../hw/xen/pviommu/core/pending.h"
#include "pviommu-machine.h"
#include "pviommu-model.h"

void model_context_new(Fixture *f, unsigned id)
{
    ModelContext *c = &f->model.ctx[id];

    g_assert_false(c->live);
    c->live = true;
    c->identity = false;
    c->queue = (XenPVIOMMUQueue) { 0 };
    c->map = g_new0(Frame, fixture_bfn_limit(f));
    c->pending = g_array_new(false, false, sizeof(Pending));
}

void model_context_free(Fixture *f, unsigned id)
{
    ModelContext *c = &f->model.ctx[id];

    for (uint64_t bfn = 0; bfn < fixture_bfn_limit(f); bfn++) {
        f->model.mapped -= !!c->map[bfn];
    }
    f->model.pending -= c->pending->len;
    c->live = false;
    g_free(c->map);
    g_array_free(c->pending, true);
}

static void model_flush(Fixture *f, ModelContext *c, uint64_t bfn, uint64_t nr)
{
    if (f->flushes_all[c - f->model.ctx]) {
        bfn = 0;
        nr = fixture_bfn_limit(f);
    }
    for (guint i = 0; i < c->pending->len; ) {
        const Pending *p = &g_array_index(c->pending, Pending, i);

        if (p->bfn >= bfn && p->bfn < bfn + nr) {
            g_array_remove_index_fast(c->pending, i);
            f->model.pending--;
        } else {
            i++;
        }
    }
}

static ModelContext *model_context(Fixture *f, uint16_t id)
{
    return id < f->core.limits.max_contexts && f->model.ctx[id].live
           ? &f->model.ctx[id] : NULL;
}

/*
 * The reserved range of each BFN: 0, or the range's own number, in the
 * order in which they count
 */
typedef struct Owner {
    uint32_t nr;
    uint32_t flags;
} Owner;

static void own(Owner *owners, const Fixture *f, const GArray *list,
                uint32_t nr)
{
    for (guint i = 0; i < list->len; i++) {
        const XenPVIOMMUReserved *r = &g_array_index(list, XenPVIOMMUReserved,
                                                     i);

        for (uint64_t bfn = r->bfn; bfn < r->bfn + r->nr; bfn++) {
            if (!owners[bfn].nr) {
                owners[bfn] = (Owner) { nr + i, r->flags };
            }
        }
    }
}

static Owner *reserved_owners(Fixture *f, int ctx, int device)
{
    Owner *owners = g_new0(Owner, fixture_bfn_limit(f));

    own(owners, f, f->core.reserved, 1);
    for (unsigned i = 0; i < NR_DEVICES; i++) {
        if (!f->dev[i].gone &&
            (device == i || (ctx >= 0 && f->model.device_ctx[i] == ctx))) {
            own(owners, f, f->dev[i].reserved, (i + 1) * 1000);
        }
    }
    return owners;
}

static bool model_reserved(Fixture *f, unsigned ctx, uint64_t bfn, uint64_t nr)
{
    for (int i = -1; i < NR_DEVICES; i++) {
        GArray *list = i < 0 ? f->core.reserved : f->dev[i].reserved;

        if (i >= 0 && (f->dev[i].gone || f->model.device_ctx[i] != ctx)) {
            continue;
        }
        for (guint j = 0; j < list->len; j++) {
            const XenPVIOMMUReserved *r =
                &g_array_index(list, XenPVIOMMUReserved, j);

            if (MAX(r->bfn, bfn) < MIN(r->bfn + r->nr, bfn + nr)) {
                return true;
            }
        }
    }
    return false;
}

static void model_enable(Fixture *f)
{
    if (f->model.identity) {
        f->model.identity = false;
        f->model.enabled++;
    }
}

bool model_accepted(const Fixture *f, uint64_t feature)
{
    return f->core.accepted & feature;
}

static bool bad_ctx(const Fixture *f, uint16_t ctx)
{
    return ctx && !model_accepted(f, XEN_IOMMU_FEATURE_CONTEXTS);
}

static bool bad_range(const Fixture *f, uint64_t start, uint32_t nr_frames,
                      uint64_t limit)
{
    uint64_t nr = nr_frames ? nr_frames : 1;

    if (nr_frames && !model_accepted(f, XEN_IOMMU_FEATURE_RANGES)) {
        return true;
    }
    return start >= limit || start + nr > limit;
}

static unsigned model_get_flags(const Fixture *f, bool readonly)
{
    return (readonly ? XEN_PVIOMMU_GET_READONLY : 0) |
           (model_accepted(f, XEN_IOMMU_FEATURE_MMIO) ? XEN_PVIOMMU_GET_MMIO
                                                      : 0);
}

static int model_map(Fixture *f, struct xen_iommu_op *op)
{
    uint64_t bfn = le64_to_cpu(op->u.map.bfn);
    uint64_t gfn = le64_to_cpu(op->u.map.gfn);
    uint32_t nr_frames = le32_to_cpu(op->u.map.nr_frames);
    uint16_t id = le16_to_cpu(op->u.map.ctx);
    uint16_t domid = le16_to_cpu(op->u.map.domid);
    bool readonly = le16_to_cpu(op->flags) & XEN_IOMMUOP_map_readonly;
    uint64_t nr = nr_frames ? nr_frames : 1, culprit;
    ModelContext *c;
    int ret;

    if (bad_ctx(f, id) || bad_range(f, bfn, nr_frames, fixture_bfn_limit(f)) ||
        bad_range(f, gfn, nr_frames, 1ull << 40)) {
        return -XEN_IOMMU_EINVAL;
    }
    c = model_context(f, id);
    if (c && c->identity) {
        return -XEN_IOMMU_EINVAL;
    }
    model_enable(f);
    if (!c) {
        return -XEN_IOMMU_ENOENT;
    }
    if (model_reserved(f, id, bfn, nr)) {
        return -XEN_IOMMU_EADDRNOTAVAIL;
    }
    for (uint64_t i = 0; i < nr; i++) {
        if (c->map[bfn + i]) {
            return -XEN_IOMMU_EEXIST;
        }
    }
    if (f->model.mapped + f->model.pending + nr >
        f->core.limits.max_mappings) {
        return -XEN_IOMMU_ENOSPC;
    }
    ret = machine_backend_answer(&f->backend, domid, gfn, nr,
                                 model_get_flags(f, readonly), &culprit);
    if (ret) {
        return ret;
    }
    if (f->out_of_memory) {
        return -XEN_IOMMU_ENOMEM;
    }
    for (uint64_t i = 0; i < nr; i++) {
        c->map[bfn + i] = frame_new(gfn + i, readonly);
    }
    f->model.mapped += nr;
    f->model.counter[XEN_PVIOMMU_COUNTER_MAPS]++;
    return 0;
}

static int model_unmap(Fixture *f, struct xen_iommu_op *op)
{
    uint64_t bfn = le64_to_cpu(op->u.unmap.bfn);
    uint32_t nr_frames = le32_to_cpu(op->u.unmap.nr_frames);
    uint16_t id = le16_to_cpu(op->u.unmap.ctx);
    bool skip_unmapped = le16_to_cpu(op->flags) & XEN_IOMMUOP_unmap_holes;
    uint64_t nr = nr_frames ? nr_frames : 1, runs = 0;
    bool missing = false, too_many;
    ModelContext *c;

    if (op->u.unmap.pad || op->u.unmap.pad1 || bad_ctx(f, id) ||
        (skip_unmapped && !model_accepted(f, XEN_IOMMU_FEATURE_QUEUE)) ||
        bad_range(f, bfn, nr_frames, fixture_bfn_limit(f))) {
        return -XEN_IOMMU_EINVAL;
    }
    c = model_context(f, id);
    if (c && c->identity) {
        return -XEN_IOMMU_EINVAL;
    }
    model_enable(f);
    if (!c) {
        return -XEN_IOMMU_ENOENT;
    }
    if (!skip_unmapped && model_reserved(f, id, bfn, nr)) {
        return -XEN_IOMMU_EADDRNOTAVAIL;
    }
    for (uint64_t i = 0; i < nr; i++) {
        if (!c->map[bfn + i]) {
            missing |= !skip_unmapped;
            continue;
        }
        runs += !i || !c->map[bfn + i - 1] ||
                c->map[bfn + i] != c->map[bfn + i - 1] + 1;
    }
    /* Too many runs: how those are counted is the core's affair. */
    too_many = !f->any_room &&
               f->runs_before + runs > xen_pviommu_pending_max(&f->core);
    if (missing || too_many) {
        /* With both it is either. */
        return !missing || (too_many && f->status == -XEN_IOMMU_ENOSPC)
               ? -XEN_IOMMU_ENOSPC : -XEN_IOMMU_ENOENT;
    }
    if (f->out_of_memory) {
        return -XEN_IOMMU_ENOMEM;
    }
    for (uint64_t i = 0; i < nr; i++) {
        Pending p = { bfn + i, c->map[bfn + i] };

        if (p.frame) {
            g_array_append_val(c->pending, p);
            c->map[bfn + i] = 0;
            f->model.mapped--;
            f->model.pending++;
        }
    }
    f->model.counter[XEN_PVIOMMU_COUNTER_UNMAPS]++;
    return 0;
}

static int model_op_flush(Fixture *f, struct xen_iommu_op *op)
{
    uint64_t bfn = le64_to_cpu(op->u.flush.bfn);
    uint32_t nr_frames = le32_to_cpu(op->u.flush.nr_frames);
    uint16_t id = le16_to_cpu(op->u.flush.ctx);
    ModelContext *c;

    if (op->u.flush.pad || op->u.flush.pad1 || bad_ctx(f, id)) {
        return -XEN_IOMMU_EINVAL;
    }
    if (bfn == UINT64_MAX && !nr_frames) {
        bfn = 0;
        nr_frames = fixture_bfn_limit(f);
    } else if (bad_range(f, bfn, nr_frames, fixture_bfn_limit(f))) {
        return -XEN_IOMMU_EINVAL;
    }
    c = model_context(f, id);
    if (!c) {
        return -XEN_IOMMU_ENOENT;
    }
    model_flush(f, c, bfn, nr_frames ? nr_frames : 1);
    f->model.counter[XEN_PVIOMMU_COUNTER_FLUSHES]++;
    return 0;
}

static int model_query_reserved(Fixture *f, struct xen_iommu_op *op,
                                struct xen_iommu_reserved_range *ranges)
{
    struct xen_iommu_op_query_reserved *u = &op->u.query_reserved;
    bool device = le16_to_cpu(op->flags) & XEN_IOMMUOP_query_reserved_device;
    uint16_t id = le16_to_cpu(u->ctx);
    uint32_t room = le32_to_cpu(u->nr_entries), nr = 0;
    g_autofree Owner *owners = NULL;
    int index = -1;

    if (u->pad || u->pad1 || bad_ctx(f, id) ||
        (device ? u->ctx || !model_accepted(f, XEN_IOMMU_FEATURE_CONTEXTS)
                : u->sbdf)) {
        return -XEN_IOMMU_EINVAL;
    }
    if (device) {
        Device *d = machine_device(f, le32_to_cpu(u->sbdf));

        if (!d) {
            return -XEN_IOMMU_ENODEV;
        }
        index = d - f->dev;
    } else if (!model_context(f, id)) {
        return -XEN_IOMMU_ENOENT;
    }
    owners = reserved_owners(f, device ? -1 : id, index);
    for (uint64_t bfn = 0, n; bfn < fixture_bfn_limit(f); bfn += n) {
        for (n = 1; bfn + n < fixture_bfn_limit(f) &&
                    owners[bfn + n].nr == owners[bfn].nr; n++) {
            /* go on */
        }
        if (owners[bfn].nr) {
            ranges[nr++] = (struct xen_iommu_reserved_range) {
                .start_bfn = cpu_to_le64(bfn),
                .nr_frames = cpu_to_le32(n),
                .flags = cpu_to_le32(owners[bfn].flags),
            };
        }
    }
    u->nr_entries = cpu_to_le32(nr);
    if (nr > room) {
        return -XEN_IOMMU_ENOBUFS;
    }
    return nr && !machine_store_fits(le64_to_cpu(u->ranges),
                                     nr * sizeof(ranges[0]))
           ? -XEN_IOMMU_EFAULT : 0;
}

static uint32_t model_ops(const Fixture *f)
{
    return f->ops.ops & ((f->core.queues ? 0x1ffe : 0xffe) |
                         (f->core.limits.max_irqs ? 0x1e000 : 0));
}

static int model_query_caps(Fixture *f, struct xen_iommu_op *op)
{
    op->u.query_caps = (struct xen_iommu_op_query_caps) {
        .features = cpu_to_le64(7 + (f->core.queues ? 8 : 0) +
                                (f->core.identity_contexts ? 16 : 0) +
                                (f->core.limits.max_irqs ? 32 : 0) +
                                (f->core.mmio ? 64 : 0)),
        .ops = cpu_to_le32(model_ops(f)),
        .max_contexts = cpu_to_le16(f->core.limits.max_contexts),
        .bfn_bits = f->core.limits.bfn_bits,
        .state = (f->model.identity ? 1 : 0) | (f->core.control ? 2 : 0),
        .max_mappings = cpu_to_le64(f->core.limits.max_mappings),
    };
    return 0;
}

static int model_lookup(Fixture *f, struct xen_iommu_op *op, bool by_gfn)
{
    struct xen_iommu_op_lookup *u = &op->u.lookup;
    uint64_t bfn = le64_to_cpu(u->bfn), gfn = le64_to_cpu(u->gfn);
    uint16_t id = le16_to_cpu(u->ctx);
    uint64_t limit = fixture_bfn_limit(f);
    ModelContext *c;
    uint32_t nr;

    if (u->pad || u->nr_frames || bad_ctx(f, id) || bfn >= limit ||
        (by_gfn ? gfn >= 1ull << 40 : gfn)) {
        return -XEN_IOMMU_EINVAL;
    }
    c = model_context(f, id);
    if (c && c->identity) {
        return -XEN_IOMMU_EINVAL;
    }
    if (!c) {
        return -XEN_IOMMU_ENOENT;
    }
    if (by_gfn) {
        while (bfn < limit && (!c->map[bfn] || frame_gfn(c->map[bfn]) != gfn)) {
            bfn++;
        }
    }
    if (bfn == limit || !c->map[bfn]) {
        for (nr = 0; !by_gfn && bfn + nr < limit && !c->map[bfn + nr]; nr++) {
            /* go on */
        }
        u->nr_frames = cpu_to_le32(nr);
        return -XEN_IOMMU_ENOENT;
    }
    for (nr = 1; bfn + nr < limit && c->map[bfn + nr] == c->map[bfn] + nr;
         nr++) {
        /* go on */
    }
    u->bfn = cpu_to_le64(bfn);
    u->gfn = cpu_to_le64(frame_gfn(c->map[bfn]));
    u->nr_frames = cpu_to_le32(nr);
    op->flags = cpu_to_le16(frame_readonly(c->map[bfn])
                            ? XEN_IOMMUOP_map_readonly : 0);
    return 0;
}

static bool context_pads(const struct xen_iommu_op_context *u)
{
    return u->pad || u->pad1 || u->pad2[0] || u->pad2[1];
}

static int model_alloc_context(Fixture *f, struct xen_iommu_op *op)
{
    if (op->u.context.ctx || context_pads(&op->u.context) ||
        (op->flags && !model_accepted(f, XEN_IOMMU_FEATURE_IDENTITY))) {
        return -XEN_IOMMU_EINVAL;
    }
    for (unsigned id = 0; id < f->core.limits.max_contexts; id++) {
        if (!f->model.ctx[id].live) {
            /* Which ID is the core's choice: see fixture_op(). */
            return f->out_of_memory ? -XEN_IOMMU_ENOMEM : 0;
        }
    }
    return -XEN_IOMMU_ENOSPC;
}

static int model_free_context(Fixture *f, struct xen_iommu_op *op)
{
    uint16_t id = le16_to_cpu(op->u.context.ctx);

    if (!id || context_pads(&op->u.context)) {
        return -XEN_IOMMU_EINVAL;
    }
    if (!model_context(f, id)) {
        return -XEN_IOMMU_ENOENT;
    }
    for (unsigned i = 0; i < NR_DEVICES; i++) {
        if (f->model.device_ctx[i] == id) {
            if (!f->dev[i].gone) {
                return -XEN_IOMMU_EBUSY;
            }
        }
    }
    for (unsigned i = 0; i < NR_DEVICES; i++) {
        if (f->model.device_ctx[i] == id) {
            f->model.device_ctx[i] = 0;
        }
    }
    model_context_free(f, id);
    return 0;
}

static int model_attach_device(Fixture *f, struct xen_iommu_op *op)
{
    struct xen_iommu_op_attach_device *u = &op->u.attach_device;
    uint16_t id = le16_to_cpu(u->ctx);
    ModelContext *c, *old;
    Device *d;
    unsigned i;

    if (u->pad || u->pad1[0] || u->pad1[1]) {
        return -XEN_IOMMU_EINVAL;
    }
    c = model_context(f, id);
    if (!c || !c->identity) {
        model_enable(f);
    }
    if (!c) {
        return -XEN_IOMMU_ENOENT;
    }
    d = machine_device(f, le32_to_cpu(u->sbdf));
    if (!d) {
        return -XEN_IOMMU_ENODEV;
    }
    i = d - f->dev;
    for (guint j = 0; j < d->reserved->len; j++) {
        const XenPVIOMMUReserved *r = &g_array_index(d->reserved,
                                                     XenPVIOMMUReserved, j);

        for (uint64_t bfn = r->bfn; bfn < r->bfn + r->nr; bfn++) {
            if (c->map[bfn]) {
                return -XEN_IOMMU_EADDRNOTAVAIL;
            }
        }
    }
    old = &f->model.ctx[f->model.device_ctx[i]];
    if (old != c) {
        model_flush(f, old, 0, fixture_bfn_limit(f));
        f->model.device_ctx[i] = id;
    }
    return 0;
}

static int model_enable_op(Fixture *f, struct xen_iommu_op *op)
{
    if (op->u.enable.pad[0] || op->u.enable.pad[1] || op->u.enable.pad[2]) {
        return -XEN_IOMMU_EINVAL;
    }
    if (!op->flags) {
        model_enable(f);
    } else if (model_accepted(f, XEN_IOMMU_FEATURE_INTERRUPTS)) {
        f->model.irqs_enabled = true;
    } else {
        return -XEN_IOMMU_EINVAL;
    }
    return 0;
}

static void model_irqs_free(Fixture *f, unsigned handle, unsigned nr)
{
    memset(&f->model.irq[handle], 0, nr * sizeof(f->model.irq[0]));
}

void model_irqs_new(Fixture *f, const struct xen_iommu_op *op)
{
    const Device *d = machine_device(f, le32_to_cpu(op->u.irqs.sbdf));
    uint32_t handle = le32_to_cpu(op->u.irqs.handle);
    uint32_t nr = le32_to_cpu(op->u.irqs.nr);

    g_assert_cmpuint(handle + nr, <=, f->core.limits.max_irqs);
    for (unsigned i = 0; i < nr; i++) {
        g_assert_cmpuint(f->model.irq[handle + i].owner, ==, 0);
        f->model.irq[handle + i] = (ModelIrq) {
            .owner = d - f->dev + 1,
            .index = i,
            .flags = 1,
        };
    }
}

void model_unplug(Fixture *f, unsigned i)
{
    uint16_t *id = &f->model.device_ctx[i];

    if (*id != XEN_IOMMU_CTX_DEFAULT) {
        model_flush(f, &f->model.ctx[*id], 0, fixture_bfn_limit(f));
        *id = XEN_IOMMU_CTX_DEFAULT;
    }
    for (unsigned j = 0; j < MAX_IRQS; j++) {
        if (f->model.irq[j].owner == i + 1) {
            model_irqs_free(f, j, 1);
        }
    }
}

void model_irqs_reset(Fixture *f)
{
    model_irqs_free(f, 0, MAX_IRQS);
    memset(f->model.direct, 0, sizeof(f->model.direct));
    f->model.irqs_enabled = false;
}

static int model_alloc_irqs(Fixture *f, const struct xen_iommu_op_irqs *u)
{
    uint32_t nr = le32_to_cpu(u->nr), found = 0;

    if (u->handle || u->pad || u->pad1 || nr < 1 || nr > 32) {
        return -XEN_IOMMU_EINVAL;
    }
    if (!machine_device(f, le32_to_cpu(u->sbdf))) {
        return -XEN_IOMMU_ENODEV;
    }
    for (unsigned i = 0; i < f->core.limits.max_irqs && found < nr; i++) {
        found = f->model.irq[i].owner ? 0 : found + 1;
    }
    /* Which ones is the core's choice: see fixture_op(). */
    return found == nr ? 0 : -XEN_IOMMU_ENOSPC;
}

static ModelIrq *model_irq(Fixture *f, uint32_t handle)
{
    return handle < f->core.limits.max_irqs && f->model.irq[handle].owner
           ? &f->model.irq[handle] : NULL;
}

static int model_free_irqs(Fixture *f, const struct xen_iommu_op_irqs *u)
{
    uint32_t handle = le32_to_cpu(u->handle);
    const ModelIrq *irq = model_irq(f, handle);
    unsigned nr = 1;

    if (u->sbdf || u->nr || u->pad || u->pad1) {
        return -XEN_IOMMU_EINVAL;
    }
    if (!irq || irq->index) {
        return -XEN_IOMMU_ENOENT;
    }
    while (handle + nr < MAX_IRQS && irq[nr].owner == irq->owner &&
           irq[nr].index == nr) {
        nr++;
    }
    model_irqs_free(f, handle, nr);
    return 0;
}

static int model_set_irq(Fixture *f, const struct xen_iommu_op *op)
{
    const struct xen_iommu_op_set_irq *u = &op->u.set_irq;
    uint16_t flags = le16_to_cpu(op->flags);
    ModelIrq *irq = model_irq(f, le32_to_cpu(u->handle));

    if (u->pad || u->pad1 || u->pad2) {
        return -XEN_IOMMU_EINVAL;
    }
    if (flags & 1 ? flags != 1 || u->dest || u->vector || u->delivery
                  : u->delivery > 7 || u->delivery == 3 || u->delivery == 6 ||
                    (u->delivery < 2 && u->vector < 16)) {
        return -XEN_IOMMU_EINVAL;
    }
    if (!irq) {
        return -XEN_IOMMU_ENOENT;
    }
    irq->flags = flags;
    irq->dest = le32_to_cpu(u->dest);
    irq->vector = u->vector;
    irq->delivery = u->delivery;
    return 0;
}

static int model_direct_irqs(Fixture *f, const struct xen_iommu_op *op)
{
    const struct xen_iommu_op_direct_irqs *u = &op->u.direct_irqs;
    const Device *d = machine_device(f, le32_to_cpu(u->sbdf));

    if (u->pad || u->pad1[0] || u->pad1[1]) {
        return -XEN_IOMMU_EINVAL;
    }
    if (!d) {
        return -XEN_IOMMU_ENODEV;
    }
    f->model.direct[d - f->dev] = op->flags;
    return 0;
}

static int model_set_queue(Fixture *f, struct xen_iommu_op *op)
{
    uint64_t addr = le64_to_cpu(op->u.set_queue.addr);
    uint32_t nr_ops = le32_to_cpu(op->u.set_queue.nr_ops);
    uint16_t id = le16_to_cpu(op->u.set_queue.ctx);
    ModelContext *c;

    if (op->u.set_queue.pad || op->u.set_queue.pad1 || bad_ctx(f, id) ||
        !addr != !nr_ops || addr % 4096 || nr_ops > 1024 ||
        (nr_ops & (nr_ops - 1)) || addr + 128 + 32 * nr_ops < addr) {
        return -XEN_IOMMU_EINVAL;
    }
    c = model_context(f, id);
    if (c && c->identity) {
        return -XEN_IOMMU_EINVAL;
    }
    if (!c) {
        return -XEN_IOMMU_ENOENT;
    }
    if (nr_ops && !machine_queue_fits(addr, nr_ops)) {
        return -XEN_IOMMU_EFAULT;
    }
    c->queue = (XenPVIOMMUQueue) { addr, nr_ops };
    return 0;
}

/* A queue of context @id takes @op. */
bool model_queues(uint16_t id, const struct xen_iommu_op *op)
{
    switch (le16_to_cpu(op->op)) {
    case XEN_IOMMUOP_map:
        return le16_to_cpu(op->u.map.ctx) == id &&
               le32_to_cpu(op->u.map.nr_frames) <= 512;
    case XEN_IOMMUOP_unmap:
        return le16_to_cpu(op->u.unmap.ctx) == id &&
               le32_to_cpu(op->u.unmap.nr_frames) <= 512;
    case XEN_IOMMUOP_flush:
        return le16_to_cpu(op->u.flush.ctx) == id;
    default:
        return false;
    }
}

int model_run(Fixture *f, struct xen_iommu_op *op,
              struct xen_iommu_reserved_range *ranges)
{
    static const struct {
        uint16_t flags;
        uint64_t feature;
    } info[] = {
        [XEN_IOMMUOP_query_reserved] = { 1, 0 },
        [XEN_IOMMUOP_map] = { 1, 0 },
        [XEN_IOMMUOP_unmap] = { 1, 0 },
        [XEN_IOMMUOP_lookup_bfn] = { 0, XEN_IOMMU_FEATURE_LOOKUP },
        [XEN_IOMMUOP_lookup_gfn] = { 0, XEN_IOMMU_FEATURE_LOOKUP },
        [XEN_IOMMUOP_alloc_context] = { 1, XEN_IOMMU_FEATURE_CONTEXTS },
        [XEN_IOMMUOP_free_context] = { 0, XEN_IOMMU_FEATURE_CONTEXTS },
        [XEN_IOMMUOP_attach_device] = { 0, XEN_IOMMU_FEATURE_CONTEXTS },
        [XEN_IOMMUOP_enable] = { 1, 0 },
        [XEN_IOMMUOP_set_queue] = { 0, XEN_IOMMU_FEATURE_QUEUE },
        [XEN_IOMMUOP_alloc_irqs] = { 0, XEN_IOMMU_FEATURE_INTERRUPTS },
        [XEN_IOMMUOP_set_irq] = { 7, XEN_IOMMU_FEATURE_INTERRUPTS },
        [XEN_IOMMUOP_free_irqs] = { 0, XEN_IOMMU_FEATURE_INTERRUPTS },
        [XEN_IOMMUOP_direct_irqs] = { 1, XEN_IOMMU_FEATURE_INTERRUPTS },
    };
    uint16_t code = le16_to_cpu(op->op);

    if (code < 1 || code > 16 || !(model_ops(f) & (1u << code))) {
        return -XEN_IOMMU_EOPNOTSUPP;
    }
    if (!f->core.control && code != XEN_IOMMUOP_query_caps) {
        return -XEN_IOMMU_EACCES;
    }
    if ((le16_to_cpu(op->flags) & ~info[code].flags) ||
        (info[code].feature && !model_accepted(f, info[code].feature))) {
        return -XEN_IOMMU_EINVAL;
    }
    switch (code) {
    case XEN_IOMMUOP_query_reserved:
        return model_query_reserved(f, op, ranges);
    case XEN_IOMMUOP_map:
        return model_map(f, op);
    case XEN_IOMMUOP_unmap:
        return model_unmap(f, op);
    case XEN_IOMMUOP_flush:
        return model_op_flush(f, op);
    case XEN_IOMMUOP_query_caps:
        return model_query_caps(f, op);
    case XEN_IOMMUOP_lookup_bfn:
    case XEN_IOMMUOP_lookup_gfn:
        return model_lookup(f, op, code == XEN_IOMMUOP_lookup_gfn);
    case XEN_IOMMUOP_alloc_context:
        return model_alloc_context(f, op);
    case XEN_IOMMUOP_free_context:
        return model_free_context(f, op);
    case XEN_IOMMUOP_attach_device:
        return model_attach_device(f, op);
    case XEN_IOMMUOP_set_queue:
        return model_set_queue(f, op);
    case XEN_IOMMUOP_alloc_irqs:
        return model_alloc_irqs(f, &op->u.irqs);
    case XEN_IOMMUOP_set_irq:
        return model_set_irq(f, op);
    case XEN_IOMMUOP_free_irqs:
        return model_free_irqs(f, &op->u.irqs);
    case XEN_IOMMUOP_direct_irqs:
        return model_direct_irqs(f, op);
    default:
        return model_enable_op(f, op);
    }
}
