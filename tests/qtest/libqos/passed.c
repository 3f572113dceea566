/*
 * libqos: functions that the simulated hypervisor passes through
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "libqos/passed.h"

/* Looks, 2 ms apart, that see nothing new. */
#define SETTLED 20

static unsigned number(Passed *v, const char *command)
{
    const char *answer;

    g_assert_true(xensim_command(v->sim, &answer, "%s", command));
    return g_ascii_strtoull(answer, NULL, 0);
}

static void about(Passed *v, const char *command, unsigned i)
{
    g_assert_true(xensim_command(v->sim, NULL, "%s 0x%x", command,
                                 PASSED_HOST_SBDF(i)));
}

Passed *passed_start(unsigned nr, const char *features, const char *props)
{
    const XenSimOptions options = { .features = features ?: PASSED_FEATURES };
    g_autofree char *args = g_strdup_printf(
        "-device xen-pviommu,addr=%x,x-check=on%s", PVIOMMU_SLOT, props ?: "");
    g_autoptr(GString) names = g_string_new(NULL);
    Passed *v = g_new0(Passed, 1);

    for (unsigned i = 0; i < PASSED_MAX; i++) {
        g_string_append_printf(names, "%s0000:%02x:%02x.%x", i ? "," : "",
                               PASSED_HOST_SBDF(i) >> 8,
                               PASSED_HOST_SBDF(i) >> 3 & 0x1f,
                               PASSED_HOST_SBDF(i) & 7);
    }
    g_setenv("XENSIM_FUNCTIONS", names->str, true);
    v->sim = xensim_start(&options, args);
    g_unsetenv("XENSIM_FUNCTIONS");
    for (unsigned i = 0; i < nr; i++) {
        passed_plug(v, i);
        passed_assign(v, i);
    }
    v->iommu = xensim_pviommu(v->sim);
    pviommu_accept(v->iommu, XEN_IOMMU_FEATURES_ALL);
    return v;
}

void passed_quit(Passed *v)
{
    pviommu_free(v->iommu);
    xensim_quit(v->sim);
    g_free(v);
}

void passed_plug(Passed *v, unsigned i)
{
    g_autofree char *id = g_strdup_printf("passed%u", i);
    g_autofree char *addr = g_strdup_printf("%x", PASSED_SLOT(i));
    g_autofree char *host = g_strdup_printf("0000:%02x:%02x.%x",
                                            PASSED_HOST_SBDF(i) >> 8,
                                            PASSED_HOST_SBDF(i) >> 3 & 0x1f,
                                            PASSED_HOST_SBDF(i) & 7);

    qtest_qmp_assert_success(v->sim->qts, "{ 'execute': 'device_add',"
                             " 'arguments': { 'driver': 'xen-pci-passthrough',"
                             " 'id': %s, 'addr': %s, 'hostaddr': %s } }", id,
                             addr, host);
}

void passed_assign(Passed *v, unsigned i)
{
    about(v, "assign", i);
}

void passed_deassign(Passed *v, unsigned i)
{
    about(v, "deassign", i);
}

uint32_t passed_dma(Passed *v, unsigned i, uint64_t bfn, bool write)
{
    const char *answer;

    if (xensim_command(v->sim, &answer, "dma 0x%x 0x%" PRIx64 " %d",
                       PASSED_HOST_SBDF(i), bfn * PVIOMMU_PAGE, write)) {
        return g_ascii_strtoull(answer, NULL, 0);
    }
    g_assert_cmpstr(answer, ==, "a fault");
    return XENSIM_NO_PAGE;
}

void passed_assert_reaches(Passed *v, unsigned i, uint64_t bfn, uint64_t gfn)
{
    const uint32_t page = xensim_page(v->sim, gfn);

    g_assert_cmpuint(page, !=, XENSIM_NO_PAGE);
    g_assert_cmpuint(passed_dma(v, i, bfn, false), ==, page);
    g_assert_cmpuint(passed_dma(v, i, bfn, true), ==, page);
}

void passed_assert_faults(Passed *v, unsigned i, uint64_t bfn)
{
    g_assert_cmpuint(passed_dma(v, i, bfn, false), ==, XENSIM_NO_PAGE);
    g_assert_cmpuint(passed_dma(v, i, bfn, true), ==, XENSIM_NO_PAGE);
    /*
     * QEMU fetches them by hypercalls, of which tests let one fail. Its main
     * loop has seen the event when it has come to the second of these.
     */
    for (unsigned n = 0; n < 2; n++) {
        qtest_readl(v->iommu->qts, 0);
    }
}

unsigned passed_context_of(Passed *v, unsigned i)
{
    g_autofree char *command = g_strdup_printf("context-of 0x%x",
                                               PASSED_HOST_SBDF(i));

    return number(v, command);
}

unsigned passed_contexts(Passed *v)
{
    return number(v, "contexts");
}

uint64_t passed_calls(Passed *v)
{
    uint64_t all = 0, faults = 0;

    /* The main loop fetches them when it gets to that. */
    for (unsigned same = 0; same < SETTLED; same++) {
        uint64_t now = xensim_count(v->sim, "xencall2");
        uint64_t now_faults = xensim_count(v->sim, "iommu_op_target_faults");

        if (now != all || now_faults != faults) {
            all = now;
            faults = now_faults;
            same = 0;
        }
        g_usleep(2000);
    }
    return all - faults;
}

void passed_wait_not_context(Passed *v, unsigned i, unsigned context)
{
    gint64 end = g_get_monotonic_time() + PVIOMMU_WAIT_US;

    while (passed_context_of(v, i) == context) {
        g_assert_cmpint(g_get_monotonic_time(), <, end);
        g_usleep(1000);
    }
}
