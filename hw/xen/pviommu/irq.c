/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Interrupts of devices: messages on the bus, remapped and sent on
 *
 * A message-signalled interrupt is a write, by the function, to a window at
 * 0xfee00000. While interrupts are remapped the window of a function is a
 * region of its own: so it is known who writes, whatever the write says.
 *
 * The region is accessed with the BQL.
 */

#include "qemu/osdep.h"
#include "qemu/bswap.h"
#include "qemu/lockable.h"
#include "hw/pci/pci_bus.h"
#include "irq.h"
#include "trace.h"

#define WINDOW_START ((hwaddr)XEN_PVIOMMU_MSI_BFN << XEN_IOMMU_PAGE_SHIFT)
#define WINDOW_SIZE  ((hwaddr)XEN_PVIOMMU_MSI_NR << XEN_IOMMU_PAGE_SHIFT)

/* Fields of a message, as a local APIC has them */
#define ADDR_DEST_SHIFT         12
#define ADDR_DEST_HIGH          0xffffff00ull   /* of dest, at bit 32 */
#define ADDR_LOGICAL            (1u << 2)
#define DATA_DELIVERY_SHIFT     8
#define DATA_ASSERT             (1u << 14)
#define DATA_LEVEL              (1u << 15)

QEMU_BUILD_BUG_ON(XEN_IOMMU_IRQ_ADDR(0) != 0xfee00000);
QEMU_BUILD_BUG_ON(XEN_IOMMU_MAX_IRQS * 4 > 0x100000);

static MSIMessage irq_message(const XenPVIOMMUIrq *irq)
{
    bool logical = irq->flags & XEN_IOMMUOP_set_irq_logical;
    bool level = irq->flags & XEN_IOMMUOP_set_irq_level;

    return (MSIMessage) {
        .address = (irq->dest & ADDR_DEST_HIGH) << 32 | WINDOW_START |
                   (irq->dest & 0xff) << ADDR_DEST_SHIFT |
                   (logical ? ADDR_LOGICAL : 0),
        .data = irq->vector | irq->delivery << DATA_DELIVERY_SHIFT |
                DATA_ASSERT | (level ? DATA_LEVEL : 0),
    };
}

static void irq_fault(XenPVIOMMUFunction *f, hwaddr addr, uint64_t data,
                      unsigned size, bool write, uint32_t reason)
{
    XenPVIOMMUFault fault = {
        .addr = addr,
        .sbdf = xen_pviommu_function_sbdf(f),
        .ctx = f->ctx->id,
        .flags = write ? XEN_IOMMU_FAULT_write : 0,
        .reason = reason,
    };

    trace_xen_pviommu_irq_refused(f->name, addr, data, size, reason);
    xen_pviommu_fault_note(f->s, &fault);
}

/* Lock held. Its messages are those of the machine. */
static bool irq_is_direct(const XenPVIOMMUFunction *f)
{
    /* Only while the memory map changes interrupts are not remapped here. */
    return f->irqs.direct || !f->s->core.irqs.enabled;
}

static MemTxResult irq_window_read(void *opaque, hwaddr offset, uint64_t *data,
                                   unsigned size, MemTxAttrs attrs)
{
    XenPVIOMMUFunction *f = opaque;
    hwaddr addr = WINDOW_START + offset;
    MemTxResult ret;

    *data = 0;
    WITH_QEMU_LOCK_GUARD(&f->s->lock) {
        if (!f->ctx || !irq_is_direct(f)) {
            if (f->ctx) {
                irq_fault(f, addr, 0, size, false, XEN_IOMMU_FAULT_REASON_irq);
            }
            return MEMTX_DECODE_ERROR;
        }
    }
    ret = address_space_read(&address_space_memory, addr, attrs, data, size);
    *data = le64_to_cpu(*data);
    return ret;
}

/* What it is remapped to; or direct; or neither, and it was refused. */
static bool irq_remap(XenPVIOMMUFunction *f, hwaddr addr, uint64_t data,
                      unsigned size, MSIMessage *msg, bool *direct)
{
    uint32_t reason = XEN_IOMMU_FAULT_REASON_irq;
    XenPVIOMMUIrqTable *irqs = &f->s->core.irqs;
    const XenPVIOMMUIrq *irq = NULL;

    QEMU_LOCK_GUARD(&f->s->lock);

    *direct = f->ctx && irq_is_direct(f);
    if (!f->ctx || *direct) {
        return false;
    }
    if (size == sizeof(uint32_t)) {
        irq = xen_pviommu_irq_find(irqs, &f->irqs, addr, data, &reason);
    }
    if (!irq) {
        irq_fault(f, addr, data, size, true, reason);
        return false;
    }
    *msg = irq_message(irq);
    irqs->raised++;
    trace_xen_pviommu_irq(f->name, addr, data, msg->address, msg->data);
    return true;
}

static MemTxResult irq_window_write(void *opaque, hwaddr offset, uint64_t data,
                                    unsigned size, MemTxAttrs attrs)
{
    XenPVIOMMUFunction *f = opaque;
    hwaddr addr = WINDOW_START + offset;
    MSIMessage msg;
    bool direct;

    if (irq_remap(f, addr, data, size, &msg, &direct)) {
        xen_pviommu_irq_send(&msg);
        return MEMTX_OK;
    }
    if (direct) {
        data = cpu_to_le64(data);
        return address_space_write(&address_space_memory, addr, attrs, &data,
                                   size);
    }
    return MEMTX_DECODE_ERROR;
}

/* A message that no CPU takes: no APIC, in no mode, has logical number 0. */
static const XenPVIOMMUIrq nobody = {
    .vector = XEN_IOMMU_IRQ_MIN_VECTOR,
    .flags = XEN_IOMMUOP_set_irq_logical,
};

void xen_pviommu_irq_remap_msi(PCIBus *bus, void *opaque, int devfn,
                               MSIMessage *msg)
{
    XenPVIOMMUState *s = opaque;
    XenPVIOMMUFunction *f = xen_pviommu_function_of_device(bus->devices[devfn]);
    const XenPVIOMMUIrq *irq;
    uint32_t reason;

    if (!f) {
        return;
    }

    QEMU_LOCK_GUARD(&s->lock);

    if (!irq_is_direct(f)) {
        irq = xen_pviommu_irq_find(&s->core.irqs, &f->irqs, msg->address,
                                   msg->data, &reason);
        *msg = irq_message(irq ?: &nobody);
    }
}

void xen_pviommu_irqs_update(XenPVIOMMUState *s)
{
    if (s->irq_changes != s->core.irqs.changes) {
        s->irq_changes = s->core.irqs.changes;
        xen_pviommu_irq_update_routes();
    }
}

/* Each access as it is: what is longer than 8 bytes comes in parts. */
static const MemoryRegionOps irq_window_ops = {
    .read_with_attrs = irq_window_read,
    .write_with_attrs = irq_window_write,
    .endianness = DEVICE_LITTLE_ENDIAN,
    .valid = { .min_access_size = 1, .max_access_size = 8 },
    .impl = { .min_access_size = 1, .max_access_size = 8 },
};

void xen_pviommu_irq_window_init(XenPVIOMMUFunction *f)
{
    memory_region_init_io(&f->irq_window, OBJECT(f), &irq_window_ops, f,
                          "interrupts", WINDOW_SIZE);
    memory_region_add_subregion_overlap(&f->root, WINDOW_START, &f->irq_window,
                                        2);
}
