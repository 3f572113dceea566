/*
 * libqos driver for virtio-balloon and virtio-mem, by which a guest gives RAM
 * back
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef TESTS_LIBQOS_VIRTIO_RAM_H
#define TESTS_LIBQOS_VIRTIO_RAM_H

#include "libqos/libqos-malloc.h"
#include "libqos/virtio-pci.h"
#include "libqos/xen-pviommu.h"

/* Queues of a balloon; the last is there with free-page-reporting=on. */
#define BALLOON_INFLATE         0
#define BALLOON_DEFLATE         1
#define BALLOON_REPORT          3

#define VIRTIO_RAM_MAX_QUEUES   4

typedef struct QVirtioRam {
    QTestState *qts;
    QVirtioPCIDevice *dev;
    QGuestAllocator alloc;
    uint64_t buffer;            /* a page, for requests */
    unsigned nr_queues;
    QVirtQueue *queues[VIRTIO_RAM_MAX_QUEUES];
} QVirtioRam;

/**
 * virtio_ram_init: start the device, with @nr_queues
 * @devfn: as QPCI_DEVFN((bus << 5) | slot, function)
 */
void virtio_ram_init(QVirtioRam *v, QXenPVIOMMU *iommu, int devfn,
                     unsigned nr_queues);
void virtio_ram_finalize(QVirtioRam *v);

/**
 * balloon_give: @nr pages from @gfn on, in one request
 * @queue: BALLOON_INFLATE or BALLOON_DEFLATE
 */
void balloon_give(QVirtioRam *v, unsigned queue, uint64_t gfn, unsigned nr);

/** balloon_report: say that what is there is free, now */
void balloon_report(QVirtioRam *v, uint64_t addr, uint32_t len);

/** virtio_mem_request: VIRTIO_MEM_REQ_*; returns VIRTIO_MEM_RESP_* */
uint16_t virtio_mem_request(QVirtioRam *v, uint16_t type, uint64_t addr,
                            uint16_t nr_blocks);

/* Where the memory of a virtio-mem begins, and how large its blocks are. */
uint64_t virtio_mem_addr(QVirtioRam *v);
uint64_t virtio_mem_block_size(QVirtioRam *v);

#endif
