# SPDX-License-Identifier: GPL-2.0-or-later
"""What was measured: build/bench/results.json, and how to ask it.

results.json has, for each part, when, on what and with which command it ran,
and its entries:

  {"name": "translate", "params": {"n": 1000, "order": "random"}, "unit": "ns",
   "values": {"xen-pviommu": {"value": 4.4, "low": 4.3, "high": 5.0,
                              "samples": [...]}, "gtree": {...}}}

An entry is one thing measured; values has what each subject took, ours and
the peers. value is the median of the samples, which were taken in turn: the
n-th of one subject beside the n-th of another.
"""

import json
import os
import re
import statistics
import subprocess


def rounded(x):
    return float(f'{x:.4g}')


class Entries:
    """The entries of a part; also what it measured itself with."""

    def __init__(self, entries=()):
        self.list = []
        self.index = {}
        for e in entries:
            self._put(e)

    @staticmethod
    def _key(name, params):
        return name, tuple(sorted(params.items()))

    def _put(self, entry):
        self.list.append(entry)
        self.index[self._key(entry['name'], entry['params'])] = entry

    def sample(self, name, subject, value, unit, **params):
        """One more measurement."""
        entry = self.index.get(self._key(name, params))
        if entry is None:
            entry = {'name': name, 'params': params, 'unit': unit, 'values': {}}
            self._put(entry)
        assert entry['unit'] == unit, (name, unit)
        v = entry['values'].setdefault(subject, {'samples': []})
        v['samples'].append(rounded(value))
        v['value'] = rounded(statistics.median(v['samples']))
        v['low'], v['high'] = min(v['samples']), max(v['samples'])

    def values(self, name, **params):
        entry = self.index.get(self._key(name, params))
        return entry['values'] if entry else {}

    def get(self, name, subject, **params):
        """The median, or None."""
        return self.values(name, **params).get(subject, {}).get('value')

    def _ratios(self, name, subject, peer, params):
        """How many times peer's value is the subject's, of each pair of samples."""
        values = self.values(name, **params)
        if subject not in values or peer not in values:
            return []
        return [b / a for a, b in zip(values[subject]['samples'],
                                      values[peer]['samples']) if a]

    def ratio(self, name, subject, peer, **params):
        """Of the pairs of samples, the median; or None."""
        pairs = self._ratios(name, subject, peer, params)
        return statistics.median(pairs) if pairs else None

    def ratio_quartiles(self, name, subject, peer, **params):
        """Half of the pairs are in between; or None."""
        pairs = self._ratios(name, subject, peer, params)
        if len(pairs) < 2:
            return None
        cuts = statistics.quantiles(pairs, n=4, method='inclusive')
        return cuts[0], cuts[-1]

    def ratio_shortest(self, name, subject, peer, **params):
        """Of the lowest samples, which what else the host does has the least
        part in; or None. For times."""
        values = self.values(name, **params)
        if not values.get(subject) or not values.get(peer):
            return None
        return values[peer]['low'] / values[subject]['low']

    def params(self, name, key):
        """All values that a parameter has."""
        return sorted({e['params'][key] for e in self.list
                       if e['name'] == name and key in e['params']})

    def series(self, name, subject, x, **params):
        """[(x, value), ...] over a parameter."""
        points = []
        for v in self.params(name, x):
            value = self.get(name, subject, **{x: v}, **params)
            if value is not None:
                points.append((v, value))
        return points


def output(*command, cwd=None):
    try:
        return subprocess.run(command, cwd=cwd, check=True, text=True,
                              stdout=subprocess.PIPE,
                              stderr=subprocess.DEVNULL).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ''


def read(path):
    try:
        with open(path, encoding='utf-8', errors='replace') as f:
            return f.read().strip()
    except OSError:
        return ''


def machine():
    """What it ran on, from the machine itself."""
    cpuinfo = read('/proc/cpuinfo')
    memory = re.search(r'MemTotal:\s*(\d+)', read('/proc/meminfo'))
    caches = []
    base = '/sys/devices/system/cpu/cpu0/cache'
    for name in sorted(os.listdir(base)) if os.path.isdir(base) else []:
        if read(f'{base}/{name}/type') in ('Data', 'Unified'):
            caches.append(f"L{read(f'{base}/{name}/level')} {read(f'{base}/{name}/size')}")

    def first(pattern):
        found = re.search(pattern, cpuinfo, re.M)
        return found[1] if found else 'unknown'

    huge = re.search(r'\[(\w+)\]',
                     read('/sys/kernel/mm/transparent_hugepage/enabled'))
    return {
        'cpu': first(r'^model name\s*:\s*(.*)$'),
        'family-model-stepping': '-'.join(
            first(rf'^{key}\s*:\s*(\d+)$')
            for key in ('cpu family', 'model', 'stepping')),
        'cores': len(os.sched_getaffinity(0)),
        'virtual': bool(re.search(r'^flags\s*:.*\bhypervisor\b', cpuinfo, re.M)),
        'kvm': os.path.exists('/dev/kvm'),
        'caches': ', '.join(caches),
        'memory_mib': int(memory[1]) // 1024 if memory else 0,
        'huge_pages': huge[1] if huge else 'none',
        'kernel': re.match(r'[\d.]*', os.uname().release)[0].rstrip('.'),
    }


def versions(top):
    compiler = output('gcc', '--version').splitlines()
    return {
        'xen-pviommu': output('git', 'describe', '--always', '--dirty', cwd=top),
        'qemu': read(os.path.join(top, 'build', 'qemu', 'src', 'VERSION')),
        'glib': output('pkg-config', '--modversion', 'glib-2.0'),
        'compiler': compiler[0] if compiler else '',
    }


def load(path):
    try:
        with open(path, encoding='utf-8') as f:
            return json.load(f)
    except FileNotFoundError:
        return {'parts': {}}


def save(path, results):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path + '.new', 'w', encoding='utf-8') as f:
        json.dump(results, f, indent=1)
        f.write('\n')
    os.replace(path + '.new', path)
