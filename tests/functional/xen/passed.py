# SPDX-License-Identifier: GPL-2.0-or-later
"""A device that Xen passes through, beside xen-pviommu; and the very end of dom0's DMA.

Where the hypervisor has no contexts for it: behind.py has the others.
"""

import re

from dom0 import EDU, Guest, PASSED
from suite import (all_back, balloon, dma, dma_fails, faults, FOREIGN, must, NOWHERE, relay,
                   test, until)

def reaches_nothing(state):
    """The function, which nobody has. Xen does not say what it tries."""
    # Untranslated, it would reach the registers of dom0's device.
    registers = int(state.dom0.run(f'cat /sys/bus/pci/devices/{EDU}/resource').split()[0], 16)
    read = f'busybox devmem {registers + 0x80:#x} 64'
    dma(state, FOREIGN, NOWHERE, 8)
    old = int(state.dom0.run(read), 16)
    must(old, 'that device has done no DMA')
    dma(state, FOREIGN, registers >> 12, sbdf=PASSED)
    must(int(state.dom0.run(read), 16) == old, 'it changed a register')


# --- a device that Xen passes through ---------------------------------------

def create(state, functions=(PASSED,)):
    """A guest that has the functions, at the same places."""
    if state.running:
        state.running.destroy()     # with --only
    for sbdf in functions:
        state.dom0.run(f'xl pci-assignable-add {sbdf}')
    pci = ','.join(f'"{sbdf}@{sbdf[8:10]}"' for sbdf in functions)
    # Fewer devices: it starts sooner.
    guest = Guest(state.dom0, 'passed', 256, [
        f'pci=[{pci}]', 'vcpus=1',
        'device_model_args=["-trace","xen_pviommu_attach"]',
        'device_model_args_hvm=["-device","xen-pviommu",'
        '"-drive","if=none,id=d0,format=raw,cache=unsafe,file=/tmp/d0.img",'
        '"-device","nvme,drive=d0,serial=d0,use-intel-id=off"]'])
    guest.boot()
    state.running = guest
    guest.run('load_pviommu && load drivers && load vfio && soon test -b /dev/nvme0n1', 60)
    return guest


def attached(guest):
    """How the device answered when Linux put it into a context, each time."""
    sbdf = int(PASSED[8:10], 16) << 3
    return re.findall(rf'^xen_pviommu_attach sbdf {sbdf:#x} ctx \d+ status (-?\d+)',
                      guest.model_log.text, re.M)


def listed(guest):
    """Those that QMP has in contexts."""
    return {d['sbdf'] for c in guest.qmp('x-query-xen-pviommu')['contexts']
            for d in c['devices']}


@test('passthrough: a guest has a PCI function of the machine; xen-pviommu leaves it alone',
      on=['debian'])
def passed(state):
    guest = create(state)
    # What the device says: ENODEV. So says the driver, and Linux and VFIO then do without.
    said = attached(guest)
    must(said and set(said) == {'-19'}, f'attached: {said}')
    guest.run(f'dmesg | grep "{PASSED}: xen-pviommu: not behind"')
    must(guest.run(f'[ -e $PCI/{PASSED}/iommu_group ]', check=False)[0] == 1, 'it has a group')
    guest.run(f'echo vfio-pci > $PCI/{PASSED}/driver_override;'
              f' echo {PASSED} > /sys/bus/pci/drivers_probe')
    must(guest.run(f'[ -e $PCI/{PASSED}/driver ]', check=False)[0] == 1, 'VFIO takes it')
    must(not guest.run(f'context_of {PASSED}'), 'the driver has it in a context')
    there = listed(guest)
    must(guest.run('find_pci 0x1b36:0x0010')[0] in there, f'no NVMe: {there}')
    must(PASSED not in there, 'QMP has it in a context')


@test('passthrough: it does DMA to frames of the guest, both ways',
      on=['debian'])
def passed_dma(state):
    guest = state.guest
    guest.own_pages(64)
    state.frames = [int(guest.pages(f'gfn {i}')) for i in range(3)]
    for seed in 1, 2, 3:
        guest.pages(f'fill 0 {seed}')
        dma(state, state.frames[0], state.frames[1], sbdf=PASSED)
        dma(state, state.frames[1], state.frames[2], sbdf=PASSED)
        for i in range(3):
            must(guest.pages(f'holds {i} {seed}') == 'yes', f'page {i}: not what was copied')
    must('IO_PAGE_FAULT: ' + PASSED not in state.dom0.console(), 'it had faults')


@test('passthrough: memory of the machine that is not the guest\'s: a fault of AMD-Vi',
      on=['debian'])
def passed_foreign(state):
    # Dom0's device can read it.
    dma_fails(state, FOREIGN, NOWHERE, NOWHERE)
    must(not faults(state, FOREIGN), "dom0's device does not reach it")
    dma_fails(state, FOREIGN, state.frames[0], FOREIGN, PASSED)
    dma_fails(state, state.frames[0], FOREIGN, FOREIGN, PASSED)


@test('passthrough: a page that the guest gives back: a fault of AMD-Vi; the next one there: none',
      on=['debian'])
def passed_given(state):
    guest, (source, target, _) = state.guest, state.frames
    must(guest.pages('give 1') == 'done', 'the guest cannot give its page back')
    guest.pages('fill 0 4')
    dma_fails(state, source, target, target, PASSED)
    must(guest.pages('holds 0 4') == 'yes', 'the source changed')
    dma_fails(state, target, state.frames[2], target, PASSED)
    must(guest.pages('take 1') == 'done', 'the guest does not get a page')
    old = faults(state, target, PASSED)
    dma(state, source, target, sbdf=PASSED)
    must(guest.pages('holds 1 4') == 'yes', 'the data did not come')
    must(faults(state, target, PASSED) == old, 'it had a fault')


@test('passthrough: a balloon, down and up, while it does DMA and the NVMe, too',
      on=['debian'])
def passed_balloon(state):
    guest, (source, target, _) = state.guest, state.frames
    copies = 'cat /tmp/copies 2> /dev/null | wc -l'
    # The guest's processor is for others, too.
    guest.run(f'while edu-copy {PASSED} {source} {target} 4096; do echo; usleep 300000;'
              ' done > /tmp/copies &')
    guest.run('DISK=8')
    balloon(state, False, [guest.memory - 32], '/dev/nvme0n1',
            guest.memory // 2)
    done = int(guest.run(copies)[0])
    must(until(lambda: int(guest.run(copies)[0]) > done, 20), 'it stopped')
    state.note(f'{done} pages copied meanwhile')


@test('passthrough: xl destroy while it does DMA: all memory comes back, and it reaches nothing')
def passed_alone(state):
    guest, state.running = state.guest, None
    guest.destroy()
    all_back(state)
    reaches_nothing(state)


@test('passthrough: dom0 takes it back, and it reaches what dom0 does')
def passed_back(state):
    state.dom0.run(f'xl pci-assignable-list | grep {PASSED} && xl pci-assignable-remove {PASSED}')
    old = faults(state, FOREIGN, PASSED)
    dma_fails(state, FOREIGN, NOWHERE, NOWHERE, PASSED)
    must(faults(state, FOREIGN, PASSED) == old, 'it does not')


@test('iommu_op, translation is enabled: the program is through', on=['series', 'debug'])
def enabled(state):
    """Dom0's disks, and what we talk with it by, are gone then: it is the last."""
    start = len(state.dom0.console())
    state.dom0.run('cp /t/bin/iommu-op-test /tmp/ &&'
                   ' { sleep 1; exec /tmp/iommu-op-test --enable; } > /dev/hvc0 2>&1 &')
    must(until(lambda: re.search(r'^1\.\.\d+\r?$|Panic on CPU', state.dom0.console()[start:],
                                 re.M), 60), 'it does not end: ' + state.dom0.console_path)
    must('Panic on CPU' not in state.dom0.console(), 'Xen died: ' + state.dom0.console_path)
    relay(state, 'iommu_op', re.findall(r'^(?:ok|not ok|1\.\.|# (?!SKIP)).*',
                                        state.dom0.console()[start:], re.M))
    if state.kind == 'debug':
        # That each was flushed before it was freed is an assertion of Xen's.
        tables = re.search(r'd0: big switch: (\d+) page tables taken out of use',
                           state.dom0.console()[start:])
        must(tables and int(tables[1]), 'no page table was taken out of use')
        state.note(tables[0])
