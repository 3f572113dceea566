# SPDX-License-Identifier: GPL-2.0-or-later
"""What a mapping, a request and an interrupt cost a guest in instructions and in
accesses to the IOMMU: counts, which are the same on any machine
(tests/bench/guest/dma-bench, irq-bench, io-bench.c)."""

import irqs
import machines
from dma import DEVICES, FILE, LIST, PAGE, SETUP, SIZES
from machines import AMD_IR, CALLS, INTEL_IR, LABELS, NONE, OURS, OURS_IR, PEERS
from report import Goal, Table, Text, number

TITLE = 'Instructions and exits'
ORDER = 2.5
MINUTES = 8

SUBJECTS = [OURS, CALLS, *PEERS, NONE]
CASES = [PAGE, (65536, 1, 1), (2 << 20, 1, 1), LIST]
# An NVMe, as its registers are no virtio device's: what io-bench is told, and the
# bytes of a request.
NVME = ['-blockdev', f'null-co,node-name=d0,size={1 << 30},read-zeroes=on',
        '-device', 'nvme,drive=d0,serial=bench']
REQUESTS = {
    '4 KiB': ('/dev/nvme0n1 read random pages 4096 32', 4096),
    '1 MiB of huge pages': ('/dev/nvme0n1 read sequential huge 1048576 8', 1 << 20),
    '256 single pages': ('/dev/nvme0n1 read sequential pages 1048576 8', 1 << 20),
}
# Of interrupts: what one processor can do.
REMAPPING = [OURS_IR, INTEL_IR, AMD_IR, NONE]
INTERRUPTS = ('own', 'msi', 'msix')
# How names of regions begin that are registers of an IOMMU.
REGISTERS = {OURS: 'xen-pviommu', CALLS: 'xen-pviommu', 'virtio-iommu': 'virtio-pci',
             'intel-iommu': 'intel_iommu', 'intel-iommu-cm': 'intel_iommu',
             'amd-iommu': 'amdvi'}
# For what it would cost with hardware: instructions a ns, and ns of an exit to QEMU.
RATE, EXITS = 3, (1000, 3000, 10000)


def targets():
    return machines.targets()


def title(case):
    return SIZES[case[0]] + (f', a list of {case[1]}' if case[1] > 1 else '')


def names(case):
    return {'bytes': case[0], 'pieces': case[1]}


def command(case, ms):
    return f'echo run {case[0]} {case[1]} 1 1 {ms} > {FILE} && cat {FILE}'


def measure(bench, iommu, machine, mode, ms):
    for case in CASES:
        # What is done for the first time is done by now.
        machine.run(command(case, 1))
        count, instructions = map(int, machine.run(command(case, ms)).split())
        bench.entries.sample('instructions', iommu, instructions / count, 'each',
                             mode=mode, **names(case))
        if iommu != NONE:
            found, answer = machine.accesses(command(case, max(ms // 4, 1)))
            exits = sum(n for name, n in found.items() if name.startswith(REGISTERS[iommu]))
            bench.entries.sample('exits', iommu, exits / int(answer.split()[0]), 'each',
                                 mode=mode, **names(case))


def measure_interrupts(bench):
    with machines.Machines(bench, REMAPPING, irqs.DEVICES, irqs.SETUP[:1],
                           counted=True) as guests:
        for iommu, machine in guests.turns():
            for case in INTERRUPTS:
                irqs.measure(machine, case, 0.01)
                ns, _ = irqs.measure(machine, case, 0.1)
                bench.entries.sample('instructions', iommu, ns, 'each', case=case)


def measure_requests(bench, iommu, machine, mode, ms):
    for case, (told, size) in REQUESTS.items():
        machine.run(f'io-bench disk {told} 1')
        found, answer = machine.accesses(f'io-bench disk {told} {ms}')
        exits = sum(n for name, n in found.items() if name.startswith(REGISTERS[iommu]))
        bench.entries.sample('exits', iommu, exits / (int(answer.split()[0]) / size), 'each',
                             mode=mode, case=case)


def run(bench):
    ms = 8 if bench.quick else 80
    machines.prepare(bench)
    setup = [*SETUP, 'load drivers', 'soon test -b /dev/nvme0n1',
             'echo 8 > /proc/sys/vm/nr_hugepages']
    with machines.Machines(bench, SUBJECTS, [*DEVICES, *NVME], setup, counted=True) as guests:
        for mode in ('strict', 'lazy'):
            for iommu, machine in guests.turns():
                bench.say(f'{mode}, {LABELS[iommu]}')
                if mode == 'lazy':
                    machine.run(machines.LAZY)
                measure(bench, iommu, machine, mode, ms)
                if iommu != NONE:
                    measure_requests(bench, iommu, machine, mode, ms)
    measure_interrupts(bench)


def added(e, subject, mode, case):
    """Instructions beyond those without an IOMMU."""
    return (e.get('instructions', subject, mode=mode, **names(case)) -
            e.get('instructions', NONE, mode=mode, **names(case)))


def expected(e, subject, mode, case, exit_ns):
    return (e.get('instructions', subject, mode=mode, **names(case)) / RATE +
            e.get('exits', subject, mode=mode, **names(case)) * exit_ns)


def goals(e):
    why = {OURS: 'a doorbell has a full queue run, as no device does DMA here',
           CALLS: 'both are waited for: a listener has to know of them'}
    for subject, most in ((OURS, 0), (CALLS, 1)):
        exits = e.get('exits', subject, mode='strict', **names(PAGE))
        yield Goal(f'{LABELS[subject]}: at most {most} exits for a strict map and unmap of '
                   '4 KiB', number(exits), exits <= most, why[subject] * (exits > most))
    worse = [f'{title(case)}, {mode} ({LABELS[peer]})' for mode in ('strict', 'lazy')
             for case in CASES for peer in PEERS
             if added(e, peer, mode, case) < added(e, OURS, mode, case)]
    yield Goal('fewer instructions than with any peer',
               'in all rows' if not worse else f'not {"; ".join(worse)}', not worse)
    ours, theirs = ([e.get('instructions', s, case=c) for c in INTERRUPTS]
                    for s in (OURS_IR, INTEL_IR))
    yield Goal('an interrupt that is remapped: no more instructions than with '
               f'{LABELS[INTEL_IR]}',
               '; '.join(f'{irqs.CASES[c][0]}: {number(a)} and {number(b)}'
                         for c, a, b in zip(INTERRUPTS, ours, theirs)),
               all(a <= b for a, b in zip(ours, theirs)),
               'at its end one may have to finish a move to another CPU, as without an '
               'IOMMU: what the kernel\'s own IOMMUs call instead, at the move, no module '
               'can call')


def table(e, text, what):
    """A row for each kind of buffer."""
    shown = [s for s in SUBJECTS if e.get(what, s, mode='strict', **names(PAGE)) is not None]
    return Table(text, ['buffer', 'mode', *[LABELS[s] for s in shown]],
                 [[title(case), mode, *[number(e.get(what, s, mode=mode, **names(case)))
                                        for s in shown]]
                  for mode in ('strict', 'lazy') for case in CASES])


def report(e):
    yield Text(f'''The workload of "DMA API", in a guest with one processor whose clock goes
on by a nanosecond an instruction (``-icount shift=0``): so what the guest measures is
how many instructions it takes. They are the same on any machine, but for what Linux
does now and then. An exit is an access to a register of the IOMMU, as
``memory_region_ops_*`` traces have it; with virtio-iommu, to any register of a virtio
device. Linux {machines.KERNEL} of Debian.''')
    yield from goals(e)
    yield table(e, 'Instructions of the guest for a map and an unmap', 'instructions')
    yield table(e, 'Exits for a map and an unmap', 'exits')
    yield Table('Exits for a request of an NVMe disk, as in "Disks and network"',
                ['', 'mode', *[LABELS[s] for s in SUBJECTS if s != NONE]],
                [[case, mode, *[number(e.get('exits', s, mode=mode, case=case))
                                for s in SUBJECTS if s != NONE]]
                 for mode in ('strict', 'lazy') for case in REQUESTS])
    yield Table('Instructions of the guest for an interrupt, as in "Interrupts"',
                ['', *[LABELS[s] for s in REMAPPING]],
                [[irqs.CASES[c][0], *[number(e.get('instructions', s, case=c))
                                      for s in REMAPPING]] for c in INTERRUPTS])
    yield Text(f'''What that comes to where instructions take {1 / RATE:.2f} ns each, for
some costs of an exit to QEMU and of what QEMU does then; both are assumed. The work that QEMU does later, for translations,
is not in it, nor is what VFIO does.''')
    for case in (PAGE, LIST):
        yield Table(f'Expected for a map and an unmap, {title(case)}, strict, in ns',
                    ['an exit takes', *[LABELS[s] for s in SUBJECTS if s != NONE]],
                    [[f'{ns:,} ns', *[number(expected(e, s, 'strict', case, ns))
                                      for s in SUBJECTS if s != NONE]] for ns in EXITS])
