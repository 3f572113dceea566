/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * QMP commands that look into the paravirtual IOMMU, where there is none
 */

#include "qemu/osdep.h"
#include "qapi/error.h"
#include "qapi/qapi-commands-xen-pviommu.h"

XenPVIOMMUInfo *qmp_x_query_xen_pviommu(bool has_start_context,
                                        uint16_t start_context, bool has_max,
                                        uint32_t max, Error **errp)
{
    error_setg(errp, "this QEMU has no xen-pviommu");
    return NULL;
}

XenPVIOMMUMappings *
qmp_x_query_xen_pviommu_mappings(uint16_t context, bool has_start_bfn,
                                 uint64_t start_bfn, bool has_max,
                                 uint32_t max, Error **errp)
{
    error_setg(errp, "this QEMU has no xen-pviommu");
    return NULL;
}

XenPVIOMMUPlaces *
qmp_x_query_xen_pviommu_gfn(uint64_t gfn, bool has_start_context,
                            uint16_t start_context, bool has_start_bfn,
                            uint64_t start_bfn, bool has_max, uint32_t max,
                            Error **errp)
{
    error_setg(errp, "this QEMU has no xen-pviommu");
    return NULL;
}

XenPVIOMMUInterruptList *
qmp_x_query_xen_pviommu_interrupts(bool has_start, uint32_t start, bool has_max,
                                   uint32_t max, Error **errp)
{
    error_setg(errp, "this QEMU has no xen-pviommu");
    return NULL;
}

XenPVIOMMUFaultInfoList *qmp_x_query_xen_pviommu_faults(Error **errp)
{
    error_setg(errp, "this QEMU has no xen-pviommu");
    return NULL;
}
