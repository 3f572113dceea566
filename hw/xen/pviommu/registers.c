/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Registers, and the doorbells of register blocks, which run operations
 */

#include "qemu/osdep.h"
#include "qemu/bswap.h"
#include "system/xen.h"
#include "../compat-memory.h"
#include "core/iommu-op.h"
#include "guest-memory.h"
#include "irq.h"
#include "queue.h"
#include "registers.h"
#include "trace.h"

#define REGS_SIZE       0x1000
#define BLOCKS_SIZE     (XEN_PVIOMMU_MAX_BLOCKS * XEN_PVIOMMU_BLOCK_STRIDE)

/* Operations copied at a time. */
#define OP_CHUNK        64
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
 * Not under Xen, where a page of it can be missing.
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

typedef struct FailedOps {
    XenPVIOMMUState *s;
    struct xen_iommu_op *ops;
} FailedOps;

/* It was done, but a listener could not follow. */
static void op_failed(void *opaque, unsigned n, int status)
{
    const FailedOps *failed = opaque;

    xen_pviommu_guest_error(&failed->s->core, "operation %u: error %d",
                            le16_to_cpu(failed->ops[n].op), status);
    failed->s->core.counter[XEN_PVIOMMU_COUNTER_ERRORS]++;
    failed->ops[n].status = cpu_to_le32(status);
}

static void ring_doorbell(XenPVIOMMUState *s, unsigned i, uint32_t count)
{
    XenPVIOMMUBlock *block = &s->blocks[i];
    uint32_t limit = MIN(count, s->max_ops);
    QEMU_UNINITIALIZED struct xen_iommu_op ops[OP_CHUNK];
    FailedOps failed = { s, ops };
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
    /* Without the lock: some operations release it, for the memory map. */
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
            s->core.listener_ops->begin(s, n);
            n += xen_pviommu_op_execute(&s->core, &ops[n]);
        }
        s->core.listener_ops->commit(s, op_failed, &failed);
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
    uint32_t dropped;

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
        xen_pviommu_faults_count(s, &dropped);
        return dropped;
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
        xen_pviommu_core_accept(&s->core,
                                deposit64(s->core.accepted, 0, 32, value));
        return;
    case XEN_PVIOMMU_REG_ACCEPTED + 4:
        xen_pviommu_core_accept(&s->core,
                                deposit64(s->core.accepted, 32, 32, value));
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
        xen_pviommu_irqs_update(s);
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
    xen_pviommu_irqs_update(s);
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

void xen_pviommu_registers_init(XenPVIOMMUState *s)
{
    memory_region_init(&s->bar, OBJECT(s), "xen-pviommu",
                       XEN_PVIOMMU_BAR_SIZE);
    memory_region_init_io(&s->regs, OBJECT(s), &regs_ops, s,
                          "xen-pviommu-registers", REGS_SIZE);
    memory_region_init_io(&s->blocks_mr, OBJECT(s), &blocks_ops, s,
                          "xen-pviommu-blocks", BLOCKS_SIZE);
    memory_region_add_subregion(&s->bar, 0, &s->regs);
    memory_region_add_subregion(&s->bar, XEN_PVIOMMU_BLOCKS, &s->blocks_mr);
}
