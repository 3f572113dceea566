/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * info xen-pviommu: what the QMP commands return, to read
 */

#include "qemu/osdep.h"
#include "qemu/units.h"
#include "monitor/hmp.h"
#include "monitor/monitor.h"
#include "qapi/error.h"
#include "qapi/qapi-commands-xen-pviommu.h"
#include "qobject/qdict.h"

static void print_reserved(Monitor *mon, const char *indent,
                           const XenPVIOMMUReservedRangeList *list)
{
    for (; list; list = list->next) {
        const XenPVIOMMUReservedRange *r = list->value;

        monitor_printf(mon, "%sreserved: BFN 0x%" PRIx64 "-0x%" PRIx64 "%s\n",
                       indent, r->bfn, r->bfn + r->frames - 1,
                       r->interrupts ? ", interrupts" : "");
    }
}

static void print_device(Monitor *mon, const XenPVIOMMUDevice *dev)
{
    monitor_printf(mon, "  %s %s, %s", dev->sbdf, dev->type,
                   dev->id ?: dev->qom_path);
    if (dev->requester) {
        monitor_printf(mon, ", behind %s", dev->requester);
    }
    if (dev->has_interrupts) {
        monitor_printf(mon, ", %u interrupts", dev->interrupts);
    }
    if (dev->has_direct_interrupts) {
        monitor_printf(mon, ", interrupts not remapped");
    }
    if (dev->bypass) {
        monitor_printf(mon, ": %s", dev->bypass);
    }
    monitor_printf(mon, "\n");
}

static void print_context(Monitor *mon, const XenPVIOMMUContextInfo *ctx)
{
    if (ctx->has_identity) {
        monitor_printf(mon, "context %u: all memory, 1:1\n", ctx->context);
    } else {
        monitor_printf(mon, "context %u: %" PRIu64 " frames mapped, %" PRIu64
                       " pending\n", ctx->context, ctx->mapped_frames,
                       ctx->pending_frames);
    }
    if (ctx->queue) {
        const XenPVIOMMUQueueInfo *q = ctx->queue;

        monitor_printf(mon, "  queue at 0x%" PRIx64 ", %u entries, %u ran, %u "
                       "failed%s\n", q->address, q->size, q->head, q->errors,
                       q->calls ? "; needs doorbells" : "");
    }
    print_reserved(mon, "  ", ctx->reserved);
    for (XenPVIOMMUDeviceList *d = ctx->devices; d; d = d->next) {
        print_device(mon, d->value);
    }
}

static void print_faults(Monitor *mon)
{
    XenPVIOMMUFaultInfoList *list = qmp_x_query_xen_pviommu_faults(NULL);

    if (list) {
        monitor_printf(mon, "last faults, the newest first:\n");
    }
    for (XenPVIOMMUFaultInfoList *l = list; l; l = l->next) {
        const XenPVIOMMUFaultInfo *f = l->value;
        g_autoptr(GDateTime) dt =
            g_date_time_new_from_unix_local(f->time / G_USEC_PER_SEC);
        g_autofree char *time = g_date_time_format(dt, "%F %T");

        monitor_printf(mon, "  %s %s, context %u: %s 0x%" PRIx64 ": %s; %s\n",
                       time, f->sbdf, f->context, f->write ? "write to"
                                                           : "read from",
                       f->address, XenPVIOMMUFaultReason_str(f->reason),
                       XenPVIOMMUFaultFate_str(f->fate));
    }
    qapi_free_XenPVIOMMUFaultInfoList(list);
}

static void print_state(Monitor *mon, const XenPVIOMMUInfo *info)
{
    const XenPVIOMMUCounters *c = info->counters;
    const XenPVIOMMUFaultRing *ring = info->fault_ring;
    const XenPVIOMMUInterrupts *irqs = info->interrupts;

    monitor_printf(mon, "%s: backend %s, identity map %s, guest control %s\n",
                   info->qom_path, XenPVIOMMUBackendKind_str(info->backend),
                   info->identity ? "on" : "off",
                   info->control ? "on" : "off");
    monitor_printf(mon, "accepted features:");
    for (XenPVIOMMUFeatureList *l = info->accepted; l; l = l->next) {
        monitor_printf(mon, " %s", XenPVIOMMUFeature_str(l->value));
    }
    monitor_printf(mon, "%s\n", info->accepted ? "" : " none");
    monitor_printf(mon, "limits: bfn-bits %u, max-mappings %" PRIu64
                   ", max-contexts %u, max-ops %u\n", info->bfn_bits,
                   info->max_mappings, info->max_contexts, info->max_ops);
    monitor_printf(mon, "frames: %" PRIu64 " mapped, %" PRIu64 " pending, %"
                   PRIu64 " invalidated\n", info->mapped_frames,
                   info->pending_frames, c->invalidated_frames);
    monitor_printf(mon, "memory: %" PRIu64 " KiB, at most %" PRIu64 " KiB\n",
                   info->memory / KiB, DIV_ROUND_UP(info->max_memory, KiB));
    monitor_printf(mon, "doorbells %" PRIu64 ", operations %" PRIu64 " (%"
                   PRIu64 " failed): %" PRIu64 " maps, %" PRIu64 " unmaps, %"
                   PRIu64 " flushes\n", c->doorbells, c->operations, c->errors,
                   c->maps, c->unmaps, c->flushes);
    monitor_printf(mon, "faults: %" PRIu64 ", %u lost, %u waiting; ring %s",
                   c->faults, c->faults_lost, ring->waiting,
                   ring->enabled ? "at" : "off\n");
    if (ring->enabled) {
        monitor_printf(mon, " 0x%" PRIx64 ", %u entries, head %u, tail %u\n",
                       ring->address, ring->size, ring->head, ring->tail);
    }
    monitor_printf(mon, "interrupts: %sremapped, %u of %u entries, %" PRIu64
                   " raised\n", irqs->remapped ? "" : "not ", irqs->used,
                   irqs->max, irqs->raised);
    print_reserved(mon, "", info->reserved);
}

static void info_state(Monitor *mon, Error **errp)
{
    XenPVIOMMUInfo *info = qmp_x_query_xen_pviommu(false, 0, false, 0, errp);

    if (!info) {
        return;
    }
    print_state(mon, info);
    for (XenPVIOMMUContextInfoList *l = info->contexts; l; l = l->next) {
        print_context(mon, l->value);
    }
    if (info->has_next_context) {
        monitor_printf(mon, "More contexts: QMP x-query-xen-pviommu\n");
    }
    if (info->bypassing) {
        monitor_printf(mon, "not behind the IOMMU, which reach all memory:\n");
    }
    for (XenPVIOMMUDeviceList *d = info->bypassing; d; d = d->next) {
        print_device(mon, d->value);
    }
    print_faults(mon);
    monitor_printf(mon, "What a context maps: info xen-pviommu CONTEXT\n");
    qapi_free_XenPVIOMMUInfo(info);
}

static void info_mappings(Monitor *mon, int64_t context, uint64_t bfn,
                          Error **errp)
{
    XenPVIOMMUMappings *part;

    if (context < 0 || context > UINT16_MAX) {
        error_setg(errp, "a context is between 0 and %u", UINT16_MAX);
        return;
    }
    part = qmp_x_query_xen_pviommu_mappings(context, true, bfn, false, 0, errp);
    if (!part) {
        return;
    }
    monitor_printf(mon, "%-12s %-12s frames\n", "BFN", "GFN");
    for (XenPVIOMMURunList *l = part->runs; l; l = l->next) {
        const XenPVIOMMURun *run = l->value;

        monitor_printf(mon, "0x%-10" PRIx64 " 0x%-10" PRIx64 " 0x%" PRIx64
                       "%s%s\n", run->bfn, run->gfn, run->frames,
                       run->readonly ? " readonly" : "",
                       run->pending ? " pending" : "");
    }
    if (part->has_omitted) {
        monitor_printf(mon, "and %" PRIu64 " more at the first BFN\n",
                       part->omitted);
    }
    if (part->has_next_bfn) {
        monitor_printf(mon, "More: info xen-pviommu %" PRId64 " 0x%" PRIx64
                       "\n", context, part->next_bfn);
    }
    qapi_free_XenPVIOMMUMappings(part);
}

static void info_gfn(Monitor *mon, uint64_t gfn, Error **errp)
{
    XenPVIOMMUPlaces *found = qmp_x_query_xen_pviommu_gfn(gfn, false, 0, false,
                                                          0, false, 0, errp);

    if (!found) {
        return;
    }
    monitor_printf(mon, "GFN 0x%" PRIx64 " is in %s\n", gfn,
                   found->places ? "these places:" : "no place");
    for (XenPVIOMMUPlaceList *l = found->places; l; l = l->next) {
        const XenPVIOMMUPlace *place = l->value;

        monitor_printf(mon, "  context %u, BFN 0x%" PRIx64 "%s%s\n",
                       place->context, place->bfn,
                       place->readonly ? " readonly" : "",
                       place->pending ? " pending" : "");
    }
    if (found->has_next_bfn) {
        monitor_printf(mon, "More: QMP x-query-xen-pviommu-gfn, from context %u"
                       ", BFN 0x%" PRIx64 " on\n", found->next_context,
                       found->next_bfn);
    }
    qapi_free_XenPVIOMMUPlaces(found);
}

static void hmp_info_xen_pviommu(Monitor *mon, const QDict *qdict)
{
    bool gfn = qdict_get_try_bool(qdict, "gfn", false);
    uint64_t bfn = qdict_get_try_int(qdict, "bfn", 0);
    int64_t number = qdict_get_try_int(qdict, "number", 0);
    Error *err = NULL;

    if (!qdict_haskey(qdict, "number")) {
        if (gfn) {
            error_setg(&err, "which GFN? Type: info xen-pviommu -g GFN");
        } else {
            info_state(mon, &err);
        }
    } else if (gfn) {
        info_gfn(mon, number, &err);
    } else {
        info_mappings(mon, number, bfn, &err);
    }
    hmp_handle_error(mon, err);
}

static void xen_pviommu_register_hmp(void)
{
    monitor_register_hmp("xen-pviommu", true, hmp_info_xen_pviommu);
}

type_init(xen_pviommu_register_hmp)
