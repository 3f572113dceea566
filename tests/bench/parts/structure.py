# SPDX-License-Identifier: GPL-2.0-or-later
"""What a mapping costs in the tables, beside other structures, in one process
(tests/bench/structure)."""

import json
import os

import svg
from report import Goal, Plot, Table, Text, duration, number

TITLE = 'Structure'
ORDER = 1
MINUTES = 8

PROGRAM = 'xen-pviommu/tests/bench/xen-pviommu-bench-structure'
SIZES = [1000, 100000, 1000000, 10000000]
# Of the program, and what they are.
OURS, TABLES, GTREE, IOVA, TREE, ARRAY, NONE = (
    'context', 'tables', 'gtree', 'iova-tree', 'interval-tree', 'array', 'none')
LABELS = {OURS: 'xen-pviommu', TABLES: 'BFN table and GFN index alone',
          GTREE: 'GTree, mutex', IOVA: 'IOVATree, mutex',
          TREE: 'interval tree, mutex', ARRAY: 'array'}
TREES = [GTREE, IOVA, TREE]


def targets():
    return [PROGRAM]


def run(bench):
    program = os.path.join(bench.out, PROGRAM)
    for n in [1000, 100000] if bench.quick else SIZES:
        options = ['--n', str(n)]
        options += (['--rounds', '3', '--ms', '4'] if bench.quick else
                    ['--rounds', '7', '--ms', '20'])
        # With a tree of millions, a search through all of it takes seconds.
        what = ['read', 'write', 'readers'] + (['range'] if n == 100000 else [])
        said = set()
        for line in bench.lines([program, *options, '--what', ','.join(what)],
                                1200):
            sample = json.loads(line)
            if sample['op'] not in said:
                said.add(sample['op'])
                bench.say(f'{n:,} mappings: {sample["op"]}')
            value, unit = sample.pop('value'), sample.pop('unit')
            bench.entries.sample(sample.pop('op'), sample.pop('structure'),
                                 value, unit, **sample)


def times(ratio):
    return '-' if ratio is None else f'{number(ratio)} times'


def range_costs(e, aligned, what='range'):
    """Of ranges of all sizes, the smallest first."""
    n = e.params('range', 'n')[0]
    return [e.get(what, OURS, n=n, nr=nr, aligned=aligned)
            for nr in e.params('range', 'nr')]


def range_worst(e, aligned):
    """How many single pages cost what the dearest range does."""
    cost = range_costs(e, aligned)
    return max(cost) / cost[0]


def range_memory(e):
    return max(range_costs(e, False, 'range_bytes'))


def goals(e):
    sizes = e.params('translate', 'n')
    most = sizes[-1]
    at = f'{most:,}'

    def faster(peer, order, subject=OURS):
        return e.ratio('translate', subject, peer, n=most, order=order)

    independent, chained = faster(GTREE, 'random'), faster(GTREE, 'chained')
    yield Goal(
        f'random translations at {at} mappings at least 100 times faster than '
        'the GTree', f'{times(independent)}; {times(chained)} where each waits for '
        'the one before', independent >= 100,
        '' if independent >= 100 else 'the array itself, which is the limit, is '
        f'{times(faster(GTREE, "random", ARRAY))} faster than the GTree, and '
        f'{times(faster(GTREE, "chained", ARRAY))} where each waits')
    slower = 1 / faster(ARRAY, 'random')
    yield Goal('and within 2 times of an array', f'{times(slower)}; '
               f'{times(1 / faster(ARRAY, "chained"))} where each waits for the '
               'one before', slower <= 2)

    for op, order, text in (
            ('strict', 'random', 'map and unmap at random, with references, flush '
             'and GFN index, at least 5 times faster than the GTree, which has '
             'none of these'),
            ('strict', 'sequential', 'the same in order'),
            ('lazy', 'random', 'the same at random, with one flush for 250'),
            ('lazy', 'sequential', 'the same in order, with one flush for 250')):
        found = [(n, e.ratio(op, OURS, GTREE, n=n, order=order)) for n in sizes]
        missed = [n for n, r in found if r < 5]
        yield Goal(text, ', '.join(f'{times(r)} at {n:,}' for n, r in found),
                   not missed, '' if not missed else
                   f'not with {" and ".join(f"{n:,}" for n in missed)}: so few are '
                   'in the caches, and it is instructions that count. The tables '
                   'alone, which do what the GTree does and the GFN index, are '
                   + ', '.join(times(e.ratio(op, TABLES, GTREE, n=n, order=order))
                               for n in missed) + ' faster; the rest is '
                   'references and what waits for a flush')

    size = e.get('bytes', OURS, n=most)
    yield Goal('at most 20 bytes a mapping when dense',
               f'{number(size)} at {at}, {number(e.get("bytes", OURS, n=sizes[1]))} '
               f'at {sizes[1]:,} (GTree: {number(e.get("bytes", GTREE, n=most))})',
               size <= 20)

    sizes_of_ranges = e.params('range', 'nr')
    if sizes_of_ranges:
        few = range_worst(e, False) <= 64
        yield Goal('a range of any size at the cost of a few entries',
                   f'up to {sizes_of_ranges[-1]:,} pages: at most what '
                   f'{number(range_worst(e, True))} pages by themselves cost when BFN and '
                   f'GFN are aligned, {number(range_worst(e, False))} when they are not, '
                   f'and {number(range_memory(e) / 1024)} KiB', few, '' if few else
                   'not when they are not aligned: at each end a run takes up to '
                   '511 slots a level, which are written one by one; whatever its '
                   f'size, that is {duration(max(range_costs(e, False)))} at most')

    readers = e.params('readers', 'readers')
    if len(readers) > 1:
        def gain(subject, writer=False):
            one, two = (e.get('readers', subject, n=most, readers=r, writer=writer)
                        for r in readers[:2])
            return two / one

        yield Goal('readers take no lock and scale with threads',
                   f'2 threads do {number(gain(OURS))} times what one does (array: '
                   f'{number(gain(ARRAY))}, GTree: {number(gain(GTREE))})',
                   gain(OURS) >= 1.7)


def report(e):
    sizes = e.params('translate', 'n')
    most = sizes[-1]
    yield Text('''Single pages, each an entry of its own, as a DMA API maps them:
BFNs in order, GFNs not contiguous, filled in random order. "xen-pviommu" is
all that the device does for an operation behind the decoding of it: BFN table,
GFN index, references of the emulated backend, what waits for a flush, and the
flush; no device listens. A GTree of intervals under a recursive mutex is what
virtio-iommu keeps mappings in; QEMU's IOVATree is the same without the
separate mapping, and its interval tree a red-black tree. They hold no
references and cannot find a page's BFN but by looking at all. The array has
no bounds but its own, and is the limit. One thread on one processor, by the
time it had that processor: 7 samples of 20 ms, the loop and the sequence of
positions, which is prepared, included (about 1 ns).''')
    yield from goals(e)

    def over_n(op, unit_title, subjects, **params):
        return [(LABELS[s], e.series(op, s, 'n', **params)) for s in subjects]

    yield Plot('translate-random', svg.lines(
        'Translation, random', 'mappings', 'ns',
        over_n('translate', 'ns', [OURS, *TREES, ARRAY], order='random')),
        '''Random translations, independent of each other: a processor works on
several at a time, which trees with their branches prevent.''')
    yield Plot('translate-chained', svg.lines(
        'Translation, random, one after the other', 'mappings', 'ns',
        over_n('translate', 'ns', [OURS, *TREES, ARRAY], order='chained')),
        'Random translations, each of which waits for the one before it.')
    rows = []
    for title, order in (('in order', 'sequential'), ('random', 'random'),
                         ('one after the other', 'chained'),
                         ('cold caches', 'cold')):
        for n in sizes:
            values = [e.get('translate', s, n=n, order=order)
                      for s in (OURS, ARRAY, *TREES)]
            rows.append([title, f'{n:,}', *[duration(v) for v in values]])
    yield Table('Translate, ns', ['order', 'mappings', LABELS[OURS], LABELS[ARRAY],
                                  *[LABELS[s] for s in TREES]], rows)
    yield Text(f'''Ours is measured within one RCU critical section, as DMA in QEMU
is in one already, whichever IOMMU there is. A section for each translation
takes {number(e.get('rcu', OURS, n=sizes[0], order='random') - e.get('translate', OURS, n=sizes[0], order='random'))} ns
more. "Cold" is after 64 MiB of other memory were written.''')

    yield Plot('map-unmap', svg.lines(
        'Map and unmap of a page, random', 'mappings', 'ns for both',
        over_n('strict', 'ns', [OURS, TABLES, *TREES], order='random')),
        '''Unmap, flush and map again of one page of those that are mapped; ours
with references, flush and GFN index.''')
    rows = []
    for name, title, order in (
            ('strict', 'map, unmap, flush; in order', 'sequential'),
            ('strict', 'map, unmap, flush; random', 'random'),
            ('strict', 'map, unmap, flush; cold caches', 'cold'),
            ('lazy', 'map, unmap, a flush for 250; in order', 'sequential'),
            ('lazy', 'map, unmap, a flush for 250; random', 'random'),
            ('map', 'map alone; random', 'random'),
            ('unmap', 'unmap alone; random', 'random'),
            ('lookup', 'look-up by BFN, of a guest', 'random'),
            ('find', 'look-up by GFN', 'random'),
            ('invalidate', 'unmap by GFN; random', 'random')):
        for n in sizes:
            values = [e.get(name, s, n=n, order=order)
                      for s in (OURS, TABLES, *TREES)]
            rows.append([title, f'{n:,}', *[duration(v) for v in values]])
    yield Table('Other operations, a page', ['operation', 'mappings', LABELS[OURS],
                                             'tables alone',
                                             *[LABELS[s] for s in TREES]], rows)
    yield Plot('invalidate', svg.lines(
        'A page goes away: unmap by GFN', 'mappings', 'ns',
        over_n('invalidate', 'ns', [OURS, *TREES], order='random')),
        'What maps one GFN is found and unmapped; trees look at all there is.')

    rows = [[f'{n:,}', *[number(e.get('bytes', s, n=n))
                         for s in (OURS, ARRAY, *TREES)],
             *[duration(e.get('fill', s, n=n)) for s in (OURS, *TREES)]]
            for n in sizes]
    yield Table('Memory, and what it takes to fill', [
        'mappings', *[f'{LABELS[s]}, bytes each' for s in (OURS, ARRAY, *TREES)],
        *[f'{LABELS[s]}, each' for s in (OURS, *TREES)]], rows)
    yield Text('''Bytes are what malloc handed out, with its own overhead, and the
nodes in use of ours; those come in chunks of 2 MiB.''')

    nrs = e.params('range', 'nr')
    if nrs:
        n = e.params('range', 'n')[0]
        yield Plot('range', svg.lines(
            'Map and unmap of a range', 'pages in the range', 'ns for both',
            [(f'{LABELS[OURS]}, {text}', [
                (nr, e.get('range', OURS, n=n, nr=nr, aligned=aligned))
                for nr in nrs]) for text, aligned in (('aligned', True),
                                                     ('not', False))] +
            [(LABELS[s], [(nr, e.get('range', s, n=n, nr=nr, aligned=False))
                          for nr in nrs]) for s in TREES]),
            f'''A range of one page to 512 GiB, beside {n:,} mappings. Not aligned:
BFN and GFN begin on odd frames that differ. Trees have an entry for it,
whatever its size; ours writes up to 511 slots a level at each end, and a
translation then costs the same as ever.''')
        rows = [[f'{nr:,}',
                 *[duration(e.get('range', OURS, n=n, nr=nr, aligned=a))
                   for a in (True, False)],
                 duration(e.get('range', GTREE, n=n, nr=nr, aligned=False)),
                 *[number(e.get('range_bytes', OURS, n=n, nr=nr, aligned=a))
                   for a in (True, False)],
                 number(e.get('range_bytes', GTREE, n=n, nr=nr, aligned=False))]
                for nr in nrs]
        yield Table('A range, mapped and unmapped', [
            'pages', 'aligned', 'not aligned', 'GTree', 'aligned, bytes',
            'not aligned, bytes', 'GTree, bytes'], rows)

    readers = e.params('readers', 'readers')
    if readers:
        for writer, title in ((False, ''), (True, ' beside a writer')):
            yield Plot('readers' + ('-writer' if writer else ''), svg.bars(
                f'Translations a second{title}, {most:,} mappings', '1/s',
                [f'{r} reader{"s" if r > 1 else ""}' for r in readers],
                [(LABELS[s], [e.get('readers', s, n=most, readers=r, writer=writer)
                              for r in readers]) for s in (OURS, ARRAY, *TREES)],
                ylog=True),
                'All readers together, random' + (
                    '; one more thread maps and unmaps all the time.'
                    if writer else '.'))
        rows = []
        for n in sizes:
            for r in readers:
                rows.append([f'{n:,}', r] + [
                    svg.short(e.get('readers', s, n=n, readers=r, writer=w))
                    for s in (OURS, ARRAY, *TREES) for w in (False, True)])
        yield Table('Translations a second, alone and beside a writer', [
            'mappings', 'readers',
            *[f'{LABELS[s]}{w}' for s in (OURS, ARRAY, *TREES)
              for w in ('', ' (writer)')]], rows)
