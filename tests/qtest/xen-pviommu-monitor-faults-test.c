/*
 * xen-pviommu: the faults that the monitor shows
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qobject/qlist.h"
#include "libqos/edu.h"
#include "libqos/xen-pviommu-qmp.h"

#define GFN             PVIOMMU_FREE_GFN
#define BFN             0x4000000
#define ADDR(frame)     ((uint64_t)(frame) * PVIOMMU_PAGE)
#define READONLY        XEN_IOMMUOP_map_readonly
#define EDU             EDU_DEVICE ",id=edu0,addr=11"
#define SBDF            (0x11 << 3)

/*
 * The faults as CONTEXT:ADDRESS in hex, w or r, the reason and the fate; as
 * many as are shown, and no more than @nr of them.
 */
static char *faults_text(QXenPVIOMMU *iommu, unsigned nr, const char *sbdf)
{
    QDict *resp = qtest_qmp(iommu->qts,
                            "{'execute': 'x-query-xen-pviommu-faults'}");
    g_autoptr(GString) text = g_string_new(NULL);
    int64_t last = g_get_real_time();
    const QListEntry *e;

    QLIST_FOREACH_ENTRY(qdict_get_qlist(resp, "return"), e) {
        QDict *fault = qobject_to(QDict, qlist_entry_obj(e));
        int64_t time = qdict_get_int(fault, "time");

        g_assert_cmpstr(qdict_get_str(fault, "sbdf"), ==, sbdf);
        g_assert_cmpint(time, <=, last);
        g_assert_cmpint(time, >, last - G_TIME_SPAN_HOUR);
        last = time;
        if (nr) {
            nr--;
            g_string_append_printf(text, "%s%" PRId64 ":%" PRIx64 "%s %s %s",
                                   text->len ? ", " : "",
                                   qdict_get_int(fault, "context"),
                                   qdict_get_int(fault, "address"),
                                   qdict_get_bool(fault, "write") ? "w" : "r",
                                   qdict_get_str(fault, "reason"),
                                   qdict_get_str(fault, "fate"));
        }
    }
    qobject_unref(resp);
    return g_strdup(text->str);
}

/* What becomes of a fault the main loop decides, a moment later. */
static void assert_faults(QXenPVIOMMU *iommu, unsigned nr, const char *faults)
{
    gint64 end = g_get_monotonic_time() + PVIOMMU_WAIT_US;
    g_autofree char *text = faults_text(iommu, nr, "0000:00:11.0");

    while (strcmp(text, faults) && g_get_monotonic_time() < end) {
        g_usleep(500);
        g_free(text);
        text = faults_text(iommu, nr, "0000:00:11.0");
    }
    g_assert_cmpstr(text, ==, faults);
}

static int nr_faults(QXenPVIOMMU *iommu)
{
    QDict *resp = qtest_qmp(iommu->qts,
                            "{'execute': 'x-query-xen-pviommu-faults'}");
    int nr = qlist_size(qdict_get_qlist(resp, "return"));

    qobject_unref(resp);
    return nr;
}

static void test_faults_have_a_fate(const void *machine)
{
    QXenPVIOMMU *iommu = pviommu_start_accepted(machine, NULL, EDU);
    uint16_t ctx = pviommu_alloc_context(iommu);
    QEdu edu;

    edu_init(&edu, iommu, QPCI_DEVFN(0x11, 0));
    assert_status(pviommu_enable(iommu), 0);
    g_assert_cmpint(nr_faults(iommu), ==, 0);
    edu_dma(&edu, true, ADDR(BFN) + 8, 8);
    assert_faults(iommu, 9, "0:4000000008w unmapped ring-off");

    pviommu_fault_ring(iommu, 2);
    assert_status(pviommu_map(iommu, 0, BFN, GFN, 0, READONLY), 0);
    edu_dma(&edu, true, ADDR(BFN) + 16, 8);
    assert_status(pviommu_attach(iommu, SBDF, ctx), 0);
    edu_dma(&edu, false, ADDR(1ull << 36), 8);
    pviommu_wait_faults(iommu, 2);
    edu_dma(&edu, false, ADDR(BFN), 8);
    assert_faults(iommu, 9, "1:4000000000r unmapped waiting, "
                  "1:1000000000000r range delivered, "
                  "0:4000000010w readonly delivered, "
                  "0:4000000008w unmapped ring-off");
    {
        QDict *state = pviommu_query(iommu);

        qmp_assert_json(qdict_get(state, "fault-ring"),
                        "{'enabled': true, 'address': 25165824, 'size': 2,"
                        " 'head': 0, 'tail': 2, 'waiting': 1}");
        g_assert_cmpint(qdict_get_int(qdict_get_qdict(state, "counters"),
                                      "faults"), ==, 4);
        qobject_unref(state);
    }
    pviommu_writel(iommu, XEN_PVIOMMU_REG_FAULT_HEAD, 1);
    pviommu_wait_faults(iommu, 3);
    assert_faults(iommu, 1, "1:4000000000r unmapped delivered");

    /* They survive a reset; what waits then is dropped. */
    edu_dma(&edu, false, ADDR(BFN + 1), 8);
    assert_faults(iommu, 1, "1:4000001000r unmapped waiting");
    pviommu_reset(iommu);
    assert_faults(iommu, 3, "1:4000001000r unmapped lost, "
                  "1:4000000000r unmapped delivered, "
                  "1:1000000000000r range delivered");

    /* The last 32, those that are dropped among them. */
    edu_init(&edu, iommu, QPCI_DEVFN(0x11, 0));
    assert_status(pviommu_enable(iommu), 0);
    pviommu_fault_ring(iommu, 1);
    for (unsigned i = 0; i < 258; i++) {
        edu_dma(&edu, false, ADDR(BFN + i), 8);
    }
    assert_faults(iommu, 2, "0:4000101000r unmapped lost, "
                  "0:4000100000r unmapped waiting");
    g_assert_cmpint(nr_faults(iommu), ==, 32);
    pviommu_quit(iommu);
}

/* A ring that is not in RAM: they are dropped. */
static void test_faults_for_a_bad_ring_are_lost(void)
{
    QXenPVIOMMU *iommu = pviommu_start_accepted("q35", NULL, EDU);
    QEdu edu;

    edu_init(&edu, iommu, QPCI_DEVFN(0x11, 0));
    assert_status(pviommu_enable(iommu), 0);
    pviommu_writeq(iommu, XEN_PVIOMMU_REG_FAULT_RING, 0xfed00000);
    pviommu_writel(iommu, XEN_PVIOMMU_REG_FAULT_SIZE, 4);
    pviommu_writel(iommu, XEN_PVIOMMU_REG_FAULT_CTRL,
                   XEN_PVIOMMU_FAULT_CTRL_ENABLE);
    edu_dma(&edu, true, ADDR(BFN), 8);
    assert_faults(iommu, 9, "0:4000000000w unmapped lost");
    pviommu_quit(iommu);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    pviommu_add_for_machines("monitor/faults-have-a-fate",
                             test_faults_have_a_fate);
    pviommu_add("monitor/faults-for-a-bad-ring-are-lost",
                test_faults_for_a_bad_ring_are_lost);
    return g_test_run();
}
