/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Functions that Xen passes through: in which of the hypervisor's contexts they
 * are
 *
 * A context of the hypervisor's is there while a function is in the guest's
 * context that it follows. Its default context is identity mode: the guest's
 * memory by GFN.
 *
 * The toolstack assigns a function to the guest after the device was plugged
 * here. Until then it reaches nothing of the guest, and cannot be moved: that
 * is tried again.
 */

#include "qemu/osdep.h"
#include "qemu/error-report.h"
#include "qemu/main-loop.h"
#include "hw/xen/xen_native.h"
#include "migration/blocker.h"
#include "bypass.h"
#include "passed-internal.h"
#include "queue.h"
#include "trace.h"

/* When to try again what could not be done, and when to ask for faults. */
#define RETRY_MS        50
#define POLL_MS         500

/* --- calls of one operation ----------------------------------------------- */

struct xen_iommu_op passed_target_op(uint16_t op, uint16_t ctx, uint32_t sbdf)
{
    return (struct xen_iommu_op) {
        .op = op,
        .u.target = { .domid = xen_domid, .ctx = ctx, .sbdf = sbdf },
    };
}

int passed_context_alloc(XenPVIOMMUPassed *p, uint16_t *hw)
{
    struct xen_iommu_op op =
        passed_target_op(XEN_IOMMUOP_target_alloc_context, 0, 0);
    int rc = passed_run(p, &op);

    if (!rc) {
        *hw = op.u.target.ctx;
        p->bfn_limit = 1ull << MIN(op.u.target.bfn_bits, 63);
    }
    trace_xen_pviommu_passed_context(op.u.target.ctx, true, rc);
    return rc;
}

void passed_context_free(XenPVIOMMUPassed *p, uint16_t hw)
{
    struct xen_iommu_op op =
        passed_target_op(XEN_IOMMUOP_target_free_context, hw, 0);
    int rc = passed_run(p, &op);

    trace_xen_pviommu_passed_context(hw, false, rc);
    if (rc) {
        error_report_once("xen-pviommu: context %u of the hypervisor is not "
                          "freed: %s", hw, strerror(-rc));
        g_array_append_val(p->unfreed, hw);
    }
}

static void retry_free(XenPVIOMMUPassed *p)
{
    g_autoptr(GArray) unfreed = p->unfreed;

    p->unfreed = g_array_new(false, false, sizeof(uint16_t));
    for (guint i = 0; i < unfreed->len; i++) {
        passed_context_free(p, g_array_index(unfreed, uint16_t, i));
    }
}

/* --- contexts ------------------------------------------------------------- */

static PassedContext *passed_context_new(XenPVIOMMUPassed *p,
                                         XenPVIOMMUContext *ctx, int *rc)
{
    PassedContext *pc;
    uint16_t hw;

    *rc = passed_context_alloc(p, &hw);
    if (*rc) {
        return NULL;
    }
    pc = g_new0(PassedContext, 1);
    pc->ctx = ctx;
    pc->hw = hw;
    pc->stale = g_array_new(false, false, sizeof(PassedRange));
    QLIST_INSERT_HEAD(&p->contexts, pc, next);
    return pc;
}

static void passed_context_remove(XenPVIOMMUPassed *p, PassedContext *pc)
{
    /* Nothing that is collected is about it any more. */
    passed_run(p, NULL);
    passed_take_failure(p, pc);
    QLIST_REMOVE(pc, next);
    passed_context_free(p, pc->hw);
    g_array_unref(pc->stale);
    g_free(pc);
}

/* Those without a function go. */
void passed_sweep(XenPVIOMMUPassed *p)
{
    PassedContext *pc, *next;

    QLIST_FOREACH_SAFE(pc, &p->contexts, next, next) {
        if (!pc->nr) {
            passed_context_remove(p, pc);
        }
    }
}

/* The one that follows @ctx, filled, or a part of it that a replay is about */
static PassedContext *passed_context_get(XenPVIOMMUPassed *p,
                                         XenPVIOMMUContext *ctx, int *rc)
{
    PassedContext *pc = passed_context_of(p, ctx);

    *rc = 0;
    if (pc) {
        return pc;
    }
    pc = passed_context_new(p, ctx, rc);
    if (!pc) {
        return NULL;
    }
    passed_context_replay(p, pc);
    passed_run(p, NULL);
    *rc = passed_take_failure(p, pc);
    if (*rc) {
        passed_context_remove(p, pc);
        return NULL;
    }
    return pc;
}

/* --- functions ------------------------------------------------------------ */

void passed_arm_timer(XenPVIOMMUPassed *p)
{
    bool retry = passed_stale(p) || p->leaving->len || p->unfreed->len;
    const PassedContext *pc;

    for (guint i = 0; i < p->functions->len; i++) {
        const PassedFunction *pf = g_ptr_array_index(p->functions, i);

        retry |= pf->pending;
    }
    QLIST_FOREACH(pc, &p->contexts, next) {
        retry |= pc->replay_next != UINT64_MAX;
    }
    if (retry || (p->port < 0 && p->functions->len)) {
        timer_mod(p->timer, qemu_clock_get_ms(QEMU_CLOCK_REALTIME) +
                  (retry ? RETRY_MS : POLL_MS));
    }
}

void passed_set_missing(XenPVIOMMUPassed *p, const PCIDevice *dev,
                        const char *why)
{
    g_hash_table_replace(p->missing, (void *)dev, g_strdup(why));
}

/* Move it to @to, or to the default context. Returns: the status. */
static int function_move(XenPVIOMMUPassed *p, PassedFunction *pf,
                         PassedContext *to)
{
    const uint16_t hw = to ? to->hw : XEN_IOMMU_CTX_DEFAULT;
    struct xen_iommu_op op =
        passed_target_op(XEN_IOMMUOP_target_attach, hw, pf->sbdf);
    int rc = passed_run(p, &op);

    trace_xen_pviommu_passed_attach(pf->sbdf, hw, rc);
    if (rc && rc != -XEN_IOMMU_ENODEV) {
        return rc;
    }
    /* Not assigned: it reaches nothing, and begins in the default context. */
    pf->pending = rc && to;
    if (pf->where) {
        pf->where->nr--;
    }
    pf->where = to;
    if (to) {
        to->nr++;
    }
    return 0;
}

static bool function_sees_memory(const PassedFunction *pf,
                                 const XenPVIOMMUContext *ctx)
{
    return pf->f->s->core.identity || ctx->identity;
}

/* @pf is to be in @ctx. Returns: the status; else nothing has changed. */
static int function_place(XenPVIOMMUPassed *p, PassedFunction *pf,
                          XenPVIOMMUContext *ctx)
{
    PassedContext *to = NULL;
    int rc = 0;

    if (!function_sees_memory(pf, ctx)) {
        to = passed_context_get(p, ctx, &rc);
    }
    if (!rc && (pf->where != to || pf->pending)) {
        rc = function_move(p, pf, to);
    }
    return rc;
}

static bool is_function_of(const PassedFunction *pf,
                           const XenPVIOMMUFunction *f)
{
    return pf->f == f;
}

void passed_function_remove(XenPVIOMMUPassed *p, PassedFunction *pf)
{
    XenPVIOMMUState *s = p->s;

    if (pf->where) {
        pf->where->nr--;
    }
    if (g_hash_table_remove(pf->f->host_reserved, pf->dev)) {
        xen_pviommu_function_update_reserved(pf->f);
        xen_pviommu_context_update_reserved(s, pf->f->ctx);
    }
    pf->f->irqs.passed = false;
    g_ptr_array_remove(p->functions, pf);
    s->nr_passed--;
    if (!p->functions->len) {
        migrate_del_blocker(&p->blocker);
    }
    xen_pviommu_queues_update(s);
}

/*
 * The host's IOMMU cannot tell @pf from others. It is where Xen had it before,
 * and for the guest behind no IOMMU.
 */
static void function_refuse(XenPVIOMMUPassed *p, PassedFunction *pf)
{
    passed_set_missing(p, pf->dev,
                       "the host's IOMMU cannot tell it from others");
    xen_pviommu_bypass_check(p->s);
    passed_function_remove(p, pf);
}

int xen_pviommu_passed_attach(XenPVIOMMUState *s, XenPVIOMMUFunction *f,
                              XenPVIOMMUContext *ctx)
{
    XenPVIOMMUPassed *p = s->passed;
    int rc = 0;

    for (guint i = 0; p && i < p->functions->len && !rc; i++) {
        PassedFunction *pf = g_ptr_array_index(p->functions, i);

        if (!is_function_of(pf, f)) {
            continue;
        }
        rc = function_place(p, pf, ctx);
        if (rc == -XEN_IOMMU_EOPNOTSUPP) {
            function_refuse(p, pf);
            rc = -XEN_IOMMU_ENODEV;
        }
    }
    if (p) {
        passed_sweep(p);
        passed_arm_timer(p);
    }
    return rc == -XEN_IOMMU_EEXIST ? -XEN_IOMMU_EADDRNOTAVAIL : rc;
}

void xen_pviommu_passed_detach_all(XenPVIOMMUState *s)
{
    PassedContext *pc;

    if (s->passed) {
        xen_pviommu_passed_commit(s, NULL, NULL);
        QLIST_FOREACH(pc, &s->passed->contexts, next) {
            pc->ctx = NULL;
            pc->replay_next = UINT64_MAX;
        }
    }
}

/* A function is to be in the context that @pc follows. */
static bool passed_context_wanted(const XenPVIOMMUPassed *p,
                                  const PassedContext *pc)
{
    for (guint i = 0; i < p->functions->len; i++) {
        const PassedFunction *pf = g_ptr_array_index(p->functions, i);

        if (pc->ctx && pf->f->ctx == pc->ctx) {
            return true;
        }
    }
    return false;
}

void passed_clear_unwanted(XenPVIOMMUPassed *p)
{
    PassedContext *pc;

    QLIST_FOREACH(pc, &p->contexts, next) {
        if (pc->nr && !pc->cleared && !passed_context_wanted(p, pc)) {
            pc->ctx = NULL;
            pc->cleared = true;
            passed_context_clear(p, pc);
        }
    }
}

bool xen_pviommu_passed_attached(XenPVIOMMUState *s, XenPVIOMMUFunction *f)
{
    XenPVIOMMUPassed *p = s->passed;
    PassedContext *pc = p ? passed_context_of(p, f->ctx) : NULL;

    if (p && p->leaving->len) {
        /* It was the last one beside those, and the guest may free it. */
        passed_clear_unwanted(p);
    }
    return !pc || passed_context_replay(p, pc);
}

/* It is not where it should be. */
static void function_strand(XenPVIOMMUPassed *p, PassedFunction *pf, int rc)
{
    error_report_once("xen-pviommu: function %04x:%02x:%02x.%x, which Xen "
                      "passes through, does not follow the guest: %s",
                      pf->sbdf >> 16, PCI_BUS_NUM(pf->sbdf),
                      PCI_SLOT(pf->sbdf), PCI_FUNC(pf->sbdf), strerror(-rc));
    pf->pending = true;
}

static void passed_update(XenPVIOMMUPassed *p)
{
    for (guint i = 0; i < p->functions->len; i++) {
        PassedFunction *pf = g_ptr_array_index(p->functions, i);
        int rc = function_place(p, pf, pf->f->ctx);

        if (rc == -XEN_IOMMU_EOPNOTSUPP) {
            function_refuse(p, pf);
            i--;
        } else if (rc) {
            function_strand(p, pf, rc);
        }
    }
    passed_clear_unwanted(p);
    passed_sweep(p);
    xen_pviommu_passed_commit(p->s, NULL, NULL);
    passed_arm_timer(p);
}

void xen_pviommu_passed_update(XenPVIOMMUState *s)
{
    if (s->passed) {
        QEMU_LOCK_GUARD(&s->lock);

        passed_update(s->passed);
    }
}

void passed_bh(void *opaque)
{
    XenPVIOMMUPassed *p = opaque;

    QEMU_LOCK_GUARD(&p->s->lock);

    xen_pviommu_passed_commit(p->s, NULL, NULL);
    passed_arm_timer(p);
}

void passed_timer(void *opaque)
{
    XenPVIOMMUPassed *p = opaque;
    PassedContext *pc;

    if (p->port < 0) {
        passed_faults_poll(p);
    }

    QEMU_LOCK_GUARD(&p->s->lock);

    QLIST_FOREACH(pc, &p->contexts, next) {
        passed_context_replay(p, pc);
    }
    passed_retry(p);
    passed_leave(p);
    retry_free(p);
    passed_update(p);
}

/* --- what the host reserves ----------------------------------------------- */

static void reserved_of_list(XenPVIOMMUPassed *p, uint32_t nr, GArray *reserved)
{
    const struct xen_iommu_reserved_range *ranges = p->list;
    const uint64_t limit = xen_pviommu_bfn_limit(&p->s->core);

    for (uint32_t i = 0; i < nr; i++) {
        if (ranges[i].start_bfn < limit) {
            xen_pviommu_reserved_add(reserved, ranges[i].start_bfn,
                                     MIN(ranges[i].nr_frames,
                                         limit - ranges[i].start_bfn),
                                     ranges[i].flags);
        }
    }
    if (p->bfn_limit < limit) {
        xen_pviommu_reserved_add(reserved, p->bfn_limit, limit - p->bfn_limit,
                                 0);
    }
}

int passed_function_reserve(XenPVIOMMUPassed *p, PassedFunction *pf,
                            uint32_t sbdf)
{
    struct xen_iommu_op op = {
        .op = XEN_IOMMUOP_target_reserved,
        .u.target_list = {
            .nr_entries = PASSED_LIST, .domid = xen_domid,
            .entries = (uintptr_t)p->list, .sbdf = sbdf,
        },
    };
    int rc = passed_run(p, &op);
    GArray *reserved;

    if (rc || op.u.target_list.nr_entries > PASSED_LIST) {
        return rc ?: -XEN_IOMMU_ENOBUFS;
    }
    reserved = xen_pviommu_reserved_new();
    reserved_of_list(p, op.u.target_list.nr_entries, reserved);
    g_hash_table_replace(pf->f->host_reserved, (void *)pf->dev, reserved);
    xen_pviommu_function_update_reserved(pf->f);
    xen_pviommu_context_update_reserved(p->s, pf->f->ctx);
    return 0;
}

void xen_pviommu_passed_reserve(XenPVIOMMUState *s, XenPVIOMMUFunction *f)
{
    XenPVIOMMUPassed *p = s->passed;

    for (guint i = 0; p && i < p->functions->len; i++) {
        PassedFunction *pf = g_ptr_array_index(p->functions, i);

        if (is_function_of(pf, f) && !pf->reserved_known) {
            pf->reserved_known = !passed_function_reserve(p, pf, pf->sbdf);
        }
    }
}
