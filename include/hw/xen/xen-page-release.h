/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Pages that leave the guest: what holds them drops them before they are freed
 *
 * Works with and without a xen-pviommu in the machine.
 *
 * Locking: BQL where no function says "any thread".
 */

#ifndef HW_XEN_XEN_PAGE_RELEASE_H
#define HW_XEN_XEN_PAGE_RELEASE_H

#include "qemu/queue.h"

struct MemoryRegion;
struct MemoryRegionCache;
struct buf_ioreq;
struct ioreq;

/* Frame numbers count pages of 4 KiB... */
#define XEN_GFN_SHIFT 12
#define XEN_GFN_SIZE (1ull << XEN_GFN_SHIFT)
/* ... and are below 1 << this: physical addresses have 52 bits at most. */
#define XEN_GFN_BITS 40

/* A range of frames. */
typedef struct XenPageRange {
    uint64_t gfn;
    uint64_t nr;
} XenPageRange;

/** xen_page_ranges_add: to an array of XenPageRange; joins the one before */
void xen_page_ranges_add(GArray *ranges, uint64_t gfn, uint64_t nr);

/** xen_page_ranges_merge: sort them, and join what touches */
void xen_page_ranges_merge(GArray *ranges);

/* What holds guest pages, and drops those that leave the guest. */
typedef struct XenPageHolder {
    /*
     * The @nr_ranges ranges go away, all at once. None is empty, and their ends
     * are within XEN_GFN_BITS. BQL held.
     */
    void (*release)(struct XenPageHolder *holder, const XenPageRange *ranges,
                    unsigned nr_ranges);
    /* Add to @ranges what it holds of the pages that the hypervisor has. */
    void (*held)(struct XenPageHolder *holder, GArray *ranges);
    QLIST_ENTRY(XenPageHolder) next;
} XenPageHolder;

/**
 * xen_page_holder_register: ask to be notified of pages that go away
 *
 * The source of pages, if there is one, is notified first, and then the holder
 * that came last. BQL held.
 */
void xen_page_holder_register(XenPageHolder *holder);
void xen_page_holder_unregister(XenPageHolder *holder);

/*
 * Where guest memory is the hypervisor's: what can ask it for pages. Under Xen
 * that is the mapcache.
 */
typedef struct XenPageSourceOps {
    /* Pages go away: as XenPageHolder.release. */
    void (*release)(const XenPageRange *ranges, unsigned nr_ranges);
    /*
     * Ask the hypervisor which of the @nr frames of @gfns have no page, and
     * set their bits in @missing; also those of which it cannot say. Returns:
     * how much work that was, some nanoseconds each. Any thread.
     */
    uint64_t (*missing)(const uint64_t *gfns, unsigned nr,
                        unsigned long *missing);
    /*
     * It is the hypervisor that has the pages of @mr, at its RAM addresses. Any
     * thread.
     */
    bool (*backs)(struct MemoryRegion *mr);
    /* xen_page_map_long_lived(); the hypervisor has @size bytes at @addr. */
    void *(*map_long_lived)(uint64_t addr, uint64_t size);
    void (*unmap_long_lived)(void *p);
    /* xen_page_cache_long_lived(), of RAM that the hypervisor has */
    void (*cache_long_lived)(struct MemoryRegionCache *cache);
} XenPageSourceOps;

/** xen_page_source_register: once, before there are threads; it stays */
void xen_page_source_register(const XenPageSourceOps *ops);

/**
 * xen_page_release: pages of the guest go away
 * @gfn: the first, a guest frame number (4 KiB)
 * @nr: how many; the range may hold frames that are no RAM
 *
 * Drops them from Xen's mapcache, and notifies all holders. A xen-pviommu
 * unmaps them from every context, notifies its devices (IOMMU notifiers), and
 * drops its references. When this returns, only DMA in flight holds any of
 * them, until it ends. BQL held.
 */
void xen_page_release(uint64_t gfn, uint64_t nr);

/**
 * xen_page_release_ranges: the same for many that go at once
 * @ranges: of XenPageRange, each as for xen_page_release()
 *
 * Each holder is notified once, of all of them.
 */
void xen_page_release_ranges(const GArray *ranges);

/**
 * xen_page_release_unnamed: unknown pages of the guest went away
 *
 * As xen_page_release(), for those that are held and that the hypervisor
 * has no longer. The mapcache must have forgotten all it knew before. The
 * hypervisor is asked for each page that is held. BQL held.
 */
void xen_page_release_unnamed(void);

/**
 * xen_page_source_backs: only the hypervisor knows where @mr has pages
 *
 * Any thread.
 */
bool xen_page_source_backs(struct MemoryRegion *mr);

/**
 * xen_page_map_long_lived: map a part of RAM, to hold it for long
 * @mr: RAM; the caller holds a reference to it until it unmaps
 * @offset: in @mr, bytes
 * @size: bytes; within @mr
 *
 * Under Xen this holds no page but those of the range. A lock in the mapcache
 * can hold all that are around. Pages that leave the guest stay mapped until
 * xen_page_unmap_long_lived(): what maps them should be a holder, and unmap
 * them then. Any thread.
 *
 * Returns: where it is, or NULL if a page is missing.
 */
void *xen_page_map_long_lived(struct MemoryRegion *mr, uint64_t offset,
                              uint64_t size);

/** xen_page_unmap_long_lived: what xen_page_map_long_lived() of @mr returned */
void xen_page_unmap_long_lived(struct MemoryRegion *mr, void *p);

/**
 * xen_page_cache_long_lived: address_space_cache_set_long_lived() of @cache
 *
 * As xen_page_map_long_lived(), for a cache that was initialized just now and
 * is not in use yet. Nothing else changes for its owner, which destroys it as
 * ever.
 */
void xen_page_cache_long_lived(struct MemoryRegionCache *cache);

/*
 * What xen_page_source_populated() asks the hypervisor for at a time: 32
 * hypercalls, some milliseconds.
 */
#define XEN_PAGE_SOURCE_FRAMES (1u << 15)

/**
 * xen_page_source_populated: the hypervisor has a page at all of these frames
 * @work: grows by what that took, some nanoseconds each
 *
 * Returns: 0; -ENOENT: not at all of them; -EAGAIN: the range is long, and a
 * part of it is done, so ask again. Any thread.
 */
int xen_page_source_populated(uint64_t gfn, uint64_t nr, uint64_t *work);

/**
 * xen_page_release_discarded: RAM that is discarded leaves the guest
 *
 * From here on, as xen_page_release() for each place at which the guest has it.
 * Not in threads without the BQL: what they discard does not leave the guest.
 * Call it before there are such threads; once or more often.
 */
void xen_page_release_discarded(void);

/* What came from the hypervisor, and what Xen's mapcache did about it. */
typedef struct XenPageReleaseStats {
    bool per_page;              /* the hypervisor names each page */
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
} XenPageReleaseStats;

extern XenPageReleaseStats xen_page_release_stats;

/**
 * xen_page_release_create_server: an ioreq server that is notified page by page
 *
 * As xen_create_ioreq_server().
 *
 * Returns: 0, or -1 if the hypervisor does not know how; there is no server
 * then.
 */
int xen_page_release_create_server(uint16_t domid, int handle_bufioreq,
                                 uint16_t *id);

/**
 * xen_page_release_ioreq: handle an IOREQ_TYPE_INVALIDATE_PAGE, or an
 * IOREQ_TYPE_INVALIDATE. BQL held.
 */
void xen_page_release_ioreq(const struct ioreq *req);

/**
 * xen_page_release_buffered: handle an entry of the buffered ring, if it is one
 * @entry: in memory that the hypervisor shares with us
 *
 * Returns: false if it is something else. BQL held.
 */
bool xen_page_release_buffered(const struct buf_ioreq *entry);

#endif /* HW_XEN_XEN_PAGE_RELEASE_H */
