/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Contexts: BFN tables, the GFN index, the pages that wait for a flush and
 * the backend's references, kept in step.
 */

#include "qemu/osdep.h"
#include "qemu/lockable.h"
#include "qemu/log.h"
#include "qemu/timer.h"
#include "pending.h"
#include "trace.h"

#define LOG_LINES_PER_SECOND 20

/* What freeing a context does before it asks the guest to come again. */
#define FREE_WORK_AT_ONCE (1u << 18)

/* What a run costs beside a slot: allocations, trees, callbacks. */
#define RUN_WORK 48

/*
 * What a part of an unmap does before it is unfinished, besides being a number
 * of runs: slots of the table that it looks at, and places in the GFN index
 * that it removes, of which each can be one in a tree.
 */
#define PART_SLOTS (1u << 15)
#define PART_PLACES (1u << 13)

uint64_t xen_pviommu_core_work(const XenPVIOMMUCore *core)
{
    /* There is no backend before the device is complete. */
    uint64_t backend = core->backend && core->backend_ops->work
        ? core->backend_ops->work(core->backend) : 0;

    return core->work * RUN_WORK + core->budget.work +
           core->detached_work + gfn_index_work(core->gfn_index) + backend;
}

XenPVIOMMUContext *xen_pviommu_context_find(XenPVIOMMUCore *core, uint32_t id)
{
    return id < core->limits.max_contexts ? core->contexts[id] : NULL;
}

XenPVIOMMUContext *xen_pviommu_context_new(XenPVIOMMUCore *core, uint16_t id)
{
    XenPVIOMMUContext *ctx = g_new0(XenPVIOMMUContext, 1);

    assert(id < core->limits.max_contexts && !core->contexts[id]);
    ctx->id = id;
    ctx->table = bfn_table_new(core->limits.bfn_bits, &core->budget);
    ctx->reserved = xen_pviommu_reserved_new();
    xen_pviommu_pending_context_init(ctx);
    core->contexts[id] = ctx;
    trace_xen_pviommu_context_new(id);
    return ctx;
}

XenPVIOMMUContext *xen_pviommu_context_alloc(XenPVIOMMUCore *core)
{
    uint32_t id = XEN_IOMMU_CTX_DEFAULT + 1;

    while (id < core->limits.max_contexts && core->contexts[id]) {
        id++;
    }
    core->work += id / RUN_WORK;
    return id < core->limits.max_contexts ? xen_pviommu_context_new(core, id)
                                          : NULL;
}

/*
 * Unmap all of @ctx, which no device sees any more, until that was @max_work.
 * True if nothing is left.
 */
static bool context_empty(XenPVIOMMUCore *core, XenPVIOMMUContext *ctx,
                          uint64_t max_work)
{
    uint64_t start = xen_pviommu_core_work(core);
    uint64_t limit = xen_pviommu_bfn_limit(core);
    BfnRun run;

    xen_pviommu_context_flush_all(core, ctx);
    for (uint64_t bfn = 0; bfn_table_next_part(ctx->table, bfn, limit,
                                               PART_SLOTS, &run);
         bfn = run.bfn + run.nr) {
        if (xen_pviommu_core_work(core) - start >= max_work) {
            return false;
        }
        gfn_index_remove(core->gfn_index, run.gfn, run.nr, ctx->id, run.bfn);
        bfn_table_unmap(ctx->table, run.bfn, run.nr);
        ctx->mapped_frames -= run.nr;
        core->mapped_frames -= run.nr;
        core->backend_ops->put(core->backend, run.gfn, run.nr, run.readonly);
        core->work++;
    }
    return true;
}

/* Nothing in the core leads to @ctx any more, but for its table. */
static void context_retire(XenPVIOMMUCore *core, XenPVIOMMUContext *ctx)
{
    trace_xen_pviommu_context_free(ctx->id);
    assert(!ctx->nr_devices);
    if (ctx->queue) {
        core->client_ops->set_queue(core->client, ctx, 0, 0);
    }
    core->contexts[ctx->id] = NULL;
    g_array_unref(ctx->reserved);
    g_free_rcu(ctx, rcu);
}

int xen_pviommu_context_free(XenPVIOMMUCore *core, XenPVIOMMUContext *ctx)
{
    if (ctx->nr_devices) {
        return -XEN_IOMMU_EBUSY;
    }
    if (!context_empty(core, ctx, FREE_WORK_AT_ONCE)) {
        return -XEN_IOMMU_EAGAIN;
    }
    bfn_table_free(ctx->table);
    context_retire(core, ctx);
    return 0;
}

bool xen_pviommu_context_reserved(const XenPVIOMMUCore *core,
                                  const XenPVIOMMUContext *ctx,
                                  uint64_t bfn, uint64_t nr)
{
    return xen_pviommu_reserved_hit(core->reserved, bfn, nr) ||
           xen_pviommu_reserved_hit(ctx->reserved, bfn, nr);
}

int xen_pviommu_context_map(XenPVIOMMUCore *core, XenPVIOMMUContext *ctx,
                            uint16_t domid, const BfnRun *run)
{
    int ret;

    if (xen_pviommu_context_reserved(core, ctx, run->bfn, run->nr)) {
        return -XEN_IOMMU_EADDRNOTAVAIL;
    }
    if (!bfn_table_range_empty(ctx->table, run->bfn, run->nr)) {
        return -XEN_IOMMU_EEXIST;
    }
    if (run->nr > core->limits.max_mappings - core->mapped_frames -
                  core->pending_frames) {
        return -XEN_IOMMU_ENOSPC;
    }
    ret = core->backend_ops->get(core->backend, domid, run->gfn, run->nr,
                                 run->readonly);
    if (ret) {
        return ret;
    }
    /* A BFN that is used again must not be flushed away from its new page. */
    if (!xen_pviommu_pending_notify(core, ctx, run->bfn, run->nr,
                                    XEN_PVIOMMU_NOTIFY_AT_ONCE)) {
        core->backend_ops->put(core->backend, run->gfn, run->nr, run->readonly);
        return XEN_PVIOMMU_UNFINISHED;
    }
    if (!bfn_table_map(ctx->table, run)) {
        core->backend_ops->put(core->backend, run->gfn, run->nr, run->readonly);
        return -XEN_IOMMU_ENOMEM;
    }
    gfn_index_add(core->gfn_index, run->gfn, run->nr, ctx->id, run->bfn);
    ctx->mapped_frames += run->nr;
    core->mapped_frames += run->nr;
    core->work++;
    core->client_ops->map(core->client, ctx, run);
    return 0;
}

/* The part of a range that is unmapped at a time. */
typedef struct UnmapPart {
    uint64_t bfn;
    uint64_t end;
    uint64_t runs;
    uint64_t places;            /* of them in the GFN index, at the most */
} UnmapPart;

static bool part_is_full(const UnmapPart *part, uint64_t slots)
{
    return part->runs == XEN_IOMMU_UNMAP_RUNS || slots >= PART_SLOTS ||
           part->places >= PART_PLACES;
}

/*
 * Find the first part of [@bfn, @end), and its runs: core->unmap_runs. False if
 * not all of it is mapped, and @holes do matter.
 */
static bool unmap_find_part(XenPVIOMMUCore *core, const XenPVIOMMUContext *ctx,
                            uint64_t bfn, uint64_t end, bool holes,
                            UnmapPart *part)
{
    uint64_t before = core->budget.work;

    *part = (UnmapPart) { .bfn = bfn, .end = bfn };
    while (part->end < end &&
           !part_is_full(part, core->budget.work - before)) {
        BfnRun *run = &core->unmap_runs[part->runs];
        bool found = bfn_table_next_part(ctx->table, part->end, end, PART_SLOTS,
                                         run);

        if (!holes && (!found || run->bfn != part->end)) {
            return false;
        }
        if (!found) {
            part->end = end;
            break;
        }
        part->runs++;
        part->places += gfn_index_places(run->nr);
        part->end = run->bfn + run->nr;
        core->work++;
    }
    return true;
}

/* There are records, and memory for them, and listeners can be notified. */
static int unmap_prepare(XenPVIOMMUCore *core, XenPVIOMMUContext *ctx,
                         uint64_t runs, bool listening)
{
    if (runs > xen_pviommu_pending_room(core)) {
        return -XEN_IOMMU_ENOSPC;
    }
    if (!xen_pviommu_pending_reserve(core, runs)) {
        return -XEN_IOMMU_ENOMEM;
    }
    if (ctx->pending.nr_unnotified &&
        (!listening ||
         ctx->pending.nr_tail + runs > XEN_PVIOMMU_UNNOTIFIED_MAX) &&
        !xen_pviommu_pending_notify(core, ctx, 0, xen_pviommu_bfn_limit(core),
                                    XEN_PVIOMMU_NOTIFY_AT_ONCE)) {
        return XEN_PVIOMMU_UNFINISHED;
    }
    return 0;
}

int xen_pviommu_context_unmap_part(XenPVIOMMUCore *core, XenPVIOMMUContext *ctx,
                                   uint64_t *bfn, uint64_t *nr, bool holes)
{
    bool listening = core->client_ops->listening(core->client, ctx);
    uint64_t end = *bfn + *nr;
    UnmapPart part;
    int ret;

    if (!unmap_find_part(core, ctx, *bfn, end, holes, &part)) {
        return xen_pviommu_context_reserved(core, ctx, *bfn, *nr)
            ? -XEN_IOMMU_EADDRNOTAVAIL : -XEN_IOMMU_ENOENT;
    }
    ret = unmap_prepare(core, ctx, part.runs, listening);
    if (ret) {
        return ret;
    }
    for (uint64_t i = 0; i < part.runs; i++) {
        const BfnRun *run = &core->unmap_runs[i];

        gfn_index_remove(core->gfn_index, run->gfn, run->nr, ctx->id, run->bfn);
        xen_pviommu_pending_add(core, ctx, run, !listening);
        ctx->mapped_frames -= run->nr;
        core->mapped_frames -= run->nr;
        if (holes) {
            bfn_table_unmap(ctx->table, run->bfn, run->nr);
        }
    }
    if (!holes) {
        bfn_table_unmap(ctx->table, part.bfn, part.end - part.bfn);
    }
    *bfn = part.end;
    *nr = end - part.end;
    return *nr ? XEN_PVIOMMU_UNFINISHED : 0;
}

int xen_pviommu_context_unmap(XenPVIOMMUCore *core, XenPVIOMMUContext *ctx,
                              uint64_t bfn, uint64_t nr, bool holes)
{
    int ret;

    do {
        ret = xen_pviommu_context_unmap_part(core, ctx, &bfn, &nr, holes);
    } while (ret == XEN_PVIOMMU_UNFINISHED);
    return ret;
}

int xen_pviommu_context_load_pending(XenPVIOMMUCore *core,
                                     XenPVIOMMUContext *ctx, const BfnRun *run)
{
    int ret;

    if (run->nr > core->limits.max_mappings - core->mapped_frames -
                  core->pending_frames ||
        !xen_pviommu_pending_room(core)) {
        return -XEN_IOMMU_ENOSPC;
    }
    if (!xen_pviommu_pending_reserve(core, 1)) {
        return -XEN_IOMMU_ENOMEM;
    }
    ret = core->backend_ops->get(core->backend, XEN_IOMMU_DOMID_SELF, run->gfn,
                                 run->nr, run->readonly);
    if (!ret) {
        /* No device of the new machine has ever seen it. */
        xen_pviommu_pending_add(core, ctx, run, true);
    }
    return ret;
}

bool xen_pviommu_context_flush_part(XenPVIOMMUCore *core,
                                    XenPVIOMMUContext *ctx,
                                    uint64_t bfn, uint64_t nr)
{
    bool all = ctx->pending.nr > XEN_PVIOMMU_PENDING_EXACT;

    if (all) {
        bfn = 0;
        nr = xen_pviommu_bfn_limit(core);
    }
    /* No page goes before every device has forgotten it. */
    if (!xen_pviommu_pending_notify(core, ctx, bfn, nr,
                                    XEN_PVIOMMU_NOTIFY_AT_ONCE)) {
        return false;
    }
    if (all) {
        xen_pviommu_pending_release_all(core, ctx);
    } else if (ctx->pending.nr) {
        xen_pviommu_pending_release(core, ctx, bfn, nr);
    }
    return true;
}

void xen_pviommu_context_flush(XenPVIOMMUCore *core, XenPVIOMMUContext *ctx,
                               uint64_t bfn, uint64_t nr)
{
    while (!xen_pviommu_context_flush_part(core, ctx, bfn, nr)) {
        /* There is more. */
    }
}

void xen_pviommu_context_flush_all(XenPVIOMMUCore *core,
                                   XenPVIOMMUContext *ctx)
{
    xen_pviommu_context_flush(core, ctx, 0, xen_pviommu_bfn_limit(core));
}

void xen_pviommu_core_flush_all(XenPVIOMMUCore *core)
{
    XenPVIOMMUContext *ctx, *next;

    QLIST_FOREACH_SAFE(ctx, &core->pending_contexts, next_pending, next) {
        xen_pviommu_context_flush_all(core, ctx);
        core->work++;
    }
}

typedef struct Mapping {
    uint16_t ctx;
    uint64_t bfn;
    uint64_t nr;
} Mapping;

static bool collect_mapping(void *opaque, uint16_t ctx, uint64_t bfn,
                            uint64_t gfn, uint64_t nr)
{
    Mapping m = { .ctx = ctx, .bfn = bfn, .nr = nr };

    g_array_append_val((GArray *)opaque, m);
    return true;
}

void xen_pviommu_core_invalidate(XenPVIOMMUCore *core,
                                 uint64_t gfn, uint64_t nr)
{
    g_autoptr(GArray) found = g_array_new(false, false, sizeof(Mapping));

    gfn_index_foreach(core->gfn_index, gfn, nr, collect_mapping, found);
    trace_xen_pviommu_invalidate(gfn, nr, found->len);
    for (guint i = 0; i < found->len; i++) {
        Mapping *m = &g_array_index(found, Mapping, i);
        XenPVIOMMUContext *ctx = core->contexts[m->ctx];
        BfnRun run;
        bool mapped;

        /* What the index notes as one came with one map: it is one run. */
        mapped = bfn_table_next_run(ctx->table, m->bfn, m->bfn + m->nr, &run);
        assert(mapped && run.bfn == m->bfn && run.nr == m->nr);
        bfn_table_unmap(ctx->table, run.bfn, run.nr);
        gfn_index_remove(core->gfn_index, run.gfn, run.nr, ctx->id, run.bfn);
        core->client_ops->unmap(core->client, ctx, run.bfn, run.nr);
        core->backend_ops->put(core->backend, run.gfn, run.nr, run.readonly);
        ctx->mapped_frames -= run.nr;
        core->mapped_frames -= run.nr;
        core->counter[XEN_PVIOMMU_COUNTER_INVALIDATED] += run.nr;
    }
    xen_pviommu_pending_invalidate(core, gfn, nr);
}

typedef struct HeldVisit {
    XenPVIOMMUHeldFunc *func;
    void *opaque;
} HeldVisit;

static bool visit_mapping(void *opaque, uint16_t ctx, uint64_t bfn,
                          uint64_t gfn, uint64_t nr)
{
    const HeldVisit *v = opaque;

    v->func(v->opaque, gfn, nr);
    return true;
}

void xen_pviommu_core_held(XenPVIOMMUCore *core, XenPVIOMMUHeldFunc *func,
                           void *opaque)
{
    HeldVisit v = { .func = func, .opaque = opaque };
    const XenPVIOMMUContext *ctx;
    XenPVIOMMUPendingPos pos;
    const XenPVIOMMUPending *p;

    gfn_index_foreach(core->gfn_index, 0, 1ull << GFN_INDEX_BITS,
                      visit_mapping, &v);
    QLIST_FOREACH(ctx, &core->pending_contexts, next_pending) {
        XEN_PVIOMMU_PENDING_FOREACH(p, ctx, &pos) {
            func(opaque, p->gfn, p->nr);
        }
    }
}

void xen_pviommu_core_enable(XenPVIOMMUCore *core)
{
    if (core->identity) {
        trace_xen_pviommu_enable();
        core->identity = false;
        core->client_ops->enabled(core->client);
    }
}

void xen_pviommu_core_init(XenPVIOMMUCore *core)
{
    core->contexts = g_new0(XenPVIOMMUContext *, core->limits.max_contexts);
    qemu_mutex_init(&core->log_lock);
    core->gfn_index = gfn_index_new();
    core->reserved = xen_pviommu_reserved_new();
    core->detached_tables = g_ptr_array_new();
    core->detached_indexes = g_ptr_array_new();
    core->unmap_runs = g_new(BfnRun, XEN_IOMMU_UNMAP_RUNS);
    xen_pviommu_pending_init(core);
    /*
     * A lone page takes a node a level; dense use needs one for 512 pages.
     * Eight times that keeps sparse guests going and bounds what a hostile one
     * can make QEMU allocate.
     */
    core->budget.max_nodes = core->limits.max_mappings / 64 + 4096;
    core->identity = core->premap;
    xen_pviommu_context_new(core, XEN_IOMMU_CTX_DEFAULT);
}

/* Drop the references of all that @ctx maps; its table stays as it is. */
static void context_put_mapped(XenPVIOMMUCore *core, XenPVIOMMUContext *ctx)
{
    uint64_t limit = xen_pviommu_bfn_limit(core);
    BfnRun run;

    /* Before the device is complete there is no backend, and nothing mapped. */
    if (ctx->mapped_frames &&
        !xen_pviommu_core_put_frames(core, ctx->mapped_frames)) {
        for (uint64_t bfn = 0; bfn_table_next_run(ctx->table, bfn, limit, &run);
             bfn = run.bfn + run.nr) {
            core->backend_ops->put(core->backend, run.gfn, run.nr,
                                   run.readonly);
        }
    }
    core->mapped_frames -= ctx->mapped_frames;
    ctx->mapped_frames = 0;
}

/* No device is in @ctx, and the GFN index is about to be forgotten. */
static void context_detach(XenPVIOMMUCore *core, XenPVIOMMUContext *ctx)
{
    xen_pviommu_context_flush_all(core, ctx);
    context_put_mapped(core, ctx);
    bfn_table_detach(ctx->table);
    g_ptr_array_add(core->detached_tables, ctx->table);
    context_retire(core, ctx);
}

static void detach_contexts(XenPVIOMMUCore *core)
{
    for (uint32_t id = 0; id < core->limits.max_contexts; id++) {
        if (core->contexts[id]) {
            context_detach(core, core->contexts[id]);
        }
    }
    core->detached_work += gfn_index_work(core->gfn_index);
    g_ptr_array_add(core->detached_indexes, core->gfn_index);
    core->gfn_index = NULL;
}

void xen_pviommu_core_reset(XenPVIOMMUCore *core)
{
    XenPVIOMMUContext *old = core->contexts[XEN_IOMMU_CTX_DEFAULT], *new;

    core->contexts[XEN_IOMMU_CTX_DEFAULT] = NULL;
    new = xen_pviommu_context_new(core, XEN_IOMMU_CTX_DEFAULT);
    core->client_ops->attach_all(core->client, new);
    core->contexts[XEN_IOMMU_CTX_DEFAULT] = old;
    detach_contexts(core);
    core->contexts[XEN_IOMMU_CTX_DEFAULT] = new;
    core->gfn_index = gfn_index_new();
    core->accepted = 0;
    core->identity = core->premap;
    memset(core->counter, 0, sizeof(core->counter));
}

bool xen_pviommu_core_reap(XenPVIOMMUCore *core, unsigned max, bool wait)
{
    GPtrArray *tables = core->detached_tables;
    GPtrArray *indexes = core->detached_indexes;
    bool any = tables->len || indexes->len;

    while (max && indexes->len) {
        if (gfn_index_free_part(g_ptr_array_index(indexes, indexes->len - 1),
                                &max)) {
            g_ptr_array_set_size(indexes, indexes->len - 1);
        }
    }
    for (guint i = tables->len; max && i--; ) {
        BfnTable *t = g_ptr_array_index(tables, i);

        if ((!wait || bfn_table_quiet(t)) && bfn_table_free_part(t, &max)) {
            g_ptr_array_remove_index_fast(tables, i);
        }
    }
    return any;
}

void xen_pviommu_core_finalize(XenPVIOMMUCore *core)
{
    detach_contexts(core);
    while (xen_pviommu_core_reap(core, UINT_MAX, false)) {
        /* There is more. */
    }
    g_ptr_array_unref(core->detached_tables);
    g_ptr_array_unref(core->detached_indexes);
    xen_pviommu_pending_finalize(core);
    g_free(core->unmap_runs);
    g_array_unref(core->reserved);
    g_free(core->contexts);
    qemu_mutex_destroy(&core->log_lock);
}

/* Locked. False if the lines of this second have been shown. */
static bool guest_error_shown(XenPVIOMMUCore *core)
{
    int64_t now = get_clock();

    if (now - core->log_window_start >= NANOSECONDS_PER_SECOND) {
        if (core->log_window_lines > LOG_LINES_PER_SECOND) {
            qemu_log("xen-pviommu: %u more guest errors not shown\n",
                     core->log_window_lines - LOG_LINES_PER_SECOND);
        }
        core->log_window_start = now;
        core->log_window_lines = 0;
    }
    return ++core->log_window_lines <= LOG_LINES_PER_SECOND;
}

void xen_pviommu_guest_error(XenPVIOMMUCore *core, const char *fmt, ...)
{
    va_list ap;
    g_autofree char *text = NULL;

    if (!qemu_loglevel_mask(LOG_GUEST_ERROR)) {
        return;
    }
    WITH_QEMU_LOCK_GUARD(&core->log_lock) {
        if (!guest_error_shown(core)) {
            return;
        }
    }
    va_start(ap, fmt);
    text = g_strdup_vprintf(fmt, ap);
    va_end(ap);
    qemu_log("xen-pviommu: %s\n", text);
}
