/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the core stands on in a test: a guest's memory with its references, and
 * devices that remember their notifications
 */

#include "qemu/osdep.h"
#include "pviommu-machine.h"

/* The backend: a guest's memory, with its references. */

static Kind page_kind(const XenPVIOMMUBackend *be, uint64_t gfn)
{
    return gfn < NR_GFNS ? be->kind[gfn] : be->huge ? KIND_RAM : KIND_ABSENT;
}

/* What get() has to say, without doing it. */
int machine_backend_answer(const XenPVIOMMUBackend *be, uint16_t domid,
                           uint64_t gfn, uint64_t nr, unsigned flags,
                           uint64_t *culprit)
{
    if (domid == DOMID_FOREIGN) {
        return -XEN_IOMMU_EPERM;
    }
    if (domid != DOMID_SELF) {
        return -XEN_IOMMU_ESRCH;
    }
    for (uint64_t end = gfn + nr; gfn < end; gfn++) {
        *culprit = gfn;
        if (gfn >= NR_GFNS && be->huge) {
            break;
        }
        switch (page_kind(be, gfn)) {
        case KIND_ABSENT:
            return -XEN_IOMMU_ENOENT;
        case KIND_MMIO:
            return -XEN_IOMMU_EPERM;
        case KIND_ROM:
            if (!(flags & XEN_PVIOMMU_GET_READONLY)) {
                return -XEN_IOMMU_EPERM;
            }
            break;
        case KIND_BAR:
            if (!(flags & XEN_PVIOMMU_GET_MMIO)) {
                return -XEN_IOMMU_EPERM;
            }
            break;
        case KIND_PAGED:
            return -XEN_IOMMU_EAGAIN;
        case KIND_RAM:
            break;
        }
    }
    return 0;
}

static int backend_get(XenPVIOMMUBackend *be, uint16_t domid, uint64_t gfn,
                       uint64_t nr, unsigned flags)
{
    bool readonly = flags & XEN_PVIOMMU_GET_READONLY;
    uint64_t culprit;
    int ret;

    g_assert_cmpuint(nr, >, 0);
    ret = machine_backend_answer(be, domid, gfn, nr, flags, &culprit);
    if (ret == -XEN_IOMMU_EAGAIN) {
        be->kind[culprit] = KIND_RAM;
    }
    if (ret) {
        return ret;
    }
    for (uint64_t g = gfn; g < MIN(gfn + nr, NR_GFNS); g++) {
        (readonly ? be->ro : be->rw)[g]++;
    }
    be->total += nr;
    return 0;
}

/*
 * There are as many references as places where devices may still use the
 * page. Devices of a context see the same places.
 */
void machine_check_devices(const XenPVIOMMUBackend *be, uint64_t gfn)
{
    const Fixture *f = be->fixture;
    uint64_t ro = 0, rw = 0;
    uint32_t any = 0;

    for (unsigned i = 0; i < NR_DEVICES; i++) {
        any |= f->dev[i].ro[gfn] | f->dev[i].rw[gfn];
    }
    if (!any) {
        return;
    }
    for (unsigned i = 0; i < NR_DEVICES; i++) {
        uint32_t most_ro = 0, most_rw = 0;
        bool done = false;

        for (unsigned j = 0; j < i && !done; j++) {
            done = f->dev[j].ctx == f->dev[i].ctx;
        }
        for (unsigned j = i; j < NR_DEVICES && !done; j++) {
            if (f->dev[j].ctx == f->dev[i].ctx) {
                most_ro = MAX(most_ro, f->dev[j].ro[gfn]);
                most_rw = MAX(most_rw, f->dev[j].rw[gfn]);
            }
        }
        ro += most_ro;
        rw += most_rw;
    }
    g_assert_cmpuint(be->ro[gfn], >=, ro);
    g_assert_cmpuint(be->rw[gfn], >=, rw);
}

static void backend_put(XenPVIOMMUBackend *be, uint64_t gfn, uint64_t nr,
                        bool readonly)
{
    uint32_t *refs = readonly ? be->ro : be->rw;

    g_assert_cmpuint(nr, >, 0);
    g_assert_cmpuint(be->total, >=, nr);
    be->total -= nr;
    for (uint64_t g = gfn; g < MIN(gfn + nr, NR_GFNS); g++) {
        g_assert_cmpuint(refs[g], >, 0);
        refs[g]--;
        machine_check_devices(be, g);
    }
}

static bool backend_put_frames(XenPVIOMMUBackend *be, uint64_t nr)
{
    if (!be->by_number) {
        return false;
    }
    g_assert_cmpuint(be->total, >=, nr);
    be->total -= nr;
    return true;
}

static uint64_t backend_total(XenPVIOMMUBackend *be)
{
    return be->total;
}

static uint64_t backend_refs(XenPVIOMMUBackend *be, uint64_t gfn)
{
    return be->ro[gfn] + be->rw[gfn];
}

const XenPVIOMMUBackendOps machine_backend_ops = {
    .get = backend_get,
    .put = backend_put,
    .put_frames = backend_put_frames,
    .total = backend_total,
    .refs = backend_refs,
};

/* The devices: they keep a translation until they are notified of its end. */

void machine_tlb_set(Device *d, uint64_t bfn, Frame frame)
{
    Frame old = d->tlb[bfn];

    if (old) {
        (frame_readonly(old) ? d->ro : d->rw)[frame_gfn(old)]--;
    }
    if (frame) {
        (frame_readonly(frame) ? d->ro : d->rw)[frame_gfn(frame)]++;
    }
    d->tlb[bfn] = frame;
}

static void tlb_map(Fixture *f, Device *d, const BfnRun *run)
{
    for (uint64_t i = 0; i < run->nr; i++) {
        /* As VFIO: what is mapped cannot be mapped over. */
        g_assert_cmphex(d->tlb[run->bfn + i], ==, 0);
        machine_tlb_set(d, run->bfn + i,
                        frame_new(run->gfn + i, run->readonly));
    }
}

static void client_map(void *opaque, XenPVIOMMUContext *ctx, const BfnRun *run)
{
    Fixture *f = opaque;
    BfnRun there;

    f->map_calls++;
    g_assert_cmpuint(run->nr, >, 0);
    g_assert_true(bfn_table_next_run(ctx->table, run->bfn, run->bfn + run->nr,
                                     &there));
    g_assert_cmphex(there.bfn, ==, run->bfn);
    g_assert_cmphex(there.gfn, ==, run->gfn);
    g_assert_cmphex(there.nr, ==, run->nr);
    g_assert(there.readonly == run->readonly);
    for (unsigned i = 0; f->modelled && i < NR_DEVICES; i++) {
        if (f->dev[i].ctx == ctx) {
            tlb_map(f, &f->dev[i], run);
        }
    }
}

static bool client_listening(void *opaque, const XenPVIOMMUContext *ctx)
{
    Fixture *f = opaque;

    for (unsigned i = 0; i < NR_DEVICES; i++) {
        if (f->dev[i].ctx == ctx) {
            return true;
        }
    }
    return false;
}

static void client_unmap(void *opaque, XenPVIOMMUContext *ctx,
                         uint64_t bfn, uint64_t nr)
{
    Fixture *f = opaque;

    f->unmap_calls++;
    g_assert_cmpuint(nr, >, 0);
    g_assert_cmphex(bfn + nr, <=, xen_pviommu_bfn_limit(&f->core));
    /* A device must not lose what is mapped. */
    g_assert_true(bfn_table_range_empty(ctx->table, bfn, nr));
    for (unsigned i = 0; f->modelled && i < NR_DEVICES; i++) {
        for (uint64_t j = bfn; f->dev[i].ctx == ctx && j < bfn + nr; j++) {
            if (f->dev[i].tlb[j]) {
                machine_tlb_set(&f->dev[i], j, 0);
            }
        }
    }
}

Device *machine_device(Fixture *f, uint32_t sbdf)
{
    for (unsigned i = 0; i < NR_DEVICES; i++) {
        if (f->dev[i].sbdf == sbdf && !f->dev[i].gone) {
            return &f->dev[i];
        }
    }
    return NULL;
}

void machine_update_reserved(Fixture *f, XenPVIOMMUContext *ctx)
{
    xen_pviommu_context_clear_reserved(ctx);
    for (unsigned i = 0; i < NR_DEVICES; i++) {
        if (f->dev[i].ctx == ctx && !f->dev[i].gone) {
            xen_pviommu_reserved_add_all(ctx->reserved, f->dev[i].reserved);
        }
    }
}

static void device_move(Fixture *f, Device *d, XenPVIOMMUContext *ctx)
{
    uint64_t limit = xen_pviommu_bfn_limit(&f->core);
    XenPVIOMMUContext *old = d->ctx;
    BfnRun run;

    if (old == ctx) {
        return;
    }
    old->nr_devices--;
    ctx->nr_devices++;
    d->ctx = ctx;
    if (f->modelled) {
        for (uint64_t bfn = 0; bfn < limit; bfn++) {
            if (d->tlb[bfn]) {
                machine_tlb_set(d, bfn, 0);
            }
        }
        for (uint64_t bfn = 0; bfn_table_next_run(ctx->table, bfn, limit, &run);
             bfn = run.bfn + run.nr) {
            tlb_map(f, d, &run);
        }
    }
    xen_pviommu_context_flush_all(&f->core, old);
    machine_update_reserved(f, old);
    machine_update_reserved(f, ctx);
}

static int client_attach(void *opaque, uint32_t sbdf, XenPVIOMMUContext *ctx)
{
    Fixture *f = opaque;
    Device *d = machine_device(f, sbdf);

    if (!d) {
        return -XEN_IOMMU_ENODEV;
    }
    for (guint i = 0; i < d->reserved->len; i++) {
        const XenPVIOMMUReserved *r = xen_pviommu_reserved_at(d->reserved, i);

        if (!bfn_table_range_empty(ctx->table, r->bfn, r->nr)) {
            return -XEN_IOMMU_EADDRNOTAVAIL;
        }
    }
    device_move(f, d, ctx);
    return 0;
}

void machine_unplug(Fixture *f, unsigned i)
{
    device_move(f, &f->dev[i], f->core.contexts[XEN_IOMMU_CTX_DEFAULT]);
    xen_pviommu_irqs_free_owner(&f->core.irqs, &f->dev[i].irqs);
    f->dev[i].gone = true;
    machine_update_reserved(f, f->dev[i].ctx);
}

static int client_reserved(void *opaque, uint32_t sbdf, GArray *list)
{
    Device *d = machine_device(opaque, sbdf);

    if (!d) {
        return -XEN_IOMMU_ENODEV;
    }
    xen_pviommu_reserved_add_all(list, d->reserved);
    return 0;
}

static void client_attach_all(void *opaque, XenPVIOMMUContext *ctx)
{
    Fixture *f = opaque;

    for (unsigned i = 0; i < NR_DEVICES; i++) {
        device_move(f, &f->dev[i], ctx);
    }
}

static void client_enabled(void *opaque)
{
    Fixture *f = opaque;

    g_assert_false(f->core.identity);
    f->enabled++;
}

static XenPVIOMMUIrqOwner *client_irq_owner(void *opaque, uint32_t sbdf)
{
    Device *d = machine_device(opaque, sbdf);

    return d ? &d->irqs : NULL;
}

static void client_irqs_enabled(void *opaque)
{
    Fixture *f = opaque;

    f->irqs_enabled++;
    for (unsigned i = 0; i < NR_DEVICES && !f->core.irqs.enabled; i++) {
        g_assert_cmpuint(f->dev[i].irqs.nr, ==, 0);
        f->dev[i].irqs.direct = false;
    }
}

bool machine_store_fits(uint64_t addr, uint64_t len)
{
    return addr >= STORE_BASE && addr < STORE_BASE + STORE_SIZE &&
           len <= STORE_BASE + STORE_SIZE - addr;
}

bool machine_queue_fits(uint64_t addr, uint32_t nr_ops)
{
    return addr >= QUEUE_BASE &&
           addr + 128 + 32 * nr_ops <= QUEUE_BASE + QUEUE_SIZE;
}

static int client_store(void *opaque, uint64_t addr, const void *buf,
                        size_t len)
{
    Fixture *f = opaque;

    if (!machine_store_fits(addr, len)) {
        return -XEN_IOMMU_EFAULT;
    }
    memcpy(f->stored + (addr - STORE_BASE), buf, len);
    return 0;
}

static int client_set_queue(void *opaque, XenPVIOMMUContext *ctx, uint64_t addr,
                            uint32_t nr_ops)
{
    Fixture *f = opaque;

    if (!nr_ops) {
        ctx->queue = NULL;
        return 0;
    }
    g_assert_true(xen_pviommu_queue_valid(addr, nr_ops));
    if (!machine_queue_fits(addr, nr_ops)) {
        return -XEN_IOMMU_EFAULT;
    }
    f->queue[ctx->id] = (XenPVIOMMUQueue) { addr, nr_ops };
    ctx->queue = &f->queue[ctx->id];
    return 0;
}

const XenPVIOMMUListenerOps machine_listener_ops = {
    .map = client_map,
    .listening = client_listening,
    .unmap = client_unmap,
};

const XenPVIOMMUAttachmentOps machine_attachment_ops = {
    .attach = client_attach,
    .reserved = client_reserved,
    .attach_all = client_attach_all,
    .enabled = client_enabled,
    .irq_owner = client_irq_owner,
    .irqs_enabled = client_irqs_enabled,
};

const XenPVIOMMUGuestMemoryOps machine_memory_ops = {
    .store = client_store,
    .set_queue = client_set_queue,
};
