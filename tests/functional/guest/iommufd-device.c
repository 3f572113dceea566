/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * An edu device that a program drives through VFIO's cdev and iommufd
 */

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/iommufd.h>
#include <linux/pci_regs.h>
#include <linux/vfio.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "edu-regs.h"
#include "iommufd-device.h"

#define DRIVER          "/sys/bus/pci/drivers/vfio-pci"
#define STATE           "/sys/kernel/debug/xen-pviommu"
#define TIMEOUT_MS      20000

bool failed;

void die(const char *fmt, ...)
{
    va_list ap;

    printf("cannot test: ");
    va_start(ap, fmt);
    vprintf(fmt, ap);
    va_end(ap);
    printf("\n");
    exit(2);
}

void check(bool ok, const char *what, const char *fmt, ...)
{
    va_list ap;

    printf("%s: %s (", what, ok ? "ok" : "FAILED");
    va_start(ap, fmt);
    vprintf(fmt, ap);
    va_end(ap);
    printf(")\n");
    fflush(stdout);
    failed |= !ok;
}

void check_error(int error, int wanted, const char *what)
{
    char expected[64];

    snprintf(expected, sizeof(expected), "%s", strerror(wanted));
    check(error == wanted, what, "%s, expected %s", strerror(error), expected);
}

static int call(int fd, unsigned long request, void *arg)
{
    return ioctl(fd, request, arg) < 0 ? errno : 0;
}

/* Devices */

/* The cdev is /dev/vfio/devices/vfioN. */
static int open_cdev(const char *name)
{
    char path[512] = "";
    struct dirent *entry;
    DIR *dir;
    int fd;

    snprintf(path, sizeof(path), DRIVER "/%s/vfio-dev", name);
    dir = opendir(path);
    while (dir && (entry = readdir(dir))) {
        if (!strncmp(entry->d_name, "vfio", 4)) {
            snprintf(path, sizeof(path), "/dev/vfio/devices/%s",
                     entry->d_name);
        }
    }
    if (dir) {
        closedir(dir);
    }
    fd = open(path, O_RDWR);
    if (fd < 0) {
        die("%s: %s", path, strerror(errno));
    }
    return fd;
}

void edus_open(Edu *a, Edu *b)
{
    Edu *const edus[] = { a, b };
    DIR *dir = opendir(DRIVER);
    struct dirent *entry;
    unsigned n = 0;

    while (dir && (entry = readdir(dir))) {
        if (strchr(entry->d_name, ':') && n < 2) {
            snprintf(edus[n]->name, sizeof(edus[n]->name), "%.31s",
                     entry->d_name);
            edus[n]->fd = open_cdev(edus[n]->name);
            n++;
        }
    }
    if (n != 2) {
        die("%u devices with vfio-pci", n);
    }
    closedir(dir);
}

int edu_open_again(const Edu *edu)
{
    return open_cdev(edu->name);
}

int edu_bind(Edu *edu, int iommufd)
{
    struct vfio_device_bind_iommufd bind = {
        .argsz = sizeof(bind),
        .iommufd = iommufd,
    };
    int error = call(edu->fd, VFIO_DEVICE_BIND_IOMMUFD, &bind);

    if (!error) {
        edu->id = bind.out_devid;
    }
    return error;
}

void edu_start(Edu *edu)
{
    struct vfio_region_info bar = {
        .argsz = sizeof(bar),
        .index = VFIO_PCI_BAR0_REGION_INDEX,
    };
    struct vfio_region_info config = {
        .argsz = sizeof(config),
        .index = VFIO_PCI_CONFIG_REGION_INDEX,
    };
    uint16_t command = PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER;
    void *map;

    if (call(edu->fd, VFIO_DEVICE_GET_REGION_INFO, &bar) ||
        call(edu->fd, VFIO_DEVICE_GET_REGION_INFO, &config)) {
        die("%s: VFIO_DEVICE_GET_REGION_INFO: %s", edu->name, strerror(errno));
    }
    if (pwrite(edu->fd, &command, 2, config.offset + PCI_COMMAND) != 2) {
        die("%s: writing the configuration space: %s", edu->name,
            strerror(errno));
    }
    map = mmap(NULL, bar.size, PROT_READ | PROT_WRITE, MAP_SHARED, edu->fd,
               bar.offset);
    if (map == MAP_FAILED) {
        die("%s: mapping BAR 0: %s", edu->name, strerror(errno));
    }
    edu->bar = map;
}

int edu_attach(Edu *edu, uint32_t id, uint32_t *hwpt)
{
    struct vfio_device_attach_iommufd_pt attach = {
        .argsz = sizeof(attach),
        .pt_id = id,
    };
    int error = call(edu->fd, VFIO_DEVICE_ATTACH_IOMMUFD_PT, &attach);

    if (hwpt) {
        *hwpt = attach.pt_id;
    }
    return error;
}

int edu_detach(Edu *edu)
{
    struct vfio_device_detach_iommufd_pt detach = { .argsz = sizeof(detach) };

    return call(edu->fd, VFIO_DEVICE_DETACH_IOMMUFD_PT, &detach);
}

/* DMA and interrupts */

static uint64_t now_ms(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return ts.tv_sec * UINT64_C(1000) + ts.tv_nsec / 1000000;
}

static void set(Edu *edu, unsigned reg, uint64_t value)
{
    *(volatile uint64_t *)(edu->bar + reg) = value;
}

static void dma(Edu *edu, uint64_t src, uint64_t dst, unsigned n,
                uint64_t command)
{
    uint64_t end = now_ms() + TIMEOUT_MS;

    set(edu, EDU_DMA_SRC, src);
    set(edu, EDU_DMA_DST, dst);
    set(edu, EDU_DMA_COUNT, n);
    set(edu, EDU_DMA_CMD, command | EDU_DMA_RUN);
    while (*(volatile uint64_t *)(edu->bar + EDU_DMA_CMD) & EDU_DMA_RUN) {
        if (now_ms() > end) {
            die("%s does not finish its DMA", edu->name);
        }
        usleep(5000);
    }
    __sync_synchronize();
}

void edu_read(Edu *edu, uint64_t iova, unsigned n)
{
    dma(edu, iova, EDU_BUFFER, n, 0);
}

void edu_write(Edu *edu, uint64_t iova, unsigned n)
{
    dma(edu, EDU_BUFFER, iova, n, EDU_DMA_TO_RAM);
}

uint64_t edu_interrupts(Edu *edu)
{
    struct {
        struct vfio_irq_set set;
        int32_t fd;
    } irq = {
        .set = {
            .argsz = sizeof(irq),
            .flags = VFIO_IRQ_SET_DATA_EVENTFD | VFIO_IRQ_SET_ACTION_TRIGGER,
            .index = VFIO_PCI_MSI_IRQ_INDEX,
            .count = 1,
        },
        .fd = eventfd(0, EFD_NONBLOCK),
    };
    struct pollfd pfd = { .fd = irq.fd, .events = POLLIN };
    uint64_t n = 0;

    if (irq.fd < 0 || call(edu->fd, VFIO_DEVICE_SET_IRQS, &irq)) {
        die("%s: VFIO_DEVICE_SET_IRQS: %s", edu->name, strerror(errno));
    }
    *(volatile uint32_t *)(edu->bar + EDU_RAISE) = 1;
    if (poll(&pfd, 1, TIMEOUT_MS) == 1 &&
        read(irq.fd, &n, sizeof(n)) != sizeof(n)) {
        die("reading an eventfd: %s", strerror(errno));
    }
    *(volatile uint32_t *)(edu->bar + EDU_ACK) = 1;
    close(irq.fd);
    return n;
}

/* Objects */

int ioas_alloc(int iommufd, uint32_t *ioas)
{
    struct iommu_ioas_alloc alloc = { .size = sizeof(alloc) };
    int error = call(iommufd, IOMMU_IOAS_ALLOC, &alloc);

    *ioas = alloc.out_ioas_id;
    return error;
}

int hwpt_alloc(int iommufd, const Edu *edu, uint32_t pt, uint32_t flags,
               uint32_t *hwpt)
{
    struct iommu_hwpt_alloc alloc = {
        .size = sizeof(alloc),
        .flags = flags,
        .dev_id = edu->id,
        .pt_id = pt,
    };
    int error = call(iommufd, IOMMU_HWPT_ALLOC, &alloc);

    *hwpt = alloc.out_hwpt_id;
    return error;
}

int destroy(int iommufd, uint32_t id)
{
    struct iommu_destroy destroy = { .size = sizeof(destroy), .id = id };

    return call(iommufd, IOMMU_DESTROY, &destroy);
}

/* Mappings */

int ioas_map(int iommufd, uint32_t ioas, void *memory, uint64_t iova,
             uint64_t size, uint32_t flags)
{
    struct iommu_ioas_map map = {
        .size = sizeof(map),
        .flags = flags | IOMMU_IOAS_MAP_FIXED_IOVA,
        .ioas_id = ioas,
        .user_va = (uintptr_t)memory,
        .length = size,
        .iova = iova,
    };

    return call(iommufd, IOMMU_IOAS_MAP, &map);
}

int ioas_unmap(int iommufd, uint32_t ioas, uint64_t iova, uint64_t *size)
{
    struct iommu_ioas_unmap unmap = {
        .size = sizeof(unmap),
        .ioas_id = ioas,
        .iova = iova,
        .length = *size,
    };
    int error = call(iommufd, IOMMU_IOAS_UNMAP, &unmap);

    *size = error ? 0 : unmap.length;
    return error;
}

int ioas_copy(int iommufd, uint32_t to, uint32_t from, uint64_t from_iova,
              uint64_t size, uint64_t *iova)
{
    struct iommu_ioas_copy copy = {
        .size = sizeof(copy),
        .flags = IOMMU_IOAS_MAP_READABLE | IOMMU_IOAS_MAP_WRITEABLE,
        .dst_ioas_id = to,
        .src_ioas_id = from,
        .length = size,
        .src_iova = from_iova,
    };
    int error = call(iommufd, IOMMU_IOAS_COPY, &copy);

    *iova = copy.dst_iova;
    return error;
}

void *new_pages(size_t size)
{
    void *pages = mmap(NULL, size, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);

    if (pages == MAP_FAILED) {
        die("no memory");
    }
    return pages;
}

uint64_t counter(const char *name)
{
    FILE *f = fopen(STATE "/counters", "r");
    char word[32];
    unsigned long long n;

    while (f && fscanf(f, "%31s %llu", word, &n) == 2) {
        if (!strcmp(word, name)) {
            fclose(f);
            return n;
        }
    }
    die("there is no counter %s", name);
}
