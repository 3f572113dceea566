/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Queues: running them, and telling the guest what runs them
 */

#include "qemu/osdep.h"
#include "qemu/lockable.h"
#include "qemu/main-loop.h"
#include "qemu/timer.h"
#include "system/xen.h"
#include "backend-emulated.h"
#include "core/iommu-op.h"
#include "guest-memory.h"
#include "queue.h"
#include "queue-memory.h"
#include "trace.h"

/*
 * The work budget of what waits for a queue - a translation, the beginning of a
 * notification - as xen_pviommu_core_work() counts: some milliseconds, and more
 * than what a driver queues takes. Under Xen each map may ask the hypervisor.
 */
static uint64_t run_work_max(void)
{
    return xen_enabled() ? 3u << 21 : 3u << 19;
}

/*
 * Account the work done by DMA threads, and disable a queue that starves the
 * main loop: so many times run_work_max(), before that runs again, are too much
 * with the BQL. An I/O thread without it only delays others that need the
 * device's lock, and not by too much if it took ACCOUNT_NS for it.
 */
#define ACCOUNT_FACTOR_BQL 2
#define ACCOUNT_FACTOR 64
#define ACCOUNT_NS (10 * NANOSECONDS_PER_SECOND)

/* So many times run_work_max() when the machine stops: it pauses anyway. */
#define STOP_FACTOR 16

/* A doorbell looks at all of them. */
#define QUEUES_MAX 256

/* Its memory is looked up, and freed after a grace period. */
#define SET_WORK 32

/*
 * Nodes that a map of few frames may take: two for its frames, and two above
 * them, in its table and in the index. More only where it reaches over one of
 * the boundaries of a level above, which are not many.
 */
#define NODES_PER_OP 8
#define NODES_BESIDE 1024

static void queue_add(XenPVIOMMUQueue *q)
{
    XenPVIOMMUState *s = q->s;

    QLIST_INSERT_HEAD(&s->queues.list, q, next);
    s->queues.nr++;
    s->queues.nr_ops += q->nr_ops;
    qatomic_rcu_set(&q->ctx->queue, q);
    trace_xen_pviommu_queue(q->ctx->id, q->addr, q->nr_ops);
}

static void queue_remove(XenPVIOMMUQueue *q)
{
    trace_xen_pviommu_queue(q->ctx->id, 0, 0);
    qatomic_rcu_set(&q->ctx->queue, NULL);
    q->s->queues.nr--;
    q->s->queues.nr_ops -= q->nr_ops;
    QLIST_REMOVE(q, next);
    call_rcu(q, xen_pviommu_queue_free, rcu);
}

static void queue_kill(XenPVIOMMUQueue *q)
{
    trace_xen_pviommu_queue_dead(q->ctx->id);
    xen_pviommu_queue_set_flags(q, XEN_IOMMU_QUEUE_doorbell |
                                   XEN_IOMMU_QUEUE_dead);
    queue_remove(q);
}

/*
 * There is room for what all queues can hold: no queued map fails for want of
 * it. Pending runs do not count, as a flush makes room.
 */
static bool queues_have_room(const XenPVIOMMUState *s)
{
    const XenPVIOMMUCore *core = &s->core;
    uint64_t frames = s->queues.nr_ops * (uint64_t)XEN_IOMMU_QUEUE_MAX_FRAMES;
    uint64_t nodes = s->queues.nr_ops * (uint64_t)NODES_PER_OP + NODES_BESIDE;
    size_t bytes = frames * GFN_INDEX_PLACE_BYTES +
                   nodes * NODE_POOL_NODE_BYTES;

    return core->mapped_frames + frames <= core->limits.max_mappings &&
           xen_pviommu_budget_allows(&core->budget, bytes);
}

/* DMA must not run them. In identity mode nothing is translated. */
static bool queues_stopped(const XenPVIOMMUState *s)
{
    return s->core.identity || s->listening->len || s->nr_passed ||
           xen_pviommu_emulated_has_unplugged(s->core.backend);
}

static bool queues_need_doorbell(const XenPVIOMMUState *s)
{
    return queues_stopped(s) || !queues_have_room(s);
}

static void queues_set_flags(XenPVIOMMUState *s, bool doorbell)
{
    XenPVIOMMUQueue *q;

    s->queues.doorbell = doorbell;
    QLIST_FOREACH(q, &s->queues.list, next) {
        xen_pviommu_queue_set_flags(q, doorbell ? XEN_IOMMU_QUEUE_doorbell : 0);
    }
}

static void queue_store_status(XenPVIOMMUQueue *q, unsigned slot, int status)
{
    struct xen_iommu_op *shared = &q->shared->ops[slot];

    shared->status = cpu_to_le32(status);
    xen_pviommu_queue_stored(q, (uint8_t *)&shared->status -
                                (uint8_t *)q->shared,
                             sizeof(shared->status));
    q->errors++;
}

/* It was done, but a listener could not follow. */
static void queue_op_failed(void *opaque, unsigned slot, int status)
{
    XenPVIOMMUQueue *q = opaque;

    xen_pviommu_guest_error(&q->s->core, "context %u: operation %u of the "
                            "queue: error %d", q->ctx->id, slot, status);
    q->s->core.counter[XEN_PVIOMMU_COUNTER_ERRORS]++;
    queue_store_status(q, slot, status);
}

/* False if the operation is unfinished: run it again next. */
static bool queue_run_op(XenPVIOMMUQueue *q, unsigned slot)
{
    XenPVIOMMUCore *core = &q->s->core;
    struct xen_iommu_op *shared = &q->shared->ops[slot];
    struct xen_iommu_op op;
    int status;

    /* The guest may write there: what is checked must be what is used. */
    memcpy(&op, shared, sizeof(op));
    barrier();
    core->listener_ops->begin(core->client, slot);
    status = xen_pviommu_op_execute_queued(core, q->ctx, &op);
    if (status == -XEN_IOMMU_ENOSPC && core->pending_frames) {
        xen_pviommu_core_flush_all(core);
        /* For the guest it is one operation, which did not fail yet. */
        core->counter[XEN_PVIOMMU_COUNTER_OPS]--;
        core->counter[XEN_PVIOMMU_COUNTER_ERRORS]--;
        status = xen_pviommu_op_execute_queued(core, q->ctx, &op);
    }
    if (status == XEN_PVIOMMU_UNFINISHED) {
        return false;
    }
    if (status) {
        queue_store_status(q, slot, status);
    }
    return true;
}

/*
 * Run @q until it is empty, or the work done gets to @end: then false. Call
 * queues_tell() afterwards. In an RCU critical section, as what an operation
 * causes may remove the queue.
 */
static bool queue_run(XenPVIOMMUQueue *q, uint64_t end)
{
    XenPVIOMMUCore *core = &q->s->core;
    uint32_t head = q->head;
    uint32_t tail;

    if (!q->shared || q->running || q->ctx->queue != q) {
        return true;
    }
    tail = le32_to_cpu(qatomic_load_acquire(&q->shared->tail));
    if (tail == head) {
        return true;
    }
    if (tail - head > q->nr_ops) {
        xen_pviommu_guest_error(core, "context %u: the queue's tail %u is too "
                                "far from its head %u", q->ctx->id, tail, head);
        queue_kill(q);
        return true;
    }
    q->running = true;
    while (head != tail && xen_pviommu_core_work(core) < end &&
           q->ctx->queue == q) {
        head += queue_run_op(q, head & (q->nr_ops - 1));
    }
    /* Before the guest sees that they are done */
    core->listener_ops->commit(core->client, queue_op_failed, q);
    q->running = false;
    if (q->ctx->queue != q) {
        return true;
    }
    if (!q->s->queues.doorbell && queues_need_doorbell(q->s)) {
        /* Before the guest sees free slots, for which there may be no room. */
        queues_set_flags(q->s, true);
    }
    trace_xen_pviommu_queue_run(q->ctx->id, head - q->head, tail - head);
    q->shared->errors = cpu_to_le32(q->errors);
    qatomic_store_release(&q->shared->head, cpu_to_le32(head));
    xen_pviommu_queue_stored_state(q);
    /* A thread that reads it translates without a look at the queue. */
    qatomic_store_release(&q->head, head);
    return head == tail;
}

/*
 * Run what is queued. A queue that needs more than what is left of @work is
 * disabled; each has a part of it.
 */
static void queues_finish(XenPVIOMMUState *s, uint64_t work)
{
    uint64_t end = xen_pviommu_core_work(&s->core) + work;
    XenPVIOMMUQueue *q, *next;

    QLIST_FOREACH_SAFE(q, &s->queues.list, next, next) {
        uint64_t some = xen_pviommu_core_work(&s->core) + work / QUEUES_MAX;

        if (!queue_run(q, MAX(end, some))) {
            xen_pviommu_guest_error(&s->core, "context %u: the queue is too "
                                    "much work", q->ctx->id);
            queue_kill(q);
        }
    }
}

/*
 * Set the flags, and with @stop keep DMA from running queues. What was queued
 * before the guest could know needs no doorbell: it has run when this returns,
 * or DMA runs it.
 */
static void queues_tell(XenPVIOMMUState *s, bool doorbell, bool stop)
{
    bool stopped = s->queues.stopped;

    if (!xen_pviommu_may_dma(s)) {
        return;
    }
    RCU_READ_LOCK_GUARD();
    if (!stop) {
        /* Before a guest that sees the flags leaves its queue to DMA. */
        qatomic_store_release(&s->queues.quiet, false);
    }
    if (doorbell != s->queues.doorbell) {
        queues_set_flags(s, doorbell);
    }
    /* Before they run, as what runs may call this again. */
    s->queues.stopped = stop;
    if (stop && !stopped) {
        /* Pairs with the guest's, between its tail and its look at flags. */
        smp_mb();
        queues_finish(s, run_work_max());
        qatomic_store_release(&s->queues.quiet, s->queues.stopped);
    }
}

/* After any change to what decides about it. */
static void queues_tell_now(XenPVIOMMUState *s)
{
    queues_tell(s, queues_need_doorbell(s), queues_stopped(s));
}

/* The main loop runs again. */
static void queues_bh(void *opaque)
{
    XenPVIOMMUState *s = opaque;

    QEMU_LOCK_GUARD(&s->lock);
    s->queues.work = 0;
    s->queues.work_bql = 0;
}

/*
 * DMA in the context of @q, which may be removed by now, caused so much @work.
 * The main loop can be held up by something else, while I/O threads run.
 */
static void queue_account(XenPVIOMMUQueue *q, uint64_t work)
{
    XenPVIOMMUState *s = q->s;
    bool too_much = false;

    if (!s->queues.work) {
        s->queues.work_begun = get_clock();
    }
    s->queues.work += work;
    if (bql_locked()) {
        s->queues.work_bql += work;
        too_much = s->queues.work_bql > ACCOUNT_FACTOR_BQL * run_work_max();
    }
    if (s->queues.work > ACCOUNT_FACTOR * run_work_max()) {
        too_much |= get_clock() - s->queues.work_begun < ACCOUNT_NS;
        s->queues.work = 0;
    }
    if (too_much) {
        s->queues.work_bql = 0;
        if (q->ctx->queue == q) {
            xen_pviommu_guest_error(&s->core, "context %u: the queue is too "
                                    "much work for DMA", q->ctx->id);
            queue_kill(q);
        }
    } else if (s->queues.work > run_work_max() / 4) {
        qemu_bh_schedule(s->queues.bh);
    }
}

/* What is queued waits for a doorbell, which runs with the BQL. */
static bool queues_quiet(const XenPVIOMMUState *s)
{
    return qatomic_load_acquire(&s->queues.quiet) || !xen_pviommu_may_dma(s);
}

void xen_pviommu_queues_drain(XenPVIOMMUState *s)
{
    assert(bql_locked());
    /* Pairs with qatomic_add(): a thread is counted, or sees quiet. */
    smp_mb();
    while (qatomic_read(&s->queues.threads)) {
        g_thread_yield();
    }
}

static void queue_run_locked(XenPVIOMMUQueue *q)
{
    XenPVIOMMUState *s = q->s;
    uint64_t before;

    QEMU_LOCK_GUARD(&s->lock);

    /* DMA that an operation causes runs before the operations behind it. */
    if (q->ctx->queue != q || s->queues.stopped || queues_stopped(s) ||
        q->running || !xen_pviommu_may_dma(s)) {
        return;
    }
    before = xen_pviommu_core_work(&s->core);
    if (!queue_run(q, before + run_work_max())) {
        xen_pviommu_guest_error(&s->core, "context %u: the queue is too much "
                                "work for one DMA", q->ctx->id);
        queue_kill(q);
    }
    queues_tell_now(s);
    queue_account(q, xen_pviommu_core_work(&s->core) - before);
    if (s->check) {
        xen_pviommu_core_check(&s->core);
    }
}

void xen_pviommu_queue_run_slow(XenPVIOMMUQueue *q)
{
    XenPVIOMMUState *s = q->s;
    /* Not with the BQL, which the thread that waits for them holds itself. */
    unsigned count = !bql_locked();

    if (queues_quiet(s)) {
        return;
    }
    qatomic_add(&s->queues.threads, count);
    if (!queues_quiet(s)) {
        queue_run_locked(q);
    }
    qatomic_sub(&s->queues.threads, count);
}

bool xen_pviommu_queues_run(XenPVIOMMUState *s, uint64_t end)
{
    XenPVIOMMUQueue *q, *next;
    bool empty = true;

    QEMU_LOCK_GUARD(&s->lock);
    RCU_READ_LOCK_GUARD();

    if (xen_pviommu_may_dma(s)) {
        QLIST_FOREACH_SAFE(q, &s->queues.list, next, next) {
            empty &= queue_run(q, end);
        }
    }
    queues_tell_now(s);
    return empty;
}

void xen_pviommu_queues_finish(XenPVIOMMUState *s)
{
    QEMU_LOCK_GUARD(&s->lock);
    RCU_READ_LOCK_GUARD();

    if (xen_pviommu_may_dma(s)) {
        queues_finish(s, STOP_FACTOR * run_work_max());
    }
    queues_tell_now(s);
}

void xen_pviommu_queues_update(XenPVIOMMUState *s)
{
    QEMU_LOCK_GUARD(&s->lock);

    queues_tell_now(s);
}

void xen_pviommu_queues_pages_removed(XenPVIOMMUState *s, uint64_t gfn,
                                      uint64_t nr)
{
    XenPVIOMMUQueue *q, *next;

    QEMU_LOCK_GUARD(&s->lock);

    QLIST_FOREACH_SAFE(q, &s->queues.list, next, next) {
        uint64_t first = q->addr >> XEN_IOMMU_PAGE_SHIFT;

        /* One that is being loaded may get its pages back. */
        if (q->shared && first < gfn + nr &&
            gfn < first + xen_pviommu_queue_pages(q)) {
            xen_pviommu_guest_error(&s->core, "context %u: the queue's memory "
                                    "is gone", q->ctx->id);
            queue_kill(q);
        }
    }
}

void xen_pviommu_queues_held(XenPVIOMMUState *s, XenPVIOMMUHeldFunc *func,
                             void *opaque)
{
    XenPVIOMMUQueue *q;

    QLIST_FOREACH(q, &s->queues.list, next) {
        if (q->shared) {
            func(opaque, q->addr >> XEN_IOMMU_PAGE_SHIFT,
                 xen_pviommu_queue_pages(q));
        }
    }
}

int xen_pviommu_queue_set(XenPVIOMMUState *s, XenPVIOMMUContext *ctx,
                          uint64_t addr, uint32_t nr_ops)
{
    XenPVIOMMUQueue *q = NULL;

    QEMU_LOCK_GUARD(&s->lock);

    s->core.work += SET_WORK;
    if (nr_ops) {
        if (!ctx->queue && s->queues.nr == QUEUES_MAX) {
            return -XEN_IOMMU_ENOSPC;
        }
        q = xen_pviommu_queue_new(s, ctx, addr, nr_ops);
        if (!q) {
            return -XEN_IOMMU_ENOMEM;
        }
        if (!xen_pviommu_queue_map(q)) {
            xen_pviommu_queue_free(q);
            return -XEN_IOMMU_EFAULT;
        }
    }
    if (ctx->queue) {
        queue_remove(ctx->queue);
    }
    if (q) {
        queue_add(q);
    }
    /* There may be room for fewer queues than there are now. */
    queues_tell_now(s);
    if (q) {
        xen_pviommu_queue_set_flags(q, s->queues.doorbell
                                       ? XEN_IOMMU_QUEUE_doorbell : 0);
    }
    return 0;
}

void xen_pviommu_queues_remap(XenPVIOMMUState *s)
{
    XenPVIOMMUQueue *q, *next;

    QEMU_LOCK_GUARD(&s->lock);

    QLIST_FOREACH_SAFE(q, &s->queues.list, next, next) {
        if (!q->shared && !xen_pviommu_queue_map(q)) {
            queue_kill(q);
        }
    }
    /* The flags in the queues are those of the source. */
    queues_set_flags(s, s->queues.doorbell);
    queues_tell_now(s);
}

bool xen_pviommu_queue_load(XenPVIOMMUState *s, XenPVIOMMUContext *ctx,
                            uint64_t addr, uint32_t nr_ops, uint32_t head,
                            uint32_t errors)
{
    XenPVIOMMUQueue *q;

    if (!xen_pviommu_queue_valid(addr, nr_ops) || ctx->queue ||
        s->queues.nr == QUEUES_MAX) {
        return false;
    }
    q = xen_pviommu_queue_new(s, ctx, addr, nr_ops);
    if (!q) {
        return false;
    }
    q->head = head;
    q->errors = errors;
    queue_add(q);
    return true;
}

void xen_pviommu_queues_init(XenPVIOMMUState *s)
{
    QLIST_INIT(&s->queues.list);
    s->queues.bh = qemu_bh_new_guarded(queues_bh, s,
                                       &DEVICE(s)->mem_reentrancy_guard);
}

void xen_pviommu_queues_finalize(XenPVIOMMUState *s)
{
    xen_pviommu_queues_remove(s);
    qemu_bh_delete(s->queues.bh);
}

void xen_pviommu_queues_remove(XenPVIOMMUState *s)
{
    XenPVIOMMUQueue *q, *next;

    QEMU_LOCK_GUARD(&s->lock);

    QLIST_FOREACH_SAFE(q, &s->queues.list, next, next) {
        queue_remove(q);
    }
}
