/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Long-lived mappings of guest pages, beside the buckets of Xen's mapcache
 *
 * A lock that stays, as of a queue, would keep a bucket, where pages cannot be
 * punched, with all pages that leave the guest. A long-lived mapping has its
 * own pages only.
 */

#include "qemu/osdep.h"
#include "qemu/bitmap.h"
#include "qemu/lockable.h"
#include "../compat-memory.h"
#include "hw/xen/xen-hvm-common.h"
#include "hw/xen/xen-page-release.h"
#include "hw/xen/xen_native.h"
#include "mapcache-long-lived.h"

typedef struct LongLived {
    uint8_t *base;
    uint64_t gfn;
    uint64_t nr;                /* pages */
    unsigned holders;
    unsigned long *left;        /* those of them that left the guest */
    QLIST_ENTRY(LongLived) next;
} LongLived;

static struct {
    MapCache *mc;               /* does not change after the start */
    QLIST_HEAD(, LongLived) list;       /* under its lock */
} long_lived = {
    .list = QLIST_HEAD_INITIALIZER(long_lived.list),
};

void *xen_mapcache_long_lived_map(uint64_t addr, uint64_t size)
{
    const uint64_t gfn = addr >> XC_PAGE_SHIFT;
    const uint64_t nr = DIV_ROUND_UP(addr + size, XC_PAGE_SIZE) - gfn;
    g_autofree xen_pfn_t *pfns = g_new(xen_pfn_t, nr);
    g_autofree int *err = g_new0(int, nr);
    LongLived *m;
    uint8_t *base;

    for (uint64_t i = 0; i < nr; i++) {
        pfns[i] = gfn + i;
    }
    /* First: pages that leave meanwhile are noted when the lock is free. */
    QEMU_LOCK_GUARD(&long_lived.mc->lock);
    QLIST_FOREACH(m, &long_lived.list, next) {
        if (m->gfn == gfn && m->nr == nr && bitmap_empty(m->left, nr)) {
            m->holders++;
            return m->base + addr % XC_PAGE_SIZE;
        }
    }
    base = xenforeignmemory_map2(xen_fmem, xen_domid, NULL,
                                 PROT_READ | PROT_WRITE, 0, nr, pfns, err);
    for (uint64_t i = 0; base && i < nr; i++) {
        if (err[i]) {
            xenforeignmemory_unmap(xen_fmem, base, nr);
            base = NULL;
        }
    }
    if (!base) {
        return NULL;
    }
    m = g_new(LongLived, 1);
    *m = (LongLived) {
        .base = base, .gfn = gfn, .nr = nr, .holders = 1,
        .left = bitmap_new(nr),
    };
    QLIST_INSERT_HEAD(&long_lived.list, m, next);
    return base + addr % XC_PAGE_SIZE;
}

/* Returns: false if there is none at @p. The mapcache is locked. */
bool xen_mapcache_drop_long_lived(void *p)
{
    LongLived *m;

    QLIST_FOREACH(m, &long_lived.list, next) {
        if (m->base == (void *)((uintptr_t)p & XC_PAGE_MASK)) {
            break;
        }
    }
    if (!m) {
        return false;
    }
    if (--m->holders == 0) {
        QLIST_REMOVE(m, next);
        xen_page_release_stats.mapcache_released += bitmap_count_one(m->left,
                                                                   m->nr);
        xenforeignmemory_unmap(xen_fmem, m->base, m->nr);
        g_free(m->left);
        g_free(m);
    }
    return true;
}

void xen_mapcache_long_lived_unmap(void *p)
{
    QEMU_LOCK_GUARD(&long_lived.mc->lock);

    xen_mapcache_drop_long_lived(p);
}

/*
 * What it has is a lock in a bucket. We can be in a coroutine, as virtio is
 * loaded; the caller does not expect to wait here.
 */
void xen_mapcache_long_lived_cache(MemoryRegionCache *cache)
{
    uint64_t addr = memory_region_get_ram_addr(cache->mrs.mr) + cache->xlat;
    void *p = xen_mapcache_long_lived_map(addr, cache->len);

    if (p) {
        QEMU_LOCK_GUARD(&long_lived.mc->lock);
        xen_invalidate_map_cache_entry_unlocked(long_lived.mc, cache->ptr,
                                                cache->len);
        cache->ptr = p;
    }
}

void xen_mapcache_long_lived_left(uint64_t gfn, uint64_t nr)
{
    LongLived *m;

    QLIST_FOREACH(m, &long_lived.list, next) {
        uint64_t end = MIN(gfn + nr, m->gfn + m->nr);

        for (uint64_t i = MAX(gfn, m->gfn); i < end; i++) {
            xen_page_release_stats.mapcache_deferred +=
                !test_and_set_bit(i - m->gfn, m->left);
        }
    }
}

void xen_mapcache_long_lived_init(MapCache *mc)
{
    long_lived.mc = mc;
}
