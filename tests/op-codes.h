/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The operations that there are, for tests of those that there are not
 */

#ifndef TESTS_OP_CODES_H
#define TESTS_OP_CODES_H

#include "hw/xen/interface/iommu_op.h"

/* The first number above those of all operations; 0 is none, too. */
#define IOMMU_OPS_END   (XEN_IOMMUOP_direct_irqs + 1)

/* What query_caps says in ops when nothing is left out */
#define IOMMU_OPS_ALL   ((1u << IOMMU_OPS_END) - 2)

#endif /* TESTS_OP_CODES_H */
