/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The xen-pviommu device: what its PCI front, its DMA side, its faults and
 * its migration share
 */

#ifndef HW_XEN_PVIOMMU_DEVICE_H
#define HW_XEN_PVIOMMU_DEVICE_H

#include "hw/pci/pci_device.h"
#include "qemu/thread.h"
#include "qemu/timer.h"
#include "../compat.h"
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

struct XenPVIOMMUState {
    PCIDevice parent_obj;

    MemoryRegion bar;
    MemoryRegion regs;
    MemoryRegion blocks_mr;
    /*
     * Protects core, functions, listening and queues. Taken inside the BQL, or
     * without it by threads that do DMA, to run a queue.
     *
     * Order: the BQL; this lock; then the locks of faults, of the node pool,
     * of page-release/ and the mapcache. A holder does not wait for a thread
     * that does DMA, for RCU or for the BQL, and calls nothing that may:
     * - No memory transaction: its listeners may wait for any of them.
     * - IOMMU notifiers are called, for the order of changes. While there are
     *   any, threads that do DMA do not take the lock (queues.quiet).
     */
    QemuRecMutex lock;
    XenPVIOMMUCore core;
    bool bus_master;            /* atomic: as configuration space has it */
    GHashTable *functions;      /* of XenPVIOMMUFunction, by bus and devfn */
    GPtrArray *ended;           /* those that something still uses */
    QEMUTimer *ended_timer;
    QEMUBH *functions_bh;
    DeviceListener device_listener;
    unsigned nr_assigned;       /* devices of the host */
    bool pinned;                /* they see all memory: discard none */
    GPtrArray *listening;       /* those that have notifiers: mostly none */
    /* What listeners were notified of and do not have any more; see notify.c */
    QSLIST_HEAD(, XenPVIOMMUNotifiedBlocks) stale_blocks;
    QEMUBH *stale_blocks_bh;
    XenPVIOMMUQueues queues;
    QEMUTimer reap_timer;
    XenPVIOMMUFaults faults;
    DeviceListener bypass_listener;
    QEMUBH *bypass_bh;
    GHashTable *bypassing;      /* devices and buses that it was warned of */
    XenPageHolder holder;
    XenPVIOMMUBlock blocks[XEN_PVIOMMU_MAX_BLOCKS];

    /* Migration */
    XenPVIOMMULoad load;
    XenPVIOMMUSaved saved;
    XenPVIOMMUDeferredRuns *deferred;   /* NULL: none can be */
    VMChangeStateEntry *vm_state;

    /* properties */
    XenPVIOMMUBackendKind backend;  /* not auto once it is realized */
    uint16_t device_id;
    uint32_t max_ops;
    bool check;
    bool viot;                  /* read by QEMU's ACPI tables, by its name */
    XenPVIOMMUReservedConfig reserved;
};

#endif /* HW_XEN_PVIOMMU_DEVICE_H */
