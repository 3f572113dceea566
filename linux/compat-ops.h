/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Functions in the place of those that the driver's tables name, where the core
 * of an older kernel calls them otherwise; for iommu-ops.c only
 *
 * See compat.h. The last lines have the names stand for the functions of here.
 */

#ifndef XEN_PVIOMMU_COMPAT_OPS_H
#define XEN_PVIOMMU_COMPAT_OPS_H

#include <linux/version.h>

#include "domain.h"

#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 19, 0)

/* The core does not say which domain the device was in. */
static inline int pviommu_attach_compat(struct iommu_domain *domain,
					struct device *dev)
{
	return pviommu_attach(domain, dev, NULL);
}

#define pviommu_attach pviommu_attach_compat

#endif

#ifdef PVIOMMU_CORE_6_1_COMPAT

/*
 * iotlb_sync_map() cannot fail: errors have to come out of map_pages(), which
 * takes a doorbell for each piece of a scatterlist. For the DMA API this is done
 * only where a map may fail: its other maps are of RAM that is present. -ENOSPC
 * cannot come as a surprise while the frames that are mapped are no more than
 * the device takes, so they are counted.
 */

static inline void frames_remove_compat(struct pviommu_domain *d, u64 nr)
{
	atomic64_sub(nr, &d->frames_compat);
	atomic64_sub(nr, &d->v->frames_compat);
}

/* Where there is no room for sure, a map is like one of what is not RAM. */
static inline int frames_add_compat(struct pviommu_domain *d, u64 nr, int prot)
{
	atomic64_add(nr, &d->frames_compat);
	if (atomic64_add_return(nr, &d->v->frames_compat) > d->v->max_mappings)
		prot |= IOMMU_MMIO;
	return prot;
}

static inline int pviommu_map_pages_compat(struct iommu_domain *domain,
					   unsigned long iova,
					   phys_addr_t paddr, size_t pgsize,
					   size_t pgcount, int prot, gfp_t gfp,
					   size_t *mapped)
{
	struct pviommu_domain *d = to_pviommu_domain(domain);
	size_t size = pgsize * pgcount, done = 0;
	int error;

	prot = frames_add_compat(d, PVIOMMU_BFN(size), prot);
	error = pviommu_domain_map_pages(domain, iova, paddr, pgsize, pgcount,
					 prot, gfp, &done);
	if (!error && (!iommu_is_dma_domain(domain) || prot & IOMMU_MMIO ||
		       READ_ONCE(d->way) == PVIOMMU_WAY_SYNCHRONOUS))
		error = pviommu_domain_sync_map(domain, iova, size);
	if (error)
		frames_remove_compat(d, PVIOMMU_BFN(size));
	else
		*mapped = done;
	return error;
}

#define pviommu_domain_map_pages pviommu_map_pages_compat

static inline void pviommu_sync_map_compat(struct iommu_domain *domain,
					   unsigned long iova, size_t size)
{
	int error = pviommu_domain_sync_map(domain, iova, size);
	struct pviommu_domain *d = to_pviommu_domain(domain);
	unsigned long flags;

	if (likely(!error))
		return;
	flags = domain_lock(d);
	domain_be_synchronous(d);
	domain_unlock(d, flags);
	dev_err_ratelimited(&d->v->pdev->dev,
			    "context %u: map of %#zx bytes at %#lx failed, and this kernel cannot tell the driver: error %d\n",
			    d->ctx, size, iova, error);
}

#define pviommu_domain_sync_map pviommu_sync_map_compat

static inline size_t
pviommu_unmap_pages_compat(struct iommu_domain *domain, unsigned long iova,
			   size_t pgsize, size_t pgcount,
			   struct iommu_iotlb_gather *gather)
{
	size_t size = pviommu_domain_unmap_pages(domain, iova, pgsize, pgcount,
						 gather);

	frames_remove_compat(to_pviommu_domain(domain), PVIOMMU_BFN(size));
	return size;
}

#define pviommu_domain_unmap_pages pviommu_unmap_pages_compat

static inline void pviommu_domain_free_compat(struct iommu_domain *domain)
{
	struct pviommu_domain *d = to_pviommu_domain(domain);

	frames_remove_compat(d, atomic64_read(&d->frames_compat));
	pviommu_domain_free(domain);
}

#define pviommu_domain_free pviommu_domain_free_compat

/*
 * One function for all types, without a device. The core takes NULL for "try
 * IOMMU_DOMAIN_DMA instead".
 */
static inline struct iommu_domain *
pviommu_domain_alloc_compat(unsigned int type)
{
	struct iommu_domain *domain;

	switch (type) {
	case IOMMU_DOMAIN_BLOCKED:
		return &pviommu_blocked_domain;
	case IOMMU_DOMAIN_IDENTITY:
		return &pviommu_identity_domain;
	case IOMMU_DOMAIN_UNMANAGED:
	case IOMMU_DOMAIN_DMA:
	case IOMMU_DOMAIN_DMA_FQ:
		domain = pviommu_alloc_paging(NULL);
		return IS_ERR(domain) ? NULL : domain;
	default:
		return NULL;
	}
}

/*
 * Nor does the core put the DMA API on top of the domain by itself. A device
 * that is in use has no domain that needs it.
 */
static inline void pviommu_probe_finalize_compat(struct device *dev)
{
	if (iommu_get_domain_for_dev(dev) == &pviommu_identity_domain &&
	    dev->driver)
		return;
	/* The group may have been switched away from a DMA domain. */
	set_dma_ops(dev, NULL);
	iommu_setup_dma_ops(dev, 0, U64_MAX);
}

/* The core frees static domains like any other. */
static inline void pviommu_static_free_compat(struct iommu_domain *domain)
{
}

#endif

#endif /* XEN_PVIOMMU_COMPAT_OPS_H */
