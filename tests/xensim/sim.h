/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * xensim: a simulated hypervisor, inside the QEMU process
 *
 * README.rst says what it is and how a test talks to it. What the files of the
 * library share is here. Each function that QEMU calls begins with sim_call(),
 * and takes sim_lock for the rest.
 */

#ifndef XENSIM_SIM_H
#define XENSIM_SIM_H

#include <glib.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#define SIM_PAGE_SHIFT  12
#define SIM_PAGE_SIZE   (1ul << SIM_PAGE_SHIFT)

/* Protects the simulator's state. */
extern pthread_mutex_t sim_lock;
/* QEMU notified an event channel. */
extern pthread_cond_t sim_notified;

/*
 * The locks are not GLib's: those are built on futexes, and to ThreadSanitizer
 * what they protect looks like races. A SimLocker unlocks as it goes out of
 * scope.
 */
typedef pthread_mutex_t SimLocker;

static inline SimLocker *sim_locker_new(pthread_mutex_t *lock)
{
    pthread_mutex_lock(lock);
    return lock;
}

static inline void sim_locker_free(SimLocker *locker)
{
    pthread_mutex_unlock(locker);
}

G_DEFINE_AUTOPTR_CLEANUP_FUNC(SimLocker, sim_locker_free)

/* --- sim.c: calls, handles, complaints ----------------------------------- */

/**
 * sim_call: a library function was called
 * @fn: its name
 * @fmt: its arguments, for people and for the command "last"
 *
 * Returns: false if it has to fail; errno is set.
 */
bool sim_call(const char *fn, const char *fmt, ...) G_GNUC_PRINTF(2, 3);

/** sim_complain: QEMU did what it must not do: the test fails */
void sim_complain(const char *fmt, ...) G_GNUC_PRINTF(1, 2);

/** sim_refuse: complain, and set errno to @err. Returns: -1 */
int sim_refuse(int err, const char *fmt, ...) G_GNUC_PRINTF(2, 3);

/** sim_feature: does the simulated hypervisor have it? (XENSIM_FEATURES) */
bool sim_feature(const char *name);

/** sim_env: a number from the environment */
unsigned sim_env(const char *name, unsigned otherwise);

/** sim_domid: @domid is our guest; complains if not, errno is set then */
bool sim_domid(const char *fn, unsigned domid);

/* What an open() returned; each kind begins with one of these. */
typedef enum SimKind {
    SIM_XENCTRL,
    SIM_XENCALL,
    SIM_DEVICEMODEL,
    SIM_FOREIGNMEMORY,
    SIM_RESOURCE,
    SIM_EVTCHN,
    SIM_GNTTAB,
    SIM_XENSTORE,
    SIM_NR_KINDS
} SimKind;

typedef struct SimHandle {
    SimKind kind;
} SimHandle;

/** sim_handle_new: of @size bytes, zeroed */
void *sim_handle_new(SimKind kind, size_t size);
/** sim_handle: @handle is open and of @kind; complains if not */
bool sim_handle(const char *fn, const void *handle, SimKind kind);
/** sim_handle_free: it is closed. Returns: false, after a complaint. */
bool sim_handle_free(const char *fn, void *handle, SimKind kind);

/* --- mmap.c: what Linux does with mappings ------------------------------- */

void sim_mmap_init(void);
/** sim_mmap_whole: what is mapped there now is one mapping of guest pages */
void sim_mmap_whole(void *base, size_t len);

/* --- memory.c: pages, and where the guest has them ------------------------ */

#define SIM_NO_PAGE     UINT32_MAX

void sim_memory_init(void);
/** sim_page_new: a page that nobody else has or ever had, of zeroes */
uint32_t sim_page_new(void);
/** sim_page_at: the page at @gfn, or SIM_NO_PAGE. sim_lock held. */
uint32_t sim_page_at(uint64_t gfn);
/** sim_page_set: SIM_NO_PAGE takes it away. Returns: the page before. */
uint32_t sim_page_set(uint64_t gfn, uint32_t page);
/** sim_page_host: a page of the simulator itself, mapped */
void *sim_page_host(uint32_t page, unsigned nr);

/** sim_page_map: at @addr, in place of what is there */
void sim_page_map(void *addr, uint32_t page, int prot);

/* --- evtchn.c: event channels --------------------------------------------- */

/**
 * sim_event_send: the guest notifies its port @remote
 *
 * sim_lock held. Returns: false if the port is not bound.
 */
bool sim_event_send(unsigned remote);

/* --- ioreq.c: the ioreq server -------------------------------------------- */

#define SIM_MAX_VCPUS   128

void sim_ioreq_init(void);
/** sim_ioreq_has_port: the guest has the port @remote. sim_lock held. */
bool sim_ioreq_has_port(unsigned remote);
/**
 * sim_ioreq_answered: QEMU notified the port @remote of an answer
 *
 * sim_lock held. Returns: false if no request waits for one.
 */
bool sim_ioreq_answered(unsigned remote);
/** sim_ioreq_frames: the first page of a resource, or SIM_NO_PAGE */
uint32_t sim_ioreq_frames(unsigned id, unsigned long frame, unsigned long nr);
/** sim_ioreq_at_exit, sim_iommu_at_exit: complain of what is left */
void sim_ioreq_at_exit(void);
void sim_iommu_at_exit(void);

/* --- iommu.c, target.c: iommu_op ------------------------------------------ */

struct xen_iommu_op;

/** sim_iommu_store: to memory that hypercalls reach; else -XEN_IOMMU_EFAULT */
int sim_iommu_store(uint64_t addr, const void *data, size_t len);

/** sim_target_call: sim_call() of an operation on contexts of the guest's */
bool sim_target_call(const struct xen_iommu_op *op);
/** sim_target_op: run it. sim_lock held. Returns: its status. */
int sim_target_op(struct xen_iommu_op *op);
/** sim_target_references: of these contexts to @page. sim_lock held. */
unsigned sim_target_references(uint32_t page);
/** sim_target_has_port: faults raise the guest's port @remote */
bool sim_target_has_port(unsigned remote);

/* --- control.c: what a test can ask for ----------------------------------- */

void sim_control_init(const char *path);

/*
 * A command: @args are its words, as numbers where they are such. Returns: the
 * answer; false: it could not be done, and @reply says why.
 */
typedef struct SimCommand {
    const char *name;
    unsigned nr_args;
    bool (*run)(char **words, const uint64_t *args, GString *reply);
} SimCommand;

extern const SimCommand sim_call_commands[];
extern const SimCommand sim_memory_commands[];
extern const SimCommand sim_ioreq_commands[];
extern const SimCommand sim_iommu_commands[];
extern const SimCommand sim_target_commands[];
extern const SimCommand sim_xenstore_commands[];
extern const SimCommand sim_misc_commands[];

#endif
