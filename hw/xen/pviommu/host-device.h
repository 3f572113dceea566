/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Devices of the host that are assigned to the guest (VFIO)
 *
 * Locking: BQL; both take XenPVIOMMUState.lock.
 */

#ifndef HW_XEN_PVIOMMU_HOST_DEVICE_H
#define HW_XEN_PVIOMMU_HOST_DEVICE_H

#include "device.h"

/**
 * xen_pviommu_host_set_device: PCIIOMMUOps.set_iommu_device
 *
 * The guest must not map what the host's IOMMU cannot map for the device.
 */
bool xen_pviommu_host_set_device(PCIBus *bus, void *opaque, int devfn,
                                 HostIOMMUDevice *hiod, Error **errp);

/** xen_pviommu_host_unset_device: PCIIOMMUOps.unset_iommu_device */
void xen_pviommu_host_unset_device(PCIBus *bus, void *opaque, int devfn);

#endif /* HW_XEN_PVIOMMU_HOST_DEVICE_H */
