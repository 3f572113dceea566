/*
 * Two processors that KVM runs, and what interrupts they take
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef TESTS_LIBQOS_KVM_CPUS_H
#define TESTS_LIBQOS_KVM_CPUS_H

#include "libqtest.h"

#define KVM_CPUS        2

/**
 * kvm_cpus_missing: why there can be none on this machine
 * @irqchip: as in -machine kernel-irqchip=
 *
 * They are tried in another QEMU: one that KVM fails may end, or stand still.
 *
 * Returns: NULL if they can be had
 */
char *kvm_cpus_missing(const char *irqchip);

/** kvm_cpus_check: with TCG they work, so that it is KVM if they do not */
void kvm_cpus_check(void);

/** kvm_cpus_args: on a command line, behind that of the machine */
char *kvm_cpus_args(const char *irqchip);

/** kvm_cpus_wait: after a start or a reset, until they take interrupts */
void kvm_cpus_wait(QTestState *qts);

/** kvm_cpus_reset: the machine, with all that was counted forgotten */
void kvm_cpus_reset(QTestState *qts);

/** kvm_cpus_count: how often processor @cpu has taken @vector */
uint32_t kvm_cpus_count(QTestState *qts, unsigned cpu, uint8_t vector);

/** kvm_cpus_count_all: how often all of them have taken any */
uint32_t kvm_cpus_count_all(QTestState *qts);

/** kvm_cpus_wait_count: until it is @count; fails the test if it never is */
void kvm_cpus_wait_count(QTestState *qts, unsigned cpu, uint8_t vector,
                         uint32_t count);

#endif
