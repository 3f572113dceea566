/*
 * libqos: the machines' ACPI controllers of PCI hot-plug, as a guest uses them
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef TESTS_LIBQOS_HOTPLUG_H
#define TESTS_LIBQOS_HOTPLUG_H

#include "libqtest.h"

/* Where they are: of q35 and of pc. */
#define HOTPLUG_ICH9    0x0cc0
#define HOTPLUG_PC      0xae00

/**
 * hotplug_eject: unplug device @id, and wait until it is gone
 * @port: HOTPLUG_*
 * @bus: as the controller numbers them
 */
void hotplug_eject(QTestState *qts, const char *id, unsigned port, unsigned bus,
                   unsigned slot);

#endif
