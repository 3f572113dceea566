/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The DMA side: one address space for each PCI function that can do DMA
 *
 * Until the big switch a function sees the system's memory; after it, what
 * its context maps, and reserved ranges 1:1.
 *
 * Locking: BQL, and within it XenPVIOMMUState.lock, for all of it but
 * translation, which any thread does within an RCU critical section.
 */

#ifndef HW_XEN_PVIOMMU_DMA_H
#define HW_XEN_PVIOMMU_DMA_H

#include "device.h"

extern const PCIIOMMUOps xen_pviommu_pci_ops;
extern const XenPVIOMMUAttachmentOps xen_pviommu_attachment_ops;

/** xen_pviommu_dma_init: there are no functions */
void xen_pviommu_dma_init(XenPVIOMMUState *s);

/** xen_pviommu_dma_finalize: functions leave their contexts, and are no more */
void xen_pviommu_dma_finalize(XenPVIOMMUState *s);

/**
 * xen_pviommu_dma_update: show functions what core.identity says
 *
 * The memory map changes: BQL held, and not XenPVIOMMUState.lock.
 */
void xen_pviommu_dma_update(XenPVIOMMUState *s);

/** xen_pviommu_dma_covers: see xen_invalidate_covers() */
bool xen_pviommu_dma_covers(XenPVIOMMUState *s, const AddressSpace *as);

/**
 * xen_pviommu_host_set_device: PCIIOMMUOps.set_iommu_device
 *
 * The guest must not map what the host's IOMMU cannot map for the device.
 */
bool xen_pviommu_host_set_device(PCIBus *bus, void *opaque, int devfn,
                                 HostIOMMUDevice *hiod, Error **errp);

/** xen_pviommu_host_unset_device: PCIIOMMUOps.unset_iommu_device */
void xen_pviommu_host_unset_device(PCIBus *bus, void *opaque, int devfn);

/**
 * xen_pviommu_host_update_pinned: forbid, or allow, that RAM is discarded
 *
 * It is forbidden while assigned devices see RAM untranslated. Call it before
 * they do, and when they do not any more, which always succeeds.
 */
bool xen_pviommu_host_update_pinned(XenPVIOMMUState *s);

/** xen_pviommu_host_pin: forbid it; false if somebody must discard RAM */
bool xen_pviommu_host_pin(XenPVIOMMUState *s);

/** xen_pviommu_host_unpin: allow it, if nothing forbids it any more */
void xen_pviommu_host_unpin(XenPVIOMMUState *s);

/**
 * XenPVIOMMUFunctionFunc: a function that is attached
 * @path: devfns of the bridges on the way from the root bus, and its own;
 *        unlike bus numbers these are the machine's, not the guest's
 */
typedef void XenPVIOMMUFunctionFunc(void *opaque, const uint8_t *path,
                                    unsigned len, XenPVIOMMUContext *ctx);

/** xen_pviommu_dma_foreach: visit all functions of the machine */
void xen_pviommu_dma_foreach(XenPVIOMMUState *s, XenPVIOMMUFunctionFunc *func,
                             void *opaque);

/**
 * XenPVIOMMUDeviceFunc: a device
 * @ctx: NULL if it bypasses the IOMMU
 * @sbdf: what its requests carry, and it is attached by
 */
typedef void XenPVIOMMUDeviceFunc(void *opaque, XenPVIOMMUContext *ctx,
                                  uint32_t sbdf, PCIDevice *dev);

/** xen_pviommu_dma_foreach_device: visit all PCI devices of the machine */
void xen_pviommu_dma_foreach_device(XenPVIOMMUState *s,
                                    XenPVIOMMUDeviceFunc *func, void *opaque);

/**
 * xen_pviommu_dma_attach_path: move the function that is there, if any
 *
 * Returns: false if the machine has no such place.
 */
bool xen_pviommu_dma_attach_path(XenPVIOMMUState *s, const uint8_t *path,
                                 unsigned len, XenPVIOMMUContext *ctx);

#endif /* HW_XEN_PVIOMMU_DMA_H */
