/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Reserved ranges as the user gives them: properties, checked and sorted
 */

#ifndef HW_XEN_PVIOMMU_RESERVED_CONFIG_H
#define HW_XEN_PVIOMMU_RESERVED_CONFIG_H

#include "hw/pci/pci_device.h"
#include "../compat.h"

/* Where x86 devices write their interrupts, in frames. */
#define XEN_PVIOMMU_MSI_BFN 0xfee00ull
#define XEN_PVIOMMU_MSI_NR  0x100

typedef struct XenPVIOMMUReservedConfig {
    /* properties */
    char **common;              /* FIRST:LAST:TYPE */
    uint32_t nr_common;
    char **devices;             /* BUS/SLOT[.FUNCTION]=FIRST:LAST:TYPE */
    uint32_t nr_devices;

    GHashTable *by_place;       /* of GArray of XenPVIOMMUReserved */
    PCIBus *root;
    Notifier machine_done;
} XenPVIOMMUReservedConfig;

/**
 * xen_pviommu_reserved_config_init: check the properties
 * @root: the bus that all devices are on or behind
 * @common: where the ranges that hold in every context are added
 */
bool xen_pviommu_reserved_config_init(XenPVIOMMUReservedConfig *c,
                                      PCIBus *root, unsigned bfn_bits,
                                      GArray *common, Error **errp);
void xen_pviommu_reserved_config_finalize(XenPVIOMMUReservedConfig *c);

/** xen_pviommu_place: how a function is named, BUS/SLOT.FUNCTION; g_free() */
char *xen_pviommu_place(PCIBus *bus, uint8_t devfn);

/**
 * xen_pviommu_reserved_config_at: add what is reserved for one place
 * @place: as xen_pviommu_place() names it
 */
void xen_pviommu_reserved_config_at(XenPVIOMMUReservedConfig *c,
                                    const char *place, GArray *list);

#endif /* HW_XEN_PVIOMMU_RESERVED_CONFIG_H */
