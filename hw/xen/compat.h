/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What differs between the QEMU versions this builds with (10.0 and newer);
 * not for upstream.
 */

#ifndef HW_XEN_PVIOMMU_COMPAT_H
#define HW_XEN_PVIOMMU_COMPAT_H

#if __has_include("system/memory.h")
#include "system/memory.h"
#include "system/address-spaces.h"
#else
#include "exec/memory.h"
#include "exec/address-spaces.h"
#endif

#if __has_include("hw/core/qdev-properties.h")
#include "hw/core/qdev-properties.h"
#include "hw/core/qdev-properties-system.h"
#include "hw/core/boards.h"
#else
#include "hw/qdev-properties.h"
#include "hw/qdev-properties-system.h"
#include "hw/boards.h"
#endif

/* Class and interface data became const in 10.1. */
#if QEMU_VERSION_MAJOR > 10 || (QEMU_VERSION_MAJOR == 10 && QEMU_VERSION_MINOR)
#define XEN_PVIOMMU_CONST const
#else
#define XEN_PVIOMMU_CONST
#endif

/* QEMU 11 lets functions that only look at a MemoryRegion say so. */
#if QEMU_VERSION_MAJOR >= 11
#define XEN_PVIOMMU_CONST_MR const
#else
#define XEN_PVIOMMU_CONST_MR
#endif

/* Also of 10.1: a variable that -ftrivial-auto-var-init leaves alone. */
#ifndef QEMU_UNINITIALIZED
#if __has_attribute(uninitialized)
#define QEMU_UNINITIALIZED __attribute__((uninitialized))
#else
#define QEMU_UNINITIALIZED
#endif
#endif

#endif /* HW_XEN_PVIOMMU_COMPAT_H */
