/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * QEMU's edu device, for programs and modules in guests: its registers in BAR
 * 0, and its buffer as its DMA engine names it
 */

#ifndef TESTS_GUEST_EDU_REGS_H
#define TESTS_GUEST_EDU_REGS_H

#define EDU_VENDOR      0x1234
#define EDU_DEVICE      0x11e8

#define EDU_RAISE       0x60
#define EDU_ACK         0x64
#define EDU_DMA_SRC     0x80
#define EDU_DMA_DST     0x88
#define EDU_DMA_COUNT   0x90
#define EDU_DMA_CMD     0x98
#define EDU_DMA_RUN     1u
#define EDU_DMA_TO_RAM  2u
#define EDU_BUFFER      0x40000u

#endif /* TESTS_GUEST_EDU_REGS_H */
