/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A PCI function that can do DMA
 *
 * Locking: BQL, and within it XenPVIOMMUState.lock; the latter not for what
 * begins or ends a function, as that changes the memory map.
 */

#ifndef HW_XEN_PVIOMMU_FUNCTION_H
#define HW_XEN_PVIOMMU_FUNCTION_H

#include "device.h"

#define TYPE_XEN_PVIOMMU_MEMORY_REGION "xen-pviommu-memory-region"
#define TYPE_XEN_PVIOMMU_FUNCTION "xen-pviommu-function"
OBJECT_DECLARE_SIMPLE_TYPE(XenPVIOMMUFunction, XEN_PVIOMMU_FUNCTION)

struct XenPVIOMMUFunction {
    Object parent_obj;

    XenPVIOMMUState *s;
    PCIBus *bus;                /* of no use once it ended */
    uint8_t devfn;
    char *place;                /* BUS/SLOT.FUNCTION */
    char *name;
    XenPVIOMMUContext *ctx;     /* RCU; NULL once it ended */
    unsigned nr_assigned;       /* devices of the host it is the function of */
    XenPVIOMMUIrqOwner irqs;

    /* Listeners; see notify.c. */
    IOMMUNotifierFlag notifiers;
    GHashTable *notified_blocks;    /* by IOMMUNotifier; NULL: none */
    uint64_t replay_next;       /* from this BFN on maps are not notified yet */

    AddressSpace as;
    MemoryRegion root;
    MemoryRegion identity;      /* see xen_pviommu_function_sees_memory() */
    IOMMUMemoryRegion translated;
    GArray *reserved;           /* what this function alone reserves */
    GHashTable *host_reserved;  /* the host's part, of GArray, by PCIDevice */
    GPtrArray *windows;         /* of MemoryRegion, where it is always 1:1 */
    MemoryRegion irq_window;    /* in front of all, while irqs are remapped */
};

/** xen_pviommu_functions_init: there are none */
void xen_pviommu_functions_init(XenPVIOMMUState *s);

/** xen_pviommu_functions_finalize: all of them end */
void xen_pviommu_functions_finalize(XenPVIOMMUState *s);

/**
 * xen_pviommu_function_new: in context 0, for a device on its way in
 *
 * BQL held, and not XenPVIOMMUState.lock.
 */
XenPVIOMMUFunction *xen_pviommu_function_new(XenPVIOMMUState *s, PCIBus *bus,
                                             uint8_t devfn);

/**
 * xen_pviommu_function_end: its device is gone
 *
 * It reserves nothing any more, is in no context, and nothing is translated.
 * BQL held, and not XenPVIOMMUState.lock.
 */
void xen_pviommu_function_end(XenPVIOMMUFunction *f);

/**
 * xen_pviommu_function_address_space: PCIIOMMUOps.get_address_space
 *
 * That of the function of a device on its way in, which is made if there is
 * none.
 */
AddressSpace *xen_pviommu_function_address_space(PCIBus *bus, void *opaque,
                                                 int devfn);

/** xen_pviommu_function_find: NULL if there is none for @devfn of @bus */
XenPVIOMMUFunction *xen_pviommu_function_find(XenPVIOMMUState *s, PCIBus *bus,
                                              uint8_t devfn);

/**
 * xen_pviommu_function_of_device: what the requests of @dev come from
 *
 * Returns: NULL if they bypass the IOMMU.
 */
XenPVIOMMUFunction *xen_pviommu_function_of_device(PCIDevice *dev);

/**
 * xen_pviommu_is_passed_through: Xen passes the device of the host through
 *
 * It reaches the guest's memory by GFN, as the toolstack set up, and by BFNs of
 * ours only if the hypervisor has contexts for it (passed.h).
 */
bool xen_pviommu_is_passed_through(PCIDevice *dev);

/** xen_pviommu_function_sbdf: what its requests carry */
uint32_t xen_pviommu_function_sbdf(const XenPVIOMMUFunction *f);

/**
 * xen_pviommu_function_has_device: there is a device whose requests could
 * carry the ID of @f
 */
bool xen_pviommu_function_has_device(const XenPVIOMMUFunction *f);

/**
 * xen_pviommu_function_sees_memory: and not what its context maps
 *
 * As all do in identity mode, and in identity contexts.
 */
bool xen_pviommu_function_sees_memory(const XenPVIOMMUFunction *f);

/**
 * xen_pviommu_function_update: show what its context and core.identity say
 *
 * The memory map changes: BQL held, and not XenPVIOMMUState.lock.
 */
void xen_pviommu_function_update(XenPVIOMMUFunction *f);

/** xen_pviommu_function_fits: @ctx maps nothing that @f reserves */
bool xen_pviommu_function_fits(const XenPVIOMMUFunction *f,
                               const XenPVIOMMUContext *ctx);

/**
 * xen_pviommu_function_move: attach @f to @ctx, but for what it sees
 *
 * What it translated is gone when this returns. Between an identity context and
 * another it sees what it did until xen_pviommu_function_update(). Listeners
 * for maps have to be notified of those in @ctx: call
 * xen_pviommu_notify_replay() until that is done.
 *
 * Returns: false if it would have memory pinned that must be discarded.
 */
bool xen_pviommu_function_move(XenPVIOMMUFunction *f, XenPVIOMMUContext *ctx);

/**
 * xen_pviommu_function_attach: the same, and what its device saw is gone
 *
 * Where the memory map changes for it the lock, which the caller holds once, is
 * released meanwhile: @f may have ended then.
 */
bool xen_pviommu_function_attach(XenPVIOMMUFunction *f, XenPVIOMMUContext *ctx);

/**
 * xen_pviommu_function_update_reserved: what the user reserved for the place of
 * @f, and the host for each of the devices whose requests come from it
 */
void xen_pviommu_function_update_reserved(XenPVIOMMUFunction *f);

/** xen_pviommu_context_update_reserved: what the functions in @ctx reserve */
void xen_pviommu_context_update_reserved(XenPVIOMMUState *s,
                                         XenPVIOMMUContext *ctx);

/**
 * xen_pviommu_function_allows_discard: PCIIOMMUOps.allows_discard
 *
 * Not for a function with RAM in its reserved ranges, which it always sees.
 */
bool xen_pviommu_function_allows_discard(PCIBus *bus, void *opaque, int devfn);

#endif /* HW_XEN_PVIOMMU_FUNCTION_H */
