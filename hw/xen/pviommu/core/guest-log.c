/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a guest does wrong, in QEMU's log
 */

#include "qemu/osdep.h"
#include "qemu/lockable.h"
#include "qemu/log.h"
#include "qemu/timer.h"
#include "guest-log.h"

#define LOG_LINES_PER_SECOND 20

void xen_pviommu_guest_log_init(XenPVIOMMUGuestLog *log)
{
    qemu_mutex_init(&log->lock);
}

void xen_pviommu_guest_log_finalize(XenPVIOMMUGuestLog *log)
{
    qemu_mutex_destroy(&log->lock);
}

/* Lock held. False if the lines of this second have been shown. */
static bool guest_error_shown(XenPVIOMMUGuestLog *log)
{
    int64_t now = get_clock();

    if (now - log->window_start >= NANOSECONDS_PER_SECOND) {
        if (log->window_lines > LOG_LINES_PER_SECOND) {
            qemu_log("xen-pviommu: %u more guest errors not shown\n",
                     log->window_lines - LOG_LINES_PER_SECOND);
        }
        log->window_start = now;
        log->window_lines = 0;
    }
    return ++log->window_lines <= LOG_LINES_PER_SECOND;
}

void xen_pviommu_guest_log(XenPVIOMMUGuestLog *log, const char *fmt, ...)
{
    va_list ap;
    char text[256];

    if (!qemu_loglevel_mask(LOG_GUEST_ERROR)) {
        return;
    }
    WITH_QEMU_LOCK_GUARD(&log->lock) {
        if (!guest_error_shown(log)) {
            return;
        }
    }
    va_start(ap, fmt);
    vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    qemu_log("xen-pviommu: %s\n", text);
}
