# SPDX-License-Identifier: GPL-2.0-or-later
"""What grows with what, in a guest (tests/bench/guest/dma-bench)."""

import machines
import svg
from dma import FILE, PAGE, SETUP, measure
from machines import INTEL_CM, LABELS, OURS, VIRTIO
from report import Goal, Plot, Table, Text, duration, number

TITLE = 'Growth'
ORDER = 5
MINUTES = 3

SUBJECTS = [OURS, VIRTIO, INTEL_CM]
NR_DEVICES = 16
DEVICES = ['-device', 'edu'] * NR_DEVICES
MAPPINGS = [0, 10000, 100000, 1000000]
CONTEXTS = [1, 2, 4, 8, NR_DEVICES]
BATCHES = [1, 4, 16, 64, 256]
PER_CONTEXT = 1000


def targets():
    return machines.targets()


def hold(machine, pages, devices=1):
    machine.run(f'echo hold {pages} {devices} > {FILE}', 300)


def run(bench):
    rounds, ms = (2, 40) if bench.quick else (5, 100)
    machines.prepare(bench)
    with machines.Machines(bench, SUBJECTS, DEVICES, SETUP) as guests:
        def sample(what, key, cases):
            """Those of one round right after one another."""
            for _ in range(rounds):
                for iommu, machine in guests.turns():
                    for value, case, devices in cases:
                        ns, _ = measure(machine, case, ms, devices)
                        bench.entries.sample(what, iommu, ns / case[1], 'ns',
                                             **{key: value})

        bench.say('sizes of a list')
        sample('batch', 'batch', [(n, (4096, n, 1), 1) for n in BATCHES])
        bench.say('devices, each with a context')
        for _, machine in guests.turns():
            hold(machine, PER_CONTEXT, NR_DEVICES)
        sample('contexts', 'contexts', [(n, PAGE, n) for n in CONTEXTS])
        for n in MAPPINGS[:3] if bench.quick else MAPPINGS:
            bench.say(f'{n:,} mappings')
            for _, machine in guests.turns():
                hold(machine, n)
            sample('mappings', 'mappings', [(n, PAGE, 1)])
            for _ in range(1 if bench.quick else 3):
                for iommu, machine in guests.turns():
                    bench.entries.sample('pause', iommu, machine.migrate(), 'ms',
                                         mappings=n)


def growth(e, what, subject, key):
    """The last over the first."""
    series = e.series(what, subject, key)
    return series[-1][1] / series[0][1]


def pause(e, subject, mappings):
    """What so many make it longer by, in ms."""
    return (e.get('pause', subject, mappings=mappings) -
            e.get('pause', subject, mappings=0))


def goals(e):
    most = e.params('mappings', 'mappings')[-1]
    ratio = growth(e, 'mappings', OURS, 'mappings')
    yield Goal(f'with {most:,} pages mapped, a map and an unmap cost no more than '
               '1.5 times what they do with none', f'{number(ratio)} times '
               f'({LABELS[VIRTIO]}: '
               f'{number(growth(e, "mappings", VIRTIO, "mappings"))})', ratio <= 1.5)
    ratio = growth(e, 'contexts', OURS, 'contexts')
    yield Goal(f'with {NR_DEVICES} devices in turn, not more than 1.5 times what '
               'they cost with one', f'{number(ratio)} times', ratio <= 1.5)
    ours, other = (pause(e, s, most) for s in (OURS, VIRTIO))
    yield Goal(f'{most:,} mappings make the pause of a migration no longer than '
               'those of virtio-iommu do', f'{number(ours)} ms more '
               f'({LABELS[VIRTIO]}: {number(other)} ms)', ours <= other)


def report(e):
    yield Text(f'''The guest of "DMA API" with {NR_DEVICES} edu devices, strict: what
a map and an unmap of 4 KiB take, with other pages mapped all the time, each by
itself; with {PER_CONTEXT:,} pages mapped for each device, of which some, in a context
each, take turns; and a page of a list that is mapped and unmapped
at once. The pause is that of a migration into a QEMU on the same machine, until
that could run the guest; intel-iommu's mappings are in the guest's memory, and
go with it.''')
    yield from goals(e)
    for what, key, title, text in (
            ('mappings', 'mappings', 'Map and unmap of a page, beside others',
             'Others stay mapped.'),
            ('contexts', 'contexts', 'Map and unmap of a page, devices in turn',
             'Each device is in a context of its own.'),
            ('batch', 'batch', 'Map and unmap, a page of a list',
             'A list is mapped at once, and unmapped at once. No device does DMA '
             'here: QEMU would look at the tables of intel-iommu when one does, '
             'for each page. All that xen-pviommu has to do is done by then, '
             'and counted.')):
        yield Plot(f'growth-{what}', svg.lines(
            title, {'batch': 'pages in the list'}.get(key, key), 'ns',
            [(LABELS[s], [(max(x, 1), y) for x, y in e.series(what, s, key)])
             for s in SUBJECTS]), text)
        yield Table(title, [{'batch': 'pages'}.get(key, key),
                            *[LABELS[s] for s in SUBJECTS]],
                    [[f'{n:,}', *[duration(e.get(what, s, **{key: n}))
                                  for s in SUBJECTS]] for n in e.params(what, key)])
    yield Table('The pause of a migration',
                ['mappings', *[LABELS[s] for s in SUBJECTS]],
                [[f'{n:,}', *[f'{number(e.get("pause", s, mappings=n))} ms'
                              for s in SUBJECTS]]
                 for n in e.params('pause', 'mappings')])
