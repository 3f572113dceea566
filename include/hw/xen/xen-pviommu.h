/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the rest of QEMU may call of xen-pviommu
 */

#ifndef HW_XEN_XEN_PVIOMMU_H
#define HW_XEN_XEN_PVIOMMU_H

/**
 * xen_invalidate_pages: pages of the guest go away
 * @gfn: the first, a guest frame number (4 KiB)
 * @nr: how many, not 0; the range may hold frames that are no RAM
 *
 * Unmaps them from every context of every xen-pviommu, tells the devices
 * (IOMMU notifiers), drops them from Xen's mapcache, and drops the references
 * the backends hold: in this order. When it returns, only DMA in flight holds
 * any of them, until it ends. BQL held.
 */
void xen_invalidate_pages(uint64_t gfn, uint64_t nr);

#endif /* HW_XEN_XEN_PVIOMMU_H */
