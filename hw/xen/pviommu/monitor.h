/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * QMP commands that look into the paravirtual IOMMU: what they share
 *
 * They change nothing but the device's account of work done. What each returns,
 * and the time it takes, is bounded by the properties of the device, or by what
 * it was asked for.
 *
 * Locking: BQL, and XenPVIOMMUState.lock for what it protects.
 */

#ifndef HW_XEN_PVIOMMU_MONITOR_H
#define HW_XEN_PVIOMMU_MONITOR_H

#include "device.h"

/** xen_pviommu_monitor_device: the device; NULL, with @errp, without one */
XenPVIOMMUState *xen_pviommu_monitor_device(Error **errp);

/** xen_pviommu_monitor_max: how many objects a reply has, at the most */
bool xen_pviommu_monitor_max(bool has_max, uint32_t *max, Error **errp);

/** xen_pviommu_monitor_sbdf: SEGMENT:BUS:SLOT.FUNCTION; g_free() */
char *xen_pviommu_monitor_sbdf(uint32_t sbdf);

#endif /* HW_XEN_PVIOMMU_MONITOR_H */
