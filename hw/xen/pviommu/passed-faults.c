/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Functions that Xen passes through: their faults
 *
 * The hypervisor has a queue of them for the guest, and an event.
 */

#include "qemu/osdep.h"
#include "qemu/error-report.h"
#include "qemu/main-loop.h"
#include "hw/xen/xen_native.h"
#include "hw/xen/xen_backend_ops.h"
#include "passed-internal.h"
#include "trace.h"

/* Calls until the main loop goes on: twice what the queue has room for. */
#define POLL_CALLS 2

/* Those that are no fault of a function behind the IOMMU are none. */
static bool fault_of_guest(XenPVIOMMUPassed *p, const struct xen_iommu_fault *f,
                           XenPVIOMMUFault *fault)
{
    for (guint i = 0; i < p->functions->len; i++) {
        const PassedFunction *pf = g_ptr_array_index(p->functions, i);

        if (pf->sbdf == f->sbdf && pf->where && pf->where->hw == f->ctx) {
            *fault = (XenPVIOMMUFault) {
                .addr = f->addr,
                .sbdf = xen_pviommu_function_sbdf(pf->f),
                .ctx = pf->f->ctx->id,
                .flags = f->flags & XEN_IOMMU_FAULT_write,
                .reason = f->reason,
            };
            return f->reason >= XEN_IOMMU_FAULT_REASON_unmapped &&
                   f->reason <= XEN_IOMMU_FAULT_REASON_range;
        }
    }
    return false;
}

/* Returns: whether there may be more. */
static bool faults_take(XenPVIOMMUPassed *p)
{
    const struct xen_iommu_fault *faults = p->list;
    struct xen_iommu_op op = {
        .op = XEN_IOMMUOP_target_faults,
        .u.target_list = {
            .nr_entries = PASSED_LIST, .domid = xen_domid,
            .entries = (uintptr_t)p->list,
        },
    };
    XenPVIOMMUFault fault;
    int rc = passed_run(p, &op);
    uint32_t nr = MIN(op.u.target_list.nr_entries, PASSED_LIST);

    trace_xen_pviommu_passed_faults(rc ? 0 : nr, op.u.target_list.lost, rc);
    if (rc) {
        error_report_once("xen-pviommu: the hypervisor does not say which "
                          "faults functions have that it passes through: %s",
                          strerror(-rc));
        return false;
    }
    for (uint32_t i = 0; i < nr; i++) {
        if (fault_of_guest(p, &faults[i], &fault)) {
            xen_pviommu_fault_note(p->s, &fault);
        }
    }
    xen_pviommu_faults_add_dropped(p->s, op.u.target_list.lost);
    return nr;
}

void passed_faults_poll(XenPVIOMMUPassed *p)
{
    QEMU_LOCK_GUARD(&p->s->lock);

    for (unsigned i = 0; i < POLL_CALLS && faults_take(p); i++) {
        /* There may be more. */
    }
}

static void faults_event(void *opaque)
{
    XenPVIOMMUPassed *p = opaque;
    int port = qemu_xen_evtchn_pending(p->xce);

    if (port != p->port) {
        return;
    }
    /* What comes from here on raises it again. */
    qemu_xen_evtchn_unmask(p->xce, port);
    passed_faults_poll(p);
}

/* Returns: the local port, or < 0. */
static int faults_bind(XenPVIOMMUPassed *p)
{
    struct xen_iommu_op op = passed_target_op(XEN_IOMMUOP_target_event, 0, 0);
    int rc;

    WITH_QEMU_LOCK_GUARD(&p->s->lock) {
        rc = passed_run(p, &op);
    }
    if (rc) {
        errno = -rc;
        return -1;
    }
    p->xce = qemu_xen_evtchn_open();
    if (!p->xce) {
        return -1;
    }
    return qemu_xen_evtchn_bind_interdomain(p->xce, xen_domid,
                                            op.u.target.port);
}

void passed_faults_open(XenPVIOMMUPassed *p)
{
    p->port = faults_bind(p);
    if (p->port < 0) {
        warn_report("xen-pviommu: no event for faults of functions that Xen "
                    "passes through, they are late: %s", strerror(errno));
        passed_faults_close(p);
        return;
    }
    qemu_set_fd_handler(qemu_xen_evtchn_fd(p->xce), faults_event, NULL, p);
}

void passed_faults_close(XenPVIOMMUPassed *p)
{
    if (!p->xce) {
        return;
    }
    if (p->port >= 0) {
        qemu_set_fd_handler(qemu_xen_evtchn_fd(p->xce), NULL, NULL, NULL);
        qemu_xen_evtchn_unbind(p->xce, p->port);
        p->port = -1;
    }
    qemu_xen_evtchn_close(p->xce);
    p->xce = NULL;
}
