/*
 * A vhost-user back end in the test, with a cache of translations that the
 * test can look into
 *
 * It accesses no memory: it has what QEMU would let it access.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef TESTS_LIBQOS_VHOST_USER_PEER_H
#define TESTS_LIBQOS_VHOST_USER_PEER_H

#include "qemu/thread.h"

#define VHOST_PEER_MAX_REGIONS  8

/* Accesses, as the protocol numbers them */
typedef enum VhostPeerAccess {
    VHOST_PEER_RO = 1,
    VHOST_PEER_WO = 2,
    VHOST_PEER_RW = 3,
} VhostPeerAccess;

/* A translation, or an invalidation, which has neither gpa nor access. */
typedef struct VhostPeerRange {
    uint64_t iova;
    uint64_t size;
    uint64_t gpa;
    VhostPeerAccess access;
} VhostPeerRange;

typedef struct VhostPeerRegion {
    uint64_t gpa;
    uint64_t size;
    uint64_t uaddr;             /* QEMU's */
} VhostPeerRegion;

typedef struct VhostPeer {
    uint64_t features;          /* that are offered */
    char *path;                 /* of the socket */
    int listening;              /* for QEMU, which connects when it starts */
    QemuThread thread;

    QemuMutex lock;
    /* Protected by lock */
    int back;                   /* for misses, or -1 */
    bool ended;                 /* QEMU has closed its end */
    uint64_t accepted;          /* features */
    unsigned started;           /* queues that are enabled, a bit each */
    unsigned nr_regions;
    VhostPeerRegion regions[VHOST_PEER_MAX_REGIONS];
    GArray *updates;            /* VhostPeerRange */
    GArray *invalidations;      /* VhostPeerRange */
} VhostPeer;

/**
 * vhost_peer_new: a back end that runs from now on, until vhost_peer_free()
 * @iommu: it has a cache of translations
 */
VhostPeer *vhost_peer_new(bool iommu);

/** vhost_peer_free: when its machine is no more */
void vhost_peer_free(VhostPeer *peer);

/** vhost_peer_chardev: what has to be on QEMU's command line, with @id */
char *vhost_peer_chardev(VhostPeer *peer, const char *id);

/** vhost_peer_wait_started: until @queues, a bit each, are enabled */
void vhost_peer_wait_started(VhostPeer *peer, unsigned queues);

/**
 * vhost_peer_miss: ask for a translation, and wait for the answer
 *
 * @range: what QEMU has said of it; may be NULL
 *
 * Returns: whether QEMU had one, and what it has said has @iova
 */
bool vhost_peer_miss(VhostPeer *peer, uint64_t iova, VhostPeerAccess access,
                     VhostPeerRange *range);

/** vhost_peer_forget: empty the list of invalidations */
void vhost_peer_forget(VhostPeer *peer);

/** vhost_peer_invalidated: bytes from @iova on, in invalidations on the list */
uint64_t vhost_peer_invalidated(VhostPeer *peer, uint64_t iova, uint64_t size);

/** vhost_peer_nr_invalidations: how many there are on the list */
unsigned vhost_peer_nr_invalidations(VhostPeer *peer);

#endif
