/*
 * libqos: snapshots of the machine, and back to them
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "libqos/snapshot.h"
#include "libqos/xen-pviommu.h"
#include "qobject/qdict.h"
#include "qobject/qlist.h"

/* Until the job ends. Returns: its error's text, or NULL. */
static char *wait_job(QTestState *qts, const char *id)
{
    gint64 end = g_get_monotonic_time() + PVIOMMU_WAIT_US;
    char *error = NULL;
    bool done = false;

    while (!done && g_get_monotonic_time() < end) {
        QDict *rsp = qtest_qmp(qts, "{'execute': 'query-jobs'}");
        QListEntry *e;

        QLIST_FOREACH_ENTRY(qdict_get_qlist(rsp, "return"), e) {
            QDict *job = qobject_to(QDict, qlist_entry_obj(e));

            if (g_str_equal(qdict_get_str(job, "id"), id) &&
                g_str_equal(qdict_get_str(job, "status"), "concluded")) {
                error = g_strdup(qdict_get_try_str(job, "error"));
                done = true;
            }
        }
        qobject_unref(rsp);
        g_usleep(500);
    }
    g_assert_true(done);
    qtest_qmp_assert_success(qts, "{'execute': 'job-dismiss',"
                             " 'arguments': {'id': %s}}", id);
    return error;
}

char *snapshot_run(QTestState *qts, const char *command)
{
    qtest_qmp_assert_success(qts, "{'execute': %s, 'arguments': {"
                             " 'job-id': 'snapshot', 'tag': 'one',"
                             " 'vmstate': 'disk', 'devices': ['disk']}}",
                             command);
    return wait_job(qts, "snapshot");
}

void snapshot_open(QTestState *qts, const char *path)
{
    qtest_qmp_assert_success(qts, "{'execute': 'blockdev-add', 'arguments': {"
                             " 'driver': 'qcow2', 'node-name': 'disk',"
                             " 'file': {'driver': 'file', 'locking': 'off',"
                             " 'filename': %s}}}", path);
}

void snapshot_image(QTestState *qts, const char *path)
{
    g_assert_true(g_file_set_contents(path, "", 0, NULL));
    qtest_qmp_assert_success(qts, "{'execute': 'blockdev-add', 'arguments': {"
                             " 'driver': 'file', 'node-name': 'file',"
                             " 'filename': %s}}", path);
    qtest_qmp_assert_success(qts, "{'execute': 'blockdev-create',"
                             " 'arguments': {'job-id': 'create', 'options': {"
                             " 'driver': 'qcow2', 'file': 'file',"
                             " 'size': 1048576}}}");
    g_assert_cmpstr(wait_job(qts, "create"), ==, NULL);
    qtest_qmp_assert_success(qts, "{'execute': 'blockdev-del',"
                             " 'arguments': {'node-name': 'file'}}");
    snapshot_open(qts, path);
}

static void run_stopped(QTestState *qts, const char *command)
{
    qtest_qmp_assert_success(qts, "{'execute': 'stop'}");
    g_assert_cmpstr(snapshot_run(qts, command), ==, NULL);
    qtest_qmp_assert_success(qts, "{'execute': 'cont'}");
}

void snapshot_save(QTestState *qts)
{
    run_stopped(qts, "snapshot-save");
}

void snapshot_load(QTestState *qts)
{
    run_stopped(qts, "snapshot-load");
}
