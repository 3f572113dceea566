/* SPDX-License-Identifier: GPL-2.0 */
/*
 * xen-pviommu: the guest's driver for QEMU's paravirtual IOMMU
 *
 * A file calls only files that are listed below it:
 *
 *   main.c          the PCI function: probe, negotiation, power, removal
 *   in-use.c        devices in use before the IOMMU came
 *   iommu-ops.c     what the IOMMU core calls: devices, domains
 *   endpoint.c      a device: its requester IDs, and the context it is in
 *   acs.c           what separates devices into groups
 *   identity.c      the identity context
 *   debugfs.c       counters, and which device is in which context
 *   domain.c        a domain is a context: map, unmap, flush, look up
 *   domains.c       domains: made and freed, given queues
 *   context.c       contexts as the device has them: to free and to empty one
 *   batch.c         operations that go out with one doorbell
 *   domain-queue.c  those that need no doorbell: that they run, what failed
 *   repair.c        those that failed, once more; unmaps that cannot wait
 *   xlate.c         where BFNs lead: cached translations
 *   queue.c         a queue, as the device sees it
 *   fault.c         the fault ring
 *   irqs.c          interrupts: what messages of devices raise
 *   transport.c     register blocks and doorbells; knows no operation
 *
 * The driver keeps no copy of what is mapped: the device has it. Everything
 * the device reads or writes for the driver itself (operations, queues, the
 * fault ring, lists of ranges) is named by guest-physical address and is not
 * translated, so none of it goes through the DMA API.
 */

#ifndef XEN_PVIOMMU_H
#define XEN_PVIOMMU_H

#include <linux/interrupt.h>
#include <linux/iommu.h>
#include <linux/list.h>
#include <linux/mutex.h>
#include <linux/notifier.h>
#include <linux/pci.h>
#include <linux/sizes.h>
#include <linux/spinlock.h>
#include <linux/workqueue.h>
#include <linux/xarray.h>

#include <hw/xen/interface/iommu_op.h>

#define PVIOMMU_NAME "xen-pviommu"

/* The wire is little-endian, and so is every machine that has the device. */
#ifdef __BIG_ENDIAN
#error "xen-pviommu is for little-endian machines"
#endif

#define PVIOMMU_BFN(addr)	((u64)(addr) >> XEN_IOMMU_PAGE_SHIFT)
#define PVIOMMU_ADDR(bfn)	((u64)(bfn) << XEN_IOMMU_PAGE_SHIFT)

/* A status before the operation ran; the device stores 0 or a negative errno. */
#define PVIOMMU_NOT_RUN		1

/* Page sizes that the core splits ranges into. */
#define PVIOMMU_PAGE_SIZES	(SZ_4K | SZ_2M | SZ_1G)

/* Operations that a register block has memory for. */
#define PVIOMMU_SCRATCH_OPS	2

/* How long a queue may make no progress, with one doorbell after the other. */
#define PVIOMMU_IDLE_NS		(10 * NSEC_PER_SEC)

/* Operations there is room for in a queue; a power of two. */
#define PVIOMMU_QUEUE_OPS	256

/**
 * struct pviommu_block - a register block: a domain's, or shared by CPUs
 * @lock: if shared, held from the first register write of a call to its last
 *	status; innermost, taken with interrupts off
 * @regs: its registers
 * @array: what the ARRAY register holds; under @lock, or the owner's
 * @scratch: PVIOMMU_SCRATCH_OPS operations, for calls that bring no array; under
 *	@lock
 */
struct pviommu_block {
	spinlock_t lock;
	void __iomem *regs;
	u64 array;
	struct xen_iommu_op *scratch;
};

/**
 * struct pviommu_queue - operations of a context, on their way to the device
 * @shared: what the device sees of it, or NULL if there is no queue
 * @tail: operations stored, free-running
 * @seen: those before this one ran, and their statuses were looked at
 * @errors: how many failures were found
 * @abandoned: it is not used any more, as the device gave it up, is at fault, or
 *	was told to forget it
 *
 * Under its domain's lock, but for @shared, which stays as it is once set.
 */
struct pviommu_queue {
	struct xen_iommu_queue *shared;
	u32 tail;
	u32 seen;
	u32 errors;
	bool abandoned;
};

/**
 * struct pviommu_faults - the fault ring; used by one context at a time
 * @ring: its entries, or NULL while faults are not reported
 * @size: how many, a power of two
 * @head: entries read, free-running
 * @lost: FAULT_LOST when it was last looked at
 * @irq: the vector, or 0 when there is none and @poll is used
 * @poll: looks once a second
 */
struct pviommu_faults {
	struct xen_iommu_fault *ring;
	u32 size;
	u32 head;
	u32 lost;
	int irq;
	struct delayed_work poll;
};

/**
 * struct pviommu - the device
 * @pdev: its PCI function
 * @regs: its registers
 * @blocks: its register blocks; fixed after probe, as is all above @rids_lock
 * @scratch: the blocks' scratch operations, in one piece
 * @nr_blocks: how many blocks
 * @blocks_owned: bit n is set while block n is somebody's own; atomic
 * @features: XEN_IOMMU_FEATURE_* in use; queues are under @rids_lock
 * @max_contexts: contexts at a time, the default one included
 * @max_mappings: frames mapped or waiting for a flush at a time
 * @frames_compat: frames mapped, where somebody has to know
 * @contexts: bit n is set while context n is a domain's; atomic
 * @bfn_bits: BFNs are below 1 << @bfn_bits
 * @iommu: what the core knows of it
 * @named: the same, for devices of which firmware says what their IOMMU is;
 *	registered if firmware has a node for it
 * @again: registered for a moment, so that the core looks at all devices
 * @probing_again: it is
 * @bind_lock: held while drivers come and go, and until they may at first; taken
 *	inside a device's lock, and around the core's and all others here
 * @bus_nb: tells when they do
 * @pm_nb: tells of hibernation
 * @failed_work: for those that came, and did not bind
 * @rids_lock: protects @rids and all entries, @endpoints, @domains, the identity
 *	context, and who starts and stops a queue; taken in process context only
 * @endpoints: of struct pviommu_endpoint: all devices in use
 * @identity_ctx: the context that shows all of memory; 0 while there is none
 * @identity_frames_compat: what is mapped for it, of those
 * @rids: struct pviommu_rid by SBDF: every requester ID in use
 * @domains: all domains that are a context
 * @faults: the fault ring
 * @irq_direct: MSI domain of devices whose interrupts are not remapped
 * @irq_domain: MSI domain of the others, or NULL if none are remapped
 * @irq_fwnode: what names it
 * @irq_block: a register block for entries; under @irq_lock
 * @irq_op: an operation for that; under @irq_lock
 * @irq_lock: innermost, taken with interrupts off
 * @debugfs: the directory of its files
 */
struct pviommu {
	struct pci_dev *pdev;
	void __iomem *regs;
	struct pviommu_block *blocks;
	struct xen_iommu_op *scratch;
	unsigned int nr_blocks;
	DECLARE_BITMAP(blocks_owned, XEN_PVIOMMU_MAX_BLOCKS);
	u64 features;
	unsigned int max_contexts;
	u64 max_mappings;
	atomic64_t frames_compat;
	unsigned long *contexts;
	unsigned int bfn_bits;

	struct iommu_device iommu;
	struct iommu_device named;
	struct iommu_device again;
	bool probing_again;
	struct mutex bind_lock;
	struct notifier_block bus_nb;
	struct notifier_block pm_nb;
	struct work_struct failed_work;
	struct mutex rids_lock;
	struct list_head endpoints;
	u16 identity_ctx;
	u64 identity_frames_compat;
	struct xarray rids;
	struct list_head domains;
	struct pviommu_faults faults;
	struct irq_domain *irq_direct;
	struct irq_domain *irq_domain;
	struct fwnode_handle *irq_fwnode;
	struct pviommu_block *irq_block;
	struct xen_iommu_op *irq_op;
	raw_spinlock_t irq_lock;
	struct dentry *debugfs;
};

/**
 * struct pviommu_rid - a requester ID, as devices put it on the bus
 * @users: endpoints that use it: several when a bridge speaks for them
 * @ctx: the context it is in
 * @domain: the domain that has that context; NULL in the default and the
 *	identity one
 */
struct pviommu_rid {
	unsigned int users;
	u16 ctx;
	struct iommu_domain *domain;
};

/* transport.c */

int pviommu_transport_init(struct pviommu *v);
void pviommu_transport_free(struct pviommu *v);
struct pviommu_block *pviommu_block_own(struct pviommu *v);
void pviommu_block_disown(struct pviommu *v, struct pviommu_block *own);
int pviommu_run(struct pviommu *v, struct pviommu_block *own,
		struct xen_iommu_op *ops, unsigned int nr);
int pviommu_run_copy(struct pviommu *v, struct xen_iommu_op *ops,
		     unsigned int nr);
void pviommu_ring(struct pviommu *v, struct pviommu_block *own);
int pviommu_call(struct pviommu *v, struct xen_iommu_op *op);

/* queue.c */

int pviommu_queue_start(struct pviommu_queue *q, struct pviommu *v, u16 ctx);
int pviommu_queue_stop(struct pviommu *v, u16 ctx);
void pviommu_queue_free(struct pviommu_queue *q);
bool pviommu_queue_run(struct pviommu_queue *q, struct pviommu *v,
		       struct pviommu_block *own);
bool pviommu_queue_failed(struct pviommu_queue *q, struct xen_iommu_op *op);

/* Is there room for @nr operations, as far as is known? */
static inline bool pviommu_queue_room(const struct pviommu_queue *q, u32 nr)
{
	return q->tail - q->seen <= PVIOMMU_QUEUE_OPS - nr;
}

/*
 * Has the device given it up? Then it does not look there any more, and what is
 * from head on did not run.
 */
static inline bool pviommu_queue_dead(const struct pviommu_queue *q)
{
	/* Before head is read. */
	return virt_load_acquire(&q->shared->flags) & XEN_IOMMU_QUEUE_dead;
}

/* Where operation @n goes. */
static inline void *pviommu_queue_slot(struct pviommu_queue *q, u32 n)
{
	return &q->shared->ops[n % PVIOMMU_QUEUE_OPS];
}

/*
 * Operations before @tail are stored and the device's now. It runs them in
 * time if, after a full barrier, the queue's flags do not say otherwise.
 */
static inline void pviommu_queue_publish(struct pviommu_queue *q, u32 tail)
{
	q->tail = tail;
	/* After what is in them. */
	virt_store_release(&q->shared->tail, tail);
}

/* domains.c */

struct iommu_domain *pviommu_domain_alloc(struct pviommu *v);
void pviommu_domain_free(struct iommu_domain *domain);
u16 pviommu_domain_ctx(struct iommu_domain *domain);
void pviommu_domain_start_queue(struct iommu_domain *domain);
void pviommu_domains_stop_queues(struct pviommu *v);
void pviommu_domains_show_queues(struct pviommu *v, struct seq_file *s);

/* domain.c */

int pviommu_domain_map_pages(struct iommu_domain *domain, unsigned long iova,
			     phys_addr_t paddr, size_t pgsize, size_t pgcount,
			     int prot, gfp_t gfp, size_t *mapped);
int pviommu_domain_sync_map(struct iommu_domain *domain, unsigned long iova,
			    size_t size);
size_t pviommu_domain_unmap_pages(struct iommu_domain *domain,
				  unsigned long iova, size_t pgsize,
				  size_t pgcount,
				  struct iommu_iotlb_gather *gather);
void pviommu_domain_flush_iotlb_all(struct iommu_domain *domain);
void pviommu_domain_iotlb_sync(struct iommu_domain *domain,
			       struct iommu_iotlb_gather *gather);
phys_addr_t pviommu_domain_iova_to_phys(struct iommu_domain *domain,
					dma_addr_t iova);

/* context.c */

int pviommu_context_free(struct pviommu *v, u16 ctx);
void pviommu_context_empty(struct pviommu *v, u16 ctx);

/* iommu-ops.c */

/*
 * The one IOMMU of the machine, from before its registration on: for where the
 * core does not say which device it asks for.
 */
extern struct pviommu *pviommu_instance;
extern const struct iommu_ops pviommu_ops;
extern struct iommu_domain pviommu_blocked_domain;
extern struct iommu_domain pviommu_identity_domain;
struct iommu_domain *pviommu_alloc_paging(struct device *dev);

/* endpoint.c */

int pviommu_attach(struct iommu_domain *domain, struct device *dev,
		   struct iommu_domain *old);
void pviommu_detach_everything(struct pviommu *v);

/* identity.c */

int pviommu_identity_start(struct pviommu *v, bool attach_all);
int pviommu_identity_ctx(struct pviommu *v);
void pviommu_identity_unused(struct pviommu *v);

/* in-use.c */

int pviommu_in_use_init(struct pviommu *v);
void pviommu_in_use_exit(struct pviommu *v);
int pviommu_keep_in_use(struct pviommu *v);
void pviommu_forget_in_use(struct pviommu *v);

/* acs.c */

void pviommu_acs_enable(struct pci_dev *pdev);
void pviommu_acs_enable_above(struct pci_dev *pdev);
void pviommu_acs_enable_all(void);

/* fault.c */

int pviommu_faults_start(struct pviommu *v);
void pviommu_faults_stop(struct pviommu *v);
void pviommu_faults_listen(struct pviommu *v);
void pviommu_faults_ignore(struct pviommu *v);

/* debugfs.c */

void pviommu_debugfs_init(struct pviommu *v);

/* irqs.c */

void pviommu_irqs_start(struct pviommu *v);
void pviommu_irqs_stop(struct pviommu *v);
void pviommu_irqs_leave(struct pviommu *v);
void pviommu_irqs_remove(struct pviommu *v, struct pci_dev *pdev);

#include "compat.h"

#endif /* XEN_PVIOMMU_H */
