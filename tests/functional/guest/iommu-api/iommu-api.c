// SPDX-License-Identifier: GPL-2.0
/*
 * iommu-api: Linux's IOMMU API on a domain of its own, and what drivers seldom
 * do: ranges with gaps, maps that fail, many CPUs in one domain
 *
 * Runs while it is loaded: it stays loaded if all was right, and cannot be
 * loaded (-EIO) if something was not. One line in the log for each check. It
 * needs an edu device without a driver. The IOMMU's own BAR is what cannot be
 * mapped.
 */

#include <linux/delay.h>
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

#define RAM_ORDER	9
#define RAM_PAGES	(1U << RAM_ORDER)

#define IOVA_RANGE	0x01000000UL
#define IOVA_LIST	0x02000000UL
/* 256 MiB. */
#define IOVA_RUNS	0x40000000UL
#define NR_RUNS		128
#define IOVA_THREADS	0x08000000UL
/* Its frames go round the end of what the driver caches. */
#define IOVA_MANY	0x103f0000UL
#define IOVA_MSI	0xfee00000UL

#define LIST_PAGES	300
#define NR_THREADS	4
#define THREAD_PAGES	64
#define THREAD_SECONDS	3
#define NR_DOMAINS	64
#define MANY_PAGES	64

#define READ_WRITE	(IOMMU_READ | IOMMU_WRITE)

static struct iommu_domain *domain;
static struct page *ram;
static phys_addr_t bar;
static phys_addr_t edu_bar;
static void __iomem *regs;

/* What the device counted. */
static u64 counter(unsigned int n)
{
	return readq(regs + XEN_PVIOMMU_REG_COUNTER(n));
}

static struct iommu_domain *new_domain(struct device *dev)
{
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 12, 0)
	return iommu_paging_domain_alloc(dev);
#else
	return iommu_domain_alloc(dev->bus);
#endif
}

static int map(unsigned long iova, phys_addr_t paddr, unsigned int pages)
{
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 12, 0)
	return iommu_map(domain, iova, paddr, pages * PAGE_SIZE, READ_WRITE,
			 GFP_KERNEL);
#else
	return iommu_map(domain, iova, paddr, pages * PAGE_SIZE, READ_WRITE);
#endif
}

static ssize_t map_list(unsigned long iova, struct scatterlist *list,
			unsigned int n)
{
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 12, 0)
	return iommu_map_sg(domain, iova, list, n, READ_WRITE, GFP_KERNEL);
#else
	return iommu_map_sg(domain, iova, list, n, READ_WRITE);
#endif
}

/* How many pages were unmapped. */
static unsigned int unmapped(unsigned long iova, unsigned int pages)
{
	return iommu_unmap(domain, iova, pages * PAGE_SIZE) / PAGE_SIZE;
}

static bool unmap(unsigned long iova, unsigned int pages)
{
	return unmapped(iova, pages) == pages;
}

/* Every page of the range leads where it should: from @paddr on, or nowhere. */
static bool leads_to(unsigned long iova, unsigned int pages, phys_addr_t paddr)
{
	unsigned int i;

	for (i = 0; i < pages; i++) {
		phys_addr_t want = paddr ? paddr + i * PAGE_SIZE + i : 0;

		if (iommu_iova_to_phys(domain, iova + i * PAGE_SIZE + i) != want)
			return false;
	}
	return true;
}

static void test_range(void)
{
	phys_addr_t paddr = page_to_phys(ram);
	struct iommu_iotlb_gather gather;

	EXPECT(!map(IOVA_RANGE, paddr, RAM_PAGES));
	EXPECT(leads_to(IOVA_RANGE, RAM_PAGES, paddr));
	EXPECT(unmap(IOVA_RANGE + 100 * PAGE_SIZE, 10));
	EXPECT(leads_to(IOVA_RANGE, 100, paddr));
	EXPECT(leads_to(IOVA_RANGE + 100 * PAGE_SIZE, 10, 0));
	EXPECT(leads_to(IOVA_RANGE + 110 * PAGE_SIZE, RAM_PAGES - 110,
			paddr + 110 * PAGE_SIZE));

	/* A range with a gap is unmapped, and what was mapped is counted. */
	EXPECT(unmapped(IOVA_RANGE, RAM_PAGES) == RAM_PAGES - 10);
	EXPECT(leads_to(IOVA_RANGE, RAM_PAGES, 0));
	EXPECT(!unmapped(IOVA_RANGE, RAM_PAGES));

	/* With gaps at both ends, and more than one. */
	EXPECT(!map(IOVA_RANGE + 5 * PAGE_SIZE, paddr, 20));
	EXPECT(!map(IOVA_RANGE + 30 * PAGE_SIZE, paddr, 1));
	EXPECT(unmapped(IOVA_RANGE, RAM_PAGES) == 21);
	EXPECT(leads_to(IOVA_RANGE, RAM_PAGES, 0));

	/* It is gone when unmap() says so, not when its flush is done. */
	EXPECT(!map(IOVA_RANGE, paddr, 4));
	EXPECT(leads_to(IOVA_RANGE, 4, paddr));
	iommu_iotlb_gather_init(&gather);
	EXPECT(iommu_unmap_fast(domain, IOVA_RANGE, 4 * PAGE_SIZE, &gather) ==
	       4 * PAGE_SIZE);
	EXPECT(leads_to(IOVA_RANGE, 4, 0));
	iommu_iotlb_sync(domain, &gather);
	pr_info("iommu-api: a range, whole and with a gap: done\n");
}

/*
 * As VFIO does: map pieces, then ask for each page where it leads, and unmap what
 * goes on the same way. One piece is one run; each costs one doorbell a step.
 */
static void test_runs(void)
{
	unsigned long iova, end = IOVA_RUNS + NR_RUNS * RAM_PAGES * PAGE_SIZE;
	phys_addr_t paddr = page_to_phys(ram), start;
	unsigned int i, pages, runs = 0;
	u64 doorbells = counter(XEN_PVIOMMU_COUNTER_DOORBELLS);
	u64 mapped;

	for (i = 0; i < NR_RUNS; i++)
		EXPECT(!map(IOVA_RUNS + i * RAM_PAGES * PAGE_SIZE, paddr,
			    RAM_PAGES));
	mapped = counter(XEN_PVIOMMU_COUNTER_DOORBELLS);
	for (iova = IOVA_RUNS; iova < end; iova += pages * PAGE_SIZE) {
		start = iommu_iova_to_phys(domain, iova);
		EXPECT(start == paddr);
		for (pages = 1; pages < RAM_PAGES; pages++)
			if (iommu_iova_to_phys(domain, iova + pages * PAGE_SIZE) !=
			    start + pages * PAGE_SIZE)
				break;
		EXPECT(pages == RAM_PAGES);
		EXPECT(unmap(iova, pages));
		runs++;
	}
	doorbells = counter(XEN_PVIOMMU_COUNTER_DOORBELLS) - doorbells;
	mapped = doorbells - (counter(XEN_PVIOMMU_COUNTER_DOORBELLS) - mapped);
	pr_info("iommu-api: %u runs of %u pages: %llu doorbells to map, %llu in all\n",
		runs, RAM_PAGES, mapped, doorbells);
	EXPECT(runs == NR_RUNS);
	/* A map, a look-up, an unmap with its flush; others have few. */
	EXPECT(doorbells <= 3 * NR_RUNS + NR_RUNS / 2);
}

static void test_refused(void)
{
	phys_addr_t paddr = page_to_phys(ram);

	EXPECT(map(IOVA_RANGE, bar, 4) < 0);
	EXPECT(leads_to(IOVA_RANGE, 4, 0));
	EXPECT(map(IOVA_MSI, paddr, 1) < 0);

	/* The next one at that place is not taken for it. */
	EXPECT(!map(IOVA_RANGE, paddr, 4));
	EXPECT(leads_to(IOVA_RANGE, 4, paddr));
	EXPECT(unmap(IOVA_RANGE, 4));
	EXPECT(leads_to(IOVA_RANGE, 4, 0));
	pr_info("iommu-api: the IOMMU's BAR, and the MSI window: done\n");
}

/* A device's registers, as VFIO maps them for other devices */
static void test_bar(void)
{
	EXPECT(!map(IOVA_RANGE, edu_bar, 4));
	EXPECT(leads_to(IOVA_RANGE, 4, edu_bar));
	EXPECT(unmap(IOVA_RANGE, 4));
	EXPECT(leads_to(IOVA_RANGE, 4, 0));
	pr_info("iommu-api: the BAR of a device: done\n");
}

/* Pages backwards, so that each is a map of its own; @refused fails. */
static void test_list(int refused)
{
	struct scatterlist *list;
	unsigned int i;

	list = kcalloc(LIST_PAGES, sizeof(*list), GFP_KERNEL);
	if (!list) {
		EXPECT(false);
		return;
	}
	sg_init_table(list, LIST_PAGES);
	for (i = 0; i < LIST_PAGES; i++)
		sg_set_page(&list[i], ram + RAM_PAGES - 1 - i, PAGE_SIZE, 0);

	if (refused < 0) {
		EXPECT(map_list(IOVA_LIST, list, LIST_PAGES) ==
		       LIST_PAGES * PAGE_SIZE);
		for (i = 0; i < LIST_PAGES; i++)
			EXPECT(leads_to(IOVA_LIST + i * PAGE_SIZE, 1,
					page_to_phys(sg_page(&list[i]))));
		EXPECT(unmap(IOVA_LIST, LIST_PAGES));
	} else {
		sg_set_page(&list[refused], pfn_to_page(PHYS_PFN(bar)),
			    PAGE_SIZE, 0);
		EXPECT(map_list(IOVA_LIST, list, LIST_PAGES) <= 0);
	}
	EXPECT(leads_to(IOVA_LIST, LIST_PAGES, 0));
	kfree(list);
	pr_info("iommu-api: a list of %u pages, %d refused: done\n",
		LIST_PAGES, refused);
}

/*
 * The threads' ranges are neighbours, in bus addresses and in RAM: what they
 * map can travel together, and one's failures must not be the other's.
 */
static int test_thread(void *data)
{
	unsigned long number = (unsigned long)data, rounds = 0;
	unsigned long end = jiffies + THREAD_SECONDS * HZ;

	while (time_before(jiffies, end)) {
		u32 random = get_random_u32();
		unsigned int first = random % THREAD_PAGES;
		unsigned int pages = 1 + random / 256 % (THREAD_PAGES - first);
		unsigned long page = number * THREAD_PAGES + first;
		unsigned long iova = IOVA_THREADS + page * PAGE_SIZE;
		phys_addr_t paddr = page_to_phys(ram + page);

		if (random >> 24 < 50) {
			EXPECT(map(iova, bar, pages) < 0);
		} else {
			EXPECT(!map(iova, paddr, pages));
			EXPECT(leads_to(iova, pages, paddr));
			EXPECT(unmap(iova, pages));
		}
		EXPECT(leads_to(iova, 1, 0));
		rounds++;
		cond_resched();
	}
	pr_info("iommu-api: thread %lu, %lu rounds: done\n", number, rounds);

	while (!kthread_should_stop())
		msleep(20);
	return 0;
}

static void test_threads(void)
{
	struct task_struct *threads[NR_THREADS];
	unsigned long i;

	for (i = 0; i < NR_THREADS; i++)
		threads[i] = kthread_run(test_thread, (void *)i,
					 "iommu-api/%lu", i);
	msleep((THREAD_SECONDS + 1) * 1000);
	for (i = 0; i < NR_THREADS; i++) {
		EXPECT(!IS_ERR(threads[i]));
		if (!IS_ERR(threads[i]))
			kthread_stop(threads[i]);
	}
	EXPECT(leads_to(IOVA_THREADS, NR_THREADS * THREAD_PAGES, 0));
}

/* More domains than there are register blocks for one each. */
static void test_many(struct device *dev)
{
	static struct iommu_domain *domains[NR_DOMAINS];
	struct iommu_domain *first = domain;
	phys_addr_t paddr = page_to_phys(ram);
	unsigned int i, nr;

	for (nr = 0; nr < NR_DOMAINS; nr++) {
		domains[nr] = new_domain(dev);
		if (IS_ERR_OR_NULL(domains[nr]))
			break;
		domain = domains[nr];
		EXPECT(!map(IOVA_MANY, paddr + nr * PAGE_SIZE, MANY_PAGES));
	}
	EXPECT(nr == NR_DOMAINS);
	for (i = 0; i < nr; i++) {
		domain = domains[i];
		EXPECT(leads_to(IOVA_MANY, MANY_PAGES, paddr + i * PAGE_SIZE));
		EXPECT(unmap(IOVA_MANY, MANY_PAGES));
		EXPECT(leads_to(IOVA_MANY, MANY_PAGES, 0));
		iommu_domain_free(domain);
	}
	domain = first;
}

static int __init iommu_api_init(void)
{
	struct pci_dev *pdev = pci_get_device(EDU_VENDOR, EDU_DEVICE, NULL);
	struct pci_dev *iommu = NULL;
	int error = -ENOMEM;

	if (!pdev) {
		pr_err("iommu-api: no edu device\n");
		return -ENODEV;
	}
	edu_bar = pci_resource_start(pdev, 0);

	iommu = pci_get_device(XEN_PVIOMMU_PCI_VENDOR_ID,
			       XEN_PVIOMMU_PCI_DEVICE_ID, NULL);
	regs = iommu ? pci_iomap(iommu, XEN_PVIOMMU_BAR, 0) : NULL;
	if (!regs)
		goto put_device;
	bar = pci_resource_start(iommu, XEN_PVIOMMU_BAR);
	ram = alloc_pages(GFP_KERNEL, RAM_ORDER);
	if (!ram)
		goto unmap_regs;
	domain = new_domain(&pdev->dev);
	if (IS_ERR_OR_NULL(domain))
		goto free_ram;
	error = iommu_attach_device(domain, &pdev->dev);
	if (error)
		goto free_domain;

	test_range();
	test_runs();
	test_refused();
	test_bar();
	test_list(-1);
	test_list(0);
	test_list(LIST_PAGES / 2);
	test_list(LIST_PAGES - 1);
	test_threads();
	test_many(&pdev->dev);

	error = atomic_read(&failures) ? -EIO : 0;
	pr_info("iommu-api: %s\n", error ? "FAILED" : "all ok");

	iommu_detach_device(domain, &pdev->dev);
free_domain:
	iommu_domain_free(domain);
free_ram:
	__free_pages(ram, RAM_ORDER);
unmap_regs:
	pci_iounmap(iommu, regs);
put_device:
	pci_dev_put(iommu);
	pci_dev_put(pdev);
	return error;
}
module_init(iommu_api_init);

static void __exit iommu_api_exit(void)
{
}
module_exit(iommu_api_exit);

MODULE_DESCRIPTION("Test of the IOMMU API on an edu device");
MODULE_AUTHOR("xen-pviommu project");
MODULE_LICENSE("GPL");
