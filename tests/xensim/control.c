/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * xensim: the test's end of it, a line for a line on a UNIX socket
 *
 * Served by a thread of its own, so that it answers whatever QEMU is at.
 */

#include "sim.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

#define MAX_ARGS        12

static const SimCommand *const tables[] = {
    sim_call_commands, sim_memory_commands, sim_ioreq_commands,
    sim_iommu_commands, sim_target_commands, sim_xenstore_commands,
    sim_misc_commands,
};

static const SimCommand *find_command(const char *name)
{
    for (size_t i = 0; i < G_N_ELEMENTS(tables); i++) {
        for (const SimCommand *c = tables[i]; c->name; c++) {
            if (!strcmp(c->name, name)) {
                return c;
            }
        }
    }
    return NULL;
}

static void run_line(char *line, GString *reply)
{
    g_auto(GStrv) words = g_strsplit(g_strchomp(line), " ", -1);
    const SimCommand *c = words[0] ? find_command(words[0]) : NULL;
    uint64_t args[MAX_ARGS] = { 0 };
    unsigned nr = words[0] ? g_strv_length(words) - 1 : 0;

    g_string_assign(reply, "OK ");
    if (!c) {
        g_string_printf(reply, "NO command '%s'", line);
        return;
    }
    if (nr != c->nr_args) {
        g_string_printf(reply, "NO %s takes %u words", c->name, c->nr_args);
        return;
    }
    for (unsigned i = 0; i < nr; i++) {
        args[i] = g_ascii_strtoull(words[1 + i], NULL, 0);
    }
    if (!c->run(words + 1, args, reply)) {
        g_string_overwrite(reply, 0, "NO");
    }
}

static gpointer serve(gpointer opaque)
{
    int fd = GPOINTER_TO_INT(opaque);
    /* No stream: exit() waits for its lock, which a reader has (glibc 2.41). */
    GIOChannel *in = g_io_channel_unix_new(fd);
    GString *reply = g_string_new(NULL);
    char *line;

    g_io_channel_set_encoding(in, NULL, NULL);
    while (g_io_channel_read_line(in, &line, NULL, NULL, NULL) ==
           G_IO_STATUS_NORMAL) {
        run_line(line, reply);
        g_free(line);
        g_string_append_c(reply, '\n');
        send(fd, reply->str, reply->len, MSG_NOSIGNAL);
    }
    return NULL;
}

void sim_control_init(const char *path)
{
    struct sockaddr_un addr = { .sun_family = AF_UNIX };
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sigset_t all, old;

    g_strlcpy(addr.sun_path, path, sizeof(addr.sun_path));
    if (fd < 0 || connect(fd, (struct sockaddr *)&addr, sizeof(addr))) {
        perror("xensim: XENSIM_SOCKET");
        exit(EXIT_FAILURE);
    }
    /* QEMU's signals are for its own threads. */
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    g_thread_unref(g_thread_new("xensim", serve, GINT_TO_POINTER(fd)));
    pthread_sigmask(SIG_SETMASK, &old, NULL);
}
