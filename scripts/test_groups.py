# SPDX-License-Identifier: GPL-2.0-or-later
"""Of each group of run-tests but those that QEMU's build knows: its tests."""

import os
import subprocess

TOP = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
# The machine may be slow, or busy with something else.
PATIENCE = 10


class Test:
    def __init__(self, group, name, command, timeout, tap=True, env=None, target=None,
                 memory=300):
        """TIMEOUT in seconds, MEMORY in MiB: what the guests in it may touch."""
        self.group, self.name, self.command = group, name, command
        self.timeout, self.tap = timeout * PATIENCE, tap
        self.env, self.target = env or {}, target
        self.memory = memory


def strictness(mode):
    return 'strict' if mode == '1' else 'lazy'


def guest_test(group, name, program, *arguments, kernel='6.1', mode='0', timeout=240):
    """A program of tests/functional that takes the usual options."""
    return Test(group, f'{name} {kernel} {strictness(mode)}',
                [os.path.join(TOP, 'tests', 'functional', program), *arguments,
                 f'--kernel={kernel}', f'--append=iommu.strict={mode}'], timeout, memory=1000)


ZOO = ('disk', 'usb', 'net', 'misc')
FIRMWARE = [(firmware, disk) for firmware in ('seabios', 'ovmf') for disk in ('nvme', 'virtio-blk')]
ENDURE = ('reset', 'snapshot', 'plug', 'memory', 'huge')
# What of it needs no hour, and that no qtest has.
SHORT = ('plug', 'snapshot', 'huge')
MODES = [(kernel, mode) for kernel in ('6.1', '6.12') for mode in ('0', '1')]
# The driver's parameter for interrupts that are not remapped.
DIRECT = 'xen_pviommu.interrupts=0'
# Of Debian stable's backports.
NEWEST = [('newest', mode) for mode in ('0', '1')]


def zoo(group, kind, machine, kernel, mode):
    return guest_test(group, f'{kind} {machine}', 'zoo', kind, f'--machine={machine}',
                      kernel=kernel, mode=mode, timeout=400)


def machines():
    """Models, firmware, what goes on for long: a short form; long() has all of it."""
    yield Test('functional', 'models',
               [os.path.join(TOP, 'tests', 'functional', 'zoo'), '--classify'], 60)
    # Some on each machine and on each kernel.
    for kind in 'disk', 'usb':
        yield zoo('functional', kind, 'q35', '6.1', '0')
    for kind in 'disk', 'net', 'misc':
        yield zoo('functional', kind, 'pc', '6.12', '1')
    for (firmware, disk), (kernel, mode) in zip(FIRMWARE, MODES):
        yield guest_test('functional', f'{firmware} {disk}', 'firmware', firmware, disk,
                         kernel=kernel, mode=mode)
    for part, (kernel, mode) in zip(SHORT, MODES):
        yield guest_test('functional', part, 'endure', part, '--rounds=3', kernel=kernel,
                         mode=mode, timeout=300)


def long():
    for kernel, mode in MODES + NEWEST:
        for kind in ZOO:
            for machine in 'q35', 'pc':
                yield zoo('long', kind, machine, kernel, mode)
        for firmware, disk in FIRMWARE:
            yield guest_test('long', f'{firmware} {disk}', 'firmware', firmware, disk,
                             kernel=kernel, mode=mode)
    for part in ENDURE:
        for kernel, mode in ('6.1', '0'), ('6.12', '1'), ('newest', '0'):
            yield guest_test('long', part, 'endure', part, '--rounds=20', kernel=kernel,
                             mode=mode, timeout=1200)
    # What 'functional' leaves out.
    for kernel, mode in MODES[0], MODES[3]:
        yield program('long', 'demo', kernel, append=f'iommu.strict={mode}', more=['--tap'])
    yield balloon('long', '6.1', '0', 'free-page-reporting=on')
    for name in 'groups', 'irqs', 'nvme-vfio':
        for kernel in '6.1', 'newest':
            yield program('long', name, kernel)
    yield guest_test('long', 'kexec', 'kexec', kernel='6.1', mode='1')
    yield program('long', 'late', '6.1', append='iommu.strict=1', device='identity-contexts=off')
    for kernel in '6.1', '6.12':
        yield program('long', 'late', kernel, append='iommu.passthrough=1')
    # The same of the newest kernel.
    for name in 'kexec', 'queues':
        yield guest_test('long', name, name, kernel='newest', mode='0')
    yield program('long', 'late', 'newest', append='iommu.passthrough=1')
    yield program('long', 'late', 'newest', append='iommu.strict=1')
    yield program('long', 'viot', 'newest', append='deferred_probe_timeout=1')
    for kernel in '6.1', 'newest':
        yield program('long', 'viot', kernel)
    yield program('long', 'viot', '6.12', more=['--table'])
    for kernel in '6.1', 'newest':
        yield program('long', 'suspend', kernel)
    yield program('long', 'iommufd', '6.12', append=DIRECT)
    for kernel in '6.1', '6.12', 'newest':
        yield program('long', 'demo', kernel, append=f'iommu.strict=1 {DIRECT}', more=['--tap'])
    yield program('long', 'demo', 'newest', append='iommu.strict=0', more=['--tap'])
    yield listener('long', 'intel-pc')
    yield Test('long', 'fuzz', [os.path.join(TOP, 'tests', 'fuzz', 'run'), '--seconds=300',
                                '--jobs=1'], 400, memory=3000)
    yield Test('long', 'soak', [os.path.join(TOP, 'tests', 'functional', 'soak'),
                                '--minutes=20'], 1800, memory=3000)
    yield Test('long', 'kernel-tests',
               [os.path.join(TOP, 'tests', 'functional', 'kernel-tests'), '--kernel=6.12',
                '--append=iommu.strict=1', '--all'], 1200, memory=5200)
    for suite in 'bookworm', 'trixie':
        yield Test('long', f'libvirt {suite}',
                   [os.path.join(TOP, 'tests', 'functional', 'libvirt'), suite], 300, memory=1500)


def program(group, name, kernel, append='', device='', more=()):
    """A program of tests/functional on a kernel."""
    return Test(group, ' '.join(filter(None, [name, kernel, append, device, *more])),
                [os.path.join(TOP, 'tests', 'functional', name), f'--kernel={kernel}',
                 f'--append={append}', f'--device=xen-pviommu,{device}'.rstrip(','), *more],
                180, memory=1000)


def balloon(group, kernel, mode, options=''):
    """The demo with a balloon, which can also say what the guest does not use."""
    return guest_test(group, 'balloon', 'demo', '--tap', f'--balloon={options}', kernel=kernel,
                      mode=mode, timeout=180)


def functional():
    demo = os.path.join(TOP, 'tests', 'functional', 'demo')
    # Both kernels, and both ways to flush: each mapping by itself, or many at once.
    # Another one is that with a balloon.
    for kernel, mode in ('6.1', '1'), ('6.12', '0'), NEWEST[1]:
        yield Test('functional', f'{kernel} {"strict" if mode == "1" else "lazy"}',
                   [demo, '--tap', f'--kernel={kernel}', f'--append=iommu.strict={mode}'],
                   180, memory=1000)
    yield balloon('functional', '6.12', '1')
    yield guest_test('functional', 'kexec', 'kexec', kernel='6.12', mode='1')
    for kernel, append in (('6.1', 'iommu.strict=0'), ('6.12', 'iommu.strict=1'),
                           ('newest', 'iommu.strict=0')):
        yield program('functional', 'late', kernel, append)
    for name in 'groups', 'viot', 'suspend', 'irqs', 'nvme-vfio', 'iommufd':
        yield program('functional', name, '6.12')
    for kernel, mode in ('6.1', '0'), ('6.12', '1'):
        yield Test('functional', f'queues {kernel} {"strict" if mode == "1" else "lazy"}',
                   [os.path.join(TOP, 'tests', 'functional', 'queues'), f'--kernel={kernel}',
                    f'--append=iommu.strict={mode}'], 180, memory=1000)
    yield Test('functional', 'shell', [os.path.join(TOP, 'tests', 'functional', 'shell')],
               180, memory=1000)


def listener(group, host):
    return Test(group, host,
                [os.path.join(TOP, 'tests', 'functional', 'listeners'), f'--{host}'],
                300, memory=2500)


def listeners():
    for host in 'intel', 'intel-39', 'amd':
        yield listener('listeners', host)
    vhost_user = os.path.join(TOP, 'tests', 'functional', 'vhost-user')
    yield Test('listeners', 'testpmd',
               [vhost_user, 'net', '--kernel=6.12', '--append=iommu.passthrough=1'], 400,
               memory=1000)
    yield Test('listeners', 'storage-daemon', [vhost_user, 'blk', '--kernel=6.12'], 120,
               memory=1000)
    yield Test('listeners', 'kernel-tests',
               [os.path.join(TOP, 'tests', 'functional', 'kernel-tests'), '--kernel=6.12'], 400,
               memory=5200)


def kernels():
    yield Test('kernels', 'compile', [os.path.join(TOP, 'scripts', 'check-kernels')], 1800)


def debian(part, *options, timeout=600):
    name = ' '.join([part, *(option.removeprefix('--').replace('=', ' ') for option in options)])
    return Test('guest', name,
                [os.path.join(TOP, 'tests', 'functional', 'debian'), part, *options],
                timeout, memory=2500)


def guest():
    """Debian's kernels before 6.12 do not heed a VIOT table."""
    yield debian('chapter')
    for options in (['--viot'],
                    ['--firmware=ovmf', '--disk=virtio-blk'],
                    ['--disk=virtio-blk', '--driver=late'],
                    ['--firmware=ovmf', '--driver=late'],
                    ['--driver=absent'],
                    ['--firmware=ovmf', '--disk=virtio-blk', '--driver=absent'],
                    ['--suite=trixie', '--viot'],
                    ['--suite=trixie', '--firmware=ovmf', '--disk=virtio-blk', '--viot'],
                    ['--suite=trixie', '--disk=virtio-blk', '--driver=after', '--viot'],
                    ['--suite=trixie', '--driver=after', '--viot'],
                    ['--suite=trixie', '--driver=late']):
        yield debian('boot', *options)
    yield debian('kernel', '--viot')
    for part in 'kdump', 'suspend', 'dpdk':
        yield debian(part)


def scripts():
    for name in 'messages', 'style', 'series', 'docs', 'figures':
        yield Test('scripts', name, [os.path.join(TOP, 'tests', 'scripts', name)], 60)


def xen(group='xen'):
    check = os.path.join(TOP, 'tests', 'functional', 'xen', 'check')
    said = subprocess.run([check, '--list'], check=True, stdout=subprocess.PIPE, text=True)
    for name, of_group, _ in (line.split('\t') for line in said.stdout.splitlines()):
        if of_group == group:
            yield Test(group, name, [check, name], 540, memory=4500)


def xen_other():
    return xen('xen-other')


def xen_long():
    return xen('xen-long')


def deb():
    for name, *arguments in ('dkms', 'bookworm'), ('dkms', 'trixie'), ('qemu',), ('install',):
        yield Test('deb', ' '.join([name, *arguments]),
                   [os.path.join(TOP, 'tests', 'packages', name), *arguments], 900)


GROUPS = (('scripts', scripts), ('functional', functional), ('functional', machines),
          ('listeners', listeners), ('kernels', kernels), ('long', long), ('guest', guest),
          ('xen', xen), ('xen-other', xen_other), ('xen-long', xen_long), ('deb', deb))
