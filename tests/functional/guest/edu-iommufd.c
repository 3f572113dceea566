/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * edu-iommufd: DMA of two of QEMU's edu devices through iommufd and VFIO's cdev
 *
 * Runs inside the guest, as root, when vfio-pci of scripts/build-iommufd has
 * both. One line for each check; the exit status is 0 if all passed, 1 if one
 * failed, 2 if it did not get that far.
 *
 *   edu-iommufd FRAMES CONTEXTS   all checks; the device's limits are these
 *   edu-iommufd hold              maps, says 'holds', and does DMA for ever
 *   edu-iommufd refused           binds a device that must not be bound
 */

#define _GNU_SOURCE             /* pthread_tryjoin_np */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "edu-iommufd.h"

#define ROUNDS          100             /* of each of the threads */

/* What of @page is as @edu has it in its buffer; or -1 if some is neither. */
static int written(const Guest *g, const uint8_t *page)
{
    int n = 0;

    for (unsigned i = 0; i < PAGE; i++) {
        if (page[i] == g->pattern[i]) {
            n++;
        } else if (page[i] != 0x33) {
            return -1;
        }
    }
    return n;
}

/* The pattern never has this byte. */
static int write_to(Guest *g, Edu *edu, uint64_t iova, uint8_t *page)
{
    memset(page, 0x33, PAGE);
    edu_write(edu, iova, PAGE);
    return written(g, page);
}

void check_writes(Guest *g, Edu *edu, uint64_t iova, uint8_t *page,
                  const char *what)
{
    int n = write_to(g, edu, iova, page);

    check(n == PAGE, what, "%d of %u bytes at IOVA %#" PRIx64, n, PAGE, iova);
}

void check_stopped(Guest *g, Edu *edu, uint64_t iova, uint8_t *page,
                   const char *what)
{
    uint64_t faults = counter("faults");
    int n = write_to(g, edu, iova, page);

    faults = counter("faults") - faults;
    check(n == 0 && faults, what, "%d of %u bytes at IOVA %#" PRIx64 ", %"
          PRIu64 " faults", n, PAGE, iova, faults);
}

void check_frames(Guest *g, uint64_t wanted, const char *what)
{
    uint64_t mapped = counter("mapped") - g->frames;

    check(mapped == wanted && !counter("pending"), what, "%" PRIu64
          " frames mapped, expected %" PRIu64, mapped, wanted);
}

static void load_pattern(Guest *g, Edu *edu)
{
    memcpy(g->big, g->pattern, PAGE);
    edu_read(edu, BIG_IOVA, PAGE);
}

/* From nothing to a device that does DMA */

static bool parameter_is(const char *name, char value)
{
    FILE *f = fopen(name, "r");
    int is = f ? fgetc(f) : EOF;

    if (f) {
        fclose(f);
    }
    return is == value;
}

static void check_bind(Guest *g)
{
    Edu again = g->a;
    char c;

    check(parameter_is("/sys/module/iommufd/parameters/"
                       "allow_unsafe_interrupts", 'N'),
          "interrupts need not be allowed to be unsafe", "the default");
    g->iommufd = open("/dev/iommu", O_RDWR);
    if (g->iommufd < 0) {
        die("/dev/iommu: %s", strerror(errno));
    }
    check(pread(g->a.fd, &c, 1, 0) < 0 && errno == EINVAL,
          "a device that is not bound cannot be used", "%s", g->a.name);
    check_error(edu_bind(&g->a, -1), EINVAL, "bind to no iommufd");
    check_error(edu_bind(&g->a, g->a.fd), EBADFD, "bind to another file");
    check_error(edu_bind(&g->a, g->iommufd), 0, "bind");
    check_error(edu_bind(&g->a, g->iommufd), EINVAL, "bind again");
    again.fd = edu_open_again(&g->a);
    check_error(edu_bind(&again, g->iommufd), EINVAL,
                "bind by another file of the same device");
    close(again.fd);
    check_error(edu_bind(&g->b, g->iommufd), 0, "bind of the other device");
}

/* Those that the IOAS allows */
static void check_ranges(Guest *g, bool attached)
{
    const struct iommu_iova_range all[] = {
        { 0, UINT64_MAX },
    }, behind[] = {
        { 0, MSI_WINDOW - 1 },
        { MSI_WINDOW + MIB, IOVA_END - 1 },
    };
    struct iommu_iova_range got[4] = { };
    struct iommu_ioas_iova_ranges ranges = {
        .size = sizeof(ranges),
        .ioas_id = g->ioas,
        .num_iovas = 4,
        .allowed_iovas = (uintptr_t)got,
    };
    unsigned n = attached ? 2 : 1;

    if (ioctl(g->iommufd, IOMMU_IOAS_IOVA_RANGES, &ranges) < 0) {
        die("IOMMU_IOAS_IOVA_RANGES: %s", strerror(errno));
    }
    check(ranges.num_iovas == n &&
          !memcmp(got, attached ? behind : all, n * sizeof(*got)) &&
          (!attached || ranges.out_iova_alignment == PAGE),
          "IOVAs that may be mapped", "%u ranges, to %#llx, of %#llx bytes",
          ranges.num_iovas, (unsigned long long)got[n - 1].last,
          (unsigned long long)ranges.out_iova_alignment);
}

static void check_attach(Guest *g)
{
    struct iommu_hw_info info = { .size = sizeof(info), .dev_id = g->a.id };
    uint64_t doorbells;

    check(ioctl(g->iommufd, IOMMU_GET_HW_INFO, &info) == 0 &&
          info.out_data_type == IOMMU_HW_INFO_TYPE_NONE &&
          info.out_capabilities == 0, "no hardware is described",
          "type %u, capabilities %#llx", info.out_data_type,
          (unsigned long long)info.out_capabilities);
    check_error(ioas_alloc(g->iommufd, &g->ioas), 0, "an IOAS");
    check_ranges(g, false);
    check_error(ioas_map(g->iommufd, g->ioas, g->big, BIG_IOVA, BIG, RW), 0,
                "map before a device is attached");
    check_frames(g, 0, "nothing is mapped for no device");
    doorbells = counter("doorbells");
    check_error(edu_attach(&g->a, g->ioas, &g->hwpt), 0, "attach");
    printf("%" PRIu64 " doorbells to attach\n",
           counter("doorbells") - doorbells);
    check_frames(g, BIG_FRAMES, "all is mapped when it is attached");
    check_ranges(g, true);
    edu_start(&g->a);
    edu_start(&g->b);
}

static void check_dma(Guest *g)
{
    static const uint64_t places[] = { 0, 5 * PAGE, BIG / 2, BIG - PAGE };
    uint64_t faults = counter("faults");
    uint8_t *page;

    load_pattern(g, &g->a);
    for (unsigned i = 0; i < 4; i++) {
        page = g->big + places[i];
        check_writes(g, &g->a, BIG_IOVA + places[i], page, "DMA");
    }
    check(counter("faults") == faults, "DMA has no fault", "%" PRIu64,
          counter("faults") - faults);
    check_stopped(g, &g->a, BIG_IOVA + BIG, g->big + BIG - PAGE,
                  "DMA behind what is mapped");
}

static void check_readonly(Guest *g)
{
    uint8_t *page = new_pages(PAGE);
    uint64_t size = PAGE;

    memset(page, 0x44, PAGE);
    check_error(ioas_map(g->iommufd, g->ioas, page, PAGE_IOVA, PAGE, RO), 0,
                "map of a page, read-only");
    check_frames(g, BIG_FRAMES + 1, "a page is mapped where one is attached");
    edu_read(&g->a, PAGE_IOVA, PAGE);
    edu_write(&g->a, BIG_IOVA, PAGE);
    check(!memcmp(g->big, page, PAGE), "read of a read-only page", "%#x",
          g->big[0]);
    load_pattern(g, &g->a);
    check_stopped(g, &g->a, PAGE_IOVA, page, "write to a read-only page");
    check_error(ioas_unmap(g->iommufd, g->ioas, PAGE_IOVA, &size), 0, "unmap");
    munmap(page, PAGE);
}

static void check_unmap(Guest *g)
{
    uint64_t size = PAGE;

    check_error(ioas_unmap(g->iommufd, g->ioas, BIG_IOVA + 5 * PAGE, &size),
                ENOENT, "unmap of a part");
    check_writes(g, &g->a, BIG_IOVA + 5 * PAGE, g->big + 5 * PAGE,
                 "that leaves all of it");
    size = BIG;
    check_error(ioas_unmap(g->iommufd, g->ioas, BIG_IOVA, &size), 0,
                "unmap of all");
    check_frames(g, 0, "nothing is mapped then");
    check_stopped(g, &g->a, BIG_IOVA, g->big, "DMA after the unmap");
    check_error(ioas_unmap(g->iommufd, g->ioas, BIG_IOVA, &size), ENOENT,
                "unmap of what is unmapped");
    check_error(ioas_map(g->iommufd, g->ioas, g->big, BIG_IOVA, BIG, RW), 0,
                "map again, attached");
    check_writes(g, &g->a, BIG_IOVA, g->big, "DMA after that");
}

/* Domains */

static void check_domains(Guest *g)
{
    uint32_t hwpt, none;
    uint64_t size;

    check_error(hwpt_alloc(g->iommufd, &g->a, g->ioas, 0, &hwpt), 0,
                "a second domain");
    check_frames(g, 2 * BIG_FRAMES, "it maps the same");
    check_error(destroy(g->iommufd, g->hwpt), EBUSY,
                "the first is in use");
    check_error(edu_attach(&g->a, hwpt, NULL), 0, "the second instead of it");
    check_frames(g, BIG_FRAMES, "the first is gone");
    check_writes(g, &g->a, BIG_IOVA + PAGE, g->big + PAGE,
                 "DMA in the second");
    check_error(edu_attach(&g->a, g->ioas, &g->hwpt), 0,
                "one of its own again");
    check_error(destroy(g->iommufd, hwpt), 0, "the second is freed");
    check_frames(g, BIG_FRAMES, "and what it mapped");
    check_error(edu_attach(&g->a, hwpt, NULL), ENOENT, "attach to a freed one");
    check_writes(g, &g->a, BIG_IOVA, g->big, "DMA after that");

    /* What the hardware of others can do */
    check_error(hwpt_alloc(g->iommufd, &g->a, g->ioas,
                           IOMMU_HWPT_ALLOC_DIRTY_TRACKING, &none), EOPNOTSUPP,
                "a domain that tracks what is written");
    check_error(hwpt_alloc(g->iommufd, &g->a, g->ioas,
                           IOMMU_HWPT_ALLOC_NEST_PARENT, &none), EOPNOTSUPP,
                "a domain for nested ones");
    check_error(hwpt_alloc(g->iommufd, &g->a, g->hwpt, 0, &none), EOPNOTSUPP,
                "a nested domain");

    /* Two devices in one */
    check_error(edu_attach(&g->b, g->ioas, &hwpt), 0, "attach the other");
    check(hwpt == g->hwpt, "both are in one domain", "%u, %u", hwpt, g->hwpt);
    check_frames(g, BIG_FRAMES, "which maps no more");
    load_pattern(g, &g->b);
    check_writes(g, &g->b, BIG_IOVA, g->big, "DMA of the other");
    size = BIG;
    ioas_unmap(g->iommufd, g->ioas, BIG_IOVA, &size);
    check_stopped(g, &g->a, BIG_IOVA, g->big, "unmapped for the one");
    check_stopped(g, &g->b, BIG_IOVA, g->big, "and for the other");
    check_error(ioas_map(g->iommufd, g->ioas, g->big, BIG_IOVA, BIG, RW), 0,
                "map for both");
    check_error(edu_detach(&g->b), 0, "detach the other");
    check_stopped(g, &g->b, BIG_IOVA, g->big, "DMA of the detached one");
    check_writes(g, &g->a, BIG_IOVA, g->big, "and of the one that stays");
}

static void check_copy(Guest *g)
{
    uint64_t iova = 0, in_other = 0, size = MIB;
    uint32_t other;

    check_error(ioas_copy(g->iommufd, g->ioas, g->ioas, BIG_IOVA, MIB, &iova),
                0, "copy of a part");
    check_frames(g, BIG_FRAMES + MIB / PAGE, "it is mapped twice");
    check_writes(g, &g->a, iova + 3 * PAGE, g->big + 3 * PAGE,
                 "DMA to the copy");

    /* For the other device, from where it outlives what it is of */
    if (ioas_alloc(g->iommufd, &other) ||
        ioas_copy(g->iommufd, other, g->ioas, iova, MIB, &in_other)) {
        die("no copy in another IOAS: %s", strerror(errno));
    }
    check_error(edu_attach(&g->b, other, NULL), 0, "the other has a copy");
    ioas_unmap(g->iommufd, g->ioas, iova, &size);
    check_stopped(g, &g->a, iova, g->big, "DMA to the unmapped copy");
    check_writes(g, &g->b, in_other, g->big, "DMA to the copy of it");
    check_stopped(g, &g->b, BIG_IOVA, g->big, "DMA to what the other has not");
    check_error(destroy(g->iommufd, other), EBUSY, "free an IOAS in use");
    check_error(edu_detach(&g->b), 0, "detach");
    check_error(destroy(g->iommufd, other), 0, "free it");
    check_frames(g, BIG_FRAMES, "what it mapped is gone");
}

/* Maps, unmaps and copies beside a device that changes its domain */
static void *map_and_unmap(void *opaque)
{
    Guest *g = opaque;
    uint8_t *pages = new_pages(16 * PAGE);
    uintptr_t errors = 0;

    for (unsigned i = 0; i < ROUNDS; i++) {
        uint64_t iova, size = 16 * PAGE, copied = 4 * PAGE;

        errors += !!ioas_map(g->iommufd, g->ioas, pages, OTHER_IOVA, size, RW);
        errors += !!ioas_copy(g->iommufd, g->ioas, g->ioas, OTHER_IOVA,
                              copied, &iova);
        errors += !!ioas_unmap(g->iommufd, g->ioas, OTHER_IOVA, &size);
        errors += !!ioas_unmap(g->iommufd, g->ioas, iova, &copied);
    }
    munmap(pages, 16 * PAGE);
    return (void *)errors;
}

static void *change_domain(void *opaque)
{
    Guest *g = opaque;
    uintptr_t errors = 0;
    uint32_t hwpt;

    for (unsigned i = 0; i < ROUNDS; i++) {
        errors += !!hwpt_alloc(g->iommufd, &g->a, g->ioas, 0, &hwpt);
        errors += !!edu_attach(&g->a, hwpt, NULL);
        errors += !!edu_attach(&g->a, g->ioas, NULL);
        errors += !!destroy(g->iommufd, hwpt);
    }
    return (void *)errors;
}

static void check_threads(Guest *g)
{
    void *(*const run[])(void *) = { map_and_unmap, change_domain };
    uint64_t faults = counter("faults"), size = BIG;
    unsigned rounds = 0, bad = 0;
    pthread_t threads[2];
    void *errors[2];

    /* Not so much that a domain takes long */
    ioas_unmap(g->iommufd, g->ioas, BIG_IOVA, &size);
    ioas_map(g->iommufd, g->ioas, g->big, BIG_IOVA, MIB, RW);
    for (unsigned i = 0; i < 2; i++) {
        if (pthread_create(&threads[i], NULL, run[i], g)) {
            die("no thread");
        }
    }
    for (unsigned i = 0; i < 2; i++) {
        while (pthread_tryjoin_np(threads[i], &errors[i])) {
            bad += write_to(g, &g->a, BIG_IOVA + PAGE, g->big + PAGE) != PAGE;
            rounds++;
        }
    }
    faults = counter("faults") - faults;
    check(!errors[0] && !errors[1], "maps beside changes of the domain",
          "%u rounds, %zu and %zu errors", ROUNDS, (size_t)errors[0],
          (size_t)errors[1]);
    check(!bad && !faults && rounds, "DMA beside these", "%u times, %u bad, %"
          PRIu64 " faults", rounds, bad, faults);
    check_frames(g, MIB / PAGE, "what is left is what was");
}

static void check_detach(Guest *g)
{
    check_error(edu_detach(&g->a), 0, "detach");
    check_frames(g, 0, "nothing is mapped");
    check_stopped(g, &g->a, BIG_IOVA, g->big, "DMA of a detached device");
    check_error(edu_attach(&g->a, g->ioas, NULL), 0, "attach it again");
    check_writes(g, &g->a, BIG_IOVA, g->big, "DMA of it");
}

static void prepare(Guest *g)
{
    g->frames = counter("mapped");
    g->big = new_pages(BIG);
    for (unsigned i = 0; i < EDU_SIZE; i++) {
        g->pattern[i] = 0x40 + i * 7 % 113;
    }
    edus_open(&g->a, &g->b);
}

/* As much as can be in use when the end comes */
static void hold(Guest *g)
{
    uint32_t hwpt;

    if (edu_bind(&g->a, g->iommufd) || edu_bind(&g->b, g->iommufd) ||
        ioas_alloc(g->iommufd, &g->ioas) ||
        ioas_map(g->iommufd, g->ioas, g->big, BIG_IOVA, BIG, RW) ||
        edu_attach(&g->a, g->ioas, NULL) || edu_attach(&g->b, g->ioas, NULL) ||
        hwpt_alloc(g->iommufd, &g->a, g->ioas, 0, &hwpt)) {
        die("%s", strerror(errno));
    }
    edu_start(&g->a);
    load_pattern(g, &g->a);
    check_writes(g, &g->a, BIG_IOVA, g->big, "DMA before it is killed");
    printf("holds\n");
    fflush(stdout);
    for (;;) {
        edu_write(&g->a, BIG_IOVA, PAGE);
    }
}

int main(int argc, char *argv[])
{
    Guest g = { };

    prepare(&g);
    if (argc == 2) {
        g.iommufd = open("/dev/iommu", O_RDWR);
        if (!strcmp(argv[1], "hold")) {
            hold(&g);
        }
        check_error(edu_bind(&g.a, g.iommufd), EPERM,
                    "bind where interrupts are not remapped");
        return failed;
    }
    if (argc != 3) {
        die("edu-iommufd FRAMES CONTEXTS, or edu-iommufd hold");
    }
    check_bind(&g);
    check_attach(&g);
    check_dma(&g);
    check_readonly(&g);
    check_unmap(&g);
    check_domains(&g);
    check_copy(&g);
    check(edu_interrupts(&g.a) == 1, "its interrupt arrives", "by MSI");
    check_refused(&g);
    check_unfit(&g);
    check_limits(&g, atoi(argv[1]), atoi(argv[2]));
    check_threads(&g);
    check_detach(&g);
    printf("edu-iommufd: %s\n", failed ? "FAILED" : "all ok");
    return failed;
}
