/*
 * xen-pviommu: devices that are not behind it are named
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qobject/qlist.h"
#include "libqos/xen-pviommu-qmp.h"

#define PAST        "uses guest-physical addresses"
#define HINT        "Give it iommu_platform=on"
#define RESOURCE    "reads the pages of a resource until that is gone"

/* What the monitor says of device @id, which there is; NULL if nothing */
static char *query_bypass(QXenPVIOMMU *iommu, const char *id)
{
    QDict *state = pviommu_query(iommu);
    QList *contexts = qdict_get_qlist(state, "contexts");
    QDict *ctx = qobject_to(QDict, qlist_peek(contexts));
    QListEntry *entry;
    bool found = false;
    char *bypass = NULL;

    QLIST_FOREACH_ENTRY(qdict_get_qlist(ctx, "devices"), entry) {
        QDict *dev = qobject_to(QDict, qlist_entry_obj(entry));

        if (!g_strcmp0(qdict_get_try_str(dev, "id"), id)) {
            found = true;
            bypass = g_strdup(qdict_get_try_str(dev, "bypass"));
        }
    }
    g_assert_true(found);
    qobject_unref(state);
    return bypass;
}

static void assert_bypass(QXenPVIOMMU *iommu, const char *id,
                          const char *reason)
{
    g_autofree char *bypass = query_bypass(iommu, id);

    if (reason) {
        g_assert_nonnull(bypass);
        g_assert_nonnull(strstr(bypass, reason));
    } else {
        g_assert_null(bypass);
    }
}

static unsigned count(const char *text, const char *part)
{
    unsigned n = 0;

    while ((text = strstr(text, part))) {
        n++;
        text++;
    }
    return n;
}

/* Each that is past it once, at its start or when it is plugged. */
static void test_bypassing_devices_are_named(const void *machine)
{
    const char *bus = g_str_equal(machine, "pc") ? "pci.0" : "pcie.0";
    bool hotplug = g_str_equal(machine, "pc");
    g_autofree char *first = g_strdup_printf(
        "warning: xen-pviommu: virtio-rng-pci past at %s/05.0 " PAST, bus);
    g_autofree char *path = NULL, *extra = NULL, *err = NULL, *hmp = NULL;
    int fd = g_file_open_tmp("pviommu-stderr-XXXXXX", &path, NULL);
    QXenPVIOMMU *iommu;

    g_assert_cmpint(fd, >=, 0);
    close(fd);
    extra = g_strdup_printf(
        "-device virtio-rng-pci,id=past,addr=5 "
        "-device virtio-rng-pci,id=behind,addr=6,iommu_platform=on,"
        "disable-legacy=on -device edu,id=edu0,addr=7 "
        "-device virtio-gpu-pci,id=gpu,addr=8,iommu_platform=on "
        "2>%s", path);
    iommu = pviommu_start(machine, NULL, extra);
    assert_bypass(iommu, "past", PAST);
    assert_bypass(iommu, "behind", NULL);
    assert_bypass(iommu, "edu0", NULL);
    assert_bypass(iommu, "gpu", RESOURCE);
    hmp = qtest_hmp(iommu->qts, "info xen-pviommu");
    g_assert_nonnull(strstr(hmp, "virtio-rng-pci, past: " PAST));
    if (hotplug) {
        qtest_qmp_device_add(iommu->qts, "virtio-rng-pci", "hot",
                             "{'addr':'0x9'}");
        qtest_qmp_device_add(iommu->qts, "virtio-rng-pci", "cold",
                             "{'addr':'0xa','iommu_platform':true,"
                             "'disable-legacy':'on'}");
        assert_bypass(iommu, "hot", PAST);
        assert_bypass(iommu, "cold", NULL);
    }
    pviommu_quit(iommu);

    g_assert_true(g_file_get_contents(path, &err, NULL, NULL));
    unlink(path);
    g_assert_cmpuint(count(err, first), ==, 1);
    g_assert_cmpuint(count(err, "warning: xen-pviommu: virtio-gpu-pci gpu"),
                     ==, 1);
    g_assert_cmpuint(count(err, "warning: xen-pviommu: virtio-rng-pci hot"),
                     ==, hotplug);
    g_assert_cmpuint(count(err, HINT), ==, hotplug ? 2 : 1);
    g_assert_cmpuint(count(err, "warning: xen-pviommu: "), ==,
                     hotplug ? 3 : 2);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);

    pviommu_add_for_machines("bypass/bypassing-devices-are-named",
                             test_bypassing_devices_are_named);
    return g_test_run();
}
