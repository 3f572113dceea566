/*
 * libqos driver for xen-pviommu
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/bswap.h"
#include "hw/pci/pci_regs.h"
#include "libqos/firmware.h"
#include "libqos/pci-pc.h"
#include "libqos/xen-pviommu.h"

/* The host bridges of pc and q35 */
#define I440FX_ID       0x1237
#define I440FX_PAM      0x59
#define Q35_ID          0x29c0
#define Q35_PAM         0x90

/* Calls that run what is queued: it is some milliseconds' work for each. */
#define MAX_CALLS       10000

static char *bios_path;

static void remove_bios(void)
{
    unlink(bios_path);
}

/* The machines need a firmware, but nothing of what one does. */
static const char *get_bios(void)
{
    if (!bios_path) {
        g_autofree uint8_t *bios = g_malloc(PVIOMMU_BIOS_SIZE);

        for (unsigned i = 0; i < PVIOMMU_BIOS_SIZE; i++) {
            bios[i] = PVIOMMU_BIOS_BYTE(i);
        }
        bios_path = firmware_write(bios);
        atexit(remove_bios);
    }
    return bios_path;
}

char *pviommu_machine_args(const char *machine)
{
    return g_strdup_printf("-machine %s -m %u -nodefaults -vga none -bios %s",
                           machine, PVIOMMU_RAM / 1024 / 1024, get_bios());
}

char *pviommu_args(const char *machine, const char *props, const char *extra)
{
    g_autofree char *base = pviommu_machine_args(machine);
    g_autofree char *device = NULL;

    if (props && *props == '"') {
        device = g_strdup_printf("'{\"driver\":\"xen-pviommu\","
                                 "\"addr\":\"%x\",\"x-check\":true,%s}'",
                                 PVIOMMU_SLOT, props);
    } else {
        device = g_strdup_printf("xen-pviommu,addr=%x,x-check=on%s%s",
                                 PVIOMMU_SLOT,
                                 props ? "," : "", props ?: "");
    }
    return g_strdup_printf("%s -device %s %s", base, device, extra ?: "");
}

QXenPVIOMMU *pviommu_new(QTestState *qts)
{
    QXenPVIOMMU *iommu = g_new0(QXenPVIOMMU, 1);

    iommu->qts = qts;
    iommu->pci = qpci_new_pc(qts, NULL);
    return iommu;
}

QXenPVIOMMU *pviommu_start(const char *machine, const char *props,
                           const char *extra)
{
    g_autofree char *args = pviommu_args(machine, props, extra);
    QXenPVIOMMU *iommu = pviommu_new(qtest_init(args));

    pviommu_probe(iommu);
    return iommu;
}

QXenPVIOMMU *pviommu_start_accepted(const char *machine, const char *props,
                                    const char *extra)
{
    QXenPVIOMMU *iommu = pviommu_start(machine, props, extra);

    pviommu_accept(iommu, XEN_IOMMU_FEATURES_ALL);
    return iommu;
}

void pviommu_free(QXenPVIOMMU *iommu)
{
    qpci_free_pc(iommu->pci);
    g_free(iommu);
}

void pviommu_quit(QXenPVIOMMU *iommu)
{
    qtest_quit(iommu->qts);
    pviommu_free(iommu);
}

void pviommu_probe(QXenPVIOMMU *iommu)
{
    QPCIAddress addr = {
        .devfn = QPCI_DEVFN(PVIOMMU_SLOT, 0),
        .vendor_id = XEN_PVIOMMU_PCI_VENDOR_ID,
    };

    qpci_device_init(&iommu->dev, iommu->pci, &addr);
    iommu->bar = qpci_iomap(&iommu->dev, XEN_PVIOMMU_BAR, NULL);
    qpci_device_enable(&iommu->dev);
}

void pviommu_reset(QXenPVIOMMU *iommu)
{
    qtest_system_reset(iommu->qts);
    pviommu_probe(iommu);
}

void pviommu_set_pam(QXenPVIOMMU *iommu, unsigned nr, uint8_t value)
{
    g_autofree QPCIDevice *bridge = qpci_device_find(iommu->pci,
                                                     QPCI_DEVFN(0, 0));
    uint16_t id;

    g_assert_nonnull(bridge);
    id = qpci_config_readw(bridge, PCI_DEVICE_ID);
    g_assert_true(id == I440FX_ID || id == Q35_ID);
    qpci_config_writeb(bridge, (id == I440FX_ID ? I440FX_PAM : Q35_PAM) + nr,
                       value);
}

void pviommu_moved(QXenPVIOMMU *iommu, QTestState *qts)
{
    iommu->qts = qts;
    iommu->pci->qts = qts;
}

uint32_t pviommu_readl(QXenPVIOMMU *iommu, uint64_t reg)
{
    return qtest_readl(iommu->qts, iommu->bar.addr + reg);
}

uint64_t pviommu_readq(QXenPVIOMMU *iommu, uint64_t reg)
{
    return qtest_readq(iommu->qts, iommu->bar.addr + reg);
}

void pviommu_writel(QXenPVIOMMU *iommu, uint64_t reg, uint32_t value)
{
    qtest_writel(iommu->qts, iommu->bar.addr + reg, value);
}

void pviommu_writeq(QXenPVIOMMU *iommu, uint64_t reg, uint64_t value)
{
    qtest_writeq(iommu->qts, iommu->bar.addr + reg, value);
}

uint64_t pviommu_counter(QXenPVIOMMU *iommu, unsigned n)
{
    return pviommu_readq(iommu, XEN_PVIOMMU_REG_COUNTER(n));
}

void pviommu_accept(QXenPVIOMMU *iommu, uint64_t features)
{
    pviommu_writeq(iommu, XEN_PVIOMMU_REG_ACCEPTED, features);
    g_assert_cmphex(pviommu_readq(iommu, XEN_PVIOMMU_REG_ACCEPTED), ==,
                    features);
}

void pviommu_set_bus_master(QXenPVIOMMU *iommu, bool on)
{
    uint16_t cmd = qpci_config_readw(&iommu->dev, PCI_COMMAND);

    cmd &= ~PCI_COMMAND_MASTER;
    qpci_config_writew(&iommu->dev, PCI_COMMAND,
                       cmd | (on ? PCI_COMMAND_MASTER : 0));
}

int32_t pviommu_ring(QXenPVIOMMU *iommu, unsigned block, uint64_t addr,
                     uint32_t count, uint32_t *done)
{
    uint64_t base = XEN_PVIOMMU_BLOCKS + block * XEN_PVIOMMU_BLOCK_STRIDE;

    pviommu_writeq(iommu, base + XEN_PVIOMMU_BLOCK_ARRAY, addr);
    pviommu_writel(iommu, base + XEN_PVIOMMU_BLOCK_DOORBELL, count);
    if (done) {
        *done = pviommu_readl(iommu, base + XEN_PVIOMMU_BLOCK_DONE);
    }
    return pviommu_readl(iommu, base + XEN_PVIOMMU_BLOCK_RESULT);
}

void pviommu_store_ops(QXenPVIOMMU *iommu, uint64_t addr,
                       const struct xen_iommu_op *ops, unsigned nr)
{
    if (nr) {
        qtest_bufwrite(iommu->qts, addr, ops, nr * sizeof(*ops));
    }
}

void pviommu_load_ops(QXenPVIOMMU *iommu, uint64_t addr,
                      struct xen_iommu_op *ops, unsigned nr)
{
    qtest_bufread(iommu->qts, addr, ops, nr * sizeof(*ops));
}

void pviommu_run(QXenPVIOMMU *iommu, struct xen_iommu_op *ops, unsigned nr)
{
    unsigned empty = 0;

    pviommu_store_ops(iommu, PVIOMMU_OPS_ADDR, ops, nr);
    for (unsigned pos = 0; pos < nr;) {
        uint32_t done;
        int32_t ret = pviommu_ring(iommu, 0,
                                   PVIOMMU_OPS_ADDR + pos * sizeof(*ops),
                                   nr - pos, &done);

        g_assert_cmpint(ret, ==, 0);
        g_assert_cmpuint(done, <=, nr - pos);
        pos += done;
        empty += !done;
        g_assert_cmpuint(empty, <, MAX_CALLS);
    }
    pviommu_load_ops(iommu, PVIOMMU_OPS_ADDR, ops, nr);
}

int32_t pviommu_status(const struct xen_iommu_op *op)
{
    int32_t status = (int32_t)le32_to_cpu(op->status);

    g_assert_cmphex(status, !=, PVIOMMU_STATUS_NONE);
    g_assert_cmpint(status, <=, 0);
    return status;
}

int32_t pviommu_op(QXenPVIOMMU *iommu, struct xen_iommu_op *op)
{
    pviommu_run(iommu, op, 1);
    return pviommu_status(op);
}

int32_t pviommu_run_one(QXenPVIOMMU *iommu, struct xen_iommu_op op)
{
    return pviommu_op(iommu, &op);
}

static struct xen_iommu_op new_op(uint16_t code)
{
    return (struct xen_iommu_op) {
        .op = cpu_to_le16(code),
        .status = cpu_to_le32(PVIOMMU_STATUS_NONE),
    };
}

struct xen_iommu_op pviommu_op_map(uint16_t ctx, uint64_t bfn, uint64_t gfn,
                                   uint32_t nr, uint16_t flags)
{
    struct xen_iommu_op op = new_op(XEN_IOMMUOP_map);

    op.flags = cpu_to_le16(flags);
    op.u.map.bfn = cpu_to_le64(bfn);
    op.u.map.gfn = cpu_to_le64(gfn);
    op.u.map.domid = cpu_to_le16(XEN_IOMMU_DOMID_SELF);
    op.u.map.ctx = cpu_to_le16(ctx);
    op.u.map.nr_frames = cpu_to_le32(nr);
    return op;
}

struct xen_iommu_op pviommu_op_unmap(uint16_t ctx, uint64_t bfn, uint32_t nr)
{
    struct xen_iommu_op op = new_op(XEN_IOMMUOP_unmap);

    op.u.unmap.bfn = cpu_to_le64(bfn);
    op.u.unmap.ctx = cpu_to_le16(ctx);
    op.u.unmap.nr_frames = cpu_to_le32(nr);
    return op;
}

struct xen_iommu_op pviommu_op_unmap_skip(uint16_t ctx, uint64_t bfn,
                                          uint32_t nr)
{
    struct xen_iommu_op op = pviommu_op_unmap(ctx, bfn, nr);

    op.flags = cpu_to_le16(XEN_IOMMUOP_unmap_holes);
    return op;
}

struct xen_iommu_op pviommu_op_flush(uint16_t ctx, uint64_t bfn, uint32_t nr)
{
    struct xen_iommu_op op = new_op(XEN_IOMMUOP_flush);

    op.u.flush.bfn = cpu_to_le64(bfn);
    op.u.flush.ctx = cpu_to_le16(ctx);
    op.u.flush.nr_frames = cpu_to_le32(nr);
    return op;
}

struct xen_iommu_op pviommu_op_query_caps(void)
{
    return new_op(XEN_IOMMUOP_query_caps);
}

struct xen_iommu_op pviommu_op_query_reserved(uint16_t ctx, uint32_t room,
                                              uint64_t ranges)
{
    struct xen_iommu_op op = new_op(XEN_IOMMUOP_query_reserved);

    op.u.query_reserved.nr_entries = cpu_to_le32(room);
    op.u.query_reserved.ranges = cpu_to_le64(ranges);
    op.u.query_reserved.ctx = cpu_to_le16(ctx);
    return op;
}

struct xen_iommu_op pviommu_op_lookup_bfn(uint16_t ctx, uint64_t bfn)
{
    struct xen_iommu_op op = new_op(XEN_IOMMUOP_lookup_bfn);

    op.u.lookup.bfn = cpu_to_le64(bfn);
    op.u.lookup.ctx = cpu_to_le16(ctx);
    return op;
}

struct xen_iommu_op pviommu_op_lookup_gfn(uint16_t ctx, uint64_t gfn,
                                          uint64_t from_bfn)
{
    struct xen_iommu_op op = new_op(XEN_IOMMUOP_lookup_gfn);

    op.u.lookup.bfn = cpu_to_le64(from_bfn);
    op.u.lookup.gfn = cpu_to_le64(gfn);
    op.u.lookup.ctx = cpu_to_le16(ctx);
    return op;
}

struct xen_iommu_op pviommu_op_alloc(void)
{
    return new_op(XEN_IOMMUOP_alloc_context);
}

struct xen_iommu_op pviommu_op_free(uint16_t ctx)
{
    struct xen_iommu_op op = new_op(XEN_IOMMUOP_free_context);

    op.u.context.ctx = cpu_to_le16(ctx);
    return op;
}

struct xen_iommu_op pviommu_op_attach(uint32_t sbdf, uint16_t ctx)
{
    struct xen_iommu_op op = new_op(XEN_IOMMUOP_attach_device);

    op.u.attach_device.sbdf = cpu_to_le32(sbdf);
    op.u.attach_device.ctx = cpu_to_le16(ctx);
    return op;
}

struct xen_iommu_op pviommu_op_enable(void)
{
    return new_op(XEN_IOMMUOP_enable);
}

struct xen_iommu_op pviommu_op_set_queue(uint16_t ctx, uint64_t addr,
                                         uint32_t nr_ops)
{
    struct xen_iommu_op op = new_op(XEN_IOMMUOP_set_queue);

    op.u.set_queue.addr = cpu_to_le64(addr);
    op.u.set_queue.ctx = cpu_to_le16(ctx);
    op.u.set_queue.nr_ops = cpu_to_le32(nr_ops);
    return op;
}

int32_t pviommu_map(QXenPVIOMMU *iommu, uint16_t ctx, uint64_t bfn,
                    uint64_t gfn, uint32_t nr, uint16_t flags)
{
    return pviommu_run_one(iommu, pviommu_op_map(ctx, bfn, gfn, nr, flags));
}

int32_t pviommu_unmap(QXenPVIOMMU *iommu, uint16_t ctx, uint64_t bfn,
                      uint32_t nr)
{
    return pviommu_run_one(iommu, pviommu_op_unmap(ctx, bfn, nr));
}

int32_t pviommu_flush(QXenPVIOMMU *iommu, uint16_t ctx, uint64_t bfn,
                      uint32_t nr)
{
    return pviommu_run_one(iommu, pviommu_op_flush(ctx, bfn, nr));
}

int32_t pviommu_flush_all(QXenPVIOMMU *iommu, uint16_t ctx)
{
    return pviommu_flush(iommu, ctx, XEN_IOMMU_FLUSH_ALL, 0);
}

int32_t pviommu_free_context(QXenPVIOMMU *iommu, uint16_t ctx)
{
    return pviommu_run_one(iommu, pviommu_op_free(ctx));
}

int32_t pviommu_attach(QXenPVIOMMU *iommu, uint32_t sbdf, uint16_t ctx)
{
    return pviommu_run_one(iommu, pviommu_op_attach(sbdf, ctx));
}

int32_t pviommu_enable(QXenPVIOMMU *iommu)
{
    return pviommu_run_one(iommu, pviommu_op_enable());
}

int32_t pviommu_enable_irqs(QXenPVIOMMU *iommu)
{
    struct xen_iommu_op op = pviommu_op_enable();

    op.flags = cpu_to_le16(XEN_IOMMUOP_enable_irqs);
    return pviommu_op(iommu, &op);
}

struct xen_iommu_op pviommu_op_alloc_irqs(uint32_t sbdf, uint32_t nr)
{
    struct xen_iommu_op op = new_op(XEN_IOMMUOP_alloc_irqs);

    op.u.irqs.sbdf = cpu_to_le32(sbdf);
    op.u.irqs.nr = cpu_to_le32(nr);
    return op;
}

struct xen_iommu_op pviommu_op_set_irq(uint32_t handle, uint32_t dest,
                                       uint8_t vector, uint8_t delivery,
                                       uint16_t flags)
{
    struct xen_iommu_op op = new_op(XEN_IOMMUOP_set_irq);

    op.flags = cpu_to_le16(flags);
    op.u.set_irq.handle = cpu_to_le32(handle);
    op.u.set_irq.dest = cpu_to_le32(dest);
    op.u.set_irq.vector = vector;
    op.u.set_irq.delivery = delivery;
    return op;
}

struct xen_iommu_op pviommu_op_free_irqs(uint32_t handle)
{
    struct xen_iommu_op op = new_op(XEN_IOMMUOP_free_irqs);

    op.u.irqs.handle = cpu_to_le32(handle);
    return op;
}

struct xen_iommu_op pviommu_op_direct_irqs(uint32_t sbdf, bool on)
{
    struct xen_iommu_op op = new_op(XEN_IOMMUOP_direct_irqs);

    op.flags = cpu_to_le16(on ? XEN_IOMMUOP_direct_irqs_on : 0);
    op.u.direct_irqs.sbdf = cpu_to_le32(sbdf);
    return op;
}

int32_t pviommu_alloc_irqs(QXenPVIOMMU *iommu, uint32_t sbdf, uint32_t nr,
                           uint32_t *handle)
{
    struct xen_iommu_op op = pviommu_op_alloc_irqs(sbdf, nr);
    int32_t ret = pviommu_op(iommu, &op);

    *handle = le32_to_cpu(op.u.irqs.handle);
    return ret;
}

int32_t pviommu_set_irq(QXenPVIOMMU *iommu, uint32_t handle, uint32_t dest,
                        uint8_t vector, uint8_t delivery, uint16_t flags)
{
    struct xen_iommu_op op = pviommu_op_set_irq(handle, dest, vector, delivery,
                                                flags);

    return pviommu_op(iommu, &op);
}

int32_t pviommu_free_irqs(QXenPVIOMMU *iommu, uint32_t handle)
{
    struct xen_iommu_op op = pviommu_op_free_irqs(handle);

    return pviommu_op(iommu, &op);
}

int32_t pviommu_direct_irqs(QXenPVIOMMU *iommu, uint32_t sbdf, bool on)
{
    struct xen_iommu_op op = pviommu_op_direct_irqs(sbdf, on);

    return pviommu_op(iommu, &op);
}

int32_t pviommu_unmap_skip(QXenPVIOMMU *iommu, uint16_t ctx, uint64_t bfn,
                           uint32_t nr)
{
    return pviommu_run_one(iommu, pviommu_op_unmap_skip(ctx, bfn, nr));
}

int32_t pviommu_set_queue(QXenPVIOMMU *iommu, uint16_t ctx, uint64_t addr,
                          uint32_t nr_ops)
{
    return pviommu_run_one(iommu, pviommu_op_set_queue(ctx, addr, nr_ops));
}

uint16_t pviommu_alloc_context(QXenPVIOMMU *iommu)
{
    struct xen_iommu_op op = pviommu_op_alloc();

    assert_status(pviommu_op(iommu, &op), 0);
    g_assert_cmpuint(le16_to_cpu(op.u.context.ctx), !=, XEN_IOMMU_CTX_DEFAULT);
    return le16_to_cpu(op.u.context.ctx);
}

void pviommu_assert_mapped(QXenPVIOMMU *iommu, uint16_t ctx, uint64_t bfn,
                           uint64_t gfn, uint32_t nr, uint16_t flags)
{
    struct xen_iommu_op op = pviommu_op_lookup_bfn(ctx, bfn);

    assert_status(pviommu_op(iommu, &op), 0);
    g_assert_cmphex(le64_to_cpu(op.u.lookup.bfn), ==, bfn);
    g_assert_cmphex(le64_to_cpu(op.u.lookup.gfn), ==, gfn);
    g_assert_cmphex(le32_to_cpu(op.u.lookup.nr_frames), ==, nr);
    g_assert_cmphex(le16_to_cpu(op.flags), ==, flags);
}

void pviommu_assert_unmapped(QXenPVIOMMU *iommu, uint16_t ctx, uint64_t bfn)
{
    struct xen_iommu_op op = pviommu_op_lookup_bfn(ctx, bfn);

    assert_status(pviommu_op(iommu, &op), XEN_IOMMU_ENOENT);
}

void pviommu_assert_frames(QXenPVIOMMU *iommu, uint64_t mapped,
                           uint64_t pending)
{
    g_assert_cmpuint(pviommu_counter(iommu, XEN_PVIOMMU_COUNTER_MAPPED), ==,
                     mapped);
    g_assert_cmpuint(pviommu_counter(iommu, XEN_PVIOMMU_COUNTER_PENDING), ==,
                     pending);
}

bool pviommu_identity(QXenPVIOMMU *iommu)
{
    return pviommu_readl(iommu, XEN_PVIOMMU_REG_STATE) &
           XEN_IOMMU_STATE_identity;
}

void pviommu_queue_init(QPVIOMMUQueue *q, QXenPVIOMMU *iommu, uint16_t ctx,
                        uint64_t addr, uint32_t nr_ops)
{
    *q = (QPVIOMMUQueue) {
        .iommu = iommu,
        .ctx = ctx,
        .addr = addr,
        .nr_ops = nr_ops,
    };
    qtest_memset(iommu->qts, addr, 0, pviommu_queue_size(nr_ops));
    assert_status(pviommu_set_queue(iommu, ctx, addr, nr_ops), 0);
}

static uint32_t queue_field(QPVIOMMUQueue *q, size_t offset)
{
    return qtest_readl(q->iommu->qts, q->addr + offset);
}

uint32_t pviommu_queue_head(QPVIOMMUQueue *q)
{
    return queue_field(q, offsetof(struct xen_iommu_queue, head));
}

uint32_t pviommu_queue_errors(QPVIOMMUQueue *q)
{
    return queue_field(q, offsetof(struct xen_iommu_queue, errors));
}

uint32_t pviommu_queue_flags(QPVIOMMUQueue *q)
{
    return queue_field(q, offsetof(struct xen_iommu_queue, flags));
}

static uint64_t queue_op_addr(const QPVIOMMUQueue *q, uint32_t n)
{
    return q->addr + pviommu_queue_size(n % q->nr_ops);
}

uint32_t pviommu_queue_push(QPVIOMMUQueue *q, struct xen_iommu_op op)
{
    g_assert_cmpuint(q->tail - pviommu_queue_head(q), <, q->nr_ops);
    pviommu_store_ops(q->iommu, queue_op_addr(q, q->tail), &op, 1);
    q->tail++;
    qtest_writel(q->iommu->qts,
                 q->addr + offsetof(struct xen_iommu_queue, tail), q->tail);
    return q->tail - 1;
}

void pviommu_queue_kick(QPVIOMMUQueue *q)
{
    for (unsigned i = 0; pviommu_queue_head(q) != q->tail; i++) {
        g_assert_cmpuint(i, <, MAX_CALLS);
        assert_status(pviommu_ring(q->iommu, 0, 0, 0, NULL), 0);
    }
}

int32_t pviommu_queue_status(QPVIOMMUQueue *q, uint32_t n)
{
    uint64_t addr = queue_op_addr(q, n) + offsetof(struct xen_iommu_op, status);
    int32_t status = qtest_readl(q->iommu->qts, addr);

    /* A status of 0 is not stored. */
    g_assert_cmpint(status, !=, 0);
    if (status == PVIOMMU_STATUS_NONE) {
        return 0;
    }
    g_assert_cmpint(status, <, 0);
    return status;
}

void pviommu_wait_readl(QTestState *qts, uint64_t addr, uint32_t value)
{
    gint64 end = g_get_monotonic_time() + PVIOMMU_WAIT_US;
    uint32_t now;

    while ((now = qtest_readl(qts, addr)) != value &&
           g_get_monotonic_time() < end) {
        g_usleep(500);
    }
    g_assert_cmphex(now, ==, value);
}

void pviommu_fault_ring(QXenPVIOMMU *iommu, uint32_t size)
{
    pviommu_writel(iommu, XEN_PVIOMMU_REG_FAULT_CTRL, 0);
    qtest_memset(iommu->qts, PVIOMMU_RING_ADDR, 0xa5,
                 size * sizeof(struct xen_iommu_fault));
    pviommu_writeq(iommu, XEN_PVIOMMU_REG_FAULT_RING, PVIOMMU_RING_ADDR);
    pviommu_writel(iommu, XEN_PVIOMMU_REG_FAULT_SIZE, size);
    pviommu_writel(iommu, XEN_PVIOMMU_REG_FAULT_CTRL,
                   XEN_PVIOMMU_FAULT_CTRL_ENABLE);
    g_assert_cmphex(pviommu_readl(iommu, XEN_PVIOMMU_REG_FAULT_CTRL), ==,
                    XEN_PVIOMMU_FAULT_CTRL_ENABLE);
}

void pviommu_wait_faults(QXenPVIOMMU *iommu, uint32_t tail)
{
    pviommu_wait_readl(iommu->qts,
                       iommu->bar.addr + XEN_PVIOMMU_REG_FAULT_TAIL, tail);
}

struct xen_iommu_fault pviommu_fault(QXenPVIOMMU *iommu, uint32_t entry)
{
    uint32_t size = pviommu_readl(iommu, XEN_PVIOMMU_REG_FAULT_SIZE);
    struct xen_iommu_fault fault;

    qtest_bufread(iommu->qts,
                  PVIOMMU_RING_ADDR + (entry & (size - 1)) * sizeof(fault),
                  &fault, sizeof(fault));
    return fault;
}

void pviommu_assert_fault(QXenPVIOMMU *iommu, uint32_t entry, uint32_t sbdf,
                          uint16_t ctx, uint64_t addr, bool write,
                          uint32_t reason)
{
    struct xen_iommu_fault f = pviommu_fault(iommu, entry);

    g_assert_cmphex(le64_to_cpu(f.addr), ==, addr);
    g_assert_cmphex(le32_to_cpu(f.sbdf), ==, sbdf);
    g_assert_cmpuint(le16_to_cpu(f.ctx), ==, ctx);
    g_assert_cmphex(le16_to_cpu(f.flags), ==,
                    write ? XEN_IOMMU_FAULT_write : 0);
    g_assert_cmpuint(le32_to_cpu(f.reason), ==, reason);
    g_assert_cmphex(f.pad, ==, 0);
    g_assert_cmphex(f.pad1, ==, 0);
}

void pviommu_add(const char *path, void (*test)(void))
{
    g_autofree char *full = g_strdup_printf("/xen-pviommu/%s", path);

    qtest_add_func(full, test);
}

void pviommu_add_data(const char *path, const void *data,
                      void (*test)(const void *data))
{
    g_autofree char *full = g_strdup_printf("/xen-pviommu/%s", path);

    qtest_add_data_func(full, data, test);
}

void pviommu_add_for_machines(const char *path, void (*test)(const void *))
{
    static const char *const machines[] = { "pc", "q35" };

    for (size_t i = 0; i < ARRAY_SIZE(machines); i++) {
        g_autofree char *full = g_strdup_printf("%s/%s", machines[i], path);

        pviommu_add_data(full, machines[i], test);
    }
}
