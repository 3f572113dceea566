# SPDX-License-Identifier: GPL-2.0-or-later
"""A disk that firmware starts Linux from: GRUB for SeaBIOS and for OVMF, a kernel
and an initramfs in a FAT, and room behind it for the guest to write to."""

import hashlib
import os
import subprocess

from agent import must
from machine import initrd_path, kernel_path

PARTITION_MIB, START_MIB, END_MIB, SCRATCH_MIB = 63, 1, 64, 8
SECTOR = 512


def grub(form, prefix, config, out, *modules):
    subprocess.run(['grub-mkimage', '-O', form, '-p', prefix, '-c', config, '-o', out,
                    'part_msdos', 'fat', 'linux', 'serial', 'terminal', 'echo', *modules],
                   check=True)


def make_disk(work, kernel, append):
    """The image, which needs nobody to be root."""
    path = os.path.join(work, 'boot.img')
    config, core, efi = (os.path.join(work, name) for name in ('cfg', 'core', 'efi'))
    with open(config, 'w', encoding='ascii') as file:
        file.write('serial --unit=0\nterminal_output serial\nset gfxpayload=text\n'
                   'echo GRUB reads the kernel\n'
                   f'linux /vmlinuz {append}\ninitrd /initrd\nboot\n')
    grub('i386-pc', '(,msdos1)/', config, core, 'biosdisk')
    grub('x86_64-efi', '/', config, efi)
    with open('/usr/lib/grub/i386-pc/boot.img', 'rb') as boot, open(core, 'rb') as rest:
        loader, rest = boot.read()[:440], rest.read()
    must(len(rest) <= START_MIB << 20, "GRUB does not fit before the partition")
    # One partition, of FAT and bootable, by its sectors.
    entry = b'\x80\xfe\xff\xff\x0c\xfe\xff\xff' + b''.join(
        (mib * (1 << 20) // SECTOR).to_bytes(4, 'little') for mib in (START_MIB, PARTITION_MIB))
    with open(path, 'wb') as image:
        image.write(loader.ljust(446, b'\0') + entry + bytes(48) + b'\x55\xaa' + rest)
        image.truncate((END_MIB + SCRATCH_MIB) << 20)
    part = f'{path}@@{START_MIB << 20}'
    # The tools would like to check what a floppy has.
    env = dict(os.environ, MTOOLS_SKIP_CHECK='1')
    for command in (['mformat', '-i', part, '-T', str(PARTITION_MIB * (1 << 20) // SECTOR),
                     '-h', '255', '-s', '63', '::'],
                    ['mmd', '-i', part, '::/EFI', '::/EFI/BOOT'],
                    ['mcopy', '-i', part, kernel_path(kernel), '::/vmlinuz'],
                    ['mcopy', '-i', part, initrd_path('zoo-' + kernel), '::/initrd'],
                    ['mcopy', '-i', part, efi, '::/EFI/BOOT/BOOTX64.EFI']):
        subprocess.run(command, check=True, env=env)
    return path


def md5(path, start, size):
    with open(path, 'rb') as image:
        image.seek(start)
        return hashlib.md5(image.read(size)).hexdigest()
