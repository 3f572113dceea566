/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The guest's memory, as the function itself reaches it
 */

#include "qemu/osdep.h"
#include "hw/pci/pci_device.h"
#include "guest-memory.h"

void xen_pviommu_config_changed(XenPVIOMMUState *s)
{
    qatomic_set(&s->bus_master, pci_get_word(s->parent_obj.config +
                                             PCI_COMMAND) & PCI_COMMAND_MASTER);
}

int xen_pviommu_guest_rw(uint64_t addr, void *buf, size_t len, bool write)
{
    const MemTxAttrs ram_only = { .memory = true };

    if (addr + len < addr ||
        address_space_rw(&address_space_memory, addr, ram_only, buf, len,
                         write) != MEMTX_OK) {
        return -XEN_IOMMU_EFAULT;
    }
    return 0;
}
