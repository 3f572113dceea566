/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The PCI front of the paravirtual IOMMU: registers, doorbells, properties
 */

#include "qemu/osdep.h"
#include "qemu/bswap.h"
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
#include "core/iommu-op.h"
#include "notify.h"
#include "queue.h"
#include "trace.h"

#define REGS_SIZE       0x1000
#define BLOCKS_SIZE     (XEN_PVIOMMU_MAX_BLOCKS * XEN_PVIOMMU_BLOCK_STRIDE)

/* Operations copied at a time. */
#define OP_CHUNK        64
/* Between two times that a part of what a reset left is freed. */
#define REAP_MS         2
/* See xen_pviommu_core_work(): a few milliseconds. */
#define DOORBELL_WORK   (1u << 18)

/*
 * Copy operations in, if what becomes of them can be stored again. As many
 * of the @nr as there is RAM for; 0 if there is none.
 */
static unsigned fetch_ops(uint64_t addr, struct xen_iommu_op *ops, unsigned nr)
{
    const MemTxAttrs ram_only = { .memory = true };

    for (;; nr = 1) {
        size_t len = nr * sizeof(*ops);

        if (address_space_access_valid(&address_space_memory, addr, len, true,
                                       ram_only) &&
            !xen_pviommu_guest_rw(addr, ops, len, false)) {
            return nr;
        }
        if (nr <= 1) {
            return 0;
        }
    }
}

/*
 * Find all of an array that is one piece of RAM, once, and not for each copy.
 * Not under Xen, where a piece can have holes.
 */
static bool find_array(MemoryRegionCache *array, uint64_t addr, uint32_t nr)
{
    uint64_t len = nr * sizeof(struct xen_iommu_op);

    address_space_cache_init_empty(array);
    if (!nr || addr + len < addr || xen_enabled()) {
        return false;
    }
    return address_space_cache_init(array, &address_space_memory, addr, len,
                                    true) == len && array->ptr;
}

static void ring_doorbell(XenPVIOMMUState *s, unsigned i, uint32_t count)
{
    XenPVIOMMUBlock *block = &s->blocks[i];
    uint32_t limit = MIN(count, s->max_ops);
    QEMU_UNINITIALIZED struct xen_iommu_op ops[OP_CHUNK];
    MemoryRegionCache array;
    uint64_t end;
    bool whole;

    trace_xen_pviommu_doorbell(i, block->array, count);
    WITH_QEMU_LOCK_GUARD(&s->lock) {
        end = xen_pviommu_core_work(&s->core) + DOORBELL_WORK;
        s->core.counter[XEN_PVIOMMU_COUNTER_DOORBELLS]++;
    }
    block->done = 0;
    block->result = xen_pviommu_may_dma(s) ? 0 : -XEN_IOMMU_EIO;
    /* Not locked: an operation that changes the memory map lets go of it. */
    if (!xen_pviommu_queues_run(s, end)) {
        /* They are ahead of the array. */
        limit = 0;
    }

    QEMU_LOCK_GUARD(&s->lock);

    whole = find_array(&array, block->array, block->result ? 0 : limit);

    while (!block->result && block->done < limit &&
           xen_pviommu_core_work(&s->core) < end) {
        uint64_t addr = block->array + (uint64_t)block->done * sizeof(ops[0]);
        hwaddr offset = addr - block->array;
        unsigned nr = MIN(limit - block->done, OP_CHUNK);
        unsigned n = 0, nr_written = 0;

        if (whole) {
            address_space_read_cached(&array, offset, ops,
                                      nr * sizeof(ops[0]));
        } else {
            nr = fetch_ops(addr, ops, nr);
        }

        while (n < nr && xen_pviommu_core_work(&s->core) < end) {
            nr_written = n + 1;
            n += xen_pviommu_op_execute(&s->core, &ops[n]);
        }
        block->done += n;
        /* What is left of one that is unfinished is in guest memory, too. */
        if (whole) {
            address_space_write_cached(&array, offset, ops,
                                       nr_written * sizeof(ops[0]));
            address_space_cache_invalidate(&array, offset,
                                           nr_written * sizeof(ops[0]));
        } else if (!nr_written ||
                   xen_pviommu_guest_rw(addr, ops, nr_written * sizeof(ops[0]),
                                        true)) {
            block->result = -XEN_IOMMU_EFAULT;
        }
    }
    address_space_cache_destroy(&array);
    if (block->result) {
        xen_pviommu_guest_error(&s->core, "block %u, array 0x%" PRIx64
                                ": error %d after %u operations", i,
                                block->array, block->result, block->done);
    }
    trace_xen_pviommu_done(i, block->done, block->result);
    xen_pviommu_queues_update(s);
    if (s->check) {
        xen_pviommu_core_check(&s->core);
    }
}

static uint64_t read_counter(XenPVIOMMUState *s, unsigned n)
{
    switch (n) {
    case XEN_PVIOMMU_COUNTER_FAULTS:
        return xen_pviommu_faults_count(s, NULL);
    case XEN_PVIOMMU_COUNTER_MAPPED:
        return s->core.mapped_frames;
    case XEN_PVIOMMU_COUNTER_PENDING:
        return s->core.pending_frames;
    default:
        return n < XEN_PVIOMMU_NR_EVENT_COUNTERS ? s->core.counter[n] : 0;
    }
}

static uint32_t read_reg32(XenPVIOMMUState *s, hwaddr reg)
{
    const XenPVIOMMUFaults *f = &s->faults;
    uint32_t lost;

    if (reg >= XEN_PVIOMMU_REG_COUNTER(0) &&
        reg < XEN_PVIOMMU_REG_COUNTER(XEN_PVIOMMU_NR_COUNTERS)) {
        uint64_t value = read_counter(s,
                                      (reg - XEN_PVIOMMU_REG_COUNTER(0)) / 8);

        return reg & 4 ? value >> 32 : value;
    }
    switch (reg) {
    case XEN_PVIOMMU_REG_VERSION:
        return XEN_PVIOMMU_VERSION;
    case XEN_PVIOMMU_REG_NR_BLOCKS:
        return XEN_PVIOMMU_MAX_BLOCKS;
    case XEN_PVIOMMU_REG_FEATURES:
        return (uint32_t)xen_pviommu_core_features(&s->core);
    case XEN_PVIOMMU_REG_FEATURES + 4:
        return xen_pviommu_core_features(&s->core) >> 32;
    case XEN_PVIOMMU_REG_ACCEPTED:
        return s->core.accepted;
    case XEN_PVIOMMU_REG_ACCEPTED + 4:
        return s->core.accepted >> 32;
    case XEN_PVIOMMU_REG_MAX_OPS:
        return s->max_ops;
    case XEN_PVIOMMU_REG_BFN_BITS:
        return s->core.limits.bfn_bits;
    case XEN_PVIOMMU_REG_STATE:
        return xen_pviommu_core_state(&s->core);
    case XEN_PVIOMMU_REG_FAULT_CTRL:
        return f->ctrl;
    case XEN_PVIOMMU_REG_FAULT_RING:
        return f->ring;
    case XEN_PVIOMMU_REG_FAULT_RING + 4:
        return f->ring >> 32;
    case XEN_PVIOMMU_REG_FAULT_SIZE:
        return f->size;
    case XEN_PVIOMMU_REG_FAULT_HEAD:
        return f->head;
    case XEN_PVIOMMU_REG_FAULT_TAIL:
        return f->tail;
    case XEN_PVIOMMU_REG_FAULT_LOST:
        xen_pviommu_faults_count(s, &lost);
        return lost;
    default:
        return 0;
    }
}

static void write_fault_ctrl(XenPVIOMMUState *s, uint32_t value)
{
    const XenPVIOMMUFaults *f = &s->faults;

    if (!xen_pviommu_fault_set_ctrl(s, value)) {
        xen_pviommu_guest_error(&s->core, "fault ring 0x%" PRIx64 ", %u "
                                "entries, control 0x%x: not valid",
                                f->ring, f->size, value);
    }
}

static void write_reg32(XenPVIOMMUState *s, hwaddr reg, uint32_t value)
{
    XenPVIOMMUFaults *f = &s->faults;
    bool ring_fixed = f->ctrl & XEN_PVIOMMU_FAULT_CTRL_ENABLE;

    switch (reg) {
    case XEN_PVIOMMU_REG_ACCEPTED:
        s->core.accepted = deposit64(s->core.accepted, 0, 32, value) &
                           xen_pviommu_core_features(&s->core);
        return;
    case XEN_PVIOMMU_REG_ACCEPTED + 4:
        s->core.accepted = deposit64(s->core.accepted, 32, 32, value) &
                           xen_pviommu_core_features(&s->core);
        return;
    case XEN_PVIOMMU_REG_FAULT_CTRL:
        write_fault_ctrl(s, value);
        return;
    case XEN_PVIOMMU_REG_FAULT_HEAD:
        f->head = value;
        xen_pviommu_faults_kick(s);
        return;
    case XEN_PVIOMMU_REG_FAULT_RING:
        if (!ring_fixed) {
            f->ring = deposit64(f->ring, 0, 32, value);
            return;
        }
        break;
    case XEN_PVIOMMU_REG_FAULT_RING + 4:
        if (!ring_fixed) {
            f->ring = deposit64(f->ring, 32, 32, value);
            return;
        }
        break;
    case XEN_PVIOMMU_REG_FAULT_SIZE:
        if (!ring_fixed) {
            f->size = value;
            return;
        }
        break;
    }
    xen_pviommu_guest_error(&s->core, "write of 0x%x to register 0x%"
                            HWADDR_PRIx " ignored", value, reg);
}

static uint32_t read_block32(XenPVIOMMUState *s, hwaddr addr)
{
    const XenPVIOMMUBlock *block = &s->blocks[addr / XEN_PVIOMMU_BLOCK_STRIDE];

    switch (addr % XEN_PVIOMMU_BLOCK_STRIDE) {
    case XEN_PVIOMMU_BLOCK_ARRAY:
        return block->array;
    case XEN_PVIOMMU_BLOCK_ARRAY + 4:
        return block->array >> 32;
    case XEN_PVIOMMU_BLOCK_DONE:
        return block->done;
    case XEN_PVIOMMU_BLOCK_RESULT:
        return block->result;
    default:
        return 0;
    }
}

static void write_block32(XenPVIOMMUState *s, hwaddr addr, uint32_t value)
{
    unsigned i = addr / XEN_PVIOMMU_BLOCK_STRIDE;
    XenPVIOMMUBlock *block = &s->blocks[i];

    switch (addr % XEN_PVIOMMU_BLOCK_STRIDE) {
    case XEN_PVIOMMU_BLOCK_ARRAY:
        block->array = deposit64(block->array, 0, 32, value);
        return;
    case XEN_PVIOMMU_BLOCK_ARRAY + 4:
        block->array = deposit64(block->array, 32, 32, value);
        return;
    case XEN_PVIOMMU_BLOCK_DOORBELL:
        ring_doorbell(s, i, value);
        return;
    case XEN_PVIOMMU_BLOCK_DOORBELL + 4:
        /* The upper half of a doorbell written in 64 bits. */
        return;
    }
    xen_pviommu_guest_error(&s->core, "write of 0x%x to block register 0x%"
                            HWADDR_PRIx " ignored", value, addr);
}

/* Both register regions are 32-bit registers; other widths come down to it. */
static uint64_t read_as_32(XenPVIOMMUState *s, hwaddr addr, unsigned size,
                           uint32_t (*read32)(XenPVIOMMUState *, hwaddr))
{
    uint64_t value = read32(s, addr & ~3);

    if (size == 8) {
        value |= (uint64_t)read32(s, addr + 4) << 32;
    } else {
        value = extract64(value, (addr & 3) * 8, size * 8);
    }
    return value;
}

static void write_as_32(XenPVIOMMUState *s, hwaddr addr, uint64_t value,
                        unsigned size,
                        void (*write32)(XenPVIOMMUState *, hwaddr, uint32_t))
{
    if (size < 4) {
        xen_pviommu_guest_error(&s->core, "%u-byte write to register 0x%"
                                HWADDR_PRIx " ignored", size, addr);
        return;
    }
    write32(s, addr, value);
    if (size == 8) {
        write32(s, addr + 4, value >> 32);
    }
}

static uint64_t regs_read(void *opaque, hwaddr addr, unsigned size)
{
    XenPVIOMMUState *s = opaque;
    uint64_t value;

    WITH_QEMU_LOCK_GUARD(&s->lock) {
        value = read_as_32(s, addr, size, read_reg32);
    }
    trace_xen_pviommu_reg_read(addr, size, value);
    return value;
}

static void regs_write(void *opaque, hwaddr addr, uint64_t value, unsigned size)
{
    XenPVIOMMUState *s = opaque;

    trace_xen_pviommu_reg_write(addr, size, value);
    WITH_QEMU_LOCK_GUARD(&s->lock) {
        write_as_32(s, addr, value, size, write_reg32);
    }
}

static uint64_t blocks_read(void *opaque, hwaddr addr, unsigned size)
{
    return read_as_32(opaque, addr, size, read_block32);
}

static void blocks_write(void *opaque, hwaddr addr, uint64_t value,
                         unsigned size)
{
    write_as_32(opaque, addr, value, size, write_block32);
}

static const MemoryRegionOps regs_ops = {
    .read = regs_read,
    .write = regs_write,
    .endianness = DEVICE_LITTLE_ENDIAN,
    .valid = { .min_access_size = 1, .max_access_size = 8 },
    .impl = { .min_access_size = 1, .max_access_size = 8 },
};

static const MemoryRegionOps blocks_ops = {
    .read = blocks_read,
    .write = blocks_write,
    .endianness = DEVICE_LITTLE_ENDIAN,
    .valid = { .min_access_size = 1, .max_access_size = 8 },
    .impl = { .min_access_size = 1, .max_access_size = 8 },
};

static void pages_lost(void *opaque, uint64_t gfn, uint64_t nr)
{
    XenPVIOMMUState *s = opaque;
    uint64_t *invalidated = &s->core.counter[XEN_PVIOMMU_COUNTER_INVALIDATED];
    uint64_t before;
    bool loading;

    QEMU_LOCK_GUARD(&s->lock);

    before = *invalidated;
    loading = xen_pviommu_vmstate_lost(s, gfn, nr);
    xen_pviommu_queues_lost(s, gfn, nr);
    xen_pviommu_core_invalidate(&s->core, gfn, nr);
    if (loading) {
        /* The guest did not do this. */
        *invalidated = before;
    }
}

/* What a reset left is freed little by little. */
static void reap(void *opaque)
{
    XenPVIOMMUState *s = opaque;

    QEMU_LOCK_GUARD(&s->lock);

    if (xen_pviommu_core_reap(&s->core, XEN_PVIOMMU_REAP_NODES, true)) {
        timer_mod(&s->reap_timer,
                  qemu_clock_get_ms(QEMU_CLOCK_REALTIME) + REAP_MS);
    }
}

static void holes_changed(void *opaque)
{
    xen_pviommu_queues_update(opaque);
}

static void invalidate_pages(XenInvalidateClient *client,
                             const XenPageRange *ranges, unsigned nr_ranges)
{
    XenPVIOMMUState *s = container_of(client, XenPVIOMMUState, invalidate);

    for (unsigned i = 0; i < nr_ranges; i++) {
        pages_lost(s, ranges[i].gfn, ranges[i].nr);
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

static void held(XenInvalidateClient *client, GArray *ranges)
{
    XenPVIOMMUState *s = container_of(client, XenPVIOMMUState, invalidate);
    Held h = { .backend = s->core.backend, .ranges = ranges };

    QEMU_LOCK_GUARD(&s->lock);

    xen_pviommu_core_held(&s->core, add_held, &h);
    xen_pviommu_queues_held(s, add_held, &h);
}

static bool covers(XenInvalidateClient *client, const AddressSpace *as)
{
    return xen_pviommu_function_covers(container_of(client, XenPVIOMMUState,
                                               invalidate), as);
}

static int store(void *opaque, uint64_t addr, const void *buf, size_t len)
{
    return xen_pviommu_guest_rw(addr, (void *)buf, len, true);
}

static int set_queue(void *opaque, XenPVIOMMUContext *ctx, uint64_t addr,
                     uint32_t nr_ops)
{
    return xen_pviommu_queue_set(opaque, ctx, addr, nr_ops);
}

static const XenPVIOMMUGuestMemoryOps memory_ops = {
    .store = store,
    .set_queue = set_queue,
};

static const PCIIOMMUOps pci_ops = {
    .get_address_space = xen_pviommu_function_address_space,
    .set_iommu_device = xen_pviommu_host_set_device,
    .unset_iommu_device = xen_pviommu_host_unset_device,
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
    memory_region_init(&s->bar, OBJECT(s), "xen-pviommu",
                       XEN_PVIOMMU_BAR_SIZE);
    memory_region_init_io(&s->regs, OBJECT(s), &regs_ops, s,
                          "xen-pviommu-registers", REGS_SIZE);
    memory_region_init_io(&s->blocks_mr, OBJECT(s), &blocks_ops, s,
                          "xen-pviommu-blocks", BLOCKS_SIZE);
    memory_region_add_subregion(&s->bar, 0, &s->regs);
    memory_region_add_subregion(&s->bar, XEN_PVIOMMU_BLOCKS, &s->blocks_mr);
    if (msix_init(dev, XEN_PVIOMMU_NR_MSIX_VECTORS,
                  &s->bar, XEN_PVIOMMU_BAR, XEN_PVIOMMU_MSIX_TABLE,
                  &s->bar, XEN_PVIOMMU_BAR, XEN_PVIOMMU_MSIX_PBA, 0, errp)) {
        goto fail_backend;
    }
    timer_init_ms(&s->reap_timer, QEMU_CLOCK_REALTIME, reap, s);
    xen_pviommu_queues_init(s);
    msix_vector_use(dev, XEN_PVIOMMU_MSIX_VECTOR_FAULT);
    pci_register_bar(dev, XEN_PVIOMMU_BAR, PCI_BASE_ADDRESS_SPACE_MEMORY,
                     &s->bar);

    xen_pviommu_faults_init(s);
    xen_pviommu_vmstate_init(s);
    xen_pviommu_bypass_init(s);
    xen_pviommu_notify_init(s);
    xen_pviommu_functions_init(s);
    s->core.backend = xen_pviommu_emulated_new(s->check, &s->lock, pages_lost,
                                               holes_changed, s);
    s->invalidate.invalidate = invalidate_pages;
    s->invalidate.covers = covers;
    s->invalidate.held = held;
    xen_invalidate_register(&s->invalidate);

    /* From here on the machine has its IOMMU. */
    pci_setup_iommu(pci_get_bus(dev), &pci_ops, s);
    PC_MACHINE(qdev_get_machine())->iommu = DEVICE(s);
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
        xen_pviommu_queues_settle(s);
    }
}

static void xen_pviommu_exit(PCIDevice *dev)
{
    XenPVIOMMUState *s = XEN_PVIOMMU(dev);
    PCIBus *bus = pci_get_bus(dev);

    PC_MACHINE(qdev_get_machine())->iommu = NULL;
    bus->iommu_ops = NULL;
    bus->iommu_opaque = NULL;
    xen_invalidate_unregister(&s->invalidate);
    timer_del(&s->reap_timer);
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

void xen_pviommu_reset(XenPVIOMMUState *s)
{
    trace_xen_pviommu_reset();
    xen_pviommu_config_changed(s);
    WITH_QEMU_LOCK_GUARD(&s->lock) {
        xen_pviommu_vmstate_reset(s);
        /* First, as what tells of one that goes is stored in the others. */
        xen_pviommu_queues_remove(s);
        xen_pviommu_core_reset(&s->core);
    }
    timer_mod(&s->reap_timer, qemu_clock_get_ms(QEMU_CLOCK_REALTIME));
    xen_pviommu_attach_update(s);
    xen_pviommu_faults_reset(s);
    memset(s->blocks, 0, sizeof(s->blocks));
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
    DEFINE_PROP_UINT32("bfn-bits", XenPVIOMMUState, core.limits.bfn_bits, 36),
    DEFINE_PROP_UINT64("max-mappings", XenPVIOMMUState,
                       core.limits.max_mappings, 1ull << 24),
    DEFINE_PROP_UINT32("max-contexts", XenPVIOMMUState,
                       core.limits.max_contexts, 1024),
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
    { "bfn-bits", "width of a bus frame number, 12 to 40; bus addresses have "
                  "12 bits more" },
    { "max-mappings", "4 KiB frames mapped or awaiting a flush at a time" },
    { "max-contexts", "address spaces at a time, the default one included" },
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
