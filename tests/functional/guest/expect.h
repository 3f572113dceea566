/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What the test modules expect, and how often they were wrong
 */

#ifndef TESTS_GUEST_EXPECT_H
#define TESTS_GUEST_EXPECT_H

#include <linux/atomic.h>
#include <linux/printk.h>

static atomic_t failures;

static void expect(bool ok, int line)
{
	if (ok)
		return;
	/* A thread that is wrong is so a million times. */
	if (atomic_inc_return(&failures) <= 20)
		pr_err("%s: line %d: FAILED\n", KBUILD_MODNAME, line);
}

#define EXPECT(condition) expect(condition, __LINE__)

#endif /* TESTS_GUEST_EXPECT_H */
