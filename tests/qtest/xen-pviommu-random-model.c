/*
 * xen-pviommu: what random operations have to return, and to change
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/bswap.h"
#include "hw/pci/pci_regs.h"
#include "xen-pviommu-random-model.h"

uint64_t model_bfn(unsigned i)
{
    return i < NR_LOW ? LOW + i : HIGH + (i - NR_LOW);
}

unsigned model_frame(uint64_t bfn)
{
    if (bfn >= LOW && bfn < LOW + NR_LOW) {
        return bfn - LOW;
    }
    return bfn >= HIGH && bfn < BFN_LIMIT ? NR_LOW + (bfn - HIGH) : NR_FRAMES;
}

static void context_flush(Model *m, Context *c, uint64_t bfn, uint64_t nr)
{
    /* A part of a record can leave two. */
    c->records = bfn || nr < BFN_LIMIT ? 2 * c->records : 0;
    for (unsigned i = 0; i < NR_FRAMES; i++) {
        uint64_t b = model_bfn(i);

        if (c->waiting[i] && b >= bfn && b - bfn < nr) {
            m->pending -= c->waiting[i];
            c->waiting[i] = c->waiting_bar[i] = 0;
        }
    }
}

bool model_reserved(uint64_t bfn, uint64_t nr)
{
    return bfn < RESERVED + NR_RESERVED && RESERVED < bfn + nr;
}

static uint64_t bar_gfn(unsigned place)
{
    return BAR_GFN + place * BAR_FRAMES;
}

static bool in_place(uint64_t gfn, unsigned place)
{
    return gfn >= bar_gfn(place) && gfn - bar_gfn(place) < BAR_FRAMES;
}

bool model_in_bar(const Model *m, uint64_t frame)
{
    return frame && in_place(FRAME_GFN(frame), m->bar.seen);
}

bool model_frame_there(const Model *m, uint64_t frame, bool write)
{
    return frame && !(write && frame & FRAME_RO) &&
           (!model_in_bar(m, frame) || m->bar.shown);
}

/* What a map of @gfn returns. */
static int gfn_error(const Model *m, uint64_t gfn, bool readonly)
{
    if (gfn < PVIOMMU_RAM_GFNS && gfn >= 0x100) {
        return 0;
    }
    if (m->bar.shown && in_place(gfn, m->bar.seen)) {
        return 0;
    }
    if (gfn >= ROM_GFN && gfn < ROM_GFN + NR_ROM) {
        return readonly ? 0 : -XEN_IOMMU_EPERM;
    }
    return -XEN_IOMMU_ENOENT;
}

Context *model_context(Model *m, unsigned id)
{
    return id < MAX_CONTEXTS && m->ctx[id].live ? &m->ctx[id] : NULL;
}

void model_check_queue(Model *m, Context *c)
{
    QPVIOMMUQueue *q = &c->queue;

    if (!q->nr_ops || c->checked == q->tail) {
        return;
    }
    g_assert_cmpuint(pviommu_queue_head(q), ==, q->tail);
    g_assert_cmpuint(pviommu_queue_errors(q), ==, c->errors);
    for (; c->checked != q->tail; c->checked++) {
        const struct xen_iommu_op *e = &c->expected[c->checked % q->nr_ops];
        struct xen_iommu_op op;

        pviommu_load_ops(m->iommu,
                         q->addr + pviommu_queue_size(c->checked % q->nr_ops),
                         &op, 1);
        if (memcmp(&op, e, sizeof(op))) {
            g_test_message("queued: op %u flags 0x%x ctx %u bfn 0x%" PRIx64
                           " nr 0x%x: status %d, not %d", le16_to_cpu(op.op),
                           le16_to_cpu(op.flags), le16_to_cpu(op.u.map.ctx),
                           le64_to_cpu(op.u.map.bfn),
                           le32_to_cpu(op.u.map.nr_frames),
                           (int32_t)le32_to_cpu(op.status),
                           (int32_t)le32_to_cpu(e->status));
        }
        g_assert_cmpmem(&op, sizeof(op), e, sizeof(*e));
    }
}

void model_check_queues(Model *m)
{
    for (unsigned id = 0; id < MAX_CONTEXTS; id++) {
        model_check_queue(m, &m->ctx[id]);
    }
}

void model_kick_queues(Model *m)
{
    for (unsigned id = 0; id < MAX_CONTEXTS; id++) {
        if (m->ctx[id].queue.nr_ops) {
            pviommu_queue_kick(&m->ctx[id].queue);
        }
    }
    model_check_queues(m);
}

static void model_drop_queue(Context *c)
{
    c->queue = (QPVIOMMUQueue) { 0 };
    g_clear_pointer(&c->expected, g_free);
}

void model_drop_queues(Model *m)
{
    for (unsigned id = 0; id < MAX_CONTEXTS; id++) {
        model_drop_queue(&m->ctx[id]);
    }
}

uint64_t model_queue_addr(unsigned id, bool second)
{
    return PVIOMMU_QUEUE_ADDR + (2 * id + second) * PVIOMMU_QUEUE_STRIDE;
}

int model_set_queue(Model *m, unsigned id, uint64_t addr, uint32_t nr_ops)
{
    Context *c = model_context(m, id);

    if (!c) {
        return -XEN_IOMMU_ENOENT;
    }
    model_drop_queue(c);
    if (nr_ops) {
        qtest_memset(m->iommu->qts, addr, 0, pviommu_queue_size(nr_ops));
        c->queue = (QPVIOMMUQueue) { m->iommu, id, addr, nr_ops };
        c->expected = g_new(struct xen_iommu_op, nr_ops);
    }
    c->checked = 0;
    c->errors = 0;
    return 0;
}

static int model_map(Model *m, unsigned id, uint64_t bfn, uint64_t gfn,
                     uint32_t nr_frames, bool readonly)
{
    Context *c = model_context(m, id);
    uint64_t nr = MAX(nr_frames, 1);
    int ret;

    if (bfn >= BFN_LIMIT || nr > BFN_LIMIT - bfn) {
        return -XEN_IOMMU_EINVAL;
    }
    if (!c) {
        return -XEN_IOMMU_ENOENT;
    }
    if (model_reserved(bfn, nr)) {
        return -XEN_IOMMU_EADDRNOTAVAIL;
    }
    for (uint64_t i = 0; i < nr; i++) {
        if (c->map[model_frame(bfn + i)]) {
            return -XEN_IOMMU_EEXIST;
        }
    }
    if (m->mapped + m->pending + nr > m->max_mappings) {
        return -XEN_IOMMU_ENOSPC;
    }
    for (uint64_t i = 0; i < nr; i++) {
        ret = gfn_error(m, gfn + i, readonly);
        if (ret) {
            return ret;
        }
    }
    for (uint64_t i = 0; i < nr; i++) {
        c->map[model_frame(bfn + i)] = (gfn + i +
                                        1) | (readonly ? FRAME_RO : 0);
        m->bar_mapped += model_in_bar(m, c->map[model_frame(bfn + i)]);
    }
    m->mapped += nr;
    return 0;
}

static int model_unmap(Model *m, unsigned id, uint64_t bfn, uint32_t nr_frames,
                       bool skip_unmapped)
{
    Context *c = model_context(m, id);
    uint64_t nr = MAX(nr_frames, 1);

    if (bfn >= BFN_LIMIT || nr > BFN_LIMIT - bfn) {
        return -XEN_IOMMU_EINVAL;
    }
    if (!c) {
        return -XEN_IOMMU_ENOENT;
    }
    if (!skip_unmapped && model_reserved(bfn, nr)) {
        return -XEN_IOMMU_EADDRNOTAVAIL;
    }
    for (uint64_t i = 0; !skip_unmapped && i < nr; i++) {
        if (!c->map[model_frame(bfn + i)]) {
            return -XEN_IOMMU_ENOENT;
        }
    }
    for (uint64_t i = 0; i < nr; i++) {
        unsigned f = model_frame(bfn + i);

        if (c->map[f]) {
            c->records++;
            c->waiting[f]++;
            c->waiting_bar[f] += model_in_bar(m, c->map[f]);
            c->map[f] = 0;
            m->mapped--;
            m->pending++;
        }
    }
    return 0;
}

static int model_flush(Model *m, unsigned id, uint64_t bfn, uint32_t nr_frames)
{
    Context *c = model_context(m, id);
    uint64_t nr = MAX(nr_frames, 1);

    if (bfn == XEN_IOMMU_FLUSH_ALL && !nr_frames) {
        bfn = 0;
        nr = BFN_LIMIT;
    }
    if (bfn >= BFN_LIMIT || nr > BFN_LIMIT - bfn) {
        return -XEN_IOMMU_EINVAL;
    }
    if (!c) {
        return -XEN_IOMMU_ENOENT;
    }
    context_flush(m, c, bfn, nr);
    return 0;
}

static unsigned run_length(const Context *c, unsigned i)
{
    unsigned end = i < NR_LOW ? NR_LOW : NR_FRAMES;
    unsigned n = 1;

    while (i + n < end && c->map[i + n] == c->map[i] + n) {
        n++;
    }
    return n;
}

static int lookup_result(struct xen_iommu_op *op, const Context *c, unsigned i)
{
    op->u.lookup.bfn = cpu_to_le64(model_bfn(i));
    op->u.lookup.gfn = cpu_to_le64(FRAME_GFN(c->map[i]));
    op->u.lookup.nr_frames = cpu_to_le32(run_length(c, i));
    op->flags =
        cpu_to_le16(c->map[i] & FRAME_RO ? XEN_IOMMUOP_map_readonly : 0);
    return 0;
}

int model_lookup_bfn(Model *m, struct xen_iommu_op *op, unsigned id,
                     uint64_t bfn)
{
    Context *c = model_context(m, id);
    unsigned i = model_frame(bfn);

    if (bfn >= BFN_LIMIT) {
        return -XEN_IOMMU_EINVAL;
    }
    if (!c) {
        return -XEN_IOMMU_ENOENT;
    }
    if (!c->map[i]) {
        /* What is not mapped, as long as 32 bits can say. */
        uint64_t end = MIN(bfn + UINT32_MAX, BFN_LIMIT);

        for (; i < NR_FRAMES; i++) {
            if (c->map[i]) {
                end = MIN(end, model_bfn(i));
                break;
            }
        }
        op->u.lookup.nr_frames = cpu_to_le32(end - bfn);
        return -XEN_IOMMU_ENOENT;
    }
    return lookup_result(op, c, i);
}

int model_lookup_gfn(Model *m, struct xen_iommu_op *op, unsigned id,
                     uint64_t gfn, uint64_t from)
{
    Context *c = model_context(m, id);

    for (unsigned i = 0; c && i < NR_FRAMES; i++) {
        if (c->map[i] && FRAME_GFN(c->map[i]) == gfn && model_bfn(i) >= from) {
            return lookup_result(op, c, i);
        }
    }
    return -XEN_IOMMU_ENOENT;
}

int model_alloc(Model *m, struct xen_iommu_op *op)
{
    for (unsigned id = 1; id < MAX_CONTEXTS; id++) {
        if (!m->ctx[id].live) {
            memset(&m->ctx[id], 0, sizeof(m->ctx[id]));
            m->ctx[id].live = true;
            op->u.context.ctx = cpu_to_le16(id);
            return 0;
        }
    }
    return -XEN_IOMMU_ENOSPC;
}

int model_free(Model *m, unsigned id)
{
    Context *c = model_context(m, id);

    if (!id) {
        return -XEN_IOMMU_EINVAL;
    }
    if (!c) {
        return -XEN_IOMMU_ENOENT;
    }
    if (c->devices) {
        return -XEN_IOMMU_EBUSY;
    }
    context_flush(m, c, 0, BFN_LIMIT);
    for (unsigned i = 0; i < NR_FRAMES; i++) {
        m->mapped -= !!c->map[i];
    }
    c->live = false;
    model_drop_queue(c);
    return 0;
}

int model_attach(Model *m, uint32_t sbdf, unsigned id)
{
    Context *c = model_context(m, id);

    if (!c) {
        return -XEN_IOMMU_ENOENT;
    }
    for (unsigned i = 0; i < NR_DEVICES; i++) {
        if (m->dev[i].sbdf == sbdf) {
            if (m->dev_ctx[i] != id) {
                Context *old = &m->ctx[m->dev_ctx[i]];

                context_flush(m, old, 0, BFN_LIMIT);
                old->devices--;
                c->devices++;
                m->dev_ctx[i] = id;
            }
            return 0;
        }
    }
    return -XEN_IOMMU_ENODEV;
}

int model_change(Model *m, const struct xen_iommu_op *op)
{
    /* They have these in one place. */
    unsigned id = le16_to_cpu(op->u.map.ctx);
    uint64_t bfn = le64_to_cpu(op->u.map.bfn);
    uint32_t nr = le32_to_cpu(op->u.map.nr_frames);
    uint16_t flags = le16_to_cpu(op->flags);

    switch (le16_to_cpu(op->op)) {
    case XEN_IOMMUOP_map:
        return model_map(m, id, bfn, le64_to_cpu(op->u.map.gfn), nr, flags);
    case XEN_IOMMUOP_unmap:
        return model_unmap(m, id, bfn, nr, flags);
    default:
        return model_flush(m, id, bfn, nr);
    }
}

void model_flush_all(Model *m)
{
    for (unsigned id = 0; id < MAX_CONTEXTS; id++) {
        context_flush(m, &m->ctx[id], 0, BFN_LIMIT);
    }
}

int model_queued(Model *m, unsigned id, const struct xen_iommu_op *op)
{
    bool flush = le16_to_cpu(op->op) == XEN_IOMMUOP_flush;
    int ret;

    if (le16_to_cpu(op->u.map.ctx) != id ||
        (!flush &&
         le32_to_cpu(op->u.map.nr_frames) > XEN_IOMMU_QUEUE_MAX_FRAMES)) {
        return -XEN_IOMMU_EINVAL;
    }
    ret = model_change(m, op);
    if (ret == -XEN_IOMMU_ENOSPC && m->pending) {
        /* What only waits for a flush makes way. */
        model_flush_all(m);
        ret = model_change(m, op);
    }
    return ret;
}

/* All of the BAR that is mapped, or waits for a flush, is gone. */
static void bar_gone(Model *m)
{
    for (unsigned id = 0; id < MAX_CONTEXTS; id++) {
        Context *c = &m->ctx[id];

        for (unsigned i = 0; c->live && i < NR_FRAMES; i++) {
            if (model_in_bar(m, c->map[i])) {
                c->map[i] = 0;
                m->mapped--;
                m->bar_gone++;
            }
            m->pending -= c->waiting_bar[i];
            c->waiting[i] -= c->waiting_bar[i];
            c->waiting_bar[i] = 0;
        }
    }
}

static void decode_bar(Bar *bar, bool on)
{
    uint16_t cmd = qpci_config_readw(&bar->dev, PCI_COMMAND);

    cmd &= ~PCI_COMMAND_MEMORY;
    qpci_config_writew(&bar->dev, PCI_COMMAND,
                       cmd | (on ? PCI_COMMAND_MEMORY : 0));
}

void model_set_bar(Model *m, unsigned place, bool shown)
{
    Bar *bar = &m->bar;

    /* It is not shown on the way. */
    if (!shown) {
        decode_bar(bar, false);
    }
    if (place != bar->place) {
        qpci_config_writel(&bar->dev, PCI_BASE_ADDRESS_0,
                           bar_gfn(place) * PVIOMMU_PAGE);
    }
    if (shown) {
        decode_bar(bar, true);
    }
    bar->place = place;
    bar->shown = shown;
    if (shown && place != bar->seen) {
        bar_gone(m);
        bar->seen = place;
    }
}

static void reset_bar(Model *m)
{
    const QPCIAddress addr = {
        .devfn = QPCI_DEVFN(PEER_SLOT, 0), .vendor_id = 0x8086,
        .device_id = 0x100e,
    };

    qpci_device_init(&m->bar.dev, m->iommu->pci, (QPCIAddress *)&addr);
    qpci_config_writel(&m->bar.dev, PCI_BASE_ADDRESS_0,
                       bar_gfn(0) * PVIOMMU_PAGE);
    qpci_device_enable(&m->bar.dev);
    m->bar.place = m->bar.seen = 0;
    m->bar.shown = true;
}

void model_reset(Model *m)
{
    model_drop_queues(m);
    memset(m->ctx, 0, sizeof(m->ctx));
    memset(m->dev_ctx, 0, sizeof(m->dev_ctx));
    m->ctx[0].live = true;
    m->ctx[0].devices = NR_DEVICES;
    m->mapped = 0;
    m->pending = 0;
    for (unsigned i = 0; i < NR_DEVICES; i++) {
        mirror_init(&m->dev[i], m->iommu, QPCI_DEVFN(SLOT + i, 0));
    }
    reset_bar(m);
    pviommu_accept(m->iommu, XEN_IOMMU_FEATURES_ALL);
}
