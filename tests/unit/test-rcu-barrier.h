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
    QemuEvent done;
} RcuBarrier;

static void rcu_barrier_done(RcuBarrier *b)
{
    qemu_event_set(&b->done);
}

/* All that call_rcu() got before has been called. */
static inline void rcu_barrier(void)
{
    RcuBarrier b;

    qemu_event_init(&b.done, false);
    call_rcu(&b, rcu_barrier_done, rcu);
    qemu_event_wait(&b.done);
    qemu_event_destroy(&b.done);
}

#endif /* TESTS_UNIT_TEST_RCU_BARRIER_H */
