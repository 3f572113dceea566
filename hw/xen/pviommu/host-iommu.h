/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Guest pages in the host's IOMMU: iommu_op as a hypercall of our own domain
 */

#ifndef HW_XEN_PVIOMMU_HOST_IOMMU_H
#define HW_XEN_PVIOMMU_HOST_IOMMU_H

/**
 * xen_pviommu_host_init: open the hypervisor's iommu_op
 *
 * Returns: false, with @errp, where there is none. BQL held, once.
 */
bool xen_pviommu_host_init(Error **errp);

/** xen_pviommu_host_finalize: unmap all pages */
void xen_pviommu_host_finalize(void);

#endif /* HW_XEN_PVIOMMU_HOST_IOMMU_H */
