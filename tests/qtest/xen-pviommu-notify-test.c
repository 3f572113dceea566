/*
 * xen-pviommu: what IOMMU notifiers tell VFIO and vhost
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "libqos/pci.h"
#include "libqos/pviommu-mirror.h"

#define GFN             0x4000ull          /* aligned to 2 MiB */
#define BFN             0x4000000ull
#define BLOCK           512
#define SLOT            0x11
#define RO              1
#define RW              3

typedef struct Fixture {
    QXenPVIOMMU *iommu;
    QMirror m[3];
} Fixture;

/* Two mirrors and a cache behind the IOMMU, one function each. */
static Fixture *fixture_new(const char *machine, const char *props,
                            const char *cache)
{
    g_autofree char *extra =
        g_strdup_printf(MIRROR_DEVICE("map") MIRROR_DEVICE("map")
                        MIRROR_DEVICE("%s"),
                        SLOT, SLOT + 1, SLOT + 2, cache);
    Fixture *f = g_new0(Fixture, 1);

    f->iommu = pviommu_start(machine, props, extra);
    for (unsigned i = 0; i < ARRAY_SIZE(f->m); i++) {
        mirror_init(&f->m[i], f->iommu, QPCI_DEVFN(SLOT + i, 0));
    }
    pviommu_accept(f->iommu, XEN_IOMMU_FEATURES_ALL);
    return f;
}

static void fixture_clear(Fixture *f)
{
    for (unsigned i = 0; i < ARRAY_SIZE(f->m); i++) {
        mirror_clear(&f->m[i]);
    }
}

static void fixture_free(Fixture *f)
{
    for (unsigned i = 0; i < ARRAY_SIZE(f->m); i++) {
        mirror_assert_sane(&f->m[i]);
    }
    pviommu_quit(f->iommu);
    g_free(f);
}

static void map(Fixture *f, uint16_t ctx, uint64_t bfn, uint64_t gfn,
                uint32_t nr)
{
    assert_status(pviommu_map(f->iommu, ctx, bfn, gfn, nr, 0), 0);
}

static void unmap(Fixture *f, uint16_t ctx, uint64_t bfn, uint32_t nr)
{
    assert_status(pviommu_unmap(f->iommu, ctx, bfn, nr), 0);
}

static void flush(Fixture *f, uint16_t ctx, uint64_t bfn, uint32_t nr)
{
    assert_status(pviommu_flush(f->iommu, ctx, bfn, nr), 0);
}

/* RAM as it is, then nothing but what is mapped and reserved. */
static void test_enabling_replaces_memory(const void *machine)
{
    Fixture *f = fixture_new(machine, NULL, "deviotlb");
    QMirror *m = &f->m[0];
    g_autoptr(GArray) after = NULL;

    mirror_assert_page(m, GFN, GFN, RW);
    mirror_assert_page(m, PVIOMMU_RAM_GFNS - 1, PVIOMMU_RAM_GFNS - 1, RW);
    mirror_assert_page(m, PVIOMMU_BIOS_ADDR / PVIOMMU_PAGE,
                       PVIOMMU_BIOS_ADDR / PVIOMMU_PAGE, RO);
    mirror_assert_no_page(m, PVIOMMU_RAM_GFNS);
    g_assert_cmpuint(mirror_counter(m, PVIOMMU_MIRROR_IOMMU_SECTIONS), ==, 0);
    g_assert_cmpuint(mirror_counter(m, PVIOMMU_MIRROR_RAM_SECTIONS), >, 0);
    /* Of a device that caches, nothing of before must stay. */
    g_assert_true(mirror_fill(&f->m[2], GFN * PVIOMMU_PAGE, true));
    mirror_assert_page(&f->m[2], GFN, GFN, RW);

    assert_status(pviommu_enable(f->iommu), 0);
    for (unsigned i = 0; i < ARRAY_SIZE(f->m); i++) {
        g_assert_cmpuint(mirror_counter(&f->m[i], PVIOMMU_MIRROR_ENTRIES), ==,
                         0);
        /* Below and above the interrupts'. */
        g_assert_cmpuint(mirror_counter(&f->m[i],
                                        PVIOMMU_MIRROR_IOMMU_SECTIONS), ==, 2);
        g_assert_cmpuint(mirror_counter(&f->m[i], PVIOMMU_MIRROR_RAM_SECTIONS),
                         ==, 0);
        g_assert_cmpuint(mirror_counter(&f->m[i], PVIOMMU_MIRROR_MAPS), ==, 0);
    }
    map(f, 0, GFN, GFN + 7, 3);
    mirror_assert_equal(m, 0, 3);

    /* And all back. */
    pviommu_reset(f->iommu);
    mirror_init(m, f->iommu, QPCI_DEVFN(SLOT, 0));
    mirror_init(&f->m[1], f->iommu, QPCI_DEVFN(SLOT + 1, 0));
    mirror_init(&f->m[2], f->iommu, QPCI_DEVFN(SLOT + 2, 0));
    g_assert_cmpuint(mirror_counter(m, PVIOMMU_MIRROR_PAGES), ==, 0);
    g_assert_cmpuint(mirror_counter(m, PVIOMMU_MIRROR_IOMMU_SECTIONS), ==, 0);
    mirror_assert_page(m, GFN, GFN, RW);
    fixture_free(f);
}

/* The map itself enables translation, and the replay must not miss it. */
static void test_map_that_enables_is_notified(const void *machine)
{
    Fixture *f = fixture_new(machine, NULL, "unmap");

    map(f, 0, BFN, GFN, BLOCK);
    mirror_assert_equal(&f->m[0], 0, BLOCK);
    mirror_assert_equal(&f->m[1], 0, BLOCK);
    /* Both mirrors see the same: each is notified once. */
    mirror_assert_notified(&f->m[0], 1,
                           mirror_counter(&f->m[0], PVIOMMU_MIRROR_UNMAPS));
    fixture_free(f);
}

static void test_premap_off_starts_empty(const void *machine)
{
    Fixture *f = fixture_new(machine, "premap=off", "deviotlb");

    g_assert_cmpuint(mirror_counter(&f->m[0], PVIOMMU_MIRROR_ENTRIES), ==, 0);
    map(f, 0, BFN, GFN, 0);
    mirror_assert_equal(&f->m[0], 0, 1);
    pviommu_reset(f->iommu);
    for (unsigned i = 0; i < ARRAY_SIZE(f->m); i++) {
        mirror_init(&f->m[i], f->iommu, QPCI_DEVFN(SLOT + i, 0));
    }
    g_assert_cmpuint(mirror_counter(&f->m[0], PVIOMMU_MIRROR_ENTRIES), ==, 0);
    fixture_free(f);
}

/* A map is notified at once, an unmap at the flush, and only then. */
static void test_unmap_is_notified_at_the_flush(const void *machine)
{
    Fixture *f = fixture_new(machine, "premap=off", "deviotlb");
    QMirror *m = &f->m[0], *cache = &f->m[2];

    map(f, 0, BFN, GFN, 4);
    map(f, 0, BFN + 16, GFN + 16, 0);
    mirror_assert_equal(m, 0, 5);
    g_assert_true(mirror_fill(cache, (BFN + 1) * PVIOMMU_PAGE, true));
    fixture_clear(f);

    unmap(f, 0, BFN, 4);
    mirror_assert_notified(m, 0, 0);
    mirror_assert_notified(cache, 0, 0);
    mirror_assert_page(m, BFN + 1, GFN + 1, RW);
    mirror_assert_page(cache, BFN + 1, GFN + 1, RW);
    /* But a device that translates now fails. */
    g_assert_false(mirror_fill(cache, (BFN + 2) * PVIOMMU_PAGE, false));

    /* A flush of other frames, or of another context, does not notify. */
    flush(f, 0, BFN + 4, 100);
    flush(f, pviommu_alloc_context(f->iommu), BFN, 4);
    mirror_assert_notified(m, 0, 0);
    mirror_assert_page(m, BFN + 1, GFN + 1, RW);

    flush(f, 0, BFN + 1, 0);
    mirror_assert_no_page(m, BFN + 1);
    mirror_assert_no_page(cache, BFN + 1);
    flush(f, 0, BFN, 16);
    mirror_assert_equal(m, 0, 1);
    mirror_assert_equal(&f->m[1], 0, 1);
    g_assert_cmpuint(mirror_counter(m, PVIOMMU_MIRROR_MAPS), ==, 0);
    g_assert_cmpuint(mirror_counter(m, PVIOMMU_MIRROR_USEFUL_UNMAPS), ==, 1);
    /* What is flushed is not notified again. */
    fixture_clear(f);
    assert_status(pviommu_flush_all(f->iommu, 0), 0);
    mirror_assert_notified(m, 0, 0);
    mirror_assert_notified(cache, 0, 0);
    fixture_free(f);
}

/* The old page is unmapped before the new one is mapped, which stays. */
static void test_remap_unmaps_first(const void *machine)
{
    Fixture *f = fixture_new(machine, "premap=off", "unmap");
    QMirror *m = &f->m[0], *cache = &f->m[2];

    map(f, 0, BFN, GFN, 8);
    g_assert_true(mirror_fill(cache, BFN * PVIOMMU_PAGE, true));
    fixture_clear(f);
    unmap(f, 0, BFN, 8);
    map(f, 0, BFN + 2, GFN + 0x100, 0);
    /* It was one range, and is one notification. */
    mirror_assert_notified(m, 1, 1);
    mirror_assert_no_page(cache, BFN);
    mirror_assert_page(m, BFN + 2, GFN + 0x100, RW);
    mirror_assert_equal(m, 0, 1);
    pviommu_assert_frames(f->iommu, 1, 8);

    g_assert_true(mirror_fill(cache, (BFN + 2) * PVIOMMU_PAGE, true));
    assert_status(pviommu_flush_all(f->iommu, 0), 0);
    mirror_assert_notified(m, 1, 1);
    mirror_assert_equal(m, 0, 1);
    mirror_assert_page(cache, BFN + 2, GFN + 0x100, RW);

    /* The same page again, with other rights. */
    unmap(f, 0, BFN + 2, 0);
    assert_status(pviommu_map(f->iommu, 0, BFN + 2, GFN + 0x100, 0,
                              XEN_IOMMUOP_map_readonly), 0);
    mirror_assert_page(m, BFN + 2, GFN + 0x100, RO);
    assert_status(pviommu_flush_all(f->iommu, 0), 0);
    mirror_assert_equal(m, 0, 1);
    fixture_free(f);
}

/* As few and as large as the flush, and alignment, allow. */
static void test_flush_merges_ranges(const void *machine)
{
    Fixture *f = fixture_new(machine, "premap=off", "deviotlb");
    QMirror *m = &f->m[0];
    struct xen_iommu_op ops[BLOCK];

    for (unsigned backwards = 0; backwards < 2; backwards++) {
        /* Scattered pages, so that nothing is contiguous but the BFNs. */
        for (unsigned i = 0; i < BLOCK; i++) {
            ops[i] = pviommu_op_map(0, BFN + i, GFN + (i * 37) % 4096, 0, 0);
        }
        pviommu_run(f->iommu, ops, BLOCK);
        mirror_assert_equal(m, 0, BLOCK);
        for (unsigned i = 0; i < BLOCK; i++) {
            unsigned j = backwards ? BLOCK - 1 - i : i;

            ops[i] = pviommu_op_unmap(0, BFN + j, 0);
        }
        pviommu_run(f->iommu, ops, BLOCK);
        fixture_clear(f);
        flush(f, 0, BFN, BLOCK);
        mirror_assert_notified(m, 0, 1);
        mirror_assert_notified(&f->m[2], 0, 1);
        g_assert_cmpuint(mirror_counter(m, PVIOMMU_MIRROR_LARGEST_UNMAP), ==,
                         BLOCK * PVIOMMU_PAGE);
        mirror_assert_equal(m, 0, 0);
    }

    /* Not aligned: 1 + 2 + 4 + ... + 256, then the same downwards. */
    for (unsigned i = 0; i < BLOCK; i++) {
        ops[i] = pviommu_op_map(0, BFN + 1 + i, GFN + (i * 37) % 4096, 0, 0);
    }
    pviommu_run(f->iommu, ops, BLOCK);
    unmap(f, 0, BFN + 1, BLOCK);
    fixture_clear(f);
    assert_status(pviommu_flush_all(f->iommu, 0), 0);
    mirror_assert_notified(m, 0, 10);

    /* But for one page in the middle, which stays mapped. */
    for (unsigned i = 0; i < BLOCK; i++) {
        ops[i] = pviommu_op_map(0, BFN + i, GFN + (i * 37) % 4096, 0, 0);
    }
    pviommu_run(f->iommu, ops, BLOCK);
    unmap(f, 0, BFN, 256);
    unmap(f, 0, BFN + 257, 255);
    fixture_clear(f);
    flush(f, 0, BFN, BLOCK);
    mirror_assert_notified(m, 0, 9);
    mirror_assert_equal(m, 0, 1);
    fixture_free(f);
}

/* Large, aligned ranges are one notification, and one translation. */
static void test_large_ranges_are_one(const void *machine)
{
    Fixture *f = fixture_new(machine, "premap=off", "deviotlb");
    QMirror *m = &f->m[0], *cache = &f->m[2];
    uint64_t size = (uint64_t)BLOCK * PVIOMMU_PAGE;

    map(f, 0, BFN, GFN, 16 * BLOCK);
    mirror_assert_notified(m, 1, mirror_counter(m, PVIOMMU_MIRROR_UNMAPS));
    g_assert_cmpuint(mirror_counter(m, PVIOMMU_MIRROR_LARGEST_MAP), ==,
                     16 * size);
    for (unsigned i = 0; i < 16 * BLOCK; i += 1111) {
        g_assert_cmpuint(mirror_translate(cache, (BFN + i) * PVIOMMU_PAGE,
                                          true), ==, 16 * size);
    }
    /* Half a machine page more, and only so much is aligned. */
    map(f, 0, BFN + 16 * BLOCK, GFN + 8, BLOCK);
    g_assert_cmpuint(mirror_translate(cache, (BFN + 16 * BLOCK) * PVIOMMU_PAGE,
                                      true), ==, 8 * PVIOMMU_PAGE);
    /* One frame less: masks around it shrink, and are never too large. */
    unmap(f, 0, BFN + BLOCK + 1, 0);
    g_assert_cmpuint(mirror_translate(cache, (BFN + BLOCK) * PVIOMMU_PAGE,
                                      true), ==, PVIOMMU_PAGE);
    g_assert_cmpuint(mirror_translate(cache, (BFN + BLOCK + 1) * PVIOMMU_PAGE,
                                      true), ==, 0);
    g_assert_cmpuint(mirror_translate(cache, (BFN + BLOCK + 2) * PVIOMMU_PAGE,
                                      true), ==, 2 * PVIOMMU_PAGE);
    g_assert_cmpuint(mirror_translate(cache, BFN * PVIOMMU_PAGE, true), ==,
                     size);
    g_assert_cmpuint(mirror_translate(cache, (BFN + 8 * BLOCK) * PVIOMMU_PAGE,
                                      true), ==, 8 * size);
    fixture_free(f);
}

/*
 * VFIO cannot unmap a part of what it mapped at once. What is taken out of
 * the middle must go all the same, and the rest must stay.
 */
static void test_part_of_a_map_is_split_off(const void *machine)
{
    Fixture *f = fixture_new(machine, "premap=off", "unmap");
    QMirror *m = &f->m[0];

    map(f, 0, BFN, GFN, BLOCK);
    unmap(f, 0, BFN + 100, 0);
    mirror_assert_page(m, BFN + 100, GFN + 100, RW);
    assert_status(pviommu_flush_all(f->iommu, 0), 0);
    mirror_assert_no_page(m, BFN + 100);
    mirror_assert_equal(m, 0, BLOCK - 1);
    mirror_assert_equal(&f->m[1], 0, BLOCK - 1);

    /* Taken out and filled again before the flush */
    unmap(f, 0, BFN + 200, 16);
    map(f, 0, BFN + 204, GFN + 1000, 0);
    mirror_assert_page(m, BFN + 204, GFN + 1000, RW);
    mirror_assert_page(m, BFN + 199, GFN + 199, RW);
    assert_status(pviommu_flush_all(f->iommu, 0), 0);
    mirror_assert_equal(m, 0, BLOCK - 16);

    /* Neighbours of different maps go together, and with a part of each. */
    map(f, 0, BFN + 2 * BLOCK, GFN + BLOCK, BLOCK);
    map(f, 0, BFN + 3 * BLOCK, GFN + 8 * BLOCK, BLOCK);
    unmap(f, 0, BFN + 2 * BLOCK + 300, 400);
    assert_status(pviommu_flush_all(f->iommu, 0), 0);
    mirror_assert_equal(m, 0, BLOCK - 16 + 2 * BLOCK - 400);
    mirror_assert_equal(&f->m[1], 0, BLOCK - 16 + 2 * BLOCK - 400);

    /* A device that is attached later was notified of other blocks. */
    {
        uint16_t ctx = pviommu_alloc_context(f->iommu);

        for (unsigned i = 0; i < 64; i++) {
            map(f, ctx, BFN + i, GFN + i, 0);
        }
        assert_status(pviommu_attach(f->iommu, f->m[1].sbdf, ctx), 0);
        mirror_assert_equal(&f->m[1], ctx, 64);
        unmap(f, ctx, BFN + 5, 0);
        flush(f, ctx, BFN + 5, 0);
        mirror_assert_equal(&f->m[1], ctx, 63);
    }
    fixture_free(f);
}

static void test_readonly_is_passed_on(const void *machine)
{
    Fixture *f = fixture_new(machine, "premap=off", "deviotlb");
    QMirror *m = &f->m[0];
    uint64_t data;

    assert_status(pviommu_map(f->iommu, 0, BFN, GFN, 16,
                              XEN_IOMMUOP_map_readonly), 0);
    assert_status(pviommu_map(f->iommu, 0, BFN + 16, PVIOMMU_BIOS_ADDR /
                              PVIOMMU_PAGE, 16, XEN_IOMMUOP_map_readonly), 0);
    map(f, 0, BFN + 32, GFN, 16);
    mirror_assert_page(m, BFN + 15, GFN + 15, RO);
    mirror_assert_page(m, BFN + 16, PVIOMMU_BIOS_ADDR / PVIOMMU_PAGE, RO);
    mirror_assert_page(m, BFN + 32, GFN, RW);
    mirror_assert_equal(m, 0, 48);

    /* As what translates sees it. */
    g_assert_true(mirror_dma_read(m, BFN * PVIOMMU_PAGE, &data));
    g_assert_false(mirror_dma_write(m, BFN * PVIOMMU_PAGE, 0x55, 8));
    g_assert_false(mirror_fill(&f->m[2], BFN * PVIOMMU_PAGE, true));
    g_assert_true(mirror_fill(&f->m[2], BFN * PVIOMMU_PAGE, false));

    unmap(f, 0, BFN, 48);
    assert_status(pviommu_flush_all(f->iommu, 0), 0);
    mirror_assert_equal(m, 0, 0);
    fixture_free(f);
}

/* A device that is attached sees all of that context, and no other. */
static void test_attach_replays_the_context(const void *machine)
{
    Fixture *f = fixture_new(machine, "premap=off", "deviotlb");
    QMirror *cache = &f->m[2];
    uint16_t c1 = pviommu_alloc_context(f->iommu);
    uint16_t c2 = pviommu_alloc_context(f->iommu);

    map(f, 0, BFN, GFN, 100);
    map(f, c1, BFN + 50, GFN + 0x1000, 100);
    assert_status(pviommu_map(f->iommu, c1, BFN + 1000, GFN, 3,
                              XEN_IOMMUOP_map_readonly), 0);
    mirror_assert_equal(&f->m[0], 0, 100);
    g_assert_true(mirror_fill(cache, BFN * PVIOMMU_PAGE, true));

    assert_status(pviommu_attach(f->iommu, f->m[0].sbdf, c1), 0);
    assert_status(pviommu_attach(f->iommu, cache->sbdf, c1), 0);
    mirror_assert_equal(&f->m[0], c1, 103);
    mirror_assert_equal(&f->m[1], 0, 100);
    g_assert_cmpuint(mirror_counter(cache, PVIOMMU_MIRROR_ENTRIES), ==, 0);

    /* Now only one of them is notified, then the other. */
    fixture_clear(f);
    map(f, 0, BFN + 200, GFN, 0);
    mirror_assert_notified(&f->m[0], 0, 0);
    mirror_assert_notified(&f->m[1], 1, 0);
    map(f, c1, BFN + 200, GFN, 0);
    mirror_assert_notified(&f->m[0], 1, 0);
    mirror_assert_notified(&f->m[1], 1, 0);

    /* What waits for a flush stays in its context. */
    unmap(f, c1, BFN + 50, 100);
    assert_status(pviommu_attach(f->iommu, f->m[1].sbdf, c1), 0);
    mirror_assert_page(&f->m[0], BFN + 50, GFN + 0x1000, RW);
    mirror_assert_equal(&f->m[1], c1, 4);
    assert_status(pviommu_attach(f->iommu, f->m[0].sbdf, c2), 0);
    mirror_assert_equal(&f->m[0], c2, 0);
    mirror_assert_equal(&f->m[1], c1, 4);
    pviommu_assert_frames(f->iommu, 105, 0);

    /* To where it is already: nothing happens. */
    fixture_clear(f);
    assert_status(pviommu_attach(f->iommu, f->m[1].sbdf, c1), 0);
    mirror_assert_notified(&f->m[1], 0, 0);

    /* Freeing a context affects no other. */
    assert_status(pviommu_free_context(f->iommu, c1), XEN_IOMMU_EBUSY);
    assert_status(pviommu_attach(f->iommu, f->m[1].sbdf, 0), 0);
    assert_status(pviommu_attach(f->iommu, cache->sbdf, 0), 0);
    assert_status(pviommu_free_context(f->iommu, c1), 0);
    mirror_assert_equal(&f->m[1], 0, 101);
    assert_status(pviommu_attach(f->iommu, f->m[0].sbdf, 0), 0);
    mirror_assert_equal(&f->m[0], 0, 101);
    fixture_free(f);
}

/* Reserved ranges cut what is translated: in them is RAM, or nothing. */
static void test_reserved_ranges_stay(const void *machine)
{
    Fixture *f = fixture_new(machine,
                             "\"premap\":false,\"reserved-regions\":"
                             "[\"0x4000000:0x41fffff:0\","
                             "\"0x4100000000:0x41000fffff:0\"]", "deviotlb");
    QMirror *m = &f->m[0];

    /* The first one and the interrupts' cut it; the second has no memory. */
    g_assert_cmpuint(mirror_counter(m, PVIOMMU_MIRROR_IOMMU_SECTIONS), ==, 3);
    mirror_assert_page(m, 0x4000, 0x4000, RW);
    mirror_assert_page(m, 0x41ff, 0x41ff, RW);
    mirror_assert_no_page(m, 0x4200);
    mirror_assert_no_page(m, 0x3fff);
    mirror_assert_no_page(m, 0x4100000);
    g_assert_true(mirror_fill(&f->m[2], 0x4000 * PVIOMMU_PAGE, true));

    /* Up to the edges of them; a flush across them all reaches each side. */
    map(f, 0, 0x3ff0, GFN, 16);
    map(f, 0, 0x4200, GFN + 16, 16);
    map(f, 0, 0x40fffff, GFN + 64, 0);
    map(f, 0, 0x4100100, GFN + 65, 0);
    assert_status(pviommu_map(f->iommu, 0, 0x3fff, GFN, 2, 0),
                  XEN_IOMMU_EADDRNOTAVAIL);
    mirror_assert_equal(m, 0, 34);
    unmap(f, 0, 0x3ff0, 16);
    unmap(f, 0, 0x4200, 16);
    unmap(f, 0, 0x40fffff, 0);
    unmap(f, 0, 0x4100100, 0);
    assert_status(pviommu_flush_all(f->iommu, 0), 0);
    mirror_assert_equal(m, 0, 0);
    mirror_assert_page(m, 0x4000, 0x4000, RW);

    /* Another context has them too, and attaching does not disturb them. */
    assert_status(pviommu_attach(f->iommu, m->sbdf,
                                 pviommu_alloc_context(f->iommu)), 0);
    assert_status(pviommu_attach(f->iommu, f->m[2].sbdf,
                                 pviommu_alloc_context(f->iommu)), 0);
    mirror_assert_page(m, 0x4000, 0x4000, RW);
    mirror_assert_page(&f->m[2], 0x4000, 0x4000, RW);
    fixture_free(f);
}

/* The first and the last frame that there is. */
static void test_first_and_last_bfn_are_notified(const void *machine)
{
    static const unsigned bits[] = { 12, 36, 40 };

    for (unsigned i = 0; i < ARRAY_SIZE(bits); i++) {
        g_autofree char *props = g_strdup_printf("premap=off,bfn-bits=%u",
                                                 bits[i]);
        Fixture *f = fixture_new(machine, props, "deviotlb");
        uint64_t last = (1ull << bits[i]) - 1;

        map(f, 0, 0, GFN + 1, 0);
        map(f, 0, last, GFN + 2, 0);
        mirror_assert_equal(&f->m[0], 0, 2);
        mirror_assert_page(&f->m[0], last, GFN + 2, RW);
        g_assert_true(mirror_fill(&f->m[2], last * PVIOMMU_PAGE, true));
        g_assert_true(mirror_fill(&f->m[2], 0, true));
        unmap(f, 0, 0, 0);
        unmap(f, 0, last, 0);
        assert_status(pviommu_flush_all(f->iommu, 0), 0);
        mirror_assert_equal(&f->m[0], 0, 0);
        g_assert_cmpuint(mirror_counter(&f->m[2], PVIOMMU_MIRROR_ENTRIES), ==,
                         0);
        g_assert_false(mirror_fill(&f->m[2], (last + 1) * PVIOMMU_PAGE, true));
        fixture_free(f);
    }
}

/* All of a reset, with mappings, contexts, and what waits for a flush */
static void test_reset_unmaps_all(const void *machine)
{
    Fixture *f = fixture_new(machine, "premap=off", "unmap");
    uint16_t ctx = pviommu_alloc_context(f->iommu);

    map(f, 0, BFN, GFN, BLOCK);
    map(f, ctx, BFN, GFN, BLOCK);
    assert_status(pviommu_attach(f->iommu, f->m[1].sbdf, ctx), 0);
    g_assert_true(mirror_fill(&f->m[2], BFN * PVIOMMU_PAGE, true));
    unmap(f, 0, BFN, 10);
    unmap(f, ctx, BFN + 10, 10);
    pviommu_reset(f->iommu);
    for (unsigned i = 0; i < ARRAY_SIZE(f->m); i++) {
        mirror_init(&f->m[i], f->iommu, QPCI_DEVFN(SLOT + i, 0));
        g_assert_cmpuint(mirror_counter(&f->m[i], PVIOMMU_MIRROR_ENTRIES), ==,
                         0);
    }
    pviommu_assert_frames(f->iommu, 0, 0);
    pviommu_accept(f->iommu, XEN_IOMMU_FEATURES_ALL);
    map(f, 0, BFN, GFN + 8, 8);
    mirror_assert_equal(&f->m[0], 0, 8);
    mirror_assert_equal(&f->m[1], 0, 8);
    fixture_free(f);
}

/* A notifier cannot ring: the doorbell is not entered again. */
static void test_notifier_cannot_ring(const void *machine)
{
    Fixture *f = fixture_new(machine, "premap=off", "deviotlb");
    uint64_t block1 = XEN_PVIOMMU_BLOCKS + XEN_PVIOMMU_BLOCK_STRIDE;
    struct xen_iommu_op op = pviommu_op_map(0, BFN + 0x1000, GFN, 0, 0);
    uint64_t addr = PVIOMMU_OPS_ADDR + 0x100000;
    uint64_t rung;

    pviommu_store_ops(f->iommu, addr, &op, 1);
    pviommu_writeq(f->iommu, block1 + XEN_PVIOMMU_BLOCK_ARRAY, addr);
    mirror_write(&f->m[0], PVIOMMU_MIRROR_DATA, 1);
    mirror_write(&f->m[0], PVIOMMU_MIRROR_POKE, f->iommu->bar.addr + block1 +
                                                XEN_PVIOMMU_BLOCK_DOORBELL);
    rung = pviommu_counter(f->iommu, XEN_PVIOMMU_COUNTER_DOORBELLS);
    map(f, 0, BFN, GFN, 0);
    unmap(f, 0, BFN, 0);
    assert_status(pviommu_flush_all(f->iommu, 0), 0);
    g_assert_cmpuint(mirror_counter(&f->m[0], PVIOMMU_MIRROR_MAPS), ==, 1);
    g_assert_cmpuint(mirror_read(&f->m[0], PVIOMMU_MIRROR_POKED), ==, 0);
    g_assert_cmpuint(pviommu_counter(f->iommu, XEN_PVIOMMU_COUNTER_DOORBELLS),
                     ==, rung + 3);
    pviommu_assert_frames(f->iommu, 0, 0);

    /* Nor can a notifier change the operations that run, in RAM. */
    mirror_write(&f->m[0], PVIOMMU_MIRROR_POKE, PVIOMMU_OPS_ADDR + 32);
    mirror_write(&f->m[0], PVIOMMU_MIRROR_DATA, 0xffffffff);
    {
        struct xen_iommu_op ops[] = {
            pviommu_op_map(0, BFN, GFN, 0, 0),
            pviommu_op_map(0, BFN + 1, GFN, 0, 0),
        };

        pviommu_run(f->iommu, ops, ARRAY_SIZE(ops));
        assert_status(pviommu_status(&ops[0]), 0);
        assert_status(pviommu_status(&ops[1]), 0);
    }
    mirror_write(&f->m[0], PVIOMMU_MIRROR_POKE, 0);
    pviommu_assert_frames(f->iommu, 2, 0);
    fixture_free(f);
}

/* A device that is plugged later, and unplugged with what it mirrors */
static void test_plugged_device_is_notified_of_all(void)
{
    QXenPVIOMMU *iommu = pviommu_start_accepted("pc", "premap=off", NULL);
    QMirror m;

    assert_status(pviommu_map(iommu, 0, BFN, GFN, 1000, 0), 0);
    for (unsigned round = 0; round < 3; round++) {
        qtest_qmp_device_add(iommu->qts, "pviommu-mirror", "m0",
                             "{'addr':'0x11'}");
        mirror_init(&m, iommu, QPCI_DEVFN(SLOT, 0));
        mirror_assert_equal(&m, 0, 1000 - round);
        assert_status(pviommu_unmap(iommu, 0, BFN + round, 0), 0);
        qpci_unplug_acpi_device_test(iommu->qts, "m0", SLOT);
        assert_status(pviommu_flush_all(iommu, 0), 0);
        assert_status(pviommu_map(iommu, 0, BFN + 5000 + round, GFN, 0, 0), 0);
        assert_status(pviommu_unmap(iommu, 0, BFN + 5000 + round, 0), 0);
    }
    pviommu_quit(iommu);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    pviommu_add_for_machines("notify/enabling-replaces-memory",
                             test_enabling_replaces_memory);
    pviommu_add_for_machines("notify/map-that-enables-is-notified",
                             test_map_that_enables_is_notified);
    pviommu_add_for_machines("notify/premap-off-starts-empty",
                             test_premap_off_starts_empty);
    pviommu_add_for_machines("notify/unmap-is-notified-at-the-flush",
                             test_unmap_is_notified_at_the_flush);
    pviommu_add_for_machines("notify/remap-unmaps-first",
                             test_remap_unmaps_first);
    pviommu_add_for_machines("notify/flush-merges-ranges",
                             test_flush_merges_ranges);
    pviommu_add_for_machines("notify/large-ranges-are-one",
                             test_large_ranges_are_one);
    pviommu_add_for_machines("notify/part-of-a-map-is-split-off",
                             test_part_of_a_map_is_split_off);
    pviommu_add_for_machines("notify/readonly-is-passed-on",
                             test_readonly_is_passed_on);
    pviommu_add_for_machines("notify/attach-replays-the-context",
                             test_attach_replays_the_context);
    pviommu_add_for_machines("notify/reserved-ranges-stay",
                             test_reserved_ranges_stay);
    pviommu_add_for_machines("notify/first-and-last-bfn-are-notified",
                             test_first_and_last_bfn_are_notified);
    pviommu_add_for_machines("notify/reset-unmaps-all", test_reset_unmaps_all);
    pviommu_add_for_machines("notify/notifier-cannot-ring",
                             test_notifier_cannot_ring);
    pviommu_add("notify/plugged-device-is-notified-of-all",
                test_plugged_device_is_notified_of_all);
    return g_test_run();
}
