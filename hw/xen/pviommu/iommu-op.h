/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * iommu_op: one operation, decoded, checked and run
 *
 * The rules are docs/specs/xen-pviommu.rst; no PCI and no MMIO in here.
 */

#ifndef HW_XEN_PVIOMMU_IOMMU_OP_H
#define HW_XEN_PVIOMMU_IOMMU_OP_H

#include "core.h"

/**
 * xen_pviommu_op_execute: run one operation
 * @op: a copy of it, little-endian as in guest memory; its status and what
 *      else it returns are stored here
 *
 * Whatever is in @op, the outcome is a status.
 */
void xen_pviommu_op_execute(XenPVIOMMUCore *core, struct xen_iommu_op *op);

/**
 * xen_pviommu_op_execute_queued: run one operation of a context's queue
 * @op: as for xen_pviommu_op_execute(); if it is none for the queue of @ctx it
 *      fails
 *
 * Returns: its status.
 */
int xen_pviommu_op_execute_queued(XenPVIOMMUCore *core,
                                  const XenPVIOMMUContext *ctx,
                                  struct xen_iommu_op *op);

/** xen_pviommu_queue_valid: there may be a queue at @addr, if that is RAM */
bool xen_pviommu_queue_valid(uint64_t addr, uint32_t nr_ops);

#endif /* HW_XEN_PVIOMMU_IOMMU_OP_H */
