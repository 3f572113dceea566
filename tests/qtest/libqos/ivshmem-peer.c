/*
 * ivshmem-doorbell: a device whose interrupts are eventfds of the test
 *
 * The test is the server (docs/specs/ivshmem-spec.rst in QEMU), which says all
 * it has to before QEMU is started.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/bswap.h"
#include "qemu/memfd.h"
#include "qapi/error.h"
#include <sys/eventfd.h>
#include <sys/socket.h>
#include "libqos/ivshmem-peer.h"

#define PROTOCOL_VERSION        0
#define OUR_ID                  1       /* of the device, not of the master */
#define SHARED_MEMORY           (-1)
#define NO_FD                   (-1)

static void say(int fd, int64_t message, int passed)
{
    int64_t data = cpu_to_le64(message);
    struct iovec iov = { .iov_base = &data, .iov_len = sizeof(data) };
    union {
        struct cmsghdr header;
        char bytes[CMSG_SPACE(sizeof(int))];
    } control = { .bytes = "" };
    struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };

    if (passed != NO_FD) {
        msg.msg_control = &control;
        msg.msg_controllen = sizeof(control);
        control.header.cmsg_len = CMSG_LEN(sizeof(int));
        control.header.cmsg_level = SOL_SOCKET;
        control.header.cmsg_type = SCM_RIGHTS;
        memcpy(CMSG_DATA(&control.header), &passed, sizeof(int));
    }
    g_assert_cmpint(sendmsg(fd, &msg, 0), ==, sizeof(data));
}

char *ivshmem_args(QIvshmem *iv, unsigned slot)
{
    int shm = qemu_memfd_create("ivshmem", PVIOMMU_PAGE, false, 0, 0,
                                &error_abort);
    int sockets[2];

    g_assert_cmpint(socketpair(AF_UNIX, SOCK_STREAM, 0, sockets), ==, 0);
    iv->server = sockets[0];
    say(sockets[1], PROTOCOL_VERSION, NO_FD);
    say(sockets[1], OUR_ID, NO_FD);
    for (unsigned i = 0; i < IVSHMEM_VECTORS; i++) {
        iv->doorbells[i] = eventfd(0, 0);
        g_assert_cmpint(iv->doorbells[i], >=, 0);
        say(sockets[1], OUR_ID, iv->doorbells[i]);
    }
    /* Last, so that QEMU has it all before its first command. */
    say(sockets[1], SHARED_MEMORY, shm);
    close(sockets[1]);
    close(shm);
    return g_strdup_printf("-chardev socket,id=ivshmem,fd=%d "
                           "-device ivshmem-doorbell,id=ivshmem,chardev=ivshmem,"
                           "vectors=%u,addr=%x ", iv->server, IVSHMEM_VECTORS,
                           slot);
}

void ivshmem_init(QIvshmem *iv, QXenPVIOMMU *iommu, unsigned slot)
{
    QPCIAddress addr = { .devfn = QPCI_DEVFN(slot, 0) };

    qpci_device_init(&iv->dev, iommu->pci, &addr);
    qpci_device_enable(&iv->dev);
    qpci_msix_enable(&iv->dev);
}

void ivshmem_poke(QIvshmem *iv, unsigned vector)
{
    const uint64_t one = 1;

    g_assert_cmpuint(vector, <, IVSHMEM_VECTORS);
    g_assert_cmpint(write(iv->doorbells[vector], &one, sizeof(one)), ==,
                    sizeof(one));
}

void ivshmem_finalize(QIvshmem *iv)
{
    close(iv->server);
    for (unsigned i = 0; i < IVSHMEM_VECTORS; i++) {
        close(iv->doorbells[i]);
    }
}
