/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Migration: contexts travel as runs, functions as their place in the machine
 *
 * Bus numbers are the guest's and come later in the stream, so a function is
 * named by the way to it. What arrives goes through the same checks as what
 * a guest maps; the references are taken anew.
 *
 * All of it is in the device's section: what is sent while the guest runs
 * (SaveVMHandlers) is not called for when Xen's toolstack saves a guest.
 *
 * The IOMMU is loaded before other devices, which may do DMA as soon as they
 * are; so the memory map is not what it was yet: PCI BARs that are RAM are not
 * there, and a host bridge shows ROM where it has RAM. What cannot be mapped
 * for that, and what is lost as the map changes, waits until the machine is
 * complete, and is mapped before it runs.
 *
 * Reading and writing the stream may wait for the other side: never with the
 * lock, which is held for what changes in between.
 */

#include "qemu/osdep.h"
#include "qemu/error-report.h"
#include "hw/pci/msix.h"
#include "migration/qemu-file-types.h"
#include "migration/vmstate.h"
#include "system/runstate.h"
#include "device.h"
#include "dma.h"
#include "pending.h"
#include "queue.h"
#include "trace.h"

/*
 * A run: a byte of these flags, then as numbers of variable length what does
 * not follow from the run before - where its BFNs and its GFNs begin, from
 * where those of that run ended, unless it is there, and how many frames it
 * has, unless one.
 */
#define RUN_READONLY    (1u << 0)
#define RUN_PENDING     (1u << 1)
#define RUN_BFN         (1u << 2)
#define RUN_GFN         (1u << 3)
#define RUN_NR          (1u << 4)
#define RUN_FLAGS       (RUN_READONLY | RUN_PENDING | RUN_BFN | RUN_GFN | \
                         RUN_NR)
#define RUN_END         (1u << 7)

/* Of the number of contexts: a byte of flags follows each ID. */
#define CONTEXTS_FLAGS  (1u << 31)
#define CONTEXT_IDENTITY (1u << 0)

#define VARINT_MAX      10
#define PATH_END        0

/* Runs that are read before they are loaded, and their places fetched. */
#define RUN_WINDOW      32

typedef struct StreamRun {
    BfnRun run;
    uint8_t flags;
} StreamRun;

/* A run that waits for its pages to be there. */
typedef struct Unsettled {
    XenPVIOMMUContext *ctx;
    BfnRun run;
    bool pending;
} Unsettled;

/* Seven bits a byte, the lowest first; all but the last byte have bit 7. */
static unsigned put_varint(uint8_t *buf, uint64_t v)
{
    unsigned n = 0;

    while (v >= 0x80) {
        buf[n++] = v | 0x80;
        v >>= 7;
    }
    buf[n++] = v;
    return n;
}

static uint64_t get_varint(QEMUFile *f)
{
    uint64_t v = 0;

    for (unsigned i = 0; i < VARINT_MAX; i++) {
        uint8_t byte = qemu_get_byte(f);

        v |= (uint64_t)(byte & 0x7f) << (7 * i);
        if (!(byte & 0x80)) {
            break;
        }
    }
    return v;
}

/* The sign goes to bit 0, so that small distances are short either way. */
static unsigned put_distance(uint8_t *buf, uint64_t distance)
{
    return put_varint(buf, distance << 1 ^ -(distance >> 63));
}

static uint64_t get_distance(QEMUFile *f)
{
    uint64_t v = get_varint(f);

    return v >> 1 ^ -(v & 1);
}

static void put_run(QEMUFile *f, const BfnRun *run, BfnRun *last, uint8_t flags)
{
    uint64_t bfn = run->bfn - (last->bfn + last->nr);
    uint64_t gfn = run->gfn - (last->gfn + last->nr);
    uint8_t buf[1 + 3 * VARINT_MAX];
    unsigned n = 1;

    buf[0] = flags | (run->readonly ? RUN_READONLY : 0);
    if (bfn) {
        buf[0] |= RUN_BFN;
        n += put_distance(buf + n, bfn);
    }
    if (gfn) {
        buf[0] |= RUN_GFN;
        n += put_distance(buf + n, gfn);
    }
    if (run->nr != 1) {
        buf[0] |= RUN_NR;
        n += put_varint(buf + n, run->nr);
    }
    qemu_put_buffer(f, buf, n);
    *last = *run;
}

/* What the flags before it say about @run, which follows @last. */
static void get_run(QEMUFile *f, BfnRun *run, const BfnRun *last, uint8_t flags)
{
    run->readonly = flags & RUN_READONLY;
    run->bfn = last->bfn + last->nr;
    run->gfn = last->gfn + last->nr;
    run->nr = 1;
    if (flags & RUN_BFN) {
        run->bfn += get_distance(f);
    }
    if (flags & RUN_GFN) {
        run->gfn += get_distance(f);
    }
    if (flags & RUN_NR) {
        run->nr = get_varint(f);
    }
}

static uint64_t put_runs(QEMUFile *f, XenPVIOMMUCore *core,
                         XenPVIOMMUContext *ctx)
{
    uint64_t limit = xen_pviommu_bfn_limit(core);
    XenPVIOMMUPendingPos pos;
    const XenPVIOMMUPending *p;
    BfnRun last = { 0 };
    uint64_t runs = 0;
    BfnRun run;

    for (uint64_t bfn = 0; bfn_table_next_run(ctx->table, bfn, limit, &run);
         bfn = run.bfn + run.nr) {
        put_run(f, &run, &last, 0);
        runs++;
    }
    XEN_PVIOMMU_PENDING_FOREACH(p, ctx, &pos) {
        run = (BfnRun) {
            .bfn = p->bfn,
            .gfn = p->gfn,
            .nr = p->nr,
            .readonly = p->readonly,
        };
        put_run(f, &run, &last, RUN_PENDING);
        runs++;
    }
    qemu_put_byte(f, RUN_END);
    return runs;
}

static int put_mappings(QEMUFile *f, void *pv, size_t size,
                        const VMStateField *field, JSONWriter *vmdesc)
{
    XenPVIOMMUCore *core = pv;
    unsigned contexts = 0;
    uint64_t runs = 0;

    for (uint32_t id = 0; id < core->limits.max_contexts; id++) {
        if (core->contexts[id]) {
            runs += put_runs(f, core, core->contexts[id]);
            contexts++;
        }
    }
    trace_xen_pviommu_save(contexts, runs);
    return 0;
}

static bool run_below(uint64_t first, uint64_t nr, uint64_t limit)
{
    return first < limit && nr <= limit - first;
}

static bool run_valid(const BfnRun *run)
{
    return run->nr &&
           run_below(run->bfn, run->nr, 1ull << BFN_TABLE_MAX_BITS) &&
           run_below(run->gfn, run->nr, 1ull << GFN_INDEX_BITS);
}

static int load_run(XenPVIOMMUCore *core, XenPVIOMMUContext *ctx,
                    const BfnRun *run, bool pending)
{
    uint64_t tries = run->nr / XEN_INVALIDATE_POPULATED_FRAMES;
    size_t max_nodes = core->budget.max_nodes;
    int ret;

    /*
     * Splitting for an unmap may go beyond what a map may use. What the
     * source has must find room here, too.
     */
    core->budget.max_nodes += core->limits.max_mappings / 511 +
                              core->limits.max_contexts;
    /* A long run takes several goes, as it did the guest. */
    do {
        ret = pending
            ? xen_pviommu_context_load_pending(core, ctx, run)
            : xen_pviommu_context_map(core, ctx, XEN_IOMMU_DOMID_SELF, run);
    } while (ret == -XEN_IOMMU_EAGAIN && tries--);
    core->budget.max_nodes = max_nodes;
    return ret;
}

/* @ret says that the pages of a run are not there, but may be later. */
static bool wait_for_pages(XenPVIOMMUState *s, XenPVIOMMUContext *ctx,
                           const BfnRun *run, bool pending, int ret)
{
    const XenPVIOMMUCore *core = &s->core;
    Unsettled u = { .ctx = ctx, .run = *run, .pending = pending };

    if ((ret != -XEN_IOMMU_ENOENT && ret != -XEN_IOMMU_EPERM &&
         ret != -XEN_IOMMU_EAGAIN) ||
        run->nr > core->limits.max_mappings ||
        core->mapped_frames + core->pending_frames + s->unsettled_frames >
        core->limits.max_mappings - run->nr) {
        return false;
    }
    s->unsettled_frames += run->nr;
    g_array_append_val(s->unsettled, u);
    return true;
}

static int get_run_checked(QEMUFile *f, XenPVIOMMUCore *core,
                           XenPVIOMMUContext *ctx, StreamRun *r, BfnRun *last)
{
    int ret;

    get_run(f, &r->run, last, r->flags);
    /* Bytes behind the end of the stream are read as zeros. */
    ret = qemu_file_get_error(f);
    if (ret) {
        return ret;
    }
    if (r->flags & ~RUN_FLAGS || !run_valid(&r->run)) {
        error_report("xen-pviommu: context %u: bad run in the stream: bfn "
                     "0x%" PRIx64 " gfn 0x%" PRIx64 " nr 0x%" PRIx64
                     " flags 0x%x", ctx->id, r->run.bfn, r->run.gfn,
                     r->run.nr, r->flags);
        return -EINVAL;
    }
    if (!run_below(r->run.bfn, r->run.nr, xen_pviommu_bfn_limit(core))) {
        error_report("xen-pviommu: context %u: bfn 0x%" PRIx64 " gfn 0x%"
                     PRIx64 " nr 0x%" PRIx64 " is beyond bfn-bits=%u", ctx->id,
                     r->run.bfn, r->run.gfn, r->run.nr,
                     core->limits.bfn_bits);
        return -EINVAL;
    }
    if (core->identity || ctx->identity) {
        error_report("xen-pviommu: context %u: mappings in the stream, "
                     "but devices see all memory", ctx->id);
        return -EINVAL;
    }
    *last = r->run;
    return 0;
}

/* Lock held. */
static int load_run_or_wait(XenPVIOMMUState *s, XenPVIOMMUContext *ctx,
                            const StreamRun *r)
{
    bool pending = r->flags & RUN_PENDING;
    int ret = load_run(&s->core, ctx, &r->run, pending);

    if (ret && !wait_for_pages(s, ctx, &r->run, pending, ret)) {
        error_report("xen-pviommu: context %u: bfn 0x%" PRIx64 " gfn 0x%"
                     PRIx64 " nr 0x%" PRIx64 " does not fit this machine "
                     "(error %d); use the source's memory layout and "
                     "xen-pviommu properties", ctx->id, r->run.bfn, r->run.gfn,
                     r->run.nr, ret);
        return -EINVAL;
    }
    return 0;
}

static int load_window(XenPVIOMMUState *s, XenPVIOMMUContext *ctx,
                       const StreamRun *window, unsigned nr)
{
    XenPVIOMMUCore *core = &s->core;
    int ret = 0;

    QEMU_LOCK_GUARD(&s->lock);

    /* Neighbours in BFN are not in GFN: most of what a run costs is a miss. */
    for (unsigned i = 0; i < nr; i++) {
        gfn_index_prefetch(core->gfn_index, window[i].run.gfn);
    }
    for (unsigned i = 0; i < nr && !ret; i++) {
        ret = load_run_or_wait(s, ctx, &window[i]);
    }
    return ret;
}

static int get_runs(QEMUFile *f, XenPVIOMMUState *s, XenPVIOMMUContext *ctx,
                    uint64_t *runs)
{
    StreamRun window[RUN_WINDOW];
    BfnRun last = { 0 };
    bool end = false;

    while (!end) {
        unsigned nr;
        int ret;

        for (nr = 0; nr < RUN_WINDOW; nr++) {
            StreamRun *r = &window[nr];

            r->flags = qemu_get_byte(f);
            end = r->flags == RUN_END;
            if (end) {
                break;
            }
            ret = get_run_checked(f, &s->core, ctx, r, &last);
            if (ret) {
                return ret;
            }
        }
        ret = load_window(s, ctx, window, nr);
        if (ret) {
            return ret;
        }
        *runs += nr;
    }
    return 0;
}

static int get_mappings(QEMUFile *f, void *pv, size_t size,
                        const VMStateField *field)
{
    XenPVIOMMUCore *core = pv;
    XenPVIOMMUState *s = container_of(core, XenPVIOMMUState, core);
    unsigned contexts = 0;
    uint64_t runs = 0;
    int ret = 0;

    for (uint32_t id = 0; id < core->limits.max_contexts && !ret; id++) {
        if (core->contexts[id]) {
            ret = get_runs(f, s, core->contexts[id], &runs);
            contexts++;
        }
    }
    trace_xen_pviommu_load(contexts, runs, s->unsettled->len);
    return ret;
}

static const VMStateInfo vmstate_info_mappings = {
    .name = "xen-pviommu mappings",
    .get = get_mappings,
    .put = put_mappings,
};

static int put_contexts(QEMUFile *f, void *pv, size_t size,
                        const VMStateField *field, JSONWriter *vmdesc)
{
    XenPVIOMMUCore *core = pv;
    uint32_t flags = 0;
    uint32_t nr = 0;

    for (uint32_t id = 0; id < core->limits.max_contexts; id++) {
        nr += core->contexts[id] != NULL;
        if (core->contexts[id] && core->contexts[id]->identity) {
            flags = CONTEXTS_FLAGS;
        }
    }
    qemu_put_be32(f, nr | flags);
    for (uint32_t id = 0; id < core->limits.max_contexts; id++) {
        if (core->contexts[id]) {
            qemu_put_be16(f, id);
            if (flags) {
                qemu_put_byte(f, core->contexts[id]->identity ?
                                 CONTEXT_IDENTITY : 0);
            }
        }
    }
    return 0;
}

/* In the order of their IDs; the first is the default one, which is there. */
static int get_contexts(QEMUFile *f, void *pv, size_t size,
                        const VMStateField *field)
{
    XenPVIOMMUCore *core = pv;
    XenPVIOMMUState *s = container_of(core, XenPVIOMMUState, core);
    uint32_t word = qemu_get_be32(f);
    uint32_t nr = word & ~CONTEXTS_FLAGS;
    uint32_t next = XEN_IOMMU_CTX_DEFAULT;

    for (uint32_t i = 0; i < nr; i++) {
        uint32_t id = qemu_get_be16(f);
        uint8_t flags = word & CONTEXTS_FLAGS ? qemu_get_byte(f) : 0;
        int ret = qemu_file_get_error(f);

        if (ret) {
            return ret;
        }
        if (id < next || (!i && id != XEN_IOMMU_CTX_DEFAULT) ||
            id >= core->limits.max_contexts) {
            error_report("xen-pviommu: context %u: out of order in the stream, "
                         "or beyond max-contexts=%u", id,
                         core->limits.max_contexts);
            return -EINVAL;
        }
        if (flags & ~CONTEXT_IDENTITY ||
            (flags && id == XEN_IOMMU_CTX_DEFAULT)) {
            error_report("xen-pviommu: context %u: flags 0x%x in the stream",
                         id, flags);
            return -EINVAL;
        }
        if (id != XEN_IOMMU_CTX_DEFAULT) {
            QEMU_LOCK_GUARD(&s->lock);

            xen_pviommu_context_new(core, id)->identity =
                flags & CONTEXT_IDENTITY;
        }
        next = id + 1;
    }
    if (!nr) {
        error_report("xen-pviommu: no contexts in the stream");
        return -EINVAL;
    }
    return 0;
}

static const VMStateInfo vmstate_info_contexts = {
    .name = "xen-pviommu contexts",
    .get = get_contexts,
    .put = put_contexts,
};

static void add_function(void *opaque, const uint8_t *path, unsigned len,
                         XenPVIOMMUContext *ctx)
{
    const uint8_t id[] = { ctx->id >> 8, ctx->id };
    const uint8_t path_len = len;

    if (ctx->id != XEN_IOMMU_CTX_DEFAULT) {
        g_byte_array_append(opaque, &path_len, 1);
        g_byte_array_append(opaque, path, len);
        g_byte_array_append(opaque, id, sizeof(id));
    }
}

static int put_functions(QEMUFile *f, void *pv, size_t size,
                         const VMStateField *field, JSONWriter *vmdesc)
{
    XenPVIOMMUState *s = pv;
    g_autoptr(GByteArray) functions = g_byte_array_new();

    WITH_QEMU_LOCK_GUARD(&s->lock) {
        xen_pviommu_dma_foreach(s, add_function, functions);
    }
    qemu_put_buffer(f, functions->data, functions->len);
    qemu_put_byte(f, PATH_END);
    return 0;
}

static int get_functions(QEMUFile *f, void *pv, size_t size,
                         const VMStateField *field)
{
    XenPVIOMMUState *s = pv;
    uint8_t len;

    while ((len = qemu_get_byte(f)) != PATH_END) {
        uint8_t path[XEN_PVIOMMU_MAX_PATH];
        XenPVIOMMUContext *ctx;
        uint16_t id;
        int ret;

        if (len > sizeof(path)) {
            error_report("xen-pviommu: a function %u bridges deep in the "
                         "stream", len);
            return -EINVAL;
        }
        qemu_get_buffer(f, path, len);
        id = qemu_get_be16(f);
        ret = qemu_file_get_error(f);
        if (ret) {
            return ret;
        }
        ctx = xen_pviommu_context_find(&s->core, id);
        if (!ctx || (s->core.identity && !ctx->identity) ||
            !xen_pviommu_dma_attach_path(s, path, len, ctx)) {
            error_report("xen-pviommu: function %02x.%x (%u bridges deep) "
                         "cannot be in context %u: %s",
                         PCI_SLOT(path[len - 1]), PCI_FUNC(path[len - 1]),
                         len - 1, id, !ctx ? "there is no such context" :
                         s->core.identity && !ctx->identity ?
                         "devices see all memory" :
                         "this machine has no such place");
            return -EINVAL;
        }
    }
    return qemu_file_get_error(f);
}

static const VMStateInfo vmstate_info_functions = {
    .name = "xen-pviommu functions",
    .get = get_functions,
    .put = put_functions,
};

/* What is about to be lost of a run, while the memory map is coming back. */
static bool note_lost(void *opaque, uint16_t id, uint64_t bfn, uint64_t gfn,
                      uint64_t nr)
{
    XenPVIOMMUState *s = opaque;
    Unsettled u = { .ctx = s->core.contexts[id] };

    bfn_table_next_run(u.ctx->table, bfn, bfn + nr, &u.run);
    g_array_append_val(s->unsettled, u);
    s->unsettled_frames += nr;
    return true;
}

static void note_lost_pending(XenPVIOMMUState *s, const XenPVIOMMUContext *ctx,
                              const XenPVIOMMUPending *p, uint64_t gfn,
                              uint64_t last)
{
    uint64_t start = MAX(gfn, p->gfn);
    Unsettled u = {
        .ctx = s->core.contexts[ctx->id],
        .run = {
            .bfn = p->bfn + (start - p->gfn),
            .gfn = start,
            .nr = MIN(last, p->gfn + p->nr - 1) - start + 1,
            .readonly = p->readonly,
        },
        .pending = true,
    };

    g_array_append_val(s->unsettled, u);
    s->unsettled_frames += u.run.nr;
}

bool xen_pviommu_vmstate_lost(XenPVIOMMUState *s, uint64_t gfn, uint64_t nr)
{
    uint64_t last = gfn + nr - 1;
    const XenPVIOMMUContext *ctx;
    XenPVIOMMUPendingPos pos;
    const XenPVIOMMUPending *p;

    if (!s->unsettled) {
        return false;
    }
    gfn_index_foreach(s->core.gfn_index, gfn, nr, note_lost, s);
    QLIST_FOREACH(ctx, &s->core.pending_contexts, next_pending) {
        XEN_PVIOMMU_PENDING_FOREACH(p, ctx, &pos) {
            if (p->gfn <= last && p->gfn + p->nr - 1 >= gfn) {
                note_lost_pending(s, ctx, p, gfn, last);
            }
        }
    }
    return true;
}

void xen_pviommu_vmstate_forget(XenPVIOMMUState *s)
{
    g_clear_pointer(&s->unsettled, g_array_unref);
    s->unsettled_frames = 0;
}

/* The machine is complete. What has no pages now is gone. */
static void settle(XenPVIOMMUState *s)
{
    g_autoptr(GArray) unsettled = NULL;
    const Unsettled *first = NULL;
    uint64_t gone = 0;

    QEMU_LOCK_GUARD(&s->lock);

    unsettled = g_steal_pointer(&s->unsettled);
    xen_pviommu_vmstate_forget(s);
    for (guint i = 0; unsettled && i < unsettled->len; i++) {
        const Unsettled *u = &g_array_index(unsettled, Unsettled, i);

        if (load_run(&s->core, u->ctx, &u->run, u->pending)) {
            first = first ?: u;
            gone += u->run.nr;
        }
    }
    if (gone) {
        warn_report("xen-pviommu: %" PRIu64 " frames that were mapped on the "
                    "source are not here and cannot be reached; the first is "
                    "context %u, bfn 0x%" PRIx64 ", gfn 0x%" PRIx64, gone,
                    first->ctx->id, first->run.bfn, first->run.gfn);
    }
}

static void vm_state_change(void *opaque, bool running, RunState state)
{
    XenPVIOMMUState *s = opaque;

    /* A load that failed may have changed it. */
    xen_pviommu_config_changed(s);
    if (running) {
        settle(s);
        xen_pviommu_queues_settle(s);
        xen_pviommu_faults_kick(s);
    } else {
        /*
         * Devices of a destination may do DMA before the rest is there. This
         * is early enough for what it stores in guest memory to travel.
         */
        xen_pviommu_queues_finish(s);
    }
}

void xen_pviommu_vmstate_init(XenPVIOMMUState *s)
{
    s->vm_state = qemu_add_vm_change_state_handler(vm_state_change, s);
}

void xen_pviommu_vmstate_finalize(XenPVIOMMUState *s)
{
    qemu_del_vm_change_state_handler(s->vm_state);
    xen_pviommu_vmstate_forget(s);
}

static const VMStateDescription vmstate_fault = {
    .name = "xen-pviommu/fault",
    .version_id = 1,
    .minimum_version_id = 1,
    .fields = (const VMStateField[]) {
        VMSTATE_UINT64(addr, XenPVIOMMUFault),
        VMSTATE_UINT32(sbdf, XenPVIOMMUFault),
        VMSTATE_UINT32(reason, XenPVIOMMUFault),
        VMSTATE_UINT16(ctx, XenPVIOMMUFault),
        VMSTATE_UINT16(flags, XenPVIOMMUFault),
        VMSTATE_END_OF_LIST()
    },
};

static const VMStateDescription vmstate_block = {
    .name = "xen-pviommu/block",
    .version_id = 1,
    .minimum_version_id = 1,
    .fields = (const VMStateField[]) {
        VMSTATE_UINT64(array, XenPVIOMMUBlock),
        VMSTATE_UINT32(done, XenPVIOMMUBlock),
        VMSTATE_INT32(result, XenPVIOMMUBlock),
        VMSTATE_END_OF_LIST()
    },
};

/* Loaded, never run, and saved again: all that came must go. */
static int xen_pviommu_pre_save(void *opaque)
{
    settle(opaque);
    return 0;
}

/* loadvm: the machine was reset, but after it firmware may have run. */
static int xen_pviommu_pre_load(void *opaque)
{
    XenPVIOMMUState *s = opaque;

    QEMU_LOCK_GUARD(&s->lock);

    xen_pviommu_core_reset(&s->core);
    /* What is loaded has to find room at once. */
    while (xen_pviommu_core_reap(&s->core, UINT_MAX, false)) {
        /* There is more. */
    }
    xen_pviommu_vmstate_forget(s);
    s->unsettled = g_array_new(false, false, sizeof(Unsettled));
    return 0;
}

static bool block_valid(const XenPVIOMMUBlock *block)
{
    return block->done <= XEN_PVIOMMU_MAX_OPS_LIMIT &&
           (!block->result || block->result == -XEN_IOMMU_EFAULT ||
            block->result == -XEN_IOMMU_EIO);
}

static bool fault_valid(const XenPVIOMMUState *s, const XenPVIOMMUFault *fault)
{
    return fault->sbdf <= UINT16_MAX &&
           fault->reason >= XEN_IOMMU_FAULT_REASON_unmapped &&
           fault->reason <= XEN_IOMMU_FAULT_REASON_range &&
           fault->ctx < s->core.limits.max_contexts &&
           !(fault->flags & ~XEN_IOMMU_FAULT_write);
}

static bool faults_valid(const XenPVIOMMUState *s)
{
    const XenPVIOMMUFaults *f = &s->faults;

    if (!xen_pviommu_faults_valid(s) ||
        f->first >= XEN_PVIOMMU_FAULTS_WAITING ||
        f->nr_waiting > XEN_PVIOMMU_FAULTS_WAITING) {
        return false;
    }
    for (uint32_t i = 0; i < f->nr_waiting; i++) {
        if (!fault_valid(s, &f->waiting[(f->first + i) %
                                        XEN_PVIOMMU_FAULTS_WAITING])) {
            return false;
        }
    }
    return true;
}

static int put_queues(QEMUFile *f, void *pv, size_t size,
                      const VMStateField *field, JSONWriter *vmdesc)
{
    XenPVIOMMUState *s = pv;
    XenPVIOMMUQueue *q;

    qemu_put_be32(f, s->nr_queues);
    QLIST_FOREACH(q, &s->queues, next) {
        qemu_put_be16(f, q->ctx->id);
        qemu_put_be64(f, q->addr);
        qemu_put_be32(f, q->nr_ops);
        qemu_put_be32(f, q->head);
        qemu_put_be32(f, q->errors);
    }
    return 0;
}

static int get_queues(QEMUFile *f, void *pv, size_t size,
                      const VMStateField *field)
{
    XenPVIOMMUState *s = pv;

    for (uint32_t nr = qemu_get_be32(f); nr; nr--) {
        uint32_t id = qemu_get_be16(f);
        uint64_t addr = qemu_get_be64(f);
        uint32_t nr_ops = qemu_get_be32(f);
        uint32_t head = qemu_get_be32(f);
        uint32_t errors = qemu_get_be32(f);
        XenPVIOMMUContext *ctx = xen_pviommu_context_find(&s->core, id);
        int ret = qemu_file_get_error(f);

        if (ret) {
            return ret;
        }
        if (!ctx || !xen_pviommu_queue_load(s, ctx, addr, nr_ops, head,
                                            errors)) {
            error_report("xen-pviommu: context %u: bad queue in the stream: "
                         "address 0x%" PRIx64 ", %u entries", id, addr, nr_ops);
            return -EINVAL;
        }
    }
    return 0;
}

static const VMStateInfo vmstate_info_queues = {
    .name = "xen-pviommu queues",
    .get = get_queues,
    .put = put_queues,
};

static bool queues_needed(void *opaque)
{
    const XenPVIOMMUState *s = opaque;

    return !QLIST_EMPTY(&s->queues);
}

static const VMStateDescription vmstate_queues = {
    .name = "xen-pviommu/queues",
    .version_id = 1,
    .minimum_version_id = 1,
    .needed = queues_needed,
    .fields = (const VMStateField[]) {
        {
            .name = "queues",
            .info = &vmstate_info_queues,
            .flags = VMS_SINGLE,
            .offset = 0,
        },
        VMSTATE_END_OF_LIST()
    },
};

static int xen_pviommu_post_load(void *opaque, int version_id)
{
    XenPVIOMMUState *s = opaque;
    uint64_t missing = s->core.accepted & ~xen_pviommu_core_features(&s->core);

    xen_pviommu_config_changed(s);
    if (missing & ~XEN_IOMMU_FEATURES_ALL) {
        error_report("xen-pviommu: the guest uses features 0x%" PRIx64
                     " that are not known here: use the QEMU of the source, or "
                     "a newer one", missing);
        return -EINVAL;
    }
    if (missing & XEN_IOMMU_FEATURE_QUEUE) {
        error_report("xen-pviommu: the guest uses queues, and this machine "
                     "does not offer any: give its xen-pviommu queues=on, as "
                     "on the source");
        return -EINVAL;
    }
    if (missing) {
        error_report("xen-pviommu: the guest uses identity contexts, and this "
                     "machine does not offer any: give its xen-pviommu "
                     "identity-contexts=on, as on the source");
        return -EINVAL;
    }
    for (unsigned i = 0; i < XEN_PVIOMMU_MAX_BLOCKS; i++) {
        if (!block_valid(&s->blocks[i])) {
            error_report("xen-pviommu: bad register block %u in the stream", i);
            return -EINVAL;
        }
    }
    if (!faults_valid(s)) {
        error_report("xen-pviommu: bad fault ring in the stream");
        /* After a loadvm that fails the machine may go on. */
        xen_pviommu_faults_reset(s);
        return -EINVAL;
    }
    /* The newest of those that wait is the one that may be repeated. */
    s->faults.last = s->faults.waiting[(s->faults.first +
                                        s->faults.nr_waiting +
                                        XEN_PVIOMMU_FAULTS_WAITING - 1) %
                                       XEN_PVIOMMU_FAULTS_WAITING];
    xen_pviommu_dma_update(s);
    return 0;
}

const VMStateDescription xen_pviommu_vmstate = {
    .name = "xen-pviommu",
    .version_id = 1,
    .minimum_version_id = 1,
    /* Other devices may do DMA as soon as they are loaded. */
    .priority = MIG_PRI_IOMMU,
    .pre_save = xen_pviommu_pre_save,
    .pre_load = xen_pviommu_pre_load,
    .post_load = xen_pviommu_post_load,
    .fields = (const VMStateField[]) {
        VMSTATE_PCI_DEVICE(parent_obj, XenPVIOMMUState),
        VMSTATE_MSIX(parent_obj, XenPVIOMMUState),
        VMSTATE_UINT64(core.accepted, XenPVIOMMUState),
        VMSTATE_BOOL(core.identity, XenPVIOMMUState),
        VMSTATE_UINT64_ARRAY(core.counter, XenPVIOMMUState,
                             XEN_PVIOMMU_NR_EVENT_COUNTERS),
        VMSTATE_STRUCT_ARRAY(blocks, XenPVIOMMUState, XEN_PVIOMMU_MAX_BLOCKS,
                             1, vmstate_block, XenPVIOMMUBlock),
        VMSTATE_UINT64(faults.ring, XenPVIOMMUState),
        VMSTATE_UINT32(faults.size, XenPVIOMMUState),
        VMSTATE_UINT32(faults.ctrl, XenPVIOMMUState),
        VMSTATE_UINT32(faults.head, XenPVIOMMUState),
        VMSTATE_UINT32(faults.tail, XenPVIOMMUState),
        VMSTATE_UINT32(faults.first, XenPVIOMMUState),
        VMSTATE_UINT32(faults.nr_waiting, XenPVIOMMUState),
        VMSTATE_UINT32(faults.lost, XenPVIOMMUState),
        VMSTATE_UINT64(faults.count, XenPVIOMMUState),
        VMSTATE_STRUCT_ARRAY(faults.waiting, XenPVIOMMUState,
                             XEN_PVIOMMU_FAULTS_WAITING, 1, vmstate_fault,
                             XenPVIOMMUFault),
        {
            .name = "contexts",
            .info = &vmstate_info_contexts,
            .flags = VMS_SINGLE,
            .offset = offsetof(XenPVIOMMUState, core),
        },
        {
            .name = "functions",
            .info = &vmstate_info_functions,
            .flags = VMS_SINGLE,
            .offset = 0,
        },
        {
            /* After the functions: what those reserve cannot be mapped. */
            .name = "mappings",
            .info = &vmstate_info_mappings,
            .flags = VMS_SINGLE,
            .offset = offsetof(XenPVIOMMUState, core),
        },
        VMSTATE_END_OF_LIST()
    },
    .subsections = (const VMStateDescription * const []) {
        &vmstate_queues,
        NULL
    },
};
