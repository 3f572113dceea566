/*
 * What the tests of queues have in common: a machine with a device that only
 * does DMA, and a queue for it
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef TESTS_LIBQOS_QUEUE_FIXTURE_H
#define TESTS_LIBQOS_QUEUE_FIXTURE_H

#include "qemu/bswap.h"
#include "libqos/pviommu-mirror.h"

#define GFN             0x4000ull
#define BFN             0x4000000ull
#define ADDR(frame)     ((uint64_t)(frame) * PVIOMMU_PAGE)
#define SLOT            0x11
#define NR_OPS          16

#define QUEUE(n)        (PVIOMMU_QUEUE_ADDR + (n) * PVIOMMU_QUEUE_STRIDE)
#define DOORBELL        XEN_IOMMU_QUEUE_doorbell
#define DEAD            XEN_IOMMU_QUEUE_dead
#define FIELD(name)     offsetof(struct xen_iommu_queue, name)
#define ALL             XEN_IOMMU_FLUSH_ALL

/* A machine with a device that listens to nothing, and a queue for it. */
typedef struct Fixture {
    QXenPVIOMMU *iommu;
    QMirror m;
    QPVIOMMUQueue q;
} Fixture;

/* With no queue yet */
static inline Fixture *fixture_new_bare(const char *machine, const char *props,
                             const char *extra)
{
    g_autofree char *devices = g_strdup_printf(MIRROR_DEVICE("none") "%s", SLOT,
                                               extra ?: "");
    Fixture *f = g_new0(Fixture, 1);

    f->iommu = pviommu_start(machine, props, devices);
    mirror_init(&f->m, f->iommu, QPCI_DEVFN(SLOT, 0));
    pviommu_accept(f->iommu, XEN_IOMMU_FEATURES_ALL);
    return f;
}

static inline Fixture *fixture_new(const char *machine, const char *props,
                        const char *extra)
{
    Fixture *f = fixture_new_bare(machine, props ?: "premap=off", extra);

    pviommu_queue_init(&f->q, f->iommu, 0, QUEUE(0), NR_OPS);
    return f;
}

static inline void fixture_free(Fixture *f)
{
    pviommu_quit(f->iommu);
    g_free(f);
}

static inline uint64_t counter(Fixture *f, unsigned n)
{
    return pviommu_counter(f->iommu, n);
}

static inline uint32_t push_map(QPVIOMMUQueue *q, uint64_t bfn, uint64_t gfn,
                         uint32_t nr)
{
    return pviommu_queue_push(q, pviommu_op_map(q->ctx, bfn, gfn, nr, 0));
}

static inline uint32_t push_unmap(QPVIOMMUQueue *q, uint64_t bfn, uint32_t nr)
{
    return pviommu_queue_push(q, pviommu_op_unmap(q->ctx, bfn, nr));
}

static inline uint32_t push_flush(QPVIOMMUQueue *q)
{
    return pviommu_queue_push(q, pviommu_op_flush(q->ctx, ALL, 0));
}

/* A call that does nothing but run what is queued. */
static inline void call(Fixture *f)
{
    assert_status(pviommu_ring(f->iommu, 0, 0, 0, NULL), 0);
}

/* DMA at @bfn reaches @gfn. */
static inline void assert_reaches(QMirror *m, uint64_t bfn, uint64_t gfn)
{
    static uint64_t salt = 0x5a5a000000000001;
    QTestState *qts = m->iommu->qts;
    uint64_t data;

    salt += 2;
    qtest_writeq(qts, ADDR(gfn) + 8, salt);
    g_assert_true(mirror_dma_read(m, ADDR(bfn) + 8, &data));
    g_assert_cmphex(data, ==, salt);
    g_assert_true(mirror_dma_write(m, ADDR(bfn) + 8, ~salt, 8));
    g_assert_cmphex(qtest_readq(qts, ADDR(gfn) + 8), ==, ~salt);
}

/* DMA at @bfn is a fault, and leaves @gfn alone. */
static inline void assert_fault(QMirror *m, uint64_t bfn, uint64_t gfn)
{
    QTestState *qts = m->iommu->qts;
    uint64_t before = pviommu_counter(m->iommu, XEN_PVIOMMU_COUNTER_FAULTS);
    uint64_t data;

    qtest_writeq(qts, ADDR(gfn), 0x1111222233334444);
    g_assert_false(mirror_dma_write(m, ADDR(bfn), 0x5555, 8));
    g_assert_cmphex(qtest_readq(qts, ADDR(gfn)), ==, 0x1111222233334444);
    g_assert_false(mirror_dma_read(m, ADDR(bfn), &data));
    g_assert_cmphex(data, ==, 0);
    g_assert_cmpuint(pviommu_counter(m->iommu, XEN_PVIOMMU_COUNTER_FAULTS), ==,
                     before + 2);
}

/* All of @q ran up to here, with so many errors. */
static inline void assert_ran(QPVIOMMUQueue *q, uint32_t errors)
{
    g_assert_cmpuint(pviommu_queue_head(q), ==, q->tail);
    g_assert_cmpuint(pviommu_queue_errors(q), ==, errors);
}

static inline void assert_not_ran(QPVIOMMUQueue *q, uint32_t left)
{
    g_assert_cmpuint(q->tail - pviommu_queue_head(q), ==, left);
}

/* @q is no more: what is pushed stays, and nothing is stored. */
static inline void assert_gone(Fixture *f, QPVIOMMUQueue *q)
{
    QTestState *qts = f->iommu->qts;
    uint64_t size = pviommu_queue_size(q->nr_ops);
    g_autofree uint8_t *got = g_malloc(size);
    g_autofree uint8_t *old = g_malloc(size);
    uint64_t data;

    memset(old, 0xa5, size);
    for (unsigned i = 0; i < 2; i++) {
        /* Tail ahead of head by one, or by far too much. */
        stl_le_p(old + FIELD(head), 7);
        stl_le_p(old + FIELD(tail), i ? 8 : 0xa5a5a5a5);
        qtest_bufwrite(qts, q->addr, old, size);
        mirror_dma_read(&f->m, ADDR(BFN), &data);
        call(f);
        mirror_dma_write(&f->m, ADDR(BFN), 1, 8);
        qtest_bufread(qts, q->addr, got, size);
        g_assert_cmpmem(got, size, old, size);
    }
}

#endif
