/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * pviommu-mirror: a test device that is notified of translations
 *
 * No hardware and no host kernel is needed to see what VFIO and vhost would
 * see behind a vIOMMU. pviommu-mirror.h describes the registers.
 *
 * Its DMA in flight survives a reset: a test of DMA that is still under way
 * when the machine is reset needs just that.
 */

#include "qemu/osdep.h"
#include "qemu/host-utils.h"
#include "qemu/memalign.h"
#include "qemu/module.h"
#include "qemu/main-loop.h"
#include "qapi/error.h"
#include "pviommu-mirror-internal.h"

static void cmd_lookup(PVIOMMUMirror *m)
{
    MirrorEntry *e = mirror_entry_first(m, m->iova, m->iova);

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
    if (keep && m->result && !mirror_keeps_maps(m)) {
        mirror_remove_range(m, entry.iova, entry.iova + entry.addr_mask);
        mirror_entry_add(m, entry.iova, entry.iova + entry.addr_mask,
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

static void cmd_sweep(PVIOMMUMirror *m)
{
    uint32_t data = cpu_to_le32(m->data);

    m->result = 0;
    for (uint64_t i = 0; i < m->len; i++) {
        m->result += pci_dma_write(PCI_DEVICE(m), m->iova + i, &data,
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
        mirror_count_size(m, PVIOMMU_MIRROR_OTHER_LARGEST, entry->addr_mask);
    }
}

static void other_init(PVIOMMUMirror *m)
{
    const MirrorSection *s = mirror_any_section(m);

    iommu_notifier_init(&m->other, counted, IOMMU_NOTIFIER_IOTLB_EVENTS,
                        s->n.start, s->n.end, s->n.iommu_idx);
}

/* VFIO's sync of its dirty log: the notifier is not registered. */
static void cmd_sync(PVIOMMUMirror *m)
{
    m->result = mirror_any_section(m) && !m->listens;
    if (m->result) {
        other_init(m);
        memory_region_iommu_replay(mirror_any_section(m)->mr, &m->other);
    }
}

static void cmd_listen(PVIOMMUMirror *m)
{
    m->result = mirror_any_section(m) && !m->listens;
    if (m->result) {
        other_init(m);
        memory_region_register_iommu_notifier(
            MEMORY_REGION(mirror_any_section(m)->mr), &m->other, &error_abort);
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
        mirror_unlisten(m);
        break;
    case PVIOMMU_MIRROR_CMD_SWEEP:
        cmd_sweep(m);
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
    case PVIOMMU_MIRROR_HIDE:
        return &m->hide;
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
        if (reg == &m->hide && m->assigned) {
            memory_region_set_enabled(&m->assigned_memory, !value);
        }
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

static uint64_t assigned_read(void *opaque, hwaddr addr, unsigned size)
{
    return 0;
}

static void assigned_write(void *opaque, hwaddr addr, uint64_t value,
                           unsigned size)
{
    /* Nothing looks at it. */
}

static const MemoryRegionOps assigned_ops = {
    .read = assigned_read,
    .write = assigned_write,
    .endianness = DEVICE_LITTLE_ENDIAN,
};

/* As VFIO has it: what can be mapped is in front of what is trapped. */
static void add_assigned(PVIOMMUMirror *m)
{
    m->memory = qemu_memalign(qemu_real_host_page_size(),
                              PVIOMMU_MIRROR_MEMORY_SIZE);
    memset(m->memory, 0, PVIOMMU_MIRROR_MEMORY_SIZE);
    memory_region_init_io(&m->assigned_bar, OBJECT(m), &assigned_ops, m,
                          "pviommu-mirror-assigned",
                          PVIOMMU_MIRROR_ASSIGNED_SIZE);
    memory_region_init_ram_device_ptr(&m->assigned_memory, OBJECT(m),
                                      "pviommu-mirror-memory",
                                      PVIOMMU_MIRROR_MEMORY_SIZE, m->memory);
    memory_region_add_subregion(&m->assigned_bar, PVIOMMU_MIRROR_MEMORY_OFFSET,
                                &m->assigned_memory);
    pci_register_bar(PCI_DEVICE(m), PVIOMMU_MIRROR_ASSIGNED_BAR,
                     PCI_BASE_ADDRESS_SPACE_MEMORY, &m->assigned_bar);
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
    if (m->assigned) {
        add_assigned(m);
    }
    QLIST_INIT(&m->sections);
    m->as = pci_device_iommu_address_space(dev);
    if (m->iothread) {
        mirror_wait_for_iothread(m);
    }
    m->listener = (MemoryListener) {
        .name = "pviommu-mirror",
        .region_add = mirror_region_add,
        .region_del = mirror_region_del,
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
    while ((e = mirror_entry_first(m, 0, UINT64_MAX))) {
        mirror_entry_remove(m, e);
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
    qemu_vfree(m->memory);
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
    DEFINE_PROP_BOOL("assigned", PVIOMMUMirror, assigned, false),
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
        klass, "assigned", "BAR 4 is partly memory, as VFIO has it");
    object_class_property_set_description(
        klass, "iothread", "the thread that it waits for, with WAIT");
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
