# SPDX-License-Identifier: GPL-2.0-or-later
"""A machine whose disks and NIC are in use, and what QEMU needs for it."""

import re

from agent import must, same
from machine import initrd_path, qemu_command

# MiB on each disk, written and then read; KiB over the network, each way.
DISK_MIB, NET_KIB = 8, 1024
# What QEMU may need more than after the second round: its own caches, in MiB.
GROWTH = 24


def command(kernel, *rest, memory='768', size='768M', more=()):
    """QEMU's, with the guest's memory apart from its own."""
    words = qemu_command(kernel, *rest)
    words[words.index('-m') + 1] = memory
    words[words.index('-initrd') + 1] = initrd_path('zoo-' + kernel)
    words[words.index('tcg')] = 'tcg,tb-size=64' if 'tcg' in words else words[0]
    return [*words, '-object', f'memory-backend-memfd,id=ram,size={size},reserve=off',
            '-machine', 'memory-backend=ram', *more]


def own_memory(guest):
    """MiB that QEMU itself has, without the guest's memory."""
    with open(f'/proc/{guest.process.pid}/status', encoding='ascii') as status:
        return int(re.search(r'^RssAnon:\s*(\d+) kB', status.read(), re.M)[1]) // 1024


class Growth:
    """Of QEMU's memory, from the second round on: it takes three to see any."""

    def __init__(self, guest):
        self.guest, self.sizes = guest, []

    def round(self):
        self.sizes.append(own_memory(self.guest))

    def check(self, report):
        report.note(f'QEMU\'s own memory, in MiB: {" ".join(map(str, self.sizes))}')
        if len(self.sizes) > 2:
            more = self.sizes[-1] - self.sizes[1]
            must(more <= GROWTH, f'QEMU has {more} MiB more than after the second round')


def prepare(guest, disks='/dev/nvme0n1 /dev/vda'):
    """A kernel that has just been started gets its drivers, and is busy."""
    guest.run('. /zoo.sh')
    guest.run('load_pviommu $(find_pci 0x1af4:0x1042)')
    guest.run('load drivers && zoo_load sd_mod ahci')
    for disk in disks.split():
        guest.run(f'soon test -b {disk}')
    guest.run('soon test -d /sys/class/net/eth0 && net_up')
    guest.run(f'zoo_busy {disks}')


def check(guest, rounds):
    """The load is right for some more rounds; a transfer of its own is, too."""
    now = int(guest.run('load_rounds')[0])
    guest.run(f'soon load_has_run {now + rounds}')
    guest.run('! [ -e /tmp/load.bad ]')
    guest.run('use_net')
    must(guest.faults() == 0, f'{guest.faults()} faults')


def end(guest):
    guest.run('zoo_idle')
    guest.run('quiet_log')
    same(guest)
