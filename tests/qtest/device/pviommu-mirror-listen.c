/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * pviommu-mirror: its listeners and notifiers, and what it mirrors of them
 */

#include "qemu/osdep.h"
#include "qemu/host-utils.h"
#include "qemu/main-loop.h"
#include "pviommu-mirror-internal.h"

/* As VFIO: a mirror. Else as vhost: a cache. */
bool mirror_keeps_maps(const PVIOMMUMirror *m)
{
    return m->flags & IOMMU_NOTIFIER_MAP;
}

MirrorEntry *mirror_entry_first(PVIOMMUMirror *m, uint64_t start,
                                uint64_t last)
{
    IntervalTreeNode *node = interval_tree_iter_first(&m->entries, start, last);

    return node ? container_of(node, MirrorEntry, node) : NULL;
}

static uint64_t entry_pages(const MirrorEntry *e)
{
    return (e->node.last - e->node.start + 1) >> PAGE_BITS;
}

void mirror_entry_add(PVIOMMUMirror *m, uint64_t start, uint64_t last,
                      uint64_t gpa, IOMMUAccessFlags perm, bool ram)
{
    MirrorEntry *e = g_new0(MirrorEntry, 1);

    e->node.start = start;
    e->node.last = last;
    e->gpa = gpa;
    e->perm = perm;
    e->ram = ram;
    interval_tree_insert(&e->node, &m->entries);
    m->counter[PVIOMMU_MIRROR_ENTRIES]++;
    m->counter[PVIOMMU_MIRROR_PAGES] += ram ? 0 : entry_pages(e);
}

void mirror_entry_remove(PVIOMMUMirror *m, MirrorEntry *e)
{
    interval_tree_remove(&e->node, &m->entries);
    m->counter[PVIOMMU_MIRROR_ENTRIES]--;
    m->counter[PVIOMMU_MIRROR_PAGES] -= e->ram ? 0 : entry_pages(e);
    g_free(e);
}

/* Returns: whether there was something. */
bool mirror_remove_range(PVIOMMUMirror *m, uint64_t start, uint64_t last)
{
    bool found = false;
    MirrorEntry *e;

    while ((e = mirror_entry_first(m, start, last))) {
        MirrorEntry old = *e;

        mirror_entry_remove(m, e);
        found = true;
        if (!mirror_keeps_maps(m)) {
            /* A cache forgets more than it has to. */
            continue;
        }
        if (old.ram) {
            m->counter[PVIOMMU_MIRROR_VIOLATIONS]++;
        }
        if (old.node.start < start || old.node.last > last) {
            m->counter[PVIOMMU_MIRROR_BISECTED]++;
        }
        if (old.node.start < start) {
            mirror_entry_add(m, old.node.start, start - 1, old.gpa, old.perm,
                             old.ram);
        }
        if (old.node.last > last) {
            mirror_entry_add(m, last + 1, old.node.last,
                             old.gpa + (last + 1 - old.node.start), old.perm,
                             old.ram);
        }
    }
    return found;
}

/* What VFIO maps: all of it must be RAM. */
static bool is_guest_ram(uint64_t gpa, uint64_t len)
{
    MemoryRegionSection section = memory_region_find(get_system_memory(), gpa,
                                                     len);
    bool ram = section.mr && memory_region_is_ram(section.mr) &&
               section.offset_within_address_space == gpa &&
               int128_eq(section.size, int128_make64(len));

    memory_region_unref(section.mr);
    return ram;
}

void mirror_count_size(PVIOMMUMirror *m, unsigned n, uint64_t mask)
{
    m->counter[n] = MAX(m->counter[n], mask + 1);
}

static void notified_map(PVIOMMUMirror *m, uint64_t iova,
                         const IOMMUTLBEntry *entry)
{
    uint64_t last = iova + entry->addr_mask;
    uint64_t gpa = entry->translated_addr;

    m->counter[PVIOMMU_MIRROR_MAPS]++;
    mirror_count_size(m, PVIOMMU_MIRROR_LARGEST_MAP, entry->addr_mask);
    if (!mirror_keeps_maps(m) || (gpa & entry->addr_mask) ||
        entry->target_as != &address_space_memory ||
        !is_guest_ram(gpa, entry->addr_mask + 1) ||
        mirror_entry_first(m, iova, last)) {
        m->counter[PVIOMMU_MIRROR_VIOLATIONS]++;
        return;
    }
    mirror_entry_add(m, iova, last, gpa, entry->perm, false);
}

static void notified_unmap(PVIOMMUMirror *m, uint64_t iova,
                           const IOMMUTLBEntry *entry)
{
    bool deviotlb = m->flags & IOMMU_NOTIFIER_DEVIOTLB_UNMAP;

    m->counter[deviotlb ? PVIOMMU_MIRROR_DEVIOTLB_UNMAPS
                        : PVIOMMU_MIRROR_UNMAPS]++;
    mirror_count_size(m, PVIOMMU_MIRROR_LARGEST_UNMAP, entry->addr_mask);
    if (mirror_remove_range(m, iova, iova + entry->addr_mask)) {
        m->counter[PVIOMMU_MIRROR_USEFUL_UNMAPS]++;
        if (m->watch && !m->seen) {
            m->seen = address_space_ldq_le(&address_space_memory, m->watch,
                                           MEMTXATTRS_UNSPECIFIED, NULL);
        }
    }
}

/*
 * In the I/O thread, while the main loop waits for it. All that DMA is but the
 * access: one that has no translation would wait for the BQL.
 */
static void waited_for(void *opaque)
{
    PVIOMMUMirror *m = opaque;

    if (m->ring) {
        address_space_stl_le(&address_space_memory, m->ring, m->data,
                             MEMTXATTRS_UNSPECIFIED, NULL);
    }
    WITH_RCU_READ_LOCK_GUARD() {
        address_space_get_iotlb_entry(m->as, m->iova, false,
                                      MEMTXATTRS_UNSPECIFIED);
    }
    qemu_sem_post(&m->waited);
}

static void wait_if(PVIOMMUMirror *m, uint64_t when)
{
    bool unlocked = m->wait & PVIOMMU_MIRROR_WAIT_UNLOCKED;
    int ret;

    if (!(m->wait & when)) {
        return;
    }
    aio_bh_schedule_oneshot(iothread_get_aio_context(m->iothread), waited_for,
                            m);
    if (unlocked) {
        bql_unlock();
    }
    ret = qemu_sem_timedwait(&m->waited, WAIT_MS);
    if (unlocked) {
        bql_lock();
    }
    if (ret) {
        m->counter[PVIOMMU_MIRROR_STUCK]++;
        m->wait = 0;
    } else {
        m->counter[PVIOMMU_MIRROR_WAITS]++;
    }
}

static void waiter_begin_or_commit(MemoryListener *listener)
{
    wait_if(container_of(listener, PVIOMMUMirror, waiter),
            PVIOMMU_MIRROR_WAIT_TRANSACTION);
}

static void waiter_region(MemoryListener *listener,
                          MemoryRegionSection *section)
{
    waiter_begin_or_commit(listener);
}

void mirror_wait_for_iothread(PVIOMMUMirror *m)
{
    qemu_sem_init(&m->waited, 0);
    m->waiter = (MemoryListener) {
        .name = "pviommu-mirror-waiter",
        .begin = waiter_begin_or_commit,
        .region_add = waiter_region,
        .region_del = waiter_region,
        .commit = waiter_begin_or_commit,
    };
    memory_listener_register(&m->waiter, &address_space_memory);
}

static void notified(IOMMUNotifier *n, IOMMUTLBEntry *entry)
{
    MirrorSection *s = container_of(n, MirrorSection, n);
    PVIOMMUMirror *m = s->m;
    uint64_t iova = entry->iova + s->offset;

    if (!is_power_of_2(entry->addr_mask + 1) || (iova & entry->addr_mask) ||
        entry->addr_mask < PAGE_SIZE_BYTES - 1) {
        m->counter[PVIOMMU_MIRROR_VIOLATIONS]++;
    }
    if (entry->perm & IOMMU_RW) {
        notified_map(m, iova, entry);
    } else {
        notified_unmap(m, iova, entry);
    }
    if (m->poke) {
        MemTxResult result = MEMTX_OK;

        address_space_stl_le(&address_space_memory, m->poke, m->data,
                             MEMTXATTRS_UNSPECIFIED, &result);
        m->poked += result == MEMTX_OK;
    }
    wait_if(m, PVIOMMU_MIRROR_WAIT_NOTIFIED);
}

/* VFIO's reasons to leave a section out. */
static bool section_skipped(const MemoryRegionSection *section)
{
    return (!memory_region_is_ram(section->mr) &&
            !memory_region_is_iommu(section->mr)) ||
           section->offset_within_address_space >> 63;
}

/* The whole pages of a section; false if there are none. */
static bool section_pages(const MemoryRegionSection *section, uint64_t *start,
                          uint64_t *last)
{
    Int128 end = int128_add(int128_make64(section->offset_within_address_space),
                            section->size);

    end = int128_and(end, int128_exts64(-PAGE_SIZE_BYTES));
    *start = QEMU_ALIGN_UP(section->offset_within_address_space,
                           PAGE_SIZE_BYTES);
    if (int128_ge(int128_make64(*start), end)) {
        return false;
    }
    *last = int128_get64(int128_sub(end, int128_one()));
    return true;
}

/* RAM that a device sees as it is must be where the machine has it. */
static bool section_is_identity(const MemoryRegionSection *section,
                                uint64_t iova)
{
    MemoryRegionSection system = memory_region_find(get_system_memory(), iova,
                                                    1);
    bool same = system.mr == section->mr &&
                system.offset_within_region - section->offset_within_region ==
                iova - section->offset_within_address_space;

    memory_region_unref(system.mr);
    return same;
}

static void add_ram(PVIOMMUMirror *m, const MemoryRegionSection *section)
{
    uint64_t start, last;

    m->counter[PVIOMMU_MIRROR_RAM_SECTIONS]++;
    if (!mirror_keeps_maps(m) || !section_pages(section, &start, &last)) {
        return;
    }
    if (mirror_entry_first(m, start, last) ||
        !section_is_identity(section, start)) {
        m->counter[PVIOMMU_MIRROR_VIOLATIONS]++;
        return;
    }
    mirror_entry_add(m, start, last, start,
                     section->readonly ? IOMMU_RO : IOMMU_RW, true);
}

static void add_translated(PVIOMMUMirror *m, const MemoryRegionSection *section)
{
    IOMMUMemoryRegion *mr = IOMMU_MEMORY_REGION(section->mr);
    MirrorSection *s = g_new0(MirrorSection, 1);
    Int128 end = int128_add(int128_make64(section->offset_within_region),
                            section->size);

    s->m = m;
    s->mr = mr;
    s->offset = section->offset_within_address_space -
                section->offset_within_region;
    iommu_notifier_init(&s->n, notified, m->flags,
                        section->offset_within_region,
                        int128_get64(int128_sub(end, int128_one())),
                        memory_region_iommu_attrs_to_index(
                            mr, MEMTXATTRS_UNSPECIFIED));
    memory_region_ref(section->mr);
    memory_region_register_iommu_notifier(section->mr, &s->n, &error_abort);
    QLIST_INSERT_HEAD(&m->sections, s, next);
    m->counter[PVIOMMU_MIRROR_IOMMU_SECTIONS]++;
    if (mirror_keeps_maps(m)) {
        memory_region_iommu_replay(mr, &s->n);
    }
}

void mirror_region_add(MemoryListener *listener, MemoryRegionSection *section)
{
    PVIOMMUMirror *m = container_of(listener, PVIOMMUMirror, listener);

    if (section_skipped(section)) {
        return;
    }
    if (memory_region_is_iommu(section->mr)) {
        add_translated(m, section);
    } else {
        add_ram(m, section);
    }
}

static void del_ram(PVIOMMUMirror *m, const MemoryRegionSection *section)
{
    uint64_t start, last;
    MirrorEntry *e;

    m->counter[PVIOMMU_MIRROR_RAM_SECTIONS]--;
    if (!mirror_keeps_maps(m) || !section_pages(section, &start, &last)) {
        return;
    }
    e = mirror_entry_first(m, start, last);
    if (e && e->ram && e->node.start == start && e->node.last == last) {
        mirror_entry_remove(m, e);
    } else {
        m->counter[PVIOMMU_MIRROR_VIOLATIONS]++;
    }
}

static void section_free(MirrorSection *s)
{
    memory_region_unregister_iommu_notifier(MEMORY_REGION(s->mr), &s->n);
    QLIST_REMOVE(s, next);
    memory_region_unref(MEMORY_REGION(s->mr));
    g_free(s);
}

/* The first section that is translated, or NULL. */
MirrorSection *mirror_any_section(PVIOMMUMirror *m)
{
    return QLIST_FIRST(&m->sections);
}

void mirror_unlisten(PVIOMMUMirror *m)
{
    if (m->listens) {
        memory_region_unregister_iommu_notifier(
            MEMORY_REGION(mirror_any_section(m)->mr), &m->other);
        m->listens = false;
    }
}

static void del_translated(PVIOMMUMirror *m, const MemoryRegionSection *section)
{
    uint64_t start, last;
    MirrorSection *s;

    QLIST_FOREACH(s, &m->sections, next) {
        if (MEMORY_REGION(s->mr) == section->mr &&
            s->n.start == section->offset_within_region) {
            break;
        }
    }
    assert(s);
    if (s == mirror_any_section(m)) {
        mirror_unlisten(m);
    }
    section_free(s);
    m->counter[PVIOMMU_MIRROR_IOMMU_SECTIONS]--;
    /* One big unmap, as VFIO; vhost does not do that. */
    if (mirror_keeps_maps(m) && section_pages(section, &start, &last)) {
        mirror_remove_range(m, start, last);
    }
}

void mirror_region_del(MemoryListener *listener, MemoryRegionSection *section)
{
    PVIOMMUMirror *m = container_of(listener, PVIOMMUMirror, listener);

    if (section_skipped(section)) {
        return;
    }
    if (memory_region_is_iommu(section->mr)) {
        del_translated(m, section);
    } else {
        del_ram(m, section);
    }
}
