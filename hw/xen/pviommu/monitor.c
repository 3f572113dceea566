/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * QMP commands that look into the paravirtual IOMMU
 *
 * They change nothing, and what each returns is bounded: by the properties
 * of the device, or by what was asked for. BQL held.
 */

#include "qemu/osdep.h"
#include "qapi/error.h"
#include "qapi/qapi-commands-xen-pviommu.h"
#include "device.h"
#include "dma.h"
#include "queue.h"

#define DEFAULT_MAX     64
#define MAX_MAX         4096

static XenPVIOMMUState *the_device(Error **errp)
{
    ERRP_GUARD();
    Object *obj = object_resolve_path_type("", TYPE_XEN_PVIOMMU, NULL);

    if (!obj || !qdev_is_realized(DEVICE(obj))) {
        error_setg(errp, "the machine has no xen-pviommu");
        error_append_hint(errp, "Start it with -device xen-pviommu.\n");
        return NULL;
    }
    return XEN_PVIOMMU(obj);
}

static char *sbdf_string(uint32_t sbdf)
{
    return g_strdup_printf("%04x:%02x:%02x.%x", sbdf >> 16, PCI_BUS_NUM(sbdf),
                           PCI_SLOT(sbdf), PCI_FUNC(sbdf));
}

static XenPVIOMMUFeatureList *feature_list(uint64_t features)
{
    static const uint64_t bits[] = {
        [XEN_PVIOMMU_FEATURE_RANGES] = XEN_IOMMU_FEATURE_RANGES,
        [XEN_PVIOMMU_FEATURE_CONTEXTS] = XEN_IOMMU_FEATURE_CONTEXTS,
        [XEN_PVIOMMU_FEATURE_LOOKUP] = XEN_IOMMU_FEATURE_LOOKUP,
        [XEN_PVIOMMU_FEATURE_QUEUE] = XEN_IOMMU_FEATURE_QUEUE,
    };
    XenPVIOMMUFeatureList *list = NULL, **tail = &list;

    /* One that is missing here is missing in the schema. */
    QEMU_BUILD_BUG_ON(XEN_IOMMU_FEATURES_ALL >= 1 << XEN_PVIOMMU_FEATURE__MAX);
    for (int i = 0; i < XEN_PVIOMMU_FEATURE__MAX; i++) {
        if (features & bits[i]) {
            QAPI_LIST_APPEND(tail, i);
        }
    }
    return list;
}

static XenPVIOMMUReservedRangeList *reserved_list(const GArray *ranges)
{
    XenPVIOMMUReservedRangeList *list = NULL, **tail = &list;

    for (guint i = 0; i < ranges->len; i++) {
        const XenPVIOMMUReserved *r = xen_pviommu_reserved_at(ranges, i);
        XenPVIOMMUReservedRange *range = g_new0(XenPVIOMMUReservedRange, 1);

        range->bfn = r->bfn;
        range->frames = r->nr;
        range->interrupts = r->flags & XEN_IOMMU_RESERVED_msi;
        QAPI_LIST_APPEND(tail, range);
    }
    return list;
}

static XenPVIOMMUCounters *counters(XenPVIOMMUState *s)
{
    XenPVIOMMUCounters *c = g_new0(XenPVIOMMUCounters, 1);
    const uint64_t *counter = s->core.counter;

    c->doorbells = counter[XEN_PVIOMMU_COUNTER_DOORBELLS];
    c->operations = counter[XEN_PVIOMMU_COUNTER_OPS];
    c->errors = counter[XEN_PVIOMMU_COUNTER_ERRORS];
    c->maps = counter[XEN_PVIOMMU_COUNTER_MAPS];
    c->unmaps = counter[XEN_PVIOMMU_COUNTER_UNMAPS];
    c->flushes = counter[XEN_PVIOMMU_COUNTER_FLUSHES];
    c->faults = s->faults.count;
    c->faults_lost = s->faults.lost;
    c->invalidated_frames = counter[XEN_PVIOMMU_COUNTER_INVALIDATED];
    return c;
}

static XenPVIOMMUFaultRing *fault_ring(const XenPVIOMMUFaults *f)
{
    XenPVIOMMUFaultRing *ring = g_new0(XenPVIOMMUFaultRing, 1);

    ring->enabled = f->ctrl & XEN_PVIOMMU_FAULT_CTRL_ENABLE;
    ring->address = f->ring;
    ring->size = f->size;
    ring->head = f->head;
    ring->tail = f->tail;
    ring->waiting = f->nr_waiting;
    return ring;
}

/* A device on its way to the list of its context. */
typedef struct Attached {
    uint16_t ctx;
    uint32_t sbdf;              /* its own */
    XenPVIOMMUDevice *dev;
} Attached;

static void collect_device(void *opaque, XenPVIOMMUContext *ctx,
                           uint32_t sbdf, PCIDevice *dev)
{
    Attached a = {
        .ctx = ctx->id,
        .sbdf = dev ? pci_get_bdf(dev) : sbdf,
        .dev = g_new0(XenPVIOMMUDevice, 1),
    };

    a.dev->sbdf = sbdf_string(a.sbdf);
    if (a.sbdf != sbdf) {
        a.dev->requester = sbdf_string(sbdf);
    }
    if (dev) {
        a.dev->type = g_strdup(object_get_typename(OBJECT(dev)));
        a.dev->id = g_strdup(DEVICE(dev)->id);
        a.dev->qom_path = object_get_canonical_path(OBJECT(dev));
    }
    g_array_append_val((GArray *)opaque, a);
}

static gint attached_compare(gconstpointer a, gconstpointer b)
{
    const Attached *x = a, *y = b;

    if (x->ctx != y->ctx) {
        return x->ctx < y->ctx ? -1 : 1;
    }
    return x->sbdf < y->sbdf ? -1 : x->sbdf > y->sbdf;
}

static XenPVIOMMUQueueInfo *queue_info(const XenPVIOMMUQueue *q)
{
    XenPVIOMMUQueueInfo *info;

    if (!q) {
        return NULL;
    }
    info = g_new(XenPVIOMMUQueueInfo, 1);
    *info = (XenPVIOMMUQueueInfo) {
        .address = q->addr,
        .size = q->nr_ops,
        .head = q->head,
        .errors = q->errors,
        .calls = q->s->queues_need_calls,
    };
    return info;
}

static XenPVIOMMUContextInfoList *context_list(XenPVIOMMUState *s)
{
    g_autoptr(GArray) attached = g_array_new(false, false, sizeof(Attached));
    XenPVIOMMUContextInfoList *list = NULL, **tail = &list;
    guint next = 0;

    xen_pviommu_dma_foreach_device(s, collect_device, attached);
    g_array_sort(attached, attached_compare);
    for (uint32_t id = 0; id < s->core.limits.max_contexts; id++) {
        const XenPVIOMMUContext *ctx = s->core.contexts[id];
        XenPVIOMMUDeviceList **devices;
        XenPVIOMMUContextInfo *info;

        if (!ctx) {
            continue;
        }
        info = g_new0(XenPVIOMMUContextInfo, 1);
        info->context = id;
        info->mapped_frames = ctx->mapped_frames;
        info->pending_frames = ctx->pending_frames;
        info->reserved = reserved_list(ctx->reserved);
        info->queue = queue_info(ctx->queue);
        devices = &info->devices;
        for (; next < attached->len; next++) {
            const Attached *a = &g_array_index(attached, Attached, next);

            if (a->ctx != id) {
                break;
            }
            QAPI_LIST_APPEND(devices, a->dev);
        }
        QAPI_LIST_APPEND(tail, info);
    }
    return list;
}

XenPVIOMMUInfo *qmp_x_query_xen_pviommu(Error **errp)
{
    XenPVIOMMUState *s = the_device(errp);
    const XenPVIOMMUCore *core;
    XenPVIOMMUInfo *info;

    if (!s) {
        return NULL;
    }

    QEMU_LOCK_GUARD(&s->lock);

    core = &s->core;
    info = g_new0(XenPVIOMMUInfo, 1);
    info->qom_path = object_get_canonical_path(OBJECT(s));
    info->backend = s->backend;
    info->identity = core->identity;
    info->control = core->control;
    info->accepted = feature_list(core->accepted);
    info->bfn_bits = core->limits.bfn_bits;
    info->max_mappings = core->limits.max_mappings;
    info->max_contexts = core->limits.max_contexts;
    info->max_ops = s->max_ops;
    info->mapped_frames = core->mapped_frames;
    info->pending_frames = core->pending_frames;
    WITH_QEMU_LOCK_GUARD(&s->faults.lock) {
        info->counters = counters(s);
        info->fault_ring = fault_ring(&s->faults);
    }
    info->reserved = reserved_list(core->reserved);
    info->contexts = context_list(s);
    return info;
}

/* What a context maps, and what is pending there, each merged, by BFN. */
typedef struct RunStream {
    const XenPVIOMMUContext *ctx;
    uint64_t start, end;
    IntervalTreeNode *node;     /* what comes after pending */
    BfnRun mapped;              /* nr 0: no more */
    BfnRun pending;
} RunStream;

static void next_mapped(RunStream *st, uint64_t bfn)
{
    if (bfn >= st->end ||
        !bfn_table_next_run(st->ctx->table, bfn, st->end, &st->mapped)) {
        st->mapped.nr = 0;
    }
}

static BfnRun pending_run(const IntervalTreeNode *node, uint64_t start)
{
    const XenPVIOMMUPending *p = container_of(node, XenPVIOMMUPending, by_bfn);
    uint64_t bfn = MAX(p->by_bfn.start, start);
    BfnRun run = {
        .bfn = bfn,
        .gfn = p->by_gfn.start + (bfn - p->by_bfn.start),
        .nr = p->by_bfn.last - bfn + 1,
        .readonly = p->readonly,
    };

    return run;
}

static void next_pending(RunStream *st)
{
    BfnRun *merged = &st->pending;

    merged->nr = 0;
    while (st->node) {
        BfnRun run = pending_run(st->node, st->start);

        if (!merged->nr) {
            *merged = run;
        } else if (run.bfn == merged->bfn + merged->nr &&
                   run.gfn == merged->gfn + merged->nr &&
                   run.readonly == merged->readonly) {
            merged->nr += run.nr;
        } else {
            return;
        }
        st->node = interval_tree_iter_next(st->node, st->start, st->end - 1);
    }
}

static void stream_begin(RunStream *st, XenPVIOMMUCore *core,
                         XenPVIOMMUContext *ctx, uint64_t start)
{
    *st = (RunStream) {
        .ctx = ctx,
        .start = start,
        .end = xen_pviommu_bfn_limit(core),
    };
    next_mapped(st, start);
    if (start < st->end) {
        st->node = interval_tree_iter_first(
            xen_pviommu_pending_by_bfn(core, ctx), start, st->end - 1);
        next_pending(st);
    }
}

static XenPVIOMMURun *stream_next(RunStream *st)
{
    XenPVIOMMURun *out;
    BfnRun run;
    bool pending;

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

static bool check_max(bool has_max, uint32_t *max, Error **errp)
{
    if (!has_max) {
        *max = DEFAULT_MAX;
    }
    if (!*max || *max > MAX_MAX) {
        error_setg(errp, "max must be between 1 and %d", MAX_MAX);
        return false;
    }
    return true;
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

XenPVIOMMUMappings *
qmp_x_query_xen_pviommu_mappings(uint16_t context, bool has_start_bfn,
                                 uint64_t start_bfn, bool has_max,
                                 uint32_t max, Error **errp)
{
    XenPVIOMMUState *s = the_device(errp);
    XenPVIOMMURunList **tail;
    XenPVIOMMUMappings *part;
    XenPVIOMMUContext *ctx;
    XenPVIOMMURun *run;
    RunStream st;

    if (!s || !check_max(has_max, &max, errp)) {
        return NULL;
    }

    QEMU_LOCK_GUARD(&s->lock);

    ctx = xen_pviommu_context_find(&s->core, context);
    if (!ctx) {
        error_setg(errp, "xen-pviommu has no context %u", context);
        return NULL;
    }
    part = g_new0(XenPVIOMMUMappings, 1);
    tail = &part->runs;
    stream_begin(&st, &s->core, ctx, has_start_bfn ? start_bfn : 0);
    while ((run = stream_next(&st)) && max--) {
        QAPI_LIST_APPEND(tail, run);
    }
    if (!run) {
        return part;
    }
    part->has_next_bfn = true;
    part->next_bfn = run->bfn;
    if (run->bfn == part->runs->value->bfn) {
        /* All begin there: go on behind it, whatever else there is. */
        part->has_omitted = true;
        part->next_bfn++;
        for (; run && run->bfn < part->next_bfn; run = stream_next(&st)) {
            part->omitted++;
            g_free(run);
        }
    }
    g_free(run);
    end_part(part, part->next_bfn);
    return part;
}

typedef struct PlaceSearch {
    const XenPVIOMMUCore *core;
    uint32_t max;
    XenPVIOMMUPlaces *found;
    XenPVIOMMUPlaceList **tail;
} PlaceSearch;

static void add_place(PlaceSearch *search, uint16_t ctx, uint64_t bfn,
                      bool readonly, bool pending)
{
    XenPVIOMMUPlace *place;

    if (search->found->total++ >= search->max) {
        return;
    }
    place = g_new0(XenPVIOMMUPlace, 1);
    place->context = ctx;
    place->bfn = bfn;
    place->readonly = readonly;
    place->pending = pending;
    QAPI_LIST_APPEND(search->tail, place);
}

static void add_mapped_place(void *opaque, uint16_t ctx, uint64_t bfn,
                             uint64_t gfn, uint64_t nr)
{
    PlaceSearch *search = opaque;
    bool mapped;
    BfnRun run;

    mapped = bfn_table_next_run(search->core->contexts[ctx]->table, bfn,
                                bfn + 1, &run);
    add_place(search, ctx, bfn, mapped && run.readonly, false);
}

XenPVIOMMUPlaces *qmp_x_query_xen_pviommu_gfn(uint64_t gfn, bool has_max,
                                              uint32_t max, Error **errp)
{
    XenPVIOMMUState *s = the_device(errp);
    PlaceSearch search;
    IntervalTreeRoot *pending;
    IntervalTreeNode *node;

    if (!s || !check_max(has_max, &max, errp)) {
        return NULL;
    }
    if (gfn >> GFN_INDEX_BITS) {
        error_setg(errp, "gfn must be below 1 << %d", GFN_INDEX_BITS);
        return NULL;
    }

    QEMU_LOCK_GUARD(&s->lock);

    search.core = &s->core;
    search.max = max;
    search.found = g_new0(XenPVIOMMUPlaces, 1);
    search.tail = &search.found->places;
    gfn_index_foreach(s->core.gfn_index, gfn, 1, add_mapped_place, &search);
    pending = xen_pviommu_pending_by_gfn(&s->core);
    for (node = interval_tree_iter_first(pending, gfn, gfn);
         node; node = interval_tree_iter_next(node, gfn, gfn)) {
        const XenPVIOMMUPending *p =
            container_of(node, XenPVIOMMUPending, by_gfn);

        add_place(&search, p->ctx->id,
                  p->by_bfn.start + (gfn - p->by_gfn.start), p->readonly, true);
    }
    return search.found;
}

static XenPVIOMMUFaultReason fault_reason(uint32_t reason)
{
    switch (reason) {
    case XEN_IOMMU_FAULT_REASON_unmapped:
        return XEN_PVIOMMU_FAULT_REASON_UNMAPPED;
    case XEN_IOMMU_FAULT_REASON_readonly:
        return XEN_PVIOMMU_FAULT_REASON_READONLY;
    default:
        return XEN_PVIOMMU_FAULT_REASON_RANGE;
    }
}

XenPVIOMMUFaultInfoList *qmp_x_query_xen_pviommu_faults(Error **errp)
{
    XenPVIOMMUFaultRecord records[XEN_PVIOMMU_FAULTS_RECORDED];
    XenPVIOMMUFaultInfoList *list = NULL, **tail = &list;
    XenPVIOMMUState *s = the_device(errp);
    unsigned nr;

    if (!s) {
        return NULL;
    }
    nr = xen_pviommu_faults_recorded(s, records);
    for (unsigned i = 0; i < nr; i++) {
        const XenPVIOMMUFault *fault = &records[i].fault;
        XenPVIOMMUFaultInfo *info = g_new0(XenPVIOMMUFaultInfo, 1);

        info->time = records[i].time;
        info->sbdf = sbdf_string(fault->sbdf);
        info->context = fault->ctx;
        info->address = fault->addr;
        info->write = fault->flags & XEN_IOMMU_FAULT_write;
        info->reason = fault_reason(fault->reason);
        info->fate = records[i].fate;
        QAPI_LIST_APPEND(tail, info);
    }
    return list;
}
