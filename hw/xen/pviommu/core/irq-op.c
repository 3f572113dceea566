/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * iommu_op: the operations on interrupts
 */

#include "qemu/osdep.h"
#include "qemu/bitops.h"
#include "qemu/bswap.h"
#include "irq-op.h"
#include "trace.h"

/* A search looks at all words of the bitmap, twice at the most. */
static void count_search(XenPVIOMMUCore *core)
{
    core->work += 1 + 2 * BITS_TO_LONGS(core->irqs.size) / XEN_PVIOMMU_RUN_WORK;
}

int xen_pviommu_op_alloc_irqs(XenPVIOMMUCore *core, struct xen_iommu_op *op,
                              uint16_t flags)
{
    struct xen_iommu_op_irqs *u = &op->u.irqs;
    uint32_t sbdf = le32_to_cpu(u->sbdf);
    uint32_t nr = le32_to_cpu(u->nr);
    XenPVIOMMUIrqOwner *owner;
    uint32_t handle = 0;
    int ret;

    if (u->handle || u->pad || u->pad1 || !nr || nr > XEN_IOMMU_ALLOC_IRQS) {
        return -XEN_IOMMU_EINVAL;
    }
    owner = core->attachment_ops->irq_owner(core->client, sbdf);
    if (!owner || owner->passed) {
        return -XEN_IOMMU_ENODEV;
    }
    count_search(core);
    ret = xen_pviommu_irqs_alloc(&core->irqs, owner, nr, &handle);
    if (!ret) {
        u->handle = cpu_to_le32(handle);
    }
    trace_xen_pviommu_irqs_alloc(sbdf, nr, handle, ret);
    return ret;
}

int xen_pviommu_op_set_irq(XenPVIOMMUCore *core, struct xen_iommu_op *op,
                           uint16_t flags)
{
    const struct xen_iommu_op_set_irq *u = &op->u.set_irq;
    uint32_t handle = le32_to_cpu(u->handle);
    const XenPVIOMMUIrq irq = {
        .dest = le32_to_cpu(u->dest),
        .vector = u->vector,
        .delivery = u->delivery,
        .flags = flags,
    };
    int ret;

    if (u->pad || u->pad1 || u->pad2 || !xen_pviommu_irq_valid(&irq)) {
        return -XEN_IOMMU_EINVAL;
    }
    ret = xen_pviommu_irq_set(&core->irqs, handle, &irq);
    trace_xen_pviommu_irq_set(handle, irq.dest, irq.vector, irq.delivery, flags,
                              ret);
    return ret;
}

int xen_pviommu_op_free_irqs(XenPVIOMMUCore *core, struct xen_iommu_op *op,
                             uint16_t flags)
{
    const struct xen_iommu_op_irqs *u = &op->u.irqs;
    uint32_t handle = le32_to_cpu(u->handle);
    int ret;

    if (u->sbdf || u->nr || u->pad || u->pad1) {
        return -XEN_IOMMU_EINVAL;
    }
    ret = xen_pviommu_irqs_free(&core->irqs, handle);
    trace_xen_pviommu_irqs_free(handle, ret);
    return ret;
}

int xen_pviommu_op_direct_irqs(XenPVIOMMUCore *core, struct xen_iommu_op *op,
                               uint16_t flags)
{
    const struct xen_iommu_op_direct_irqs *u = &op->u.direct_irqs;
    bool on = flags & XEN_IOMMUOP_direct_irqs_on;
    uint32_t sbdf = le32_to_cpu(u->sbdf);
    XenPVIOMMUIrqOwner *owner;

    if (u->pad || u->pad1[0] || u->pad1[1]) {
        return -XEN_IOMMU_EINVAL;
    }
    owner = core->attachment_ops->irq_owner(core->client, sbdf);
    trace_xen_pviommu_irqs_direct(sbdf, on, owner != NULL);
    if (!owner || (owner->passed && !on)) {
        return -XEN_IOMMU_ENODEV;
    }
    owner->direct = on;
    core->irqs.changes++;
    return 0;
}
