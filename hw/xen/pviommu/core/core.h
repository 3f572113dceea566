/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The core as a whole: its budget, its start, resets and end, and what is done
 * in all contexts at once
 *
 * Locking, units and errors: see state.h.
 */

#ifndef HW_XEN_PVIOMMU_CORE_H
#define HW_XEN_PVIOMMU_CORE_H

#include "state.h"

/**
 * xen_pviommu_core_max_bytes: the most memory that a guest can make QEMU take
 *
 * xen_pviommu_core_bytes() is never more; but for what was loaded: see
 * xen_pviommu_core_load_begin().
 */
size_t xen_pviommu_core_max_bytes(const XenPVIOMMUCore *core);

/** xen_pviommu_core_bytes: what is taken now, and reserved for splits */
size_t xen_pviommu_core_bytes(const XenPVIOMMUCore *core);

/**
 * xen_pviommu_core_load_begin: allow what a guest had elsewhere
 *
 * Older versions had no limit of places, and bounded memory in another way.
 * What they had finds room here, in twice the memory; then nothing is added
 * until there is less.
 */
void xen_pviommu_core_load_begin(XenPVIOMMUCore *core);

/** xen_pviommu_core_load_end: all limits are what they are again */
void xen_pviommu_core_load_end(XenPVIOMMUCore *core);

/**
 * xen_pviommu_core_init: the state of a reset device
 *
 * limits, control, premap, queues, identity_contexts, mmio, client and all _ops
 * are set by the caller before; backend, before the first operation.
 *
 * Returns: false if there is no memory.
 */
bool xen_pviommu_core_init(XenPVIOMMUCore *core);

/** xen_pviommu_core_finalize: drop all references; no context has devices */
void xen_pviommu_core_finalize(XenPVIOMMUCore *core);

/**
 * xen_pviommu_core_reset: back to the start
 *
 * Moves all devices to a new default context, removes the others, and drops
 * all references. With premap it is in identity mode again. The memory of the
 * tables stays in the budget until xen_pviommu_core_reap() frees it. With a
 * backend that has put_frames, the time depends on the number of contexts and
 * devices, and not on what was mapped.
 */
void xen_pviommu_core_reset(XenPVIOMMUCore *core);

/* Nodes that are freed at a time: a fraction of a millisecond. */
#define XEN_PVIOMMU_REAP_NODES 1024
/* That an operation frees for its own sake; RCU gets each of them. */
#define XEN_PVIOMMU_OP_REAP_NODES 256

/**
 * xen_pviommu_core_reap: free some of what resets left
 * @max: nodes at the most
 * @wait: leave alone what readers may still look at; else RCU frees it
 *
 * Returns: false if there was nothing left before.
 */
bool xen_pviommu_core_reap(XenPVIOMMUCore *core, unsigned max, bool wait);

/**
 * xen_pviommu_core_check: abort if the reference audit fails
 *
 * Compares, page by page, what contexts map and what is pending with the
 * backend's references, and the tables with the GFN index. Slow: for tests.
 */
void xen_pviommu_core_check(XenPVIOMMUCore *core);

/**
 * xen_pviommu_core_enable: end identity mode, if it has not ended
 *
 * It releases the lock meanwhile: see XenPVIOMMUAttachmentOps.enabled.
 */
void xen_pviommu_core_enable(XenPVIOMMUCore *core);

/** xen_pviommu_core_enable_irqs: the same for the remapping of interrupts */
void xen_pviommu_core_enable_irqs(XenPVIOMMUCore *core);

/**
 * xen_pviommu_core_accept: the guest accepts features, of those offered
 *
 * Without that of interrupts these are not remapped, and none is allocated.
 * That releases the lock meanwhile.
 */
void xen_pviommu_core_accept(XenPVIOMMUCore *core, uint64_t features);

/**
 * xen_pviommu_core_invalidate: pages are going away
 *
 * Unmaps [@gfn, @gfn + @nr) everywhere, notifies listeners, and drops all
 * references, also those of pending runs.
 */
void xen_pviommu_core_invalidate(XenPVIOMMUCore *core,
                                 uint64_t gfn, uint64_t nr);

/**
 * xen_pviommu_core_renotify: listeners are notified of pages anew
 *
 * Which of [@gfn, @gfn + @nr) they are notified of has changed, and what is
 * mapped has not.
 */
void xen_pviommu_core_renotify(XenPVIOMMUCore *core, uint64_t gfn, uint64_t nr);

/* Called with a part of what is held; frames may be visited more than once. */
typedef void XenPVIOMMUHeldFunc(void *opaque, uint64_t gfn, uint64_t nr);

/** xen_pviommu_core_held: visit all pages that are mapped, or pending */
void xen_pviommu_core_held(XenPVIOMMUCore *core, XenPVIOMMUHeldFunc *func,
                           void *opaque);

/** xen_pviommu_core_flush_all: flush all contexts, as pending runs take room */
void xen_pviommu_core_flush_all(XenPVIOMMUCore *core);

#endif /* HW_XEN_PVIOMMU_CORE_H */
