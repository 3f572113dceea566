/*
 * A QEMU under a simulated hypervisor (tests/xensim), and the test's end of it
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/bswap.h"
#include "qemu/sockets.h"
#include "qobject/qdict.h"
#include "libqos/pviommu-mirror.h"
#include "libqos/xensim.h"

#define FEATURES        "invalidate-page,iommu-op"
#define MACHINE         "xenfv,suppress-vmdesc=on"

/* As libxl 4.17 has it for an HVM guest, but for disks and its monitor. */
#define ARGS            "-xen-domid 1 -no-shutdown -nodefaults " \
                        "-no-user-config -name xensim -vnc none " \
                        "-display none -boot order=cda -net none " \
                        "-machine %s -m %u -smp %u,maxcpus=%u %s"

static const XenSimOptions defaults;

static char *get_args(const XenSimOptions *o, const char *args)
{
    return g_strdup_printf(ARGS, o->machine ?: MACHINE,
                           o->ram_mb ?: PVIOMMU_RAM >> 20, o->vcpus ?: 1,
                           o->vcpus ?: 1, args ?: "");
}

/* QEMU's environment: the loader finds the simulator where libxen* would be. */
static void set_env(const XenSimOptions *o, const char *socket_path)
{
    const char *dir = g_getenv("XENSIM_DIR");
    g_autofree char *vcpus = g_strdup_printf("%u", o->vcpus ?: 1);
    g_autofree char *ram = g_strdup_printf("%u",
                                           o->ram_mb ?: PVIOMMU_RAM >> 20);

    /* Where the libraries with Xen's names are; the build sets it. */
    g_assert_nonnull(dir);
    g_setenv("LD_LIBRARY_PATH", dir, true);
    g_setenv("XENSIM_VCPUS", vcpus, true);
    g_setenv("XENSIM_RAM_MB", ram, true);
    g_setenv("XENSIM_FEATURES", o->features ?: FEATURES, true);
    g_setenv("XENSIM_FAIL", o->fail ?: "", true);
    g_setenv("XENSIM_TRUST", o->trust ? "1" : "0", true);
    if (socket_path) {
        g_setenv("XENSIM_SOCKET", socket_path, true);
    } else {
        g_unsetenv("XENSIM_SOCKET");
    }
}

static void unset_env(void)
{
    g_unsetenv("LD_LIBRARY_PATH");
}

XenSim *xensim_start(const XenSimOptions *options, const char *args)
{
    static unsigned nr;
    const XenSimOptions *o = options ?: &defaults;
    g_autofree char *base = get_args(o, args);
    g_autofree char *path = g_strdup_printf("%s/xensim-%d-%u.sock",
                                            g_get_tmp_dir(), getpid(), nr++);
    /*
     * libqtest adds "-accel qtest", but the accelerator comes with the machine
     * and is another: leave that to the shell, as a comment.
     */
    g_autofree char *all = g_strconcat(base, " #", NULL);
    XenSim *sim = g_new0(XenSim, 1);
    int listener;

    unlink(path);
    listener = qtest_socket_server(path);
    set_env(o, path);
    sim->qts = qtest_init(all);
    unset_env();
    /* It connected while it was loaded. */
    sim->sock = accept(listener, NULL, NULL);
    g_assert_cmpint(sim->sock, >=, 0);
    close(listener);
    unlink(path);
    sim->answers = fdopen(sim->sock, "r");
    return sim;
}

void xensim_quit(XenSim *sim)
{
    xensim_check(sim);
    qtest_quit(sim->qts);
    fclose(sim->answers);
    free(sim->line);
    g_free(sim);
}

/* What a QEMU with sanitizers says of itself whenever it starts. */
static void drop_sanitizer_notice(char *text)
{
    char *notice = strstr(text, "WARNING: ASan doesn't fully support");
    char *end = notice ? strchr(notice, '\n') : NULL;

    if (end) {
        while (notice > text && notice[-1] != '\n') {
            notice--;
        }
        memmove(notice, end + 1, strlen(end));
    }
}

char *xensim_try(const XenSimOptions *options, const char *args, int *status)
{
    const XenSimOptions *o = options ?: &defaults;
    g_autofree char *base = get_args(o, args);
    g_autofree char *line = g_strdup_printf(
        "echo quit | %s %s -monitor stdio",
        g_getenv("QTEST_QEMU_BINARY"), base);
    char *argv[] = { (char *)"/bin/sh", (char *)"-c", line, NULL };
    g_autofree char *out = NULL;
    char *err = NULL;
    int wait_status;

    set_env(o, NULL);
    g_assert_true(g_spawn_sync(NULL, argv, NULL, G_SPAWN_DEFAULT, NULL, NULL,
                               &out, &err, &wait_status, NULL));
    unset_env();
    /* What the shell says of a child that was killed. */
    g_assert_true(WIFEXITED(wait_status));
    *status = WEXITSTATUS(wait_status);
    if (*status > 128) {
        *status = 128 - *status;
    }
    drop_sanitizer_notice(err);
    return err;
}

bool G_GNUC_PRINTF(3, 4) xensim_command(XenSim *sim, const char **answer,
                                        const char *fmt, ...)
{
    g_autofree char *text = NULL, *line = NULL;
    va_list ap;

    va_start(ap, fmt);
    text = g_strdup_vprintf(fmt, ap);
    va_end(ap);
    line = g_strconcat(text, "\n", NULL);
    g_assert_cmpint(send(sim->sock, line, strlen(line), MSG_NOSIGNAL), ==,
                    strlen(line));
    if (getline(&sim->line, &sim->size, sim->answers) < 0) {
        g_test_message("xensim: no answer to '%s'", text);
        g_assert_not_reached();
    }
    g_strchomp(sim->line);
    if (answer) {
        *answer = strlen(sim->line) > 3 ? sim->line + 3 : "";
    }
    return g_str_has_prefix(sim->line, "OK");
}

/* One that has to work. */
static const char *G_GNUC_PRINTF(2, 3) command(XenSim *sim, const char *fmt,
                                               ...)
{
    g_autofree char *line = NULL;
    const char *answer;
    va_list ap;

    va_start(ap, fmt);
    line = g_strdup_vprintf(fmt, ap);
    va_end(ap);
    if (!xensim_command(sim, &answer, "%s", line)) {
        g_test_message("xensim: %s: %s", line, answer);
        g_assert_not_reached();
    }
    return answer;
}

static uint64_t number(const char *answer)
{
    return g_ascii_strtoull(answer, NULL, 0);
}

char *xensim_complaints(XenSim *sim)
{
    const char *answer;

    return xensim_command(sim, &answer, "check") ? NULL : g_strdup(answer);
}

void xensim_check(XenSim *sim)
{
    g_autofree char *complaints = xensim_complaints(sim);

    g_assert_cmpstr(complaints, ==, NULL);
}

uint64_t xensim_count(XenSim *sim, const char *fn)
{
    return number(command(sim, "count %s", fn));
}

const char *xensim_last(XenSim *sim, const char *fn)
{
    return command(sim, "last %s", fn);
}

void xensim_fail(XenSim *sim, const char *fn, unsigned nth, int err)
{
    command(sim, "fail %s %u %d", fn, nth, err);
}

void xensim_send(XenSim *sim, unsigned vcpu, const XenSimIoreq *r)
{
    command(sim, "ioreq %u %u %d 0x%" PRIx64 " %u %u 0x%" PRIx64 " %d %d",
            vcpu, r->type, r->read, r->addr, r->size, r->count, r->data,
            r->data_is_ptr, r->df);
}

bool xensim_answered(XenSim *sim, unsigned vcpu)
{
    return number(command(sim, "answered %u", vcpu));
}

uint64_t xensim_answer(XenSim *sim, unsigned vcpu)
{
    return number(command(sim, "answer %u", vcpu));
}

uint64_t xensim_took(XenSim *sim, unsigned vcpu)
{
    return number(command(sim, "took %u", vcpu));
}

uint64_t xensim_ioreq(XenSim *sim, unsigned vcpu, const XenSimIoreq *req)
{
    xensim_send(sim, vcpu, req);
    return xensim_answer(sim, vcpu);
}

static uint64_t vcpu_access(XenSim *sim, unsigned vcpu, uint8_t type, bool read,
                            uint64_t addr, unsigned size, uint64_t data)
{
    XenSimIoreq req = {
        .type = type, .read = read, .addr = addr, .size = size, .count = 1,
        .data = data,
    };

    return xensim_ioreq(sim, vcpu, &req);
}

uint32_t xensim_in(XenSim *sim, unsigned vcpu, uint16_t port, unsigned size)
{
    return vcpu_access(sim, vcpu, XENSIM_PIO, true, port, size, 0);
}

void xensim_out(XenSim *sim, unsigned vcpu, uint16_t port, unsigned size,
                uint32_t value)
{
    vcpu_access(sim, vcpu, XENSIM_PIO, false, port, size, value);
}

uint64_t xensim_load(XenSim *sim, unsigned vcpu, uint64_t addr, unsigned size)
{
    return vcpu_access(sim, vcpu, XENSIM_COPY, true, addr, size, 0);
}

void xensim_store(XenSim *sim, unsigned vcpu, uint64_t addr, unsigned size,
                  uint64_t value)
{
    vcpu_access(sim, vcpu, XENSIM_COPY, false, addr, size, value);
}

uint32_t xensim_config_read(XenSim *sim, unsigned vcpu, uint16_t bdf,
                            uint8_t reg, unsigned size)
{
    return vcpu_access(sim, vcpu, XENSIM_PCI_CONFIG, true,
                  (uint64_t)bdf << 32 | reg, size, 0);
}

void xensim_config_write(XenSim *sim, unsigned vcpu, uint16_t bdf, uint8_t reg,
                         unsigned size, uint32_t value)
{
    vcpu_access(sim, vcpu, XENSIM_PCI_CONFIG, false, (uint64_t)bdf << 32 | reg,
           size, value);
}

uint8_t xensim_assert_alive(XenSim *sim)
{
    static uint8_t value = 0xa6;

    value++;
    xensim_out(sim, 0, XENSIM_CMOS_INDEX, 1, XENSIM_CMOS_FREE);
    xensim_out(sim, 0, XENSIM_CMOS_DATA, 1, value);
    g_assert_cmphex(xensim_in(sim, 0, XENSIM_CMOS_DATA, 1), ==, value);
    return value;
}

bool xensim_claims(XenSim *sim, const char *what, uint64_t addr)
{
    return number(command(sim, "claims %s 0x%" PRIx64, what, addr));
}

bool xensim_buffer(XenSim *sim, uint8_t type, bool read, unsigned size,
                   uint32_t addr, uint32_t data)
{
    const char *answer;

    if (xensim_command(sim, &answer, "buffer %u %d %u 0x%x 0x%x", type, read,
                       size, addr, data)) {
        return true;
    }
    g_assert_cmpstr(answer, ==, "full");
    return false;
}

void xensim_kick(XenSim *sim)
{
    command(sim, "kick");
}

unsigned xensim_buffered(XenSim *sim)
{
    return number(command(sim, "buffered"));
}

void xensim_wait_read(XenSim *sim)
{
    while (xensim_buffered(sim)) {
        g_usleep(1000);
    }
}

void xensim_invalidate(XenSim *sim, uint64_t gfn, uint32_t nr)
{
    const XenSimIoreq req = {
        .type = XENSIM_INVALIDATE_PAGE, .addr = gfn * PVIOMMU_PAGE, .size = 8,
        .count = nr,
    };

    xensim_ioreq(sim, 0, &req);
}

void xensim_invalidate_all(XenSim *sim)
{
    const XenSimIoreq req = {
        .type = XENSIM_INVALIDATE, .size = 4, .count = 1, .data = ~0ull,
    };

    xensim_ioreq(sim, 0, &req);
}

bool xensim_buffer_invalidate(XenSim *sim, uint64_t gfn, unsigned class)
{
    return xensim_buffer(sim, XENSIM_INVALIDATE_PAGE, false, class, gfn >> 32,
                         gfn);
}

void xensim_barrier(XenSim *sim, uint64_t entries)
{
    const XenSimIoreq req = {
        .type = XENSIM_INVALIDATE_PAGE, .size = 8, .data = entries,
    };

    xensim_ioreq(sim, 0, &req);
}

uint64_t xensim_counter(XenSim *sim, const char *name)
{
    QDict *rsp = qtest_qmp_assert_success_ref(sim->qts,
        "{'execute': 'x-query-xen-invalidate'}");
    uint64_t n = qdict_get_int(rsp, name);

    qobject_unref(rsp);
    return n;
}

uint32_t xensim_page(XenSim *sim, uint64_t gfn)
{
    const char *answer;

    return xensim_command(sim, &answer, "page 0x%" PRIx64, gfn) ?
           number(answer) : XENSIM_NO_PAGE;
}

void xensim_remove(XenSim *sim, uint64_t gfn, uint64_t nr)
{
    command(sim, "remove 0x%" PRIx64 " %" PRIu64, gfn, nr);
}

uint32_t xensim_release(XenSim *sim, uint64_t gfn, uint32_t nr)
{
    uint32_t page = xensim_page(sim, gfn);

    xensim_remove(sim, gfn, nr);
    xensim_invalidate(sim, gfn, nr);
    return page;
}

void xensim_add(XenSim *sim, uint64_t gfn, uint64_t nr)
{
    command(sim, "add 0x%" PRIx64 " %" PRIu64, gfn, nr);
}

uint64_t xensim_mapped(XenSim *sim, uint32_t page, uint64_t nr)
{
    return number(command(sim, "mapped %u %" PRIu64, page, nr));
}

unsigned xensim_references(XenSim *sim, uint32_t page)
{
    return number(command(sim, "references %u", page));
}

void xensim_peek(XenSim *sim, uint32_t page, unsigned offset, void *buf,
                 unsigned len)
{
    const char *hex = command(sim, "peek %u %u %u", page, offset, len);
    uint8_t *bytes = buf;

    g_assert_cmpuint(strlen(hex), ==, 2 * len);
    for (unsigned i = 0; i < len; i++) {
        bytes[i] = g_ascii_xdigit_value(hex[2 * i]) << 4 |
                   g_ascii_xdigit_value(hex[2 * i + 1]);
    }
}

void xensim_poke(XenSim *sim, uint32_t page, unsigned offset, const void *buf,
                 unsigned len)
{
    g_autoptr(GString) hex = g_string_new(NULL);
    const uint8_t *bytes = buf;

    for (unsigned i = 0; i < len; i++) {
        g_string_append_printf(hex, "%02x", bytes[i]);
    }
    command(sim, "poke %u %u %s", page, offset, hex->str);
}

static uint32_t page_of(XenSim *sim, uint64_t gpa)
{
    uint32_t page = xensim_page(sim, gpa / PVIOMMU_PAGE);

    g_assert_cmphex(page, !=, XENSIM_NO_PAGE);
    return page;
}

uint64_t xensim_readq(XenSim *sim, uint64_t gpa)
{
    uint64_t value;

    xensim_peek(sim, page_of(sim, gpa), gpa % PVIOMMU_PAGE, &value,
                sizeof(value));
    return le64_to_cpu(value);
}

void xensim_writeq(XenSim *sim, uint64_t gpa, uint64_t value)
{
    value = cpu_to_le64(value);
    xensim_poke(sim, page_of(sim, gpa), gpa % PVIOMMU_PAGE, &value,
                sizeof(value));
}

XenSim *xensim_start_mirror(const XenSimOptions *options)
{
    g_autofree char *args = g_strdup_printf(
        "-device xen-pviommu,addr=%x,x-check=on " MIRROR_DEVICE("map"),
        PVIOMMU_SLOT, XENSIM_MIRROR_SLOT);

    return xensim_start(options, args);
}

QXenPVIOMMU *xensim_pviommu(XenSim *sim)
{
    QXenPVIOMMU *iommu = pviommu_new(sim->qts);

    pviommu_probe(iommu);
    return iommu;
}
