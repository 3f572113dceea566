/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What holds a guest page while it is mapped
 */

#ifndef HW_XEN_PVIOMMU_BACKEND_H
#define HW_XEN_PVIOMMU_BACKEND_H

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
    /* For the reference audit: references in all, and on one page. */
    uint64_t (*total)(XenPVIOMMUBackend *backend);
    uint64_t (*refs)(XenPVIOMMUBackend *backend, uint64_t gfn);
} XenPVIOMMUBackendOps;

#endif /* HW_XEN_PVIOMMU_BACKEND_H */
