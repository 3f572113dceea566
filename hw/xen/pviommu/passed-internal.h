/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Functions that Xen passes through: what passed*.c share
 *
 * Locking: as passed.h says.
 */

#ifndef HW_XEN_PVIOMMU_PASSED_INTERNAL_H
#define HW_XEN_PVIOMMU_PASSED_INTERNAL_H

#include "qemu/notify.h"
#include "qemu/queue.h"
#include "qemu/timer.h"
#include "passed.h"

typedef struct xenevtchn_handle xenevtchn_handle;

/* Operations that are collected. */
#define PASSED_BATCH 256
/* And what else can be in one call: a flush of each context, and one more. */
#define PASSED_BATCH_ROOM (PASSED_BATCH + XEN_IOMMU_TARGET_CONTEXTS + 1)

/* Entries of the lists that the hypervisor stores. */
#define PASSED_LIST 256

/* No operation of the guest's. */
#define PASSED_NO_TAG UINT_MAX

typedef struct PassedRange {
    uint64_t bfn;
    uint64_t nr;
} PassedRange;

/* A context of the hypervisor's, which maps what one of the guest's does. */
typedef struct PassedContext {
    QLIST_ENTRY(PassedContext) next;
    XenPVIOMMUContext *ctx;     /* NULL: it is gone, and functions are left */
    uint16_t hw;                /* the hypervisor's number */
    unsigned nr;                /* functions in it, those that leave, too */
    bool cleared;               /* it is left by all, and maps nothing */
    uint64_t replay_next;       /* from this BFN on it has not been filled */
    /* Unmapped in this batch: these BFNs at the most; the end is 0 for none. */
    uint64_t flush_bfn;
    uint64_t flush_end;
    unsigned flush_tag;
    /* What the hypervisor failed to unmap, and to flush. */
    GArray *stale;              /* of PassedRange */
    bool stale_flush;
} PassedContext;

typedef struct PassedFunction {
    XenPVIOMMUFunction *f;
    const PCIDevice *dev;
    uint32_t sbdf;              /* the host's number */
    PassedContext *where;       /* NULL: the hypervisor's default context */
    bool pending;               /* it is to be moved: try again */
    bool reserved_known;
} PassedFunction;

/* A function that was unplugged, and is still in its context. */
typedef struct PassedLeaving {
    uint32_t sbdf;
    PassedContext *pc;
} PassedLeaving;

/* An operation that is collected, beside the operation itself. */
typedef struct PassedEntry {
    PassedContext *pc;
    unsigned tag;
    uint64_t bfn;
    uint64_t gfn;
    uint64_t nr;
} PassedEntry;

typedef struct PassedFailure {
    PassedEntry entry;
    int status;
    bool undo;                  /* a map, and nothing unmapped it since */
} PassedFailure;

struct XenPVIOMMUPassed {
    XenPVIOMMUState *s;
    GPtrArray *functions;       /* of PassedFunction */
    GArray *leaving;            /* of PassedLeaving */
    GArray *unfreed;            /* of the numbers of contexts that are left */
    GHashTable *missing;        /* of reasons, by PCIDevice */
    QLIST_HEAD(, PassedContext) contexts;
    bool open;                  /* what follows is there */
    uint64_t bfn_limit;
    bool parked;
    uint16_t parked_hw;         /* an empty context, for what was unplugged */
    QEMUTimer *timer;
    QEMUBH *bh;
    Error *blocker;
    Notifier exit;

    /* passed-batch.c */
    struct xen_iommu_op *ops;   /* PASSED_BATCH_ROOM, and one */
    PassedEntry entries[PASSED_BATCH_ROOM];
    unsigned nr_ops;
    unsigned tag;
    GArray *failures;           /* of PassedFailure */
    bool committing;

    /* Lists, in memory that hypercalls reach */
    void *list;

    /* passed-faults.c; BQL */
    xenevtchn_handle *xce;
    int port;                   /* the local one; < 0: none, ask now and then */
};

/* passed.c */

/** passed_target_op: one that has this payload */
struct xen_iommu_op passed_target_op(uint16_t op, uint16_t ctx, uint32_t sbdf);

/** passed_context_alloc: a new one of the hypervisor's. Returns: the status */
int passed_context_alloc(XenPVIOMMUPassed *p, uint16_t *hw);
/** passed_context_free: now, or as soon as the hypervisor does it */
void passed_context_free(XenPVIOMMUPassed *p, uint16_t hw);

/** passed_sweep: contexts without a function go */
void passed_sweep(XenPVIOMMUPassed *p);

/** passed_set_missing: why @dev is not behind the IOMMU */
void passed_set_missing(XenPVIOMMUPassed *p, const PCIDevice *dev,
                        const char *why);

/**
 * passed_function_reserve: note what is reserved for function @sbdf of the host
 *
 * Or for each, with XEN_IOMMU_TARGET_ANY. Returns: the status.
 */
int passed_function_reserve(XenPVIOMMUPassed *p, PassedFunction *pf,
                            uint32_t sbdf);

/** passed_function_remove: it is not behind the IOMMU any more */
void passed_function_remove(XenPVIOMMUPassed *p, PassedFunction *pf);

/** passed_clear_unwanted: contexts that nothing is to be in map nothing */
void passed_clear_unwanted(XenPVIOMMUPassed *p);

/** passed_arm_timer: if there is something to try again */
void passed_arm_timer(XenPVIOMMUPassed *p);

/** passed_timer, passed_bh: callbacks; BQL, not the lock */
void passed_timer(void *opaque);
void passed_bh(void *opaque);

/* passed-device.c */

/** passed_leave: try to move what was unplugged out of its contexts */
void passed_leave(XenPVIOMMUPassed *p);

/* passed-batch.c */

/**
 * passed_run: send what is collected, and then @op, if it is not NULL
 *
 * Returns: the status of @op, which is as the hypervisor left it.
 */
int passed_run(XenPVIOMMUPassed *p, struct xen_iommu_op *op);

/** passed_context_of: the one for @ctx, or NULL */
PassedContext *passed_context_of(XenPVIOMMUPassed *p,
                                 const XenPVIOMMUContext *ctx);

/**
 * passed_context_replay: fill @pc on; true if it has all that is mapped
 *
 * What is collected has to be sent.
 */
bool passed_context_replay(XenPVIOMMUPassed *p, PassedContext *pc);

/** passed_context_clear: unmap and flush all of it */
void passed_context_clear(XenPVIOMMUPassed *p, PassedContext *pc);

/** passed_take_failure: of a map into @pc; 0 if there was none. Forgets all. */
int passed_take_failure(XenPVIOMMUPassed *p, const PassedContext *pc);

/** passed_retry: try again to unmap and flush what failed before */
void passed_retry(XenPVIOMMUPassed *p);

/** passed_stale: there is such a thing */
bool passed_stale(const XenPVIOMMUPassed *p);

/* passed-faults.c; BQL, not the lock */

void passed_faults_open(XenPVIOMMUPassed *p);
void passed_faults_close(XenPVIOMMUPassed *p);

/** passed_faults_poll: take the faults there are to the guest's ring */
void passed_faults_poll(XenPVIOMMUPassed *p);

#endif /* HW_XEN_PVIOMMU_PASSED_INTERNAL_H */
