/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * xensim: xenstore, with one client and so with transactions that always work
 */

#include "sim.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>
#include <xenstore.h>

/* Relative paths are below it. */
#define HOME "/local/domain/0"

typedef struct xs_handle {
    SimHandle handle;
    int fd;                     /* readable while there are events */
    GQueue events;              /* of what xs_check_watch() returns */
} Store;

typedef struct Watch {
    Store *owner;
    char *path;                 /* as it was given */
    char *full;
    char *token;
} Watch;

/* Full path -> GString. A node that is there has all nodes above it. */
static GHashTable *nodes;
static GList *watches;

static bool store(const char *fn, Store *h)
{
    return sim_handle(fn, h, SIM_XENSTORE);
}

static char *full_path(const char *path)
{
    char *full = *path == '/' ? g_strdup(path)
                              : g_strdup_printf(HOME "/%s", path);
    size_t len = strlen(full);

    if (len > 1 && full[len - 1] == '/') {
        full[len - 1] = 0;
    }
    return full;
}

/* @path is @dir or in it; *@rest is what follows. */
static bool is_below(const char *path, const char *dir, const char **rest)
{
    size_t len = strlen(dir);

    if (strncmp(path, dir, len) || (path[len] && path[len] != '/')) {
        return false;
    }
    *rest = path[len] ? path + len + 1 : path + len;
    return true;
}

static void free_value(gpointer value)
{
    g_string_free(value, true);
}

static Store *open_store(void)
{
    Store *h = sim_handle_new(SIM_XENSTORE, sizeof(*h));

    h->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    g_queue_init(&h->events);
    return h;
}

struct xs_handle *xs_open(unsigned long flags)
{
    return sim_call(__func__, "flags 0x%lx", flags) ? open_store() : NULL;
}

struct xs_handle *xs_daemon_open(void)
{
    return sim_call(__func__, "-") ? open_store() : NULL;
}

static void watch_free(Watch *w)
{
    g_free(w->path);
    g_free(w->full);
    g_free(w->token);
    g_free(w);
}

static void close_store(const char *fn, Store *h)
{
    g_autoptr(SimLocker) locker = sim_locker_new(&sim_lock);

    for (GList *l = watches, *next; l; l = next) {
        Watch *w = l->data;

        next = l->next;
        if (w->owner == h) {
            watch_free(w);
            watches = g_list_delete_link(watches, l);
        }
    }
    g_queue_clear_full(&h->events, free);
    close(h->fd);
    sim_handle_free(fn, h, SIM_XENSTORE);
}

void xs_close(struct xs_handle *h)
{
    if (sim_call(__func__, "-") && h && store(__func__, h)) {
        close_store(__func__, h);
    }
}

void xs_daemon_close(struct xs_handle *h)
{
    if (sim_call(__func__, "-") && store(__func__, h)) {
        close_store(__func__, h);
    }
}

int xs_fileno(struct xs_handle *h)
{
    if (!sim_call(__func__, "-") || !store(__func__, h)) {
        return -1;
    }
    return h->fd;
}

char *xs_get_domain_path(struct xs_handle *h, unsigned int domid)
{
    if (!sim_call(__func__, "%u", domid) || !store(__func__, h)) {
        return NULL;
    }
    return g_strdup_printf("/local/domain/%u", domid);
}

/* --- nodes ---------------------------------------------------------------- */

/* One block, which the caller frees. */
static char **new_event(const char *path, const char *token)
{
    size_t len = strlen(path) + 1, token_len = strlen(token) + 1;
    char **event = malloc(2 * sizeof(char *) + len + token_len);

    event[XS_WATCH_PATH] = memcpy(event + 2, path, len);
    event[XS_WATCH_TOKEN] = memcpy(event[XS_WATCH_PATH] + len, token,
                                   token_len);
    return event;
}

/* @path as the client calls it; sim_lock held. */
static void fire_one(Watch *w, const char *path)
{
    const uint64_t one = 1;

    g_queue_push_tail(&w->owner->events, new_event(path, w->token));
    if (write(w->owner->fd, &one, sizeof(one)) != sizeof(one)) {
        sim_complain("xenstore: cannot signal an event");
    }
}

static void fire(const char *full)
{
    for (GList *l = watches; l; l = l->next) {
        Watch *w = l->data;
        g_autofree char *path = NULL;
        const char *rest;

        if (is_below(full, w->full, &rest)) {
            path = g_strdup_printf("%s%s%s", w->path, *rest ? "/" : "", rest);
            fire_one(w, path);
        }
    }
}

static GString *make_node(const char *full)
{
    GString *value;
    char *slash;

    if (!nodes) {
        nodes = g_hash_table_new_full(g_str_hash, g_str_equal, g_free,
                                      free_value);
    }
    value = g_hash_table_lookup(nodes, full);
    if (value) {
        return value;
    }
    slash = strrchr(full, '/');
    if (slash && slash != full) {
        g_autofree char *dir = g_strndup(full, slash - full);

        make_node(dir);
    }
    value = g_string_new(NULL);
    g_hash_table_insert(nodes, g_strdup(full), value);
    return value;
}

static GString *find_node(const char *full)
{
    GString *value = nodes ? g_hash_table_lookup(nodes, full) : NULL;

    errno = value ? 0 : ENOENT;
    return value;
}

void *xs_read(struct xs_handle *h, xs_transaction_t t, const char *path,
              unsigned int *len)
{
    g_autoptr(SimLocker) locker = NULL;
    g_autofree char *full = full_path(path);
    GString *value;
    char *copy;

    if (!sim_call(__func__, "%s", full) || !store(__func__, h)) {
        return NULL;
    }
    locker = sim_locker_new(&sim_lock);
    value = find_node(full);
    if (!value) {
        return NULL;
    }
    if (len) {
        *len = value->len;
    }
    copy = malloc(value->len + 1);
    return memcpy(copy, value->str, value->len + 1);
}

static void write_node(const char *full, const void *data, unsigned len)
{
    GString *value = make_node(full);

    g_string_truncate(value, 0);
    g_string_append_len(value, data, len);
    fire(full);
}

bool xs_write(struct xs_handle *h, xs_transaction_t t, const char *path,
              const void *data, unsigned int len)
{
    g_autoptr(SimLocker) locker = NULL;
    g_autofree char *full = full_path(path);

    if (!sim_call(__func__, "%s = %.*s", full, (int)len, (const char *)data) ||
        !store(__func__, h)) {
        return false;
    }
    locker = sim_locker_new(&sim_lock);
    write_node(full, data, len);
    return true;
}

bool xs_mkdir(struct xs_handle *h, xs_transaction_t t, const char *path)
{
    g_autoptr(SimLocker) locker = NULL;
    g_autofree char *full = full_path(path);

    if (!sim_call(__func__, "%s", full) || !store(__func__, h)) {
        return false;
    }
    locker = sim_locker_new(&sim_lock);
    make_node(full);
    fire(full);
    return true;
}

static gboolean node_is_below(gpointer key, gpointer value, gpointer dir)
{
    const char *rest;

    return is_below(key, dir, &rest);
}

bool xs_rm(struct xs_handle *h, xs_transaction_t t, const char *path)
{
    g_autoptr(SimLocker) locker = NULL;
    g_autofree char *full = full_path(path);

    if (!sim_call(__func__, "%s", full) || !store(__func__, h)) {
        return false;
    }
    locker = sim_locker_new(&sim_lock);
    if (!find_node(full)) {
        return false;
    }
    g_hash_table_foreach_remove(nodes, node_is_below, full);
    fire(full);
    return true;
}

bool xs_set_permissions(struct xs_handle *h, xs_transaction_t t,
                        const char *path, struct xs_permissions *perms,
                        unsigned int nr)
{
    g_autoptr(SimLocker) locker = NULL;
    g_autofree char *full = full_path(path);

    if (!sim_call(__func__, "%s %u", full, nr) || !store(__func__, h)) {
        return false;
    }
    locker = sim_locker_new(&sim_lock);
    return find_node(full);
}

char **xs_directory(struct xs_handle *h, xs_transaction_t t, const char *path,
                    unsigned int *nr)
{
    g_autoptr(SimLocker) locker = NULL;
    g_autoptr(GString) names = g_string_new(NULL);
    g_autofree char *full = full_path(path);
    GHashTableIter iter;
    gpointer key;
    char **list, *pos;

    if (!sim_call(__func__, "%s", full) || !store(__func__, h)) {
        return NULL;
    }
    locker = sim_locker_new(&sim_lock);
    if (!find_node(full)) {
        return NULL;
    }
    *nr = 0;
    g_hash_table_iter_init(&iter, nodes);
    while (g_hash_table_iter_next(&iter, &key, NULL)) {
        const char *rest;

        if (is_below(key, full, &rest) && *rest && !strchr(rest, '/')) {
            g_string_append_len(names, rest, strlen(rest) + 1);
            (*nr)++;
        }
    }
    /* One block, which the caller frees. */
    list = malloc(*nr * sizeof(char *) + names->len + 1);
    pos = memcpy(list + *nr, names->str, names->len + 1);
    for (unsigned i = 0; i < *nr; i++) {
        list[i] = pos;
        pos += strlen(pos) + 1;
    }
    return list;
}

/* --- watches and transactions --------------------------------------------- */

bool xs_watch(struct xs_handle *h, const char *path, const char *token)
{
    g_autoptr(SimLocker) locker = NULL;
    Watch *w;

    if (!sim_call(__func__, "%s", path) || !store(__func__, h)) {
        return false;
    }
    locker = sim_locker_new(&sim_lock);
    w = g_new(Watch, 1);
    *w = (Watch) {
        .owner = h,
        .path = g_strdup(path),
        .full = full_path(path),
        .token = g_strdup(token),
    };
    watches = g_list_append(watches, w);
    /* Each begins with an event. */
    fire_one(w, path);
    return true;
}

bool xs_unwatch(struct xs_handle *h, const char *path, const char *token)
{
    g_autoptr(SimLocker) locker = NULL;

    if (!sim_call(__func__, "%s", path) || !store(__func__, h)) {
        return false;
    }
    locker = sim_locker_new(&sim_lock);
    for (GList *l = watches; l; l = l->next) {
        Watch *w = l->data;

        if (w->owner == h && !strcmp(w->path, path) &&
            !strcmp(w->token, token)) {
            watch_free(w);
            watches = g_list_delete_link(watches, l);
            return true;
        }
    }
    sim_refuse(ENOENT, "%s: %s is not watched", __func__, path);
    return false;
}

char **xs_check_watch(struct xs_handle *h)
{
    g_autoptr(SimLocker) locker = NULL;
    uint64_t events;
    char **event;

    if (!sim_call(__func__, "-") || !store(__func__, h)) {
        return NULL;
    }
    locker = sim_locker_new(&sim_lock);
    event = g_queue_pop_head(&h->events);
    if (!event) {
        errno = EAGAIN;
    } else if (g_queue_is_empty(&h->events) &&
               read(h->fd, &events, sizeof(events)) != sizeof(events)) {
        sim_complain("%s: the eventfd is empty", __func__);
    }
    return event;
}

xs_transaction_t xs_transaction_start(struct xs_handle *h)
{
    return sim_call(__func__, "-") && store(__func__, h) ? 1 : XBT_NULL;
}

bool xs_transaction_end(struct xs_handle *h, xs_transaction_t t, bool abandon)
{
    return sim_call(__func__, "%u %d", t, abandon) && store(__func__, h);
}

/* --- commands ------------------------------------------------------------- */

static bool cmd_xs_read(char **words, const uint64_t *args, GString *reply)
{
    g_autoptr(SimLocker) locker = sim_locker_new(&sim_lock);
    g_autofree char *full = full_path(words[0]);
    GString *value = find_node(full);

    g_string_append(reply, value ? value->str : "no such node");
    return value;
}

static bool cmd_xs_write(char **words, const uint64_t *args, GString *reply)
{
    g_autoptr(SimLocker) locker = sim_locker_new(&sim_lock);
    g_autofree char *full = full_path(words[0]);

    write_node(full, words[1], strlen(words[1]));
    return true;
}

const SimCommand sim_xenstore_commands[] = {
    { "xs-read", 1, cmd_xs_read },
    { "xs-write", 2, cmd_xs_write },
    { }
};
