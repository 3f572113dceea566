/*
 * xen-pviommu: DMA from one assigned device to the BAR of another
 *
 * Both IOMMUs are on the way: ours has the BAR at a BFN, and VFIO gives it to
 * the host's.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "hw/pci/pci_regs.h"
#include "libqos/vfio-host.h"

#define GFN             0x4000ull
#define BFN             0x4000000ull
#define ADDR(frame)     ((uint64_t)(frame) * PVIOMMU_PAGE)
#define RO              XEN_IOMMUOP_map_readonly

/* BAR 0 of an edu, and a register that reads as the opposite of what it got */
#define EDU_FRAMES      256
#define EDU_LIVENESS    4

/* BAR 2 of the host's NVMe is its memory. */
#define NVME_DEVFN      QPCI_DEVFN(0x13, 0)
#define NVME_MEMORY_BAR 2

/* Where a BAR is moved to; nothing else is there. */
#define ELSEWHERE       0xf0000000u

typedef struct Fixture {
    QXenPVIOMMU *iommu;
    QEdu edu;                   /* does the DMA */
    QPCIDevice peer;
    QPCIBar bar;
    uint64_t frames;
} Fixture;

static uint64_t gfn(const Fixture *f)
{
    return f->bar.addr / PVIOMMU_PAGE;
}

static void find_peer(Fixture *f, int devfn, unsigned bar)
{
    const QPCIAddress addr = { .devfn = devfn };
    uint64_t size;

    qpci_device_init(&f->peer, f->iommu->pci, (QPCIAddress *)&addr);
    f->bar = qpci_iomap(&f->peer, bar, &size);
    f->frames = size / PVIOMMU_PAGE;
    qpci_device_enable(&f->peer);
    edu_map_window(&f->edu, f->iommu, 0, 0);
}

static Fixture start_edus(const char *machine)
{
    g_autofree char *args = g_strdup_printf(
        "-device vfio-pci,host=%s,addr=11 "
        "-device vfio-pci,host=%s,addr=12,id=peer ",
        vfio_host.edus[0], vfio_host.edus[1]);
    Fixture f = {
        .iommu = pviommu_start_accepted(machine, "premap=off", args),
    };

    edu_init(&f.edu, f.iommu, EDU_SBDF_A);
    find_peer(&f, EDU_SBDF_B, 0);
    g_assert_cmpuint(f.frames, ==, EDU_FRAMES);
    return f;
}

static Fixture start_nvme(const char *machine)
{
    g_autofree char *args = g_strdup_printf(
        "-device vfio-pci,host=%s,addr=11 -device vfio-pci,host=%s,addr=13 ",
        vfio_host.edus[0], vfio_host.nvme);
    Fixture f = {
        .iommu = pviommu_start_accepted(machine, "premap=off", args),
    };

    edu_init(&f.edu, f.iommu, EDU_SBDF_A);
    find_peer(&f, NVME_DEVFN, NVME_MEMORY_BAR);
    return f;
}

static void map_bar(Fixture *f, uint64_t bfn, uint16_t flags)
{
    assert_status(pviommu_map(f->iommu, 0, bfn, gfn(f), f->frames, flags), 0);
}

/* What the register of the peer has after the edu wrote @value by its BFN */
static uint32_t store(Fixture *f, uint64_t bfn, uint32_t value)
{
    edu_store(&f->edu, ADDR(bfn) + EDU_LIVENESS, &value, sizeof(value));
    return ~qpci_io_readl(&f->peer, f->bar, EDU_LIVENESS);
}

static void assert_registers_reached(Fixture *f, uint64_t bfn)
{
    static uint32_t value = 0x1234567;
    uint32_t got = 0;

    value += 0x1111111;
    g_assert_cmphex(store(f, bfn, value), ==, value);
    edu_load(&f->edu, ADDR(bfn) + EDU_LIVENESS, &got, sizeof(got));
    g_assert_cmphex(got, ==, ~value);
}

static void assert_registers_not_reached(Fixture *f, uint64_t bfn)
{
    qpci_io_writel(&f->peer, f->bar, EDU_LIVENESS, 0x5a5a5a5a);
    g_assert_cmphex(store(f, bfn, 0x7777777), ==, 0x5a5a5a5a);
}

static void move_bar(Fixture *f, unsigned nr, uint32_t addr)
{
    qpci_config_writel(&f->peer, PCI_BASE_ADDRESS_0 + 4 * nr, addr);
    f->bar.addr = addr;
}

static void enable(Fixture *f, bool on)
{
    uint16_t cmd = qpci_config_readw(&f->peer, PCI_COMMAND);

    cmd &= ~PCI_COMMAND_MEMORY;
    qpci_config_writew(&f->peer, PCI_COMMAND,
                       cmd | (on ? PCI_COMMAND_MEMORY : 0));
}

static void test_reaches_registers_of_another(const void *machine)
{
    Fixture f = start_edus(machine);

    assert_registers_not_reached(&f, BFN);
    map_bar(&f, BFN, 0);
    map_bar(&f, BFN + 0x1000, RO);
    assert_registers_reached(&f, BFN);
    assert_registers_not_reached(&f, BFN + 0x1000);

    assert_status(pviommu_unmap(f.iommu, 0, BFN, 1), 0);
    assert_status(pviommu_flush_all(f.iommu, 0), 0);
    assert_registers_not_reached(&f, BFN);
    vfio_host_assert_faults(&f.edu, ADDR(BFN));
    assert_status(pviommu_map(f.iommu, 0, BFN, gfn(&f), 1, 0), 0);
    assert_registers_reached(&f, BFN);
    pviommu_quit(f.iommu);
}

static void test_gone_when_the_bar_moves(const void *machine)
{
    Fixture f = start_edus(machine);

    map_bar(&f, BFN, 0);
    assert_status(pviommu_map(f.iommu, 0, BFN + 0x1000, GFN, 8, 0), 0);
    assert_registers_reached(&f, BFN);
    move_bar(&f, 0, ELSEWHERE);
    pviommu_assert_unmapped(f.iommu, 0, BFN);
    assert_registers_not_reached(&f, BFN);
    vfio_host_assert_faults(&f.edu, ADDR(BFN));
    edu_assert_access(&f.edu, ADDR(BFN + 0x1000), ADDR(GFN), 64);
    map_bar(&f, BFN, 0);
    assert_registers_reached(&f, BFN);
    pviommu_quit(f.iommu);
}

/* VFIO takes it from the host's IOMMU while the device decodes nothing. */
static void test_hidden_while_the_bar_is_disabled(const void *machine)
{
    Fixture f = start_edus(machine);

    map_bar(&f, BFN, 0);
    for (unsigned i = 0; i < 2; i++) {
        assert_registers_reached(&f, BFN);
        enable(&f, false);
        pviommu_assert_mapped(f.iommu, 0, BFN, gfn(&f), EDU_FRAMES, 0);
        vfio_host_assert_faults(&f.edu, ADDR(BFN));
        enable(&f, true);
    }
    assert_registers_reached(&f, BFN);
    pviommu_quit(f.iommu);
}

static void test_gone_with_the_function(void)
{
    Fixture f = start_edus("pc");

    map_bar(&f, BFN, 0);
    assert_registers_reached(&f, BFN);
    qpci_unplug_acpi_device_test(f.iommu->qts, "peer", 0x12);
    pviommu_assert_unmapped(f.iommu, 0, BFN);
    vfio_host_assert_faults(&f.edu, ADDR(BFN));
    assert_status(pviommu_map(f.iommu, 0, BFN, GFN, 1, 0), 0);
    edu_assert_access(&f.edu, ADDR(BFN), ADDR(GFN), 64);
    pviommu_quit(f.iommu);
}

static void test_reaches_memory_of_an_nvme(const void *machine)
{
    Fixture f = start_nvme(machine);

    map_bar(&f, BFN, 0);
    map_bar(&f, BFN + 0x1000, RO);
    edu_assert_access(&f.edu, ADDR(BFN), f.bar.addr, 64);
    edu_assert_access(&f.edu, ADDR(BFN + f.frames) - 64,
                      f.bar.addr + ADDR(f.frames) - 64, 64);
    edu_assert_readonly(&f.edu, ADDR(BFN + 0x1000) + 256, f.bar.addr + 256, 64);
    assert_status(pviommu_unmap(f.iommu, 0, BFN, f.frames), 0);
    assert_status(pviommu_flush_all(f.iommu, 0), 0);
    edu_assert_no_access(&f.edu, ADDR(BFN), f.bar.addr, 64);
    vfio_host_assert_faults(&f.edu, ADDR(BFN));
    pviommu_quit(f.iommu);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    if (!vfio_host_init()) {
        return 1;
    }
    pviommu_add_data("q35/vfio-peer/reaches-registers-of-another", "q35",
                     test_reaches_registers_of_another);
    pviommu_add_data("q35/vfio-peer/gone-when-the-bar-moves", "q35",
                     test_gone_when_the_bar_moves);
    pviommu_add_data("q35/vfio-peer/hidden-while-the-bar-is-disabled", "q35",
                     test_hidden_while_the_bar_is_disabled);
    pviommu_add("pc/vfio-peer/gone-with-the-function",
                test_gone_with_the_function);
    pviommu_add_data("q35/vfio-peer/reaches-memory-of-an-nvme", "q35",
                     test_reaches_memory_of_an_nvme);
    return g_test_run();
}
