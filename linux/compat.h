/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What differs between the kernels that the driver is for
 *
 * The rest of the driver is written for the newest one that it was built with;
 * here is what 6.12, and what 6.1, does otherwise. Kernels between those two
 * are not supported: each changed this part of Linux, and Debian has none.
 */

#ifndef XEN_PVIOMMU_COMPAT_H
#define XEN_PVIOMMU_COMPAT_H

#include <linux/dma-map-ops.h>
#include <linux/iommu.h>
#include <linux/module.h>
#include <linux/pci.h>
#include <linux/platform_device.h>
#include <linux/slab.h>
#include <linux/version.h>

#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 12, 0)

#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 19, 0)

#define PVIOMMU_ATTACH_COMPAT					\
	.attach_dev = pviommu_attach,

#else

/* The core does not say which domain the device was in. */
static inline int pviommu_attach_compat(struct iommu_domain *domain,
					struct device *dev)
{
	return pviommu_attach(domain, dev, NULL);
}

#define PVIOMMU_ATTACH_COMPAT					\
	.attach_dev = pviommu_attach_compat,

#endif

/* A map that was queued can still fail, in iotlb_sync_map(). */
#define PVIOMMU_SYNC_MAP_REPORTS 1

#define PVIOMMU_DOMAIN_OPS_COMPAT				\
	.iotlb_sync_map = pviommu_domain_sync_map,

/* The core knows the static domains, and what a paging domain is. */
#define PVIOMMU_OPS_COMPAT					\
	.domain_alloc_paging = pviommu_alloc_paging,		\
	.identity_domain = &pviommu_identity_domain,		\
	.blocked_domain = &pviommu_blocked_domain,

#define PVIOMMU_STATIC_OPS_COMPAT

/*
 * Whether a device has another IOMMU. There may be several kinds at once, each
 * with devices of its own.
 */
static inline bool pviommu_another_compat(void)
{
	struct pci_dev *pdev = NULL;

	for_each_pci_dev(pdev) {
		/* VFIO without an IOMMU makes up a group, and no more. */
		if (pdev->dev.iommu && device_iommu_mapped(&pdev->dev)) {
			pci_dev_put(pdev);
			return true;
		}
	}
	return false;
}

/*
 * Where each flush of a context costs a doorbell: in lazy mode, one flush for
 * more unmaps.
 */
static inline void pviommu_flush_seldom_compat(struct device *dev)
{
	dev->iommu->shadow_on_flush = 1;
}

/* The core has the device no more. */
static inline void pviommu_leave_core_compat(struct device *dev)
{
	iommu_group_remove_device(dev);
}

static inline void pviommu_unregister_compat(const struct iommu_ops *ops)
{
}

#elif LINUX_VERSION_CODE >= KERNEL_VERSION(6, 1, 0) && \
	LINUX_VERSION_CODE < KERNEL_VERSION(6, 2, 0)

static inline int pviommu_attach_compat(struct iommu_domain *domain,
					struct device *dev)
{
	return pviommu_attach(domain, dev, NULL);
}

#define PVIOMMU_ATTACH_COMPAT					\
	.attach_dev = pviommu_attach_compat,

/* iotlb_sync_map() cannot fail: errors have to come out of map_pages(). */
#define PVIOMMU_SYNC_MAP_REPORTS 0

/* Every IOMMU can do it. */
#define IOMMU_CAP_DEFERRED_FLUSH ((enum iommu_cap)-1)

static inline void pviommu_sync_map_compat(struct iommu_domain *domain,
					   unsigned long iova, size_t size)
{
	pviommu_domain_sync_map(domain, iova, size);
}

#define PVIOMMU_DOMAIN_OPS_COMPAT				\
	.iotlb_sync_map = pviommu_sync_map_compat,

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

#define PVIOMMU_OPS_COMPAT					\
	.domain_alloc = pviommu_domain_alloc_compat,		\
	.pgsize_bitmap = PVIOMMU_PAGE_SIZES,			\
	.probe_finalize = pviommu_probe_finalize_compat,

/* There is one kind of IOMMU at a time. */
static inline bool pviommu_another_compat(void)
{
	return iommu_present(&pci_bus_type);
}

/* How much waits for a flush is not for drivers to say. */
static inline void pviommu_flush_seldom_compat(struct device *dev)
{
}

/* The core frees static domains like any other. */
static inline void pviommu_static_free_compat(struct iommu_domain *domain)
{
}

#define PVIOMMU_STATIC_OPS_COMPAT				\
	.free = pviommu_static_free_compat,

/*
 * The core has no function for modules that takes a device from it, but for the
 * last step, which does not undo the others.
 */
static inline void pviommu_leave_core_compat(struct device *dev)
{
	struct dev_iommu *param = dev->iommu;

	iommu_device_unlink(param->iommu_dev, dev);
	pviommu_ops.release_device(dev);
	iommu_group_remove_device(dev);
	set_dma_ops(dev, NULL);
	iommu_fwspec_free(dev);
	dev->iommu = NULL;
	kfree(param);
	module_put(THIS_MODULE);
}

/*
 * iommu_device_register() leaves the ops with the buses, and nothing takes
 * them back: a device that comes after the module went would call into it.
 */
static inline void pviommu_unregister_compat(const struct iommu_ops *ops)
{
	if (pci_bus_type.iommu_ops == ops)
		pci_bus_type.iommu_ops = NULL;
	if (platform_bus_type.iommu_ops == ops)
		platform_bus_type.iommu_ops = NULL;
}

#else
#error "xen-pviommu is for Linux 6.1, and for 6.12 and newer"
#endif

#endif /* XEN_PVIOMMU_COMPAT_H */
