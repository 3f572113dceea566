/*
 * ivshmem-doorbell: a device whose interrupts are eventfds of the test
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef TESTS_LIBQOS_IVSHMEM_PEER_H
#define TESTS_LIBQOS_IVSHMEM_PEER_H

#include "libqos/xen-pviommu.h"

#define IVSHMEM_VECTORS 2

typedef struct QIvshmem {
    int server;                 /* for QEMU */
    int doorbells[IVSHMEM_VECTORS];
    QPCIDevice dev;
} QIvshmem;

/**
 * ivshmem_args: for a machine that is to be started next
 *
 * Returns: what has to be on its command line, with the device at @slot
 */
char *ivshmem_args(QIvshmem *iv, unsigned slot);

/** ivshmem_init: when it has been started */
void ivshmem_init(QIvshmem *iv, QXenPVIOMMU *iommu, unsigned slot);

/** ivshmem_poke: raise interrupt @vector, as another machine would */
void ivshmem_poke(QIvshmem *iv, unsigned vector);

/** ivshmem_finalize: when its machine is no more */
void ivshmem_finalize(QIvshmem *iv);

#endif
