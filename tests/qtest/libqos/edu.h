/*
 * libqos driver for edu, the educational device, as one that does DMA
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef TESTS_LIBQOS_EDU_H
#define TESTS_LIBQOS_EDU_H

#include "libqos/xen-pviommu.h"

#define EDU_BUF_SIZE    4096

/* On a command line: an edu that takes bus addresses as they are. */
#define EDU_DEVICE      "-device edu,dma_mask=0xffffffffffffffff"
/* Two of them on the root bus. */
#define EDU_PAIR        EDU_DEVICE ",addr=11 " EDU_DEVICE ",addr=12 "
#define EDU_SBDF_A      (0x11 << 3)
#define EDU_SBDF_B      (0x12 << 3)

typedef struct QEdu {
    QPCIDevice dev;
    QPCIBar bar;
    /*
     * A page through which its buffer is filled and read, where the device
     * sees it and where it is.
     */
    uint64_t window;
    uint64_t window_ram;
} QEdu;

/**
 * edu_init: give it its BAR, and let it do DMA
 * @devfn: as QPCI_DEVFN((bus << 5) | slot, function)
 */
void edu_init(QEdu *edu, QXenPVIOMMU *iommu, int devfn);

/**
 * edu_start: a machine with a xen-pviommu and an edu, which is EDU_SBDF_A
 *
 * All features are accepted, and the edu's window is mapped in context 0.
 *
 * @props: as for pviommu_args()
 */
QXenPVIOMMU *edu_start(const char *machine, const char *props, QEdu *edu);

typedef struct QEduPair {
    QXenPVIOMMU *iommu;
    QEdu a, b;
} QEduPair;

/** edu_start_pair: with EDU_PAIR; all features are accepted */
QEduPair edu_start_pair(const char *machine, const char *props);

/** edu_init_pair: the same after a reset */
void edu_init_pair(QEduPair *pair);

/**
 * edu_map_window: map its window, for as long as it is in @ctx
 * @nr: each device in one context has another
 */
void edu_map_window(QEdu *edu, QXenPVIOMMU *iommu, uint16_t ctx, unsigned nr);

/** edu_dma: between @addr and the buffer, and wait until it is done */
void edu_dma(QEdu *edu, bool to_memory, uint64_t addr, unsigned len);

/* The buffer, by way of the window. */
void edu_set_buffer(QEdu *edu, const void *data, unsigned len);
void edu_get_buffer(QEdu *edu, void *data, unsigned len);

/** edu_store: the device writes @data to @addr */
void edu_store(QEdu *edu, uint64_t addr, const void *data, unsigned len);
/** edu_load: the device reads @addr */
void edu_load(QEdu *edu, uint64_t addr, void *data, unsigned len);

/** edu_assert_access: @addr is @ram for the device, to read and to write */
void edu_assert_access(QEdu *edu, uint64_t addr, uint64_t ram, unsigned len);

/** edu_assert_no_access: it neither gets at @ram by @addr nor changes it */
void edu_assert_no_access(QEdu *edu, uint64_t addr, uint64_t ram,
                          unsigned len);

/** edu_assert_readonly: it reads @ram by @addr, but does not change it */
void edu_assert_readonly(QEdu *edu, uint64_t addr, uint64_t ram,
                         unsigned len);

#endif
