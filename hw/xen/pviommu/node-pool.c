/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Memory for the nodes of the BFN tables and of the GFN index
 */

#include "qemu/osdep.h"
#include "qemu/error-report.h"
#include "qemu/madvise.h"
#include "qemu/queue.h"
#include "qemu/thread.h"
#include "node-pool.h"

#ifdef __SANITIZE_ADDRESS__
/* Each node by itself: the sanitizer sees what is used after it was freed. */
#define CHUNK_SIZE (64 + NODE_POOL_NODE_SIZE)
#else
#define CHUNK_SIZE (2 << 20)
#endif
#define CHUNK_NODES ((CHUNK_SIZE - 64) / NODE_POOL_NODE_SIZE)

typedef struct FreeNode FreeNode;

struct FreeNode {
    FreeNode *next;
};

/* At the beginning of its own memory; the nodes follow. */
struct NodeChunk {
    QTAILQ_ENTRY(NodeChunk) next;   /* while it has room */
    unsigned used;
    unsigned fresh;                 /* nodes from here on were never used */
    FreeNode *free;                 /* others that are not used */
};

QEMU_BUILD_BUG_ON(sizeof(NodeChunk) > 64);

static QemuMutex lock;          /* unlike GMutex one that TSan knows */
/* Full ones are found through their nodes. */
static QTAILQ_HEAD(, NodeChunk) with_room = QTAILQ_HEAD_INITIALIZER(with_room);
static NodeChunk *empty;            /* one, kept; not in with_room */
static size_t nr_chunks, nr_nodes;

static void __attribute__((__constructor__)) node_pool_init(void)
{
    qemu_mutex_init(&lock);
}

static NodeChunk *chunk_new(void)
{
    NodeChunk *c;

#ifdef __SANITIZE_ADDRESS__
    c = g_malloc(CHUNK_SIZE);
#else
    c = qemu_anon_ram_alloc(CHUNK_SIZE, NULL, false, false);
    if (!c) {
        error_report("xen-pviommu: no memory for mappings");
        abort();
    }
    /* Few mappings do not wait for memory, and should not take much of it. */
    if (nr_chunks) {
        qemu_madvise(c, CHUNK_SIZE, QEMU_MADV_HUGEPAGE);
    }
#endif
    nr_chunks++;
    memset(c, 0, sizeof(*c));
    return c;
}

static void chunk_free(NodeChunk *c)
{
    nr_chunks--;
#ifdef __SANITIZE_ADDRESS__
    g_free(c);
#else
    qemu_anon_ram_free(c, CHUNK_SIZE);
#endif
}

static FreeNode *chunk_take(NodeChunk *c)
{
    FreeNode *n = c->free;

    if (n) {
        c->free = n->next;
    } else {
        n = (void *)((char *)c + 64 + c->fresh++ * NODE_POOL_NODE_SIZE);
    }
    c->used++;
    return n;
}

void *node_pool_alloc(NodeChunk **chunk)
{
    NodeChunk *c;
    FreeNode *n;

    qemu_mutex_lock(&lock);
    c = QTAILQ_FIRST(&with_room);
    if (!c) {
        c = empty ? g_steal_pointer(&empty) : chunk_new();
        QTAILQ_INSERT_HEAD(&with_room, c, next);
    }
    n = chunk_take(c);
    if (c->used == CHUNK_NODES) {
        QTAILQ_REMOVE(&with_room, c, next);
    }
    nr_nodes++;
    qemu_mutex_unlock(&lock);
    *chunk = c;
    return memset(n, 0, NODE_POOL_NODE_SIZE);
}

void node_pool_free(void *node, NodeChunk *c)
{
    FreeNode *n = node;

    qemu_mutex_lock(&lock);
    if (c->used == CHUNK_NODES) {
        QTAILQ_INSERT_HEAD(&with_room, c, next);
    }
    n->next = c->free;
    c->free = n;
    c->used--;
    nr_nodes--;
    if (!c->used) {
        QTAILQ_REMOVE(&with_room, c, next);
        if (empty) {
            chunk_free(c);
        } else {
            empty = c;
        }
    }
    qemu_mutex_unlock(&lock);
}

size_t node_pool_bytes(void)
{
    size_t bytes;

    qemu_mutex_lock(&lock);
    bytes = nr_nodes * NODE_POOL_NODE_SIZE;
    qemu_mutex_unlock(&lock);
    return bytes;
}
