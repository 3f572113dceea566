/*
 * libqos: migration into a file, and out of it
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "libqos/migration.h"
#include "libqos/xen-pviommu.h"
#include "qobject/qdict.h"

bool migration_wait(QTestState *qts)
{
    gint64 end = g_get_monotonic_time() + PVIOMMU_WAIT_US;

    while (g_get_monotonic_time() < end) {
        QDict *rsp = qtest_qmp_assert_success_ref(
            qts, "{'execute': 'query-migrate'}");
        g_autofree char *status = g_strdup(qdict_get_try_str(rsp, "status"));

        qobject_unref(rsp);
        if (!g_strcmp0(status, "completed")) {
            return true;
        }
        if (!g_strcmp0(status, "failed")) {
            return false;
        }
        g_usleep(500);
    }
    g_assert_not_reached();
}

void migration_save(QTestState *qts, const char *path)
{
    g_autofree char *uri = g_strdup_printf("file:%s", path);

    qtest_qmp_assert_success(qts, "{'execute': 'migrate-set-parameters', "
                             "'arguments': {'max-bandwidth': 10000000000}}");
    qtest_qmp_assert_success(qts, "{'execute': 'migrate', "
                             "'arguments': {'uri': %s}}", uri);
    g_assert_true(migration_wait(qts));
}

void migration_start_load(QTestState *qts, const char *uri)
{
    qtest_qmp_assert_success(qts, "{'execute': 'migrate-incoming', "
                             "'arguments': {'uri': %s, "
                             "'exit-on-error': false}}", uri);
}

bool migration_load(QTestState *qts, const char *path)
{
    g_autofree char *uri = g_strdup_printf("file:%s", path);

    migration_start_load(qts, uri);
    return migration_wait(qts);
}
