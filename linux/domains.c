// SPDX-License-Identifier: GPL-2.0
/*
 * Domains: made and freed, given queues, and what they have for the log
 */

#include <linux/bitmap.h>
#include <linux/errno.h>
#include <linux/gfp.h>
#include <linux/list.h>
#include <linux/seq_file.h>

#include "domain.h"

static const char *op_name(unsigned int op)
{
	switch (op) {
	case XEN_IOMMUOP_map:
		return "map";
	case XEN_IOMMUOP_unmap:
		return "unmap";
	case XEN_IOMMUOP_flush:
		return "flush";
	default:
		return "lookup";
	}
}

/**
 * pviommu_domain_unlock_complain() - release the lock, and log what failed
 * @d: the domain; its lock is held, and it has a complaint
 * @flags: as domain_lock() returned them
 */
void pviommu_domain_unlock_complain(struct pviommu_domain *d,
				    unsigned long flags)
	__releases(&d->lock)
{
	struct xen_iommu_op complaint = d->complaint;

	d->complaint.op = 0;
	spin_unlock_irqrestore(&d->lock, flags);

	if (complaint.op == XEN_IOMMUOP_set_queue) {
		dev_err(&d->v->pdev->dev,
			"context %u: its queue does not run, and is not used any more\n",
			d->ctx);
		return;
	}

	/* Maps, unmaps and flushes have their BFN and count in one place. */
	dev_err_ratelimited(&d->v->pdev->dev,
			    "context %u: %s of %u frames at BFN %#llx: error %d\n",
			    d->ctx, op_name(complaint.op),
			    complaint.u.unmap.nr_frames,
			    (unsigned long long)complaint.u.unmap.bfn,
			    complaint.status);
}

static void domain_free(struct pviommu_domain *d)
{
	pviommu_block_disown(d->v, d->block);
	pviommu_batch_free(d);
	free_pages_exact(d, sizeof(*d));
}

/**
 * pviommu_domain_free() - free a domain, and its context with all it maps
 * @domain: the domain
 */
void pviommu_domain_free(struct iommu_domain *domain)
{
	struct pviommu_domain *d = to_pviommu_domain(domain);
	struct pviommu *v = d->v;
	int error;

	mutex_lock(&v->rids_lock);
	list_del(&d->list);
	mutex_unlock(&v->rids_lock);

	/* This removes all mappings, and what is queued. */
	clear_bit(d->ctx, v->contexts);
	error = pviommu_context_free(v, d->ctx);
	if (error)
		dev_err(&v->pdev->dev, "context %u cannot be freed: error %d\n",
			d->ctx, error);
	/* If the device has forgotten the queue, to stop it does no harm. */
	if (!error || (d->queue.shared && !pviommu_queue_stop(v, d->ctx)))
		pviommu_queue_free(&d->queue);
	domain_free(d);
}

/**
 * pviommu_domain_start_queue() - give a domain a queue, if it should have one
 * @domain: a domain of this driver's, with a context
 *
 * When a device is attached, as the domain has no type before. Without a queue
 * its operations go to the batch.
 *
 * Context: Process context; the device's rids_lock is held.
 */
void pviommu_domain_start_queue(struct iommu_domain *domain)
{
	struct pviommu_domain *d = to_pviommu_domain(domain);
	struct pviommu_queue queue = {};
	unsigned long flags;

	lockdep_assert_held(&d->v->rids_lock);

	if (!iommu_is_dma_domain(domain) || d->queue.shared ||
	    !(d->v->features & XEN_IOMMU_FEATURE_QUEUE))
		return;
	if (pviommu_queue_start(&queue, d->v, d->ctx))
		return;
	flags = domain_lock(d);
	d->queue = queue;
	domain_unlock(d, flags);
}

/**
 * pviommu_domains_stop_queues() - have the device forget all queues
 * @v: the device
 *
 * The device runs what is queued before. Domains go on without a queue, and new
 * domains get none.
 */
void pviommu_domains_stop_queues(struct pviommu *v)
{
	struct pviommu_domain *d;
	unsigned long flags;
	int error;

	mutex_lock(&v->rids_lock);
	v->features &= ~XEN_IOMMU_FEATURE_QUEUE;
	list_for_each_entry(d, &v->domains, list) {
		if (!d->queue.shared)
			continue;
		flags = domain_lock(d);
		domain_be_synchronous(d);
		domain_unlock(d, flags);
		error = pviommu_queue_stop(v, d->ctx);
		flags = domain_lock(d);
		/* The operations in a dead queue did not run. */
		pviommu_domain_queue_attend(d);
		if (!error)
			d->queue.abandoned = true;
		domain_unlock(d, flags);
	}
	mutex_unlock(&v->rids_lock);
}

/**
 * pviommu_domains_show_queues() - "context tail head errors flags" lines
 * @v: the device
 * @s: where to
 */
void pviommu_domains_show_queues(struct pviommu *v, struct seq_file *s)
{
	const struct xen_iommu_queue *q;
	struct pviommu_domain *d;

	mutex_lock(&v->rids_lock);
	list_for_each_entry(d, &v->domains, list) {
		q = d->queue.shared;
		if (q && !d->queue.abandoned)
			seq_printf(s, "%u %u %u %u %#x\n", d->ctx,
				   READ_ONCE(q->tail), READ_ONCE(q->head),
				   READ_ONCE(q->errors), READ_ONCE(q->flags));
	}
	mutex_unlock(&v->rids_lock);
}

/**
 * pviommu_domain_alloc() - an empty domain, with a context of its own
 * @v: the device
 *
 * Returns: the domain, or an error pointer.
 */
struct iommu_domain *pviommu_domain_alloc(struct pviommu *v)
{
	struct xen_iommu_op op = { .op = XEN_IOMMUOP_alloc_context };
	struct pviommu_domain *d;
	int error;

	d = alloc_pages_exact(sizeof(*d), GFP_KERNEL | __GFP_ZERO);
	if (!d)
		return ERR_PTR(-ENOMEM);
	d->v = v;
	spin_lock_init(&d->lock);
	error = pviommu_batch_init(d);
	if (error)
		goto err_free;

	error = pviommu_call(v, &op);
	if (!error && op.u.context.ctx >= v->max_contexts)
		error = -EIO;
	if (error) {
		/* Programs with a device can ask for as many as they like. */
		dev_err_ratelimited(&v->pdev->dev,
				    "no context for another domain (%u at most, the default one included): error %d\n",
				    v->max_contexts, error);
		goto err_free;
	}
	d->ctx = op.u.context.ctx;
	set_bit(d->ctx, v->contexts);
	d->block = pviommu_block_own(v);
	mutex_lock(&v->rids_lock);
	list_add_tail(&d->list, &v->domains);
	mutex_unlock(&v->rids_lock);

	/*
	 * A range of any length is one operation. With all powers of two here,
	 * the core would split a range whose length is no power of two.
	 */
	d->domain.pgsize_bitmap = PVIOMMU_PAGE_SIZES;
	d->domain.geometry.aperture_end =
		PVIOMMU_ADDR(1ULL << v->bfn_bits) - 1;
	d->domain.geometry.force_aperture = true;
	return &d->domain;

err_free:
	domain_free(d);
	return ERR_PTR(error);
}

/**
 * pviommu_domain_ctx() - the context a domain is, or the empty default one
 * @domain: the domain, which is not the identity domain
 */
u16 pviommu_domain_ctx(struct iommu_domain *domain)
{
	if (domain->type == IOMMU_DOMAIN_BLOCKED)
		return XEN_IOMMU_CTX_DEFAULT;
	return to_pviommu_domain(domain)->ctx;
}
