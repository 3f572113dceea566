/*
 * edu-copy SBDF FROM TO BYTES: by DMA of the edu device there, in dom0 or in a
 * guest
 *
 * FROM and TO are the frame numbers that it puts on its bus, in decimal.
 * Whether it could reach them is for others to see: it says nothing of it
 * itself.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "../guest/edu-regs.h"

#define DEVICES         "/sys/bus/pci/devices/"
#define PAGE            4096
/* Of its configuration space */
#define EDU_ID          (EDU_DEVICE << 16 | EDU_VENDOR)
#define COMMAND         0x04
#define MEMORY_AND_DMA  0x06
#define BAR_SIZE        0x100000u

static void die(const char *what)
{
    perror(what);
    exit(EXIT_FAILURE);
}

/* The device is edu, and may do DMA from now on. */
static void enable(const char *sbdf)
{
    const uint16_t command = MEMORY_AND_DMA;
    char path[PATH_MAX];
    uint32_t id = 0;
    int fd;

    snprintf(path, sizeof(path), DEVICES "%s/config", sbdf);
    fd = open(path, O_RDWR);
    if (fd < 0 || pread(fd, &id, sizeof(id), 0) != sizeof(id)) {
        die("edu-copy: its configuration space");
    }
    if (id != EDU_ID) {
        fprintf(stderr, "edu-copy: %s is no edu device\n", sbdf);
        exit(EXIT_FAILURE);
    }
    if (pwrite(fd, &command, sizeof(command), COMMAND) != sizeof(command)) {
        die("edu-copy: its command register");
    }
    close(fd);
}

static void reg_write(uint8_t *bar, unsigned reg, uint64_t value)
{
    /* volatile: a device's register, each access does something */
    *(volatile uint64_t *)(bar + reg) = value;
}

static uint64_t reg_read(const uint8_t *bar, unsigned reg)
{
    /* volatile: as above */
    return *(const volatile uint64_t *)(bar + reg);
}

static void dma(uint8_t *bar, uint64_t from, uint64_t to, uint64_t bytes,
                uint64_t cmd)
{
    reg_write(bar, EDU_DMA_SRC, from);
    reg_write(bar, EDU_DMA_DST, to);
    reg_write(bar, EDU_DMA_COUNT, bytes);
    reg_write(bar, EDU_DMA_CMD, cmd | EDU_DMA_RUN);
    for (int i = 0; i < 3000; i++) {
        if (!(reg_read(bar, EDU_DMA_CMD) & EDU_DMA_RUN)) {
            return;
        }
        usleep(10000);
    }
    fprintf(stderr, "edu-copy: the device does not finish\n");
    exit(EXIT_FAILURE);
}

int main(int argc, char **argv)
{
    uint8_t *bar;
    uint64_t from, to, bytes;
    char path[PATH_MAX];
    int fd;

    if (argc != 5 || sscanf(argv[2], "%" SCNu64, &from) != 1 ||
        sscanf(argv[3], "%" SCNu64, &to) != 1 ||
        sscanf(argv[4], "%" SCNu64, &bytes) != 1 || bytes > PAGE) {
        fprintf(stderr, "usage: edu-copy SBDF FROM TO BYTES\n");
        return EXIT_FAILURE;
    }
    enable(argv[1]);
    snprintf(path, sizeof(path), DEVICES "%s/resource0", argv[1]);
    fd = open(path, O_RDWR);
    bar = fd < 0 ? MAP_FAILED :
          mmap(NULL, BAR_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (bar == MAP_FAILED) {
        die("edu-copy: its registers");
    }
    dma(bar, from * PAGE, EDU_BUFFER, bytes, 0);
    dma(bar, EDU_BUFFER, to * PAGE, bytes, EDU_DMA_TO_RAM);
    return EXIT_SUCCESS;
}
