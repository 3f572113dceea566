// SPDX-License-Identifier: GPL-2.0
/*
 * dma-bench: what it costs to map and unmap buffers for a PCI function with
 * the DMA API, whichever IOMMU there is
 *
 * It drives edu devices, which do nothing meanwhile. Write to the parameter
 * 'run', and read the answer there:
 *
 *   run BYTES PIECES THREADS DEVICES MS
 *	Maps and unmaps again and again: a buffer of BYTES, or, if PIECES is not
 *	1, a scatterlist of so many buffers that are no neighbours. THREADS
 *	threads, each on a CPU of its own, take the DEVICES in turn.
 *	Answer: "NUMBER NS": how often all of them did, and for how long
 *   hold PAGES DEVICES
 *	Has so many pages mapped, each by itself, for each device, until the
 *	next hold. Answer: "NUMBER NS": the pages mapped, and the time it took
 *
 * A write fails if a mapping does.
 */

#include <linux/completion.h>
#include <linux/dma-mapping.h>
#include <linux/jiffies.h>
#include <linux/kthread.h>
#include <linux/ktime.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/pci.h>
#include <linux/scatterlist.h>
#include <linux/slab.h>
#include <linux/vmalloc.h>

#define MAX_DEVICES	64
#define MAX_THREADS	8
#define MAX_PIECES	4096

/* Scatterlists of hold. */
#define LIST_PAGES	1024

struct list {
	struct scatterlist *sgl;
	unsigned int nr;
	struct device *dev;
};

struct worker {
	unsigned int first;
	unsigned int bytes;
	unsigned int pieces;
	unsigned int devices;
	unsigned long ms;
	void *buffer;
	struct scatterlist *sgl;
	u64 count;
	u64 ns;
	int error;
	struct completion *go;
	struct completion done;
};

static struct device *devices[MAX_DEVICES];
static unsigned int nr_devices;

/* All below. */
static DEFINE_MUTEX(lock);
static u64 answer_count, answer_ns;
static struct list *held;
static unsigned int nr_held;
static struct page **pages;
static unsigned int nr_pages;

static int once(struct worker *w, struct device *dev)
{
	dma_addr_t addr;

	if (w->pieces > 1) {
		if (!dma_map_sg(dev, w->sgl, w->pieces, DMA_BIDIRECTIONAL))
			return -EIO;
		dma_unmap_sg(dev, w->sgl, w->pieces, DMA_BIDIRECTIONAL);
		return 0;
	}
	addr = dma_map_single(dev, w->buffer, w->bytes, DMA_BIDIRECTIONAL);
	if (dma_mapping_error(dev, addr))
		return -EIO;
	dma_unmap_single(dev, addr, w->bytes, DMA_BIDIRECTIONAL);
	return 0;
}

static int work(void *data)
{
	struct worker *w = data;
	unsigned long end;
	ktime_t begun;

	wait_for_completion(w->go);
	end = jiffies + msecs_to_jiffies(w->ms);
	begun = ktime_get();
	while (!w->error && time_before(jiffies, end)) {
		w->error = once(w, devices[(w->first + w->count) % w->devices]);
		w->count++;
		cond_resched();
	}
	w->ns = ktime_to_ns(ktime_sub(ktime_get(), begun));
	complete(&w->done);
	return 0;
}

static void worker_free(struct worker *w)
{
	if (w->buffer)
		free_pages_exact(w->buffer, (size_t)w->bytes * w->pieces * 2);
	vfree(w->sgl);
}

/* Pieces have as much room between them, so that none go together. */
static int worker_init(struct worker *w)
{
	struct scatterlist *sg;
	unsigned int i;

	init_completion(&w->done);
	w->buffer = alloc_pages_exact((size_t)w->bytes * w->pieces * 2, GFP_KERNEL);
	w->sgl = vcalloc(w->pieces, sizeof(*w->sgl));
	if (!w->buffer || !w->sgl)
		return -ENOMEM;
	sg_init_table(w->sgl, w->pieces);
	for_each_sg(w->sgl, sg, w->pieces, i)
		sg_set_buf(sg, w->buffer + (size_t)w->bytes * i * 2, w->bytes);
	return 0;
}

static int run(unsigned int bytes, unsigned int pieces, unsigned int threads,
	       unsigned int nr, unsigned long ms)
{
	DECLARE_COMPLETION_ONSTACK(go);
	struct worker *workers;
	struct task_struct *task;
	unsigned int i, started = 0;
	int error = 0;

	if (!bytes || bytes > SZ_2M || !pieces || pieces > MAX_PIECES ||
	    !threads || threads > min(MAX_THREADS, (int)num_online_cpus()) ||
	    !nr || nr > nr_devices)
		return -EINVAL;

	workers = kcalloc(threads, sizeof(*workers), GFP_KERNEL);
	if (!workers)
		return -ENOMEM;
	for (i = 0; i < threads && !error; i++) {
		workers[i] = (struct worker){
			.first = i, .bytes = bytes, .pieces = pieces,
			.devices = nr, .ms = ms, .go = &go,
		};
		error = worker_init(&workers[i]);
	}
	for (i = 0; i < threads && !error; i++) {
		task = kthread_create(work, &workers[i], "dma-bench/%u", i);
		if (IS_ERR(task)) {
			error = PTR_ERR(task);
			break;
		}
		kthread_bind(task, i);
		wake_up_process(task);
		started++;
	}
	complete_all(&go);
	answer_count = 0;
	answer_ns = 0;
	for (i = 0; i < started; i++) {
		wait_for_completion(&workers[i].done);
		answer_count += workers[i].count;
		answer_ns = max(answer_ns, workers[i].ns);
		error = error ?: workers[i].error;
	}
	for (i = 0; i < threads; i++)
		worker_free(&workers[i]);
	kfree(workers);
	return error;
}

static void let_go(void)
{
	while (nr_held--) {
		dma_unmap_sg(held[nr_held].dev, held[nr_held].sgl,
			     held[nr_held].nr, DMA_BIDIRECTIONAL);
		vfree(held[nr_held].sgl);
	}
	vfree(held);
	held = NULL;
	nr_held = 0;
	while (nr_pages)
		__free_page(pages[--nr_pages]);
	vfree(pages);
	pages = NULL;
}

/*
 * As many pages as a third of the memory; where more are to be mapped, each is
 * so several times. Backwards, so that no two neighbours go together.
 */
static int hold(u64 nr, unsigned int devs)
{
	unsigned int i, lists, most = si_mem_available() / 3;
	struct scatterlist *sg;
	ktime_t begun;
	u64 page = 0;

	if (!devs || devs > nr_devices || nr * devs > U32_MAX)
		return -EINVAL;
	let_go();
	answer_count = 0;
	answer_ns = 0;
	if (!nr)
		return 0;

	lists = DIV_ROUND_UP_ULL(nr, LIST_PAGES);
	most = min_t(u64, most, nr);
	held = vcalloc((size_t)lists * devs, sizeof(*held));
	pages = vcalloc(most, sizeof(*pages));
	if (!held || !pages)
		return -ENOMEM;
	for (; nr_pages < most; nr_pages++) {
		pages[nr_pages] = alloc_page(GFP_KERNEL);
		if (!pages[nr_pages])
			return -ENOMEM;
	}

	while (nr_held < lists * devs) {
		struct list *list = &held[nr_held];

		/* The devices in turn. */
		list->dev = devices[nr_held % devs];
		list->nr = min_t(u64, LIST_PAGES,
				 nr - (u64)nr_held / devs * LIST_PAGES);
		list->sgl = vcalloc(list->nr, sizeof(*list->sgl));
		if (!list->sgl)
			return -ENOMEM;
		sg_init_table(list->sgl, list->nr);
		for_each_sg(list->sgl, sg, list->nr, i)
			sg_set_page(sg, pages[most - 1 - page++ % most],
				    PAGE_SIZE, 0);
		begun = ktime_get();
		if (!dma_map_sg(list->dev, list->sgl, list->nr,
				DMA_BIDIRECTIONAL)) {
			vfree(list->sgl);
			return -EIO;
		}
		answer_ns += ktime_to_ns(ktime_sub(ktime_get(), begun));
		answer_count += list->nr;
		nr_held++;
		cond_resched();
	}
	return 0;
}

static int run_set(const char *text, const struct kernel_param *unused)
{
	unsigned int bytes, pieces, threads, devs;
	unsigned long ms;
	int error;
	u64 nr;

	mutex_lock(&lock);
	if (sscanf(text, "run %u %u %u %u %lu", &bytes, &pieces, &threads,
		   &devs, &ms) == 5) {
		error = run(bytes, pieces, threads, devs, ms);
	} else if (sscanf(text, "hold %llu %u", &nr, &devs) == 2) {
		error = hold(nr, devs);
		if (error)
			let_go();
	} else {
		error = -EINVAL;
	}
	mutex_unlock(&lock);
	return error;
}

static int run_get(char *text, const struct kernel_param *unused)
{
	return sysfs_emit(text, "%llu %llu\n", answer_count, answer_ns);
}

static const struct kernel_param_ops run_ops = {
	.set = run_set,
	.get = run_get,
};
module_param_cb(run, &run_ops, NULL, 0600);
MODULE_PARM_DESC(run, "what to do, and the answer");

static int bench_probe(struct pci_dev *pdev, const struct pci_device_id *id)
{
	int error;

	if (nr_devices == MAX_DEVICES)
		return -ENOSPC;
	error = dma_set_mask_and_coherent(&pdev->dev, DMA_BIT_MASK(64));
	if (error)
		return error;
	dma_set_max_seg_size(&pdev->dev, SZ_2M);
	devices[nr_devices++] = &pdev->dev;
	return 0;
}

static const struct pci_device_id bench_ids[] = {
	{ PCI_DEVICE(0x1234, 0x11e8) },
	{ }
};

static struct pci_driver bench_driver = {
	.name		= "dma-bench",
	.id_table	= bench_ids,
	.probe		= bench_probe,
	.driver		= {
		/* Devices come and go with the module. */
		.suppress_bind_attrs = true,
	},
};

static int __init bench_init(void)
{
	return pci_register_driver(&bench_driver);
}
module_init(bench_init);

static void __exit bench_exit(void)
{
	let_go();
	pci_unregister_driver(&bench_driver);
}
module_exit(bench_exit);

MODULE_DESCRIPTION("Measures the DMA API");
MODULE_AUTHOR("xen-pviommu project");
MODULE_LICENSE("GPL");
