/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Batches of operations as a hostile guest may send them
 *
 * The input is a byte of configuration and 32-byte records, each an operation
 * - or, with its op field 0xff.., an invalidation, a reset, or a change of the
 * accepted features; with 0xfe.., one of a queue. With bit 7 of the first byte
 * numbers are brought near to what is valid. Every outcome is compared with the
 * model of tests/unit.
 *
 * Built with libFuzzer (tests/fuzz/run), which changes inputs by mutate.c; or,
 * with FUZZ_MAIN, as a unit test that makes up its own inputs, by the seed that
 * GLib prints (--seed goes back to it), or runs the files that are given.
 */

#include "qemu/osdep.h"
#include "qemu/bswap.h"
#include "../unit/pviommu-fixture.h"
#include "../unit/test-rcu-barrier.h"
#include "fuzz.h"

/* After so many inputs RCU frees what they left: it is not to fall behind. */
#define INPUTS_A_BARRIER 512

/* Done, and refused */
static uint64_t nr_ops[2];
static uint64_t nr_inputs;

static void fuzz_event(Fixture *f, const struct xen_iommu_op *op)
{
    uint64_t gfn = le64_to_cpu(op->u.map.gfn) % NR_GFNS;
    uint64_t nr = 1 + le32_to_cpu(op->u.map.nr_frames) % (NR_GFNS - gfn);

    switch (op->flags % 8) {
    case 0:
        fixture_reset(f);
        break;
    case 1:
        fixture_accept(f, op->u.map.bfn & XEN_IOMMU_FEATURES_ALL);
        break;
    case 2:
        if (!f->dev[gfn % NR_DEVICES].gone) {
            fixture_unplug(f, gfn % NR_DEVICES);
        }
        break;
    default:
        fixture_invalidate(f, gfn, nr);
        memset(&f->backend.kind[gfn], op->flags & 8 ? KIND_RAM : KIND_PAGED,
               nr);
        break;
    }
}

static void fuzz_tame(struct xen_iommu_op *op)
{
    struct xen_iommu_op_map *u = &op->u.map;

    op->op = cpu_to_le16(le16_to_cpu(op->op) % (XEN_IOMMUOP_direct_irqs + 1));
    switch (le16_to_cpu(op->op)) {
    case XEN_IOMMUOP_map:
        op->flags = cpu_to_le16(le16_to_cpu(op->flags) & 1);
        u->gfn = cpu_to_le64(NR_GFNS / 16 + le64_to_cpu(u->gfn) % 64);
        u->domid = cpu_to_le16(DOMID_SELF);
        break;
    case XEN_IOMMUOP_unmap:
        op->flags = cpu_to_le16(le16_to_cpu(op->flags) & 1);
        u->gfn = 0;
        u->domid = 0;
        break;
    case XEN_IOMMUOP_flush:
        op->flags = 0;
        u->gfn = 0;
        u->domid = 0;
        break;
    case XEN_IOMMUOP_set_queue:
        op->flags = 0;
        op->u.set_queue.addr =
            cpu_to_le64(QUEUE_BASE +
                        (le64_to_cpu(op->u.set_queue.addr) & 0xff000));
        op->u.set_queue.pad = 0;
        op->u.set_queue.pad1 = 0;
        op->u.set_queue.ctx = cpu_to_le16(le16_to_cpu(u->ctx) % 3);
        op->u.set_queue.nr_ops = cpu_to_le32(1u << (u->nr_frames % 12));
        return;
    case XEN_IOMMUOP_alloc_irqs:
        op->u.irqs = (struct xen_iommu_op_irqs) {
            .sbdf = cpu_to_le32((le32_to_cpu(op->u.irqs.sbdf) % 5) * 0x108),
            .nr = cpu_to_le32(le32_to_cpu(op->u.irqs.nr) % 8),
        };
        return;
    case XEN_IOMMUOP_set_irq:
        op->u.set_irq.handle =
            cpu_to_le32(le32_to_cpu(op->u.set_irq.handle) % MAX_IRQS);
        op->u.set_irq.pad = 0;
        op->u.set_irq.pad1 = 0;
        op->u.set_irq.pad2 = 0;
        return;
    case XEN_IOMMUOP_free_irqs:
        op->u.irqs = (struct xen_iommu_op_irqs) {
            .handle = cpu_to_le32(le32_to_cpu(op->u.irqs.handle) % MAX_IRQS),
        };
        return;
    case XEN_IOMMUOP_direct_irqs:
        op->flags = cpu_to_le16(le16_to_cpu(op->flags) & 1);
        op->u.direct_irqs = (struct xen_iommu_op_direct_irqs) {
            .sbdf = cpu_to_le32((le32_to_cpu(op->u.irqs.sbdf) % 5) * 0x108),
        };
        return;
    default:
        return;
    }
    u->bfn = cpu_to_le64(le64_to_cpu(u->bfn) % 64);
    u->ctx = cpu_to_le16(le16_to_cpu(u->ctx) % 3);
    u->nr_frames = cpu_to_le32(le32_to_cpu(u->nr_frames) % 16);
}

/* In the queue of a context, if that has one */
static int fuzz_queued(Fixture *f, struct xen_iommu_op *op, uint8_t id)
{
    id %= f->core.limits.max_contexts;
    return f->model.ctx[id].live && f->model.ctx[id].queue.nr_ops
           ? fixture_queued_op(f, id, op) : fixture_op(f, op);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const XenPVIOMMUReserved reserved[] = {
        { 100, 5, XEN_IOMMU_RESERVED_msi }, { 4000, 96, 0 },
    };
    FixtureConfig config = {
        .bfn_bits = 12,
        .max_contexts = 3,
        .max_mappings = 5000,
        .max_irqs = MAX_IRQS,
        .reserved = reserved,
    };
    struct xen_iommu_op op;
    bool tame;
    Fixture *f;

    if (!size) {
        return 0;
    }
    tame = data[0] & 0x80;
    config.premap = data[0] & 1;
    config.no_control = (data[0] & 0xe) == 0xe;
    config.nr_reserved = data[0] & 0x10 ? ARRAY_SIZE(reserved) : 0;
    config.max_mappings = data[0] & 0x20 ? 5000 : 300;
    f = fixture_new(&config);
    if (data[0] & 0x40) {
        fixture_reserve(f, 1, 10, 3, 2);
    }
    if ((data[0] & 0xe) == 0x2) {
        /* Memory that is often short */
        f->pressed = true;
        f->core.budget.max_bytes = xen_pviommu_core_bytes(&f->core) + 1500;
    }
    data++;
    size--;
    for (; size >= sizeof(op); data += sizeof(op), size -= sizeof(op)) {
        uint16_t code;
        int ret;

        memcpy(&op, data, sizeof(op));
        code = le16_to_cpu(op.op);
        if ((code & 0xff00) == 0xff00) {
            fuzz_event(f, &op);
            continue;
        }
        if ((code & 0xff00) == 0xfe00) {
            /* The low nibble is the operation, the other one the context. */
            op.op = cpu_to_le16(code & 0xf);
        }
        if (tame) {
            fuzz_tame(&op);
        }
        if ((code & 0xff00) == 0xfe00) {
            ret = fuzz_queued(f, &op, (code >> 4) & 0xf);
        } else {
            ret = fixture_op(f, &op);
        }
        nr_ops[!!ret]++;
    }
    fixture_free(f);
    if (!(++nr_inputs % INPUTS_A_BARRIER)) {
        rcu_barrier();
    }
    return 0;
}

#ifndef FUZZ_MAIN
static void say_counts(void)
{
    fprintf(stderr, "operations done: %" PRIu64 "\n"
            "operations refused: %" PRIu64 "\n", nr_ops[0], nr_ops[1]);
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    atexit(say_counts);
    return 0;
}
#else
#define RANDOM_INPUTS   1500
#define RANDOM_RECORDS  200

/* Anything, but mostly like what guests send: of other bytes nothing is run. */
static void random_record(struct xen_iommu_op *op)
{
    uint8_t *p = (uint8_t *)op;
    int kind = g_test_rand_int_range(0, 32);

    for (size_t i = 0; i < sizeof(*op); i++) {
        p[i] = g_test_rand_int();
    }
    if (kind) {
        p[0] %= 16;
        p[1] = kind < 3 ? 0xff : kind < 10 ? 0xfe : 0;
    }
    for (size_t i = 2; i < sizeof(*op); i += 2) {
        switch (g_test_rand_int_range(0, 8)) {
        case 0:
            break;
        case 1 ... 2:
            p[i] %= 4;
            p[i + 1] = 0;
            break;
        default:
            p[i] = p[i + 1] = 0;
            break;
        }
    }
}

/* An event by which the guest has all features */
static void accept_features(struct xen_iommu_op *op)
{
    *op = (struct xen_iommu_op) {
        .op = cpu_to_le16(0xff00),
        .flags = cpu_to_le16(1),
        .u.map.bfn = cpu_to_le64(XEN_IOMMU_FEATURES_ALL),
    };
}

static void test_any_bytes_match_the_model(void)
{
    const size_t len = sizeof(struct xen_iommu_op);
    g_autofree uint8_t *data = g_malloc(1 + RANDOM_RECORDS * len);

    for (unsigned i = 0; i < RANDOM_INPUTS; i++) {
        unsigned records = g_test_rand_int_range(1, RANDOM_RECORDS + 1);

        data[0] = g_test_rand_int();
        for (unsigned n = 0; n < records; n++) {
            struct xen_iommu_op op;

            if (!n && i % 8) {
                accept_features(&op);
            } else {
                random_record(&op);
            }
            memcpy(data + 1 + n * len, &op, len);
        }
        /* What is left over is no operation. */
        LLVMFuzzerTestOneInput(data, 1 + records * len - i % 2);
    }
    g_test_message("%" PRIu64 " operations done, %" PRIu64 " refused",
                   nr_ops[0], nr_ops[1]);
    g_assert_cmpuint(nr_ops[0], >, RANDOM_INPUTS);
    rcu_barrier();
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    if (argc == 1) {
        g_test_add_func("/fuzz/any-bytes-match-the-model",
                        test_any_bytes_match_the_model);
        return g_test_run();
    }
    for (int i = 1; i < argc; i++) {
        g_autofree char *data = NULL;
        g_autoptr(GError) error = NULL;
        size_t size;

        if (!g_file_get_contents(argv[i], &data, &size, &error)) {
            g_printerr("%s\n", error->message);
            return 1;
        }
        LLVMFuzzerTestOneInput((const uint8_t *)data, size);
    }
    return 0;
}
#endif
