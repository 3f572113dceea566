# SPDX-License-Identifier: GPL-2.0-or-later
"""Calls of xen-pviommu from beside a guest that runs.

By QEMU's qtest protocol, and by the numbers of
include/hw/xen/interface/iommu_op.h.
"""

import socket
import struct

OP_MAP, OP_SET_QUEUE = 2, 12
DOMID_SELF = 0x7ff0
VENDOR, DEVICE = 0x5853, 0x0003
REG_NR_BLOCKS, BLOCKS, BLOCK_STRIDE = 0x04, 0x2000, 64
BLOCK_ARRAY, BLOCK_DOORBELL = 0x00, 0x08
# op, flags, status; bfn or an address, gfn, domid, ctx, and how many.
OP = struct.Struct('<HHiQQHHI')
NOT_RUN = 1


def operation(op, ctx, bfn, gfn=0, nr=0, domid=0):
    """For OP.pack(): a map, or what has its fields where a map has them."""
    return op, 0, NOT_RUN, bfn, gfn, domid, ctx, nr


def find_bar(devices):
    """Where the device's registers are, of what query-pci says."""
    for device in devices:
        if (device['id']['vendor'], device['id']['device']) == (VENDOR, DEVICE):
            return next(r['address'] for r in device['regions'] if r['bar'] == 0)
    raise ValueError('there is no xen-pviommu on the root bus')


class Outside:
    """What writes to a guest's memory and devices behind its back."""

    def __init__(self, path, qmp):
        self.qmp = qmp
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.connect(path)
        self.lines = self.socket.makefile('r')

    def command(self, command):
        self.socket.sendall(command.encode() + b'\n')
        status, *answer = self.lines.readline().split()
        if status != 'OK':
            raise RuntimeError(f'qtest: {command}: {status} {" ".join(answer)}')
        return answer[0] if answer else ''

    def read(self, address, size):
        return bytes.fromhex(self.command(f'read {address:#x} {size:#x}').removeprefix('0x'))

    def write(self, address, data):
        self.command(f'write {address:#x} {len(data):#x} 0x{data.hex()}')

    def read_long(self, address):
        return int(self.command(f'readl {address:#x}'), 0)

    def block(self):
        """The last register block: the guest has fewer domains than there are."""
        bar = find_bar(self.qmp('query-pci')[0]['devices'])
        last = self.read_long(bar + REG_NR_BLOCKS) - 1
        return bar + BLOCKS + last * BLOCK_STRIDE

    def ring(self):
        """A call of no operations: what is in queues runs."""
        self.command(f'writel {self.block() + BLOCK_DOORBELL:#x} 0')

    def call(self, array, operations):
        """Runs operations, which are put at the address ARRAY: their statuses."""
        block = self.block()
        before = self.command(f'readq {block + BLOCK_ARRAY:#x}')
        self.write(array, b''.join(OP.pack(*op) for op in operations))
        self.command(f'writeq {block + BLOCK_ARRAY:#x} {array:#x}')
        self.command(f'writel {block + BLOCK_DOORBELL:#x} {len(operations)}')
        # It may have been somebody's, who remembers what is there.
        self.command(f'writeq {block + BLOCK_ARRAY:#x} {before}')
        return [status for _, _, status, *_ in
                OP.iter_unpack(self.read(array, len(operations) * OP.size))]
