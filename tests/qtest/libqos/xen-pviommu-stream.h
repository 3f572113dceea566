/*
 * Streams of xen-pviommu's state: saved, damaged, loaded, and what a machine
 * can do after that
 *
 * All machines are those of stream_start(), or have at least an edu in
 * EDU_SLOT.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef TESTS_LIBQOS_XEN_PVIOMMU_STREAM_H
#define TESTS_LIBQOS_XEN_PVIOMMU_STREAM_H

#include "libqos/edu.h"
#include "libqos/snapshot.h"

#define EDU_SLOT        0x11
#define PORT_SLOT       0x12
#define PORT_BUS        5       /* not what firmware would have given it */
#define EDU_SBDF        PCI_SBDF(0, EDU_SLOT)
#define BEHIND_SBDF     PCI_SBDF(PORT_BUS, 0)
#define PCI_SBDF(bus, slot) ((bus) << 8 | (slot) << 3)

#define FAULT_RING_SIZE 4
#define FAULTS          7

/* A stream's magic and version. */
#define HEADER          8

/* What the state of stream_fill() has. */
#define RUNS            40
#define GFN(i)          (PVIOMMU_FREE_GFN + (i))

/* For a stream that begins with a device's section, and ends behind it. */
#define SECTION_ARGS    "-global migration.send-configuration=off "
#define SECTION_MACHINE(m) m ",suppress-vmdesc=on"
#define TWO_EDUS        EDU_DEVICE ",addr=11 " \
                        "-device pcie-root-port,id=rp0,addr=12,chassis=1 " \
                        EDU_DEVICE ",bus=rp0,addr=0 "

#define OFFSET_NONE     SIZE_MAX

#define QUEUE(n)        (PVIOMMU_QUEUE_ADDR + (n) * PVIOMMU_QUEUE_STRIDE)

/* Of the queues' part of a section: how many there are, and each of them */
#define QUEUES_NAME     "xen-pviommu/queues"
#define QUEUES_NR       (strlen(QUEUES_NAME) + 4)
#define QUEUE_CTX       0
#define QUEUE_ADDR      2
#define QUEUE_NR_OPS    10
#define QUEUE_HEAD      14
#define QUEUE_LEN       22
#define QUEUE_FIELD(i, field) (QUEUES_NR + 4 + (i) * QUEUE_LEN + (field))

/* Those of the stream that is kept; later ones bring state of their own. */
#define FEATURES (XEN_IOMMU_FEATURE_RANGES | XEN_IOMMU_FEATURE_CONTEXTS | \
                  XEN_IOMMU_FEATURE_LOOKUP)

/** stream_begin, stream_cleanup: of a directory for stream_file() */
void stream_begin(void);
void stream_cleanup(void);

/** stream_file: the path of a file that stream_cleanup() removes; g_free() */
char *stream_file(const char *name);

/** stream_start: a q35 machine with two edus, one of them behind a root port */
QXenPVIOMMU *stream_start(const char *props, const char *extra);

void stream_stop(QXenPVIOMMU *iommu);
void stream_cont(QXenPVIOMMU *iommu);

/** stream_find: where @what is, from @from on, or OFFSET_NONE */
size_t stream_find(const uint8_t *data, size_t len, size_t from,
                   const void *what, size_t what_len);

/** stream_save: a stream's header and the section of our device alone */
void stream_save(QXenPVIOMMU *iommu, const char *path);

/*
 * A snapshot on a disk, without RAM, in which the section of our device can be
 * changed before it is loaded
 */
typedef struct QStream {
    char *path;
    char *ram;
    char *args;                 /* for all machines that it is used with */
    uint8_t *data;              /* the section, as it was recorded */
    size_t len;
    size_t at;
    int fd;
} QStream;

/** stream_init: begin; @name is that of a file */
void stream_init(QStream *st, const char *name);
void stream_free(QStream *st);

/** stream_record: make the snapshot of a machine, which is stopped then */
void stream_record(QStream *st, QXenPVIOMMU *iommu);

/** stream_open: for loads into another machine than that of the snapshot */
void stream_open(QStream *st, QXenPVIOMMU *iommu);

/**
 * stream_load: stop the machine, and load the snapshot
 * @data: what the section is, of QStream.len bytes; NULL: as it was recorded
 *
 * The machine stays stopped.
 *
 * Returns: false if it is refused.
 */
bool stream_load(QStream *st, QXenPVIOMMU *iommu, const uint8_t *data);

/**
 * stream_assert_refused: the machine goes on after a load that was refused
 *
 * The device is as after a reset, and all of it works: DMA with and without a
 * mapping, faults, doorbells, contexts, queues. To be called after each
 * refusal, with the machine stopped.
 */
void stream_assert_refused(QXenPVIOMMU *iommu);

/**
 * stream_assert_reset: nothing is left of what was before
 *
 * As far as a guest can see; the machine may be stopped.
 */
void stream_assert_reset(QXenPVIOMMU *iommu);

/**
 * stream_assert_works: the machine goes on after a load, whatever it brought
 *
 * With what was loaded QEMU lives, with all references right; after a reset,
 * all works.
 */
void stream_assert_works(QXenPVIOMMU *iommu);

/** stream_assert_printed: QEMU printed @text, of all redirected to @path */
void stream_assert_printed(const char *path, const char *text);

/** stream_v1: the path of what the first release wrote; g_free() */
char *stream_v1(void);

/** stream_number_bus: give the root port's bus a number */
void stream_number_bus(QXenPVIOMMU *iommu);

/** stream_init_edu: the edu on the root bus; it has no state that migrates */
void stream_init_edu(QEdu *edu, QXenPVIOMMU *iommu);

/** stream_fill: two contexts that map, with one of both devices each */
void stream_fill(QXenPVIOMMU *iommu);

/* The runs of stream_fill(). */
uint64_t stream_run_bfn(unsigned i);
uint32_t stream_run_nr(unsigned i);

/** stream_check: all that stream_fill() did, but for what is in RAM */
void stream_check(QXenPVIOMMU *iommu);

/** stream_check_faults: those that waited come when there is room for them */
void stream_check_faults(QXenPVIOMMU *iommu);

/** stream_check_dma: the edu on the root bus sees context 1 */
void stream_check_dma(QXenPVIOMMU *iommu);

/** stream_push_map: queue the map of one page */
void stream_push_map(QPVIOMMUQueue *q, uint64_t bfn, uint64_t gfn);

/** stream_fill_queues: two queues; three operations ran in the first */
void stream_fill_queues(QXenPVIOMMU *iommu, QPVIOMMUQueue *q);

/**
 * stream_queues: a section with two queues
 * @at: where the queues' part of it begins
 * @first: which of both is that of context 0
 */
uint8_t *stream_queues(size_t *len, size_t *at, unsigned *first);

#endif
