// SPDX-License-Identifier: GPL-2.0
/*
 * irq-bench: what message-signalled interrupts of a PCI function cost,
 * whichever IOMMU there is
 *
 * It drives an edu device, which raises an interrupt when it is told to, and an
 * NVMe controller with Intel's ids, which has many vectors and does nothing.
 * Write to the parameter 'run', and read the answer there:
 *
 *   access BURSTS
 *	Writes to a register of edu that has no effect: what of 'raise' is the
 *	access alone
 *   raise BURSTS CPU
 *	Has edu raise an interrupt at a CPU, and waits until its handler has run
 *   update BURSTS
 *	Sets the affinity to masks that all have the CPU where the interrupt is:
 *	the vector stays, and what remaps it is told again
 *   msi BURSTS, msix BURSTS NR
 *	Allocates vectors, one of edu or NR of NVMe, requests each, and frees all
 *   move NUMBER
 *	Moves the interrupt to CPU 1, to CPU 0, and so on, and raises it once
 *	after each, as Linux moves interrupts that are not remapped only then.
 *	The time is that of both. Linux needs a tick or two between moves, until
 *	the vector at the old CPU is free: these are not in it
 *
 * All of it runs on CPU 0. Answer: "NUMBER NS CHIP": how often it is done in a
 * burst, how long that takes, which is the shortest of the bursts, and the name
 * of the interrupt's irq_chip. A burst is shorter than what the host lets the
 * guest run at a time, so that the shortest sees nothing of what runs beside it.
 */

#include <linux/cpumask.h>
#include <linux/delay.h>
#include <linux/interrupt.h>
#include <linux/irq.h>
#include <linux/jiffies.h>
#include <linux/ktime.h>
#include <linux/module.h>
#include <linux/pci.h>
#include <linux/sched.h>
#include <linux/smp.h>
#include <linux/string.h>

#define NAME		"irq-bench"

/* Registers of edu. With MSI, what was not acknowledged can be raised again. */
#define EDU_RAISE	0x60
#define EDU_ACKNOWLEDGE	0x64

#define MAX_VECTORS	64
#define MAX_BURSTS	10000
/* Until the old vector of an interrupt that has moved is free. */
#define SETTLE_MS	(3 * MSEC_PER_SEC / HZ)

static struct pci_dev *edu, *nvme;
static void __iomem *regs;

/* Of the handler. */
static unsigned int last_cpu, nr_handled;

/* All below has the lock that sysfs takes for the module's parameters. */
static unsigned int irq;
static char chip[64] = "-";
static unsigned int answer_nr;
static u64 answer_ns;

static irqreturn_t bench_handler(int unused, void *data)
{
	last_cpu = smp_processor_id();
	/* It comes after last_cpu. Only one of them runs at a time. */
	smp_store_release(&nr_handled, nr_handled + 1);
	return IRQ_HANDLED;
}

static void vectors_free(struct pci_dev *pdev, unsigned int requested)
{
	while (requested--)
		free_irq(pci_irq_vector(pdev, requested), pdev);
	pci_free_irq_vectors(pdev);
}

static int vectors_alloc(struct pci_dev *pdev, unsigned int nr,
			 unsigned int type)
{
	unsigned int i;
	int ret;

	ret = pci_alloc_irq_vectors(pdev, nr, nr, type);
	if (ret < 0)
		return ret;
	for (i = 0; i < nr; i++) {
		ret = request_irq(pci_irq_vector(pdev, i), bench_handler, 0,
				  NAME, pdev);
		if (ret) {
			vectors_free(pdev, i);
			return ret;
		}
	}
	irq = pci_irq_vector(pdev, 0);
	return 0;
}

/* Before the first of them is freed. */
static void note_chip(void)
{
	strscpy(chip, irq_get_chip(irq)->name ?: "-", sizeof(chip));
}

static int raise_once(void)
{
	unsigned int before = nr_handled;
	unsigned long end = jiffies + 10 * HZ;

	writel(1, regs + EDU_RAISE);
	/* What the handler did before it counted is done. */
	while (smp_load_acquire(&nr_handled) == before) {
		if (time_after(jiffies, end))
			return -ETIMEDOUT;
		cpu_relax();
	}
	return 0;
}

/* Have the interrupt at a CPU. */
static int irq_put(unsigned int cpu)
{
	unsigned int tries;
	int error;

	for (tries = 0; tries < 100; tries++) {
		error = irq_set_affinity(irq, cpumask_of(cpu));
		if (!error)
			error = raise_once();
		if (!error)
			error = raise_once();
		if (error || last_cpu == cpu)
			return error;
		msleep(SETTLE_MS);
	}
	return -EBUSY;
}

static int access(void)
{
	writel(0, regs + EDU_ACKNOWLEDGE);
	return 0;
}

static int update(void)
{
	static bool all;

	all = !all;
	return irq_set_affinity(irq, all ? cpu_online_mask : cpumask_of(0));
}

static u64 ns_since(ktime_t begun)
{
	return ktime_to_ns(ktime_sub(ktime_get(), begun));
}

static int repeat(int (*once)(void), unsigned int nr, unsigned int times)
{
	unsigned int i;
	ktime_t begun;
	int error = 0;

	answer_nr = nr;
	while (!error && times--) {
		begun = ktime_get();
		for (i = 0; i < nr && !error; i++)
			error = once();
		answer_ns = min(answer_ns, ns_since(begun));
		cond_resched();
	}
	return error;
}

static int move(unsigned int nr)
{
	unsigned int tries, moved = 0, cpu = 0;
	ktime_t begun;
	int error;
	u64 ns;

	answer_nr = 1;
	for (tries = 0; moved < nr; tries++) {
		if (tries == 4 * nr)
			return -EBUSY;
		msleep(SETTLE_MS);
		cpu = !cpu;
		begun = ktime_get();
		error = irq_set_affinity(irq, cpumask_of(cpu));
		if (!error)
			error = raise_once();
		ns = ns_since(begun);
		/* The old vector is given up when one arrives at the new CPU. */
		if (!error)
			error = raise_once();
		if (error)
			return error;
		/* Else the old vector was not free yet. */
		if (last_cpu == cpu) {
			answer_ns = min(answer_ns, ns);
			moved++;
		}
	}
	return 0;
}

static int msi(void)
{
	int error = vectors_alloc(edu, 1, PCI_IRQ_MSI);

	if (!error)
		vectors_free(edu, 1);
	return error;
}

static unsigned int nr_msix;

static int msix(void)
{
	int error = vectors_alloc(nvme, nr_msix, PCI_IRQ_MSIX);

	if (!error)
		vectors_free(nvme, nr_msix);
	return error;
}

/* What allocates vectors itself. */
static int run_vectors(const char *what, unsigned int times, unsigned int nr)
{
	bool many = !strcmp(what, "msix");
	struct pci_dev *pdev = many ? nvme : edu;
	int error;

	if (!pdev || (many && (!nr || nr > MAX_VECTORS)))
		return -EINVAL;
	nr_msix = nr;
	nr = many ? nr : 1;
	error = vectors_alloc(pdev, nr, many ? PCI_IRQ_MSIX : PCI_IRQ_MSI);
	if (error)
		return error;
	note_chip();
	vectors_free(pdev, nr);
	return many ? repeat(msix, 1, times) : repeat(msi, 2, times);
}

/* What uses one of edu, at a CPU. */
static int run_one(const char *what, unsigned int times, unsigned int cpu)
{
	int error;

	if (!edu || cpu >= nr_cpu_ids || !cpu_online(cpu))
		return -EINVAL;
	error = vectors_alloc(edu, 1, PCI_IRQ_MSI);
	if (error)
		return error;
	note_chip();
	error = irq_put(cpu);
	if (error)
		goto out;
	error = -EINVAL;
	if (!strcmp(what, "access"))
		error = repeat(access, 500, times);
	else if (!strcmp(what, "raise"))
		error = repeat(raise_once, 50, times);
	else if (!strcmp(what, "update") && num_online_cpus() > 1)
		error = repeat(update, 50, times);
	else if (!strcmp(what, "move") && num_online_cpus() > 1)
		error = move(times);
out:
	vectors_free(edu, 1);
	return error;
}

static int run(const char *what, unsigned int times, unsigned int arg)
{
	cpumask_var_t cpus;
	int error;

	if (!times || times > MAX_BURSTS)
		return -EINVAL;
	if (!alloc_cpumask_var(&cpus, GFP_KERNEL))
		return -ENOMEM;
	cpumask_copy(cpus, current->cpus_ptr);
	error = set_cpus_allowed_ptr(current, cpumask_of(0));
	if (!error) {
		error = strstarts(what, "msi") ?
			run_vectors(what, times, arg) :
			run_one(what, times, arg);
		set_cpus_allowed_ptr(current, cpus);
	}
	free_cpumask_var(cpus);
	return error;
}

static int run_set(const char *text, const struct kernel_param *unused)
{
	unsigned int times, arg = 0;
	char what[8];

	if (sscanf(text, "%7s %u %u", what, &times, &arg) < 2)
		return -EINVAL;
	answer_ns = U64_MAX;
	return run(what, times, arg);
}

static int run_get(char *text, const struct kernel_param *unused)
{
	return sysfs_emit(text, "%u %llu %s\n", answer_nr, answer_ns, chip);
}

static const struct kernel_param_ops run_ops = {
	.set = run_set,
	.get = run_get,
};
module_param_cb(run, &run_ops, NULL, 0600);
MODULE_PARM_DESC(run, "what to do, and the answer");

static int bench_probe(struct pci_dev *pdev, const struct pci_device_id *id)
{
	struct pci_dev **place = id->driver_data ? &nvme : &edu;
	int error;

	if (*place)
		return -EBUSY;
	error = pci_enable_device(pdev);
	if (error)
		return error;
	if (place == &edu) {
		regs = pci_iomap(pdev, 0, 0);
		if (!regs) {
			pci_disable_device(pdev);
			return -ENOMEM;
		}
	}
	pci_set_master(pdev);
	*place = pdev;
	return 0;
}

static void bench_remove(struct pci_dev *pdev)
{
	if (pdev == edu) {
		pci_iounmap(pdev, regs);
		edu = NULL;
	} else {
		nvme = NULL;
	}
	pci_disable_device(pdev);
}

static const struct pci_device_id bench_ids[] = {
	{ PCI_DEVICE(0x1234, 0x11e8) },
	{ PCI_DEVICE(0x8086, 0x5845), .driver_data = 1 },
	{ }
};

static struct pci_driver bench_driver = {
	.name		= NAME,
	.id_table	= bench_ids,
	.probe		= bench_probe,
	.remove		= bench_remove,
	.driver		= {
		/* Devices come and go with the module. */
		.suppress_bind_attrs = true,
	},
};
module_pci_driver(bench_driver);

MODULE_DESCRIPTION("Measures interrupts");
MODULE_AUTHOR("xen-pviommu project");
MODULE_LICENSE("GPL");
