/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Faults: from the thread that does DMA to the ring in guest memory
 *
 * A fault is noted by any thread, and delivered by the main loop. One that
 * repeats the last one noted, to the page, is not noted again until that is
 * delivered: QEMU tries a failing access again for every few bytes of it.
 */

#ifndef HW_XEN_PVIOMMU_FAULT_H
#define HW_XEN_PVIOMMU_FAULT_H

#include "qemu/main-loop.h"
#include "qemu/thread.h"
#include "hw/xen/interface/iommu_op.h"
#include "qapi/qapi-types-xen-pviommu.h"

#define XEN_PVIOMMU_FAULTS_WAITING 256
#define XEN_PVIOMMU_FAULTS_RECORDED 32

typedef struct XenPVIOMMUState XenPVIOMMUState;

/* As struct xen_iommu_fault, in host order. */
typedef struct XenPVIOMMUFault {
    uint64_t addr;
    uint32_t sbdf;
    uint32_t reason;
    uint16_t ctx;
    uint16_t flags;
    uint64_t serial;            /* of its record; 0: it has none */
} XenPVIOMMUFault;

/* What of the ring and of faults that wait migrates, as it is in a stream. */
typedef struct XenPVIOMMUSavedFaults {
    XenPVIOMMUFault waiting[XEN_PVIOMMU_FAULTS_WAITING];
    uint32_t first;
    uint32_t nr_waiting;
    uint32_t dropped;
    uint64_t count;
    uint64_t ring;
    uint32_t size;
    uint32_t ctrl;
    uint32_t head;
    uint32_t tail;
} XenPVIOMMUSavedFaults;

/* One of the last faults, for debugging. */
typedef struct XenPVIOMMUFaultRecord {
    XenPVIOMMUFault fault;
    int64_t time;               /* us since the Epoch */
    XenPVIOMMUFaultFate fate;
} XenPVIOMMUFaultRecord;

typedef struct XenPVIOMMUFaults {
    QemuMutex lock;             /* all down to nr_recorded */
    XenPVIOMMUFault waiting[XEN_PVIOMMU_FAULTS_WAITING];
    uint32_t first;
    uint32_t nr_waiting;
    XenPVIOMMUFault last;       /* that was noted, if any waits */
    uint32_t dropped;
    uint64_t count;             /* all that were noted, since reset */
    /* By serial; these neither migrate nor go with a reset. */
    XenPVIOMMUFaultRecord record[XEN_PVIOMMU_FAULTS_RECORDED];
    uint64_t nr_recorded;       /* ever */
    QEMUBH *bh;

    /* The ring, as the guest set it up; BQL. */
    uint64_t ring;
    uint32_t size;
    uint32_t ctrl;
    uint32_t head;
    uint32_t tail;
} XenPVIOMMUFaults;

void xen_pviommu_faults_init(XenPVIOMMUState *s);
void xen_pviommu_faults_finalize(XenPVIOMMUState *s);
void xen_pviommu_faults_reset(XenPVIOMMUState *s);

/** xen_pviommu_fault_note: any thread; takes no lock but its own */
void xen_pviommu_fault_note(XenPVIOMMUState *s, const XenPVIOMMUFault *fault);

/** xen_pviommu_faults_add_dropped: @nr were lost elsewhere; any thread */
void xen_pviommu_faults_add_dropped(XenPVIOMMUState *s, uint32_t nr);

/**
 * xen_pviommu_faults_recorded: the last faults, the newest first
 *
 * Returns: how many there are in @records.
 */
unsigned
xen_pviommu_faults_recorded(XenPVIOMMUState *s, XenPVIOMMUFaultRecord
                            records[XEN_PVIOMMU_FAULTS_RECORDED]);

/**
 * xen_pviommu_faults_count: how many were noted since the reset
 * @dropped: and could not be delivered; may be NULL
 */
uint64_t xen_pviommu_faults_count(XenPVIOMMUState *s, uint32_t *dropped);

/** xen_pviommu_faults_kick: the ring changed; deliver what waits. BQL. */
void xen_pviommu_faults_kick(XenPVIOMMUState *s);

/**
 * xen_pviommu_fault_set_ctrl: write the control register
 *
 * Returns: false, with nothing changed, if that or the ring is not valid. BQL.
 */
bool xen_pviommu_fault_set_ctrl(XenPVIOMMUState *s, uint32_t ctrl);

/**
 * xen_pviommu_vmstate_faults: of XenPVIOMMUSavedFaults
 *
 * Its fields are a part of the device's section.
 */
extern const VMStateDescription xen_pviommu_vmstate_faults;

/** xen_pviommu_faults_save: for migration; BQL */
void xen_pviommu_faults_save(XenPVIOMMUState *s, XenPVIOMMUSavedFaults *saved);

/**
 * xen_pviommu_faults_load: after a reset, have what was saved; BQL
 *
 * Returns: false, with nothing changed, if it is not valid.
 */
bool xen_pviommu_faults_load(XenPVIOMMUState *s,
                             const XenPVIOMMUSavedFaults *saved);

#endif /* HW_XEN_PVIOMMU_FAULT_H */
