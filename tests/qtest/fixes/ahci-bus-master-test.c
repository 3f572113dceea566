/*
 * ich9-ahci: a port that was started reads and writes what its driver has in
 * memory by DMA, and not what it mapped when it was started
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "bus-master.h"

/* Registers of port 0, in BAR 5 */
#define AHCI_GHC        0x04
#define  AHCI_GHC_AE            (1u << 31)
#define AHCI_P_CLB      0x100
#define AHCI_P_FB       0x108
#define AHCI_P_IS       0x110
#define  AHCI_P_IS_HBFS         (1u << 29)
#define AHCI_P_CMD      0x118
#define  AHCI_P_CMD_ST          (1u << 0)
#define  AHCI_P_CMD_FRE         (1u << 4)
#define AHCI_P_CI       0x138

#define LIST            FUNCTION_RAM
#define FIS             (FUNCTION_RAM + 0x1000)
#define TABLE           (FUNCTION_RAM + 0x2000)
#define BUFFER          (FUNCTION_RAM + 0x3000)

/* Stop and start the port, with list and received FISes where they are. */
static void ahci_restart(Function *f, QPCIBar regs)
{
    qpci_io_writel(f->dev, regs, AHCI_P_CMD, 0);
    qpci_io_writel(f->dev, regs, AHCI_P_CLB, LIST);
    qpci_io_writel(f->dev, regs, AHCI_P_FB, FIS);
    qpci_io_writel(f->dev, regs, AHCI_P_IS, ~0u);
    qpci_io_writel(f->dev, regs, AHCI_P_CMD, AHCI_P_CMD_FRE);
    qpci_io_writel(f->dev, regs, AHCI_P_CMD, AHCI_P_CMD_FRE | AHCI_P_CMD_ST);
}

/* An IDENTIFY DEVICE in slot 0, and what it wrote before cleared */
static void ahci_issue(Function *f, QPCIBar regs)
{
    const uint32_t header[] = { 1 << 16 | 5, 0, TABLE, 0 };
    const uint32_t prd[] = { BUFFER, 0, 0, 512 - 1 };

    qtest_memset(f->qts, FUNCTION_RAM, 0, 0x4000);
    function_store(f, LIST, header, ARRAY_SIZE(header));
    qtest_writel(f->qts, TABLE, 0x00ec8027);
    function_store(f, TABLE + 0x80, prd, ARRAY_SIZE(prd));
    qpci_io_writel(f->dev, regs, AHCI_P_CI, 1);
}

static void ahci_assert_works(Function *f, QPCIBar regs)
{
    ahci_issue(f, regs);
    while (qpci_io_readl(f->dev, regs, AHCI_P_CI)) {
        g_usleep(1000);
    }
    g_assert_cmpuint(qtest_readl(f->qts, LIST + 4), ==, 512);
    g_assert_cmphex(qtest_readw(f->qts, BUFFER + 2 * 106) & 0x4000, !=, 0);
}

static void test_bus_master(void)
{
    QPCIBar regs;
    Function f;

    function_start(&f, "-blockdev driver=null-co,node-name=disk,size=1048576,"
                   "read-zeroes=on -device ich9-ahci,id=ahci,addr=11 "
                   "-device ide-hd,bus=ahci.0,drive=disk");
    regs = qpci_iomap(f.dev, 5, NULL);
    qpci_io_writel(f.dev, regs, AHCI_GHC, AHCI_GHC_AE);
    ahci_restart(&f, regs);
    ahci_assert_works(&f, regs);

    /* The port runs on. */
    function_bus_master(&f, false);
    ahci_issue(&f, regs);
    g_assert_cmphex(qpci_io_readl(f.dev, regs, AHCI_P_IS) & AHCI_P_IS_HBFS,
                    !=, 0);
    g_assert_cmpuint(qtest_readl(f.qts, LIST + 4), ==, 0);
    g_assert_cmphex(qtest_readl(f.qts, FIS + 0x20), ==, 0);

    function_bus_master(&f, true);
    ahci_restart(&f, regs);
    ahci_assert_works(&f, regs);
    function_stop(&f);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    qtest_add_func("/ich9-ahci/bus-master", test_bus_master);
    return g_test_run();
}
