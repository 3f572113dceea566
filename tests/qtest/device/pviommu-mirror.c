/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * pviommu-mirror: a test device that is told of translations
 *
 * No hardware and no host kernel is needed to see what VFIO and vhost would
 * see behind a vIOMMU. pviommu-mirror.h describes the registers.
 *
 * What it holds of DMA it keeps across a reset: a test of DMA that is still
 * under way when the machine is reset needs just that.
 */

#include "qemu/osdep.h"
#include "qemu/host-utils.h"
#include "qemu/interval-tree.h"
#include "qemu/module.h"
#include "qemu/main-loop.h"
#include "qapi/error.h"
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
    IOMMUNotifier other;        /* of SYNC and LISTEN */
    bool listens;
};

/* As VFIO: a mirror. Else as vhost: a cache. */
static bool is_mirror(const PVIOMMUMirror *m)
{
    return m->flags & IOMMU_NOTIFIER_MAP;
}

static MirrorEntry *entry_first(PVIOMMUMirror *m, uint64_t start, uint64_t last)
{
    IntervalTreeNode *node = interval_tree_iter_first(&m->entries, start, last);

    return node ? container_of(node, MirrorEntry, node) : NULL;
}

static uint64_t entry_pages(const MirrorEntry *e)
{
    return (e->node.last - e->node.start + 1) >> PAGE_BITS;
}

static void entry_add(PVIOMMUMirror *m, uint64_t start, uint64_t last,
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

static void entry_remove(PVIOMMUMirror *m, MirrorEntry *e)
{
    interval_tree_remove(&e->node, &m->entries);
    m->counter[PVIOMMU_MIRROR_ENTRIES]--;
    m->counter[PVIOMMU_MIRROR_PAGES] -= e->ram ? 0 : entry_pages(e);
    g_free(e);
}

/* Returns: whether there was something. */
static bool remove_range(PVIOMMUMirror *m, uint64_t start, uint64_t last)
{
    bool found = false;
    MirrorEntry *e;

    while ((e = entry_first(m, start, last))) {
        MirrorEntry old = *e;

        entry_remove(m, e);
        found = true;
        if (!is_mirror(m)) {
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
            entry_add(m, old.node.start, start - 1, old.gpa, old.perm, old.ram);
        }
        if (old.node.last > last) {
            entry_add(m, last + 1, old.node.last,
                      old.gpa + (last + 1 - old.node.start), old.perm, old.ram);
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

static void count_size(PVIOMMUMirror *m, unsigned n, uint64_t mask)
{
    m->counter[n] = MAX(m->counter[n], mask + 1);
}

static void notified_map(PVIOMMUMirror *m, uint64_t iova,
                         const IOMMUTLBEntry *entry)
{
    uint64_t last = iova + entry->addr_mask;
    uint64_t gpa = entry->translated_addr;

    m->counter[PVIOMMU_MIRROR_MAPS]++;
    count_size(m, PVIOMMU_MIRROR_LARGEST_MAP, entry->addr_mask);
    if (!is_mirror(m) || (gpa & entry->addr_mask) ||
        entry->target_as != &address_space_memory ||
        !is_guest_ram(gpa, entry->addr_mask + 1) ||
        entry_first(m, iova, last)) {
        m->counter[PVIOMMU_MIRROR_VIOLATIONS]++;
        return;
    }
    entry_add(m, iova, last, gpa, entry->perm, false);
}

static void notified_unmap(PVIOMMUMirror *m, uint64_t iova,
                           const IOMMUTLBEntry *entry)
{
    bool deviotlb = m->flags & IOMMU_NOTIFIER_DEVIOTLB_UNMAP;

    m->counter[deviotlb ? PVIOMMU_MIRROR_DEVIOTLB_UNMAPS
                        : PVIOMMU_MIRROR_UNMAPS]++;
    count_size(m, PVIOMMU_MIRROR_LARGEST_UNMAP, entry->addr_mask);
    if (remove_range(m, iova, iova + entry->addr_mask)) {
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

static void waiter_register(PVIOMMUMirror *m)
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
    if (!is_mirror(m) || !section_pages(section, &start, &last)) {
        return;
    }
    if (entry_first(m, start, last) || !section_is_identity(section, start)) {
        m->counter[PVIOMMU_MIRROR_VIOLATIONS]++;
        return;
    }
    entry_add(m, start, last, start, section->readonly ? IOMMU_RO : IOMMU_RW,
              true);
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
    if (is_mirror(m)) {
        memory_region_iommu_replay(mr, &s->n);
    }
}

static void region_add(MemoryListener *listener, MemoryRegionSection *section)
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
    if (!is_mirror(m) || !section_pages(section, &start, &last)) {
        return;
    }
    e = entry_first(m, start, last);
    if (e && e->ram && e->node.start == start && e->node.last == last) {
        entry_remove(m, e);
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
static MirrorSection *any_section(PVIOMMUMirror *m)
{
    return QLIST_FIRST(&m->sections);
}

static void unlisten(PVIOMMUMirror *m)
{
    if (m->listens) {
        memory_region_unregister_iommu_notifier(
            MEMORY_REGION(any_section(m)->mr), &m->other);
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
    if (s == any_section(m)) {
        unlisten(m);
    }
    section_free(s);
    m->counter[PVIOMMU_MIRROR_IOMMU_SECTIONS]--;
    /* One big unmap, as VFIO; vhost does not do that. */
    if (is_mirror(m) && section_pages(section, &start, &last)) {
        remove_range(m, start, last);
    }
}

static void region_del(MemoryListener *listener, MemoryRegionSection *section)
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

static void cmd_lookup(PVIOMMUMirror *m)
{
    MirrorEntry *e = entry_first(m, m->iova, m->iova);

    m->result = !!e;
    m->gpa = e ? e->gpa + (m->iova - e->node.start) : 0;
    m->perm = e ? e->perm : 0;
    m->mask = e ? e->node.last - e->node.start : 0;
    m->data = e && e->ram;
}

static void cmd_clear(PVIOMMUMirror *m)
{
    for (unsigned n = PVIOMMU_MIRROR_MAPS; n <= PVIOMMU_MIRROR_BISECTED; n++) {
        m->counter[n] = 0;
    }
    m->counter[PVIOMMU_MIRROR_WAITS] = 0;
    m->counter[PVIOMMU_MIRROR_OTHER_MAPS] = 0;
    m->counter[PVIOMMU_MIRROR_OTHER_UNMAPS] = 0;
    m->counter[PVIOMMU_MIRROR_OTHER_LARGEST] = 0;
    m->poked = 0;
    m->seen = 0;
}

static void store_entry(uint64_t gpa, const struct pviommu_mirror_entry *e)
{
    struct pviommu_mirror_entry le = {
        .iova = cpu_to_le64(e->iova),
        .gpa = cpu_to_le64(e->gpa),
        .len = cpu_to_le64(e->len),
        .perm = cpu_to_le32(e->perm),
        .ram = cpu_to_le32(e->ram),
    };

    address_space_write(&address_space_memory, gpa, MEMTXATTRS_UNSPECIFIED,
                        &le, sizeof(le));
}

static void cmd_dump(PVIOMMUMirror *m)
{
    struct pviommu_mirror_entry run = { 0 };
    IntervalTreeNode *node;

    m->result = 0;
    for (node = interval_tree_iter_first(&m->entries, 0, UINT64_MAX); ;
         node = interval_tree_iter_next(node, 0, UINT64_MAX)) {
        MirrorEntry *e = node ? container_of(node, MirrorEntry, node) : NULL;

        if (e && run.len && e->node.start == run.iova + run.len &&
            e->gpa == run.gpa + run.len && e->perm == run.perm &&
            e->ram == run.ram) {
            run.len += e->node.last - e->node.start + 1;
            continue;
        }
        if (run.len) {
            if (m->result < m->len) {
                store_entry(m->gpa + m->result * sizeof(run), &run);
            }
            m->result++;
        }
        if (!e) {
            break;
        }
        run.iova = e->node.start;
        run.gpa = e->gpa;
        run.len = e->node.last - e->node.start + 1;
        run.perm = e->perm;
        run.ram = e->ram;
    }
}

static void cmd_translate(PVIOMMUMirror *m, bool keep)
{
    IOMMUTLBEntry entry;

    WITH_RCU_READ_LOCK_GUARD() {
        entry = address_space_get_iotlb_entry(m->as, m->iova, m->write,
                                              MEMTXATTRS_UNSPECIFIED);
    }
    m->result = entry.perm != IOMMU_NONE;
    m->gpa = entry.translated_addr | (m->iova & entry.addr_mask);
    m->perm = entry.perm;
    m->mask = entry.addr_mask;
    if (keep && m->result && !is_mirror(m)) {
        remove_range(m, entry.iova, entry.iova + entry.addr_mask);
        entry_add(m, entry.iova, entry.iova + entry.addr_mask,
                  entry.translated_addr, entry.perm, false);
    }
}

static void cmd_dma(PVIOMMUMirror *m)
{
    uint64_t data = cpu_to_le64(m->data);
    unsigned len = MIN(m->len, sizeof(data));

    if (!m->write) {
        data = 0;
    }
    m->result = pci_dma_rw(PCI_DEVICE(m), m->iova, &data, len,
                           m->write ? DMA_DIRECTION_FROM_DEVICE
                                    : DMA_DIRECTION_TO_DEVICE,
                           MEMTXATTRS_UNSPECIFIED) == MEMTX_OK;
    if (!m->write) {
        m->data = le64_to_cpu(data);
    }
}

/* All of it before the main loop goes on */
static void cmd_count(PVIOMMUMirror *m)
{
    m->result = 0;
    for (uint64_t i = 1; i <= m->len; i++) {
        uint32_t data = cpu_to_le32(i * m->data);

        m->result += pci_dma_write(PCI_DEVICE(m), m->iova, &data,
                                   sizeof(data)) == MEMTX_OK;
    }
}

static HeldDMA *held_dma(PVIOMMUMirror *m)
{
    return &m->held[m->slot % PVIOMMU_MIRROR_NR_SLOTS];
}

static void release(PVIOMMUMirror *m, HeldDMA *dma, dma_addr_t accessed)
{
    if (dma->host) {
        dma_memory_unmap(m->as, dma->host, dma->len, dma->dir,
                         MIN(accessed, dma->len));
        dma->host = NULL;
    }
}

static void cmd_hold(PVIOMMUMirror *m)
{
    HeldDMA *dma = held_dma(m);

    release(m, dma, 0);
    dma->len = m->len;
    dma->dir = m->write ? DMA_DIRECTION_FROM_DEVICE : DMA_DIRECTION_TO_DEVICE;
    dma->host = dma_memory_map(m->as, m->iova, &dma->len, dma->dir,
                               MEMTXATTRS_UNSPECIFIED);
    m->result = dma->host ? dma->len : 0;
}

static void cmd_touch(PVIOMMUMirror *m)
{
    HeldDMA *dma = held_dma(m);
    uint8_t *p;

    m->result = 0;
    if (!dma->host || dma->len < sizeof(m->data) ||
        m->iova > dma->len - sizeof(m->data)) {
        return;
    }
    m->result = 1;
    p = (uint8_t *)dma->host + m->iova;
    if (m->write) {
        stq_le_p(p, m->data);
    } else {
        m->data = ldq_le_p(p);
    }
}

static void cmd_release(PVIOMMUMirror *m)
{
    HeldDMA *dma = held_dma(m);

    m->result = !!dma->host;
    release(m, dma, m->len);
}

static void counted(IOMMUNotifier *n, IOMMUTLBEntry *entry)
{
    PVIOMMUMirror *m = container_of(n, PVIOMMUMirror, other);

    if (entry->perm & IOMMU_RW) {
        m->counter[PVIOMMU_MIRROR_OTHER_MAPS]++;
    } else {
        m->counter[PVIOMMU_MIRROR_OTHER_UNMAPS]++;
        count_size(m, PVIOMMU_MIRROR_OTHER_LARGEST, entry->addr_mask);
    }
}

static void other_init(PVIOMMUMirror *m)
{
    const MirrorSection *s = any_section(m);

    iommu_notifier_init(&m->other, counted, IOMMU_NOTIFIER_IOTLB_EVENTS,
                        s->n.start, s->n.end, s->n.iommu_idx);
}

/* VFIO's sync of its dirty log: the notifier is not registered. */
static void cmd_sync(PVIOMMUMirror *m)
{
    m->result = any_section(m) && !m->listens;
    if (m->result) {
        other_init(m);
        memory_region_iommu_replay(any_section(m)->mr, &m->other);
    }
}

static void cmd_listen(PVIOMMUMirror *m)
{
    m->result = any_section(m) && !m->listens;
    if (m->result) {
        other_init(m);
        memory_region_register_iommu_notifier(
            MEMORY_REGION(any_section(m)->mr), &m->other, &error_abort);
        m->listens = true;
    }
}

static void run_command(PVIOMMUMirror *m, uint64_t cmd)
{
    switch (cmd) {
    case PVIOMMU_MIRROR_CMD_LOOKUP:
        cmd_lookup(m);
        break;
    case PVIOMMU_MIRROR_CMD_CLEAR:
        cmd_clear(m);
        break;
    case PVIOMMU_MIRROR_CMD_DUMP:
        cmd_dump(m);
        break;
    case PVIOMMU_MIRROR_CMD_FILL:
        cmd_translate(m, true);
        break;
    case PVIOMMU_MIRROR_CMD_TRANSLATE:
        cmd_translate(m, false);
        break;
    case PVIOMMU_MIRROR_CMD_DMA:
        cmd_dma(m);
        break;
    case PVIOMMU_MIRROR_CMD_HOLD:
        cmd_hold(m);
        break;
    case PVIOMMU_MIRROR_CMD_TOUCH:
        cmd_touch(m);
        break;
    case PVIOMMU_MIRROR_CMD_RELEASE:
        cmd_release(m);
        break;
    case PVIOMMU_MIRROR_CMD_COUNT:
        cmd_count(m);
        break;
    case PVIOMMU_MIRROR_CMD_SYNC:
        cmd_sync(m);
        break;
    case PVIOMMU_MIRROR_CMD_LISTEN:
        cmd_listen(m);
        break;
    case PVIOMMU_MIRROR_CMD_UNLISTEN:
        unlisten(m);
        break;
    }
}

/* The register that can be written at @addr, or NULL. */
static uint64_t *operand(PVIOMMUMirror *m, hwaddr addr)
{
    switch (addr) {
    case PVIOMMU_MIRROR_IOVA:
        return &m->iova;
    case PVIOMMU_MIRROR_LEN:
        return &m->len;
    case PVIOMMU_MIRROR_GPA:
        return &m->gpa;
    case PVIOMMU_MIRROR_DATA:
        return &m->data;
    case PVIOMMU_MIRROR_WRITE:
        return &m->write;
    case PVIOMMU_MIRROR_SLOT:
        return &m->slot;
    case PVIOMMU_MIRROR_POKE:
        return &m->poke;
    case PVIOMMU_MIRROR_WATCH:
        return &m->watch;
    case PVIOMMU_MIRROR_WAIT:
        return m->iothread ? &m->wait : NULL;
    case PVIOMMU_MIRROR_RING:
        return &m->ring;
    default:
        return NULL;
    }
}

static uint64_t bar_read(void *opaque, hwaddr addr, unsigned size)
{
    PVIOMMUMirror *m = opaque;
    uint64_t *reg = operand(m, addr);

    if (reg) {
        return *reg;
    }
    if (addr >= PVIOMMU_MIRROR_COUNTER(0) &&
        addr < PVIOMMU_MIRROR_COUNTER(PVIOMMU_MIRROR_NR_COUNTERS)) {
        return m->counter[(addr - PVIOMMU_MIRROR_COUNTER(0)) / 8];
    }
    switch (addr) {
    case PVIOMMU_MIRROR_RESULT:
        return m->result;
    case PVIOMMU_MIRROR_PERM:
        return m->perm;
    case PVIOMMU_MIRROR_MASK:
        return m->mask;
    case PVIOMMU_MIRROR_POKED:
        return m->poked;
    case PVIOMMU_MIRROR_SEEN:
        return m->seen;
    default:
        return 0;
    }
}

static void bar_write(void *opaque, hwaddr addr, uint64_t value, unsigned size)
{
    PVIOMMUMirror *m = opaque;
    uint64_t *reg = operand(m, addr);

    if (reg) {
        *reg = value;
    } else if (addr == PVIOMMU_MIRROR_CMD) {
        run_command(m, value);
    }
}

static const MemoryRegionOps bar_ops = {
    .read = bar_read,
    .write = bar_write,
    .endianness = DEVICE_LITTLE_ENDIAN,
    .valid = { .min_access_size = 8, .max_access_size = 8 },
    .impl = { .min_access_size = 8, .max_access_size = 8 },
};

/* RAM in a second place of the machine's memory map. */
static bool add_alias(PVIOMMUMirror *m, Error **errp)
{
    MemoryRegionSection ram = memory_region_find(get_system_memory(), m->alias,
                                                 PVIOMMU_MIRROR_ALIAS_SIZE);

    if (!ram.mr || !memory_region_is_ram(ram.mr) ||
        int128_get64(ram.size) != PVIOMMU_MIRROR_ALIAS_SIZE) {
        error_setg(errp, "alias must be the address of 1 MiB of RAM");
        memory_region_unref(ram.mr);
        return false;
    }
    memory_region_init_alias(&m->alias_bar, OBJECT(m), "pviommu-mirror-alias",
                             ram.mr, ram.offset_within_region,
                             PVIOMMU_MIRROR_ALIAS_SIZE);
    memory_region_unref(ram.mr);
    pci_register_bar(PCI_DEVICE(m), PVIOMMU_MIRROR_ALIAS_BAR,
                     PCI_BASE_ADDRESS_SPACE_MEMORY, &m->alias_bar);
    return true;
}

/* In VFIO's order: what it forbids, what it maps, what it tells the IOMMU. */
static bool pin(PVIOMMUMirror *m, Error **errp)
{
    m->forbids = !pci_device_iommu_allows_discard(PCI_DEVICE(m));
    if (m->forbids && ram_block_uncoordinated_discard_disable(true)) {
        error_setg(errp, "RAM must be discarded, and pins=on forbids it");
        return false;
    }
    memory_listener_register(&m->listener, m->as);
    m->host = HOST_IOMMU_DEVICE(object_new(TYPE_PVIOMMU_MIRROR_HOST));
    m->host->name = g_strdup(TYPE_PVIOMMU_MIRROR);
    m->host->agent = m;
    if (!pci_device_set_iommu_device(PCI_DEVICE(m), m->host, errp)) {
        g_clear_pointer(&m->host, object_unref);
        memory_listener_unregister(&m->listener);
        if (m->forbids) {
            ram_block_uncoordinated_discard_disable(false);
        }
        return false;
    }
    return true;
}

static void unpin(PVIOMMUMirror *m)
{
    pci_device_unset_iommu_device(PCI_DEVICE(m));
    g_clear_pointer(&m->host, object_unref);
    if (m->forbids) {
        ram_block_uncoordinated_discard_disable(false);
    }
}

static void pviommu_mirror_realize(PCIDevice *dev, Error **errp)
{
    PVIOMMUMirror *m = PVIOMMU_MIRROR(dev);

    if (!m->notifier || !strcmp(m->notifier, "map")) {
        m->flags = IOMMU_NOTIFIER_IOTLB_EVENTS;
    } else if (!strcmp(m->notifier, "unmap")) {
        m->flags = IOMMU_NOTIFIER_UNMAP;
    } else if (!strcmp(m->notifier, "deviotlb")) {
        m->flags = IOMMU_NOTIFIER_DEVIOTLB_UNMAP;
    } else if (strcmp(m->notifier, "none")) {
        error_setg(errp, "notifier must be map, unmap, deviotlb or none");
        return;
    }
    if (m->pins && !m->flags) {
        error_setg(errp, "pins=on needs a notifier");
        return;
    }
    if (m->nr_iova_ranges % 2 || (m->nr_iova_ranges && !m->pins)) {
        error_setg(errp, "iova-ranges are FIRST,LAST,... and need pins=on");
        return;
    }
    memory_region_init_io(&m->bar, OBJECT(m), &bar_ops, m, "pviommu-mirror",
                          PVIOMMU_MIRROR_BAR_SIZE);
    pci_register_bar(dev, PVIOMMU_MIRROR_BAR, PCI_BASE_ADDRESS_SPACE_MEMORY,
                     &m->bar);
    if (m->alias && !add_alias(m, errp)) {
        return;
    }
    QLIST_INIT(&m->sections);
    m->as = pci_device_iommu_address_space(dev);
    if (m->iothread) {
        waiter_register(m);
    }
    m->listener = (MemoryListener) {
        .name = "pviommu-mirror",
        .region_add = region_add,
        .region_del = region_del,
    };
    if (m->pins) {
        pin(m, errp);
    } else if (m->flags) {
        memory_listener_register(&m->listener, m->as);
    }
}

/* Takes all sections away. */
static void stop_mirroring(PVIOMMUMirror *m)
{
    MirrorEntry *e;

    memory_listener_unregister(&m->listener);
    while ((e = entry_first(m, 0, UINT64_MAX))) {
        entry_remove(m, e);
    }
}

static void pviommu_mirror_exit(PCIDevice *dev)
{
    PVIOMMUMirror *m = PVIOMMU_MIRROR(dev);

    for (unsigned i = 0; i < PVIOMMU_MIRROR_NR_SLOTS; i++) {
        release(m, &m->held[i], 0);
    }
    if (m->iothread) {
        m->wait = 0;
        memory_listener_unregister(&m->waiter);
        qemu_sem_destroy(&m->waited);
    }
    if (!m->late) {
        stop_mirroring(m);
    }
    if (m->pins) {
        unpin(m);
    }
}

/* QEMU leaves it to the device to free an array. */
static void pviommu_mirror_finalize(Object *obj)
{
    PVIOMMUMirror *m = PVIOMMU_MIRROR(obj);

    if (m->late && m->as) {
        stop_mirroring(m);
    }
    g_free(m->iova_ranges);
}

static const Property pviommu_mirror_properties[] = {
    DEFINE_PROP_STRING("notifier", PVIOMMUMirror, notifier),
    DEFINE_PROP_BOOL("pins", PVIOMMUMirror, pins, false),
    DEFINE_PROP_ARRAY("iova-ranges", PVIOMMUMirror, nr_iova_ranges, iova_ranges,
                      qdev_prop_uint64, uint64_t),
    DEFINE_PROP_UINT64("alias", PVIOMMUMirror, alias, 0),
    DEFINE_PROP_LINK("iothread", PVIOMMUMirror, iothread, TYPE_IOTHREAD,
                     IOThread *),
    DEFINE_PROP_BOOL("late", PVIOMMUMirror, late, false),
};

static void pviommu_mirror_class_init(ObjectClass *klass,
                                      XEN_PVIOMMU_CONST void *data)
{
    DeviceClass *dc = DEVICE_CLASS(klass);
    PCIDeviceClass *k = PCI_DEVICE_CLASS(klass);

    k->realize = pviommu_mirror_realize;
    k->exit = pviommu_mirror_exit;
    k->vendor_id = PVIOMMU_MIRROR_VENDOR_ID;
    k->device_id = PVIOMMU_MIRROR_DEVICE_ID;
    k->class_id = PCI_CLASS_OTHERS;
    dc->desc = "test device: mirrors what a vIOMMU translates";
    set_bit(DEVICE_CATEGORY_MISC, dc->categories);
    device_class_set_props(dc, pviommu_mirror_properties);
    object_class_property_set_description(
        klass, "notifier", "map: mirror as VFIO does; deviotlb or unmap: "
                           "cache as vhost does; none: only do DMA");
    object_class_property_set_description(
        klass, "pins", "RAM must not be discarded from under it, as for VFIO");
    object_class_property_set_description(
        klass, "iova-ranges", "all that the host's IOMMU could map for it, as "
                              "the first and last address of each range");
    object_class_property_set_description(
        klass, "alias", "guest-physical address of RAM to show in BAR 2");
    object_class_property_set_description(
        klass, "iothread", "what it waits for, when it is told to");
    object_class_property_set_description(
        klass, "late", "listen until the device is finalized, as VFIO does");
}

static const TypeInfo pviommu_mirror_info = {
    .name = TYPE_PVIOMMU_MIRROR,
    .parent = TYPE_PCI_DEVICE,
    .instance_size = sizeof(PVIOMMUMirror),
    .instance_finalize = pviommu_mirror_finalize,
    .class_init = pviommu_mirror_class_init,
    .interfaces = (XEN_PVIOMMU_CONST InterfaceInfo[]) {
        { INTERFACE_CONVENTIONAL_PCI_DEVICE },
        { },
    },
};

static GList *host_get_iova_ranges(HostIOMMUDevice *host)
{
    const PVIOMMUMirror *m = host->agent;
    GList *ranges = NULL;

    for (uint32_t i = 0; i < m->nr_iova_ranges; i += 2) {
        Range *r = g_new0(Range, 1);

        range_set_bounds(r, m->iova_ranges[i], m->iova_ranges[i + 1]);
        ranges = g_list_append(ranges, r);
    }
    return ranges;
}

static void pviommu_mirror_host_class_init(ObjectClass *klass,
                                           XEN_PVIOMMU_CONST void *data)
{
    HOST_IOMMU_DEVICE_CLASS(klass)->get_iova_ranges = host_get_iova_ranges;
}

static const TypeInfo pviommu_mirror_host_info = {
    .name = TYPE_PVIOMMU_MIRROR_HOST,
    .parent = TYPE_HOST_IOMMU_DEVICE,
    .class_init = pviommu_mirror_host_class_init,
};

static void pviommu_mirror_register(void)
{
    type_register_static(&pviommu_mirror_info);
    type_register_static(&pviommu_mirror_host_info);
}

type_init(pviommu_mirror_register)
