/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * PCI functions that can do DMA: an address space each, a context, and what
 * they reserve
 *
 * A function begins when QEMU asks for the address space of a device that is
 * being plugged, and ends with the last device whose requests carry its ID. It
 * is an object that owns its memory regions: whatever still uses one of them
 * keeps the object, but nothing is translated any more.
 */

#include "qemu/osdep.h"
#include "qemu/main-loop.h"
#include "qemu/rcu.h"
#include "qemu/timer.h"
#include "hw/pci/pci_bus.h"
#include "backend-emulated.h"
#include "function.h"
#include "irq.h"
#include "notify.h"
#include "passed.h"
#include "pinned.h"
#include "trace.h"

/* A change of the memory map, as xen_pviommu_core_work() counts runs. */
#define VIEW_WORK       512

/* When to look again whether something uses a function that ended. */
#define ENDED_RETRY_MS  100

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

XenPVIOMMUFunction *xen_pviommu_function_find(XenPVIOMMUState *s, PCIBus *bus,
                                              uint8_t devfn)
{
    XenPVIOMMUFunction key = { .bus = bus, .devfn = devfn };

    return g_hash_table_lookup(s->functions, &key);
}

XenPVIOMMUFunction *xen_pviommu_function_of_device(PCIDevice *dev)
{
    AddressSpace *as = pci_device_iommu_address_space(dev);

    return as == &address_space_memory ?
           NULL : container_of(as, XenPVIOMMUFunction, as);
}

bool xen_pviommu_is_passed_through(PCIDevice *dev)
{
    return object_dynamic_cast(OBJECT(dev), "xen-pci-passthrough");
}

uint32_t xen_pviommu_function_sbdf(const XenPVIOMMUFunction *f)
{
    return PCI_BUILD_BDF(pci_bus_num(f->bus), f->devfn);
}

void xen_pviommu_context_update_reserved(XenPVIOMMUState *s,
                                         XenPVIOMMUContext *ctx)
{
    XenPVIOMMUFunction *f;
    GHashTableIter iter;

    xen_pviommu_context_clear_reserved(ctx);
    g_hash_table_iter_init(&iter, s->functions);
    while (g_hash_table_iter_next(&iter, (void **)&f, NULL)) {
        if (f->ctx == ctx) {
            xen_pviommu_reserved_add_all(ctx->reserved, f->reserved);
        }
    }
}

bool xen_pviommu_function_fits(const XenPVIOMMUFunction *f,
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

bool xen_pviommu_function_sees_memory(const XenPVIOMMUFunction *f)
{
    return f->s->core.identity || f->ctx->identity;
}

void xen_pviommu_function_update(XenPVIOMMUFunction *f)
{
    bool identity = xen_pviommu_function_sees_memory(f);

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
    memory_region_set_enabled(&f->irq_window, f->s->core.irqs.enabled);
}

/*
 * The context of @f changed between an identity context and another. In-flight
 * DMA finds the one map or the other, and a translation in both. As the memory
 * map changes this releases the lock meanwhile, which the caller holds once.
 */
static void function_change_view(XenPVIOMMUFunction *f)
{
    /* A new listener is notified of maps as a replay gets to them. */
    f->replay_next = 0;
    qemu_rec_mutex_unlock(&f->s->lock);
    memory_region_transaction_begin();
    xen_pviommu_function_update(f);
    memory_region_transaction_commit();
    qemu_rec_mutex_lock(&f->s->lock);
    f->s->core.work += VIEW_WORK;
    /* A cache may hold translations of the view before. */
    xen_pviommu_notify_enabled(f);
}

bool xen_pviommu_function_move(XenPVIOMMUFunction *f, XenPVIOMMUContext *ctx)
{
    XenPVIOMMUContext *old = f->ctx;

    if (old == ctx) {
        return true;
    }
    if (ctx->identity && f->nr_assigned && !xen_pviommu_pin(f->s)) {
        return false;
    }
    trace_xen_pviommu_function_attach(f->name, old->id, ctx->id);
    old->nr_devices--;
    ctx->nr_devices++;
    qatomic_rcu_set(&f->ctx, ctx);
    xen_pviommu_notify_moved(f);
    xen_pviommu_context_flush_all(&f->s->core, old);
    if (f->reserved->len) {
        xen_pviommu_context_update_reserved(f->s, old);
        xen_pviommu_context_update_reserved(f->s, ctx);
    }
    return true;
}

bool xen_pviommu_function_attach(XenPVIOMMUFunction *f, XenPVIOMMUContext *ctx)
{
    if (!xen_pviommu_function_move(f, ctx)) {
        return false;
    }
    if (f->identity.enabled != xen_pviommu_function_sees_memory(f)) {
        function_change_view(f);
    }
    xen_pviommu_unpin(f->s);
    return true;
}

bool xen_pviommu_function_has_device(const XenPVIOMMUFunction *f)
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

void xen_pviommu_function_update_reserved(XenPVIOMMUFunction *f)
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

/* Nothing may be mapped where the new function sees memory 1:1. */
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

/* A window to the system's memory, where a reserved range is. */
static void function_add_window(XenPVIOMMUFunction *f, uint64_t bfn,
                                uint64_t nr)
{
    MemoryRegion *mr = g_new0(MemoryRegion, 1);
    hwaddr start = bfn << XEN_IOMMU_PAGE_SHIFT;

    memory_region_init_alias(mr, OBJECT(f), "reserved", get_system_memory(),
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

bool xen_pviommu_function_allows_discard(PCIBus *bus, void *opaque, int devfn)
{
    XenPVIOMMUFunction *f = xen_pviommu_function_of_device(bus->devices[devfn]);

    return f && !function_has_ram_windows(f);
}

XenPVIOMMUFunction *xen_pviommu_function_new(XenPVIOMMUState *s, PCIBus *bus,
                                             uint8_t devfn)
{
    XenPVIOMMUFunction *f =
        XEN_PVIOMMU_FUNCTION(object_new(TYPE_XEN_PVIOMMU_FUNCTION));

    f->s = s;
    object_ref(OBJECT(s));
    f->bus = bus;
    f->devfn = devfn;
    f->place = xen_pviommu_place(bus, devfn);
    f->name = g_strdup_printf("xen-pviommu-%s", f->place);
    f->ctx = s->core.contexts[XEN_IOMMU_CTX_DEFAULT];
    f->reserved = xen_pviommu_reserved_new();
    f->host_reserved = g_hash_table_new_full(NULL, NULL, NULL,
                                             (GDestroyNotify)g_array_unref);
    f->windows = g_ptr_array_new_with_free_func(g_free);
    f->replay_next = UINT64_MAX;
    xen_pviommu_reserved_config_at(&s->reserved, f->place, f->reserved);

    memory_region_transaction_begin();
    memory_region_init(&f->root, OBJECT(f), f->name, UINT64_MAX);
    memory_region_init_alias(&f->identity, OBJECT(f), "identity",
                             get_system_memory(), 0, UINT64_MAX);
    memory_region_init_iommu(&f->translated, sizeof(f->translated),
                             TYPE_XEN_PVIOMMU_MEMORY_REGION, OBJECT(f),
                             f->name, UINT64_MAX);
    memory_region_add_subregion(&f->root, 0, &f->identity);
    memory_region_add_subregion(&f->root, 0, MEMORY_REGION(&f->translated));
    function_add_windows(f, s->core.reserved);
    if (!xen_pviommu_reserved_hit(s->core.reserved, XEN_PVIOMMU_MSI_BFN, 1)) {
        /* Beyond what a guest can map; interrupts still go there. */
        function_add_window(f, XEN_PVIOMMU_MSI_BFN, XEN_PVIOMMU_MSI_NR);
    }
    function_add_windows(f, f->reserved);
    xen_pviommu_irq_window_init(f);
    xen_pviommu_function_update(f);
    memory_region_transaction_commit();
    address_space_init(&f->as, &f->root, f->name);
    object_property_add_child(OBJECT(s), "function[*]", OBJECT(f));
    object_unref(OBJECT(f));
    trace_xen_pviommu_function_new(pci_bus_num(bus), devfn, f->name);
    /* The device may yet fail to be plugged, without a notification. */
    qemu_bh_schedule(s->functions_bh);

    QEMU_LOCK_GUARD(&s->lock);

    /* Another one after a reset, if a listener has released the BQL. */
    f->ctx = s->core.contexts[XEN_IOMMU_CTX_DEFAULT];
    f->ctx->nr_devices++;
    g_hash_table_add(s->functions, f);
    function_evict(f);
    xen_pviommu_context_update_reserved(s, f->ctx);
    return f;
}

/* Its address space has listeners, or DMA that uses its bounce buffers. */
static bool function_in_use(const XenPVIOMMUFunction *f)
{
    return !QTAILQ_EMPTY(&f->as.listeners) ||
           qatomic_read(&f->as.bounce_buffer_size) ||
           !QLIST_EMPTY(&f->as.map_client_list);
}

/* VFIO unregisters its listener as late as its device is finalized. */
static void functions_free_ended(XenPVIOMMUState *s)
{
    for (guint i = 0; i < s->ended->len; ) {
        XenPVIOMMUFunction *f = g_ptr_array_index(s->ended, i);

        if (function_in_use(f)) {
            i++;
            continue;
        }
        g_ptr_array_remove_index_fast(s->ended, i);
        trace_xen_pviommu_function_free(f->name);
        /* Its root region, and so @f, is kept until readers are gone. */
        address_space_destroy(&f->as);
        object_unparent(OBJECT(f));
    }
    if (s->ended->len) {
        timer_mod(s->ended_timer, qemu_clock_get_ms(QEMU_CLOCK_REALTIME) +
                  ENDED_RETRY_MS);
    }
}

void xen_pviommu_function_end(XenPVIOMMUFunction *f)
{
    XenPVIOMMUState *s = f->s;
    XenPVIOMMUContext *ctx = f->ctx;

    trace_xen_pviommu_function_end(f->name, ctx->id);
    /* Listeners of the address space unmap all that they had. */
    memory_region_transaction_begin();
    memory_region_del_subregion(&f->root, &f->identity);
    memory_region_del_subregion(&f->root, MEMORY_REGION(&f->translated));
    memory_region_del_subregion(&f->root, &f->irq_window);
    for (guint i = 0; i < f->windows->len; i++) {
        memory_region_del_subregion(&f->root, g_ptr_array_index(f->windows, i));
    }
    memory_region_transaction_commit();

    WITH_QEMU_LOCK_GUARD(&s->lock) {
        g_hash_table_remove(s->functions, f);
        xen_pviommu_notify_ended(f);
        xen_pviommu_irqs_free_owner(&s->core.irqs, &f->irqs);
        ctx->nr_devices--;
        qatomic_rcu_set(&f->ctx, NULL);
        if (f->reserved->len) {
            xen_pviommu_context_update_reserved(s, ctx);
        }
    }
    g_ptr_array_add(s->ended, f);
    functions_free_ended(s);
}

/* Those without a device, or @all. */
static void functions_end(XenPVIOMMUState *s, bool all)
{
    g_autoptr(GPtrArray) gone = g_ptr_array_new();
    XenPVIOMMUFunction *f;
    GHashTableIter iter;

    g_hash_table_iter_init(&iter, s->functions);
    while (g_hash_table_iter_next(&iter, (void **)&f, NULL)) {
        if (all || !xen_pviommu_function_has_device(f)) {
            g_ptr_array_add(gone, f);
        }
    }
    for (guint i = 0; i < gone->len; i++) {
        xen_pviommu_function_end(g_ptr_array_index(gone, i));
    }
}

static void functions_bh(void *opaque)
{
    functions_end(opaque, false);
}

static void functions_ended_timer(void *opaque)
{
    functions_free_ended(opaque);
}

/*
 * A device is gone from its bus, which is still there: if it was a bridge, what
 * was behind it is gone from the bus behind it.
 */
static void functions_device_unrealized(DeviceListener *listener,
                                        DeviceState *dev)
{
    XenPVIOMMUState *s = container_of(listener, XenPVIOMMUState,
                                      device_listener);

    if (object_dynamic_cast(OBJECT(dev), TYPE_PCI_DEVICE)) {
        xen_pviommu_passed_unplugged(s, PCI_DEVICE(dev));
        functions_end(s, false);
        xen_pviommu_emulated_unplugged(s->core.backend, PCI_DEVICE(dev));
    }
}

AddressSpace *xen_pviommu_function_address_space(PCIBus *bus, void *opaque,
                                                 int devfn)
{
    XenPVIOMMUState *s = opaque;
    XenPVIOMMUFunction *f = xen_pviommu_function_find(s, bus, devfn);

    if (f && !xen_pviommu_function_has_device(f)) {
        /* Of a device that failed to be plugged; this one is another. */
        xen_pviommu_function_end(f);
        f = NULL;
    }
    if (!f) {
        f = xen_pviommu_function_new(s, bus, devfn);
    }
    return &f->as;
}

void xen_pviommu_functions_init(XenPVIOMMUState *s)
{
    s->functions = g_hash_table_new(function_hash, function_equal);
    s->ended = g_ptr_array_new();
    s->functions_bh = qemu_bh_new(functions_bh, s);
    s->ended_timer = timer_new_ms(QEMU_CLOCK_REALTIME, functions_ended_timer,
                                  s);
    s->device_listener.unrealize = functions_device_unrealized;
    device_listener_register(&s->device_listener);
}

void xen_pviommu_functions_finalize(XenPVIOMMUState *s)
{
    device_listener_unregister(&s->device_listener);
    functions_end(s, true);
    timer_free(s->ended_timer);
    qemu_bh_delete(s->functions_bh);
    g_hash_table_unref(s->functions);
    g_ptr_array_unref(s->ended);
}

static void function_finalize(Object *obj)
{
    XenPVIOMMUFunction *f = XEN_PVIOMMU_FUNCTION(obj);

    g_ptr_array_unref(f->windows);
    g_hash_table_unref(f->host_reserved);
    g_array_unref(f->reserved);
    g_free(f->place);
    g_free(f->name);
    object_unref(OBJECT(f->s));
}

static const TypeInfo function_info = {
    .name = TYPE_XEN_PVIOMMU_FUNCTION,
    .parent = TYPE_OBJECT,
    .instance_size = sizeof(XenPVIOMMUFunction),
    .instance_finalize = function_finalize,
};

static void xen_pviommu_function_register(void)
{
    type_register_static(&function_info);
}

type_init(xen_pviommu_function_register)
