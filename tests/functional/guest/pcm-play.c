/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * pcm-play DSP MIXER RATE FILE: plays FILE, RATE Hz, 16 bit, two channels, at
 * full volume, through the OSS devices, and waits until all of it was played
 *
 * Exits with 1, and a line that says why, if the device plays no such thing.
 */

#include <errno.h>
#include <fcntl.h>
#include <linux/soundcard.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#define CHANNELS    2

static void __attribute__((noreturn)) die(const char *what)
{
    printf("pcm-play: %s: %s\n", what, strerror(errno));
    exit(1);
}

/* What is asked for must be what comes: otherwise samples are converted. */
static void set(int fd, unsigned long request, int value, const char *what)
{
    int got = value;

    if (ioctl(fd, request, &got) < 0) {
        die(what);
    }
    if (got != value) {
        printf("pcm-play: %s: %d instead of %d\n", what, got, value);
        exit(1);
    }
}

static void full_volume(const char *path)
{
    static const unsigned channels[] = {
        SOUND_MIXER_VOLUME, SOUND_MIXER_PCM, SOUND_MIXER_SPEAKER,
    };
    int fd = open(path, O_RDWR);

    if (fd < 0) {
        return;                 /* not every device has a mixer */
    }
    for (unsigned i = 0; i < sizeof(channels) / sizeof(channels[0]); i++) {
        int level = 100 | 100 << 8;

        ioctl(fd, MIXER_WRITE(channels[i]), &level);
    }
    close(fd);
}

int main(int argc, char **argv)
{
    static char buf[4096];
    ssize_t got;
    int in, out;

    if (argc != 5) {
        printf("usage: pcm-play DSP MIXER RATE FILE\n");
        return 1;
    }
    in = open(argv[4], O_RDONLY);
    if (in < 0) {
        die(argv[4]);
    }
    out = open(argv[1], O_WRONLY);
    if (out < 0) {
        die(argv[1]);
    }
    full_volume(argv[2]);
    set(out, SNDCTL_DSP_SETFMT, AFMT_S16_LE, "format");
    set(out, SNDCTL_DSP_CHANNELS, CHANNELS, "channels");
    set(out, SNDCTL_DSP_SPEED, atoi(argv[3]), "rate");
    while ((got = read(in, buf, sizeof(buf))) > 0) {
        for (ssize_t at = 0; at < got; ) {
            ssize_t done = write(out, buf + at, got - at);

            if (done < 0) {
                die("write");
            }
            at += done;
        }
    }
    if (ioctl(out, SNDCTL_DSP_SYNC, 0) < 0) {
        die("sync");
    }
    return 0;
}
