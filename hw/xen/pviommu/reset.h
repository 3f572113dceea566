/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Resets, and the memory that they leave
 *
 * A reset takes no time for what was mapped: it sets the tables aside, and a
 * timer frees them in small parts.
 */

#ifndef HW_XEN_PVIOMMU_RESET_H
#define HW_XEN_PVIOMMU_RESET_H

#include "device.h"

/** xen_pviommu_reset: all but the PCI function; BQL held, and not the lock */
void xen_pviommu_reset(XenPVIOMMUState *s);

void xen_pviommu_reset_init(XenPVIOMMUState *s);
void xen_pviommu_reset_finalize(XenPVIOMMUState *s);

#endif /* HW_XEN_PVIOMMU_RESET_H */
