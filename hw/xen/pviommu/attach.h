/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Which function is in which context
 *
 * Locking: BQL, and within it XenPVIOMMUState.lock.
 */

#ifndef HW_XEN_PVIOMMU_ATTACH_H
#define HW_XEN_PVIOMMU_ATTACH_H

#include "function.h"

/** xen_pviommu_attachment_ops: @opaque is the XenPVIOMMUState */
extern const XenPVIOMMUAttachmentOps xen_pviommu_attachment_ops;

/**
 * xen_pviommu_attach_update: show functions what core.identity says
 *
 * The memory map changes: BQL held, and not XenPVIOMMUState.lock.
 */
void xen_pviommu_attach_update(XenPVIOMMUState *s);

/** xen_pviommu_attach_reset_irqs: no function's interrupts are direct; BQL */
void xen_pviommu_attach_reset_irqs(XenPVIOMMUState *s);

/**
 * XenPVIOMMUFunctionFunc: a function that is attached
 * @path: devfns of the bridges on the way from the root bus, and its own;
 *        unlike bus numbers these are the machine's, not the guest's
 */
typedef void XenPVIOMMUFunctionFunc(void *opaque, const uint8_t *path,
                                    unsigned len, XenPVIOMMUFunction *f);

/** xen_pviommu_foreach_function: visit all functions of the machine */
void xen_pviommu_foreach_function(XenPVIOMMUState *s,
                                  XenPVIOMMUFunctionFunc *func, void *opaque);

/**
 * XenPVIOMMUDeviceFunc: a device
 * @ctx: NULL if it bypasses the IOMMU
 * @sbdf: what its requests carry, and it is attached by
 */
typedef void XenPVIOMMUDeviceFunc(void *opaque, XenPVIOMMUContext *ctx,
                                  uint32_t sbdf, PCIDevice *dev);

/** xen_pviommu_foreach_device: visit all PCI devices of the machine */
void xen_pviommu_foreach_device(XenPVIOMMUState *s, XenPVIOMMUDeviceFunc *func,
                                void *opaque);

/**
 * xen_pviommu_function_at_path: the function with that way to it
 * @f: NULL if there is no device
 *
 * Returns: false if the machine has no such place.
 */
bool xen_pviommu_function_at_path(XenPVIOMMUState *s, const uint8_t *path,
                                  unsigned len, XenPVIOMMUFunction **f);

/**
 * xen_pviommu_attach_path: move the function that is there, if any
 *
 * Returns: false if the machine has no such place.
 */
bool xen_pviommu_attach_path(XenPVIOMMUState *s, const uint8_t *path,
                             unsigned len, XenPVIOMMUContext *ctx);

#endif /* HW_XEN_PVIOMMU_ATTACH_H */
