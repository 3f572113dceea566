/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * QMP commands that look into the paravirtual IOMMU: its state and faults
 */

#include "qemu/osdep.h"
#include "qapi/error.h"
#include "qapi/qapi-commands-xen-pviommu.h"
#include "attach.h"
#include "bypass.h"
#include "device.h"
#include "monitor.h"
#include "queue.h"

/* An object in a reply takes 10 us, most of it in the monitor. */
#define DEFAULT_MAX     64
#define MAX_MAX         512

XenPVIOMMUState *xen_pviommu_monitor_device(Error **errp)
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

bool xen_pviommu_monitor_max(bool has_max, uint32_t *max, Error **errp)
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

char *xen_pviommu_monitor_sbdf(uint32_t sbdf)
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
        [XEN_PVIOMMU_FEATURE_IDENTITY] = XEN_IOMMU_FEATURE_IDENTITY,
        [XEN_PVIOMMU_FEATURE_INTERRUPTS] = XEN_IOMMU_FEATURE_INTERRUPTS,
        [XEN_PVIOMMU_FEATURE_MMIO] = XEN_IOMMU_FEATURE_MMIO,
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

    for (guint i = 0; ranges && i < ranges->len; i++) {
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
    c->faults_lost = s->faults.dropped;
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

static XenPVIOMMUInterrupts *interrupts(const XenPVIOMMUIrqTable *irqs)
{
    XenPVIOMMUInterrupts *i = g_new(XenPVIOMMUInterrupts, 1);

    *i = (XenPVIOMMUInterrupts) {
        .remapped = irqs->enabled,
        .max = irqs->size,
        .used = irqs->nr_used,
        .raised = irqs->raised,
    };
    return i;
}

/* A device on its way to the list of its context, or to those without. */
typedef struct Attached {
    uint32_t ctx;               /* BYPASSING: none */
    uint32_t sbdf;              /* its own */
    XenPVIOMMUDevice *dev;
} Attached;

#define BYPASSING UINT32_MAX

/* Those in contexts @first to @last */
typedef struct Attachments {
    uint32_t first, last;
    GArray *list;               /* of Attached */
} Attachments;

static void collect_device(void *opaque, XenPVIOMMUContext *ctx,
                           uint32_t sbdf, PCIDevice *dev)
{
    const Attachments *attached = opaque;
    Attached a = {
        .ctx = ctx ? ctx->id : BYPASSING,
        .sbdf = pci_get_bdf(dev),
    };

    if (a.ctx < attached->first || a.ctx > attached->last) {
        return;
    }
    a.dev = g_new0(XenPVIOMMUDevice, 1);
    a.dev->sbdf = xen_pviommu_monitor_sbdf(a.sbdf);
    if (a.sbdf != sbdf) {
        a.dev->requester = xen_pviommu_monitor_sbdf(sbdf);
    }
    a.dev->type = g_strdup(object_get_typename(OBJECT(dev)));
    a.dev->id = g_strdup(DEVICE(dev)->id);
    a.dev->qom_path = object_get_canonical_path(OBJECT(dev));
    a.dev->bypass = g_strdup(xen_pviommu_bypass_reason(dev));
    if (ctx) {
        const XenPVIOMMUIrqOwner *irqs =
            &xen_pviommu_function_of_device(dev)->irqs;

        a.dev->has_interrupts = irqs->nr > 0;
        a.dev->interrupts = irqs->nr;
        a.dev->has_direct_interrupts = irqs->direct;
        a.dev->direct_interrupts = irqs->direct;
    }
    g_array_append_val(attached->list, a);
}

static gint attached_compare(gconstpointer a, gconstpointer b)
{
    const Attached *x = a, *y = b;

    if (x->ctx != y->ctx) {
        return x->ctx < y->ctx ? -1 : 1;
    }
    return x->sbdf < y->sbdf ? -1 : x->sbdf > y->sbdf;
}

static XenPVIOMMUDeviceList *bypassing_list(XenPVIOMMUState *s)
{
    g_autoptr(GArray) list = g_array_new(false, false, sizeof(Attached));
    Attachments bypassing = { BYPASSING, BYPASSING, list };
    XenPVIOMMUDeviceList *devices = NULL, **tail = &devices;

    xen_pviommu_foreach_device(s, collect_device, &bypassing);
    g_array_sort(list, attached_compare);
    for (guint i = 0; i < list->len; i++) {
        QAPI_LIST_APPEND(tail, g_array_index(list, Attached, i).dev);
    }
    return devices;
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
        .calls = q->s->queues.doorbell,
    };
    return info;
}

/* The context behind the @max ones from @first on; max_contexts if none is. */
static uint32_t contexts_end(const XenPVIOMMUCore *core, uint32_t first,
                             uint32_t max)
{
    uint32_t id = first;

    for (; id < core->limits.max_contexts; id++) {
        if (core->contexts[id] && !max--) {
            return id;
        }
    }
    return core->limits.max_contexts;
}

static XenPVIOMMUContextInfoList *context_list(XenPVIOMMUState *s,
                                               uint32_t first, uint32_t end)
{
    g_autoptr(GArray) list = g_array_new(false, false, sizeof(Attached));
    Attachments attached = { first, end - 1, list };
    XenPVIOMMUContextInfoList *infos = NULL, **tail = &infos;
    guint next = 0;

    if (first >= end) {
        return NULL;
    }
    xen_pviommu_foreach_device(s, collect_device, &attached);
    g_array_sort(list, attached_compare);
    for (uint32_t id = first; id < end; id++) {
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
        info->has_identity = info->identity = ctx->identity;
        devices = &info->devices;
        for (; next < list->len; next++) {
            const Attached *a = &g_array_index(list, Attached, next);

            if (a->ctx != id) {
                break;
            }
            QAPI_LIST_APPEND(devices, a->dev);
        }
        QAPI_LIST_APPEND(tail, info);
    }
    return infos;
}

XenPVIOMMUInfo *qmp_x_query_xen_pviommu(bool has_start_context,
                                        uint16_t start_context, bool has_max,
                                        uint32_t max, Error **errp)
{
    XenPVIOMMUState *s = xen_pviommu_monitor_device(errp);
    uint32_t first = has_start_context ? start_context : 0, end;
    const XenPVIOMMUCore *core;
    XenPVIOMMUInfo *info;

    if (!s || !xen_pviommu_monitor_max(has_max, &max, errp)) {
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
    info->memory = xen_pviommu_core_bytes(core);
    info->max_memory = xen_pviommu_core_max_bytes(core);
    WITH_QEMU_LOCK_GUARD(&s->faults.lock) {
        info->counters = counters(s);
        info->fault_ring = fault_ring(&s->faults);
    }
    info->interrupts = interrupts(&core->irqs);
    info->reserved = reserved_list(core->reserved);
    info->bypassing = bypassing_list(s);
    end = contexts_end(core, first, max);
    info->contexts = context_list(s, first, end);
    if (end < core->limits.max_contexts) {
        info->has_next_context = true;
        info->next_context = end;
    }
    return info;
}

static XenPVIOMMUFaultReason fault_reason(uint32_t reason)
{
    switch (reason) {
    case XEN_IOMMU_FAULT_REASON_unmapped:
        return XEN_PVIOMMU_FAULT_REASON_UNMAPPED;
    case XEN_IOMMU_FAULT_REASON_readonly:
        return XEN_PVIOMMU_FAULT_REASON_READONLY;
    case XEN_IOMMU_FAULT_REASON_irq:
        return XEN_PVIOMMU_FAULT_REASON_INTERRUPT;
    case XEN_IOMMU_FAULT_REASON_masked:
        return XEN_PVIOMMU_FAULT_REASON_MASKED;
    default:
        return XEN_PVIOMMU_FAULT_REASON_RANGE;
    }
}

XenPVIOMMUFaultInfoList *qmp_x_query_xen_pviommu_faults(Error **errp)
{
    XenPVIOMMUFaultRecord records[XEN_PVIOMMU_FAULTS_RECORDED];
    XenPVIOMMUFaultInfoList *list = NULL, **tail = &list;
    XenPVIOMMUState *s = xen_pviommu_monitor_device(errp);
    unsigned nr;

    if (!s) {
        return NULL;
    }
    nr = xen_pviommu_faults_recorded(s, records);
    for (unsigned i = 0; i < nr; i++) {
        const XenPVIOMMUFault *fault = &records[i].fault;
        XenPVIOMMUFaultInfo *info = g_new0(XenPVIOMMUFaultInfo, 1);

        info->time = records[i].time;
        info->sbdf = xen_pviommu_monitor_sbdf(fault->sbdf);
        info->context = fault->ctx;
        info->address = fault->addr;
        info->write = fault->flags & XEN_IOMMU_FAULT_write;
        info->reason = fault_reason(fault->reason);
        info->fate = records[i].fate;
        QAPI_LIST_APPEND(tail, info);
    }
    return list;
}
