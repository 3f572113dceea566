/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * How libFuzzer changes inputs of fuzz-iommu-op: a record at a time
 *
 * Of arbitrary bytes hardly any make an operation that is done, and a change in
 * the middle of an input shifts all that follows. Here records are made that
 * make sense, often of what another record is about, and whole ones come and
 * go; now and then a record gets arbitrary bytes.
 */

#include "qemu/osdep.h"
#include "qemu/bswap.h"
#include "../unit/pviommu-fixture.h"
#include "fuzz.h"

#define RECORD          sizeof(struct xen_iommu_op)
#define MOST_AT_ONCE    8

typedef struct Input {
    uint64_t random;
    uint8_t *records;
    size_t nr;
    size_t max;
} Input;

static uint64_t next_random(Input *in)
{
    uint64_t z = in->random += 0x9e3779b97f4a7c15;

    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
    z = (z ^ z >> 27) * 0x94d049bb133111eb;
    return z ^ z >> 31;
}

static unsigned below(Input *in, unsigned limit)
{
    return next_random(in) % limit;
}

static bool one_in(Input *in, unsigned n)
{
    return !below(in, n);
}

static void record_read(const Input *in, size_t i, struct xen_iommu_op *op)
{
    memcpy(op, in->records + i * RECORD, RECORD);
}

static void record_write(Input *in, size_t i, const struct xen_iommu_op *op)
{
    memcpy(in->records + i * RECORD, op, RECORD);
}

/* Room for @nr records at @at, as far as there is any */
static size_t records_insert(Input *in, size_t at, size_t nr)
{
    nr = MIN(nr, in->max - in->nr);
    memmove(in->records + (at + nr) * RECORD, in->records + at * RECORD,
            (in->nr - at) * RECORD);
    in->nr += nr;
    return nr;
}

static void records_remove(Input *in, size_t at, size_t nr)
{
    memmove(in->records + at * RECORD, in->records + (at + nr) * RECORD,
            (in->nr - at - nr) * RECORD);
    in->nr -= nr;
}

/* Near to where tables have their edges, and to each other */
static uint64_t make_bfn(Input *in)
{
    static const uint64_t edges[] = { 0, 64, 128, 256, 512, 1024, 4096 };

    if (one_in(in, 16)) {
        return next_random(in) >> below(in, 64);
    }
    return one_in(in, 4) ? edges[below(in, ARRAY_SIZE(edges))] +
                           below(in, 16) - 8
                         : below(in, 100);
}

static uint64_t make_gfn(Input *in)
{
    return one_in(in, 16) ? next_random(in) >> below(in, 64)
           : one_in(in, 4) ? below(in, NR_GFNS)
           : NR_GFNS / 16 + below(in, 64);
}

static uint32_t make_nr(Input *in)
{
    switch (below(in, 8)) {
    case 0:
        return next_random(in) >> below(in, 64);
    case 1:
        return below(in, 600);
    case 2:
        return 0;
    default:
        return below(in, 20);
    }
}

static uint32_t make_sbdf(Input *in)
{
    return below(in, NR_DEVICES + one_in(in, 8)) * 0x108;
}

static void make_irq_op(Input *in, struct xen_iommu_op *op, unsigned code)
{
    switch (code) {
    case XEN_IOMMUOP_alloc_irqs:
        op->u.irqs.sbdf = cpu_to_le32(make_sbdf(in));
        op->u.irqs.nr = cpu_to_le32(below(in, 9));
        break;
    case XEN_IOMMUOP_set_irq:
        op->flags = cpu_to_le16(below(in, 8));
        op->u.set_irq.handle = cpu_to_le32(below(in, 16));
        op->u.set_irq.dest = cpu_to_le32(below(in, 300));
        op->u.set_irq.vector = next_random(in);
        op->u.set_irq.delivery = below(in, 8);
        break;
    case XEN_IOMMUOP_free_irqs:
        op->u.irqs.handle = cpu_to_le32(below(in, 16));
        break;
    default:
        op->flags = cpu_to_le16(below(in, 2));
        op->u.direct_irqs.sbdf = cpu_to_le32(make_sbdf(in));
        break;
    }
}

static unsigned make_code(Input *in)
{
    static const uint8_t often[] = {
        XEN_IOMMUOP_map, XEN_IOMMUOP_map, XEN_IOMMUOP_map, XEN_IOMMUOP_map,
        XEN_IOMMUOP_unmap, XEN_IOMMUOP_unmap, XEN_IOMMUOP_flush,
    };

    return one_in(in, 2) ? often[below(in, ARRAY_SIZE(often))]
                         : 1 + below(in, XEN_IOMMUOP_direct_irqs);
}

/* What may be a slot of a higher level of a table */
static void make_large(Input *in, struct xen_iommu_op *op)
{
    op->u.map.bfn = cpu_to_le64(512 * (1 + below(in, 7)) + one_in(in, 4));
    op->u.map.gfn = cpu_to_le64(512 * below(in, 3) + one_in(in, 4));
    op->u.map.nr_frames = cpu_to_le32(512 + below(in, 3) * 256);
}

/* An operation that makes sense by itself */
static void make_op(Input *in, struct xen_iommu_op *op)
{
    unsigned code = make_code(in);
    uint16_t ctx = below(in, 3);

    memset(op, 0, RECORD);
    op->op = cpu_to_le16(code);
    switch (code) {
    case XEN_IOMMUOP_alloc_context:
        op->flags = cpu_to_le16(one_in(in, 8));
        break;
    case XEN_IOMMUOP_free_context:
        op->u.context.ctx = cpu_to_le16(ctx);
        break;
    case XEN_IOMMUOP_attach_device:
        op->u.attach_device.sbdf = cpu_to_le32(make_sbdf(in));
        op->u.attach_device.ctx = cpu_to_le16(ctx);
        break;
    case XEN_IOMMUOP_enable:
        op->flags = cpu_to_le16(one_in(in, 4));
        break;
    case XEN_IOMMUOP_query_caps:
        break;
    case XEN_IOMMUOP_query_reserved:
        op->flags = cpu_to_le16(below(in, 2));
        op->u.query_reserved.nr_entries = cpu_to_le32(below(in, 6));
        op->u.query_reserved.ranges = cpu_to_le64(STORE_BASE + below(in, 8));
        if (op->flags) {
            op->u.query_reserved.sbdf = cpu_to_le32(make_sbdf(in));
        } else {
            op->u.query_reserved.ctx = cpu_to_le16(ctx);
        }
        break;
    case XEN_IOMMUOP_set_queue:
        op->u.set_queue.ctx = cpu_to_le16(ctx);
        if (!one_in(in, 4)) {
            op->u.set_queue.addr = cpu_to_le64(QUEUE_BASE +
                                               below(in, 256) * 4096);
            op->u.set_queue.nr_ops = cpu_to_le32(1u << below(in, 13));
        }
        break;
    case XEN_IOMMUOP_alloc_irqs ... XEN_IOMMUOP_direct_irqs:
        make_irq_op(in, op, code);
        break;
    case XEN_IOMMUOP_lookup_bfn ... XEN_IOMMUOP_lookup_gfn:
        op->u.lookup.ctx = cpu_to_le16(ctx);
        op->u.lookup.bfn = cpu_to_le64(make_bfn(in));
        if (code == XEN_IOMMUOP_lookup_gfn) {
            op->u.lookup.gfn = cpu_to_le64(make_gfn(in));
        }
        break;
    default:
        op->flags = cpu_to_le16(one_in(in, 4));
        op->u.map.bfn = cpu_to_le64(make_bfn(in));
        op->u.map.ctx = cpu_to_le16(ctx);
        op->u.map.nr_frames = cpu_to_le32(make_nr(in));
        if (code == XEN_IOMMUOP_map) {
            op->u.map.gfn = cpu_to_le64(make_gfn(in));
            op->u.map.domid = cpu_to_le16(DOMID_SELF);
            if (one_in(in, 4)) {
                make_large(in, op);
            }
        } else if (code == XEN_IOMMUOP_flush) {
            op->flags = 0;
            if (one_in(in, 3)) {
                op->u.flush.bfn = cpu_to_le64(UINT64_MAX);
                op->u.flush.nr_frames = 0;
            }
        }
        break;
    }
}

/* An event: see fuzz_event(). */
static void make_event(Input *in, struct xen_iommu_op *op)
{
    make_op(in, op);
    op->op = cpu_to_le16(0xff00);
    op->u.map.gfn = cpu_to_le64(make_gfn(in));
    op->u.map.nr_frames = cpu_to_le32(below(in, 8));
    op->flags = cpu_to_le16(below(in, 16));
    if (op->flags % 8 == cpu_to_le16(1) && !one_in(in, 4)) {
        op->u.map.bfn = cpu_to_le64(XEN_IOMMU_FEATURES_ALL);
    }
}

/* In the queue of a context: by the codes that a queue takes, and others */
static void make_queued(Input *in, struct xen_iommu_op *op)
{
    unsigned code = le16_to_cpu(op->op) & 0xf;

    op->op = cpu_to_le16(0xfe00 | below(in, 3) << 4 | code);
}

/* Of what @op has mapped, or a part of it, or of more */
static void make_related(Input *in, struct xen_iommu_op *op)
{
    static const uint8_t codes[] = {
        XEN_IOMMUOP_unmap, XEN_IOMMUOP_unmap, XEN_IOMMUOP_flush,
        XEN_IOMMUOP_lookup_bfn, XEN_IOMMUOP_lookup_gfn, XEN_IOMMUOP_map,
    };
    uint64_t bfn = le64_to_cpu(op->u.map.bfn);
    uint32_t nr = le32_to_cpu(op->u.map.nr_frames);
    unsigned code = codes[below(in, ARRAY_SIZE(codes))];

    if (one_in(in, 8)) {
        op->op = cpu_to_le16(0xff00);
        op->flags = cpu_to_le16(3 + below(in, 5) + 8 * below(in, 2));
        return;
    }
    if (one_in(in, 3) && nr > 1) {
        unsigned skipped = below(in, MIN(nr, 1024));

        op->u.map.bfn = cpu_to_le64(bfn + skipped);
        op->u.map.nr_frames = cpu_to_le32(1 + below(in, nr - skipped));
    }
    op->op = cpu_to_le16(code);
    if (code == XEN_IOMMUOP_map) {
        op->u.map.bfn = cpu_to_le64(one_in(in, 2) ? bfn + nr : make_bfn(in));
        return;
    }
    op->flags = cpu_to_le16(code == XEN_IOMMUOP_unmap && one_in(in, 4));
    op->u.map.domid = 0;
    if (code != XEN_IOMMUOP_lookup_gfn) {
        op->u.map.gfn = 0;
    }
    if (code == XEN_IOMMUOP_lookup_bfn || code == XEN_IOMMUOP_lookup_gfn) {
        op->u.lookup.nr_frames = 0;
    }
}

static void add_record(Input *in)
{
    size_t at = below(in, in->nr + 1);
    struct xen_iommu_op op;

    if (at && one_in(in, 2)) {
        record_read(in, below(in, at), &op);
        make_related(in, &op);
    } else if (one_in(in, 8)) {
        make_event(in, &op);
    } else {
        make_op(in, &op);
    }
    if ((le16_to_cpu(op.op) & 0xff00) != 0xff00 && one_in(in, 4)) {
        make_queued(in, &op);
    }
    if (records_insert(in, at, 1)) {
        record_write(in, at, &op);
    }
}

/* Some records once more, where they are or elsewhere */
static void copy_records(Input *in)
{
    size_t from = below(in, in->nr), at = below(in, in->nr + 1), nr;
    size_t wanted = 1 + below(in, MIN(in->nr - from, MOST_AT_ONCE));
    uint8_t copy[MOST_AT_ONCE * RECORD];

    memcpy(copy, in->records + from * RECORD, wanted * RECORD);
    nr = records_insert(in, at, wanted);
    memcpy(in->records + at * RECORD, copy, nr * RECORD);
}

static void change_field(Input *in)
{
    size_t i = below(in, in->nr);
    struct xen_iommu_op op;

    record_read(in, i, &op);
    switch (below(in, 6)) {
    case 0:
        op.u.map.bfn = cpu_to_le64(make_bfn(in));
        break;
    case 1:
        op.u.map.gfn = cpu_to_le64(make_gfn(in));
        break;
    case 2:
        op.u.map.nr_frames = cpu_to_le32(make_nr(in));
        break;
    case 3:
        op.u.map.ctx = cpu_to_le16(below(in, 4));
        break;
    case 4:
        op.flags ^= cpu_to_le16(1u << below(in, 4));
        break;
    default:
        op.op = cpu_to_le16(make_code(in));
        break;
    }
    record_write(in, i, &op);
}

static void mutate(Input *in)
{
    size_t at;

    if (!in->nr) {
        add_record(in);
        return;
    }
    at = below(in, in->nr);
    switch (below(in, 16)) {
    case 0 ... 6:
        add_record(in);
        break;
    case 7 ... 8:
        copy_records(in);
        break;
    case 9 ... 10:
        records_remove(in, at, 1 + below(in, MIN(in->nr - at, MOST_AT_ONCE)));
        break;
    case 11 ... 14:
        change_field(in);
        break;
    default:
        LLVMFuzzerMutate(in->records + at * RECORD, RECORD, RECORD);
        break;
    }
}

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size,
                               unsigned seed)
{
    Input in = {
        .random = seed,
        .records = data + 1,
        .nr = size ? (size - 1) / RECORD : 0,
        .max = (max_size - 1) / RECORD,
    };

    if (!size || one_in(&in, 32)) {
        data[0] = next_random(&in);
    }
    for (unsigned n = 1 + below(&in, 4); n; n--) {
        mutate(&in);
    }
    return 1 + in.nr * RECORD;
}

/* The beginning of one, and the end of another */
size_t LLVMFuzzerCustomCrossOver(const uint8_t *data1, size_t size1,
                                 const uint8_t *data2, size_t size2,
                                 uint8_t *out, size_t max_size, unsigned seed)
{
    Input in = { .random = seed };
    size_t nr1 = size1 ? (size1 - 1) / RECORD : 0;
    size_t nr2 = size2 ? (size2 - 1) / RECORD : 0;
    size_t first = below(&in, nr1 + 1), skipped = below(&in, nr2 + 1);
    size_t rest = MIN(nr2 - skipped, (max_size - 1) / RECORD - first);

    out[0] = size1 ? data1[0] : 0;
    if (first) {
        memcpy(out + 1, data1 + 1, first * RECORD);
    }
    if (rest) {
        memcpy(out + 1 + first * RECORD, data2 + 1 + skipped * RECORD,
               rest * RECORD);
    }
    return 1 + (first + rest) * RECORD;
}
