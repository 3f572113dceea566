# SPDX-License-Identifier: GPL-2.0-or-later
"""The series in xen/ as it is for one version of Xen.

A patch xen/NAME is for the oldest version. Where a later one needs a change in another
place, xen/VERSION/NAME has what differs from that version on, until another one says
otherwise: for each file, all of its changes, or none if there is nothing to change.
"""

import os
import re

from series.common import TOP, read

XEN = os.path.join(TOP, 'xen')


def number(version):
    return tuple(int(part) for part in version.split('.'))


def names():
    """The patches, in order."""
    return sorted(name for name in os.listdir(XEN) if name.endswith('.patch'))


def directories(version=None):
    """The versions that have variants; only those that are for this one; oldest first."""
    found = [name for name in os.listdir(XEN) if re.fullmatch(r'\d+\.\d+', name)]
    return sorted((name for name in found
                   if version is None or number(name) <= number(version)), key=number)


def split(text):
    """What is before the first file of a patch, and what is for each."""
    head, *parts = re.split(r'^(?=diff --git )', text, flags=re.M)
    return head, {re.match(r'diff --git a/(\S+) ', part)[1]: part for part in parts}


def patch(name, version):
    """The text of a patch for this version."""
    head, files = split(read(os.path.join(XEN, name)))
    for directory in directories(version):
        path = os.path.join(XEN, directory, name)
        if os.path.exists(path):
            files.update(split(read(path))[1])
    return head + ''.join(files[path] for path in sorted(files) if '\n@@ ' in files[path])


def series(version):
    """Pairs of a name and the text."""
    return [(name, patch(name, version)) for name in names()]
