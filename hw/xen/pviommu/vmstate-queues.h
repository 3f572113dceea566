/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Migration of queues
 */

#ifndef HW_XEN_PVIOMMU_VMSTATE_QUEUES_H
#define HW_XEN_PVIOMMU_VMSTATE_QUEUES_H

#include "migration/vmstate.h"

/**
 * xen_pviommu_vmstate_queues: of XenPVIOMMUState, a subsection; BQL
 *
 * Where there are no queues there is none.
 */
extern const VMStateDescription xen_pviommu_vmstate_queues;

#endif /* HW_XEN_PVIOMMU_VMSTATE_QUEUES_H */
