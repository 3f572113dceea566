/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Migration of interrupts that are remapped
 */

#ifndef HW_XEN_PVIOMMU_VMSTATE_IRQS_H
#define HW_XEN_PVIOMMU_VMSTATE_IRQS_H

#include "migration/vmstate.h"

/**
 * xen_pviommu_vmstate_irqs: of XenPVIOMMUState, a subsection; BQL
 *
 * Where nothing was allocated and all is as after a reset there is none.
 */
extern const VMStateDescription xen_pviommu_vmstate_irqs;

#endif /* HW_XEN_PVIOMMU_VMSTATE_IRQS_H */
