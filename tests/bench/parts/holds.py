# SPDX-License-Identifier: GPL-2.0-or-later
"""How long one action keeps QEMU's main loop (tests/bench/holds)."""

import json
import os

from report import Goal, Table, Text, duration

TITLE = 'The longest hold of the main loop'
ORDER = 6
MINUTES = 4

PROGRAM = 'xen-pviommu/tests/bench/xen-pviommu-bench-holds'
SUBJECT = 'xen-pviommu'
LIMIT_NS = 10e6
# What only the number of mappings of one page bounds.
INHERENT = ['balloon, a page that is mapped often']


def targets():
    return [PROGRAM, 'qemu-system-x86_64']


def run(bench):
    environment = {**os.environ, 'QTEST_QEMU_BINARY': './qemu-system-x86_64'}
    for mappings in [20000] if bench.quick else [400000, 1000000]:
        for n in range(1 if bench.quick else 3):
            bench.say(f'{mappings:,} mappings, round {n + 1}')
            for line in bench.lines([os.path.join(bench.out, PROGRAM),
                                     '--mappings', str(mappings)], 900,
                                    cwd=bench.out, env=environment):
                # libqtest says what it starts.
                if not line.startswith('{'):
                    continue
                sample = json.loads(line)
                for name in ('longest', 'total'):
                    bench.entries.sample(name, SUBJECT, sample[name], 'ns',
                                         what=sample['what'], mappings=mappings)
                bench.entries.sample('actions', SUBJECT, sample['actions'],
                                     'calls', what=sample['what'],
                                     mappings=mappings)


def worst(e, inherent=False):
    """(ns, what, mappings) of the longest hold: of all but INHERENT, or of those."""
    actions = INHERENT if inherent else [
        what for what in e.params('longest', 'what') if what not in INHERENT]
    found = [(e.get('longest', SUBJECT, what=what, mappings=n), what, n)
             for n in e.params('longest', 'mappings') for what in actions]
    return max((f for f in found if f[0] is not None), key=lambda f: f[0])


def report(e):
    yield Text('''CPU time of the QEMU process for one register write, one QMP
command, or one reset, of a guest that does the dearest that could be thought of
with as many mappings: for as long as it takes QEMU holds its global lock (BQL),
and the device's lock. Preparing and reading the results are not in it. What an
action does in parts is rung, or asked for, until it is done; "longest" is the
longest of the parts.''')
    entries = [x for x in e.list if x['name'] == 'longest']
    value, what, mappings = worst(e)
    yield Goal('no action of a guest, no reset and no query takes more than 10 ms',
               f'{duration(value)}: {what}, with {mappings:,} mappings',
               value <= LIMIT_NS)
    for x in entries:
        if x['params']['what'] in INHERENT:
            value = x['values'][SUBJECT]['value']
            yield Goal(f'{x["params"]["what"]}, with {x["params"]["mappings"]:,} '
                       'mappings: the same', duration(value), value <= LIMIT_NS,
                       'it takes as long as the page has BFNs')
    rows = []
    for x in entries:
        p = x['params']
        rows.append([p['what'], f'{p["mappings"]:,}',
                     duration(x['values'][SUBJECT]['value']),
                     f'{e.get("actions", SUBJECT, **p):,.0f}',
                     duration(e.get('total', SUBJECT, **p))])
    yield Table('Longest holds', ['action', 'mappings', 'longest', 'calls',
                                  'all of them'], rows)
