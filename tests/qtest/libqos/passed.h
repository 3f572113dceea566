/*
 * libqos: functions that the simulated hypervisor passes through
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef TESTS_LIBQOS_PASSED_H
#define TESTS_LIBQOS_PASSED_H

#include "libqos/xensim.h"

/* Functions of the host: 03:00.0 and so on, and where the guest has them. */
#define PASSED_MAX              3
#define PASSED_HOST_SBDF(i)     (0x300u + (i) * 8)
#define PASSED_SLOT(i)          (0x14u + (i))
#define PASSED_SBDF(i)          (PASSED_SLOT(i) << 3)

typedef struct Passed {
    XenSim *sim;
    QXenPVIOMMU *iommu;
} Passed;

#define PASSED_FEATURES "invalidate-page,iommu-op,iommu-target"

/**
 * passed_start: a machine with a xen-pviommu, and with @nr functions as libxl
 * plugs them: the device first, then it is assigned
 * @features: of the hypervisor; PASSED_FEATURES if it is NULL
 * @props: of xen-pviommu, from a comma on, and more devices, or NULL
 */
Passed *passed_start(unsigned nr, const char *features, const char *props);

/** passed_quit: end it; fails the test if the simulator has complaints */
void passed_quit(Passed *v);

/** passed_plug: a device for function @i, which is not assigned yet */
void passed_plug(Passed *v, unsigned i);
void passed_assign(Passed *v, unsigned i);
void passed_deassign(Passed *v, unsigned i);

/**
 * passed_dma: DMA of function @i, to @bfn
 *
 * Returns: the page that it reaches, or XENSIM_NO_PAGE after a fault.
 */
uint32_t passed_dma(Passed *v, unsigned i, uint64_t bfn, bool write);

/* It reaches the guest's page @gfn, both ways; or nothing. */
void passed_assert_reaches(Passed *v, unsigned i, uint64_t bfn, uint64_t gfn);
void passed_assert_faults(Passed *v, unsigned i, uint64_t bfn);

/** passed_context_of: the hypervisor's context that function @i is in */
unsigned passed_context_of(Passed *v, unsigned i);
/** passed_contexts: how many it has, without the default one */
unsigned passed_contexts(Passed *v);

/**
 * passed_calls: hypercalls so far, but for those that fetch faults, each of
 * which is one
 *
 * All faults have been fetched then.
 */
uint64_t passed_calls(Passed *v);

/** passed_wait_not_context: until it is in another one than @context */
void passed_wait_not_context(Passed *v, unsigned i, unsigned context);

#endif
