# SPDX-License-Identifier: GPL-2.0-or-later
"""What Sphinx needs to know, for 'make docs' and for the package xen-pviommu-doc."""

import os
import re

TOP = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))

# pylint: disable=invalid-name
project = 'xen-pviommu'
author = 'the xen-pviommu project'
with open(os.path.join(TOP, 'debian', 'changelog'), encoding='utf-8') as file:
    version = release = re.search(r'\((.*?)\)', file.readline())[1]

root_doc = 'index'
html_theme = 'alabaster'
html_theme_options = {'description': "An IOMMU for Xen HVM guests, inside QEMU",
                      'fixed_sidebar': True, 'page_width': '70em'}
html_show_sphinx = False
html_show_copyright = False
html_copy_source = False
# Nothing of the page depends on when it was built.
html_last_updated_fmt = None

man_pages = [('man/qemu-system-x86_64-xen-pviommu', 'qemu-system-x86_64-xen-pviommu',
              'QEMU for x86 with a Xen paravirtual IOMMU', '', 1),
             ('man/xen-pviommu', 'xen-pviommu',
              'a paravirtual IOMMU for guests of QEMU', '', 7)]
man_make_section_directory = False
