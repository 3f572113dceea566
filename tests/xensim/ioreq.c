/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * xensim: the ioreq server, and the rest of XEN_DMOP
 */

#include "sim.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <xenctrl.h>
#include <xendevicemodel.h>
#include <xen/hvm/dm_op.h>
#include <xen/hvm/ioreq.h>
#include "hw/xen/interface/invalidate_page.h"

#define MAX_VCPUS       SIM_MAX_VCPUS
#define SERVER_ID       1

/* Remote ports */
#define BUFFERED_PORT   7
#define VCPU_PORT(n)    (16 + (n))

/* Where the server's pages are if they are not mapped as a resource. */
#define IOREQ_GFN       0xfeffe
#define BUFIOREQ_GFN    0xfefff

/* A QEMU that does not answer in this time never will. */
#define ANSWER_S        60

typedef struct Range {
    int is_mmio;
    uint64_t start, end;
} Range;

static struct {
    bool exists;
    bool enabled;
    bool pages_in_p2m;          /* they can be mapped from there */
    int bufioreq;               /* HVM_IOREQSRV_* */
    uint32_t page;              /* buffered, then synchronous */
    buffered_iopage_t *ring;
    ioreq_t *slots;             /* one a vCPU */
    bool answered[MAX_VCPUS];
    int64_t sent[MAX_VCPUS];    /* when, and how long until the answer: ns */
    int64_t took[MAX_VCPUS];
    GArray *ranges;             /* of Range */
    GArray *devices;            /* of SBDFs */
} server;

static unsigned nr_vcpus;

void sim_ioreq_init(void)
{
    nr_vcpus = MIN(sim_env("XENSIM_VCPUS", 1), MAX_VCPUS);
}

static int64_t now_ns(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return ts.tv_sec * 1000000000ll + ts.tv_nsec;
}

/* --- what event channels ask --------------------------------------------- */

bool sim_ioreq_has_port(unsigned remote)
{
    return server.exists &&
           ((remote == BUFFERED_PORT && server.bufioreq) ||
            (remote >= VCPU_PORT(0) && remote < VCPU_PORT(nr_vcpus)));
}

bool sim_ioreq_answered(unsigned remote)
{
    unsigned vcpu = remote - VCPU_PORT(0);

    if (vcpu >= nr_vcpus || server.answered[vcpu] ||
        server.slots[vcpu].state != STATE_IORESP_READY) {
        return false;
    }
    server.answered[vcpu] = true;
    server.took[vcpu] = now_ns() - server.sent[vcpu];
    return true;
}

/* --- the ioreq server ----------------------------------------------------- */

static bool dm_call(const char *fn, xendevicemodel_handle *dmod, domid_t dom)
{
    return sim_handle(fn, dmod, SIM_DEVICEMODEL) && sim_domid(fn, dom);
}

static bool server_call(const char *fn, xendevicemodel_handle *dmod,
                        domid_t dom, ioservid_t id)
{
    if (!dm_call(fn, dmod, dom)) {
        return false;
    }
    if (!server.exists || id != SERVER_ID) {
        sim_refuse(ENOENT, "%s: no ioreq server %u", fn, id);
        return false;
    }
    return true;
}

xendevicemodel_handle *xendevicemodel_open(struct xentoollog_logger *logger,
                                           unsigned flags)
{
    if (!sim_call(__func__, "flags 0x%x", flags)) {
        return NULL;
    }
    return sim_handle_new(SIM_DEVICEMODEL, sizeof(SimHandle));
}

int xendevicemodel_create_ioreq_server(xendevicemodel_handle *dmod,
                                       domid_t dom, int bufioreq,
                                       ioservid_t *id)
{
    g_autoptr(SimLocker) locker = NULL;
    int known = HVM_IOREQSRV_BUFIOREQ_LEGACY | HVM_IOREQSRV_BUFIOREQ_ATOMIC;

    if (!sim_call(__func__, "bufioreq 0x%x", bufioreq) ||
        !dm_call(__func__, dmod, dom)) {
        return -1;
    }
    if (sim_feature("invalidate-page")) {
        known |= HVM_IOREQSRV_INVALIDATE_PAGE;
    }
    if (bufioreq & ~known) {
        errno = EINVAL;
        return -1;
    }
    if (server.exists || (bufioreq & 3) == 3) {
        return sim_refuse(EINVAL, "%s: bufioreq 0x%x%s", __func__, bufioreq,
                          server.exists ? ", there is one" : "");
    }
    locker = sim_locker_new(&sim_lock);
    server.page = sim_page_new();
    sim_page_new();
    server.ring = sim_page_host(server.page, 2);
    server.slots = (ioreq_t *)((uint8_t *)server.ring + SIM_PAGE_SIZE);
    for (unsigned i = 0; i < nr_vcpus; i++) {
        server.slots[i].vp_eport = VCPU_PORT(i);
    }
    server.ranges = g_array_new(false, false, sizeof(Range));
    server.devices = g_array_new(false, false, sizeof(uint32_t));
    server.bufioreq = bufioreq;
    server.exists = true;
    *id = SERVER_ID;
    return 0;
}

uint32_t sim_ioreq_frames(unsigned id, unsigned long frame, unsigned long nr)
{
    g_autoptr(SimLocker) locker = sim_locker_new(&sim_lock);

    if (!server.exists || id != SERVER_ID || frame > 1 || !nr ||
        nr > 2 - frame || (!frame && !(server.bufioreq & 3))) {
        return SIM_NO_PAGE;
    }
    return server.page + frame;
}

int xendevicemodel_get_ioreq_server_info(xendevicemodel_handle *dmod,
                                         domid_t dom, ioservid_t id,
                                         xen_pfn_t *ioreq_gfn,
                                         xen_pfn_t *bufioreq_gfn,
                                         evtchn_port_t *port)
{
    g_autoptr(SimLocker) locker = NULL;

    if (!sim_call(__func__, "id %u%s%s", id, ioreq_gfn ? " ioreq" : "",
                  bufioreq_gfn ? " bufioreq" : "") ||
        !server_call(__func__, dmod, dom, id)) {
        return -1;
    }
    locker = sim_locker_new(&sim_lock);
    if (ioreq_gfn || bufioreq_gfn) {
        sim_page_set(BUFIOREQ_GFN, server.page);
        sim_page_set(IOREQ_GFN, server.page + 1);
    }
    if (ioreq_gfn) {
        *ioreq_gfn = IOREQ_GFN;
    }
    if (bufioreq_gfn) {
        *bufioreq_gfn = BUFIOREQ_GFN;
    }
    if (port) {
        *port = BUFFERED_PORT;
    }
    return 0;
}

int xendevicemodel_set_ioreq_server_state(xendevicemodel_handle *dmod,
                                          domid_t dom, ioservid_t id,
                                          int enabled)
{
    g_autoptr(SimLocker) locker = NULL;

    if (!sim_call(__func__, "id %u enabled %d", id, enabled) ||
        !server_call(__func__, dmod, dom, id)) {
        return -1;
    }
    locker = sim_locker_new(&sim_lock);
    server.enabled = enabled;
    return 0;
}

int xendevicemodel_destroy_ioreq_server(xendevicemodel_handle *dmod,
                                        domid_t dom, ioservid_t id)
{
    g_autoptr(SimLocker) locker = NULL;

    if (!sim_call(__func__, "id %u", id) ||
        !server_call(__func__, dmod, dom, id)) {
        return -1;
    }
    locker = sim_locker_new(&sim_lock);
    server.exists = server.enabled = false;
    g_array_unref(server.ranges);
    g_array_unref(server.devices);
    return 0;
}

void sim_ioreq_at_exit(void)
{
    if (server.exists) {
        sim_complain("the ioreq server was not destroyed");
    }
}

int xendevicemodel_map_io_range_to_ioreq_server(xendevicemodel_handle *dmod,
                                                domid_t dom, ioservid_t id,
                                                int is_mmio, uint64_t start,
                                                uint64_t end)
{
    g_autoptr(SimLocker) locker = NULL;
    Range r = { is_mmio, start, end };

    if (!sim_call(__func__, "%s 0x%" PRIx64 "-0x%" PRIx64,
                  is_mmio ? "mmio" : "pio", start, end) ||
        !server_call(__func__, dmod, dom, id)) {
        return -1;
    }
    if (end < start || (!is_mmio && end > UINT16_MAX)) {
        return sim_refuse(EINVAL, "%s: 0x%" PRIx64 "-0x%" PRIx64, __func__,
                          start, end);
    }
    locker = sim_locker_new(&sim_lock);
    for (guint i = 0; i < server.ranges->len; i++) {
        const Range *o = &g_array_index(server.ranges, Range, i);

        if (o->is_mmio == is_mmio && o->start <= end && o->end >= start) {
            return sim_refuse(EEXIST, "%s: 0x%" PRIx64 "-0x%" PRIx64
                              " is mapped", __func__, start, end);
        }
    }
    g_array_append_val(server.ranges, r);
    return 0;
}

int xendevicemodel_unmap_io_range_from_ioreq_server(xendevicemodel_handle *dmod,
                                                    domid_t dom, ioservid_t id,
                                                    int is_mmio, uint64_t start,
                                                    uint64_t end)
{
    g_autoptr(SimLocker) locker = NULL;

    if (!sim_call(__func__, "%s 0x%" PRIx64 "-0x%" PRIx64,
                  is_mmio ? "mmio" : "pio", start, end) ||
        !server_call(__func__, dmod, dom, id)) {
        return -1;
    }
    locker = sim_locker_new(&sim_lock);
    for (guint i = 0; i < server.ranges->len; i++) {
        const Range *o = &g_array_index(server.ranges, Range, i);

        if (o->is_mmio == is_mmio && o->start == start && o->end == end) {
            g_array_remove_index_fast(server.ranges, i);
            return 0;
        }
    }
    return sim_refuse(ENOENT, "%s: 0x%" PRIx64 "-0x%" PRIx64 " is not mapped",
                      __func__, start, end);
}

static int map_device(const char *fn, uint32_t sbdf, bool map)
{
    g_autoptr(SimLocker) locker = sim_locker_new(&sim_lock);

    for (guint i = 0; i < server.devices->len; i++) {
        if (g_array_index(server.devices, uint32_t, i) != sbdf) {
            continue;
        }
        if (map) {
            return sim_refuse(EEXIST, "%s: %x is mapped", fn, sbdf);
        }
        g_array_remove_index_fast(server.devices, i);
        return 0;
    }
    if (!map) {
        return sim_refuse(ENOENT, "%s: %x is not mapped", fn, sbdf);
    }
    g_array_append_val(server.devices, sbdf);
    return 0;
}

int xendevicemodel_map_pcidev_to_ioreq_server(xendevicemodel_handle *dmod,
                                              domid_t dom, ioservid_t id,
                                              uint16_t segment, uint8_t bus,
                                              uint8_t device, uint8_t function)
{
    if (!sim_call(__func__, "%x:%x:%x.%x", segment, bus, device, function) ||
        !server_call(__func__, dmod, dom, id)) {
        return -1;
    }
    return map_device(__func__, XEN_DMOP_PCI_SBDF(segment, bus, device,
                                                  function), true);
}

int xendevicemodel_unmap_pcidev_from_ioreq_server(xendevicemodel_handle *dmod,
                                                  domid_t dom, ioservid_t id,
                                                  uint16_t segment, uint8_t bus,
                                                  uint8_t device,
                                                  uint8_t function)
{
    if (!sim_call(__func__, "%x:%x:%x.%x", segment, bus, device, function) ||
        !server_call(__func__, dmod, dom, id)) {
        return -1;
    }
    return map_device(__func__, XEN_DMOP_PCI_SBDF(segment, bus, device,
                                                  function), false);
}

/* --- interrupts, and what else a device model does ------------------------ */

int xendevicemodel_set_pci_intx_level(xendevicemodel_handle *dmod, domid_t dom,
                                      uint16_t segment, uint8_t bus,
                                      uint8_t device, uint8_t intx,
                                      unsigned int level)
{
    if (!sim_call(__func__, "%x:%x:%x INT%c %u", segment, bus, device,
                  'A' + intx, level) || !dm_call(__func__, dmod, dom)) {
        return -1;
    }
    if (device > 31 || intx > 3 || level > 1) {
        return sim_refuse(EINVAL, "%s: %x INT%u %u", __func__, device, intx,
                          level);
    }
    return 0;
}

int xendevicemodel_set_isa_irq_level(xendevicemodel_handle *dmod, domid_t dom,
                                     uint8_t irq, unsigned int level)
{
    if (!sim_call(__func__, "%u %u", irq, level) ||
        !dm_call(__func__, dmod, dom)) {
        return -1;
    }
    if (irq > 15 || level > 1) {
        return sim_refuse(EINVAL, "%s: %u %u", __func__, irq, level);
    }
    return 0;
}

int xendevicemodel_set_irq_level(xendevicemodel_handle *dmod, domid_t dom,
                                 unsigned int irq, unsigned int level)
{
    sim_call(__func__, "%u %u", irq, level);
    return sim_refuse(EOPNOTSUPP, "%s: not on x86", __func__);
}

int xendevicemodel_set_pci_link_route(xendevicemodel_handle *dmod, domid_t dom,
                                      uint8_t link, uint8_t irq)
{
    if (!sim_call(__func__, "%u %u", link, irq) ||
        !dm_call(__func__, dmod, dom)) {
        return -1;
    }
    if (link > 3 || irq > 15) {
        return sim_refuse(EINVAL, "%s: %u %u", __func__, link, irq);
    }
    return 0;
}

int xendevicemodel_inject_msi(xendevicemodel_handle *dmod, domid_t dom,
                              uint64_t addr, uint32_t data)
{
    if (!sim_call(__func__, "0x%" PRIx64 " 0x%x", addr, data) ||
        !dm_call(__func__, dmod, dom)) {
        return -1;
    }
    return 0;
}

int xendevicemodel_set_mem_type(xendevicemodel_handle *dmod, domid_t dom,
                                hvmmem_type_t type, uint64_t gfn, uint32_t nr)
{
    if (!sim_call(__func__, "type %d 0x%" PRIx64 " %u", type, gfn, nr) ||
        !dm_call(__func__, dmod, dom)) {
        return -1;
    }
    return 0;
}

int xendevicemodel_relocate_memory(xendevicemodel_handle *dmod, domid_t dom,
                                   uint32_t nr, uint64_t src, uint64_t dst)
{
    g_autoptr(SimLocker) locker = NULL;

    if (!sim_call(__func__, "%u from 0x%" PRIx64 " to 0x%" PRIx64, nr, src,
                  dst) || !dm_call(__func__, dmod, dom)) {
        return -1;
    }
    locker = sim_locker_new(&sim_lock);
    for (uint32_t i = 0; i < nr; i++) {
        if (sim_page_at(src + i) == SIM_NO_PAGE) {
            return sim_refuse(EINVAL, "%s: no page at 0x%" PRIx64, __func__,
                              src + i);
        }
        sim_page_set(dst + i, sim_page_set(src + i, SIM_NO_PAGE));
    }
    return 0;
}

int xendevicemodel_pin_memory_cacheattr(xendevicemodel_handle *dmod,
                                        domid_t dom, uint64_t start,
                                        uint64_t end, uint32_t type)
{
    if (!sim_call(__func__, "0x%" PRIx64 "-0x%" PRIx64 " %u", start, end,
                  type) || !dm_call(__func__, dmod, dom)) {
        return -1;
    }
    return 0;
}

/* All of it is dirty, always. */
int xendevicemodel_track_dirty_vram(xendevicemodel_handle *dmod, domid_t dom,
                                    uint64_t gfn, uint32_t nr,
                                    unsigned long *bitmap)
{
    if (!sim_call(__func__, "0x%" PRIx64 " %u", gfn, nr) ||
        !dm_call(__func__, dmod, dom)) {
        return -1;
    }
    memset(bitmap, 0xff, nr / 8);
    return 0;
}

int xendevicemodel_modified_memory(xendevicemodel_handle *dmod, domid_t dom,
                                   uint64_t gfn, uint32_t nr)
{
    if (!sim_call(__func__, "0x%" PRIx64 " %u", gfn, nr) ||
        !dm_call(__func__, dmod, dom)) {
        return -1;
    }
    return 0;
}

int xendevicemodel_shutdown(xendevicemodel_handle *dmod, domid_t dom,
                            unsigned int reason)
{
    if (!sim_call(__func__, "%u", reason) || !dm_call(__func__, dmod, dom)) {
        return -1;
    }
    return 0;
}

/* --- commands ------------------------------------------------------------- */

static bool server_ready(uint64_t vcpu, GString *reply)
{
    if (!server.enabled || vcpu >= nr_vcpus) {
        g_string_append(reply, "no such vCPU, or the server is not enabled");
        return false;
    }
    return true;
}

/* ioreq VCPU TYPE DIR ADDR SIZE COUNT DATA DATA_IS_PTR DF */
static bool cmd_ioreq(char **words, const uint64_t *args, GString *reply)
{
    g_autoptr(SimLocker) locker = sim_locker_new(&sim_lock);
    ioreq_t *slot = &server.slots[args[0]];

    if (!server_ready(args[0], reply)) {
        return false;
    }
    if (slot->state != STATE_IOREQ_NONE) {
        g_string_append(reply, "that vCPU waits for an answer");
        return false;
    }
    slot->type = args[1];
    slot->dir = args[2];
    slot->addr = args[3];
    slot->size = args[4];
    slot->count = args[5];
    slot->data = args[6];
    slot->data_is_ptr = args[7];
    slot->df = args[8];
    server.answered[args[0]] = false;
    __atomic_thread_fence(__ATOMIC_RELEASE);
    slot->state = STATE_IOREQ_READY;
    server.sent[args[0]] = now_ns();
    if (!sim_event_send(VCPU_PORT(args[0]))) {
        g_string_append(reply, "nobody listens");
        return false;
    }
    return true;
}

/* answer VCPU: wait for it; the data */
static bool cmd_answer(char **words, const uint64_t *args, GString *reply)
{
    g_autoptr(SimLocker) locker = sim_locker_new(&sim_lock);
    struct timespec end;

    if (!server_ready(args[0], reply)) {
        return false;
    }
    clock_gettime(CLOCK_MONOTONIC, &end);
    end.tv_sec += ANSWER_S;
    while (!server.answered[args[0]]) {
        if (pthread_cond_clockwait(&sim_notified, &sim_lock, CLOCK_MONOTONIC,
                                   &end)) {
            g_string_append(reply, "no answer");
            return false;
        }
    }
    server.answered[args[0]] = false;
    g_string_append_printf(reply, "0x%" PRIx64, server.slots[args[0]].data);
    server.slots[args[0]].state = STATE_IOREQ_NONE;
    return true;
}

/* answered VCPU: 1 if answer would not wait */
static bool cmd_answered(char **words, const uint64_t *args, GString *reply)
{
    g_autoptr(SimLocker) locker = sim_locker_new(&sim_lock);

    if (!server_ready(args[0], reply)) {
        return false;
    }
    g_string_append_printf(reply, "%d", server.answered[args[0]]);
    return true;
}

/* took VCPU: from the last ioreq to its answer */
static bool cmd_took(char **words, const uint64_t *args, GString *reply)
{
    g_autoptr(SimLocker) locker = sim_locker_new(&sim_lock);

    if (!server_ready(args[0], reply)) {
        return false;
    }
    g_string_append_printf(reply, "%" PRId64, server.took[args[0]]);
    return true;
}

/* Pointers only ever grow, but start again together (BUFIOREQ_ATOMIC). */
static void rewind_pointers(void)
{
    uint64_t *both = (uint64_t *)server.ring;
    uint64_t old = __atomic_load_n(both, __ATOMIC_SEQ_CST);
    const uint64_t turn = (uint64_t)IOREQ_BUFFER_SLOT_NUM << 32 |
                          IOREQ_BUFFER_SLOT_NUM;

    while ((uint32_t)old >= IOREQ_BUFFER_SLOT_NUM) {
        if (__atomic_compare_exchange_n(both, &old, old - turn, false,
                                        __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST)) {
            old -= turn;
        }
    }
}

/* buffer TYPE DIR SIZE ADDR DATA: one entry, whatever it means */
static bool cmd_buffer(char **words, const uint64_t *args, GString *reply)
{
    g_autoptr(SimLocker) locker = sim_locker_new(&sim_lock);
    buf_ioreq_t entry = {
        .type = args[0], .dir = args[1], .size = args[2], .addr = args[3],
        .data = args[4],
    };
    uint32_t put, got;

    if (!server_ready(0, reply)) {
        return false;
    }
    put = server.ring->write_pointer;
    got = __atomic_load_n(&server.ring->read_pointer, __ATOMIC_SEQ_CST);
    if (put - got >= IOREQ_BUFFER_SLOT_NUM) {
        g_string_append(reply, "full");
        return false;
    }
    server.ring->buf_ioreq[put % IOREQ_BUFFER_SLOT_NUM] = entry;
    __atomic_add_fetch(&server.ring->write_pointer, 1, __ATOMIC_SEQ_CST);
    rewind_pointers();
    return true;
}

/* kick: the event of the buffered ring */
static bool cmd_kick(char **words, const uint64_t *args, GString *reply)
{
    g_autoptr(SimLocker) locker = sim_locker_new(&sim_lock);

    return server_ready(0, reply) && sim_event_send(BUFFERED_PORT);
}

/* buffered: entries that were not read */
static bool cmd_buffered(char **words, const uint64_t *args, GString *reply)
{
    g_autoptr(SimLocker) locker = sim_locker_new(&sim_lock);

    if (!server_ready(0, reply)) {
        return false;
    }
    g_string_append_printf(reply, "%u",
                           server.ring->write_pointer -
                           __atomic_load_n(&server.ring->read_pointer,
                                           __ATOMIC_SEQ_CST));
    return true;
}

/* claims pio|mmio|pci ADDR: 1 if the hypervisor would send it to QEMU */
static bool cmd_claims(char **words, const uint64_t *args, GString *reply)
{
    g_autoptr(SimLocker) locker = sim_locker_new(&sim_lock);
    bool pci = !strcmp(words[0], "pci"), mmio = !strcmp(words[0], "mmio");
    bool found = false;

    if (!server_ready(0, reply)) {
        return false;
    }
    for (guint i = 0; pci && i < server.devices->len; i++) {
        found |= g_array_index(server.devices, uint32_t, i) == args[1];
    }
    for (guint i = 0; !pci && i < server.ranges->len; i++) {
        const Range *r = &g_array_index(server.ranges, Range, i);

        found |= r->is_mmio == mmio && r->start <= args[1] && r->end >= args[1];
    }
    g_string_append_printf(reply, "%d", found);
    return true;
}

const SimCommand sim_ioreq_commands[] = {
    { "ioreq", 9, cmd_ioreq },
    { "answer", 1, cmd_answer },
    { "answered", 1, cmd_answered },
    { "took", 1, cmd_took },
    { "buffer", 5, cmd_buffer },
    { "kick", 0, cmd_kick },
    { "buffered", 0, cmd_buffered },
    { "claims", 2, cmd_claims },
    { }
};
