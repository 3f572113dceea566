/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Where an assertion failed, with the lines that led there: a helper that many
 * tests share does not say by itself which of its calls it was.
 *
 * Linked with each test; there is nothing to call.
 */

#include "qemu/osdep.h"
#include <dlfcn.h>
#include <execinfo.h>
#include <sys/wait.h>
#ifdef WITH_LIBQTEST
#include "libqtest.h"
#endif

#define MAX_FRAMES      40
#define MAX_LINE        200

/* Functions that are on the way from abort(), or to every test. */
static const char *const boring[] = {
    "print_backtrace", "on_abort", "sigabrt_handler", "main", "_start", "??",
};

/* The standard output may be one that nobody reads. */
static void say(const char *text)
{
    size_t len = strlen(text);

    while (len) {
        ssize_t done = write(STDOUT_FILENO, text, len);

        if (done <= 0) {
            return;
        }
        text += done;
        len -= done;
    }
}

static void say_frame(const char *line)
{
    static const char inlined[] = " (inlined by) ";

    if (!strncmp(line, inlined, strlen(inlined))) {
        line += strlen(inlined);
    }
    for (size_t i = 0; i < ARRAY_SIZE(boring); i++) {
        size_t len = strlen(boring[i]);

        if (!strncmp(line, boring[i], len) && line[len] == ' ') {
            return;
        }
    }
    say("#   ");
    say(line);
    say("\n");
}

/* In a signal handler: no memory is allocated, and no lock of GLib taken. */
static void print_backtrace(void)
{
    void *frames[MAX_FRAMES];
    int nr = backtrace(frames, MAX_FRAMES);
    char words[MAX_FRAMES][20], exe[40], line[MAX_LINE];
    char *argv[MAX_FRAMES + 6] = {
        (char *)"addr2line", (char *)"-sfpi", (char *)"-e", exe,
    };
    int argc = 4, fds[2];
    size_t len = 0;
    Dl_info own, info;
    pid_t pid;
    char c;

    if (!dladdr(print_backtrace, &own) || pipe(fds) < 0) {
        return;
    }
    snprintf(exe, sizeof(exe), "/proc/%d/exe", (int)getpid());
    for (int i = 0; i < nr; i++) {
        if (dladdr(frames[i], &info) && info.dli_fbase == own.dli_fbase) {
            /* The call, and not where it returns to. */
            snprintf(words[i], sizeof(words[i]), "0x%" PRIxPTR,
                     (uintptr_t)frames[i] - (uintptr_t)own.dli_fbase - 1);
            argv[argc++] = words[i];
        }
    }
    pid = fork();
    if (pid < 0) {
        return;
    }
    if (!pid) {
        dup2(fds[1], STDOUT_FILENO);
        close(fds[0]);
        execvp(argv[0], argv);
        _exit(127);
    }
    close(fds[1]);
    say("# The lines that led there, the innermost first:\n");
    while (read(fds[0], &c, 1) == 1) {
        if (c == '\n') {
            line[len] = '\0';
            say_frame(line);
            len = 0;
        } else if (len < sizeof(line) - 1) {
            line[len++] = c;
        }
    }
    close(fds[0]);
    waitpid(pid, NULL, 0);
}

#ifdef WITH_LIBQTEST
static void on_abort(void *data)
{
    print_backtrace();
}
#else
static void on_abort(int signo)
{
    print_backtrace();
}
#endif

static void __attribute__((constructor)) install(void)
{
    void *frame;

    /* Its first call loads a library, which a signal handler must not. */
    backtrace(&frame, 1);
#ifdef WITH_LIBQTEST
    qtest_add_abrt_handler(on_abort, "backtrace");
#else
    sigaction(SIGABRT, &(struct sigaction) { .sa_handler = on_abort }, NULL);
#endif
}
