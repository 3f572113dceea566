/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Devices of the host that are assigned to the guest (VFIO): what their IOMMU
 * cannot map is reserved
 */

#include "qemu/osdep.h"
#include "qapi/error.h"
#include "hw/pci/pci_bus.h"
#include "system/host_iommu_device.h"
#include "function.h"
#include "host-device.h"
#include "pinned.h"

/*
 * What the host's IOMMU cannot map for an assigned device, the guest must
 * not map either. Unlike other reserved ranges these are no memory. NULL if
 * the host does not say.
 */
static GArray *host_reserved(HostIOMMUDevice *hiod, uint64_t limit)
{
    HostIOMMUDeviceClass *hiodc = HOST_IOMMU_DEVICE_GET_CLASS(hiod);
    GList *ranges = hiodc->get_iova_ranges ? hiodc->get_iova_ranges(hiod)
                                           : NULL;
    GArray *reserved = ranges ? xen_pviommu_reserved_new() : NULL;
    uint64_t pos = 0;

    /* They come sorted: what is between their whole pages is reserved. */
    for (GList *l = ranges; l; l = l->next) {
        Range *r = l->data;
        uint64_t first = DIV_ROUND_UP(range_lob(r),
                                      XEN_PVIOMMU_PAGE_SIZE);
        uint64_t last = range_upb(r);

        first = MIN(first, limit);
        if (first > pos) {
            xen_pviommu_reserved_add(reserved, pos, first - pos, 0);
        }
        pos = MAX(pos, last == UINT64_MAX
                       ? limit : (last + 1) >> XEN_IOMMU_PAGE_SHIFT);
    }
    if (reserved && pos < limit) {
        xen_pviommu_reserved_add(reserved, pos, limit - pos, 0);
    }
    g_list_free_full(ranges, g_free);
    return reserved;
}

static bool host_reserve_ranges(XenPVIOMMUState *s, PCIDevice *dev,
                                HostIOMMUDevice *hiod, Error **errp)
{
    XenPVIOMMUFunction *f = xen_pviommu_function_find(s, hiod->aliased_bus,
                                                      hiod->aliased_devfn);
    GArray *reserved = host_reserved(hiod, xen_pviommu_bfn_limit(&s->core));

    assert(f);
    if (!reserved) {
        return true;
    }
    g_hash_table_replace(f->host_reserved, dev, reserved);
    xen_pviommu_function_update_reserved(f);
    if (!xen_pviommu_function_fits(f, f->ctx)) {
        error_setg(errp, "%s: its context maps bus addresses that the host "
                   "reserves for it", hiod->name);
        error_append_hint(errp, "Plug it before the guest maps anything, or "
                          "detach its slot first.\n");
        g_hash_table_remove(f->host_reserved, dev);
        xen_pviommu_function_update_reserved(f);
        return false;
    }
    xen_pviommu_context_update_reserved(s, f->ctx);
    return true;
}

void xen_pviommu_host_unset_device(PCIBus *bus, void *opaque, int devfn)
{
    XenPVIOMMUState *s = opaque;
    PCIDevice *dev = bus->devices[devfn];
    XenPVIOMMUFunction *f;

    QEMU_LOCK_GUARD(&s->lock);

    f = dev ? xen_pviommu_function_of_device(dev) : NULL;
    if (f && g_hash_table_remove(f->host_reserved, dev)) {
        xen_pviommu_function_update_reserved(f);
        xen_pviommu_context_update_reserved(s, f->ctx);
    }
    if (f) {
        f->nr_assigned--;
    }
    s->nr_assigned--;
    xen_pviommu_update_pinned(s);
}

bool xen_pviommu_host_set_device(PCIBus *bus, void *opaque, int devfn,
                                 HostIOMMUDevice *hiod, Error **errp)
{
    XenPVIOMMUState *s = opaque;

    QEMU_LOCK_GUARD(&s->lock);

    if (!host_reserve_ranges(s, bus->devices[devfn], hiod, errp)) {
        return false;
    }
    xen_pviommu_function_find(s, hiod->aliased_bus,
                              hiod->aliased_devfn)->nr_assigned++;
    s->nr_assigned++;
    if (!xen_pviommu_update_pinned(s)) {
        error_setg(errp, "%s: RAM must be discarded, and the device would have "
                   "it pinned", hiod->name);
        xen_pviommu_host_unset_device(bus, opaque, devfn);
        return false;
    }
    return true;
}
