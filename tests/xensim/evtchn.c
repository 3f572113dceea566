/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * xensim: event channels
 *
 * The guest's side of an event channel - what Xen calls the remote port - is
 * a vCPU's, or the buffered ring's.
 */

#include "sim.h"

#include <errno.h>
#include <sys/eventfd.h>
#include <unistd.h>
#include <xenevtchn.h>

/* Local ports begin elsewhere, so that no remote one passes for one. */
#define FIRST_LOCAL     1024
#define NR_LOCAL        (SIM_MAX_VCPUS + 8)

typedef struct xenevtchn_handle {
    SimHandle handle;
    int fd;                     /* readable while anything is queued */
    GQueue queue;               /* of local ports */
} EventHandle;

typedef struct Port {
    EventHandle *owner;         /* NULL: not bound */
    unsigned remote;
    bool masked;                /* from xenevtchn_pending() to _unmask() */
    bool pending;               /* came while it was masked */
} Port;

static Port ports[NR_LOCAL];

xenevtchn_handle *xenevtchn_open(struct xentoollog_logger *logger,
                                 unsigned flags)
{
    EventHandle *h;

    if (!sim_call(__func__, "flags 0x%x", flags)) {
        return NULL;
    }
    h = sim_handle_new(SIM_EVTCHN, sizeof(*h));
    h->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    g_queue_init(&h->queue);
    return h;
}

static bool event_handle(const char *fn, xenevtchn_handle *h)
{
    return sim_handle(fn, h, SIM_EVTCHN);
}

int xenevtchn_close(xenevtchn_handle *h)
{
    g_autoptr(SimLocker) locker = NULL;

    if (!sim_call(__func__, "-") || !event_handle(__func__, h)) {
        return -1;
    }
    locker = sim_locker_new(&sim_lock);
    for (int i = 0; i < NR_LOCAL; i++) {
        if (ports[i].owner == h) {
            ports[i].owner = NULL;
        }
    }
    g_queue_clear(&h->queue);
    close(h->fd);
    sim_handle_free(__func__, h, SIM_EVTCHN);
    return 0;
}

int xenevtchn_fd(xenevtchn_handle *h)
{
    if (!sim_call(__func__, "-") || !event_handle(__func__, h)) {
        return -1;
    }
    return h->fd;
}

/*
 * A call about the port @local, which is returned, with sim_lock held by
 * @locker; NULL if it fails.
 */
static Port *port_call(const char *fn, xenevtchn_handle *h, evtchn_port_t local,
                       SimLocker **locker)
{
    Port *p = &ports[local - FIRST_LOCAL];

    if (!sim_call(fn, "port %u", local) || !event_handle(fn, h)) {
        return NULL;
    }
    *locker = sim_locker_new(&sim_lock);
    if (local < FIRST_LOCAL || local - FIRST_LOCAL >= NR_LOCAL ||
        p->owner != h) {
        sim_refuse(EINVAL, "%s: port %u is not bound", fn, local);
        return NULL;
    }
    return p;
}

xenevtchn_port_or_error_t xenevtchn_bind_interdomain(xenevtchn_handle *h,
                                                     uint32_t dom,
                                                     evtchn_port_t remote)
{
    g_autoptr(SimLocker) locker = NULL;
    int unused = -1;

    if (!sim_call(__func__, "remote port %u", remote) ||
        !event_handle(__func__, h) || !sim_domid(__func__, dom)) {
        return -1;
    }
    locker = sim_locker_new(&sim_lock);
    for (int i = NR_LOCAL - 1; i >= 0; i--) {
        if (!ports[i].owner) {
            unused = i;
        } else if (ports[i].remote == remote) {
            return sim_refuse(EINVAL, "%s: %u is bound", __func__, remote);
        }
    }
    if ((!sim_ioreq_has_port(remote) && !sim_target_has_port(remote)) ||
        unused < 0) {
        return sim_refuse(EINVAL, "%s: no port %u", __func__, remote);
    }
    ports[unused] = (Port) { .owner = h, .remote = remote };
    return FIRST_LOCAL + unused;
}

int xenevtchn_unbind(xenevtchn_handle *h, evtchn_port_t local)
{
    g_autoptr(SimLocker) locker = NULL;
    Port *p = port_call(__func__, h, local, &locker);

    if (!p) {
        return -1;
    }
    g_queue_remove(&h->queue, GUINT_TO_POINTER(local));
    p->owner = NULL;
    return 0;
}

bool sim_event_send(unsigned remote)
{
    const uint64_t one = 1;

    for (unsigned i = 0; i < NR_LOCAL; i++) {
        Port *p = &ports[i];

        if (!p->owner || p->remote != remote) {
            continue;
        }
        if (p->masked) {
            p->pending = true;
            return true;
        }
        p->masked = true;
        g_queue_push_tail(&p->owner->queue, GUINT_TO_POINTER(FIRST_LOCAL + i));
        return write(p->owner->fd, &one, sizeof(one)) == sizeof(one);
    }
    return false;
}

xenevtchn_port_or_error_t xenevtchn_pending(xenevtchn_handle *h)
{
    g_autoptr(SimLocker) locker = NULL;
    uint64_t events;
    unsigned local;

    if (!sim_call(__func__, "-") || !event_handle(__func__, h)) {
        return -1;
    }
    locker = sim_locker_new(&sim_lock);
    local = GPOINTER_TO_UINT(g_queue_pop_head(&h->queue));
    if (!local) {
        return sim_refuse(EAGAIN, "%s: no port is", __func__);
    }
    if (g_queue_is_empty(&h->queue) &&
        read(h->fd, &events, sizeof(events)) != sizeof(events)) {
        sim_complain("%s: the eventfd is empty", __func__);
    }
    return local;
}

int xenevtchn_unmask(xenevtchn_handle *h, evtchn_port_t local)
{
    g_autoptr(SimLocker) locker = NULL;
    Port *p = port_call(__func__, h, local, &locker);

    if (!p) {
        return -1;
    }
    p->masked = false;
    if (p->pending) {
        p->pending = false;
        sim_event_send(p->remote);
    }
    return 0;
}

int xenevtchn_notify(xenevtchn_handle *h, evtchn_port_t local)
{
    g_autoptr(SimLocker) locker = NULL;
    Port *p = port_call(__func__, h, local, &locker);

    if (!p) {
        return -1;
    }
    if (!sim_ioreq_answered(p->remote)) {
        return sim_refuse(EINVAL, "%s: remote port %u waits for no answer",
                          __func__, p->remote);
    }
    pthread_cond_broadcast(&sim_notified);
    return 0;
}
