/*
 * xen-pviommu with backend=xen, under a simulated hypervisor: pages in the
 * host's IOMMU
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qobject/qlist.h"
#include "libqos/xen-pviommu-qmp.h"
#include "libqos/xensim.h"

#define GFN             (PVIOMMU_FREE_GFN + 0x1000ull)
/* xensim's; the upper half is where BFNs are looked for. */
#define BFN_LIMIT       (1ull << 35)
#define HALF            (BFN_LIMIT / 2)

/* All but so many of the upper half's BFNs are reserved, and there are few. */
#define SMALL_BITS      22
#define SMALL_HALF      (1ull << (SMALL_BITS - 1))
#define SMALL_FREE      2048u

#define DEVICE(backend) \
    "-device xen-pviommu,addr=10,x-check=on,backend=" backend

/* Environment of the simulator that few tests need. */
static void set_small(bool small)
{
    g_autofree char *bits = g_strdup_printf("%d", SMALL_BITS);
    g_autofree char *reserved =
        g_strdup_printf("0x%llx:0x%llx", SMALL_HALF + SMALL_FREE,
                        SMALL_HALF - SMALL_FREE);

    if (small) {
        g_setenv("XENSIM_BFN_BITS", bits, true);
        g_setenv("XENSIM_RESERVED", reserved, true);
    } else {
        g_unsetenv("XENSIM_BFN_BITS");
        g_unsetenv("XENSIM_RESERVED");
    }
}

static XenSim *start(void)
{
    return xensim_start(NULL, DEVICE("xen"));
}

static XenSim *start_small(void)
{
    XenSim *sim;

    set_small(true);
    sim = start();
    set_small(false);
    return sim;
}

static void command(XenSim *sim, const char *what, uint64_t bfn, uint64_t nr)
{
    g_assert_true(xensim_command(sim, NULL, "%s 0x%" PRIx64 " %" PRIu64, what,
                                 bfn, nr));
}

static QDict *qmp_map(XenSim *sim, uint64_t gfn, uint32_t nr, bool readonly)
{
    return qtest_qmp(sim->qts, "{ 'execute': 'x-xen-pviommu-host-map',"
                     " 'arguments': { 'gfn': %" PRIu64 ", 'frames': %u,"
                     " 'readonly': %i } }", gfn, nr, readonly);
}

/* Returns: the BFN. */
static uint64_t map(XenSim *sim, uint64_t gfn, uint32_t nr)
{
    QDict *rsp = qmp_map(sim, gfn, nr, false);
    QDict *range = qdict_get_qdict(rsp, "return");
    uint64_t bfn;

    g_assert_nonnull(range);
    g_assert_cmphex(qdict_get_int(range, "gfn"), ==, gfn);
    g_assert_cmpuint(qdict_get_int(range, "frames"), ==, nr);
    bfn = qdict_get_int(range, "bfn");
    qobject_unref(rsp);
    return bfn;
}

static void map_fails(XenSim *sim, uint64_t gfn, uint32_t nr, const char *why)
{
    g_autofree char *desc = qmp_error_text(qmp_map(sim, gfn, nr, false));

    g_assert_nonnull(desc);
    if (!strstr(desc, why)) {
        g_assert_cmpstr(desc, ==, why);
    }
}

static char *try_unmap(XenSim *sim, uint64_t bfn, uint32_t nr)
{
    return qmp_error_text(qtest_qmp(sim->qts,
                                    "{ 'execute': 'x-xen-pviommu-host-unmap',"
                                    " 'arguments': { 'bfn': %" PRIu64 ","
                                    " 'frames': %u } }", bfn, nr));
}

static void unmap(XenSim *sim, uint64_t bfn, uint32_t nr)
{
    g_autofree char *desc = try_unmap(sim, bfn, nr);

    g_assert_cmpstr(desc, ==, NULL);
}

static void unmap_fails(XenSim *sim, uint64_t bfn, uint32_t nr)
{
    g_autofree char *desc = try_unmap(sim, bfn, nr);

    g_assert_nonnull(desc);
    g_assert_nonnull(strstr(desc, "did not unmap"));
}

/* What devices reach, as text: "BFN:GFN:FRAMES ..." */
static void assert_reach(XenSim *sim, const char *fmt, ...)
    G_GNUC_PRINTF(2, 3);
static void assert_reach(XenSim *sim, const char *fmt, ...)
{
    QDict *rsp = qtest_qmp(sim->qts,
                           "{ 'execute': 'x-query-xen-pviommu-host' }");
    g_autoptr(GString) text = g_string_new(NULL);
    g_autofree char *expected = NULL;
    QListEntry *e;
    va_list ap;

    QLIST_FOREACH_ENTRY(qdict_get_qlist(rsp, "return"), e) {
        QDict *range = qobject_to(QDict, qlist_entry_obj(e));

        g_string_append_printf(text, "%s%" PRIx64 ":%" PRIx64 ":%" PRIu64,
                               text->len ? " " : "",
                               qdict_get_int(range, "bfn"),
                               qdict_get_int(range, "gfn"),
                               qdict_get_int(range, "frames"));
    }
    qobject_unref(rsp);
    va_start(ap, fmt);
    expected = g_strdup_vprintf(fmt, ap);
    va_end(ap);
    g_assert_cmpstr(text->str, ==, expected);
}

/* The host's IOMMU has @nr references on each of so many pages. */
static void assert_refs(XenSim *sim, uint32_t page, uint32_t pages, unsigned nr)
{
    for (uint32_t i = 0; i < pages; i++) {
        g_assert_cmpuint(xensim_references(sim, page + i), ==, nr);
    }
}

/* --- map and unmap -------------------------------------------------------- */

static void test_map_takes_references(void)
{
    XenSim *sim = start();
    uint32_t page = xensim_page(sim, GFN);
    uint64_t bfn = map(sim, GFN, 8), other;
    QDict *rsp;

    g_assert_cmphex(bfn, >=, HALF);
    g_assert_cmphex(bfn, <, BFN_LIMIT);
    assert_refs(sim, page, 8, 1);
    assert_refs(sim, page + 8, 1, 0);
    other = map(sim, GFN + 2, 1);
    g_assert_true(other < bfn || other >= bfn + 8);
    assert_refs(sim, page + 2, 1, 2);
    g_assert_true(g_str_has_suffix(xensim_last(sim, "iommu_op_map"),
                                   "flags 0"));
    unmap(sim, other, 1);

    /* A part; unmapping more than what is left unmaps that. */
    unmap(sim, bfn + 3, 2);
    assert_refs(sim, page, 3, 1);
    assert_refs(sim, page + 3, 2, 0);
    assert_refs(sim, page + 5, 3, 1);
    assert_reach(sim, "%" PRIx64 ":%llx:3 %" PRIx64 ":%llx:3", bfn, GFN,
                 bfn + 5, GFN + 5);
    unmap(sim, bfn + 3, 2);
    unmap(sim, 5, 1);
    unmap(sim, INT64_MAX, UINT32_MAX);
    unmap(sim, bfn - 10, 100);
    assert_refs(sim, page, 8, 0);
    assert_reach(sim, "%s", "");

    rsp = qmp_map(sim, GFN, 1, true);
    g_assert_nonnull(qdict_get_qdict(rsp, "return"));
    qobject_unref(rsp);
    g_assert_true(g_str_has_suffix(xensim_last(sim, "iommu_op_map"),
                                   "flags 1"));
    /* QEMU unmaps the rest as it exits, or xensim would complain. */
    map(sim, GFN, 100);
    xensim_quit(sim);
}

static void test_bad_ranges_fail(void)
{
    XenSim *sim = start();
    uint64_t calls = xensim_count(sim, "xencall2");

    map_fails(sim, GFN, 0, "no range");
    map_fails(sim, 1ull << 40, 1, "no range");
    map_fails(sim, (1ull << 40) - 1, 2, "no range");
    map_fails(sim, INT64_MAX, UINT32_MAX, "no range");
    g_assert_cmpuint(xensim_count(sim, "xencall2"), ==, calls);
    xensim_remove(sim, GFN + 4, 1);
    map_fails(sim, GFN, 8, strerror(ENOENT));
    assert_refs(sim, xensim_page(sim, GFN), 1, 0);
    xensim_add(sim, GFN + 4, 1);
    map(sim, GFN, 8);
    xensim_quit(sim);
}

/* Each way a map fails: QEMU says why, has nothing mapped, and goes on. */
static void test_failed_map_maps_nothing(void)
{
    static const struct {
        const char *what;
        int err;
    } ways[] = {
        { "iommu_op_map", EPERM }, { "iommu_op_map", ENOENT },
        { "iommu_op_map", ESRCH }, { "iommu_op_map", EIO },
        { "iommu_op_map", EAGAIN }, { "iommu_op_map", ENOMEM },
        { "iommu_op_map", EACCES }, { "iommu_op_map", EINVAL },
        { "iommu_op_map", ENOSPC }, { "iommu_op_map", EOPNOTSUPP },
        { "iommu_op", EFAULT }, { "xencall2", ENOSYS }, { "xencall2", EPERM },
    };
    XenSim *sim = start();
    uint32_t page = xensim_page(sim, GFN);

    for (int i = 0; i < ARRAY_SIZE(ways); i++) {
        uint64_t calls = xensim_count(sim, "xencall2");

        xensim_fail(sim, ways[i].what, 1, ways[i].err);
        map_fails(sim, GFN, 16, strerror(ways[i].err));
        assert_refs(sim, page, 16, 0);
        assert_reach(sim, "%s", "");
        /* It is not tried again while the BQL is held. */
        if (ways[i].err != EIO) {
            g_assert_cmpuint(xensim_count(sim, "xencall2"), ==, calls + 1);
        }
        unmap(sim, map(sim, GFN, 16), 16);
    }
    /* It was done, and the status says so. */
    xensim_fail(sim, "iommu_op_tables", 1, EIO);
    map(sim, GFN, 16);
    assert_refs(sim, page, 16, 1);
    xensim_quit(sim);
}

/* --- places --------------------------------------------------------------- */

/* Two emulators in one dom0: the other has BFNs just where this one looks. */
static void test_bfns_of_other_emulators_are_avoided(void)
{
    XenSim *sim = start();
    uint64_t first = map(sim, GFN, 1), lookups, bfn;

    command(sim, "occupy", first + 1, 20000);
    command(sim, "occupy", first + 1 + 20000 + 3, 1);
    /* In the gap of three; then behind all of it. */
    g_assert_cmphex(map(sim, GFN, 3), ==, first + 1 + 20000);
    unmap(sim, first + 1 + 20000, 3);
    lookups = xensim_count(sim, "iommu_op_lookup_bfn");
    bfn = map(sim, GFN, 4);
    g_assert_cmphex(bfn, ==, first + 1 + 20000 + 4);
    g_assert_cmpuint(xensim_count(sim, "iommu_op_lookup_bfn") - lookups, <, 10);
    xensim_quit(sim);
}

/* Emulators of other guests do not even look in the same place at first. */
static void test_domains_begin_apart(void)
{
    const uint32_t nr = 0x8000;
    uint64_t bfn[3];

    for (int i = 0; i < ARRAY_SIZE(bfn); i++) {
        g_autofree char *domid = g_strdup_printf("%d", i * 5 + 2);
        g_autofree char *args = g_strconcat(DEVICE("xen -xen-domid "), domid,
                                            NULL);
        XenSim *sim;

        g_setenv("XENSIM_DOMID", domid, true);
        sim = xensim_start(NULL, args);
        g_unsetenv("XENSIM_DOMID");
        bfn[i] = map(sim, GFN, nr);
        for (int other = 0; other < i; other++) {
            g_assert_true(bfn[i] >= bfn[other] + nr ||
                          bfn[other] >= bfn[i] + nr);
        }
        xensim_quit(sim);
    }
}

/* A device was added to dom0, with reserved BFNs. */
static void test_bfns_reserved_later_are_avoided(void)
{
    XenSim *sim = start();
    uint64_t first = map(sim, GFN, 1), bfn;

    command(sim, "reserve", first + 4, 1000);
    bfn = map(sim, GFN, 16);
    g_assert_cmphex(bfn, >=, first + 4 + 1000);
    xensim_quit(sim);
}

/* All of them are used, however many of them are ours; then none is left. */
static void test_all_bfns_are_used(void)
{
    g_autofree bool *seen = g_new0(bool, SMALL_FREE);
    XenSim *sim = start_small();
    uint64_t calls = xensim_count(sim, "xencall2");

    for (unsigned i = 0; i < SMALL_FREE; i++) {
        uint64_t bfn = map(sim, GFN + i % 50, 1);

        g_assert_cmphex(bfn, >=, SMALL_HALF);
        g_assert_cmphex(bfn, <, SMALL_HALF + SMALL_FREE);
        g_assert_false(seen[bfn - SMALL_HALF]);
        seen[bfn - SMALL_HALF] = true;
    }
    /* No call but the map itself: reserved ones were known before. */
    g_assert_cmpuint(xensim_count(sim, "xencall2") - calls, ==, SMALL_FREE);
    map_fails(sim, GFN, 1, strerror(ENOSPC));
    unmap(sim, SMALL_HALF + 1234, 2);
    g_assert_cmphex(map(sim, GFN, 1), ==, SMALL_HALF + 1234);
    map_fails(sim, GFN, 2, strerror(ENOSPC));
    g_assert_cmphex(map(sim, GFN, 1), ==, SMALL_HALF + 1235);
    xensim_quit(sim);
}

/* --- invalidation --------------------------------------------------------- */

static void test_pages_that_leave_are_unmapped(void)
{
    XenSim *sim = start();
    uint32_t page = xensim_page(sim, GFN);
    uint64_t a = map(sim, GFN, 8), b = map(sim, GFN + 2, 3);

    qtest_writeq(sim->qts, (GFN + 3) * PVIOMMU_PAGE, 1);
    xensim_release(sim, GFN + 3, 1);
    /* In the simulator, too, the page could be freed now. */
    assert_refs(sim, page + 3, 1, 0);
    g_assert_cmpuint(xensim_mapped(sim, page + 3, 1), ==, 0);
    assert_refs(sim, page + 2, 1, 2);
    assert_refs(sim, page + 4, 1, 2);
    assert_reach(sim, "%" PRIx64 ":%llx:3 %" PRIx64 ":%llx:4 "
                 "%" PRIx64 ":%llx:1 %" PRIx64 ":%llx:1", a, GFN,
                 a + 4, GFN + 4, b, GFN + 2, b + 2, GFN + 4);
    /* It comes back, and is nobody's until it is mapped again. */
    xensim_add(sim, GFN + 3, 1);
    assert_refs(sim, xensim_page(sim, GFN + 3), 1, 0);
    unmap(sim, a, 8);
    unmap(sim, b, 3);
    assert_refs(sim, page, 8, 0);
    /* A range that is larger than what is mapped, and one beside it. */
    a = map(sim, GFN, 4);
    xensim_release(sim, GFN + 4, 10);
    assert_refs(sim, page, 3, 1);
    xensim_release(sim, GFN - 10, 14);
    assert_refs(sim, page, 4, 0);
    assert_reach(sim, "%s", "");
    xensim_quit(sim);
}

/* A caller may use the BFNs that it was given until it unmaps them. */
static void test_bfns_of_pages_that_left_stay_taken(void)
{
    XenSim *sim = start_small();
    uint64_t start = map(sim, GFN, 1), rest;

    unmap(sim, start, 1);
    rest = SMALL_HALF + SMALL_FREE - start - 1;
    start = map(sim, GFN, rest);
    map(sim, GFN, SMALL_FREE - rest);
    map_fails(sim, GFN, 1, strerror(ENOSPC));
    xensim_release(sim, GFN + 100, 3);
    map_fails(sim, GFN, 1, strerror(ENOSPC));
    unmap(sim, start + 101, 1);
    map_fails(sim, GFN, 2, strerror(ENOSPC));
    g_assert_cmphex(map(sim, GFN, 1), ==, start + 101);
    map_fails(sim, GFN, 1, strerror(ENOSPC));
    xensim_quit(sim);
}

/* --- what the hypervisor does not unmap ----------------------------------- */

static void test_failed_unmap_is_tried_again(void)
{
    static const struct {
        const char *what;
        int err;
    } ways[] = {
        { "iommu_op_unmap", EIO }, { "iommu_op_unmap", EACCES },
        { "iommu_op_unmap", EINVAL }, { "xencall2", ENOSYS },
        { "iommu_op", EFAULT },
    };
    XenSim *sim = start();
    uint32_t page = xensim_page(sim, GFN);

    for (int i = 0; i < ARRAY_SIZE(ways); i++) {
        uint64_t bfn = map(sim, GFN, 4), other;

        xensim_fail(sim, ways[i].what, 1, ways[i].err);
        unmap_fails(sim, bfn, 4);
        assert_refs(sim, page, 4, 1);
        /* It is known that devices reach it. */
        assert_reach(sim, "%" PRIx64 ":%llx:4", bfn, GFN);
        other = map(sim, GFN + 8, 4);
        g_assert_cmphex(other, !=, bfn);
        unmap(sim, other, 4);
        /* The second time, for a part; the rest when the page leaves. */
        unmap(sim, bfn, 2);
        assert_refs(sim, page, 2, 0);
        assert_refs(sim, page + 2, 2, 1);
        xensim_release(sim, GFN, 4);
        assert_refs(sim, page, 4, 0);
        assert_reach(sim, "%s", "");
        xensim_add(sim, GFN, 4);
        page = xensim_page(sim, GFN);
    }
    xensim_quit(sim);
}

/* Unmapped, but not flushed: references stay until a flush succeeds. */
static void test_failed_flush_is_tried_again(void)
{
    XenSim *sim = start();
    uint32_t page = xensim_page(sim, GFN);
    uint64_t bfn = map(sim, GFN, 4), unmaps;

    xensim_fail(sim, "iommu_op_flush", 1, EIO);
    unmap_fails(sim, bfn, 4);
    assert_refs(sim, page, 4, 1);
    /* They may be in the IOTLB. */
    assert_reach(sim, "%" PRIx64 ":%llx:4", bfn, GFN);
    unmaps = xensim_count(sim, "iommu_op_unmap");
    unmap(sim, bfn, 1);
    assert_refs(sim, page, 1, 0);
    assert_refs(sim, page + 1, 3, 1);
    xensim_release(sim, GFN + 1, 3);
    assert_refs(sim, page, 4, 0);
    assert_reach(sim, "%s", "");
    g_assert_cmpuint(xensim_count(sim, "iommu_op_unmap"), ==, unmaps);
    xensim_quit(sim);
}

/* When an invalidation fails the owner's unmap is the second attempt. */
static void test_failed_invalidation_is_tried_again(void)
{
    XenSim *sim = start();
    uint32_t page = xensim_page(sim, GFN);
    uint64_t bfn = map(sim, GFN, 4);

    xensim_fail(sim, "iommu_op_unmap", 1, EIO);
    xensim_release(sim, GFN + 1, 1);
    /* The hypervisor does not free it, as it holds it. */
    assert_refs(sim, page + 1, 1, 1);
    assert_reach(sim, "%" PRIx64 ":%llx:1 %" PRIx64 ":%llx:1 %" PRIx64
                 ":%llx:2", bfn, GFN, bfn + 1, GFN + 1, bfn + 2, GFN + 2);
    unmap(sim, bfn, 4);
    assert_refs(sim, page, 4, 0);
    assert_reach(sim, "%s", "");
    xensim_quit(sim);
}

/* A part of it is not mapped any more, and not by our doing. */
static void test_removed_elsewhere_can_be_unmapped(void)
{
    XenSim *sim = start();
    uint32_t page = xensim_page(sim, GFN);
    uint64_t bfn = map(sim, GFN, 10000), calls;

    command(sim, "revoke", bfn + 3000, 100);
    command(sim, "revoke", bfn + 9999, 1);
    calls = xensim_count(sim, "xencall2");
    unmap(sim, bfn, 10000);
    g_assert_cmpuint(xensim_count(sim, "xencall2") - calls, <, 15);
    for (unsigned i = 0; i < 10000; i += 999) {
        assert_refs(sim, page + i, 1, 0);
    }
    assert_reach(sim, "%s", "");

    /* All of it; and then another emulator maps there. */
    bfn = map(sim, GFN, 10);
    command(sim, "revoke", bfn, 10);
    command(sim, "occupy", bfn + 2, 5);
    unmap(sim, bfn, 10);
    assert_reach(sim, "%s", "");
    xensim_quit(sim);
}

/* It cannot be undone all the way: what is left is not forgotten. */
static void test_half_undone_map_is_not_forgotten(void)
{
    XenSim *sim = start();
    uint32_t page = xensim_page(sim, GFN);

    xensim_fail(sim, "iommu_op_map", 1, EIO);
    xensim_fail(sim, "iommu_op_unmap", 1, EIO);
    map_fails(sim, GFN, 8, strerror(EIO));
    assert_refs(sim, page, 4, 1);
    g_assert_cmpuint(xensim_references(sim, page + 4), ==, 0);
    xensim_release(sim, GFN, 2);
    assert_refs(sim, page, 2, 0);
    assert_refs(sim, page + 2, 2, 1);
    map(sim, GFN + 4, 4);
    assert_refs(sim, page + 4, 4, 1);
    xensim_quit(sim);
}

/* At the end nobody is left to try again, but it is said. */
static void test_failed_unmap_at_exit_is_reported(void)
{
    XenSim *sim = start();

    map(sim, GFN, 4);
    xensim_fail(sim, "iommu_op_unmap", 1, EIO);
    qtest_set_expected_status(sim->qts, XENSIM_EXIT_COMPLAINTS);
    xensim_quit(sim);
}

/* --- a hypervisor that cannot --------------------------------------------- */

static void test_unfit_hypervisor_is_refused(void)
{
    static const struct {
        const char *features;
        const char *fail;
        const char *bits;
        const char *args;
        const char *says;
    } refusals[] = {
        { .features = "invalidate-page", .says = "has no iommu_op" },
        { .features = "other-iommu-op", .says = "iommu_op(subop, arg)" },
        { .features = "other-iommu-op,iommu-off",
          .says = "this domain may not use it" },
        { .features = "iommu-op,iommu-off", .says = "iommu=1" },
        { .features = "iommu-op,iommu-denied", .says = "may not control" },
        { .bits = "60", .says = "have 60 bits" },
        { .bits = "12", .says = "have 12 bits" },
        { .bits = "20", .says = "all BFNs of this domain are reserved" },
        { .args = "-xen-domid-restrict", .says = "-xen-domid-restrict takes" },
        { .fail = "xencall_open:1:13", .says = "cannot make hypercalls" },
        { .fail = "xencall_alloc_buffer:1:12", .says = "no memory" },
        { .fail = "xencall_alloc_buffer:2:12", .says = "no memory" },
        { .fail = "xencall4:1:1", .says = "an unknown interface" },
        { .fail = "xencall4:2:22", .says = "cannot be told apart" },
        { .fail = "xencall2:1:38", .says = "does not say what it can do" },
        { .fail = "iommu_op_query_caps:1:95",
          .says = "does not say what it can do" },
        { .fail = "xencall2:2:14", .says = "which BFNs are reserved" },
        { .fail = "iommu_op_query_reserved:1:12",
          .says = "which BFNs are reserved" },
        { .fail = "iommu_op_query_reserved:2:105",
          .says = "which BFNs are reserved" },
    };

    for (int i = 0; i < ARRAY_SIZE(refusals); i++) {
        const XenSimOptions options = {
            .features = refusals[i].features, .fail = refusals[i].fail,
        };
        g_autofree char *xen = g_strconcat(DEVICE("xen "),
                                           refusals[i].args ?: "", NULL);
        g_autofree char *own = g_strconcat(DEVICE("auto "),
                                           refusals[i].args ?: "", NULL);
        g_autofree char *err = NULL, *fine = NULL;
        int status;

        if (refusals[i].bits) {
            g_setenv("XENSIM_BFN_BITS", refusals[i].bits, true);
        }
        err = xensim_try(&options, xen, &status);
        g_test_message("%s", err);
        g_assert_cmpint(status, ==, 1);
        g_assert_nonnull(strstr(err, refusals[i].says));
        /* And backend=auto is fine with the other. */
        fine = xensim_try(&options, own, &status);
        g_assert_cmpstr(fine, ==, "");
        g_assert_cmpint(status, ==, 0);
        g_unsetenv("XENSIM_BFN_BITS");
    }
}

/* Asking which iommu_op it is does nothing where it is the other. */
static void test_other_iommu_op_is_not_called(void)
{
    static const char *const features[] = {
        "invalidate-page,other-iommu-op",
        "invalidate-page,other-iommu-op,iommu-off",
    };

    for (int i = 0; i < ARRAY_SIZE(features); i++) {
        const XenSimOptions options = { .features = features[i] };
        XenSim *sim = xensim_start(&options, DEVICE("auto"));

        g_assert_cmpuint(xensim_count(sim, "xencall4"), ==, 2);
        g_assert_cmpuint(xensim_count(sim, "xencall2"), ==, 0);
        g_assert_cmpuint(xensim_count(sim, "other_iommu_op"), ==, 0);
        g_assert_cmpuint(xensim_count(sim, "xencall_alloc_buffer"), ==, 0);
        map_fails(sim, GFN, 1, "not mapped for physical devices");
        xensim_quit(sim);
    }
}

/* There is no IOMMU of the host then, and its QMP commands fail. */
static void test_emulated_backend_maps_nothing(void)
{
    XenSim *sim = xensim_start(NULL, DEVICE("emulated"));

    map_fails(sim, GFN, 1, "not mapped for physical devices");
    g_assert_cmpuint(xensim_count(sim, "xencall_open"), ==, 0);
    xensim_quit(sim);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    pviommu_add("host/map-takes-references", test_map_takes_references);
    pviommu_add("host/bad-ranges-fail", test_bad_ranges_fail);
    pviommu_add("host/failed-map-maps-nothing", test_failed_map_maps_nothing);
    pviommu_add("host/bfns-of-other-emulators-are-avoided",
                test_bfns_of_other_emulators_are_avoided);
    pviommu_add("host/domains-begin-apart", test_domains_begin_apart);
    pviommu_add("host/bfns-reserved-later-are-avoided",
                test_bfns_reserved_later_are_avoided);
    pviommu_add("host/all-bfns-are-used", test_all_bfns_are_used);
    pviommu_add("host/pages-that-leave-are-unmapped",
                test_pages_that_leave_are_unmapped);
    pviommu_add("host/bfns-of-pages-that-left-stay-taken",
                test_bfns_of_pages_that_left_stay_taken);
    pviommu_add("host/failed-unmap-is-tried-again",
                test_failed_unmap_is_tried_again);
    pviommu_add("host/failed-flush-is-tried-again",
                test_failed_flush_is_tried_again);
    pviommu_add("host/failed-invalidation-is-tried-again",
                test_failed_invalidation_is_tried_again);
    pviommu_add("host/removed-elsewhere-can-be-unmapped",
                test_removed_elsewhere_can_be_unmapped);
    pviommu_add("host/half-undone-map-is-not-forgotten",
                test_half_undone_map_is_not_forgotten);
    pviommu_add("host/failed-unmap-at-exit-is-reported",
                test_failed_unmap_at_exit_is_reported);
    pviommu_add("host/unfit-hypervisor-is-refused",
                test_unfit_hypervisor_is_refused);
    pviommu_add("host/other-iommu-op-is-not-called",
                test_other_iommu_op_is_not_called);
    pviommu_add("host/emulated-backend-maps-nothing",
                test_emulated_backend_maps_nothing);
    return g_test_run();
}
