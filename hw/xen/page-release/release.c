/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Pages that leave the guest: all that may hold them are notified
 *
 * What says that they leave (the hypervisor, in ioreq.c; a balloon), and what
 * holds them (devices, the mapcache), only know this file of each other.
 */

#include "qemu/osdep.h"
#include "qemu/bitmap.h"
#include "qemu/lockable.h"
#include "qemu/main-loop.h"
#include "../compat.h"
#include "../compat-memory.h"
#include "hw/xen/xen-page-release.h"
#include "qapi/qapi-commands-xen-invalidate.h"

/* Frames that the hypervisor is asked for in one call. */
#define MISSING_FRAMES 1024

XenPageReleaseStats xen_page_release_stats;

static struct {
    QLIST_HEAD(, XenPageHolder) holders;        /* BQL */
    const XenPageSourceOps *source;     /* NULL: guest memory is QEMU's */
    /* What a long range was found to have, for the next call: [gfn, end). */
    QemuMutex populated_lock;   /* held while the hypervisor is asked */
    uint64_t populated_gfn;
    uint64_t populated_end;
} pages = {
    .holders = QLIST_HEAD_INITIALIZER(pages.holders),
};

void xen_page_holder_register(XenPageHolder *holder)
{
    QLIST_INSERT_HEAD(&pages.holders, holder, next);
}

void xen_page_holder_unregister(XenPageHolder *holder)
{
    QLIST_REMOVE(holder, next);
}

void xen_page_source_register(const XenPageSourceOps *ops)
{
    assert(!pages.source);
    qemu_mutex_init(&pages.populated_lock);
    pages.source = ops;
}

void xen_page_ranges_add(GArray *ranges, uint64_t gfn, uint64_t nr)
{
    XenPageRange *last = ranges->len
        ? &g_array_index(ranges, XenPageRange, ranges->len - 1) : NULL;
    const XenPageRange r = { .gfn = gfn, .nr = nr };

    if (last && last->gfn + last->nr == gfn) {
        last->nr += nr;
    } else {
        g_array_append_val(ranges, r);
    }
}

static gint compare_ranges(gconstpointer a, gconstpointer b)
{
    const XenPageRange *x = a, *y = b;

    return (x->gfn > y->gfn) - (x->gfn < y->gfn);
}

static bool in_order(const GArray *ranges)
{
    for (guint i = 1; i < ranges->len; i++) {
        if (g_array_index(ranges, XenPageRange, i).gfn <
            g_array_index(ranges, XenPageRange, i - 1).gfn) {
            return false;
        }
    }
    return true;
}

void xen_page_ranges_merge(GArray *ranges)
{
    XenPageRange *last = NULL;
    guint len = 0;

    /* They often are, and to sort them takes longer than all the rest. */
    if (!in_order(ranges)) {
        g_array_sort(ranges, compare_ranges);
    }
    for (guint i = 0; i < ranges->len; i++) {
        const XenPageRange r = g_array_index(ranges, XenPageRange, i);

        if (last && r.gfn <= last->gfn + last->nr) {
            last->nr = MAX(last->nr, r.gfn + r.nr - last->gfn);
        } else {
            last = &g_array_index(ranges, XenPageRange, len++);
            *last = r;
        }
    }
    g_array_set_size(ranges, len);
}

/* A check under way ends first: what it found may have left since. */
static void forget_populated(void)
{
    if (pages.source) {
        QEMU_LOCK_GUARD(&pages.populated_lock);
        pages.populated_end = pages.populated_gfn;
    }
}

static void release_ranges(const XenPageRange *ranges, unsigned nr_ranges)
{
    XenPageHolder *holder;

    assert(bql_locked());
    if (!nr_ranges) {
        return;
    }
    /*
     * The source first: until then an I/O thread that runs a queue may map the
     * page again; the holders, notified later, then see that mapping.
     */
    forget_populated();
    if (pages.source) {
        pages.source->release(ranges, nr_ranges);
    }
    QLIST_FOREACH(holder, &pages.holders, next) {
        holder->release(holder, ranges, nr_ranges);
    }
}

void xen_page_release(uint64_t gfn, uint64_t nr)
{
    const uint64_t limit = 1ull << XEN_GFN_BITS;

    if (gfn < limit && nr) {
        const XenPageRange r = { .gfn = gfn, .nr = MIN(nr, limit - gfn) };

        release_ranges(&r, 1);
    }
}

void xen_page_release_ranges(const GArray *ranges)
{
    release_ranges((const XenPageRange *)ranges->data, ranges->len);
}

/* Ask for the frames of @gfns, and forget them. */
static void find_missing(uint64_t *gfns, unsigned *nr, GArray *gone)
{
    DECLARE_BITMAP(missing, MISSING_FRAMES) = { };

    pages.source->missing(gfns, *nr, missing);
    for (unsigned i = find_first_bit(missing, *nr); i < *nr;
         i = find_next_bit(missing, *nr, i + 1)) {
        xen_page_ranges_add(gone, gfns[i], 1);
    }
    *nr = 0;
}

void xen_page_release_unnamed(void)
{
    g_autoptr(GArray) held = g_array_new(false, false, sizeof(XenPageRange));
    g_autoptr(GArray) gone = g_array_new(false, false, sizeof(XenPageRange));
    XenPageHolder *holder;
    uint64_t gfns[MISSING_FRAMES];
    unsigned nr = 0;

    assert(bql_locked());
    if (!pages.source) {
        return;
    }
    forget_populated();
    QLIST_FOREACH(holder, &pages.holders, next) {
        holder->held(holder, held);
    }
    xen_page_ranges_merge(held);
    for (guint i = 0; i < held->len; i++) {
        const XenPageRange *r = &g_array_index(held, XenPageRange, i);

        for (uint64_t j = 0; j < r->nr; j++) {
            gfns[nr++] = r->gfn + j;
            if (nr == MISSING_FRAMES) {
                find_missing(gfns, &nr, gone);
            }
        }
    }
    find_missing(gfns, &nr, gone);
    xen_page_release_ranges(gone);
}

bool xen_page_source_backs(MemoryRegion *mr)
{
    return pages.source && pages.source->backs(mr);
}

void *xen_page_map_long_lived(MemoryRegion *mr, uint64_t offset, uint64_t size)
{
    if (xen_page_source_backs(mr)) {
        uint64_t addr = memory_region_get_ram_addr(mr) + offset;

        return pages.source->map_long_lived(addr, size);
    }
    return (uint8_t *)memory_region_get_ram_ptr(mr) + offset;
}

void xen_page_unmap_long_lived(MemoryRegion *mr, void *p)
{
    if (xen_page_source_backs(mr)) {
        pages.source->unmap_long_lived(p);
    }
}

void xen_page_cache_long_lived(MemoryRegionCache *cache)
{
    if (cache->ptr && xen_page_source_backs(cache->mrs.mr)) {
        pages.source->cache_long_lived(cache);
    }
}

int xen_page_source_populated(uint64_t gfn, uint64_t nr, uint64_t *work)
{
    uint64_t end = gfn + nr, pos = gfn, stop;
    bool goes_on;

    QEMU_LOCK_GUARD(&pages.populated_lock);

    goes_on = pages.populated_gfn < pages.populated_end &&
              gfn >= pages.populated_gfn && gfn <= pages.populated_end;
    if (goes_on) {
        pos = MIN(pages.populated_end, end);
    }
    stop = MIN(end, pos + XEN_PAGE_SOURCE_FRAMES);
    while (pos < stop) {
        DECLARE_BITMAP(missing, MISSING_FRAMES) = { };
        unsigned n = MIN(stop - pos, MISSING_FRAMES);
        uint64_t gfns[MISSING_FRAMES];

        for (unsigned i = 0; i < n; i++) {
            gfns[i] = pos++;
        }
        *work += pages.source->missing(gfns, n, missing);
        if (!bitmap_empty(missing, n)) {
            return -ENOENT;
        }
    }
    if (goes_on) {
        pages.populated_end = MAX(pages.populated_end, stop);
    } else if (stop < end) {
        pages.populated_gfn = gfn;
        pages.populated_end = stop;
    }
    return stop < end ? -EAGAIN : 0;
}

XenInvalidateInfo *qmp_x_query_xen_invalidate(Error **errp)
{
    const XenPageReleaseStats *s = &xen_page_release_stats;
    XenInvalidateInfo *info = g_new(XenInvalidateInfo, 1);

    *info = (XenInvalidateInfo) {
        .per_page = s->per_page,
        .requests = s->requests,
        .entries = s->entries,
        .barriers = s->barriers,
        .pages = s->pages,
        .malformed = s->malformed,
        .everything = s->everything,
        .mapcache_pages = s->mapcache_pages,
        .mapcache_buckets = s->mapcache_buckets,
        .mapcache_deferred = s->mapcache_deferred,
        .mapcache_released = s->mapcache_released,
    };
    return info;
}
