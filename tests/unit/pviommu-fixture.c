/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The core in a test: what it does is compared with the model, and what is
 * left with all that the machine has
 */

#include "qemu/osdep.h"
#include "qemu/bswap.h"
#include "qemu/cutils.h"
#include "../../hw/xen/pviommu/core/pending.h"
#include "pviommu-machine.h"
#include "pviommu-model.h"

const FixtureConfig config_small = {
    .bfn_bits = 12,
    .max_contexts = 4,
    .max_mappings = 10000,
    .premap = true,
};

const FixtureConfig config_large = {
    .bfn_bits = 40,
    .max_contexts = 4,
    .max_mappings = 1ull << 40,
};

/* The same parts of the memory, whatever its size */
static Kind first_kind(unsigned gfn)
{
    unsigned part = gfn * (4096 / NR_GFNS);

    return part >= 160 && part < 192 ? KIND_MMIO :
           part >= 192 && part < 256 ? KIND_ROM :
           part >= 3000 && part < 3100 ? KIND_ABSENT :
           part >= 3100 && part < 3132 ? KIND_BAR :
           part >= 3900 ? KIND_ABSENT : KIND_RAM;
}

Fixture *fixture_new(const FixtureConfig *config)
{
    Fixture *f = g_new0(Fixture, 1);
    XenPVIOMMUCore *core = &f->core;

    f->modelled = config->bfn_bits <= MODEL_MAX_BITS;
    f->ops = machine_backend_ops;
    f->ops.ops = config->ops ? config->ops : UINT32_MAX;
    f->backend.fixture = f;
    for (unsigned i = 0; i < NR_GFNS; i++) {
        f->backend.kind[i] = first_kind(i);
    }
    core->limits.bfn_bits = config->bfn_bits;
    core->limits.max_contexts = config->max_contexts;
    core->limits.max_mappings = config->max_mappings;
    core->limits.max_irqs = config->max_irqs;
    core->control = !config->no_control;
    core->premap = config->premap;
    core->queues = !config->no_queues;
    core->identity_contexts = !config->no_identity;
    core->mmio = !config->no_mmio;
    core->backend_ops = &f->ops;
    core->backend = &f->backend;
    core->listener_ops = &machine_listener_ops;
    core->attachment_ops = &machine_attachment_ops;
    core->memory_ops = &machine_memory_ops;
    core->client = f;
    g_assert_true(xen_pviommu_core_init(core));
    core->accepted = xen_pviommu_core_features(core);
    for (unsigned i = 0; i < config->nr_reserved; i++) {
        const XenPVIOMMUReserved *r = &config->reserved[i];

        xen_pviommu_reserved_add(core->reserved, r->bfn, r->nr, r->flags);
    }
    for (unsigned i = 0; i < NR_DEVICES; i++) {
        Device *d = &f->dev[i];

        d->sbdf = i << 8 | i << 3;
        d->ctx = core->contexts[XEN_IOMMU_CTX_DEFAULT];
        d->ctx->nr_devices++;
        d->reserved = xen_pviommu_reserved_new();
        d->tlb = f->modelled ? g_new0(Frame, fixture_bfn_limit(f)) : NULL;
    }
    f->model.identity = config->premap;
    if (f->modelled) {
        model_context_new(f, 0);
    }
    return f;
}

void fixture_free(Fixture *f)
{
    if (f->modelled) {
        fixture_check(f);
        for (unsigned i = 0; i < MAX_CONTEXTS; i++) {
            if (f->model.ctx[i].live) {
                model_context_free(f, i);
            }
        }
    }
    for (unsigned i = 0; i < NR_DEVICES; i++) {
        Device *d = &f->dev[i];

        /* Unplugged */
        for (uint64_t bfn = 0; f->modelled && bfn < fixture_bfn_limit(f);
             bfn++) {
            if (d->tlb[bfn]) {
                machine_tlb_set(d, bfn, 0);
            }
        }
        d->ctx->nr_devices--;
    }
    xen_pviommu_core_finalize(&f->core);
    g_assert_cmpuint(f->backend.total, ==, 0);
    g_assert_cmpuint(f->core.mapped_frames, ==, 0);
    g_assert_cmpuint(f->core.pending_frames, ==, 0);
    g_assert_cmpuint(f->core.pending.nr, ==, 0);
    g_assert_cmpuint(f->core.budget.nodes, ==, 0);
    for (unsigned i = 0; i < NR_DEVICES; i++) {
        g_array_unref(f->dev[i].reserved);
        g_free(f->dev[i].tlb);
    }
    g_free(f);
}

void fixture_reserve(Fixture *f, unsigned i, uint64_t bfn, uint64_t nr,
                     uint32_t flags)
{
    Device *d = &f->dev[i];

    g_assert_true(bfn_table_range_empty(d->ctx->table, bfn, nr));
    xen_pviommu_reserved_add(d->reserved, bfn, nr, flags);
    machine_update_reserved(f, d->ctx);
}

/* Each entry, and whose it is */
static void check_irqs(Fixture *f)
{
    const XenPVIOMMUIrqTable *t = &f->core.irqs;
    unsigned owned[NR_DEVICES] = { 0 };

    g_assert(t->enabled == f->model.irqs_enabled);
    g_assert_cmpuint(t->size, <=, MAX_IRQS);
    for (unsigned i = 0; i < t->size; i++) {
        const XenPVIOMMUIrq *e = &t->entries[i];
        const ModelIrq *m = &f->model.irq[i];

        g_assert(e->owner == (m->owner ? &f->dev[m->owner - 1].irqs : NULL));
        g_assert_cmpuint(e->index, ==, m->index);
        g_assert_cmphex(e->flags, ==, m->flags);
        g_assert_cmphex(e->dest, ==, m->dest);
        g_assert_cmphex(e->vector, ==, m->vector);
        g_assert_cmpuint(e->delivery, ==, m->delivery);
        if (m->owner) {
            owned[m->owner - 1]++;
        }
    }
    for (unsigned i = 0; i < NR_DEVICES; i++) {
        g_assert_cmpuint(f->dev[i].irqs.nr, ==, owned[i]);
        g_assert(f->dev[i].irqs.direct == f->model.direct[i]);
    }
}

/* What is quick to compare */
static void check_books(Fixture *f)
{
    const XenPVIOMMUCore *core = &f->core;
    unsigned devices[MAX_CONTEXTS] = { 0 };

    g_assert_cmpuint(core->mapped_frames, ==, f->model.mapped);
    g_assert_cmpuint(core->pending_frames, ==, f->model.pending);
    g_assert_cmpuint(f->backend.total, ==, f->model.mapped + f->model.pending);
    g_assert_cmpuint(core->pending.nr, <=, core->pending_frames);
    g_assert(core->identity == f->model.identity);
    g_assert_cmpuint(f->enabled, ==, f->model.enabled);
    for (unsigned i = 0; i < XEN_PVIOMMU_NR_EVENT_COUNTERS; i++) {
        g_assert_cmpuint(core->counter[i], ==, f->model.counter[i]);
    }
    for (unsigned i = 0; i < NR_DEVICES; i++) {
        g_assert(f->dev[i].ctx == core->contexts[f->model.device_ctx[i]]);
        devices[f->model.device_ctx[i]]++;
    }
    check_irqs(f);
    for (unsigned i = 0; i < core->limits.max_contexts; i++) {
        g_assert(!!core->contexts[i] == f->model.ctx[i].live);
        if (core->contexts[i]) {
            const XenPVIOMMUQueue *queue = core->contexts[i]->queue;
            const XenPVIOMMUQueue *expected = &f->model.ctx[i].queue;

            g_assert_cmpuint(core->contexts[i]->nr_devices, ==, devices[i]);
            g_assert_cmpuint(queue ? queue->nr_ops : 0, ==, expected->nr_ops);
            g_assert_cmphex(queue ? queue->addr : 0, ==, expected->addr);
        }
    }
}

/* After a flush devices have what is mapped, and nothing else. */
static void check_flushed(Fixture *f, unsigned id, uint64_t bfn, uint64_t nr)
{
    for (unsigned i = 0; i < NR_DEVICES; i++) {
        if (f->model.device_ctx[i] == id) {
            g_assert_cmpmem(&f->dev[i].tlb[bfn], nr * sizeof(Frame),
                            &f->model.ctx[id].map[bfn], nr * sizeof(Frame));
        }
    }
}

/* What the model has to know of the core's state before an operation. */
static void note_before(Fixture *f)
{
    f->runs_before = f->core.pending.nr;
    for (unsigned id = 0; f->modelled && id < f->core.limits.max_contexts;
         id++) {
        const XenPVIOMMUContext *ctx = f->core.contexts[id];

        f->flushes_all[id] = ctx &&
                             ctx->pending.nr > XEN_PVIOMMU_PENDING_EXACT;
    }
}

/*
 * A call: as in a queue of context @id with @queue, else in an array. False if
 * the operation is unfinished. Each takes a bounded time.
 */
static bool execute_once(Fixture *f, bool queue, uint16_t id,
                         struct xen_iommu_op *op)
{
    uint64_t before = xen_pviommu_core_work(&f->core), work;
    bool frees = le16_to_cpu(op->op) == XEN_IOMMUOP_free_context;
    bool finished;

    note_before(f);
    if (queue) {
        int ret = xen_pviommu_op_execute_queued(&f->core, f->core.contexts[id],
                                                op);

        finished = ret != XEN_PVIOMMU_UNFINISHED;
        g_assert(!finished || ret == (int32_t)le32_to_cpu(op->status));
    } else {
        finished = xen_pviommu_op_execute(&f->core, op);
    }
    work = xen_pviommu_core_work(&f->core) - before;
    f->most_work = MAX(f->most_work, work);
    g_assert_cmpuint(work, <=, XEN_PVIOMMU_OP_WORK);
    f->parts += !finished || (frees && (int32_t)le32_to_cpu(op->status) ==
                                       -XEN_IOMMU_EAGAIN);
    return finished;
}

/*
 * @op was unfinished, and is as it was but for an unmap that came some way:
 * that is an unmap by itself.
 */
static void check_part(Fixture *f, const struct xen_iommu_op *before,
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
    if (f->modelled) {
        part.u.unmap.nr_frames = cpu_to_le32(nr - left);
        f->any_room = true;
        g_assert_cmpint(model_run(f, &part, NULL), ==, 0);
        f->any_room = false;
        /* It counts when it is finished. */
        f->model.counter[XEN_PVIOMMU_COUNTER_UNMAPS]--;
        check_books(f);
    }
}

/* Until it is finished. @in: what was executed then */
static void execute(Fixture *f, bool queue, uint16_t id,
                    struct xen_iommu_op *op, struct xen_iommu_op *in)
{
    unsigned tries = 0;

    for (*in = *op; !execute_once(f, queue, id, op); *in = *op) {
        check_part(f, in, op);
        g_assert_cmpuint(++tries, <, 1000000);
    }
}

/* An unmap in @f may notify listeners, as they were not of so much. */
static bool much_unnotified(const Fixture *f)
{
    for (unsigned id = 0; id < f->core.limits.max_contexts; id++) {
        const XenPVIOMMUContext *ctx = f->core.contexts[id];

        if (ctx && ctx->pending.nr_tail + XEN_IOMMU_UNMAP_RUNS >
                   XEN_PVIOMMU_UNNOTIFIED_MAX) {
            return true;
        }
    }
    return false;
}

static int run(Fixture *f, bool queue, uint16_t id, struct xen_iommu_op *op)
{
    struct xen_iommu_reserved_range ranges[STORE_SIZE / 16];
    struct xen_iommu_op expected, in = *op;
    uint16_t code = le16_to_cpu(op->op);
    uint64_t map_calls = f->map_calls, unmap_calls = f->unmap_calls;
    bool pressed, first, notifies;
    unsigned parts = f->parts;
    int ret;

    if (!f->modelled) {
        execute(f, queue, id, op, &in);
        return (int32_t)le32_to_cpu(op->status);
    }
    memset(f->stored, 0xa5, sizeof(f->stored));
    notifies = much_unnotified(f);
    note_before(f);
    /*
     * When memory runs short is not a matter of the specification: where it
     * may, the core is asked first, and is right if it does. So it is with the
     * parts of an unmap.
     */
    pressed = f->pressed && (code == XEN_IOMMUOP_map ||
                             code == XEN_IOMMUOP_unmap ||
                             code == XEN_IOMMUOP_alloc_context);
    first = pressed || code == XEN_IOMMUOP_unmap;
    if (first) {
        execute(f, queue, id, op, &in);
        f->status = (int32_t)le32_to_cpu(op->status);
        f->out_of_memory = pressed && f->status == -XEN_IOMMU_ENOMEM;
    }
    expected = in;
    if (pressed && f->status == -XEN_IOMMU_EAGAIN) {
        /* The page is on its way now, and would not give that answer again. */
        ret = -XEN_IOMMU_EAGAIN;
        f->model.enabled += f->model.identity;
        f->model.identity = false;
    } else if (queue && !model_queues(id, &in)) {
        ret = -XEN_IOMMU_EINVAL;
    } else {
        ret = model_run(f, &expected, ranges);
    }
    f->out_of_memory = false;
    expected.status = cpu_to_le32(ret);
    f->model.counter[XEN_PVIOMMU_COUNTER_OPS]++;
    f->model.counter[XEN_PVIOMMU_COUNTER_ERRORS] += !!ret;

    if (!first) {
        execute(f, queue, id, op, &in);
    }
    if (!ret && !op->status && code == XEN_IOMMUOP_alloc_context) {
        uint16_t new_id = le16_to_cpu(op->u.context.ctx);

        g_assert_cmpuint(new_id, >, 0);
        g_assert_cmpuint(new_id, <, f->core.limits.max_contexts);
        model_context_new(f, new_id);
        f->model.ctx[new_id].identity = le16_to_cpu(in.flags) & 1;
        expected.u.context.ctx = op->u.context.ctx;
    }
    if (!ret && !op->status && code == XEN_IOMMUOP_alloc_irqs) {
        model_irqs_new(f, op);
        expected.u.irqs.handle = op->u.irqs.handle;
    }
    if (memcmp(op, &expected, sizeof(*op))) {
        g_test_message("op %u flags 0x%x: status %d, not %d", code,
                       le16_to_cpu(in.flags),
                       (int32_t)le32_to_cpu(op->status), ret);
    }
    g_assert_cmpmem(op, sizeof(*op), &expected, sizeof(expected));
    check_books(f);

    if (code == XEN_IOMMUOP_query_reserved && !ret) {
        uint32_t nr = le32_to_cpu(op->u.query_reserved.nr_entries);

        if (nr) {
            uint64_t addr = le64_to_cpu(op->u.query_reserved.ranges);

            g_assert_cmpmem(f->stored + (addr - STORE_BASE),
                            nr * sizeof(ranges[0]),
                            ranges, nr * sizeof(ranges[0]));
        }
    } else {
        g_assert_cmphex(f->stored[0], ==, 0xa5);
        g_assert_cmpmem(f->stored, STORE_SIZE - 1, f->stored + 1,
                        STORE_SIZE - 1);
    }
    if (code == XEN_IOMMUOP_flush && !ret) {
        bool all = le64_to_cpu(op->u.flush.bfn) == UINT64_MAX;
        uint32_t nr = le32_to_cpu(op->u.flush.nr_frames);

        check_flushed(f, le16_to_cpu(op->u.flush.ctx),
                      all ? 0 : le64_to_cpu(op->u.flush.bfn),
                      all ? fixture_bfn_limit(f) : nr ? nr : 1);
    }
    /* flush is the only one that flushes. */
    if (code == XEN_IOMMUOP_unmap && !notifies && f->parts == parts) {
        g_assert_cmpuint(f->unmap_calls, ==, unmap_calls);
    }
    g_assert_cmpuint(f->map_calls, ==,
                     map_calls + (code == XEN_IOMMUOP_map && !ret));
    return ret;
}

int fixture_op(Fixture *f, struct xen_iommu_op *op)
{
    return run(f, false, 0, op);
}

int fixture_queued_op(Fixture *f, uint16_t id, struct xen_iommu_op *op)
{
    return run(f, true, id, op);
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

static void model_lose_pending(Fixture *f, unsigned id)
{
    ModelContext *c = &f->model.ctx[id];

    for (guint i = 0; i < c->pending->len; ) {
        const Pending *p = &g_array_index(c->pending, Pending, i);

        if (model_pending(c, p) > core_pending(f->core.contexts[id], p->bfn,
                                               p->frame)) {
            g_array_remove_index_fast(c->pending, i);
            f->model.pending--;
        } else {
            i++;
        }
    }
}

/*
 * What the core does not map any more, and does not hold, for want of memory to
 * split it
 */
static void model_lose(Fixture *f)
{
    Model *m = &f->model;

    for (unsigned id = 0; id < MAX_CONTEXTS; id++) {
        ModelContext *c = &m->ctx[id];

        for (uint64_t bfn = 0; c->live && bfn < fixture_bfn_limit(f); bfn++) {
            if (c->map[bfn] &&
                bfn_table_range_empty(f->core.contexts[id]->table, bfn, 1)) {
                c->map[bfn] = 0;
                m->mapped--;
                m->counter[XEN_PVIOMMU_COUNTER_INVALIDATED]++;
            }
        }
        if (c->live && m->pending != f->core.pending_frames) {
            model_lose_pending(f, id);
        }
    }
}

void fixture_unplug(Fixture *f, unsigned i)
{
    machine_unplug(f, i);
    model_unplug(f, i);
    check_books(f);
}

void fixture_accept(Fixture *f, uint64_t features)
{
    bool before = f->core.accepted & XEN_IOMMU_FEATURE_INTERRUPTS;

    xen_pviommu_core_accept(&f->core, features);
    if (before && !(features & XEN_IOMMU_FEATURE_INTERRUPTS)) {
        model_irqs_reset(f);
    }
    check_books(f);
}

void fixture_invalidate(Fixture *f, uint64_t gfn, uint64_t nr)
{
    bool all = f->core.pending.nr > XEN_PVIOMMU_PENDING_EXACT;
    Model *m = &f->model;

    for (unsigned id = 0; f->modelled && id < MAX_CONTEXTS; id++) {
        ModelContext *c = &m->ctx[id];

        for (uint64_t bfn = 0; c->live && bfn < fixture_bfn_limit(f); bfn++) {
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
    xen_pviommu_core_invalidate(&f->core, gfn, nr);
    if (f->modelled && f->may_lose) {
        model_lose(f);
    }
    if (f->modelled) {
        check_books(f);
    }
    for (uint64_t g = gfn; g < MIN(gfn + nr, NR_GFNS); g++) {
        g_assert_cmpuint(f->backend.ro[g] + f->backend.rw[g], ==, 0);
        for (unsigned i = 0; i < NR_DEVICES; i++) {
            g_assert_cmpuint(f->dev[i].ro[g] + f->dev[i].rw[g], ==, 0);
        }
    }
}

void fixture_reset(Fixture *f)
{
    for (unsigned i = 0; i < MAX_CONTEXTS; i++) {
        if (f->model.ctx[i].live) {
            model_context_free(f, i);
        }
    }
    memset(f->model.counter, 0, sizeof(f->model.counter));
    memset(f->model.device_ctx, 0, sizeof(f->model.device_ctx));
    f->model.identity = f->core.premap;
    model_irqs_reset(f);
    for (unsigned i = 0; i < NR_DEVICES; i++) {
        f->dev[i].irqs.direct = false;
    }
    model_context_new(f, 0);
    xen_pviommu_core_reset(&f->core);
    g_assert_cmpuint(f->core.accepted, ==, 0);
    check_books(f);
    g_assert_cmpuint(f->backend.total, ==, 0);
}

typedef struct Seen {
    Fixture *f;
    uint64_t frames;
} Seen;

static bool check_indexed(void *opaque, uint16_t ctx, uint64_t bfn,
                          uint64_t gfn, uint64_t nr)
{
    Seen *seen = opaque;
    const ModelContext *c = &seen->f->model.ctx[ctx];

    g_assert_true(c->live);
    for (uint64_t i = 0; i < nr; i++) {
        g_assert_cmphex(c->map[bfn + i] & ~FRAME_READONLY, ==,
                        frame_new(gfn + i, false));
    }
    seen->frames += nr;
    return true;
}

/* From @bfn on nothing is mapped, for @nr frames. */
static void check_gap(const BfnTable *table, const ModelContext *c,
                      uint64_t bfn, uint64_t nr)
{
    BfnTranslation tr;

    g_assert_true(buffer_is_zero(&c->map[bfn], nr * sizeof(Frame)));
    for (uint64_t end = bfn + nr; bfn < end; bfn++) {
        g_assert_false(bfn_table_translate(table, bfn, &tr));
    }
}

/* Frame by frame; counts references. */
static void check_mapped(const BfnTable *table, const ModelContext *c,
                         const BfnRun *run, uint32_t *ro, uint32_t *rw)
{
    for (uint64_t i = 0; i < run->nr; i++) {
        Frame frame = c->map[run->bfn + i];
        BfnTranslation tr;

        g_assert_cmphex(frame, ==, frame_new(run->gfn + i, run->readonly));
        g_assert_true(bfn_table_translate(table, run->bfn + i, &tr));
        g_assert_cmphex(frame, ==, frame_new(tr.gfn, tr.readonly));
        (run->readonly ? ro : rw)[run->gfn + i]++;
    }
}

/* A device has all that is mapped, and maybe what waits for a flush. */
static void check_tlb(const Fixture *f, const Device *d, const ModelContext *c)
{
    uint64_t limit = fixture_bfn_limit(f);
    g_autofree bool *waits = NULL;

    if (!memcmp(d->tlb, c->map, limit * sizeof(Frame))) {
        return;
    }
    waits = g_new0(bool, limit);
    for (guint i = 0; i < c->pending->len; i++) {
        waits[g_array_index(c->pending, Pending, i).bfn] = true;
    }
    for (uint64_t bfn = 0; bfn < limit; bfn++) {
        if (c->map[bfn]) {
            g_assert_cmphex(d->tlb[bfn], ==, c->map[bfn]);
        } else if (d->tlb[bfn]) {
            g_assert_true(waits[bfn]);
        }
    }
}

static void check_context(Fixture *f, unsigned id, uint32_t *ro, uint32_t *rw)
{
    const BfnTable *table = f->core.contexts[id]->table;
    const ModelContext *c = &f->model.ctx[id];
    uint64_t limit = fixture_bfn_limit(f), bfn = 0;
    BfnRun run;

    WITH_RCU_READ_LOCK_GUARD() {
        while (bfn_table_next_run(table, bfn, limit, &run)) {
            check_gap(table, c, bfn, run.bfn - bfn);
            check_mapped(table, c, &run, ro, rw);
            bfn = run.bfn + run.nr;
        }
        check_gap(table, c, bfn, limit - bfn);
    }
    for (guint i = 0; i < c->pending->len; i++) {
        const Pending *p = &g_array_index(c->pending, Pending, i);

        (frame_readonly(p->frame) ? ro : rw)[frame_gfn(p->frame)]++;
    }
    for (unsigned i = 0; i < NR_DEVICES; i++) {
        if (f->model.device_ctx[i] == id) {
            check_tlb(f, &f->dev[i], c);
        }
    }
}

void fixture_check(Fixture *f)
{
    g_autofree uint32_t *ro = g_new0(uint32_t, NR_GFNS);
    g_autofree uint32_t *rw = g_new0(uint32_t, NR_GFNS);
    Seen seen = { .f = f };

    xen_pviommu_core_check(&f->core);
    if (!f->modelled) {
        return;
    }
    check_books(f);
    for (unsigned id = 0; id < f->core.limits.max_contexts; id++) {
        if (f->model.ctx[id].live) {
            check_context(f, id, ro, rw);
        }
    }
    for (unsigned gfn = 0; gfn < NR_GFNS; gfn++) {
        g_assert_cmpuint(f->backend.ro[gfn], ==, ro[gfn]);
        g_assert_cmpuint(f->backend.rw[gfn], ==, rw[gfn]);
        machine_check_devices(&f->backend, gfn);
    }
    gfn_index_foreach(f->core.gfn_index, 0, 1ull << GFN_INDEX_BITS,
                      check_indexed, &seen);
    g_assert_cmpuint(seen.frames, ==, f->model.mapped);
}

uint64_t fixture_page_refs(const Fixture *f, uint64_t gfn)
{
    return f->backend.ro[gfn] + f->backend.rw[gfn];
}
