/*
 * target-op DOMID COMMAND...: what the device model of a domain says of the
 * functions that are assigned to it; in dom0, on a hypervisor with the series
 *   alloc                      prints the new context
 *   free CTX
 *   attach CTX SBDF            SBDF as in 0000:00:1e.0
 *   map CTX BFN GFN NR [ro]    numbers in decimal
 *   unmap CTX BFN NR
 *   flush CTX [BFN NR]
 *   reserved SBDF              prints BFN NR FLAGS, a line each
 *   faults                     prints SBDF CTX BFN r|w REASON, a line each, and
 *                              "lost N" if there is no room for more
 *   event SECONDS              waits for a fault, and prints "event" or "none";
 *                              "ready" before
 * Fails with Xen's error number as its exit status.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xencall.h>
#include <xenevtchn.h>

#include "iommu_op.h"

#define HYPERVISOR_IOMMU_OP 43
#define ENTRIES             256

static xencall_handle *call;
/* Behind it, room for what it returns. */
static struct xen_iommu_op *op;
static uint32_t domid;

static void die(const char *what)
{
    perror(what);
    exit(EXIT_FAILURE);
}

static void run(uint16_t code)
{
    op->op = code;
    if (xencall2(call, HYPERVISOR_IOMMU_OP, (uintptr_t)op, 1)) {
        die("target-op: the hypercall");
    }
    if (op->status) {
        fprintf(stderr, "target-op: error %d; left: BFN %" PRIu64 ", %u\n",
                -op->status, op->u.target_range.bfn,
                op->u.target_range.nr_frames);
        exit(-op->status);
    }
}

static uint32_t parse_sbdf(const char *text)
{
    unsigned seg, bus, dev, fn;

    if (sscanf(text, "%x:%x:%x.%x", &seg, &bus, &dev, &fn) != 4) {
        fprintf(stderr, "target-op: %s is no function\n", text);
        exit(EXIT_FAILURE);
    }
    return seg << 16 | bus << 8 | dev << 3 | fn;
}

static void list(uint16_t code, uint32_t sbdf)
{
    op->u.target_list = (struct xen_iommu_op_target_list) {
        .nr_entries = ENTRIES, .domid = domid, .entries = (uintptr_t)&op[1],
        .sbdf = sbdf,
    };
    run(code);
}

static void print_faults(void)
{
    const struct xen_iommu_fault *f = (void *)&op[1];

    list(XEN_IOMMUOP_target_faults, 0);
    for (unsigned i = 0; i < op->u.target_list.nr_entries; i++) {
        printf("%04x:%02x:%02x.%x %u %" PRIu64 " %c %u\n", f[i].sbdf >> 16,
               f[i].sbdf >> 8 & 0xff, f[i].sbdf >> 3 & 0x1f, f[i].sbdf & 7,
               f[i].ctx, f[i].addr >> XEN_IOMMU_PAGE_SHIFT,
               f[i].flags & XEN_IOMMU_FAULT_write ? 'w' : 'r', f[i].reason);
    }
    if (op->u.target_list.lost) {
        printf("lost %u\n", op->u.target_list.lost);
    }
}

static void print_reserved(const char *sbdf)
{
    const struct xen_iommu_reserved_range *r = (void *)&op[1];

    list(XEN_IOMMUOP_target_reserved, parse_sbdf(sbdf));
    for (unsigned i = 0; i < op->u.target_list.nr_entries; i++) {
        printf("%" PRIu64 " %u %u\n", r[i].start_bfn, r[i].nr_frames,
               r[i].flags);
    }
}

static void wait_for_event(int seconds)
{
    xenevtchn_handle *events = xenevtchn_open(NULL, 0);
    struct pollfd fd;

    op->u.target = (struct xen_iommu_op_target) { .domid = domid };
    run(XEN_IOMMUOP_target_event);
    if (!events ||
        xenevtchn_bind_interdomain(events, domid, op->u.target.port) < 0) {
        die("target-op: the event channel");
    }
    fd = (struct pollfd) { .fd = xenevtchn_fd(events), .events = POLLIN };
    /* Binding raises it, too. */
    if (poll(&fd, 1, 10000) == 1 &&
        xenevtchn_unmask(events, xenevtchn_pending(events))) {
        die("target-op: the event channel cannot be unmasked");
    }
    printf("ready\n");
    printf("%s\n", poll(&fd, 1, seconds * 1000) == 1 ? "event" : "none");
}

int main(int argc, char **argv)
{
    const char *what = argc > 2 ? argv[2] : "";
    uint64_t n[4] = { 0 };

    setvbuf(stdout, NULL, _IOLBF, 0);
    call = xencall_open(NULL, 0);
    op = call ? xencall_alloc_buffer(call, 32 * (ENTRIES + 1)) : NULL;
    if (!op) {
        die("target-op: hypercalls");
    }
    memset(op, 0, 32 * (ENTRIES + 1));
    for (int i = 3; i < argc && i < 7; i++) {
        n[i - 3] = strtoull(argv[i], NULL, 10);
    }
    domid = argc > 1 ? strtoul(argv[1], NULL, 10) : 0;
    op->u.target.domid = domid;
    op->u.target.ctx = n[0];
    if (!strcmp(what, "alloc")) {
        run(XEN_IOMMUOP_target_alloc_context);
        printf("%u\n", op->u.target.ctx);
        return EXIT_SUCCESS;
    } else if (!strcmp(what, "free")) {
        run(XEN_IOMMUOP_target_free_context);
        return EXIT_SUCCESS;
    } else if (!strcmp(what, "attach") && argc == 5) {
        op->u.target.sbdf = parse_sbdf(argv[4]);
        run(XEN_IOMMUOP_target_attach);
        return EXIT_SUCCESS;
    } else if (!strcmp(what, "faults")) {
        print_faults();
        return EXIT_SUCCESS;
    } else if (!strcmp(what, "reserved") && argc == 4) {
        print_reserved(argv[3]);
        return EXIT_SUCCESS;
    } else if (!strcmp(what, "event")) {
        wait_for_event(n[0]);
        return EXIT_SUCCESS;
    }
    memset(&op->u, 0, sizeof(op->u));
    op->u.target_range.domid = domid;
    op->u.target_range.ctx = n[0];
    op->u.target_range.bfn = n[1];
    op->u.target_range.nr_frames = n[2];
    if (!strcmp(what, "map") && argc >= 7) {
        op->u.target_range.gfn = n[2];
        op->u.target_range.nr_frames = n[3];
        op->flags = argc > 7 ? XEN_IOMMUOP_map_readonly : 0;
        run(XEN_IOMMUOP_target_map);
    } else if (!strcmp(what, "unmap") && argc == 6) {
        run(XEN_IOMMUOP_target_unmap);
    } else if (!strcmp(what, "flush")) {
        if (argc == 4) {
            op->u.target_range.bfn = XEN_IOMMU_FLUSH_ALL;
        }
        run(XEN_IOMMUOP_target_flush);
    } else {
        fprintf(stderr, "target-op DOMID COMMAND...: see target-op.c\n");
        return EXIT_FAILURE;
    }
    return EXIT_SUCCESS;
}
