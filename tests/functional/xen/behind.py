# SPDX-License-Identifier: GPL-2.0-or-later
"""A device that Xen passes through, behind xen-pviommu: the whole chain.

The guest's driver, xen-pviommu, the hypervisor's contexts and the machine's IOMMU;
targets.py has the hypervisor's part alone.
"""

from dom0 import Failure, PASSED, PASSED_DISK
from guests import refused
from passed import attached, create, listed, reaches_nothing
from suite import all_back, balloon, faults, MEASURES, must, test

ON = ['series', 'vtd']
# What does not depend on the machine's IOMMU, and takes minutes.
ON_ONE = ['vtd']


def busy(guest):
    """A program has the function by VFIO, and has it copy pages."""
    guest.run('rm -f /tmp/quiet; edu-busy /tmp/quiet > /tmp/busy 2>&1 & busy=$!;'
              ' soon grep -q "in use" /tmp/busy', 60)


def quiet(guest):
    """Ends that: what it says of the data."""
    return guest.run('touch /tmp/quiet; wait $busy && cat /tmp/busy', 60)[-1]


@test('behind: the device model is killed while VFIO does DMA: xl destroy brings all back',
      on=ON_ONE)
def model_killed(state):
    guest = create(state)
    busy(guest)
    pid = state.dom0.run(f'xenstore-read /local/domain/{guest.domid}/image/device-model-pid')
    state.dom0.run(f'kill -9 {pid.strip()}')
    state.running = None
    guest.destroy()
    all_back(state)
    reaches_nothing(state)


@test('behind: an NVMe with a file system: files are written and read, by way of its own context',
      on=ON)
def disk(state):
    guest = create(state, [PASSED_DISK])
    must(PASSED_DISK in listed(guest), 'QMP has it in no context')
    guest.run(f'soon test -d $PCI/{PASSED_DISK}/nvme && soon test -b /dev/nvme1n1 &&'
              f' disk=/dev/$(ls $PCI/{PASSED_DISK}/nvme)n1')
    guest.run('load late; pattern /tmp/pattern && fs_start $disk && soon fs_has_run 2', 100)
    before = guest.qmp('x-query-xen-pviommu')['counters']
    rounds = int(guest.run('fs_rounds')[0])
    guest.run(f'soon fs_has_run {rounds + 2} && fs_stop', 100)
    now = guest.qmp('x-query-xen-pviommu')['counters']
    must(now['maps'] > before['maps'], 'nothing was mapped for it')
    must(not now['faults'], f'{now["faults"]} faults')
    guest.run('quiet_log')
    state.note(f'{guest.run("fs_rounds")[0]} files of 8 MiB')
    state.running = None
    guest.destroy()
    all_back(state)
    state.dom0.run(f'xl pci-assignable-remove {PASSED_DISK}')


@test('behind: a guest has a PCI function of the machine, in a context of its own', on=ON)
def in_context(state):
    guest = create(state)
    said = attached(guest)
    must(said and set(said) == {'0'}, f'attached: {said}')
    must(guest.run(f'[ -e $PCI/{PASSED}/iommu_group ]', check=False)[0] == 0, 'it has no group')
    must(PASSED in listed(guest), 'QMP has it in no context')
    other = guest.run(f'context_of $(find_pci 0x1b36:0x0010); context_of {PASSED}')
    must(len(set(other)) == 2, f'contexts: {other}')


@test('behind: VFIO has it: DMA to what is mapped moves data, to all else none', on=ON)
def vfio(state):
    guest = state.guest
    before = guest.qmp('x-query-xen-pviommu')['counters']['faults']
    said = guest.run('edu-dma physical 2>&1', 120)
    must(any('all ok' in line for line in said), ' / '.join(said[-8:]))
    state.note(f'{len(said)} checks')
    counted = guest.qmp('x-query-xen-pviommu')['counters']['faults'] - before
    must(counted, 'the guest was told of no fault')
    must(faults(state, sbdf=PASSED), 'Xen had no fault')
    # With the function, as the guest names it, the address and why.
    guest.run(f"soon eval 'dmesg | grep \"fault: device {PASSED} .*readonly\"'")
    guest.run(f"soon eval 'dmesg | grep \"fault: device {PASSED} .*unmapped\"'")


@test('behind: a balloon, down and up, while VFIO does DMA and the NVMe, too', on=ON_ONE)
def ballooned(state):
    guest = state.guest
    busy(guest)
    guest.run('DISK=8')
    # Page tables of its context may become needed, and go.
    balloon(state, True, [guest.memory - 32], '/dev/nvme0n1', guest.memory // 2)
    state.note(quiet(guest))


@test('behind: iommu_op from that guest: the program is through', on=ON)
def behind_refused(state):
    """Its device model says what the function reaches; it is not asked itself."""
    refused(state)


@test('behind: xl save is refused, says why, and the guest goes on', on=ON)
def not_saved(state):
    guest = state.guest
    try:
        state.dom0.run(f'xl save {guest.name} /tmp/saved', 60)
    except Failure as error:
        state.note(str(error).splitlines()[-1])
    else:
        raise Failure('it was saved')
    reasons = guest.qmp('query-migrate').get('blocked-reasons', [])
    must(any('passes through' in reason for reason in reasons), f'reasons: {reasons}')
    must('all ok' in ' '.join(guest.run('edu-dma physical 2>&1', 120)), 'VFIO has no DMA any more')
    # So it is when the guest is destroyed.
    guest.run('edu-dma physical /tmp/never > /tmp/edu 2>&1 &'
              ' soon grep -q "its interrupt arrives: ok" /tmp/edu')


@test('behind: what VFIO pays for a map and an unmap through the whole chain', among=MEASURES,
      on=ON)
def cost(state):
    guest = create(state)
    for line in guest.run('edu-busy cost', 200):
        state.note(line)
    state.running = None
    guest.destroy()
