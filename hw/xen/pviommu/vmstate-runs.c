/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Migration of mappings: contexts travel as runs
 *
 * What is loaded is checked as what a guest maps is; the references are taken
 * anew.
 *
 * The IOMMU is loaded before other devices, so that the memory map is not what
 * it was yet: PCI BARs that are RAM are not there, and a host bridge shows ROM
 * where it has RAM. What cannot be mapped for that, and what is removed as the
 * map changes, is deferred until the machine is complete, and mapped before it
 * runs.
 *
 * Reading and writing the stream may wait for the other side: never with the
 * lock, which is held for what changes in between.
 */

#include "qemu/osdep.h"
#include "qemu/error-report.h"
#include "migration/qemu-file-types.h"
#include "migration/vmstate.h"
#include "core/pending.h"
#include "device.h"
#include "vmstate-runs.h"
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

#define VARINT_MAX      10
#define RUN_MAX         (1 + 3 * VARINT_MAX)

/* Runs that are read before they are loaded, and their places fetched. */
#define RUN_WINDOW      32

typedef struct StreamRun {
    BfnRun run;
    uint8_t flags;
} StreamRun;

/*
 * Runs that wait for their pages to be there, encoded as in the stream: two
 * bytes that arrive must not become fifty. RUN_END begins those of another
 * context, and its ID follows.
 */
struct XenPVIOMMUDeferredRuns {
    GByteArray *bytes;
    uint32_t ctx;               /* of those at the end, and... */
    BfnRun last;                /* the last of these */
    uint64_t frames;
};

/* As much as an array can be. */
#define DEFERRED_MAX    (G_MAXUINT / 2)

/* Bytes of a stream, or of what was deferred. */
typedef struct RunReader {
    QEMUFile *f;                /* NULL: the latter */
    const uint8_t *next;
    const uint8_t *end;
} RunReader;

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

/* Behind the end there are zeros. */
static uint8_t get_byte(RunReader *r)
{
    if (r->f) {
        return qemu_get_byte(r->f);
    }
    return r->next < r->end ? *r->next++ : 0;
}

static uint64_t get_varint(RunReader *r)
{
    uint64_t v = 0;

    for (unsigned i = 0; i < VARINT_MAX; i++) {
        uint8_t byte = get_byte(r);

        v |= (uint64_t)(byte & 0x7f) << (7 * i);
        if (!(byte & 0x80)) {
            break;
        }
    }
    return v;
}

/* The sign is in bit 0, so that small distances are short either way. */
static unsigned put_distance(uint8_t *buf, uint64_t distance)
{
    return put_varint(buf, distance << 1 ^ -(distance >> 63));
}

static uint64_t get_distance(RunReader *r)
{
    uint64_t v = get_varint(r);

    return v >> 1 ^ -(v & 1);
}

/* Returns: the bytes that it takes. */
static unsigned encode_run(uint8_t buf[RUN_MAX], const BfnRun *run,
                           BfnRun *last, uint8_t flags)
{
    uint64_t bfn = run->bfn - (last->bfn + last->nr);
    uint64_t gfn = run->gfn - (last->gfn + last->nr);
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
    *last = *run;
    return n;
}

static void put_run(QEMUFile *f, const BfnRun *run, BfnRun *last, uint8_t flags)
{
    uint8_t buf[RUN_MAX];

    qemu_put_buffer(f, buf, encode_run(buf, run, last, flags));
}

/* What the flags before it say about @run, which follows @last. */
static void get_run(RunReader *r, BfnRun *run, const BfnRun *last,
                    uint8_t flags)
{
    run->readonly = flags & RUN_READONLY;
    run->bfn = last->bfn + last->nr;
    run->gfn = last->gfn + last->nr;
    run->nr = 1;
    if (flags & RUN_BFN) {
        run->bfn += get_distance(r);
    }
    if (flags & RUN_GFN) {
        run->gfn += get_distance(r);
    }
    if (flags & RUN_NR) {
        run->nr = get_varint(r);
    }
}

static uint64_t put_runs(QEMUFile *f, XenPVIOMMUState *s,
                         XenPVIOMMUContext *ctx)
{
    XenPVIOMMUCore *core = &s->core;
    uint64_t limit = xen_pviommu_bfn_limit(core);
    XenPVIOMMUPendingIter it;
    BfnRun last = { 0 };
    uint64_t runs = 0;
    BfnRun run;

    for (uint64_t bfn = 0; bfn_table_next_run(ctx->table, bfn, limit, &run);
         bfn = run.bfn + run.nr) {
        put_run(f, &run, &last, 0);
        runs++;
    }
    xen_pviommu_pending_visit(&it, ctx);
    while (xen_pviommu_pending_next(&it, &run)) {
        put_run(f, &run, &last, RUN_PENDING);
        runs++;
    }
    qemu_put_byte(f, RUN_END);
    return runs;
}

static int put_mappings(QEMUFile *f, void *pv, size_t size,
                        const VMStateField *field, JSONWriter *vmdesc)
{
    XenPVIOMMUState *s = pv;
    const XenPVIOMMUCore *core = &s->core;
    unsigned contexts = 0;
    uint64_t runs = 0;

    for (uint32_t id = 0; id < core->limits.max_contexts; id++) {
        if (core->contexts[id]) {
            runs += put_runs(f, s, core->contexts[id]);
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
    uint64_t tries = run->nr / XEN_PAGE_SOURCE_FRAMES;
    int ret;

    /* What the source has must find room here, too. */
    xen_pviommu_core_load_begin(core);
    /* A long run takes several calls, as it did the guest. */
    do {
        ret = pending
            ? xen_pviommu_context_load_pending(core, ctx, run)
            : xen_pviommu_context_map(core, ctx, XEN_IOMMU_DOMID_SELF, run);
    } while (ret == -XEN_IOMMU_EAGAIN && tries--);
    xen_pviommu_core_load_end(core);
    return ret;
}

/* False if there is no room, which is there for all that can be mapped. */
static bool defer_run(XenPVIOMMUDeferredRuns *d, uint16_t ctx,
                      const BfnRun *run, bool pending)
{
    const uint8_t begin[] = { RUN_END, ctx >> 8, ctx };
    uint8_t buf[RUN_MAX];
    unsigned len;

    if (d->bytes->len > DEFERRED_MAX) {
        return false;
    }
    if (d->ctx != ctx) {
        g_byte_array_append(d->bytes, begin, sizeof(begin));
        d->last = (BfnRun) { 0 };
        d->ctx = ctx;
    }
    len = encode_run(buf, run, &d->last, pending ? RUN_PENDING : 0);
    g_byte_array_append(d->bytes, buf, len);
    d->frames += run->nr;
    return true;
}

/* From @run and its context to the next. False if there are no more. */
static bool next_deferred(RunReader *r, uint32_t *ctx, BfnRun *run,
                          bool *pending)
{
    uint8_t flags;
    BfnRun last;

    if (r->next == r->end) {
        return false;
    }
    flags = get_byte(r);
    if (flags == RUN_END) {
        *ctx = get_byte(r) << 8;
        *ctx |= get_byte(r);
        *run = (BfnRun) { 0 };
        flags = get_byte(r);
    }
    *pending = flags & RUN_PENDING;
    last = *run;
    get_run(r, run, &last, flags);
    return true;
}

/* @ret says that the pages of a run are not there, but may be later. */
static bool wait_for_pages(XenPVIOMMUState *s, XenPVIOMMUContext *ctx,
                           const BfnRun *run, bool pending, int ret)
{
    const XenPVIOMMUCore *core = &s->core;

    if ((ret != -XEN_IOMMU_ENOENT && ret != -XEN_IOMMU_EPERM &&
         ret != -XEN_IOMMU_EAGAIN) ||
        run->nr > core->limits.max_mappings ||
        core->mapped_frames + core->pending_frames + s->deferred->frames >
        core->limits.max_mappings - run->nr) {
        return false;
    }
    return defer_run(s->deferred, ctx->id, run, pending);
}

static void report_unmappable(uint32_t id)
{
    error_report("xen-pviommu: context %u: mappings in the stream, but devices "
                 "see all memory", id);
}

static int get_run_checked(QEMUFile *f, XenPVIOMMUState *s, uint32_t id,
                           StreamRun *r, BfnRun *last)
{
    const XenPVIOMMUCore *core = &s->core;
    RunReader reader = { .f = f };
    int ret;

    get_run(&reader, &r->run, last, r->flags);
    /* Bytes behind the end of the stream are read as zeros. */
    ret = qemu_file_get_error(f);
    if (ret) {
        return ret;
    }
    if (r->flags & ~RUN_FLAGS || !run_valid(&r->run)) {
        error_report("xen-pviommu: context %u: bad run in the stream: bfn "
                     "0x%" PRIx64 " gfn 0x%" PRIx64 " nr 0x%" PRIx64
                     " flags 0x%x", id, r->run.bfn, r->run.gfn,
                     r->run.nr, r->flags);
        return -EINVAL;
    }
    if (!run_below(r->run.bfn, r->run.nr, xen_pviommu_bfn_limit(core))) {
        error_report("xen-pviommu: context %u: bfn 0x%" PRIx64 " gfn 0x%"
                     PRIx64 " nr 0x%" PRIx64 " is beyond bfn-bits=%u", id,
                     r->run.bfn, r->run.gfn, r->run.nr,
                     core->limits.bfn_bits);
        return -EINVAL;
    }
    if (s->saved.identity) {
        report_unmappable(id);
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

    if (ret == -XEN_IOMMU_ENOMEM) {
        error_report("xen-pviommu: context %u: no memory for bfn 0x%" PRIx64
                     " gfn 0x%" PRIx64 " nr 0x%" PRIx64 "; a larger "
                     "max-mappings allows more", ctx->id, r->run.bfn,
                     r->run.gfn, r->run.nr);
        return -ENOMEM;
    }
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

static int load_window(XenPVIOMMUState *s, uint32_t id,
                       const StreamRun *window, unsigned nr)
{
    XenPVIOMMUCore *core = &s->core;
    int ret = 0;

    QEMU_LOCK_GUARD(&s->lock);

    if (!xen_pviommu_load_goes_on(s)) {
        return -ECANCELED;
    }
    if (nr && core->contexts[id]->identity) {
        report_unmappable(id);
        return -EINVAL;
    }

    /* Neighbours in BFN are not in GFN: most of what a run costs is a miss. */
    for (unsigned i = 0; i < nr; i++) {
        gfn_index_prefetch(core->gfn_index, window[i].run.gfn);
    }
    for (unsigned i = 0; i < nr && !ret; i++) {
        ret = load_run_or_wait(s, core->contexts[id], &window[i]);
    }
    return ret;
}

static int get_runs(QEMUFile *f, XenPVIOMMUState *s, uint32_t id,
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
            ret = get_run_checked(f, s, id, r, &last);
            if (ret) {
                return ret;
            }
        }
        ret = load_window(s, id, window, nr);
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
    XenPVIOMMUState *s = pv;
    const XenPVIOMMUCore *core = &s->core;
    unsigned contexts = 0;
    uint64_t runs = 0;
    int ret = 0;

    for (uint32_t id = 0; id < core->limits.max_contexts && !ret; id++) {
        if (core->contexts[id]) {
            ret = get_runs(f, s, id, &runs);
            contexts++;
        }
    }
    trace_xen_pviommu_load(contexts, runs,
                           s->deferred ? s->deferred->frames : 0);
    return ret;
}

const VMStateInfo xen_pviommu_vmstate_mappings = {
    .name = "xen-pviommu mappings",
    .get = get_mappings,
    .put = put_mappings,
};

/* A part of a run whose pages are removed, while the memory map comes back. */
static bool defer_removed(void *opaque, uint16_t id, uint64_t bfn, uint64_t gfn,
                       uint64_t nr)
{
    XenPVIOMMUState *s = opaque;
    BfnRun run;

    bfn_table_next_run(s->core.contexts[id]->table, bfn, bfn + nr, &run);
    defer_run(s->deferred, id, &run, false);
    return true;
}

static void defer_removed_pending(XenPVIOMMUState *s,
                                  const XenPVIOMMUContext *ctx,
                                  const BfnRun *run, uint64_t gfn,
                                  uint64_t last)
{
    uint64_t start = MAX(gfn, run->gfn);
    BfnRun part = {
        .bfn = run->bfn + (start - run->gfn),
        .gfn = start,
        .nr = MIN(last, run->gfn + run->nr - 1) - start + 1,
        .readonly = run->readonly,
    };

    defer_run(s->deferred, ctx->id, &part, true);
}

bool xen_pviommu_load_pages_removed(XenPVIOMMUState *s, uint64_t gfn,
                                    uint64_t nr)
{
    uint64_t last = gfn + nr - 1;
    XenPVIOMMUPendingIter it;
    BfnRun run;

    if (!s->deferred) {
        return false;
    }
    gfn_index_foreach(s->core.gfn_index, gfn, nr, defer_removed, s);
    xen_pviommu_pending_visit_all(&it, &s->core);
    while (xen_pviommu_pending_next(&it, &run)) {
        if (run.gfn <= last && run.gfn + run.nr - 1 >= gfn) {
            defer_removed_pending(s, it.ctx, &run, gfn, last);
        }
    }
    return true;
}

bool xen_pviommu_load_goes_on(const XenPVIOMMUState *s)
{
    if (s->load != XEN_PVIOMMU_LOAD_UNDER_WAY) {
        error_report("xen-pviommu: the machine was reset while it was loaded");
        return false;
    }
    return true;
}

int xen_pviommu_load_check(const XenPVIOMMUState *s, QEMUFile *f)
{
    int ret = qemu_file_get_error(f);

    if (!ret && !xen_pviommu_load_goes_on(s)) {
        ret = -ECANCELED;
    }
    return ret;
}

void xen_pviommu_load_begin(XenPVIOMMUState *s)
{
    s->deferred = g_new0(XenPVIOMMUDeferredRuns, 1);
    s->deferred->bytes = g_byte_array_new();
    s->deferred->ctx = UINT32_MAX;
    s->load = XEN_PVIOMMU_LOAD_UNDER_WAY;
}

static void deferred_free(XenPVIOMMUDeferredRuns *d)
{
    g_byte_array_unref(d->bytes);
    g_free(d);
}

void xen_pviommu_load_forget_deferred(XenPVIOMMUState *s)
{
    g_clear_pointer(&s->deferred, deferred_free);
}

void xen_pviommu_load_reset(XenPVIOMMUState *s)
{
    xen_pviommu_load_forget_deferred(s);
    if (s->load == XEN_PVIOMMU_LOAD_UNDER_WAY) {
        s->load = XEN_PVIOMMU_LOAD_ABANDONED;
    } else if (s->load == XEN_PVIOMMU_LOAD_COMPLETE) {
        s->load = XEN_PVIOMMU_LOAD_NONE;
    }
}

void xen_pviommu_load_deferred(XenPVIOMMUState *s)
{
    XenPVIOMMUDeferredRuns *d = g_steal_pointer(&s->deferred);
    BfnRun run = { 0 }, first;
    uint32_t id = 0, first_id;
    RunReader reader = { 0 };
    uint64_t abandoned = 0;
    bool pending;

    if (!d) {
        return;
    }
    reader.next = d->bytes->data;
    reader.end = reader.next + d->bytes->len;
    while (next_deferred(&reader, &id, &run, &pending)) {
        XenPVIOMMUContext *ctx = xen_pviommu_context_find(&s->core, id);

        if (ctx && !load_run(&s->core, ctx, &run, pending)) {
            continue;
        }
        if (!abandoned) {
            first = run;
            first_id = id;
        }
        abandoned += run.nr;
    }
    deferred_free(d);
    if (abandoned) {
        warn_report("xen-pviommu: %" PRIu64 " frames that were mapped on the "
                    "source are not here and cannot be reached; the first is "
                    "context %u, bfn 0x%" PRIx64 ", gfn 0x%" PRIx64, abandoned,
                    first_id, first.bfn, first.gfn);
    }
}
