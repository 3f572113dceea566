/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * io-bench: how much a disk or a network does in a time
 *
 *   io-bench disk DEVICE read|write random|sequential pages|huge BYTES DEPTH MS
 *       DEPTH requests of BYTES at a time, past the page cache, into memory
 *       of single pages, no two in a row, or into huge pages
 *   io-bench send ADDRESS PORT MS
 *   io-bench receive ADDRESS PORT MS
 *       one TCP connection
 *
 * Prints "BYTES NS": what was moved, and the time it took.
 *
 * The guest has few cycles, being emulated: a program that does much besides,
 * as fio does, would hide what the IOMMU costs.
 */

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/aio_abi.h>
#include <linux/fs.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define MAX_DEPTH 256
#define NET_BUFFER (256 * 1024)
#define PAGE 4096
#define HUGE_PAGE (2 * 1024 * 1024)

static void fail(const char *what)
{
    fprintf(stderr, "io-bench: %s: %s\n", what, strerror(errno));
    exit(1);
}

static uint64_t now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000000ull + t.tv_nsec;
}

static void answer(uint64_t bytes, uint64_t begun)
{
    printf("%llu %llu\n", (unsigned long long)bytes,
           (unsigned long long)(now() - begun));
}

static uint64_t disk_size(int fd)
{
    uint64_t size;

    if (ioctl(fd, BLKGETSIZE64, &size)) {
        fail("size of the disk");
    }
    return size;
}

/*
 * What an IOMMU costs depends on the pieces that memory is in. Left alone, it
 * is in as many as the guest happens to have.
 */
static char *disk_buffer(size_t bytes, int is_huge)
{
    const size_t unit = is_huge ? HUGE_PAGE : PAGE;
    const size_t nr = (bytes + unit - 1) / unit;
    size_t *order = calloc(nr, sizeof(*order)), i;
    char *buffer = mmap(NULL, nr * unit, PROT_READ | PROT_WRITE, MAP_PRIVATE |
                        MAP_ANONYMOUS | (is_huge ? MAP_HUGETLB : 0), -1, 0);

    if (!order || buffer == MAP_FAILED) {
        fail(is_huge ? "memory; see /proc/sys/vm/nr_hugepages" : "memory");
    }
    if (!is_huge && madvise(buffer, nr * unit, MADV_NOHUGEPAGE)) {
        fail("madvise");
    }
    /* The kernel gives pages that are neighbours one after the other. */
    for (i = 0; i < nr; i++) {
        size_t other = random() % (i + 1);

        order[i] = order[other];
        order[other] = i;
    }
    for (i = 0; i < nr; i++) {
        memset(buffer + order[i] * unit, 0x5a, unit);
    }
    free(order);
    return buffer;
}

static void disk(const char *path, int is_write, int is_random, int is_huge,
                 size_t bytes, unsigned depth, uint64_t ms)
{
    struct iocb cbs[MAX_DEPTH], *list[MAX_DEPTH];
    struct io_event events[MAX_DEPTH];
    aio_context_t context = 0;
    int fd = open(path, O_RDWR | O_DIRECT);
    uint64_t nr, next = 0, moved = 0, end, begun;
    unsigned in_flight = 0, nr_list;
    char *buffer;

    if (fd < 0) {
        fail(path);
    }
    nr = disk_size(fd) / bytes;
    srandom(1);
    buffer = disk_buffer(bytes * depth, is_huge);
    if (syscall(SYS_io_setup, depth, &context)) {
        fail("io_setup");
    }
    memset(cbs, 0, sizeof(cbs));
    for (nr_list = 0; nr_list < depth; nr_list++) {
        struct iocb *cb = list[nr_list] = &cbs[nr_list];

        cb->aio_lio_opcode = is_write ? IOCB_CMD_PWRITE : IOCB_CMD_PREAD;
        cb->aio_fildes = fd;
        cb->aio_buf = (uintptr_t)(buffer + bytes * nr_list);
        cb->aio_nbytes = bytes;
    }

    begun = now();
    end = begun + ms * 1000000;
    for (;;) {
        int done, i;

        if (now() < end) {
            for (i = 0; i < (int)nr_list; i++) {
                uint64_t place = is_random ? (uint64_t)random() : next++;

                list[i]->aio_offset = place % nr * bytes;
            }
            if (syscall(SYS_io_submit, context, nr_list, list) !=
                (long)nr_list) {
                fail("io_submit");
            }
            in_flight += nr_list;
        }
        if (!in_flight) {
            break;
        }
        done = syscall(SYS_io_getevents, context, 1, depth, events, NULL);
        if (done < 1) {
            fail("io_getevents");
        }
        in_flight -= done;
        for (i = 0, nr_list = 0; i < done; i++) {
            if (events[i].res != (int64_t)bytes) {
                errno = events[i].res < 0 ? -events[i].res : EIO;
                fail(is_write ? "write" : "read");
            }
            moved += bytes;
            list[nr_list++] = (void *)(uintptr_t)events[i].obj;
        }
    }
    answer(moved, begun);
}

static void net(int is_send, const char *address, int port, uint64_t ms)
{
    static char buffer[NET_BUFFER];
    struct sockaddr_in to = {
        .sin_family = AF_INET,
        .sin_port = htons(port),
    };
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    uint64_t moved = 0, begun, end;

    if (fd < 0 || inet_pton(AF_INET, address, &to.sin_addr) != 1 ||
        connect(fd, (struct sockaddr *)&to, sizeof(to))) {
        fail(address);
    }
    begun = now();
    for (end = begun + ms * 1000000; now() < end; ) {
        ssize_t n = is_send ? send(fd, buffer, sizeof(buffer), 0)
                            : recv(fd, buffer, sizeof(buffer), 0);

        if (n <= 0) {
            fail(is_send ? "send" : "recv");
        }
        moved += n;
    }
    answer(moved, begun);
}

int main(int argc, char **argv)
{
    const char *what = argc > 1 ? argv[1] : "";

    if (argc == 9 && !strcmp(what, "disk") && atoi(argv[6]) > 0 &&
        atoi(argv[7]) > 0 && atoi(argv[7]) <= MAX_DEPTH) {
        disk(argv[2], !strcmp(argv[3], "write"), !strcmp(argv[4], "random"),
             !strcmp(argv[5], "huge"), atoi(argv[6]), atoi(argv[7]),
             atoi(argv[8]));
    } else if (argc == 5 &&
               (!strcmp(what, "send") || !strcmp(what, "receive"))) {
        net(!strcmp(what, "send"), argv[2], atoi(argv[3]), atoi(argv[4]));
    } else {
        fprintf(stderr, "io-bench: see its source for what it takes\n");
        return 2;
    }
    return 0;
}
