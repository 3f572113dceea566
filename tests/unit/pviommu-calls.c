/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Operations of a test, one at a time
 */

#include "qemu/osdep.h"
#include "qemu/bswap.h"
#include "pviommu-calls.h"

/* Without the RANGES feature, or for one page: 0 */
int do_map(Fixture *f, uint16_t ctx, uint64_t bfn, uint64_t gfn,
           uint32_t nr, uint16_t flags)
{
    struct xen_iommu_op op = {
        .op = cpu_to_le16(XEN_IOMMUOP_map),
        .flags = cpu_to_le16(flags),
        .u.map = {
            .bfn = cpu_to_le64(bfn),
            .gfn = cpu_to_le64(gfn),
            .domid = cpu_to_le16(DOMID_SELF),
            .ctx = cpu_to_le16(ctx),
            .nr_frames = cpu_to_le32(nr),
        },
    };

    return fixture_op(f, &op);
}

int do_unmap(Fixture *f, uint16_t ctx, uint64_t bfn, uint32_t nr)
{
    struct xen_iommu_op op = {
        .op = cpu_to_le16(XEN_IOMMUOP_unmap),
        .u.unmap = {
            .bfn = cpu_to_le64(bfn),
            .ctx = cpu_to_le16(ctx),
            .nr_frames = cpu_to_le32(nr),
        },
    };

    return fixture_op(f, &op);
}

int do_unmap_skip(Fixture *f, uint16_t ctx, uint64_t bfn, uint32_t nr)
{
    struct xen_iommu_op op = {
        .op = cpu_to_le16(XEN_IOMMUOP_unmap),
        .flags = cpu_to_le16(XEN_IOMMUOP_unmap_holes),
        .u.unmap = {
            .bfn = cpu_to_le64(bfn),
            .ctx = cpu_to_le16(ctx),
            .nr_frames = cpu_to_le32(nr),
        },
    };

    return fixture_op(f, &op);
}

int do_flush(Fixture *f, uint16_t ctx, uint64_t bfn, uint32_t nr)
{
    struct xen_iommu_op op = {
        .op = cpu_to_le16(XEN_IOMMUOP_flush),
        .u.flush = {
            .bfn = cpu_to_le64(bfn),
            .ctx = cpu_to_le16(ctx),
            .nr_frames = cpu_to_le32(nr),
        },
    };

    return fixture_op(f, &op);
}

int do_flush_all(Fixture *f, uint16_t ctx)
{
    return do_flush(f, ctx, XEN_IOMMU_FLUSH_ALL, 0);
}

int do_lookup(Fixture *f, uint16_t code, uint16_t ctx, uint64_t bfn,
              uint64_t gfn, struct xen_iommu_op *op)
{
    *op = (struct xen_iommu_op) {
        .op = cpu_to_le16(code),
        .u.lookup = {
            .bfn = cpu_to_le64(bfn),
            .gfn = cpu_to_le64(gfn),
            .ctx = cpu_to_le16(ctx),
        },
    };
    return fixture_op(f, op);
}

int do_alloc(Fixture *f, uint16_t *ctx)
{
    struct xen_iommu_op op = {
        .op = cpu_to_le16(XEN_IOMMUOP_alloc_context),
    };
    int ret = fixture_op(f, &op);

    *ctx = le16_to_cpu(op.u.context.ctx);
    return ret;
}

int do_free(Fixture *f, uint16_t ctx)
{
    struct xen_iommu_op op = {
        .op = cpu_to_le16(XEN_IOMMUOP_free_context),
        .u.context.ctx = cpu_to_le16(ctx),
    };

    return fixture_op(f, &op);
}

int do_attach(Fixture *f, uint32_t sbdf, uint16_t ctx)
{
    struct xen_iommu_op op = {
        .op = cpu_to_le16(XEN_IOMMUOP_attach_device),
        .u.attach_device = {
            .sbdf = cpu_to_le32(sbdf),
            .ctx = cpu_to_le16(ctx),
        },
    };

    return fixture_op(f, &op);
}

int do_enable(Fixture *f)
{
    struct xen_iommu_op op = { .op = cpu_to_le16(XEN_IOMMUOP_enable) };

    return fixture_op(f, &op);
}

int do_set_queue(Fixture *f, uint16_t ctx, uint64_t addr, uint32_t nr_ops)
{
    struct xen_iommu_op op = {
        .op = cpu_to_le16(XEN_IOMMUOP_set_queue),
        .u.set_queue = {
            .addr = cpu_to_le64(addr),
            .ctx = cpu_to_le16(ctx),
            .nr_ops = cpu_to_le32(nr_ops),
        },
    };

    return fixture_op(f, &op);
}

int do_enable_irqs(Fixture *f)
{
    struct xen_iommu_op op = {
        .op = cpu_to_le16(XEN_IOMMUOP_enable),
        .flags = cpu_to_le16(XEN_IOMMUOP_enable_irqs),
    };

    return fixture_op(f, &op);
}

int do_alloc_irqs(Fixture *f, uint32_t sbdf, uint32_t nr, uint32_t *handle)
{
    struct xen_iommu_op op = {
        .op = cpu_to_le16(XEN_IOMMUOP_alloc_irqs),
        .u.irqs = {
            .sbdf = cpu_to_le32(sbdf),
            .nr = cpu_to_le32(nr),
        },
    };
    int ret = fixture_op(f, &op);

    *handle = le32_to_cpu(op.u.irqs.handle);
    return ret;
}

int do_set_irq(Fixture *f, uint32_t handle, uint32_t dest, uint8_t vector,
               uint8_t delivery, uint16_t flags)
{
    struct xen_iommu_op op = {
        .op = cpu_to_le16(XEN_IOMMUOP_set_irq),
        .flags = cpu_to_le16(flags),
        .u.set_irq = {
            .handle = cpu_to_le32(handle),
            .dest = cpu_to_le32(dest),
            .vector = vector,
            .delivery = delivery,
        },
    };

    return fixture_op(f, &op);
}

int do_free_irqs(Fixture *f, uint32_t handle)
{
    struct xen_iommu_op op = {
        .op = cpu_to_le16(XEN_IOMMUOP_free_irqs),
        .u.irqs.handle = cpu_to_le32(handle),
    };

    return fixture_op(f, &op);
}

int do_direct_irqs(Fixture *f, uint32_t sbdf, bool on)
{
    struct xen_iommu_op op = {
        .op = cpu_to_le16(XEN_IOMMUOP_direct_irqs),
        .flags = cpu_to_le16(on ? XEN_IOMMUOP_direct_irqs_on : 0),
        .u.direct_irqs.sbdf = cpu_to_le32(sbdf),
    };

    return fixture_op(f, &op);
}

int do_query_reserved(Fixture *f, uint16_t flags, uint32_t sbdf,
                      uint16_t ctx, uint64_t addr, uint32_t room,
                      uint32_t *nr)
{
    struct xen_iommu_op op = {
        .op = cpu_to_le16(XEN_IOMMUOP_query_reserved),
        .flags = cpu_to_le16(flags),
        .u.query_reserved = {
            .nr_entries = cpu_to_le32(room),
            .ranges = cpu_to_le64(addr),
            .sbdf = cpu_to_le32(sbdf),
            .ctx = cpu_to_le16(ctx),
        },
    };
    int ret = fixture_op(f, &op);

    *nr = le32_to_cpu(op.u.query_reserved.nr_entries);
    return ret;
}
