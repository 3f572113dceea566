/*
 * xen-pviommu: random operations, against a plain model
 *
 * The model is docs/specs/xen-pviommu.rst in arrays, a page an entry. It says
 * before a batch runs what each operation has to return. Behind the IOMMU are
 * devices that remember what they are told, and must know what is mapped; or
 * devices that listen to nothing, before whose DMA what is queued has to run.
 *
 * PVIOMMU_TEST_OPS in the environment: how many operations; PVIOMMU_TEST_SEED
 * to run again what failed.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/bswap.h"
#include "libqos/pviommu-mirror.h"

#define SLOT            0x11
#define NR_DEVICES      4
#define CACHE           3               /* the device that caches */
#define BATCH           256
#define DEFAULT_OPS     2000000
/* Each that is queued takes commands of its own. */
#define QUEUED_COST     8

#define MAX_CONTEXTS    5
/* Less than the runs that may wait for a flush: those have no limit then. */
#define MAX_MAPPINGS    4000
/* Or so many that no limit is ever reached; most queues need no calls then. */
#define MANY_MAPPINGS   0x1000000

#define BFN_BITS        36
#define BFN_LIMIT       (1ull << BFN_BITS)
/* BFNs that are used: across blocks of 2 MiB, and the last ones there are. */
#define LOW             0x1fe00ull
#define NR_LOW          2048
#define NR_HIGH         512
#define HIGH            (BFN_LIMIT - NR_HIGH)
#define NR_FRAMES       (NR_LOW + NR_HIGH)
/* Records that are flushed one by one; of more the device flushes all. */
#define RECORDS_MAX     256
/* Reserved, among the low ones */
#define RESERVED        0x20480ull
#define NR_RESERVED     0x80

#define ROM_GFN         (PVIOMMU_BIOS_ADDR / PVIOMMU_PAGE)
#define NR_ROM          (PVIOMMU_BIOS_SIZE / PVIOMMU_PAGE)
#define FIRST_GFN       0x4000ull
#define NR_GFNS         0x1000

/* A frame: 0, or its GFN + 1 and a flag */
#define FRAME_RO        (1ull << 63)
#define FRAME_GFN(f)    (((f) & ~FRAME_RO) - 1)

typedef struct Context {
    bool live;
    unsigned devices;
    uint64_t map[NR_FRAMES];
    uint16_t waiting[NR_FRAMES];        /* for a flush, how many */
    unsigned records;                   /* that these are, at the most */

    QPVIOMMUQueue queue;                /* nr_ops 0: it has none */
    uint32_t checked;                   /* operations of the queue */
    uint32_t errors;                    /* of those that were stored */
    struct xen_iommu_op *expected;      /* as the queue's, when they ran */
} Context;

typedef struct Model {
    QXenPVIOMMU *iommu;
    bool listen;                        /* the devices do */
    uint64_t max_mappings;
    QMirror dev[NR_DEVICES];
    unsigned dev_ctx[NR_DEVICES];
    Context ctx[MAX_CONTEXTS];
    uint32_t new_queues;                /* in the batch being made: contexts */
    uint64_t mapped;
    uint64_t pending;
    uint64_t queued;                    /* operations */
    uint64_t ran_by_dma;                /* of them */
    GRand *rand;
} Model;

static uint64_t index_bfn(unsigned i)
{
    return i < NR_LOW ? LOW + i : HIGH + (i - NR_LOW);
}

/* NR_FRAMES for a BFN that nobody uses */
static unsigned bfn_index(uint64_t bfn)
{
    if (bfn >= LOW && bfn < LOW + NR_LOW) {
        return bfn - LOW;
    }
    return bfn >= HIGH && bfn < BFN_LIMIT ? NR_LOW + (bfn - HIGH) : NR_FRAMES;
}

static unsigned below(Model *m, unsigned n)
{
    return g_rand_int_range(m->rand, 0, n);
}

static bool one_in(Model *m, unsigned n)
{
    return !below(m, n);
}

/* The model: all take a range that lies in what is used. */

static void context_flush(Model *m, Context *c, uint64_t bfn, uint64_t nr)
{
    /* A part of a record can leave two. */
    c->records = bfn || nr < BFN_LIMIT ? 2 * c->records : 0;
    for (unsigned i = 0; i < NR_FRAMES; i++) {
        uint64_t b = index_bfn(i);

        if (c->waiting[i] && b >= bfn && b - bfn < nr) {
            m->pending -= c->waiting[i];
            c->waiting[i] = 0;
        }
    }
}

static bool reserved(uint64_t bfn, uint64_t nr)
{
    return bfn < RESERVED + NR_RESERVED && RESERVED < bfn + nr;
}

static int gfn_error(uint64_t gfn, bool readonly)
{
    if (gfn < PVIOMMU_RAM_GFNS && gfn >= 0x100) {
        return 0;
    }
    if (gfn >= ROM_GFN && gfn < ROM_GFN + NR_ROM) {
        return readonly ? 0 : -XEN_IOMMU_EPERM;
    }
    return -XEN_IOMMU_ENOENT;
}

static Context *find_context(Model *m, unsigned id)
{
    return id < MAX_CONTEXTS && m->ctx[id].live ? &m->ctx[id] : NULL;
}

/*
 * Queues. The model runs what is queued at once. When the device does, it must
 * come to the same: so as long as there are limits to reach, one queue at a
 * time has operations that did not run.
 */

/* All of it ran, or has to have: each operation is what it should be. */
static void check_queue(Model *m, Context *c)
{
    QPVIOMMUQueue *q = &c->queue;

    if (!q->nr_ops || c->checked == q->tail) {
        return;
    }
    g_assert_cmpuint(pviommu_queue_head(q), ==, q->tail);
    g_assert_cmpuint(pviommu_queue_errors(q), ==, c->errors);
    for (; c->checked != q->tail; c->checked++) {
        const struct xen_iommu_op *e = &c->expected[c->checked % q->nr_ops];
        struct xen_iommu_op op;

        pviommu_load_ops(m->iommu,
                         q->addr + pviommu_queue_size(c->checked % q->nr_ops),
                         &op, 1);
        if (memcmp(&op, e, sizeof(op))) {
            g_test_message("queued: op %u flags 0x%x ctx %u bfn 0x%" PRIx64
                           " nr 0x%x: status %d, not %d", le16_to_cpu(op.op),
                           le16_to_cpu(op.flags), le16_to_cpu(op.u.map.ctx),
                           le64_to_cpu(op.u.map.bfn),
                           le32_to_cpu(op.u.map.nr_frames),
                           (int32_t)le32_to_cpu(op.status),
                           (int32_t)le32_to_cpu(e->status));
        }
        g_assert_cmpmem(&op, sizeof(op), e, sizeof(*e));
    }
}

static void check_queues(Model *m)
{
    for (unsigned id = 0; id < MAX_CONTEXTS; id++) {
        check_queue(m, &m->ctx[id]);
    }
}

static void kick_queues(Model *m)
{
    for (unsigned id = 0; id < MAX_CONTEXTS; id++) {
        if (m->ctx[id].queue.nr_ops) {
            pviommu_queue_kick(&m->ctx[id].queue);
        }
    }
    check_queues(m);
}

static void drop_queue(Context *c)
{
    c->queue = (QPVIOMMUQueue) { 0 };
    g_clear_pointer(&c->expected, g_free);
}

/* Two places for each context: the queue of before may still have to run. */
static uint64_t queue_addr(unsigned id, bool second)
{
    return PVIOMMU_QUEUE_ADDR + (2 * id + second) * PVIOMMU_QUEUE_STRIDE;
}

/* One for a batch, in zeroes; after it the guest will use it. */
static int model_set_queue(Model *m, unsigned id, uint64_t addr,
                           uint32_t nr_ops)
{
    Context *c = find_context(m, id);

    if (!c) {
        return -XEN_IOMMU_ENOENT;
    }
    drop_queue(c);
    if (nr_ops) {
        qtest_memset(m->iommu->qts, addr, 0, pviommu_queue_size(nr_ops));
        c->queue = (QPVIOMMUQueue) { m->iommu, id, addr, nr_ops };
        c->expected = g_new(struct xen_iommu_op, nr_ops);
    }
    c->checked = 0;
    c->errors = 0;
    return 0;
}

static int model_map(Model *m, unsigned id, uint64_t bfn, uint64_t gfn,
                     uint32_t nr_frames, bool readonly)
{
    Context *c = find_context(m, id);
    uint64_t nr = MAX(nr_frames, 1);
    int ret;

    if (bfn >= BFN_LIMIT || nr > BFN_LIMIT - bfn) {
        return -XEN_IOMMU_EINVAL;
    }
    if (!c) {
        return -XEN_IOMMU_ENOENT;
    }
    if (reserved(bfn, nr)) {
        return -XEN_IOMMU_EADDRNOTAVAIL;
    }
    for (uint64_t i = 0; i < nr; i++) {
        if (c->map[bfn_index(bfn + i)]) {
            return -XEN_IOMMU_EEXIST;
        }
    }
    if (m->mapped + m->pending + nr > m->max_mappings) {
        return -XEN_IOMMU_ENOSPC;
    }
    for (uint64_t i = 0; i < nr; i++) {
        ret = gfn_error(gfn + i, readonly);
        if (ret) {
            return ret;
        }
    }
    for (uint64_t i = 0; i < nr; i++) {
        c->map[bfn_index(bfn + i)] = (gfn + i + 1) | (readonly ? FRAME_RO : 0);
    }
    m->mapped += nr;
    return 0;
}

static int model_unmap(Model *m, unsigned id, uint64_t bfn, uint32_t nr_frames,
                       bool holes)
{
    Context *c = find_context(m, id);
    uint64_t nr = MAX(nr_frames, 1);

    if (bfn >= BFN_LIMIT || nr > BFN_LIMIT - bfn) {
        return -XEN_IOMMU_EINVAL;
    }
    if (!c) {
        return -XEN_IOMMU_ENOENT;
    }
    if (!holes && reserved(bfn, nr)) {
        return -XEN_IOMMU_EADDRNOTAVAIL;
    }
    for (uint64_t i = 0; !holes && i < nr; i++) {
        if (!c->map[bfn_index(bfn + i)]) {
            return -XEN_IOMMU_ENOENT;
        }
    }
    for (uint64_t i = 0; i < nr; i++) {
        unsigned f = bfn_index(bfn + i);

        if (c->map[f]) {
            c->records++;
            c->map[f] = 0;
            c->waiting[f]++;
            m->mapped--;
            m->pending++;
        }
    }
    return 0;
}

static int model_flush(Model *m, unsigned id, uint64_t bfn, uint32_t nr_frames)
{
    Context *c = find_context(m, id);
    uint64_t nr = MAX(nr_frames, 1);

    if (bfn == XEN_IOMMU_FLUSH_ALL && !nr_frames) {
        bfn = 0;
        nr = BFN_LIMIT;
    }
    if (bfn >= BFN_LIMIT || nr > BFN_LIMIT - bfn) {
        return -XEN_IOMMU_EINVAL;
    }
    if (!c) {
        return -XEN_IOMMU_ENOENT;
    }
    context_flush(m, c, bfn, nr);
    return 0;
}

static unsigned run_length(const Context *c, unsigned i)
{
    unsigned end = i < NR_LOW ? NR_LOW : NR_FRAMES;
    unsigned n = 1;

    while (i + n < end && c->map[i + n] == c->map[i] + n) {
        n++;
    }
    return n;
}

static int lookup_result(struct xen_iommu_op *op, const Context *c, unsigned i)
{
    op->u.lookup.bfn = cpu_to_le64(index_bfn(i));
    op->u.lookup.gfn = cpu_to_le64(FRAME_GFN(c->map[i]));
    op->u.lookup.nr_frames = cpu_to_le32(run_length(c, i));
    op->flags = cpu_to_le16(c->map[i] & FRAME_RO ? XEN_IOMMUOP_map_readonly
                                                 : 0);
    return 0;
}

static int model_lookup_bfn(Model *m, struct xen_iommu_op *op, unsigned id,
                            uint64_t bfn)
{
    Context *c = find_context(m, id);
    unsigned i = bfn_index(bfn);

    if (bfn >= BFN_LIMIT) {
        return -XEN_IOMMU_EINVAL;
    }
    if (!c) {
        return -XEN_IOMMU_ENOENT;
    }
    if (!c->map[i]) {
        /* The hole, as long as 32 bits can say. */
        uint64_t end = MIN(bfn + UINT32_MAX, BFN_LIMIT);

        for (; i < NR_FRAMES; i++) {
            if (c->map[i]) {
                end = MIN(end, index_bfn(i));
                break;
            }
        }
        op->u.lookup.nr_frames = cpu_to_le32(end - bfn);
        return -XEN_IOMMU_ENOENT;
    }
    return lookup_result(op, c, i);
}

static int model_lookup_gfn(Model *m, struct xen_iommu_op *op, unsigned id,
                            uint64_t gfn, uint64_t from)
{
    Context *c = find_context(m, id);

    for (unsigned i = 0; c && i < NR_FRAMES; i++) {
        if (c->map[i] && FRAME_GFN(c->map[i]) == gfn && index_bfn(i) >= from) {
            return lookup_result(op, c, i);
        }
    }
    return -XEN_IOMMU_ENOENT;
}

static int model_alloc(Model *m, struct xen_iommu_op *op)
{
    for (unsigned id = 1; id < MAX_CONTEXTS; id++) {
        if (!m->ctx[id].live) {
            memset(&m->ctx[id], 0, sizeof(m->ctx[id]));
            m->ctx[id].live = true;
            op->u.context.ctx = cpu_to_le16(id);
            return 0;
        }
    }
    return -XEN_IOMMU_ENOSPC;
}

static int model_free(Model *m, unsigned id)
{
    Context *c = find_context(m, id);

    if (!id) {
        return -XEN_IOMMU_EINVAL;
    }
    if (!c) {
        return -XEN_IOMMU_ENOENT;
    }
    if (c->devices) {
        return -XEN_IOMMU_EBUSY;
    }
    context_flush(m, c, 0, BFN_LIMIT);
    for (unsigned i = 0; i < NR_FRAMES; i++) {
        m->mapped -= !!c->map[i];
    }
    c->live = false;
    drop_queue(c);
    return 0;
}

static int model_attach(Model *m, uint32_t sbdf, unsigned id)
{
    Context *c = find_context(m, id);

    if (!c) {
        return -XEN_IOMMU_ENOENT;
    }
    for (unsigned i = 0; i < NR_DEVICES; i++) {
        if (m->dev[i].sbdf == sbdf) {
            if (m->dev_ctx[i] != id) {
                Context *old = &m->ctx[m->dev_ctx[i]];

                context_flush(m, old, 0, BFN_LIMIT);
                old->devices--;
                c->devices++;
                m->dev_ctx[i] = id;
            }
            return 0;
        }
    }
    return -XEN_IOMMU_ENODEV;
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
    case 2 ... 8:
        /* So that neighbours continue each other, and blocks are aligned */
        return FIRST_GFN + (index_bfn(i) & (NR_GFNS - 1));
    default:
        return FIRST_GFN + below(m, NR_GFNS);
    }
}

static void make_wrong(Model *m, struct xen_iommu_op *op)
{
    switch (below(m, 5)) {
    case 0:
        *op = pviommu_op_map(0, LOW, FIRST_GFN, 0, 0);
        op->op = cpu_to_le16(one_in(m, 2) ? 0 : 13 + below(m, 60000));
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
    uint64_t bfn = index_bfn(i);

    switch (below(m, 855)) {
    case 0 ... 449:
        return pviommu_op_map(id, bfn, random_gfn(m, i), nr, one_in(m, 4));
    case 450 ... 749:
        return pviommu_op_unmap(id, bfn, nr);
    case 750 ... 779:
        return pviommu_op_unmap_holes(id, bfn, nr);
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

static int model_change(Model *m, const struct xen_iommu_op *op)
{
    /* They have these in one place. */
    unsigned id = le16_to_cpu(op->u.map.ctx);
    uint64_t bfn = le64_to_cpu(op->u.map.bfn);
    uint32_t nr = le32_to_cpu(op->u.map.nr_frames);
    uint16_t flags = le16_to_cpu(op->flags);

    switch (le16_to_cpu(op->op)) {
    case XEN_IOMMUOP_map:
        return model_map(m, id, bfn, le64_to_cpu(op->u.map.gfn), nr, flags);
    case XEN_IOMMUOP_unmap:
        return model_unmap(m, id, bfn, nr, flags);
    default:
        return model_flush(m, id, bfn, nr);
    }
}

static int random_set_queue(Model *m, unsigned id, struct xen_iommu_op *op)
{
    uint32_t nr_ops = one_in(m, 4) ? 0 : 1u << below(m, 11);
    Context *c = find_context(m, id);
    bool second = c && c->queue.addr == queue_addr(id, false);
    uint64_t addr = nr_ops ? queue_addr(id, second) : 0;

    if (m->new_queues & (1u << id)) {
        /* Both places of this context may be in use until the batch runs. */
        *op = pviommu_op_set_queue(id, addr + 8, 16);
        return -XEN_IOMMU_EINVAL;
    }
    *op = pviommu_op_set_queue(id, addr, nr_ops);
    kick_queues(m);
    m->new_queues |= 1u << id;
    return model_set_queue(m, id, addr, nr_ops);
}

/* Returns the operation; @out is what it becomes. */
static struct xen_iommu_op random_op(Model *m, struct xen_iommu_op *out)
{
    unsigned id = random_context(m);
    uint32_t nr;
    unsigned i = random_range(m, &nr);
    uint64_t bfn = index_bfn(i);
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
        kick_queues(m);
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

static void flush_model(Model *m)
{
    for (unsigned id = 0; id < MAX_CONTEXTS; id++) {
        context_flush(m, &m->ctx[id], 0, BFN_LIMIT);
    }
}

/* What the queue of @id says to @op. */
static int model_queued(Model *m, unsigned id, const struct xen_iommu_op *op)
{
    bool flush = le16_to_cpu(op->op) == XEN_IOMMUOP_flush;
    int ret;

    if (le16_to_cpu(op->u.map.ctx) != id ||
        (!flush &&
         le32_to_cpu(op->u.map.nr_frames) > XEN_IOMMU_QUEUE_MAX_FRAMES)) {
        return -XEN_IOMMU_EINVAL;
    }
    ret = model_change(m, op);
    if (ret == -XEN_IOMMU_ENOSPC && m->pending) {
        /* What only waits for a flush makes way. */
        flush_model(m);
        ret = model_change(m, op);
    }
    return ret;
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
        uint64_t bfn = index_bfn(i), addr = bfn * PVIOMMU_PAGE;
        bool write = one_in(m, 2);
        bool got = mirror_translate(&m->dev[dev], addr, write);

        if (bfn >= RESERVED && bfn < RESERVED + NR_RESERVED) {
            continue;
        }
        g_assert(got == (c->map[i] && !(write && c->map[i] & FRAME_RO)));
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
            kick_queues(m);
        }
    }
    for (unsigned n = 1 + below(m, 24); n; n--) {
        if (c->queue.tail - c->checked == c->queue.nr_ops) {
            kick_queues(m);
        }
        push_random(m, id);
    }
    flags = pviommu_queue_flags(&c->queue);
    g_assert_cmphex(flags, ==, m->listen || pviommu_identity(m->iommu)
                               ? XEN_IOMMU_QUEUE_doorbell : 0);
    if (!flags && m->dev_ctx[dev] == id) {
        m->ran_by_dma += c->queue.tail - c->checked;
        check_dma(m, dev);
        check_queue(m, c);
    } else if (one_in(m, 3)) {
        kick_queues(m);
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
    check_queues(m);
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
            unsigned f = bfn_index(bfn);

            if (i == CACHE && bfn >= RESERVED && bfn < RESERVED + NR_RESERVED) {
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
    for (unsigned f = 0; i != CACHE && f < NR_FRAMES; f++) {
        g_assert(seen[f] || !c->map[f]);
    }
    mirror_assert_sane(&m->dev[i]);
}

static void fill_cache(Model *m)
{
    for (unsigned n = 0; n < 8; n++) {
        unsigned i = below(m, NR_FRAMES);
        const Context *c = &m->ctx[m->dev_ctx[CACHE]];
        uint64_t bfn = index_bfn(i);
        bool write = one_in(m, 2);
        bool got = mirror_fill(&m->dev[CACHE], bfn * PVIOMMU_PAGE, write);

        if (bfn >= RESERVED && bfn < RESERVED + NR_RESERVED) {
            /* There is no memory. */
            continue;
        }
        g_assert(got == (c->map[i] && !(write && c->map[i] & FRAME_RO)));
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
    flush_model(m);
    pviommu_run(m->iommu, ops, nr);
    check_queues(m);
    g_assert_cmpuint(m->pending, ==, 0);
    pviommu_assert_frames(m->iommu, m->mapped, 0);
}

static void model_reset(Model *m)
{
    for (unsigned id = 0; id < MAX_CONTEXTS; id++) {
        drop_queue(&m->ctx[id]);
    }
    memset(m->ctx, 0, sizeof(m->ctx));
    memset(m->dev_ctx, 0, sizeof(m->dev_ctx));
    m->ctx[0].live = true;
    m->ctx[0].devices = NR_DEVICES;
    m->mapped = 0;
    m->pending = 0;
    for (unsigned i = 0; i < NR_DEVICES; i++) {
        mirror_init(&m->dev[i], m->iommu, QPCI_DEVFN(SLOT + i, 0));
    }
    pviommu_accept(m->iommu, XEN_IOMMU_FEATURES_ALL);
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
                        MIRROR_DEVICE("%s") MIRROR_DEVICE("%s"),
                        SLOT, listen ? "map" : "none",
                        SLOT + 1, listen ? "map" : "none",
                        SLOT + 2, listen ? "map" : "none",
                        SLOT + CACHE, listen ? "deviotlb" : "none");
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
        if (!one_in(m, 8)) {
            continue;
        }
        kick_queues(m);
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
    g_test_message("%" PRIu64 " queued, %" PRIu64 " ran by DMA", m->queued,
                   m->ran_by_dma);
    pviommu_quit(m->iommu);
    for (unsigned id = 0; id < MAX_CONTEXTS; id++) {
        drop_queue(&m->ctx[id]);
    }
    g_rand_free(m->rand);
}

static void test_ops(const void *machine)
{
    check_random(machine, true);
}

static void test_queue(const void *machine)
{
    check_random(machine, false);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    pviommu_add_for_machines("random/ops", test_ops);
    pviommu_add_for_machines("random/queue", test_queue);
    return g_test_run();
}
