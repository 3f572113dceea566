/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Faults: from the thread that does DMA to the ring in guest memory
 */

#include "qemu/osdep.h"
#include "qemu/bswap.h"
#include "qemu/host-utils.h"
#include "qemu/lockable.h"
#include "qemu/main-loop.h"
#include "hw/pci/msix.h"
#include "migration/vmstate.h"
#include "system/runstate.h"
#include "guest-memory.h"
#include "trace.h"

static const char *reason_name(uint32_t reason)
{
    switch (reason) {
    case XEN_IOMMU_FAULT_REASON_unmapped:
        return "unmapped";
    case XEN_IOMMU_FAULT_REASON_readonly:
        return "readonly";
    case XEN_IOMMU_FAULT_REASON_irq:
        return "interrupt";
    case XEN_IOMMU_FAULT_REASON_masked:
        return "masked interrupt";
    default:
        return "out of range";
    }
}

static bool fault_repeats(const XenPVIOMMUFault *a, const XenPVIOMMUFault *b)
{
    return a->sbdf == b->sbdf && a->ctx == b->ctx && a->flags == b->flags &&
           a->reason == b->reason &&
           a->addr >> XEN_IOMMU_PAGE_SHIFT == b->addr >> XEN_IOMMU_PAGE_SHIFT;
}

static XenPVIOMMUFaultRecord *newest_record(XenPVIOMMUFaults *f)
{
    return &f->record[f->nr_recorded % ARRAY_SIZE(f->record)];
}

/* Locked. Its fate is to wait, until fault_end(). */
static XenPVIOMMUFaultRecord *fault_record(XenPVIOMMUFaults *f,
                                           const XenPVIOMMUFault *fault)
{
    XenPVIOMMUFaultRecord *r;

    f->nr_recorded++;
    r = newest_record(f);
    r->fault = *fault;
    r->fault.serial = f->nr_recorded;
    r->time = g_get_real_time();
    r->fate = XEN_PVIOMMU_FAULT_FATE_WAITING;
    return r;
}

/* Locked. Those that repeat the last one must not drive out all others. */
static void fault_record_dropped(XenPVIOMMUFaults *f,
                              const XenPVIOMMUFault *fault)
{
    if (!fault_repeats(fault, &newest_record(f)->fault)) {
        fault_record(f, fault)->fate = XEN_PVIOMMU_FAULT_FATE_LOST;
    }
}

/* Locked. */
static void fault_end(XenPVIOMMUFaults *f, const XenPVIOMMUFault *fault,
                      XenPVIOMMUFaultFate fate)
{
    XenPVIOMMUFaultRecord *r =
        &f->record[fault->serial % ARRAY_SIZE(f->record)];

    if (fault->serial && r->fault.serial == fault->serial) {
        r->fate = fate;
    }
}

unsigned
xen_pviommu_faults_recorded(XenPVIOMMUState *s, XenPVIOMMUFaultRecord
                            records[XEN_PVIOMMU_FAULTS_RECORDED])
{
    XenPVIOMMUFaults *f = &s->faults;
    unsigned n;

    QEMU_LOCK_GUARD(&f->lock);

    for (n = 0; n < MIN(f->nr_recorded, ARRAY_SIZE(f->record)); n++) {
        records[n] = f->record[(f->nr_recorded - n) % ARRAY_SIZE(f->record)];
    }
    return n;
}

uint64_t xen_pviommu_faults_count(XenPVIOMMUState *s, uint32_t *dropped)
{
    QEMU_LOCK_GUARD(&s->faults.lock);

    if (dropped) {
        *dropped = s->faults.dropped;
    }
    return s->faults.count;
}

void xen_pviommu_fault_note(XenPVIOMMUState *s, const XenPVIOMMUFault *fault)
{
    XenPVIOMMUFaults *f = &s->faults;

    WITH_QEMU_LOCK_GUARD(&f->lock) {
        uint32_t next = (f->first + f->nr_waiting) % XEN_PVIOMMU_FAULTS_WAITING;

        if (f->nr_waiting && fault_repeats(fault, &f->last)) {
            return;
        }
        f->last = *fault;
        f->count++;
        if (f->nr_waiting == XEN_PVIOMMU_FAULTS_WAITING) {
            f->dropped++;
            fault_record_dropped(f, fault);
            trace_xen_pviommu_fault_dropped(f->dropped);
            return;
        }
        f->waiting[next] = fault_record(f, fault)->fault;
        f->nr_waiting++;
    }
    trace_xen_pviommu_fault(fault->sbdf, fault->ctx, fault->addr,
                            fault->flags & XEN_IOMMU_FAULT_write ? "write"
                                                                 : "read",
                            reason_name(fault->reason));
    qemu_bh_schedule(f->bh);
}

void xen_pviommu_faults_add_dropped(XenPVIOMMUState *s, uint32_t nr)
{
    QEMU_LOCK_GUARD(&s->faults.lock);

    s->faults.count += nr;
    s->faults.dropped += nr;
}

static bool ring_has_room(const XenPVIOMMUFaults *f)
{
    return f->tail - f->head < f->size;
}

/* Take the oldest one that waits. */
static bool fault_take(XenPVIOMMUFaults *f, XenPVIOMMUFault *fault)
{
    QEMU_LOCK_GUARD(&f->lock);

    if (!f->nr_waiting) {
        return false;
    }
    *fault = f->waiting[f->first];
    f->first = (f->first + 1) % XEN_PVIOMMU_FAULTS_WAITING;
    f->nr_waiting--;
    return true;
}

static void fault_deliver(XenPVIOMMUState *s, const XenPVIOMMUFault *fault)
{
    XenPVIOMMUFaults *f = &s->faults;
    struct xen_iommu_fault entry = {
        .addr = cpu_to_le64(fault->addr),
        .sbdf = cpu_to_le32(fault->sbdf),
        .ctx = cpu_to_le16(fault->ctx),
        .flags = cpu_to_le16(fault->flags),
        .reason = cpu_to_le32(fault->reason),
    };
    uint64_t addr = f->ring + (f->tail & (f->size - 1)) * sizeof(entry);
    bool stored = !xen_pviommu_guest_rw(addr, &entry, sizeof(entry), true);

    WITH_QEMU_LOCK_GUARD(&f->lock) {
        f->dropped += !stored;
        fault_end(f, fault, stored ? XEN_PVIOMMU_FAULT_FATE_DELIVERED
                                   : XEN_PVIOMMU_FAULT_FATE_LOST);
    }
    if (!stored) {
        xen_pviommu_guest_error(&s->core, "the fault ring is not in RAM");
        return;
    }
    f->tail++;
    trace_xen_pviommu_fault_delivered(f->tail);
}

static void faults_bh(void *opaque)
{
    XenPVIOMMUState *s = opaque;
    XenPVIOMMUFaults *f = &s->faults;
    bool notify = false;
    XenPVIOMMUFault fault;

    /*
     * A guest that stands still must not see its memory change, least of all
     * one that is being loaded: its interrupt controllers may not be there.
     */
    if (!runstate_is_running()) {
        return;
    }
    if (!(f->ctrl & XEN_PVIOMMU_FAULT_CTRL_ENABLE)) {
        /* The ring is off; they were counted and traced. */
        while (fault_take(f, &fault)) {
            WITH_QEMU_LOCK_GUARD(&f->lock) {
                fault_end(f, &fault, XEN_PVIOMMU_FAULT_FATE_RING_OFF);
            }
        }
        return;
    }
    while (xen_pviommu_may_dma(s) && ring_has_room(f) &&
           fault_take(f, &fault)) {
        fault_deliver(s, &fault);
        /* An interrupt that faults must not raise the next one. */
        notify |= fault.sbdf != pci_requester_id(PCI_DEVICE(s));
    }
    if (notify && msix_enabled(PCI_DEVICE(s))) {
        msix_notify(PCI_DEVICE(s), XEN_PVIOMMU_MSIX_VECTOR_FAULT);
    }
}

void xen_pviommu_faults_kick(XenPVIOMMUState *s)
{
    qemu_bh_schedule(s->faults.bh);
}

static bool ring_valid(uint64_t ring, uint32_t size, uint32_t ctrl)
{
    if (!(ctrl & XEN_PVIOMMU_FAULT_CTRL_ENABLE)) {
        return !ctrl;
    }
    return ctrl == XEN_PVIOMMU_FAULT_CTRL_ENABLE && is_power_of_2(size) &&
           size <= XEN_PVIOMMU_FAULT_MAX_SIZE &&
           !(ring % sizeof(struct xen_iommu_fault));
}

bool xen_pviommu_fault_set_ctrl(XenPVIOMMUState *s, uint32_t ctrl)
{
    XenPVIOMMUFaults *f = &s->faults;

    if (!ring_valid(f->ring, f->size, ctrl)) {
        return false;
    }
    if (ctrl && !f->ctrl) {
        f->head = 0;
        f->tail = 0;
    }
    f->ctrl = ctrl;
    return true;
}

static const VMStateDescription vmstate_fault = {
    .name = "xen-pviommu/fault",
    .version_id = 1,
    .minimum_version_id = 1,
    .fields = (const VMStateField[]) {
        VMSTATE_UINT64(addr, XenPVIOMMUFault),
        VMSTATE_UINT32(sbdf, XenPVIOMMUFault),
        VMSTATE_UINT32(reason, XenPVIOMMUFault),
        VMSTATE_UINT16(ctx, XenPVIOMMUFault),
        VMSTATE_UINT16(flags, XenPVIOMMUFault),
        VMSTATE_END_OF_LIST()
    },
};

const VMStateDescription xen_pviommu_vmstate_faults = {
    .name = "xen-pviommu/faults",
    .version_id = 1,
    .minimum_version_id = 1,
    .fields = (const VMStateField[]) {
        VMSTATE_UINT64(ring, XenPVIOMMUSavedFaults),
        VMSTATE_UINT32(size, XenPVIOMMUSavedFaults),
        VMSTATE_UINT32(ctrl, XenPVIOMMUSavedFaults),
        VMSTATE_UINT32(head, XenPVIOMMUSavedFaults),
        VMSTATE_UINT32(tail, XenPVIOMMUSavedFaults),
        VMSTATE_UINT32(first, XenPVIOMMUSavedFaults),
        VMSTATE_UINT32(nr_waiting, XenPVIOMMUSavedFaults),
        VMSTATE_UINT32(dropped, XenPVIOMMUSavedFaults),
        VMSTATE_UINT64(count, XenPVIOMMUSavedFaults),
        VMSTATE_STRUCT_ARRAY(waiting, XenPVIOMMUSavedFaults,
                             XEN_PVIOMMU_FAULTS_WAITING, 1, vmstate_fault,
                             XenPVIOMMUFault),
        VMSTATE_END_OF_LIST()
    },
};

void xen_pviommu_faults_save(XenPVIOMMUState *s, XenPVIOMMUSavedFaults *saved)
{
    XenPVIOMMUFaults *f = &s->faults;

    WITH_QEMU_LOCK_GUARD(&f->lock) {
        memcpy(saved->waiting, f->waiting, sizeof(saved->waiting));
        saved->first = f->first;
        saved->nr_waiting = f->nr_waiting;
        saved->dropped = f->dropped;
        saved->count = f->count;
    }
    saved->ring = f->ring;
    saved->size = f->size;
    saved->ctrl = f->ctrl;
    saved->head = f->head;
    saved->tail = f->tail;
}

static bool fault_valid(const XenPVIOMMUState *s, const XenPVIOMMUFault *fault)
{
    return fault->sbdf <= UINT16_MAX &&
           fault->reason >= XEN_IOMMU_FAULT_REASON_unmapped &&
           fault->reason <= XEN_IOMMU_FAULT_REASON_masked &&
           fault->ctx < s->core.limits.max_contexts &&
           !(fault->flags & ~XEN_IOMMU_FAULT_write);
}

static bool faults_valid(const XenPVIOMMUState *s,
                         const XenPVIOMMUSavedFaults *saved)
{
    if (!ring_valid(saved->ring, saved->size, saved->ctrl) ||
        saved->first >= XEN_PVIOMMU_FAULTS_WAITING ||
        saved->nr_waiting > XEN_PVIOMMU_FAULTS_WAITING) {
        return false;
    }
    for (uint32_t i = 0; i < saved->nr_waiting; i++) {
        if (!fault_valid(s, &saved->waiting[(saved->first + i) %
                                            XEN_PVIOMMU_FAULTS_WAITING])) {
            return false;
        }
    }
    return true;
}

bool xen_pviommu_faults_load(XenPVIOMMUState *s,
                             const XenPVIOMMUSavedFaults *saved)
{
    XenPVIOMMUFaults *f = &s->faults;

    if (!faults_valid(s, saved)) {
        return false;
    }
    WITH_QEMU_LOCK_GUARD(&f->lock) {
        memcpy(f->waiting, saved->waiting, sizeof(f->waiting));
        f->first = saved->first;
        f->nr_waiting = saved->nr_waiting;
        /* The newest of those that wait is the one that may be repeated. */
        f->last = f->waiting[(f->first + f->nr_waiting +
                              XEN_PVIOMMU_FAULTS_WAITING - 1) %
                             XEN_PVIOMMU_FAULTS_WAITING];
        f->dropped = saved->dropped;
        f->count = saved->count;
    }
    f->ring = saved->ring;
    f->size = saved->size;
    f->ctrl = saved->ctrl;
    f->head = saved->head;
    f->tail = saved->tail;
    return true;
}

void xen_pviommu_faults_reset(XenPVIOMMUState *s)
{
    XenPVIOMMUFaults *f = &s->faults;

    WITH_QEMU_LOCK_GUARD(&f->lock) {
        for (unsigned i = 0; i < ARRAY_SIZE(f->record); i++) {
            if (f->record[i].fate == XEN_PVIOMMU_FAULT_FATE_WAITING) {
                f->record[i].fate = XEN_PVIOMMU_FAULT_FATE_LOST;
            }
        }
        /* Those that a migration brings have no records. */
        memset(f->waiting, 0, sizeof(f->waiting));
        f->first = 0;
        f->nr_waiting = 0;
        f->last = (XenPVIOMMUFault) { 0 };
        f->dropped = 0;
        f->count = 0;
    }
    f->ring = 0;
    f->size = 0;
    f->ctrl = 0;
    f->head = 0;
    f->tail = 0;
}

void xen_pviommu_faults_init(XenPVIOMMUState *s)
{
    qemu_mutex_init(&s->faults.lock);
    s->faults.bh = qemu_bh_new_guarded(faults_bh, s,
                                       &DEVICE(s)->mem_reentrancy_guard);
}

void xen_pviommu_faults_finalize(XenPVIOMMUState *s)
{
    qemu_bh_delete(s->faults.bh);
    qemu_mutex_destroy(&s->faults.lock);
}
