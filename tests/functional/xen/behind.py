# SPDX-License-Identifier: GPL-2.0-or-later
"""A device that Xen passes through, behind xen-pviommu: the whole chain.

The guest's driver, xen-pviommu, the hypervisor's contexts and the machine's IOMMU;
targets.py has the hypervisor's part alone.
"""

from dom0 import Failure, PASSED
from guests import refused
from passed import attached, create, listed
from suite import faults, must, test

ON = ['series', 'vtd']


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
