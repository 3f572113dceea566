/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The memory of one device for what its guest maps
 */

#include "qemu/osdep.h"
#include "qemu/madvise.h"
#include "qemu/queue.h"
#include "qemu/thread.h"
#include "node-pool.h"
#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>
#endif

typedef struct FreeNode FreeNode;

struct FreeNode {
    FreeNode *next;
};

/* At the beginning of its own memory; the nodes follow. */
struct NodeChunk {
    NodePool *pool;
    QTAILQ_ENTRY(NodeChunk) next;   /* while it has room */
    unsigned used;
    unsigned fresh;                 /* nodes from here on were never used */
    FreeNode *free;                 /* others that are not used */
};

QEMU_BUILD_BUG_ON(sizeof(NodeChunk) > 64);

struct NodePool {
    NodePoolCounts counts;
    QemuMutex lock;                 /* unlike GMutex one that TSan knows */
    /* Those without a node in use last. Full ones are found by their nodes. */
    QTAILQ_HEAD(, NodeChunk) with_room;
    size_t nr_chunks;
    size_t nr_nodes;                /* in use */
    size_t heap;                    /* bytes, by node_pool_heap_cost() */
    bool released;
};

bool (*node_pool_test_fails)(void);
static size_t all_nodes;

static bool pool_fails(void)
{
    return unlikely(node_pool_test_fails) && node_pool_test_fails();
}

NodePool *node_pool_new(void)
{
    NodePool *pool = g_new0(NodePool, 1);

    qemu_mutex_init(&pool->lock);
    QTAILQ_INIT(&pool->with_room);
    return pool;
}

static NodeChunk *chunk_new(NodePool *pool)
{
    NodeChunk *c;

#ifdef __SANITIZE_ADDRESS__
    c = g_try_malloc(NODE_POOL_CHUNK_SIZE);
#else
    c = qemu_anon_ram_alloc(NODE_POOL_CHUNK_SIZE, NULL, false, false);
#endif
    if (!c) {
        return NULL;
    }
#ifndef __SANITIZE_ADDRESS__
    /* Few mappings do not wait for memory, and should not take much of it. */
    if (pool->nr_chunks) {
        qemu_madvise(c, NODE_POOL_CHUNK_SIZE, QEMU_MADV_HUGEPAGE);
    }
#endif
    memset(c, 0, sizeof(*c));
    c->pool = pool;
    pool->nr_chunks++;
    qatomic_set(&pool->counts.nr_free,
                pool->counts.nr_free + NODE_POOL_CHUNK_NODES);
    qatomic_set(&pool->counts.bytes, pool->counts.bytes + NODE_POOL_CHUNK_SIZE);
    QTAILQ_INSERT_TAIL(&pool->with_room, c, next);
    return c;
}

/* It has no node in use. */
static void chunk_free(NodeChunk *c)
{
    NodePool *pool = c->pool;

    QTAILQ_REMOVE(&pool->with_room, c, next);
    pool->nr_chunks--;
    qatomic_set(&pool->counts.nr_free,
                pool->counts.nr_free - NODE_POOL_CHUNK_NODES);
    qatomic_set(&pool->counts.bytes, pool->counts.bytes - NODE_POOL_CHUNK_SIZE);
#ifdef __SANITIZE_ADDRESS__
    ASAN_UNPOISON_MEMORY_REGION(c, NODE_POOL_CHUNK_SIZE);
    g_free(c);
#else
    qemu_anon_ram_free(c, NODE_POOL_CHUNK_SIZE);
#endif
}

static FreeNode *chunk_take(NodeChunk *c)
{
    FreeNode *n = c->free;

    if (n) {
#ifdef __SANITIZE_ADDRESS__
        ASAN_UNPOISON_MEMORY_REGION(n, NODE_POOL_NODE_SIZE);
#endif
        c->free = n->next;
    } else {
        n = (void *)((char *)c + 64 + c->fresh++ * NODE_POOL_NODE_SIZE);
    }
    c->used++;
    if (c->used == NODE_POOL_CHUNK_NODES) {
        QTAILQ_REMOVE(&c->pool->with_room, c, next);
    }
    return n;
}

static void chunk_give(NodeChunk *c, FreeNode *n)
{
    NodePool *pool = c->pool;

    if (c->used == NODE_POOL_CHUNK_NODES) {
        QTAILQ_INSERT_HEAD(&pool->with_room, c, next);
    }
    n->next = c->free;
    c->free = n;
    c->used--;
    if (!c->used) {
        QTAILQ_REMOVE(&pool->with_room, c, next);
        QTAILQ_INSERT_TAIL(&pool->with_room, c, next);
    }
#ifdef __SANITIZE_ADDRESS__
    ASAN_POISON_MEMORY_REGION(n, NODE_POOL_NODE_SIZE);
#endif
}

/* Unlocks @pool, and frees it if nothing needs it any more. */
static void pool_unlock(NodePool *pool)
{
    bool gone = pool->released && !pool->nr_nodes && !pool->heap;

    while (gone && !QTAILQ_EMPTY(&pool->with_room)) {
        chunk_free(QTAILQ_FIRST(&pool->with_room));
    }
    qemu_mutex_unlock(&pool->lock);
    if (gone) {
        qemu_mutex_destroy(&pool->lock);
        g_free(pool);
    }
}

void node_pool_release(NodePool *pool)
{
    qemu_mutex_lock(&pool->lock);
    pool->released = true;
    pool_unlock(pool);
}

bool node_pool_fill(NodePool *pool, unsigned nr)
{
    bool ok = true;

    assert(nr <= NODE_POOL_FILL_MAX);
    if (pool_fails()) {
        return false;
    }
    /* Others only give back: there are as many, or more. */
    if (qatomic_read(&pool->counts.nr_free) >= nr) {
        return true;
    }
    qemu_mutex_lock(&pool->lock);
    while (ok && pool->counts.nr_free < nr) {
        ok = chunk_new(pool);
    }
    qemu_mutex_unlock(&pool->lock);
    return ok;
}

void *node_pool_alloc(NodePool *pool, NodeChunk **chunk)
{
    FreeNode *n = NULL;
    NodeChunk *c;

    qemu_mutex_lock(&pool->lock);
    c = QTAILQ_FIRST(&pool->with_room);
    if (!c && !pool_fails()) {
        c = chunk_new(pool);
    }
    if (c) {
        n = chunk_take(c);
        pool->nr_nodes++;
        qatomic_inc(&all_nodes);
        qatomic_set(&pool->counts.nr_free, pool->counts.nr_free - 1);
    }
    qemu_mutex_unlock(&pool->lock);
    *chunk = c;
    return n ? memset(n, 0, NODE_POOL_NODE_SIZE) : NULL;
}

void node_pool_free(void *node, NodeChunk *c)
{
    NodePool *pool = c->pool;

    qemu_mutex_lock(&pool->lock);
    chunk_give(c, node);
    pool->nr_nodes--;
    qatomic_dec(&all_nodes);
    qatomic_set(&pool->counts.nr_free, pool->counts.nr_free + 1);
    if (!c->used &&
        pool->counts.nr_free >= NODE_POOL_CHUNK_NODES + NODE_POOL_FILL_MAX) {
        chunk_free(c);
    }
    pool_unlock(pool);
}

/* malloc() has 8 bytes before each, whole 16s; pages where it maps them. */
size_t node_pool_heap_cost(size_t size)
{
    return size < 64 * 1024 ? MAX(ROUND_UP(size + 8, 16), 32)
                            : ROUND_UP(size + 16, 4096);
}

static void pool_count(NodePool *pool, size_t less, size_t more)
{
    qemu_mutex_lock(&pool->lock);
    qatomic_set(&pool->heap, pool->heap + (more - less));
    qatomic_set(&pool->counts.bytes, pool->counts.bytes + (more - less));
    pool_unlock(pool);
}

void *node_pool_heap_alloc(NodePool *pool, size_t size)
{
    void *p = pool_fails() ? NULL : g_try_malloc0(size);

    if (p) {
        pool_count(pool, 0, node_pool_heap_cost(size));
    }
    return p;
}

void *node_pool_heap_realloc(NodePool *pool, void *p, size_t old, size_t size)
{
    p = pool_fails() ? NULL : g_try_realloc(p, size);
    if (p) {
        pool_count(pool, old ? node_pool_heap_cost(old) : 0,
                   node_pool_heap_cost(size));
    }
    return p;
}

void node_pool_heap_free(NodePool *pool, void *p, size_t size)
{
    g_free(p);
    if (p) {
        pool_count(pool, node_pool_heap_cost(size), 0);
    }
}

size_t node_pool_heap_bytes(const NodePool *pool)
{
    return qatomic_read(&pool->heap);
}

size_t node_pool_nodes(void)
{
    return qatomic_read(&all_nodes);
}
