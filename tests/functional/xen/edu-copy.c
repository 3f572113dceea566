/*
 * edu-copy FROM TO BYTES: by DMA of the machine's edu device, in dom0
 *
 * FROM and TO are bus frame numbers, in decimal. Whether the device could reach
 * them is for others to see: it says nothing of it itself.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include <fcntl.h>
#include <glob.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define PAGE            4096
#define EDU_ID          0x11e81234u     /* of its configuration space */
#define COMMAND         0x04
#define MEMORY_AND_DMA  0x06
#define EDU_DMA_SRC     0x80
#define EDU_DMA_DST     0x88
#define EDU_DMA_COUNT   0x90
#define EDU_DMA_CMD     0x98
#define EDU_DMA_RUN     1u
#define EDU_DMA_TO_RAM  2u
#define EDU_BUFFER      0x40000u
#define BAR_SIZE        0x100000u

static void die(const char *what)
{
    perror(what);
    exit(EXIT_FAILURE);
}

/* The directory of the device, which may do DMA from now on. */
static const char *find_edu(void)
{
    const uint16_t command = MEMORY_AND_DMA;
    glob_t found = { 0 };
    char path[128];

    glob("/sys/bus/pci/devices/????:*", 0, NULL, &found);
    for (size_t i = 0; i < found.gl_pathc; i++) {
        uint32_t id = 0;
        int fd;

        snprintf(path, sizeof(path), "%s/config", found.gl_pathv[i]);
        fd = open(path, O_RDWR);
        if (fd >= 0 && pread(fd, &id, sizeof(id), 0) == sizeof(id) &&
            id == EDU_ID) {
            if (pwrite(fd, &command, sizeof(command), COMMAND) !=
                sizeof(command)) {
                die("edu-copy: its command register");
            }
            close(fd);
            return found.gl_pathv[i];
        }
        close(fd);
    }
    fprintf(stderr, "edu-copy: there is no edu device\n");
    exit(EXIT_FAILURE);
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
    char path[160];
    int fd;

    if (argc != 4 || sscanf(argv[1], "%" SCNu64, &from) != 1 ||
        sscanf(argv[2], "%" SCNu64, &to) != 1 ||
        sscanf(argv[3], "%" SCNu64, &bytes) != 1 || bytes > PAGE) {
        fprintf(stderr, "usage: edu-copy FROM TO BYTES\n");
        return EXIT_FAILURE;
    }
    snprintf(path, sizeof(path), "%s/resource0", find_edu());
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
