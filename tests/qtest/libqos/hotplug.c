/*
 * libqos: the machines' ACPI controllers of PCI hot-plug, as a guest uses them
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "libqos/hotplug.h"

#define HOTPLUG_EJECT   0x08
#define HOTPLUG_SELECT  0x10

void hotplug_eject(QTestState *qts, const char *id, unsigned port, unsigned bus,
                   unsigned slot)
{
    qtest_qmp_device_del_send(qts, id);
    qtest_outl(qts, port + HOTPLUG_SELECT, bus);
    qtest_outl(qts, port + HOTPLUG_EJECT, 1u << slot);
    qtest_qmp_eventwait(qts, "DEVICE_DELETED");
}
