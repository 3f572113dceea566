/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Interrupts of devices: messages on the bus, remapped and sent on
 */

#ifndef HW_XEN_PVIOMMU_IRQ_H
#define HW_XEN_PVIOMMU_IRQ_H

#include "hw/pci/msi.h"
#include "function.h"

/**
 * xen_pviommu_irq_window_init: what @f writes its interrupts to
 *
 * A region of its root, which is enabled while interrupts are remapped.
 */
void xen_pviommu_irq_window_init(XenPVIOMMUFunction *f);

/** xen_pviommu_irq_remap_msi: PCIIOMMUOps.remap_msi */
void xen_pviommu_irq_remap_msi(PCIBus *bus, void *opaque, int devfn,
                               MSIMessage *msg);

/**
 * xen_pviommu_irqs_update: where messages were remapped ahead, do it again
 *
 * If anything has changed since it was done. BQL, and not the lock.
 */
void xen_pviommu_irqs_update(XenPVIOMMUState *s);

/** xen_pviommu_irq_update_routes: KVM's, for all devices; BQL, not the lock */
void xen_pviommu_irq_update_routes(void);

/** xen_pviommu_irq_send: to the local APICs; BQL, and not the lock */
void xen_pviommu_irq_send(MSIMessage *msg);

#endif /* HW_XEN_PVIOMMU_IRQ_H */
