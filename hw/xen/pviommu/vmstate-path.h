/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Functions in a migration stream
 *
 * Bus numbers are the guest's and come later in the stream, so a function is
 * named by its path, the way to it: see XenPVIOMMUFunctionFunc. What a list has
 * of each function follows its path.
 */

#ifndef HW_XEN_PVIOMMU_VMSTATE_PATH_H
#define HW_XEN_PVIOMMU_VMSTATE_PATH_H

#include "migration/qemu-file-types.h"

/* Bridges on the way to a function, and itself: PCI has 256 buses. */
#define XEN_PVIOMMU_PATH_MAX    UINT8_MAX

/*
 * A list that is being written: it is gathered with the lock held, and put into
 * the stream without.
 */
typedef struct XenPVIOMMUPathList {
    GByteArray *bytes;
    bool too_long;              /* a path that does not fit was left out */
} XenPVIOMMUPathList;

/**
 * xen_pviommu_path_add: begin a function
 *
 * Returns: false if its path does not fit; then the list cannot be put.
 */
bool xen_pviommu_path_add(XenPVIOMMUPathList *list, const uint8_t *path,
                          unsigned len);

/**
 * xen_pviommu_path_put: put a list, and its end
 * @what: what all that are in it do or have, for a message
 *
 * Returns: 0, or -EINVAL with a message and nothing put.
 */
int xen_pviommu_path_put(QEMUFile *f, const XenPVIOMMUPathList *list,
                         const char *what);

/**
 * xen_pviommu_path_get: the next path of a list
 *
 * Returns: its length, or 0 at the end; also where the stream ends.
 */
unsigned xen_pviommu_path_get(QEMUFile *f,
                              uint8_t path[XEN_PVIOMMU_PATH_MAX]);

#endif /* HW_XEN_PVIOMMU_VMSTATE_PATH_H */
