/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The BFN table and the GFN index: by themselves, and with all that a guest's
 * map and unmap do (hw/xen/pviommu/core/context.c on backend-emulated.c)
 */

#include "qemu/osdep.h"
#include "qemu/rcu.h"
#include "../../../hw/xen/pviommu/backend-emulated.h"
#include "../../../hw/xen/pviommu/core/context.h"
#include "../../../hw/xen/pviommu/core/core.h"
#include "structure.h"

#define BFN_BITS 36             /* the device's default */
#define MAX_MAPPINGS (1ull << 28)

/* --- the table and the index --------------------------------------------- */

typedef struct Tables {
    XenPVIOMMUBudget budget;
    BfnTable *table;
    GfnIndex *index;
} Tables;

static void *tables_new(const Shape *shape)
{
    Tables *t = g_new0(Tables, 1);

    xen_pviommu_budget_init(&t->budget, SIZE_MAX / 2);
    t->table = bfn_table_new(BFN_BITS, &t->budget);
    t->index = gfn_index_new(&t->budget);
    return t;
}

static void tables_free(void *s)
{
    Tables *t = s;

    bfn_table_free(t->table);
    gfn_index_free(t->index);
    xen_pviommu_budget_destroy(&t->budget);
    g_free(t);
}

static inline G_ALWAYS_INLINE uint64_t table_translate(BfnTable *table,
                                                       uint64_t bfn)
{
    BfnTranslation tr;

    return bfn_table_translate(table, bfn, &tr) ? tr.gfn : NOTHING;
}

static uint64_t table_lookup(BfnTable *table, uint64_t bfn)
{
    BfnRun run;

    return bfn_table_next_run(table, bfn, bfn + UINT32_MAX, &run) &&
           run.bfn == bfn ? run.gfn : NOTHING;
}

static uint64_t tables_translate(void *s, const Shape *shape, uint64_t pos)
{
    return table_translate(((Tables *)s)->table, bfn_of(pos));
}
DEFINE_RCU_LOOP(tables_translate)

static uint64_t tables_lookup(void *s, const Shape *shape, uint64_t pos)
{
    return table_lookup(((Tables *)s)->table, bfn_of(pos));
}
DEFINE_LOOP(tables_lookup)

static uint64_t tables_find(void *s, const Shape *shape, uint64_t pos)
{
    uint64_t bfn;

    return gfn_index_find(((Tables *)s)->index, gfn_of(shape, pos), 0, 0, &bfn)
           ? bfn : NOTHING;
}
DEFINE_LOOP(tables_find)

static bool tables_map_range(void *s, uint64_t bfn, uint64_t gfn, uint64_t nr)
{
    Tables *t = s;
    BfnRun run = { .bfn = bfn, .gfn = gfn, .nr = nr };

    return bfn_table_range_empty(t->table, bfn, nr) &&
           bfn_table_map(t->table, &run) &&
           gfn_index_add(t->index, gfn, nr, 0, bfn);
}

static bool tables_unmap_range(void *s, uint64_t bfn, uint64_t nr)
{
    Tables *t = s;
    BfnRun run;

    if (!bfn_table_next_run(t->table, bfn, bfn + nr, &run) || run.nr != nr) {
        return false;
    }
    gfn_index_remove(t->index, run.gfn, nr, 0, bfn);
    bfn_table_unmap(t->table, bfn, nr);
    return true;
}

static uint64_t tables_map(void *s, const Shape *shape, uint64_t pos)
{
    return tables_map_range(s, bfn_of(pos), gfn_of(shape, pos), 1);
}
DEFINE_LOOP(tables_map)

static uint64_t tables_unmap(void *s, const Shape *shape, uint64_t pos)
{
    return tables_unmap_range(s, bfn_of(pos), 1);
}
DEFINE_LOOP(tables_unmap)

static uint64_t tables_strict(void *s, const Shape *shape, uint64_t pos)
{
    return tables_unmap(s, shape, pos) & tables_map(s, shape, pos);
}
DEFINE_LOOP(tables_strict)

const Structure structure_tables = {
    .name = "tables",
    .lockless = true,
    .new = tables_new,
    .free = tables_free,
    .loop = {
        [OP_TRANSLATE] = tables_translate_loop,
        [OP_LOOKUP] = tables_lookup_loop,
        [OP_FIND] = tables_find_loop,
        [OP_MAP] = tables_map_loop,
        [OP_UNMAP] = tables_unmap_loop,
        [OP_STRICT] = tables_strict_loop,
    },
    .map_range = tables_map_range,
    .unmap_range = tables_unmap_range,
};

/* --- a context ----------------------------------------------------------- */

/* No device listens, as with emulated ones that keep no TLB. */
static void client_map(void *opaque, XenPVIOMMUContext *ctx, const BfnRun *run)
{
}

static bool client_listening(void *opaque, const XenPVIOMMUContext *ctx)
{
    return false;
}

static void client_unmap(void *opaque, XenPVIOMMUContext *ctx, uint64_t bfn,
                         uint64_t nr)
{
}

static const XenPVIOMMUListenerOps listener_ops = {
    .map = client_map,
    .listening = client_listening,
    .unmap = client_unmap,
};

/* Nobody else is there to hold it. */
static QemuRecMutex lock;

static void __attribute__((constructor)) lock_init(void)
{
    qemu_rec_mutex_init(&lock);
}

static void *context_new(const Shape *shape)
{
    XenPVIOMMUCore *core = g_new0(XenPVIOMMUCore, 1);

    core->limits.max_mappings = MAX_MAPPINGS;
    core->limits.max_contexts = 64;
    core->limits.bfn_bits = BFN_BITS;
    core->control = true;
    core->backend_ops = &xen_pviommu_emulated_ops;
    core->backend = xen_pviommu_emulated_new(false, NULL, &lock, NULL, NULL);
    core->listener_ops = &listener_ops;
    g_assert(xen_pviommu_core_init(core));
    /* What the device reserves for interrupts on a PC */
    xen_pviommu_reserved_add(core->reserved, 0xfee00, 0x100, 0);
    return core;
}

static void context_free(void *s)
{
    XenPVIOMMUCore *core = s;

    xen_pviommu_core_finalize(core);
    g_assert(!xen_pviommu_emulated_ops.total(core->backend));
    xen_pviommu_emulated_free(core->backend);
    g_free(core);
}

static inline G_ALWAYS_INLINE XenPVIOMMUContext *context_of(void *s)
{
    return ((XenPVIOMMUCore *)s)->contexts[XEN_IOMMU_CTX_DEFAULT];
}

static uint64_t context_translate(void *s, const Shape *shape, uint64_t pos)
{
    return table_translate(context_of(s)->table, bfn_of(pos));
}
DEFINE_RCU_LOOP(context_translate)

static uint64_t context_translate_rcu(void *s, const Shape *shape, uint64_t pos)
{
    RCU_READ_LOCK_GUARD();
    return context_translate(s, shape, pos);
}
DEFINE_LOOP(context_translate_rcu)

static uint64_t context_lookup(void *s, const Shape *shape, uint64_t pos)
{
    return table_lookup(context_of(s)->table, bfn_of(pos));
}
DEFINE_LOOP(context_lookup)

static uint64_t context_find(void *s, const Shape *shape, uint64_t pos)
{
    XenPVIOMMUCore *core = s;
    uint64_t bfn;

    return gfn_index_find(core->gfn_index, gfn_of(shape, pos),
                          XEN_IOMMU_CTX_DEFAULT, 0, &bfn) ? bfn : NOTHING;
}
DEFINE_LOOP(context_find)

static bool context_map_range(void *s, uint64_t bfn, uint64_t gfn, uint64_t nr)
{
    BfnRun run = { .bfn = bfn, .gfn = gfn, .nr = nr };

    return !xen_pviommu_context_map(s, context_of(s), XEN_IOMMU_DOMID_SELF,
                                    &run);
}

static bool context_unmap_range(void *s, uint64_t bfn, uint64_t nr)
{
    int ret = xen_pviommu_context_unmap(s, context_of(s), bfn, nr, false);

    xen_pviommu_context_flush(s, context_of(s), bfn, nr);
    return !ret;
}

static uint64_t context_map(void *s, const Shape *shape, uint64_t pos)
{
    return context_map_range(s, bfn_of(pos), gfn_of(shape, pos), 1);
}
DEFINE_LOOP(context_map)

static uint64_t context_unmap(void *s, const Shape *shape, uint64_t pos)
{
    return !xen_pviommu_context_unmap(s, context_of(s), bfn_of(pos), 1, false);
}
DEFINE_LOOP(context_unmap)

static uint64_t context_strict(void *s, const Shape *shape, uint64_t pos)
{
    return context_unmap_range(s, bfn_of(pos), 1) & context_map(s, shape, pos);
}
DEFINE_LOOP(context_strict)

static uint64_t context_invalidate(void *s, const Shape *shape, uint64_t pos)
{
    XenPVIOMMUCore *core = s;
    uint64_t before = core->mapped_frames;

    xen_pviommu_core_invalidate(core, gfn_of(shape, pos), 1);
    return before - core->mapped_frames;
}
DEFINE_LOOP(context_invalidate)

static void context_flush(void *s)
{
    xen_pviommu_context_flush_all(s, context_of(s));
}

const Structure structure_context = {
    .name = "context",
    .lockless = true,
    .new = context_new,
    .free = context_free,
    .loop = {
        [OP_TRANSLATE] = context_translate_loop,
        [OP_LOOKUP] = context_lookup_loop,
        [OP_FIND] = context_find_loop,
        [OP_MAP] = context_map_loop,
        [OP_UNMAP] = context_unmap_loop,
        [OP_STRICT] = context_strict_loop,
        [OP_INVALIDATE] = context_invalidate_loop,
        [OP_RCU] = context_translate_rcu_loop,
    },
    .flush = context_flush,
    .map_range = context_map_range,
    .unmap_range = context_unmap_range,
};
