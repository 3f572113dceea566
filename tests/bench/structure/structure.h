/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What is compared: structures that know which GFN is mapped at a BFN
 *
 * All of them map the same: N positions, each one page, with BFNs that follow
 * each other and GFNs that do not. That is what a guest's DMA API does with
 * single pages, and what makes each of them an entry of its own.
 */

#ifndef TESTS_BENCH_STRUCTURE_H
#define TESTS_BENCH_STRUCTURE_H

#define BFN_BASE 0x100000ull    /* 4 GiB */
#define GFN_BASE 0x100000ull

/* What translates to nothing. */
#define NOTHING UINT64_MAX

/*
 * How many positions there are, and where their pages: one after the other
 * down the columns of a table of 1 << shift columns, while BFNs go along its
 * rows.
 */
typedef struct Shape {
    uint64_t n;
    unsigned shift;
    uint64_t rows;
} Shape;

static inline uint64_t bfn_of(uint64_t pos)
{
    return BFN_BASE + pos;
}

static inline uint64_t gfn_of(const Shape *shape, uint64_t pos)
{
    return GFN_BASE + (pos & ((1ull << shape->shift) - 1)) * shape->rows +
           (pos >> shape->shift);
}

typedef enum Order {
    ORDER_SEQUENTIAL,
    ORDER_RANDOM,               /* independent: a processor overlaps them */
    ORDER_CHAINED,              /* random, each after the one before it */
    NR_ORDERS,
} Order;

/* Where a loop is, and what comes next. Not shared between threads. */
typedef struct Walk {
    const Shape *shape;
    Order order;
    const uint32_t *random;     /* positions */
    uint64_t nr_random;
    uint64_t at;                /* in random, or the position itself */
    uint64_t zero;              /* what no compiler knows to be 0 */
} Walk;

/* Each returns what it found, or 1 for what has no result. */
typedef enum Op {
    OP_TRANSLATE,               /* BFN to GFN, as a device does */
    OP_LOOKUP,                  /* the same by the writer */
    OP_FIND,                    /* GFN to BFN */
    OP_MAP,
    OP_UNMAP,
    OP_STRICT,                  /* unmap, flush, map the same again */
    OP_INVALIDATE,              /* unmap by GFN */
    OP_RCU,                     /* translate, each in an RCU section */
    NR_OPS,
} Op;

/* Runs an operation at @count positions; returns the sum of the results. */
typedef uint64_t Loop(void *s, Walk *walk, uint64_t count);

typedef struct Structure {
    const char *name;
    bool lockless;              /* translate needs no lock */
    void *(*new)(const Shape *shape);
    void (*free)(void *s);
    Loop *loop[NR_OPS];         /* NULL: it cannot */
    void (*flush)(void *s);     /* after unmap, before map; or NULL */
    /* @nr frames as one entry, flushed with unmap; NULL: it has no ranges */
    bool (*map_range)(void *s, uint64_t bfn, uint64_t gfn, uint64_t nr);
    bool (*unmap_range)(void *s, uint64_t bfn, uint64_t nr);
} Structure;

/* The costs of the loop itself: its translate computes the GFN. */
extern const Structure structure_none;
extern const Structure structure_array;
extern const Structure structure_context;
extern const Structure structure_tables;
extern const Structure structure_gtree;
extern const Structure structure_iova_tree;
extern const Structure structure_interval_tree;

typedef uint64_t One(void *s, const Shape *shape, uint64_t pos);

/* All inlined, down to @one. */
static inline G_ALWAYS_INLINE uint64_t walk_loop(void *s, Walk *w,
                                                 uint64_t count, One *one)
{
    Shape shape = *w->shape;
    uint64_t sum = 0, got = 0, at = w->at;

    switch (w->order) {
    case ORDER_SEQUENTIAL:
        while (count--) {
            sum += one(s, &shape, at);
            at = at + 1 == shape.n ? 0 : at + 1;
        }
        break;
    case ORDER_RANDOM:
        while (count--) {
            sum += one(s, &shape, w->random[at]);
            at = at + 1 == w->nr_random ? 0 : at + 1;
        }
        break;
    case ORDER_CHAINED:
        while (count--) {
            got = one(s, &shape, w->random[at] + (got & w->zero));
            sum += got;
            at = at + 1 == w->nr_random ? 0 : at + 1;
        }
        break;
    default:
        g_assert_not_reached();
    }
    w->at = at;
    return sum;
}

/* The loop around @name, which is a One. */
#define DEFINE_LOOP(name)                                       \
    static uint64_t name##_loop(void *s, Walk *w, uint64_t n)   \
    {                                                           \
        return walk_loop(s, w, n, name);                        \
    }

/*
 * The same for readers without locks. What does DMA in QEMU is in an RCU
 * critical section already when it translates, whichever IOMMU there is.
 */
#define DEFINE_RCU_LOOP(name)                                   \
    static uint64_t name##_loop(void *s, Walk *w, uint64_t n)   \
    {                                                           \
        RCU_READ_LOCK_GUARD();                                  \
        return walk_loop(s, w, n, name);                        \
    }

#endif /* TESTS_BENCH_STRUCTURE_H */
