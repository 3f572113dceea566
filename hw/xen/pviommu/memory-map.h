/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A copy of the machine's memory map: what is at a guest-physical address
 *
 * It never changes, and holds references on the regions in it.
 *
 * Locking: none, but the BQL to make one.
 */

#ifndef HW_XEN_PVIOMMU_MEMORY_MAP_H
#define HW_XEN_PVIOMMU_MEMORY_MAP_H

#include "hw/pci/pci_device.h"
#include "qemu/rcu.h"
#include "../compat.h"

typedef enum XenPVIOMMUSectionKind {
    SECTION_RAM,
    SECTION_ROM,
    SECTION_MMIO,               /* of a memory BAR of a PCI function */
    SECTION_OTHER,
} XenPVIOMMUSectionKind;

/* A part of it, by guest-physical byte address */
typedef struct XenPVIOMMUSection {
    uint64_t start;
    uint64_t last;
    MemoryRegion *mr;           /* SECTION_MMIO: all of the BAR */
    uint64_t offset;            /* in mr, of start */
    XenPVIOMMUSectionKind kind;
    bool unpluggable;           /* parts of it can be unplugged */
    PCIDevice *dev;             /* SECTION_MMIO: the function */
    bool hidden;                /* SECTION_MMIO: nothing is there for now */
} XenPVIOMMUSection;

/* Pages of a BAR that are memory of a physical device, by GFN */
typedef struct XenPVIOMMUDeviceRam {
    uint64_t start;
    uint64_t end;
} XenPVIOMMUDeviceRam;

typedef struct XenPVIOMMUMemoryMap {
    struct rcu_head rcu;
    GArray *sections;           /* of XenPVIOMMUSection, sorted */
    GArray *device_ram;         /* of XenPVIOMMUDeviceRam, sorted */
    unsigned nr_unpluggable;    /* sections with a RamDiscardManager */
} XenPVIOMMUMemoryMap;

/** xen_pviommu_memory_map_new: an empty one */
XenPVIOMMUMemoryMap *xen_pviommu_memory_map_new(void);

/**
 * xen_pviommu_memory_map_read: the machine's as it is now; BQL held
 * @self: a function whose BARs are SECTION_OTHER
 * @old: the copy before
 *
 * A BAR that is not to be seen now stays where it was in @old, hidden, until it
 * is seen again, its function is unplugged, or something else is there: a
 * driver disables a BAR in passing, as it looks for its size or resets the
 * function.
 */
XenPVIOMMUMemoryMap *
xen_pviommu_memory_map_read(const PCIDevice *self,
                            const XenPVIOMMUMemoryMap *old);

/** xen_pviommu_memory_map_free: not in a transaction of the memory map */
void xen_pviommu_memory_map_free(XenPVIOMMUMemoryMap *map);

/** xen_pviommu_memory_map_at: section @i, below map->sections->len */
static inline const XenPVIOMMUSection *
xen_pviommu_memory_map_at(const XenPVIOMMUMemoryMap *map, guint i)
{
    return &g_array_index(map->sections, XenPVIOMMUSection, i);
}

/**
 * xen_pviommu_memory_map_find: the first section that has something of
 * [@start, @last], or NULL
 */
const XenPVIOMMUSection *
xen_pviommu_memory_map_find(const XenPVIOMMUMemoryMap *map, uint64_t start,
                            uint64_t last);

/** xen_pviommu_device_ram_at: range @i, below map->device_ram->len */
static inline const XenPVIOMMUDeviceRam *
xen_pviommu_device_ram_at(const XenPVIOMMUMemoryMap *map, guint i)
{
    return &g_array_index(map->device_ram, XenPVIOMMUDeviceRam, i);
}

/** xen_pviommu_has_device_ram: exactly this range is one of @map */
bool xen_pviommu_has_device_ram(const XenPVIOMMUMemoryMap *map,
                                const XenPVIOMMUDeviceRam *ram);

/**
 * xen_pviommu_is_device_ram: whether @gfn is in a range of @map
 * @end: is made less where another frame below it is not as @gfn
 */
bool xen_pviommu_is_device_ram(const XenPVIOMMUMemoryMap *map, uint64_t gfn,
                               uint64_t *end);

#endif /* HW_XEN_PVIOMMU_MEMORY_MAP_H */
