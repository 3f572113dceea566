/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The pages that frame numbers count: XEN_IOMMU_PAGE_SHIFT in bytes
 */

#ifndef HW_XEN_PVIOMMU_PAGE_H
#define HW_XEN_PVIOMMU_PAGE_H

#include "hw/xen/interface/iommu_op.h"

#define XEN_PVIOMMU_PAGE_SIZE (1ull << XEN_IOMMU_PAGE_SHIFT)
#define XEN_PVIOMMU_PAGE_MASK (XEN_PVIOMMU_PAGE_SIZE - 1)

#endif /* HW_XEN_PVIOMMU_PAGE_H */
