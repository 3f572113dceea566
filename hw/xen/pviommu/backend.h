/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What holds a guest page while it is mapped
 */

#ifndef HW_XEN_PVIOMMU_BACKEND_H
#define HW_XEN_PVIOMMU_BACKEND_H

#include "qemu/thread.h"

/* Each backend has a state of its own, with nothing in common. */
typedef struct XenPVIOMMUBackend XenPVIOMMUBackend;

typedef struct XenPVIOMMUBackendOps {
    /* Bit n: XEN_IOMMUOP_n can succeed. */
    uint32_t ops;
    /**
     * @get: take a reference on each of @nr pages from @gfn of domain @domid,
     * a writable one unless @readonly; all of them or none.
     *
     * Returns: 0, or
     * -XEN_IOMMU_ESRCH: no such domain
     * -XEN_IOMMU_ENOENT: a GFN has no page
     * -XEN_IOMMU_EPERM: no mapping privilege; not RAM; read-only RAM
     * -XEN_IOMMU_EAGAIN: a page is on its way back, or there is more to look
     * at than is done at a time; ask again
     */
    int (*get)(XenPVIOMMUBackend *backend, uint16_t domid,
               uint64_t gfn, uint64_t nr, bool readonly);
    /** @put: drop references that @get took with the same @readonly. */
    void (*put)(XenPVIOMMUBackend *backend,
                uint64_t gfn, uint64_t nr, bool readonly);
    /**
     * @put_frames: drop @nr references of @get, whichever pages they are on.
     * What a guest unmaps, frees or loses by a reset then takes no time page by
     * page.
     *
     * Returns: false, with nothing done, if it has to know the pages. NULL: it
     * always has to.
     */
    bool (*put_frames)(XenPVIOMMUBackend *backend, uint64_t nr);
    /* What it did so far, as xen_pviommu_core_work(); NULL: nothing to count */
    uint64_t (*work)(XenPVIOMMUBackend *backend);
    /* The books: references held in all, and on one page. */
    uint64_t (*total)(XenPVIOMMUBackend *backend);
    uint64_t (*refs)(XenPVIOMMUBackend *backend, uint64_t gfn);
} XenPVIOMMUBackendOps;

/**
 * XenPVIOMMULostFunc: pages went away without the guest's doing
 *
 * Called with the BQL and the lock held; all references on them are dropped
 * before it returns.
 */
typedef void XenPVIOMMULostFunc(void *opaque, uint64_t gfn, uint64_t nr);

/**
 * XenPVIOMMUHolesFunc: xen_pviommu_emulated_has_holes() changed
 *
 * Called with the BQL and the lock held.
 */
typedef void XenPVIOMMUHolesFunc(void *opaque);

/* QEMU is the hypervisor, and RAM it owns is the page. */
extern const XenPVIOMMUBackendOps xen_pviommu_emulated_ops;

/**
 * xen_pviommu_emulated_new: follow the machine's memory map
 * @books: count references page by page, for xen_pviommu_core_check()
 * @lock: what callers of XenPVIOMMUBackendOps hold, beside the BQL or not.
 * What they see of the memory map changes, and @lost and @holes are called, in
 * one hold of it at the end of a transaction of the map; the rest of the
 * transaction does not take it.
 */
XenPVIOMMUBackend *xen_pviommu_emulated_new(bool books, QemuRecMutex *lock,
                                            XenPVIOMMULostFunc *lost,
                                            XenPVIOMMUHolesFunc *holes,
                                            void *opaque);

/** xen_pviommu_emulated_free: follow it no more; nothing is reported lost */
void xen_pviommu_emulated_free(XenPVIOMMUBackend *backend);

/**
 * xen_pviommu_emulated_has_holes: there is RAM of which parts are unplugged
 *
 * Which these are takes the BQL to know; without it all of that RAM is.
 * @backend may be NULL.
 */
bool xen_pviommu_emulated_has_holes(const XenPVIOMMUBackend *backend);

/**
 * xen_pviommu_emulated_held: pages of a range that the hypervisor has
 *
 * Adds them to @ranges, an array of XenPageRange.
 */
void xen_pviommu_emulated_held(XenPVIOMMUBackend *backend, uint64_t gfn,
                               uint64_t nr, GArray *ranges);

#endif /* HW_XEN_PVIOMMU_BACKEND_H */
