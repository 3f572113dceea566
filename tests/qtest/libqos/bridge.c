/*
 * libqos: PCI bridges set up by hand, as firmware would
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "hw/pci/pci_regs.h"
#include "libqos/bridge.h"

#define WINDOW_SIZE     0x1000000

void bridge_set_buses(QPCIBus *pci, int devfn, uint8_t primary,
                      uint8_t secondary, uint8_t subordinate)
{
    QPCIDevice *dev = qpci_device_find(pci, devfn);

    g_assert_nonnull(dev);
    g_assert_cmphex(qpci_config_readb(dev, PCI_HEADER_TYPE) & 0x7f, ==,
                    PCI_HEADER_TYPE_BRIDGE);
    qpci_config_writeb(dev, PCI_PRIMARY_BUS, primary);
    qpci_config_writeb(dev, PCI_SECONDARY_BUS, secondary);
    qpci_config_writeb(dev, PCI_SUBORDINATE_BUS, subordinate);
    g_free(dev);
}

void bridge_init(QPCIBus *pci, int devfn, uint8_t primary, uint8_t secondary,
                 uint8_t subordinate)
{
    QPCIDevice *dev = qpci_device_find(pci, devfn);
    uint64_t base = QEMU_ALIGN_UP(pci->mmio_alloc_ptr, WINDOW_SIZE);

    bridge_set_buses(pci, devfn, primary, secondary, subordinate);
    qpci_config_writew(dev, PCI_MEMORY_BASE, base >> 16);
    qpci_config_writew(dev, PCI_MEMORY_LIMIT, (base + WINDOW_SIZE - 1) >> 16);
    pci->mmio_alloc_ptr = base;
    qpci_device_enable(dev);
    g_free(dev);
}
