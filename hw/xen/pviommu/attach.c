/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Which function is in which context: what contexts ask of functions, and what
 * looks at all of them
 */

#include "qemu/osdep.h"
#include "qemu/error-report.h"
#include "hw/pci/pci_bus.h"
#include "attach.h"
#include "function.h"
#include "notify.h"
#include "passed.h"
#include "pinned.h"

typedef struct BusByNumber {
    int number;
    PCIBus *bus;
} BusByNumber;

static void match_bus(PCIBus *bus, void *opaque)
{
    BusByNumber *want = opaque;

    if (pci_bus_num(bus) == want->number) {
        want->bus = bus;
    }
}

/* But for its host bridge, which may leave it out */
static bool device_is_behind(XenPVIOMMUState *s, PCIDevice *dev)
{
    return !xen_pviommu_is_passed_through(dev) ||
           xen_pviommu_passed_behind(s, dev);
}

/*
 * The function whose requests carry @sbdf, or those of the device there,
 * which a bridge may have put its own ID on.
 */
static XenPVIOMMUFunction *function_by_sbdf(XenPVIOMMUState *s, uint32_t sbdf)
{
    BusByNumber want = { .number = PCI_BUS_NUM(sbdf) };
    uint8_t devfn = sbdf & 0xff;
    PCIDevice *dev;

    if (sbdf >> 16) {
        return NULL;
    }
    pci_for_each_bus(pci_get_bus(PCI_DEVICE(s)), match_bus, &want);
    if (!want.bus) {
        return NULL;
    }
    dev = want.bus->devices[devfn];
    if (dev) {
        return device_is_behind(s, dev) ? xen_pviommu_function_of_device(dev)
                                        : NULL;
    }
    return xen_pviommu_function_find(s, want.bus, devfn);
}

static int attach_one(void *opaque, uint32_t sbdf, XenPVIOMMUContext *ctx)
{
    XenPVIOMMUState *s = opaque;
    XenPVIOMMUFunction *f = function_by_sbdf(s, sbdf);
    int ret;

    if (!f) {
        return -XEN_IOMMU_ENODEV;
    }
    xen_pviommu_passed_reserve(s, f);
    if (!xen_pviommu_function_fits(f, ctx)) {
        return -XEN_IOMMU_EADDRNOTAVAIL;
    }
    ret = xen_pviommu_passed_attach(s, f, ctx);
    if (ret) {
        return ret;
    }
    object_ref(OBJECT(f));
    if (!xen_pviommu_function_attach(f, ctx)) {
        ret = -XEN_IOMMU_EBUSY;
        xen_pviommu_passed_update(s);
    } else if (!f->ctx) {
        ret = -XEN_IOMMU_ENODEV;
    } else {
        bool done = xen_pviommu_notify_replay(f);

        done &= xen_pviommu_passed_attached(s, f);
        ret = done ? 0 : XEN_PVIOMMU_UNFINISHED;
    }
    object_unref(OBJECT(f));
    return ret;
}

static int attach_reserved(void *opaque, uint32_t sbdf, GArray *list)
{
    XenPVIOMMUFunction *f = function_by_sbdf(opaque, sbdf);

    if (!f) {
        return -XEN_IOMMU_ENODEV;
    }
    xen_pviommu_passed_reserve(opaque, f);
    xen_pviommu_reserved_add_all(list, f->reserved);
    return 0;
}

static void attach_all(void *opaque, XenPVIOMMUContext *ctx)
{
    XenPVIOMMUState *s = opaque;
    XenPVIOMMUFunction *f;
    GHashTableIter iter;

    xen_pviommu_passed_detach_all(s);
    g_hash_table_iter_init(&iter, s->functions);
    while (g_hash_table_iter_next(&iter, (void **)&f, NULL)) {
        xen_pviommu_function_move(f, ctx);
        /* There is nothing in it. */
        xen_pviommu_notify_replay(f);
    }
}

static void attach_enabled(void *opaque)
{
    XenPVIOMMUState *s = opaque;
    XenPVIOMMUFunction *f;
    GHashTableIter iter;

    qemu_rec_mutex_unlock(&s->lock);
    xen_pviommu_attach_update(s);
    qemu_rec_mutex_lock(&s->lock);
    g_hash_table_iter_init(&iter, s->functions);
    while (g_hash_table_iter_next(&iter, (void **)&f, NULL)) {
        if (!xen_pviommu_function_sees_memory(f)) {
            xen_pviommu_notify_enabled(f);
        }
    }
}

static XenPVIOMMUIrqOwner *attach_irq_owner(void *opaque, uint32_t sbdf)
{
    XenPVIOMMUFunction *f = function_by_sbdf(opaque, sbdf);

    return f ? &f->irqs : NULL;
}

void xen_pviommu_attach_reset_irqs(XenPVIOMMUState *s)
{
    XenPVIOMMUFunction *f;
    GHashTableIter iter;

    g_hash_table_iter_init(&iter, s->functions);
    while (g_hash_table_iter_next(&iter, (void **)&f, NULL)) {
        f->irqs.direct = false;
    }
}

static void attach_irqs_enabled(void *opaque)
{
    XenPVIOMMUState *s = opaque;

    if (!s->core.irqs.enabled) {
        xen_pviommu_attach_reset_irqs(s);
    }
    qemu_rec_mutex_unlock(&s->lock);
    xen_pviommu_attach_update(s);
    qemu_rec_mutex_lock(&s->lock);
}

const XenPVIOMMUAttachmentOps xen_pviommu_attachment_ops = {
    .attach = attach_one,
    .attach_all = attach_all,
    .reserved = attach_reserved,
    .enabled = attach_enabled,
    .irq_owner = attach_irq_owner,
    .irqs_enabled = attach_irqs_enabled,
};

void xen_pviommu_attach_update(XenPVIOMMUState *s)
{
    XenPVIOMMUFunction *f;
    GHashTableIter iter;

    if (s->core.identity && !xen_pviommu_update_pinned(s)) {
        error_report("xen-pviommu: RAM must be discarded, and assigned devices "
                     "would have it pinned: devices see none of it");
        s->core.identity = false;
    }
    memory_region_transaction_begin();
    g_hash_table_iter_init(&iter, s->functions);
    while (g_hash_table_iter_next(&iter, (void **)&f, NULL)) {
        xen_pviommu_function_update(f);
    }
    memory_region_transaction_commit();
    xen_pviommu_update_pinned(s);
    xen_pviommu_passed_update(s);
}

static void function_path(const XenPVIOMMUFunction *f, GByteArray *path)
{
    g_byte_array_set_size(path, 0);
    g_byte_array_append(path, &f->devfn, 1);
    for (PCIDevice *dev = f->bus->parent_dev; dev;
         dev = pci_get_bus(dev)->parent_dev) {
        uint8_t devfn = dev->devfn;

        g_byte_array_prepend(path, &devfn, 1);
    }
}

static PCIBus *bus_behind(PCIBus *bus, uint8_t devfn)
{
    PCIBus *child;

    QLIST_FOREACH(child, &bus->child, sibling) {
        if (child->parent_dev && child->parent_dev->devfn == devfn) {
            return child;
        }
    }
    return NULL;
}

bool xen_pviommu_function_at_path(XenPVIOMMUState *s, const uint8_t *path,
                                  unsigned len, XenPVIOMMUFunction **f)
{
    PCIBus *bus = pci_get_bus(PCI_DEVICE(s));

    for (; bus && len > 1; path++, len--) {
        bus = bus_behind(bus, *path);
    }
    *f = bus ? xen_pviommu_function_find(s, bus, *path) : NULL;
    return bus;
}

void xen_pviommu_foreach_function(XenPVIOMMUState *s,
                                  XenPVIOMMUFunctionFunc *func, void *opaque)
{
    g_autoptr(GByteArray) path = g_byte_array_new();
    XenPVIOMMUFunction *f;
    GHashTableIter iter;

    g_hash_table_iter_init(&iter, s->functions);
    while (g_hash_table_iter_next(&iter, (void **)&f, NULL)) {
        function_path(f, path);
        func(opaque, path->data, path->len, f);
    }
}

typedef struct DeviceVisit {
    XenPVIOMMUState *s;
    XenPVIOMMUDeviceFunc *func;
    void *opaque;
} DeviceVisit;

static void visit_devices(PCIBus *bus, void *opaque)
{
    const DeviceVisit *v = opaque;

    for (unsigned devfn = 0; devfn < ARRAY_SIZE(bus->devices); devfn++) {
        PCIDevice *dev = bus->devices[devfn];
        XenPVIOMMUFunction *f;

        if (!dev) {
            continue;
        }
        f = device_is_behind(v->s, dev) ? xen_pviommu_function_of_device(dev)
                                        : NULL;
        v->func(v->opaque, f ? f->ctx : NULL,
                f ? xen_pviommu_function_sbdf(f) : pci_get_bdf(dev), dev);
    }
}

void xen_pviommu_foreach_device(XenPVIOMMUState *s, XenPVIOMMUDeviceFunc *func,
                                void *opaque)
{
    DeviceVisit visit = { s, func, opaque };

    pci_for_each_bus(pci_get_bus(PCI_DEVICE(s)), visit_devices, &visit);
}

bool xen_pviommu_attach_path(XenPVIOMMUState *s, const uint8_t *path,
                             unsigned len, XenPVIOMMUContext *ctx)
{
    XenPVIOMMUFunction *f;

    if (!xen_pviommu_function_at_path(s, path, len, &f)) {
        return false;
    }
    if (!f) {
        return true;
    }

    QEMU_LOCK_GUARD(&s->lock);

    /* There are no mappings yet. */
    return xen_pviommu_function_move(f, ctx) && xen_pviommu_notify_replay(f);
}
