/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * How much memory, and how much work, one device may take
 *
 * What a guest adds is refused where it would bring the memory in use, and what
 * is reserved, beyond max_bytes. What only splits mappings that are there never
 * is: for each large leaf, and each place that stands for many frames, what all
 * splits of it could take is reserved, and a split turns a part of that into
 * memory in use.
 *
 * Locking: as the BFN tables and the GFN index that share it; node-pool.h has
 * its own.
 */

#ifndef HW_XEN_PVIOMMU_BUDGET_H
#define HW_XEN_PVIOMMU_BUDGET_H

#include "node-pool.h"

typedef struct XenPVIOMMUBudget {
    NodePool *pool;
    size_t reserved;            /* bytes that splits may still take */
    size_t max_bytes;
    size_t nodes;               /* of tables, without those RCU will free */
    uint64_t work;              /* slots the writer looked at and changed */
} XenPVIOMMUBudget;

static inline void xen_pviommu_budget_init(XenPVIOMMUBudget *b,
                                           size_t max_bytes)
{
    b->pool = node_pool_new();
    b->max_bytes = max_bytes;
}

/* All tables and the index are freed; nodes may still wait for RCU. */
static inline void xen_pviommu_budget_destroy(XenPVIOMMUBudget *b)
{
    node_pool_release(b->pool);
    b->pool = NULL;
}

/** xen_pviommu_budget_allows: there may be @more bytes */
static inline bool xen_pviommu_budget_allows(const XenPVIOMMUBudget *b,
                                             size_t more)
{
    return node_pool_bytes(b->pool) + b->reserved + more <= b->max_bytes;
}

/**
 * xen_pviommu_budget_prepare: for @nodes nodes that something new needs
 * @reserve: bytes that it will reserve
 *
 * Returns: false if that is not allowed, or there is no memory.
 */
static inline bool xen_pviommu_budget_prepare(XenPVIOMMUBudget *b,
                                              unsigned nodes, size_t reserve)
{
    size_t lacks = node_pool_lacks(b->pool, nodes);

    return xen_pviommu_budget_allows(b, lacks + reserve) &&
           ((!lacks && !node_pool_test_fails) ||
            node_pool_fill(b->pool, nodes));
}

/** xen_pviommu_budget_alloc: from the heap, zeroed, for something new */
static inline void *xen_pviommu_budget_alloc(XenPVIOMMUBudget *b, size_t size)
{
    return xen_pviommu_budget_allows(b, node_pool_heap_cost(size))
           ? node_pool_heap_alloc(b->pool, size) : NULL;
}

#endif /* HW_XEN_PVIOMMU_BUDGET_H */
