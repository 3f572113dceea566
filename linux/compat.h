/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What differs between the kernels that the driver is for
 *
 * The rest of the driver is written for the newest one that it was built with.
 * Here is what older ones do otherwise, and in compat-ops.h what concerns the
 * tables of functions; pviommu.h includes this one. Both headers, all that is named *_compat, and what
 * depends on PVIOMMU_CORE_6_1_COMPAT are not in the series for Linux that
 * scripts/make-series writes: it checks that nothing else depends on a version.
 *
 * Kernels between 6.1 and 6.12 are not supported: each changed this part of
 * Linux, and Debian has none.
 */

#ifndef XEN_PVIOMMU_COMPAT_H
#define XEN_PVIOMMU_COMPAT_H

#include <linux/dma-map-ops.h>
#include <linux/iommu.h>
#include <linux/irq.h>
#include <linux/module.h>
#include <linux/pci.h>
#include <linux/platform_device.h>
#include <linux/slab.h>
#include <linux/version.h>

#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 12, 0)
#define PVIOMMU_CORE_6_1_COMPAT
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 1, 0) || \
	LINUX_VERSION_CODE >= KERNEL_VERSION(6, 2, 0)
#error "xen-pviommu is for Linux 6.1, and for 6.12 and newer"
#endif
#endif

/* New in 7.0. */
#ifndef kzalloc_obj
#define kzalloc_obj(object)	kzalloc(sizeof(object), GFP_KERNEL)
#endif

#ifdef PVIOMMU_CORE_6_1_COMPAT

/* Every IOMMU can do it. */
#define IOMMU_CAP_DEFERRED_FLUSH ((enum iommu_cap)-1)

/*
 * The core has no function for modules that takes a device from it, but for the
 * last step, which does not undo the others.
 */
static inline void pviommu_leave_core_compat(struct device *dev)
{
	struct dev_iommu *param = dev->iommu;

	iommu_device_unlink(param->iommu_dev, dev);
	param->iommu_dev->ops->release_device(dev);
	iommu_group_remove_device(dev);
	set_dma_ops(dev, NULL);
	iommu_fwspec_free(dev);
	dev->iommu = NULL;
	kfree(param);
	module_put(THIS_MODULE);
}

#define iommu_group_remove_device pviommu_leave_core_compat

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

/* The identity context maps so many frames now, where it has to map any. */
static inline void pviommu_identity_frames_compat(struct pviommu *v, u64 nr)
{
	atomic64_add(nr - v->identity_frames_compat, &v->frames_compat);
	v->identity_frames_compat = nr;
}

#else

static inline void pviommu_unregister_compat(const struct iommu_ops *ops)
{
}

static inline void pviommu_identity_frames_compat(struct pviommu *v, u64 nr)
{
}

#endif

#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 14, 0)

/*
 * An interrupt can be moved while it is not handled, as that changes nothing
 * in the device. Newer kernels think so unless they are told otherwise.
 */
static inline void pviommu_irq_move_anytime_compat(unsigned int virq)
{
	irq_set_status_flags(virq, IRQ_MOVE_PCNTXT);
}

#else

static inline void pviommu_irq_move_anytime_compat(unsigned int virq)
{
}

#endif

#endif /* XEN_PVIOMMU_COMPAT_H */
