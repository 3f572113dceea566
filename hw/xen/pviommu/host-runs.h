/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Guest pages in the host's IOMMU: what is noted of them, by BFN and by GFN
 *
 * Nothing in here calls the hypervisor. There is one such list in a process.
 *
 * Locking: BQL.
 */

#ifndef HW_XEN_PVIOMMU_HOST_RUNS_H
#define HW_XEN_PVIOMMU_HOST_RUNS_H

#include "qemu/interval-tree.h"

typedef enum HostRunState {
    HOST_RUN_MAPPED,            /* or a part of it, if the hypervisor failed */
    HOST_RUN_UNFLUSHED,         /* not mapped, but the pages are still held */
    HOST_RUN_GONE,              /* the pages are not held any more */
} HostRunState;

/*
 * What one map brought, or a part of it. A run whose pages left the guest is
 * the owner's until it is unmapped: its device may still use these BFNs.
 * A run that has no owner any more is one that the hypervisor failed to unmap.
 */
typedef struct HostRun {
    /* Only host-runs.c changes them. */
    IntervalTreeNode by_bfn;
    IntervalTreeNode by_gfn;    /* in the tree unless it is gone */
    HostRunState state;         /* gone by xen_pviommu_host_run_gone() only */
    bool owned;
} HostRun;

/** xen_pviommu_host_run_frames: how many frames @run has */
static inline uint64_t xen_pviommu_host_run_frames(const HostRun *run)
{
    return run->by_bfn.last - run->by_bfn.start + 1;
}

/** xen_pviommu_host_run_new: note a run; none has these BFNs yet */
HostRun *xen_pviommu_host_run_new(uint64_t bfn, uint64_t gfn, uint64_t nr,
                                  HostRunState state, bool owned);

/** xen_pviommu_host_run_free: forget @run */
void xen_pviommu_host_run_free(HostRun *run);

/**
 * xen_pviommu_host_run_cut: cut @run down to the BFNs [@start, @end), which it
 * has
 *
 * What it had beside these is in new runs, which are as it is.
 */
void xen_pviommu_host_run_cut(HostRun *run, uint64_t start, uint64_t end);

/** xen_pviommu_host_run_gone: the pages of @run are not held any more */
void xen_pviommu_host_run_gone(HostRun *run);

/** xen_pviommu_host_run_first: the first run in a range of BFNs, or NULL */
HostRun *xen_pviommu_host_run_first(uint64_t bfn, uint64_t nr);

/**
 * xen_pviommu_host_runs: all runs that reach into a range of BFNs, in order
 *
 * Runs may be cut and freed while the caller goes through the list, but for
 * those that it still wants. It frees the list.
 */
GPtrArray *xen_pviommu_host_runs(uint64_t bfn, uint64_t nr);

/**
 * xen_pviommu_host_runs_of_pages: the same for a range of GFNs, of runs that
 * are not gone
 */
GPtrArray *xen_pviommu_host_runs_of_pages(uint64_t gfn, uint64_t nr);

#endif /* HW_XEN_PVIOMMU_HOST_RUNS_H */
