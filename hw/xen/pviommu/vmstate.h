/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Migration: the device's section, and what a load that fails leaves
 *
 * Locking: BQL. XenPVIOMMUState.lock is never held while the stream is read or
 * written, as that may wait for the other side.
 */

#ifndef HW_XEN_PVIOMMU_VMSTATE_H
#define HW_XEN_PVIOMMU_VMSTATE_H

#include "migration/vmstate.h"
#include "device.h"

extern const VMStateDescription xen_pviommu_vmstate;

/** xen_pviommu_vmstate_init: act when the machine stops and continues */
void xen_pviommu_vmstate_init(XenPVIOMMUState *s);
void xen_pviommu_vmstate_finalize(XenPVIOMMUState *s);

#endif /* HW_XEN_PVIOMMU_VMSTATE_H */
