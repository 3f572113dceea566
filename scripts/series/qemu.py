# SPDX-License-Identifier: GPL-2.0-or-later
"""QEMU's half: the device, its tests, and what existing files need."""

import os
import re
import shutil
import textwrap

from series.common import (BUILD, HINT, TOP, Failure, maintainer, matching, message, of_patch,
                           project_files, read, write)

# For the versions of QEMU that the project is built with; not for QEMU itself.
COMPAT = ('hw/xen/compat.h', 'hw/xen/compat-memory.h')
# Tests of fixes that need no device of the project.
FIXES = 'tests/qtest/fixes'
# Tables that bios-tables-test lets be what they are.
ALLOWED_DIFF = 'tests/qtest/bios-tables-test-allowed-diff.h'


def defines(path, before=''):
    """Functions that a C file has, those with BEFORE in front."""
    return re.findall(rf'^{before}[\w *]*?\b(\w+)\([^;{{}}]*\)\n\{{',
                      read(os.path.join(TOP, path)), re.M)


class Qemu:
    """The project's files as they are in QEMU's tree."""

    SOURCE = os.path.join(BUILD, 'qemu', 'src')
    EDITED = ['meson.build', 'MAINTAINERS', 'hw/xen/meson.build', 'hw/xen/Kconfig',
              'hw/misc/meson.build', 'tests/unit/meson.build', 'tests/qtest/meson.build',
              'docs/index.rst']

    def __init__(self, plan, tree):
        self.plan, self.tree = plan, tree
        self.files = project_files()
        self.there = {}             # path here: path there, of the steps so far
        applied = os.path.join(self.SOURCE, '.hooks')
        if not os.path.isdir(applied):
            raise Failure(f'{self.SOURCE} has no hooks. {HINT}')
        self.hooks = {name[:4]: (name, read(os.path.join(applied, name)))
                      for name in sorted(os.listdir(applied)) if name.endswith('.patch')}

    def pristine(self):
        """What the steps change, as QEMU has it: hooks are taken back."""
        for _, text in self.hooks.values():
            for path in re.findall(r'^\+\+\+ b/(\S+)', text, re.M):
                self.copy(path)
        for path in [*self.EDITED, ALLOWED_DIFF,
                     *(fix['table'] for fix in self.plan['fixes'] if 'table' in fix)]:
            self.copy(path)
        for name, text in reversed(self.hooks.values()):
            self.tree.patch(text, name, '-R')

    def copy(self, path):
        target = self.tree.file(path)
        if not os.path.lexists(target):
            os.makedirs(os.path.dirname(target), exist_ok=True)
            shutil.copy2(os.path.join(self.SOURCE, path), target, follow_symlinks=False)

    def target(self, path):
        """Where a file of the project goes."""
        here = max((p for p in self.plan['paths'] if path.startswith(p)), key=len)
        return self.plan['paths'][here] + path.removeprefix(here)

    def include(self, path, name):
        """What PATH has to include for NAME, once both are moved."""
        near = os.path.normpath(os.path.join(os.path.dirname(path), name))
        if near not in self.files:
            return name
        return os.path.relpath(self.target(near), os.path.dirname(self.target(path)))

    def of_version(self, text):
        """C without hw/xen/compat*.h: as this QEMU is."""
        for path in COMPAT:
            includes = ''.join(self.compat_includes(path))
            text = re.sub(rf'#include "(?:\.\./)[./\w-]*{re.escape(os.path.basename(path))}"\n',
                          includes, text)
        major, minor = read(os.path.join(self.SOURCE, 'VERSION')).split('.')[:2]
        newer = (int(major), int(minor)) >= (10, 1)
        text = text.replace('XEN_PVIOMMU_CONST ', 'const ' if newer else '')
        return text if newer else text.replace('QEMU_UNINITIALIZED ', '')

    def compat_includes(self, path):
        """The headers that it stands for with this QEMU."""
        includes, taken = [], True
        for line in read(os.path.join(TOP, path)).splitlines(keepends=True):
            if match := re.match(r'#if __has_include\("(.*)"\)', line):
                taken = os.path.exists(os.path.join(self.SOURCE, 'include', match[1]))
            elif line.startswith('#else'):
                taken = not taken
            elif line.startswith('#include') and taken:
                includes.append(line)
        return includes

    def source(self, path, text):
        """A C file, with what depends on where it is, and on the version."""
        text = self.of_version(text)
        directory = os.path.dirname(self.target(path)).replace('/', '_').replace('-', '_')
        text = re.sub(r'"trace/trace-\w+\.h"', f'"trace/trace-{directory}.h"', text)
        return re.sub(r'#include "([^"]+)"',
                      lambda m: f'#include "{self.include(path, m[1])}"', text)

    def meson(self, path, text):
        """A meson.build, of what is there so far and without the project's directory."""
        directory = os.path.dirname(path)

        def kept(name):
            """Where a source, or a test by its short name, is: None if to come."""
            for near in (name, f'{name}.c', f'xen-pviommu-{name}-test.c', f'../fuzz/{name}.c'):
                near = os.path.normpath(os.path.join(directory, near))
                if near in self.files:
                    return near if near in self.there else None
            return ''

        def token(match):
            near = kept(match[1])
            if near is None:
                return ''
            if near and match[1].endswith('.c'):
                name = os.path.relpath(self.target(near), os.path.dirname(self.target(path)))
                return f"'{name}'" + match[2]
            return match[0]

        # A stub stands for what is still to come in any configuration.
        for part, stub in re.findall(r"if_false: files\('(([\w-]+)-stub\.c)'\)", text):
            if kept(part) and not kept(f'{stub}.c'):
                text = re.sub(rf"(\w+_ss)(\.add\(when:(?:(?!_ss\.add)[\s\S])*),\s*"
                              rf"if_false: files\('{part}'\)\)",
                              rf"\1\2)\n\1.add(files('{part}'))", text)
        # A name, and what is behind it up to the next one or the end of the list.
        text = re.sub(r"'([\w./-]+)'((?:: [^\n]*?)?,(?: *\n *(?=[\])])|[ \n]*(?='))?|)",
                      token, text)
        for old, new in ((r"\n# virtio\.c,[^\n]*\nspecific_ss\.add\(xen_pviommu_inc\)", ''),
                         (r'xen_pviommu_inc, ', ''), (r',\s*xen_pviommu_inc', ''),
                         (r' *dependencies: xen_pviommu_inc,\n', ''),
                         (r'\n  \)(?=, if_false|\)\n)', '\n)'),
                         (r"name\.startswith\('fuzz-'\) \? '../fuzz' / name \+ '\.c'\s*:"
                          r" name \+ '\.c'", "name + '.c'")):
            text = re.sub(old, new, text)
        return re.sub(r'^ *\n(?= *\n)', '', re.sub(r'^ +$\n', '', text, flags=re.M), flags=re.M)

    def put(self, path):
        target = self.tree.file(self.target(path))
        source = os.path.join(TOP, path)
        if path.endswith(('.c', '.h')):
            write(target, self.source(path, read(source)))
        elif os.path.basename(path) == 'meson.build':
            write(target, self.meson(path, read(source)))
        else:
            os.makedirs(os.path.dirname(target), exist_ok=True)
            if os.path.lexists(target):
                os.unlink(target)
            shutil.copy2(source, target)

    def edit(self, what):
        insert = self.tree.insert
        if what == 'hw/xen':
            insert('hw/xen/meson.build', None, "\nsubdir('pviommu')\n")
            insert('hw/xen/Kconfig', None, '\nsource pviommu/Kconfig\n')
        elif what == 'page-release':
            insert('hw/xen/meson.build', 'specific_ss.add_all(', "\nsubdir('page-release')\n")
        elif what.startswith('trace '):
            directory = {'core': 'hw/xen/pviommu/core', 'device': 'hw/xen/pviommu',
                         'page-release': 'hw/xen/page-release'}[what[6:]]
            insert('meson.build', "    'hw/xen',", f"    '{directory}',\n")
        elif what == 'hw/misc':
            insert('hw/misc/meson.build', None, "\nsubdir('xen-pviommu')\n")
        elif what == 'tests/unit':
            insert('tests/unit/meson.build', None, "\nsubdir('xen-pviommu')\n")
        elif what == 'tests/qtest':
            insert('tests/qtest/meson.build', None, "\nsubdir('xensim')\n")
        elif what == 'tests/qtest/xen-pviommu':
            insert('tests/qtest/meson.build', "subdir('xensim')", "subdir('xen-pviommu')\n")
        elif what == 'docs':
            insert('docs/index.rst', '   devel/index', '   xen-pviommu/index\n')
        elif what == 'MAINTAINERS':
            self.maintainers()
        else:
            raise Failure(f'scripts/series/qemu.toml: no edit is called {what}')

    def maintainers(self):
        name, address = maintainer()
        paths = sorted({self.plan['paths'][p] for p in self.plan['paths']
                        if p not in ('hw/', 'include/', 'qapi/')})
        lines = ['xen-pviommu and page release', f'M: {name} <{address}>', 'S: Maintained',
                 'F: hw/xen/page-release/', 'F: hw/xen/pviommu/', 'F: include/hw/xen/interface/',
                 'F: include/hw/xen/xen-page-release.h', 'F: include/hw/xen/xen-pviommu.h',
                 'F: qapi/xen-invalidate.json', 'F: qapi/xen-pviommu.json',
                 *(f'F: {path}' for path in paths)]
        text = read(self.tree.file('MAINTAINERS'))
        before, heading, after = text.partition('\nvirtio-iommu\n')
        if not heading:
            raise Failure('MAINTAINERS has no virtio-iommu any more: adapt scripts/make-series')
        write(self.tree.file('MAINTAINERS'), before + heading +
              after.replace('\n\n', '\n\n' + '\n'.join(lines) + '\n\n', 1))

    def hook(self, number):
        """Applies it, if this QEMU has a place for it."""
        if number not in self.hooks:
            return None
        name, text = self.hooks[number]
        subject, body, changes = of_patch(text)
        self.tree.patch(changes, name)
        return subject, body

    def reproducer(self, fix):
        """The qtest of a fix, in QEMU's list of them."""
        if 'test' not in fix:
            return
        name = f'{fix["test"]}-test'
        path = f'{FIXES}/{name}.c'
        needed = [path] + [f'{FIXES}/{header}' for header in
                           re.findall(r'#include "([\w-]+\.h)"', read(os.path.join(TOP, path)))
                           if f'{FIXES}/{header}' in self.files]
        for path in needed:
            if path not in self.there:
                self.there[path] = self.target(path)
                self.put(path)
        line = f"  (config_all_devices.has_key('{fix['config']}') ? ['{name}'] : []) +"
        self.tree.insert('tests/qtest/meson.build', "? ['tco-test']", f'{line:92}\\\n')

    def table(self, fix, changed):
        """A table that bios-tables-test knows is going to change, or has changed."""
        name = os.path.basename(fix['table'])
        known = read(self.tree.file(ALLOWED_DIFF))
        if not changed:
            write(self.tree.file(ALLOWED_DIFF), known + f'"{fix["table"]}",\n')
            self.tree.commit(message(f'tests/acpi: {name} is about to change',
                                     'bios-tables-test accepts that for the next patch.'))
            return
        write(self.tree.file(ALLOWED_DIFF), known.replace(f'"{fix["table"]}",\n', ''))
        with open(self.tree.file(fix['table']), 'rb') as f:
            table = bytearray(f.read())
        table[fix['offset']:fix['offset'] + len(fix['bytes'])] = bytes(fix['bytes'])
        # The sum of all bytes is 0.
        table[9] = (table[9] - sum(table)) & 0xff
        with open(self.tree.file(fix['table']), 'wb') as f:
            f.write(table)
        self.tree.commit(message(
            f'tests/acpi: {name} as it is now',
            f'At offset {fix["offset"]} it has the bytes ' +
            ' '.join(f'{byte:02x}' for byte in fix['bytes']) + ', and another checksum.'))

    def row(self, subject, fix):
        """What shows a fault, for the cover letter."""
        for name in re.findall(r'\b([\w-]+)/([\w-]+)\b', fix.get('later', '')):
            if not any('/'.join(name) in read(os.path.join(TOP, path)) for path in self.files
                       if path.startswith('tests/qtest/') and path.endswith('.c')):
                raise Failure(f'scripts/series/qemu.toml: there is no test {"/".join(name)}')
        shown = [f'{fix["test"]}-test, in the patch'] if 'test' in fix else []
        return [*textwrap.wrap(subject, 76),
                *textwrap.wrap('; '.join([*shown, *([fix['later']] if 'later' in fix else [])]), 76,
                               initial_indent='    ', subsequent_indent='    ')]

    def depends(self, step, before):
        """What a step needs of a later one is an error."""
        for path in self.there:
            if path.endswith(('.c', '.h')):
                for name in re.findall(r'#include "([^"]+)"', read(os.path.join(TOP, path))):
                    for near in (os.path.normpath(os.path.join(os.path.dirname(path), name)),
                                 'include/' + name):
                        if near in self.files and near not in (*COMPAT, *self.there):
                            raise Failure(f'{step}: {path} includes {near}, of a later step')
                for name in re.findall(r'#include "qapi/qapi-[a-z]+-([\w-]+)\.h"',
                                       read(os.path.join(TOP, path))):
                    schema = f'qapi/{name}.json'
                    if schema in self.files and schema not in self.there:
                        raise Failure(f'{step}: {path} needs {schema}, of a later step')
        later = [p for p in self.files if p.startswith('hw/xen/') and p.endswith('.c') and
                 p not in self.there]
        defined = {name: path for path in later for name in defines(path)}
        # A stub may stand for it; and what is static in one file is not called in another.
        for name in [*(name for path in self.there if path.endswith('-stub.c')
                       for name in defines(path)),
                     *(name for path in later for name in defines(path, 'static '))]:
            defined.pop(name, None)
        for path in set(self.there) - before:
            if path.startswith('hw/xen/') and path.endswith('.c'):
                text = re.sub(r'/\*.*?\*/', '', read(os.path.join(TOP, path)), flags=re.S)
                for name in set(re.findall(r'\b(\w+)\(', text)) & defined.keys():
                    raise Failure(f'{step}: {path} calls {name}(), which {defined[name]} of a '
                                  'later step has')

    def run(self):
        self.pristine()
        self.tree.base()
        used = {'0001', '0002', '0003'}
        rows = []
        for fix in self.plan['fixes']:
            used.add(fix['hook'])
            if fix['hook'] not in self.hooks:
                continue
            if 'table' in fix:
                self.table(fix, False)
            said = self.hook(fix['hook'])
            self.reproducer(fix)
            self.tree.commit(message(*said))
            rows.append(self.row(said[0], fix))
            if 'table' in fix:
                self.table(fix, True)
        for step in self.plan['steps']:
            before = set(self.there)
            for path in matching(step.get('files', []), self.files):
                if path not in ('docs/conf.py', *COMPAT) and path not in before:
                    self.there[path] = self.target(path)
            for number in step.get('hooks', []):
                used.add(number)
                self.hook(number)
            for path in set(self.there) - before:
                self.put(path)
            # Lists of sources grow with what they list.
            for path in before & set(self.there):
                if os.path.basename(path) == 'meson.build':
                    self.put(path)
            for what in step.get('edits', []):
                self.edit(what)
            self.depends(step['subject'], before)
            if not self.tree.commit(message(step['subject'], step.get('text', ''))):
                raise Failure(f'{step["subject"]}: nothing changes')
        if unused := [self.hooks[n][0] for n in self.hooks if n not in used]:
            raise Failure(f'scripts/series/qemu.toml leaves out {", ".join(unused)}')
        left = [p for p in self.files if p.startswith(('hw/', 'include/', 'qapi/')) and
                p not in self.there and p not in COMPAT]
        if left:
            raise Failure(f'scripts/series/qemu.toml leaves out {", ".join(left)}')
        fixes = {path for path in self.files if path.startswith(f'{FIXES}/') and
                 path.endswith('.c')} - set(self.there)
        if fixes:
            raise Failure(f'scripts/series/qemu.toml has no fix for {", ".join(sorted(fixes))}')
        return {'fixes': '\n'.join(line for row in rows for line in row)}
