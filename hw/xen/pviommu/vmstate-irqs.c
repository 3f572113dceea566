/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Migration of interrupts that are remapped
 *
 * Functions are named by their paths (vmstate-path.h); each is followed by its
 * entries, in the order of their handles.
 */

#include "qemu/osdep.h"
#include "qemu/bswap.h"
#include "qemu/error-report.h"
#include "qemu/lockable.h"
#include "migration/qemu-file-types.h"
#include "attach.h"
#include "device.h"
#include "vmstate-irqs.h"
#include "vmstate-path.h"
#include "vmstate-runs.h"

#define IRQS_ENABLED    (1u << 0)
#define OWNER_DIRECT    (1u << 0)

/* An entry in a stream, big-endian */
typedef struct QEMU_PACKED StreamIrq {
    uint32_t handle;
    uint32_t dest;
    uint8_t vector;
    uint8_t delivery;
    uint8_t flags;
    uint8_t index;
} StreamIrq;

static void add_entries(const XenPVIOMMUIrqTable *t,
                        const XenPVIOMMUIrqOwner *owner, GByteArray *bytes)
{
    uint32_t left = owner->nr;

    for (uint32_t i = 0; left; i++) {
        const XenPVIOMMUIrq *e = &t->entries[i];
        const StreamIrq entry = {
            .handle = cpu_to_be32(i),
            .dest = cpu_to_be32(e->dest),
            .vector = e->vector,
            .delivery = e->delivery,
            .flags = e->flags,
            .index = e->index,
        };

        if (e->owner == owner) {
            g_byte_array_append(bytes, (const guint8 *)&entry, sizeof(entry));
            left--;
        }
    }
}

static void add_function(void *opaque, const uint8_t *path, unsigned len,
                         XenPVIOMMUFunction *f)
{
    const uint32_t nr = cpu_to_be32(f->irqs.nr);
    const uint8_t flags = f->irqs.direct ? OWNER_DIRECT : 0;
    XenPVIOMMUPathList *list = opaque;

    if ((f->irqs.nr || f->irqs.direct) &&
        xen_pviommu_path_add(list, path, len)) {
        g_byte_array_append(list->bytes, &flags, 1);
        g_byte_array_append(list->bytes, (const guint8 *)&nr, sizeof(nr));
        add_entries(&f->s->core.irqs, &f->irqs, list->bytes);
    }
}

static int put_irqs(QEMUFile *f, void *pv, size_t size,
                    const VMStateField *field, JSONWriter *vmdesc)
{
    XenPVIOMMUState *s = pv;
    g_autoptr(GByteArray) bytes = g_byte_array_new();
    XenPVIOMMUPathList list = { .bytes = bytes };
    bool enabled;

    WITH_QEMU_LOCK_GUARD(&s->lock) {
        enabled = s->core.irqs.enabled;
        xen_pviommu_foreach_function(s, add_function, &list);
    }
    qemu_put_byte(f, enabled ? IRQS_ENABLED : 0);
    return xen_pviommu_path_put(f, &list, "has interrupts");
}

/* @f: NULL for a function that is not here */
static int load_entry(XenPVIOMMUState *s, XenPVIOMMUFunction *f,
                      const StreamIrq *entry)
{
    uint32_t handle = be32_to_cpu(entry->handle);
    XenPVIOMMUIrq irq = {
        .owner = f ? &f->irqs : NULL,
        .dest = be32_to_cpu(entry->dest),
        .vector = entry->vector,
        .delivery = entry->delivery,
        .flags = entry->flags,
        .index = entry->index,
    };

    QEMU_LOCK_GUARD(&s->lock);

    /* It may have been unplugged, if a wait for the stream released the BQL. */
    if (f && f->ctx && !xen_pviommu_irq_restore(&s->core.irqs, handle, &irq)) {
        error_report("xen-pviommu: interrupt %u: bad in the stream, or beyond "
                     "max-interrupts=%u", handle, s->core.irqs.size);
        return -EINVAL;
    }
    return 0;
}

static XenPVIOMMUFunction *load_function(XenPVIOMMUState *s,
                                         const uint8_t *path, unsigned len,
                                         uint8_t flags, int *ret)
{
    XenPVIOMMUFunction *f;

    if (!xen_pviommu_function_at_path(s, path, len, &f) ||
        flags & ~OWNER_DIRECT || (f && f->irqs.nr)) {
        error_report("xen-pviommu: function %02x.%x (%u bridges deep) cannot "
                     "have interrupts: this machine has no such place, or it "
                     "is wrong in the stream", PCI_SLOT(path[len - 1]),
                     PCI_FUNC(path[len - 1]), len - 1);
        *ret = -EINVAL;
        return NULL;
    }
    if (f) {
        f->irqs.direct = flags & OWNER_DIRECT;
    }
    return f;
}

static int get_entries(QEMUFile *f, XenPVIOMMUState *s, const uint8_t *path,
                       unsigned len)
{
    uint8_t flags = qemu_get_byte(f);
    uint32_t nr = qemu_get_be32(f);
    XenPVIOMMUFunction *function;
    int ret = xen_pviommu_load_check(s, f);

    if (ret) {
        return ret;
    }
    function = load_function(s, path, len, flags, &ret);
    object_ref(OBJECT(function));
    for (; nr && !ret; nr--) {
        StreamIrq entry;

        qemu_get_buffer(f, (uint8_t *)&entry, sizeof(entry));
        ret = xen_pviommu_load_check(s, f);
        if (!ret) {
            ret = load_entry(s, function, &entry);
        }
    }
    object_unref(OBJECT(function));
    return ret;
}

static int get_irqs(QEMUFile *f, void *pv, size_t size,
                    const VMStateField *field)
{
    XenPVIOMMUState *s = pv;
    uint8_t flags = qemu_get_byte(f);
    int ret = qemu_file_get_error(f);
    uint8_t path[XEN_PVIOMMU_PATH_MAX];
    unsigned len;

    if (ret) {
        return ret;
    }
    if (!(s->saved.accepted & XEN_IOMMU_FEATURE_INTERRUPTS) ||
        flags & ~IRQS_ENABLED) {
        error_report("xen-pviommu: interrupts in the stream of a guest that "
                     "did not accept the feature, or flags 0x%x", flags);
        return -EINVAL;
    }
    while ((len = xen_pviommu_path_get(f, path))) {
        ret = get_entries(f, s, path, len);
        if (ret) {
            return ret;
        }
    }
    ret = xen_pviommu_load_check(s, f);
    if (ret) {
        return ret;
    }
    WITH_QEMU_LOCK_GUARD(&s->lock) {
        s->core.irqs.enabled = flags & IRQS_ENABLED;
    }
    return 0;
}

static const VMStateInfo vmstate_info_irqs = {
    .name = "xen-pviommu irqs",
    .get = get_irqs,
    .put = put_irqs,
};

static void find_direct(void *opaque, const uint8_t *path, unsigned len,
                        XenPVIOMMUFunction *f)
{
    *(bool *)opaque |= f->irqs.direct;
}

static bool irqs_needed(void *opaque)
{
    XenPVIOMMUState *s = opaque;
    bool needed = s->core.irqs.enabled || s->core.irqs.nr_used;

    if (!needed) {
        xen_pviommu_foreach_function(s, find_direct, &needed);
    }
    return needed;
}

const VMStateDescription xen_pviommu_vmstate_irqs = {
    .name = "xen-pviommu/irqs",
    .version_id = 1,
    .minimum_version_id = 1,
    .needed = irqs_needed,
    .fields = (const VMStateField[]) {
        {
            .name = "irqs",
            .info = &vmstate_info_irqs,
            .flags = VMS_SINGLE,
            .offset = 0,
        },
        VMSTATE_END_OF_LIST()
    },
};
