// SPDX-License-Identifier: GPL-2.0
/*
 * The identity context: its devices reach all of memory
 *
 * For passthrough, and for devices that are in use when this driver is loaded
 * (in-use.c). There is one such context, which is freed with its last device.
 */

#include <linux/errno.h>
#include <linux/ioport.h>
#include <linux/slab.h>

#include "domain.h"

/* Doorbells that may be needed for all of memory, where it has to be mapped. */
#define MAP_TRIES	1000

/**
 * struct pviommu_ram - the guest's RAM, to be mapped 1:1
 * @ops: maps of it, allocated
 * @nr: how many
 * @room: how many @ops has room for
 * @frames: in all of them
 */
struct pviommu_ram {
	struct xen_iommu_op *ops;
	unsigned int nr;
	unsigned int room;
	u64 frames;
};

static int ram_add(struct resource *res, void *data)
{
	/* Firmware's tables may cut a page in two. */
	u64 gfn = PVIOMMU_BFN(res->start), end = PVIOMMU_BFN(res->end) + 1;
	struct pviommu_ram *ram = data;
	struct xen_iommu_op *last = ram->nr ? &ram->ops[ram->nr - 1] : NULL;
	u64 next = last ? last->u.map.bfn + last->u.map.nr_frames : 0;
	u64 nr;

	for (gfn = max(gfn, next); gfn < end; gfn += nr) {
		nr = min_t(u64, end - gfn, BIT_ULL(31));
		if (ram->nr == ram->room) {
			unsigned int room = ram->room ? 2 * ram->room : 16;

			last = krealloc(ram->ops, room * sizeof(*last),
					GFP_KERNEL);
			if (!last)
				return -ENOMEM;
			ram->ops = last;
			ram->room = room;
		}
		ram->ops[ram->nr++] = (struct xen_iommu_op) {
			.op = XEN_IOMMUOP_map,
			.status = PVIOMMU_NOT_RUN,
			.u.map = {
				.bfn = gfn,
				.gfn = gfn,
				.domid = XEN_IOMMU_DOMID_SELF,
				.nr_frames = nr,
			},
		};
		ram->frames += nr;
	}
	return 0;
}

/* All RAM, which has to be mapped where there are no identity contexts. */
static int ram_find(struct pviommu *v, struct pviommu_ram *ram)
{
	int error;

	error = walk_iomem_res_desc(IORES_DESC_NONE,
				    IORESOURCE_SYSTEM_RAM | IORESOURCE_BUSY,
				    0, U64_MAX, ram, ram_add);
	if (!error && ram->frames > v->max_mappings) {
		dev_err(&v->pdev->dev,
			"the device cannot map all of memory: max-mappings is %llu, and there are %llu frames\n",
			v->max_mappings, ram->frames);
		error = -ENOSPC;
	}
	return error;
}

static int context_alloc(struct pviommu *v)
{
	struct xen_iommu_op op = {
		.op = XEN_IOMMUOP_alloc_context,
		.flags = (v->features & XEN_IOMMU_FEATURE_IDENTITY) ?
			 XEN_IOMMUOP_alloc_context_identity : 0,
	};
	int error = pviommu_call(v, &op);

	if (!error && (!op.u.context.ctx || op.u.context.ctx >= v->max_contexts))
		error = -EIO;
	if (error)
		dev_err_ratelimited(&v->pdev->dev, "no identity context: error %d\n",
				    error);
	else
		v->identity_ctx = op.u.context.ctx;
	return error;
}

/* Run operations, some of which may need more than one call. */
static int run_all(struct pviommu *v, struct xen_iommu_op *ops, unsigned int nr)
{
	unsigned int i, tries;
	int error = 0;

	if (nr)
		pviommu_run(v, NULL, ops, nr);
	for (i = 0; i < nr; i++) {
		for (tries = 0; ops[i].status == -EAGAIN && tries < MAP_TRIES;
		     tries++)
			pviommu_call(v, &ops[i]);
		if (ops[i].status && ops[i].op == XEN_IOMMUOP_map && !error) {
			dev_err(&v->pdev->dev,
				"%u frames at %#llx cannot be mapped 1:1: error %d\n",
				ops[i].u.map.nr_frames, ops[i].u.map.bfn,
				ops[i].status);
			error = ops[i].status;
		}
	}
	return error;
}

/**
 * pviommu_identity_start() - make the identity context, if there is none
 * @v: the IOMMU
 * @attach_all: attach all known requester IDs to it
 *
 * A device without identity contexts gets a context that maps all of memory.
 * Then one doorbell does everything: its first map enables translation, and
 * until the attach that follows, DMA of the functions would fault.
 *
 * Context: Process context; the device's rids_lock is held.
 * Returns: 0 or an error; the context may exist all the same, if it maps memory.
 */
int pviommu_identity_start(struct pviommu *v, bool attach_all)
{
	struct pviommu_ram ram = {};
	struct xen_iommu_op *ops;
	struct pviommu_rid *rid;
	unsigned long sbdf;
	unsigned int i, nr;
	int error;

	lockdep_assert_held(&v->rids_lock);

	if (v->identity_ctx)
		return 0;
	if (!(v->features & XEN_IOMMU_FEATURE_IDENTITY)) {
		error = ram_find(v, &ram);
		if (error)
			goto out;
	}
	nr = ram.nr;
	if (attach_all)
		xa_for_each(&v->rids, sbdf, rid)
			nr++;
	ops = krealloc(ram.ops, max(nr, 1U) * sizeof(*ops), GFP_KERNEL);
	if (!ops) {
		error = -ENOMEM;
		goto out;
	}
	ram.ops = ops;
	error = context_alloc(v);
	if (error)
		goto out;

	for (i = 0; i < ram.nr; i++)
		ops[i].u.map.ctx = v->identity_ctx;
	if (attach_all)
		xa_for_each(&v->rids, sbdf, rid)
			ops[i++] = (struct xen_iommu_op) {
				.op = XEN_IOMMUOP_attach_device,
				.status = PVIOMMU_NOT_RUN,
				.u.attach_device = {
					.sbdf = sbdf,
					.ctx = v->identity_ctx,
				},
			};
	error = run_all(v, ops, nr);
	for (i = ram.nr; i < nr; i++) {
		if (!ops[i].status) {
			rid = xa_load(&v->rids, ops[i].u.attach_device.sbdf);
			rid->ctx = v->identity_ctx;
		} else {
			dev_err(&v->pdev->dev,
				"%#x is in use, and cannot go on: error %d\n",
				ops[i].u.attach_device.sbdf, ops[i].status);
			error = error ?: ops[i].status;
		}
	}
	pviommu_identity_frames_compat(v, ram.frames);
	if (ram.nr)
		dev_warn(&v->pdev->dev,
			 "the device is too old for identity contexts: its devices reach the RAM that there is now, and none that is added, or that a balloon returns\n");
out:
	kfree(ram.ops);
	return error;
}

/**
 * pviommu_identity_ctx() - the context that shows all of memory, 1:1
 * @v: the IOMMU
 *
 * Context: Process context; the device's rids_lock is held.
 * Returns: the context, or an error.
 */
int pviommu_identity_ctx(struct pviommu *v)
{
	int error = pviommu_identity_start(v, false);

	return error ?: v->identity_ctx;
}

/**
 * pviommu_identity_unused() - free the identity context if nothing is in it
 * @v: the IOMMU
 *
 * Context: Process context; the device's rids_lock is held.
 */
void pviommu_identity_unused(struct pviommu *v)
{
	struct pviommu_rid *rid;
	unsigned long sbdf;
	int error;

	lockdep_assert_held(&v->rids_lock);

	if (!v->identity_ctx)
		return;
	xa_for_each(&v->rids, sbdf, rid)
		if (rid->ctx == v->identity_ctx)
			return;
	error = pviommu_context_free(v, v->identity_ctx);
	if (error)
		dev_err(&v->pdev->dev, "context %u cannot be freed: error %d\n",
			v->identity_ctx, error);
	v->identity_ctx = XEN_IOMMU_CTX_DEFAULT;
	pviommu_identity_frames_compat(v, 0);
}
