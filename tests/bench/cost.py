# SPDX-License-Identifier: GPL-2.0-or-later
"""What docs/cost.rst and docs/security.rst quote of the results, as files that they
include: figures.inc has a substitution for each figure, cost-*.inc a table each.

The sentences are those pages' own. A figure in them is |NAME|, and what NAME is,
is said here and nowhere else. What was not measured is Missing: no figure is left
as it was.
"""

import textwrap

import results
from machines import CALLS, INTEL, INTEL_CM, LABELS, NONE, OURS, VIRTIO
from report import Table, duration, number, rst_table, wrap

FIGURES = 'figures.inc'
HEAD = '''.. SPDX-License-Identifier: GPL-2.0-or-later

.. Written by tests/bench/run --docs, from tests/bench/cost.py.
'''
# Of the disks and the network those that differ.
STRICT = ['nvme-4k', 'virtio-4k', 'virtio-1m', 'receive']


class Missing(Exception):
    """Something that a page quotes was not measured."""

    def __init__(self, lines, parts):
        super().__init__('\n'.join(lines))
        self.lines, self.parts = lines, parts


class Measured(results.Entries):
    """The entries of a part. There is no None: what is not there is Missing."""

    def __init__(self, part, entries):
        super().__init__(entries)
        self.part = part

    def missing(self, name, subjects, params):
        what = ', '.join(f'{k}={v}' for k, v in params.items())
        raise Missing([f'{self.part}: no entry {name}({what})'
                       + (f' of {" and ".join(subjects)}' if subjects else '')],
                      [self.part])

    def get(self, name, subject, **params):
        value = super().get(name, subject, **params)
        if value is None:
            self.missing(name, [subject], params)
        return value

    def ratio(self, name, subject, peer, **params):
        value = super().ratio(name, subject, peer, **params)
        if value is None:
            self.missing(name, [subject, peer], params)
        return value

    def params(self, name, key):
        found = super().params(name, key)
        if not found:
            self.missing(name, [], {key: 'any'})
        return found


def about(value):
    """Two digits, three from a hundred on: what a sentence has room for."""
    if value >= 99.5:
        return number(int(value + 0.5))
    if value >= 9.95:
        return str(int(value + 0.5))
    return f'{int(10 * value + 0.5) / 10:g}'


def about_ns(ns):
    for size, unit in ((1e9, 's'), (1e6, 'ms'), (1e3, 'us')):
        if ns >= size:
            return f'{about(ns / size)} {unit}'
    return f'{about(ns)} ns'


def span(values):
    """From the least to the most."""
    least, most = about_ns(min(values)), about_ns(max(values))
    if least.split()[1] == most.split()[1]:
        least = least.split()[0]
    return f'{least} to {most}'


def percent(share):
    return f'{number(100 * share)} %'


def structure_figures(part, e):
    few, most = part.SIZES[0], part.SIZES[-1]

    def over_sizes(name, subject, order):
        return span([e.get(name, subject, n=n, order=order) for n in part.SIZES])

    def translate(subject, n):
        return about_ns(e.get('translate', subject, n=n, order='random'))

    def faster(name, subject, n, order):
        return about(e.ratio(name, subject, part.GTREE, n=n, order=order))

    return {
        'mappings-few': lambda: f'{few:,}',
        'mappings-most': lambda: f'{most:,}',
        'device-in-order': lambda: over_sizes('strict', part.OURS, 'sequential'),
        'device-random': lambda: about_ns(
            e.get('strict', part.OURS, n=most, order='random')),
        'device-few-faster': lambda: faster('strict', part.OURS, few, 'sequential'),
        'range-aligned': lambda: span(part.range_costs(e, True)),
        'range-not-aligned': lambda: about_ns(max(part.range_costs(e, False))),
        'range-not-aligned-pages': lambda: about(part.range_worst(e, False)),
        'range-memory': lambda: f'{about(part.range_memory(e) / 1024)} KiB',
        'translate-few': lambda: translate(part.OURS, few),
        'translate-most': lambda: translate(part.OURS, most),
        'translate-few-tree': lambda: translate(part.GTREE, few),
        'translate-most-tree': lambda: translate(part.GTREE, most),
        'translate-cold': lambda: over_sizes('translate', part.OURS, 'cold'),
        'translate-cold-tree': lambda: over_sizes('translate', part.GTREE, 'cold'),
        'translate-faster': lambda: faster('translate', part.OURS, most, 'random'),
        'translate-faster-array': lambda: faster('translate', part.ARRAY, most,
                                                 'random'),
        'bytes': lambda: about(e.get('bytes', part.OURS, n=most)),
        'bytes-tree': lambda: about(e.get('bytes', part.GTREE, n=most)),
    }


def dma_figures(part, e):
    def rate(subject):
        return number(part.per_second(e, subject, 'strict', part.PAGE))

    return {
        'rate': lambda: rate(OURS),
        'rate-doorbells': lambda: rate(CALLS),
        'rate-virtio': lambda: rate(VIRTIO),
        'rate-intel-cm': lambda: rate(INTEL_CM),
        'rate-lazy-intel-more': lambda: about(max(
            e.ratio('dma', INTEL, OURS, mode='lazy', **part.names(case))
            for case in part.CASES if case[2] == 2)),
    }


def io_figures(part, e):
    def lazy():
        return [part.share(e, OURS, NONE, 'lazy', case) for case in part.CASES]

    return {
        'io-lazy-least': lambda: percent(min(lazy())),
        'io-lazy-most': lambda: percent(max(lazy())),
    }


def growth_figures(part, e):
    def page(subject):
        return about_ns(e.get('mappings', subject, mappings=part.MAPPINGS[0]))

    def of_list(subject):
        return about_ns(e.get('batch', subject, batch=part.BATCHES[-1]))

    def pause(subject):
        return f'{number(part.pause(e, subject, part.MAPPINGS[-1]))} ms'

    def grown(name, sizes):
        # The sentence is about all of them.
        for size in sizes:
            e.get(name, OURS, **{name: size})
        return f'{sizes[-1]:,}'

    return {
        'page': lambda: page(OURS),
        'page-virtio': lambda: page(VIRTIO),
        'page-intel-cm': lambda: page(INTEL_CM),
        'guest-mappings': lambda: grown('mappings', part.MAPPINGS),
        'guest-contexts': lambda: grown('contexts', part.CONTEXTS),
        'list-pages': lambda: f'{part.BATCHES[-1]:,}',
        'list-page': lambda: of_list(OURS),
        'list-page-intel-cm': lambda: of_list(INTEL_CM),
        'pause': lambda: pause(OURS),
        'pause-virtio': lambda: pause(VIRTIO),
    }


def invalidation_figures(part, e):
    in_order, random = part.ORDERS

    def waited(subject, order):
        return about_ns(e.get('waited', subject, order=order))

    return {
        'balloon': lambda: waited(part.OURS, in_order),
        'balloon-everything': lambda: waited(part.ALL, in_order),
        'balloon-random': lambda: waited(part.OURS, random),
        'balloon-random-everything': lambda: waited(part.ALL, random),
        'balloon-random-again': lambda: about_ns(
            e.get('late', part.OURS, order=random)),
    }


def holds_figures(part, e):
    # As performance.rst has it: the aim is near.
    return {
        'hold': lambda: duration(part.worst(e)[0]),
        'hold-mappings': lambda: f'{part.worst(e)[2]:,}',
        'hold-inherent': lambda: duration(part.worst(e, True)[0]),
        'hold-inherent-mappings': lambda: f'{part.worst(e, True)[2]:,}',
    }


def strict_table(part, e):
    subjects = [s for s in part.SUBJECTS if s != NONE]
    return Table('Strict', ['', *[LABELS[s] for s in subjects]],
                 [[part.CASES[case][0],
                   *[percent(part.share(e, s, NONE, 'strict', case)) for s in subjects]]
                  for case in STRICT], f'30{" 14" * len(subjects)}')


# Of parts, what gives the figures of each.
OF_PARTS = {'structure': structure_figures, 'dma': dma_figures, 'io': io_figures,
            'growth': growth_figures, 'invalidation': invalidation_figures,
            'holds': holds_figures}
# Files, their parts, and what gives the table.
TABLES = {'cost-strict.inc': ('io', strict_table)}


def files(data, parts, ran_on):
    """{name: text} of all files, or Missing with a line for each figure that is.
    ran_on() says how a part was measured."""
    entries = {name: Measured(name, data['parts'].get(name, {}).get('entries', []))
               for name in OF_PARTS}
    figures, tables, lines, lacking = {}, {}, [], []

    def add(to, name, make):
        try:
            to[name] = make()
        except Missing as e:
            lines.extend(f'{name}: {line}' for line in e.lines)
            lacking.extend(p for p in e.parts if p not in lacking)

    for part, make in OF_PARTS.items():
        for name, figure in make(parts[part], entries[part]).items():
            add(figures, f'|{name}|', figure)
    for name, (part, make) in TABLES.items():
        add(tables, name, lambda p=part, m=make: rst_table(m(parts[p], entries[p])))
    if lines:
        raise Missing(lines, lacking)
    # In a comment: the measurement of performance.rst, which a test compares.
    how = '\n\n'.join(textwrap.indent(wrap(f'{part}: {ran_on(data["parts"][part])}', 76),
                                      '   ') for part in OF_PARTS)
    defined = ''.join(f'.. {name} replace:: {text}\n' for name, text in figures.items())
    return {FIGURES: f'{HEAD}\n{how}\n\n{defined}',
            **{name: f'{HEAD}\n{text}' for name, text in tables.items()}}
