# SPDX-License-Identifier: GPL-2.0-or-later
"""How check-series looks at the patches of any part: that each applies, has the style,
and is checked in the order of the series, in a tree that is kept. What is built and
tested is for the parts, in check-series."""

import os
import re
import shutil
import signal
import subprocess
import time

from series.common import BUILD, TOP, Failure, maintainer, read

WORK = os.path.join(BUILD, 'check-series')
LOGS = os.path.join(BUILD, 'logs')
# Seconds without a line after which the end of the log is shown.
SILENCE = 15
# (part, complaints of checkpatch, why they are none); CONTRIBUTING has them, too.
ACCEPTED = [
    ('qemu', r'does MAINTAINERS need updating', 'the first patch of the device has the entry'),
    ('linux', r'FILE_PATH_CHANGES', 'the first patch has the entry'),
    ('qemu', r'architecture specific defines should be avoided',
     'it takes every #if of a name with two underscores for such a define'),
    ('qemu', r"acceptable license 'MIT", 'the ABI headers are for Xen and guests, too'),
    ('qemu', r"\.stream' need 'SPDX", 'the format has no comments'),
]


class Report:
    """A line for each check, and how many."""

    def __init__(self):
        self.passed = self.failed = 0

    def add(self, ok, what, took, *why):
        if ok:
            self.passed += 1
        else:
            self.failed += 1
        print(f'{"ok" if ok else "not ok":7} {what}{f" ({took:.0f} s)" if took >= 1 else ""}',
              *(f'        {line}' for line in why), sep='\n', flush=True)


class Stop(Exception):
    """There is no use in going on with this part."""


def applied_name(number):
    return f'{number:04}.patch'


class Part:
    """The patches of one, and the tree that they are applied to."""
    name = ''
    # What to try when a patch does not build.
    advice = 'make the change in the project, or put what is missing into an earlier step of'

    def __init__(self, report):
        self.report = report
        self.dir = os.path.join(WORK, self.name)
        self.src = os.path.join(self.dir, 'src')
        self.out = os.path.join(self.dir, 'out')
        self.done = os.path.join(self.dir, 'applied')
        self.mail = os.path.join(WORK, 'mail', self.name)
        self.env = dict(os.environ, GIT_CEILING_DIRECTORIES=self.dir, GIT_CONFIG_GLOBAL='/dev/null',
                        GIT_CONFIG_SYSTEM='/dev/null', LC_ALL='C.UTF-8')

    # --- how things are run

    def quick(self, *command, cwd=None, stdin=None):
        return subprocess.run(command, cwd=cwd or self.src, env=self.env, input=stdin, check=False,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    def log_of(self, what):
        return os.path.join(LOGS, 'check-series-' + re.sub(r'\W+', '-', f'{self.name} {what}') +
                            '.log')

    def run(self, what, *commands, cwd=None):
        """Runs them, says that they run, and keeps what they say. True if all is well."""
        path = self.log_of(what)
        begun = spoke = time.monotonic()
        with open(path, 'w', encoding='utf-8') as log:
            for command in commands:
                with subprocess.Popen(command, cwd=cwd or self.src, env=self.env, stdout=log,
                                      stdin=subprocess.DEVNULL, stderr=subprocess.STDOUT,
                                      start_new_session=True) as process:
                    try:
                        while True:
                            try:
                                process.wait(1)
                                break
                            except subprocess.TimeoutExpired:
                                pass
                            if time.monotonic() - spoke >= SILENCE:
                                spoke = time.monotonic()
                                print(f'    {self.name} {what}: {spoke - begun:.0f} s: '
                                      f'{last_line(path)}', flush=True)
                    except BaseException:
                        os.killpg(process.pid, signal.SIGKILL)
                        raise
                if process.returncode:
                    return False
        return True

    def check(self, what, *commands, advice='', cwd=None):
        """The same as a test."""
        begun = time.monotonic()
        ok = self.run(what, *commands, cwd=cwd)
        why = []
        if not ok:
            why = [*last_lines(self.log_of(what), 12), f'All of it: {self.log_of(what)}',
                   f'What to try: {advice or f"{self.advice} scripts/series/{self.name}.toml"}']
        self.report.add(ok, f'{self.name} {what}', time.monotonic() - begun, *why)
        return ok

    def needed(self, what, *commands, advice, cwd=None):
        """What is no test, and without which there is none."""
        if not self.run(what, *commands, cwd=cwd):
            raise Failure('\n        '.join([
                f'{self.name}: {what}: failed:', *last_lines(self.log_of(what), 12),
                f'All of it: {self.log_of(what)}', f'What to try: {advice}']))

    # --- patches

    def of_version(self):
        """Options of make-series."""
        return []

    def write(self):
        """The patches, and the tree that they were made in."""
        name, address = maintainer()
        made = self.quick(os.path.join(TOP, 'scripts', 'make-series'), '--signoff',
                          f'{name} <{address}>', '--out', os.path.join(WORK, 'mail'),
                          *self.of_version(), self.name, cwd=TOP)
        print(made.stdout.rstrip(), flush=True)
        if made.returncode:
            raise Failure(f'{self.name}: make-series cannot write it (above)')
        self.patches = [os.path.join(self.mail, name) for name in sorted(os.listdir(self.mail))
                        if not name.startswith('0000-')]

    def applied(self):
        """How many patches of the tree are those of now."""
        number = 0
        while number < len(self.patches):
            path = os.path.join(self.done, applied_name(number + 1))
            if not os.path.exists(path) or changes(path) != changes(self.patches[number]):
                break
            number += 1
        return number

    def take_back(self, number):
        """Those after NUMBER."""
        for name in sorted(os.listdir(self.done), reverse=True):
            if int(name[:4]) <= number:
                break
            path = os.path.join(self.done, name)
            said = self.quick('git', 'apply', '-R', '--whitespace=nowarn', path)
            if said.returncode:
                raise Failure(f'{self.name}: patch {name[:4]} cannot be taken back from '
                              f'{self.src}: {said.stdout.strip()}. Remove {self.dir} and try again')
            os.unlink(path)

    def apply(self, number):
        """Patch NUMBER; the complaint, or nothing."""
        path = self.patches[number - 1]
        said = self.quick('git', 'apply', '-v', '--whitespace=error-all' if self.strict(path) else
                          '--whitespace=nowarn', path)
        trouble = [line for line in said.stdout.splitlines()
                   if said.returncode or re.search(r'\(offset \d|with fuzz|whitespace', line)]
        if not said.returncode:
            shutil.copy(path, os.path.join(self.done, applied_name(number)))
        return trouble

    def strict(self, path):
        """Blanks at the end of a line are errors; files of data may have some."""
        return not re.search(r'^\+\+\+ b/\S+\.(stream|svg|patch)$', read(path), re.M)

    def am(self):
        """git am of all, in the tree that they were made in."""
        begun = time.monotonic()
        made = os.path.join(WORK, 'mail', f'{self.name}-tree')
        copy = os.path.join(self.dir, 'am')
        shutil.rmtree(copy, ignore_errors=True)
        name, address = maintainer()
        why = []
        for command, where in ((['git', 'clone', '-q', made, copy], WORK),
                               (['git', 'checkout', '-q', 'base'], copy),
                               (['git', '-c', f'user.name={name}', '-c', f'user.email={address}',
                                 'am', '-q', *self.patches], copy),
                               (['git', 'diff', '--exit-code', '--stat', 'origin/series'], copy)):
            said = self.quick(*command, cwd=where)
            if said.returncode:
                why = said.stdout.splitlines()[-12:]
                break
        shutil.rmtree(copy, ignore_errors=True)
        self.report.add(not why, f'{self.name} git am', time.monotonic() - begun, *why)

    def style(self, number):
        """checkpatch, where there is one."""
        begun = time.monotonic()
        path = self.patches[number - 1]
        lines = [line.removeprefix(f'{path}:') for line in self.checkpatch(path)
                 if not any(part == self.name and re.search(pattern, line)
                            for part, pattern, _ in ACCEPTED)]
        why = lines and [*lines, f'in {path}']
        self.report.add(not lines, f'{self.name} {self.short(number)} style',
                        time.monotonic() - begun, *why)

    def checkpatch(self, path):
        return []

    def perl(self, *words):
        said = self.quick('perl', *words)
        return [line for line in said.stdout.splitlines() if line.strip()]

    def short(self, number):
        return os.path.basename(self.patches[number - 1])[:4]

    def subject(self, number):
        match = re.search(r'^Subject: \[PATCH[^]]*\] (.*(?:\n .*)*)',
                          read(self.patches[number - 1]), re.M)
        return ' '.join(match[1].split())

    def files(self, number):
        """What a patch changes."""
        return sorted(set(re.findall(r'^diff --git a/(\S+) ', read(self.patches[number - 1]),
                                     re.M)))

    # --- all of it

    def prepare(self):
        """The unpatched tree in self.src, if it is not there."""

    def base(self):
        """Builds what is there before the first patch."""

    def before(self, number):
        """What has to be built before patch NUMBER is applied."""

    def build(self, number):
        """Builds and tests what patch NUMBER brings."""

    def last(self):
        """What is checked once, with all patches."""

    def everything(self, first, only):
        os.makedirs(LOGS, exist_ok=True)
        os.makedirs(self.dir, exist_ok=True)
        self.write()
        os.makedirs(self.done, exist_ok=True)
        self.prepare()
        wanted = [n for n in range(1, len(self.patches) + 1) if n >= first and
                  (not only or n in only)]
        if not wanted:
            raise Failure(f'{self.name} has patches 1 to {len(self.patches)}: none is left')
        if not only:
            self.am()
        # What is built is of use as long as the tree goes forward.
        self.take_back(min(self.applied(), wanted[0] - 1))
        for number in range(self.applied() + 1, wanted[0]):
            if trouble := self.apply(number):
                raise Failure(f'{self.name}: patch {number} does not apply: {"; ".join(trouble)}')
        if wanted[0] == 1:
            self.base()
        for number in range(wanted[0], wanted[-1] + 1):
            if number in wanted:
                self.before(number)
            trouble = self.apply(number)
            # Between those of --only.
            if number not in wanted and not trouble:
                continue
            print(f'==> {self.name} {self.short(number)} of {len(self.patches)}: '
                  f'{self.subject(number)}', flush=True)
            self.report.add(not trouble, f'{self.name} {self.short(number)} applies', 0, *trouble)
            if applied_name(number) not in os.listdir(self.done):
                raise Stop(f'{self.name}: the patches after {self.short(number)} need it')
            self.style(number)
            self.build(number)
        if wanted[-1] == len(self.patches):
            self.last()


def changes(path):
    """A patch without its head, which has dates."""
    return read(path).partition('\n---\n')[2]


def last_lines(path, number):
    with open(path, encoding='utf-8', errors='replace') as f:
        lines = [line.rstrip() for line in f.read().splitlines() if line.strip()]
    # What went wrong may be before what ran beside it.
    wrong = [line for line in lines if re.search(r'\berror\b|FAILED|not ok|undefined', line)]
    return (wrong[:number] or lines[-number:]) if wrong else lines[-number:]


def last_line(path):
    with open(path, 'rb') as f:
        f.seek(max(0, os.path.getsize(path) - 2000))
        lines = re.split(r'[\r\n]+', f.read().decode('utf-8', 'replace').strip())
    return lines[-1][:70]
