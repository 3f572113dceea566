# SPDX-License-Identifier: GPL-2.0-or-later
"""A guest's balloon, from the host: inflated and deflated while disks and
network are in use, and what becomes of the memory."""

import re
import threading
import time

from qmp import Qmp

CYCLES = 3
# MiB that the balloon takes in each.
GIVE_MIB = 256
# Of what was given, how much QEMU must have less: the guest has touched most
# of its memory before, but not all of what it gives.
RETURNED = 0.7
PAGE = 4096
PATIENCE = 300


class Balloon(threading.Thread):
    """Tells the guest what to do next, and does the host's part meanwhile.

    order() is what the guest gets when it asks: 'fill', to touch memory and
    free it; 'io', to use its devices once; 'done'.
    """

    def __init__(self, report, memory_mib):
        super().__init__(daemon=True)
        self.report, self.memory = report, memory_mib << 20
        self.asked = threading.Condition()
        self.rounds = 0
        self.next = 'wait'
        self.over = False
        self.log_end = 0
        self.ballooned = set()

    def begin(self, qmp_path, pid, log_path):
        self.qmp_path, self.pid, self.log_path = qmp_path, pid, log_path
        self.start()

    def end(self):
        """The guest is no more. Waits until the host's part has ended."""
        with self.asked:
            self.over = True
            self.asked.notify()
        self.join()

    def order(self):
        with self.asked:
            self.rounds += 1
            order = self.next
            if order == 'fill':
                self.next = 'io'
            self.asked.notify()
            return order

    def give_order(self, order, rounds):
        """The guest gets it, and comes back for as many more."""
        with self.asked:
            self.next = order
            end = self.rounds + rounds
            self.asked.wait_for(lambda: self.rounds >= end or self.over, PATIENCE)
            if self.rounds < end:
                raise RuntimeError('the guest does not ask what to do next')

    def inflate_to(self, size):
        self.qmp('balloon', value=size)
        end = time.monotonic() + PATIENCE
        while self.qmp('query-balloon')['actual'] != size:
            if time.monotonic() > end:
                raise RuntimeError(f'the balloon does not get to {size >> 20} MiB: '
                                   f'{self.qmp("query-balloon")["actual"] >> 20}')
            time.sleep(0.1)

    def resident(self):
        """MiB of the host's memory that QEMU has, or had before the host swapped."""
        with open(f'/proc/{self.pid}/smaps_rollup', encoding='ascii') as rollup:
            return sum(map(int, re.findall(r'^(?:Rss|Swap): *(\d+) kB', rollup.read(),
                                           re.M))) / 1024

    def read_ballooned(self):
        """QEMU's log names each page as it is put in, and as it is taken out."""
        with open(self.log_path, encoding='ascii', errors='replace') as log:
            log.seek(self.log_end)
            for line in log:
                if match := re.search(r'virtio_balloon_handle_output .* gpa: 0x([0-9a-f]+)',
                                      line):
                    self.ballooned ^= {int(match[1], 16) // PAGE}
            self.log_end = log.tell()

    def held(self):
        """GFNs that the IOMMU maps, or has not let go of."""
        gfns = set()
        for context in self.qmp('x-query-xen-pviommu')['contexts']:
            bfn = 0
            while bfn is not None:
                part = self.qmp('x-query-xen-pviommu-mappings', max=512,
                                context=context['context'], **{'start-bfn': bfn})
                for run in part['runs']:
                    gfns.update(range(run['gfn'], run['gfn'] + run['frames']))
                bfn = part.get('next-bfn')
        return gfns

    def cycle(self, number):
        self.give_order('fill', 2)
        before = self.resident()
        self.inflate_to(self.memory - (GIVE_MIB << 20))
        self.give_order('io', 2)
        self.qmp('stop')
        self.read_ballooned()
        given = len(self.ballooned) * PAGE / (1 << 20)
        held = self.held()
        stale = held & self.ballooned
        returned = before - self.resident()
        self.qmp('cont')
        self.inflate_to(self.memory)
        self.give_order('io', 1)
        self.report.note(f'balloon {number}: {given:.0f} MiB given, {returned:.0f} MiB less '
                         f'in QEMU (of {before:.0f}), {len(held)} pages mapped or pending')
        if given < GIVE_MIB:
            raise RuntimeError(f'only {given:.0f} MiB are in the balloon')
        if stale:
            raise RuntimeError(f'{len(stale)} pages are mapped and in the balloon, '
                               f'the first is {min(stale):#x}')
        if returned < GIVE_MIB * RETURNED:
            raise RuntimeError(f'QEMU has only {returned:.0f} MiB less')

    def run(self):
        what = f'host: {CYCLES} times {GIVE_MIB} MiB given and returned, none of it mapped'
        try:
            self.qmp = Qmp(self.qmp_path)
            self.give_order('io', 1)
            for number in range(1, CYCLES + 1):
                self.cycle(number)
            counters = self.qmp('x-query-xen-pviommu')['counters']
            self.report.note(f'{counters["maps"]} maps, {counters["faults"]} faults, '
                             f'{counters["invalidated-frames"]} pages went while mapped')
            if counters['faults']:
                raise RuntimeError('there were faults')
            self.report.result(True, what)
        except (OSError, ValueError, KeyError, RuntimeError) as error:
            self.report.note(f'{type(error).__name__}: {error}')
            self.report.result(False, what)
        with self.asked:
            self.next = 'done'
