/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Functions that Xen passes through: devices that come and go, and what the
 * hypervisor has for them
 */

#include "qemu/osdep.h"
#include "qemu/error-report.h"
#include "qemu/main-loop.h"
#include "qapi/error.h"
#include "hw/pci/pci_bus.h"
#include "hw/xen/xen_native.h"
#include "migration/blocker.h"
#include "system/system.h"
#include "system/xen.h"
#include "host-hypercall.h"
#include "passed-internal.h"
#include "queue.h"
#include "trace.h"

static bool host_sbdf(PCIDevice *dev, uint32_t *sbdf)
{
    g_autofree char *addr = object_property_get_str(OBJECT(dev), "hostaddr",
                                                    NULL);
    unsigned segment, bus, slot, function;

    if (!addr || sscanf(addr, "%x:%x:%x.%x", &segment, &bus, &slot,
                        &function) != 4) {
        return false;
    }
    *sbdf = segment << 16 | PCI_BUILD_BDF(bus, PCI_DEVFN(slot, function));
    return true;
}

/* Functions reach what they did: the toolstack is about to take them away. */
static void passed_exit(Notifier *notifier, void *data)
{
    passed_faults_close(container_of(notifier, XenPVIOMMUPassed, exit));
}

static void passed_close(XenPVIOMMUPassed *p)
{
    if (p->open) {
        if (p->exit.notify) {
            qemu_remove_exit_notifier(&p->exit);
            p->exit.notify = NULL;
        }
        passed_faults_close(p);
        xen_pviommu_hypercall_free(p->list);
        xen_pviommu_hypercall_free(p->ops);
        p->list = NULL;
        p->ops = NULL;
        xen_pviommu_hypercall_close();
        p->open = false;
    }
}

static bool passed_try_context(XenPVIOMMUPassed *p, Error **errp)
{
    uint16_t hw;
    int rc = passed_context_alloc(p, &hw);

    switch (-rc) {
    case 0:
        passed_context_free(p, hw);
        return true;
    case XEN_IOMMU_ENODEV:
        error_setg(errp, "the guest was created without passthrough");
        return false;
    case XEN_IOMMU_EOPNOTSUPP:
        error_setg(errp, "the host's IOMMU cannot have it");
        return false;
    default:
        error_setg(errp, "the hypervisor makes no context for it: %s",
                   strerror(-rc));
        return false;
    }
}

/* Whether the hypervisor can do it, and all that is needed for it. */
static bool passed_open(XenPVIOMMUPassed *p, Error **errp)
{
    const struct xen_iommu_op_query_caps *caps;

    if (p->open) {
        return true;
    }
    if (xen_domid_restrict) {
        error_setg(errp, "-xen-domid-restrict takes the hypercalls away that "
                   "it needs");
        return false;
    }
    caps = xen_pviommu_hypercall_open(errp);
    if (!caps) {
        return false;
    }
    p->open = true;
    if (!(caps->ops & 1u << XEN_IOMMUOP_target_map)) {
        error_setg(errp, "the hypervisor's iommu_op has no contexts for "
                   "functions of a guest");
        goto fail;
    }
    p->ops = xen_pviommu_hypercall_alloc((PASSED_BATCH_ROOM + 1) *
                                         sizeof(*p->ops), errp);
    p->list = p->ops ? xen_pviommu_hypercall_alloc(
        PASSED_LIST * sizeof(struct xen_iommu_fault), errp) : NULL;
    if (!p->list || !passed_try_context(p, errp)) {
        goto fail;
    }
    passed_faults_open(p);
    p->exit.notify = passed_exit;
    qemu_add_exit_notifier(&p->exit);
    return true;

fail:
    passed_close(p);
    return false;
}

static void function_add(XenPVIOMMUPassed *p, PCIDevice *dev, uint32_t sbdf)
{
    XenPVIOMMUState *s = p->s;
    PassedFunction *pf = g_new0(PassedFunction, 1);
    int rc;

    pf->dev = dev;
    pf->sbdf = sbdf;
    WITH_QEMU_LOCK_GUARD(&s->lock) {
        pf->f = xen_pviommu_function_of_device(dev);
        pf->f->irqs.passed = true;
        g_ptr_array_add(p->functions, pf);
        s->nr_passed++;
        rc = passed_function_reserve(p, pf, XEN_IOMMU_TARGET_ANY);
        if (rc) {
            warn_report_once("xen-pviommu: the hypervisor does not say what "
                             "it reserves: %s", strerror(-rc));
        }
        xen_pviommu_queues_update(s);
    }
    /* What it is about to follow is changed with the BQL only from now on. */
    xen_pviommu_queues_drain(s);
    xen_pviommu_passed_update(s);
}

static void passed_block_migration(XenPVIOMMUPassed *p)
{
    if (p->blocker) {
        return;
    }
    error_setg(&p->blocker, "xen-pviommu: a function that Xen passes through "
               "is in a context of the guest's: unplug it first");
    if (migrate_add_blocker(&p->blocker, NULL) < 0) {
        warn_report("xen-pviommu: the machine must not be saved while Xen "
                    "passes a function through");
    }
}

static void passed_device_realized(DeviceListener *listener, DeviceState *d)
{
    XenPVIOMMUState *s = container_of(listener, XenPVIOMMUState,
                                      passed_listener);
    XenPVIOMMUPassed *p = s->passed;
    g_autoptr(Error) err = NULL;
    PCIDevice *dev;
    uint32_t sbdf;

    if (!object_dynamic_cast(OBJECT(d), TYPE_PCI_DEVICE) ||
        !xen_pviommu_is_passed_through(PCI_DEVICE(d))) {
        return;
    }
    dev = PCI_DEVICE(d);
    if (!xen_pviommu_function_of_device(dev)) {
        passed_set_missing(p, dev, "its bus is not behind the IOMMU");
    } else if (!host_sbdf(dev, &sbdf)) {
        passed_set_missing(p, dev, "it has no address on the host");
    } else if (!passed_open(p, &err)) {
        passed_set_missing(p, dev, error_get_pretty(err));
    } else {
        g_hash_table_remove(p->missing, dev);
        passed_block_migration(p);
        function_add(p, dev, sbdf);
    }
}

static PassedFunction *function_find(XenPVIOMMUPassed *p, const PCIDevice *dev)
{
    for (guint i = 0; i < p->functions->len; i++) {
        PassedFunction *pf = g_ptr_array_index(p->functions, i);

        if (pf->dev == dev) {
            return pf;
        }
    }
    return NULL;
}

/* Move an unplugged function to the empty context. */
static int leaving_park(XenPVIOMMUPassed *p, const PassedLeaving *l)
{
    struct xen_iommu_op op;
    int rc;

    if (!p->parked) {
        rc = passed_context_alloc(p, &p->parked_hw);
        if (rc) {
            return rc;
        }
        p->parked = true;
    }
    op = passed_target_op(XEN_IOMMUOP_target_attach, p->parked_hw, l->sbdf);
    rc = passed_run(p, &op);
    trace_xen_pviommu_passed_attach(l->sbdf, p->parked_hw, rc);
    return rc;
}

void passed_leave(XenPVIOMMUPassed *p)
{
    for (guint i = 0; i < p->leaving->len; i++) {
        PassedLeaving *l = &g_array_index(p->leaving, PassedLeaving, i);
        int rc = leaving_park(p, l);

        /* The toolstack may have been faster. */
        if (!rc || rc == -XEN_IOMMU_ENODEV) {
            l->pc->nr--;
            g_array_remove_index_fast(p->leaving, i--);
        } else {
            error_report_once("xen-pviommu: a function that was unplugged is "
                              "not taken out of its context: %s",
                              strerror(-rc));
        }
    }
}

/*
 * Until the toolstack takes it away from the guest it is to reach nothing, and
 * above all not what other functions of its context do.
 */
static void function_leave(XenPVIOMMUPassed *p, PassedFunction *pf)
{
    const PassedLeaving l = { pf->sbdf, pf->where };

    if (!pf->where) {
        return;
    }
    pf->where->nr++;
    g_array_append_val(p->leaving, l);
    passed_leave(p);
}

void xen_pviommu_passed_unplugged(XenPVIOMMUState *s, const PCIDevice *dev)
{
    XenPVIOMMUPassed *p = s->passed;
    PassedFunction *pf;

    if (!p) {
        return;
    }
    g_hash_table_remove(p->missing, dev);

    QEMU_LOCK_GUARD(&s->lock);

    pf = function_find(p, dev);
    if (pf) {
        function_leave(p, pf);
        passed_function_remove(p, pf);
        passed_clear_unwanted(p);
        passed_sweep(p);
        passed_arm_timer(p);
    }
}

bool xen_pviommu_passed_behind(XenPVIOMMUState *s, const PCIDevice *dev)
{
    return s->passed && function_find(s->passed, dev);
}

const char *xen_pviommu_passed_missing(XenPVIOMMUState *s, const PCIDevice *dev)
{
    return s->passed ? g_hash_table_lookup(s->passed->missing, dev) : NULL;
}

void xen_pviommu_passed_init(XenPVIOMMUState *s)
{
    XenPVIOMMUPassed *p;

    if (!xen_enabled()) {
        return;
    }
    p = g_new0(XenPVIOMMUPassed, 1);
    p->s = s;
    p->functions = g_ptr_array_new_with_free_func(g_free);
    p->missing = g_hash_table_new_full(NULL, NULL, NULL, g_free);
    p->failures = g_array_new(false, false, sizeof(PassedFailure));
    p->leaving = g_array_new(false, false, sizeof(PassedLeaving));
    p->unfreed = g_array_new(false, false, sizeof(uint16_t));
    p->tag = PASSED_NO_TAG;
    p->port = -1;
    p->timer = timer_new_ms(QEMU_CLOCK_REALTIME, passed_timer, p);
    p->bh = qemu_bh_new(passed_bh, p);
    QLIST_INIT(&p->contexts);
    s->passed = p;
    s->passed_listener.realize = passed_device_realized;
    device_listener_register(&s->passed_listener);
}

void xen_pviommu_passed_finalize(XenPVIOMMUState *s)
{
    XenPVIOMMUPassed *p = s->passed;
    PassedContext *pc, *next;

    if (!p) {
        return;
    }
    device_listener_unregister(&s->passed_listener);
    if (p->blocker) {
        migrate_del_blocker(&p->blocker);
    }
    QLIST_FOREACH_SAFE(pc, &p->contexts, next, next) {
        g_array_unref(pc->stale);
        g_free(pc);
    }
    passed_close(p);
    timer_free(p->timer);
    qemu_bh_delete(p->bh);
    g_array_unref(p->failures);
    g_array_unref(p->leaving);
    g_array_unref(p->unfreed);
    g_hash_table_unref(p->missing);
    g_ptr_array_unref(p->functions);
    g_clear_pointer(&s->passed, g_free);
}
