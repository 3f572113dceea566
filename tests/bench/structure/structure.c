/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What translate, map, unmap, lookup and invalidate cost, beside what else
 * QEMU has for that
 *
 * For tests/bench/structure.py: a line of JSON a measurement. All structures
 * are filled in one process and take turns, round after round, so that what
 * disturbs the machine disturbs them alike. With --check nothing is timed:
 * TAP says whether what is measured is right.
 */

#include "qemu/osdep.h"
#include "qemu/atomic.h"
#include "qemu/error-report.h"
#include "qemu/host-utils.h"
#include "qemu/rcu.h"
#include "qemu/thread.h"
#include "qemu/timer.h"
#include "qemu/units.h"
#include <malloc.h>
#include <sched.h>
#include "../../../hw/xen/pviommu/core/node-pool.h"
#include "structure.h"

/* As long as a random walk is at least: no predictor learns it. */
#define NR_RANDOM 1000000u

/* Unmapped at a time; divides --n, so that no position is in it twice. */
#define BATCH 250

/* Larger than the caches, and than what the TLB knows. */
#define COLD_BYTES (64 * MiB)
#define COLD_COUNT 25           /* divides BATCH */
#define COLD_SWEEPS 8

#define MAX_READERS 16
#define READER_CHUNK 250
#define WRITER_CHUNK 50

/* Where nothing is mapped, for ranges: beyond all positions. */
#define RANGE_BFN (1ull << 32)
#define RANGE_GFN (1ull << 28)

static const Structure *const structures[] = {
    &structure_none,
    &structure_array,
    &structure_tables,
    &structure_context,
    &structure_gtree,
    &structure_iova_tree,
    &structure_interval_tree,
};

static const char *const op_names[NR_OPS] = {
    "translate", "lookup", "find", "map", "unmap", "strict", "invalidate",
    "rcu",
};

static const char *const order_names[NR_ORDERS] = {
    "sequential", "random", "chained",
};

static const uint64_t range_sizes[] = {
    1, 8, 64, 512, 4096, 1 << 15, 1 << 18, 1 << 21, 1 << 24, 1 << 27,
};

static int opt_n = 1000, opt_rounds = 5, opt_ms = 20, opt_readers = 4;
static char *opt_structures, *opt_what;
static gboolean opt_check;

/* A structure that is filled. */
typedef struct Subject {
    const Structure *st;
    void *s;
    /* How far walks came: what was visited lately may be in a cache. */
    uint64_t at;
} Subject;

static Shape shape;
static uint32_t *random_pos;
static uint64_t nr_random;
static Subject subjects[ARRAY_SIZE(structures)];
static unsigned nr_subjects;
/* volatile: what is read from it is nothing that a compiler knows. */
static volatile uint64_t zero;

/* Quick, and the same each time: xorshift64*. */
static uint64_t random_below(uint64_t limit)
{
    static uint64_t state = 0x9e3779b97f4a7c15;

    state ^= state >> 12;
    state ^= state << 25;
    state ^= state >> 27;
    return (state * 0x2545f4914f6cdd1d >> 11) % limit;
}

static void shuffle(uint32_t *pos, uint64_t n)
{
    for (uint64_t i = n - 1; i; i--) {
        uint64_t j = random_below(i + 1);
        uint32_t tmp = pos[i];

        pos[i] = pos[j];
        pos[j] = tmp;
    }
}

/* Random positions: whole permutations of all, one after the other. */
static void shape_init(uint64_t n)
{
    uint64_t whole = MAX(NR_RANDOM / n, 1) * n;

    shape.n = n;
    shape.shift = ctz64(n);
    shape.rows = n >> shape.shift;
    random_pos = g_new(uint32_t, whole);
    for (uint64_t base = 0; base < whole; base += n) {
        for (uint64_t i = 0; i < n; i++) {
            random_pos[base + i] = i;
        }
        shuffle(random_pos + base, n);
    }
    nr_random = whole;
}

static Walk walk_new(Order order, uint64_t at)
{
    at %= order == ORDER_SEQUENTIAL ? shape.n : nr_random;
    return (Walk) {
        .shape = &shape,
        .order = order,
        .random = random_pos,
        .nr_random = nr_random,
        .at = at,
        .zero = zero,
    };
}

/*
 * The time that this thread had a processor, in ns: what else runs makes it
 * longer only through the caches. It takes a while to ask for it.
 */
static int64_t clock_cost;

static int64_t clock_now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return t.tv_sec * NANOSECONDS_PER_SECOND + t.tv_nsec;
}

static int64_t clock_since(int64_t start)
{
    return MAX(clock_now() - start - clock_cost, 0);
}

static void clock_calibrate(void)
{
    int64_t least = INT64_MAX;

    clock_cost = 0;
    for (int i = 0; i < 10000; i++) {
        int64_t start = clock_now();

        least = MIN(least, clock_since(start));
    }
    clock_cost = least;
}

static size_t heap_bytes(void)
{
    struct mallinfo2 info = mallinfo2();

    return info.uordblks + info.hblkhd +
           node_pool_nodes() * NODE_POOL_NODE_SIZE;
}

/* Run, look whether all the results are right, and return the ns it took. */
static int64_t run(const Subject *sub, Op op, Walk *walk, uint64_t count)
{
    Walk same = *walk;
    uint64_t right = structure_none.loop[op](NULL, &same, count);
    int64_t start = clock_now(), ns;
    uint64_t sum = sub->st->loop[op](sub->s, walk, count);

    ns = clock_since(start);
    if (sum != right) {
        error_report("%s: %s, %s: wrong results", sub->st->name, op_names[op],
                     order_names[walk->order]);
        abort();
    }
    return ns;
}

/* A line of JSON; @more are further members, each with a comma before it. */
static void G_GNUC_PRINTF(5, 6)
report(const char *op, const Structure *st, double value, const char *unit,
       const char *more, ...)
{
    va_list ap;

    printf("{\"op\": \"%s\", \"structure\": \"%s\", \"n\": %" PRIu64
           ", \"value\": %.4g, \"unit\": \"%s\"", op, st->name, shape.n,
           value, unit);
    va_start(ap, more);
    vprintf(more, ap);
    va_end(ap);
    puts("}");
    fflush(stdout);
}

static void report_order(Op op, Order order, const Structure *st, double ns)
{
    report(op_names[op], st, ns, "ns", ", \"order\": \"%s\"",
           order_names[order]);
}

/* --- one thread ---------------------------------------------------------- */

/* Goes on where the last walk of @sub ended, in whole batches. */
static int64_t run_on(Subject *sub, Op op, Order order, uint64_t count)
{
    Walk walk = walk_new(order, sub->at);
    int64_t ns = run(sub, op, &walk, count);

    sub->at = QEMU_ALIGN_UP(walk.at, BATCH);
    return ns;
}

/* How often it can be done in the time of a measurement. */
static uint64_t calibrate(Subject *sub, Op op, Order order)
{
    int64_t goal = opt_ms * SCALE_MS, ns;
    uint64_t count = 1;

    while ((ns = run_on(sub, op, order, count)) < goal / 8) {
        count *= ns < goal / 64 ? 8 : 2;
    }
    return MAX(count * goal / MAX(ns, 1), 1);
}

/* What changes nothing in the end. */
static void bench_op(Op op, Order order)
{
    uint64_t count[ARRAY_SIZE(structures)] = {};

    for (unsigned i = 0; i < nr_subjects; i++) {
        if (subjects[i].st->loop[op]) {
            count[i] = calibrate(&subjects[i], op, order);
        }
    }
    for (int r = 0; r < opt_rounds; r++) {
        for (unsigned i = 0; i < nr_subjects; i++) {
            if (count[i]) {
                int64_t ns = run_on(&subjects[i], op, order, count[i]);

                report_order(op, order, subjects[i].st, (double)ns / count[i]);
            }
        }
    }
}

typedef struct Phases {
    int64_t take;               /* unmap or invalidate; ns */
    int64_t flush;
    int64_t map;
} Phases;

/* Takes @count positions away, flushes, and maps them again. */
static void run_batch(const Subject *sub, Op take, Walk *walk, uint64_t count,
                      Phases *sum)
{
    Walk again = *walk;

    sum->take += run(sub, take, walk, count);
    if (sub->st->flush) {
        int64_t start = clock_now();

        sub->st->flush(sub->s);
        sum->flush += clock_since(start);
    }
    sum->map += run(sub, OP_MAP, &again, count);
}

/* Where invalidate has to search all there is, one is enough. */
static void bench_batches(Op take, Order order)
{
    for (int r = 0; r < opt_rounds; r++) {
        for (unsigned i = 0; i < nr_subjects; i++) {
            Subject *sub = &subjects[i];
            Walk walk = walk_new(order, sub->at);
            bool search = take == OP_INVALIDATE && sub->st->loop[OP_FIND] &&
                          !sub->st->lockless;
            uint64_t batch = search ? 1 : BATCH, done = 0;
            Phases sum = {};

            if (!sub->st->loop[take]) {
                continue;
            }
            do {
                run_batch(sub, take, &walk, batch, &sum);
                done += batch;
            } while (sum.take + sum.flush + sum.map < opt_ms * SCALE_MS);
            sub->at = QEMU_ALIGN_UP(walk.at, BATCH);
            report_order(take, order, sub->st, (double)sum.take / done);
            if (take == OP_UNMAP) {
                report_order(OP_MAP, order, sub->st, (double)sum.map / done);
                report("flush", sub->st, (double)sum.flush / done, "ns",
                       ", \"order\": \"%s\"", order_names[order]);
            }
        }
    }
}

/* Unmap, and map what was unmapped a batch before; a flush for each batch. */
static int64_t run_lazy(Subject *sub, Order order, unsigned batches)
{
    Walk out = walk_new(order, sub->at), in = out;
    uint64_t count = batches * BATCH, done = 0;
    int64_t start = clock_now(), ns;

    for (uint64_t i = 0; i < count; i++) {
        done += sub->st->loop[OP_UNMAP](sub->s, &out, 1);
        if (i >= BATCH) {
            done += sub->st->loop[OP_MAP](sub->s, &in, 1);
        }
        if (i % BATCH == BATCH - 1 && sub->st->flush) {
            sub->st->flush(sub->s);
        }
    }
    done += sub->st->loop[OP_MAP](sub->s, &in, BATCH);
    ns = clock_since(start);
    if (done != 2 * count) {
        error_report("%s: lazy: wrong results", sub->st->name);
        abort();
    }
    sub->at = out.at;
    return ns;
}

static void bench_lazy(Order order)
{
    /* Within a permutation, so that no position is unmapped twice. */
    unsigned batches = MIN(shape.n / BATCH, 16);

    for (int r = 0; r < opt_rounds; r++) {
        for (unsigned i = 0; i < nr_subjects; i++) {
            Subject *sub = &subjects[i];
            uint64_t done = 0;
            int64_t ns = 0;

            sub->at = QEMU_ALIGN_UP(sub->at, batches * BATCH);
            do {
                ns += run_lazy(sub, order, batches);
                done += batches * BATCH;
            } while (ns < opt_ms * SCALE_MS);
            report("lazy", sub->st, (double)ns / done, "ns",
                   ", \"order\": \"%s\"", order_names[order]);
        }
    }
}

/* The first ones after all else has gone from the caches. */
static void bench_cold(Op op)
{
    g_autofree uint64_t *sweep = g_malloc0(COLD_BYTES);

    for (int r = 0; r < opt_rounds * COLD_SWEEPS; r++) {
        for (unsigned i = 0; i < nr_subjects; i++) {
            int64_t ns;

            if (!subjects[i].st->loop[op]) {
                continue;
            }
            for (size_t j = 0; j < COLD_BYTES / sizeof(*sweep); j += 8) {
                sweep[j]++;
            }
            ns = run_on(&subjects[i], op, ORDER_CHAINED, COLD_COUNT);
            report(op_names[op], subjects[i].st, (double)ns / COLD_COUNT, "ns",
                   ", \"order\": \"cold\"");
        }
    }
}

/* What a range of many pages costs, mapped and unmapped as one. */
static void bench_ranges(void)
{
    for (int aligned = 0; aligned < 2; aligned++) {
        uint64_t bfn = RANGE_BFN + (aligned ? 0 : 3);
        uint64_t gfn = RANGE_GFN + (aligned ? 0 : 5);

        for (int r = 0; r < opt_rounds; r++) {
            for (int k = 0; k < ARRAY_SIZE(range_sizes); k++) {
                uint64_t nr = range_sizes[k];

                for (unsigned i = 0; i < nr_subjects; i++) {
                    const Subject *sub = &subjects[i];
                    int64_t start = clock_now(), ns;
                    uint64_t count = 0;

                    if (!sub->st->map_range) {
                        continue;
                    }
                    do {
                        for (int j = 0; j < 10; j++, count++) {
                            if (!sub->st->map_range(sub->s, bfn, gfn, nr) ||
                                !sub->st->unmap_range(sub->s, bfn, nr)) {
                                error_report("%s: range of %" PRIu64 " failed",
                                             sub->st->name, nr);
                                abort();
                            }
                        }
                        ns = clock_since(start);
                    } while (ns < opt_ms * SCALE_MS / 4);
                    report("range", sub->st, (double)ns / count, "ns",
                           ", \"aligned\": %s, \"nr\": %" PRIu64,
                           aligned ? "true" : "false", nr);
                }
            }
        }
    }
}

/* What one range alone takes of memory. */
static void bench_range_bytes(void)
{
    for (int aligned = 0; aligned < 2; aligned++) {
        for (int k = 0; k < ARRAY_SIZE(range_sizes); k++) {
            for (unsigned i = 0; i < nr_subjects; i++) {
                const Structure *st = subjects[i].st;
                uint64_t nr = range_sizes[k];
                size_t before;
                void *s;
                bool ok;

                if (!st->map_range) {
                    continue;
                }
                s = st->new(&shape);
                before = heap_bytes();
                ok = st->map_range(s, RANGE_BFN + (aligned ? 0 : 3),
                                   RANGE_GFN + (aligned ? 0 : 5), nr);
                g_assert(ok);
                report("range_bytes", st, heap_bytes() - before, "bytes",
                       ", \"aligned\": %s, \"nr\": %" PRIu64,
                       aligned ? "true" : "false", nr);
                st->free(s);
            }
        }
    }
}

/* --- readers and a writer ------------------------------------------------ */

typedef struct Worker {
    QemuThread thread;
    const Subject *sub;
    Walk walk;
    unsigned cpu;               /* of those we may use */
    uint64_t done;
} Worker;

static bool workers_go, workers_stop;
static cpu_set_t cpus_allowed;

/* On the @nr-th of the processors that we may use, from 0 and around. */
static void pin_to(unsigned nr)
{
    cpu_set_t one;
    int cpu = 0;

    nr %= CPU_COUNT(&cpus_allowed);
    while (!CPU_ISSET(cpu, &cpus_allowed) || nr--) {
        cpu++;
    }
    CPU_ZERO(&one);
    CPU_SET(cpu, &one);
    sched_setaffinity(0, sizeof(one), &one);
}

/* A frame that a writer takes away and gives back is there, or it is not. */
static void check_one(Worker *w)
{
    Walk same = w->walk;
    uint64_t got = w->sub->st->loop[OP_TRANSLATE](w->sub->s, &w->walk, 1);

    g_assert(got == NOTHING ||
             got == structure_none.loop[OP_TRANSLATE](NULL, &same, 1));
}

static void *reader(void *opaque)
{
    Worker *w = opaque;

    rcu_register_thread();
    pin_to(w->cpu);
    while (!qatomic_read(&workers_go)) {
        g_thread_yield();
    }
    while (!qatomic_read(&workers_stop)) {
        if (opt_check) {
            check_one(w);
            w->done++;
        } else {
            w->sub->st->loop[OP_TRANSLATE](w->sub->s, &w->walk, READER_CHUNK);
            w->done += READER_CHUNK;
        }
    }
    rcu_unregister_thread();
    return NULL;
}

static void *writer(void *opaque)
{
    Worker *w = opaque;

    rcu_register_thread();
    pin_to(w->cpu);
    while (!qatomic_read(&workers_go)) {
        g_thread_yield();
    }
    while (!qatomic_read(&workers_stop)) {
        run(w->sub, OP_STRICT, &w->walk, WRITER_CHUNK);
        w->done += WRITER_CHUNK;
    }
    rcu_unregister_thread();
    return NULL;
}

/* Returns what all readers did in a second; of a writer too in @written. */
static double run_readers(const Subject *sub, unsigned nr, bool writing,
                          double *written)
{
    g_autofree Worker *w = g_new0(Worker, nr + 1);
    uint64_t sum = 0;
    int64_t start, ns;

    qatomic_set(&workers_go, false);
    qatomic_set(&workers_stop, false);
    for (unsigned i = 0; i <= nr; i++) {
        bool is_reader = i < nr;

        w[i].sub = sub;
        w[i].walk = walk_new(ORDER_RANDOM, random_below(nr_random));
        /* The first reader is not where the writer is. */
        w[i].cpu = is_reader ? i : CPU_COUNT(&cpus_allowed) - 1;
        if (is_reader || writing) {
            qemu_thread_create(&w[i].thread, is_reader ? "reader" : "writer",
                               is_reader ? reader : writer, &w[i],
                               QEMU_THREAD_JOINABLE);
        }
    }
    /* They all run by then. */
    g_usleep(2000);
    start = get_clock();
    qatomic_set(&workers_go, true);
    g_usleep(opt_ms * 3 * 1000);
    qatomic_set(&workers_stop, true);
    ns = get_clock() - start;
    for (unsigned i = 0; i < nr + writing; i++) {
        qemu_thread_join(&w[i].thread);
        sum += i < nr ? w[i].done : 0;
    }
    *written = (double)w[nr].done / ns * NANOSECONDS_PER_SECOND;
    return (double)sum / ns * NANOSECONDS_PER_SECOND;
}

static void bench_readers(void)
{
    for (int writing = 0; writing < 2; writing++) {
        for (int nr = 1; nr <= opt_readers; nr++) {
            for (int r = 0; r < opt_rounds; r++) {
                for (unsigned i = 0; i < nr_subjects; i++) {
                    const Structure *st = subjects[i].st;
                    double written;
                    double rate = run_readers(&subjects[i], nr, writing,
                                              &written);

                    report("readers", st, rate, "1/s",
                           ", \"readers\": %d, \"writer\": %s", nr,
                           writing ? "true" : "false");
                    if (writing) {
                        report("writer", st, written, "1/s",
                               ", \"readers\": %d", nr);
                    }
                }
            }
        }
    }
}

/* --- all of it ----------------------------------------------------------- */

static bool listed(const char *list, const char *name)
{
    g_auto(GStrv) names = NULL;

    if (!list) {
        return true;
    }
    names = g_strsplit(list, ",", -1);
    return g_strv_contains((const char *const *)names, name);
}

/* Fills in random order, as after a long time of mapping and unmapping. */
static void fill(void)
{
    for (int i = 0; i < ARRAY_SIZE(structures); i++) {
        Subject *sub = &subjects[nr_subjects];
        Walk walk = walk_new(ORDER_RANDOM, 0);
        size_t before, bytes;
        int64_t ns;

        if (!listed(opt_structures, structures[i]->name)) {
            continue;
        }
        walk.nr_random = shape.n;
        before = heap_bytes();
        sub->st = structures[i];
        sub->s = sub->st->new(&shape);
        ns = run(sub, OP_MAP, &walk, shape.n);
        bytes = heap_bytes() - before;
        report("fill", sub->st, (double)ns / shape.n, "ns", "%s", "");
        report("bytes", sub->st, (double)bytes / shape.n, "bytes", "%s", "");
        nr_subjects++;
    }
}

static void bench(void)
{
    pin_to(0);
    clock_calibrate();
    fill();
    if (listed(opt_what, "read")) {
        for (Order order = 0; order < NR_ORDERS; order++) {
            bench_op(OP_TRANSLATE, order);
        }
        bench_cold(OP_TRANSLATE);
        bench_op(OP_RCU, ORDER_RANDOM);
        bench_op(OP_LOOKUP, ORDER_RANDOM);
        bench_op(OP_FIND, ORDER_RANDOM);
    }
    if (listed(opt_what, "write")) {
        for (Order order = 0; order <= ORDER_RANDOM; order++) {
            bench_op(OP_STRICT, order);
            bench_lazy(order);
            bench_batches(OP_UNMAP, order);
            bench_batches(OP_INVALIDATE, order);
        }
        bench_cold(OP_STRICT);
    }
    if (listed(opt_what, "range")) {
        bench_ranges();
        bench_range_bytes();
    }
    if (listed(opt_what, "readers")) {
        bench_readers();
    }
    for (unsigned i = 0; i < nr_subjects; i++) {
        subjects[i].st->free(subjects[i].s);
    }
}

/* --- is it right? -------------------------------------------------------- */

static uint64_t one(const Subject *sub, Op op, uint64_t pos)
{
    Walk walk = walk_new(ORDER_SEQUENTIAL, 0);

    walk.at = pos;
    return sub->st->loop[op](sub->s, &walk, 1);
}

static void test_structure(const void *opaque)
{
    Subject sub = { .st = opaque };
    Walk walk = walk_new(ORDER_RANDOM, 0);
    Phases phases = {};
    double done = 0, written = 0;

    sub.s = sub.st->new(&shape);
    g_assert(one(&sub, OP_TRANSLATE, 1) == NOTHING);
    run(&sub, OP_MAP, &walk, shape.n);
    for (Order order = 0; order < NR_ORDERS; order++) {
        for (Op op = 0; op < NR_OPS; op++) {
            walk = walk_new(order, 0);
            if (!sub.st->loop[op] || op == OP_MAP) {
                continue;
            } else if (op == OP_UNMAP || op == OP_INVALIDATE) {
                run_batch(&sub, op, &walk, BATCH, &phases);
                sub.at = 0;
                run_lazy(&sub, order, shape.n / BATCH);
            } else {
                run(&sub, op, &walk, shape.n);
            }
        }
    }
    one(&sub, OP_UNMAP, 7);
    g_assert(one(&sub, OP_TRANSLATE, 7) == NOTHING);
    g_assert(one(&sub, OP_TRANSLATE, 6) == gfn_of(&shape, 6));
    if (sub.st->loop[OP_FIND]) {
        g_assert(one(&sub, OP_FIND, 7) == NOTHING);
        g_assert(one(&sub, OP_FIND, 8) == bfn_of(8));
    }
    if (sub.st->flush) {
        sub.st->flush(sub.s);
    }
    g_assert(one(&sub, OP_MAP, 7) == 1);
    if (sub.st->map_range) {
        g_assert(sub.st->map_range(sub.s, RANGE_BFN, RANGE_GFN, 1 << 21));
        g_assert(!sub.st->map_range(sub.s, RANGE_BFN + 5, RANGE_GFN, 1));
        g_assert(one(&sub, OP_TRANSLATE, RANGE_BFN + 77 - BFN_BASE) ==
                 RANGE_GFN + 77);
        g_assert(sub.st->unmap_range(sub.s, RANGE_BFN, 1 << 21));
        g_assert(one(&sub, OP_TRANSLATE, RANGE_BFN - BFN_BASE) == NOTHING);
    }
    /* On a busy machine somebody may not have had a turn in the time. */
    for (int i = 0; i < 1000 && !(done && written); i++) {
        done = run_readers(&sub, 2, true, &written);
    }
    g_assert(done > 0);
    g_assert(written > 0);
    sub.st->free(sub.s);
}

static const GOptionEntry entries[] = {
    { "n", 0, 0, G_OPTION_ARG_INT, &opt_n, "positions mapped", "N" },
    { "rounds", 0, 0, G_OPTION_ARG_INT, &opt_rounds,
      "measurements of each", "N" },
    { "ms", 0, 0, G_OPTION_ARG_INT, &opt_ms, "of a measurement, about", "MS" },
    { "readers", 0, 0, G_OPTION_ARG_INT, &opt_readers,
      "threads at the most", "N" },
    { "structures", 0, 0, G_OPTION_ARG_STRING, &opt_structures,
      "these only", "NAME,..." },
    { "what", 0, 0, G_OPTION_ARG_STRING, &opt_what,
      "these only", "read,write,range,readers" },
    { "check", 0, 0, G_OPTION_ARG_NONE, &opt_check,
      "measure nothing: say whether all is right (TAP)", NULL },
    {}
};

int main(int argc, char **argv)
{
    g_autoptr(GOptionContext) context = g_option_context_new(NULL);
    g_autoptr(GError) err = NULL;

    g_option_context_add_main_entries(context, entries, NULL);
    g_option_context_set_ignore_unknown_options(context, true);
    if (!g_option_context_parse(context, &argc, &argv, &err)) {
        error_report("%s", err->message);
        return 1;
    }
    if (opt_n < BATCH || opt_n % BATCH || opt_n > 100000000) {
        error_report("--n must be a multiple of %d", BATCH);
        return 1;
    }
    if (sched_getaffinity(0, sizeof(cpus_allowed), &cpus_allowed)) {
        error_report("sched_getaffinity: %s", strerror(errno));
        return 1;
    }
    opt_readers = MIN(opt_readers, MAX_READERS);
    shape_init(opt_n);
    if (!opt_check) {
        bench();
        return 0;
    }
    g_test_init(&argc, &argv, NULL);
    /* "none" has nothing in it. */
    for (int i = 1; i < ARRAY_SIZE(structures); i++) {
        g_autofree char *path = g_strdup_printf("/bench-structure/%s",
                                                structures[i]->name);

        g_test_add_data_func(path, structures[i], test_structure);
    }
    return g_test_run();
}
