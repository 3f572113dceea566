/*
 * xen-save-devices-state beside a device that cannot be migrated: an error, and
 * the machine goes on
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "libqtest.h"
#include "qobject/qdict.h"

static void test_unmigratable(void)
{
    g_autofree char *dir = g_dir_make_tmp("xen-save-XXXXXX", NULL);
    g_autofree char *path = g_build_filename(dir, "state", NULL);
    QTestState *qts = qtest_init("-machine pc -nodefaults "
                                 "-device nvme,serial=1");

    for (unsigned live = 0; live < 2; live++) {
        QDict *status, *error = qtest_qmp_assert_failure_ref(
            qts, "{'execute': 'xen-save-devices-state',"
            " 'arguments': {'filename': %s, 'live': %i}}", path, live);

        g_assert_nonnull(strstr(qdict_get_str(error, "desc"), "nvme"));
        qobject_unref(error);
        g_assert_false(g_file_test(path, G_FILE_TEST_EXISTS));

        status = qtest_qmp_assert_success_ref(qts,
                                              "{'execute': 'query-status'}");
        g_assert_true(qdict_get_bool(status, "running"));
        qobject_unref(status);
    }
    qtest_quit(qts);
    g_assert_cmpint(rmdir(dir), ==, 0);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    qtest_add_func("/xen-save/unmigratable", test_unmigratable);
    return g_test_run();
}
