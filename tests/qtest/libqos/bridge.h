/*
 * libqos: PCI bridges set up by hand, as firmware would
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef TESTS_LIBQOS_BRIDGE_H
#define TESTS_LIBQOS_BRIDGE_H

#include "libqos/pci.h"

/** bridge_devfn: what libqos calls a function on bus @bus */
#define BRIDGE_DEVFN(bus, slot, fn)     QPCI_DEVFN(((bus) << 5) | (slot), fn)

/** bridge_set_buses: number the buses behind the bridge at @devfn */
void bridge_set_buses(QPCIBus *pci, int devfn, uint8_t primary,
                      uint8_t secondary, uint8_t subordinate);

/**
 * bridge_init: number the buses behind it, and open a window
 *
 * BARs that are mapped from here on, until the next bridge_init(), are in the
 * window.
 */
void bridge_init(QPCIBus *pci, int devfn, uint8_t primary, uint8_t secondary,
                 uint8_t subordinate);

#endif
