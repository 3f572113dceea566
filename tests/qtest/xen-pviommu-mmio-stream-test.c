/*
 * xen-pviommu: streams with runs of a BAR in them, as no guest makes them
 *
 * The BAR is not there while the IOMMU is loaded, so its runs wait until the
 * machine is complete. What then is not of a BAR is dropped; and the machine
 * works after each stream, whether it was taken or refused.
 *
 * By hand, with -p /x86_64/xen-pviommu/q35/mmio-stream/damaged-bytes:
 *   XEN_PVIOMMU_MUTATIONS=10    damage each byte so many times
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/bswap.h"
#include "hw/pci/pci_regs.h"
#include "libqos/xen-pviommu-stream.h"

#define PEER            "-device e1000,romfile=,addr=13 "
#define PEER_DEVFN      QPCI_DEVFN(0x13, 0)
#define PEER_ID         0x100e8086u
#define BAR             0xf0000000u
#define BAR_GFN         (BAR / PVIOMMU_PAGE)
#define NR              32u             /* frames of the BAR */

/* Of a run in the stream */
#define READONLY        0x01
#define PENDING         0x02
#define HAS_BFN         0x04
#define HAS_GFN         0x08
#define HAS_NR          0x10
#define RUN_END         0x80
#define VARINT_MAX      10

/*
 * What the stream has in place of what is written over it: the first page
 * stays; each of the others takes two bytes, flags and a distance of 1.
 */
#define FILL_BFN        0x200000ull
#define FILL            200u
#define FILL_RUN        "\x04\x02"

#define MAX_MAPPINGS    20000

typedef struct Run {
    uint64_t bfn, gfn, nr;
    uint8_t flags;
} Run;

/* Where the IOMMU's own BAR is in the stream, as it was before any reset */
static QPCIBar own_bar;

static void set_bar(QXenPVIOMMU *iommu, uint32_t addr, bool shown)
{
    QPCIDevice *dev = qpci_device_find(iommu->pci, PEER_DEVFN);
    uint16_t cmd = qpci_config_readw(dev, PCI_COMMAND) & ~PCI_COMMAND_MEMORY;

    qpci_config_writel(dev, PCI_BASE_ADDRESS_0, addr);
    qpci_config_writew(dev, PCI_COMMAND,
                       cmd | (shown ? PCI_COMMAND_MEMORY : 0));
    g_free(dev);
}

/* The filler in context 0, which is the last thing in the section */
static void fill(QXenPVIOMMU *iommu)
{
    stream_number_bus(iommu);
    set_bar(iommu, BAR, true);
    pviommu_accept(iommu, XEN_IOMMU_FEATURES_ALL);
    for (unsigned i = 0; i < FILL; i++) {
        assert_status(pviommu_map(iommu, 0, FILL_BFN + 2 * i, GFN(i), 1, 0), 0);
    }
}

/* As a guest has them, in a context of its own */
static void fill_with_bar(QXenPVIOMMU *iommu)
{
    uint16_t ctx;

    fill(iommu);
    ctx = pviommu_alloc_context(iommu);
    assert_status(pviommu_attach(iommu, EDU_SBDF, ctx), 0);
    assert_status(pviommu_map(iommu, ctx, 0x1000, BAR_GFN, NR, 0), 0);
    assert_status(pviommu_map(iommu, ctx, 0x2000, BAR_GFN + 3, 9, READONLY), 0);
    assert_status(pviommu_map(iommu, ctx, 0x3000, GFN(0), 8, 0), 0);
    assert_status(pviommu_unmap(iommu, ctx, 0x1004, 6), 0);
    assert_status(pviommu_unmap(iommu, ctx, 0x3000, 1), 0);
}

static QXenPVIOMMU *start(const QStream *st, unsigned max_mappings,
                          const char *messages)
{
    g_autofree char *props = g_strdup_printf("max-mappings=%u", max_mappings);
    g_autofree char *extra = g_strdup_printf(PEER "%s2>%s", st->args,
                                             messages ?: "/dev/null");

    return stream_start(props, extra);
}

static QXenPVIOMMU *start_recorded(QStream *st, const char *name,
                                   void (*fill_machine)(QXenPVIOMMU *))
{
    QXenPVIOMMU *iommu;

    stream_init(st, name);
    iommu = start(st, MAX_MAPPINGS, NULL);
    own_bar = iommu->bar;
    fill_machine(iommu);
    stream_record(st, iommu);
    return iommu;
}

/* As stream_load(); then what is shown of the IOMMU is where it was. */
static bool load(QStream *st, QXenPVIOMMU *iommu, const uint8_t *data)
{
    bool taken = stream_load(st, iommu, data);

    if (taken) {
        iommu->bar = own_bar;
        stream_cont(iommu);
    }
    return taken;
}

/* In the stream's form, but always as long as it can be */
static uint8_t *put_number(uint8_t *p, uint64_t v)
{
    for (unsigned i = 1; i < VARINT_MAX; i++, v >>= 7) {
        *p++ = v | 0x80;
    }
    *p++ = v;
    return p;
}

static uint8_t *put_distance(uint8_t *p, uint64_t distance)
{
    return put_number(p, distance << 1 ^ -(distance >> 63));
}

static uint8_t *put_run(uint8_t *p, const Run *run, Run *last)
{
    *p++ = run->flags | HAS_BFN | HAS_GFN | HAS_NR;
    p = put_distance(p, run->bfn - (last->bfn + last->nr));
    p = put_distance(p, run->gfn - (last->gfn + last->nr));
    p = put_number(p, run->nr);
    *last = *run;
    return p;
}

/* Where the filler begins that can be written over; and where it ends */
static uint8_t *filler(const QStream *st, uint8_t *data, uint8_t **end)
{
    g_autofree uint8_t *runs = g_malloc(2 * (FILL - 1));
    size_t at;

    for (unsigned i = 0; i < FILL - 1; i++) {
        memcpy(runs + 2 * i, FILL_RUN, 2);
    }
    at = stream_find(st->data, st->len, 0, runs, 2 * (FILL - 1));
    g_assert_cmpuint(at, !=, OFFSET_NONE);
    *end = data + at + 2 * (FILL - 1);
    return data + at;
}

/*
 * The section with @runs in place of the filler. What is left of that is a run
 * and pages that follow it, a byte each.
 *
 * @nr: set to how many pages of RAM are mapped besides
 */
static uint8_t *forge(const QStream *st, const Run *runs, unsigned nr_runs,
                      unsigned *nr)
{
    uint8_t *data = g_memdup2(st->data, st->len), *end;
    uint8_t *p = filler(st, data, &end);
    Run last = { FILL_BFN, GFN(0), 1 };

    for (unsigned i = 0; i < nr_runs; i++) {
        p = put_run(p, &runs[i], &last);
    }
    p = put_run(p, &(Run) { 2 * FILL_BFN, GFN(0x1000), 1, 0 }, &last);
    g_assert_true(p <= end);
    *nr = 2 + (end - p);
    memset(p, 0, end - p);
    return data;
}

typedef struct Case {
    const char *what;
    Run runs[3];
    unsigned nr_runs;
    bool refused;
    /* Of @runs; which of them are mapped, as bits */
    unsigned mapped;
    unsigned pending;
} Case;

#define B               0x1000ull
#define HUGE_RUN        (MAX_MAPPINGS + 1)

/* Of all of these, the BAR at BAR_GFN is all that can be mapped. */
static const Case cases[] = {
    { "the BAR", { { B, BAR_GFN, NR } }, 1, .mapped = 1 },
    { "the BAR, read-only", { { B, BAR_GFN, NR, READONLY } }, 1, .mapped = 1 },
    { "a page of it", { { B, BAR_GFN + NR - 1, 1 } }, 1, .mapped = 1 },
    { "twice", { { B, BAR_GFN, NR }, { 2 * B, BAR_GFN, NR } }, 2, .mapped = 3 },
    { "pending", { { B, BAR_GFN, NR, PENDING } }, 1, .pending = NR },
    { "pending where it is mapped",
      { { B, BAR_GFN, NR, PENDING }, { B, BAR_GFN, NR } }, 2, .mapped = 2,
      .pending = NR },
    { "pending, and not there",
      { { B, BAR_GFN + NR, 1, PENDING }, { B, 1 << 24, 1, PENDING } }, 2 },

    { "behind its end", { { B, BAR_GFN, NR + 1 } }, 1 },
    { "before its begin", { { B, BAR_GFN - 1, 2 } }, 1 },
    { "all around it", { { B, BAR_GFN - 100, 1000 } }, 1 },
    { "beside it", { { B, BAR_GFN + NR, 1 }, { B + 1, BAR_GFN - 1, 1 } }, 2 },
    { "from RAM to it", { { B, PVIOMMU_RAM_GFNS - 1, 2 } }, 1 },
    { "interrupts", { { B, 0xfee00, 1 }, { B + 1, 0xfec00, 1 } }, 2 },
    { "the BIOS", { { B, PVIOMMU_BIOS_ADDR / PVIOMMU_PAGE, 1 } }, 1 },
    { "the last page of all", { { B, (1ull << 40) - 1, 1 } }, 1 },

    { "BFNs twice", { { B, BAR_GFN, NR }, { B + 8, BAR_GFN, 1 } }, 2,
      .mapped = 1 },
    { "RAM at its BFNs", { { B, BAR_GFN, NR }, { B + 8, GFN(0x2000), 1 } }, 2,
      .mapped = 2 },

    { "BFNs of what is mapped", { { FILL_BFN, BAR_GFN, 1 } }, 1, true },
    { "no frames", { { B, BAR_GFN, 0 } }, 1, true },
    { "too many frames", { { B, BAR_GFN, HUGE_RUN } }, 1, true },
    { "frames beyond all", { { B, BAR_GFN, 1ull << 40 } }, 1, true },
    { "frames that wrap", { { B, BAR_GFN, UINT64_MAX } }, 1, true },
    { "GFNs beyond all", { { B, 1ull << 40, 1 } }, 1, true },
    { "GFNs that wrap", { { B, UINT64_MAX - NR, NR + 2 } }, 1, true },
    { "BFNs beyond all", { { 1ull << 36, BAR_GFN, NR } }, 1, true },
    { "BFNs that wrap", { { UINT64_MAX - 1, BAR_GFN, NR } }, 1, true },
    { "reserved BFNs", { { 0xfedff, BAR_GFN, 2 } }, 1, true },
    { "a flag that is none", { { B, BAR_GFN, NR, 0x20 } }, 1, true },
    { "more than there may be",
      { { B, BAR_GFN, MAX_MAPPINGS - FILL }, { 1 << 20, BAR_GFN, FILL + 1 } },
      2, true },
};

static void check_case(const Case *c, QXenPVIOMMU *iommu, unsigned others)
{
    uint64_t frames = others;

    for (unsigned i = 0; i < c->nr_runs; i++) {
        const Run *run = &c->runs[i];

        if (c->mapped & (1u << i)) {
            pviommu_assert_mapped(iommu, 0, run->bfn, run->gfn, run->nr,
                                  run->flags & READONLY);
            frames += run->nr;
        }
    }
    pviommu_assert_frames(iommu, frames, c->pending);
    /* All that is of the BAR is gone with it, and nothing else. */
    set_bar(iommu, BAR + 0x100000, true);
    for (unsigned i = 0; i < c->nr_runs; i++) {
        if (c->mapped & (1u << i) && c->runs[i].gfn >= BAR_GFN) {
            frames -= c->runs[i].nr;
        }
    }
    pviommu_assert_frames(iommu, frames, 0);
}

static void test_forged_runs(void)
{
    QStream st;
    QXenPVIOMMU *iommu = start_recorded(&st, "forged", fill);

    for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
        const Case *c = &cases[i];
        unsigned nr;
        g_autofree uint8_t *data = forge(&st, c->runs, c->nr_runs, &nr);
        bool taken = load(&st, iommu, data);

        g_test_message("%s: %s", c->what, taken ? "taken" : "refused");
        g_assert_cmpint(taken, ==, !c->refused);
        if (taken) {
            check_case(c, iommu, nr);
            stream_assert_works(iommu);
        } else {
            stream_assert_refused(iommu);
        }
    }
    pviommu_quit(iommu);
    stream_free(&st);
}

/* What is lost is said, once; and a limit holds for what waits, too. */
static void test_what_is_not_there_is_named(void)
{
    static const Run runs[] = {
        { B, BAR_GFN + NR, 7 }, { 2 * B, BAR_GFN, NR },
        { 3 * B, BAR_GFN + 8, NR },
    };
    g_autofree char *messages = stream_file("messages");
    g_autofree uint8_t *data = NULL;
    QStream st;
    QXenPVIOMMU *iommu = start_recorded(&st, "named", fill);
    unsigned nr;

    pviommu_quit(iommu);
    data = forge(&st, runs, ARRAY_SIZE(runs), &nr);
    for (unsigned i = 0; i < 2; i++) {
        /* With the page that stays, one too many may be there later. */
        iommu = start(&st, i ? 7 + 2 * NR : MAX_MAPPINGS, messages);
        stream_open(&st, iommu);
        g_assert_cmpint(load(&st, iommu, data), ==, !i);
        if (!i) {
            stream_assert_printed(messages, "39 frames that were mapped on the "
                                  "source are not here and cannot be reached; "
                                  "the first is context 0, bfn 0x1000, gfn "
                                  "0xf0020");
            pviommu_assert_mapped(iommu, 0, 2 * B, BAR_GFN, NR, 0);
            pviommu_assert_frames(iommu, nr + NR, 0);
        } else {
            stream_assert_printed(messages, "does not fit this machine");
        }
        pviommu_quit(iommu);
    }
    stream_free(&st);
}

/*
 * The guest does not accept it any more: what it mapped before stays, but on a
 * machine that does not offer it.
 */
static void test_not_where_it_is_not_offered(void)
{
    static const Run run = { B, BAR_GFN, NR };
    QStream st;
    QXenPVIOMMU *iommu = start_recorded(&st, "feature", fill);
    g_autofree uint8_t *data = NULL;
    g_autofree char *extra = NULL;
    uint8_t accepted[8];
    unsigned nr;
    size_t at;

    data = forge(&st, &run, 1, &nr);
    stq_be_p(accepted, XEN_IOMMU_FEATURES_ALL);
    at = stream_find(data, st.len, 0, accepted, sizeof(accepted));
    g_assert_cmpuint(at, !=, OFFSET_NONE);
    stq_be_p(data + at, XEN_IOMMU_FEATURES_ALL & ~XEN_IOMMU_FEATURE_MMIO);
    g_assert_true(load(&st, iommu, data));
    pviommu_assert_mapped(iommu, 0, B, BAR_GFN, NR, 0);
    pviommu_assert_frames(iommu, nr + NR, 0);
    assert_status(pviommu_map(iommu, 0, 2 * B, BAR_GFN, 1, 0), XEN_IOMMU_EPERM);
    stream_assert_works(iommu);
    pviommu_quit(iommu);

    extra = g_strconcat(PEER, st.args, "2>/dev/null", NULL);
    iommu = stream_start("mmio=off", extra);
    stream_open(&st, iommu);
    g_assert_true(load(&st, iommu, data));
    pviommu_assert_unmapped(iommu, 0, B);
    pviommu_assert_frames(iommu, nr, 0);
    stream_assert_works(iommu);
    pviommu_quit(iommu);
    stream_free(&st);
}

/* Where the peer's own section has the BAR's address */
static size_t find_bar(const QStream *st)
{
    g_autofree char *image = NULL;
    uint8_t id[4], addr[4];
    size_t len, at;

    g_assert_true(g_file_get_contents(st->path, &image, &len, NULL));
    stl_le_p(id, PEER_ID);
    stl_le_p(addr, BAR);
    at = stream_find((uint8_t *)image, len, st->at + st->len, id, sizeof(id));
    g_assert_cmpuint(at, !=, OFFSET_NONE);
    at += PCI_BASE_ADDRESS_0;
    g_assert_cmpmem(image + at, sizeof(addr), addr, sizeof(addr));
    return at;
}

/* The BAR is where no guest would put it: on what is there, or nowhere. */
static void test_bar_is_anywhere(void)
{
    static const Run runs[] = {
        { B, BAR_GFN, NR }, { 2 * B, BAR_GFN, NR, PENDING },
        { 3 * B, GFN(0x1800), 8 },
    };
    QStream st;
    QXenPVIOMMU *iommu = start_recorded(&st, "anywhere", fill);
    const uint32_t places[] = {
        0, BAR + 0x20000, GFN(0x1800) * PVIOMMU_PAGE, 0xfec00000, 0xfee00000,
        0xfffe0000, own_bar.addr & ~0x1ffff, BAR,
    };
    size_t at = find_bar(&st);
    unsigned nr;
    g_autofree uint8_t *data = forge(&st, runs, ARRAY_SIZE(runs), &nr);

    for (unsigned i = 0; i < ARRAY_SIZE(places); i++) {
        const bool there = places[i] == BAR;
        uint8_t addr[4];

        stl_le_p(addr, places[i]);
        g_assert_cmpint(pwrite(st.fd, addr, sizeof(addr), at), ==,
                        sizeof(addr));
        g_assert_true(load(&st, iommu, data));
        if (places[i] != (own_bar.addr & ~0x1ffff)) {
            pviommu_assert_mapped(iommu, 0, 3 * B, GFN(0x1800), 8, 0);
            pviommu_assert_frames(iommu, nr + 8 + (there ? NR : 0),
                                  there ? NR : 0);
        }
        stream_assert_works(iommu);
    }
    pviommu_quit(iommu);
    stream_free(&st);
}

/* Each byte of contexts and runs: taken or refused, all of it works. */
static void test_damaged_bytes(void)
{
    static const uint8_t values[] = { 0, 0xff, 0x80, 0x7f, 1, 0x1f };
    const char *wanted = getenv("XEN_PVIOMMU_MUTATIONS");
    unsigned rounds = wanted ? atoi(wanted) : 2, taken = 0, nr = 0;
    QStream st;
    QXenPVIOMMU *iommu = start_recorded(&st, "bytes", fill_with_bar);
    g_autoptr(GRand) rand = g_rand_new_with_seed(rounds);
    uint8_t *end;
    size_t at;

    /* From the last bytes of the filler on, to the end of the section */
    filler(&st, st.data, &end);
    at = end - st.data - 4;
    g_assert_cmpuint(st.len - at, >, 40);
    for (unsigned round = 0; round < rounds; round++) {
        for (size_t i = at; i < st.len; i++, nr++) {
            g_autofree uint8_t *bad = g_memdup2(st.data, st.len);
            uint8_t value = values[g_rand_int_range(rand, 0,
                                                    ARRAY_SIZE(values))];

            bad[i] = g_rand_boolean(rand) || value == bad[i]
                ? bad[i] ^ 1u << g_rand_int_range(rand, 0, 8) : value;
            if (load(&st, iommu, bad)) {
                taken++;
                stream_assert_works(iommu);
            } else {
                stream_assert_refused(iommu);
            }
        }
    }
    g_test_message("%u of %u were taken", taken, nr);
    g_assert_cmpuint(taken, >, 0);
    g_assert_cmpuint(taken, <, nr);
    g_assert_true(load(&st, iommu, NULL));
    pviommu_assert_mapped(iommu, 1, 0x1000, BAR_GFN, 4, 0);
    pviommu_assert_mapped(iommu, 1, 0x2000, BAR_GFN + 3, 9, READONLY);
    pviommu_assert_frames(iommu, FILL + NR - 6 + 9 + 7, 7);
    pviommu_quit(iommu);
    stream_free(&st);
}

int main(int argc, char **argv)
{
    int ret;

    g_test_init(&argc, &argv, NULL);
    stream_begin();
    pviommu_add("q35/mmio-stream/forged-runs", test_forged_runs);
    pviommu_add("q35/mmio-stream/what-is-not-there-is-named",
                test_what_is_not_there_is_named);
    pviommu_add("q35/mmio-stream/not-where-it-is-not-offered",
                test_not_where_it_is_not_offered);
    pviommu_add("q35/mmio-stream/bar-is-anywhere", test_bar_is_anywhere);
    pviommu_add("q35/mmio-stream/damaged-bytes", test_damaged_bytes);
    ret = g_test_run();
    stream_cleanup();
    return ret;
}
