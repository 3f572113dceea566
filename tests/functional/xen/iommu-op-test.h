/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the files of iommu-op-test share. */

#ifndef IOMMU_OP_TEST_H
#define IOMMU_OP_TEST_H

#include <stdbool.h>
#include <stdint.h>
#include <xencall.h>
#include <xenctrl.h>

#include "iommu_op.h"

#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))

/* The domain's frames with RAM are [0, GUEST_FRAMES). */
#define GUEST_FRAMES  50000
/* The status of an operation that has not run. */
#define NOT_RUN       12345
/* Operations that fit into the buffer. */
#define MAX_OPS       20000
#define HYPERVISOR_IOMMU_OP 43
/* Those on contexts of a target, as in query_caps. */
#define TARGET_OPS    ((2u << XEN_IOMMUOP_target_event) -               \
                       (1u << XEN_IOMMUOP_target_alloc_context))

extern xencall_handle *call;
extern xc_interface *xch;
extern struct xen_iommu_op *ops;    /* MAX_OPS, where hypercalls can read */
extern struct xen_iommu_op_query_caps caps;     /* of query_caps() */
extern uint32_t domid;
extern uint64_t base;               /* a BFN from which on all is free */

/* TAP: checks, and the end of a test. */
bool check(bool ok, const char *file, int line, const char *format, ...)
    __attribute__((format(printf, 4, 5)));
void done(const char *what);
void skip(const char *what, const char *why);
/* A check of the test that runs failed. */
bool check_failed(void);
/* The plan. Returns: the program's exit status. */
int finish(void);

#define CHECK(cond) check(cond, __FILE_NAME__, __LINE__, "%s", #cond)
#define CHECK_EQ(a, b) ({                                               \
        long long a_ = (a), b_ = (b);                                   \
        check(a_ == b_, __FILE_NAME__, __LINE__,                        \
              "%s is %lld and not %lld", #a, a_, b_);                   \
    })

/*
 * The hypercall. @first and @done are 0, but for what Xen passes to itself when
 * a call goes on. Returns: 0, or an error, negated.
 */
int hypercall(void *array, unsigned nr, unsigned first, unsigned done);

/* Operation @i of ops */
struct xen_iommu_op *op_at(unsigned i, uint16_t op);
void set_map(unsigned i, uint64_t bfn, uint64_t gfn, uint32_t nr, uint16_t dom,
             bool readonly);
void set_unmap(unsigned i, uint64_t bfn, uint32_t nr);
void set_flush(unsigned i, uint64_t bfn, uint32_t nr);

/* The only operation of a call; each returns its status. On domid's pages. */
int run(void);
int query_caps(void);
int lookup(uint64_t bfn);
int map(uint64_t bfn, uint64_t gfn, uint32_t nr);
int map_ro(uint64_t bfn, uint64_t gfn, uint32_t nr);
int unmap(uint64_t bfn, uint32_t nr);
int flush(uint64_t bfn, uint32_t nr);
int flush_all(void);

/* Domains, and their memory. */
uint32_t create_empty_domain(unsigned max_frames);
uint32_t create_domain(unsigned frames);
/* With flags of XEN_DOMCTL_createdomain. */
uint32_t create_domain_with(unsigned frames, uint32_t flags);
bool domain_is_gone(uint32_t dom);
long pages(uint32_t dom);
long free_pages(void);
void take_page(uint64_t gfn);
void give_page(uint64_t gfn);

/* iommu-op-batch.c */
void test_batch(void);
void test_preemption(void);
void test_stress(void);
void test_death(void);

/* iommu-op-owner.c */
void test_owner(void);
void test_reserved_stay(void);

/* iommu-op-target.c */
void test_targets(void);

#endif
