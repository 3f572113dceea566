/*
 * xen-pviommu: what a vhost-user back end is told of translations
 *
 * The back end is the test's own. tests/functional/vhost-user has a real one.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qobject/qdict.h"
#include "libqos/edu.h"
#include "libqos/migration.h"
#include "libqos/vhost-user-peer.h"
#include "libqos/virtio-ram.h"

#define SLOT            0x11
#define EDU_SLOT        0x12
/* Where virtio_ram_init() has the queues: 1:1 in context 0 */
#define QUEUES_GFN      0x100
#define NR_QUEUES_GFNS  (PVIOMMU_OPS_ADDR / PVIOMMU_PAGE - QUEUES_GFN)

/* 64 MiB, in frames, that two pieces of RAM have in common */
#define BLOCK_GFN       0x4000ull
#define BLOCK_NR        0x4000ull
#define BOUNDARY_MIB    96
#define BOUNDARY_GFN    0x6000ull

#define BFN             0x400000ull
#define GFN             PVIOMMU_FREE_GFN
#define ADDR(frame)     ((uint64_t)(frame) * PVIOMMU_PAGE)
#define RO              XEN_IOMMUOP_map_readonly

/* RAM that another process can have, in one piece or in two */
#define ONE_RAM         "-object memory-backend-memfd,id=ram0,size=256M " \
                        "-machine memory-backend=ram0 "
#define TWO_RAMS        "-object memory-backend-memfd,id=ram0,size=96M " \
                        "-object memory-backend-memfd,id=ram1,size=160M " \
                        "-numa node,memdev=ram0 -numa node,memdev=ram1 "
QEMU_BUILD_BUG_ON(BOUNDARY_GFN != BOUNDARY_MIB << 8);

#define PLATFORM        ",disable-legacy=on,iommu_platform=on"
#define NIC             "-netdev vhost-user,id=n0,chardev=peer " \
                        "-device virtio-net-pci,netdev=n0,addr=11,romfile=" \
                        PLATFORM
#define DISK            "-device vhost-user-blk-pci,chardev=peer,addr=11," \
                        "num-queues=3" PLATFORM

typedef struct Fixture {
    QXenPVIOMMU *iommu;
    VhostPeer *peer;
    QVirtioRam dev;
} Fixture;

/* A device whose driver uses @nr_queues, with @extra on the command line */
static Fixture *fixture_new(const char *machine, const char *ram,
                            const char *device, unsigned nr_queues,
                            const char *extra)
{
    Fixture *f = g_new0(Fixture, 1);
    g_autofree char *chardev = NULL, *args = NULL;

    f->peer = vhost_peer_new(true);
    chardev = vhost_peer_chardev(f->peer, "peer");
    args = g_strconcat(ram, chardev, device, " ", extra, NULL);
    f->iommu = pviommu_start_accepted(machine, NULL, args);
    pviommu_fault_ring(f->iommu, 64);
    assert_status(pviommu_map(f->iommu, 0, QUEUES_GFN, QUEUES_GFN,
                              NR_QUEUES_GFNS, 0), 0);
    virtio_ram_init(&f->dev, f->iommu, QPCI_DEVFN(SLOT, 0), nr_queues);
    vhost_peer_wait_started(f->peer, (1u << nr_queues) - 1);
    vhost_peer_forget(f->peer);
    return f;
}

static Fixture *nic_new(const char *machine)
{
    return fixture_new(machine, ONE_RAM, NIC, 2, "");
}

static void fixture_free(Fixture *f)
{
    virtio_ram_finalize(&f->dev);
    pviommu_quit(f->iommu);
    vhost_peer_free(f->peer);
    g_free(f);
}

static void map(Fixture *f, uint64_t bfn, uint64_t gfn, uint32_t nr,
                uint16_t flags)
{
    assert_status(pviommu_map(f->iommu, 0, bfn, gfn, nr, flags), 0);
}

static void unmap(Fixture *f, uint64_t bfn, uint32_t nr)
{
    assert_status(pviommu_unmap(f->iommu, 0, bfn, nr), 0);
    assert_status(pviommu_flush(f->iommu, 0, bfn, nr), 0);
}

static void check_found(Fixture *f, uint64_t bfn, uint64_t gfn,
                        VhostPeerAccess access, VhostPeerAccess allowed)
{
    VhostPeerRange range;

    g_assert_true(vhost_peer_miss(f->peer, ADDR(bfn), access, &range));
    g_assert_cmphex(range.gpa + (ADDR(bfn) - range.iova), ==, ADDR(gfn));
    g_assert_cmpint(range.access, ==, allowed);
}

static void check_not_found(Fixture *f, uint64_t bfn, VhostPeerAccess access)
{
    g_assert_false(vhost_peer_miss(f->peer, ADDR(bfn), access, NULL));
}

/* Of what was invalidated since the list was emptied, this is all. */
static void check_invalidated(Fixture *f, uint64_t bfn, uint64_t nr)
{
    g_assert_cmphex(vhost_peer_invalidated(f->peer, ADDR(bfn), ADDR(nr)), ==,
                    ADDR(nr));
    g_assert_cmphex(vhost_peer_invalidated(f->peer, 0, ADDR(1ull << 40)), ==,
                    ADDR(nr));
    vhost_peer_forget(f->peer);
}

static void test_misses_are_answered(const void *machine)
{
    Fixture *f = nic_new(machine);

    check_not_found(f, BFN, VHOST_PEER_RO);
    pviommu_wait_faults(f->iommu, 1);
    pviommu_assert_fault(f->iommu, 0, SLOT << 3, 0, ADDR(BFN), false,
                         XEN_IOMMU_FAULT_REASON_unmapped);

    map(f, BFN, GFN, 1, 0);
    check_found(f, BFN, GFN, VHOST_PEER_RO, VHOST_PEER_RW);
    check_found(f, BFN, GFN, VHOST_PEER_WO, VHOST_PEER_RW);
    check_found(f, BFN, GFN, VHOST_PEER_RW, VHOST_PEER_RW);
    check_not_found(f, BFN + 1, VHOST_PEER_WO);
    pviommu_wait_faults(f->iommu, 2);
    pviommu_assert_fault(f->iommu, 1, SLOT << 3, 0, ADDR(BFN + 1), true,
                         XEN_IOMMU_FAULT_REASON_unmapped);
    fixture_free(f);
}

static void test_readonly_becomes_writable_by_a_map(const void *machine)
{
    Fixture *f = nic_new(machine);

    map(f, BFN, GFN, 1, RO);
    check_found(f, BFN, GFN, VHOST_PEER_RO, VHOST_PEER_RO);
    check_not_found(f, BFN, VHOST_PEER_WO);
    check_not_found(f, BFN, VHOST_PEER_RW);
    pviommu_wait_faults(f->iommu, 2);
    pviommu_assert_fault(f->iommu, 0, SLOT << 3, 0, ADDR(BFN), true,
                         XEN_IOMMU_FAULT_REASON_readonly);

    unmap(f, BFN, 1);
    check_invalidated(f, BFN, 1);
    map(f, BFN, GFN, 1, 0);
    check_found(f, BFN, GFN, VHOST_PEER_WO, VHOST_PEER_RW);
    fixture_free(f);
}

/* What is unmapped is asked for again only after the flush. */
static void test_flush_invalidates_what_was_unmapped(const void *machine)
{
    Fixture *f = nic_new(machine);
    unsigned nr;

    map(f, BFN, GFN, 64, 0);
    check_found(f, BFN, GFN, VHOST_PEER_RW, VHOST_PEER_RW);
    assert_status(pviommu_unmap(f->iommu, 0, BFN + 3, 5), 0);
    assert_status(pviommu_unmap(f->iommu, 0, BFN + 8, 8), 0);
    assert_status(pviommu_unmap(f->iommu, 0, BFN + 32, 1), 0);
    g_assert_cmpuint(vhost_peer_nr_invalidations(f->peer), ==, 0);
    /* One that covers the first and a part of the next */
    assert_status(pviommu_flush(f->iommu, 0, BFN, 10), 0);
    nr = vhost_peer_nr_invalidations(f->peer);
    g_assert_cmphex(vhost_peer_invalidated(f->peer, ADDR(BFN + 3), ADDR(7)), ==,
                    ADDR(7));
    assert_status(pviommu_flush_all(f->iommu, 0), 0);
    g_assert_cmpuint(vhost_peer_nr_invalidations(f->peer), >, nr);
    g_assert_cmphex(vhost_peer_invalidated(f->peer, 0, ADDR(1ull << 40)), ==,
                    ADDR(14));
    vhost_peer_forget(f->peer);

    /* What it asks for beside them is no larger than what is left. */
    check_not_found(f, BFN + 3, VHOST_PEER_RO);
    for (unsigned i = 0; i < 64; i++) {
        VhostPeerRange range;

        if ((i >= 3 && i < 16) || i == 32) {
            continue;
        }
        g_assert_true(vhost_peer_miss(f->peer, ADDR(BFN + i), VHOST_PEER_RW,
                                      &range));
        g_assert_cmphex(range.gpa - ADDR(GFN), ==, range.iova - ADDR(BFN));
        for (unsigned gone = 3; gone <= 32; gone += gone == 15 ? 17 : 1) {
            g_assert_false(ADDR(BFN + gone) >= range.iova &&
                           ADDR(BFN + gone) - range.iova < range.size);
        }
    }
    fixture_free(f);
}

static void test_large_ranges_are_one_answer(const void *machine)
{
    Fixture *f = nic_new(machine);
    VhostPeerRange range;

    map(f, BFN, BLOCK_GFN, BLOCK_NR, 0);
    g_assert_true(vhost_peer_miss(f->peer, ADDR(BFN + 0x1234), VHOST_PEER_RO,
                                  &range));
    g_assert_cmphex(range.iova, ==, ADDR(BFN));
    g_assert_cmphex(range.size, ==, ADDR(BLOCK_NR));
    g_assert_cmphex(range.gpa, ==, ADDR(BLOCK_GFN));
    unmap(f, BFN, BLOCK_NR);
    check_invalidated(f, BFN, BLOCK_NR);
    check_not_found(f, BFN + 0x1234, VHOST_PEER_RO);
    fixture_free(f);
}

/* The back end has mapped these apart, and cannot have one answer of both. */
static void test_range_in_two_rams_is_found(const void *machine)
{
    Fixture *f = fixture_new(machine, TWO_RAMS, NIC, 2, "");
    const uint64_t split = BOUNDARY_GFN - BLOCK_GFN;

    map(f, BFN, BLOCK_GFN, BLOCK_NR, 0);
    check_found(f, BFN, BLOCK_GFN, VHOST_PEER_RW, VHOST_PEER_RW);
    check_found(f, BFN + split - 1, BOUNDARY_GFN - 1, VHOST_PEER_RW,
                VHOST_PEER_RW);
    check_found(f, BFN + split, BOUNDARY_GFN, VHOST_PEER_RW, VHOST_PEER_RW);
    check_found(f, BFN + BLOCK_NR - 1, BLOCK_GFN + BLOCK_NR - 1, VHOST_PEER_RO,
                VHOST_PEER_RW);
    fixture_free(f);
}

/* A driver need not use all queues that the device has. */
static void test_unused_queues_need_no_translation(const void *machine)
{
    Fixture *f = fixture_new(machine, ONE_RAM, DISK, 1, "");

    map(f, BFN, GFN, 1, 0);
    check_found(f, BFN, GFN, VHOST_PEER_RW, VHOST_PEER_RW);
    fixture_free(f);
}

/* In identity mode it has what is no more. */
static void test_enabling_invalidates_all(const void *machine)
{
    g_autofree char *chardev = NULL, *args = NULL;
    Fixture *f = g_new0(Fixture, 1);

    f->peer = vhost_peer_new(true);
    chardev = vhost_peer_chardev(f->peer, "peer");
    args = g_strconcat(ONE_RAM, chardev, NIC, NULL);
    f->iommu = pviommu_start_accepted(machine, NULL, args);
    virtio_ram_init(&f->dev, f->iommu, QPCI_DEVFN(SLOT, 0), 2);
    vhost_peer_wait_started(f->peer, 3);
    check_found(f, GFN, GFN, VHOST_PEER_RW, VHOST_PEER_RW);
    vhost_peer_forget(f->peer);

    assert_status(pviommu_map(f->iommu, 0, QUEUES_GFN, QUEUES_GFN,
                              NR_QUEUES_GFNS, 0), 0);
    g_assert_cmphex(vhost_peer_invalidated(f->peer, 0, PVIOMMU_RAM), ==,
                    PVIOMMU_RAM);
    check_not_found(f, GFN, VHOST_PEER_RO);
    check_found(f, QUEUES_GFN, QUEUES_GFN, VHOST_PEER_RW, VHOST_PEER_RW);
    fixture_free(f);
}

/* The destination's back end has nothing from the source's. */
static void test_moves_with_the_machine(const void *machine)
{
    g_autofree char *file = g_strdup_printf("%s/vhost-user-%d.stream",
                                            g_get_tmp_dir(), getpid());
    g_autofree char *chardev = NULL, *extra = NULL, *args = NULL;
    Fixture *f = nic_new(machine);
    VhostPeer *source = f->peer;

    map(f, BFN, GFN, 2, 0);
    check_found(f, BFN, GFN, VHOST_PEER_RW, VHOST_PEER_RW);
    migration_save(f->iommu->qts, file);
    qtest_quit(f->iommu->qts);
    vhost_peer_free(source);

    f->peer = vhost_peer_new(true);
    chardev = vhost_peer_chardev(f->peer, "peer");
    extra = g_strconcat(ONE_RAM, chardev, NIC, " -incoming defer", NULL);
    args = pviommu_args(machine, NULL, extra);
    pviommu_moved(f->iommu, qtest_init(args));
    f->dev.qts = f->iommu->qts;
    g_assert_true(migration_load(f->iommu->qts, file));
    unlink(file);
    vhost_peer_wait_started(f->peer, 3);

    check_found(f, BFN, GFN, VHOST_PEER_RW, VHOST_PEER_RW);
    check_found(f, QUEUES_GFN, QUEUES_GFN, VHOST_PEER_RW, VHOST_PEER_RW);
    vhost_peer_forget(f->peer);
    unmap(f, BFN, 1);
    check_invalidated(f, BFN, 1);
    check_not_found(f, BFN, VHOST_PEER_RW);
    check_found(f, BFN + 1, GFN + 1, VHOST_PEER_RW, VHOST_PEER_RW);
    fixture_free(f);
}

/* A BAR is no memory that the back end could have. */
static void test_bars_are_no_answer(const void *machine)
{
    g_autofree char *log = g_strdup_printf("%s/vhost-user-%d", g_get_tmp_dir(),
                                           getpid());
    g_autofree char *extra = g_strdup_printf(EDU_DEVICE ",addr=12 2>%s", log);
    Fixture *f = fixture_new(machine, ONE_RAM, NIC, 2, extra);
    g_autofree char *said = NULL;
    QPCIDevice *edu = qpci_device_find(f->iommu->pci, QPCI_DEVFN(EDU_SLOT, 0));
    QPCIBar bar;

    g_assert_nonnull(edu);
    qpci_device_enable(edu);
    bar = qpci_iomap(edu, 0, NULL);
    map(f, BFN, bar.addr / PVIOMMU_PAGE, 1, 0);
    check_not_found(f, BFN, VHOST_PEER_RO);
    check_not_found(f, BFN, VHOST_PEER_WO);
    g_free(edu);
    fixture_free(f);
    /* What a guest can do at any time is nothing to print each time. */
    g_assert_true(g_file_get_contents(log, &said, NULL, NULL));
    unlink(log);
    g_assert_cmpstr(strstr(said, "translated address") ?: "", ==, "");
}

/* QEMU refuses what the back end cannot do. */
static void test_needs_a_back_end_with_a_cache(const void *device)
{
    VhostPeer *peer = vhost_peer_new(false);
    g_autofree char *args = vhost_peer_chardev(peer, "peer");
    QXenPVIOMMU *iommu = pviommu_start("pc", NULL, args);
    QDict *answer, *error;

    answer = qtest_qmp(iommu->qts, "{'execute': 'device_add', 'arguments': {"
                       "'driver': %s, 'chardev': 'peer', 'addr': '11',"
                       "'disable-legacy': 'on', 'iommu_platform': true}}",
                       (const char *)device);
    error = qdict_get_qdict(answer, "error");
    g_assert_nonnull(error);
    g_assert_nonnull(strstr(qdict_get_str(error, "desc"),
                            "iommu_platform=true is not supported"));
    qobject_unref(answer);
    pviommu_quit(iommu);
    vhost_peer_free(peer);
}

int main(int argc, char **argv)
{
    static const char *const devices[] = {
        "vhost-user-blk-pci", "vhost-user-scsi-pci", "vhost-user-vsock-pci",
    };

    g_test_init(&argc, &argv, NULL);
    pviommu_add_for_machines("vhost-user/misses-are-answered",
                             test_misses_are_answered);
    pviommu_add_for_machines("vhost-user/readonly-becomes-writable-by-a-map",
                             test_readonly_becomes_writable_by_a_map);
    pviommu_add_for_machines("vhost-user/flush-invalidates-what-was-unmapped",
                             test_flush_invalidates_what_was_unmapped);
    pviommu_add_for_machines("vhost-user/large-ranges-are-one-answer",
                             test_large_ranges_are_one_answer);
    pviommu_add_for_machines("vhost-user/range-in-two-rams-is-found",
                             test_range_in_two_rams_is_found);
    pviommu_add_for_machines("vhost-user/unused-queues-need-no-translation",
                             test_unused_queues_need_no_translation);
    pviommu_add_for_machines("vhost-user/enabling-invalidates-all",
                             test_enabling_invalidates_all);
    pviommu_add_for_machines("vhost-user/moves-with-the-machine",
                             test_moves_with_the_machine);
    pviommu_add_for_machines("vhost-user/bars-are-no-answer",
                             test_bars_are_no_answer);
    for (unsigned i = 0; i < ARRAY_SIZE(devices); i++) {
        g_autofree char *path =
            g_strdup_printf("vhost-user/needs-a-back-end-with-a-cache/%s",
                            devices[i]);

        pviommu_add_data(path, devices[i], test_needs_a_back_end_with_a_cache);
    }
    return g_test_run();
}
