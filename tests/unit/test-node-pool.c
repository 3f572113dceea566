/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The node pool: nodes are zero, do not overlap, and come back from anywhere
 */

#include "qemu/osdep.h"
#include "qemu/thread.h"
#include <malloc.h>
#include "../../hw/xen/pviommu/core/node-pool.h"

#define NR 3000                 /* several chunks */

static NodePool *pool;

typedef struct Node {
    uint64_t *words;            /* filled with our address while it is ours */
    NodeChunk *chunk;
} Node;

static void node_take(Node *n)
{
    n->words = node_pool_alloc(pool, &n->chunk);
    g_assert_nonnull(n->words);
    g_assert_cmphex((uintptr_t)n->words % 64, ==, 0);
    for (unsigned i = 0; i < NODE_POOL_NODE_SIZE / 8; i++) {
        g_assert_cmphex(n->words[i], ==, 0);
        n->words[i] = (uintptr_t)n;
    }
}

static void node_give(Node *n)
{
    for (unsigned i = 0; i < NODE_POOL_NODE_SIZE / 8; i++) {
        g_assert_cmphex(n->words[i], ==, (uintptr_t)n);
    }
    node_pool_free(n->words, n->chunk);
    n->words = NULL;
}

static void *churn(void *opaque)
{
    g_autofree Node *nodes = g_new0(Node, NR);
    GRand *rand = g_rand_new_with_seed(GPOINTER_TO_UINT(opaque));
    unsigned used = 0;

    for (unsigned i = 0; i < 10 * NR; i++) {
        Node *n = &nodes[g_rand_int_range(rand, 0, NR)];

        if (n->words) {
            node_give(n);
            used--;
        } else {
            node_take(n);
            used++;
        }
        g_assert_cmpuint(node_pool_nodes(), >=, used);
        g_assert_cmpuint(node_pool_bytes(pool), >=, used * NODE_POOL_NODE_SIZE);
    }
    for (unsigned i = 0; i < NR; i++) {
        if (nodes[i].words) {
            node_give(&nodes[i]);
        }
    }
    g_rand_free(rand);
    return NULL;
}

static void test_nodes_are_zero_and_apart(void)
{
    pool = node_pool_new();
    churn(GUINT_TO_POINTER(g_test_rand_int()));
    g_assert_cmpuint(node_pool_nodes(), ==, 0);
    /* Some are kept for the next allocation. */
    g_assert_cmpuint(node_pool_bytes(pool), <=, 2 * NODE_POOL_CHUNK_SIZE +
                     NODE_POOL_FILL_MAX * NODE_POOL_NODE_BYTES);
    node_pool_release(pool);
}

static void test_nodes_of_threads_are_apart(void)
{
    QemuThread thread[3];

    pool = node_pool_new();
    for (int i = 0; i < ARRAY_SIZE(thread); i++) {
        qemu_thread_create(&thread[i], "churn", churn,
                           GUINT_TO_POINTER(g_test_rand_int()),
                           QEMU_THREAD_JOINABLE);
    }
    for (int i = 0; i < ARRAY_SIZE(thread); i++) {
        qemu_thread_join(&thread[i]);
    }
    g_assert_cmpuint(node_pool_nodes(), ==, 0);
    node_pool_release(pool);
}

static unsigned fail_after;

static bool fails(void)
{
    return !fail_after || !fail_after--;
}

/* What was seen to can be had, when nothing else can. */
static void test_filled_nodes_need_no_memory(void)
{
    Node nodes[NODE_POOL_FILL_MAX + 1] = { };
    size_t bytes;

    pool = node_pool_new();
    node_take(&nodes[0]);
    for (unsigned round = 0; round < 20; round++) {
        unsigned nr = g_test_rand_int_range(1, NODE_POOL_FILL_MAX + 1);

        bytes = node_pool_bytes(pool) + node_pool_lacks(pool, nr);
        g_assert_true(node_pool_fill(pool, nr));
        g_assert_cmpuint(node_pool_bytes(pool), ==, bytes);
        g_assert_cmpuint(node_pool_lacks(pool, nr), ==, 0);
        fail_after = 0;
        node_pool_test_fails = fails;
        for (unsigned i = 1; i <= nr; i++) {
            node_take(&nodes[i]);
        }
        g_assert_false(node_pool_fill(pool, 1));
        g_assert_null(node_pool_heap_alloc(pool, 1));
        node_pool_test_fails = NULL;
        g_assert_cmpuint(node_pool_bytes(pool), ==, bytes);
        for (unsigned i = 1; i <= nr; i++) {
            node_give(&nodes[i]);
        }
    }
    node_give(&nodes[0]);
    node_pool_release(pool);
}

/* The heap is counted by what malloc() hands out. */
static void test_heap_counts_what_malloc_gives(void)
{
    static const size_t sizes[] = {
        1, 24, 25, 56, 120, 4000, 65528, 65536, 131064, 1 << 20,
    };
    size_t old = 0;
    char *p = NULL;

    pool = node_pool_new();
    for (int i = 0; i < ARRAY_SIZE(sizes); i++) {
        char *zero = node_pool_heap_alloc(pool, sizes[i]);

        for (size_t j = 0; j < sizes[i]; j++) {
            g_assert_cmpint(zero[j], ==, 0);
        }
        node_pool_heap_free(pool, zero, sizes[i]);
        p = node_pool_heap_realloc(pool, p, old, sizes[i]);
        if (old) {
            g_assert_cmpint(p[old - 1], ==, i - 1);
        }
        p[sizes[i] - 1] = i;
        old = sizes[i];
        g_assert_cmpuint(node_pool_bytes(pool), ==, node_pool_heap_cost(old));
#ifndef __SANITIZE_ADDRESS__
        g_assert_cmpuint(node_pool_heap_cost(old), >=,
                         malloc_usable_size(p) + 8);
#endif
    }
    node_pool_test_fails = fails;
    fail_after = 0;
    g_assert_null(node_pool_heap_realloc(pool, p, old, 2 * old));
    node_pool_test_fails = NULL;
    g_assert_cmpint(p[old - 1], ==, ARRAY_SIZE(sizes) - 1);
    /* It is freed with the last of its allocations. */
    node_pool_release(pool);
    node_pool_heap_free(pool, p, old);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/node-pool/nodes-are-zero-and-apart",
                    test_nodes_are_zero_and_apart);
    g_test_add_func("/node-pool/nodes-of-threads-are-apart",
                    test_nodes_of_threads_are_apart);
    g_test_add_func("/node-pool/filled-nodes-need-no-memory",
                    test_filled_nodes_need_no_memory);
    g_test_add_func("/node-pool/heap-counts-what-malloc-gives",
                    test_heap_counts_what_malloc_gives);
    return g_test_run();
}
