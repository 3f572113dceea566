/*
 * xen-pviommu: arrays of operations, and where they are
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/bswap.h"
#include "libqos/edu.h"

#define GFN             PVIOMMU_FREE_GFN
#define BFN             0x4000000
#define OP_SIZE         sizeof(struct xen_iommu_op)
#define EDU_SLOT        0x11

static void fill_maps(struct xen_iommu_op *ops, unsigned nr)
{
    for (unsigned i = 0; i < nr; i++) {
        ops[i] = pviommu_op_map(0, BFN + i, GFN + (i * 7) % 0x1000, 0, 0);
    }
}

/* The first @done ran, the others were not touched. */
static void assert_ran(QXenPVIOMMU *iommu, uint64_t addr, unsigned done,
                       unsigned nr)
{
    g_autofree struct xen_iommu_op *ops = g_new(struct xen_iommu_op, nr);

    pviommu_load_ops(iommu, addr, ops, nr);
    for (unsigned i = 0; i < nr; i++) {
        g_assert_cmphex(le32_to_cpu(ops[i].status), ==,
                        i < done ? 0 : PVIOMMU_STATUS_NONE);
    }
    pviommu_assert_frames(iommu, done, 0);
}

static void test_empty_does_nothing(const void *machine)
{
    QXenPVIOMMU *iommu = pviommu_start(machine, NULL, NULL);
    uint32_t done = 1;

    assert_status(pviommu_ring(iommu, 0, PVIOMMU_OPS_ADDR, 0, &done), 0);
    g_assert_cmpuint(done, ==, 0);
    /* Of no array it does not matter where it is. */
    assert_status(pviommu_ring(iommu, 0, UINT64_MAX, 0, &done), 0);
    g_assert_cmpuint(pviommu_counter(iommu, XEN_PVIOMMU_COUNTER_DOORBELLS), ==,
                     2);
    g_assert_cmpuint(pviommu_counter(iommu, XEN_PVIOMMU_COUNTER_OPS), ==, 0);
    g_assert_true(pviommu_identity(iommu));
    pviommu_quit(iommu);
}

/* Whatever the address, also across pages: on all of them the same. */
static void test_may_begin_anywhere(void)
{
    static const uint64_t addrs[] = {
        PVIOMMU_OPS_ADDR, PVIOMMU_OPS_ADDR + 1, PVIOMMU_OPS_ADDR + 13,
        PVIOMMU_OPS_ADDR + PVIOMMU_PAGE - 3 * OP_SIZE,
        PVIOMMU_OPS_ADDR + PVIOMMU_PAGE - 3 * OP_SIZE - 16,
        PVIOMMU_OPS_ADDR + PVIOMMU_PAGE - 7,
        PVIOMMU_RAM - 300 * OP_SIZE,
        0x1000,
    };
    QXenPVIOMMU *iommu = pviommu_start("q35", NULL, NULL);

    for (unsigned i = 0; i < ARRAY_SIZE(addrs); i++) {
        for (unsigned nr = 1; nr <= 300; nr = nr == 1 ? 5 : nr * 60) {
            struct xen_iommu_op ops[300];
            uint32_t done;

            fill_maps(ops, nr);
            pviommu_store_ops(iommu, addrs[i], ops, nr);
            assert_status(pviommu_ring(iommu, 0, addrs[i], nr, &done), 0);
            g_assert_cmpuint(done, ==, nr);
            assert_ran(iommu, addrs[i], nr, nr);
            pviommu_reset(iommu);
        }
    }
    pviommu_quit(iommu);
}

/* Each has its own status; one that fails stops nothing. */
static void test_failure_stops_nothing(void)
{
    QXenPVIOMMU *iommu = pviommu_start("pc", NULL, NULL);
    struct xen_iommu_op ops[] = {
        pviommu_op_map(0, BFN, GFN, 0, 0),
        pviommu_op_map(0, BFN, GFN, 0, 0),
        { .op = cpu_to_le16(999) },
        pviommu_op_map(0, BFN + 1, PVIOMMU_RAM_GFNS, 0, 0),
        pviommu_op_unmap(0, BFN + 1, 0),
        pviommu_op_unmap(0, BFN, 0),
        pviommu_op_map(0, BFN, GFN, 0, 0),
        pviommu_op_flush(0, BFN, 5),
    };
    static const int errors[] = {
        0, XEN_IOMMU_EEXIST, XEN_IOMMU_EOPNOTSUPP, XEN_IOMMU_ENOENT,
        XEN_IOMMU_ENOENT, 0, 0, XEN_IOMMU_EINVAL,
    };

    /* What status was before does not matter. */
    ops[0].status = cpu_to_le32(-XEN_IOMMU_EEXIST);
    pviommu_run(iommu, ops, ARRAY_SIZE(ops));
    for (unsigned i = 0; i < ARRAY_SIZE(ops); i++) {
        g_assert_cmpint(pviommu_status(&ops[i]), ==, -errors[i]);
    }
    g_assert_cmpuint(pviommu_counter(iommu, XEN_PVIOMMU_COUNTER_DOORBELLS), ==,
                     1);
    g_assert_cmpuint(pviommu_counter(iommu, XEN_PVIOMMU_COUNTER_OPS), ==, 8);
    g_assert_cmpuint(pviommu_counter(iommu, XEN_PVIOMMU_COUNTER_ERRORS), ==, 5);
    pviommu_quit(iommu);
}

static void test_max_ops_ends_a_doorbell(void)
{
    QXenPVIOMMU *iommu = pviommu_start("q35", "max-ops=7", NULL);
    struct xen_iommu_op ops[40];
    uint64_t addr = PVIOMMU_OPS_ADDR;
    uint32_t done;

    g_assert_cmpuint(pviommu_readl(iommu, XEN_PVIOMMU_REG_MAX_OPS), ==, 7);
    fill_maps(ops, 40);
    pviommu_store_ops(iommu, addr, ops, 40);
    for (unsigned pos = 0; pos < 40; pos += done) {
        assert_status(pviommu_ring(iommu, 0, addr + pos * OP_SIZE, 40 - pos,
                                   &done), 0);
        g_assert_cmpuint(done, ==, MIN(7, 40 - pos));
        assert_ran(iommu, addr, pos + done, 40);
    }

    /* Any count is fine: it is only the most that the guest has. */
    pviommu_reset(iommu);
    pviommu_store_ops(iommu, addr, ops, 40);
    assert_status(pviommu_ring(iommu, 0, addr, UINT32_MAX, &done), 0);
    g_assert_cmpuint(done, ==, 7);
    assert_ran(iommu, addr, 7, 40);
    pviommu_quit(iommu);
}

/* Far more than one doorbell does, by its number or by its work. */
static void test_long_runs_in_parts(void)
{
    const unsigned nr = 20000;
    g_autofree struct xen_iommu_op *ops = g_new(struct xen_iommu_op, nr);
    QXenPVIOMMU *iommu = pviommu_start("q35", "max-ops=65536", NULL);
    struct xen_iommu_op op;

    fill_maps(ops, nr);
    pviommu_run(iommu, ops, nr);
    for (unsigned i = 0; i < nr; i++) {
        assert_status(pviommu_status(&ops[i]), 0);
    }
    pviommu_assert_frames(iommu, nr, 0);
    pviommu_accept(iommu, XEN_IOMMU_FEATURES_ALL);
    pviommu_assert_mapped(iommu, 0, BFN + nr - 1,
                          GFN + ((nr - 1) * 7) % 0x1000, 1, 0);

    op = pviommu_op_unmap(0, BFN, nr);
    assert_status(pviommu_op(iommu, &op), 0);
    pviommu_assert_frames(iommu, 0, nr);
    assert_status(pviommu_flush_all(iommu, 0), 0);
    pviommu_assert_frames(iommu, 0, 0);
    pviommu_quit(iommu);
}

/* To look for a free context among thousands is work, found or not. */
static void test_search_for_a_context_is_work(void)
{
    const unsigned contexts = 4096, nr = 2000;
    g_autofree struct xen_iommu_op *ops = g_new(struct xen_iommu_op, contexts);
    QXenPVIOMMU *iommu = pviommu_start_accepted("q35", "x-check=off,"
                                                "max-ops=65536,"
                                                "max-contexts=4096", NULL);
    unsigned rings = 0;
    uint32_t done;

    for (unsigned i = 0; i < contexts; i++) {
        ops[i] = pviommu_op_alloc();
    }
    pviommu_run(iommu, ops, contexts - 1);
    for (unsigned i = 0; i < contexts - 1; i++) {
        assert_status(pviommu_status(&ops[i]), 0);
        g_assert_cmpuint(le16_to_cpu(ops[i].u.context.ctx), ==, i + 1);
    }

    /* A part of them at a time, and where it ended it goes on. */
    for (unsigned i = 0; i < nr; i++) {
        ops[i] = pviommu_op_alloc();
    }
    pviommu_store_ops(iommu, PVIOMMU_OPS_ADDR, ops, nr);
    for (unsigned i = 0; i < nr; i += done, rings++) {
        assert_status(pviommu_ring(iommu, 0, PVIOMMU_OPS_ADDR + i * OP_SIZE,
                                   nr - i, &done), 0);
        g_assert_cmpuint(done, >, 0);
        g_assert_cmpuint(done, <, 200);
    }
    pviommu_load_ops(iommu, PVIOMMU_OPS_ADDR, ops, nr);
    for (unsigned i = 0; i < nr; i++) {
        assert_status(pviommu_status(&ops[i]), XEN_IOMMU_ENOSPC);
    }
    g_test_message("%u operations in %u doorbells", nr, rings);
    assert_status(pviommu_free_context(iommu, 3000), 0);
    g_assert_cmpuint(pviommu_alloc_context(iommu), ==, 3000);
    pviommu_quit(iommu);
}

/* What is in RAM runs; the array stops where RAM does. */
static void test_ends_where_ram_does(const void *machine)
{
    QXenPVIOMMU *iommu = pviommu_start(machine, NULL, NULL);
    static const unsigned nrs[] = { 0, 1, 3, 63, 64, 65, 200 };
    struct xen_iommu_op ops[200];
    uint32_t done;

    for (unsigned i = 0; i < ARRAY_SIZE(nrs); i++) {
        /* With half an operation left over, and without. */
        for (unsigned rest = 0; rest <= OP_SIZE / 2; rest += OP_SIZE / 2) {
            uint64_t addr = PVIOMMU_RAM - nrs[i] * OP_SIZE - rest;

            fill_maps(ops, nrs[i]);
            pviommu_store_ops(iommu, addr, ops, nrs[i]);
            assert_status(pviommu_ring(iommu, 0, addr, nrs[i] + 5, &done),
                          XEN_IOMMU_EFAULT);
            g_assert_cmpuint(done, ==, nrs[i]);
            if (nrs[i]) {
                assert_ran(iommu, addr, nrs[i], nrs[i]);
            }
            g_assert_cmpuint(pviommu_counter(iommu, XEN_PVIOMMU_COUNTER_OPS),
                             ==, nrs[i]);
            pviommu_reset(iommu);
        }
    }

    /* Up to the very end is fine. */
    fill_maps(ops, 5);
    pviommu_store_ops(iommu, PVIOMMU_RAM - 5 * OP_SIZE, ops, 5);
    assert_status(pviommu_ring(iommu, 0, PVIOMMU_RAM - 5 * OP_SIZE, 5, &done),
                  0);
    g_assert_cmpuint(done, ==, 5);
    pviommu_quit(iommu);
}

/* Nothing is read, and least of all rung, where no RAM is. */
static void test_outside_ram_is_not_read(const void *machine)
{
    g_autofree char *extra = g_strdup_printf(EDU_DEVICE ",addr=%x", EDU_SLOT);
    QXenPVIOMMU *iommu = pviommu_start(machine, NULL, extra);
    QEdu edu;
    uint32_t done;

    edu_init(&edu, iommu, QPCI_DEVFN(EDU_SLOT, 0));
    {
        const uint64_t addrs[] = {
            iommu->bar.addr, iommu->bar.addr + XEN_PVIOMMU_BLOCKS,
            iommu->bar.addr + XEN_PVIOMMU_BLOCKS + 8,
            iommu->bar.addr + XEN_PVIOMMU_MSIX_TABLE,
            iommu->bar.addr - OP_SIZE / 2, edu.bar.addr, 0xfee00000, 0xfec00000,
            0xf0000, PVIOMMU_BIOS_ADDR, 0x100000000 - OP_SIZE,
            PVIOMMU_RAM, 0x80000000, 0x7fffffffffffffff, 0x8000000000000000,
            0x10000000000000, UINT64_MAX - 4 * OP_SIZE + 1, UINT64_MAX - 31,
            UINT64_MAX - 16, UINT64_MAX,
        };

        for (unsigned i = 0; i < ARRAY_SIZE(addrs); i++) {
            assert_status(pviommu_ring(iommu, 1, addrs[i], 4, &done),
                          XEN_IOMMU_EFAULT);
            g_assert_cmpuint(done, ==, 0);
            g_assert_cmpuint(pviommu_counter(iommu,
                                             XEN_PVIOMMU_COUNTER_DOORBELLS), ==,
                             i + 1);
            g_assert_cmpuint(pviommu_counter(iommu, XEN_PVIOMMU_COUNTER_OPS),
                             ==, 0);
        }
    }
    g_assert_true(pviommu_identity(iommu));

    /* All that is forgotten with the next good one. */
    {
        struct xen_iommu_op op = pviommu_op_query_caps();

        assert_status(pviommu_op(iommu, &op), 0);
    }
    pviommu_quit(iommu);
}

static void test_needs_bus_mastering(const void *machine)
{
    QXenPVIOMMU *iommu = pviommu_start(machine, NULL, NULL);
    struct xen_iommu_op ops[3];
    uint32_t done;

    fill_maps(ops, 3);
    pviommu_store_ops(iommu, PVIOMMU_OPS_ADDR, ops, 3);
    pviommu_set_bus_master(iommu, false);
    assert_status(pviommu_ring(iommu, 0, PVIOMMU_OPS_ADDR, 3, &done),
                  XEN_IOMMU_EIO);
    g_assert_cmpuint(done, ==, 0);
    assert_ran(iommu, PVIOMMU_OPS_ADDR, 0, 3);
    g_assert_true(pviommu_identity(iommu));
    pviommu_set_bus_master(iommu, true);
    assert_status(pviommu_ring(iommu, 0, PVIOMMU_OPS_ADDR, 3, &done), 0);
    assert_ran(iommu, PVIOMMU_OPS_ADDR, 3, 3);
    pviommu_quit(iommu);
}

/* No block knows of another; the address needs to be stored once. */
static void test_blocks_are_independent(void)
{
    QXenPVIOMMU *iommu = pviommu_start("pc", NULL, NULL);
    const unsigned last = pviommu_readl(iommu, XEN_PVIOMMU_REG_NR_BLOCKS) - 1;
    const uint64_t a = PVIOMMU_OPS_ADDR, b = PVIOMMU_OPS_ADDR + 0x2000;
    const uint64_t block0 = XEN_PVIOMMU_BLOCKS;
    const uint64_t block1 = block0 + last * XEN_PVIOMMU_BLOCK_STRIDE;
    struct xen_iommu_op ops[6];
    uint32_t done;

    fill_maps(ops, 6);
    pviommu_store_ops(iommu, a, ops, 4);
    pviommu_store_ops(iommu, b, ops + 4, 2);
    pviommu_writeq(iommu, block0 + XEN_PVIOMMU_BLOCK_ARRAY, a);
    assert_status(pviommu_ring(iommu, last, b, 2, &done), 0);
    g_assert_cmpuint(done, ==, 2);
    assert_status(pviommu_ring(iommu, last, PVIOMMU_RAM, 9, NULL),
                  XEN_IOMMU_EFAULT);
    g_assert_cmphex(pviommu_readq(iommu, block0 + XEN_PVIOMMU_BLOCK_ARRAY), ==,
                    a);
    g_assert_cmpuint(pviommu_readl(iommu, block0 + XEN_PVIOMMU_BLOCK_DONE), ==,
                     0);

    pviommu_writel(iommu, block0 + XEN_PVIOMMU_BLOCK_DOORBELL, 3);
    g_assert_cmpuint(pviommu_readl(iommu, block0 + XEN_PVIOMMU_BLOCK_DONE), ==,
                     3);
    g_assert_cmpint(pviommu_readl(iommu, block0 + XEN_PVIOMMU_BLOCK_RESULT), ==,
                    0);
    g_assert_cmphex(pviommu_readl(iommu, block1 + XEN_PVIOMMU_BLOCK_RESULT), ==,
                    (uint32_t)-XEN_IOMMU_EFAULT);
    pviommu_assert_frames(iommu, 5, 0);

    /* The array is where it was, and in 64 bits it is rung but once. */
    pviommu_writeq(iommu, block0 + XEN_PVIOMMU_BLOCK_DOORBELL, 4);
    g_assert_cmpuint(pviommu_readl(iommu, block0 + XEN_PVIOMMU_BLOCK_DONE), ==,
                     4);
    pviommu_assert_frames(iommu, 6, 0);
    g_assert_cmpuint(pviommu_counter(iommu, XEN_PVIOMMU_COUNTER_OPS), ==, 9);
    pviommu_quit(iommu);
}

/* Operations are what they were when they were fetched. */
static void test_operations_are_read_once(void)
{
    QXenPVIOMMU *iommu = pviommu_start("q35", NULL, NULL);
    struct xen_iommu_op ops[] = {
        pviommu_op_query_reserved(0, 1, PVIOMMU_OPS_ADDR + OP_SIZE),
        pviommu_op_map(0, BFN, GFN, 0, 0),
    };

    pviommu_run(iommu, ops, ARRAY_SIZE(ops));
    assert_status(pviommu_status(&ops[0]), 0);
    assert_status(pviommu_status(&ops[1]), 0);
    g_assert_cmpuint(pviommu_counter(iommu, XEN_PVIOMMU_COUNTER_OPS), ==, 2);
    g_assert_cmpuint(pviommu_counter(iommu, XEN_PVIOMMU_COUNTER_MAPS), ==, 1);
    pviommu_assert_frames(iommu, 1, 0);
    pviommu_quit(iommu);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    pviommu_add_for_machines("batch/empty-does-nothing",
                             test_empty_does_nothing);
    pviommu_add_for_machines("batch/ends-where-ram-does",
                             test_ends_where_ram_does);
    pviommu_add_for_machines("batch/outside-ram-is-not-read",
                             test_outside_ram_is_not_read);
    pviommu_add_for_machines("batch/needs-bus-mastering",
                             test_needs_bus_mastering);
    pviommu_add("batch/may-begin-anywhere", test_may_begin_anywhere);
    pviommu_add("batch/failure-stops-nothing", test_failure_stops_nothing);
    pviommu_add("batch/max-ops-ends-a-doorbell", test_max_ops_ends_a_doorbell);
    pviommu_add("batch/long-runs-in-parts", test_long_runs_in_parts);
    pviommu_add("batch/search-for-a-context-is-work",
                test_search_for_a_context_is_work);
    pviommu_add("batch/blocks-are-independent", test_blocks_are_independent);
    pviommu_add("batch/operations-are-read-once",
                test_operations_are_read_once);
    return g_test_run();
}
