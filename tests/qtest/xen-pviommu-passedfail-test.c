/*
 * xen-pviommu under a simulated hypervisor: calls about functions that Xen
 * passes through fail
 *
 * The guest learns of it where it asked for something, and the device goes on:
 * what could not be taken away from a function is tried again.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "libqos/hotplug.h"
#include "libqos/passed.h"

#define GFN             (PVIOMMU_FREE_GFN + 0x1000ull)
#define BFN             0x400000ull

static uint16_t attach_new(Passed *v, unsigned i)
{
    uint16_t ctx = pviommu_alloc_context(v->iommu);

    assert_status(pviommu_attach(v->iommu, PASSED_SBDF(i), ctx), 0);
    return ctx;
}

/* The @nth call of @fn fails; what fetches faults of before is none of them. */
static void fail(Passed *v, const char *fn, unsigned nth, int err)
{
    passed_calls(v);
    xensim_fail(v->sim, fn, nth, err);
}

static void wait_references(Passed *v, uint32_t page, unsigned nr)
{
    gint64 end = g_get_monotonic_time() + PVIOMMU_WAIT_US;

    while (xensim_references(v->sim, page) != nr) {
        g_assert_cmpint(g_get_monotonic_time(), <, end);
        g_usleep(1000);
    }
}

static void wait_context(Passed *v, unsigned i, unsigned context)
{
    gint64 end = g_get_monotonic_time() + PVIOMMU_WAIT_US;

    while (passed_context_of(v, i) != context) {
        g_assert_cmpint(g_get_monotonic_time(), <, end);
        g_usleep(1000);
    }
}

static void wait_contexts(Passed *v, unsigned nr)
{
    gint64 end = g_get_monotonic_time() + PVIOMMU_WAIT_US;

    while (passed_contexts(v) != nr) {
        g_assert_cmpint(g_get_monotonic_time(), <, end);
        g_usleep(1000);
    }
}

/* All that the guest can do works. */
static void assert_works(Passed *v, unsigned i)
{
    uint16_t ctx = attach_new(v, i);
    uint32_t page = xensim_page(v->sim, GFN + 900);

    assert_status(pviommu_map(v->iommu, ctx, BFN + 900, GFN + 900, 2, 0), 0);
    passed_assert_reaches(v, i, BFN + 900, GFN + 900);
    passed_assert_reaches(v, i, BFN + 901, GFN + 901);
    assert_status(pviommu_unmap(v->iommu, ctx, BFN + 900, 2), 0);
    assert_status(pviommu_flush_all(v->iommu, ctx), 0);
    passed_assert_faults(v, i, BFN + 900);
    g_assert_cmpuint(xensim_references(v->sim, page), ==, 0);
    assert_status(pviommu_attach(v->iommu, PASSED_SBDF(i), 0), 0);
    assert_status(pviommu_free_context(v->iommu, ctx), 0);
    xensim_assert_alive(v->sim);
}

/* --- what the guest is told ----------------------------------------------- */

static void test_failed_map_maps_nothing(void)
{
    static const struct {
        const char *what;
        int err;
    } ways[] = {
        { "iommu_op_target_map", ENOSPC }, { "iommu_op_target_map", EAGAIN },
        { "iommu_op_target_map", EPERM }, { "iommu_op_target_map", ENOMEM },
        { "iommu_op_target_map_half", EIO }, { "iommu_op", EFAULT },
        { "xencall2", EFAULT }, { "xencall2", EPERM },
    };
    Passed *v = passed_start(1, NULL, NULL);
    uint32_t page = xensim_page(v->sim, GFN);
    uint16_t ctx = attach_new(v, 0);
    struct xen_iommu_op ops[3];

    for (unsigned i = 0; i < ARRAY_SIZE(ways); i++) {
        g_test_message("%s %d", ways[i].what, ways[i].err);
        fail(v, ways[i].what, 1, ways[i].err);
        assert_status(pviommu_map(v->iommu, ctx, BFN, GFN, 8, 0),
                      g_str_has_suffix(ways[i].what, "half") ? XEN_IOMMU_EIO
                                                             : ways[i].err);
        for (unsigned n = 0; n < 8; n++) {
            passed_assert_faults(v, 0, BFN + n);
            g_assert_cmpuint(xensim_references(v->sim, page + n), ==, 0);
        }
        pviommu_assert_unmapped(v->iommu, ctx, BFN);
        pviommu_assert_frames(v->iommu, 0, 0);

        /* Of several in one doorbell only that fails. */
        for (unsigned n = 0; n < 3; n++) {
            ops[n] = pviommu_op_map(ctx, BFN + 10 * n, GFN + 10 * n, 4, 0);
        }
        if (strcmp(ways[i].what, "xencall2")) {
            fail(v, ways[i].what, 2, ways[i].err);
            pviommu_run(v->iommu, ops, 3);
            g_assert_cmpint(pviommu_status(&ops[0]), ==, 0);
            g_assert_cmpint(pviommu_status(&ops[1]), !=, 0);
            passed_assert_reaches(v, 0, BFN + 3, GFN + 3);
            passed_assert_faults(v, 0, BFN + 10);
            pviommu_assert_unmapped(v->iommu, ctx, BFN + 10);
            pviommu_reset(v->iommu);
            pviommu_accept(v->iommu, XEN_IOMMU_FEATURES_ALL);
            ctx = attach_new(v, 0);
        }
        assert_works(v, 0);
        assert_status(pviommu_attach(v->iommu, PASSED_SBDF(0), ctx), 0);
    }
    passed_quit(v);
}

/* Whose BFN the guest used again in the same doorbell. */
static void test_failed_map_is_not_undone_twice(void)
{
    Passed *v = passed_start(1, NULL, NULL);
    uint16_t ctx = attach_new(v, 0);
    struct xen_iommu_op ops[] = {
        pviommu_op_map(ctx, BFN, GFN, 1, 0),
        pviommu_op_unmap(ctx, BFN, 1),
        pviommu_op_flush(ctx, BFN, 1),
        pviommu_op_map(ctx, BFN, GFN, 1, 0),
    };

    fail(v, "iommu_op_target_map", 1, ENOSPC);
    pviommu_run(v->iommu, ops, ARRAY_SIZE(ops));
    assert_status(pviommu_status(&ops[0]), XEN_IOMMU_ENOSPC);
    for (unsigned i = 1; i < ARRAY_SIZE(ops); i++) {
        assert_status(pviommu_status(&ops[i]), 0);
    }
    passed_assert_reaches(v, 0, BFN, GFN);
    pviommu_assert_mapped(v->iommu, ctx, BFN, GFN, 1, 0);
    passed_quit(v);
}

static void test_failed_unmap_is_tried_again(void)
{
    static const struct {
        const char *what;
        int err;
    } ways[] = {
        { "iommu_op_target_unmap", EIO }, { "iommu_op_target_flush", EIO },
        { "iommu_op", EFAULT }, { "xencall2", ENOSYS },
    };
    Passed *v = passed_start(1, NULL, NULL);
    uint16_t ctx = attach_new(v, 0);
    uint32_t page = xensim_page(v->sim, GFN);

    for (unsigned i = 0; i < ARRAY_SIZE(ways); i++) {
        g_test_message("%s", ways[i].what);
        assert_status(pviommu_map(v->iommu, ctx, BFN, GFN, 4, 0), 0);
        assert_status(pviommu_map(v->iommu, ctx, BFN + 4, GFN + 4, 1, 0), 0);
        assert_status(pviommu_unmap(v->iommu, ctx, BFN, 4), 0);
        fail(v, ways[i].what, 1, ways[i].err);
        assert_status(pviommu_flush(v->iommu, ctx, BFN, 4), ways[i].err);
        /* With whatever is next, or by itself */
        if (i & 1) {
            wait_references(v, page, 0);
        } else {
            assert_status(pviommu_map(v->iommu, ctx, BFN + 1, GFN + 50, 1, 0),
                          0);
            passed_assert_reaches(v, 0, BFN + 1, GFN + 50);
            assert_status(pviommu_unmap(v->iommu, ctx, BFN + 1, 1), 0);
            assert_status(pviommu_flush_all(v->iommu, ctx), 0);
        }
        for (unsigned n = 0; n < 4; n++) {
            passed_assert_faults(v, 0, BFN + n);
            g_assert_cmpuint(xensim_references(v->sim, page + n), ==, 0);
        }
        passed_assert_reaches(v, 0, BFN + 4, GFN + 4);
        assert_status(pviommu_unmap(v->iommu, ctx, BFN + 4, 1), 0);
        assert_status(pviommu_flush_all(v->iommu, ctx), 0);
    }
    passed_quit(v);
}

/* The page is kept by the hypervisor meanwhile. */
static void test_page_that_leaves_is_let_go_of_later(void)
{
    Passed *v = passed_start(1, NULL, NULL);
    uint16_t ctx = attach_new(v, 0);
    uint32_t page = xensim_page(v->sim, GFN);

    assert_status(pviommu_map(v->iommu, ctx, BFN, GFN, 4, 0), 0);
    fail(v, "iommu_op_target_unmap", 1, EIO);
    xensim_release(v->sim, GFN + 1, 1);
    wait_references(v, page + 1, 0);
    passed_assert_faults(v, 0, BFN + 1);
    passed_assert_reaches(v, 0, BFN, GFN);
    passed_assert_reaches(v, 0, BFN + 2, GFN + 2);
    passed_quit(v);
}

static void test_failed_attach_changes_nothing(void)
{
    static const struct {
        const char *what;
        unsigned nth;
        int err;
    } ways[] = {
        { "iommu_op_target_alloc_context", 1, ENOSPC },
        { "iommu_op_target_alloc_context", 1, ENOMEM },
        { "iommu_op_target_attach", 1, EIO },
        { "iommu_op_target_attach", 1, ENOMEM },
        { "iommu_op_target_map", 1, ENOSPC },
        { "iommu_op_target_map", 3, EAGAIN },
        { "xencall2", 2, EPERM }, { "xencall2", 3, EPERM },
    };
    Passed *v = passed_start(1, NULL, NULL);
    uint16_t old = attach_new(v, 0), new = pviommu_alloc_context(v->iommu);
    unsigned before = passed_context_of(v, 0);

    assert_status(pviommu_map(v->iommu, old, BFN, GFN, 1, 0), 0);
    for (unsigned i = 0; i < 3; i++) {
        assert_status(pviommu_map(v->iommu, new, BFN + 10 + 2 * i, GFN + i, 1,
                                  0), 0);
    }
    for (unsigned i = 0; i < ARRAY_SIZE(ways); i++) {
        g_test_message("%s %u", ways[i].what, ways[i].nth);
        fail(v, ways[i].what, ways[i].nth, ways[i].err);
        assert_status(pviommu_attach(v->iommu, PASSED_SBDF(0), new),
                      ways[i].err);
        g_assert_cmpuint(passed_context_of(v, 0), ==, before);
        passed_assert_reaches(v, 0, BFN, GFN);
        passed_assert_faults(v, 0, BFN + 10);
        g_assert_cmpuint(passed_contexts(v), ==, 1);
    }
    assert_status(pviommu_attach(v->iommu, PASSED_SBDF(0), new), 0);
    passed_assert_faults(v, 0, BFN);
    passed_assert_reaches(v, 0, BFN + 14, GFN + 2);
    g_assert_cmpuint(passed_contexts(v), ==, 1);
    passed_quit(v);
}

/* --- what nobody is told -------------------------------------------------- */

static void test_enable_is_followed_up(void)
{
    static const char *const fns[] = {
        "iommu_op_target_alloc_context", "iommu_op_target_attach", "xencall2",
    };

    for (unsigned i = 0; i < ARRAY_SIZE(fns); i++) {
        Passed *v = passed_start(1, NULL, NULL);

        fail(v, fns[i], 1, EIO);
        assert_status(pviommu_enable(v->iommu), 0);
        passed_wait_not_context(v, 0, 0);
        passed_assert_faults(v, 0, GFN);
        assert_works(v, 0);
        passed_quit(v);
    }
}

static void test_reset_is_followed_up(void)
{
    static const char *const fns[] = {
        "iommu_op_target_attach", "xencall2",
    };

    for (unsigned i = 0; i < ARRAY_SIZE(fns); i++) {
        Passed *v = passed_start(1, NULL, NULL);
        uint16_t ctx = attach_new(v, 0);

        assert_status(pviommu_map(v->iommu, ctx, BFN, GFN, 4, 0), 0);
        fail(v, fns[i], 1, EIO);
        pviommu_reset(v->iommu);
        pviommu_accept(v->iommu, XEN_IOMMU_FEATURES_ALL);
        wait_context(v, 0, 0);
        wait_contexts(v, 0);
        passed_assert_reaches(v, 0, GFN, GFN);
        assert_works(v, 0);
        passed_quit(v);
    }
}

static void test_unplugged_function_reaches_nothing(void)
{
    static const char *const fns[] = {
        "iommu_op_target_alloc_context", "iommu_op_target_attach", "xencall2",
    };

    for (unsigned i = 0; i < ARRAY_SIZE(fns); i++) {
        Passed *v = passed_start(2, NULL, NULL);
        uint16_t ctx = attach_new(v, 0);

        assert_status(pviommu_map(v->iommu, ctx, BFN, GFN, 4, 0), 0);
        fail(v, fns[i], 1, EIO);
        hotplug_eject(v->sim->qts, "passed0", HOTPLUG_PC, 0, PASSED_SLOT(0));
        passed_assert_faults(v, 0, BFN);
        passed_assert_faults(v, 0, GFN);
        assert_works(v, 1);
        passed_quit(v);
    }
}

/* What it shared with another one is gone when that leaves, too. */
static void test_unplugged_function_outlives_its_context(void)
{
    Passed *v = passed_start(2, NULL, NULL);
    uint16_t ctx = attach_new(v, 0);
    struct xen_iommu_op op = pviommu_op_alloc();

    op.flags = XEN_IOMMUOP_alloc_context_identity;
    assert_status(pviommu_op(v->iommu, &op), 0);
    assert_status(pviommu_attach(v->iommu, PASSED_SBDF(1), ctx), 0);
    assert_status(pviommu_map(v->iommu, ctx, BFN, GFN, 4, 0), 0);
    for (unsigned i = 1; i < 2000; i++) {
        xensim_fail(v->sim, "iommu_op_target_alloc_context", i, ENOSPC);
    }
    hotplug_eject(v->sim->qts, "passed0", HOTPLUG_PC, 0, PASSED_SLOT(0));
    passed_assert_reaches(v, 1, BFN, GFN);
    assert_status(pviommu_attach(v->iommu, PASSED_SBDF(1), op.u.context.ctx),
                  0);
    passed_assert_faults(v, 0, BFN);
    g_assert_cmpuint(xensim_references(v->sim, xensim_page(v->sim, GFN)), ==,
                     0);
    assert_status(pviommu_free_context(v->iommu, ctx), 0);
    g_assert_cmpuint(pviommu_alloc_context(v->iommu), ==, ctx);
    assert_status(pviommu_map(v->iommu, ctx, BFN, GFN, 4, 0), 0);
    passed_assert_faults(v, 0, BFN);
    /* The toolstack has it. */
    passed_deassign(v, 0);
    passed_quit(v);
}

/* A fault that could not be fetched comes with the next one. */
static void test_faults_are_fetched_later(void)
{
    static const char *const fns[] = {
        "iommu_op_target_faults", "xenevtchn_pending",
    };

    for (unsigned i = 0; i < ARRAY_SIZE(fns); i++) {
        Passed *v = passed_start(1, NULL, NULL);
        uint64_t before = xensim_count(v->sim, fns[i]);

        attach_new(v, 0);
        pviommu_fault_ring(v->iommu, 16);
        fail(v, fns[i], 1, EAGAIN);
        g_assert_cmpuint(passed_dma(v, 0, BFN, true), ==, XENSIM_NO_PAGE);
        while (xensim_count(v->sim, fns[i]) == before) {
            g_usleep(1000);
        }
        g_assert_cmpuint(passed_dma(v, 0, BFN + 1, true), ==, XENSIM_NO_PAGE);
        pviommu_wait_faults(v->iommu, 2);
        passed_quit(v);
    }
}

/* --- each call of a guest's life ------------------------------------------ */

static void live(Passed *v)
{
    uint16_t a = pviommu_alloc_context(v->iommu);
    uint16_t b = pviommu_alloc_context(v->iommu);

    pviommu_map(v->iommu, a, BFN, GFN, 4, 0);
    pviommu_attach(v->iommu, PASSED_SBDF(0), a);
    pviommu_attach(v->iommu, PASSED_SBDF(1), b);
    pviommu_map(v->iommu, a, BFN + 8, GFN + 8, 1, XEN_IOMMUOP_map_readonly);
    pviommu_map(v->iommu, b, BFN, GFN, 16, 0);
    passed_dma(v, 1, BFN + 99, true);
    pviommu_unmap(v->iommu, b, BFN, 8);
    pviommu_flush_all(v->iommu, b);
    pviommu_map(v->iommu, b, BFN, GFN + 40, 8, 0);
    xensim_release(v->sim, GFN + 2, 1);
    xensim_add(v->sim, GFN + 2, 1);
    pviommu_attach(v->iommu, PASSED_SBDF(0), b);
    pviommu_attach(v->iommu, PASSED_SBDF(1), 0);
    pviommu_free_context(v->iommu, a);
    pviommu_reset(v->iommu);
    pviommu_accept(v->iommu, XEN_IOMMU_FEATURES_ALL);
}

/* Returns: how many calls it was. */
static uint64_t fail_one(const char *fn, unsigned nth, int err)
{
    Passed *v = passed_start(2, NULL, NULL);
    uint64_t before = xensim_count(v->sim, fn);
    uint64_t nr;

    if (nth) {
        fail(v, fn, nth, err);
    }
    live(v);
    nr = xensim_count(v->sim, fn) - before;
    for (unsigned i = 0; i < 2; i++) {
        wait_context(v, i, 0);
        passed_assert_reaches(v, i, GFN, GFN);
    }
    for (unsigned i = 0; i < 60; i++) {
        wait_references(v, xensim_page(v->sim, GFN + i), 0);
    }
    for (unsigned i = 0; i < 2; i++) {
        assert_works(v, i);
    }
    passed_quit(v);
    return nr;
}

static void test_each_failed_call_is_survived(void)
{
    static const struct {
        const char *fn;
        int err;
    } cases[] = {
        { "xencall2", EFAULT }, { "iommu_op", EFAULT },
        { "iommu_op_target_map", ENOSPC }, { "iommu_op_target_map_half", EIO },
        { "iommu_op_target_unmap", EIO }, { "iommu_op_target_flush", EIO },
        { "iommu_op_target_attach", EIO },
        { "iommu_op_target_alloc_context", ENOSPC },
    };

    for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
        uint64_t nr = fail_one(cases[i].fn, 0, 0);

        g_assert_cmpuint(nr, >, 1);
        for (unsigned nth = 1; nth <= nr; nth++) {
            if (g_test_slow() || nth < 4 || nth % 3 == 0) {
                g_test_message("%s: call %u of %" PRIu64, cases[i].fn, nth,
                               nr);
                fail_one(cases[i].fn, nth, cases[i].err);
            }
        }
    }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    pviommu_add("passedfail/failed-map-maps-nothing",
                test_failed_map_maps_nothing);
    pviommu_add("passedfail/failed-map-is-not-undone-twice",
                test_failed_map_is_not_undone_twice);
    pviommu_add("passedfail/failed-unmap-is-tried-again",
                test_failed_unmap_is_tried_again);
    pviommu_add("passedfail/page-that-leaves-is-let-go-of-later",
                test_page_that_leaves_is_let_go_of_later);
    pviommu_add("passedfail/failed-attach-changes-nothing",
                test_failed_attach_changes_nothing);
    pviommu_add("passedfail/enable-is-followed-up", test_enable_is_followed_up);
    pviommu_add("passedfail/reset-is-followed-up", test_reset_is_followed_up);
    pviommu_add("passedfail/unplugged-function-reaches-nothing",
                test_unplugged_function_reaches_nothing);
    pviommu_add("passedfail/unplugged-function-outlives-its-context",
                test_unplugged_function_outlives_its_context);
    pviommu_add("passedfail/faults-are-fetched-later",
                test_faults_are_fetched_later);
    pviommu_add("passedfail/each-failed-call-is-survived",
                test_each_failed_call_is_survived);
    return g_test_run();
}
