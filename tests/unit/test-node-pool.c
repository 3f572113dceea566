/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The node pool: nodes are zero, do not overlap, and come back from anywhere
 */

#include "qemu/osdep.h"
#include "qemu/thread.h"
#include "../../hw/xen/pviommu/node-pool.h"

#define NR 3000                 /* several chunks */

typedef struct Node {
    uint64_t *words;            /* filled with our address while it is ours */
    NodeChunk *chunk;
} Node;

static void node_take(Node *n)
{
    n->words = node_pool_alloc(&n->chunk);
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
        g_assert_cmpuint(node_pool_bytes(), >=, used * NODE_POOL_NODE_SIZE);
    }
    for (unsigned i = 0; i < NR; i++) {
        if (nodes[i].words) {
            node_give(&nodes[i]);
        }
    }
    g_rand_free(rand);
    return NULL;
}

static void test_one(void)
{
    churn(GUINT_TO_POINTER(g_test_rand_int()));
    g_assert_cmpuint(node_pool_bytes(), ==, 0);
}

static void test_threads(void)
{
    QemuThread thread[3];

    for (int i = 0; i < ARRAY_SIZE(thread); i++) {
        qemu_thread_create(&thread[i], "churn", churn,
                           GUINT_TO_POINTER(g_test_rand_int()),
                           QEMU_THREAD_JOINABLE);
    }
    for (int i = 0; i < ARRAY_SIZE(thread); i++) {
        qemu_thread_join(&thread[i]);
    }
    g_assert_cmpuint(node_pool_bytes(), ==, 0);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/node-pool/one", test_one);
    g_test_add_func("/node-pool/threads", test_threads);
    return g_test_run();
}
