/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What an operation returned, by name
 */

#ifndef TESTS_ASSERT_STATUS_H
#define TESTS_ASSERT_STATUS_H

#include "hw/xen/interface/iommu_op.h"

/* "XEN_IOMMU_ENOENT" for -2; a number in @buffer for what has no name */
static inline const char *status_name(int status, char *buffer, size_t size)
{
    static const struct {
        int error;
        const char *name;
    } names[] = {
#define NAME(error) { XEN_IOMMU_##error, "-XEN_IOMMU_" #error }
        NAME(EPERM), NAME(ENOENT), NAME(ESRCH), NAME(EIO), NAME(EAGAIN),
        NAME(ENOMEM), NAME(EACCES), NAME(EFAULT), NAME(EBUSY), NAME(EEXIST),
        NAME(ENODEV), NAME(EINVAL), NAME(ENOSPC), NAME(EOPNOTSUPP),
        NAME(EADDRNOTAVAIL), NAME(ENOBUFS),
#undef NAME
    };

    for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
        if (status == -names[i].error) {
            return names[i].name;
        }
    }
    snprintf(buffer, size, "%d", status);
    return buffer;
}

static inline void assert_status_at(const char *file, int line,
                                    const char *func, const char *what,
                                    int status, int expected)
{
    if (status != expected) {
        char number[2][16];
        g_autofree char *message = g_strdup_printf(
            "%s: expected %s, got %s", what,
            status_name(expected, number[0], sizeof(number[0])),
            status_name(status, number[1], sizeof(number[1])));

        g_assertion_message(G_LOG_DOMAIN, file, line, func, message);
    }
}

/**
 * assert_status: @call returns 0, or an error, as it says
 * @error: 0, or XEN_IOMMU_E*, which the call returns negated
 */
#define assert_status(call, error)                                      \
    assert_status_at(__FILE__, __LINE__, G_STRFUNC, #call, (call),      \
                     -(int)(error))

#endif /* TESTS_ASSERT_STATUS_H */
