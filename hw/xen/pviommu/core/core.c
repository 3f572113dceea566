/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The core as a whole: its budget, its start, resets and end, and what is done
 * in all contexts at once
 */

#include "qemu/osdep.h"
#include "qemu/error-report.h"
#include "qemu/units.h"
#include "context.h"
#include "core.h"
#include "pending.h"
#include "trace.h"

/*
 * A page that is mapped takes 17 bytes, if there are others around it, or 41
 * where it is mapped already. More than that, and what some thousand sparse
 * pages and contexts take, keeps guests going, and bounds what a hostile one
 * can make QEMU allocate.
 */
static size_t core_budget(const XenPVIOMMUCore *core)
{
    uint64_t frames = MIN(core->limits.max_mappings, SIZE_MAX / 1024);

    return 64 * frames + 32 * MiB +
           xen_pviommu_irqs_bytes(core->limits.max_irqs);
}

size_t xen_pviommu_core_max_bytes(const XenPVIOMMUCore *core)
{
    /* Beyond the budget come records, and a chunk for a split. */
    return core_budget(core) + NODE_POOL_CHUNK_SIZE +
           xen_pviommu_pending_max_bytes(core);
}

size_t xen_pviommu_core_bytes(const XenPVIOMMUCore *core)
{
    return node_pool_bytes(core->budget.pool) + core->budget.reserved;
}

void xen_pviommu_core_load_begin(XenPVIOMMUCore *core)
{
    core->loading = true;
    core->budget.max_bytes *= 2;
}

void xen_pviommu_core_load_end(XenPVIOMMUCore *core)
{
    core->loading = false;
    core->budget.max_bytes /= 2;
}

/* The default context can be had whatever the guest took. */
static XenPVIOMMUContext *context_new_default(XenPVIOMMUCore *core)
{
    size_t max_bytes = core->budget.max_bytes;
    XenPVIOMMUContext *ctx;

    core->budget.max_bytes = SIZE_MAX;
    ctx = xen_pviommu_context_new(core, XEN_IOMMU_CTX_DEFAULT);
    core->budget.max_bytes = max_bytes;
    return ctx;
}

static void core_free(XenPVIOMMUCore *core)
{
    NodePool *pool = core->budget.pool;

    xen_pviommu_pending_finalize(core);
    xen_pviommu_irqs_finalize(&core->irqs, pool);
    node_pool_heap_free(pool, core->unmap_runs,
                        XEN_IOMMU_UNMAP_RUNS * sizeof(BfnRun));
    node_pool_heap_free(pool, core->contexts,
                        core->limits.max_contexts * sizeof(*core->contexts));
    xen_pviommu_budget_destroy(&core->budget);
    g_array_unref(core->reserved);
    xen_pviommu_guest_log_finalize(&core->guest_log);
}

bool xen_pviommu_core_init(XenPVIOMMUCore *core)
{
    NodePool *pool;

    xen_pviommu_budget_init(&core->budget, core_budget(core));
    pool = core->budget.pool;
    xen_pviommu_guest_log_init(&core->guest_log);
    core->reserved = xen_pviommu_reserved_new();
    core->identity = core->premap;
    xen_pviommu_pending_init(core);
    core->contexts = node_pool_heap_alloc(pool, core->limits.max_contexts *
                                          sizeof(*core->contexts));
    core->unmap_runs = node_pool_heap_alloc(pool, XEN_IOMMU_UNMAP_RUNS *
                                            sizeof(BfnRun));
    core->gfn_index = gfn_index_new(&core->budget);
    if (xen_pviommu_irqs_init(&core->irqs, pool, core->limits.max_irqs) &&
        core->contexts && core->unmap_runs && core->gfn_index &&
        context_new_default(core)) {
        return true;
    }
    if (core->gfn_index) {
        gfn_index_free(core->gfn_index);
    }
    core_free(core);
    return false;
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
    *bfn_table_next(ctx->table) = core->detached_tables;
    core->detached_tables = ctx->table;
    xen_pviommu_context_unlink(core, ctx);
}

static void detach_contexts(XenPVIOMMUCore *core)
{
    for (uint32_t id = 0; id < core->limits.max_contexts; id++) {
        if (core->contexts[id]) {
            context_detach(core, core->contexts[id]);
        }
    }
    core->detached_work += gfn_index_work(core->gfn_index);
    *gfn_index_next(core->gfn_index) = core->detached_indexes;
    core->detached_indexes = core->gfn_index;
    core->gfn_index = NULL;
}

/* There is no memory for a new context and index: those there are stay. */
static void empty_contexts(XenPVIOMMUCore *core)
{
    XenPVIOMMUContext *first = core->contexts[XEN_IOMMU_CTX_DEFAULT];

    if (first->queue) {
        core->memory_ops->set_queue(core->client, first, 0, 0);
    }
    core->attachment_ops->attach_all(core->client, first);
    for (uint32_t id = 0; id < core->limits.max_contexts; id++) {
        XenPVIOMMUContext *ctx = core->contexts[id];

        if (ctx) {
            xen_pviommu_context_empty(core, ctx, UINT64_MAX);
        }
        if (ctx && ctx != first) {
            bfn_table_free(ctx->table);
            xen_pviommu_context_unlink(core, ctx);
        }
    }
}

void xen_pviommu_core_reset(XenPVIOMMUCore *core)
{
    XenPVIOMMUContext *old = core->contexts[XEN_IOMMU_CTX_DEFAULT], *new;
    GfnIndex *index = gfn_index_new(&core->budget);

    core->contexts[XEN_IOMMU_CTX_DEFAULT] = NULL;
    new = index ? context_new_default(core) : NULL;
    if (new) {
        core->attachment_ops->attach_all(core->client, new);
        core->contexts[XEN_IOMMU_CTX_DEFAULT] = old;
        detach_contexts(core);
        core->contexts[XEN_IOMMU_CTX_DEFAULT] = new;
        core->gfn_index = index;
    } else {
        core->contexts[XEN_IOMMU_CTX_DEFAULT] = old;
        empty_contexts(core);
        if (index) {
            gfn_index_free(index);
        }
    }
    xen_pviommu_irqs_reset(&core->irqs);
    core->accepted = 0;
    core->identity = core->premap;
    memset(core->counter, 0, sizeof(core->counter));
}

bool xen_pviommu_core_reap(XenPVIOMMUCore *core, unsigned max, bool wait)
{
    bool any = core->detached_tables || core->detached_indexes;
    BfnTable **link = &core->detached_tables;

    while (max && core->detached_indexes) {
        GfnIndex *index = core->detached_indexes;
        GfnIndex *next = *gfn_index_next(index);

        if (gfn_index_free_part(index, &max)) {
            core->detached_indexes = next;
        }
    }
    while (max && *link) {
        BfnTable *next = *bfn_table_next(*link);

        if ((!wait || bfn_table_quiet(*link)) &&
            bfn_table_free_part(*link, &max)) {
            *link = next;
        } else {
            link = bfn_table_next(*link);
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
    core_free(core);
}

void xen_pviommu_core_enable(XenPVIOMMUCore *core)
{
    if (core->identity) {
        trace_xen_pviommu_enable();
        core->identity = false;
        core->attachment_ops->enabled(core->client);
    }
}

void xen_pviommu_core_enable_irqs(XenPVIOMMUCore *core)
{
    if (!core->irqs.enabled) {
        trace_xen_pviommu_irqs_enabled(true);
        core->irqs.enabled = true;
        core->irqs.changes++;
        core->attachment_ops->irqs_enabled(core->client);
    }
}

void xen_pviommu_core_accept(XenPVIOMMUCore *core, uint64_t features)
{
    uint64_t before = core->accepted;

    core->accepted = features & xen_pviommu_core_features(core);
    if (before & ~core->accepted & XEN_IOMMU_FEATURE_INTERRUPTS) {
        trace_xen_pviommu_irqs_enabled(false);
        xen_pviommu_irqs_reset(&core->irqs);
        core->irqs.changes++;
        core->attachment_ops->irqs_enabled(core->client);
    }
}

void xen_pviommu_core_flush_all(XenPVIOMMUCore *core)
{
    XenPVIOMMUContext *ctx, *next;

    QLIST_FOREACH_SAFE(ctx, &core->pending.contexts, next_pending, next) {
        xen_pviommu_context_flush_all(core, ctx);
        core->work++;
    }
}

void xen_pviommu_core_invalidate(XenPVIOMMUCore *core,
                                 uint64_t gfn, uint64_t nr)
{
    uint64_t first = gfn, end = gfn + nr;
    GfnPlace place;
    unsigned runs;

    /* If there is no memory for all of them, there may be for some. */
    if (gfn_index_split_all(core->gfn_index, gfn)) {
        gfn_index_split_all(core->gfn_index, end);
    }
    for (runs = 0; gfn_index_first(core->gfn_index, first, end - first, &place);
         runs++) {
        XenPVIOMMUContext *ctx = core->contexts[place.ctx];
        BfnRun run;
        bool mapped;

        /* What the index notes as one came with one map: it is one run. */
        mapped = bfn_table_next_run(ctx->table, place.bfn,
                                    place.bfn + place.nr, &run);
        assert(mapped && run.bfn == place.bfn && run.nr == place.nr);
        if (!xen_pviommu_context_remove_run(core, ctx, &run)) {
            /* The rest of it only faults where the guest uses it. */
            warn_report_once("xen-pviommu: no memory to split a mapping of "
                             "which a page leaves: all of it is unmapped");
        }
        core->counter[XEN_PVIOMMU_COUNTER_INVALIDATED] += run.nr;
        first = place.gfn;
    }
    trace_xen_pviommu_invalidate(gfn, nr, runs);
    xen_pviommu_pending_invalidate(core, gfn, nr);
}

static bool renotify_place(void *opaque, uint16_t id, uint64_t bfn,
                           uint64_t gfn, uint64_t nr)
{
    XenPVIOMMUCore *core = opaque;
    XenPVIOMMUContext *ctx = core->contexts[id];
    BfnRun run;

    if (ctx->nr_devices &&
        bfn_table_next_run(ctx->table, bfn, bfn + nr, &run)) {
        core->listener_ops->unmap(core->client, ctx, run.bfn, run.nr);
        core->listener_ops->map(core->client, ctx, &run);
    }
    return true;
}

void xen_pviommu_core_renotify(XenPVIOMMUCore *core, uint64_t gfn, uint64_t nr)
{
    gfn_index_foreach(core->gfn_index, gfn, nr, renotify_place, core);
}

void xen_pviommu_core_held(XenPVIOMMUCore *core, XenPVIOMMUHeldFunc *func,
                           void *opaque)
{
    const uint64_t end = 1ull << GFN_INDEX_BITS;
    XenPVIOMMUPendingIter it;
    GfnPlace place;
    BfnRun run;

    /* Pages, and not places, of which a page can have thousands */
    for (uint64_t gfn = 0;
         gfn < end && gfn_index_first(core->gfn_index, gfn, end - gfn, &place);
         gfn = place.gfn + place.nr) {
        func(opaque, place.gfn, place.nr);
    }
    xen_pviommu_pending_visit_all(&it, core);
    while (xen_pviommu_pending_next(&it, &run)) {
        func(opaque, run.gfn, run.nr);
    }
}
