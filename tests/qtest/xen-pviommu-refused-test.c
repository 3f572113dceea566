/*
 * xen-pviommu: streams that are refused, and what is left of the device then
 *
 * After each refusal the machine goes on, and the device is as after a reset.
 * By hand, with -p /x86_64/xen-pviommu/q35/refused/damaged-bytes:
 *   XEN_PVIOMMU_MUTATIONS=10    damage each byte so many times
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/bswap.h"
#include "qobject/qdict.h"
#include "libqos/xen-pviommu-stream.h"

/* Where the section's data begins: behind type, ID, name, instance, version */
#define DATA            (1 + 4 + 1 + 24 + 4 + 4)

/* A machine with what @fill does in it, and its snapshot. */
static QXenPVIOMMU *start_recorded(QStream *st, const char *name,
                                   void (*fill)(QXenPVIOMMU *))
{
    g_autofree char *extra = NULL;
    QXenPVIOMMU *iommu;

    stream_init(st, name);
    extra = g_strconcat(st->args, "2>/dev/null", NULL);
    iommu = stream_start("max-mappings=100000", extra);
    fill(iommu);
    stream_record(st, iommu);
    stream_cont(iommu);
    return iommu;
}

static void stop_recorded(QStream *st, QXenPVIOMMU *iommu)
{
    pviommu_quit(iommu);
    stream_free(st);
}

static void fill_queues(QXenPVIOMMU *iommu)
{
    QPVIOMMUQueue q[2];

    stream_fill_queues(iommu, q);
}

static void assert_refused(QStream *st, QXenPVIOMMU *iommu, const uint8_t *data)
{
    g_assert_false(stream_load(st, iommu, data));
    stream_assert_refused(iommu);
}

static void assert_taken(QStream *st, QXenPVIOMMU *iommu, const uint8_t *data)
{
    g_assert_true(stream_load(st, iommu, data));
    stream_assert_works(iommu);
}

/* Either, but with all that follows from it. Returns: true if it was taken. */
static bool try(QStream *st, QXenPVIOMMU *iommu, const uint8_t *data)
{
    bool taken = stream_load(st, iommu, data);

    if (taken) {
        stream_assert_works(iommu);
    } else {
        stream_assert_refused(iommu);
    }
    return taken;
}

typedef struct Fit {
    const char *props;
    const char *refusal;        /* NULL: it fits */
} Fit;

/* The same stream on machines that are not the source's. */
static void test_machine_that_is_too_small(void)
{
    static const Fit fits[] = {
        { "max-contexts=65535,bfn-bits=40,max-mappings=99999999", NULL },
        { "max-contexts=4,bfn-bits=36,max-mappings=16455", NULL },
        { "max-contexts=3",
          "context 3: out of order in the stream, or beyond max-contexts=3" },
        { "bfn-bits=35",
          "bfn 0xfff000000 gfn 0x2000 nr 0x4000 is beyond bfn-bits=35" },
        { "max-mappings=16454", "does not fit this machine (error -28)" },
        /* A context maps what a device in it reserves, or all must not map. */
        { "\"device-reserved-regions\":[\"pcie.0/11.0=0x20000:0x20fff:0\"]",
          "bfn 0x20 gfn 0x3020 nr 0x1 does not fit this machine (error -99)" },
        { "\"device-reserved-regions\":[\"rp0/00.0=0x20000:0x20fff:0\"]",
          NULL },
        { "\"device-reserved-regions\":"
          "[\"pcie.0/11.0=0xfff000000000:0xfff000000fff:0\"]", NULL },
        { "\"reserved-regions\":[\"0x20000:0x20fff:0\"]",
          "bfn 0x20 gfn 0x3020 nr 0x1 does not fit this machine (error -99)" },
    };
    g_autofree char *messages = stream_file("fit-messages");
    QStream st;
    QXenPVIOMMU *source = start_recorded(&st, "fit", stream_fill);

    pviommu_quit(source);
    for (size_t i = 0; i < ARRAY_SIZE(fits); i++) {
        g_autofree char *extra = g_strconcat(st.args, "2>", messages, NULL);
        QXenPVIOMMU *iommu = stream_start(fits[i].props, extra);

        stream_open(&st, iommu);
        g_assert_cmpint(stream_load(&st, iommu, NULL), ==, !fits[i].refusal);
        if (fits[i].refusal) {
            stream_assert_printed(messages, fits[i].refusal);
            stream_assert_refused(iommu);
        } else {
            stream_cont(iommu);
            stream_check(iommu);
            stream_assert_works(iommu);
        }
        pviommu_quit(iommu);
    }
    stream_free(&st);
}

/* One that differs, whatever it means */
static uint8_t damage(GRand *rand, uint8_t byte)
{
    static const uint8_t values[] = { 0, 0xff, 0x80, 0x7f, 1, 0x1f };
    uint8_t bad = values[g_rand_int_range(rand, 0, ARRAY_SIZE(values))];

    return g_rand_boolean(rand) || bad == byte
        ? byte ^ 1u << g_rand_int_range(rand, 0, 8) : bad;
}

typedef struct Range {
    size_t start, end, step;
} Range;

static unsigned try_bytes(QStream *st, QXenPVIOMMU *iommu, const Range *range,
                          unsigned *nr)
{
    const char *wanted = getenv("XEN_PVIOMMU_MUTATIONS");
    unsigned rounds = wanted ? atoi(wanted) : 1;
    g_autoptr(GRand) rand = g_rand_new_with_seed(rounds);
    unsigned taken = 0;

    for (unsigned round = 0; round < rounds; round++) {
        for (size_t at = range->start; at < range->end; at += range->step) {
            g_autofree uint8_t *bad = g_memdup2(st->data, st->len);

            bad[at] = damage(rand, bad[at]);
            if (g_test_verbose()) {
                g_test_message("byte %zu: 0x%x -> 0x%x", at, st->data[at],
                               bad[at]);
            }
            taken += try(st, iommu, bad);
            ++*nr;
        }
    }
    return taken;
}

/*
 * Where the fault ring is in the section, with the address, size and control
 * that stream_fill() gives it
 */
static size_t find_ring(const QStream *st)
{
    uint8_t ring[16];
    size_t at;

    stq_be_p(ring, PVIOMMU_RING_ADDR);
    stl_be_p(ring + 8, FAULT_RING_SIZE);
    stl_be_p(ring + 12, XEN_PVIOMMU_FAULT_CTRL_ENABLE);
    at = stream_find(st->data, st->len, 0, ring, sizeof(ring));
    g_assert_cmpuint(at, !=, OFFSET_NONE);
    return at;
}

#define RING_FIRST      24
#define RING_NR_WAITING 28
#define RING_WAITING    44
#define SAVED_FAULT     20

/* Each byte of what the device checks, and a sample of all there is. */
static void test_damaged_bytes(void)
{
    QStream st;
    QXenPVIOMMU *iommu = start_recorded(&st, "bytes", stream_fill);
    size_t ring = find_ring(&st);
    const Range ranges[] = {
        /* Features, identity, counters; the first block; the last */
        { ring - 64 * 16 - 8 * 8 - 1 - 8, ring - 63 * 16, 1 },
        { ring - 16, ring + RING_WAITING + 3 * SAVED_FAULT, 1 },
        /* Contexts, functions, mappings, and what ends the section */
        { st.len - 400, st.len, 1 },
        { DATA, st.len, 61 },
    };
    unsigned taken = 0, nr = 0;

    assert_taken(&st, iommu, st.data);
    for (unsigned i = 0; i < ARRAY_SIZE(ranges); i++) {
        taken += try_bytes(&st, iommu, &ranges[i], &nr);
    }
    g_test_message("%u of %u were taken", taken, nr);
    g_assert_cmpuint(taken, >, 0);
    g_assert_cmpuint(taken, <, nr);
    stop_recorded(&st, iommu);
}

/* Fault rings that no guest can have, as in bytes, and several at once */
static void test_bad_fault_ring(void)
{
    static const struct {
        unsigned at;
        uint32_t value;
    } cases[] = {
        { RING_FIRST, 256 }, { RING_FIRST, 0x08000000 },
        { RING_FIRST, UINT32_MAX }, { RING_NR_WAITING, 257 },
        { RING_NR_WAITING, 0x80000000 }, { RING_NR_WAITING, UINT32_MAX },
        { 8, 0 }, { 8, 3 }, { 8, 0x80000000 }, { 12, 2 }, { 12, UINT32_MAX },
        { 4, PVIOMMU_RING_ADDR + 4 },
    };
    QStream st;
    QXenPVIOMMU *iommu = start_recorded(&st, "ring", stream_fill);
    size_t ring = find_ring(&st);

    for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
        g_autofree uint8_t *bad = g_memdup2(st.data, st.len);

        stl_be_p(bad + ring + cases[i].at, cases[i].value);
        assert_refused(&st, iommu, bad);
        /* Refused for a block, before the ring is looked at */
        stl_be_p(bad + ring - 4, 0x7fffffff);
        assert_refused(&st, iommu, bad);
        /* And before that is, as there are no contexts, or bad runs */
        memset(bad + st.len - (i % 2 ? 60 : 400), 0xff, 20);
        assert_refused(&st, iommu, bad);
    }
    stop_recorded(&st, iommu);
}

/*
 * A load that fails in other devices' sections, which are behind ours: at their
 * footers, or what looks like one
 */
static void test_when_another_device_fails(void)
{
    static const uint8_t footer[] = { 0x7e, 0, 0, 0 };
    QStream st;
    QXenPVIOMMU *iommu = start_recorded(&st, "other", stream_fill);
    g_autofree char *image = NULL;
    unsigned refused = 0;
    size_t len, at;
    int fd;

    g_assert_true(g_file_get_contents(st.path, &image, &len, NULL));
    fd = open(st.path, O_WRONLY);
    at = st.at + st.len;
    for (unsigned i = 0; i < 8; i++) {
        at = stream_find((uint8_t *)image, len, at, footer, sizeof(footer));
        g_assert_cmpuint(at, !=, OFFSET_NONE);
        g_assert_cmpint(pwrite(fd, "\xff", 1, at), ==, 1);
        if (!stream_load(&st, iommu, NULL)) {
            refused++;
            if (i % 2) {
                qtest_system_reset(iommu->qts);
            }
            stream_assert_refused(iommu);
        } else {
            stream_assert_works(iommu);
        }
        g_assert_cmpint(pwrite(fd, footer, 1, at), ==, 1);
        assert_taken(&st, iommu, NULL);
        at++;
    }
    close(fd);
    g_assert_cmpuint(refused, >=, 4);
    stop_recorded(&st, iommu);
}

/* The user resets the machine, and lets it go on, or does only the latter. */
static void test_with_a_reset_or_without(void)
{
    QStream st;
    QXenPVIOMMU *iommu = start_recorded(&st, "reset", stream_fill);
    g_autofree uint8_t *bad = g_memdup2(st.data, st.len);

    stl_be_p(bad + find_ring(&st) + RING_FIRST, 0x08000000);
    for (unsigned i = 0; i < 4; i++) {
        g_assert_false(stream_load(&st, iommu, bad));
        if (i % 2) {
            qtest_system_reset(iommu->qts);
        }
        stream_assert_refused(iommu);
        assert_taken(&st, iommu, NULL);
    }
    stop_recorded(&st, iommu);
}

/* Where the guest may not have any, the option is named that lets it. */
static void test_queues_that_are_off(void)
{
    g_autofree char *messages = stream_file("off-messages");
    g_autofree char *extra = NULL;
    QStream st;
    QXenPVIOMMU *iommu = start_recorded(&st, "off", fill_queues);

    pviommu_quit(iommu);
    extra = g_strconcat(TWO_EDUS, st.args, "2>", messages, NULL);
    iommu = pviommu_start("q35", "queues=off", extra);
    stream_open(&st, iommu);
    g_assert_false(stream_load(&st, iommu, NULL));
    stream_assert_printed(messages, "the guest uses queues, and this machine "
                          "does not offer any: give its xen-pviommu queues=on");
    stream_assert_refused(iommu);
    stop_recorded(&st, iommu);
}

/* Queues that no guest can have are refused; each byte of them is tried. */
static void test_bad_queues(void)
{
    static const struct {
        unsigned field;
        unsigned bytes;
        uint64_t value;
    } cases[] = {
        { QUEUE_CTX, 2, 2 },            /* no such context */
        { QUEUE_CTX, 2, 1 },            /* twice */
        { QUEUE_CTX, 2, 0xffff },
        { QUEUE_ADDR, 8, 0 },
        { QUEUE_ADDR, 8, QUEUE(0) + 8 },
        { QUEUE_ADDR, 8, -0x1000ull | 1 },
        { QUEUE_NR_OPS, 4, 0 },
        { QUEUE_NR_OPS, 4, 3 },
        { QUEUE_NR_OPS, 4, 2048 },
        { QUEUE_NR_OPS, 4, 0xffffffff },
    };
    QStream st;
    QXenPVIOMMU *iommu = start_recorded(&st, "queues", fill_queues);
    size_t at = stream_find(st.data, st.len, 0, QUEUES_NAME,
                            strlen(QUEUES_NAME));
    unsigned nr = 0, first;

    g_assert_cmpuint(at, !=, OFFSET_NONE);
    first = lduw_be_p(st.data + at + QUEUE_FIELD(0, QUEUE_CTX)) ? 1 : 0;
    assert_taken(&st, iommu, NULL);
    for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
        g_autofree uint8_t *bad = g_memdup2(st.data, st.len);
        uint8_t *p = bad + at + QUEUE_FIELD(first, cases[i].field);

        if (cases[i].bytes == 2) {
            stw_be_p(p, cases[i].value);
        } else if (cases[i].bytes == 4) {
            stl_be_p(p, cases[i].value);
        } else {
            stq_be_p(p, cases[i].value);
        }
        assert_refused(&st, iommu, bad);
    }
    try_bytes(&st, iommu, &(Range) { at - 2, st.len, 1 }, &nr);
    stop_recorded(&st, iommu);
}

int main(int argc, char **argv)
{
    int ret;

    g_test_init(&argc, &argv, NULL);
    stream_begin();
    pviommu_add("q35/refused/machine-that-is-too-small",
                test_machine_that_is_too_small);
    pviommu_add("q35/refused/damaged-bytes", test_damaged_bytes);
    pviommu_add("q35/refused/bad-fault-ring", test_bad_fault_ring);
    pviommu_add("q35/refused/when-another-device-fails",
                test_when_another_device_fails);
    pviommu_add("q35/refused/with-a-reset-or-without",
                test_with_a_reset_or_without);
    pviommu_add("q35/refused/queues-that-are-off", test_queues_that_are_off);
    pviommu_add("q35/refused/bad-queues", test_bad_queues);
    ret = g_test_run();
    stream_cleanup();
    return ret;
}
