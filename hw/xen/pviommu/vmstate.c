/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Migration: contexts travel as runs, functions as their place in the machine
 *
 * What is loaded is checked as what a guest maps is; the references are taken
 * anew.
 *
 * All of it is in the device's section: what is sent while the guest runs
 * (SaveVMHandlers) is not called for when Xen's toolstack saves a guest.
 *
 * The IOMMU is loaded before other devices, which may do DMA as soon as they
 * are; what follows from that for mappings is in vmstate-runs.c.
 *
 * What can be in a stream is anything, and it may end anywhere. Values that the
 * stream has as they are go to XenPVIOMMUState.saved, are checked there, and
 * become the device's when all of the section is there. The rest is checked as
 * it comes, and is added to a device that was reset. A load that fails,
 * wherever and for whatever reason, resets the device: see load_ended().
 *
 * Reading and writing the stream may wait for the other side: never with the
 * lock. The machine can be reset meanwhile.
 */

#include "qemu/osdep.h"
#include "qemu/error-report.h"
#include "hw/pci/msix.h"
#include "migration/migration.h"
#include "migration/qemu-file-types.h"
#include "migration/register.h"
#include "migration/vmstate.h"
#include "system/runstate.h"
#include "attach.h"
#include "device.h"
#include "guest-memory.h"
#include "queue.h"
#include "reset.h"
#include "vmstate.h"
#include "vmstate-irqs.h"
#include "vmstate-path.h"
#include "vmstate-queues.h"
#include "vmstate-runs.h"
#include "trace.h"

/* Of the number of contexts: a byte of flags follows each ID. */
#define CONTEXTS_FLAGS  (1u << 31)
#define CONTEXT_IDENTITY (1u << 0)

static int put_contexts(QEMUFile *f, void *pv, size_t size,
                        const VMStateField *field, JSONWriter *vmdesc)
{
    XenPVIOMMUCore *core = pv;
    uint32_t flags = 0;
    uint32_t nr = 0;

    for (uint32_t id = 0; id < core->limits.max_contexts; id++) {
        nr += core->contexts[id] != NULL;
        if (core->contexts[id] && core->contexts[id]->identity) {
            flags = CONTEXTS_FLAGS;
        }
    }
    qemu_put_be32(f, nr | flags);
    for (uint32_t id = 0; id < core->limits.max_contexts; id++) {
        if (core->contexts[id]) {
            qemu_put_be16(f, id);
            if (flags) {
                qemu_put_byte(f, core->contexts[id]->identity ?
                                 CONTEXT_IDENTITY : 0);
            }
        }
    }
    return 0;
}

/* In the order of their IDs; the first is the default one, which is there. */
static int get_contexts(QEMUFile *f, void *pv, size_t size,
                        const VMStateField *field)
{
    XenPVIOMMUCore *core = pv;
    XenPVIOMMUState *s = container_of(core, XenPVIOMMUState, core);
    uint32_t word = qemu_get_be32(f);
    uint32_t nr = word & ~CONTEXTS_FLAGS;
    uint32_t next = XEN_IOMMU_CTX_DEFAULT;

    for (uint32_t i = 0; i < nr; i++) {
        uint32_t id = qemu_get_be16(f);
        uint8_t flags = word & CONTEXTS_FLAGS ? qemu_get_byte(f) : 0;
        int ret = qemu_file_get_error(f);

        if (ret) {
            return ret;
        }
        if (id < next || (!i && id != XEN_IOMMU_CTX_DEFAULT) ||
            id >= core->limits.max_contexts) {
            error_report("xen-pviommu: context %u: out of order in the stream, "
                         "or beyond max-contexts=%u", id,
                         core->limits.max_contexts);
            return -EINVAL;
        }
        if (flags & ~CONTEXT_IDENTITY ||
            (flags && id == XEN_IOMMU_CTX_DEFAULT)) {
            error_report("xen-pviommu: context %u: flags 0x%x in the stream",
                         id, flags);
            return -EINVAL;
        }
        if (id != XEN_IOMMU_CTX_DEFAULT) {
            XenPVIOMMUContext *ctx;

            QEMU_LOCK_GUARD(&s->lock);

            if (!xen_pviommu_load_goes_on(s)) {
                return -ECANCELED;
            }
            xen_pviommu_core_load_begin(core);
            ctx = xen_pviommu_context_new(core, id);
            xen_pviommu_core_load_end(core);
            if (!ctx) {
                error_report("xen-pviommu: no memory for context %u of %u that "
                             "are in the stream", id, nr);
                return -ENOMEM;
            }
            ctx->identity = flags & CONTEXT_IDENTITY;
        }
        next = id + 1;
    }
    if (!nr) {
        error_report("xen-pviommu: no contexts in the stream");
        return -EINVAL;
    }
    return 0;
}

static const VMStateInfo vmstate_info_contexts = {
    .name = "xen-pviommu contexts",
    .get = get_contexts,
    .put = put_contexts,
};

static void add_function(void *opaque, const uint8_t *path, unsigned len,
                         XenPVIOMMUFunction *f)
{
    const uint8_t id[] = { f->ctx->id >> 8, f->ctx->id };
    XenPVIOMMUPathList *list = opaque;

    if (f->ctx->id != XEN_IOMMU_CTX_DEFAULT &&
        xen_pviommu_path_add(list, path, len)) {
        g_byte_array_append(list->bytes, id, sizeof(id));
    }
}

static int put_functions(QEMUFile *f, void *pv, size_t size,
                         const VMStateField *field, JSONWriter *vmdesc)
{
    XenPVIOMMUState *s = pv;
    g_autoptr(GByteArray) bytes = g_byte_array_new();
    XenPVIOMMUPathList list = { .bytes = bytes };

    WITH_QEMU_LOCK_GUARD(&s->lock) {
        xen_pviommu_foreach_function(s, add_function, &list);
    }
    return xen_pviommu_path_put(f, &list, "is attached to a context");
}

static int get_functions(QEMUFile *f, void *pv, size_t size,
                         const VMStateField *field)
{
    XenPVIOMMUState *s = pv;
    uint8_t path[XEN_PVIOMMU_PATH_MAX];
    unsigned len;

    while ((len = xen_pviommu_path_get(f, path))) {
        uint16_t id = qemu_get_be16(f);
        int ret = xen_pviommu_load_check(s, f);
        XenPVIOMMUContext *ctx;

        if (ret) {
            return ret;
        }
        QEMU_LOCK_GUARD(&s->lock);

        ctx = xen_pviommu_context_find(&s->core, id);
        if (!ctx || (s->saved.identity && !ctx->identity) ||
            !xen_pviommu_attach_path(s, path, len, ctx)) {
            error_report("xen-pviommu: function %02x.%x (%u bridges deep) "
                         "cannot be in context %u: %s",
                         PCI_SLOT(path[len - 1]), PCI_FUNC(path[len - 1]),
                         len - 1, id, !ctx ? "there is no such context" :
                         s->saved.identity && !ctx->identity ?
                         "devices see all memory" :
                         "this machine has no such place");
            return -EINVAL;
        }
    }
    return qemu_file_get_error(f);
}

static const VMStateInfo vmstate_info_functions = {
    .name = "xen-pviommu functions",
    .get = get_functions,
    .put = put_functions,
};

/*
 * No load is under way. If one got to our section, and not to its end - or not
 * to the end of the stream, as @failed says - what it left must not be used,
 * neither our state nor that of the PCI function.
 */
static void load_ended(XenPVIOMMUState *s, bool failed)
{
    if (s->load != XEN_PVIOMMU_LOAD_NONE &&
        (failed || s->load != XEN_PVIOMMU_LOAD_COMPLETE)) {
        trace_xen_pviommu_load_failed();
        pci_device_reset(PCI_DEVICE(s));
        xen_pviommu_config_changed(s);
    }
    s->load = XEN_PVIOMMU_LOAD_NONE;
}

/*
 * Whatever the error was, QEMU notes it in the stream. It has closed that
 * already where Xen's toolstack makes it load one; then it is not known.
 */
static int load_cleanup(void *opaque)
{
    QEMUFile *f = migration_incoming_get_current()->from_src_file;

    load_ended(opaque, f && qemu_file_get_error(f));
    return 0;
}

/* An entry without a section: all that it is for is to see a load end. */
static const SaveVMHandlers load_handlers = {
    .load_cleanup = load_cleanup,
};

#define LOAD_HANDLERS_NAME "xen-pviommu-load"

static void load_deferred(XenPVIOMMUState *s)
{
    QEMU_LOCK_GUARD(&s->lock);

    xen_pviommu_load_deferred(s);
}

static void vm_state_change(void *opaque, bool running, RunState state)
{
    XenPVIOMMUState *s = opaque;

    /* A load that failed before our section may have changed it. */
    xen_pviommu_config_changed(s);
    if (running) {
        load_ended(s, false);
        load_deferred(s);
        xen_pviommu_queues_remap(s);
        xen_pviommu_faults_kick(s);
    } else {
        /*
         * Devices of a destination may do DMA before the rest is there. This
         * is early enough for what it stores in guest memory to travel.
         */
        xen_pviommu_queues_finish(s);
    }
}

void xen_pviommu_vmstate_init(XenPVIOMMUState *s)
{
    s->vm_state = qemu_add_vm_change_state_handler(vm_state_change, s);
    register_savevm_live(LOAD_HANDLERS_NAME, 0, 1, &load_handlers, s);
}

void xen_pviommu_vmstate_finalize(XenPVIOMMUState *s)
{
    unregister_savevm(NULL, LOAD_HANDLERS_NAME, s);
    qemu_del_vm_change_state_handler(s->vm_state);
    xen_pviommu_load_forget_deferred(s);
}

static const VMStateDescription vmstate_block = {
    .name = "xen-pviommu/block",
    .version_id = 1,
    .minimum_version_id = 1,
    .fields = (const VMStateField[]) {
        VMSTATE_UINT64(array, XenPVIOMMUBlock),
        VMSTATE_UINT32(done, XenPVIOMMUBlock),
        VMSTATE_INT32(result, XenPVIOMMUBlock),
        VMSTATE_END_OF_LIST()
    },
};

static int xen_pviommu_pre_save(void *opaque)
{
    XenPVIOMMUState *s = opaque;
    XenPVIOMMUSaved *saved = &s->saved;

    /* Loaded, never run, and saved again: all that came must go. */
    load_deferred(s);

    QEMU_LOCK_GUARD(&s->lock);

    saved->accepted = s->core.accepted;
    saved->identity = s->core.identity;
    memcpy(saved->counter, s->core.counter, sizeof(saved->counter));
    memcpy(saved->blocks, s->blocks, sizeof(saved->blocks));
    xen_pviommu_faults_save(s, &saved->faults);
    return 0;
}

/* loadvm: the machine was reset, but after it firmware may have run. */
static int xen_pviommu_pre_load(void *opaque)
{
    XenPVIOMMUState *s = opaque;

    xen_pviommu_reset(s);
    WITH_QEMU_LOCK_GUARD(&s->lock) {
        /* What is loaded has to find room at once. */
        while (xen_pviommu_core_reap(&s->core, UINT_MAX, false)) {
            /* There is more. */
        }
    }
    memset(&s->saved, 0, sizeof(s->saved));
    xen_pviommu_load_begin(s);
    return 0;
}

static bool block_valid(const XenPVIOMMUBlock *block)
{
    return block->done <= XEN_PVIOMMU_MAX_OPS_LIMIT &&
           (!block->result || block->result == -XEN_IOMMU_EFAULT ||
            block->result == -XEN_IOMMU_EIO);
}

static bool features_valid(const XenPVIOMMUState *s)
{
    uint64_t missing = s->saved.accepted & ~xen_pviommu_core_features(&s->core);

    if (missing & ~XEN_IOMMU_FEATURES_ALL) {
        error_report("xen-pviommu: the guest uses features 0x%" PRIx64
                     " that are not known here: use the QEMU of the source, or "
                     "a newer one", missing);
    } else if (missing & XEN_IOMMU_FEATURE_QUEUE) {
        error_report("xen-pviommu: the guest uses queues, and this machine "
                     "does not offer any: give its xen-pviommu queues=on, as "
                     "on the source");
    } else if (missing & XEN_IOMMU_FEATURE_INTERRUPTS) {
        error_report("xen-pviommu: the guest has interrupts remapped, and this "
                     "machine does not offer that: give its xen-pviommu the "
                     "max-interrupts of the source");
    } else if (missing & XEN_IOMMU_FEATURE_MMIO) {
        error_report("xen-pviommu: the guest may map BARs of PCI functions, "
                     "and this machine does not offer that: give its "
                     "xen-pviommu mmio=on, as on the source");
    } else if (missing) {
        error_report("xen-pviommu: the guest uses identity contexts, and this "
                     "machine does not offer any: give its xen-pviommu "
                     "identity-contexts=on, as on the source");
    }
    return !missing;
}

static bool blocks_valid(const XenPVIOMMUState *s)
{
    for (unsigned i = 0; i < XEN_PVIOMMU_MAX_BLOCKS; i++) {
        if (!block_valid(&s->saved.blocks[i])) {
            error_report("xen-pviommu: bad register block %u in the stream", i);
            return false;
        }
    }
    return true;
}

static int xen_pviommu_post_load(void *opaque, int version_id)
{
    XenPVIOMMUState *s = opaque;
    const XenPVIOMMUSaved *saved = &s->saved;

    if (!xen_pviommu_load_goes_on(s)) {
        return -ECANCELED;
    }
    if (!features_valid(s) || !blocks_valid(s)) {
        return -EINVAL;
    }
    if (!xen_pviommu_faults_load(s, &saved->faults)) {
        error_report("xen-pviommu: bad fault ring in the stream");
        return -EINVAL;
    }
    WITH_QEMU_LOCK_GUARD(&s->lock) {
        s->core.accepted = saved->accepted;
        s->core.identity = saved->identity;
        memcpy(s->core.counter, saved->counter, sizeof(saved->counter));
        memcpy(s->blocks, saved->blocks, sizeof(saved->blocks));
    }
    s->load = XEN_PVIOMMU_LOAD_COMPLETE;
    xen_pviommu_config_changed(s);
    xen_pviommu_attach_update(s);
    return 0;
}

const VMStateDescription xen_pviommu_vmstate = {
    .name = "xen-pviommu",
    .version_id = 1,
    .minimum_version_id = 1,
    /* Other devices may do DMA as soon as they are loaded. */
    .priority = MIG_PRI_IOMMU,
    .pre_save = xen_pviommu_pre_save,
    .pre_load = xen_pviommu_pre_load,
    .post_load = xen_pviommu_post_load,
    .fields = (const VMStateField[]) {
        VMSTATE_PCI_DEVICE(parent_obj, XenPVIOMMUState),
        VMSTATE_MSIX(parent_obj, XenPVIOMMUState),
        VMSTATE_UINT64(saved.accepted, XenPVIOMMUState),
        VMSTATE_BOOL(saved.identity, XenPVIOMMUState),
        VMSTATE_UINT64_ARRAY(saved.counter, XenPVIOMMUState,
                             XEN_PVIOMMU_NR_EVENT_COUNTERS),
        VMSTATE_STRUCT_ARRAY(saved.blocks, XenPVIOMMUState,
                             XEN_PVIOMMU_MAX_BLOCKS, 1, vmstate_block,
                             XenPVIOMMUBlock),
        VMSTATE_STRUCT(saved.faults, XenPVIOMMUState, 1,
                       xen_pviommu_vmstate_faults, XenPVIOMMUSavedFaults),
        {
            .name = "contexts",
            .info = &vmstate_info_contexts,
            .flags = VMS_SINGLE,
            .offset = offsetof(XenPVIOMMUState, core),
        },
        {
            .name = "functions",
            .info = &vmstate_info_functions,
            .flags = VMS_SINGLE,
            .offset = 0,
        },
        {
            /* After the functions: what those reserve cannot be mapped. */
            .name = "mappings",
            .info = &xen_pviommu_vmstate_mappings,
            .flags = VMS_SINGLE,
            .offset = 0,
        },
        VMSTATE_END_OF_LIST()
    },
    .subsections = (const VMStateDescription * const []) {
        &xen_pviommu_vmstate_queues,
        &xen_pviommu_vmstate_irqs,
        NULL
    },
};
