/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Pages that leave the guest: everybody who may hold them lets go
 *
 * Who says that they leave (the hypervisor, in ioreq.c; a balloon), and who
 * holds them (devices, the mapcache), only know this file of each other.
 */

#include "qemu/osdep.h"
#include "qemu/main-loop.h"
#include "hw/xen/xen-pviommu.h"
#include "qapi/qapi-commands-xen-pviommu.h"

XenInvalidateStats xen_invalidate_stats;

static QLIST_HEAD(, XenInvalidateClient) clients =
    QLIST_HEAD_INITIALIZER(clients);

void xen_invalidate_register(XenInvalidateClient *client)
{
    QLIST_INSERT_HEAD(&clients, client, next);
}

void xen_invalidate_unregister(XenInvalidateClient *client)
{
    QLIST_REMOVE(client, next);
}

void xen_invalidate_pages(uint64_t gfn, uint64_t nr)
{
    const uint64_t limit = 1ull << XEN_INVALIDATE_GFN_BITS;
    XenInvalidateClient *client;

    assert(bql_locked());
    if (gfn >= limit || !nr) {
        return;
    }
    nr = MIN(nr, limit - gfn);
    QLIST_FOREACH(client, &clients, next) {
        client->invalidate(client, gfn, nr);
    }
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
