/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the rest of QEMU may call of xen-pviommu
 */

#ifndef HW_XEN_XEN_PVIOMMU_H
#define HW_XEN_XEN_PVIOMMU_H

/**
 * xen_pviommu_host_map: let physical devices of this host reach guest pages
 * @gfn: the first, a guest frame number (4 KiB)
 * @nr: how many, at most UINT32_MAX
 * @readonly: devices may only read
 * @bfn: OUT: the bus frame number at which our domain's devices find the first;
 *       the others follow it
 *
 * Works with backend=xen only. A page that leaves the guest leaves the
 * mapping, too: devices get faults there. The BFNs are the caller's until
 * xen_pviommu_host_unmap() all the same. BQL held.
 *
 * Returns: 0; or a negated errno, with @errp set and nothing mapped.
 * -EAGAIN: a page is on its way back, ask again; others are for good.
 */
int xen_pviommu_host_map(uint64_t gfn, uint64_t nr, bool readonly,
                         uint64_t *bfn, Error **errp);

/**
 * xen_pviommu_host_unmap: take pages away from physical devices
 * @bfn: as xen_pviommu_host_map() said, or within
 * @nr: how many; what is not mapped is passed over
 *
 * The caller is done with these BFNs, whatever comes of it. BQL held.
 *
 * Returns: 0, and no device reaches them; or a negated errno, with @errp set:
 * the hypervisor failed, devices may reach some of them, and it is asked again
 * when the pages leave the guest, and at the end.
 */
int xen_pviommu_host_unmap(uint64_t bfn, uint64_t nr, Error **errp);

#endif /* HW_XEN_XEN_PVIOMMU_H */
