/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * iommu_op: one operation, decoded, checked and run
 *
 * The rules are docs/specs/xen-pviommu.rst; no PCI and no MMIO in here.
 */

#ifndef HW_XEN_PVIOMMU_IOMMU_OP_H
#define HW_XEN_PVIOMMU_IOMMU_OP_H

#include "state.h"

/*
 * What one call of xen_pviommu_op_execute() adds to xen_pviommu_core_work() at
 * the most, whatever a guest has prepared; but for free_context, which counts
 * on its own, and for what listeners and the hypervisor are asked for.
 */
#define XEN_PVIOMMU_OP_WORK (1u << 19)

/**
 * xen_pviommu_op_execute: run one operation, or a part of it
 * @op: a copy of it, little-endian as in guest memory; its status and what
 *      else it returns are stored here
 *
 * Whatever is in @op, the outcome is a status. One call takes a bounded time:
 * see xen_pviommu_core_work().
 *
 * Returns: false if it is unfinished. Then it has no status yet, and @op says
 * what is left: execute that, which has to be in guest memory meanwhile.
 */
bool xen_pviommu_op_execute(XenPVIOMMUCore *core, struct xen_iommu_op *op);

/**
 * xen_pviommu_op_execute_queued: run one operation of a context's queue
 * @op: as for xen_pviommu_op_execute(); if it is none for the queue of @ctx it
 *      fails
 *
 * One that is unfinished is as it was: execute it again, from guest memory or
 * not.
 *
 * Returns: its status, or XEN_PVIOMMU_UNFINISHED.
 */
int xen_pviommu_op_execute_queued(XenPVIOMMUCore *core,
                                  const XenPVIOMMUContext *ctx,
                                  struct xen_iommu_op *op);

/** xen_pviommu_queue_valid: there may be a queue at @addr, if that is RAM */
bool xen_pviommu_queue_valid(uint64_t addr, uint32_t nr_ops);

#endif /* HW_XEN_PVIOMMU_IOMMU_OP_H */
