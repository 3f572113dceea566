# SPDX-License-Identifier: GPL-2.0-or-later
"""Guests whose devices are behind xen-pviommu: both backends, ballooning, their end."""

import re
import time

from dom0 import Failure, Guest
from suite import (all_back, balloon, dma, dma_fails, faults, goes_on, gone, KINDS,
                   MEASURES, must, relay, same_mappings, settle, test, until)

# --- the machine ------------------------------------------------------------

@test('Xen runs, with an IOMMU, and dom0 in it', on=KINDS)
def boots(state):
    said = state.dom0.console()
    kind = 'Intel VT-d iommu 0' if state.kind == 'vtd' else 'AMD-Vi: IOMMU 0 Enabled'
    for line in kind, 'I/O virtualisation enabled':
        must(line in said, f'Xen does not say "{line}"')
    info = state.dom0.run('xl info')
    for word in 'hvm_directio', 'hap':
        must(word in info, f'xl info does not say "{word}"')
    version = re.search(r'^xen_version *: (.*)', info, re.M)
    state.note(f'Xen {version[1]}')


@test('iommu_op from dom0: the program is through', on=['series', 'debug'])
def hypercall(state):
    """Every row of the semantics, hostile arguments, long batches: each a line."""
    _, said = state.dom0.run('iommu-op-test', 200, check=False)
    relay(state, 'iommu_op', said.splitlines())


@test('iommu_op from dom0, on contexts of targets: the program is through', on=['vtd'])
def hypercall_targets(state):
    _, said = state.dom0.run('iommu-op-test --targets', 200, check=False)
    relay(state, 'iommu_op', said.splitlines())


@test('xl destroy while a guest starts: no zombie stays', on=['debian', 'series', 'vtd'])
def destroy_early(state):
    """Also makes Xen allocate what it keeps after the first guest."""
    guest = Guest(state.dom0, 'early')
    guest.create()
    guest.destroy()
    state.before = gone(state)


# --- the emulated backend ---------------------------------------------------

@test('xl create: a guest with xen-pviommu, NVMe, virtio, e1000e and edu')
def create(state):
    state.dom0.received()
    guest = Guest(state.dom0)
    guest.boot()
    state.running = guest
    backend = guest.qmp('x-query-xen-pviommu')['backend']
    must(backend == ('xen' if state.kind == 'series' else 'emulated'),
         f'its backend is {backend}')


@test("registers: a guest's use of them does not change those of dom0")
def registers(state):
    """Of the outer emulator: what fails at random without, fails here."""
    guest = state.guest
    # Random numbers come from vector instructions.
    guest.run('(while ! [ -e /tmp/quiet ]; do dd if=/dev/urandom of=/dev/null bs=64k count=1;'
              ' usleep 10000; done) 2> /dev/null &')
    try:
        state.note(state.dom0.run('registers 5 1 & registers 5 2 && wait $!', 20))
    finally:
        guest.run('touch /tmp/quiet')


@test('the guest: all steps')
def steps(state):
    """The guest's own steps, of which each is a line."""
    guest = state.guest
    start = len(guest.log.text)
    # To its console, so that they come as they go.
    guest.run('steps > /dev/console 2>&1', 120)
    relay(state, 'guest', guest.log.text[start:].splitlines())
    must(state.dom0.received() == [True],
         'the server in dom0 did not receive what it had sent')


@test('QMP: faults, mapped frames, contexts and queues are those that the guest knows of')
def queries(state):
    guest = state.guest
    faults = guest.qmp('x-query-xen-pviommu-faults')
    must(faults and all(f['fate'] == 'delivered' for f in faults), f'faults: {faults}')
    info, counters = same_mappings(guest)
    must(info['counters']['maps'] >= int(counters['maps']) - int(counters['errors']),
         f'{info["counters"]} and {counters}')
    contexts = [line.split()[1] for line in guest.run('cat $STATE/contexts')]
    # Context 0 has the device itself, which the guest counts among none.
    must({c['context'] for c in info['contexts'] if c['devices']} - {0} ==
         {int(c) for c in contexts}, f'contexts {contexts}: {info["contexts"]}')
    # In an identity context nothing is ever mapped or unmapped by the driver.
    must(all(('queue' in c) != c.get('identity', False)
             for c in info['contexts'] if c['devices'] and c['context']),
         f'queues of the contexts: {info["contexts"]}')
    state.note(f'{info["mapped-frames"]} frames mapped, {len(faults)} faults, '
               f'{info["counters"]["operations"]} operations')


@test('without iommu_op, backend=xen fails, and says why', on=['debian'])
def no_backend(state):
    guest = Guest(state.dom0, 'refused', 64, [
        'device_model_args_hvm=["-device","xen-pviommu,backend=xen"]'])
    try:
        guest.create()
    except Failure:
        pass
    else:
        raise Failure('the guest was created')
    must(guest.model_log.wait('hypervisor', 10), 'its log says nothing: ' +
         guest.model_log.text)
    state.note(guest.model_log.text.strip())


@test('iommu_op from the guest: the program is through', on=['series'])
def refused(state):
    """It has no physical devices, and is not asked to control any."""
    guest = state.guest
    _, said = guest.run('load_privcmd; iommu-op-test --unprivileged', check=False)
    relay(state, 'iommu_op in the guest', said)


# --- a physical device ------------------------------------------------------

@test('backend=xen: a device of dom0 moves data between pages of the guest by BFN',
      on=['series'])
def physical(state):
    guest = state.guest
    guest.own_pages(1024)
    frames = [int(guest.pages(f'gfn {i}')) for i in (0, 1)]
    guest.pages('fill 0 1')
    guest.pages('fill 1 2')
    state.bfns = [guest.qmp('x-xen-pviommu-host-map', gfn=frames[0], readonly=True)['bfn'],
                  guest.qmp('x-xen-pviommu-host-map', gfn=frames[1])['bfn']]
    dma(state, *state.bfns)
    must(guest.pages('holds 1 1') == 'yes', 'the data did not come')
    must(guest.pages('holds 0 1') == 'yes', 'the source changed')
    state.note(f'GFN {frames[0]:#x} to {frames[1]:#x} as BFN '
               f'{state.bfns[0]:#x} to {state.bfns[1]:#x}')


@test('backend=xen: a write to a page that is mapped to be read: a fault of AMD-Vi, nothing moves',
      on=['series'])
def physical_readonly(state):
    guest = state.guest
    guest.pages('fill 1 3')
    dma_fails(state, state.bfns[1], state.bfns[0], state.bfns[0])
    must(guest.pages('holds 0 1') == 'yes', 'it was written')


@test('backend=xen: a page that the guest gives back is free; the same DMA is a fault of AMD-Vi',
      on=['series'])
def physical_given(state):
    guest, (source, target) = state.guest, state.bfns
    own = str(guest.domid)
    old = state.dom0.pages()
    must(guest.pages('give 1') == 'done', 'the guest cannot give its page back')
    now = state.dom0.pages()
    must(now['domains'][own]['pages'] == old['domains'][own]['pages'] - 1 and
         now['free'] >= old['free'] + 1, f'before {old}, after {now}')
    ranges = guest.qmp('x-query-xen-pviommu-host')
    must([r['bfn'] for r in ranges] == [source], f'mapped: {ranges}')
    dma_fails(state, source, target, target)
    # There is a page again, maybe the same; not for the device.
    must(guest.pages('take 1') == 'done', 'the guest does not get a page')
    guest.pages('fill 1 4')
    dma_fails(state, source, target, target)
    must(guest.pages('holds 1 4') == 'yes', 'the device wrote to the new page')
    dma_fails(state, target, source, target)
    guest.qmp('x-xen-pviommu-host-unmap', bfn=source)
    dma_fails(state, source, source, source)
    must(not guest.qmp('x-query-xen-pviommu-host'), 'something is mapped still')


# --- ballooning -------------------------------------------------------------

@test('balloon: down and up under disk load, with global flushes', on=['debian'])
def balloon_global(state):
    balloon(state, False, [320])


@test('balloon: down and up under disk load, page by page', on=['series'])
def balloon_pages(state):
    balloon(state, True, [320, 256, 384])


@test('how long it takes to give pages back')
def give_time(state):
    guest = state.guest
    if state.kind == 'debian':
        guest.own_pages(1024)
    for nr, rounds in (1, 100), (512, 10):
        us = int(guest.pages(f'time {nr} {rounds}', 60))
        state.note(f'decrease_reservation of {nr} scattered pages: {us} us, '
                   f'{us / nr:.1f} a page')


@test('what queues are worth: 4 KiB reads of the NVMe, one after the other', among=MEASURES)
def queues_worth(state):
    reads = 2000
    for mode in 'strict', 'lazy':
        for queues in 2 * ('on', 'off'):
            guest = Guest(state.dom0, config=[
                f'device_model_args=["-global","xen-pviommu.queues={queues}"]',
                'extra="xen_emul_unplug=never console=hvc0 panic=-1 demo.agent'
                f' iommu.strict={int(mode == "strict")}"'])
            guest.boot()
            guest.run('load_pviommu && load_drivers', 60)
            before = guest.qmp('x-query-xen-pviommu')['counters']
            begun = time.monotonic()
            guest.run(f'dd if=/dev/nvme0n1 of=/dev/null bs=4k count={reads} iflag=direct', 200)
            us = (time.monotonic() - begun) * 1e6 / reads
            now = guest.qmp('x-query-xen-pviommu')['counters']
            doorbells, maps = (now[n] - before[n] for n in ('doorbells', 'maps'))
            state.note(f'{mode}, queues {queues}: {us:.0f} us a read, '
                       f'{doorbells / reads:.2f} doorbells and {maps / reads:.2f} maps')
            guest.destroy()


@test('how long a balloon takes, down and up', among=MEASURES)
def balloon_time(state):
    guest = Guest(state.dom0, memory=1400)
    guest.boot()
    guest.run('load_pviommu && load_drivers', 60)
    guest.own_pages(1024)
    for _ in range(2):
        for nr, rounds in (1, 200), (512, 20):
            us = int(guest.pages(f'time {nr} {rounds}', 120))
            state.note(f'decrease_reservation of {nr} scattered pages: {us} us, '
                       f'{us / nr:.1f} a page')
        for mib in guest.memory - 1024, guest.memory:
            begun = time.monotonic()
            start = guest.qmp('x-query-xen-invalidate')
            settle(state, guest, mib, 300)
            now = guest.qmp('x-query-xen-invalidate')
            state.note(f'to {mib} MiB: {time.monotonic() - begun:.1f} s, '
                       f'{now["pages"] - start["pages"]} pages named, '
                       f'{now["everything"] - start["everything"]} global flushes, '
                       f'{now["requests"] - start["requests"]} requests')
    guest.destroy()


# --- what cannot be saved ---------------------------------------------------

@test('xl save of a guest with an NVMe: refused, and the guest goes on', on=['debian'])
def save_refused(state):
    guest = state.guest
    guest.run('DISK=8; load_start /dev/nvme0n1 /dev/vda; sleep 1')
    status, said = state.dom0.run(f'xl save {guest.name} /tmp/saved', 60, check=False)
    must(status and re.search('non-migratable device .*nvme', said), said)
    goes_on(guest)
    state.dom0.run('rm /tmp/saved')


# --- the end ----------------------------------------------------------------

@test('xl destroy under load: all memory comes back, no zombie stays')
def destroy(state):
    guest = state.guest
    guest.run('load_start /dev/nvme0n1 /dev/vda')
    must(until(lambda: int(guest.run('load_rounds')[0]) > 0, 30), 'the disk is not used')
    if state.kind == 'series':
        # Page by page, so that there is something to find.
        for gfn in range(0x1000, 0x1040, 2):
            guest.qmp('x-xen-pviommu-host-map', gfn=gfn, readonly=True)
    state.running = None
    guest.destroy()
    all_back(state)


@test('what dom0 takes of a paused guest is named when that goes on, all of it',
      on=['series'])
def paused(state):
    guest = Guest(state.dom0, 'paused')
    guest.create()
    state.dom0.run('xl pause paused')
    # Of memory that it has no use for yet, more pieces than a vCPU announces at
    # once. Two are mapped, and so are not free before their emulator knows.
    own, nr, frames = str(guest.domid), 1300, f'{guest.domid} 0x8000 1300 2'
    for gfn in 0x8000, 0x8000 + 2 * (nr - 1):
        guest.qmp('x-xen-pviommu-host-map', gfn=gfn)
    host, old = state.dom0.pages(), guest.qmp('x-query-xen-invalidate')
    state.dom0.run(f'xen-pages take {frames}')
    left = host['domains'][own]['pages'] - state.dom0.pages()['domains'][own]['pages']
    must(left == nr - 2, f'{left} pages left it')
    now = guest.qmp('x-query-xen-invalidate')
    must(now['pages'] == old['pages'], 'some were named while it was paused')
    state.dom0.run(f'xen-pages put {frames} && xl unpause paused')
    must(until(lambda: guest.qmp('x-query-xen-invalidate')['pages'] - old['pages'] >= nr, 30),
         f'before {old}, after {guest.qmp("x-query-xen-invalidate")}')
    now = guest.qmp('x-query-xen-invalidate')
    must(now['everything'] == old['everything'], f'{now}')
    must(not guest.qmp('x-query-xen-pviommu-host'), 'something is mapped still')
    now = state.dom0.pages()['domains'][own]['pages']
    must(now == host['domains'][own]['pages'], f'it has {now} pages, and had {host}')
    guest.destroy()
    all_back(state)


@test('a device model that is killed leaves pages mapped: xl destroy brings them back',
      on=['series'])
def killed(state):
    guest = Guest(state.dom0, 'killed')
    guest.create()
    # Memory that it has no use for yet.
    bfn = guest.qmp('x-xen-pviommu-host-map', gfn=0x8000, frames=512)['bfn']
    guest.qmp('x-xen-pviommu-host-map', gfn=0x8100, readonly=True)
    pid = state.dom0.run(f'xenstore-read /local/domain/{guest.domid}/image/device-model-pid')
    state.dom0.run(f'kill -9 {pid.strip()}')
    # Until then they are there for devices, whoever mapped them.
    dma(state, bfn, bfn + 1)
    must(not faults(state, bfn), 'they went with the process')
    guest.destroy()
    all_back(state)
    dma_fails(state, bfn, bfn + 1, bfn)
