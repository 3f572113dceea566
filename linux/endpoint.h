/* SPDX-License-Identifier: GPL-2.0 */
/*
 * xen-pviommu: what an endpoint is, for endpoint.c, iommu-ops.c, in-use.c
 * and irqs.c
 */

#ifndef XEN_PVIOMMU_ENDPOINT_H
#define XEN_PVIOMMU_ENDPOINT_H

#include <linux/list.h>
#include <linux/pci.h>

#include "pviommu.h"

/**
 * struct pviommu_endpoint - a PCI function behind the IOMMU
 *
 * Under pviommu.rids_lock, but for what says otherwise.
 *
 * @v: the IOMMU
 * @dev: the function
 * @list: in pviommu.endpoints
 * @apart: the core does not have it, and it is in use; a reference to @dev and
 *	to the module is held then
 * @group: while it is apart and its driver is unbound, the group it was in
 * @in_use: its driver was bound before the core had it: it stays in the
 *	identity domain until that driver is unbound
 * @leaving: it leaves the core, and stays in use; under pviommu.bind_lock
 * @failed: that driver did not bind after all; under pviommu.bind_lock
 * @waits: its driver is bound, and keeps its group in the identity domain,
 *	which another one in use brought it into; under pviommu.bind_lock
 * @nr_rids: requester IDs its DMA can carry, at least 1
 * @nr_own: the first of those, which are not of bridges
 * @rids: those, as SBDF; its own first if the device knows it
 */
struct pviommu_endpoint {
	struct pviommu *v;
	struct device *dev;
	struct list_head list;
	struct iommu_group *group;
	bool apart;
	bool in_use;
	bool leaving;
	bool failed;
	bool waits;
	unsigned int nr_rids;
	unsigned int nr_own;
	u32 rids[];
};

/* endpoint.c */

struct pviommu_endpoint *pviommu_endpoint_new(struct pviommu *v,
					      struct pci_dev *pdev, bool early);
void pviommu_endpoint_free(struct pviommu_endpoint *ep);
struct pviommu_endpoint *pviommu_endpoint_find(struct pviommu *v,
					       const struct device *dev);
void pviommu_apart_begin(struct pviommu_endpoint *ep);
void pviommu_apart_end(struct pviommu_endpoint *ep);
int pviommu_query_reserved(struct pviommu *v, u32 sbdf,
			   struct xen_iommu_reserved_range **ranges);

/* irqs.c */

void pviommu_irqs_add(struct pviommu_endpoint *ep);

#endif /* XEN_PVIOMMU_ENDPOINT_H */
