/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * QMP commands that look into the paravirtual IOMMU: what contexts map, and
 * where a page is mapped
 */

#include "qemu/osdep.h"
#include "qapi/error.h"
#include "qapi/qapi-commands-xen-pviommu.h"
#include "core/pending.h"
#include "device.h"
#include "monitor.h"

/* Slots of a table that one query looks at: a few milliseconds at most. */
#define MAX_SLOTS       (1u << 18)

/*
 * The pending records of a context with the lowest BFNs, as their number is not
 * bounded by what is asked for: a heap, the highest of them first.
 */
typedef struct Lowest {
    BfnRun *run;
    unsigned nr;
    unsigned max;
    bool more;                  /* others were left out */
} Lowest;

static void heap_swap(BfnRun *a, BfnRun *b)
{
    BfnRun t = *a;

    *a = *b;
    *b = t;
}

static void heap_down(Lowest *l, unsigned i)
{
    for (;;) {
        unsigned child = 2 * i + 1;

        if (child + 1 < l->nr && l->run[child + 1].bfn > l->run[child].bfn) {
            child++;
        }
        if (child >= l->nr || l->run[child].bfn <= l->run[i].bfn) {
            return;
        }
        heap_swap(&l->run[child], &l->run[i]);
        i = child;
    }
}

static void heap_up(Lowest *l, unsigned i)
{
    while (i && l->run[(i - 1) / 2].bfn < l->run[i].bfn) {
        heap_swap(&l->run[(i - 1) / 2], &l->run[i]);
        i = (i - 1) / 2;
    }
}

static void lowest_add(Lowest *l, const BfnRun *run)
{
    if (l->nr < l->max) {
        l->run[l->nr] = *run;
        heap_up(l, l->nr++);
        return;
    }
    l->more = true;
    if (run->bfn < l->run[0].bfn) {
        l->run[0] = *run;
        heap_down(l, 0);
    }
}

static int compare_runs(const void *a, const void *b)
{
    const BfnRun *x = a, *y = b;

    return (x->bfn > y->bfn) - (x->bfn < y->bfn);
}

/* Cut @run to its part from BFN @from on; or only its frame that is @gfn. */
static bool pending_part(BfnRun *run, const uint64_t *gfn, uint64_t from)
{
    uint64_t skip = gfn ? *gfn - run->gfn
                        : from > run->bfn ? from - run->bfn : 0;

    if (skip >= run->nr) {
        return false;
    }
    run->bfn += skip;
    run->gfn += skip;
    run->nr = gfn ? 1 : run->nr - skip;
    return run->bfn >= from;
}

/*
 * Find the pending runs of @ctx with the lowest BFNs from @from on, about @max
 * of them; with @gfn, those of that page. They are sorted in @l then.
 *
 * Returns: the BFN before which these are all there are. That is behind the
 * first if more begin there than fit.
 */
static uint64_t lowest_pending(Lowest *l, const XenPVIOMMUContext *ctx,
                               const uint64_t *gfn, uint64_t from, unsigned max)
{
    XenPVIOMMUPendingIter it;
    uint64_t end;
    BfnRun run;

    /* Some more, as neighbours become one run. */
    *l = (Lowest) { .max = MIN(2 * max + 64, ctx->pending.nr) };
    l->run = g_new(BfnRun, l->max);
    xen_pviommu_pending_visit(&it, ctx);
    while (xen_pviommu_pending_next(&it, &run)) {
        if (pending_part(&run, gfn, from)) {
            lowest_add(l, &run);
        }
    }
    if (l->nr) {
        qsort(l->run, l->nr, sizeof(BfnRun), compare_runs);
    }
    if (!l->more) {
        return UINT64_MAX;
    }
    end = l->run[l->nr - 1].bfn;
    if (end == l->run[0].bfn) {
        return end + 1;
    }
    while (l->run[l->nr - 1].bfn == end) {
        l->nr--;
    }
    return end;
}

/* What a context maps, and what is pending there, each merged, by BFN. */
typedef struct RunStream {
    XenPVIOMMUCore *core;
    const XenPVIOMMUContext *ctx;
    uint64_t end;
    uint64_t end_work;          /* of core->budget.work */
    Lowest waiting;
    unsigned next;              /* of them */
    BfnRun mapped;              /* nr 0: no more */
    BfnRun pending;
} RunStream;

static void next_mapped(RunStream *st, uint64_t bfn)
{
    uint64_t work = st->core->budget.work;

    st->mapped.nr = 0;
    if (bfn >= st->end) {
        return;
    }
    if (work >= st->end_work) {
        st->end = bfn;
        return;
    }
    if (!bfn_table_next_part(st->ctx->table, bfn, st->end, st->end_work - work,
                             &st->mapped)) {
        st->mapped.nr = 0;
    }
}

static void next_pending(RunStream *st)
{
    BfnRun *merged = &st->pending;

    merged->nr = 0;
    for (; st->next < st->waiting.nr; st->next++) {
        const BfnRun *run = &st->waiting.run[st->next];

        if (!merged->nr) {
            *merged = *run;
        } else if (run->bfn == merged->bfn + merged->nr &&
                   run->gfn == merged->gfn + merged->nr &&
                   run->readonly == merged->readonly) {
            merged->nr += run->nr;
        } else {
            return;
        }
    }
}

static void stream_begin(RunStream *st, XenPVIOMMUCore *core,
                         const XenPVIOMMUContext *ctx, uint64_t start,
                         uint32_t max)
{
    *st = (RunStream) {
        .core = core,
        .ctx = ctx,
        .end_work = core->budget.work + MAX_SLOTS,
    };
    st->end = MIN(lowest_pending(&st->waiting, ctx, NULL, start, max),
                  xen_pviommu_bfn_limit(core));
    next_mapped(st, start);
    next_pending(st);
}

static XenPVIOMMURun *stream_next(RunStream *st)
{
    XenPVIOMMURun *out;
    BfnRun run;
    bool pending;

    if (st->pending.nr && st->pending.bfn >= st->end) {
        st->pending.nr = 0;
    }
    if (!st->mapped.nr && !st->pending.nr) {
        return NULL;
    }
    pending = !st->mapped.nr ||
              (st->pending.nr && st->pending.bfn < st->mapped.bfn);
    if (pending) {
        run = st->pending;
        next_pending(st);
    } else {
        run = st->mapped;
        next_mapped(st, run.bfn + run.nr);
    }
    out = g_new0(XenPVIOMMURun, 1);
    out->bfn = run.bfn;
    out->gfn = run.gfn;
    out->frames = run.nr;
    out->readonly = run.readonly;
    out->pending = pending;
    return out;
}

/* Pending runs that begin at @bfn, or began before it if it is @start. */
static uint64_t pending_at(const XenPVIOMMUContext *ctx, uint64_t bfn,
                           uint64_t start)
{
    XenPVIOMMUPendingIter it;
    uint64_t n = 0;
    BfnRun run;

    xen_pviommu_pending_visit(&it, ctx);
    while (xen_pviommu_pending_next(&it, &run)) {
        n += pending_part(&run, NULL, start) && run.bfn == bfn;
    }
    return n;
}

/*
 * End the part before @next: runs that reach over it go on in the next part,
 * those that begin there go to it.
 */
static void end_part(XenPVIOMMUMappings *part, uint64_t next)
{
    XenPVIOMMURunList **link = &part->runs;

    while (*link) {
        XenPVIOMMURun *run = (*link)->value;

        if (run->bfn >= next) {
            qapi_free_XenPVIOMMURunList(*link);
            *link = NULL;
            return;
        }
        run->frames = MIN(run->frames, next - run->bfn);
        link = &(*link)->next;
    }
}

static void fill_part(XenPVIOMMUMappings *part, RunStream *st, uint64_t start,
                      uint32_t max, uint64_t limit)
{
    XenPVIOMMURunList **tail = &part->runs;
    XenPVIOMMURun *run;
    uint32_t nr = 0;

    while ((run = stream_next(st)) && nr < max) {
        QAPI_LIST_APPEND(tail, run);
        nr++;
    }
    if (!run && st->end == limit) {
        return;
    }
    part->has_next_bfn = true;
    part->next_bfn = run ? run->bfn : st->end;
    if (run && run->bfn == part->runs->value->bfn) {
        /* All begin there: go on behind it, whatever else there is. */
        part->has_omitted = true;
        part->omitted = pending_at(st->ctx, run->bfn, start) +
                        !part->runs->value->pending - nr;
        part->next_bfn++;
    }
    g_free(run);
    end_part(part, part->next_bfn);
}

XenPVIOMMUMappings *
qmp_x_query_xen_pviommu_mappings(uint16_t context, bool has_start_bfn,
                                 uint64_t start_bfn, bool has_max,
                                 uint32_t max, Error **errp)
{
    XenPVIOMMUState *s = xen_pviommu_monitor_device(errp);
    XenPVIOMMUMappings *part;
    XenPVIOMMUContext *ctx;
    uint64_t limit;
    RunStream st;

    if (!s || !xen_pviommu_monitor_max(has_max, &max, errp)) {
        return NULL;
    }

    QEMU_LOCK_GUARD(&s->lock);

    ctx = xen_pviommu_context_find(&s->core, context);
    if (!ctx) {
        error_setg(errp, "xen-pviommu has no context %u", context);
        return NULL;
    }
    part = g_new0(XenPVIOMMUMappings, 1);
    limit = xen_pviommu_bfn_limit(&s->core);
    start_bfn = has_start_bfn ? start_bfn : 0;
    if (start_bfn < limit) {
        stream_begin(&st, &s->core, ctx, start_bfn, max);
        fill_part(part, &st, start_bfn, max, limit);
        g_free(st.waiting.run);
    }
    return part;
}

typedef struct PlaceSearch {
    XenPVIOMMUCore *core;
    uint64_t gfn;
    GArray *mapped;             /* GfnPlaces, sorted: some thousands at most */
    unsigned next;              /* of them */
    uint32_t left;              /* BFNs to add */
    XenPVIOMMUPlaces *found;
    XenPVIOMMUPlaceList **tail;
} PlaceSearch;

/* Note where the next part begins. */
static void end_places(PlaceSearch *search, uint16_t ctx, uint64_t bfn)
{
    search->found->has_next_context = true;
    search->found->next_context = ctx;
    search->found->has_next_bfn = true;
    search->found->next_bfn = bfn;
}

static void add_place(PlaceSearch *search, uint16_t ctx, uint64_t bfn,
                      bool readonly, bool pending)
{
    XenPVIOMMUPlace *place = g_new0(XenPVIOMMUPlace, 1);

    place->context = ctx;
    place->bfn = bfn;
    place->readonly = readonly;
    place->pending = pending;
    QAPI_LIST_APPEND(search->tail, place);
}

static bool note_mapped(void *opaque, uint16_t ctx, uint64_t bfn, uint64_t gfn,
                        uint64_t nr)
{
    GfnPlace place = { .gfn = gfn, .bfn = bfn, .nr = nr, .ctx = ctx };

    g_array_append_val(opaque, place);
    return true;
}

static int compare_places(const void *a, const void *b)
{
    const GfnPlace *x = a, *y = b;

    return x->ctx != y->ctx ? x->ctx - y->ctx
                            : (x->bfn > y->bfn) - (x->bfn < y->bfn);
}

/* The first BFN from @from on at which @ctx maps the page; or UINT64_MAX */
static uint64_t next_place(PlaceSearch *search, uint16_t ctx, uint64_t from)
{
    for (; search->next < search->mapped->len; search->next++) {
        const GfnPlace *place = &g_array_index(search->mapped, GfnPlace,
                                               search->next);

        if (place->ctx > ctx) {
            break;
        }
        if (place->ctx == ctx && place->bfn >= from) {
            return place->bfn;
        }
    }
    return UINT64_MAX;
}

/* Add what @ctx has at @bfn: mapped, and pending, each of a kind once. */
static void add_places_at(PlaceSearch *search, const XenPVIOMMUContext *ctx,
                          uint64_t bfn, bool mapped, const Lowest *lowest,
                          unsigned *next)
{
    bool seen[2] = { };
    BfnRun run;

    if (mapped) {
        mapped = bfn_table_next_run(ctx->table, bfn, bfn + 1, &run);
        assert(mapped);
        add_place(search, ctx->id, bfn, run.readonly, false);
    }
    for (; *next < lowest->nr && lowest->run[*next].bfn == bfn; ++*next) {
        bool readonly = lowest->run[*next].readonly;

        if (!seen[readonly]) {
            add_place(search, ctx->id, bfn, readonly, true);
            seen[readonly] = true;
        }
    }
}

/* Add what @ctx has from @from on, by BFN; false if there is more of it. */
static bool add_places(PlaceSearch *search, const XenPVIOMMUContext *ctx,
                       uint64_t from)
{
    uint64_t limit = xen_pviommu_bfn_limit(search->core);
    g_autofree BfnRun *to_free = NULL;
    uint64_t mapped, end;
    unsigned next = 0;
    Lowest lowest;

    end = lowest_pending(&lowest, ctx, &search->gfn, from, search->left);
    to_free = lowest.run;
    for (; from < limit; from++) {
        mapped = next_place(search, ctx->id, from);
        from = MIN(mapped, next < lowest.nr ? lowest.run[next].bfn
                                            : UINT64_MAX);
        if (from >= end) {
            from = end;
            break;
        }
        if (!search->left) {
            break;
        }
        search->left--;
        add_places_at(search, ctx, from, from == mapped, &lowest, &next);
    }
    if (from < limit) {
        end_places(search, ctx->id, from);
        return false;
    }
    return true;
}

XenPVIOMMUPlaces *
qmp_x_query_xen_pviommu_gfn(uint64_t gfn, bool has_start_context,
                            uint16_t start_context, bool has_start_bfn,
                            uint64_t start_bfn, bool has_max, uint32_t max,
                            Error **errp)
{
    XenPVIOMMUState *s = xen_pviommu_monitor_device(errp);
    uint32_t first = has_start_context ? start_context : 0;
    PlaceSearch search;

    if (!s || !xen_pviommu_monitor_max(has_max, &max, errp)) {
        return NULL;
    }
    if (gfn >> GFN_INDEX_BITS) {
        error_setg(errp, "gfn must be below 1 << %d", GFN_INDEX_BITS);
        return NULL;
    }

    QEMU_LOCK_GUARD(&s->lock);

    search.core = &s->core;
    search.gfn = gfn;
    search.left = max;
    search.found = g_new0(XenPVIOMMUPlaces, 1);
    search.tail = &search.found->places;
    search.mapped = g_array_new(false, false, sizeof(GfnPlace));
    search.next = 0;
    gfn_index_foreach(s->core.gfn_index, gfn, 1, note_mapped, search.mapped);
    g_array_sort(search.mapped, compare_places);
    for (uint32_t id = first; id < s->core.limits.max_contexts; id++) {
        const XenPVIOMMUContext *ctx = s->core.contexts[id];

        if (ctx && !add_places(&search, ctx,
                               has_start_bfn && id == first ? start_bfn : 0)) {
            break;
        }
    }
    g_array_unref(search.mapped);
    return search.found;
}
