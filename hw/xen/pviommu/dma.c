/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The DMA side: one address space for each PCI function that can do DMA
 */

#include "qemu/osdep.h"
#include "qemu/error-report.h"
#include "qemu/interval-tree.h"
#include "qemu/rcu.h"
#include "hw/pci/pci_bus.h"
#include "system/host_iommu_device.h"
#include "bypass.h"
#include "dma.h"
#include "queue.h"
#include "trace.h"

#define PAGE_MASK_BITS ((1ull << XEN_IOMMU_PAGE_SHIFT) - 1)

/* A change of the memory map, as xen_pviommu_core_work() counts runs. */
#define VIEW_WORK 512

#define TYPE_XEN_PVIOMMU_MEMORY_REGION "xen-pviommu-memory-region"

struct XenPVIOMMUFunction {
    XenPVIOMMUState *s;
    PCIBus *bus;
    uint8_t devfn;
    char *place;                /* BUS/SLOT.FUNCTION */
    char *name;
    XenPVIOMMUContext *ctx;     /* RCU */
    unsigned nr_assigned;       /* devices of the host whose requests these are */
    IOMMUNotifierFlag notifiers;
    GHashTable *told;           /* of IntervalTreeRoot, by IOMMUNotifier */

    AddressSpace as;
    MemoryRegion root;
    MemoryRegion identity;      /* the system's memory; see function_update() */
    IOMMUMemoryRegion translated;
    GArray *reserved;           /* what this function alone reserves */
    GHashTable *host_reserved;  /* the host's part, of GArray, by PCIDevice */
    GPtrArray *windows;         /* of MemoryRegion, where it is always 1:1 */
};

/* The bus may be gone since: look with live_buses() before it is used. */
static guint function_hash(gconstpointer key)
{
    const XenPVIOMMUFunction *f = key;

    return g_direct_hash(f->bus) ^ f->devfn;
}

static gboolean function_equal(gconstpointer a, gconstpointer b)
{
    const XenPVIOMMUFunction *x = a, *y = b;

    return x->bus == y->bus && x->devfn == y->devfn;
}

static XenPVIOMMUFunction *function_find(XenPVIOMMUState *s, PCIBus *bus,
                                         uint8_t devfn)
{
    XenPVIOMMUFunction key = { .bus = bus, .devfn = devfn };

    return g_hash_table_lookup(s->functions, &key);
}

static uint32_t function_sbdf(const XenPVIOMMUFunction *f)
{
    return PCI_BUILD_BDF(pci_bus_num(f->bus), f->devfn);
}

static void function_fault(XenPVIOMMUFunction *f, const XenPVIOMMUContext *ctx,
                           uint64_t addr, bool write, uint32_t reason)
{
    XenPVIOMMUFault fault = {
        .addr = addr,
        .sbdf = function_sbdf(f),
        .ctx = ctx->id,
        .flags = write ? XEN_IOMMU_FAULT_write : 0,
        .reason = reason,
    };

    xen_pviommu_fault_note(f->s, &fault);
}

static IOMMUTLBEntry function_translate(IOMMUMemoryRegion *mr, hwaddr addr,
                                        IOMMUAccessFlags flag, int iommu_idx)
{
    XenPVIOMMUFunction *f = container_of(mr, XenPVIOMMUFunction, translated);
    XenPVIOMMUContext *ctx = qatomic_rcu_read(&f->ctx);
    uint64_t bfn = addr >> XEN_IOMMU_PAGE_SHIFT;
    uint32_t reason = XEN_IOMMU_FAULT_REASON_unmapped;
    IOMMUTLBEntry entry = {
        .target_as = &address_space_memory,
        .iova = addr & ~PAGE_MASK_BITS,
        .addr_mask = PAGE_MASK_BITS,
        .perm = IOMMU_NONE,
    };
    BfnTranslation t;

    xen_pviommu_queue_run(ctx);
    if (ctx->identity) {
        /* Only while the memory map changes: else the alias is in the way. */
        entry.translated_addr = entry.iova;
        entry.perm = IOMMU_RW;
    } else if (bfn >= xen_pviommu_bfn_limit(&f->s->core)) {
        reason = XEN_IOMMU_FAULT_REASON_range;
    } else if (bfn_table_translate(ctx->table, bfn, &t)) {
        entry.addr_mask = (1ull << (t.order + XEN_IOMMU_PAGE_SHIFT)) - 1;
        entry.iova = addr & ~entry.addr_mask;
        entry.translated_addr = (t.gfn << XEN_IOMMU_PAGE_SHIFT) &
                                ~entry.addr_mask;
        entry.perm = t.readonly ? IOMMU_RO : IOMMU_RW;
        reason = XEN_IOMMU_FAULT_REASON_readonly;
    }
    trace_xen_pviommu_translate(f->name, addr, entry.translated_addr,
                                entry.addr_mask, entry.perm);
    if (flag & ~entry.perm) {
        function_fault(f, ctx, addr, flag & IOMMU_WO, reason);
    }
    return entry;
}

/*
 * The blocks that a listener for maps was told of. VFIO, and the kernel behind
 * it, can only unmap such a block as a whole.
 */
static void told_free(void *opaque)
{
    IntervalTreeRoot *told = opaque;
    IntervalTreeNode *node;

    while ((node = interval_tree_iter_first(told, 0, UINT64_MAX))) {
        interval_tree_remove(node, told);
        g_free(node);
    }
    g_free(told);
}

static void told_add(XenPVIOMMUFunction *f, IOMMUNotifier *n, uint64_t bfn,
                     uint64_t nr)
{
    IntervalTreeRoot *told = g_hash_table_lookup(f->told, n);
    IntervalTreeNode *node = g_new0(IntervalTreeNode, 1);

    if (!told) {
        told = g_new0(IntervalTreeRoot, 1);
        g_hash_table_insert(f->told, n, told);
    }
    node->start = bfn;
    node->last = bfn + nr - 1;
    interval_tree_insert(node, told);
}

/* Forget the blocks that the range touches, and make it cover all of them. */
static void told_remove(XenPVIOMMUFunction *f, IOMMUNotifier *n, uint64_t *bfn,
                        uint64_t *nr)
{
    IntervalTreeRoot *told = g_hash_table_lookup(f->told, n);
    uint64_t start = *bfn, last = *bfn + *nr - 1;
    uint64_t first_told = start, last_told = last;
    IntervalTreeNode *node;

    while (told && (node = interval_tree_iter_first(told, start, last))) {
        first_told = MIN(first_told, node->start);
        last_told = MAX(last_told, node->last);
        interval_tree_remove(node, told);
        g_free(node);
    }
    *bfn = first_told;
    *nr = last_told - first_told + 1;
}

/*
 * Tell @n of a range, in aligned blocks of a power of two: what listens may
 * have hardware behind it that knows no other. With @run it is mapped,
 * without it is unmapped.
 */
static void notify_range(XenPVIOMMUFunction *f, IOMMUNotifier *n,
                         uint64_t bfn, uint64_t nr, const BfnRun *run)
{
    while (nr) {
        uint64_t gfn = run ? run->gfn + (bfn - run->bfn) : 0;
        uint64_t align = run ? bfn | gfn : bfn;
        unsigned order = MIN(63 - clz64(nr), align ? ctz64(align) : 63);
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
        if (run) {
            told_add(f, n, bfn, 1ull << order);
        } else {
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
    uint64_t start = MAX(*bfn, DIV_ROUND_UP(n->start, PAGE_MASK_BITS + 1));
    uint64_t last = MIN(*bfn + *nr - 1, n->end >> XEN_IOMMU_PAGE_SHIFT);

    *bfn = start;
    *nr = start <= last ? last - start + 1 : 0;
    return *nr;
}

static void notifier_map(XenPVIOMMUFunction *f, IOMMUNotifier *n,
                         const BfnRun *run)
{
    uint64_t bfn = run->bfn, nr = run->nr;

    if ((n->notifier_flags & IOMMU_NOTIFIER_MAP) &&
        notifier_clip(n, &bfn, &nr)) {
        trace_xen_pviommu_notify_map(f->name, bfn, run->gfn, nr);
        notify_range(f, n, bfn, nr, run);
    }
}

/* Tell @n what of its context is mapped in a range. */
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
        told_remove(f, n, &bfn, &nr);
        notifier_clip(n, &bfn, &nr);
    }
    trace_xen_pviommu_notify_unmap(f->name, bfn, nr);
    notify_range(f, n, bfn, nr, NULL);
    /* What went only because it was told in one block with the range */
    if (n->notifier_flags & IOMMU_NOTIFIER_MAP) {
        notifier_map_range(f, n, bfn, start);
        notifier_map_range(f, n, end, bfn + nr);
    }
}

static void notifier_replay(XenPVIOMMUFunction *f, IOMMUNotifier *n)
{
    trace_xen_pviommu_replay(f->name, f->ctx->id);
    notifier_map_range(f, n, 0, xen_pviommu_bfn_limit(&f->s->core));
}

static void function_replay(IOMMUMemoryRegion *mr, IOMMUNotifier *n)
{
    XenPVIOMMUFunction *f = container_of(mr, XenPVIOMMUFunction, translated);

    QEMU_LOCK_GUARD(&f->s->lock);

    /* It may be another one than was at the same address before. */
    g_hash_table_remove(f->told, n);
    notifier_unmap(f, n, 0, xen_pviommu_bfn_limit(&f->s->core));
    notifier_replay(f, n);
}

static int function_notifiers_changed(IOMMUMemoryRegion *mr,
                                      IOMMUNotifierFlag old,
                                      IOMMUNotifierFlag new, Error **errp)
{
    XenPVIOMMUFunction *f = container_of(mr, XenPVIOMMUFunction, translated);

    trace_xen_pviommu_notifiers(f->name, old, new);
    WITH_QEMU_LOCK_GUARD(&f->s->lock) {
        if (!f->notifiers && new) {
            /*
             * Before queues run for the last time: vhost that is taken off and
             * put back, as the memory map changes, has what they unmap.
             */
            g_ptr_array_add(f->s->listening, f);
            xen_pviommu_queues_update(f->s);
        } else if (f->notifiers && !new) {
            g_ptr_array_remove(f->s->listening, f);
            xen_pviommu_queues_update(f->s);
        }
        f->notifiers = new;
        if (!(new & IOMMU_NOTIFIER_MAP)) {
            g_hash_table_remove_all(f->told);
        }
    }
    if (new) {
        /* It is called with the lock, and may wait for such a thread. */
        xen_pviommu_queues_drain(f->s);
    }
    return 0;
}

static uint64_t function_min_page_size(IOMMUMemoryRegion *mr)
{
    return 1ull << XEN_IOMMU_PAGE_SHIFT;
}

static void client_map(void *opaque, XenPVIOMMUContext *ctx, const BfnRun *run)
{
    XenPVIOMMUState *s = opaque;
    IOMMUNotifier *n;

    for (guint i = 0; i < s->listening->len; i++) {
        XenPVIOMMUFunction *f = g_ptr_array_index(s->listening, i);

        if (f->ctx == ctx && (f->notifiers & IOMMU_NOTIFIER_MAP)) {
            IOMMU_NOTIFIER_FOREACH(n, &f->translated) {
                notifier_map(f, n, run);
            }
        }
    }
}

static bool client_listening(void *opaque, const XenPVIOMMUContext *ctx)
{
    XenPVIOMMUState *s = opaque;

    for (guint i = 0; i < s->listening->len; i++) {
        XenPVIOMMUFunction *f = g_ptr_array_index(s->listening, i);

        if (f->ctx == ctx) {
            return true;
        }
    }
    return false;
}

static void client_unmap(void *opaque, XenPVIOMMUContext *ctx,
                         uint64_t bfn, uint64_t nr)
{
    XenPVIOMMUState *s = opaque;
    IOMMUNotifier *n;

    for (guint i = 0; i < s->listening->len; i++) {
        XenPVIOMMUFunction *f = g_ptr_array_index(s->listening, i);

        if (f->ctx == ctx) {
            IOMMU_NOTIFIER_FOREACH(n, &f->translated) {
                notifier_unmap(f, n, bfn, nr);
            }
        }
    }
}

/* What the functions in @ctx reserve, now. */
static void context_update_reserved(XenPVIOMMUState *s, XenPVIOMMUContext *ctx)
{
    XenPVIOMMUFunction *f;
    GHashTableIter iter;

    g_array_set_size(ctx->reserved, 0);
    g_hash_table_iter_init(&iter, s->functions);
    while (g_hash_table_iter_next(&iter, (void **)&f, NULL)) {
        if (f->ctx == ctx) {
            xen_pviommu_reserved_add_all(ctx->reserved, f->reserved);
        }
    }
}

/* @ctx maps nothing that @f reserves. */
static bool function_fits(const XenPVIOMMUFunction *f,
                          const XenPVIOMMUContext *ctx)
{
    for (guint i = 0; i < f->reserved->len; i++) {
        const XenPVIOMMUReserved *r = xen_pviommu_reserved_at(f->reserved, i);

        if (!bfn_table_range_empty(ctx->table, r->bfn, r->nr)) {
            return false;
        }
    }
    return true;
}

/* @f sees the system's memory, as all do until the big switch. */
static bool function_sees_memory(const XenPVIOMMUFunction *f)
{
    return f->s->core.identity || f->ctx->identity;
}

/* Show @f what its context, and core.identity, say. */
static void function_update(XenPVIOMMUFunction *f)
{
    bool identity = function_sees_memory(f);

    memory_region_set_enabled(&f->identity, identity);
    memory_region_set_enabled(MEMORY_REGION(&f->translated), !identity);
    /*
     * The identity map has all that they show. Alone, it is the system's
     * memory itself for QEMU, which then builds no FlatView for each function
     * when the memory map changes.
     */
    for (guint i = 0; i < f->windows->len; i++) {
        memory_region_set_enabled(g_ptr_array_index(f->windows, i), !identity);
    }
}

/*
 * The context of @f changed between an identity context and another. In-flight
 * DMA finds the one map or the other, and a translation in both. As the memory
 * map changes this lets go of the lock, which the caller holds once.
 */
static void function_change_view(XenPVIOMMUFunction *f)
{
    IOMMUNotifier *n;

    qemu_rec_mutex_unlock(&f->s->lock);
    memory_region_transaction_begin();
    function_update(f);
    memory_region_transaction_commit();
    qemu_rec_mutex_lock(&f->s->lock);
    f->s->core.work += VIEW_WORK;
    /* A cache may hold translations of the view before. */
    IOMMU_NOTIFIER_FOREACH(n, &f->translated) {
        if (!(n->notifier_flags & IOMMU_NOTIFIER_MAP)) {
            notifier_unmap(f, n, 0, 1ull << GFN_INDEX_BITS);
        }
    }
}

static bool pin_memory(XenPVIOMMUState *s);
static void unpin_memory(XenPVIOMMUState *s);

/*
 * Move @f; what it translated is gone when this returns. Between an identity
 * context and another, what it sees is as before until function_update(). False
 * if it would see memory that somebody discards, and have it pinned.
 */
static bool function_move(XenPVIOMMUFunction *f, XenPVIOMMUContext *ctx)
{
    XenPVIOMMUContext *old = f->ctx;
    IOMMUNotifier *n;

    if (old == ctx) {
        return true;
    }
    if (ctx->identity && f->nr_assigned && !pin_memory(f->s)) {
        return false;
    }
    trace_xen_pviommu_function_attach(f->name, old->id, ctx->id);
    old->nr_devices--;
    ctx->nr_devices++;
    qatomic_rcu_set(&f->ctx, ctx);
    IOMMU_NOTIFIER_FOREACH(n, &f->translated) {
        notifier_unmap(f, n, 0, xen_pviommu_bfn_limit(&f->s->core));
        if (n->notifier_flags & IOMMU_NOTIFIER_MAP) {
            notifier_replay(f, n);
        }
    }
    xen_pviommu_context_flush_all(&f->s->core, old);
    if (f->reserved->len) {
        context_update_reserved(f->s, old);
        context_update_reserved(f->s, ctx);
    }
    return true;
}

/* The same, and what its device saw is gone. */
static bool function_attach(XenPVIOMMUFunction *f, XenPVIOMMUContext *ctx)
{
    if (!function_move(f, ctx)) {
        return false;
    }
    if (f->identity.enabled != function_sees_memory(f)) {
        function_change_view(f);
    }
    unpin_memory(f->s);
    return true;
}

static void collect_bus(PCIBus *bus, void *buses)
{
    g_hash_table_add(buses, bus);
}

/* All buses there are now: one that a function was made for may be gone. */
static GHashTable *live_buses(XenPVIOMMUState *s)
{
    GHashTable *buses = g_hash_table_new(NULL, NULL);

    pci_for_each_bus(pci_get_bus(PCI_DEVICE(s)), collect_bus, buses);
    return buses;
}

typedef struct BusByNumber {
    int number;
    PCIBus *bus;
} BusByNumber;

static void match_bus(PCIBus *bus, void *opaque)
{
    BusByNumber *want = opaque;

    if (pci_bus_num(bus) == want->number) {
        want->bus = bus;
    }
}

/* What the requests of @dev come from; NULL if they bypass the IOMMU. */
static XenPVIOMMUFunction *function_of_device(PCIDevice *dev)
{
    AddressSpace *as = pci_device_iommu_address_space(dev);

    return as == &address_space_memory ?
           NULL : container_of(as, XenPVIOMMUFunction, as);
}

/*
 * A device of the host that Xen passes through: it reaches the guest's memory
 * by GFN, as the toolstack set up, and by no BFN of ours.
 */
static bool is_passed_through(PCIDevice *dev)
{
    return object_dynamic_cast(OBJECT(dev), "xen-pci-passthrough");
}

/*
 * The function whose requests carry @sbdf, or those of the device there,
 * which a bridge may have put its own ID on.
 */
static XenPVIOMMUFunction *function_by_sbdf(XenPVIOMMUState *s, uint32_t sbdf)
{
    BusByNumber want = { .number = PCI_BUS_NUM(sbdf) };
    uint8_t devfn = sbdf & 0xff;
    PCIDevice *dev;

    if (sbdf >> 16) {
        return NULL;
    }
    pci_for_each_bus(pci_get_bus(PCI_DEVICE(s)), match_bus, &want);
    if (!want.bus) {
        return NULL;
    }
    dev = want.bus->devices[devfn];
    if (dev) {
        return is_passed_through(dev) ? NULL : function_of_device(dev);
    }
    return function_find(s, want.bus, devfn);
}

static int client_attach(void *opaque, uint32_t sbdf, XenPVIOMMUContext *ctx)
{
    XenPVIOMMUFunction *f = function_by_sbdf(opaque, sbdf);

    if (!f) {
        return -XEN_IOMMU_ENODEV;
    }
    if (!function_fits(f, ctx)) {
        return -XEN_IOMMU_EADDRNOTAVAIL;
    }
    return function_attach(f, ctx) ? 0 : -XEN_IOMMU_EBUSY;
}

static int client_reserved(void *opaque, uint32_t sbdf, GArray *list)
{
    XenPVIOMMUFunction *f = function_by_sbdf(opaque, sbdf);

    if (!f) {
        return -XEN_IOMMU_ENODEV;
    }
    xen_pviommu_reserved_add_all(list, f->reserved);
    return 0;
}

/* There is a device whose requests could carry the ID of @f. */
static bool function_has_device(const XenPVIOMMUFunction *f)
{
    if (pci_bus_is_express(f->bus) || pci_bus_is_root(f->bus)) {
        return f->bus->devices[f->devfn];
    }
    /* A bridge puts its ID on the requests of all that are behind it. */
    for (int devfn = 0; devfn < PCI_DEVFN_MAX; devfn++) {
        if (f->bus->devices[devfn]) {
            return true;
        }
    }
    return false;
}

/*
 * What the user reserved for the place of @f, and the host for each of the
 * devices whose requests come from it.
 */
static void function_update_reserved(XenPVIOMMUFunction *f)
{
    GHashTableIter iter;
    GArray *reserved;

    g_array_set_size(f->reserved, 0);
    xen_pviommu_reserved_config_at(&f->s->reserved, f->place, f->reserved);
    g_hash_table_iter_init(&iter, f->host_reserved);
    while (g_hash_table_iter_next(&iter, NULL, (void **)&reserved)) {
        xen_pviommu_reserved_add_all(f->reserved, reserved);
    }
}

/* Nothing may be mapped where a device that comes in sees memory 1:1. */
static void function_evict(XenPVIOMMUFunction *f)
{
    XenPVIOMMUCore *core = &f->s->core;

    if (f->reserved->len) {
        /* An unmap takes room, which a guest may have filled. */
        xen_pviommu_core_flush_all(core);
    }
    for (guint i = 0; i < f->reserved->len; i++) {
        const XenPVIOMMUReserved *r = xen_pviommu_reserved_at(f->reserved, i);
        BfnRun run;

        while (bfn_table_next_run(f->ctx->table, r->bfn, r->bfn + r->nr,
                                  &run) &&
               !xen_pviommu_context_unmap(core, f->ctx, run.bfn, run.nr,
                                          false)) {
            xen_pviommu_context_flush(core, f->ctx, run.bfn, run.nr);
        }
    }
}

/* Devices that were unplugged, or bridges that took their bus along. */
static void client_reap(void *opaque, XenPVIOMMUContext *ctx)
{
    XenPVIOMMUState *s = opaque;
    g_autoptr(GHashTable) buses = live_buses(s);
    XenPVIOMMUFunction *f;
    GHashTableIter iter;

    g_hash_table_iter_init(&iter, s->functions);
    while (g_hash_table_iter_next(&iter, (void **)&f, NULL)) {
        if (f->ctx == ctx && (!g_hash_table_contains(buses, f->bus) ||
                              !function_has_device(f))) {
            /* What is not there reserves nothing. */
            g_array_set_size(f->reserved, 0);
            context_update_reserved(s, ctx);
            function_attach(f, s->core.contexts[XEN_IOMMU_CTX_DEFAULT]);
        }
    }
}

static void client_attach_all(void *opaque, XenPVIOMMUContext *ctx)
{
    XenPVIOMMUState *s = opaque;
    XenPVIOMMUFunction *f;
    GHashTableIter iter;

    g_hash_table_iter_init(&iter, s->functions);
    while (g_hash_table_iter_next(&iter, (void **)&f, NULL)) {
        function_move(f, ctx);
    }
}

static void client_enabled(void *opaque)
{
    XenPVIOMMUState *s = opaque;
    XenPVIOMMUFunction *f;
    GHashTableIter iter;
    IOMMUNotifier *n;

    qemu_rec_mutex_unlock(&s->lock);
    xen_pviommu_dma_update(s);
    qemu_rec_mutex_lock(&s->lock);
    /*
     * What listens for maps has been told by the memory map that the identity
     * map is gone. A cache has to be told of each translation that it may
     * have: wherever memory can be, which bfn-bits says nothing about.
     */
    g_hash_table_iter_init(&iter, s->functions);
    while (g_hash_table_iter_next(&iter, (void **)&f, NULL)) {
        IOMMU_NOTIFIER_FOREACH(n, &f->translated) {
            if (!(n->notifier_flags & IOMMU_NOTIFIER_MAP) &&
                !function_sees_memory(f)) {
                notifier_unmap(f, n, 0, 1ull << GFN_INDEX_BITS);
            }
        }
    }
}

static int client_set_queue(void *opaque, XenPVIOMMUContext *ctx, uint64_t addr,
                            uint32_t nr_ops)
{
    return xen_pviommu_queue_set(opaque, ctx, addr, nr_ops);
}

static int client_store(void *opaque, uint64_t addr, const void *buf,
                        size_t len)
{
    return xen_pviommu_guest_rw(addr, (void *)buf, len, true);
}

const XenPVIOMMUClientOps xen_pviommu_client_ops = {
    .map = client_map,
    .listening = client_listening,
    .unmap = client_unmap,
    .attach = client_attach,
    .attach_all = client_attach_all,
    .reap = client_reap,
    .reserved = client_reserved,
    .enabled = client_enabled,
    .store = client_store,
    .set_queue = client_set_queue,
};

/* Nobody may discard RAM from now on; false if somebody must. */
static bool pin_memory(XenPVIOMMUState *s)
{
    if (!s->pinned && ram_block_uncoordinated_discard_disable(true)) {
        return false;
    }
    s->pinned = true;
    return true;
}

/* A device of the host sees memory untranslated. */
static bool memory_needs_pin(const XenPVIOMMUState *s)
{
    XenPVIOMMUFunction *f;
    GHashTableIter iter;

    if (s->core.identity || !s->nr_assigned) {
        return s->nr_assigned;
    }
    g_hash_table_iter_init(&iter, s->functions);
    while (g_hash_table_iter_next(&iter, (void **)&f, NULL)) {
        if (f->nr_assigned && f->ctx->identity) {
            return true;
        }
    }
    return false;
}

static void unpin_memory(XenPVIOMMUState *s)
{
    if (s->pinned && !memory_needs_pin(s)) {
        ram_block_uncoordinated_discard_disable(false);
        s->pinned = false;
    }
}

/*
 * What devices of the host see untranslated, nobody may discard. Call it
 * before they see it, and when they do not any more, which always succeeds.
 */
static bool update_pinned(XenPVIOMMUState *s)
{
    if (memory_needs_pin(s)) {
        return pin_memory(s);
    }
    unpin_memory(s);
    return true;
}

void xen_pviommu_dma_update(XenPVIOMMUState *s)
{
    XenPVIOMMUFunction *f;
    GHashTableIter iter;

    if (s->core.identity && !update_pinned(s)) {
        error_report("xen-pviommu: RAM must be discarded, and assigned devices "
                     "would have it pinned: devices see none of it");
        s->core.identity = false;
    }
    memory_region_transaction_begin();
    g_hash_table_iter_init(&iter, s->functions);
    while (g_hash_table_iter_next(&iter, (void **)&f, NULL)) {
        function_update(f);
    }
    memory_region_transaction_commit();
    update_pinned(s);
}

/* A window to the system's memory, where a reserved range is. */
static void function_add_window(XenPVIOMMUFunction *f, uint64_t bfn,
                                uint64_t nr)
{
    MemoryRegion *mr = g_new0(MemoryRegion, 1);
    hwaddr start = bfn << XEN_IOMMU_PAGE_SHIFT;

    memory_region_init_alias(mr, OBJECT(f->s), "reserved", get_system_memory(),
                             start, nr << XEN_IOMMU_PAGE_SHIFT);
    memory_region_add_subregion_overlap(&f->root, start, mr, 1);
    g_ptr_array_add(f->windows, mr);
}

static void function_add_windows(XenPVIOMMUFunction *f, const GArray *reserved)
{
    for (guint i = 0; i < reserved->len; i++) {
        const XenPVIOMMUReserved *r = xen_pviommu_reserved_at(reserved, i);

        function_add_window(f, r->bfn, r->nr);
    }
}

/*
 * Interrupts go to the only window that is always there; where that is no
 * machine has RAM.
 */
static bool function_has_ram_windows(const XenPVIOMMUFunction *f)
{
    const hwaddr start = XEN_PVIOMMU_MSI_BFN << XEN_IOMMU_PAGE_SHIFT;
    const hwaddr size = XEN_PVIOMMU_MSI_NR << XEN_IOMMU_PAGE_SHIFT;

    for (guint i = 0; i < f->windows->len; i++) {
        MemoryRegion *mr = g_ptr_array_index(f->windows, i);

        if (mr->addr < start ||
            mr->addr + memory_region_size(mr) > start + size) {
            return true;
        }
    }
    return false;
}

bool xen_pviommu_dma_covers(XenPVIOMMUState *s, const AddressSpace *as)
{
    XenPVIOMMUFunction *f;
    GHashTableIter iter;

    g_hash_table_iter_init(&iter, s->functions);
    while (g_hash_table_iter_next(&iter, (void **)&f, NULL)) {
        if (&f->as == as) {
            return !function_has_ram_windows(f);
        }
    }
    return false;
}

/* The memory map changes: not with the lock. */
static XenPVIOMMUFunction *function_new(XenPVIOMMUState *s, PCIBus *bus,
                                        uint8_t devfn)
{
    XenPVIOMMUFunction *f = g_new0(XenPVIOMMUFunction, 1);

    f->s = s;
    f->bus = bus;
    f->devfn = devfn;
    f->place = xen_pviommu_place(bus, devfn);
    f->name = g_strdup_printf("xen-pviommu-%s", f->place);
    f->ctx = s->core.contexts[XEN_IOMMU_CTX_DEFAULT];
    f->reserved = xen_pviommu_reserved_new();
    f->host_reserved = g_hash_table_new_full(NULL, NULL, NULL,
                                             (GDestroyNotify)g_array_unref);
    f->windows = g_ptr_array_new();
    f->told = g_hash_table_new_full(NULL, NULL, NULL, told_free);
    xen_pviommu_reserved_config_at(&s->reserved, f->place, f->reserved);

    memory_region_transaction_begin();
    memory_region_init(&f->root, OBJECT(s), f->name, UINT64_MAX);
    memory_region_init_alias(&f->identity, OBJECT(s), "identity",
                             get_system_memory(), 0, UINT64_MAX);
    memory_region_init_iommu(&f->translated, sizeof(f->translated),
                             TYPE_XEN_PVIOMMU_MEMORY_REGION, OBJECT(s),
                             f->name, UINT64_MAX);
    memory_region_add_subregion(&f->root, 0, &f->identity);
    memory_region_add_subregion(&f->root, 0, MEMORY_REGION(&f->translated));
    function_add_windows(f, s->core.reserved);
    if (!xen_pviommu_reserved_hit(s->core.reserved, XEN_PVIOMMU_MSI_BFN, 1)) {
        /* Beyond what a guest can map; interrupts still go there. */
        function_add_window(f, XEN_PVIOMMU_MSI_BFN, XEN_PVIOMMU_MSI_NR);
    }
    function_add_windows(f, f->reserved);
    function_update(f);
    memory_region_transaction_commit();
    address_space_init(&f->as, &f->root, f->name);

    QEMU_LOCK_GUARD(&s->lock);

    f->ctx->nr_devices++;
    g_hash_table_add(s->functions, f);
    function_evict(f);
    context_update_reserved(s, f->ctx);
    trace_xen_pviommu_function_new(pci_bus_num(bus), devfn, f->name);
    return f;
}

static AddressSpace *get_address_space(PCIBus *bus, void *opaque, int devfn)
{
    XenPVIOMMUState *s = opaque;
    XenPVIOMMUFunction *f = function_find(s, bus, devfn);

    /* It may be for a device on its way in. */
    xen_pviommu_bypass_check(s);
    if (!f) {
        return &function_new(s, bus, devfn)->as;
    }

    QEMU_LOCK_GUARD(&s->lock);

    if (!function_has_device(f)) {
        /* A new device, on its way in, starts like any other. */
        function_attach(f, s->core.contexts[XEN_IOMMU_CTX_DEFAULT]);
        function_update_reserved(f);
        function_evict(f);
        context_update_reserved(s, f->ctx);
    }
    return &f->as;
}

/*
 * What the host's IOMMU cannot map for an assigned device, the guest must
 * not map either. Unlike other reserved ranges these are no memory. NULL if
 * the host does not say.
 */
static GArray *host_reserved(HostIOMMUDevice *hiod, uint64_t limit)
{
    HostIOMMUDeviceClass *hiodc = HOST_IOMMU_DEVICE_GET_CLASS(hiod);
    GList *ranges = hiodc->get_iova_ranges ? hiodc->get_iova_ranges(hiod)
                                           : NULL;
    GArray *reserved = ranges ? xen_pviommu_reserved_new() : NULL;
    uint64_t pos = 0;

    /* They come sorted: what is between their whole pages is reserved. */
    for (GList *l = ranges; l; l = l->next) {
        Range *r = l->data;
        uint64_t first = DIV_ROUND_UP(range_lob(r), PAGE_MASK_BITS + 1);
        uint64_t last = range_upb(r);

        first = MIN(first, limit);
        if (first > pos) {
            xen_pviommu_reserved_add(reserved, pos, first - pos, 0);
        }
        pos = MAX(pos, last == UINT64_MAX
                       ? limit : (last + 1) >> XEN_IOMMU_PAGE_SHIFT);
    }
    if (reserved && pos < limit) {
        xen_pviommu_reserved_add(reserved, pos, limit - pos, 0);
    }
    g_list_free_full(ranges, g_free);
    return reserved;
}

static bool reserve_host_ranges(XenPVIOMMUState *s, PCIDevice *dev,
                                HostIOMMUDevice *hiod, Error **errp)
{
    XenPVIOMMUFunction *f = function_find(s, hiod->aliased_bus,
                                          hiod->aliased_devfn);
    GArray *reserved = host_reserved(hiod, xen_pviommu_bfn_limit(&s->core));

    assert(f);
    if (!reserved) {
        return true;
    }
    g_hash_table_replace(f->host_reserved, dev, reserved);
    function_update_reserved(f);
    if (!function_fits(f, f->ctx)) {
        error_setg(errp, "%s: its context maps bus addresses that the host "
                   "reserves for it", hiod->name);
        error_append_hint(errp, "Plug it before the guest maps anything, or "
                          "detach its slot first.\n");
        g_hash_table_remove(f->host_reserved, dev);
        function_update_reserved(f);
        return false;
    }
    context_update_reserved(s, f->ctx);
    return true;
}

static void unset_iommu_device(PCIBus *bus, void *opaque, int devfn)
{
    XenPVIOMMUState *s = opaque;
    PCIDevice *dev = bus->devices[devfn];
    XenPVIOMMUFunction *f;

    QEMU_LOCK_GUARD(&s->lock);

    f = dev ? function_of_device(dev) : NULL;
    if (f && g_hash_table_remove(f->host_reserved, dev)) {
        function_update_reserved(f);
        context_update_reserved(s, f->ctx);
    }
    if (f) {
        f->nr_assigned--;
    }
    s->nr_assigned--;
    update_pinned(s);
}

static bool set_iommu_device(PCIBus *bus, void *opaque, int devfn,
                             HostIOMMUDevice *hiod, Error **errp)
{
    XenPVIOMMUState *s = opaque;

    QEMU_LOCK_GUARD(&s->lock);

    if (!reserve_host_ranges(s, bus->devices[devfn], hiod, errp)) {
        return false;
    }
    function_find(s, hiod->aliased_bus, hiod->aliased_devfn)->nr_assigned++;
    s->nr_assigned++;
    if (!update_pinned(s)) {
        error_setg(errp, "%s: RAM must be discarded, and the device would have "
                   "it pinned", hiod->name);
        unset_iommu_device(bus, opaque, devfn);
        return false;
    }
    return true;
}

const PCIIOMMUOps xen_pviommu_pci_ops = {
    .get_address_space = get_address_space,
    .set_iommu_device = set_iommu_device,
    .unset_iommu_device = unset_iommu_device,
};

void xen_pviommu_dma_init(XenPVIOMMUState *s)
{
    s->functions = g_hash_table_new(function_hash, function_equal);
    s->listening = g_ptr_array_new();
}

static gboolean function_free(gpointer key, gpointer value, gpointer unused)
{
    XenPVIOMMUFunction *f = key;

    f->ctx->nr_devices--;
    address_space_destroy(&f->as);
    g_hash_table_remove_all(f->told);
    /* The regions, and f with them, stay: they are s's, and RCU looks on. */
    return true;
}

void xen_pviommu_dma_finalize(XenPVIOMMUState *s)
{
    /* While there is somebody to tell. */
    xen_pviommu_core_flush_all(&s->core);
    g_hash_table_foreach_remove(s->functions, function_free, NULL);
    g_hash_table_unref(s->functions);
    g_ptr_array_unref(s->listening);
}

void xen_pviommu_dma_foreach(XenPVIOMMUState *s, XenPVIOMMUFunctionFunc *func,
                             void *opaque)
{
    g_autoptr(GHashTable) buses = live_buses(s);
    XenPVIOMMUFunction *f;
    GHashTableIter iter;

    g_hash_table_iter_init(&iter, s->functions);
    while (g_hash_table_iter_next(&iter, (void **)&f, NULL)) {
        uint8_t path[XEN_PVIOMMU_MAX_PATH];
        unsigned pos = sizeof(path);

        if (!g_hash_table_contains(buses, f->bus)) {
            continue;
        }
        path[--pos] = f->devfn;
        for (PCIDevice *dev = f->bus->parent_dev; dev && pos;
             dev = pci_get_bus(dev)->parent_dev) {
            path[--pos] = dev->devfn;
        }
        func(opaque, path + pos, sizeof(path) - pos, f->ctx);
    }
}

typedef struct DeviceVisit {
    XenPVIOMMUDeviceFunc *func;
    void *opaque;
    GHashTable *visited;        /* of XenPVIOMMUFunction */
} DeviceVisit;

static void visit_devices(PCIBus *bus, void *opaque)
{
    DeviceVisit *v = opaque;

    for (unsigned devfn = 0; devfn < ARRAY_SIZE(bus->devices); devfn++) {
        PCIDevice *dev = bus->devices[devfn];
        XenPVIOMMUFunction *f = dev ? function_of_device(dev) : NULL;

        if (f) {
            g_hash_table_add(v->visited, f);
            if (!is_passed_through(dev)) {
                v->func(v->opaque, f->ctx, function_sbdf(f), dev);
            }
        }
    }
}

void xen_pviommu_dma_foreach_device(XenPVIOMMUState *s,
                                    XenPVIOMMUDeviceFunc *func, void *opaque)
{
    g_autoptr(GHashTable) buses = live_buses(s);
    g_autoptr(GHashTable) visited = g_hash_table_new(NULL, NULL);
    DeviceVisit visit = { func, opaque, visited };
    XenPVIOMMUFunction *f;
    GHashTableIter iter;

    pci_for_each_bus(pci_get_bus(PCI_DEVICE(s)), visit_devices, &visit);
    g_hash_table_iter_init(&iter, s->functions);
    while (g_hash_table_iter_next(&iter, (void **)&f, NULL)) {
        if (g_hash_table_contains(buses, f->bus) &&
            !g_hash_table_contains(visited, f)) {
            func(opaque, f->ctx, function_sbdf(f), NULL);
        }
    }
}

bool xen_pviommu_dma_attach_path(XenPVIOMMUState *s, const uint8_t *path,
                                 unsigned len, XenPVIOMMUContext *ctx)
{
    PCIBus *bus = pci_get_bus(PCI_DEVICE(s));
    XenPVIOMMUFunction *f;

    for (; len > 1; path++, len--) {
        PCIBus *child;

        QLIST_FOREACH(child, &bus->child, sibling) {
            if (child->parent_dev && child->parent_dev->devfn == *path) {
                break;
            }
        }
        if (!child) {
            return false;
        }
        bus = child;
    }
    f = function_find(s, bus, *path);
    if (!f) {
        f = function_new(s, bus, *path);
    }

    QEMU_LOCK_GUARD(&s->lock);

    return function_move(f, ctx);
}

static void memory_region_class_init(ObjectClass *klass,
                                     XEN_PVIOMMU_CONST void *data)
{
    IOMMUMemoryRegionClass *imrc = IOMMU_MEMORY_REGION_CLASS(klass);

    imrc->translate = function_translate;
    imrc->replay = function_replay;
    imrc->notify_flag_changed = function_notifiers_changed;
    imrc->get_min_page_size = function_min_page_size;
}

static const TypeInfo memory_region_info = {
    .name = TYPE_XEN_PVIOMMU_MEMORY_REGION,
    .parent = TYPE_IOMMU_MEMORY_REGION,
    .class_init = memory_region_class_init,
};

static void xen_pviommu_dma_register(void)
{
    type_register_static(&memory_region_info);
}

type_init(xen_pviommu_dma_register)
