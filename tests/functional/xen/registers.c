/*
 * registers SECONDS SEED: whether the vector registers of a program in dom0
 * stay its own while guests run. An emulator whose XSAVE does not fault when
 * CR0.TS is set mixes them up.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define SPIN 20000

/* Eight registers of sixteen bytes. */
static void through_registers(const unsigned char *in, unsigned char *out)
{
    unsigned long spin = SPIN;

    asm volatile("movdqu 0x00(%1), %%xmm0\n\t"
                 "movdqu 0x10(%1), %%xmm1\n\t"
                 "movdqu 0x20(%1), %%xmm2\n\t"
                 "movdqu 0x30(%1), %%xmm3\n\t"
                 "movdqu 0x40(%1), %%xmm7\n\t"
                 "movdqu 0x50(%1), %%xmm10\n\t"
                 "movdqu 0x60(%1), %%xmm13\n\t"
                 "movdqu 0x70(%1), %%xmm15\n"
                 "1:\n\t"
                 "dec %0\n\t"
                 "jnz 1b\n\t"
                 "movdqu %%xmm0, 0x00(%2)\n\t"
                 "movdqu %%xmm1, 0x10(%2)\n\t"
                 "movdqu %%xmm2, 0x20(%2)\n\t"
                 "movdqu %%xmm3, 0x30(%2)\n\t"
                 "movdqu %%xmm7, 0x40(%2)\n\t"
                 "movdqu %%xmm10, 0x50(%2)\n\t"
                 "movdqu %%xmm13, 0x60(%2)\n\t"
                 "movdqu %%xmm15, 0x70(%2)"
                 : "+r" (spin)
                 : "r" (in), "r" (out)
                 : "cc", "memory", "xmm0", "xmm1", "xmm2", "xmm3", "xmm7",
                   "xmm10", "xmm13", "xmm15");
}

int main(int argc, char **argv)
{
    unsigned char in[128], out[128];
    unsigned long rounds = 0, wrong = 0;
    time_t end;

    if (argc != 3) {
        fprintf(stderr, "usage: registers SECONDS SEED\n");
        return EXIT_FAILURE;
    }
    end = time(NULL) + atoi(argv[1]);
    for (size_t i = 0; i < sizeof(in); i++) {
        in[i] = atoi(argv[2]) + i;
    }
    while (time(NULL) < end) {
        through_registers(in, out);
        rounds++;
        wrong += memcmp(in, out, sizeof(in)) != 0;
    }
    printf("%lu of %lu rounds wrong\n", wrong, rounds);
    return wrong ? EXIT_FAILURE : EXIT_SUCCESS;
}
