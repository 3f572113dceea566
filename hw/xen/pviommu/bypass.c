/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Devices that are not behind the IOMMU, or not with all they do
 */

#include "qemu/osdep.h"
#include "qemu/error-report.h"
#include "qemu/main-loop.h"
#include "hw/pci/pci_bus.h"
#include "bypass.h"
#include "function.h"
#include "passed.h"
#include "reserved-config.h"

typedef struct BypassModel {
    const char *type;           /* and those derived from it */
    const char *unless;         /* not with this property on; may be NULL */
    const char *reason;
    const char *hint;           /* may be NULL */
} BypassModel;

/* docs/system/devices/xen-pviommu-models.rst has all models, and why. */
static const BypassModel bypass_models[] = {
    {
        .type = "virtio-pci",
        .unless = "iommu_platform",
        .reason = "uses guest-physical addresses",
        .hint = "Give it iommu_platform=on, and disable-legacy=on where it is "
                "on no PCI Express port.\n",
    }, {
        .type = "virtio-gpu-pci-base",
        .reason = "reads the pages of a resource until that is gone, whatever "
                  "the guest unmaps",
    }, {
        .type = "virtio-vga-base",
        .reason = "reads the pages of a resource until that is gone, whatever "
                  "the guest unmaps",
    },
};

static const BypassModel *bypass_find(PCIDevice *dev)
{
    for (size_t i = 0; i < ARRAY_SIZE(bypass_models); i++) {
        const BypassModel *model = &bypass_models[i];

        if (object_dynamic_cast(OBJECT(dev), model->type) &&
            !(model->unless &&
              object_property_get_bool(OBJECT(dev), model->unless, NULL))) {
            return model;
        }
    }
    return NULL;
}

const char *xen_pviommu_bypass_reason(PCIDevice *dev)
{
    const BypassModel *model = bypass_find(dev);

    return model ? model->reason : NULL;
}

typedef struct BypassVisit {
    XenPVIOMMUState *s;
    GHashTable *before;         /* of PCIDevice and root PCIBus, warned of */
    GHashTable *now;
} BypassVisit;

/* The host bridge of @dev leaves all devices out. One warning says so. */
static void bypass_visit_left_out(BypassVisit *visit, PCIDevice *dev)
{
    PCIBus *root = pci_device_root_bus(dev);

    if (!g_hash_table_add(visit->now, root) ||
        g_hash_table_contains(visit->before, root)) {
        return;
    }
    warn_report("xen-pviommu: devices on and behind the bus '%s' are not "
                "behind the IOMMU: they reach all of the guest's memory, "
                "whatever the guest maps", BUS(root)->name);
    error_printf("Remove %s to have them behind it.\n", root->parent_dev ?
                 "bypass_iommu=on from the expander bridge" :
                 "default-bus-bypass-iommu=on from -machine");
}

/* Xen passes @dev through, and it is not behind the IOMMU. */
static void bypass_visit_passed(BypassVisit *visit, PCIDevice *dev)
{
    const char *why = xen_pviommu_passed_missing(visit->s, dev);
    g_autofree char *place = NULL;

    if (!why || !g_hash_table_add(visit->now, dev) ||
        g_hash_table_contains(visit->before, dev)) {
        return;
    }
    place = xen_pviommu_place(pci_get_bus(dev), dev->devfn);
    warn_report("xen-pviommu: the function at %s, which Xen passes through, is "
                "not behind the IOMMU, and reaches all of the guest's memory: "
                "%s", place, why);
}

static void bypass_visit_bus(PCIBus *bus, void *opaque)
{
    BypassVisit *visit = opaque;

    for (unsigned devfn = 0; devfn < ARRAY_SIZE(bus->devices); devfn++) {
        PCIDevice *dev = bus->devices[devfn];
        const BypassModel *model = dev ? bypass_find(dev) : NULL;

        if (dev && !xen_pviommu_function_of_device(dev) &&
            !xen_pviommu_is_passed_through(dev)) {
            bypass_visit_left_out(visit, dev);
        }
        if (dev && xen_pviommu_is_passed_through(dev)) {
            bypass_visit_passed(visit, dev);
        }
        if (!model) {
            continue;
        }
        g_hash_table_add(visit->now, dev);
        if (!g_hash_table_contains(visit->before, dev)) {
            g_autofree char *place = xen_pviommu_place(bus, devfn);
            const char *id = DEVICE(dev)->id;

            warn_report("xen-pviommu: %s%s%s at %s %s",
                        object_get_typename(OBJECT(dev)), id ? " " : "",
                        id ?: "", place, model->reason);
            if (model->hint) {
                error_printf("%s", model->hint);
            }
        }
    }
}

static void bypass_run(void *opaque)
{
    XenPVIOMMUState *s = opaque;
    BypassVisit visit = {
        .s = s,
        .before = s->bypassing,
        .now = g_hash_table_new(NULL, NULL),
    };

    pci_for_each_bus(pci_get_bus(PCI_DEVICE(s)), bypass_visit_bus, &visit);
    g_hash_table_unref(s->bypassing);
    s->bypassing = visit.now;
}

void xen_pviommu_bypass_check(XenPVIOMMUState *s)
{
    qemu_bh_schedule(s->bypass_bh);
}

static void bypass_device_realized(DeviceListener *listener, DeviceState *dev)
{
    XenPVIOMMUState *s = container_of(listener, XenPVIOMMUState,
                                      bypass_listener);

    if (object_dynamic_cast(OBJECT(dev), TYPE_PCI_DEVICE)) {
        xen_pviommu_bypass_check(s);
    }
}

void xen_pviommu_bypass_init(XenPVIOMMUState *s)
{
    s->bypassing = g_hash_table_new(NULL, NULL);
    s->bypass_bh = qemu_bh_new(bypass_run, s);
    s->bypass_listener.realize = bypass_device_realized;
    device_listener_register(&s->bypass_listener);
    xen_pviommu_bypass_check(s);
}

void xen_pviommu_bypass_finalize(XenPVIOMMUState *s)
{
    device_listener_unregister(&s->bypass_listener);
    qemu_bh_delete(s->bypass_bh);
    g_hash_table_unref(s->bypassing);
}
