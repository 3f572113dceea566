/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A PCI function that a program drives through VFIO (type 1)
 */

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
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

#include "vfio-device.h"

#define PCI_DEVICES     "/sys/bus/pci/devices"
#define MAX_VECTORS     8

bool failed;

void die(const char *fmt, ...)
{
    va_list ap;

    printf("%s: cannot test: ", program);
    va_start(ap, fmt);
    vprintf(fmt, ap);
    va_end(ap);
    printf("\n");
    exit(2);
}

void check(bool ok, const char *what, const char *fmt, ...)
{
    va_list ap;

    printf("%s: %s: %s (", program, what, ok ? "ok" : "FAILED");
    va_start(ap, fmt);
    vprintf(fmt, ap);
    va_end(ap);
    printf(")\n");
    fflush(stdout);
    failed |= !ok;
}

uint64_t now_ms(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return ts.tv_sec * UINT64_C(1000) + ts.tv_nsec / 1000000;
}

void *new_pages(size_t n)
{
    void *pages = mmap(NULL, n * PAGE, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);

    if (pages == MAP_FAILED) {
        die("no memory");
    }
    return pages;
}

/* sysfs */

static void write_file(const char *path, const char *text, bool must)
{
    int fd = open(path, O_WRONLY);

    if (fd < 0 || write(fd, text, strlen(text)) < 0) {
        if (must) {
            die("%s: %s", path, strerror(errno));
        }
    }
    if (fd >= 0) {
        close(fd);
    }
}

static unsigned read_hex(const char *name, const char *attribute)
{
    char path[512], text[32] = "";
    int fd;

    snprintf(path, sizeof(path), PCI_DEVICES "/%s/%s", name, attribute);
    fd = open(path, O_RDONLY);
    if (fd < 0 || read(fd, text, sizeof(text) - 1) < 0) {
        die("%s: %s", path, strerror(errno));
    }
    close(fd);
    return strtoul(text, NULL, 16);
}

static void find(VfioDevice *dev, unsigned vendor, unsigned device)
{
    DIR *dir = opendir(PCI_DEVICES);
    struct dirent *entry;

    if (!dir) {
        die(PCI_DEVICES ": %s", strerror(errno));
    }
    while ((entry = readdir(dir))) {
        if (entry->d_name[0] == '.' ||
            strlen(entry->d_name) >= sizeof(dev->name)) {
            continue;
        }
        if (read_hex(entry->d_name, "vendor") == vendor &&
            read_hex(entry->d_name, "device") == device) {
            strcpy(dev->name, entry->d_name);
            closedir(dir);
            return;
        }
    }
    die("no device %04x:%04x", vendor, device);
}

bool remaps_interrupts(void)
{
    static const char parameter[] =
        "/sys/module/xen_pviommu/parameters/interrupts";
    FILE *f = fopen(parameter, "r");
    bool on = f && fgetc(f) == 'Y';

    if (f) {
        fclose(f);
    }
    return on && access("/sys/hypervisor/type", F_OK);
}

static void bind_to_vfio(VfioDevice *dev)
{
    char path[256];

    snprintf(path, sizeof(path), PCI_DEVICES "/%s/driver/unbind", dev->name);
    write_file(path, dev->name, false);
    snprintf(path, sizeof(path), PCI_DEVICES "/%s/driver_override", dev->name);
    write_file(path, "vfio-pci", true);
    write_file("/sys/bus/pci/drivers_probe", dev->name, true);

    /*
     * Where interrupts are not remapped VFIO wants to be told that this is all
     * right; elsewhere it is not.
     */
    write_file("/sys/module/vfio_iommu_type1/parameters/"
               "allow_unsafe_interrupts", remaps_interrupts() ? "0" : "1",
               false);
}

/* VFIO */

static void open_in_group(VfioDevice *dev)
{
    struct vfio_group_status status = { .argsz = sizeof(status) };
    char path[256], target[256];
    ssize_t len;
    int group;

    snprintf(path, sizeof(path), PCI_DEVICES "/%s/iommu_group", dev->name);
    len = readlink(path, target, sizeof(target) - 1);
    if (len < 0) {
        die("%s is in no IOMMU group", dev->name);
    }
    target[len] = 0;
    snprintf(path, sizeof(path), "/dev/vfio%.200s", strrchr(target, '/'));

    dev->container = open("/dev/vfio/vfio", O_RDWR);
    if (dev->container < 0) {
        die("/dev/vfio/vfio: %s", strerror(errno));
    }
    if (ioctl(dev->container, VFIO_GET_API_VERSION) != VFIO_API_VERSION) {
        die("another version of VFIO");
    }
    group = open(path, O_RDWR);
    if (group < 0) {
        die("%s: %s", path, strerror(errno));
    }
    if (ioctl(group, VFIO_GROUP_GET_STATUS, &status) < 0 ||
        !(status.flags & VFIO_GROUP_FLAGS_VIABLE)) {
        die("%s: the group has devices with other drivers", path);
    }
    if (ioctl(group, VFIO_GROUP_SET_CONTAINER, &dev->container) < 0) {
        die("VFIO_GROUP_SET_CONTAINER: %s", strerror(errno));
    }
    if (ioctl(dev->container, VFIO_SET_IOMMU, VFIO_TYPE1v2_IOMMU) < 0) {
        die("VFIO_SET_IOMMU: %s", strerror(errno));
    }
    dev->device = ioctl(group, VFIO_GROUP_GET_DEVICE_FD, dev->name);
    if (dev->device < 0) {
        die("VFIO_GROUP_GET_DEVICE_FD: %s", strerror(errno));
    }
}

void vfio_open(VfioDevice *dev, unsigned vendor, unsigned device)
{
    find(dev, vendor, device);
    bind_to_vfio(dev);
    open_in_group(dev);
}

static struct vfio_region_info region(VfioDevice *dev, unsigned index)
{
    struct vfio_region_info info = { .argsz = sizeof(info), .index = index };

    if (ioctl(dev->device, VFIO_DEVICE_GET_REGION_INFO, &info) < 0) {
        die("VFIO_DEVICE_GET_REGION_INFO: %s", strerror(errno));
    }
    return info;
}

/* The one thing VFIO leaves to its user: may the function do DMA? */
static void enable(VfioDevice *dev)
{
    off_t at = region(dev, VFIO_PCI_CONFIG_REGION_INDEX).offset + PCI_COMMAND;
    uint16_t command;

    if (pread(dev->device, &command, 2, at) != 2) {
        die("reading the configuration space: %s", strerror(errno));
    }
    command |= PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER;
    if (pwrite(dev->device, &command, 2, at) != 2) {
        die("writing the configuration space: %s", strerror(errno));
    }
}

void *vfio_map_bar(VfioDevice *dev, unsigned nr)
{
    struct vfio_region_info bar = region(dev, nr);
    void *map;

    enable(dev);
    map = mmap(NULL, bar.size, PROT_READ | PROT_WRITE, MAP_SHARED, dev->device,
               bar.offset);
    if (map == MAP_FAILED) {
        die("mapping BAR %u: %s", nr, strerror(errno));
    }
    return map;
}

void vfio_reset(VfioDevice *dev)
{
    if (ioctl(dev->device, VFIO_DEVICE_RESET) < 0) {
        die("VFIO_DEVICE_RESET: %s", strerror(errno));
    }
    enable(dev);
}

void vfio_map(VfioDevice *dev, void *memory, uint64_t iova, size_t size,
              bool readonly)
{
    struct vfio_iommu_type1_dma_map map = {
        .argsz = sizeof(map),
        .flags = VFIO_DMA_MAP_FLAG_READ |
                 (readonly ? 0 : VFIO_DMA_MAP_FLAG_WRITE),
        .vaddr = (uintptr_t)memory,
        .iova = iova,
        .size = size,
    };

    if (ioctl(dev->container, VFIO_IOMMU_MAP_DMA, &map) < 0) {
        die("mapping %zu bytes at IOVA %#" PRIx64 ": %s", size, iova,
            strerror(errno));
    }
}

void vfio_unmap(VfioDevice *dev, uint64_t iova, size_t size)
{
    struct vfio_iommu_type1_dma_unmap unmap = {
        .argsz = sizeof(unmap),
        .iova = iova,
        .size = size,
    };

    if (ioctl(dev->container, VFIO_IOMMU_UNMAP_DMA, &unmap) < 0 ||
        unmap.size != size) {
        die("unmapping IOVA %#" PRIx64 ": %s", iova, strerror(errno));
    }
}

void vfio_enable_irqs(VfioDevice *dev, unsigned index, int *fds, unsigned nr)
{
    struct {
        struct vfio_irq_set set;
        int32_t fds[MAX_VECTORS];
    } irq = {
        .set = {
            .argsz = sizeof(irq.set) + nr * sizeof(int32_t),
            .flags = VFIO_IRQ_SET_DATA_EVENTFD | VFIO_IRQ_SET_ACTION_TRIGGER,
            .index = index,
            .count = nr,
        },
    };

    if (nr > MAX_VECTORS) {
        die("%u vectors", nr);
    }
    for (unsigned i = 0; i < nr; i++) {
        irq.fds[i] = fds[i] = eventfd(0, EFD_NONBLOCK);
        if (fds[i] < 0) {
            die("eventfd: %s", strerror(errno));
        }
    }
    if (ioctl(dev->device, VFIO_DEVICE_SET_IRQS, &irq) < 0) {
        die("VFIO_DEVICE_SET_IRQS: %s", strerror(errno));
    }
}

uint64_t raised(int fd, int ms)
{
    struct pollfd pfd = { .fd = fd, .events = POLLIN };
    uint64_t n = 0;

    if (poll(&pfd, 1, ms) == 1 && read(fd, &n, sizeof(n)) != sizeof(n)) {
        die("reading an eventfd: %s", strerror(errno));
    }
    return n;
}
