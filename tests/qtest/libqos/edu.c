/*
 * libqos driver for edu, the educational device, as one that does DMA
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "libqos/edu.h"

#define EDU_VENDOR_ID   0x1234
#define EDU_DEVICE_ID   0x11e8

#define EDU_DMA_SRC     0x80
#define EDU_DMA_DST     0x88
#define EDU_DMA_CNT     0x90
#define EDU_DMA_CMD     0x98
#define  EDU_DMA_RUN            1
#define  EDU_DMA_TO_MEMORY      2
#define EDU_DMA_TIME_NS (100 * 1000 * 1000)
#define EDU_BUF_ADDR    0x40000

#define WINDOW_FRAME    0x1f00

void edu_init(QEdu *edu, QXenPVIOMMU *iommu, int devfn)
{
    QPCIAddress addr = {
        .devfn = devfn,
        .vendor_id = EDU_VENDOR_ID,
        .device_id = EDU_DEVICE_ID,
    };

    qpci_device_init(&edu->dev, iommu->pci, &addr);
    edu->bar = qpci_iomap(&edu->dev, 0, NULL);
    qpci_device_enable(&edu->dev);
    edu->window = (uint64_t)WINDOW_FRAME * PVIOMMU_PAGE;
    edu->window_ram = edu->window;
}

void edu_map_window(QEdu *edu, QXenPVIOMMU *iommu, uint16_t ctx, unsigned nr)
{
    uint64_t bfn = WINDOW_FRAME + nr, gfn = WINDOW_FRAME - nr;

    assert_status(pviommu_map(iommu, ctx, bfn, gfn, 0, 0), 0);
    edu->window = bfn * PVIOMMU_PAGE;
    edu->window_ram = gfn * PVIOMMU_PAGE;
}

QXenPVIOMMU *edu_start(const char *machine, const char *props, QEdu *edu)
{
    QXenPVIOMMU *iommu = pviommu_start(machine, props, EDU_DEVICE ",addr=11");

    edu_init(edu, iommu, EDU_SBDF_A);
    pviommu_accept(iommu, XEN_IOMMU_FEATURES_ALL);
    edu_map_window(edu, iommu, 0, 0);
    return iommu;
}

void edu_init_pair(QEduPair *pair)
{
    edu_init(&pair->a, pair->iommu, EDU_SBDF_A);
    edu_init(&pair->b, pair->iommu, EDU_SBDF_B);
    pviommu_accept(pair->iommu, XEN_IOMMU_FEATURES_ALL);
}

QEduPair edu_start_pair(const char *machine, const char *props)
{
    QEduPair pair = { .iommu = pviommu_start(machine, props, EDU_PAIR) };

    edu_init_pair(&pair);
    return pair;
}

void edu_dma(QEdu *edu, bool to_memory, uint64_t addr, unsigned len)
{
    QTestState *qts = edu->dev.bus->qts;
    uint64_t regs = edu->bar.addr;

    g_assert_cmpuint(len, <=, EDU_BUF_SIZE);
    qtest_writeq(qts, regs + EDU_DMA_SRC, to_memory ? EDU_BUF_ADDR : addr);
    qtest_writeq(qts, regs + EDU_DMA_DST, to_memory ? addr : EDU_BUF_ADDR);
    qtest_writeq(qts, regs + EDU_DMA_CNT, len);
    qtest_writeq(qts, regs + EDU_DMA_CMD,
                 EDU_DMA_RUN | (to_memory ? EDU_DMA_TO_MEMORY : 0));
    qtest_clock_step(qts, 2 * EDU_DMA_TIME_NS);
    /* One of the host has a clock that the test does not move. */
    for (unsigned us = 0;
         qtest_readq(qts, regs + EDU_DMA_CMD) & EDU_DMA_RUN; us += 1000) {
        g_assert_cmpuint(us, <, PVIOMMU_WAIT_US);
        g_usleep(1000);
    }
}

void edu_set_buffer(QEdu *edu, const void *data, unsigned len)
{
    qtest_bufwrite(edu->dev.bus->qts, edu->window_ram, data, len);
    edu_dma(edu, false, edu->window, len);
}

void edu_get_buffer(QEdu *edu, void *data, unsigned len)
{
    qtest_memset(edu->dev.bus->qts, edu->window_ram, 0xee, len);
    edu_dma(edu, true, edu->window, len);
    qtest_bufread(edu->dev.bus->qts, edu->window_ram, data, len);
}

void edu_store(QEdu *edu, uint64_t addr, const void *data, unsigned len)
{
    edu_set_buffer(edu, data, len);
    edu_dma(edu, true, addr, len);
}

void edu_load(QEdu *edu, uint64_t addr, void *data, unsigned len)
{
    edu_dma(edu, false, addr, len);
    edu_get_buffer(edu, data, len);
}

/*
 * Bytes that no two calls share in a row; none is what a failed DMA may leave,
 * zero or all ones.
 */
static uint8_t *new_data(unsigned len)
{
    static uint8_t salt;
    uint8_t *data = g_malloc(len);

    salt += 37;
    for (unsigned i = 0; i < len; i++) {
        data[i] = ((i * 11 + salt + (i >> 7)) & 0x7f) | 1;
    }
    return data;
}

static bool device_reads(QEdu *edu, uint64_t addr, uint64_t ram, unsigned len)
{
    g_autofree uint8_t *old = new_data(len);
    g_autofree uint8_t *data = new_data(len);
    g_autofree uint8_t *got = g_malloc(len);

    edu_set_buffer(edu, old, len);
    qtest_bufwrite(edu->dev.bus->qts, ram, data, len);
    edu_load(edu, addr, got, len);
    return !memcmp(data, got, len);
}

static bool device_writes(QEdu *edu, uint64_t addr, uint64_t ram, unsigned len)
{
    g_autofree uint8_t *old = new_data(len);
    g_autofree uint8_t *data = new_data(len);
    g_autofree uint8_t *got = g_malloc(len);

    qtest_bufwrite(edu->dev.bus->qts, ram, old, len);
    edu_store(edu, addr, data, len);
    qtest_bufread(edu->dev.bus->qts, ram, got, len);
    if (!memcmp(got, data, len)) {
        return true;
    }
    /* All of it or nothing. */
    g_assert_cmpmem(got, len, old, len);
    return false;
}

void edu_assert_access(QEdu *edu, uint64_t addr, uint64_t ram, unsigned len)
{
    g_assert_true(device_reads(edu, addr, ram, len));
    g_assert_true(device_writes(edu, addr, ram, len));
}

void edu_assert_no_access(QEdu *edu, uint64_t addr, uint64_t ram, unsigned len)
{
    g_autofree uint8_t *data = new_data(len);
    g_autofree uint8_t *got = g_malloc0(len);

    edu_set_buffer(edu, got, len);
    qtest_bufwrite(edu->dev.bus->qts, ram, data, len);
    edu_load(edu, addr, got, len);
    /* Not one byte of it. */
    for (unsigned i = 0; i < len; i++) {
        g_assert_cmphex(got[i], !=, data[i]);
    }
    g_assert_false(device_writes(edu, addr, ram, len));
}

void edu_assert_readonly(QEdu *edu, uint64_t addr, uint64_t ram, unsigned len)
{
    g_assert_true(device_reads(edu, addr, ram, len));
    g_assert_false(device_writes(edu, addr, ram, len));
}
