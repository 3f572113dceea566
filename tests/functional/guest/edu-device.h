/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * QEMU's edu device that a program drives through VFIO
 */

#ifndef TESTS_GUEST_EDU_DEVICE_H
#define TESTS_GUEST_EDU_DEVICE_H

#include "edu-regs.h"
#include "vfio-device.h"

/* Register, and what is in it */
#define EDU_ID          0x00
#define EDU_ID_MASK     0xffu
#define EDU_ID_VALUE    0xedu

typedef struct Edu {
    VfioDevice vfio;
    volatile uint8_t *bar;
} Edu;

/* The first one, taken from its driver */
void edu_open(Edu *edu);

/*
 * DMA of @count bytes, a page at the most, from bus address @src to @dst, one
 * of which is EDU_BUFFER; EDU_DMA_TO_RAM in @command if that is @src. Waits for
 * it.
 */
void edu_dma_part(Edu *edu, uint64_t src, uint64_t dst, uint64_t count,
                  uint64_t command);

#endif /* TESTS_GUEST_EDU_DEVICE_H */
