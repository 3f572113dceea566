/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Functions in a migration stream
 */

#include "qemu/osdep.h"
#include "qemu/error-report.h"
#include "vmstate-path.h"

/* Its length is before each path: there are none without a byte. */
#define PATH_END 0

bool xen_pviommu_path_add(XenPVIOMMUPathList *list, const uint8_t *path,
                          unsigned len)
{
    const uint8_t path_len = len;

    if (len > XEN_PVIOMMU_PATH_MAX) {
        list->too_long = true;
        return false;
    }
    g_byte_array_append(list->bytes, &path_len, 1);
    g_byte_array_append(list->bytes, path, len);
    return true;
}

int xen_pviommu_path_put(QEMUFile *f, const XenPVIOMMUPathList *list,
                         const char *what)
{
    if (list->too_long) {
        error_report("xen-pviommu: a device behind more than %d bridges %s, "
                     "which cannot be saved", XEN_PVIOMMU_PATH_MAX - 1, what);
        return -EINVAL;
    }
    qemu_put_buffer(f, list->bytes->data, list->bytes->len);
    qemu_put_byte(f, PATH_END);
    return 0;
}

unsigned xen_pviommu_path_get(QEMUFile *f, uint8_t path[XEN_PVIOMMU_PATH_MAX])
{
    uint8_t len = qemu_get_byte(f);

    if (len != PATH_END) {
        qemu_get_buffer(f, path, len);
    }
    return len;
}
