/*
 * libqos driver for an NVMe controller behind a xen-pviommu: one pair of queues
 * for commands to the controller, and one for blocks
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef TESTS_LIBQOS_NVME_H
#define TESTS_LIBQOS_NVME_H

#include "libqos/xen-pviommu.h"

#define NVME_BLOCK              512

/* Of the generic kind */
#define NVME_STATUS_SUCCESS     0

typedef struct QNvmeQueue {
    uint16_t nr;
    unsigned page;              /* its commands; completions are in the next */
    unsigned tail, head;
    bool phase;
} QNvmeQueue;

typedef struct QNvme {
    QXenPVIOMMU *iommu;
    QPCIDevice dev;
    QPCIBar bar;
    unsigned stride;            /* of doorbells, in bytes */
    QNvmeQueue admin, io;
} QNvme;

/** nvme_init: give it its BAR, and let it do DMA; @devfn as in QPCI_DEVFN() */
void nvme_init(QNvme *n, QXenPVIOMMU *iommu, int devfn);

/* Where its queues are, and how many frames: BFNs and GFNs */
#define NVME_BFN                0x7f000ull
#define NVME_GFN                0x1d00ull
#define NVME_FRAMES             4

/** nvme_map_queues: map their memory, for as long as it is in @ctx */
void nvme_map_queues(QNvme *n, uint16_t ctx);

/** nvme_start: from any state to one in which it takes commands */
void nvme_start(QNvme *n);

/** nvme_enabled: as the controller says */
bool nvme_enabled(QNvme *n);

/**
 * nvme_identify: have the description of the controller stored
 * @addr: its bus address, a page
 *
 * Returns: the status.
 */
unsigned nvme_identify(QNvme *n, uint64_t addr);

/** nvme_transfer: a page at the bus address @addr, and blocks from @lba on */
unsigned nvme_transfer(QNvme *n, bool write, uint64_t lba, uint64_t addr);

#endif
