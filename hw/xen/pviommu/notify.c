/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * IOMMU notifiers: what listens to a function's translations (VFIO, vhost)
 */

#include "qemu/osdep.h"
#include "qemu/host-utils.h"
#include "qemu/interval-tree.h"
#include "qemu/main-loop.h"
#include "backend-emulated.h"
#include "core/pending.h"
#include "notify.h"
#include "passed.h"
#include "queue.h"
#include "trace.h"

/* As pending.c counts a notification: VFIO pins and maps each block. */
#define REPLAY_WORK     32

/* Slots of a table that are looked at for the end of a run. */
#define REPLAY_SLOTS    (1u << 16)

/* Blocks that the main loop frees before it does other things. */
#define FREE_BLOCKS     4096

/*
 * The blocks that a listener for maps was notified of. VFIO, and the kernel
 * behind it, can only unmap such a block as a whole.
 */
typedef struct XenPVIOMMUNotifiedBlocks {
    IntervalTreeRoot tree;
    QSLIST_ENTRY(XenPVIOMMUNotifiedBlocks) next;    /* of stale_blocks */
} NotifiedBlocks;

/* Free up to @nr blocks of those that were set aside. */
static void blocks_free_some(XenPVIOMMUState *s, unsigned nr)
{
    NotifiedBlocks *blocks;
    IntervalTreeNode *node;

    while (nr && (blocks = QSLIST_FIRST(&s->stale_blocks))) {
        node = interval_tree_iter_first(&blocks->tree, 0, UINT64_MAX);
        if (node) {
            interval_tree_remove(node, &blocks->tree);
            g_free(node);
            nr--;
        } else {
            QSLIST_REMOVE_HEAD(&s->stale_blocks, next);
            g_free(blocks);
        }
    }
}

static void blocks_bh(void *opaque)
{
    XenPVIOMMUState *s = opaque;

    QEMU_LOCK_GUARD(&s->lock);

    blocks_free_some(s, FREE_BLOCKS);
    if (!QSLIST_EMPTY(&s->stale_blocks)) {
        qemu_bh_schedule(s->stale_blocks_bh);
    }
}

/* There can be very many: set them aside, and free them bit by bit. */
static void blocks_discard(XenPVIOMMUState *s, NotifiedBlocks *blocks)
{
    QSLIST_INSERT_HEAD(&s->stale_blocks, blocks, next);
    qemu_bh_schedule(s->stale_blocks_bh);
}

static NotifiedBlocks *blocks_of(XenPVIOMMUFunction *f, const IOMMUNotifier *n)
{
    return f->notified_blocks ? g_hash_table_lookup(f->notified_blocks, n)
                              : NULL;
}

static void blocks_forget(XenPVIOMMUFunction *f, IOMMUNotifier *n)
{
    NotifiedBlocks *blocks = blocks_of(f, n);

    if (blocks) {
        g_hash_table_remove(f->notified_blocks, n);
        blocks_discard(f->s, blocks);
    }
}

static bool notifier_registered(XenPVIOMMUFunction *f, const IOMMUNotifier *n)
{
    IOMMUNotifier *other;

    IOMMU_NOTIFIER_FOREACH(other, &f->translated) {
        if (other == n) {
            return true;
        }
    }
    return false;
}

/* There is no notification when one of several notifiers is unregistered. */
static void blocks_forget_unregistered(XenPVIOMMUFunction *f)
{
    NotifiedBlocks *blocks;
    GHashTableIter iter;
    IOMMUNotifier *n;

    if (!f->notified_blocks) {
        return;
    }
    g_hash_table_iter_init(&iter, f->notified_blocks);
    while (g_hash_table_iter_next(&iter, (void **)&n, (void **)&blocks)) {
        if (!notifier_registered(f, n)) {
            g_hash_table_iter_remove(&iter);
            blocks_discard(f->s, blocks);
        }
    }
    if (!g_hash_table_size(f->notified_blocks)) {
        g_clear_pointer(&f->notified_blocks, g_hash_table_unref);
    }
}

static NotifiedBlocks *blocks_new(XenPVIOMMUFunction *f, IOMMUNotifier *n)
{
    NotifiedBlocks *blocks = g_new0(NotifiedBlocks, 1);

    blocks_forget_unregistered(f);
    if (!f->notified_blocks) {
        f->notified_blocks = g_hash_table_new(NULL, NULL);
    }
    g_hash_table_insert(f->notified_blocks, n, blocks);
    return blocks;
}

static void blocks_add(XenPVIOMMUFunction *f, IOMMUNotifier *n, uint64_t bfn,
                       uint64_t nr)
{
    NotifiedBlocks *blocks = blocks_of(f, n) ?: blocks_new(f, n);
    IntervalTreeNode *node = g_new0(IntervalTreeNode, 1);

    node->start = bfn;
    node->last = bfn + nr - 1;
    interval_tree_insert(node, &blocks->tree);
    /* Faster than they are made, whatever the main loop does. */
    blocks_free_some(f->s, 2);
}

/* Forget the blocks that the range touches, and make it cover all of them. */
static void blocks_remove(XenPVIOMMUFunction *f, IOMMUNotifier *n,
                          uint64_t *bfn, uint64_t *nr)
{
    NotifiedBlocks *blocks = blocks_of(f, n);
    uint64_t start = *bfn, last = *bfn + *nr - 1;
    uint64_t first_bfn = start, last_bfn = last;
    IntervalTreeNode *node;

    while (blocks &&
           (node = interval_tree_iter_first(&blocks->tree, start, last))) {
        first_bfn = MIN(first_bfn, node->start);
        last_bfn = MAX(last_bfn, node->last);
        interval_tree_remove(node, &blocks->tree);
        g_free(node);
    }
    *bfn = first_bfn;
    *nr = last_bfn - first_bfn + 1;
}

/* The largest aligned block that a range of @nr frames can begin with. */
static unsigned block_order(uint64_t align, uint64_t nr)
{
    return MIN(63 - clz64(nr), align ? ctz64(align) : 63);
}

/*
 * Notify @n of a range, in aligned blocks of a power of two: what listens may
 * have hardware behind it that knows no other. With @run it is mapped,
 * without it is unmapped.
 */
static void notify_range(XenPVIOMMUFunction *f, IOMMUNotifier *n,
                         uint64_t bfn, uint64_t nr, const BfnRun *run)
{
    bool keep = run && notifier_registered(f, n);

    while (nr) {
        uint64_t gfn = run ? run->gfn + (bfn - run->bfn) : 0;
        unsigned order = block_order(bfn | gfn, nr);
        IOMMUTLBEvent event = {
            .type = run ? IOMMU_NOTIFIER_MAP : IOMMU_NOTIFIER_UNMAP,
            .entry = {
                .target_as = &address_space_memory,
                .iova = bfn << XEN_IOMMU_PAGE_SHIFT,
                .translated_addr = gfn << XEN_IOMMU_PAGE_SHIFT,
                .addr_mask = (1ull << (order + XEN_IOMMU_PAGE_SHIFT)) - 1,
                .perm = !run ? IOMMU_NONE : run->readonly ? IOMMU_RO : IOMMU_RW,
            },
        };

        f->s->core.work++;
        memory_region_notify_iommu_one(n, &event);
        if (keep) {
            blocks_add(f, n, bfn, 1ull << order);
        } else if (!run) {
            event.type = IOMMU_NOTIFIER_DEVIOTLB_UNMAP;
            memory_region_notify_iommu_one(n, &event);
        }
        bfn += 1ull << order;
        nr -= 1ull << order;
    }
}

/* The part of a range that @n, which may see less than all of it, sees. */
static bool notifier_clip(const IOMMUNotifier *n, uint64_t *bfn, uint64_t *nr)
{
    uint64_t start = MAX(*bfn, DIV_ROUND_UP(n->start, XEN_PVIOMMU_PAGE_SIZE));
    uint64_t last = MIN(*bfn + *nr - 1, n->end >> XEN_IOMMU_PAGE_SHIFT);

    *bfn = start;
    *nr = start <= last ? last - start + 1 : 0;
    return *nr;
}

/*
 * What listens for maps, as VFIO, gives memory of this process to a physical
 * device. MMIO that QEMU emulates is none: that device faults there.
 */
static void notifier_map(XenPVIOMMUFunction *f, IOMMUNotifier *n,
                         const BfnRun *run)
{
    uint64_t bfn = run->bfn, nr = run->nr;

    if (!(n->notifier_flags & IOMMU_NOTIFIER_MAP) ||
        !notifier_clip(n, &bfn, &nr)) {
        return;
    }
    while (nr) {
        uint64_t gfn = run->gfn + (bfn - run->bfn), part = nr;

        if (xen_pviommu_emulated_can_pin(f->s->core.backend, gfn, &part)) {
            trace_xen_pviommu_notify_map(f->name, bfn, gfn, part);
            notify_range(f, n, bfn, part, run);
        }
        bfn += part;
        nr -= part;
    }
}

/* Notify @n of what its context maps in a range. */
static void notifier_map_range(XenPVIOMMUFunction *f, IOMMUNotifier *n,
                               uint64_t bfn, uint64_t end)
{
    BfnRun run;

    for (; bfn_table_next_run(f->ctx->table, bfn, end, &run);
         bfn = run.bfn + run.nr) {
        notifier_map(f, n, &run);
    }
}

static void notifier_unmap(XenPVIOMMUFunction *f, IOMMUNotifier *n,
                           uint64_t bfn, uint64_t nr)
{
    uint64_t start, end;

    if (!notifier_clip(n, &bfn, &nr)) {
        return;
    }
    start = bfn;
    end = bfn + nr;
    if (n->notifier_flags & IOMMU_NOTIFIER_MAP) {
        blocks_remove(f, n, &bfn, &nr);
        notifier_clip(n, &bfn, &nr);
    }
    trace_xen_pviommu_notify_unmap(f->name, bfn, nr);
    notify_range(f, n, bfn, nr, NULL);
    /* What was unmapped only because it was in one block with the range */
    if (n->notifier_flags & IOMMU_NOTIFIER_MAP) {
        notifier_map_range(f, n, bfn, start);
        notifier_map_range(f, n, end, bfn + nr);
    }
}

static void notifier_unmap_all(XenPVIOMMUFunction *f, IOMMUNotifier *n)
{
    blocks_forget(f, n);
    notifier_unmap(f, n, 0, xen_pviommu_bfn_limit(&f->s->core));
}

/*
 * VFIO's sync of its dirty log replays to a notifier that it made for this
 * only: that keeps nothing, and has nothing to lose.
 */
static void notify_replay_one(IOMMUMemoryRegion *mr, IOMMUNotifier *n)
{
    XenPVIOMMUFunction *f = container_of(mr, XenPVIOMMUFunction, translated);

    QEMU_LOCK_GUARD(&f->s->lock);

    if (!f->ctx) {
        return;
    }
    trace_xen_pviommu_replay(f->name, f->ctx->id);
    if (notifier_registered(f, n)) {
        /* It may be another one than was at the same address before. */
        notifier_unmap_all(f, n);
    }
    /* The rest is notified as the replay of a move gets there. */
    notifier_map_range(f, n, 0, MIN(f->replay_next,
                                    xen_pviommu_bfn_limit(&f->s->core)));
}

static int notify_flags_changed(IOMMUMemoryRegion *mr, IOMMUNotifierFlag old,
                                IOMMUNotifierFlag new, Error **errp)
{
    XenPVIOMMUFunction *f = container_of(mr, XenPVIOMMUFunction, translated);

    trace_xen_pviommu_notifiers(f->name, old, new);
    WITH_QEMU_LOCK_GUARD(&f->s->lock) {
        if (f->ctx && !f->notifiers != !new) {
            if (new) {
                /*
                 * Before queues run for the last time: vhost that is taken off
                 * and put back, as the memory map changes, has what they unmap.
                 */
                g_ptr_array_add(f->s->listening, f);
            } else {
                g_ptr_array_remove(f->s->listening, f);
            }
            xen_pviommu_queues_update(f->s);
        }
        f->notifiers = new;
        if (!(new & IOMMU_NOTIFIER_MAP)) {
            f->replay_next = UINT64_MAX;
        }
        blocks_forget_unregistered(f);
    }
    if (new) {
        /* It is called with the lock, and may wait for such a thread. */
        xen_pviommu_queues_drain(f->s);
    }
    return 0;
}

/* Whether @f listens to @ctx. */
static bool function_listens(const XenPVIOMMUFunction *f,
                             const XenPVIOMMUContext *ctx)
{
    return f->ctx == ctx;
}

static void notify_map(void *opaque, XenPVIOMMUContext *ctx, const BfnRun *run)
{
    XenPVIOMMUState *s = opaque;
    IOMMUNotifier *n;

    xen_pviommu_passed_map(s, ctx, run);
    for (guint i = 0; i < s->listening->len; i++) {
        XenPVIOMMUFunction *f = g_ptr_array_index(s->listening, i);
        BfnRun part = *run;

        if (!function_listens(f, ctx) || !(f->notifiers & IOMMU_NOTIFIER_MAP) ||
            run->bfn >= f->replay_next) {
            continue;
        }
        part.nr = MIN(run->nr, f->replay_next - run->bfn);
        IOMMU_NOTIFIER_FOREACH(n, &f->translated) {
            notifier_map(f, n, &part);
        }
    }
}

static bool notify_listening(void *opaque, const XenPVIOMMUContext *ctx)
{
    XenPVIOMMUState *s = opaque;

    for (guint i = 0; i < s->listening->len; i++) {
        if (function_listens(g_ptr_array_index(s->listening, i), ctx)) {
            return true;
        }
    }
    return xen_pviommu_passed_listening(s, ctx);
}

static void notify_unmap(void *opaque, XenPVIOMMUContext *ctx, uint64_t bfn,
                         uint64_t nr)
{
    XenPVIOMMUState *s = opaque;
    IOMMUNotifier *n;

    xen_pviommu_passed_unmap(s, ctx, bfn, nr);
    for (guint i = 0; i < s->listening->len; i++) {
        XenPVIOMMUFunction *f = g_ptr_array_index(s->listening, i);

        if (function_listens(f, ctx)) {
            IOMMU_NOTIFIER_FOREACH(n, &f->translated) {
                notifier_unmap(f, n, bfn, nr);
            }
        }
    }
}

static void notify_begin(void *opaque, unsigned tag)
{
    xen_pviommu_passed_begin(opaque, tag);
}

static void notify_commit(void *opaque, XenPVIOMMUFailedFunc *failed,
                          void *data)
{
    xen_pviommu_passed_commit(opaque, failed, data);
}

const XenPVIOMMUListenerOps xen_pviommu_listener_ops = {
    .map = notify_map,
    .listening = notify_listening,
    .unmap = notify_unmap,
    .begin = notify_begin,
    .commit = notify_commit,
};

void xen_pviommu_notify_moved(XenPVIOMMUFunction *f)
{
    IOMMUNotifier *n;

    f->replay_next = f->notifiers & IOMMU_NOTIFIER_MAP ? 0 : UINT64_MAX;
    IOMMU_NOTIFIER_FOREACH(n, &f->translated) {
        notifier_unmap_all(f, n);
    }
}

bool xen_pviommu_notify_replay(XenPVIOMMUFunction *f)
{
    uint64_t limit = xen_pviommu_bfn_limit(&f->s->core);
    unsigned blocks = XEN_PVIOMMU_NOTIFY_AT_ONCE;
    IOMMUNotifier *n;
    BfnRun run;

    if (!(f->notifiers & IOMMU_NOTIFIER_MAP)) {
        f->replay_next = UINT64_MAX;
    }
    while (f->replay_next != UINT64_MAX) {
        if (!bfn_table_next_part(f->ctx->table, f->replay_next, limit,
                                 REPLAY_SLOTS, &run)) {
            f->replay_next = UINT64_MAX;
            break;
        }
        while (run.nr && blocks) {
            BfnRun block = run;

            block.nr = 1ull << block_order(run.bfn | run.gfn, run.nr);
            IOMMU_NOTIFIER_FOREACH(n, &f->translated) {
                notifier_map(f, n, &block);
            }
            run.bfn += block.nr;
            run.gfn += block.nr;
            run.nr -= block.nr;
            f->replay_next = run.bfn;
            f->s->core.work += REPLAY_WORK;
            blocks--;
        }
        if (!blocks) {
            break;
        }
    }
    trace_xen_pviommu_replay_part(f->name, f->ctx->id, f->replay_next);
    return f->replay_next == UINT64_MAX;
}

void xen_pviommu_notify_enabled(XenPVIOMMUFunction *f)
{
    IOMMUNotifier *n;

    /* Wherever memory can be, which bfn-bits says nothing about. */
    IOMMU_NOTIFIER_FOREACH(n, &f->translated) {
        if (!(n->notifier_flags & IOMMU_NOTIFIER_MAP)) {
            notifier_unmap(f, n, 0, 1ull << GFN_INDEX_BITS);
        }
    }
}

void xen_pviommu_notify_ended(XenPVIOMMUFunction *f)
{
    IOMMUNotifier *n;

    /* Others cannot be notified any more either. */
    IOMMU_NOTIFIER_FOREACH(n, &f->translated) {
        notifier_unmap_all(f, n);
    }
    if (f->notifiers) {
        g_ptr_array_remove(f->s->listening, f);
        xen_pviommu_queues_update(f->s);
    }
}

void xen_pviommu_notify_class_init(IOMMUMemoryRegionClass *imrc)
{
    imrc->replay = notify_replay_one;
    imrc->notify_flag_changed = notify_flags_changed;
}

void xen_pviommu_notify_init(XenPVIOMMUState *s)
{
    s->listening = g_ptr_array_new();
    QSLIST_INIT(&s->stale_blocks);
    s->stale_blocks_bh = qemu_bh_new(blocks_bh, s);
}

void xen_pviommu_notify_finalize(XenPVIOMMUState *s)
{
    blocks_free_some(s, UINT_MAX);
    qemu_bh_delete(s->stale_blocks_bh);
    g_ptr_array_unref(s->listening);
}
