/*
 * libqos driver for pviommu-mirror, a test device that is notified of
 * translations
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef TESTS_LIBQOS_PVIOMMU_MIRROR_H
#define TESTS_LIBQOS_PVIOMMU_MIRROR_H

#include "libqos/xen-pviommu.h"
#include "../device/pviommu-mirror.h"

/* Where a dump is stored: behind all that other tests use. */
#define MIRROR_DUMP_ADDR        0x0e000000
#define MIRROR_DUMP_MAX         8192

/*
 * On a command line: one in the slot that a "%x" says. In JSON, so that it
 * is created after the IOMMU however that is written: it would bypass it else.
 */
#define MIRROR_DEVICE(notifier) \
    "-device '{\"driver\":\"pviommu-mirror\",\"addr\":\"%x\"," \
    "\"notifier\":\"" notifier "\"}' "

typedef struct QMirror {
    QXenPVIOMMU *iommu;
    QPCIDevice dev;
    QPCIBar bar;
    uint32_t sbdf;
} QMirror;

/**
 * mirror_init: give it its BAR, and let it do DMA; again after a reset
 * @devfn: as QPCI_DEVFN((bus << 5) | slot, function)
 */
void mirror_init(QMirror *m, QXenPVIOMMU *iommu, int devfn);

uint64_t mirror_read(QMirror *m, uint64_t reg);
void mirror_write(QMirror *m, uint64_t reg, uint64_t value);
uint64_t mirror_counter(QMirror *m, unsigned n);

/** mirror_cmd: returns its RESULT */
uint64_t mirror_cmd(QMirror *m, unsigned cmd);

/** mirror_clear: count from 0 again */
void mirror_clear(QMirror *m);

/** mirror_lookup: what it has at @iova; false if nothing */
bool mirror_lookup(QMirror *m, uint64_t iova, uint64_t *gpa, uint32_t *perm);

/** mirror_fill: have a cache translate @iova, and keep it */
bool mirror_fill(QMirror *m, uint64_t iova, bool write);

/** mirror_translate: the size of the translation around @iova, 0 for none */
uint64_t mirror_translate(QMirror *m, uint64_t iova, bool write);

/** mirror_dma: 8 bytes at @iova; false if that failed */
bool mirror_dma_read(QMirror *m, uint64_t iova, uint64_t *data);
bool mirror_dma_write(QMirror *m, uint64_t iova, uint64_t data, unsigned len);

/** mirror_count: write 32 bits at @iova @nr times: @by, 2 * @by, and so on */
uint64_t mirror_count(QMirror *m, uint64_t iova, uint64_t by, uint64_t nr);

/** mirror_sweep: write @data, 32 bits, at @nr addresses from @iova on */
uint64_t mirror_sweep(QMirror *m, uint64_t iova, uint64_t nr, uint32_t data);

/* A DMA that takes its time. mirror_hold returns how much could be mapped. */
uint64_t mirror_hold(QMirror *m, unsigned slot, uint64_t iova, uint64_t len,
                     bool write);
uint64_t mirror_touch_read(QMirror *m, unsigned slot, uint64_t offset);
void mirror_touch_write(QMirror *m, unsigned slot, uint64_t offset,
                        uint64_t data);
void mirror_release(QMirror *m, unsigned slot, uint64_t len);

/**
 * mirror_dump: all that it has, in order, neighbours merged
 * @translated: leave out what is not translated
 */
GArray *mirror_dump(QMirror *m, bool translated);

/**
 * mirror_assert_equal: it has what context @ctx maps, and nothing else
 * @frames: how many that are
 */
void mirror_assert_equal(QMirror *m, uint16_t ctx, uint64_t frames);

/** mirror_assert_sane: no notification that VFIO could not follow */
void mirror_assert_sane(QMirror *m);

/** mirror_assert_notified: as many notifications since mirror_clear() */
void mirror_assert_notified(QMirror *m, uint64_t maps, uint64_t unmaps);

/** mirror_assert_page: the page at @bfn is @gfn */
void mirror_assert_page(QMirror *m, uint64_t bfn, uint64_t gfn, uint32_t perm);
void mirror_assert_no_page(QMirror *m, uint64_t bfn);

#endif
