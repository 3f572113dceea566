// SPDX-License-Identifier: GPL-2.0
/*
 * dma-api: Linux's DMA API on an edu device, which moves data to see what is
 * mapped
 *
 * Runs while it is loaded: it stays loaded if all was right, and cannot be
 * loaded (-EIO) if something was not. One line in the log for each check. It
 * needs an edu device without a driver, whose domain is the DMA API's.
 */

#include <linux/delay.h>
#include <linux/dma-mapping.h>
#include <linux/errno.h>
#include <linux/io-64-nonatomic-lo-hi.h>
#include <linux/iommu.h>
#include <linux/kthread.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/pci.h>
#include <linux/random.h>
#include <linux/scatterlist.h>
#include <linux/sched.h>
#include <linux/slab.h>
#include <linux/version.h>

#include <hw/xen/interface/iommu_op.h>

#include "edu-regs.h"
#include "expect.h"

/* It has 28 address lines, and takes 100 ms. */
#define EDU_BITS	28
#define EDU_POLL_MS	10
#define EDU_POLLS	2000

#define RAM_ORDER	9
#define RAM_PAGES	(1U << RAM_ORDER)

/* More than a queue has room for, and than the driver caches. */
#define MANY		1500
#define LIST_PAGES	200
#define NR_THREADS	4
#define THREAD_PAGES	(RAM_PAGES / NR_THREADS / 2)
/* What the threads leave. */
#define FREE_PAGE	(RAM_PAGES / 2)
/* Where the DMA API, which begins at the top, does not get to. */
#define IOVA_LOW	0x00100000UL

static struct device *dev;
static struct iommu_domain *domain;
static void __iomem *regs;
static u8 *ram;
static phys_addr_t edu_bar;
static phys_addr_t bar;

static u8 *page_at(unsigned int i)
{
	return ram + i * PAGE_SIZE;
}

static void edu_move(u64 from, u64 to, u32 command)
{
	unsigned int polls = 0;

	writeq(from, regs + EDU_DMA_SRC);
	writeq(to, regs + EDU_DMA_DST);
	writeq(PAGE_SIZE, regs + EDU_DMA_COUNT);
	writeq(command | EDU_DMA_RUN, regs + EDU_DMA_CMD);
	while (readq(regs + EDU_DMA_CMD) & EDU_DMA_RUN && ++polls < EDU_POLLS)
		msleep(EDU_POLL_MS);
	EXPECT(polls < EDU_POLLS);
}

/* The device reads a page, and keeps it. */
static void device_reads(dma_addr_t addr)
{
	edu_move(addr, EDU_BUFFER, 0);
}

/* The device writes the page it has. */
static void device_writes(dma_addr_t addr)
{
	edu_move(EDU_BUFFER, addr, EDU_DMA_TO_RAM);
}

static dma_addr_t map(void *page, enum dma_data_direction dir)
{
	dma_addr_t addr = dma_map_single(dev, page, PAGE_SIZE, dir);

	EXPECT(!dma_mapping_error(dev, addr));
	return addr;
}

/* Other pages each time; what is unmapped is not written any more. */
static void test_moves(void)
{
	u8 *from = page_at(FREE_PAGE), *to = page_at(FREE_PAGE + 1);
	dma_addr_t source, target;
	unsigned int i;

	for (i = 0; i < 4; i++, from += 2 * PAGE_SIZE, to += 2 * PAGE_SIZE) {
		get_random_bytes(from, PAGE_SIZE);
		memset(to, 0, PAGE_SIZE);
		source = map(from, DMA_TO_DEVICE);
		target = map(to, DMA_FROM_DEVICE);
		device_reads(source);
		device_writes(target);
		dma_unmap_single(dev, source, PAGE_SIZE, DMA_TO_DEVICE);
		dma_unmap_single(dev, target, PAGE_SIZE, DMA_FROM_DEVICE);
		EXPECT(!memcmp(from, to, PAGE_SIZE));
	}

	/* In lazy mode it may for a while. */
	if (domain->type == IOMMU_DOMAIN_DMA) {
		memset(to, 0, PAGE_SIZE);
		target = map(to, DMA_FROM_DEVICE);
		dma_unmap_single(dev, target, PAGE_SIZE, DMA_FROM_DEVICE);
		device_writes(target);
		EXPECT(!memchr_inv(to, 0, PAGE_SIZE));
	}

	/* What is mapped for reading is only read. */
	memset(to, 0, PAGE_SIZE);
	source = map(to, DMA_TO_DEVICE);
	device_writes(source);
	dma_unmap_single(dev, source, PAGE_SIZE, DMA_TO_DEVICE);
	EXPECT(!memchr_inv(to, 0, PAGE_SIZE));
	pr_info("dma-api: pages are moved, and left alone: done\n");
}

/* The same page many times, as nothing else has to be known of the others. */
static void test_many(void)
{
	u8 *from = page_at(FREE_PAGE), *to = page_at(FREE_PAGE + 1);
	dma_addr_t *addr = kcalloc(MANY, sizeof(*addr), GFP_KERNEL);
	unsigned int i;

	if (!addr) {
		EXPECT(false);
		return;
	}
	get_random_bytes(from, PAGE_SIZE);
	for (i = 0; i < MANY; i++)
		addr[i] = map(i % 2 ? to : from, DMA_BIDIRECTIONAL);
	for (i = 0; i < MANY; i += MANY / 3) {
		memset(to, 0, PAGE_SIZE);
		device_reads(addr[i & ~1]);
		device_writes(addr[i | 1]);
		EXPECT(!memcmp(from, to, PAGE_SIZE));
	}
	for (i = 0; i < MANY; i++)
		EXPECT(iommu_iova_to_phys(domain, addr[i]) ==
		       virt_to_phys(i % 2 ? to : from));
	for (i = 0; i < MANY; i++)
		dma_unmap_single(dev, addr[i], PAGE_SIZE, DMA_BIDIRECTIONAL);
	kfree(addr);
	pr_info("dma-api: %u pages at a time: done\n", MANY);
}

/* Pages backwards, so that each is a map of its own. */
static void test_list(void)
{
	struct scatterlist *list = kcalloc(LIST_PAGES, sizeof(*list),
					   GFP_KERNEL);
	u8 *first, *last;
	unsigned int i;

	if (!list) {
		EXPECT(false);
		return;
	}
	sg_init_table(list, LIST_PAGES);
	for (i = 0; i < LIST_PAGES; i++)
		sg_set_buf(&list[i], page_at(RAM_PAGES - 1 - i), PAGE_SIZE);
	first = sg_virt(&list[0]);
	last = sg_virt(&list[LIST_PAGES - 1]);
	get_random_bytes(last, PAGE_SIZE);
	memset(first, 0, PAGE_SIZE);

	/* However many there are for the device, they follow each other. */
	if (!dma_map_sg(dev, list, LIST_PAGES, DMA_BIDIRECTIONAL)) {
		EXPECT(false);
		goto out;
	}
	device_reads(sg_dma_address(list) + (LIST_PAGES - 1) * PAGE_SIZE);
	device_writes(sg_dma_address(list));
	dma_unmap_sg(dev, list, LIST_PAGES, DMA_BIDIRECTIONAL);
	EXPECT(!memcmp(first, last, PAGE_SIZE));
	if (domain->type == IOMMU_DOMAIN_DMA) {
		memset(first, 0, PAGE_SIZE);
		device_writes(sg_dma_address(list));
		EXPECT(!memchr_inv(first, 0, PAGE_SIZE));
	}
	pr_info("dma-api: a list of %u pages: done\n", LIST_PAGES);
out:
	kfree(list);
}

/* Buffers of all lengths, one after the other. */
static int test_thread(void *data)
{
	unsigned long number = (unsigned long)data, rounds = 0;

	while (!kthread_should_stop()) {
		unsigned int first = get_random_u32() % THREAD_PAGES;
		unsigned int pages = 1 + get_random_u32() %
				     (THREAD_PAGES - first);
		u8 *buffer = page_at(number * THREAD_PAGES + first);
		dma_addr_t addr;

		addr = dma_map_single(dev, buffer, pages * PAGE_SIZE,
				      DMA_TO_DEVICE);
		EXPECT(!dma_mapping_error(dev, addr));
		EXPECT(iommu_iova_to_phys(domain, addr) ==
		       virt_to_phys(buffer));
		EXPECT(iommu_iova_to_phys(domain, addr +
					  (pages - 1) * PAGE_SIZE) ==
		       virt_to_phys(buffer + (pages - 1) * PAGE_SIZE));
		dma_unmap_single(dev, addr, pages * PAGE_SIZE, DMA_TO_DEVICE);
		rounds++;
		cond_resched();
	}
	EXPECT(rounds > 0);
	pr_info("dma-api: thread %lu, %lu rounds: done\n", number, rounds);
	return 0;
}

static void test_threads(void)
{
	struct task_struct *threads[NR_THREADS];
	unsigned long i;

	for (i = 0; i < NR_THREADS; i++)
		threads[i] = kthread_run(test_thread, (void *)i,
					 "dma-api/%lu", i);
	test_moves();
	test_list();
	for (i = 0; i < NR_THREADS; i++) {
		EXPECT(!IS_ERR(threads[i]));
		if (!IS_ERR(threads[i]))
			kthread_stop(threads[i]);
	}
}

static int map_low(phys_addr_t paddr)
{
	int prot = IOMMU_READ | IOMMU_WRITE;

#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 12, 0)
	return iommu_map(domain, IOVA_LOW, paddr, PAGE_SIZE, prot, GFP_KERNEL);
#else
	return iommu_map(domain, IOVA_LOW, paddr, PAGE_SIZE, prot);
#endif
}

/*
 * The IOMMU's own BAR cannot be mapped. If the caller says that it is not RAM, it
 * gets an error; if not, it may get none the first time, but does the next time.
 */
static void test_refused(void)
{
	dma_addr_t addr;

	addr = dma_map_resource(dev, bar, PAGE_SIZE, DMA_BIDIRECTIONAL, 0);
	EXPECT(dma_mapping_error(dev, addr));
	/* A device's is as RAM. */
	addr = dma_map_resource(dev, edu_bar, PAGE_SIZE, DMA_BIDIRECTIONAL, 0);
	EXPECT(!dma_mapping_error(dev, addr));
	EXPECT(iommu_iova_to_phys(domain, addr) == edu_bar);
	dma_unmap_resource(dev, addr, PAGE_SIZE, DMA_BIDIRECTIONAL, 0);

	if (!map_low(bar)) {
		/* Whatever became of it, the device has looked. */
		device_reads(IOVA_LOW);
		EXPECT(iommu_unmap(domain, IOVA_LOW, PAGE_SIZE) == PAGE_SIZE);
		EXPECT(map_low(bar) < 0);
	}
	EXPECT(!map_low(virt_to_phys(ram)));
	EXPECT(iommu_iova_to_phys(domain, IOVA_LOW) == virt_to_phys(ram));
	EXPECT(iommu_unmap(domain, IOVA_LOW, PAGE_SIZE) == PAGE_SIZE);
	EXPECT(!iommu_iova_to_phys(domain, IOVA_LOW));
	pr_info("dma-api: what cannot be mapped: done\n");
}

static int __init dma_api_init(void)
{
	struct pci_dev *pdev = pci_get_device(EDU_VENDOR, EDU_DEVICE, NULL);
	struct pci_dev *iommu;
	int error;

	if (!pdev) {
		pr_err("dma-api: no edu device\n");
		return -ENODEV;
	}
	dev = &pdev->dev;
	domain = iommu_get_domain_for_dev(dev);
	if (!domain) {
		pr_err("dma-api: the edu device is behind no IOMMU\n");
		error = -ENODEV;
		goto put_device;
	}
	error = pci_enable_device_mem(pdev);
	if (error)
		goto put_device;
	pci_set_master(pdev);
	edu_bar = pci_resource_start(pdev, 0);
	iommu = pci_get_device(XEN_PVIOMMU_PCI_VENDOR_ID,
			       XEN_PVIOMMU_PCI_DEVICE_ID, NULL);
	bar = iommu ? pci_resource_start(iommu, XEN_PVIOMMU_BAR) : 0;
	pci_dev_put(iommu);
	regs = pci_iomap(pdev, 0, 0);
	ram = (void *)__get_free_pages(GFP_KERNEL, RAM_ORDER);
	error = -ENOMEM;
	if (!bar || !regs || !ram)
		goto free;
	error = dma_set_mask_and_coherent(dev, DMA_BIT_MASK(EDU_BITS));
	if (error)
		goto free;

	test_moves();
	test_many();
	test_list();
	test_threads();
	test_refused();
	/* It goes on all the same. */
	test_moves();
	test_list();

	error = atomic_read(&failures) ? -EIO : 0;
	pr_info("dma-api: %s\n", error ? "FAILED" : "all ok");
free:
	free_pages((unsigned long)ram, RAM_ORDER);
	if (regs)
		pci_iounmap(pdev, regs);
	pci_clear_master(pdev);
	pci_disable_device(pdev);
put_device:
	pci_dev_put(pdev);
	return error;
}
module_init(dma_api_init);

static void __exit dma_api_exit(void)
{
}
module_exit(dma_api_exit);

MODULE_DESCRIPTION("Test of the DMA API on an edu device");
MODULE_AUTHOR("xen-pviommu project");
MODULE_LICENSE("GPL");
