/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * kexec-into: the next kernel
 *
 *   kexec-into KERNEL INITRD COMMAND-LINE           starts it
 *   kexec-into --crash KERNEL INITRD COMMAND-LINE   when this one crashes
 *
 * Runs inside the guest, as root. The first way shuts the drivers down, the
 * second, which needs memory set aside (crashkernel=), does not.
 *
 * Build: gcc -static -O2 -Wall -o kexec-into kexec-into.c
 */

#include <errno.h>
#include <fcntl.h>
#include <linux/kexec.h>
#include <linux/reboot.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/reboot.h>
#include <sys/syscall.h>
#include <unistd.h>

static void fail(const char *what)
{
    fprintf(stderr, "kexec-into: %s: %s\n", what, strerror(errno));
    exit(1);
}

static int open_file(const char *path)
{
    int fd = open(path, O_RDONLY);

    if (fd < 0) {
        fail(path);
    }
    return fd;
}

int main(int argc, char **argv)
{
    bool crash = argc > 1 && !strcmp(argv[1], "--crash");
    char **args = argv + crash;
    int kernel, initrd;

    if (argc != 4 + crash) {
        fputs("usage: kexec-into [--crash] KERNEL INITRD COMMAND-LINE\n",
              stderr);
        return 2;
    }
    kernel = open_file(args[1]);
    initrd = open_file(args[2]);
    if (syscall(SYS_kexec_file_load, kernel, initrd, strlen(args[3]) + 1,
                args[3], crash ? KEXEC_FILE_ON_CRASH : 0)) {
        fail("kexec_file_load");
    }
    if (!crash) {
        reboot(LINUX_REBOOT_CMD_KEXEC);
        fail("reboot");
    }
    return 0;
}
