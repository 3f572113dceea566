/*
 * xen-pviommu: devices of the host, which VFIO assigns to the machine
 *
 * It needs a host with an IOMMU: tests/functional/listeners is one.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <linux/capability.h>
#include "qemu/units.h"
#include "qobject/qdict.h"
#include "qobject/qjson.h"
#include "libqos/snapshot.h"
#include "libqos/vfio-host.h"
#include "libqos/virtio-ram.h"
#include "libqos/xen-pviommu-qmp.h"
#include "standard-headers/linux/virtio_mem.h"

#define GFN             0x4000ull               /* aligned to 2 MiB */
#define BFN             0x4000000ull            /* aligned to 1 GiB */
#define BLOCK           512u
#define ADDR(frame)     ((uint64_t)(frame) * PVIOMMU_PAGE)
#define RO              XEN_IOMMUOP_map_readonly

/* From BFN and GFN on */
#define RANDOM_FRAMES   4096u
#define RANDOM_GFNS     0x8000u
#define RANDOM_ROUNDS   4
#define RANDOM_OPS      25

#define RAM_SLOT        0x14
#define BALLOON         "-device virtio-balloon-pci,addr=14 "
#define VIRTIO_MEM      "-m maxmem=1G " \
                        "-object memory-backend-ram,id=mem,size=64M " \
                        "-device virtio-mem-pci,addr=14,memdev=mem," \
                        "requested-size=64M "
#define IOMMUFD         "-object iommufd,id=i "

typedef struct Fixture {
    QXenPVIOMMU *iommu;
    QEdu a, b;
} Fixture;

/* In the slots of EDU_PAIR, @nr of them */
static char *assigned_args(unsigned nr)
{
    GString *args = g_string_new(vfio_host.iommufd ? IOMMUFD : NULL);

    for (unsigned i = 0; i < nr; i++) {
        g_string_append_printf(args, "-device vfio-pci,host=%s,addr=1%u%s ",
                               vfio_host.edus[i], i + 1,
                               vfio_host.iommufd ? ",iommufd=i" : "");
    }
    return g_string_free(args, false);
}

static void find_edus(Fixture *f, unsigned nr)
{
    edu_init(&f->a, f->iommu, EDU_SBDF_A);
    if (nr > 1) {
        edu_init(&f->b, f->iommu, EDU_SBDF_B);
    }
    pviommu_accept(f->iommu, XEN_IOMMU_FEATURES_ALL);
}

static Fixture *fixture_new(const char *machine, const char *props,
                            const char *extra, unsigned nr)
{
    g_autofree char *devices = assigned_args(nr);
    g_autofree char *args = g_strconcat(devices, extra, NULL);
    Fixture *f = g_new0(Fixture, 1);

    f->iommu = pviommu_start(machine, props, args);
    find_edus(f, nr);
    return f;
}

static void fixture_free(Fixture *f)
{
    pviommu_quit(f->iommu);
    g_free(f);
}

static void map(Fixture *f, uint16_t ctx, uint64_t bfn, uint64_t gfn,
                uint32_t nr, uint16_t flags)
{
    assert_status(pviommu_map(f->iommu, ctx, bfn, gfn, nr, flags), 0);
}

static void unmap(Fixture *f, uint16_t ctx, uint64_t bfn, uint32_t nr)
{
    assert_status(pviommu_unmap(f->iommu, ctx, bfn, nr), 0);
    assert_status(pviommu_flush(f->iommu, ctx, bfn, nr), 0);
}

/* Until the guest maps anything, all memory is in reach; then nothing else. */
static void test_identity_mode_ends_with_the_first_map(const void *machine)
{
    Fixture *f = fixture_new(machine, NULL, NULL, 1);

    g_assert_true(pviommu_identity(f->iommu));
    edu_assert_access(&f->a, ADDR(GFN), ADDR(GFN), PVIOMMU_PAGE);
    edu_assert_access(&f->a, PVIOMMU_RAM - 64, PVIOMMU_RAM - 64, 64);

    edu_map_window(&f->a, f->iommu, 0, 0);
    g_assert_false(pviommu_identity(f->iommu));
    edu_assert_no_access(&f->a, ADDR(GFN), ADDR(GFN), 64);
    vfio_host_assert_faults(&f->a, ADDR(GFN));
    map(f, 0, BFN, GFN, 0, 0);
    edu_assert_access(&f->a, ADDR(BFN), ADDR(GFN), 64);
    fixture_free(f);
}

static void test_reaches_mapped_pages_only(const void *machine)
{
    Fixture *f = fixture_new(machine, "premap=off", NULL, 1);
    const uint64_t last = (1ull << (vfio_host.bits - XEN_IOMMU_PAGE_SHIFT)) - 1;

    edu_map_window(&f->a, f->iommu, 0, 0);
    map(f, 0, BFN, GFN, 3, 0);
    edu_assert_access(&f->a, ADDR(BFN) + 0x123, ADDR(GFN) + 0x123, 0x456);
    edu_assert_access(&f->a, ADDR(BFN + 2), ADDR(GFN + 2), PVIOMMU_PAGE);
    edu_assert_no_access(&f->a, ADDR(BFN + 3), ADDR(GFN + 3), 64);
    vfio_host_assert_faults(&f->a, ADDR(BFN + 3));

    /* The last that the host can map, and one page at two BFNs */
    map(f, 0, last, GFN, 0, 0);
    edu_assert_access(&f->a, ADDR(last), ADDR(GFN), 64);
    edu_assert_access(&f->a, ADDR(BFN), ADDR(GFN), 64);

    unmap(f, 0, BFN + 1, 1);
    edu_assert_no_access(&f->a, ADDR(BFN + 1), ADDR(GFN + 1), 64);
    edu_assert_access(&f->a, ADDR(BFN), ADDR(GFN), 64);
    edu_assert_access(&f->a, ADDR(BFN + 2), ADDR(GFN + 2), 64);
    map(f, 0, BFN + 1, GFN + 77, 1, 0);
    edu_assert_access(&f->a, ADDR(BFN + 1), ADDR(GFN + 77), 64);
    fixture_free(f);
}

static void test_does_not_write_readonly_pages(const void *machine)
{
    Fixture *f = fixture_new(machine, "premap=off", NULL, 1);

    edu_map_window(&f->a, f->iommu, 0, 0);
    map(f, 0, BFN, GFN, 4, RO);
    edu_assert_readonly(&f->a, ADDR(BFN + 1), ADDR(GFN + 1), 64);
    unmap(f, 0, BFN, 4);
    map(f, 0, BFN, GFN, 4, 0);
    edu_assert_access(&f->a, ADDR(BFN + 1), ADDR(GFN + 1), 64);
    fixture_free(f);
}

/* What the host cannot map is reserved. */
static void test_wider_bfns_are_reserved(const void *machine)
{
    const uint64_t end = 1ull << (vfio_host.bits - XEN_IOMMU_PAGE_SHIFT);
    Fixture *f;

    if (vfio_host.bits >= 48) {
        g_test_skip("the host's IOMMU maps all BFNs");
        return;
    }
    f = fixture_new(machine, "premap=off", NULL, 1);
    assert_status(pviommu_map(f->iommu, 0, end, GFN, 0, 0),
                  XEN_IOMMU_EADDRNOTAVAIL);
    assert_status(pviommu_map(f->iommu, 0, end - 1, GFN, 2, 0),
                  XEN_IOMMU_EADDRNOTAVAIL);
    edu_map_window(&f->a, f->iommu, 0, 0);
    map(f, 0, end - 1, GFN, 1, 0);
    edu_assert_access(&f->a, ADDR(end - 1), ADDR(GFN), 64);
    fixture_free(f);
}

/* Blocks as large as the host's page tables have them, and parts of these */
static void test_parts_of_large_blocks_go(const void *machine)
{
    const unsigned nr = 32 * BLOCK;
    Fixture *f = fixture_new(machine, "premap=off", NULL, 1);

    edu_map_window(&f->a, f->iommu, 0, 0);
    map(f, 0, BFN, GFN, nr, 0);
    edu_assert_access(&f->a, ADDR(BFN), ADDR(GFN), 64);
    edu_assert_access(&f->a, ADDR(BFN + nr - 1), ADDR(GFN + nr - 1), 64);

    unmap(f, 0, BFN + 3 * BLOCK + 5, 1);
    edu_assert_no_access(&f->a, ADDR(BFN + 3 * BLOCK + 5),
                         ADDR(GFN + 3 * BLOCK + 5), 64);
    edu_assert_access(&f->a, ADDR(BFN + 3 * BLOCK + 4),
                      ADDR(GFN + 3 * BLOCK + 4), 64);
    edu_assert_access(&f->a, ADDR(BFN + 3 * BLOCK + 6),
                      ADDR(GFN + 3 * BLOCK + 6), 64);

    unmap(f, 0, BFN + 8 * BLOCK, 2 * BLOCK);
    edu_assert_no_access(&f->a, ADDR(BFN + 9 * BLOCK), ADDR(GFN + 9 * BLOCK),
                         64);
    edu_assert_access(&f->a, ADDR(BFN + 8 * BLOCK - 1),
                      ADDR(GFN + 8 * BLOCK - 1), 64);
    edu_assert_access(&f->a, ADDR(BFN + 10 * BLOCK), ADDR(GFN + 10 * BLOCK),
                      64);
    assert_status(pviommu_unmap_skip(f->iommu, 0, BFN, nr), 0);
    assert_status(pviommu_flush_all(f->iommu, 0), 0);
    pviommu_assert_frames(f->iommu, 1, 0);
    edu_assert_no_access(&f->a, ADDR(BFN + 10 * BLOCK), ADDR(GFN + 10 * BLOCK),
                         64);
    fixture_free(f);
}

static void test_attach_replays_the_context(const void *machine)
{
    Fixture *f = fixture_new(machine, "premap=off", NULL, 1);
    uint16_t ctx = pviommu_alloc_context(f->iommu);

    edu_map_window(&f->a, f->iommu, 0, 0);
    map(f, 0, BFN, GFN, BLOCK, 0);
    map(f, ctx, BFN + 1, GFN + 1000, BLOCK, 0);
    map(f, ctx, BFN + 4 * BLOCK, GFN, 1, RO);
    assert_status(pviommu_attach(f->iommu, EDU_SBDF_A, ctx), 0);
    edu_map_window(&f->a, f->iommu, ctx, 1);
    edu_assert_access(&f->a, ADDR(BFN + 1), ADDR(GFN + 1000), 64);
    edu_assert_access(&f->a, ADDR(BFN + BLOCK), ADDR(GFN + 999 + BLOCK), 64);
    edu_assert_readonly(&f->a, ADDR(BFN + 4 * BLOCK), ADDR(GFN), 64);
    edu_assert_no_access(&f->a, ADDR(BFN), ADDR(GFN), 64);

    assert_status(pviommu_attach(f->iommu, EDU_SBDF_A, 0), 0);
    edu_map_window(&f->a, f->iommu, 0, 2);
    edu_assert_access(&f->a, ADDR(BFN), ADDR(GFN), 64);
    edu_assert_no_access(&f->a, ADDR(BFN + 4 * BLOCK), ADDR(GFN), 64);
    fixture_free(f);
}

static void test_devices_reach_their_own_contexts(const void *machine)
{
    Fixture *f = fixture_new(machine, "premap=off", NULL, 2);
    uint16_t ctx = pviommu_alloc_context(f->iommu);

    assert_status(pviommu_attach(f->iommu, EDU_SBDF_B, ctx), 0);
    edu_map_window(&f->a, f->iommu, 0, 0);
    edu_map_window(&f->b, f->iommu, ctx, 1);
    map(f, 0, BFN, GFN, 8, 0);
    map(f, ctx, BFN, GFN + 100, 4, 0);
    edu_assert_access(&f->a, ADDR(BFN), ADDR(GFN), 64);
    edu_assert_access(&f->b, ADDR(BFN), ADDR(GFN + 100), 64);
    edu_assert_no_access(&f->b, ADDR(BFN + 5), ADDR(GFN + 5), 64);
    unmap(f, ctx, BFN, 4);
    edu_assert_no_access(&f->b, ADDR(BFN), ADDR(GFN), 64);
    edu_assert_access(&f->a, ADDR(BFN), ADDR(GFN), 64);

    /* And in one context */
    assert_status(pviommu_attach(f->iommu, EDU_SBDF_B, 0), 0);
    edu_map_window(&f->b, f->iommu, 0, 2);
    edu_assert_access(&f->b, ADDR(BFN + 5), ADDR(GFN + 5), 64);
    unmap(f, 0, BFN, 8);
    edu_assert_no_access(&f->a, ADDR(BFN), ADDR(GFN), 64);
    edu_assert_no_access(&f->b, ADDR(BFN), ADDR(GFN), 64);
    fixture_free(f);
}

/* Whatever was mapped: the machine begins again with all of its memory. */
static void test_reset_takes_all_back(const void *machine)
{
    Fixture *f = fixture_new(machine, NULL, NULL, 1);

    for (unsigned round = 0; round < 2; round++) {
        edu_map_window(&f->a, f->iommu, 0, 0);
        map(f, 0, BFN + round, GFN, BLOCK, 0);
        edu_assert_access(&f->a, ADDR(BFN + round), ADDR(GFN), 64);
        pviommu_reset(f->iommu);
        find_edus(f, 1);
        edu_assert_access(&f->a, ADDR(GFN + 7), ADDR(GFN + 7), 64);
        edu_assert_no_access(&f->a, ADDR(BFN + round), ADDR(GFN), 64);
    }
    fixture_free(f);
}

static void plug(Fixture *f)
{
    if (vfio_host.iommufd) {
        qtest_qmp_device_add(f->iommu->qts, "vfio-pci", "hot",
                             "{'host': %s, 'addr': '0x11', 'iommufd': 'i'}",
                             vfio_host.edus[0]);
    } else {
        qtest_qmp_device_add(f->iommu->qts, "vfio-pci", "hot",
                             "{'host': %s, 'addr': '0x11'}", vfio_host.edus[0]);
    }
    edu_init(&f->a, f->iommu, EDU_SBDF_A);
}

/* It has what its context maps, and nothing of it once it is gone. */
static void test_plugged_device_reaches_the_context(void)
{
    Fixture *f = g_new0(Fixture, 1);

    f->iommu = pviommu_start_accepted("pc", "premap=off",
                                      vfio_host.iommufd ? IOMMUFD : NULL);
    map(f, 0, BFN, GFN, BLOCK, 0);
    for (unsigned round = 0; round < 3; round++) {
        plug(f);
        edu_map_window(&f->a, f->iommu, 0, round);
        edu_assert_access(&f->a, ADDR(BFN + round), ADDR(GFN + round), 64);
        qpci_unplug_acpi_device_test(f->iommu->qts, "hot", 0x11);
        unmap(f, 0, BFN + round, 1);
    }
    fixture_free(f);
}

/* The page is gone for the device before the host has it back. */
static void test_discarded_page_is_unmapped(const void *machine)
{
    Fixture *f = fixture_new(machine, "premap=off", BALLOON, 1);
    QVirtioRam balloon;

    virtio_ram_init(&balloon, f->iommu, QPCI_DEVFN(RAM_SLOT, 0), 3);
    edu_map_window(&f->a, f->iommu, 0, 0);
    map(f, 0, BFN, GFN, BLOCK, 0);
    qtest_writeq(f->iommu->qts, ADDR(GFN + 5), 0x5a5a5a5a);
    qtest_writeq(f->iommu->qts, ADDR(GFN + 6), 0x5a5a5a5a);
    balloon_give(&balloon, BALLOON_INFLATE, GFN + 5, 1);

    g_assert_cmphex(qtest_readq(f->iommu->qts, ADDR(GFN + 5)), ==, 0);
    g_assert_cmphex(qtest_readq(f->iommu->qts, ADDR(GFN + 6)), ==, 0x5a5a5a5a);
    pviommu_assert_unmapped(f->iommu, 0, BFN + 5);
    edu_assert_no_access(&f->a, ADDR(BFN + 5), ADDR(GFN + 5), 64);
    edu_assert_access(&f->a, ADDR(BFN + 4), ADDR(GFN + 4), 64);
    edu_assert_access(&f->a, ADDR(BFN + 6), ADDR(GFN + 6), 64);
    vfio_host_assert_faults(&f->a, ADDR(BFN + 5));
    balloon_give(&balloon, BALLOON_DEFLATE, GFN + 5, 1);
    map(f, 0, BFN + 5, GFN + 5, 0, 0);
    edu_assert_access(&f->a, ADDR(BFN + 5), ADDR(GFN + 5), 64);
    virtio_ram_finalize(&balloon);
    fixture_free(f);
}

static void set_plugged(QVirtioRam *mem, uint64_t addr, bool plugged)
{
    g_assert_cmpint(virtio_mem_request(mem, plugged ? VIRTIO_MEM_REQ_PLUG
                                                    : VIRTIO_MEM_REQ_UNPLUG,
                                       addr, 1), ==, VIRTIO_MEM_RESP_ACK);
}

/* So is a block of virtio-mem; plugged again, it is other memory. */
static void test_unplugged_block_is_unmapped(const void *machine)
{
    Fixture *f = fixture_new(machine, "premap=off", VIRTIO_MEM, 1);
    uint64_t addr, size, gfn, nr;
    QVirtioRam mem;

    virtio_ram_init(&mem, f->iommu, QPCI_DEVFN(RAM_SLOT, 0), 1);
    addr = virtio_mem_addr(&mem);
    size = virtio_mem_block_size(&mem);
    gfn = addr / PVIOMMU_PAGE;
    nr = size / PVIOMMU_PAGE;
    edu_map_window(&f->a, f->iommu, 0, 0);
    set_plugged(&mem, addr, true);
    set_plugged(&mem, addr + size, true);
    map(f, 0, BFN, gfn, 2 * nr, 0);
    edu_assert_access(&f->a, ADDR(BFN), addr, 64);
    edu_assert_access(&f->a, ADDR(BFN + 2 * nr - 1), addr + ADDR(2 * nr - 1),
                      64);

    set_plugged(&mem, addr + size, false);
    pviommu_assert_unmapped(f->iommu, 0, BFN + nr);
    vfio_host_assert_faults(&f->a, ADDR(BFN + nr));
    edu_assert_access(&f->a, ADDR(BFN + nr - 1), addr + ADDR(nr - 1), 64);
    set_plugged(&mem, addr + size, true);
    vfio_host_assert_faults(&f->a, ADDR(BFN + nr));
    map(f, 0, BFN + nr, gfn + nr, nr, 0);
    edu_assert_access(&f->a, ADDR(BFN + nr), addr + size, 64);
    virtio_ram_finalize(&mem);
    fixture_free(f);
}

static unsigned rand_below(unsigned end)
{
    return g_test_rand_int_range(0, end);
}

/* @gfns: of each frame, or 0 */
static void random_op(Fixture *f, uint64_t *gfns)
{
    unsigned first = rand_below(RANDOM_FRAMES);
    unsigned nr = 1 + rand_below(MIN(RANDOM_FRAMES - first,
                                     1u << rand_below(12)));
    uint64_t gfn = GFN + rand_below(RANDOM_GFNS - RANDOM_FRAMES);
    unsigned what = rand_below(16);
    bool taken = false;

    if (what < 8) {
        for (unsigned i = first; i < first + nr; i++) {
            taken |= gfns[i] != 0;
        }
        assert_status(pviommu_map(f->iommu, 0, BFN + first, gfn, nr, 0),
                      taken ? XEN_IOMMU_EEXIST : 0);
        for (unsigned i = 0; !taken && i < nr; i++) {
            gfns[first + i] = gfn + i;
        }
    } else if (what < 15) {
        /* Less, so that parts stay */
        nr = 1 + nr / 4;
        assert_status(pviommu_unmap_skip(f->iommu, 0, BFN + first, nr), 0);
        memset(gfns + first, 0, nr * sizeof(*gfns));
    } else {
        assert_status(pviommu_flush(f->iommu, 0, BFN + first, nr), 0);
    }
}

/* Whether it was mapped, is not, and what was mapped beside it with it is. */
static bool was_cut_off(const uint64_t *gfns, const uint64_t *old, unsigned i)
{
    return old[i] && !gfns[i] &&
           ((i && gfns[i - 1] == old[i] - 1) ||
            (i + 1 < RANDOM_FRAMES && gfns[i + 1] == old[i] + 1));
}

/*
 * The host cannot unmap a part of what was mapped at once, and QEMU does not
 * say so of iommufd: frames that were cut off are tried.
 */
static void test_random_ranges_are_in_reach(const void *machine)
{
    g_autofree uint64_t *gfns = g_new0(uint64_t, RANDOM_FRAMES);
    g_autofree uint64_t *old = g_new0(uint64_t, RANDOM_FRAMES);
    Fixture *f = fixture_new(machine, "premap=off", NULL, 1);

    edu_map_window(&f->a, f->iommu, 0, 0);
    for (unsigned round = 0; round < RANDOM_ROUNDS; round++) {
        unsigned first = rand_below(RANDOM_FRAMES), cut = 3, there = 1;

        memcpy(old, gfns, RANDOM_FRAMES * sizeof(*gfns));
        for (unsigned i = 0; i < RANDOM_OPS; i++) {
            random_op(f, gfns);
        }
        assert_status(pviommu_flush_all(f->iommu, 0), 0);
        for (unsigned n = 0; n < RANDOM_FRAMES; n++) {
            unsigned i = (first + n) % RANDOM_FRAMES;

            if (there && gfns[i]) {
                there--;
                edu_assert_access(&f->a, ADDR(BFN + i), ADDR(gfns[i]), 64);
            } else if (cut && was_cut_off(gfns, old, i)) {
                cut--;
                edu_assert_no_access(&f->a, ADDR(BFN + i), ADDR(old[i]), 64);
            }
        }
    }
    fixture_free(f);
}

static void assert_names_the_device(char *error)
{
    g_assert_nonnull(error);
    g_test_message("%s", error);
    g_assert_nonnull(strstr(error, vfio_host.edus[0]));
    g_free(error);
}

/*
 * A device that cannot be migrated is no worse for being asked, and what is
 * asked names it.
 */
static void test_migration_is_refused(const void *machine)
{
    g_autofree char *image = g_strdup_printf("%s/vfio-%d.qcow2",
                                             g_get_tmp_dir(), getpid());
    Fixture *f = fixture_new(machine, "premap=off", NULL, 1);
    QTestState *qts = f->iommu->qts;
    g_autoptr(GString) reasons = NULL;
    QDict *info;

    edu_map_window(&f->a, f->iommu, 0, 0);
    map(f, 0, BFN, GFN, BLOCK, 0);
    assert_names_the_device(qmp_error_text(
        qtest_qmp(qts, "{'execute': 'migrate',"
                       " 'arguments': {'uri': 'file:/tmp/x'}}")));
    snapshot_image(qts, image);
    assert_names_the_device(snapshot_run(qts, "snapshot-save"));
    info = qtest_qmp_assert_success_ref(qts, "{'execute': 'query-migrate'}");
    reasons = qobject_to_json(qdict_get(info, "blocked-reasons"));
    assert_names_the_device(g_strdup(reasons->str));
    qobject_unref(info);
    edu_assert_access(&f->a, ADDR(BFN), ADDR(GFN), 64);
    fixture_free(f);
    unlink(image);
}

static bool measuring(Fixture *f)
{
    QDict *info = qtest_qmp_assert_success_ref(f->iommu->qts,
                                               "{'execute': "
                                               "'query-dirty-rate'}");
    bool is = !strcmp(qdict_get_str(info, "status"), "measuring");

    qobject_unref(info);
    return is;
}

/*
 * The host's kernel tracks what is written as long as that is measured: what is
 * unmapped then is out of reach as at other times, a page or all of a context.
 */
static void test_unmapped_while_writes_are_tracked(const void *machine)
{
    Fixture *f = fixture_new(machine, "premap=off", NULL, 1);
    uint16_t ctx = pviommu_alloc_context(f->iommu);
    /* All above the half of what there is is one block to the host. */
    const uint64_t high =
        (1ull << (vfio_host.bits - 1 - XEN_IOMMU_PAGE_SHIFT)) + 0x10000;

    edu_map_window(&f->a, f->iommu, 0, 0);
    map(f, 0, BFN, GFN, BLOCK, 0);
    map(f, 0, BFN + 0x1001, GFN + BLOCK, 3, RO);
    map(f, 0, high, GFN + 3 * BLOCK, 4, 0);
    map(f, ctx, BFN + 0x2000, GFN + 2 * BLOCK, 3, 0);
    qtest_qmp_assert_success(f->iommu->qts, "{'execute': 'calc-dirty-rate',"
                             " 'arguments': {'calc-time': 10,"
                             " 'mode': 'dirty-bitmap'}}");
    edu_assert_access(&f->a, ADDR(BFN + 7), ADDR(GFN + 7), 64);
    unmap(f, 0, BFN + 7, 1);
    edu_assert_no_access(&f->a, ADDR(BFN + 7), ADDR(GFN + 7), 64);
    edu_assert_access(&f->a, ADDR(BFN + 6), ADDR(GFN + 6), 64);
    edu_assert_readonly(&f->a, ADDR(BFN + 0x1001), ADDR(GFN + BLOCK), 64);
    edu_assert_access(&f->a, ADDR(high), ADDR(GFN + 3 * BLOCK), 64);
    assert_status(pviommu_attach(f->iommu, EDU_SBDF_A, ctx), 0);
    edu_map_window(&f->a, f->iommu, ctx, 1);
    g_assert_true(measuring(f));
    edu_assert_access(&f->a, ADDR(BFN + 0x2000), ADDR(GFN + 2 * BLOCK), 64);
    edu_assert_no_access(&f->a, ADDR(BFN), ADDR(GFN), 64);
    edu_assert_no_access(&f->a, ADDR(high), ADDR(GFN + 3 * BLOCK), 64);
    while (measuring(f)) {
        g_usleep(100000);
    }
    edu_assert_access(&f->a, ADDR(BFN + 0x2000), ADDR(GFN + 2 * BLOCK), 64);
    vfio_host_assert_faults(&f->a, ADDR(BFN));
    fixture_free(f);
}

/* From here on limits of memory hold for this process and what it starts. */
static void drop_capability(unsigned cap)
{
    struct __user_cap_header_struct head = {
        .version = _LINUX_CAPABILITY_VERSION_3,
    };
    struct __user_cap_data_struct data[2];

    g_assert_cmpint(prctl(PR_CAPBSET_DROP, cap), ==, 0);
    g_assert_cmpint(syscall(SYS_capget, &head, data), ==, 0);
    data[cap / 32].effective &= ~(1u << (cap % 32));
    data[cap / 32].permitted &= ~(1u << (cap % 32));
    data[cap / 32].inheritable &= ~(1u << (cap % 32));
    g_assert_cmpint(syscall(SYS_capset, &head, data), ==, 0);
}

/*
 * The process may lock no more: what does not fit is not in reach, all of it;
 * what is mapped stays; and it can be mapped when there is room again.
 */
static void test_locked_memory_is_limited(const void *machine)
{
    struct rlimit old, limit = { 64 * MiB, 64 * MiB };
    const unsigned nr = 24 * MiB / PVIOMMU_PAGE;
    Fixture *f;

    g_assert_cmpint(getrlimit(RLIMIT_MEMLOCK, &old), ==, 0);
    drop_capability(CAP_IPC_LOCK);
    g_assert_cmpint(setrlimit(RLIMIT_MEMLOCK, &limit), ==, 0);
    f = fixture_new(machine, "premap=off", NULL, 1);
    edu_map_window(&f->a, f->iommu, 0, 0);
    map(f, 0, BFN, GFN, nr, 0);
    map(f, 0, BFN + 0x10000, GFN + nr, nr, 0);
    /* VFIO cannot tell the guest. */
    map(f, 0, BFN + 0x20000, GFN + 2 * nr, nr / 2 + nr, 0);
    for (unsigned i = 0; i < 2; i++) {
        edu_assert_access(&f->a, ADDR(BFN + i * 0x10000), ADDR(GFN + i * nr),
                          64);
    }
    for (unsigned i = 0; i < 3; i++) {
        edu_assert_no_access(&f->a, ADDR(BFN + 0x20000 + i * nr / 2),
                             ADDR(GFN + 2 * nr + i * nr / 2), 64);
    }
    unmap(f, 0, BFN + 0x20000, nr / 2 + nr);
    unmap(f, 0, BFN, nr);
    map(f, 0, BFN + 0x20000, GFN + 2 * nr, nr, 0);
    edu_assert_access(&f->a, ADDR(BFN + 0x20000), ADDR(GFN + 2 * nr), 64);
    fixture_free(f);
    g_assert_cmpint(setrlimit(RLIMIT_MEMLOCK, &old), ==, 0);
}

static const struct {
    const char *path;
    void (*test)(const void *machine);
} tests[] = {
    { "vfio/identity-mode-ends-with-the-first-map",
      test_identity_mode_ends_with_the_first_map },
    { "vfio/reaches-mapped-pages-only", test_reaches_mapped_pages_only },
    { "vfio/does-not-write-readonly-pages",
      test_does_not_write_readonly_pages },
    { "vfio/wider-bfns-are-reserved", test_wider_bfns_are_reserved },
    { "vfio/parts-of-large-blocks-go", test_parts_of_large_blocks_go },
    { "vfio/attach-replays-the-context", test_attach_replays_the_context },
    { "vfio/devices-reach-their-own-contexts",
      test_devices_reach_their_own_contexts },
    { "vfio/reset-takes-all-back", test_reset_takes_all_back },
    { "vfio/discarded-page-is-unmapped", test_discarded_page_is_unmapped },
    { "vfio/unplugged-block-is-unmapped", test_unplugged_block_is_unmapped },
    { "vfio/migration-is-refused", test_migration_is_refused },
    { "vfio/unmapped-while-writes-are-tracked",
      test_unmapped_while_writes_are_tracked },
    /* Last, as this process can do less from then on. */
    { "vfio/locked-memory-is-limited", test_locked_memory_is_limited },
};

/* As it is called where VFIO uses iommufd, too. */
static char *test_path(const char *path)
{
    return vfio_host.iommufd
        ? g_strconcat("iommufd", path + strlen("vfio"), NULL)
        : g_strdup(path);
}

int main(int argc, char **argv)
{
    g_autofree char *plugged = NULL, *random = NULL, *on_q35 = NULL;

    g_test_init(&argc, &argv, NULL);
    if (!vfio_host_init()) {
        return 1;
    }
    plugged = test_path("vfio/plugged-device-reaches-the-context");
    random = test_path("vfio/random-ranges-are-in-reach");
    on_q35 = g_strconcat("q35/", random, NULL);
    pviommu_add(plugged, test_plugged_device_reaches_the_context);
    pviommu_add_data(on_q35, "q35", test_random_ranges_are_in_reach);
    for (size_t i = 0; i < ARRAY_SIZE(tests); i++) {
        g_autofree char *path = test_path(tests[i].path);

        pviommu_add_for_machines(path, tests[i].test);
    }
    return g_test_run();
}
