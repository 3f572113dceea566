/*
 * xen-pviommu: what migration carries
 *
 * Most tests save the way Xen's toolstack does, which leaves out RAM, and load
 * the section of our device alone. What is refused is in refused-test.
 *
 * By hand, with -p /x86_64/xen-pviommu/q35/vmstate/ and the test's name:
 *   XEN_PVIOMMU_RECORD=FILE     record: write the stream that
 *                               stream-of-the-first-release-loads reads; never
 *                               again once a release wrote it
 *   XEN_PVIOMMU_RUNS=1000000    many-runs-are-small: measure the pause
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include <sys/un.h>
#include "qemu/bswap.h"
#include "qemu/host-utils.h"
#include "qobject/qdict.h"
#include "qobject/qlist.h"
#include "hw/pci/pci_regs.h"
#include "libqos/bridge.h"
#include "libqos/migration.h"
#include "libqos/xen-pviommu-stream.h"

/* The machine, before the migration into it. */
static QXenPVIOMMU *start_incoming(const char *machine, const char *props,
                                   const char *extra)
{
    g_autofree char *all = g_strconcat("-incoming defer ", extra, NULL);

    return pviommu_start(machine, props, all);
}

/* A machine like that of stream_start(), with what @path has of our device. */
static QXenPVIOMMU *start_loaded(const char *path, const char *props,
                                 const char *extra)
{
    g_autofree char *all = g_strconcat(SECTION_ARGS TWO_EDUS, extra, NULL);
    QXenPVIOMMU *iommu = start_incoming(SECTION_MACHINE("q35"), props, all);

    g_assert_true(migration_load(iommu->qts, path));
    return iommu;
}

static void assert_same_files(const char *a, const char *b)
{
    g_autofree char *data_a = NULL;
    g_autofree char *data_b = NULL;
    size_t len_a, len_b;

    g_assert_true(g_file_get_contents(a, &data_a, &len_a, NULL));
    g_assert_true(g_file_get_contents(b, &data_b, &len_b, NULL));
    g_assert_cmpmem(data_a, len_a, data_b, len_b);
}

/* savevm and loadvm: all is different before the latter. */
static void test_snapshot_restores_all(void)
{
    g_autofree char *first = stream_file("first");
    g_autofree char *second = stream_file("second");
    g_autofree char *image = stream_file("image");
    QXenPVIOMMU *iommu = stream_start(NULL, "");
    uint64_t tail;

    snapshot_image(iommu->qts, image);
    stream_fill(iommu);
    stream_stop(iommu);
    stream_save(iommu, first);
    g_assert_cmpstr(snapshot_run(iommu->qts, "snapshot-save"), ==, NULL);
    stream_cont(iommu);

    tail = pviommu_readl(iommu, XEN_PVIOMMU_REG_FAULT_TAIL);
    assert_status(pviommu_attach(iommu, EDU_SBDF, 0), 0);
    assert_status(pviommu_free_context(iommu, 1), 0);
    g_assert_cmpuint(pviommu_alloc_context(iommu), ==, 1);
    assert_status(pviommu_map(iommu, 1, 0x12, 0x12, 1, 0), 0);
    assert_status(pviommu_attach(iommu, BEHIND_SBDF, 1), 0);
    pviommu_writel(iommu, XEN_PVIOMMU_REG_FAULT_CTRL, 0);

    stream_stop(iommu);
    g_assert_cmpstr(snapshot_run(iommu->qts, "snapshot-load"), ==, NULL);
    /* Nothing is delivered while it stands still. */
    g_assert_cmpuint(pviommu_readl(iommu, XEN_PVIOMMU_REG_FAULT_TAIL), ==,
                     tail);
    stream_save(iommu, second);
    assert_same_files(first, second);
    stream_cont(iommu);

    stream_check(iommu);
    stream_check_faults(iommu);
    stream_check_dma(iommu);
    /* The references, too: all of them can be dropped. */
    assert_status(pviommu_flush_all(iommu, 1), 0);
    g_assert_cmpuint(pviommu_counter(iommu, XEN_PVIOMMU_COUNTER_PENDING), ==,
                     0);
    assert_status(pviommu_attach(iommu, BEHIND_SBDF, 0), 0);
    assert_status(pviommu_free_context(iommu, 3), 0);
    pviommu_quit(iommu);
}

/* In identity mode: nothing but a context. And back, by loadvm. */
static void test_identity_mode_is_restored(void)
{
    g_autofree char *image = stream_file("image");
    g_autofree char *path = stream_file("identity");
    QXenPVIOMMU *iommu = stream_start(NULL, "");
    QEdu edu;

    snapshot_image(iommu->qts, image);
    pviommu_accept(iommu, XEN_IOMMU_FEATURES_ALL);
    g_assert_cmpuint(pviommu_alloc_context(iommu), ==, 1);
    stream_stop(iommu);
    stream_save(iommu, path);
    g_assert_cmpstr(snapshot_run(iommu->qts, "snapshot-save"), ==, NULL);
    stream_cont(iommu);
    assert_status(pviommu_map(iommu, 1, 1, GFN(0), 1, 0), 0);
    assert_status(pviommu_attach(iommu, EDU_SBDF, 1), 0);
    g_assert_false(pviommu_identity(iommu));

    stream_stop(iommu);
    g_assert_cmpstr(snapshot_run(iommu->qts, "snapshot-load"), ==, NULL);
    stream_cont(iommu);
    for (unsigned i = 0; i < 2; i++) {
        g_assert_true(pviommu_identity(iommu));
        pviommu_assert_unmapped(iommu, 1, 1);
        pviommu_assert_frames(iommu, 0, 0);
        stream_init_edu(&edu, iommu);
        edu_assert_access(&edu, (uint64_t)GFN(0) * PVIOMMU_PAGE,
                          (uint64_t)GFN(0) * PVIOMMU_PAGE, 64);
        assert_status(pviommu_free_context(iommu, 1), 0);
        pviommu_quit(iommu);
        if (!i) {
            iommu = start_loaded(path, NULL, "");
        }
    }
}

static void test_record(void)
{
    const char *to = getenv("XEN_PVIOMMU_RECORD");
    QXenPVIOMMU *iommu;

    if (!to) {
        g_test_skip("XEN_PVIOMMU_RECORD is not set");
        return;
    }
    iommu = stream_start(NULL, "");
    stream_fill(iommu);
    stream_stop(iommu);
    stream_save(iommu, to);
    pviommu_quit(iommu);
}

/* What the first release wrote can be read for ever. */
static void test_stream_of_the_first_release_loads(void)
{
    g_autofree char *path = stream_v1();
    QXenPVIOMMU *iommu = start_loaded(path, NULL, "");

    stream_number_bus(iommu);
    stream_check(iommu);
    stream_check_faults(iommu);
    stream_check_dma(iommu);
    /* And where it was attached by the way to it, whatever its number. */
    assert_status(pviommu_attach(iommu, BEHIND_SBDF, 0), 0);
    assert_status(pviommu_free_context(iommu, 3), 0);
    pviommu_quit(iommu);
}

/* Pages that the machine has no more are dropped, and the rest is not. */
static void test_missing_pages_are_dropped(void)
{
    g_autofree char *path = stream_v1();
    /* RAM ends within the large run of the default context. */
    QXenPVIOMMU *iommu = start_loaded(path, NULL, "-m 40 2>/dev/null");

    pviommu_assert_unmapped(iommu, 0, 0xfff000000);
    pviommu_assert_mapped(iommu, 1, stream_run_bfn(1), GFN(5),
                          stream_run_nr(1), 1);
    pviommu_quit(iommu);
}

/*
 * The guest has RAM where a new machine has ROM, and RAM in a BAR. Loaded,
 * saved before it ever ran, and loaded again.
 */
static void test_memory_map_may_load_later(const void *machine)
{
    static const char vga_args[] = "-device bochs-display,addr=11,romfile= ";
    g_autofree char *path = stream_file("memory-map");
    QXenPVIOMMU *iommu = pviommu_start(machine, NULL, vga_args);
    QPCIDevice *vga = qpci_device_find(iommu->pci, QPCI_DEVFN(0x11, 0));
    uint64_t vram = qpci_iomap(vga, 0, NULL).addr / PVIOMMU_PAGE;

    qpci_device_enable(vga);
    assert_status(pviommu_map(iommu, 0, 0x10, 0xd0, 16, 0), XEN_IOMMU_EINVAL);
    pviommu_accept(iommu, XEN_IOMMU_FEATURES_ALL);
    g_assert_cmpint(pviommu_map(iommu, 0, 0x10, 0xd0, 16, 0), <, 0);
    /* All from 0xc0000 to 0xfffff is RAM. */
    for (unsigned i = 0; i < 7; i++) {
        /* Each has two parts, but for the first one. */
        pviommu_set_pam(iommu, i, i ? PVIOMMU_PAM_RAM | PVIOMMU_PAM_RAM >> 4
                                    : PVIOMMU_PAM_RAM);
    }
    assert_status(pviommu_map(iommu, 0, 0x10, 0xd0, 16, 0), 0);
    assert_status(pviommu_map(iommu, 0, 0x40, 0xf0, 16, 1), 0);
    assert_status(pviommu_map(iommu, 0, 0x100, vram, 64, 0), 0);
    assert_status(pviommu_map(iommu, 0, 0x200, vram, 64, 0), 0);
    assert_status(pviommu_map(iommu, 0, 0x300, GFN(0), 64, 0), 0);
    assert_status(pviommu_unmap(iommu, 0, 0x200, 32), 0);
    assert_status(pviommu_unmap(iommu, 0, 0x4c, 4), 0);
    stream_stop(iommu);

    for (unsigned i = 0; i < 2; i++) {
        QXenPVIOMMU *next;

        migration_save(iommu->qts, path);
        next = start_incoming(machine, NULL, vga_args);
        g_assert_true(migration_load(next->qts, path));
        pviommu_quit(iommu);
        iommu = next;
    }
    stream_cont(iommu);
    pviommu_assert_mapped(iommu, 0, 0x10, 0xd0, 16, 0);
    pviommu_assert_mapped(iommu, 0, 0x40, 0xf0, 12, 1);
    pviommu_assert_unmapped(iommu, 0, 0x4c);
    pviommu_assert_mapped(iommu, 0, 0x100, vram, 64, 0);
    pviommu_assert_unmapped(iommu, 0, 0x200);
    pviommu_assert_mapped(iommu, 0, 0x220, vram + 32, 32, 0);
    pviommu_assert_mapped(iommu, 0, 0x300, GFN(0), 64, 0);
    pviommu_assert_frames(iommu, 16 + 12 + 64 + 32 + 64, 36);
    /* That it was removed and added meanwhile is not counted. */
    g_assert_cmpuint(pviommu_counter(iommu, XEN_PVIOMMU_COUNTER_INVALIDATED),
                     ==, 0);

    /* These are mappings like any others: pages that leave are unmapped. */
    vga->bus = iommu->pci;
    qpci_config_writew(vga, PCI_COMMAND, 0);
    pviommu_assert_unmapped(iommu, 0, 0x100);
    pviommu_assert_frames(iommu, 16 + 12 + 64, 4);
    g_free(vga);
    pviommu_quit(iommu);
}

/*
 * What a machine makes of it that was given a good stream before: refused or
 * taken, as the case may be, but it works, with its references right. Such a
 * machine cannot run; see refused-test for one that can.
 */
static bool try_damaged(const uint8_t *data, size_t len)
{
    g_autofree char *path = stream_file("damaged");
    QXenPVIOMMU *iommu = start_incoming(SECTION_MACHINE("q35"),
                                        "max-mappings=100000",
                                        SECTION_ARGS TWO_EDUS "2>/dev/null");
    bool taken;

    g_assert_true(g_file_set_contents(path, (char *)data, len, NULL));
    taken = migration_load(iommu->qts, path);
    if (!taken) {
        stream_assert_reset(iommu);
    }
    /* A call checks all tables and references, whatever becomes of it. */
    pviommu_ring(iommu, 0, PVIOMMU_OPS_ADDR, 1, NULL);
    pviommu_quit(iommu);
    return taken;
}

/* A good section, and it again behind it up to @cut, or all of it. */
static uint8_t *twice(const char *data, size_t len, size_t cut, size_t *all)
{
    uint8_t *both = g_malloc(len - 1 + cut - HEADER);

    memcpy(both, data, len - 1);
    memcpy(both + len - 1, data + HEADER, cut - HEADER);
    *all = len - 1 + cut - HEADER;
    return both;
}

static void test_cut_section_is_refused(void)
{
    g_autofree char *path = stream_v1();
    g_autofree char *data = NULL;
    g_autofree uint8_t *whole = NULL;
    size_t len, all, tail = 400;

    g_assert_true(g_file_get_contents(path, &data, &len, NULL));
    whole = twice(data, len, len, &all);
    g_assert_true(try_damaged(whole, all));

    /* Most often in what is not QEMU's to check. */
    for (size_t cut = 100; cut < len - 1; ) {
        g_autofree uint8_t *bad = twice(data, len, cut, &all);

        g_assert_false(try_damaged(bad, all));
        cut += cut + 1500 < len - tail ? 1500 : cut < len - tail ? 300 : 17;
    }
}

/* loadvm: queues that are others by then, and ones that are gone */
static void test_queues_are_restored(void)
{
    g_autofree char *image = stream_file("image");
    QXenPVIOMMU *iommu = stream_start(NULL, "");
    QPVIOMMUQueue q[2], other;

    snapshot_image(iommu->qts, image);
    stream_fill_queues(iommu, q);
    stream_stop(iommu);
    g_assert_cmpstr(snapshot_run(iommu->qts, "snapshot-save"), ==, NULL);
    stream_cont(iommu);
    pviommu_queue_init(&other, iommu, 0, QUEUE(2), 16);
    stream_push_map(&other, 3, GFN(3));
    assert_status(pviommu_free_context(iommu, 1), 0);

    stream_stop(iommu);
    g_assert_cmpstr(snapshot_run(iommu->qts, "snapshot-load"), ==, NULL);
    stream_cont(iommu);
    for (unsigned i = 0; i < 2; i++) {
        g_assert_cmpuint(pviommu_queue_head(&q[i]), ==, q[i].tail);
        g_assert_cmpuint(pviommu_queue_errors(&q[i]), ==, !i);
        g_assert_cmphex(pviommu_queue_flags(&q[i]), ==, 0);
        stream_push_map(&q[i], 5, GFN(5));
        pviommu_queue_kick(&q[i]);
        pviommu_assert_mapped(iommu, i, 5, GFN(5), 1, 0);
    }
    pviommu_assert_mapped(iommu, 0, 1, GFN(1), 2, 0);
    pviommu_assert_unmapped(iommu, 0, 3);
    pviommu_quit(iommu);
}

/* Queues whose memory is not there, or says something else, are none. */
static void test_queue_without_memory_is_dropped(void)
{
    g_autofree char *path = stream_file("lost");
    size_t len, at;
    unsigned first;
    g_autofree uint8_t *data = stream_queues(&len, &at, &first);

    for (unsigned i = 0; i < 3; i++) {
        g_autofree uint8_t *bad = g_memdup2(data, len);
        QXenPVIOMMU *iommu;
        QPVIOMMUQueue q;

        if (i == 1) {
            stq_be_p(bad + at + QUEUE_FIELD(first, QUEUE_ADDR), PVIOMMU_RAM);
        }
        g_assert_true(g_file_set_contents(path, (char *)bad, len, NULL));
        iommu = start_loaded(path, NULL, "");
        q = (QPVIOMMUQueue) { iommu, 0, QUEUE(0), 4 };
        if (i == 0) {
            /* All as the stream says */
            q.tail = 3;
            qtest_writel(iommu->qts,
                         q.addr + offsetof(struct xen_iommu_queue, head), 3);
            stream_push_map(&q, 7, GFN(7));
            pviommu_queue_kick(&q);
            pviommu_assert_mapped(iommu, 0, 7, GFN(7), 1, 0);
            g_assert_cmpuint(pviommu_queue_errors(&q), ==, 1);
        } else {
            stream_push_map(&q, 7, GFN(7));
            pviommu_assert_unmapped(iommu, 0, 7);
            g_assert_cmphex(pviommu_queue_flags(&q) & XEN_IOMMU_QUEUE_dead, ==,
                            i == 1 ? 0 : XEN_IOMMU_QUEUE_dead);
        }
        pviommu_queue_init(&q, iommu, 0, QUEUE(2), 4);
        stream_push_map(&q, 8, GFN(8));
        pviommu_queue_kick(&q);
        pviommu_assert_mapped(iommu, 0, 8, GFN(8), 1, 0);
        pviommu_quit(iommu);
    }
}

/* Where operations are counted on from 0 */
static void test_queue_counts_on_from_0(void)
{
    const uint32_t start_at = UINT32_MAX - 5;
    g_autofree char *path = stream_file("wraps");
    size_t len, at;
    unsigned first;
    g_autofree uint8_t *data = stream_queues(&len, &at, &first);
    QXenPVIOMMU *iommu;
    QPVIOMMUQueue q;

    stl_be_p(data + at + QUEUE_FIELD(first, QUEUE_HEAD), start_at);
    g_assert_true(g_file_set_contents(path, (char *)data, len, NULL));
    iommu = start_loaded(path, NULL, "");
    q = (QPVIOMMUQueue) { iommu, 0, QUEUE(0), 4, .tail = start_at };
    qtest_writel(iommu->qts, q.addr + offsetof(struct xen_iommu_queue, head),
                 start_at);
    qtest_writel(iommu->qts, q.addr + offsetof(struct xen_iommu_queue, tail),
                 start_at);
    for (unsigned i = 0; i < 12; i += 3) {
        for (unsigned j = i; j < i + 3; j++) {
            stream_push_map(&q, 16 + j, GFN(16 + j));
        }
        pviommu_queue_kick(&q);
        g_assert_cmpuint(pviommu_queue_head(&q), ==, start_at + i + 3);
        pviommu_assert_mapped(iommu, 0, 16, GFN(16), i + 3, 0);
    }
    g_assert_cmphex(pviommu_queue_flags(&q), ==, 0);
    pviommu_quit(iommu);
}

/* Switches below each other, of two bridges each */
static char *deep_args(unsigned switches)
{
    GString *devices = g_string_new(
        "-device pcie-root-port,id=down0,chassis=1,addr=5 ");

    for (unsigned i = 1; i <= switches; i++) {
        g_string_append_printf(devices,
                               "-device x3130-upstream,id=up%u,bus=down%u "
                               "-device xio3130-downstream,id=down%u,bus=up%u,"
                               "chassis=%u ", i, i - 1, i, i, i + 1);
    }
    g_string_append_printf(devices, EDU_DEVICE ",bus=down%u", switches);
    return g_string_free(devices, false);
}

/* The edu's bus is number @last. */
static void number_deep(QXenPVIOMMU *iommu, unsigned last)
{
    for (unsigned bus = 1; bus <= last; bus++) {
        int bridge = bus == 1 ? QPCI_DEVFN(5, 0) : BRIDGE_DEVFN(bus - 1, 0, 0);

        bridge_set_buses(iommu->pci, bridge, bus - 1, bus, last);
    }
}

/* With more, QEMU has no names for what their bridges save. */
#define SWITCHES        24

/* The longest way that a device can have in QEMU is saved whole. */
static void test_longest_path_is_saved(void)
{
    g_autofree char *path = stream_file("deep");
    g_autofree char *args = deep_args(SWITCHES);
    g_autofree char *loaded_args = NULL;
    const unsigned last = 1 + 2 * SWITCHES;
    const uint32_t sbdf = PCI_SBDF(last, 0);
    QXenPVIOMMU *iommu = pviommu_start("q35", NULL, args);

    number_deep(iommu, last);
    pviommu_accept(iommu, XEN_IOMMU_FEATURES_ALL);
    g_assert_cmpuint(pviommu_alloc_context(iommu), ==, 1);
    assert_status(pviommu_attach(iommu, sbdf, 1), 0);
    qtest_qmp_assert_success(iommu->qts,
                             "{'execute': 'xen-save-devices-state',"
                             " 'arguments': {'filename': %s, 'live': false}}",
                             path);
    pviommu_quit(iommu);

    loaded_args = g_strconcat(SECTION_ARGS, args, NULL);
    iommu = start_incoming(SECTION_MACHINE("q35"), NULL, loaded_args);
    g_assert_true(migration_load(iommu->qts, path));
    assert_status(pviommu_free_context(iommu, 1), XEN_IOMMU_EBUSY);
    assert_status(pviommu_attach(iommu, sbdf, 0), 0);
    assert_status(pviommu_free_context(iommu, 1), 0);
    pviommu_quit(iommu);
}

/* On a machine that is another one, as only a stream of ours alone gets to. */
static void test_no_such_place_is_refused(void)
{
    static const char *const machines[] = { "q35", "pc" };
    g_autofree char *path = stream_v1();
    g_autofree char *messages = stream_file("place-messages");

    for (unsigned i = 0; i < ARRAY_SIZE(machines); i++) {
        g_autofree char *machine = g_strconcat(machines[i], SECTION_MACHINE(""),
                                               NULL);
        g_autofree char *extra = g_strconcat(SECTION_ARGS EDU_DEVICE ",addr=11",
                                             " 2>", messages, NULL);
        QXenPVIOMMU *iommu = start_incoming(machine, NULL, extra);

        g_assert_false(migration_load(iommu->qts, path));
        stream_assert_printed(messages, "cannot be in context 3: this machine "
                              "has no such place");
        stream_assert_reset(iommu);
        pviommu_quit(iommu);
    }
}

#define MISSING         1000000

/* Bytes that a process has in memory. */
static uint64_t resident(QTestState *qts)
{
    g_autofree char *path = g_strdup_printf("/proc/%d/statm", qtest_pid(qts));
    g_autofree char *text = NULL;
    unsigned long long size, pages;

    g_assert_true(g_file_get_contents(path, &text, NULL, NULL));
    g_assert_cmpint(sscanf(text, "%llu %llu", &size, &pages), ==, 2);
    return pages * qemu_real_host_page_size();
}

/*
 * Runs that wait for their pages take about what they do in the stream: here a
 * byte each.
 */
static void test_deferred_runs_take_little_memory(void)
{
    g_autofree char *path = stream_file("deferred");
    g_autofree char *data = NULL;
    g_autoptr(GByteArray) all = g_byte_array_new();
    QXenPVIOMMU *iommu = stream_start(NULL, "");
    /* BFN 0x200000, and a GFN above all RAM; then, what follows them */
    const uint8_t first[] = { 0x0c, 0x80, 0x80, 0x80, 0x02,
                              0x80, 0x80, 0x80, 0x40 };
    uint8_t end[] = { 0x80 };
    size_t len, at;
    uint64_t before;

    /* One context, which maps nothing, and is followed by a footer */
    pviommu_accept(iommu, XEN_IOMMU_FEATURES_ALL);
    assert_status(pviommu_enable(iommu), 0);
    stream_stop(iommu);
    stream_save(iommu, path);
    pviommu_quit(iommu);
    g_assert_true(g_file_get_contents(path, &data, &len, NULL));
    /* Of the section's end: no function, no run, footer, end of the stream */
    at = len - 1 - 5 - 2;
    g_assert_cmphex((uint8_t)data[at], ==, 0);
    g_assert_cmphex((uint8_t)data[at + 1], ==, end[0]);
    g_byte_array_append(all, (uint8_t *)data, at + 1);
    g_byte_array_append(all, first, sizeof(first));
    g_byte_array_set_size(all, all->len + MISSING - 1);
    memset(all->data + all->len - (MISSING - 1), 0, MISSING - 1);
    g_byte_array_append(all, (uint8_t *)data + at + 1, len - at - 1);
    g_assert_true(g_file_set_contents(path, (char *)all->data, all->len, NULL));

    iommu = start_incoming(SECTION_MACHINE("q35"), NULL,
                           "-S " SECTION_ARGS TWO_EDUS "2>/dev/null");
    before = resident(iommu->qts);
    g_assert_true(migration_load(iommu->qts, path));
    g_assert_cmpuint(resident(iommu->qts), <, before + 16 * MISSING);
    pviommu_assert_frames(iommu, 0, 0);
    stream_cont(iommu);
    pviommu_assert_frames(iommu, 0, 0);
    pviommu_assert_unmapped(iommu, 0, 0x200000);
    assert_status(pviommu_map(iommu, 0, 0x200000, GFN(0), 1, 0), 0);
    pviommu_quit(iommu);
}

/* The machine is reset while half of our section is there: the rest is not. */
static void test_reset_while_loading_drops_the_rest(void)
{
    g_autofree char *path = stream_v1();
    g_autofree char *to = stream_file("socket");
    g_autofree char *uri = g_strdup_printf("unix:%s", to);
    g_autofree char *data = NULL;
    struct sockaddr_un addr = { .sun_family = AF_UNIX };
    size_t len;

    g_assert_true(g_file_get_contents(path, &data, &len, NULL));
    g_strlcpy(addr.sun_path, to, sizeof(addr.sun_path));
    for (size_t cut = len - 350; cut < len - 10; cut += 40) {
        QXenPVIOMMU *iommu = start_incoming(SECTION_MACHINE("q35"), NULL,
                                            SECTION_ARGS TWO_EDUS
                                            "2>/dev/null");
        int fd = socket(AF_UNIX, SOCK_STREAM, 0);

        migration_start_load(iommu->qts, uri);
        g_assert_cmpint(connect(fd, (struct sockaddr *)&addr, sizeof(addr)), ==,
                        0);
        g_assert_cmpint(write(fd, data, cut), ==, cut);
        /* It has read that, and waits for more. */
        g_usleep(100000);
        qtest_system_reset(iommu->qts);
        g_assert_cmpint(write(fd, data + cut, len - cut), ==, len - cut);
        close(fd);
        g_assert_false(migration_wait(iommu->qts));
        stream_assert_reset(iommu);
        pviommu_ring(iommu, 0, PVIOMMU_OPS_ADDR, 1, NULL);
        pviommu_quit(iommu);
        unlink(to);
    }
}

/* Above the reserved range. */
#define MANY_BFN        0x100000ull

/* A page of its own for each run, and no two that follow each other. */
static uint64_t many_gfn(uint64_t first, uint64_t pages, uint64_t i)
{
    return first + i * 0x9e3779b1 % pages;
}

static void test_many_runs_are_small(void)
{
    const char *wanted = getenv("XEN_PVIOMMU_RUNS");
    uint64_t runs = wanted ? g_ascii_strtoull(wanted, NULL, 0) : 50000;
    /* Above 4 GiB, if there is more than the other tests have. */
    uint64_t first = wanted ? 1 << 20 : PVIOMMU_FREE_GFN;
    uint64_t pages = wanted ? pow2ceil(runs) :
                              PVIOMMU_RAM_GFNS - PVIOMMU_FREE_GFN;
    g_autofree char *stream = stream_file("many");
    g_autofree char *ram = stream_file("ram");
    g_autofree char *uri = g_strdup_printf("file:%s", stream);
    /* RAM that stays where it is: what is left is the devices' pause. */
    g_autofree char *common = g_strdup_printf(
        "-m %" PRIu64 " -machine memory-backend=ram "
        "-object memory-backend-file,id=ram,share=on,reserve=off,mem-path=%s,"
        "size=%" PRIu64 "M %s",
        wanted ? 4096 + pages / 256 : PVIOMMU_RAM >> 20, ram,
        wanted ? 4096 + pages / 256 : PVIOMMU_RAM >> 20,
        wanted ? "-trace vmstate_downtime_save -trace vmstate_downtime_load "
                 "-trace xen_pviommu_save -trace xen_pviommu_load" : "");
    g_autofree char *to_args = g_strconcat(common, " -incoming defer", NULL);
    const char *props = "x-check=off,max-mappings=100000000";
    static const char ignore_shared[] =
        "{'execute': 'migrate-set-capabilities', 'arguments':"
        " {'capabilities': [{'capability': 'x-ignore-shared',"
        " 'state': true}]}}";
    QXenPVIOMMU *iommu = pviommu_start("q35", props, common);
    g_autofree struct xen_iommu_op *ops = g_new(struct xen_iommu_op, 4096);
    QXenPVIOMMU *to;
    struct stat st;

    for (uint64_t i = 0; i < runs; ) {
        unsigned n = 0;

        for (; n < 4096 && i < runs; n++, i++) {
            ops[n] = pviommu_op_map(0, MANY_BFN + i,
                                    many_gfn(first, pages, i), 0, 0);
        }
        pviommu_run(iommu, ops, n);
        while (n--) {
            assert_status(pviommu_status(&ops[n]), 0);
        }
    }
    pviommu_accept(iommu, XEN_IOMMU_FEATURES_ALL);

    qtest_qmp_assert_success(iommu->qts, ignore_shared);
    qtest_qmp_assert_success(iommu->qts, "{'execute': 'migrate',"
                             " 'arguments': {'uri': %s}}", uri);
    g_assert_true(migration_wait(iommu->qts));
    g_assert_cmpint(stat(stream, &st), ==, 0);
    g_test_message("%" PRIu64 " runs, %zu bytes of stream", runs,
                   (size_t)st.st_size);
    /* No more than six bytes a run, and what else there is. */
    g_assert_cmpuint(st.st_size, <, 6 * runs + 400000);

    to = pviommu_start("q35", props, to_args);
    qtest_qmp_assert_success(to->qts, ignore_shared);
    g_assert_true(migration_load(to->qts, stream));
    pviommu_quit(iommu);
    iommu = to;
    pviommu_assert_frames(iommu, runs, 0);
    for (uint64_t i = 0; i < runs; i += runs / 100) {
        pviommu_assert_mapped(iommu, 0, MANY_BFN + i,
                              many_gfn(first, pages, i), 1, 0);
    }
    pviommu_quit(iommu);
    unlink(stream);
    unlink(ram);
}

/* Xen's toolstack saves beside a device that cannot be: nothing happens. */
static void test_failed_save_beside_nvme_changes_nothing(void)
{
    g_autofree char *path = stream_file("beside-nvme");
    QXenPVIOMMU *iommu = stream_start(NULL, "-device nvme,serial=1 ");
    QDict *error;

    pviommu_accept(iommu, XEN_IOMMU_FEATURES_ALL);
    assert_status(pviommu_map(iommu, 0, 1, GFN(0), 1, 0), 0);
    for (unsigned live = 0; live < 2; live++) {
        QDict *status;

        error = qtest_qmp_assert_failure_ref(
            iommu->qts, "{'execute': 'xen-save-devices-state',"
            " 'arguments': {'filename': %s, 'live': %i}}", path, live);
        g_assert_nonnull(strstr(qdict_get_str(error, "desc"), "nvme"));
        qobject_unref(error);
        g_assert_false(g_file_test(path, G_FILE_TEST_EXISTS));
        status = qtest_qmp_assert_success_ref(iommu->qts,
                                              "{'execute': 'query-status'}");
        g_assert_cmpstr(qdict_get_str(status, "status"), ==, "running");
        qobject_unref(status);
    }
    assert_status(pviommu_unmap(iommu, 0, 1, 1), 0);
    pviommu_quit(iommu);
}

int main(int argc, char **argv)
{
    int ret;

    g_test_init(&argc, &argv, NULL);
    stream_begin();

    pviommu_add("q35/vmstate/snapshot-restores-all",
                test_snapshot_restores_all);
    pviommu_add("q35/vmstate/identity-mode-is-restored",
                test_identity_mode_is_restored);
    pviommu_add("q35/vmstate/record", test_record);
    pviommu_add("q35/vmstate/stream-of-the-first-release-loads",
                test_stream_of_the_first_release_loads);
    pviommu_add("q35/vmstate/missing-pages-are-dropped",
                test_missing_pages_are_dropped);
    pviommu_add_for_machines("vmstate/memory-map-may-load-later",
                             test_memory_map_may_load_later);
    pviommu_add("q35/vmstate/cut-section-is-refused",
                test_cut_section_is_refused);
    pviommu_add("q35/vmstate/queues-are-restored", test_queues_are_restored);
    pviommu_add("q35/vmstate/queue-without-memory-is-dropped",
                test_queue_without_memory_is_dropped);
    pviommu_add("q35/vmstate/queue-counts-on-from-0",
                test_queue_counts_on_from_0);
    pviommu_add("q35/vmstate/longest-path-is-saved",
                test_longest_path_is_saved);
    pviommu_add("q35/vmstate/no-such-place-is-refused",
                test_no_such_place_is_refused);
    pviommu_add("q35/vmstate/deferred-runs-take-little-memory",
                test_deferred_runs_take_little_memory);
    pviommu_add("q35/vmstate/reset-while-loading-drops-the-rest",
                test_reset_while_loading_drops_the_rest);
    pviommu_add("q35/vmstate/many-runs-are-small", test_many_runs_are_small);
    pviommu_add("q35/vmstate/failed-save-beside-nvme-changes-nothing",
                test_failed_save_beside_nvme_changes_nothing);

    ret = g_test_run();
    stream_cleanup();
    return ret;
}
