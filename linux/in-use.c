// SPDX-License-Identifier: GPL-2.0
/*
 * Devices that are in use when the IOMMU comes
 *
 * A driver that was bound before has mapped memory without an IOMMU. Its device
 * goes on to reach all of memory, in the identity context, until the driver is
 * unbound; then the core looks at the device anew, and gives it a domain like
 * any other's.
 *
 * The core never knew that such a driver uses the device's group, and would
 * complain when it stops to. So the device is taken from the core when its
 * driver is about to be unbound, and given back afterwards. In between, as
 * before the registration, its endpoint is apart.
 */

#include <linux/device.h>
#include <linux/errno.h>
#include <linux/module.h>
#include <linux/pci.h>
#include <linux/slab.h>

#include "endpoint.h"
#include "compat.h"

/* When the IOMMU comes */

/*
 * Whether the driver of a device may have mapped memory for it. One that says
 * it manages DMA by itself does no DMA (ports), or does so in a domain of its
 * own (VFIO); but VFIO without an IOMMU has made up a group for it. One that is
 * bound or unbound right now counts: it may be in the midst of it.
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
 * pviommu_keep_in_use() - devices that are in use go on to reach all of memory
 * @v: the IOMMU, before it is enabled and registered
 *
 * Context: Process context; the device's bind_lock is held, and until the
 *	registration is done: no driver is to map anything in between.
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
		/* The core gives the untrusted nothing but DMA domains. */
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
		/* From its first map on, there is no way back. */
		if (error && !(v->features & XEN_IOMMU_FEATURE_IDENTITY) &&
		    v->identity_ctx)
			error = 0;
	}
	if (error)
		forget_devices(v);
	list_for_each_entry(ep, &v->endpoints, list)
		dev_warn(ep->dev, PVIOMMU_NAME ": in use by %s already, so not protected: it reaches all of memory until that driver is unbound and bound again; to protect it from the start, load " PVIOMMU_NAME " first\n",
			 driver_name(ep->dev));
	mutex_unlock(&v->rids_lock);
	return error;
}

/**
 * pviommu_forget_in_use() - undo pviommu_keep_in_use()
 * @v: the IOMMU, which is not enabled
 *
 * Devices see all of memory anyhow: they stay where they are, as to move them
 * would enable translation.
 */
void pviommu_forget_in_use(struct pviommu *v)
{
	mutex_lock(&v->rids_lock);
	forget_devices(v);
	mutex_unlock(&v->rids_lock);
}

/* Drivers come and go */

/*
 * The core looks at all devices that it does not have when an IOMMU is
 * registered, and not else.
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
		pviommu_leave_core_compat(dev);
}

/**
 * struct pviommu_mates - the devices of a group
 * @devs: they, with a reference each; locked, if that worked
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
 * Lock all but @dev, which is: the first @locked of them. True if nothing is in
 * use, and cannot be from now on.
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
		/* When its driver goes it is tried again. */
		ep = pviommu_endpoint_find(v, mate);
		if (ep)
			ep->waits = true;
	}
	mutex_unlock(&v->rids_lock);
	return idle;
}

/*
 * Have the core make the group of @dev anew, if nothing in it is in use: its
 * default domain is what it was when the first device came.
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
			pviommu_leave_core_compat(mates.devs[i]);
	for (i = 0; i < mates.nr; i++) {
		if (i < locked && mates.devs[i] != dev)
			device_unlock(mates.devs[i]);
		put_device(mates.devs[i]);
	}
	kfree(mates.devs);
}

/* Now it is unbound; @dev is locked. */
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
	if (!apart && !waits)
		return;

	if (group)
		regroup(v, group, dev);
	/* Before a new one is made: it gets the same number. */
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

/* A driver did not bind: the core had to be done with it first. */
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
		/* Another driver may have it by now: then it is in use as before. */
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
		/* Not while devices are registered: it would map too early. */
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
 * pviommu_in_use_init() - begin to watch drivers come and go
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
 * pviommu_in_use_exit() - watch them no more
 * @v: the IOMMU; its bind_lock is not held
 */
void pviommu_in_use_exit(struct pviommu *v)
{
	bus_unregister_notifier(&pci_bus_type, &v->bus_nb);
	cancel_work_sync(&v->failed_work);
}
