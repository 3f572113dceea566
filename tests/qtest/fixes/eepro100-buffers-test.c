/*
 * i82559a: a transmit command has as many buffers as it says
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/bswap.h"
#include "bus-master.h"

/* Registers, in BAR 0 */
#define SCB_CMD         0x02
#define  SCB_CU_START           0x10
#define SCB_POINTER     0x04

/* Command blocks */
#define CMD_CONFIGURE   2
#define CMD_TX          4
#define  CMD_TX_FLEX            (1 << 3)
#define CMD_END         (1 << 15)
/* Byte 6: without this bit, buffer descriptors are in the command. */
#define CONFIG_STANDARD_TCB     (1 << 4)

#define CONFIGURE       FUNCTION_RAM
#define TRANSMIT        (FUNCTION_RAM + 0x100)
#define FRAME           (FUNCTION_RAM + 0x1000)
#define OTHER           (FUNCTION_RAM + 0x2000)
#define FRAME_SIZE      64
#define OTHER_SIZE      32

static void test_buffers(void)
{
    const uint32_t configure[] = {
        (uint32_t)CMD_CONFIGURE << 16, TRANSMIT, 0, 0,
    };
    /* One buffer; what follows the descriptor would be another one. */
    const uint32_t transmit[] = {
        (uint32_t)(CMD_TX | CMD_TX_FLEX | CMD_END) << 16, ~0u,
        TRANSMIT + 0x10, 1u << 24,
        FRAME, FRAME_SIZE, OTHER, OTHER_SIZE,
    };
    g_autofree char *args = NULL;
    uint8_t frame[FRAME_SIZE];
    int sockets[2];
    uint32_t size;
    QPCIBar regs;
    Function f;

    g_assert_cmpint(socketpair(AF_UNIX, SOCK_STREAM, 0, sockets), ==, 0);
    args = g_strdup_printf("-netdev socket,id=net,fd=%d "
                           "-device i82559a,netdev=net,addr=11", sockets[1]);
    function_start(&f, args);
    regs = qpci_iomap(f.dev, 0, NULL);

    QEMU_BUILD_BUG_ON(CONFIG_STANDARD_TCB & 0x22);
    function_store(&f, CONFIGURE, configure, ARRAY_SIZE(configure));
    qtest_writeb(f.qts, CONFIGURE + 8, 22);
    qtest_writeb(f.qts, CONFIGURE + 8 + 6, 0x22);
    function_store(&f, TRANSMIT, transmit, ARRAY_SIZE(transmit));
    qtest_memset(f.qts, FRAME, 0x11, FRAME_SIZE);
    qtest_memset(f.qts, OTHER, 0x22, OTHER_SIZE);

    qpci_io_writel(f.dev, regs, SCB_POINTER, CONFIGURE);
    qpci_io_writeb(f.dev, regs, SCB_CMD, SCB_CU_START);

    g_assert_cmpint(recv(sockets[0], &size, sizeof(size), MSG_WAITALL), ==,
                    sizeof(size));
    g_assert_cmpuint(be32_to_cpu(size), ==, FRAME_SIZE);
    g_assert_cmpint(recv(sockets[0], frame, sizeof(frame), MSG_WAITALL), ==,
                    sizeof(frame));
    for (unsigned i = 0; i < FRAME_SIZE; i++) {
        g_assert_cmphex(frame[i], ==, 0x11);
    }
    function_stop(&f);
    close(sockets[0]);
    close(sockets[1]);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    qtest_add_func("/eepro100/buffers", test_buffers);
    return g_test_run();
}
