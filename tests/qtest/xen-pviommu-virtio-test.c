/*
 * xen-pviommu: virtqueues, which QEMU reads and writes in ways of its own
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "libqos/virtio-pci.h"
#include "libqos/xen-pviommu.h"
#include "standard-headers/linux/virtio_config.h"
#include "standard-headers/linux/virtio_pci.h"
#include "standard-headers/linux/virtio_ring.h"

#define SLOT            0x11
#define BFN             0x4000000ull
#define NR_PAGES        5
/* Pages that are neighbours on the bus are none in memory. */
#define GFN(page)       (PVIOMMU_FREE_GFN + 10ull * (page))

/* In bus addresses */
#define PAGE(n)         ((BFN + (n)) * PVIOMMU_PAGE)
#define AVAIL           PAGE(0)
#define BUFFER          PAGE(1)
#define LEN             16

#define UNTOUCHED       0xdd

#define COMMON(field)   offsetof(struct virtio_pci_common_cfg, field)
#define DESC(field)     offsetof(struct vring_desc, field)
#define USED(field)     offsetof(struct vring_used, field)

/* Where it is in memory. */
static uint64_t ram(uint64_t addr)
{
    return GFN(addr / PVIOMMU_PAGE - BFN) * PVIOMMU_PAGE + addr % PVIOMMU_PAGE;
}

static void fill(QXenPVIOMMU *iommu)
{
    for (unsigned i = 0; i < NR_PAGES; i++) {
        qtest_memset(iommu->qts, ram(PAGE(i)), UNTOUCHED, 2 * PVIOMMU_PAGE);
    }
}

static void assert_untouched(QXenPVIOMMU *iommu, uint64_t addr, uint64_t len)
{
    g_autofree uint8_t *got = g_malloc(len);

    qtest_bufread(iommu->qts, addr, got, len);
    for (uint64_t i = 0; i < len; i++) {
        g_assert_cmphex(got[i], ==, UNTOUCHED);
    }
}

/* The pages behind those that are mapped are somebody else's. */
static void assert_neighbours_untouched(QXenPVIOMMU *iommu)
{
    for (unsigned i = 0; i < NR_PAGES; i++) {
        assert_untouched(iommu, ram(PAGE(i)) + PVIOMMU_PAGE, PVIOMMU_PAGE);
    }
}

static QXenPVIOMMU *start(const char *machine, QVirtioPCIDevice **dev)
{
    QXenPVIOMMU *iommu =
        pviommu_start(machine, "premap=off", "-device virtio-rng-pci,addr=11,"
                      "disable-legacy=on,iommu_platform=on");
    QPCIAddress addr = { .devfn = QPCI_DEVFN(SLOT, 0) };

    pviommu_accept(iommu, XEN_IOMMU_FEATURES_ALL);
    for (unsigned i = 0; i < NR_PAGES; i++) {
        assert_status(pviommu_map(iommu, 0, BFN + i, GFN(i), 0, 0), 0);
    }
    fill(iommu);

    *dev = virtio_pci_new(iommu->pci, &addr);
    g_assert_nonnull(*dev);
    qvirtio_pci_device_enable(*dev);
    qvirtio_start_device(&(*dev)->vdev);
    qvirtio_set_features(&(*dev)->vdev, (1ull << VIRTIO_F_VERSION_1) |
                                        (1ull << VIRTIO_F_ACCESS_PLATFORM));
    return iommu;
}

static void quit(QXenPVIOMMU *iommu, QVirtioPCIDevice *dev)
{
    qvirtio_pci_device_disable(dev);
    g_free(dev->pdev);
    g_free(dev);
    pviommu_quit(iommu);
}

/* A queue of one, so that its only element is where the test wants it */
static void run(QXenPVIOMMU *iommu, QVirtioPCIDevice *dev, uint64_t desc,
                uint64_t used)
{
    QTestState *qts = iommu->qts;
    QVirtQueue vq = { .desc = desc, .avail = AVAIL, .used = used };
    uint64_t common = dev->common_cfg_offset, notify;
    gint64 end;

    dev->vdev.bus->queue_select(&dev->vdev, 0);
    qpci_io_writew(dev->pdev, dev->bar, common + COMMON(queue_size), 1);
    dev->vdev.bus->set_queue_address(&dev->vdev, &vq);
    notify = dev->notify_cfg_offset + dev->notify_off_multiplier *
             qpci_io_readw(dev->pdev, dev->bar,
                           common + COMMON(queue_notify_off));
    qpci_io_writew(dev->pdev, dev->bar, common + COMMON(queue_enable), 1);

    qtest_writeq(qts, ram(desc + DESC(addr)), BUFFER);
    qtest_writel(qts, ram(desc + DESC(len)), LEN);
    qtest_writew(qts, ram(desc + DESC(flags)), VRING_DESC_F_WRITE);
    qtest_writew(qts, ram(desc + DESC(next)), 0);
    qtest_writew(qts, ram(used + USED(flags)), 0);
    qtest_writew(qts, ram(used + USED(idx)), 0);
    qtest_writew(qts, ram(AVAIL + offsetof(struct vring_avail, flags)), 0);
    qtest_writew(qts, ram(AVAIL + offsetof(struct vring_avail, ring[0])), 0);
    qtest_writew(qts, ram(AVAIL + offsetof(struct vring_avail, idx)), 1);

    qvirtio_set_driver_ok(&dev->vdev);
    qpci_io_writew(dev->pdev, dev->bar, notify, 0);
    end = g_get_monotonic_time() + PVIOMMU_WAIT_US;
    while (!qtest_readw(qts, ram(used + USED(idx))) &&
           g_get_monotonic_time() < end) {
        g_usleep(500);
    }
    g_assert_cmpuint(qtest_readw(qts, ram(used + USED(idx))), ==, 1);
    g_assert_cmpuint(qtest_readl(qts, ram(used + USED(ring[0].id))), ==, 0);
}

/* The device filled the buffer, as far as it goes. */
static void assert_filled(QXenPVIOMMU *iommu)
{
    uint8_t old[LEN], got[LEN];

    memset(old, UNTOUCHED, LEN);
    qtest_bufread(iommu->qts, ram(BUFFER), got, LEN);
    g_assert_cmpint(memcmp(got, old, LEN), !=, 0);
    assert_untouched(iommu, ram(BUFFER) + LEN, PVIOMMU_PAGE - LEN);
}

/*
 * An element of the used ring of which each half is in another page: with a
 * ring of 1024, as Linux places it, there are two of them.
 */
static void test_used_element_crosses_pages(const void *machine)
{
    QVirtioPCIDevice *dev;
    QXenPVIOMMU *iommu = start(machine, &dev);
    uint64_t used = PAGE(4) - USED(ring[0].len);

    run(iommu, dev, PAGE(2), used);
    g_assert_cmpuint(qtest_readl(iommu->qts, ram(used + USED(ring[0].len))),
                     ==, LEN);
    assert_untouched(iommu, ram(PAGE(4)) + 4, PVIOMMU_PAGE - 4);
    assert_filled(iommu);
    assert_neighbours_untouched(iommu);
    g_assert_cmpuint(pviommu_counter(iommu, XEN_PVIOMMU_COUNTER_FAULTS), ==, 0);
    quit(iommu, dev);
}

/* The second half has no page: it goes nowhere, and that is a fault. */
static void test_used_element_crosses_into_unmapped(const void *machine)
{
    QVirtioPCIDevice *dev;
    QXenPVIOMMU *iommu = start(machine, &dev);

    assert_status(pviommu_unmap(iommu, 0, BFN + 4, 0), 0);
    assert_status(pviommu_flush_all(iommu, 0), 0);
    run(iommu, dev, PAGE(2), PAGE(4) - USED(ring[0].len));
    assert_untouched(iommu, ram(PAGE(4)), PVIOMMU_PAGE);
    assert_filled(iommu);
    assert_neighbours_untouched(iommu);
    g_assert_cmpuint(pviommu_counter(iommu, XEN_PVIOMMU_COUNTER_FAULTS), ==, 1);
    quit(iommu, dev);
}

/* The same for what is read; virtio forbids it, but QEMU does not mind. */
static void test_descriptor_crosses_pages(const void *machine)
{
    QVirtioPCIDevice *dev;
    QXenPVIOMMU *iommu = start(machine, &dev);
    uint64_t used = PAGE(4);

    run(iommu, dev, PAGE(3) - DESC(len), used);
    g_assert_cmpuint(qtest_readl(iommu->qts, ram(used + USED(ring[0].len))),
                     ==, LEN);
    assert_filled(iommu);
    assert_neighbours_untouched(iommu);
    g_assert_cmpuint(pviommu_counter(iommu, XEN_PVIOMMU_COUNTER_FAULTS), ==, 0);
    quit(iommu, dev);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    pviommu_add_for_machines("virtio/used-element-crosses-pages",
                             test_used_element_crosses_pages);
    pviommu_add_for_machines("virtio/used-element-crosses-into-unmapped",
                             test_used_element_crosses_into_unmapped);
    pviommu_add_for_machines("virtio/descriptor-crosses-pages",
                             test_descriptor_crosses_pages);
    return g_test_run();
}
