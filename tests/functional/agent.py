# SPDX-License-Identifier: GPL-2.0-or-later
"""A guest that does what the host says, a command at a time.

What is done in it are functions of its init (guest/init), which waits for
commands on its console. What the device has is compared with what the kernel
knows of. A program here is a list of steps for such a guest.
"""

import argparse
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time

from machine import BUILD, LOGS, QEMU, Report, qemu_command
from qmp import Qmp
from qtest import Outside
from server import Server

# Seconds that the guest may say nothing.
PATIENCE = 300


class Failure(Exception):
    """What did not go as it must."""


def must(condition, message):
    if not condition:
        raise Failure(message)


class Guest:
    """The machine, and the agent on its console, in whichever kernel."""

    def __init__(self, command, console_path, work):
        self.qmp_path, self.qtest_path = (os.path.join(work, name) for name in ('qmp', 'qtest'))
        self.number = 0
        self.console = open(console_path, 'w', encoding='utf-8')
        ours, theirs = socket.socketpair()
        with theirs:
            self.process = subprocess.Popen(
                [*command, '-chardev', f'socket,id=console,fd={theirs.fileno()}',
                 '-serial', 'chardev:console',
                 '-qmp', f'unix:{self.qmp_path},server=on,wait=off',
                 '-qtest', f'unix:{self.qtest_path},server=on,wait=off', '-qtest-log', 'none'],
                stdin=subprocess.DEVNULL, stdout=sys.stderr, pass_fds=[theirs.fileno()])
        ours.settimeout(PATIENCE)
        self.socket = ours
        self.lines = ours.makefile('rb')

    def wait(self, pattern):
        """Reads to the line that matches: the match, and what was before it."""
        said = []
        while True:
            try:
                line = self.lines.readline()
            except TimeoutError:
                raise Failure(f'the guest says nothing for {PATIENCE} s, and had to '
                              f'say {pattern}') from None
            if not line:
                raise Failure(f'QEMU has ended, with status {self.process.wait()}')
            line = line.decode('utf-8', 'replace').rstrip()
            self.console.write(line + '\n')
            self.console.flush()
            if match := re.search(pattern, line):
                return match, said
            said.append(line)

    def answer(self, command, end):
        """Has the agent run COMMAND: the match of END, and its output so far."""
        self.number += 1
        self.socket.sendall(f'{self.number} {command}\n'.encode())
        match, said = self.wait(rf'@{self.number} = (\d+)$|{end}')
        prefix = f'@{self.number} '
        return match, [line.removeprefix(prefix) for line in said if line.startswith(prefix)]

    def run(self, command):
        """The lines of the command's output; fails if the command does."""
        match, said = self.answer(command, '(?!)')
        must(match[1] == '0', f'{command}: exit status {match[1]}: ' + ' / '.join(said[-4:]))
        return said

    def start(self):
        """Waits for the first kernel's agent."""
        self.wait('@ready$')
        self.qmp = Qmp(self.qmp_path)
        self.outside = Outside(self.qtest_path, self.qmp)

    def leave(self, command):
        """Runs what starts the next kernel, and waits for that one's agent."""
        match, said = self.answer(command, '@ready$')
        must(match[0] == '@ready', f'{command}: ' + ' / '.join(said[-4:]))

    def monitor(self, line):
        """HMP."""
        return self.qmp('human-monitor-command', **{'command-line': line})

    def info(self):
        return self.qmp('x-query-xen-pviommu')

    def faults(self):
        return self.info()['counters']['faults']

    def ram(self):
        """Ranges of addresses that are this kernel's own memory."""
        ram = []
        for line in self.run('grep "^[^ ].*System RAM" /proc/iomem'):
            first, last = (int(word, 16) for word in line.split()[0].split('-'))
            # Firmware's tables may cut a page in two.
            start = ram.pop().start if ram and ram[-1].stop == first else first
            ram.append(range(start, last + 1))
        return ram

    def mapped(self):
        """Runs that any context maps, as the device says."""
        for context in self.info()['contexts']:
            bfn = 0
            while bfn is not None:
                part = self.qmp('x-query-xen-pviommu-mappings', max=512,
                                context=context['context'], **{'start-bfn': bfn})
                yield from part['runs']
                bfn = part.get('next-bfn')

    def end(self):
        self.process.kill()
        self.process.wait()
        self.socket.close()
        self.console.close()


def until(condition, seconds=PATIENCE):
    """Whether it comes true within some time."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.2)
    return True


def queues(info):
    """Where they are, by context."""
    return {c['context']: c['queue']['address'] for c in info['contexts'] if 'queue' in c}


def same(guest):
    """Contexts, devices, queues and frames are those that the guest's driver
    knows of: what differs for longer than devices are busy is an error."""
    for last in [False] * 4 + [True]:
        info = guest.info()
        driver = dict(line.split() for line in guest.run('cat $STATE/contexts'))
        counters = dict(line.split() for line in guest.run('cat $STATE/counters'))
        lines = [line.split() for line in guest.run('cat $STATE/queues')]
        # The device itself is in context 0, and not among the driver's.
        devices = {d['sbdf']: str(c['context']) for c in info['contexts']
                   for d in c['devices'] if d.get('type') != 'xen-pviommu'}
        differ = [what for what, equal in {
            'contexts': {str(c['context']) for c in info['contexts']} ==
                        {'0', *driver.values()},
            'devices': devices.items() <= driver.items(),
            'queues': {(c['context'], c['queue']['head'], c['queue']['errors'])
                       for c in info['contexts'] if 'queue' in c} ==
                      {(int(ctx), int(head), int(errors))
                       for ctx, _, head, errors, _ in lines} != set(),
            'frames': info['mapped-frames'] == int(counters['mapped']) ==
                      sum(c['mapped-frames'] for c in info['contexts']),
        }.items() if not equal]
        if not differ:
            return info
        must(not last, f'{", ".join(differ)} differ: the device has {info}, '
                       f'the driver {driver} {lines} {counters}')
        time.sleep(0.5)


def arguments(doc, *flags):
    """The usual ones, and FLAGS, as pairs of a name and what it does."""
    parser = argparse.ArgumentParser(description=doc.split('\n', 1)[0])
    parser.add_argument('--kernel', default='6.1')
    parser.add_argument('--append', default='', help='for the command line of each kernel')
    parser.add_argument('--accel', default='tcg', help='tcg or kvm')
    parser.add_argument('--device', default='xen-pviommu',
                        help='the device, with properties')
    parser.add_argument('--qemu', default=QEMU)
    for flag, what in flags:
        parser.add_argument(flag, action='store_true', help=what)
    return parser.parse_args()


def play(program, args, steps, disk_mib, net_kib, every='', first='',
         prepare=lambda work: None, build=qemu_command, network=True):
    """Has steps(guest, report, append, work) done, which yields what is about to
    be tried; append is what any kernel is told, EVERY a part of it, and FIRST is
    for the first one besides.
    Disks have DISK_MIB written at a time, and NET_KIB go each way over the
    network, if it is used; prepare(work) is for the disks before, and build() makes
    QEMU's command, as qemu_command() does. The exit status."""
    os.makedirs(LOGS, exist_ok=True)
    name = '-'.join([program, args.kernel, *re.findall(r'[\w.]+', args.append),
                     *re.findall(r'[\w.]+', args.device)[2:]])
    console, log = (os.path.join(LOGS, f'{name}.{what}') for what in ('console', 'qemu'))
    report = Report(True, f'Linux {args.kernel}{" " * bool(args.append)}{args.append}: ')
    server = Server(net_kib)
    append = (f'demo.agent demo.port={server.port} demo.disk={disk_mib} demo.net={net_kib} '
              f'{args.append} {every}')
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    begun = time.monotonic()
    with tempfile.TemporaryDirectory(prefix=f'{program}-', dir=BUILD) as work:
        command = build(args.kernel, f'{append} {first}', work, log,
                        args.qemu, args.accel, args.device)
        prepare(work)
        guest = Guest(command, console, work)
        step = None
        try:
            for what in steps(guest, report, append, work):
                if step:
                    report.result(True, f'{step} ({time.monotonic() - since:.0f} s)')
                step, since = what, time.monotonic()
            report.result(True, f'{step} ({time.monotonic() - since:.0f} s)')
        except (Failure, OSError, ValueError, KeyError, RuntimeError) as error:
            report.last_words(console, log)
            report.note(f'{type(error).__name__}: {error}')
            report.result(False, step)
        finally:
            guest.end()
    if network:
        report.result(bool(server.received) and all(server.received),
                      'host: the server received what it had sent')
    if report.failed:
        report.note(f'All of it is in {console} and {log}')
    return report.end(time.monotonic() - begun)
