# SPDX-License-Identifier: GPL-2.0-or-later
"""What the tests on a real Xen share: their list, a report in TAP, and Xen's books.

A test is a function that raises Failure; what it says with note() explains.
"""

import os
import re
import sys
import time

sys.path.append(os.path.dirname(os.path.dirname(sys.path[0])))
import tap
from dom0 import EDU, Failure, PASSED, PATIENCE

KINDS = 'debian', 'libvirt', 'series', 'debug', 'vtd'
# Tests by the kind of a hypervisor, in order; and what is measured instead.
TESTS = {kind: [] for kind in KINDS}
MEASURES = {kind: [] for kind in KINDS}
# Pages of a MiB.
MIB = 256
# Pages that Xen may need more of for dom0, the more guests it has had.
XEN_KEEPS = 16
# Frames of the machine: RAM where no guest has any, and nothing at all.
FOREIGN, NOWHERE = 1 << 20, 3 << 20


def test(what, on=('debian', 'series'), among=None):
    def add(function):
        for kind in on:
            (TESTS if among is None else among)[kind].append((what, function))
        return function
    return add


class State:
    """What the tests share: a boot, and the guest in it."""

    def __init__(self, dom0, report, kind):
        self.dom0, self.report, self.kind = dom0, report, kind
        self.note = report.note
        self.running = None

    @property
    def guest(self):
        if not self.running:
            raise Failure('there is no guest')
        return self.running


class Report:
    """TAP."""

    def __init__(self):
        self.number = self.failed = 0
        self.prefix = ''

    def note(self, text):
        for line in str(text).splitlines():
            print(f'# {line}', flush=True)

    def skip(self, what, why):
        self.number += 1
        print(f'ok {self.number} - {what} # SKIP {why}', flush=True)

    def result(self, ok, what):
        self.number += 1
        self.failed += not ok
        print('ok' if ok else 'not ok', self.number, '-', self.prefix + what,
              flush=True)


def must(condition, message):
    if not condition:
        raise Failure(message)


def until(condition, seconds):
    """Whether the condition comes true in time."""
    end = time.monotonic() + seconds * PATIENCE
    while not (result := condition()):
        if time.monotonic() > end:
            return False
        time.sleep(0.2)
    return result


def relay(state, who, lines):
    """What a program says in TAP, as tests of ours; all of it if one failed."""
    lines = [line.strip() for line in lines]
    reader = tap.Reader()
    for line in lines:
        if result := reader.line(line):
            state.report.result(result.ok, f'{who}: {result}')
    if not reader.complete() or reader.failed:
        state.note('\n'.join(lines))
    must(reader.complete(), f'{who}: {reader.seen} tests of {reader.plan}')


def gone(state):
    """Waits until nothing is left of any guest; Xen's books then."""
    must(until(lambda: state.dom0.pages()['domains'].keys() == {'0'}, 20),
         f'domains: {state.dom0.pages()["domains"]}')
    must(until(lambda: state.dom0.run('pgrep -f lib/qemu-system', check=False)[0] == 1, 10),
         'a device model lives')
    return state.dom0.pages()


def all_back(state):
    """Nothing is left of any guest, and its memory is free. A page that anybody
    holds would keep its domain; of Xen's own memory, what was allocated for
    dom0's event channels and grants stays with dom0."""
    # What is left of a domain in Xen's own memory goes a little later.
    def kept():
        return state.before['free'] - gone(state)['free']

    must(until(lambda: kept() <= XEN_KEEPS, 20),
         f'before {state.before}, after {state.dom0.pages()}')
    if kept():
        state.note(f'Xen itself has {kept()} pages more')


# --- devices of the machine -------------------------------------------------

def faults(state, bfn=None, sbdf=EDU):
    """How often Xen says that the device could not reach it, or anything."""
    if state.kind == 'vtd':
        where = r'[0-9a-f]+' if bfn is None else f'{bfn << 12:x}'
        pattern = rf'Request device \[{sbdf}\] fault addr {where}\s'
    else:
        where = r'[0-9a-f]+' if bfn is None else f'{bfn << 12:016x}'
        pattern = rf'IO_PAGE_FAULT: {sbdf} .* addr {where}'
    return len(re.findall(pattern, state.dom0.console()))


def dma(state, source, target, size=4096, sbdf=EDU):
    """By dom0's device; or by PASSED, which is a guest's while there is one."""
    owner = state.running if sbdf == PASSED and state.running else state.dom0
    owner.run(f'edu-copy {sbdf} {source} {target} {size}', 60)


def dma_fails(state, source, target, where, sbdf=EDU):
    """One access is enough, and one message."""
    old = faults(state, where, sbdf)
    dma(state, source, target, 8, sbdf)
    must(until(lambda: faults(state, where, sbdf) > old, 10),
         f'no fault in the log of Xen: BFN {source:#x} to {target:#x}')


# --- guests -----------------------------------------------------------------

def same_mappings(guest):
    """What is mapped is what the guest knows of; the device's and its counters."""
    # Drivers that have nothing to do map nothing.
    info = guest.qmp('x-query-xen-pviommu')
    counters = dict(line.split() for line in guest.run('cat $STATE/counters'))
    must(info['mapped-frames'] == int(counters['mapped']) > 0,
         f'{info["mapped-frames"]} frames mapped, and {counters["mapped"]} says the guest')
    return info, counters


def goes_on(guest):
    """Its disks are used as before, and what was written is there."""
    rounds = int(guest.run('load_rounds')[0])
    guest.run(f'soon load_has_run {rounds + 2} && load_stop', 60)
    guest.run('quiet_log')
    same_mappings(guest)


def settle(state, guest, mib, seconds=60):
    """Asks for MIB of memory and waits until the guest has it."""
    old, = guest.run('cat $BALLOON/target_kb')
    state.dom0.run(f'xl mem-set {guest.name} {mib}')
    must(until(lambda: guest.run(f'balloon_there {old}', check=False)[0] == 0, seconds),
         f'the balloon does not get to {mib} MiB: '
         + ' '.join(guest.run('cat $BALLOON/target_kb $BALLOON/info/current_kb')))


def balloon(state, per_page, lows, disks='/dev/nvme0n1 /dev/vda', tables=0):
    """Down and up again, under load: Xen's books, the guest's, and QEMU's agree.
    TABLES is how many pages Xen may need as it breaks up large ones in an IOMMU."""
    guest = state.guest

    def given(since):
        """Pages that left the guest, and that became free."""
        now, own = state.dom0.pages(), str(guest.domid)
        return (since['domains'][own]['pages'] - now['domains'][own]['pages'],
                now['free'] - since['free'])

    def named(since):
        return guest.qmp('x-query-xen-invalidate')['pages'] - since['pages']

    def settled(host):
        gone, freed = given(host)
        return (0 <= gone - freed <= tables and (not per_page or named(start) == gone)
                and (gone, freed))

    guest.run(f'load_start {disks}')
    try:
        start = guest.qmp('x-query-xen-invalidate')
        must(start['per-page'] == per_page, f'told page by page: {start["per-page"]}')
        for low in lows:
            host = state.dom0.pages()
            begun = time.monotonic()
            settle(state, guest, low)
            seconds = time.monotonic() - begun
            # DMA that is going on keeps pages near those that it is for, and what
            # Xen takes for a moment it gives back.
            gone, freed = until(lambda host=host: settled(host), 30) or given(host)
            now = guest.qmp('x-query-xen-invalidate')
            state.note(f'{guest.memory} to {low} MiB: {gone} pages in {seconds:.0f} s, '
                       f'{freed} free, named {named(start)}, '
                       f'kept for DMA {now["mapcache-deferred"] - start["mapcache-deferred"]}, '
                       f'global {now["everything"] - start["everything"]}')
            must(gone >= (guest.memory - low - 8) * MIB, f'{gone} pages left the guest')
            must(0 <= gone - freed <= tables,
                 f'{gone} pages left the guest, {freed} became free')
            if per_page:
                must(named(start) == gone, f'{gone} pages left the guest, named: {now}')
                must(now['everything'] == start['everything'], f'{now}')
            else:
                must(now['pages'] == 0 and now['everything'] > start['everything'], f'{now}')
            settle(state, guest, guest.memory)
            must(until(lambda host=host: given(host)[0] == 0 and
                       0 <= -given(host)[1] <= tables, 30),
                 f'before {host}, after {state.dom0.pages()}')
            start = guest.qmp('x-query-xen-invalidate')
        rounds = int(guest.run('load_rounds')[0])
        must(until(lambda: int(guest.run('load_rounds')[0]) > rounds, 60),
             'the disk is not used any more')
    finally:
        said = guest.run('load_stop', 60, check=False)
        state.note(said[1][-1] + ' rounds of disk I/O')
    must(said[0] == 0, f'the disk: {said[1]}')
    must(guest.run('quiet_log', check=False)[0] == 0, 'the guest complains')
    same_mappings(guest)
