/*
 * xen-pviommu: an edu, which sees what is mapped, and a device whose BAR is
 * mapped for it
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef TESTS_LIBQOS_MMIO_FIXTURE_H
#define TESTS_LIBQOS_MMIO_FIXTURE_H

#include "hw/pci/pci_regs.h"
#include "libqos/edu.h"

#define GFN             PVIOMMU_FREE_GFN
#define BFN             0x4000000ull
#define ADDR(frame)     ((uint64_t)(frame) * PVIOMMU_PAGE)
#define RO              XEN_IOMMUOP_map_readonly
#define UNMAPPED        XEN_IOMMU_FAULT_REASON_unmapped

/* The device whose BAR is mapped: it keeps what is stored in some registers. */
#define PEER            "-device e1000,romfile=,id=peer,"
#define PEER_SLOT       0x13
#define PEER_VENDOR     0x8086
#define PEER_DEVICE     0x100e
#define PEER_FRAMES     32
/* Its multicast table, of 512 bytes */
#define PEER_TABLE      0x5200

/* Where a BAR is moved to; nothing else is there. */
#define ELSEWHERE       0xf0000000u

typedef struct Peer {
    QPCIDevice dev;
    QPCIBar bar;
    uint64_t gfn;
} Peer;

typedef struct Fixture {
    QXenPVIOMMU *iommu;
    QEdu edu;
    Peer peer;
} Fixture;

static inline void peer_find(Peer *p, QXenPVIOMMU *iommu, int devfn)
{
    QPCIAddress addr = {
        .devfn = devfn,
        .vendor_id = PEER_VENDOR,
        .device_id = PEER_DEVICE,
    };

    qpci_device_init(&p->dev, iommu->pci, &addr);
}

static inline void peer_init(Peer *p, QXenPVIOMMU *iommu, int devfn)
{
    uint64_t size;

    peer_find(p, iommu, devfn);
    p->bar = qpci_iomap(&p->dev, 0, &size);
    g_assert_cmpuint(size, ==, PEER_FRAMES * PVIOMMU_PAGE);
    p->gfn = p->bar.addr / PVIOMMU_PAGE;
    qpci_device_enable(&p->dev);
}

static inline void peer_move(Peer *p, uint32_t addr)
{
    qpci_config_writel(&p->dev, PCI_BASE_ADDRESS_0, addr);
    p->bar.addr = addr;
    p->gfn = addr / PVIOMMU_PAGE;
}

static inline void peer_enable(Peer *p, bool on)
{
    uint16_t cmd = qpci_config_readw(&p->dev, PCI_COMMAND);

    cmd &= ~PCI_COMMAND_MEMORY;
    qpci_config_writew(&p->dev, PCI_COMMAND,
                       cmd | (on ? PCI_COMMAND_MEMORY : 0));
}

/* A machine with an edu, which sees what is mapped, and the peer */
static inline Fixture fixture_start(const char *machine, const char *props,
                                    const char *more)
{
    g_autofree char *devices = g_strdup_printf(
        EDU_DEVICE ",addr=11 " PEER "addr=%x %s", PEER_SLOT, more ?: "");
    Fixture f = { .iommu = pviommu_start_accepted(machine, props, devices) };

    edu_init(&f.edu, f.iommu, EDU_SBDF_A);
    peer_init(&f.peer, f.iommu, QPCI_DEVFN(PEER_SLOT, 0));
    assert_status(pviommu_enable(f.iommu), 0);
    edu_map_window(&f.edu, f.iommu, 0, 0);
    pviommu_fault_ring(f.iommu, 64);
    return f;
}

static inline int32_t map_peer(Fixture *f, uint64_t bfn, uint16_t flags)
{
    return pviommu_map(f->iommu, 0, bfn, f->peer.gfn, PEER_FRAMES, flags);
}

static inline void assert_reached(Fixture *f, uint64_t bfn)
{
    edu_assert_access(&f->edu, ADDR(bfn) + PEER_TABLE,
                      f->peer.bar.addr + PEER_TABLE, 64);
}

static inline void assert_not_reached(Fixture *f, uint64_t bfn)
{
    edu_assert_no_access(&f->edu, ADDR(bfn) + PEER_TABLE,
                         f->peer.bar.addr + PEER_TABLE, 64);
}

/* DMA to it is a fault, wherever the peer is now. */
static inline void assert_faults(Fixture *f, uint64_t bfn)
{
    uint32_t tail = pviommu_readl(f->iommu, XEN_PVIOMMU_REG_FAULT_TAIL);

    edu_dma(&f->edu, true, ADDR(bfn) + PEER_TABLE, 4);
    pviommu_wait_faults(f->iommu, tail + 1);
    pviommu_assert_fault(f->iommu, tail, EDU_SBDF_A, 0, ADDR(bfn) + PEER_TABLE,
                         true, UNMAPPED);
    pviommu_writel(f->iommu, XEN_PVIOMMU_REG_FAULT_HEAD, tail + 1);
}

/* Nothing of a map of the peer is left, and it can be mapped again. */
static inline void assert_gone(Fixture *f, uint64_t bfn)
{
    pviommu_assert_unmapped(f->iommu, 0, bfn);
    pviommu_assert_unmapped(f->iommu, 0, bfn + PEER_FRAMES - 1);
    assert_faults(f, bfn);
    assert_status(pviommu_unmap(f->iommu, 0, bfn, PEER_FRAMES),
                  XEN_IOMMU_ENOENT);
}

static inline void assert_works(Fixture *f)
{
    assert_status(map_peer(f, BFN + 0x1000, 0), 0);
    assert_reached(f, BFN + 0x1000);
    assert_status(pviommu_map(f->iommu, 0, BFN + 0x2000, GFN, 1, 0), 0);
    edu_assert_access(&f->edu, ADDR(BFN + 0x2000), ADDR(GFN), 64);
    assert_status(pviommu_unmap(f->iommu, 0, BFN + 0x1000, PEER_FRAMES), 0);
    assert_status(pviommu_unmap(f->iommu, 0, BFN + 0x2000, 1), 0);
    assert_status(pviommu_flush_all(f->iommu, 0), 0);
    assert_not_reached(f, BFN + 0x1000);
    /* The edu's window */
    pviommu_assert_frames(f->iommu, 1, 0);
}

#endif
