/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Random numbers of the tests of tables
 */

#ifndef TESTS_UNIT_TEST_RANDOM_H
#define TESTS_UNIT_TEST_RANDOM_H

static inline uint64_t random_u64(void)
{
    return (uint64_t)g_random_int() << 32 | g_random_int();
}

/* In [0, limit) */
static inline uint64_t random_below(uint64_t limit)
{
    return random_u64() % limit;
}

static inline bool chance(unsigned percent)
{
    return g_random_int_range(0, 100) < percent;
}

static inline unsigned scale(void)
{
    const char *s = g_getenv("XEN_PVIOMMU_TEST_SCALE");

    return s ? MAX(atoi(s), 1) : 1;
}

/* Any length counts: as likely a page as a GiB. */
static inline uint64_t random_length(unsigned max_order)
{
    uint64_t nr = 1ull << g_random_int_range(0, max_order + 1);

    switch (g_random_int_range(0, 4)) {
    case 0:
        return nr;
    case 1:
        return nr + random_below(nr);
    case 2:
        return nr + 1;
    default:
        return MAX(nr - 1, 1);
    }
}

#endif /* TESTS_UNIT_TEST_RANDOM_H */
