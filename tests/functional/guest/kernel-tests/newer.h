/* SPDX-License-Identifier: GPL-2.0 */
/* What map_benchmark.c of a newer kernel lacks as a module of an older one */

#ifndef PVIOMMU_TEST_NEWER_H
#define PVIOMMU_TEST_NEWER_H

#include <linux/kthread.h>
#include <linux/module.h>
#include <linux/overflow.h>
#include <linux/sched.h>
#include <linux/slab.h>

#ifndef kzalloc_obj
#define kzalloc_obj(object)	kzalloc(sizeof(object), GFP_KERNEL)
#define kmalloc_objs(object, nr) \
	kmalloc_array(nr, sizeof(object), GFP_KERNEL)
#define kzalloc_flex(object, member, nr) \
	kzalloc(struct_size(&(object), member, nr), GFP_KERNEL)
#endif

/* It is not for modules. */
#define kthread_bind_mask(task, mask)	set_cpus_allowed_ptr(task, mask)

/* The file has its own. */
#undef pr_fmt

MODULE_LICENSE("GPL");

#endif /* PVIOMMU_TEST_NEWER_H */
