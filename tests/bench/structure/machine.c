/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * As much of a machine as backend-emulated.c and memory-map.c look at: the
 * memory map of a PC
 */

#include "qemu/osdep.h"
#include "qemu/units.h"
#include "../../../hw/xen/compat.h"
#include "hw/xen/xen-page-release.h"

typedef struct Part {
    uint64_t start;
    uint64_t size;
    bool ram;
    bool readonly;
} Part;

static const Part parts[] = {
    { 0, 640 * KiB, .ram = true },
    { 0xa0000, 128 * KiB },                             /* VGA */
    { 0xc0000, 128 * KiB, .ram = true, .readonly = true },
    { 0xe0000, 64 * KiB, .ram = true },
    { 0xf0000, 64 * KiB, .ram = true, .readonly = true },
    { 1 * MiB, 3 * GiB - 1 * MiB, .ram = true },
    { 0xfd000000, 16 * MiB },                           /* BARs */
    { 0xfec00000, 4 * KiB },                            /* IO-APIC */
    { 0xfed00000, 1 * KiB },                            /* HPET */
    { 0xfee00000, 1 * MiB },                            /* APIC */
    { 0xfffc0000, 256 * KiB, .ram = true, .readonly = true },
    { 4 * GiB, 4 * TiB, .ram = true },
};

static MemoryRegion regions[ARRAY_SIZE(parts)];
AddressSpace address_space_memory;

static void for_each_part(MemoryListener *listener,
                          void (*func)(MemoryListener *listener,
                                       MemoryRegionSection *section))
{
    if (listener->begin) {
        listener->begin(listener);
    }
    for (int i = 0; i < ARRAY_SIZE(parts); i++) {
        MemoryRegionSection section = {
            .mr = &regions[i],
            .size = int128_make64(parts[i].size),
            .offset_within_address_space = parts[i].start,
            .readonly = parts[i].readonly,
        };

        regions[i].ram = parts[i].ram;
        regions[i].readonly = parts[i].readonly;
        func(listener, &section);
    }
    listener->commit(listener);
}

void memory_listener_register(MemoryListener *listener, AddressSpace *filter)
{
    g_assert(filter == &address_space_memory);
    for_each_part(listener, listener->region_add);
}

void memory_listener_unregister(MemoryListener *listener)
{
    for_each_part(listener, listener->region_del);
}

/* Only its address is of interest. */
MemoryRegion *get_system_memory(void)
{
    static MemoryRegion root;

    return &root;
}

MemoryRegionSection memory_region_find(MemoryRegion *mr, hwaddr addr,
                                       uint64_t size)
{
    MemoryRegionSection section = { };

    g_assert(mr == get_system_memory());
    for (int i = 0; i < ARRAY_SIZE(parts) && !section.mr; i++) {
        uint64_t start = MAX(addr, parts[i].start);

        if (start < parts[i].start + parts[i].size && start - addr < size) {
            section = (MemoryRegionSection) {
                .mr = &regions[i],
                .size = int128_make64(parts[i].start + parts[i].size - start),
                .offset_within_address_space = start,
                .offset_within_region = start - parts[i].start,
                .readonly = parts[i].readonly,
            };
        }
    }
    return section;
}

void memory_region_unref(MemoryRegion *mr)
{
    /* They are there to the end. */
}

/* No device has a BAR here. */
Object *memory_region_owner(MemoryRegion *mr)
{
    return NULL;
}

uint64_t memory_region_size(MemoryRegion *mr)
{
    g_assert_not_reached();
}

bool memory_region_is_ram_device(XEN_PVIOMMU_CONST_MR MemoryRegion *mr)
{
    return mr->ram_device;
}

/* There is no hypervisor that would know more of it. */
bool xen_page_source_backs(MemoryRegion *mr)
{
    return false;
}

int xen_page_source_populated(uint64_t gfn, uint64_t nr, uint64_t *work)
{
    g_assert_not_reached();
}

void xen_page_ranges_add(GArray *ranges, uint64_t gfn, uint64_t nr)
{
    g_assert_not_reached();
}

ram_addr_t memory_region_get_ram_addr(XEN_PVIOMMU_CONST_MR MemoryRegion *mr)
{
    g_assert_not_reached();
}

RamDiscardManager *memory_region_get_ram_discard_manager(MemoryRegion *mr)
{
    return NULL;
}

bool ram_discard_manager_is_populated(const RamDiscardManager *rdm,
                                      const MemoryRegionSection *section)
{
    /* There is none */
    g_assert_not_reached();
}
