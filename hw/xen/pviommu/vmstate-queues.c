/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Migration of queues
 *
 * What is in a queue is guest memory and travels with it: a stream has where
 * the queue is, and how far it has run.
 */

#include "qemu/osdep.h"
#include "qemu/error-report.h"
#include "qemu/lockable.h"
#include "migration/qemu-file-types.h"
#include "device.h"
#include "vmstate-queues.h"
#include "vmstate-runs.h"

static int put_queues(QEMUFile *f, void *pv, size_t size,
                      const VMStateField *field, JSONWriter *vmdesc)
{
    XenPVIOMMUState *s = pv;
    XenPVIOMMUQueue *q;

    qemu_put_be32(f, s->queues.nr);
    QLIST_FOREACH(q, &s->queues.list, next) {
        qemu_put_be16(f, q->ctx->id);
        qemu_put_be64(f, q->addr);
        qemu_put_be32(f, q->nr_ops);
        qemu_put_be32(f, q->head);
        qemu_put_be32(f, q->errors);
    }
    return 0;
}

static int get_queues(QEMUFile *f, void *pv, size_t size,
                      const VMStateField *field)
{
    XenPVIOMMUState *s = pv;

    for (uint32_t nr = qemu_get_be32(f); nr; nr--) {
        uint32_t id = qemu_get_be16(f);
        uint64_t addr = qemu_get_be64(f);
        uint32_t nr_ops = qemu_get_be32(f);
        uint32_t head = qemu_get_be32(f);
        uint32_t errors = qemu_get_be32(f);
        int ret = xen_pviommu_load_check(s, f);
        XenPVIOMMUContext *ctx;

        if (ret) {
            return ret;
        }
        QEMU_LOCK_GUARD(&s->lock);

        ctx = xen_pviommu_context_find(&s->core, id);
        if (!ctx || !xen_pviommu_queue_load(s, ctx, addr, nr_ops, head,
                                            errors)) {
            error_report("xen-pviommu: context %u: bad queue in the stream: "
                         "address 0x%" PRIx64 ", %u entries", id, addr, nr_ops);
            return -EINVAL;
        }
    }
    return 0;
}

static const VMStateInfo vmstate_info_queues = {
    .name = "xen-pviommu queues",
    .get = get_queues,
    .put = put_queues,
};

static bool queues_needed(void *opaque)
{
    const XenPVIOMMUState *s = opaque;

    return !QLIST_EMPTY(&s->queues.list);
}

const VMStateDescription xen_pviommu_vmstate_queues = {
    .name = "xen-pviommu/queues",
    .version_id = 1,
    .minimum_version_id = 1,
    .needed = queues_needed,
    .fields = (const VMStateField[]) {
        {
            .name = "queues",
            .info = &vmstate_info_queues,
            .flags = VMS_SINGLE,
            .offset = 0,
        },
        VMSTATE_END_OF_LIST()
    },
};
