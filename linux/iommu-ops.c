// SPDX-License-Identifier: GPL-2.0
/*
 * What the IOMMU core calls: the tables, and probe and release of a device
 */

#include <linux/device.h>
#include <linux/errno.h>
#include <linux/pci.h>
#include <linux/slab.h>

#include "endpoint.h"
#include "compat-ops.h"

/* Where x86 devices write interrupts: assumed if the device returns no list. */
#define MSI_WINDOW_START	0xfee00000UL
#define MSI_WINDOW_SIZE		0x00100000UL

struct pviommu *pviommu_instance;

/* Reserved regions */

static void add_region(struct list_head *head, u64 start, u64 size, bool msi)
{
	struct iommu_resv_region *region;
	int prot = msi ? IOMMU_WRITE | IOMMU_NOEXEC | IOMMU_MMIO : 0;

	region = iommu_alloc_resv_region(start, size, prot,
					 msi ? IOMMU_RESV_MSI :
					       IOMMU_RESV_RESERVED,
					 GFP_KERNEL);
	if (region)
		list_add_tail(&region->list, head);
}

static void pviommu_get_resv_regions(struct device *dev,
				     struct list_head *head)
{
	struct pviommu_endpoint *ep = dev_iommu_priv_get(dev);
	struct xen_iommu_reserved_range *ranges;
	int i, nr;

	nr = pviommu_query_reserved(ep->v, ep->rids[0], &ranges);
	if (nr < 0) {
		dev_warn_ratelimited(dev, PVIOMMU_NAME ": no list of reserved ranges (error %d), assuming the MSI window\n",
				     nr);
		add_region(head, MSI_WINDOW_START, MSI_WINDOW_SIZE, true);
	} else {
		for (i = 0; i < nr; i++)
			add_region(head, PVIOMMU_ADDR(ranges[i].start_bfn),
				   PVIOMMU_ADDR(ranges[i].nr_frames),
				   ranges[i].flags & XEN_IOMMU_RESERVED_msi);
		kfree(ranges);
	}
	/*
	 * iommu_dma_get_resv_regions() adds ranges of other architectures'
	 * firmware tables only, and is not exported to modules.
	 */
}

/* Devices */

static bool pviommu_capable(struct device *dev, enum iommu_cap cap)
{
#ifdef PVIOMMU_CORE_6_1_COMPAT
	struct pviommu_endpoint *ep = dev_iommu_priv_get(dev);

	/* Newer kernels ask the device's MSI domain. */
	if (cap == IOMMU_CAP_INTR_REMAP)
		return ep->v->irq_domain &&
		       dev_get_msi_domain(dev) == ep->v->irq_domain;
#endif
	return cap == IOMMU_CAP_CACHE_COHERENCY ||
	       cap == IOMMU_CAP_DEFERRED_FLUSH;
}

/* A device in use keeps the identity domain; for others the core decides. */
static int pviommu_def_domain_type(struct device *dev)
{
	struct pviommu_endpoint *ep = dev_iommu_priv_get(dev);

	return ep->in_use ? IOMMU_DOMAIN_IDENTITY : 0;
}

static struct iommu_device *pviommu_probe_device(struct device *dev)
{
	struct pviommu *v = pviommu_instance;
	struct pviommu_endpoint *ep;
	struct pci_dev *pdev;

	if (!v || !dev_is_pci(dev))
		return ERR_PTR(-ENODEV);
	pdev = to_pci_dev(dev);

	/* DMA of the IOMMU itself is not translated. */
	if (pdev == v->pdev)
		return ERR_PTR(-ENODEV);

	/* Before the core asks for its group. */
	pviommu_acs_enable(pdev);

	mutex_lock(&v->rids_lock);
	ep = pviommu_endpoint_find(v, dev);
	if (ep)
		pviommu_apart_end(ep);
	else
		ep = pviommu_endpoint_new(v, pdev, false);
	mutex_unlock(&v->rids_lock);
	if (IS_ERR(ep)) {
		/* Any other error would undo the whole registration. */
		if (PTR_ERR(ep) != -ENODEV)
			dev_err(dev, PVIOMMU_NAME ": left out: error %ld\n",
				PTR_ERR(ep));
		else if (!v->probing_again)
			dev_info(dev, PVIOMMU_NAME ": not behind the IOMMU\n");
		return ERR_PTR(-ENODEV);
	}
	dev_iommu_priv_set(dev, ep);
	pviommu_irqs_add(ep);
#ifndef PVIOMMU_CORE_6_1_COMPAT
	/*
	 * Where each flush of a context costs a doorbell: in lazy mode, one
	 * flush for more unmaps.
	 */
	if (!(v->features & XEN_IOMMU_FEATURE_QUEUE))
		dev->iommu->shadow_on_flush = 1;
#endif
	/*
	 * For the order of suspend, resume and shutdown: the IOMMU is suspended
	 * after all devices, and resumed before them.
	 */
	device_link_add(dev, &v->pdev->dev, DL_FLAG_STATELESS);
	return &v->iommu;
}

static void pviommu_release_device(struct device *dev)
{
	struct pviommu_endpoint *ep = dev_iommu_priv_get(dev);
	struct pviommu *v = ep->v;

	device_link_remove(dev, &v->pdev->dev);
	if (!ep->leaving)
		pviommu_irqs_remove(v, to_pci_dev(dev));
	mutex_lock(&v->rids_lock);
	if (ep->leaving) {
		ep->leaving = false;
		pviommu_apart_begin(ep);
	} else {
		pviommu_endpoint_free(ep);
	}
	mutex_unlock(&v->rids_lock);
}

/* Domains */

/**
 * pviommu_alloc_paging() - a domain that maps what it is told to
 * @dev: a device that it is for, or NULL where the core does not say
 *
 * Returns: the domain, or an error pointer.
 */
struct iommu_domain *pviommu_alloc_paging(struct device *dev)
{
	struct pviommu_endpoint *ep = dev ? dev_iommu_priv_get(dev) : NULL;

	return pviommu_domain_alloc(ep ? ep->v : pviommu_instance);
}

static const struct iommu_domain_ops pviommu_domain_ops = {
	.attach_dev		= pviommu_attach,
	.map_pages		= pviommu_domain_map_pages,
	.unmap_pages		= pviommu_domain_unmap_pages,
	.flush_iotlb_all	= pviommu_domain_flush_iotlb_all,
	.iotlb_sync_map		= pviommu_domain_sync_map,
	.iotlb_sync		= pviommu_domain_iotlb_sync,
	.iova_to_phys		= pviommu_domain_iova_to_phys,
	.free			= pviommu_domain_free,
};

/*
 * The default context is empty from the first modifying operation on, and
 * nothing is ever mapped there.
 */
struct iommu_domain pviommu_blocked_domain = {
	.type = IOMMU_DOMAIN_BLOCKED,
	.ops = &(const struct iommu_domain_ops) {
		.attach_dev = pviommu_attach,
#ifdef PVIOMMU_CORE_6_1_COMPAT
		.free = pviommu_static_free_compat,
#endif
	},
};

/*
 * The core knows this static domain by its type, and neither maps in it nor
 * frees it.
 */
struct iommu_domain pviommu_identity_domain = {
	.type = IOMMU_DOMAIN_IDENTITY,
	.ops = &(const struct iommu_domain_ops) {
		.attach_dev = pviommu_attach,
#ifdef PVIOMMU_CORE_6_1_COMPAT
		.free = pviommu_static_free_compat,
#endif
	},
};

/*
 * The core takes a reference on @owner for each device, from probe_device()
 * to release_device(): the module cannot be unloaded while a device needs it.
 *
 * There is no release_domain: only release_device() knows whether other
 * functions behind the same bridge, or the device itself, stay in use.
 */
const struct iommu_ops pviommu_ops = {
	.capable		= pviommu_capable,
	.probe_device		= pviommu_probe_device,
	.release_device		= pviommu_release_device,
	.device_group		= pci_device_group,
	.get_resv_regions	= pviommu_get_resv_regions,
	.def_domain_type	= pviommu_def_domain_type,
	.default_domain_ops	= &pviommu_domain_ops,
	.owner			= THIS_MODULE,
#ifdef PVIOMMU_CORE_6_1_COMPAT
	.domain_alloc		= pviommu_domain_alloc_compat,
	.pgsize_bitmap		= PVIOMMU_PAGE_SIZES,
	.probe_finalize		= pviommu_probe_finalize_compat,
#else
	.domain_alloc_paging	= pviommu_alloc_paging,
	.identity_domain	= &pviommu_identity_domain,
	.blocked_domain		= &pviommu_blocked_domain,
#endif
};
