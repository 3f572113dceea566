/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * iommu-op-test: mapped pages and the rest of Xen - log-dirty mode,
 * populate-on-demand, devices that come with reserved ranges
 */

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "iommu-op-test.h"

/* --- log-dirty mode ------------------------------------------------------- */

#define LONG_BITS       (8 * sizeof(unsigned long))
#define BITMAP_PAGES    (GUEST_FRAMES / 8 / XC_PAGE_SIZE + 1)

DECLARE_HYPERCALL_BUFFER(unsigned long, dirty);

/* The log as it was, in dirty; it is empty then. */
static void clean(bool final)
{
    xc_shadow_op_stats_t stats;

    memset(dirty, 0xff, BITMAP_PAGES * XC_PAGE_SIZE);
    CHECK_EQ(xc_logdirty_control(xch, domid, XEN_DOMCTL_SHADOW_OP_CLEAN,
                                 HYPERCALL_BUFFER(dirty), GUEST_FRAMES,
                                 final ? XEN_DOMCTL_SHADOW_LOGDIRTY_FINAL : 0,
                                 &stats), GUEST_FRAMES);
}

static bool is_dirty(unsigned gfn)
{
    return dirty[gfn / LONG_BITS] >> gfn % LONG_BITS & 1;
}

static unsigned nr_dirty(void)
{
    unsigned nr = 0;

    for (unsigned gfn = 0; gfn < GUEST_FRAMES; gfn++) {
        nr += is_dirty(gfn);
    }
    return nr;
}

static void test_log_dirty_one(void)
{
    CHECK_EQ(map(base, 300, 1), 0);
    CHECK_EQ(map_ro(base + 1, 301, 1), 0);
    CHECK_EQ(xc_shadow_control(xch, domid,
                               XEN_DOMCTL_SHADOW_OP_ENABLE_LOGDIRTY, NULL, 0),
             0);
    clean(false);
    CHECK_EQ(nr_dirty(), 0);
    clean(true);
    CHECK(is_dirty(300));
    CHECK_EQ(nr_dirty(), 1);
    CHECK_EQ(unmap(base, 2), 0);
    clean(false);
    CHECK_EQ(nr_dirty(), 0);
    CHECK_EQ(flush(base, 2), 0);
    clean(false);
    CHECK(is_dirty(300));
    CHECK_EQ(nr_dirty(), 1);
    done("log-dirty mode: what was mapped before is marked at its release, and "
         "at the end");

    CHECK_EQ(map(base, 302, 1), 0);
    CHECK_EQ(map_ro(base + 1, 303, 1), 0);
    clean(false);
    CHECK(is_dirty(302));
    CHECK_EQ(nr_dirty(), 1);
    clean(false);
    CHECK_EQ(nr_dirty(), 0);
    clean(true);
    CHECK(is_dirty(302));
    CHECK_EQ(nr_dirty(), 1);
    /* Devices may write until it is flushed. */
    CHECK_EQ(unmap(base, 1), 0);
    clean(true);
    CHECK(is_dirty(302));
    CHECK_EQ(nr_dirty(), 1);
    CHECK_EQ(flush(base, 1), 0);
    clean(false);
    CHECK(is_dirty(302));
    CHECK_EQ(unmap(base + 1, 1), 0);
    CHECK_EQ(flush(base + 1, 1), 0);
    clean(true);
    CHECK_EQ(nr_dirty(), 0);
    done("log-dirty mode: pages can be mapped, and are marked then, too");

    /* A page that left has no frame that could be marked. */
    CHECK_EQ(map(base, 304, 1), 0);
    take_page(304);
    clean(true);
    CHECK_EQ(unmap(base, 1), 0);
    CHECK_EQ(flush(base, 1), 0);
    give_page(304);
    clean(true);
    done("log-dirty mode: a page that leaves meanwhile");
}

/* More than Xen does without a break, of a few kinds. */
static void test_log_dirty_many(void)
{
    const unsigned nr = 20000, pending = 5000, half = nr / 2;
    unsigned wrong = 0;

    CHECK_EQ(map(base, 0, half), 0);
    CHECK_EQ(map_ro(base + half, half, half), 0);
    CHECK_EQ(map(base + nr, nr, pending), 0);
    /* Some of them twice. */
    CHECK_EQ(map(base + 2 * nr, 0, 1000), 0);
    CHECK_EQ(unmap(base + nr, pending), 0);
    clean(false);
    for (unsigned i = 0; i < 2; i++) {
        clean(true);
        for (unsigned gfn = 0; gfn < GUEST_FRAMES; gfn++) {
            wrong += is_dirty(gfn) !=
                     (gfn < half || (gfn >= nr && gfn < nr + pending));
        }
        CHECK_EQ(wrong, 0);
    }
    CHECK_EQ(unmap(base, nr), 0);
    CHECK_EQ(unmap(base + 2 * nr, 1000), 0);
    CHECK_EQ(flush_all(), 0);
    clean(false);
    CHECK_EQ(nr_dirty(), half + pending);
    clean(true);
    CHECK_EQ(nr_dirty(), 0);
    done("log-dirty mode: many pages, mapped and not flushed yet");
}

static void test_log_dirty(void)
{
    dirty = xc_hypercall_buffer_alloc_pages(xch, dirty, BITMAP_PAGES);
    CHECK(dirty);
    /* Domains without a processor don't have it. */
    CHECK_EQ(xc_domain_max_vcpus(xch, domid, 1), 0);
    test_log_dirty_one();
    test_log_dirty_many();
    CHECK_EQ(xc_shadow_control(xch, domid, XEN_DOMCTL_SHADOW_OP_OFF, NULL, 0),
             0);
    xc_hypercall_buffer_free_pages(xch, dirty, BITMAP_PAGES);
    CHECK_EQ(map(base, 300, 1), 0);
    CHECK_EQ(unmap(base, 1), 0);
    CHECK_EQ(flush_all(), 0);
}

/* --- populate on demand --------------------------------------------------- */

#define POD_FRAMES      512
#define POD_PAGES       256

static uint64_t pod_cache(void)
{
    uint64_t total, cache = 0, entries;

    CHECK_EQ(xc_domain_get_pod_target(xch, domid, &total, &cache, &entries), 0);
    return cache;
}

static void test_pod(void)
{
    uint32_t main_domid = domid;
    xen_pfn_t pfns[POD_FRAMES];
    uint64_t total, cache, entries;

    domid = create_empty_domain(POD_FRAMES);
    for (unsigned i = 0; i < POD_FRAMES; i++) {
        pfns[i] = i;
    }
    CHECK_EQ(xc_domain_populate_physmap_exact(xch, domid, POD_FRAMES, 0,
                                              XENMEMF_populate_on_demand, pfns),
             0);
    CHECK_EQ(xc_domain_set_pod_target(xch, domid, POD_PAGES, &total, &cache,
                                      &entries), 0);
    CHECK_EQ(cache, POD_PAGES);
    CHECK_EQ(entries, POD_FRAMES);

    /* It comes from the cache, and back into it goes what nobody reaches. */
    CHECK_EQ(map(base, 8, 1), 0);
    CHECK_EQ(pod_cache(), POD_PAGES - 1);
    CHECK_EQ(unmap(base, 1), 0);
    CHECK_EQ(flush(base, 1), 0);
    take_page(8);
    CHECK_EQ(pod_cache(), POD_PAGES);
    CHECK_EQ(pages(domid), POD_PAGES);

    CHECK_EQ(map(base, 7, 1), 0);
    take_page(7);
    CHECK_EQ(map(base + 1, 7, 1), -XEN_IOMMU_ENOENT);
    CHECK_EQ(pod_cache(), POD_PAGES - 1);
    CHECK_EQ(pages(domid), POD_PAGES);
    CHECK_EQ(unmap(base, 1), 0);
    CHECK_EQ(pages(domid), POD_PAGES);
    CHECK_EQ(flush(base, 1), 0);
    CHECK_EQ(pages(domid), POD_PAGES - 1);
    CHECK_EQ(pod_cache(), POD_PAGES - 1);

    /* Unmapped, and not flushed: devices may reach it. */
    CHECK_EQ(map(base, 9, 1), 0);
    CHECK_EQ(unmap(base, 1), 0);
    take_page(9);
    CHECK_EQ(pod_cache(), POD_PAGES - 2);
    CHECK_EQ(flush(base, 1), 0);
    CHECK_EQ(pages(domid), POD_PAGES - 2);

    CHECK_EQ(xc_domain_destroy(xch, domid), 0);
    CHECK(domain_is_gone(domid));
    domid = main_domid;
    done("populate-on-demand does not use a page again that devices reach");
}

/* --- devices with reserved ranges ----------------------------------------- */

/* By "ivmd=" on Xen's command line; see the harness. */
#define DEVICE          "/sys/bus/pci/devices/0000:00:1d.0"
#define RANGE_1         0x400000ull
#define RANGE_2         0x410000ull
#define RANGE_FRAMES    16

static void write_1(const char *path)
{
    int fd = open(path, O_WRONLY);

    CHECK(fd >= 0 && write(fd, "1", 1) == 1);
    close(fd);
}

static void remove_device(void)
{
    write_1(DEVICE "/remove");
}

/* Linux has it again; Xen lets it have DMA, or not. */
static void add_device(void)
{
    write_1("/sys/bus/pci/rescan");
    CHECK_EQ(access(DEVICE, F_OK), 0);
}

static bool has_ranges(void)
{
    int status = map(RANGE_1, 400, 1);

    if (!status) {
        CHECK_EQ(unmap(RANGE_1, 1), 0);
        CHECK_EQ(flush(RANGE_1, 1), 0);
    }
    return status == -XEN_IOMMU_EADDRNOTAVAIL;
}

/*
 * From 4.19 on Xen maps all memory that firmware reserves for dom0's devices,
 * be it for one of them or not. Before, only what a device needs, while it is
 * there.
 */
static void test_firmware(void)
{
    remove_device();
    CHECK_EQ(map(RANGE_1, 400, 1), -XEN_IOMMU_EADDRNOTAVAIL);
    CHECK_EQ(map(RANGE_2 + RANGE_FRAMES - 1, 400, 1), -XEN_IOMMU_EADDRNOTAVAIL);
    CHECK_EQ(map(RANGE_2 + RANGE_FRAMES, 400, 1), 0);
    CHECK_EQ(unmap(RANGE_2 + RANGE_FRAMES, 1), 0);
    add_device();
    CHECK_EQ(map(RANGE_1, 400, 1), -XEN_IOMMU_EADDRNOTAVAIL);
    CHECK_EQ(flush_all(), 0);
}

static void test_device(void)
{
    const char *refused = "a device is refused where something is mapped, and "
                          "leaves nothing reserved",
               *flushed = "what only waits for a flush is flushed for a device",
               *firmware = "memory that firmware reserves beyond RAM is "
                           "reserved, also without its device",
               *mapped = "this Xen maps what firmware reserves, too";
    long before = pages(domid);

    if (!has_ranges()) {
        skip(refused, "Xen was booted without ivmd=");
        skip(flushed, "Xen was booted without ivmd=");
        skip(firmware, "Xen was booted without ivmd=");
        return;
    }
    if (xc_version(xch, XENVER_version, NULL) >= (4 << 16 | 19)) {
        test_firmware();
        done(firmware);
        skip(refused, mapped);
        skip(flushed, mapped);
        return;
    }
    skip(firmware, "this Xen maps only what a device needs");
    CHECK_EQ(map(RANGE_1 + RANGE_FRAMES, 400, 1), 0);
    CHECK_EQ(unmap(RANGE_1 + RANGE_FRAMES, 1), 0);
    CHECK_EQ(map(RANGE_2, 400, 1), -XEN_IOMMU_EADDRNOTAVAIL);
    remove_device();
    /* Whichever comes first, the other one has to be undone. */
    for (unsigned i = 0; i < 2; i++) {
        const uint64_t bfn = i ? RANGE_1 : RANGE_2;
        const uint64_t other = i ? RANGE_2 : RANGE_1;

        CHECK_EQ(map(bfn + 1, 401, 1), 0);
        add_device();
        CHECK_EQ(map(other, 400, RANGE_FRAMES), 0);
        CHECK_EQ(unmap(other, RANGE_FRAMES), 0);
        CHECK_EQ(unmap(bfn + 1, 1), 0);
        CHECK_EQ(flush_all(), 0);
        remove_device();
    }
    done(refused);

    CHECK_EQ(map(RANGE_2 + 1, 401, 1), 0);
    take_page(401);
    CHECK_EQ(unmap(RANGE_2 + 1, 1), 0);
    CHECK_EQ(pages(domid), before);
    add_device();
    CHECK_EQ(pages(domid), before - 1);
    CHECK_EQ(map(RANGE_1, 400, 1), -XEN_IOMMU_EADDRNOTAVAIL);
    CHECK_EQ(map(RANGE_2 + 1, 400, 1), -XEN_IOMMU_EADDRNOTAVAIL);
    give_page(401);
    CHECK_EQ(flush_all(), 0);
    done(flushed);
}

/* After translation was enabled, too. */
void test_reserved_stay(void)
{
    const char *what = "enable: what devices reserve stays reserved";

    if (!has_ranges()) {
        skip(what, "Xen was booted without ivmd=");
        return;
    }
    CHECK_EQ(map(RANGE_1 + RANGE_FRAMES - 1, 400, 1), -XEN_IOMMU_EADDRNOTAVAIL);
    CHECK_EQ(map(RANGE_1 - 1, 400, 1), 0);
    CHECK_EQ(map(RANGE_1 + RANGE_FRAMES, 400, 1), 0);
    CHECK_EQ(unmap(RANGE_1 - 1, 1), 0);
    CHECK_EQ(unmap(RANGE_1 + RANGE_FRAMES, 1), 0);
    CHECK_EQ(flush_all(), 0);
    done(what);
}

void test_owner(void)
{
    test_log_dirty();
    test_pod();
    test_device();
}
