/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The emulated backend: QEMU is the hypervisor, and RAM it owns is the page
 *
 * Locking: the lock given to xen_pviommu_emulated_new(), for all but that and
 * xen_pviommu_emulated_free(), which need the BQL.
 */

#ifndef HW_XEN_PVIOMMU_BACKEND_EMULATED_H
#define HW_XEN_PVIOMMU_BACKEND_EMULATED_H

#include "qemu/thread.h"
#include "core/backend.h"

/**
 * XenPVIOMMURemovedFunc: pages went away without the guest's doing
 *
 * Called with the BQL and the lock held; all references on them are dropped
 * before it returns.
 */
typedef void XenPVIOMMURemovedFunc(void *opaque, uint64_t gfn, uint64_t nr);

/**
 * XenPVIOMMUUnpluggedFunc: xen_pviommu_emulated_has_unplugged() changed
 *
 * Called with the BQL and the lock held.
 */
typedef void XenPVIOMMUUnpluggedFunc(void *opaque);

extern const XenPVIOMMUBackendOps xen_pviommu_emulated_ops;

/**
 * xen_pviommu_emulated_new: follow the machine's memory map
 * @audit: count references page by page, for xen_pviommu_core_check()
 * @lock: what callers of XenPVIOMMUBackendOps hold, with the BQL or without.
 * What they see of the memory map changes, and @removed and @unplugged are
 * called, in one hold of it at the end of a transaction of the map; the rest of
 * the transaction does not take it.
 */
XenPVIOMMUBackend *xen_pviommu_emulated_new(bool audit, QemuRecMutex *lock,
                                            XenPVIOMMURemovedFunc *removed,
                                            XenPVIOMMUUnpluggedFunc *unplugged,
                                            void *opaque);

/** xen_pviommu_emulated_free: follow it no more; nothing is reported */
void xen_pviommu_emulated_free(XenPVIOMMUBackend *backend);

/**
 * xen_pviommu_emulated_has_unplugged: there is RAM of which parts are unplugged
 *
 * Which these are takes the BQL to know; without it all of that RAM is.
 * @backend may be NULL.
 */
bool xen_pviommu_emulated_has_unplugged(const XenPVIOMMUBackend *backend);

/**
 * xen_pviommu_emulated_held: pages of a range that the hypervisor has
 *
 * Adds them to @ranges, an array of XenPageRange.
 */
void xen_pviommu_emulated_held(XenPVIOMMUBackend *backend, uint64_t gfn,
                               uint64_t nr, GArray *ranges);

#endif /* HW_XEN_PVIOMMU_BACKEND_EMULATED_H */
