/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * xensim: calls are counted, and made to fail; handles are watched
 */

#include "sim.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* QEMU's exit status, when nobody came to hear a complaint. */
#define EXIT_COMPLAINTS 70

pthread_mutex_t sim_lock = PTHREAD_MUTEX_INITIALIZER;
pthread_cond_t sim_notified = PTHREAD_COND_INITIALIZER;

typedef struct Calls {
    uint64_t count;
    char *last;
} Calls;

typedef struct Failure {
    char *fn;
    uint64_t in;                /* this many calls from now */
    int err;
} Failure;

/* Of its own: complaints come with and without sim_lock. */
static pthread_mutex_t books_lock = PTHREAD_MUTEX_INITIALIZER;
static GHashTable *calls;       /* name -> Calls */
static GList *failures;         /* of Failure */
static GPtrArray *complaints;
static GHashTable *handles;
static char **features;
static FILE *call_log;
static unsigned domid;

/*
 * QEMU keeps some of them for as long as it lives, and leaves them to the
 * kernel: accel/xen's own, the mapcache's, and xenstore's of the xen-bus.
 */
static const struct {
    const char *name;
    unsigned left_at_exit;
} kinds[SIM_NR_KINDS] = {
    [SIM_XENCTRL]       = { "xc_interface", 1 },
    [SIM_XENCALL]       = { "xencall", 1 },
    [SIM_DEVICEMODEL]   = { "xendevicemodel", 1 },
    [SIM_FOREIGNMEMORY] = { "xenforeignmemory", 1 },
    [SIM_RESOURCE]      = { "xenforeignmemory resource" },
    [SIM_EVTCHN]        = { "xenevtchn" },
    [SIM_GNTTAB]        = { "xengnttab", 1 },
    [SIM_XENSTORE]      = { "xenstore", 2 },
};

unsigned sim_env(const char *name, unsigned otherwise)
{
    const char *value = getenv(name);

    return value ? g_ascii_strtoull(value, NULL, 0) : otherwise;
}

bool sim_feature(const char *name)
{
    return g_strv_contains((const char *const *)features, name);
}

static void G_GNUC_PRINTF(1, 0) add_complaint(const char *fmt, va_list ap)
{
    char *text = g_strdup_vprintf(fmt, ap);

    fprintf(stderr, "xensim: %s\n", text);
    pthread_mutex_lock(&books_lock);
    g_ptr_array_add(complaints, text);
    pthread_mutex_unlock(&books_lock);
}

void sim_complain(const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    add_complaint(fmt, ap);
    va_end(ap);
}

int sim_refuse(int err, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    add_complaint(fmt, ap);
    va_end(ap);
    errno = err;
    return -1;
}

bool sim_domid(const char *fn, unsigned id)
{
    if (id == domid) {
        return true;
    }
    sim_refuse(ESRCH, "%s: domain %u", fn, id);
    return false;
}

static Calls *get_calls(const char *fn)
{
    Calls *c = g_hash_table_lookup(calls, fn);

    if (!c) {
        c = g_new0(Calls, 1);
        g_hash_table_insert(calls, g_strdup(fn), c);
    }
    return c;
}

static int take_failure(const char *fn)
{
    int err = 0;

    for (GList *l = failures, *next; l; l = next) {
        Failure *f = l->data;

        next = l->next;
        if (!strcmp(f->fn, fn) && !--f->in) {
            err = f->err;
            g_free(f->fn);
            g_free(f);
            failures = g_list_delete_link(failures, l);
        }
    }
    return err;
}

static void add_failure(const char *fn, uint64_t in, int err)
{
    Failure *f = g_new(Failure, 1);

    f->fn = g_strdup(fn);
    f->in = in;
    f->err = err;
    failures = g_list_append(failures, f);
}

bool sim_call(const char *fn, const char *fmt, ...)
{
    int err;
    Calls *c;
    va_list ap;

    pthread_mutex_lock(&books_lock);
    c = get_calls(fn);
    c->count++;
    g_free(c->last);
    va_start(ap, fmt);
    c->last = g_strdup_vprintf(fmt, ap);
    va_end(ap);
    err = take_failure(fn);
    if (call_log) {
        fprintf(call_log, "%s %s%s%s\n", fn, c->last, err ? " = " : "",
                err ? strerror(err) : "");
    }
    pthread_mutex_unlock(&books_lock);
    errno = err;
    return !err;
}

void *sim_handle_new(SimKind kind, size_t size)
{
    SimHandle *h = g_malloc0(size);

    h->kind = kind;
    pthread_mutex_lock(&books_lock);
    g_hash_table_add(handles, h);
    pthread_mutex_unlock(&books_lock);
    return h;
}

bool sim_handle(const char *fn, const void *handle, SimKind kind)
{
    const SimHandle *h = handle;
    bool good;

    pthread_mutex_lock(&books_lock);
    good = g_hash_table_contains(handles, h) && h->kind == kind;
    pthread_mutex_unlock(&books_lock);
    if (!good) {
        sim_refuse(EBADF, "%s: no %s is open as %p", fn, kinds[kind].name, h);
    }
    return good;
}

bool sim_handle_free(const char *fn, void *handle, SimKind kind)
{
    if (!sim_handle(fn, handle, kind)) {
        return false;
    }
    pthread_mutex_lock(&books_lock);
    g_hash_table_remove(handles, handle);
    pthread_mutex_unlock(&books_lock);
    g_free(handle);
    return true;
}

static bool cmd_count(char **words, const uint64_t *args, GString *reply)
{
    pthread_mutex_lock(&books_lock);
    g_string_append_printf(reply, "%" G_GUINT64_FORMAT,
                           get_calls(words[0])->count);
    pthread_mutex_unlock(&books_lock);
    return true;
}

static bool cmd_last(char **words, const uint64_t *args, GString *reply)
{
    Calls *c;

    pthread_mutex_lock(&books_lock);
    c = get_calls(words[0]);
    g_string_append(reply, c->last ?: "never");
    pthread_mutex_unlock(&books_lock);
    return c->last;
}

static bool cmd_fail(char **words, const uint64_t *args, GString *reply)
{
    if (!args[1] || !args[2]) {
        g_string_append(reply, "calls and errors count from 1");
        return false;
    }
    pthread_mutex_lock(&books_lock);
    add_failure(words[0], args[1], args[2]);
    pthread_mutex_unlock(&books_lock);
    return true;
}

static bool cmd_check(char **words, const uint64_t *args, GString *reply)
{
    bool good;

    pthread_mutex_lock(&books_lock);
    good = !complaints->len;
    for (guint i = 0; i < complaints->len; i++) {
        g_string_append_printf(reply, "%s%s", i ? "; " : "",
                               (char *)complaints->pdata[i]);
    }
    g_ptr_array_set_size(complaints, 0);
    pthread_mutex_unlock(&books_lock);
    return good;
}

const SimCommand sim_call_commands[] = {
    { "count", 1, cmd_count },
    { "last", 1, cmd_last },
    { "fail", 3, cmd_fail },
    { "check", 0, cmd_check },
    { }
};

/* After QEMU's own exit handlers: those were registered later. */
static void at_exit(int status, void *opaque)
{
    unsigned left[SIM_NR_KINDS] = { 0 };
    GHashTableIter iter;
    gpointer h;

    if (!status) {
        g_hash_table_iter_init(&iter, handles);
        while (g_hash_table_iter_next(&iter, &h, NULL)) {
            left[((SimHandle *)h)->kind]++;
        }
        for (int i = 0; i < SIM_NR_KINDS; i++) {
            if (left[i] > kinds[i].left_at_exit) {
                sim_complain("%s: %u left open at exit", kinds[i].name,
                             left[i]);
            }
        }
        sim_ioreq_at_exit();
        sim_iommu_at_exit();
    }
    if (call_log) {
        fclose(call_log);
    }
    if (complaints->len) {
        _exit(EXIT_COMPLAINTS);
    }
}

static void read_failures(const char *list)
{
    g_auto(GStrv) each = g_strsplit(list, ",", -1);

    for (char **s = each; *s; s++) {
        g_auto(GStrv) part = g_strsplit(*s, ":", -1);

        if (g_strv_length(part) != 3) {
            sim_complain("XENSIM_FAIL: FUNCTION:CALL:ERROR,... and not '%s'",
                         *s);
            continue;
        }
        add_failure(part[0], g_ascii_strtoull(part[1], NULL, 0), atoi(part[2]));
    }
}

static void __attribute__((constructor)) sim_init(void)
{
    const char *path;

    calls = g_hash_table_new(g_str_hash, g_str_equal);
    complaints = g_ptr_array_new_with_free_func(g_free);
    handles = g_hash_table_new(NULL, NULL);
    features = g_strsplit(getenv("XENSIM_FEATURES") ?: "", ",", -1);
    domid = sim_env("XENSIM_DOMID", 1);
    path = getenv("XENSIM_LOG");
    if (path) {
        call_log = fopen(path, "w");
    }
    read_failures(getenv("XENSIM_FAIL") ?: "");
    on_exit(at_exit, NULL);
    sim_mmap_init();
    sim_memory_init();
    sim_ioreq_init();
    path = getenv("XENSIM_SOCKET");
    if (path) {
        sim_control_init(path);
    }
}
