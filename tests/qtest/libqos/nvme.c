/*
 * libqos driver for an NVMe controller behind a xen-pviommu
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/bswap.h"
#include "libqos/nvme.h"

#define CAP             0x00
#define CC              0x14
#define CSTS            0x1c
#define AQA             0x24
#define ASQ             0x28
#define ACQ             0x30
#define DOORBELLS       0x1000

#define CC_ENABLE       1
/* Entries of 64 and 16 bytes */
#define CC_ENTRIES      (6 << 16 | 4 << 20)
#define CSTS_READY      1

#define CREATE_SQ       0x01
#define CREATE_CQ       0x05
#define IDENTIFY        0x06
#define WRITE_BLOCKS    0x01
#define READ_BLOCKS     0x02

#define ENTRIES         8

typedef struct Command {
    uint8_t opcode;
    uint32_t nsid;
    uint64_t prp1;
    uint32_t dw10, dw11, dw12;
} Command;

void nvme_init(QNvme *n, QXenPVIOMMU *iommu, int devfn)
{
    QPCIAddress addr = {
        .devfn = devfn, .vendor_id = 0x1b36, .device_id = 0x0010,
    };

    *n = (QNvme) {
        .iommu = iommu,
        .admin = { .nr = 0, .page = 0 },
        .io = { .nr = 1, .page = 2 },
    };
    qpci_device_init(&n->dev, iommu->pci, &addr);
    n->bar = qpci_iomap(&n->dev, 0, NULL);
    qpci_device_enable(&n->dev);
}

void nvme_map_queues(QNvme *n, uint16_t ctx)
{
    assert_status(pviommu_map(n->iommu, ctx, NVME_BFN, NVME_GFN, NVME_FRAMES,
                              0), 0);
}

static uint64_t bus_addr(unsigned page)
{
    return (NVME_BFN + page) * PVIOMMU_PAGE;
}

static uint64_t ram_addr(unsigned page)
{
    return (NVME_GFN + page) * PVIOMMU_PAGE;
}

static void set_reg(QNvme *n, unsigned reg, uint32_t value)
{
    qpci_io_writel(&n->dev, n->bar, reg, value);
}

static void set_address(QNvme *n, unsigned reg, uint64_t addr)
{
    set_reg(n, reg, addr);
    set_reg(n, reg + 4, addr >> 32);
}

static void wait_ready(QNvme *n, uint32_t ready)
{
    unsigned us = 0;

    while ((qpci_io_readl(&n->dev, n->bar, CSTS) & CSTS_READY) != ready) {
        g_assert_cmpuint(us, <, PVIOMMU_WAIT_US);
        g_usleep(1000);
        us += 1000;
    }
}

bool nvme_enabled(QNvme *n)
{
    return qpci_io_readl(&n->dev, n->bar, CC) & CC_ENABLE;
}

static void submit(QNvme *n, QNvmeQueue *q, const Command *c)
{
    uint8_t entry[64] = { c->opcode };

    stw_le_p(entry + 2, q->tail);
    stl_le_p(entry + 4, c->nsid);
    stq_le_p(entry + 24, c->prp1);
    stl_le_p(entry + 40, c->dw10);
    stl_le_p(entry + 44, c->dw11);
    stl_le_p(entry + 48, c->dw12);
    qtest_memwrite(n->iommu->qts, ram_addr(q->page) + q->tail * sizeof(entry),
                   entry, sizeof(entry));
    q->tail = (q->tail + 1) % ENTRIES;
    set_reg(n, DOORBELLS + 2 * q->nr * n->stride, q->tail);
}

/* Run one command. Returns: its status. */
static unsigned run(QNvme *n, QNvmeQueue *q, const Command *c)
{
    uint64_t addr = ram_addr(q->page + 1) + q->head * 16;
    unsigned us = 0;
    uint16_t status;

    submit(n, q, c);
    while (status = qtest_readw(n->iommu->qts, addr + 14),
           (status & 1) != q->phase) {
        g_assert_cmpuint(us, <, PVIOMMU_WAIT_US);
        g_usleep(1000);
        us += 1000;
    }
    q->head = (q->head + 1) % ENTRIES;
    q->phase ^= q->head == 0;
    set_reg(n, DOORBELLS + (2 * q->nr + 1) * n->stride, q->head);
    return status >> 1 & 0x7ff;
}

static void start_queue(QNvme *n, QNvmeQueue *q)
{
    qtest_memset(n->iommu->qts, ram_addr(q->page), 0, 2 * PVIOMMU_PAGE);
    q->tail = q->head = 0;
    q->phase = true;
}

void nvme_start(QNvme *n)
{
    const uint32_t last = ENTRIES - 1;
    Command create = {
        .opcode = CREATE_CQ, .prp1 = bus_addr(n->io.page + 1),
        .dw10 = last << 16 | n->io.nr, .dw11 = 1,
    };

    set_reg(n, CC, 0);
    wait_ready(n, 0);
    n->stride = 4 << (qpci_io_readl(&n->dev, n->bar, CAP + 4) & 0xf);
    start_queue(n, &n->admin);
    start_queue(n, &n->io);
    set_reg(n, AQA, last << 16 | last);
    set_address(n, ASQ, bus_addr(n->admin.page));
    set_address(n, ACQ, bus_addr(n->admin.page + 1));
    set_reg(n, CC, CC_ENTRIES | CC_ENABLE);
    wait_ready(n, CSTS_READY);

    g_assert_cmphex(run(n, &n->admin, &create), ==, NVME_STATUS_SUCCESS);
    create.opcode = CREATE_SQ;
    create.prp1 = bus_addr(n->io.page);
    create.dw11 = n->io.nr << 16 | 1;
    g_assert_cmphex(run(n, &n->admin, &create), ==, NVME_STATUS_SUCCESS);
}

unsigned nvme_identify(QNvme *n, uint64_t addr)
{
    return run(n, &n->admin, &(Command) {
        .opcode = IDENTIFY, .prp1 = addr, .dw10 = 1,
    });
}

unsigned nvme_transfer(QNvme *n, bool write, uint64_t lba, uint64_t addr)
{
    return run(n, &n->io, &(Command) {
        .opcode = write ? WRITE_BLOCKS : READ_BLOCKS, .nsid = 1, .prp1 = addr,
        .dw10 = lba, .dw11 = lba >> 32, .dw12 = PVIOMMU_PAGE / NVME_BLOCK - 1,
    });
}
