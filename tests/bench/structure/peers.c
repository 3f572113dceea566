/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What else QEMU keeps mappings in, and a plain array
 *
 * The trees are used as virtio-iommu uses its GTree: a recursive mutex around
 * all of it, and one search a translation.
 */

#include "qemu/osdep.h"
#include "qemu/atomic.h"
#include "qemu/interval-tree.h"
#include "qemu/iova-tree.h"
#include "qemu/thread.h"
#include "structure.h"

#define PAGE_BITS 12
#define PAGE_LAST ((1ull << PAGE_BITS) - 1)

static uint64_t iova_of(uint64_t bfn)
{
    return bfn << PAGE_BITS;
}

/* --- nothing at all ------------------------------------------------------ */

static void *none_new(const Shape *shape)
{
    return NULL;
}

static void none_free(void *s)
{
}

static inline uint64_t none_translate(void *s, const Shape *shape, uint64_t pos)
{
    uint64_t gfn = gfn_of(shape, pos);

    /* As if it had been read from somewhere */
    asm volatile("" : "+r"(gfn));
    return gfn;
}
DEFINE_LOOP(none_translate)

static inline uint64_t none_find(void *s, const Shape *shape, uint64_t pos)
{
    uint64_t bfn = bfn_of(pos);

    asm volatile("" : "+r"(bfn));
    return bfn;
}
DEFINE_LOOP(none_find)

static inline uint64_t none_change(void *s, const Shape *shape, uint64_t pos)
{
    asm volatile("" : "+r"(pos));
    return 1;
}
DEFINE_LOOP(none_change)

const Structure structure_none = {
    .name = "none",
    .lockless = true,
    .new = none_new,
    .free = none_free,
    .loop = {
        [OP_TRANSLATE] = none_translate_loop,
        [OP_LOOKUP] = none_translate_loop,
        [OP_FIND] = none_find_loop,
        [OP_MAP] = none_change_loop,
        [OP_UNMAP] = none_change_loop,
        [OP_STRICT] = none_change_loop,
        [OP_INVALIDATE] = none_change_loop,
        [OP_RCU] = none_translate_loop,
    },
};

/* --- an array ------------------------------------------------------------ */

/*
 * The limit: it has BFNs from BFN_BASE on only, as many as are mapped, and no
 * ranges. It is asked as a table is: with a call, and for flags as well.
 */
typedef struct Array {
    uint64_t n;
    uint64_t *entry;            /* the GFN, and ENTRY_VALID; or 0 */
} Array;

typedef struct ArrayResult {
    uint64_t gfn;
    unsigned order;
    bool readonly;
} ArrayResult;

#define ENTRY_VALID     1
#define ENTRY_READONLY  2
#define ENTRY_GFN_SHIFT 12

static void *array_new(const Shape *shape)
{
    Array *a = g_new0(Array, 1);

    a->n = shape->n;
    a->entry = g_new0(uint64_t, shape->n);
    return a;
}

static void array_free(void *s)
{
    Array *a = s;

    g_free(a->entry);
    g_free(a);
}

static bool __attribute__((noinline))
array_get(const Array *a, uint64_t bfn, ArrayResult *out)
{
    uint64_t entry;

    if (bfn - BFN_BASE >= a->n) {
        return false;
    }
    entry = qatomic_read(&a->entry[bfn - BFN_BASE]);
    out->gfn = entry >> ENTRY_GFN_SHIFT;
    out->order = 0;
    out->readonly = entry & ENTRY_READONLY;
    return entry & ENTRY_VALID;
}

static inline uint64_t array_translate(void *s, const Shape *shape,
                                       uint64_t pos)
{
    ArrayResult result;

    return array_get(s, bfn_of(pos), &result) ? result.gfn : NOTHING;
}
DEFINE_LOOP(array_translate)

static inline uint64_t array_map(void *s, const Shape *shape, uint64_t pos)
{
    Array *a = s;

    g_assert(!a->entry[pos]);
    qatomic_set(&a->entry[pos],
                gfn_of(shape, pos) << ENTRY_GFN_SHIFT | ENTRY_VALID);
    return 1;
}
DEFINE_LOOP(array_map)

static inline uint64_t array_unmap(void *s, const Shape *shape, uint64_t pos)
{
    Array *a = s;

    g_assert(a->entry[pos]);
    qatomic_set(&a->entry[pos], 0);
    return 1;
}
DEFINE_LOOP(array_unmap)

static inline uint64_t array_strict(void *s, const Shape *shape, uint64_t pos)
{
    array_unmap(s, shape, pos);
    return array_map(s, shape, pos);
}
DEFINE_LOOP(array_strict)

const Structure structure_array = {
    .name = "array",
    .lockless = true,
    .new = array_new,
    .free = array_free,
    .loop = {
        [OP_TRANSLATE] = array_translate_loop,
        [OP_LOOKUP] = array_translate_loop,
        [OP_MAP] = array_map_loop,
        [OP_UNMAP] = array_unmap_loop,
        [OP_STRICT] = array_strict_loop,
    },
};

/* --- a GTree of intervals ------------------------------------------------ */

typedef struct Interval {
    uint64_t low;
    uint64_t high;
} Interval;

typedef struct Mapping {
    uint64_t address;
    uint32_t flags;
} Mapping;

typedef struct GTreeMap {
    QemuRecMutex lock;
    GTree *tree;                /* Interval -> Mapping */
} GTreeMap;

/* Those that overlap are the same. */
static gint interval_compare(gconstpointer a, gconstpointer b, gpointer unused)
{
    const Interval *x = a, *y = b;

    return x->high < y->low ? -1 : x->low > y->high;
}

static Interval interval_new(uint64_t bfn, uint64_t nr)
{
    return (Interval) { iova_of(bfn), iova_of(bfn + nr) - 1 };
}

static void *gtree_new(const Shape *shape)
{
    GTreeMap *m = g_new0(GTreeMap, 1);

    qemu_rec_mutex_init(&m->lock);
    m->tree = g_tree_new_full(interval_compare, NULL, g_free, g_free);
    return m;
}

static void gtree_free(void *s)
{
    GTreeMap *m = s;

    g_tree_destroy(m->tree);
    qemu_rec_mutex_destroy(&m->lock);
    g_free(m);
}

static uint64_t gtree_translate(void *s, const Shape *shape, uint64_t pos)
{
    GTreeMap *m = s;
    uint64_t iova = iova_of(bfn_of(pos)), address = NOTHING;
    Interval key = { iova, iova };
    gpointer low, mapping;

    qemu_rec_mutex_lock(&m->lock);
    if (g_tree_lookup_extended(m->tree, &key, &low, &mapping)) {
        address = iova - ((Interval *)low)->low + ((Mapping *)mapping)->address;
        address >>= PAGE_BITS;
    }
    qemu_rec_mutex_unlock(&m->lock);
    return address;
}
DEFINE_LOOP(gtree_translate)

static bool gtree_map_range(void *s, uint64_t bfn, uint64_t gfn, uint64_t nr)
{
    GTreeMap *m = s;
    Interval key = interval_new(bfn, nr), *interval;
    Mapping *mapping;
    bool ok = false;

    qemu_rec_mutex_lock(&m->lock);
    if (!g_tree_lookup(m->tree, &key)) {
        interval = g_new(Interval, 1);
        *interval = key;
        mapping = g_new0(Mapping, 1);
        mapping->address = iova_of(gfn);
        g_tree_insert(m->tree, interval, mapping);
        ok = true;
    }
    qemu_rec_mutex_unlock(&m->lock);
    return ok;
}

/* All that is in the range, which may be several intervals. */
static bool gtree_unmap_range(void *s, uint64_t bfn, uint64_t nr)
{
    GTreeMap *m = s;
    Interval key = interval_new(bfn, nr);
    gpointer low, mapping;
    bool done = false;

    qemu_rec_mutex_lock(&m->lock);
    while (g_tree_lookup_extended(m->tree, &key, &low, &mapping)) {
        g_tree_remove(m->tree, low);
        done = true;
    }
    qemu_rec_mutex_unlock(&m->lock);
    return done;
}

static uint64_t gtree_map(void *s, const Shape *shape, uint64_t pos)
{
    return gtree_map_range(s, bfn_of(pos), gfn_of(shape, pos), 1);
}
DEFINE_LOOP(gtree_map)

static uint64_t gtree_unmap(void *s, const Shape *shape, uint64_t pos)
{
    return gtree_unmap_range(s, bfn_of(pos), 1);
}
DEFINE_LOOP(gtree_unmap)

static uint64_t gtree_strict(void *s, const Shape *shape, uint64_t pos)
{
    return gtree_unmap(s, shape, pos) & gtree_map(s, shape, pos);
}
DEFINE_LOOP(gtree_strict)

typedef struct Search {
    uint64_t address;
    uint64_t bfn;
} Search;

static gboolean gtree_search(gpointer key, gpointer value, gpointer opaque)
{
    Search *search = opaque;

    if (((Mapping *)value)->address != search->address) {
        return false;
    }
    search->bfn = ((Interval *)key)->low >> PAGE_BITS;
    return true;
}

/* There is no way back but to look at all of them. */
static uint64_t gtree_find(void *s, const Shape *shape, uint64_t pos)
{
    GTreeMap *m = s;
    Search search = { iova_of(gfn_of(shape, pos)), NOTHING };

    qemu_rec_mutex_lock(&m->lock);
    g_tree_foreach(m->tree, gtree_search, &search);
    qemu_rec_mutex_unlock(&m->lock);
    return search.bfn;
}
DEFINE_LOOP(gtree_find)

static uint64_t gtree_invalidate(void *s, const Shape *shape, uint64_t pos)
{
    return gtree_unmap_range(s, gtree_find(s, shape, pos), 1);
}
DEFINE_LOOP(gtree_invalidate)

const Structure structure_gtree = {
    .name = "gtree",
    .new = gtree_new,
    .free = gtree_free,
    .loop = {
        [OP_TRANSLATE] = gtree_translate_loop,
        [OP_LOOKUP] = gtree_translate_loop,
        [OP_FIND] = gtree_find_loop,
        [OP_MAP] = gtree_map_loop,
        [OP_UNMAP] = gtree_unmap_loop,
        [OP_STRICT] = gtree_strict_loop,
        [OP_INVALIDATE] = gtree_invalidate_loop,
    },
    .map_range = gtree_map_range,
    .unmap_range = gtree_unmap_range,
};

/* --- QEMU's IOVA tree ---------------------------------------------------- */

typedef struct IOVAMap {
    QemuRecMutex lock;
    IOVATree *tree;
} IOVAMap;

static void *iova_new(const Shape *shape)
{
    IOVAMap *m = g_new0(IOVAMap, 1);

    qemu_rec_mutex_init(&m->lock);
    m->tree = iova_tree_new();
    return m;
}

static void iova_free(void *s)
{
    IOVAMap *m = s;

    iova_tree_destroy(m->tree);
    qemu_rec_mutex_destroy(&m->lock);
    g_free(m);
}

static uint64_t iova_translate(void *s, const Shape *shape, uint64_t pos)
{
    IOVAMap *m = s;
    DMAMap key = { .iova = iova_of(bfn_of(pos)) };
    uint64_t address = NOTHING;
    const DMAMap *found;

    qemu_rec_mutex_lock(&m->lock);
    found = iova_tree_find(m->tree, &key);
    if (found) {
        address = key.iova - found->iova + found->translated_addr;
        address >>= PAGE_BITS;
    }
    qemu_rec_mutex_unlock(&m->lock);
    return address;
}
DEFINE_LOOP(iova_translate)

static bool iova_map_range(void *s, uint64_t bfn, uint64_t gfn, uint64_t nr)
{
    IOVAMap *m = s;
    DMAMap map = {
        .iova = iova_of(bfn),
        .translated_addr = iova_of(gfn),
        .size = iova_of(nr) - 1,
        .perm = IOMMU_RW,
    };
    int ret;

    qemu_rec_mutex_lock(&m->lock);
    ret = iova_tree_insert(m->tree, &map);
    qemu_rec_mutex_unlock(&m->lock);
    return ret == IOVA_OK;
}

static bool iova_unmap_range(void *s, uint64_t bfn, uint64_t nr)
{
    IOVAMap *m = s;
    DMAMap map = { .iova = iova_of(bfn), .size = iova_of(nr) - 1 };

    qemu_rec_mutex_lock(&m->lock);
    iova_tree_remove(m->tree, map);
    qemu_rec_mutex_unlock(&m->lock);
    /* It does not say whether there was any. */
    return true;
}

static uint64_t iova_map(void *s, const Shape *shape, uint64_t pos)
{
    return iova_map_range(s, bfn_of(pos), gfn_of(shape, pos), 1);
}
DEFINE_LOOP(iova_map)

static uint64_t iova_unmap(void *s, const Shape *shape, uint64_t pos)
{
    return iova_unmap_range(s, bfn_of(pos), 1);
}
DEFINE_LOOP(iova_unmap)

static uint64_t iova_strict(void *s, const Shape *shape, uint64_t pos)
{
    return iova_unmap(s, shape, pos) & iova_map(s, shape, pos);
}
DEFINE_LOOP(iova_strict)

static uint64_t iova_find(void *s, const Shape *shape, uint64_t pos)
{
    IOVAMap *m = s;
    DMAMap key = { .translated_addr = iova_of(gfn_of(shape, pos)) };
    uint64_t bfn = NOTHING;
    const DMAMap *found;

    qemu_rec_mutex_lock(&m->lock);
    found = iova_tree_find_iova(m->tree, &key);
    if (found) {
        bfn = found->iova >> PAGE_BITS;
    }
    qemu_rec_mutex_unlock(&m->lock);
    return bfn;
}
DEFINE_LOOP(iova_find)

static uint64_t iova_invalidate(void *s, const Shape *shape, uint64_t pos)
{
    return iova_unmap_range(s, iova_find(s, shape, pos), 1);
}
DEFINE_LOOP(iova_invalidate)

const Structure structure_iova_tree = {
    .name = "iova-tree",
    .new = iova_new,
    .free = iova_free,
    .loop = {
        [OP_TRANSLATE] = iova_translate_loop,
        [OP_LOOKUP] = iova_translate_loop,
        [OP_FIND] = iova_find_loop,
        [OP_MAP] = iova_map_loop,
        [OP_UNMAP] = iova_unmap_loop,
        [OP_STRICT] = iova_strict_loop,
        [OP_INVALIDATE] = iova_invalidate_loop,
    },
    .map_range = iova_map_range,
    .unmap_range = iova_unmap_range,
};

/* --- QEMU's interval tree ------------------------------------------------ */

typedef struct TreeMap {
    QemuRecMutex lock;
    IntervalTreeRoot root;
} TreeMap;

typedef struct TreeMapping {
    IntervalTreeNode node;      /* frames */
    uint64_t gfn;
    uint32_t flags;
} TreeMapping;

static TreeMapping *mapping_of(IntervalTreeNode *node)
{
    return node ? container_of(node, TreeMapping, node) : NULL;
}

static void *tree_new(const Shape *shape)
{
    TreeMap *m = g_new0(TreeMap, 1);

    qemu_rec_mutex_init(&m->lock);
    return m;
}

static bool tree_unmap_range(void *s, uint64_t bfn, uint64_t nr)
{
    TreeMap *m = s;
    TreeMapping *found;
    bool done = false;

    qemu_rec_mutex_lock(&m->lock);
    while ((found = mapping_of(interval_tree_iter_first(&m->root, bfn,
                                                        bfn + nr - 1)))) {
        interval_tree_remove(&found->node, &m->root);
        g_free(found);
        done = true;
    }
    qemu_rec_mutex_unlock(&m->lock);
    return done;
}

/* Children first; nothing is balanced on the way. */
static void tree_free_node(RBNode *rb)
{
    if (rb) {
        tree_free_node(rb->rb_left);
        tree_free_node(rb->rb_right);
        g_free(mapping_of(container_of(rb, IntervalTreeNode, rb)));
    }
}

static void tree_free(void *s)
{
    TreeMap *m = s;

    tree_free_node(m->root.rb_root.rb_node);
    qemu_rec_mutex_destroy(&m->lock);
    g_free(m);
}

static uint64_t tree_translate(void *s, const Shape *shape, uint64_t pos)
{
    TreeMap *m = s;
    uint64_t bfn = bfn_of(pos), gfn = NOTHING;
    TreeMapping *found;

    qemu_rec_mutex_lock(&m->lock);
    found = mapping_of(interval_tree_iter_first(&m->root, bfn, bfn));
    if (found) {
        gfn = bfn - found->node.start + found->gfn;
    }
    qemu_rec_mutex_unlock(&m->lock);
    return gfn;
}
DEFINE_LOOP(tree_translate)

static bool tree_map_range(void *s, uint64_t bfn, uint64_t gfn, uint64_t nr)
{
    TreeMap *m = s;
    TreeMapping *new;
    bool ok = false;

    qemu_rec_mutex_lock(&m->lock);
    if (!interval_tree_iter_first(&m->root, bfn, bfn + nr - 1)) {
        new = g_new0(TreeMapping, 1);
        new->node.start = bfn;
        new->node.last = bfn + nr - 1;
        new->gfn = gfn;
        interval_tree_insert(&new->node, &m->root);
        ok = true;
    }
    qemu_rec_mutex_unlock(&m->lock);
    return ok;
}

static uint64_t tree_map(void *s, const Shape *shape, uint64_t pos)
{
    return tree_map_range(s, bfn_of(pos), gfn_of(shape, pos), 1);
}
DEFINE_LOOP(tree_map)

static uint64_t tree_unmap(void *s, const Shape *shape, uint64_t pos)
{
    return tree_unmap_range(s, bfn_of(pos), 1);
}
DEFINE_LOOP(tree_unmap)

static uint64_t tree_strict(void *s, const Shape *shape, uint64_t pos)
{
    return tree_unmap(s, shape, pos) & tree_map(s, shape, pos);
}
DEFINE_LOOP(tree_strict)

static uint64_t tree_find(void *s, const Shape *shape, uint64_t pos)
{
    TreeMap *m = s;
    uint64_t gfn = gfn_of(shape, pos), bfn = NOTHING;
    IntervalTreeNode *node;

    qemu_rec_mutex_lock(&m->lock);
    for (node = interval_tree_iter_first(&m->root, 0, UINT64_MAX); node;
         node = interval_tree_iter_next(node, 0, UINT64_MAX)) {
        if (mapping_of(node)->gfn == gfn) {
            bfn = node->start;
            break;
        }
    }
    qemu_rec_mutex_unlock(&m->lock);
    return bfn;
}
DEFINE_LOOP(tree_find)

static uint64_t tree_invalidate(void *s, const Shape *shape, uint64_t pos)
{
    return tree_unmap_range(s, tree_find(s, shape, pos), 1);
}
DEFINE_LOOP(tree_invalidate)

const Structure structure_interval_tree = {
    .name = "interval-tree",
    .new = tree_new,
    .free = tree_free,
    .loop = {
        [OP_TRANSLATE] = tree_translate_loop,
        [OP_LOOKUP] = tree_translate_loop,
        [OP_FIND] = tree_find_loop,
        [OP_MAP] = tree_map_loop,
        [OP_UNMAP] = tree_unmap_loop,
        [OP_STRICT] = tree_strict_loop,
        [OP_INVALIDATE] = tree_invalidate_loop,
    },
    .map_range = tree_map_range,
    .unmap_range = tree_unmap_range,
};
