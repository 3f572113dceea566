/*
 * xen-pviommu under a simulated hypervisor: pages leave and come back while
 * DMA uses them, in any order
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "libqos/invalidate-fixture.h"

#define RANDOM_PAGES    (2 * BUCKET + 40)
#define RANDOM_STEPS    1500

typedef struct Random {
    Machine v;
    /* A page's number, and the pages of each DMA when it began. */
    uint32_t page[RANDOM_PAGES];
    struct {
        uint64_t nr;
        uint32_t pages[8];
    } dma[PVIOMMU_MIRROR_NR_SLOTS];
    GArray *removed;            /* of page numbers */
    uint64_t entries;
} Random;

static bool is_in_flight(Random *r, uint32_t page)
{
    for (int s = 0; s < PVIOMMU_MIRROR_NR_SLOTS; s++) {
        for (uint64_t i = 0; i < r->dma[s].nr; i++) {
            if (r->dma[s].pages[i] == page) {
                return true;
            }
        }
    }
    return false;
}

/* Removed pages stay mapped while DMA uses them, and only then. */
static void check_removed(Random *r)
{
    for (guint i = 0; i < r->removed->len; i++) {
        uint32_t page = g_array_index(r->removed, uint32_t, i);
        uint64_t n = xensim_mapped(r->v.sim, page, 1);

        if (is_in_flight(r, page)) {
            g_assert_cmpuint(n, >=, 1);
        } else {
            g_assert_cmpuint(n, ==, 0);
            g_array_remove_index_fast(r->removed, i--);
        }
    }
}

static void random_remove(Random *r, uint64_t first, uint64_t nr, bool ring)
{
    Machine *v = &r->v;

    for (uint64_t i = first; i < first + nr; i++) {
        if (r->page[i] == XENSIM_NO_PAGE) {
            continue;
        }
        xensim_remove(v->sim, GFN + i, 1);
        g_array_append_val(r->removed, r->page[i]);
        r->page[i] = XENSIM_NO_PAGE;
        if (ring) {
            g_assert_true(xensim_buffer_invalidate(v->sim, GFN + i,
                                                   XEN_INVALIDATE_PAGE_4K));
            r->entries++;
        }
    }
    if (!ring) {
        xensim_invalidate(v->sim, GFN + first, nr);
    } else if (r->entries) {
        xensim_barrier(v->sim, r->entries);
    }
}

static void random_add(Random *r, uint64_t first, uint64_t nr)
{
    for (uint64_t i = first; i < first + nr; i++) {
        if (r->page[i] == XENSIM_NO_PAGE) {
            xensim_add(r->v.sim, GFN + i, 1);
            r->page[i] = xensim_page(r->v.sim, GFN + i);
        }
    }
}

static void random_hold(Random *r, unsigned slot, uint64_t first, uint64_t nr)
{
    uint64_t len;

    if (r->dma[slot].nr) {
        mirror_release(&r->v.m[0], slot, r->dma[slot].nr * PAGE);
        r->dma[slot].nr = 0;
        return;
    }
    nr = MIN(nr, ARRAY_SIZE(r->dma[slot].pages));
    for (uint64_t i = 0; i < nr; i++) {
        if (r->page[first + i] == XENSIM_NO_PAGE) {
            return;
        }
        r->dma[slot].pages[i] = r->page[first + i];
    }
    len = hold(&r->v, slot, first, nr);
    g_assert_cmpuint(len, ==, nr * PAGE);
    r->dma[slot].nr = nr;
}

/* DMA reaches the page that it began in, whatever became of that. */
static void random_touch(Random *r, unsigned slot, uint64_t value)
{
    for (uint64_t i = 0; i < r->dma[slot].nr; i++) {
        uint64_t data;

        mirror_touch_write(&r->v.m[0], slot, i * PAGE + 24, value + i);
        xensim_peek(r->v.sim, r->dma[slot].pages[i], 24, &data, sizeof(data));
        g_assert_cmphex(le64_to_cpu(data), ==, value + i);
    }
}

static void test_random_order_leaves_no_page(void)
{
    Random r = { .removed = g_array_new(false, false, sizeof(uint32_t)) };

    start_with(&r.v, NULL, false, 1);
    for (int i = 0; i < RANDOM_PAGES; i++) {
        r.page[i] = xensim_page(r.v.sim, GFN + i);
    }
    for (int step = 0; step < RANDOM_STEPS; step++) {
        unsigned slot = g_test_rand_int_range(0, PVIOMMU_MIRROR_NR_SLOTS);
        /* Often enough the same pages, and those where buckets meet. */
        unsigned first = g_test_rand_int_range(0, 3) * BUCKET +
                         g_test_rand_int_range(0, 24);
        unsigned nr = g_test_rand_int_range(1, 9);

        switch (g_test_rand_int_range(0, 12)) {
        case 0 ... 2:
            random_hold(&r, slot, first, nr);
            break;
        case 3 ... 4:
            random_touch(&r, slot, 0x1000 * step);
            break;
        case 5 ... 6:
            random_remove(&r, first, nr, step & 1);
            break;
        case 7 ... 9:
            random_add(&r, first, nr);
            break;
        case 10:
            if (r.page[first] != XENSIM_NO_PAGE) {
                assert_works(&r.v, first);
            }
            break;
        case 11:
            if (step % 4 == 0) {
                xensim_invalidate_all(r.v.sim);
            }
            break;
        }
        check_removed(&r);
    }
    for (unsigned s = 0; s < PVIOMMU_MIRROR_NR_SLOTS; s++) {
        random_touch(&r, s, 0x77);
        if (r.dma[s].nr) {
            random_hold(&r, s, 0, 1);
        }
    }
    check_removed(&r);
    g_assert_cmpuint(r.removed->len, ==, 0);
    g_assert_cmpuint(xensim_counter(r.v.sim, "malformed"), ==, 0);
    g_array_unref(r.removed);
    quit(&r.v);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    pviommu_add("invalidate/random-order-leaves-no-page",
                test_random_order_leaves_no_page);
    return g_test_run();
}
