/*
 * xen-pviommu: interrupts of devices, remapped, with KVM's local APICs
 *
 * KVM's irqfds deliver without a write that could be remapped: their routes are
 * remapped when they are made, and again when something changes that they
 * depend on. Here processors run, and count what they take.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "hw/pci/pci_regs.h"
#include "qobject/qdict.h"
#include "libqos/edu.h"
#include "libqos/ivshmem-peer.h"
#include "libqos/kvm-cpus.h"
#include "libqos/libqos-malloc.h"
#include "libqos/virtio-pci.h"
#include "standard-headers/linux/virtio_blk.h"
#include "standard-headers/linux/virtio_ring.h"

#define SLOT            0x11
#define SBDF            (SLOT << 3)
#define VECTOR          0       /* the device's */

#define IRQ             XEN_IOMMU_FAULT_REASON_irq
#define MASKED          XEN_IOMMU_FAULT_REASON_masked
#define MASK            XEN_IOMMUOP_set_irq_masked

/* Messages for processor 1, as a local APIC has them */
#define COMPAT_ADDR     (0xfee00000 | 1 << 12)
#define COMPAT_VECTOR   0x51
/* The second entry of an allocation; a local APIC would take it for this. */
#define INDEX           1
#define RAW_CPU         0
#define RAW_VECTOR      XEN_IOMMU_IRQ_DATA(INDEX)

#define EDU_RAISE       0x60    /* registers of edu */
#define EDU_ACK         0x64

/* For the queue and the request of virtio-blk */
#define ALLOC_START     0x00100000
#define ALLOC_END       PVIOMMU_OPS_ADDR
#define BLK_SECTOR      512

typedef struct Source Source;

typedef struct Fixture {
    QXenPVIOMMU *iommu;
    const Source *source;
    QPCIDevice *dev;
    uint32_t handle;
    uint64_t addr;              /* of its messages */
    uint32_t taken;             /* interrupts that there were so far */
    uint32_t faults;
    QEdu edu;
    QIvshmem ivshmem;
    QVirtioPCIDevice *blk;
    QVirtQueue *vq;
    QGuestAllocator alloc;
} Fixture;

/* What raises interrupts */
struct Source {
    const char *name;           /* of the device, too */
    bool irqfd;                 /* KVM delivers, and QEMU takes no part */
    char *(*args)(Fixture *f);
    void (*init)(Fixture *f);
    void (*set_message)(Fixture *f, uint64_t addr, uint32_t data);
    void (*raise)(Fixture *f);
    void (*stop)(Fixture *f);   /* the driver, before a reset or the end */
    void (*close)(Fixture *f);  /* what args() opened */
};

typedef struct Case {
    const char *irqchip;
    const Source *source;
    void (*run)(Fixture *f);
} Case;

/* Each interrupt is a write on the bus. */

static char *edu_args(Fixture *f)
{
    return g_strdup_printf(EDU_DEVICE ",addr=%x ", SLOT);
}

static void edu_source_init(Fixture *f)
{
    edu_init(&f->edu, f->iommu, QPCI_DEVFN(SLOT, 0));
    f->dev = &f->edu.dev;
}

static void edu_set_message(Fixture *f, uint64_t addr, uint32_t data)
{
    uint8_t cap = qpci_find_capability(f->dev, PCI_CAP_ID_MSI, 0);

    qpci_config_writel(f->dev, cap + PCI_MSI_ADDRESS_LO, addr);
    qpci_config_writel(f->dev, cap + PCI_MSI_ADDRESS_HI, addr >> 32);
    qpci_config_writew(f->dev, cap + PCI_MSI_DATA_64, data);
    qpci_config_writew(f->dev, cap + PCI_MSI_FLAGS,
                       PCI_MSI_FLAGS_64BIT | PCI_MSI_FLAGS_ENABLE);
}

static void edu_raise(Fixture *f)
{
    qpci_io_writel(f->dev, f->edu.bar, EDU_RAISE, 1);
    qpci_io_writel(f->dev, f->edu.bar, EDU_ACK, 1);
}

/* Those with MSI-X */

static void write_entry(Fixture *f, unsigned field, uint32_t value)
{
    qpci_io_writel(f->dev, f->dev->msix_table_bar, f->dev->msix_table_off +
                   VECTOR * PCI_MSIX_ENTRY_SIZE + field, value);
}

static void msix_mask(Fixture *f, bool on)
{
    write_entry(f, PCI_MSIX_ENTRY_VECTOR_CTRL,
                on ? PCI_MSIX_ENTRY_CTRL_MASKBIT : 0);
}

static void msix_set_message(Fixture *f, uint64_t addr, uint32_t data)
{
    msix_mask(f, true);
    write_entry(f, PCI_MSIX_ENTRY_LOWER_ADDR, addr);
    write_entry(f, PCI_MSIX_ENTRY_UPPER_ADDR, addr >> 32);
    write_entry(f, PCI_MSIX_ENTRY_DATA, data);
    msix_mask(f, false);
}

/* The test signals KVM's irqfd. */

static char *ivshmem_source_args(Fixture *f)
{
    return ivshmem_args(&f->ivshmem, SLOT);
}

static void ivshmem_source_init(Fixture *f)
{
    ivshmem_init(&f->ivshmem, f->iommu, SLOT);
    f->dev = &f->ivshmem.dev;
}

static void ivshmem_raise(Fixture *f)
{
    ivshmem_poke(&f->ivshmem, VECTOR);
}

static void ivshmem_source_close(Fixture *f)
{
    ivshmem_finalize(&f->ivshmem);
}

/* As all virtio devices with vhost, and those with an I/O thread */

static char *blk_args(Fixture *f)
{
    return g_strdup_printf("-object iothread,id=io "
                           "-blockdev null-co,node-name=disk,read-zeroes=on "
                           "-device virtio-blk-pci,id=virtio-blk,drive=disk,"
                           "iothread=io,addr=%x,disable-legacy=on,iommu_platform=on ",
                           SLOT);
}

static void blk_init(Fixture *f)
{
    QPCIAddress addr = { .devfn = QPCI_DEVFN(SLOT, 0) };
    QVirtioDevice *vdev;

    f->blk = virtio_pci_new(f->iommu->pci, &addr);
    g_assert_nonnull(f->blk);
    f->dev = f->blk->pdev;
    vdev = &f->blk->vdev;
    qvirtio_pci_device_enable(f->blk);
    qpci_msix_enable(f->dev);
    qvirtio_start_device(vdev);
    qvirtio_set_features(vdev, qvirtio_get_features(vdev) &
                               ~(QVIRTIO_F_BAD_FEATURE |
                                 1ull << VIRTIO_RING_F_INDIRECT_DESC |
                                 1ull << VIRTIO_RING_F_EVENT_IDX));
    alloc_init(&f->alloc, 0, ALLOC_START, ALLOC_END, PVIOMMU_PAGE);
    f->vq = qvirtqueue_setup(vdev, &f->alloc, 0);
    f->blk->msix_ops->set_queue_vector(f->blk, 0, VECTOR);
    qvirtio_set_driver_ok(vdev);
}

/* A request, which ends with an interrupt */
static void blk_raise(Fixture *f)
{
    QTestState *qts = f->iommu->qts;
    const struct virtio_blk_outhdr out = { .type = VIRTIO_BLK_T_IN };
    uint64_t buffer = guest_alloc(&f->alloc, PVIOMMU_PAGE);
    uint64_t data = buffer + sizeof(out), status = data + BLK_SECTOR;
    gint64 end = g_get_monotonic_time() + PVIOMMU_WAIT_US;
    uint32_t head;

    /* One at a time: all descriptors are free. */
    f->vq->free_head = 0;
    f->vq->num_free = f->vq->size;
    qtest_bufwrite(qts, buffer, &out, sizeof(out));
    qtest_writeb(qts, status, 0xff);
    head = qvirtqueue_add(qts, f->vq, buffer, sizeof(out), false, true);
    qvirtqueue_add(qts, f->vq, data, BLK_SECTOR, true, true);
    qvirtqueue_add(qts, f->vq, status, 1, true, false);
    qvirtqueue_kick(qts, &f->blk->vdev, f->vq, head);
    while (!qvirtqueue_get_buf(qts, f->vq, NULL, NULL)) {
        g_assert_cmpint(g_get_monotonic_time(), <, end);
        g_usleep(500);
    }
    g_assert_cmphex(qtest_readb(qts, status), ==, VIRTIO_BLK_S_OK);
    guest_free(&f->alloc, buffer);
}

static void blk_stop(Fixture *f)
{
    qvirtqueue_cleanup(f->blk->vdev.bus, f->vq, &f->alloc);
    alloc_destroy(&f->alloc);
    qvirtio_pci_destructor(&f->blk->obj);
    g_free(f->blk);
}

static const Source sources[] = {
    {
        .name = "edu",
        .args = edu_args,
        .init = edu_source_init,
        .set_message = edu_set_message,
        .raise = edu_raise,
    }, {
        .name = "ivshmem",
        .irqfd = true,
        .args = ivshmem_source_args,
        .init = ivshmem_source_init,
        .set_message = msix_set_message,
        .raise = ivshmem_raise,
        .close = ivshmem_source_close,
    }, {
        .name = "virtio-blk",
        .irqfd = true,
        .args = blk_args,
        .init = blk_init,
        .set_message = msix_set_message,
        .raise = blk_raise,
        .stop = blk_stop,
    },
};

static void stop(Fixture *f)
{
    if (f->source->stop) {
        f->source->stop(f);
    }
}

/* A message that names the entry of the device */
static void set_message(Fixture *f)
{
    f->addr = XEN_IOMMU_IRQ_ADDR(f->handle);
    f->source->set_message(f, f->addr, XEN_IOMMU_IRQ_DATA(INDEX));
}

static void set_compat_message(Fixture *f)
{
    f->addr = COMPAT_ADDR;
    f->source->set_message(f, f->addr, COMPAT_VECTOR);
}

static void set_irq(Fixture *f, unsigned cpu, uint8_t vector)
{
    assert_status(pviommu_set_irq(f->iommu, f->handle + INDEX, cpu, vector, 0,
                                  0), 0);
}

static void mask_irq(Fixture *f)
{
    assert_status(pviommu_set_irq(f->iommu, f->handle + INDEX, 0, 0, 0, MASK),
                  0);
}

/* One interrupt is taken, by @cpu as @vector, and no other. */
static void assert_raised(Fixture *f, unsigned cpu, uint8_t vector)
{
    uint32_t before = kvm_cpus_count(f->iommu->qts, cpu, vector);

    g_assert_cmpuint(kvm_cpus_count_all(f->iommu->qts), ==, f->taken);
    f->source->raise(f);
    kvm_cpus_wait_count(f->iommu->qts, cpu, vector, before + 1);
    f->taken++;
    g_assert_cmpuint(kvm_cpus_count_all(f->iommu->qts), ==, f->taken);
    g_assert_cmpuint(pviommu_counter(f->iommu, XEN_PVIOMMU_COUNTER_FAULTS), ==,
                     f->faults);
}

/*
 * None is. Nothing says that KVM has discarded one; what comes after it shows
 * that there was none, as each one is counted for good.
 */
static void assert_refused(Fixture *f, uint32_t reason)
{
    f->source->raise(f);
    if (!f->source->irqfd) {
        pviommu_wait_faults(f->iommu, f->faults + 1);
        pviommu_assert_fault(f->iommu, f->faults, SBDF, 0, f->addr, true,
                             reason);
        f->faults++;
        pviommu_writel(f->iommu, XEN_PVIOMMU_REG_FAULT_HEAD, f->faults);
    }
    g_assert_cmpuint(pviommu_counter(f->iommu, XEN_PVIOMMU_COUNTER_FAULTS), ==,
                     f->faults);
}

/* How many QEMU has remapped; what KVM delivers it does not see. */
static void assert_remapped_by_qemu(Fixture *f, unsigned nr)
{
    QDict *info = qtest_qmp_assert_success_ref(f->iommu->qts,
                                        "{'execute': 'x-query-xen-pviommu'}");

    g_assert_cmpint(qdict_get_int(qdict_get_qdict(info, "interrupts"),
                                  "raised"), ==, f->source->irqfd ? 0 : nr);
    qobject_unref(info);
}

static void accept_all(Fixture *f)
{
    pviommu_accept(f->iommu, XEN_IOMMU_FEATURES_ALL);
    pviommu_fault_ring(f->iommu, 64);
    f->faults = pviommu_counter(f->iommu, XEN_PVIOMMU_COUNTER_FAULTS);
}

static void alloc(Fixture *f)
{
    assert_status(pviommu_alloc_irqs(f->iommu, SBDF, INDEX + 1, &f->handle), 0);
}

/* Interrupts are remapped, and that of the device is @cpu's @vector. */
static void start_remapping(Fixture *f, unsigned cpu, uint8_t vector)
{
    accept_all(f);
    alloc(f);
    set_irq(f, cpu, vector);
    set_message(f);
    assert_status(pviommu_enable_irqs(f->iommu), 0);
}

/* As the table says; the device's registers stay as they are. */
static void test_remap(Fixture *f)
{
    start_remapping(f, 1, 0x61);
    assert_raised(f, 1, 0x61);
    assert_raised(f, 1, 0x61);
    set_irq(f, 0, 0x62);
    assert_raised(f, 0, 0x62);
    set_irq(f, 1, 0x62);
    assert_raised(f, 1, 0x62);
    assert_remapped_by_qemu(f, 4);
}

static void test_refuse(Fixture *f)
{
    uint32_t first;

    start_remapping(f, 1, 0x61);
    assert_raised(f, 1, 0x61);
    mask_irq(f);
    assert_refused(f, MASKED);
    set_irq(f, 0, 0x62);
    assert_raised(f, 0, 0x62);

    first = f->handle;
    assert_status(pviommu_free_irqs(f->iommu, first), 0);
    assert_refused(f, IRQ);
    /* An entry that is allocated after it is no other name of it. */
    alloc(f);
    g_assert_cmpuint(f->handle, !=, first);
    set_irq(f, 1, 0x63);
    assert_refused(f, IRQ);
    set_message(f);
    assert_raised(f, 1, 0x63);
    assert_remapped_by_qemu(f, 3);
}

/* Messages are as ever until they are remapped, and when they are no longer. */
static void test_enable(Fixture *f)
{
    set_compat_message(f);
    assert_raised(f, 1, COMPAT_VECTOR);
    accept_all(f);
    alloc(f);
    set_irq(f, 1, 0x61);
    assert_raised(f, 1, COMPAT_VECTOR);
    assert_status(pviommu_enable_irqs(f->iommu), 0);
    assert_refused(f, IRQ);
    set_message(f);
    assert_raised(f, 1, 0x61);
    pviommu_accept(f->iommu, 0);
    assert_raised(f, RAW_CPU, RAW_VECTOR);
    set_compat_message(f);
    assert_raised(f, 1, COMPAT_VECTOR);
}

static void test_direct(Fixture *f)
{
    start_remapping(f, 1, 0x61);
    assert_raised(f, 1, 0x61);
    assert_status(pviommu_direct_irqs(f->iommu, SBDF, true), 0);
    assert_raised(f, RAW_CPU, RAW_VECTOR);
    set_compat_message(f);
    assert_raised(f, 1, COMPAT_VECTOR);
    assert_status(pviommu_direct_irqs(f->iommu, SBDF, false), 0);
    assert_refused(f, IRQ);
    set_message(f);
    assert_raised(f, 1, 0x61);
    assert_remapped_by_qemu(f, 2);
}

/* One is taken, by each of the processors whose bits are in @cpus. */
static void assert_raised_at(Fixture *f, unsigned cpus, uint8_t vector)
{
    f->source->raise(f);
    for (unsigned cpu = 0; cpu < KVM_CPUS; cpu++) {
        if (cpus & 1u << cpu) {
            kvm_cpus_wait_count(f->iommu->qts, cpu, vector, 1);
            f->taken++;
        }
    }
    g_assert_cmpuint(kvm_cpus_count_all(f->iommu->qts), ==, f->taken);
}

/* Whoever is asked for: all, by a set, or one of a set */
static void test_destinations(Fixture *f)
{
    const uint16_t logical = XEN_IOMMUOP_set_irq_logical;
    uint32_t entry;

    start_remapping(f, 1, 0x61);
    entry = f->handle + INDEX;
    assert_status(pviommu_set_irq(f->iommu, entry, 0xff, 0x70, 0, 0), 0);
    assert_raised_at(f, 3, 0x70);
    assert_status(pviommu_set_irq(f->iommu, entry, 3, 0x71, 0, logical), 0);
    assert_raised_at(f, 3, 0x71);
    assert_status(pviommu_set_irq(f->iommu, entry, 2, 0x72,
                                  XEN_IOMMU_IRQ_LOWEST, logical), 0);
    assert_raised_at(f, 2, 0x72);
    assert_status(pviommu_set_irq(f->iommu, entry, 0, 0x73, 0, logical), 0);
    assert_raised_at(f, 0, 0x73);
    set_irq(f, 0, 0x74);
    assert_raised(f, 0, 0x74);
}

/* What changes while the device has its vector masked holds when it has not. */
static void test_masked_vector(Fixture *f)
{
    start_remapping(f, 1, 0x61);
    assert_raised(f, 1, 0x61);
    msix_mask(f, true);
    set_irq(f, 0, 0x62);
    msix_mask(f, false);
    assert_raised(f, 0, 0x62);
    msix_mask(f, true);
    mask_irq(f);
    msix_mask(f, false);
    assert_refused(f, MASKED);
    set_irq(f, 1, 0x63);
    assert_raised(f, 1, 0x63);
}

static void test_reset(Fixture *f)
{
    start_remapping(f, 1, 0x61);
    assert_raised(f, 1, 0x61);
    stop(f);
    kvm_cpus_reset(f->iommu->qts);
    kvm_cpus_wait(f->iommu->qts);
    f->taken = kvm_cpus_count_all(f->iommu->qts);
    pviommu_probe(f->iommu);
    f->source->init(f);
    set_compat_message(f);
    accept_all(f);
    assert_raised(f, 1, COMPAT_VECTOR);
    start_remapping(f, 0, 0x62);
    assert_raised(f, 0, 0x62);
}

/* A device that goes while it uses an interrupt leaves no route. */
static void test_unplug(Fixture *f)
{
    start_remapping(f, 1, 0x61);
    assert_raised(f, 1, 0x61);
    qpci_unplug_acpi_device_test(f->iommu->qts, f->source->name, SLOT);
    assert_status(pviommu_free_irqs(f->iommu, f->handle), XEN_IOMMU_ENOENT);
    /* All routes are remapped again; a thread may free the device meanwhile. */
    assert_status(pviommu_alloc_irqs(f->iommu, PVIOMMU_SLOT << 3, INDEX + 1,
                                     &f->handle), 0);
    for (unsigned i = 0; i < 50; i++) {
        set_irq(f, i % KVM_CPUS, 0x62);
        g_usleep(1000);
    }
}

/* Not offered: as if there was no such thing */
static void test_none(Fixture *f)
{
    set_compat_message(f);
    assert_raised(f, 1, COMPAT_VECTOR);
    pviommu_accept(f->iommu,
                   XEN_IOMMU_FEATURES_ALL & ~XEN_IOMMU_FEATURE_INTERRUPTS);
    assert_status(pviommu_enable_irqs(f->iommu), XEN_IOMMU_EINVAL);
    assert_raised(f, 1, COMPAT_VECTOR);
}

static void run_case(const void *data)
{
    const Case *c = data;
    const char *machine = c->run == test_unplug ? "pc" : "q35";
    const char *props = c->run == test_none ? "max-interrupts=0" : NULL;
    g_autofree char *cpus = NULL, *device = NULL, *extra = NULL;
    Fixture f = { .source = c->source };

    cpus = kvm_cpus_args(c->irqchip);
    device = c->source->args(&f);
    extra = g_strconcat(cpus, device, NULL);
    f.iommu = pviommu_start(machine, props, extra);
    kvm_cpus_wait(f.iommu->qts);
    f.taken = kvm_cpus_count_all(f.iommu->qts);
    c->source->init(&f);
    c->run(&f);
    stop(&f);
    pviommu_quit(f.iommu);
    if (c->source->close) {
        c->source->close(&f);
    }
}

static void add(const Case *c, const char *name, void (*run)(Fixture *f))
{
    g_autofree char *path = g_strdup_printf("/xen-pviommu/%s/%s/%s", name,
                                            c->irqchip, c->source->name);
    Case *copy = g_memdup2(c, sizeof(*c));

    copy->run = run;
    qtest_add_data_func_full(path, copy, run_case, g_free);
}

static void add_cases(const Case *c)
{
    add(c, "kvm/follows-the-entry", test_remap);
    add(c, "kvm/masked-or-free-reaches-nobody", test_refuse);
    add(c, "kvm/as-ever-until-enabled", test_enable);
    add(c, "kvm/direct-is-not-remapped", test_direct);
    add(c, "kvm/reaches-all-that-are-named", test_destinations);
    add(c, "kvm/reset-ends-remapping", test_reset);
    add(c, "kvm/not-offered-changes-nothing", test_none);
    if (c->source->irqfd) {
        add(c, "kvm/follows-the-entry-when-unmasked", test_masked_vector);
        add(c, "kvm/unplugged-leaves-no-route", test_unplug);
    }
}

static void skip(const void *missing)
{
    g_test_skip(missing);
}

static void add_skip(const Case *c, char *missing)
{
    g_autofree char *path = g_strconcat("/xen-pviommu/kvm/processors-run/",
                                        c->irqchip, NULL);

    qtest_add_data_func_full(path, missing, skip, g_free);
}

int main(int argc, char **argv)
{
    static const char *const irqchips[] = { "on", "split" };

    g_test_init(&argc, &argv, NULL);
    /* Whoever uses memory that has been freed does not get far. */
    g_setenv("MALLOC_PERTURB_", "85", true);
    if (qtest_has_accel("tcg")) {
        pviommu_add("kvm/processors-run/tcg", kvm_cpus_check);
    }
    for (unsigned i = 0; i < ARRAY_SIZE(irqchips); i++) {
        Case c = { .irqchip = irqchips[i] };
        char *missing = kvm_cpus_missing(c.irqchip);

        if (missing) {
            add_skip(&c, missing);
            continue;
        }
        for (unsigned j = 0; j < ARRAY_SIZE(sources); j++) {
            c.source = &sources[j];
            add_cases(&c);
        }
    }
    return g_test_run();
}
