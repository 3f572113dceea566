/*
 * amd-iommu: DMA to what is not mapped is an event in the guest's log, and a
 * log that was full is used again when the guest has restarted it
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "libqtest.h"
#include "libqos/pci-pc.h"

/* Registers */
#define AMDVI           0xfed80000ull
#define AMDVI_DEVTAB    (AMDVI + 0x0000)
#define AMDVI_EVT_BASE  (AMDVI + 0x0010)
#define  AMDVI_EVT_256          (8ull << 56)
#define AMDVI_CONTROL   (AMDVI + 0x0018)
#define  AMDVI_CONTROL_EN       (1ull << 0)
#define  AMDVI_CONTROL_EVT      (1ull << 2)
#define  AMDVI_CONTROL_EVT_INT  (1ull << 3)
#define AMDVI_EVT_HEAD  (AMDVI + 0x2010)
#define AMDVI_EVT_TAIL  (AMDVI + 0x2018)
#define AMDVI_STATUS    (AMDVI + 0x2020)
#define  AMDVI_STATUS_EVT_OVF   (1ull << 0)
#define  AMDVI_STATUS_EVT_INT   (1ull << 1)
#define  AMDVI_STATUS_EVT_RUN   (1ull << 3)

/* An entry of the device table */
#define DTE_SIZE        32
#define DTE_V           (1ull << 0)
#define DTE_TV          (1ull << 1)
#define DTE_ONE_LEVEL   (1ull << 9)
#define DTE_RW          (3ull << 61)

#define EVT_SIZE        16
#define EVT_NR          256
#define EVT_PAGE_FAULT  2

#define EDU_SLOT        0x11
#define EDU_SRC         0x80
#define EDU_DST         0x88
#define EDU_COUNT       0x90
#define EDU_COMMAND     0x98
#define EDU_BUFFER      0x40000
#define EDU_DELAY_NS    200000000

#define DEVTAB          0x200000ull
#define ROOT            0x300000ull
#define LOG             0x400000ull

typedef struct Machine {
    QTestState *qts;
    QPCIBus *bus;
    QPCIDevice *edu;
    QPCIBar regs;
} Machine;

static void amdvi_log_start(Machine *m)
{
    qtest_writeq(m->qts, AMDVI_EVT_BASE, LOG | AMDVI_EVT_256);
    qtest_writeq(m->qts, AMDVI_EVT_HEAD, 0);
    qtest_writeq(m->qts, AMDVI_EVT_TAIL, 0);
    qtest_writeq(m->qts, AMDVI_CONTROL, AMDVI_CONTROL_EN |
                 AMDVI_CONTROL_EVT | AMDVI_CONTROL_EVT_INT);
    g_assert_cmphex(qtest_readq(m->qts, AMDVI_STATUS) & AMDVI_STATUS_EVT_RUN,
                    !=, 0);
}

static void machine_start(Machine *m)
{
    unsigned devid = QPCI_DEVFN(EDU_SLOT, 0);

    m->qts = qtest_initf("-machine q35 -m 16 -nodefaults -device amd-iommu "
                         "-device edu,addr=0x%x", EDU_SLOT);
    m->bus = qpci_new_pc(m->qts, NULL);
    m->edu = qpci_device_find(m->bus, devid);
    g_assert_nonnull(m->edu);
    qpci_device_enable(m->edu);
    m->regs = qpci_iomap(m->edu, 0, NULL);

    qtest_memset(m->qts, DEVTAB, 0, 0x2000);
    qtest_memset(m->qts, ROOT, 0, 0x1000);
    qtest_memset(m->qts, LOG, 0, EVT_NR * EVT_SIZE);
    qtest_writeq(m->qts, DEVTAB + devid * DTE_SIZE,
                 DTE_V | DTE_TV | DTE_ONE_LEVEL | ROOT | DTE_RW);
    /* Two pages of them */
    qtest_writeq(m->qts, AMDVI_DEVTAB, DEVTAB | 1);
    amdvi_log_start(m);
}

static void machine_stop(Machine *m)
{
    g_free(m->edu);
    qpci_free_pc(m->bus);
    qtest_quit(m->qts);
}

/* Nothing is mapped there. */
static void edu_dma(Machine *m, uint64_t addr)
{
    qpci_io_writeq(m->edu, m->regs, EDU_SRC, addr);
    qpci_io_writeq(m->edu, m->regs, EDU_DST, EDU_BUFFER);
    qpci_io_writeq(m->edu, m->regs, EDU_COUNT, 4);
    qpci_io_writeq(m->edu, m->regs, EDU_COMMAND, 1);
    qtest_clock_step(m->qts, EDU_DELAY_NS);
}

static void assert_event(Machine *m, unsigned n, uint64_t addr)
{
    uint64_t event = LOG + n * EVT_SIZE;

    g_assert_cmphex(qtest_readq(m->qts, AMDVI_EVT_TAIL), ==,
                    (n + 1) * EVT_SIZE);
    g_assert_cmphex(qtest_readw(m->qts, event), ==, QPCI_DEVFN(EDU_SLOT, 0));
    g_assert_cmphex(qtest_readl(m->qts, event + 4) >> 28, ==, EVT_PAGE_FAULT);
    g_assert_cmphex(qtest_readq(m->qts, event + 8) & ~0xfffull, ==, addr);
}

static void test_page_fault(void)
{
    Machine m;

    machine_start(&m);
    edu_dma(&m, 0x5000);
    assert_event(&m, 0, 0x5000);
    edu_dma(&m, 0x7000);
    assert_event(&m, 1, 0x7000);
    g_assert_cmphex(qtest_readq(m.qts, AMDVI_STATUS) & AMDVI_STATUS_EVT_INT,
                    !=, 0);
    qtest_writeq(m.qts, AMDVI_STATUS, AMDVI_STATUS_EVT_INT);
    g_assert_cmphex(qtest_readq(m.qts, AMDVI_STATUS) & AMDVI_STATUS_EVT_INT,
                    ==, 0);
    machine_stop(&m);
}

static void test_overflow(void)
{
    uint64_t status;
    Machine m;

    machine_start(&m);
    /* One entry stays empty: a head at the tail says that all are. */
    for (unsigned i = 0; i < EVT_NR - 1; i++) {
        edu_dma(&m, 0x5000);
    }
    assert_event(&m, EVT_NR - 2, 0x5000);
    status = qtest_readq(m.qts, AMDVI_STATUS);
    g_assert_cmphex(status & AMDVI_STATUS_EVT_OVF, ==, 0);
    g_assert_cmphex(status & AMDVI_STATUS_EVT_RUN, !=, 0);

    edu_dma(&m, 0x5000);
    status = qtest_readq(m.qts, AMDVI_STATUS);
    g_assert_cmphex(status & AMDVI_STATUS_EVT_OVF, !=, 0);
    /* Drivers restart the log when it has stopped, and not before. */
    g_assert_cmphex(status & AMDVI_STATUS_EVT_RUN, ==, 0);

    qtest_writeq(m.qts, AMDVI_CONTROL, AMDVI_CONTROL_EN);
    qtest_writeq(m.qts, AMDVI_STATUS, AMDVI_STATUS_EVT_OVF);
    amdvi_log_start(&m);
    edu_dma(&m, 0x7000);
    assert_event(&m, 0, 0x7000);
    machine_stop(&m);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    qtest_add_func("/amd-iommu/page-fault", test_page_fault);
    qtest_add_func("/amd-iommu/event-log-overflow", test_overflow);
    return g_test_run();
}
