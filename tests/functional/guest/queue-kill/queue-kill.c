// SPDX-License-Identifier: GPL-2.0
/*
 * queue-kill: has xen-pviommu give up a queue, while operations are in it
 *
 * "ADDRESS SIZE WHAT", written to the parameter kill, waits until the queue at
 * that address (in hex) and of so many operations holds what is asked for, and
 * gives it an invalid tail. The driver, which keeps a tail of its own, has to
 * find out. WHAT is one of
 *
 *   unmaps   unmaps, and no map, as its DMA may be about to begin
 *   buffers  maps of what devices write, and none of what they only read: the
 *            buffers of a NIC's that come last in its ring
 *
 * One line in the log says what was in it.
 */

#include <linux/delay.h>
#include <linux/errno.h>
#include <linux/io.h>
#include <linux/kernel.h>
#include <linux/module.h>
#include <linux/pci.h>
#include <linux/stop_machine.h>
#include <linux/string.h>

#include <hw/xen/interface/iommu_op.h>

#define TRIES	100000
#define WAIT_US	200
/* No queue is that large. */
#define NONSENSE 0x40000000

/**
 * struct victim - a queue
 * @queue: what the device sees of it
 * @doorbell: of a register block
 * @nr_ops: its size
 * @maps: whether it shall have maps; else unmaps
 * @nr: how many operations of each kind did not run
 * @readonly: whether there are maps for reading among them
 */
struct victim {
	struct xen_iommu_queue *queue;
	void __iomem *doorbell;
	u32 nr_ops;
	bool maps;
	unsigned int nr[XEN_IOMMUOP_set_queue + 1];
	bool readonly;
};

static void count(struct victim *v, u32 tail)
{
	u32 n = READ_ONCE(v->queue->head);
	const struct xen_iommu_op *op;

	memset(v->nr, 0, sizeof(v->nr));
	v->readonly = false;
	for (; n != tail; n++) {
		op = &v->queue->ops[n % v->nr_ops];
		v->nr[min_t(size_t, op->op, ARRAY_SIZE(v->nr) - 1)]++;
		if (op->op == XEN_IOMMUOP_map)
			v->readonly |= op->flags & XEN_IOMMUOP_map_readonly;
	}
}

static bool fits(const struct victim *v)
{
	return v->maps ? v->nr[XEN_IOMMUOP_map] && !v->readonly :
			 v->nr[XEN_IOMMUOP_unmap] && !v->nr[XEN_IOMMUOP_map];
}

/* With all CPUs here, nobody is between a map and what it is for. */
static int kill_now(void *data)
{
	struct victim *v = data;
	u32 tail = READ_ONCE(v->queue->tail);

	count(v, tail);
	if (!fits(v))
		return -EAGAIN;
	WRITE_ONCE(v->queue->tail, tail + NONSENSE);
	writel(0, v->doorbell);
	/* What it did is in memory when the store is done. */
	mb();
	if (!(READ_ONCE(v->queue->flags) & XEN_IOMMU_QUEUE_dead))
		return -EIO;
	/* Some may have run meanwhile, for DMA. */
	count(v, tail);
	return 0;
}

static int kill_soon(struct victim *v)
{
	unsigned int i;
	int error;

	for (i = 0; i < TRIES; i++) {
		error = stop_machine(kill_now, v, NULL);
		if (error != -EAGAIN)
			break;
		usleep_range(WAIT_US, 2 * WAIT_US);
	}
	pr_info("queue-kill: %u maps, %u unmaps, %u flushes did not run: error %d\n",
		v->nr[XEN_IOMMUOP_map], v->nr[XEN_IOMMUOP_unmap],
		v->nr[XEN_IOMMUOP_flush], error);
	return error;
}

static int kill_set(const char *text, const struct kernel_param *kp)
{
	struct pci_dev *pdev = pci_get_device(XEN_PVIOMMU_PCI_VENDOR_ID,
					      XEN_PVIOMMU_PCI_DEVICE_ID, NULL);
	unsigned long long address;
	struct victim v = {};
	void __iomem *regs;
	char what[16];
	int error;

	if (!pdev)
		return -ENODEV;
	error = -EINVAL;
	if (sscanf(text, "%llx %u %15s", &address, &v.nr_ops, what) != 3 ||
	    !v.nr_ops)
		goto put_device;
	v.queue = phys_to_virt(address);
	v.maps = !strcmp(what, "buffers");
	error = -ENOMEM;
	regs = pci_iomap(pdev, XEN_PVIOMMU_BAR, 0);
	if (!regs)
		goto put_device;
	v.doorbell = regs + XEN_PVIOMMU_BLOCKS + XEN_PVIOMMU_BLOCK_DOORBELL;
	error = kill_soon(&v);
	pci_iounmap(pdev, regs);
put_device:
	pci_dev_put(pdev);
	return error;
}

static const struct kernel_param_ops kill_ops = {
	.set = kill_set,
};
module_param_cb(kill, &kill_ops, NULL, 0200);
MODULE_PARM_DESC(kill, "a queue's address, its size, and what shall be in it");

static int __init queue_kill_init(void)
{
	return 0;
}
module_init(queue_kill_init);

static void __exit queue_kill_exit(void)
{
}
module_exit(queue_kill_exit);

MODULE_DESCRIPTION("Has xen-pviommu give up a queue");
MODULE_AUTHOR("xen-pviommu project");
MODULE_LICENSE("GPL");
