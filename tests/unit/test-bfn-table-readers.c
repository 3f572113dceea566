/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The BFN table while threads translate beside the one that changes it
 */

#include "qemu/osdep.h"
#include "qemu/atomic.h"
#include "qemu/rcu.h"
#include "qemu/thread.h"
#include "../../hw/xen/pviommu/core/bfn-table.h"
#include "test-random.h"
#include "test-rcu-barrier.h"

#define GIB1    18              /* an order */

/*
 * Readers beside the writer. In each generation an arena is mapped as one
 * run, and all of it but every KEEP_STEP'th frame is unmapped, bit by bit.
 */
#define ARENA_BFN       ((1ull << GIB1) - 1000)
#define ARENA_NR        ((1ull << GIB1) + 3000)
#define KEEP_STEP       4099
#define NEIGHBOUR_NR    512

typedef struct Shared {
    BfnTable *t;
    unsigned gen;               /* odd: the arena is being mapped or removed */
    uint64_t arena_gfn;         /* of this generation */
    uint8_t gone[ARENA_NR];     /* unmapped for sure */
    bool stop;
    uint64_t lookups;
} Shared;

static uint64_t neighbour_gfn(uint64_t bfn)
{
    return bfn + (3ull << 30);
}

static void read_neighbour(Shared *s, GRand *rand)
{
    uint64_t bfn = g_rand_int_range(rand, 0, NEIGHBOUR_NR);
    BfnTranslation tr;

    bfn += g_rand_boolean(rand) ? ARENA_BFN - NEIGHBOUR_NR
                                : ARENA_BFN + ARENA_NR;
    g_assert_true(bfn_table_translate(s->t, bfn, &tr));
    g_assert_cmphex(tr.gfn, ==, neighbour_gfn(bfn));
    g_assert_cmpuint(tr.order, <=, 9);
    g_assert_true(tr.readonly);
}

static void read_arena(Shared *s, GRand *rand)
{
    unsigned gen = qatomic_load_acquire(&s->gen);
    uint64_t arena_gfn = qatomic_read__nocheck(&s->arena_gfn);
    uint64_t f = g_rand_int_range(rand, 0, ARENA_NR);
    uint64_t near = f ^ (1u << g_rand_int_range(rand, 0, 12));
    bool keep = g_rand_boolean(rand);
    bool gone, near_gone, mapped;
    BfnTranslation tr;

    if (keep) {
        f -= f % KEEP_STEP;
    }
    gone = qatomic_load_acquire(&s->gone[f]);
    /*
     * What a reader saw gone must not come back in the block of a frame that
     * stays; in the block of one that goes as well, not after the unmap.
     */
    near_gone = near < ARENA_NR &&
                (keep ? !bfn_table_translate(s->t, ARENA_BFN + near, &tr)
                      : qatomic_load_acquire(&s->gone[near]));
    /* In this order, see above; and all before gen is read again */
    smp_rmb();
    mapped = bfn_table_translate(s->t, ARENA_BFN + f, &tr);
    smp_rmb(); /* pairs with the smp_wmb() of the test */
    if ((gen & 1) || qatomic_read(&s->gen) != gen) {
        return;
    }
    if (keep) {
        g_assert_true(mapped);
    }
    if (gone) {
        g_assert_false(mapped);
    }
    if (mapped) {
        uint64_t size = 1ull << tr.order;
        uint64_t start = (ARENA_BFN + f) & ~(size - 1);

        g_assert_cmphex(tr.gfn, ==, arena_gfn + f);
        g_assert_false(tr.readonly);
        g_assert_cmphex(start, >=, ARENA_BFN);
        g_assert_cmphex(start + size, <=, ARENA_BFN + ARENA_NR);
        if (near_gone) {
            g_assert(ARENA_BFN + near < start ||
                     ARENA_BFN + near >= start + size);
        }
    }
}

typedef struct Reader {
    QemuThread thread;
    Shared *shared;
    uint32_t seed;
} Reader;

static void *reader_thread(void *opaque)
{
    Reader *r = opaque;
    GRand *rand = g_rand_new_with_seed(r->seed);
    uint64_t n = 0;

    rcu_register_thread();
    while (!qatomic_read(&r->shared->stop)) {
        RCU_READ_LOCK_GUARD();
        for (int i = 0; i < 64; i++, n++) {
            read_neighbour(r->shared, rand);
            read_arena(r->shared, rand);
        }
    }
    rcu_unregister_thread();
    g_rand_free(rand);
    qatomic_add(&r->shared->lookups, n);
    return NULL;
}

/* Unmap [f, f + nr) of the arena but for the frames that are kept. */
static void thin_out(Shared *s, uint64_t f, uint64_t nr)
{
    uint64_t end = MIN(f + nr, ARENA_NR);

    while (f < end) {
        uint64_t next;

        if (!(f % KEEP_STEP)) {
            f++;
            continue;
        }
        next = MIN(end, QEMU_ALIGN_UP(f, KEEP_STEP));
        while (f < next && s->gone[f]) {
            f++;
        }
        if (f < next) {
            uint64_t last = f;

            while (last < next && !s->gone[last]) {
                last++;
            }
            bfn_table_unmap(s->t, ARENA_BFN + f, last - f);
            for (; f < last; f++) {
                qatomic_store_release(&s->gone[f], 1);
            }
        }
    }
}

static void test_readers_see_no_frame_that_is_gone(void)
{
    XenPVIOMMUBudget budget = { };
    g_autofree Shared *s = g_new0(Shared, 1);
    int64_t end = g_get_monotonic_time() + scale() * G_USEC_PER_SEC;
    BfnRun left = {
        ARENA_BFN - NEIGHBOUR_NR, neighbour_gfn(ARENA_BFN - NEIGHBOUR_NR),
        NEIGHBOUR_NR, true
    };
    BfnRun right = {
        ARENA_BFN + ARENA_NR, neighbour_gfn(ARENA_BFN + ARENA_NR),
        NEIGHBOUR_NR, true
    };
    Reader readers[2];
    unsigned gens = 0;

    xen_pviommu_budget_init(&budget, SIZE_MAX / 2);
    s->t = bfn_table_new(40, &budget);
    s->gen = 1;
    g_assert_true(bfn_table_map(s->t, &left));
    g_assert_true(bfn_table_map(s->t, &right));
    for (int i = 0; i < ARRAY_SIZE(readers); i++) {
        readers[i].shared = s;
        readers[i].seed = g_random_int();
        qemu_thread_create(&readers[i].thread, "reader", reader_thread,
                           &readers[i], QEMU_THREAD_JOINABLE);
    }

    do {
        BfnRun run = { ARENA_BFN, 0, ARENA_NR, false };
        BfnRun rest;

        /* Often aligned, so that big blocks are seen. */
        run.gfn = chance(70) ? ARENA_BFN + (uint64_t)gens * (1ull << GIB1)
                             : random_below(1ull << 39);
        for (unsigned f = 0; f < ARENA_NR; f++) {
            qatomic_set(&s->gone[f], 0);
        }
        qatomic_set__nocheck(&s->arena_gfn, run.gfn);
        g_assert_true(bfn_table_map(s->t, &run));
        qatomic_store_release(&s->gen, s->gen + 1);

        for (int i = 0; i < 200; i++) {
            thin_out(s, random_below(ARENA_NR), random_length(12));
        }
        thin_out(s, 0, ARENA_NR);

        qatomic_set(&s->gen, s->gen + 1);
        smp_wmb(); /* gen is odd before anything that was to stay goes */
        while (bfn_table_next_run(s->t, ARENA_BFN, ARENA_BFN + ARENA_NR,
                                  &rest)) {
            g_assert_cmpuint(rest.nr, ==, 1);
            g_assert_cmphex(rest.gfn, ==, run.gfn + (rest.bfn - ARENA_BFN));
            bfn_table_unmap(s->t, rest.bfn, rest.nr);
        }
        gens++;
    } while (g_get_monotonic_time() < end);

    qatomic_set(&s->stop, true);
    for (int i = 0; i < ARRAY_SIZE(readers); i++) {
        qemu_thread_join(&readers[i].thread);
    }
    g_test_message("%u generations, %" PRIu64 " lookups", gens, s->lookups);
    bfn_table_free(s->t);
    g_assert_cmpuint(budget.nodes, ==, 0);
    xen_pviommu_budget_destroy(&budget);
    rcu_barrier();
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_random_set_seed(g_test_rand_int());
    g_test_add_func("/bfn-table/readers-see-no-frame-that-is-gone",
                    test_readers_see_no_frame_that_is_gone);
    return g_test_run();
}
