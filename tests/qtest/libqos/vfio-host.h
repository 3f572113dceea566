/*
 * The host whose devices VFIO assigns: tests/functional/listeners, which says
 * in the environment what it has
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef TESTS_LIBQOS_VFIO_HOST_H
#define TESTS_LIBQOS_VFIO_HOST_H

#include "libqos/edu.h"

#define HOST_EDUS       2

typedef struct VFIOHost {
    char **edus;                /* as VFIO names them */
    const char *nvme;
    unsigned bits;              /* how wide its IOMMU is */
    bool iommufd;               /* VFIO is to use it, and not its containers */
} VFIOHost;

extern VFIOHost vfio_host;

/** vfio_host_init: to be called first; false, with a message, without a host */
bool vfio_host_init(void);

/** vfio_host_skip_log: what the host's kernel has said is not of interest. */
void vfio_host_skip_log(void);

/**
 * vfio_host_fault_logged: its IOMMU has reported a fault at @addr since the log
 * was skipped, or does within seconds
 */
bool vfio_host_fault_logged(uint64_t addr);

/** vfio_host_assert_faults: it stops the edu's write to @addr, and says so */
void vfio_host_assert_faults(QEdu *edu, uint64_t addr);

#endif
