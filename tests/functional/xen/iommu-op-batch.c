/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * iommu-op-test: batches, what hostile callers do, several callers at once, and
 * the end of a domain
 */

#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "iommu-op-test.h"

/* Xen's own, for a call that is to go on; never a status. */
#define XEN_ERESTART  85

void test_batch(void)
{
    const unsigned third = MAX_OPS / 3;
    unsigned wrong = 0;

    for (unsigned i = 0; i < third; i++) {
        set_map(i, base + 2 * i, i % GUEST_FRAMES, 0, domid, true);
        set_unmap(third + i, base + 2 * i, 0);
        set_flush(2 * third + i, base + 2 * i, 0);
    }
    CHECK_EQ(hypercall(ops, 3 * third, 0, 0), 0);
    for (unsigned i = 0; i < 3 * third; i++) {
        wrong += ops[i].status != 0;
    }
    CHECK_EQ(wrong, 0);
    CHECK_EQ(lookup(base), -XEN_IOMMU_ENOENT);
    CHECK_EQ(pages(domid), GUEST_FRAMES);
    done("a batch of many operations");

    CHECK_EQ(hypercall(ops, 0, 0, 0), 0);
    CHECK_EQ(hypercall(NULL, 0, 0, 0), 0);
    CHECK_EQ(hypercall(NULL, 1, 0, 0), -EFAULT);
    CHECK_EQ(hypercall((void *)0xffff82d040200000, 1, 0, 0), -EFAULT);
    CHECK_EQ(hypercall((void *)0xfffffffffffffff0, 1, 0, 0), -EFAULT);
    CHECK_EQ(hypercall(NULL, 0xffffffff, 0, 0), -EFAULT);
    CHECK_EQ(hypercall(ops, 1, 2, 0), -EINVAL);
    /* Where the array ends, the others have run. */
    {
        size_t page = XC_PAGE_SIZE;
        char *two = mmap(NULL, 2 * page, PROT_READ | PROT_WRITE,
                         MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
        struct xen_iommu_op *last = (void *)(two + page - 2 * sizeof(*last));

        set_map(0, base, 0, 1, domid, true);
        set_unmap(1, base, 1);
        mlock(two, page);
        memcpy(last, ops, 2 * sizeof(*last));
        munmap(two + page, page);
        CHECK_EQ(hypercall(last, 3, 0, 0), -EFAULT);
        CHECK_EQ(last[0].status, 0);
        CHECK_EQ(last[1].status, 0);
        munmap(two, page);
        CHECK_EQ(flush_all(), 0);
    }
    done("arrays that are not there: -EFAULT, and those before have run");

    /* What Xen passes to itself when it was interrupted, forged. */
    CHECK_EQ(map(base, 0, 10), 0);
    set_map(0, base, 0, 20, domid, false);
    CHECK_EQ(hypercall(ops, 1, 0, 10), 0);
    CHECK_EQ(ops[0].status, 0);
    CHECK_EQ(lookup(base), 0);
    CHECK_EQ(ops[0].u.lookup.nr_frames, 20);
    set_map(0, base, 0, 20, domid, false);
    CHECK_EQ(hypercall(ops, 1, 0, 21), 0);
    CHECK_EQ(ops[0].status, -XEN_IOMMU_EINVAL);
    /* "Undo it", though it was another one that mapped these. */
    set_map(0, base, 0, 5, domid, false);
    CHECK_EQ(hypercall(ops, 1, 0, 5 | 1u << 31), 0);
    CHECK_EQ(ops[0].status, -XEN_IOMMU_EINVAL);
    CHECK_EQ(lookup(base), -XEN_IOMMU_ENOENT);
    CHECK_EQ(ops[0].u.lookup.nr_frames, 5);
    /* "Undo it, and do not end". */
    set_map(0, base, 0, 5, domid, false);
    ops[0].status = -XEN_ERESTART;
    CHECK_EQ(hypercall(ops, 1, 0, 5 | 1u << 31), 0);
    CHECK_EQ(ops[0].status, -XEN_IOMMU_EINVAL);
    CHECK_EQ(lookup(base + 5), 0);
    CHECK_EQ(ops[0].u.lookup.nr_frames, 15);
    /* "It was checked": not all of it is mapped. */
    set_unmap(0, base, 20);
    CHECK_EQ(hypercall(ops, 1, 0, 1u << 31), 0);
    CHECK_EQ(ops[0].status, -XEN_IOMMU_ENOENT);
    set_unmap(0, base, 20);
    CHECK_EQ(hypercall(ops, 1, 0, 5 | 1u << 31), 0);
    CHECK_EQ(ops[0].status, 0);
    set_unmap(0, base, 20);
    CHECK_EQ(hypercall(ops, 1, 0, 0xffffffff), 0);
    CHECK_EQ(ops[0].status, -XEN_IOMMU_EINVAL);
    CHECK_EQ(lookup(base), -XEN_IOMMU_ENOENT);
    CHECK_EQ(flush_all(), 0);
    for (unsigned i = 0; i < 20; i++) {
        take_page(i);
    }
    CHECK_EQ(pages(domid), GUEST_FRAMES - 20);
    for (unsigned i = 0; i < 20; i++) {
        give_page(i);
    }
    done("forged progress of an interrupted call: references are right");
}

/*
 * Somebody else on the same processor, whose turn is when a call is cut.
 * Volatile, as nothing else orders the two threads, and nothing need be.
 */
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

void test_preemption(void)
{
    pthread_t thread;
    cpu_set_t one, all;
    unsigned long in_batch = 0, in_map = 0, in_unmap = 0, in_undo = 0, was;
    time_t end;

    sched_getaffinity(0, sizeof(all), &all);
    CPU_ZERO(&one);
    CPU_SET(0, &one);
    sched_setaffinity(0, sizeof(one), &one);
    stop = false;
    pthread_create(&thread, NULL, other, NULL);
    /* It takes a clock tick in the right place: until there was one in each. */
    end = time(NULL) + 100;
    while (time(NULL) < end &&
           !(in_batch && in_map && in_unmap && in_undo)) {
        for (unsigned j = 0; j < MAX_OPS; j++) {
            set_map(j, base, 0, 1, domid, true);
            if (j % 3) {
                set_unmap(j, base, 1);
                ops[j].op = j % 3 == 1 ? XEN_IOMMUOP_unmap : XEN_IOMMUOP_flush;
            }
        }
        was = turns;
        CHECK_EQ(hypercall(ops, MAX_OPS, 0, 0), 0);
        in_batch += turns - was;
        CHECK_EQ(ops[MAX_OPS - 3].status + ops[MAX_OPS - 2].status, 0);
        unmap(base, 1);

        set_map(0, base, 0, GUEST_FRAMES, domid, true);
        was = turns;
        CHECK_EQ(hypercall(ops, 1, 0, 0), 0);
        in_map += turns - was;
        CHECK_EQ(ops[0].status, 0);

        set_unmap(0, base, GUEST_FRAMES);
        was = turns;
        CHECK_EQ(hypercall(ops, 1, 0, 0), 0);
        in_unmap += turns - was;
        CHECK_EQ(ops[0].status, 0);
        CHECK_EQ(flush_all(), 0);

        set_map(0, base, 0, GUEST_FRAMES + 1, domid, true);
        was = turns;
        CHECK_EQ(hypercall(ops, 1, 0, 0), 0);
        in_undo += turns - was;
        CHECK_EQ(ops[0].status, -XEN_IOMMU_ENOENT);
        CHECK_EQ(lookup(base), -XEN_IOMMU_ENOENT);
        CHECK(ops[0].u.lookup.nr_frames > GUEST_FRAMES);
        if (check_failed()) {
            break;
        }
    }
    stop = true;
    pthread_join(thread, NULL);
    sched_setaffinity(0, sizeof(all), &all);
    printf("# others' turns in a batch %lu, a map %lu, an unmap %lu, a map "
           "that is undone %lu\n", in_batch, in_map, in_unmap, in_undo);
    CHECK(in_batch && in_map && in_unmap && in_undo);
    CHECK_EQ(pages(domid), GUEST_FRAMES);
    done("long batches and long ranges let others run");
}

/* Several at once, all over the same BFNs. */

#define STRESS_BFNS 64

static void *stress(void *arg)
{
    unsigned seed = (uintptr_t)arg;
    xencall_handle *handle = xencall_open(NULL, 0);
    struct xen_iommu_op *own =
        xencall_alloc_buffer(handle, 32 * sizeof(*own));
    long wrong = 0;

    for (unsigned i = 0; i < 1500; i++) {
        for (unsigned j = 0; j < 32; j++) {
            struct xen_iommu_op *op = &own[j];
            unsigned r = rand_r(&seed);

            *op = (struct xen_iommu_op) {
                .status = NOT_RUN,
                .op = r % 8 < 4 ? XEN_IOMMUOP_map :
                      r % 8 < 7 ? XEN_IOMMUOP_unmap : XEN_IOMMUOP_flush,
            };
            op->u.map.bfn = base + (r >> 8) % STRESS_BFNS;
            op->u.map.nr_frames = (r >> 4) % 16;
            if (op->op == XEN_IOMMUOP_map) {
                op->u.map.domid = domid;
                op->u.map.gfn = 1000 + (r >> 14) % 8;
                op->flags = r >> 20 & 1;
            }
        }
        wrong += xencall2(handle, HYPERVISOR_IOMMU_OP, (uintptr_t)own, 32) != 0;
        for (unsigned j = 0; j < 32; j++) {
            int s = own[j].status;

            wrong += s && !(own[j].op == XEN_IOMMUOP_map &&
                            s == -XEN_IOMMU_EEXIST) &&
                     !(own[j].op == XEN_IOMMUOP_unmap &&
                       s == -XEN_IOMMU_ENOENT);
        }
    }
    xencall_free_buffer(handle, own);
    xencall_close(handle);
    return (void *)wrong;
}

void test_stress(void)
{
    pthread_t threads[4];
    long before = pages(domid);

    for (unsigned i = 0; i < ARRAY_SIZE(threads); i++) {
        pthread_create(&threads[i], NULL, stress, (void *)(uintptr_t)(i + 1));
    }
    for (unsigned i = 0; i < ARRAY_SIZE(threads); i++) {
        void *wrong;

        pthread_join(threads[i], &wrong);
        CHECK_EQ((long)wrong, 0);
    }
    for (unsigned i = 0; i < STRESS_BFNS + 16; i++) {
        unmap(base + i, 1);
    }
    CHECK_EQ(flush_all(), 0);
    /* No reference to any of the pages is left. */
    for (unsigned i = 0; i < 32; i++) {
        take_page(1000 + i);
    }
    CHECK_EQ(pages(domid), before - 32);
    for (unsigned i = 0; i < 32; i++) {
        give_page(1000 + i);
    }
    done("four at once, on the same BFNs: references are right");
}

void test_death(void)
{
    uint32_t main_domid = domid;
    long before = free_pages(), after;

    domid = create_domain(3000);
    /* Scattered, read-only and not, pending, and twice. */
    for (unsigned i = 0; i < 3000; i++) {
        set_map(i, base + 5 * i, i, 1, domid, i & 1);
        set_map(3000 + i, base + 5 * i + 1, i, 1, domid, true);
        set_unmap(6000 + i, base + 5 * i + (i & 1), 1);
    }
    CHECK_EQ(hypercall(ops, 9000, 0, 0), 0);
    for (unsigned i = 0; i < 9000; i++) {
        if (!CHECK_EQ(ops[i].status, 0)) {
            break;
        }
    }
    /* And pages of another, which must stay. */
    set_map(0, base + 20000, 0, 100, main_domid, false);
    CHECK_EQ(run(), 0);
    take_page(5);
    CHECK_EQ(xc_domain_destroy(xch, domid), 0);
    CHECK(domain_is_gone(domid));
    CHECK_EQ(map(base, 0, 1), -XEN_IOMMU_ESRCH);
    for (unsigned i = 0; i < 15000; i += 999) {
        CHECK_EQ(lookup(base + i), -XEN_IOMMU_ENOENT);
    }
    CHECK_EQ(lookup(base + 20000), 0);
    CHECK_EQ(ops[0].u.lookup.nr_frames, 100);
    CHECK_EQ(unmap(base + 20000, 100), 0);
    CHECK_EQ(flush_all(), 0);
    domid = main_domid;
    CHECK_EQ(map(base, 0, 100), 0);
    CHECK_EQ(unmap(base, 100), 0);
    CHECK_EQ(flush_all(), 0);
    /* Xen's heap keeps a little for itself. */
    for (unsigned i = 0; i < 3000; i++) {
        after = free_pages();
        if (after >= before - 64) {
            break;
        }
        usleep(20000);
    }
    printf("# free pages before %ld, after %ld\n", before, after);
    CHECK(after >= before - 64);
    done("a domain dies with pages mapped and pending: no zombie, all is free");
}
