/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The memory of one device for what its guest maps
 *
 * The nodes of the BFN tables and of the GFN index come from chunks that the
 * host can back with huge pages: with many mappings a look-up waits for a slot,
 * and for the page tables of the process that lead to it. All else (contexts,
 * sets of places, pending records, queues) is from the heap. Both are
 * counted by what they really take, until they are really free.
 *
 * Nothing here ends QEMU when there is no memory.
 *
 * Locking: its own, as RCU frees memory, too.
 */

#ifndef HW_XEN_PVIOMMU_NODE_POOL_H
#define HW_XEN_PVIOMMU_NODE_POOL_H

#include "qemu/atomic.h"

/* 512 slots, and a cache line for the rest. */
#define NODE_POOL_NODE_SIZE (64 + 512 * 8)

#ifdef __SANITIZE_ADDRESS__
/* Each node by itself: the sanitizer sees what is used after it was freed. */
#define NODE_POOL_CHUNK_SIZE (64 + NODE_POOL_NODE_SIZE)
#else
#define NODE_POOL_CHUNK_SIZE (2 << 20)
#endif
#define NODE_POOL_CHUNK_NODES ((NODE_POOL_CHUNK_SIZE - 64) / \
                               NODE_POOL_NODE_SIZE)

/* A node's part of its chunk */
#define NODE_POOL_NODE_BYTES DIV_ROUND_UP(NODE_POOL_CHUNK_SIZE, \
                                          NODE_POOL_CHUNK_NODES)

/* The most that node_pool_fill() can be asked for. */
#define NODE_POOL_FILL_MAX 64

typedef struct NodePool NodePool;
typedef struct NodeChunk NodeChunk;

/* What is looked at often; the pool begins with it. Read without its lock. */
typedef struct NodePoolCounts {
    size_t nr_free;             /* nodes, in chunks that there are */
    size_t bytes;               /* of chunks and heap */
} NodePoolCounts;

/** node_pool_new: an empty pool; it is small, and there is memory for it */
NodePool *node_pool_new(void);

/**
 * node_pool_release: no more is allocated from @pool
 *
 * It is freed when all that was allocated is.
 */
void node_pool_release(NodePool *pool);

/**
 * node_pool_fill: see to it that the next @nr nodes can be allocated
 *
 * Returns: false if there is no memory for that.
 */
bool node_pool_fill(NodePool *pool, unsigned nr);

/** node_pool_lacks: bytes that node_pool_fill() would allocate */
static inline size_t node_pool_lacks(const NodePool *pool, unsigned nr)
{
    size_t nr_free = qatomic_read(&((const NodePoolCounts *)pool)->nr_free);

    return nr_free >= nr ? 0 : NODE_POOL_CHUNK_SIZE *
                               DIV_ROUND_UP(nr - nr_free,
                                            NODE_POOL_CHUNK_NODES);
}

/**
 * node_pool_alloc: NODE_POOL_NODE_SIZE bytes of zeros, aligned to 64
 * @chunk: where it is from; the node has to remember that
 *
 * Returns: NULL if there is no memory; never within what node_pool_fill() saw
 * to.
 */
void *node_pool_alloc(NodePool *pool, NodeChunk **chunk);

/** node_pool_free: give back what node_pool_alloc() returned */
void node_pool_free(void *node, NodeChunk *chunk);

/** node_pool_heap_alloc: @size bytes of zeros, or NULL */
void *node_pool_heap_alloc(NodePool *pool, size_t size);

/**
 * node_pool_heap_realloc: make what has @old bytes have @size
 *
 * What is new is not zeroed.
 *
 * Returns: NULL, with @p as it was, if there is no memory.
 */
void *node_pool_heap_realloc(NodePool *pool, void *p, size_t old, size_t size);

/** node_pool_heap_free: give @size bytes back; @p may be NULL */
void node_pool_heap_free(NodePool *pool, void *p, size_t size);

/** node_pool_heap_cost: what @size bytes from the heap take of it */
size_t node_pool_heap_cost(size_t size);

/** node_pool_bytes: what chunks and heap take now */
static inline size_t node_pool_bytes(const NodePool *pool)
{
    return qatomic_read(&((const NodePoolCounts *)pool)->bytes);
}

/** node_pool_heap_bytes: the heap's part of it */
size_t node_pool_heap_bytes(const NodePool *pool);

/** node_pool_nodes: nodes in use, of all pools; for tests and benchmarks */
size_t node_pool_nodes(void);

/**
 * node_pool_test_fails: for tests: asked at each allocation, and each
 * node_pool_fill(), whether it is to fail; NULL: none does
 */
extern bool (*node_pool_test_fails)(void);

#endif /* HW_XEN_PVIOMMU_NODE_POOL_H */
