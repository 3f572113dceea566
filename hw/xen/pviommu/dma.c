/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The DMA side: one address space for each PCI function that can do DMA
 */

#include "qemu/osdep.h"
#include "qemu/error-report.h"
#include "qemu/rcu.h"
#include "hw/pci/pci_bus.h"
#include "bypass.h"
#include "dma.h"
#include "function.h"
#include "notify.h"
#include "queue.h"
#include "trace.h"

#define PAGE_MASK_BITS ((1ull << XEN_IOMMU_PAGE_SHIFT) - 1)

static uint32_t function_sbdf(const XenPVIOMMUFunction *f)
{
    return PCI_BUILD_BDF(pci_bus_num(f->bus), f->devfn);
}

static void function_fault(XenPVIOMMUFunction *f, const XenPVIOMMUContext *ctx,
                           uint64_t addr, bool write, uint32_t reason)
{
    XenPVIOMMUFault fault = {
        .addr = addr,
        .sbdf = function_sbdf(f),
        .ctx = ctx->id,
        .flags = write ? XEN_IOMMU_FAULT_write : 0,
        .reason = reason,
    };

    xen_pviommu_fault_note(f->s, &fault);
}

static IOMMUTLBEntry function_translate(IOMMUMemoryRegion *mr, hwaddr addr,
                                        IOMMUAccessFlags flag, int iommu_idx)
{
    XenPVIOMMUFunction *f = container_of(mr, XenPVIOMMUFunction, translated);
    XenPVIOMMUContext *ctx = qatomic_rcu_read(&f->ctx);
    uint64_t bfn = addr >> XEN_IOMMU_PAGE_SHIFT;
    uint32_t reason = XEN_IOMMU_FAULT_REASON_unmapped;
    IOMMUTLBEntry entry = {
        .target_as = &address_space_memory,
        .iova = addr & ~PAGE_MASK_BITS,
        .addr_mask = PAGE_MASK_BITS,
        .perm = IOMMU_NONE,
    };
    BfnTranslation t;

    if (!ctx) {
        /* The device was unplugged. */
        return entry;
    }
    xen_pviommu_queue_run(ctx);
    if (ctx->identity) {
        /* Only while the memory map changes: else the alias is in the way. */
        entry.translated_addr = entry.iova;
        entry.perm = IOMMU_RW;
    } else if (bfn >= xen_pviommu_bfn_limit(&f->s->core)) {
        reason = XEN_IOMMU_FAULT_REASON_range;
    } else if (bfn_table_translate(ctx->table, bfn, &t)) {
        entry.addr_mask = (1ull << (t.order + XEN_IOMMU_PAGE_SHIFT)) - 1;
        entry.iova = addr & ~entry.addr_mask;
        entry.translated_addr = (t.gfn << XEN_IOMMU_PAGE_SHIFT) &
                                ~entry.addr_mask;
        entry.perm = t.readonly ? IOMMU_RO : IOMMU_RW;
        reason = XEN_IOMMU_FAULT_REASON_readonly;
    }
    trace_xen_pviommu_translate(f->name, addr, entry.translated_addr,
                                entry.addr_mask, entry.perm);
    if (flag & ~entry.perm) {
        function_fault(f, ctx, addr, flag & IOMMU_WO, reason);
    }
    return entry;
}

static uint64_t function_min_page_size(IOMMUMemoryRegion *mr)
{
    return 1ull << XEN_IOMMU_PAGE_SHIFT;
}

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

XenPVIOMMUFunction *xen_pviommu_function_of_device(PCIDevice *dev)
{
    AddressSpace *as = pci_device_iommu_address_space(dev);

    return as == &address_space_memory ?
           NULL : container_of(as, XenPVIOMMUFunction, as);
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
        return xen_pviommu_is_passed_through(dev) ?
               NULL : xen_pviommu_function_of_device(dev);
    }
    return xen_pviommu_function_find(s, want.bus, devfn);
}

static int attach_one(void *opaque, uint32_t sbdf, XenPVIOMMUContext *ctx)
{
    XenPVIOMMUFunction *f = function_by_sbdf(opaque, sbdf);
    int ret = 0;

    if (!f) {
        return -XEN_IOMMU_ENODEV;
    }
    if (!xen_pviommu_function_fits(f, ctx)) {
        return -XEN_IOMMU_EADDRNOTAVAIL;
    }
    object_ref(OBJECT(f));
    if (!xen_pviommu_function_attach(f, ctx)) {
        ret = -XEN_IOMMU_EBUSY;
    } else if (!f->ctx) {
        ret = -XEN_IOMMU_ENODEV;
    } else if (!xen_pviommu_notify_replay(f)) {
        ret = XEN_PVIOMMU_UNFINISHED;
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
    xen_pviommu_reserved_add_all(list, f->reserved);
    return 0;
}

static void attach_all(void *opaque, XenPVIOMMUContext *ctx)
{
    XenPVIOMMUState *s = opaque;
    XenPVIOMMUFunction *f;
    GHashTableIter iter;

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
    xen_pviommu_dma_update(s);
    qemu_rec_mutex_lock(&s->lock);
    g_hash_table_iter_init(&iter, s->functions);
    while (g_hash_table_iter_next(&iter, (void **)&f, NULL)) {
        if (!xen_pviommu_function_sees_memory(f)) {
            xen_pviommu_notify_enabled(f);
        }
    }
}

const XenPVIOMMUAttachmentOps xen_pviommu_attachment_ops = {
    .attach = attach_one,
    .attach_all = attach_all,
    .reserved = attach_reserved,
    .enabled = attach_enabled,
};

void xen_pviommu_dma_update(XenPVIOMMUState *s)
{
    XenPVIOMMUFunction *f;
    GHashTableIter iter;

    if (s->core.identity && !xen_pviommu_host_update_pinned(s)) {
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
    xen_pviommu_host_update_pinned(s);
}

static AddressSpace *get_address_space(PCIBus *bus, void *opaque, int devfn)
{
    XenPVIOMMUState *s = opaque;
    XenPVIOMMUFunction *f = xen_pviommu_function_find(s, bus, devfn);

    if (f && !xen_pviommu_function_has_device(f)) {
        /* Of a device that failed to be plugged; this one is another. */
        xen_pviommu_function_end(f);
        f = NULL;
    }
    if (!f) {
        f = xen_pviommu_function_new(s, bus, devfn);
    }
    return &f->as;
}

const PCIIOMMUOps xen_pviommu_pci_ops = {
    .get_address_space = get_address_space,
    .set_iommu_device = xen_pviommu_host_set_device,
    .unset_iommu_device = xen_pviommu_host_unset_device,
};

void xen_pviommu_dma_init(XenPVIOMMUState *s)
{
    xen_pviommu_notify_init(s);
    xen_pviommu_functions_init(s);
}

void xen_pviommu_dma_finalize(XenPVIOMMUState *s)
{
    WITH_QEMU_LOCK_GUARD(&s->lock) {
        /* While there is somebody to tell. */
        xen_pviommu_core_flush_all(&s->core);
    }
    xen_pviommu_functions_finalize(s);
    xen_pviommu_notify_finalize(s);
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

void xen_pviommu_dma_foreach(XenPVIOMMUState *s, XenPVIOMMUFunctionFunc *func,
                             void *opaque)
{
    g_autoptr(GByteArray) path = g_byte_array_new();
    XenPVIOMMUFunction *f;
    GHashTableIter iter;

    g_hash_table_iter_init(&iter, s->functions);
    while (g_hash_table_iter_next(&iter, (void **)&f, NULL)) {
        function_path(f, path);
        func(opaque, path->data, path->len, f->ctx);
    }
}

typedef struct DeviceVisit {
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
        f = xen_pviommu_is_passed_through(dev) ?
            NULL : xen_pviommu_function_of_device(dev);
        v->func(v->opaque, f ? f->ctx : NULL,
                f ? function_sbdf(f) : pci_get_bdf(dev), dev);
    }
}

void xen_pviommu_dma_foreach_device(XenPVIOMMUState *s,
                                    XenPVIOMMUDeviceFunc *func, void *opaque)
{
    DeviceVisit visit = { func, opaque };

    pci_for_each_bus(pci_get_bus(PCI_DEVICE(s)), visit_devices, &visit);
}

bool xen_pviommu_dma_attach_path(XenPVIOMMUState *s, const uint8_t *path,
                                 unsigned len, XenPVIOMMUContext *ctx)
{
    PCIBus *bus = pci_get_bus(PCI_DEVICE(s));
    XenPVIOMMUFunction *f;

    for (; len > 1; path++, len--) {
        PCIBus *child;

        QLIST_FOREACH(child, &bus->child, sibling) {
            if (child->parent_dev && child->parent_dev->devfn == *path) {
                break;
            }
        }
        if (!child) {
            return false;
        }
        bus = child;
    }
    f = xen_pviommu_function_find(s, bus, *path);
    if (!f) {
        return true;
    }

    QEMU_LOCK_GUARD(&s->lock);

    /* There are no mappings yet. */
    return xen_pviommu_function_move(f, ctx) && xen_pviommu_notify_replay(f);
}

static void memory_region_class_init(ObjectClass *klass,
                                     XEN_PVIOMMU_CONST void *data)
{
    IOMMUMemoryRegionClass *imrc = IOMMU_MEMORY_REGION_CLASS(klass);

    imrc->translate = function_translate;
    xen_pviommu_notify_class_init(imrc);
    imrc->get_min_page_size = function_min_page_size;
}

static const TypeInfo memory_region_info = {
    .name = TYPE_XEN_PVIOMMU_MEMORY_REGION,
    .parent = TYPE_IOMMU_MEMORY_REGION,
    .class_init = memory_region_class_init,
};

static void xen_pviommu_dma_register(void)
{
    type_register_static(&memory_region_info);
}

type_init(xen_pviommu_dma_register)
