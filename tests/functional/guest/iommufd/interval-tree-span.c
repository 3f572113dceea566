// SPDX-License-Identifier: GPL-2.0
/*
 * The functions of interval trees that only iommufd uses: a kernel without it has
 * them not. They are in one file of the kernel's source with those that it has,
 * which it exports itself.
 */

#include <linux/export.h>
#include <linux/module.h>

#pragma push_macro("EXPORT_SYMBOL_GPL")
#undef EXPORT_SYMBOL_GPL
#define EXPORT_SYMBOL_GPL(name)
#include "lib/interval_tree.c"
#pragma pop_macro("EXPORT_SYMBOL_GPL")

EXPORT_SYMBOL_GPL(interval_tree_span_iter_first);
EXPORT_SYMBOL_GPL(interval_tree_span_iter_next);
EXPORT_SYMBOL_GPL(interval_tree_span_iter_advance);

MODULE_DESCRIPTION("What iommufd needs of a kernel that is built without it");
MODULE_LICENSE("GPL");
