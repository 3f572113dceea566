/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The iommu_op hypercall, from a program: every row of the semantics
 *
 * Runs in dom0, with a domain of its own that never runs, and prints TAP. With
 * --unprivileged it runs in a guest, and shows that it can do nothing there;
 * with --targets it does only what iommu-op-target.c has.
 * Xen's mapping limit has to be small: iommu-op-max-mappings=100000.
 */

#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <xenctrl.h>
#include <xendevicemodel.h>
#include <xenforeignmemory.h>

#include "iommu-op-test.h"

#define NO_FRAME      (GUEST_FRAMES + 100)
#define SHARED_FRAME  (GUEST_FRAMES + 200)
#define ROM_FRAME     40000

/* It is this interface, and no other that has used the number. */
static void test_probe(void)
{
    CHECK_EQ(hypercall(NULL, 0, 1, 0), -EINVAL);
    CHECK_EQ(hypercall(NULL, 0, 0, 0), 0);
    if (check_failed()) {
        printf("Bail out! It is another iommu_op, or none.\n");
        exit(1);
    }
    done("two calls that do nothing tell which iommu_op it is");
}

static void test_caps(void)
{
    const uint32_t must = 1u << XEN_IOMMUOP_query_reserved |
        1u << XEN_IOMMUOP_map | 1u << XEN_IOMMUOP_unmap |
        1u << XEN_IOMMUOP_flush | 1u << XEN_IOMMUOP_query_caps |
        1u << XEN_IOMMUOP_lookup_bfn | 1u << XEN_IOMMUOP_lookup_gfn |
        1u << XEN_IOMMUOP_enable | TARGET_OPS;

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
            if ((op == XEN_IOMMUOP_map || op == XEN_IOMMUOP_target_map) &&
                bit == 0) {
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
    done("a page is referenced until the flush of its last BFN");

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
        /* The target of those that have one is dom0. */
        CHECK_EQ(run(), op >= 32 || !(caps.ops & 1u << op) ?
                 -XEN_IOMMU_EOPNOTSUPP : TARGET_OPS & 1u << op ?
                 -XEN_IOMMU_EPERM : -XEN_IOMMU_EACCES);
    }
    done("an unprivileged domain is refused, but for query_caps");
}

int main(int argc, char **argv)
{
    bool unprivileged = argc > 1 && !strcmp(argv[1], "--unprivileged");
    bool enable = argc > 1 && !strcmp(argv[1], "--enable");
    bool targets = argc > 1 && !strcmp(argv[1], "--targets");

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
    } else if (targets) {
        test_targets();
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
        test_targets();
    }
    xc_domain_destroy(xch, domid);
    if (!domain_is_gone(domid)) {
        CHECK(domain_is_gone(domid));
    }
    done("the domain is gone");
out:
    return finish();
}
