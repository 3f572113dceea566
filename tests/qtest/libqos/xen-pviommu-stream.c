/*
 * Streams of xen-pviommu's state: saved, damaged, loaded, and what a machine
 * can do after that
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/bswap.h"
#include "qobject/qlist.h"
#include "hw/pci/pci_regs.h"
#include "libqos/xen-pviommu-qmp.h"
#include "libqos/xen-pviommu-stream.h"

#define V1_STREAM       "data/xen-pviommu-v1.stream"

/* Where devices get their BARs again, as often as it takes. */
#define PROBE_BASE      0xe8000000ull

static char *dir;

void stream_begin(void)
{
    dir = g_dir_make_tmp("pviommu-stream-XXXXXX", NULL);
    g_assert_nonnull(dir);
}

char *stream_file(const char *name)
{
    return g_build_filename(dir, name, NULL);
}

QXenPVIOMMU *stream_start(const char *props, const char *extra)
{
    g_autofree char *all = g_strconcat(TWO_EDUS, extra, NULL);

    return pviommu_start("q35", props, all);
}

void stream_stop(QXenPVIOMMU *iommu)
{
    qtest_qmp_assert_success(iommu->qts, "{'execute': 'stop'}");
}

void stream_cont(QXenPVIOMMU *iommu)
{
    qtest_qmp_assert_success(iommu->qts, "{'execute': 'cont'}");
}

size_t stream_find(const uint8_t *data, size_t len, size_t from,
                   const void *what, size_t what_len)
{
    for (; from + what_len <= len; from++) {
        if (!memcmp(data + from, what, what_len)) {
            return from;
        }
    }
    return OFFSET_NONE;
}

/* What follows a section: the type and ID of the next, and its name. */
static bool next_section(const uint8_t *data, size_t len)
{
    const unsigned name = 1 + 4 + 1;

    return len > name + 4 && data[0] == 4 && data[name - 1] >= 4 &&
           g_ascii_isgraph(data[name]) && g_ascii_isgraph(data[name + 1]) &&
           g_ascii_isgraph(data[name + 2]) && g_ascii_isgraph(data[name + 3]);
}

/* Of the one at @start; before its name are type and ID, as in the footer. */
static size_t section_end(const uint8_t *data, size_t len, size_t start)
{
    uint8_t footer[5] = { 0x7e };
    size_t end = start;

    memcpy(footer + 1, data + start + 1, 4);
    do {
        end = stream_find(data, len, end, footer, sizeof(footer));
        g_assert_cmpuint(end, !=, OFFSET_NONE);
        end += sizeof(footer);
    } while (!next_section(data + end, len - end));
    return end;
}

void stream_save(QXenPVIOMMU *iommu, const char *path)
{
    static const char name[] = "\x18" "0000:00:10.0/xen-pviommu";
    g_autofree char *full = stream_file("full");
    g_autofree char *text = NULL;
    g_autofree char *own = NULL;
    size_t len, start, end;
    uint8_t *data;

    qtest_qmp_assert_success(iommu->qts,
                             "{'execute': 'xen-save-devices-state',"
                             " 'arguments': {'filename': %s, 'live': false}}",
                             full);
    g_assert_true(g_file_get_contents(full, &text, &len, NULL));
    data = (uint8_t *)text;
    start = stream_find(data, len, 0, name, strlen(name));
    g_assert_cmpuint(start, !=, OFFSET_NONE);
    start -= 5;
    end = section_end(data, len, start);

    /* The zero behind it is the stream's end. */
    own = g_malloc0(HEADER + end - start + 1);
    memcpy(own, data, HEADER);
    memcpy(own + HEADER, data + start, end - start);
    g_assert_true(g_file_set_contents(path, own, HEADER + end - start + 1,
                                      NULL));
}

void stream_number_bus(QXenPVIOMMU *iommu)
{
    QPCIDevice *port = qpci_device_find(iommu->pci, QPCI_DEVFN(PORT_SLOT, 0));

    qpci_config_writeb(port, PCI_PRIMARY_BUS, 0);
    qpci_config_writeb(port, PCI_SECONDARY_BUS, PORT_BUS);
    qpci_config_writeb(port, PCI_SUBORDINATE_BUS, PORT_BUS);
    g_free(port);
}

void stream_init_edu(QEdu *edu, QXenPVIOMMU *iommu)
{
    edu_init(edu, iommu, QPCI_DEVFN(EDU_SLOT, 0));
}

uint64_t stream_run_bfn(unsigned i)
{
    return 0x100000ull + i * 3 + ((uint64_t)(i % 4) << 30);
}

uint32_t stream_run_nr(unsigned i)
{
    return 1 + i % 2;
}

void stream_fill(QXenPVIOMMU *iommu)
{
    QEdu edu;
    uint16_t a, b, c;

    stream_number_bus(iommu);
    pviommu_accept(iommu, FEATURES);
    a = pviommu_alloc_context(iommu);
    b = pviommu_alloc_context(iommu);
    c = pviommu_alloc_context(iommu);
    g_assert_cmpuint(a, ==, 1);
    g_assert_cmpuint(c, ==, 3);
    assert_status(pviommu_free_context(iommu, b), 0);
    assert_status(pviommu_attach(iommu, EDU_SBDF, a), 0);
    assert_status(pviommu_attach(iommu, BEHIND_SBDF, c), 0);

    for (unsigned i = 0; i < RUNS; i++) {
        assert_status(pviommu_map(iommu, i % 3 ? a : c, stream_run_bfn(i),
                                  GFN(i * 5), stream_run_nr(i), i % 2), 0);
    }
    /* Pending: a part of a run; all of one whose BFN is used again. */
    assert_status(pviommu_map(iommu, a, 0x10, GFN(0x1000), 8, 0), 0);
    assert_status(pviommu_map(iommu, a, 0x20, GFN(0x1010), 1, 1), 0);
    assert_status(pviommu_unmap(iommu, a, 0x12, 3), 0);
    assert_status(pviommu_unmap(iommu, a, 0x20, 1), 0);
    assert_status(pviommu_map(iommu, a, 0x20, GFN(0x1020), 1, 0), 0);
    /* As large as they come, in the default context. */
    assert_status(pviommu_map(iommu, 0, 0xfff000000, GFN(0), 0x4000, 0), 0);

    stream_init_edu(&edu, iommu);
    edu_map_window(&edu, iommu, a, 0);
    pviommu_fault_ring(iommu, FAULT_RING_SIZE);
    for (unsigned i = 0; i < FAULTS; i++) {
        edu_dma(&edu, false, 0x5000000 + i * PVIOMMU_PAGE, 4);
    }
    pviommu_wait_faults(iommu, FAULT_RING_SIZE);
    /* A call that fails leaves that in its block. */
    assert_status(pviommu_ring(iommu, 63, 0xffffffffff000, 1, NULL),
                  XEN_IOMMU_EFAULT);
}

void stream_check(QXenPVIOMMU *iommu)
{
    uint64_t mapped = 8 - 3 + 1 + 0x4000 + 1;
    struct xen_iommu_op op;

    g_assert_false(pviommu_identity(iommu));
    g_assert_cmphex(pviommu_readq(iommu, XEN_PVIOMMU_REG_ACCEPTED), ==,
                    FEATURES);
    for (unsigned i = 0; i < RUNS; i++) {
        pviommu_assert_mapped(iommu, i % 3 ? 1 : 3, stream_run_bfn(i),
                              GFN(i * 5), stream_run_nr(i), i % 2);
        pviommu_assert_unmapped(iommu, i % 3 ? 3 : 1, stream_run_bfn(i));
        mapped += stream_run_nr(i);
    }
    pviommu_assert_mapped(iommu, 1, 0x10, GFN(0x1000), 2, 0);
    pviommu_assert_unmapped(iommu, 1, 0x12);
    pviommu_assert_mapped(iommu, 1, 0x15, GFN(0x1005), 3, 0);
    pviommu_assert_mapped(iommu, 1, 0x20, GFN(0x1020), 1, 0);
    pviommu_assert_mapped(iommu, 0, 0xfff000000, GFN(0), 0x4000, 0);
    pviommu_assert_frames(iommu, mapped, 4);
    op = pviommu_op_lookup_gfn(1, GFN(0x1010), 0);
    assert_status(pviommu_op(iommu, &op), XEN_IOMMU_ENOENT);
    op = pviommu_op_lookup_bfn(2, 0);
    assert_status(pviommu_op(iommu, &op), XEN_IOMMU_ENOENT);
    assert_status(pviommu_free_context(iommu, 1), XEN_IOMMU_EBUSY);
    assert_status(pviommu_free_context(iommu, 3), XEN_IOMMU_EBUSY);
    assert_status(pviommu_free_context(iommu, 2), XEN_IOMMU_ENOENT);
    assert_status((int32_t)pviommu_readl(iommu, XEN_PVIOMMU_BLOCKS +
                                         63 * XEN_PVIOMMU_BLOCK_STRIDE +
                                         XEN_PVIOMMU_BLOCK_RESULT),
                  XEN_IOMMU_EFAULT);
}

void stream_check_faults(QXenPVIOMMU *iommu)
{
    g_assert_cmpuint(pviommu_readl(iommu, XEN_PVIOMMU_REG_FAULT_TAIL), ==,
                     FAULT_RING_SIZE);
    g_assert_cmpuint(pviommu_counter(iommu, XEN_PVIOMMU_COUNTER_FAULTS), ==,
                     FAULTS);
    pviommu_writel(iommu, XEN_PVIOMMU_REG_FAULT_HEAD, FAULT_RING_SIZE);
    pviommu_wait_faults(iommu, FAULTS);
    for (unsigned i = FAULT_RING_SIZE; i < FAULTS; i++) {
        pviommu_assert_fault(iommu, i, EDU_SBDF, 1,
                             0x5000000 + i * PVIOMMU_PAGE, false,
                             XEN_IOMMU_FAULT_REASON_unmapped);
    }
}

void stream_check_dma(QXenPVIOMMU *iommu)
{
    QEdu edu;

    stream_init_edu(&edu, iommu);
    edu_assert_access(&edu, 0x20 * PVIOMMU_PAGE,
                      (uint64_t)GFN(0x1020) * PVIOMMU_PAGE, 64);
    edu_assert_no_access(&edu, 0x12 * PVIOMMU_PAGE,
                         (uint64_t)GFN(0x1002) * PVIOMMU_PAGE, 64);
    edu_assert_readonly(&edu, stream_run_bfn(1) * PVIOMMU_PAGE,
                        (uint64_t)GFN(5) * PVIOMMU_PAGE, 64);
}

char *stream_v1(void)
{
    return g_test_build_filename(G_TEST_DIST, V1_STREAM, NULL);
}

void stream_assert_printed(const char *path, const char *text)
{
    g_autofree char *all = NULL;

    g_assert_true(g_file_get_contents(path, &all, NULL, NULL));
    if (!strstr(all, text)) {
        g_test_message("'%s' is not in '%s'", text, all);
        g_assert_not_reached();
    }
}

void stream_push_map(QPVIOMMUQueue *q, uint64_t bfn, uint64_t gfn)
{
    pviommu_queue_push(q, pviommu_op_map(q->ctx, bfn, gfn, 0, 0));
}

void stream_fill_queues(QXenPVIOMMU *iommu, QPVIOMMUQueue *q)
{
    pviommu_accept(iommu, XEN_IOMMU_FEATURES_ALL);
    assert_status(pviommu_enable(iommu), 0);
    g_assert_cmpuint(pviommu_alloc_context(iommu), ==, 1);
    pviommu_queue_init(&q[0], iommu, 0, QUEUE(0), 4);
    pviommu_queue_init(&q[1], iommu, 1, QUEUE(1), 1024);
    stream_push_map(&q[0], 1, GFN(1));
    stream_push_map(&q[0], 1, GFN(2));
    stream_push_map(&q[0], 2, GFN(2));
}

uint8_t *stream_queues(size_t *len, size_t *at, unsigned *first)
{
    g_autofree char *path = stream_file("queues");
    QXenPVIOMMU *iommu = stream_start(NULL, "");
    QPVIOMMUQueue q[2];
    char *data;

    stream_fill_queues(iommu, q);
    stream_stop(iommu);
    stream_save(iommu, path);
    pviommu_quit(iommu);
    g_assert_true(g_file_get_contents(path, &data, len, NULL));
    *at = stream_find((uint8_t *)data, *len, 0, QUEUES_NAME,
                      strlen(QUEUES_NAME));
    g_assert_cmpuint(*at, !=, OFFSET_NONE);
    g_assert_cmpuint(ldl_be_p(data + *at + QUEUES_NR), ==, 2);
    *first = lduw_be_p(data + *at + QUEUE_FIELD(0, QUEUE_CTX)) ? 1 : 0;
    g_assert_cmphex(ldq_be_p(data + *at + QUEUE_FIELD(*first, QUEUE_ADDR)), ==,
                    QUEUE(0));
    return (uint8_t *)data;
}

void stream_cleanup(void)
{
    GDir *d = g_dir_open(dir, 0, NULL);
    const char *name;

    while (d && (name = g_dir_read_name(d))) {
        g_autofree char *path = stream_file(name);

        unlink(path);
    }
    g_clear_pointer(&d, g_dir_close);
    rmdir(dir);
    g_free(dir);
}


/* In what snapshot-save stores. */
static void find_section(QStream *st)
{
    static const char name[] = "\x18" "0000:00:10.0/xen-pviommu";
    g_autofree char *image = NULL;
    size_t len, end;

    g_assert_true(g_file_get_contents(st->path, &image, &len, NULL));
    st->at = stream_find((uint8_t *)image, len, 0, name, strlen(name));
    g_assert_cmpuint(st->at, !=, OFFSET_NONE);
    st->at -= 5;
    end = section_end((uint8_t *)image, len, st->at);
    st->len = end - st->at;
    st->data = g_memdup2(image + st->at, st->len);
}

void stream_init(QStream *st, const char *name)
{
    st->path = stream_file(name);
    st->ram = g_strdup_printf("%s.ram", st->path);
    st->args = g_strdup_printf("-machine memory-backend=ram "
                               "-object memory-backend-file,id=ram,share=on,"
                               "size=%u,mem-path=%s ", PVIOMMU_RAM, st->ram);
    st->fd = -1;
}

void stream_free(QStream *st)
{
    if (st->fd >= 0) {
        close(st->fd);
    }
    g_free(st->path);
    g_free(st->ram);
    g_free(st->args);
    g_free(st->data);
}

/* RAM is where it is: what is left is the state of the devices. */
static void leave_ram_out(QTestState *qts)
{
    qtest_qmp_assert_success(qts,
        "{'execute': 'migrate-set-capabilities', 'arguments':"
        " {'capabilities': [{'capability': 'x-ignore-shared',"
        " 'state': true}]}}");
}

void stream_record(QStream *st, QXenPVIOMMU *iommu)
{
    snapshot_image(iommu->qts, st->path);
    leave_ram_out(iommu->qts);
    stream_stop(iommu);
    g_assert_cmpstr(snapshot_run(iommu->qts, "snapshot-save"), ==, NULL);
    find_section(st);
    st->fd = open(st->path, O_WRONLY);
    g_assert_cmpint(st->fd, >=, 0);
}

void stream_open(QStream *st, QXenPVIOMMU *iommu)
{
    snapshot_open(iommu->qts, st->path);
    leave_ram_out(iommu->qts);
}

bool stream_load(QStream *st, QXenPVIOMMU *iommu, const uint8_t *data)
{
    g_autofree char *error = NULL;

    g_assert_cmpint(pwrite(st->fd, data ?: st->data, st->len, st->at), ==,
                    st->len);
    qtest_qmp_assert_success(iommu->qts, "{'execute': 'stop'}");
    error = snapshot_run(iommu->qts, "snapshot-load");
    return !error;
}

static void probe_again(QXenPVIOMMU *iommu, QEdu *edu)
{
    iommu->pci->mmio_alloc_ptr = PROBE_BASE;
    pviommu_probe(iommu);
    stream_init_edu(edu, iommu);
}

/* Faults come, one by one, and say what happened. */
static void assert_faults_work(QXenPVIOMMU *iommu, QEdu *edu, uint16_t ctx)
{
    uint64_t noted = pviommu_counter(iommu, XEN_PVIOMMU_COUNTER_FAULTS);

    pviommu_writel(iommu, XEN_PVIOMMU_REG_FAULT_CTRL, 0);
    pviommu_fault_ring(iommu, FAULT_RING_SIZE);
    for (unsigned i = 0; i < 2 * FAULT_RING_SIZE; i++) {
        uint64_t addr = 0x6000000 + i * PVIOMMU_PAGE;

        edu_dma(edu, i % 2, addr, 4);
        pviommu_wait_faults(iommu, i + 1);
        pviommu_assert_fault(iommu, i, EDU_SBDF, ctx, addr, i % 2,
                             XEN_IOMMU_FAULT_REASON_unmapped);
        pviommu_writel(iommu, XEN_PVIOMMU_REG_FAULT_HEAD, i + 1);
    }
    g_assert_cmpuint(pviommu_counter(iommu, XEN_PVIOMMU_COUNTER_FAULTS), ==,
                     noted + 2 * FAULT_RING_SIZE);
}

static void assert_queue_works(QXenPVIOMMU *iommu, uint16_t ctx, QEdu *edu)
{
    QPVIOMMUQueue q;

    pviommu_queue_init(&q, iommu, ctx, QUEUE(3), 16);
    stream_push_map(&q, 0x700, GFN(0x700));
    pviommu_queue_kick(&q);
    pviommu_assert_mapped(iommu, ctx, 0x700, GFN(0x700), 1, 0);
    /* Run by DMA */
    stream_push_map(&q, 0x701, GFN(0x703));
    edu_assert_access(edu, 0x701 * PVIOMMU_PAGE,
                      (uint64_t)GFN(0x703) * PVIOMMU_PAGE, 16);
    g_assert_cmpuint(pviommu_queue_head(&q), ==, 2);
    assert_status(pviommu_set_queue(iommu, ctx, 0, 0), 0);
}

/* All of it, for whatever was before. */
static void assert_all_works(QXenPVIOMMU *iommu, QEdu *edu)
{
    uint64_t features = pviommu_readq(iommu, XEN_PVIOMMU_REG_FEATURES);
    uint16_t ctx;

    pviommu_accept(iommu, features);
    assert_status(pviommu_enable(iommu), 0);
    ctx = pviommu_alloc_context(iommu);
    assert_status(pviommu_attach(iommu, EDU_SBDF, ctx), 0);
    edu_map_window(edu, iommu, ctx, 0);
    assert_status(pviommu_map(iommu, ctx, 0x600, GFN(0x600), 2, 0), 0);
    edu_assert_access(edu, 0x600 * PVIOMMU_PAGE,
                      (uint64_t)GFN(0x600) * PVIOMMU_PAGE, 16);
    edu_assert_no_access(edu, 0x602 * PVIOMMU_PAGE,
                         (uint64_t)GFN(0x602) * PVIOMMU_PAGE, 16);
    assert_faults_work(iommu, edu, ctx);
    if (features & XEN_IOMMU_FEATURE_QUEUE) {
        assert_queue_works(iommu, ctx, edu);
    }
    assert_status(pviommu_unmap(iommu, ctx, 0x600, 2), 0);
    assert_status(pviommu_flush_all(iommu, ctx), 0);
    assert_status(pviommu_attach(iommu, EDU_SBDF, 0), 0);
    assert_status(pviommu_free_context(iommu, ctx), 0);
}

void stream_assert_reset(QXenPVIOMMU *iommu)
{
    QPCIDevice *dev = &iommu->dev;
    QDict *state;

    /* The PCI function as well */
    g_assert_cmphex(qpci_config_readw(dev, PCI_COMMAND) &
                    (PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER), ==, 0);
    g_assert_cmphex(qpci_config_readl(dev, PCI_BASE_ADDRESS_0), ==, 0);

    state = pviommu_query(iommu);
    g_assert_true(qdict_get_bool(state, "identity"));
    g_assert_cmpuint(qlist_size(qdict_get_qlist(state, "contexts")), ==, 1);
    g_assert_true(qlist_empty(qdict_get_qlist(state, "accepted")));
    g_assert_cmpint(qdict_get_int(state, "mapped-frames"), ==, 0);
    g_assert_cmpint(qdict_get_int(state, "pending-frames"), ==, 0);
    qobject_unref(state);

    iommu->pci->mmio_alloc_ptr = PROBE_BASE;
    pviommu_probe(iommu);
    g_assert_cmphex(pviommu_readq(iommu, XEN_PVIOMMU_REG_ACCEPTED), ==, 0);
    for (unsigned n = 0; n < XEN_PVIOMMU_NR_COUNTERS; n++) {
        g_assert_cmpuint(pviommu_counter(iommu, n), ==, 0);
    }
    for (uint64_t reg = XEN_PVIOMMU_REG_FAULT_CTRL;
         reg <= XEN_PVIOMMU_REG_FAULT_LOST; reg += 4) {
        g_assert_cmphex(pviommu_readl(iommu, reg), ==, 0);
    }
    for (unsigned i = 0; i < XEN_PVIOMMU_MAX_BLOCKS; i++) {
        uint64_t block = XEN_PVIOMMU_BLOCKS + i * XEN_PVIOMMU_BLOCK_STRIDE;

        g_assert_cmphex(pviommu_readq(iommu, block + XEN_PVIOMMU_BLOCK_ARRAY),
                        ==, 0);
        g_assert_cmphex(pviommu_readl(iommu, block + XEN_PVIOMMU_BLOCK_DONE),
                        ==, 0);
        g_assert_cmphex(pviommu_readl(iommu, block + XEN_PVIOMMU_BLOCK_RESULT),
                        ==, 0);
    }
}

void stream_assert_refused(QXenPVIOMMU *iommu)
{
    const uint64_t ram = (uint64_t)GFN(0x800) * PVIOMMU_PAGE;
    QEdu edu;

    stream_assert_reset(iommu);
    stream_cont(iommu);
    probe_again(iommu, &edu);
    edu_assert_access(&edu, ram, ram, 16);
    assert_all_works(iommu, &edu);
}

void stream_assert_works(QXenPVIOMMU *iommu)
{
    QEdu edu;

    stream_cont(iommu);
    probe_again(iommu, &edu);
    /* Verifies all tables and references, whatever becomes of it. */
    pviommu_ring(iommu, 0, PVIOMMU_OPS_ADDR, 1, NULL);
    edu_dma(&edu, true, 0x5000000, 8);
    edu_dma(&edu, false, 0x20 * PVIOMMU_PAGE, 8);
    pviommu_writel(iommu, XEN_PVIOMMU_REG_FAULT_HEAD,
                   pviommu_readl(iommu, XEN_PVIOMMU_REG_FAULT_TAIL));
    pviommu_ring(iommu, 0, PVIOMMU_OPS_ADDR, 1, NULL);

    qtest_system_reset(iommu->qts);
    probe_again(iommu, &edu);
    g_assert_true(pviommu_identity(iommu));
    assert_all_works(iommu, &edu);
}
