/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a guest does wrong, in QEMU's log: LOG_GUEST_ERROR
 *
 * Locking: its own, as the callers of one device have no lock in common.
 */

#ifndef HW_XEN_PVIOMMU_GUEST_LOG_H
#define HW_XEN_PVIOMMU_GUEST_LOG_H

#include "qemu/thread.h"

typedef struct XenPVIOMMUGuestLog {
    QemuMutex lock;             /* protects the fields below */
    int64_t window_start;       /* ns */
    unsigned window_lines;
} XenPVIOMMUGuestLog;

void xen_pviommu_guest_log_init(XenPVIOMMUGuestLog *log);
void xen_pviommu_guest_log_finalize(XenPVIOMMUGuestLog *log);

/**
 * xen_pviommu_guest_log: write a line, of which a few a second at most are
 * shown
 *
 * Call it with the core's lock, the BQL, or both.
 */
void G_GNUC_PRINTF(2, 3) xen_pviommu_guest_log(XenPVIOMMUGuestLog *log,
                                               const char *fmt, ...);

#endif /* HW_XEN_PVIOMMU_GUEST_LOG_H */
