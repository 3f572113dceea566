/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * How long one action of a hostile guest, a reset, or a query keeps QEMU's
 * main loop
 *
 * For tests/bench/parts/holds.py: a line of JSON a measurement. What is
 * measured is the CPU time that the QEMU process spends on one register write,
 * or one QMP command: the BQL is held for all of it, and the device's lock for
 * most. Each action is the dearest that could be thought of, prepared with as
 * many mappings as the limits allow.
 */

#include "qemu/osdep.h"
#include "qemu/bswap.h"
#include "qemu/timer.h"
#include "qapi/error.h"
#include "qobject/qdict.h"
#include "qobject/qjson.h"
#include "libqos/virtio-ram.h"

#define GFN             PVIOMMU_FREE_GFN
#define NR_GFNS         (PVIOMMU_RAM_GFNS - GFN)
#define BFN             0x1000000ull
#define OP_SIZE         sizeof(struct xen_iommu_op)
#define BATCH           4096
#define ACTIONS_MAX     100000
#define BALLOON_SLOT    0x14

static int opt_mappings = 400000;

static QXenPVIOMMU *iommu;
static clockid_t qemu_clock;

static int64_t cpu_time(void)
{
    struct timespec ts;

    clock_gettime(qemu_clock, &ts);
    return ts.tv_sec * NANOSECONDS_PER_SECOND + ts.tv_nsec;
}

/* What goes on by itself - RCU, freeing - does not count for the action. */
static void wait_until_idle(void)
{
    int64_t before;

    do {
        before = cpu_time();
        g_usleep(50 * 1000);
    } while (cpu_time() - before > NANOSECONDS_PER_SECOND / 1000);
}

static void result(const char *what, int64_t longest, int64_t total,
                   unsigned actions)
{
    printf("{\"what\": \"%s\", \"longest\": %" PRId64 ", \"total\": %" PRId64
           ", \"actions\": %u}\n", what, longest, total, actions);
    fflush(stdout);
}

static void start(void)
{
    iommu = pviommu_start("q35", "x-check=off",
                          "-device virtio-balloon-pci,addr=14 ");
    clock_getcpuclockid(qtest_pid(iommu->qts), &qemu_clock);
    pviommu_accept(iommu, XEN_IOMMU_FEATURES_ALL);
}

/* Ring until all of it has run: the longest of the calls. */
static void measure_ops(const char *what, struct xen_iommu_op *ops, unsigned nr)
{
    int64_t longest = 0, total = 0;
    unsigned pos = 0, calls = 0;

    wait_until_idle();
    pviommu_store_ops(iommu, PVIOMMU_OPS_ADDR, ops, nr);
    while (pos < nr && calls < ACTIONS_MAX) {
        uint64_t block = XEN_PVIOMMU_BLOCKS;
        int64_t took;

        pviommu_writeq(iommu, block + XEN_PVIOMMU_BLOCK_ARRAY,
                       PVIOMMU_OPS_ADDR + pos * OP_SIZE);
        took = cpu_time();
        pviommu_writel(iommu, block + XEN_PVIOMMU_BLOCK_DOORBELL, nr - pos);
        took = cpu_time() - took;
        longest = MAX(longest, took);
        total += took;
        calls++;
        pos += pviommu_readl(iommu, block + XEN_PVIOMMU_BLOCK_DONE);
    }
    pviommu_load_ops(iommu, PVIOMMU_OPS_ADDR, ops, nr);
    if (what) {
        result(what, longest, total, calls);
    }
}

static void measure_op(const char *what, struct xen_iommu_op op)
{
    measure_ops(what, &op, 1);
}

typedef struct xen_iommu_op OpFunc(uint16_t ctx, unsigned i);

/* Positions in no order: each is a miss of the caches. */
static unsigned shuffled(unsigned i)
{
    return (uint64_t)i * 2654435761u % opt_mappings;
}

/* GFNs of neighbours are no neighbours. */
static struct xen_iommu_op map_scattered(uint16_t ctx, unsigned i)
{
    unsigned n = shuffled(i);

    return pviommu_op_map(ctx, BFN + n,
                          GFN + (uint64_t)n * 40503 % NR_GFNS, 0, 0);
}

static struct xen_iommu_op map_in_order(uint16_t ctx, unsigned i)
{
    return pviommu_op_map(ctx, BFN + i, GFN + (uint64_t)i * 40503 % NR_GFNS, 0,
                          0);
}

/* One node of the table each */
static struct xen_iommu_op map_sparse(uint16_t ctx, unsigned i)
{
    return pviommu_op_map(ctx, BFN + ((uint64_t)i << 9),
                          GFN + (uint64_t)i * 40503 % NR_GFNS, 0, 0);
}

/* All of it is one run, of single pages. */
static struct xen_iommu_op map_alike(uint16_t ctx, unsigned i)
{
    return pviommu_op_map(ctx, BFN + i, GFN + i, 0, 0);
}

/* One page, at many places */
static struct xen_iommu_op map_page(uint16_t ctx, unsigned i)
{
    return pviommu_op_map(ctx, BFN + i * 2, GFN, 0, 0);
}

static struct xen_iommu_op unmap_page(uint16_t ctx, unsigned i)
{
    return pviommu_op_unmap(ctx, BFN + i * 2, 0);
}

/* How many of them succeeded */
static unsigned run_ops(OpFunc *func, uint16_t ctx, unsigned nr)
{
    static struct xen_iommu_op ops[BATCH];
    unsigned ok = 0;

    for (unsigned i = 0; i < nr; i += BATCH) {
        unsigned n = MIN(BATCH, nr - i);

        for (unsigned j = 0; j < n; j++) {
            ops[j] = func(ctx, i + j);
        }
        pviommu_run(iommu, ops, n);
        for (unsigned j = 0; j < n; j++) {
            ok += !pviommu_status(&ops[j]);
        }
    }
    return ok;
}

/* @args: of x-query-xen-pviommu@name, as JSON */
static void measure_query(const char *what, const char *name, const char *args)
{
    g_autofree char *command = g_strconcat("x-query-xen-pviommu", name, NULL);
    QObject *arguments = qobject_from_json(args, &error_abort);
    QDict *response;
    int64_t took;

    wait_until_idle();
    took = cpu_time();
    response = qtest_qmp_assert_success_ref(iommu->qts,
                                            "{'execute': %s, 'arguments': %p}",
                                            command, arguments);
    took = cpu_time() - took;
    qobject_unref(response);
    result(what, took, took, 1);
}

static void measure_reset(const char *what)
{
    int64_t took, total;

    wait_until_idle();
    took = total = cpu_time();
    qtest_system_reset(iommu->qts);
    took = cpu_time() - took;
    /* What it leaves is freed beside what else there is to do. */
    wait_until_idle();
    result(what, took, cpu_time() - total, 1);
    pviommu_probe(iommu);
    pviommu_accept(iommu, XEN_IOMMU_FEATURES_ALL);
}

static void measure_balloon(const char *what)
{
    QVirtioRam ram;
    int64_t took;

    virtio_ram_init(&ram, iommu, QPCI_DEVFN(BALLOON_SLOT, 0), 2);
    wait_until_idle();
    took = cpu_time();
    balloon_give(&ram, BALLOON_INFLATE, GFN, 1);
    took = cpu_time() - took;
    result(what, took, took, 1);
    virtio_ram_finalize(&ram);
}

static void test_unmaps(void)
{
    const unsigned nr = MIN(opt_mappings, 262144);
    uint16_t ctx;

    start();
    g_assert_cmpuint(run_ops(map_in_order, 0, nr), ==, nr);
    measure_op("unmap of single pages", pviommu_op_unmap(0, BFN, nr));
    measure_op("flush of that", pviommu_op_flush(0, XEN_IOMMU_FLUSH_ALL, 0));

    g_assert_cmpuint(run_ops(map_alike, 0, NR_GFNS), ==, NR_GFNS);
    measure_op("unmap of one run of single pages",
               pviommu_op_unmap(0, BFN, NR_GFNS));
    measure_op(NULL, pviommu_op_flush(0, XEN_IOMMU_FLUSH_ALL, 0));

    g_assert_cmpuint(run_ops(map_sparse, 0, nr), >, 0);
    measure_op("unmap of pages far apart",
               pviommu_op_unmap_skip(0, BFN, UINT32_MAX));
    measure_op(NULL, pviommu_op_flush(0, XEN_IOMMU_FLUSH_ALL, 0));

    /* A list of such operations */
    g_assert_cmpuint(run_ops(map_scattered, 0, opt_mappings), ==,
                     opt_mappings);
    {
        static struct xen_iommu_op ops[512];

        for (unsigned i = 0; i < ARRAY_SIZE(ops); i++) {
            ops[i] = pviommu_op_unmap(0, BFN + i * (nr / 512), nr / 512);
        }
        measure_ops("unmaps of single pages, a list of 512", ops,
                    ARRAY_SIZE(ops));
    }
    measure_op(NULL, pviommu_op_flush(0, XEN_IOMMU_FLUSH_ALL, 0));
    measure_op(NULL, pviommu_op_unmap_skip(0, 0, UINT32_MAX));
    measure_op(NULL, pviommu_op_flush(0, XEN_IOMMU_FLUSH_ALL, 0));

    ctx = pviommu_alloc_context(iommu);
    g_assert_cmpuint(run_ops(map_scattered, ctx, opt_mappings), ==,
                     opt_mappings);
    {
        int64_t longest = 0, total = 0, took;
        struct xen_iommu_op op = pviommu_op_free(ctx);
        unsigned calls = 0;

        wait_until_idle();
        do {
            pviommu_store_ops(iommu, PVIOMMU_OPS_ADDR, &op, 1);
            took = cpu_time();
            pviommu_ring(iommu, 0, PVIOMMU_OPS_ADDR, 1, NULL);
            took = cpu_time() - took;
            longest = MAX(longest, took);
            total += took;
            calls++;
            pviommu_load_ops(iommu, PVIOMMU_OPS_ADDR, &op, 1);
        } while (pviommu_status(&op) == -XEN_IOMMU_EAGAIN);
        result("free_context", longest, total, calls);
    }
    pviommu_quit(iommu);
}

static void test_resets(void)
{
    start();
    measure_reset("reset with nothing mapped");
    g_assert_cmpuint(run_ops(map_scattered, 0, opt_mappings), ==,
                     opt_mappings);
    measure_reset("reset");
    g_assert_cmpuint(run_ops(map_sparse, 0, opt_mappings), >, 0);
    measure_reset("reset of pages far apart");
    for (unsigned i = 0; i < 100; i++) {
        uint16_t ctx = pviommu_alloc_context(iommu);

        g_assert_cmpuint(run_ops(map_in_order, ctx, opt_mappings / 100), ==,
                         opt_mappings / 100);
    }
    measure_reset("reset of 100 contexts");
    pviommu_quit(iommu);
}

static void test_pages_and_queries(void)
{
    start();
    run_ops(map_page, 0, opt_mappings);
    measure_query("x-query-xen-pviommu-gfn, 1 place", "-gfn",
                  "{'gfn': 8192, 'max': 1}");
    measure_query("x-query-xen-pviommu-gfn, 512 places", "-gfn",
                  "{'gfn': 8192, 'max': 512}");
    measure_query("x-query-xen-pviommu-mappings, 64 runs", "-mappings",
                  "{'context': 0}");
    measure_query("x-query-xen-pviommu-mappings, 512 runs", "-mappings",
                  "{'context': 0, 'max': 512}");
    measure_query("x-query-xen-pviommu", "", "{}");
    measure_balloon("balloon, a page that is mapped often");

    run_ops(map_page, 0, MIN(opt_mappings, 262144));
    run_ops(unmap_page, 0, MIN(opt_mappings, 262144));
    measure_query("x-query-xen-pviommu-mappings, 512 pending runs",
                  "-mappings", "{'context': 0, 'max': 512}");
    measure_query("x-query-xen-pviommu-gfn, 512 pending places", "-gfn",
                  "{'gfn': 8192, 'max': 512}");
    measure_balloon("balloon, a page that waits for a flush often");
    pviommu_quit(iommu);
}

int main(int argc, char **argv)
{
    GOptionEntry options[] = {
        { "mappings", 0, 0, G_OPTION_ARG_INT, &opt_mappings,
          "mappings that there are", "N" },
        { }
    };
    g_autoptr(GOptionContext) context = g_option_context_new(NULL);
    g_autoptr(GError) error = NULL;

    g_option_context_add_main_entries(context, options, NULL);
    if (!g_option_context_parse(context, &argc, &argv, &error) ||
        opt_mappings < 1000 || opt_mappings > 1 << 24) {
        fprintf(stderr, "%s\n", error ? error->message : "out of range");
        return 1;
    }
    test_unmaps();
    test_resets();
    test_pages_and_queries();
    return 0;
}
