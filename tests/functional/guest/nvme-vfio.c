/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * nvme-vfio: a driver of an NVMe disk in a program, by VFIO
 *
 * Runs inside the guest, as root, with vfio-pci and vfio_iommu_type1 loaded.
 * Takes the first NVMe controller of QEMU from its driver, and uses it as SPDK
 * would: queues in its own memory, interrupts as eventfds, a bus address for
 * each page. One line for each check; the exit status is as that of edu-dma.
 *
 * 'nvme-vfio hold MIB' maps so much, and uses it until it is killed.
 *
 * Build: gcc -static -O2 -Wall -o nvme-vfio nvme-vfio.c vfio-device.c
 */

#include <inttypes.h>
#include <linux/vfio.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "nvme-regs.h"
#include "vfio-device.h"

#define BLOCK           512u
#define BLOCKS          (PAGE / BLOCK)
#define DEPTH           16u             /* entries of each queue */
#define MAX_PAGES       128u            /* of a command: the device's MDTS */
#define COMMAND_MS      60000

/* Bus addresses. A queue has two pages; each page of data is by itself. */
#define IOVA_QUEUES     UINT64_C(0x7f0012340000)
#define IOVA_LISTS      UINT64_C(0x10000000)
#define IOVA_DATA       UINT64_C(0x3c00000000)
#define IOVA_READONLY   UINT64_C(0x20000000)
#define IOVA_UNMAPPED   UINT64_C(0x5500000000)
#define DATA(page)      (IOVA_DATA + (uint64_t)(page) * 2 * PAGE)

const char program[] = "nvme-vfio";

typedef struct Queue {
    uint16_t nr;
    NvmeCommand *commands;
    NvmeCompletion *completions;
    uint64_t iova;              /* of commands; a page further, completions */
    unsigned tail, head;
    bool phase;
    int irq;
} Queue;

typedef struct Nvme {
    VfioDevice vfio;
    volatile uint8_t *bar;
    unsigned stride;
    uint64_t *lists;            /* a page for each command in flight */
    Queue admin, io;
} Nvme;

/* Registers */

static uint32_t read32(Nvme *n, unsigned reg)
{
    return *(volatile uint32_t *)(n->bar + reg);
}

static void write32(Nvme *n, unsigned reg, uint32_t value)
{
    *(volatile uint32_t *)(n->bar + reg) = value;
}

static void write64(Nvme *n, unsigned reg, uint64_t value)
{
    write32(n, reg, value);
    write32(n, reg + 4, value >> 32);
}

static void wait_status(Nvme *n, uint32_t mask, uint32_t value)
{
    uint64_t end = now_ms() + COMMAND_MS;

    while ((read32(n, NVME_CSTS) & mask) != value) {
        if (now_ms() > end) {
            die("its status is %#x", read32(n, NVME_CSTS));
        }
        usleep(1000);
    }
}

/* Queues */

static void queue_clear(Queue *q)
{
    memset(q->commands, 0, PAGE);
    memset(q->completions, 0, PAGE);
    q->tail = q->head = 0;
    q->phase = true;
    raised(q->irq, 0);
}

static void queue_new(Nvme *n, Queue *q, uint16_t nr, int irq)
{
    uint8_t *memory = new_pages(2);

    q->nr = nr;
    q->commands = (NvmeCommand *)memory;
    q->completions = (NvmeCompletion *)(memory + PAGE);
    q->iova = IOVA_QUEUES + nr * 4 * PAGE;
    q->irq = irq;
    vfio_map(&n->vfio, memory, q->iova, 2 * PAGE, false);
}

static void submit(Nvme *n, Queue *q, NvmeCommand command)
{
    command.id = q->tail;
    q->commands[q->tail] = command;
    q->tail = (q->tail + 1) % DEPTH;
    __sync_synchronize();
    write32(n, NVME_DOORBELLS + 2 * q->nr * n->stride, q->tail);
}

/* The status of the next command that ends */
static unsigned complete(Nvme *n, Queue *q)
{
    volatile NvmeCompletion *c = &q->completions[q->head];
    uint64_t end = now_ms() + COMMAND_MS;
    unsigned status;

    while ((c->status & 1) != q->phase) {
        /* The disk says so; without, nobody looks. */
        if (!raised(q->irq, COMMAND_MS) && now_ms() > end) {
            die("no interrupt says that a command has ended");
        }
    }
    __sync_synchronize();
    status = c->status >> 1 & 0x7ff;
    q->head = (q->head + 1) % DEPTH;
    q->phase ^= q->head == 0;
    write32(n, NVME_DOORBELLS + (2 * q->nr + 1) * n->stride, q->head);
    return status;
}

static unsigned run(Nvme *n, Queue *q, NvmeCommand command)
{
    submit(n, q, command);
    return complete(n, q);
}

static void admin(Nvme *n, NvmeCommand command)
{
    unsigned status = run(n, &n->admin, command);

    if (status) {
        die("admin command %u: status %#x", command.opcode, status);
    }
}

static void disable(Nvme *n)
{
    write32(n, NVME_CC, 0);
    wait_status(n, NVME_CSTS_READY, 0);
}

/* From a controller that is disabled to two pairs of queues */
static void start(Nvme *n)
{
    uint32_t last = DEPTH - 1;

    n->stride = 4u << (read32(n, NVME_CAP + 4) & 0xf);
    queue_clear(&n->admin);
    queue_clear(&n->io);
    write32(n, NVME_AQA, last << 16 | last);
    write64(n, NVME_ASQ, n->admin.iova);
    write64(n, NVME_ACQ, n->admin.iova + PAGE);
    write32(n, NVME_CC, NVME_CC_ENTRIES | NVME_CC_ENABLE);
    wait_status(n, NVME_CSTS_READY, NVME_CSTS_READY);

    admin(n, (NvmeCommand) {
        .opcode = NVME_ADMIN_CREATE_CQ, .prp1 = n->io.iova + PAGE,
        .dw10_15 = { last << 16 | n->io.nr, n->io.nr << 16 | 3 },
    });
    admin(n, (NvmeCommand) {
        .opcode = NVME_ADMIN_CREATE_SQ, .prp1 = n->io.iova,
        .dw10_15 = { last << 16 | n->io.nr, n->io.nr << 16 | 1 },
    });
}

static void open_nvme(Nvme *n)
{
    int irqs[2];

    vfio_open(&n->vfio, NVME_VENDOR, NVME_DEVICE);
    n->bar = vfio_map_bar(&n->vfio, VFIO_PCI_BAR0_REGION_INDEX);
    vfio_enable_irqs(&n->vfio, VFIO_PCI_MSIX_IRQ_INDEX, irqs, 2);
    queue_new(n, &n->admin, 0, irqs[0]);
    queue_new(n, &n->io, 1, irqs[1]);
    n->lists = new_pages(DEPTH);
    vfio_map(&n->vfio, n->lists, IOVA_LISTS, DEPTH * PAGE, false);
    disable(n);
    start(n);
}

/* Data */

static void fill(uint64_t *words, unsigned pages, uint64_t seed)
{
    for (unsigned i = 0; i < pages * PAGE / 8; i++) {
        words[i] = (seed << 32 | i) * UINT64_C(0x9e3779b97f4a7c15) + seed;
    }
}

static uint32_t crc32(const uint8_t *data, size_t len)
{
    uint32_t crc = ~0u;

    for (size_t i = 0; i < len; i++) {
        crc ^= data[i];
        for (unsigned bit = 0; bit < 8; bit++) {
            crc = crc >> 1 ^ (crc & 1 ? 0xedb88320 : 0);
        }
    }
    return ~crc;
}

static void map_data(Nvme *n, uint8_t *pages, unsigned nr)
{
    for (unsigned i = 0; i < nr; i++) {
        vfio_map(&n->vfio, pages + i * PAGE, DATA(i), PAGE, false);
    }
}

static void unmap_data(Nvme *n, unsigned nr)
{
    for (unsigned i = 0; i < nr; i++) {
        vfio_unmap(&n->vfio, DATA(i), PAGE);
    }
}

/* So many bytes, from @offset in page @page of the data on */
static NvmeCommand transfer(Nvme *n, unsigned opcode, unsigned page,
                            unsigned offset, unsigned bytes, uint64_t lba)
{
    unsigned entries = (offset + bytes + PAGE - 1) / PAGE;
    unsigned slot = n->io.tail;
    uint64_t *list = n->lists + slot * PAGE / 8;
    NvmeCommand command = {
        .opcode = opcode, .nsid = 1, .prp1 = DATA(page) + offset,
        .dw10_15 = { lba, lba >> 32, bytes / BLOCK - 1 },
    };

    if (entries == 2) {
        command.prp2 = DATA(page + 1);
    } else if (entries > 2) {
        command.prp2 = IOVA_LISTS + slot * PAGE;
        for (unsigned i = 1; i < entries; i++) {
            list[i - 1] = DATA(page + i);
        }
    }
    return command;
}

/* What is tried: all forms that an address can have in a command */
static const struct {
    unsigned page, offset, bytes;
} transfers[] = {
    { 0, 0, PAGE },
    { 1, 512, 512 },
    { 2, 2048, PAGE },
    { 4, 0, 2 * PAGE },
    { 6, 1536, 8 * PAGE },
    { 16, 0, 32 * PAGE },
    { 48, 3584, 512 + 17 * PAGE },
    { 128, 0, MAX_PAGES * PAGE },
};
#define NR_TRANSFERS (sizeof(transfers) / sizeof(transfers[0]))
#define DATA_PAGES 256u

/* All at once; which of them failed */
static unsigned transfer_all(Nvme *n, unsigned opcode)
{
    unsigned failures = 0;

    for (unsigned i = 0; i < NR_TRANSFERS; i++) {
        submit(n, &n->io, transfer(n, opcode, transfers[i].page,
                                   transfers[i].offset, transfers[i].bytes,
                                   transfers[i].page * BLOCKS));
    }
    for (unsigned i = 0; i < NR_TRANSFERS; i++) {
        failures += complete(n, &n->io) != NVME_SC_SUCCESS;
    }
    return failures;
}

/* Whether all that was written, and nothing else, is in @read. */
static bool same_data(const uint8_t *written, const uint8_t *read)
{
    uint8_t *want = new_pages(DATA_PAGES);

    memset(want, 0xee, DATA_PAGES * PAGE);
    for (unsigned i = 0; i < NR_TRANSFERS; i++) {
        size_t at = transfers[i].page * PAGE + transfers[i].offset;

        memcpy(want + at, written + at, transfers[i].bytes);
    }
    return !memcmp(want, read, DATA_PAGES * PAGE);
}

/* The checks */

static void check_identify(Nvme *n, const char *serial)
{
    uint8_t *page = new_pages(1);
    uint64_t blocks;
    char text[21] = "";

    map_data(n, page, 1);
    admin(n, (NvmeCommand) { .opcode = NVME_ADMIN_IDENTIFY, .prp1 = DATA(0),
                             .dw10_15 = { 1 } });
    memcpy(text, page + 4, 20);
    for (unsigned i = 20; i && text[i - 1] == ' '; i--) {
        text[i - 1] = 0;
    }
    admin(n, (NvmeCommand) { .opcode = NVME_ADMIN_IDENTIFY, .nsid = 1,
                             .prp1 = DATA(0) });
    memcpy(&blocks, page, 8);
    check(!strcmp(text, serial), "identify", "serial %s, %" PRIu64 " blocks",
          text, blocks);
    unmap_data(n, 1);
}

static void check_data(Nvme *n)
{
    uint8_t *written = new_pages(DATA_PAGES), *read = new_pages(DATA_PAGES);
    unsigned bad;

    /* Other data each time that this runs */
    fill((uint64_t *)written, DATA_PAGES, getpid());
    map_data(n, written, DATA_PAGES);
    bad = transfer_all(n, NVME_IO_WRITE);
    bad += run(n, &n->io, (NvmeCommand) { .opcode = NVME_IO_FLUSH, .nsid = 1 });
    check(bad == 0, "blocks are written", "%u commands failed", bad);
    unmap_data(n, DATA_PAGES);

    /* Into other pages, at the same bus addresses */
    memset(read, 0xee, DATA_PAGES * PAGE);
    map_data(n, read, DATA_PAGES);
    bad = transfer_all(n, NVME_IO_READ);
    check(bad == 0 && same_data(written, read), "blocks are read",
          "%u commands failed", bad);
    unmap_data(n, DATA_PAGES);
    /* What the host can see in the disk's file */
    for (unsigned i = 0; i < NR_TRANSFERS; i++) {
        const uint8_t *data = written + transfers[i].page * PAGE +
                              transfers[i].offset;

        printf("%s: block %u has %u bytes with CRC %08x\n", program,
               transfers[i].page * BLOCKS, transfers[i].bytes,
               crc32(data, transfers[i].bytes));
    }
}

/* The device works, whatever was before. */
static void check_goes_on(Nvme *n, const char *after)
{
    uint8_t *page = new_pages(2);
    unsigned status;

    fill((uint64_t *)page, 1, 2);
    map_data(n, page, 2);
    status = run(n, &n->io, transfer(n, NVME_IO_WRITE, 0, 0, PAGE, 8000));
    if (!status) {
        status = run(n, &n->io, transfer(n, NVME_IO_READ, 1, 0, PAGE, 8000));
    }
    check(!status && !memcmp(page, page + PAGE, PAGE), after, "status %#x",
          status);
    unmap_data(n, 2);
}

/* A list of addresses that is not in reach: the command fails. */
static void check_unmapped_list(Nvme *n)
{
    uint8_t *pages = new_pages(4);
    NvmeCommand command;
    unsigned status;

    memset(pages, 0xee, 4 * PAGE);
    map_data(n, pages, 4);
    command = transfer(n, NVME_IO_READ, 0, 0, 4 * PAGE, 0);
    command.prp2 = IOVA_UNMAPPED;
    status = run(n, &n->io, command);
    check(status == NVME_SC_DATA_TRANSFER, "a list that is not mapped",
          "status %#x", status);
    unmap_data(n, 4);
    check_goes_on(n, "a command after it");
}

/*
 * A page that is not: no data moves. QEMU's disk has a buffer instead, whatever
 * the IOMMU, so the command need not fail.
 */
static void check_unmapped_page(Nvme *n)
{
    uint8_t *pages = new_pages(3);
    unsigned unmapped, readonly;

    memset(pages, 0xee, 3 * PAGE);
    map_data(n, pages, 3);
    unmap_data(n, 3);
    unmapped = run(n, &n->io, transfer(n, NVME_IO_READ, 1, 0, PAGE, 0));
    vfio_map(&n->vfio, pages, IOVA_READONLY, PAGE, true);
    readonly = run(n, &n->io, (NvmeCommand) {
        .opcode = NVME_IO_READ, .nsid = 1, .prp1 = IOVA_READONLY,
        .dw10_15 = { 0, 0, BLOCKS - 1 },
    });
    check(pages[0] == 0xee && !memcmp(pages, pages + 1, 3 * PAGE - 1),
          "pages that are unmapped and read-only", "status %#x and %#x",
          unmapped, readonly);
    vfio_unmap(&n->vfio, IOVA_READONLY, PAGE);
}

/* Commands that are not in reach: the controller fails as a whole. */
static void check_unmapped_queue(Nvme *n)
{
    vfio_unmap(&n->vfio, n->io.iova, 2 * PAGE);
    submit(n, &n->io, (NvmeCommand) { .opcode = NVME_IO_FLUSH, .nsid = 1 });
    wait_status(n, NVME_CSTS_FATAL, NVME_CSTS_FATAL);
    check(true, "a queue that is not mapped", "status %#x",
          read32(n, NVME_CSTS));
    vfio_map(&n->vfio, n->io.commands, n->io.iova, 2 * PAGE, false);
    disable(n);
    start(n);
    check_goes_on(n, "the controller after its reset");
}

static void check_function_reset(Nvme *n)
{
    vfio_reset(&n->vfio);
    check(!(read32(n, NVME_CC) & NVME_CC_ENABLE), "the function's reset",
          "configuration %#x", read32(n, NVME_CC));
    start(n);
    check_goes_on(n, "the controller after the function's reset");
}

/* A command of the largest size, somewhere in the @nr pages that are mapped */
static void submit_somewhere(Nvme *n, unsigned nr)
{
    static unsigned page;
    unsigned slot = n->io.tail;
    NvmeCommand command = {
        .opcode = slot % 2 ? NVME_IO_READ : NVME_IO_WRITE, .nsid = 1,
        .prp1 = IOVA_DATA + (uint64_t)page * PAGE,
        .prp2 = IOVA_LISTS + slot * PAGE,
        .dw10_15 = { 16384 + slot * MAX_PAGES * BLOCKS, 0,
                     MAX_PAGES * BLOCKS - 1 },
    };

    for (unsigned i = 1; i < MAX_PAGES; i++) {
        n->lists[slot * PAGE / 8 + i - 1] = command.prp1 + i * PAGE;
    }
    page = (page + MAX_PAGES) % (nr - MAX_PAGES + 1);
    submit(n, &n->io, command);
}

static void __attribute__((noreturn)) hold(Nvme *n, unsigned mib)
{
    unsigned nr = mib * (1024 * 1024 / PAGE);

    if (nr < MAX_PAGES) {
        die("%u MiB are not enough", mib);
    }
    vfio_map(&n->vfio, new_pages(nr), IOVA_DATA, (size_t)nr * PAGE, false);
    for (unsigned round = 0; ; round++) {
        for (unsigned i = 1; i < DEPTH; i++) {
            submit_somewhere(n, nr);
        }
        for (unsigned i = 1; i < DEPTH; i++) {
            unsigned status = complete(n, &n->io);

            if (status) {
                die("status %#x in round %u", status, round);
            }
        }
        if (round == 1) {
            printf("%s: %u MiB are in use\n", program, mib);
            fflush(stdout);
        }
    }
}

int main(int argc, char *argv[])
{
    Nvme n = { .stride = 4 };

    if (argc < 2) {
        die("usage: %s SERIAL, or hold MIB", program);
    }
    open_nvme(&n);
    if (argc > 2) {
        hold(&n, strtoul(argv[2], NULL, 0));
    }
    check_identify(&n, argv[1]);
    check_data(&n);
    check_unmapped_list(&n);
    check_unmapped_page(&n);
    check_unmapped_queue(&n);
    check_function_reset(&n);
    printf("%s: %s: %s\n", program, n.vfio.name, failed ? "FAILED" : "all ok");
    return failed;
}
