/*
 * xen-pviommu: what migration carries, and what it does not believe
 *
 * Most tests save the way Xen's toolstack does, which leaves out RAM, and load
 * the section of our device alone.
 *
 * By hand, with -p /x86_64/xen-pviommu/q35/vmstate/ and the test's name:
 *   XEN_PVIOMMU_RECORD=FILE     record: the stream of test_v1(); never again
 *                               once a release wrote it
 *   XEN_PVIOMMU_RUNS=1000000    many: measure the pause
 *   XEN_PVIOMMU_MUTATIONS=1000  damaged: more of them
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/bswap.h"
#include "qemu/host-utils.h"
#include "qobject/qdict.h"
#include "qobject/qlist.h"
#include "hw/pci/pci_regs.h"
#include "libqos/edu.h"

#define V1_STREAM       "data/xen-pviommu-v1.stream"

#define EDU_SLOT        0x11
#define PORT_SLOT       0x12
#define PORT_BUS        5       /* not what firmware would have given it */
#define EDU_SBDF        PCI_SBDF(0, EDU_SLOT)
#define BEHIND_SBDF     PCI_SBDF(PORT_BUS, 0)
#define PCI_SBDF(bus, slot) ((bus) << 8 | (slot) << 3)

#define FAULT_RING_SIZE 4
#define FAULTS          7

/* A stream's magic and version. */
#define HEADER          8

/* What the state of fill() has. */
#define RUNS            40
#define GFN(i)          (PVIOMMU_FREE_GFN + (i))

/* For a stream that begins with a device's section, and ends behind it. */
#define SECTION_ARGS    "-global migration.send-configuration=off "
#define SECTION_MACHINE(m) m ",suppress-vmdesc=on"
#define TWO_EDUS        EDU_DEVICE ",addr=11 " \
                        "-device pcie-root-port,id=rp0,addr=12,chassis=1 " \
                        EDU_DEVICE ",bus=rp0,addr=0 "

#define OFFSET_NONE     SIZE_MAX

static char *dir;

static char *tmp_file(const char *name)
{
    return g_build_filename(dir, name, NULL);
}

static QXenPVIOMMU *start(const char *props, const char *extra)
{
    g_autofree char *all = g_strconcat(TWO_EDUS, extra, NULL);

    return pviommu_start("q35", props, all);
}

static void stop(QXenPVIOMMU *iommu)
{
    qtest_qmp_assert_success(iommu->qts, "{'execute': 'stop'}");
}

static void cont(QXenPVIOMMU *iommu)
{
    qtest_qmp_assert_success(iommu->qts, "{'execute': 'cont'}");
}

static char *query_status(QTestState *qts, const char *command)
{
    QDict *rsp = qtest_qmp_assert_success_ref(qts, "{'execute': %s}", command);
    char *status = g_strdup(qdict_get_try_str(rsp, "status") ?: "");

    qobject_unref(rsp);
    return status;
}

/* True when a migration is "completed", false when it is "failed". */
static bool wait_migration(QTestState *qts)
{
    gint64 end = g_get_monotonic_time() + PVIOMMU_WAIT_US;

    while (g_get_monotonic_time() < end) {
        g_autofree char *status = query_status(qts, "query-migrate");

        if (g_str_equal(status, "completed") ||
            g_str_equal(status, "failed")) {
            return g_str_equal(status, "completed");
        }
        g_usleep(500);
    }
    g_assert_not_reached();
}

/* The machine, before the migration into it. */
static QXenPVIOMMU *start_incoming(const char *machine, const char *props,
                                   const char *extra)
{
    g_autofree char *all = g_strconcat("-incoming defer ", extra, NULL);

    return pviommu_start(machine, props, all);
}

/* Into a machine that waits for it; false if the stream is refused. */
static bool load(QXenPVIOMMU *iommu, const char *path)
{
    g_autofree char *uri = g_strdup_printf("file:%s", path);

    qtest_qmp_assert_success(iommu->qts,
                             "{'execute': 'migrate-incoming', 'arguments':"
                             " {'uri': %s, 'exit-on-error': false}}", uri);
    return wait_migration(iommu->qts);
}

/* A machine like that of start(), with what @path has of our device. */
static QXenPVIOMMU *start_loaded(const char *path, const char *props,
                                 const char *extra)
{
    g_autofree char *all = g_strconcat(SECTION_ARGS TWO_EDUS, extra, NULL);
    QXenPVIOMMU *iommu = start_incoming(SECTION_MACHINE("q35"), props, all);

    g_assert_true(load(iommu, path));
    return iommu;
}

static size_t find(const uint8_t *data, size_t len, size_t from,
                   const void *what, size_t what_len)
{
    for (; from + what_len <= len; from++) {
        if (!memcmp(data + from, what, what_len)) {
            return from;
        }
    }
    return OFFSET_NONE;
}

/* What follows a section: the type and ID of the next, and its name. */
static bool next_section(const uint8_t *data, size_t len)
{
    const unsigned name = 1 + 4 + 1;

    return len > name + 4 && data[0] == 4 && data[name - 1] >= 4 &&
           g_ascii_isgraph(data[name]) && g_ascii_isgraph(data[name + 1]) &&
           g_ascii_isgraph(data[name + 2]) && g_ascii_isgraph(data[name + 3]);
}

/* Save: a stream's header and the section of our device alone. */
static void save(QXenPVIOMMU *iommu, const char *path)
{
    static const char name[] = "\x18" "0000:00:10.0/xen-pviommu";
    g_autofree char *full = tmp_file("full");
    g_autofree char *text = NULL;
    g_autofree char *own = NULL;
    uint8_t footer[5] = { 0x7e };
    size_t len, start, end;
    uint8_t *data;

    qtest_qmp_assert_success(iommu->qts,
                             "{'execute': 'xen-save-devices-state',"
                             " 'arguments': {'filename': %s, 'live': false}}",
                             full);
    g_assert_true(g_file_get_contents(full, &text, &len, NULL));
    data = (uint8_t *)text;
    start = find(data, len, 0, name, strlen(name));
    g_assert_cmpuint(start, !=, OFFSET_NONE);
    /* Before the name are type and ID; the footer has the ID again. */
    start -= 5;
    memcpy(footer + 1, data + start + 1, 4);
    end = start;
    do {
        end = find(data, len, end, footer, sizeof(footer));
        g_assert_cmpuint(end, !=, OFFSET_NONE);
        end += sizeof(footer);
    } while (!next_section(data + end, len - end));

    /* The zero behind it is the stream's end. */
    own = g_malloc0(HEADER + end - start + 1);
    memcpy(own, data, HEADER);
    memcpy(own + HEADER, data + start, end - start);
    g_assert_true(g_file_set_contents(path, own, HEADER + end - start + 1,
                                      NULL));
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

/* Give the root port's bus a number. */
static void number_bus(QXenPVIOMMU *iommu)
{
    QPCIDevice *port = qpci_device_find(iommu->pci, QPCI_DEVFN(PORT_SLOT, 0));

    qpci_config_writeb(port, PCI_PRIMARY_BUS, 0);
    qpci_config_writeb(port, PCI_SECONDARY_BUS, PORT_BUS);
    qpci_config_writeb(port, PCI_SUBORDINATE_BUS, PORT_BUS);
    g_free(port);
}

/* The edu on the root bus; it has no state that migrates. */
static void init_edu(QEdu *edu, QXenPVIOMMU *iommu)
{
    edu_init(edu, iommu, QPCI_DEVFN(EDU_SLOT, 0));
}

static uint64_t run_bfn(unsigned i)
{
    return 0x100000ull + i * 3 + ((uint64_t)(i % 4) << 30);
}

static uint32_t run_nr(unsigned i)
{
    return 1 + i % 2;
}

/* Those of the stream that is kept; later ones bring state of their own. */
#define FEATURES (XEN_IOMMU_FEATURE_RANGES | XEN_IOMMU_FEATURE_CONTEXTS | \
                  XEN_IOMMU_FEATURE_LOOKUP)

/* Two contexts that map, one of both devices each, and an empty one. */
static void fill(QXenPVIOMMU *iommu)
{
    QEdu edu;
    uint16_t a, b, c;

    number_bus(iommu);
    pviommu_accept(iommu, FEATURES);
    a = pviommu_alloc_context(iommu);
    b = pviommu_alloc_context(iommu);
    c = pviommu_alloc_context(iommu);
    g_assert_cmpuint(a, ==, 1);
    g_assert_cmpuint(c, ==, 3);
    g_assert_cmpint(pviommu_free_context(iommu, b), ==, 0);
    g_assert_cmpint(pviommu_attach(iommu, EDU_SBDF, a), ==, 0);
    g_assert_cmpint(pviommu_attach(iommu, BEHIND_SBDF, c), ==, 0);

    for (unsigned i = 0; i < RUNS; i++) {
        g_assert_cmpint(pviommu_map(iommu, i % 3 ? a : c, run_bfn(i),
                                    GFN(i * 5), run_nr(i), i % 2), ==, 0);
    }
    /* Pending: a part of a run; all of one whose BFN is used again. */
    g_assert_cmpint(pviommu_map(iommu, a, 0x10, GFN(0x1000), 8, 0), ==, 0);
    g_assert_cmpint(pviommu_map(iommu, a, 0x20, GFN(0x1010), 1, 1), ==, 0);
    g_assert_cmpint(pviommu_unmap(iommu, a, 0x12, 3), ==, 0);
    g_assert_cmpint(pviommu_unmap(iommu, a, 0x20, 1), ==, 0);
    g_assert_cmpint(pviommu_map(iommu, a, 0x20, GFN(0x1020), 1, 0), ==, 0);
    /* As large as they come, in the default context. */
    g_assert_cmpint(pviommu_map(iommu, 0, 0xfff000000, GFN(0), 0x4000, 0), ==,
                    0);

    init_edu(&edu, iommu);
    edu_map_window(&edu, iommu, a, 0);
    pviommu_fault_ring(iommu, FAULT_RING_SIZE);
    for (unsigned i = 0; i < FAULTS; i++) {
        edu_dma(&edu, false, 0x5000000 + i * PVIOMMU_PAGE, 4);
    }
    pviommu_wait_faults(iommu, FAULT_RING_SIZE);
    /* A call that fails leaves that in its block. */
    g_assert_cmpint(pviommu_ring(iommu, 63, 0xffffffffff000, 1, NULL), ==,
                    -XEN_IOMMU_EFAULT);
}

/* All that fill() did, but for what is in RAM. */
static void check(QXenPVIOMMU *iommu)
{
    uint64_t mapped = 8 - 3 + 1 + 0x4000 + 1;
    struct xen_iommu_op op;

    g_assert_false(pviommu_identity(iommu));
    g_assert_cmphex(pviommu_readq(iommu, XEN_PVIOMMU_REG_ACCEPTED), ==,
                    FEATURES);
    for (unsigned i = 0; i < RUNS; i++) {
        pviommu_assert_mapped(iommu, i % 3 ? 1 : 3, run_bfn(i), GFN(i * 5),
                              run_nr(i), i % 2);
        pviommu_assert_unmapped(iommu, i % 3 ? 3 : 1, run_bfn(i));
        mapped += run_nr(i);
    }
    pviommu_assert_mapped(iommu, 1, 0x10, GFN(0x1000), 2, 0);
    pviommu_assert_unmapped(iommu, 1, 0x12);
    pviommu_assert_mapped(iommu, 1, 0x15, GFN(0x1005), 3, 0);
    pviommu_assert_mapped(iommu, 1, 0x20, GFN(0x1020), 1, 0);
    pviommu_assert_mapped(iommu, 0, 0xfff000000, GFN(0), 0x4000, 0);
    pviommu_assert_frames(iommu, mapped, 4);
    op = pviommu_op_lookup_gfn(1, GFN(0x1010), 0);
    g_assert_cmpint(pviommu_op(iommu, &op), ==, -XEN_IOMMU_ENOENT);
    op = pviommu_op_lookup_bfn(2, 0);
    g_assert_cmpint(pviommu_op(iommu, &op), ==, -XEN_IOMMU_ENOENT);
    g_assert_cmpint(pviommu_free_context(iommu, 1), ==, -XEN_IOMMU_EBUSY);
    g_assert_cmpint(pviommu_free_context(iommu, 3), ==, -XEN_IOMMU_EBUSY);
    g_assert_cmpint(pviommu_free_context(iommu, 2), ==, -XEN_IOMMU_ENOENT);
    g_assert_cmpint((int32_t)pviommu_readl(iommu, XEN_PVIOMMU_BLOCKS +
                                           63 * XEN_PVIOMMU_BLOCK_STRIDE +
                                           XEN_PVIOMMU_BLOCK_RESULT), ==,
                    -XEN_IOMMU_EFAULT);
}

/* The faults that waited come when there is room for them. */
static void check_faults(QXenPVIOMMU *iommu)
{
    g_assert_cmpuint(pviommu_readl(iommu, XEN_PVIOMMU_REG_FAULT_TAIL), ==,
                     FAULT_RING_SIZE);
    g_assert_cmpuint(pviommu_counter(iommu, XEN_PVIOMMU_COUNTER_FAULTS), ==,
                     FAULTS);
    pviommu_writel(iommu, XEN_PVIOMMU_REG_FAULT_HEAD, FAULT_RING_SIZE);
    pviommu_wait_faults(iommu, FAULTS);
    for (unsigned i = FAULT_RING_SIZE; i < FAULTS; i++) {
        pviommu_assert_fault(iommu, i, EDU_SBDF, 1,
                             0x5000000 + i * PVIOMMU_PAGE, false,
                             XEN_IOMMU_FAULT_REASON_unmapped);
    }
}

/* The edu on the root bus sees context 1, with what was not read-only. */
static void check_dma(QXenPVIOMMU *iommu)
{
    QEdu edu;

    init_edu(&edu, iommu);
    edu_assert_access(&edu, 0x20 * PVIOMMU_PAGE,
                      (uint64_t)GFN(0x1020) * PVIOMMU_PAGE, 64);
    edu_assert_no_access(&edu, 0x12 * PVIOMMU_PAGE,
                         (uint64_t)GFN(0x1002) * PVIOMMU_PAGE, 64);
    edu_assert_readonly(&edu, run_bfn(1) * PVIOMMU_PAGE,
                        (uint64_t)GFN(5) * PVIOMMU_PAGE, 64);
}

static void wait_job(QTestState *qts, const char *id)
{
    gint64 end = g_get_monotonic_time() + PVIOMMU_WAIT_US;
    bool done = false;

    while (!done && g_get_monotonic_time() < end) {
        QDict *rsp = qtest_qmp(qts, "{'execute': 'query-jobs'}");
        QListEntry *e;

        QLIST_FOREACH_ENTRY(qdict_get_qlist(rsp, "return"), e) {
            QDict *job = qobject_to(QDict, qlist_entry_obj(e));

            if (g_str_equal(qdict_get_str(job, "id"), id) &&
                g_str_equal(qdict_get_str(job, "status"), "concluded")) {
                g_assert_cmpstr(qdict_get_try_str(job, "error"), ==, NULL);
                done = true;
            }
        }
        qobject_unref(rsp);
        g_usleep(500);
    }
    g_assert_true(done);
    qtest_qmp_assert_success(qts, "{'execute': 'job-dismiss',"
                             " 'arguments': {'id': %s}}", id);
}

static void snapshot(QTestState *qts, const char *command)
{
    qtest_qmp_assert_success(qts, "{'execute': %s, 'arguments': {"
                             " 'job-id': 'snapshot', 'tag': 'one',"
                             " 'vmstate': 'disk', 'devices': ['disk']}}",
                             command);
    wait_job(qts, "snapshot");
}

/* An image that snapshots can be put into. */
static void add_image(QTestState *qts, const char *path)
{
    g_assert_true(g_file_set_contents(path, "", 0, NULL));
    qtest_qmp_assert_success(qts, "{'execute': 'blockdev-add', 'arguments': {"
                             " 'driver': 'file', 'node-name': 'file',"
                             " 'filename': %s}}", path);
    qtest_qmp_assert_success(qts, "{'execute': 'blockdev-create',"
                             " 'arguments': {'job-id': 'create', 'options': {"
                             " 'driver': 'qcow2', 'file': 'file',"
                             " 'size': 1048576}}}");
    wait_job(qts, "create");
    qtest_qmp_assert_success(qts, "{'execute': 'blockdev-add', 'arguments': {"
                             " 'driver': 'qcow2', 'node-name': 'disk',"
                             " 'file': 'file'}}");
}

/* savevm and loadvm: all is different before the latter. */
static void test_snapshot(void)
{
    g_autofree char *first = tmp_file("first");
    g_autofree char *second = tmp_file("second");
    g_autofree char *image = tmp_file("image");
    QXenPVIOMMU *iommu = start(NULL, "");
    uint64_t tail;

    add_image(iommu->qts, image);
    fill(iommu);
    stop(iommu);
    save(iommu, first);
    snapshot(iommu->qts, "snapshot-save");
    cont(iommu);

    tail = pviommu_readl(iommu, XEN_PVIOMMU_REG_FAULT_TAIL);
    g_assert_cmpint(pviommu_attach(iommu, EDU_SBDF, 0), ==, 0);
    g_assert_cmpint(pviommu_free_context(iommu, 1), ==, 0);
    g_assert_cmpuint(pviommu_alloc_context(iommu), ==, 1);
    g_assert_cmpint(pviommu_map(iommu, 1, 0x12, 0x12, 1, 0), ==, 0);
    g_assert_cmpint(pviommu_attach(iommu, BEHIND_SBDF, 1), ==, 0);
    pviommu_writel(iommu, XEN_PVIOMMU_REG_FAULT_CTRL, 0);

    stop(iommu);
    snapshot(iommu->qts, "snapshot-load");
    /* Nothing is delivered while it stands still. */
    g_assert_cmpuint(pviommu_readl(iommu, XEN_PVIOMMU_REG_FAULT_TAIL), ==,
                     tail);
    save(iommu, second);
    assert_same_files(first, second);
    cont(iommu);

    check(iommu);
    check_faults(iommu);
    check_dma(iommu);
    /* The books, too: all that is held can be let go of. */
    g_assert_cmpint(pviommu_flush_all(iommu, 1), ==, 0);
    g_assert_cmpuint(pviommu_counter(iommu, XEN_PVIOMMU_COUNTER_PENDING), ==,
                     0);
    g_assert_cmpint(pviommu_attach(iommu, BEHIND_SBDF, 0), ==, 0);
    g_assert_cmpint(pviommu_free_context(iommu, 3), ==, 0);
    pviommu_quit(iommu);
}

/* Before the big switch: nothing but a context. And back, by loadvm. */
static void test_identity(void)
{
    g_autofree char *image = tmp_file("image");
    g_autofree char *path = tmp_file("identity");
    QXenPVIOMMU *iommu = start(NULL, "");
    QEdu edu;

    add_image(iommu->qts, image);
    pviommu_accept(iommu, XEN_IOMMU_FEATURES_ALL);
    g_assert_cmpuint(pviommu_alloc_context(iommu), ==, 1);
    stop(iommu);
    save(iommu, path);
    snapshot(iommu->qts, "snapshot-save");
    cont(iommu);
    g_assert_cmpint(pviommu_map(iommu, 1, 1, GFN(0), 1, 0), ==, 0);
    g_assert_cmpint(pviommu_attach(iommu, EDU_SBDF, 1), ==, 0);
    g_assert_false(pviommu_identity(iommu));

    stop(iommu);
    snapshot(iommu->qts, "snapshot-load");
    cont(iommu);
    for (unsigned i = 0; i < 2; i++) {
        g_assert_true(pviommu_identity(iommu));
        pviommu_assert_unmapped(iommu, 1, 1);
        pviommu_assert_frames(iommu, 0, 0);
        init_edu(&edu, iommu);
        edu_assert_access(&edu, (uint64_t)GFN(0) * PVIOMMU_PAGE,
                          (uint64_t)GFN(0) * PVIOMMU_PAGE, 64);
        g_assert_cmpint(pviommu_free_context(iommu, 1), ==, 0);
        pviommu_quit(iommu);
        if (!i) {
            iommu = start_loaded(path, NULL, "");
        }
    }
}

static char *v1_stream(void)
{
    return g_test_build_filename(G_TEST_DIST, V1_STREAM, NULL);
}

static void test_record(void)
{
    const char *to = getenv("XEN_PVIOMMU_RECORD");
    QXenPVIOMMU *iommu;

    if (!to) {
        g_test_skip("XEN_PVIOMMU_RECORD is not set");
        return;
    }
    iommu = start(NULL, "");
    fill(iommu);
    stop(iommu);
    save(iommu, to);
    pviommu_quit(iommu);
}

/* What the first release wrote can be read for ever. */
static void test_v1(void)
{
    g_autofree char *path = v1_stream();
    QXenPVIOMMU *iommu = start_loaded(path, NULL, "");

    number_bus(iommu);
    check(iommu);
    check_faults(iommu);
    check_dma(iommu);
    /* And where it was attached by the way to it, whatever its number. */
    g_assert_cmpint(pviommu_attach(iommu, BEHIND_SBDF, 0), ==, 0);
    g_assert_cmpint(pviommu_free_context(iommu, 3), ==, 0);
    pviommu_quit(iommu);
}

/* What QEMU printed, of all that was redirected to @path. */
static void assert_printed(const char *path, const char *text)
{
    g_autofree char *all = NULL;

    g_assert_true(g_file_get_contents(path, &all, NULL, NULL));
    if (!strstr(all, text)) {
        g_test_message("'%s' is not in '%s'", text, all);
        g_assert_not_reached();
    }
}

typedef struct Fit {
    const char *machine;
    const char *props;
    const char *extra;
    const char *refusal;        /* NULL: it fits */
} Fit;

/* The same stream on machines that are not the source's. */
static void test_fit(void)
{
    static const Fit fits[] = {
        { "q35", "max-contexts=65535,bfn-bits=40,max-mappings=99999999",
          TWO_EDUS, NULL },
        { "q35", "max-contexts=4,bfn-bits=36,max-mappings=16455", TWO_EDUS,
          NULL },
        { "q35", "max-contexts=3", TWO_EDUS,
          "context 3: out of order in the stream, or beyond max-contexts=3" },
        { "q35", "bfn-bits=35", TWO_EDUS,
          "bfn 0xfff000000 gfn 0x2000 nr 0x4000 is beyond bfn-bits=35" },
        { "q35", "max-mappings=16454", TWO_EDUS,
          "does not fit this machine (error -28)" },
        /* No root port. */
        { "q35", NULL, EDU_DEVICE ",addr=11",
          "cannot be in context 3: this machine has no such place" },
        { "pc", NULL, EDU_DEVICE ",addr=11",
          "cannot be in context 3: this machine has no such place" },
        /* A context maps what a device in it reserves, or all must not map. */
        { "q35", "\"device-reserved-regions\":"
          "[\"pcie.0/11.0=0x20000:0x20fff:0\"]", TWO_EDUS,
          "bfn 0x20 gfn 0x3020 nr 0x1 does not fit this machine (error -99)" },
        { "q35", "\"device-reserved-regions\":"
          "[\"rp0/00.0=0x20000:0x20fff:0\"]", TWO_EDUS, NULL },
        { "q35", "\"device-reserved-regions\":"
          "[\"pcie.0/11.0=0xfff000000000:0xfff000000fff:0\"]", TWO_EDUS, NULL },
        { "q35", "\"reserved-regions\":[\"0x20000:0x20fff:0\"]", TWO_EDUS,
          "bfn 0x20 gfn 0x3020 nr 0x1 does not fit this machine (error -99)" },
    };
    g_autofree char *path = v1_stream();
    g_autofree char *messages = tmp_file("fit-messages");

    for (size_t i = 0; i < ARRAY_SIZE(fits); i++) {
        g_autofree char *full = g_strconcat(fits[i].machine,
                                            SECTION_MACHINE(""), NULL);
        g_autofree char *extra = g_strconcat(SECTION_ARGS, fits[i].extra,
                                             " 2>", messages, NULL);
        QXenPVIOMMU *iommu = start_incoming(full, fits[i].props, extra);

        g_assert_cmpint(load(iommu, path), ==, !fits[i].refusal);
        if (fits[i].refusal) {
            assert_printed(messages, fits[i].refusal);
        } else {
            check(iommu);
        }
        pviommu_quit(iommu);
    }
}

/* Pages that are there no more are lost, and the rest is not. */
static void test_gone(void)
{
    g_autofree char *path = v1_stream();
    /* RAM ends within the large run of the default context. */
    QXenPVIOMMU *iommu = start_loaded(path, NULL, "-m 40 2>/dev/null");

    pviommu_assert_unmapped(iommu, 0, 0xfff000000);
    pviommu_assert_mapped(iommu, 1, run_bfn(1), GFN(5), run_nr(1), 1);
    pviommu_quit(iommu);
}

/*
 * The guest has RAM where a new machine has ROM, and RAM in a BAR. Loaded,
 * saved before it ever ran, and loaded again.
 */
static void test_memory_map(const void *machine)
{
    static const char vga_args[] = "-device bochs-display,addr=11,romfile= ";
    g_autofree char *path = tmp_file("memory-map");
    g_autofree char *uri = g_strdup_printf("file:%s", path);
    QXenPVIOMMU *iommu = pviommu_start(machine, NULL, vga_args);
    QPCIDevice *host = qpci_device_find(iommu->pci, QPCI_DEVFN(0, 0));
    QPCIDevice *vga = qpci_device_find(iommu->pci, QPCI_DEVFN(0x11, 0));
    uint64_t vram = qpci_iomap(vga, 0, NULL).addr / PVIOMMU_PAGE;

    qpci_device_enable(vga);
    g_assert_cmpint(pviommu_map(iommu, 0, 0x10, 0xd0, 16, 0), ==,
                    -XEN_IOMMU_EINVAL);
    pviommu_accept(iommu, XEN_IOMMU_FEATURES_ALL);
    g_assert_cmpint(pviommu_map(iommu, 0, 0x10, 0xd0, 16, 0), <, 0);
    /* All from 0xc0000 to 0xfffff is RAM. */
    for (unsigned i = 0; i < 7; i++) {
        qpci_config_writeb(host, (g_str_equal(machine, "q35") ? 0x90 : 0x59) +
                           i, i ? 0x33 : 0x30);
    }
    g_assert_cmpint(pviommu_map(iommu, 0, 0x10, 0xd0, 16, 0), ==, 0);
    g_assert_cmpint(pviommu_map(iommu, 0, 0x40, 0xf0, 16, 1), ==, 0);
    g_assert_cmpint(pviommu_map(iommu, 0, 0x100, vram, 64, 0), ==, 0);
    g_assert_cmpint(pviommu_map(iommu, 0, 0x200, vram, 64, 0), ==, 0);
    g_assert_cmpint(pviommu_map(iommu, 0, 0x300, GFN(0), 64, 0), ==, 0);
    g_assert_cmpint(pviommu_unmap(iommu, 0, 0x200, 32), ==, 0);
    g_assert_cmpint(pviommu_unmap(iommu, 0, 0x4c, 4), ==, 0);
    stop(iommu);

    for (unsigned i = 0; i < 2; i++) {
        QXenPVIOMMU *next;

        qtest_qmp_assert_success(iommu->qts, "{'execute': 'migrate',"
                                 " 'arguments': {'uri': %s}}", uri);
        g_assert_true(wait_migration(iommu->qts));
        next = start_incoming(machine, NULL, vga_args);
        g_assert_true(load(next, path));
        pviommu_quit(iommu);
        iommu = next;
    }
    cont(iommu);
    pviommu_assert_mapped(iommu, 0, 0x10, 0xd0, 16, 0);
    pviommu_assert_mapped(iommu, 0, 0x40, 0xf0, 12, 1);
    pviommu_assert_unmapped(iommu, 0, 0x4c);
    pviommu_assert_mapped(iommu, 0, 0x100, vram, 64, 0);
    pviommu_assert_unmapped(iommu, 0, 0x200);
    pviommu_assert_mapped(iommu, 0, 0x220, vram + 32, 32, 0);
    pviommu_assert_mapped(iommu, 0, 0x300, GFN(0), 64, 0);
    pviommu_assert_frames(iommu, 16 + 12 + 64 + 32 + 64, 36);
    /* That it came and went meanwhile is nothing the guest did. */
    g_assert_cmpuint(pviommu_counter(iommu, XEN_PVIOMMU_COUNTER_INVALIDATED),
                     ==, 0);

    /* These are mappings like any others: what goes away is gone. */
    vga->bus = iommu->pci;
    qpci_config_writew(vga, PCI_COMMAND, 0);
    pviommu_assert_unmapped(iommu, 0, 0x100);
    pviommu_assert_frames(iommu, 16 + 12 + 64, 4);
    g_free(host);
    g_free(vga);
    pviommu_quit(iommu);
}

/*
 * What a machine makes of it that was given a good stream before: refused or
 * taken, as the case may be, but it lives on, with its books in order.
 */
static bool try_damaged(const uint8_t *data, size_t len)
{
    g_autofree char *path = tmp_file("damaged");
    QXenPVIOMMU *iommu = start_incoming(SECTION_MACHINE("q35"),
                                        "max-mappings=100000",
                                        SECTION_ARGS TWO_EDUS "2>/dev/null");
    bool taken;

    g_assert_true(g_file_set_contents(path, (char *)data, len, NULL));
    taken = load(iommu, path);
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

static void test_cut_short(void)
{
    g_autofree char *path = v1_stream();
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

static void test_damaged(void)
{
    static const uint8_t values[] = { 0, 0xff, 0x80, 0x7f, 1, 0x1f };
    const char *wanted = getenv("XEN_PVIOMMU_MUTATIONS");
    unsigned nr = wanted ? atoi(wanted) : 100;
    g_autofree char *path = v1_stream();
    g_autofree char *data = NULL;
    g_autoptr(GRand) rand = g_rand_new_with_seed(nr);
    unsigned taken = 0;
    size_t len, all;

    g_assert_true(g_file_get_contents(path, &data, &len, NULL));
    for (unsigned i = 0; i < nr; i++) {
        g_autofree uint8_t *bad = twice(data, len, len, &all);
        unsigned bytes = g_rand_int_range(rand, 1, 4);

        while (bytes--) {
            /* Most of them in the contexts, functions and mappings. */
            size_t at = g_rand_int_range(rand, i % 4 ? all - 400 : len, all);

            bad[at] = g_rand_boolean(rand)
                ? values[g_rand_int_range(rand, 0, sizeof(values))]
                : bad[at] ^ 1u << g_rand_int_range(rand, 0, 8);
        }
        taken += try_damaged(bad, all);
    }
    g_test_message("%u of %u were taken", taken, nr);
    g_assert_cmpuint(taken, <, nr);
}

#define QUEUE(n)        (PVIOMMU_QUEUE_ADDR + (n) * PVIOMMU_QUEUE_STRIDE)

/* Of the queues' part of a section: how many there are, and each of them */
#define QUEUES_NAME     "xen-pviommu/queues"
#define QUEUES_NR       (strlen(QUEUES_NAME) + 4)
#define QUEUE_CTX       0
#define QUEUE_ADDR      2
#define QUEUE_NR_OPS    10
#define QUEUE_HEAD      14
#define QUEUE_LEN       22
#define QUEUE_FIELD(i, field) (QUEUES_NR + 4 + (i) * QUEUE_LEN + (field))

static void push_map(QPVIOMMUQueue *q, uint64_t bfn, uint64_t gfn)
{
    pviommu_queue_push(q, pviommu_op_map(q->ctx, bfn, gfn, 0, 0));
}

/* Three operations ran in one of two queues. */
static void fill_queues(QXenPVIOMMU *iommu, QPVIOMMUQueue *q)
{
    pviommu_accept(iommu, XEN_IOMMU_FEATURES_ALL);
    g_assert_cmpint(pviommu_enable(iommu), ==, 0);
    g_assert_cmpuint(pviommu_alloc_context(iommu), ==, 1);
    pviommu_queue_init(&q[0], iommu, 0, QUEUE(0), 4);
    pviommu_queue_init(&q[1], iommu, 1, QUEUE(1), 1024);
    push_map(&q[0], 1, GFN(1));
    push_map(&q[0], 1, GFN(2));
    push_map(&q[0], 2, GFN(2));
}

/* loadvm: queues that are others by then, and ones that are gone */
static void test_queue_snapshot(void)
{
    g_autofree char *image = tmp_file("image");
    QXenPVIOMMU *iommu = start(NULL, "");
    QPVIOMMUQueue q[2], other;

    add_image(iommu->qts, image);
    fill_queues(iommu, q);
    stop(iommu);
    snapshot(iommu->qts, "snapshot-save");
    cont(iommu);
    pviommu_queue_init(&other, iommu, 0, QUEUE(2), 16);
    push_map(&other, 3, GFN(3));
    g_assert_cmpint(pviommu_free_context(iommu, 1), ==, 0);

    stop(iommu);
    snapshot(iommu->qts, "snapshot-load");
    cont(iommu);
    for (unsigned i = 0; i < 2; i++) {
        g_assert_cmpuint(pviommu_queue_head(&q[i]), ==, q[i].tail);
        g_assert_cmpuint(pviommu_queue_errors(&q[i]), ==, !i);
        g_assert_cmphex(pviommu_queue_flags(&q[i]), ==, 0);
        push_map(&q[i], 5, GFN(5));
        pviommu_queue_kick(&q[i]);
        pviommu_assert_mapped(iommu, i, 5, GFN(5), 1, 0);
    }
    pviommu_assert_mapped(iommu, 0, 1, GFN(1), 2, 0);
    pviommu_assert_unmapped(iommu, 0, 3);
    pviommu_quit(iommu);
}

/* A section with two queues, that of context 0 being the @first of them */
static uint8_t *queue_stream(size_t *len, size_t *at, unsigned *first)
{
    g_autofree char *path = tmp_file("queues");
    QXenPVIOMMU *iommu = start(NULL, "");
    QPVIOMMUQueue q[2];
    char *data;

    fill_queues(iommu, q);
    stop(iommu);
    save(iommu, path);
    pviommu_quit(iommu);
    g_assert_true(g_file_get_contents(path, &data, len, NULL));
    *at = find((uint8_t *)data, *len, 0, QUEUES_NAME, strlen(QUEUES_NAME));
    g_assert_cmpuint(*at, !=, OFFSET_NONE);
    g_assert_cmpuint(ldl_be_p(data + *at + QUEUES_NR), ==, 2);
    *first = lduw_be_p(data + *at + QUEUE_FIELD(0, QUEUE_CTX)) ? 1 : 0;
    g_assert_cmphex(ldq_be_p(data + *at + QUEUE_FIELD(*first, QUEUE_ADDR)), ==,
                    QUEUE(0));
    return (uint8_t *)data;
}

/* Where the guest may not have any, the option is named that lets it. */
static void test_queue_off(void)
{
    g_autofree char *path = tmp_file("off");
    g_autofree char *messages = tmp_file("off-messages");
    g_autofree char *extra = g_strconcat(SECTION_ARGS TWO_EDUS "2>", messages,
                                         NULL);
    size_t len, at;
    unsigned first;
    g_autofree uint8_t *data = queue_stream(&len, &at, &first);
    QXenPVIOMMU *iommu = start_incoming(SECTION_MACHINE("q35"), "queues=off",
                                        extra);

    g_assert_true(g_file_set_contents(path, (char *)data, len, NULL));
    g_assert_false(load(iommu, path));
    assert_printed(messages, "the guest uses queues, and this machine does not "
                   "offer any: give its xen-pviommu queues=on");
    pviommu_quit(iommu);
}

/* Queues that no guest can have are refused. */
static void test_queue_refused(void)
{
    static const struct {
        unsigned field;
        unsigned bytes;
        uint64_t value;
    } cases[] = {
        { QUEUE_CTX, 2, 2 },            /* no such context */
        { QUEUE_CTX, 2, 1 },            /* twice */
        { QUEUE_CTX, 2, 0xffff },
        { QUEUE_ADDR, 8, 0 },
        { QUEUE_ADDR, 8, QUEUE(0) + 8 },
        { QUEUE_ADDR, 8, -0x1000ull | 1 },
        { QUEUE_NR_OPS, 4, 0 },
        { QUEUE_NR_OPS, 4, 3 },
        { QUEUE_NR_OPS, 4, 2048 },
        { QUEUE_NR_OPS, 4, 0xffffffff },
    };
    size_t len, at;
    unsigned first;
    g_autofree uint8_t *data = queue_stream(&len, &at, &first);

    g_assert_true(try_damaged(data, len));
    for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
        g_autofree uint8_t *bad = g_memdup2(data, len);
        uint8_t *p = bad + at + QUEUE_FIELD(first, cases[i].field);

        if (cases[i].bytes == 2) {
            stw_be_p(p, cases[i].value);
        } else if (cases[i].bytes == 4) {
            stl_be_p(p, cases[i].value);
        } else {
            stq_be_p(p, cases[i].value);
        }
        g_assert_false(try_damaged(bad, len));
    }
    stl_be_p(data + at + QUEUES_NR, UINT32_MAX);
    g_assert_false(try_damaged(data, len));
}

/* Queues whose memory is not there, or says something else, are none. */
static void test_queue_lost(void)
{
    g_autofree char *path = tmp_file("lost");
    size_t len, at;
    unsigned first;
    g_autofree uint8_t *data = queue_stream(&len, &at, &first);

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
            push_map(&q, 7, GFN(7));
            pviommu_queue_kick(&q);
            pviommu_assert_mapped(iommu, 0, 7, GFN(7), 1, 0);
            g_assert_cmpuint(pviommu_queue_errors(&q), ==, 1);
        } else {
            push_map(&q, 7, GFN(7));
            pviommu_assert_unmapped(iommu, 0, 7);
            g_assert_cmphex(pviommu_queue_flags(&q) & XEN_IOMMU_QUEUE_dead, ==,
                            i == 1 ? 0 : XEN_IOMMU_QUEUE_dead);
        }
        pviommu_queue_init(&q, iommu, 0, QUEUE(2), 4);
        push_map(&q, 8, GFN(8));
        pviommu_queue_kick(&q);
        pviommu_assert_mapped(iommu, 0, 8, GFN(8), 1, 0);
        pviommu_quit(iommu);
    }
}

/* Where operations are counted on from 0 */
static void test_queue_wraps(void)
{
    const uint32_t start_at = UINT32_MAX - 5;
    g_autofree char *path = tmp_file("wraps");
    size_t len, at;
    unsigned first;
    g_autofree uint8_t *data = queue_stream(&len, &at, &first);
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
            push_map(&q, 16 + j, GFN(16 + j));
        }
        pviommu_queue_kick(&q);
        g_assert_cmpuint(pviommu_queue_head(&q), ==, start_at + i + 3);
        pviommu_assert_mapped(iommu, 0, 16, GFN(16), i + 3, 0);
    }
    g_assert_cmphex(pviommu_queue_flags(&q), ==, 0);
    pviommu_quit(iommu);
}

/* Above the reserved range. */
#define MANY_BFN        0x100000ull

/* A page of its own for each run, and no two that follow each other. */
static uint64_t many_gfn(uint64_t first, uint64_t pages, uint64_t i)
{
    return first + i * 0x9e3779b1 % pages;
}

static void test_many(void)
{
    const char *wanted = getenv("XEN_PVIOMMU_RUNS");
    uint64_t runs = wanted ? g_ascii_strtoull(wanted, NULL, 0) : 50000;
    /* Above 4 GiB, if there is more than the other tests have. */
    uint64_t first = wanted ? 1 << 20 : PVIOMMU_FREE_GFN;
    uint64_t pages = wanted ? pow2ceil(runs) :
                              PVIOMMU_RAM_GFNS - PVIOMMU_FREE_GFN;
    g_autofree char *stream = tmp_file("many");
    g_autofree char *ram = tmp_file("ram");
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
            g_assert_cmpint(pviommu_status(&ops[n]), ==, 0);
        }
    }
    pviommu_accept(iommu, XEN_IOMMU_FEATURES_ALL);

    qtest_qmp_assert_success(iommu->qts, ignore_shared);
    qtest_qmp_assert_success(iommu->qts, "{'execute': 'migrate',"
                             " 'arguments': {'uri': %s}}", uri);
    g_assert_true(wait_migration(iommu->qts));
    g_assert_cmpint(stat(stream, &st), ==, 0);
    g_test_message("%" PRIu64 " runs, %zu bytes of stream", runs,
                   (size_t)st.st_size);
    /* No more than six bytes a run, and what else there is. */
    g_assert_cmpuint(st.st_size, <, 6 * runs + 400000);

    to = pviommu_start("q35", props, to_args);
    qtest_qmp_assert_success(to->qts, ignore_shared);
    g_assert_true(load(to, stream));
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

static void remove_dir(void)
{
    GDir *d = g_dir_open(dir, 0, NULL);
    const char *name;

    while (d && (name = g_dir_read_name(d))) {
        g_autofree char *path = tmp_file(name);

        unlink(path);
    }
    g_clear_pointer(&d, g_dir_close);
    rmdir(dir);
    g_free(dir);
}

/* Xen's toolstack saves beside a device that cannot be: nothing happens. */
static void test_beside_nvme(void)
{
    g_autofree char *path = tmp_file("beside-nvme");
    QXenPVIOMMU *iommu = start(NULL, "-device nvme,serial=1 ");
    QDict *error;

    pviommu_accept(iommu, XEN_IOMMU_FEATURES_ALL);
    g_assert_cmpint(pviommu_map(iommu, 0, 1, GFN(0), 1, 0), ==, 0);
    for (unsigned live = 0; live < 2; live++) {
        g_autofree char *status = NULL;

        error = qtest_qmp_assert_failure_ref(
            iommu->qts, "{'execute': 'xen-save-devices-state',"
            " 'arguments': {'filename': %s, 'live': %i}}", path, live);
        g_assert_nonnull(strstr(qdict_get_str(error, "desc"), "nvme"));
        qobject_unref(error);
        g_assert_false(g_file_test(path, G_FILE_TEST_EXISTS));
        status = query_status(iommu->qts, "query-status");
        g_assert_cmpstr(status, ==, "running");
    }
    g_assert_cmpint(pviommu_unmap(iommu, 0, 1, 1), ==, 0);
    pviommu_quit(iommu);
}

int main(int argc, char **argv)
{
    int ret;

    g_test_init(&argc, &argv, NULL);
    dir = g_dir_make_tmp("pviommu-vmstate-XXXXXX", NULL);
    g_assert_nonnull(dir);

    qtest_add_func("/xen-pviommu/q35/vmstate/snapshot", test_snapshot);
    qtest_add_func("/xen-pviommu/q35/vmstate/identity", test_identity);
    qtest_add_func("/xen-pviommu/q35/vmstate/record", test_record);
    qtest_add_func("/xen-pviommu/q35/vmstate/v1", test_v1);
    qtest_add_func("/xen-pviommu/q35/vmstate/fit", test_fit);
    qtest_add_func("/xen-pviommu/q35/vmstate/gone", test_gone);
    pviommu_add_for_machines("vmstate/memory-map", test_memory_map);
    qtest_add_func("/xen-pviommu/q35/vmstate/cut-short", test_cut_short);
    qtest_add_func("/xen-pviommu/q35/vmstate/damaged", test_damaged);
    qtest_add_func("/xen-pviommu/q35/vmstate/queue-snapshot",
                   test_queue_snapshot);
    qtest_add_func("/xen-pviommu/q35/vmstate/queue-off", test_queue_off);
    qtest_add_func("/xen-pviommu/q35/vmstate/queue-refused",
                   test_queue_refused);
    qtest_add_func("/xen-pviommu/q35/vmstate/queue-lost", test_queue_lost);
    qtest_add_func("/xen-pviommu/q35/vmstate/queue-wraps", test_queue_wraps);
    qtest_add_func("/xen-pviommu/q35/vmstate/many", test_many);
    qtest_add_func("/xen-pviommu/q35/vmstate/beside-nvme", test_beside_nvme);

    ret = g_test_run();
    remove_dir();
    return ret;
}
