# SPDX-License-Identifier: GPL-2.0-or-later
"""The manual's chapter about a Debian guest, as commands to run.

A block that is run has a comment before it, '.. check-guest: WHAT'. WHAT is
  packages    what to install on the host; not run, but compared with scripts/packages
  host NAME   on the host, in a directory that has the packages
  qemu        starts the guest; what follows is typed at its console
  guest       at the guest's prompt, a line each, which must succeed
  monitor     at QEMU's monitor
  shows       lines that the output of the block before has, '...' for anything
"""

import os
import re
import textwrap

from machine import TOP

CHAPTER = os.path.join(TOP, 'docs', 'system', 'devices', 'xen-pviommu-guest.rst')


def blocks():
    """Pairs of WHAT and the text of the block, in order."""
    with open(CHAPTER, encoding='utf-8') as file:
        text = file.read()
    found = re.findall(r'^\.\. check-guest: (.*)\n\n::\n\n((?:  .*\n|\n)+)', text, re.M)
    if len(found) != text.count('.. check-guest:'):
        raise ValueError(f'{CHAPTER}: a marked block is malformed')
    return [(what, textwrap.dedent(block).strip() + '\n') for what, block in found]


def host(name):
    """The commands of the host's block NAME."""
    return dict(blocks())[f'host {name}']


def commands(block):
    """The lines of a block; one that ends in a backslash goes on."""
    return block.replace('\\\n', ' ').splitlines()


def missing(shown, output):
    """The lines of SHOWN that the output lacks."""
    lines = [' '.join(line.split()) for line in output]
    for line in shown.splitlines():
        # A character class is as in grep, and the rest as it is.
        parts = re.split(r'(\.\.\.|\[1-9\])', ' '.join(line.split()))
        pattern = ''.join({'...': '.*', '[1-9]': '[1-9]'}.get(part) or re.escape(part)
                          for part in parts)
        if not any(re.search(pattern, line) for line in lines):
            yield line
