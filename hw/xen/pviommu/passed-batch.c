/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Functions that Xen passes through: changes of contexts, collected and sent
 *
 * What is unmapped in a batch is flushed once at its end. What the hypervisor
 * fails to map is unmapped in the guest's context, too, and the guest's
 * operation fails. What it fails to unmap or to flush is tried again with the
 * next batch.
 */

#include "qemu/osdep.h"
#include "qemu/error-report.h"
#include "hw/xen/xen_native.h"
#include "backend-emulated.h"
#include "core/context.h"
#include "host-hypercall.h"
#include "passed-internal.h"
#include "trace.h"

/* As xen_pviommu_core_work() counts runs: a call; frames to a unit. */
#define CALL_WORK       8
#define FRAMES_PER_WORK 2

/* Runs that a replay adds at a time, and slots that it looks at for each. */
#define REPLAY_RUNS     128
#define REPLAY_SLOTS    (1u << 16)
#define REPLAY_FRAMES   4096

/* Ranges that are tried again one by one. */
#define STALE_MAX       64

static struct xen_iommu_op *batch_op(XenPVIOMMUPassed *p, uint16_t op,
                                     PassedContext *pc, uint64_t bfn,
                                     uint64_t gfn, uint32_t nr)
{
    struct xen_iommu_op *o = &p->ops[p->nr_ops];

    *o = (struct xen_iommu_op) {
        .op = op,
        .u.target_range = {
            .bfn = bfn, .gfn = gfn, .domid = xen_domid, .ctx = pc->hw,
            .nr_frames = nr,
        },
    };
    p->entries[p->nr_ops] = (PassedEntry) { pc, p->tag, bfn, gfn, nr };
    p->nr_ops++;
    return o;
}

static bool entries_overlap(const PassedEntry *a, const PassedEntry *b)
{
    return a->pc == b->pc && a->bfn < b->bfn + b->nr && b->bfn < a->bfn + a->nr;
}

/* --- failures ------------------------------------------------------------- */

static void note_failure(XenPVIOMMUPassed *p, const PassedEntry *entry,
                         int status, bool undo)
{
    const PassedFailure failure = { *entry, status, undo };

    g_array_append_val(p->failures, failure);
}

static void note_stale(PassedContext *pc, uint64_t bfn, uint64_t nr)
{
    PassedRange range = { bfn, nr };

    if (pc->stale->len == STALE_MAX) {
        /* From here on what is between them is unmapped with them. */
        PassedRange *last = &g_array_index(pc->stale, PassedRange,
                                           STALE_MAX - 1);
        uint64_t end = MAX(last->bfn + last->nr, bfn + nr);

        last->bfn = MIN(last->bfn, bfn);
        last->nr = end - last->bfn;
        return;
    }
    g_array_append_val(pc->stale, range);
}

static void report_kept(const PassedEntry *entry, int status)
{
    error_report_once("xen-pviommu: the hypervisor keeps BFN 0x%" PRIx64
                      " mapped for functions that it passes through: %s",
                      entry->bfn, strerror(-status));
}

/* Entry @i failed. */
static void batch_failed(XenPVIOMMUPassed *p, unsigned i, int status)
{
    const struct xen_iommu_op *op = &p->ops[i];
    const PassedEntry *entry = &p->entries[i];
    bool undo = true;

    switch (op->op) {
    case XEN_IOMMUOP_target_map:
        for (unsigned later = i + 1; later < p->nr_ops; later++) {
            if (p->ops[later].op == XEN_IOMMUOP_target_unmap &&
                entries_overlap(entry, &p->entries[later])) {
                undo = false;
            }
        }
        note_failure(p, entry, status, undo);
        break;
    case XEN_IOMMUOP_target_unmap:
        report_kept(entry, status);
        note_stale(entry->pc, op->u.target_range.bfn,
                   op->u.target_range.nr_frames);
        note_failure(p, entry, status, false);
        break;
    default:
        report_kept(entry, status);
        entry->pc->stale_flush = true;
        note_failure(p, entry, status, false);
        break;
    }
}

/* --- sending -------------------------------------------------------------- */

static void batch_trace(const XenPVIOMMUPassed *p)
{
    for (unsigned i = 0; i < p->nr_ops; i++) {
        const PassedEntry *e = &p->entries[i];

        trace_xen_pviommu_passed_op(p->ops[i].op, e->pc->hw, e->bfn, e->gfn,
                                    e->nr, p->ops[i].status);
    }
}

/* Send what is there as one call. Returns: the status of @extra. */
static int batch_send(XenPVIOMMUPassed *p, struct xen_iommu_op *extra)
{
    const unsigned nr = p->nr_ops;
    int status = 0;

    if (extra) {
        p->ops[nr] = *extra;
    }
    if (!nr && !extra) {
        return 0;
    }
    xen_pviommu_hypercall_run(p->ops, nr + !!extra);
    p->s->core.work += CALL_WORK;
    batch_trace(p);
    if (extra) {
        *extra = p->ops[nr];
        status = extra->status;
    }
    for (unsigned i = 0; i < nr; i++) {
        if (p->ops[i].status) {
            batch_failed(p, i, p->ops[i].status);
        }
    }
    p->nr_ops = 0;
    return status;
}

static void batch_add_flushes(XenPVIOMMUPassed *p)
{
    PassedContext *pc;

    QLIST_FOREACH(pc, &p->contexts, next) {
        if (pc->flush_end) {
            uint64_t nr = pc->flush_end - pc->flush_bfn;
            const unsigned tag = p->tag;

            p->tag = pc->flush_tag;
            if (nr > UINT32_MAX) {
                batch_op(p, XEN_IOMMUOP_target_flush, pc, XEN_IOMMU_FLUSH_ALL,
                         0, 0);
            } else {
                batch_op(p, XEN_IOMMUOP_target_flush, pc, pc->flush_bfn, 0, nr);
            }
            p->tag = tag;
            pc->flush_end = 0;
        }
    }
}

static bool context_stale(const PassedContext *pc)
{
    return pc->stale->len || pc->stale_flush;
}

bool passed_stale(const XenPVIOMMUPassed *p)
{
    const PassedContext *pc;

    QLIST_FOREACH(pc, &p->contexts, next) {
        if (context_stale(pc)) {
            return true;
        }
    }
    return false;
}

/* What failed before is tried again before anything else; nothing is there. */
static void retry_stale(XenPVIOMMUPassed *p)
{
    PassedContext *pc;

    QLIST_FOREACH(pc, &p->contexts, next) {
        const unsigned tag = p->tag;
        g_autoptr(GArray) ranges = NULL;

        if (!context_stale(pc)) {
            continue;
        }
        ranges = pc->stale;
        pc->stale = g_array_new(false, false, sizeof(PassedRange));
        pc->stale_flush = false;
        p->tag = PASSED_NO_TAG;
        for (guint i = 0; i < ranges->len; i++) {
            const PassedRange *r = &g_array_index(ranges, PassedRange, i);

            for (uint64_t done = 0, nr; done < r->nr; done += nr) {
                nr = MIN(r->nr - done, UINT32_MAX);
                if (p->nr_ops == PASSED_BATCH) {
                    batch_send(p, NULL);
                }
                batch_op(p, XEN_IOMMUOP_target_unmap, pc, r->bfn + done, 0, nr);
            }
        }
        batch_op(p, XEN_IOMMUOP_target_flush, pc, XEN_IOMMU_FLUSH_ALL, 0, 0);
        batch_send(p, NULL);
        p->tag = tag;
    }
}

int passed_run(XenPVIOMMUPassed *p, struct xen_iommu_op *op)
{
    batch_add_flushes(p);
    return batch_send(p, op);
}

void passed_retry(XenPVIOMMUPassed *p)
{
    passed_run(p, NULL);
    retry_stale(p);
}

/* Room for another operation. The first one of a batch comes after a retry. */
static void batch_make_room(XenPVIOMMUPassed *p)
{
    if (p->nr_ops == PASSED_BATCH) {
        passed_run(p, NULL);
    }
    if (!p->nr_ops) {
        retry_stale(p);
        /* Should whatever causes changes not commit them */
        qemu_bh_schedule(p->bh);
    }
}

/* --- what contexts map ---------------------------------------------------- */

PassedContext *passed_context_of(XenPVIOMMUPassed *p,
                                 const XenPVIOMMUContext *ctx)
{
    PassedContext *pc;

    QLIST_FOREACH(pc, &p->contexts, next) {
        if (pc->ctx == ctx) {
            return pc;
        }
    }
    return NULL;
}

/* The hypervisor may still have something else there. */
static bool is_stale(const PassedContext *pc, uint64_t bfn, uint64_t nr)
{
    for (guint i = 0; i < pc->stale->len; i++) {
        const PassedRange *r = &g_array_index(pc->stale, PassedRange, i);

        if (r->bfn < bfn + nr && bfn < r->bfn + r->nr) {
            return true;
        }
    }
    return false;
}

static void context_add(XenPVIOMMUPassed *p, PassedContext *pc, uint64_t bfn,
                        uint64_t gfn, uint32_t nr, bool readonly)
{
    struct xen_iommu_op *op;

    batch_make_room(p);
    if (is_stale(pc, bfn, nr)) {
        const PassedEntry entry = { pc, p->tag, bfn, gfn, nr };

        note_failure(p, &entry, -XEN_IOMMU_EIO, true);
        return;
    }
    op = batch_op(p, XEN_IOMMUOP_target_map, pc, bfn, gfn, nr);
    op->flags = readonly ? XEN_IOMMUOP_map_readonly : 0;
    p->s->core.work += DIV_ROUND_UP(nr, FRAMES_PER_WORK);
}

/* BARs that QEMU emulates are nothing that a physical function can reach. */
static void context_map(XenPVIOMMUPassed *p, PassedContext *pc,
                        const BfnRun *run)
{
    uint64_t bfn = run->bfn, nr = run->nr;

    while (nr) {
        uint64_t gfn = run->gfn + (bfn - run->bfn);
        uint64_t part = MIN(nr, UINT32_MAX);

        if (xen_pviommu_emulated_can_pin(p->s->core.backend, gfn, &part)) {
            context_add(p, pc, bfn, gfn, part, run->readonly);
        }
        bfn += part;
        nr -= part;
    }
}

static void context_unmap(XenPVIOMMUPassed *p, PassedContext *pc, uint64_t bfn,
                          uint64_t nr)
{
    const PassedEntry range = { .pc = pc, .bfn = bfn, .nr = nr };

    for (guint i = 0; i < p->failures->len; i++) {
        PassedFailure *f = &g_array_index(p->failures, PassedFailure, i);

        if (entries_overlap(&f->entry, &range)) {
            f->undo = false;
        }
    }
    for (uint64_t done = 0, part; done < nr; done += part) {
        part = MIN(nr - done, UINT32_MAX);
        batch_make_room(p);
        batch_op(p, XEN_IOMMUOP_target_unmap, pc, bfn + done, 0, part);
        pc->flush_bfn = pc->flush_end ? MIN(pc->flush_bfn, bfn) : bfn;
        pc->flush_end = MAX(pc->flush_end, bfn + nr);
        pc->flush_tag = p->tag;
    }
}

void xen_pviommu_passed_map(XenPVIOMMUState *s, XenPVIOMMUContext *ctx,
                            const BfnRun *run)
{
    PassedContext *pc = s->passed ? passed_context_of(s->passed, ctx) : NULL;
    BfnRun part = *run;

    if (pc && run->bfn < pc->replay_next) {
        part.nr = MIN(run->nr, pc->replay_next - run->bfn);
        context_map(s->passed, pc, &part);
    }
}

void xen_pviommu_passed_unmap(XenPVIOMMUState *s, XenPVIOMMUContext *ctx,
                              uint64_t bfn, uint64_t nr)
{
    PassedContext *pc = s->passed ? passed_context_of(s->passed, ctx) : NULL;

    if (pc && bfn < pc->replay_next) {
        context_unmap(s->passed, pc, bfn, MIN(nr, pc->replay_next - bfn));
    }
}

bool xen_pviommu_passed_listening(XenPVIOMMUState *s,
                                  const XenPVIOMMUContext *ctx)
{
    return s->passed && passed_context_of(s->passed, ctx);
}

bool passed_context_replay(XenPVIOMMUPassed *p, PassedContext *pc)
{
    const uint64_t limit = xen_pviommu_bfn_limit(&p->s->core);
    uint64_t frames = 0;
    BfnRun run;

    for (unsigned i = 0; i < REPLAY_RUNS && frames < REPLAY_FRAMES &&
                         pc->replay_next != UINT64_MAX; i++) {
        if (!pc->ctx || pc->ctx->identity ||
            !bfn_table_next_part(pc->ctx->table, pc->replay_next, limit,
                                 REPLAY_SLOTS, &run)) {
            pc->replay_next = UINT64_MAX;
            break;
        }
        run.nr = MIN(run.nr, REPLAY_FRAMES);
        pc->replay_next = run.bfn + run.nr;
        frames += run.nr;
        context_map(p, pc, &run);
    }
    return pc->replay_next == UINT64_MAX;
}

void passed_context_clear(XenPVIOMMUPassed *p, PassedContext *pc)
{
    passed_run(p, NULL);
    context_unmap(p, pc, 0, p->bfn_limit);
    passed_run(p, NULL);
}

/* --- commits -------------------------------------------------------------- */

int passed_take_failure(XenPVIOMMUPassed *p, const PassedContext *pc)
{
    int status = 0;

    for (guint i = 0; i < p->failures->len; i++) {
        PassedFailure *f = &g_array_index(p->failures, PassedFailure, i);

        if (f->entry.pc == pc && !status) {
            status = f->status;
        }
        if (f->entry.pc == pc) {
            g_array_remove_index(p->failures, i--);
        }
    }
    return status;
}

/* The context does not map what the hypervisor did not. */
static void undo_map(XenPVIOMMUPassed *p, const PassedEntry *entry)
{
    XenPVIOMMUCore *core = &p->s->core;
    XenPVIOMMUContext *ctx = entry->pc->ctx;
    uint64_t bfn = entry->bfn, end = entry->bfn + entry->nr;
    BfnRun run;

    for (; ctx && bfn_table_next_run(ctx->table, bfn, end, &run);
         bfn = run.bfn + run.nr) {
        if (run.gfn - entry->gfn == run.bfn - entry->bfn) {
            xen_pviommu_context_remove_run(core, ctx, &run);
        }
    }
}

static void end_failure(XenPVIOMMUPassed *p, const PassedFailure *f,
                        XenPVIOMMUFailedFunc *failed, void *data)
{
    if (f->undo) {
        undo_map(p, &f->entry);
    }
    if (failed && f->entry.tag != PASSED_NO_TAG) {
        failed(data, f->entry.tag, f->status);
    } else if (f->undo) {
        error_report_once("xen-pviommu: functions that Xen passes through do "
                          "not follow the guest's map at BFN 0x%" PRIx64 ": %s",
                          f->entry.bfn, strerror(-f->status));
    }
}

void xen_pviommu_passed_commit(XenPVIOMMUState *s,
                               XenPVIOMMUFailedFunc *failed, void *data)
{
    XenPVIOMMUPassed *p = s->passed;

    if (!p || p->committing) {
        return;
    }
    p->tag = PASSED_NO_TAG;
    if (!p->nr_ops && !p->failures->len) {
        return;
    }
    p->committing = true;
    passed_run(p, NULL);
    while (p->failures->len) {
        g_autoptr(GArray) failures = p->failures;

        p->failures = g_array_new(false, false, sizeof(PassedFailure));
        for (guint i = 0; i < failures->len; i++) {
            end_failure(p, &g_array_index(failures, PassedFailure, i), failed,
                        data);
        }
        /* What undid maps, and has no operation that could fail */
        passed_run(p, NULL);
    }
    p->committing = false;
}

void xen_pviommu_passed_begin(XenPVIOMMUState *s, unsigned tag)
{
    if (s->passed) {
        s->passed->tag = tag;
    }
}
