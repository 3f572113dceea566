# SPDX-License-Identifier: GPL-2.0-or-later
"""Guests that differ in their IOMMU only, and take turns.

All of them are booted first, and then stand still but the one that is
measured, so that samples of one are taken right after another's. A guest does
what it is told over its console (tests/functional/guest/init).
"""

import collections
import os
import re
import select
import socket
import subprocess
import sys
import tempfile
import time

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BUILD = os.path.join(TOP, 'build')
LOGS = os.path.join(BUILD, 'logs')
sys.path.insert(0, os.path.join(TOP, 'tests', 'functional'))
from qmp import Qmp     # noqa: E402 pylint: disable=wrong-import-position

# Peers have no driver in older ones.
KERNEL = '6.12'
MEMORY_MIB = 512
# Seconds.
BOOT, ANSWER = 120, 60

NONE, OURS, CALLS, VIRTIO, INTEL, INTEL_CM, AMD = (
    'none', 'xen-pviommu', 'xen-pviommu-calls', 'virtio-iommu', 'intel-iommu',
    'intel-iommu-cm', 'amd-iommu')
# Those that also remap interrupts
OURS_IR, INTEL_IR, AMD_IR = 'xen-pviommu-ir', 'intel-iommu-ir', 'amd-iommu-ir'
LABELS = {NONE: 'no IOMMU', OURS: 'xen-pviommu',
          CALLS: 'xen-pviommu, queues=off', VIRTIO: 'virtio-iommu',
          INTEL: 'intel-iommu', INTEL_CM: 'intel-iommu, caching-mode',
          AMD: 'amd-iommu',
          OURS_IR: 'xen-pviommu, interrupts=1',
          INTEL_IR: 'intel-iommu, intremap=on',
          AMD_IR: 'amd-iommu, intremap=on'}
# QEMU's device, what the kernel is told, what is to be loaded. Most cannot remap
# interrupts, so for the comparison of all of them none does.
IOMMUS = {
    NONE: ([], '', ''),
    OURS: (['-device', 'xen-pviommu'], 'xen_pviommu.interrupts=0',
           'load_pviommu'),
    # As it is while a device of the host is assigned
    CALLS: (['-device', 'xen-pviommu,queues=off'], 'xen_pviommu.interrupts=0',
            'load_pviommu'),
    VIRTIO: (['-device', 'virtio-iommu-pci'], '', 'load virtio-iommu'),
    INTEL: (['-device', 'intel-iommu,intremap=off'], 'intel_iommu=on', ''),
    INTEL_CM: (['-device', 'intel-iommu,intremap=off,caching-mode=on'],
               'intel_iommu=on', ''),
    AMD: (['-device', 'amd-iommu,intremap=off'], '', ''),
    OURS_IR: (['-device', 'xen-pviommu'], '', 'load_pviommu'),
    # Without EIM and XTSup, so that the local APICs are in the same mode
    # everywhere: Linux has x2APIC mode with these only.
    INTEL_IR: (['-device', 'intel-iommu,intremap=on,eim=off'],
               'intel_iommu=on', ''),
    AMD_IR: (['-device', 'amd-iommu,intremap=on,xtsup=off'], '', ''),
}
PEERS = [VIRTIO, INTEL, INTEL_CM, AMD]


class Machine:
    """A guest behind one of IOMMUS, in strict mode until told otherwise. One that
    is COUNTED has one processor, and a clock that goes on by 1 ns an instruction."""

    def __init__(self, iommu, devices=(), incoming=False, counted=False):
        self.iommu, self.devices = iommu, devices
        name = f'bench-{iommu}{"-incoming" if incoming else ""}{"-counted" if counted else ""}'
        processors = (['-accel', 'tcg,thread=single', '-smp', '1', '-icount',
                       'shift=0,sleep=off'] if counted else ['-accel', 'tcg', '-smp', '2'])
        # Linux would try its ciphers for minutes, beside what is counted.
        quiet = 'cryptomgr.notests ' if counted else ''
        self.trace = os.path.join(LOGS, name + '.trace')
        self.console = os.path.join(LOGS, name + '.console')
        self.number = 0
        self.buffer = b''
        self.log = self.process = None
        self.work = tempfile.TemporaryDirectory(prefix='bench-', dir=BUILD)
        qmp = os.path.join(self.work.name, 'qmp')
        options, append, self.load = IOMMUS[iommu]
        self.socket, theirs = socket.socketpair()
        command = [
            os.path.join(BUILD, 'qemu', 'out', 'qemu-system-x86_64'),
            '-M', 'q35,sata=off,smbus=off,vmport=off', *processors,
            '-D', self.trace, '-m', str(MEMORY_MIB), '-cpu', 'max', '-nodefaults',
            '-display', 'none', '-no-reboot', *options, *devices,
            '-chardev', f'socket,id=console,fd={theirs.fileno()}',
            '-serial', 'chardev:console',
            '-qmp', f'unix:{qmp},server=on,wait=off',
            '-kernel', os.path.join(BUILD, 'kernel', KERNEL, 'vmlinuz'),
            '-initrd', os.path.join(BUILD, 'guest', f'bench-{KERNEL}.cpio.gz'),
            # A busy machine can miss a tick, which Linux would not forgive.
            '-append', 'console=ttyS0 quiet panic=-1 no_timer_check demo.agent '
                       'iommu.strict=1 ' + quiet + append,
            *(['-incoming', 'defer'] if incoming else [])]
        os.makedirs(LOGS, exist_ok=True)
        with theirs:
            self.process = subprocess.Popen(     # pylint: disable=R1732
                command, stdin=subprocess.DEVNULL, pass_fds=[theirs.fileno()])
        self.log = open(self.console, 'wb')      # pylint: disable=R1732
        try:
            self.qmp = Qmp(qmp)
            if not incoming:
                self._until(r'@ready', BOOT)
        except BaseException:
            self.kill()
            raise

    def _until(self, pattern, seconds):
        """The lines up to one that is the pattern, and that one's match."""
        lines = []
        deadline = time.monotonic() + seconds
        while True:
            while b'\n' not in self.buffer:
                left = deadline - time.monotonic()
                ready = left > 0 and select.select([self.socket], [], [], left)[0]
                data = self.socket.recv(65536) if ready else b''
                if not data:
                    what = 'ends' if ready else f'says nothing for {seconds} s'
                    raise RuntimeError(f'the guest behind {self.iommu} {what}: see '
                                       + self.console)
                self.log.write(data)
                self.log.flush()
                self.buffer += data
            line, self.buffer = self.buffer.split(b'\n', 1)
            line = line.decode('utf-8', 'replace').strip('\r')
            if match := re.search(pattern, line):
                return lines, match
            lines.append(line)

    def run(self, command, seconds=ANSWER):
        """What a shell command says in the guest; raises if it fails."""
        self.number += 1
        self.socket.sendall(f'{self.number} {command}\n'.encode())
        lines, match = self._until(rf'@{self.number} = (\d+)$', seconds)
        mark = f'@{self.number} '
        output = '\n'.join(line.split(mark, 1)[1] for line in lines if mark in line)
        if match[1] != '0':
            raise RuntimeError(f'behind {self.iommu}: {command}: {output}')
        return output

    def accesses(self, command):
        """How often the command has a region of registers accessed, by its name; and
        what it says."""
        with open(self.trace, 'rb') as f:
            begin = f.seek(0, os.SEEK_END)
        for on in True, False:
            self.qmp('trace-event-set-state', name='memory_region_ops_*', enable=on)
            if on:
                answer = self.run(command)
        found = collections.Counter()
        with open(self.trace, encoding='utf-8', errors='replace') as f:
            f.seek(begin)
            for line in f:
                if match := re.search(r"memory_region_ops_(?:read|write) .* name '(.*)'", line):
                    found[match[1]] += 1
        os.truncate(self.trace, begin)
        return found, answer

    def stop(self):
        self.qmp('stop')

    def go_on(self):
        self.qmp('cont')

    def migrate(self):
        """How long the guest stands still, in ms, from here into another QEMU
        until that could run it. It runs on here."""
        target = Machine(self.iommu, self.devices, incoming=True)
        uri = f'unix:{target.work.name}/migration'
        try:
            for machine in (self, target):
                # The end of the pause is when the other side says so.
                machine.qmp('migrate-set-capabilities', capabilities=[
                    {'capability': 'return-path', 'state': True}])
            target.qmp('migrate-incoming', uri=uri)
            self.qmp('migrate-set-parameters', **{'max-bandwidth': 0})
            self.qmp('migrate', uri=uri)
            deadline = time.monotonic() + ANSWER
            while time.monotonic() < deadline:
                info = self.qmp('query-migrate')
                if info['status'] == 'completed':
                    return info['downtime']
                if info['status'] in ('failed', 'cancelled'):
                    raise RuntimeError(f'migration behind {self.iommu}: '
                                       + info.get('error-desc', 'failed'))
                time.sleep(0.05)
            raise RuntimeError(f'migration behind {self.iommu}: not within {ANSWER} s')
        finally:
            target.kill()
            if self.qmp('query-status')['status'] == 'postmigrate':
                self.qmp('cont')

    def kill(self):
        if self.process:
            self.process.kill()
            self.process.wait()
        self.socket.close()
        if self.log:
            self.log.close()
        self.work.cleanup()


class Machines:
    """One of each, that take turns; a context manager."""

    def __init__(self, bench, iommus, devices=(), setup=(), counted=False):
        self.bench, self.iommus, self.counted = bench, iommus, counted
        self.devices, self.setup = devices, setup
        self.all = {}

    def __enter__(self):
        try:
            for iommu in self.iommus:
                self.bench.say(f'boots behind {LABELS[iommu]}')
                machine = Machine(iommu, self.devices, counted=self.counted)
                self.all[iommu] = machine
                if machine.load:
                    machine.run(machine.load)
                for command in self.setup:
                    machine.run(command)
                machine.stop()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        for machine in self.all.values():
            machine.kill()

    def turns(self):
        """Each of them, running."""
        for iommu, machine in self.all.items():
            machine.go_on()
            yield iommu, machine
            machine.stop()


def targets():
    return ['qemu-system-x86_64']


def prepare(bench):
    """Kernel and initramfs."""
    for command in (['get-kernel', KERNEL], ['build-initramfs', KERNEL],
                    ['build-bench-guest', KERNEL]):
        for line in bench.lines([os.path.join(TOP, 'scripts', command[0]),
                                 *command[1:]], 600):
            bench.say(line.rstrip())


# Groups that can be, from one flush for each unmap to one for many.
LAZY = '''for g in /sys/kernel/iommu_groups/*; do
[ "$(cat $g/type)" != DMA ] || echo DMA-FQ > $g/type; done'''.replace('\n', ' ')


def counts(answer):
    """"NUMBER NS" of the guest's programs: how many a second."""
    number, ns = map(int, answer.split())
    return number * 1e9 / ns
