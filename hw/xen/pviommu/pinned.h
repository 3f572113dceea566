/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * RAM that assigned devices have pinned, and that must not be discarded
 *
 * VFIO pins what a device can reach. While one sees memory untranslated that is
 * all of it, and QEMU must not discard any.
 *
 * Locking: BQL, and within it XenPVIOMMUState.lock.
 */

#ifndef HW_XEN_PVIOMMU_PINNED_H
#define HW_XEN_PVIOMMU_PINNED_H

#include "device.h"

/**
 * xen_pviommu_update_pinned: forbid, or allow, that RAM is discarded
 *
 * It is forbidden while assigned devices see RAM untranslated. Call it before
 * they do, and when they do not any more, which always succeeds.
 */
bool xen_pviommu_update_pinned(XenPVIOMMUState *s);

/** xen_pviommu_pin: forbid it; false if RAM must be discarded */
bool xen_pviommu_pin(XenPVIOMMUState *s);

/** xen_pviommu_unpin: allow it, if nothing forbids it any more */
void xen_pviommu_unpin(XenPVIOMMUState *s);

#endif /* HW_XEN_PVIOMMU_PINNED_H */
