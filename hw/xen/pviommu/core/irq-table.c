/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The table of interrupts: what a device's message raises, and whose it is
 */

#include "qemu/osdep.h"
#include "qemu/bitmap.h"
#include "irq-table.h"

#define FLAGS (XEN_IOMMUOP_set_irq_masked | XEN_IOMMUOP_set_irq_logical | \
               XEN_IOMMUOP_set_irq_level)

static size_t used_bytes(uint32_t size)
{
    return BITS_TO_LONGS(size) * sizeof(unsigned long);
}

size_t xen_pviommu_irqs_bytes(uint32_t size)
{
    return size ? node_pool_heap_cost(size * sizeof(XenPVIOMMUIrq)) +
                  node_pool_heap_cost(used_bytes(size)) : 0;
}

bool xen_pviommu_irqs_init(XenPVIOMMUIrqTable *t, NodePool *pool, uint32_t size)
{
    *t = (XenPVIOMMUIrqTable) { .size = size };
    if (!size) {
        return true;
    }
    t->entries = node_pool_heap_alloc(pool, size * sizeof(*t->entries));
    t->used = node_pool_heap_alloc(pool, used_bytes(size));
    return t->entries && t->used;
}

void xen_pviommu_irqs_finalize(XenPVIOMMUIrqTable *t, NodePool *pool)
{
    if (t->entries) {
        node_pool_heap_free(pool, t->entries, t->size * sizeof(*t->entries));
    }
    if (t->used) {
        node_pool_heap_free(pool, t->used, used_bytes(t->size));
    }
    *t = (XenPVIOMMUIrqTable) { 0 };
}

static bool find_free(const XenPVIOMMUIrqTable *t, unsigned nr, uint32_t *first)
{
    *first = bitmap_find_next_zero_area(t->used, t->size, t->next, nr, 0);
    if (*first >= t->size) {
        *first = bitmap_find_next_zero_area(t->used, t->size, 0, nr, 0);
    }
    return *first < t->size;
}

static void entry_take(XenPVIOMMUIrqTable *t, uint32_t handle,
                       const XenPVIOMMUIrq *irq)
{
    t->entries[handle] = *irq;
    set_bit(handle, t->used);
    t->nr_used++;
    irq->owner->nr++;
}

static void entry_free(XenPVIOMMUIrqTable *t, uint32_t handle)
{
    t->entries[handle].owner->nr--;
    t->entries[handle] = (XenPVIOMMUIrq) { 0 };
    clear_bit(handle, t->used);
    t->nr_used--;
    t->changes++;
}

int xen_pviommu_irqs_alloc(XenPVIOMMUIrqTable *t, XenPVIOMMUIrqOwner *owner,
                           unsigned nr, uint32_t *handle)
{
    if (!find_free(t, nr, handle)) {
        return -XEN_IOMMU_ENOSPC;
    }
    for (unsigned i = 0; i < nr; i++) {
        const XenPVIOMMUIrq irq = {
            .owner = owner,
            .flags = XEN_IOMMUOP_set_irq_masked,
            .index = i,
        };

        entry_take(t, *handle + i, &irq);
    }
    t->next = *handle + nr;
    return 0;
}

int xen_pviommu_irqs_free(XenPVIOMMUIrqTable *t, uint32_t handle)
{
    if (handle >= t->size || !t->entries[handle].owner ||
        t->entries[handle].index) {
        return -XEN_IOMMU_ENOENT;
    }
    do {
        entry_free(t, handle++);
        /* The first of others has index 0, as a free entry has. */
    } while (handle < t->size && t->entries[handle].index);
    return 0;
}

void xen_pviommu_irqs_free_owner(XenPVIOMMUIrqTable *t,
                                 XenPVIOMMUIrqOwner *owner)
{
    for (uint32_t i = 0; owner->nr; i++) {
        if (t->entries[i].owner == owner) {
            entry_free(t, i);
        }
    }
}

void xen_pviommu_irqs_reset(XenPVIOMMUIrqTable *t)
{
    for (uint32_t i = 0; t->nr_used; i++) {
        if (t->entries[i].owner) {
            entry_free(t, i);
        }
    }
    t->next = 0;
    t->enabled = false;
    t->raised = 0;
}

bool xen_pviommu_irq_valid(const XenPVIOMMUIrq *irq)
{
    if (irq->flags & XEN_IOMMUOP_set_irq_masked) {
        return irq->flags == XEN_IOMMUOP_set_irq_masked && !irq->dest &&
               !irq->vector && !irq->delivery;
    }
    switch (irq->delivery) {
    case XEN_IOMMU_IRQ_FIXED:
    case XEN_IOMMU_IRQ_LOWEST:
        if (irq->vector < XEN_IOMMU_IRQ_MIN_VECTOR) {
            return false;
        }
        break;
    case XEN_IOMMU_IRQ_SMI:
    case XEN_IOMMU_IRQ_NMI:
    case XEN_IOMMU_IRQ_INIT:
    case XEN_IOMMU_IRQ_EXTINT:
        break;
    default:
        return false;
    }
    return !(irq->flags & ~FLAGS);
}

int xen_pviommu_irq_set(XenPVIOMMUIrqTable *t, uint32_t handle,
                        const XenPVIOMMUIrq *irq)
{
    XenPVIOMMUIrq *e;

    if (handle >= t->size || !t->entries[handle].owner) {
        return -XEN_IOMMU_ENOENT;
    }
    e = &t->entries[handle];
    e->dest = irq->dest;
    e->vector = irq->vector;
    e->delivery = irq->delivery;
    e->flags = irq->flags;
    t->changes++;
    return 0;
}

bool xen_pviommu_irq_restore(XenPVIOMMUIrqTable *t, uint32_t handle,
                             const XenPVIOMMUIrq *irq)
{
    const XenPVIOMMUIrq *before;

    if (handle >= t->size || t->entries[handle].owner ||
        irq->index >= XEN_IOMMU_ALLOC_IRQS || !xen_pviommu_irq_valid(irq)) {
        return false;
    }
    if (irq->index) {
        before = handle ? &t->entries[handle - 1] : NULL;
        if (!before || before->owner != irq->owner ||
            before->index != irq->index - 1) {
            return false;
        }
    }
    entry_take(t, handle, irq);
    t->next = handle + 1;
    t->changes++;
    return true;
}

const XenPVIOMMUIrq *xen_pviommu_irq_find(const XenPVIOMMUIrqTable *t,
                                          const XenPVIOMMUIrqOwner *owner,
                                          uint64_t addr, uint32_t data,
                                          uint32_t *reason)
{
    uint64_t offset = addr - XEN_IOMMU_IRQ_ADDR(0);
    uint32_t index = data - XEN_IOMMU_IRQ_DATA(0);
    uint64_t handle = offset / 4 + index;
    const XenPVIOMMUIrq *e;

    *reason = XEN_IOMMU_FAULT_REASON_irq;
    /* All are unsigned: what is below the first is far too large. */
    if (offset % 4 || offset / 4 >= t->size || index >= XEN_IOMMU_ALLOC_IRQS ||
        handle >= t->size) {
        return NULL;
    }
    e = &t->entries[handle];
    if (e->owner != owner || e->index != index) {
        return NULL;
    }
    if (e->flags & XEN_IOMMUOP_set_irq_masked) {
        *reason = XEN_IOMMU_FAULT_REASON_masked;
        return NULL;
    }
    return e;
}

static bool entry_wrong(const XenPVIOMMUIrqTable *t, uint32_t handle)
{
    static const XenPVIOMMUIrq free_entry;
    const XenPVIOMMUIrq *e = &t->entries[handle];

    if (!e->owner) {
        return memcmp(e, &free_entry, sizeof(*e));
    }
    return !xen_pviommu_irq_valid(e) || e->index >= XEN_IOMMU_ALLOC_IRQS ||
           (e->index && (!handle || e[-1].owner != e->owner ||
                         e[-1].index != e->index - 1));
}

const char *xen_pviommu_irqs_wrong(const XenPVIOMMUIrqTable *t)
{
    g_autoptr(GHashTable) owners = g_hash_table_new(NULL, NULL);
    gpointer owner, nr;
    GHashTableIter iter;
    uint32_t used = 0;

    for (uint32_t i = 0; i < t->size; i++) {
        const XenPVIOMMUIrq *e = &t->entries[i];

        if (!!test_bit(i, t->used) != !!e->owner) {
            return "a bit does not say whether its entry is in use";
        }
        if (entry_wrong(t, i)) {
            return "an entry is none that could have been set";
        }
        if (e->owner) {
            nr = g_hash_table_lookup(owners, e->owner);
            g_hash_table_insert(owners, e->owner, nr + 1);
            used++;
        }
    }
    if (used != t->nr_used) {
        return "entries in use are not as many as were counted";
    }
    g_hash_table_iter_init(&iter, owners);
    while (g_hash_table_iter_next(&iter, &owner, &nr)) {
        if (((XenPVIOMMUIrqOwner *)owner)->nr != (uintptr_t)nr) {
            return "an owner has not as many entries as were counted";
        }
    }
    return NULL;
}
