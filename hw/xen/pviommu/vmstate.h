/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Migration: what vmstate.c, which has the section, and vmstate-runs.c, which
 * has the mappings in it, share
 *
 * Locking: BQL, and XenPVIOMMUState.lock.
 */

#ifndef HW_XEN_PVIOMMU_VMSTATE_H
#define HW_XEN_PVIOMMU_VMSTATE_H

#include "device.h"

/**
 * xen_pviommu_load_goes_on: to be asked after each wait for the stream
 *
 * Returns: false, with a message, if the machine was reset meanwhile. Nothing
 * that was loaded before is there any more, and no more must be.
 */
bool xen_pviommu_load_goes_on(const XenPVIOMMUState *s);

/** xen_pviommu_vmstate_mappings: of XenPVIOMMUState; BQL without the lock */
extern const VMStateInfo xen_pviommu_vmstate_mappings;

/** xen_pviommu_runs_begin_load: runs without pages can be deferred */
void xen_pviommu_runs_begin_load(XenPVIOMMUState *s);

/** xen_pviommu_runs_forget_deferred: they are not wanted any more */
void xen_pviommu_runs_forget_deferred(XenPVIOMMUState *s);

/**
 * xen_pviommu_runs_load_deferred: the machine is complete
 *
 * What has no pages now is lost, which is said.
 */
void xen_pviommu_runs_load_deferred(XenPVIOMMUState *s);

#endif /* HW_XEN_PVIOMMU_VMSTATE_H */
