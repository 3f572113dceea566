/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * docs/specs/xen-pviommu.rst in plain arrays
 */

#ifndef TESTS_UNIT_PVIOMMU_MODEL_H
#define TESTS_UNIT_PVIOMMU_MODEL_H

#include "pviommu-fixture.h"

/**
 * model_run: run @op, as the core has to
 * @op: gets what else it returns, but for the ID of a new context
 * @ranges: gets what query_reserved stores
 *
 * Returns: its status.
 */
int model_run(Fixture *f, struct xen_iommu_op *op,
              struct xen_iommu_reserved_range *ranges);

/** model_queues: a queue of context @id takes @op */
bool model_queues(uint16_t id, const struct xen_iommu_op *op);

/** model_accepted: the guest accepted these features */
bool model_accepted(const Fixture *f, uint64_t feature);

/** model_irqs_new: the entries that the core has chosen for @op, which ran */
void model_irqs_new(Fixture *f, const struct xen_iommu_op *op);

/** model_unplug: device @i is in context 0, and has no interrupts any more */
void model_unplug(Fixture *f, unsigned i);

/** model_irqs_reset: nor has any device, and they are not remapped */
void model_irqs_reset(Fixture *f);

void model_context_new(Fixture *f, unsigned id);
void model_context_free(Fixture *f, unsigned id);

#endif /* TESTS_UNIT_PVIOMMU_MODEL_H */
