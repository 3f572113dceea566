/*
 * libqos driver for virtio-balloon and virtio-mem, by which a guest gives RAM
 * back
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/bswap.h"
#include "libqos/virtio-ram.h"
#include "standard-headers/linux/virtio_config.h"
#include "standard-headers/linux/virtio_mem.h"
#include "standard-headers/linux/virtio_ring.h"

/* For queues and requests: below all that tests use. */
#define ALLOC_START     0x00100000
#define ALLOC_END       PVIOMMU_OPS_ADDR

void virtio_ram_init(QVirtioRam *v, QXenPVIOMMU *iommu, int devfn,
                     unsigned nr_queues)
{
    const uint64_t not_ours = QVIRTIO_F_BAD_FEATURE |
                              1ull << VIRTIO_RING_F_INDIRECT_DESC |
                              1ull << VIRTIO_RING_F_EVENT_IDX;
    QPCIAddress addr = { .devfn = devfn };
    QVirtioDevice *vdev;

    v->qts = iommu->qts;
    v->dev = virtio_pci_new(iommu->pci, &addr);
    g_assert_nonnull(v->dev);
    vdev = &v->dev->vdev;
    qvirtio_pci_device_enable(v->dev);
    qvirtio_start_device(vdev);
    qvirtio_set_features(vdev, qvirtio_get_features(vdev) & ~not_ours);

    alloc_init(&v->alloc, 0, ALLOC_START, ALLOC_END, PVIOMMU_PAGE);
    v->buffer = guest_alloc(&v->alloc, PVIOMMU_PAGE);
    g_assert_cmpuint(nr_queues, <=, VIRTIO_RAM_MAX_QUEUES);
    v->nr_queues = nr_queues;
    for (unsigned i = 0; i < nr_queues; i++) {
        v->queues[i] = qvirtqueue_setup(vdev, &v->alloc, i);
    }
    qvirtio_set_driver_ok(vdev);
}

void virtio_ram_finalize(QVirtioRam *v)
{
    for (unsigned i = 0; i < v->nr_queues; i++) {
        qvirtqueue_cleanup(v->dev->vdev.bus, v->queues[i], &v->alloc);
    }
    guest_free(&v->alloc, v->buffer);
    alloc_destroy(&v->alloc);
    qvirtio_pci_destructor(&v->dev->obj);
    g_free(v->dev);
}

/* One request: what is read, then what is written; one may be empty. */
static void request(QVirtioRam *v, unsigned queue, uint64_t out,
                    uint32_t out_len, uint64_t in, uint32_t in_len)
{
    QVirtioDevice *vdev = &v->dev->vdev;
    QVirtQueue *vq = v->queues[queue];
    uint32_t head = 0;

    /* One at a time: all descriptors are free. */
    vq->free_head = head;
    vq->num_free = vq->size;
    if (out_len) {
        qvirtqueue_add(v->qts, vq, out, out_len, false, in_len);
    }
    if (in_len) {
        qvirtqueue_add(v->qts, vq, in, in_len, true, false);
    }
    qvirtqueue_kick(v->qts, vdev, vq, head);
    qvirtio_wait_used_elem(v->qts, vdev, vq, head, NULL, PVIOMMU_WAIT_US);
}

void balloon_give(QVirtioRam *v, unsigned queue, uint64_t gfn, unsigned nr)
{
    g_autofree uint32_t *pfns = g_new(uint32_t, nr);

    g_assert_cmpuint(nr * sizeof(*pfns), <=, PVIOMMU_PAGE);
    for (unsigned i = 0; i < nr; i++) {
        pfns[i] = cpu_to_le32(gfn + i);
    }
    qtest_bufwrite(v->qts, v->buffer, pfns, nr * sizeof(*pfns));
    request(v, queue, v->buffer, nr * sizeof(*pfns), 0, 0);
}

void balloon_report(QVirtioRam *v, uint64_t addr, uint32_t len)
{
    request(v, BALLOON_REPORT, 0, 0, addr, len);
}

uint16_t virtio_mem_request(QVirtioRam *v, uint16_t type, uint64_t addr,
                            uint16_t nr_blocks)
{
    struct virtio_mem_req req = {
        .type = cpu_to_le16(type),
        .u.plug = {
            .addr = cpu_to_le64(addr),
            .nb_blocks = cpu_to_le16(nr_blocks),
        },
    };
    struct virtio_mem_resp resp;
    uint64_t answer = v->buffer + sizeof(req);

    qtest_bufwrite(v->qts, v->buffer, &req, sizeof(req));
    qtest_memset(v->qts, answer, 0xff, sizeof(resp));
    request(v, 0, v->buffer, sizeof(req), answer, sizeof(resp));
    qtest_bufread(v->qts, answer, &resp, sizeof(resp));
    return le16_to_cpu(resp.type);
}

uint64_t virtio_mem_addr(QVirtioRam *v)
{
    return qvirtio_config_readq(&v->dev->vdev,
                                offsetof(struct virtio_mem_config, addr));
}

uint64_t virtio_mem_block_size(QVirtioRam *v)
{
    return qvirtio_config_readq(&v->dev->vdev,
                                offsetof(struct virtio_mem_config, block_size));
}
