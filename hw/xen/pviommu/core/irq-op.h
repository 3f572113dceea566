/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * iommu_op: the operations on interrupts, for the table of iommu-op.c
 *
 * Locking, units and errors: see state.h.
 */

#ifndef HW_XEN_PVIOMMU_IRQ_OP_H
#define HW_XEN_PVIOMMU_IRQ_OP_H

#include "state.h"

/* Flags and the feature are checked before. They return a status. */
int xen_pviommu_op_alloc_irqs(XenPVIOMMUCore *core, struct xen_iommu_op *op,
                              uint16_t flags);
int xen_pviommu_op_set_irq(XenPVIOMMUCore *core, struct xen_iommu_op *op,
                           uint16_t flags);
int xen_pviommu_op_free_irqs(XenPVIOMMUCore *core, struct xen_iommu_op *op,
                             uint16_t flags);
int xen_pviommu_op_direct_irqs(XenPVIOMMUCore *core, struct xen_iommu_op *op,
                               uint16_t flags);

#endif /* HW_XEN_PVIOMMU_IRQ_OP_H */
