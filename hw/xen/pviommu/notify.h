/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * IOMMU notifiers: what listens to a function's translations (VFIO, vhost)
 *
 * A listener for maps (VFIO) mirrors the context. When its function moves to
 * another context, the mirror is filled by a replay, which can take long: it is
 * done in parts, in the order of BFNs. Meanwhile changes below replay_next are
 * notified, and those from there on are left to the replay.
 *
 * Locking: BQL, and within it XenPVIOMMUState.lock.
 */

#ifndef HW_XEN_PVIOMMU_NOTIFY_H
#define HW_XEN_PVIOMMU_NOTIFY_H

#include "function.h"

/** xen_pviommu_notify_init: nothing listens */
void xen_pviommu_notify_init(XenPVIOMMUState *s);

/** xen_pviommu_notify_finalize: there are no functions any more */
void xen_pviommu_notify_finalize(XenPVIOMMUState *s);

/** xen_pviommu_listener_ops: @opaque is the XenPVIOMMUState */
extern const XenPVIOMMUListenerOps xen_pviommu_listener_ops;

/**
 * xen_pviommu_notify_moved: the function is in another context
 *
 * Listeners lose all that they saw. Those for maps are notified of what is
 * mapped there by xen_pviommu_notify_replay(); call that until it is done.
 */
void xen_pviommu_notify_moved(XenPVIOMMUFunction *f);

/**
 * xen_pviommu_notify_replay: go on with the replay after a move
 *
 * Takes some milliseconds at the most.
 *
 * Returns: true if listeners know all that is mapped.
 */
bool xen_pviommu_notify_replay(XenPVIOMMUFunction *f);

/**
 * xen_pviommu_notify_enabled: the function sees memory no more, or does now
 *
 * Tells caches; listeners for maps learn it from the memory map.
 */
void xen_pviommu_notify_enabled(XenPVIOMMUFunction *f);

/** xen_pviommu_notify_ended: @f listens no more, whatever it has registered */
void xen_pviommu_notify_ended(XenPVIOMMUFunction *f);

/** xen_pviommu_notify_class_init: the callbacks of the memory region's class */
void xen_pviommu_notify_class_init(IOMMUMemoryRegionClass *imrc);

#endif /* HW_XEN_PVIOMMU_NOTIFY_H */
