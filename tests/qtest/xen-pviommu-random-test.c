/*
 * xen-pviommu: random operations, against a plain model
 *
 * The model is docs/specs/xen-pviommu.rst in arrays, a page an entry. It says
 * before a batch runs what each operation has to return. Behind the IOMMU are
 * devices that mirror their notifications, and must have what is mapped; or
 * devices that listen to nothing, before whose DMA what is queued has to run. A
 * BAR is mapped like RAM, and moves, or is hidden.
 *
 * PVIOMMU_TEST_OPS in the environment: how many operations; PVIOMMU_TEST_SEED
 * to run again what failed.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/bswap.h"
#include "xen-pviommu-random-model.h"

#define BATCH           256
#define DEFAULT_OPS     2000000
/* Each that is queued takes commands of its own. */
#define QUEUED_COST     8
#define FIRST_GFN       0x4000ull
#define NR_GFNS         0x1000

static unsigned below(Model *m, unsigned n)
{
    return g_rand_int_range(m->rand, 0, n);
}

static bool one_in(Model *m, unsigned n)
{
    return !below(m, n);
}

/* Random operations, and what they have to come back as. */

static unsigned random_context(Model *m)
{
    return one_in(m, 50) ? below(m, 2 * MAX_CONTEXTS)
                         : below(m, MAX_CONTEXTS) / (1 + below(m, 2));
}

/* A place, and how many frames there: mostly one, sometimes a lot. */
static unsigned random_range(Model *m, uint32_t *nr)
{
    static const unsigned sizes[] = { 2, 8, 64, 520 };
    unsigned i = below(m, NR_FRAMES);
    unsigned end = i < NR_LOW ? NR_LOW : NR_FRAMES;

    *nr = 0;
    if (one_in(m, 4)) {
        *nr = below(m, sizes[below(m, ARRAY_SIZE(sizes))] + 1);
        if (one_in(m, 8)) {
            /* A whole 2 MiB, or more */
            i = QEMU_ALIGN_DOWN(i, 512);
            *nr = 512 + below(m, 2) * below(m, 100);
        }
        *nr = MIN(*nr, end - i);
    }
    return i;
}

static uint64_t random_gfn(Model *m, unsigned i)
{
    switch (below(m, 16)) {
    case 0:
        return ROM_GFN + below(m, NR_ROM);
    case 1:
        return PVIOMMU_RAM_GFNS - below(m, 8);
    case 2:
        /* The BAR, or where it may be */
        return BAR_GFN + (one_in(m, 4) ? below(m, NR_PLACES) : m->bar.seen) *
               BAR_FRAMES + below(m, BAR_FRAMES);
    case 3 ... 9:
        /* So that neighbours continue each other, and blocks are aligned */
        return FIRST_GFN + (model_bfn(i) & (NR_GFNS - 1));
    default:
        return FIRST_GFN + below(m, NR_GFNS);
    }
}

static void make_wrong(Model *m, struct xen_iommu_op *op)
{
    switch (below(m, 5)) {
    case 0:
        *op = pviommu_op_map(0, LOW, FIRST_GFN, 0, 0);
        op->op = cpu_to_le16(one_in(m, 2)
                             ? 0 : IOMMU_OPS_END + below(m, 60000));
        op->status = cpu_to_le32(-XEN_IOMMU_EOPNOTSUPP);
        return;
    case 1:
        *op = pviommu_op_unmap(0, LOW, 0);
        op->u.unmap.pad = cpu_to_le64(1);
        break;
    case 2:
        *op = pviommu_op_map(0, LOW, FIRST_GFN, 0, 1u << (1 + below(m, 15)));
        break;
    case 3:
        *op = pviommu_op_map(0, HIGH + 1, FIRST_GFN, NR_HIGH, 0);
        break;
    case 4:
        *op = pviommu_op_flush(0, XEN_IOMMU_FLUSH_ALL, 1);
        break;
    }
    op->status = cpu_to_le32(-XEN_IOMMU_EINVAL);
}

static struct xen_iommu_op random_change(Model *m, unsigned id)
{
    uint32_t nr;
    unsigned i = random_range(m, &nr);
    uint64_t bfn = model_bfn(i), gfn;

    switch (below(m, 855)) {
    case 0 ... 449:
        gfn = random_gfn(m, i);
        if (gfn >= BAR_GFN && gfn - BAR_GFN < NR_PLACES * BAR_FRAMES) {
            /* Mostly no longer than it is */
            nr = MIN(nr, below(m, BAR_FRAMES));
        }
        return pviommu_op_map(id, bfn, gfn, nr, one_in(m, 4));
    case 450 ... 749:
        return pviommu_op_unmap(id, bfn, nr);
    case 750 ... 779:
        return pviommu_op_unmap_skip(id, bfn, nr);
    case 780 ... 849:
        if (id < MAX_CONTEXTS && m->ctx[id].records > RECORDS_MAX) {
            /* It would be one of the whole context. */
            return pviommu_op_flush(id, XEN_IOMMU_FLUSH_ALL, 0);
        }
        return pviommu_op_flush(id, bfn, nr);
    default:
        return pviommu_op_flush(id, XEN_IOMMU_FLUSH_ALL, 0);
    }
}

static int random_set_queue(Model *m, unsigned id, struct xen_iommu_op *op)
{
    uint32_t nr_ops = one_in(m, 4) ? 0 : 1u << below(m, 11);
    Context *c = model_context(m, id);
    bool second = c && c->queue.addr == model_queue_addr(id, false);
    uint64_t addr = nr_ops ? model_queue_addr(id, second) : 0;

    if (m->new_queues & (1u << id)) {
        /* Both places of this context may be in use until the batch runs. */
        *op = pviommu_op_set_queue(id, addr + 8, 16);
        return -XEN_IOMMU_EINVAL;
    }
    *op = pviommu_op_set_queue(id, addr, nr_ops);
    model_kick_queues(m);
    m->new_queues |= 1u << id;
    return model_set_queue(m, id, addr, nr_ops);
}

/* Returns the operation; @out is what it becomes. */
static struct xen_iommu_op random_op(Model *m, struct xen_iommu_op *out)
{
    unsigned id = random_context(m);
    uint32_t nr;
    unsigned i = random_range(m, &nr);
    uint64_t bfn = model_bfn(i);
    uint64_t gfn = random_gfn(m, i);
    struct xen_iommu_op op;
    uint32_t sbdf;
    int ret;

    switch (below(m, 1000)) {
    case 0 ... 854:
        op = *out = random_change(m, id);
        ret = model_change(m, &op);
        break;
    case 855 ... 909:
        op = *out = pviommu_op_lookup_bfn(id, bfn);
        ret = model_lookup_bfn(m, out, id, bfn);
        break;
    case 910 ... 959:
        op = *out = pviommu_op_lookup_gfn(id, gfn, one_in(m, 2) ? 0 : bfn);
        ret = model_lookup_gfn(m, out, id, gfn, le64_to_cpu(op.u.lookup.bfn));
        break;
    case 960 ... 963:
        op = *out = pviommu_op_alloc();
        ret = model_alloc(m, out);
        break;
    case 964 ... 966:
        op = *out = pviommu_op_free(id);
        model_kick_queues(m);
        m->new_queues |= 1u << id;
        ret = model_free(m, id);
        break;
    case 967 ... 969:
        sbdf = (SLOT + below(m, NR_DEVICES + 1)) << 3;
        op = *out = pviommu_op_attach(sbdf, id);
        ret = model_attach(m, sbdf, id);
        break;
    case 970 ... 973:
        ret = random_set_queue(m, id, &op);
        *out = op;
        break;
    default:
        op = pviommu_op_map(0, bfn, gfn, 0, 0);
        make_wrong(m, &op);
        *out = op;
        op.status = cpu_to_le32(PVIOMMU_STATUS_NONE);
        return op;
    }
    out->status = cpu_to_le32(ret);
    return op;
}

static void push_random(Model *m, unsigned id)
{
    Context *c = &m->ctx[id];
    QPVIOMMUQueue *q = &c->queue;
    struct xen_iommu_op op, *expected = &c->expected[q->tail % q->nr_ops];
    int ret = -XEN_IOMMU_EINVAL;

    if (one_in(m, 40)) {
        make_wrong(m, &op);
        op.status = cpu_to_le32(PVIOMMU_STATUS_NONE);
    } else {
        op = random_change(m, one_in(m, 50) ? random_context(m) : id);
        ret = model_queued(m, id, &op);
    }
    *expected = op;
    if (ret) {
        expected->status = cpu_to_le32(ret);
        c->errors++;
    }
    pviommu_queue_push(q, op);
    m->queued++;
}

/* What a device sees, which asks for it now. */
static void check_dma(Model *m, unsigned dev)
{
    const Context *c = &m->ctx[m->dev_ctx[dev]];

    for (unsigned n = 0; n < 4; n++) {
        unsigned i = below(m, NR_FRAMES);
        uint64_t bfn = model_bfn(i), addr = bfn * PVIOMMU_PAGE;
        bool write = one_in(m, 2);
        bool got = mirror_translate(&m->dev[dev], addr, write);

        if (model_reserved(bfn, 1)) {
            continue;
        }
        g_assert(got == model_frame_there(m, c->map[i], write));
        if (got) {
            g_assert_cmphex(mirror_read(&m->dev[dev], PVIOMMU_MIRROR_GPA), ==,
                            FRAME_GFN(c->map[i]) * PVIOMMU_PAGE);
        }
    }
}

/* Some operations in one of the queues, which may run, or may have to wait. */
static void random_queue(Model *m)
{
    unsigned id = below(m, MAX_CONTEXTS);
    unsigned dev = below(m, NR_DEVICES);
    Context *c = &m->ctx[id];
    uint32_t flags;

    if (!c->queue.nr_ops) {
        return;
    }
    for (unsigned other = 0; other < MAX_CONTEXTS; other++) {
        Context *o = &m->ctx[other];

        if (o->queue.tail != o->checked && m->max_mappings == MAX_MAPPINGS &&
            o != c) {
            model_kick_queues(m);
        }
    }
    for (unsigned n = 1 + below(m, 24); n; n--) {
        if (c->queue.tail - c->checked == c->queue.nr_ops) {
            model_kick_queues(m);
        }
        push_random(m, id);
    }
    flags = pviommu_queue_flags(&c->queue);
    g_assert_cmphex(flags, ==, m->listen || pviommu_identity(m->iommu)
                               ? XEN_IOMMU_QUEUE_doorbell : 0);
    if (!flags && m->dev_ctx[dev] == id) {
        m->ran_by_dma += c->queue.tail - c->checked;
        check_dma(m, dev);
        model_check_queue(m, c);
    } else if (one_in(m, 3)) {
        model_kick_queues(m);
    }
}

static void random_batch(Model *m)
{
    struct xen_iommu_op ops[BATCH], expected[BATCH], in[BATCH];
    unsigned nr = one_in(m, 4) ? 1 + below(m, BATCH) : BATCH;

    m->new_queues = 0;
    for (unsigned i = 0; i < nr; i++) {
        in[i] = ops[i] = random_op(m, &expected[i]);
    }
    pviommu_run(m->iommu, ops, nr);
    model_check_queues(m);
    for (unsigned i = 0; i < nr; i++) {
        if (memcmp(&ops[i], &expected[i], sizeof(ops[i]))) {
            g_test_message("operation %u of %u: op %u flags 0x%x bfn 0x%" PRIx64
                           " gfn 0x%" PRIx64 " nr 0x%x: status %d, not %d", i,
                           nr, le16_to_cpu(in[i].op), le16_to_cpu(in[i].flags),
                           le64_to_cpu(in[i].u.map.bfn),
                           le64_to_cpu(in[i].u.map.gfn),
                           le32_to_cpu(in[i].u.map.nr_frames),
                           (int32_t)le32_to_cpu(ops[i].status),
                           (int32_t)le32_to_cpu(expected[i].status));
        }
        g_assert_cmpmem(&ops[i], sizeof(ops[i]), &expected[i],
                        sizeof(expected[i]));
    }
    pviommu_assert_frames(m->iommu, m->mapped, m->pending);
}

/*
 * A mirror has all that its context maps, and besides only what waits for a
 * flush; a cache has nothing but those. With @flushed nothing waits.
 */
static void check_device(Model *m, unsigned i, bool flushed)
{
    const Context *c = &m->ctx[m->dev_ctx[i]];
    g_autoptr(GArray) dump = mirror_dump(&m->dev[i], true);
    g_autofree bool *seen = g_new0(bool, NR_FRAMES);

    for (guint j = 0; j < dump->len; j++) {
        const struct pviommu_mirror_entry *e =
            &g_array_index(dump, struct pviommu_mirror_entry, j);

        for (uint64_t k = 0; k < e->len / PVIOMMU_PAGE; k++) {
            uint64_t bfn = e->iova / PVIOMMU_PAGE + k;
            uint64_t gfn = e->gpa / PVIOMMU_PAGE + k;
            unsigned f = model_frame(bfn);

            if (i == CACHE && model_reserved(bfn, 1)) {
                g_assert_cmphex(gfn, ==, bfn);
                continue;
            }
            g_assert_cmpuint(f, <, NR_FRAMES);
            seen[f] = true;
            if (!c->map[f]) {
                /* QEMU's translations for caches have no rights in them. */
                g_assert_false(flushed);
                g_assert_cmpuint(c->waiting[f], >, 0);
                continue;
            }
            g_assert_cmphex(gfn, ==, FRAME_GFN(c->map[f]));
            if (i != CACHE) {
                g_assert_cmphex(e->perm, ==, c->map[f] & FRAME_RO ? 1 : 3);
            }
        }
    }
    /* A mirror stands for hardware, which does not reach what is emulated. */
    for (unsigned f = 0; i != CACHE && f < NR_FRAMES; f++) {
        g_assert(seen[f] ? !model_in_bar(m, c->map[f])
                         : !c->map[f] || model_in_bar(m, c->map[f]));
    }
    mirror_assert_sane(&m->dev[i]);
}

static void fill_cache(Model *m)
{
    for (unsigned n = 0; n < 8; n++) {
        unsigned i = below(m, NR_FRAMES);
        const Context *c = &m->ctx[m->dev_ctx[CACHE]];
        uint64_t bfn = model_bfn(i);
        bool write = one_in(m, 2);
        bool got = mirror_fill(&m->dev[CACHE], bfn * PVIOMMU_PAGE, write);

        if (model_reserved(bfn, 1)) {
            /* There is no memory. */
            continue;
        }
        g_assert(got == model_frame_there(m, c->map[i], write));
    }
}

static void flush_all(Model *m)
{
    struct xen_iommu_op ops[MAX_CONTEXTS];
    unsigned nr = 0;

    for (unsigned id = 0; id < MAX_CONTEXTS; id++) {
        if (m->ctx[id].live) {
            ops[nr++] = pviommu_op_flush(id, XEN_IOMMU_FLUSH_ALL, 0);
        }
    }
    model_flush_all(m);
    pviommu_run(m->iommu, ops, nr);
    model_check_queues(m);
    g_assert_cmpuint(m->pending, ==, 0);
    pviommu_assert_frames(m->iommu, m->mapped, 0);
}

/* The BAR moves, or is hidden, or is back. */
static void change_bar(Model *m)
{
    const uint64_t gone = m->bar_gone;
    unsigned records = 0;
    uint64_t before;

    model_kick_queues(m);
    for (unsigned id = 0; id < MAX_CONTEXTS; id++) {
        records += m->ctx[id].records;
    }
    if (records > RECORDS_MAX) {
        /* Of so many, none is looked for. */
        flush_all(m);
    }
    before = pviommu_counter(m->iommu, XEN_PVIOMMU_COUNTER_INVALIDATED);
    model_set_bar(m, one_in(m, 2) ? m->bar.place : below(m, NR_PLACES),
                  !one_in(m, 3));
    pviommu_assert_frames(m->iommu, m->mapped, m->pending);
    g_assert_cmpuint(pviommu_counter(m->iommu, XEN_PVIOMMU_COUNTER_INVALIDATED)
                     - before, ==, m->bar_gone - gone);
}

static uint64_t from_env(const char *name, uint64_t value)
{
    const char *s = g_getenv(name);

    return s ? g_ascii_strtoull(s, NULL, 0) : value;
}

static void check_random(const char *machine, bool listen)
{
    g_autofree Model *m = g_new0(Model, 1);
    const uint64_t max_mappings = listen ? MAX_MAPPINGS : MANY_MAPPINGS;
    g_autofree char *props =
        g_strdup_printf("\"max-mappings\":%" PRIu64 ",\"max-contexts\":%u,"
                        "\"bfn-bits\":%u,\"reserved-regions\":"
                        "[\"0x%" PRIx64 ":0x%" PRIx64 ":0\"]", max_mappings,
                        MAX_CONTEXTS, BFN_BITS,
                        (uint64_t)RESERVED * PVIOMMU_PAGE,
                        (uint64_t)(RESERVED + NR_RESERVED) * PVIOMMU_PAGE - 1);
    g_autofree char *extra =
        g_strdup_printf(MIRROR_DEVICE("%s") MIRROR_DEVICE("%s")
                        MIRROR_DEVICE("%s") MIRROR_DEVICE("%s")
                        "-device e1000,romfile=,addr=%x ",
                        SLOT, listen ? "map" : "none",
                        SLOT + 1, listen ? "map" : "none",
                        SLOT + 2, listen ? "map" : "none",
                        SLOT + CACHE, listen ? "deviotlb" : "none", PEER_SLOT);
    uint64_t nr_ops = from_env("PVIOMMU_TEST_OPS", DEFAULT_OPS) / 2 /
                      (listen ? 1 : QUEUED_COST);
    uint32_t seed = from_env("PVIOMMU_TEST_SEED", g_test_rand_int());

    g_test_message("PVIOMMU_TEST_SEED=%u", seed);
    m->rand = g_rand_new_with_seed(seed);
    m->iommu = pviommu_start(machine, props, extra);
    m->listen = listen;
    m->max_mappings = max_mappings;
    model_reset(m);

    for (uint64_t batch = 1; batch <= DIV_ROUND_UP(nr_ops, BATCH); batch++) {
        random_batch(m);
        for (unsigned n = listen ? one_in(m, 4) : below(m, 16); n; n--) {
            random_queue(m);
        }
        if (one_in(m, 8)) {
            change_bar(m);
        }
        if (!one_in(m, 8)) {
            continue;
        }
        model_kick_queues(m);
        for (unsigned i = 0; i < NR_DEVICES; i++) {
            if (listen) {
                check_device(m, i, false);
            } else {
                check_dma(m, i);
            }
        }
        if (listen) {
            fill_cache(m);
        }
        if (one_in(m, 2)) {
            flush_all(m);
            for (unsigned i = 0; listen && i < NR_DEVICES; i++) {
                check_device(m, i, true);
            }
        }
        if (one_in(m, 100)) {
            pviommu_reset(m->iommu);
            model_reset(m);
        }
    }
    g_test_message("%" PRIu64 " queued, %" PRIu64 " ran by DMA; of a BAR, %"
                   PRIu64 " mapped, %" PRIu64 " gone", m->queued,
                   m->ran_by_dma, m->bar_mapped, m->bar_gone);
    g_assert(m->bar_gone || nr_ops < 100000);
    pviommu_quit(m->iommu);
    model_drop_queues(m);
    g_rand_free(m->rand);
}

static void test_operations_match_the_model(const void *machine)
{
    check_random(machine, true);
}

static void test_queued_operations_match_the_model(const void *machine)
{
    check_random(machine, false);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    pviommu_add_for_machines("random/operations-match-the-model",
                             test_operations_match_the_model);
    pviommu_add_for_machines("random/queued-operations-match-the-model",
                             test_queued_operations_match_the_model);
    return g_test_run();
}
