/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * An edu device that a program drives through VFIO's cdev and iommufd, for
 * programs of the guest: what can fail returns 0 or an errno
 */

#ifndef TESTS_GUEST_IOMMUFD_DEVICE_H
#define TESTS_GUEST_IOMMUFD_DEVICE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define PAGE            4096u
#define EDU_SIZE        PAGE            /* of its buffer */

typedef struct Edu {
    char name[32];              /* 0000:00:05.0 */
    int fd;
    uint32_t id;                /* in iommufd, once it is bound */
    volatile uint8_t *bar;
} Edu;

/* Whether a check() failed. */
extern bool failed;

/* The program cannot test: exit status 2. */
void __attribute__((noreturn, format(printf, 1, 2))) die(const char *fmt, ...);

/* A line that says whether @what is as it must be, and in parentheses more. */
void __attribute__((format(printf, 3, 4)))
check(bool ok, const char *what, const char *fmt, ...);

/* @error is what it must be. */
void check_error(int error, int wanted, const char *what);

/* Both edus that vfio-pci has; each cdev is open, and bound to nothing. */
void edus_open(Edu *a, Edu *b);

/* Another file of the same cdev */
int edu_open_again(const Edu *edu);

int edu_bind(Edu *edu, int iommufd);

/* Its registers; it may do DMA from then on. */
void edu_start(Edu *edu);

/* @id is of an IOAS or a HWPT; if not NULL, @hwpt is where that is put. */
int edu_attach(Edu *edu, uint32_t id, uint32_t *hwpt);
int edu_detach(Edu *edu);

/* Its buffer gets @n bytes from there, or they come from its buffer. */
void edu_read(Edu *edu, uint64_t iova, unsigned n);
void edu_write(Edu *edu, uint64_t iova, unsigned n);

/* Has it raise its interrupt by MSI: how often it came. */
uint64_t edu_interrupts(Edu *edu);

/* Objects */

int ioas_alloc(int iommufd, uint32_t *ioas);
int hwpt_alloc(int iommufd, const Edu *edu, uint32_t pt, uint32_t flags,
               uint32_t *hwpt);
int destroy(int iommufd, uint32_t id);

/* Mappings; @flags are those of iommufd, without that of a fixed IOVA. */

int ioas_map(int iommufd, uint32_t ioas, void *memory, uint64_t iova,
             uint64_t size, uint32_t flags);
/* How much it was is in @size. */
int ioas_unmap(int iommufd, uint32_t ioas, uint64_t iova, uint64_t *size);
/* Somewhere */
int ioas_copy(int iommufd, uint32_t to, uint32_t from, uint64_t from_iova,
              uint64_t size, uint64_t *iova);

/* Memory that is there */
void *new_pages(size_t size);

/* Of the IOMMU's driver */
uint64_t counter(const char *name);

#endif /* TESTS_GUEST_IOMMUFD_DEVICE_H */
