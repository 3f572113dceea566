# SPDX-License-Identifier: GPL-2.0-or-later
"""The disk of a Debian guest, made by the commands of the manual's chapter.

The Debian as it comes from the mirror is kept in the cache, for a week; a disk
is made again when the chapter, the driver's package or its changes differ.
"""

import fcntl
import hashlib
import os
import shutil
import subprocess
import time

import chapter
from agent import Failure
from machine import BUILD, LOGS, TOP, tail

CACHE = os.path.join(os.environ.get('XEN_PVIOMMU_CACHE') or os.path.join(
    os.environ.get('XDG_CACHE_HOME') or os.path.expanduser('~/.cache'), 'xen-pviommu'), 'guest')
DISKS = os.path.join(BUILD, 'disk')
PARTITION = 32 << 20
# Data that a guest reads, and how much of it.
DATA, DATA_MIB = 'root/data', 24


def machine_suite():
    return subprocess.run(['bash', '-c', '. /etc/os-release; echo $VERSION_CODENAME'],
                          check=True, stdout=subprocess.PIPE, text=True).stdout.strip()


def sources(suite):
    """Lines of sources.list, by the sites that this machine's apt uses."""
    sites = subprocess.run(
        ['bash', '-c', f'TOP={TOP}; . {TOP}/scripts/lib.sh; apt_sites'],
        check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()
    for line in sites:
        kind, site, keyring = line.split()
        signed = f'[signed-by={keyring}] ' if keyring != '-' else ''
        parts = {'main': ['', '-updates', '-backports'], 'security': ['-security']}[kind]
        for part in parts:
            yield f'deb {signed}{site} {suite}{part} main'


def digest(*parts):
    return hashlib.sha256('\0'.join(parts).encode()).hexdigest()[:12]


def script(text, cwd, log, **env):
    """Runs commands as somebody does who copies them, but stops at one that
    fails. What they mount is gone in the end."""
    path = os.path.join(LOGS, log)
    with open(path, 'w', encoding='utf-8') as output:
        status = subprocess.call(['unshare', '--mount', 'bash', '-exc', text], cwd=cwd,
                                 env=dict(os.environ, DEBIAN_FRONTEND='noninteractive', **env),
                                 stdin=subprocess.DEVNULL, stdout=output,
                                 stderr=subprocess.STDOUT)
    if status:
        raise Failure(f'the chapter\'s commands failed ({path}): ' + ' / '.join(tail(path, 4)))


def package():
    """The driver's package, which 'make deb' makes."""
    found = [os.path.join(BUILD, 'deb', name) for name in os.listdir(os.path.join(BUILD, 'deb'))
             if name.startswith('xen-pviommu-dkms_') and name.endswith('_all.deb')]
    if len(found) != 1:
        raise Failure(f"{len(found)} packages of the driver in build/deb: run 'make deb-indep'")
    return found[0]


def content(path):
    """What is packaged: when it was built does not matter."""
    total = hashlib.sha256()
    for part in '--ctrl-tarfile', '--fsys-tarfile':
        tar = subprocess.run(['dpkg-deb', part, path], check=True, stdout=subprocess.PIPE).stdout
        total.update(subprocess.run(['tar', '-xO'], input=tar, check=True,
                                    stdout=subprocess.PIPE).stdout)
    return total.hexdigest()


def debian_path(suite):
    week = int(time.time() / (7 * 86400))
    return os.path.join(CACHE, f"{suite}-{digest(chapter.host('debian'))}-{week}.tar")


def debian(suite, path, note):
    """The Debian, as a tar in the cache."""
    if os.path.exists(path):
        return
    commands = chapter.host('debian')
    os.makedirs(CACHE, exist_ok=True)
    note(f'making a Debian {suite}, which takes three minutes')
    work = os.path.join(DISKS, f'{suite}.part')
    shutil.rmtree(work, ignore_errors=True)
    os.makedirs(work)
    try:
        mirror = os.path.join(work, 'mirror.list')
        with open(mirror, 'w', encoding='ascii') as file:
            file.writelines(f'{line}\n' for line in sources(suite))
        if suite != machine_suite():
            commands = '\n'.join([f'SUITE={suite}', *commands.splitlines()[1:]])
        script(commands, work, f'guest-{suite}-debian.log', MIRROR=mirror)
        for name in os.listdir(CACHE):
            if name.startswith(f'{suite}-'):
                os.unlink(os.path.join(CACHE, name))
        subprocess.run(['tar', '-C', work, '--xattrs', '-cf', path + '.part', 'guest'], check=True)
        os.rename(path + '.part', path)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def make(suite, note, name='plain', changes='', append=''):
    """The path of a disk: as the chapter has it, with commands that are run in
    the Debian on it besides. Tests that run at a time take turns."""
    debs = package()
    steps = [chapter.host(step) for step in ('driver', 'settings', 'disk')]
    base = debian_path(suite)
    key = digest(base, content(debs), changes, append, *steps)
    path = os.path.join(DISKS, f'{suite}-{name}-{key}.img')
    if not os.path.exists(path):
        with open(os.path.join(DISKS, f'{suite}.lock'), 'w', encoding='ascii') as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not os.path.exists(path):
                debian(suite, base, note)
                build(path, base, debs, steps, f'{suite}-{name}', changes, append, note)
    return path


def build(path, base, debs, steps, name, changes, append, note):
    """Makes what make() has the path of."""
    note(f'making the disk {name}, which takes one to three minutes')
    work = os.path.join(DISKS, f'{name}.part')
    shutil.rmtree(work, ignore_errors=True)
    os.makedirs(work)
    try:
        subprocess.run(['tar', '-C', work, '--xattrs', '-xpf', base], check=True)
        shutil.copy(debs, work)
        log = f'guest-{name}'
        script(steps[0], work, f'{log}-driver.log')
        guest = os.path.join(work, 'guest')
        if changes:
            in_root = os.path.join(TOP, 'scripts', 'in-root')
            shutil.copy('/etc/resolv.conf', os.path.join(guest, 'etc'))
            script(f'{in_root} guest sh -exc "$CHANGES"', work, f'{log}-changes.log',
                   CHANGES=changes)
        data = os.urandom(DATA_MIB << 20)
        with open(os.path.join(guest, DATA), 'wb') as file:
            file.write(data)
        script(steps[1] + steps[2], work, f'{log}-disk.log', APPEND=append)
        for old in os.listdir(DISKS):
            if old.startswith(f'{name}-'):
                os.unlink(os.path.join(DISKS, old))
        with open(f'{path}.sha256', 'w', encoding='ascii') as file:
            file.write(hashlib.sha256(data).hexdigest())
        os.rename(os.path.join(work, 'disk.img'), path)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def checksum(path):
    """Of the data that was put on the disk."""
    with open(f'{path}.sha256', encoding='ascii') as file:
        return file.read()


def copy(path, to):
    subprocess.run(['cp', '--sparse=always', '--reflink=auto', path, to], check=True)


def read(disk, name):
    """The content of a file in the disk's file system."""
    return subprocess.run(['/sbin/debugfs', '-R', f'cat {name}', f'{disk}?offset={PARTITION}'],
                          check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL).stdout


def check(disk):
    """What e2fsck has against the file system, or nothing."""
    result = subprocess.run(['/sbin/e2fsck', '-fn', f'{disk}?offset={PARTITION}'], check=False,
                            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    return result.stdout[-300:] if result.returncode else ''
