/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Contexts: what a map, an unmap and a flush do to the BFN table, the GFN
 * index, pending runs and the backend's references
 */

#include "qemu/osdep.h"
#include "context.h"
#include "pending.h"
#include "trace.h"

/* What freeing a context does before it asks the guest to come again. */
#define FREE_WORK_AT_ONCE (1u << 18)

/*
 * What a part of an unmap does before it is unfinished, besides being a number
 * of runs: slots of the table that it looks at, and places in the GFN index
 * that it removes, of which each can be one in a tree.
 */
#define PART_SLOTS (1u << 15)
#define PART_PLACES (1u << 13)

XenPVIOMMUContext *xen_pviommu_context_find(XenPVIOMMUCore *core, uint32_t id)
{
    return id < core->limits.max_contexts ? core->contexts[id] : NULL;
}

static void context_reclaim(XenPVIOMMUContext *ctx)
{
    node_pool_heap_free(ctx->pool, ctx, sizeof(*ctx));
}

XenPVIOMMUContext *xen_pviommu_context_new(XenPVIOMMUCore *core, uint16_t id)
{
    XenPVIOMMUContext *ctx = xen_pviommu_budget_alloc(&core->budget,
                                                      sizeof(*ctx));

    assert(id < core->limits.max_contexts && !core->contexts[id]);
    if (!ctx) {
        return NULL;
    }
    ctx->id = id;
    ctx->pool = core->budget.pool;
    ctx->table = bfn_table_new(core->limits.bfn_bits, &core->budget);
    if (!ctx->table) {
        context_reclaim(ctx);
        return NULL;
    }
    xen_pviommu_pending_context_init(ctx);
    core->contexts[id] = ctx;
    trace_xen_pviommu_context_new(id);
    return ctx;
}

int xen_pviommu_context_alloc(XenPVIOMMUCore *core, XenPVIOMMUContext **ctx)
{
    uint32_t id = XEN_IOMMU_CTX_DEFAULT + 1;

    while (id < core->limits.max_contexts && core->contexts[id]) {
        id++;
    }
    core->work += id / XEN_PVIOMMU_RUN_WORK;
    if (id == core->limits.max_contexts) {
        return -XEN_IOMMU_ENOSPC;
    }
    *ctx = xen_pviommu_context_new(core, id);
    return *ctx ? 0 : -XEN_IOMMU_ENOMEM;
}

/* The table and the index get @run, or neither. */
static bool context_add_run(XenPVIOMMUCore *core, XenPVIOMMUContext *ctx,
                            const BfnRun *run)
{
    if (!gfn_index_add(core->gfn_index, run->gfn, run->nr, ctx->id, run->bfn)) {
        return false;
    }
    if (!bfn_table_map(ctx->table, run)) {
        gfn_index_remove(core->gfn_index, run->gfn, run->nr, ctx->id, run->bfn);
        return false;
    }
    return true;
}

/*
 * @run, a part of what @ctx maps, can be removed from table and index without
 * any more memory. False, with nothing changed, if there is none.
 */
static bool context_prepare_remove(XenPVIOMMUCore *core, XenPVIOMMUContext *ctx,
                                   const BfnRun *run)
{
    return bfn_table_prepare(ctx->table) &&
           gfn_index_split(core->gfn_index, run->gfn, ctx->id, run->bfn) &&
           gfn_index_split(core->gfn_index, run->gfn + run->nr, ctx->id,
                           run->bfn + run->nr);
}

/* Make @run so much longer that context_prepare_remove() has nothing to do. */
static void context_extend_run(XenPVIOMMUCore *core, XenPVIOMMUContext *ctx,
                               BfnRun *run)
{
    uint64_t nr;

    do {
        GfnPlace place;

        nr = run->nr;
        bfn_table_extend(ctx->table, run);
        place = (GfnPlace) { run->bfn, run->gfn, run->nr, ctx->id };
        gfn_index_extend(core->gfn_index, &place);
        run->bfn = place.bfn;
        run->gfn = place.gfn;
        run->nr = place.nr;
    } while (run->nr != nr);
}

bool xen_pviommu_context_remove_run(XenPVIOMMUCore *core,
                                    XenPVIOMMUContext *ctx, BfnRun *run)
{
    bool exact = context_prepare_remove(core, ctx, run);

    if (!exact) {
        context_extend_run(core, ctx, run);
    }
    gfn_index_remove(core->gfn_index, run->gfn, run->nr, ctx->id, run->bfn);
    bfn_table_unmap(ctx->table, run->bfn, run->nr);
    ctx->mapped_frames -= run->nr;
    core->mapped_frames -= run->nr;
    if (ctx->nr_devices) {
        core->listener_ops->unmap(core->client, ctx, run->bfn, run->nr);
    }
    core->backend_ops->put(core->backend, run->gfn, run->nr, run->readonly);
    core->work++;
    return exact;
}

bool xen_pviommu_context_empty(XenPVIOMMUCore *core, XenPVIOMMUContext *ctx,
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
        xen_pviommu_context_remove_run(core, ctx, &run);
    }
    return true;
}

void xen_pviommu_context_unlink(XenPVIOMMUCore *core, XenPVIOMMUContext *ctx)
{
    trace_xen_pviommu_context_free(ctx->id);
    assert(!ctx->nr_devices);
    if (ctx->queue) {
        core->memory_ops->set_queue(core->client, ctx, 0, 0);
    }
    core->contexts[ctx->id] = NULL;
    if (ctx->reserved) {
        g_array_unref(ctx->reserved);
    }
    call_rcu(ctx, context_reclaim, rcu);
}

int xen_pviommu_context_free(XenPVIOMMUCore *core, XenPVIOMMUContext *ctx)
{
    if (ctx->nr_devices) {
        return -XEN_IOMMU_EBUSY;
    }
    if (!xen_pviommu_context_empty(core, ctx, FREE_WORK_AT_ONCE)) {
        return -XEN_IOMMU_EAGAIN;
    }
    bfn_table_free(ctx->table);
    xen_pviommu_context_unlink(core, ctx);
    return 0;
}

void xen_pviommu_context_clear_reserved(XenPVIOMMUContext *ctx)
{
    if (!ctx->reserved) {
        ctx->reserved = xen_pviommu_reserved_new();
    }
    g_array_set_size(ctx->reserved, 0);
}

bool xen_pviommu_context_reserved(const XenPVIOMMUCore *core,
                                  const XenPVIOMMUContext *ctx,
                                  uint64_t bfn, uint64_t nr)
{
    return xen_pviommu_reserved_hit(core->reserved, bfn, nr) ||
           xen_pviommu_reserved_hit(ctx->reserved, bfn, nr);
}

/* One of the pages is mapped at as many BFNs as can be. */
static bool run_is_crowded(XenPVIOMMUCore *core, const BfnRun *run)
{
    unsigned max = run->nr < XEN_IOMMU_LARGE_FRAMES
        ? XEN_IOMMU_MAX_PLACES : XEN_IOMMU_MAX_LARGE_PLACES;

    return !core->loading && gfn_index_most(core->gfn_index) >= max &&
           gfn_index_crowded(core->gfn_index, run->gfn, run->nr, max - 1);
}

static int context_get(XenPVIOMMUCore *core, uint16_t domid, const BfnRun *run)
{
    /* What a guest mapped stays, whatever it accepted later. */
    uint64_t features = core->loading ? xen_pviommu_core_features(core)
                                      : core->accepted;
    unsigned flags =
        (run->readonly ? XEN_PVIOMMU_GET_READONLY : 0) |
        (features & XEN_IOMMU_FEATURE_MMIO ? XEN_PVIOMMU_GET_MMIO : 0);

    return core->backend_ops->get(core->backend, domid, run->gfn, run->nr,
                                  flags);
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
    if (run_is_crowded(core, run)) {
        xen_pviommu_guest_error(core, "map: a page of gfn 0x%" PRIx64 " nr 0x%"
                                PRIx64 " is mapped at too many BFNs", run->gfn,
                                run->nr);
        return -XEN_IOMMU_ENOSPC;
    }
    ret = context_get(core, domid, run);
    if (ret) {
        return ret;
    }
    /* A BFN that is used again must not be flushed away from its new page. */
    if (!xen_pviommu_pending_notify(core, ctx, run->bfn, run->nr,
                                    XEN_PVIOMMU_NOTIFY_AT_ONCE)) {
        core->backend_ops->put(core->backend, run->gfn, run->nr, run->readonly);
        return XEN_PVIOMMU_UNFINISHED;
    }
    if (!context_add_run(core, ctx, run)) {
        core->backend_ops->put(core->backend, run->gfn, run->nr, run->readonly);
        return -XEN_IOMMU_ENOMEM;
    }
    ctx->mapped_frames += run->nr;
    core->mapped_frames += run->nr;
    core->work++;
    core->listener_ops->map(core->client, ctx, run);
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
 * not all of it is mapped, unless @skip_unmapped.
 */
static bool unmap_find_part(XenPVIOMMUCore *core, const XenPVIOMMUContext *ctx,
                            uint64_t bfn, uint64_t end, bool skip_unmapped,
                            UnmapPart *part)
{
    uint64_t before = core->budget.work;
    /* One among many takes longer to find; all runs that are due fit. */
    unsigned place_weight = MIN(1 + gfn_index_most(core->gfn_index) / 512,
                                PART_PLACES / XEN_IOMMU_UNMAP_RUNS);

    *part = (UnmapPart) { .bfn = bfn, .end = bfn };
    while (part->end < end &&
           !part_is_full(part, core->budget.work - before)) {
        BfnRun *run = &core->unmap_runs[part->runs];
        bool found = bfn_table_next_part(ctx->table, part->end, end, PART_SLOTS,
                                         run);

        if (!skip_unmapped && (!found || run->bfn != part->end)) {
            return false;
        }
        if (!found) {
            part->end = end;
            break;
        }
        part->runs++;
        part->places += gfn_index_places(run->nr) * place_weight;
        part->end = run->bfn + run->nr;
        core->work++;
    }
    return true;
}

/*
 * What is mapped of @part can be removed without any more memory. Only its ends
 * can be amid what was mapped at once.
 */
static bool unmap_split(XenPVIOMMUCore *core, XenPVIOMMUContext *ctx,
                        const UnmapPart *part)
{
    const BfnRun *first = core->unmap_runs, *last = first + part->runs - 1;

    return bfn_table_prepare(ctx->table) &&
           (!gfn_index_has_runs(core->gfn_index) ||
            (gfn_index_split(core->gfn_index, first->gfn, ctx->id,
                             first->bfn) &&
             gfn_index_split(core->gfn_index, last->gfn + last->nr, ctx->id,
                             last->bfn + last->nr)));
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
                                   uint64_t *bfn, uint64_t *nr,
                                   bool skip_unmapped)
{
    bool listening = core->listener_ops->listening(core->client, ctx);
    uint64_t end = *bfn + *nr;
    UnmapPart part;
    int ret;

    if (!unmap_find_part(core, ctx, *bfn, end, skip_unmapped, &part)) {
        return xen_pviommu_context_reserved(core, ctx, *bfn, *nr)
            ? -XEN_IOMMU_EADDRNOTAVAIL : -XEN_IOMMU_ENOENT;
    }
    ret = unmap_prepare(core, ctx, part.runs, listening);
    if (ret) {
        return ret;
    }
    if (part.runs && !unmap_split(core, ctx, &part)) {
        return -XEN_IOMMU_ENOMEM;
    }
    for (uint64_t i = 0; i < part.runs; i++) {
        const BfnRun *run = &core->unmap_runs[i];

        gfn_index_remove(core->gfn_index, run->gfn, run->nr, ctx->id, run->bfn);
        xen_pviommu_pending_add(core, ctx, run, !listening);
        ctx->mapped_frames -= run->nr;
        core->mapped_frames -= run->nr;
        if (skip_unmapped) {
            bfn_table_unmap(ctx->table, run->bfn, run->nr);
        }
    }
    if (!skip_unmapped) {
        bfn_table_unmap(ctx->table, part.bfn, part.end - part.bfn);
    }
    *bfn = part.end;
    *nr = end - part.end;
    return *nr ? XEN_PVIOMMU_UNFINISHED : 0;
}

int xen_pviommu_context_unmap(XenPVIOMMUCore *core, XenPVIOMMUContext *ctx,
                              uint64_t bfn, uint64_t nr, bool skip_unmapped)
{
    int ret;

    do {
        ret = xen_pviommu_context_unmap_part(core, ctx, &bfn, &nr,
                                             skip_unmapped);
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
    ret = context_get(core, XEN_IOMMU_DOMID_SELF, run);
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
    /* No reference is dropped before no device has a translation. */
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
