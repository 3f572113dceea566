/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What it takes QEMU to let go of pages that leave a guest: page by page, and
 * all at once as Xen has it
 *
 * For tests/bench/parts/invalidation.py: a line of JSON a measurement.
 * Machines under the simulated hypervisor (tests/xensim) take turns. Two ask
 * to be told page by page; one of them under a Linux that does not let QEMU
 * replace a part of a mapping, as newer ones, the other under one that does.
 * A third one finds that the hypervisor can't tell. All run the same QEMU.
 * Times of ioreqs are taken by the simulator, from the request to the answer.
 * Pages stay where the simulator has them: QEMU does not look before it uses
 * one again, and none that left is used.
 */

#include "qemu/osdep.h"
#include "qemu/timer.h"
#include "qemu/units.h"
#include "libqos/xensim.h"

/* What a ring holds; a hypercall that takes more away waits in between. */
#define BATCH           511
#define PAGES_A_MIB     256
/* Not before this, where firmware and low memory are. */
#define FIRST_MIB       16
/* Beside what is given and what is in use. */
#define SPARE_MIB       64
/* Pages that leave at a time are from this many MiB. */
#define STALL_MIB       64

static int opt_rounds = 3, opt_give = 1024, opt_use = 256;

typedef struct Subject {
    const char *name, *features;
    bool per_page;
    XenSim *sim;
    uint64_t entries;           /* in the ring, ever */
    uint64_t *order;            /* pages to give, as GFNs */
} Subject;

static Subject subjects[] = {
    { .name = "page by page", .features = "invalidate-page,whole-maps",
      .per_page = true },
    { .name = "older Linux", .features = "invalidate-page", .per_page = true },
    { .name = "everything", .features = "whole-maps" },
};

static void result(const Subject *s, const char *op, const char *params,
                   double value, const char *unit)
{
    printf("{\"op\": \"%s\", \"subject\": \"%s\", %s\"unit\": \"%s\", "
           "\"value\": %.6g}\n", op, s->name, params, unit, value);
    fflush(stdout);
}

/* A page of each of @nr MiB is used, through the mapcache. */
static int64_t use(Subject *s, unsigned first_mib, unsigned nr)
{
    int64_t start = get_clock();

    for (unsigned i = 0; i < nr; i++) {
        qtest_writeq(s->sim->qts, (uint64_t)(first_mib + i) * MiB, i);
    }
    return get_clock() - start;
}

/* Pages have left: QEMU is notified. Returns: how long the guest waits. */
static uint64_t announce(Subject *s, const uint64_t *gfns, unsigned nr)
{
    if (!s->per_page) {
        xensim_invalidate_all(s->sim);
    } else if (nr == 1) {
        xensim_invalidate(s->sim, gfns[0], 1);
    } else {
        for (unsigned i = 0; i < nr; i++) {
            g_assert_true(xensim_buffer_invalidate(s->sim, gfns[i],
                                                   XEN_INVALIDATE_PAGE_4K));
        }
        s->entries += nr;
        xensim_barrier(s->sim, s->entries);
    }
    return xensim_took(s->sim, 0);
}

/* With @mib of the guest in the mapcache, @nr pages of it leave. */
static void stall(Subject *s, const char *op, unsigned mib, unsigned nr)
{
    g_autofree char *params = g_strdup_printf("\"mapped_mib\": %u, ", mib);
    g_autofree uint64_t *gfns = g_new(uint64_t, nr);

    /* Nothing but that. */
    xensim_invalidate_all(s->sim);
    use(s, FIRST_MIB, mib);
    for (unsigned i = 0; i < nr; i++) {
        gfns[i] = (FIRST_MIB + i % STALL_MIB) * PAGES_A_MIB + 1 + i / STALL_MIB;
    }
    result(s, op, params, announce(s, gfns, nr), "ns");
}

static uint64_t calls(Subject *s)
{
    return xensim_count(s->sim, "xenforeignmemory_map2") +
           xensim_count(s->sim, "xenforeignmemory_unmap");
}

/* The guest gives memory, and its devices use other memory meanwhile. */
static void balloon(Subject *s, const char *order)
{
    g_autofree char *params = g_strdup_printf("\"order\": \"%s\", ", order);
    unsigned nr = opt_give * PAGES_A_MIB, used_mib = FIRST_MIB + opt_give;
    int64_t waited = 0, late = 0, longest = 0;
    uint64_t before;

    /* All of it was in use once; then the rest goes on being so. */
    use(s, FIRST_MIB, opt_give + opt_use);
    use(s, used_mib, opt_use);
    before = calls(s);
    for (unsigned i = 0; i < nr; i += BATCH) {
        unsigned n = MIN(BATCH, nr - i);
        int64_t usual, took;

        /* Each time, as the machine is now faster and now slower. */
        usual = use(s, used_mib, opt_use);
        took = announce(s, s->order + i, n);
        waited += took;
        longest = MAX(longest, took);
        late += use(s, used_mib, opt_use) - usual;
    }
    /* Nothing gets faster by it: what is below is noise. */
    late = MAX(late, 0);
    result(s, "waited", params, waited, "ns");
    result(s, "late", params, late, "ns");
    result(s, "total", params, waited + late, "ns");
    result(s, "longest", params, longest, "ns");
    result(s, "calls", params, calls(s) - before, "calls");
}

/* The same order for all. */
static void set_order(bool random)
{
    unsigned nr = opt_give * PAGES_A_MIB;
    g_autoptr(GRand) rand = g_rand_new_with_seed(1);
    uint64_t *order = subjects[0].order;

    for (unsigned i = 0; i < nr; i++) {
        order[i] = FIRST_MIB * PAGES_A_MIB + i;
    }
    for (unsigned i = nr - 1; random && i; i--) {
        unsigned other = g_rand_int_range(rand, 0, i + 1);
        uint64_t gfn = order[i];

        order[i] = order[other];
        order[other] = gfn;
    }
    for (int i = 1; i < G_N_ELEMENTS(subjects); i++) {
        memcpy(subjects[i].order, order, nr * sizeof(*order));
    }
}

#define FOR_SUBJECTS(s) \
    for (Subject *s = subjects; s < subjects + G_N_ELEMENTS(subjects); s++)

int main(int argc, char **argv)
{
    static const unsigned mapped[] = { STALL_MIB, 256, 1024 };
    static const char *const orders[] = { "in order", "random" };
    GOptionEntry options[] = {
        { "rounds", 0, 0, G_OPTION_ARG_INT, &opt_rounds,
          "samples of each", "N" },
        { "give", 0, 0, G_OPTION_ARG_INT, &opt_give,
          "MiB that leave the guest", "N" },
        { "use", 0, 0, G_OPTION_ARG_INT, &opt_use,
          "pages, of as many MiB, that are in use meanwhile", "N" },
        { }
    };
    g_autoptr(GOptionContext) context = g_option_context_new(NULL);
    g_autoptr(GError) error = NULL;

    g_option_context_add_main_entries(context, options, NULL);
    if (!g_option_context_parse(context, &argc, &argv, &error) ||
        opt_rounds < 1 || opt_give < 1 || opt_use < 1 ||
        opt_give + opt_use > 3072) {
        fprintf(stderr, "%s\n", error ? error->message : "out of range");
        return 1;
    }
    FOR_SUBJECTS(s) {
        XenSimOptions o = {
            .features = s->features, .trust = true,
            .ram_mb = FIRST_MIB + MAX(opt_give + opt_use, 1024) + SPARE_MIB,
        };

        s->sim = xensim_start(&o, NULL);
        s->order = g_new(uint64_t, opt_give * PAGES_A_MIB);
    }
    for (int round = 0; round < opt_rounds; round++) {
        for (int i = 0; i < G_N_ELEMENTS(mapped); i++) {
            FOR_SUBJECTS(s) {
                stall(s, "one", mapped[i], 1);
            }
            FOR_SUBJECTS(s) {
                stall(s, "batch", mapped[i], BATCH);
            }
        }
        for (int i = 0; i < G_N_ELEMENTS(orders); i++) {
            set_order(i == 1);
            FOR_SUBJECTS(s) {
                balloon(s, orders[i]);
            }
        }
    }
    FOR_SUBJECTS(s) {
        xensim_quit(s->sim);
        g_free(s->order);
    }
    return 0;
}
