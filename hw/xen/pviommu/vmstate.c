/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Migration: contexts travel as runs, functions as their place in the machine
 *
 * Bus numbers are the guest's and come later in the stream, so a function is
 * named by the way to it. What arrives goes through the same checks as what
 * a guest maps; the references are taken anew.
 */

#include "qemu/osdep.h"
#include "qemu/error-report.h"
#include "hw/pci/msix.h"
#include "migration/qemu-file-types.h"
#include "migration/vmstate.h"
#include "device.h"
#include "dma.h"
#include "trace.h"

#define RUN_READONLY    (1u << 0)
#define RUN_PENDING     (1u << 1)
#define RUN_END         (1u << 7)
#define PATH_END        0

static void put_run(QEMUFile *f, const BfnRun *run, uint8_t flags)
{
    qemu_put_byte(f, flags | (run->readonly ? RUN_READONLY : 0));
    qemu_put_be64(f, run->bfn);
    qemu_put_be64(f, run->gfn);
    qemu_put_be64(f, run->nr);
}

static uint64_t put_context(QEMUFile *f, XenPVIOMMUCore *core,
                            XenPVIOMMUContext *ctx)
{
    uint64_t limit = xen_pviommu_bfn_limit(core);
    IntervalTreeNode *node;
    uint64_t runs = 0;
    BfnRun run;

    for (uint64_t bfn = 0; bfn_table_next_run(ctx->table, bfn, limit, &run);
         bfn = run.bfn + run.nr) {
        put_run(f, &run, 0);
        runs++;
    }
    for (node = interval_tree_iter_first(&ctx->pending, 0, UINT64_MAX); node;
         node = interval_tree_iter_next(node, 0, UINT64_MAX)) {
        const XenPVIOMMUPending *p =
            container_of(node, XenPVIOMMUPending, by_bfn);

        run = (BfnRun) {
            .bfn = p->by_bfn.start,
            .gfn = p->by_gfn.start,
            .nr = p->by_bfn.last - p->by_bfn.start + 1,
            .readonly = p->readonly,
        };
        put_run(f, &run, RUN_PENDING);
        runs++;
    }
    qemu_put_byte(f, RUN_END);
    return runs;
}

static int put_contexts(QEMUFile *f, void *pv, size_t size,
                        const VMStateField *field, JSONWriter *vmdesc)
{
    XenPVIOMMUCore *core = pv;
    unsigned contexts = 0;
    uint64_t runs = 0;

    for (uint32_t id = 0; id < core->limits.max_contexts; id++) {
        if (core->contexts[id]) {
            qemu_put_byte(f, 1);
            qemu_put_be16(f, id);
            runs += put_context(f, core, core->contexts[id]);
            contexts++;
        }
    }
    qemu_put_byte(f, 0);
    trace_xen_pviommu_save(contexts, runs);
    return 0;
}

static bool run_valid(const XenPVIOMMUCore *core, const BfnRun *run)
{
    uint64_t bfns = xen_pviommu_bfn_limit(core);
    uint64_t gfns = 1ull << GFN_INDEX_BITS;

    return run->nr && run->bfn < bfns && run->nr <= bfns - run->bfn &&
           run->gfn < gfns && run->nr <= gfns - run->gfn;
}

static int get_context(QEMUFile *f, XenPVIOMMUCore *core,
                       XenPVIOMMUContext *ctx, uint64_t *runs)
{
    for (;; ++*runs) {
        uint8_t flags = qemu_get_byte(f);
        BfnRun run;
        int ret;

        if (flags == RUN_END) {
            return 0;
        }
        run.readonly = flags & RUN_READONLY;
        run.bfn = qemu_get_be64(f);
        run.gfn = qemu_get_be64(f);
        run.nr = qemu_get_be64(f);
        ret = qemu_file_get_error(f);
        if (ret) {
            return ret;
        }
        if (flags & ~(RUN_READONLY | RUN_PENDING) || !run_valid(core, &run)) {
            error_report("xen-pviommu: context %u: bad run in the stream: bfn "
                         "0x%" PRIx64 " gfn 0x%" PRIx64 " nr 0x%" PRIx64
                         " flags 0x%x", ctx->id, run.bfn, run.gfn, run.nr,
                         flags);
            return -EINVAL;
        }
        ret = flags & RUN_PENDING
            ? xen_pviommu_context_load_pending(core, ctx, &run)
            : xen_pviommu_context_map(core, ctx, XEN_IOMMU_DOMID_SELF, &run);
        if (ret) {
            error_report("xen-pviommu: context %u: bfn 0x%" PRIx64 " gfn 0x%"
                         PRIx64 " nr 0x%" PRIx64 " does not fit this machine "
                         "(error %d); use the source's memory layout and "
                         "xen-pviommu properties", ctx->id, run.bfn, run.gfn,
                         run.nr, ret);
            return -EINVAL;
        }
    }
}

static int get_contexts(QEMUFile *f, void *pv, size_t size,
                        const VMStateField *field)
{
    XenPVIOMMUCore *core = pv;
    unsigned contexts = 0;
    uint64_t runs = 0;
    int ret;

    while (qemu_get_byte(f)) {
        uint16_t id = qemu_get_be16(f);
        XenPVIOMMUContext *ctx = xen_pviommu_context_find(core, id);

        ret = qemu_file_get_error(f);
        if (ret) {
            return ret;
        }
        if (id >= core->limits.max_contexts ||
            (ctx && id != XEN_IOMMU_CTX_DEFAULT)) {
            error_report("xen-pviommu: context %u: twice in the stream, or "
                         "beyond max-contexts=%u", id,
                         core->limits.max_contexts);
            return -EINVAL;
        }
        if (!ctx) {
            ctx = xen_pviommu_context_new(core, id);
        }
        ret = get_context(f, core, ctx, &runs);
        if (ret) {
            return ret;
        }
        contexts++;
    }
    trace_xen_pviommu_load(contexts, runs);
    return qemu_file_get_error(f);
}

static const VMStateInfo vmstate_info_contexts = {
    .name = "xen-pviommu contexts",
    .get = get_contexts,
    .put = put_contexts,
};

static void put_function(void *opaque, const uint8_t *path, unsigned len,
                         XenPVIOMMUContext *ctx)
{
    QEMUFile *f = opaque;

    if (ctx->id != XEN_IOMMU_CTX_DEFAULT) {
        qemu_put_byte(f, len);
        qemu_put_buffer(f, path, len);
        qemu_put_be16(f, ctx->id);
    }
}

static int put_functions(QEMUFile *f, void *pv, size_t size,
                         const VMStateField *field, JSONWriter *vmdesc)
{
    xen_pviommu_dma_foreach(pv, put_function, f);
    qemu_put_byte(f, PATH_END);
    return 0;
}

static int get_functions(QEMUFile *f, void *pv, size_t size,
                         const VMStateField *field)
{
    XenPVIOMMUState *s = pv;
    uint8_t len;

    while ((len = qemu_get_byte(f)) != PATH_END) {
        uint8_t path[XEN_PVIOMMU_MAX_PATH];
        XenPVIOMMUContext *ctx;
        uint16_t id;
        int ret;

        if (len > sizeof(path)) {
            error_report("xen-pviommu: a function %u bridges deep in the "
                         "stream", len);
            return -EINVAL;
        }
        qemu_get_buffer(f, path, len);
        id = qemu_get_be16(f);
        ret = qemu_file_get_error(f);
        if (ret) {
            return ret;
        }
        ctx = xen_pviommu_context_find(&s->core, id);
        if (!ctx || !xen_pviommu_dma_attach_path(s, path, len, ctx)) {
            error_report("xen-pviommu: function %02x.%x (%u bridges deep), "
                         "context %u: no such %s here",
                         PCI_SLOT(path[len - 1]), PCI_FUNC(path[len - 1]),
                         len - 1, id, ctx ? "place" : "context");
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

static const VMStateDescription vmstate_fault = {
    .name = "xen-pviommu/fault",
    .version_id = 1,
    .minimum_version_id = 1,
    .fields = (const VMStateField[]) {
        VMSTATE_UINT64(addr, XenPVIOMMUFault),
        VMSTATE_UINT32(sbdf, XenPVIOMMUFault),
        VMSTATE_UINT32(reason, XenPVIOMMUFault),
        VMSTATE_UINT16(ctx, XenPVIOMMUFault),
        VMSTATE_UINT16(flags, XenPVIOMMUFault),
        VMSTATE_END_OF_LIST()
    },
};

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

/* loadvm: the machine was reset, but after it firmware may have run. */
static int xen_pviommu_pre_load(void *opaque)
{
    XenPVIOMMUState *s = opaque;

    xen_pviommu_core_reset(&s->core);
    return 0;
}

static int xen_pviommu_post_load(void *opaque, int version_id)
{
    XenPVIOMMUState *s = opaque;
    XenPVIOMMUFaults *f = &s->faults;

    if (s->core.accepted & ~XEN_IOMMU_FEATURES_ALL) {
        error_report("xen-pviommu: the guest uses features 0x%" PRIx64
                     " that this QEMU does not have",
                     (uint64_t)(s->core.accepted & ~XEN_IOMMU_FEATURES_ALL));
        return -EINVAL;
    }
    if (!xen_pviommu_faults_valid(s) ||
        f->first >= XEN_PVIOMMU_FAULTS_WAITING ||
        f->nr_waiting > XEN_PVIOMMU_FAULTS_WAITING) {
        error_report("xen-pviommu: bad fault ring in the stream");
        return -EINVAL;
    }
    xen_pviommu_dma_update(s);
    xen_pviommu_faults_kick(s);
    return 0;
}

const VMStateDescription xen_pviommu_vmstate = {
    .name = "xen-pviommu",
    .version_id = 1,
    .minimum_version_id = 1,
    /* Other devices may do DMA as soon as they are loaded. */
    .priority = MIG_PRI_IOMMU,
    .pre_load = xen_pviommu_pre_load,
    .post_load = xen_pviommu_post_load,
    .fields = (const VMStateField[]) {
        VMSTATE_PCI_DEVICE(parent_obj, XenPVIOMMUState),
        VMSTATE_MSIX(parent_obj, XenPVIOMMUState),
        VMSTATE_UINT64(core.accepted, XenPVIOMMUState),
        VMSTATE_BOOL(core.identity, XenPVIOMMUState),
        VMSTATE_UINT64_ARRAY(core.counter, XenPVIOMMUState,
                             XEN_PVIOMMU_NR_EVENT_COUNTERS),
        VMSTATE_STRUCT_ARRAY(blocks, XenPVIOMMUState, XEN_PVIOMMU_MAX_BLOCKS,
                             1, vmstate_block, XenPVIOMMUBlock),
        VMSTATE_UINT64(faults.ring, XenPVIOMMUState),
        VMSTATE_UINT32(faults.size, XenPVIOMMUState),
        VMSTATE_UINT32(faults.ctrl, XenPVIOMMUState),
        VMSTATE_UINT32(faults.head, XenPVIOMMUState),
        VMSTATE_UINT32(faults.tail, XenPVIOMMUState),
        VMSTATE_UINT32(faults.first, XenPVIOMMUState),
        VMSTATE_UINT32(faults.nr_waiting, XenPVIOMMUState),
        VMSTATE_UINT32(faults.lost, XenPVIOMMUState),
        VMSTATE_UINT64(faults.count, XenPVIOMMUState),
        VMSTATE_STRUCT_ARRAY(faults.waiting, XenPVIOMMUState,
                             XEN_PVIOMMU_FAULTS_WAITING, 1, vmstate_fault,
                             XenPVIOMMUFault),
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
        VMSTATE_END_OF_LIST()
    },
};
