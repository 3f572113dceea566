/*
 * Firmware that a test brings along, for processors that run
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef TESTS_LIBQOS_FIRMWARE_H
#define TESTS_LIBQOS_FIRMWARE_H

/* 64 KiB that end at 4 GiB and at 1 MiB, and so begin at f000:0000. */
#define FIRMWARE_SIZE   0x10000
#define FIRMWARE_SEG    0xf000

/* In the local APIC's command register: a start at f000:0000 */
#define FIRMWARE_SIPI   (FIRMWARE_SEG >> 8)

/** firmware_write: @image as a file, for -bios; returns its name */
char *firmware_write(const uint8_t *image);

/** firmware_set_reset: have the processor that boots start at f000:0000 */
void firmware_set_reset(uint8_t *image);

#endif
