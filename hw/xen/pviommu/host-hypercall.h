/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The host's iommu_op as a hypercall: is it there, and is it ours?
 *
 * All that knows libxencall. There is one such interface in a process.
 *
 * Locking: BQL.
 */

#ifndef HW_XEN_PVIOMMU_HOST_HYPERCALL_H
#define HW_XEN_PVIOMMU_HOST_HYPERCALL_H

#include "hw/xen/interface/iommu_op.h"

/* Operations at a time. */
#define XEN_PVIOMMU_HOST_OPS 2
/* Their status until the hypervisor wrote one; it writes none above 0. */
#define XEN_PVIOMMU_HOST_NOT_RUN 1

/**
 * xen_pviommu_hypercall_open: find the interface, whatever it can do
 *
 * It is open until it was closed as often.
 *
 * Returns: what it can do; NULL, with @errp, if it is not there.
 */
const struct xen_iommu_op_query_caps *xen_pviommu_hypercall_open(Error **errp);
void xen_pviommu_hypercall_close(void);

/** xen_pviommu_hypercall_alloc: memory that hypercalls reach; may be NULL */
void *xen_pviommu_hypercall_alloc(size_t size, Error **errp);
void xen_pviommu_hypercall_free(void *buffer);

/**
 * xen_pviommu_hypercall_run: run operations in such memory
 *
 * Each of them has its status then: what the hypervisor says, or, if it did not
 * come that far, why.
 */
void xen_pviommu_hypercall_run(struct xen_iommu_op *ops, unsigned nr);

/* What this domain does for itself */

/**
 * xen_pviommu_host_open: find the interface
 * @bfn_limit: OUT: this domain's BFNs are below it
 *
 * Returns: false, with @errp, if it is none that can map for this domain.
 */
bool xen_pviommu_host_open(uint64_t *bfn_limit, Error **errp);
void xen_pviommu_host_close(void);

/**
 * xen_pviommu_host_reserved: add the BFNs that this domain must not map
 * @list: of struct xen_iommu_reserved_range
 */
bool xen_pviommu_host_reserved(GArray *list, Error **errp);

/** xen_pviommu_host_op: make operation @i of the next call an @op */
struct xen_iommu_op *xen_pviommu_host_op(unsigned i, uint16_t op);

/** xen_pviommu_host_call: run the first @nr. Returns: the first's status. */
int xen_pviommu_host_call(unsigned nr);

/** xen_pviommu_host_result: operation @i as the last call left it */
const struct xen_iommu_op *xen_pviommu_host_result(unsigned i);

#endif /* HW_XEN_PVIOMMU_HOST_HYPERCALL_H */
