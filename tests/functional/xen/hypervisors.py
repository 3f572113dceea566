# SPDX-License-Identifier: GPL-2.0-or-later
"""The hypervisors that the tests can run: Debian's own, and those with the series.

Each goes with a dom0 of the Debian whose tools are for its version. scripts/lib.sh says
which Debian has which version.
"""

import os
import subprocess
import typing

from dom0 import BUILD, EDU, TOP

# What iommu-op-test wants to see: a limit that it can reach, the page table of
# another vCPU, and a device that reserves BFNs, in two pieces.
IOMMU_OP_ARGS = ('iommu-op-max-mappings=100000 dom0_max_vcpus=2 '
                 f'ivmd=400000-40000f={EDU[5:]};410000-41000f={EDU[5:]}')
# VT-d's page tables are not those of AMD's nested paging, though Xen thinks so.
ARGS = {'debian': '', 'libvirt': '', 'series': IOMMU_OP_ARGS,
        'debug': IOMMU_OP_ARGS + ' loglvl=all', 'vtd': 'iommu=no-sharept'}
OUT = {'series': 'out', 'debug': 'out-debug', 'vtd': 'out'}


def says(*path):
    """What is in a file of build/xen, or None."""
    try:
        with open(os.path.join(BUILD, 'xen', *path), encoding='utf-8') as file:
            return file.read().strip()
    except FileNotFoundError:
        return None


class Hypervisor(typing.NamedTuple):
    """One of the KINDS, for a dom0 of SUITE."""
    kind: str
    version: str
    suite: str

    @property
    def iommu(self):
        """The machine's."""
        if self.kind == 'vtd':
            return 'intel-iommu,intremap=on,caching-mode=on'
        return 'amd-iommu,intremap=on'

    @property
    def name(self):
        return f'{self.kind}-{self.version}'

    @property
    def args(self):
        return ARGS[self.kind]

    @property
    def path(self):
        if self.kind not in OUT:
            return os.path.join(BUILD, 'xen', self.suite, 'debian', 'xen')
        return os.path.join(BUILD, 'xen', self.version, OUT[self.kind], 'xen')

    def unfit(self):
        """Why it cannot be used, or None."""
        tools = says(self.suite, 'tools')
        if not says(self.suite, 'dom0.id') or tools is None:
            return (f'there is no dom0 of Debian {self.suite}: '
                    f'{says(self.suite, "missing") or "make dom0 makes it"}')
        if not os.path.exists(os.path.join(BUILD, 'xen', self.suite, 'tests.img')):
            return (f'there is no disk for a dom0 of Debian {self.suite}: '
                    f'scripts/build-dom0 {self.suite} makes it')
        if self.kind not in OUT:
            return None
        if tools != self.version:
            return (f"Debian {self.suite}'s tools are for Xen {tools}, "
                    f'this one is Xen {self.version}')
        if why := says(self.version, 'missing'):
            return f'there is no source of Xen {self.version}: {why}'
        if not says(self.version, OUT[self.kind], 'built'):
            option = ' --debug' if self.kind == 'debug' else ''
            return (f'Xen {self.version} was not built: '
                    f'scripts/get-xen {self.version}{option} does that')
        return None


def shell(command):
    """What functions of scripts/lib.sh say."""
    return subprocess.run(['bash', '-c', f'. "$TOP/scripts/lib.sh"; {command}'], check=True,
                          env=dict(os.environ, TOP=TOP), stdout=subprocess.PIPE,
                          text=True).stdout.split()


# The version of the machine's own Debian, and the Debian of each version.
OWN, MACHINE, *rest = shell('xen_of "$(machine_suite)"; machine_suite; echo;'
                            ' for suite in $(other_suites); do'
                            ' echo "$(xen_of "$suite") $suite"; done')
SUITES = {OWN: MACHINE, **{version: suite for version, suite in zip(rest[::2], rest[1::2])
                           if version != OWN}}


def group(hypervisor):
    """Of scripts/run-tests: 'xen' has the machine's own version, or that of another where
    there is no series for its own; 'xen-other' has what Debian has of another."""
    if hypervisor.kind in ('libvirt', 'debug'):
        return 'xen-long'
    if hypervisor.version == OWN or Hypervisor('series', OWN, MACHINE).unfit():
        return 'xen'
    return 'xen-other' if hypervisor.kind == 'debian' else 'xen-long'


def hypervisors():
    """By name, the machine's own first."""
    every = [Hypervisor(kind, version, suite) for version, suite in SUITES.items()
             for kind in ('debian', 'libvirt', *OUT)]
    return {hypervisor.name: hypervisor for hypervisor in every}
