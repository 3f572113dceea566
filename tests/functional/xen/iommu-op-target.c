/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * iommu-op-test: contexts of a target - what a device model can do, and what it
 * is refused. Functions in them are a matter of targets.py.
 */

#define _GNU_SOURCE
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "iommu-op-test.h"

#define FRAMES          20000
/* No function is assigned to the target. */
#define NO_SBDF         0x00f0
#define MSI_BFN         0xfee00
#define TABLE           512

static uint32_t target;
static uint64_t limit;

static struct xen_iommu_op_target *set_target(unsigned i, uint16_t op,
                                              unsigned ctx)
{
    struct xen_iommu_op_target *u = &op_at(i, op)->u.target;

    u->domid = target;
    u->ctx = ctx;
    return u;
}

static int alloc_ctx(unsigned *ctx)
{
    int status;

    set_target(0, XEN_IOMMUOP_target_alloc_context, 0);
    status = run();
    *ctx = ops[0].u.target.ctx;
    return status;
}

static int free_ctx(unsigned ctx)
{
    set_target(0, XEN_IOMMUOP_target_free_context, ctx);
    return run();
}

static int attach(unsigned ctx, uint32_t sbdf)
{
    set_target(0, XEN_IOMMUOP_target_attach, ctx)->sbdf = sbdf;
    return run();
}

static void set_range(unsigned i, uint16_t op, unsigned ctx, uint64_t bfn,
                      uint64_t gfn, uint32_t nr)
{
    op_at(i, op)->u.target_range = (struct xen_iommu_op_target_range) {
        .bfn = bfn, .gfn = gfn, .domid = target, .ctx = ctx, .nr_frames = nr,
    };
}

static int t_map(unsigned ctx, uint64_t bfn, uint64_t gfn, uint32_t nr)
{
    set_range(0, XEN_IOMMUOP_target_map, ctx, bfn, gfn, nr);
    return run();
}

static int t_map_ro(unsigned ctx, uint64_t bfn, uint64_t gfn, uint32_t nr)
{
    set_range(0, XEN_IOMMUOP_target_map, ctx, bfn, gfn, nr);
    ops[0].flags = XEN_IOMMUOP_map_readonly;
    return run();
}

static int t_unmap(unsigned ctx, uint64_t bfn, uint32_t nr)
{
    set_range(0, XEN_IOMMUOP_target_unmap, ctx, bfn, 0, nr);
    return run();
}

static int t_flush(unsigned ctx, uint64_t bfn, uint32_t nr)
{
    set_range(0, XEN_IOMMUOP_target_flush, ctx, bfn, 0, nr);
    return run();
}

static int t_flush_all(unsigned ctx)
{
    return t_flush(ctx, XEN_IOMMU_FLUSH_ALL, 0);
}

/* What the last range operation says is left of it. */
static bool left(uint64_t bfn, uint32_t nr)
{
    return ops[0].u.target_range.bfn == bfn &&
           ops[0].u.target_range.nr_frames == nr;
}

static int t_list(uint16_t op, void *entries, unsigned nr, uint32_t sbdf)
{
    op_at(0, op)->u.target_list = (struct xen_iommu_op_target_list) {
        .nr_entries = nr, .domid = target, .entries = (uintptr_t)entries,
        .sbdf = sbdf,
    };
    return run();
}

/* take_page() and the like are of domid. */
static void t_take(uint64_t gfn)
{
    uint32_t main_domid = domid;

    domid = target;
    take_page(gfn);
    domid = main_domid;
}

static void t_give(uint64_t gfn)
{
    uint32_t main_domid = domid;

    domid = target;
    give_page(gfn);
    domid = main_domid;
}

static void test_contexts(void)
{
    unsigned ctx[XEN_IOMMU_TARGET_CONTEXTS], more;
    bool seen[XEN_IOMMU_TARGET_CONTEXTS + 1] = { false };

    for (unsigned i = 0; i < ARRAY_SIZE(ctx); i++) {
        CHECK_EQ(alloc_ctx(&ctx[i]), 0);
        CHECK(ctx[i] > 0 && ctx[i] < ARRAY_SIZE(seen) && !seen[ctx[i]]);
        if (check_failed()) {
            break;
        }
        seen[ctx[i]] = true;
    }
    CHECK(ops[0].u.target.bfn_bits >= 27 && ops[0].u.target.bfn_bits <= 36);
    limit = 1ull << ops[0].u.target.bfn_bits;
    CHECK_EQ(alloc_ctx(&more), -XEN_IOMMU_ENOSPC);
    CHECK_EQ(free_ctx(ctx[7]), 0);
    CHECK_EQ(free_ctx(ctx[7]), -XEN_IOMMU_ENOENT);
    CHECK_EQ(alloc_ctx(&more), 0);
    CHECK_EQ(more, ctx[7]);
    for (unsigned i = 0; i < ARRAY_SIZE(ctx); i++) {
        CHECK_EQ(free_ctx(ctx[i]), 0);
    }
    CHECK_EQ(free_ctx(0), -XEN_IOMMU_EINVAL);
    CHECK_EQ(free_ctx(XEN_IOMMU_TARGET_CONTEXTS + 1), -XEN_IOMMU_ENOENT);
    CHECK_EQ(free_ctx(0xffff), -XEN_IOMMU_ENOENT);
    done("targets: contexts are allocated and freed, as many as there may be");
}

/* One thing wrong in each call. */
static void test_wrong(void)
{
    const uint16_t all[] = {
        XEN_IOMMUOP_target_alloc_context, XEN_IOMMUOP_target_free_context,
        XEN_IOMMUOP_target_attach, XEN_IOMMUOP_target_map,
        XEN_IOMMUOP_target_unmap, XEN_IOMMUOP_target_flush,
        XEN_IOMMUOP_target_reserved, XEN_IOMMUOP_target_faults,
        XEN_IOMMUOP_target_event,
    };
    const struct {
        int status;
        uint32_t dom;
    } wrong[] = {
        { -XEN_IOMMU_EPERM, 0 },                /* ourselves */
        { -XEN_IOMMU_ESRCH, XEN_IOMMU_DOMID_SELF },
        { -XEN_IOMMU_ESRCH, 0x7abc },
        { -XEN_IOMMU_ESRCH, 0xffff },
        { -XEN_IOMMU_ENODEV, domid },           /* it can have no functions */
    };
    unsigned ctx;

    CHECK_EQ(alloc_ctx(&ctx), 0);
    for (unsigned i = 0; i < ARRAY_SIZE(all); i++) {
        bool range = all[i] >= XEN_IOMMUOP_target_map &&
                     all[i] <= XEN_IOMMUOP_target_flush;
        bool list = all[i] == XEN_IOMMUOP_target_reserved ||
                    all[i] == XEN_IOMMUOP_target_faults;

        for (unsigned j = 0; j < ARRAY_SIZE(wrong); j++) {
            op_at(0, all[i]);
            if (range) {
                ops[0].u.target_range.domid = wrong[j].dom;
                ops[0].u.target_range.nr_frames = 1;
            } else if (list) {
                ops[0].u.target_list.domid = wrong[j].dom;
            } else {
                ops[0].u.target.domid = wrong[j].dom;
            }
            CHECK_EQ(run(), wrong[j].status);
        }
        for (unsigned field = 0; !range && !list && field < 3; field++) {
            struct xen_iommu_op_target *u = set_target(0, all[i], 0);

            u->pad = field == 0;
            u->bfn_bits = field == 1;
            u->port = field == 2;
            CHECK_EQ(run(), -XEN_IOMMU_EINVAL);
        }
    }
    set_target(0, XEN_IOMMUOP_target_alloc_context, 1);
    CHECK_EQ(run(), -XEN_IOMMU_EINVAL);
    set_target(0, XEN_IOMMUOP_target_event, 1);
    CHECK_EQ(run(), -XEN_IOMMU_EINVAL);
    op_at(0, XEN_IOMMUOP_target_faults)->u.target_list.pad = 1;
    CHECK_EQ(run(), -XEN_IOMMU_EINVAL);
    CHECK_EQ(t_list(XEN_IOMMUOP_target_faults, NULL, 0, 1), -XEN_IOMMU_EINVAL);
    set_range(0, XEN_IOMMUOP_target_unmap, ctx, 0, 1, 1);
    CHECK_EQ(run(), -XEN_IOMMU_EINVAL);

    for (unsigned id = 0; id < 0x10000; id = id ? id * 3 + 1 : 1) {
        int status = id ? -XEN_IOMMU_ENOENT : -XEN_IOMMU_EINVAL;

        if (id == ctx) {
            continue;
        }
        CHECK_EQ(t_map(id, 0, 0, 1), status);
        CHECK_EQ(t_unmap(id, 0, 1), status);
        CHECK_EQ(t_flush(id, 0, 1), status);
        if (id) {
            CHECK_EQ(attach(id, NO_SBDF), status);
        }
    }
    CHECK_EQ(attach(0, NO_SBDF), -XEN_IOMMU_ENODEV);
    CHECK_EQ(attach(ctx, NO_SBDF), -XEN_IOMMU_ENODEV);
    CHECK_EQ(attach(ctx, 0xffffffff), -XEN_IOMMU_ENODEV);

    CHECK_EQ(t_map(ctx, 0, 0, 0), -XEN_IOMMU_EINVAL);
    CHECK_EQ(t_map(ctx, limit, 0, 1), -XEN_IOMMU_EINVAL);
    CHECK_EQ(t_map(ctx, limit - 1, 0, 2), -XEN_IOMMU_EINVAL);
    CHECK_EQ(t_map(ctx, ~0ull, 0, 1), -XEN_IOMMU_EINVAL);
    CHECK_EQ(t_map(ctx, ~0ull, 0, 0), -XEN_IOMMU_EINVAL);
    CHECK_EQ(t_map(ctx, 0, 1ull << 40, 1), -XEN_IOMMU_EINVAL);
    CHECK_EQ(t_map(ctx, 0, ~0ull, 1), -XEN_IOMMU_EINVAL);
    CHECK_EQ(t_unmap(ctx, limit, 1), -XEN_IOMMU_EINVAL);
    CHECK_EQ(t_unmap(ctx, ~0ull, 0), -XEN_IOMMU_EINVAL);
    CHECK_EQ(t_flush(ctx, 0, 0), -XEN_IOMMU_EINVAL);
    CHECK_EQ(t_flush(ctx, limit - 1, 2), -XEN_IOMMU_EINVAL);
    CHECK_EQ(t_map(ctx, 0, FRAMES + 100, 1), -XEN_IOMMU_ENOENT);
    CHECK_EQ(t_map(ctx, 0, (1ull << 40) - 1, 1), -XEN_IOMMU_ENOENT);
    CHECK_EQ(free_ctx(ctx), 0);
    done("targets: other domains, contexts, functions, and fields: each has "
         "its error");
}

static void test_ranges(void)
{
    const uint64_t last = limit - 1;
    const uint32_t most = last < UINT32_MAX ? last : UINT32_MAX;
    unsigned ctx, other;

    CHECK_EQ(alloc_ctx(&ctx), 0);
    CHECK_EQ(alloc_ctx(&other), 0);
    CHECK_EQ(t_map(ctx, 100, 0, 1000), 0);
    CHECK(left(1100, 0));
    CHECK_EQ(ops[0].u.target_range.gfn, 1000);
    CHECK_EQ(t_map(ctx, 1050, 0, 100), -XEN_IOMMU_EEXIST);
    CHECK(left(1050, 100));
    CHECK_EQ(t_map(ctx, 90, 0, 100), -XEN_IOMMU_EEXIST);
    CHECK(left(100, 90));
    /* The same page, and the other context. */
    CHECK_EQ(t_map_ro(ctx, last, 0, 1), 0);
    CHECK_EQ(t_map(other, 1050, 0, 100), 0);
    /* Where memory ends. */
    CHECK_EQ(t_map(ctx, 5000, FRAMES - 3, 10), -XEN_IOMMU_ENOENT);
    CHECK(left(5003, 7));
    CHECK_EQ(ops[0].u.target_range.gfn, FRAMES);
    CHECK_EQ(t_map(ctx, MSI_BFN - 2, 0, 10), -XEN_IOMMU_EADDRNOTAVAIL);
    CHECK(left(MSI_BFN, 8));
    CHECK_EQ(t_unmap(ctx, 0, most), 0);
    CHECK(left(most, 0));
    /* It awaits a flush, which a map does itself. */
    CHECK_EQ(t_map(ctx, 100, 2000, 1000), 0);
    CHECK_EQ(t_map(ctx, last, 0, 1), -XEN_IOMMU_EEXIST);
    CHECK_EQ(t_map(other, 1050, 0, 1), -XEN_IOMMU_EEXIST);
    CHECK_EQ(t_unmap(ctx, last, 1), 0);
    CHECK_EQ(t_flush(ctx, 0, most), 0);
    CHECK(left(most, 0));
    CHECK_EQ(t_flush_all(ctx), 0);
    CHECK(left(XEN_IOMMU_FLUSH_ALL, 0));
    CHECK_EQ(free_ctx(other), 0);
    CHECK_EQ(free_ctx(ctx), 0);
    done("targets: map, unmap and flush say what is left");
}

/* A page that left the domain is its own as long as something holds it. */
static void test_held(void)
{
    const long before = pages(target);
    unsigned ctx;

    CHECK_EQ(alloc_ctx(&ctx), 0);
    CHECK_EQ(t_map(ctx, 10, 10, 2), 0);
    CHECK_EQ(t_map_ro(ctx, 12, 12, 1), 0);
    CHECK_EQ(t_map(ctx, 20, 10, 1), 0);
    t_take(10);
    t_take(12);
    CHECK_EQ(pages(target), before);
    CHECK_EQ(t_unmap(ctx, 10, 1), 0);
    CHECK_EQ(t_flush(ctx, 10, 1), 0);
    CHECK_EQ(pages(target), before);
    CHECK_EQ(t_unmap(ctx, 0, 100), 0);
    CHECK_EQ(pages(target), before);
    /* Flushes of others. */
    CHECK_EQ(t_flush(ctx, 0, 12), 0);
    CHECK_EQ(pages(target), before);
    CHECK_EQ(t_flush(ctx, 12, 1), 0);
    CHECK_EQ(pages(target), before - 1);
    CHECK_EQ(t_flush_all(ctx), 0);
    CHECK_EQ(pages(target), before - 2);
    CHECK_EQ(t_map(ctx, 10, 10, 1), -XEN_IOMMU_ENOENT);
    t_give(10);
    t_give(12);
    CHECK_EQ(t_map(ctx, 10, 10, 1), 0);
    CHECK_EQ(t_unmap(ctx, 10, 1), 0);
    CHECK_EQ(t_map(ctx, 10, 11, 1), 0);
    t_take(10);
    CHECK_EQ(pages(target), before - 1);
    /* The end of a context is a flush, too. */
    t_take(11);
    CHECK_EQ(pages(target), before - 1);
    CHECK_EQ(free_ctx(ctx), 0);
    CHECK_EQ(pages(target), before - 2);
    t_give(10);
    t_give(11);
    done("targets: a page stays until no context holds it, and no longer");
}

static void test_tables(void)
{
    const unsigned room = 256 + ((FRAMES + 16) >> 7);
    unsigned ctx, other, nr, again;

    CHECK_EQ(alloc_ctx(&ctx), 0);
    /* A page every 2 MiB takes a table each. */
    for (nr = 0; nr < 2 * room; nr++) {
        if (t_map_ro(ctx, (uint64_t)nr * TABLE, 0, 1)) {
            break;
        }
    }
    CHECK_EQ(ops[0].status, -XEN_IOMMU_ENOSPC);
    CHECK(nr <= room && nr > room - 16);
    printf("# %u tables for pages, of %u\n", nr, room);
    CHECK_EQ(alloc_ctx(&other), -XEN_IOMMU_ENOSPC);
    /* Those that are there have room. */
    CHECK_EQ(t_map(ctx, 1, 0, TABLE - 1), 0);
    /* Not before a flush. */
    CHECK_EQ(t_unmap(ctx, 0, nr * TABLE), 0);
    CHECK_EQ(t_map_ro(ctx, (uint64_t)nr * TABLE, 0, 1), -XEN_IOMMU_ENOSPC);
    CHECK_EQ(t_flush_all(ctx), 0);
    CHECK_EQ(alloc_ctx(&other), 0);
    for (again = 0; again < 2 * room; again++) {
        if (t_map_ro(other, ((uint64_t)again << 9) + (1 << 18), 0, 1)) {
            break;
        }
    }
    CHECK_EQ(ops[0].status, -XEN_IOMMU_ENOSPC);
    CHECK(again <= nr && again > nr - 16);
    CHECK_EQ(free_ctx(ctx), 0);
    CHECK_EQ(free_ctx(other), 0);
    done("targets: page tables are limited, and used again");
}

static void test_reports(void)
{
    struct xen_iommu_reserved_range *r = (void *)&ops[1];
    struct xen_iommu_fault *faults = (void *)&ops[1];
    unsigned nr;

    CHECK_EQ(t_list(XEN_IOMMUOP_target_reserved, r, 0, XEN_IOMMU_TARGET_ANY),
             -XEN_IOMMU_ENOBUFS);
    nr = ops[0].u.target_list.nr_entries;
    CHECK(nr >= 1 && nr < 10);
    CHECK_EQ(t_list(XEN_IOMMUOP_target_reserved, r, nr, XEN_IOMMU_TARGET_ANY),
             0);
    CHECK_EQ(ops[0].u.target_list.nr_entries, nr);
    CHECK_EQ(r[0].start_bfn, MSI_BFN);
    CHECK_EQ(r[0].nr_frames, 0x100);
    CHECK_EQ(r[0].flags, XEN_IOMMU_RESERVED_msi);
    CHECK_EQ(t_list(XEN_IOMMUOP_target_reserved, NULL, nr,
                    XEN_IOMMU_TARGET_ANY), -XEN_IOMMU_EFAULT);
    CHECK_EQ(t_list(XEN_IOMMUOP_target_reserved, r, nr, NO_SBDF),
             -XEN_IOMMU_ENODEV);
    CHECK_EQ(t_list(XEN_IOMMUOP_target_faults, faults, 1000, 0), 0);
    CHECK_EQ(ops[0].u.target_list.nr_entries, 0);
    CHECK_EQ(ops[0].u.target_list.lost, 0);
    /* Each takes the place of the one before. */
    for (unsigned i = 0; i < 5000; i++) {
        set_target(0, XEN_IOMMUOP_target_event, 0);
        if (!CHECK_EQ(run(), 0) || !CHECK(ops[0].u.target.port)) {
            break;
        }
    }
    done("targets: reserved ranges; faults and events without a function");
}

/* The log as it was; it is empty then. */
static void clean(unsigned long *log, bool final)
{
    xc_shadow_op_stats_t stats;
    DECLARE_HYPERCALL_BUFFER(unsigned long, dirty);

    dirty = xc_hypercall_buffer_alloc_pages(xch, dirty, 1);
    CHECK(dirty);
    CHECK_EQ(xc_logdirty_control(xch, target, XEN_DOMCTL_SHADOW_OP_CLEAN,
                                 HYPERCALL_BUFFER(dirty), FRAMES,
                                 final ? XEN_DOMCTL_SHADOW_LOGDIRTY_FINAL : 0,
                                 &stats), FRAMES);
    memcpy(log, dirty, FRAMES / 8);
    xc_hypercall_buffer_free_pages(xch, dirty, 1);
}

static unsigned nr_dirty(const unsigned long *log)
{
    unsigned nr = 0;

    for (unsigned i = 0; i < FRAMES / 64; i++) {
        nr += __builtin_popcountl(log[i]);
    }
    return nr;
}

static void test_dirty(void)
{
    static unsigned long log[FRAMES / 64 + 1];
    unsigned ctx;

    CHECK_EQ(alloc_ctx(&ctx), 0);
    CHECK_EQ(xc_domain_max_vcpus(xch, target, 1), 0);
    CHECK_EQ(t_map(ctx, 0, 64, 1), 0);
    CHECK_EQ(t_map_ro(ctx, 1, 65, 1), 0);
    CHECK_EQ(xc_shadow_control(xch, target,
                               XEN_DOMCTL_SHADOW_OP_ENABLE_LOGDIRTY, NULL, 0),
             0);
    clean(log, false);
    clean(log, false);
    CHECK_EQ(nr_dirty(log), 0);
    CHECK_EQ(t_map(ctx, 2, 66, 1), 0);
    CHECK_EQ(t_map_ro(ctx, 3, 67, 1), 0);
    clean(log, false);
    CHECK_EQ(log[1], 1 << 2);
    CHECK_EQ(t_unmap(ctx, 0, 4), 0);
    clean(log, false);
    CHECK_EQ(nr_dirty(log), 0);
    CHECK_EQ(t_flush_all(ctx), 0);
    clean(log, false);
    CHECK_EQ(log[1], 1 << 0 | 1 << 2);
    CHECK_EQ(nr_dirty(log), 2);
    CHECK_EQ(xc_shadow_control(xch, target, XEN_DOMCTL_SHADOW_OP_OFF, NULL, 0),
             0);
    CHECK_EQ(free_ctx(ctx), 0);
    done("targets: what can be written is marked as dirty, when mapped and "
         "when let go of");
}

/* Somebody else on the same processor, as in iommu-op-batch.c */
static volatile bool stop;
static volatile unsigned long turns;

static void *other(void *arg)
{
    while (!stop) {
        turns++;
        sched_yield();
    }
    return NULL;
}

static void test_long(void)
{
    unsigned long in_map = 0, in_unmap = 0, in_flush = 0, in_free = 0, was;
    unsigned ctx;
    cpu_set_t one, all;
    pthread_t thread;
    time_t end;

    sched_getaffinity(0, sizeof(all), &all);
    CPU_ZERO(&one);
    CPU_SET(0, &one);
    sched_setaffinity(0, sizeof(one), &one);
    stop = false;
    pthread_create(&thread, NULL, other, NULL);
    /* It takes a clock tick in the right place: until there was one in each. */
    end = time(NULL) + 100;
    while (time(NULL) < end && !check_failed() &&
           !(in_map && in_unmap && in_flush && in_free)) {
        CHECK_EQ(alloc_ctx(&ctx), 0);
        for (unsigned i = 0; i < 4; i++) {
            was = turns;
            CHECK_EQ(t_map(ctx, i * FRAMES, 0, FRAMES), 0);
            in_map += turns - was;
            CHECK(left((i + 1) * FRAMES, 0));
        }
        was = turns;
        CHECK_EQ(t_unmap(ctx, 0, 2 * FRAMES), 0);
        in_unmap += turns - was;
        was = turns;
        CHECK_EQ(t_flush(ctx, 0, FRAMES), 0);
        CHECK_EQ(t_flush_all(ctx), 0);
        in_flush += turns - was;
        was = turns;
        CHECK_EQ(free_ctx(ctx), 0);
        in_free += turns - was;
    }
    stop = true;
    pthread_join(thread, NULL);
    sched_setaffinity(0, sizeof(all), &all);
    printf("# others' turns in a map %lu, an unmap %lu, a flush %lu, the end "
           "of a context %lu\n", in_map, in_unmap, in_flush, in_free);
    CHECK(in_map && in_unmap && in_flush && in_free);
    for (unsigned i = 0; i < FRAMES; i += 1000) {
        long before = pages(target);

        t_take(i);
        CHECK_EQ(pages(target), before - 1);
        t_give(i);
    }
    done("targets: long ranges let others run, and nothing is held after them");
}

static unsigned shared_ctx;

static void *stress(void *arg)
{
    unsigned seed = (uintptr_t)arg;
    xencall_handle *handle = xencall_open(NULL, 0);
    struct xen_iommu_op *own = xencall_alloc_buffer(handle, 32 * sizeof(*own));
    long wrong = 0;

    for (unsigned i = 0; i < 1000; i++) {
        for (unsigned j = 0; j < 32; j++) {
            unsigned r = rand_r(&seed);

            own[j] = (struct xen_iommu_op) {
                .status = NOT_RUN,
                .op = r % 8 < 4 ? XEN_IOMMUOP_target_map :
                      r % 8 < 7 ? XEN_IOMMUOP_target_unmap :
                      XEN_IOMMUOP_target_flush,
                .u.target_range = {
                    .bfn = (r >> 8) % 64 + 480, .domid = target,
                    .ctx = shared_ctx, .nr_frames = (r >> 4) % 16 + 1,
                },
            };
            if (own[j].op == XEN_IOMMUOP_target_map) {
                own[j].u.target_range.gfn = 1000 + (r >> 14) % 8;
                own[j].flags = r >> 20 & 1;
            }
        }
        wrong += xencall2(handle, HYPERVISOR_IOMMU_OP, (uintptr_t)own, 32) != 0;
        for (unsigned j = 0; j < 32; j++) {
            int s = own[j].status;

            wrong += s && !(own[j].op == XEN_IOMMUOP_target_map &&
                            (s == -XEN_IOMMU_EEXIST || s == -XEN_IOMMU_EAGAIN));
        }
    }
    xencall_free_buffer(handle, own);
    xencall_close(handle);
    return (void *)wrong;
}

static void test_several(void)
{
    const long before = pages(target);
    pthread_t threads[4];

    CHECK_EQ(alloc_ctx(&shared_ctx), 0);
    for (unsigned i = 0; i < ARRAY_SIZE(threads); i++) {
        pthread_create(&threads[i], NULL, stress, (void *)(uintptr_t)(i + 1));
    }
    for (unsigned i = 0; i < ARRAY_SIZE(threads); i++) {
        void *wrong;

        pthread_join(threads[i], &wrong);
        CHECK_EQ((long)wrong, 0);
    }
    CHECK_EQ(t_unmap(shared_ctx, 0, 1000), 0);
    CHECK_EQ(t_flush_all(shared_ctx), 0);
    for (unsigned i = 0; i < 32; i++) {
        t_take(1000 + i);
    }
    CHECK_EQ(pages(target), before - 32);
    for (unsigned i = 0; i < 32; i++) {
        t_give(1000 + i);
    }
    CHECK_EQ(free_ctx(shared_ctx), 0);
    done("targets: four at once, on the same BFNs: references are right");
}

static void test_end(long before)
{
    unsigned ctx, after = 0;

    for (unsigned i = 0; i < 5; i++) {
        CHECK_EQ(alloc_ctx(&ctx), 0);
        CHECK_EQ(t_map(ctx, i * 100, 0, FRAMES), 0);
        CHECK_EQ(t_map_ro(ctx, FRAMES * 2, i, FRAMES / 2), 0);
        CHECK_EQ(t_unmap(ctx, 3000, FRAMES / 2), 0);
    }
    t_take(100);
    set_target(0, XEN_IOMMUOP_target_event, 0);
    CHECK_EQ(run(), 0);
    CHECK_EQ(xc_domain_destroy(xch, target), 0);
    CHECK(domain_is_gone(target));
    CHECK_EQ(t_map(ctx, 0, 0, 1), -XEN_IOMMU_ESRCH);
    CHECK_EQ(alloc_ctx(&ctx), -XEN_IOMMU_ESRCH);
    for (unsigned i = 0; i < 3000; i++) {
        after = free_pages();
        if (after >= before - 64) {
            break;
        }
        usleep(20000);
    }
    printf("# free pages before %ld, after %u\n", before, after);
    CHECK(after >= before - 64);
    done("targets: one dies with contexts, mapped and not flushed: all is "
         "free");
}

void test_targets(void)
{
    const long before = free_pages();

    if (!(caps.ops & 1u << XEN_IOMMUOP_target_map)) {
        skip("targets: contexts", "there is no IOMMU for it");
        return;
    }
    target = create_domain_with(FRAMES, XEN_DOMCTL_CDF_iommu);
    test_contexts();
    test_wrong();
    test_ranges();
    test_held();
    test_tables();
    test_reports();
    test_dirty();
    test_long();
    test_several();
    test_end(before);
}
