/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Guest pages in the host's IOMMU: what is noted of them, by BFN and by GFN
 */

#include "qemu/osdep.h"
#include "host-runs.h"

static struct {
    IntervalTreeRoot by_bfn;
    IntervalTreeRoot by_gfn;
} host_runs;

static void host_run_insert(HostRun *run)
{
    interval_tree_insert(&run->by_bfn, &host_runs.by_bfn);
    if (run->state != HOST_RUN_GONE) {
        interval_tree_insert(&run->by_gfn, &host_runs.by_gfn);
    }
}

static void host_run_remove(HostRun *run)
{
    interval_tree_remove(&run->by_bfn, &host_runs.by_bfn);
    if (run->state != HOST_RUN_GONE) {
        interval_tree_remove(&run->by_gfn, &host_runs.by_gfn);
    }
}

static void host_run_set(HostRun *run, uint64_t bfn, uint64_t gfn, uint64_t nr)
{
    run->by_bfn.start = bfn;
    run->by_bfn.last = bfn + nr - 1;
    run->by_gfn.start = gfn;
    run->by_gfn.last = gfn + nr - 1;
    host_run_insert(run);
}

HostRun *xen_pviommu_host_run_new(uint64_t bfn, uint64_t gfn, uint64_t nr,
                                  HostRunState state, bool owned)
{
    HostRun *run = g_new0(HostRun, 1);

    run->state = state;
    run->owned = owned;
    host_run_set(run, bfn, gfn, nr);
    return run;
}

void xen_pviommu_host_run_free(HostRun *run)
{
    host_run_remove(run);
    g_free(run);
}

void xen_pviommu_host_run_cut(HostRun *run, uint64_t start, uint64_t end)
{
    uint64_t first = run->by_bfn.start, limit = run->by_bfn.last + 1;
    uint64_t gfn = run->by_gfn.start;

    host_run_remove(run);
    if (first < start) {
        xen_pviommu_host_run_new(first, gfn, start - first, run->state,
                                 run->owned);
    }
    if (end < limit) {
        xen_pviommu_host_run_new(end, gfn + (end - first), limit - end,
                                 run->state, run->owned);
    }
    host_run_set(run, start, gfn + (start - first), end - start);
}

void xen_pviommu_host_run_gone(HostRun *run)
{
    interval_tree_remove(&run->by_gfn, &host_runs.by_gfn);
    run->state = HOST_RUN_GONE;
}

HostRun *xen_pviommu_host_run_first(uint64_t bfn, uint64_t nr)
{
    IntervalTreeNode *node = interval_tree_iter_first(&host_runs.by_bfn, bfn,
                                                      bfn + nr - 1);

    return node ? container_of(node, HostRun, by_bfn) : NULL;
}

GPtrArray *xen_pviommu_host_runs(uint64_t bfn, uint64_t nr)
{
    GPtrArray *runs = g_ptr_array_new();
    const uint64_t last = bfn + nr - 1;
    IntervalTreeNode *node;

    for (node = interval_tree_iter_first(&host_runs.by_bfn, bfn, last); node;
         node = interval_tree_iter_next(node, bfn, last)) {
        g_ptr_array_add(runs, container_of(node, HostRun, by_bfn));
    }
    return runs;
}

GPtrArray *xen_pviommu_host_runs_of_pages(uint64_t gfn, uint64_t nr)
{
    GPtrArray *runs = g_ptr_array_new();
    const uint64_t last = gfn + nr - 1;
    IntervalTreeNode *node;

    for (node = interval_tree_iter_first(&host_runs.by_gfn, gfn, last); node;
         node = interval_tree_iter_next(node, gfn, last)) {
        g_ptr_array_add(runs, container_of(node, HostRun, by_gfn));
    }
    return runs;
}
