# SPDX-License-Identifier: GPL-2.0-or-later
"""What an interrupt of a device costs, remapped and not
(tests/bench/guest/irq-bench)."""

import machines
import svg
from machines import (AMD, AMD_IR, INTEL, INTEL_IR, LABELS, NONE, OURS, OURS_IR,
                      VIRTIO)
from report import Goal, Plot, Table, Text, duration, number

TITLE = 'Interrupts'
ORDER = 3
MINUTES = 5

SUBJECTS = [NONE, VIRTIO, OURS, OURS_IR, INTEL, INTEL_IR, AMD, AMD_IR]
# How the name of an irq_chip begins that is that of a device; and of those that
# remap, what the same IOMMU is without.
CHIPS = {OURS_IR: 'PVIOMMU-PCI-MSI', INTEL_IR: 'IR-PCI-MSI', AMD_IR: 'IR-PCI-MSI'}
WITHOUT = {OURS_IR: OURS, INTEL_IR: INTEL, AMD_IR: AMD}

# The NVMe with Intel's ids is irq-bench's, which is loaded first.
DEVICES = [
    '-device', 'edu', '-device', 'nvme,serial=vectors,use-intel-id=on',
    '-blockdev', f'null-co,node-name=d0,size={1 << 30},read-zeroes=on',
    '-device', 'nvme,drive=d0,serial=bench',
    '-blockdev', f'null-co,node-name=d1,size={1 << 30},read-zeroes=on',
    '-device', 'virtio-blk-pci,drive=d1,iommu_platform=on,disable-legacy=on']
SETUP = ['insmod /modules/irq-bench.ko', 'load drivers',
         'soon test -b /dev/nvme0n1 && soon test -b /dev/vda', machines.LAZY]
FILE = '/sys/module/irq_bench/parameters/run'
VECTORS = 16
# What is said of it, what irq-bench is told, vectors at a time, and bursts, which
# take a tenth of a second. Only what is remapped can be told to be so anew.
CASES = {
    'access': ('an access to the device', 'access {n}', 1, 1000),
    'own': ('an interrupt, at the CPU that has it raised', 'raise {n} 0', 1, 1000),
    'other': ('an interrupt, at another CPU', 'raise {n} 1', 1, 100),
    'update': ('a change of affinity without a move', 'update {n}', 1, 1000),
    'move': ('a move to another CPU, and an interrupt', 'move {n}', 1, 20),
    'msi': ('MSI: one vector, allocated, requested and freed', 'msi {n}', 1, 200),
    'msix': (f'MSI-X: the same, of {VECTORS} vectors each', f'msix {{n}} {VECTORS}',
             VECTORS, 50),
}
# What it is said of, what io-bench is told.
DISKS = {
    'nvme-1': ('NVMe, one at a time', '/dev/nvme0n1 read random pages 4096 1'),
    'nvme-32': ('NVMe, 32 at a time', '/dev/nvme0n1 read random pages 4096 32'),
    'virtio-1': ('virtio-blk, one at a time', '/dev/vda read random pages 4096 1'),
    'virtio-32': ('virtio-blk, 32 at a time', '/dev/vda read random pages 4096 32'),
}


def targets():
    return machines.targets()


def cases(subject):
    return [c for c, what in CASES.items() if c != 'update' or subject in CHIPS]


def measure(machine, case, share=1):
    """ns of one, and how many there were."""
    _, command, vectors, bursts = CASES[case]
    bursts = max(int(bursts * share), 2)
    answer = machine.run(f'echo {command.format(n=bursts)} > {FILE} && cat {FILE}')
    count, ns, chip = answer.split()
    wanted = CHIPS.get(machine.iommu, 'PCI-MSI')
    if not chip.startswith(wanted):
        raise RuntimeError(f'behind {machine.iommu} an interrupt is of {chip}, '
                           f'and not of {wanted}')
    count = int(count) * vectors
    return int(ns) / count, count * bursts


def requests(machine, disk, ms):
    """Of 4 KiB, a second."""
    return machines.counts(machine.run(f'io-bench disk {DISKS[disk][1]} {ms}')) / 4096


def doorbells(bench, machine):
    """What of it the device is called for, where it is done often enough for
    what irq-bench does before and after it not to matter."""
    def counter():
        return machine.qmp('x-query-xen-pviommu')['counters']['doorbells']

    for case in ('own', 'update', 'msi', 'msix'):
        before = counter()
        _, count = measure(machine, case)
        bench.entries.sample('doorbells', OURS_IR, (counter() - before) / count,
                             'each', case=case)


def run(bench):
    rounds, share, ms = (2, 0.2, 100) if bench.quick else (7, 1, 250)
    machines.prepare(bench)
    with machines.Machines(bench, SUBJECTS, DEVICES, SETUP) as guests:
        for iommu, machine in guests.turns():
            for case in cases(iommu):
                measure(machine, case, 0.1)
            for disk in DISKS:
                requests(machine, disk, 50)
        for n in range(rounds):
            bench.say(f'round {n + 1} of {rounds}')
            for iommu, machine in guests.turns():
                for case in cases(iommu):
                    ns, _ = measure(machine, case, share)
                    bench.entries.sample('irq', iommu, ns, 'ns', case=case)
            for iommu, machine in guests.turns():
                for disk in DISKS:
                    bench.entries.sample('requests', iommu,
                                         requests(machine, disk, ms), '1/s',
                                         disk=disk)
        machine = guests.all[OURS_IR]
        machine.go_on()
        doorbells(bench, machine)
        machine.stop()


def times(ratio):
    return '-' if ratio is None else f'{number(ratio)} times'


def between(quartiles):
    return '-' if quartiles is None else ' to '.join(number(q) for q in quartiles)


def goals(e):
    for text, chosen in (
            ('an interrupt that is remapped', ('own', 'other')),
            ('a change of its affinity', ('move', 'update')),
            ('to allocate and free its vector', ('msi', 'msix'))):
        found = {c: [ratio('irq', INTEL_IR, OURS_IR, case=c)
                     for ratio in (e.ratio, e.ratio_quartiles, e.ratio_shortest)]
                 for c in chosen}
        yield Goal(f'{text}: no dearer than with {LABELS[INTEL_IR]}',
                   '; '.join(f'{CASES[c][0]}: {times(r)} ({between(q)}; shortest {times(s)})'
                             for c, (r, q, s) in found.items()),
                   all(r <= 1 for r, _, _ in found.values()))


def added(e, subject, case):
    """What remapping adds to it, in ns: the difference of the medians."""
    with_it, without = (e.get('irq', s, case=case) for s in (subject, WITHOUT[subject]))
    return None if without is None else with_it - without


def signed(ns):
    return '-' if ns is None else ('-' if ns < 0 else '+') + duration(abs(ns))


def rung(e, case):
    value = e.get('doorbells', OURS_IR, case=case)
    return '-' if value is None else f'{value:.1f}'


def report(e):
    yield Text(f'''A kernel module has QEMU's edu device raise an interrupt, by
MSI, and waits until its handler has run, and so on; the time is that of both,
and of the access that raises it, which has a row of its own. Linux
{machines.KERNEL} of Debian with two processors, under TCG, lazy. All guests are
booted first and stand still but one; they take turns, 7 samples, each of which is the shortest of many bursts, which are
shorter than a time slice of the host. That
an interrupt is remapped, or not, is seen from its irq_chip. All local APICs are
in xAPIC mode, so that their registers cost the same everywhere; Linux has x2APIC
mode without a hypervisor's help with intel-iommu and amd-iommu only.''')
    yield Text('''A move is ``irq_set_affinity()`` to the other CPU, and an
interrupt after it: without remapping Linux moves it only then. The two ticks that
Linux takes to free the old vector are not in it, nor is ``/proc``. A change
without a move is ``irq_set_affinity()`` to masks that all have the CPU where it
is: Linux chooses no new vector, and tells the IOMMU the same again. Vectors are
allocated with ``pci_alloc_irq_vectors()``, requested, and all freed. Disks are
those of "Disks and network", one sample being 250 ms.''')
    yield Text('''Of a goal's ratios, half of the pairs of samples are in the
range in parentheses, and the ratio of the shortest samples is there, too: a host
that others use, too, may be half as fast for seconds. The median decides.''')
    yield from goals(e)
    yield Plot('irqs', svg.bars(
        'From a device to the handler', 'us', ['own CPU', 'another CPU'],
        [(LABELS[s], [e.get('irq', s, case=c) / 1000 for c in ('own', 'other')])
         for s in SUBJECTS]),
        'How long an interrupt takes from an access that raises it until its '
        'handler has run.')
    yield Table('Interrupts', ['', *[LABELS[s] for s in SUBJECTS]],
                [[what[0], *[duration(e.get('irq', s, case=c)) for s in SUBJECTS]]
                 for c, what in CASES.items()])
    yield Table('What remapping adds',
                ['', *[LABELS[s] for s in WITHOUT]],
                [[what[0], *[signed(added(e, s, c)) for s in WITHOUT]]
                 for c, what in CASES.items() if c != 'update'])
    yield Table(f'{LABELS[OURS_IR]}: beside the others, and the doorbells of it',
                ['', *[LABELS[s] for s in SUBJECTS if s != OURS_IR], 'doorbells'],
                [[what[0], *[times(e.ratio('irq', s, OURS_IR, case=c))
                                 for s in SUBJECTS if s != OURS_IR],
                  rung(e, c)] for c, what in CASES.items()])
    yield Table('Requests of 4 KiB a second, lazy',
                ['', *[LABELS[s] for s in SUBJECTS]],
                [[text, *[svg.short(e.get('requests', s, disk=d)) for s in SUBJECTS]]
                 for d, (text, _) in DISKS.items()])
    yield Table('Of those without remapping, lazy', ['', *[LABELS[s] for s in WITHOUT]],
                [[text, *[f'{number(100 * e.ratio("requests", peer, s, disk=d))} %'
                          for s, peer in WITHOUT.items()]]
                 for d, (text, _) in DISKS.items()])
