/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the rest of QEMU may call of xen-pviommu
 */

#ifndef HW_XEN_XEN_PVIOMMU_H
#define HW_XEN_XEN_PVIOMMU_H

#include "qemu/queue.h"

struct AddressSpace;
struct MemoryRegion;
struct MemoryRegionCache;
struct RAMBlock;
struct buf_ioreq;
struct ioreq;

/* A range of frames. */
typedef struct XenPageRange {
    uint64_t gfn;
    uint64_t nr;
} XenPageRange;

/** xen_page_ranges_add: to an array of XenPageRange; joins the one before */
void xen_page_ranges_add(GArray *ranges, uint64_t gfn, uint64_t nr);

/** xen_page_ranges_merge: sort them, and join what touches */
void xen_page_ranges_merge(GArray *ranges);

/*
 * Who holds guest pages, and lets go of those that leave the guest. All but
 * the first may be NULL; those for the hypervisor are there together, in one
 * client that stays.
 */
typedef struct XenInvalidateClient {
    /*
     * The @nr_ranges ranges go away, all at once. None is empty, and their ends
     * are within XEN_INVALIDATE_GFN_BITS. BQL held.
     */
    void (*invalidate)(struct XenInvalidateClient *client,
                       const XenPageRange *ranges, unsigned nr_ranges);
    /* See xen_invalidate_covers(); NULL: no. */
    bool (*covers)(struct XenInvalidateClient *client,
                   const struct AddressSpace *as);
    /* Add to @ranges what it holds of the pages that the hypervisor has. */
    void (*held)(struct XenInvalidateClient *client, GArray *ranges);
    /*
     * Ask the hypervisor which of the @nr frames of @gfns have no page, and
     * set their bits in @missing; also those of which it cannot say. Returns:
     * how much work that was, some nanoseconds each. Any thread.
     */
    uint64_t (*missing)(struct XenInvalidateClient *client,
                        const uint64_t *gfns, unsigned nr,
                        unsigned long *missing);
    /*
     * It is the hypervisor that has the pages of @mr, at its RAM addresses. Any
     * thread.
     */
    bool (*backs)(struct XenInvalidateClient *client,
                  struct MemoryRegion *mr);
    /* See xen_lasting_map(); @addr is where the hypervisor has @size bytes. */
    void *(*map_lasting)(struct XenInvalidateClient *client,
                         uint64_t addr, uint64_t size);
    void (*unmap_lasting)(struct XenInvalidateClient *client, void *p);
    /* See xen_lasting_cache(); it has RAM that the hypervisor has. */
    void (*lasting_cache)(struct XenInvalidateClient *client,
                          struct MemoryRegionCache *cache);
    QLIST_ENTRY(XenInvalidateClient) next;
} XenInvalidateClient;

/* GFNs are below 1 << this: physical addresses have 52 bits at most. */
#define XEN_INVALIDATE_GFN_BITS 40

/**
 * xen_invalidate_register: ask to be told of pages that go away
 *
 * Who can ask the hypervisor is told first, and then the client that came last.
 * BQL held.
 */
void xen_invalidate_register(XenInvalidateClient *client);
void xen_invalidate_unregister(XenInvalidateClient *client);

/**
 * xen_invalidate_pages: pages of the guest go away
 * @gfn: the first, a guest frame number (4 KiB)
 * @nr: how many; the range may hold frames that are no RAM
 *
 * Unmaps them from every context of every xen-pviommu, tells the devices
 * (IOMMU notifiers), drops the references that backends hold, and drops them
 * from Xen's mapcache. When it returns, only DMA in flight holds any of them,
 * until it ends. BQL held.
 */
void xen_invalidate_pages(uint64_t gfn, uint64_t nr);

/**
 * xen_invalidate_ranges: the same for many that go at once
 * @ranges: of XenPageRange, each as for xen_invalidate_pages()
 *
 * Everybody is asked once, and lets go of all of them.
 */
void xen_invalidate_ranges(const GArray *ranges);

/**
 * xen_invalidate_unnamed: pages of the guest went away, nobody says which
 *
 * As xen_invalidate_pages(), for those that are held and that the hypervisor
 * has no longer. The mapcache must have forgotten all it knew before. The
 * hypervisor is asked for each page that is held. BQL held.
 */
void xen_invalidate_unnamed(void);

/**
 * xen_invalidate_backs: only the hypervisor knows where @mr has pages
 *
 * Any thread.
 */
bool xen_invalidate_backs(struct MemoryRegion *mr);

/**
 * xen_lasting_map: map a part of RAM, to hold it for long
 * @mr: RAM; the caller holds a reference to it until it unmaps
 * @offset: in @mr, bytes
 * @size: bytes; within @mr
 *
 * Under Xen this holds no page but those of the range. A lock in the mapcache
 * can hold all that are around. Pages that leave the guest stay mapped until
 * xen_lasting_unmap(): who maps should be a client, and let go then. Any
 * thread.
 *
 * Returns: where it is, or NULL if a page is missing.
 */
void *xen_lasting_map(struct MemoryRegion *mr, uint64_t offset, uint64_t size);

/** xen_lasting_unmap: let go of what xen_lasting_map() of @mr returned */
void xen_lasting_unmap(struct MemoryRegion *mr, void *p);

/**
 * xen_lasting_cache: @cache is going to be held for long
 *
 * As xen_lasting_map(), for a cache that was initialized just now and that
 * nobody uses yet. Nothing else changes for its owner, who destroys it as ever.
 */
void xen_lasting_cache(struct MemoryRegionCache *cache);

/*
 * What xen_invalidate_populated() asks the hypervisor for at a time: 32
 * hypercalls, some milliseconds.
 */
#define XEN_INVALIDATE_POPULATED_FRAMES (1u << 15)

/**
 * xen_invalidate_populated: the hypervisor has a page at all of these frames
 * @work: grows by what that took, some nanoseconds each
 *
 * Returns: 0; -ENOENT: not at all of them; -EAGAIN: the range is long, and a
 * part of it is done, so ask again. Any thread.
 */
int xen_invalidate_populated(uint64_t gfn, uint64_t nr, uint64_t *work);

/** xen_invalidate_wanted: somebody is told of pages that go away. BQL held. */
bool xen_invalidate_wanted(void);

/**
 * xen_invalidate_ram: a part of a RAMBlock is about to be discarded
 * @start: in the block, in bytes
 * @len: bytes
 *
 * As xen_invalidate_pages(), for each place that the guest has it at. Does
 * nothing in a thread without the BQL: there, no page leaves the guest.
 */
void xen_invalidate_ram(const struct RAMBlock *rb, uint64_t start,
                        uint64_t len);

/**
 * xen_invalidate_covers: RAM may be discarded, whoever has @as pinned
 *
 * True if the notifiers of the IOMMU regions of @as run before what they map
 * is discarded, and if at times when there is RAM in @as itself discarding it
 * is forbidden - as long as the device is announced by
 * pci_device_set_iommu_device(). So VFIO need not forbid it. BQL held.
 */
bool xen_invalidate_covers(const struct AddressSpace *as);

/* What came from the hypervisor, and what Xen's mapcache did about it. */
typedef struct XenInvalidateStats {
    bool per_page;              /* the hypervisor agreed to tell page by page */
    uint64_t requests;          /* synchronous ones that name pages */
    uint64_t entries;           /* in the buffered ring, since the start */
    uint64_t barriers;
    uint64_t pages;             /* named by requests and entries */
    uint64_t malformed;
    uint64_t everything;        /* global invalidations of the mapcache */
    uint64_t mapcache_pages;    /* dropped one by one */
    uint64_t mapcache_buckets;  /* dropped whole */
    uint64_t mapcache_deferred; /* left to DMA in flight */
    uint64_t mapcache_released; /* those of them whose DMA ended */
} XenInvalidateStats;

extern XenInvalidateStats xen_invalidate_stats;

/**
 * xen_invalidate_create_server: an ioreq server that is told page by page
 *
 * As xen_create_ioreq_server().
 *
 * Returns: 0, or -1 if the hypervisor does not know how; there is no server
 * then.
 */
int xen_invalidate_create_server(uint16_t domid, int handle_bufioreq,
                                 uint16_t *id);

/**
 * xen_invalidate_ioreq: handle an IOREQ_TYPE_INVALIDATE_PAGE, or an
 * IOREQ_TYPE_INVALIDATE. BQL held.
 */
void xen_invalidate_ioreq(const struct ioreq *req);

/**
 * xen_invalidate_buffered: handle an entry of the buffered ring, if it is ours
 * @entry: in memory that the hypervisor shares with us
 *
 * Returns: false if it is something else. BQL held.
 */
bool xen_invalidate_buffered(const struct buf_ioreq *entry);

/**
 * xen_pviommu_host_map: let physical devices of this host reach guest pages
 * @gfn: the first, a guest frame number (4 KiB)
 * @nr: how many, at most UINT32_MAX
 * @readonly: devices may only read
 * @bfn: OUT: the bus frame number at which our domain's devices find the first;
 *       the others follow it
 *
 * Works with backend=xen only. A page that leaves the guest leaves the
 * mapping, too: devices get faults there. The BFNs are the caller's until
 * xen_pviommu_host_unmap() all the same. BQL held.
 *
 * Returns: 0; or a negated errno, with @errp set and nothing mapped.
 * -EAGAIN: a page is on its way back, ask again; others are for good.
 */
int xen_pviommu_host_map(uint64_t gfn, uint64_t nr, bool readonly,
                         uint64_t *bfn, Error **errp);

/**
 * xen_pviommu_host_unmap: take pages away from physical devices
 * @bfn: as xen_pviommu_host_map() said, or within
 * @nr: how many; what is not mapped is passed over
 *
 * The caller is done with these BFNs, whatever comes of it. BQL held.
 *
 * Returns: 0, and no device reaches them; or a negated errno, with @errp set:
 * the hypervisor failed, devices may reach some of them, and it is asked again
 * when the pages leave the guest, and at the end.
 */
int xen_pviommu_host_unmap(uint64_t bfn, uint64_t nr, Error **errp);

#endif /* HW_XEN_XEN_PVIOMMU_H */
