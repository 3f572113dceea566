# SPDX-License-Identifier: GPL-2.0-or-later
"""What pages that leave a guest cost, page by page and with the global flush
(tests/bench/invalidation)."""

import json
import os

import svg
from report import Goal, Plot, Table, Text, duration, number

TITLE = 'Pages that leave the guest'
ORDER = 4
MINUTES = 4

PROGRAM = 'xen-pviommu/tests/bench/xen-pviommu-bench-invalidation'
OURS, OLDER, ALL = 'page by page', 'older Linux', 'everything'
SUBJECTS = [OURS, OLDER, ALL]
ORDERS = ['in order', 'random']
# Names of what the program says, and what they are.
PARTS = [('waited', 'the guest waits'), ('late', 'devices map again'),
         ('total', 'both')]


def targets():
    return [PROGRAM, 'qemu-system-x86_64']


def run(bench):
    if not os.path.isdir(os.path.join(bench.out, 'xen-pviommu/tests/xensim')):
        bench.say('left out, as QEMU was built without Xen')
        return
    options = ['--rounds', '1' if bench.quick else '3']
    environment = {
        **os.environ, 'QTEST_QEMU_BINARY': './qemu-system-x86_64',
        'XENSIM_DIR': os.path.join(bench.out, 'xen-pviommu/tests/xensim')}
    said = 0
    for line in bench.lines([os.path.join(bench.out, PROGRAM), *options], 600,
                            cwd=bench.out, env=environment):
        # libqtest says what it starts.
        if not line.startswith('{'):
            continue
        sample = json.loads(line)
        op, subject = sample.pop('op'), sample.pop('subject')
        value, unit = sample.pop('value'), sample.pop('unit')
        if op == 'total' and subject == ALL and sample['order'] == ORDERS[-1]:
            said += 1
            bench.say(f'round {said}')
        bench.entries.sample(op, subject, value, unit, **sample)


def report(e):
    sizes = e.params('one', 'mapped_mib')
    if not sizes:
        yield Text('Not measured: QEMU was built without Xen.')
        return
    yield Text('''The real ``accel=xen`` QEMU under the simulated hypervisor
(``tests/xensim``): with one that names the pages, under a Linux that does not
let QEMU replace a part of a mapping; the same under one that does, as older
ones; and with a hypervisor that does not name them and has QEMU forget
everything, as Xen does. All are the same build of QEMU. A hypercall takes 511 single pages away, which is what the buffered ring
holds. Times are from the ioreq to its answer, for that long the guest's vCPU
stands still. The simulator maps pages with mmap(), which takes less than what
Linux's privcmd does: on a real Xen, what has to be mapped again costs more.''')
    gains = [(f'{o}{other}', e.ratio('total', s, ALL, order=o))
             for s, other in ((OURS, ''), (OLDER, ' (older Linux)'))
             for o in ORDERS]
    yield Goal('1 GiB leaves, devices use 256 MiB meanwhile: at least 10 times '
               'less time in all', ', '.join(f'{number(g)} times {o}'
                                             for o, g in gains),
               all(g >= 10 for _, g in gains))
    grown = [e.get('batch', s, mapped_mib=sizes[-1]) /
             e.get('batch', s, mapped_mib=sizes[0]) for s in SUBJECTS]
    # Twice: what is in the caches differs.
    yield Goal('a hypercall does not take longer the more is mapped',
               f'{number(grown[0])} times with {sizes[-1]:,} MiB mapped what it '
               f'takes with {sizes[0]} MiB (older Linux: {number(grown[1])} '
               f'times; everything: {number(grown[2])} times)', grown[0] < 2)
    yield Plot('balloon', svg.bars(
        '1 GiB leaves the guest in single pages', 'ms',
        [f'{text}, {o}' for o in ORDERS for text in ('it waits', 'in all')],
        [(s, [e.get(name, s, order=o) / 1e6 for o in ORDERS
              for name in ('waited', 'total')]) for s in SUBJECTS]),
        '''Time that the guest waits for answers; and with what its devices take
longer to use 256 pages of 256 other MiB between any two hypercalls. Pages
leave in order or at random.''')
    yield Plot('stall', svg.lines(
        'One hypercall takes 511 pages away', 'MiB in the mapcache', 'us',
        [(s, [(n, v / 1e3) for n, v in e.series('batch', s, 'mapped_mib')])
         for s in SUBJECTS]), 'The 511 pages are of 64 MiB in all cases.')
    rows = []
    for op, text in (('one', 'one page'), ('batch', '511 pages of 64 MiB')):
        for n in sizes:
            rows.append([f'{text}, {n:,} MiB mapped'] +
                        [duration(e.get(op, s, mapped_mib=n)) for s in SUBJECTS] +
                        [number(e.ratio(op, OURS, ALL, mapped_mib=n))])
    for o in ORDERS:
        for name, text in PARTS + [('longest', 'the longest hypercall')]:
            rows.append([f'1 GiB {o}: {text}'] +
                        [duration(e.get(name, s, order=o)) for s in SUBJECTS] +
                        [number(e.ratio(name, OURS, ALL, order=o))])
        rows.append([f'1 GiB {o}: calls that map or unmap'] +
                    [number(e.get('calls', s, order=o)) for s in SUBJECTS] + ['-'])
    yield Table('Times', ['what', *SUBJECTS, 'gain'], rows)
