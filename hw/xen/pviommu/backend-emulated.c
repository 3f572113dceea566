/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The emulated backend: QEMU is the hypervisor, and RAM it owns is the page
 *
 * It follows the machine's memory map, so that what is at a GFN is one
 * look-up, and reports RAM that goes away: its pages are then unmapped
 * everywhere, as if a guest had given them back.
 */

#include "qemu/osdep.h"
#include "qemu/interval-tree.h"
#include "qemu/main-loop.h"
#include "compat.h"
#include "backend.h"
#include "hw/xen/interface/iommu_op.h"
#include "hw/xen/xen-pviommu.h"
#include "trace.h"

#define PAGE_SIZE_BYTES (1ull << XEN_IOMMU_PAGE_SHIFT)

typedef enum SectionKind {
    SECTION_RAM,
    SECTION_ROM,
    SECTION_OTHER,
} SectionKind;

/* A part of the memory map, by guest-physical byte address. */
typedef struct Section {
    IntervalTreeNode node;
    MemoryRegion *mr;
    uint64_t offset;            /* in mr, of node.start */
    SectionKind kind;
    bool holed;                 /* parts of it can be unplugged */
} Section;

struct XenPVIOMMUBackend {
    MemoryListener listener;
    QemuRecMutex *lock;         /* held from begin() to commit() */
    IntervalTreeRoot sections;
    const Section *last;        /* that pages were taken from, or NULL */
    unsigned nr_holed;          /* sections with a RamDiscardManager */
    bool had_holes;             /* before the transaction under way */
    GPtrArray *removed;         /* of Section, in the transaction under way */
    uint64_t held;              /* references, in all */
    uint64_t work;
    GHashTable *books;          /* GFN -> references, if they are kept */
    XenPVIOMMULostFunc *lost;
    XenPVIOMMUHolesFunc *holes;
    void *opaque;
};

static Section *section_of(IntervalTreeNode *node)
{
    return node ? container_of(node, Section, node) : NULL;
}

static Section *section_find(XenPVIOMMUBackend *b, uint64_t start,
                             uint64_t last)
{
    return section_of(interval_tree_iter_first(&b->sections, start, last));
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

/*
 * Until commit(), a section that changes is not there. Who looks then, without
 * the BQL, has to wait: what is mapped from it would fail.
 */
static void begin(MemoryListener *listener)
{
    qemu_rec_mutex_lock(container_of(listener, XenPVIOMMUBackend,
                                     listener)->lock);
}

static void region_add(MemoryListener *listener, MemoryRegionSection *section)
{
    XenPVIOMMUBackend *b = container_of(listener, XenPVIOMMUBackend, listener);
    Section *s = g_new0(Section, 1);

    s->node.start = section->offset_within_address_space;
    s->node.last = s->node.start + int128_get64(int128_sub(section->size,
                                                           int128_one()));
    s->mr = section->mr;
    s->offset = section->offset_within_region;
    s->kind = section_kind(section);
    s->holed = memory_region_has_ram_discard_manager(section->mr);
    b->nr_holed += s->holed;
    b->last = NULL;
    interval_tree_insert(&s->node, &b->sections);
}

static void region_del(MemoryListener *listener, MemoryRegionSection *section)
{
    XenPVIOMMUBackend *b = container_of(listener, XenPVIOMMUBackend, listener);
    Section *s = section_find(b, section->offset_within_address_space,
                              section->offset_within_address_space);

    assert(s && s->node.start == section->offset_within_address_space);
    b->nr_holed -= s->holed;
    b->last = NULL;
    interval_tree_remove(&s->node, &b->sections);
    if (s->kind == SECTION_OTHER) {
        g_free(s);
    } else {
        g_ptr_array_add(b->removed, s);
    }
}

static void report_lost(XenPVIOMMUBackend *b, uint64_t start, uint64_t end)
{
    uint64_t gfn = start >> XEN_IOMMU_PAGE_SHIFT;
    uint64_t nr = DIV_ROUND_UP(end, PAGE_SIZE_BYTES) - gfn;

    trace_xen_pviommu_lost(gfn, nr);
    if (b->lost) {
        b->lost(b->opaque, gfn, nr);
    }
}

/* Of what was removed, that is lost which did not come back as it was. */
static void commit(MemoryListener *listener)
{
    XenPVIOMMUBackend *b = container_of(listener, XenPVIOMMUBackend, listener);

    for (guint i = 0; i < b->removed->len; i++) {
        const Section *old = g_ptr_array_index(b->removed, i);
        uint64_t pos = old->node.start, end = old->node.last + 1;

        while (pos < end) {
            const Section *s = section_find(b, pos, end - 1);
            uint64_t same, next;

            if (!s) {
                report_lost(b, pos, end);
                break;
            }
            same = MAX(pos, s->node.start);
            next = MIN(end, s->node.last + 1);
            if (s->mr != old->mr || s->kind > old->kind ||
                s->offset + (same - s->node.start) !=
                old->offset + (same - old->node.start)) {
                same = next;
            }
            if (pos < same) {
                report_lost(b, pos, same);
            }
            pos = next;
        }
    }
    g_ptr_array_set_size(b->removed, 0);
    if (b->holes && b->had_holes != xen_pviommu_emulated_has_holes(b)) {
        b->had_holes = !b->had_holes;
        b->holes(b->opaque);
    }
    qemu_rec_mutex_unlock(b->lock);
}

/* Only where somebody checks: QEMU's own RAM needs no holding. */
static void books_count(XenPVIOMMUBackend *b, uint64_t gfn, uint64_t nr,
                        int change)
{
    for (uint64_t end = gfn + nr; gfn < end; gfn++) {
        gpointer key = (gpointer)(uintptr_t)gfn;
        intptr_t refs = (intptr_t)g_hash_table_lookup(b->books, key) + change;

        assert(refs >= 0);
        if (refs) {
            g_hash_table_insert(b->books, key, (gpointer)refs);
        } else {
            g_hash_table_remove(b->books, key);
        }
    }
}

/* The frame at which the hypervisor has what is at @pos. */
static uint64_t section_frame(const Section *s, uint64_t pos)
{
    return (memory_region_get_ram_addr(s->mr) + s->offset +
            (pos - s->node.start)) >> XEN_IOMMU_PAGE_SHIFT;
}

/*
 * RAM can have holes: what virtio-mem has unplugged, or under Xen those that
 * only the hypervisor knows.
 */
static int section_populated(XenPVIOMMUBackend *b, const Section *s,
                             uint64_t start, uint64_t end)
{
    if (s->holed) {
        const MemoryRegionSection part = {
            .mr = s->mr,
            .offset_within_region = s->offset + (start - s->node.start),
            .size = int128_make64(end - start),
        };

        return bql_locked() && ram_discard_manager_is_populated(
            memory_region_get_ram_discard_manager(s->mr), &part)
            ? 0 : -XEN_IOMMU_ENOENT;
    }
    if (!xen_invalidate_backs(s->mr)) {
        return 0;
    }
    switch (xen_invalidate_populated(section_frame(s, start),
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

        if (!s || s->node.start > pos ||
            s->node.last < pos + PAGE_SIZE_BYTES - 1) {
            s = section_find(b, pos, pos + PAGE_SIZE_BYTES - 1);
        }
        if (!s) {
            return -XEN_IOMMU_ENOENT;
        }
        if (s->kind == SECTION_OTHER ||
            (s->kind == SECTION_ROM && !readonly) ||
            s->node.start > pos || s->node.last < pos + PAGE_SIZE_BYTES - 1) {
            return -XEN_IOMMU_EPERM;
        }
        next = QEMU_ALIGN_DOWN(s->node.last + 1, PAGE_SIZE_BYTES);
        ret = section_populated(b, s, pos, MIN(next, end));
        if (ret) {
            return ret;
        }
        b->last = s;
        pos = next;
    }
    b->held += nr;
    if (b->books) {
        books_count(b, gfn, nr, 1);
    }
    return 0;
}

static void emulated_put(XenPVIOMMUBackend *b, uint64_t gfn, uint64_t nr,
                         bool readonly)
{
    assert(b->held >= nr);
    b->held -= nr;
    if (b->books) {
        books_count(b, gfn, nr, -1);
    }
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
    return (uintptr_t)g_hash_table_lookup(b->books, (gpointer)(uintptr_t)gfn);
}

const XenPVIOMMUBackendOps xen_pviommu_emulated_ops = {
    .ops = UINT32_MAX,
    .get = emulated_get,
    .put = emulated_put,
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

    while (pos < end && (s = section_find(b, pos, end - 1))) {
        uint64_t start = MAX(pos, s->node.start);

        pos = MIN(end, s->node.last + 1);
        if (s->kind != SECTION_OTHER && xen_invalidate_backs(s->mr)) {
            xen_page_ranges_add(ranges, section_frame(s, start),
                                (pos - start) >> XEN_IOMMU_PAGE_SHIFT);
        }
    }
}

bool xen_pviommu_emulated_has_holes(const XenPVIOMMUBackend *b)
{
    return b && b->nr_holed;
}

XenPVIOMMUBackend *xen_pviommu_emulated_new(bool books, QemuRecMutex *lock,
                                            XenPVIOMMULostFunc *lost,
                                            XenPVIOMMUHolesFunc *holes,
                                            void *opaque)
{
    XenPVIOMMUBackend *b = g_new0(XenPVIOMMUBackend, 1);

    if (books) {
        b->books = g_hash_table_new(NULL, NULL);
    }
    b->lock = lock;
    b->lost = lost;
    b->holes = holes;
    b->opaque = opaque;
    b->removed = g_ptr_array_new_with_free_func(g_free);
    b->listener = (MemoryListener) {
        .name = "xen-pviommu",
        .begin = begin,
        .region_add = region_add,
        .region_del = region_del,
        .commit = commit,
    };
    memory_listener_register(&b->listener, &address_space_memory);
    return b;
}

void xen_pviommu_emulated_free(XenPVIOMMUBackend *b)
{
    IntervalTreeNode *node;

    /* All of the memory map goes from under us, but not from the guest. */
    b->lost = NULL;
    b->holes = NULL;
    memory_listener_unregister(&b->listener);
    while ((node = interval_tree_iter_first(&b->sections, 0, UINT64_MAX))) {
        interval_tree_remove(node, &b->sections);
        g_free(section_of(node));
    }
    g_ptr_array_free(b->removed, true);
    g_clear_pointer(&b->books, g_hash_table_unref);
    g_free(b);
}
