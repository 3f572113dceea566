/*
 * xen-pviommu: a NIC whose queues the host's kernel has (vhost-net)
 *
 * The kernel has a cache of translations, and asks QEMU for what is not in it.
 * It needs a host with vhost-net: tests/functional/listeners is one.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include <net/if.h>
#include <netpacket/packet.h>
#include <sys/ioctl.h>
#include "qemu/bswap.h"
#include "libqos/virtio-ram.h"

#define GFN             0x4000ull
#define BFN             0x4000000ull
#define ADDR(frame)     ((uint64_t)(frame) * PVIOMMU_PAGE)
#define RO              XEN_IOMMUOP_map_readonly

#define SLOT            0x11
#define TAP             "pviommu0"
#define NIC             "-netdev tap,id=n0,ifname=" TAP ",script=no," \
                        "downscript=no,vhost=on " \
                        "-device virtio-net-pci,netdev=n0,addr=11," \
                        "disable-legacy=on,iommu_platform=on,romfile="
#define RX              0
#define TX              1
/* Where virtio_ram_init() has the queues: 1:1 in context 0 */
#define QUEUES_GFN      0x100
#define NR_QUEUES_GFNS  (PVIOMMU_OPS_ADDR / PVIOMMU_PAGE - QUEUES_GFN)

/* In front of a frame, zero if there is nothing to say */
#define NET_HEADER      12
/* For experiments: no other protocol has it. */
#define ETHERTYPE       0x88b5
#define FRAME_LEN       200
/* A frame that does not come, in milliseconds */
#define NOTHING_MS      2000

typedef struct Frame {
    uint8_t to[6], from[6];
    uint16_t type;
    uint8_t data[FRAME_LEN - 14];
} QEMU_PACKED Frame;

typedef struct Fixture {
    QXenPVIOMMU *iommu;
    QVirtioRam nic;
    int host;                   /* a socket at the other end of the wire */
} Fixture;

static void map(Fixture *f, uint64_t bfn, uint64_t gfn, uint16_t flags)
{
    assert_status(pviommu_map(f->iommu, 0, bfn, gfn, 1, flags), 0);
}

static void unmap(Fixture *f, uint64_t bfn)
{
    assert_status(pviommu_unmap(f->iommu, 0, bfn, 1), 0);
    assert_status(pviommu_flush(f->iommu, 0, bfn, 1), 0);
}

static int host_open(void)
{
    int fd = socket(AF_PACKET, SOCK_RAW, htons(ETHERTYPE)), ipv6;
    struct ifreq ifr = { .ifr_name = TAP };
    struct sockaddr_ll addr = {
        .sll_family = AF_PACKET,
        .sll_protocol = htons(ETHERTYPE),
    };

    g_assert_cmpint(fd, >=, 0);
    /* Or the kernel sends frames of its own. */
    ipv6 = open("/proc/sys/net/ipv6/conf/" TAP "/disable_ipv6", O_WRONLY);
    if (ipv6 >= 0) {
        g_assert_cmpint(write(ipv6, "1", 1), ==, 1);
        close(ipv6);
    }
    g_assert_cmpint(ioctl(fd, SIOCGIFFLAGS, &ifr), ==, 0);
    ifr.ifr_flags |= IFF_UP;
    g_assert_cmpint(ioctl(fd, SIOCSIFFLAGS, &ifr), ==, 0);
    g_assert_cmpint(ioctl(fd, SIOCGIFINDEX, &ifr), ==, 0);
    addr.sll_ifindex = ifr.ifr_ifindex;
    g_assert_cmpint(bind(fd, (void *)&addr, sizeof(addr)), ==, 0);
    return fd;
}

static Fixture *fixture_new(const char *machine)
{
    Fixture *f = g_new0(Fixture, 1);

    f->iommu = pviommu_start_accepted(machine, "premap=off", NIC);
    pviommu_fault_ring(f->iommu, 64);
    assert_status(pviommu_map(f->iommu, 0, QUEUES_GFN, QUEUES_GFN,
                              NR_QUEUES_GFNS, 0), 0);
    f->host = host_open();
    virtio_ram_init(&f->nic, f->iommu, QPCI_DEVFN(SLOT, 0), 2);
    return f;
}

static void fixture_free(Fixture *f)
{
    close(f->host);
    virtio_ram_finalize(&f->nic);
    pviommu_quit(f->iommu);
    g_free(f);
}

static Frame frame_new(uint8_t salt)
{
    Frame frame = {
        .to = { 0xff, 0xff, 0xff, 0xff, 0xff, 0xff },
        .from = { 0x52, 0x54, 0, 0, 0, salt },
        .type = cpu_to_be16(ETHERTYPE),
    };

    for (unsigned i = 0; i < sizeof(frame.data); i++) {
        frame.data[i] = salt + i;
    }
    return frame;
}

/* One buffer at a time, for whichever queue; the device has it from now on. */
static void enqueue(Fixture *f, unsigned queue, uint64_t addr)
{
    QVirtQueue *vq = f->nic.queues[queue];
    uint32_t head;

    vq->free_head = 0;
    vq->num_free = vq->size;
    head = qvirtqueue_add(f->nic.qts, vq, addr, NET_HEADER + FRAME_LEN,
                          queue == RX, false);
    qvirtqueue_kick(f->nic.qts, &f->nic.dev->vdev, vq, head);
}

static void wait_used(Fixture *f, unsigned queue)
{
    QVirtQueue *vq = f->nic.queues[queue];

    qvirtio_wait_used_elem(f->nic.qts, &f->nic.dev->vdev, vq, 0, NULL,
                           PVIOMMU_WAIT_US);
}

static void store(Fixture *f, uint64_t gfn, const Frame *frame)
{
    qtest_memset(f->nic.qts, ADDR(gfn), 0, NET_HEADER);
    qtest_bufwrite(f->nic.qts, ADDR(gfn) + NET_HEADER, frame, sizeof(*frame));
}

static bool holds(Fixture *f, uint64_t gfn, const Frame *frame)
{
    Frame got;

    qtest_bufread(f->nic.qts, ADDR(gfn) + NET_HEADER, &got, sizeof(got));
    return !memcmp(&got, frame, sizeof(got));
}

/* What came out at the host's end, and nothing for a while if @frame is NULL */
static void assert_arrives(Fixture *f, const Frame *frame)
{
    GPollFD p = { .fd = f->host, .events = G_IO_IN };
    uint8_t got[2048];
    ssize_t len;

    if (!frame) {
        g_assert_cmpint(g_poll(&p, 1, NOTHING_MS), ==, 0);
        return;
    }
    g_assert_cmpint(g_poll(&p, 1, PVIOMMU_WAIT_US / 1000), ==, 1);
    len = recv(f->host, got, sizeof(got), 0);
    g_assert_cmpint(len, >, 0);
    g_assert_cmpmem(got, len, frame, sizeof(*frame));
}

static void check_sent(Fixture *f, uint64_t bfn, uint64_t gfn, uint8_t salt)
{
    Frame frame = frame_new(salt);

    store(f, gfn, &frame);
    enqueue(f, TX, ADDR(bfn));
    assert_arrives(f, &frame);
    wait_used(f, TX);
}

static void check_received(Fixture *f, uint64_t bfn, uint64_t gfn,
                           uint8_t salt)
{
    Frame frame = frame_new(salt);

    enqueue(f, RX, ADDR(bfn));
    g_assert_cmpint(send(f->host, &frame, sizeof(frame), 0), ==,
                    sizeof(frame));
    wait_used(f, RX);
    g_assert_true(holds(f, gfn, &frame));
}

/* What the kernel's cache has is gone with the flush. */
static void test_sends_from_what_is_mapped_now(const void *machine)
{
    Fixture *f = fixture_new(machine);

    map(f, BFN, GFN, 0);
    check_sent(f, BFN, GFN, 1);
    check_sent(f, BFN, GFN, 2);
    unmap(f, BFN);
    map(f, BFN, GFN + 7, 0);
    check_sent(f, BFN, GFN + 7, 3);
    map(f, BFN + 1, GFN, RO);
    check_sent(f, BFN + 1, GFN, 4);
    fixture_free(f);
}

static void test_receives_into_what_is_mapped_now(const void *machine)
{
    Fixture *f = fixture_new(machine);
    Frame first = frame_new(1);

    map(f, BFN, GFN, 0);
    check_received(f, BFN, GFN, 1);
    unmap(f, BFN);
    map(f, BFN, GFN + 7, 0);
    check_received(f, BFN, GFN + 7, 2);
    g_assert_true(holds(f, GFN, &first));
    fixture_free(f);
}

/* A queue that asks for what is not mapped stands still, until a reset. */
static void test_faults_where_nothing_is_mapped(const void *machine)
{
    Fixture *f = fixture_new(machine);
    Frame frame = frame_new(1);

    map(f, BFN, GFN, 0);
    store(f, GFN, &frame);
    enqueue(f, TX, ADDR(BFN + 1));
    pviommu_wait_faults(f->iommu, 1);
    pviommu_assert_fault(f->iommu, 0, SLOT << 3, 0, ADDR(BFN + 1), false,
                         XEN_IOMMU_FAULT_REASON_unmapped);
    assert_arrives(f, NULL);

    virtio_ram_finalize(&f->nic);
    virtio_ram_init(&f->nic, f->iommu, QPCI_DEVFN(SLOT, 0), 2);
    check_sent(f, BFN, GFN, 2);
    check_received(f, BFN, GFN, 3);
    fixture_free(f);
}

/* A page that the kernel has read from, and must not write */
static void test_does_not_write_readonly_pages(const void *machine)
{
    Fixture *f = fixture_new(machine);
    Frame sent = frame_new(1), other = frame_new(2);

    map(f, BFN, GFN, RO);
    map(f, BFN + 1, GFN + 1, 0);
    check_sent(f, BFN, GFN, 1);
    enqueue(f, RX, ADDR(BFN));
    g_assert_cmpint(send(f->host, &other, sizeof(other), 0), ==,
                    sizeof(other));
    /* The other queue goes on, and gives it time. */
    check_sent(f, BFN + 1, GFN + 1, 3);
    g_usleep(NOTHING_MS * 1000);
    g_assert_true(holds(f, GFN, &sent));

    virtio_ram_finalize(&f->nic);
    virtio_ram_init(&f->nic, f->iommu, QPCI_DEVFN(SLOT, 0), 2);
    check_sent(f, BFN + 1, GFN + 1, 4);
    fixture_free(f);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    pviommu_add_for_machines("vhost/sends-from-what-is-mapped-now",
                             test_sends_from_what_is_mapped_now);
    pviommu_add_for_machines("vhost/receives-into-what-is-mapped-now",
                             test_receives_into_what_is_mapped_now);
    pviommu_add_for_machines("vhost/faults-where-nothing-is-mapped",
                             test_faults_where_nothing_is_mapped);
    pviommu_add_for_machines("vhost/does-not-write-readonly-pages",
                             test_does_not_write_readonly_pages);
    return g_test_run();
}
