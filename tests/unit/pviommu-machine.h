/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the core stands on in a test: a guest's memory, and devices
 */

#ifndef TESTS_UNIT_PVIOMMU_MACHINE_H
#define TESTS_UNIT_PVIOMMU_MACHINE_H

#include "pviommu-fixture.h"

extern const XenPVIOMMUBackendOps machine_backend_ops;
extern const XenPVIOMMUListenerOps machine_listener_ops;
extern const XenPVIOMMUAttachmentOps machine_attachment_ops;
extern const XenPVIOMMUGuestMemoryOps machine_memory_ops;

/**
 * machine_backend_answer: what get() has to say, without doing it
 * @flags: XEN_PVIOMMU_GET_*
 * @culprit: the first GFN that it says that of, if it is an error of a page
 */
int machine_backend_answer(const XenPVIOMMUBackend *be, uint16_t domid,
                           uint64_t gfn, uint64_t nr, unsigned flags,
                           uint64_t *culprit);

/** machine_unplug: device @i is no more; it ends in context 0 */
void machine_unplug(Fixture *f, unsigned i);

/** machine_check_devices: no device has the page beyond the references on it */
void machine_check_devices(const XenPVIOMMUBackend *be, uint64_t gfn);

/** machine_device: the device with this SBDF, or NULL */
Device *machine_device(Fixture *f, uint32_t sbdf);

/** machine_tlb_set: a device knows @frame at @bfn from now on; 0: nothing */
void machine_tlb_set(Device *d, uint64_t bfn, Frame frame);

/** machine_update_reserved: to what the devices in @ctx reserve now */
void machine_update_reserved(Fixture *f, XenPVIOMMUContext *ctx);

/** machine_store_fits: query_reserved can store there */
bool machine_store_fits(uint64_t addr, uint64_t len);

/** machine_queue_fits: there is memory for such a queue */
bool machine_queue_fits(uint64_t addr, uint32_t nr_ops);

#endif /* TESTS_UNIT_PVIOMMU_MACHINE_H */
