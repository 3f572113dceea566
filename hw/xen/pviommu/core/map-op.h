/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * iommu_op: the operations on mappings, for the table of iommu-op.c
 *
 * Locking, units and errors: see state.h.
 */

#ifndef HW_XEN_PVIOMMU_MAP_OP_H
#define HW_XEN_PVIOMMU_MAP_OP_H

#include "state.h"

/*
 * Flags and the feature are checked before. They return a status, or
 * XEN_PVIOMMU_UNFINISHED.
 */
int xen_pviommu_op_map(XenPVIOMMUCore *core, struct xen_iommu_op *op,
                       uint16_t flags);
int xen_pviommu_op_unmap(XenPVIOMMUCore *core, struct xen_iommu_op *op,
                         uint16_t flags);
int xen_pviommu_op_flush(XenPVIOMMUCore *core, struct xen_iommu_op *op,
                         uint16_t flags);
int xen_pviommu_op_lookup_bfn(XenPVIOMMUCore *core, struct xen_iommu_op *op,
                              uint16_t flags);
int xen_pviommu_op_lookup_gfn(XenPVIOMMUCore *core, struct xen_iommu_op *op,
                              uint16_t flags);

#endif /* HW_XEN_PVIOMMU_MAP_OP_H */
