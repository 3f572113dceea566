/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What QEMU asks for BARs and interrupts of a physical function that is passed
 * through: the simulated ones have none, so all of it is refused
 */

#include "config-host.h"
#include "sim.h"

#include <errno.h>
#include <xenctrl.h>

#define NO_FUNCTION(name, params)                                       \
    int name params                                                     \
    {                                                                   \
        if (!sim_call(__func__, "-")) {                                 \
            return -1;                                                  \
        }                                                               \
        return sim_refuse(ENODEV, "%s: there is no physical function",  \
                          __func__);                                    \
    }

NO_FUNCTION(xc_physdev_map_pirq,
            (xc_interface *xch, uint32_t domid, int index, int *pirq))
NO_FUNCTION(xc_physdev_map_pirq_msi,
            (xc_interface *xch, uint32_t domid, int index, int *pirq,
             int devfn, int bus, int entry_nr, uint64_t table_base))
NO_FUNCTION(xc_physdev_unmap_pirq,
            (xc_interface *xch, uint32_t domid, int pirq))
NO_FUNCTION(xc_domain_memory_mapping,
            (xc_interface *xch, uint32_t domid, unsigned long first_gfn,
             unsigned long first_mfn, unsigned long nr_mfns,
             uint32_t add_mapping))
NO_FUNCTION(xc_domain_ioport_mapping,
            (xc_interface *xch, uint32_t domid, uint32_t first_gport,
             uint32_t first_mport, uint32_t nr_ports, uint32_t add_mapping))
NO_FUNCTION(xc_domain_iomem_permission,
            (xc_interface *xch, uint32_t domid, unsigned long first_mfn,
             unsigned long nr_mfns, uint8_t allow_access))
NO_FUNCTION(xc_domain_update_msi_irq,
            (xc_interface *xch, uint32_t domid, uint32_t gvec, uint32_t pirq,
             uint32_t gflags, uint64_t gtable))
NO_FUNCTION(xc_domain_unbind_msi_irq,
            (xc_interface *xch, uint32_t domid, uint32_t gvec, uint32_t pirq,
             uint32_t gflags))
NO_FUNCTION(xc_domain_bind_pt_pci_irq,
            (xc_interface *xch, uint32_t domid, uint8_t machine_irq,
             uint8_t bus, uint8_t device, uint8_t intx))
NO_FUNCTION(xc_domain_unbind_pt_irq,
            (xc_interface *xch, uint32_t domid, uint8_t machine_irq,
             uint8_t irq_type, uint8_t bus, uint8_t device, uint8_t intx,
             uint8_t isa_irq))
#if CONFIG_XEN_CTRL_INTERFACE_VERSION >= 42000
NO_FUNCTION(xc_physdev_map_pirq_gsi,
            (xc_interface *xch, uint32_t domid, int gsi, int *pirq))
NO_FUNCTION(xc_pcidev_get_gsi, (xc_interface *xch, uint32_t sbdf))
#endif
