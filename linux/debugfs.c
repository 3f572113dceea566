// SPDX-License-Identifier: GPL-2.0
/*
 * debugfs: what the device counted, which device is in which context, and what
 * is in the queues
 */

#include <linux/debugfs.h>
#include <linux/io-64-nonatomic-lo-hi.h>
#include <linux/seq_file.h>

#include "pviommu.h"

static const struct {
	const char *name;
	unsigned int counter;
} counters[] = {
	{ "maps",		XEN_PVIOMMU_COUNTER_MAPS },
	{ "unmaps",		XEN_PVIOMMU_COUNTER_UNMAPS },
	{ "flushes",		XEN_PVIOMMU_COUNTER_FLUSHES },
	{ "faults",		XEN_PVIOMMU_COUNTER_FAULTS },
	{ "doorbells",		XEN_PVIOMMU_COUNTER_DOORBELLS },
	{ "ops",		XEN_PVIOMMU_COUNTER_OPS },
	{ "errors",		XEN_PVIOMMU_COUNTER_ERRORS },
	{ "mapped",		XEN_PVIOMMU_COUNTER_MAPPED },
	{ "pending",		XEN_PVIOMMU_COUNTER_PENDING },
	{ "invalidated",	XEN_PVIOMMU_COUNTER_INVALIDATED },
};

static_assert(ARRAY_SIZE(counters) == XEN_PVIOMMU_NR_COUNTERS);

/* One "name value" a line. */
static int counters_show(struct seq_file *s, void *unused)
{
	struct pviommu *v = s->private;
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(counters); i++)
		seq_printf(s, "%s %llu\n", counters[i].name,
			   (unsigned long long)readq(v->regs +
				XEN_PVIOMMU_REG_COUNTER(counters[i].counter)));
	return 0;
}
DEFINE_SHOW_ATTRIBUTE(counters);

/* One "SBDF context" a line. */
static int contexts_show(struct seq_file *s, void *unused)
{
	struct pviommu *v = s->private;
	struct pviommu_rid *rid;
	unsigned long sbdf;

	mutex_lock(&v->rids_lock);
	xa_for_each(&v->rids, sbdf, rid)
		seq_printf(s, "%04x:%02x:%02x.%x %u\n",
			   (unsigned int)(sbdf >> 16),
			   (unsigned int)PCI_BUS_NUM(sbdf),
			   (unsigned int)PCI_SLOT(sbdf),
			   (unsigned int)PCI_FUNC(sbdf), rid->ctx);
	mutex_unlock(&v->rids_lock);
	return 0;
}
DEFINE_SHOW_ATTRIBUTE(contexts);

/* One "context tail head errors flags" a line. */
static int queues_show(struct seq_file *s, void *unused)
{
	pviommu_domains_show_queues(s->private, s);
	return 0;
}
DEFINE_SHOW_ATTRIBUTE(queues);

/**
 * pviommu_debugfs_init() - make the files; nothing depends on them
 * @v: the device
 */
void pviommu_debugfs_init(struct pviommu *v)
{
	v->debugfs = debugfs_create_dir(PVIOMMU_NAME, NULL);
	debugfs_create_file("counters", 0444, v->debugfs, v, &counters_fops);
	debugfs_create_file("contexts", 0444, v->debugfs, v, &contexts_fops);
	debugfs_create_file("queues", 0444, v->debugfs, v, &queues_fops);
}
