/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * xensim: the guest's pages, and foreign mappings of them
 *
 * A page is an offset in one memfd, and is never used again for another: that
 * is what makes "is it still mapped" a question with an answer. The p2m says
 * where the guest has it.
 */

#include "sim.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include <xenctrl.h>
#include <xenforeignmemory.h>

#define MAX_GFNS        (1ul << 24)
#define MAX_PAGES       (1ul << 24)
#define RAM_NAME        "xensim-ram"
#define HOLE_NAME       "xensim-hole"

/* What a guest of Xen does not have as RAM. */
#define VGA_GFN         0xa0
#define VGA_END_GFN     0xc0
#define LOW_END_GFN     0xf0000
#define HIGH_GFN        0x100000

static uint32_t p2m[MAX_GFNS];  /* page + 1; 0: none */
static uint32_t nr_pages;
static int ram_fd;
static bool trusting;           /* XENSIM_TRUST: unmap anything */
/* An empty file: what is mapped of it raises SIGBUS, as with Linux' privcmd. */
static int hole_fd;

static void populate(uint64_t gfn, uint64_t end)
{
    for (; gfn < end; gfn++) {
        p2m[gfn] = ++nr_pages;
    }
}

void sim_memory_init(void)
{
    uint64_t nr = (uint64_t)sim_env("XENSIM_RAM_MB", 256) << 20 >>
                  SIM_PAGE_SHIFT;

    trusting = sim_env("XENSIM_TRUST", 0);
    ram_fd = memfd_create(RAM_NAME, MFD_CLOEXEC);
    hole_fd = memfd_create(HOLE_NAME, MFD_CLOEXEC);
    if (ram_fd < 0 || hole_fd < 0 ||
        ftruncate(ram_fd, MAX_PAGES << SIM_PAGE_SHIFT)) {
        perror("xensim: memfd");
        exit(EXIT_FAILURE);
    }
    populate(0, VGA_GFN);
    populate(VGA_END_GFN, MIN(nr, LOW_END_GFN));
    populate(HIGH_GFN, HIGH_GFN + (nr > LOW_END_GFN ? nr - LOW_END_GFN : 0));
}

uint32_t sim_page_new(void)
{
    g_assert(nr_pages < MAX_PAGES);
    return nr_pages++;
}

uint32_t sim_page_at(uint64_t gfn)
{
    return gfn < MAX_GFNS ? p2m[gfn] - 1 : SIM_NO_PAGE;
}

uint32_t sim_page_set(uint64_t gfn, uint32_t page)
{
    uint32_t old = sim_page_at(gfn);

    g_assert(gfn < MAX_GFNS);
    p2m[gfn] = page + 1;
    return old;
}

static bool map_page(void *addr, uint32_t page, size_t nr, int prot)
{
    return mmap(addr, nr << SIM_PAGE_SHIFT, prot, MAP_SHARED | MAP_FIXED,
                ram_fd, (off_t)page << SIM_PAGE_SHIFT) == addr;
}

void *sim_page_host(uint32_t page, unsigned nr)
{
    void *p = mmap(NULL, nr << SIM_PAGE_SHIFT, PROT_READ | PROT_WRITE,
                   MAP_SHARED, ram_fd, (off_t)page << SIM_PAGE_SHIFT);

    g_assert(p != MAP_FAILED);
    return p;
}

void sim_page_map(void *addr, uint32_t page, int prot)
{
    g_assert(map_page(addr, page, 1, prot));
}

/* --- what the process has mapped ------------------------------------------ */

typedef struct Mapping {
    uint64_t start, end;        /* addresses */
    uint64_t offset;            /* in its file */
    bool ram;                   /* of the guest; else a hole */
} Mapping;

/* Returns: an array of Mapping, of our files only. */
static GArray *own_mappings(void)
{
    GArray *found = g_array_new(false, false, sizeof(Mapping));
    FILE *maps = fopen("/proc/self/maps", "r");
    char *line = NULL;
    size_t size = 0;

    g_assert(maps);
    while (getline(&line, &size, maps) > 0) {
        Mapping m = { .ram = strstr(line, "/memfd:" RAM_NAME) };

        if (!m.ram && !strstr(line, "/memfd:" HOLE_NAME)) {
            continue;
        }
        g_assert(sscanf(line, "%" SCNx64 "-%" SCNx64 " %*s %" SCNx64,
                        &m.start, &m.end, &m.offset) == 3);
        g_array_append_val(found, m);
    }
    free(line);
    fclose(maps);
    return found;
}

/* Each mapping of a page counts. */
static uint64_t pages_mapped(uint32_t page, uint64_t nr)
{
    g_autoptr(GArray) all = own_mappings();
    uint64_t start = page, end = page + nr, count = 0;

    for (guint i = 0; i < all->len; i++) {
        const Mapping *m = &g_array_index(all, Mapping, i);
        uint64_t first = m->offset >> SIM_PAGE_SHIFT;
        uint64_t last = first + ((m->end - m->start) >> SIM_PAGE_SHIFT);

        if (m->ram && first < end && last > start) {
            count += MIN(last, end) - MAX(first, start);
        }
    }
    return count;
}

/* All of [@addr, @addr + @len) is a mapping of ours. */
static bool is_mapped(void *addr, size_t len)
{
    g_autoptr(GArray) all = own_mappings();
    uint64_t pos = (uintptr_t)addr, end = pos + len;

    for (guint i = 0; i < all->len && pos < end; i++) {
        const Mapping *m = &g_array_index(all, Mapping, i);

        if (m->start <= pos && m->end > pos) {
            pos = m->end;
        }
    }
    return pos >= end;
}

/* --- libxenforeignmemory -------------------------------------------------- */

typedef struct xenforeignmemory_handle {
    SimHandle handle;
} ForeignMemory;

struct xenforeignmemory_resource_handle {
    SimHandle handle;
    void *addr;
    size_t nr;
};

xenforeignmemory_handle *xenforeignmemory_open(struct xentoollog_logger *logger,
                                               unsigned flags)
{
    if (!sim_call(__func__, "flags 0x%x", flags)) {
        return NULL;
    }
    return sim_handle_new(SIM_FOREIGNMEMORY, sizeof(ForeignMemory));
}

int xenforeignmemory_close(xenforeignmemory_handle *fmem)
{
    if (!sim_call(__func__, "-")) {
        return -1;
    }
    return sim_handle_free(__func__, fmem, SIM_FOREIGNMEMORY) ? 0 : -1;
}

/* Linux: MAP_FIXED replaces what was mapped there, also if it then fails. */
static void *map_pages(void *addr, int prot, int flags, size_t nr,
                       const xen_pfn_t *gfns, int *err)
{
    SimLocker *locker;
    uint8_t *base = mmap(addr, nr << SIM_PAGE_SHIFT, prot, flags | MAP_SHARED,
                         hole_fd, 0);

    if (base == MAP_FAILED) {
        return NULL;
    }
    locker = sim_locker_new(&sim_lock);
    for (size_t i = 0, n; i < nr; i += n) {
        uint32_t page = sim_page_at(gfns[i]);

        n = 1;
        if (page == SIM_NO_PAGE) {
            err[i] = -EINVAL;
            continue;
        }
        while (i + n < nr && sim_page_at(gfns[i + n]) == page + n) {
            n++;
        }
        memset(err + i, 0, n * sizeof(*err));
        if (!map_page(base + (i << SIM_PAGE_SHIFT), page, n, prot)) {
            perror("xensim: mmap");
            abort();
        }
    }
    sim_locker_free(locker);
    sim_mmap_whole(base, nr << SIM_PAGE_SHIFT);
    return base;
}

static void *map2(const char *fn, xenforeignmemory_handle *fmem, uint32_t dom,
                  void *addr, int prot, int flags, size_t nr,
                  const xen_pfn_t *gfns, int *err)
{
    g_autofree int *own_err = NULL;
    uint8_t *base;

    if (!sim_call(fn, "%zu pages at %p, GFN 0x%lx prot %d flags 0x%x", nr, addr,
                  nr ? gfns[0] : 0, prot, flags) ||
        !sim_handle(fn, fmem, SIM_FOREIGNMEMORY) || !sim_domid(fn, dom)) {
        return NULL;
    }
    if (!nr || (uintptr_t)addr & (SIM_PAGE_SIZE - 1) ||
        (flags & ~MAP_FIXED) || (prot & ~(PROT_READ | PROT_WRITE)) ||
        (addr && !(flags & MAP_FIXED))) {
        sim_refuse(EINVAL, "%s: %zu pages at %p, prot %d, flags 0x%x", fn, nr,
                   addr, prot, flags);
        return NULL;
    }
    if (!err) {
        err = own_err = g_new0(int, nr);
    }
    base = map_pages(addr, prot, flags, nr, gfns, err);
    for (size_t i = 0; base && own_err && i < nr; i++) {
        if (err[i]) {
            munmap(base, nr << SIM_PAGE_SHIFT);
            errno = -err[i];
            return NULL;
        }
    }
    return base;
}

void *xenforeignmemory_map2(xenforeignmemory_handle *fmem, uint32_t dom,
                            void *addr, int prot, int flags, size_t nr,
                            const xen_pfn_t *gfns, int *err)
{
    return map2(__func__, fmem, dom, addr, prot, flags, nr, gfns, err);
}

void *xenforeignmemory_map(xenforeignmemory_handle *fmem, uint32_t dom,
                           int prot, size_t nr, const xen_pfn_t *gfns, int *err)
{
    return map2(__func__, fmem, dom, NULL, prot, 0, nr, gfns, err);
}

static int unmap(const char *fn, void *addr, size_t nr)
{
    size_t len = nr << SIM_PAGE_SHIFT;

    if (!nr || (!trusting && !is_mapped(addr, len))) {
        return sim_refuse(EINVAL, "%s: %zu pages at %p are not mapped", fn, nr,
                          addr);
    }
    return munmap(addr, len);
}

int xenforeignmemory_unmap(xenforeignmemory_handle *fmem, void *addr, size_t nr)
{
    if (!sim_call(__func__, "%zu pages at %p", nr, addr) ||
        !sim_handle(__func__, fmem, SIM_FOREIGNMEMORY)) {
        return -1;
    }
    return unmap(__func__, addr, nr);
}

xenforeignmemory_resource_handle *xenforeignmemory_map_resource(
    xenforeignmemory_handle *fmem, domid_t dom, unsigned int type,
    unsigned int id, unsigned long frame, unsigned long nr, void **addr,
    int prot, int flags)
{
    xenforeignmemory_resource_handle *res;
    uint32_t page;

    if (!sim_call(__func__, "type %u id %u frame %lu nr %lu", type, id, frame,
                  nr) ||
        !sim_handle(__func__, fmem, SIM_FOREIGNMEMORY) ||
        !sim_domid(__func__, dom)) {
        return NULL;
    }
    page = sim_ioreq_frames(id, frame, nr);
    if (type != XENMEM_resource_ioreq_server || page == SIM_NO_PAGE ||
        *addr || flags || prot != (PROT_READ | PROT_WRITE)) {
        sim_refuse(EINVAL, "%s: type %u id %u frame %lu nr %lu prot %d "
                   "flags 0x%x", __func__, type, id, frame, nr, prot, flags);
        return NULL;
    }
    res = sim_handle_new(SIM_RESOURCE, sizeof(*res));
    res->addr = *addr = sim_page_host(page, nr);
    res->nr = nr;
    return res;
}

int xenforeignmemory_unmap_resource(xenforeignmemory_handle *fmem,
                                    xenforeignmemory_resource_handle *res)
{
    int rc;

    if (!sim_call(__func__, "-") ||
        !sim_handle(__func__, fmem, SIM_FOREIGNMEMORY) ||
        !sim_handle(__func__, res, SIM_RESOURCE)) {
        return -1;
    }
    rc = unmap(__func__, res->addr, res->nr);
    sim_handle_free(__func__, res, SIM_RESOURCE);
    return rc;
}

/* --- what else changes the p2m -------------------------------------------- */

int xc_domain_populate_physmap_exact(xc_interface *xch, uint32_t dom,
                                     unsigned long nr, unsigned order,
                                     unsigned flags, xen_pfn_t *gfns)
{
    g_autoptr(SimLocker) locker = NULL;

    if (!sim_call(__func__, "%lu from GFN 0x%lx", nr, nr ? gfns[0] : 0) ||
        !sim_handle(__func__, xch, SIM_XENCTRL) || !sim_domid(__func__, dom)) {
        return -1;
    }
    locker = sim_locker_new(&sim_lock);
    for (unsigned long i = 0; i < nr; i++) {
        if (order || flags || gfns[i] >= MAX_GFNS || p2m[gfns[i]]) {
            return sim_refuse(EINVAL, "%s: GFN 0x%lx order %u flags 0x%x",
                              __func__, gfns[i], order, flags);
        }
        sim_page_set(gfns[i], sim_page_new());
    }
    return 0;
}

/* --- commands ------------------------------------------------------------- */

static bool known_page(uint64_t page, uint64_t nr, GString *reply)
{
    if (page < nr_pages && nr <= nr_pages - page) {
        return true;
    }
    g_string_append(reply, "no such page");
    return false;
}

static bool gfn_has_page(uint64_t gfn, GString *reply)
{
    uint32_t page = sim_page_at(gfn);

    if (page == SIM_NO_PAGE) {
        g_string_append(reply, "no page there");
        return false;
    }
    g_string_append_printf(reply, "%u", page);
    return true;
}

static bool cmd_page(char **words, const uint64_t *args, GString *reply)
{
    g_autoptr(SimLocker) locker = sim_locker_new(&sim_lock);

    return gfn_has_page(args[0], reply);
}

static bool cmd_remove(char **words, const uint64_t *args, GString *reply)
{
    g_autoptr(SimLocker) locker = sim_locker_new(&sim_lock);

    for (uint64_t i = 0; i < args[1]; i++) {
        if (sim_page_at(args[0] + i) == SIM_NO_PAGE) {
            g_string_append_printf(reply, "no page at 0x%" PRIx64, args[0] + i);
            return false;
        }
        sim_page_set(args[0] + i, SIM_NO_PAGE);
    }
    return true;
}

static bool cmd_add(char **words, const uint64_t *args, GString *reply)
{
    g_autoptr(SimLocker) locker = sim_locker_new(&sim_lock);

    for (uint64_t i = 0; i < args[1]; i++) {
        if (args[0] + i >= MAX_GFNS ||
            sim_page_at(args[0] + i) != SIM_NO_PAGE) {
            g_string_append_printf(reply, "no room at 0x%" PRIx64, args[0] + i);
            return false;
        }
        sim_page_set(args[0] + i, sim_page_new());
    }
    return gfn_has_page(args[0], reply);
}

static bool cmd_mapped(char **words, const uint64_t *args, GString *reply)
{
    if (!known_page(args[0], args[1], reply)) {
        return false;
    }
    g_string_append_printf(reply, "%" PRIu64,
                           pages_mapped(args[0], args[1]));
    return true;
}

static bool part_of_page(const uint64_t *args, uint64_t len, GString *reply)
{
    if (!known_page(args[0], 1, reply)) {
        return false;
    }
    if (args[1] > SIM_PAGE_SIZE || len > SIM_PAGE_SIZE - args[1]) {
        g_string_append(reply, "beyond the page");
        return false;
    }
    return true;
}

static off_t page_pos(const uint64_t *args)
{
    return (args[0] << SIM_PAGE_SHIFT) + args[1];
}

static bool cmd_peek(char **words, const uint64_t *args, GString *reply)
{
    uint8_t data[SIM_PAGE_SIZE];

    if (!part_of_page(args, args[2], reply)) {
        return false;
    }
    g_assert(pread(ram_fd, data, args[2], page_pos(args)) == args[2]);
    for (uint64_t i = 0; i < args[2]; i++) {
        g_string_append_printf(reply, "%02x", data[i]);
    }
    return true;
}

static bool cmd_poke(char **words, const uint64_t *args, GString *reply)
{
    uint8_t data[SIM_PAGE_SIZE];
    size_t len = strlen(words[2]) / 2;

    if (!part_of_page(args, len, reply)) {
        return false;
    }
    for (size_t i = 0; i < len; i++) {
        data[i] = g_ascii_xdigit_value(words[2][2 * i]) << 4 |
                  g_ascii_xdigit_value(words[2][2 * i + 1]);
    }
    g_assert(pwrite(ram_fd, data, len, page_pos(args)) == len);
    return true;
}

const SimCommand sim_memory_commands[] = {
    { "page", 1, cmd_page },
    { "remove", 2, cmd_remove },
    { "add", 2, cmd_add },
    { "mapped", 2, cmd_mapped },
    { "peek", 3, cmd_peek },
    { "poke", 3, cmd_poke },
    { }
};
