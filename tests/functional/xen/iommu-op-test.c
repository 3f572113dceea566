/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The iommu_op hypercall, from a program: every row of the semantics
 *
 * Runs in dom0, with a domain of its own that never runs, and prints TAP. With
 * --unprivileged it runs in a guest, and shows that it can do nothing there.
 * Xen's mapping limit has to be small: iommu-op-max-mappings=100000.
 */

#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include <xencall.h>
#include <xenctrl.h>
#include <xendevicemodel.h>
#include <xenforeignmemory.h>

#include "iommu-op-test.h"

#define HYPERVISOR_IOMMU_OP 43

#define NO_FRAME      (GUEST_FRAMES + 100)
#define SHARED_FRAME  (GUEST_FRAMES + 200)
#define ROM_FRAME     40000
/* Operations that fit into the buffer. */
#define MAX_OPS       20000
/* Xen's own, for a call that is to go on; never a status. */
#define XEN_ERESTART  85

xc_interface *xch;
struct xen_iommu_op *ops;
uint32_t domid;
uint64_t base;

static xencall_handle *call;
static struct xen_iommu_op_query_caps caps;

/* TAP. */

static int tests, failures, bad;

bool check(bool ok, int line, const char *format, ...)
{
    va_list args;

    if (!ok) {
        bad++;
        printf("# line %d: ", line);
        va_start(args, format);
        vprintf(format, args);
        va_end(args);
        printf("\n");
    }
    return ok;
}

void done(const char *what)
{
    printf("%sok %d - %s\n", bad ? "not " : "", ++tests, what);
    fflush(stdout);
    failures += !!bad;
    bad = 0;
}

void skip(const char *what, const char *why)
{
    printf("ok %d - %s # SKIP %s\n", ++tests, what, why);
    fflush(stdout);
}

/* Calls. */

static int hypercall(void *array, unsigned nr, unsigned first, unsigned done)
{
    return xencall4(call, HYPERVISOR_IOMMU_OP, (uintptr_t)array, nr, first,
                    done) < 0 ? -errno : 0;
}

struct xen_iommu_op *op_at(unsigned i, uint16_t op)
{
    ops[i] = (struct xen_iommu_op) { .op = op, .status = NOT_RUN };
    return &ops[i];
}

/* The status of the only operation. */
int run(void)
{
    int rc = hypercall(ops, 1, 0, 0);

    CHECK_EQ(rc, 0);
    return ops[0].status;
}

static void set_map(unsigned i, uint64_t bfn, uint64_t gfn, uint32_t nr,
                    uint16_t dom, bool readonly)
{
    struct xen_iommu_op *op = op_at(i, XEN_IOMMUOP_map);

    op->flags = readonly ? XEN_IOMMUOP_map_readonly : 0;
    op->u.map = (struct xen_iommu_op_map) {
        .bfn = bfn, .gfn = gfn, .domid = dom, .nr_frames = nr,
    };
}

int map(uint64_t bfn, uint64_t gfn, uint32_t nr)
{
    set_map(0, bfn, gfn, nr, domid, false);
    return run();
}

int map_ro(uint64_t bfn, uint64_t gfn, uint32_t nr)
{
    set_map(0, bfn, gfn, nr, domid, true);
    return run();
}

static void set_unmap(unsigned i, uint64_t bfn, uint32_t nr)
{
    op_at(i, XEN_IOMMUOP_unmap)->u.unmap = (struct xen_iommu_op_unmap) {
        .bfn = bfn, .nr_frames = nr,
    };
}

int unmap(uint64_t bfn, uint32_t nr)
{
    set_unmap(0, bfn, nr);
    return run();
}

static void set_flush(unsigned i, uint64_t bfn, uint32_t nr)
{
    op_at(i, XEN_IOMMUOP_flush)->u.flush = (struct xen_iommu_op_flush) {
        .bfn = bfn, .nr_frames = nr,
    };
}

int flush(uint64_t bfn, uint32_t nr)
{
    set_flush(0, bfn, nr);
    return run();
}

int flush_all(void)
{
    return flush(XEN_IOMMU_FLUSH_ALL, 0);
}

static int lookup(uint64_t bfn)
{
    op_at(0, XEN_IOMMUOP_lookup_bfn)->u.lookup.bfn = bfn;
    return run();
}

/* How many pages the domain has, those included that only we hold. */
long pages(uint32_t dom)
{
    xc_domaininfo_t info;

    if (xc_domain_getinfolist(xch, dom, 1, &info) != 1 || info.domain != dom) {
        return -1;
    }
    return info.tot_pages;
}

static long free_pages(void)
{
    xc_physinfo_t info;

    return xc_physinfo(xch, &info) ? -1 : (long)info.free_pages;
}

/* The domain gives pages back; dom0 does it for it. */
void take_page(uint64_t gfn)
{
    xen_pfn_t pfn = gfn;

    CHECK_EQ(xc_domain_decrease_reservation_exact(xch, domid, 1, 0, &pfn), 0);
}

void give_page(uint64_t gfn)
{
    xen_pfn_t pfn = gfn;

    CHECK_EQ(xc_domain_populate_physmap_exact(xch, domid, 1, 0, 0, &pfn), 0);
}

uint32_t create_empty_domain(unsigned max_frames)
{
    struct xen_domctl_createdomain config = {
        .flags = XEN_DOMCTL_CDF_hvm | XEN_DOMCTL_CDF_hap,
        .max_vcpus = 1,
        .max_evtchn_port = -1,
        .max_grant_frames = 1,
        .grant_opts = XEN_DOMCTL_GRANT_version(1),
        .arch.emulation_flags = XEN_X86_EMU_LAPIC,
    };
    uint32_t dom = 0;

    if (xc_domain_create(xch, &dom, &config)) {
        perror("# xc_domain_create");
        exit(1);
    }
    if (xc_set_paging_mempool_size(xch, dom, 4 << 20) ||
        xc_domain_setmaxmem(xch, dom, (max_frames + 16) * 4)) {
        perror("# a domain's limits");
        exit(1);
    }
    return dom;
}

static uint32_t create_domain(unsigned frames)
{
    static xen_pfn_t pfns[1024];
    uint32_t dom = create_empty_domain(frames);

    for (unsigned done = 0, n; done < frames; done += n) {
        n = frames - done < ARRAY_SIZE(pfns) ? frames - done : ARRAY_SIZE(pfns);
        for (unsigned i = 0; i < n; i++) {
            pfns[i] = done + i;
        }
        if (xc_domain_populate_physmap_exact(xch, dom, n, 0, 0, pfns)) {
            perror("# a domain's memory");
            exit(1);
        }
    }
    return dom;
}

/* The tests. */

/* It is this interface, and no other that has used the number. */
static void test_probe(void)
{
    CHECK_EQ(hypercall(NULL, 0, 1, 0), -EINVAL);
    CHECK_EQ(hypercall(NULL, 0, 0, 0), 0);
    if (bad) {
        printf("Bail out! It is another iommu_op, or none.\n");
        exit(1);
    }
    done("two calls that do nothing tell which iommu_op it is");
}

static int query_caps(void)
{
    int status;

    op_at(0, XEN_IOMMUOP_query_caps);
    /* What is there before does not matter. */
    memset(&ops[0].u, 0xff, sizeof(ops[0].u));
    status = run();
    caps = ops[0].u.query_caps;
    return status;
}

static void test_caps(void)
{
    const uint32_t must = 1u << XEN_IOMMUOP_query_reserved |
        1u << XEN_IOMMUOP_map | 1u << XEN_IOMMUOP_unmap |
        1u << XEN_IOMMUOP_flush | 1u << XEN_IOMMUOP_query_caps |
        1u << XEN_IOMMUOP_lookup_bfn | 1u << XEN_IOMMUOP_lookup_gfn |
        1u << XEN_IOMMUOP_enable;

    CHECK_EQ(query_caps(), 0);
    CHECK_EQ(caps.ops, must);
    CHECK_EQ(caps.features,
             XEN_IOMMU_FEATURE_RANGES | XEN_IOMMU_FEATURE_LOOKUP);
    CHECK_EQ(caps.max_contexts, 1);
    CHECK(caps.bfn_bits >= 27 && caps.bfn_bits <= 40);
    CHECK(caps.max_mappings > 0);
    CHECK(caps.state & XEN_IOMMU_STATE_control);
    printf("# BFNs have %u bits, at most %llu mappings, state %u\n",
           caps.bfn_bits, (unsigned long long)caps.max_mappings, caps.state);
    done("query_caps says what there is");
}

static void test_unsupported(void)
{
    for (unsigned op = 0; op < 65536; op = op < 40 ? op + 1 : op * 3) {
        if (op < 32 && caps.ops & 1u << op) {
            continue;
        }
        op_at(0, op);
        memset(&ops[0].u, 0xa5, sizeof(ops[0].u));
        CHECK_EQ(run(), -XEN_IOMMU_EOPNOTSUPP);
    }
    done("unknown operations, and contexts: -EOPNOTSUPP");
}

/* A call with one thing wrong is -EINVAL, and nothing else about it matters. */
static void test_invalid(void)
{
    const uint64_t limit = 1ull << caps.bfn_bits;
    struct {
        uint64_t bfn;
        uint64_t gfn;
        uint32_t nr;
    } maps[] = {
        { limit, 0, 1 }, { limit - 1, 0, 2 }, { ~0ull, 0, 1 }, { ~0ull, 0, 0 },
        { base, 1ull << 40, 1 }, { base, (1ull << 40) - 1, 2 },
        { base, ~0ull, 1 }, { limit - 0x1000, 0, 0xffffffff },
        { base, 0xffffff8000, 0xffffffff },
    };

    for (unsigned op = 1; op < 32; op++) {
        for (unsigned bit = 0; caps.ops & 1u << op && bit < 16; bit++) {
            if (op == XEN_IOMMUOP_map && bit == 0) {
                continue;
            }
            op_at(0, op)->flags = 1u << bit;
            ops[0].u.map.bfn = base;
            CHECK_EQ(run(), -XEN_IOMMU_EINVAL);
        }
    }
    for (unsigned i = 0; i < ARRAY_SIZE(maps); i++) {
        CHECK_EQ(map(maps[i].bfn, maps[i].gfn, maps[i].nr), -XEN_IOMMU_EINVAL);
        if (maps[i].bfn == base) {
            continue;
        }
        CHECK_EQ(unmap(maps[i].bfn, maps[i].nr), -XEN_IOMMU_EINVAL);
        if (maps[i].nr) {
            CHECK_EQ(flush(maps[i].bfn, maps[i].nr), -XEN_IOMMU_EINVAL);
        }
    }

    set_map(0, base, 0, 1, domid, false);
    ops[0].u.map.ctx = 1;
    CHECK_EQ(run(), -XEN_IOMMU_EINVAL);
    for (unsigned field = 0; field < 3; field++) {
        for (unsigned is_flush = 0; is_flush < 2; is_flush++) {
            set_unmap(0, base, 1);
            ops[0].op = is_flush ? XEN_IOMMUOP_flush : XEN_IOMMUOP_unmap;
            ops[0].u.unmap.pad = field == 0 ? 1ull << 63 : 0;
            ops[0].u.unmap.pad1 = field == 1;
            ops[0].u.unmap.ctx = field == 2;
            CHECK_EQ(run(), -XEN_IOMMU_EINVAL);
        }
    }
    for (unsigned field = 0; field < 5; field++) {
        for (unsigned by_gfn = 0; by_gfn < 2; by_gfn++) {
            op_at(0, by_gfn ? XEN_IOMMUOP_lookup_gfn : XEN_IOMMUOP_lookup_bfn);
            ops[0].u.lookup.bfn = field == 0 ? limit : base;
            ops[0].u.lookup.pad = field == 1;
            ops[0].u.lookup.ctx = field == 2;
            ops[0].u.lookup.nr_frames = field == 3;
            ops[0].u.lookup.gfn = field != 4 ? 0 : by_gfn ? 1ull << 40 : 1;
            CHECK_EQ(run(), -XEN_IOMMU_EINVAL);
        }
    }
    for (unsigned field = 0; field < 4; field++) {
        op_at(0, XEN_IOMMUOP_query_reserved);
        ops[0].u.query_reserved.pad = field == 0;
        ops[0].u.query_reserved.pad1 = field == 1;
        ops[0].u.query_reserved.sbdf = field == 2;
        ops[0].u.query_reserved.ctx = field == 3;
        CHECK_EQ(run(), -XEN_IOMMU_EINVAL);
    }
    for (unsigned field = 0; field < 3; field++) {
        op_at(0, XEN_IOMMUOP_enable)->u.enable.pad[field] = 1;
        CHECK_EQ(run(), -XEN_IOMMU_EINVAL);
    }
    CHECK_EQ(lookup(base), -XEN_IOMMU_ENOENT);
    done("flags, pads, contexts, frames out of range, ranges that wrap: "
         "-EINVAL");
}

static int query_reserved(struct xen_iommu_reserved_range *ranges,
                          unsigned room)
{
    op_at(0, XEN_IOMMUOP_query_reserved);
    ops[0].u.query_reserved.nr_entries = room;
    ops[0].u.query_reserved.ranges = (uintptr_t)ranges;
    return run();
}

static void test_reserved(void)
{
    struct xen_iommu_reserved_range *r = (void *)&ops[1];
    unsigned nr;
    bool msi = false;

    CHECK_EQ(query_reserved(NULL, 0), -XEN_IOMMU_ENOBUFS);
    nr = ops[0].u.query_reserved.nr_entries;
    CHECK(nr >= 1 && nr < 100);
    memset(r, 0xee, (nr + 1) * sizeof(*r));
    CHECK_EQ(query_reserved(r, nr - 1), -XEN_IOMMU_ENOBUFS);
    CHECK_EQ(r[0].nr_frames, 0xeeeeeeee);
    CHECK_EQ(query_reserved(r, nr + 1), 0);
    CHECK_EQ(ops[0].u.query_reserved.nr_entries, nr);
    CHECK_EQ(r[nr].nr_frames, 0xeeeeeeee);
    for (unsigned i = 0; i < nr; i++) {
        printf("# reserved: 0x%llx, %u frames, flags %u\n",
               (unsigned long long)r[i].start_bfn, r[i].nr_frames, r[i].flags);
        CHECK(r[i].nr_frames);
        CHECK(!i || r[i].start_bfn >= r[i - 1].start_bfn + r[i - 1].nr_frames);
        msi |= r[i].start_bfn == 0xfee00 && r[i].nr_frames == 0x100 &&
               r[i].flags == XEN_IOMMU_RESERVED_msi;
        CHECK(r[i].start_bfn == 0xfee00 || !r[i].flags);
        CHECK(base < r[i].start_bfn || base >= r[i].start_bfn + r[i].nr_frames);
    }
    CHECK(msi);
    done("query_reserved: ordered ranges, with the MSI window");

    for (unsigned i = 0; i < nr; i++) {
        const struct xen_iommu_reserved_range range = r[i];
        const uint64_t end = range.start_bfn + range.nr_frames;

        CHECK_EQ(map(range.start_bfn, 0, 1), -XEN_IOMMU_EADDRNOTAVAIL);
        CHECK_EQ(map(end - 1, 0, 1), -XEN_IOMMU_EADDRNOTAVAIL);
        CHECK_EQ(unmap(end - 1, 1), -XEN_IOMMU_EADDRNOTAVAIL);
        if (range.start_bfn) {
            CHECK_EQ(map(range.start_bfn - 1, 0, 2), -XEN_IOMMU_EADDRNOTAVAIL);
        }
    }
    done("reserved BFNs: -EADDRNOTAVAIL, for map and unmap");

    CHECK_EQ(query_reserved((void *)0x10, 100), -XEN_IOMMU_EFAULT);
    CHECK_EQ(query_reserved((void *)0xffff800000000000, 100),
             -XEN_IOMMU_EFAULT);
    CHECK_EQ(query_reserved((void *)0xffff82d040200000, 100),
             -XEN_IOMMU_EFAULT);
    done("query_reserved: where nothing can be stored, -EFAULT");
}

static void test_domains(void)
{
    const uint16_t none[] = { 0x7fef, 0x7ff1, 0x7ff2, 0x7ff4, 0x7fff, 0xffff };

    for (unsigned i = 0; i < ARRAY_SIZE(none); i++) {
        set_map(0, base, 0, 1, none[i], false);
        CHECK_EQ(run(), -XEN_IOMMU_ESRCH);
    }
    done("no such domain: -ESRCH");
}

static void test_pages(void)
{
    CHECK_EQ(map(base, NO_FRAME, 1), -XEN_IOMMU_ENOENT);
    CHECK_EQ(map_ro(base, NO_FRAME, 1), -XEN_IOMMU_ENOENT);
    CHECK_EQ(map(base, (1ull << 40) - 1, 1), -XEN_IOMMU_ENOENT);
    done("a GFN without a page: -ENOENT");

    CHECK_EQ(map(base, ROM_FRAME, 1), -XEN_IOMMU_EPERM);
    CHECK_EQ(map(base, ROM_FRAME - 1, 3), -XEN_IOMMU_EPERM);
    CHECK_EQ(lookup(base), -XEN_IOMMU_ENOENT);
    CHECK_EQ(map_ro(base, ROM_FRAME - 1, 3), 0);
    CHECK_EQ(lookup(base), 0);
    CHECK_EQ(ops[0].flags, XEN_IOMMUOP_map_readonly);
    CHECK_EQ(ops[0].u.lookup.gfn, ROM_FRAME - 1);
    CHECK_EQ(ops[0].u.lookup.nr_frames, 3);
    CHECK_EQ(unmap(base, 3), 0);
    CHECK_EQ(flush(base, 3), 0);
    done("read-only memory: -EPERM without the readonly flag");

    CHECK_EQ(xc_domain_add_to_physmap(xch, domid, XENMAPSPACE_shared_info, 0,
                                      SHARED_FRAME), 0);
    CHECK_EQ(map(base, SHARED_FRAME, 1), -XEN_IOMMU_EPERM);
    CHECK_EQ(map_ro(base, SHARED_FRAME, 1), -XEN_IOMMU_EPERM);
    CHECK_EQ(xc_domain_remove_from_physmap(xch, domid, SHARED_FRAME), 0);
    done("a page that Xen shares with the domain: -EPERM");
}

static void test_map(void)
{
    CHECK_EQ(map(base, 100, 0), 0);
    CHECK_EQ(map(base, 100, 1), -XEN_IOMMU_EEXIST);
    CHECK_EQ(map(base, 101, 1), -XEN_IOMMU_EEXIST);
    /* Before anything is looked at in the domain. */
    set_map(0, base, 0, 1, 0x7fef, false);
    CHECK_EQ(run(), -XEN_IOMMU_EEXIST);
    CHECK_EQ(map(base - 1, 200, 3), -XEN_IOMMU_EEXIST);
    CHECK_EQ(lookup(base - 1), -XEN_IOMMU_ENOENT);
    CHECK_EQ(ops[0].u.lookup.nr_frames, 1);
    CHECK_EQ(lookup(base + 1), -XEN_IOMMU_ENOENT);
    CHECK_EQ(lookup(base), 0);
    CHECK_EQ(ops[0].u.lookup.bfn, base);
    CHECK_EQ(ops[0].u.lookup.gfn, 100);
    CHECK_EQ(ops[0].u.lookup.nr_frames, 1);
    CHECK_EQ(ops[0].flags, 0);
    /* One more page at two BFNs, and runs that end where something changes. */
    CHECK_EQ(map(base + 1, 101, 4), 0);
    CHECK_EQ(map_ro(base + 5, 105, 1), 0);
    CHECK_EQ(map(base + 6, 100, 1), 0);
    CHECK_EQ(lookup(base), 0);
    CHECK_EQ(ops[0].u.lookup.nr_frames, 5);
    CHECK_EQ(lookup(base + 5), 0);
    CHECK_EQ(ops[0].u.lookup.nr_frames, 1);
    CHECK_EQ(ops[0].flags, XEN_IOMMUOP_map_readonly);
    done("map, and lookup; a mapped BFN: -EEXIST, and nothing changes");

    CHECK_EQ(unmap(base, 8), -XEN_IOMMU_ENOENT);
    CHECK_EQ(unmap(base + 7, 1), -XEN_IOMMU_ENOENT);
    CHECK_EQ(unmap(base, 1u << (caps.bfn_bits < 31 ? caps.bfn_bits - 1 : 31)),
             -XEN_IOMMU_ENOENT);
    CHECK_EQ(lookup(base), 0);
    CHECK_EQ(unmap(base + 1, 3), 0);
    CHECK_EQ(lookup(base), 0);
    CHECK_EQ(ops[0].u.lookup.nr_frames, 1);
    CHECK_EQ(lookup(base + 1), -XEN_IOMMU_ENOENT);
    CHECK_EQ(ops[0].u.lookup.nr_frames, 3);
    CHECK_EQ(unmap(base + 1, 1), -XEN_IOMMU_ENOENT);
    CHECK_EQ(unmap(base, 7), -XEN_IOMMU_ENOENT);
    CHECK_EQ(lookup(base + 6), 0);
    /* Not flushed, and used again. */
    CHECK_EQ(map(base + 1, 300, 3), 0);
    CHECK_EQ(unmap(base, 7), 0);
    CHECK_EQ(unmap(base, 1), -XEN_IOMMU_ENOENT);
    CHECK_EQ(flush_all(), 0);
    CHECK_EQ(flush(base, 100), 0);
    done("unmap: any part of what is mapped, and of that only: -ENOENT");

    set_map(0, base, 0, 1, domid, false);
    set_map(1, base + 1, NO_FRAME, 1, domid, false);
    op_at(2, 99);
    set_unmap(3, base, 1);
    set_flush(4, base, 1);
    CHECK_EQ(hypercall(ops, 5, 0, 0), 0);
    CHECK_EQ(ops[0].status, 0);
    CHECK_EQ(ops[1].status, -XEN_IOMMU_ENOENT);
    CHECK_EQ(ops[2].status, -XEN_IOMMU_EOPNOTSUPP);
    CHECK_EQ(ops[3].status, 0);
    CHECK_EQ(ops[4].status, 0);
    done("one that fails does not stop those behind it");
}

/* A page that the domain gave back stays while we hold it, and no longer. */
static void test_references(void)
{
    long before = pages(domid);

    CHECK_EQ(map(base, 500, 1), 0);
    CHECK_EQ(map_ro(base + 1, 500, 1), 0);
    take_page(500);
    CHECK_EQ(pages(domid), before);
    CHECK_EQ(map(base + 2, 500, 1), -XEN_IOMMU_ENOENT);
    CHECK_EQ(unmap(base, 2), 0);
    CHECK_EQ(pages(domid), before);
    CHECK_EQ(flush(base, 1), 0);
    CHECK_EQ(pages(domid), before);
    CHECK_EQ(flush(base + 1, 1), 0);
    CHECK_EQ(pages(domid), before - 1);
    give_page(500);
    CHECK_EQ(pages(domid), before);
    done("a page is held until the flush of its last BFN");

    CHECK_EQ(map(base, 500, 1), 0);
    take_page(500);
    CHECK_EQ(unmap(base, 1), 0);
    CHECK_EQ(map(base, 501, 1), 0);
    CHECK_EQ(pages(domid), before - 1);
    CHECK_EQ(unmap(base, 1), 0);
    CHECK_EQ(flush_all(), 0);
    give_page(500);
    done("a BFN that is mapped again before a flush is flushed first");

    /* The last page isn't there: nothing is. */
    CHECK_EQ(map(base, GUEST_FRAMES - 200, 201), -XEN_IOMMU_ENOENT);
    CHECK_EQ(lookup(base), -XEN_IOMMU_ENOENT);
    CHECK(ops[0].u.lookup.nr_frames > 201);
    take_page(GUEST_FRAMES - 200);
    CHECK_EQ(pages(domid), before - 1);
    give_page(GUEST_FRAMES - 200);
    CHECK_EQ(map(base, 490, 0xffffffff), (1ull << caps.bfn_bits) - base >
             0xffffffff ? -XEN_IOMMU_ENOSPC : -XEN_IOMMU_EINVAL);
    CHECK_EQ(map(base, GUEST_FRAMES - 9000, 9001), -XEN_IOMMU_ENOENT);
    CHECK_EQ(lookup(base), -XEN_IOMMU_ENOENT);
    CHECK_EQ(pages(domid), before);
    done("a range of which a page cannot be mapped is undone, and let go of");
}

/* The frame of a page table of ours. */
static uint64_t page_table(void)
{
    vcpu_guest_context_any_t context;
    cpu_set_t one, all;
    int rc;

    /* That of another processor, as Xen does not tell a caller of itself. */
    sched_getaffinity(0, sizeof(all), &all);
    CPU_ZERO(&one);
    CPU_SET(0, &one);
    sched_setaffinity(0, sizeof(one), &one);
    rc = xc_vcpu_getcontext(xch, 0, 1, &context);
    sched_setaffinity(0, sizeof(all), &all);
    return rc ? 0 : context.x64.ctrlreg[3] >> 12;
}

/* Which frame of which domain each frame of the machine is. */
static const uint64_t *machine_to_physical(size_t *nr)
{
    enum { EXTENTS = 64, FRAMES = 512 };
    struct xen_machphys_mfn_list *list =
        xencall_alloc_buffer(call, sizeof(*list));
    xen_pfn_t *extents = xencall_alloc_buffer(call, EXTENTS * sizeof(*extents));
    static xen_pfn_t frames[EXTENTS * FRAMES];

    list->max_extents = EXTENTS;
    set_xen_guest_handle_raw(list->extent_start, extents);
    CHECK_EQ(xencall2(call, __HYPERVISOR_memory_op, XENMEM_machphys_mfn_list,
                      (uintptr_t)list), 0);
    for (unsigned i = 0; i < list->nr_extents * FRAMES; i++) {
        frames[i] = extents[i / FRAMES] + i % FRAMES;
    }
    *nr = list->nr_extents * FRAMES * XC_PAGE_SIZE / sizeof(uint64_t);
    return xenforeignmemory_map(xenforeignmemory_open(NULL, 0), DOMID_XEN,
                                PROT_READ, list->nr_extents * FRAMES, frames,
                                NULL);
}

/* Map a page of ours at base; its frame, in a PV domain one of the machine. */
static uint64_t map_own(void)
{
    uint32_t *at = mmap(NULL, XC_PAGE_SIZE, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
    int fd = open("/proc/self/pagemap", O_RDONLY);
    const uint64_t *m2p;
    uint64_t entry = 0;
    size_t nr;

    mlock(at, XC_PAGE_SIZE);
    CHECK_EQ(pread(fd, &entry, 8, (uintptr_t)at / XC_PAGE_SIZE * 8), 8);
    close(fd);
    entry &= (1ull << 55) - 1;
    m2p = machine_to_physical(&nr);
    for (size_t frame = 1; CHECK(m2p) && frame < nr; frame++) {
        /* Others may have a page of that number, but it is not ours. */
        if (m2p[frame] == entry) {
            set_map(0, base, frame, 1, XEN_IOMMU_DOMID_SELF, false);
            if (!run()) {
                return frame;
            }
        }
    }
    return 0;
}

static void test_self(void)
{
    const struct xen_iommu_op_lookup *u = &ops[0].u.lookup;
    xc_domaininfo_t info = { };
    uint64_t own;

    /* Ours, but as much Xen's. */
    CHECK_EQ(xc_domain_getinfolist(xch, 0, 1, &info), 1);
    set_map(0, base, info.shared_info_frame, 1, XEN_IOMMU_DOMID_SELF, false);
    CHECK_EQ(run(), -XEN_IOMMU_EPERM);

    own = map_own();
    CHECK(own);
    set_map(0, base + 9, own, 1, XEN_IOMMU_DOMID_SELF, true);
    CHECK_EQ(run(), 0);
    op_at(0, XEN_IOMMUOP_lookup_gfn)->u.lookup.gfn = own;
    CHECK_EQ(run(), 0);
    CHECK_EQ(u->bfn, base);
    CHECK_EQ(ops[0].flags, 0);
    op_at(0, XEN_IOMMUOP_lookup_gfn)->u.lookup.gfn = own;
    ops[0].u.lookup.bfn = base + 1;
    CHECK_EQ(run(), 0);
    CHECK_EQ(u->bfn, base + 9);
    CHECK_EQ(ops[0].flags, XEN_IOMMUOP_map_readonly);
    op_at(0, XEN_IOMMUOP_lookup_gfn)->u.lookup.gfn = own;
    ops[0].u.lookup.bfn = base + 10;
    CHECK_EQ(run(), -XEN_IOMMU_ENOENT);
    /* Another domain's frame of that number is not it. */
    CHECK_EQ(map(base + 20, 100, 1), 0);
    op_at(0, XEN_IOMMUOP_lookup_gfn)->u.lookup.gfn = 100;
    CHECK_EQ(run(), -XEN_IOMMU_ENOENT);
    CHECK_EQ(unmap(base, 1), 0);
    CHECK_EQ(unmap(base + 9, 1), 0);
    CHECK_EQ(unmap(base + 20, 1), 0);
    CHECK_EQ(flush_all(), 0);
    done("DOMID_SELF, and lookup_gfn");
}

static void test_page_table(void)
{
    const char *what = "a page table of ours cannot be mapped to be written";
    uint64_t table = page_table();

    if (!table) {
        skip(what, "dom0 has one processor");
        return;
    }
    set_map(0, base, table, 1, XEN_IOMMU_DOMID_SELF, false);
    CHECK_EQ(run(), -XEN_IOMMU_EPERM);
    set_map(0, base, table, 1, XEN_IOMMU_DOMID_SELF, true);
    CHECK_EQ(run(), 0);
    CHECK_EQ(unmap(base, 1), 0);
    CHECK_EQ(flush_all(), 0);
    done(what);
}

static void test_limit(void)
{
    const char *what = "more mappings than the limit: -ENOSPC; what awaits a "
                       "flush counts";
    uint64_t max = caps.max_mappings, mapped = 0;

    if (max > 200000) {
        skip(what, "Xen was booted without iommu-op-max-mappings=100000");
        return;
    }
    while (mapped < max) {
        uint32_t nr = max - mapped < GUEST_FRAMES ? max - mapped : GUEST_FRAMES;

        if (!CHECK_EQ(map_ro(base + mapped, 0, nr), 0)) {
            break;
        }
        mapped += nr;
    }
    CHECK_EQ(map(base + mapped, 0, 1), -XEN_IOMMU_ENOSPC);
    CHECK_EQ(unmap(base, 10), 0);
    CHECK_EQ(map(base + mapped, 0, 1), -XEN_IOMMU_ENOSPC);
    CHECK_EQ(flush(base, 10), 0);
    CHECK_EQ(map(base + mapped, 20, 11), -XEN_IOMMU_ENOSPC);
    CHECK_EQ(map(base + mapped, 20, 10), 0);
    CHECK_EQ(unmap(base + 10, mapped), 0);
    CHECK_EQ(flush_all(), 0);
    CHECK_EQ(pages(domid), GUEST_FRAMES);
    done(what);
}

/* Batches, and what hostile callers do. */

static void test_batch(void)
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
    /* "It was checked": there are holes. */
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

static void test_preemption(void)
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
        if (bad) {
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

static void test_stress(void)
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
    /* None of the pages is held by anybody any more. */
    for (unsigned i = 0; i < 32; i++) {
        take_page(1000 + i);
    }
    CHECK_EQ(pages(domid), before - 32);
    for (unsigned i = 0; i < 32; i++) {
        give_page(1000 + i);
    }
    done("four at once, on the same BFNs: references are right");
}

/* The end. */

bool domain_is_gone(uint32_t dom)
{
    for (unsigned i = 0; i < 6000; i++) {
        if (pages(dom) < 0) {
            return true;
        }
        usleep(10000);
    }
    return false;
}

static void test_death(void)
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

static void *enable(void *arg)
{
    struct xen_iommu_op *op = &ops[1 + (uintptr_t)arg];

    *op = (struct xen_iommu_op) { .op = XEN_IOMMUOP_enable, .status = NOT_RUN };
    CHECK_EQ(hypercall(op, 1, 0, 0), 0);
    return NULL;
}

/* dom0 boots with premap=off here, or without a disk: see the harness. */
static void test_enable(void)
{
    pthread_t threads[4];

    CHECK_EQ(query_caps(), 0);
    for (unsigned i = 0; i < ARRAY_SIZE(threads); i++) {
        pthread_create(&threads[i], NULL, enable, (void *)(uintptr_t)i);
    }
    for (unsigned i = 0; i < ARRAY_SIZE(threads); i++) {
        pthread_join(threads[i], NULL);
        CHECK_EQ(ops[1 + i].status, 0);
    }
    CHECK_EQ(query_caps(), 0);
    CHECK_EQ(caps.state, XEN_IOMMU_STATE_control);
    op_at(0, XEN_IOMMUOP_enable);
    CHECK_EQ(run(), 0);
    CHECK_EQ(map(0x1000, 0, 0x1000), 0);
    CHECK_EQ(lookup(0x1000), 0);
    CHECK_EQ(map(0xfedff, 0, 2), -XEN_IOMMU_EADDRNOTAVAIL);
    CHECK_EQ(map(0xfedff, 0, 1), 0);
    CHECK_EQ(unmap(0xfedff, 1), 0);
    CHECK_EQ(unmap(0x1000, 0x1000), 0);
    CHECK_EQ(flush_all(), 0);
    done("enable: the identity map is gone, its BFNs can be mapped");
    test_reserved_stay();
}

static void test_unprivileged(void)
{
    CHECK_EQ(query_caps(), 0);
    CHECK(!(caps.state & XEN_IOMMU_STATE_control));
    /* How much memory the host has is not for everybody to know. */
    CHECK_EQ(caps.max_mappings, 0);
    printf("# operations 0x%x, state %u\n", caps.ops, caps.state);
    for (unsigned op = 0; op < 40; op++) {
        if (op == XEN_IOMMUOP_query_caps) {
            continue;
        }
        op_at(0, op);
        CHECK_EQ(run(), op < 32 && caps.ops & 1u << op ?
                 -XEN_IOMMU_EACCES : -XEN_IOMMU_EOPNOTSUPP);
    }
    done("an unprivileged domain is refused, but for query_caps");
}

int main(int argc, char **argv)
{
    bool unprivileged = argc > 1 && !strcmp(argv[1], "--unprivileged");
    bool enable = argc > 1 && !strcmp(argv[1], "--enable");

    setvbuf(stdout, NULL, _IOLBF, 0);
    call = xencall_open(NULL, 0);
    if (!call) {
        perror("# hypercalls");
        return 1;
    }
    ops = xencall_alloc_buffer(call, MAX_OPS * sizeof(*ops));
    if (!ops) {
        perror("# a buffer for hypercalls");
        return 1;
    }
    test_probe();
    if (unprivileged) {
        test_unprivileged();
        goto out;
    }
    xch = xc_interface_open(NULL, NULL, 0);
    if (!xch) {
        perror("# libxenctrl");
        return 1;
    }
    test_caps();
    if (!caps.bfn_bits) {
        goto out;
    }
    /* The lower half is left to memory that is mapped 1:1. */
    base = 1ull << (caps.bfn_bits - 1);
    domid = create_domain(GUEST_FRAMES);
    {
        xendevicemodel_handle *dm = xendevicemodel_open(NULL, 0);

        if (!dm || xendevicemodel_set_mem_type(dm, domid, HVMMEM_ram_ro,
                                               ROM_FRAME, 1)) {
            perror("# a read-only page");
            return 1;
        }
        xendevicemodel_close(dm);
    }
    if (enable) {
        test_enable();
    } else {
        test_unsupported();
        test_invalid();
        test_reserved();
        test_domains();
        test_pages();
        test_map();
        test_references();
        test_self();
        test_page_table();
        test_limit();
        test_batch();
        test_preemption();
        test_stress();
        test_death();
        test_owner();
    }
    xc_domain_destroy(xch, domid);
    if (!domain_is_gone(domid)) {
        CHECK(domain_is_gone(domid));
    }
    done("the domain is gone");
out:
    printf("1..%d\n", tests);
    return failures != 0;
}
