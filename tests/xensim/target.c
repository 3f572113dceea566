/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * xensim: IOMMU contexts of the guest's own functions
 *
 * As docs/specs/xen-iommu-target.rst has it. A test assigns functions, does
 * their DMA, and has their faults: what a function reaches is what was mapped,
 * and what was unmapped and not flushed yet.
 */

#include "sim.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "hw/xen/interface/iommu_op.h"

#define BFN_BITS        35
#define BFN_LIMIT       (1ull << BFN_BITS)
#define GFN_LIMIT       (1ull << 40)
#define MSI_BFN         0xfee00ull
#define MSI_NR          0x100u

/* Ports of the guest: those of ioreqs end far below. */
#define FIRST_PORT      4096u

#define MAX_FUNCTIONS   16

typedef struct Mapping {
    uint64_t bfn;
    uint64_t gfn;
    uint32_t page;
    bool readonly;
    bool pending;               /* unmapped, and waits for a flush */
} Mapping;

typedef struct Function {
    uint32_t sbdf;
    bool assigned;
    bool alike;                 /* the IOMMU cannot tell it from others */
    unsigned ctx;
    uint64_t reserved_bfn;      /* the host's firmware reserves it */
    uint32_t reserved_nr;
} Function;

/* Context 0 is never used: it is the p2m. BFN -> Mapping, in each */
static GHashTable *contexts[XEN_IOMMU_TARGET_CONTEXTS + 1];
static Function functions[MAX_FUNCTIONS];
static unsigned nr_functions;
static struct xen_iommu_fault faults[XEN_IOMMU_TARGET_FAULTS];
static unsigned nr_faults;
static uint32_t nr_lost;
static unsigned port;           /* 0: nobody asked for it */

bool sim_target_has_port(unsigned remote)
{
    return port && remote == port;
}

static Function *find_function(uint32_t sbdf)
{
    for (unsigned i = 0; i < nr_functions; i++) {
        if (functions[i].sbdf == sbdf) {
            return &functions[i];
        }
    }
    return NULL;
}

static GHashTable *find_context(unsigned ctx)
{
    return ctx && ctx <= XEN_IOMMU_TARGET_CONTEXTS ? contexts[ctx] : NULL;
}

static Mapping *find(unsigned ctx, uint64_t bfn)
{
    GHashTable *c = find_context(ctx);

    return c ? g_hash_table_lookup(c, &bfn) : NULL;
}

static bool in_range(uint64_t bfn, uint64_t start, uint64_t nr)
{
    return bfn >= start && bfn - start < nr;
}

static bool is_reserved(unsigned ctx, uint64_t bfn)
{
    if (in_range(bfn, MSI_BFN, MSI_NR)) {
        return true;
    }
    for (unsigned i = 0; i < nr_functions; i++) {
        const Function *f = &functions[i];

        if (f->assigned && f->ctx == ctx &&
            in_range(bfn, f->reserved_bfn, f->reserved_nr)) {
            return true;
        }
    }
    return false;
}

/* --- operations ----------------------------------------------------------- */

static int op_alloc_context(struct xen_iommu_op_target *u)
{
    if (u->ctx || u->sbdf || u->bfn_bits || u->port || u->pad) {
        return -XEN_IOMMU_EINVAL;
    }
    for (unsigned ctx = 1; ctx <= XEN_IOMMU_TARGET_CONTEXTS; ctx++) {
        if (!contexts[ctx]) {
            contexts[ctx] = g_hash_table_new_full(g_int64_hash, g_int64_equal,
                                                  NULL, g_free);
            u->ctx = ctx;
            u->bfn_bits = sim_env("XENSIM_CTX_BITS", BFN_BITS);
            return 0;
        }
    }
    return -XEN_IOMMU_ENOSPC;
}

static int op_free_context(const struct xen_iommu_op_target *u)
{
    if (!u->ctx || u->sbdf || u->bfn_bits || u->port || u->pad) {
        return -XEN_IOMMU_EINVAL;
    }
    if (!find_context(u->ctx)) {
        sim_complain("iommu_op: context %u is freed, and is none", u->ctx);
        return -XEN_IOMMU_ENOENT;
    }
    for (unsigned i = 0; i < nr_functions; i++) {
        if (functions[i].assigned && functions[i].ctx == u->ctx) {
            sim_complain("iommu_op: context %u is freed, and has functions",
                         u->ctx);
            return -XEN_IOMMU_EBUSY;
        }
    }
    g_hash_table_unref(contexts[u->ctx]);
    contexts[u->ctx] = NULL;
    return 0;
}

static int op_attach(const struct xen_iommu_op_target *u)
{
    Function *f = find_function(u->sbdf);

    if (u->bfn_bits || u->port || u->pad) {
        return -XEN_IOMMU_EINVAL;
    }
    if (u->ctx && !find_context(u->ctx)) {
        sim_complain("iommu_op: a function for context %u, which is none",
                     u->ctx);
        return -XEN_IOMMU_ENOENT;
    }
    if (!f || !f->assigned) {
        return -XEN_IOMMU_ENODEV;
    }
    if (f->alike) {
        return -XEN_IOMMU_EOPNOTSUPP;
    }
    for (uint32_t i = 0; i < f->reserved_nr; i++) {
        if (find(u->ctx, f->reserved_bfn + i)) {
            return -XEN_IOMMU_EEXIST;
        }
    }
    f->ctx = u->ctx;
    return 0;
}

static int map_one(unsigned ctx, uint64_t bfn, uint64_t gfn, bool readonly)
{
    uint32_t page = sim_page_at(gfn);
    const Mapping *there = find(ctx, bfn);
    Mapping *m;

    if (is_reserved(ctx, bfn)) {
        return -XEN_IOMMU_EADDRNOTAVAIL;
    }
    if (there && !there->pending) {
        sim_complain("iommu_op: context %u: BFN 0x%" PRIx64 " is mapped", ctx,
                     bfn);
        return -XEN_IOMMU_EEXIST;
    }
    if (page == SIM_NO_PAGE) {
        return -XEN_IOMMU_ENOENT;
    }
    m = g_new(Mapping, 1);
    *m = (Mapping) { bfn, gfn, page, readonly, false };
    g_hash_table_replace(contexts[ctx], &m->bfn, m);
    return 0;
}

static int op_map(struct xen_iommu_op_target_range *u, bool readonly)
{
    /* Half of it, and then the IOMMU does not answer */
    uint32_t fails_at = sim_call("iommu_op_target_map_half", "-") ?
                        UINT32_MAX : u->nr_frames / 2;

    for (; u->nr_frames; u->bfn++, u->gfn++, u->nr_frames--) {
        int rc = u->nr_frames == fails_at ?
                 -XEN_IOMMU_EIO : map_one(u->ctx, u->bfn, u->gfn, readonly);

        if (rc) {
            return rc;
        }
    }
    return 0;
}

static int op_unmap(struct xen_iommu_op_target_range *u)
{
    GHashTableIter iter;
    gpointer value;

    g_hash_table_iter_init(&iter, contexts[u->ctx]);
    while (g_hash_table_iter_next(&iter, NULL, &value)) {
        Mapping *m = value;

        m->pending |= in_range(m->bfn, u->bfn, u->nr_frames);
    }
    u->bfn += u->nr_frames;
    u->nr_frames = 0;
    return 0;
}

static int op_flush(struct xen_iommu_op_target_range *u)
{
    bool all = u->bfn == XEN_IOMMU_FLUSH_ALL;
    GHashTableIter iter;
    gpointer value;

    g_hash_table_iter_init(&iter, contexts[u->ctx]);
    while (g_hash_table_iter_next(&iter, NULL, &value)) {
        const Mapping *m = value;

        if (m->pending && (all || in_range(m->bfn, u->bfn, u->nr_frames))) {
            g_hash_table_iter_remove(&iter);
        }
    }
    if (!all) {
        u->bfn += u->nr_frames;
        u->nr_frames = 0;
    }
    return 0;
}

static bool range_ok(uint64_t first, uint64_t nr, uint64_t limit)
{
    return first < limit && nr && nr <= limit - first;
}

static int op_range(struct xen_iommu_op *op)
{
    struct xen_iommu_op_target_range *u = &op->u.target_range;
    bool map = op->op == XEN_IOMMUOP_target_map;
    bool all = op->op == XEN_IOMMUOP_target_flush &&
               u->bfn == XEN_IOMMU_FLUSH_ALL && !u->nr_frames;

    if ((op->flags & ~(map ? XEN_IOMMUOP_map_readonly : 0)) || !u->ctx ||
        (!map && u->gfn) || (!all && !range_ok(u->bfn, u->nr_frames,
                                               BFN_LIMIT)) ||
        (map && !range_ok(u->gfn, u->nr_frames, GFN_LIMIT))) {
        sim_complain("iommu_op: operation %u, context %u, BFN 0x%" PRIx64
                     ", %u frames: not valid", op->op, u->ctx, u->bfn,
                     u->nr_frames);
        return -XEN_IOMMU_EINVAL;
    }
    if (!find_context(u->ctx)) {
        sim_complain("iommu_op: context %u is none", u->ctx);
        return -XEN_IOMMU_ENOENT;
    }
    switch (op->op) {
    case XEN_IOMMUOP_target_map:
        return op_map(u, op->flags);
    case XEN_IOMMUOP_target_unmap:
        return op_unmap(u);
    default:
        return op_flush(u);
    }
}

static int op_reserved(struct xen_iommu_op_target_list *u)
{
    struct xen_iommu_reserved_range ranges[2] = {
        { MSI_BFN, MSI_NR, XEN_IOMMU_RESERVED_msi },
    };
    const Function *f = find_function(u->sbdf);
    uint32_t room = u->nr_entries, nr = 1;

    if (u->pad || u->lost) {
        return -XEN_IOMMU_EINVAL;
    }
    if (u->sbdf != XEN_IOMMU_TARGET_ANY) {
        if (!f || !f->assigned) {
            return -XEN_IOMMU_ENODEV;
        }
        if (f->reserved_nr) {
            /* They are sorted. */
            ranges[nr] = (struct xen_iommu_reserved_range) {
                f->reserved_bfn, f->reserved_nr, 0,
            };
            if (f->reserved_bfn < MSI_BFN) {
                ranges[nr] = ranges[0];
                ranges[0] = (struct xen_iommu_reserved_range) {
                    f->reserved_bfn, f->reserved_nr, 0,
                };
            }
            nr++;
        }
    }
    u->nr_entries = nr;
    if (nr > room) {
        return -XEN_IOMMU_ENOBUFS;
    }
    return sim_iommu_store(u->entries, ranges, nr * sizeof(ranges[0]));
}

static int op_faults(struct xen_iommu_op_target_list *u)
{
    uint32_t nr = MIN(u->nr_entries, nr_faults);
    int rc;

    if (u->pad || u->lost || u->sbdf) {
        return -XEN_IOMMU_EINVAL;
    }
    rc = nr ? sim_iommu_store(u->entries, faults, nr * sizeof(faults[0])) : 0;
    if (rc) {
        return rc;
    }
    nr_faults -= nr;
    memmove(faults, faults + nr, nr_faults * sizeof(faults[0]));
    u->nr_entries = nr;
    u->lost = nr_lost;
    nr_lost = 0;
    return 0;
}

static int op_event(struct xen_iommu_op_target *u)
{
    if (u->ctx || u->sbdf || u->bfn_bits || u->port || u->pad) {
        return -XEN_IOMMU_EINVAL;
    }
    port = port ? port + 1 : FIRST_PORT;
    u->port = port;
    return 0;
}

static uint16_t domid_of(const struct xen_iommu_op *op)
{
    switch (op->op) {
    case XEN_IOMMUOP_target_map:
    case XEN_IOMMUOP_target_unmap:
    case XEN_IOMMUOP_target_flush:
        return op->u.target_range.domid;
    case XEN_IOMMUOP_target_reserved:
    case XEN_IOMMUOP_target_faults:
        return op->u.target_list.domid;
    default:
        return op->u.target.domid;
    }
}

int sim_target_op(struct xen_iommu_op *op)
{
    if (!sim_domid("iommu_op", domid_of(op))) {
        return -XEN_IOMMU_ESRCH;
    }
    if (sim_feature("no-passthrough")) {
        return -XEN_IOMMU_ENODEV;
    }
    if (op->flags && op->op != XEN_IOMMUOP_target_map) {
        return -XEN_IOMMU_EINVAL;
    }
    switch (op->op) {
    case XEN_IOMMUOP_target_alloc_context:
        return op_alloc_context(&op->u.target);
    case XEN_IOMMUOP_target_free_context:
        return op_free_context(&op->u.target);
    case XEN_IOMMUOP_target_attach:
        return op_attach(&op->u.target);
    case XEN_IOMMUOP_target_reserved:
        return op_reserved(&op->u.target_list);
    case XEN_IOMMUOP_target_faults:
        return op_faults(&op->u.target_list);
    case XEN_IOMMUOP_target_event:
        return op_event(&op->u.target);
    default:
        return op_range(op);
    }
}

/* Each can be made to fail by its name, and "last" says what it was about. */
bool sim_target_call(const struct xen_iommu_op *op)
{
    static const char *const names[] = {
        "alloc_context", "free_context", "attach", "map", "unmap", "flush",
        "reserved", "faults", "event",
    };
    g_autofree char *fn =
        g_strconcat("iommu_op_target_",
                    names[op->op - XEN_IOMMUOP_target_alloc_context], NULL);
    const struct xen_iommu_op_target_range *r = &op->u.target_range;

    switch (op->op) {
    case XEN_IOMMUOP_target_map:
    case XEN_IOMMUOP_target_unmap:
    case XEN_IOMMUOP_target_flush:
        return sim_call(fn, "ctx %u BFN 0x%" PRIx64 " GFN 0x%" PRIx64 " nr %u "
                        "flags %u", r->ctx, r->bfn, r->gfn, r->nr_frames,
                        op->flags);
    case XEN_IOMMUOP_target_reserved:
    case XEN_IOMMUOP_target_faults:
        return sim_call(fn, "room %u", op->u.target_list.nr_entries);
    default:
        return sim_call(fn, "ctx %u sbdf 0x%x", op->u.target.ctx,
                        op->u.target.sbdf);
    }
}

unsigned sim_target_references(uint32_t page)
{
    unsigned nr = 0;

    for (unsigned ctx = 1; ctx <= XEN_IOMMU_TARGET_CONTEXTS; ctx++) {
        GHashTableIter iter;
        gpointer value;

        if (!contexts[ctx]) {
            continue;
        }
        g_hash_table_iter_init(&iter, contexts[ctx]);
        while (g_hash_table_iter_next(&iter, NULL, &value)) {
            nr += ((Mapping *)value)->page == page;
        }
    }
    return nr;
}

/* --- what a test asks for ------------------------------------------------- */

/* assign SBDF: the toolstack gives the guest a function of the host */
static bool cmd_assign(char **words, const uint64_t *args, GString *reply)
{
    g_autoptr(SimLocker) locker = sim_locker_new(&sim_lock);
    Function *f = find_function(args[0]);

    if (!f && nr_functions < MAX_FUNCTIONS) {
        f = &functions[nr_functions++];
        *f = (Function) { .sbdf = args[0] };
    }
    if (!f || f->assigned) {
        g_string_append(reply, "no");
        return false;
    }
    f->assigned = true;
    f->ctx = 0;
    return true;
}

/* deassign SBDF: and takes it away again */
static bool cmd_deassign(char **words, const uint64_t *args, GString *reply)
{
    g_autoptr(SimLocker) locker = sim_locker_new(&sim_lock);
    Function *f = find_function(args[0]);

    if (!f || !f->assigned) {
        g_string_append(reply, "not assigned");
        return false;
    }
    f->assigned = false;
    f->ctx = 0;
    return true;
}

/* function-reserves SBDF BFN NR: the host's firmware does, for a function */
static bool cmd_reserves(char **words, const uint64_t *args, GString *reply)
{
    g_autoptr(SimLocker) locker = sim_locker_new(&sim_lock);
    Function *f = find_function(args[0]);

    if (!f) {
        g_string_append(reply, "no such function");
        return false;
    }
    f->reserved_bfn = args[1];
    f->reserved_nr = args[2];
    return true;
}

/* alike SBDF: the IOMMU cannot tell it from others */
static bool cmd_alike(char **words, const uint64_t *args, GString *reply)
{
    g_autoptr(SimLocker) locker = sim_locker_new(&sim_lock);
    Function *f = find_function(args[0]);

    if (!f) {
        g_string_append(reply, "no such function");
        return false;
    }
    f->alike = true;
    return true;
}

static void add_fault(const Function *f, uint64_t addr, bool write,
                      uint32_t reason)
{
    if (nr_faults == XEN_IOMMU_TARGET_FAULTS) {
        nr_lost++;
    } else {
        faults[nr_faults++] = (struct xen_iommu_fault) {
            .addr = addr, .sbdf = f->sbdf, .ctx = f->ctx,
            .flags = write ? XEN_IOMMU_FAULT_write : 0, .reason = reason,
        };
    }
    if (port) {
        sim_event_send(port);
    }
}

/* dma SBDF ADDR WRITE: the function does. Returns: the page that it reaches. */
static bool cmd_dma(char **words, const uint64_t *args, GString *reply)
{
    g_autoptr(SimLocker) locker = sim_locker_new(&sim_lock);
    const Function *f = find_function(args[0]);
    uint64_t bfn = args[1] >> SIM_PAGE_SHIFT;
    uint32_t reason = XEN_IOMMU_FAULT_REASON_unmapped;
    uint32_t page = SIM_NO_PAGE;
    const Mapping *m;

    if (!f || !f->assigned) {
        g_string_append(reply, "not assigned");
        return false;
    }
    if (!f->ctx) {
        page = bfn < GFN_LIMIT ? sim_page_at(bfn) : SIM_NO_PAGE;
    } else if (bfn >= BFN_LIMIT) {
        reason = XEN_IOMMU_FAULT_REASON_range;
    } else {
        m = find(f->ctx, bfn);
        if (m && m->readonly && args[2]) {
            reason = XEN_IOMMU_FAULT_REASON_readonly;
        } else if (m) {
            page = m->page;
        }
    }
    if (page == SIM_NO_PAGE) {
        if (f->ctx) {
            add_fault(f, args[1], args[2], reason);
        }
        g_string_append(reply, "a fault");
        return false;
    }
    g_string_append_printf(reply, "%u", page);
    return true;
}

/* context-of SBDF: the hypervisor's number */
static bool cmd_context_of(char **words, const uint64_t *args, GString *reply)
{
    g_autoptr(SimLocker) locker = sim_locker_new(&sim_lock);
    const Function *f = find_function(args[0]);

    if (!f || !f->assigned) {
        g_string_append(reply, "not assigned");
        return false;
    }
    g_string_append_printf(reply, "%u", f->ctx);
    return true;
}

/* contexts: how many there are */
static bool cmd_contexts(char **words, const uint64_t *args, GString *reply)
{
    g_autoptr(SimLocker) locker = sim_locker_new(&sim_lock);
    unsigned nr = 0;

    for (unsigned ctx = 1; ctx <= XEN_IOMMU_TARGET_CONTEXTS; ctx++) {
        nr += !!contexts[ctx];
    }
    g_string_append_printf(reply, "%u", nr);
    return true;
}

const SimCommand sim_target_commands[] = {
    { "assign", 1, cmd_assign },
    { "deassign", 1, cmd_deassign },
    { "function-reserves", 3, cmd_reserves },
    { "alike", 1, cmd_alike },
    { "dma", 3, cmd_dma },
    { "context-of", 1, cmd_context_of },
    { "contexts", 0, cmd_contexts },
    { }
};
