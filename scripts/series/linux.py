# SPDX-License-Identifier: GPL-2.0-or-later
"""Linux's part: the guest's driver, as it is in drivers/iommu.

The files of linux/ are written for the newest kernel. What is for older ones is
in linux/compat*.h, is named *_compat, or depends on PVIOMMU_CORE_6_1_COMPAT. All
of that is left out here, by a few rules, and what they leave is checked.
"""

import os
import re
import shutil
import subprocess
import textwrap

from series.common import BUILD, TOP, Failure, maintainer, matching, message, project_files, \
    read, write

# kzalloc_obj() is new in it, and attach_dev() has been what it is since 6.19.
OLDEST = (7, 0)
OLD_CORE = 'PVIOMMU_CORE_6_1_COMPAT'
INTERFACE = 'include/hw/xen/interface/iommu_op.h'
LEFTOVER = re.compile(r'compat|COMPAT|LINUX_VERSION_CODE|KERNEL_VERSION|\bPVIOMMU_VERSION|hw/xen')


def without_blocks(text, name):
    """C without what #ifdef and #ifndef of OLD_CORE leave out."""
    kept, inside, taken = [], False, True
    for number, line in enumerate(text.splitlines(keepends=True), 1):
        if match := re.match(rf'#if(n?)def {OLD_CORE}$', line):
            if inside:
                raise Failure(f'{name}:{number}: {OLD_CORE} inside of itself')
            inside, taken = True, match[1] == 'n'
        elif inside and re.match(r'#if', line):
            raise Failure(f'{name}:{number}: an #if inside of one of {OLD_CORE}')
        elif inside and line.startswith('#else'):
            taken = not taken
        elif inside and line.startswith('#endif'):
            inside, taken = False, True
        elif taken:
            kept.append(line)
    return ''.join(kept)


def empty_functions(header):
    """Those that compat.h has for the newest kernel; they do nothing there."""
    return set(re.findall(r'^static inline void (\w+_compat)\([^)]*\)\n\{\n\}', header, re.M))


def without_calls(text, name, empty):
    """C without calls of functions that do nothing, and braces around what is left."""
    lines = text.splitlines(keepends=True)
    found = 0
    while found < len(lines):
        match = re.match(r'\t+(\w+_compat)\(.*\);$', lines[found])
        if not match:
            found += 1
            continue
        if match[1] not in empty:
            raise Failure(f'{name}:{found + 1}: {match[1]}() is not empty in compat.h')
        del lines[found]
        before, after = lines[found - 1], lines[found:found + 2]
        indent = re.match(r'\t*', before)[0]
        # One statement does not stay in braces.
        if re.match(r'\t+if .*\) \{$', before) and after[0].endswith(';\n') and \
           after[1] == f'{indent}}}\n':
            lines[found - 1] = before.replace(') {', ')')
            del lines[found + 1]
    return ''.join(lines)


def without_members(text):
    """C without members of structures for older kernels, and what is said of them."""
    text = re.sub(r'^ \* @\w+_compat: .*\n( \*\t.*\n)*', '', text, flags=re.M)
    return re.sub(r'^\t[\w ]+ \w+_compat;\n', '', text, flags=re.M)


def linux_style(text):
    """Tabs where our headers have blanks, at the beginning of lines and before comments."""
    lines, inside = [], False
    for line in text.splitlines():
        body = line.lstrip(' ')
        indent = len(line) - len(body)
        if inside and not body.startswith('*'):
            # A step of four columns is one of eight here.
            indent *= 2
            if match := re.match(r'(.*?;) +(/\* .*)', body):
                body = match[1] + '\t' * max((31 - indent - len(match[1])) // 8 + 1, 1) + match[2]
        lines.append('\t' * (indent // 8) + ' ' * (indent % 8) + body)
        inside = (inside or bool(re.match(r'struct \w+ \{$', line))) and line != '};'
    return '\n'.join(lines) + '\n'


class Linux:
    """The driver as it is in Linux's tree."""

    SOURCE = os.path.join(BUILD, 'linux-source')
    DRIVER = 'drivers/iommu/xen-pviommu'

    def __init__(self, plan, tree):
        self.plan, self.tree = plan, tree
        self.files = [path for path in project_files() if path.startswith('linux/')]
        self.there = {}             # path here: path there, of the steps so far
        header = without_blocks(read(os.path.join(TOP, 'linux/compat.h')), 'linux/compat.h')
        self.empty = empty_functions(header)

    def source(self):
        """Linux's own files that the steps change."""
        # Its words are for whoever waits.
        if subprocess.run([os.path.join(TOP, 'scripts', 'get-linux')], check=False).returncode:
            raise Failure('there is no source of Linux (above): nothing is written for it')
        version = read(os.path.join(self.SOURCE, 'version')).strip()
        if tuple(int(number) for number in version.split('.')[:2]) < OLDEST:
            raise Failure(f'the newest Linux that apt has is {version}, and the series is for '
                          f'{".".join(map(str, OLDEST))} and newer: add the backports of a newer '
                          "Debian to this machine's apt")
        for path in self.plan['edited']:
            target = self.tree.file(path)
            os.makedirs(os.path.dirname(target), exist_ok=True)
            shutil.copy2(os.path.join(self.SOURCE, 'src', path), target)
        return version

    def target(self, path):
        """Where a file of the project goes."""
        if path in self.plan['paths']:
            return self.plan['paths'][path]
        return f'{self.DRIVER}/{os.path.basename(path)}'

    def present(self, name):
        """A file of the driver, by its name, is there."""
        return f'linux/{name}' in self.there

    def sections(self, text):
        """A header without what it says of files that are to come."""
        kept, taken = [], True
        for line in text.splitlines(keepends=True):
            if match := re.match(r'/\* ([\w-]+\.c) \*/$', line):
                taken = self.present(match[1])
            elif line.startswith(('#endif /* XEN_', '#include "compat')):
                taken = True
            listed = re.match(r' \*   ([\w-]+\.c) ', line)
            if taken and not (listed and not self.present(listed[1])):
                kept.append(line)
        return ''.join(kept)

    def text(self, path):
        """A file of the driver, as it is in Linux so far."""
        text = read(os.path.join(TOP, path))
        if not path.startswith('linux/'):
            return text
        if path.endswith('.h'):
            text = self.sections(text)
        text = without_blocks(text, path)
        text = without_calls(text, path, self.empty)
        text = without_members(text)
        text = re.sub(r'^#include "compat[\w-]*\.h"\n(?:\n(?=#endif))?', '', text, flags=re.M)
        text = re.sub(r'^MODULE_VERSION\(PVIOMMU_VERSION\);\n', '', text, flags=re.M)
        return text.replace('#include <hw/xen/interface/iommu_op.h>',
                            '#include <xen/interface/iommu_op.h>')

    def interface(self):
        """The ABI's header: as it is for Linux, and in its style."""
        text = read(os.path.join(TOP, INTERFACE))
        text = re.sub(r'#if defined\(__XEN__\)\n.*?#elif defined\(__KERNEL__\)\n(.*?)#else\n'
                      r'.*?#endif\n', r'\1', text, flags=re.S)
        text = re.sub(r'#ifdef __XEN__\n.*?#endif\n\n', '', text, flags=re.S)
        for change in self.plan['interface']:
            if text.count(change['old']) != 1:
                raise Failure(f'{INTERFACE} does not say "{change["old"].strip()}" any more: '
                              'adapt scripts/series/linux.toml')
            text = text.replace(change['old'], change['new'])
        if '__XEN__' in text:
            raise Failure(f'{INTERFACE} has more of __XEN__ than scripts/series/linux.py knows')
        return linux_style(text)

    def put(self, path):
        target = self.target(path)
        text = self.interface() if path == INTERFACE else self.text(path)
        for number, line in enumerate(text.splitlines(), 1):
            if path.startswith('linux/') and LEFTOVER.search(line.replace('XEN_PVIOMMU_V', '')):
                raise Failure(f'{target}:{number}: "{line.strip()}" is for older kernels: '
                              'see linux/compat.h')
        write(self.tree.file(target), text)

    def makefile(self):
        """Kbuild's list, of what is there, as a Makefile of the tree."""
        kbuild = read(os.path.join(TOP, 'linux/Kbuild')).replace('\\\n', ' ')
        objects = re.search(r'^xen-pviommu-y := (.*)$', kbuild, re.M)[1].split()
        missing = {f'linux/{name[:-2]}.c' for name in objects} ^ \
                  {path for path in self.files if path.endswith('.c')}
        if missing:
            raise Failure(f'linux/Kbuild and the directory differ: {", ".join(sorted(missing))}')
        kept = [name for name in objects if self.present(f'{name[:-2]}.c')]
        lines = textwrap.wrap('xen-pviommu-y := ' + ' '.join(kept), 68,
                              break_long_words=False, break_on_hyphens=False)
        write(self.tree.file(f'{self.DRIVER}/Makefile'),
              '# SPDX-License-Identifier: GPL-2.0\n'
              'obj-$(CONFIG_XEN_PVIOMMU) += xen-pviommu.o\n' + ' \\\n\t'.join(lines) + '\n')

    def edit(self, what):
        insert = self.tree.insert
        if what == 'drivers/iommu':
            write(self.tree.file(f'{self.DRIVER}/Kconfig'),
                  '# SPDX-License-Identifier: GPL-2.0\n' + self.plan['kconfig'])
            insert('drivers/iommu/Kconfig', 'source "drivers/iommu/riscv/Kconfig"',
                   f'source "{self.DRIVER}/Kconfig"\n')
            insert('drivers/iommu/Makefile', 'obj-$(CONFIG_HYPERV)',
                   'obj-$(CONFIG_XEN_PVIOMMU) += xen-pviommu/\n')
        elif what == 'MAINTAINERS':
            self.maintainers()
        elif what == 'docs':
            insert('Documentation/virt/index.rst', '   hyperv/index', '   xen-pviommu\n')
        else:
            raise Failure(f'scripts/series/linux.toml: no edit is called {what}')

    def maintainers(self):
        """An entry, in the order of the alphabet."""
        title, fields = self.plan['maintainers']['title'], self.plan['maintainers']['fields']
        entry = f'{title}\n' + ''.join(
            f'{field}\n' for field in [f'M:\t{maintainer()[0]} <{maintainer()[1]}>', *fields])
        text = read(self.tree.file('MAINTAINERS'))
        head, mark, rest = text.partition('\nMaintainers List\n')
        following = next((match for match in re.finditer(r'(?<=\n\n)(\S.*)\n[A-Z]:\t', rest)
                          if match[1].upper() > title), None)
        if not mark or not following:
            raise Failure('MAINTAINERS has another form: adapt scripts/series/linux.py')
        write(self.tree.file('MAINTAINERS'), head + mark + rest[:following.start()] + entry +
              '\n' + rest[following.start():])

    def depends(self, step):
        """What the files so far need of a later step is an error."""
        def plain(path):
            return re.sub(r'/\*.*?\*/', '', read(path), flags=re.S)

        later = {}
        for path in self.files:
            if path.endswith('.c') and path not in self.there:
                for static, name in re.findall(r'^(static )?[\w *]*?\b(\w+)\([^;{}]*\)\n[^;{}]*\{',
                                               plain(os.path.join(TOP, path)), re.M):
                    if not static:
                        later[name] = path
                for name in re.findall(r'^(?:const )?struct \w+ (?:\*)?(\w+)(?: =|;)',
                                       plain(os.path.join(TOP, path)), re.M):
                    later[name] = path
        for path, target in self.there.items():
            if not target.endswith(('.c', '.h')):
                continue
            text = plain(self.tree.file(target))
            for name in re.findall(r'#include "([^"]+)"', text):
                if not self.present(name):
                    raise Failure(f'{step}: {path} includes {name}, of a later step')
            for name in set(re.findall(r'\b\w+\b', text)) & later.keys():
                raise Failure(f'{step}: {path} uses {name}, which {later[name]} of a later '
                              'step has')

    def run(self):
        version = self.source()
        self.tree.base()
        for step in self.plan['steps']:
            before = set(self.there)
            wanted = matching(step.get('files', []), self.files + list(self.plan['paths']))
            self.there.update((path, self.target(path)) for path in wanted)
            # Headers and the list of objects grow with what they list.
            for path in self.there:
                if path not in before or path.endswith('.h'):
                    self.put(path)
            if any(path.endswith('.c') for path in self.there):
                self.makefile()
            for what in step.get('edits', []):
                self.edit(what)
            self.depends(step['subject'])
            if not self.tree.commit(message(step['subject'], step['text'])):
                raise Failure(f'{step["subject"]}: nothing changes')
        left = [path for path in self.files if path.endswith(('.c', '.h')) and
                path not in self.there and not path.startswith('linux/compat')]
        if left:
            raise Failure(f'scripts/series/linux.toml leaves out {", ".join(left)}')
        return {'version': version}
