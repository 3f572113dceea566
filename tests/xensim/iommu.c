/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * xensim: iommu_op as a hypercall, for the domain that QEMU runs in
 *
 * As xen/0004-iommu-op.patch has it, for a PV dom0: the default context only,
 * whose lower part is reserved, as Xen maps memory 1:1 there. A mapping holds
 * its page until a flush after the unmap.
 */

#include "sim.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <xencall.h>
#include "hw/xen/interface/iommu_op.h"

#define HYPERCALL       43
/* The PV-IOMMU series has iommu_op(subop, arg) there: what it knows. */
#define OTHER_NOOP      0u
#define OTHER_CAPS      1u
#define OTHER_CAPS_SIZE 24
#define BFN_BITS        35
#define BFN_LIMIT       (1ull << BFN_BITS)
#define GFN_LIMIT       (1ull << 40)

/* How long a run lookup tells of. */
#define LOOKUP_MAX      4096

typedef enum State {
    MAPPED,
    PENDING,                    /* unmapped, and waits for a flush */
    OTHERS,                     /* mapped, by another emulator here */
    REMOVED,                    /* was mapped, and is not by QEMU's doing */
} State;

typedef struct Mapping {
    uint64_t bfn;
    uint64_t gfn;
    uint32_t page;
    bool readonly;
    State state;
} Mapping;

static GHashTable *mappings;    /* BFN -> Mapping, whose first field it is */
static GHashTable *buffers;     /* memory that hypercalls reach -> its size */
static GArray *reserved;        /* of struct xen_iommu_reserved_range */

static Mapping *find(uint64_t bfn)
{
    return g_hash_table_lookup(mappings, &bfn);
}

static bool is_mapped(const Mapping *m)
{
    return m && (m->state == MAPPED || m->state == OTHERS);
}

static void add_mapping(uint64_t bfn, uint64_t gfn, uint32_t page,
                        bool readonly, State state)
{
    Mapping *m = g_new(Mapping, 1);

    *m = (Mapping) { bfn, gfn, page, readonly, state };
    g_hash_table_replace(mappings, &m->bfn, m);
}

static void reserve(uint64_t bfn, uint32_t nr, uint32_t flags)
{
    const struct xen_iommu_reserved_range r = { bfn, nr, flags };

    g_array_append_val(reserved, r);
}

static gint compare_ranges(gconstpointer a, gconstpointer b)
{
    const struct xen_iommu_reserved_range *x = a, *y = b;

    return (x->start_bfn > y->start_bfn) - (x->start_bfn < y->start_bfn);
}

/* XENSIM_RESERVED: "BFN:FRAMES,...", besides what an AMD host reserves. */
static void sim_iommu_init(void)
{
    const char *more = getenv("XENSIM_RESERVED");
    g_auto(GStrv) each = g_strsplit(more ? more : "", ",", -1);

    mappings = g_hash_table_new_full(g_int64_hash, g_int64_equal, NULL, g_free);
    buffers = g_hash_table_new(NULL, NULL);
    reserved = g_array_new(false, false,
                           sizeof(struct xen_iommu_reserved_range));
    reserve(0, 0xfee00, 0);
    reserve(0xfee00, 0x100, XEN_IOMMU_RESERVED_msi);
    reserve(0xfef00, 0x1100, 0);
    reserve(0xfd00000, 0x300000, 0);
    for (char **s = each; *s; s++) {
        char *nr;
        uint64_t bfn = g_ascii_strtoull(*s, &nr, 0);

        if (*nr == ':') {
            reserve(bfn, g_ascii_strtoull(nr + 1, NULL, 0), 0);
        } else {
            sim_complain("XENSIM_RESERVED: BFN:FRAMES,... and not '%s'", *s);
        }
    }
    g_array_sort(reserved, compare_ranges);
}

static bool range_ok(uint64_t first, uint64_t nr, uint64_t limit)
{
    return first < limit && nr <= limit - first;
}

static bool is_reserved(uint64_t bfn, uint64_t nr)
{
    for (guint i = 0; i < reserved->len; i++) {
        const struct xen_iommu_reserved_range *r =
            &g_array_index(reserved, struct xen_iommu_reserved_range, i);

        if (bfn < r->start_bfn + r->nr_frames && bfn + nr > r->start_bfn) {
            return true;
        }
    }
    return false;
}

static int op_map(const struct xen_iommu_op *op)
{
    uint64_t bfn = op->u.map.bfn, gfn = op->u.map.gfn;
    uint64_t nr = MAX(op->u.map.nr_frames, 1);

    if (op->u.map.ctx || !range_ok(bfn, nr, BFN_LIMIT) ||
        !range_ok(gfn, nr, GFN_LIMIT)) {
        return -XEN_IOMMU_EINVAL;
    }
    if (is_reserved(bfn, nr)) {
        return -XEN_IOMMU_EADDRNOTAVAIL;
    }
    for (uint64_t i = 0; i < nr; i++) {
        if (is_mapped(find(bfn + i))) {
            return -XEN_IOMMU_EEXIST;
        }
    }
    if (!sim_domid("iommu_op", op->u.map.domid)) {
        return -XEN_IOMMU_ESRCH;
    }
    for (uint64_t i = 0; i < nr; i++) {
        if (sim_page_at(gfn + i) == SIM_NO_PAGE) {
            return -XEN_IOMMU_ENOENT;
        }
    }
    for (uint64_t i = 0; i < nr; i++) {
        /* What waited for a flush is flushed by that. */
        add_mapping(bfn + i, gfn + i, sim_page_at(gfn + i),
                    op->flags & XEN_IOMMUOP_map_readonly, MAPPED);
    }
    return 0;
}

static int op_unmap(const struct xen_iommu_op *op)
{
    uint64_t bfn = op->u.unmap.bfn, nr = MAX(op->u.unmap.nr_frames, 1);
    bool removed = false, all = true;

    if (op->u.unmap.ctx || op->u.unmap.pad || op->u.unmap.pad1 ||
        !range_ok(bfn, nr, BFN_LIMIT)) {
        return -XEN_IOMMU_EINVAL;
    }
    if (is_reserved(bfn, nr)) {
        return -XEN_IOMMU_EADDRNOTAVAIL;
    }
    for (uint64_t i = 0; i < nr; i++) {
        const Mapping *m = find(bfn + i);

        all &= is_mapped(m);
        removed |= m && m->state == REMOVED;
    }
    if (!all) {
        if (!removed) {
            sim_complain("iommu_op: unmap of BFN 0x%" PRIx64 " and %" PRIu64
                         " frames, not all of them mapped", bfn, nr);
        }
        return -XEN_IOMMU_ENOENT;
    }
    for (uint64_t i = 0; i < nr; i++) {
        Mapping *m = find(bfn + i);

        if (m->state == OTHERS) {
            sim_complain("iommu_op: unmap of BFN 0x%" PRIx64 ", which another "
                         "emulator mapped", bfn + i);
        }
        m->state = PENDING;
    }
    return 0;
}

static int op_flush(const struct xen_iommu_op *op)
{
    uint64_t bfn = op->u.flush.bfn, nr = MAX(op->u.flush.nr_frames, 1);
    GHashTableIter iter;
    gpointer value;

    if (op->u.flush.ctx || op->u.flush.pad || op->u.flush.pad1) {
        return -XEN_IOMMU_EINVAL;
    }
    if (bfn == XEN_IOMMU_FLUSH_ALL && !op->u.flush.nr_frames) {
        bfn = 0;
        nr = BFN_LIMIT;
    } else if (!range_ok(bfn, nr, BFN_LIMIT)) {
        return -XEN_IOMMU_EINVAL;
    }
    g_hash_table_iter_init(&iter, mappings);
    while (g_hash_table_iter_next(&iter, NULL, &value)) {
        const Mapping *m = value;

        if (m->state == PENDING && m->bfn >= bfn && m->bfn - bfn < nr) {
            g_hash_table_iter_remove(&iter);
        }
    }
    return 0;
}

static int op_query_reserved(struct xen_iommu_op *op)
{
    struct xen_iommu_op_query_reserved *u = &op->u.query_reserved;
    uint32_t room = u->nr_entries;

    if (u->pad || u->pad1 || u->sbdf || u->ctx) {
        return -XEN_IOMMU_EINVAL;
    }
    u->nr_entries = reserved->len;
    if (room < reserved->len) {
        return -XEN_IOMMU_ENOBUFS;
    }
    return sim_iommu_store(u->ranges, reserved->data,
                           reserved->len *
                           sizeof(struct xen_iommu_reserved_range));
}

static int op_lookup_bfn(struct xen_iommu_op *op)
{
    struct xen_iommu_op_lookup *u = &op->u.lookup;
    uint64_t next = BFN_LIMIT;
    GHashTableIter iter;
    const Mapping *m;
    gpointer value;

    if (u->gfn || u->pad || u->ctx || u->nr_frames ||
        !range_ok(u->bfn, 1, BFN_LIMIT)) {
        return -XEN_IOMMU_EINVAL;
    }
    m = find(u->bfn);
    if (is_mapped(m)) {
        const Mapping *q = m;
        uint32_t n = 0;

        while (n < LOOKUP_MAX && is_mapped(q) && q->gfn == m->gfn + n &&
               q->readonly == m->readonly) {
            q = find(m->bfn + ++n);
        }
        op->flags = m->readonly ? XEN_IOMMUOP_map_readonly : 0;
        u->gfn = m->gfn;
        u->nr_frames = n;
        return 0;
    }
    g_hash_table_iter_init(&iter, mappings);
    while (g_hash_table_iter_next(&iter, NULL, &value)) {
        m = value;
        if (is_mapped(m) && m->bfn > u->bfn) {
            next = MIN(next, m->bfn);
        }
    }
    u->nr_frames = MIN(next - u->bfn, UINT32_MAX);
    return -XEN_IOMMU_ENOENT;
}

static int op_query_caps(struct xen_iommu_op *op)
{
    op->u.query_caps = (struct xen_iommu_op_query_caps) {
        .ops = 1u << XEN_IOMMUOP_query_caps,
        .max_contexts = 1,
        .state = sim_feature("iommu-denied") ? 0 : XEN_IOMMU_STATE_control,
    };
    if (!sim_feature("iommu-off")) {
        op->u.query_caps.features = XEN_IOMMU_FEATURE_RANGES |
                                    XEN_IOMMU_FEATURE_LOOKUP;
        op->u.query_caps.ops |=
            1u << XEN_IOMMUOP_map | 1u << XEN_IOMMUOP_unmap |
            1u << XEN_IOMMUOP_flush | 1u << XEN_IOMMUOP_query_reserved |
            1u << XEN_IOMMUOP_lookup_bfn;
        op->u.query_caps.bfn_bits = sim_env("XENSIM_BFN_BITS", BFN_BITS);
        op->u.query_caps.max_mappings = UINT32_MAX;
        op->u.query_caps.state |= XEN_IOMMU_STATE_identity;
    }
    if (sim_feature("iommu-target")) {
        op->u.query_caps.ops |= (2u << XEN_IOMMUOP_target_event) -
                                (1u << XEN_IOMMUOP_target_alloc_context);
    }
    return 0;
}

/* Each can be made to fail by its name, as a library function can. */
static bool op_call(const struct xen_iommu_op *op)
{
    switch (op->op) {
    case XEN_IOMMUOP_map:
        return sim_call("iommu_op_map", "BFN 0x%" PRIx64 " GFN 0x%" PRIx64
                        " nr %u flags %u", op->u.map.bfn, op->u.map.gfn,
                        op->u.map.nr_frames, op->flags);
    case XEN_IOMMUOP_unmap:
        return sim_call("iommu_op_unmap", "BFN 0x%" PRIx64 " nr %u",
                        op->u.unmap.bfn, op->u.unmap.nr_frames);
    case XEN_IOMMUOP_flush:
        return sim_call("iommu_op_flush", "BFN 0x%" PRIx64 " nr %u",
                        op->u.flush.bfn, op->u.flush.nr_frames);
    case XEN_IOMMUOP_lookup_bfn:
        return sim_call("iommu_op_lookup_bfn", "BFN 0x%" PRIx64,
                        op->u.lookup.bfn);
    case XEN_IOMMUOP_query_reserved:
        return sim_call("iommu_op_query_reserved", "room %u",
                        op->u.query_reserved.nr_entries);
    default:
        return sim_call("iommu_op_query_caps", "-");
    }
}

/* An IOMMU does not answer, and what was mapped cannot be undone. */
static void map_half(const struct xen_iommu_op *op)
{
    const uint64_t nr = MAX(op->u.map.nr_frames, 1);

    if (!op_map(op)) {
        for (uint64_t i = (nr + 1) / 2; i < nr; i++) {
            add_mapping(op->u.map.bfn + i, 0, SIM_NO_PAGE, false, REMOVED);
        }
    }
}

int sim_iommu_store(uint64_t addr, const void *data, size_t len)
{
    void *p = (void *)(uintptr_t)addr;

    if ((size_t)g_hash_table_lookup(buffers, p) < len) {
        sim_complain("iommu_op: entries at %p are not in a buffer", p);
        return -XEN_IOMMU_EFAULT;
    }
    memcpy(p, data, len);
    return 0;
}

static bool is_target_op(const struct xen_iommu_op *op)
{
    return op->op >= XEN_IOMMUOP_target_alloc_context &&
           op->op <= XEN_IOMMUOP_target_event;
}

static int run_op(struct xen_iommu_op *op)
{
    struct xen_iommu_op caps = { 0 };

    op_query_caps(&caps);
    if (op->op >= 32 || !(caps.u.query_caps.ops & 1u << op->op)) {
        sim_complain("iommu_op: operation %u", op->op);
        return -XEN_IOMMU_EOPNOTSUPP;
    }
    if (is_target_op(op)) {
        return sim_target_call(op) ? sim_target_op(op) : -errno;
    }
    if (op->op != XEN_IOMMUOP_query_caps &&
        !(caps.u.query_caps.state & XEN_IOMMU_STATE_control)) {
        sim_complain("iommu_op: operation %u is not allowed", op->op);
        return -XEN_IOMMU_EACCES;
    }
    if (op->flags &
        ~(op->op == XEN_IOMMUOP_map ? XEN_IOMMUOP_map_readonly : 0)) {
        return -XEN_IOMMU_EINVAL;
    }
    if (!op_call(op)) {
        int err = errno;

        if (op->op == XEN_IOMMUOP_map && err == XEN_IOMMU_EIO) {
            map_half(op);
        }
        return -err;
    }
    switch (op->op) {
    case XEN_IOMMUOP_map:
        return op_map(op);
    case XEN_IOMMUOP_unmap:
        return op_unmap(op);
    case XEN_IOMMUOP_flush:
        return op_flush(op);
    case XEN_IOMMUOP_lookup_bfn:
        return op_lookup_bfn(op);
    case XEN_IOMMUOP_query_reserved:
        return op_query_reserved(op);
    default:
        return op_query_caps(op);
    }
}

/* --- libxencall ----------------------------------------------------------- */

xencall_handle *xencall_open(struct xentoollog_logger *logger, unsigned flags)
{
    if (!sim_call(__func__, "flags 0x%x", flags)) {
        return NULL;
    }
    if (!mappings) {
        sim_iommu_init();
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
    pthread_mutex_lock(&sim_lock);
    g_hash_table_insert(buffers, buffer, (void *)size);
    pthread_mutex_unlock(&sim_lock);
    return buffer;
}

void xencall_free_buffer(xencall_handle *xcall, void *p)
{
    g_autoptr(SimLocker) locker = NULL;

    if (!sim_call(__func__, "%p", p) ||
        !sim_handle(__func__, xcall, SIM_XENCALL)) {
        return;
    }
    locker = sim_locker_new(&sim_lock);
    if (!g_hash_table_remove(buffers, p)) {
        sim_complain("%s: %p is none", __func__, p);
        return;
    }
    g_free(p);
}

/*
 * The other interface. What it does is of no interest here, but that it was
 * called at all is: each call but the no-op counts.
 */
static int other_iommu_op(uint32_t subop, void *arg)
{
    if (sim_feature("iommu-off")) {
        errno = ENODEV;
        return -1;
    }
    if (subop == OTHER_NOOP) {
        return 0;
    }
    if (!sim_call("other_iommu_op", "subop %u", subop)) {
        return -1;
    }
    if (subop != OTHER_CAPS) {
        return sim_refuse(EOPNOTSUPP, "the other iommu_op: subop %u", subop);
    }
    if ((size_t)g_hash_table_lookup(buffers, arg) < OTHER_CAPS_SIZE) {
        return sim_refuse(EFAULT, "the other iommu_op: %p is not in a buffer",
                          arg);
    }
    memset(arg, 0, OTHER_CAPS_SIZE);
    return 0;
}

static int iommu_op(struct xen_iommu_op *ops, uint64_t nr, uint64_t first)
{
    g_autoptr(SimLocker) locker = sim_locker_new(&sim_lock);

    if (sim_feature("other-iommu-op")) {
        return other_iommu_op((uintptr_t)ops, (void *)(uintptr_t)nr);
    }
    if (first > nr) {
        errno = EINVAL;
        return -1;
    }
    if ((size_t)g_hash_table_lookup(buffers, ops) < nr * sizeof(*ops)) {
        return sim_refuse(EFAULT, "iommu_op: %" PRIu64 " operations at %p are "
                          "not in a buffer", nr, ops);
    }
    for (uint64_t i = first; i < nr; i++) {
        if (!sim_call("iommu_op", "%u", ops[i].op)) {
            /* Those before have their status, and this one has none. */
            return -1;
        }
        ops[i].status = run_op(&ops[i]);
    }
    /* Freeing the IOMMU's page tables can fail when all operations are done. */
    return sim_call("iommu_op_tables", "-") ? 0 : -1;
}

static bool is_iommu_op(unsigned op)
{
    if (op == HYPERCALL &&
        (sim_feature("iommu-op") || sim_feature("other-iommu-op"))) {
        return true;
    }
    errno = ENOSYS;
    return false;
}

int xencall2(xencall_handle *xcall, unsigned int op, uint64_t arg1,
             uint64_t arg2)
{
    if (!sim_call(__func__, "%u 0x%" PRIx64 " %" PRIu64, op, arg1, arg2) ||
        !sim_handle(__func__, xcall, SIM_XENCALL) || !is_iommu_op(op)) {
        return -1;
    }
    return iommu_op((void *)(uintptr_t)arg1, arg2, 0);
}

int xencall4(xencall_handle *xcall, unsigned int op, uint64_t arg1,
             uint64_t arg2, uint64_t arg3, uint64_t arg4)
{
    if (!sim_call(__func__, "%u 0x%" PRIx64 " %" PRIu64 " %" PRIu64 " %" PRIu64,
                  op, arg1, arg2, arg3, arg4) ||
        !sim_handle(__func__, xcall, SIM_XENCALL) || !is_iommu_op(op)) {
        return -1;
    }
    if (arg4) {
        return sim_refuse(EINVAL, "iommu_op: progress %" PRIu64, arg4);
    }
    return iommu_op((void *)(uintptr_t)arg1, arg2, arg3);
}

void sim_iommu_at_exit(void)
{
    unsigned left = 0;
    GHashTableIter iter;
    gpointer value;

    if (mappings) {
        g_hash_table_iter_init(&iter, mappings);
        while (g_hash_table_iter_next(&iter, NULL, &value)) {
            left += ((Mapping *)value)->page != SIM_NO_PAGE;
        }
    }
    if (left) {
        sim_complain("the host's IOMMU holds %u pages at exit", left);
    }
}

/* references PAGE: of the host's IOMMU to it */
static bool cmd_references(char **words, const uint64_t *args, GString *reply)
{
    g_autoptr(SimLocker) locker = sim_locker_new(&sim_lock);
    unsigned nr = 0;
    GHashTableIter iter;
    gpointer value;

    if (mappings) {
        g_hash_table_iter_init(&iter, mappings);
        while (g_hash_table_iter_next(&iter, NULL, &value)) {
            nr += ((Mapping *)value)->page == args[0];
        }
    }
    g_string_append_printf(reply, "%u", nr + sim_target_references(args[0]));
    return true;
}

/* occupy BFN NR: another emulator here maps something there */
static bool cmd_occupy(char **words, const uint64_t *args, GString *reply)
{
    g_autoptr(SimLocker) locker = sim_locker_new(&sim_lock);

    for (uint64_t i = 0; i < args[1]; i++) {
        if (!mappings || is_mapped(find(args[0] + i))) {
            g_string_append(reply, "nobody can");
            return false;
        }
        add_mapping(args[0] + i, i, SIM_NO_PAGE, false, OTHERS);
    }
    return true;
}

/* revoke BFN NR: what is mapped there is unmapped, as when a domain dies */
static bool cmd_revoke(char **words, const uint64_t *args, GString *reply)
{
    g_autoptr(SimLocker) locker = sim_locker_new(&sim_lock);

    for (uint64_t i = 0; i < args[1]; i++) {
        if (!mappings || !is_mapped(find(args[0] + i))) {
            g_string_append(reply, "not mapped");
            return false;
        }
        add_mapping(args[0] + i, 0, SIM_NO_PAGE, false, REMOVED);
    }
    return true;
}

/* reserve BFN NR: a device was added that needs them */
static bool cmd_reserve(char **words, const uint64_t *args, GString *reply)
{
    g_autoptr(SimLocker) locker = sim_locker_new(&sim_lock);

    if (!reserved) {
        g_string_append(reply, "nobody asked yet");
        return false;
    }
    reserve(args[0], args[1], 0);
    return true;
}

const SimCommand sim_iommu_commands[] = {
    { "references", 1, cmd_references },
    { "occupy", 2, cmd_occupy },
    { "revoke", 2, cmd_revoke },
    { "reserve", 2, cmd_reserve },
    { }
};
