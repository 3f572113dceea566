/*
 * libqos: what QMP says of xen-pviommu
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef TESTS_LIBQOS_XEN_PVIOMMU_QMP_H
#define TESTS_LIBQOS_XEN_PVIOMMU_QMP_H

#include "qobject/qdict.h"
#include "libqos/xen-pviommu.h"

/** pviommu_query: what x-query-xen-pviommu returns; qobject_unref() */
QDict *pviommu_query(QXenPVIOMMU *iommu);

/**
 * qmp_error_text: the error in an answer, or NULL; g_free()
 *
 * Unreferences @rsp.
 */
char *qmp_error_text(QDict *rsp);

/** qmp_assert_json: @obj is what @expected says, in JSON */
void qmp_assert_json(QObject *obj, const char *expected);

#endif
