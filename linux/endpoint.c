// SPDX-License-Identifier: GPL-2.0
/*
 * Endpoints: devices behind the IOMMU, and the context that each is in
 */

#include <linux/device.h>
#include <linux/errno.h>
#include <linux/pci.h>
#include <linux/slab.h>

#include "endpoint.h"

/* What pci_dev.dma_alias_mask has bits for. */
#define BUS_DEVFNS		256

/* Requester IDs */

static u32 make_sbdf(struct pci_bus *bus, u16 rid)
{
	return (u32)pci_domain_nr(bus) << 16 | rid;
}

static unsigned int rid_add(u32 *rids, unsigned int nr, struct pci_bus *bus,
			    u16 rid)
{
	u32 sbdf = make_sbdf(bus, rid);
	unsigned int i;

	for (i = 0; rids && i < nr; i++)
		if (rids[i] == sbdf)
			return nr;
	if (rids)
		rids[nr] = sbdf;
	return nr + 1;
}

/* The first part of collect_rids(): all but the bridges'. */
static unsigned int collect_own_rids(struct pci_dev *pdev, u32 *rids)
{
	unsigned int devfn, nr = 0;

	nr = rid_add(rids, nr, pdev->bus, pci_dev_id(pdev));

	if (pdev->dma_alias_mask)
		for_each_set_bit(devfn, pdev->dma_alias_mask, BUS_DEVFNS)
			nr = rid_add(rids, nr, pdev->bus,
				     PCI_DEVID(pdev->bus->number, devfn));
	return nr;
}

/*
 * The requester IDs that DMA of @pdev can arrive with: its own, those of a
 * quirk, and those of the bridges above that put their own in its place. (The
 * core's pci_for_each_dma_alias() is not for modules.) Without @rids, how many
 * there are at the most.
 */
static unsigned int collect_rids(struct pci_dev *pdev, u32 *rids)
{
	unsigned int nr = collect_own_rids(pdev, rids);
	struct pci_bus *bus;

	for (bus = pdev->bus; !pci_is_root_bus(bus); bus = bus->parent) {
		struct pci_dev *bridge = bus->self;
		bool to_pci;

		if (!bridge)
			continue;
		to_pci = bridge->dev_flags & PCI_DEV_FLAG_PCIE_BRIDGE_ALIAS;
		if (pci_is_pcie(bridge)) {
			/* Ports pass on what they get. */
			if (pci_pcie_type(bridge) == PCI_EXP_TYPE_PCI_BRIDGE)
				to_pci = true;
			else if (pci_pcie_type(bridge) != PCI_EXP_TYPE_PCIE_BRIDGE)
				continue;
		}
		/* PCIe to PCI: the secondary bus, device 0. Else the bridge. */
		nr = rid_add(rids, nr, bus,
			     to_pci ? PCI_DEVID(bus->number, 0) :
				      pci_dev_id(bridge));
	}
	return nr;
}

static int rid_attach(struct pviommu *v, u32 sbdf, u16 ctx)
{
	struct xen_iommu_op op = {
		.op = XEN_IOMMUOP_attach_device,
		.u.attach_device.sbdf = sbdf,
		.u.attach_device.ctx = ctx,
	};

	return pviommu_call(v, &op);
}

/**
 * pviommu_query_reserved() - the reserved ranges of a device
 * @v: the IOMMU
 * @sbdf: the device's requester ID
 * @ranges: where to store them, allocated: the caller frees them
 *
 * Context: Process context.
 * Returns: how many, or an error; then nothing is allocated.
 */
int pviommu_query_reserved(struct pviommu *v, u32 sbdf,
			   struct xen_iommu_reserved_range **ranges)
{
	struct xen_iommu_op op;
	u32 room = 16;
	int error;

	for (;;) {
		*ranges = kcalloc(room, sizeof(**ranges), GFP_KERNEL);
		if (!*ranges)
			return -ENOMEM;

		op = (struct xen_iommu_op) {
			.op = XEN_IOMMUOP_query_reserved,
			.flags = XEN_IOMMUOP_query_reserved_device,
			.u.query_reserved = {
				.nr_entries = room,
				.ranges = virt_to_phys(*ranges),
				.sbdf = sbdf,
			},
		};
		error = pviommu_call(v, &op);
		if (!error && op.u.query_reserved.nr_entries <= room)
			return op.u.query_reserved.nr_entries;

		kfree(*ranges);
		if (error != -ENOBUFS || op.u.query_reserved.nr_entries <= room)
			return error ?: -EIO;
		room = op.u.query_reserved.nr_entries;
	}
}

/*
 * The first user of a requester ID. Functions behind a bridge that replaces
 * their requester IDs are one function to the device: to attach one attaches
 * all. @via is the entry of such a bridge, if a function behind it is attached
 * already. A function in use, @early, must not be attached before it has a
 * context. In both cases this only checks that the device knows the ID.
 */
static int rid_first_use(struct pviommu *v, u32 sbdf,
			 const struct pviommu_rid *via, bool early)
{
	struct xen_iommu_reserved_range *ranges;
	int nr;

	if (!via && !early)
		return rid_attach(v, sbdf, XEN_IOMMU_CTX_DEFAULT);

	nr = pviommu_query_reserved(v, sbdf, &ranges);
	if (nr < 0)
		return nr;
	kfree(ranges);
	return 0;
}

/* Start to use a requester ID; -ENODEV if the device does not know it. */
static int rid_get(struct pviommu *v, u32 sbdf, const struct pviommu_rid *via,
		   bool early)
{
	struct pviommu_rid *rid;
	int error;

	lockdep_assert_held(&v->rids_lock);

	rid = xa_load(&v->rids, sbdf);
	if (rid) {
		rid->users++;
		return 0;
	}

	error = rid_first_use(v, sbdf, via, early);
	if (error)
		return error;
	rid = kzalloc_obj(*rid);
	if (!rid)
		return -ENOMEM;
	rid->users = 1;
	rid->ctx = via ? via->ctx : XEN_IOMMU_CTX_DEFAULT;
	error = xa_err(xa_store(&v->rids, sbdf, rid, GFP_KERNEL));
	if (error)
		kfree(rid);
	return error;
}

/* Stop to use a requester ID; @stay: other functions still use it. */
static void rid_put(struct pviommu *v, u32 sbdf, bool stay)
{
	struct pviommu_rid *rid = xa_load(&v->rids, sbdf);
	int error = 0;

	lockdep_assert_held(&v->rids_lock);

	if (WARN_ON(!rid) || --rid->users)
		return;

	/* -ENODEV: the function was unplugged, and is in no context. */
	if (!stay)
		error = rid_attach(v, sbdf, XEN_IOMMU_CTX_DEFAULT);
	if (error && error != -ENODEV)
		dev_err(&v->pdev->dev, "cannot detach %#x: error %d\n",
			sbdf, error);
	xa_erase(&v->rids, sbdf);
	kfree(rid);
}

/* @shared: other functions behind the same bridge are in use. */
static void endpoint_put_rids(struct pviommu_endpoint *ep, bool shared)
{
	struct pviommu *v = ep->v;
	struct pviommu_rid *rid;
	unsigned int i;

	lockdep_assert_held(&v->rids_lock);

	for (i = ep->nr_own; i < ep->nr_rids; i++) {
		rid = xa_load(&v->rids, ep->rids[i]);
		if (rid && rid->users > 1)
			shared = true;
	}
	while (ep->nr_rids)
		rid_put(v, ep->rids[--ep->nr_rids], shared);
	pviommu_identity_unused(v);
}

/**
 * pviommu_endpoint_find() - the endpoint of a device
 * @v: the IOMMU
 * @dev: the device
 *
 * Context: Process context; the device's rids_lock is held.
 * Returns: the endpoint, or NULL.
 */
struct pviommu_endpoint *pviommu_endpoint_find(struct pviommu *v,
					       const struct device *dev)
{
	struct pviommu_endpoint *ep;

	lockdep_assert_held(&v->rids_lock);

	list_for_each_entry(ep, &v->endpoints, list)
		if (ep->dev == dev)
			return ep;
	return NULL;
}

/**
 * pviommu_endpoint_new() - make the endpoint of a device
 * @v: the IOMMU
 * @pdev: the device
 * @early: do not attach it
 *
 * Unless @early, its requester IDs are attached to the default context, or to
 * that of the functions behind the same bridge.
 *
 * Context: Process context; the device's rids_lock is held.
 * Returns: the endpoint, or an error: -ENODEV if the device does not know it.
 */
struct pviommu_endpoint *pviommu_endpoint_new(struct pviommu *v,
					      struct pci_dev *pdev, bool early)
{
	struct pviommu_rid *via = NULL;
	struct pviommu_endpoint *ep;
	unsigned int i, nr, nr_own;
	int error = 0;

	lockdep_assert_held(&v->rids_lock);

	ep = kzalloc(struct_size(ep, rids, collect_rids(pdev, NULL)),
		     GFP_KERNEL);
	if (!ep)
		return ERR_PTR(-ENOMEM);
	ep->v = v;
	ep->dev = &pdev->dev;
	nr_own = collect_own_rids(pdev, ep->rids);
	nr = collect_rids(pdev, ep->rids);
	for (i = nr_own; i < nr && !via; i++)
		via = xa_load(&v->rids, ep->rids[i]);
	for (i = 0; i < nr; i++) {
		/* A bridge's alias may be no function of the device. */
		error = rid_get(v, ep->rids[i], via, early);
		if (error == -ENODEV)
			continue;
		if (error)
			break;
		if (i < nr_own)
			ep->nr_own++;
		ep->rids[ep->nr_rids++] = ep->rids[i];
	}
	if (i < nr || !ep->nr_rids) {
		/* The bridge is in use by other functions, if there is @via. */
		endpoint_put_rids(ep, via || early);
		kfree(ep);
		return ERR_PTR(error);
	}
	list_add_tail(&ep->list, &v->endpoints);
	return ep;
}

/**
 * pviommu_endpoint_free() - free the endpoint of a device
 * @ep: the endpoint
 *
 * Its DMA is blocked, unless it is in use: then it stays in its context.
 *
 * Context: Process context; the device's rids_lock is held.
 */
void pviommu_endpoint_free(struct pviommu_endpoint *ep)
{
	list_del(&ep->list);
	endpoint_put_rids(ep, ep->in_use);
	kfree(ep);
}

/**
 * pviommu_apart_begin() - the core does not have an endpoint that is in use
 * @ep: the endpoint
 *
 * Context: Process context; the device's rids_lock is held.
 */
void pviommu_apart_begin(struct pviommu_endpoint *ep)
{
	lockdep_assert_held(&ep->v->rids_lock);

	get_device(ep->dev);
	__module_get(THIS_MODULE);
	ep->apart = true;
}

/**
 * pviommu_apart_end() - the core has the endpoint, or it is no longer in use
 * @ep: the endpoint
 *
 * Context: Process context; the device's rids_lock is held.
 */
void pviommu_apart_end(struct pviommu_endpoint *ep)
{
	lockdep_assert_held(&ep->v->rids_lock);

	ep->apart = false;
	put_device(ep->dev);
	module_put(THIS_MODULE);
}

/**
 * pviommu_detach_everything() - block the DMA of all devices
 * @v: the IOMMU
 *
 * An earlier kernel left the device with contexts, which are not used any more.
 * The default context is emptied first, as all devices are attached to it then,
 * except for those in use, which have endpoints. Nothing else uses the device
 * yet.
 */
void pviommu_detach_everything(struct pviommu *v)
{
	unsigned int ctx, i, nr, room = v->max_contexts;
	struct pci_dev *pdev = NULL;
	struct xen_iommu_op *ops;
	u32 *rids;

	pviommu_context_empty(v, XEN_IOMMU_CTX_DEFAULT);

	for_each_pci_dev(pdev) {
		rids = kcalloc(collect_rids(pdev, NULL), sizeof(*rids),
			       GFP_KERNEL);
		nr = rids ? collect_rids(pdev, rids) : 0;
		for (i = 0; i < nr; i++)
			if (!xa_load(&v->rids, rids[i]))
				rid_attach(v, rids[i], XEN_IOMMU_CTX_DEFAULT);
		kfree(rids);
	}

	/* The device cannot list its contexts: try to free each. */
	room = min_t(unsigned int, room, PAGE_SIZE / sizeof(*ops));
	ops = kcalloc(room, sizeof(*ops), GFP_KERNEL);
	if (!ops)
		return;
	for (ctx = XEN_IOMMU_CTX_DEFAULT + 1; ctx < v->max_contexts; ctx += nr) {
		nr = min(room, v->max_contexts - ctx);
		for (i = 0; i < nr; i++)
			ops[i] = (struct xen_iommu_op) {
				.op = XEN_IOMMUOP_free_context,
				.status = PVIOMMU_NOT_RUN,
				.u.context.ctx = ctx + i,
			};
		pviommu_run(v, NULL, ops, nr);
		/* A large one needs more calls; an identity context has devices. */
		for (i = 0; i < nr; i++)
			if (ops[i].status == -EAGAIN)
				pviommu_context_free(v, ctx + i);
	}
	kfree(ops);
}

/**
 * pviommu_attach() - put a device into a domain's context
 * @domain: the domain
 * @dev: the device, an endpoint
 * @old: not used: each requester ID has its context
 *
 * The attach_dev() of all domains; attaching to the blocked one detaches.
 */
int pviommu_attach(struct iommu_domain *domain, struct device *dev,
		   struct iommu_domain *old)
{
	bool identity = domain->type == IOMMU_DOMAIN_IDENTITY;
	struct pviommu_endpoint *ep = dev_iommu_priv_get(dev);
	struct pviommu *v = ep->v;
	struct pviommu_rid *rid;
	int ctx, error = 0;
	unsigned int i;

	pviommu_acs_enable_above(to_pci_dev(dev));
	mutex_lock(&v->rids_lock);
	/* It would lose its mappings. So VFIO cannot have its group either. */
	if (ep->in_use && !identity) {
		error = -EBUSY;
		goto unlock;
	}
	ctx = identity ? pviommu_identity_ctx(v) : pviommu_domain_ctx(domain);
	if (ctx < 0) {
		error = ctx;
		goto unlock;
	}
	if (ctx != XEN_IOMMU_CTX_DEFAULT && !identity)
		pviommu_domain_start_queue(domain);
	for (i = 0; i < ep->nr_rids; i++) {
		rid = xa_load(&v->rids, ep->rids[i]);
		if (rid->ctx != ctx) {
			error = rid_attach(v, ep->rids[i], ctx);
			/* A function that was unplugged does no DMA. */
			if (error == -ENODEV && ctx == XEN_IOMMU_CTX_DEFAULT)
				error = 0;
			if (error) {
				dev_err_ratelimited(dev, PVIOMMU_NAME ": cannot attach %#x to context %u: error %d\n",
						    ep->rids[i], ctx, error);
				if (error == -ENODEV)
					rid->ctx = XEN_IOMMU_CTX_DEFAULT;
				break;
			}
			rid->ctx = ctx;
		}
		rid->domain = ctx == XEN_IOMMU_CTX_DEFAULT || identity ? NULL :
			      domain;
	}
	/* Both domains may be freed from now on: report no faults to them. */
	for (i = 0; error && i < ep->nr_rids; i++) {
		rid = xa_load(&v->rids, ep->rids[i]);
		rid->domain = NULL;
	}
	pviommu_identity_unused(v);
unlock:
	mutex_unlock(&v->rids_lock);
	return error;
}
