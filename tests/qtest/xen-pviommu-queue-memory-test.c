/*
 * xen-pviommu: the memory that queues are in is removed, or written by others
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "libqos/edu.h"
#include "libqos/hotplug.h"
#include "libqos/queue-fixture.h"
#include "libqos/virtio-ram.h"

#define EXTRA_SLOT      0x14

/* A page of the queue leaves the guest; whichever it is, the queue is gone. */
static void test_ballooned_page_removes_it(const void *machine)
{
    static const unsigned pages[] = { 0, 3, 8 };

    for (unsigned i = 0; i < 2 * ARRAY_SIZE(pages); i++) {
        Fixture *f = fixture_new_bare(machine, "premap=off",
                                      "-device virtio-balloon-pci,addr=14");
        QVirtioRam ram;
        uint64_t gfn;

        virtio_ram_init(&ram, f->iommu, QPCI_DEVFN(EXTRA_SLOT, 0), 3);
        pviommu_queue_init(&f->q, f->iommu, 0, QUEUE(0), 1024);
        gfn = f->q.addr / PVIOMMU_PAGE + pages[i / 2];
        push_map(&f->q, BFN, GFN, 1);
        assert_reaches(&f->m, BFN, GFN);
        /* Neighbours do not matter. */
        balloon_give(&ram, BALLOON_INFLATE, QUEUE(0) / PVIOMMU_PAGE - 1, 1);
        balloon_give(&ram, BALLOON_INFLATE, QUEUE(0) / PVIOMMU_PAGE + 9, 1);
        push_map(&f->q, BFN + 1, GFN + 1, 1);
        assert_reaches(&f->m, BFN + 1, GFN + 1);
        assert_ran(&f->q, 0);

        if (i % 2) {
            push_map(&f->q, BFN + 2, GFN + 2, 1);
        }
        balloon_give(&ram, BALLOON_INFLATE, gfn, 1);
        g_assert_cmphex(qtest_readq(f->iommu->qts, ADDR(gfn)), ==, 0);
        assert_reaches(&f->m, BFN, GFN);
        assert_gone(f, &f->q);

        pviommu_queue_init(&f->q, f->iommu, 0, QUEUE(1), 16);
        push_unmap(&f->q, BFN, 1);
        assert_fault(&f->m, BFN, GFN);
        assert_reaches(&f->m, BFN + 1, GFN + 1);
        assert_ran(&f->q, 0);

        /* Pages of no queue any more */
        balloon_give(&ram, BALLOON_INFLATE, QUEUE(0) / PVIOMMU_PAGE, 9);
        push_map(&f->q, BFN, GFN, 1);
        assert_reaches(&f->m, BFN, GFN);
        assert_ran(&f->q, 0);
        virtio_ram_finalize(&ram);
        fixture_free(f);
    }
}

/*
 * The queue is filled again before each translation, by the device itself here,
 * and the main loop does not get to go on.
 */
static void test_refilling_by_dma_makes_it_dead(void)
{
    const unsigned nr = 1024, times = 200;
    Fixture *f = fixture_new_bare("pc", "premap=off,x-check=off", NULL);
    struct xen_iommu_op ops[1024];

    for (unsigned i = 0; i < nr; i++) {
        ops[i] = i % 2 ? pviommu_op_unmap(0, BFN + 4096, 512)
                       : pviommu_op_map(0, BFN + 4096, GFN + 1, 512, 0);
    }
    pviommu_queue_init(&f->q, f->iommu, 0, QUEUE(0), nr);
    pviommu_store_ops(f->iommu, f->q.addr + FIELD(ops), ops, nr);
    assert_status(pviommu_map(f->iommu, 0, BFN, QUEUE(0) / PVIOMMU_PAGE, 1,
                              0), 0);
    g_assert_cmpuint(mirror_count(&f->m, ADDR(BFN) + FIELD(tail), nr, times),
                     ==, times);
    g_assert_cmphex(pviommu_queue_flags(&f->q), ==, DOORBELL | DEAD);
    g_assert_cmpuint(pviommu_queue_head(&f->q), >, 4 * nr);

    /* As often as one likes, if it does go on in between */
    pviommu_queue_init(&f->q, f->iommu, 0, QUEUE(0), nr);
    pviommu_store_ops(f->iommu, f->q.addr + FIELD(ops), ops, nr);
    for (unsigned i = 1; i <= times; i++) {
        g_assert_true(mirror_dma_write(&f->m, ADDR(BFN) + FIELD(tail), i * nr,
                                       4));
    }
    g_assert_cmphex(pviommu_queue_flags(&f->q), ==, 0);
    g_assert_cmpuint(pviommu_queue_head(&f->q), ==, (times - 1) * nr);
    fixture_free(f);
}

/* ACPI's controller of memory slots */
#define MEMHP_SELECT    0x0a00
#define MEMHP_CONTROL   0x0a14
#define  MEMHP_EJECT            (1 << 3)
#define DIMM_ADDR       0x140000000ull

/* The memory that the queue is in is unplugged, and freed. */
static void test_unplugged_dimm_removes_it(const void *machine)
{
    Fixture *f = fixture_new_bare(machine, "premap=off",
                                  "-m maxmem=2G,slots=1 "
                                  "-object memory-backend-ram,id=mem,size=128M "
                                  "-device pc-dimm,id=dimm,memdev=mem,"
                                  "addr=0x140000000");
    QTestState *qts = f->iommu->qts;

    pviommu_queue_init(&f->q, f->iommu, 0, DIMM_ADDR, NR_OPS);
    push_map(&f->q, BFN, GFN, 1);
    push_map(&f->q, BFN + 1, DIMM_ADDR / PVIOMMU_PAGE + 64, 1);
    assert_reaches(&f->m, BFN, GFN);
    assert_reaches(&f->m, BFN + 1, DIMM_ADDR / PVIOMMU_PAGE + 64);
    assert_ran(&f->q, 0);
    push_map(&f->q, BFN + 2, GFN + 2, 1);

    qtest_qmp_device_del_send(qts, "dimm");
    qtest_outl(qts, MEMHP_SELECT, 0);
    qtest_outb(qts, MEMHP_CONTROL, MEMHP_EJECT);
    qtest_qmp_eventwait(qts, "DEVICE_DELETED");
    qtest_qmp_assert_success(qts, "{'execute': 'object-del', "
                             "'arguments': {'id': 'mem'}}");

    assert_reaches(&f->m, BFN, GFN);
    assert_fault(&f->m, BFN + 1, GFN + 1);
    call(f);
    assert_reaches(&f->m, BFN, GFN);
    assert_status(pviommu_set_queue(f->iommu, 0, DIMM_ADDR, NR_OPS),
                  XEN_IOMMU_EFAULT);
    pviommu_queue_init(&f->q, f->iommu, 0, QUEUE(0), NR_OPS);
    push_unmap(&f->q, BFN, 1);
    assert_fault(&f->m, BFN, GFN);
    assert_ran(&f->q, 0);
    fixture_free(f);
}

/* No reference to a device stays that was plugged when the queue was set. */
static void test_outlives_an_unplugged_device(void)
{
    Fixture *f = fixture_new_bare("pc", "premap=off", NULL);
    QTestState *qts = f->iommu->qts;
    QEdu edu;

    qtest_qmp_device_add(qts, "edu", "hot", "{'addr': '14'}");
    edu_init(&edu, f->iommu, QPCI_DEVFN(EXTRA_SLOT, 0));
    pviommu_queue_init(&f->q, f->iommu, 0, QUEUE(0), NR_OPS);
    hotplug_eject(qts, "hot", HOTPLUG_PC, 0, EXTRA_SLOT);

    push_map(&f->q, BFN, GFN, 1);
    assert_reaches(&f->m, BFN, GFN);
    fixture_free(f);
}

/* RAM that the guest makes read-only, or hides, with the queue in it */
static void test_ram_becoming_rom_leaves_mappings(const void *machine)
{
    Fixture *f = fixture_new_bare(machine, "premap=off", NULL);
    static const uint8_t modes[] = {
        PVIOMMU_PAM_ROM, PVIOMMU_PAM_READ_RAM, PVIOMMU_PAM_WRITE_RAM,
    };

    for (unsigned i = 0; i < ARRAY_SIZE(modes); i++) {
        pviommu_set_pam(f->iommu, 0, PVIOMMU_PAM_RAM);
        pviommu_queue_init(&f->q, f->iommu, 0, 0xf1000, NR_OPS);
        push_map(&f->q, BFN + i, GFN, 1);
        assert_reaches(&f->m, BFN + i, GFN);
        pviommu_set_pam(f->iommu, 0, modes[i]);
        /* Whether it is still there or not, the rest is. */
        assert_reaches(&f->m, BFN + i, GFN);
        call(f);
        assert_status(pviommu_map(f->iommu, 0, BFN + 10 + i, GFN, 1, 0), 0);
        assert_reaches(&f->m, BFN + 10 + i, GFN);
        if (modes[i] != PVIOMMU_PAM_WRITE_RAM) {
            assert_status(pviommu_set_queue(f->iommu, 0, 0xf1000, NR_OPS),
                          XEN_IOMMU_EFAULT);
        }
    }
    pviommu_set_pam(f->iommu, 0, PVIOMMU_PAM_RAM);
    pviommu_queue_init(&f->q, f->iommu, 0, 0xf1000, NR_OPS);
    push_unmap(&f->q, BFN, 1);
    assert_fault(&f->m, BFN, GFN);
    fixture_free(f);
}

static void test_reset_removes_it(const void *machine)
{
    static const char *const props[] = { "premap=on", "premap=off" };

    for (unsigned i = 0; i < ARRAY_SIZE(props); i++) {
        Fixture *f = fixture_new(machine, props[i], NULL);
        uint16_t ctx = pviommu_alloc_context(f->iommu);
        QPVIOMMUQueue q;

        pviommu_queue_init(&q, f->iommu, ctx, QUEUE(1), 4);
        push_map(&f->q, BFN, GFN, 1);
        call(f);
        assert_ran(&f->q, 0);
        push_map(&f->q, BFN + 1, GFN + 1, 1);
        push_map(&q, BFN + 1, GFN + 1, 1);

        pviommu_reset(f->iommu);
        mirror_init(&f->m, f->iommu, QPCI_DEVFN(SLOT, 0));
        g_assert(pviommu_identity(f->iommu) == !i);
        pviommu_assert_frames(f->iommu, 0, 0);
        if (!i) {
            assert_reaches(&f->m, GFN, GFN);
        } else {
            assert_fault(&f->m, BFN, GFN);
        }
        assert_gone(f, &f->q);
        assert_gone(f, &q);
        g_assert(pviommu_identity(f->iommu) == !i);

        /* And from the start again */
        pviommu_accept(f->iommu, XEN_IOMMU_FEATURES_ALL);
        assert_status(pviommu_enable(f->iommu), 0);
        assert_gone(f, &f->q);
        pviommu_queue_init(&f->q, f->iommu, 0, QUEUE(0), NR_OPS);
        push_map(&f->q, BFN, GFN, 1);
        assert_reaches(&f->m, BFN, GFN);
        fixture_free(f);
    }
}

/* A device that has the queue mapped, and writes to it */
static void test_filled_by_dma_runs(const void *machine)
{
    Fixture *f = fixture_new(machine, NULL, NULL);
    struct xen_iommu_op op = pviommu_op_map(0, BFN + 1, GFN, 0, 0);
    const uint64_t *words = (const uint64_t *)&op;

    push_map(&f->q, BFN, f->q.addr / PVIOMMU_PAGE, 1);
    for (unsigned i = 0; i < sizeof(op) / 8; i++) {
        g_assert_true(mirror_dma_write(&f->m, ADDR(BFN) + FIELD(ops[1]) + 8 * i,
                                       le64_to_cpu(words[i]), 8));
    }
    g_assert_true(mirror_dma_write(&f->m, ADDR(BFN) + FIELD(tail), 2, 4));
    f->q.tail = 2;
    assert_not_ran(&f->q, 1);
    assert_reaches(&f->m, BFN + 1, GFN);
    assert_ran(&f->q, 0);

    /* What it stores over the device's fields is not what counts. */
    g_assert_true(mirror_dma_write(&f->m, ADDR(BFN) + FIELD(head), 0x77, 4));
    op = pviommu_op_unmap(0, BFN + 1, 0);
    pviommu_store_ops(f->iommu, f->q.addr + FIELD(ops[2]), &op, 1);
    qtest_writel(f->iommu->qts, f->q.addr + FIELD(tail), 3);
    f->q.tail = 3;
    assert_fault(&f->m, BFN + 1, GFN);
    assert_ran(&f->q, 0);

    /* It takes its own page away, in the middle of a DMA to it. */
    push_unmap(&f->q, BFN, 1);
    push_flush(&f->q);
    g_assert_false(mirror_dma_write(&f->m, ADDR(BFN) + FIELD(tail), 99, 4));
    assert_ran(&f->q, 0);
    g_assert_cmphex(pviommu_queue_flags(&f->q), ==, 0);
    fixture_free(f);
}

/* Two queues, an array, the faults, and a page of data, all in one place */
static void test_overlapping_memory_is_survived(const void *machine)
{
    Fixture *f = fixture_new(machine, NULL, NULL);
    uint16_t ctx = pviommu_alloc_context(f->iommu);
    struct xen_iommu_op op = pviommu_op_query_caps();
    uint64_t data;

    assert_status(pviommu_set_queue(f->iommu, ctx, f->q.addr, 1024), 0);
    pviommu_writeq(f->iommu, XEN_PVIOMMU_REG_FAULT_RING, f->q.addr);
    pviommu_writel(f->iommu, XEN_PVIOMMU_REG_FAULT_SIZE, 64);
    pviommu_writel(f->iommu, XEN_PVIOMMU_REG_FAULT_CTRL,
                   XEN_PVIOMMU_FAULT_CTRL_ENABLE);
    for (unsigned i = 0; i < 200; i++) {
        uint64_t at = f->q.addr + (i % 17) * 8;

        qtest_writel(f->iommu->qts, f->q.addr + FIELD(tail), i);
        mirror_dma_write(&f->m, ADDR(BFN) + at % PVIOMMU_PAGE, i, 8);
        mirror_dma_read(&f->m, ADDR(BFN + i), &data);
        pviommu_store_ops(f->iommu, at, &op, 1);
        pviommu_ring(f->iommu, 0, at, 1 + i % 3, NULL);
    }
    /* The device still works, whatever it read. */
    pviommu_reset(f->iommu);
    mirror_init(&f->m, f->iommu, QPCI_DEVFN(SLOT, 0));
    pviommu_accept(f->iommu, XEN_IOMMU_FEATURES_ALL);
    pviommu_queue_init(&f->q, f->iommu, 0, QUEUE(0), NR_OPS);
    push_map(&f->q, BFN, GFN, 1);
    assert_reaches(&f->m, BFN, GFN);
    fixture_free(f);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    pviommu_add_for_machines("queue/ballooned-page-removes-it",
                             test_ballooned_page_removes_it);
    pviommu_add("queue/refilling-by-dma-makes-it-dead",
                test_refilling_by_dma_makes_it_dead);
    pviommu_add_for_machines("queue/unplugged-dimm-removes-it",
                             test_unplugged_dimm_removes_it);
    pviommu_add("queue/outlives-an-unplugged-device",
                test_outlives_an_unplugged_device);
    pviommu_add_for_machines("queue/ram-becoming-rom-leaves-mappings",
                             test_ram_becoming_rom_leaves_mappings);
    pviommu_add_for_machines("queue/reset-removes-it", test_reset_removes_it);
    pviommu_add_for_machines("queue/filled-by-dma-runs",
                             test_filled_by_dma_runs);
    pviommu_add_for_machines("queue/overlapping-memory-is-survived",
                             test_overlapping_memory_is_survived);
    return g_test_run();
}
