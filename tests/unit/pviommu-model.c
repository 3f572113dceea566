/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The core on a bench
 */

#include "qemu/osdep.h"
#include "qemu/bswap.h"
#include "pviommu-model.h"

/* The backend: a guest's memory and who refers to it. */

static Kind page_kind(const XenPVIOMMUBackend *be, uint64_t gfn)
{
    return gfn < NR_GFNS ? be->kind[gfn] : be->huge ? KIND_RAM : KIND_HOLE;
}

/* What get() has to say, without doing it. */
static int backend_answer(const XenPVIOMMUBackend *be, uint16_t domid,
                          uint64_t gfn, uint64_t nr, bool readonly,
                          uint64_t *culprit)
{
    if (domid == DOMID_FOREIGN) {
        return -XEN_IOMMU_EPERM;
    }
    if (domid != DOMID_SELF) {
        return -XEN_IOMMU_ESRCH;
    }
    for (uint64_t end = gfn + nr; gfn < end; gfn++) {
        *culprit = gfn;
        if (gfn >= NR_GFNS && be->huge) {
            break;
        }
        switch (page_kind(be, gfn)) {
        case KIND_HOLE:
            return -XEN_IOMMU_ENOENT;
        case KIND_MMIO:
            return -XEN_IOMMU_EPERM;
        case KIND_ROM:
            if (!readonly) {
                return -XEN_IOMMU_EPERM;
            }
            break;
        case KIND_PAGED:
            return -XEN_IOMMU_EAGAIN;
        case KIND_RAM:
            break;
        }
    }
    return 0;
}

static int bench_get(XenPVIOMMUBackend *be, uint16_t domid, uint64_t gfn,
                     uint64_t nr, bool readonly)
{
    uint64_t culprit;
    int ret;

    g_assert_cmpuint(nr, >, 0);
    ret = backend_answer(be, domid, gfn, nr, readonly, &culprit);
    if (ret == -XEN_IOMMU_EAGAIN) {
        be->kind[culprit] = KIND_RAM;
    }
    if (ret) {
        return ret;
    }
    for (uint64_t g = gfn; g < MIN(gfn + nr, NR_GFNS); g++) {
        (readonly ? be->ro : be->rw)[g]++;
    }
    be->total += nr;
    return 0;
}

/*
 * There are as many references as places where devices may still use the
 * page. Devices of a context see the same places.
 */
static void check_held(const XenPVIOMMUBackend *be, uint64_t gfn)
{
    const Bench *b = be->bench;
    uint64_t ro = 0, rw = 0;

    for (unsigned i = 0; i < NR_DEVICES; i++) {
        uint32_t most_ro = 0, most_rw = 0;
        bool done = false;

        for (unsigned j = 0; j < i && !done; j++) {
            done = b->dev[j].ctx == b->dev[i].ctx;
        }
        for (unsigned j = i; j < NR_DEVICES && !done; j++) {
            if (b->dev[j].ctx == b->dev[i].ctx) {
                most_ro = MAX(most_ro, b->dev[j].ro[gfn]);
                most_rw = MAX(most_rw, b->dev[j].rw[gfn]);
            }
        }
        ro += most_ro;
        rw += most_rw;
    }
    g_assert_cmpuint(be->ro[gfn], >=, ro);
    g_assert_cmpuint(be->rw[gfn], >=, rw);
}

static void bench_put(XenPVIOMMUBackend *be, uint64_t gfn, uint64_t nr,
                      bool readonly)
{
    uint32_t *refs = readonly ? be->ro : be->rw;

    g_assert_cmpuint(nr, >, 0);
    g_assert_cmpuint(be->total, >=, nr);
    be->total -= nr;
    for (uint64_t g = gfn; g < MIN(gfn + nr, NR_GFNS); g++) {
        g_assert_cmpuint(refs[g], >, 0);
        refs[g]--;
        check_held(be, g);
    }
}

static uint64_t bench_total(XenPVIOMMUBackend *be)
{
    return be->total;
}

static uint64_t bench_refs(XenPVIOMMUBackend *be, uint64_t gfn)
{
    return be->ro[gfn] + be->rw[gfn];
}

/* The devices: they keep a translation until they are told to drop it. */

static void tlb_set(Device *d, uint64_t bfn, Frame frame)
{
    Frame old = d->tlb[bfn];

    if (old) {
        (frame_readonly(old) ? d->ro : d->rw)[frame_gfn(old)]--;
    }
    if (frame) {
        (frame_readonly(frame) ? d->ro : d->rw)[frame_gfn(frame)]++;
    }
    d->tlb[bfn] = frame;
}

static void tlb_map(Bench *b, Device *d, const BfnRun *run)
{
    for (uint64_t i = 0; i < run->nr; i++) {
        /* As VFIO: what is mapped cannot be mapped over. */
        g_assert_cmphex(d->tlb[run->bfn + i], ==, 0);
        tlb_set(d, run->bfn + i, frame_new(run->gfn + i, run->readonly));
    }
}

static void client_map(void *opaque, XenPVIOMMUContext *ctx, const BfnRun *run)
{
    Bench *b = opaque;
    BfnRun there;

    b->map_calls++;
    g_assert_cmpuint(run->nr, >, 0);
    g_assert_true(bfn_table_next_run(ctx->table, run->bfn, run->bfn + run->nr,
                                     &there));
    g_assert_cmphex(there.bfn, ==, run->bfn);
    g_assert_cmphex(there.gfn, ==, run->gfn);
    g_assert_cmphex(there.nr, ==, run->nr);
    g_assert(there.readonly == run->readonly);
    for (unsigned i = 0; b->modelled && i < NR_DEVICES; i++) {
        if (b->dev[i].ctx == ctx) {
            tlb_map(b, &b->dev[i], run);
        }
    }
}

static void client_unmap(void *opaque, XenPVIOMMUContext *ctx,
                         uint64_t bfn, uint64_t nr)
{
    Bench *b = opaque;

    b->unmap_calls++;
    g_assert_cmpuint(nr, >, 0);
    g_assert_cmphex(bfn + nr, <=, xen_pviommu_bfn_limit(&b->core));
    /* A device must not lose what is mapped. */
    g_assert_true(bfn_table_range_empty(ctx->table, bfn, nr));
    for (unsigned i = 0; b->modelled && i < NR_DEVICES; i++) {
        for (uint64_t j = bfn; b->dev[i].ctx == ctx && j < bfn + nr; j++) {
            tlb_set(&b->dev[i], j, 0);
        }
    }
}

static Device *device_by_sbdf(Bench *b, uint32_t sbdf)
{
    for (unsigned i = 0; i < NR_DEVICES; i++) {
        if (b->dev[i].sbdf == sbdf && !b->dev[i].gone) {
            return &b->dev[i];
        }
    }
    return NULL;
}

static void update_reserved(Bench *b, XenPVIOMMUContext *ctx)
{
    g_array_set_size(ctx->reserved, 0);
    for (unsigned i = 0; i < NR_DEVICES; i++) {
        if (b->dev[i].ctx == ctx && !b->dev[i].gone) {
            xen_pviommu_reserved_add_all(ctx->reserved, b->dev[i].reserved);
        }
    }
}

static void device_move(Bench *b, Device *d, XenPVIOMMUContext *ctx)
{
    uint64_t limit = xen_pviommu_bfn_limit(&b->core);
    XenPVIOMMUContext *old = d->ctx;
    BfnRun run;

    if (old == ctx) {
        return;
    }
    old->nr_devices--;
    ctx->nr_devices++;
    d->ctx = ctx;
    if (b->modelled) {
        for (uint64_t bfn = 0; bfn < limit; bfn++) {
            tlb_set(d, bfn, 0);
        }
        for (uint64_t bfn = 0; bfn_table_next_run(ctx->table, bfn, limit, &run);
             bfn = run.bfn + run.nr) {
            tlb_map(b, d, &run);
        }
    }
    xen_pviommu_context_flush_all(&b->core, old);
    update_reserved(b, old);
    update_reserved(b, ctx);
}

static int client_attach(void *opaque, uint32_t sbdf, XenPVIOMMUContext *ctx)
{
    Bench *b = opaque;
    Device *d = device_by_sbdf(b, sbdf);

    if (!d) {
        return -XEN_IOMMU_ENODEV;
    }
    for (guint i = 0; i < d->reserved->len; i++) {
        const XenPVIOMMUReserved *r = xen_pviommu_reserved_at(d->reserved, i);

        if (!bfn_table_range_empty(ctx->table, r->bfn, r->nr)) {
            return -XEN_IOMMU_EADDRNOTAVAIL;
        }
    }
    device_move(b, d, ctx);
    return 0;
}

static void client_reap(void *opaque, XenPVIOMMUContext *ctx)
{
    Bench *b = opaque;

    for (unsigned i = 0; i < NR_DEVICES; i++) {
        if (b->dev[i].gone && b->dev[i].ctx == ctx) {
            device_move(b, &b->dev[i], b->core.contexts[XEN_IOMMU_CTX_DEFAULT]);
        }
    }
}

static int client_reserved(void *opaque, uint32_t sbdf, GArray *list)
{
    Device *d = device_by_sbdf(opaque, sbdf);

    if (!d) {
        return -XEN_IOMMU_ENODEV;
    }
    xen_pviommu_reserved_add_all(list, d->reserved);
    return 0;
}

static void client_attach_all(void *opaque, XenPVIOMMUContext *ctx)
{
    Bench *b = opaque;

    for (unsigned i = 0; i < NR_DEVICES; i++) {
        device_move(b, &b->dev[i], ctx);
    }
}

static void client_enabled(void *opaque)
{
    Bench *b = opaque;

    g_assert_false(b->core.identity);
    b->enabled++;
}

static bool store_fits(uint64_t addr, uint64_t len)
{
    return addr >= STORE_BASE && addr < STORE_BASE + STORE_SIZE &&
           len <= STORE_BASE + STORE_SIZE - addr;
}

static bool queue_fits(uint64_t addr, uint32_t nr_ops)
{
    return addr >= QUEUE_BASE &&
           addr + 128 + 32 * nr_ops <= QUEUE_BASE + QUEUE_SIZE;
}

static int client_store(void *opaque, uint64_t addr, const void *buf,
                        size_t len)
{
    Bench *b = opaque;

    if (!store_fits(addr, len)) {
        return -XEN_IOMMU_EFAULT;
    }
    memcpy(b->stored + (addr - STORE_BASE), buf, len);
    return 0;
}

static int client_set_queue(void *opaque, XenPVIOMMUContext *ctx, uint64_t addr,
                            uint32_t nr_ops)
{
    Bench *b = opaque;

    if (!nr_ops) {
        ctx->queue = NULL;
        return 0;
    }
    g_assert_true(xen_pviommu_queue_valid(addr, nr_ops));
    if (!queue_fits(addr, nr_ops)) {
        return -XEN_IOMMU_EFAULT;
    }
    b->queue[ctx->id] = (XenPVIOMMUQueue) { addr, nr_ops };
    ctx->queue = &b->queue[ctx->id];
    return 0;
}

static const XenPVIOMMUClientOps client_ops = {
    .map = client_map,
    .unmap = client_unmap,
    .attach = client_attach,
    .reap = client_reap,
    .reserved = client_reserved,
    .attach_all = client_attach_all,
    .enabled = client_enabled,
    .store = client_store,
    .set_queue = client_set_queue,
};

/* The model */

static uint64_t bfn_limit(const Bench *b)
{
    return 1ull << b->core.limits.bfn_bits;
}

static void model_context_new(Bench *b, unsigned id)
{
    ModelContext *c = &b->model.ctx[id];

    g_assert_false(c->live);
    c->live = true;
    c->queue = (XenPVIOMMUQueue) { 0 };
    c->map = g_new0(Frame, bfn_limit(b));
    c->pending = g_array_new(false, false, sizeof(Pending));
}

static void model_context_free(Bench *b, unsigned id)
{
    ModelContext *c = &b->model.ctx[id];

    for (uint64_t bfn = 0; bfn < bfn_limit(b); bfn++) {
        b->model.mapped -= !!c->map[bfn];
    }
    b->model.pending -= c->pending->len;
    c->live = false;
    g_free(c->map);
    g_array_free(c->pending, true);
}

static void model_flush(Bench *b, ModelContext *c, uint64_t bfn, uint64_t nr)
{
    for (guint i = 0; i < c->pending->len; ) {
        const Pending *p = &g_array_index(c->pending, Pending, i);

        if (p->bfn >= bfn && p->bfn < bfn + nr) {
            g_array_remove_index_fast(c->pending, i);
            b->model.pending--;
        } else {
            i++;
        }
    }
}

static ModelContext *model_context(Bench *b, uint16_t id)
{
    return id < b->core.limits.max_contexts && b->model.ctx[id].live
           ? &b->model.ctx[id] : NULL;
}

/*
 * Who reserves each BFN: 0, or a number of its own for each range, in the
 * order in which they count
 */
typedef struct Owner {
    uint32_t nr;
    uint32_t flags;
} Owner;

static void own(Owner *owners, const Bench *b, const GArray *list, uint32_t nr)
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

static Owner *reserved_owners(Bench *b, int ctx, int device)
{
    Owner *owners = g_new0(Owner, bfn_limit(b));

    own(owners, b, b->core.reserved, 1);
    for (unsigned i = 0; i < NR_DEVICES; i++) {
        if (!b->dev[i].gone &&
            (device == i || (ctx >= 0 && b->model.device_ctx[i] == ctx))) {
            own(owners, b, b->dev[i].reserved, (i + 1) * 1000);
        }
    }
    return owners;
}

static bool model_reserved(Bench *b, unsigned ctx, uint64_t bfn, uint64_t nr)
{
    for (int i = -1; i < NR_DEVICES; i++) {
        GArray *list = i < 0 ? b->core.reserved : b->dev[i].reserved;

        if (i >= 0 && (b->dev[i].gone || b->model.device_ctx[i] != ctx)) {
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

static void model_enable(Bench *b)
{
    if (b->model.identity) {
        b->model.identity = false;
        b->model.enabled++;
    }
}

static bool accepted(const Bench *b, uint64_t feature)
{
    return b->core.accepted & feature;
}

static bool bad_ctx(const Bench *b, uint16_t ctx)
{
    return ctx && !accepted(b, XEN_IOMMU_FEATURE_CONTEXTS);
}

static bool bad_range(const Bench *b, uint64_t start, uint32_t nr_frames,
                      uint64_t limit)
{
    uint64_t nr = nr_frames ? nr_frames : 1;

    if (nr_frames && !accepted(b, XEN_IOMMU_FEATURE_RANGES)) {
        return true;
    }
    return start >= limit || start + nr > limit;
}

static int model_map(Bench *b, struct xen_iommu_op *op)
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

    if (bad_ctx(b, id) || bad_range(b, bfn, nr_frames, bfn_limit(b)) ||
        bad_range(b, gfn, nr_frames, 1ull << 40)) {
        return -XEN_IOMMU_EINVAL;
    }
    model_enable(b);
    c = model_context(b, id);
    if (!c) {
        return -XEN_IOMMU_ENOENT;
    }
    if (model_reserved(b, id, bfn, nr)) {
        return -XEN_IOMMU_EADDRNOTAVAIL;
    }
    for (uint64_t i = 0; i < nr; i++) {
        if (c->map[bfn + i]) {
            return -XEN_IOMMU_EEXIST;
        }
    }
    if (b->model.mapped + b->model.pending + nr >
        b->core.limits.max_mappings) {
        return -XEN_IOMMU_ENOSPC;
    }
    ret = backend_answer(&b->backend, domid, gfn, nr, readonly, &culprit);
    if (ret) {
        return ret;
    }
    if (b->out_of_nodes) {
        return -XEN_IOMMU_ENOMEM;
    }
    for (uint64_t i = 0; i < nr; i++) {
        c->map[bfn + i] = frame_new(gfn + i, readonly);
    }
    b->model.mapped += nr;
    b->model.counter[XEN_PVIOMMU_COUNTER_MAPS]++;
    return 0;
}

static int model_unmap(Bench *b, struct xen_iommu_op *op)
{
    uint64_t bfn = le64_to_cpu(op->u.unmap.bfn);
    uint32_t nr_frames = le32_to_cpu(op->u.unmap.nr_frames);
    uint16_t id = le16_to_cpu(op->u.unmap.ctx);
    bool holes = le16_to_cpu(op->flags) & XEN_IOMMUOP_unmap_holes;
    uint64_t nr = nr_frames ? nr_frames : 1, runs = 0;
    ModelContext *c;

    if (op->u.unmap.pad || op->u.unmap.pad1 || bad_ctx(b, id) ||
        (holes && !accepted(b, XEN_IOMMU_FEATURE_QUEUE)) ||
        bad_range(b, bfn, nr_frames, bfn_limit(b))) {
        return -XEN_IOMMU_EINVAL;
    }
    model_enable(b);
    c = model_context(b, id);
    if (!c) {
        return -XEN_IOMMU_ENOENT;
    }
    if (!holes && model_reserved(b, id, bfn, nr)) {
        return -XEN_IOMMU_EADDRNOTAVAIL;
    }
    for (uint64_t i = 0; i < nr; i++) {
        if (!c->map[bfn + i]) {
            if (holes) {
                continue;
            }
            return -XEN_IOMMU_ENOENT;
        }
        runs += !i || !c->map[bfn + i - 1] ||
                c->map[bfn + i] != c->map[bfn + i - 1] + 1;
        /* Too many runs: how those are counted is the core's affair. */
        if (b->core.nr_pending_runs + runs >
            MAX(b->core.limits.max_mappings / 64, 4096)) {
            return -XEN_IOMMU_ENOSPC;
        }
    }
    for (uint64_t i = 0; i < nr; i++) {
        Pending p = { bfn + i, c->map[bfn + i] };

        if (p.frame) {
            g_array_append_val(c->pending, p);
            c->map[bfn + i] = 0;
            b->model.mapped--;
            b->model.pending++;
        }
    }
    b->model.counter[XEN_PVIOMMU_COUNTER_UNMAPS]++;
    return 0;
}

static int model_op_flush(Bench *b, struct xen_iommu_op *op)
{
    uint64_t bfn = le64_to_cpu(op->u.flush.bfn);
    uint32_t nr_frames = le32_to_cpu(op->u.flush.nr_frames);
    uint16_t id = le16_to_cpu(op->u.flush.ctx);
    ModelContext *c;

    if (op->u.flush.pad || op->u.flush.pad1 || bad_ctx(b, id)) {
        return -XEN_IOMMU_EINVAL;
    }
    if (bfn == UINT64_MAX && !nr_frames) {
        bfn = 0;
        nr_frames = bfn_limit(b);
    } else if (bad_range(b, bfn, nr_frames, bfn_limit(b))) {
        return -XEN_IOMMU_EINVAL;
    }
    c = model_context(b, id);
    if (!c) {
        return -XEN_IOMMU_ENOENT;
    }
    model_flush(b, c, bfn, nr_frames ? nr_frames : 1);
    b->model.counter[XEN_PVIOMMU_COUNTER_FLUSHES]++;
    return 0;
}

static int model_query_reserved(Bench *b, struct xen_iommu_op *op,
                                struct xen_iommu_reserved_range *ranges)
{
    struct xen_iommu_op_query_reserved *u = &op->u.query_reserved;
    bool device = le16_to_cpu(op->flags) & XEN_IOMMUOP_query_reserved_device;
    uint16_t id = le16_to_cpu(u->ctx);
    uint32_t room = le32_to_cpu(u->nr_entries), nr = 0;
    g_autofree Owner *owners = NULL;
    int index = -1;

    if (u->pad || u->pad1 || bad_ctx(b, id) ||
        (device ? u->ctx || !accepted(b, XEN_IOMMU_FEATURE_CONTEXTS)
                : u->sbdf)) {
        return -XEN_IOMMU_EINVAL;
    }
    if (device) {
        Device *d = device_by_sbdf(b, le32_to_cpu(u->sbdf));

        if (!d) {
            return -XEN_IOMMU_ENODEV;
        }
        index = d - b->dev;
    } else if (!model_context(b, id)) {
        return -XEN_IOMMU_ENOENT;
    }
    owners = reserved_owners(b, device ? -1 : id, index);
    for (uint64_t bfn = 0, n; bfn < bfn_limit(b); bfn += n) {
        for (n = 1; bfn + n < bfn_limit(b) &&
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
    return nr && !store_fits(le64_to_cpu(u->ranges), nr * sizeof(ranges[0]))
           ? -XEN_IOMMU_EFAULT : 0;
}

static uint32_t model_ops(const Bench *b)
{
    return b->ops.ops & (b->core.queues ? 0x1ffe : 0xffe);
}

static int model_query_caps(Bench *b, struct xen_iommu_op *op)
{
    op->u.query_caps = (struct xen_iommu_op_query_caps) {
        .features = cpu_to_le64(b->core.queues ? 15 : 7),
        .ops = cpu_to_le32(model_ops(b)),
        .max_contexts = cpu_to_le16(b->core.limits.max_contexts),
        .bfn_bits = b->core.limits.bfn_bits,
        .state = (b->model.identity ? 1 : 0) | (b->core.control ? 2 : 0),
        .max_mappings = cpu_to_le64(b->core.limits.max_mappings),
    };
    return 0;
}

static int model_lookup(Bench *b, struct xen_iommu_op *op, bool by_gfn)
{
    struct xen_iommu_op_lookup *u = &op->u.lookup;
    uint64_t bfn = le64_to_cpu(u->bfn), gfn = le64_to_cpu(u->gfn);
    uint16_t id = le16_to_cpu(u->ctx);
    uint64_t limit = bfn_limit(b);
    ModelContext *c;
    uint32_t nr;

    if (u->pad || u->nr_frames || bad_ctx(b, id) || bfn >= limit ||
        (by_gfn ? gfn >= 1ull << 40 : gfn)) {
        return -XEN_IOMMU_EINVAL;
    }
    c = model_context(b, id);
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

static int model_alloc_context(Bench *b, struct xen_iommu_op *op)
{
    if (op->u.context.ctx || context_pads(&op->u.context)) {
        return -XEN_IOMMU_EINVAL;
    }
    for (unsigned id = 0; id < b->core.limits.max_contexts; id++) {
        if (!b->model.ctx[id].live) {
            /* Which ID is the core's choice: see bench_op(). */
            return b->out_of_nodes ? -XEN_IOMMU_ENOMEM : 0;
        }
    }
    return -XEN_IOMMU_ENOSPC;
}

static int model_free_context(Bench *b, struct xen_iommu_op *op)
{
    uint16_t id = le16_to_cpu(op->u.context.ctx);

    if (!id || context_pads(&op->u.context)) {
        return -XEN_IOMMU_EINVAL;
    }
    if (!model_context(b, id)) {
        return -XEN_IOMMU_ENOENT;
    }
    for (unsigned i = 0; i < NR_DEVICES; i++) {
        if (b->model.device_ctx[i] == id) {
            if (!b->dev[i].gone) {
                return -XEN_IOMMU_EBUSY;
            }
        }
    }
    for (unsigned i = 0; i < NR_DEVICES; i++) {
        if (b->model.device_ctx[i] == id) {
            b->model.device_ctx[i] = 0;
        }
    }
    model_context_free(b, id);
    return 0;
}

static int model_attach_device(Bench *b, struct xen_iommu_op *op)
{
    struct xen_iommu_op_attach_device *u = &op->u.attach_device;
    uint16_t id = le16_to_cpu(u->ctx);
    ModelContext *c, *old;
    Device *d;
    unsigned i;

    if (u->pad || u->pad1[0] || u->pad1[1]) {
        return -XEN_IOMMU_EINVAL;
    }
    model_enable(b);
    c = model_context(b, id);
    if (!c) {
        return -XEN_IOMMU_ENOENT;
    }
    d = device_by_sbdf(b, le32_to_cpu(u->sbdf));
    if (!d) {
        return -XEN_IOMMU_ENODEV;
    }
    i = d - b->dev;
    for (guint j = 0; j < d->reserved->len; j++) {
        const XenPVIOMMUReserved *r = &g_array_index(d->reserved,
                                                     XenPVIOMMUReserved, j);

        for (uint64_t bfn = r->bfn; bfn < r->bfn + r->nr; bfn++) {
            if (c->map[bfn]) {
                return -XEN_IOMMU_EADDRNOTAVAIL;
            }
        }
    }
    old = &b->model.ctx[b->model.device_ctx[i]];
    if (old != c) {
        model_flush(b, old, 0, bfn_limit(b));
        b->model.device_ctx[i] = id;
    }
    return 0;
}

static int model_enable_op(Bench *b, struct xen_iommu_op *op)
{
    if (op->u.enable.pad[0] || op->u.enable.pad[1] || op->u.enable.pad[2]) {
        return -XEN_IOMMU_EINVAL;
    }
    model_enable(b);
    return 0;
}

static int model_set_queue(Bench *b, struct xen_iommu_op *op)
{
    uint64_t addr = le64_to_cpu(op->u.set_queue.addr);
    uint32_t nr_ops = le32_to_cpu(op->u.set_queue.nr_ops);
    uint16_t id = le16_to_cpu(op->u.set_queue.ctx);
    ModelContext *c;

    if (op->u.set_queue.pad || op->u.set_queue.pad1 || bad_ctx(b, id) ||
        !addr != !nr_ops || addr % 4096 || nr_ops > 1024 ||
        (nr_ops & (nr_ops - 1)) || addr + 128 + 32 * nr_ops < addr) {
        return -XEN_IOMMU_EINVAL;
    }
    c = model_context(b, id);
    if (!c) {
        return -XEN_IOMMU_ENOENT;
    }
    if (nr_ops && !queue_fits(addr, nr_ops)) {
        return -XEN_IOMMU_EFAULT;
    }
    c->queue = (XenPVIOMMUQueue) { addr, nr_ops };
    return 0;
}

/* A queue of context @id takes @op. */
static bool model_queues(uint16_t id, const struct xen_iommu_op *op)
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

static int model_run(Bench *b, struct xen_iommu_op *op,
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
        [XEN_IOMMUOP_alloc_context] = { 0, XEN_IOMMU_FEATURE_CONTEXTS },
        [XEN_IOMMUOP_free_context] = { 0, XEN_IOMMU_FEATURE_CONTEXTS },
        [XEN_IOMMUOP_attach_device] = { 0, XEN_IOMMU_FEATURE_CONTEXTS },
        [XEN_IOMMUOP_enable] = { 0, 0 },
        [XEN_IOMMUOP_set_queue] = { 0, XEN_IOMMU_FEATURE_QUEUE },
    };
    uint16_t code = le16_to_cpu(op->op);

    if (code < 1 || code > 12 || !(model_ops(b) & (1u << code))) {
        return -XEN_IOMMU_EOPNOTSUPP;
    }
    if (!b->core.control && code != XEN_IOMMUOP_query_caps) {
        return -XEN_IOMMU_EACCES;
    }
    if ((le16_to_cpu(op->flags) & ~info[code].flags) ||
        (info[code].feature && !accepted(b, info[code].feature))) {
        return -XEN_IOMMU_EINVAL;
    }
    switch (code) {
    case XEN_IOMMUOP_query_reserved:
        return model_query_reserved(b, op, ranges);
    case XEN_IOMMUOP_map:
        return model_map(b, op);
    case XEN_IOMMUOP_unmap:
        return model_unmap(b, op);
    case XEN_IOMMUOP_flush:
        return model_op_flush(b, op);
    case XEN_IOMMUOP_query_caps:
        return model_query_caps(b, op);
    case XEN_IOMMUOP_lookup_bfn:
    case XEN_IOMMUOP_lookup_gfn:
        return model_lookup(b, op, code == XEN_IOMMUOP_lookup_gfn);
    case XEN_IOMMUOP_alloc_context:
        return model_alloc_context(b, op);
    case XEN_IOMMUOP_free_context:
        return model_free_context(b, op);
    case XEN_IOMMUOP_attach_device:
        return model_attach_device(b, op);
    case XEN_IOMMUOP_set_queue:
        return model_set_queue(b, op);
    default:
        return model_enable_op(b, op);
    }
}

/* The bench */

Bench *bench_new(const BenchConfig *config)
{
    Bench *b = g_new0(Bench, 1);
    XenPVIOMMUCore *core = &b->core;

    b->modelled = config->bfn_bits <= MODEL_MAX_BITS;
    b->ops = (XenPVIOMMUBackendOps) {
        .ops = config->ops ? config->ops : UINT32_MAX,
        .get = bench_get,
        .put = bench_put,
        .total = bench_total,
        .refs = bench_refs,
    };
    b->backend.bench = b;
    for (unsigned i = 0; i < NR_GFNS; i++) {
        b->backend.kind[i] = i >= 160 && i < 192 ? KIND_MMIO :
                             i >= 192 && i < 256 ? KIND_ROM :
                             i >= 3000 && i < 3100 ? KIND_HOLE :
                             i >= 3900 ? KIND_HOLE : KIND_RAM;
    }
    core->limits.bfn_bits = config->bfn_bits;
    core->limits.max_contexts = config->max_contexts;
    core->limits.max_mappings = config->max_mappings;
    core->control = !config->no_control;
    core->premap = config->premap;
    core->queues = !config->no_queues;
    core->backend_ops = &b->ops;
    core->backend = &b->backend;
    core->client_ops = &client_ops;
    core->client = b;
    xen_pviommu_core_init(core);
    core->accepted = xen_pviommu_core_features(core);
    for (unsigned i = 0; i < config->nr_reserved; i++) {
        const XenPVIOMMUReserved *r = &config->reserved[i];

        xen_pviommu_reserved_add(core->reserved, r->bfn, r->nr, r->flags);
    }
    for (unsigned i = 0; i < NR_DEVICES; i++) {
        Device *d = &b->dev[i];

        d->sbdf = i << 8 | i << 3;
        d->ctx = core->contexts[XEN_IOMMU_CTX_DEFAULT];
        d->ctx->nr_devices++;
        d->reserved = xen_pviommu_reserved_new();
        d->tlb = b->modelled ? g_new0(Frame, bfn_limit(b)) : NULL;
    }
    b->model.identity = config->premap;
    if (b->modelled) {
        model_context_new(b, 0);
    }
    return b;
}

void bench_free(Bench *b)
{
    if (b->modelled) {
        bench_check(b);
        for (unsigned i = 0; i < MAX_CONTEXTS; i++) {
            if (b->model.ctx[i].live) {
                model_context_free(b, i);
            }
        }
    }
    for (unsigned i = 0; i < NR_DEVICES; i++) {
        Device *d = &b->dev[i];

        /* Unplugged */
        for (uint64_t bfn = 0; b->modelled && bfn < bfn_limit(b); bfn++) {
            tlb_set(d, bfn, 0);
        }
        d->ctx->nr_devices--;
    }
    xen_pviommu_core_finalize(&b->core);
    g_assert_cmpuint(b->backend.total, ==, 0);
    g_assert_cmpuint(b->core.mapped_frames, ==, 0);
    g_assert_cmpuint(b->core.pending_frames, ==, 0);
    g_assert_cmpuint(b->core.nr_pending_runs, ==, 0);
    g_assert_cmpuint(b->core.budget.nodes, ==, 0);
    for (unsigned i = 0; i < NR_DEVICES; i++) {
        g_array_unref(b->dev[i].reserved);
        g_free(b->dev[i].tlb);
    }
    g_free(b);
}

void bench_reserve(Bench *b, unsigned i, uint64_t bfn, uint64_t nr,
                   uint32_t flags)
{
    Device *d = &b->dev[i];

    g_assert_true(bfn_table_range_empty(d->ctx->table, bfn, nr));
    xen_pviommu_reserved_add(d->reserved, bfn, nr, flags);
    update_reserved(b, d->ctx);
}

/* What is quick to compare */
static void check_books(Bench *b)
{
    const XenPVIOMMUCore *core = &b->core;
    unsigned devices[MAX_CONTEXTS] = { 0 };

    g_assert_cmpuint(core->mapped_frames, ==, b->model.mapped);
    g_assert_cmpuint(core->pending_frames, ==, b->model.pending);
    g_assert_cmpuint(b->backend.total, ==, b->model.mapped + b->model.pending);
    g_assert_cmpuint(core->nr_pending_runs, <=, core->pending_frames);
    g_assert(core->identity == b->model.identity);
    g_assert_cmpuint(b->enabled, ==, b->model.enabled);
    for (unsigned i = 0; i < XEN_PVIOMMU_NR_EVENT_COUNTERS; i++) {
        g_assert_cmpuint(core->counter[i], ==, b->model.counter[i]);
    }
    for (unsigned i = 0; i < NR_DEVICES; i++) {
        g_assert(b->dev[i].ctx == core->contexts[b->model.device_ctx[i]]);
        devices[b->model.device_ctx[i]]++;
    }
    for (unsigned i = 0; i < core->limits.max_contexts; i++) {
        g_assert(!!core->contexts[i] == b->model.ctx[i].live);
        if (core->contexts[i]) {
            const XenPVIOMMUQueue *queue = core->contexts[i]->queue;
            const XenPVIOMMUQueue *expected = &b->model.ctx[i].queue;

            g_assert_cmpuint(core->contexts[i]->nr_devices, ==, devices[i]);
            g_assert_cmpuint(queue ? queue->nr_ops : 0, ==, expected->nr_ops);
            g_assert_cmphex(queue ? queue->addr : 0, ==, expected->addr);
        }
    }
}

/* After a flush devices have what is mapped, and nothing else. */
static void check_flushed(Bench *b, unsigned id, uint64_t bfn, uint64_t nr)
{
    for (unsigned i = 0; i < NR_DEVICES; i++) {
        for (uint64_t j = bfn; b->model.device_ctx[i] == id && j < bfn + nr;
             j++) {
            g_assert_cmphex(b->dev[i].tlb[j], ==, b->model.ctx[id].map[j]);
        }
    }
}

/* @queue: of context @id, else of an array */
static void execute(Bench *b, bool queue, uint16_t id, struct xen_iommu_op *op)
{
    int ret;

    if (!queue) {
        xen_pviommu_op_execute(&b->core, op);
        return;
    }
    ret = xen_pviommu_op_execute_queued(&b->core, b->core.contexts[id], op);
    g_assert_cmpint(ret, ==, (int32_t)le32_to_cpu(op->status));
}

static int run(Bench *b, bool queue, uint16_t id, struct xen_iommu_op *op)
{
    struct xen_iommu_reserved_range ranges[STORE_SIZE / 16];
    struct xen_iommu_op expected = *op, in = *op;
    uint16_t code = le16_to_cpu(op->op);
    uint64_t map_calls = b->map_calls, unmap_calls = b->unmap_calls;
    bool pressed;
    int ret;

    if (!b->modelled) {
        execute(b, queue, id, op);
        return (int32_t)le32_to_cpu(op->status);
    }
    memset(b->stored, 0xa5, sizeof(b->stored));
    /*
     * When nodes run short is not a matter of the specification: where they
     * may, the core is asked first, and is right if they do.
     */
    pressed = (code == XEN_IOMMUOP_map || code == XEN_IOMMUOP_alloc_context) &&
              b->core.budget.nodes +
              2 * (DIV_ROUND_UP(b->core.limits.bfn_bits, 9) - 1) >
              b->core.budget.max_nodes;
    if (pressed) {
        execute(b, queue, id, op);
        b->out_of_nodes = (int32_t)le32_to_cpu(op->status) ==
                          -XEN_IOMMU_ENOMEM;
    }
    if (pressed && (int32_t)le32_to_cpu(op->status) == -XEN_IOMMU_EAGAIN) {
        /* The page is on its way now, and would not give that answer again. */
        ret = -XEN_IOMMU_EAGAIN;
    } else if (queue && !model_queues(id, &in)) {
        ret = -XEN_IOMMU_EINVAL;
    } else {
        ret = model_run(b, &expected, ranges);
    }
    b->out_of_nodes = false;
    expected.status = cpu_to_le32(ret);
    b->model.counter[XEN_PVIOMMU_COUNTER_OPS]++;
    b->model.counter[XEN_PVIOMMU_COUNTER_ERRORS] += !!ret;

    if (!pressed) {
        execute(b, queue, id, op);
    }
    if (!ret && !op->status && code == XEN_IOMMUOP_alloc_context) {
        uint16_t new_id = le16_to_cpu(op->u.context.ctx);

        g_assert_cmpuint(new_id, >, 0);
        g_assert_cmpuint(new_id, <, b->core.limits.max_contexts);
        model_context_new(b, new_id);
        expected.u.context.ctx = op->u.context.ctx;
    }
    if (memcmp(op, &expected, sizeof(*op))) {
        g_test_message("op %u flags 0x%x: status %d, not %d", code,
                       le16_to_cpu(in.flags),
                       (int32_t)le32_to_cpu(op->status), ret);
    }
    g_assert_cmpmem(op, sizeof(*op), &expected, sizeof(expected));
    check_books(b);

    if (code == XEN_IOMMUOP_query_reserved && !ret) {
        uint32_t nr = le32_to_cpu(op->u.query_reserved.nr_entries);

        if (nr) {
            uint64_t addr = le64_to_cpu(op->u.query_reserved.ranges);

            g_assert_cmpmem(b->stored + (addr - STORE_BASE),
                            nr * sizeof(ranges[0]),
                            ranges, nr * sizeof(ranges[0]));
        }
    } else {
        for (unsigned i = 0; i < STORE_SIZE; i++) {
            g_assert_cmphex(b->stored[i], ==, 0xa5);
        }
    }
    if (code == XEN_IOMMUOP_flush && !ret) {
        bool all = le64_to_cpu(op->u.flush.bfn) == UINT64_MAX;
        uint32_t nr = le32_to_cpu(op->u.flush.nr_frames);

        check_flushed(b, le16_to_cpu(op->u.flush.ctx),
                      all ? 0 : le64_to_cpu(op->u.flush.bfn),
                      all ? bfn_limit(b) : nr ? nr : 1);
    }
    /* flush is the only one that flushes. */
    if (code == XEN_IOMMUOP_unmap) {
        g_assert_cmpuint(b->unmap_calls, ==, unmap_calls);
    }
    g_assert_cmpuint(b->map_calls, ==,
                     map_calls + (code == XEN_IOMMUOP_map && !ret));
    return ret;
}

int bench_op(Bench *b, struct xen_iommu_op *op)
{
    return run(b, false, 0, op);
}

int bench_queued_op(Bench *b, uint16_t id, struct xen_iommu_op *op)
{
    return run(b, true, id, op);
}

void bench_invalidate(Bench *b, uint64_t gfn, uint64_t nr)
{
    Model *m = &b->model;

    for (unsigned id = 0; b->modelled && id < MAX_CONTEXTS; id++) {
        ModelContext *c = &m->ctx[id];

        for (uint64_t bfn = 0; c->live && bfn < bfn_limit(b); bfn++) {
            if (c->map[bfn] && frame_gfn(c->map[bfn]) >= gfn &&
                frame_gfn(c->map[bfn]) < gfn + nr) {
                c->map[bfn] = 0;
                m->mapped--;
                m->counter[XEN_PVIOMMU_COUNTER_INVALIDATED]++;
            }
        }
        for (guint i = 0; c->live && i < c->pending->len; ) {
            uint64_t g = frame_gfn(g_array_index(c->pending, Pending, i).frame);

            if (g >= gfn && g < gfn + nr) {
                g_array_remove_index_fast(c->pending, i);
                m->pending--;
            } else {
                i++;
            }
        }
    }
    xen_pviommu_core_invalidate(&b->core, gfn, nr);
    if (b->modelled) {
        check_books(b);
    }
    for (uint64_t g = gfn; g < MIN(gfn + nr, NR_GFNS); g++) {
        g_assert_cmpuint(b->backend.ro[g] + b->backend.rw[g], ==, 0);
        for (unsigned i = 0; i < NR_DEVICES; i++) {
            g_assert_cmpuint(b->dev[i].ro[g] + b->dev[i].rw[g], ==, 0);
        }
    }
}

void bench_reset(Bench *b)
{
    for (unsigned i = 0; i < MAX_CONTEXTS; i++) {
        if (b->model.ctx[i].live) {
            model_context_free(b, i);
        }
    }
    memset(b->model.counter, 0, sizeof(b->model.counter));
    memset(b->model.device_ctx, 0, sizeof(b->model.device_ctx));
    b->model.identity = b->core.premap;
    model_context_new(b, 0);
    xen_pviommu_core_reset(&b->core);
    g_assert_cmpuint(b->core.accepted, ==, 0);
    check_books(b);
    g_assert_cmpuint(b->backend.total, ==, 0);
}

typedef struct Seen {
    Bench *b;
    uint64_t frames;
} Seen;

static void check_indexed(void *opaque, uint16_t ctx, uint64_t bfn,
                          uint64_t gfn, uint64_t nr)
{
    Seen *seen = opaque;
    const ModelContext *c = &seen->b->model.ctx[ctx];

    g_assert_true(c->live);
    for (uint64_t i = 0; i < nr; i++) {
        g_assert_cmphex(c->map[bfn + i] & ~FRAME_READONLY, ==,
                        frame_new(gfn + i, false));
    }
    seen->frames += nr;
}

static void check_context(Bench *b, unsigned id, uint32_t *ro, uint32_t *rw)
{
    const ModelContext *c = &b->model.ctx[id];
    g_autofree bool *waits = g_new0(bool, bfn_limit(b));

    for (uint64_t bfn = 0; bfn < bfn_limit(b); bfn++) {
        Frame f = c->map[bfn];
        BfnTranslation tr;

        RCU_READ_LOCK_GUARD();
        g_assert(bfn_table_translate(b->core.contexts[id]->table, bfn, &tr) ==
                 !!f);
        if (f) {
            g_assert_cmphex(tr.gfn, ==, frame_gfn(f));
            g_assert(tr.readonly == frame_readonly(f));
            (tr.readonly ? ro : rw)[tr.gfn]++;
        }
    }
    for (guint i = 0; i < c->pending->len; i++) {
        const Pending *p = &g_array_index(c->pending, Pending, i);

        (frame_readonly(p->frame) ? ro : rw)[frame_gfn(p->frame)]++;
        waits[p->bfn] = true;
    }
    /* A device has all that is mapped, and maybe what waits for a flush. */
    for (unsigned i = 0; i < NR_DEVICES; i++) {
        const Device *d = &b->dev[i];

        if (b->model.device_ctx[i] != id) {
            continue;
        }
        for (uint64_t bfn = 0; bfn < bfn_limit(b); bfn++) {
            if (c->map[bfn]) {
                g_assert_cmphex(d->tlb[bfn], ==, c->map[bfn]);
            } else if (d->tlb[bfn]) {
                g_assert_true(waits[bfn]);
            }
        }
    }
}

void bench_check(Bench *b)
{
    g_autofree uint32_t *ro = g_new0(uint32_t, NR_GFNS);
    g_autofree uint32_t *rw = g_new0(uint32_t, NR_GFNS);
    Seen seen = { .b = b };

    xen_pviommu_core_check(&b->core);
    if (!b->modelled) {
        return;
    }
    check_books(b);
    for (unsigned id = 0; id < b->core.limits.max_contexts; id++) {
        if (b->model.ctx[id].live) {
            check_context(b, id, ro, rw);
        }
    }
    for (unsigned gfn = 0; gfn < NR_GFNS; gfn++) {
        g_assert_cmpuint(b->backend.ro[gfn], ==, ro[gfn]);
        g_assert_cmpuint(b->backend.rw[gfn], ==, rw[gfn]);
        check_held(&b->backend, gfn);
    }
    gfn_index_foreach(b->core.gfn_index, 0, 1ull << GFN_INDEX_BITS,
                      check_indexed, &seen);
    g_assert_cmpuint(seen.frames, ==, b->model.mapped);
}

uint64_t bench_page_refs(const Bench *b, uint64_t gfn)
{
    return b->backend.ro[gfn] + b->backend.rw[gfn];
}
