/*
 * usb-ehci: no DMA while bus mastering is off
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "bus-master.h"

/* Registers, in BAR 0 */
#define EHCI_USBCMD     0x20
#define  EHCI_USBCMD_RUN        (1 << 0)
#define  EHCI_USBCMD_RESET      (1 << 1)
#define  EHCI_USBCMD_ASYNC      (1 << 5)
#define EHCI_USBSTS     0x24
#define  EHCI_USBSTS_HSE        (1 << 4)
#define EHCI_ASYNCLIST  0x38
#define EHCI_CONFIGFLAG 0x60
#define EHCI_PORTSC     0x64
#define  EHCI_PORTSC_RESET      (1 << 8)
#define QTD             (FUNCTION_RAM + 0x100)
#define QTD_TOKEN       (QTD + 8)
#define  QTD_ACTIVE             (1 << 7)
#define QTD_DATA        (FUNCTION_RAM + 0x200)

/* A schedule with the first packet for the device at address 0 */
static void ehci_make_schedule(Function *f)
{
    const uint32_t qh[] = {
        FUNCTION_RAM | 2, 64 << 16 | 3 << 14 | 2 << 12, 1 << 30, 0, QTD, 1,
    };
    const uint32_t qtd[] = {
        1, 1, 8 << 16 | 3 << 10 | 2 << 8 | QTD_ACTIVE, QTD_DATA,
    };
    const uint8_t get_descriptor[] = { 0x80, 0x06, 0, 1, 0, 0, 18, 0 };

    qtest_memset(f->qts, FUNCTION_RAM, 0, 0x1000);
    function_store(f, FUNCTION_RAM, qh, ARRAY_SIZE(qh));
    function_store(f, QTD, qtd, ARRAY_SIZE(qtd));
    qtest_bufwrite(f->qts, QTD_DATA, get_descriptor, sizeof(get_descriptor));
}

/* Run it; returns USBSTS after some frames. */
static uint32_t ehci_run(Function *f, QPCIBar regs)
{
    qpci_io_writel(f->dev, regs, EHCI_USBCMD, EHCI_USBCMD_RESET);
    qpci_io_writel(f->dev, regs, EHCI_CONFIGFLAG, 1);
    qpci_io_writel(f->dev, regs, EHCI_PORTSC, EHCI_PORTSC_RESET);
    qpci_io_writel(f->dev, regs, EHCI_PORTSC, 0);
    qpci_io_writel(f->dev, regs, EHCI_ASYNCLIST, FUNCTION_RAM);
    qpci_io_writel(f->dev, regs, EHCI_USBCMD,
                   EHCI_USBCMD_RUN | EHCI_USBCMD_ASYNC);
    for (unsigned i = 0; i < 20; i++) {
        qtest_clock_step(f->qts, 5 * 1000 * 1000);
    }
    return qpci_io_readl(f->dev, regs, EHCI_USBSTS);
}

static void ehci_assert_works(Function *f, QPCIBar regs)
{
    ehci_make_schedule(f);
    g_assert_cmphex(ehci_run(f, regs) & EHCI_USBSTS_HSE, ==, 0);
    g_assert_cmphex(qtest_readl(f->qts, QTD_TOKEN) & 0xff, ==, 0);
}

static void test_bus_master(void)
{
    QPCIBar regs;
    Function f;

    function_start(&f, "-device usb-ehci,id=usb,addr=11 "
                   "-device usb-tablet,bus=usb.0");
    regs = qpci_iomap(f.dev, 0, NULL);
    ehci_assert_works(&f, regs);

    function_bus_master(&f, false);
    ehci_make_schedule(&f);
    g_assert_cmphex(ehci_run(&f, regs) & EHCI_USBSTS_HSE, !=, 0);
    g_assert_cmphex(qpci_io_readl(f.dev, regs, EHCI_USBCMD) & EHCI_USBCMD_RUN,
                    ==, 0);
    g_assert_cmphex(qtest_readl(f.qts, QTD_TOKEN) & 0xff, ==, QTD_ACTIVE);

    function_bus_master(&f, true);
    ehci_assert_works(&f, regs);
    function_stop(&f);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    qtest_add_func("/usb-ehci/bus-master", test_bus_master);
    return g_test_run();
}
