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
 * Built with -fsanitize=fuzzer, or, with FUZZ_MAIN, to run the files given.
 */

#include "qemu/osdep.h"
#include "qemu/bswap.h"
#include "../unit/pviommu-bench.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void fuzz_event(Bench *b, const struct xen_iommu_op *op)
{
    uint64_t gfn = le64_to_cpu(op->u.map.gfn) % NR_GFNS;
    uint64_t nr = 1 + le32_to_cpu(op->u.map.nr_frames) % (NR_GFNS - gfn);

    switch (op->flags % 8) {
    case 0:
        bench_reset(b);
        break;
    case 1:
        b->core.accepted = op->u.map.bfn & XEN_IOMMU_FEATURES_ALL;
        break;
    default:
        bench_invalidate(b, gfn, nr);
        memset(&b->backend.kind[gfn], op->flags & 8 ? KIND_RAM : KIND_PAGED,
               nr);
        break;
    }
}

static void fuzz_tame(struct xen_iommu_op *op)
{
    struct xen_iommu_op_map *u = &op->u.map;

    op->op = cpu_to_le16(le16_to_cpu(op->op) % (XEN_IOMMUOP_set_queue + 1));
    switch (le16_to_cpu(op->op)) {
    case XEN_IOMMUOP_map:
        op->flags = cpu_to_le16(le16_to_cpu(op->flags) & 1);
        u->gfn = cpu_to_le64(256 + le64_to_cpu(u->gfn) % 64);
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
    default:
        return;
    }
    u->bfn = cpu_to_le64(le64_to_cpu(u->bfn) % 64);
    u->ctx = cpu_to_le16(le16_to_cpu(u->ctx) % 3);
    u->nr_frames = cpu_to_le32(le32_to_cpu(u->nr_frames) % 16);
}

/* In the queue of a context, if that has one */
static void fuzz_queued(Bench *b, struct xen_iommu_op *op, uint8_t id)
{
    id %= b->core.limits.max_contexts;
    if (b->model.ctx[id].queue.nr_ops) {
        bench_queued_op(b, id, op);
    } else {
        bench_op(b, op);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const XenPVIOMMUReserved reserved[] = {
        { 100, 5, XEN_IOMMU_RESERVED_msi }, { 4000, 96, 0 },
    };
    BenchConfig config = {
        .bfn_bits = 12,
        .max_contexts = 3,
        .max_mappings = 5000,
        .reserved = reserved,
    };
    struct xen_iommu_op op;
    bool tame;
    Bench *b;

    if (!size) {
        return 0;
    }
    tame = data[0] & 0x80;
    config.premap = data[0] & 1;
    config.no_control = (data[0] & 0xe) == 0xe;
    config.nr_reserved = data[0] & 0x10 ? ARRAY_SIZE(reserved) : 0;
    config.max_mappings = data[0] & 0x20 ? 5000 : 300;
    b = bench_new(&config);
    if (data[0] & 0x40) {
        bench_reserve(b, 1, 10, 3, 2);
    }
    data++;
    size--;
    for (; size >= sizeof(op); data += sizeof(op), size -= sizeof(op)) {
        uint16_t code;

        memcpy(&op, data, sizeof(op));
        code = le16_to_cpu(op.op);
        if ((code & 0xff00) == 0xff00) {
            fuzz_event(b, &op);
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
            fuzz_queued(b, &op, (code >> 4) & 0xf);
        } else {
            bench_op(b, &op);
        }
    }
    bench_free(b);
    return 0;
}

#ifdef FUZZ_MAIN
int main(int argc, char **argv)
{
    for (int i = 1; i < argc; i++) {
        g_autofree char *data = NULL;
        size_t size;

        if (g_file_get_contents(argv[i], &data, &size, NULL)) {
            LLVMFuzzerTestOneInput((const uint8_t *)data, size);
        }
    }
    return 0;
}
#endif
