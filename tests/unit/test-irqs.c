/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Interrupts: the table, and the operations on it, against the model in
 * pviommu-model.c
 */

#include "qemu/osdep.h"
#include "qemu/bswap.h"
#include "pviommu-calls.h"

#define MASKED  XEN_IOMMUOP_set_irq_masked
#define LOGICAL XEN_IOMMUOP_set_irq_logical
#define LEVEL   XEN_IOMMUOP_set_irq_level

static const FixtureConfig small = {
    .bfn_bits = 12,
    .max_contexts = 4,
    .max_mappings = 10000,
    .max_irqs = 64,
    .premap = true,
};

/* What messages of device @i raise: a vector, or the reason that they do not */
#define REFUSED 0x1000
#define MASKED_ONE 0x2000

static unsigned raises(Fixture *f, unsigned i, uint64_t addr, uint32_t data)
{
    uint32_t reason = 0;
    const XenPVIOMMUIrq *irq = xen_pviommu_irq_find(&f->core.irqs,
                                                    &f->dev[i].irqs, addr, data,
                                                    &reason);

    if (irq) {
        return irq->vector;
    }
    g_assert_true(reason == XEN_IOMMU_FAULT_REASON_irq ||
                  reason == XEN_IOMMU_FAULT_REASON_masked);
    return reason == XEN_IOMMU_FAULT_REASON_irq ? REFUSED : MASKED_ONE;
}

static unsigned raises_nth(Fixture *f, unsigned i, uint32_t handle, unsigned n)
{
    return raises(f, i, XEN_IOMMU_IRQ_ADDR(handle), XEN_IOMMU_IRQ_DATA(n));
}

static uint32_t alloc(Fixture *f, unsigned i, unsigned nr)
{
    uint32_t handle;

    OK(do_alloc_irqs(f, f->dev[i].sbdf, nr, &handle));
    return handle;
}

static void test_alloc(void)
{
    Fixture *f = fixture_new(&small);
    uint32_t a = alloc(f, 0, 1), b = alloc(f, 1, 32), c = alloc(f, 0, 3), h;

    g_assert_cmpuint(raises_nth(f, 0, a, 0), ==, MASKED_ONE);
    g_assert_cmpuint(raises_nth(f, 1, b, 31), ==, MASKED_ONE);
    g_assert_cmpuint(raises_nth(f, 1, b, 32), ==, REFUSED);
    FAILS(ENODEV, do_alloc_irqs(f, 0x10000, 1, &h));
    FAILS(EINVAL, do_alloc_irqs(f, f->dev[0].sbdf, 0, &h));
    FAILS(EINVAL, do_alloc_irqs(f, f->dev[0].sbdf, 33, &h));
    FAILS(EINVAL, do_alloc_irqs(f, f->dev[0].sbdf, UINT32_MAX, &h));

    /* 28 are left, in one piece. */
    FAILS(ENOSPC, do_alloc_irqs(f, f->dev[2].sbdf, 29, &h));
    OK(do_alloc_irqs(f, f->dev[2].sbdf, 28, &h));
    FAILS(ENOSPC, do_alloc_irqs(f, f->dev[2].sbdf, 1, &h));

    /* All of an allocation, by its first one, and no more */
    FAILS(ENOENT, do_free_irqs(f, b + 1));
    FAILS(ENOENT, do_free_irqs(f, b + 31));
    FAILS(ENOENT, do_free_irqs(f, 64));
    FAILS(ENOENT, do_free_irqs(f, UINT32_MAX));
    OK(do_free_irqs(f, b));
    FAILS(ENOENT, do_free_irqs(f, b));
    g_assert_cmpuint(f->dev[1].irqs.nr, ==, 0);
    g_assert_cmpuint(raises_nth(f, 0, c, 2), ==, MASKED_ONE);
    OK(do_alloc_irqs(f, f->dev[1].sbdf, 32, &h));
    g_assert_cmpuint(h, ==, b);
    OK(do_free_irqs(f, a));
    OK(do_free_irqs(f, c));
    fixture_free(f);
}

static void test_set(void)
{
    Fixture *f = fixture_new(&small);
    uint32_t h = alloc(f, 0, 4);
    const XenPVIOMMUIrq *e = &f->core.irqs.entries[h + 2];

    OK(do_set_irq(f, h + 2, 0x12345678, 0x61, XEN_IOMMU_IRQ_LOWEST,
                  LOGICAL | LEVEL));
    g_assert_cmphex(e->dest, ==, 0x12345678);
    g_assert_cmpuint(raises_nth(f, 0, h, 2), ==, 0x61);
    g_assert_cmpuint(raises_nth(f, 0, h, 1), ==, MASKED_ONE);

    /* What cannot be set changes nothing. */
    for (unsigned vector = 0; vector < 16; vector++) {
        FAILS(EINVAL, do_set_irq(f, h + 2, 0, vector, 0, 0));
        FAILS(EINVAL, do_set_irq(f, h + 2, 0, vector, 1, 0));
        OK(do_set_irq(f, h, 0, vector, XEN_IOMMU_IRQ_NMI, 0));
    }
    FAILS(EINVAL, do_set_irq(f, h + 2, 0, 0x61, 3, 0));
    FAILS(EINVAL, do_set_irq(f, h + 2, 0, 0x61, 6, 0));
    FAILS(EINVAL, do_set_irq(f, h + 2, 0, 0x61, 8, 0));
    FAILS(EINVAL, do_set_irq(f, h + 2, 0, 0x61, 0, 8));
    FAILS(EINVAL, do_set_irq(f, h + 2, 1, 0, 0, MASKED));
    FAILS(EINVAL, do_set_irq(f, h + 2, 0, 0x61, 0, MASKED));
    FAILS(EINVAL, do_set_irq(f, h + 2, 0, 0, 1, MASKED));
    FAILS(EINVAL, do_set_irq(f, h + 2, 0, 0, 0, MASKED | LEVEL));
    FAILS(ENOENT, do_set_irq(f, h + 4, 0, 0x61, 0, 0));
    FAILS(ENOENT, do_set_irq(f, 64, 0, 0x61, 0, 0));
    FAILS(ENOENT, do_set_irq(f, UINT32_MAX, 0, 0x61, 0, 0));
    g_assert_cmpuint(raises_nth(f, 0, h, 2), ==, 0x61);

    OK(do_set_irq(f, h + 2, 0, 0, 0, MASKED));
    g_assert_cmpuint(raises_nth(f, 0, h, 2), ==, MASKED_ONE);
    OK(do_set_irq(f, h + 2, 0, 255, 0, 0));
    g_assert_cmpuint(raises_nth(f, 0, h, 2), ==, 255);
    /* An entry that is allocated anew is masked. */
    OK(do_free_irqs(f, h));
    g_assert_cmpuint(raises_nth(f, 0, h, 2), ==, REFUSED);
    for (unsigned i = 0; i < 64; i++) {
        g_assert_cmpuint(raises_nth(f, 0, alloc(f, 0, 1), 0), ==, MASKED_ONE);
    }
    fixture_free(f);
}

/* Of all messages there can be, one raises each entry. */
static void test_messages(void)
{
    Fixture *f = fixture_new(&small);
    uint32_t a = alloc(f, 0, 4), b = alloc(f, 1, 4);
    unsigned raised = 0;

    for (unsigned i = 0; i < 4; i++) {
        OK(do_set_irq(f, a + i, 0, 0x40 + i, 0, 0));
        OK(do_set_irq(f, b + i, 0, 0x80 + i, 0, 0));
    }
    for (uint64_t addr = 0xfee00000; addr < 0xfef00000; addr++) {
        for (uint32_t data = 0x3e; data < 0x64; data++) {
            unsigned vector = raises(f, 0, addr, data);

            if (vector != REFUSED) {
                g_assert_cmphex(addr, ==, XEN_IOMMU_IRQ_ADDR(a));
                g_assert_cmphex(data, ==, 0x40 + raised);
                g_assert_cmphex(vector, ==, 0x40 + raised);
                raised++;
            }
        }
    }
    g_assert_cmpuint(raised, ==, 4);
    /* Other data, and what would wrap around */
    for (unsigned bit = 0; bit < 32; bit++) {
        unsigned vector = raises(f, 0, XEN_IOMMU_IRQ_ADDR(a),
                                 XEN_IOMMU_IRQ_DATA(0) ^ 1u << bit);

        g_assert_cmphex(vector, ==, bit < 2 ? 0x40 + (1 << bit) : REFUSED);
    }
    g_assert_cmphex(raises_nth(f, 0, a + 1, -1), ==, REFUSED);
    g_assert_cmphex(raises_nth(f, 0, b, -4), ==, REFUSED);
    g_assert_cmphex(raises_nth(f, 1, a, 4), ==, REFUSED);
    g_assert_cmphex(raises_nth(f, 0, 63, 1), ==, REFUSED);
    g_assert_cmphex(raises_nth(f, 0, 64, 0), ==, REFUSED);
    g_assert_cmphex(raises_nth(f, 0, 0x3ffff, 31), ==, REFUSED);
    for (unsigned i = 1; i < 64; i++) {
        g_assert_cmphex(raises(f, 0, XEN_IOMMU_IRQ_ADDR(a) + (1ull << i),
                               XEN_IOMMU_IRQ_DATA(0)), ==, REFUSED);
    }
    /* The other device's are its own. */
    g_assert_cmphex(raises_nth(f, 0, b, 0), ==, REFUSED);
    g_assert_cmphex(raises_nth(f, 1, a, 0), ==, REFUSED);
    g_assert_cmphex(raises_nth(f, 1, b, 3), ==, 0x83);
    fixture_free(f);
}

static void test_switch(void)
{
    Fixture *f = fixture_new(&small);
    uint32_t h = alloc(f, 0, 2);

    g_assert_false(f->core.irqs.enabled);
    OK(do_direct_irqs(f, f->dev[1].sbdf, true));
    OK(do_enable_irqs(f));
    OK(do_enable_irqs(f));
    g_assert_cmpuint(f->irqs_enabled, ==, 1);
    g_assert_true(f->core.irqs.enabled);
    /* Of translation it says nothing. */
    g_assert_true(f->core.identity);
    g_assert_true(f->dev[1].irqs.direct);
    OK(do_direct_irqs(f, f->dev[1].sbdf, false));
    OK(do_direct_irqs(f, f->dev[2].sbdf, true));
    FAILS(ENODEV, do_direct_irqs(f, 0x10000, true));

    /* Other features do not matter; without it all is as before. */
    fixture_accept(f, XEN_IOMMU_FEATURE_INTERRUPTS);
    g_assert_true(f->core.irqs.enabled);
    fixture_accept(f, XEN_IOMMU_FEATURES_ALL & ~XEN_IOMMU_FEATURE_INTERRUPTS);
    g_assert_cmpuint(f->irqs_enabled, ==, 2);
    g_assert_cmpuint(f->core.irqs.nr_used, ==, 0);
    FAILS(EINVAL, do_set_irq(f, h, 0, 0x61, 0, 0));
    FAILS(EINVAL, do_enable_irqs(f));
    FAILS(EINVAL, do_direct_irqs(f, f->dev[1].sbdf, true));
    fixture_accept(f, XEN_IOMMU_FEATURES_ALL);
    FAILS(ENOENT, do_set_irq(f, h, 0, 0x61, 0, 0));
    OK(do_direct_irqs(f, f->dev[1].sbdf, true));
    alloc(f, 1, 7);
    OK(do_enable_irqs(f));
    fixture_reset(f);
    g_assert_false(f->core.irqs.enabled);
    FAILS(EINVAL, do_enable_irqs(f));
    fixture_free(f);
}

static void test_unplug(void)
{
    Fixture *f = fixture_new(&small);
    uint32_t a = alloc(f, 0, 3), b = alloc(f, 1, 3);

    OK(do_set_irq(f, a, 0, 0x61, 0, 0));
    OK(do_set_irq(f, b, 0, 0x71, 0, 0));
    alloc(f, 0, 3);
    fixture_unplug(f, 0);
    g_assert_cmpuint(f->core.irqs.nr_used, ==, 3);
    g_assert_cmpuint(raises_nth(f, 0, a, 0), ==, REFUSED);
    g_assert_cmpuint(raises_nth(f, 1, b, 0), ==, 0x71);
    FAILS(ENOENT, do_free_irqs(f, a));
    FAILS(ENODEV, do_alloc_irqs(f, f->dev[0].sbdf, 1, &a));
    fixture_free(f);
}

/* Bits that have to be zero, and what a queue does not take */
static void test_pads(void)
{
    static const struct {
        uint8_t code;
        uint8_t first, end;     /* bytes of u */
    } pads[] = {
        { XEN_IOMMUOP_alloc_irqs, 0, 4 },
        { XEN_IOMMUOP_alloc_irqs, 12, 24 },
        { XEN_IOMMUOP_set_irq, 10, 24 },
        { XEN_IOMMUOP_free_irqs, 4, 24 },
        { XEN_IOMMUOP_direct_irqs, 4, 24 },
        { XEN_IOMMUOP_enable, 0, 24 },
    };
    Fixture *f = fixture_new(&small);
    uint32_t h = alloc(f, 0, 1);

    for (int i = 0; i < ARRAY_SIZE(pads); i++) {
        for (unsigned bit = pads[i].first * 8; bit < pads[i].end * 8; bit++) {
            struct xen_iommu_op op = {
                .op = cpu_to_le16(pads[i].code),
                .flags = pads[i].code == XEN_IOMMUOP_enable ?
                         cpu_to_le16(XEN_IOMMUOP_enable_irqs) : 0,
            };

            if (pads[i].code == XEN_IOMMUOP_alloc_irqs) {
                op.u.irqs.nr = cpu_to_le32(1);
            } else if (pads[i].code == XEN_IOMMUOP_set_irq) {
                op.u.set_irq.handle = cpu_to_le32(h);
                op.u.set_irq.vector = 0x61;
            } else if (pads[i].code == XEN_IOMMUOP_free_irqs) {
                op.u.irqs.handle = cpu_to_le32(h);
            }
            ((uint8_t *)&op.u)[bit / 8] |= 1 << (bit % 8);
            FAILS(EINVAL, fixture_op(f, &op));
        }
    }
    for (unsigned code = XEN_IOMMUOP_alloc_irqs;
         code <= XEN_IOMMUOP_direct_irqs; code++) {
        struct xen_iommu_op op = { .op = cpu_to_le16(code) };

        FAILS(EINVAL, fixture_queued_op(f, 0, &op));
        op.flags = cpu_to_le16(code == XEN_IOMMUOP_set_irq ? 8 : 2);
        FAILS(EINVAL, fixture_op(f, &op));
    }
    g_assert_false(f->core.irqs.enabled);
    g_assert_cmpuint(f->core.irqs.nr_used, ==, 1);
    fixture_free(f);
}

/* A machine that does not offer it, and a guest without control */
static void test_refused(void)
{
    FixtureConfig config = small;
    Fixture *f;
    uint32_t h;

    config.max_irqs = 0;
    f = fixture_new(&config);
    g_assert_cmphex(f->core.accepted & XEN_IOMMU_FEATURE_INTERRUPTS, ==, 0);
    FAILS(EOPNOTSUPP, do_alloc_irqs(f, f->dev[0].sbdf, 1, &h));
    FAILS(EOPNOTSUPP, do_set_irq(f, 0, 0, 0x61, 0, 0));
    FAILS(EOPNOTSUPP, do_free_irqs(f, 0));
    FAILS(EOPNOTSUPP, do_direct_irqs(f, f->dev[0].sbdf, true));
    FAILS(EINVAL, do_enable_irqs(f));
    g_assert_cmpuint(raises_nth(f, 0, 0, 0), ==, REFUSED);
    fixture_reset(f);
    fixture_free(f);

    config = small;
    config.no_control = true;
    f = fixture_new(&config);
    FAILS(EACCES, do_alloc_irqs(f, f->dev[0].sbdf, 1, &h));
    FAILS(EACCES, do_enable_irqs(f));
    fixture_free(f);
}

/* The largest table: its memory is in the budget, its work is bounded. */
static void test_large(void)
{
    FixtureConfig config = small;
    Fixture *f;
    uint32_t h;

    config.bfn_bits = 40;
    config.max_irqs = XEN_IOMMU_MAX_IRQS;
    f = fixture_new(&config);
    g_assert_cmpuint(xen_pviommu_core_bytes(&f->core), >=,
                     xen_pviommu_irqs_bytes(config.max_irqs));
    g_assert_cmpuint(xen_pviommu_core_bytes(&f->core), <=,
                     xen_pviommu_core_max_bytes(&f->core));
    for (unsigned i = 0; i < XEN_IOMMU_MAX_IRQS / 32; i++) {
        OK(do_alloc_irqs(f, f->dev[i % 4].sbdf, 32, &h));
        g_assert_cmpuint(h, ==, i * 32);
    }
    FAILS(ENOSPC, do_alloc_irqs(f, f->dev[0].sbdf, 1, &h));
    OK(do_set_irq(f, XEN_IOMMU_MAX_IRQS - 1, 0, 0x61, 0, 0));
    g_assert_cmpuint(raises_nth(f, 3, XEN_IOMMU_MAX_IRQS - 32, 31), ==, 0x61);
    OK(do_free_irqs(f, 32));
    OK(do_alloc_irqs(f, f->dev[0].sbdf, 1, &h));
    g_assert_cmpuint(h, ==, 32);
    xen_pviommu_core_check(&f->core);
    fixture_free(f);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/irqs/alloc", test_alloc);
    g_test_add_func("/irqs/set", test_set);
    g_test_add_func("/irqs/messages", test_messages);
    g_test_add_func("/irqs/switch", test_switch);
    g_test_add_func("/irqs/unplug", test_unplug);
    g_test_add_func("/irqs/pads", test_pads);
    g_test_add_func("/irqs/refused", test_refused);
    g_test_add_func("/irqs/large", test_large);
    return g_test_run();
}
