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
#include "hw/xen/xen-pviommu.h"
#include "hw/xen/interface/iommu_op.h"
#include "system/system.h"
#include "system/xen.h"
#include "host-iommu.h"
#include "trace.h"
#include <xencall.h>

/* The next free number after those of Xen 4.17 (docs/xen.rst). */
#define HYPERVISOR_IOMMU_OP 43

/* How often a page that is on its way back is asked for. */
#define MAX_RETRIES 50
#define RETRY_US 10000

/* What one map brought, or the rest of it. */
typedef struct HostRun {
    IntervalTreeNode by_bfn;
    IntervalTreeNode by_gfn;
} HostRun;

static struct {
    xencall_handle *call;
    struct xen_iommu_op *ops;   /* in memory that hypercalls reach */
    uint64_t bfn_limit;
    uint64_t next_bfn;          /* where a free range is looked for first */
    IntervalTreeRoot by_bfn;
    IntervalTreeRoot by_gfn;
    XenInvalidateClient invalidate;
    Notifier exit;
} host;

/* Operations at a time. */
#define MAX_OPS 2

/* Places that are tried for a mapping, and how far apart they are. */
#define MAX_PLACES 64
#define PLACE_FRAMES 512

static HostRun *run_of_bfn(IntervalTreeNode *node)
{
    return node ? container_of(node, HostRun, by_bfn) : NULL;
}

static HostRun *run_of_gfn(IntervalTreeNode *node)
{
    return node ? container_of(node, HostRun, by_gfn) : NULL;
}

static void run_add(uint64_t bfn, uint64_t gfn, uint64_t nr)
{
    HostRun *run = g_new0(HostRun, 1);

    run->by_bfn.start = bfn;
    run->by_bfn.last = bfn + nr - 1;
    run->by_gfn.start = gfn;
    run->by_gfn.last = gfn + nr - 1;
    interval_tree_insert(&run->by_bfn, &host.by_bfn);
    interval_tree_insert(&run->by_gfn, &host.by_gfn);
}

static struct xen_iommu_op *host_op(unsigned i, uint16_t op)
{
    host.ops[i] = (struct xen_iommu_op) { .op = op };
    return &host.ops[i];
}

/* Returns: 0, or a negated errno of the call or of the first that failed. */
static int host_call(unsigned nr)
{
    if (xencall2(host.call, HYPERVISOR_IOMMU_OP, (uintptr_t)host.ops, nr)) {
        return -errno;
    }
    for (unsigned i = 0; i < nr; i++) {
        if (host.ops[i].status) {
            return host.ops[i].status;
        }
    }
    return 0;
}

static int host_map_at(uint64_t bfn, uint64_t gfn, uint32_t nr, bool readonly)
{
    int rc;

    for (int i = 0; i < MAX_RETRIES; i++) {
        struct xen_iommu_op *op = host_op(0, XEN_IOMMUOP_map);

        op->flags = readonly ? XEN_IOMMUOP_map_readonly : 0;
        op->u.map.bfn = bfn;
        op->u.map.gfn = gfn;
        op->u.map.domid = xen_domid;
        op->u.map.nr_frames = nr;
        rc = host_call(1);
        if (rc != -XEN_IOMMU_EAGAIN) {
            break;
        }
        /* Paged out, or shared: the hypervisor is at it. */
        g_usleep(RETRY_US);
    }
    trace_xen_pviommu_host_map(bfn, gfn, nr, readonly, rc);
    return rc;
}

/* Take [@start, @start + @nr) of @run's BFNs away. */
static void host_unmap_part(HostRun *run, uint64_t start, uint64_t nr)
{
    uint64_t bfn = run->by_bfn.start, end = run->by_bfn.last + 1;
    uint64_t gfn = run->by_gfn.start;
    int rc;

    host_op(0, XEN_IOMMUOP_unmap)->u.unmap = (struct xen_iommu_op_unmap) {
        .bfn = start, .nr_frames = nr,
    };
    host_op(1, XEN_IOMMUOP_flush)->u.flush = (struct xen_iommu_op_flush) {
        .bfn = start, .nr_frames = nr,
    };
    rc = host_call(2);
    trace_xen_pviommu_host_unmap(start, nr, rc);
    if (rc) {
        error_report("xen-pviommu: the hypervisor keeps %" PRIu64 " pages at "
                     "BFN 0x%" PRIx64 " mapped for devices: %s",
                     nr, start, strerror(-rc));
    }

    interval_tree_remove(&run->by_bfn, &host.by_bfn);
    interval_tree_remove(&run->by_gfn, &host.by_gfn);
    g_free(run);
    if (bfn < start) {
        run_add(bfn, gfn, start - bfn);
    }
    if (start + nr < end) {
        run_add(start + nr, gfn + (start + nr - bfn), end - start - nr);
    }
}

static bool host_ready(Error **errp)
{
    if (!host.call) {
        error_setg(errp, "guest pages are not mapped for physical devices");
        error_append_hint(errp, "Under Xen, use -device xen-pviommu,"
                          "backend=xen.\n");
        return false;
    }
    return true;
}

bool xen_pviommu_host_map(uint64_t gfn, uint64_t nr, bool readonly,
                          uint64_t *bfn, Error **errp)
{
    int rc = -XEN_IOMMU_ENOSPC;

    assert(bql_locked());
    if (!host_ready(errp)) {
        return false;
    }
    if (!nr || nr > UINT32_MAX || gfn >> XEN_INVALIDATE_GFN_BITS) {
        error_setg(errp, "no range of guest frames");
        return false;
    }
    for (int i = 0; i < MAX_PLACES; i++) {
        HostRun *taken;

        /* What we freed ourselves is used again only after all else. */
        if (host.next_bfn + nr > host.bfn_limit) {
            host.next_bfn = host.bfn_limit / 2;
        }
        taken = run_of_bfn(interval_tree_iter_first(&host.by_bfn, host.next_bfn,
                                                    host.next_bfn + nr - 1));
        if (taken) {
            host.next_bfn = taken->by_bfn.last + 1;
            continue;
        }
        *bfn = host.next_bfn;
        rc = host_map_at(*bfn, gfn, nr, readonly);
        if (rc != -XEN_IOMMU_EEXIST && rc != -XEN_IOMMU_EADDRNOTAVAIL) {
            break;
        }
        /* Somebody else's, or reserved. */
        host.next_bfn += MAX(nr, PLACE_FRAMES);
    }
    if (rc) {
        error_setg(errp, "the hypervisor does not map GFN 0x%" PRIx64 " for "
                   "devices: %s", gfn, strerror(-rc));
        return false;
    }
    run_add(*bfn, gfn, nr);
    host.next_bfn = *bfn + nr;
    return true;
}

void xen_pviommu_host_unmap(uint64_t bfn, uint64_t nr)
{
    HostRun *run;

    assert(bql_locked());
    if (!nr) {
        return;
    }
    while ((run = run_of_bfn(interval_tree_iter_first(&host.by_bfn, bfn,
                                                      bfn + nr - 1)))) {
        uint64_t start = MAX(bfn, run->by_bfn.start);

        host_unmap_part(run, start,
                        MIN(bfn + nr - 1, run->by_bfn.last) + 1 - start);
    }
}

static void host_invalidate(XenInvalidateClient *client,
                            uint64_t gfn, uint64_t nr)
{
    HostRun *run;

    while ((run = run_of_gfn(interval_tree_iter_first(&host.by_gfn, gfn,
                                                      gfn + nr - 1)))) {
        uint64_t start = MAX(gfn, run->by_gfn.start);
        uint64_t last = MIN(gfn + nr - 1, run->by_gfn.last);

        host_unmap_part(run,
                        run->by_bfn.start + (start - run->by_gfn.start),
                        last + 1 - start);
    }
}

/* The hypervisor knows domains, not processes: nobody else would do it. */
static void host_exit(Notifier *notifier, void *data)
{
    xen_pviommu_host_unmap(0, host.bfn_limit);
}

bool xen_pviommu_host_init(Error **errp)
{
    const uint32_t needed = 1u << XEN_IOMMUOP_map | 1u << XEN_IOMMUOP_unmap |
                            1u << XEN_IOMMUOP_flush;
    const struct xen_iommu_op_query_caps *caps;
    int rc;

    if (!xen_enabled()) {
        error_setg(errp, "backend=xen works under Xen only");
        error_append_hint(errp, "Leave backend= out, or use -accel xen.\n");
        return false;
    }
    host.call = xencall_open(NULL, 0);
    if (!host.call) {
        error_setg_errno(errp, errno, "cannot make hypercalls");
        return false;
    }
    host.ops = xencall_alloc_buffer(host.call, MAX_OPS * sizeof(*host.ops));
    if (!host.ops) {
        error_setg_errno(errp, errno, "no memory for hypercalls");
        goto fail;
    }
    caps = &host_op(0, XEN_IOMMUOP_query_caps)->u.query_caps;
    rc = host_call(1);
    if (rc) {
        error_setg(errp, "this hypervisor has no iommu_op: %s", strerror(-rc));
        error_append_hint(errp, "Use backend=emulated, or boot a Xen with "
                          "xen-pviommu's series (docs/xen.rst).\n");
        goto fail;
    }
    if ((caps->ops & needed) != needed ||
        !(caps->features & XEN_IOMMU_FEATURE_RANGES)) {
        error_setg(errp, "the hypervisor's iommu_op cannot map for this domain "
                   "(operations 0x%x, features 0x%" PRIx64 ")", caps->ops,
                   caps->features);
        error_append_hint(errp, "Boot Xen with an IOMMU that works (iommu=1), "
                          "or use backend=emulated.\n");
        goto fail;
    }
    /* The lower half is left to whatever maps memory 1:1. */
    host.bfn_limit = 1ull << caps->bfn_bits;
    host.next_bfn = host.bfn_limit / 2;
    host.invalidate.invalidate = host_invalidate;
    xen_invalidate_register(&host.invalidate);
    host.exit.notify = host_exit;
    qemu_add_exit_notifier(&host.exit);
    return true;

fail:
    if (host.ops) {
        xencall_free_buffer(host.call, host.ops);
        host.ops = NULL;
    }
    xencall_close(host.call);
    host.call = NULL;
    return false;
}

void xen_pviommu_host_finalize(void)
{
    if (!host.call) {
        return;
    }
    xen_pviommu_host_unmap(0, host.bfn_limit);
    qemu_remove_exit_notifier(&host.exit);
    xen_invalidate_unregister(&host.invalidate);
    xencall_free_buffer(host.call, host.ops);
    host.ops = NULL;
    xencall_close(host.call);
    host.call = NULL;
}

XenPVIOMMUHostRange *
qmp_x_xen_pviommu_host_map(uint64_t gfn, bool has_frames, uint32_t frames,
                           bool has_readonly, bool readonly, Error **errp)
{
    XenPVIOMMUHostRange range = {
        .gfn = gfn, .frames = has_frames ? frames : 1,
    };

    if (!xen_pviommu_host_map(gfn, range.frames, has_readonly && readonly,
                              &range.bfn, errp)) {
        return NULL;
    }
    return QAPI_CLONE(XenPVIOMMUHostRange, &range);
}

void qmp_x_xen_pviommu_host_unmap(uint64_t bfn, bool has_frames,
                                  uint32_t frames, Error **errp)
{
    if (host_ready(errp)) {
        xen_pviommu_host_unmap(bfn, has_frames ? frames : 1);
    }
}

XenPVIOMMUHostRangeList *qmp_x_query_xen_pviommu_host(Error **errp)
{
    XenPVIOMMUHostRangeList *list = NULL, **tail = &list;
    IntervalTreeNode *node;

    if (!host_ready(errp)) {
        return NULL;
    }
    for (node = interval_tree_iter_first(&host.by_bfn, 0, UINT64_MAX); node;
         node = interval_tree_iter_next(node, 0, UINT64_MAX)) {
        const HostRun *run = run_of_bfn(node);
        XenPVIOMMUHostRange *range = g_new0(XenPVIOMMUHostRange, 1);

        range->bfn = run->by_bfn.start;
        range->gfn = run->by_gfn.start;
        range->frames = run->by_bfn.last - run->by_bfn.start + 1;
        QAPI_LIST_APPEND(tail, range);
    }
    return list;
}
