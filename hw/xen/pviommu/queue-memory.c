/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A queue's memory: where the guest has it, and what the device stores there
 */

#include "qemu/osdep.h"
#include "qemu/rcu.h"
#include "guest-memory.h"
#include "queue-memory.h"

/* The RAM that is at @addr, all of @size in one piece; or NULL. */
static MemoryRegion *find_ram(uint64_t addr, uint64_t size, hwaddr *offset)
{
    MemoryRegion *mr = NULL;
    uint64_t done = 0;

    RCU_READ_LOCK_GUARD();

    while (done < size) {
        hwaddr part, len = size - done;
        MemoryRegion *next = address_space_translate(&address_space_memory,
                                                     addr + done, &part, &len,
                                                     true,
                                                     MEMTXATTRS_UNSPECIFIED);

        if (!memory_access_is_direct(next, true, MEMTXATTRS_UNSPECIFIED) ||
            (mr && (next != mr || part != *offset + done))) {
            return NULL;
        }
        if (!mr) {
            mr = next;
            *offset = part;
        }
        done += len;
    }
    memory_region_ref(mr);
    return mr;
}

bool xen_pviommu_queue_map(XenPVIOMMUQueue *q)
{
    uint64_t gfn = q->addr >> XEN_IOMMU_PAGE_SHIFT;
    uint64_t nr = xen_pviommu_queue_pages(q);
    const XenPVIOMMUCore *core = &q->s->core;
    MemoryRegion *mr;
    void *shared;

    /* There may be no page. What leaves takes the queue along. */
    if (core->backend_ops->get(core->backend, XEN_IOMMU_DOMID_SELF, gfn, nr,
                               false)) {
        return false;
    }
    core->backend_ops->put(core->backend, gfn, nr, false);
    /* A cache would hold on to the memory map, and to all devices in it. */
    mr = find_ram(q->addr, xen_pviommu_queue_size(q->nr_ops), &q->offset);
    if (!mr) {
        return false;
    }
    shared = xen_page_map_long_lived(mr, q->offset,
                                     xen_pviommu_queue_size(q->nr_ops));
    if (!shared) {
        memory_region_unref(mr);
        return false;
    }
    q->mr = mr;
    qatomic_rcu_set(&q->shared, shared);
    return true;
}

void xen_pviommu_queue_free(XenPVIOMMUQueue *q)
{
    if (q->shared) {
        xen_page_unmap_long_lived(q->mr, q->shared);
        memory_region_unref(q->mr);
    }
    node_pool_heap_free(q->pool, q, sizeof(*q));
}

void xen_pviommu_queue_stored(XenPVIOMMUQueue *q, hwaddr offset, hwaddr len)
{
    memory_region_set_dirty(q->mr, q->offset + offset, len);
}

void xen_pviommu_queue_stored_state(XenPVIOMMUQueue *q)
{
    const hwaddr start = offsetof(struct xen_iommu_queue, head);

    xen_pviommu_queue_stored(q, start, xen_pviommu_queue_size(0) - start);
}

void xen_pviommu_queue_set_flags(XenPVIOMMUQueue *q, uint32_t flags)
{
    if (q->shared && xen_pviommu_may_dma(q->s)) {
        qatomic_set(&q->shared->flags, cpu_to_le32(flags));
        xen_pviommu_queue_stored_state(q);
    }
}

XenPVIOMMUQueue *xen_pviommu_queue_new(XenPVIOMMUState *s,
                                       XenPVIOMMUContext *ctx,
                                       uint64_t addr, uint32_t nr_ops)
{
    NodePool *pool = s->core.budget.pool;
    XenPVIOMMUQueue *q = node_pool_heap_alloc(pool, sizeof(*q));

    if (!q) {
        return NULL;
    }
    q->pool = pool;
    q->s = s;
    q->ctx = ctx;
    q->addr = addr;
    q->nr_ops = nr_ops;
    return q;
}
