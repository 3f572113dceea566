/*
 * xen-pviommu: processors that run while the memory map changes
 *
 * Each function of the bus has an address space of its own, so that a change
 * of the memory map takes longer than without xen-pviommu. Processors that TCG
 * emulates run on meanwhile, with TLB entries of the map before.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "hw/pci/pci_regs.h"
#include "libqos/firmware.h"
#include "libqos/xen-pviommu.h"

#define TOGGLES         1500
#define NR_CPUS         2

/* What a processor has in memory: the device it uses, and counters. */
#define CPU_AREA(cpu)   (0x2000 + (cpu) * 0x1000)
#define AREA_DEVICE     0
#define AREA_ROUNDS     4
#define AREA_ERRORS     8

/* Slots on the root bus; those from SLOT_FILL on are only there. */
#define SLOT_TOGGLED    0x11
#define SLOT_BETWEEN    0x12
#define SLOT_EDU        0x13
#define SLOT_FILL       0x16
#define NR_FILL         9

/*
 * The firmware, from f000:0000, where both processors start:
 *
 *           .code16
 *   start:  cli
 *           lgdtl   %cs:(gdtr - start)
 *           movl    %cr0, %eax
 *           orb     $1, %al
 *           movl    %eax, %cr0
 *           ljmpl   $8, $(0xf0000 + (flat - start))
 *           .balign 8
 *   gdt:    .quad   0, 0x00cf9b000000ffff, 0x00cf93000000ffff
 *   gdtr:   .word   23
 *           .long   0xf0000 + (gdt - start)
 *           .balign 4
 *           .code32
 *   flat:   movw    $16, %ax
 *           movw    %ax, %ds
 *           movl    $0x1b, %ecx
 *           rdmsr
 *           movl    $0x2000, %edi           # CPU_AREA(0)
 *           testb   $1, %ah                 # the processor that boots?
 *           jnz     boot
 *           movl    $0x3000, %edi           # CPU_AREA(1)
 *           jmp     wait
 *   boot:   movl    $0xc4500, 0xfee00300    # INIT, then SIPI to f000:0000
 *           movl    $0xc46f0, 0xfee00300
 *   wait:   movl    (%edi), %esi            # the device, when it is set up
 *           testl   %esi, %esi
 *           jz      wait
 *   loop:   imull   $1103515245, %edx
 *           addl    $12345, %edx
 *           movl    %edx, %ecx
 *           shrl    $25, %ecx
 *           incl    %ecx
 *   1:      loop    1b
 *           movl    %edx, 4(%esi)           # what is written there ...
 *           cmpl    $0x010000ed, (%esi)     # (here its ID)
 *           jne     bad
 *           movl    4(%esi), %eax           # ... is read inverted
 *           notl    %eax
 *           cmpl    %edx, %eax
 *           je      good
 *   bad:    incl    8(%edi)
 *   good:   incl    4(%edi)
 *           jmp     loop
 */
static const uint8_t firmware[] = {
    0xfa, 0x2e, 0x66, 0x0f, 0x01, 0x16, 0x30, 0x00, 0x0f, 0x20, 0xc0, 0x0c,
    0x01, 0x0f, 0x22, 0xc0, 0x66, 0xea, 0x38, 0x00, 0x0f, 0x00, 0x08, 0x00,
    0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0xff, 0xff, 0x00, 0x00,
    0x00, 0x9b, 0xcf, 0x00, 0xff, 0xff, 0x00, 0x00, 0x00, 0x93, 0xcf, 0x00,
    0x17, 0x00, 0x18, 0x00, 0x0f, 0x00, 0x66, 0x90, 0x66, 0xb8, 0x10, 0x00,
    0x8e, 0xd8, 0xb9, 0x1b, 0x00, 0x00, 0x00, 0x0f, 0x32, 0xbf, 0x00, 0x20,
    0x00, 0x00, 0xf6, 0xc4, 0x01, 0x75, 0x07, 0xbf, 0x00, 0x30, 0x00, 0x00,
    0xeb, 0x14, 0xc7, 0x05, 0x00, 0x03, 0xe0, 0xfe, 0x00, 0x45, 0x0c, 0x00,
    0xc7, 0x05, 0x00, 0x03, 0xe0, 0xfe, 0xf0, 0x46, 0x0c, 0x00, 0x8b, 0x37,
    0x85, 0xf6, 0x74, 0xfa, 0x69, 0xd2, 0x6d, 0x4e, 0xc6, 0x41, 0x81, 0xc2,
    0x39, 0x30, 0x00, 0x00, 0x89, 0xd1, 0xc1, 0xe9, 0x19, 0x41, 0xe2, 0xfe,
    0x89, 0x56, 0x04, 0x81, 0x3e, 0xed, 0x00, 0x00, 0x01, 0x75, 0x09, 0x8b,
    0x46, 0x04, 0xf7, 0xd0, 0x39, 0xd0, 0x74, 0x03, 0xff, 0x47, 0x08, 0xff,
    0x47, 0x04, 0xeb, 0xd0,
};

static char *make_firmware(void)
{
    g_autofree uint8_t *image = g_malloc0(FIRMWARE_SIZE);

    memcpy(image, firmware, sizeof(firmware));
    firmware_set_reset(image);
    return firmware_write(image);
}

/* A function with a BAR, behind those of the functions before. */
static void add_bar(QXenPVIOMMU *iommu, unsigned slot, int bar_nr,
                    QPCIDevice *dev, QPCIBar *bar)
{
    QPCIAddress addr = { .devfn = QPCI_DEVFN(slot, 0) };

    qpci_device_init(dev, iommu->pci, &addr);
    *bar = qpci_iomap(dev, bar_nr, NULL);
    qpci_config_writew(dev, PCI_COMMAND, PCI_COMMAND_MEMORY);
}

static uint32_t area(QXenPVIOMMU *iommu, unsigned cpu, unsigned word)
{
    return qtest_readl(iommu->qts, CPU_AREA(cpu) + word);
}

/*
 * The processors use a device each, above a BAR that comes and goes, and at
 * each change the sections of the memory map are numbered anew.
 */
static void test_accesses_survive_map_changes(const void *machine)
{
    g_autofree char *bios = make_firmware();
    g_autoptr(GString) extra = g_string_new(NULL);
    QPCIDevice toggled, between, edu;
    QXenPVIOMMU *iommu;
    QPCIBar bar;

    g_string_printf(extra, "-accel tcg,thread=multi -smp %u -bios %s "
                    "-device pci-testdev,addr=%x -device pci-testdev,addr=%x ",
                    NR_CPUS, bios, SLOT_TOGGLED, SLOT_BETWEEN);
    for (unsigned i = 0; i < NR_CPUS; i++) {
        g_string_append_printf(extra, "-device edu,addr=%x ", SLOT_EDU + i);
    }
    for (unsigned i = 0; i < NR_FILL; i++) {
        g_string_append_printf(extra, "-device edu,addr=%x ", SLOT_FILL + i);
    }
    iommu = pviommu_start(machine, NULL, extra->str);
    unlink(bios);

    add_bar(iommu, SLOT_TOGGLED, 0, &toggled, &bar);
    for (unsigned i = 0; i < NR_CPUS; i++) {
        if (i) {
            /* So that a device's neighbour is not another one of its kind. */
            add_bar(iommu, SLOT_BETWEEN, 0, &between, &bar);
        }
        add_bar(iommu, SLOT_EDU + i, 0, &edu, &bar);
        qtest_writel(iommu->qts, CPU_AREA(i) + AREA_DEVICE, bar.addr);
    }
    for (unsigned i = 0; i < NR_CPUS; i++) {
        while (!area(iommu, i, AREA_ROUNDS)) {
            g_usleep(1000);
        }
    }

    for (unsigned i = 0; i < TOGGLES; i++) {
        qpci_config_writew(&toggled, PCI_COMMAND,
                           i & 1 ? PCI_COMMAND_MEMORY : 0);
    }
    for (unsigned i = 0; i < NR_CPUS; i++) {
        g_test_message("processor %u: %u rounds", i,
                       area(iommu, i, AREA_ROUNDS));
        g_assert_cmpuint(area(iommu, i, AREA_ERRORS), ==, 0);
    }
    pviommu_quit(iommu);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);

    if (!qtest_has_accel("tcg")) {
        g_test_skip("no TCG");
        return 0;
    }
    pviommu_add_for_machines("tcg/accesses-survive-map-changes",
                             test_accesses_survive_map_changes);
    return g_test_run();
}
