/*
 * xen-pviommu under a simulated hypervisor: each call of QEMU's fails
 *
 * At the start, QEMU ends and says what failed, or goes on with what it can.
 * Later it goes on.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qobject/qdict.h"
#include "hw/pci/pci_regs.h"
#include "libqos/edu.h"
#include "libqos/xensim.h"

#define GFN             PVIOMMU_FREE_GFN

/* All that calls something at the start. */
#define ARGS            "-device xen-pviommu,addr=10 " \
                        "-device VGA,addr=5,vgamem_mb=1 " \
                        "-device loader,addr=0x2000000,data=1,data-len=4"

/* --- at the start: what is said ------------------------------------------- */

typedef struct StartCase {
    const char *fn;
    unsigned call;
    int err;
    int status;
    const char *says;           /* NULL: nothing */
} StartCase;

static const StartCase start_cases[] = {
    /* There is no Xen. */
    { "xc_interface_open", 1, ENOENT, 1, "can't open xen interface" },
    { "xenforeignmemory_open", 1, EACCES, 1, "can't open xen fmem interface" },
    { "xendevicemodel_open", 1, EACCES, 1, "can't open xen devicemodel" },
    { "xenevtchn_open", 1, EACCES, 1, "event channel open failed" },
    { "xs_daemon_open", 1, ENOENT, 1, "xenstore open failed" },
    { "xs_open", 1, ENOENT, 1, "failed xs_open" },
    { "xs_open", 2, ENOENT, 1, "can't connect to xenstored" },
    { "xengnttab_open", 2, EACCES, 1, "Failed to open gnttab device" },
    /* There is no ioreq server, or no way to it. */
    { "xendevicemodel_get_ioreq_server_info", 1, EINVAL, 1,
      "failed to get ioreq server info" },
    { "xendevicemodel_set_ioreq_server_state", 1, EINVAL, 1,
      "failed to enable ioreq server" },
    { "xenforeignmemory_map_resource", 1, EPERM, 1,
      "failed to map ioreq server resources" },
    { "xenevtchn_bind_interdomain", 1, EINVAL, 1, "evtchn 0 bind error" },
    { "xenevtchn_bind_interdomain", 2, EINVAL, 1,
      "buffered evtchn bind error" },
    /* No memory. */
    { "xc_domain_populate_physmap_exact", 1, ENOMEM, 1, "ram" },
    { "xenforeignmemory_map2", 1, ENOMEM, 1,
      "cannot map the memory of 'vga." },
    /* The toolstack would wait for it. */
    { "xs_write", 1, EACCES, 1, "error recording dm state" },
    /* Backends of PV devices are not there, and all else is. */
    { "xs_mkdir", 1, EACCES, 0, "vkbd: failed" },
    { "xs_set_permissions", 1, EACCES, 0, "vkbd: failed" },
    { "xs_watch", 1, EACCES, 0, "watching backend path" },
    { "xs_watch", 2, EACCES, 0, "failed to watch node" },
    /* backend=auto takes the emulated one. */
    { "xencall_open", 1, EACCES, 0, NULL },
    { "xencall_alloc_buffer", 1, ENOMEM, 0, NULL },
    { "xencall2", 1, ENOSYS, 0, NULL },
    { "xencall4", 1, ENOSYS, 0, NULL },
    { "xencall4", 2, EFAULT, 0, NULL },
    { "iommu_op_query_reserved", 1, EACCES, 0, NULL },
    /* The old way; the hypervisor does not know the new one. */
    { "xendevicemodel_create_ioreq_server", 1, EINVAL, 0, NULL },
};

/* --- at the start: each call of each function ----------------------------- */

/* Returns: function -> how often it is called from start to end. */
static GHashTable *calls_of_a_run(void)
{
    GHashTable *calls = g_hash_table_new_full(g_str_hash, g_str_equal, g_free,
                                              NULL);
    g_autofree char *path = g_strdup_printf("%s/xensim-%d.log",
                                            g_get_tmp_dir(), getpid());
    g_autofree char *text = NULL, *err = NULL;
    g_auto(GStrv) lines = NULL;
    int status;

    g_setenv("XENSIM_LOG", path, true);
    err = xensim_try(NULL, ARGS, &status);
    g_unsetenv("XENSIM_LOG");
    g_assert_cmpstr(err, ==, "");
    g_assert_cmpint(status, ==, 0);
    g_assert_true(g_file_get_contents(path, &text, NULL, NULL));
    unlink(path);
    lines = g_strsplit(text, "\n", -1);
    for (char **l = lines; *l && **l; l++) {
        char *fn = g_strndup(*l, strcspn(*l, " "));

        g_hash_table_replace(calls, fn, (char *)
                             g_hash_table_lookup(calls, fn) + 1);
    }
    return calls;
}

static char *run_with(const char *fn, unsigned call, int err, int *status)
{
    g_autofree char *fail = g_strdup_printf("%s:%u:%d", fn, call, err);
    const XenSimOptions options = { .fail = fail };
    char *said = xensim_try(&options, ARGS, status);

    g_test_message("%s: status %d, \"%s\"", fail, *status, said);
    return said;
}

/* What QEMU could not undo, because that is what failed. */
static bool says_what_is_left(const char *said)
{
    static const char *const words[] = {
        "left open at exit", "was not destroyed", "is mapped", "is not mapped",
        "pages at exit",
    };

    for (int i = 0; i < ARRAY_SIZE(words); i++) {
        if (strstr(said, words[i])) {
            return true;
        }
    }
    return false;
}

/* QEMU ended: what it says of that is known. */
static void assert_said(const char *fn, const char *said)
{
    for (int i = 0; i < ARRAY_SIZE(start_cases); i++) {
        const StartCase *c = &start_cases[i];

        if (c->status && !strcmp(c->fn, fn) && strstr(said, c->says)) {
            return;
        }
    }
    g_assert_cmpstr(said, ==, fn);
}

static void check_call(const char *fn, unsigned call)
{
    int status;
    g_autofree char *said = run_with(fn, call, EIO, &status);

    switch (status) {
    case 0:
        break;
    case 1:
        assert_said(fn, said);
        break;
    case XENSIM_EXIT_COMPLAINTS:
        g_assert_true(says_what_is_left(said));
        break;
    default:
        g_assert_not_reached();
    }
    g_assert_null(strstr(said, "ssertion"));
}

static void test_each_failed_call_is_survived_or_reported(void)
{
    g_autoptr(GHashTable) calls = calls_of_a_run();
    GHashTableIter iter;
    gpointer fn, count;

    g_assert_cmpuint(g_hash_table_size(calls), >, 40);
    g_hash_table_iter_init(&iter, calls);
    while (g_hash_table_iter_next(&iter, &fn, &count)) {
        unsigned nr = (uintptr_t)count;

        for (unsigned i = 1; i <= nr; i++) {
            /* Of many that are alike, these. */
            if (g_test_slow() || i <= 2 || i == nr) {
                check_call(fn, i);
            }
        }
    }
}

static void test_start_fails_with_a_message(void)
{
    for (int i = 0; i < ARRAY_SIZE(start_cases); i++) {
        const StartCase *c = &start_cases[i];
        int status;
        g_autofree char *said = run_with(c->fn, c->call, c->err, &status);

        g_assert_cmpint(status, ==, c->status);
        if (!c->says) {
            g_assert_cmpstr(said, ==, "");
        } else if (!strstr(said, c->says)) {
            g_assert_cmpstr(said, ==, c->says);
        }
    }
}

/* No ioreq server at all, in either way. */
static void test_no_ioreq_server_ends_qemu(void)
{
    const XenSimOptions options = {
        .fail = "xendevicemodel_create_ioreq_server:1:22,"
                "xendevicemodel_create_ioreq_server:2:12",
    };
    int status;
    g_autofree char *said = xensim_try(&options, ARGS, &status);

    g_test_message("%s", said);
    g_assert_cmpint(status, ==, 1);
    g_assert_nonnull(strstr(said, "cannot do without an ioreq server"));
}

/* --- later ---------------------------------------------------------------- */

typedef struct Later {
    XenSim *sim;
    QXenPVIOMMU *iommu;
    QEdu edu;
} Later;

static void assert_works(Later *v)
{
    uint8_t value = xensim_assert_alive(v->sim);
    uint64_t gpa = (GFN + 700) * (uint64_t)PVIOMMU_PAGE;

    qtest_writeq(v->sim->qts, gpa, value);
    g_assert_cmphex(xensim_readq(v->sim, gpa), ==, value);
}

/* A bucket that is not mapped: its memory is like missing, for the moment. */
static void do_memory(Later *v)
{
    uint64_t gpa = (GFN + 0x2000) * (uint64_t)PVIOMMU_PAGE;

    qtest_writeq(v->sim->qts, gpa, 0x1234);
    qtest_writeq(v->sim->qts, gpa, 0x5678);
    g_assert_cmphex(qtest_readq(v->sim->qts, gpa), ==, 0x5678);
    g_assert_cmphex(xensim_readq(v->sim, gpa), ==, 0x5678);
}

/* The keyboard's interrupt: the controller gets a byte as if from there. */
static void do_keyboard(Later *v)
{
    xensim_out(v->sim, 0, 0x64, 1, 0x60);
    xensim_out(v->sim, 0, 0x60, 1, 0x01);
    xensim_out(v->sim, 0, 0x64, 1, 0xd2);
    xensim_out(v->sim, 0, 0x60, 1, 0x55);
    xensim_in(v->sim, 0, 0x60, 1);
}

static void do_intx(Later *v)
{
    xensim_store(v->sim, 0, v->edu.bar.addr + 0x60, 4, 1);
    xensim_store(v->sim, 0, v->edu.bar.addr + 0x64, 4, 1);
}

static void do_msi(Later *v)
{
    uint8_t cap = qpci_find_capability(&v->edu.dev, PCI_CAP_ID_MSI, 0);

    g_assert_cmphex(cap, !=, 0);
    qpci_config_writel(&v->edu.dev, cap + PCI_MSI_ADDRESS_LO, 0xfee00000);
    qpci_config_writew(&v->edu.dev, cap + PCI_MSI_DATA_64, 0x4041);
    qpci_config_writew(&v->edu.dev, cap + PCI_MSI_FLAGS,
                       qpci_config_readw(&v->edu.dev, cap + PCI_MSI_FLAGS) |
                       PCI_MSI_FLAGS_ENABLE);
    do_intx(v);
    qpci_config_writew(&v->edu.dev, cap + PCI_MSI_FLAGS, 0);
}

/* A BAR is unmapped, and mapped again. */
static void do_bar(Later *v)
{
    uint16_t cmd = qpci_config_readw(&v->edu.dev, PCI_COMMAND);

    qpci_config_writew(&v->edu.dev, PCI_COMMAND, cmd & ~PCI_COMMAND_MEMORY);
    qpci_config_writew(&v->edu.dev, PCI_COMMAND, cmd);
}

/* The south bridge says where INTA goes. */
static void do_link(Later *v)
{
    xensim_config_write(v->sim, 0, 1 << 3, 0x60, 1, 5);
}

static void do_new_device(Later *v)
{
    static int n;

    qtest_qmp_assert_success(v->sim->qts, "{ 'execute': 'device_add',"
                             " 'arguments': { 'driver': 'pviommu-mirror',"
                             " 'id': %s } }", n++ ? "two" : "one");
}

static void do_vga(Later *v)
{
    xensim_config_write(v->sim, 0, 5 << 3, PCI_COMMAND, 2, 0);
    xensim_config_write(v->sim, 0, 5 << 3, PCI_BASE_ADDRESS_0, 4, 0xf0000000);
    xensim_config_write(v->sim, 0, 5 << 3, PCI_COMMAND, 2, PCI_COMMAND_MEMORY);
}

static void do_dirty(Later *v)
{
    qtest_qmp_assert_success(v->sim->qts,
                             "{ 'execute': 'xen-set-global-dirty-log',"
                             " 'arguments': { 'enable': true } }");
    qtest_writeq(v->sim->qts, (GFN + 3) * (uint64_t)PVIOMMU_PAGE, 1);
    qtest_qmp_assert_success(v->sim->qts,
                             "{ 'execute': 'xen-set-global-dirty-log',"
                             " 'arguments': { 'enable': false } }");
}

static void do_map(Later *v)
{
    QDict *rsp = qtest_qmp(v->sim->qts,
                           "{ 'execute': 'x-xen-pviommu-host-map',"
                           " 'arguments': { 'gfn': %u } }", GFN);
    QDict *range = qdict_get_qdict(rsp, "return");

    if (range) {
        qtest_qmp_assert_success(v->sim->qts,
                                 "{ 'execute': 'x-xen-pviommu-host-unmap',"
                                 " 'arguments': { 'bfn': %" PRId64 " } }",
                                 qdict_get_int(range, "bfn"));
    }
    qobject_unref(rsp);
}

static void do_stop(Later *v)
{
    qtest_qmp_assert_success(v->sim->qts, "{ 'execute': 'stop' }");
    qtest_qmp_assert_success(v->sim->qts, "{ 'execute': 'cont' }");
}

static void do_nothing(Later *v)
{
    xensim_in(v->sim, 0, XENSIM_CMOS_DATA, 1);
}

/* The toolstack announces a PV device. */
static void do_xenstore(Later *v)
{
    uint64_t before = xensim_count(v->sim, "xs_check_watch");

    g_assert_true(xensim_command(v->sim, NULL, "xs-write backend/qnic/1/9 1"));
    while (xensim_count(v->sim, "xs_check_watch") == before) {
        g_usleep(1000);
    }
    /* The same thread is done with it then. */
    do_nothing(v);
}

/* By the keyboard controller; QEMU tells the hypervisor in its answer. */
static void do_reset(Later *v)
{
    xensim_out(v->sim, 0, 0x64, 1, 0xfe);
}

static const struct {
    const char *fn;
    int err;
    void (*action)(Later *v);
    const char *complains;      /* as what failed is missing then; or NULL */
} later_cases[] = {
    { "xendevicemodel_set_isa_irq_level", EINVAL, do_keyboard },
    { "xendevicemodel_set_pci_intx_level", EINVAL, do_intx },
    { "xendevicemodel_inject_msi", ENODEV, do_msi },
    { "xendevicemodel_map_io_range_to_ioreq_server", ENOMEM, do_bar,
      "is not mapped" },
    { "xendevicemodel_unmap_io_range_from_ioreq_server", EIO, do_bar,
      "is mapped" },
    { "xendevicemodel_set_pci_link_route", EINVAL, do_link },
    { "xendevicemodel_map_pcidev_to_ioreq_server", ENOMEM, do_new_device },
    { "xendevicemodel_relocate_memory", ENOMEM, do_vga },
    { "xendevicemodel_pin_memory_cacheattr", ENOMEM, do_vga },
    { "xendevicemodel_modified_memory", EIO, do_dirty },
    { "xendevicemodel_set_ioreq_server_state", EIO, do_stop },
    { "xenevtchn_pending", EAGAIN, do_nothing },
    { "xenforeignmemory_map2", ENOMEM, do_memory },
    { "xencall2", EFAULT, do_map },
    { "iommu_op_map", ENOMEM, do_map },
    { "xs_check_watch", EIO, do_xenstore },
    { "xs_directory", EIO, do_xenstore },
    { "xendevicemodel_shutdown", EIO, do_reset },
};

static void start_later(Later *v, const XenSimOptions *options)
{
    v->sim = xensim_start(options, ARGS " -device edu,addr=12");
    v->iommu = xensim_pviommu(v->sim);
    edu_init(&v->edu, v->iommu, QPCI_DEVFN(0x12, 0));
}

static void quit_later(Later *v)
{
    pviommu_free(v->iommu);
    xensim_quit(v->sim);
}

static void test_later_failure_is_survived(void)
{
    for (int i = 0; i < ARRAY_SIZE(later_cases); i++) {
        const char *fn = later_cases[i].fn;
        g_autofree char *complaints = NULL;
        uint64_t before;
        Later v;

        start_later(&v, NULL);
        before = xensim_count(v.sim, fn);
        xensim_fail(v.sim, fn, 1, later_cases[i].err);
        later_cases[i].action(&v);
        g_assert_cmpuint(xensim_count(v.sim, fn), >, before);
        assert_works(&v);
        /* The second time it works. */
        later_cases[i].action(&v);
        assert_works(&v);
        complaints = xensim_complaints(v.sim);
        g_test_message("%s: %s", fn, complaints ?: "no complaints");
        if (!later_cases[i].complains) {
            g_assert_cmpstr(complaints, ==, NULL);
        } else if (!complaints ||
                   !strstr(complaints, later_cases[i].complains)) {
            g_assert_cmpstr(complaints, ==, later_cases[i].complains);
        }
        quit_later(&v);
    }
}

/*
 * A vCPU whose event or answer was dropped waits for ever, as under Xen. The
 * others do not.
 */
static void test_failed_event_stalls_one_vcpu(void)
{
    static const char *const fns[] = { "xenevtchn_unmask", "xenevtchn_notify" };
    const XenSimOptions options = { .vcpus = 4 };
    const XenSimIoreq in = {
        .type = XENSIM_PIO, .read = true, .addr = XENSIM_CMOS_DATA, .size = 1,
        .count = 1,
    };
    Later v;

    start_later(&v, &options);
    for (int i = 0; i < ARRAY_SIZE(fns); i++) {
        uint64_t before = xensim_count(v.sim, fns[i]);

        xensim_fail(v.sim, fns[i], 1, EIO);
        xensim_send(v.sim, i + 1, &in);
        while (xensim_count(v.sim, fns[i]) == before) {
            g_usleep(1000);
        }
        assert_works(&v);
        g_assert_cmphex(xensim_ioreq(v.sim, 3, &in), ==,
                        xensim_in(v.sim, 0, XENSIM_CMOS_DATA, 1));
    }
    g_assert_false(xensim_answered(v.sim, 2));
    quit_later(&v);
}

int main(int argc, char **argv)
{
    g_autofree char *sanitizer = g_strconcat(g_getenv("ASAN_OPTIONS") ?: "",
                                             ":detect_leaks=0", NULL);

    g_test_init(&argc, &argv, NULL);
    /* QEMU's own code does not always tidy up after a call that failed. */
    g_setenv("ASAN_OPTIONS", sanitizer, true);
    pviommu_add("xenfail/each-failed-call-is-survived-or-reported",
                test_each_failed_call_is_survived_or_reported);
    pviommu_add("xenfail/start-fails-with-a-message",
                test_start_fails_with_a_message);
    pviommu_add("xenfail/no-ioreq-server-ends-qemu",
                test_no_ioreq_server_ends_qemu);
    pviommu_add("xenfail/later-failure-is-survived",
                test_later_failure_is_survived);
    pviommu_add("xenfail/failed-event-stalls-one-vcpu",
                test_failed_event_stalls_one_vcpu);
    return g_test_run();
}
