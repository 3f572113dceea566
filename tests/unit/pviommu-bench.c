/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The core on a bench: what it does is compared with the model, and what is
 * left with all that the machine has
 */

#include "qemu/osdep.h"
#include "qemu/bswap.h"
#include "../../hw/xen/pviommu/core/pending.h"
#include "pviommu-machine.h"
#include "pviommu-model.h"

Bench *bench_new(const BenchConfig *config)
{
    Bench *b = g_new0(Bench, 1);
    XenPVIOMMUCore *core = &b->core;

    b->modelled = config->bfn_bits <= MODEL_MAX_BITS;
    b->ops = machine_backend_ops;
    b->ops.ops = config->ops ? config->ops : UINT32_MAX;
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
    core->identity_contexts = !config->no_identity;
    core->backend_ops = &b->ops;
    core->backend = &b->backend;
    core->listener_ops = &machine_listener_ops;
    core->attachment_ops = &machine_attachment_ops;
    core->memory_ops = &machine_memory_ops;
    core->client = b;
    g_assert_true(xen_pviommu_core_init(core));
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
        d->tlb = b->modelled ? g_new0(Frame, bench_bfn_limit(b)) : NULL;
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
        for (uint64_t bfn = 0; b->modelled && bfn < bench_bfn_limit(b); bfn++) {
            machine_tlb_set(d, bfn, 0);
        }
        d->ctx->nr_devices--;
    }
    xen_pviommu_core_finalize(&b->core);
    g_assert_cmpuint(b->backend.total, ==, 0);
    g_assert_cmpuint(b->core.mapped_frames, ==, 0);
    g_assert_cmpuint(b->core.pending_frames, ==, 0);
    g_assert_cmpuint(b->core.pending.nr, ==, 0);
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
    machine_update_reserved(b, d->ctx);
}

/* What is quick to compare */
static void check_books(Bench *b)
{
    const XenPVIOMMUCore *core = &b->core;
    unsigned devices[MAX_CONTEXTS] = { 0 };

    g_assert_cmpuint(core->mapped_frames, ==, b->model.mapped);
    g_assert_cmpuint(core->pending_frames, ==, b->model.pending);
    g_assert_cmpuint(b->backend.total, ==, b->model.mapped + b->model.pending);
    g_assert_cmpuint(core->pending.nr, <=, core->pending_frames);
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

/* What the model has to know of the core's state before an operation. */
static void note_before(Bench *b)
{
    b->runs_before = b->core.pending.nr;
    for (unsigned id = 0; b->modelled && id < b->core.limits.max_contexts;
         id++) {
        const XenPVIOMMUContext *ctx = b->core.contexts[id];

        b->flushes_all[id] = ctx &&
                             ctx->pending.nr > XEN_PVIOMMU_PENDING_EXACT;
    }
}

/*
 * A call: as in a queue of context @id with @queue, else in an array. False if
 * the operation is unfinished. Each takes a bounded time.
 */
static bool execute_once(Bench *b, bool queue, uint16_t id,
                         struct xen_iommu_op *op)
{
    uint64_t before = xen_pviommu_core_work(&b->core), work;
    bool frees = le16_to_cpu(op->op) == XEN_IOMMUOP_free_context;
    bool finished;

    note_before(b);
    if (queue) {
        int ret = xen_pviommu_op_execute_queued(&b->core, b->core.contexts[id],
                                                op);

        finished = ret != XEN_PVIOMMU_UNFINISHED;
        g_assert(!finished || ret == (int32_t)le32_to_cpu(op->status));
    } else {
        finished = xen_pviommu_op_execute(&b->core, op);
    }
    work = xen_pviommu_core_work(&b->core) - before;
    b->most_work = MAX(b->most_work, work);
    g_assert_cmpuint(work, <=, XEN_PVIOMMU_OP_WORK);
    b->parts += !finished || (frees && (int32_t)le32_to_cpu(op->status) ==
                                       -XEN_IOMMU_EAGAIN);
    return finished;
}

/*
 * @op was unfinished, and is as it was but for an unmap that came some way:
 * that is an unmap by itself.
 */
static void check_part(Bench *b, const struct xen_iommu_op *before,
                       const struct xen_iommu_op *op)
{
    struct xen_iommu_op part = *before, rest = *before;
    uint32_t nr = le32_to_cpu(before->u.unmap.nr_frames);
    uint32_t left = le32_to_cpu(op->u.unmap.nr_frames);
    uint64_t bfn = le64_to_cpu(before->u.unmap.bfn);

    if (!memcmp(before, op, sizeof(*op))) {
        return;
    }
    g_assert_cmpuint(le16_to_cpu(op->op), ==, XEN_IOMMUOP_unmap);
    g_assert_cmpuint(left, >, 0);
    g_assert_cmpuint(left, <, nr);
    /* That many frames are as many runs at the most. */
    g_assert_cmpuint(nr - left, >=, XEN_IOMMU_UNMAP_RUNS);
    rest.u.unmap.bfn = cpu_to_le64(bfn + nr - left);
    rest.u.unmap.nr_frames = op->u.unmap.nr_frames;
    g_assert_cmpmem(op, sizeof(*op), &rest, sizeof(rest));
    if (b->modelled) {
        part.u.unmap.nr_frames = cpu_to_le32(nr - left);
        b->any_room = true;
        g_assert_cmpint(model_run(b, &part, NULL), ==, 0);
        b->any_room = false;
        /* It counts when it is finished. */
        b->model.counter[XEN_PVIOMMU_COUNTER_UNMAPS]--;
        check_books(b);
    }
}

/* Until it is finished. @in: what was executed then */
static void execute(Bench *b, bool queue, uint16_t id, struct xen_iommu_op *op,
                    struct xen_iommu_op *in)
{
    unsigned tries = 0;

    for (*in = *op; !execute_once(b, queue, id, op); *in = *op) {
        check_part(b, in, op);
        g_assert_cmpuint(++tries, <, 1000000);
    }
}

/* An unmap in @b may notify listeners, as they were not of so much. */
static bool much_unnotified(const Bench *b)
{
    for (unsigned id = 0; id < b->core.limits.max_contexts; id++) {
        const XenPVIOMMUContext *ctx = b->core.contexts[id];

        if (ctx && ctx->pending.nr_tail + XEN_IOMMU_UNMAP_RUNS >
                   XEN_PVIOMMU_UNNOTIFIED_MAX) {
            return true;
        }
    }
    return false;
}

static int run(Bench *b, bool queue, uint16_t id, struct xen_iommu_op *op)
{
    struct xen_iommu_reserved_range ranges[STORE_SIZE / 16];
    struct xen_iommu_op expected, in = *op;
    uint16_t code = le16_to_cpu(op->op);
    uint64_t map_calls = b->map_calls, unmap_calls = b->unmap_calls;
    bool pressed, first, notifies;
    unsigned parts = b->parts;
    int ret;

    if (!b->modelled) {
        execute(b, queue, id, op, &in);
        return (int32_t)le32_to_cpu(op->status);
    }
    memset(b->stored, 0xa5, sizeof(b->stored));
    notifies = much_unnotified(b);
    note_before(b);
    /*
     * When memory runs short is not a matter of the specification: where it
     * may, the core is asked first, and is right if it does. So it is with the
     * parts of an unmap.
     */
    pressed = b->pressed && (code == XEN_IOMMUOP_map ||
                             code == XEN_IOMMUOP_unmap ||
                             code == XEN_IOMMUOP_alloc_context);
    first = pressed || code == XEN_IOMMUOP_unmap;
    if (first) {
        execute(b, queue, id, op, &in);
        b->status = (int32_t)le32_to_cpu(op->status);
        b->out_of_memory = pressed && b->status == -XEN_IOMMU_ENOMEM;
    }
    expected = in;
    if (pressed && b->status == -XEN_IOMMU_EAGAIN) {
        /* The page is on its way now, and would not give that answer again. */
        ret = -XEN_IOMMU_EAGAIN;
        b->model.enabled += b->model.identity;
        b->model.identity = false;
    } else if (queue && !model_queues(id, &in)) {
        ret = -XEN_IOMMU_EINVAL;
    } else {
        ret = model_run(b, &expected, ranges);
    }
    b->out_of_memory = false;
    expected.status = cpu_to_le32(ret);
    b->model.counter[XEN_PVIOMMU_COUNTER_OPS]++;
    b->model.counter[XEN_PVIOMMU_COUNTER_ERRORS] += !!ret;

    if (!first) {
        execute(b, queue, id, op, &in);
    }
    if (!ret && !op->status && code == XEN_IOMMUOP_alloc_context) {
        uint16_t new_id = le16_to_cpu(op->u.context.ctx);

        g_assert_cmpuint(new_id, >, 0);
        g_assert_cmpuint(new_id, <, b->core.limits.max_contexts);
        model_context_new(b, new_id);
        b->model.ctx[new_id].identity = le16_to_cpu(in.flags) & 1;
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
                      all ? bench_bfn_limit(b) : nr ? nr : 1);
    }
    /* flush is the only one that flushes. */
    if (code == XEN_IOMMUOP_unmap && !notifies && b->parts == parts) {
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

/* How often @frame is pending at @bfn */
static unsigned core_pending(const XenPVIOMMUContext *ctx, uint64_t bfn,
                             Frame frame)
{
    XenPVIOMMUPendingIter it;
    unsigned n = 0;
    BfnRun run;

    xen_pviommu_pending_visit(&it, ctx);
    while (xen_pviommu_pending_next(&it, &run)) {
        n += bfn >= run.bfn && bfn < run.bfn + run.nr &&
             frame == frame_new(run.gfn + (bfn - run.bfn), run.readonly);
    }
    return n;
}

static unsigned model_pending(const ModelContext *c, const Pending *p)
{
    unsigned n = 0;

    for (guint i = 0; i < c->pending->len; i++) {
        n += !memcmp(&g_array_index(c->pending, Pending, i), p, sizeof(*p));
    }
    return n;
}

static void model_lose_pending(Bench *b, unsigned id)
{
    ModelContext *c = &b->model.ctx[id];

    for (guint i = 0; i < c->pending->len; ) {
        const Pending *p = &g_array_index(c->pending, Pending, i);

        if (model_pending(c, p) > core_pending(b->core.contexts[id], p->bfn,
                                               p->frame)) {
            g_array_remove_index_fast(c->pending, i);
            b->model.pending--;
        } else {
            i++;
        }
    }
}

/*
 * What the core does not map any more, and does not hold, for want of memory to
 * split it
 */
static void model_lose(Bench *b)
{
    Model *m = &b->model;

    for (unsigned id = 0; id < MAX_CONTEXTS; id++) {
        ModelContext *c = &m->ctx[id];

        for (uint64_t bfn = 0; c->live && bfn < bench_bfn_limit(b); bfn++) {
            if (c->map[bfn] &&
                bfn_table_range_empty(b->core.contexts[id]->table, bfn, 1)) {
                c->map[bfn] = 0;
                m->mapped--;
                m->counter[XEN_PVIOMMU_COUNTER_INVALIDATED]++;
            }
        }
        if (c->live && m->pending != b->core.pending_frames) {
            model_lose_pending(b, id);
        }
    }
}

void bench_invalidate(Bench *b, uint64_t gfn, uint64_t nr)
{
    bool all = b->core.pending.nr > XEN_PVIOMMU_PENDING_EXACT;
    Model *m = &b->model;

    for (unsigned id = 0; b->modelled && id < MAX_CONTEXTS; id++) {
        ModelContext *c = &m->ctx[id];

        for (uint64_t bfn = 0; c->live && bfn < bench_bfn_limit(b); bfn++) {
            if (c->map[bfn] && frame_gfn(c->map[bfn]) >= gfn &&
                frame_gfn(c->map[bfn]) < gfn + nr) {
                c->map[bfn] = 0;
                m->mapped--;
                m->counter[XEN_PVIOMMU_COUNTER_INVALIDATED]++;
            }
        }
        for (guint i = 0; c->live && i < c->pending->len; ) {
            uint64_t g = frame_gfn(g_array_index(c->pending, Pending, i).frame);

            if (all || (g >= gfn && g < gfn + nr)) {
                g_array_remove_index_fast(c->pending, i);
                m->pending--;
            } else {
                i++;
            }
        }
    }
    xen_pviommu_core_invalidate(&b->core, gfn, nr);
    if (b->modelled && b->may_lose) {
        model_lose(b);
    }
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

static bool check_indexed(void *opaque, uint16_t ctx, uint64_t bfn,
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
    return true;
}

static void check_context(Bench *b, unsigned id, uint32_t *ro, uint32_t *rw)
{
    const ModelContext *c = &b->model.ctx[id];
    g_autofree bool *waits = g_new0(bool, bench_bfn_limit(b));

    for (uint64_t bfn = 0; bfn < bench_bfn_limit(b); bfn++) {
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
        for (uint64_t bfn = 0; bfn < bench_bfn_limit(b); bfn++) {
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
        machine_check_held(&b->backend, gfn);
    }
    gfn_index_foreach(b->core.gfn_index, 0, 1ull << GFN_INDEX_BITS,
                      check_indexed, &seen);
    g_assert_cmpuint(seen.frames, ==, b->model.mapped);
}

uint64_t bench_page_refs(const Bench *b, uint64_t gfn)
{
    return b->backend.ro[gfn] + b->backend.rw[gfn];
}
