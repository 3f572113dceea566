/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Memory for the nodes of the BFN tables and of the GFN index
 *
 * With many mappings a look-up waits for memory: for a slot, and for the page
 * tables of the process that lead to it. Nodes come from chunks that the host
 * can back with huge pages, which leaves the slot.
 *
 * Locking: its own, as nodes also come back from RCU.
 */

#ifndef HW_XEN_PVIOMMU_NODE_POOL_H
#define HW_XEN_PVIOMMU_NODE_POOL_H

/* 512 slots, and a cache line for the rest. */
#define NODE_POOL_NODE_SIZE (64 + 512 * 8)

typedef struct NodeChunk NodeChunk;

/**
 * node_pool_alloc: NODE_POOL_NODE_SIZE bytes of zeros, aligned to 64
 * @chunk: where it is from; the node has to remember that
 *
 * Ends QEMU if there is no memory.
 */
void *node_pool_alloc(NodeChunk **chunk);

/** node_pool_free: give back what node_pool_alloc() returned */
void node_pool_free(void *node, NodeChunk *chunk);

/** node_pool_bytes: what all nodes take that are in use */
size_t node_pool_bytes(void);

#endif /* HW_XEN_PVIOMMU_NODE_POOL_H */
