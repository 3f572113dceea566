/*
 * A QEMU under a simulated hypervisor (tests/xensim), and the test's end of it
 *
 * qtest reads and writes by QEMU, and so by the mapcache. The functions here
 * do not: they access pages, and send what the hypervisor sends.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef TESTS_LIBQOS_XENSIM_H
#define TESTS_LIBQOS_XENSIM_H

#include "libqtest.h"
#include "libqos/xen-pviommu.h"
#include "hw/xen/interface/invalidate_page.h"

/* What an ioreq is about: those of Xen's public/hvm/ioreq.h. */
#define XENSIM_PIO              0
#define XENSIM_COPY             1
#define XENSIM_PCI_CONFIG       2
#define XENSIM_INVALIDATE       8
#define XENSIM_INVALIDATE_PAGE  9

/* How a QEMU exits that a test has to hear of, and nobody fetched it. */
#define XENSIM_EXIT_COMPLAINTS  70

typedef struct XenSimOptions {
    const char *machine;        /* "xenfv,..." unless it is set */
    unsigned vcpus;             /* 1 */
    unsigned ram_mb;            /* as PVIOMMU_RAM */
    /*
     * What the hypervisor can do, with commas: "invalidate-page", "iommu-op".
     * All of it unless it is set.
     */
    const char *features;
    /* "FUNCTION:CALL:ERRNO,...": what fails from the start on, from 1. */
    const char *fail;
    /* For measuring: not all is checked that takes time. */
    bool trust;
} XenSimOptions;

typedef struct XenSim {
    QTestState *qts;
    int sock;
    FILE *answers;
    char *line;
    size_t size;
} XenSim;

/**
 * xensim_start: the machine that libxl starts, and @args
 * @options: or NULL
 */
XenSim *xensim_start(const XenSimOptions *options, const char *args);

/* Where xensim_start_mirror() has a pviommu-mirror. */
#define XENSIM_MIRROR_SLOT      0x11

/** xensim_start_mirror: a machine with a xen-pviommu, and a mirror behind it */
XenSim *xensim_start_mirror(const XenSimOptions *options);

/** xensim_quit: end it; fails the test if the simulator has complaints */
void xensim_quit(XenSim *sim);

/**
 * xensim_try: start it, let it quit, and return what it printed on stderr
 * @status: its exit status, or minus the signal that killed it
 */
char *xensim_try(const XenSimOptions *options, const char *args, int *status);

/**
 * xensim_command: one line of the protocol (tests/xensim/README.rst)
 *
 * Returns: whether the answer is "OK"; what follows that is in *@answer until
 * the next command. @answer may be NULL.
 */
bool xensim_command(XenSim *sim, const char **answer, const char *fmt, ...)
    G_GNUC_PRINTF(3, 4);

/** xensim_check: fails the test if QEMU did what it must not do */
void xensim_check(XenSim *sim);

/** xensim_complaints: what it did; forgotten then. NULL if nothing. */
char *xensim_complaints(XenSim *sim);

/* Calls of a library function: how many, the last one's arguments. */
uint64_t xensim_count(XenSim *sim, const char *fn);
const char *xensim_last(XenSim *sim, const char *fn);
/** xensim_fail: the @nth call from now on fails; 1 is the next */
void xensim_fail(XenSim *sim, const char *fn, unsigned nth, int err);

/* --- ioreqs --- */

typedef struct XenSimIoreq {
    uint8_t type;
    bool read;
    uint64_t addr;
    uint32_t size;
    uint32_t count;
    uint64_t data;
    bool data_is_ptr;
    bool df;
} XenSimIoreq;

/** xensim_send: to QEMU, from a vCPU that waits for nothing else */
void xensim_send(XenSim *sim, unsigned vcpu, const XenSimIoreq *req);
/** xensim_answered: has it been? */
bool xensim_answered(XenSim *sim, unsigned vcpu);
/** xensim_answer: wait for it. Returns: its data. */
uint64_t xensim_answer(XenSim *sim, unsigned vcpu);
/** xensim_took: from the last one to its answer, in ns */
uint64_t xensim_took(XenSim *sim, unsigned vcpu);
/** xensim_ioreq: both */
uint64_t xensim_ioreq(XenSim *sim, unsigned vcpu, const XenSimIoreq *req);

/* What a guest does, as the ioreq that the hypervisor makes of it. */
uint32_t xensim_in(XenSim *sim, unsigned vcpu, uint16_t port, unsigned size);
void xensim_out(XenSim *sim, unsigned vcpu, uint16_t port, unsigned size,
                uint32_t value);
uint64_t xensim_load(XenSim *sim, unsigned vcpu, uint64_t addr, unsigned size);
void xensim_store(XenSim *sim, unsigned vcpu, uint64_t addr, unsigned size,
                  uint64_t value);
uint32_t xensim_config_read(XenSim *sim, unsigned vcpu, uint16_t bdf,
                            uint8_t reg, unsigned size);
void xensim_config_write(XenSim *sim, unsigned vcpu, uint16_t bdf, uint8_t reg,
                         unsigned size, uint32_t value);

/* The RTC's own memory, by two ports. */
#define XENSIM_CMOS_INDEX       0x70
#define XENSIM_CMOS_DATA        0x71
#define XENSIM_CMOS_FREE        0x40    /* a byte that nobody uses */

/**
 * xensim_assert_alive: QEMU answers ioreqs
 *
 * Returns: what it stored in XENSIM_CMOS_FREE, which is selected.
 */
uint8_t xensim_assert_alive(XenSim *sim);

/** xensim_claims: would the hypervisor send it to QEMU? "pio", "mmio", "pci" */
bool xensim_claims(XenSim *sim, const char *what, uint64_t addr);

/**
 * xensim_buffer: an entry of the buffered ring, as it is
 * @size: its size class, 2 bits; @addr: 20 bits; @data: 32 bits
 *
 * Returns: false if the ring is full.
 */
bool xensim_buffer(XenSim *sim, uint8_t type, bool read, unsigned size,
                   uint32_t addr, uint32_t data);
/** xensim_kick: the event of the buffered ring */
void xensim_kick(XenSim *sim);
/** xensim_buffered: entries that QEMU has not read yet */
unsigned xensim_buffered(XenSim *sim);
/** xensim_wait_read: until QEMU has read all entries */
void xensim_wait_read(XenSim *sim);

/* Pages that left the guest, as QEMU is notified of them, by vCPU 0. */
/** xensim_invalidate: @nr pages from @gfn on left */
void xensim_invalidate(XenSim *sim, uint64_t gfn, uint32_t nr);
/** xensim_invalidate_all: some page left, whichever */
void xensim_invalidate_all(XenSim *sim);
/**
 * xensim_buffer_invalidate: an entry of the buffered ring, about a block of
 * pages; QEMU must act on it at the next barrier
 * @class: XEN_INVALIDATE_PAGE_*, the block's size
 *
 * Returns: false if the ring is full.
 */
bool xensim_buffer_invalidate(XenSim *sim, uint64_t gfn, unsigned class);
/** xensim_barrier: for all entries; @entries: how many there were, ever */
void xensim_barrier(XenSim *sim, uint64_t entries);
/** xensim_counter: what x-query-xen-invalidate counts as @name */
uint64_t xensim_counter(XenSim *sim, const char *name);

/* --- the guest's memory --- */

#define XENSIM_NO_PAGE  UINT32_MAX

/**
 * xensim_page: which page the guest has at @gfn, or XENSIM_NO_PAGE
 *
 * A page is itself for ever, wherever it is in the guest, or nowhere.
 */
uint32_t xensim_page(XenSim *sim, uint64_t gfn);
/** xensim_remove: pages leave the guest; QEMU is not notified. */
void xensim_remove(XenSim *sim, uint64_t gfn, uint64_t nr);
/**
 * xensim_release: pages leave the guest, and QEMU is notified
 *
 * Returns: the page that was at @gfn.
 */
uint32_t xensim_release(XenSim *sim, uint64_t gfn, uint32_t nr);
/** xensim_add: new pages of zeroes, where there are none */
void xensim_add(XenSim *sim, uint64_t gfn, uint64_t nr);

/** xensim_mapped: how many mappings QEMU's process has of these pages */
uint64_t xensim_mapped(XenSim *sim, uint32_t page, uint64_t nr);
/** xensim_references: how many the host's IOMMU has of @page */
unsigned xensim_references(XenSim *sim, uint32_t page);

/* A page's bytes, also if the guest has it no more. */
void xensim_peek(XenSim *sim, uint32_t page, unsigned offset, void *buf,
                 unsigned len);
void xensim_poke(XenSim *sim, uint32_t page, unsigned offset, const void *buf,
                 unsigned len);
/* The same, by guest-physical address, and 64 bits, little-endian. */
uint64_t xensim_readq(XenSim *sim, uint64_t gpa);
void xensim_writeq(XenSim *sim, uint64_t gpa, uint64_t value);

/** xensim_pviommu: the driver for the xen-pviommu that is in PVIOMMU_SLOT */
QXenPVIOMMU *xensim_pviommu(XenSim *sim);

#endif
