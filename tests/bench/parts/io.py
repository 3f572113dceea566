# SPDX-License-Identifier: GPL-2.0-or-later
"""What disks and a network do behind each IOMMU
(tests/bench/guest/io-bench.c)."""

import socket
import threading

import machines
import svg
from machines import INTEL, LABELS, NONE, OURS, PEERS
from report import Goal, Plot, Table, Text, duration, number

TITLE = 'Disks and network'
ORDER = 3
MINUTES = 5

SUBJECTS = [NONE, OURS, *PEERS]
DISK_GIB = 4
DEVICES = [
    '-blockdev', f'null-co,node-name=d0,size={DISK_GIB << 30},read-zeroes=on',
    '-device', 'nvme,drive=d0,serial=bench',
    '-blockdev', f'null-co,node-name=d1,size={DISK_GIB << 30},read-zeroes=on',
    '-device', 'virtio-blk-pci,drive=d1,iommu_platform=on,disable-legacy=on',
    '-netdev', 'user,id=n0', '-device', 'e1000e,netdev=n0']
SETUP = ['load drivers',
         'soon test -b /dev/nvme0n1 && soon test -b /dev/vda && '
         'soon test -d /sys/class/net/eth0 && net_up',
         'echo 8 >/proc/sys/vm/nr_hugepages']
# What is said of it, what io-bench is told, bytes of one request or None.
CASES = {
    'nvme-4k': ('NVMe, 4 KiB random',
                '/dev/nvme0n1 read random pages 4096 32', 4096),
    'nvme-1m': ('NVMe, 1 MiB of huge pages',
                '/dev/nvme0n1 read sequential huge 1048576 8', 1 << 20),
    'nvme-256': ('NVMe, 256 single pages',
                 '/dev/nvme0n1 read sequential pages 1048576 8', 1 << 20),
    'virtio-4k': ('virtio-blk, 4 KiB random',
                  '/dev/vda read random pages 4096 32', 4096),
    'virtio-1m': ('virtio-blk, 1 MiB of huge pages',
                  '/dev/vda read sequential huge 1048576 8', 1 << 20),
    'virtio-256': ('virtio-blk, 256 single pages',
                   '/dev/vda read sequential pages 1048576 8', 1 << 20),
    'send': ('e1000e, sends', None, None),
    'receive': ('e1000e, receives', None, None),
}


class Peer:
    """Of the guest's TCP connection: takes all there is, or sends without end."""

    def __init__(self, sends):
        self.sends = sends
        self.listener = socket.create_server(('127.0.0.1', 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self.listen, daemon=True).start()

    def listen(self):
        while True:
            connection, _ = self.listener.accept()
            # A guest that stands still may keep its own open.
            threading.Thread(target=self.serve, args=[connection],
                             daemon=True).start()

    def serve(self, connection):
        data = bytearray(1 << 18)
        with connection:
            try:
                while self.sends:
                    connection.sendall(data)
                while connection.recv_into(data):
                    pass
            except OSError:
                pass    # The guest has enough.


def targets():
    return machines.targets()


def measure(machine, case, ms, peers):
    """Bytes a second."""
    _, disk, _ = CASES[case]
    if disk:
        what = f'disk {disk}'
    else:
        what = f'{case} 10.0.2.2 {peers[case].port}'
    return machines.counts(machine.run(f'io-bench {what} {ms}'))


def run(bench):
    rounds, ms = (2, 100) if bench.quick else (7, 250)
    machines.prepare(bench)
    peers = {'send': Peer(False), 'receive': Peer(True)}
    with machines.Machines(bench, SUBJECTS, DEVICES, SETUP) as guests:
        for iommu, machine in guests.turns():
            longest = machine.run('cat /sys/block/nvme0n1/queue/max_sectors_kb')
            bench.entries.sample('longest', iommu, int(longest), 'KiB')
        for mode in ('strict', 'lazy'):
            for _, machine in guests.turns():
                if mode == 'lazy':
                    machine.run(machines.LAZY)
                for case in CASES:
                    measure(machine, case, 50, peers)
            for n in range(rounds):
                bench.say(f'{mode}, round {n + 1} of {rounds}')
                for iommu, machine in guests.turns():
                    for case in CASES:
                        bench.entries.sample(
                            'io', iommu, measure(machine, case, ms, peers), 'B/s',
                            mode=mode, case=case)


def share(e, subject, peer, mode, case):
    """What the subject does of what the peer does."""
    return e.ratio('io', peer, subject, mode=mode, case=case)


def goals(e):
    found = {case: share(e, OURS, NONE, 'lazy', case) for case in CASES}
    missed = [CASES[case][0] for case, r in found.items() if r < 0.9]
    yield Goal('lazy: at least 90 % of what it is without an IOMMU',
               ', '.join(f'{CASES[c][0]}: {number(100 * r)} %'
                         for c, r in found.items()), not missed,
               '' if not missed else f'not {", ".join(missed)}: disks that take '
               'no time leave all of it to an emulated processor, which has '
               f'{duration(4096e9 / e.get("io", NONE, mode="lazy", case="nvme-4k"))}'
               ' for a request of 4 KiB to NVMe without an IOMMU; what is missing '
               'is Linux\'s own work for a map and an unmap: '
               f'{LABELS[INTEL]}, lazy, which is hardly ever told anything, has '
               + ', '.join(f'{number(100 * share(e, INTEL, NONE, "lazy", c))} %'
                           for c in CASES) +
               '. 1 MiB to NVMe is more requests behind any IOMMU: Linux makes '
               f'them {longest(e, OURS)} long at most there, which is what it '
               f'keeps addresses for, else {longest(e, NONE)}')
    for peer in PEERS:
        found = {case: share(e, OURS, peer, 'strict', case) for case in CASES}
        missed = [CASES[case][0] for case, r in found.items() if r < 1]
        yield Goal(f'strict: more than with {LABELS[peer]}',
                   ', '.join(f'{CASES[c][0]}: {number(r)} times'
                             for c, r in found.items()), not missed,
                   f'not {", ".join(missed)}' if missed else '')


def longest(e, subject):
    return f'{e.get("longest", subject):.0f} KiB'


def rate(e, subject, mode, case):
    value = e.get('io', subject, mode=mode, case=case)
    size = CASES[case][2]
    if size == 4096:
        return f'{svg.short(value / size)} IOPS'
    return f'{number(value / 1e6)} MB/s'


def report(e):
    yield Text(f'''A guest with two processors under TCG, Linux
{machines.KERNEL} of Debian. The disks are QEMU's null-co, which is no disk but
writes zeros where a read wants them, so that what is measured is the guest,
the device's model and the IOMMU; a small program reads past the page cache, 32
requests of 4 KiB at random or 8 of 1 MiB in order at a time. Where these are
of single pages, no two of them are neighbours in the guest's memory. e1000e has one TCP connection, by
user networking. Guests take turns, 7 samples of 250 ms. Lazy mode is as
under "DMA API".''')
    yield from goals(e)
    for mode in ('strict', 'lazy'):
        yield Plot(f'io-{mode}', svg.bars(
            f'Disks and network, {mode}', '% of no IOMMU',
            [case[0] for case in CASES.values()],
            [(LABELS[s], [100 * share(e, s, NONE, mode, c) for c in CASES])
             for s in SUBJECTS if s != NONE]),
            f'What is left of what it is without an IOMMU, {mode}.')
        yield Table(f'Disks and network, {mode}',
                    ['', *[LABELS[s] for s in SUBJECTS]],
                    [[case[0], *[rate(e, s, mode, c) for s in SUBJECTS]]
                     for c, case in CASES.items()])
        yield Table(f'Of what it is without an IOMMU, {mode}',
                    ['', *[LABELS[s] for s in SUBJECTS if s != NONE]],
                    [[case[0], *[f'{number(100 * share(e, s, NONE, mode, c))} %'
                                 for s in SUBJECTS if s != NONE]]
                     for c, case in CASES.items()])
