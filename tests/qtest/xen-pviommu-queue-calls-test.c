/*
 * xen-pviommu: when queues need a call, and that their flags say so
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "libqos/queue-fixture.h"
#include "libqos/virtio-ram.h"
#include "standard-headers/linux/virtio_mem.h"

#define EXTRA_SLOT      0x14

/*
 * In identity mode no device is translated, so that only a call can run what
 * enables translation; the queue's flag says so.
 */
static void test_identity_mode_needs_a_call(const void *machine)
{
    Fixture *f = fixture_new(machine, "premap=on", NULL);

    g_assert_true(pviommu_identity(f->iommu));
    g_assert_cmphex(pviommu_queue_flags(&f->q), ==, DOORBELL);
    push_map(&f->q, BFN, GFN, 1);
    assert_reaches(&f->m, GFN, GFN);
    assert_not_ran(&f->q, 1);
    g_assert_true(pviommu_identity(f->iommu));
    call(f);
    assert_ran(&f->q, 0);
    g_assert_false(pviommu_identity(f->iommu));
    assert_reaches(&f->m, BFN, GFN);
    assert_fault(&f->m, GFN, GFN);

    g_assert_cmphex(pviommu_queue_flags(&f->q), ==, 0);
    push_map(&f->q, BFN + 1, GFN + 1, 1);
    assert_reaches(&f->m, BFN + 1, GFN + 1);

    /* Neither what is malformed nor a flush enables translation. */
    pviommu_reset(f->iommu);
    mirror_init(&f->m, f->iommu, QPCI_DEVFN(SLOT, 0));
    pviommu_accept(f->iommu, XEN_IOMMU_FEATURES_ALL);
    pviommu_queue_init(&f->q, f->iommu, 0, QUEUE(0), NR_OPS);
    push_map(&f->q, BFN, GFN, 513);
    push_flush(&f->q);
    pviommu_queue_push(&f->q, pviommu_op_enable());
    call(f);
    assert_ran(&f->q, 2);
    g_assert_true(pviommu_identity(f->iommu));
    push_unmap(&f->q, BFN, 1);
    call(f);
    assert_ran(&f->q, 3);
    g_assert_false(pviommu_identity(f->iommu));
    fixture_free(f);
}

/* A listener is notified of what a call runs, and nothing runs else. */
static void check_listener(Fixture *f, QMirror *m, bool maps)
{
    uint64_t doorbells = counter(f, XEN_PVIOMMU_COUNTER_DOORBELLS);

    g_assert_cmphex(pviommu_queue_flags(&f->q), ==, DOORBELL);
    mirror_clear(m);
    push_map(&f->q, BFN + 32, GFN + 32, 4);
    assert_fault(&f->m, BFN + 33, GFN + 33);
    assert_fault(m, BFN + 33, GFN + 33);
    assert_not_ran(&f->q, 1);
    mirror_assert_notified(m, 0, 0);
    call(f);
    assert_ran(&f->q, 0);
    if (maps) {
        mirror_assert_page(m, BFN + 33, GFN + 33, 3);
        mirror_assert_notified(m, 1, 0);
    } else {
        g_assert_true(mirror_fill(m, ADDR(BFN + 33), true));
    }
    assert_reaches(&f->m, BFN + 33, GFN + 33);
    assert_reaches(m, BFN + 33, GFN + 33);

    push_unmap(&f->q, BFN + 32, 4);
    push_flush(&f->q);
    assert_reaches(m, BFN + 33, GFN + 33);
    mirror_assert_page(m, BFN + 33, GFN + 33, 3);
    assert_not_ran(&f->q, 2);
    call(f);
    mirror_assert_notified(m, maps, 1);
    mirror_assert_no_page(m, BFN + 33);
    assert_fault(m, BFN + 33, GFN + 33);
    assert_ran(&f->q, 0);
    g_assert_cmphex(pviommu_queue_flags(&f->q), ==, DOORBELL);
    g_assert_cmpuint(counter(f, XEN_PVIOMMU_COUNTER_DOORBELLS), ==,
                     doorbells + 2);
}

static void test_listener_needs_calls(const void *machine)
{
    static const char *const kinds[] = { "map", "unmap", "deviotlb" };

    for (unsigned i = 0; i < ARRAY_SIZE(kinds); i++) {
        g_autofree char *extra = g_strdup_printf(MIRROR_DEVICE("%s"), SLOT + 1,
                                                 kinds[i]);
        Fixture *f = fixture_new(machine, NULL, extra);
        QMirror m;

        mirror_init(&m, f->iommu, QPCI_DEVFN(SLOT + 1, 0));
        check_listener(f, &m, i == 0);
        mirror_assert_sane(&m);
        fixture_free(f);
    }
}

/*
 * Listeners are added and removed, with operations in the queue that need no
 * call: they have run by then, and the listener sees their effect.
 */
static void test_new_listener_finds_it_run(void)
{
    Fixture *f = fixture_new("pc", NULL, NULL);
    QMirror m;

    for (unsigned i = 0; i < 2; i++) {
        g_assert_cmphex(pviommu_queue_flags(&f->q), ==, 0);
        push_map(&f->q, BFN, GFN, 1);
        qtest_qmp_device_add(f->iommu->qts, "pviommu-mirror", "m0",
                             "{'addr':'0x13'}");
        mirror_init(&m, f->iommu, QPCI_DEVFN(0x13, 0));
        assert_ran(&f->q, 0);
        mirror_assert_page(&m, BFN, GFN, 3);
        assert_reaches(&m, BFN, GFN);
        check_listener(f, &m, true);
        mirror_assert_sane(&m);
        qpci_unplug_acpi_device_test(f->iommu->qts, "m0", 0x13);

        g_assert_cmphex(pviommu_queue_flags(&f->q), ==, 0);
        push_unmap(&f->q, BFN, 1);
        push_flush(&f->q);
        assert_fault(&f->m, BFN, GFN);
        assert_ran(&f->q, 0);
    }

    /* What was queued for a call needs none any more. */
    qtest_qmp_device_add(f->iommu->qts, "pviommu-mirror", "m0",
                         "{'addr':'0x13'}");
    push_map(&f->q, BFN, GFN, 1);
    assert_fault(&f->m, BFN, GFN);
    assert_not_ran(&f->q, 1);
    qpci_unplug_acpi_device_test(f->iommu->qts, "m0", 0x13);
    g_assert_cmphex(pviommu_queue_flags(&f->q), ==, 0);
    assert_reaches(&f->m, BFN, GFN);
    assert_ran(&f->q, 0);
    fixture_free(f);
}

/*
 * A listener is added, with more in the queues than it can wait for: queues
 * with too much work are dead, and say so; the others ran, and so did one with
 * hardly anything in it, which is the last one.
 */
static void test_new_listener_makes_long_ones_dead(void)
{
    const unsigned nr = 128, nr_queues = 10;
    struct xen_iommu_op ops[128];
    Fixture *f = fixture_new_bare("pc", "premap=off,x-check=off", NULL);
    uint64_t mapped = 0;
    unsigned dead = 0;
    QPVIOMMUQueue q[10];
    QMirror m;

    for (unsigned i = 0; i < nr_queues; i++) {
        uint16_t ctx = i ? pviommu_alloc_context(f->iommu) : 0;

        pviommu_queue_init(&q[i], f->iommu, ctx, QUEUE(i), nr);
    }
    for (unsigned i = 0; i < nr_queues; i++) {
        for (unsigned j = 0; j < nr; j++) {
            ops[j] = pviommu_op_map(q[i].ctx, BFN + 512 * j, GFN + 1 + j, 512,
                                    0);
        }
        q[i].tail = i ? nr : 1;
        pviommu_store_ops(f->iommu, q[i].addr + FIELD(ops), ops, q[i].tail);
        qtest_writel(f->iommu->qts, q[i].addr + FIELD(tail), q[i].tail);
        g_assert_cmphex(pviommu_queue_flags(&q[i]), ==, 0);
    }
    qtest_qmp_device_add(f->iommu->qts, "pviommu-mirror", "m0",
                         "{'addr':'0x13'}");
    for (unsigned i = 0; i < nr_queues; i++) {
        uint32_t flags = pviommu_queue_flags(&q[i]);
        uint32_t head = pviommu_queue_head(&q[i]);

        mapped += 512 * head;
        if (flags & DEAD) {
            dead++;
            g_assert_cmpuint(i, >, 0);
            g_assert_cmpuint(head, <, nr);
        } else {
            g_assert_cmphex(flags, ==, DOORBELL);
            assert_ran(&q[i], 0);
        }
    }
    g_test_message("%u of %u queues are dead", dead, nr_queues);
    g_assert_cmpuint(dead, >, 0);
    g_assert_cmpuint(dead, <, nr_queues);
    call(f);
    pviommu_assert_frames(f->iommu, mapped, 0);

    /* They can be had again. */
    mirror_init(&m, f->iommu, QPCI_DEVFN(0x13, 0));
    mirror_assert_sane(&m);
    for (unsigned i = 0; i < nr_queues; i++) {
        pviommu_queue_init(&q[i], f->iommu, q[i].ctx, QUEUE(i), 1);
        push_map(&q[i], BFN - 1, GFN, 1);
    }
    call(f);
    for (unsigned i = 0; i < nr_queues; i++) {
        assert_ran(&q[i], 0);
    }
    mirror_assert_page(&m, BFN - 1, GFN, 3);
    fixture_free(f);
}

/* What a guest's driver has in a queue, lists of 64 pages, is not too much. */
static void test_new_listener_waits_for_a_full_one(void)
{
    const unsigned nr = 256, frames = 64;
    const unsigned prime = 131101;      /* more than there are pages */
    struct xen_iommu_op ops[XEN_IOMMU_QUEUE_MAX_FRAMES];
    Fixture *f = fixture_new_bare("pc", "premap=off,x-check=off", "-m 1024 ");

    /* No two pages are beside each other. */
    for (unsigned i = 0; i < nr; i++) {
        for (unsigned j = 0; j < frames; j++) {
            unsigned n = i * frames + j;

            ops[j] = pviommu_op_map(0, BFN + n, GFN + n * 3 % prime, 1, 0);
        }
        pviommu_run(f->iommu, ops, frames);
    }
    pviommu_assert_frames(f->iommu, nr * frames, 0);
    pviommu_queue_init(&f->q, f->iommu, 0, QUEUE(0), nr);
    for (unsigned i = 0; i < nr; i++) {
        push_unmap(&f->q, BFN + i * frames, frames);
    }
    g_assert_cmphex(pviommu_queue_flags(&f->q), ==, 0);
    qtest_qmp_device_add(f->iommu->qts, "pviommu-mirror", "m0",
                         "{'addr':'0x13'}");
    g_assert_cmphex(pviommu_queue_flags(&f->q), ==, DOORBELL);
    assert_ran(&f->q, 0);
    pviommu_assert_frames(f->iommu, 0, nr * frames);
    fixture_free(f);
}

/* It is added while the guest's memory must not be written, nor read. */
static void test_new_listener_waits_for_bus_mastering(void)
{
    Fixture *f = fixture_new("pc", NULL, NULL);
    QMirror m;

    push_map(&f->q, BFN, GFN, 1);
    pviommu_set_bus_master(f->iommu, false);
    qtest_qmp_device_add(f->iommu->qts, "pviommu-mirror", "m0",
                         "{'addr':'0x13'}");
    mirror_init(&m, f->iommu, QPCI_DEVFN(0x13, 0));
    assert_fault(&f->m, BFN, GFN);
    assert_not_ran(&f->q, 1);
    g_assert_cmphex(pviommu_queue_flags(&f->q), ==, 0);
    mirror_assert_no_page(&m, BFN);

    pviommu_set_bus_master(f->iommu, true);
    assert_ran(&f->q, 0);
    mirror_assert_page(&m, BFN, GFN, 3);
    check_listener(f, &m, true);

    /* And it is removed. */
    pviommu_set_bus_master(f->iommu, false);
    qpci_unplug_acpi_device_test(f->iommu->qts, "m0", 0x13);
    g_assert_cmphex(pviommu_queue_flags(&f->q), ==, DOORBELL);
    pviommu_set_bus_master(f->iommu, true);
    g_assert_cmphex(pviommu_queue_flags(&f->q), ==, 0);
    push_unmap(&f->q, BFN, 1);
    assert_fault(&f->m, BFN, GFN);
    assert_ran(&f->q, 0);
    fixture_free(f);
}

/* Listeners that are added as translation is enabled miss no map. */
static void test_listener_sees_maps_that_enable(const void *machine)
{
    g_autofree char *extra = g_strdup_printf(MIRROR_DEVICE("map"), SLOT + 1);
    Fixture *f = fixture_new(machine, "premap=on", extra);
    QMirror m;

    mirror_init(&m, f->iommu, QPCI_DEVFN(SLOT + 1, 0));
    push_map(&f->q, BFN, GFN, 4);
    call(f);
    assert_ran(&f->q, 0);
    mirror_assert_equal(&m, 0, 4);
    check_listener(f, &m, true);
    mirror_assert_sane(&m);
    fixture_free(f);
}

/*
 * With so little room that something could fail, the queue asks for calls; but
 * DMA still runs it.
 */
static void test_little_room_needs_calls(void)
{
    Fixture *f = fixture_new("q35", "premap=off,max-mappings=1000", NULL);
    uint64_t ops, errors;
    uint32_t n, left;

    g_assert_cmphex(pviommu_queue_flags(&f->q), ==, DOORBELL);
    push_map(&f->q, BFN, GFN, 512);
    assert_reaches(&f->m, BFN, GFN);
    assert_ran(&f->q, 0);
    n = push_map(&f->q, BFN + 512, GFN, 512);
    call(f);
    assert_ran(&f->q, 1);
    assert_status(pviommu_queue_status(&f->q, n), XEN_IOMMU_ENOSPC);
    assert_reaches(&f->m, BFN, GFN);
    g_assert_cmphex(pviommu_queue_flags(&f->q), ==, DOORBELL);
    fixture_free(f);

    /* It changes with what is mapped. */
    f = fixture_new_bare("q35", "premap=off,max-mappings=100000,x-check=off",
                         NULL);
    pviommu_queue_init(&f->q, f->iommu, 0, QUEUE(0), 2);
    g_assert_cmphex(pviommu_queue_flags(&f->q), ==, 0);
    for (left = 100000 - 100; left; left -= n) {
        n = MIN(left, 20000);
        assert_status(pviommu_map(f->iommu, 0, BFN + left - n, GFN, n, 0), 0);
    }
    g_assert_cmphex(pviommu_queue_flags(&f->q), ==, DOORBELL);
    n = push_map(&f->q, BFN + 100000, GFN, 101);
    push_unmap(&f->q, BFN, 512);
    assert_fault(&f->m, BFN, GFN);
    assert_ran(&f->q, 1);
    assert_status(pviommu_queue_status(&f->q, n), XEN_IOMMU_ENOSPC);
    g_assert_cmphex(pviommu_queue_flags(&f->q), ==, DOORBELL);

    /* What only waits for a flush makes way for what is queued. */
    assert_status(pviommu_unmap_skip(f->iommu, 0, BFN, 100000), 0);
    pviommu_assert_frames(f->iommu, 0, 100000 - 100);
    assert_status(pviommu_map(f->iommu, 0, BFN, GFN, 101, 0),
                  XEN_IOMMU_ENOSPC);
    g_assert_cmphex(pviommu_queue_flags(&f->q), ==, 0);
    ops = counter(f, XEN_PVIOMMU_COUNTER_OPS);
    errors = counter(f, XEN_PVIOMMU_COUNTER_ERRORS);
    n = push_map(&f->q, BFN, GFN, 101);
    assert_reaches(&f->m, BFN + 100, GFN + 100);
    assert_ran(&f->q, 1);
    assert_status(pviommu_queue_status(&f->q, n), 0);
    call(f);
    pviommu_assert_frames(f->iommu, 101, 0);
    g_assert_cmpuint(counter(f, XEN_PVIOMMU_COUNTER_OPS), ==, ops + 1);
    g_assert_cmpuint(counter(f, XEN_PVIOMMU_COUNTER_ERRORS), ==, errors);
    fixture_free(f);
}

/*
 * Other contexts take the room while operations are in the queue that need no
 * call: they do not fail for it.
 */
static void test_room_that_others_take_fails_nothing(void)
{
    Fixture *f = fixture_new_bare("q35", "premap=off,max-mappings=10000", NULL);
    uint16_t ctx = pviommu_alloc_context(f->iommu);

    pviommu_queue_init(&f->q, f->iommu, 0, QUEUE(0), 2);
    g_assert_cmphex(pviommu_queue_flags(&f->q), ==, 0);
    push_map(&f->q, BFN, GFN, 512);
    /* The call runs them first; then there is no more room. */
    assert_status(pviommu_map(f->iommu, ctx, BFN, GFN, 10000 - 511, 0),
                  XEN_IOMMU_ENOSPC);
    assert_status(pviommu_map(f->iommu, ctx, BFN, GFN, 10000 - 512, 0), 0);
    assert_ran(&f->q, 0);
    assert_reaches(&f->m, BFN, GFN);
    g_assert_cmphex(pviommu_queue_flags(&f->q), ==, DOORBELL);

    /* It comes back by a page that goes, or a context. */
    assert_status(pviommu_free_context(f->iommu, ctx), 0);
    g_assert_cmphex(pviommu_queue_flags(&f->q), ==, 0);
    push_unmap(&f->q, BFN, 512);
    assert_fault(&f->m, BFN, GFN);
    assert_ran(&f->q, 0);
    fixture_free(f);
}

/* One queue takes the room, in the same call another one gives it back. */
static void test_room_returned_in_the_same_call_counts(void)
{
    Fixture *f = fixture_new_bare("q35", "premap=off,max-mappings=10000", NULL);
    uint16_t ctx = pviommu_alloc_context(f->iommu);
    QPVIOMMUQueue first, second;

    for (unsigned i = 0; i < 2; i++) {
        /* Whichever of them is run first */
        pviommu_queue_init(&first, f->iommu, i ? ctx : 0, QUEUE(0), 2);
        pviommu_queue_init(&second, f->iommu, i ? 0 : ctx, QUEUE(1), 2);
        assert_status(pviommu_map(f->iommu, first.ctx, BFN, GFN, 7900, 0), 0);
        g_assert_cmphex(pviommu_queue_flags(&first), ==, 0);
        push_unmap(&first, BFN, 512);
        push_map(&second, BFN, GFN, 512);
        call(f);
        assert_ran(&first, 0);
        assert_ran(&second, 0);
        g_assert_cmphex(pviommu_queue_flags(&first), ==, 0);
        g_assert_cmphex(pviommu_queue_flags(&second), ==, 0);
        assert_status(pviommu_unmap(f->iommu, first.ctx, BFN + 512, 7900 - 512),
                      0);
        assert_status(pviommu_unmap(f->iommu, second.ctx, BFN, 512), 0);
        assert_status(pviommu_flush_all(f->iommu, 0), 0);
        assert_status(pviommu_flush_all(f->iommu, ctx), 0);
    }
    fixture_free(f);
}

/* Memory that is plugged in blocks is not looked up in a DMA. */
static void test_virtio_mem_needs_calls(const void *machine)
{
    Fixture *f = fixture_new(machine, NULL, "-m maxmem=1G "
                             "-object memory-backend-ram,id=mem,size=128M "
                             "-device virtio-mem-pci,addr=14,memdev=mem,"
                             "id=vmem,requested-size=128M");
    QPVIOMMUQueue q;
    QVirtioRam ram;
    uint64_t gfn;
    int32_t ret;

    virtio_ram_init(&ram, f->iommu, QPCI_DEVFN(EXTRA_SLOT, 0), 1);
    gfn = virtio_mem_addr(&ram) / PVIOMMU_PAGE;
    g_assert_cmphex(pviommu_queue_flags(&f->q), ==, DOORBELL);
    push_map(&f->q, BFN, gfn, 1);
    call(f);
    assert_ran(&f->q, 1);
    assert_status(pviommu_queue_status(&f->q, 0), XEN_IOMMU_ENOENT);

    g_assert_cmpint(virtio_mem_request(&ram, VIRTIO_MEM_REQ_PLUG, ADDR(gfn), 1),
                    ==, VIRTIO_MEM_RESP_ACK);
    push_map(&f->q, BFN, gfn, 1);
    assert_fault(&f->m, BFN, GFN);
    assert_not_ran(&f->q, 1);
    call(f);
    assert_ran(&f->q, 1);
    assert_reaches(&f->m, BFN, gfn);

    /* A queue in such memory, if that can be, is removed with it. */
    q = (QPVIOMMUQueue) { f->iommu, 0, ADDR(gfn + 1), NR_OPS };
    qtest_memset(f->iommu->qts, q.addr, 0, pviommu_queue_size(NR_OPS));
    ret = pviommu_set_queue(f->iommu, 0, q.addr, NR_OPS);
    g_test_message("a queue in memory of virtio-mem: %d", ret);
    if (!ret) {
        push_map(&q, BFN + 1, GFN, 1);
        call(f);
        assert_ran(&q, 0);
    } else {
        assert_status(ret, XEN_IOMMU_EFAULT);
    }
    g_assert_cmpint(virtio_mem_request(&ram, VIRTIO_MEM_REQ_UNPLUG, ADDR(gfn),
                                       1), ==, VIRTIO_MEM_RESP_ACK);
    call(f);
    assert_fault(&f->m, BFN, GFN);
    assert_status(pviommu_map(f->iommu, 0, BFN, GFN, 1, 0), 0);
    pviommu_queue_init(&f->q, f->iommu, 0, QUEUE(0), NR_OPS);
    push_unmap(&f->q, BFN, 1);
    call(f);
    assert_ran(&f->q, 0);
    virtio_ram_finalize(&ram);
    fixture_free(f);
}

/* A function that may not touch memory does not look at a queue either. */
static void test_needs_bus_mastering(const void *machine)
{
    Fixture *f = fixture_new(machine, NULL, NULL);

    push_map(&f->q, BFN, GFN, 1);
    assert_reaches(&f->m, BFN, GFN);
    push_unmap(&f->q, BFN, 1);
    push_map(&f->q, BFN + 1, GFN + 1, 1);
    pviommu_set_bus_master(f->iommu, false);
    assert_reaches(&f->m, BFN, GFN);
    assert_fault(&f->m, BFN + 1, GFN + 1);
    assert_not_ran(&f->q, 2);
    assert_status(pviommu_ring(f->iommu, 0, 0, 0, NULL), XEN_IOMMU_EIO);
    assert_not_ran(&f->q, 2);

    /* Nor does it store there, whatever happens. */
    qtest_writel(f->iommu->qts, f->q.addr + FIELD(flags), 0x5a5a5a5a);
    qtest_qmp_assert_success(f->iommu->qts, "{'execute': 'stop'}");
    qtest_qmp_assert_success(f->iommu->qts, "{'execute': 'cont'}");
    g_assert_cmphex(pviommu_queue_flags(&f->q), ==, 0x5a5a5a5a);
    assert_not_ran(&f->q, 2);

    pviommu_set_bus_master(f->iommu, true);
    g_assert_cmphex(pviommu_queue_flags(&f->q), ==, 0);
    assert_fault(&f->m, BFN, GFN);
    assert_reaches(&f->m, BFN + 1, GFN + 1);
    assert_ran(&f->q, 0);
    fixture_free(f);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    pviommu_add_for_machines("queue/identity-mode-needs-a-call",
                             test_identity_mode_needs_a_call);
    pviommu_add_for_machines("queue/listener-needs-calls",
                             test_listener_needs_calls);
    pviommu_add("queue/new-listener-finds-it-run",
                test_new_listener_finds_it_run);
    pviommu_add("queue/new-listener-makes-long-ones-dead",
                test_new_listener_makes_long_ones_dead);
    pviommu_add("queue/new-listener-waits-for-a-full-one",
                test_new_listener_waits_for_a_full_one);
    pviommu_add("queue/new-listener-waits-for-bus-mastering",
                test_new_listener_waits_for_bus_mastering);
    pviommu_add_for_machines("queue/listener-sees-maps-that-enable",
                             test_listener_sees_maps_that_enable);
    pviommu_add("queue/little-room-needs-calls", test_little_room_needs_calls);
    pviommu_add("queue/room-that-others-take-fails-nothing",
                test_room_that_others_take_fails_nothing);
    pviommu_add("queue/room-returned-in-the-same-call-counts",
                test_room_returned_in_the_same_call_counts);
    pviommu_add_for_machines("queue/virtio-mem-needs-calls",
                             test_virtio_mem_needs_calls);
    pviommu_add_for_machines("queue/needs-bus-mastering",
                             test_needs_bus_mastering);
    return g_test_run();
}
