/*
 * Two processors that KVM runs, and what interrupts they take
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/bswap.h"
#include "libqos/firmware.h"
#include "libqos/kvm-cpus.h"
#include "libqos/xen-pviommu.h"

/* What a processor has in memory: a counter for each vector, and its stack. */
#define CPU_AREA(cpu)   (0x4000 + (cpu) * 0x1000)
#define COUNT_ADDR(cpu, vector) (CPU_AREA(cpu) + (vector) * 4)
#define NR_VECTORS      256
#define COUNTS_SIZE     (NR_VECTORS * 4)

/* It sends this to itself when it is ready. */
#define VECTOR_READY    0x30

/* Where in the firmware the vectors are, and what each of them jumps to. */
#define IVT             0x400
#define STUBS           0x800
#define STUB_SIZE       8

/* A port by which the machine ends: with 2 * 16 + 1, as 16 is written to it */
#define EXIT_DEVICE     "-device isa-debug-exit,iobase=0xf4,iosize=1"
#define EXIT_STATUS     33
/* In seconds. The machine may be slow, and what is emulated in part is. */
#define EXIT_TIME       60
/* Of timeout(1) */
#define EXIT_TIMED_OUT  124

/*
 * It stays in real mode, which all kinds of KVM can do, but sees 4 GiB. %esi is
 * the processor's area, %edi its local APIC.
 *
 *           .code16
 *   start:  cli
 *           lgdtl   %cs:(gdtr - start)
 *           movl    %cr0, %eax
 *           orb     $1, %al
 *           movl    %eax, %cr0
 *           movw    $8, %bx
 *           movw    %bx, %ds                # 4 GiB, also after this
 *           decw    %ax
 *           movl    %eax, %cr0
 *           xorl    %ebx, %ebx
 *           movw    %bx, %ds
 *           movw    %bx, %ss
 *           lidtl   %cs:(idtr - start)
 *           movl    $0xfee00000, %edi
 *           movl    $0x1ff, 0xf0(%edi)      # enable it
 *           movl    0x20(%edi), %esi        # its ID, at bit 24
 *           leal    0x1000000(%esi), %eax   # logically, a bit: 1 and 2
 *           movl    %eax, 0xd0(%edi)
 *           shrl    $12, %esi
 *           addw    $0x4000, %si            # CPU_AREA(ID)
 *           leal    0x1000(%esi), %esp
 *           movl    $0x44030, 0x300(%edi)   # VECTOR_READY to itself
 *           sti
 *           cmpw    $0x4000, %si            # the processor that boots?
 *           jne     idle
 *           movl    $0xc4500, 0x300(%edi)   # INIT, then SIPI to f000:0000
 *           movl    $0xc46f0, 0x300(%edi)
 *   wait:   cmpb    $0, 0x10c0(%esi)        # the other one is ready?
 *           je      wait
 *           movb    $0x10, %al
 *           outb    %al, $0xf4              # EXIT_DEVICE, if there is one
 *   idle:   hlt
 *           jmp     idle
 *   count:  popw    %bx                     # the vector, from the stub
 *           incl    (%esi, %ebx, 4)
 *           movl    $0, 0xb0(%edi)          # EOI
 *           iretw
 *           .balign 8
 *   gdt:    .quad   0, 0x008f93000000ffff
 *   gdtr:   .word   15
 *           .long   0xf0000 + (gdt - start)
 *   idtr:   .word   0x3ff
 *           .long   0xf0400                 # IVT
 */
static const uint8_t code[] = {
    0xfa, 0x2e, 0x66, 0x0f, 0x01, 0x16, 0xc0, 0x00, 0x0f, 0x20, 0xc0, 0x0c,
    0x01, 0x0f, 0x22, 0xc0, 0xbb, 0x08, 0x00, 0x8e, 0xdb, 0x48, 0x0f, 0x22,
    0xc0, 0x66, 0x31, 0xdb, 0x8e, 0xdb, 0x8e, 0xd3, 0x2e, 0x66, 0x0f, 0x01,
    0x1e, 0xc6, 0x00, 0x66, 0xbf, 0x00, 0x00, 0xe0, 0xfe, 0x67, 0x66, 0xc7,
    0x87, 0xf0, 0x00, 0x00, 0x00, 0xff, 0x01, 0x00, 0x00, 0x67, 0x66, 0x8b,
    0x77, 0x20, 0x67, 0x66, 0x8d, 0x86, 0x00, 0x00, 0x00, 0x01, 0x67, 0x66,
    0x89, 0x87, 0xd0, 0x00, 0x00, 0x00, 0x66, 0xc1, 0xee, 0x0c, 0x81, 0xc6,
    0x00, 0x40, 0x67, 0x66, 0x8d, 0xa6, 0x00, 0x10, 0x00, 0x00, 0x67, 0x66,
    0xc7, 0x87, 0x00, 0x03, 0x00, 0x00, 0x30, 0x40, 0x04, 0x00, 0xfb, 0x81,
    0xfe, 0x00, 0x40, 0x75, 0x26, 0x67, 0x66, 0xc7, 0x87, 0x00, 0x03, 0x00,
    0x00, 0x00, 0x45, 0x0c, 0x00, 0x67, 0x66, 0xc7, 0x87, 0x00, 0x03, 0x00,
    0x00, 0xf0, 0x46, 0x0c, 0x00, 0x67, 0x80, 0xbe, 0xc0, 0x10, 0x00, 0x00,
    0x00, 0x74, 0xf6, 0xb0, 0x10, 0xe6, 0xf4, 0xf4, 0xeb, 0xfd, 0x5b, 0x67,
    0x66, 0xff, 0x04, 0x9e, 0x67, 0x66, 0xc7, 0x87, 0xb0, 0x00, 0x00, 0x00,
    0x00, 0x00, 0x00, 0x00, 0xcf, 0x8d, 0x74, 0x00, 0x00, 0x00, 0x00, 0x00,
    0x00, 0x00, 0x00, 0x00, 0xff, 0xff, 0x00, 0x00, 0x00, 0x93, 0x8f, 0x00,
    0x0f, 0x00, 0xb0, 0x00, 0x0f, 0x00, 0xff, 0x03, 0x00, 0x04, 0x0f, 0x00,
};
/* Of the label, in the code */
#define CODE_COUNT      0x9a

static char *bios_path;

static void remove_bios(void)
{
    unlink(bios_path);
}

static const char *get_bios(void)
{
    if (!bios_path) {
        g_autofree uint8_t *image = g_malloc0(FIRMWARE_SIZE);

        memcpy(image, code, sizeof(code));
        for (unsigned vector = 0; vector < NR_VECTORS; vector++) {
            unsigned stub = STUBS + vector * STUB_SIZE;

            stw_le_p(image + IVT + vector * 4, stub);
            stw_le_p(image + IVT + vector * 4 + 2, FIRMWARE_SEG);
            image[stub] = 0x68;         /* pushw $vector */
            stw_le_p(image + stub + 1, vector);
            image[stub + 3] = 0xe9;     /* jmp count */
            stw_le_p(image + stub + 4, CODE_COUNT - (stub + 6));
        }
        firmware_set_reset(image);
        bios_path = firmware_write(image);
        atexit(remove_bios);
    }
    return bios_path;
}

static char *cpus_args(const char *accel)
{
    /* Not more than they need: some kinds of KVM have little else. */
    return g_strdup_printf("-accel %s -cpu 486,+apic -smp %u -bios %s ", accel,
                           KVM_CPUS, get_bios());
}

char *kvm_cpus_args(const char *irqchip)
{
    g_autofree char *accel = g_strconcat("kvm -machine kernel-irqchip=",
                                         irqchip, NULL);

    return cpus_args(accel);
}

/* What a QEMU says that could not do it: in its last line */
static char *reason(int status, char *err)
{
    g_auto(GStrv) lines = g_strsplit(g_strchomp(err), "\n", 0);
    guint nr = g_strv_length(lines);

    if (WIFEXITED(status) && WEXITSTATUS(status) == EXIT_TIMED_OUT) {
        return g_strdup("the processors do not get to work");
    }
    return g_strdup(nr ? lines[nr - 1] : "QEMU ended");
}

/* Run them in a QEMU of their own, which ends when they work. */
static char *try_cpus(const char *args)
{
    const char *qemu = g_getenv("QTEST_QEMU_BINARY");
    /* There may be a debugger before it. */
    const char *last = strrchr(qemu, ' ');
    g_autofree char *command = NULL, *out = NULL, *err = NULL;
    g_autoptr(GError) error = NULL;
    int status;

    /* What it leaks would change its status. */
    command = g_strdup_printf("env LSAN_OPTIONS=detect_leaks=0 timeout %u %s "
                              "-nodefaults -display none -m 16 %s " EXIT_DEVICE,
                              EXIT_TIME, last ? last + 1 : qemu, args);
    g_spawn_command_line_sync(command, &out, &err, &status, &error);
    g_assert_no_error(error);
    if (WIFEXITED(status) && WEXITSTATUS(status) == EXIT_STATUS) {
        return NULL;
    }
    return reason(status, err);
}

char *kvm_cpus_missing(const char *irqchip)
{
    g_autofree char *args = kvm_cpus_args(irqchip);

    if (access("/dev/kvm", R_OK | W_OK)) {
        return g_strdup_printf("/dev/kvm: %s", strerror(errno));
    }
    return try_cpus(args);
}

void kvm_cpus_check(void)
{
    g_autofree char *args = cpus_args("tcg");
    g_autofree char *missing = try_cpus(args);

    g_assert_cmpstr(missing, ==, NULL);
}

uint32_t kvm_cpus_count(QTestState *qts, unsigned cpu, uint8_t vector)
{
    g_assert_cmpuint(cpu, <, KVM_CPUS);
    return qtest_readl(qts, COUNT_ADDR(cpu, vector));
}

uint32_t kvm_cpus_count_all(QTestState *qts)
{
    uint32_t counts[KVM_CPUS][NR_VECTORS];
    uint32_t sum = 0;

    for (unsigned cpu = 0; cpu < KVM_CPUS; cpu++) {
        qtest_bufread(qts, CPU_AREA(cpu), counts[cpu], sizeof(counts[cpu]));
        for (unsigned vector = 0; vector < NR_VECTORS; vector++) {
            sum += le32_to_cpu(counts[cpu][vector]);
        }
    }
    return sum;
}

void kvm_cpus_wait_count(QTestState *qts, unsigned cpu, uint8_t vector,
                         uint32_t count)
{
    g_assert_cmpuint(cpu, <, KVM_CPUS);
    pviommu_wait_readl(qts, COUNT_ADDR(cpu, vector), count);
}

void kvm_cpus_wait(QTestState *qts)
{
    for (unsigned cpu = 0; cpu < KVM_CPUS; cpu++) {
        kvm_cpus_wait_count(qts, cpu, VECTOR_READY, 1);
    }
}

void kvm_cpus_reset(QTestState *qts)
{
    /* Stopped, so that none counts in between. */
    qtest_qmp_assert_success(qts, "{'execute': 'stop'}");
    for (unsigned cpu = 0; cpu < KVM_CPUS; cpu++) {
        qtest_memset(qts, CPU_AREA(cpu), 0, COUNTS_SIZE);
    }
    qtest_system_reset(qts);
    qtest_qmp_assert_success(qts, "{'execute': 'cont'}");
}
