/*
 * lsi53c895a: SCRIPTS that cannot be read are a bus fault
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "bus-master.h"

/* Registers, in BAR 1 */
#define LSI_DSTAT       0x0c
#define  LSI_DSTAT_BF           0x20
#define  LSI_DSTAT_SIR          0x04
#define LSI_DSP         0x2c
#define LSI_DSPS        0x30

/* Stop, with a number in DSPS */
#define SCRIPT_INT      0x98080000

static uint8_t lsi_run(Function *f, QPCIBar regs)
{
    qpci_io_readb(f->dev, regs, LSI_DSTAT);
    qpci_io_writel(f->dev, regs, LSI_DSP, FUNCTION_RAM);
    return qpci_io_readb(f->dev, regs, LSI_DSTAT);
}

static void test_fault(void)
{
    const uint32_t script[] = { SCRIPT_INT, 0x42 };
    QPCIBar regs;
    Function f;

    function_start(&f, "-device lsi53c895a,addr=11");
    regs = qpci_iomap(f.dev, 1, NULL);
    function_store(&f, FUNCTION_RAM, script, ARRAY_SIZE(script));

    function_bus_master(&f, false);
    g_assert_cmphex(lsi_run(&f, regs) & LSI_DSTAT_BF, !=, 0);
    /* It stopped, and does not look any further. */
    function_bus_master(&f, true);
    qtest_clock_step(f.qts, 100 * 1000 * 1000);
    g_assert_cmphex(qpci_io_readl(f.dev, regs, LSI_DSPS), ==, 0);

    g_assert_cmphex(lsi_run(&f, regs) & LSI_DSTAT_SIR, !=, 0);
    g_assert_cmphex(qpci_io_readl(f.dev, regs, LSI_DSPS), ==, 0x42);
    function_stop(&f);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    qtest_add_func("/lsi53c895a/fault", test_fault);
    return g_test_run();
}
