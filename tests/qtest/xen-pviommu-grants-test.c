/*
 * Grants that are mapped under a simulated hypervisor: invalidation is about
 * pages by their GFNs, and leaves grants alone
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/bswap.h"
#include "hw/pci/pci_regs.h"
#include "libqos/pviommu-mirror.h"
#include "libqos/xensim.h"

/* Only this machine has grants: a reference is an address for devices. */
#define ECAM            0xd0000000u
#define MMIO            0xe0000000u
#define MACHINE         "xenpvh,suppress-vmdesc=on,pci-ecam-base=0xd0000000," \
                        "pci-ecam-size=0x10000000,pci-mmio-base=0xe0000000," \
                        "pci-mmio-size=0x10000000,pci-intx-irq-base=8"
#define GRANT(ref)      (1ull << 63 | (uint64_t)(ref) * PVIOMMU_PAGE)

#define SLOT            0x11
#define PAGE            ((uint64_t)PVIOMMU_PAGE)
#define GFN             (PVIOMMU_FREE_GFN + 5ull)
/* As a GFN, it is a page, too. */
#define REF             8

static void assert_reaches(XenSim *sim, QMirror *m, uint32_t page,
                           uint64_t value)
{
    uint64_t data;

    mirror_touch_write(m, 0, 8, value);
    xensim_peek(sim, page, 8, &data, sizeof(data));
    g_assert_cmphex(le64_to_cpu(data), ==, value);
}

static void test_invalidation_leaves_them(void)
{
    const XenSimOptions options = { .machine = MACHINE };
    g_autofree char *args = g_strdup_printf(MIRROR_DEVICE("map"), SLOT);
    XenSim *sim = xensim_start(&options, args);
    QXenPVIOMMU bus = { .qts = sim->qts };
    QMirror m = { .iommu = &bus, .bar.addr = MMIO };
    uint32_t config = ECAM + (SLOT << 15);
    uint32_t page = xensim_page(sim, GFN), same = xensim_page(sim, REF);
    uint64_t data;

    qtest_writel(sim->qts, config + PCI_BASE_ADDRESS_0, MMIO);
    qtest_writel(sim->qts, config + PCI_COMMAND,
                 PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
    g_assert_true(xensim_command(sim, NULL, "grant %u 0x%" PRIx64, REF,
                                 (uint64_t)GFN));
    g_assert_true(xensim_command(sim, NULL, "grant %u 0x%" PRIx64, REF + 1,
                                 (uint64_t)GFN + 1));

    g_assert_cmpuint(mirror_hold(&m, 0, GRANT(REF), PAGE, true), ==, PAGE);
    g_assert_cmpuint(xensim_mapped(sim, page, 1), ==, 1);
    g_assert_cmpuint(xensim_count(sim, "xengnttab_map_domain_grant_refs"), ==,
                     1);
    assert_reaches(sim, &m, page, 0x1111);

    /* The page whose GFN is the grant's number leaves, the grant stays. */
    qtest_writeq(sim->qts, REF * PAGE, 1);
    g_assert_cmpuint(xensim_mapped(sim, same, 1), ==, 1);
    xensim_release(sim, 0, 0xa0);
    g_assert_cmpuint(xensim_mapped(sim, same, 1), ==, 0);
    g_assert_cmpuint(xensim_mapped(sim, page, 1), ==, 1);
    assert_reaches(sim, &m, page, 0x2222);

    /* So it does when its own page leaves the guest's memory map. */
    qtest_writeq(sim->qts, GFN * PAGE, 1);
    g_assert_cmpuint(xensim_mapped(sim, page, 1), ==, 2);
    xensim_release(sim, GFN, 1);
    g_assert_cmpuint(xensim_mapped(sim, page, 1), ==, 1);
    assert_reaches(sim, &m, page, 0x3333);

    qtest_writeq(sim->qts, (GFN + 1) * PAGE, 1);
    xensim_invalidate_all(sim);
    g_assert_cmpuint(xensim_mapped(sim, page + 1, 1), ==, 0);
    g_assert_cmpuint(xensim_mapped(sim, page, 1), ==, 1);
    assert_reaches(sim, &m, page, 0x4444);

    /* It is unmapped when the DMA ends, by the library's function for it. */
    mirror_release(&m, 0, PAGE);
    g_assert_cmpuint(xensim_mapped(sim, page, 1), ==, 0);
    g_assert_cmpuint(xensim_count(sim, "xengnttab_unmap"), ==, 1);

    g_assert_cmpuint(mirror_hold(&m, 0, GRANT(REF), 2 * PAGE, false), ==,
                     2 * PAGE);
    g_assert_cmpuint(xensim_mapped(sim, page, 2), ==, 2);
    xensim_release(sim, GFN + 1, 1);
    g_assert_cmpuint(xensim_mapped(sim, page, 2), ==, 2);
    g_assert_cmphex(mirror_touch_read(&m, 0, 8), ==, 0x4444);
    mirror_release(&m, 0, 0);
    g_assert_cmpuint(xensim_mapped(sim, page, 2), ==, 0);

    /* A grant that is none, as a guest may say: DMA to nothing. */
    for (int write = 0; write < 2; write++) {
        xensim_fail(sim, "xengnttab_map_domain_grant_refs", 1, EINVAL);
        g_assert_cmpuint(mirror_hold(&m, 0, GRANT(REF), PAGE, write), ==, PAGE);
        g_assert_cmpuint(xensim_mapped(sim, page, 1), ==, 0);
        mirror_release(&m, 0, PAGE);
        g_assert_cmpuint(mirror_hold(&m, 0, GRANT(REF), PAGE, write), ==, PAGE);
        g_assert_cmpuint(xensim_mapped(sim, page, 1), ==, 1);
        mirror_release(&m, 0, PAGE);
    }
    /* Nor can it be reached in passing. */
    g_assert_false(mirror_dma_write(&m, GRANT(REF), 1, 8));
    g_assert_false(mirror_dma_read(&m, GRANT(REF), &data));
    xensim_peek(sim, page, 8, &data, sizeof(data));
    g_assert_cmphex(le64_to_cpu(data), ==, 0x4444);
    xensim_quit(sim);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    pviommu_add("grants/invalidation-leaves-them",
                test_invalidation_leaves_them);
    return g_test_run();
}
