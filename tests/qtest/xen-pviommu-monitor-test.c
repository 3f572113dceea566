/*
 * xen-pviommu: what the monitor shows of it
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/units.h"
#include "qapi/error.h"
#include "qobject/qdict.h"
#include "qobject/qjson.h"
#include "qobject/qlist.h"
#include "libqos/bridge.h"
#include "libqos/edu.h"
#include "libqos/hotplug.h"
#include "libqos/xen-pviommu-qmp.h"

#define GFN             PVIOMMU_FREE_GFN
#define BFN             0x4000000
#define ADDR(frame)     ((uint64_t)(frame) * PVIOMMU_PAGE)
#define READONLY        XEN_IOMMUOP_map_readonly
#define EDU             EDU_DEVICE ",id=edu0,addr=11"
#define SBDF            (0x11 << 3)

static const char * const commands[] = {
    "{'execute': 'x-query-xen-pviommu'}",
    "{'execute': 'x-query-xen-pviommu-mappings', 'arguments': {'context': 0}}",
    "{'execute': 'x-query-xen-pviommu-gfn', 'arguments': {'gfn': 0}}",
    "{'execute': 'x-query-xen-pviommu-faults'}",
};

static QDict *query_mappings(QXenPVIOMMU *iommu, uint16_t ctx, uint64_t start,
                             unsigned max)
{
    return qtest_qmp_assert_success_ref(iommu->qts,
        "{'execute': 'x-query-xen-pviommu-mappings', 'arguments': "
        "{'context': %u, 'start-bfn': %" PRIu64 ", 'max': %u}}",
        ctx, start, max);
}

static void assert_error(QTestState *qts, const char *command,
                         const char *message)
{
    QObject *obj = qobject_from_json(command, &error_abort);
    QDict *error = qtest_qmp_assert_failure_ref(qts, "%p", obj);

    g_assert_cmpstr(qdict_get_str(error, "class"), ==, "GenericError");
    g_assert_cmpstr(qdict_get_str(error, "desc"), ==, message);
    qobject_unref(error);
}

/* As BFN>GFN*FRAMES in hex, r for readonly, p for pending. */
static char *runs_text(QDict *part)
{
    GString *text = g_string_new(NULL);
    const QListEntry *e;

    QLIST_FOREACH_ENTRY(qdict_get_qlist(part, "runs"), e) {
        QDict *run = qobject_to(QDict, qlist_entry_obj(e));

        g_string_append_printf(text, "%s%" PRIx64 ">%" PRIx64 "*%" PRIx64
                               "%s%s", text->len ? " " : "",
                               qdict_get_int(run, "bfn"),
                               qdict_get_int(run, "gfn"),
                               qdict_get_int(run, "frames"),
                               qdict_get_bool(run, "readonly") ? "r" : "",
                               qdict_get_bool(run, "pending") ? "p" : "");
    }
    return g_string_free(text, false);
}

/* @next and @omitted: 0 if there must be none. */
static void assert_part(QXenPVIOMMU *iommu, uint16_t ctx, uint64_t start,
                        unsigned max, const char *runs, int64_t next,
                        int64_t omitted)
{
    QDict *part = query_mappings(iommu, ctx, start, max);
    g_autofree char *text = runs_text(part);

    g_assert_cmpstr(text, ==, runs);
    g_assert_cmpint(qdict_get_try_int(part, "next-bfn", 0), ==, next);
    g_assert_cmpint(qdict_get_try_int(part, "omitted", 0), ==, omitted);
    qobject_unref(part);
}

/* As CONTEXT:BFN in hex, r and p as above. */
static char *places_text(QDict *part)
{
    GString *text = g_string_new(NULL);
    const QListEntry *e;

    QLIST_FOREACH_ENTRY(qdict_get_qlist(part, "places"), e) {
        QDict *place = qobject_to(QDict, qlist_entry_obj(e));

        g_string_append_printf(text, "%s%" PRId64 ":%" PRIx64 "%s%s",
                               text->len ? " " : "",
                               qdict_get_int(place, "context"),
                               qdict_get_int(place, "bfn"),
                               qdict_get_bool(place, "readonly") ? "r" : "",
                               qdict_get_bool(place, "pending") ? "p" : "");
    }
    return g_string_free(text, false);
}

/*
 * The parts, @max BFNs each, with | between them; and the position to
 * continue from always advances.
 */
static void assert_places(QXenPVIOMMU *iommu, uint64_t gfn, unsigned max,
                          const char *places)
{
    g_autoptr(GString) text = g_string_new(NULL);
    int64_t context = 0, bfn = 0;
    bool more = true;

    while (more) {
        QDict *part = qtest_qmp_assert_success_ref(iommu->qts,
            "{'execute': 'x-query-xen-pviommu-gfn', 'arguments': "
            "{'gfn': %" PRIu64 ", 'max': %u, 'start-context': %" PRIu64
            ", 'start-bfn': %" PRIu64 "}}", gfn, max, context, bfn);
        g_autofree char *part_text = places_text(part);
        int64_t next_context = qdict_get_try_int(part, "next-context", -1);
        int64_t next_bfn = qdict_get_try_int(part, "next-bfn", -1);

        g_string_append_printf(text, "%s%s", text->len ? "|" : "", part_text);
        more = next_context >= 0;
        g_assert(more == (next_bfn >= 0));
        g_assert(!more || next_context > context ||
                 (next_context == context && next_bfn > bfn));
        context = next_context;
        bfn = next_bfn;
        qobject_unref(part);
    }
    g_assert_cmpstr(text->str, ==, places);
}

/* Context @n of those there are. */
static QDict *nth_context(QDict *state, unsigned n)
{
    const QListEntry *e = qlist_first(qdict_get_qlist(state, "contexts"));

    while (n--) {
        g_assert_nonnull(e);
        e = qlist_next(e);
    }
    return qobject_to(QDict, qlist_entry_obj(e));
}

static QDict *find_device(QDict *ctx, const char *sbdf)
{
    const QListEntry *e;

    QLIST_FOREACH_ENTRY(qdict_get_qlist(ctx, "devices"), e) {
        QDict *dev = qobject_to(QDict, qlist_entry_obj(e));

        if (!strcmp(qdict_get_str(dev, "sbdf"), sbdf)) {
            return dev;
        }
    }
    return NULL;
}

/* The answer has all of the strings in it, up to NULL. */
static void G_GNUC_NULL_TERMINATED
assert_hmp(QTestState *qts, const char *command, ...)
{
    g_autofree char *text = qtest_hmp(qts, "%s", command);
    g_auto(GStrv) lines = g_strsplit(text, "\r", 0);
    g_autofree char *plain = g_strjoinv(NULL, lines);
    const char *part;
    va_list ap;

    va_start(ap, command);
    while ((part = va_arg(ap, const char *))) {
        if (!strstr(plain, part)) {
            g_test_message("'%s' is not in '%s'", part, plain);
            g_test_fail();
        }
    }
    va_end(ap);
}

static void test_no_device_is_an_error(void)
{
    QTestState *qts = qtest_init("-machine q35 -nodefaults");
    const char *message = "Error: the machine has no xen-pviommu";
    const char *hint = "Start it with -device xen-pviommu.";

    for (unsigned i = 0; i < ARRAY_SIZE(commands); i++) {
        assert_error(qts, commands[i], "the machine has no xen-pviommu");
    }
    assert_hmp(qts, "info xen-pviommu", message, hint, NULL);
    assert_hmp(qts, "info xen-pviommu 0", message, hint, NULL);
    assert_hmp(qts, "info xen-pviommu -g 0", message, hint, NULL);
    qtest_quit(qts);
}

static void test_bad_arguments_are_errors(void)
{
    QXenPVIOMMU *iommu = pviommu_start_accepted("q35", NULL, EDU);

    assert_error(iommu->qts, "{'execute': 'x-query-xen-pviommu-mappings', "
                 "'arguments': {'context': 7}}",
                 "xen-pviommu has no context 7");
    assert_error(iommu->qts, "{'execute': 'x-query-xen-pviommu-mappings', "
                 "'arguments': {'context': 65535}}",
                 "xen-pviommu has no context 65535");
    assert_error(iommu->qts, "{'execute': 'x-query-xen-pviommu-mappings', "
                 "'arguments': {'context': 0, 'max': 0}}",
                 "max must be between 1 and 512");
    assert_error(iommu->qts, "{'execute': 'x-query-xen-pviommu-mappings', "
                 "'arguments': {'context': 0, 'max': 4097}}",
                 "max must be between 1 and 512");
    assert_error(iommu->qts, "{'execute': 'x-query-xen-pviommu-gfn', "
                 "'arguments': {'gfn': 0, 'max': 0}}",
                 "max must be between 1 and 512");
    assert_error(iommu->qts, "{'execute': 'x-query-xen-pviommu-gfn', "
                 "'arguments': {'gfn': 1099511627776}}",
                 "gfn must be below 1 << 40");
    assert_hmp(iommu->qts, "info xen-pviommu 7",
               "Error: xen-pviommu has no context 7", NULL);
    assert_hmp(iommu->qts, "info xen-pviommu 65536",
               "a context is between 0 and 65535", NULL);
    assert_hmp(iommu->qts, "info xen-pviommu -g",
               "which GFN? Type: info xen-pviommu -g GFN", NULL);
    assert_part(iommu, 0, UINT64_MAX >> 1, 1, "", 0, 0);
    assert_places(iommu, 0, 512, "");
    pviommu_quit(iommu);
}

static void test_state_is_shown(const void *machine)
{
    QXenPVIOMMU *iommu = pviommu_start(machine, "\"bfn-bits\":30,"
                                       "\"max-mappings\":5000,"
                                       "\"max-contexts\":9,\"max-ops\":77,"
                                       "\"reserved-regions\":"
                                       "[\"0x100000:0x1fffff:0\"]", EDU);
    QDict *state = pviommu_query(iommu);
    QDict *ctx, *dev;
    uint16_t id;

    g_assert_cmpstr(qdict_get_str(state, "qom-path"), ==,
                    "/machine/peripheral-anon/device[0]");
    g_assert_cmpstr(qdict_get_str(state, "backend"), ==, "emulated");
    g_assert_true(qdict_get_bool(state, "identity"));
    g_assert_true(qdict_get_bool(state, "control"));
    g_assert_cmpint(qdict_get_int(state, "bfn-bits"), ==, 30);
    g_assert_cmpint(qdict_get_int(state, "max-mappings"), ==, 5000);
    g_assert_cmpint(qdict_get_int(state, "max-contexts"), ==, 9);
    g_assert_cmpint(qdict_get_int(state, "max-ops"), ==, 77);
    /* 64 bytes for each mapping, and 32 MiB; the rest is for records. */
    g_assert_cmpint(qdict_get_int(state, "max-memory"), >,
                    64 * 5000 + (32 << 20));
    g_assert_cmpint(qdict_get_int(state, "max-memory"), <,
                    64 * 5000 + (35 << 20));
    g_assert_cmpint(qdict_get_int(state, "memory"), >, 0);
    g_assert_cmpint(qdict_get_int(state, "memory"), <, 4 << 20);
    qmp_assert_json(qdict_get(state, "accepted"), "[]");
    qmp_assert_json(qdict_get(state, "reserved"),
                    "[{'bfn': 256, 'frames': 256, 'interrupts': false},"
                    " {'bfn': 1043968, 'frames': 256, 'interrupts': true}]");
    qmp_assert_json(qdict_get(state, "fault-ring"),
                    "{'enabled': false, 'address': 0, 'size': 0, 'head': 0,"
                    " 'tail': 0, 'waiting': 0}");
    qmp_assert_json(qdict_get(state, "counters"),
                    "{'doorbells': 0, 'operations': 0, 'errors': 0, 'maps': 0,"
                    " 'unmaps': 0, 'flushes': 0, 'faults': 0, 'faults-lost': 0,"
                    " 'invalidated-frames': 0}");
    g_assert_cmpint(qlist_size(qdict_get_qlist(state, "contexts")), ==, 1);
    ctx = nth_context(state, 0);
    qmp_assert_json(QOBJECT(find_device(ctx, "0000:00:11.0")),
                    "{'sbdf': '0000:00:11.0', 'type': 'edu', 'id': 'edu0',"
                    " 'qom-path': '/machine/peripheral/edu0'}");
    dev = find_device(ctx, "0000:00:10.0");
    g_assert_cmpstr(qdict_get_str(dev, "type"), ==, "xen-pviommu");
    g_assert_false(qdict_haskey(dev, "id"));
    qobject_unref(state);

    pviommu_accept(iommu, XEN_IOMMU_FEATURES_ALL & ~XEN_IOMMU_FEATURE_LOOKUP);
    assert_status(pviommu_map(iommu, 0, BFN, GFN, 3, 0), 0);
    id = pviommu_alloc_context(iommu);
    assert_status(pviommu_attach(iommu, SBDF, id), 0);
    assert_status(pviommu_map(iommu, id, BFN, GFN, 100, READONLY), 0);
    assert_status(pviommu_map(iommu, id, BFN, GFN, 1, 0), XEN_IOMMU_EEXIST);
    assert_status(pviommu_unmap(iommu, id, BFN + 10, 20), 0);
    assert_status(pviommu_flush(iommu, id, BFN + 10, 5), 0);

    state = pviommu_query(iommu);
    g_assert_false(qdict_get_bool(state, "identity"));
    qmp_assert_json(qdict_get(state, "accepted"),
                    "['ranges', 'contexts', 'queue', 'identity', "
                    "'interrupts', 'mmio']");
    g_assert_cmpint(qdict_get_int(state, "mapped-frames"), ==, 83);
    g_assert_cmpint(qdict_get_int(state, "pending-frames"), ==, 15);
    qmp_assert_json(qdict_get(state, "counters"),
                    "{'doorbells': 7, 'operations': 7, 'errors': 1, 'maps': 2,"
                    " 'unmaps': 1, 'flushes': 1, 'faults': 0, 'faults-lost': 0,"
                    " 'invalidated-frames': 0}");
    g_assert_cmpint(qlist_size(qdict_get_qlist(state, "contexts")), ==, 2);
    ctx = nth_context(state, 0);
    g_assert_cmpint(qdict_get_int(ctx, "mapped-frames"), ==, 3);
    g_assert_cmpint(qdict_get_int(ctx, "pending-frames"), ==, 0);
    g_assert_null(find_device(ctx, "0000:00:11.0"));
    g_assert_nonnull(find_device(ctx, "0000:00:10.0"));
    qmp_assert_json(QOBJECT(nth_context(state, 1)),
                    "{'context': 1, 'mapped-frames': 80, 'pending-frames': 15,"
                    " 'reserved': [], 'devices': ["
                    "{'sbdf': '0000:00:11.0', 'type': 'edu', 'id': 'edu0',"
                    " 'qom-path': '/machine/peripheral/edu0'}]}");
    qobject_unref(state);
    pviommu_quit(iommu);
}

/* A bridge hides a device. */
static void test_bridged_device_has_a_requester(void)
{
    QXenPVIOMMU *iommu = pviommu_start("q35",
        "\"device-reserved-regions\":"
        "[\"pcie.0/12.0=0x200000:0x200fff:1\"]",
        "-device pcie-pci-bridge,id=br,addr=5 "
        EDU_DEVICE ",id=edu1,bus=br,addr=3 "
        EDU_DEVICE ",addr=12");
    uint16_t ctx;
    QDict *state;

    bridge_init(iommu->pci, QPCI_DEVFN(5, 0), 0, 1, 1);
    pviommu_accept(iommu, XEN_IOMMU_FEATURES_ALL);
    ctx = pviommu_alloc_context(iommu);
    assert_status(pviommu_attach(iommu, 0x100 | 3 << 3, ctx), 0);
    assert_status(pviommu_attach(iommu, 0x12 << 3, ctx), 0);
    state = pviommu_query(iommu);
    qmp_assert_json(QOBJECT(nth_context(state, 1)),
                    "{'context': 1, 'mapped-frames': 0, 'pending-frames': 0,"
                    " 'reserved': ["
                    "{'bfn': 512, 'frames': 1, 'interrupts': true}],"
                    " 'devices': ["
                    "{'sbdf': '0000:00:12.0', 'type': 'edu',"
                    " 'qom-path': '/machine/peripheral-anon/device[0]'},"
                    "{'sbdf': '0000:01:03.0', 'requester': '0000:01:00.0',"
                    " 'type': 'edu', 'id': 'edu1',"
                    " 'qom-path': '/machine/peripheral/edu1'}]}");
    qobject_unref(state);
    pviommu_quit(iommu);
}

/* Nothing is shown of a device that was unplugged. */
static void test_unplugged_device_is_not_shown(void)
{
    QXenPVIOMMU *iommu = pviommu_start("q35", NULL,
        "-device pcie-root-port,id=rp0,chassis=1,addr=5");
    const char *context = "{'context': 1, 'mapped-frames': 0,"
                          " 'pending-frames': 0, 'reserved': [],"
                          " 'devices': [%s]}";
    const char *device = "{'sbdf': '0000:01:00.0', 'type': 'edu', 'id': 'hot',"
                         " 'qom-path': '/machine/peripheral/hot'}";
    g_autofree char *before = g_strdup_printf(context, device);
    g_autofree char *after = g_strdup_printf(context, "");
    QDict *state;

    bridge_init(iommu->pci, QPCI_DEVFN(5, 0), 0, 1, 1);
    pviommu_accept(iommu, XEN_IOMMU_FEATURES_ALL);
    g_assert_cmpuint(pviommu_alloc_context(iommu), ==, 1);
    qtest_qmp_device_add(iommu->qts, "edu", "hot", "{'bus': 'rp0'}");
    assert_status(pviommu_attach(iommu, 0x100, 1), 0);
    state = pviommu_query(iommu);
    qmp_assert_json(QOBJECT(nth_context(state, 1)), before);
    qobject_unref(state);

    hotplug_eject(iommu->qts, "hot", HOTPLUG_ICH9, 0, 0);
    state = pviommu_query(iommu);
    qmp_assert_json(QOBJECT(nth_context(state, 1)), after);
    qobject_unref(state);
    pviommu_quit(iommu);
}

/* What QEMU printed to @path. */
static void assert_printed(const char *path, const char *text, bool printed)
{
    g_autofree char *all = NULL;

    g_assert_true(g_file_get_contents(path, &all, NULL, NULL));
    if (!strstr(all, text) != !printed) {
        g_test_message("'%s': '%s'", text, all);
        g_test_fail();
    }
}

/* What is not behind the IOMMU, by @sbdf; NULL if it is. */
static QDict *find_bypassing(QDict *state, const char *sbdf)
{
    const QListEntry *e;

    QLIST_FOREACH_ENTRY(qdict_get_qlist(state, "bypassing"), e) {
        QDict *dev = qobject_to(QDict, qlist_entry_obj(e));

        if (g_str_equal(qdict_get_str(dev, "sbdf"), sbdf)) {
            return dev;
        }
    }
    return NULL;
}

#define BYPASS_WARNING  "are not behind the IOMMU"

/* The machine puts devices past the IOMMU: it says so, and shows which. */
static void test_bypassing_devices_are_shown(void)
{
    static const struct {
        const char *machine;
        const char *extra;
        bool root, expander;
    } cases[] = {
        { "q35", "", false, false },
        { "q35,default-bus-bypass-iommu=on", "", true, false },
        { "q35", ",bypass_iommu=on", false, true },
        { "q35,default-bus-bypass-iommu=on", ",bypass_iommu=on", true, true },
    };
    g_autofree char *path = NULL;
    int fd = g_file_open_tmp("pviommu-bypass-XXXXXX", &path, NULL);

    g_assert_cmpint(fd, >=, 0);
    close(fd);
    for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
        g_autofree char *extra = g_strdup_printf(
            "-device edu,addr=11,id=e0 "
            "-device pxb-pcie,id=pxb0,bus_nr=128,addr=12%s "
            "-device pcie-root-port,id=rp0,bus=pxb0,chassis=1 "
            "-device edu,bus=rp0,id=e1 2>%s", cases[i].extra, path);
        QXenPVIOMMU *iommu = pviommu_start(cases[i].machine, NULL, extra);
        const bool root = cases[i].root, expander = cases[i].expander;
        QDict *state, *dev;

        bridge_set_buses(iommu->pci, BRIDGE_DEVFN(128, 0, 0), 128, 129, 129);
        pviommu_accept(iommu, XEN_IOMMU_FEATURES_ALL);
        state = pviommu_query(iommu);
        dev = find_bypassing(state, "0000:00:11.0");
        g_assert_cmpint(!!dev, ==, root);
        if (dev) {
            g_assert_cmpstr(qdict_get_str(dev, "id"), ==, "e0");
        }
        dev = find_bypassing(state, "0000:81:00.0");
        g_assert_cmpint(!!dev, ==, expander);
        if (!root && !expander) {
            g_assert_true(qlist_empty(qdict_get_qlist(state, "bypassing")));
        }
        qobject_unref(state);

        assert_status(pviommu_attach(iommu, 0x11 << 3, 0),
                      root ? XEN_IOMMU_ENODEV : 0);
        assert_status(pviommu_attach(iommu, 129 << 8, 0),
                      expander ? XEN_IOMMU_ENODEV : 0);
        assert_printed(path, "bus 'pcie.0' " BYPASS_WARNING, root);
        assert_printed(path, "Remove default-bus-bypass-iommu=on", root);
        assert_printed(path, "bus 'pxb0' " BYPASS_WARNING, expander);
        assert_printed(path, "Remove bypass_iommu=on", expander);
        if (root) {
            assert_hmp(iommu->qts, "info xen-pviommu",
                       "not behind the IOMMU, which reach all memory:\n",
                       "  0000:00:11.0 edu, e0\n", NULL);
        }
        pviommu_quit(iommu);
    }
    unlink(path);
}

/* Pages that were mapped one by one are one run, where they follow. */
static void test_mappings_are_shown_as_runs(const void *machine)
{
    QXenPVIOMMU *iommu = pviommu_start_accepted(machine, NULL, EDU);
    uint16_t ctx = pviommu_alloc_context(iommu);

    assert_part(iommu, 0, 0, 64, "", 0, 0);
    for (unsigned i = 0; i < 10; i++) {
        assert_status(pviommu_map(iommu, ctx, 0x1000 + i, GFN + i, 0, 0), 0);
    }
    assert_part(iommu, ctx, 0, 64, "1000>2000*a", 0, 0);
    assert_part(iommu, 0, 0, 64, "", 0, 0);

    /* Not what is the next in one of both alone, nor with other rights. */
    assert_status(pviommu_map(iommu, ctx, 0x100a, GFN + 0x100, 0, 0), 0);
    assert_status(pviommu_map(iommu, ctx, 0x100c, GFN + 0x101, 0, 0), 0);
    assert_status(pviommu_map(iommu, ctx, 0x100d, GFN + 0x102, 0, READONLY), 0);
    assert_part(iommu, ctx, 0, 64, "1000>2000*a 100a>2100*1 100c>2101*1 "
                "100d>2102*1r", 0, 0);
    assert_part(iommu, ctx, 0x1004, 64, "1004>2004*6 100a>2100*1 100c>2101*1 "
                "100d>2102*1r", 0, 0);
    assert_part(iommu, ctx, 0x100e, 64, "", 0, 0);

    /* What is pending is merged as well, and where it was. */
    for (unsigned i = 2; i < 6; i++) {
        assert_status(pviommu_unmap(iommu, ctx, 0x1000 + i, 0), 0);
    }
    assert_status(pviommu_unmap(iommu, ctx, 0x100d, 0), 0);
    assert_part(iommu, ctx, 0, 64, "1000>2000*2 1002>2002*4p 1006>2006*4 "
                "100a>2100*1 100c>2101*1 100d>2102*1rp", 0, 0);
    assert_status(pviommu_map(iommu, ctx, 0x1003, GFN + 0x200, 2, 0), 0);
    assert_part(iommu, ctx, 0, 64, "1000>2000*2 1002>2002*4p 1003>2200*2 "
                "1006>2006*4 100a>2100*1 100c>2101*1 100d>2102*1rp", 0, 0);
    assert_part(iommu, ctx, 0x1004, 64, "1004>2201*1 1004>2004*2p "
                "1006>2006*4 100a>2100*1 100c>2101*1 100d>2102*1rp", 0, 0);

    /* Parts are cut where the next begins, and nothing is there twice. */
    assert_part(iommu, ctx, 0, 1, "1000>2000*2", 0x1002, 0);
    assert_part(iommu, ctx, 0, 2, "1000>2000*2 1002>2002*1p", 0x1003, 0);
    assert_part(iommu, ctx, 0x1003, 2, "1003>2200*2 1003>2003*3p", 0x1006, 0);
    assert_part(iommu, ctx, 0x1006, 3, "1006>2006*4 100a>2100*1 100c>2101*1",
                0x100d, 0);
    assert_part(iommu, ctx, 0x100d, 1, "100d>2102*1rp", 0, 0);

    assert_status(pviommu_flush_all(iommu, ctx), 0);
    assert_part(iommu, ctx, 0, 64, "1000>2000*2 1003>2200*2 1006>2006*4 "
                "100a>2100*1 100c>2101*1", 0, 0);
    pviommu_quit(iommu);
}

/* Any number of pages can be pending at one BFN. */
static void test_many_pending_at_one_bfn_are_omitted(void)
{
    QXenPVIOMMU *iommu = pviommu_start_accepted("q35", NULL, EDU);

    for (unsigned i = 0; i < 5; i++) {
        assert_status(pviommu_map(iommu, 0, BFN, GFN + 0x10 * i, 2, 0), 0);
        assert_status(pviommu_unmap(iommu, 0, BFN, 2), 0);
    }
    assert_status(pviommu_map(iommu, 0, BFN, GFN + 0x50, 2, 0), 0);
    assert_status(pviommu_map(iommu, 0, BFN + 8, GFN + 0x60, 2, 0), 0);

    assert_part(iommu, 0, 0, 1, "4000000>2050*1", BFN + 1, 5);
    assert_part(iommu, 0, BFN + 1, 1, "4000001>2051*1", BFN + 2, 5);
    assert_part(iommu, 0, BFN + 2, 1, "4000008>2060*2", 0, 0);
    {
        QDict *part = query_mappings(iommu, 0, 0, 6);

        g_assert_cmpint(qlist_size(qdict_get_qlist(part, "runs")), ==, 6);
        g_assert_cmpint(qdict_get_int(part, "next-bfn"), ==, BFN + 8);
        g_assert_false(qdict_haskey(part, "omitted"));
        qobject_unref(part);
    }
    pviommu_quit(iommu);
}

/* All parts together are the table. */
static void test_parts_make_the_table(void)
{
    QXenPVIOMMU *iommu = pviommu_start_accepted("q35", NULL, EDU);
    static struct xen_iommu_op ops[200];
    uint64_t next = 0;
    unsigned seen = 0;

    for (unsigned i = 0; i < ARRAY_SIZE(ops); i++) {
        ops[i] = pviommu_op_map(0, 0x1000 + 3 * i, GFN + i, 2, 0);
    }
    pviommu_run(iommu, ops, ARRAY_SIZE(ops));
    for (unsigned part_nr = 0; part_nr < 4; part_nr++) {
        QDict *part = qtest_qmp_assert_success_ref(iommu->qts,
            "{'execute': 'x-query-xen-pviommu-mappings', 'arguments': "
            "{'context': 0, 'start-bfn': %" PRIu64 "}}", next);
        const QListEntry *e;

        QLIST_FOREACH_ENTRY(qdict_get_qlist(part, "runs"), e) {
            QDict *run = qobject_to(QDict, qlist_entry_obj(e));

            g_assert_cmpint(qdict_get_int(run, "bfn"), ==, 0x1000 + 3 * seen);
            g_assert_cmpint(qdict_get_int(run, "gfn"), ==, GFN + seen);
            g_assert_cmpint(qdict_get_int(run, "frames"), ==, 2);
            seen++;
        }
        g_assert_cmpint(seen, ==, MIN(64 * (part_nr + 1), 200));
        next = qdict_get_try_int(part, "next-bfn", 0);
        g_assert_cmpint(next, ==, part_nr < 3 ? 0x1000 + 3 * seen : 0);
        qobject_unref(part);
    }
    pviommu_quit(iommu);
}

static void test_places_of_a_gfn_are_shown(const void *machine)
{
    QXenPVIOMMU *iommu = pviommu_start_accepted(machine, NULL, EDU);
    uint16_t ctx = pviommu_alloc_context(iommu);

    assert_places(iommu, GFN, 64, "");
    assert_status(pviommu_map(iommu, 0, BFN, GFN - 4, 16, 0), 0);
    assert_status(pviommu_map(iommu, 0, BFN + 16, GFN, 0, READONLY), 0);
    assert_status(pviommu_map(iommu, ctx, BFN + 1, GFN, 0, 0), 0);
    assert_places(iommu, GFN, 64, "0:4000004 0:4000010r 1:4000001");
    assert_places(iommu, GFN + 1, 64, "0:4000005");
    assert_status(pviommu_unmap(iommu, 0, BFN, 16), 0);
    assert_places(iommu, GFN, 64, "0:4000004p 0:4000010r 1:4000001");
    assert_places(iommu, GFN, 2, "0:4000004p 0:4000010r|1:4000001");
    assert_places(iommu, GFN, 1, "0:4000004p|0:4000010r|1:4000001");
    /* What is pending often at a BFN is there once, and counts once. */
    for (unsigned i = 0; i < 5; i++) {
        assert_status(pviommu_map(iommu, 0, BFN + 4, GFN, 0,
                                  i % 2 ? READONLY : 0), 0);
        assert_status(pviommu_unmap(iommu, 0, BFN + 4, 0), 0);
    }
    assert_status(pviommu_map(iommu, 0, BFN + 4, GFN, 0, 0), 0);
    assert_places(iommu, GFN, 1, "0:4000004 0:4000004p 0:4000004rp|0:4000010r|"
                  "1:4000001");
    assert_status(pviommu_unmap(iommu, 0, BFN + 4, 0), 0);
    assert_status(pviommu_flush_all(iommu, 0), 0);
    assert_places(iommu, GFN, 64, "0:4000010r 1:4000001");
    pviommu_quit(iommu);
}

/* What is shown has not been changed by that: all parts of very much. */
static void test_queries_change_nothing(void)
{
    QXenPVIOMMU *iommu = pviommu_start("q35", "x-check=off", "");
    static struct xen_iommu_op ops[3000];
    g_autoptr(GString) want = g_string_new(NULL);
    uint64_t next = 0;
    unsigned runs = 0;

    pviommu_accept(iommu, XEN_IOMMU_FEATURES_ALL);
    for (unsigned i = 0; i < ARRAY_SIZE(ops); i++) {
        /* Backwards: lists are in another order. */
        ops[i] = pviommu_op_map(0, 0x10000 - 2 * i, GFN, 0, 0);
    }
    pviommu_run(iommu, ops, ARRAY_SIZE(ops));
    for (unsigned i = 0; i < ARRAY_SIZE(ops); i++) {
        if (i % 3) {
            ops[i] = pviommu_op_unmap(0, 0x10000 - 2 * i, 0);
        } else {
            ops[i] = pviommu_op_lookup_bfn(0, 0x10000 - 2 * i);
        }
    }
    pviommu_run(iommu, ops, ARRAY_SIZE(ops));
    for (unsigned i = ARRAY_SIZE(ops); i--; ) {
        bool end = want->len && !((ARRAY_SIZE(ops) - 1 - i) % 500);

        g_string_append_printf(want, "%s0:%x%s",
                               end ? "|" : want->len ? " " : "",
                               0x10000 - 2 * i, i % 3 ? "p" : "");
    }
    assert_places(iommu, GFN, 500, want->str);
    do {
        QDict *part = query_mappings(iommu, 0, next, 500);
        const QListEntry *e;

        QLIST_FOREACH_ENTRY(qdict_get_qlist(part, "runs"), e) {
            QDict *run = qobject_to(QDict, qlist_entry_obj(e));
            unsigned i = ARRAY_SIZE(ops) - 1 - runs++;

            g_assert_cmpint(qdict_get_int(run, "bfn"), ==, 0x10000 - 2 * i);
            g_assert_cmpint(qdict_get_int(run, "frames"), ==, 1);
            g_assert(qdict_get_bool(run, "pending") == (i % 3 != 0));
        }
        next = qdict_get_try_int(part, "next-bfn", 0);
        qobject_unref(part);
    } while (next);
    g_assert_cmpuint(runs, ==, ARRAY_SIZE(ops));
    pviommu_assert_frames(iommu, 1000, 2000);
    assert_status(pviommu_flush_all(iommu, 0), 0);
    pviommu_assert_frames(iommu, 1000, 0);
    pviommu_quit(iommu);
}

static void test_hmp_shows_the_same(const void *machine)
{
    QXenPVIOMMU *iommu = pviommu_start_accepted(machine, NULL, EDU);
    uint16_t ctx = pviommu_alloc_context(iommu);
    static struct xen_iommu_op ops[70];
    g_autofree char *limit = NULL;
    QDict *state = pviommu_query(iommu);
    QEdu edu;

    /* What nodes take depends on how QEMU is built. */
    limit = g_strdup_printf(" KiB, at most %" PRId64 " KiB\n",
                            DIV_ROUND_UP(qdict_get_int(state, "max-memory"),
                                         KiB));
    qobject_unref(state);
    assert_hmp(iommu->qts, "info xen-pviommu",
               "identity map on, guest control on\n",
               "accepted features: ranges contexts lookup queue identity "
               "interrupts mmio\n",
               "limits: bfn-bits 36, max-mappings 16777216, "
               "max-contexts 1024, max-ops 512\n",
               limit,
               "faults: 0, 0 lost, 0 waiting; ring off\n",
               "reserved: BFN 0xfee00-0xfeeff, interrupts\n",
               "context 0: 0 frames mapped, 0 pending\n",
               "  0000:00:11.0 edu, edu0\n",
               NULL);

    edu_init(&edu, iommu, QPCI_DEVFN(0x11, 0));
    assert_status(pviommu_attach(iommu, SBDF, ctx), 0);
    for (unsigned i = 0; i < ARRAY_SIZE(ops); i++) {
        ops[i] = pviommu_op_map(ctx, 0x1000 + 2 * i, GFN, 0, READONLY);
    }
    pviommu_run(iommu, ops, ARRAY_SIZE(ops));
    assert_status(pviommu_map(iommu, ctx, 0x10, GFN + 1, 16, 0), 0);
    assert_status(pviommu_unmap(iommu, ctx, 0x18, 8), 0);
    pviommu_fault_ring(iommu, 4);
    edu_dma(&edu, true, ADDR(BFN), 8);
    pviommu_wait_faults(iommu, 1);

    assert_hmp(iommu->qts, "info xen-pviommu",
               "identity map off",
               "frames: 78 mapped, 8 pending, 0 invalidated\n",
               "faults: 1, 0 lost, 0 waiting; ring at 0x1800000, "
               "4 entries, head 0, tail 1\n",
               "context 1: 78 frames mapped, 8 pending\n"
               "  0000:00:11.0 edu, edu0\n",
               " 0000:00:11.0, context 1: write to 0x4000000000: unmapped; "
               "delivered\n",
               NULL);
    assert_hmp(iommu->qts, "info xen-pviommu 1",
               "0x10         0x2001       0x8\n",
               "0x18         0x2009       0x8 pending\n",
               "0x107a       0x2000       0x1 readonly\n",
               "More: info xen-pviommu 1 0x107c",
               NULL);
    assert_hmp(iommu->qts, "info xen-pviommu 1 0x107c",
               "0x107c       0x2000       0x1 readonly\n",
               "0x108a       0x2000       0x1 readonly\n",
               NULL);
    assert_hmp(iommu->qts, "info xen-pviommu -g 0x200a",
               "GFN 0x200a is in these places:",
               "  context 1, BFN 0x19 pending",
               NULL);
    assert_hmp(iommu->qts, "info xen-pviommu -g 0x2000",
               "GFN 0x2000 is in these places:",
               "  context 1, BFN 0x1000 readonly",
               "More: QMP x-query-xen-pviommu-gfn, from context 1, BFN 0x1080 "
               "on",
               NULL);
    pviommu_quit(iommu);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    pviommu_add("monitor/no-device-is-an-error", test_no_device_is_an_error);
    pviommu_add("monitor/bad-arguments-are-errors",
                test_bad_arguments_are_errors);
    pviommu_add_for_machines("monitor/state-is-shown", test_state_is_shown);
    pviommu_add("monitor/bridged-device-has-a-requester",
                test_bridged_device_has_a_requester);
    pviommu_add("monitor/unplugged-device-is-not-shown",
                test_unplugged_device_is_not_shown);
    pviommu_add_for_machines("monitor/mappings-are-shown-as-runs",
                             test_mappings_are_shown_as_runs);
    if (qtest_has_device("pxb-pcie")) {
        pviommu_add("q35/monitor/bypassing-devices-are-shown",
                    test_bypassing_devices_are_shown);
    }
    pviommu_add("monitor/many-pending-at-one-bfn-are-omitted",
                test_many_pending_at_one_bfn_are_omitted);
    pviommu_add("monitor/parts-make-the-table", test_parts_make_the_table);
    pviommu_add_for_machines("monitor/places-of-a-gfn-are-shown",
                             test_places_of_a_gfn_are_shown);
    pviommu_add("monitor/queries-change-nothing", test_queries_change_nothing);
    pviommu_add_for_machines("monitor/hmp-shows-the-same",
                             test_hmp_shows_the_same);
    return g_test_run();
}
