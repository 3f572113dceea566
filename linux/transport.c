// SPDX-License-Identifier: GPL-2.0
/*
 * Register blocks and doorbells, which pass arrays of operations to the device
 */

#include <linux/delay.h>
#include <linux/errno.h>
#include <linux/io-64-nonatomic-lo-hi.h>
#include <linux/slab.h>
#include <linux/string.h>
#include <linux/timekeeping.h>

#include "pviommu.h"

/* Statuses are passed on as they are. */
static_assert(XEN_IOMMU_ENOENT == ENOENT);
static_assert(XEN_IOMMU_EAGAIN == EAGAIN);
static_assert(XEN_IOMMU_ENOSPC == ENOSPC);
static_assert(XEN_IOMMU_EOPNOTSUPP == EOPNOTSUPP);
static_assert(XEN_IOMMU_EADDRNOTAVAIL == EADDRNOTAVAIL);
static_assert(XEN_IOMMU_ENOBUFS == ENOBUFS);
static_assert(sizeof(struct xen_iommu_op) == 32);
static_assert(sizeof(struct xen_iommu_fault) == 32);

/*
 * How often, and how long apart, pviommu_call() tries again on -EAGAIN: a large
 * context is freed in many parts.
 */
#define CALL_TRIES		10000
#define CALL_WAIT_US		20

/**
 * struct pviommu_progress - of operations that take more than one doorbell
 * @since: when the last progress was seen, in ns
 * @op: the first that has not run, as it was then; it may have run in part
 */
struct pviommu_progress {
	u64 since;
	struct xen_iommu_op op;
};

static void progress_start(struct pviommu_progress *p,
			   const struct xen_iommu_op *op)
{
	p->since = ktime_get_mono_fast_ns();
	p->op = *op;
}

/*
 * Whether to go on with @op, after @done operations before it. An operation
 * whose progress does not show may take PVIOMMU_IDLE_NS.
 */
static bool progress_made(struct pviommu_progress *p, unsigned int done,
			  const struct xen_iommu_op *op)
{
	if (done || memcmp(&p->op, op, sizeof(*op)))
		progress_start(p, op);
	cpu_relax();
	return ktime_get_mono_fast_ns() - p->since < PVIOMMU_IDLE_NS;
}

/*
 * Ring once for @nr operations. Returns how many of them ran, or an error. It
 * can be none, or a part of one, as the device bounds the work of a doorbell.
 */
static int block_ring(struct pviommu_block *block, struct xen_iommu_op *ops,
		      unsigned int nr)
{
	u64 array = virt_to_phys(ops);
	u32 done;
	int result;

	if (block->array != array) {
		writeq(array, block->regs + XEN_PVIOMMU_BLOCK_ARRAY);
		block->array = array;
	}
	/* Orders after it what was written to the operations. */
	writel(nr, block->regs + XEN_PVIOMMU_BLOCK_DOORBELL);
	/* Statuses are in memory when the doorbell's store is done. */
	mb();

	/*
	 * They run in order, so the last one's status tells about all, without
	 * reading two registers, which are exits.
	 */
	if (likely(READ_ONCE(ops[nr - 1].status) != PVIOMMU_NOT_RUN))
		return nr;

	done = readl(block->regs + XEN_PVIOMMU_BLOCK_DONE);
	result = readl(block->regs + XEN_PVIOMMU_BLOCK_RESULT);
	if (done >= nr)
		return -EIO;
	if (result && result != -XEN_IOMMU_EAGAIN)
		return result < 0 ? result : -EIO;
	return done;
}

/* After this, every status is 0 or a negative errno. Returns one of these. */
static int ops_finish(struct xen_iommu_op *ops, unsigned int nr, int error)
{
	int found = 0;

	while (nr--) {
		if (likely(!ops[nr].status))
			continue;
		if (ops[nr].status == PVIOMMU_NOT_RUN && error)
			ops[nr].status = error;
		else if (!IS_ERR_VALUE((long)ops[nr].status))
			ops[nr].status = -EIO;
		found = ops[nr].status;
	}
	return found;
}

/* Blocks from the first on that nobody may own. */
static unsigned int nr_shared(const struct pviommu *v)
{
	return DIV_ROUND_UP(v->nr_blocks, 4);
}

/**
 * pviommu_block_own() - a block for one caller, who needs no lock for it
 * @v: the device
 *
 * Its ARRAY register stays as it is, too, if the caller has one array only.
 *
 * Returns: the block, or NULL if all are owned.
 */
struct pviommu_block *pviommu_block_own(struct pviommu *v)
{
	unsigned int i;

	for (i = nr_shared(v); i < v->nr_blocks; i++)
		if (!test_and_set_bit(i, v->blocks_owned))
			return &v->blocks[i];
	return NULL;
}

/**
 * pviommu_block_disown() - give a block back
 * @v: the device
 * @own: the block, or NULL
 */
void pviommu_block_disown(struct pviommu *v, struct pviommu_block *own)
{
	if (own)
		clear_bit(own - v->blocks, v->blocks_owned);
}

/* Any block works. Other CPUs do not wait for this one's. */
static struct pviommu_block *block_shared(struct pviommu *v)
{
	return &v->blocks[raw_smp_processor_id() % nr_shared(v)];
}

/*
 * Ring with a block that others use, too: for a copy of the operations, or for
 * the operations where they are.
 */
static int block_ring_shared(struct pviommu *v, struct xen_iommu_op *ops,
			     unsigned int nr, bool copy)
{
	struct pviommu_block *block = block_shared(v);
	unsigned long flags;
	int ret;

	spin_lock_irqsave(&block->lock, flags);
	if (copy) {
		memcpy(block->scratch, ops, nr * sizeof(*ops));
		ret = block_ring(block, block->scratch, nr);
		memcpy(ops, block->scratch, nr * sizeof(*ops));
	} else {
		ret = block_ring(block, ops, nr);
	}
	spin_unlock_irqrestore(&block->lock, flags);
	return ret;
}

/* pviommu_run(), and without @own and with @copy pviommu_run_copy(). */
static int ops_run(struct pviommu *v, struct pviommu_block *own,
		   struct xen_iommu_op *ops, unsigned int nr, bool copy)
{
	struct pviommu_progress progress;
	unsigned int done = 0;
	int ret;

	progress_start(&progress, ops);
	do {
		/* Between doorbells interrupts are as the caller has them. */
		if (own)
			ret = block_ring(own, ops + done, nr - done);
		else
			ret = block_ring_shared(v, ops + done, nr - done, copy);
		if (ret < 0)
			break;
		done += ret;
		if (done < nr && !progress_made(&progress, ret, ops + done))
			ret = -EIO;
	} while (ret >= 0 && done < nr);
	return ops_finish(ops, nr, min(ret, 0));
}

/**
 * pviommu_run() - run operations, in order
 * @v: the device
 * @own: a block that the caller owns and no other CPU uses meanwhile, or NULL
 * @ops: the operations; in directly mapped memory, and the caller's alone,
 *	with a status of PVIOMMU_NOT_RUN
 * @nr: how many, at least 1
 *
 * Any context. On return each has its own status, 0 or a negative errno. Of an
 * unmap that took more than one doorbell, what is left is in its fields.
 *
 * Returns: 0 if that is 0 for all; else the error of one.
 */
int pviommu_run(struct pviommu *v, struct pviommu_block *own,
		struct xen_iommu_op *ops, unsigned int nr)
{
	return ops_run(v, own, ops, nr, false);
}

/**
 * pviommu_run_copy() - run a few operations, which may be anywhere
 * @v: the device
 * @ops: the operations
 * @nr: how many, 1 to PVIOMMU_SCRATCH_OPS
 *
 * Any context; between doorbells interrupts are as the caller has them. On
 * return each has its own status, as with pviommu_run().
 *
 * Returns: 0 if that is 0 for all; else the error of one.
 */
int pviommu_run_copy(struct pviommu *v, struct xen_iommu_op *ops,
		     unsigned int nr)
{
	unsigned int i;

	for (i = 0; i < nr; i++)
		ops[i].status = PVIOMMU_NOT_RUN;
	return ops_run(v, NULL, ops, nr, true);
}

static void block_ring_queues(struct pviommu_block *block)
{
	writel(0, block->regs + XEN_PVIOMMU_BLOCK_DOORBELL);
	/* What it did is in memory when the doorbell's store is done. */
	mb();
}

/**
 * pviommu_ring() - make a call of no operations
 * @v: the device
 * @own: a block that the caller owns and no other CPU uses meanwhile, or NULL
 *
 * The device runs queues then. Any context.
 */
void pviommu_ring(struct pviommu *v, struct pviommu_block *own)
{
	struct pviommu_block *block;
	unsigned long flags;

	if (own) {
		block_ring_queues(own);
		return;
	}
	block = block_shared(v);
	spin_lock_irqsave(&block->lock, flags);
	block_ring_queues(block);
	spin_unlock_irqrestore(&block->lock, flags);
}

/**
 * pviommu_call() - run one operation
 * @v: the device
 * @op: the operation; may be on the stack
 *
 * Sleeps and tries again while the device says -EAGAIN.
 *
 * Returns: the operation's status.
 */
int pviommu_call(struct pviommu *v, struct xen_iommu_op *op)
{
	unsigned int tries;

	might_sleep();

	for (tries = 0; tries < CALL_TRIES; tries++) {
		if (tries)
			usleep_range(CALL_WAIT_US, 2 * CALL_WAIT_US);
		if (pviommu_run_copy(v, op, 1) != -EAGAIN)
			break;
	}
	return op->status;
}

/**
 * pviommu_transport_init() - find the register blocks
 * @v: the device, its registers mapped
 */
int pviommu_transport_init(struct pviommu *v)
{
	unsigned int i;

	v->nr_blocks = readl(v->regs + XEN_PVIOMMU_REG_NR_BLOCKS);
	if (!v->nr_blocks || v->nr_blocks > XEN_PVIOMMU_MAX_BLOCKS) {
		dev_err(&v->pdev->dev, "the device says it has %u register blocks\n",
			v->nr_blocks);
		return -ENODEV;
	}

	v->blocks = kcalloc(v->nr_blocks, sizeof(*v->blocks), GFP_KERNEL);
	v->scratch = kcalloc(v->nr_blocks * PVIOMMU_SCRATCH_OPS,
			     sizeof(*v->scratch), GFP_KERNEL);
	if (!v->blocks || !v->scratch) {
		pviommu_transport_free(v);
		return -ENOMEM;
	}

	for (i = 0; i < v->nr_blocks; i++) {
		struct pviommu_block *block = &v->blocks[i];

		spin_lock_init(&block->lock);
		block->regs = v->regs + XEN_PVIOMMU_BLOCKS +
			      i * XEN_PVIOMMU_BLOCK_STRIDE;
		block->scratch = &v->scratch[i * PVIOMMU_SCRATCH_OPS];
		/* Not the address of an array, so that the first call writes it. */
		block->array = ~0ULL;
	}
	return 0;
}

/**
 * pviommu_transport_free() - forget the register blocks
 * @v: the device; there are no more calls
 */
void pviommu_transport_free(struct pviommu *v)
{
	kfree(v->scratch);
	kfree(v->blocks);
	v->scratch = NULL;
	v->blocks = NULL;
}
