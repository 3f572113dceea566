/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The core in a test: a guest's memory, devices that remember their
 * notifications, and a model of docs/specs/xen-pviommu.rst in plain arrays,
 * which says what each operation has to return.
 */

#ifndef TESTS_UNIT_PVIOMMU_FIXTURE_H
#define TESTS_UNIT_PVIOMMU_FIXTURE_H

#include "../../hw/xen/pviommu/core/context.h"
#include "../../hw/xen/pviommu/core/core.h"
#include "../../hw/xen/pviommu/core/iommu-op.h"

/* A fuzzer has less, for more of them in a second. */
#ifndef NR_GFNS
#define NR_GFNS         4096
#endif
#define NR_DEVICES      4
#define MAX_CONTEXTS    8
#define MODEL_MAX_BITS  14
#define MAX_IRQS        96      /* entries that the model can have */

#define DOMID_SELF      XEN_IOMMU_DOMID_SELF
#define DOMID_FOREIGN   2       /* is there, and not ours to map */

/* Where query_reserved may store. */
#define STORE_BASE      0x100000
#define STORE_SIZE      0x1000

/* Where queues may be. */
#define QUEUE_BASE      0x200000
#define QUEUE_SIZE      0x100000

typedef enum Kind {
    KIND_ABSENT,
    KIND_RAM,
    KIND_ROM,
    KIND_MMIO,
    KIND_BAR,                   /* MMIO that can be mapped, with its feature */
    KIND_PAGED,                 /* out; comes back when it is asked for */
} Kind;

/* A frame that is mapped: 0, or the GFN plus 1, and a flag */
typedef uint32_t Frame;
#define FRAME_READONLY  0x80000000u

static inline Frame frame_new(uint64_t gfn, bool readonly)
{
    return (gfn + 1) | (readonly ? FRAME_READONLY : 0);
}

static inline uint64_t frame_gfn(Frame f)
{
    return (f & ~FRAME_READONLY) - 1;
}

static inline bool frame_readonly(Frame f)
{
    return f & FRAME_READONLY;
}

typedef struct Fixture Fixture;

struct XenPVIOMMUBackend {
    Fixture *fixture;
    uint8_t kind[NR_GFNS];      /* Kind */
    bool huge;                  /* RAM goes on behind NR_GFNS */
    bool by_number;             /* references are dropped without a page */
    uint32_t ro[NR_GFNS];       /* references */
    uint32_t rw[NR_GFNS];
    uint64_t total;
};

typedef struct Device {
    uint32_t sbdf;
    XenPVIOMMUIrqOwner irqs;
    bool gone;
    XenPVIOMMUContext *ctx;
    GArray *reserved;
    /* Translations that it was notified of, until they are unmapped. */
    Frame *tlb;                 /* by BFN */
    uint32_t ro[NR_GFNS];       /* how often each page is in tlb */
    uint32_t rw[NR_GFNS];
} Device;

typedef struct Pending {
    uint64_t bfn;
    uint64_t frame;             /* a Frame */
} Pending;

/* A queue, of which it only matters where it is. */
struct XenPVIOMMUQueue {
    uint64_t addr;
    uint32_t nr_ops;            /* 0: none */
};

typedef struct ModelContext {
    bool live;
    bool identity;
    Frame *map;                 /* by BFN */
    GArray *pending;            /* of Pending, each one page */
    XenPVIOMMUQueue queue;
} ModelContext;

typedef struct ModelIrq {
    unsigned owner;             /* its device plus 1; 0: free */
    unsigned index;
    unsigned flags;
    unsigned vector;
    unsigned delivery;
    uint32_t dest;
} ModelIrq;

typedef struct Model {
    bool identity;
    ModelIrq irq[MAX_IRQS];
    bool irqs_enabled;
    bool direct[NR_DEVICES];
    ModelContext ctx[MAX_CONTEXTS];
    uint16_t device_ctx[NR_DEVICES];
    uint64_t mapped;
    uint64_t pending;
    uint64_t counter[XEN_PVIOMMU_NR_EVENT_COUNTERS];
    unsigned enabled;
} Model;

struct Fixture {
    XenPVIOMMUCore core;
    XenPVIOMMUBackendOps ops;
    XenPVIOMMUBackend backend;
    Device dev[NR_DEVICES];
    unsigned enabled;           /* calls */
    unsigned irqs_enabled;      /* calls */
    uint64_t unmap_calls;
    uint64_t map_calls;
    uint8_t stored[STORE_SIZE];
    XenPVIOMMUQueue queue[MAX_CONTEXTS];
    bool pressed;               /* there may be no memory for an operation */
    bool may_lose;              /* an invalidation may unmap more, for that */
    bool out_of_memory;         /* what the core said of this operation */
    int status;                 /* and that */
    uint64_t runs_before;       /* that were pending before it */
    bool any_room;              /* a part of an unmap, which found room */
    bool flushes_all[MAX_CONTEXTS]; /* a flush there would be of all, before */
    unsigned parts;             /* times that operations were unfinished */
    uint64_t most_work;         /* of one call */
    bool modelled;              /* small enough for tlb and model */
    Model model;
};

typedef struct FixtureConfig {
    unsigned bfn_bits;
    unsigned max_contexts;
    uint64_t max_mappings;
    unsigned max_irqs;          /* MAX_IRQS at the most, if it is modelled */
    bool premap;
    bool no_control;
    bool no_queues;
    bool no_identity;
    bool no_mmio;
    uint32_t ops;               /* 0: all */
    const XenPVIOMMUReserved *reserved;
    unsigned nr_reserved;
} FixtureConfig;

/* In identity mode at first; small enough to be compared page by page. */
extern const FixtureConfig config_small;
/* As large as the interface allows. */
extern const FixtureConfig config_large;

/** fixture_bfn_limit: BFNs are below it */
static inline uint64_t fixture_bfn_limit(const Fixture *f)
{
    return 1ull << f->core.limits.bfn_bits;
}

Fixture *fixture_new(const FixtureConfig *config);
void fixture_free(Fixture *f);

/** fixture_reserve: what device @i reserves; while nothing is mapped */
void fixture_reserve(Fixture *f, unsigned i, uint64_t bfn, uint64_t nr,
                     uint32_t flags);

/** fixture_op: run @op on the core and on the model, compare, return status */
int fixture_op(Fixture *f, struct xen_iommu_op *op);

/** fixture_queued_op: the same for an operation of a queue of context @id */
int fixture_queued_op(Fixture *f, uint16_t id, struct xen_iommu_op *op);

/** fixture_unplug: device @i is no more; it ends in context 0 */
void fixture_unplug(Fixture *f, unsigned i);

/** fixture_accept: as by the register */
void fixture_accept(Fixture *f, uint64_t features);

void fixture_invalidate(Fixture *f, uint64_t gfn, uint64_t nr);
void fixture_reset(Fixture *f);

/** fixture_check: all there is against the model; slow */
void fixture_check(Fixture *f);

/** fixture_page_refs: the backend's references on a page */
uint64_t fixture_page_refs(const Fixture *f, uint64_t gfn);

#endif /* TESTS_UNIT_PVIOMMU_FIXTURE_H */
