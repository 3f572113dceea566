/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A test that fails says where: the line that called the helper in which the
 * assertion is, and what was returned by name
 */

#include "qemu/osdep.h"
#include "../assert-status.h"

static const char *program;

static void __attribute__((noinline)) helper(int value)
{
    g_assert_cmpint(value, ==, 1);
    /* A call at its end would take it off the stack. */
    g_test_message("helper");
}

/* Where it is called for the second time, below */
enum { FAILING_LINE = __LINE__ + 6 };

/* In a process of its own, as GLib ends a test's subprocess without abort(). */
static int fail(void)
{
    helper(1);
    helper(2);
    return 0;
}

static void test_helper(void)
{
    g_autofree char *where = g_strdup_printf("fail at test-backtrace.c:%d",
                                             FAILING_LINE);
    const char *argv[] = { program, "--fail", NULL };
    g_autofree char *out = NULL, *err = NULL;
    int status;

    g_assert_true(g_spawn_sync(NULL, (char **)argv, NULL, 0, NULL, NULL, &out,
                               &err, &status, NULL));
    g_assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
    g_test_message("%s%s", out, err);
    g_assert_nonnull(strstr(out, "helper at test-backtrace.c:"));
    g_assert_nonnull(strstr(out, where));
    /* What every test is called by is left out. */
    g_assert_null(strstr(out, "main at"));
}

static void test_status(void)
{
    if (g_test_subprocess()) {
        assert_status(-XEN_IOMMU_ENOENT, XEN_IOMMU_ENOENT);
        assert_status(-XEN_IOMMU_ENOENT, XEN_IOMMU_EINVAL);
        return;
    }
    g_test_trap_subprocess(NULL, 0, 0);
    g_test_trap_assert_failed();
    g_test_trap_assert_stderr("*test-backtrace.c:*test_status: "
                              "*expected -XEN_IOMMU_EINVAL, "
                              "got -XEN_IOMMU_ENOENT*");
}

/* A status that is no error of the interface is shown as a number. */
static void test_status_unknown(void)
{
    if (g_test_subprocess()) {
        assert_status(-1000, 0);
        return;
    }
    g_test_trap_subprocess(NULL, 0, 0);
    g_test_trap_assert_failed();
    g_test_trap_assert_stderr("*expected 0, got -1000*");
}

int main(int argc, char **argv)
{
    if (argc == 2 && g_str_equal(argv[1], "--fail")) {
        return fail();
    }
    program = argv[0];
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/backtrace/helper-called-from", test_helper);
    g_test_add_func("/backtrace/status-by-name", test_status);
    g_test_add_func("/backtrace/status-by-number", test_status_unknown);
    return g_test_run();
}
