/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The host's iommu_op as a hypercall
 */

#include "qemu/osdep.h"
#include "qapi/error.h"
#include "host-hypercall.h"
#include <xencall.h>

/*
 * The next free number after those of Xen 4.17. Others have used it for an
 * interface of their own: see hypercall_probe().
 */
#define HYPERVISOR_IOMMU_OP 43

/* Reserved ranges that are believed. */
#define MAX_RESERVED 65536

/* BFNs that hold a byte address, and leave each domain some. */
#define MIN_BFN_BITS 20
#define MAX_BFN_BITS 52

static struct {
    xencall_handle *call;
    unsigned users;
    struct xen_iommu_op_query_caps caps;
    struct xen_iommu_op *ops;   /* in memory that hypercalls reach */
} hypercall;

void *xen_pviommu_hypercall_alloc(size_t size, Error **errp)
{
    void *buffer = xencall_alloc_buffer(hypercall.call, size);

    if (!buffer) {
        error_setg_errno(errp, errno, "no memory for hypercalls");
    }
    return buffer;
}

void xen_pviommu_hypercall_free(void *buffer)
{
    if (buffer) {
        xencall_free_buffer(hypercall.call, buffer);
    }
}

void xen_pviommu_hypercall_run(struct xen_iommu_op *ops, unsigned nr)
{
    int rc = -XEN_IOMMU_EIO;

    for (unsigned i = 0; i < nr; i++) {
        ops[i].status = XEN_PVIOMMU_HOST_NOT_RUN;
    }
    if (xencall2(hypercall.call, HYPERVISOR_IOMMU_OP, (uintptr_t)ops, nr) < 0) {
        rc = -errno;
    }
    for (unsigned i = 0; i < nr; i++) {
        if (ops[i].status == XEN_PVIOMMU_HOST_NOT_RUN) {
            ops[i].status = rc;
        }
    }
}

struct xen_iommu_op *xen_pviommu_host_op(unsigned i, uint16_t op)
{
    hypercall.ops[i] = (struct xen_iommu_op) { .op = op };
    return &hypercall.ops[i];
}

const struct xen_iommu_op *xen_pviommu_host_result(unsigned i)
{
    return &hypercall.ops[i];
}

int xen_pviommu_host_call(unsigned nr)
{
    xen_pviommu_hypercall_run(hypercall.ops, nr);
    return hypercall.ops[0].status;
}

static int query_reserved(struct xen_iommu_reserved_range *ranges,
                          uint32_t *nr)
{
    struct xen_iommu_op_query_reserved *u =
        &xen_pviommu_host_op(0, XEN_IOMMUOP_query_reserved)->u.query_reserved;
    int rc;

    u->nr_entries = *nr;
    u->ranges = (uintptr_t)ranges;
    rc = xen_pviommu_host_call(1);
    *nr = u->nr_entries;
    return rc;
}

bool xen_pviommu_host_reserved(GArray *list, Error **errp)
{
    struct xen_iommu_reserved_range *ranges = NULL;
    uint32_t nr = 0, room;
    int rc = query_reserved(NULL, &nr);

    if (rc == -XEN_IOMMU_ENOBUFS && nr <= MAX_RESERVED) {
        room = nr;
        ranges = xen_pviommu_hypercall_alloc(room * sizeof(*ranges), errp);
        if (!ranges) {
            return false;
        }
        rc = query_reserved(ranges, &nr);
        if (rc >= 0) {
            g_array_append_vals(list, ranges, MIN(nr, room));
        }
        xen_pviommu_hypercall_free(ranges);
    }
    if (rc < 0) {
        error_setg(errp, "the hypervisor does not say which BFNs are reserved: "
                   "%s", strerror(-rc));
        return false;
    }
    return true;
}

static bool hypercall_check_caps(const struct xen_iommu_op_query_caps *caps,
                                 Error **errp)
{
    const uint32_t needed = 1u << XEN_IOMMUOP_map | 1u << XEN_IOMMUOP_unmap |
                            1u << XEN_IOMMUOP_flush |
                            1u << XEN_IOMMUOP_query_reserved |
                            1u << XEN_IOMMUOP_lookup_bfn;
    const uint64_t features = XEN_IOMMU_FEATURE_RANGES |
                              XEN_IOMMU_FEATURE_LOOKUP;

    if ((caps->ops & needed) != needed ||
        (caps->features & features) != features) {
        error_setg(errp, "the hypervisor's iommu_op cannot map for this domain "
                   "(operations 0x%x, features 0x%" PRIx64 ")", caps->ops,
                   caps->features);
        error_append_hint(errp, "Boot Xen with an IOMMU that works (iommu=1), "
                          "or use backend=emulated.\n");
        return false;
    }
    if (!(caps->state & XEN_IOMMU_STATE_control)) {
        error_setg(errp, "this domain may not control the IOMMU");
        error_append_hint(errp, "Allow it in Xen's XSM policy, run QEMU in "
                          "dom0, or use backend=emulated.\n");
        return false;
    }
    if (caps->bfn_bits < MIN_BFN_BITS || caps->bfn_bits > MAX_BFN_BITS) {
        error_setg(errp, "the hypervisor's BFNs have %u bits, and not %u to %u",
                   caps->bfn_bits, MIN_BFN_BITS, MAX_BFN_BITS);
        return false;
    }
    return true;
}

/* A call with no operations, from @first on. Returns: 0, or a negated errno. */
static int hypercall_probe_call(unsigned first)
{
    return xencall4(hypercall.call, HYPERVISOR_IOMMU_OP, 0, 0, first, 0) < 0 ?
           -errno : 0;
}

/*
 * Whether the hypercall is ours. Neither call does or reaches anything in any
 * interface that has used this number: where it is iommu_op(subop, arg),
 * subop 0 is a no-op. Only ours looks at the third argument.
 */
static bool hypercall_probe(Error **errp)
{
    int beyond = hypercall_probe_call(1), none = hypercall_probe_call(0);

    if (beyond == -EINVAL && none == 0) {
        return true;
    }
    if (beyond != none) {
        error_setg(errp, "hypercall %d of this hypervisor is an unknown "
                   "interface: it returns %d and %d", HYPERVISOR_IOMMU_OP,
                   beyond, none);
    } else if (none == -ENOSYS) {
        error_setg(errp, "this hypervisor has no iommu_op: %s",
                   strerror(ENOSYS));
    } else if (none == 0 || none == -ENODEV) {
        error_setg(errp, "this hypervisor has another iommu_op, that of the "
                   "PV-IOMMU series: iommu_op(subop, arg)%s",
                   none ? ", and this domain may not use it" : "");
    } else {
        error_setg(errp, "this hypervisor's iommu_op cannot be told apart: %s",
                   strerror(-none));
    }
    error_append_hint(errp, "Use backend=emulated, or boot a Xen with "
                      "xen-pviommu's series (docs/xen.rst).\n");
    return false;
}

static bool hypercall_set_up(Error **errp)
{
    int rc;

    if (!hypercall_probe(errp)) {
        return false;
    }
    hypercall.ops = xen_pviommu_hypercall_alloc(XEN_PVIOMMU_HOST_OPS *
                                                sizeof(*hypercall.ops), errp);
    if (!hypercall.ops) {
        return false;
    }
    xen_pviommu_host_op(0, XEN_IOMMUOP_query_caps);
    rc = xen_pviommu_host_call(1);
    if (rc < 0) {
        error_setg(errp, "this hypervisor's iommu_op does not say what it can "
                   "do: %s", strerror(-rc));
        error_append_hint(errp, "Use backend=emulated.\n");
        return false;
    }
    hypercall.caps = hypercall.ops[0].u.query_caps;
    return true;
}

void xen_pviommu_hypercall_close(void)
{
    if (--hypercall.users) {
        return;
    }
    xen_pviommu_hypercall_free(hypercall.ops);
    hypercall.ops = NULL;
    xencall_close(hypercall.call);
    hypercall.call = NULL;
}

const struct xen_iommu_op_query_caps *xen_pviommu_hypercall_open(Error **errp)
{
    if (hypercall.users++) {
        return &hypercall.caps;
    }
    hypercall.call = xencall_open(NULL, 0);
    if (!hypercall.call) {
        hypercall.users = 0;
        error_setg_errno(errp, errno, "cannot make hypercalls");
        return NULL;
    }
    if (!hypercall_set_up(errp)) {
        xen_pviommu_hypercall_close();
        return NULL;
    }
    return &hypercall.caps;
}

void xen_pviommu_host_close(void)
{
    xen_pviommu_hypercall_close();
}

bool xen_pviommu_host_open(uint64_t *bfn_limit, Error **errp)
{
    const struct xen_iommu_op_query_caps *caps =
        xen_pviommu_hypercall_open(errp);

    if (!caps) {
        return false;
    }
    if (!hypercall_check_caps(caps, errp)) {
        xen_pviommu_host_close();
        return false;
    }
    *bfn_limit = 1ull << caps->bfn_bits;
    return true;
}
