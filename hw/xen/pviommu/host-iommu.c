/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Guest pages in the host's IOMMU: iommu_op as a hypercall of our own domain
 *
 * The hypervisor maps a page of the guest at a BFN of ours and holds it. We
 * pick the BFN, note what is mapped, and take it away when the page leaves the
 * guest: the hypervisor frees the page after that.
 */

#include "qemu/osdep.h"
#include "qemu/error-report.h"
#include "qemu/interval-tree.h"
#include "qemu/main-loop.h"
#include "qapi/clone-visitor.h"
#include "qapi/error.h"
#include "qapi/qapi-commands-xen-pviommu.h"
#include "qapi/qapi-visit-xen-pviommu.h"
#include "hw/xen/xen_native.h"
#include "hw/xen/xen-page-release.h"
#include "hw/xen/xen-pviommu.h"
#include "hw/xen/interface/iommu_op.h"
#include "system/system.h"
#include "system/xen.h"
#include "host-hypercall.h"
#include "host-iommu.h"
#include "host-runs.h"
#include "trace.h"

/* How often the hypervisor is asked for a place, and steps where it refuses. */
#define MAX_PLACES 4096
#define PLACE_FRAMES 512

/* Emulators of one host have as many domains, and BFNs in common. */
#define DOMAIN_BITS 15

static struct {
    bool ready;
    uint64_t bfn_limit;
    uint64_t next_bfn;          /* where a free range is looked for first */
    IntervalTreeRoot reserved;  /* BFNs */
    XenPageHolder holder;
    Notifier exit;
} host;

static int host_lookup(uint64_t bfn)
{
    xen_pviommu_host_op(0, XEN_IOMMUOP_lookup_bfn)->u.lookup.bfn = bfn;
    return xen_pviommu_host_call(1);
}

static void host_op_unmap(uint64_t bfn, uint64_t nr)
{
    struct xen_iommu_op_unmap *u =
        &xen_pviommu_host_op(0, XEN_IOMMUOP_unmap)->u.unmap;

    u->bfn = bfn;
    u->nr_frames = nr;
}

static void host_op_flush(unsigned i, const HostRun *run)
{
    struct xen_iommu_op_flush *u =
        &xen_pviommu_host_op(i, XEN_IOMMUOP_flush)->u.flush;

    u->bfn = run->by_bfn.start;
    u->nr_frames = xen_pviommu_host_run_frames(run);
}

/*
 * A part of it is not mapped any more: the guest is being destroyed, or
 * another program of this domain unmapped it. Unmap what is ours of it.
 */
static int host_unmap_rest(const HostRun *run)
{
    uint64_t bfn = run->by_bfn.start, gfn = run->by_gfn.start;
    uint64_t left = xen_pviommu_host_run_frames(run), nr;

    for (; left; bfn += nr, gfn += nr, left -= nr) {
        const struct xen_iommu_op_lookup *found =
            &xen_pviommu_host_result(0)->u.lookup;
        int rc = host_lookup(bfn);

        if (rc < 0 && rc != -XEN_IOMMU_ENOENT) {
            return rc;
        }
        nr = MIN(left, MAX(found->nr_frames, 1));
        if (rc < 0 || found->gfn != gfn) {
            continue;
        }
        host_op_unmap(bfn, nr);
        rc = xen_pviommu_host_call(1);
        if (rc < 0 && rc != -XEN_IOMMU_ENOENT) {
            return rc;
        }
    }
    return 0;
}

/* Returns: 0, or a negated errno, and what the hypervisor holds is noted. */
static int host_run_let_go(HostRun *run)
{
    const uint64_t bfn = run->by_bfn.start;
    const uint64_t nr = xen_pviommu_host_run_frames(run);
    int rc = 0, flushed;

    if (run->state == HOST_RUN_GONE) {
        return 0;
    }
    if (run->state == HOST_RUN_MAPPED) {
        host_op_unmap(bfn, nr);
        host_op_flush(1, run);
        rc = xen_pviommu_host_call(2);
        flushed = xen_pviommu_host_result(1)->status;
        if (rc == -XEN_IOMMU_ENOENT) {
            rc = host_unmap_rest(run);
            /* That flush was too early. */
            flushed = XEN_PVIOMMU_HOST_NOT_RUN;
        }
    } else {
        flushed = XEN_PVIOMMU_HOST_NOT_RUN;
    }
    if (rc >= 0) {
        run->state = HOST_RUN_UNFLUSHED;
        if (flushed == XEN_PVIOMMU_HOST_NOT_RUN) {
            host_op_flush(0, run);
            flushed = xen_pviommu_host_call(1);
        }
        rc = flushed;
    }
    trace_xen_pviommu_host_unmap(bfn, nr, rc);
    if (rc < 0) {
        error_report_once("xen-pviommu: the hypervisor keeps %" PRIu64 " pages "
                          "at BFN 0x%" PRIx64 " mapped for devices: %s",
                          nr, bfn, strerror(-rc));
        return rc;
    }
    xen_pviommu_host_run_gone(run);
    return 0;
}

static void host_run_free_if_over(HostRun *run)
{
    if (run->state == HOST_RUN_GONE && !run->owned) {
        xen_pviommu_host_run_free(run);
    }
}

static bool host_ready(Error **errp)
{
    if (!host.ready) {
        error_setg(errp, "guest pages are not mapped for physical devices");
        error_append_hint(errp, "Under Xen, use -device xen-pviommu,"
                          "backend=xen.\n");
        return false;
    }
    return true;
}

static int host_map_at(uint64_t bfn, uint64_t gfn, uint32_t nr, bool readonly)
{
    struct xen_iommu_op *op = xen_pviommu_host_op(0, XEN_IOMMUOP_map);
    int rc;

    op->flags = readonly ? XEN_IOMMUOP_map_readonly : 0;
    op->u.map.bfn = bfn;
    op->u.map.gfn = gfn;
    op->u.map.domid = xen_domid;
    op->u.map.nr_frames = nr;
    rc = xen_pviommu_host_call(1);
    trace_xen_pviommu_host_map(bfn, gfn, nr, readonly, rc);
    if (rc == -XEN_IOMMU_EIO) {
        /* It could not undo all of it, perhaps. Later, it may. */
        HostRun *run = xen_pviommu_host_run_new(bfn, gfn, nr, HOST_RUN_MAPPED,
                                                false);

        host_run_let_go(run);
        host_run_free_if_over(run);
    }
    return rc;
}

/* Where to look next, as the hypervisor refused [@bfn, @bfn + @nr). */
static uint64_t host_next_place(uint64_t bfn, uint64_t nr, int refused)
{
    uint64_t end = bfn + nr;

    if (refused == -XEN_IOMMU_EADDRNOTAVAIL) {
        /* Reserved for a device that came later. */
        return bfn + MAX(nr, PLACE_FRAMES);
    }
    /* Another program's mapping: behind the first that is in the way. */
    while (bfn < end) {
        int rc = host_lookup(bfn);
        uint64_t there =
            MAX(xen_pviommu_host_result(0)->u.lookup.nr_frames, 1);

        if (rc != -XEN_IOMMU_ENOENT) {
            return bfn + (rc < 0 ? PLACE_FRAMES : there);
        }
        bfn += there;
    }
    /* It is gone by now. */
    return end - nr;
}

/* The end of what is taken or reserved in a range, or 0 for nothing. */
static uint64_t host_taken(uint64_t bfn, uint64_t nr)
{
    IntervalTreeNode *node = interval_tree_iter_first(&host.reserved, bfn,
                                                      bfn + nr - 1);
    const HostRun *run;

    if (node) {
        return node->last + 1;
    }
    run = xen_pviommu_host_run_first(bfn, nr);
    return run ? run->by_bfn.last + 1 : 0;
}

/* Map at the first place that is free. What is below half is left to others. */
static int host_map_somewhere(uint64_t gfn, uint64_t nr, bool readonly,
                              uint64_t *bfn)
{
    const uint64_t from = host.next_bfn;
    unsigned refused = 0;
    bool again = false;
    uint64_t at = from;

    while (refused < MAX_PLACES) {
        uint64_t end;
        int rc;

        if (nr > host.bfn_limit - at) {
            /* What we freed ourselves is used again only after all else. */
            if (again) {
                break;
            }
            again = true;
            at = host.bfn_limit / 2;
            continue;
        }
        if (again && at >= from) {
            break;
        }
        end = host_taken(at, nr);
        if (end) {
            at = end;
            continue;
        }
        rc = host_map_at(at, gfn, nr, readonly);
        if (rc != -XEN_IOMMU_EEXIST && rc != -XEN_IOMMU_EADDRNOTAVAIL) {
            *bfn = at;
            return rc;
        }
        at = MIN(host_next_place(at, nr, rc), host.bfn_limit);
        refused++;
    }
    return -XEN_IOMMU_ENOSPC;
}

int xen_pviommu_host_map(uint64_t gfn, uint64_t nr, bool readonly,
                         uint64_t *bfn, Error **errp)
{
    const uint64_t gfn_limit = 1ull << XEN_GFN_BITS;
    int rc;

    assert(bql_locked());
    if (!host_ready(errp)) {
        return -ENODEV;
    }
    if (!nr || nr > UINT32_MAX || nr > host.bfn_limit / 2 || gfn >= gfn_limit ||
        nr > gfn_limit - gfn) {
        error_setg(errp, "no range of guest frames");
        return -EINVAL;
    }
    rc = host_map_somewhere(gfn, nr, readonly, bfn);
    if (rc < 0) {
        error_setg(errp, "the hypervisor does not map GFN 0x%" PRIx64 " for "
                   "devices: %s", gfn, strerror(-rc));
        if (rc == -XEN_IOMMU_EAGAIN) {
            error_append_hint(errp, "It is bringing the page back. Ask again "
                              "in a moment.\n");
        }
        return rc;
    }
    xen_pviommu_host_run_new(*bfn, gfn, nr, HOST_RUN_MAPPED, true);
    host.next_bfn = *bfn + nr;
    return 0;
}

int xen_pviommu_host_unmap(uint64_t bfn, uint64_t nr, Error **errp)
{
    g_autoptr(GPtrArray) runs = NULL;
    uint64_t end;
    int rc = 0;

    assert(bql_locked());
    if (!nr || bfn >= host.bfn_limit) {
        return 0;
    }
    end = bfn + MIN(nr, host.bfn_limit - bfn);
    runs = xen_pviommu_host_runs(bfn, end - bfn);
    for (guint i = 0; i < runs->len; i++) {
        HostRun *run = g_ptr_array_index(runs, i);
        int failed;

        xen_pviommu_host_run_cut(run, MAX(bfn, run->by_bfn.start),
                                 MIN(end, run->by_bfn.last + 1));
        run->owned = false;
        failed = host_run_let_go(run);
        rc = rc ?: failed;
        host_run_free_if_over(run);
    }
    if (rc < 0) {
        error_setg(errp, "the hypervisor did not unmap all of them: %s",
                   strerror(-rc));
    }
    return rc;
}

static void host_pages_removed(uint64_t gfn, uint64_t nr)
{
    g_autoptr(GPtrArray) runs = xen_pviommu_host_runs_of_pages(gfn, nr);

    for (guint i = 0; i < runs->len; i++) {
        HostRun *run = g_ptr_array_index(runs, i);
        uint64_t start = MAX(gfn, run->by_gfn.start) - run->by_gfn.start;
        uint64_t last = MIN(gfn + nr - 1, run->by_gfn.last) - run->by_gfn.start;

        xen_pviommu_host_run_cut(run, run->by_bfn.start + start,
                                 run->by_bfn.start + last + 1);
        host_run_let_go(run);
        host_run_free_if_over(run);
    }
}

/*
 * When this returns the hypervisor frees the pages. No map of one of them may
 * be under way there, as it would hold a page of which nothing is noted here.
 * Hence the BQL, which maps are made with, too.
 */
static void host_release(XenPageHolder *holder, const XenPageRange *ranges,
                         unsigned nr_ranges)
{
    assert(bql_locked());
    for (unsigned i = 0; i < nr_ranges; i++) {
        host_pages_removed(ranges[i].gfn, ranges[i].nr);
    }
}

static void host_held(XenPageHolder *holder, GArray *ranges)
{
    g_autoptr(GPtrArray) runs =
        xen_pviommu_host_runs_of_pages(0, 1ull << XEN_GFN_BITS);

    for (guint i = 0; i < runs->len; i++) {
        const HostRun *run = g_ptr_array_index(runs, i);

        xen_page_ranges_add(ranges, run->by_gfn.start,
                            xen_pviommu_host_run_frames(run));
    }
}

/* The hypervisor knows domains, not processes: it unmaps nothing by itself. */
static void host_let_go_of_all(void)
{
    HostRun *run;
    uint64_t kept = 0;

    xen_pviommu_host_unmap(0, host.bfn_limit, NULL);
    while ((run = xen_pviommu_host_run_first(0, host.bfn_limit))) {
        kept += xen_pviommu_host_run_frames(run);
        xen_pviommu_host_run_free(run);
    }
    if (kept) {
        error_report("xen-pviommu: %" PRIu64 " pages of the guest stay mapped "
                     "for devices, until one of the two domains ends", kept);
    }
}

static void host_exit(Notifier *notifier, void *data)
{
    host_let_go_of_all();
}

/* --- start and end -------------------------------------------------------- */

static void host_forget_reserved(void)
{
    IntervalTreeNode *node;

    while ((node = interval_tree_iter_first(&host.reserved, 0, UINT64_MAX))) {
        interval_tree_remove(node, &host.reserved);
        g_free(node);
    }
}

static void host_note_reserved(const GArray *ranges)
{
    for (guint i = 0; i < ranges->len; i++) {
        const struct xen_iommu_reserved_range *r =
            &g_array_index(ranges, struct xen_iommu_reserved_range, i);
        IntervalTreeNode *node;

        if (r->nr_frames) {
            node = g_new0(IntervalTreeNode, 1);
            node->start = r->start_bfn;
            node->last = node->start + r->nr_frames - 1;
            interval_tree_insert(node, &host.reserved);
        }
    }
}

static bool host_get_reserved(Error **errp)
{
    g_autoptr(GArray) ranges =
        g_array_new(false, false, sizeof(struct xen_iommu_reserved_range));

    if (!xen_pviommu_host_reserved(ranges, errp)) {
        return false;
    }
    host_note_reserved(ranges);
    for (uint64_t at = host.bfn_limit / 2; at < host.bfn_limit;) {
        uint64_t end = host_taken(at, 1);

        if (!end) {
            return true;
        }
        at = end;
    }
    error_setg(errp, "all BFNs of this domain are reserved");
    error_append_hint(errp, "Xen maps all memory for the devices of a PVH "
                      "domain itself: use a PV dom0, or backend=emulated.\n");
    return false;
}

/* Emulators of different guests do not begin at the same place. */
static uint64_t host_first_bfn(void)
{
    uint64_t half = host.bfn_limit / 2;

    return half + (half >> DOMAIN_BITS) * (xen_domid % (1u << DOMAIN_BITS));
}

static void host_close(void)
{
    host_forget_reserved();
    xen_pviommu_host_close();
    host.ready = false;
}

bool xen_pviommu_host_init(Error **errp)
{
    if (!xen_enabled()) {
        error_setg(errp, "backend=xen works under Xen only");
        error_append_hint(errp, "Leave backend= out, or use -accel xen.\n");
        return false;
    }
    if (xen_domid_restrict) {
        error_setg(errp, "-xen-domid-restrict takes the hypercalls away that "
                   "backend=xen needs");
        error_append_hint(errp, "Leave one of them out.\n");
        return false;
    }
    if (!xen_pviommu_host_open(&host.bfn_limit, errp)) {
        return false;
    }
    host.next_bfn = host_first_bfn();
    if (!host_get_reserved(errp)) {
        host_close();
        return false;
    }
    host.ready = true;
    host.holder.release = host_release;
    host.holder.held = host_held;
    xen_page_holder_register(&host.holder);
    host.exit.notify = host_exit;
    qemu_add_exit_notifier(&host.exit);
    return true;
}

void xen_pviommu_host_finalize(void)
{
    if (!host.ready) {
        return;
    }
    host_let_go_of_all();
    qemu_remove_exit_notifier(&host.exit);
    xen_page_holder_unregister(&host.holder);
    host_close();
}

XenPVIOMMUHostRange *
qmp_x_xen_pviommu_host_map(uint64_t gfn, bool has_frames, uint32_t frames,
                           bool has_readonly, bool readonly, Error **errp)
{
    XenPVIOMMUHostRange range = {
        .gfn = gfn, .frames = has_frames ? frames : 1,
    };

    if (xen_pviommu_host_map(gfn, range.frames, has_readonly && readonly,
                             &range.bfn, errp) < 0) {
        return NULL;
    }
    return QAPI_CLONE(XenPVIOMMUHostRange, &range);
}

void qmp_x_xen_pviommu_host_unmap(uint64_t bfn, bool has_frames,
                                  uint32_t frames, Error **errp)
{
    if (host_ready(errp)) {
        xen_pviommu_host_unmap(bfn, has_frames ? frames : 1, errp);
    }
}

XenPVIOMMUHostRangeList *qmp_x_query_xen_pviommu_host(Error **errp)
{
    XenPVIOMMUHostRangeList *list = NULL, **tail = &list;
    g_autoptr(GPtrArray) runs = NULL;

    if (!host_ready(errp)) {
        return NULL;
    }
    runs = xen_pviommu_host_runs(0, host.bfn_limit);
    for (guint i = 0; i < runs->len; i++) {
        const HostRun *run = g_ptr_array_index(runs, i);
        XenPVIOMMUHostRange *range;

        /* Without a flush, devices may still know of what was unmapped. */
        if (run->state == HOST_RUN_GONE) {
            continue;
        }
        range = g_new0(XenPVIOMMUHostRange, 1);
        range->bfn = run->by_bfn.start;
        range->gfn = run->by_gfn.start;
        range->frames = xen_pviommu_host_run_frames(run);
        QAPI_LIST_APPEND(tail, range);
    }
    return list;
}
