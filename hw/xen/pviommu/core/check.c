/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The books: each page is referenced as often as it is mapped or pending
 */

#include "qemu/osdep.h"
#include "qemu/error-report.h"
#include "core.h"

typedef struct Books {
    GHashTable *pages;          /* GFN -> references that there should be */
    uint64_t total;
    uint64_t mapped;
    uint64_t pending;
    uint64_t runs;              /* that are pending */
    uint64_t untold;            /* of them */
} Books;

static void books_add(Books *books, uint64_t gfn, uint64_t nr)
{
    for (uint64_t end = gfn + nr; gfn < end; gfn++) {
        gpointer key = (gpointer)(uintptr_t)gfn;
        uintptr_t n = (uintptr_t)g_hash_table_lookup(books->pages, key);

        g_hash_table_insert(books->pages, key, (gpointer)(n + 1));
    }
    books->total += nr;
}

static void G_GNUC_PRINTF(1, 2) G_GNUC_NORETURN wrong(const char *fmt, ...)
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
                          Books *books)
{
    uint64_t limit = xen_pviommu_bfn_limit(core);
    uint64_t mapped = books->mapped, pending = books->pending;
    uint64_t untold = books->untold;
    uint64_t runs = books->runs;
    XenPVIOMMUPendingIter it;
    BfnRun run;

    for (uint64_t bfn = 0; bfn_table_next_run(ctx->table, bfn, limit, &run);
         bfn = run.bfn + run.nr) {
        IndexSearch search = { .ctx = ctx, .delta = run.bfn - run.gfn };

        gfn_index_foreach(core->gfn_index, run.gfn, run.nr, count_indexed,
                          &search);
        /* The same pages may be mapped elsewhere at the same distance. */
        if (search.frames < run.nr) {
            wrong("xen-pviommu: ctx %u bfn 0x%" PRIx64 " nr 0x%" PRIx64
                  ": only 0x%" PRIx64 " frames are in the GFN index", ctx->id,
                  run.bfn, run.nr, search.frames);
        }
        books_add(books, run.gfn, run.nr);
        books->mapped += run.nr;
    }
    xen_pviommu_pending_visit(&it, ctx);
    while (xen_pviommu_pending_next(&it, &run)) {
        books_add(books, run.gfn, run.nr);
        books->pending += run.nr;
        books->runs++;
        books->untold += !it.notified;
    }
    mapped = books->mapped - mapped;
    pending = books->pending - pending;
    if (mapped != ctx->mapped_frames || pending != ctx->pending_frames) {
        wrong("xen-pviommu: ctx %u: %" PRIu64 " frames mapped, %" PRIu64
              " pending, but %" PRIu64 " and %" PRIu64 " counted", ctx->id,
              mapped, pending, ctx->mapped_frames, ctx->pending_frames);
    }
    if (books->untold - untold != ctx->pending.nr_unnotified ||
        books->runs - runs != ctx->pending.nr) {
        wrong("xen-pviommu: ctx %u: %" PRIu64 " runs pending, listeners were "
              "not notified of %" PRIu64 ", but %" PRIu64 " and %" PRIu64
              " counted", ctx->id, books->runs - runs, books->untold - untold,
              ctx->pending.nr, ctx->pending.nr_unnotified);
    }
}

void xen_pviommu_core_check(XenPVIOMMUCore *core)
{
    g_autoptr(GHashTable) pages = g_hash_table_new(NULL, NULL);
    Books books = { .pages = pages };
    GHashTableIter iter;
    gpointer gfn, refs;

    for (uint32_t id = 0; id < core->limits.max_contexts; id++) {
        if (core->contexts[id]) {
            check_context(core, core->contexts[id], &books);
        }
    }
    if (books.mapped != core->mapped_frames ||
        books.pending != core->pending_frames ||
        books.runs != core->pending.nr) {
        wrong("xen-pviommu: %" PRIu64 " frames mapped, %" PRIu64 " pending in %"
              PRIu64 " runs, but %" PRIu64 ", %" PRIu64 " and %" PRIu64
              " counted", books.mapped, books.pending, books.runs,
              core->mapped_frames, core->pending_frames, core->pending.nr);
    }
    g_hash_table_iter_init(&iter, pages);
    while (g_hash_table_iter_next(&iter, &gfn, &refs)) {
        uint64_t held = core->backend_ops->refs(core->backend, (uintptr_t)gfn);

        if (held != (uintptr_t)refs) {
            wrong("xen-pviommu: gfn 0x%" PRIxPTR ": %" PRIu64 " references, "
                  "but %" PRIuPTR " mappings and pending releases",
                  (uintptr_t)gfn, held, (uintptr_t)refs);
        }
    }
    /* As all those are right, any more are on pages that nobody has. */
    if (core->backend_ops->total(core->backend) != books.total) {
        wrong("xen-pviommu: %" PRIu64 " references held, but %" PRIu64
              " mappings and pending releases",
              core->backend_ops->total(core->backend), books.total);
    }
}
