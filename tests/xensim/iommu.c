/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * xensim: iommu_op as a hypercall, for the domain that QEMU runs in
 *
 * The default context only, of an IOMMU that reserves nothing. A mapping holds
 * its page until a flush after the unmap.
 */

#include "sim.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <xencall.h>
#include "hw/xen/interface/iommu_op.h"

#define HYPERCALL       43
#define BFN_BITS        35

typedef struct Mapping {
    uint64_t bfn;
    uint32_t page;
    bool mapped;                /* else it waits for a flush */
} Mapping;

static GArray *mappings;        /* of Mapping */
static GHashTable *buffers;     /* memory that hypercalls reach -> its size */

static unsigned page_references(uint32_t page)
{
    unsigned nr = 0;

    for (guint i = 0; mappings && i < mappings->len; i++) {
        nr += g_array_index(mappings, Mapping, i).page == page;
    }
    return nr;
}

static Mapping *find_mapping(uint64_t bfn)
{
    for (guint i = 0; i < mappings->len; i++) {
        Mapping *m = &g_array_index(mappings, Mapping, i);

        if (m->mapped && m->bfn == bfn) {
            return m;
        }
    }
    return NULL;
}

static int op_map(const struct xen_iommu_op *op)
{
    uint64_t bfn = op->u.map.bfn, gfn = op->u.map.gfn;
    uint64_t nr = MAX(op->u.map.nr_frames, 1);

    if (op->flags & ~XEN_IOMMUOP_map_readonly || op->u.map.ctx ||
        bfn >> BFN_BITS || nr > (1ull << BFN_BITS) - bfn) {
        return -XEN_IOMMU_EINVAL;
    }
    if (!sim_domid("iommu_op", op->u.map.domid)) {
        return -XEN_IOMMU_ESRCH;
    }
    for (uint64_t i = 0; i < nr; i++) {
        if (find_mapping(bfn + i)) {
            return -XEN_IOMMU_EEXIST;
        }
        if (sim_page_at(gfn + i) == SIM_NO_PAGE) {
            return -XEN_IOMMU_ENOENT;
        }
    }
    for (uint64_t i = 0; i < nr; i++) {
        Mapping m = { bfn + i, sim_page_at(gfn + i), true };

        g_array_append_val(mappings, m);
    }
    return 0;
}

static int op_unmap(const struct xen_iommu_op *op)
{
    uint64_t bfn = op->u.unmap.bfn, nr = MAX(op->u.unmap.nr_frames, 1);

    if (op->flags || op->u.unmap.ctx || op->u.unmap.pad || op->u.unmap.pad1) {
        return -XEN_IOMMU_EINVAL;
    }
    for (uint64_t i = 0; i < nr; i++) {
        if (!find_mapping(bfn + i)) {
            sim_complain("iommu_op: unmap of BFN 0x%" PRIx64
                         ", which is not mapped", bfn + i);
            return -XEN_IOMMU_ENOENT;
        }
    }
    for (uint64_t i = 0; i < nr; i++) {
        find_mapping(bfn + i)->mapped = false;
    }
    return 0;
}

static int op_flush(const struct xen_iommu_op *op)
{
    uint64_t bfn = op->u.flush.bfn, nr = MAX(op->u.flush.nr_frames, 1);
    bool all = bfn == XEN_IOMMU_FLUSH_ALL && !op->u.flush.nr_frames;

    if (op->flags || op->u.flush.ctx || op->u.flush.pad || op->u.flush.pad1) {
        return -XEN_IOMMU_EINVAL;
    }
    for (guint i = 0; i < mappings->len;) {
        const Mapping *m = &g_array_index(mappings, Mapping, i);

        if (!m->mapped && (all || (m->bfn >= bfn && m->bfn - bfn < nr))) {
            g_array_remove_index_fast(mappings, i);
        } else {
            i++;
        }
    }
    return 0;
}

static int run_op(struct xen_iommu_op *op)
{
    /* Each can be made to fail by its name, as a library function can. */
    switch (op->op) {
    case XEN_IOMMUOP_map:
        return sim_call("iommu_op_map", "BFN 0x%" PRIx64 " GFN 0x%" PRIx64
                        " nr %u flags %u", op->u.map.bfn, op->u.map.gfn,
                        op->u.map.nr_frames, op->flags) ? op_map(op) : -errno;
    case XEN_IOMMUOP_unmap:
        return sim_call("iommu_op_unmap", "BFN 0x%" PRIx64 " nr %u",
                        op->u.unmap.bfn, op->u.unmap.nr_frames) ?
               op_unmap(op) : -errno;
    case XEN_IOMMUOP_flush:
        return sim_call("iommu_op_flush", "BFN 0x%" PRIx64 " nr %u",
                        op->u.flush.bfn, op->u.flush.nr_frames) ?
               op_flush(op) : -errno;
    case XEN_IOMMUOP_query_caps:
        op->u.query_caps = (struct xen_iommu_op_query_caps) {
            .features = XEN_IOMMU_FEATURE_RANGES,
            .ops = 1u << XEN_IOMMUOP_map | 1u << XEN_IOMMUOP_unmap |
                   1u << XEN_IOMMUOP_flush | 1u << XEN_IOMMUOP_query_caps,
            .max_contexts = 1,
            .bfn_bits = BFN_BITS,
            .state = XEN_IOMMU_STATE_control,
            .max_mappings = UINT32_MAX,
        };
        return 0;
    default:
        return -XEN_IOMMU_EOPNOTSUPP;
    }
}

/* --- libxencall ----------------------------------------------------------- */

xencall_handle *xencall_open(struct xentoollog_logger *logger, unsigned flags)
{
    if (!sim_call(__func__, "flags 0x%x", flags)) {
        return NULL;
    }
    if (!mappings) {
        mappings = g_array_new(false, false, sizeof(Mapping));
        buffers = g_hash_table_new(NULL, NULL);
    }
    return sim_handle_new(SIM_XENCALL, sizeof(SimHandle));
}

int xencall_close(xencall_handle *xcall)
{
    if (!sim_call(__func__, "-")) {
        return -1;
    }
    return sim_handle_free(__func__, xcall, SIM_XENCALL) ? 0 : -1;
}

void *xencall_alloc_buffer(xencall_handle *xcall, size_t size)
{
    void *buffer;

    if (!sim_call(__func__, "%zu", size) ||
        !sim_handle(__func__, xcall, SIM_XENCALL)) {
        return NULL;
    }
    buffer = g_malloc(size);
    g_mutex_lock(&sim_lock);
    g_hash_table_insert(buffers, buffer, (void *)size);
    g_mutex_unlock(&sim_lock);
    return buffer;
}

void xencall_free_buffer(xencall_handle *xcall, void *p)
{
    g_autoptr(GMutexLocker) locker = NULL;

    if (!sim_call(__func__, "%p", p) ||
        !sim_handle(__func__, xcall, SIM_XENCALL)) {
        return;
    }
    locker = g_mutex_locker_new(&sim_lock);
    if (!g_hash_table_remove(buffers, p)) {
        sim_complain("%s: %p is none", __func__, p);
        return;
    }
    g_free(p);
}

int xencall2(xencall_handle *xcall, unsigned int op, uint64_t arg1,
             uint64_t arg2)
{
    g_autoptr(GMutexLocker) locker = NULL;
    struct xen_iommu_op *ops = (void *)(uintptr_t)arg1;

    if (!sim_call(__func__, "%u 0x%" PRIx64 " %" PRIu64, op, arg1, arg2) ||
        !sim_handle(__func__, xcall, SIM_XENCALL)) {
        return -1;
    }
    if (op != HYPERCALL || !sim_feature("iommu-op")) {
        errno = ENOSYS;
        return -1;
    }
    locker = g_mutex_locker_new(&sim_lock);
    if ((size_t)g_hash_table_lookup(buffers, ops) < arg2 * sizeof(*ops)) {
        return sim_refuse(EFAULT, "%s: %" PRIu64 " operations at %p are not in "
                          "a buffer", __func__, arg2, ops);
    }
    for (uint64_t i = 0; i < arg2; i++) {
        ops[i].status = run_op(&ops[i]);
    }
    return 0;
}

void sim_iommu_at_exit(void)
{
    if (mappings && mappings->len) {
        sim_complain("the host's IOMMU holds %u pages at exit", mappings->len);
    }
}

/* references PAGE: of the host's IOMMU to it */
static bool cmd_references(char **words, const uint64_t *args, GString *reply)
{
    g_autoptr(GMutexLocker) locker = g_mutex_locker_new(&sim_lock);

    g_string_append_printf(reply, "%u", page_references(args[0]));
    return true;
}

const SimCommand sim_iommu_commands[] = {
    { "references", 1, cmd_references },
    { }
};
