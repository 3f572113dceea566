/*
 * xen-pviommu: BARs that are mapped and move, are disabled, or leave with their
 * function; and migration
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "libqos/bridge.h"
#include "libqos/hotplug.h"
#include "libqos/migration.h"
#include "libqos/mmio-fixture.h"
#include "libqos/snapshot.h"

static void test_gone_when_the_bar_moves(const void *machine)
{
    Fixture f = fixture_start(machine, NULL, NULL);
    uint64_t old = f.peer.gfn, before;

    assert_status(map_peer(&f, BFN, 0), 0);
    assert_status(map_peer(&f, BFN + 0x100, RO), 0);
    /* Some of it is pending. */
    assert_status(pviommu_unmap(f.iommu, 0, BFN + 0x100, 10), 0);
    assert_status(pviommu_map(f.iommu, 0, BFN + 0x200, GFN, 8, 0), 0);
    before = pviommu_counter(f.iommu, XEN_PVIOMMU_COUNTER_INVALIDATED);

    peer_move(&f.peer, ELSEWHERE);
    assert_gone(&f, BFN);
    pviommu_assert_unmapped(f.iommu, 0, BFN + 0x100 + 10);
    pviommu_assert_frames(f.iommu, 1 + 8, 0);
    g_assert_cmpuint(pviommu_counter(f.iommu, XEN_PVIOMMU_COUNTER_INVALIDATED) -
                     before, ==, 2 * PEER_FRAMES - 10);
    edu_assert_access(&f.edu, ADDR(BFN + 0x200), ADDR(GFN), 64);
    assert_status(pviommu_map(f.iommu, 0, BFN, old, 1, 0), XEN_IOMMU_ENOENT);

    /* To where it was to end */
    assert_status(map_peer(&f, BFN, 0), 0);
    peer_move(&f.peer, ELSEWHERE + 0x20000);
    pviommu_assert_unmapped(f.iommu, 0, BFN);
    assert_gone(&f, BFN);
    assert_status(pviommu_unmap(f.iommu, 0, BFN + 0x200, 8), 0);
    assert_works(&f);
    pviommu_quit(f.iommu);
}

/* There is nothing for now: it is no fault, and returns when the BAR does. */
static void assert_hidden(Fixture *f, uint64_t bfn)
{
    uint32_t tail = pviommu_readl(f->iommu, XEN_PVIOMMU_REG_FAULT_TAIL);

    pviommu_assert_mapped(f->iommu, 0, bfn, f->peer.gfn, PEER_FRAMES, 0);
    edu_dma(&f->edu, true, ADDR(bfn) + PEER_TABLE, 64);
    edu_dma(&f->edu, false, ADDR(bfn) + PEER_TABLE, 64);
    g_assert_cmpuint(pviommu_readl(f->iommu, XEN_PVIOMMU_REG_FAULT_TAIL), ==,
                     tail);
    assert_status(map_peer(f, bfn + 0x100, 0), XEN_IOMMU_ENOENT);
}

/* As VFIO does, which resets functions while their BARs are mapped */
static void test_hidden_while_the_bar_is_disabled(const void *machine)
{
    Fixture f = fixture_start(machine, NULL, NULL);

    assert_status(map_peer(&f, BFN, 0), 0);
    for (unsigned i = 0; i < 3; i++) {
        assert_reached(&f, BFN);
        peer_enable(&f.peer, false);
        assert_hidden(&f, BFN);
        peer_enable(&f.peer, true);
    }
    assert_reached(&f, BFN);

    /* It can be unmapped meanwhile. */
    peer_enable(&f.peer, false);
    assert_status(pviommu_unmap(f.iommu, 0, BFN, PEER_FRAMES), 0);
    pviommu_assert_frames(f.iommu, 1, PEER_FRAMES);
    assert_status(pviommu_flush_all(f.iommu, 0), 0);
    pviommu_assert_frames(f.iommu, 1, 0);
    peer_enable(&f.peer, true);
    assert_gone(&f, BFN);
    assert_works(&f);
    pviommu_quit(f.iommu);
}

/* As a driver does that looks for the size of a BAR */
static void test_hidden_while_the_bar_is_sized(const void *machine)
{
    Fixture f = fixture_start(machine, NULL, NULL);
    uint32_t addr = f.peer.bar.addr;

    assert_status(map_peer(&f, BFN, 0), 0);
    qpci_config_writel(&f.peer.dev, PCI_BASE_ADDRESS_0, UINT32_MAX);
    assert_hidden(&f, BFN);
    qpci_config_writel(&f.peer.dev, PCI_BASE_ADDRESS_0, addr);
    assert_reached(&f, BFN);
    pviommu_quit(f.iommu);
}

static void test_hidden_while_the_function_sleeps(void)
{
    Fixture f = fixture_start("q35", NULL, "-device e1000e,romfile=,addr=14");
    QPCIAddress addr = { .devfn = QPCI_DEVFN(0x14, 0) };
    QPCIDevice dev;
    QPCIBar bar;
    uint8_t cap;

    qpci_device_init(&dev, f.iommu->pci, &addr);
    bar = qpci_iomap(&dev, 0, NULL);
    qpci_device_enable(&dev);
    cap = qpci_find_capability(&dev, PCI_CAP_ID_PM, 0);
    g_assert_cmpuint(cap, !=, 0);
    assert_status(pviommu_map(f.iommu, 0, BFN, bar.addr / PVIOMMU_PAGE, 8, 0),
                  0);
    qpci_config_writew(&dev, cap + PCI_PM_CTRL, PCI_PM_CTRL_STATE_MASK);
    pviommu_assert_mapped(f.iommu, 0, BFN, bar.addr / PVIOMMU_PAGE, 8, 0);
    assert_status(pviommu_map(f.iommu, 0, BFN + 0x100, bar.addr / PVIOMMU_PAGE,
                              8, 0), XEN_IOMMU_ENOENT);
    qpci_config_writew(&dev, cap + PCI_PM_CTRL, 0);
    edu_assert_access(&f.edu, ADDR(BFN) + PEER_TABLE, bar.addr + PEER_TABLE,
                      64);
    pviommu_quit(f.iommu);
}

/* Disabled, moved, and enabled: that it was to be gone shows at the end. */
static void test_gone_when_it_moves_hidden(const void *machine)
{
    Fixture f = fixture_start(machine, NULL, NULL);

    assert_status(map_peer(&f, BFN, 0), 0);
    assert_status(map_peer(&f, BFN + 0x200, 0), 0);
    assert_status(pviommu_unmap(f.iommu, 0, BFN + 0x200, PEER_FRAMES), 0);
    peer_enable(&f.peer, false);
    pviommu_assert_frames(f.iommu, 1 + PEER_FRAMES, PEER_FRAMES);
    peer_move(&f.peer, ELSEWHERE);
    pviommu_assert_frames(f.iommu, 1 + PEER_FRAMES, PEER_FRAMES);
    peer_enable(&f.peer, true);
    pviommu_assert_frames(f.iommu, 1, 0);
    assert_gone(&f, BFN);
    assert_works(&f);
    pviommu_quit(f.iommu);
}

/* Nothing that was not mapped is reached in place of what was. */
static void test_gone_when_another_is_there(const void *machine)
{
    Fixture f = fixture_start(machine, NULL, "-device e1000,romfile=,addr=14");
    uint64_t addr = f.peer.bar.addr;
    Peer other;

    peer_init(&other, f.iommu, QPCI_DEVFN(0x14, 0));
    assert_status(map_peer(&f, BFN, 0), 0);
    peer_enable(&f.peer, false);
    peer_move(&other, addr);
    assert_gone(&f, BFN);
    pviommu_assert_frames(f.iommu, 1, 0);
    /* And the other way round */
    assert_status(map_peer(&f, BFN, 0), 0);
    peer_enable(&other, false);
    pviommu_assert_frames(f.iommu, 1 + PEER_FRAMES, 0);
    peer_enable(&f.peer, true);
    assert_gone(&f, BFN);

    /* A part of it is covered: the IOMMU's own BAR is in the way. */
    assert_status(map_peer(&f, BFN, 0), 0);
    peer_enable(&f.peer, false);
    qpci_config_writel(&f.iommu->dev, PCI_BASE_ADDRESS_0,
                       addr + XEN_PVIOMMU_BAR_SIZE);
    f.iommu->bar.addr = addr + XEN_PVIOMMU_BAR_SIZE;
    /* Its last page is empty. */
    pviommu_assert_frames(f.iommu, 1 + PEER_FRAMES - 3, 0);
    pviommu_assert_unmapped(f.iommu, 0,
                            BFN + XEN_PVIOMMU_BAR_SIZE / PVIOMMU_PAGE);
    pviommu_assert_mapped(f.iommu, 0, BFN, f.peer.gfn,
                          XEN_PVIOMMU_BAR_SIZE / PVIOMMU_PAGE, 0);
    qpci_config_writel(&f.iommu->dev, PCI_BASE_ADDRESS_0, ELSEWHERE);
    f.iommu->bar.addr = ELSEWHERE;
    peer_enable(&f.peer, true);
    assert_status(pviommu_unmap_skip(f.iommu, 0, BFN, PEER_FRAMES), 0);
    assert_status(pviommu_flush_all(f.iommu, 0), 0);
    assert_works(&f);
    pviommu_quit(f.iommu);
}

static void check_gone_with_the_function(Fixture *f, unsigned port,
                                         unsigned slot, bool hidden)
{
    assert_status(map_peer(f, BFN, 0), 0);
    assert_reached(f, BFN);
    assert_status(pviommu_unmap(f->iommu, 0, BFN + 3, 4), 0);
    if (hidden) {
        peer_enable(&f->peer, false);
        pviommu_assert_frames(f->iommu, 1 + PEER_FRAMES - 4, 4);
    }
    hotplug_eject(f->iommu->qts, "peer", port, 0, slot);
    assert_gone(f, BFN);
    pviommu_assert_frames(f->iommu, 1, 0);
    assert_status(map_peer(f, BFN, 0), XEN_IOMMU_ENOENT);
    assert_status(pviommu_map(f->iommu, 0, BFN, GFN, 1, 0), 0);
    edu_assert_access(&f->edu, ADDR(BFN), ADDR(GFN), 64);
}

static void test_gone_with_the_function_of_pc(void)
{
    for (unsigned hidden = 0; hidden < 2; hidden++) {
        Fixture f = fixture_start("pc", NULL, NULL);

        check_gone_with_the_function(&f, HOTPLUG_PC, PEER_SLOT, hidden);
        pviommu_quit(f.iommu);
    }
}

#define BEHIND_A_PORT   "-device pcie-root-port,id=rp0,chassis=1,addr=5 " \
                        EDU_DEVICE ",addr=11 " PEER "bus=rp0"
#define PORT            QPCI_DEVFN(5, 0)

static Fixture start_behind_a_port(void)
{
    Fixture f = { .iommu = pviommu_start_accepted("q35", NULL, BEHIND_A_PORT) };

    edu_init(&f.edu, f.iommu, EDU_SBDF_A);
    bridge_init(f.iommu->pci, PORT, 0, 1, 1);
    peer_init(&f.peer, f.iommu, BRIDGE_DEVFN(1, 0, 0));
    assert_status(pviommu_enable(f.iommu), 0);
    edu_map_window(&f.edu, f.iommu, 0, 0);
    pviommu_fault_ring(f.iommu, 64);
    return f;
}

static void test_gone_with_the_function_of_q35(void)
{
    for (unsigned hidden = 0; hidden < 2; hidden++) {
        Fixture f = start_behind_a_port();

        check_gone_with_the_function(&f, HOTPLUG_ICH9, 0, hidden);
        pviommu_quit(f.iommu);
    }
}

/* The BAR stays where it is, and is not to be seen. */
static void test_hidden_with_the_window_of_the_bridge(void)
{
    Fixture f = start_behind_a_port();
    QPCIDevice *port = qpci_device_find(f.iommu->pci, PORT);
    uint16_t limit = qpci_config_readw(port, PCI_MEMORY_LIMIT);

    assert_status(map_peer(&f, BFN, 0), 0);
    assert_reached(&f, BFN);
    qpci_config_writew(port, PCI_MEMORY_LIMIT, 0);
    assert_hidden(&f, BFN);
    qpci_config_writew(port, PCI_MEMORY_LIMIT, limit);
    assert_reached(&f, BFN);
    g_free(port);
    pviommu_quit(f.iommu);
}

static void test_gone_with_a_reset(const void *machine)
{
    Fixture f = fixture_start(machine, NULL, NULL);

    assert_status(map_peer(&f, BFN, 0), 0);
    pviommu_reset(f.iommu);
    pviommu_accept(f.iommu, XEN_IOMMU_FEATURES_ALL);
    edu_init(&f.edu, f.iommu, EDU_SBDF_A);
    peer_init(&f.peer, f.iommu, QPCI_DEVFN(PEER_SLOT, 0));
    g_assert_true(pviommu_identity(f.iommu));
    edu_assert_access(&f.edu, f.peer.bar.addr + PEER_TABLE,
                      f.peer.bar.addr + PEER_TABLE, 64);
    assert_status(pviommu_enable(f.iommu), 0);
    pviommu_assert_frames(f.iommu, 0, 0);
    edu_map_window(&f.edu, f.iommu, 0, 0);
    assert_works(&f);
    pviommu_quit(f.iommu);
}

static char *file;

/* The source's machine ends, and f->iommu is what loads its stream. */
static bool move(Fixture *f, const char *machine, const char *props,
                 const char *devices)
{
    g_autofree char *more = g_strdup_printf("%s -incoming defer", devices);
    g_autofree char *args = pviommu_args(machine, props, more);
    QTestState *qts;
    bool loaded;

    migration_save(f->iommu->qts, file);
    qtest_quit(f->iommu->qts);
    qts = qtest_init(args);
    loaded = migration_load(qts, file);
    pviommu_moved(f->iommu, qts);
    return loaded;
}

#define MOVED           EDU_DEVICE ",addr=11 " PEER "addr=13"

static void test_migrates(const void *machine)
{
    Fixture f = fixture_start(machine, NULL, NULL);

    assert_status(map_peer(&f, BFN, 0), 0);
    assert_status(map_peer(&f, BFN + 0x100, RO), 0);
    assert_status(map_peer(&f, BFN + 0x200, 0), 0);
    assert_status(pviommu_unmap(f.iommu, 0, BFN + 0x200, PEER_FRAMES), 0);
    for (unsigned i = 0; i < 2; i++) {
        g_assert_true(move(&f, machine, NULL, MOVED));
    }
    /* The edu does not migrate, and the peer does. */
    edu_init(&f.edu, f.iommu, EDU_SBDF_A);
    peer_find(&f.peer, f.iommu, QPCI_DEVFN(PEER_SLOT, 0));
    pviommu_assert_mapped(f.iommu, 0, BFN, f.peer.gfn, PEER_FRAMES, 0);
    pviommu_assert_mapped(f.iommu, 0, BFN + 0x100, f.peer.gfn, PEER_FRAMES,
                          RO);
    pviommu_assert_frames(f.iommu, 1 + 2 * PEER_FRAMES, PEER_FRAMES);
    assert_reached(&f, BFN);
    edu_assert_readonly(&f.edu, ADDR(BFN + 0x100) + PEER_TABLE,
                        f.peer.bar.addr + PEER_TABLE, 64);
    /* It is followed as on the source. */
    peer_move(&f.peer, ELSEWHERE);
    pviommu_assert_frames(f.iommu, 1, 0);
    assert_gone(&f, BFN);
    assert_works(&f);
    pviommu_quit(f.iommu);
}

/* The other edu's BAR is not in the stream, nor on the destination. */
static void test_migrates_to_where_the_function_is_not(const void *machine)
{
    QEduPair pair = edu_start_pair(machine, NULL);
    Fixture f = { .iommu = pair.iommu };
    const uint64_t gfn = pair.b.bar.addr / PVIOMMU_PAGE;

    edu_map_window(&pair.a, f.iommu, 0, 0);
    assert_status(pviommu_map(f.iommu, 0, BFN, gfn, 256, 0), 0);
    assert_status(pviommu_map(f.iommu, 0, BFN + 0x1000, gfn, 256, 0), 0);
    assert_status(pviommu_unmap(f.iommu, 0, BFN + 0x1000, 16), 0);
    assert_status(pviommu_map(f.iommu, 0, BFN + 0x2000, GFN, 4, 0), 0);
    g_assert_true(move(&f, machine, NULL, EDU_PAIR));
    pviommu_assert_frames(f.iommu, 1 + 4, 0);
    pviommu_assert_unmapped(f.iommu, 0, BFN);
    edu_init(&pair.a, f.iommu, EDU_SBDF_A);
    edu_init(&pair.b, f.iommu, EDU_SBDF_B);
    edu_assert_access(&pair.a, ADDR(BFN + 0x2000), ADDR(GFN), 64);
    assert_status(pviommu_map(f.iommu, 0, BFN, pair.b.bar.addr / PVIOMMU_PAGE,
                              256, 0), 0);
    pviommu_quit(f.iommu);
}

static void test_migrates_only_to_where_it_is_offered(const void *machine)
{
    Fixture f = fixture_start(machine, NULL, NULL);

    g_assert_false(move(&f, machine, "mmio=off", MOVED));
    pviommu_quit(f.iommu);

    /* A guest that does not use it can, but not what it mapped before. */
    f = fixture_start(machine, NULL, NULL);
    assert_status(map_peer(&f, BFN, 0), 0);
    pviommu_accept(f.iommu, XEN_IOMMU_FEATURES_ALL & ~XEN_IOMMU_FEATURE_MMIO);
    g_assert_true(move(&f, machine, "mmio=off", MOVED));
    pviommu_assert_unmapped(f.iommu, 0, BFN);
    pviommu_assert_frames(f.iommu, 1, 0);
    assert_status(pviommu_map(f.iommu, 0, BFN, GFN, 1, 0), 0);
    pviommu_quit(f.iommu);
}

/* What is hidden as it moves is not found; nothing else is lost. */
static void test_migrates_but_for_what_is_hidden(const void *machine)
{
    Fixture f = fixture_start(machine, NULL, NULL);

    assert_status(map_peer(&f, BFN, 0), 0);
    assert_status(pviommu_map(f.iommu, 0, BFN + 0x1000, GFN, 4, 0), 0);
    peer_enable(&f.peer, false);
    g_assert_true(move(&f, machine, NULL, MOVED));
    peer_find(&f.peer, f.iommu, QPCI_DEVFN(PEER_SLOT, 0));
    peer_enable(&f.peer, true);
    pviommu_assert_frames(f.iommu, 1 + 4, 0);
    edu_init(&f.edu, f.iommu, EDU_SBDF_A);
    assert_gone(&f, BFN);
    pviommu_quit(f.iommu);
}

/* When it is loaded, the BAR is where it was moved to since. */
static void test_snapshot_restores_it(const void *machine)
{
    g_autofree char *image = g_strdup_printf("%s/xen-pviommu-mmio-%d.qcow2",
                                             g_get_tmp_dir(), getpid());
    Fixture f = fixture_start(machine, NULL, NULL);
    const uint64_t addr = f.peer.bar.addr;

    snapshot_image(f.iommu->qts, image);
    assert_status(map_peer(&f, BFN, 0), 0);
    snapshot_save(f.iommu->qts);
    peer_move(&f.peer, ELSEWHERE);
    assert_status(map_peer(&f, BFN, 0), 0);
    snapshot_load(f.iommu->qts);

    f.peer.bar.addr = addr;
    f.peer.gfn = addr / PVIOMMU_PAGE;
    pviommu_assert_mapped(f.iommu, 0, BFN, f.peer.gfn, PEER_FRAMES, 0);
    pviommu_assert_frames(f.iommu, 1 + PEER_FRAMES, 0);
    edu_init(&f.edu, f.iommu, EDU_SBDF_A);
    assert_reached(&f, BFN);
    assert_status(pviommu_unmap(f.iommu, 0, BFN, PEER_FRAMES), 0);
    assert_works(&f);
    pviommu_quit(f.iommu);
    unlink(image);
}

int main(int argc, char **argv)
{
    int ret;

    g_test_init(&argc, &argv, NULL);
    file = g_strdup_printf("%s/xen-pviommu-mmio-%d", g_get_tmp_dir(), getpid());
    pviommu_add_for_machines("mmio-bar/gone-when-the-bar-moves",
                             test_gone_when_the_bar_moves);
    pviommu_add_for_machines("mmio-bar/hidden-while-the-bar-is-disabled",
                             test_hidden_while_the_bar_is_disabled);
    pviommu_add_for_machines("mmio-bar/hidden-while-the-bar-is-sized",
                             test_hidden_while_the_bar_is_sized);
    pviommu_add("mmio-bar/hidden-while-the-function-sleeps",
                test_hidden_while_the_function_sleeps);
    pviommu_add_for_machines("mmio-bar/gone-when-it-moves-hidden",
                             test_gone_when_it_moves_hidden);
    pviommu_add_for_machines("mmio-bar/gone-when-another-is-there",
                             test_gone_when_another_is_there);
    pviommu_add("mmio-bar/gone-with-the-function/pc",
                test_gone_with_the_function_of_pc);
    pviommu_add("mmio-bar/gone-with-the-function/q35",
                test_gone_with_the_function_of_q35);
    pviommu_add("mmio-bar/hidden-with-the-window-of-the-bridge",
                test_hidden_with_the_window_of_the_bridge);
    pviommu_add_for_machines("mmio-bar/gone-with-a-reset",
                             test_gone_with_a_reset);
    pviommu_add_for_machines("mmio-bar/migrates", test_migrates);
    pviommu_add_for_machines("mmio-bar/migrates-to-where-the-function-is-not",
                             test_migrates_to_where_the_function_is_not);
    pviommu_add_for_machines("mmio-bar/migrates-only-to-where-it-is-offered",
                             test_migrates_only_to_where_it_is_offered);
    pviommu_add_for_machines("mmio-bar/migrates-but-for-what-is-hidden",
                             test_migrates_but_for_what_is_hidden);
    pviommu_add_for_machines("mmio-bar/snapshot-restores-it",
                             test_snapshot_restores_it);
    ret = g_test_run();
    unlink(file);
    g_free(file);
    return ret;
}
