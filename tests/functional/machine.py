# SPDX-License-Identifier: GPL-2.0-or-later
"""The machine that guests run in, and how what became of a step is told."""

import os
import threading
import time

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BUILD = os.path.join(TOP, 'build')
LOGS = os.path.join(BUILD, 'logs')
QEMU = os.path.join(BUILD, 'qemu', 'out', 'qemu-system-x86_64')

MEMORY_MIB = 768
DISK_MIB = 160
# What any kernel is told. Linux complains of a processor or a task that stands
# still, also when it is the host that has no time for it: not before we do. Nor does
# it take a timer for broken that a busy host has raised late.
KERNEL_ARGS = ('console=ttyS0 quiet panic=-1 no_timer_check watchdog_thresh=60 '
               'rcupdate.rcu_cpu_stall_timeout=300 sysctl.kernel.hung_task_timeout_secs=600')


def kernel_path(kernel):
    return os.path.join(BUILD, 'kernel', kernel, 'vmlinuz')


def initrd_path(kernel):
    return os.path.join(BUILD, 'guest', kernel + '.cpio.gz')


def disk_path(directory, name):
    return os.path.join(directory, name + '.img')


def disk(directory, name):
    path = disk_path(directory, name)
    with open(path, 'wb') as image:
        image.truncate(DISK_MIB << 20)
    return path


def behind_bridge(drive, work, slot):
    name = f'sibling{slot}'
    return ['-drive', f'{drive},id={name},file={disk(work, name)}',
            '-device', f'virtio-blk-pci,drive={name},iommu_platform=on,'
                       f'disable-legacy=on,bus=bridge,addr={slot}']


def qemu_command(kernel, append, work, log, qemu=QEMU, accel='tcg', device='xen-pviommu',
                 iothread=False):
    """QEMU with the Debian kernel KERNEL, one of each kind of device behind
    DEVICE, its disks in the directory WORK; it says to LOG what goes wrong.
    With IOTHREAD virtio-blk does its DMA in a thread of its own."""
    drive = 'if=none,format=raw,cache=unsafe,aio=threads'
    thread = ',iothread=io0' if iothread else ''
    return [
        qemu, '-M', 'q35', '-accel', accel, '-m', str(MEMORY_MIB),
        # Two processors: two of them ring two doorbells at once.
        '-smp', '2', '-cpu', 'max',
        '-nodefaults', '-display', 'none', '-no-reboot',
        # First, so that it is there before the devices that use it.
        '-device', device,
        '-drive', f'{drive},id=d0,file={disk(work, "nvme")}',
        '-device', 'nvme,drive=d0,serial=demo',
        '-drive', f'{drive},id=d1,file={disk(work, "virtio")}',
        '-object', 'iothread,id=io0',
        '-device', f'virtio-blk-pci,drive=d1,iommu_platform=on,disable-legacy=on{thread}',
        # Two that are one to the IOMMU.
        '-device', 'pcie-pci-bridge,id=bridge',
        *behind_bridge(drive, work, 1), *behind_bridge(drive, work, 2),
        '-netdev', 'user,id=n0', '-device', 'e1000e,netdev=n0',
        # One that can write to where interrupts are.
        '-device', 'edu,dma_mask=0xffffffff',
        '-trace', 'xen_pviommu_fault*', '-d', 'guest_errors', '-D', log,
        '-kernel', kernel_path(kernel), '-initrd', initrd_path(kernel),
        '-append', f'{KERNEL_ARGS} {append}',
    ]


# Seconds of silence after which people are told that a step still runs.
SILENCE = 15


class Report:
    """TAP for machines, or the same for people."""

    def __init__(self, tap, prefix):
        self.tap, self.prefix = tap, prefix
        self.passed = self.failed = 0
        self.lock = threading.Lock()
        self.spoke = time.monotonic()
        if not tap:
            threading.Thread(target=self.watch, daemon=True).start()

    def watch(self):
        """Says that a step still runs while nothing else is said, for ever."""
        began = self.spoke
        while True:
            time.sleep(1)
            with self.lock:
                now = time.monotonic()
                if now - self.spoke >= SILENCE:
                    self.spoke = now
                    print(f'      still running, {now - began:.0f} s', flush=True)

    def note(self, text):
        print(f'# {text}\n' if self.tap else f'      {text}\n', end='', flush=True)

    def last_words(self, console, log):
        """Of the guest and of QEMU: before the result, as a list of failures has
        what comes before it."""
        for line in tail(console, 10):
            self.note('console: ' + line)
        for line in tail(log, 3):
            self.note('QEMU: ' + line)

    def result(self, ok, text):
        with self.lock:
            self.spoke = time.monotonic()
            if ok:
                self.passed += 1
            else:
                self.failed += 1
            if self.tap:
                print('ok' if ok else 'not ok', self.passed + self.failed, '-',
                      self.prefix + text, flush=True)
            else:
                print('[ ok ]' if ok else '[FAIL]', text, flush=True)

    def end(self, seconds):
        """Says how many there were; the program's exit status."""
        if self.tap:
            print(f'1..{self.passed + self.failed}')
        else:
            print(f'{self.passed} steps passed, {self.failed} failed, in {seconds:.0f} s')
        return 1 if self.failed else 0


def tail(path, count):
    try:
        with open(path, encoding='utf-8', errors='replace') as f:
            return f.read().splitlines()[-count:]
    except OSError:
        return []
