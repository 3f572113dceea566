/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The MSI domain of devices, for kernels that do not make one for each of them;
 * for irqs.c only
 *
 * See compat.h. There all devices whose interrupts are remapped share one PCI
 * MSI domain, whose parent is that of irqs.c.
 */

#ifndef XEN_PVIOMMU_COMPAT_IRQS_H
#define XEN_PVIOMMU_COMPAT_IRQS_H

#include <linux/irqdomain.h>
#include <linux/msi.h>

#include <asm/msi.h>

#include "pviommu.h"

#ifdef PVIOMMU_CORE_6_1_COMPAT

/* The core's own is not for modules. */
static inline bool pviommu_device_is_bound_compat(struct device *dev)
{
	return dev->links.status == DL_DEV_DRIVER_BOUND;
}

#define device_is_bound pviommu_device_is_bound_compat

/* What is missing in both is the core's. */

static struct irq_chip pviommu_msi_chip_compat = {
	.name		= "PVIOMMU-PCI-MSI",
	.irq_mask	= pci_msi_mask_irq,
	.irq_unmask	= pci_msi_unmask_irq,
	.irq_ack	= irq_chip_ack_parent,
	.irq_retrigger	= irq_chip_retrigger_hierarchy,
	.flags		= IRQCHIP_SKIP_SET_WAKE | IRQCHIP_AFFINITY_PRE_STARTUP,
};

static struct msi_domain_ops pviommu_msi_ops_compat = {
	.msi_prepare	= pci_msi_prepare,
};

static struct msi_domain_info pviommu_msi_info_compat = {
	.flags		= MSI_FLAG_USE_DEF_DOM_OPS | MSI_FLAG_USE_DEF_CHIP_OPS |
			  MSI_FLAG_MULTI_PCI_MSI | MSI_FLAG_PCI_MSIX,
	.ops		= &pviommu_msi_ops_compat,
	.chip		= &pviommu_msi_chip_compat,
	.handler	= handle_edge_irq,
	.handler_name	= "edge",
};

/* The domain for devices, or NULL and parent is gone. */
static inline struct irq_domain *
pviommu_msi_domain_compat(struct fwnode_handle *fwnode,
			  struct irq_domain *parent)
{
	struct irq_domain *domain;

	domain = pci_msi_create_irq_domain(fwnode, &pviommu_msi_info_compat,
					   parent);
	if (!domain)
		irq_domain_remove(parent);
	return domain;
}

static inline void pviommu_irq_domain_remove_compat(struct irq_domain *domain)
{
	struct irq_domain *parent = domain->parent;

	irq_domain_remove(domain);
	irq_domain_remove(parent);
}

#define irq_domain_remove pviommu_irq_domain_remove_compat

#endif

#endif /* XEN_PVIOMMU_COMPAT_IRQS_H */
