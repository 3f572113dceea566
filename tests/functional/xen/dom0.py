# SPDX-License-Identifier: GPL-2.0-or-later
"""A machine with Xen in our own QEMU, its dom0, and guests in it.

The outer machine is all emulation: AMD's SVM with nested paging, an AMD
IOMMU, or Intel's. dom0 runs an agent (the file dom0-agent) that does what it is told
over a virtio port; guests have one on their Xen console (tests/functional/
guest/init). What anybody logs is in build/logs/xen-NAME-*.
"""

import glob
import itertools
import json
import os
import re
import socket
import subprocess
import threading
import time

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.dirname(
    os.path.abspath(__file__)))))
BUILD = os.path.join(TOP, 'build')
LOGS = os.path.join(BUILD, 'logs')

# Seconds that are generous on an idle machine become these on a busy one.
PATIENCE = 6
# MiB of dom0; what is left of the machine's is for guests and Xen.
DOM0_MIB = 1500
MACHINE_MIB = 4096
# Devices that copy pages: dom0's, and two for guests.
EDU, PASSED, PASSED_TOO = '0000:00:1d.0', '0000:00:1e.0', '0000:00:1c.0'
# A disk for a guest, with a file system.
PASSED_DISK = '0000:00:1b.0'
# What guests move over the network each way: each packet takes 20 ms.
NET_KIB = 256


class Failure(Exception):
    """What did not go as it must."""


def qemu_command(hypervisor, console, dom0_args='', smp=1):
    """The outer machine; CONSOLE is for -serial.

    One processor: where others compete for the host's, two wait for each
    other most of the time, ten times as long or more.
    """
    drive = 'if=none,format=raw,snapshot=on,aio=threads'
    disks = os.path.join(BUILD, 'xen', hypervisor.suite)
    return [
        os.path.join(BUILD, 'qemu', 'out', 'qemu-system-x86_64'),
        # SeaBIOS waits 30 s for an AHCI controller without disks.
        '-M', 'q35,sata=off,smbus=off,vmport=off', '-accel', 'tcg',
        '-smp', str(smp), '-m', str(MACHINE_MIB), '-cpu', 'EPYC,+svm,+npt,-monitor',
        '-nodefaults', '-display', 'none', '-no-reboot', '-serial', console,
        '-device', hypervisor.iommu,
        '-drive', f'{drive},id=root,file={disks}/dom0.img',
        '-device', 'nvme,drive=root,serial=root',
        '-drive', f'{drive},id=tests,file={disks}/tests.img',
        '-device', 'nvme,drive=tests,serial=tests',
        '-drive', f'{drive},id=passed,file={disks}/passed.img',
        '-device', f'nvme,drive=passed,serial=passed,addr={PASSED_DISK[8:]}',
        # What a guest's page is reached from, by real DMA as Xen sees it.
        *(word for address in (EDU, PASSED, PASSED_TOO)
          for word in ('-device', f'edu,addr={address[8:]},dma_mask={2 ** 64 - 1}')),
        '-kernel', hypervisor.path,
        '-append', 'console=com1 com1=115200 cpuidle=off iommu=1,verbose '
                   f'dom0_mem={DOM0_MIB}M,max:{DOM0_MIB}M guest_loglvl=all {hypervisor.args}',
        '-initrd', f'{BUILD}/kernel/6.1/vmlinuz console=hvc0 quiet panic=-1 {dom0_args},'
                   f'{disks}/dom0.cpio.gz',
    ]


class Log:
    """What somebody said so far, and will."""

    def __init__(self, path):
        self.text = ''
        self.file = open(path, 'w', encoding='utf-8')
        self.grown = threading.Condition()

    def add(self, text):
        with self.grown:
            self.text += text
            self.file.write(text)
            self.file.flush()
            self.grown.notify_all()

    def wait(self, pattern, seconds, start=0):
        """The match of PATTERN from START on; None if there is none in time."""
        end = time.monotonic() + seconds
        with self.grown:
            while not (match := re.compile(pattern, re.M).search(self.text, start)):
                if (left := end - time.monotonic()) <= 0:
                    return None
                self.grown.wait(left)
            return match


class Dom0:
    """The outer machine, from its start to its end, and what dom0 can do."""

    def __init__(self, hypervisor, smp=1, limit=5100):
        """Ends by itself after LIMIT seconds."""
        self.name = hypervisor.name
        for path in glob.glob(os.path.join(LOGS, f'xen-{self.name}-*.log')):
            os.unlink(path)
        self.console_path = self.log_path('console')
        self.logs = {}
        self.numbers = itertools.count(1)
        self.answers = {}
        self.changed = threading.Condition()
        self.ready = self.dead = False
        ours, theirs = socket.socketpair()
        with theirs, open(self.log_path('outer-qemu'), 'wb') as log:
            command = qemu_command(hypervisor, f'file:{self.console_path}', smp=smp)
            command += [
                '-device', 'virtio-serial-pci,disable-legacy=on,iommu_platform=on',
                '-chardev', f'socket,id=agent,fd={theirs.fileno()}',
                '-device', 'virtserialport,name=agent,chardev=agent']
            self.process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log,
                stderr=subprocess.STDOUT, pass_fds=[theirs.fileno()])
        self.socket = ours
        self.timer = threading.Timer(limit, self.process.kill)
        self.timer.daemon = True
        self.timer.start()
        threading.Thread(target=self.listen, daemon=True).start()
        try:
            with self.changed:
                self.changed.wait_for(lambda: self.ready or self.dead, 60 * PATIENCE)
            if not self.ready:
                raise Failure('Xen or dom0 does not get to its agent: see ' + self.console_path)
        except BaseException:
            # We may be ended while it boots.
            self.stop()
            raise

    def log_path(self, what):
        return os.path.join(LOGS, f'xen-{self.name}-{what}.log')

    def log(self, what):
        with self.changed:
            if what not in self.logs:
                self.logs[what] = Log(self.log_path(what))
            return self.logs[what]

    def console(self):
        """What Xen and dom0's kernel said."""
        with open(self.console_path, encoding='utf-8', errors='replace') as f:
            return f.read()

    def listen(self):
        try:
            with self.socket.makefile('r', encoding='utf-8') as lines:
                for line in lines:
                    message = json.loads(line)
                    if 'log' in message:
                        self.log(message['log'].removesuffix('.log')).add(message['text'])
                        continue
                    with self.changed:
                        if 'ready' in message:
                            self.ready = True
                        else:
                            self.answers[message['id']] = message
                        self.changed.notify_all()
        except (OSError, ValueError):
            pass
        with self.changed:
            self.dead = True
            self.changed.notify_all()

    def call(self, seconds, **request):
        """Asks the agent."""
        request['id'] = number = next(self.numbers)
        try:
            self.socket.sendall(json.dumps(request).encode() + b'\n')
        except OSError as e:
            raise Failure('the machine has stopped') from e
        with self.changed:
            self.changed.wait_for(lambda: number in self.answers or self.dead, seconds)
            answer = self.answers.pop(number, None)
        if not answer:
            raise Failure('the machine has stopped' if self.dead else
                          f'dom0 does not answer within {seconds} s')
        if 'error' in answer:
            raise Failure(answer['error'])
        return answer

    def run(self, script, seconds=30, check=True):
        """Runs a shell script in dom0: its output, or with check=False its
        status and output."""
        seconds *= PATIENCE
        answer = self.call(seconds + 30, run=script, timeout=seconds)
        if not check:
            return answer['status'], answer['output']
        if answer['status'] != 0:
            raise Failure(f'{script}: exit status {answer["status"]}: '
                          + ' / '.join(answer['output'].splitlines()[-3:]))
        return answer['output']

    def write(self, path, text):
        self.call(60, write=path, text=text)

    def received(self):
        """Starts the server; whether what guests sent it was right, each."""
        return self.call(60, server=NET_KIB)['received']

    def pages(self):
        """Xen's books: total, free, and domains with pages and dying."""
        return json.loads(self.run('xen-pages'))

    def stop(self):
        self.timer.cancel()
        self.process.kill()
        self.process.wait()
        self.socket.close()


class Guest:
    """A domain made from guest.cfg, with its device model and its agent."""

    def __init__(self, dom0, name='guest', memory=512, config=(), serial=False):
        """SERIAL: its agent is on its serial port, as it has no Xen console."""
        self.dom0, self.name, self.memory, self.serial = dom0, name, memory, serial
        self.config = [f'name="{name}"', f'memory={memory}', *config]
        if serial:
            self.config += ['serial="chardev:serial0"',
                            'device_model_args=["-chardev","pty,id=serial0,logappend=on,'
                            f'logfile=/var/log/xen/guest-{name}.log"]']
        self.numbers = itertools.count(1)
        self.log = dom0.log(f'guest-{name}')
        self.model_log = dom0.log(f'qemu-dm-{name}')
        self.domid = self.tty = None

    def create(self):
        """Returns when the domain runs; its agent may not yet."""
        self.start = len(self.log.text)
        settings = ' '.join(f"'{line}'" for line in self.config)
        self.dom0.run('truncate -s 48M /tmp/d0.img /tmp/d1.img\n'
                      f'xl create /t/guest.cfg {settings}', 60)
        self.domid = int(self.dom0.run(f'xl domid {self.name}'))

    def boot(self):
        self.create()
        if not self.log.wait('^@ready', 60 * PATIENCE, self.start):
            raise Failure(f'{self.name} does not get to its agent')
        self.find()

    def find(self):
        """After it was restored, too: it is another domain then."""
        self.domid = int(self.dom0.run(f'xl domid {self.name}'))
        where = 'serial/0' if self.serial else 'console'
        self.tty = self.dom0.run(
            f'xenstore-read /local/domain/{self.domid}/{where}/tty').strip()
        if self.serial:
            # QEMU does not read from it while nobody has it open.
            self.dom0.run(f'sleep infinity <> {self.tty} > /dev/null 2>&1 &')

    def run(self, command, seconds=30, check=True):
        """Runs a command of the guest's shell: the lines of its output, or with
        check=False its status and these."""
        seconds *= PATIENCE
        number = next(self.numbers)
        start = len(self.log.text)
        self.dom0.write(self.tty, f'{number} {command}\n')
        end = self.log.wait(rf'^@{number} = (\d+)', seconds, start)
        if not end:
            raise Failure(f'{self.name}: {command}: not done in {seconds} s')
        lines = re.findall(rf'^@{number} (?!= )(.*?)\r?$',
                           self.log.text[start:end.start()], re.M)
        if not check:
            return int(end[1]), lines
        if end[1] != '0':
            raise Failure(f'{self.name}: {command}: exit status {end[1]}: '
                          + ' / '.join(lines[-3:]))
        return lines

    def qmp(self, command, **arguments):
        """Asks the device model."""
        # libxl has a socket of its own; this is the one for others.
        answer, = self.dom0.call(60, qmp=f'/run/xen/qmp-libxenstat-{self.domid}', commands=[
            {'execute': command, 'arguments': arguments}])['answers']
        if 'error' in answer:
            raise Failure(f'{command}: {answer["error"]["desc"]}')
        return answer['return']

    def own_pages(self, nr):
        """Starts own-pages: NR pages of the guest's, for pages()."""
        self.run('load_privcmd; echo 0 > /proc/sys/vm/compact_unevictable_allowed;'
                 ' mkfifo /tmp/own.in /tmp/own.out;'
                 ' exec 8<> /tmp/own.out 9<> /tmp/own.in;'
                 f' own-pages {nr} <&9 >&8 2> /tmp/own.error &')

    def pages(self, command, seconds=30):
        """What own-pages answers to the command."""
        status, answer = self.run(f'echo "{command}" >&9; read -r -t {seconds * PATIENCE} answer'
                                  ' <&8 && echo "$answer"', seconds + 10, check=False)
        if status != 0:
            raise Failure(f'own-pages: {command}: ' + ' '.join(self.run('cat /tmp/own.error')))
        return answer[0]

    def destroy(self):
        self.dom0.run(f'xl destroy {self.name}', 60)
