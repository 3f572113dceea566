/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Functions that Xen passes through, where QEMU was built without Xen: none
 */

#include "qemu/osdep.h"
#include "passed.h"

void xen_pviommu_passed_init(XenPVIOMMUState *s)
{
}

void xen_pviommu_passed_finalize(XenPVIOMMUState *s)
{
}

bool xen_pviommu_passed_behind(XenPVIOMMUState *s, const PCIDevice *dev)
{
    return false;
}

const char *xen_pviommu_passed_missing(XenPVIOMMUState *s, const PCIDevice *dev)
{
    return NULL;
}

void xen_pviommu_passed_unplugged(XenPVIOMMUState *s, const PCIDevice *dev)
{
}

void xen_pviommu_passed_map(XenPVIOMMUState *s, XenPVIOMMUContext *ctx,
                            const BfnRun *run)
{
}

void xen_pviommu_passed_unmap(XenPVIOMMUState *s, XenPVIOMMUContext *ctx,
                              uint64_t bfn, uint64_t nr)
{
}

bool xen_pviommu_passed_listening(XenPVIOMMUState *s,
                                  const XenPVIOMMUContext *ctx)
{
    return false;
}

void xen_pviommu_passed_begin(XenPVIOMMUState *s, unsigned tag)
{
}

void xen_pviommu_passed_commit(XenPVIOMMUState *s,
                               XenPVIOMMUFailedFunc *failed, void *data)
{
}

int xen_pviommu_passed_attach(XenPVIOMMUState *s, XenPVIOMMUFunction *f,
                              XenPVIOMMUContext *ctx)
{
    return 0;
}

bool xen_pviommu_passed_attached(XenPVIOMMUState *s, XenPVIOMMUFunction *f)
{
    return true;
}

void xen_pviommu_passed_detach_all(XenPVIOMMUState *s)
{
}

void xen_pviommu_passed_update(XenPVIOMMUState *s)
{
}

void xen_pviommu_passed_reserve(XenPVIOMMUState *s, XenPVIOMMUFunction *f)
{
}
