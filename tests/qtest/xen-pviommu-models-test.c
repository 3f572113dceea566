/*
 * xen-pviommu: models that once did DMA past their own address space
 *
 * Each is given addresses that are mapped, at other numbers than the pages',
 * and some that are not, but are a page's number. In the end it is used again.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/bswap.h"
#include "hw/pci/pci_regs.h"
#include "libqos/xen-pviommu.h"
#include "hw/scsi/vmw_pvscsi.h"

#define SLOT            0x11

/* BFN + n is mapped to GFN + n; HOLE + n is not, and a page has that number. */
#define GFN             PVIOMMU_FREE_GFN
#define BFN             0x40000
#define HOLE            (GFN + 0x100)
#define NR              16
#define ADDR(frame)     ((uint64_t)(frame) * PVIOMMU_PAGE)

typedef struct Model {
    QXenPVIOMMU *iommu;
    QTestState *qts;
    QPCIDevice dev;
    QPCIBar bar[3];
} Model;

static void model_start(Model *m, const char *machine, const char *args,
                        unsigned nr_bars)
{
    QPCIAddress addr = { .devfn = QPCI_DEVFN(SLOT, 0) };

    m->iommu = pviommu_start(machine, NULL, args);
    m->qts = m->iommu->qts;
    qpci_device_init(&m->dev, m->iommu->pci, &addr);
    for (unsigned i = 0; i < nr_bars; i++) {
        m->bar[i] = qpci_iomap(&m->dev, i, NULL);
    }
    qpci_device_enable(&m->dev);
    pviommu_accept(m->iommu, XEN_IOMMU_FEATURES_ALL);
    assert_status(pviommu_map(m->iommu, 0, BFN, GFN, NR, 0), 0);
}

static uint64_t model_faults(Model *m)
{
    return pviommu_counter(m->iommu, XEN_PVIOMMU_COUNTER_FAULTS);
}

static void model_store(Model *m, uint64_t addr, const uint32_t *words,
                        unsigned nr)
{
    for (unsigned i = 0; i < nr; i++) {
        qtest_writel(m->qts, addr + 4 * i, words[i]);
    }
}

/* pvscsi: a page each for what it reads and writes. */
enum { STATE, REQUESTS, COMPLETIONS, SCATTER, DATA, SENSE };

#define PVSCSI_ARGS \
    "-blockdev driver=null-co,node-name=disk,size=1048576,read-zeroes=on " \
    "-device pvscsi,id=hba,addr=11 " \
    "-device scsi-hd,bus=hba.0,scsi-id=1,drive=disk"

typedef struct PVSCSI {
    Model m;
    uint32_t nr;                /* requests so far */
} PVSCSI;

/* With state and requests mapped, and the completions at @completions */
static void pvscsi_rings(PVSCSI *p, uint64_t completions)
{
    PVSCSICmdDescSetupRings rings = {
        .reqRingNumPages = cpu_to_le32(1),
        .cmpRingNumPages = cpu_to_le32(1),
        .ringsStatePPN = cpu_to_le64(BFN + STATE),
        .reqRingPPNs[0] = cpu_to_le64(BFN + REQUESTS),
        .cmpRingPPNs[0] = cpu_to_le64(completions),
    };
    const uint8_t *bytes = (const uint8_t *)&rings;
    uint64_t regs = p->m.bar[0].addr;

    qtest_writel(p->m.qts, regs + PVSCSI_REG_OFFSET_COMMAND,
                 PVSCSI_CMD_ADAPTER_RESET);
    qtest_writel(p->m.qts, regs + PVSCSI_REG_OFFSET_COMMAND,
                 PVSCSI_CMD_SETUP_RINGS);
    for (unsigned i = 0; i < sizeof(rings); i += 4) {
        qtest_writel(p->m.qts, regs + PVSCSI_REG_OFFSET_COMMAND_DATA,
                     ldl_le_p(bytes + i));
    }
    p->nr = 0;
}

/* One request, that has scatter list and sense at these addresses */
static void pvscsi_request(PVSCSI *p, uint8_t opcode, uint64_t scatter,
                           uint64_t sense, bool reply)
{
    QTestState *qts = p->m.qts;
    uint64_t state = ADDR(GFN + STATE);
    PVSCSIRingReqDesc req = {
        .context = cpu_to_le64(0x1234 + p->nr),
        .dataAddr = cpu_to_le64(scatter),
        .dataLen = cpu_to_le64(36),
        .senseAddr = cpu_to_le64(sense),
        .senseLen = cpu_to_le32(18),
        .flags = cpu_to_le32(PVSCSI_FLAG_CMD_WITH_SG_LIST |
                             PVSCSI_FLAG_CMD_DIR_TOHOST),
        .cdb = { opcode, [4] = 36 },
        .cdbLen = 6,
        .target = 1,
    };

    qtest_bufwrite(qts, ADDR(GFN + REQUESTS) + p->nr * sizeof(req), &req,
                   sizeof(req));
    p->nr++;
    qtest_writel(qts, state + offsetof(PVSCSIRingsState, reqProdIdx), p->nr);
    qtest_writel(qts, p->m.bar[0].addr + PVSCSI_REG_OFFSET_KICK_RW_IO, 0);
    if (reply) {
        pviommu_wait_readl(qts, state + offsetof(PVSCSIRingsState, cmpProdIdx),
                           p->nr);
    }
}

static PVSCSIRingCmpDesc pvscsi_completion(PVSCSI *p, uint64_t page)
{
    PVSCSIRingCmpDesc cmp;

    qtest_bufread(p->m.qts, ADDR(page) + (p->nr - 1) * sizeof(cmp), &cmp,
                  sizeof(cmp));
    return cmp;
}

static void pvscsi_assert_inquiry(PVSCSI *p)
{
    PVSCSIRingCmpDesc cmp;
    char vendor[8];

    qtest_memset(p->m.qts, ADDR(GFN + DATA), 0, 36);
    pvscsi_request(p, 0x12, ADDR(BFN + SCATTER), 0, true);
    cmp = pvscsi_completion(p, GFN + COMPLETIONS);
    g_assert_cmpuint(le64_to_cpu(cmp.context), ==, 0x1234 + p->nr - 1);
    g_assert_cmpuint(le16_to_cpu(cmp.hostStatus), ==, BTSTAT_SUCCESS);
    qtest_bufread(p->m.qts, ADDR(GFN + DATA) + 8, vendor, sizeof(vendor));
    g_assert_cmpint(memcmp(vendor, "QEMU    ", sizeof(vendor)), ==, 0);
}

static void test_pvscsi(const void *machine)
{
    const PVSCSISGElement element = {
        .addr = cpu_to_le64(ADDR(BFN + DATA)),
        .length = cpu_to_le32(36),
    };
    PVSCSI p = { .nr = 0 };
    QTestState *qts;
    uint64_t faults;

    model_start(&p.m, machine, PVSCSI_ARGS, 1);
    qts = p.m.qts;
    qtest_bufwrite(qts, ADDR(GFN + SCATTER), &element, sizeof(element));
    qtest_bufwrite(qts, ADDR(HOLE + SCATTER), &element, sizeof(element));

    pvscsi_rings(&p, BFN + COMPLETIONS);
    pvscsi_assert_inquiry(&p);
    /* An operation that it does not have: there is sense data. */
    pvscsi_request(&p, 0xff, ADDR(BFN + SCATTER), ADDR(BFN + SENSE), true);
    g_assert_cmphex(qtest_readb(qts, ADDR(GFN + SENSE)) & 0x7f, ==, 0x70);
    g_assert_cmpuint(model_faults(&p.m), ==, 0);

    /* Nowhere: neither read, nor written. */
    qtest_memset(qts, ADDR(GFN + DATA), 0, 36);
    pvscsi_request(&p, 0x12, ADDR(HOLE + SCATTER), 0, true);
    g_assert_cmphex(qtest_readl(qts, ADDR(GFN + DATA) + 8), ==, 0);
    faults = model_faults(&p.m);
    g_assert_cmpuint(faults, >, 0);
    pvscsi_request(&p, 0xff, ADDR(BFN + SCATTER), ADDR(HOLE + SENSE), true);
    g_assert_cmphex(qtest_readb(qts, ADDR(HOLE + SENSE)), ==, 0);
    g_assert_cmpuint(model_faults(&p.m), >, faults);
    faults = model_faults(&p.m);
    pvscsi_rings(&p, HOLE + COMPLETIONS);
    pvscsi_request(&p, 0x12, ADDR(BFN + SCATTER), 0, true);
    g_assert_cmpuint(pvscsi_completion(&p, HOLE + COMPLETIONS).context, ==, 0);
    g_assert_cmpuint(model_faults(&p.m), >, faults);
    faults = model_faults(&p.m);

    /* A request that cannot be read is none. */
    pvscsi_rings(&p, BFN + COMPLETIONS);
    assert_status(pviommu_unmap(p.m.iommu, 0, BFN + REQUESTS, 1), 0);
    pvscsi_request(&p, 0x12, ADDR(BFN + SCATTER), 0, false);
    g_assert_cmpuint(model_faults(&p.m), >, faults);
    g_assert_cmpuint(qtest_readl(qts, ADDR(GFN + STATE) +
                                 offsetof(PVSCSIRingsState, cmpProdIdx)),
                     ==, 0);
    assert_status(pviommu_map(p.m.iommu, 0, BFN + REQUESTS, GFN + REQUESTS,
                              1, 0), 0);

    pvscsi_rings(&p, BFN + COMPLETIONS);
    pvscsi_assert_inquiry(&p);
    pviommu_quit(p.m.iommu);
}

/* The 53C8xx: registers are BAR 1, RAM is BAR 2. */
#define LSI_DSTAT       0x0c
#define  LSI_DSTAT_BF           0x20
#define  LSI_DSTAT_SIR          0x04
#define LSI_DSP         0x2c
#define LSI_DSPS        0x30
#define LSI_SCRATCHA    0x34
#define LSI_DMODE       0x38
#define  LSI_DMODE_DIOM         0x10
#define  LSI_DMODE_SIOM         0x20

/* Words of SCRIPTS: move some bytes; stop, with a number in DSPS */
#define SCRIPT_MOVE(len)        (0xc0000000 | (len))
#define SCRIPT_INT              0x98080000

/* Run what is at @addr; returns DSTAT, which tells why it stopped. */
static uint8_t lsi_run(Model *m, uint64_t addr)
{
    qtest_readb(m->qts, m->bar[1].addr + LSI_DSTAT);
    qtest_writel(m->qts, m->bar[1].addr + LSI_DSP, addr);
    return qtest_readb(m->qts, m->bar[1].addr + LSI_DSTAT);
}

static uint32_t lsi_reg(Model *m, unsigned reg)
{
    return qtest_readl(m->qts, m->bar[1].addr + reg);
}

static void lsi_assert_ram(Model *m)
{
    uint64_t ram = m->bar[2].addr, regs = m->bar[1].addr;
    const uint32_t script[] = {
        SCRIPT_MOVE(4), ram + 0x100, regs + LSI_SCRATCHA,
        SCRIPT_MOVE(4), regs + LSI_SCRATCHA, ram + 0x104,
        SCRIPT_INT, 0x42,
    };
    uint64_t faults = model_faults(m);

    model_store(m, ram, script, ARRAY_SIZE(script));
    qtest_writel(m->qts, ram + 0x100, 0x12345678);
    qtest_writel(m->qts, ram + 0x104, 0);
    g_assert_cmphex(lsi_run(m, ram) & LSI_DSTAT_SIR, !=, 0);
    g_assert_cmphex(lsi_reg(m, LSI_DSPS), ==, 0x42);
    g_assert_cmphex(lsi_reg(m, LSI_SCRATCHA), ==, 0x12345678);
    g_assert_cmphex(qtest_readl(m->qts, ram + 0x104), ==, 0x12345678);
    g_assert_cmpuint(model_faults(m), ==, faults);
}

static void test_lsi(const char *machine, const char *type)
{
    g_autofree char *args = g_strdup_printf("-device %s,addr=%x", type, SLOT);
    const uint32_t mapped[] = {
        SCRIPT_MOVE(8), ADDR(BFN + 1), ADDR(BFN + 2),
        SCRIPT_INT, 0x43,
    };
    const uint32_t unmapped[] = {
        SCRIPT_MOVE(8), ADDR(HOLE), ADDR(BFN + 2),
        SCRIPT_MOVE(8), ADDR(BFN + 1), ADDR(HOLE + 1),
        SCRIPT_INT, 0x44,
    };
    uint32_t to_port[] = { SCRIPT_MOVE(4), 0, 0xcf8, SCRIPT_INT, 0x45 };
    uint64_t faults;
    Model m;

    model_start(&m, machine, args, 3);
    lsi_assert_ram(&m);

    model_store(&m, ADDR(GFN), mapped, ARRAY_SIZE(mapped));
    qtest_writeq(m.qts, ADDR(GFN + 1), 0x123456789abcdef0);
    g_assert_cmphex(lsi_run(&m, ADDR(BFN)) & LSI_DSTAT_SIR, !=, 0);
    g_assert_cmphex(lsi_reg(&m, LSI_DSPS), ==, 0x43);
    g_assert_cmphex(qtest_readq(m.qts, ADDR(GFN + 2)), ==, 0x123456789abcdef0);
    g_assert_cmpuint(model_faults(&m), ==, 0);

    model_store(&m, ADDR(GFN), unmapped, ARRAY_SIZE(unmapped));
    qtest_writeq(m.qts, ADDR(HOLE), 0x5555555555555555);
    lsi_run(&m, ADDR(BFN));
    g_assert_cmphex(lsi_reg(&m, LSI_DSPS), ==, 0x44);
    g_assert_cmphex(qtest_readq(m.qts, ADDR(GFN + 2)), !=, 0x5555555555555555);
    g_assert_cmphex(qtest_readq(m.qts, ADDR(HOLE + 1)), ==, 0);
    faults = model_faults(&m);
    g_assert_cmpuint(faults, ==, 2);

    /* SCRIPTS that cannot be read: it stops, and does not go on looking. */
    model_store(&m, ADDR(HOLE), mapped, ARRAY_SIZE(mapped));
    g_assert_cmphex(lsi_run(&m, ADDR(HOLE)) & LSI_DSTAT_BF, !=, 0);
    qtest_clock_step(m.qts, 100 * 1000 * 1000);
    g_assert_cmphex(lsi_reg(&m, LSI_DSPS), ==, 0x44);
    g_assert_cmpuint(model_faults(&m), ==, faults + 1);

    /* No way to the machine's ports. */
    to_port[1] = ADDR(BFN + 1);
    model_store(&m, ADDR(GFN), to_port, ARRAY_SIZE(to_port));
    qtest_writel(m.qts, ADDR(GFN + 1), 0x80000804);
    qtest_outl(m.qts, 0xcf8, 0x80000000);
    qtest_writeb(m.qts, m.bar[1].addr + LSI_DMODE, LSI_DMODE_DIOM);
    lsi_run(&m, ADDR(BFN));
    g_assert_cmphex(lsi_reg(&m, LSI_DSPS), ==, 0x45);
    g_assert_cmphex(qtest_inl(m.qts, 0xcf8), ==, 0x80000000);
    to_port[1] = 0xcf8;
    to_port[2] = ADDR(BFN + 3);
    model_store(&m, ADDR(GFN), to_port, ARRAY_SIZE(to_port));
    qtest_writeb(m.qts, m.bar[1].addr + LSI_DMODE, LSI_DMODE_SIOM);
    lsi_run(&m, ADDR(BFN));
    g_assert_cmphex(qtest_readl(m.qts, ADDR(GFN + 3)), ==, 0xffffffff);
    qtest_writeb(m.qts, m.bar[1].addr + LSI_DMODE, 0);

    lsi_assert_ram(&m);
    pviommu_quit(m.iommu);
}

static void test_lsi53c895a(const void *machine)
{
    test_lsi(machine, "lsi53c895a");
}

static void test_lsi53c810(const void *machine)
{
    test_lsi(machine, "lsi53c810");
}

/* EHCI, in its BAR 0 */
#define EHCI_USBCMD     0x20
#define  EHCI_USBCMD_RUN        (1 << 0)
#define  EHCI_USBCMD_RESET      (1 << 1)
#define  EHCI_USBCMD_ASYNC      (1 << 5)
#define EHCI_USBSTS     0x24
#define  EHCI_USBSTS_HSE        (1 << 4)
#define EHCI_ASYNCLIST  0x38
#define EHCI_CONFIGFLAG 0x60
#define EHCI_PORTSC     0x64
#define  EHCI_PORTSC_RESET      (1 << 8)
#define QTD             0x100
#define QTD_TOKEN       (QTD + 8)
#define  QTD_ACTIVE             (1 << 7)
#define QTD_DATA        0x200

/* A schedule in the page @ram: the first packet for the device at address 0. */
static void ehci_make_schedule(Model *m, uint64_t ram, uint64_t bus)
{
    const uint32_t qh[] = {
        bus | 2, 64 << 16 | 3 << 14 | 2 << 12, 1 << 30, 0, bus + QTD, 1,
    };
    const uint32_t qtd[] = {
        1, 1, 8 << 16 | 3 << 10 | 2 << 8 | QTD_ACTIVE, bus + QTD_DATA,
    };
    const uint8_t get_descriptor[] = { 0x80, 0x06, 0, 1, 0, 0, 18, 0 };

    qtest_memset(m->qts, ram, 0, PVIOMMU_PAGE);
    model_store(m, ram, qh, ARRAY_SIZE(qh));
    model_store(m, ram + QTD, qtd, ARRAY_SIZE(qtd));
    qtest_bufwrite(m->qts, ram + QTD_DATA, get_descriptor,
                   sizeof(get_descriptor));
}

/* Run it; returns USBSTS after some frames. */
static uint32_t ehci_run(Model *m, uint64_t bus)
{
    uint64_t regs = m->bar[0].addr;

    qtest_writel(m->qts, regs + EHCI_USBCMD, EHCI_USBCMD_RESET);
    qtest_writel(m->qts, regs + EHCI_CONFIGFLAG, 1);
    qtest_writel(m->qts, regs + EHCI_PORTSC, EHCI_PORTSC_RESET);
    qtest_writel(m->qts, regs + EHCI_PORTSC, 0);
    qtest_writel(m->qts, regs + EHCI_ASYNCLIST, bus);
    qtest_writel(m->qts, regs + EHCI_USBCMD,
                 EHCI_USBCMD_RUN | EHCI_USBCMD_ASYNC);
    for (unsigned i = 0; i < 20; i++) {
        qtest_clock_step(m->qts, 5 * 1000 * 1000);
    }
    return qtest_readl(m->qts, regs + EHCI_USBSTS);
}

static void ehci_assert_works(Model *m)
{
    uint64_t faults = model_faults(m);

    ehci_make_schedule(m, ADDR(GFN), ADDR(BFN));
    g_assert_cmphex(ehci_run(m, ADDR(BFN)) & EHCI_USBSTS_HSE, ==, 0);
    g_assert_cmphex(qtest_readl(m->qts, ADDR(GFN) + QTD_TOKEN) & 0xff, ==, 0);
    g_assert_cmpuint(model_faults(m), ==, faults);
}

/* @page is nowhere: the controller stops, and leaves the page alone. */
static void ehci_assert_stops(Model *m, uint64_t page)
{
    ehci_make_schedule(m, ADDR(page), ADDR(page));
    g_assert_cmphex(ehci_run(m, ADDR(page)) & EHCI_USBSTS_HSE, !=, 0);
    g_assert_cmphex(qtest_readl(m->qts, m->bar[0].addr + EHCI_USBCMD) &
                    EHCI_USBCMD_RUN, ==, 0);
    g_assert_cmphex(qtest_readl(m->qts, ADDR(page) + QTD_TOKEN) & 0xff, ==,
                    QTD_ACTIVE);
}

static void test_ehci(const void *machine)
{
    uint16_t cmd;
    Model m;

    model_start(&m, machine, "-device usb-ehci,id=usb,addr=11 "
                "-device usb-tablet,bus=usb.0", 1);
    ehci_assert_works(&m);

    ehci_assert_stops(&m, HOLE);
    g_assert_cmpuint(model_faults(&m), ==, 1);

    cmd = qpci_config_readw(&m.dev, PCI_COMMAND);
    qpci_config_writew(&m.dev, PCI_COMMAND, cmd & ~PCI_COMMAND_MASTER);
    ehci_assert_stops(&m, GFN);
    ehci_assert_stops(&m, HOLE);
    qpci_config_writew(&m.dev, PCI_COMMAND, cmd);

    ehci_assert_works(&m);
    pviommu_quit(m.iommu);
}

/* AHCI: registers of port 0, in BAR 5 */
#define AHCI_ARGS \
    "-blockdev driver=null-co,node-name=disk,size=1048576,read-zeroes=on " \
    "-device ich9-ahci,id=ahci,addr=11 -device ide-hd,bus=ahci.0,drive=disk"
#define AHCI_GHC        0x04
#define  AHCI_GHC_AE            (1u << 31)
#define AHCI_P_CLB      0x100
#define AHCI_P_FB       0x108
#define AHCI_P_IS       0x110
#define  AHCI_P_IS_HBFS         (1u << 29)
#define AHCI_P_CMD      0x118
#define  AHCI_P_CMD_ST          (1u << 0)
#define  AHCI_P_CMD_FRE         (1u << 4)
#define AHCI_P_CI       0x138

/* Its pages; the table begins shortly before the end of its first one. */
enum { LIST, FIS, TABLE, TABLE_END, BUFFER, OTHER_LIST, OTHER_FIS, OTHER_END };
#define AHCI_TABLE      (TABLE * PVIOMMU_PAGE + 0xf00)
/* Of its PRDs all are in the first page but the last, which has the most. */
#define AHCI_PRDS       9
#define AHCI_SMALL_PRD  2
#define AHCI_PIO_FIS    0x20

typedef struct AHCI {
    Model m;
    uint64_t regs;
} AHCI;

static void ahci_write(AHCI *a, uint64_t reg, uint32_t value)
{
    qtest_writel(a->m.qts, a->regs + reg, value);
}

static uint32_t ahci_read(AHCI *a, uint64_t reg)
{
    return qtest_readl(a->m.qts, a->regs + reg);
}

/* Stop and start the port, with list and received FISes where they are. */
static void ahci_restart(AHCI *a)
{
    ahci_write(a, AHCI_P_CMD, 0);
    ahci_write(a, AHCI_P_CLB, ADDR(BFN + LIST));
    ahci_write(a, AHCI_P_FB, ADDR(BFN + FIS));
    ahci_write(a, AHCI_P_IS, ~0u);
    ahci_write(a, AHCI_P_CMD, AHCI_P_CMD_FRE);
    ahci_write(a, AHCI_P_CMD, AHCI_P_CMD_FRE | AHCI_P_CMD_ST);
}

static void ahci_map(AHCI *a, unsigned page, unsigned to)
{
    assert_status(pviommu_map(a->m.iommu, 0, BFN + page, GFN + to, 1, 0), 0);
}

static void ahci_unmap(AHCI *a, unsigned page)
{
    assert_status(pviommu_unmap(a->m.iommu, 0, BFN + page, 1), 0);
    assert_status(pviommu_flush(a->m.iommu, 0, BFN + page, 1), 0);
}

/* An IDENTIFY DEVICE in slot 0 of the list in page @list; the rest cleared */
static void ahci_make_command(AHCI *a, unsigned list)
{
    const uint32_t header[] = { AHCI_PRDS << 16 | 5, 0,
                                ADDR(BFN) + AHCI_TABLE, 0 };

    qtest_memset(a->m.qts, ADDR(GFN + LIST), 0, 64);
    qtest_memset(a->m.qts, ADDR(GFN + OTHER_LIST), 0, 64);
    qtest_memset(a->m.qts, ADDR(GFN + FIS), 0, 256);
    qtest_memset(a->m.qts, ADDR(GFN + OTHER_FIS), 0, 256);
    qtest_memset(a->m.qts, ADDR(GFN + BUFFER), 0, 512);
    model_store(&a->m, ADDR(GFN + list), header, ARRAY_SIZE(header));
}

static bool ahci_was_received(AHCI *a, unsigned fis)
{
    return qtest_readb(a->m.qts, ADDR(GFN + fis) + AHCI_PIO_FIS) == 0x5f;
}

static void ahci_assert_works(AHCI *a, unsigned list, unsigned fis)
{
    uint64_t faults = model_faults(&a->m);

    ahci_make_command(a, list);
    ahci_write(a, AHCI_P_CI, 1);
    pviommu_wait_readl(a->m.qts, a->regs + AHCI_P_CI, 0);
    /* All of its data, in the middle of which this bit is always set */
    g_assert_cmpuint(qtest_readl(a->m.qts, ADDR(GFN + list) + 4), ==, 512);
    g_assert_cmphex(qtest_readw(a->m.qts, ADDR(GFN + BUFFER) + 2 * 106) &
                    0x4000, !=, 0);
    g_assert_true(ahci_was_received(a, fis));
    g_assert_cmpuint(model_faults(&a->m), ==, faults);
}

static void test_ahci(const void *machine)
{
    const uint32_t fis = 0x00ec8027;
    uint64_t faults;
    AHCI a;

    model_start(&a.m, machine, AHCI_ARGS, 0);
    a.regs = qpci_iomap(&a.m.dev, 5, NULL).addr;
    qpci_device_enable(&a.m.dev);
    ahci_write(&a, AHCI_GHC, AHCI_GHC_AE);

    /* The table's pages are no neighbours. */
    ahci_unmap(&a, TABLE_END);
    ahci_map(&a, TABLE_END, OTHER_END);
    qtest_writel(a.m.qts, ADDR(GFN) + AHCI_TABLE, fis);
    for (unsigned i = 0; i < AHCI_PRDS; i++) {
        const unsigned done = i * AHCI_SMALL_PRD;
        const uint32_t prd[] = {
            ADDR(BFN + BUFFER) + done, 0, 0,
            (i < AHCI_PRDS - 1 ? AHCI_SMALL_PRD : 512 - done) - 1,
        };
        uint64_t at = ADDR(GFN) + AHCI_TABLE + 0x80 + i * sizeof(prd);

        if (at >= ADDR(GFN + TABLE_END)) {
            at += ADDR(OTHER_END - TABLE_END);
        }
        model_store(&a.m, at, prd, ARRAY_SIZE(prd));
    }
    ahci_restart(&a);
    ahci_assert_works(&a, LIST, FIS);

    /* The port runs on while other pages get these addresses. */
    ahci_unmap(&a, LIST);
    ahci_unmap(&a, FIS);
    ahci_map(&a, LIST, OTHER_LIST);
    ahci_map(&a, FIS, OTHER_FIS);
    ahci_assert_works(&a, OTHER_LIST, OTHER_FIS);
    g_assert_cmpuint(qtest_readl(a.m.qts, ADDR(GFN + LIST) + 4), ==, 0);
    g_assert_false(ahci_was_received(&a, FIS));

    /* Nobody has them: the command is not seen, and none is received. */
    ahci_unmap(&a, FIS);
    ahci_make_command(&a, OTHER_LIST);
    faults = model_faults(&a.m);
    ahci_write(&a, AHCI_P_CI, 1);
    pviommu_wait_readl(a.m.qts, a.regs + AHCI_P_CI, 0);
    g_assert_false(ahci_was_received(&a, OTHER_FIS));
    g_assert_cmpuint(model_faults(&a.m), >, faults);
    ahci_unmap(&a, LIST);
    ahci_make_command(&a, OTHER_LIST);
    ahci_write(&a, AHCI_P_CI, 1);
    g_assert_cmphex(ahci_read(&a, AHCI_P_IS) & AHCI_P_IS_HBFS, !=, 0);
    g_assert_cmpuint(qtest_readl(a.m.qts, ADDR(GFN + OTHER_LIST) + 4), ==, 0);
    g_assert_cmphex(qtest_readw(a.m.qts, ADDR(GFN + BUFFER) + 2 * 106), ==, 0);

    ahci_map(&a, LIST, LIST);
    ahci_map(&a, FIS, FIS);
    ahci_restart(&a);
    ahci_assert_works(&a, LIST, FIS);
    pviommu_quit(a.m.iommu);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);

    pviommu_add_for_machines("models/pvscsi", test_pvscsi);
    pviommu_add_for_machines("models/lsi53c895a", test_lsi53c895a);
    pviommu_add_for_machines("models/lsi53c810", test_lsi53c810);
    pviommu_add_for_machines("models/usb-ehci", test_ehci);
    pviommu_add_for_machines("models/ich9-ahci", test_ahci);
    return g_test_run();
}
