# SPDX-License-Identifier: GPL-2.0-or-later
"""Xen's half: the series of xen/, with the headers that it is on top of."""

import os
import re
import shutil
import subprocess

from series import variants
from series.common import BUILD, TOP, Failure, message, of_patch, read, write


class Xen:
    """The hypervisor's half."""

    SOURCE = os.path.join(BUILD, 'xen-source')
    # Of Xen; by default the machine's own, or another one that can be had.
    version = None

    def __init__(self, plan, tree):
        self.plan, self.tree = plan, tree

    def run(self):
        # Its words are for whoever waits.
        get = [os.path.join(TOP, 'scripts', 'get-xen'), *filter(None, [self.version])]
        if subprocess.run([*get, '--unpack', self.SOURCE], check=False).returncode:
            raise Failure('there is no source of Xen (above): nothing is written for it')
        version = read(os.path.join(self.SOURCE, 'version')).strip()
        series = variants.series(version)
        for _, text in series:
            for path in re.findall(r'^(?:\+\+\+ b|--- a)/(\S+)', text, re.M):
                source = os.path.join(self.SOURCE, 'src', path)
                if os.path.exists(source):
                    os.makedirs(os.path.dirname(self.tree.file(path)), exist_ok=True)
                    shutil.copy2(source, self.tree.file(path))
        self.tree.base()
        for source, header in self.plan['headers'].items():
            write(self.tree.file(header), read(os.path.join(TOP, source)))
        self.tree.commit(message(self.plan['headers-subject'], self.plan['headers-text']))
        for name, text in series:
            subject, body, changes = of_patch(text)
            self.tree.patch(changes, name, '-F0')
            self.tree.commit(message(subject, body))
        return {'version': version}
