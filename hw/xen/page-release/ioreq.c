/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The ioreqs by which Xen announces pages that leave the guest
 *
 * include/hw/xen/interface/invalidate_page.h has the protocol. Entries of the
 * buffered ring are collected, and handled at the barrier behind them (until
 * then the hypervisor keeps the pages): a balloon's pages come scattered, and
 * many a run of them in any order but the right one.
 */

#include "qemu/osdep.h"
#include "qemu/main-loop.h"
#include "hw/xen/xen-hvm-common.h"
#include "hw/xen/xen-page-release.h"
#include "hw/xen/interface/invalidate_page.h"
#include "system/xen-mapcache.h"
#include <xen/hvm/ioreq.h>
#include "trace.h"

/* Collected ranges at a time: what a ring holds, and some. */
#define MAX_COLLECTED   1024

static GArray *collected;       /* of XenPageRange, since the last barrier */
static bool missed;             /* some of them could not be read */

int xen_page_release_create_server(uint16_t domid, int handle_bufioreq,
                                 uint16_t *id)
{
    int rc = xendevicemodel_create_ioreq_server(
        xen_dmod, domid, handle_bufioreq | HVM_IOREQSRV_INVALIDATE_PAGE, id);

    trace_xen_page_release_create_server(domid, rc ? errno : 0);
    xen_page_release_stats.per_page = !rc;
    return rc ? -1 : 0;
}

static bool range_valid(uint64_t gfn, uint64_t nr)
{
    const uint64_t limit = 1ull << XEN_GFN_BITS;

    return nr && gfn < limit && nr <= limit - gfn;
}

static void handle_collected(void)
{
    if (!collected) {
        return;
    }
    xen_page_ranges_merge(collected);
    xen_page_release_ranges(collected);
    g_array_set_size(collected, 0);
}

/*
 * Pages left, and which ones is not known. The mapcache drops all it has; of
 * pages that are held for devices, the hypervisor is asked whether they are
 * there. What was collected is handled first: later, it would hit the pages
 * that the guest has at these frames next.
 */
static void forget_everything(void)
{
    handle_collected();
    missed = false;
    /* From QEMU 11.0 on, xenpvh can do without a mapcache. */
    if (xen_page_source_backs(&xen_memory)) {
        xen_invalidate_map_cache();
    }
    xen_page_release_unnamed();
}

bool xen_page_release_buffered(const struct buf_ioreq *entry)
{
    XenPageReleaseStats *stats = &xen_page_release_stats;
    const struct buf_ioreq e = *entry;
    XenPageRange r = { .gfn = XEN_INVALIDATE_PAGE_GFN(e.addr, e.data) };

    if (e.type != IOREQ_TYPE_INVALIDATE_PAGE) {
        return false;
    }
    trace_xen_page_release_entry(r.gfn, e.size);
    stats->entries++;
    r.nr = 1ull << XEN_INVALIDATE_PAGE_ORDER(e.size);
    if (e.size > XEN_INVALIDATE_PAGE_1G || e.dir != IOREQ_WRITE ||
        !QEMU_IS_ALIGNED(r.gfn, r.nr) || !range_valid(r.gfn, r.nr)) {
        trace_xen_page_release_malformed("entry", r.gfn, e.size, e.dir);
        stats->malformed++;
        /* It named something, which is kept until the barrier. */
        missed = true;
        return true;
    }
    stats->pages += r.nr;
    if (!collected) {
        collected = g_array_new(false, false, sizeof(XenPageRange));
    }
    g_array_append_val(collected, r);
    if (collected->len == MAX_COLLECTED) {
        /* No barrier yet, but to be early is no error. */
        handle_collected();
    }
    return true;
}

static void handle_barrier(const struct ioreq *req)
{
    XenPageReleaseStats *stats = &xen_page_release_stats;
    int64_t ahead = stats->entries - req->data;

    trace_xen_page_release_barrier(req->data, stats->entries);
    if (!req->data || req->addr || ahead < 0) {
        /* Pages may have been named that never came here. */
        trace_xen_page_release_malformed("barrier", req->addr, req->data,
                                       stats->entries);
        stats->malformed++;
        missed = true;
    } else {
        stats->barriers++;
    }
    if (missed) {
        forget_everything();
    } else {
        handle_collected();
    }
}

void xen_page_release_ioreq(const struct ioreq *req)
{
    XenPageReleaseStats *stats = &xen_page_release_stats;
    uint64_t gfn = req->addr >> XEN_GFN_SHIFT;

    if (req->type == IOREQ_TYPE_INVALIDATE) {
        forget_everything();
        return;
    }
    if (req->dir != IOREQ_WRITE || req->data_is_ptr || req->df) {
        goto malformed;
    }
    if (!req->count) {
        handle_barrier(req);
        return;
    }
    if (req->data || !QEMU_IS_ALIGNED(req->addr, XEN_GFN_SIZE) ||
        !range_valid(gfn, req->count)) {
        goto malformed;
    }
    trace_xen_page_release_request(gfn, req->count);
    stats->requests++;
    stats->pages += req->count;
    xen_page_release(gfn, req->count);
    return;

malformed:
    trace_xen_page_release_malformed("request", req->addr, req->count,
                                     req->dir);
    stats->malformed++;
    /* Whatever it names is freed when it is answered. */
    forget_everything();
}
