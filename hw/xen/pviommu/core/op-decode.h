/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * iommu_op: what operations have in common, decoded and checked
 *
 * Locking, units and errors: see state.h.
 */

#ifndef HW_XEN_PVIOMMU_OP_DECODE_H
#define HW_XEN_PVIOMMU_OP_DECODE_H

#include "qemu/bswap.h"
#include "state.h"

/* The guest accepted all of @feature. */
static inline bool op_has_feature(const XenPVIOMMUCore *core, uint64_t feature)
{
    return (core->accepted & feature) == feature;
}

/* ctx and nr_frames as they are on the wire; false for -EINVAL. */
static inline bool op_decode_ctx(const XenPVIOMMUCore *core, uint16_t ctx,
                                 uint32_t *id)
{
    *id = le16_to_cpu(ctx);
    return !*id || op_has_feature(core, XEN_IOMMU_FEATURE_CONTEXTS);
}

static inline bool op_decode_nr(const XenPVIOMMUCore *core, uint32_t nr_frames,
                                uint64_t *nr)
{
    uint32_t n = le32_to_cpu(nr_frames);

    *nr = n ? n : 1;
    return !n || op_has_feature(core, XEN_IOMMU_FEATURE_RANGES);
}

/* An identity context maps by itself: it has no table that could be changed. */
static inline bool op_ctx_has_table(const XenPVIOMMUContext *ctx)
{
    return !ctx || !ctx->identity;
}

static inline bool op_range_within(uint64_t start, uint64_t nr, uint64_t limit)
{
    return start < limit && nr <= limit - start;
}

#endif /* HW_XEN_PVIOMMU_OP_DECODE_H */
