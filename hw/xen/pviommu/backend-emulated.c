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
 */

#include "qemu/osdep.h"
#include "qemu/lockable.h"
#include "qemu/main-loop.h"
#include "qemu/rcu.h"
#include "../compat.h"
#include "backend-emulated.h"
#include "core/page.h"
#include "hw/xen/xen-page-release.h"
#include "trace.h"

typedef enum SectionKind {
    SECTION_RAM,
    SECTION_ROM,
    SECTION_OTHER,
} SectionKind;

/* A part of the memory map, by guest-physical byte address. */
typedef struct Section {
    uint64_t start;
    uint64_t last;
    MemoryRegion *mr;
    uint64_t offset;            /* in mr, of start */
    SectionKind kind;
    bool unpluggable;                 /* parts of it can be unplugged */
} Section;

/* The memory map at one time. It never changes, and holds a reference on mr. */
typedef struct MemoryMap {
    struct rcu_head rcu;
    GArray *sections;           /* of Section, sorted by address */
    unsigned nr_unpluggable;          /* sections with a RamDiscardManager */
} MemoryMap;

struct XenPVIOMMUBackend {
    MemoryListener listener;
    QemuRecMutex *lock;
    MemoryMap *map;             /* lock; replaced by commit() only */
    const Section *last;        /* of map: where the last page was; or NULL */
    bool changed;               /* BQL: by the transaction under way */
    uint64_t held;              /* references, in all */
    uint64_t work;
    GHashTable *audit;          /* GFN -> references, if they are kept */
    XenPVIOMMURemovedFunc *removed;
    XenPVIOMMUUnpluggedFunc *unplugged;
    void *opaque;
};

static const Section *memory_map_at(const MemoryMap *map, guint i)
{
    return &g_array_index(map->sections, Section, i);
}

/* The first section that has something of [@start, @last], or NULL. */
static const Section *memory_map_find(const MemoryMap *map, uint64_t start,
                                      uint64_t last)
{
    guint low = 0, high = map->sections->len;

    while (low < high) {
        guint mid = low + (high - low) / 2;

        if (memory_map_at(map, mid)->last < start) {
            low = mid + 1;
        } else {
            high = mid;
        }
    }
    return low < map->sections->len && memory_map_at(map, low)->start <= last
        ? memory_map_at(map, low) : NULL;
}

static SectionKind section_kind(const MemoryRegionSection *section)
{
    MemoryRegion *mr = section->mr;

    if (!memory_region_is_ram(mr) || memory_region_is_ram_device(mr)) {
        return memory_region_is_romd(mr) ? SECTION_ROM : SECTION_OTHER;
    }
    return section->readonly || memory_region_is_rom(mr) ? SECTION_ROM
                                                         : SECTION_RAM;
}

static MemoryMap *memory_map_new(void)
{
    MemoryMap *map = g_new0(MemoryMap, 1);

    map->sections = g_array_new(false, false, sizeof(Section));
    return map;
}

/* A copy of the machine's memory map as it is now. BQL held. */
static MemoryMap *memory_map_read(void)
{
    MemoryMap *map = memory_map_new();
    uint64_t pos = 0;

    do {
        /* It takes a reference on the region, which the copy keeps. */
        MemoryRegionSection found = memory_region_find(
            get_system_memory(), pos, pos ? -pos : UINT64_MAX);
        Section s = { .mr = found.mr };

        if (!found.mr) {
            break;
        }
        s.start = found.offset_within_address_space;
        s.last = s.start + int128_get64(int128_sub(found.size, int128_one()));
        s.offset = found.offset_within_region;
        s.kind = section_kind(&found);
        s.unpluggable = memory_region_has_ram_discard_manager(found.mr);
        map->nr_unpluggable += s.unpluggable;
        g_array_append_val(map->sections, s);
        pos = s.last + 1;
    } while (pos);
    return map;
}

static void memory_map_free(MemoryMap *map)
{
    for (guint i = 0; i < map->sections->len; i++) {
        memory_region_unref(memory_map_at(map, i)->mr);
    }
    g_array_unref(map->sections);
    g_free(map);
}

static void emulated_removed(XenPVIOMMUBackend *b, uint64_t start, uint64_t end)
{
    uint64_t gfn = start >> XEN_IOMMU_PAGE_SHIFT;
    uint64_t nr = DIV_ROUND_UP(end, XEN_PVIOMMU_PAGE_SIZE) - gfn;

    trace_xen_pviommu_removed(gfn, nr);
    if (b->removed) {
        b->removed(b->opaque, gfn, nr);
    }
}

/* Report what of @old, a section of the map before, is not there any more. */
static void emulated_compare(XenPVIOMMUBackend *b, const Section *old)
{
    uint64_t pos = old->start, end = old->last + 1;

    while (pos < end) {
        const Section *s = memory_map_find(b->map, pos, end - 1);
        uint64_t same, next;

        if (!s) {
            emulated_removed(b, pos, end);
            break;
        }
        same = MAX(pos, s->start);
        next = MIN(end, s->last + 1);
        if (s->mr != old->mr || s->kind > old->kind ||
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

static void emulated_region_changed(MemoryListener *listener,
                                    MemoryRegionSection *section)
{
    container_of(listener, XenPVIOMMUBackend, listener)->changed = true;
}

static void emulated_commit(MemoryListener *listener)
{
    XenPVIOMMUBackend *b = container_of(listener, XenPVIOMMUBackend, listener);
    MemoryMap *old = b->map, *new;

    if (!b->changed) {
        return;
    }
    b->changed = false;
    new = memory_map_read();
    trace_xen_pviommu_memory_map(new->sections->len, new->nr_unpluggable);
    WITH_QEMU_LOCK_GUARD(b->lock) {
        b->map = new;
        b->last = NULL;
        for (guint i = 0; i < old->sections->len; i++) {
            if (memory_map_at(old, i)->kind != SECTION_OTHER) {
                emulated_compare(b, memory_map_at(old, i));
            }
        }
        if (b->unplugged && !old->nr_unpluggable != !new->nr_unpluggable) {
            b->unplugged(b->opaque);
        }
    }
    /* The last reference on a region may be ours: not in a transaction. */
    call_rcu(old, memory_map_free, rcu);
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

static int emulated_get(XenPVIOMMUBackend *b, uint16_t domid,
                        uint64_t gfn, uint64_t nr, bool readonly)
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
            s = memory_map_find(b->map, pos, pos + XEN_PVIOMMU_PAGE_SIZE - 1);
        }
        if (!s) {
            return -XEN_IOMMU_ENOENT;
        }
        if (s->kind == SECTION_OTHER ||
            (s->kind == SECTION_ROM && !readonly) ||
            s->start > pos || s->last < pos + XEN_PVIOMMU_PAGE_SIZE - 1) {
            return -XEN_IOMMU_EPERM;
        }
        next = QEMU_ALIGN_DOWN(s->last + 1, XEN_PVIOMMU_PAGE_SIZE);
        ret = section_populated(b, s, pos, MIN(next, end));
        if (ret) {
            return ret;
        }
        b->last = s;
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

    while (pos < end && (s = memory_map_find(b->map, pos, end - 1))) {
        uint64_t start = MAX(pos, s->start);

        pos = MIN(end, s->last + 1);
        if (s->kind != SECTION_OTHER && xen_page_source_backs(s->mr)) {
            xen_page_ranges_add(ranges, section_frame(s, start),
                                (pos - start) >> XEN_IOMMU_PAGE_SHIFT);
        }
    }
}

bool xen_pviommu_emulated_has_unplugged(const XenPVIOMMUBackend *b)
{
    return b && b->map->nr_unpluggable;
}

XenPVIOMMUBackend *xen_pviommu_emulated_new(bool audit, QemuRecMutex *lock,
                                            XenPVIOMMURemovedFunc *removed,
                                            XenPVIOMMUUnpluggedFunc *unplugged,
                                            void *opaque)
{
    XenPVIOMMUBackend *b = g_new0(XenPVIOMMUBackend, 1);

    if (audit) {
        b->audit = g_hash_table_new(NULL, NULL);
    }
    b->lock = lock;
    b->removed = removed;
    b->unplugged = unplugged;
    b->opaque = opaque;
    b->map = memory_map_new();
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
    b->removed = NULL;
    b->unplugged = NULL;
    memory_listener_unregister(&b->listener);
    memory_map_free(b->map);
    g_clear_pointer(&b->audit, g_hash_table_unref);
    g_free(b);
}
