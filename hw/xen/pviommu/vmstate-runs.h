/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Migration of mappings, and the load that is under way
 *
 * Locking: BQL, and XenPVIOMMUState.lock where nothing else is said.
 */

#ifndef HW_XEN_PVIOMMU_VMSTATE_RUNS_H
#define HW_XEN_PVIOMMU_VMSTATE_RUNS_H

#include "migration/vmstate.h"
#include "device.h"

/** xen_pviommu_vmstate_mappings: of XenPVIOMMUState; BQL without the lock */
extern const VMStateInfo xen_pviommu_vmstate_mappings;

/**
 * xen_pviommu_load_begin: a load gets to our section
 *
 * From here on runs without pages can be deferred. BQL.
 */
void xen_pviommu_load_begin(XenPVIOMMUState *s);

/**
 * xen_pviommu_load_goes_on: the machine was not reset since the load began
 *
 * Returns: false, with a message, if it was. Nothing that was loaded before is
 * there any more, and no more must be.
 */
bool xen_pviommu_load_goes_on(const XenPVIOMMUState *s);

/**
 * xen_pviommu_load_check: to be asked after something was read from the stream,
 * which may have waited for it
 *
 * Returns: 0; the error of the stream, which yields zeros then; or -ECANCELED,
 * with a message, if the load does not go on.
 */
int xen_pviommu_load_check(const XenPVIOMMUState *s, QEMUFile *f);

/** xen_pviommu_load_forget_deferred: deferred runs are not wanted any more */
void xen_pviommu_load_forget_deferred(XenPVIOMMUState *s);

/** xen_pviommu_load_reset: abandon what was loaded */
void xen_pviommu_load_reset(XenPVIOMMUState *s);

/**
 * xen_pviommu_load_deferred: the machine is complete: load deferred runs
 *
 * What has no pages now is abandoned, with a warning.
 */
void xen_pviommu_load_deferred(XenPVIOMMUState *s);

/**
 * xen_pviommu_load_pages_removed: pages are going away
 *
 * Call it before the invalidation.
 *
 * Returns: true while the machine is being loaded. They may come back; then
 * what maps them is mapped again before it runs.
 */
bool xen_pviommu_load_pages_removed(XenPVIOMMUState *s, uint64_t gfn,
                                    uint64_t nr);

#endif /* HW_XEN_PVIOMMU_VMSTATE_RUNS_H */
