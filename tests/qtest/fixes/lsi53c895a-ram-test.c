/*
 * lsi53c895a: SCRIPTS in the chip's own RAM need no bus
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "bus-master.h"

/* Registers are BAR 1, RAM is BAR 2. */
#define LSI_DSTAT       0x0c
#define  LSI_DSTAT_SIR          0x04
#define LSI_DSP         0x2c
#define LSI_DSPS        0x30
#define LSI_SCRATCHA    0x34

/* Words of SCRIPTS: move some bytes; stop, with a number in DSPS */
#define SCRIPT_MOVE(len)        (0xc0000000 | (len))
#define SCRIPT_INT              0x98080000

static void test_ram(void)
{
    QPCIBar regs, ram;
    Function f;

    function_start(&f, "-device lsi53c895a,addr=11");
    regs = qpci_iomap(f.dev, 1, NULL);
    ram = qpci_iomap(f.dev, 2, NULL);
    function_bus_master(&f, false);

    const uint32_t script[] = {
        SCRIPT_MOVE(4), ram.addr + 0x100, regs.addr + LSI_SCRATCHA,
        SCRIPT_MOVE(4), regs.addr + LSI_SCRATCHA, ram.addr + 0x104,
        SCRIPT_INT, 0x42,
    };
    function_store(&f, ram.addr, script, ARRAY_SIZE(script));
    qpci_io_writel(f.dev, ram, 0x100, 0x12345678);

    qpci_io_writel(f.dev, regs, LSI_DSP, ram.addr);
    g_assert_cmphex(qpci_io_readb(f.dev, regs, LSI_DSTAT) & LSI_DSTAT_SIR,
                    !=, 0);
    g_assert_cmphex(qpci_io_readl(f.dev, regs, LSI_DSPS), ==, 0x42);
    g_assert_cmphex(qpci_io_readl(f.dev, regs, LSI_SCRATCHA), ==, 0x12345678);
    g_assert_cmphex(qpci_io_readl(f.dev, ram, 0x104), ==, 0x12345678);
    function_stop(&f);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    qtest_add_func("/lsi53c895a/ram", test_ram);
    return g_test_run();
}
