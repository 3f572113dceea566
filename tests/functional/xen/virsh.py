# SPDX-License-Identifier: GPL-2.0-or-later
"""A domain of libvirt's Xen driver with xen-pviommu, by virsh in dom0."""

import os
import xml.etree.ElementTree as ET

from dom0 import Failure, Guest, TOP
from suite import gone, must, same_mappings, test, until

XML = os.path.join(TOP, 'docs', 'system', 'devices', 'libvirt', 'xen.xml')
NAMESPACE = 'http://libvirt.org/schemas/domain/xen/1.0'
# What the test's guest has besides: its kernel, an agent on its console, and a
# clock that the outer emulator can do, as guest.cfg has it.
CMDLINE = ('xen_emul_unplug=never console=ttyS0 quiet panic=-1 demo.agent demo.disk=16 '
           'watchdog_thresh=60 rcupdate.rcu_cpu_stall_timeout=300 '
           'sysctl.kernel.hung_task_timeout_secs=600')
# With the Xen driver only: that for QEMU, which comes with Debian's package of the
# daemon, needs a user that dom0 does not have. Its model of a processor with the least
# features has one that the outer emulator's lacks.
START = '''
sed -i /vme/d /usr/share/libvirt/cpu_map/x86_486.xml
mkdir -p /tmp/drivers
ln -s "$(find /usr/lib -name libvirt_driver_libxl.so)" /tmp/drivers/
export LIBVIRT_DRIVER_DIR=/tmp/drivers
libvirtd --pid-file /run/libvirtd-test.pid > /var/log/libvirtd 2>&1 &
for _ in $(seq 200); do
    virsh -c xen:///system uri 2> /dev/null && exit
    kill -0 $! || break
    sleep 1
done
tail -n 12 /var/log/libvirtd | cut -d : -f 5-
exit 1
'''
# A terminal for 'virsh console': what is written to the FIFO is typed there.
CONSOLE = '''
rm -f /tmp/typed && mkfifo /tmp/typed
python3 -c 'import pty, sys; pty.spawn(sys.argv[1:])' virsh -c xen:///system console {} \\
    <> /tmp/typed >> /var/log/xen/virsh-console.log 2>&1 &
'''


def virsh(state, command, seconds=60):
    return state.dom0.run('virsh -c xen:///system ' + command, seconds)


class Domain(Guest):
    """The manual's domain, with its agent at 'virsh console'."""

    def __init__(self, dom0):
        tree = ET.parse(XML).getroot()
        super().__init__(dom0, tree.find('name').text)
        self.log = dom0.log('virsh-console')
        self.tty = '/tmp/typed'
        self.emulator = tree.find('devices/emulator').text
        self.args = [arg.get('value') for arg in tree.iter(f'{{{NAMESPACE}}}arg')]
        self.images = [tree.find('devices/disk/source').get('file'),
                       *(arg.rpartition('file=')[2] for arg in self.args if 'file=' in arg)]
        for tag, text in (('kernel', '/t/guest/vmlinuz'), ('initrd', '/t/guest/initrd'),
                          ('cmdline', CMDLINE)):
            ET.SubElement(tree.find('os'), tag).text = text
        clock = ET.SubElement(tree, 'clock', offset='utc')
        ET.SubElement(clock, 'timer', name='tsc', mode='native')
        ET.register_namespace('xen', NAMESPACE)
        self.xml = ET.tostring(tree, encoding='unicode')

    def define(self):
        self.dom0.write('/tmp/guest.xml', self.xml)
        for image in self.images:
            self.dom0.run(f'mkdir -p {os.path.dirname(image)} && truncate -s 48M {image}')
        self.dom0.run(f'mkdir -p {os.path.dirname(self.emulator)} &&'
                      f' ln -s /t/bin/qemu-system-x86_64 {self.emulator}')


@test('libvirtd runs in dom0, with its Xen driver', on=['libvirt'])
def daemon(state):
    gone(state)
    state.dom0.run(START, 100)
    state.note('; '.join(line for line in virsh(state, 'version --daemon').splitlines() if line))


@test("virsh define, start: the manual's domain gets to its agent, at virsh console",
      on=['libvirt'])
def started(state):
    guest = Domain(state.dom0)
    guest.define()
    virsh(state, 'define --validate /tmp/guest.xml')
    virsh(state, f'start {guest.name}', 100)
    guest.domid = int(virsh(state, f'domid {guest.name}'))
    state.dom0.run(CONSOLE.format(guest.name))
    must(guest.log.wait(r'@ready\r?$', 360), 'the guest does not get to its agent')
    state.running = guest


@test('the driver is bound, and a disk of <xen:commandline> moves data behind it',
      on=['libvirt'])
def bound(state):
    guest = state.guest
    guest.run('load_pviommu && load drivers && soon test -b /dev/nvme0n1', 60)
    driver = guest.run('driver_of $(find_pci 0x5853:0x0003)')
    must(driver == ['xen-pviommu'], f'the driver is {driver}')
    sbdf, = guest.run('find_pci 0x1b36:0x0010')
    kind, = guest.run(f'cat /sys/kernel/iommu_groups/$(group_of {sbdf})/type')
    must(kind.startswith('DMA') and guest.run(f'context_of {sbdf}'),
         f'{sbdf}: the domain is {kind}')
    guest.run('pattern /tmp/pattern && use_disk /dev/nvme0n1 && quiet_log', 120)
    info, _ = same_mappings(guest)
    must(not info['counters']['faults'], f'there were faults: {info["counters"]}')
    must(sbdf in {d['sbdf'] for c in info['contexts'] for d in c['devices'] if c['context']},
         f'{sbdf} is in no context: {info["contexts"]}')


@test('virsh domxml-to-native, domxml-from-native: device_model_args, and not those of _hvm',
      on=['libvirt'])
def native(state):
    config = virsh(state, 'domxml-to-native xen-xl --domain ' + state.guest.name)
    words = ', '.join(f'"{arg}"' for arg in state.guest.args)
    must(f'device_model_args = [ {words} ]' in config, f'the configuration: {config}')
    must(f'device_model_override = "{state.guest.emulator}"' in config, config)
    state.dom0.write('/tmp/guest.cfg', config)
    again = virsh(state, 'domxml-from-native xen-xl /tmp/guest.cfg')
    must(again.count('<xen:arg ') == len(state.guest.args), f'the domain: {again}')
    state.dom0.write('/tmp/guest.cfg', config.replace('device_model_args', 'device_model_args_hvm'))
    again = virsh(state, 'domxml-from-native xen-xl /tmp/guest.cfg')
    must('xen:arg' not in again, f'the domain: {again}')


@test('virsh destroy, undefine: nothing is left', on=['libvirt'])
def ended(state):
    guest, state.running = state.guest, None
    virsh(state, f'destroy {guest.name}', 100)
    gone(state)
    virsh(state, f'undefine {guest.name}')
    left = virsh(state, 'list --all --name').split()
    must(left in ([], ['Domain-0']), f'there are the domains {left}')


@test('libvirtd ends when it is told to', on=['libvirt'])
def daemon_ended(state):
    state.dom0.run('kill $(cat /run/libvirtd-test.pid)')
    if not until(lambda: state.dom0.run('pgrep -x libvirtd', check=False)[0] == 1, 20):
        raise Failure('it runs on')
