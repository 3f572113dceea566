/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The emulated backend: QEMU is the hypervisor, and RAM it owns is the page
 *
 * It keeps a copy of the machine's memory map, so that what is at a GFN is one
 * look-up under the device's lock, and reports RAM that is removed: its pages
 * are then unmapped everywhere, as if a guest had given them back.
 *
 * A transaction of the memory map takes no lock before commit(): other
 * listeners, which are called until then, may wait for an I/O thread, and that
 * may wait for the device's lock. Until commit() the copy is of the map before
 * the transaction. commit() replaces it and reports what was removed in one
 * hold of the lock, so that what was mapped from the old copy meanwhile is
 * unmapped, too.
 *
 * MMIO of a PCI function has nothing that could be held: what is mapped is a
 * part of a BAR at an address, until that BAR is elsewhere.
 */

#include "qemu/osdep.h"
#include "qemu/lockable.h"
#include "qemu/main-loop.h"
#include "qemu/rcu.h"
#include "backend-emulated.h"
#include "core/page.h"
#include "hw/xen/xen-page-release.h"
#include "memory-map.h"
#include "trace.h"

typedef XenPVIOMMUSection Section;
typedef XenPVIOMMUMemoryMap MemoryMap;

struct XenPVIOMMUBackend {
    MemoryListener listener;
    QemuRecMutex *lock;
    MemoryMap *map;             /* lock; replaced by commit() only */
    const Section *last;        /* of map: where the last page was; or NULL */
    bool changed;               /* BQL: by the transaction under way */
    bool mmio;                  /* some was mapped */
    uint64_t held;              /* references, in all */
    uint64_t work;
    GHashTable *audit;          /* GFN -> references, if they are kept */
    PCIDevice *self;
    const XenPVIOMMUMemoryEvents *events;   /* NULL: nothing is reported */
    void *opaque;
};

static void emulated_removed(XenPVIOMMUBackend *b, uint64_t start, uint64_t end)
{
    uint64_t gfn = start >> XEN_IOMMU_PAGE_SHIFT;
    uint64_t nr = DIV_ROUND_UP(end, XEN_PVIOMMU_PAGE_SIZE) - gfn;

    trace_xen_pviommu_removed(gfn, nr);
    if (b->events) {
        b->events->removed(b->opaque, gfn, nr);
    }
}

/* Report what of @old, a section of the map before, is not there any more. */
static void emulated_compare(XenPVIOMMUBackend *b, const Section *old)
{
    uint64_t pos = old->start, end = old->last + 1;

    while (pos < end) {
        const Section *s = xen_pviommu_memory_map_find(b->map, pos, end - 1);
        uint64_t same, next;

        if (!s) {
            emulated_removed(b, pos, end);
            break;
        }
        same = MAX(pos, s->start);
        next = MIN(end, s->last + 1);
        if (s->mr != old->mr || s->kind > old->kind ||
            (old->kind == SECTION_MMIO && s->kind != SECTION_MMIO) ||
            s->offset + (same - s->start) !=
            old->offset + (same - old->start)) {
            same = next;
        }
        if (pos < same) {
            emulated_removed(b, pos, same);
        }
        pos = next;
    }
}

/* Report what is in @a and not in @b: of BARs that stayed, as those are. */
static void emulated_compare_device_ram(XenPVIOMMUBackend *be,
                                        const MemoryMap *a, const MemoryMap *b)
{
    for (guint i = 0; i < a->device_ram->len; i++) {
        const XenPVIOMMUDeviceRam *ram = xen_pviommu_device_ram_at(a, i);

        if (!xen_pviommu_has_device_ram(b, ram)) {
            be->events->can_pin_changed(be->opaque, ram->start,
                                        ram->end - ram->start);
        }
    }
}

static void emulated_region_changed(MemoryListener *listener,
                                    MemoryRegionSection *section)
{
    container_of(listener, XenPVIOMMUBackend, listener)->changed = true;
}

static void emulated_update(XenPVIOMMUBackend *b)
{
    MemoryMap *old = b->map, *new = xen_pviommu_memory_map_read(b->self, old);

    trace_xen_pviommu_memory_map(new->sections->len, new->nr_unpluggable);
    WITH_QEMU_LOCK_GUARD(b->lock) {
        b->map = new;
        b->last = NULL;
        for (guint i = 0; i < old->sections->len; i++) {
            if (xen_pviommu_memory_map_at(old, i)->kind != SECTION_OTHER) {
                emulated_compare(b, xen_pviommu_memory_map_at(old, i));
            }
        }
        if (b->events && b->mmio) {
            emulated_compare_device_ram(b, old, new);
            emulated_compare_device_ram(b, new, old);
        }
        if (b->events && !old->nr_unpluggable != !new->nr_unpluggable) {
            b->events->unplugged(b->opaque);
        }
    }
    /* The last reference on a region may be ours: not in a transaction. */
    call_rcu(old, xen_pviommu_memory_map_free, rcu);
}

static void emulated_commit(MemoryListener *listener)
{
    XenPVIOMMUBackend *b = container_of(listener, XenPVIOMMUBackend, listener);

    if (b->changed) {
        b->changed = false;
        emulated_update(b);
    }
}

void xen_pviommu_emulated_unplugged(XenPVIOMMUBackend *b, const PCIDevice *dev)
{
    for (guint i = 0; i < b->map->sections->len; i++) {
        if (xen_pviommu_memory_map_at(b->map, i)->dev == dev) {
            emulated_update(b);
            break;
        }
    }
}

/* Only for the reference audit: QEMU's own RAM needs no references. */
static void audit_count(XenPVIOMMUBackend *b, uint64_t gfn, uint64_t nr,
                        int change)
{
    for (uint64_t end = gfn + nr; gfn < end; gfn++) {
        gpointer key = (gpointer)(uintptr_t)gfn;
        intptr_t refs = (intptr_t)g_hash_table_lookup(b->audit, key) + change;

        assert(refs >= 0);
        if (refs) {
            g_hash_table_insert(b->audit, key, (gpointer)refs);
        } else {
            g_hash_table_remove(b->audit, key);
        }
    }
}

/* The frame at which the hypervisor has what is at @pos. */
static uint64_t section_frame(const Section *s, uint64_t pos)
{
    return (memory_region_get_ram_addr(s->mr) + s->offset +
            (pos - s->start)) >> XEN_IOMMU_PAGE_SHIFT;
}

/*
 * Parts of RAM can be unplugged, by virtio-mem; under Xen, pages can be
 * missing, which only the hypervisor knows.
 */
static int section_populated(XenPVIOMMUBackend *b, const Section *s,
                             uint64_t start, uint64_t end)
{
    if (s->unpluggable) {
        const MemoryRegionSection part = {
            .mr = s->mr,
            .offset_within_region = s->offset + (start - s->start),
            .size = int128_make64(end - start),
        };

        return bql_locked() && ram_discard_manager_is_populated(
            memory_region_get_ram_discard_manager(s->mr), &part)
            ? 0 : -XEN_IOMMU_ENOENT;
    }
    if (!xen_page_source_backs(s->mr)) {
        return 0;
    }
    switch (xen_page_source_populated(section_frame(s, start),
                                     (end - start) >> XEN_IOMMU_PAGE_SHIFT,
                                     &b->work)) {
    case 0:
        return 0;
    case -EAGAIN:
        return -XEN_IOMMU_EAGAIN;
    default:
        return -XEN_IOMMU_ENOENT;
    }
}

/* XEN_PVIOMMU_GET_* that there must be for a section that is not RAM */
static unsigned section_needs(XenPVIOMMUSectionKind kind)
{
    return kind == SECTION_ROM ? XEN_PVIOMMU_GET_READONLY :
           kind == SECTION_MMIO ? XEN_PVIOMMU_GET_MMIO : UINT_MAX;
}

static int emulated_get(XenPVIOMMUBackend *b, uint16_t domid,
                        uint64_t gfn, uint64_t nr, unsigned flags)
{
    uint64_t pos = gfn << XEN_IOMMU_PAGE_SHIFT;
    uint64_t end = (gfn + nr) << XEN_IOMMU_PAGE_SHIFT;

    /* There is no other domain here. */
    if (domid != XEN_IOMMU_DOMID_SELF) {
        return -XEN_IOMMU_ESRCH;
    }
    while (pos < end) {
        const Section *s = b->last;
        uint64_t next;
        int ret;

        if (!s || s->start > pos ||
            s->last < pos + XEN_PVIOMMU_PAGE_SIZE - 1) {
            s = xen_pviommu_memory_map_find(b->map, pos,
                                            pos + XEN_PVIOMMU_PAGE_SIZE - 1);
        }
        if (!s || s->hidden) {
            return -XEN_IOMMU_ENOENT;
        }
        if ((s->kind != SECTION_RAM && section_needs(s->kind) & ~flags) ||
            s->start > pos || s->last < pos + XEN_PVIOMMU_PAGE_SIZE - 1) {
            return -XEN_IOMMU_EPERM;
        }
        next = QEMU_ALIGN_DOWN(s->last + 1, XEN_PVIOMMU_PAGE_SIZE);
        ret = section_populated(b, s, pos, MIN(next, end));
        if (ret) {
            return ret;
        }
        b->last = s;
        b->mmio |= s->kind == SECTION_MMIO;
        pos = next;
    }
    b->held += nr;
    if (b->audit) {
        audit_count(b, gfn, nr, 1);
    }
    return 0;
}

static void emulated_put(XenPVIOMMUBackend *b, uint64_t gfn, uint64_t nr,
                         bool readonly)
{
    assert(b->held >= nr);
    b->held -= nr;
    if (b->audit) {
        audit_count(b, gfn, nr, -1);
    }
}

static bool emulated_put_frames(XenPVIOMMUBackend *b, uint64_t nr)
{
    if (b->audit) {
        return false;
    }
    assert(b->held >= nr);
    b->held -= nr;
    return true;
}

static uint64_t emulated_work(XenPVIOMMUBackend *b)
{
    return b->work;
}

static uint64_t emulated_total(XenPVIOMMUBackend *b)
{
    return b->held;
}

static uint64_t emulated_refs(XenPVIOMMUBackend *b, uint64_t gfn)
{
    return (uintptr_t)g_hash_table_lookup(b->audit, (gpointer)(uintptr_t)gfn);
}

const XenPVIOMMUBackendOps xen_pviommu_emulated_ops = {
    .ops = UINT32_MAX,
    .get = emulated_get,
    .put = emulated_put,
    .put_frames = emulated_put_frames,
    .work = emulated_work,
    .total = emulated_total,
    .refs = emulated_refs,
};

void xen_pviommu_emulated_held(XenPVIOMMUBackend *b, uint64_t gfn, uint64_t nr,
                               GArray *ranges)
{
    uint64_t pos = gfn << XEN_IOMMU_PAGE_SHIFT;
    uint64_t end = (gfn + nr) << XEN_IOMMU_PAGE_SHIFT;
    const Section *s;

    while (pos < end &&
           (s = xen_pviommu_memory_map_find(b->map, pos, end - 1))) {
        uint64_t start = MAX(pos, s->start);

        pos = MIN(end, s->last + 1);
        if (s->kind <= SECTION_ROM && xen_page_source_backs(s->mr)) {
            xen_page_ranges_add(ranges, section_frame(s, start),
                                (pos - start) >> XEN_IOMMU_PAGE_SHIFT);
        }
    }
}

bool xen_pviommu_emulated_has_unplugged(const XenPVIOMMUBackend *b)
{
    return b && b->map->nr_unpluggable;
}

bool xen_pviommu_emulated_can_pin(const XenPVIOMMUBackend *b, uint64_t gfn,
                                  uint64_t *nr)
{
    const uint64_t pos = gfn << XEN_IOMMU_PAGE_SHIFT;
    uint64_t end = gfn + *nr;
    const Section *s;
    bool can;

    if (!b || !b->mmio) {
        return true;
    }
    s = xen_pviommu_memory_map_find(b->map, pos,
                                    (end << XEN_IOMMU_PAGE_SHIFT) - 1);
    if (s && s->start <= pos) {
        can = s->kind <= SECTION_ROM;
        end = MIN(end, (s->last >> XEN_IOMMU_PAGE_SHIFT) + 1);
        if (s->kind == SECTION_MMIO) {
            can = xen_pviommu_is_device_ram(b->map, gfn, &end);
        }
    } else {
        /* It is about to be unmapped. */
        can = false;
        end = s ? MAX(gfn + 1, s->start >> XEN_IOMMU_PAGE_SHIFT) : end;
    }
    *nr = end - gfn;
    return can;
}

XenPVIOMMUBackend *
xen_pviommu_emulated_new(bool audit, PCIDevice *self, QemuRecMutex *lock,
                         const XenPVIOMMUMemoryEvents *events, void *opaque)
{
    XenPVIOMMUBackend *b = g_new0(XenPVIOMMUBackend, 1);

    if (audit) {
        b->audit = g_hash_table_new(NULL, NULL);
    }
    b->self = self;
    b->lock = lock;
    b->events = events;
    b->opaque = opaque;
    b->map = xen_pviommu_memory_map_new();
    b->listener = (MemoryListener) {
        .name = "xen-pviommu",
        .region_add = emulated_region_changed,
        .region_del = emulated_region_changed,
        .commit = emulated_commit,
    };
    memory_listener_register(&b->listener, &address_space_memory);
    return b;
}

void xen_pviommu_emulated_free(XenPVIOMMUBackend *b)
{
    /* The listener sees all RAM removed now, and the guest keeps it. */
    b->events = NULL;
    memory_listener_unregister(&b->listener);
    xen_pviommu_memory_map_free(b->map);
    g_clear_pointer(&b->audit, g_hash_table_unref);
    g_free(b);
}
