# SPDX-License-Identifier: GPL-2.0-or-later
"""Functions that Xen passes through, in contexts: what their guest's device model can do.

There is no xen-pviommu in this guest: target-op, in dom0, is its device model for them.
"""

import re

from dom0 import EDU, Failure, Guest, PASSED, PASSED_TOO
from suite import all_back, dma, faults, FOREIGN, must, NOWHERE, test, until

# BFNs where the guest has no memory: to be read, to be written, and pages after these.
READ, WRITE, MORE = 1 << 24, (1 << 24) + 1, (1 << 24) + 1000
ON = 'series', 'vtd'
# Reasons of faults, as the interface has them.
UNMAPPED, READONLY, RANGE = 1, 2, 3


def target(state, command, seconds=30):
    return state.dom0.run(f'target-op {state.guest.domid} {command}', seconds)


def copy(state, sbdf, source, to, size=4096):
    """By the function, whose driver is in the guest."""
    state.guest.run(f'edu-copy {sbdf} {source} {to} {size}', 60)


def copies(state, sbdf, source, to, page):
    """The data come to that page of the guest's, and no fault with them."""
    state.seed += 1
    state.guest.pages(f'fill {page[0]} {state.seed}')
    old = faults(state, sbdf=sbdf)
    copy(state, sbdf, source, to)
    must(state.guest.pages(f'holds {page[1]} {state.seed}') == 'yes', 'the data did not come')
    must(faults(state, sbdf=sbdf) == old, 'it had a fault')


def new_faults(state):
    """What Xen tells the device model, each once."""
    return set(target(state, 'faults').splitlines())


@test('targets: a guest has two PCI functions of the machine, which reach it by GFN',
      on=ON)
def assigned(state):
    if state.running:
        state.running.destroy()     # with --only
    both = PASSED, PASSED_TOO
    for sbdf in both:
        state.dom0.run(f'xl pci-assignable-add {sbdf}')
    pci = ','.join(f'"{sbdf}@{sbdf[8:10]}"' for sbdf in both)
    guest = Guest(state.dom0, 'target', 256, [f'pci=[{pci}]', 'vcpus=1',
                                              'device_model_args_hvm=[]'])
    guest.boot()
    state.running, state.seed = guest, 0
    guest.own_pages(64)
    state.frames = [int(guest.pages(f'gfn {i}')) for i in range(4)]
    copies(state, PASSED, state.frames[0], state.frames[1], (0, 1))
    copies(state, PASSED_TOO, state.frames[2], state.frames[3], (2, 3))


@test('targets: each in a context: DMA by BFN moves data, of pages that were mapped by GFN',
      on=ON)
def contexts(state):
    state.contexts = []
    for i, sbdf in enumerate((PASSED, PASSED_TOO)):
        context = int(target(state, 'alloc'))
        state.contexts.append(context)
        target(state, f'map {context} {READ} {state.frames[2 * i]} 1 ro')
        target(state, f'attach {context} {sbdf}')
        # The other way round, too: what it was attached to is mapped later.
        target(state, f'map {context} {WRITE} {state.frames[2 * i + 1]} 1')
    copies(state, PASSED, READ, WRITE, (0, 1))
    copies(state, PASSED_TOO, READ, WRITE, (2, 3))
    # The same BFNs are other pages in each.
    must(state.guest.pages(f'holds 1 {state.seed - 1}') == 'yes', 'both went to one page')


@test('targets: what is not mapped, or to be read, or in another context: a fault, with its reason',
      on=ON)
def refused(state):
    guest, (first, _) = state.guest, state.contexts
    old = new_faults(state)
    must(not old, f'faults: {old}')
    guest.pages('fill 0 1000')
    guest.pages('fill 1 1001')
    frame = state.frames[0]

    def fails(source, to, where):
        old = faults(state, where, PASSED)
        copy(state, PASSED, source, to, 8)
        must(until(lambda: faults(state, where, PASSED) > old, 10),
             f'no fault in the log of Xen: BFN {source:#x} to {to:#x}')

    fails(frame, WRITE, frame)
    fails(READ, frame, frame)
    fails(WRITE, READ, READ)
    must(guest.pages('holds 0 1000') == 'yes', 'a page was written that is to be read')
    target(state, f'map {state.contexts[1]} {MORE} {state.frames[3]} 1')
    fails(READ, MORE, MORE)
    fails(READ, 1 << 40, 1 << 40)
    said = new_faults(state)
    must(said == {f'{PASSED} {first} {frame} r {UNMAPPED}',
                  f'{PASSED} {first} {frame} w {UNMAPPED}',
                  f'{PASSED} {first} {READ} w {READONLY}',
                  f'{PASSED} {first} {MORE} w {UNMAPPED}',
                  f'{PASSED} {first} {1 << 40} w {RANGE}'}, f'faults: {said}')
    must(not new_faults(state), 'they were not taken out of the queue')


@test('targets: a fault is an event for the device model; what finds no room is counted',
      on=ON)
def event(state):
    state.dom0.run(f'target-op {state.guest.domid} event 300 > /tmp/event 2>&1 &')
    must(until(lambda: 'ready' in state.dom0.run('cat /tmp/event'), 10), 'no event channel')
    copy(state, PASSED, MORE, WRITE, 8)
    if not until(lambda: state.dom0.run('cat /tmp/event').split()[-1] == 'event', 10):
        raise Failure(f'no event, but faults: {new_faults(state)}')
    for _ in range(70):
        copy(state, PASSED, MORE, WRITE, 8)
    said = target(state, 'faults').splitlines()
    must(len(said) == 65 and re.fullmatch(r'lost \d+', said[-1]), f'{len(said)}: {said[-1]}')
    copies(state, PASSED, READ, WRITE, (0, 1))


@test('targets: a page that the guest gives back stays until it is unmapped and flushed, and is '
      'reached no more', on=ON)
def given(state):
    guest, context, own = state.guest, state.contexts[0], str(state.guest.domid)

    def left():
        return old['domains'][own]['pages'] - state.dom0.pages()['domains'][own]['pages']

    old = state.dom0.pages()
    must(guest.pages('give 1') == 'done', 'the guest cannot give its page back')
    must(left() == 0, 'a page that is mapped is free')
    target(state, f'unmap {context} {WRITE} 1')
    must(left() == 0, 'a page that is not flushed is free')
    target(state, f'flush {context} {WRITE} 1')
    must(left() == 1, f'{left()} pages left it')
    must(guest.pages('take 1') == 'done', 'the guest does not get a page')
    guest.pages('fill 1 1002')
    copy(state, PASSED, READ, WRITE, 8)
    must(until(lambda: faults(state, WRITE, PASSED), 10), 'no fault in the log of Xen')
    must(guest.pages('holds 1 1002') == 'yes', 'the function wrote to the new page')
    target(state, f'map {context} {WRITE} {state.frames[1]} 1')
    copies(state, PASSED, READ, WRITE, (0, 1))


@test('targets: from context to context, and back to the default one', on=ON)
def moved(state):
    first, second = state.contexts
    target(state, f'attach {second} {PASSED}')
    copies(state, PASSED, READ, WRITE, (2, 3))
    copies(state, PASSED_TOO, READ, WRITE, (2, 3))
    status, said = state.dom0.run(f'target-op {state.guest.domid} free {second}', check=False)
    must(status == 16, f'a context with functions was freed: {status} {said}')
    target(state, f'attach 0 {PASSED}')
    copies(state, PASSED, state.frames[0], state.frames[1], (0, 1))
    old = faults(state, WRITE, PASSED)
    copy(state, PASSED, WRITE, state.frames[1], 8)
    must(until(lambda: faults(state, WRITE, PASSED) > old, 10), 'it sees the context still')
    target(state, f'attach {first} {PASSED}')
    copies(state, PASSED, READ, WRITE, (0, 1))
    # In Xen's log, and no more the device model's business.
    new_faults(state)


@test('targets: functions and contexts of others: refused', on=ON)
def others(state):
    for command, error in ((f'attach {state.contexts[0]} {EDU}', 19), (f'attach 0 {EDU}', 19),
                           (f'reserved {EDU}', 19), ('attach 60 ' + PASSED, 2)):
        status, said = state.dom0.run(f'target-op {state.guest.domid} {command}', check=False)
        must(status == error, f'{command}: {status} {said}')
    must(target(state, f'reserved {PASSED}').startswith(f'{0xfee00} 256 1\n'),
         'no range for interrupts')


@test('targets: a function that is taken away in its context reaches nothing; the context stays',
      on=ON)
def detached(state):
    guest, context = state.guest, state.contexts[0]
    # The guest has no driver that would let go of it.
    state.dom0.run(f'xl pci-detach -f {guest.name} {PASSED}', 60)
    guest.pages('fill 0 2000')
    guest.pages('fill 1 2001')
    # By BFN, and by GFN.
    for source, to in (READ, WRITE), state.frames[:2]:
        state.dom0.run(f'edu-copy {PASSED} {source} {to} 4096', 60)
        must(guest.pages('holds 1 2001') == 'yes', f'it reaches {to:#x}')
    must(not new_faults(state), "faults of what is not the guest's")
    target(state, f'map {context} {MORE} {state.frames[0]} 1')
    target(state, f'free {context}')
    status, _ = state.dom0.run(f'target-op {state.guest.domid} free {context}', check=False)
    must(status == 2, f'it is freed twice: {status}')


@test('targets: xl destroy during DMA, with thousands of pages mapped: all memory comes back',
      on=ON)
def destroyed(state):
    guest, context = state.guest, state.contexts[1]
    # The memory below 64 MiB, but for what is no RAM, in three places.
    for place in 1, 2, 3:
        target(state, f'map {context} {place << 20} 4096 12288', 60)
    target(state, f'unmap {context} {1 << 20} 6000')
    guest.run(f'while edu-copy {PASSED_TOO} {READ} {WRITE} 4096; do echo; usleep 100000;'
              ' done > /tmp/copies &')
    must(until(lambda: guest.run('cat /tmp/copies | wc -l')[0] != '0', 20), 'it does no DMA')
    state.running = None
    guest.destroy()
    all_back(state)
    # Untranslated, it would reach the registers of dom0's device.
    dma(state, FOREIGN, NOWHERE, 8)
    registers = int(state.dom0.run(f'cat /sys/bus/pci/devices/{EDU}/resource').split()[0], 16)
    read = f'busybox devmem {registers + 0x80:#x} 64'
    old = int(state.dom0.run(read), 16)
    must(old, 'that device has done no DMA yet')
    for source in READ, FOREIGN:
        state.dom0.run(f'edu-copy {PASSED_TOO} {source} {registers >> 12} 4096', 60)
        must(int(state.dom0.run(read), 16) == old, 'it changed a register')
    try:
        state.dom0.run(f'target-op {guest.domid} alloc')
    except Failure as e:
        must('status 3:' in str(e), str(e))
    else:
        raise Failure('a domain that is gone got a context')
    for sbdf in PASSED, PASSED_TOO:
        state.dom0.run(f'xl pci-assignable-remove {sbdf}')
