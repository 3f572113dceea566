/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Functions that Xen passes through: what they reach is in page tables of the
 * hypervisor's, which follow the guest's contexts
 *
 * Where the hypervisor has no contexts for functions of a guest, such a
 * function is not behind the IOMMU.
 *
 * Changes are collected, and sent to the hypervisor by
 * xen_pviommu_passed_commit(), before the guest can see that they are done.
 *
 * Locking: BQL, and within it XenPVIOMMUState.lock, for all that does not say
 * otherwise.
 */

#ifndef HW_XEN_PVIOMMU_PASSED_H
#define HW_XEN_PVIOMMU_PASSED_H

#include "function.h"

/** xen_pviommu_passed_init: there are none; BQL, not the lock */
void xen_pviommu_passed_init(XenPVIOMMUState *s);

/**
 * xen_pviommu_passed_finalize: forget them; they reach what they did
 *
 * BQL, and not the lock.
 */
void xen_pviommu_passed_finalize(XenPVIOMMUState *s);

/** xen_pviommu_passed_behind: @dev is passed through, and behind the IOMMU */
bool xen_pviommu_passed_behind(XenPVIOMMUState *s, const PCIDevice *dev);

/**
 * xen_pviommu_passed_missing: why the passed-through @dev is not, for a user
 *
 * Returns: NULL if it is, or did not need to be looked at yet.
 */
const char *xen_pviommu_passed_missing(XenPVIOMMUState *s,
                                       const PCIDevice *dev);

/**
 * xen_pviommu_passed_unplugged: @dev is not realized any more
 *
 * Before its XenPVIOMMUFunction ends. BQL, and not the lock.
 */
void xen_pviommu_passed_unplugged(XenPVIOMMUState *s, const PCIDevice *dev);

/* --- what a context maps, as notify.c has it ------------------------------ */

/** xen_pviommu_passed_map: @run is new in @ctx */
void xen_pviommu_passed_map(XenPVIOMMUState *s, XenPVIOMMUContext *ctx,
                            const BfnRun *run);

/** xen_pviommu_passed_unmap: no function reaches the range after a commit */
void xen_pviommu_passed_unmap(XenPVIOMMUState *s, XenPVIOMMUContext *ctx,
                              uint64_t bfn, uint64_t nr);

/** xen_pviommu_passed_listening: a function is, or is about to be, in @ctx */
bool xen_pviommu_passed_listening(XenPVIOMMUState *s,
                                  const XenPVIOMMUContext *ctx);

/* --- when changes are sent ------------------------------------------------ */

/** xen_pviommu_passed_begin: operation @tag of the guest's runs now */
void xen_pviommu_passed_begin(XenPVIOMMUState *s, unsigned tag);

/**
 * xen_pviommu_passed_commit: the hypervisor has all changes
 * @failed: is called for operations since the last commit that the hypervisor
 *          did not do; what they mapped is unmapped. May be NULL.
 */
void xen_pviommu_passed_commit(XenPVIOMMUState *s,
                               XenPVIOMMUFailedFunc *failed, void *data);

/* --- which context they are in -------------------------------------------- */

/**
 * xen_pviommu_passed_attach: @f is about to be in @ctx, by the guest's doing
 *
 * Returns: 0, or a negated XEN_IOMMU_E* and nothing changed.
 */
int xen_pviommu_passed_attach(XenPVIOMMUState *s, XenPVIOMMUFunction *f,
                              XenPVIOMMUContext *ctx);

/**
 * xen_pviommu_passed_attached: @f is there; go on until it reaches all that is
 * mapped
 *
 * Takes some milliseconds at the most. Returns: true if it does.
 */
bool xen_pviommu_passed_attached(XenPVIOMMUState *s, XenPVIOMMUFunction *f);

/** xen_pviommu_passed_detach_all: all contexts are about to be removed */
void xen_pviommu_passed_detach_all(XenPVIOMMUState *s);

/**
 * xen_pviommu_passed_update: functions are where the device has them
 *
 * BQL, and not the lock.
 */
void xen_pviommu_passed_update(XenPVIOMMUState *s);

/** xen_pviommu_passed_reserve: ask what the host reserves for @f */
void xen_pviommu_passed_reserve(XenPVIOMMUState *s, XenPVIOMMUFunction *f);

#endif /* HW_XEN_PVIOMMU_PASSED_H */
