// SPDX-License-Identifier: GPL-2.0
/*
 * Faults: DMA that a context has no mapping for
 *
 * The device writes faults to a ring in memory and raises an interrupt. They
 * are reported to the IOMMU core, and logged at a bounded rate, as a broken
 * device may fault without end.
 */

#include <linux/gfp.h>
#include <linux/interrupt.h>
#include <linux/io-64-nonatomic-lo-hi.h>
#include <linux/iommu.h>
#include <linux/ratelimit.h>
#include <linux/sched.h>

#include "pviommu.h"

#define RING_ORDER	1
#define RING_ENTRIES	((PAGE_SIZE << RING_ORDER) / sizeof(struct xen_iommu_fault))
#define POLL_INTERVAL	HZ

static_assert(RING_ENTRIES <= XEN_PVIOMMU_FAULT_MAX_SIZE);

static const char *reason_name(u32 reason)
{
	switch (reason) {
	case XEN_IOMMU_FAULT_REASON_unmapped:
		return "unmapped";
	case XEN_IOMMU_FAULT_REASON_readonly:
		return "readonly";
	case XEN_IOMMU_FAULT_REASON_range:
		return "range";
	default:
		return "unknown";
	}
}

static void fault_report(struct pviommu *v, const struct xen_iommu_fault *f)
{
	bool write = f->flags & XEN_IOMMU_FAULT_write;
	u16 segment = f->sbdf >> 16, bdf = f->sbdf;
	struct pviommu_rid *rid;
	struct pci_dev *pdev;
	struct device *dev;

	pdev = pci_get_domain_bus_and_slot(segment, PCI_BUS_NUM(bdf),
					   bdf & 0xff);

	/* A bridge's requester ID may belong to no device. */
	dev = pdev ? &pdev->dev : &v->pdev->dev;

	/* A domain is not freed under this lock: its devices are detached first. */
	mutex_lock(&v->rids_lock);
	rid = xa_load(&v->rids, f->sbdf);
	if (pdev && rid && rid->domain)
		report_iommu_fault(rid->domain, dev, f->addr,
				   write ? IOMMU_FAULT_WRITE : IOMMU_FAULT_READ);
	mutex_unlock(&v->rids_lock);

	/* Users and tests search the log for this line. */
	dev_err_ratelimited(dev, PVIOMMU_NAME ": fault: device %04x:%02x:%02x.%x context %u %s address %#llx %s\n",
			    segment, PCI_BUS_NUM(bdf), PCI_SLOT(bdf),
			    PCI_FUNC(bdf), f->ctx, write ? "write" : "read",
			    (unsigned long long)f->addr,
			    reason_name(f->reason));

	pci_dev_put(pdev);
}

static void faults_report(struct pviommu *v)
{
	struct pviommu_faults *faults = &v->faults;
	u32 tail, lost;

	/* A fault after this raises another interrupt. */
	tail = readl(v->regs + XEN_PVIOMMU_REG_FAULT_TAIL);
	if (tail - faults->head > faults->size) {
		dev_err_ratelimited(&v->pdev->dev, "the fault ring is broken: head %u tail %u\n",
				    faults->head, tail);
		faults->head = tail;
	}
	while (faults->head != tail) {
		struct xen_iommu_fault f =
			faults->ring[faults->head % faults->size];

		faults->head++;
		fault_report(v, &f);
		cond_resched();
	}
	writel(faults->head, v->regs + XEN_PVIOMMU_REG_FAULT_HEAD);

	lost = readl(v->regs + XEN_PVIOMMU_REG_FAULT_LOST);
	if (lost != faults->lost) {
		dev_err_ratelimited(&v->pdev->dev, PVIOMMU_NAME ": %u faults lost: the ring was full\n",
				    lost - faults->lost);
		faults->lost = lost;
	}
}

static irqreturn_t faults_irq(int irq, void *data)
{
	faults_report(data);
	return IRQ_HANDLED;
}

static void faults_poll(struct work_struct *work)
{
	struct pviommu *v = container_of(to_delayed_work(work), struct pviommu,
					 faults.poll);

	faults_report(v);
	schedule_delayed_work(&v->faults.poll, POLL_INTERVAL);
}

static int faults_request_irq(struct pviommu *v)
{
	int error, irq;

	error = pci_alloc_irq_vectors(v->pdev, 1, XEN_PVIOMMU_NR_MSIX_VECTORS,
				      PCI_IRQ_MSIX);
	if (error < 0)
		return error;
	irq = pci_irq_vector(v->pdev, XEN_PVIOMMU_MSIX_VECTOR_FAULT);
	error = request_threaded_irq(irq, NULL, faults_irq, IRQF_ONESHOT,
				     PVIOMMU_NAME, v);
	if (error) {
		pci_free_irq_vectors(v->pdev);
		return error;
	}
	v->faults.irq = irq;
	return 0;
}

/**
 * pviommu_faults_start() - have faults reported
 * @v: the device
 *
 * By an interrupt if there is one, otherwise by polling once a second.
 */
int pviommu_faults_start(struct pviommu *v)
{
	struct pviommu_faults *faults = &v->faults;

	/* The device writes the ring at guest-physical addresses. */
	faults->ring = (void *)__get_free_pages(GFP_KERNEL | __GFP_ZERO,
						RING_ORDER);
	if (!faults->ring)
		return -ENOMEM;
	faults->size = RING_ENTRIES;
	INIT_DELAYED_WORK(&faults->poll, faults_poll);

	/* An earlier kernel's ring has to be off while the address changes. */
	writel(0, v->regs + XEN_PVIOMMU_REG_FAULT_CTRL);
	writeq(virt_to_phys(faults->ring), v->regs + XEN_PVIOMMU_REG_FAULT_RING);
	writel(faults->size, v->regs + XEN_PVIOMMU_REG_FAULT_SIZE);
	faults->lost = readl(v->regs + XEN_PVIOMMU_REG_FAULT_LOST);

	/* To enable the ring sets head and tail. */
	writel(XEN_PVIOMMU_FAULT_CTRL_ENABLE,
	       v->regs + XEN_PVIOMMU_REG_FAULT_CTRL);
	faults->head = readl(v->regs + XEN_PVIOMMU_REG_FAULT_HEAD);

	pviommu_faults_listen(v);
	return 0;
}

/**
 * pviommu_faults_listen() - look at the fault ring from now on
 * @v: the device, whose faults were started
 */
void pviommu_faults_listen(struct pviommu *v)
{
	if (faults_request_irq(v)) {
		dev_warn(&v->pdev->dev, "no MSI-X: looking for faults once a second\n");
		schedule_delayed_work(&v->faults.poll, 0);
	} else {
		/* A fault before the vector was set up raised no interrupt. */
		irq_wake_thread(v->faults.irq, v);
	}
}

/**
 * pviommu_faults_ignore() - look at the fault ring no more
 * @v: the device
 *
 * Faults stay in it until pviommu_faults_listen().
 */
void pviommu_faults_ignore(struct pviommu *v)
{
	struct pviommu_faults *faults = &v->faults;

	if (faults->irq) {
		free_irq(faults->irq, v);
		pci_free_irq_vectors(v->pdev);
		faults->irq = 0;
	} else {
		cancel_delayed_work_sync(&faults->poll);
	}
}

/**
 * pviommu_faults_stop() - have the device write no more faults to memory
 * @v: the device
 *
 * Also before the memory gets another owner, as at kexec.
 */
void pviommu_faults_stop(struct pviommu *v)
{
	struct pviommu_faults *faults = &v->faults;

	if (!faults->ring)
		return;

	writel(0, v->regs + XEN_PVIOMMU_REG_FAULT_CTRL);
	/* The read waits until the write took effect. */
	readl(v->regs + XEN_PVIOMMU_REG_FAULT_CTRL);
	pviommu_faults_ignore(v);
	free_pages((unsigned long)faults->ring, RING_ORDER);
	faults->ring = NULL;
}
