/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Devices that are not behind the IOMMU, or not with all they do
 */

#ifndef HW_XEN_PVIOMMU_BYPASS_H
#define HW_XEN_PVIOMMU_BYPASS_H

#include "device.h"

/**
 * xen_pviommu_bypass_reason: how @dev gets at memory that is not mapped for it
 *
 * Returns: a clause that has the device for its subject; NULL if it does not.
 */
const char *xen_pviommu_bypass_reason(PCIDevice *dev);

/**
 * xen_pviommu_bypass_init: warn of devices, of each once, and of buses that
 * bypass the IOMMU, when the main loop gets to it
 */
void xen_pviommu_bypass_init(XenPVIOMMUState *s);
void xen_pviommu_bypass_finalize(XenPVIOMMUState *s);

/** xen_pviommu_bypass_check: warn of devices that bypass it now; soon */
void xen_pviommu_bypass_check(XenPVIOMMUState *s);

#endif /* HW_XEN_PVIOMMU_BYPASS_H */
