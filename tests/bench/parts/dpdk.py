# SPDX-License-Identifier: GPL-2.0-or-later
"""Packets of DPDK's testpmd, as Debian has it, behind each IOMMU."""

import os
import re
import sys
import tempfile
import time

import machines
from machines import INTEL_CM, IOMMUS, LABELS, OURS, VIRTIO
from report import Goal, Table, Text, number

sys.path.insert(0, os.path.join(machines.TOP, 'tests', 'functional'))
# pylint: disable=wrong-import-position
import chapter          # noqa: E402
import disk             # noqa: E402
from qmp import Qmp     # noqa: E402
from terminal import Terminal   # noqa: E402

TITLE = 'DPDK'
ORDER = 4
MINUTES = 15

# Debian's kernels have a driver for virtio-iommu from this one on.
SUITE = 'trixie'
SUBJECTS = [OURS, VIRTIO, INTEL_CM]
CHANGES = 'echo virtio_iommu >> /etc/initramfs-tools/modules; update-initramfs -u'
APPEND = 'intel_iommu=on quiet'
PAGES = {'2 MiB': '', '4 KiB': ' --no-huge'}
SECONDS = 4


class Guest(Terminal):
    """A Debian with two e1000e that are bound to vfio-pci."""

    def __init__(self, iommu, image):
        self.work = tempfile.TemporaryDirectory(prefix='bench-', dir=machines.BUILD)
        copy, qmp = (os.path.join(self.work.name, name) for name in ('disk.img', 'qmp'))
        disk.copy(image, copy)
        options = IOMMUS[iommu][0] if iommu != OURS else ['-device', 'xen-pviommu,viot=on']
        super().__init__([
            os.path.join(machines.BUILD, 'qemu', 'out', 'qemu-system-x86_64'),
            '-M', 'q35,sata=off', '-accel', 'tcg', '-cpu', 'max', '-smp', '2', '-m', '2G',
            '-nodefaults', '-display', 'none', '-serial', 'stdio', *options,
            '-drive', f'if=none,format=raw,cache=unsafe,id=disk,file={copy}',
            '-device', 'nvme,drive=disk,serial=1',
            '-netdev', 'hubport,hubid=0,id=a',
            '-device', 'e1000e,netdev=a,addr=10,romfile=',
            '-netdev', 'hubport,hubid=0,id=b',
            '-device', 'e1000e,netdev=b,addr=11,romfile=',
            '-qmp', f'unix:{qmp},server=on,wait=off'],
            os.path.join(machines.LOGS, f'bench-dpdk-{iommu}.console'))
        self.qmp = Qmp(qmp)
        self.login()
        for what, block in chapter.blocks():
            if what == 'guest' and 'devbind' in block:
                for line in block.splitlines():
                    self.do(line)
        if iommu != OURS:
            # Their interrupts are not remapped, in the set-up that is measured.
            self.do('modprobe vfio_iommu_type1; echo Y > '
                    '/sys/module/vfio_iommu_type1/parameters/allow_unsafe_interrupts')

    def start(self, options):
        self.do(f'dpdk-testpmd --iova-mode=va -m 128{options} -- --total-num-mbufs=4096 '
                '--tx-first --stats-period=1 > /tmp/out 2>&1 &')
        self.do('for i in $(seq 120); do grep -q RX-packets /tmp/out && break; sleep 1; done; '
                'grep -q RX-packets /tmp/out')

    def finish(self):
        self.do('pkill -INT -x dpdk-testpmd; wait; true')

    def count(self):
        """Packets that both have received, as it says next, and QEMU's CPU time
        at that moment."""
        lines = self.do('grep -m 2 RX-packets <(tail -n 0 -f /tmp/out)')
        packets = sum(int(re.search(r'RX-packets: (\d+)', line)[1]) for line in lines)
        with open(f'/proc/{self.process.pid}/stat', encoding='ascii') as file:
            fields = file.read().rsplit(')', 1)[1].split()
        return packets, sum(map(int, fields[11:13])) / os.sysconf('SC_CLK_TCK')

    def end(self):
        super().end()
        self.work.cleanup()


def targets():
    return machines.targets()


def run(bench):
    rounds = 2 if bench.quick else 7
    os.makedirs(disk.DISKS, exist_ok=True)
    os.makedirs(machines.LOGS, exist_ok=True)
    image = disk.make(SUITE, bench.say, 'bench', CHANGES, APPEND)
    guests = {}
    try:
        for iommu in SUBJECTS:
            bench.say(f'boots behind {LABELS[iommu]}')
            guests[iommu] = Guest(iommu, image)
            guests[iommu].qmp('stop')
        for pages, options in PAGES.items():
            for guest in guests.values():
                guest.qmp('cont')
                guest.start(options)
                guest.qmp('stop')
            for n in range(rounds):
                bench.say(f'pages of {pages}, round {n + 1} of {rounds}')
                for iommu, guest in guests.items():
                    guest.qmp('cont')
                    packets, cpu = guest.count()
                    time.sleep(SECONDS)
                    later, cpu_later = guest.count()
                    guest.qmp('stop')
                    bench.entries.sample('testpmd', iommu, (later - packets) / (cpu_later - cpu),
                                         'packets/s', pages=pages)
            for guest in guests.values():
                guest.qmp('cont')
                guest.finish()
                guest.qmp('stop')
    finally:
        for guest in guests.values():
            guest.end()


def report(e):
    yield Text(f'''Debian's testpmd (Debian {SUITE}, two processors under TCG) sends packets
from each of two e1000e to the other by vfio-pci, with ``--iova-mode=va``; the
manual's chapter about a Debian guest has the commands. Counted are packets for
each second of CPU time that QEMU takes, as testpmd polls without end. Guests
take turns, 7 samples of about {SECONDS} s.''')
    for peer in VIRTIO, INTEL_CM:
        found = {pages: e.ratio('testpmd', peer, OURS, pages=pages) for pages in PAGES}
        yield Goal(f'more packets than with {LABELS[peer]}',
                   ', '.join(f'pages of {pages}: {number(r)} times' for pages, r in found.items()),
                   all(r >= 1 for r in found.values()))
    yield Table('Packets for each second of CPU time', ['pages', *[LABELS[s] for s in SUBJECTS]],
                [[pages, *[number(e.get('testpmd', s, pages=pages)) for s in SUBJECTS]]
                 for pages in PAGES])
