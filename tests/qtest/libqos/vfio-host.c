/*
 * The host whose devices VFIO assigns
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "libqos/vfio-host.h"

VFIOHost vfio_host;

static int kernel_log = -1;

bool vfio_host_init(void)
{
    const char *edus = getenv("PVIOMMU_VFIO_EDUS");
    const char *bits = getenv("PVIOMMU_VFIO_BITS");

    vfio_host.nvme = getenv("PVIOMMU_VFIO_NVME");
    if (!edus || !bits || !vfio_host.nvme) {
        g_printerr("tests/functional/listeners starts this, on a host that "
                   "has what it needs.\n");
        return false;
    }
    vfio_host.edus = g_strsplit(edus, " ", 0);
    vfio_host.bits = atoi(bits);
    vfio_host.iommufd = getenv("PVIOMMU_VFIO_IOMMUFD");
    g_assert_cmpuint(g_strv_length(vfio_host.edus), ==, HOST_EDUS);
    return true;
}

void vfio_host_skip_log(void)
{
    if (kernel_log < 0) {
        kernel_log = open("/dev/kmsg", O_RDONLY | O_NONBLOCK);
        g_assert_cmpint(kernel_log, >=, 0);
    }
    lseek(kernel_log, 0, SEEK_END);
}

/* In the words of the kernel's driver for Intel's or AMD's */
bool vfio_host_fault_logged(uint64_t addr)
{
    g_autofree char *intel = g_strdup_printf("fault addr 0x%" PRIx64 " ", addr);
    g_autofree char *amd = g_strdup_printf("address=0x%" PRIx64 " ", addr);
    char line[8192];

    for (unsigned ms = 0; ms < 6000; ) {
        ssize_t len = read(kernel_log, line, sizeof(line) - 1);

        if (len > 0) {
            line[len] = 0;
            if (strstr(line, intel) || strstr(line, amd)) {
                return true;
            }
        } else if (errno != EPIPE) {
            g_usleep(10000);
            ms += 10;
        }
    }
    return false;
}

/* The kernel logs no more than some in a few seconds. */
void vfio_host_assert_faults(QEdu *edu, uint64_t addr)
{
    unsigned tries = 0;

    vfio_host_skip_log();
    do {
        g_assert_cmpuint(tries++, <, 10);
        edu_dma(edu, true, addr, 8);
    } while (!vfio_host_fault_logged(addr));
}
