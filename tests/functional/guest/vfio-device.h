/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A PCI function that a program drives through VFIO (type 1), for programs of
 * the guest: what they share, and how they say what went well
 */

#ifndef TESTS_GUEST_VFIO_DEVICE_H
#define TESTS_GUEST_VFIO_DEVICE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define PAGE            4096u

typedef struct VfioDevice {
    char name[32];              /* 0000:00:05.0 */
    int container;
    int device;
} VfioDevice;

/* Before the lines of this program; it defines it. */
extern const char program[];

/* Whether a check() failed. */
extern bool failed;

/* The program cannot test: exit status 2. */
void __attribute__((noreturn, format(printf, 1, 2))) die(const char *fmt, ...);

/* A line that says whether @what is as it must be, and in parentheses more. */
void __attribute__((format(printf, 3, 4)))
check(bool ok, const char *what, const char *fmt, ...);

/* The first function with these IDs, taken from its driver */
void vfio_open(VfioDevice *dev, unsigned vendor, unsigned device);

/* Whether the IOMMU's driver remaps interrupts: by default, but under Xen */
bool remaps_interrupts(void);

/* BAR @nr; the function decodes memory from then on, and may do DMA. */
void *vfio_map_bar(VfioDevice *dev, unsigned nr);

/* By its own means (FLR); what was enabled before is so no more. */
void vfio_reset(VfioDevice *dev);

void vfio_map(VfioDevice *dev, void *memory, uint64_t iova, size_t size,
              bool readonly);
void vfio_unmap(VfioDevice *dev, uint64_t iova, size_t size);

/* @nr vectors of VFIO's interrupt @index: an eventfd each */
void vfio_enable_irqs(VfioDevice *dev, unsigned index, int *fds, unsigned nr);

/* How often it came since it was last asked; waits for that. */
uint64_t raised(int fd, int ms);

uint64_t now_ms(void);

/* Memory that is there */
void *new_pages(size_t n);

#endif /* TESTS_GUEST_VFIO_DEVICE_H */
