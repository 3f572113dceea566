// SPDX-License-Identifier: GPL-2.0
/*
 * The PCI function: probe, negotiation, power, removal
 */

#include <linux/bitmap.h>
#include <linux/debugfs.h>
#include <linux/errno.h>
#include <linux/io-64-nonatomic-lo-hi.h>
#include <linux/iommu.h>
#include <linux/module.h>
#include <linux/notifier.h>
#include <linux/pci.h>
#include <linux/slab.h>
#include <linux/suspend.h>

#include "pviommu.h"

#define FEATURES_NEEDED	(XEN_IOMMU_FEATURE_RANGES | \
			 XEN_IOMMU_FEATURE_CONTEXTS | \
			 XEN_IOMMU_FEATURE_LOOKUP)

static bool use_queues = true;
module_param_named(queue, use_queues, bool, 0444);
MODULE_PARM_DESC(queue, "map and unmap without a call, where the device can (default: on)");

#define OPS_NEEDED	(BIT(XEN_IOMMUOP_map) | \
			 BIT(XEN_IOMMUOP_unmap) | \
			 BIT(XEN_IOMMUOP_flush) | \
			 BIT(XEN_IOMMUOP_lookup_bfn) | \
			 BIT(XEN_IOMMUOP_alloc_context) | \
			 BIT(XEN_IOMMUOP_free_context) | \
			 BIT(XEN_IOMMUOP_attach_device) | \
			 BIT(XEN_IOMMUOP_enable))

#define BFN_BITS_MAX	(64 - XEN_IOMMU_PAGE_SHIFT)

/* Check version and features, by the registers, and accept features. */
static int pviommu_negotiate(struct pviommu *v, bool *used_before)
{
	struct device *dev = &v->pdev->dev;
	u64 features, wanted;
	u32 version, state;

	version = readl(v->regs + XEN_PVIOMMU_REG_VERSION);
	if (version != XEN_PVIOMMU_VERSION) {
		dev_err(dev, "the device has version %u of the interface, this driver is for version %u\n",
			version, XEN_PVIOMMU_VERSION);
		return -ENODEV;
	}

	state = readl(v->regs + XEN_PVIOMMU_REG_STATE);
	if (!(state & XEN_IOMMU_STATE_control)) {
		dev_err(dev, "the host does not let this guest control the IOMMU\n");
		return -EACCES;
	}

	features = readq(v->regs + XEN_PVIOMMU_REG_FEATURES);
	if (FEATURES_NEEDED & ~features) {
		dev_err(dev, "the device lacks features %#llx that this driver needs\n",
			FEATURES_NEEDED & ~features);
		return -ENODEV;
	}

	/* A driver of the interface of 2018 accepts no feature. */
	*used_before = readq(v->regs + XEN_PVIOMMU_REG_ACCEPTED) ||
		       !(state & XEN_IOMMU_STATE_identity);
	/* Also with queue=off: an earlier kernel's queues have to be removed. */
	wanted = FEATURES_NEEDED | (features & (XEN_IOMMU_FEATURE_QUEUE |
						XEN_IOMMU_FEATURE_IDENTITY |
						XEN_IOMMU_FEATURE_MMIO));
	writeq(wanted, v->regs + XEN_PVIOMMU_REG_ACCEPTED);
	v->features = readq(v->regs + XEN_PVIOMMU_REG_ACCEPTED);
	if (v->features != wanted) {
		dev_err(dev, "features %#llx were accepted, and the device says %#llx\n",
			wanted, v->features);
		return -ENODEV;
	}
	return 0;
}

static unsigned int pviommu_count_functions(void)
{
	struct pci_dev *pdev = NULL;
	unsigned int n = 0;

	for_each_pci_dev(pdev)
		n++;
	return n;
}

/*
 * Check operations and limits, by query_caps.
 *
 * Each group of devices needs a context. If there were too few after
 * translation is enabled, some devices could do no DMA. Now the machine can go
 * on without an IOMMU.
 */
static int pviommu_query_caps(struct pviommu *v)
{
	struct xen_iommu_op op = { .op = XEN_IOMMUOP_query_caps };
	struct device *dev = &v->pdev->dev;
	int error;

	error = pviommu_call(v, &op);
	if (error) {
		dev_err(dev, "the device does not answer: error %d\n", error);
		return error;
	}
	if (OPS_NEEDED & ~op.u.query_caps.ops) {
		dev_err(dev, "the device lacks operations %#lx that this driver needs\n",
			OPS_NEEDED & ~op.u.query_caps.ops);
		return -ENODEV;
	}
	v->max_contexts = op.u.query_caps.max_contexts;
	if (v->max_contexts <= pviommu_count_functions()) {
		dev_err(dev, "the device has %u contexts, which is too few for %u PCI functions\n",
			v->max_contexts, pviommu_count_functions());
		return -ENOSPC;
	}
	v->max_mappings = op.u.query_caps.max_mappings;
	v->contexts = bitmap_zalloc(v->max_contexts, GFP_KERNEL);
	if (!v->contexts)
		return -ENOMEM;
	v->bfn_bits = op.u.query_caps.bfn_bits;
	if (!v->bfn_bits || v->bfn_bits > BFN_BITS_MAX) {
		dev_err(dev, "the device says a BFN has %u bits\n", v->bfn_bits);
		return -ENODEV;
	}
	return 0;
}

/* Enable translation: devices reach only what their contexts map. */
static int pviommu_enable(struct pviommu *v)
{
	struct xen_iommu_op op = { .op = XEN_IOMMUOP_enable };
	int error = pviommu_call(v, &op);

	if (error)
		dev_err(&v->pdev->dev, "cannot be enabled: error %d\n", error);
	return error;
}

/*
 * Power
 *
 * A sleep state that resets the machine removes all mappings, and there is no
 * copy to restore them from. When Xen saves or migrates a guest, mappings,
 * queues and the fault ring stay. But the binding of an MSI to a Xen event is
 * removed, and the driver has to request the interrupt again.
 */

static int pviommu_pm_prepare(struct device *dev)
{
	if (pm_suspend_target_state != PM_SUSPEND_MEM)
		return 0;
	dev_err(dev, "suspend to RAM is not supported: it would lose the mappings of all devices\n");
	return -EOPNOTSUPP;
}

static int pviommu_pm_freeze(struct device *dev)
{
	pviommu_faults_ignore(dev_get_drvdata(dev));
	return 0;
}

static int pviommu_pm_restore(struct device *dev)
{
	pviommu_faults_listen(dev_get_drvdata(dev));
	return 0;
}

static const struct dev_pm_ops pviommu_pm_ops = {
	.prepare = pviommu_pm_prepare,
	.freeze = pviommu_pm_freeze,
	.thaw = pviommu_pm_restore,
	.restore = pviommu_pm_restore,
};

static int pviommu_pm_notify(struct notifier_block *nb, unsigned long action,
			     void *data)
{
	struct pviommu *v = container_of(nb, struct pviommu, pm_nb);

	if (action != PM_HIBERNATION_PREPARE)
		return NOTIFY_DONE;
	dev_err(&v->pdev->dev,
		"hibernation is not supported: it would lose the mappings of all devices\n");
	return notifier_from_errno(-EOPNOTSUPP);
}

/* Registration with the core */

static void pviommu_unregister(struct pviommu *v)
{
	if (v->named.ops)
		iommu_device_unregister(&v->named);
	iommu_device_unregister(&v->iommu);
	pviommu_unregister_compat(&pviommu_ops);
}

/*
 * If a firmware table (VIOT) names the IOMMU of a device, the core looks for an
 * IOMMU with that firmware node, and defers the device's driver until there is
 * one. Otherwise the core looks for an IOMMU without a node. A function with a
 * node need not be named by a VIOT, as ACPI gives nodes to slots as well. So
 * the IOMMU is registered both ways.
 *
 * The first registration has to find all devices, as the default domain of a
 * group is chosen once: it is the identity domain if a device of the group is
 * in use. The one without a node finds devices whose driver did not wait, and
 * those whose driver is deferred.
 */
static int pviommu_register(struct pviommu *v)
{
	struct device *dev = &v->pdev->dev;
	int error;

	error = iommu_device_register(&v->iommu, &pviommu_ops, NULL);
	if (error) {
		pviommu_unregister_compat(&pviommu_ops);
		return error;
	}
	if (!dev_fwnode(dev))
		return 0;
	error = iommu_device_register(&v->named, &pviommu_ops, dev);
	if (error) {
		v->named.ops = NULL;
		pviommu_unregister(v);
	}
	return error;
}

/* The PCI driver */

/*
 * Whether a device has another IOMMU. There may be several kinds at once, each
 * with devices of its own.
 */
static bool pviommu_another(void)
{
	struct pci_dev *pdev = NULL;

#ifdef PVIOMMU_CORE_6_1_COMPAT
	/* There is one kind of IOMMU at a time. */
	if (iommu_present(&pci_bus_type))
		return true;
#endif
	for_each_pci_dev(pdev) {
		/* VFIO without an IOMMU makes up a group, and no more. */
		if (pdev->dev.iommu && device_iommu_mapped(&pdev->dev)) {
			pci_dev_put(pdev);
			return true;
		}
	}
	return false;
}

static int pviommu_map_registers(struct pviommu *v)
{
	struct pci_dev *pdev = v->pdev;
	int error;

	error = pci_enable_device_mem(pdev);
	if (error)
		return error;
	error = pci_request_selected_regions(pdev, BIT(XEN_PVIOMMU_BAR),
					     PVIOMMU_NAME);
	if (error)
		goto err_disable;
	if (pci_resource_len(pdev, XEN_PVIOMMU_BAR) < XEN_PVIOMMU_BAR_SIZE) {
		dev_err(&pdev->dev, "BAR %d is too small\n", XEN_PVIOMMU_BAR);
		error = -ENODEV;
		goto err_release;
	}
	v->regs = pci_iomap(pdev, XEN_PVIOMMU_BAR, XEN_PVIOMMU_BAR_SIZE);
	if (!v->regs) {
		error = -ENOMEM;
		goto err_release;
	}
	pci_set_master(pdev);
	return 0;

err_release:
	pci_release_selected_regions(pdev, BIT(XEN_PVIOMMU_BAR));
err_disable:
	pci_disable_device(pdev);
	return error;
}

static void pviommu_unmap_registers(struct pviommu *v)
{
	pci_clear_master(v->pdev);
	pci_iounmap(v->pdev, v->regs);
	pci_release_selected_regions(v->pdev, BIT(XEN_PVIOMMU_BAR));
	pci_disable_device(v->pdev);
}

static int pviommu_probe(struct pci_dev *pdev, const struct pci_device_id *id)
{
	struct device *dev = &pdev->dev;
	bool used_before;
	struct pviommu *v;
	int error;

	if (pviommu_instance) {
		dev_err(dev, "%s is the IOMMU already, there cannot be two\n",
			pci_name(pviommu_instance->pdev));
		return -EBUSY;
	}

	/* Before the first step that cannot be undone. */
	if (pviommu_another()) {
		dev_err(dev, "another IOMMU is in use already\n");
		return -EBUSY;
	}

	v = kzalloc_obj(*v);
	if (!v)
		return -ENOMEM;
	v->pdev = pdev;
	mutex_init(&v->bind_lock);
	mutex_init(&v->rids_lock);
	INIT_LIST_HEAD(&v->endpoints);
	xa_init(&v->rids);
	INIT_LIST_HEAD(&v->domains);

	error = pviommu_map_registers(v);
	if (error)
		goto err_free;
	error = pviommu_negotiate(v, &used_before);
	if (error)
		goto err_unmap;
	error = pviommu_transport_init(v);
	if (error)
		goto err_unmap;
	error = pviommu_query_caps(v);
	if (error)
		goto err_transport;
	error = pviommu_faults_start(v);
	if (error)
		goto err_transport;
	/* The steps above can fail. The next operation cannot be undone. */
	error = iommu_device_sysfs_add(&v->iommu, dev, NULL, PVIOMMU_NAME);
	if (error)
		goto err_faults;
	v->pm_nb.notifier_call = pviommu_pm_notify;
	error = register_pm_notifier(&v->pm_nb);
	if (error)
		goto err_sysfs;
	/* Devices may be bound and unbound meanwhile. */
	error = pviommu_in_use_init(v);
	if (error)
		goto err_pm;
	mutex_lock(&v->bind_lock);
	error = pviommu_keep_in_use(v);
	if (error)
		goto err_in_use;
	if (used_before) {
		dev_info(dev, "taking over what an earlier kernel may have left: all devices are detached\n");
		pviommu_detach_everything(v);
	}
	if (!use_queues)
		v->features &= ~XEN_IOMMU_FEATURE_QUEUE;
	pviommu_irqs_start(v);
	error = pviommu_enable(v);
	if (error) {
		pviommu_irqs_stop(v);
		pviommu_forget_in_use(v);
		goto err_in_use;
	}

	dev_info(dev, "%u contexts, %u bits of bus address, %u register blocks%s\n",
		 v->max_contexts, v->bfn_bits + XEN_IOMMU_PAGE_SHIFT,
		 v->nr_blocks, v->features & XEN_IOMMU_FEATURE_QUEUE ?
		 ", queues" : "");

	pci_set_drvdata(pdev, v);
	pviommu_instance = v;
	pviommu_acs_enable_all();
	error = pviommu_register(v);
	if (error) {
		dev_err(dev, "cannot be registered, and devices cannot do DMA until the machine is reset: error %d\n",
			error);
		goto err_instance;
	}
	mutex_unlock(&v->bind_lock);
	pviommu_debugfs_init(v);
	return 0;

err_instance:
	pviommu_instance = NULL;
	pviommu_irqs_stop(v);
	pviommu_forget_in_use(v);
err_in_use:
	mutex_unlock(&v->bind_lock);
	pviommu_in_use_exit(v);
err_pm:
	unregister_pm_notifier(&v->pm_nb);
err_sysfs:
	iommu_device_sysfs_remove(&v->iommu);
err_faults:
	pviommu_faults_stop(v);
err_transport:
	bitmap_free(v->contexts);
	pviommu_transport_free(v);
err_unmap:
	pviommu_unmap_registers(v);
err_free:
	kfree(v);
	return error;
}

/*
 * The contexts stay, as devices may do DMA until the end. But the device must
 * not write faults or statuses to memory that the next kernel uses.
 */
static void pviommu_leave_memory(struct pviommu *v)
{
	pviommu_faults_stop(v);
	pviommu_domains_stop_queues(v);
}

static void pviommu_remove(struct pci_dev *pdev)
{
	struct pviommu *v = pci_get_drvdata(pdev);

	debugfs_remove(v->debugfs);

	/*
	 * The module cannot be unloaded, nor the driver unbound, while there
	 * are devices. But sysfs can remove a PCI device at any time. The
	 * function still works then, and the other devices need it.
	 */
	if (!xa_empty(&v->rids)) {
		dev_err(&pdev->dev, "removed while devices need it: it stays in service, without fault reports, until a rescan moves it\n");
		/* There will be no shutdown callback. */
		pviommu_leave_memory(v);
		pci_dev_get(pdev);
		/* The registration stays for good. */
		__module_get(THIS_MODULE);
		return;
	}

	pviommu_in_use_exit(v);
	pviommu_unregister(v);
	pviommu_instance = NULL;
	pviommu_irqs_stop(v);
	unregister_pm_notifier(&v->pm_nb);
	iommu_device_sysfs_remove(&v->iommu);
	pviommu_faults_stop(v);
	bitmap_free(v->contexts);
	pviommu_transport_free(v);
	pviommu_unmap_registers(v);
	kfree(v);
}

static void pviommu_shutdown(struct pci_dev *pdev)
{
	struct pviommu *v = pci_get_drvdata(pdev);

	pviommu_leave_memory(v);
	pviommu_irqs_leave(v);
}

static const struct pci_device_id pviommu_ids[] = {
	{ PCI_DEVICE(XEN_PVIOMMU_PCI_VENDOR_ID, XEN_PVIOMMU_PCI_DEVICE_ID) },
	{ }
};
MODULE_DEVICE_TABLE(pci, pviommu_ids);

static struct pci_driver pviommu_driver = {
	.name		= PVIOMMU_NAME,
	.id_table	= pviommu_ids,
	.probe		= pviommu_probe,
	.remove		= pviommu_remove,
	.shutdown	= pviommu_shutdown,
	.driver		= {
		.pm = &pviommu_pm_ops,
		/* Devices depend on it from probe on. */
		.suppress_bind_attrs = true,
	},
};
module_pci_driver(pviommu_driver);

MODULE_DESCRIPTION("Guest driver of the xen-pviommu paravirtual IOMMU");
MODULE_AUTHOR("xen-pviommu project");
MODULE_LICENSE("GPL");
MODULE_VERSION(PVIOMMU_VERSION);
