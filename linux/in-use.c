// SPDX-License-Identifier: GPL-2.0
/*
 * Devices that are in use when this driver is loaded
 *
 * A driver that was bound before has mapped memory without an IOMMU. Its device
 * stays in the identity context, and reaches all of memory, until the driver is
 * unbound. Then the core probes the device again, and gives it a domain like
 * any other device.
 *
 * The core did not count such a driver as a user of the device's group, and
 * warns when the driver is unbound. So the device is removed from the core
 * before its driver is unbound, and probed again afterwards. In between, as
 * before the registration, its endpoint is apart.
 */

#include <linux/device.h>
#include <linux/errno.h>
#include <linux/module.h>
#include <linux/pci.h>
#include <linux/slab.h>

#include "endpoint.h"

/* Before the registration */

/*
 * Whether the driver of a device may have mapped memory for it. A driver that
 * manages DMA by itself does no DMA (ports), or attaches a domain of its own
 * (VFIO); but VFIO without an IOMMU has made a group for the device. A device
 * whose driver is being bound or unbound counts as in use.
 */
static bool device_in_use(struct pci_dev *pdev)
{
	struct device *dev = &pdev->dev;
	bool in_use = false;

	if (!device_trylock(dev))
		return true;
	if (dev->driver)
		in_use = dev->iommu_group ||
			 !to_pci_driver(dev->driver)->driver_managed_dma;
	device_unlock(dev);
	return in_use;
}

/* Its driver, for the log; it may be unbound meanwhile. */
static const char *driver_name(struct device *dev)
{
	return dev->driver ? dev_driver_string(dev) : "a driver";
}

static int keep_device(struct pviommu *v, struct pci_dev *pdev)
{
	struct pviommu_endpoint *ep = pviommu_endpoint_new(v, pdev, true);

	if (IS_ERR(ep))
		return PTR_ERR(ep) == -ENODEV ? 0 : PTR_ERR(ep);
	ep->in_use = true;
	pviommu_apart_begin(ep);
	return 0;
}

static void forget_devices(struct pviommu *v)
{
	struct pviommu_endpoint *ep, *next;
	struct pviommu_rid *rid;
	unsigned long sbdf;

	list_for_each_entry_safe(ep, next, &v->endpoints, list) {
		pviommu_apart_end(ep);
		list_del(&ep->list);
		kfree(ep);
	}
	xa_for_each(&v->rids, sbdf, rid) {
		xa_erase(&v->rids, sbdf);
		kfree(rid);
	}
}

/**
 * pviommu_keep_in_use() - attach devices in use to the identity context
 * @v: the IOMMU, before it is enabled and registered
 *
 * Context: Process context; the device's bind_lock is held from here until the
 *	registration is done, so that no driver maps anything in between.
 * Returns: 0, or an error: it must not be enabled.
 */
int pviommu_keep_in_use(struct pviommu *v)
{
	struct pviommu_endpoint *ep;
	struct pci_dev *pdev = NULL;
	int error = 0;

	lockdep_assert_held(&v->bind_lock);

	mutex_lock(&v->rids_lock);
	for_each_pci_dev(pdev) {
		/* The core gives untrusted devices DMA domains only. */
		if (pdev == v->pdev || pdev->untrusted || !device_in_use(pdev))
			continue;
		error = keep_device(v, pdev);
		if (error) {
			pci_dev_put(pdev);
			break;
		}
	}
	if (!error && !list_empty(&v->endpoints)) {
		error = pviommu_identity_start(v, true);
		/* Its first map has enabled translation: go on. */
		if (error && !(v->features & XEN_IOMMU_FEATURE_IDENTITY) &&
		    v->identity_ctx)
			error = 0;
	}
	if (error)
		forget_devices(v);
	list_for_each_entry(ep, &v->endpoints, list)
		dev_warn(ep->dev, PVIOMMU_NAME ": in use by %s already, so not protected: it reaches all of memory until that driver is unbound and bound again; to protect it from the start, load xen-pviommu first\n",
			 driver_name(ep->dev));
	mutex_unlock(&v->rids_lock);
	return error;
}

/**
 * pviommu_forget_in_use() - undo pviommu_keep_in_use()
 * @v: the IOMMU, which is not enabled
 *
 * Devices reach all of memory in identity mode. They stay in their contexts, as
 * to attach them would enable translation.
 */
void pviommu_forget_in_use(struct pviommu *v)
{
	mutex_lock(&v->rids_lock);
	forget_devices(v);
	mutex_unlock(&v->rids_lock);
}

/* Drivers that are bound and unbound */

/*
 * A registration is the only way for a module to have the core probe devices
 * that have no IOMMU.
 */
static void probe_again(struct pviommu *v)
{
	int error;

	memset(&v->again, 0, sizeof(v->again));
	v->probing_again = true;
	error = iommu_device_register(&v->again, &pviommu_ops, NULL);
	if (error)
		dev_err(&v->pdev->dev, "devices have no domain: error %d\n",
			error);
	else
		iommu_device_unregister(&v->again);
	v->probing_again = false;
}

/* The driver of a device in use is about to be unbound. */
static void driver_goes(struct pviommu *v, struct device *dev)
{
	struct pviommu_endpoint *ep;
	bool leave;

	mutex_lock(&v->rids_lock);
	ep = pviommu_endpoint_find(v, dev);
	leave = ep && ep->in_use && !ep->apart;
	if (leave) {
		ep->group = iommu_group_get(dev);
		ep->leaving = true;
	}
	mutex_unlock(&v->rids_lock);
	if (leave)
		iommu_group_remove_device(dev);
}

/**
 * struct pviommu_mates - the devices of a group
 * @devs: the devices, with a reference each; locked as far as mates_lock() says
 * @nr: how many
 * @room: how many @devs has room for
 */
struct pviommu_mates {
	struct device **devs;
	unsigned int nr;
	unsigned int room;
};

static int mates_count(struct device *dev, void *data)
{
	struct pviommu_mates *mates = data;

	mates->room++;
	return 0;
}

static int mates_add(struct device *dev, void *data)
{
	struct pviommu_mates *mates = data;

	if (mates->nr == mates->room)
		return -ENOSPC;
	mates->devs[mates->nr++] = get_device(dev);
	return 0;
}

/*
 * Lock the first @locked devices of the group; @dev is locked already. True if
 * none is in use, and none can become so while they are locked.
 */
static bool mates_lock(struct pviommu *v, struct pviommu_mates *mates,
		       struct device *dev, unsigned int *locked)
{
	struct pviommu_endpoint *ep;
	bool idle = true;
	unsigned int i;

	*locked = 0;
	mutex_lock(&v->rids_lock);
	for (i = 0; i < mates->nr; i++) {
		struct device *mate = mates->devs[i];

		if (*locked == i && (mate == dev || device_trylock(mate))) {
			++*locked;
			if (!mate->driver ||
			    to_pci_driver(mate->driver)->driver_managed_dma)
				continue;
		}
		idle = false;
		/* Tried again when its driver is unbound. */
		ep = pviommu_endpoint_find(v, mate);
		if (ep)
			ep->waits = true;
	}
	mutex_unlock(&v->rids_lock);
	return idle;
}

/*
 * Have the core make the group of @dev again, if no device in it is in use: the
 * default domain of a group is chosen with its first device.
 */
static void regroup(struct pviommu *v, struct iommu_group *group,
		    struct device *dev)
{
	struct pviommu_mates mates = {};
	unsigned int i, locked = 0;

	iommu_group_for_each_dev(group, &mates, mates_count);
	mates.devs = kcalloc(mates.room, sizeof(*mates.devs), GFP_KERNEL);
	if (!mates.devs)
		return;
	iommu_group_for_each_dev(group, &mates, mates_add);
	if (mates_lock(v, &mates, dev, &locked))
		for (i = 0; i < mates.nr; i++)
			iommu_group_remove_device(mates.devs[i]);
	for (i = 0; i < mates.nr; i++) {
		if (i < locked && mates.devs[i] != dev)
			device_unlock(mates.devs[i]);
		put_device(mates.devs[i]);
	}
	kfree(mates.devs);
}

/* The driver of @dev, which is locked, was unbound. */
static void driver_gone(struct pviommu *v, struct device *dev)
{
	struct iommu_group *group = NULL;
	struct pviommu_endpoint *ep;
	bool apart, waits;

	mutex_lock(&v->rids_lock);
	ep = pviommu_endpoint_find(v, dev);
	apart = ep && ep->apart;
	waits = ep && ep->waits;
	if (apart)
		group = ep->group;
	else if (waits)
		group = iommu_group_get(dev);
	if (ep)
		ep->waits = false;
	mutex_unlock(&v->rids_lock);
	/* A port's driver does no DMA, but has interrupts. */
	if (ep && !apart)
		pviommu_irqs_add(ep);
	if (!apart && !waits)
		return;

	if (group)
		regroup(v, group, dev);
	/* Before the new group is made, so that it gets the same number. */
	iommu_group_put(group);
	if (apart) {
		mutex_lock(&v->rids_lock);
		pviommu_apart_end(ep);
		ep->in_use = false;
		pviommu_endpoint_free(ep);
		mutex_unlock(&v->rids_lock);
	}
	probe_again(v);
}

/* A device whose driver did not bind, after the core has finished with it. */
static struct device *failed_device(struct pviommu *v)
{
	struct pviommu_endpoint *ep;
	struct device *dev = NULL;

	mutex_lock(&v->rids_lock);
	list_for_each_entry(ep, &v->endpoints, list) {
		if (ep->failed) {
			ep->failed = false;
			dev = get_device(ep->dev);
			break;
		}
	}
	mutex_unlock(&v->rids_lock);
	return dev;
}

static void pviommu_failed_work(struct work_struct *work)
{
	struct pviommu *v = container_of(work, struct pviommu, failed_work);
	struct device *dev;

	while ((dev = failed_device(v))) {
		device_lock(dev);
		mutex_lock(&v->bind_lock);
		/* If another driver is bound by now, it is in use as before. */
		if (!dev->driver)
			driver_gone(v, dev);
		mutex_unlock(&v->bind_lock);
		device_unlock(dev);
		put_device(dev);
	}
}

static void driver_failed(struct pviommu *v, struct device *dev)
{
	struct pviommu_endpoint *ep;

	driver_goes(v, dev);
	mutex_lock(&v->rids_lock);
	ep = pviommu_endpoint_find(v, dev);
	if (ep && ep->apart) {
		ep->failed = true;
		schedule_work(&v->failed_work);
	}
	mutex_unlock(&v->rids_lock);
}

static int pviommu_bus_notify(struct notifier_block *nb, unsigned long action,
			      void *data)
{
	struct pviommu *v = container_of(nb, struct pviommu, bus_nb);
	struct device *dev = data;

	if (dev == &v->pdev->dev)
		return NOTIFY_DONE;

	switch (action) {
	case BUS_NOTIFY_BIND_DRIVER:
		/* Wait for the registration: the driver would map too early. */
		mutex_lock(&v->bind_lock);
		mutex_unlock(&v->bind_lock);
		break;
	case BUS_NOTIFY_UNBIND_DRIVER:
		mutex_lock(&v->bind_lock);
		driver_goes(v, dev);
		mutex_unlock(&v->bind_lock);
		break;
	case BUS_NOTIFY_UNBOUND_DRIVER:
		mutex_lock(&v->bind_lock);
		driver_gone(v, dev);
		mutex_unlock(&v->bind_lock);
		break;
	case BUS_NOTIFY_DRIVER_NOT_BOUND:
		mutex_lock(&v->bind_lock);
		driver_failed(v, dev);
		mutex_unlock(&v->bind_lock);
		break;
	}
	return NOTIFY_DONE;
}

/**
 * pviommu_in_use_init() - begin to watch how drivers are bound and unbound
 * @v: the IOMMU
 *
 * Returns: 0 or an error.
 */
int pviommu_in_use_init(struct pviommu *v)
{
	INIT_WORK(&v->failed_work, pviommu_failed_work);
	v->bus_nb.notifier_call = pviommu_bus_notify;
	return bus_register_notifier(&pci_bus_type, &v->bus_nb);
}

/**
 * pviommu_in_use_exit() - stop to watch drivers
 * @v: the IOMMU; its bind_lock is not held
 */
void pviommu_in_use_exit(struct pviommu *v)
{
	bus_unregister_notifier(&pci_bus_type, &v->bus_nb);
	cancel_work_sync(&v->failed_work);
}
