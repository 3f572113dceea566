/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * iommu_op: random operations, each compared with the model
 *
 * XEN_PVIOMMU_TEST_OPS: how many (default 200000).
 */

#include "qemu/osdep.h"
#include "qemu/bswap.h"
#include "pviommu-fixture.h"
#include "../op-codes.h"
#include "test-rcu-barrier.h"

#define RANDOM_OPS 200000

static uint64_t random_u64(void)
{
    return (uint64_t)g_random_int() << 32 | g_random_int();
}

static uint64_t random_below(uint64_t limit)
{
    return random_u64() % limit;
}

static bool chance(unsigned permille)
{
    return g_random_int_range(0, 1000) < permille;
}

static uint64_t odd_u64(void)
{
    static const uint64_t values[] = {
        0, 1, UINT64_MAX, UINT64_MAX - 1, 1ull << 63, INT64_MAX, 1ull << 52,
        1ull << 40, (1ull << 40) - 1, UINT32_MAX, 1ull << 32,
    };

    return chance(500) ? random_u64() >> g_random_int_range(0, 64)
                       : values[g_random_int_range(0, ARRAY_SIZE(values))];
}

static uint16_t random_ctx(const Fixture *f)
{
    if (!(f->core.accepted & XEN_IOMMU_FEATURE_CONTEXTS)) {
        return chance(950) ? 0 : 1;
    }
    return chance(10) ? g_random_int()
                      : g_random_int_range(0, f->core.limits.max_contexts + 1);
}

static uint32_t random_nr(const Fixture *f)
{
    if (!(f->core.accepted & XEN_IOMMU_FEATURE_RANGES) && chance(900)) {
        return 0;
    }
    switch (g_random_int_range(0, 20)) {
    case 0 ... 7:
        return g_random_int_range(0, 3);
    case 8 ... 15:
        return g_random_int_range(0, 70);
    case 16 ... 18:
        return g_random_int_range(0, 1100);
    default:
        return odd_u64();
    }
}

static uint64_t random_bfn(const Fixture *f)
{
    uint64_t limit = 1ull << f->core.limits.bfn_bits;

    switch (g_random_int_range(0, 20)) {
    case 0:
        return chance(500) ? odd_u64() : limit - g_random_int_range(-2, 20);
    case 1 ... 7:
        return random_below(limit);
    case 8 ... 12:
        return random_below(200);
    default:
        return 500 + random_below(1000);
    }
}

/* Where something is mapped in @ctx, if the search finds it */
static uint64_t mapped_bfn(const Fixture *f, uint16_t ctx)
{
    uint64_t limit = 1ull << f->core.limits.bfn_bits;
    uint64_t start = random_bfn(f);

    if (ctx < MAX_CONTEXTS && f->model.ctx[ctx].live) {
        for (uint64_t i = 0; i < 300; i++) {
            uint64_t bfn = (start + i) & (limit - 1);

            if (f->model.ctx[ctx].map[bfn]) {
                return bfn;
            }
        }
    }
    return start;
}

/* How many frames from @bfn on are mapped, a part of them, or a few more */
static uint32_t mapped_nr(const Fixture *f, uint16_t ctx, uint64_t bfn)
{
    uint64_t limit = 1ull << f->core.limits.bfn_bits;
    uint32_t nr = 0;

    if (!(f->core.accepted & XEN_IOMMU_FEATURE_RANGES) || chance(200) ||
        ctx >= MAX_CONTEXTS || !f->model.ctx[ctx].live) {
        return random_nr(f);
    }
    while (bfn + nr < limit && f->model.ctx[ctx].map[bfn + nr]) {
        nr++;
    }
    if (chance(500) && nr) {
        nr = 1 + random_below(nr);
    }
    return chance(20) ? nr + 1 : nr;
}

static uint64_t random_gfn(void)
{
    switch (g_random_int_range(0, 40)) {
    case 0:
        return odd_u64();
    case 1:
        return random_below(NR_GFNS);
    case 2 ... 10:
        return 256 + random_below(300);
    default:
        return 256 + random_below(2700);
    }
}

static uint64_t mapped_gfn(const Fixture *f, uint16_t ctx)
{
    uint64_t bfn = mapped_bfn(f, ctx);

    return ctx < MAX_CONTEXTS && f->model.ctx[ctx].live &&
           bfn < 1ull << f->core.limits.bfn_bits && f->model.ctx[ctx].map[bfn]
           ? frame_gfn(f->model.ctx[ctx].map[bfn]) : random_gfn();
}

static uint32_t random_sbdf(const Fixture *f)
{
    return chance(20) ? g_random_int()
                      : f->dev[g_random_int_range(0, NR_DEVICES)].sbdf;
}

/* Of an entry that is in use, mostly the first of its allocation; or any */
static uint32_t random_handle(const Fixture *f)
{
    unsigned start = g_random_int_range(0, MAX_IRQS);

    for (unsigned i = 0; i < MAX_IRQS && chance(990); i++) {
        const ModelIrq *irq = &f->model.irq[(start + i) % MAX_IRQS];

        if (irq->owner && (!irq->index || chance(300))) {
            return (start + i) % MAX_IRQS;
        }
    }
    return chance(500) ? start : odd_u64();
}

static unsigned random_irq_op(const Fixture *f, struct xen_iommu_op *op)
{
    static const uint8_t delivery[] = { 0, 1, 2, 4, 5, 7 };

    switch (g_random_int_range(0, 10)) {
    case 0 ... 2:
        op->u.irqs.sbdf = cpu_to_le32(random_sbdf(f));
        op->u.irqs.nr = cpu_to_le32(chance(980) ? g_random_int_range(0, 12)
                                                : odd_u64());
        return XEN_IOMMUOP_alloc_irqs;
    case 3 ... 6:
        op->u.set_irq.handle = cpu_to_le32(random_handle(f));
        if (chance(200)) {
            op->flags = cpu_to_le16(XEN_IOMMUOP_set_irq_masked);
            return XEN_IOMMUOP_set_irq;
        }
        op->flags = cpu_to_le16(g_random_int_range(0, 4) << 1);
        op->u.set_irq.dest = cpu_to_le32(odd_u64());
        op->u.set_irq.vector = g_random_int_range(chance(100) ? 0 : 16, 256);
        op->u.set_irq.delivery =
            chance(900) ? delivery[g_random_int_range(0, ARRAY_SIZE(delivery))]
                        : g_random_int_range(0, 256);
        return XEN_IOMMUOP_set_irq;
    case 7 ... 8:
        op->u.irqs.handle = cpu_to_le32(random_handle(f));
        return XEN_IOMMUOP_free_irqs;
    default:
        op->u.direct_irqs.sbdf = cpu_to_le32(random_sbdf(f));
        op->flags = cpu_to_le16(chance(500) ? XEN_IOMMUOP_direct_irqs_on : 0);
        return XEN_IOMMUOP_direct_irqs;
    }
}

static void random_op(const Fixture *f, struct xen_iommu_op *op)
{
    unsigned code = 0;
    uint16_t ctx = random_ctx(f);
    uint64_t bfn;

    memset(op, 0, sizeof(*op));
    switch (g_random_int_range(0, 100)) {
    case 0:
        for (int i = 0; i < sizeof(*op); i++) {
            ((uint8_t *)op)[i] = g_random_int();
        }
        if (chance(800)) {
            op->op = cpu_to_le16(g_random_int_range(0, IOMMU_OPS_END + 2));
        }
        return;
    case 1 ... 4:
        code = random_irq_op(f, op);
        break;
    case 5 ... 42:
        code = XEN_IOMMUOP_map;
        op->flags = chance(300) ? cpu_to_le16(XEN_IOMMUOP_map_readonly) : 0;
        op->u.map = (struct xen_iommu_op_map) {
            .bfn = cpu_to_le64(random_bfn(f)),
            .gfn = cpu_to_le64(random_gfn()),
            .domid = cpu_to_le16(chance(980) ? DOMID_SELF :
                                 g_random_int_range(0, 5)),
            .ctx = cpu_to_le16(ctx),
            .nr_frames = cpu_to_le32(random_nr(f)),
        };
        break;
    case 43 ... 66:
        code = XEN_IOMMUOP_unmap;
        bfn = chance(900) ? mapped_bfn(f, ctx) : random_bfn(f);
        op->u.unmap = (struct xen_iommu_op_unmap) {
            .bfn = cpu_to_le64(bfn),
            .ctx = cpu_to_le16(ctx),
            .nr_frames = cpu_to_le32(mapped_nr(f, ctx, bfn)),
        };
        if (chance(200)) {
            op->flags = cpu_to_le16(XEN_IOMMUOP_unmap_holes);
            op->u.unmap.bfn = cpu_to_le64(random_bfn(f));
            op->u.unmap.nr_frames = cpu_to_le32(random_nr(f));
        }
        break;
    case 67 ... 77:
        code = XEN_IOMMUOP_flush;
        op->u.flush = (struct xen_iommu_op_flush) {
            .bfn = cpu_to_le64(random_bfn(f)),
            .ctx = cpu_to_le16(ctx),
            .nr_frames = cpu_to_le32(random_nr(f)),
        };
        if (chance(250)) {
            op->u.flush.bfn = UINT64_MAX;
            op->u.flush.nr_frames = 0;
        }
        break;
    case 78 ... 85:
        code = chance(500) ? XEN_IOMMUOP_lookup_bfn : XEN_IOMMUOP_lookup_gfn;
        op->u.lookup = (struct xen_iommu_op_lookup) {
            .bfn = cpu_to_le64(chance(700) ? mapped_bfn(f, ctx)
                                           : random_bfn(f)),
            .ctx = cpu_to_le16(ctx),
        };
        if (code == XEN_IOMMUOP_lookup_gfn) {
            op->u.lookup.gfn = cpu_to_le64(chance(600) ? mapped_gfn(f, ctx)
                                                       : random_gfn());
            op->u.lookup.bfn = cpu_to_le64(chance(500) ? 0 : random_bfn(f));
        }
        break;
    case 86 ... 87:
        code = XEN_IOMMUOP_alloc_context;
        if (chance(200)) {
            op->flags = cpu_to_le16(XEN_IOMMUOP_alloc_context_identity);
        }
        break;
    case 88 ... 90:
        code = XEN_IOMMUOP_free_context;
        op->u.context.ctx = cpu_to_le16(ctx);
        break;
    case 91 ... 94:
        code = XEN_IOMMUOP_attach_device;
        op->u.attach_device.sbdf = cpu_to_le32(random_sbdf(f));
        op->u.attach_device.ctx = cpu_to_le16(ctx);
        break;
    case 95 ... 97:
        code = XEN_IOMMUOP_query_reserved;
        op->u.query_reserved = (struct xen_iommu_op_query_reserved) {
            .nr_entries = cpu_to_le32(chance(500) ? STORE_SIZE / 16
                                                  : g_random_int_range(0, 9)),
            .ranges = cpu_to_le64(chance(900) ? STORE_BASE + random_below(2048)
                                              : odd_u64()),
        };
        if (chance(400)) {
            op->flags = cpu_to_le16(XEN_IOMMUOP_query_reserved_device);
            op->u.query_reserved.sbdf = cpu_to_le32(random_sbdf(f));
        } else {
            op->u.query_reserved.ctx = cpu_to_le16(ctx);
        }
        break;
    case 98:
        code = chance(500) ? XEN_IOMMUOP_query_caps : XEN_IOMMUOP_enable;
        if (code == XEN_IOMMUOP_enable && chance(300)) {
            op->flags = cpu_to_le16(XEN_IOMMUOP_enable_irqs);
        }
        break;
    default:
        code = XEN_IOMMUOP_set_queue;
        op->u.set_queue = (struct xen_iommu_op_set_queue) {
            .addr = cpu_to_le64(chance(950) ? QUEUE_BASE +
                                              random_below(QUEUE_SIZE / 4096) *
                                              4096
                                            : odd_u64()),
            .ctx = cpu_to_le16(ctx),
            .nr_ops = cpu_to_le32(chance(900)
                                  ? 1u << g_random_int_range(0, 12)
                                  : odd_u64()),
        };
        if (chance(200)) {
            op->u.set_queue.addr = 0;
            op->u.set_queue.nr_ops = 0;
        }
        break;
    }
    op->op = cpu_to_le16(code);
    op->status = g_random_int();
    if (chance(15)) {
        ((uint8_t *)op)[g_random_int_range(2, 32)] ^=
            1 << g_random_int_range(0, 8);
    }
}

static Fixture *random_fixture(void)
{
    FixtureConfig config = {
        .bfn_bits = g_random_int_range(12, MODEL_MAX_BITS + 1),
        .max_contexts = g_random_int_range(1, MAX_CONTEXTS + 1),
        .max_mappings = chance(500) ? 50000 : 1 + random_below(3000),
        .premap = chance(500),
        .max_irqs = chance(900) ? 1 + random_below(MAX_IRQS) : 0,
        .no_control = chance(30),
        .no_queues = chance(50),
        .no_identity = chance(50),
        .no_mmio = chance(50),
        .ops = chance(100) ? g_random_int() | 0xe : 0,
    };
    XenPVIOMMUReserved reserved[6];
    uint64_t limit = 1ull << config.bfn_bits;
    Fixture *f;

    config.reserved = reserved;
    config.nr_reserved = g_random_int_range(0, ARRAY_SIZE(reserved));
    for (unsigned i = 0; i < config.nr_reserved; i++) {
        reserved[i].bfn = random_below(limit - 100);
        reserved[i].nr = 1 + random_below(100);
        reserved[i].flags = g_random_int();
    }
    f = fixture_new(&config);
    for (unsigned i = 0; i < NR_DEVICES && chance(500); i++) {
        uint64_t bfn = random_below(limit - 100);

        fixture_reserve(f, i, bfn, 1 + random_below(60), i);
        fixture_reserve(f, i, bfn + 50, 1 + random_below(50), g_random_int());
    }
    if (chance(100)) {
        /* Memory that is often short */
        f->pressed = true;
        f->core.budget.max_bytes = xen_pviommu_core_bytes(&f->core) +
                                   g_random_int_range(0, 2000);
    }
    return f;
}

/* What happens besides operations */
static void random_event(Fixture *f)
{
    uint64_t gfn = random_gfn() & (NR_GFNS - 1);
    uint64_t nr = chance(700) ? 1 + random_below(4) : 1 + random_below(300);

    nr = MIN(nr, NR_GFNS - gfn);
    switch (g_random_int_range(0, 40)) {
    case 0 ... 15:
        fixture_invalidate(f, gfn, nr);
        if (chance(800)) {
            /* Given back to the guest sooner or later */
            memset(&f->backend.kind[gfn], chance(500) ? KIND_RAM : KIND_PAGED,
                   nr);
        } else {
            memset(&f->backend.kind[gfn], KIND_ABSENT, MIN(nr, 3));
        }
        break;
    case 16 ... 35:
        /* Pages that are not in use change as they please. */
        for (uint64_t i = gfn; i < gfn + nr; i++) {
            if (!fixture_page_refs(f, i)) {
                f->backend.kind[i] = chance(900) ? KIND_RAM :
                                     g_random_int_range(KIND_ABSENT,
                                                        KIND_PAGED + 1);
            }
        }
        break;
    case 36:
        fixture_accept(f, chance(700) ? xen_pviommu_core_features(&f->core)
                                      : g_random_int_range(0, 128));
        break;
    case 37:
        if (chance(50)) {
            fixture_reset(f);
            f->core.accepted =
                chance(800) ? xen_pviommu_core_features(&f->core) : 0;
        }
        break;
    default:
        fixture_check(f);
        break;
    }
}

static void test_random_operations_match_the_model(void)
{
    const char *env = g_getenv("XEN_PVIOMMU_TEST_OPS");
    uint64_t left = env ? g_ascii_strtoull(env, NULL, 0) : RANDOM_OPS;
    uint64_t counts[XEN_IOMMUOP_direct_irqs + 1][2] = { 0 };

    while (left) {
        Fixture *f = random_fixture();

        for (unsigned n = MIN(left, 5000); n; n--, left--) {
            struct xen_iommu_op op;
            unsigned code;
            uint16_t id;
            int ret;

            random_op(f, &op);
            /* Mostly in a queue of its own context, if it has one */
            id = chance(900) ? le16_to_cpu(op.u.map.ctx) : random_ctx(f);
            if (chance(300) && id < MAX_CONTEXTS && f->model.ctx[id].live &&
                f->model.ctx[id].queue.nr_ops) {
                ret = fixture_queued_op(f, id, &op);
            } else {
                ret = fixture_op(f, &op);
            }
            code = le16_to_cpu(op.op);
            if (code <= XEN_IOMMUOP_direct_irqs) {
                counts[code][!!ret]++;
            }
            if (chance(60)) {
                random_event(f);
            }
        }
        fixture_free(f);
    }
    for (unsigned code = 1; code <= XEN_IOMMUOP_direct_irqs; code++) {
        g_test_message("op %u: %" PRIu64 " done, %" PRIu64 " refused", code,
                       counts[code][0], counts[code][1]);
    }
    rcu_barrier();
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_random_set_seed(g_test_rand_int());
    g_test_add_func("/iommu-op/random-operations-match-the-model",
                    test_random_operations_match_the_model);
    return g_test_run();
}
