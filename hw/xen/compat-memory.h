/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What was declared in memory.h, and in QEMU 11.0 is in headers of its own; not
 * for upstream, as compat.h.
 */

#ifndef HW_XEN_PVIOMMU_COMPAT_MEMORY_H
#define HW_XEN_PVIOMMU_COMPAT_MEMORY_H

#if __has_include("system/memory_cached.h")
#include "system/memory_cached.h"
#endif

#if __has_include("system/ramlist.h")
#include "system/ramlist.h"
#endif

#endif /* HW_XEN_PVIOMMU_COMPAT_MEMORY_H */
