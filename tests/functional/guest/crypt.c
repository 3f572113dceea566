/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * crypt ALGORITHM: encrypts what comes in, AES-CBC with a fixed key, by the
 * kernel's implementation of that name, to its output
 */

#include <errno.h>
#include <linux/if_alg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define KEY_SIZE    16
#define IV_SIZE     16
#define CHUNK       (16 * 1024)

static void __attribute__((noreturn)) die(const char *what)
{
    fprintf(stderr, "crypt: %s: %s\n", what, strerror(errno));
    exit(1);
}

static void encrypt(int op, char *data, size_t size)
{
    union {
        char space[CMSG_SPACE(sizeof(int)) +
                   CMSG_SPACE(sizeof(struct af_alg_iv) + IV_SIZE)];
        struct cmsghdr align;
    } control;
    struct iovec iov = { .iov_base = data, .iov_len = size };
    struct msghdr msg = {
        .msg_control = control.space, .msg_controllen = sizeof(control.space),
        .msg_iov = &iov, .msg_iovlen = 1,
    };
    struct cmsghdr *c;
    struct af_alg_iv *iv;
    int operation = ALG_OP_ENCRYPT;

    memset(&control, 0, sizeof(control));
    c = CMSG_FIRSTHDR(&msg);
    c->cmsg_level = SOL_ALG;
    c->cmsg_type = ALG_SET_OP;
    c->cmsg_len = CMSG_LEN(sizeof(int));
    memcpy(CMSG_DATA(c), &operation, sizeof(operation));
    c = CMSG_NXTHDR(&msg, c);
    c->cmsg_level = SOL_ALG;
    c->cmsg_type = ALG_SET_IV;
    c->cmsg_len = CMSG_LEN(sizeof(*iv) + IV_SIZE);
    iv = (void *)CMSG_DATA(c);
    iv->ivlen = IV_SIZE;

    if (sendmsg(op, &msg, 0) != (ssize_t)size) {
        die("sendmsg");
    }
    for (size_t at = 0; at < size; ) {
        ssize_t got = read(op, data + at, size - at);

        if (got <= 0) {
            die("read");
        }
        at += got;
    }
}

int main(int argc, char **argv)
{
    static char data[CHUNK] __attribute__((aligned(4096)));
    struct sockaddr_alg address = {
        .salg_family = AF_ALG, .salg_type = "skcipher",
    };
    unsigned char key[KEY_SIZE];
    size_t got;
    int tfm, op;

    if (argc != 2) {
        fprintf(stderr, "usage: crypt ALGORITHM\n");
        return 1;
    }
    for (unsigned i = 0; i < KEY_SIZE; i++) {
        key[i] = 7 * i + 1;
    }
    snprintf((char *)address.salg_name, sizeof(address.salg_name), "%s",
             argv[1]);
    tfm = socket(AF_ALG, SOCK_SEQPACKET, 0);
    if (tfm < 0 || bind(tfm, (void *)&address, sizeof(address)) < 0) {
        die(argv[1]);
    }
    if (setsockopt(tfm, SOL_ALG, ALG_SET_KEY, key, sizeof(key)) < 0) {
        die("key");
    }
    op = accept(tfm, NULL, 0);
    if (op < 0) {
        die("accept");
    }
    while ((got = fread(data, 1, sizeof(data), stdin)) > 0) {
        if (got % IV_SIZE) {
            errno = EINVAL;
            die("input");
        }
        encrypt(op, data, got);
        if (fwrite(data, 1, got, stdout) != got) {
            die("output");
        }
    }
    return 0;
}
