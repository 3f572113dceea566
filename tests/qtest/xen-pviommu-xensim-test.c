/*
 * xen-pviommu under a simulated hypervisor: the machine starts, ioreqs are
 * answered, DMA reaches the guest's pages
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/bswap.h"
#include "hw/pci/pci_regs.h"
#include "libqos/pviommu-mirror.h"
#include "libqos/xensim.h"

#define IOMMU_BDF       (PVIOMMU_SLOT << 3)
#define GFN             PVIOMMU_FREE_GFN
#define BFN             0x123450ull

#define PCI_INDEX       0xcf8
#define PCI_DATA        0xcfc

static void test_boots(const void *machine)
{
    const XenSimOptions options = { .machine = machine };
    XenSim *sim = xensim_start_mirror(&options);
    const char *state;

    g_assert_true(xensim_command(sim, &state, "xs-read device-model/1/state"));
    g_assert_cmpstr(state, ==, "running");
    xensim_assert_alive(sim);
    g_assert_cmpuint(xensim_count(sim, "xendevicemodel_create_ioreq_server"),
                     ==, 1);
    g_assert_true(xensim_claims(sim, "pci", IOMMU_BDF));
    g_assert_false(xensim_claims(sim, "pci", IOMMU_BDF + 1));
    g_assert_true(xensim_claims(sim, "pio", XENSIM_CMOS_DATA));
    g_assert_false(xensim_claims(sim, "mmio", GFN * PVIOMMU_PAGE));
    xensim_quit(sim);
}

/* A hypervisor that does not know what it is asked for first. */
static void test_old_hypervisor_works(void)
{
    const XenSimOptions options = { .features = "" };
    XenSim *sim = xensim_start_mirror(&options);

    g_assert_cmpuint(xensim_count(sim, "xendevicemodel_create_ioreq_server"),
                     ==, 2);
    xensim_assert_alive(sim);
    xensim_quit(sim);
}

/* Nor XENMEM_acquire_resource: the pages are mapped by their GFNs. */
static void test_no_resources_maps_by_gfn(void)
{
    g_autofree char *fail = g_strdup_printf("xenforeignmemory_map_resource:1:"
                                            "%d", EOPNOTSUPP);
    const XenSimOptions options = { .fail = fail };
    XenSim *sim = xensim_start_mirror(&options);

    g_assert_cmpuint(xensim_count(sim, "xenforeignmemory_map"), ==, 2);
    xensim_assert_alive(sim);
    xensim_quit(sim);
}

static void test_each_vcpu_gets_its_answer(void)
{
    const XenSimOptions options = { .vcpus = 4 };
    XenSim *sim = xensim_start_mirror(&options);
    XenSimIoreq in = {
        .type = XENSIM_PIO, .read = true, .addr = XENSIM_CMOS_DATA, .size = 1,
        .count = 1,
    };
    uint8_t value;

    value = xensim_assert_alive(sim);
    for (int vcpu = 3; vcpu >= 0; vcpu--) {
        g_assert_cmphex(xensim_ioreq(sim, vcpu, &in), ==, value);
        for (int other = 0; other < 4; other++) {
            g_assert_false(xensim_answered(sim, other));
        }
    }
    /* All of them at a time; each gets its own answer. */
    xensim_out(sim, 0, PCI_INDEX, 4, 0x80000000 | IOMMU_BDF << 8);
    for (int vcpu = 0; vcpu < 4; vcpu++) {
        in.addr = PCI_DATA + vcpu;
        xensim_send(sim, vcpu, &in);
    }
    g_assert_cmphex(xensim_answer(sim, 3), ==, XEN_PVIOMMU_PCI_DEVICE_ID >> 8);
    g_assert_cmphex(xensim_answer(sim, 1), ==, XEN_PVIOMMU_PCI_VENDOR_ID >> 8);
    g_assert_cmphex(xensim_answer(sim, 0), ==,
                    XEN_PVIOMMU_PCI_VENDOR_ID & 0xff);
    g_assert_cmphex(xensim_answer(sim, 2), ==,
                    XEN_PVIOMMU_PCI_DEVICE_ID & 0xff);
    xensim_quit(sim);
}

/* What the hypervisor sends for 0xcf8 and 0xcfc, and the ports themselves. */
static void test_config_space_by_both_ways(void)
{
    XenSim *sim = xensim_start_mirror(NULL);
    uint32_t id = XEN_PVIOMMU_PCI_DEVICE_ID << 16 | XEN_PVIOMMU_PCI_VENDOR_ID;

    g_assert_cmphex(xensim_config_read(sim, 0, IOMMU_BDF, PCI_VENDOR_ID, 4),
                    ==, id);
    xensim_out(sim, 0, PCI_INDEX, 4, 0x80000000 | IOMMU_BDF << 8);
    g_assert_cmphex(xensim_in(sim, 0, PCI_DATA, 4), ==, id);

    xensim_config_write(sim, 0, IOMMU_BDF, PCI_INTERRUPT_LINE, 1, 0x77);
    g_assert_cmphex(xensim_config_read(sim, 0, IOMMU_BDF, PCI_INTERRUPT_LINE,
                                       1), ==, 0x77);
    xensim_quit(sim);
}

static void test_mmio_and_string_moves_work(void)
{
    XenSim *sim = xensim_start_mirror(NULL);
    QXenPVIOMMU *iommu = xensim_pviommu(sim);
    uint64_t bar = iommu->bar.addr;
    uint64_t memory = GFN * PVIOMMU_PAGE + 0x18;
    XenSimIoreq rep = {
        .type = XENSIM_COPY, .read = true, .size = 4, .count = 2,
        .addr = bar + XEN_PVIOMMU_REG_FAULT_RING, .data = memory,
        .data_is_ptr = true,
    };

    g_assert_true(xensim_claims(sim, "mmio", bar));
    g_assert_true(xensim_claims(sim, "mmio", bar + XEN_PVIOMMU_BLOCKS));
    g_assert_cmphex(xensim_load(sim, 0, bar + XEN_PVIOMMU_REG_VERSION, 4), ==,
                    XEN_PVIOMMU_VERSION);
    xensim_store(sim, 0, bar + XEN_PVIOMMU_REG_FAULT_RING, 8,
                 0x1122334455667780);
    g_assert_cmphex(xensim_load(sim, 0, bar + XEN_PVIOMMU_REG_FAULT_RING, 8),
                    ==, 0x1122334455667780);

    /* rep movsl, out of the registers into memory. */
    xensim_ioreq(sim, 0, &rep);
    g_assert_cmphex(xensim_readq(sim, memory), ==, 0x1122334455667780);
    /* And back, from other data. */
    xensim_writeq(sim, memory, 0xaabbccddeeff0020);
    rep.read = false;
    xensim_ioreq(sim, 0, &rep);
    g_assert_cmphex(pviommu_readq(iommu, XEN_PVIOMMU_REG_FAULT_RING), ==,
                    0xaabbccddeeff0020);
    pviommu_free(iommu);
    xensim_quit(sim);
}

static void test_buffered_ring_is_read_in_order(void)
{
    XenSim *sim = xensim_start_mirror(NULL);
    unsigned nr = 0;

    /*
     * A full ring, without an event: it is read before what is synchronous.
     * First, as QEMU looks by itself for some time once there was an event.
     */
    xensim_out(sim, 0, XENSIM_CMOS_INDEX, 1, XENSIM_CMOS_FREE);
    while (xensim_buffer(sim, XENSIM_PIO, false, 0, XENSIM_CMOS_DATA,
                         nr & 0xff)) {
        nr++;
    }
    g_assert_cmpuint(nr, ==, 511);
    g_assert_cmpuint(xensim_buffered(sim), ==, 511);
    g_assert_cmphex(xensim_in(sim, 0, XENSIM_CMOS_DATA, 1), ==,
                    (nr - 1) & 0xff);
    g_assert_cmpuint(xensim_buffered(sim), ==, 0);

    /* In order, and again after it sent one event. */
    for (int i = 0; i < 3; i++) {
        g_assert_true(xensim_buffer(sim, XENSIM_PIO, false, 0,
                                    XENSIM_CMOS_INDEX, XENSIM_CMOS_FREE + i));
        g_assert_true(xensim_buffer(sim, XENSIM_PIO, false, 0, XENSIM_CMOS_DATA,
                                    0x30 + i));
        xensim_kick(sim);
        xensim_wait_read(sim);
        g_assert_cmphex(xensim_in(sim, 0, XENSIM_CMOS_DATA, 1), ==, 0x30 + i);
    }
    xensim_quit(sim);
}

static void test_invalidate_all_unmaps(void)
{
    XenSim *sim = xensim_start_mirror(NULL);
    uint32_t page = xensim_page(sim, GFN);

    qtest_writeq(sim->qts, GFN * PVIOMMU_PAGE, 1);
    g_assert_cmpuint(xensim_mapped(sim, page, 1), ==, 1);
    xensim_invalidate_all(sim);
    g_assert_cmpuint(xensim_mapped(sim, page, 1), ==, 0);
    qtest_writeq(sim->qts, GFN * PVIOMMU_PAGE, 2);
    g_assert_cmpuint(xensim_mapped(sim, page, 1), ==, 1);
    g_assert_cmphex(xensim_readq(sim, GFN * PVIOMMU_PAGE), ==, 2);
    xensim_quit(sim);
}

static void test_dma_reaches_guest_pages(void)
{
    XenSim *sim = xensim_start_mirror(NULL);
    QXenPVIOMMU *iommu = xensim_pviommu(sim);
    uint64_t data;
    QMirror m;

    mirror_init(&m, iommu, QPCI_DEVFN(XENSIM_MIRROR_SLOT, 0));
    g_assert_cmphex(pviommu_readq(iommu, XEN_PVIOMMU_REG_FEATURES), ==,
                    XEN_IOMMU_FEATURES_ALL);
    pviommu_accept(iommu, XEN_IOMMU_FEATURES_ALL);
    assert_status(pviommu_map(iommu, 0, BFN, GFN, 512, 0), 0);
    assert_status(pviommu_map(iommu, 0, BFN + 512, GFN + 7, 1,
                              XEN_IOMMUOP_map_readonly), 0);

    for (unsigned i = 0; i < 512; i += 73) {
        uint64_t iova = (BFN + i) * PVIOMMU_PAGE + i * 8;
        uint64_t gpa = (uint64_t)(GFN + i) * PVIOMMU_PAGE + i * 8;

        g_assert_true(mirror_dma_write(&m, iova, 0x5500 + i, 8));
        g_assert_cmphex(xensim_readq(sim, gpa), ==, 0x5500 + i);
        g_assert_cmpuint(xensim_mapped(sim, xensim_page(sim, GFN + i), 1), ==,
                         1);
        xensim_writeq(sim, gpa, ~(uint64_t)i);
        g_assert_true(mirror_dma_read(&m, iova, &data));
        g_assert_cmphex(data, ==, ~(uint64_t)i);
    }
    g_assert_false(mirror_dma_write(&m, (BFN + 512) * PVIOMMU_PAGE, 1, 8));
    g_assert_false(mirror_dma_read(&m, (BFN + 513) * PVIOMMU_PAGE, &data));
    mirror_assert_equal(&m, 0, 513);
    mirror_assert_sane(&m);
    pviommu_free(iommu);
    xensim_quit(sim);
}

/* DMA that takes its time keeps its pages, and nothing else does. */
static void test_dma_in_flight_keeps_its_pages(void)
{
    XenSim *sim = xensim_start_mirror(NULL);
    QXenPVIOMMU *iommu = xensim_pviommu(sim);
    uint32_t page = xensim_page(sim, GFN);
    uint64_t data;
    QMirror m;

    mirror_init(&m, iommu, QPCI_DEVFN(XENSIM_MIRROR_SLOT, 0));
    pviommu_accept(iommu, XEN_IOMMU_FEATURES_ALL);
    assert_status(pviommu_map(iommu, 0, BFN, GFN, 1, 0), 0);
    xensim_invalidate_all(sim);
    g_assert_cmpuint(xensim_mapped(sim, page, 1), ==, 0);
    g_assert_cmpuint(mirror_hold(&m, 0, BFN * PVIOMMU_PAGE, PVIOMMU_PAGE, true),
                     ==, PVIOMMU_PAGE);
    xensim_remove(sim, GFN, 1);
    g_assert_cmpuint(xensim_mapped(sim, page, 1), ==, 1);
    xensim_add(sim, GFN, 1);
    g_assert_cmpuint(xensim_page(sim, GFN), !=, page);
    xensim_invalidate_all(sim);
    g_assert_cmpuint(xensim_mapped(sim, page, 1), ==, 1);
    mirror_touch_write(&m, 0, 8, 0x1234567);
    xensim_peek(sim, page, 8, &data, sizeof(data));
    g_assert_cmphex(le64_to_cpu(data), ==, 0x1234567);
    g_assert_cmphex(xensim_readq(sim, GFN * PVIOMMU_PAGE + 8), ==, 0);
    mirror_release(&m, 0, PVIOMMU_PAGE);
    xensim_invalidate_all(sim);
    g_assert_cmpuint(xensim_mapped(sim, page, 1), ==, 0);
    pviommu_free(iommu);
    xensim_quit(sim);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    pviommu_add_data("xensim/boots/xenfv", NULL, test_boots);
    pviommu_add_data("xensim/boots/pc", "pc,accel=xen,suppress-vmdesc=on",
                     test_boots);
    pviommu_add("xensim/old-hypervisor-works", test_old_hypervisor_works);
    pviommu_add("xensim/no-resources-maps-by-gfn",
                test_no_resources_maps_by_gfn);
    pviommu_add("xensim/each-vcpu-gets-its-answer",
                test_each_vcpu_gets_its_answer);
    pviommu_add("xensim/config-space-by-both-ways",
                test_config_space_by_both_ways);
    pviommu_add("xensim/mmio-and-string-moves-work",
                test_mmio_and_string_moves_work);
    pviommu_add("xensim/buffered-ring-is-read-in-order",
                test_buffered_ring_is_read_in_order);
    pviommu_add("xensim/invalidate-all-unmaps", test_invalidate_all_unmaps);
    pviommu_add("xensim/dma-reaches-guest-pages", test_dma_reaches_guest_pages);
    pviommu_add("xensim/dma-in-flight-keeps-its-pages",
                test_dma_in_flight_keeps_its_pages);
    return g_test_run();
}
