/* SPDX-License-Identifier: MIT */
/*
 * iommu_op: a paravirtual IOMMU for Xen guests
 *
 * One array of 32-byte little-endian operations, executed in order; each gets
 * its own status. The array travels as a hypercall argument or through the
 * register blocks of the PCI function described at the end of this file.
 *
 * This header needs nothing but <stdint.h> (or the equivalent of Linux or Xen)
 * and is shared by QEMU, guest drivers, the hypervisor and the tests. The whole
 * contract is docs/specs/xen-pviommu.rst.
 *
 * Units: BFN, GFN and nr_frames count 4 KiB frames; "ranges", and the addr of a
 * queue, are guest-physical byte addresses.
 */

#ifndef XEN_PUBLIC_IOMMU_OP_H
#define XEN_PUBLIC_IOMMU_OP_H

#if defined(__XEN__)
#include "xen.h"
#elif defined(__KERNEL__)
#include <linux/types.h>
#else
#include <stdint.h>
#endif

#define XEN_IOMMU_PAGE_SHIFT            12

/* The guest itself, as the domid of a map (Xen's DOMID_SELF). */
#define XEN_IOMMU_DOMID_SELF            0x7ff0U

/*
 * Error numbers: the values of Xen's public/errno.h, so that a status means
 * the same on every host and guest. They are stored negated.
 */
#define XEN_IOMMU_EPERM                 1
#define XEN_IOMMU_ENOENT                2
#define XEN_IOMMU_ESRCH                 3
#define XEN_IOMMU_EIO                   5
#define XEN_IOMMU_EAGAIN                11
#define XEN_IOMMU_ENOMEM                12
#define XEN_IOMMU_EACCES                13
#define XEN_IOMMU_EFAULT                14
#define XEN_IOMMU_EBUSY                 16
#define XEN_IOMMU_EEXIST                17
#define XEN_IOMMU_ENODEV                19
#define XEN_IOMMU_EINVAL                22
#define XEN_IOMMU_ENOSPC                28
#define XEN_IOMMU_EOPNOTSUPP            95
#define XEN_IOMMU_EADDRNOTAVAIL         99
#define XEN_IOMMU_ENOBUFS               105

/* Operation codes; 0 is never one, so that a zeroed array does nothing. */
#define XEN_IOMMUOP_query_reserved      1
#define XEN_IOMMUOP_map                 2
#define XEN_IOMMUOP_unmap               3
#define XEN_IOMMUOP_flush               4
#define XEN_IOMMUOP_query_caps          5
#define XEN_IOMMUOP_lookup_bfn          6
#define XEN_IOMMUOP_lookup_gfn          7
#define XEN_IOMMUOP_alloc_context       8
#define XEN_IOMMUOP_free_context        9
#define XEN_IOMMUOP_attach_device       10
#define XEN_IOMMUOP_enable              11
#define XEN_IOMMUOP_set_queue           12
#define XEN_IOMMUOP_alloc_irqs          13
#define XEN_IOMMUOP_set_irq             14
#define XEN_IOMMUOP_free_irqs           15
#define XEN_IOMMUOP_direct_irqs         16
/* Of Xen's hypercall alone, see struct xen_iommu_op_target */
#define XEN_IOMMUOP_target_alloc_context 17
#define XEN_IOMMUOP_target_free_context 18
#define XEN_IOMMUOP_target_attach       19
#define XEN_IOMMUOP_target_map          20
#define XEN_IOMMUOP_target_unmap        21
#define XEN_IOMMUOP_target_flush        22
#define XEN_IOMMUOP_target_reserved     23
#define XEN_IOMMUOP_target_faults       24
#define XEN_IOMMUOP_target_event        25

/*
 * Features. What a guest has not accepted, it must not use: nr_frames, ctx
 * and the operations they bring are then what they were in the interface of
 * 2018, pads that must be zero, and the operations return -EINVAL.
 */
#define XEN_IOMMU_FEATURE_RANGES        (1ULL << 0) /* nr_frames */
#define XEN_IOMMU_FEATURE_CONTEXTS      (1ULL << 1) /* ctx and its operations */
#define XEN_IOMMU_FEATURE_LOOKUP        (1ULL << 2) /* lookup_bfn, _gfn */
#define XEN_IOMMU_FEATURE_QUEUE         (1ULL << 3) /* set_queue, unmap_holes */
#define XEN_IOMMU_FEATURE_IDENTITY      (1ULL << 4) /* alloc_context_identity */
#define XEN_IOMMU_FEATURE_INTERRUPTS    (1ULL << 5) /* *_irq*, enable_irqs */
#define XEN_IOMMU_FEATURE_MMIO          (1ULL << 6) /* map of BARs */
#define XEN_IOMMU_FEATURES_ALL          (XEN_IOMMU_FEATURE_RANGES | \
                                         XEN_IOMMU_FEATURE_CONTEXTS | \
                                         XEN_IOMMU_FEATURE_LOOKUP | \
                                         XEN_IOMMU_FEATURE_QUEUE | \
                                         XEN_IOMMU_FEATURE_IDENTITY | \
                                         XEN_IOMMU_FEATURE_INTERRUPTS | \
                                         XEN_IOMMU_FEATURE_MMIO)

/* The context every device starts in; it is always there. */
#define XEN_IOMMU_CTX_DEFAULT           0

/* A range the guest must not map over. */
struct xen_iommu_reserved_range {
    uint64_t start_bfn;
    uint32_t nr_frames;
    uint32_t flags;
};
#define XEN_IOMMU_RESERVED_msi          (1U << 0) /* for interrupts */

/*
 * query_reserved: the reserved ranges that a map into ctx has to respect,
 * ordered by start_bfn, none overlapping; with the device flag, those of one
 * device instead. -ENOBUFS when there are more than nr_entries; nr_entries
 * always returns how many there are.
 */
#define XEN_IOMMUOP_query_reserved_device (1U << 0)
struct xen_iommu_op_query_reserved {
    uint32_t nr_entries;        /* IN: room in ranges; OUT: how many */
    uint32_t pad;
    uint64_t ranges;            /* IN: where to store them, an address */
    uint32_t sbdf;              /* IN: with the device flag, else 0 */
    uint16_t ctx;               /* IN: without the device flag, else 0 */
    uint16_t pad1;
};

/*
 * map: let devices of ctx reach nr_frames pages from gfn at bfn. A page is
 * mapped at XEN_IOMMU_MAX_PLACES BFNs at the most, in all contexts together; a
 * map of XEN_IOMMU_LARGE_FRAMES or more does not add to a page that is mapped
 * at XEN_IOMMU_MAX_LARGE_PLACES. -ENOSPC beyond.
 *
 * With feature MMIO a page may also be one of a PCI function's memory BAR that
 * is enabled, but not of the IOMMU's own. It is unmapped when the BAR appears
 * elsewhere, and when the function is unplugged.
 */
#define XEN_IOMMU_MAX_PLACES            8000
#define XEN_IOMMU_MAX_LARGE_PLACES      1024
#define XEN_IOMMU_LARGE_FRAMES          512
#define XEN_IOMMUOP_map_readonly        (1U << 0)
struct xen_iommu_op_map {
    uint64_t bfn;
    uint64_t gfn;
    uint16_t domid;             /* whose gfn; XEN_IOMMU_DOMID_SELF */
    uint16_t ctx;
    uint32_t nr_frames;         /* 0 and 1 both mean one */
};

/*
 * unmap: take nr_frames pages at bfn away, whichever maps brought them. With
 * the holes flag (feature QUEUE) frames that are not mapped are passed over.
 * More than XEN_IOMMU_UNMAP_RUNS runs may be unmapped in parts, each of them as
 * a whole or not at all: bfn and nr_frames, IN and OUT, then say what is left.
 */
#define XEN_IOMMUOP_unmap_holes         (1U << 0)
#define XEN_IOMMU_UNMAP_RUNS            1024
struct xen_iommu_op_unmap {
    uint64_t bfn;               /* IN, OUT */
    uint64_t pad;
    uint16_t pad1;
    uint16_t ctx;
    uint32_t nr_frames;         /* IN, OUT */
};

/*
 * flush: when it is done no device holds a translation of what was unmapped
 * in [bfn, bfn + nr_frames), and the pages behind it are let go.
 */
#define XEN_IOMMU_FLUSH_ALL             (~(uint64_t)0) /* bfn; nr_frames 0 */
struct xen_iommu_op_flush {
    uint64_t bfn;
    uint64_t pad;
    uint16_t pad1;
    uint16_t ctx;
    uint32_t nr_frames;
};

/* query_caps: what works here; needs no feature and no privilege. */
struct xen_iommu_op_query_caps {
    uint64_t features;          /* OUT: XEN_IOMMU_FEATURE_*, offered */
    uint32_t ops;               /* OUT: bit n set: operation n can succeed */
    uint16_t max_contexts;      /* OUT: at a time, with the default one */
    uint8_t  bfn_bits;          /* OUT: a BFN is below 1 << bfn_bits */
    uint8_t  state;             /* OUT: XEN_IOMMU_STATE_* */
    uint64_t max_mappings;      /* OUT: frames mapped or not yet flushed */
};
#define XEN_IOMMU_STATE_identity        (1U << 0) /* identity mode */
#define XEN_IOMMU_STATE_control         (1U << 1) /* guest has control */

/*
 * lookup_bfn: what bfn of ctx maps to. OUT: gfn, flags (map's), and nr_frames,
 * how many frames from bfn on continue the same way.
 * lookup_gfn: the lowest BFN not below bfn at which ctx maps gfn. OUT: bfn,
 * flags, and nr_frames as above.
 * What is OUT alone is 0 before.
 * -ENOENT when there is none; lookup_bfn's nr_frames is then how many frames
 * from bfn on are not mapped.
 */
struct xen_iommu_op_lookup {
    uint64_t bfn;
    uint64_t gfn;               /* lookup_bfn: OUT; IN: 0 */
    uint16_t pad;
    uint16_t ctx;
    uint32_t nr_frames;         /* OUT; IN: 0 */
};

/*
 * alloc_context: ctx is OUT. free_context: ctx is IN, and has no devices.
 *
 * With the identity flag (feature IDENTITY) the context shows its devices the
 * machine's memory 1:1, as all devices see it after a reset: with MMIO, and
 * memory that is added later. It cannot be mapped into, looked up or queued
 * for (-EINVAL). To attach a device to it does not enable translation.
 */
#define XEN_IOMMUOP_alloc_context_identity (1U << 0)
struct xen_iommu_op_context {
    uint16_t ctx;
    uint16_t pad;
    uint32_t pad1;
    uint64_t pad2[2];
};

/*
 * attach_device: from now on the device sees ctx, and all it saw before is
 * flushed. Attaching to XEN_IOMMU_CTX_DEFAULT detaches it.
 */
struct xen_iommu_op_attach_device {
    uint32_t sbdf;              /* segment << 16 | bus << 8 | devfn */
    uint16_t ctx;
    uint16_t pad;
    uint64_t pad1[2];
};

/*
 * enable: enable translation, if no modifying operation did so already. With
 * the irqs flag (feature INTERRUPTS) enable the remapping of interrupts
 * instead.
 */
#define XEN_IOMMUOP_enable_irqs         (1U << 0)
struct xen_iommu_op_enable {
    uint64_t pad[3];
};

/*
 * set_queue: give ctx the queue at addr, with room for nr_ops operations, or
 * with both 0 take the one it has away. See struct xen_iommu_queue.
 */
struct xen_iommu_op_set_queue {
    uint64_t addr;              /* a multiple of 4096; RAM in one piece */
    uint64_t pad;
    uint16_t pad1;
    uint16_t ctx;
    uint32_t nr_ops;            /* a power of two, or 0 */
};

/*
 * Interrupts. While remapping is enabled a device raises one by a write of the
 * 4 bytes XEN_IOMMU_IRQ_DATA(n) to XEN_IOMMU_IRQ_ADDR(handle): that of entry
 * handle + n, which was allocated for this device together with entry handle.
 * What is written there otherwise is a fault.
 */
#define XEN_IOMMU_IRQ_ADDR(handle)      (0xfee00000U | (handle) << 2)
#define XEN_IOMMU_IRQ_DATA(n)           (0x40U + (n))
#define XEN_IOMMU_MAX_IRQS              65536U /* handles are below it */

/*
 * alloc_irqs: nr entries that follow each other, masked, for the device sbdf.
 * free_irqs: all of those that were allocated with handle, the first of them.
 */
#define XEN_IOMMU_ALLOC_IRQS            32U /* nr is no more */
struct xen_iommu_op_irqs {
    uint32_t handle;            /* alloc: OUT; free: IN */
    uint32_t sbdf;              /* alloc: IN; free: 0 */
    uint32_t nr;                /* alloc: IN, not 0; free: 0 */
    uint32_t pad;
    uint64_t pad1;
};

/*
 * set_irq: what entry handle raises from now on. With the masked flag nothing,
 * and all but handle is 0.
 */
#define XEN_IOMMUOP_set_irq_masked      (1U << 0)
#define XEN_IOMMUOP_set_irq_logical     (1U << 1) /* dest; else an APIC ID */
#define XEN_IOMMUOP_set_irq_level       (1U << 2) /* else edge-triggered */
#define XEN_IOMMU_IRQ_FIXED             0 /* delivery, as a local APIC has it */
#define XEN_IOMMU_IRQ_LOWEST            1
#define XEN_IOMMU_IRQ_SMI               2
#define XEN_IOMMU_IRQ_NMI               4
#define XEN_IOMMU_IRQ_INIT              5
#define XEN_IOMMU_IRQ_EXTINT            7
#define XEN_IOMMU_IRQ_MIN_VECTOR        16 /* of fixed and lowest */
struct xen_iommu_op_set_irq {
    uint32_t handle;
    uint32_t dest;
    uint8_t vector;
    uint8_t delivery;           /* XEN_IOMMU_IRQ_* */
    uint16_t pad;
    uint32_t pad1;
    uint64_t pad2;
};

/*
 * direct_irqs: with the on flag the interrupts of the device sbdf are not
 * remapped, as for all devices until that is enabled; without it they are.
 */
#define XEN_IOMMUOP_direct_irqs_on      (1U << 0)
struct xen_iommu_op_direct_irqs {
    uint32_t sbdf;
    uint32_t pad;
    uint64_t pad1[2];
};

/*
 * Contexts of a target: a domain whose device model the caller is, and says
 * what the functions reach that are assigned to the target. Context 0 is what
 * they reach without: its memory by GFN. docs/specs/xen-iommu-target.rst has
 * it all.
 *
 * target_alloc_context: ctx and bfn_bits are OUT. target_free_context: ctx has
 * no functions. target_attach: the function, as the host numbers it, is in ctx
 * from now on. target_event: port, OUT, is one of the target that is raised by
 * faults.
 */
#define XEN_IOMMU_TARGET_CONTEXTS       64 /* at a time, without context 0 */
struct xen_iommu_op_target {
    uint16_t domid;             /* the target */
    uint16_t ctx;               /* alloc: OUT; free, attach: IN */
    uint32_t sbdf;              /* attach: IN */
    uint32_t bfn_bits;          /* alloc: OUT */
    uint32_t port;              /* event: OUT */
    uint64_t pad;
};

/*
 * target_map, with map's flag readonly; target_unmap, which passes over frames
 * that are not mapped; target_flush, which lets go of what was unmapped: of
 * all of the context if bfn is XEN_IOMMU_FLUSH_ALL and nr_frames 0. bfn, gfn
 * and nr_frames are IN, and OUT what is left: after an error, those before are
 * done.
 */
struct xen_iommu_op_target_range {
    uint64_t bfn;
    uint64_t gfn;               /* map; else 0 */
    uint16_t domid;             /* the target */
    uint16_t ctx;
    uint32_t nr_frames;
};

/*
 * target_reserved: the ranges where nothing can be mapped while the function
 * is in a context; -ENOBUFS as for query_reserved. target_faults: takes entries
 * out of the target's queue of struct xen_iommu_fault.
 */
#define XEN_IOMMU_TARGET_ANY            0xffffffffU /* sbdf: no function */
#define XEN_IOMMU_TARGET_FAULTS         64 /* room of the queue */
struct xen_iommu_op_target_list {
    uint32_t nr_entries;        /* IN: room in entries; OUT: how many */
    uint16_t domid;             /* the target */
    uint16_t pad;
    uint64_t entries;           /* IN: where to store them, an address */
    uint32_t sbdf;              /* reserved: IN; faults: 0 */
    uint32_t lost;              /* faults: OUT: found no room meanwhile */
};

struct xen_iommu_op {
    uint16_t op;                /* IN: XEN_IOMMUOP_* */
    uint16_t flags;             /* IN: XEN_IOMMUOP_<op>_*; lookup: OUT */
    int32_t status;             /* OUT: 0 or -XEN_IOMMU_E*; IN: ignored */
    union {
        struct xen_iommu_op_query_reserved query_reserved;
        struct xen_iommu_op_map map;
        struct xen_iommu_op_unmap unmap;
        struct xen_iommu_op_flush flush;
        struct xen_iommu_op_query_caps query_caps;
        struct xen_iommu_op_lookup lookup;
        struct xen_iommu_op_context context;
        struct xen_iommu_op_attach_device attach_device;
        struct xen_iommu_op_enable enable;
        struct xen_iommu_op_set_queue set_queue;
        struct xen_iommu_op_irqs irqs;
        struct xen_iommu_op_set_irq set_irq;
        struct xen_iommu_op_direct_irqs direct_irqs;
        struct xen_iommu_op_target target;
        struct xen_iommu_op_target_range target_range;
        struct xen_iommu_op_target_list target_list;
    } u;
};

/*
 * A queue: map, unmap and flush of one context without a call. The guest
 * stores operations, then tail, then - after a full barrier - looks at flags.
 * Without XEN_IOMMU_QUEUE_doorbell there is no more to do: no device looks at
 * the context again before they have run. With it, a call runs them, as every
 * call does first, even one of no operations.
 *
 * Operation n is at ops[n % nr_ops]. tail, head and errors count on and on,
 * modulo 1 << 32, from 0. tail - head is never more than nr_ops. A status is
 * stored only where it is not 0.
 */
struct xen_iommu_queue {
    uint32_t tail;              /* the guest's: operations stored */
    uint32_t pad[15];
    uint32_t head;              /* the device's: operations that ran */
    uint32_t errors;            /* the device's: those of them that failed */
    uint32_t flags;             /* the device's: XEN_IOMMU_QUEUE_* */
    uint32_t pad1[13];
    struct xen_iommu_op ops[];
};
#define XEN_IOMMU_QUEUE_doorbell        (1U << 0) /* may need a call */
#define XEN_IOMMU_QUEUE_dead            (1U << 1) /* not looked at any more */
#define XEN_IOMMU_QUEUE_MAX_OPS         1024
#define XEN_IOMMU_QUEUE_MAX_FRAMES      512 /* of a map or unmap in it */

#ifdef __XEN__
typedef struct xen_iommu_op xen_iommu_op_t;
DEFINE_XEN_GUEST_HANDLE(xen_iommu_op_t);
typedef struct xen_iommu_reserved_range xen_iommu_reserved_range_t;
DEFINE_XEN_GUEST_HANDLE(xen_iommu_reserved_range_t);
#endif

/*
 * The hypercall, __HYPERVISOR_iommu_op: the first argument is the address of
 * the array, the second the number of operations, the others are 0. Returns 0
 * when all of them ran, else a negated error number; those that ran have their
 * status. An address in "ranges" is one of the caller's address space.
 *
 * Others have used its number for interfaces of their own. Two calls tell: with
 * all arguments 0 it does nothing and returns 0; with 1 as the third argument,
 * as above 0 operations, it does nothing and returns -XEN_IOMMU_EINVAL.
 */

/*
 * The PCI function: class 0x0806, one memory BAR. Registers are little-endian;
 * reads of 1, 2, 4 and 8 bytes work, writes take 4 or 8 bytes; 64-bit
 * registers may be accessed as two halves.
 */
#define XEN_PVIOMMU_PCI_VENDOR_ID       0x5853
#define XEN_PVIOMMU_PCI_DEVICE_ID       0x0003
#define XEN_PVIOMMU_PCI_CLASS           0x0806
#define XEN_PVIOMMU_BAR                 0
#define XEN_PVIOMMU_BAR_SIZE            0x4000

#define XEN_PVIOMMU_REG_VERSION         0x00 /* RO 32: XEN_PVIOMMU_VERSION */
#define XEN_PVIOMMU_REG_NR_BLOCKS       0x04 /* RO 32: register blocks */
#define XEN_PVIOMMU_REG_FEATURES        0x08 /* RO 64: offered */
#define XEN_PVIOMMU_REG_ACCEPTED        0x10 /* RW 64: of those */
#define XEN_PVIOMMU_REG_MAX_OPS         0x18 /* RO 32: most a doorbell runs */
#define XEN_PVIOMMU_REG_BFN_BITS        0x1c /* RO 32 */
#define XEN_PVIOMMU_REG_STATE           0x20 /* RO 32: XEN_IOMMU_STATE_* */
#define XEN_PVIOMMU_REG_FAULT_CTRL      0x24 /* RW 32: _FAULT_CTRL_* */
#define XEN_PVIOMMU_REG_FAULT_RING      0x28 /* RW 64: address, aligned to 32 */
#define XEN_PVIOMMU_REG_FAULT_SIZE      0x30 /* RW 32: a power of two */
#define XEN_PVIOMMU_REG_FAULT_HEAD      0x34 /* RW 32: read so far */
#define XEN_PVIOMMU_REG_FAULT_TAIL      0x38 /* RO 32: written so far */
#define XEN_PVIOMMU_REG_FAULT_LOST      0x3c /* RO 32: found no room */
/* RO 64 each, since reset; for 32-bit reads: high, low, high again */
#define XEN_PVIOMMU_REG_COUNTER(n)      (0x80 + 8 * (n))
#define XEN_PVIOMMU_COUNTER_DOORBELLS   0
#define XEN_PVIOMMU_COUNTER_OPS         1
#define XEN_PVIOMMU_COUNTER_ERRORS      2 /* operations that failed */
#define XEN_PVIOMMU_COUNTER_MAPS        3 /* map operations done */
#define XEN_PVIOMMU_COUNTER_UNMAPS      4
#define XEN_PVIOMMU_COUNTER_FLUSHES     5
#define XEN_PVIOMMU_COUNTER_FAULTS      6
#define XEN_PVIOMMU_COUNTER_INVALIDATED 7 /* frames invalidated */
#define XEN_PVIOMMU_COUNTER_MAPPED      8 /* frames mapped now */
#define XEN_PVIOMMU_COUNTER_PENDING     9 /* frames not flushed yet, now */
#define XEN_PVIOMMU_NR_COUNTERS         10

#define XEN_PVIOMMU_VERSION             1

#define XEN_PVIOMMU_FAULT_CTRL_ENABLE   (1U << 0)
#define XEN_PVIOMMU_FAULT_MAX_SIZE      65536U

#define XEN_PVIOMMU_MSIX_TABLE          0x1000
#define XEN_PVIOMMU_MSIX_PBA            0x1800
#define XEN_PVIOMMU_MSIX_VECTOR_FAULT   0
#define XEN_PVIOMMU_NR_MSIX_VECTORS     1

/*
 * Register blocks, so that CPUs do not share one. A call: store the array's
 * address, unless it is there already, and the number of operations to the
 * doorbell. When that store returns, DONE operations have run and have their
 * status; ring again with the rest while there is one and RESULT is 0. The
 * first of the rest may have run in part: it has no status yet, and goes on
 * from where it was if it is left as it is. DONE may be 0.
 */
#define XEN_PVIOMMU_BLOCKS              0x2000
#define XEN_PVIOMMU_BLOCK_STRIDE        64
#define XEN_PVIOMMU_MAX_BLOCKS          64
#define XEN_PVIOMMU_BLOCK_ARRAY         0x00 /* RW 64: of xen_iommu_op[] */
#define XEN_PVIOMMU_BLOCK_DOORBELL      0x08 /* WO 32: how many operations */
#define XEN_PVIOMMU_BLOCK_DONE          0x0c /* RO 32 */
#define XEN_PVIOMMU_BLOCK_RESULT        0x10 /* RO 32: 0 or -XEN_IOMMU_E* */

/* An entry of the fault ring. */
struct xen_iommu_fault {
    uint64_t addr;              /* the bus address, in bytes */
    uint32_t sbdf;              /* of the device, as its bus is numbered now */
    uint16_t ctx;               /* the context it was in */
    uint16_t flags;             /* XEN_IOMMU_FAULT_* */
    uint32_t reason;            /* XEN_IOMMU_FAULT_REASON_* */
    uint32_t pad;
    uint64_t pad1;
};
#define XEN_IOMMU_FAULT_write           (1U << 0) /* else a read */
#define XEN_IOMMU_FAULT_REASON_unmapped 1
#define XEN_IOMMU_FAULT_REASON_readonly 2
#define XEN_IOMMU_FAULT_REASON_range    3 /* no BFN: beyond bfn_bits */
#define XEN_IOMMU_FAULT_REASON_irq      4 /* no interrupt of this device's */
#define XEN_IOMMU_FAULT_REASON_masked   5 /* one that is masked */

#ifdef __XEN__
typedef struct xen_iommu_fault xen_iommu_fault_t;
DEFINE_XEN_GUEST_HANDLE(xen_iommu_fault_t);
#endif

#endif /* XEN_PUBLIC_IOMMU_OP_H */
