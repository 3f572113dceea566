/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Queues: operations of a context that run without a call
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
#include "trace.h"

#define DEVICE_PART offsetof(struct xen_iommu_queue, head)

/*
 * See xen_pviommu_core_work(): some milliseconds, and more than what a driver
 * queues takes. What has to run before something else can go on - a
 * translation, the beginning of a notification - may not be more. Under Xen
 * each map may ask the hypervisor.
 */
static uint64_t run_work_max(void)
{
    return xen_enabled() ? 3u << 21 : 3u << 19;
}

/*
 * A device can translate very often before the main loop goes on, and another
 * vCPU fill the queue each time: so many times run_work_max() if that is with
 * the BQL. An I/O thread holds nobody up but who wants the device's lock; what
 * took longer than HOG_NS left the others their time.
 */
#define HOG_FACTOR_BQL 2
#define HOG_FACTOR 64
#define HOG_NS (10 * NANOSECONDS_PER_SECOND)

/* So many times run_work_max() when the machine stops: it pauses anyway. */
#define STOP_FACTOR 16

/* A doorbell looks at all of them. */
#define QUEUES_MAX 256

/* Memory is looked up, and given back after a grace period. */
#define SET_WORK 32

/*
 * Nodes that a map of few frames may take: two for its frames, and two above
 * them, in its table and in the index. More only where it reaches over one of
 * the boundaries of a level above, which are not many.
 */
#define NODES_PER_OP 8
#define NODES_BESIDE 1024

static size_t queue_size(uint32_t nr_ops)
{
    return offsetof(struct xen_iommu_queue, ops) +
           nr_ops * sizeof(struct xen_iommu_op);
}

/* It begins with a page. */
static uint64_t queue_pages(const XenPVIOMMUQueue *q)
{
    return DIV_ROUND_UP(queue_size(q->nr_ops), 1ull << XEN_IOMMU_PAGE_SHIFT);
}

/* The RAM that is at @addr, all of @size in one piece; or NULL. */
static MemoryRegion *find_ram(uint64_t addr, uint64_t size, hwaddr *offset)
{
    MemoryRegion *mr = NULL;
    uint64_t done = 0;

    RCU_READ_LOCK_GUARD();

    while (done < size) {
        hwaddr part, len = size - done;
        MemoryRegion *next = address_space_translate(&address_space_memory,
                                                     addr + done, &part, &len,
                                                     true,
                                                     MEMTXATTRS_UNSPECIFIED);

        if (!memory_access_is_direct(next, true, MEMTXATTRS_UNSPECIFIED) ||
            (mr && (next != mr || part != *offset + done))) {
            return NULL;
        }
        if (!mr) {
            mr = next;
            *offset = part;
        }
        done += len;
    }
    memory_region_ref(mr);
    return mr;
}

/* Find its memory; false if that is not one piece of RAM. */
static bool queue_find(XenPVIOMMUQueue *q)
{
    uint64_t gfn = q->addr >> XEN_IOMMU_PAGE_SHIFT, nr = queue_pages(q);
    const XenPVIOMMUCore *core = &q->s->core;
    MemoryRegion *mr;
    void *shared;

    /* There may be no page. What leaves takes the queue along. */
    if (core->backend_ops->get(core->backend, XEN_IOMMU_DOMID_SELF, gfn, nr,
                               false)) {
        return false;
    }
    core->backend_ops->put(core->backend, gfn, nr, false);
    /* A cache would hold on to the memory map, and to all devices in it. */
    mr = find_ram(q->addr, queue_size(q->nr_ops), &q->offset);
    if (!mr) {
        return false;
    }
    shared = xen_lasting_map(mr, q->offset, queue_size(q->nr_ops));
    if (!shared) {
        memory_region_unref(mr);
        return false;
    }
    q->mr = mr;
    qatomic_rcu_set(&q->shared, shared);
    return true;
}

static void queue_free(XenPVIOMMUQueue *q)
{
    if (q->shared) {
        xen_lasting_unmap(q->mr, q->shared);
        memory_region_unref(q->mr);
    }
    node_pool_heap_free(q->pool, q, sizeof(*q));
}

/* The guest has what the device stored; for migration, too. */
static void queue_stored(XenPVIOMMUQueue *q, hwaddr offset, hwaddr len)
{
    memory_region_set_dirty(q->mr, q->offset + offset, len);
}

static void queue_set_flags(XenPVIOMMUQueue *q, uint32_t flags)
{
    if (q->shared && xen_pviommu_may_dma(q->s)) {
        qatomic_set(&q->shared->flags, cpu_to_le32(flags));
        queue_stored(q, DEVICE_PART, queue_size(0) - DEVICE_PART);
    }
}

static void queue_add(XenPVIOMMUQueue *q)
{
    XenPVIOMMUState *s = q->s;

    QLIST_INSERT_HEAD(&s->queues, q, next);
    s->nr_queues++;
    s->queue_ops += q->nr_ops;
    qatomic_rcu_set(&q->ctx->queue, q);
    trace_xen_pviommu_queue(q->ctx->id, q->addr, q->nr_ops);
}

static void queue_remove(XenPVIOMMUQueue *q)
{
    trace_xen_pviommu_queue(q->ctx->id, 0, 0);
    qatomic_rcu_set(&q->ctx->queue, NULL);
    q->s->nr_queues--;
    q->s->queue_ops -= q->nr_ops;
    QLIST_REMOVE(q, next);
    call_rcu(q, queue_free, rcu);
}

static void queue_kill(XenPVIOMMUQueue *q)
{
    trace_xen_pviommu_queue_dead(q->ctx->id);
    queue_set_flags(q, XEN_IOMMU_QUEUE_doorbell | XEN_IOMMU_QUEUE_dead);
    queue_remove(q);
}

/*
 * There is room for what all queues can hold: nothing that is queued fails for
 * want of it. What only waits for a flush makes way.
 */
static bool queues_have_room(const XenPVIOMMUState *s)
{
    const XenPVIOMMUCore *core = &s->core;
    uint64_t frames = s->queue_ops * (uint64_t)XEN_IOMMU_QUEUE_MAX_FRAMES;
    uint64_t nodes = s->queue_ops * (uint64_t)NODES_PER_OP + NODES_BESIDE;
    size_t bytes = frames * GFN_INDEX_PLACE_BYTES +
                   nodes * NODE_POOL_NODE_BYTES;

    return core->mapped_frames + frames <= core->limits.max_mappings &&
           xen_pviommu_budget_allows(&core->budget, bytes);
}

/* DMA must not run them; before the big switch nobody translates. */
static bool queues_stopped(const XenPVIOMMUState *s)
{
    return s->core.identity || s->listening->len ||
           xen_pviommu_emulated_has_holes(s->core.backend);
}

static bool queues_need_calls(const XenPVIOMMUState *s)
{
    return queues_stopped(s) || !queues_have_room(s);
}

static void queues_set_flags(XenPVIOMMUState *s, bool calls)
{
    XenPVIOMMUQueue *q;

    s->queues_need_calls = calls;
    QLIST_FOREACH(q, &s->queues, next) {
        queue_set_flags(q, calls ? XEN_IOMMU_QUEUE_doorbell : 0);
    }
}

/* False if the operation is unfinished, and still that to run next. */
static bool queue_run_op(XenPVIOMMUQueue *q, unsigned slot)
{
    XenPVIOMMUCore *core = &q->s->core;
    struct xen_iommu_op *shared = &q->shared->ops[slot];
    struct xen_iommu_op op;
    int status;

    /* The guest may write there: what is checked must be what is used. */
    memcpy(&op, shared, sizeof(op));
    barrier();
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
        shared->status = op.status;
        queue_stored(q, (uint8_t *)&shared->status - (uint8_t *)q->shared,
                     sizeof(op.status));
        q->errors++;
    }
    return true;
}

/*
 * Run @q until it is empty, or the work done gets to @end: then false. Call
 * queues_tell() afterwards. In an RCU critical section: what an operation
 * causes may take the queue away.
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
    q->running = false;
    if (q->ctx->queue != q) {
        return true;
    }
    if (!q->s->queues_need_calls && queues_need_calls(q->s)) {
        /* Before it sees slots to use, for which there may be no room. */
        queues_set_flags(q->s, true);
    }
    trace_xen_pviommu_queue_run(q->ctx->id, head - q->head, tail - head);
    q->shared->errors = cpu_to_le32(q->errors);
    qatomic_store_release(&q->shared->head, cpu_to_le32(head));
    queue_stored(q, DEVICE_PART, queue_size(0) - DEVICE_PART);
    /* Who sees it translates without a look at the queue. */
    qatomic_store_release(&q->head, head);
    return head == tail;
}

/*
 * Run what is queued. A queue that makes it more than @work is not waited for,
 * but each has some.
 */
static void queues_finish(XenPVIOMMUState *s, uint64_t work)
{
    uint64_t end = xen_pviommu_core_work(&s->core) + work;
    XenPVIOMMUQueue *q, *next;

    QLIST_FOREACH_SAFE(q, &s->queues, next, next) {
        uint64_t some = xen_pviommu_core_work(&s->core) + work / QUEUES_MAX;

        if (!queue_run(q, MAX(end, some))) {
            xen_pviommu_guest_error(&s->core, "context %u: the queue is too "
                                    "much work", q->ctx->id);
            queue_kill(q);
        }
    }
}

/*
 * Tell the guest, and with @stop keep DMA from running queues. What was queued
 * before the guest could know needs no call: that has run when this returns, or
 * DMA runs it.
 */
static void queues_tell(XenPVIOMMUState *s, bool calls, bool stop)
{
    bool stopped = s->queues_stopped;

    if (!xen_pviommu_may_dma(s)) {
        return;
    }
    RCU_READ_LOCK_GUARD();
    if (!stop) {
        /* Before a guest that sees the flags leaves its queue to DMA. */
        qatomic_store_release(&s->queues_quiet, false);
    }
    if (calls != s->queues_need_calls) {
        queues_set_flags(s, calls);
    }
    /* Before they run: what runs may bring us here again. */
    s->queues_stopped = stop;
    if (stop && !stopped) {
        /* Pairs with the guest's, between its tail and its look at flags. */
        smp_mb();
        queues_finish(s, run_work_max());
        qatomic_store_release(&s->queues_quiet, s->queues_stopped);
    }
}

/* After any change to what decides about it. */
static void queues_tell_now(XenPVIOMMUState *s)
{
    queues_tell(s, queues_need_calls(s), queues_stopped(s));
}

/* The main loop goes on. */
static void queues_bh(void *opaque)
{
    XenPVIOMMUState *s = opaque;

    QEMU_LOCK_GUARD(&s->lock);
    s->queue_work = 0;
    s->queue_work_bql = 0;
}

/*
 * DMA in the context of @q, which may be no more, caused so much @work. The
 * main loop may have other reasons not to go on, while I/O threads go on.
 */
static void queue_hogs(XenPVIOMMUQueue *q, uint64_t work)
{
    XenPVIOMMUState *s = q->s;
    bool hogs = false;

    if (!s->queue_work) {
        s->queue_work_begun = get_clock();
    }
    s->queue_work += work;
    if (bql_locked()) {
        s->queue_work_bql += work;
        hogs = s->queue_work_bql > HOG_FACTOR_BQL * run_work_max();
    }
    if (s->queue_work > HOG_FACTOR * run_work_max()) {
        hogs |= get_clock() - s->queue_work_begun < HOG_NS;
        s->queue_work = 0;
    }
    if (hogs) {
        s->queue_work_bql = 0;
        if (q->ctx->queue == q) {
            xen_pviommu_guest_error(&s->core, "context %u: the queue is too "
                                    "much work for DMA", q->ctx->id);
            queue_kill(q);
        }
    } else if (s->queue_work > run_work_max() / 4) {
        qemu_bh_schedule(s->queues_bh);
    }
}

/* What the queue has in it waits for a call: whoever makes it has the BQL. */
static bool queues_quiet(const XenPVIOMMUState *s)
{
    return qatomic_load_acquire(&s->queues_quiet) || !xen_pviommu_may_dma(s);
}

void xen_pviommu_queues_drain(XenPVIOMMUState *s)
{
    assert(bql_locked());
    /* Pairs with qatomic_add(): a thread is counted, or sees that it is quiet */
    smp_mb();
    while (qatomic_read(&s->queue_threads)) {
        g_thread_yield();
    }
}

static void queue_run_locked(XenPVIOMMUQueue *q)
{
    XenPVIOMMUState *s = q->s;
    uint64_t before;

    QEMU_LOCK_GUARD(&s->lock);

    /* Where an operation causes DMA, that is ahead of those that follow. */
    if (q->ctx->queue != q || s->queues_stopped || queues_stopped(s) ||
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
    queue_hogs(q, xen_pviommu_core_work(&s->core) - before);
    if (s->check) {
        xen_pviommu_core_check(&s->core);
    }
}

void xen_pviommu_queue_run_slow(XenPVIOMMUQueue *q)
{
    XenPVIOMMUState *s = q->s;
    /* The BQL's holder cannot be waited for by another one. */
    unsigned count = !bql_locked();

    if (queues_quiet(s)) {
        return;
    }
    qatomic_add(&s->queue_threads, count);
    if (!queues_quiet(s)) {
        queue_run_locked(q);
    }
    qatomic_sub(&s->queue_threads, count);
}

bool xen_pviommu_queues_run(XenPVIOMMUState *s, uint64_t end)
{
    XenPVIOMMUQueue *q, *next;
    bool empty = true;

    QEMU_LOCK_GUARD(&s->lock);
    RCU_READ_LOCK_GUARD();

    if (xen_pviommu_may_dma(s)) {
        QLIST_FOREACH_SAFE(q, &s->queues, next, next) {
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

void xen_pviommu_queues_lost(XenPVIOMMUState *s, uint64_t gfn, uint64_t nr)
{
    XenPVIOMMUQueue *q, *next;

    QEMU_LOCK_GUARD(&s->lock);

    QLIST_FOREACH_SAFE(q, &s->queues, next, next) {
        uint64_t first = q->addr >> XEN_IOMMU_PAGE_SHIFT;

        /* One that is being loaded may get its pages back. */
        if (q->shared && first < gfn + nr && gfn < first + queue_pages(q)) {
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

    QLIST_FOREACH(q, &s->queues, next) {
        if (q->shared) {
            func(opaque, q->addr >> XEN_IOMMU_PAGE_SHIFT, queue_pages(q));
        }
    }
}

static XenPVIOMMUQueue *queue_new(XenPVIOMMUState *s, XenPVIOMMUContext *ctx,
                                  uint64_t addr, uint32_t nr_ops)
{
    NodePool *pool = s->core.budget.pool;
    XenPVIOMMUQueue *q = node_pool_heap_alloc(pool, sizeof(*q));

    if (!q) {
        return NULL;
    }
    q->pool = pool;
    q->s = s;
    q->ctx = ctx;
    q->addr = addr;
    q->nr_ops = nr_ops;
    return q;
}

int xen_pviommu_queue_set(XenPVIOMMUState *s, XenPVIOMMUContext *ctx,
                          uint64_t addr, uint32_t nr_ops)
{
    XenPVIOMMUQueue *q = NULL;

    QEMU_LOCK_GUARD(&s->lock);

    s->core.work += SET_WORK;
    if (nr_ops) {
        if (!ctx->queue && s->nr_queues == QUEUES_MAX) {
            return -XEN_IOMMU_ENOSPC;
        }
        q = queue_new(s, ctx, addr, nr_ops);
        if (!q) {
            return -XEN_IOMMU_ENOMEM;
        }
        if (!queue_find(q)) {
            queue_free(q);
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
        queue_set_flags(q, s->queues_need_calls ? XEN_IOMMU_QUEUE_doorbell : 0);
    }
    return 0;
}

bool xen_pviommu_queue_load(XenPVIOMMUState *s, XenPVIOMMUContext *ctx,
                            uint64_t addr, uint32_t nr_ops, uint32_t head,
                            uint32_t errors)
{
    XenPVIOMMUQueue *q;

    QEMU_LOCK_GUARD(&s->lock);

    if (!xen_pviommu_queue_valid(addr, nr_ops) || ctx->queue ||
        s->nr_queues == QUEUES_MAX) {
        return false;
    }
    q = queue_new(s, ctx, addr, nr_ops);
    if (!q) {
        return false;
    }
    q->head = head;
    q->errors = errors;
    queue_add(q);
    return true;
}

void xen_pviommu_queues_settle(XenPVIOMMUState *s)
{
    XenPVIOMMUQueue *q, *next;

    QEMU_LOCK_GUARD(&s->lock);

    QLIST_FOREACH_SAFE(q, &s->queues, next, next) {
        if (!q->shared && !queue_find(q)) {
            queue_kill(q);
        }
    }
    /* What the guest was told it was told by another machine. */
    queues_set_flags(s, s->queues_need_calls);
    queues_tell_now(s);
}

void xen_pviommu_queues_init(XenPVIOMMUState *s)
{
    QLIST_INIT(&s->queues);
    s->queues_bh = qemu_bh_new_guarded(queues_bh, s,
                                       &DEVICE(s)->mem_reentrancy_guard);
}

void xen_pviommu_queues_finalize(XenPVIOMMUState *s)
{
    xen_pviommu_queues_remove(s);
    qemu_bh_delete(s->queues_bh);
}

void xen_pviommu_queues_remove(XenPVIOMMUState *s)
{
    XenPVIOMMUQueue *q, *next;

    QEMU_LOCK_GUARD(&s->lock);

    QLIST_FOREACH_SAFE(q, &s->queues, next, next) {
        queue_remove(q);
    }
}
