/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The emulated backend: QEMU is the hypervisor, and RAM it owns is the page
 *
 * Locking: the lock given to xen_pviommu_emulated_new(), for all but that and
 * xen_pviommu_emulated_free(), which need the BQL.
 */

#ifndef HW_XEN_PVIOMMU_BACKEND_EMULATED_H
#define HW_XEN_PVIOMMU_BACKEND_EMULATED_H

#include "hw/pci/pci_device.h"
#include "qemu/thread.h"
#include "core/backend.h"

/* What it reports of the memory map. Called with the BQL and the lock held. */
typedef struct XenPVIOMMUMemoryEvents {
    /*
     * Pages went away without the guest's doing; all references on them are
     * dropped before it returns.
     */
    void (*removed)(void *opaque, uint64_t gfn, uint64_t nr);
    /* What xen_pviommu_emulated_can_pin() says of pages changed. */
    void (*can_pin_changed)(void *opaque, uint64_t gfn, uint64_t nr);
    /* xen_pviommu_emulated_has_unplugged() changed. */
    void (*unplugged)(void *opaque);
} XenPVIOMMUMemoryEvents;

extern const XenPVIOMMUBackendOps xen_pviommu_emulated_ops;

/**
 * xen_pviommu_emulated_new: follow the machine's memory map
 * @audit: count references page by page, for xen_pviommu_core_check()
 * @self: whose BARs no device may reach by a map
 * @lock: what callers of XenPVIOMMUBackendOps hold, with the BQL or without.
 * What they see of the memory map changes, and @events are called, in one hold
 * of it at the end of a transaction of the map; the rest of the transaction
 * does not take it.
 */
XenPVIOMMUBackend *
xen_pviommu_emulated_new(bool audit, PCIDevice *self, QemuRecMutex *lock,
                         const XenPVIOMMUMemoryEvents *events, void *opaque);

/**
 * xen_pviommu_emulated_unplugged: @dev is not realized any more
 *
 * Where its BARs were, and were not to be seen, there is nothing from now on.
 * BQL held, and not the lock.
 */
void xen_pviommu_emulated_unplugged(XenPVIOMMUBackend *backend,
                                    const PCIDevice *dev);

/** xen_pviommu_emulated_free: follow it no more; nothing is reported */
void xen_pviommu_emulated_free(XenPVIOMMUBackend *backend);

/**
 * xen_pviommu_emulated_has_unplugged: there is RAM of which parts are unplugged
 *
 * Which these are takes the BQL to know; without it all of that RAM is.
 * @backend may be NULL.
 */
bool xen_pviommu_emulated_has_unplugged(const XenPVIOMMUBackend *backend);

/**
 * xen_pviommu_emulated_can_pin: what a map of @gfn leads to is memory of this
 * process, and not MMIO that QEMU emulates
 * @nr: how many frames from @gfn on are asked for; returns of how many of them
 * this is true, or of how many it is not
 *
 * @backend may be NULL.
 */
bool xen_pviommu_emulated_can_pin(const XenPVIOMMUBackend *backend,
                                  uint64_t gfn, uint64_t *nr);

/**
 * xen_pviommu_emulated_held: pages of a range that the hypervisor has
 *
 * Adds them to @ranges, an array of XenPageRange.
 */
void xen_pviommu_emulated_held(XenPVIOMMUBackend *backend, uint64_t gfn,
                               uint64_t nr, GArray *ranges);

#endif /* HW_XEN_PVIOMMU_BACKEND_EMULATED_H */
