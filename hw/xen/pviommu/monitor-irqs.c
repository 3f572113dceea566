/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The QMP command that lists what interrupts are remapped by
 */

#include "qemu/osdep.h"
#include "qemu/lockable.h"
#include "qapi/qapi-commands-xen-pviommu.h"
#include "function.h"
#include "monitor.h"

static XenPVIOMMUInterrupt *interrupt(const XenPVIOMMUIrq *irq, uint32_t handle)
{
    XenPVIOMMUInterrupt *i = g_new(XenPVIOMMUInterrupt, 1);
    const XenPVIOMMUFunction *f = container_of(irq->owner, XenPVIOMMUFunction,
                                               irqs);

    *i = (XenPVIOMMUInterrupt) {
        .handle = handle,
        .first = handle - irq->index,
        .sbdf = xen_pviommu_monitor_sbdf(xen_pviommu_function_sbdf(f)),
        .masked = irq->flags & XEN_IOMMUOP_set_irq_masked,
        .destination = irq->dest,
        .logical = irq->flags & XEN_IOMMUOP_set_irq_logical,
        .vector = irq->vector,
        .delivery = irq->delivery,
        .level = irq->flags & XEN_IOMMUOP_set_irq_level,
    };
    return i;
}

XenPVIOMMUInterruptList *
qmp_x_query_xen_pviommu_interrupts(bool has_start, uint32_t start, bool has_max,
                                   uint32_t max, Error **errp)
{
    XenPVIOMMUState *s = xen_pviommu_monitor_device(errp);
    XenPVIOMMUInterruptList *list = NULL, **tail = &list;
    const XenPVIOMMUIrqTable *irqs;

    if (!s || !xen_pviommu_monitor_max(has_max, &max, errp)) {
        return NULL;
    }

    QEMU_LOCK_GUARD(&s->lock);

    irqs = &s->core.irqs;
    for (uint32_t i = has_start ? start : 0; i < irqs->size && max; i++) {
        if (irqs->entries[i].owner) {
            QAPI_LIST_APPEND(tail, interrupt(&irqs->entries[i], i));
            max--;
        }
    }
    return list;
}
