# SPDX-License-Identifier: GPL-2.0-or-later
"""What a mapping costs a guest's driver: Linux's DMA API behind each IOMMU
(tests/bench/guest/dma-bench)."""

import machines
import svg
from machines import (CALLS, INTEL, INTEL_CM, LABELS, NONE, OURS, PEERS,
                      VIRTIO)
from report import Goal, Plot, Table, Text, duration, number

TITLE = 'DMA API'
ORDER = 2
MINUTES = 5

SUBJECTS = [OURS, CALLS, *PEERS, NONE]
DEVICES = ['-device', 'edu']
SETUP = ['insmod /modules/dma-bench.ko']
FILE = '/sys/module/dma_bench/parameters/run'
# Bytes of a buffer, buffers, threads.
PAGE, LIST = (4096, 1, 1), (4096, 64, 1)
CASES = [PAGE, (65536, 1, 1), (2 << 20, 1, 1), LIST, (4096, 1, 2), (65536, 1, 2),
         (2 << 20, 1, 2)]
SIZES = {4096: '4 KiB', 65536: '64 KiB', 2 << 20: '2 MiB'}


def targets():
    return machines.targets()


def title(size, pieces, threads):
    text = SIZES[size] + (f', a list of {pieces}' if pieces > 1 else '')
    return text + (f'; {threads} vCPUs' if threads > 1 else '')


def names(case):
    return dict(zip(('bytes', 'pieces', 'threads'), case))


def measure(machine, case, ms, devices=1):
    """ns for a map and an unmap, and how many there were."""
    size, pieces, threads = case
    answer = machine.run(f'echo run {size} {pieces} {threads} {devices} {ms} > '
                         f'{FILE} && cat {FILE}')
    count, ns = map(int, answer.split())
    return ns / count, count


def counters(machine):
    return machine.qmp('x-query-xen-pviommu')['counters']


def count_all(bench, machine, subject, mode, ms):
    machine.go_on()
    for case in CASES:
        before = counters(machine)
        _, count = measure(machine, case, ms)
        after = counters(machine)
        for what in ('doorbells', 'operations', 'flushes'):
            bench.entries.sample(
                what, subject, (after[what] - before[what]) / count, 'each',
                mode=mode, **names(case))
    machine.stop()


def run(bench):
    rounds, ms = (2, 40) if bench.quick else (7, 100)
    machines.prepare(bench)
    with machines.Machines(bench, SUBJECTS, DEVICES, SETUP) as guests:
        for mode in ('strict', 'lazy'):
            for _, machine in guests.turns():
                if mode == 'lazy':
                    machine.run(machines.LAZY)
            for n in range(rounds):
                bench.say(f'{mode}, round {n + 1} of {rounds}')
                for iommu, machine in guests.turns():
                    for case in CASES:
                        ns, _ = measure(machine, case, ms)
                        bench.entries.sample('dma', iommu, ns, 'ns', mode=mode,
                                             **names(case))
            for subject in (OURS, CALLS):
                count_all(bench, guests.all[subject], subject, mode, ms)


def times(ratio):
    return '-' if ratio is None else f'{number(ratio)} times'


def goals(e):
    def took(subject, mode):
        return duration(e.get('dma', subject, mode=mode, **names(PAGE)))

    for peer, wanted in ((VIRTIO, 3), (INTEL_CM, 2)):
        ratio = e.ratio('dma', OURS, peer, mode='strict', **names(PAGE))
        yield Goal(f'4 KiB, strict: {wanted} times as many as {LABELS[peer]}',
                   times(ratio), ratio >= wanted, '' if ratio >= wanted else
                   f'{took(OURS, "strict")}, of {LABELS[peer]}\'s '
                   f'{took(peer, "strict")}; most of it is what Linux does '
                   'whichever IOMMU there is: '
                   f'{LABELS[INTEL]} without caching-mode, lazy, takes '
                   f'{took(INTEL, "lazy")} and hardly ever tells the device')
    for subject in (OURS, CALLS):
        lists = [e.get('doorbells', subject, mode=mode, **names(LIST))
                 for mode in ('strict', 'lazy')]
        # A flush by Linux's timer comes in between now and then.
        yield Goal(f'{LABELS[subject]}: a batch is one doorbell at the most',
                   f'mapping a list of {LIST[1]} and unmapping it: '
                   f'{number(lists[0])} doorbells strict, {number(lists[1])} lazy',
                   lists[0] <= 2.01 and lists[1] <= 1.05)


def report(e):
    yield Text(f'''A kernel module maps a buffer for an edu device with
``dma_map_single()``, unmaps it, and so on; a list is 64 pages, none beside
another, with ``dma_map_sg()``. Linux {machines.KERNEL} of Debian with two
processors, under TCG. All guests are booted first and stand still but one; they
take turns, 7 samples of 100 ms. Strict: a flush for each unmap. Lazy
(``DMA-FQ``): one flush for many; Linux chooses that for a group of devices by
itself, but not behind an IOMMU in caching mode, nor behind an emulated
amd-iommu: there it was told to. No device does DMA meanwhile, so that here a
full queue has all of it run by the guest's processor; without queues is how it
is while a device of the host is assigned.''')
    yield from goals(e)
    for mode in ('strict', 'lazy'):
        groups = [title(*case) for case in CASES if case[2] == 1]
        yield Plot(f'dma-{mode}', svg.bars(
            f'Map and unmap, {mode}', '1/s', groups,
            [(LABELS[s], [per_second(e, s, mode, case) for case in CASES
                          if case[2] == 1]) for s in SUBJECTS if s != NONE]),
            f'How often a second a buffer is mapped and unmapped, {mode}.')
    for mode in ('strict', 'lazy'):
        rows = [[title(*case),
                 *[svg.short(per_second(e, s, mode, case)) for s in SUBJECTS]]
                for case in CASES]
        yield Table(f'Map and unmap a second, {mode}',
                    ['buffer', *[LABELS[s] for s in SUBJECTS]], rows)
    rows = [[title(*case), mode,
             *[times(e.ratio('dma', OURS, s, mode=mode, **names(case)))
               for s in (CALLS, *PEERS)]]
            for mode in ('strict', 'lazy') for case in CASES]
    yield Table('xen-pviommu is faster than',
                ['buffer', 'mode', *[LABELS[s] for s in (CALLS, *PEERS)]], rows)
    for subject in (OURS, CALLS):
        rows = [[title(*case), mode,
                 *[number(e.get(what, subject, mode=mode, **names(case)))
                   for what in ('doorbells', 'operations', 'flushes')]]
                for mode in ('strict', 'lazy') for case in CASES]
        yield Table(f'What {LABELS[subject]} counted, for a map and an unmap',
                    ['buffer', 'mode', 'doorbells', 'operations', 'flushes'],
                    rows)


def per_second(e, subject, mode, case):
    ns = e.get('dma', subject, mode=mode, **names(case))
    return 1e9 / ns if ns else None
