/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * RAM that is given back to the host, by virtio-balloon, virtio-mem and others
 *
 * Without Xen this is how a page leaves the guest. It is given by its place in
 * a RAMBlock; the memory map says at which places the guest has it.
 */

#include "qemu/osdep.h"
#include "qemu/main-loop.h"
#include "qemu/rcu.h"
#include "hw/xen/xen-page-release.h"
#include "system/ram-block-discard.h"
#include "../compat.h"
#include "trace.h"

/* A part of a RAMBlock, and the next place it is found at. */
typedef struct Search {
    const RAMBlock *rb;
    uint64_t start;             /* in the block, in bytes */
    uint64_t end;
    uint64_t from;              /* guest-physical: where to look from */
    uint64_t addr;              /* guest-physical: what was found */
    uint64_t size;
} Search;

static bool match_range(Int128 start, Int128 len, const MemoryRegion *mr,
                        hwaddr offset, void *opaque)
{
    Search *s = opaque;
    uint64_t first, end;

    if (mr->ram_block != s->rb) {
        return false;
    }
    first = MAX(s->start, offset);
    end = MIN(s->end, offset + int128_get64(len));
    if (first >= end || int128_get64(start) + (first - offset) < s->from) {
        return false;
    }
    s->addr = int128_get64(start) + (first - offset);
    s->size = end - first;
    return true;
}

static bool find_next(Search *s)
{
    RCU_READ_LOCK_GUARD();
    s->size = 0;
    flatview_for_each_range(address_space_to_flatview(&address_space_memory),
                            match_range, s);
    return s->size;
}

static void ram_discarded(Notifier *notifier, void *data)
{
    const RAMBlockDiscard *d = data;
    Search s = { .rb = d->rb, .start = d->start, .end = d->start + d->length };

    /*
     * Without the BQL it is migration, releasing what has gone to the
     * destination, or a confidential guest that makes a page private. Neither
     * is a page that leaves the guest.
     */
    if (!bql_locked()) {
        return;
    }
    for (; find_next(&s); s.from = s.addr + s.size) {
        uint64_t gfn = s.addr >> XEN_GFN_SHIFT;
        uint64_t nr = DIV_ROUND_UP(s.addr + s.size, XEN_GFN_SIZE) - gfn;

        trace_xen_page_release_ram(gfn, nr);
        xen_page_release(gfn, nr);
    }
}

void xen_page_release_discarded(void)
{
    static Notifier notifier = { .notify = ram_discarded };
    static bool added;

    if (!added) {
        ram_block_add_discard_notifier(&notifier);
        added = true;
    }
}
