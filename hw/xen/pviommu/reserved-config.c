/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Reserved ranges as the user gives them: properties, checked and sorted
 */

#include "qemu/osdep.h"
#include "qemu/cutils.h"
#include "qemu/error-report.h"
#include "qapi/error.h"
#include "system/system.h"
#include "hw/pci/pci_bus.h"
#include "core/page.h"
#include "core/reserved.h"
#include "reserved-config.h"

#define REGION_HINT \
    "A region is FIRST:LAST:TYPE: byte addresses in hexadecimal, made of " \
    "whole 4 KiB pages, and 0 for memory or 1 for interrupts.\n"

static bool add_region(GArray *list, unsigned bfn_bits, uint64_t low,
                       uint64_t high, unsigned type, Error **errp)
{
    const uint64_t page = XEN_PVIOMMU_PAGE_SIZE;
    uint64_t bfn = low / page, last = high / page;

    if (low % page || (high + 1) % page || low > high || last >> bfn_bits ||
        type > 1) {
        error_setg(errp, "0x%" PRIx64 ":0x%" PRIx64 ":%u is no reserved region "
                   "below bit %u", low, high, type,
                   bfn_bits + XEN_IOMMU_PAGE_SHIFT);
        error_append_hint(errp, REGION_HINT);
        return false;
    }
    xen_pviommu_reserved_add(list, bfn, last - bfn + 1,
                             type ? XEN_IOMMU_RESERVED_msi : 0);
    return true;
}

static bool parse_region(const char *text, uint64_t *low, uint64_t *high,
                         unsigned *type)
{
    const char *end;

    return !qemu_strtou64(text, &end, 16, low) && *end == ':' &&
           !qemu_strtou64(end + 1, &end, 16, high) && *end == ':' &&
           !qemu_strtoui(end + 1, NULL, 10, type);
}

static bool parse_hex(const char *text, const char **end, unsigned max,
                      unsigned *value)
{
    return g_ascii_isxdigit(*text) && !qemu_strtoui(text, end, 16, value) &&
           *value <= max;
}

/*
 * BUS/SLOT or BUS/SLOT.FUNCTION, written as in bus= and addr=. Returns: as
 * xen_pviommu_reserved_config_at() is asked for it, or NULL.
 */
static char *parse_place(const char *text)
{
    const char *slash = strrchr(text, '/'), *end;
    unsigned slot, function = 0;

    if (!slash || slash == text ||
        !parse_hex(slash + 1, &end, PCI_SLOT_MAX - 1, &slot) ||
        (*end == '.' &&
         !parse_hex(end + 1, &end, PCI_FUNC_MAX - 1, &function)) || *end) {
        return NULL;
    }
    return g_strdup_printf("%.*s/%02x.%x", (int)(slash - text), text, slot,
                           function);
}

/* PLACE=REGION */
static bool add_device_region(XenPVIOMMUReservedConfig *c, unsigned bfn_bits,
                              const char *text, Error **errp)
{
    g_auto(GStrv) parts = g_strsplit(text, "=", 2);
    g_autofree char *place = parts[0] ? parse_place(parts[0]) : NULL;
    uint64_t low, high;
    unsigned type;
    GArray *list;

    if (!place || !parts[1] || !parse_region(parts[1], &low, &high, &type)) {
        error_setg(errp, "'%s' is no device's reserved region", text);
        error_append_hint(errp, "It is BUS/SLOT.FUNCTION=FIRST:LAST:TYPE, as "
                          "in pcie.0/05.0=0x100000:0x1fffff:0; slots are 0 to "
                          "1f, functions 0 to 7.\n" REGION_HINT);
        return false;
    }
    list = g_hash_table_lookup(c->by_place, place);
    if (!list) {
        list = xen_pviommu_reserved_new();
        g_hash_table_insert(c->by_place, g_steal_pointer(&place), list);
    }
    return add_region(list, bfn_bits, low, high, type, errp);
}

typedef struct BusSearch {
    const char *place;
    PCIBus *bus;
} BusSearch;

static void match_bus(PCIBus *bus, void *opaque)
{
    BusSearch *search = opaque;
    const char *rest;

    if (strstart(search->place, BUS(bus)->name, &rest) && *rest == '/') {
        search->bus = bus;
    }
}

/*
 * What requests of devices on @bus come from, if that is not the device: a
 * bridge to conventional PCI, or 00.0 behind it if it is a PCIe one. Of several
 * on the way, the one next to the root; NULL if there is none.
 */
static char *bridge_place(PCIBus *bus)
{
    PCIBus *found = NULL;
    uint8_t devfn = 0;

    while (bus->parent_dev) {
        PCIDevice *bridge = bus->parent_dev;
        PCIBus *parent = pci_get_bus(bridge);

        if (!pci_bus_is_express(bus)) {
            bool pcie = pci_is_express(bridge) &&
                        pcie_cap_get_type(bridge) == PCI_EXP_TYPE_PCI_BRIDGE;

            found = pcie ? bus : parent;
            devfn = pcie ? 0 : bridge->devfn;
        }
        bus = parent;
    }
    return found ? xen_pviommu_place(found, devfn) : NULL;
}

/* A bus that is not there now may still be plugged: no more than a warning. */
static void machine_done(Notifier *notifier, void *unused)
{
    XenPVIOMMUReservedConfig *c =
        container_of(notifier, XenPVIOMMUReservedConfig, machine_done);
    BusSearch search;
    GHashTableIter iter;

    g_hash_table_iter_init(&iter, c->by_place);
    while (g_hash_table_iter_next(&iter, (void **)&search.place, NULL)) {
        g_autofree char *bridge = NULL;

        search.bus = NULL;
        pci_for_each_bus(c->root, match_bus, &search);
        bridge = search.bus ? bridge_place(search.bus) : NULL;
        if (!search.bus) {
            warn_report("xen-pviommu: device-reserved-regions names %s, but "
                        "the machine has no such bus", search.place);
        } else if (bridge && strcmp(bridge, search.place)) {
            warn_report("xen-pviommu: device-reserved-regions names %s, but "
                        "all devices on its bus are taken for %s: name that",
                        search.place, bridge);
        }
    }
}

char *xen_pviommu_place(PCIBus *bus, uint8_t devfn)
{
    return g_strdup_printf("%s/%02x.%x", BUS(bus)->name, PCI_SLOT(devfn),
                           PCI_FUNC(devfn));
}

bool xen_pviommu_reserved_config_init(XenPVIOMMUReservedConfig *c,
                                      PCIBus *root, unsigned bfn_bits,
                                      GArray *common, Error **errp)
{
    c->root = root;
    c->by_place = g_hash_table_new_full(g_str_hash, g_str_equal, g_free,
                                        (GDestroyNotify)g_array_unref);
    if (!(XEN_PVIOMMU_MSI_BFN >> bfn_bits)) {
        xen_pviommu_reserved_add(common, XEN_PVIOMMU_MSI_BFN,
                                 XEN_PVIOMMU_MSI_NR, XEN_IOMMU_RESERVED_msi);
    }
    for (uint32_t i = 0; i < c->nr_common; i++) {
        uint64_t low, high;
        unsigned type;

        if (!parse_region(c->common[i], &low, &high, &type)) {
            error_setg(errp, "'%s' is no reserved region", c->common[i]);
            error_append_hint(errp, REGION_HINT);
            goto fail;
        }
        if (!add_region(common, bfn_bits, low, high, type, errp)) {
            goto fail;
        }
    }
    for (uint32_t i = 0; i < c->nr_devices; i++) {
        if (!add_device_region(c, bfn_bits, c->devices[i], errp)) {
            goto fail;
        }
    }
    c->machine_done.notify = machine_done;
    qemu_add_machine_init_done_notifier(&c->machine_done);
    return true;

fail:
    g_hash_table_unref(c->by_place);
    return false;
}

void xen_pviommu_reserved_config_finalize(XenPVIOMMUReservedConfig *c)
{
    qemu_remove_machine_init_done_notifier(&c->machine_done);
    g_hash_table_unref(c->by_place);
}

void xen_pviommu_reserved_config_at(XenPVIOMMUReservedConfig *c,
                                    const char *place, GArray *list)
{
    const GArray *reserved = g_hash_table_lookup(c->by_place, place);

    if (reserved) {
        xen_pviommu_reserved_add_all(list, reserved);
    }
}
