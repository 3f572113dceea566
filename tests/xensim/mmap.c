/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What Linux lets a process do with a mapping of guest pages
 *
 * Newer ones replace or unmap it as a whole or not at all: their privcmd driver
 * has no mapping split.
 */

#include <dlfcn.h>
#include <errno.h>
#include <sys/mman.h>
#include "sim.h"

typedef struct Whole {
    uint8_t *base;
    size_t len;
} Whole;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static GArray *wholes;          /* NULL: mappings can be split */

void sim_mmap_init(void)
{
    if (sim_feature("whole-maps")) {
        wholes = g_array_new(false, false, sizeof(Whole));
    }
}

/* Returns: false if that would leave a part of one. Forgets those that go. */
static bool replace(const uint8_t *addr, size_t len)
{
    g_autoptr(SimLocker) locker = sim_locker_new(&lock);

    for (guint i = 0; i < wholes->len; i++) {
        const Whole *w = &g_array_index(wholes, Whole, i);

        if (addr >= w->base + w->len || addr + len <= w->base) {
            continue;
        }
        if (addr > w->base || addr + len < w->base + w->len) {
            return false;
        }
        g_array_remove_index_fast(wholes, i--);
    }
    return true;
}

void sim_mmap_whole(void *base, size_t len)
{
    const Whole w = { .base = base, .len = len };

    if (wholes) {
        pthread_mutex_lock(&lock);
        g_array_append_val(wholes, w);
        pthread_mutex_unlock(&lock);
    }
}

/* The emulator's, too: its loader finds this one first. */
void *mmap(void *addr, size_t len, int prot, int flags, int fd, off_t offset)
{
    static void *(*next)(void *, size_t, int, int, int, off_t);

    if (!next) {
        next = dlsym(RTLD_NEXT, "mmap64");
    }
    if (wholes && flags & MAP_FIXED && !replace(addr, len)) {
        errno = ENOMEM;
        return MAP_FAILED;
    }
    return next(addr, len, prot, flags, fd, offset);
}

int munmap(void *addr, size_t len)
{
    static int (*next)(void *, size_t);

    if (!next) {
        next = dlsym(RTLD_NEXT, "munmap");
    }
    if (wholes && !replace(addr, len)) {
        errno = EINVAL;
        return -1;
    }
    return next(addr, len);
}
