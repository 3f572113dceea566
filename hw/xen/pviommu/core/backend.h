/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What holds a guest page while it is mapped
 */

#ifndef HW_XEN_PVIOMMU_BACKEND_H
#define HW_XEN_PVIOMMU_BACKEND_H

/* Each backend has a state of its own, with nothing in common. */
typedef struct XenPVIOMMUBackend XenPVIOMMUBackend;

/* Which pages @get may take */
#define XEN_PVIOMMU_GET_READONLY (1u << 0)
#define XEN_PVIOMMU_GET_MMIO    (1u << 1) /* those of PCI functions, too */

typedef struct XenPVIOMMUBackendOps {
    /* Bit n: XEN_IOMMUOP_n can succeed. */
    uint32_t ops;
    /**
     * @get: take a reference on each of @nr pages from @gfn of domain @domid;
     * all of them or none.
     * @flags: XEN_PVIOMMU_GET_*
     *
     * Returns: 0, or
     * -XEN_IOMMU_ESRCH: no such domain
     * -XEN_IOMMU_ENOENT: a GFN has no page
     * -XEN_IOMMU_EPERM: no mapping privilege; not what @flags allow
     * -XEN_IOMMU_EAGAIN: a page is on its way back, or there is more to look
     * at than is done at a time; ask again
     */
    int (*get)(XenPVIOMMUBackend *backend, uint16_t domid,
               uint64_t gfn, uint64_t nr, unsigned flags);
    /** @put: drop references that @get took, @readonly or not. */
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
