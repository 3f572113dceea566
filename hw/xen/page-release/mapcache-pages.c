/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Xen's mapcache, page by page
 *
 * A page that leaves the guest is replaced, in the bucket that maps it, by
 * scratch memory (it is punched): its neighbours stay, and a thread that still
 * has a pointer into it does no harm. Its bit in valid_mapping is cleared, so
 * that the next access to the page maps it again.
 *
 * A page under a lock that covers it (DMA in flight) only loses its bit, and is
 * replaced when the last such lock is dropped. So a page without its bit is
 * replaced, was never there, or is covered by a lock.
 *
 * Each punched range costs up to two mappings of the process, whose number is
 * limited. A bucket with many of them, or any bucket when there are many in
 * all, is unmapped as a whole if it has no lock; so is one that was not used
 * since a range was last punched in it.
 *
 * So is every bucket where Linux does not let us replace a part of a mapping:
 * newer ones never do, and where Linux itself is an auto-translated guest of
 * Xen (PVH, HVM) its privcmd driver takes a part of a mapping for the first
 * pages of it. A bucket that is locked is detached then: all bits are cleared,
 * so that it gets no new lock, and it is unmapped with the last one.
 */

#include "qemu/osdep.h"
#include "qemu/bitmap.h"
#include "qemu/error-report.h"
#include "qemu/lockable.h"
#include "qemu/rcu.h"
#include "../compat-memory.h"
#include "hw/xen/xen-hvm-common.h"
#include "hw/xen/xen-page-release.h"
#include "hw/xen/xen_native.h"
#include "hw/xen/xen-mapcache-internal.h"
#include "mapcache-long-lived.h"
#include <xen/features.h>

/* Punched ranges in a bucket. */
#define MAPCACHE_BUCKET_PUNCHED   32

/*
 * In all, one for so many of the mappings that a process may have; and as many
 * again in locked buckets, which cannot be unmapped as a whole. So punched
 * ranges take a quarter of the mappings, and buckets, of which there are up to
 * 32768, half of the usual 65530.
 */
#define MAPCACHE_PUNCHED_SHARE     16
#define MAPCACHE_MAX_MAP_COUNT  65530

/* Under the lock of mc, but for those that do not change after the start. */
static struct {
    MapCache *mc;               /* that of guest memory: does not change */
    unsigned max_punched;         /* does not change */
    bool whole_buckets;         /* does not change */
    unsigned nr_detached;
    unsigned batch;             /* of pages that left at once */
    QLIST_HEAD(, MapCacheOld) old;
} pages = {
    .old = QLIST_HEAD_INITIALIZER(pages.old),
};

/* A mapping that no entry has any more, and threads may still use. */
typedef struct MapCacheOld {
    struct rcu_head rcu;
    void *base;
    size_t size;
    uint64_t gfn;
    bool listed;                /* it has pages of the guest: pages.old */
    QLIST_ENTRY(MapCacheOld) next;
} MapCacheOld;

static hwaddr mapcache_entry_pages(const MapCacheEntry *entry)
{
    return entry->size >> XC_PAGE_SHIFT;
}

/* The whole mapping is unmapped, or mapped anew. */
void xen_mapcache_forget_punched(MapCache *mc, MapCacheEntry *entry)
{
    mc->nr_punched -= entry->nr_punched;
    entry->nr_punched = 0;
    entry->deferred = false;
    pages.nr_detached -= entry->detached;
    entry->detached = false;
}

/*
 * @entry is not found any more, so that it is unmapped with its last lock. Each
 * may have a successor while it is there: a mapping more than planned.
 */
static void mapcache_detach(MapCacheEntry *entry)
{
    if (!entry->detached && pages.nr_detached < pages.max_punched) {
        bitmap_zero(entry->valid_mapping, mapcache_entry_pages(entry));
        entry->detached = true;
        pages.nr_detached++;
    }
}

/* Where in @entry the pages of a lock are: [@page, @end). */
static void mapcache_rev_pages(const MapCacheEntry *entry,
                               const MapCacheRev *rev,
                               hwaddr *page, hwaddr *end)
{
    hwaddr start = rev->vaddr_req - entry->vaddr_base;

    *page = start >> XC_PAGE_SHIFT;
    *end = MIN(DIV_ROUND_UP(start + rev->size, XC_PAGE_SIZE),
               mapcache_entry_pages(entry));
}

/* The pages of @entry that a lock covers: a new bitmap. */
static unsigned long *mapcache_locked_pages(MapCache *mc,
                                            const MapCacheEntry *entry)
{
    unsigned long *locked = bitmap_new(mapcache_entry_pages(entry));
    const MapCacheRev *rev;

    QTAILQ_FOREACH(rev, &mc->locked_entries, next) {
        hwaddr page, end;

        if (xen_mapcache_entry_has(entry, rev->vaddr_req)) {
            mapcache_rev_pages(entry, rev, &page, &end);
            bitmap_set(locked, page, end - page);
        }
    }
    return locked;
}

static bool mapcache_scratch(uint8_t *start, size_t size)
{
    return mmap(start, size, PROT_READ | PROT_WRITE, MAP_PRIVATE |
                MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0) == start;
}

/* Returns: false if too much is punched. */
static bool mapcache_replace(MapCache *mc, MapCacheEntry *entry,
                             hwaddr page, hwaddr nr)
{
    unsigned max = pages.max_punched << !!entry->lock;

    if (pages.whole_buckets || mc->nr_punched >= max ||
        !mapcache_scratch(entry->vaddr_base + (page << XC_PAGE_SHIFT),
                          nr << XC_PAGE_SHIFT)) {
        return false;
    }
    mc->nr_punched++;
    entry->nr_punched++;
    return true;
}

static void mapcache_old_free(MapCacheOld *old)
{
    /* A release that follows finds it in the list, or nothing mapped. */
    WITH_QEMU_LOCK_GUARD(&pages.mc->lock) {
        if (old->listed) {
            QLIST_REMOVE(old, next);
        }
        munmap(old->base, old->size);
    }
    g_free(old);
}

static void mapcache_unmap_at_once(void *base, size_t size)
{
    if (munmap(base, size)) {
        error_report("mapcache: cannot unmap guest pages: %s",
                     strerror(errno));
        exit(EXIT_FAILURE);
    }
}

static MapCacheOld *mapcache_old_new(MapCache *mc, MapCacheEntry *entry)
{
    MapCacheOld *old = g_new0(MapCacheOld, 1);

    old->base = entry->vaddr_base;
    old->size = entry->size;
    old->gfn = entry->paddr_index << (mc->bucket_shift - XC_PAGE_SHIFT);
    return old;
}

/*
 * No page of @entry, which is no grant and has no lock, is mapped any more on
 * return. Others may be about to use a pointer that they got in an RCU critical
 * section: until that ends they find scratch memory.
 */
static void mapcache_unmap_left(MapCache *mc, MapCacheEntry *entry)
{
    xen_mapcache_forget_punched(mc, entry);
    if (mapcache_scratch(entry->vaddr_base, entry->size)) {
        MapCacheOld *old = mapcache_old_new(mc, entry);

        call_rcu(old, mapcache_old_free, rcu);
    } else {
        mapcache_unmap_at_once(entry->vaddr_base, entry->size);
    }
}

void xen_mapcache_unmap(MapCache *mc, MapCacheEntry *entry)
{
    MapCacheOld *old;

    if (mc != pages.mc || entry->deferred ||
        entry->flags & XEN_MAPCACHE_ENTRY_DUMMY) {
        mapcache_unmap_left(mc, entry);
        return;
    }
    /*
     * Its pages are the guest's. Scratch memory would swallow what another
     * thread is just writing to them.
     */
    xen_mapcache_forget_punched(mc, entry);
    old = mapcache_old_new(mc, entry);
    old->listed = true;
    QLIST_INSERT_HEAD(&pages.old, old, next);
    call_rcu(old, mapcache_old_free, rcu);
}

/* Pages leave, and are still mapped where an entry was. */
static void mapcache_drop_from_old(uint64_t gfn, uint64_t nr)
{
    MapCacheOld *old, *next;

    QLIST_FOREACH_SAFE(old, &pages.old, next, next) {
        if (gfn >= old->gfn + (old->size >> XC_PAGE_SHIFT) ||
            gfn + nr <= old->gfn) {
            continue;
        }
        if (!mapcache_scratch(old->base, old->size)) {
            error_report("mapcache: cannot unmap guest pages: %s",
                         strerror(errno));
            exit(EXIT_FAILURE);
        }
        QLIST_REMOVE(old, next);
        old->listed = false;
    }
}

static void mapcache_drop_entry(MapCache *mc, MapCacheEntry *entry)
{
    if (!(entry->flags & XEN_MAPCACHE_ENTRY_DUMMY)) {
        ram_block_notify_remove(entry->vaddr_base, entry->size, entry->size);
    }
    mapcache_unmap_left(mc, entry);
    mc->last_entry = NULL;
    g_free(entry->valid_mapping);
    *entry = (MapCacheEntry) { .next = entry->next };
}

/* @entry was not used since pages of it left, before those that leave now. */
static bool mapcache_cold(MapCacheEntry *entry)
{
    bool cold = entry->nr_punched && !entry->used;

    if (entry->batch == pages.batch) {
        return false;
    }
    entry->batch = pages.batch;
    entry->used = false;
    return cold;
}

/* Returns: @entry, without a lock, has to go as a whole. */
static bool mapcache_drop_from_entry(MapCache *mc, MapCacheEntry *entry,
                                     uint64_t gfn, uint64_t nr)
{
    XenPageReleaseStats *stats = &xen_page_release_stats;
    hwaddr base = entry->paddr_index << (mc->bucket_shift - XC_PAGE_SHIFT);
    hwaddr pages = mapcache_entry_pages(entry);
    g_autofree unsigned long *locked = NULL;
    bool detach = false;
    hwaddr page, end;

    if (gfn >= base + pages || gfn + nr <= base) {
        return false;
    }
    page = MAX(gfn, base) - base;
    end = MIN(gfn + nr, base + pages) - base;
    if (entry->lock) {
        locked = mapcache_locked_pages(mc, entry);
    } else if (!page && end == pages) {
        return true;
    }

    while ((page = find_next_bit(entry->valid_mapping, end, page)) < end) {
        hwaddr last = find_next_zero_bit(entry->valid_mapping, end, page);

        bitmap_clear(entry->valid_mapping, page, last - page);
        if (!entry->lock) {
            if (entry->nr_punched >= MAPCACHE_BUCKET_PUNCHED ||
                bitmap_empty(entry->valid_mapping, pages) ||
                mapcache_cold(entry) ||
                !mapcache_replace(mc, entry, page, last - page)) {
                return true;
            }
            stats->mapcache_pages += last - page;
            page = last;
        }
        while (page < last) {
            bool held = test_bit(page, locked);
            hwaddr next = held ? find_next_zero_bit(locked, last, page)
                               : find_next_bit(locked, last, page);

            if (!held && mapcache_replace(mc, entry, page, next - page)) {
                stats->mapcache_pages += next - page;
            } else {
                stats->mapcache_deferred += next - page;
                entry->deferred = true;
                detach |= !held;
            }
            page = next;
        }
    }
    if (detach) {
        mapcache_detach(entry);
    }
    return false;
}

/* Returns: how many entries went as a whole. */
static unsigned mapcache_drop_from_slot(MapCache *mc, MapCacheEntry *head,
                                        uint64_t gfn, uint64_t nr)
{
    MapCacheEntry **link = &head->next;
    unsigned dropped = 0;

    if (head->vaddr_base && mapcache_drop_from_entry(mc, head, gfn, nr)) {
        mapcache_drop_entry(mc, head);
        dropped++;
    }
    while (*link) {
        MapCacheEntry *entry = *link;

        if (entry->vaddr_base &&
            mapcache_drop_from_entry(mc, entry, gfn, nr)) {
            mapcache_drop_entry(mc, entry);
            dropped++;
        }
        if (!entry->vaddr_base) {
            *link = entry->next;
            g_free(entry->valid_mapping);
            g_free(entry);
        } else {
            link = &entry->next;
        }
    }
    return dropped;
}

static void mapcache_drop_range(MapCache *mc, uint64_t gfn, uint64_t nr)
{
    const unsigned order = mc->bucket_shift - XC_PAGE_SHIFT;
    uint64_t first, last, reach;

    xen_mapcache_long_lived_left(gfn, nr);
    mapcache_drop_from_old(gfn, nr);
    /* An entry is found by where it begins: at most so many buckets before. */
    reach = DIV_ROUND_UP(mc->max_entry_size, mc->bucket_size);
    first = gfn >> order;
    first -= MIN(first, reach);
    last = (gfn + nr - 1) >> order;
    if (last - first >= mc->nr_buckets) {
        first = 0;
        last = mc->nr_buckets - 1;
    }
    for (uint64_t i = first; i <= last; i++) {
        xen_page_release_stats.mapcache_buckets +=
            mapcache_drop_from_slot(mc, &mc->entry[i % mc->nr_buckets],
                                    gfn, nr);
    }
}

static void mapcache_release(const XenPageRange *ranges, unsigned nr_ranges)
{
    QEMU_LOCK_GUARD(&pages.mc->lock);

    pages.batch++;
    /* The next use of an entry is to set its mark again. */
    pages.mc->last_entry = NULL;
    for (unsigned i = 0; i < nr_ranges; i++) {
        mapcache_drop_range(pages.mc, ranges[i].gfn, ranges[i].nr);
    }
}

/* All of them; those that are locked lose what no lock covers. */
void xen_mapcache_drop_all(MapCache *mc)
{
    mapcache_drop_from_old(0, 1ull << XEN_GFN_BITS);
    for (unsigned long i = 0; i < mc->nr_buckets; i++) {
        mapcache_drop_from_slot(mc, &mc->entry[i], 0,
                                1ull << XEN_GFN_BITS);
    }
}

/*
 * The lock at @buffer that is @size long; if there is none, the shortest, so
 * that what another one needs stays. NULL if there is none.
 */
MapCacheRev *xen_mapcache_rev_find(MapCache *mc, const uint8_t *buffer,
                                      hwaddr size)
{
    MapCacheRev *rev, *found = NULL;

    QTAILQ_FOREACH(rev, &mc->locked_entries, next) {
        if (rev->vaddr_req != buffer) {
            continue;
        }
        if (rev->size == size) {
            return rev;
        }
        if (!found || rev->size < found->size) {
            found = rev;
        }
    }
    return found;
}

/* After @gone left the list of locks, and before its entry is unlocked. */
void xen_mapcache_rev_gone(MapCache *mc, const MapCacheRev *gone)
{
    MapCacheEntry *entry = &mc->entry[gone->paddr_index % mc->nr_buckets];
    g_autofree unsigned long *locked = NULL;
    hwaddr page, end, last;

    while (entry && !xen_mapcache_entry_has(entry, gone->vaddr_req)) {
        entry = entry->next;
    }
    if (mc != pages.mc || !entry || entry->lock <= 1 || !entry->deferred ||
        entry->detached) {
        return;
    }
    /* They were all there when it was locked: those without a bit left. */
    mapcache_rev_pages(entry, gone, &page, &end);
    while ((page = find_next_zero_bit(entry->valid_mapping, end, page)) < end) {
        locked = locked ?: mapcache_locked_pages(mc, entry);
        last = find_next_bit(entry->valid_mapping, end, page);
        while ((page = find_next_zero_bit(locked, last, page)) < last) {
            hwaddr next = find_next_bit(locked, last, page);

            if (!mapcache_replace(mc, entry, page, next - page)) {
                mapcache_detach(entry);
                return;
            }
            xen_page_release_stats.mapcache_released += next - page;
            page = next;
        }
    }
}

/*
 * Whether @entry, without a lock now, is worth keeping: the next DMA is likely
 * to come there, too. Those that are longer than a bucket are not counted for
 * how much the cache may map, and dummies are no memory of the guest.
 */
bool xen_mapcache_keeps(const MapCache *mc, const MapCacheEntry *entry)
{
    return mc == pages.mc && !entry->deferred &&
           entry->size == mc->bucket_size &&
           !(entry->flags & XEN_MAPCACHE_ENTRY_DUMMY);
}

/* @gfn is mapped, and did not leave the guest since. */
static bool mapcache_knows_page(MapCache *mc, uint64_t gfn)
{
    const unsigned order = mc->bucket_shift - XC_PAGE_SHIFT;
    const uint64_t index = gfn >> order, page = gfn - (index << order);
    const MapCacheEntry *entry = &mc->entry[index % mc->nr_buckets];

    for (; entry; entry = entry->next) {
        if (entry->vaddr_base && entry->paddr_index == index &&
            !(entry->flags & XEN_MAPCACHE_ENTRY_DUMMY) &&
            test_bit(page, entry->valid_mapping)) {
            return true;
        }
    }
    return false;
}

/*
 * Those that the cache does not know are mapped for a moment, outside of it:
 * that they are asked for does not say that they are needed.
 */
static uint64_t mapcache_missing(const uint64_t *gfns, unsigned nr,
                                 unsigned long *missing)
{
    g_autofree xen_pfn_t *pfns = g_new(xen_pfn_t, nr);
    g_autofree unsigned *which = g_new(unsigned, nr);
    g_autofree int *err = g_new0(int, nr);
    unsigned unknown = 0;
    void *base;

    qemu_mutex_lock(&pages.mc->lock);
    for (unsigned i = 0; i < nr; i++) {
        if (!mapcache_knows_page(pages.mc, gfns[i])) {
            which[unknown] = i;
            pfns[unknown++] = gfns[i];
        }
    }
    qemu_mutex_unlock(&pages.mc->lock);
    if (!unknown) {
        return nr;
    }
    base = xenforeignmemory_map2(xen_fmem, xen_domid, NULL, PROT_READ, 0,
                                 unknown, pfns, err);
    for (unsigned i = 0; i < unknown; i++) {
        if (!base || err[i]) {
            set_bit(which[i], missing);
        }
    }
    if (base) {
        xenforeignmemory_unmap(xen_fmem, base, unknown);
    }
    /* Estimates: a call takes some microseconds, and a page of it 0.2. */
    return nr + 512 + 16 * unknown;
}

static bool mapcache_backs(MemoryRegion *mr)
{
    return xen_mr_is_memory(mr) && !xen_mr_is_grants(mr);
}

/* What is a part of a mapping stays what it was. */
static bool mapcache_can_punch(void)
{
    g_autofree char *features = NULL;

    if (!g_file_get_contents("/sys/hypervisor/properties/features", &features,
                             NULL, NULL)) {
        /* Without the driver we are on no Xen at all, but in a test. */
        return access("/dev/xen/privcmd", F_OK);
    }
    return !(g_ascii_strtoull(features, NULL, 16) &
             (1u << XENFEAT_auto_translated_physmap));
}

void xen_mapcache_pages_init(MapCache *mc)
{
    static const XenPageSourceOps source = {
        .release = mapcache_release,
        .missing = mapcache_missing,
        .backs = mapcache_backs,
        .map_long_lived = xen_mapcache_long_lived_map,
        .unmap_long_lived = xen_mapcache_long_lived_unmap,
        .cache_long_lived = xen_mapcache_long_lived_cache,
    };
    unsigned max_map_count = MAPCACHE_MAX_MAP_COUNT;
    g_autofree char *text = NULL;

    if (g_file_get_contents("/proc/sys/vm/max_map_count", &text, NULL, NULL)) {
        max_map_count = MIN(g_ascii_strtoull(text, NULL, 10), 1u << 20);
    }
    pages.mc = mc;
    xen_mapcache_long_lived_init(mc);
    pages.max_punched = max_map_count / MAPCACHE_PUNCHED_SHARE;
    pages.whole_buckets = !mapcache_can_punch();
    xen_page_source_register(&source);
    xen_page_release_discarded();
}
