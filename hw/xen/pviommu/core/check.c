/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The reference audit: each page is referenced as often as it is mapped or
 * pending
 */

#include "qemu/osdep.h"
#include "qemu/error-report.h"
#include "core.h"
#include "pending.h"

typedef struct Audit {
    GHashTable *pages;          /* GFN -> references that there should be */
    uint64_t total;
    uint64_t mapped;
    uint64_t pending;
    uint64_t runs;              /* that are pending */
    uint64_t unnotified;            /* of them */
} Audit;

static void audit_add(Audit *audit, uint64_t gfn, uint64_t nr)
{
    for (uint64_t end = gfn + nr; gfn < end; gfn++) {
        gpointer key = (gpointer)(uintptr_t)gfn;
        uintptr_t n = (uintptr_t)g_hash_table_lookup(audit->pages, key);

        g_hash_table_insert(audit->pages, key, (gpointer)(n + 1));
    }
    audit->total += nr;
}

static void G_GNUC_PRINTF(1, 2) G_GNUC_NORETURN
check_failed(const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    error_vreport(fmt, ap);
    va_end(ap);
    abort();
}

typedef struct IndexSearch {
    const XenPVIOMMUContext *ctx;
    uint64_t delta;             /* of BFN and GFN, modulo 2^64 */
    uint64_t frames;
} IndexSearch;

static bool count_indexed(void *opaque, uint16_t ctx, uint64_t bfn,
                          uint64_t gfn, uint64_t nr)
{
    IndexSearch *search = opaque;

    if (ctx == search->ctx->id && bfn - gfn == search->delta) {
        search->frames += nr;
    }
    return true;
}

static void check_context(XenPVIOMMUCore *core, XenPVIOMMUContext *ctx,
                          Audit *audit)
{
    uint64_t limit = xen_pviommu_bfn_limit(core);
    uint64_t mapped = audit->mapped, pending = audit->pending;
    uint64_t unnotified = audit->unnotified;
    uint64_t runs = audit->runs;
    XenPVIOMMUPendingIter it;
    BfnRun run;

    for (uint64_t bfn = 0; bfn_table_next_run(ctx->table, bfn, limit, &run);
         bfn = run.bfn + run.nr) {
        IndexSearch search = { .ctx = ctx, .delta = run.bfn - run.gfn };

        gfn_index_foreach(core->gfn_index, run.gfn, run.nr, count_indexed,
                          &search);
        /* The same pages may be mapped elsewhere at the same distance. */
        if (search.frames < run.nr) {
            check_failed("xen-pviommu: ctx %u bfn 0x%" PRIx64 " nr 0x%" PRIx64
                         ": only 0x%" PRIx64 " frames are in the GFN index",
                         ctx->id, run.bfn, run.nr, search.frames);
        }
        audit_add(audit, run.gfn, run.nr);
        audit->mapped += run.nr;
    }
    xen_pviommu_pending_visit(&it, ctx);
    while (xen_pviommu_pending_next(&it, &run)) {
        audit_add(audit, run.gfn, run.nr);
        audit->pending += run.nr;
        audit->runs++;
        audit->unnotified += !it.notified;
    }
    mapped = audit->mapped - mapped;
    pending = audit->pending - pending;
    unnotified = audit->unnotified - unnotified;
    runs = audit->runs - runs;
    if (mapped != ctx->mapped_frames || pending != ctx->pending_frames) {
        check_failed("xen-pviommu: ctx %u: %" PRIu64 " frames mapped, %" PRIu64
                     " pending, but %" PRIu64 " and %" PRIu64 " counted",
                     ctx->id, mapped, pending, ctx->mapped_frames,
                     ctx->pending_frames);
    }
    if (unnotified != ctx->pending.nr_unnotified || runs != ctx->pending.nr) {
        check_failed("xen-pviommu: ctx %u: %" PRIu64 " runs pending, listeners "
                     "were not notified of %" PRIu64 ", but %" PRIu64 " and %"
                     PRIu64 " counted", ctx->id, runs, unnotified,
                     ctx->pending.nr, ctx->pending.nr_unnotified);
    }
}

void xen_pviommu_core_check(XenPVIOMMUCore *core)
{
    g_autoptr(GHashTable) pages = g_hash_table_new(NULL, NULL);
    const char *wrong = xen_pviommu_irqs_wrong(&core->irqs);
    Audit audit = { .pages = pages };
    GHashTableIter iter;
    gpointer gfn, refs;

    if (wrong) {
        check_failed("xen-pviommu: interrupts: %s", wrong);
    }
    for (uint32_t id = 0; id < core->limits.max_contexts; id++) {
        if (core->contexts[id]) {
            check_context(core, core->contexts[id], &audit);
        }
    }
    if (audit.mapped != core->mapped_frames ||
        audit.pending != core->pending_frames ||
        audit.runs != core->pending.nr) {
        check_failed("xen-pviommu: %" PRIu64 " frames mapped, %" PRIu64
                     " pending in %" PRIu64 " runs, but %" PRIu64 ", %" PRIu64
                     " and %" PRIu64 " counted", audit.mapped, audit.pending,
                     audit.runs, core->mapped_frames, core->pending_frames,
                     core->pending.nr);
    }
    g_hash_table_iter_init(&iter, pages);
    while (g_hash_table_iter_next(&iter, &gfn, &refs)) {
        uint64_t held = core->backend_ops->refs(core->backend, (uintptr_t)gfn);

        if (held != (uintptr_t)refs) {
            check_failed("xen-pviommu: gfn 0x%" PRIxPTR ": %" PRIu64
                         " references, but %" PRIuPTR " mappings and pending "
                         "releases", (uintptr_t)gfn, held, (uintptr_t)refs);
        }
    }
    /* As those are right, any more are on pages that are not mapped. */
    if (core->backend_ops->total(core->backend) != audit.total) {
        check_failed("xen-pviommu: %" PRIu64 " references held, but %" PRIu64
                     " mappings and pending releases",
                     core->backend_ops->total(core->backend), audit.total);
    }
}
