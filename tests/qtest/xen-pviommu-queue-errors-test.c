/*
 * xen-pviommu: operations of a queue that fail, and unmaps that skip
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "libqos/edu.h"
#include "libqos/queue-fixture.h"

static struct xen_iommu_op with_code(struct xen_iommu_op op, uint16_t code)
{
    op.op = cpu_to_le16(code);
    return op;
}

static struct xen_iommu_op with_flags(struct xen_iommu_op op, uint16_t flags)
{
    op.flags = cpu_to_le16(flags);
    return op;
}

static struct xen_iommu_op with_byte(struct xen_iommu_op op, unsigned at)
{
    ((uint8_t *)&op)[at] = 1;
    return op;
}

/* Each operation that fails has its status, and changes nothing. */
static void check_errors(bool by_dma)
{
    Fixture *f = fixture_new("q35", NULL, NULL);
    const uint16_t ctx = pviommu_alloc_context(f->iommu);
    const uint64_t limit = 1ull << 36;
    const struct {
        struct xen_iommu_op op;
        int error;
    } cases[] = {
        { pviommu_op_map(0, BFN, GFN, 4, 0), XEN_IOMMU_EEXIST },
        { pviommu_op_map(0, BFN - 3, GFN, 4, 0), XEN_IOMMU_EEXIST },
        { pviommu_op_unmap(0, BFN + 3, 2), XEN_IOMMU_ENOENT },
        { pviommu_op_unmap(0, BFN + 100, 0), XEN_IOMMU_ENOENT },
        { pviommu_op_map(0, 0xfee00, GFN, 1, 0), XEN_IOMMU_EADDRNOTAVAIL },
        { pviommu_op_unmap(0, 0xfee00, 1), XEN_IOMMU_EADDRNOTAVAIL },
        { pviommu_op_map(0, BFN + 9, PVIOMMU_RAM_GFNS - 1, 2, 0),
          XEN_IOMMU_ENOENT },
        { pviommu_op_map(0, BFN + 9, PVIOMMU_BIOS_ADDR / PVIOMMU_PAGE, 1, 0),
          XEN_IOMMU_EPERM },
        /* Another's, whether there is such a one or not */
        { pviommu_op_map(ctx, BFN, GFN, 1, 0), XEN_IOMMU_EINVAL },
        { pviommu_op_unmap(ctx, BFN, 1), XEN_IOMMU_EINVAL },
        { pviommu_op_flush(ctx, BFN, 1), XEN_IOMMU_EINVAL },
        { pviommu_op_flush(ctx, ALL, 0), XEN_IOMMU_EINVAL },
        { pviommu_op_map(77, BFN, GFN, 1, 0), XEN_IOMMU_EINVAL },
        /* More than a queue may, or than there is */
        { pviommu_op_map(0, BFN + 9, GFN, 513, 0), XEN_IOMMU_EINVAL },
        { pviommu_op_map(0, BFN + 9, GFN, UINT32_MAX, 0), XEN_IOMMU_EINVAL },
        { pviommu_op_unmap(0, BFN, 513), XEN_IOMMU_EINVAL },
        { pviommu_op_unmap_skip(0, BFN, 513), XEN_IOMMU_EINVAL },
        { pviommu_op_unmap_skip(0, BFN, UINT32_MAX), XEN_IOMMU_EINVAL },
        { pviommu_op_map(0, limit, GFN, 1, 0), XEN_IOMMU_EINVAL },
        { pviommu_op_map(0, limit - 3, GFN, 4, 0), XEN_IOMMU_EINVAL },
        { pviommu_op_unmap(0, limit, 1), XEN_IOMMU_EINVAL },
        { pviommu_op_flush(0, limit, 1), XEN_IOMMU_EINVAL },
        { pviommu_op_flush(0, ALL, 1), XEN_IOMMU_EINVAL },
        { pviommu_op_map(0, BFN + 9, UINT64_MAX, 1, 0), XEN_IOMMU_EINVAL },
        /* Flags and pads */
        { pviommu_op_map(0, BFN + 9, GFN, 1, 2), XEN_IOMMU_EINVAL },
        { with_flags(pviommu_op_unmap(0, BFN, 1), 2), XEN_IOMMU_EINVAL },
        { with_flags(pviommu_op_flush(0, BFN, 1), 1), XEN_IOMMU_EINVAL },
        { with_byte(pviommu_op_unmap(0, BFN, 1), 16), XEN_IOMMU_EINVAL },
        { with_byte(pviommu_op_flush(0, BFN, 1), 25), XEN_IOMMU_EINVAL },
        /* Operations that need a call */
        { pviommu_op_query_caps(), XEN_IOMMU_EINVAL },
        { pviommu_op_query_reserved(0, 1, ADDR(GFN)), XEN_IOMMU_EINVAL },
        { pviommu_op_lookup_bfn(0, BFN), XEN_IOMMU_EINVAL },
        { pviommu_op_lookup_gfn(0, GFN, 0), XEN_IOMMU_EINVAL },
        { pviommu_op_alloc(), XEN_IOMMU_EINVAL },
        { pviommu_op_free(ctx), XEN_IOMMU_EINVAL },
        { pviommu_op_attach(f->m.sbdf, ctx), XEN_IOMMU_EINVAL },
        { pviommu_op_enable(), XEN_IOMMU_EINVAL },
        { pviommu_op_set_queue(0, 0, 0), XEN_IOMMU_EINVAL },
        { pviommu_op_set_queue(0, QUEUE(1), 16), XEN_IOMMU_EINVAL },
        /* And what is none */
        { with_code(pviommu_op_enable(), 0), XEN_IOMMU_EINVAL },
        { with_code(pviommu_op_enable(), IOMMU_OPS_END), XEN_IOMMU_EINVAL },
        { with_code(pviommu_op_enable(), UINT16_MAX), XEN_IOMMU_EINVAL },
    };
    uint32_t n[ARRAY_SIZE(cases)];
    uint32_t errors = 0;
    uint64_t before;

    push_map(&f->q, BFN, GFN, 4);
    call(f);
    before = counter(f, XEN_PVIOMMU_COUNTER_ERRORS);
    for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
        n[i] = pviommu_queue_push(&f->q, cases[i].op);
        if (i % 4 != 3 && i != ARRAY_SIZE(cases) - 1) {
            continue;
        }
        /* One that succeeds, among those that fail */
        push_flush(&f->q);
        if (by_dma) {
            assert_reaches(&f->m, BFN + 1, GFN + 1);
        } else {
            call(f);
        }
        for (; errors <= i; errors++) {
            g_test_message("case %u", errors);
            assert_status(pviommu_queue_status(&f->q, n[errors]),
                          cases[errors].error);
        }
        assert_ran(&f->q, errors);
        assert_status(pviommu_queue_status(&f->q, f->q.tail - 1), 0);
    }
    pviommu_assert_mapped(f->iommu, 0, BFN, GFN, 4, 0);
    pviommu_assert_frames(f->iommu, 4, 0);
    g_assert_cmpuint(counter(f, XEN_PVIOMMU_COUNTER_ERRORS), ==,
                     before + ARRAY_SIZE(cases));

    /* The most that it takes, and a flush of anything */
    push_map(&f->q, BFN + 0x200, GFN, 512);
    push_unmap(&f->q, BFN + 0x200, 512);
    pviommu_queue_push(&f->q, pviommu_op_unmap_skip(0, BFN - 4, 512));
    pviommu_queue_push(&f->q, pviommu_op_flush(0, BFN - 1, UINT32_MAX));
    assert_fault(&f->m, BFN, GFN);
    assert_ran(&f->q, errors);
    pviommu_assert_frames(f->iommu, 0, 0);

    /* Without their features they are what they are in arrays. */
    pviommu_accept(f->iommu, XEN_IOMMU_FEATURE_QUEUE);
    n[0] = push_map(&f->q, BFN, GFN, 1);
    n[1] = push_map(&f->q, BFN, GFN, 0);
    call(f);
    assert_status(pviommu_queue_status(&f->q, n[0]), XEN_IOMMU_EINVAL);
    assert_status(pviommu_queue_status(&f->q, n[1]), 0);
    fixture_free(f);
}

static void test_failures_are_stored_and_change_nothing(void)
{
    check_errors(false);
    check_errors(true);
}

/* An unmap that skips, in an array (0), and in the queue, run in two ways */
static void check_skip(Fixture *f, unsigned how, uint64_t bfn, uint32_t nr)
{
    uint32_t n;

    if (!how) {
        assert_status(pviommu_unmap_skip(f->iommu, 0, bfn, nr), 0);
        return;
    }
    n = pviommu_queue_push(&f->q, pviommu_op_unmap_skip(0, bfn, nr));
    if (how == 1) {
        call(f);
    } else {
        assert_fault(&f->m, BFN + 0x100000, GFN);
    }
    assert_ran(&f->q, 0);
    assert_status(pviommu_queue_status(&f->q, n), 0);
}

static void test_unmap_can_skip_unmapped(void)
{
    Fixture *f = fixture_new("q35", NULL, NULL);

    for (unsigned how = 0; how < 3; how++) {
        /* Nothing is mapped there. */
        check_skip(f, how, BFN, 0);
        check_skip(f, how, BFN, 512);
        check_skip(f, how, 0, 512);
        check_skip(f, how, (1ull << 36) - 512, 512);
        /* A reserved range, and what is around it */
        check_skip(f, how, 0xfee00, 1);
        check_skip(f, how, 0xfee00, 256);
        assert_status(pviommu_map(f->iommu, 0, 0xfedff, GFN, 1, 0), 0);
        assert_status(pviommu_map(f->iommu, 0, 0xfef00, GFN, 1, 0), 0);
        check_skip(f, how, 0xfedff, 258);
        pviommu_assert_frames(f->iommu, 0, 2);

        /* Runs with gaps before, between and behind; some not in it */
        assert_status(pviommu_map(f->iommu, 0, BFN + 1, GFN, 3, 0), 0);
        assert_status(pviommu_map(f->iommu, 0, BFN + 4, GFN + 50, 2,
                                  XEN_IOMMUOP_map_readonly), 0);
        assert_status(pviommu_map(f->iommu, 0, BFN + 9, GFN + 60, 10, 0), 0);
        assert_status(pviommu_map(f->iommu, 0, BFN + 500, GFN, 20, 0), 0);
        check_skip(f, how, BFN + 2, 10);
        pviommu_assert_frames(f->iommu, 1 + 7 + 20, 2 + 4 + 3);
        pviommu_assert_mapped(f->iommu, 0, BFN + 1, GFN, 1, 0);
        pviommu_assert_mapped(f->iommu, 0, BFN + 12, GFN + 63, 7, 0);
        check_skip(f, how, BFN, 512);
        pviommu_assert_mapped(f->iommu, 0, BFN + 512, GFN + 12, 8, 0);
        pviommu_assert_frames(f->iommu, 8, 2 + 4 + 3 + 1 + 7 + 12);
        assert_fault(&f->m, BFN + 1, GFN);
        check_skip(f, how, BFN + 512, 8);

        /* Waiting for the flush like all others */
        assert_status(pviommu_flush(f->iommu, 0, BFN, 512), 0);
        pviommu_assert_frames(f->iommu, 0, 2 + 8);
        assert_status(pviommu_flush_all(f->iommu, 0), 0);
        pviommu_assert_frames(f->iommu, 0, 0);
    }

    /* A large one is for arrays. */
    for (unsigned i = 0; i < 40; i++) {
        assert_status(pviommu_map(f->iommu, 0, BFN + i * 777, GFN, 33, 0), 0);
    }
    check_skip(f, 0, BFN, 40 * 777);
    pviommu_assert_frames(f->iommu, 0, 40 * 33);
    check_skip(f, 0, 1, UINT32_MAX);

    /* Not accepted, it is a flag that there is not. */
    assert_status(pviommu_map(f->iommu, 0, BFN, GFN, 1, 0), 0);
    pviommu_accept(f->iommu, XEN_IOMMU_FEATURES_ALL &
                             ~XEN_IOMMU_FEATURE_QUEUE);
    assert_status(pviommu_unmap_skip(f->iommu, 0, BFN, 1), XEN_IOMMU_EINVAL);
    assert_status(pviommu_unmap_skip(f->iommu, 0, BFN + 1, 1),
                  XEN_IOMMU_EINVAL);
    pviommu_assert_mapped(f->iommu, 0, BFN, GFN, 1, 0);
    fixture_free(f);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    pviommu_add("queue/failures-are-stored-and-change-nothing",
                test_failures_are_stored_and_change_nothing);
    pviommu_add("queue/unmap-can-skip-unmapped", test_unmap_can_skip_unmapped);
    return g_test_run();
}
