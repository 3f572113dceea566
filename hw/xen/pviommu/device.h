/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The xen-pviommu device: the state that its parts share, which of them owns
 * each field, and which lock protects it
 */

#ifndef HW_XEN_PVIOMMU_DEVICE_H
#define HW_XEN_PVIOMMU_DEVICE_H

#include "hw/pci/pci_device.h"
#include "qemu/thread.h"
#include "qemu/timer.h"
#include "../compat.h"
#include "core/context.h"
#include "core/core.h"
#include "fault.h"
#include "hw/xen/xen-page-release.h"
#include "qapi/qapi-types-xen-pviommu.h"
#include "queue.h"
#include "reserved-config.h"

/* The most that max-ops can be. */
#define XEN_PVIOMMU_MAX_OPS_LIMIT 65536

#define TYPE_XEN_PVIOMMU "xen-pviommu"
OBJECT_DECLARE_SIMPLE_TYPE(XenPVIOMMUState, XEN_PVIOMMU)

typedef struct XenPVIOMMUBlock {
    uint64_t array;
    uint32_t done;
    int32_t result;
} XenPVIOMMUBlock;

/* What migrates as it is, on its way from or to the stream. */
typedef struct XenPVIOMMUSaved {
    uint64_t accepted;
    bool identity;
    uint64_t counter[XEN_PVIOMMU_NR_EVENT_COUNTERS];
    XenPVIOMMUBlock blocks[XEN_PVIOMMU_MAX_BLOCKS];
    XenPVIOMMUSavedFaults faults;
} XenPVIOMMUSaved;

typedef enum XenPVIOMMULoad {
    XEN_PVIOMMU_LOAD_NONE,
    XEN_PVIOMMU_LOAD_UNDER_WAY, /* in our section, or it failed there */
    XEN_PVIOMMU_LOAD_ABANDONED, /* and the machine was reset meanwhile */
    XEN_PVIOMMU_LOAD_COMPLETE,  /* our section is; others may be to come */
} XenPVIOMMULoad;

typedef struct XenPVIOMMUDeferredRuns XenPVIOMMUDeferredRuns;
typedef struct XenPVIOMMUPassed XenPVIOMMUPassed;

struct XenPVIOMMUState {
    PCIDevice parent_obj;

    /*
     * Protects what the comments below say. Taken inside the BQL, or without it
     * by threads that do DMA, to run a queue.
     *
     * Order: the BQL; this lock; then the locks of faults, of the node pool,
     * of page-release/ and the mapcache. A holder does not wait for a thread
     * that does DMA, for RCU or for the BQL, and calls nothing that may:
     * - No memory transaction: its listeners may wait for any of them.
     * - IOMMU notifiers are called, for the order of changes. While there are
     *   any, threads that do DMA do not take the lock (queues.quiet).
     */
    QemuRecMutex lock;

    /* The lock: all of them, but for what their headers say */
    XenPVIOMMUCore core;
    XenPVIOMMUQueues queues;

    /* function.c; changed with the BQL and the lock, read with either */
    GHashTable *functions;      /* of XenPVIOMMUFunction, by bus and devfn */
    /* notify.c; the lock */
    GPtrArray *listening;       /* functions that have notifiers: mostly none */
    QSLIST_HEAD(, XenPVIOMMUNotifiedBlocks) stale_blocks;
    QEMUBH *stale_blocks_bh;
    /* host-device.c and pinned.c; BQL */
    unsigned nr_assigned;       /* devices of the host */
    bool pinned;                /* they see all memory: discard none */
    /* passed.c; BQL and the lock, but the listener: BQL */
    XenPVIOMMUPassed *passed;   /* NULL: there is no Xen */
    unsigned nr_passed;         /* functions that Xen passes through */
    DeviceListener passed_listener;

    /* guest-memory.c; atomic */
    bool bus_master;            /* as configuration space has it */
    /* fault.c; its own lock, and the BQL */
    XenPVIOMMUFaults faults;

    /* function.c; BQL */
    GPtrArray *ended;           /* functions that something still uses */
    QEMUTimer *ended_timer;
    QEMUBH *functions_bh;
    DeviceListener device_listener;
    /* bypass.c; BQL */
    DeviceListener bypass_listener;
    QEMUBH *bypass_bh;
    GHashTable *bypassing;      /* devices and buses that it was warned of */
    /* irq.c; BQL */
    uint64_t irq_changes;       /* that KVM's routes are after */
    /* registers.c; BQL */
    MemoryRegion bar;
    MemoryRegion regs;
    MemoryRegion blocks_mr;
    XenPVIOMMUBlock blocks[XEN_PVIOMMU_MAX_BLOCKS];
    /* reset.c; BQL */
    QEMUTimer reap_timer;
    /* The front's; BQL */
    XenPageHolder holder;
    /* vmstate.c and vmstate-runs.c; BQL, and the lock for deferred */
    XenPVIOMMULoad load;
    XenPVIOMMUSaved saved;
    XenPVIOMMUDeferredRuns *deferred;   /* NULL: none can be */
    VMChangeStateEntry *vm_state;

    /* Properties; they do not change once it is realized */
    XenPVIOMMUBackendKind backend;  /* not auto once it is realized */
    uint16_t device_id;
    uint32_t max_ops;
    bool check;
    bool viot;                  /* read by QEMU's ACPI tables, by its name */
    XenPVIOMMUReservedConfig reserved;
};

#endif /* HW_XEN_PVIOMMU_DEVICE_H */
