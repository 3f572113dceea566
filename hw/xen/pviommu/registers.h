/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Registers, and the doorbells of register blocks
 *
 * Locking: BQL; XenPVIOMMUState.lock is taken for what it protects.
 */

#ifndef HW_XEN_PVIOMMU_REGISTERS_H
#define HW_XEN_PVIOMMU_REGISTERS_H

#include "device.h"

/** xen_pviommu_registers_init: the BAR, with registers and register blocks */
void xen_pviommu_registers_init(XenPVIOMMUState *s);

#endif /* HW_XEN_PVIOMMU_REGISTERS_H */
