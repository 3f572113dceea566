/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The PCI front of the paravirtual IOMMU: its properties, and its parts put
 * together
 */

#include "qemu/osdep.h"
#include "qapi/error.h"
#include "hw/i386/pc.h"
#include "hw/pci/msix.h"
#include "hw/pci/pci_bus.h"
#include "migration/vmstate.h"
#include "system/xen.h"
#include "attach.h"
#include "backend-emulated.h"
#include "bypass.h"
#include "device.h"
#include "function.h"
#include "guest-memory.h"
#include "host-device.h"
#include "host-iommu.h"
#include "irq.h"
#include "notify.h"
#include "passed.h"
#include "queue.h"
#include "registers.h"
#include "reset.h"
#include "vmstate.h"
#include "vmstate-runs.h"
#include "trace.h"

static void pages_removed(void *opaque, uint64_t gfn, uint64_t nr)
{
    XenPVIOMMUState *s = opaque;
    uint64_t *invalidated = &s->core.counter[XEN_PVIOMMU_COUNTER_INVALIDATED];
    uint64_t before;
    bool loading;

    QEMU_LOCK_GUARD(&s->lock);

    before = *invalidated;
    loading = xen_pviommu_load_pages_removed(s, gfn, nr);
    xen_pviommu_queues_pages_removed(s, gfn, nr);
    xen_pviommu_core_invalidate(&s->core, gfn, nr);
    xen_pviommu_passed_commit(s, NULL, NULL);
    if (loading) {
        /* The guest did not do this. */
        *invalidated = before;
    }
}

static void can_pin_changed(void *opaque, uint64_t gfn, uint64_t nr)
{
    XenPVIOMMUState *s = opaque;

    QEMU_LOCK_GUARD(&s->lock);

    xen_pviommu_core_renotify(&s->core, gfn, nr);
    xen_pviommu_passed_commit(s, NULL, NULL);
}

static void unplugged_changed(void *opaque)
{
    xen_pviommu_queues_update(opaque);
}

static const XenPVIOMMUMemoryEvents memory_events = {
    .removed = pages_removed,
    .can_pin_changed = can_pin_changed,
    .unplugged = unplugged_changed,
};

static void front_release(XenPageHolder *holder, const XenPageRange *ranges,
                          unsigned nr_ranges)
{
    XenPVIOMMUState *s = container_of(holder, XenPVIOMMUState, holder);

    for (unsigned i = 0; i < nr_ranges; i++) {
        pages_removed(s, ranges[i].gfn, ranges[i].nr);
    }
}

typedef struct Held {
    XenPVIOMMUBackend *backend;
    GArray *ranges;
} Held;

static void add_held(void *opaque, uint64_t gfn, uint64_t nr)
{
    const Held *h = opaque;

    xen_pviommu_emulated_held(h->backend, gfn, nr, h->ranges);
}

static void front_held(XenPageHolder *holder, GArray *ranges)
{
    XenPVIOMMUState *s = container_of(holder, XenPVIOMMUState, holder);
    Held h = { .backend = s->core.backend, .ranges = ranges };

    QEMU_LOCK_GUARD(&s->lock);

    xen_pviommu_core_held(&s->core, add_held, &h);
    xen_pviommu_queues_held(s, add_held, &h);
}

static int front_store(void *opaque, uint64_t addr, const void *buf, size_t len)
{
    return xen_pviommu_guest_rw(addr, (void *)buf, len, true);
}

static int front_set_queue(void *opaque, XenPVIOMMUContext *ctx,
                           uint64_t addr, uint32_t nr_ops)
{
    return xen_pviommu_queue_set(opaque, ctx, addr, nr_ops);
}

static const XenPVIOMMUGuestMemoryOps memory_ops = {
    .store = front_store,
    .set_queue = front_set_queue,
};

static const PCIIOMMUOps pci_ops = {
    .get_address_space = xen_pviommu_function_address_space,
    .allows_discard = xen_pviommu_function_allows_discard,
    .set_iommu_device = xen_pviommu_host_set_device,
    .unset_iommu_device = xen_pviommu_host_unset_device,
    .remap_msi = xen_pviommu_irq_remap_msi,
};

/* What the machine must be like, and have no other of. */
static bool check_machine(XenPVIOMMUState *s, Error **errp)
{
    Object *machine = qdev_get_machine();
    PCIBus *bus = pci_get_bus(PCI_DEVICE(s));

    if (!object_dynamic_cast(machine, TYPE_PC_MACHINE)) {
        error_setg(errp, "xen-pviommu works on PC machines only");
        error_append_hint(errp, "Use -machine q35, pc or xenfv.\n");
        return false;
    }
    if (!pci_bus_is_root(bus) || bus->parent_dev) {
        error_setg(errp, "xen-pviommu must be on the machine's root bus");
        error_append_hint(errp, "Leave out its bus= option, or name the bus "
                          "that the machine begins with (pcie.0 or pci.0).\n");
        return false;
    }
    if (PC_MACHINE(machine)->iommu || bus->iommu_ops) {
        error_setg(errp, "the machine has an IOMMU already");
        error_append_hint(errp, "Give only one of -device xen-pviommu, "
                          "intel-iommu, amd-iommu and virtio-iommu-pci.\n");
        return false;
    }
    return true;
}

/* Firmware tables are QEMU's to make, and not the toolstack's, as under Xen. */
static bool check_viot(XenPVIOMMUState *s, Error **errp)
{
    MachineState *machine = MACHINE(qdev_get_machine());

    if (s->viot && (!PC_MACHINE(machine)->acpi_build_enabled ||
                    !x86_machine_is_acpi_enabled(X86_MACHINE(machine)))) {
        error_setg(errp, "viot=on: QEMU makes no ACPI tables for this machine");
        error_append_hint(errp, "Leave out viot=on, and load the guest's "
                          "driver before those of its devices%s.\n",
                          xen_enabled() ? "" : ", or use -machine acpi=on");
        return false;
    }
    return true;
}

static bool check_properties(XenPVIOMMUState *s, Error **errp)
{
    const XenPVIOMMULimits *limits = &s->core.limits;

    if (limits->bfn_bits < BFN_TABLE_MIN_BITS ||
        limits->bfn_bits > BFN_TABLE_MAX_BITS) {
        error_setg(errp, "bfn-bits must be between %d and %d",
                   BFN_TABLE_MIN_BITS, BFN_TABLE_MAX_BITS);
        return false;
    }
    if (!limits->max_mappings ||
        limits->max_mappings > 1ull << BFN_TABLE_MAX_BITS) {
        error_setg(errp, "max-mappings must be between 1 and %llu",
                   1ull << BFN_TABLE_MAX_BITS);
        return false;
    }
    if (!limits->max_contexts || limits->max_contexts > UINT16_MAX) {
        error_setg(errp, "max-contexts must be between 1 and %u", UINT16_MAX);
        return false;
    }
    if (limits->max_irqs > XEN_IOMMU_MAX_IRQS) {
        error_setg(errp, "max-interrupts must be between 0 and %u",
                   XEN_IOMMU_MAX_IRQS);
        return false;
    }
    if (!s->max_ops || s->max_ops > XEN_PVIOMMU_MAX_OPS_LIMIT) {
        error_setg(errp, "max-ops must be between 1 and %u",
                   XEN_PVIOMMU_MAX_OPS_LIMIT);
        return false;
    }
    return true;
}

/* What the user asked for, or the most that works here. */
static bool choose_backend(XenPVIOMMUState *s, Error **errp)
{
    Error *err = NULL;

    if (s->backend == XEN_PVIOMMU_BACKEND_KIND_EMULATED) {
        return true;
    }
    if (s->backend == XEN_PVIOMMU_BACKEND_KIND_AUTO && !xen_enabled()) {
        s->backend = XEN_PVIOMMU_BACKEND_KIND_EMULATED;
        return true;
    }
    if (xen_pviommu_host_init(&err)) {
        s->backend = XEN_PVIOMMU_BACKEND_KIND_XEN;
        return true;
    }
    if (s->backend == XEN_PVIOMMU_BACKEND_KIND_XEN) {
        error_propagate(errp, err);
        return false;
    }
    trace_xen_pviommu_backend_emulated(error_get_pretty(err));
    error_free(err);
    s->backend = XEN_PVIOMMU_BACKEND_KIND_EMULATED;
    return true;
}

static void xen_pviommu_realize(PCIDevice *dev, Error **errp)
{
    ERRP_GUARD();
    XenPVIOMMUState *s = XEN_PVIOMMU(dev);

    if (!check_machine(s, errp) || !check_properties(s, errp) ||
        !check_viot(s, errp)) {
        return;
    }

    qemu_rec_mutex_init(&s->lock);
    s->core.backend_ops = &xen_pviommu_emulated_ops;
    s->core.listener_ops = &xen_pviommu_listener_ops;
    s->core.attachment_ops = &xen_pviommu_attachment_ops;
    s->core.memory_ops = &memory_ops;
    s->core.client = s;
    if (!xen_pviommu_core_init(&s->core)) {
        error_setg(errp, "xen-pviommu: there is no memory for its tables");
        error_append_hint(errp, "With a limit of memory, leave some tens of "
                          "MiB beside the guest's.\n");
        goto fail_lock;
    }
    if (!xen_pviommu_reserved_config_init(&s->reserved, pci_get_bus(dev),
                                          s->core.limits.bfn_bits,
                                          s->core.reserved, errp)) {
        goto fail_core;
    }
    if (!choose_backend(s, errp)) {
        goto fail_reserved;
    }

    pci_config_set_device_id(dev->config, s->device_id);
    xen_pviommu_registers_init(s);
    if (msix_init(dev, XEN_PVIOMMU_NR_MSIX_VECTORS,
                  &s->bar, XEN_PVIOMMU_BAR, XEN_PVIOMMU_MSIX_TABLE,
                  &s->bar, XEN_PVIOMMU_BAR, XEN_PVIOMMU_MSIX_PBA, 0, errp)) {
        goto fail_backend;
    }
    xen_pviommu_reset_init(s);
    xen_pviommu_queues_init(s);
    msix_vector_use(dev, XEN_PVIOMMU_MSIX_VECTOR_FAULT);
    pci_register_bar(dev, XEN_PVIOMMU_BAR, PCI_BASE_ADDRESS_SPACE_MEMORY,
                     &s->bar);

    xen_pviommu_faults_init(s);
    xen_pviommu_vmstate_init(s);
    xen_pviommu_bypass_init(s);
    xen_pviommu_notify_init(s);
    xen_pviommu_functions_init(s);
    s->core.backend = xen_pviommu_emulated_new(s->check, dev, &s->lock,
                                               &memory_events, s);
    s->holder.release = front_release;
    s->holder.held = front_held;
    xen_page_holder_register(&s->holder);
    xen_page_release_discarded();

    /* From here on the machine has its IOMMU. */
    pci_setup_iommu(pci_get_bus(dev), &pci_ops, s);
    PC_MACHINE(qdev_get_machine())->iommu = DEVICE(s);
    xen_pviommu_passed_init(s);
    return;

fail_backend:
    xen_pviommu_host_finalize();
fail_reserved:
    xen_pviommu_reserved_config_finalize(&s->reserved);
fail_core:
    xen_pviommu_core_finalize(&s->core);
fail_lock:
    qemu_rec_mutex_destroy(&s->lock);
}

static void xen_pviommu_write_config(PCIDevice *dev, uint32_t addr,
                                     uint32_t value, int len)
{
    XenPVIOMMUState *s = XEN_PVIOMMU(dev);
    bool could = xen_pviommu_may_dma(s);

    pci_default_write_config(dev, addr, value, len);
    xen_pviommu_config_changed(s);
    if (!could && xen_pviommu_may_dma(s)) {
        xen_pviommu_queues_remap(s);
    }
}

static void xen_pviommu_exit(PCIDevice *dev)
{
    XenPVIOMMUState *s = XEN_PVIOMMU(dev);
    PCIBus *bus = pci_get_bus(dev);

    xen_pviommu_passed_finalize(s);
    PC_MACHINE(qdev_get_machine())->iommu = NULL;
    bus->iommu_ops = NULL;
    bus->iommu_opaque = NULL;
    xen_page_holder_unregister(&s->holder);
    xen_pviommu_reset_finalize(s);
    xen_pviommu_queues_finalize(s);
    WITH_QEMU_LOCK_GUARD(&s->lock) {
        /* While there are listeners to notify. */
        xen_pviommu_core_flush_all(&s->core);
    }
    xen_pviommu_functions_finalize(s);
    xen_pviommu_notify_finalize(s);
    xen_pviommu_core_finalize(&s->core);
    xen_pviommu_emulated_free(s->core.backend);
    xen_pviommu_host_finalize();
    xen_pviommu_reserved_config_finalize(&s->reserved);
    xen_pviommu_vmstate_finalize(s);
    xen_pviommu_faults_finalize(s);
    xen_pviommu_bypass_finalize(s);
    msix_uninit(dev, &s->bar, &s->bar);
    qemu_rec_mutex_destroy(&s->lock);
}

/* After all devices: none of them does DMA any more. */
static void xen_pviommu_reset_exit(Object *obj, ResetType type)
{
    xen_pviommu_reset(XEN_PVIOMMU(obj));
}

static const Property xen_pviommu_properties[] = {
    DEFINE_PROP_UINT16("device-id", XenPVIOMMUState, device_id,
                       XEN_PVIOMMU_PCI_DEVICE_ID),
    DEFINE_PROP_BOOL("premap", XenPVIOMMUState, core.premap, true),
    DEFINE_PROP_BOOL("control", XenPVIOMMUState, core.control, true),
    DEFINE_PROP_BOOL("queues", XenPVIOMMUState, core.queues, true),
    DEFINE_PROP_BOOL("identity-contexts", XenPVIOMMUState,
                     core.identity_contexts, true),
    DEFINE_PROP_BOOL("mmio", XenPVIOMMUState, core.mmio, true),
    DEFINE_PROP_UINT32("bfn-bits", XenPVIOMMUState, core.limits.bfn_bits, 36),
    DEFINE_PROP_UINT64("max-mappings", XenPVIOMMUState,
                       core.limits.max_mappings, 1ull << 24),
    DEFINE_PROP_UINT32("max-contexts", XenPVIOMMUState,
                       core.limits.max_contexts, 1024),
    DEFINE_PROP_UINT32("max-interrupts", XenPVIOMMUState,
                       core.limits.max_irqs, 8192),
    DEFINE_PROP_UINT32("max-ops", XenPVIOMMUState, max_ops, 512),
    DEFINE_PROP_BOOL("viot", XenPVIOMMUState, viot, false),
    DEFINE_PROP_BOOL("x-check", XenPVIOMMUState, check, false),
    DEFINE_PROP_ARRAY("reserved-regions", XenPVIOMMUState, reserved.nr_common,
                      reserved.common, qdev_prop_string, char *),
    DEFINE_PROP_ARRAY("device-reserved-regions", XenPVIOMMUState,
                      reserved.nr_devices, reserved.devices, qdev_prop_string,
                      char *),
};

static const struct {
    const char *name;
    const char *description;
} property_descriptions[] = {
    { "backend", "what holds guest pages: emulated; xen, so that physical "
                 "devices can reach them; auto: xen where it works" },
    { "device-id", "PCI device ID (vendor 0x5853)" },
    { "premap", "on: devices see guest memory 1:1 until the guest's driver "
                "takes over; off: nothing is mapped from the start" },
    { "control", "off: the guest may not change anything (-EACCES)" },
    { "queues", "on: the guest may queue maps and unmaps in its memory; for "
                "emulated devices they take no exit each" },
    { "identity-contexts", "on: the guest may have devices see its memory 1:1, "
                           "as before it took over; its driver does so for "
                           "those that were in use then" },
    { "mmio", "on: the guest may map BARs of PCI functions, for DMA from one "
              "device to another" },
    { "bfn-bits", "width of a bus frame number, 12 to 40; bus addresses have "
                  "12 bits more" },
    { "max-mappings", "4 KiB frames mapped or awaiting a flush at a time" },
    { "max-contexts", "address spaces at a time, the default one included" },
    { "max-interrupts", "entries that interrupts of devices are remapped by, "
                        "up to 65536; 0: they are not remapped" },
    { "max-ops", "operations that one doorbell runs, 1 to 65536" },
    { "viot", "on: firmware tables name it as the IOMMU, so that drivers of "
              "devices wait for its driver; a guest without that waits for "
              "ever" },
    { "x-check", "verify references and tables after each doorbell, and end "
                 "QEMU if they are wrong; slow, for tests" },
    { "reserved-regions", "further bus addresses no guest maps and devices "
                          "see 1:1, as FIRST:LAST:TYPE (0 memory, 1 MSI)" },
    { "device-reserved-regions", "the same for one device each, as "
                                 "BUS/SLOT[.FUNCTION]=FIRST:LAST:TYPE" },
};

static int get_backend(Object *obj, Error **errp)
{
    return XEN_PVIOMMU(obj)->backend;
}

static void set_backend(Object *obj, int value, Error **errp)
{
    if (DEVICE(obj)->realized) {
        error_setg(errp, "the backend cannot change any more");
        return;
    }
    XEN_PVIOMMU(obj)->backend = value;
}

static void xen_pviommu_class_init(ObjectClass *klass,
                                   XEN_PVIOMMU_CONST void *data)
{
    DeviceClass *dc = DEVICE_CLASS(klass);
    PCIDeviceClass *k = PCI_DEVICE_CLASS(klass);
    ResettableClass *rc = RESETTABLE_CLASS(klass);

    k->realize = xen_pviommu_realize;
    k->exit = xen_pviommu_exit;
    k->config_write = xen_pviommu_write_config;
    k->vendor_id = XEN_PVIOMMU_PCI_VENDOR_ID;
    k->device_id = XEN_PVIOMMU_PCI_DEVICE_ID;
    k->class_id = XEN_PVIOMMU_PCI_CLASS;
    k->revision = XEN_PVIOMMU_VERSION;
    rc->phases.exit = xen_pviommu_reset_exit;
    dc->desc = "Xen paravirtual IOMMU";
    dc->vmsd = &xen_pviommu_vmstate;
    dc->hotpluggable = false;
    set_bit(DEVICE_CATEGORY_MISC, dc->categories);
    device_class_set_props(dc, xen_pviommu_properties);
    object_class_property_add_enum(klass, "backend", "XenPVIOMMUBackendKind",
                                   &XenPVIOMMUBackendKind_lookup,
                                   get_backend, set_backend);
    for (size_t i = 0; i < ARRAY_SIZE(property_descriptions); i++) {
        object_class_property_set_description(
            klass, property_descriptions[i].name,
            property_descriptions[i].description);
    }
}

static void xen_pviommu_instance_finalize(Object *obj)
{
    XenPVIOMMUState *s = XEN_PVIOMMU(obj);

    g_free(s->reserved.common);
    g_free(s->reserved.devices);
}

static const TypeInfo xen_pviommu_info = {
    .name = TYPE_XEN_PVIOMMU,
    .parent = TYPE_PCI_DEVICE,
    .instance_size = sizeof(XenPVIOMMUState),
    .instance_finalize = xen_pviommu_instance_finalize,
    .class_init = xen_pviommu_class_init,
    .interfaces = (XEN_PVIOMMU_CONST InterfaceInfo[]) {
        { INTERFACE_CONVENTIONAL_PCI_DEVICE },
        { },
    },
};

static void xen_pviommu_register(void)
{
    type_register_static(&xen_pviommu_info);
}

type_init(xen_pviommu_register)
