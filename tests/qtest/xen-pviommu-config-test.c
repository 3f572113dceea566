/*
 * xen-pviommu: properties, and messages about wrong ones
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/bswap.h"
#include "libqos/xen-pviommu.h"

#define REGION_HINT     "A region is FIRST:LAST:TYPE"
#define PLACE_HINT      "It is BUS/SLOT.FUNCTION=FIRST:LAST:TYPE"
#define ROOT_HINT       "Leave out its bus= option"
#define IOMMU_HINT      "Give only one of -device xen-pviommu, intel-iommu, " \
                        "amd-iommu and virtio-iommu-pci."

/* Run QEMU to its end, which has to be one of its own. */
static int run_qemu(const char *args, char **out, char **err)
{
    g_autofree char *line = g_strdup_printf("timeout 300 %s -accel qtest "
                                            "-display none %s",
                                            getenv("QTEST_QEMU_BINARY"), args);
    g_auto(GStrv) argv = NULL;
    GError *error = NULL;
    int status;

    g_assert_true(g_shell_parse_argv(line, NULL, &argv, NULL));
    g_spawn_sync(NULL, argv, NULL, G_SPAWN_SEARCH_PATH, NULL, NULL, out, err,
                 &status, &error);
    g_assert_no_error(error);
    g_assert_true(WIFEXITED(status));
    return WEXITSTATUS(status);
}

static void assert_contains(const char *text, const char *part)
{
    if (!strstr(text, part)) {
        g_test_message("'%s' is not in '%s'", part, text);
        g_assert_not_reached();
    }
}

/* QEMU ends with an error that says @message, and @hint behind it. */
static void assert_refused(const char *args, const char *message,
                           const char *hint)
{
    g_autofree char *err = NULL;
    int status = run_qemu(args, NULL, &err);

    assert_contains(err, message);
    if (hint) {
        assert_contains(strstr(err, message), hint);
    }
    g_assert_cmpint(status, ==, 1);
}

static void assert_machine_refused(const char *machine, const char *before,
                                   const char *props, const char *after,
                                   const char *message, const char *hint)
{
    g_autofree char *base = pviommu_machine_args(machine);
    g_autofree char *args = g_strdup_printf("%s %s -device xen-pviommu%s %s",
                                            base, before, props, after);

    assert_refused(args, message, hint);
}

static void test_help_describes_properties(void)
{
    static const char *const props[] = {
        "backend", "device-id", "premap", "control", "queues",
        "identity-contexts", "mmio", "bfn-bits",
        "max-mappings", "max-contexts", "max-ops", "reserved-regions",
        "device-reserved-regions", "viot", "x-check",
    };
    g_autofree char *out = NULL;
    g_auto(GStrv) lines = NULL;

    g_assert_cmpint(run_qemu("-device xen-pviommu,help", &out, NULL), ==, 0);
    lines = g_strsplit(out, "\n", -1);
    for (unsigned i = 0; i < ARRAY_SIZE(props); i++) {
        g_autofree char *name = g_strdup_printf("  %s=<", props[i]);
        unsigned n = 0;

        for (char **line = lines; *line; line++) {
            if (g_str_has_prefix(*line, name)) {
                char *text = strstr(*line, " - ");

                g_assert_nonnull(text);
                g_assert_cmpuint(strlen(text), >, 20);
                n++;
            }
        }
        g_assert_cmpuint(n, ==, 1);
    }
}

static void test_device_help_lists_it(void)
{
    g_autofree char *out = NULL;
    const char *line;

    g_assert_cmpint(run_qemu("-device help", &out, NULL), ==, 0);
    line = strstr(out, "name \"xen-pviommu\"");
    g_assert_nonnull(line);
    assert_contains(line, "desc \"Xen paravirtual IOMMU\"");
}

static void test_second_iommu_is_refused(const void *machine)
{
    assert_machine_refused(machine, "", "", "-device xen-pviommu",
                           "the machine has an IOMMU already", IOMMU_HINT);
}

static void test_other_iommu_is_refused(void)
{
    static const char *const others[] = {
        "intel-iommu", "amd-iommu", "virtio-iommu-pci",
    };

    for (unsigned i = 0; i < ARRAY_SIZE(others); i++) {
        g_autofree char *other = g_strdup_printf("-device %s", others[i]);

        if (!qtest_has_device(others[i])) {
            continue;
        }
        assert_machine_refused("q35", other, "", "",
                               "the machine has an IOMMU already", IOMMU_HINT);
        /* The later one complains in QEMU's own words. */
        assert_machine_refused("q35", "", "", other, "IOMMU", NULL);
    }
    if (qtest_has_device("virtio-iommu-pci")) {
        assert_machine_refused("pc", "-device virtio-iommu-pci", "", "",
                               "the machine has an IOMMU already", IOMMU_HINT);
    }
}

static void test_other_buses_are_refused(void)
{
    assert_machine_refused("q35", "-device pcie-root-port,id=rp,chassis=1",
                           ",bus=rp", "",
                           "xen-pviommu must be on the machine's root bus",
                           ROOT_HINT);
    assert_machine_refused("pc", "-device pci-bridge,id=br,chassis_nr=1",
                           ",bus=br,addr=1", "",
                           "xen-pviommu must be on the machine's root bus",
                           ROOT_HINT);
    if (qtest_has_device("pxb")) {
        assert_machine_refused("pc", "-device pxb,id=pxb,bus_nr=128",
                               ",bus=pxb,addr=1", "",
                               "xen-pviommu must be on the machine's root bus",
                               ROOT_HINT);
    }
}

static void test_bad_values_are_refused(void)
{
    static const struct {
        const char *props, *message;
    } cases[] = {
        { "bfn-bits=11", "bfn-bits must be between 12 and 40" },
        { "bfn-bits=41", "bfn-bits must be between 12 and 40" },
        { "bfn-bits=4294967295", "bfn-bits must be between 12 and 40" },
        { "max-mappings=0",
          "max-mappings must be between 1 and 1099511627776" },
        { "max-mappings=1099511627777",
          "max-mappings must be between 1 and 1099511627776" },
        { "max-mappings=18446744073709551615",
          "max-mappings must be between 1 and 1099511627776" },
        { "max-contexts=0", "max-contexts must be between 1 and 65535" },
        { "max-contexts=65536", "max-contexts must be between 1 and 65535" },
        { "max-ops=0", "max-ops must be between 1 and 65536" },
        { "max-ops=65537", "max-ops must be between 1 and 65536" },
        { "device-id=65536", "Parameter 'device-id' expects" },
        { "premap=perhaps", "Parameter 'premap' expects 'on' or 'off'" },
        { "control=2", "Parameter 'control' expects 'on' or 'off'" },
        { "no-such=1", "Property 'xen-pviommu.no-such' not found" },
    };

    for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
        g_autofree char *props = g_strdup_printf(",%s", cases[i].props);

        assert_machine_refused("q35", "", props, "", cases[i].message, NULL);
    }
}

static void test_bad_regions_are_refused(void)
{
    static const struct {
        const char *prop, *value, *message, *hint;
    } cases[] = {
        { "reserved-regions", "0x1000:0x1ffe:0",
          "0x1000:0x1ffe:0 is no reserved region below bit 48", REGION_HINT },
        { "reserved-regions", "0x1001:0x1fff:0",
          "0x1001:0x1fff:0 is no reserved region below bit 48", REGION_HINT },
        { "reserved-regions", "0x1000:0x1fff:2",
          "0x1000:0x1fff:2 is no reserved region below bit 48", REGION_HINT },
        { "reserved-regions", "0x1000000000000:0x1000000000fff:0",
          "is no reserved region below bit 48", REGION_HINT },
        { "reserved-regions", "0x0:0xffffffffffffffff:0",
          "is no reserved region below bit 48", REGION_HINT },
        { "reserved-regions", "0x1000:0x1fff",
          "'0x1000:0x1fff' is no reserved region", REGION_HINT },
        { "reserved-regions", "0x2000:0x1fff:0",
          "0x2000:0x1fff:0 is no reserved region below bit 48", REGION_HINT },
        { "device-reserved-regions", "pcie.0/05.0=0x1000:0x1ffe:0",
          "0x1000:0x1ffe:0 is no reserved region below bit 48", REGION_HINT },
        { "device-reserved-regions", "pcie.0/05.0=0x2000:0x1fff:0",
          "0x2000:0x1fff:0 is no reserved region below bit 48", REGION_HINT },
        { "device-reserved-regions", "pcie.0/05.0",
          "'pcie.0/05.0' is no device's reserved region",
          PLACE_HINT },
        { "device-reserved-regions", "0x1000:0x1fff:0",
          "'0x1000:0x1fff:0' is no device's reserved region",
          PLACE_HINT },
        { "device-reserved-regions", "",
          "'' is no device's reserved region",
          PLACE_HINT },
    };
    /* Slots are 0 to 1f, functions 0 to 7. */
    static const char *const places[] = {
        "05.0", "/05.0", "pcie.0/", "pcie.0/20", "pcie.0/5.8", "pcie.0/5.",
        "pcie.0/.0", "pcie.0/5.0.0", "pcie.0/5.0/", "pcie.0/5 ", "pcie.0/ 5",
        "pcie.0/-1", "pcie.0/5.-1", "pcie.0/5.+1", "pcie.0/-ffffffff",
        "pcie.0/100000005", "pcie.0/g", "pcie.0/5:0", "pcie.0/0000:00:05.0",
    };

    for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
        g_autofree char *props = g_strdup_printf("\"%s\":[\"%s\"]",
                                                 cases[i].prop, cases[i].value);
        g_autofree char *args = pviommu_args("q35", props, NULL);

        assert_refused(args, cases[i].message, cases[i].hint);
    }
    for (unsigned i = 0; i < ARRAY_SIZE(places); i++) {
        g_autofree char *value = g_strconcat(places[i], "=0x1000:0x1fff:0",
                                             NULL);
        g_autofree char *props = g_strdup_printf(
            "\"device-reserved-regions\":[\"%s\"]", value);
        g_autofree char *args = pviommu_args("q35", props, NULL);
        g_autofree char *message = g_strdup_printf(
            "'%s' is no device's reserved region", value);

        assert_refused(args, message, PLACE_HINT);
    }
}

/* How many ranges are reserved in its context, and for a device alone */
static unsigned count_reserved(QXenPVIOMMU *iommu, int devfn)
{
    struct xen_iommu_op op = pviommu_op_query_reserved(0, 0, 0);

    op.flags = cpu_to_le16(XEN_IOMMUOP_query_reserved_device);
    op.u.query_reserved.sbdf = cpu_to_le32(devfn);
    assert_status(pviommu_op(iommu, &op), XEN_IOMMU_ENOBUFS);
    return le32_to_cpu(op.u.query_reserved.nr_entries);
}

/* A place is what addr= takes, in any of its spellings. */
static void test_places_in_any_spelling(void)
{
    static const struct {
        const char *place;
        int devfn;
    } places[] = {
        { "5.0", QPCI_DEVFN(5, 0) }, { "06", QPCI_DEVFN(6, 0) },
        { "7", QPCI_DEVFN(7, 0) }, { "0x8.0x1", QPCI_DEVFN(8, 1) },
        { "1F.3", QPCI_DEVFN(0x1f, 3) }, { "1f.02", QPCI_DEVFN(0x1f, 2) },
    };
    const uint64_t gfn = PVIOMMU_FREE_GFN;
    g_autoptr(GString) props = g_string_new("\"device-reserved-regions\":[");
    QXenPVIOMMU *iommu;

    for (unsigned i = 0; i < ARRAY_SIZE(places); i++) {
        uint64_t first = (gfn + 2 * i) * PVIOMMU_PAGE;

        g_string_append_printf(props, "%s\"pcie.0/%s=0x%" PRIx64 ":0x%" PRIx64
                               ":0\"", i ? "," : "", places[i].place, first,
                               first + PVIOMMU_PAGE - 1);
    }
    /* The same twice, and one that nobody has. */
    g_string_append(props, ",\"pcie.0/5=0x20000:0x20fff:0\","
                    "\"pcie.0/9.0=0x30000:0x30fff:0\"]");
    iommu = pviommu_start("q35", props->str,
        "-device edu,addr=5 -device edu,addr=6 -device edu,addr=7 "
        "-device edu,addr=8,multifunction=on -device edu,addr=8.1");
    pviommu_accept(iommu, XEN_IOMMU_FEATURES_ALL);
    for (unsigned i = 0; i < ARRAY_SIZE(places); i++) {
        assert_status(pviommu_map(iommu, 0, gfn + 2 * i, gfn, 1, 0),
                      XEN_IOMMU_EADDRNOTAVAIL);
        assert_status(pviommu_map(iommu, 0, gfn + 2 * i + 1, gfn, 1, 0), 0);
        /* Its own, and that of interrupts. */
        g_assert_cmpuint(count_reserved(iommu, places[i].devfn), ==,
                         i ? 2 : 3);
    }
    g_assert_cmpuint(count_reserved(iommu, QPCI_DEVFN(8, 0)), ==, 1);
    assert_status(pviommu_map(iommu, 0, 0x20, gfn, 1, 0),
                  XEN_IOMMU_EADDRNOTAVAIL);
    assert_status(pviommu_map(iommu, 0, 0x30, gfn, 1, 0), 0);
    pviommu_quit(iommu);
}

/* Places that no device's requests come from; QEMU starts with them. */
static void test_places_of_no_device_warn(void)
{
    static const char bridges[] =
        "-device pcie-root-port,id=rp0,chassis=1,addr=5 "
        "-device pcie-pci-bridge,id=br0,bus=rp0 "
        "-device pci-bridge,id=br1,bus=br0,chassis_nr=1,addr=3 "
        "-device pci-bridge,id=br2,chassis_nr=2,addr=6 ";
    static const struct {
        const char *place, *warning;
    } places[] = {
        { "rp1/0", "names rp1/00.0, but the machine has no such bus" },
        { "pcie.01/0", "names pcie.01/00.0, but the machine has no such bus" },
        { "br0/3", "names br0/03.0, but all devices on its bus are taken for "
                   "br0/00.0: name that" },
        { "br1/1", "names br1/01.0, but all devices on its bus are taken for "
                   "br0/00.0: name that" },
        { "br2/1", "names br2/01.0, but all devices on its bus are taken for "
                   "pcie.0/06.0: name that" },
        { "br0/0", NULL }, { "rp0/0", NULL }, { "pcie.0/1d.7", NULL },
    };

    for (unsigned i = 0; i < ARRAY_SIZE(places); i++) {
        g_autofree char *props = g_strdup_printf(
            "\"device-reserved-regions\":[\"%s=0x20000:0x20fff:0\"]",
            places[i].place);
        g_autofree char *path = NULL, *args = NULL, *err = NULL;
        int fd = g_file_open_tmp("pviommu-stderr-XXXXXX", &path, NULL);

        g_assert_cmpint(fd, >=, 0);
        close(fd);
        args = g_strdup_printf("%s2>%s", bridges, path);
        pviommu_quit(pviommu_start("q35", props, args));
        g_assert_true(g_file_get_contents(path, &err, NULL, NULL));
        unlink(path);
        if (places[i].warning) {
            assert_contains(err, places[i].warning);
        } else {
            /* Sanitizers have things of their own to say. */
            g_assert_null(strstr(err, "xen-pviommu: "));
        }
    }
}

static void test_other_machines_are_refused(void)
{
    assert_refused("-machine none -device xen-pviommu", "xen-pviommu", NULL);
    if (qtest_has_machine("microvm")) {
        assert_machine_refused("microvm", "", "", "", "xen-pviommu", NULL);
    }
    assert_machine_refused("q35,acpi=off", "", ",viot=on", "",
                           "QEMU makes no ACPI tables", "-machine acpi=on");
}

/* The outermost values are good ones. */
static void test_outermost_values_work(void)
{
    static const char *const props[] = {
        "bfn-bits=12,max-mappings=1,max-contexts=1,max-ops=1",
        "bfn-bits=40,max-mappings=1099511627776,max-contexts=65535,"
        "max-ops=65536",
    };

    for (unsigned i = 0; i < ARRAY_SIZE(props); i++) {
        QXenPVIOMMU *iommu = pviommu_start("q35", props[i], NULL);
        const uint32_t bits = i ? 40 : 12;
        uint64_t last = (1ull << bits) - 1;

        g_assert_cmpuint(pviommu_readl(iommu, XEN_PVIOMMU_REG_BFN_BITS), ==,
                         bits);
        g_assert_cmpuint(pviommu_readl(iommu, XEN_PVIOMMU_REG_MAX_OPS), ==,
                         i ? 65536 : 1);
        assert_status(pviommu_map(iommu, 0, last, PVIOMMU_FREE_GFN, 0, 0), 0);
        assert_status(pviommu_map(iommu, 0, last + 1, PVIOMMU_FREE_GFN, 0, 0),
                      XEN_IOMMU_EINVAL);
        g_assert_cmpint(pviommu_map(iommu, 0, 0, PVIOMMU_FREE_GFN, 0, 0), ==,
                        i ? 0 : -XEN_IOMMU_ENOSPC);
        pviommu_quit(iommu);
    }
}

/* With BFNs too short for the MSI window there is none to reserve. */
static void test_short_bfns_have_no_msi_window(void)
{
    QXenPVIOMMU *iommu = pviommu_start("q35", "bfn-bits=16", NULL);
    struct xen_iommu_op op = pviommu_op_query_reserved(0, 0, 0);

    assert_status(pviommu_op(iommu, &op), 0);
    g_assert_cmpuint(op.u.query_reserved.nr_entries, ==, 0);
    assert_status(pviommu_map(iommu, 0, 0xfee00, PVIOMMU_FREE_GFN, 0, 0),
                  XEN_IOMMU_EINVAL);
    pviommu_quit(iommu);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    pviommu_add_for_machines("config/second-iommu-is-refused",
                             test_second_iommu_is_refused);
    pviommu_add("config/help-describes-properties",
                test_help_describes_properties);
    pviommu_add("config/device-help-lists-it", test_device_help_lists_it);
    pviommu_add("config/other-iommu-is-refused", test_other_iommu_is_refused);
    pviommu_add("config/other-buses-are-refused", test_other_buses_are_refused);
    pviommu_add("config/bad-values-are-refused", test_bad_values_are_refused);
    pviommu_add("config/bad-regions-are-refused", test_bad_regions_are_refused);
    pviommu_add("config/places-in-any-spelling", test_places_in_any_spelling);
    pviommu_add("config/places-of-no-device-warn",
                test_places_of_no_device_warn);
    pviommu_add("config/other-machines-are-refused",
                test_other_machines_are_refused);
    pviommu_add("config/outermost-values-work", test_outermost_values_work);
    pviommu_add("config/short-bfns-have-no-msi-window",
                test_short_bfns_have_no_msi_window);
    return g_test_run();
}
