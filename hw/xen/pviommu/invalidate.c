/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Pages that leave the guest: everybody who may hold them lets go
 *
 * Who says that they leave (the hypervisor, in ioreq.c; a balloon), and who
 * holds them (devices, the mapcache), only know this file of each other.
 */

#include "qemu/osdep.h"
#include "qemu/bitmap.h"
#include "qemu/lockable.h"
#include "qemu/main-loop.h"
#include "compat.h"
#include "hw/xen/xen-pviommu.h"
#include "qapi/qapi-commands-xen-pviommu.h"

/* Frames that the hypervisor is asked for in one call. */
#define MISSING_FRAMES 1024

XenInvalidateStats xen_invalidate_stats;

/* What a long range was found to have, for who asks again: [gfn, end). */
static struct {
    QemuMutex lock;             /* held while the hypervisor is asked */
    uint64_t gfn;
    uint64_t end;
} populated;

static QLIST_HEAD(, XenInvalidateClient) clients =
    QLIST_HEAD_INITIALIZER(clients);

/* Who can ask the hypervisor: the mapcache, if there is one. It stays. */
static XenInvalidateClient *hypervisor;

void xen_invalidate_register(XenInvalidateClient *client)
{
    QLIST_INSERT_HEAD(&clients, client, next);
    if (client->missing) {
        qemu_mutex_init(&populated.lock);
        hypervisor = client;
    }
}

void xen_invalidate_unregister(XenInvalidateClient *client)
{
    QLIST_REMOVE(client, next);
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
    if (hypervisor) {
        QEMU_LOCK_GUARD(&populated.lock);
        populated.end = populated.gfn;
    }
}

static void invalidate(const XenPageRange *ranges, unsigned nr_ranges)
{
    XenInvalidateClient *client;

    assert(bql_locked());
    if (!nr_ranges) {
        return;
    }
    /*
     * First who is asked whether there is a page: an I/O thread that runs a
     * queue may map it until then, and has done so when the others are told.
     */
    forget_populated();
    if (hypervisor) {
        hypervisor->invalidate(hypervisor, ranges, nr_ranges);
    }
    QLIST_FOREACH(client, &clients, next) {
        if (client != hypervisor) {
            client->invalidate(client, ranges, nr_ranges);
        }
    }
}

void xen_invalidate_pages(uint64_t gfn, uint64_t nr)
{
    const uint64_t limit = 1ull << XEN_INVALIDATE_GFN_BITS;

    if (gfn < limit && nr) {
        const XenPageRange r = { .gfn = gfn, .nr = MIN(nr, limit - gfn) };

        invalidate(&r, 1);
    }
}

void xen_invalidate_ranges(const GArray *ranges)
{
    invalidate((const XenPageRange *)ranges->data, ranges->len);
}

/* Ask for the frames of @gfns, and forget them. */
static void find_missing(uint64_t *gfns, unsigned *nr, GArray *gone)
{
    DECLARE_BITMAP(missing, MISSING_FRAMES) = { };

    hypervisor->missing(hypervisor, gfns, *nr, missing);
    for (unsigned i = find_first_bit(missing, *nr); i < *nr;
         i = find_next_bit(missing, *nr, i + 1)) {
        xen_page_ranges_add(gone, gfns[i], 1);
    }
    *nr = 0;
}

void xen_invalidate_unnamed(void)
{
    g_autoptr(GArray) held = g_array_new(false, false, sizeof(XenPageRange));
    g_autoptr(GArray) gone = g_array_new(false, false, sizeof(XenPageRange));
    XenInvalidateClient *client;
    uint64_t gfns[MISSING_FRAMES];
    unsigned nr = 0;

    assert(bql_locked());
    if (!hypervisor) {
        return;
    }
    forget_populated();
    QLIST_FOREACH(client, &clients, next) {
        if (client->held) {
            client->held(client, held);
        }
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
    xen_invalidate_ranges(gone);
}

bool xen_invalidate_backs(MemoryRegion *mr)
{
    return hypervisor && hypervisor->backs(hypervisor, mr);
}

void *xen_lasting_map(MemoryRegion *mr, uint64_t offset, uint64_t size)
{
    if (xen_invalidate_backs(mr)) {
        uint64_t addr = memory_region_get_ram_addr(mr) + offset;

        return hypervisor->map_lasting(hypervisor, addr, size);
    }
    return (uint8_t *)memory_region_get_ram_ptr(mr) + offset;
}

void xen_lasting_unmap(MemoryRegion *mr, void *p)
{
    if (xen_invalidate_backs(mr)) {
        hypervisor->unmap_lasting(hypervisor, p);
    }
}

void xen_lasting_cache(MemoryRegionCache *cache)
{
    if (cache->ptr && xen_invalidate_backs(cache->mrs.mr)) {
        hypervisor->lasting_cache(hypervisor, cache);
    }
}

int xen_invalidate_populated(uint64_t gfn, uint64_t nr, uint64_t *work)
{
    uint64_t end = gfn + nr, pos = gfn, stop;
    bool goes_on;

    QEMU_LOCK_GUARD(&populated.lock);

    goes_on = populated.gfn < populated.end &&
              gfn >= populated.gfn && gfn <= populated.end;
    if (goes_on) {
        pos = MIN(populated.end, end);
    }
    stop = MIN(end, pos + XEN_INVALIDATE_POPULATED_FRAMES);
    while (pos < stop) {
        DECLARE_BITMAP(missing, MISSING_FRAMES) = { };
        unsigned n = MIN(stop - pos, MISSING_FRAMES);
        uint64_t gfns[MISSING_FRAMES];

        for (unsigned i = 0; i < n; i++) {
            gfns[i] = pos++;
        }
        *work += hypervisor->missing(hypervisor, gfns, n, missing);
        if (!bitmap_empty(missing, n)) {
            return -ENOENT;
        }
    }
    if (goes_on) {
        populated.end = MAX(populated.end, stop);
    } else if (stop < end) {
        populated.gfn = gfn;
        populated.end = stop;
    }
    return stop < end ? -EAGAIN : 0;
}

bool xen_invalidate_wanted(void)
{
    return !QLIST_EMPTY(&clients);
}

bool xen_invalidate_covers(const AddressSpace *as)
{
    XenInvalidateClient *client;

    QLIST_FOREACH(client, &clients, next) {
        if (client->covers && client->covers(client, as)) {
            return true;
        }
    }
    return false;
}

XenInvalidateInfo *qmp_x_query_xen_invalidate(Error **errp)
{
    const XenInvalidateStats *s = &xen_invalidate_stats;
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
