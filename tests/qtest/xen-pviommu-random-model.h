/*
 * xen-pviommu: what random operations have to return, and to change
 *
 * docs/specs/xen-pviommu.rst in arrays, a page an entry.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef XEN_PVIOMMU_RANDOM_MODEL_H
#define XEN_PVIOMMU_RANDOM_MODEL_H

#include "libqos/pviommu-mirror.h"

#define SLOT            0x11
#define NR_DEVICES      4
#define CACHE           3               /* the device that caches */

#define MAX_CONTEXTS    5
/* Less than the runs that may wait for a flush: those have no limit then. */
#define MAX_MAPPINGS    4000
/* Or so many that no limit is ever reached; most queues need no calls then. */
#define MANY_MAPPINGS   0x1000000

#define BFN_BITS        36
#define BFN_LIMIT       (1ull << BFN_BITS)
/* BFNs that are used: across blocks of 2 MiB, and the last ones there are. */
#define LOW             0x1fe00ull
#define NR_LOW          2048
#define NR_HIGH         512
#define HIGH            (BFN_LIMIT - NR_HIGH)
#define NR_FRAMES       (NR_LOW + NR_HIGH)
/* Records that are flushed one by one; of more the device flushes all. */
#define RECORDS_MAX     256
/* Reserved, among the low ones */
#define RESERVED        0x20480ull
#define NR_RESERVED     0x80

#define ROM_GFN         (PVIOMMU_BIOS_ADDR / PVIOMMU_PAGE)
#define NR_ROM          (PVIOMMU_BIOS_SIZE / PVIOMMU_PAGE)

/* A BAR of a device that does no DMA, which is at one of some places */
#define PEER_SLOT       (SLOT + NR_DEVICES + 1)
#define BAR_GFN         (0xf0000000ull / PVIOMMU_PAGE)
#define BAR_FRAMES      32
#define NR_PLACES       4

/* A frame: 0, or its GFN + 1 and a flag */
#define FRAME_RO        (1ull << 63)
#define FRAME_GFN(f)    (((f) & ~FRAME_RO) - 1)

typedef struct Context {
    bool live;
    unsigned devices;
    uint64_t map[NR_FRAMES];
    uint16_t waiting[NR_FRAMES];        /* for a flush, how many */
    uint16_t waiting_bar[NR_FRAMES];    /* of these, how many of the BAR */
    unsigned records;                   /* that these are, at the most */

    QPVIOMMUQueue queue;                /* nr_ops 0: it has none */
    uint32_t checked;                   /* operations of the queue */
    uint32_t errors;                    /* of those that were stored */
    struct xen_iommu_op *expected;      /* as the queue's, when they ran */
} Context;

typedef struct Bar {
    QPCIDevice dev;
    unsigned place;             /* where it would be shown */
    unsigned seen;              /* where it was shown last */
    bool shown;
} Bar;

typedef struct Model {
    QXenPVIOMMU *iommu;
    bool listen;                        /* the devices do */
    uint64_t max_mappings;
    QMirror dev[NR_DEVICES];
    unsigned dev_ctx[NR_DEVICES];
    Context ctx[MAX_CONTEXTS];
    Bar bar;
    uint32_t new_queues;                /* in the batch being made: contexts */
    uint64_t mapped;
    uint64_t pending;
    uint64_t queued;                    /* operations */
    uint64_t ran_by_dma;                /* of them */
    uint64_t bar_mapped;                /* frames of the BAR, and... */
    uint64_t bar_gone;                  /* those that its moves unmapped */
    GRand *rand;
} Model;

/* The frames that are used, by number */
uint64_t model_bfn(unsigned i);
/** model_frame: NR_FRAMES for a BFN that nobody uses */
unsigned model_frame(uint64_t bfn);
bool model_reserved(uint64_t bfn, uint64_t nr);

/** model_in_bar: what a frame has is of the BAR, shown or not */
bool model_in_bar(const Model *m, uint64_t frame);
/** model_frame_there: a device that translates gets to something */
bool model_frame_there(const Model *m, uint64_t frame, bool write);
/**
 * model_set_bar: the BAR is at this place, or is not shown
 *
 * Of what was queued all must have run. What is mapped of another place is gone
 * when it is shown.
 */
void model_set_bar(Model *m, unsigned place, bool shown);

/** model_reset: the machine was started, or reset, and has a driver again */
void model_reset(Model *m);

/*
 * Operations, all ranges of which lie in what is used: each returns the status.
 * Those that get @op store there what the device stores besides.
 */
int model_lookup_bfn(Model *m, struct xen_iommu_op *op, unsigned id,
                     uint64_t bfn);
int model_lookup_gfn(Model *m, struct xen_iommu_op *op, unsigned id,
                     uint64_t gfn, uint64_t from);
int model_alloc(Model *m, struct xen_iommu_op *op);
int model_free(Model *m, unsigned id);
int model_attach(Model *m, uint32_t sbdf, unsigned id);
/** model_change: a map, an unmap or a flush */
int model_change(Model *m, const struct xen_iommu_op *op);
void model_flush_all(Model *m);

/*
 * Queues. The model runs what is queued at once. When the device does, it must
 * come to the same: so as long as there are limits to reach, one queue at a
 * time has operations that did not run.
 */

/** model_queue_addr: two for a context, as an old queue may have to run */
uint64_t model_queue_addr(unsigned id, bool second);
/** model_context: NULL if there is none */
Context *model_context(Model *m, unsigned id);
/** model_set_queue: in zeroes; the guest uses it after this batch */
int model_set_queue(Model *m, unsigned id, uint64_t addr, uint32_t nr_ops);
/** model_queued: what the queue of @id says to @op */
int model_queued(Model *m, unsigned id, const struct xen_iommu_op *op);
/** model_check_queue: all of it ran: each operation is what it should be */
void model_check_queue(Model *m, Context *c);
void model_check_queues(Model *m);
/** model_kick_queues: run all of them, by calls, and check them */
void model_kick_queues(Model *m);
void model_drop_queues(Model *m);

#endif
