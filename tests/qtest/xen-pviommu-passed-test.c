/*
 * xen-pviommu under a simulated hypervisor: functions that Xen passes through
 *
 * What they reach is asked of the hypervisor, whose tables their DMA goes by.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qobject/qdict.h"
#include "qobject/qlist.h"
#include "libqos/edu.h"
#include "libqos/hotplug.h"
#include "libqos/passed.h"
#include "libqos/xen-pviommu-qmp.h"

#define GFN             (PVIOMMU_FREE_GFN + 0x1000ull)
#define BFN             0x400000ull
#define RO              XEN_IOMMUOP_map_readonly

static void command(Passed *v, const char *what, unsigned i)
{
    g_assert_true(xensim_command(v->sim, NULL, "%s 0x%x", what,
                                 PASSED_HOST_SBDF(i)));
}

/* Function @i is in a new context of the guest's. */
static uint16_t attach_new(Passed *v, unsigned i)
{
    uint16_t ctx = pviommu_alloc_context(v->iommu);

    assert_status(pviommu_attach(v->iommu, PASSED_SBDF(i), ctx), 0);
    return ctx;
}

static uint16_t attach_identity(Passed *v, unsigned i)
{
    struct xen_iommu_op op = pviommu_op_alloc();
    uint16_t ctx;

    op.flags = XEN_IOMMUOP_alloc_context_identity;
    assert_status(pviommu_op(v->iommu, &op), 0);
    ctx = op.u.context.ctx;
    assert_status(pviommu_attach(v->iommu, PASSED_SBDF(i), ctx), 0);
    return ctx;
}

/* --- what a function reaches ---------------------------------------------- */

/* Until the guest's driver takes over it is as if there was no IOMMU. */
static void test_identity_mode_is_the_default_context(void)
{
    Passed *v = passed_start(1, NULL, NULL);
    uint64_t before = passed_calls(v);

    passed_assert_reaches(v, 0, GFN, GFN);
    g_assert_cmpuint(passed_context_of(v, 0), ==, 0);
    g_assert_cmpuint(passed_contexts(v), ==, 0);

    assert_status(pviommu_enable(v->iommu), 0);
    /* A context, and a function that moves there. */
    g_assert_cmpuint(passed_calls(v) - before, ==, 2);
    passed_assert_faults(v, 0, GFN);
    g_assert_cmpuint(passed_contexts(v), ==, 1);
    passed_quit(v);
}

static void test_map_unmap_flush_are_carried_over(void)
{
    Passed *v = passed_start(1, NULL, NULL);
    uint32_t page = xensim_page(v->sim, GFN);
    uint16_t ctx = attach_new(v, 0);

    passed_assert_faults(v, 0, BFN);
    assert_status(pviommu_map(v->iommu, ctx, BFN, GFN, 8, 0), 0);
    for (unsigned i = 0; i < 8; i++) {
        passed_assert_reaches(v, 0, BFN + i, GFN + i);
    }
    passed_assert_faults(v, 0, BFN + 8);
    g_assert_cmpuint(xensim_references(v->sim, page), ==, 1);
    /* In another place, and to read only. */
    assert_status(pviommu_map(v->iommu, ctx, BFN + 100, GFN, 1, RO), 0);
    g_assert_cmpuint(passed_dma(v, 0, BFN + 100, false), ==, page);
    g_assert_cmpuint(passed_dma(v, 0, BFN + 100, true), ==, XENSIM_NO_PAGE);
    g_assert_cmpuint(xensim_references(v->sim, page), ==, 2);

    /* A flush is what takes it away, for a function, too. */
    assert_status(pviommu_unmap(v->iommu, ctx, BFN + 2, 3), 0);
    passed_assert_reaches(v, 0, BFN + 3, GFN + 3);
    assert_status(pviommu_flush(v->iommu, ctx, BFN + 2, 3), 0);
    for (unsigned i = 2; i < 5; i++) {
        passed_assert_faults(v, 0, BFN + i);
        g_assert_cmpuint(xensim_references(v->sim, page + i), ==, 0);
    }
    passed_assert_reaches(v, 0, BFN + 1, GFN + 1);
    passed_assert_reaches(v, 0, BFN + 5, GFN + 5);
    assert_status(pviommu_unmap(v->iommu, ctx, BFN + 100, 1), 0);
    assert_status(pviommu_flush_all(v->iommu, ctx), 0);
    passed_assert_faults(v, 0, BFN + 100);
    g_assert_cmpuint(xensim_references(v->sim, page), ==, 1);

    /* A BFN that is used again before a flush. */
    assert_status(pviommu_unmap(v->iommu, ctx, BFN, 1), 0);
    assert_status(pviommu_map(v->iommu, ctx, BFN, GFN + 50, 1, 0), 0);
    passed_assert_reaches(v, 0, BFN, GFN + 50);
    g_assert_cmpuint(xensim_references(v->sim, page), ==, 0);
    passed_quit(v);
}

static void test_changes_are_one_call_a_doorbell(void)
{
    Passed *v = passed_start(1, NULL, NULL);
    uint16_t ctx = attach_new(v, 0);
    struct xen_iommu_op ops[64];
    uint64_t before = passed_calls(v);

    for (unsigned i = 0; i < 64; i++) {
        ops[i] = pviommu_op_map(ctx, BFN + 2 * i, GFN + i, 1, 0);
    }
    pviommu_run(v->iommu, ops, 64);
    g_assert_cmpuint(passed_calls(v) - before, ==, 1);
    g_assert_cmpuint(xensim_count(v->sim, "iommu_op_target_map"), ==, 64);
    passed_assert_reaches(v, 0, BFN + 126, GFN + 63);

    /* Unmaps wait for a flush, which is one for all of them. */
    before = passed_calls(v);
    for (unsigned i = 0; i < 63; i++) {
        ops[i] = pviommu_op_unmap(ctx, BFN + 2 * i, 1);
    }
    ops[63] = pviommu_op_flush(ctx, XEN_IOMMU_FLUSH_ALL, 0);
    pviommu_run(v->iommu, ops, 64);
    g_assert_cmpuint(passed_calls(v) - before, ==, 1);
    g_assert_cmpuint(xensim_count(v->sim, "iommu_op_target_unmap"), ==, 63);
    g_assert_cmpuint(xensim_count(v->sim, "iommu_op_target_flush"), ==, 1);
    passed_assert_faults(v, 0, BFN + 124);
    passed_assert_reaches(v, 0, BFN + 126, GFN + 63);

    /* What no function is in is no business of the hypervisor's. */
    before = passed_calls(v);
    assert_status(pviommu_map(v->iommu, 0, BFN, GFN, 1, 0), 0);
    assert_status(pviommu_unmap(v->iommu, 0, BFN, 1), 0);
    assert_status(pviommu_flush_all(v->iommu, 0), 0);
    g_assert_cmpuint(passed_calls(v), ==, before);
    passed_quit(v);
}

static void test_a_function_finds_what_is_mapped(void)
{
    Passed *v = passed_start(2, NULL, NULL);
    uint16_t ctx = pviommu_alloc_context(v->iommu);
    uint64_t maps;

    /* More than what is replayed at a time, and large ones */
    for (unsigned i = 0; i < 300; i++) {
        assert_status(pviommu_map(v->iommu, ctx, BFN + 2 * i, GFN + i, 1, 0),
                      0);
    }
    assert_status(pviommu_map(v->iommu, ctx, BFN + 0x10000, GFN, 0x3000, 0), 0);
    assert_status(pviommu_map(v->iommu, ctx, BFN + 0x20000, GFN, 1, RO), 0);
    g_assert_cmpuint(xensim_count(v->sim, "iommu_op_target_map"), ==, 0);
    assert_status(pviommu_attach(v->iommu, PASSED_SBDF(0), ctx), 0);
    for (unsigned i = 0; i < 300; i++) {
        passed_assert_reaches(v, 0, BFN + 2 * i, GFN + i);
        passed_assert_faults(v, 0, BFN + 2 * i + 1);
    }
    passed_assert_reaches(v, 0, BFN + 0x10000, GFN);
    passed_assert_reaches(v, 0, BFN + 0x12fff, GFN + 0x2fff);
    g_assert_cmpuint(passed_dma(v, 0, BFN + 0x20000, true), ==, XENSIM_NO_PAGE);
    /* A second one shares the context. */
    maps = xensim_count(v->sim, "iommu_op_target_map");
    assert_status(pviommu_attach(v->iommu, PASSED_SBDF(1), ctx), 0);
    g_assert_cmpuint(xensim_count(v->sim, "iommu_op_target_map"), ==, maps);
    passed_assert_reaches(v, 1, BFN + 0x12fff, GFN + 0x2fff);
    g_assert_cmpuint(passed_context_of(v, 0), ==, passed_context_of(v, 1));
    passed_quit(v);
}

static void test_two_contexts_do_not_see_each_other(void)
{
    Passed *v = passed_start(2, NULL, NULL);
    uint16_t a = attach_new(v, 0), b = attach_new(v, 1);

    assert_status(pviommu_map(v->iommu, a, BFN, GFN, 1, 0), 0);
    assert_status(pviommu_map(v->iommu, b, BFN + 1, GFN + 1, 1, 0), 0);
    passed_assert_reaches(v, 0, BFN, GFN);
    passed_assert_faults(v, 0, BFN + 1);
    passed_assert_faults(v, 1, BFN);
    passed_assert_reaches(v, 1, BFN + 1, GFN + 1);
    g_assert_cmpuint(passed_contexts(v), ==, 2);
    /* And then they change places. */
    assert_status(pviommu_attach(v->iommu, PASSED_SBDF(0), b), 0);
    assert_status(pviommu_attach(v->iommu, PASSED_SBDF(1), a), 0);
    passed_assert_faults(v, 0, BFN);
    passed_assert_reaches(v, 0, BFN + 1, GFN + 1);
    passed_assert_reaches(v, 1, BFN, GFN);
    passed_assert_faults(v, 1, BFN + 1);
    g_assert_cmpuint(passed_contexts(v), ==, 2);

    /* A context goes with its last function. */
    assert_status(pviommu_attach(v->iommu, PASSED_SBDF(0), 0), 0);
    assert_status(pviommu_free_context(v->iommu, b), 0);
    passed_assert_faults(v, 0, BFN + 1);
    assert_status(pviommu_attach(v->iommu, PASSED_SBDF(1), 0), 0);
    assert_status(pviommu_free_context(v->iommu, a), 0);
    g_assert_cmpuint(passed_contexts(v), ==, 1);
    g_assert_cmpuint(xensim_references(v->sim, xensim_page(v->sim, GFN)), ==,
                     0);
    passed_quit(v);
}

static void test_identity_context_and_back(void)
{
    Passed *v = passed_start(2, NULL, NULL);
    uint16_t identity = attach_identity(v, 0), ctx;

    assert_status(pviommu_enable(v->iommu), 0);
    passed_assert_reaches(v, 0, GFN, GFN);
    passed_assert_faults(v, 1, GFN);
    g_assert_cmpuint(passed_context_of(v, 0), ==, 0);
    ctx = attach_new(v, 0);
    assert_status(pviommu_map(v->iommu, ctx, BFN, GFN, 1, 0), 0);
    passed_assert_faults(v, 0, GFN);
    passed_assert_reaches(v, 0, BFN, GFN);
    assert_status(pviommu_attach(v->iommu, PASSED_SBDF(0), identity), 0);
    passed_assert_reaches(v, 0, GFN, GFN);
    g_assert_cmpuint(xensim_references(v->sim, xensim_page(v->sim, GFN)), ==,
                     0);
    passed_quit(v);
}

static void test_reset_goes_back_to_identity(void)
{
    Passed *v = passed_start(2, NULL, NULL);
    uint16_t ctx = attach_new(v, 0);

    assert_status(pviommu_map(v->iommu, ctx, BFN, GFN, 4, 0), 0);
    pviommu_reset(v->iommu);
    for (unsigned i = 0; i < 2; i++) {
        passed_assert_reaches(v, i, GFN, GFN);
    }
    g_assert_cmpuint(passed_contexts(v), ==, 0);
    pviommu_accept(v->iommu, XEN_IOMMU_FEATURES_ALL);
    ctx = attach_new(v, 0);
    passed_assert_faults(v, 0, BFN);
    assert_status(pviommu_map(v->iommu, ctx, BFN, GFN, 4, 0), 0);
    passed_assert_reaches(v, 0, BFN, GFN);
    passed_quit(v);
}

/* A function reaches nothing from the start, as soon as it is there. */
static void test_premap_off_shows_nothing(void)
{
    Passed *v = passed_start(1, NULL, ",premap=off");

    passed_wait_not_context(v, 0, 0);
    passed_assert_faults(v, 0, GFN);
    assert_status(pviommu_map(v->iommu, 0, BFN, GFN, 1, 0), 0);
    passed_assert_reaches(v, 0, BFN, GFN);
    pviommu_reset(v->iommu);
    passed_assert_faults(v, 0, BFN);
    passed_assert_faults(v, 0, GFN);
    passed_quit(v);
}

static void test_queue_needs_doorbells(void)
{
    Passed *v = passed_start(0, NULL, ",premap=off");
    QPVIOMMUQueue q;

    pviommu_queue_init(&q, v->iommu, 0, PVIOMMU_QUEUE_ADDR, 16);
    g_assert_cmphex(pviommu_queue_flags(&q), ==, 0);
    passed_plug(v, 0);
    g_assert_cmphex(pviommu_queue_flags(&q), ==, XEN_IOMMU_QUEUE_doorbell);
    passed_assign(v, 0);
    passed_wait_not_context(v, 0, 0);
    for (unsigned i = 0; i < 8; i++) {
        pviommu_queue_push(&q, pviommu_op_map(0, BFN + 2 * i, GFN + i, 1, 0));
    }
    passed_assert_faults(v, 0, BFN);
    for (unsigned n = 0, before = passed_calls(v); n < 1; n++) {
        pviommu_queue_kick(&q);
        g_assert_cmpuint(passed_calls(v) - before, ==, 1);
    }
    passed_assert_reaches(v, 0, BFN, GFN);
    passed_assert_reaches(v, 0, BFN + 14, GFN + 7);
    g_assert_cmpuint(pviommu_queue_errors(&q), ==, 0);
    hotplug_eject(v->sim->qts, "passed0", HOTPLUG_PC, 0, PASSED_SLOT(0));
    g_assert_cmphex(pviommu_queue_flags(&q), ==, 0);
    passed_quit(v);
}

static void test_page_that_leaves_is_unmapped_first(void)
{
    Passed *v = passed_start(2, NULL, NULL);
    uint16_t a = attach_new(v, 0), b = attach_new(v, 1);
    uint32_t page = xensim_page(v->sim, GFN);
    uint64_t before;

    assert_status(pviommu_map(v->iommu, a, BFN, GFN, 8, 0), 0);
    assert_status(pviommu_map(v->iommu, a, BFN + 100, GFN + 2, 1, RO), 0);
    assert_status(pviommu_map(v->iommu, b, BFN, GFN + 2, 1, 0), 0);
    g_assert_cmpuint(xensim_references(v->sim, page + 2), ==, 3);
    before = passed_calls(v);
    xensim_release(v->sim, GFN + 2, 1);
    g_assert_cmpuint(xensim_references(v->sim, page + 2), ==, 0);
    g_assert_cmpuint(passed_calls(v) - before, ==, 1);
    passed_assert_faults(v, 0, BFN + 2);
    passed_assert_faults(v, 0, BFN + 100);
    passed_assert_faults(v, 1, BFN);
    passed_assert_reaches(v, 0, BFN + 1, GFN + 1);
    passed_assert_reaches(v, 0, BFN + 3, GFN + 3);
    /* One that waits for a flush. */
    assert_status(pviommu_unmap(v->iommu, a, BFN + 3, 1), 0);
    xensim_release(v->sim, GFN + 3, 1);
    g_assert_cmpuint(xensim_references(v->sim, page + 3), ==, 0);
    passed_quit(v);
}

/* BARs that QEMU emulates are memory to emulated devices only. */
static void test_emulated_mmio_is_not_reached(void)
{
    Passed *v = passed_start(1, NULL, " -device edu,addr=12");
    uint16_t ctx = attach_new(v, 0);
    uint64_t gfn;
    QEdu edu;

    edu_init(&edu, v->iommu, QPCI_DEVFN(0x12, 0));
    gfn = edu.bar.addr / PVIOMMU_PAGE;
    assert_status(pviommu_map(v->iommu, ctx, BFN, gfn, 1, 0), 0);
    passed_assert_faults(v, 0, BFN);
    g_assert_cmpuint(xensim_count(v->sim, "iommu_op_target_map"), ==, 0);
    assert_status(pviommu_unmap(v->iommu, ctx, BFN, 1), 0);
    assert_status(pviommu_flush_all(v->iommu, ctx), 0);
    passed_quit(v);
}

/* --- coming and going ----------------------------------------------------- */

/* xl pci-attach: the toolstack assigns it after it was plugged. */
static void test_hot_plug_is_followed_up(void)
{
    Passed *v = passed_start(0, NULL, NULL);
    uint16_t ctx;

    assert_status(pviommu_enable(v->iommu), 0);
    passed_plug(v, 0);
    ctx = attach_new(v, 0);
    assert_status(pviommu_map(v->iommu, ctx, BFN, GFN, 1, 0), 0);
    passed_assign(v, 0);
    passed_wait_not_context(v, 0, 0);
    passed_assert_reaches(v, 0, BFN, GFN);
    passed_assert_faults(v, 0, GFN);
    passed_quit(v);
}

static void test_hot_unplug_shows_nothing(void)
{
    Passed *v = passed_start(2, NULL, NULL);
    uint16_t ctx = attach_new(v, 0);

    assert_status(pviommu_attach(v->iommu, PASSED_SBDF(1), ctx), 0);
    assert_status(pviommu_map(v->iommu, ctx, BFN, GFN, 1, 0), 0);
    hotplug_eject(v->sim->qts, "passed0", HOTPLUG_PC, 0, PASSED_SLOT(0));
    passed_assert_faults(v, 0, BFN);
    passed_assert_faults(v, 0, GFN);
    passed_assert_reaches(v, 1, BFN, GFN);
    assert_status(pviommu_attach(v->iommu, PASSED_SBDF(0), ctx),
                  XEN_IOMMU_ENODEV);
    passed_deassign(v, 0);
    hotplug_eject(v->sim->qts, "passed1", HOTPLUG_PC, 0, PASSED_SLOT(1));
    passed_assert_faults(v, 1, BFN);
    g_assert_cmpuint(xensim_references(v->sim, xensim_page(v->sim, GFN)), ==,
                     0);
    passed_deassign(v, 1);
    /* And it comes back. */
    passed_plug(v, 0);
    passed_assign(v, 0);
    assert_status(pviommu_attach(v->iommu, PASSED_SBDF(0), ctx), 0);
    passed_assert_reaches(v, 0, BFN, GFN);
    passed_quit(v);
}

/* --- faults --------------------------------------------------------------- */

static void test_faults_reach_the_guest(void)
{
    Passed *v = passed_start(2, NULL, NULL);
    uint16_t a = attach_new(v, 0), b = attach_new(v, 1);

    pviommu_fault_ring(v->iommu, 16);
    assert_status(pviommu_map(v->iommu, b, BFN, GFN, 1, RO), 0);
    g_assert_cmpuint(passed_dma(v, 0, BFN, false), ==, XENSIM_NO_PAGE);
    pviommu_wait_faults(v->iommu, 1);
    pviommu_assert_fault(v->iommu, 0, PASSED_SBDF(0), a, BFN * PVIOMMU_PAGE,
                         false, XEN_IOMMU_FAULT_REASON_unmapped);
    g_assert_cmpuint(passed_dma(v, 1, BFN, true), ==, XENSIM_NO_PAGE);
    pviommu_wait_faults(v->iommu, 2);
    pviommu_assert_fault(v->iommu, 1, PASSED_SBDF(1), b, BFN * PVIOMMU_PAGE,
                         true, XEN_IOMMU_FAULT_REASON_readonly);
    g_assert_cmpuint(passed_dma(v, 1, 1ull << 38, true), ==, XENSIM_NO_PAGE);
    pviommu_wait_faults(v->iommu, 3);
    pviommu_assert_fault(v->iommu, 2, PASSED_SBDF(1), b,
                         (1ull << 38) * PVIOMMU_PAGE, true,
                         XEN_IOMMU_FAULT_REASON_range);
    passed_quit(v);
}

/* Without an event they come all the same. */
static void test_faults_come_without_an_event(void)
{
    static const char *const fns[] = {
        "iommu_op_target_event", "xenevtchn_open", "xenevtchn_bind_interdomain",
    };

    for (unsigned i = 0; i < ARRAY_SIZE(fns); i++) {
        Passed *v = passed_start(0, NULL, NULL);
        uint16_t ctx;

        xensim_fail(v->sim, fns[i], 1, ENOSPC);
        passed_plug(v, 0);
        passed_assign(v, 0);
        ctx = attach_new(v, 0);
        pviommu_fault_ring(v->iommu, 16);
        g_assert_cmpuint(passed_dma(v, 0, BFN, true), ==, XENSIM_NO_PAGE);
        pviommu_wait_faults(v->iommu, 1);
        pviommu_assert_fault(v->iommu, 0, PASSED_SBDF(0), ctx,
                             BFN * PVIOMMU_PAGE, true,
                             XEN_IOMMU_FAULT_REASON_unmapped);
        passed_quit(v);
    }
}

/* --- what is reserved ----------------------------------------------------- */

static void test_reserved_ranges_are_the_hosts(void)
{
    Passed *v = passed_start(2, NULL, NULL);
    uint16_t ctx = pviommu_alloc_context(v->iommu), other;

    g_assert_true(xensim_command(v->sim, NULL, "function-reserves 0x%x 0x%llx "
                                 "16", PASSED_HOST_SBDF(0), BFN));
    assert_status(pviommu_attach(v->iommu, PASSED_SBDF(0), ctx), 0);
    assert_status(pviommu_map(v->iommu, ctx, BFN + 15, GFN, 1, 0),
                  XEN_IOMMU_EADDRNOTAVAIL);
    assert_status(pviommu_map(v->iommu, ctx, BFN + 16, GFN, 1, 0), 0);
    /* Beyond what the host's IOMMU can map, with bfn-bits above it */
    assert_status(pviommu_map(v->iommu, ctx, 1ull << 35, GFN, 1, 0),
                  XEN_IOMMU_EADDRNOTAVAIL);
    assert_status(pviommu_map(v->iommu, ctx, (1ull << 35) - 1, GFN, 1, 0), 0);
    other = attach_new(v, 1);
    assert_status(pviommu_map(v->iommu, other, BFN + 15, GFN, 1, 0), 0);
    assert_status(pviommu_attach(v->iommu, PASSED_SBDF(0), other),
                  XEN_IOMMU_EADDRNOTAVAIL);
    passed_assert_reaches(v, 0, BFN + 16, GFN);
    passed_assert_reaches(v, 1, BFN + 15, GFN);
    passed_quit(v);
}

/* Xen delivers its interrupts: as before. */
static void test_interrupts_are_not_remapped(void)
{
    Passed *v = passed_start(1, NULL, NULL);
    uint32_t handle;

    assert_status(pviommu_alloc_irqs(v->iommu, PASSED_SBDF(0), 1, &handle),
                  XEN_IOMMU_ENODEV);
    assert_status(pviommu_direct_irqs(v->iommu, PASSED_SBDF(0), true), 0);
    assert_status(pviommu_direct_irqs(v->iommu, PASSED_SBDF(0), false),
                  XEN_IOMMU_ENODEV);
    passed_quit(v);
}

/* --- hypervisors that cannot do it ---------------------------------------- */

static bool qmp_lists(Passed *v, unsigned i)
{
    QDict *state = pviommu_query(v->iommu);
    g_autofree char *sbdf = g_strdup_printf("0000:00:%02x.0", PASSED_SLOT(i));
    QListEntry *c, *d;
    bool found = false;

    QLIST_FOREACH_ENTRY(qdict_get_qlist(state, "contexts"), c) {
        QDict *ctx = qobject_to(QDict, qlist_entry_obj(c));

        QLIST_FOREACH_ENTRY(qdict_get_qlist(ctx, "devices"), d) {
            QDict *dev = qobject_to(QDict, qlist_entry_obj(d));

            found |= !strcmp(qdict_get_str(dev, "sbdf"), sbdf);
        }
    }
    qobject_unref(state);
    return found;
}

static void test_functions_are_refused_without_the_operations(void)
{
    static const char *const features[] = {
        "invalidate-page", "invalidate-page,iommu-op",
        "iommu-op,iommu-target,no-passthrough", "other-iommu-op",
    };

    for (unsigned i = 0; i < ARRAY_SIZE(features); i++) {
        Passed *v = passed_start(1, features[i], NULL);
        QPVIOMMUQueue q;

        g_test_message("%s", features[i]);
        assert_status(pviommu_enable(v->iommu), 0);
        assert_status(pviommu_attach(v->iommu, PASSED_SBDF(0), 0),
                      XEN_IOMMU_ENODEV);
        passed_assert_reaches(v, 0, GFN, GFN);
        g_assert_false(qmp_lists(v, 0));
        pviommu_queue_init(&q, v->iommu, 0, PVIOMMU_QUEUE_ADDR, 16);
        g_assert_cmphex(pviommu_queue_flags(&q), ==, 0);
        passed_quit(v);
    }
}

/* The message says what is missing. */
static void test_message_says_what_is_missing(void)
{
    static const struct {
        const char *features;
        const char *args;
        const char *says;
    } cases[] = {
        { "invalidate-page", "", "no iommu_op" },
        { "iommu-op", "", "no contexts for functions" },
        { "other-iommu-op", "", "another iommu_op" },
        { "iommu-op,iommu-target,no-passthrough", "",
          "created without passthrough" },
        { "iommu-op,iommu-target", " -xen-domid-restrict",
          "-xen-domid-restrict" },
        { "iommu-op,iommu-target", "", NULL },
    };

    g_setenv("XENSIM_FUNCTIONS", "0000:03:00.0", true);
    for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
        const XenSimOptions options = { .features = cases[i].features };
        g_autofree char *args = g_strconcat(
            "-device xen-pviommu,addr=10 "
            "-device xen-pci-passthrough,hostaddr=0000:03:00.0,addr=14",
            cases[i].args, NULL);
        int status;
        g_autofree char *said = xensim_try(&options, args, &status);

        g_test_message("%s: %s", cases[i].features, said);
        g_assert_cmpint(status, ==, 0);
        if (!cases[i].says) {
            g_assert_null(strstr(said, "not behind"));
            continue;
        }
        g_assert_nonnull(strstr(said, "pci.0/14.0, which Xen passes through"));
        g_assert_nonnull(strstr(said, cases[i].says));
    }
    g_unsetenv("XENSIM_FUNCTIONS");
}

/* Behind a bridge that puts its ID on requests, for example. */
static void test_function_that_is_not_told_apart_is_refused(void)
{
    Passed *v = passed_start(2, NULL, NULL);

    command(v, "alike", 0);
    assert_status(pviommu_enable(v->iommu), 0);
    passed_assert_reaches(v, 0, GFN, GFN);
    passed_assert_faults(v, 1, GFN);
    assert_status(pviommu_attach(v->iommu, PASSED_SBDF(0), 0),
                  XEN_IOMMU_ENODEV);
    g_assert_false(qmp_lists(v, 0));
    g_assert_true(qmp_lists(v, 1));
    passed_quit(v);
}

static void test_save_is_refused_with_a_reason(void)
{
    g_autofree char *dir = g_dir_make_tmp("passed-XXXXXX", NULL);
    g_autofree char *path = g_build_filename(dir, "state", NULL);
    Passed *v = passed_start(1, NULL, NULL);
    QDict *error = qtest_qmp_assert_failure_ref(
        v->sim->qts, "{'execute': 'xen-save-devices-state',"
        " 'arguments': {'filename': %s, 'live': false}}", path);

    g_assert_nonnull(strstr(qdict_get_str(error, "desc"),
                            "function that Xen passes through"));
    qobject_unref(error);
    g_assert_false(g_file_test(path, G_FILE_TEST_EXISTS));
    xensim_assert_alive(v->sim);
    hotplug_eject(v->sim->qts, "passed0", HOTPLUG_PC, 0, PASSED_SLOT(0));
    qtest_qmp_assert_success(v->sim->qts,
                             "{'execute': 'xen-save-devices-state',"
                             " 'arguments': {'filename': %s, 'live': false}}",
                             path);
    unlink(path);
    rmdir(dir);
    passed_quit(v);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    pviommu_add("passed/identity-mode-is-the-default-context",
                test_identity_mode_is_the_default_context);
    pviommu_add("passed/map-unmap-flush-are-carried-over",
                test_map_unmap_flush_are_carried_over);
    pviommu_add("passed/changes-are-one-call-a-doorbell",
                test_changes_are_one_call_a_doorbell);
    pviommu_add("passed/a-function-finds-what-is-mapped",
                test_a_function_finds_what_is_mapped);
    pviommu_add("passed/two-contexts-do-not-see-each-other",
                test_two_contexts_do_not_see_each_other);
    pviommu_add("passed/identity-context-and-back",
                test_identity_context_and_back);
    pviommu_add("passed/reset-goes-back-to-identity",
                test_reset_goes_back_to_identity);
    pviommu_add("passed/premap-off-shows-nothing",
                test_premap_off_shows_nothing);
    pviommu_add("passed/queue-needs-doorbells", test_queue_needs_doorbells);
    pviommu_add("passed/page-that-leaves-is-unmapped-first",
                test_page_that_leaves_is_unmapped_first);
    pviommu_add("passed/emulated-mmio-is-not-reached",
                test_emulated_mmio_is_not_reached);
    pviommu_add("passed/hot-plug-is-followed-up", test_hot_plug_is_followed_up);
    pviommu_add("passed/hot-unplug-shows-nothing",
                test_hot_unplug_shows_nothing);
    pviommu_add("passed/faults-reach-the-guest", test_faults_reach_the_guest);
    pviommu_add("passed/faults-come-without-an-event",
                test_faults_come_without_an_event);
    pviommu_add("passed/reserved-ranges-are-the-hosts",
                test_reserved_ranges_are_the_hosts);
    pviommu_add("passed/interrupts-are-not-remapped",
                test_interrupts_are_not_remapped);
    pviommu_add("passed/functions-are-refused-without-the-operations",
                test_functions_are_refused_without_the_operations);
    pviommu_add("passed/message-says-what-is-missing",
                test_message_says_what_is_missing);
    pviommu_add("passed/function-that-is-not-told-apart-is-refused",
                test_function_that_is_not_told_apart_is_refused);
    pviommu_add("passed/save-is-refused-with-a-reason",
                test_save_is_refused_with_a_reason);
    return g_test_run();
}
