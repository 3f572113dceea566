/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the files of iommu-op-test share. */

#ifndef IOMMU_OP_TEST_H
#define IOMMU_OP_TEST_H

#include <stdbool.h>
#include <stdint.h>
#include <xenctrl.h>

#include "iommu_op.h"

#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))

/* The domain's frames with RAM are [0, GUEST_FRAMES). */
#define GUEST_FRAMES  50000
/* The status of an operation that has not run. */
#define NOT_RUN       12345

extern xc_interface *xch;
extern struct xen_iommu_op *ops;
extern uint32_t domid;
extern uint64_t base;               /* a BFN from which on all is free */

/* TAP: checks, and the end of a test. */
bool check(bool ok, int line, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
void done(const char *what);
void skip(const char *what, const char *why);

#define CHECK(cond) check(cond, __LINE__, "%s", #cond)
#define CHECK_EQ(a, b) ({                                               \
        long long a_ = (a), b_ = (b);                                   \
        check(a_ == b_, __LINE__, "%s is %lld and not %lld", #a, a_, b_); \
    })

/* Operations of one call, on domid's pages. Each returns its status. */
struct xen_iommu_op *op_at(unsigned i, uint16_t op);
int run(void);
int map(uint64_t bfn, uint64_t gfn, uint32_t nr);
int map_ro(uint64_t bfn, uint64_t gfn, uint32_t nr);
int unmap(uint64_t bfn, uint32_t nr);
int flush(uint64_t bfn, uint32_t nr);
int flush_all(void);

/* Domains, and their memory. */
uint32_t create_empty_domain(unsigned max_frames);
bool domain_is_gone(uint32_t dom);
long pages(uint32_t dom);
void take_page(uint64_t gfn);
void give_page(uint64_t gfn);

/* iommu-op-owner.c */
void test_owner(void);
void test_reserved_stay(void);

#endif
