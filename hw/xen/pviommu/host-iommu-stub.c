/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Guest pages in the host's IOMMU, where QEMU was built without Xen
 */

#include "qemu/osdep.h"
#include "qapi/error.h"
#include "qapi/qapi-commands-xen-pviommu.h"
#include "hw/xen/xen-pviommu.h"
#include "host-iommu.h"

static void no_xen(Error **errp)
{
    error_setg(errp, "this QEMU was built without Xen");
    error_append_hint(errp, "Use backend=emulated.\n");
}

bool xen_pviommu_host_init(Error **errp)
{
    no_xen(errp);
    return false;
}

void xen_pviommu_host_finalize(void)
{
}

int xen_pviommu_host_map(uint64_t gfn, uint64_t nr, bool readonly,
                         uint64_t *bfn, Error **errp)
{
    no_xen(errp);
    return -ENODEV;
}

int xen_pviommu_host_unmap(uint64_t bfn, uint64_t nr, Error **errp)
{
    return 0;
}

XenPVIOMMUHostRange *
qmp_x_xen_pviommu_host_map(uint64_t gfn, bool has_frames, uint32_t frames,
                           bool has_readonly, bool readonly, Error **errp)
{
    no_xen(errp);
    return NULL;
}

void qmp_x_xen_pviommu_host_unmap(uint64_t bfn, bool has_frames,
                                  uint32_t frames, Error **errp)
{
    no_xen(errp);
}

XenPVIOMMUHostRangeList *qmp_x_query_xen_pviommu_host(Error **errp)
{
    no_xen(errp);
    return NULL;
}
