/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Operations on a bench, one at a time: they return the status, which is also
 * compared with the model's
 */

#ifndef TESTS_UNIT_PVIOMMU_CALLS_H
#define TESTS_UNIT_PVIOMMU_CALLS_H

#include "pviommu-bench.h"

#define OK(call) g_assert_cmpint(call, ==, 0)
#define FAILS(error, call) g_assert_cmpint(call, ==, -XEN_IOMMU_##error)

/* Without the RANGES feature, or for one page: nr 0 */
int do_map(Bench *b, uint16_t ctx, uint64_t bfn, uint64_t gfn,
           uint32_t nr, uint16_t flags);
int do_unmap(Bench *b, uint16_t ctx, uint64_t bfn, uint32_t nr);
int do_unmap_holes(Bench *b, uint16_t ctx, uint64_t bfn, uint32_t nr);
int do_flush(Bench *b, uint16_t ctx, uint64_t bfn, uint32_t nr);
int do_flush_all(Bench *b, uint16_t ctx);
int do_lookup(Bench *b, uint16_t code, uint16_t ctx, uint64_t bfn,
              uint64_t gfn, struct xen_iommu_op *op);
int do_alloc(Bench *b, uint16_t *ctx);
int do_free(Bench *b, uint16_t ctx);
int do_attach(Bench *b, uint32_t sbdf, uint16_t ctx);
int do_enable(Bench *b);
int do_set_queue(Bench *b, uint16_t ctx, uint64_t addr, uint32_t nr_ops);
int do_query_reserved(Bench *b, uint16_t flags, uint32_t sbdf,
                      uint16_t ctx, uint64_t addr, uint32_t room,
                      uint32_t *nr);

#endif /* TESTS_UNIT_PVIOMMU_CALLS_H */
