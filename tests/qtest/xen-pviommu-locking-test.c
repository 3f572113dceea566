/*
 * xen-pviommu: what is called while the device works may wait for a thread that
 * does DMA
 *
 * Listeners of the memory map and IOMMU notifiers of other devices may wait for
 * an I/O thread, and some release the BQL. pviommu-mirror is set to do both
 * while its I/O thread does DMA in a context whose queue is not empty. That
 * thread then wants the device's lock; no waiting listener may depend on it.
 *
 * A wait that does not end fails the test after a while; where the BQL is held
 * by the thread that is waited for, the test hangs.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "libqos/pviommu-mirror.h"

#define WAITER_SLOT     0x11
#define PLUGGED_SLOT    0x12

#define REG(name)       PVIOMMU_MIRROR_ ## name
#define ADDR(frame)     ((uint64_t)(frame) * PVIOMMU_PAGE)

/* What the I/O thread reads, and what operations map. */
#define DMA_BFN         0x100ull
#define BFN             0x200ull
#define GFN             ((uint64_t)PVIOMMU_FREE_GFN)
#define NR_OPS          16

/* ROM or RAM, as the host bridge says */
#define ROM_GFN         0xf0ull

/* The register block that the I/O thread uses, and its array. */
#define THREAD_BLOCK    (XEN_PVIOMMU_BLOCKS + XEN_PVIOMMU_BLOCK_STRIDE)
#define THREAD_OPS      (PVIOMMU_OPS_ADDR + 0x10000)

typedef struct Fixture {
    QXenPVIOMMU *iommu;
    QMirror waiter;
    QPVIOMMUQueue q;
} Fixture;

static Fixture *fixture_new(const char *machine, const char *props,
                            const char *notifier)
{
    Fixture *f = g_new0(Fixture, 1);
    g_autofree char *devices = g_strdup_printf(
        "-object iothread,id=io -device '{\"driver\":\"pviommu-mirror\","
        "\"addr\":\"%x\",\"notifier\":\"%s\",\"iothread\":\"io\"}' ",
        WAITER_SLOT, notifier);

    f->iommu = pviommu_start(machine, props, devices);
    pviommu_accept(f->iommu, XEN_IOMMU_FEATURES_ALL);
    mirror_init(&f->waiter, f->iommu, QPCI_DEVFN(WAITER_SLOT, 0));
    mirror_write(&f->waiter, REG(IOVA), ADDR(DMA_BFN));
    pviommu_queue_init(&f->q, f->iommu, 0, PVIOMMU_QUEUE_ADDR, NR_OPS);
    return f;
}

/* The device still works: by a call, by a queue, and for DMA. */
static void fixture_free(Fixture *f)
{
    uint64_t data;

    assert_status(pviommu_map(f->iommu, 0, BFN + 1, GFN + 1, 0, 0), 0);
    pviommu_queue_push(&f->q, pviommu_op_unmap(0, BFN + 1, 0));
    pviommu_queue_push(&f->q, pviommu_op_map(0, BFN + 2, GFN + 2, 0, 0));
    if (pviommu_queue_flags(&f->q)) {
        pviommu_queue_kick(&f->q);
    }
    qtest_writeq(f->iommu->qts, ADDR(GFN + 2), 0x12345678);
    g_assert_true(mirror_dma_read(&f->waiter, ADDR(BFN + 2), &data));
    g_assert_cmphex(data, ==, 0x12345678);
    g_assert_false(mirror_dma_read(&f->waiter, ADDR(BFN + 1), &data));
    pviommu_queue_kick(&f->q);
    g_assert_cmpuint(pviommu_queue_errors(&f->q), ==, 0);
    pviommu_quit(f->iommu);
    g_free(f);
}

static void wait_from_now(Fixture *f, uint64_t when)
{
    mirror_clear(&f->waiter);
    mirror_write(&f->waiter, REG(WAIT), when);
}

/* It did wait, and got what it waited for. */
static void assert_waited(Fixture *f)
{
    mirror_write(&f->waiter, REG(WAIT), 0);
    mirror_write(&f->waiter, REG(RING), 0);
    g_assert_cmpuint(mirror_counter(&f->waiter, REG(STUCK)), ==, 0);
    g_assert_cmpuint(mirror_counter(&f->waiter, REG(WAITS)), >, 0);
}

/* It is the thread that raises tail, just before each of its accesses. */
static void thread_raises_tail(Fixture *f)
{
    uint64_t tail = f->q.addr + offsetof(struct xen_iommu_queue, tail);

    mirror_write(&f->waiter, REG(RING), tail);
    mirror_write(&f->waiter, REG(DATA), f->q.tail);
    qtest_writel(f->iommu->qts, tail, f->q.tail - 1);
}

/* As firmware does: ROM or RAM below 1 MiB, so that all of RAM is new. */
static void change_memory_map(Fixture *f, bool ram)
{
    pviommu_set_pam(f->iommu, 0, ram ? PVIOMMU_PAM_RAM : PVIOMMU_PAM_ROM);
}

/* A transaction of the machine's memory map */
static void test_memory_listener_may_wait(const void *machine)
{
    Fixture *f = fixture_new(machine, "premap=off", "none");

    assert_status(pviommu_map(f->iommu, 0, DMA_BFN, GFN, 0, 0), 0);
    for (unsigned i = 0; i < 8; i++) {
        pviommu_queue_push(&f->q, pviommu_op_map(0, BFN, GFN, 0, 0));
        pviommu_queue_push(&f->q, pviommu_op_unmap(0, BFN, 0));
        g_assert_cmphex(pviommu_queue_flags(&f->q), ==, 0);
        wait_from_now(f, REG(WAIT_TRANSACTION));
        change_memory_map(f, i % 2);
        assert_waited(f);
        /* It ran, and saw the memory there was. */
        g_assert_cmpuint(pviommu_queue_head(&f->q), ==, f->q.tail);
        g_assert_cmpuint(pviommu_queue_errors(&f->q), ==, 0);
    }
    assert_status(pviommu_unmap(f->iommu, 0, DMA_BFN, 0), 0);
    fixture_free(f);
}

/* What is mapped in the transaction that takes it away is unmapped after it. */
static void test_page_mapped_as_it_leaves_is_unmapped(const void *machine)
{
    Fixture *f = fixture_new(machine, "premap=off", "none");

    assert_status(pviommu_map(f->iommu, 0, DMA_BFN, GFN, 0, 0), 0);
    for (unsigned i = 0; i < 4; i++) {
        uint32_t map;

        change_memory_map(f, true);
        map = pviommu_queue_push(&f->q, pviommu_op_map(0, BFN, ROM_GFN, 0, 0));
        wait_from_now(f, REG(WAIT_TRANSACTION));
        change_memory_map(f, false);
        assert_waited(f);
        g_assert_cmpuint(pviommu_queue_head(&f->q), ==, f->q.tail);
        assert_status(pviommu_queue_status(&f->q, map), 0);
        pviommu_assert_unmapped(f->iommu, 0, BFN);
        pviommu_assert_frames(f->iommu, 1, 0);
    }
    fixture_free(f);
}

/* A transaction, and a vCPU makes calls while the BQL is free */
static void test_calls_run_while_the_bql_is_free(const void *machine)
{
    Fixture *f = fixture_new(machine, "premap=off", "none");
    struct xen_iommu_op ops[] = {
        pviommu_op_unmap_skip(0, BFN, 0),
        pviommu_op_map(0, BFN, GFN, 0, 0),
    };

    pviommu_writeq(f->iommu, THREAD_BLOCK + XEN_PVIOMMU_BLOCK_ARRAY,
                   THREAD_OPS);
    mirror_write(&f->waiter, REG(RING), f->iommu->bar.addr + THREAD_BLOCK +
                 XEN_PVIOMMU_BLOCK_DOORBELL);
    mirror_write(&f->waiter, REG(DATA), ARRAY_SIZE(ops));
    for (unsigned i = 0; i < 8; i++) {
        struct xen_iommu_op done[ARRAY_SIZE(ops)];

        pviommu_store_ops(f->iommu, THREAD_OPS, ops, ARRAY_SIZE(ops));
        wait_from_now(f, REG(WAIT_TRANSACTION) | REG(WAIT_UNLOCKED));
        change_memory_map(f, i % 2);
        mirror_write(&f->waiter, REG(WAIT), 0);
        pviommu_load_ops(f->iommu, THREAD_OPS, done, ARRAY_SIZE(ops));
        assert_status(pviommu_status(&done[0]), 0);
        assert_status(pviommu_status(&done[1]), 0);
        pviommu_assert_mapped(f->iommu, 0, BFN, GFN, 1, 0);
    }
    assert_waited(f);
    fixture_free(f);
}

/* To enable translation is a transaction, which a call causes... */
static void test_enabling_by_a_call_may_wait(const void *machine)
{
    Fixture *f = fixture_new(machine, "premap=on", "none");

    /* The queue, empty as the call begins, has something then. */
    pviommu_queue_push(&f->q, pviommu_op_flush(0, BFN, 0));
    thread_raises_tail(f);
    g_assert_true(pviommu_identity(f->iommu));
    wait_from_now(f, REG(WAIT_TRANSACTION));
    assert_status(pviommu_map(f->iommu, 0, DMA_BFN, GFN, 0, 0), 0);
    assert_waited(f);
    g_assert_false(pviommu_identity(f->iommu));
    pviommu_queue_kick(&f->q);
    g_assert_cmphex(pviommu_queue_flags(&f->q), ==, 0);
    fixture_free(f);
}

/* ...or an operation of a queue, in the middle of that. */
static void test_enabling_by_a_queue_may_wait(const void *machine)
{
    Fixture *f = fixture_new(machine, "premap=on", "none");

    pviommu_queue_push(&f->q, pviommu_op_map(0, DMA_BFN, GFN, 0, 0));
    pviommu_queue_push(&f->q, pviommu_op_map(0, BFN, GFN, 0, 0));
    g_assert_true(pviommu_identity(f->iommu));
    wait_from_now(f, REG(WAIT_TRANSACTION));
    pviommu_queue_kick(&f->q);
    assert_waited(f);
    g_assert_false(pviommu_identity(f->iommu));
    pviommu_assert_mapped(f->iommu, 0, BFN, GFN, 1, 0);
    fixture_free(f);
}

/* A device is plugged where none was: an address space is created. */
static void test_plug_may_wait(void)
{
    Fixture *f = fixture_new("pc", "premap=off", "none");
    QMirror plugged;
    uint64_t data;

    assert_status(pviommu_map(f->iommu, 0, DMA_BFN, GFN, 0, 0), 0);
    pviommu_queue_push(&f->q, pviommu_op_map(0, BFN, GFN, 0, 0));
    wait_from_now(f, REG(WAIT_TRANSACTION));
    qtest_qmp_device_add(f->iommu->qts, "pviommu-mirror", "m0",
                         "{'addr':'0x12','notifier':'none'}");
    assert_waited(f);
    g_assert_cmpuint(pviommu_queue_head(&f->q), ==, f->q.tail);
    mirror_init(&plugged, f->iommu, QPCI_DEVFN(PLUGGED_SLOT, 0));
    g_assert_true(mirror_dma_read(&plugged, ADDR(BFN), &data));
    fixture_free(f);
}

/*
 * Notifiers are called in the middle of a queue that a call runs; and of unmaps
 * that the guest did not ask for, with a queue that it left alone.
 */
static void test_notifier_may_wait(const void *notifier)
{
    Fixture *f = fixture_new("q35", "premap=off", notifier);

    assert_status(pviommu_map(f->iommu, 0, DMA_BFN, GFN, 0, 0), 0);
    g_assert_cmphex(pviommu_queue_flags(&f->q), ==, XEN_IOMMU_QUEUE_doorbell);
    wait_from_now(f, REG(WAIT_NOTIFIED));
    pviommu_queue_push(&f->q, pviommu_op_map(0, BFN, GFN + 3, 0, 0));
    pviommu_queue_push(&f->q, pviommu_op_unmap(0, BFN, 0));
    pviommu_queue_push(&f->q, pviommu_op_flush(0, BFN, 0));
    pviommu_queue_kick(&f->q);
    assert_waited(f);

    assert_status(pviommu_map(f->iommu, 0, BFN + 3, ROM_GFN, 0, 0),
                  XEN_IOMMU_EPERM);
    change_memory_map(f, true);
    assert_status(pviommu_map(f->iommu, 0, BFN + 3, ROM_GFN, 0, 0), 0);
    pviommu_queue_push(&f->q, pviommu_op_flush(0, BFN, 0));
    wait_from_now(f, REG(WAIT_NOTIFIED));
    change_memory_map(f, false);
    assert_waited(f);
    pviommu_assert_unmapped(f->iommu, 0, BFN + 3);
    fixture_free(f);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    pviommu_add_for_machines("locking/memory-listener-may-wait",
                             test_memory_listener_may_wait);
    pviommu_add_for_machines("locking/page-mapped-as-it-leaves-is-unmapped",
                             test_page_mapped_as_it_leaves_is_unmapped);
    pviommu_add_for_machines("locking/calls-run-while-the-bql-is-free",
                             test_calls_run_while_the_bql_is_free);
    pviommu_add_for_machines("locking/enabling-by-a-call-may-wait",
                             test_enabling_by_a_call_may_wait);
    pviommu_add_for_machines("locking/enabling-by-a-queue-may-wait",
                             test_enabling_by_a_queue_may_wait);
    pviommu_add("locking/plug-may-wait", test_plug_may_wait);
    pviommu_add_data("locking/notifier-may-wait/map", "map",
                     test_notifier_may_wait);
    pviommu_add_data("locking/notifier-may-wait/unmap", "unmap",
                     test_notifier_may_wait);
    return g_test_run();
}
