/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Interrupts on their way to the local APICs: of QEMU, of KVM or of Xen
 */

#include "qemu/osdep.h"
#include "hw/i386/apic_internal.h"
#include "system/kvm.h"
#include "target/i386/kvm/kvm_i386.h"
#include "irq.h"

void xen_pviommu_irq_send(MSIMessage *msg)
{
    /* A machine has one class of them, which is looked up by name. */
    static const APICCommonClass *apics;

    if (!apics) {
        apics = apic_get_class(&error_abort);
    }
    /* Not by the window in the system's memory: that has no room for dest. */
    apics->send_msi(msg);
}

void xen_pviommu_irq_update_routes(void)
{
#ifdef CONFIG_KVM
    if (kvm_enabled()) {
        kvm_update_msi_routes_all(NULL, true, 0, 0);
    }
#endif
}
