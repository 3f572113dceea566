/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * xensim is as strict as it says: each thing it complains of is done here
 *
 * Each case loads the simulator in a process of its own, as QEMU would, does
 * one thing wrong, and exits. Its status and its last words are what counts.
 */

#include <dlfcn.h>
#include <errno.h>
#include <glib.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>
#include <xencall.h>
#include <xenctrl.h>
#include <xendevicemodel.h>
#include <xenevtchn.h>
#include <xenforeignmemory.h>
#include <xengnttab.h>
#include <xenstore.h>
#include <xentoolcore.h>
#include <xen/hvm/params.h>
#include "hw/xen/interface/iommu_op.h"

#define EXIT_COMPLAINTS 70
#define PAGE            4096ul
#define GFN             0x2000ul
#define DOMID           1
#define BFN             0x400000000ull
#define ATOMIC          2

/* As QEMU gets it: by the loader, from the library that has it all. */
#define FN(name)        ((typeof(&name))function(#name))

static void *lib;
static FILE *control;

static void *function(const char *name)
{
    void *p = dlsym(lib, name);

    if (!p) {
        fprintf(stderr, "%s\n", dlerror());
        _exit(EXIT_FAILURE);
    }
    return p;
}

/* Something that this test relies on; it says more than g_assert here. */
static void must(bool good, const char *what)
{
    if (!good) {
        fprintf(stderr, "does not work: %s\n", what);
        _exit(EXIT_FAILURE);
    }
}

/* --- the protocol --------------------------------------------------------- */

static int listen_for_it(void)
{
    struct sockaddr_un addr = { .sun_family = AF_UNIX };
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);

    snprintf(addr.sun_path, sizeof(addr.sun_path), "%s/xensim-self-%d.sock",
             g_get_tmp_dir(), getpid());
    unlink(addr.sun_path);
    must(!bind(fd, (struct sockaddr *)&addr, sizeof(addr)) && !listen(fd, 1),
         "a socket");
    g_setenv("XENSIM_SOCKET", addr.sun_path, true);
    return fd;
}

/* Returns: what follows "OK", until the next one; NULL if it was "NO". */
static char *ask(const char *line)
{
    static char *answer;
    static size_t size;

    must(dprintf(fileno(control), "%s\n", line) > 0 &&
         getline(&answer, &size, control) > 3, line);
    g_strchomp(answer);
    return g_str_has_prefix(answer, "OK") ? answer + 2 : NULL;
}

static unsigned long number(const char *line)
{
    char *answer = ask(line);

    must(answer, line);
    return g_ascii_strtoull(answer, NULL, 0);
}

static unsigned long mapped(unsigned long page)
{
    g_autofree char *line = g_strdup_printf("mapped %lu 1", page);

    return number(line);
}

/* --- what a good one does ------------------------------------------------- */

static xenforeignmemory_handle *fmem;
static xendevicemodel_handle *dmod;
static xc_interface *xch;
static xenevtchn_handle *xce;
static xencall_handle *call;
static struct xs_handle *xs;
static ioservid_t id;
static struct xen_iommu_op *ops;

static void *map(unsigned long gfn)
{
    xen_pfn_t pfn = gfn;
    int err;
    void *p = FN(xenforeignmemory_map2)(fmem, DOMID, NULL,
                                        PROT_READ | PROT_WRITE, 0, 1, &pfn,
                                        &err);

    must(p, "xenforeignmemory_map2");
    return p;
}

static void create_server(void)
{
    must(!FN(xendevicemodel_create_ioreq_server)(dmod, DOMID, ATOMIC, &id),
         "xendevicemodel_create_ioreq_server");
}

static void destroy_server(void)
{
    must(!FN(xendevicemodel_destroy_ioreq_server)(dmod, DOMID, id),
         "xendevicemodel_destroy_ioreq_server");
}

static int bind_port(unsigned remote)
{
    return FN(xenevtchn_bind_interdomain)(xce, DOMID, remote);
}

/* The first vCPU's: what the server's page says. */
#define VCPU_PORT 16

static int iommu_op(uint16_t op, uint64_t bfn, uint64_t gfn, uint16_t domid)
{
    *ops = (struct xen_iommu_op) { .op = op };
    ops->u.map.bfn = bfn;
    if (op == XEN_IOMMUOP_map) {
        ops->u.map.gfn = gfn;
        ops->u.map.domid = domid;
    }
    must(!FN(xencall2)(call, 43, (uintptr_t)ops, 1), "xencall2");
    return ops->status;
}

/* All of it; a process that does no more than this has no complaints. */
static void open_all(void)
{
    fmem = FN(xenforeignmemory_open)(NULL, 0);
    dmod = FN(xendevicemodel_open)(NULL, 0);
    xch = FN(xc_interface_open)(NULL, NULL, 0);
    xce = FN(xenevtchn_open)(NULL, 0);
    call = FN(xencall_open)(NULL, 0);
    xs = FN(xs_open)(0);
    must(fmem && dmod && xch && xce && call && xs, "to open all");
    ops = FN(xencall_alloc_buffer)(call, sizeof(*ops));
}

static void close_all(void)
{
    FN(xencall_free_buffer)(call, ops);
    must(!FN(xenforeignmemory_close)(fmem) && !FN(xc_interface_close)(xch) &&
         !FN(xenevtchn_close)(xce) && !FN(xencall_close)(call),
         "to close all");
    FN(xs_close)(xs);
}

static void good(void)
{
    unsigned long page = number("page 0x2000");
    void *a, *b;

    create_server();
    must(bind_port(VCPU_PORT) > 0, "xenevtchn_bind_interdomain");
    must(!FN(xendevicemodel_map_pcidev_to_ioreq_server)(dmod, DOMID, id, 0, 0,
                                                        3, 0) &&
         !FN(xendevicemodel_unmap_pcidev_from_ioreq_server)(dmod, DOMID, id, 0,
                                                            0, 3, 0),
         "a device");
    destroy_server();
    must(iommu_op(XEN_IOMMUOP_map, BFN, GFN, DOMID) == 0 &&
         number("references 8160") == 1 &&
         iommu_op(XEN_IOMMUOP_unmap, BFN, 0, 0) == 0 &&
         iommu_op(XEN_IOMMUOP_flush, BFN, 0, 0) == 0, "iommu_op");
    must(page == 8160 && number("references 8160") == 0, "references");

    /* Its own eyes: each mapping counts, whatever unmaps it. */
    must(mapped(page) == 0, "nothing is mapped at first");
    a = map(GFN);
    b = map(GFN);
    must(mapped(page) == 2, "two mappings");
    must(!FN(xenforeignmemory_unmap)(fmem, a, 1) && mapped(page) == 1,
         "xenforeignmemory_unmap");
    /* A page that left is the same page: still mapped, and by its number. */
    must(ask("remove 0x2000 1") && mapped(page) == 1, "a freed page is mapped");
    must(ask("add 0x2000 1") && number("page 0x2000") != page &&
         mapped(page) == 1 && mapped(number("page 0x2000")) == 0,
         "the new page is another");
    must(mmap(b, PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1,
              0) == b && mapped(page) == 0, "mmap over it");
    must(ask("check"), "no complaints so far");
    must(!ask("page 0xa0") && !ask("remove 0xa0 1") && !ask("add 0x2000 1") &&
         !ask("mapped 99999999 1") && !ask("nonsense") && !ask("page") &&
         !ask("fail xencall2 0 5"), "commands that make no sense");
}

/* --- what a bad one does -------------------------------------------------- */

static void nothing(void)
{
}

static void wrong_domain(void)
{
    xen_pfn_t pfn = GFN;
    int err;

    must(!FN(xenforeignmemory_map2)(fmem, 2, NULL, PROT_READ, 0, 1, &pfn,
                                    &err) && errno == ESRCH, "refused");
}

static void wrong_handle(void)
{
    must(FN(xc_interface_close)((xc_interface *)fmem) && errno == EBADF,
         "refused");
}

static void closed_twice(void)
{
    xenevtchn_handle *h = FN(xenevtchn_open)(NULL, 0);

    must(!FN(xenevtchn_close)(h) && FN(xenevtchn_close)(h), "refused");
}

static void left_open(void)
{
    FN(xenevtchn_open)(NULL, 0);
}

static void unmap_twice(void)
{
    void *p = map(GFN);

    must(!FN(xenforeignmemory_unmap)(fmem, p, 1) &&
         FN(xenforeignmemory_unmap)(fmem, p, 1), "refused");
}

static void unmap_too_much(void)
{
    must(FN(xenforeignmemory_unmap)(fmem, map(GFN), 100), "refused");
}

static void map_nothing(void)
{
    xen_pfn_t pfn = GFN;
    int err;

    must(!FN(xenforeignmemory_map2)(fmem, DOMID, NULL, PROT_READ, 0, 0, &pfn,
                                    &err), "refused");
}

static void map_not_fixed(void)
{
    xen_pfn_t pfn = GFN;
    int err;

    must(!FN(xenforeignmemory_map2)(fmem, DOMID, map(GFN), PROT_READ, 0, 1,
                                    &pfn, &err), "refused");
}

static void resource_without_server(void)
{
    void *addr = NULL;

    must(!FN(xenforeignmemory_map_resource)(fmem, DOMID,
                                            XENMEM_resource_ioreq_server, 1, 0,
                                            2, &addr, PROT_READ | PROT_WRITE,
                                            0), "refused");
}

static void populate_twice(void)
{
    xen_pfn_t pfn = GFN;

    must(FN(xc_domain_populate_physmap_exact)(xch, DOMID, 1, 0, 0, &pfn),
         "refused");
}

static void no_such_param(void)
{
    must(FN(xc_set_hvm_param)(xch, DOMID, HVM_PARAM_IDENT_PT, 1), "refused");
}

static void get_param(void)
{
    unsigned long value;

    must(FN(xc_get_hvm_param)(xch, DOMID, HVM_PARAM_IOREQ_PFN, &value),
         "refused");
}

static void no_function(void)
{
    int pirq;

    must(FN(xc_physdev_map_pirq)(xch, DOMID, 1, &pirq), "refused");
}

static void two_servers(void)
{
    ioservid_t other;

    create_server();
    must(FN(xendevicemodel_create_ioreq_server)(dmod, DOMID, ATOMIC, &other),
         "refused");
    destroy_server();
}

static void server_left(void)
{
    create_server();
}

static void no_server(void)
{
    must(FN(xendevicemodel_set_ioreq_server_state)(dmod, DOMID, 1, 1),
         "refused");
}

static int io_range(bool map, int mmio, uint64_t start, uint64_t end)
{
    return map ? FN(xendevicemodel_map_io_range_to_ioreq_server)(
                     dmod, DOMID, id, mmio, start, end)
               : FN(xendevicemodel_unmap_io_range_from_ioreq_server)(
                     dmod, DOMID, id, mmio, start, end);
}

static void range_twice(void)
{
    create_server();
    must(!io_range(true, 1, 0xf0000000, 0xf0000fff) &&
         io_range(true, 1, 0xf0000800, 0xf0001fff), "refused");
    destroy_server();
}

static void range_not_mapped(void)
{
    create_server();
    must(!io_range(true, 1, 0xf0000000, 0xf0000fff) &&
         io_range(false, 0, 0xf0000000, 0xf0000fff), "refused");
    destroy_server();
}

static void range_of_ports(void)
{
    create_server();
    must(io_range(true, 0, 0xffff, 0x10000), "refused");
    destroy_server();
}

static void device_twice(void)
{
    create_server();
    must(!FN(xendevicemodel_map_pcidev_to_ioreq_server)(dmod, DOMID, id, 0, 0,
                                                        3, 0) &&
         FN(xendevicemodel_map_pcidev_to_ioreq_server)(dmod, DOMID, id, 0, 0, 3,
                                                       0), "refused");
    destroy_server();
}

static void device_not_mapped(void)
{
    create_server();
    must(FN(xendevicemodel_unmap_pcidev_from_ioreq_server)(dmod, DOMID, id, 0,
                                                           0, 3, 0), "refused");
    destroy_server();
}

static void bad_intx(void)
{
    must(FN(xendevicemodel_set_pci_intx_level)(dmod, DOMID, 0, 0, 32, 0, 1),
         "refused");
}

static void bad_irq(void)
{
    must(FN(xendevicemodel_set_isa_irq_level)(dmod, DOMID, 16, 1), "refused");
}

static void arm_irq(void)
{
    must(FN(xendevicemodel_set_irq_level)(dmod, DOMID, 40, 1), "refused");
}

static void bad_link(void)
{
    must(FN(xendevicemodel_set_pci_link_route)(dmod, DOMID, 4, 5), "refused");
}

static void relocate_nothing(void)
{
    must(FN(xendevicemodel_relocate_memory)(dmod, DOMID, 1, 0xa0, 0xf1000),
         "refused");
}

static void bind_nothing(void)
{
    must(bind_port(VCPU_PORT) < 0, "refused");
}

static void bind_twice(void)
{
    create_server();
    must(bind_port(VCPU_PORT) > 0 && bind_port(VCPU_PORT) < 0, "refused");
    destroy_server();
}

static void port_not_bound(void)
{
    must(FN(xenevtchn_unmask)(xce, 1024), "refused");
}

static void nothing_pending(void)
{
    must(FN(xenevtchn_pending)(xce) < 0, "refused");
}

static void answer_nobody_waits_for(void)
{
    create_server();
    must(FN(xenevtchn_notify)(xce, bind_port(VCPU_PORT)), "refused");
    destroy_server();
}

static void no_watch(void)
{
    must(!FN(xs_unwatch)(xs, "/nowhere", "token"), "refused");
}

static void not_granted(void)
{
    xengnttab_handle *xgt = FN(xengnttab_open)(NULL, 0);
    uint32_t ref = 8;

    must(!FN(xengnttab_map_domain_grant_refs)(xgt, 1, DOMID, &ref, PROT_READ),
         "refused");
    FN(xengnttab_close)(xgt);
}

static void unmap_grants(void)
{
    xengnttab_handle *xgt = FN(xengnttab_open)(NULL, 0);
    uint32_t refs[] = { 8, 9 };
    void *p;

    must(ask("grant 8 0x2000") && ask("grant 9 0x2100"), "grant");
    p = FN(xengnttab_map_domain_grant_refs)(xgt, 2, DOMID, refs, PROT_READ);
    must(p && mapped(number("page 0x2100")) == 1, "a grant is mapped");
    must(FN(xengnttab_unmap)(xgt, p, 1), "refused");
    must(!FN(xengnttab_unmap)(xgt, p, 2) &&
         mapped(number("page 0x2100")) == 0, "and then not");
    FN(xengnttab_close)(xgt);
}

static void buffer_twice(void)
{
    void *p = FN(xencall_alloc_buffer)(call, 64);

    FN(xencall_free_buffer)(call, p);
    FN(xencall_free_buffer)(call, p);
}

static void not_in_a_buffer(void)
{
    struct xen_iommu_op op = { .op = XEN_IOMMUOP_query_caps };

    must(FN(xencall2)(call, 43, (uintptr_t)&op, 1), "refused");
}

/* What asked for xen-pviommu's operations is a call of the other interface. */
static void other_op(void)
{
    must(!FN(xencall2)(call, 43, 0, 0), "the no-op");
    must(!FN(xencall2)(call, 43, 1, (uintptr_t)ops), "its capabilities");
    must(number("count other_iommu_op") == 1, "one call");
    must(FN(xencall2)(call, 43, (uintptr_t)ops | 2, 1), "refused");
}

static void more_than_the_buffer(void)
{
    must(FN(xencall2)(call, 43, (uintptr_t)ops, 2), "refused");
}

static void unmap_bfn(void)
{
    must(iommu_op(XEN_IOMMUOP_unmap, BFN, 0, 0) == -XEN_IOMMU_ENOENT,
         "refused");
}

static void unmap_others(void)
{
    must(ask("occupy 0x400000000 1") &&
         iommu_op(XEN_IOMMUOP_unmap, BFN, 0, 0) == 0 &&
         iommu_op(XEN_IOMMUOP_flush, BFN, 0, 0) == 0, "unmap");
}

static void map_of_others(void)
{
    must(iommu_op(XEN_IOMMUOP_map, BFN, GFN, 2) == -XEN_IOMMU_ESRCH, "refused");
}

static void left_mapped(void)
{
    must(iommu_op(XEN_IOMMUOP_map, BFN, GFN, DOMID) == 0, "map");
}

static void denied_op(void)
{
    must(iommu_op(XEN_IOMMUOP_map, BFN, GFN, DOMID) == -XEN_IOMMU_EACCES,
         "refused");
}

static void left_unflushed(void)
{
    must(iommu_op(XEN_IOMMUOP_map, BFN, GFN, DOMID) == 0 &&
         iommu_op(XEN_IOMMUOP_unmap, BFN, 0, 0) == 0, "map, unmap");
}

static void unknown_op(void)
{
    must(iommu_op(XEN_IOMMUOP_enable, 0, 0, 0) == -XEN_IOMMU_EOPNOTSUPP,
         "refused");
}

static void ranges_nowhere(void)
{
    uint32_t room[64];

    *ops = (struct xen_iommu_op) { .op = XEN_IOMMUOP_query_reserved };
    ops->u.query_reserved.nr_entries = 16;
    ops->u.query_reserved.ranges = (uintptr_t)room;
    must(!FN(xencall2)(call, 43, (uintptr_t)ops, 1) &&
         ops->status == -XEN_IOMMU_EFAULT, "refused");
}

/* --- contexts of the guest's functions ------------------------------------ */

#define TARGET { "XENSIM_FEATURES", "iommu-op,iommu-target" }
#define FUNCTION 0x300

static int target_op(uint16_t op, uint16_t domid, uint16_t ctx, uint32_t sbdf)
{
    *ops = (struct xen_iommu_op) { .op = op };
    ops->u.target.domid = domid;
    ops->u.target.ctx = ctx;
    ops->u.target.sbdf = sbdf;
    must(!FN(xencall2)(call, 43, (uintptr_t)ops, 1), "xencall2");
    return ops->status;
}

static int target_range(uint16_t op, uint16_t ctx, uint64_t bfn, uint32_t nr)
{
    *ops = (struct xen_iommu_op) { .op = op };
    ops->u.target_range.domid = DOMID;
    ops->u.target_range.ctx = ctx;
    ops->u.target_range.bfn = bfn;
    ops->u.target_range.gfn = op == XEN_IOMMUOP_target_map ? GFN : 0;
    ops->u.target_range.nr_frames = nr;
    must(!FN(xencall2)(call, 43, (uintptr_t)ops, 1), "xencall2");
    return ops->status;
}

static void target_alloc_only(void)
{
    target_op(XEN_IOMMUOP_target_alloc_context, DOMID, 0, 0);
}

static void target_alloc(void)
{
    must(target_op(XEN_IOMMUOP_target_alloc_context, DOMID, 0, 0) == 0 &&
         ops->u.target.ctx == 1, "target_alloc_context");
}

/* It reaches what is mapped, and what was unmapped and not flushed. */
static void target(void)
{
    target_alloc();
    must(target_op(XEN_IOMMUOP_target_attach, DOMID, 1, FUNCTION) ==
         -XEN_IOMMU_ENODEV && ask("assign 0x300"), "not assigned");
    must(ask("dma 0x300 0x2000000 1"), "by GFN at first");
    must(target_op(XEN_IOMMUOP_target_attach, DOMID, 1, FUNCTION) == 0,
         "target_attach");
    must(!ask("dma 0x300 0x2000000 1") && !ask("dma 0x300 0x5000 1"), "empty");
    must(target_range(XEN_IOMMUOP_target_map, 1, 5, 1) == 0 &&
         ops->u.target_range.nr_frames == 0 && ask("dma 0x300 0x5000 1"),
         "target_map");
    must(target_range(XEN_IOMMUOP_target_unmap, 1, 0, 100) == 0 &&
         ask("dma 0x300 0x5000 1"), "target_unmap");
    must(target_range(XEN_IOMMUOP_target_flush, 1, 5, 1) == 0 &&
         !ask("dma 0x300 0x5000 1"), "target_flush");
    must(target_op(XEN_IOMMUOP_target_attach, DOMID, 0, FUNCTION) == 0 &&
         target_op(XEN_IOMMUOP_target_free_context, DOMID, 1, 0) == 0,
         "target_free_context");
}

static void target_of_others(void)
{
    target_op(XEN_IOMMUOP_target_alloc_context, 2, 0, 0);
}

static void target_free_none(void)
{
    target_op(XEN_IOMMUOP_target_free_context, DOMID, 3, 0);
}

static void target_free_used(void)
{
    target_alloc();
    must(ask("assign 0x300") &&
         target_op(XEN_IOMMUOP_target_attach, DOMID, 1, FUNCTION) == 0 &&
         target_op(XEN_IOMMUOP_target_free_context, DOMID, 1, 0) ==
         -XEN_IOMMU_EBUSY, "refused");
}

static void target_attach_none(void)
{
    target_op(XEN_IOMMUOP_target_attach, DOMID, 3, FUNCTION);
}

static void target_map_none(void)
{
    target_range(XEN_IOMMUOP_target_map, 3, 5, 1);
}

static void target_map_twice(void)
{
    target_alloc();
    target_range(XEN_IOMMUOP_target_map, 1, 5, 1);
    must(target_range(XEN_IOMMUOP_target_map, 1, 5, 1) == -XEN_IOMMU_EEXIST,
         "refused");
}

static void target_map_empty(void)
{
    target_alloc();
    target_range(XEN_IOMMUOP_target_map, 1, 5, 0);
}

/* --- the cases ------------------------------------------------------------ */

typedef struct Case {
    const char *name;
    void (*run)(void);
    const char *says;           /* NULL: nothing */
    const char *env[2];
} Case;

static const Case cases[] = {
    { "good", good },
    { "wrong-domain", wrong_domain, "xenforeignmemory_map2: domain 2" },
    { "wrong-handle", wrong_handle, "no xc_interface is open" },
    { "closed-twice", closed_twice, "no xenevtchn is open" },
    { "left-open", left_open, "xenevtchn: 1 left open at exit" },
    { "unmap-twice", unmap_twice, "1 pages at" },
    { "unmap-too-much", unmap_too_much, "100 pages at" },
    { "map-nothing", map_nothing, "xenforeignmemory_map2: 0 pages" },
    { "map-not-fixed", map_not_fixed, "xenforeignmemory_map2: 1 pages" },
    { "resource", resource_without_server, "xenforeignmemory_map_resource" },
    { "populate-twice", populate_twice, "GFN 0x2000 order 0" },
    { "set-param", no_such_param, "xc_set_hvm_param: parameter" },
    { "get-param", get_param, "xc_get_hvm_param: parameter" },
    { "no-function", no_function, "there is no physical function" },
    { "two-servers", two_servers, "there is one" },
    { "server-left", server_left, "the ioreq server was not destroyed" },
    { "no-server", no_server, "no ioreq server 1" },
    { "range-twice", range_twice, "is mapped" },
    { "range-not-mapped", range_not_mapped, "is not mapped" },
    { "range-of-ports", range_of_ports, "0xffff-0x10000" },
    { "device-twice", device_twice, "18 is mapped" },
    { "device-not-mapped", device_not_mapped, "18 is not mapped" },
    { "bad-intx", bad_intx, "xendevicemodel_set_pci_intx_level" },
    { "bad-irq", bad_irq, "xendevicemodel_set_isa_irq_level" },
    { "arm-irq", arm_irq, "not on x86" },
    { "bad-link", bad_link, "xendevicemodel_set_pci_link_route" },
    { "relocate-nothing", relocate_nothing, "no page at 0xa0" },
    { "bind-nothing", bind_nothing, "no port 16" },
    { "bind-twice", bind_twice, "16 is bound" },
    { "port-not-bound", port_not_bound, "port 1024 is not bound" },
    { "nothing-pending", nothing_pending, "no port is" },
    { "answer", answer_nobody_waits_for, "waits for no answer" },
    { "no-watch", no_watch, "/nowhere is not watched" },
    { "not-granted", not_granted, "8 is not granted" },
    { "unmap-grants", unmap_grants, "no 1 grants are mapped" },
    { "buffer-twice", buffer_twice, "is none" },
    { "not-in-a-buffer", not_in_a_buffer, "are not in a buffer" },
    { "beyond-the-buffer", more_than_the_buffer, "are not in a buffer" },
    { "unmap-bfn", unmap_bfn, "not all of them mapped" },
    { "unmap-others", unmap_others, "another emulator mapped" },
    { "map-of-others", map_of_others, "iommu_op: domain 2" },
    { "left-mapped", left_mapped, "holds 1 pages at exit" },
    { "left-unflushed", left_unflushed, "holds 1 pages at exit" },
    { "unknown-op", unknown_op, "iommu_op: operation 11" },
    { "denied-op", denied_op, "operation 2 is not allowed",
      { "XENSIM_FEATURES", "iommu-op,iommu-denied" } },
    { "other-op", other_op, "the other iommu_op: subop",
      { "XENSIM_FEATURES", "other-iommu-op" } },
    { "ranges-nowhere", ranges_nowhere, "entries at" },
    { "target", target, NULL, TARGET },
    { "target-not-there", target_alloc_only, "iommu_op: operation 17" },
    { "target-of-others", target_of_others, "iommu_op: domain 2", TARGET },
    { "target-free-none", target_free_none, "3 is freed, and is none",
      TARGET },
    { "target-free-used", target_free_used, "1 is freed, and has functions",
      TARGET },
    { "target-attach-none", target_attach_none, "3, which is none", TARGET },
    { "target-map-none", target_map_none, "context 3 is none", TARGET },
    { "target-map-twice", target_map_twice, "BFN 0x5 is mapped", TARGET },
    { "target-map-empty", target_map_empty, "0 frames: not valid", TARGET },
    { "bad-fail", nothing, "XENSIM_FAIL", { "XENSIM_FAIL", "xs_read" } },
    { "bad-reserved", nothing, "XENSIM_RESERVED", { "XENSIM_RESERVED", "7" } },
};

static void G_GNUC_NORETURN child(const Case *c, int err)
{
    g_autofree char *path = g_build_filename(g_getenv("XENSIM_DIR"),
                                             "libxensim.so", NULL);
    int listener;

    dup2(err, STDERR_FILENO);
    g_setenv("XENSIM_FEATURES", "iommu-op", true);
    if (c->env[0]) {
        g_setenv(c->env[0], c->env[1], true);
    }
    listener = listen_for_it();
    lib = dlopen(path, RTLD_NOW);
    must(lib, "dlopen of libxensim.so");
    control = fdopen(accept(listener, NULL, NULL), "r");
    unlink(g_getenv("XENSIM_SOCKET"));
    open_all();
    c->run();
    close_all();
    exit(0);
}

static void test_case(gconstpointer data)
{
    const Case *c = data;
    char said[4096];
    size_t len = 0;
    int status, ends[2];
    ssize_t n;
    pid_t pid;

    g_assert_cmpint(pipe(ends), ==, 0);
    pid = fork();
    g_assert_cmpint(pid, >=, 0);
    if (!pid) {
        close(ends[0]);
        child(c, ends[1]);
    }
    close(ends[1]);
    while ((n = read(ends[0], said + len, sizeof(said) - 1 - len)) > 0) {
        len += n;
    }
    close(ends[0]);
    said[len] = 0;
    g_assert_cmpint(waitpid(pid, &status, 0), ==, pid);
    g_assert_true(WIFEXITED(status));
    if (c->says) {
        if (!g_str_has_prefix(said, "xensim: ") || !strstr(said, c->says)) {
            g_assert_cmpstr(said, ==, c->says);
        }
        g_assert_cmpint(WEXITSTATUS(status), ==, EXIT_COMPLAINTS);
    } else {
        g_assert_cmpstr(said, ==, "");
        g_assert_cmpint(WEXITSTATUS(status), ==, 0);
    }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autofree char *path = g_strconcat("/xensim/", cases[i].name, NULL);

        g_test_add_data_func(path, &cases[i], test_case);
    }
    return g_test_run();
}
