/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Reserved ranges as the user gives them: properties, checked and sorted
 */

#include "qemu/osdep.h"
#include "qemu/cutils.h"
#include "qemu/error-report.h"
#include "qapi/error.h"
#include "hw/xen/interface/iommu_op.h"
#include "system/system.h"
#include "hw/pci/pci_bus.h"
#include "reserved.h"
#include "reserved-config.h"

#define REGION_HINT \
    "A region is FIRST:LAST:TYPE: byte addresses in hexadecimal, made of " \
    "whole 4 KiB pages, and 0 for memory or 1 for interrupts.\n"

static bool add_region(GArray *list, unsigned bfn_bits, uint64_t low,
                       uint64_t high, unsigned type, Error **errp)
{
    const uint64_t page = 1ull << XEN_IOMMU_PAGE_SHIFT;
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

/* BUS/SLOT.FUNCTION=REGION */
static bool add_device_region(XenPVIOMMUReservedConfig *c, unsigned bfn_bits,
                              const char *text, Error **errp)
{
    g_auto(GStrv) parts = g_strsplit(text, "=", 2);
    uint64_t low, high;
    unsigned type;
    GArray *list;

    if (!parts[0] || !strchr(parts[0], '/') || !parts[1] ||
        !parse_region(parts[1], &low, &high, &type)) {
        error_setg(errp, "'%s' is no device's reserved region", text);
        error_append_hint(errp, "It is BUS/SLOT.FUNCTION=FIRST:LAST:TYPE, as "
                          "in pcie.0/05.0=0x100000:0x1fffff:0.\n" REGION_HINT);
        return false;
    }
    list = g_hash_table_lookup(c->by_place, parts[0]);
    if (!list) {
        list = xen_pviommu_reserved_new();
        g_hash_table_insert(c->by_place, g_strdup(parts[0]), list);
    }
    return add_region(list, bfn_bits, low, high, type, errp);
}

typedef struct BusSearch {
    const char *place;
    bool found;
} BusSearch;

static void match_bus(PCIBus *bus, void *opaque)
{
    BusSearch *search = opaque;
    const char *rest;

    if (strstart(search->place, BUS(bus)->name, &rest) && *rest == '/') {
        search->found = true;
    }
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
        search.found = false;
        pci_for_each_bus(c->root, match_bus, &search);
        if (!search.found) {
            warn_report("xen-pviommu: device-reserved-regions names %s, but "
                        "the machine has no such bus", search.place);
        }
    }
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
