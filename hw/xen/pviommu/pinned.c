/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * RAM that assigned devices have pinned, and that must not be discarded
 */

#include "qemu/osdep.h"
#include "../compat.h"
#include "function.h"
#include "pinned.h"

bool xen_pviommu_pin(XenPVIOMMUState *s)
{
    if (!s->pinned && ram_block_uncoordinated_discard_disable(true)) {
        return false;
    }
    s->pinned = true;
    return true;
}

/* A device of the host sees memory untranslated. */
static bool pin_needed(const XenPVIOMMUState *s)
{
    XenPVIOMMUFunction *f;
    GHashTableIter iter;

    if (s->core.identity || !s->nr_assigned) {
        return s->nr_assigned;
    }
    g_hash_table_iter_init(&iter, s->functions);
    while (g_hash_table_iter_next(&iter, (void **)&f, NULL)) {
        if (f->nr_assigned && f->ctx->identity) {
            return true;
        }
    }
    return false;
}

void xen_pviommu_unpin(XenPVIOMMUState *s)
{
    if (s->pinned && !pin_needed(s)) {
        ram_block_uncoordinated_discard_disable(false);
        s->pinned = false;
    }
}

bool xen_pviommu_update_pinned(XenPVIOMMUState *s)
{
    if (pin_needed(s)) {
        return xen_pviommu_pin(s);
    }
    xen_pviommu_unpin(s);
    return true;
}
