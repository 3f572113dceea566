/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Translation of DMA: the IOMMU memory region of a function
 *
 * In identity mode a function sees the system's memory; after it, what its
 * context maps, and reserved ranges 1:1.
 *
 * Any thread translates, in an RCU critical section and without a lock.
 */

#include "qemu/osdep.h"
#include "qemu/rcu.h"
#include "function.h"
#include "notify.h"
#include "queue.h"
#include "trace.h"

static void function_fault(XenPVIOMMUFunction *f, const XenPVIOMMUContext *ctx,
                           uint64_t addr, bool write, uint32_t reason)
{
    XenPVIOMMUFault fault = {
        .addr = addr,
        .sbdf = xen_pviommu_function_sbdf(f),
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
        .iova = addr & ~XEN_PVIOMMU_PAGE_MASK,
        .addr_mask = XEN_PVIOMMU_PAGE_MASK,
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
    return XEN_PVIOMMU_PAGE_SIZE;
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
