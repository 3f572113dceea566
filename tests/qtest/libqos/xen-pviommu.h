/*
 * libqos driver for xen-pviommu
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef TESTS_LIBQOS_XEN_PVIOMMU_H
#define TESTS_LIBQOS_XEN_PVIOMMU_H

#include "libqtest.h"
#include "libqos/firmware.h"
#include "libqos/pci.h"
#include "hw/xen/interface/iommu_op.h"
#include "../../assert-status.h"
#include "../../op-codes.h"

#define PVIOMMU_PAGE            (1u << XEN_IOMMU_PAGE_SHIFT)

/* Where xen-pviommu is on the root bus. */
#define PVIOMMU_SLOT            0x10

/* The machine's RAM, in bytes and in pages; all of it is below 4 GiB. */
#define PVIOMMU_RAM             (256 * 1024 * 1024)
#define PVIOMMU_RAM_GFNS        (PVIOMMU_RAM / PVIOMMU_PAGE)

/* What of it the driver uses: arrays of operations, and the fault ring. */
#define PVIOMMU_OPS_ADDR        0x01000000
#define PVIOMMU_RING_ADDR       0x01800000
/* Queues of operations, each at a multiple of the stride. */
#define PVIOMMU_QUEUE_ADDR      0x01b00000
#define PVIOMMU_QUEUE_STRIDE    0x00010000
/* Pages that are the test's own: from here to the end. */
#define PVIOMMU_FREE_GFN        0x2000

/* The firmware that all machines get; each byte tells where it is. */
#define PVIOMMU_BIOS_SIZE       FIRMWARE_SIZE
#define PVIOMMU_BIOS_ADDR       (0x100000000ull - PVIOMMU_BIOS_SIZE)
#define PVIOMMU_BIOS_BYTE(i)    ((uint8_t)((i) * 7 + ((i) >> 8)))

/*
 * Microseconds that the main loop or a thread may take for what it was asked
 * to do: on a machine that has much else to do
 */
#define PVIOMMU_WAIT_US         (100 * G_USEC_PER_SEC)

typedef struct QXenPVIOMMU {
    QTestState *qts;
    QPCIBus *pci;
    QPCIDevice dev;
    QPCIBar bar;
} QXenPVIOMMU;

/** pviommu_machine_args: a machine that has what all of them need */
char *pviommu_machine_args(const char *machine);

/**
 * pviommu_args: a machine with the device in PVIOMMU_SLOT
 *
 * x-check=on, unless @props say no: references are audited after each doorbell.
 *
 * @props: its properties, from "name=value" on, or JSON from "\"name\":" on,
 *         or NULL
 * @extra: more of the command line, or NULL
 */
char *pviommu_args(const char *machine, const char *props, const char *extra);

/** pviommu_new: the driver for a machine that runs */
QXenPVIOMMU *pviommu_new(QTestState *qts);

/** pviommu_start: the machine of pviommu_args(), and the driver */
QXenPVIOMMU *pviommu_start(const char *machine, const char *props,
                           const char *extra);

/** pviommu_start_accepted: the same, with all features accepted */
QXenPVIOMMU *pviommu_start_accepted(const char *machine, const char *props,
                                    const char *extra);

/** pviommu_free: the driver without its machine */
void pviommu_free(QXenPVIOMMU *iommu);

/** pviommu_quit: the driver and its machine */
void pviommu_quit(QXenPVIOMMU *iommu);

/** pviommu_probe: give the device its BAR, and let it do DMA */
void pviommu_probe(QXenPVIOMMU *iommu);

/** pviommu_reset: reset the machine, and probe again */
void pviommu_reset(QXenPVIOMMU *iommu);

/*
 * Registers of the host bridge, by which memory below 1 MiB is RAM or ROM:
 * register 0 is that of 0xf0000-0xfffff.
 */
#define PVIOMMU_PAM_ROM         0x00
#define PVIOMMU_PAM_READ_RAM    0x10    /* writes go to ROM */
#define PVIOMMU_PAM_WRITE_RAM   0x20    /* reads come from ROM */
#define PVIOMMU_PAM_RAM         0x30

/** pviommu_set_pam: of pc or q35; all of RAM becomes another section by it */
void pviommu_set_pam(QXenPVIOMMU *iommu, unsigned nr, uint8_t value);

/** pviommu_moved: go on with the same machine after a migration */
void pviommu_moved(QXenPVIOMMU *iommu, QTestState *qts);

/* Registers; reg is an offset in the BAR. */
uint32_t pviommu_readl(QXenPVIOMMU *iommu, uint64_t reg);
uint64_t pviommu_readq(QXenPVIOMMU *iommu, uint64_t reg);
void pviommu_writel(QXenPVIOMMU *iommu, uint64_t reg, uint32_t value);
void pviommu_writeq(QXenPVIOMMU *iommu, uint64_t reg, uint64_t value);
uint64_t pviommu_counter(QXenPVIOMMU *iommu, unsigned n);
void pviommu_accept(QXenPVIOMMU *iommu, uint64_t features);
void pviommu_set_bus_master(QXenPVIOMMU *iommu, bool on);

/**
 * pviommu_ring: one doorbell
 *
 * Returns: the block's RESULT; DONE is in @done, which may be NULL.
 */
int32_t pviommu_ring(QXenPVIOMMU *iommu, unsigned block, uint64_t addr,
                     uint32_t count, uint32_t *done);

/** pviommu_store_ops, pviommu_load_ops: an array of them in guest memory */
void pviommu_store_ops(QXenPVIOMMU *iommu, uint64_t addr,
                       const struct xen_iommu_op *ops, unsigned nr);
void pviommu_load_ops(QXenPVIOMMU *iommu, uint64_t addr,
                      struct xen_iommu_op *ops, unsigned nr);

/**
 * pviommu_run: run @ops as a driver would, all of them
 *
 * With queues there may be calls that run nothing but a part of those.
 */
void pviommu_run(QXenPVIOMMU *iommu, struct xen_iommu_op *ops, unsigned nr);

/** pviommu_op: run one; returns its status */
int32_t pviommu_op(QXenPVIOMMU *iommu, struct xen_iommu_op *op);

/** pviommu_run_one: the same, of which nothing else is wanted */
int32_t pviommu_run_one(QXenPVIOMMU *iommu, struct xen_iommu_op op);

/* What status says; a status the device has not written fails the test. */
#define PVIOMMU_STATUS_NONE     0x5a5a5a5a
int32_t pviommu_status(const struct xen_iommu_op *op);

/* One operation, in the order of its bytes on the wire. */
struct xen_iommu_op pviommu_op_map(uint16_t ctx, uint64_t bfn, uint64_t gfn,
                                   uint32_t nr, uint16_t flags);
struct xen_iommu_op pviommu_op_unmap(uint16_t ctx, uint64_t bfn, uint32_t nr);
struct xen_iommu_op pviommu_op_unmap_skip(uint16_t ctx, uint64_t bfn,
                                          uint32_t nr);
struct xen_iommu_op pviommu_op_flush(uint16_t ctx, uint64_t bfn, uint32_t nr);
struct xen_iommu_op pviommu_op_query_caps(void);
struct xen_iommu_op pviommu_op_query_reserved(uint16_t ctx, uint32_t room,
                                              uint64_t ranges);
struct xen_iommu_op pviommu_op_lookup_bfn(uint16_t ctx, uint64_t bfn);
struct xen_iommu_op pviommu_op_lookup_gfn(uint16_t ctx, uint64_t gfn,
                                          uint64_t from_bfn);
struct xen_iommu_op pviommu_op_alloc(void);
struct xen_iommu_op pviommu_op_free(uint16_t ctx);
struct xen_iommu_op pviommu_op_attach(uint32_t sbdf, uint16_t ctx);
struct xen_iommu_op pviommu_op_enable(void);
struct xen_iommu_op pviommu_op_set_queue(uint16_t ctx, uint64_t addr,
                                         uint32_t nr_ops);

struct xen_iommu_op pviommu_op_alloc_irqs(uint32_t sbdf, uint32_t nr);
struct xen_iommu_op pviommu_op_set_irq(uint32_t handle, uint32_t dest,
                                       uint8_t vector, uint8_t delivery,
                                       uint16_t flags);
struct xen_iommu_op pviommu_op_free_irqs(uint32_t handle);
struct xen_iommu_op pviommu_op_direct_irqs(uint32_t sbdf, bool on);

/* The same, run at once; they return the status. */
int32_t pviommu_map(QXenPVIOMMU *iommu, uint16_t ctx, uint64_t bfn,
                    uint64_t gfn, uint32_t nr, uint16_t flags);
int32_t pviommu_unmap(QXenPVIOMMU *iommu, uint16_t ctx, uint64_t bfn,
                      uint32_t nr);
int32_t pviommu_flush(QXenPVIOMMU *iommu, uint16_t ctx, uint64_t bfn,
                      uint32_t nr);
int32_t pviommu_flush_all(QXenPVIOMMU *iommu, uint16_t ctx);
int32_t pviommu_free_context(QXenPVIOMMU *iommu, uint16_t ctx);
int32_t pviommu_attach(QXenPVIOMMU *iommu, uint32_t sbdf, uint16_t ctx);
int32_t pviommu_enable(QXenPVIOMMU *iommu);
int32_t pviommu_enable_irqs(QXenPVIOMMU *iommu);
int32_t pviommu_alloc_irqs(QXenPVIOMMU *iommu, uint32_t sbdf, uint32_t nr,
                           uint32_t *handle);
int32_t pviommu_set_irq(QXenPVIOMMU *iommu, uint32_t handle, uint32_t dest,
                        uint8_t vector, uint8_t delivery, uint16_t flags);
int32_t pviommu_free_irqs(QXenPVIOMMU *iommu, uint32_t handle);
int32_t pviommu_direct_irqs(QXenPVIOMMU *iommu, uint32_t sbdf, bool on);
int32_t pviommu_unmap_skip(QXenPVIOMMU *iommu, uint16_t ctx, uint64_t bfn,
                           uint32_t nr);
int32_t pviommu_set_queue(QXenPVIOMMU *iommu, uint16_t ctx, uint64_t addr,
                          uint32_t nr_ops);
/** pviommu_alloc_context: the context, which there has to be */
uint16_t pviommu_alloc_context(QXenPVIOMMU *iommu);

/** pviommu_assert_mapped: @bfn of @ctx starts a run of exactly this */
void pviommu_assert_mapped(QXenPVIOMMU *iommu, uint16_t ctx, uint64_t bfn,
                           uint64_t gfn, uint32_t nr, uint16_t flags);
void pviommu_assert_unmapped(QXenPVIOMMU *iommu, uint16_t ctx, uint64_t bfn);
/** pviommu_assert_frames: what the counters say is mapped, and pending */
void pviommu_assert_frames(QXenPVIOMMU *iommu, uint64_t mapped,
                           uint64_t pending);
bool pviommu_identity(QXenPVIOMMU *iommu);

/* A queue, as the guest sees it. */
typedef struct QPVIOMMUQueue {
    QXenPVIOMMU *iommu;
    uint16_t ctx;
    uint64_t addr;
    uint32_t nr_ops;
    uint32_t tail;
} QPVIOMMUQueue;

/** pviommu_queue_size: of a queue of @nr_ops, in bytes */
static inline uint64_t pviommu_queue_size(uint32_t nr_ops)
{
    return sizeof(struct xen_iommu_queue) +
           nr_ops * sizeof(struct xen_iommu_op);
}

/** pviommu_queue_init: zeroes at @addr, and they are the queue of @ctx */
void pviommu_queue_init(QPVIOMMUQueue *q, QXenPVIOMMU *iommu, uint16_t ctx,
                        uint64_t addr, uint32_t nr_ops);

uint32_t pviommu_queue_head(QPVIOMMUQueue *q);
uint32_t pviommu_queue_errors(QPVIOMMUQueue *q);
uint32_t pviommu_queue_flags(QPVIOMMUQueue *q);

/**
 * pviommu_queue_push: store @op, for which there is room, and raise tail
 *
 * Its status stays PVIOMMU_STATUS_NONE, unless the device stores one.
 *
 * Returns: which operation of the queue it is
 */
uint32_t pviommu_queue_push(QPVIOMMUQueue *q, struct xen_iommu_op op);

/** pviommu_queue_kick: calls of no operations, until all of @q ran */
void pviommu_queue_kick(QPVIOMMUQueue *q);

/** pviommu_queue_status: of operation @n, which ran; 0 if none was stored */
int32_t pviommu_queue_status(QPVIOMMUQueue *q, uint32_t n);

/**
 * pviommu_wait_readl: until the 32 bits at @addr, in memory or a register, are
 * @value; fails the test if they never are
 */
void pviommu_wait_readl(QTestState *qts, uint64_t addr, uint32_t value);

/* Faults, with the ring at PVIOMMU_RING_ADDR. */
void pviommu_fault_ring(QXenPVIOMMU *iommu, uint32_t size);
/** pviommu_wait_faults: until TAIL is @tail; fails the test if it never is */
void pviommu_wait_faults(QXenPVIOMMU *iommu, uint32_t tail);
struct xen_iommu_fault pviommu_fault(QXenPVIOMMU *iommu, uint32_t entry);
void pviommu_assert_fault(QXenPVIOMMU *iommu, uint32_t entry, uint32_t sbdf,
                          uint16_t ctx, uint64_t addr, bool write,
                          uint32_t reason);

/** pviommu_add: a test whose path is "xen-pviommu/" and @path */
void pviommu_add(const char *path, void (*test)(void));
void pviommu_add_data(const char *path, const void *data,
                      void (*test)(const void *data));

/**
 * pviommu_add_for_machines: the same for pc and for q35
 * @test: gets the machine's name
 */
void pviommu_add_for_machines(const char *path, void (*test)(const void *));

#endif
