/*
 * A PCI function that may do no DMA, as its bus mastering is off: to it all
 * addresses are nobody's, as behind an IOMMU that maps nothing
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef TESTS_BUS_MASTER_H
#define TESTS_BUS_MASTER_H

#include "hw/pci/pci_regs.h"
#include "libqtest.h"
#include "libqos/pci-pc.h"

#define FUNCTION_SLOT   0x11
#define FUNCTION_RAM    0x100000u

typedef struct Function {
    QTestState *qts;
    QPCIBus *bus;
    QPCIDevice *dev;
} Function;

/* A machine with @args, which have a function in FUNCTION_SLOT. */
static inline void function_start(Function *f, const char *args)
{
    f->qts = qtest_initf("-machine pc -m 16 -nodefaults %s", args);
    f->bus = qpci_new_pc(f->qts, NULL);
    f->dev = qpci_device_find(f->bus, QPCI_DEVFN(FUNCTION_SLOT, 0));
    g_assert_nonnull(f->dev);
    qpci_device_enable(f->dev);
}

static inline void function_bus_master(Function *f, bool on)
{
    uint16_t cmd = qpci_config_readw(f->dev, PCI_COMMAND);

    qpci_config_writew(f->dev, PCI_COMMAND, on ? cmd | PCI_COMMAND_MASTER :
                       cmd & ~PCI_COMMAND_MASTER);
}

/* Little-endian words, one after the other */
static inline void function_store(Function *f, uint64_t addr,
                                  const uint32_t *words, unsigned nr)
{
    for (unsigned i = 0; i < nr; i++) {
        qtest_writel(f->qts, addr + 4 * i, words[i]);
    }
}

static inline void function_stop(Function *f)
{
    g_free(f->dev);
    qpci_free_pc(f->bus);
    qtest_quit(f->qts);
}

#endif
