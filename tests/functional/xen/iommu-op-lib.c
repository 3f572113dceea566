/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * iommu-op-test: TAP, calls, domains
 */

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "iommu-op-test.h"

xencall_handle *call;
xc_interface *xch;
struct xen_iommu_op *ops;
struct xen_iommu_op_query_caps caps;
uint32_t domid;
uint64_t base;

/* TAP. */

static int tests, failures, bad;

bool check_failed(void)
{
    return bad;
}

bool check(bool ok, const char *file, int line, const char *format, ...)
{
    va_list args;

    if (!ok) {
        bad++;
        printf("# %s:%d: ", file, line);
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

int finish(void)
{
    printf("1..%d\n", tests);
    return failures != 0;
}

/* Calls. */

int hypercall(void *array, unsigned nr, unsigned first, unsigned done)
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

void set_map(unsigned i, uint64_t bfn, uint64_t gfn, uint32_t nr,
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

void set_unmap(unsigned i, uint64_t bfn, uint32_t nr)
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

void set_flush(unsigned i, uint64_t bfn, uint32_t nr)
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

int lookup(uint64_t bfn)
{
    op_at(0, XEN_IOMMUOP_lookup_bfn)->u.lookup.bfn = bfn;
    return run();
}

int query_caps(void)
{
    int status;

    op_at(0, XEN_IOMMUOP_query_caps);
    /* What is there before does not matter. */
    memset(&ops[0].u, 0xff, sizeof(ops[0].u));
    status = run();
    caps = ops[0].u.query_caps;
    return status;
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

long free_pages(void)
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

static uint32_t create_empty_domain_with(unsigned max_frames, uint32_t flags)
{
    struct xen_domctl_createdomain config = {
        .flags = XEN_DOMCTL_CDF_hvm | XEN_DOMCTL_CDF_hap | flags,
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

uint32_t create_empty_domain(unsigned max_frames)
{
    return create_empty_domain_with(max_frames, 0);
}

uint32_t create_domain_with(unsigned frames, uint32_t flags)
{
    static xen_pfn_t pfns[1024];
    uint32_t dom = create_empty_domain_with(frames, flags);

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

uint32_t create_domain(unsigned frames)
{
    return create_domain_with(frames, 0);
}

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
