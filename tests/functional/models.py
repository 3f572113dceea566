# SPDX-License-Identifier: GPL-2.0-or-later
"""Every PCI model of QEMU's: how a guest uses it, or why there is nothing to use.

A model that is in the build and not here fails the test: see unclassified().
"""

import dataclasses
import re

DRIVE_KIB = 32 << 10
RATE = 48000
VIRTIO = 'iommu_platform=on,disable-legacy=on'


@dataclasses.dataclass
class Model:
    """A model that a guest moves data through.

    DEVICES are the arguments of -device, the first one the PCI function;
    {id}, {drive} and {work} are put in. OPTIONS are further options of
    QEMU's. TEST names the test in zoo.py, SIZE is how much it moves in KiB.
    """
    name: str
    group: str
    test: str
    modules: str
    devices: tuple
    options: tuple = ()
    size: int = 4096
    # Where it is tested, if not everywhere.
    machine: str = ''
    kernels: tuple = ('6.1', '6.12')
    # The vendor and device of a function that the board has by itself.
    onboard: str = ''
    # It is plugged when Linux runs: SeaBIOS waits for it for ever.
    hot: bool = False
    # The hook that it does not work without, in patches/qemu.
    needs: str = ''
    # Of sound, in Hz.
    rate: int = RATE

    @property
    def id(self):
        return re.sub(r'\W', '-', self.name).lower()

    def arguments(self, work, machine):
        """QEMU's, for one of it, or for the slot that it comes to."""
        words = {'id': self.id, 'drive': self.id + '-d', 'work': work}
        for option in self.options:
            yield from option.format(**words).split(' ')
        if not self.hot:
            for device in self.devices:
                yield from ('-device', device.format(**words))
        elif machine == 'q35':
            chassis = 1 + sum(map(ord, self.id)) % 200
            yield from ('-device', f'pcie-root-port,id={self.id}-p,chassis={chassis}')

    def plug(self, qmp, machine):
        """Makes its devices in a machine that runs."""
        bus = {'q35': self.id + '-p', 'pc': 'pci.0'}[machine]
        for number, device in enumerate(self.devices):
            driver, *properties = device.format(id=self.id, drive=self.id + '-d').split(',')
            arguments = dict(p.split('=') for p in properties)
            if 'wwn' in arguments:
                arguments['wwn'] = int(arguments['wwn'], 0)
            if number == 0:
                arguments['bus'] = bus
            qmp('device_add', driver=driver, **arguments)


def disk(name, module, *devices, **more):
    """The first device has {id}, the last one {drive}."""
    drive = 'none,id={drive},format=raw,cache=unsafe,aio=threads,file={work}/{id}.img'
    return Model(name, more.pop('group', 'disk'), 'disk', module, devices,
                 ('-drive if=' + drive,), **more)


def scsi(name, module, properties='', **more):
    # SAS needs an address of the disk's.
    return disk(name, 'sd_mod ' + module, f'{name},id={{id}}{properties}',
                'scsi-hd,bus={id}.0,wwn=0x5000c50015ea71ac,drive={drive}', **more)


def usb(name, module, device='usb-storage,drive={drive}', **more):
    return disk(name, 'sd_mod usb_storage ' + module, f'{name},id={{id}}',
                device + ',bus={id}.0', group='usb', **more)


def net(name, module, properties='', **more):
    return Model(name, 'net', 'net', module,
                 (f'{name},id={{id}},netdev={{id}}-n,romfile={properties}',),
                 ('-netdev user,id={id}-n',), size=1024, **more)


def wav(rate):
    return f'-audiodev wav,id={{id}}-a,path={{work}}/{{id}}.wav,out.frequency={rate}'


def sound(name, module, *devices, **more):
    """The last device plays to the audiodev."""
    return Model(name, 'misc', 'sound', 'snd_pcm_oss snd_mixer_oss ' + module,
                 (f'{name},id={{id}}' + ('' if devices else ',audiodev={id}-a'), *devices),
                 (wav(more.get('rate', RATE)),), size=96, **more)


def virtio(name, test, module, properties='', *devices, options=(), **more):
    modern = 'iommu_platform=on' if 'transitional' in name else VIRTIO
    return Model(name, 'misc', test, module, (f'{name},id={{id}},{modern}{properties}', *devices),
                 options, **more)


UHCI = ['ich9-usb-uhci1', 'ich9-usb-uhci2', 'ich9-usb-uhci3', 'ich9-usb-uhci4',
        'ich9-usb-uhci5', 'ich9-usb-uhci6', 'piix3-usb-uhci', 'piix4-usb-uhci']
E100 = ['i82550', 'i82551', 'i82557a', 'i82557b', 'i82557c', 'i82558a', 'i82558b', 'i82559a',
        'i82559b', 'i82559c', 'i82559er', 'i82562', 'i82801']

MODELS = [
    disk('nvme', 'nvme', 'nvme,id={id},drive={drive},serial={id}'),
    disk('virtio-blk-pci', 'virtio_pci virtio_blk',
         f'virtio-blk-pci,id={{id}},drive={{drive}},{VIRTIO}'),
    disk('virtio-blk-pci-non-transitional', 'virtio_pci virtio_blk',
         'virtio-blk-pci-non-transitional,id={id},drive={drive},iommu_platform=on'),
    scsi('virtio-scsi-pci', 'virtio_pci virtio_scsi', ',' + VIRTIO),
    scsi('virtio-scsi-pci-non-transitional', 'virtio_pci virtio_scsi', ',iommu_platform=on'),
    disk('ich9-ahci', 'sd_mod ahci', 'ich9-ahci,id={id}', 'ide-hd,bus={id}.0,drive={drive}'),
    # One of these is on the board of pc; two would have the same ports.
    disk('piix3-ide', 'sd_mod ata_piix', 'ide-hd,bus=ide.0,drive={drive}', machine='pc',
         onboard='8086:7010'),
    disk('piix4-ide', 'sd_mod ata_piix', 'piix4-ide,id={id}', 'ide-hd,bus={id}.0,drive={drive}',
         machine='q35'),
    scsi('lsi53c895a', 'sym53c8xx', needs='*-lsi53c895a-own-memory*'),
    scsi('lsi53c810', 'sym53c8xx'),
    scsi('mptsas1068', 'mptsas'),
    scsi('megasas', 'megaraid_sas'),
    scsi('megasas-gen2', 'megaraid_sas'),
    scsi('pvscsi', 'vmw_pvscsi', needs='*-pvscsi-dma*'),
    scsi('am53c974', 'am53c974', hot=True),
    scsi('dc390', 'am53c974', hot=True),
    disk('sdhci-pci', 'sdhci_pci mmc_block', 'sdhci-pci,id={id}', 'sd-card,drive={drive}'),
    disk('ufs', 'sd_mod ufshcd_pci', 'ufs,id={id},serial={id}',
         'ufs-lu,bus={id},drive={drive}', kernels=('6.12',)),

    *(usb(name, 'uhci_hcd', size=512) for name in UHCI),
    *(usb(name, 'ehci_pci') for name in ['ich9-usb-ehci1', 'ich9-usb-ehci2', 'usb-ehci']),
    usb('pci-ohci', 'ohci_pci', size=512),
    usb('nec-usb-xhci', 'xhci_pci'),
    disk('qemu-xhci', 'sd_mod uas xhci_pci', 'qemu-xhci,id={id}', 'usb-uas,id={id}-u,bus={id}.0',
         'scsi-hd,bus={id}-u.0,drive={drive}', group='usb'),

    *(net(name, 'e1000') for name in ['e1000', 'e1000-82544gc', 'e1000-82545em']),
    net('e1000e', 'e1000e'),
    net('igb', 'igb'),
    *(net(name, 'e100') for name in E100),
    net('vmxnet3', 'vmxnet3'),
    net('rtl8139', '8139cp'),
    net('pcnet', 'pcnet32'),
    net('tulip', 'tulip'),
    net('virtio-net-pci', 'virtio_pci virtio_net', ',' + VIRTIO),
    net('virtio-net-pci-non-transitional', 'virtio_pci virtio_net', ',iommu_platform=on'),

    sound('intel-hda', 'snd_hda_codec_generic snd_hda_intel',
          'hda-output,bus={id}.0,audiodev={id}-a,mixer=off'),
    sound('ich9-intel-hda', 'snd_hda_codec_generic snd_hda_intel',
          'hda-output,bus={id}.0,audiodev={id}-a,mixer=off'),
    sound('AC97', 'snd_intel8x0'),
    # Its clock has no 48 kHz.
    sound('ES1370', 'snd_ens1370', rate=44100),

    virtio('virtio-sound-pci', 'sound', 'virtio_pci virtio_snd snd_pcm_oss', ',audiodev={id}-a',
           options=(wav(RATE),), size=96, kernels=('6.12',)),
    virtio('virtio-gpu-pci', 'display', 'virtio_pci virtio_gpu', ',xres=640,yres=480',
           size=1200),
    virtio('virtio-vga', 'display', 'virtio_pci virtio_gpu', ',xres=640,yres=480', size=1200),
    virtio('virtio-rng-pci', 'rng', 'virtio_pci virtio_rng', ',rng={id}-r',
           options=('-object rng-random,id={id}-r,filename={work}/{id}.random',), size=16),
    virtio('virtio-rng-pci-non-transitional', 'rng', 'virtio_pci virtio_rng', ',rng={id}-r',
           options=('-object rng-random,id={id}-r,filename={work}/{id}.random',), size=16),
    *(virtio(name, 'serial', 'virtio_pci virtio_console', '',
             'virtserialport,bus={id}.0,name={id},chardev={id}-c',
             options=('-chardev socket,id={id}-c,path={work}/{id}.socket,server=on,wait=off',),
             size=256) for name in ['virtio-serial-pci', 'virtio-serial-pci-non-transitional']),
    virtio('virtio-crypto-pci', 'crypto', 'virtio_pci virtio_crypto algif_skcipher aesni_intel '
           'cbc', ',cryptodev={id}-y',
           options=('-object cryptodev-backend-builtin,id={id}-y',), size=256),
    virtio('virtio-pmem-pci', 'pmem', 'virtio_pci virtio_pmem nd_pmem', ',memdev={id}-m',
           options=('-object memory-backend-file,id={id}-m,share=on,size=128M,'
                    'mem-path={work}/{id}.img',)),
    virtio('virtio-keyboard-pci', 'input', 'virtio_pci virtio_input evdev'),
    virtio('virtio-mouse-pci', 'input', 'virtio_pci virtio_input evdev'),
    virtio('virtio-tablet-pci', 'input', 'virtio_pci virtio_input evdev'),
    virtio('virtio-multitouch-pci', 'input', 'virtio_pci virtio_input evdev'),
]

# What does no DMA of its own. Behind bridges, disks and NICs are tested.
NO_DMA = {
    'a bridge: what is behind it does DMA': [
        'i82801b11-bridge', 'ioh3420', 'pci-bridge', 'pci-bridge-seat', 'pcie-pci-bridge',
        'pcie-root-port', 'pxb', 'pxb-pcie', 'x3130-upstream', 'xio3130-downstream', 'gpex-root',
        'cxl-downstream', 'cxl-rp', 'cxl-upstream', 'pxb-cxl'],
    'a part of the board without bus mastering': [
        'ICH9-LPC', 'ICH9-SMB', 'PIIX3', 'PIIX4_PM', 'piix4-isa', 'i440FX', 'mch',
        'igd-passthrough-i440FX', 'igd-passthrough-isa-bridge', 'vfio-pci-igd-lpc-bridge'],
    'registers and memory in its BARs alone': [
        'ati-vga', 'bochs-display', 'cirrus-vga', 'secondary-vga', 'VGA', 'vmware-svga',
        'ne2k_pci', 'pci-serial', 'pci-serial-2x', 'pci-serial-4x', 'tpci200', 'acpi-erst',
        'ctucan_pci', 'kvaser_pci', 'mioe3680_pci', 'pcm3680_pci', 'ivshmem-doorbell',
        'ivshmem-plain', 'pci-testdev', 'pvpanic-pci', 'i6300esb', 'pci-ipmi-bt', 'pci-ipmi-kcs',
        'xen-platform', 'xen-pvdevice', 'cxl-type3', 'cxl-switch-mailbox-cci'],
}

# What is not tried here, and why.
ELSEWHERE = {
    'edu': 'the demo has its DMA by VFIO',
    'pviommu-mirror': 'it mirrors mappings; qtests use it',
    'virtio-balloon-pci': 'demo --balloon',
    'virtio-balloon-pci-non-transitional': 'the same device as virtio-balloon-pci',
    'virtio-mem-pci': 'endure: it grows and shrinks there',
    'igbvf': 'a function of igb, which the guest makes',
    'xen-pviommu': 'the IOMMU',
    'AMDVI-PCI': 'an IOMMU, and a machine has one',
    'virtio-iommu-pci': 'an IOMMU, and a machine has one',
    'virtio-input-host-pci': "it needs an input device of the host's",
    'vfio-pci': "it needs a device of the host's",
    'vfio-pci-nohotplug': "it needs a device of the host's",
    'xen-pci-passthrough': "it needs a device of the host's, and Xen",
    'rocker': "Debian's kernels have no driver for it",
}

# A legacy virtio device has no IOMMU: QEMU refuses to put one behind it.
TRANSITIONAL = re.compile(r'virtio-.*-transitional(?<!non-transitional)')

# What moves the data of these is a process of the host or its kernel, which a
# guest by itself does not have: tests/functional/listeners has both.
VHOST = re.compile(r'vhost-.*-pci(-(non-)?transitional)?|vhost-user-vga')

UNCLASSIFIED = '{} is in this build, and tests/functional/models.py does not say what it does'


def pci_models(qmp):
    """The names of all PCI models in this QEMU, created by users or boards."""
    return {t['name'] for t in qmp('qom-list-types', implements='pci-device', abstract=False)}


def unclassified(built):
    """What the tables above do not name, or name more than once."""
    names = ([m.name for m in MODELS] + sum(NO_DMA.values(), []) + list(ELSEWHERE))
    by_name = {name for name in built if TRANSITIONAL.fullmatch(name) or VHOST.fullmatch(name)}
    twice = sorted({n for n in names if names.count(n) > 1} | (set(names) & by_name))
    return sorted(built - set(names) - by_name), twice


def kernel_modules(kernel):
    """Those that the models need, and endure, of Debian's kernel KERNEL."""
    return sorted({word for m in MODELS if kernel in m.kernels for word in m.modules.split()}
                  | {'virtio_mem'})
