/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A copy of the machine's memory map
 */

#include "qemu/osdep.h"
#include "core/page.h"
#include "memory-map.h"

typedef XenPVIOMMUSection Section;
typedef XenPVIOMMUMemoryMap MemoryMap;

const Section *xen_pviommu_memory_map_find(const MemoryMap *map, uint64_t start,
                                           uint64_t last)
{
    guint low = 0, high = map->sections->len;

    while (low < high) {
        guint mid = low + (high - low) / 2;

        if (xen_pviommu_memory_map_at(map, mid)->last < start) {
            low = mid + 1;
        } else {
            high = mid;
        }
    }
    return low < map->sections->len &&
           xen_pviommu_memory_map_at(map, low)->start <= last
        ? xen_pviommu_memory_map_at(map, low) : NULL;
}

static XenPVIOMMUSectionKind section_kind(const MemoryRegionSection *section)
{
    MemoryRegion *mr = section->mr;

    if (!memory_region_is_ram(mr) || memory_region_is_ram_device(mr)) {
        return memory_region_is_romd(mr) ? SECTION_ROM : SECTION_OTHER;
    }
    return section->readonly || memory_region_is_rom(mr) ? SECTION_ROM
                                                         : SECTION_RAM;
}

static uint64_t section_last(const MemoryRegionSection *section)
{
    return section->offset_within_address_space +
           int128_get64(int128_sub(section->size, int128_one()));
}

/* The memory BAR, of another function than @self, that shows @section */
static const PCIIORegion *section_bar(const MemoryRegionSection *section,
                                      const PCIDevice *self, PCIDevice **dev)
{
    const uint64_t start = section->offset_within_address_space;
    Object *owner = memory_region_owner(section->mr);

    /* The registers of some models belong to a part of the device. */
    while (owner && !object_dynamic_cast(owner, TYPE_PCI_DEVICE)) {
        owner = owner->parent;
    }
    /* What Xen passes through is the hypervisor's to map, not QEMU's. */
    if (!owner || owner == OBJECT(self) ||
        object_dynamic_cast(owner, "xen-pci-passthrough")) {
        return NULL;
    }
    *dev = PCI_DEVICE(owner);
    for (unsigned i = 0; i < PCI_ROM_SLOT; i++) {
        const PCIIORegion *r = &(*dev)->io_regions[i];

        if (r->size && !(r->type & PCI_BASE_ADDRESS_SPACE_IO) &&
            r->addr != PCI_BAR_UNMAPPED && start >= r->addr &&
            section_last(section) - r->addr < r->size) {
            return r;
        }
    }
    return NULL;
}

MemoryMap *xen_pviommu_memory_map_new(void)
{
    MemoryMap *map = g_new0(MemoryMap, 1);

    map->sections = g_array_new(false, false, sizeof(Section));
    map->device_ram = g_array_new(false, false, sizeof(XenPVIOMMUDeviceRam));
    return map;
}

/*
 * What follows on the last section begins at @next, or with 0 is nothing. If
 * the last section is of a BAR, what is between belongs to it as far as the BAR
 * goes: that shows nothing, but may do so later.
 *
 * Returns: the last section, or NULL.
 */
static const Section *end_last_section(MemoryMap *map, uint64_t next)
{
    Section *s;

    if (!map->sections->len) {
        return NULL;
    }
    s = &g_array_index(map->sections, Section, map->sections->len - 1);
    if (s->kind == SECTION_MMIO) {
        s->last = MIN(s->start - s->offset + memory_region_size(s->mr) - 1,
                      next - 1);
    }
    return s;
}

/*
 * What a BAR consists of can change while it stays where it is: all of it that
 * nothing else is in front of is one section.
 */
static void add_mmio(MemoryMap *map, const MemoryRegionSection *found,
                     const PCIIORegion *bar, PCIDevice *dev)
{
    const uint64_t start = found->offset_within_address_space;
    const Section *before = end_last_section(map, start);
    const XenPVIOMMUDeviceRam ram = {
        .start = DIV_ROUND_UP(start, XEN_PVIOMMU_PAGE_SIZE),
        .end = (section_last(found) + 1) >> XEN_IOMMU_PAGE_SHIFT,
    };

    if (memory_region_is_ram_device(found->mr) && ram.start < ram.end) {
        g_array_append_val(map->device_ram, ram);
    }
    if (!before || before->kind != SECTION_MMIO || before->mr != bar->memory) {
        Section s = {
            .start = MAX(bar->addr, before ? before->last + 1 : 0),
            .mr = bar->memory,
            .kind = SECTION_MMIO,
            .dev = dev,
        };

        s.offset = s.start - bar->addr;
        object_ref(OBJECT(dev));
        g_array_append_val(map->sections, s);
    }
    memory_region_unref(found->mr);
}

/* Whether @map shows the BAR of @bar, a section of the map before. */
static bool bar_is_seen(const MemoryMap *map, const Section *bar)
{
    const Section *s = xen_pviommu_memory_map_find(map, bar->start, bar->last);

    /* Mostly where it was */
    if (s && s->mr == bar->mr) {
        return true;
    }
    for (guint i = 0; i < map->sections->len; i++) {
        if (xen_pviommu_memory_map_at(map, i)->mr == bar->mr) {
            return true;
        }
    }
    return false;
}

/* Add what of @bar, a section of the map before, is free in @map to @hidden. */
static void hide_mmio(const MemoryMap *map, const Section *bar, GArray *hidden)
{
    const uint64_t end = bar->last + 1;
    uint64_t pos = bar->start;

    while (pos < end) {
        const Section *next = xen_pviommu_memory_map_find(map, pos, bar->last);
        uint64_t free_end = next ? MAX(next->start, pos) : end;
        Section s = *bar;

        if (pos < free_end) {
            s.hidden = true;
            s.start = pos;
            s.last = free_end - 1;
            s.offset += pos - bar->start;
            object_ref(OBJECT(s.dev));
            g_array_append_val(hidden, s);
        }
        pos = next && next->last < bar->last ? next->last + 1 : end;
    }
}

static gint compare_sections(gconstpointer a, gconstpointer b)
{
    const Section *x = a, *y = b;

    return x->start < y->start ? -1 : x->start > y->start;
}

static void add_hidden(MemoryMap *map, const MemoryMap *old)
{
    g_autoptr(GArray) hidden = g_array_new(false, false, sizeof(Section));

    for (guint i = 0; i < old->sections->len; i++) {
        const Section *s = xen_pviommu_memory_map_at(old, i);

        if (s->kind == SECTION_MMIO && DEVICE(s->dev)->realized &&
            !bar_is_seen(map, s)) {
            hide_mmio(map, s, hidden);
        }
    }
    if (hidden->len) {
        g_array_append_vals(map->sections, hidden->data, hidden->len);
        g_array_sort(map->sections, compare_sections);
    }
}

MemoryMap *xen_pviommu_memory_map_read(const PCIDevice *self,
                                       const MemoryMap *old)
{
    MemoryMap *map = xen_pviommu_memory_map_new();
    uint64_t pos = 0;

    do {
        /* It takes a reference on the region, which the copy keeps. */
        MemoryRegionSection found = memory_region_find(
            get_system_memory(), pos, pos ? -pos : UINT64_MAX);
        const PCIIORegion *bar = NULL;
        Section s = { .mr = found.mr };
        PCIDevice *dev;

        if (!found.mr) {
            break;
        }
        s.start = found.offset_within_address_space;
        s.last = section_last(&found);
        s.offset = found.offset_within_region;
        s.kind = section_kind(&found);
        pos = s.last + 1;
        if (s.kind == SECTION_OTHER) {
            bar = section_bar(&found, self, &dev);
        }
        if (bar) {
            add_mmio(map, &found, bar, dev);
            continue;
        }
        end_last_section(map, s.start);
        s.unpluggable = memory_region_has_ram_discard_manager(found.mr);
        map->nr_unpluggable += s.unpluggable;
        g_array_append_val(map->sections, s);
    } while (pos);
    end_last_section(map, 0);
    add_hidden(map, old);
    return map;
}

void xen_pviommu_memory_map_free(MemoryMap *map)
{
    for (guint i = 0; i < map->sections->len; i++) {
        const Section *s = xen_pviommu_memory_map_at(map, i);

        if (s->dev) {
            object_unref(OBJECT(s->dev));
        } else {
            memory_region_unref(s->mr);
        }
    }
    g_array_unref(map->sections);
    g_array_unref(map->device_ram);
    g_free(map);
}

bool xen_pviommu_has_device_ram(const MemoryMap *map,
                                const XenPVIOMMUDeviceRam *ram)
{
    for (guint i = 0; i < map->device_ram->len; i++) {
        const XenPVIOMMUDeviceRam *r = xen_pviommu_device_ram_at(map, i);

        if (r->start == ram->start && r->end == ram->end) {
            return true;
        }
    }
    return false;
}

bool xen_pviommu_is_device_ram(const MemoryMap *map, uint64_t gfn,
                               uint64_t *end)
{
    /* There are a few, of assigned devices. */
    for (guint i = 0; i < map->device_ram->len; i++) {
        const XenPVIOMMUDeviceRam *ram = xen_pviommu_device_ram_at(map, i);

        if (gfn < ram->end) {
            bool in = gfn >= ram->start;

            *end = MIN(*end, in ? ram->end : ram->start);
            return in;
        }
    }
    return false;
}
