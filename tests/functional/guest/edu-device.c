/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * QEMU's edu device that a program drives through VFIO
 */

#include <linux/vfio.h>
#include <unistd.h>

#include "edu-device.h"

#define DMA_TIMEOUT_MS  20000

void edu_open(Edu *edu)
{
    vfio_open(&edu->vfio, EDU_VENDOR, EDU_DEVICE);
    edu->bar = vfio_map_bar(&edu->vfio, VFIO_PCI_BAR0_REGION_INDEX);
    if ((*(volatile uint32_t *)(edu->bar + EDU_ID) & EDU_ID_MASK) !=
        EDU_ID_VALUE) {
        die("%s does not say it is an edu", edu->vfio.name);
    }
}

static void edu_write(Edu *edu, unsigned reg, uint64_t value)
{
    *(volatile uint64_t *)(edu->bar + reg) = value;
}

void edu_dma_part(Edu *edu, uint64_t src, uint64_t dst, uint64_t count,
                  uint64_t command)
{
    uint64_t end = now_ms() + DMA_TIMEOUT_MS;

    edu_write(edu, EDU_DMA_SRC, src);
    edu_write(edu, EDU_DMA_DST, dst);
    edu_write(edu, EDU_DMA_COUNT, count);
    edu_write(edu, EDU_DMA_CMD, command | EDU_DMA_RUN);
    while (*(volatile uint64_t *)(edu->bar + EDU_DMA_CMD) & EDU_DMA_RUN) {
        if (now_ms() > end) {
            die("the device does not finish its DMA");
        }
        usleep(5000);
    }
    __sync_synchronize();
}
