/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Long-lived mappings of guest pages, beside the buckets of Xen's mapcache
 *
 * Locking: MapCache.lock protects them. The functions take it, but for
 * xen_mapcache_drop_long_lived(), which xen-mapcache-internal.h declares, and
 * where a comment says so.
 */

#ifndef HW_XEN_MAPCACHE_LONG_LIVED_H
#define HW_XEN_MAPCACHE_LONG_LIVED_H

#include "hw/xen/xen-mapcache-internal.h"

/** xen_mapcache_long_lived_init: @mc is the cache of guest memory */
void xen_mapcache_long_lived_init(MapCache *mc);

/** xen_mapcache_long_lived_map: XenPageSourceOps.map_long_lived */
void *xen_mapcache_long_lived_map(uint64_t addr, uint64_t size);

/** xen_mapcache_long_lived_unmap: XenPageSourceOps.unmap_long_lived */
void xen_mapcache_long_lived_unmap(void *p);

/** xen_mapcache_long_lived_cache: XenPageSourceOps.cache_long_lived */
void xen_mapcache_long_lived_cache(MemoryRegionCache *cache);

/**
 * xen_mapcache_long_lived_left: pages left the guest
 *
 * They stay mapped until the holders of their mappings unmap these. The cache
 * is locked.
 */
void xen_mapcache_long_lived_left(uint64_t gfn, uint64_t nr);

#endif /* HW_XEN_MAPCACHE_LONG_LIVED_H */
