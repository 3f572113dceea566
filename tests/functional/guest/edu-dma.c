/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * edu-dma: DMA of QEMU's edu device through VFIO, to addresses that are mapped
 * and to addresses that are not
 *
 * Runs inside the guest, as root, with vfio-pci and vfio_iommu_type1 loaded.
 * Takes the first edu device (1234:11e8) from its driver, binds it to
 * vfio-pci, and has it move data. One line for each check; the exit status is
 * 0 if all passed, 1 if one failed, 2 if it did not get that far.
 *
 * 'edu-dma FILE' makes all checks once more when FILE is there, with the pages
 * that it had mapped before: something may have happened to the machine.
 * 'edu-dma physical [FILE]' leaves out what a device of the host cannot reach.
 *
 * Build: gcc -static -O2 -Wall -o edu-dma edu-dma.c edu-device.c \
 *            vfio-device.c
 */

#include <inttypes.h>
#include <linux/vfio.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "edu-device.h"

/* Where interrupts are written to */
#define WINDOW          UINT64_C(0xfee00000)
#define HANDLES         32      /* more than there are in use */

/* Bus addresses, of 28 bits: edu may have no more address lines. */
#define IOVA_SOURCE     UINT64_C(0x01000000)
#define IOVA_TARGET     UINT64_C(0x01400000)
#define IOVA_READONLY   UINT64_C(0x01800000)
#define IOVA_EDGE       UINT64_C(0x01c00000)
#define IOVA_BAR        UINT64_C(0x02000000)
#define IOVA_UNMAPPED   UINT64_C(0x03000000)
#define IOVA_TAKEN_AWAY UINT64_C(0x03400000)

const char program[] = "edu-dma";

static void map_page(Edu *edu, void *page, uint64_t iova, bool readonly)
{
    vfio_map(&edu->vfio, page, iova, PAGE, readonly);
}

static void unmap_page(Edu *edu, uint64_t iova)
{
    vfio_unmap(&edu->vfio, iova, PAGE);
}

/* The device */

static void edu_dma(Edu *edu, uint64_t src, uint64_t dst, uint64_t command)
{
    edu_dma_part(edu, src, dst, PAGE, command);
}

/* The device reads a page at @iova into its buffer. */
static void edu_read_page(Edu *edu, uint64_t iova)
{
    edu_dma(edu, iova, EDU_BUFFER, 0);
}

/* The device writes a page at @iova from its buffer. */
static void edu_write_page(Edu *edu, uint64_t iova)
{
    edu_dma(edu, EDU_BUFFER, iova, EDU_DMA_TO_RAM);
}

/*
 * How much of what is not allowed it tries. A host may turn off bus mastering
 * of a device of its own that has many faults, and each 8 bytes can be one.
 */
static unsigned refused_size = PAGE;

static void edu_read_refused(Edu *edu, uint64_t iova)
{
    edu_dma_part(edu, iova, EDU_BUFFER, refused_size, 0);
}

static void edu_write_refused(Edu *edu, uint64_t iova)
{
    edu_dma_part(edu, EDU_BUFFER, iova, refused_size, EDU_DMA_TO_RAM);
}

/* The checks */

/* Words that differ from each other, and between seeds. */
static uint64_t word(uint64_t seed, unsigned i)
{
    return (seed << 32 | i) * UINT64_C(0x9e3779b97f4a7c15) + seed;
}

static void fill(uint64_t *page, uint64_t seed)
{
    unsigned i;

    for (i = 0; i < PAGE / 8; i++) {
        page[i] = word(seed, i);
    }
}

/* How many words of @page are what fill() put there with @seed. */
static unsigned words_of(const uint64_t *page, uint64_t seed)
{
    unsigned i, n = 0;

    for (i = 0; i < PAGE / 8; i++) {
        n += page[i] == word(seed, i);
    }
    return n;
}

static bool is_filled(const uint64_t *page, uint64_t seed)
{
    return words_of(page, seed) == PAGE / 8;
}

/*
 * @source and @target stay mapped for all checks: what the device holds gets
 * in and out through them.
 */
static void check_mapped(Edu *edu, uint64_t *source, uint64_t *target)
{
    fill(source, 1);
    memset(target, 0, PAGE);
    edu_read_page(edu, IOVA_SOURCE);
    edu_write_page(edu, IOVA_TARGET);
    check(is_filled(target, 1), "mapped page",
          "%u bytes round trip at IOVA %#" PRIx64 " and %#" PRIx64,
          PAGE, IOVA_SOURCE, IOVA_TARGET);
}

static void check_read_unmapped(Edu *edu, uint64_t *source, uint64_t *target)
{
    uint64_t *secret = new_pages(1);
    unsigned leaked;

    /* Never mapped: there is nothing that could be read. */
    fill(source, 2);
    edu_read_page(edu, IOVA_SOURCE);
    fill(target, 3);
    edu_read_refused(edu, IOVA_UNMAPPED);
    edu_write_page(edu, IOVA_TARGET);
    leaked = PAGE / 8 - words_of(target, 2);
    /* The device keeps what it had, or gets zeros or ones: no data. */
    if (leaked) {
        unsigned i;

        for (i = 0, leaked = 0; i < PAGE / 8; i++) {
            leaked += target[i] != 0 && ~target[i] != 0 &&
                      target[i] != word(2, i);
        }
    }
    check(!leaked, "read of an unmapped page",
          "%u of %u bytes moved at IOVA %#" PRIx64, leaked * 8, PAGE,
          IOVA_UNMAPPED);

    /* Mapped, used, and unmapped again. */
    fill(secret, 4);
    map_page(edu, secret, IOVA_TAKEN_AWAY, false);
    edu_read_page(edu, IOVA_TAKEN_AWAY);
    unmap_page(edu, IOVA_TAKEN_AWAY);
    fill(secret, 5);
    edu_read_refused(edu, IOVA_TAKEN_AWAY);
    edu_write_page(edu, IOVA_TARGET);
    leaked = words_of(target, 5);
    check(!leaked, "read of a page that was unmapped",
          "%u of %u bytes moved at IOVA %#" PRIx64, leaked * 8, PAGE,
          IOVA_TAKEN_AWAY);
    munmap(secret, PAGE);
}

static void check_write_unmapped(Edu *edu, uint64_t *source)
{
    uint64_t *page = new_pages(1);

    fill(source, 6);
    edu_read_page(edu, IOVA_SOURCE);
    fill(page, 7);
    map_page(edu, page, IOVA_TAKEN_AWAY, false);
    edu_write_page(edu, IOVA_TAKEN_AWAY);
    if (!is_filled(page, 6)) {
        check(false, "write to a page before it is unmapped",
              "at IOVA %#" PRIx64, IOVA_TAKEN_AWAY);
    }
    unmap_page(edu, IOVA_TAKEN_AWAY);
    fill(page, 7);
    edu_write_refused(edu, IOVA_TAKEN_AWAY);
    check(is_filled(page, 7), "write to a page that was unmapped",
          "%u of %u bytes changed at IOVA %#" PRIx64,
          PAGE - 8 * words_of(page, 7), PAGE, IOVA_TAKEN_AWAY);
    munmap(page, PAGE);
}

static void check_readonly(Edu *edu, uint64_t *target)
{
    uint64_t *page = new_pages(1);

    fill(page, 8);
    map_page(edu, page, IOVA_READONLY, true);
    edu_read_page(edu, IOVA_READONLY);
    memset(target, 0, PAGE);
    edu_write_page(edu, IOVA_TARGET);
    check(is_filled(target, 8), "read of a read-only page",
          "%u bytes at IOVA %#" PRIx64, PAGE, IOVA_READONLY);

    fill(page, 9);
    edu_write_refused(edu, IOVA_READONLY);
    check(is_filled(page, 9), "write to a read-only page",
          "%u of %u bytes changed at IOVA %#" PRIx64,
          PAGE - 8 * words_of(page, 9), PAGE, IOVA_READONLY);
    unmap_page(edu, IOVA_READONLY);
    munmap(page, PAGE);
}

/* A transfer that begins in a mapped page and ends behind it. */
static void check_edge(Edu *edu, uint64_t *source)
{
    uint64_t *pages = new_pages(2), *behind = pages + PAGE / 8;

    fill(source, 10);
    edu_read_page(edu, IOVA_SOURCE);
    fill(pages, 11);
    fill(behind, 12);
    map_page(edu, pages, IOVA_EDGE, false);
    edu_write_refused(edu, IOVA_EDGE + PAGE - refused_size / 2);
    check(is_filled(behind, 12), "write across the end of a mapped page",
          "%u of %u bytes changed behind it, at IOVA %#" PRIx64,
          PAGE - 8 * words_of(behind, 12), PAGE, IOVA_EDGE + PAGE);
    unmap_page(edu, IOVA_EDGE);
    munmap(pages, 2 * PAGE);
}

/* The registers of a device, which VFIO maps for all devices of a container */
static void check_bar(Edu *edu, uint64_t *target)
{
    uint32_t id = *(volatile uint32_t *)(edu->bar + EDU_ID);

    map_page(edu, (void *)edu->bar, IOVA_BAR, false);
    memset(target, 0, PAGE);
    edu_dma_part(edu, IOVA_BAR + EDU_ID, EDU_BUFFER, sizeof(id), 0);
    edu_dma_part(edu, EDU_BUFFER, IOVA_TARGET, sizeof(id), EDU_DMA_TO_RAM);
    check((uint32_t)target[0] == id, "read of the registers of a device",
          "%#x at IOVA %#" PRIx64, (uint32_t)target[0], IOVA_BAR);
    unmap_page(edu, IOVA_BAR);
}

/* Interrupts: the device's own one, and those that it tries to raise */

/* Interrupts of all CPUs in the line of /proc/interrupts with this name */
static uint64_t interrupts(const char *name)
{
    FILE *f = fopen("/proc/interrupts", "r");
    char line[1024];
    uint64_t sum = 0;

    while (f && fgets(line, sizeof(line), f)) {
        char *at = line + strspn(line, " "), *end;

        if (strncmp(at, name, strlen(name)) || at[strlen(name)] != ':') {
            continue;
        }
        for (at += strlen(name) + 1; ; at = end) {
            unsigned long long n = strtoull(at, &end, 10);

            if (end == at) {
                break;
            }
            sum += n;
        }
    }
    if (f) {
        fclose(f);
    }
    return sum;
}

/* The device writes @data to @addr. */
static void edu_write32(Edu *edu, uint32_t *source, uint64_t addr,
                        uint32_t data)
{
    source[0] = data;
    edu_dma_part(edu, IOVA_SOURCE, EDU_BUFFER, sizeof(data), 0);
    edu_dma_part(edu, EDU_BUFFER, addr, sizeof(data), EDU_DMA_TO_RAM);
}

/*
 * Of what every CPU counts by itself, and nothing raises here: a thermal event,
 * another one, and an NMI
 */
static const struct {
    const char *name;
    uint32_t data;
} strange[] = {
    { "TRM", 0xfa },
    { "THR", 0xf9 },
    { "NMI", 0x400 },
};

static void check_interrupts(Edu *edu, uint64_t *source)
{
    uint64_t before[3], n;
    unsigned i, cpu;
    int fd;

    vfio_enable_irqs(&edu->vfio, VFIO_PCI_MSI_IRQ_INDEX, &fd, 1);
    *(volatile uint32_t *)(edu->bar + EDU_RAISE) = 1;
    n = raised(fd, 10000);
    *(volatile uint32_t *)(edu->bar + EDU_ACK) = 1;
    check(n == 1, "its interrupt arrives", "%" PRIu64 " of 1", n);
    if (!remaps_interrupts()) {
        return;
    }

    for (i = 0; i < 3; i++) {
        before[i] = interrupts(strange[i].name);
    }
    for (i = 0; i < 3; i++) {
        for (cpu = 0; cpu < 2; cpu++) {
            edu_write32(edu, (uint32_t *)source, WINDOW | cpu << 12,
                        strange[i].data);
        }
    }
    /* A page of messages at once, which are none as they are not 4 bytes. */
    for (i = 0; i < PAGE / 4; i++) {
        ((uint32_t *)source)[i] = 0x40;
    }
    edu_read_page(edu, IOVA_SOURCE);
    edu_write_page(edu, WINDOW);
    usleep(100000);
    for (i = 0, n = 0; i < 3; i++) {
        n += interrupts(strange[i].name) - before[i];
    }
    check(n == 0, "interrupts that are not its own", "%" PRIu64
          " of 6 arrived", n);
    check(raised(fd, 0) == 0, "its interrupt by other messages",
          "a page of %u bytes", PAGE);

    /* Every handle that there may be: one of them is its own. */
    for (i = 0, n = 0; i < HANDLES; i++) {
        edu_write32(edu, (uint32_t *)source, WINDOW + 4 * i, 0x40);
        n += raised(fd, 0);
    }
    n += raised(fd, 1000);
    check(n == 1, "the handle that is its own", "%" PRIu64 " of %u raised it",
          n, HANDLES);
}

static void check_all(Edu *edu, uint64_t *source, uint64_t *target,
                      bool physical)
{
    check_mapped(edu, source, target);
    check_read_unmapped(edu, source, target);
    check_write_unmapped(edu, source);
    check_readonly(edu, target);
    check_edge(edu, source);
    if (!physical) {
        check_bar(edu, target);
    }

    /* All that went wrong on the way must not have moved the rest. */
    check_mapped(edu, source, target);
}

int main(int argc, char *argv[])
{
    bool physical = argc > 1 && !strcmp(argv[1], "physical");
    Edu edu;
    uint64_t *source, *target;

    if (physical) {
        refused_size = 8;
        argc--;
        argv++;
    }
    edu_open(&edu);

    source = new_pages(1);
    target = new_pages(1);
    map_page(&edu, source, IOVA_SOURCE, false);
    map_page(&edu, target, IOVA_TARGET, false);

    check_all(&edu, source, target, physical);
    check_interrupts(&edu, source);
    if (argc > 1) {
        while (access(argv[1], F_OK)) {
            usleep(100000);
        }
        check_all(&edu, source, target, physical);
    }

    unmap_page(&edu, IOVA_SOURCE);
    unmap_page(&edu, IOVA_TARGET);
    printf("edu-dma: %s: %s\n", edu.vfio.name, failed ? "FAILED" : "all ok");
    return failed;
}
