/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Operations of a test, one at a time: they return the status, which is also
 * compared with the model's
 */

#ifndef TESTS_UNIT_PVIOMMU_CALLS_H
#define TESTS_UNIT_PVIOMMU_CALLS_H

#include "pviommu-fixture.h"
#include "../assert-status.h"
#include "../op-codes.h"

#define OK(call) assert_status(call, 0)
#define FAILS(error, call) assert_status(call, XEN_IOMMU_##error)

/* Without the RANGES feature, or for one page: nr 0 */
int do_map(Fixture *f, uint16_t ctx, uint64_t bfn, uint64_t gfn,
           uint32_t nr, uint16_t flags);
int do_unmap(Fixture *f, uint16_t ctx, uint64_t bfn, uint32_t nr);
int do_unmap_skip(Fixture *f, uint16_t ctx, uint64_t bfn, uint32_t nr);
int do_flush(Fixture *f, uint16_t ctx, uint64_t bfn, uint32_t nr);
int do_flush_all(Fixture *f, uint16_t ctx);
int do_lookup(Fixture *f, uint16_t code, uint16_t ctx, uint64_t bfn,
              uint64_t gfn, struct xen_iommu_op *op);
int do_alloc(Fixture *f, uint16_t *ctx);
int do_free(Fixture *f, uint16_t ctx);
int do_attach(Fixture *f, uint32_t sbdf, uint16_t ctx);
int do_enable(Fixture *f);
int do_set_queue(Fixture *f, uint16_t ctx, uint64_t addr, uint32_t nr_ops);
int do_enable_irqs(Fixture *f);
int do_alloc_irqs(Fixture *f, uint32_t sbdf, uint32_t nr, uint32_t *handle);
int do_set_irq(Fixture *f, uint32_t handle, uint32_t dest, uint8_t vector,
               uint8_t delivery, uint16_t flags);
int do_free_irqs(Fixture *f, uint32_t handle);
int do_direct_irqs(Fixture *f, uint32_t sbdf, bool on);
int do_query_reserved(Fixture *f, uint16_t flags, uint32_t sbdf,
                      uint16_t ctx, uint64_t addr, uint32_t room,
                      uint32_t *nr);

#endif /* TESTS_UNIT_PVIOMMU_CALLS_H */
