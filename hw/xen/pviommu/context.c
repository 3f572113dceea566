/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Contexts: BFN tables, the GFN index, the pages that wait for a flush and
 * the backend's references, kept in step.
 */

#include "qemu/osdep.h"
#include "qemu/lockable.h"
#include "qemu/log.h"
#include "qemu/timer.h"
#include "core.h"
#include "trace.h"

#define LOG_LINES_PER_SECOND 20

/* What freeing a context does before it asks the guest to come again. */
#define FREE_WORK_AT_ONCE (1u << 20)

/* What a run costs beside a slot: allocations, trees, callbacks. */
#define RUN_WORK 16

/*
 * What a lazy guest has between two flushes of lists: 256 of 64 pages. More
 * would make the invalidation that sorts them longer than a few milliseconds.
 */
#define PENDING_UNSORTED_MAX (256 * 64)

/* Half a megabyte of them. */
#define PENDING_SPARE_MAX 4096

/* A record of a pending run is large beside a mapping: bounded on its own. */
static uint64_t max_pending_runs(const XenPVIOMMUCore *core)
{
    return MAX(core->limits.max_mappings / 64, 4096);
}

uint64_t xen_pviommu_core_work(const XenPVIOMMUCore *core)
{
    /* There is no backend before the device is complete. */
    uint64_t backend = core->backend && core->backend_ops->work
        ? core->backend_ops->work(core->backend) : 0;

    return core->work * RUN_WORK + core->budget.work +
           gfn_index_work(core->gfn_index) + backend;
}

static uint64_t pending_room(const XenPVIOMMUCore *core)
{
    uint64_t max = max_pending_runs(core);

    return core->nr_pending_runs < max ? max - core->nr_pending_runs : 0;
}

static XenPVIOMMUPending *pending_of_bfn(IntervalTreeNode *node)
{
    return node ? container_of(node, XenPVIOMMUPending, by_bfn) : NULL;
}

static XenPVIOMMUPending *pending_of_gfn(IntervalTreeNode *node)
{
    return node ? container_of(node, XenPVIOMMUPending, by_gfn) : NULL;
}

static uint64_t pending_nr(const XenPVIOMMUPending *p)
{
    return p->by_bfn.last - p->by_bfn.start + 1;
}

static XenPVIOMMUPending *pending_new(XenPVIOMMUCore *core)
{
    XenPVIOMMUPending *p = QLIST_FIRST(&core->pending_spare);

    if (!p) {
        return g_new(XenPVIOMMUPending, 1);
    }
    QLIST_REMOVE(p, unsorted);
    core->nr_pending_spare--;
    return p;
}

static void pending_free(XenPVIOMMUCore *core, XenPVIOMMUPending *p)
{
    if (core->nr_pending_spare == PENDING_SPARE_MAX) {
        g_free(p);
        return;
    }
    QLIST_INSERT_HEAD(&core->pending_spare, p, unsorted);
    core->nr_pending_spare++;
}

static void pending_add(XenPVIOMMUCore *core, XenPVIOMMUContext *ctx,
                        const BfnRun *run, bool notified)
{
    XenPVIOMMUPending *p = pending_new(core);

    p->by_bfn.start = run->bfn;
    p->by_bfn.last = run->bfn + run->nr - 1;
    p->by_gfn.start = run->gfn;
    p->by_gfn.last = run->gfn + run->nr - 1;
    p->ctx = ctx;
    p->readonly = run->readonly;
    p->notified = notified;
    ctx->pending_untold += !notified;
    p->in_bfns = p->in_gfns = core->nr_pending_runs >= PENDING_UNSORTED_MAX;
    if (p->in_gfns) {
        interval_tree_insert(&p->by_bfn, &ctx->pending_bfns);
        interval_tree_insert(&p->by_gfn, &core->pending_gfns);
    } else {
        QTAILQ_INSERT_TAIL(&ctx->pending_unsorted, p, unsorted_bfn);
        QLIST_INSERT_HEAD(&core->pending_unsorted, p, unsorted);
    }
    core->nr_pending_runs++;
    ctx->pending_frames += run->nr;
    core->pending_frames += run->nr;
}

static void pending_remove(XenPVIOMMUCore *core, XenPVIOMMUPending *p)
{
    if (p->in_bfns) {
        interval_tree_remove(&p->by_bfn, &p->ctx->pending_bfns);
    } else {
        QTAILQ_REMOVE(&p->ctx->pending_unsorted, p, unsorted_bfn);
    }
    if (p->in_gfns) {
        interval_tree_remove(&p->by_gfn, &core->pending_gfns);
    } else {
        QLIST_REMOVE(p, unsorted);
    }
    core->nr_pending_runs--;
    p->ctx->pending_frames -= pending_nr(p);
    core->pending_frames -= pending_nr(p);
}

IntervalTreeRoot *xen_pviommu_pending_by_bfn(XenPVIOMMUCore *core,
                                             XenPVIOMMUContext *ctx)
{
    XenPVIOMMUPending *p;

    while ((p = QTAILQ_FIRST(&ctx->pending_unsorted))) {
        QTAILQ_REMOVE(&ctx->pending_unsorted, p, unsorted_bfn);
        interval_tree_insert(&p->by_bfn, &ctx->pending_bfns);
        p->in_bfns = true;
        core->work++;
    }
    return &ctx->pending_bfns;
}

IntervalTreeRoot *xen_pviommu_pending_by_gfn(XenPVIOMMUCore *core)
{
    XenPVIOMMUPending *p;

    while ((p = QLIST_FIRST(&core->pending_unsorted))) {
        QLIST_REMOVE(p, unsorted);
        interval_tree_insert(&p->by_gfn, &core->pending_gfns);
        p->in_gfns = true;
        core->work++;
    }
    return &core->pending_gfns;
}

/*
 * Let go of the frames of @p from @offset on, @nr of them. No device has @p
 * any more, and it is gone afterwards; what stays of it becomes records of
 * its own - or goes as well, if there are too many already.
 */
static void pending_release(XenPVIOMMUCore *core, XenPVIOMMUPending *p,
                            uint64_t offset, uint64_t nr)
{
    BfnRun run = {
        .bfn = p->by_bfn.start,
        .gfn = p->by_gfn.start,
        .nr = pending_nr(p),
        .readonly = p->readonly,
    };

    assert(p->notified);
    pending_remove(core, p);
    if (nr < run.nr && pending_room(core) >= 2) {
        BfnRun head = run, tail = run;

        head.nr = offset;
        tail.bfn += offset + nr;
        tail.gfn += offset + nr;
        tail.nr -= offset + nr;
        if (head.nr) {
            pending_add(core, p->ctx, &head, true);
        }
        if (tail.nr) {
            pending_add(core, p->ctx, &tail, true);
        }
        run.gfn += offset;
        run.nr = nr;
    }
    pending_free(core, p);
    core->backend_ops->put(core->backend, run.gfn, run.nr, run.readonly);
}

static void pending_told(XenPVIOMMUPending *p)
{
    p->notified = true;
    p->ctx->pending_untold--;
}

/* The devices lose [@bfn, @bfn + @nr) of what is pending but not mapped. */
static void pending_notify(XenPVIOMMUCore *core, XenPVIOMMUContext *ctx,
                           uint64_t bfn, uint64_t nr)
{
    uint64_t start = 0, end = 0;
    IntervalTreeRoot *pending;
    IntervalTreeNode *node;

    if (!ctx->pending_untold) {
        return;
    }
    pending = xen_pviommu_pending_by_bfn(core, ctx);
    if (!core->client_ops->listening(core->client, ctx)) {
        /* Who had it listens no more, and who comes never had it. */
        bfn = 0;
        nr = xen_pviommu_bfn_limit(core);
    }
    for (node = interval_tree_iter_first(pending, bfn, bfn + nr - 1); node;
         node = interval_tree_iter_next(node, bfn, bfn + nr - 1)) {
        XenPVIOMMUPending *p = pending_of_bfn(node);

        core->work++;
        if (p->notified) {
            continue;
        }
        pending_told(p);
        /* They come in the order of their start: merge neighbours. */
        if (end && p->by_bfn.start <= end) {
            end = MAX(end, p->by_bfn.last + 1);
            continue;
        }
        if (end) {
            core->client_ops->unmap(core->client, ctx, start, end - start);
        }
        start = p->by_bfn.start;
        end = p->by_bfn.last + 1;
    }
    if (end) {
        core->client_ops->unmap(core->client, ctx, start, end - start);
    }
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
    QTAILQ_INIT(&ctx->pending_unsorted);
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
 * Let go of the pages of @ctx, until that was @max_work; no device sees it any
 * more. True if nothing is left.
 */
static bool context_empty(XenPVIOMMUCore *core, XenPVIOMMUContext *ctx,
                          uint64_t max_work)
{
    uint64_t start = xen_pviommu_core_work(core);
    uint64_t limit = xen_pviommu_bfn_limit(core);
    BfnRun run;

    xen_pviommu_context_flush_all(core, ctx);
    for (uint64_t bfn = 0; bfn_table_next_run(ctx->table, bfn, limit, &run);
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

static void context_destroy(XenPVIOMMUCore *core, XenPVIOMMUContext *ctx)
{
    trace_xen_pviommu_context_free(ctx->id);
    assert(!ctx->nr_devices);
    if (ctx->queue) {
        core->client_ops->set_queue(core->client, ctx, 0, 0);
    }
    context_empty(core, ctx, UINT64_MAX);
    bfn_table_free(ctx->table);
    g_array_unref(ctx->reserved);
    g_free_rcu(ctx, rcu);
}

int xen_pviommu_context_free(XenPVIOMMUCore *core, XenPVIOMMUContext *ctx)
{
    if (ctx->nr_devices) {
        core->client_ops->reap(core->client, ctx);
    }
    if (ctx->nr_devices) {
        return -XEN_IOMMU_EBUSY;
    }
    if (!context_empty(core, ctx, FREE_WORK_AT_ONCE)) {
        return -XEN_IOMMU_EAGAIN;
    }
    core->contexts[ctx->id] = NULL;
    context_destroy(core, ctx);
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
    pending_notify(core, ctx, run->bfn, run->nr);
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

/*
 * How many runs the range is mapped in, and which is the @first; 0 if it is
 * not mapped, or not all of it is and there must be no @holes. No more than
 * @max + 1 are looked at.
 */
static uint64_t mapped_runs(XenPVIOMMUCore *core, const XenPVIOMMUContext *ctx,
                            uint64_t bfn, uint64_t nr, bool holes, uint64_t max,
                            BfnRun *first)
{
    uint64_t end = bfn + nr;
    uint64_t runs = 0;
    BfnRun run;

    for (; bfn < end && runs <= max; bfn = run.bfn + run.nr, runs++) {
        bool found = bfn_table_next_run(ctx->table, bfn, end, &run);

        if (!holes && (!found || run.bfn != bfn)) {
            return 0;
        }
        if (!found) {
            break;
        }
        if (!runs) {
            *first = run;
        }
        core->work++;
    }
    return runs;
}

int xen_pviommu_context_unmap(XenPVIOMMUCore *core, XenPVIOMMUContext *ctx,
                              uint64_t bfn, uint64_t nr, bool holes)
{
    bool told = !core->client_ops->listening(core->client, ctx);
    uint64_t room = pending_room(core);
    bool one = holes && nr <= room;
    uint64_t end = bfn + nr;
    uint64_t runs;
    bool more;
    BfnRun run;

    /* Where holes do not matter, and room does not, one says that there are. */
    runs = mapped_runs(core, ctx, bfn, nr, holes, one ? 0 : room, &run);
    if (!runs && holes) {
        return 0;
    }
    if (!runs) {
        return xen_pviommu_context_reserved(core, ctx, bfn, nr)
            ? -XEN_IOMMU_EADDRNOTAVAIL : -XEN_IOMMU_ENOENT;
    }
    if (runs > room) {
        return -XEN_IOMMU_ENOSPC;
    }
    do {
        uint64_t next = run.bfn + run.nr;

        gfn_index_remove(core->gfn_index, run.gfn, run.nr, ctx->id, run.bfn);
        pending_add(core, ctx, &run, told);
        core->work += one;
        ctx->mapped_frames -= run.nr;
        core->mapped_frames -= run.nr;
        if (holes) {
            bfn_table_unmap(ctx->table, run.bfn, run.nr);
        }
        more = bfn_table_next_run(ctx->table, next, end, &run);
    } while (more);
    if (!holes) {
        bfn_table_unmap(ctx->table, bfn, nr);
    }
    return 0;
}

int xen_pviommu_context_load_pending(XenPVIOMMUCore *core,
                                     XenPVIOMMUContext *ctx, const BfnRun *run)
{
    int ret;

    if (run->nr > core->limits.max_mappings - core->mapped_frames -
                  core->pending_frames ||
        !pending_room(core)) {
        return -XEN_IOMMU_ENOSPC;
    }
    ret = core->backend_ops->get(core->backend, XEN_IOMMU_DOMID_SELF, run->gfn,
                                 run->nr, run->readonly);
    if (!ret) {
        /* No device of the new machine has ever seen it. */
        pending_add(core, ctx, run, true);
    }
    return ret;
}

/* All of them are in [@bfn, @last]. */
static bool unsorted_within(const XenPVIOMMUContext *ctx,
                            uint64_t bfn, uint64_t last)
{
    const XenPVIOMMUPending *p;

    QTAILQ_FOREACH(p, &ctx->pending_unsorted, unsorted_bfn) {
        if (p->by_bfn.start < bfn || p->by_bfn.last > last) {
            return false;
        }
    }
    return true;
}

void xen_pviommu_context_flush(XenPVIOMMUCore *core, XenPVIOMMUContext *ctx,
                               uint64_t bfn, uint64_t nr)
{
    uint64_t last = bfn + nr - 1;
    XenPVIOMMUPending *p;

    /* No page goes before every device has forgotten it. */
    pending_notify(core, ctx, bfn, nr);
    /* Strict guests flush what they unmapped, lazy ones all there is. */
    if (!unsorted_within(ctx, bfn, last)) {
        xen_pviommu_pending_by_bfn(core, ctx);
    }
    while ((p = QTAILQ_FIRST(&ctx->pending_unsorted))) {
        pending_release(core, p, 0, pending_nr(p));
        core->work++;
    }
    while ((p = pending_of_bfn(interval_tree_iter_first(&ctx->pending_bfns,
                                                        bfn, last)))) {
        uint64_t start = MAX(bfn, p->by_bfn.start);
        uint64_t end = MIN(last, p->by_bfn.last) + 1;

        pending_release(core, p, start - p->by_bfn.start, end - start);
        core->work++;
    }
}

void xen_pviommu_context_flush_all(XenPVIOMMUCore *core,
                                   XenPVIOMMUContext *ctx)
{
    xen_pviommu_context_flush(core, ctx, 0, xen_pviommu_bfn_limit(core));
}

void xen_pviommu_core_flush_all(XenPVIOMMUCore *core)
{
    uint32_t id;

    for (id = 0; id < core->limits.max_contexts && core->pending_frames; id++) {
        if (core->contexts[id] && core->contexts[id]->pending_frames) {
            xen_pviommu_context_flush_all(core, core->contexts[id]);
        }
    }
    core->work += id / RUN_WORK;
}

typedef struct Mapping {
    uint16_t ctx;
    uint64_t bfn;
    uint64_t nr;
} Mapping;

static void collect_mapping(void *opaque, uint16_t ctx, uint64_t bfn,
                            uint64_t gfn, uint64_t nr)
{
    Mapping m = { .ctx = ctx, .bfn = bfn, .nr = nr };

    g_array_append_val((GArray *)opaque, m);
}

void xen_pviommu_core_invalidate(XenPVIOMMUCore *core,
                                 uint64_t gfn, uint64_t nr)
{
    g_autoptr(GArray) found = g_array_new(false, false, sizeof(Mapping));
    IntervalTreeRoot *pending = xen_pviommu_pending_by_gfn(core);
    XenPVIOMMUPending *p;

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

    while ((p = pending_of_gfn(interval_tree_iter_first(pending, gfn,
                                                        gfn + nr - 1)))) {
        uint64_t start = MAX(gfn, p->by_gfn.start);
        uint64_t end = MIN(gfn + nr - 1, p->by_gfn.last) + 1;

        if (!p->notified) {
            core->client_ops->unmap(core->client, p->ctx, p->by_bfn.start,
                                    pending_nr(p));
            pending_told(p);
        }
        pending_release(core, p, start - p->by_gfn.start, end - start);
    }
}

typedef struct HeldVisit {
    XenPVIOMMUHeldFunc *func;
    void *opaque;
} HeldVisit;

static void visit_mapping(void *opaque, uint16_t ctx, uint64_t bfn,
                          uint64_t gfn, uint64_t nr)
{
    const HeldVisit *v = opaque;

    v->func(v->opaque, gfn, nr);
}

void xen_pviommu_core_held(XenPVIOMMUCore *core, XenPVIOMMUHeldFunc *func,
                           void *opaque)
{
    HeldVisit v = { .func = func, .opaque = opaque };
    IntervalTreeRoot *pending = xen_pviommu_pending_by_gfn(core);

    gfn_index_foreach(core->gfn_index, 0, 1ull << GFN_INDEX_BITS,
                      visit_mapping, &v);
    for (IntervalTreeNode *n = interval_tree_iter_first(pending, 0, UINT64_MAX);
         n; n = interval_tree_iter_next(n, 0, UINT64_MAX)) {
        func(opaque, n->start, n->last - n->start + 1);
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
    QLIST_INIT(&core->pending_unsorted);
    QLIST_INIT(&core->pending_spare);
    /*
     * A lone page takes a node a level; dense use needs one for 512 pages.
     * Eight times that keeps sparse guests going and bounds what a hostile one
     * can make QEMU allocate.
     */
    core->budget.max_nodes = core->limits.max_mappings / 64 + 4096;
    core->identity = core->premap;
    xen_pviommu_context_new(core, XEN_IOMMU_CTX_DEFAULT);
}

static void destroy_contexts(XenPVIOMMUCore *core, uint32_t first)
{
    for (uint32_t id = first; id < core->limits.max_contexts; id++) {
        if (core->contexts[id]) {
            context_destroy(core, core->contexts[id]);
            core->contexts[id] = NULL;
        }
    }
}

void xen_pviommu_core_reset(XenPVIOMMUCore *core)
{
    XenPVIOMMUContext *old = core->contexts[XEN_IOMMU_CTX_DEFAULT];

    core->contexts[XEN_IOMMU_CTX_DEFAULT] = NULL;
    core->client_ops->attach_all(
        core->client, xen_pviommu_context_new(core, XEN_IOMMU_CTX_DEFAULT));
    context_destroy(core, old);
    destroy_contexts(core, XEN_IOMMU_CTX_DEFAULT + 1);
    gfn_index_clear(core->gfn_index);
    core->accepted = 0;
    core->identity = core->premap;
    memset(core->counter, 0, sizeof(core->counter));
}

void xen_pviommu_core_finalize(XenPVIOMMUCore *core)
{
    XenPVIOMMUPending *p;

    destroy_contexts(core, XEN_IOMMU_CTX_DEFAULT);
    gfn_index_free(core->gfn_index);
    while ((p = QLIST_FIRST(&core->pending_spare))) {
        QLIST_REMOVE(p, unsorted);
        g_free(p);
    }
    core->nr_pending_spare = 0;
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
