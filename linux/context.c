// SPDX-License-Identifier: GPL-2.0
/*
 * Contexts, as the device has them: to free one, and to empty one
 */

#include <linux/errno.h>
#include <linux/io-64-nonatomic-lo-hi.h>

#include "domain.h"

/**
 * pviommu_context_free() - have the device free a context
 * @v: the device
 * @ctx: the context
 *
 * The device frees a large context in parts: as long as each call removes some
 * mappings, call again.
 *
 * Context: Process context.
 * Returns: 0 or an error.
 */
int pviommu_context_free(struct pviommu *v, u16 ctx)
{
	struct xen_iommu_op op = {
		.op = XEN_IOMMUOP_free_context,
		.u.context.ctx = ctx,
	};
	void __iomem *counter =
		v->regs + XEN_PVIOMMU_REG_COUNTER(XEN_PVIOMMU_COUNTER_MAPPED);
	u64 left, before = U64_MAX;

	while (pviommu_call(v, &op) == -EAGAIN) {
		left = readq(counter);
		if (left >= before)
			break;
		before = left;
	}
	return op.status;
}

/**
 * pviommu_context_empty() - unmap all of a context, and take its queue away
 * @v: the device; nothing else uses it yet
 * @ctx: the context, which is no domain's
 *
 * For the default one, which cannot be freed.
 *
 * Context: Process context.
 */
void pviommu_context_empty(struct pviommu *v, u16 ctx)
{
	struct xen_iommu_op op, flush;
	int error, failed = 0;
	u64 bfn, nr;

	if (v->features & XEN_IOMMU_FEATURE_QUEUE)
		pviommu_queue_stop(v, ctx);

	for (bfn = 0; bfn < 1ULL << v->bfn_bits; bfn += nr) {
		op = op_lookup(ctx, bfn);
		error = pviommu_call(v, &op);
		/* Without the length of the gap, the loop might take forever. */
		nr = op.u.lookup.nr_frames;
		if ((error && error != -ENOENT) || !nr) {
			failed = error ?: -EIO;
			break;
		}
		if (error)
			continue;

		op = op_unmap(ctx, bfn, nr);
		error = pviommu_call(v, &op);
		if (error == -ENOSPC) {
			flush = op_flush_all(ctx);
			pviommu_call(v, &flush);
			error = pviommu_call(v, &op);
		}
		failed = error ?: failed;
	}
	flush = op_flush_all(ctx);
	failed = pviommu_call(v, &flush) ?: failed;
	if (failed)
		dev_err(&v->pdev->dev, "context %u cannot be emptied: error %d\n",
			ctx, failed);
}
