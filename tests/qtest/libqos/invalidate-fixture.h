/*
 * What the tests of pages that leave the guest have in common: a machine under
 * a simulated hypervisor, what that sends, and what devices do then
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef TESTS_LIBQOS_INVALIDATE_FIXTURE_H
#define TESTS_LIBQOS_INVALIDATE_FIXTURE_H

#include "qemu/bswap.h"
#include "libqos/pviommu-mirror.h"
#include "libqos/xensim.h"

#define MIRROR_SLOT     0x11
#define BFN             0x123450ull
#define PAGE            ((uint64_t)PVIOMMU_PAGE)
/* What the mapcache maps at a time, in pages. */
#define BUCKET          256
/* At the start of a bucket. */
#define GFN             (PVIOMMU_FREE_GFN + 0x1000ull)
/* Of the buffered ring. */
#define RING_SLOTS      511
#define GIB_PAGES       0x40000ull

/* A machine with mirrors at MIRROR_SLOT and behind; they do the DMA. */
typedef struct Machine {
    XenSim *sim;
    QXenPVIOMMU *iommu;         /* the bus only, if there is no such device */
    QMirror m[3];
    uint64_t base;              /* where devices have GFN, in bytes */
} Machine;

static inline void start_with(Machine *v, const XenSimOptions *options,
                              bool iommu, unsigned mirrors)
{
    g_autoptr(GString) args = g_string_new(NULL);

    if (iommu) {
        g_string_append_printf(args, "-device xen-pviommu,addr=%x,x-check=on ",
                               PVIOMMU_SLOT);
    }
    for (unsigned i = 0; i < mirrors; i++) {
        g_string_append_printf(args, MIRROR_DEVICE("map"), MIRROR_SLOT + i);
    }
    v->sim = xensim_start(options, args->str);
    v->iommu = pviommu_new(v->sim->qts);
    if (iommu) {
        pviommu_probe(v->iommu);
        pviommu_accept(v->iommu, XEN_IOMMU_FEATURES_ALL);
    }
    for (unsigned i = 0; i < mirrors; i++) {
        mirror_init(&v->m[i], v->iommu, QPCI_DEVFN(MIRROR_SLOT + i, 0));
    }
    v->base = iommu ? BFN * PAGE : GFN * PAGE;
}

static inline void start(Machine *v)
{
    start_with(v, NULL, true, 1);
}

static inline void quit(Machine *v)
{
    pviommu_free(v->iommu);
    xensim_quit(v->sim);
}

/* --- what QEMU says of it ------------------------------------------------- */

typedef struct Counts {
    uint64_t requests, entries, barriers, pages, malformed, everything;
} Counts;

static inline void assert_counts(XenSim *sim, Counts c)
{
    g_assert_cmpuint(xensim_counter(sim, "requests"), ==, c.requests);
    g_assert_cmpuint(xensim_counter(sim, "entries"), ==, c.entries);
    g_assert_cmpuint(xensim_counter(sim, "barriers"), ==, c.barriers);
    g_assert_cmpuint(xensim_counter(sim, "pages"), ==, c.pages);
    g_assert_cmpuint(xensim_counter(sim, "malformed"), ==, c.malformed);
    g_assert_cmpuint(xensim_counter(sim, "everything"), ==, c.everything);
}

/* --- what devices do with page @i of those at @base ----------------------- */

static inline bool dma_write(Machine *v, uint64_t i, uint64_t data)
{
    return mirror_dma_write(&v->m[0], v->base + i * PAGE, data, 8);
}

static inline void assert_works(Machine *v, uint64_t i)
{
    uint64_t gpa = (GFN + i) * PAGE, data;

    g_assert_true(dma_write(v, i, 0xd0000 + i));
    g_assert_cmphex(xensim_readq(v->sim, gpa), ==, 0xd0000 + i);
    xensim_writeq(v->sim, gpa, ~i);
    g_assert_true(mirror_dma_read(&v->m[0], v->base + i * PAGE, &data));
    g_assert_cmphex(data, ==, ~i);
}

static inline void assert_faults(Machine *v, uint64_t i)
{
    uint64_t before = pviommu_counter(v->iommu, XEN_PVIOMMU_COUNTER_FAULTS);
    uint64_t data;

    g_assert_false(dma_write(v, i, 1));
    g_assert_false(mirror_dma_read(&v->m[0], v->base + i * PAGE, &data));
    g_assert_cmpuint(pviommu_counter(v->iommu, XEN_PVIOMMU_COUNTER_FAULTS), >,
                     before);
    pviommu_assert_unmapped(v->iommu, 0, BFN + i);
}

static inline uint64_t hold(Machine *v, unsigned slot, uint64_t i, uint64_t nr)
{
    return mirror_hold(&v->m[0], slot, v->base + i * PAGE, nr * PAGE, true);
}

static inline uint64_t mapped(Machine *v, uint32_t page)
{
    return xensim_mapped(v->sim, page, 1);
}

#endif /* TESTS_LIBQOS_INVALIDATE_FIXTURE_H */
