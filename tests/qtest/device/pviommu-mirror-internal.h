/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * pviommu-mirror: its state, and what its two files have of each other
 */

#ifndef TESTS_QTEST_PVIOMMU_MIRROR_INTERNAL_H
#define TESTS_QTEST_PVIOMMU_MIRROR_INTERNAL_H

#include "qemu/interval-tree.h"
#include "hw/pci/pci_device.h"
#include "system/host_iommu_device.h"
#include "system/iothread.h"
#include "../../../hw/xen/compat.h"
#include "pviommu-mirror.h"

#define TYPE_PVIOMMU_MIRROR "pviommu-mirror"
OBJECT_DECLARE_SIMPLE_TYPE(PVIOMMUMirror, PVIOMMU_MIRROR)

/* What VFIO would know of the host's IOMMU: what iova-ranges says. */
#define TYPE_PVIOMMU_MIRROR_HOST "pviommu-mirror-host"

#define PAGE_BITS       12
#define PAGE_SIZE_BYTES (1ull << PAGE_BITS)

/* How long it waits for its I/O thread before a test has failed. */
#define WAIT_MS         (100 * 1000)

/* What one MAP, one translation, or one section of RAM brought. */
typedef struct MirrorEntry {
    IntervalTreeNode node;      /* bus addresses, in bytes */
    uint64_t gpa;
    IOMMUAccessFlags perm;
    bool ram;
} MirrorEntry;

/* A section of the address space that is translated. */
typedef struct MirrorSection {
    IOMMUNotifier n;
    IOMMUMemoryRegion *mr;
    PVIOMMUMirror *m;
    uint64_t offset;            /* in the address space, of offset 0 in mr */
    QLIST_ENTRY(MirrorSection) next;
} MirrorSection;

typedef struct HeldDMA {
    void *host;
    dma_addr_t len;
    DMADirection dir;
} HeldDMA;

struct PVIOMMUMirror {
    PCIDevice parent_obj;

    MemoryRegion bar;
    MemoryRegion alias_bar;
    MemoryRegion assigned_bar;
    MemoryRegion assigned_memory;
    void *memory;
    AddressSpace *as;
    MemoryListener listener;
    MemoryListener waiter;      /* of the machine's memory, and waits */
    QemuSemaphore waited;
    IOMMUNotifierFlag flags;
    IntervalTreeRoot entries;
    QLIST_HEAD(, MirrorSection) sections;
    HeldDMA held[PVIOMMU_MIRROR_NR_SLOTS];

    uint64_t counter[PVIOMMU_MIRROR_NR_COUNTERS];
    uint64_t result;
    uint64_t iova;
    uint64_t len;
    uint64_t gpa;
    uint64_t data;
    uint64_t write;
    uint64_t perm;
    uint64_t mask;
    uint64_t slot;
    uint64_t poke;
    uint64_t poked;
    uint64_t watch;
    uint64_t seen;
    uint64_t wait;
    uint64_t ring;
    uint64_t hide;
    bool forbids;               /* that RAM is discarded */
    HostIOMMUDevice *host;

    /* properties */
    char *notifier;
    bool pins;
    uint64_t *iova_ranges;      /* first and last byte of each */
    uint32_t nr_iova_ranges;    /* twice as many as there are */
    uint64_t alias;
    IOThread *iothread;
    bool late;
    bool assigned;
    IOMMUNotifier other;        /* of SYNC and LISTEN */
    bool listens;
};

/* pviommu-mirror-listen.c */
bool mirror_keeps_maps(const PVIOMMUMirror *m);
MirrorEntry *mirror_entry_first(PVIOMMUMirror *m, uint64_t start,
                                uint64_t last);
void mirror_entry_add(PVIOMMUMirror *m, uint64_t start, uint64_t last,
                      uint64_t gpa, IOMMUAccessFlags perm, bool ram);
void mirror_entry_remove(PVIOMMUMirror *m, MirrorEntry *e);
bool mirror_remove_range(PVIOMMUMirror *m, uint64_t start, uint64_t last);
void mirror_count_size(PVIOMMUMirror *m, unsigned n, uint64_t mask);
void mirror_wait_for_iothread(PVIOMMUMirror *m);
void mirror_region_add(MemoryListener *listener, MemoryRegionSection *section);
MirrorSection *mirror_any_section(PVIOMMUMirror *m);
void mirror_unlisten(PVIOMMUMirror *m);
void mirror_region_del(MemoryListener *listener, MemoryRegionSection *section);

#endif /* TESTS_QTEST_PVIOMMU_MIRROR_INTERNAL_H */
