/*
 * libqos: what QMP says of xen-pviommu
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qapi/error.h"
#include "qobject/qjson.h"
#include "libqos/xen-pviommu-qmp.h"

QDict *pviommu_query(QXenPVIOMMU *iommu)
{
    return qtest_qmp_assert_success_ref(iommu->qts,
                                        "{'execute': 'x-query-xen-pviommu'}");
}

char *qmp_error_text(QDict *rsp)
{
    QDict *error = qdict_get_qdict(rsp, "error");
    char *text = error ? g_strdup(qdict_get_str(error, "desc")) : NULL;

    qobject_unref(rsp);
    return text;
}

void qmp_assert_json(QObject *obj, const char *expected)
{
    QObject *want = qobject_from_json(expected, &error_abort);

    if (!qobject_is_equal(obj, want)) {
        g_autoptr(GString) got = qobject_to_json(obj);

        g_test_message("got %s, expected %s", got->str, expected);
        g_test_fail();
    }
    qobject_unref(want);
}
