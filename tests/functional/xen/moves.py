# SPDX-License-Identifier: GPL-2.0-or-later
"""Guests that are saved, restored and migrated; and one with a VIOT table."""

from dom0 import Guest
from suite import all_back, dma, goes_on, must, test, until

# --- a guest that goes elsewhere --------------------------------------------

def movable(device):
    """Devices of a guest: no NVMe, which QEMU cannot save."""
    return ('device_model_args_hvm=["-device","xen-pviommu",'
            '"-drive","if=none,id=d1,format=raw,cache=unsafe,file=/tmp/d1.img",'
            '"-device","virtio-blk-pci,drive=d1,iommu_platform=on,disable-legacy=on",'
            f'"-netdev","user,id=n0","-device","{device}"]')


# Each of the two on one hypervisor, as it takes a while.
@test('xl save, xl restore: what was mapped is mapped, interrupts come, pages are named',
      on=['series'])
def restored(state):
    if state.running:
        state.running.destroy()     # with --only
    state.running = guest = Guest(state.dom0, 'saved', 160, [movable('edu')])
    guest.boot()
    guest.run('load_pviommu && load drivers && load vfio && soon test -b /dev/vda', 60)
    # It has done its DMA, and holds its pages.
    guest.run('edu-dma /tmp/again > /tmp/edu 2>&1 &')
    guest.run("soon eval '[ $(grep -c ^edu-dma:.mapped.page:.ok /tmp/edu) = 2 ]'")
    guest.run('DISK=8; load_start /dev/vda; soon load_has_run 1')
    guest.qmp('x-xen-pviommu-host-map', gfn=0x1000)
    old = guest.qmp('x-query-xen-pviommu')['counters']

    state.dom0.run(f'xl save {guest.name} /tmp/saved', 60)
    all_back(state)
    state.dom0.run('xl restore /tmp/saved && rm /tmp/saved', 60)
    guest.find()

    now = guest.qmp('x-query-xen-pviommu')['counters']
    must(now['faults'] == old['faults'] and now['maps'] >= old['maps'] > 0,
         f'before {old}, after {now}')
    must(not guest.qmp('x-query-xen-pviommu-host'), 'a page is mapped for devices of dom0')
    guest.run('touch /tmp/again; soon grep -q "all ok" /tmp/edu')
    faults = guest.qmp('x-query-xen-pviommu')['counters']['faults']
    must(faults == 2 * old['faults'] > 0, f'{faults} faults')
    guest.run(f"soon eval '[ $(dmesg | grep -c xen-pviommu:.fault:) = {faults} ]'", 60)
    goes_on(guest)
    guest.own_pages(64)
    old = guest.qmp('x-query-xen-invalidate')
    must(guest.pages('give 1') == 'done', 'the guest cannot give its page back')
    now = guest.qmp('x-query-xen-invalidate')
    must(now['per-page'] and now['pages'] == old['pages'] + 1, f'before {old}, after {now}')
    must(guest.pages('take 1') == 'done', 'the guest does not get a page')
    state.running = None
    guest.destroy()
    all_back(state)


@test('xl migrate under disk load: a guest that knows nothing of Xen', on=['debian'])
def migrated(state):
    """Nor does it prepare: its devices are saved with all that they are doing."""
    if state.running:
        state.running.destroy()     # with --only
    # With two processors, whose clocks are emulated, a busy machine is too slow.
    state.running = guest = Guest(state.dom0, 'moved', 128, [
        'vcpus=1', movable('e1000e,netdev=n0,romfile='),
        'extra="xen_nopv quiet console=ttyS0 panic=-1 demo.agent demo.port=8000 demo.disk=8'
        ' demo.net=256 watchdog_thresh=60 rcupdate.rcu_cpu_stall_timeout=300"'], serial=True)
    guest.boot()
    guest.run('load_pviommu && load drivers && soon test -b /dev/vda && net_up', 60)
    guest.run('load_start /dev/vda; soon load_has_run 1')
    domid = guest.domid
    state.dom0.run(f"xl migrate -s '' {guest.name} 'exec xl migrate-receive'", 100)
    guest.find()
    must(guest.domid != domid, 'it is the same domain')
    goes_on(guest)
    received = state.dom0.received()
    guest.run('use_net', 60)
    must(state.dom0.received() == [*received, True],
         'the server in dom0 did not receive what it had sent')
    state.running = None
    guest.destroy()
    all_back(state)


@test("a VIOT table from libxl: drivers that are loaded first wait for xen-pviommu",
      on=['debian'])
def viot(state):
    if state.running:
        state.running.destroy()     # with --only
    state.running = guest = Guest(state.dom0, 'viot', 256, [
        'vcpus=1', 'kernel="/t/guest/vmlinuz-viot"', 'ramdisk="/t/guest/initrd-viot"',
        'acpi_firmware="/t/guest/viot.aml"',
        'device_model_args_hvm=["-device","xen-pviommu,addr=1d.0",'
        '"-drive","if=none,id=d0,format=raw,cache=unsafe,file=/tmp/d0.img",'
        '"-device","nvme,drive=d0,serial=d0,use-intel-id=off",'
        '"-drive","if=none,id=d1,format=raw,cache=unsafe,file=/tmp/d1.img",'
        '"-device","virtio-blk-pci,drive=d1,iommu_platform=on,disable-legacy=on"]',
        'extra="xen_emul_unplug=never console=hvc0 panic=-1 demo.agent demo.disk=8'
        ' deferred_probe_timeout=3600 watchdog_thresh=60'
        ' rcupdate.rcu_cpu_stall_timeout=300"'])
    guest.boot()
    guest.run('load drivers', 60)
    # The NVMe's driver is a module, the other's is built in.
    sbdfs = [guest.run(f'find_pci {ids}')[0] for ids in ('0x1b36:0x0010', '0x1af4:0x1042')]
    for sbdf in sbdfs:
        guest.run(f'soon grep -q {sbdf} /sys/kernel/debug/devices_deferred', 60)
        guest.run(f'! [ -e $PCI/{sbdf}/driver ]')
    guest.run('pattern /tmp/pattern && insmod /modules/xen-pviommu.ko &&'
              ' soon test -b /dev/nvme0n1 && soon test -b /dev/vda', 60)
    for sbdf in sbdfs:
        must(guest.run(f'cat /sys/kernel/iommu_groups/$(group_of {sbdf})/type')[0][:3] == 'DMA',
             f'{sbdf} has no DMA domain')
    guest.run('use_disk /dev/nvme0n1 && use_disk /dev/vda && quiet_log', 60)
    must(not guest.qmp('x-query-xen-pviommu')['counters']['faults'], 'there were faults')
    state.running = None
    guest.destroy()
    all_back(state)


# Passes on so much of what a guest is sent as, and the rest when it is told to.
RECEIVE = '''
{{ head -c {limit}; touch /tmp/halfway; until [ -e /tmp/go-on ]; do usleep 100000; done; cat; }} |
    exec xl migrate-receive
'''


@test('xl migrate: what devices write meanwhile arrives, whenever it was mapped',
      on=['series'])
def migrated_dirty(state):
    if state.running:
        state.running.destroy()     # with --only
    guest = Guest(state.dom0, 'dirty', 160, [movable('edu')])
    guest.boot()
    guest.own_pages(1024)
    # Those that are sent first: frames are sent in their order.
    gfn, own = zip(*sorted((int(guest.pages(f'gfn {i}')), i) for i in range(0, 1024, 8))[:5])
    for i, page in enumerate(own):
        guest.pages(f'fill {page} {1 if i == 0 else 2}')
    limit = (gfn[4] << 12) + (16 << 20)
    must(limit < 150 << 20, f'frames {gfn} are too far up')
    state.dom0.write('/tmp/receive', RECEIVE.format(limit=limit))

    def host_map(i, **options):
        return guest.qmp('x-xen-pviommu-host-map', gfn=gfn[i], **options)['bfn']

    bfn = [host_map(0, readonly=True), host_map(1), host_map(2)]
    state.dom0.run('rm -f /tmp/halfway /tmp/go-on /tmp/migrated;'
                   f" {{ xl migrate -s '' {guest.name} 'exec sh /tmp/receive';"
                   ' echo $? > /tmp/migrated; } > /tmp/migrate.log 2>&1 &')
    must(until(lambda: state.dom0.run('[ -e /tmp/halfway ]', check=False)[0] == 0, 60),
         state.dom0.run('cat /tmp/migrate.log'))
    # Their old contents are on the way, or there. New ones; and let go of half.
    bfn += [host_map(3), host_map(4)]
    for i in range(1, 5):
        dma(state, bfn[0], bfn[i])
    for i in 2, 4:
        guest.qmp('x-xen-pviommu-host-unmap', bfn=bfn[i])
    domid = guest.domid
    state.dom0.run('touch /tmp/go-on')
    must(until(lambda: state.dom0.run('[ -s /tmp/migrated ]', check=False)[0] == 0, 100) and
         state.dom0.run('cat /tmp/migrated').strip() == '0',
         state.dom0.run('cat /tmp/migrate.log'))
    guest.find()
    must(guest.domid != domid, 'it is the same domain')
    # The console's log has the name that it came under.
    guest.log = state.dom0.log(f'guest-{guest.name}--incoming')
    came = [guest.pages(f'holds {page} 1') for page in own]
    must(came == 5 * ['yes'], f'arrived: mapped before, and let go of; mapped meanwhile, and'
         f' let go of: {came[1:]}; what was read: {came[0]}')
    guest.destroy()
    all_back(state)
