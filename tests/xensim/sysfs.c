/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * xensim: PCI functions of the host, as sysfs has them
 *
 * XENSIM_FUNCTIONS names them. They are alike: a network controller without
 * BARs, capabilities or an interrupt. What is below their directories is in
 * memory; all other files are the machine's.
 */

#include "sim.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define PREFIX          "/sys/bus/pci/devices/"
#define VENDOR          0x1d0f
#define DEVICE          0x1234
#define CLASS           0x020000
#define CONFIG_SIZE     4096
#define NR_RESOURCES    7

/* Returns: what follows the directory of one of the functions, or NULL. */
static const char *function_file(const char *path)
{
    const char *functions = getenv("XENSIM_FUNCTIONS");
    g_auto(GStrv) names = NULL;
    size_t len;

    if (!functions || strncmp(path, PREFIX, strlen(PREFIX))) {
        return NULL;
    }
    path += strlen(PREFIX);
    names = g_strsplit(functions, ",", -1);
    for (char **n = names; *n; n++) {
        len = strlen(*n);
        if (len && !strncmp(path, *n, len) && path[len] == '/') {
            return path + len + 1;
        }
    }
    return NULL;
}

static int memory_file(const void *data, size_t len)
{
    int fd = memfd_create("xensim-sysfs", MFD_CLOEXEC);

    if (fd >= 0 && pwrite(fd, data, len, 0) != (ssize_t)len) {
        close(fd);
        fd = -1;
    }
    return fd;
}

static int open_config(void)
{
    g_autofree uint8_t *config = g_malloc0(CONFIG_SIZE);
    const uint32_t id = VENDOR | DEVICE << 16, class = CLASS << 8;

    memcpy(config, &id, sizeof(id));
    memcpy(config + 8, &class, sizeof(class));
    return memory_file(config, CONFIG_SIZE);
}

static int open_function_file(const char *name)
{
    g_autoptr(GString) text = g_string_new(NULL);

    if (!strcmp(name, "config")) {
        return open_config();
    }
    if (!strcmp(name, "resource")) {
        for (int i = 0; i < NR_RESOURCES; i++) {
            g_string_append(text, "0x0000000000000000 0x0000000000000000 "
                            "0x0000000000000000\n");
        }
    } else if (!strcmp(name, "vendor")) {
        g_string_printf(text, "0x%04x\n", VENDOR);
    } else if (!strcmp(name, "device")) {
        g_string_printf(text, "0x%04x\n", DEVICE);
    } else if (!strcmp(name, "class")) {
        g_string_printf(text, "0x%06x\n", CLASS);
    } else if (!strcmp(name, "irq")) {
        g_string_append(text, "0\n");
    } else {
        errno = ENOENT;
        return -1;
    }
    return memory_file(text->str, text->len);
}

/* The emulator's, too: its loader finds this one first. */
int open64(const char *path, int flags, ...)
{
    static int (*next)(const char *, int, ...);
    const char *file = function_file(path);
    mode_t mode = 0;
    va_list ap;

    if (!next) {
        next = dlsym(RTLD_NEXT, "open64");
    }
    if (file) {
        return open_function_file(file);
    }
    va_start(ap, flags);
    if (flags & (O_CREAT | O_TMPFILE)) {
        mode = va_arg(ap, mode_t);
    }
    va_end(ap);
    return next(path, flags, mode);
}
