/*
 * Firmware that a test brings along, for processors that run
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "libqos/firmware.h"

/* From the end of the firmware */
#define RESET_VECTOR    16

char *firmware_write(const uint8_t *image)
{
    char *path;
    int fd = g_file_open_tmp("pviommu-bios-XXXXXX", &path, NULL);

    g_assert_cmpint(fd, >=, 0);
    g_assert_cmpint(write(fd, image, FIRMWARE_SIZE), ==, FIRMWARE_SIZE);
    close(fd);
    return path;
}

void firmware_set_reset(uint8_t *image)
{
    static const uint8_t jmp[] = { 0xea, 0, 0, 0, FIRMWARE_SEG >> 8 };

    memcpy(image + FIRMWARE_SIZE - RESET_VECTOR, jmp, sizeof(jmp));
}
