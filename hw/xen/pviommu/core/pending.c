/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What was unmapped and waits for a flush
 */

#include "qemu/osdep.h"
#include "pending.h"

/* The most records there can be: 8 MiB, which are read in a millisecond. */
#define PENDING_MAX (1u << 18)
#define PENDING_MIN 4096

/* Chunks that are kept: strict guests add and release all the time. */
#define SPARE_CHUNKS_MAX 16

/* Records that are looked at in the time of what core.work counts as one. */
#define SCAN_PER_WORK 16
/* And that are sorted */
#define SORT_PER_WORK 4

/* A notification calls listeners, some of which call a kernel. */
#define NOTIFY_WORK 32

/* A run that was unmapped: its pages are held until a flush. */
typedef struct PendingRecord {
    uint64_t bfn;
    uint64_t gfn;
    uint64_t nr;
    bool readonly;
    bool notified;              /* no listener has a translation of it */
} PendingRecord;

#define PENDING_CHUNK 127

struct XenPVIOMMUPendingChunk {
    QSIMPLEQ_ENTRY(XenPVIOMMUPendingChunk) next;
    unsigned nr;                /* all of them, but in the last chunk */
    PendingRecord run[PENDING_CHUNK];
};

uint64_t xen_pviommu_pending_max(const XenPVIOMMUCore *core)
{
    return MIN(MAX(core->limits.max_mappings / 64, PENDING_MIN), PENDING_MAX);
}

size_t xen_pviommu_pending_max_bytes(const XenPVIOMMUCore *core)
{
    /* Each context, of which each has a node, has a chunk that is not full. */
    uint64_t contexts = MIN(core->limits.max_contexts,
                            core->budget.max_bytes / NODE_POOL_NODE_SIZE);
    uint64_t chunks = DIV_ROUND_UP(xen_pviommu_pending_max(core),
                                   PENDING_CHUNK) +
                      contexts + 2 * SPARE_CHUNKS_MAX;

    return chunks * node_pool_heap_cost(sizeof(XenPVIOMMUPendingChunk));
}

uint64_t xen_pviommu_pending_room(const XenPVIOMMUCore *core)
{
    uint64_t max = xen_pviommu_pending_max(core);

    return core->pending.nr < max ? max - core->pending.nr : 0;
}

bool xen_pviommu_pending_reserve(XenPVIOMMUCore *core, uint64_t nr)
{
    /* The last chunk of a context has room for some, or none. */
    while ((uint64_t)core->pending.nr_spare * PENDING_CHUNK < nr) {
        XenPVIOMMUPendingChunk *c = node_pool_heap_alloc(core->budget.pool,
                                                         sizeof(*c));

        if (!c) {
            return false;
        }
        QSIMPLEQ_INSERT_HEAD(&core->pending.spare, c, next);
        core->pending.nr_spare++;
    }
    return true;
}

static void chunk_free(XenPVIOMMUCore *core, XenPVIOMMUPendingChunk *c)
{
    if (core->pending.nr_spare >= SPARE_CHUNKS_MAX) {
        node_pool_heap_free(core->budget.pool, c, sizeof(*c));
        return;
    }
    QSIMPLEQ_INSERT_HEAD(&core->pending.spare, c, next);
    core->pending.nr_spare++;
}

static XenPVIOMMUPendingChunk *list_grow(XenPVIOMMUCore *core,
                                         XenPVIOMMUPendingList *list)
{
    XenPVIOMMUPendingChunk *c = QSIMPLEQ_FIRST(&core->pending.spare);

    assert(c);
    QSIMPLEQ_REMOVE_HEAD(&core->pending.spare, next);
    core->pending.nr_spare--;
    c->nr = 0;
    QSIMPLEQ_INSERT_TAIL(&list->chunks, c, next);
    list->last = c;
    return c;
}

static void list_add(XenPVIOMMUCore *core, XenPVIOMMUPendingList *list,
                     const PendingRecord *p)
{
    XenPVIOMMUPendingChunk *c = list->last;

    if (!c || c->nr == PENDING_CHUNK) {
        c = list_grow(core, list);
    }
    c->run[c->nr++] = *p;
    list->nr++;
    if (!p->notified && !list->nr_unnotified) {
        list->unnotified = (XenPVIOMMUPendingPos) { c, c->nr - 1 };
        list->nr_tail = 0;
    }
    list->nr_unnotified += !p->notified;
    list->nr_tail += list->nr_unnotified != 0;
}

/* The frames of @ctx and of @core that wait change by @nr. */
static void count_frames(XenPVIOMMUCore *core, XenPVIOMMUContext *ctx,
                         uint64_t nr)
{
    ctx->pending_frames += nr;
    core->pending_frames += nr;
}

void xen_pviommu_pending_add(XenPVIOMMUCore *core, XenPVIOMMUContext *ctx,
                             const BfnRun *run, bool notified)
{
    const PendingRecord p = {
        .bfn = run->bfn,
        .gfn = run->gfn,
        .nr = run->nr,
        .readonly = run->readonly,
        .notified = notified,
    };

    if (!ctx->pending.nr) {
        QLIST_INSERT_HEAD(&core->pending.contexts, ctx, next_pending);
    }
    list_add(core, &ctx->pending, &p);
    core->pending.nr++;
    count_frames(core, ctx, run->nr);
}

static PendingRecord *pos_get(XenPVIOMMUPendingPos *pos)
{
    if (pos->chunk && pos->index == pos->chunk->nr) {
        pos->chunk = QSIMPLEQ_NEXT(pos->chunk, next);
        pos->index = 0;
    }
    return pos->chunk && pos->index < pos->chunk->nr
           ? &pos->chunk->run[pos->index] : NULL;
}

void xen_pviommu_pending_visit(XenPVIOMMUPendingIter *it,
                               const XenPVIOMMUContext *ctx)
{
    *it = (XenPVIOMMUPendingIter) {
        .ctx = ctx,
        .pos = { QSIMPLEQ_FIRST(&ctx->pending.chunks), 0 },
    };
}

void xen_pviommu_pending_visit_all(XenPVIOMMUPendingIter *it,
                                   const XenPVIOMMUCore *core)
{
    const XenPVIOMMUContext *first = QLIST_FIRST(&core->pending.contexts);

    *it = (XenPVIOMMUPendingIter) { 0 };
    if (first) {
        xen_pviommu_pending_visit(it, first);
        it->all = true;
    }
}

bool xen_pviommu_pending_next(XenPVIOMMUPendingIter *it, BfnRun *run)
{
    const PendingRecord *p = pos_get(&it->pos);

    while (!p && it->all && QLIST_NEXT(it->ctx, next_pending)) {
        xen_pviommu_pending_visit(it, QLIST_NEXT(it->ctx, next_pending));
        it->all = true;
        p = pos_get(&it->pos);
    }
    if (!p) {
        return false;
    }
    *run = (BfnRun) {
        .bfn = p->bfn,
        .gfn = p->gfn,
        .nr = p->nr,
        .readonly = p->readonly,
    };
    it->notified = p->notified;
    it->pos.index++;
    return true;
}

static void mark_notified(XenPVIOMMUPendingList *list, PendingRecord *p)
{
    list->nr_unnotified -= !p->notified;
    p->notified = true;
}

static int compare_bfn(const void *a, const void *b)
{
    const PendingRecord *x = *(PendingRecord * const *)a;
    const PendingRecord *y = *(PendingRecord * const *)b;

    return (x->bfn > y->bfn) - (x->bfn < y->bfn);
}

/* Large, and of which little is used; QEMU is built to clear all variables. */
#if __has_attribute(uninitialized)
#define UNINITIALIZED __attribute__((uninitialized))
#else
#define UNINITIALIZED
#endif

/* On the stack: this may be when there is no memory. */
typedef struct Unnotified {
    unsigned nr;
    PendingRecord *run[XEN_PVIOMMU_UNNOTIFIED_MAX];
} Unnotified;

/* What of [@bfn, @last] listeners may still have, in the order of BFNs. */
static void find_unnotified(XenPVIOMMUCore *core, XenPVIOMMUPendingList *list,
                            uint64_t bfn, uint64_t last, Unnotified *found)
{
    XenPVIOMMUPendingPos pos = list->unnotified;
    PendingRecord *p;

    for (p = pos_get(&pos); p; pos.index++, p = pos_get(&pos)) {
        if (!p->notified && p->bfn <= last && p->bfn + p->nr - 1 >= bfn) {
            assert(found->nr < XEN_PVIOMMU_UNNOTIFIED_MAX);
            found->run[found->nr++] = p;
        }
    }
    core->work += DIV_ROUND_UP(list->nr_tail, SCAN_PER_WORK) +
                  found->nr / SORT_PER_WORK;
    if (found->nr > 1) {
        qsort(found->run, found->nr, sizeof(found->run[0]), compare_bfn);
    }
}

/* No listener now: earlier ones are gone, and a new one starts empty. */
static void mark_all_notified(XenPVIOMMUCore *core, XenPVIOMMUPendingList *list)
{
    XenPVIOMMUPendingPos pos = list->unnotified;
    PendingRecord *p;

    core->work += DIV_ROUND_UP(list->nr_tail, SCAN_PER_WORK);
    for (p = pos_get(&pos); p; pos.index++, p = pos_get(&pos)) {
        mark_notified(list, p);
    }
}

bool xen_pviommu_pending_notify(XenPVIOMMUCore *core, XenPVIOMMUContext *ctx,
                                uint64_t bfn, uint64_t nr, unsigned max)
{
    UNINITIALIZED Unnotified found;
    unsigned i = 0;

    if (!ctx->pending.nr_unnotified) {
        return true;
    }
    if (!core->listener_ops->listening(core->client, ctx)) {
        mark_all_notified(core, &ctx->pending);
        return true;
    }
    found.nr = 0;
    find_unnotified(core, &ctx->pending, bfn, bfn + nr - 1, &found);
    while (i < found.nr && max--) {
        PendingRecord *p = found.run[i];
        uint64_t start = p->bfn, end = start;

        for (; i < found.nr; i++) {
            p = found.run[i];
            if (p->bfn > end) {
                break;
            }
            end = MAX(end, p->bfn + p->nr);
            mark_notified(&ctx->pending, p);
        }
        core->work += NOTIFY_WORK;
        core->listener_ops->unmap(core->client, ctx, start, end - start);
    }
    return i == found.nr;
}

void xen_pviommu_pending_notify_all(XenPVIOMMUCore *core,
                                    XenPVIOMMUContext *ctx)
{
    xen_pviommu_pending_notify(core, ctx, 0, xen_pviommu_bfn_limit(core),
                               UINT_MAX);
}

static void pending_put(XenPVIOMMUCore *core, XenPVIOMMUContext *ctx,
                        const PendingRecord *p, uint64_t offset,
                        uint64_t nr)
{
    core->backend_ops->put(core->backend, p->gfn + offset, nr, p->readonly);
    count_frames(core, ctx, -nr);
}

/* All records from @pos on go, and @nr stay. */
static void list_truncate(XenPVIOMMUCore *core, XenPVIOMMUContext *ctx,
                          XenPVIOMMUPendingPos pos, uint64_t nr)
{
    XenPVIOMMUPendingList *list = &ctx->pending;
    QSIMPLEQ_HEAD(, XenPVIOMMUPendingChunk) kept, gone;
    XenPVIOMMUPendingChunk *c, *next;

    core->pending.nr -= list->nr - nr;
    list->nr = nr;
    QSIMPLEQ_INIT(&kept);
    QSIMPLEQ_INIT(&gone);
    if (nr) {
        pos.chunk->nr = pos.index;
        QSIMPLEQ_SPLIT_AFTER(&list->chunks, pos.chunk, next, &kept);
    } else {
        QLIST_REMOVE(ctx, next_pending);
    }
    list->last = nr ? pos.chunk : NULL;
    QSIMPLEQ_CONCAT(&gone, &list->chunks);
    QSIMPLEQ_CONCAT(&list->chunks, &kept);
    QSIMPLEQ_FOREACH_SAFE(c, &gone, next, next) {
        chunk_free(core, c);
    }
}

/* Records have moved: find the first that is not notified. */
static void list_find_unnotified(XenPVIOMMUPendingList *list)
{
    XenPVIOMMUPendingPos pos = { QSIMPLEQ_FIRST(&list->chunks), 0 };
    uint64_t before = 0;

    if (!list->nr_unnotified) {
        return;
    }
    while (pos_get(&pos)->notified) {
        pos.index++;
        before++;
    }
    list->unnotified = pos;
    list->nr_tail = list->nr - before;
}

/* The frames of @p in [@start, @last] of BFNs, or of GFNs; 0 if none are. */
static uint64_t overlap(const PendingRecord *p, bool by_gfn,
                        uint64_t start, uint64_t last, uint64_t *offset)
{
    uint64_t first = by_gfn ? p->gfn : p->bfn;
    uint64_t end = first + p->nr - 1;

    if (first > last || end < start) {
        return 0;
    }
    *offset = MAX(first, start) - first;
    return MIN(end, last) - first - *offset + 1;
}

/* One for a record at the most, of those that are few enough to be cut. */
typedef struct Tails {
    unsigned nr;
    PendingRecord run[XEN_PVIOMMU_PENDING_EXACT];
} Tails;

/*
 * Release what of @p is in the range. What is left of it: true, and @p is its
 * first or only part; a second part is added to @tails if there is room.
 */
static bool pending_cut(XenPVIOMMUCore *core, XenPVIOMMUContext *ctx,
                        PendingRecord *p, uint64_t offset, uint64_t nr,
                        Tails *tails)
{
    PendingRecord tail = *p;

    assert(p->notified);
    tail.bfn += offset + nr;
    tail.gfn += offset + nr;
    tail.nr -= offset + nr;
    if (offset && tail.nr &&
        (xen_pviommu_pending_room(core) <= tails->nr ||
         !xen_pviommu_pending_reserve(core, tails->nr + 1))) {
        /* There is no room for the rest: it may go as well. */
        nr += tail.nr;
        tail.nr = 0;
    }
    pending_put(core, ctx, p, offset, nr);
    if (!offset) {
        *p = tail;
        return p->nr;
    }
    p->nr = offset;
    if (tail.nr) {
        assert(tails->nr < XEN_PVIOMMU_PENDING_EXACT);
        tails->run[tails->nr++] = tail;
    }
    return true;
}

static void list_cut(XenPVIOMMUCore *core, XenPVIOMMUContext *ctx, bool by_gfn,
                     uint64_t start, uint64_t last)
{
    UNINITIALIZED Tails tails;
    XenPVIOMMUPendingList *list = &ctx->pending;
    XenPVIOMMUPendingPos from = { QSIMPLEQ_FIRST(&list->chunks), 0 };
    XenPVIOMMUPendingPos to;
    uint64_t kept = 0, offset;
    PendingRecord *p;

    core->work += DIV_ROUND_UP(list->nr, SCAN_PER_WORK);
    while ((p = pos_get(&from)) && !overlap(p, by_gfn, start, last, &offset)) {
        from.index++;
        kept++;
    }
    if (!p) {
        return;
    }
    tails.nr = 0;
    /* All chunks but the last are full, before and afterwards. */
    for (to = from; (p = pos_get(&from)); from.index++) {
        uint64_t nr = overlap(p, by_gfn, start, last, &offset);
        PendingRecord rest = *p;

        core->work += !!nr;
        if (nr && !pending_cut(core, ctx, &rest, offset, nr, &tails)) {
            continue;
        }
        *pos_get(&to) = rest;
        to.index++;
        kept++;
    }
    list_truncate(core, ctx, to, kept);
    for (unsigned i = 0; i < tails.nr; i++) {
        list_add(core, list, &tails.run[i]);
        core->pending.nr++;
    }
    list_find_unnotified(list);
}

void xen_pviommu_pending_release(XenPVIOMMUCore *core, XenPVIOMMUContext *ctx,
                                 uint64_t bfn, uint64_t nr)
{
    list_cut(core, ctx, false, bfn, bfn + nr - 1);
}

void xen_pviommu_pending_release_all(XenPVIOMMUCore *core,
                                     XenPVIOMMUContext *ctx)
{
    XenPVIOMMUPendingPos pos = { QSIMPLEQ_FIRST(&ctx->pending.chunks), 0 };
    const PendingRecord *p;

    assert(!ctx->pending.nr_unnotified);
    if (!ctx->pending.nr) {
        return;
    }
    if (xen_pviommu_core_put_frames(core, ctx->pending_frames)) {
        count_frames(core, ctx, -ctx->pending_frames);
    } else {
        core->work += ctx->pending.nr;
        for (; (p = pos_get(&pos)); pos.index++) {
            pending_put(core, ctx, p, 0, p->nr);
        }
    }
    core->work += DIV_ROUND_UP(ctx->pending.nr, PENDING_CHUNK);
    list_truncate(core, ctx, (XenPVIOMMUPendingPos) { NULL, 0 }, 0);
}

/* Listeners drop what is pending of [@gfn, @last], each record as a whole. */
static void notify_by_gfn(XenPVIOMMUCore *core, XenPVIOMMUContext *ctx,
                          uint64_t gfn, uint64_t last)
{
    XenPVIOMMUPendingPos pos = ctx->pending.unnotified;
    PendingRecord *p;
    uint64_t offset;

    if (!ctx->pending.nr_unnotified) {
        return;
    }
    for (p = pos_get(&pos); p; pos.index++, p = pos_get(&pos)) {
        if (!p->notified && overlap(p, true, gfn, last, &offset)) {
            mark_notified(&ctx->pending, p);
            core->work += NOTIFY_WORK;
            core->listener_ops->unmap(core->client, ctx, p->bfn, p->nr);
        }
    }
}

void xen_pviommu_pending_invalidate(XenPVIOMMUCore *core,
                                    uint64_t gfn, uint64_t nr)
{
    bool all = core->pending.nr > XEN_PVIOMMU_PENDING_EXACT;
    XenPVIOMMUContext *ctx, *next;

    QLIST_FOREACH_SAFE(ctx, &core->pending.contexts, next_pending, next) {
        if (all) {
            xen_pviommu_pending_notify_all(core, ctx);
            xen_pviommu_pending_release_all(core, ctx);
        } else {
            notify_by_gfn(core, ctx, gfn, gfn + nr - 1);
            list_cut(core, ctx, true, gfn, gfn + nr - 1);
        }
    }
}

void xen_pviommu_pending_context_init(XenPVIOMMUContext *ctx)
{
    QSIMPLEQ_INIT(&ctx->pending.chunks);
}

void xen_pviommu_pending_init(XenPVIOMMUCore *core)
{
    QSIMPLEQ_INIT(&core->pending.spare);
    QLIST_INIT(&core->pending.contexts);
}

void xen_pviommu_pending_finalize(XenPVIOMMUCore *core)
{
    XenPVIOMMUPendingChunk *c;

    while ((c = QSIMPLEQ_FIRST(&core->pending.spare))) {
        QSIMPLEQ_REMOVE_HEAD(&core->pending.spare, next);
        node_pool_heap_free(core->budget.pool, c, sizeof(*c));
    }
    core->pending.nr_spare = 0;
}
