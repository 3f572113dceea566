/*
 * libqos: snapshots of the machine, and back to them
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "libqos/snapshot.h"
#include "qobject/qdict.h"
#include "qobject/qlist.h"

static bool job_concluded(QTestState *qts, const char *id)
{
    QDict *rsp = qtest_qmp(qts, "{'execute': 'query-jobs'}");
    bool done = false;
    QListEntry *e;

    QLIST_FOREACH_ENTRY(qdict_get_qlist(rsp, "return"), e) {
        QDict *job = qobject_to(QDict, qlist_entry_obj(e));

        if (g_str_equal(qdict_get_str(job, "id"), id)) {
            g_assert_false(qdict_haskey(job, "error"));
            done = g_str_equal(qdict_get_str(job, "status"), "concluded");
        }
    }
    qobject_unref(rsp);
    return done;
}

static void job_wait(QTestState *qts, const char *id)
{
    while (!job_concluded(qts, id)) {
        g_usleep(500);
    }
    qtest_qmp_assert_success(qts, "{'execute': 'job-dismiss',"
                             " 'arguments': {'id': %s}}", id);
}

static void snapshot_run(QTestState *qts, const char *command)
{
    qtest_qmp_assert_success(qts, "{'execute': 'stop'}");
    qtest_qmp_assert_success(qts, "{'execute': %s, 'arguments': {"
                             " 'job-id': 'snapshot', 'tag': 'one',"
                             " 'vmstate': 'disk', 'devices': ['disk']}}",
                             command);
    job_wait(qts, "snapshot");
    qtest_qmp_assert_success(qts, "{'execute': 'cont'}");
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
    job_wait(qts, "create");
    qtest_qmp_assert_success(qts, "{'execute': 'blockdev-add', 'arguments': {"
                             " 'driver': 'qcow2', 'node-name': 'disk',"
                             " 'file': 'file'}}");
}

void snapshot_save(QTestState *qts)
{
    snapshot_run(qts, "snapshot-save");
}

void snapshot_load(QTestState *qts)
{
    snapshot_run(qts, "snapshot-load");
}
