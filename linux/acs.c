// SPDX-License-Identifier: GPL-2.0
/*
 * Access Control Services: what separates devices into groups
 *
 * A device has a group of its own where its requests reach the IOMMU before
 * they can reach another device. Linux switches that on in root ports, in
 * switches and in multifunction devices as it finds them, but only for an IOMMU
 * that asked before; this driver is loaded later. So it does the same, before
 * the group of a device is looked up.
 */

#include <linux/module.h>
#include <linux/pci.h>

#include "pviommu.h"

static bool use_acs = true;
module_param_named(acs, use_acs, bool, 0444);
MODULE_PARM_DESC(acs, "separate devices behind root ports and switches, by PCIe Access Control Services (default: on)");

/**
 * pviommu_acs_enable() - have the requests of a function go to the IOMMU
 * @pdev: the function: a port, a part of a multifunction device, or any other
 *
 * What the function cannot do it need not: then it does not pass requests on.
 *
 * Context: Process context.
 */
void pviommu_acs_enable(struct pci_dev *pdev)
{
	u16 cap, old, ctrl;

	if (!use_acs || !pdev->acs_cap ||
	    pci_read_config_word(pdev, pdev->acs_cap + PCI_ACS_CAP, &cap) ||
	    pci_read_config_word(pdev, pdev->acs_cap + PCI_ACS_CTRL, &old))
		return;

	ctrl = old | (cap & (PCI_ACS_SV | PCI_ACS_RR | PCI_ACS_CR | PCI_ACS_UF));
	if (pdev->external_facing || pdev->untrusted)
		ctrl |= cap & PCI_ACS_TB;
	if (ctrl != old)
		pci_write_config_word(pdev, pdev->acs_cap + PCI_ACS_CTRL, ctrl);
}

/**
 * pviommu_acs_enable_above() - the same for what a function's requests pass
 * @pdev: the function
 *
 * A port that was reset has lost it, and only a kernel that has asked for it as
 * it found the port restores it.
 *
 * Context: Process context.
 */
void pviommu_acs_enable_above(struct pci_dev *pdev)
{
	struct pci_bus *bus;

	pviommu_acs_enable(pdev);
	for (bus = pdev->bus; !pci_is_root_bus(bus); bus = bus->parent)
		if (bus->self)
			pviommu_acs_enable(bus->self);
}

/**
 * pviommu_acs_enable_all() - the same for all functions that there are
 *
 * Context: Process context.
 */
void pviommu_acs_enable_all(void)
{
	struct pci_dev *pdev = NULL;

	for_each_pci_dev(pdev)
		pviommu_acs_enable(pdev);
}
