/*
 * A vhost-user back end in the test, with a cache of translations that the
 * test can look into
 *
 * The messages are those of docs/interop/vhost-user.rst in QEMU. A thread
 * answers QEMU, which waits for most answers with its lock held.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/lockable.h"
#include "qemu/sockets.h"
#include "qapi/error.h"
#include "libqos/vhost-user-peer.h"
#include "libqos/xen-pviommu.h"
#include "standard-headers/linux/virtio_config.h"

enum {
    GET_FEATURES = 1,
    SET_FEATURES = 2,
    SET_MEM_TABLE = 5,
    SET_LOG_BASE = 6,
    GET_VRING_BASE = 11,
    GET_PROTOCOL_FEATURES = 15,
    GET_QUEUE_NUM = 17,
    SET_VRING_ENABLE = 18,
    SET_BACKEND_REQ_FD = 21,
    IOTLB_MSG = 22,
    GET_CONFIG = 24,
    BACKEND_IOTLB_MSG = 1,
};

#define FEATURE_LOG_ALL         (1ull << 26)
#define FEATURE_PROTOCOL        (1ull << 30)

#define PROTOCOL_MQ             (1ull << 0)
#define PROTOCOL_LOG_SHMFD      (1ull << 1)
#define PROTOCOL_REPLY_ACK      (1ull << 3)
#define PROTOCOL_BACKEND_REQ    (1ull << 5)
#define PROTOCOL_CONFIG         (1ull << 9)

#define FLAG_VERSION            1
#define FLAG_REPLY              (1u << 2)
#define FLAG_NEED_REPLY         (1u << 3)

#define TLB_MISS                1
#define TLB_UPDATE              2
#define TLB_INVALIDATE          3

#define MAX_QUEUES              4
#define MAX_FDS                 8
#define NO_ANSWER               (-1)

typedef struct TlbMessage {
    uint64_t iova;
    uint64_t size;
    uint64_t uaddr;
    uint8_t access;
    uint8_t type;
    uint8_t pad[6];
} QEMU_PACKED TlbMessage;

typedef struct Message {
    uint32_t request;
    uint32_t flags;
    uint32_t size;
    union {
        uint64_t u64;
        struct {
            uint32_t index;
            uint32_t num;
        } vring;
        struct {
            uint32_t nr;
            uint32_t pad;
            struct {
                uint64_t gpa;
                uint64_t size;
                uint64_t uaddr;
                uint64_t offset;
            } regions[VHOST_PEER_MAX_REGIONS];
        } memory;
        TlbMessage tlb;
        uint8_t bytes[1024];
    };
} QEMU_PACKED Message;

#define HEADER  offsetof(Message, u64)

static bool read_all(int fd, void *data, size_t len)
{
    while (len) {
        ssize_t got = RETRY_ON_EINTR(read(fd, data, len));

        if (got <= 0) {
            return false;
        }
        data += got;
        len -= got;
    }
    return true;
}

/* The header, and with it the one descriptor that somebody wants, or -1 */
static bool read_message(int fd, Message *m, int *passed)
{
    union {
        struct cmsghdr header;
        char bytes[CMSG_SPACE(MAX_FDS * sizeof(int))];
    } control;
    struct iovec iov = { .iov_base = m, .iov_len = HEADER };
    struct msghdr msg = {
        .msg_iov = &iov,
        .msg_iovlen = 1,
        .msg_control = &control,
        .msg_controllen = sizeof(control),
    };
    ssize_t got = RETRY_ON_EINTR(recvmsg(fd, &msg, MSG_CMSG_CLOEXEC));
    struct cmsghdr *c;

    *passed = -1;
    if (got <= 0 || !read_all(fd, (char *)m + got, HEADER - got)) {
        return false;
    }
    for (c = CMSG_FIRSTHDR(&msg); c; c = CMSG_NXTHDR(&msg, c)) {
        int *fds = (int *)CMSG_DATA(c);
        size_t nr = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);

        for (size_t i = 0; i < nr; i++) {
            if (m->request == SET_BACKEND_REQ_FD && !i) {
                *passed = fds[i];
            } else {
                close(fds[i]);
            }
        }
    }
    g_assert_cmpuint(m->size, <=, sizeof(m->bytes));
    return read_all(fd, m->bytes, m->size);
}

static void send_message(int fd, Message *m, uint32_t flags, uint32_t size)
{
    ssize_t len = HEADER + size;

    m->flags = FLAG_VERSION | flags;
    m->size = size;
    /* QEMU may have ended. */
    if (RETRY_ON_EINTR(send(fd, m, len, MSG_NOSIGNAL)) != len) {
        g_test_message("QEMU takes no message");
    }
}

static void set_regions(VhostPeer *peer, const Message *m)
{
    g_assert_cmpuint(m->memory.nr, <=, VHOST_PEER_MAX_REGIONS);
    peer->nr_regions = m->memory.nr;
    for (unsigned i = 0; i < m->memory.nr; i++) {
        peer->regions[i] = (VhostPeerRegion) {
            .gpa = m->memory.regions[i].gpa,
            .size = m->memory.regions[i].size,
            .uaddr = m->memory.regions[i].uaddr,
        };
    }
}

/* All of what may be accessed has to be in a region. */
static uint64_t find_gpa(const VhostPeer *peer, uint64_t uaddr, uint64_t size)
{
    for (unsigned i = 0; i < peer->nr_regions; i++) {
        const VhostPeerRegion *r = &peer->regions[i];

        if (uaddr >= r->uaddr && uaddr - r->uaddr < r->size &&
            size <= r->size - (uaddr - r->uaddr)) {
            return r->gpa + (uaddr - r->uaddr);
        }
    }
    g_assert_not_reached();
}

static void tlb_message(VhostPeer *peer, const TlbMessage *tlb)
{
    VhostPeerRange range = { .iova = tlb->iova, .size = tlb->size };

    if (tlb->type == TLB_INVALIDATE) {
        g_array_append_val(peer->invalidations, range);
        return;
    }
    g_assert_cmpuint(tlb->type, ==, TLB_UPDATE);
    range.gpa = find_gpa(peer, tlb->uaddr, tlb->size);
    range.access = tlb->access;
    g_array_append_val(peer->updates, range);
}

/* What it says, and how much of it; or NO_ANSWER. */
static int answer(VhostPeer *peer, Message *m, int passed)
{
    switch (m->request) {
    case GET_FEATURES:
        m->u64 = peer->features;
        return sizeof(m->u64);
    case SET_FEATURES:
        peer->accepted = m->u64;
        return NO_ANSWER;
    case GET_PROTOCOL_FEATURES:
        m->u64 = PROTOCOL_MQ | PROTOCOL_LOG_SHMFD | PROTOCOL_REPLY_ACK |
                 PROTOCOL_BACKEND_REQ | PROTOCOL_CONFIG;
        return sizeof(m->u64);
    case GET_QUEUE_NUM:
        m->u64 = MAX_QUEUES;
        return sizeof(m->u64);
    case SET_MEM_TABLE:
        set_regions(peer, m);
        return NO_ANSWER;
    case SET_VRING_ENABLE:
        peer->started &= ~(1u << m->vring.index);
        peer->started |= m->vring.num << m->vring.index;
        return NO_ANSWER;
    case SET_LOG_BASE:
        return 0;
    case GET_VRING_BASE:
        m->vring.num = 0;
        return sizeof(m->vring);
    case GET_CONFIG:
        /* Where the request has zeroes; QEMU wants as many. */
        return m->size;
    case SET_BACKEND_REQ_FD:
        g_assert_cmpint(passed, >=, 0);
        if (peer->back >= 0) {
            close(peer->back);
        }
        peer->back = passed;
        return NO_ANSWER;
    case IOTLB_MSG:
        tlb_message(peer, &m->tlb);
        return NO_ANSWER;
    default:
        return NO_ANSWER;
    }
}

static void *peer_thread(void *opaque)
{
    VhostPeer *peer = opaque;
    int fd = RETRY_ON_EINTR(accept4(peer->listening, NULL, NULL,
                                    SOCK_CLOEXEC));
    int passed;
    Message m;

    /* QEMU never came. */
    if (fd < 0) {
        return NULL;
    }
    while (read_message(fd, &m, &passed)) {
        bool need_reply = m.flags & FLAG_NEED_REPLY;
        int size;

        WITH_QEMU_LOCK_GUARD(&peer->lock) {
            size = answer(peer, &m, passed);
        }
        if (size == NO_ANSWER && need_reply) {
            m.u64 = 0;
            size = sizeof(m.u64);
        }
        if (size != NO_ANSWER) {
            send_message(fd, &m, FLAG_REPLY, size);
        }
    }
    close(fd);
    WITH_QEMU_LOCK_GUARD(&peer->lock) {
        peer->ended = true;
    }
    return NULL;
}

VhostPeer *vhost_peer_new(bool iommu)
{
    VhostPeer *peer = g_new0(VhostPeer, 1);

    peer->path = g_strdup_printf("%s/vhost-peer-%d", g_get_tmp_dir(),
                                 getpid());
    peer->listening = unix_listen(peer->path, &error_abort);
    qemu_set_cloexec(peer->listening);
    peer->features = FEATURE_LOG_ALL | FEATURE_PROTOCOL |
                     1ull << VIRTIO_F_VERSION_1;
    if (iommu) {
        peer->features |= 1ull << VIRTIO_F_ACCESS_PLATFORM;
    }
    peer->back = -1;
    qemu_mutex_init(&peer->lock);
    peer->updates = g_array_new(false, false, sizeof(VhostPeerRange));
    peer->invalidations = g_array_new(false, false, sizeof(VhostPeerRange));
    qemu_thread_create(&peer->thread, "vhost-peer", peer_thread, peer,
                       QEMU_THREAD_JOINABLE);
    return peer;
}

void vhost_peer_free(VhostPeer *peer)
{
    /* Its end is closed, or it never came: then accept() fails. */
    shutdown(peer->listening, SHUT_RDWR);
    qemu_thread_join(&peer->thread);
    close(peer->listening);
    unlink(peer->path);
    g_free(peer->path);
    if (peer->back >= 0) {
        close(peer->back);
    }
    g_array_free(peer->updates, true);
    g_array_free(peer->invalidations, true);
    qemu_mutex_destroy(&peer->lock);
    g_free(peer);
}

char *vhost_peer_chardev(VhostPeer *peer, const char *id)
{
    return g_strdup_printf("-chardev socket,id=%s,path=%s ", id, peer->path);
}

void vhost_peer_wait_started(VhostPeer *peer, unsigned queues)
{
    gint64 end = g_get_monotonic_time() + PVIOMMU_WAIT_US;

    while (true) {
        WITH_QEMU_LOCK_GUARD(&peer->lock) {
            g_assert_false(peer->ended);
            if ((peer->started & queues) == queues && peer->back >= 0) {
                return;
            }
        }
        g_assert_cmpint(g_get_monotonic_time(), <, end);
        g_usleep(1000);
    }
}

bool vhost_peer_miss(VhostPeer *peer, uint64_t iova, VhostPeerAccess access,
                     VhostPeerRange *range)
{
    Message m = {
        .request = BACKEND_IOTLB_MSG,
        .tlb = { .iova = iova, .access = access, .type = TLB_MISS },
    };
    VhostPeerRange found = {};
    int passed;

    WITH_QEMU_LOCK_GUARD(&peer->lock) {
        g_array_set_size(peer->updates, 0);
    }
    send_message(peer->back, &m, FLAG_NEED_REPLY, sizeof(m.tlb));
    g_assert_true(read_message(peer->back, &m, &passed));
    g_assert_cmpuint(m.request, ==, BACKEND_IOTLB_MSG);

    QEMU_LOCK_GUARD(&peer->lock);
    for (guint i = 0; i < peer->updates->len; i++) {
        VhostPeerRange *r = &g_array_index(peer->updates, VhostPeerRange, i);

        if (iova >= r->iova && iova - r->iova < r->size) {
            found = *r;
        }
    }
    if (range) {
        *range = found;
    }
    /* No other translation than the one that was asked for. */
    g_assert_cmpuint(peer->updates->len, ==, found.size ? 1 : 0);
    g_assert_cmpuint(m.u64, ==, found.size ? 0 : 1);
    return found.size;
}

void vhost_peer_forget(VhostPeer *peer)
{
    QEMU_LOCK_GUARD(&peer->lock);
    g_array_set_size(peer->invalidations, 0);
}

uint64_t vhost_peer_invalidated(VhostPeer *peer, uint64_t iova, uint64_t size)
{
    uint64_t bytes = 0;

    QEMU_LOCK_GUARD(&peer->lock);
    /* None of them overlaps another one. */
    for (guint i = 0; i < peer->invalidations->len; i++) {
        VhostPeerRange *r = &g_array_index(peer->invalidations,
                                           VhostPeerRange, i);
        uint64_t start = MAX(r->iova, iova);
        uint64_t last = MIN(r->iova + r->size - 1, iova + size - 1);

        bytes += start <= last ? last - start + 1 : 0;
    }
    return bytes;
}

unsigned vhost_peer_nr_invalidations(VhostPeer *peer)
{
    QEMU_LOCK_GUARD(&peer->lock);
    return peer->invalidations->len;
}
