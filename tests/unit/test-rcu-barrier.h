/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * drain_call_rcu() needs the BQL; this does not.
 */

#ifndef TESTS_UNIT_TEST_RCU_BARRIER_H
#define TESTS_UNIT_TEST_RCU_BARRIER_H

#include "qemu/rcu.h"
#include "qemu/thread.h"

typedef struct RcuBarrier {
    struct rcu_head rcu;
    QemuSemaphore done;         /* TSan does not know what QemuEvent is */
} RcuBarrier;

static void rcu_barrier_done(RcuBarrier *b)
{
    qemu_sem_post(&b->done);
}

/* All that call_rcu() got before has been called. */
static inline void rcu_barrier(void)
{
    RcuBarrier b;

    qemu_sem_init(&b.done, 0);
    call_rcu(&b, rcu_barrier_done, rcu);
    qemu_sem_wait(&b.done);
    qemu_sem_destroy(&b.done);
}

#endif /* TESTS_UNIT_TEST_RCU_BARRIER_H */
