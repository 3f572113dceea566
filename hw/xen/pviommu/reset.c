/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Resets, and the memory that they leave
 */

#include "qemu/osdep.h"
#include "qemu/lockable.h"
#include "attach.h"
#include "guest-memory.h"
#include "irq.h"
#include "queue.h"
#include "reset.h"
#include "vmstate-runs.h"
#include "trace.h"

/* Between two times that a part of what a reset left is freed. */
#define REAP_MS         2

/* What a reset left is freed little by little. */
static void reap(void *opaque)
{
    XenPVIOMMUState *s = opaque;

    QEMU_LOCK_GUARD(&s->lock);

    if (xen_pviommu_core_reap(&s->core, XEN_PVIOMMU_REAP_NODES, true)) {
        timer_mod(&s->reap_timer,
                  qemu_clock_get_ms(QEMU_CLOCK_REALTIME) + REAP_MS);
    }
}

void xen_pviommu_reset(XenPVIOMMUState *s)
{
    trace_xen_pviommu_reset();
    xen_pviommu_config_changed(s);
    WITH_QEMU_LOCK_GUARD(&s->lock) {
        xen_pviommu_load_reset(s);
        /* First: to remove one alone may change the flags in the others. */
        xen_pviommu_queues_remove(s);
        xen_pviommu_core_reset(&s->core);
        xen_pviommu_attach_reset_irqs(s);
    }
    timer_mod(&s->reap_timer, qemu_clock_get_ms(QEMU_CLOCK_REALTIME));
    xen_pviommu_attach_update(s);
    xen_pviommu_irqs_update(s);
    xen_pviommu_faults_reset(s);
    memset(s->blocks, 0, sizeof(s->blocks));
}

void xen_pviommu_reset_init(XenPVIOMMUState *s)
{
    timer_init_ms(&s->reap_timer, QEMU_CLOCK_REALTIME, reap, s);
}

void xen_pviommu_reset_finalize(XenPVIOMMUState *s)
{
    timer_del(&s->reap_timer);
}
