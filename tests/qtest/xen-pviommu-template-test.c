/*
 * xen-pviommu: a test to begin with, see tests/README.md
 *
 * Copy it to xen-pviommu-NAME-test.c, and add NAME to meson.build. It is built
 * and run as it is, too.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "libqos/edu.h"

/* A device that does DMA on command, behind the IOMMU in slot 0x11. */
#define EDU_SLOT        0x11
/* A bus frame that is no frame of the guest, and one of the guest's pages. */
#define BFN             0x123450ull
#define GFN             PVIOMMU_FREE_GFN

/* A device reaches a page while it is mapped, and not after the unmap. */
static void test_unmapped_is_out_of_reach(const void *machine)
{
    QXenPVIOMMU *iommu = pviommu_start(machine, NULL, EDU_DEVICE ",addr=11");
    const uint64_t bus = BFN * PVIOMMU_PAGE, ram = GFN * PVIOMMU_PAGE;
    QEdu edu;

    edu_init(&edu, iommu, QPCI_DEVFN(EDU_SLOT, 0));
    pviommu_accept(iommu, XEN_IOMMU_FEATURES_ALL);
    /* From now on devices reach what is mapped, and no other memory. */
    assert_status(pviommu_enable(iommu), 0);
    edu_map_window(&edu, iommu, 0, 0);

    assert_status(pviommu_map(iommu, 0, BFN, GFN, 1, 0), 0);
    edu_assert_access(&edu, bus, ram, 8);

    assert_status(pviommu_unmap(iommu, 0, BFN, 1), 0);
    edu_assert_no_access(&edu, bus, ram, 8);
    /* It is not mapped twice. */
    assert_status(pviommu_unmap(iommu, 0, BFN, 1), XEN_IOMMU_ENOENT);
    assert_status(pviommu_flush_all(iommu, 0), 0);
    edu_assert_no_access(&edu, bus, ram, 8);
    pviommu_quit(iommu);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    /* For the machines pc and q35; for one machine: pviommu_add(). */
    pviommu_add_for_machines("template/unmapped-is-out-of-reach",
                             test_unmapped_is_out_of_reach);
    return g_test_run();
}
