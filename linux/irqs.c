// SPDX-License-Identifier: GPL-2.0
/*
 * Interrupts, remapped: a device's messages name entries of the IOMMU
 *
 * An irq domain between the local APICs' and that of each device. The latter
 * takes address and data of a message from here, and they do not change any
 * more: what changes is the entry.
 *
 * A device whose driver was bound before is direct: its messages are those of
 * the local APICs, until it comes again without a driver. The IOMMU itself is
 * one of these.
 */

#include <linux/device.h>
#include <linux/errno.h>
#include <linux/io-64-nonatomic-lo-hi.h>
#include <linux/irq.h>
#include <linux/irqdomain.h>
#include <linux/module.h>
#include <linux/msi.h>
#include <linux/pci.h>
#include <linux/slab.h>

#include <asm/hw_irq.h>
#include <asm/irqdomain.h>

#include "endpoint.h"
#include "compat-irqs.h"

static bool use_irqs = true;
module_param_named(interrupts, use_irqs, bool, 0444);
MODULE_PARM_DESC(interrupts, "remap interrupts of devices, where the IOMMU can (default: on)");

static u32 dev_sbdf(struct pci_dev *pdev)
{
	return (u32)pci_domain_nr(pdev->bus) << 16 | pci_dev_id(pdev);
}

/* Of those allocated together, which one it is */
static unsigned int irq_index(const struct irq_data *data)
{
	return (unsigned long)data->chip_data;
}

/*
 * One operation, with interrupts off. For set_irq only: the caller cannot
 * sleep, and may hold an interrupt's lock.
 */
static int irq_run(struct pviommu *v, const struct xen_iommu_op *op)
{
	unsigned long flags;
	int error;

	raw_spin_lock_irqsave(&v->irq_lock, flags);
	*v->irq_op = *op;
	v->irq_op->status = PVIOMMU_NOT_RUN;
	error = pviommu_run(v, v->irq_block, v->irq_op, 1);
	raw_spin_unlock_irqrestore(&v->irq_lock, flags);
	return error;
}

/* Have its entry say what the local APICs' domain has chosen. */
static int irq_update(struct irq_data *data)
{
	struct irq_data *parent = data->parent_data;
	struct pviommu *v = data->domain->host_data;
	struct xen_iommu_op op = { .op = XEN_IOMMUOP_set_irq };
	struct msi_msg msg = {};

	parent->chip->irq_compose_msi_msg(parent, &msg);
	if (msg.arch_addr_lo.dest_mode_logical)
		op.flags |= XEN_IOMMUOP_set_irq_logical;
	op.u.set_irq.handle = data->hwirq;
	op.u.set_irq.dest = msg.arch_addr_lo.destid_0_7 |
			    msg.arch_addr_lo.virt_destid_8_14 << 8;
	op.u.set_irq.vector = msg.arch_data.vector;
	op.u.set_irq.delivery = msg.arch_data.delivery_mode;
	return irq_run(v, &op);
}

static int pviommu_irq_set_affinity(struct irq_data *data,
				    const struct cpumask *mask, bool force)
{
	struct irq_data *parent = data->parent_data;
	int ret, error;

	ret = parent->chip->irq_set_affinity(parent, mask, force);
	if (ret < 0 || ret == IRQ_SET_MASK_OK_DONE)
		return ret;
	error = irq_update(data);
	/* The device's message stays as it is. */
	return error ?: IRQ_SET_MASK_OK_DONE;
}

static void pviommu_irq_compose_msg(struct irq_data *data, struct msi_msg *msg)
{
	unsigned int index = irq_index(data);

	*msg = (struct msi_msg) {
		.address_lo = XEN_IOMMU_IRQ_ADDR((u32)data->hwirq - index),
		.data = XEN_IOMMU_IRQ_DATA(index),
	};
}

static struct irq_chip pviommu_irq_chip = {
	.name			= "PVIOMMU",
	/* The local APICs' domain also ends a move of the interrupt there. */
	.irq_ack		= irq_chip_ack_parent,
	.irq_set_affinity	= pviommu_irq_set_affinity,
	.irq_compose_msi_msg	= pviommu_irq_compose_msg,
};

static int irqs_alloc_entries(struct pviommu *v, struct pci_dev *pdev,
			      unsigned int nr, u32 *handle)
{
	struct xen_iommu_op op = {
		.op = XEN_IOMMUOP_alloc_irqs,
		.u.irqs = {
			.sbdf = dev_sbdf(pdev),
			.nr = nr,
		},
	};
	int error = pviommu_call(v, &op);

	*handle = op.u.irqs.handle;
	if (error)
		dev_err_ratelimited(&pdev->dev, PVIOMMU_NAME ": no %u interrupts: error %d\n",
				    nr, error);
	return error;
}

static void irqs_free_entries(struct pviommu *v, u32 handle)
{
	struct xen_iommu_op op = {
		.op = XEN_IOMMUOP_free_irqs,
		.u.irqs.handle = handle,
	};
	int error = pviommu_call(v, &op);

	/* With a device that was unplugged its entries have gone. */
	if (error && error != -ENOENT)
		dev_err_ratelimited(&v->pdev->dev, "interrupt %u cannot be freed: error %d\n",
				    handle, error);
}

static int pviommu_irqs_alloc(struct irq_domain *domain, unsigned int virq,
			      unsigned int nr, void *arg)
{
	struct irq_alloc_info *info = arg;
	struct pviommu *v = domain->host_data;
	unsigned int i;
	u32 handle;
	int error;

	if (info->type != X86_IRQ_ALLOC_TYPE_PCI_MSI &&
	    info->type != X86_IRQ_ALLOC_TYPE_PCI_MSIX)
		return -EINVAL;
	/* The vectors of several need not follow each other. */
	info->flags = 0;
	error = irq_domain_alloc_irqs_parent(domain, virq, nr, arg);
	if (error < 0)
		return error;
	error = irqs_alloc_entries(v, to_pci_dev(msi_desc_to_dev(info->desc)),
				   nr, &handle);
	if (error) {
		irq_domain_free_irqs_parent(domain, virq, nr);
		return error;
	}
	for (i = 0; i < nr; i++) {
		irq_domain_set_hwirq_and_chip(domain, virq + i, handle + i,
					      &pviommu_irq_chip,
					      (void *)(unsigned long)i);
		pviommu_irq_move_anytime_compat(virq + i);
	}
	return 0;
}

static void pviommu_irqs_free(struct irq_domain *domain, unsigned int virq,
			      unsigned int nr)
{
	struct irq_data *data = irq_domain_get_irq_data(domain, virq);
	struct pviommu *v = domain->host_data;

	/* They come together, as they were allocated. */
	if (data && !irq_index(data))
		irqs_free_entries(v, data->hwirq);
	irq_domain_free_irqs_common(domain, virq, nr);
}

static int pviommu_irqs_activate(struct irq_domain *domain,
				 struct irq_data *data, bool reserve)
{
	return irq_update(data);
}

static void pviommu_irqs_deactivate(struct irq_domain *domain,
				    struct irq_data *data)
{
	struct xen_iommu_op op = {
		.op = XEN_IOMMUOP_set_irq,
		.flags = XEN_IOMMUOP_set_irq_masked,
		.u.set_irq.handle = data->hwirq,
	};

	irq_run(domain->host_data, &op);
}

static const struct irq_domain_ops pviommu_irq_ops = {
	.alloc		= pviommu_irqs_alloc,
	.free		= pviommu_irqs_free,
	.activate	= pviommu_irqs_activate,
	.deactivate	= pviommu_irqs_deactivate,
};

#ifndef PVIOMMU_CORE_6_1_COMPAT
/* Of a device's domain; there is nothing to do in ours, for each interrupt. */
static void pviommu_irq_ack_device(struct irq_data *data)
{
	struct irq_data *apic = data->parent_data->parent_data;

	apic->chip->irq_ack(apic);
}

/* For the domain of a device, which is above ours. */
static bool pviommu_irqs_init_info(struct device *dev,
				   struct irq_domain *domain,
				   struct irq_domain *real_parent,
				   struct msi_domain_info *info)
{
	const struct msi_parent_ops *ops = x86_vector_domain->msi_parent_ops;

	if (!ops->init_dev_msi_info(dev, x86_vector_domain, real_parent, info))
		return false;
	info->chip->irq_ack = pviommu_irq_ack_device;
	return true;
}

static const struct msi_parent_ops pviommu_msi_ops = {
	.supported_flags	= X86_VECTOR_MSI_FLAGS_SUPPORTED |
				  MSI_FLAG_MULTI_PCI_MSI,
	.prefix			= "PVIOMMU-",
	.init_dev_msi_info	= pviommu_irqs_init_info,
};
#endif

static int irqs_direct(struct pviommu *v, struct pci_dev *pdev, bool on)
{
	struct xen_iommu_op op = {
		.op = XEN_IOMMUOP_direct_irqs,
		.flags = on ? XEN_IOMMUOP_direct_irqs_on : 0,
		.u.direct_irqs.sbdf = dev_sbdf(pdev),
	};

	return pviommu_call(v, &op);
}

/* Messages of the local APICs' domain may be in the device. */
static bool irqs_in_use(struct pci_dev *pdev)
{
	return pdev->dev.driver || pdev->dev.msi.data;
}

/* To the IOMMU, what is behind a bridge to PCI is one function. */
static bool irqs_are_one(const struct pviommu_endpoint *a,
			 const struct pviommu_endpoint *b)
{
	unsigned int i, j;

	for (i = 0; i < a->nr_rids; i++)
		for (j = 0; j < b->nr_rids; j++)
			if (a->rids[i] == b->rids[j])
				return true;
	return false;
}

/* Whether another device of the same function has interrupts as before. */
static bool irqs_mate_is_direct(const struct pviommu_endpoint *ep)
{
	const struct pviommu_endpoint *mate;

	list_for_each_entry(mate, &ep->v->endpoints, list)
		if (mate != ep && irqs_are_one(mate, ep) &&
		    dev_get_msi_domain(mate->dev) != ep->v->irq_domain &&
		    irqs_in_use(to_pci_dev(mate->dev)))
			return true;
	return false;
}

/**
 * pviommu_irqs_add() - a device's interrupts are to be remapped, if they can
 * @ep: the device
 *
 * Not while it has interrupts that are direct, or another device has that is
 * the same function to the IOMMU.
 *
 * Context: Process context; takes rids_lock.
 */
void pviommu_irqs_add(struct pviommu_endpoint *ep)
{
	struct pviommu_endpoint *mate;
	struct pviommu *v = ep->v;
	struct device *dev = ep->dev;

	if (!v->irq_domain || dev_get_msi_domain(dev) == v->irq_domain)
		return;

	mutex_lock(&v->rids_lock);
	/* A driver that is about to be bound has none yet. */
	if (ep->in_use || device_is_bound(dev) || dev->msi.data ||
	    dev_get_msi_domain(dev) != v->irq_direct ||
	    irqs_mate_is_direct(ep)) {
		if (irqs_direct(v, to_pci_dev(dev), true))
			dev_err(dev, PVIOMMU_NAME ": its interrupts are lost\n");
	} else if (!irqs_direct(v, to_pci_dev(dev), false)) {
		list_for_each_entry(mate, &v->endpoints, list)
			if (irqs_are_one(mate, ep) &&
			    dev_get_msi_domain(mate->dev) == v->irq_direct)
				dev_set_msi_domain(mate->dev, v->irq_domain);
	}
	mutex_unlock(&v->rids_lock);
}

/**
 * pviommu_irqs_remove() - a device is not behind the IOMMU any more
 * @v: the IOMMU
 * @pdev: the device, which has no interrupts allocated
 */
void pviommu_irqs_remove(struct pviommu *v, struct pci_dev *pdev)
{
	if (v->irq_domain && dev_get_msi_domain(&pdev->dev) == v->irq_domain)
		dev_set_msi_domain(&pdev->dev, v->irq_direct);
}

/* Under Xen, which delivers events, it is another. */
static bool irqs_is_local_apics(const struct irq_domain *domain)
{
#ifdef PVIOMMU_CORE_6_1_COMPAT
	domain = domain ? domain->parent : NULL;
#endif
	return domain == x86_vector_domain;
}

static int irqs_make_domain(struct pviommu *v)
{
	struct irq_domain *domain;

	v->irq_block = pviommu_block_own(v);
	v->irq_op = kzalloc_obj(*v->irq_op);
	v->irq_fwnode = irq_domain_alloc_named_fwnode(PVIOMMU_NAME);
	if (!v->irq_block || !v->irq_op || !v->irq_fwnode)
		return -ENOMEM;
	domain = irq_domain_create_hierarchy(x86_vector_domain, 0, 0,
					     v->irq_fwnode, &pviommu_irq_ops,
					     v);
	if (!domain)
		return -ENOMEM;
#ifdef PVIOMMU_CORE_6_1_COMPAT
	v->irq_domain = pviommu_msi_domain_compat(v->irq_fwnode, domain);
#else
	/* The x86 code asks what kind of remapping it is: of the two, either. */
	irq_domain_update_bus_token(domain, DOMAIN_BUS_AMDVI);
	domain->msi_parent_ops = &pviommu_msi_ops;
	domain->flags |= IRQ_DOMAIN_FLAG_MSI_PARENT |
			 IRQ_DOMAIN_FLAG_ISOLATED_MSI;
	v->irq_domain = domain;
#endif
	return v->irq_domain ? 0 : -ENOMEM;
}

/* Devices that have interrupts already go on with them. */
static int irqs_keep(struct pviommu *v)
{
	struct pci_dev *pdev = NULL;
	int error;

	for_each_pci_dev(pdev) {
		if (!irqs_in_use(pdev))
			continue;
		/* -ENODEV: it is not behind the IOMMU. */
		error = irqs_direct(v, pdev, true);
		if (error && error != -ENODEV) {
			pci_dev_put(pdev);
			return error;
		}
	}
	return 0;
}

static void irqs_accept(struct pviommu *v, bool on)
{
	void __iomem *reg = v->regs + XEN_PVIOMMU_REG_ACCEPTED;
	u64 features = readq(reg) & ~XEN_IOMMU_FEATURE_INTERRUPTS;

	v->features &= ~XEN_IOMMU_FEATURE_INTERRUPTS;
	if (on) {
		features |= XEN_IOMMU_FEATURE_INTERRUPTS;
		v->features |= XEN_IOMMU_FEATURE_INTERRUPTS;
	}
	writeq(features, reg);
}

/**
 * pviommu_irqs_stop() - interrupts are not remapped any more
 * @v: the IOMMU; no device has any that are
 */
void pviommu_irqs_stop(struct pviommu *v)
{
	irqs_accept(v, false);
	if (v->irq_domain)
		irq_domain_remove(v->irq_domain);
	if (v->irq_fwnode)
		irq_domain_free_fwnode(v->irq_fwnode);
	pviommu_block_disown(v, v->irq_block);
	kfree(v->irq_op);
	v->irq_domain = NULL;
	v->irq_fwnode = NULL;
	v->irq_block = NULL;
	v->irq_op = NULL;
}

/**
 * pviommu_irqs_leave() - the next kernel does not know that they are remapped
 * @v: the IOMMU; all devices have been shut down
 */
void pviommu_irqs_leave(struct pviommu *v)
{
	if (v->features & XEN_IOMMU_FEATURE_INTERRUPTS)
		irqs_accept(v, false);
}

/**
 * pviommu_irqs_start() - have interrupts remapped, if the IOMMU can
 * @v: the IOMMU, before it is registered
 *
 * Unless the user does not want it. Without that it works as well: VFIO then
 * says that interrupts are unsafe.
 *
 * Context: Process context; the device's bind_lock is held until the IOMMU is
 *	registered, so that no driver is bound in between.
 */
void pviommu_irqs_start(struct pviommu *v)
{
	struct xen_iommu_op op = {
		.op = XEN_IOMMUOP_enable,
		.flags = XEN_IOMMUOP_enable_irqs,
	};
	struct device *dev = &v->pdev->dev;
	u64 features = readq(v->regs + XEN_PVIOMMU_REG_FEATURES);
	int error;

	lockdep_assert_held(&v->bind_lock);

	raw_spin_lock_init(&v->irq_lock);
	v->irq_direct = dev_get_msi_domain(dev);
	if (!use_irqs || !(features & XEN_IOMMU_FEATURE_INTERRUPTS) ||
	    !irqs_is_local_apics(v->irq_direct))
		return;
	irqs_accept(v, true);
	error = irqs_make_domain(v);
	if (!error)
		error = irqs_keep(v);
	if (!error)
		error = pviommu_call(v, &op);
	if (error) {
		dev_warn(dev, "interrupts cannot be remapped: error %d\n",
			 error);
		pviommu_irqs_stop(v);
		return;
	}
	dev_info(dev, "interrupts are remapped\n");
}
