# SPDX-License-Identifier: GPL-2.0-or-later
"""What the parts of the series have in common."""

import fnmatch
import os
import re
import shutil
import subprocess

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BUILD = os.path.join(TOP, 'build')
HINT = 'Run ./configure and make check first: they bring the sources'


class Failure(Exception):
    """What cannot be done, and what to try."""


def read(path):
    with open(path, encoding='utf-8') as f:
        return f.read()


def write(path, text):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, 'w', encoding='utf-8') as f:
        f.write(text)


def maintainer():
    """Name and address, as the packages have them."""
    match = re.search(r'^Maintainer: (.*) <(.*)>$', read(os.path.join(TOP, 'debian/control')),
                      re.M)
    return match[1], match[2]


def project_files():
    """Paths of all files of the project, as git has them."""
    said = subprocess.run(['git', '-C', TOP, 'ls-files'], check=True, stdout=subprocess.PIPE,
                          text=True)
    return said.stdout.splitlines()


def braces(pattern):
    """Shell's {a,b}."""
    if match := re.search(r'\{([^{}]*)\}', pattern):
        for word in match[1].split(','):
            yield from braces(pattern[:match.start()] + word + pattern[match.end():])
    else:
        yield pattern


def matching(patterns, files):
    """Files that a pattern names; * is within a directory."""
    found = []
    for pattern in patterns:
        some = [f for p in braces(pattern) for f in files
                if fnmatch.fnmatchcase(f, p) and f.count('/') == p.count('/')]
        if not some:
            raise Failure(f'scripts/series: no file is {pattern}')
        found += [f for f in some if f not in found]
    return found


class Tree:
    """A git repository with the files of another project that patches change."""

    def __init__(self, path):
        self.path = path
        shutil.rmtree(path, ignore_errors=True)
        os.makedirs(path)
        name, address = maintainer()
        self.env = dict(os.environ, GIT_CONFIG_GLOBAL='/dev/null', GIT_CONFIG_SYSTEM='/dev/null',
                        GIT_AUTHOR_NAME=name, GIT_AUTHOR_EMAIL=address,
                        GIT_COMMITTER_NAME=name, GIT_COMMITTER_EMAIL=address)
        self.git('init', '-q', '-b', 'series')

    def git(self, *words, stdin=None):
        done = subprocess.run(['git', *words], cwd=self.path, env=self.env, input=stdin,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                              check=False)
        if done.returncode:
            raise Failure(f'git {" ".join(words[:3])}: {done.stdout.strip()}')
        return done.stdout

    def file(self, path):
        return os.path.join(self.path, path)

    def commit(self, message):
        self.git('add', '-A')
        if self.git('status', '--porcelain'):
            self.git('commit', '-q', '-F', '-', stdin=message)
            return True
        return False

    def base(self):
        self.commit('base')
        self.git('tag', 'base')

    def insert(self, path, after, line):
        """LINE behind the last line that has AFTER in it; at the end without AFTER."""
        lines = read(self.file(path)).splitlines(keepends=True)
        at = len(lines)
        if after:
            found = [i for i, text in enumerate(lines) if after in text]
            if not found:
                raise Failure(f'{path} has no "{after}" any more: adapt scripts/make-series')
            at = found[-1] + 1
        lines.insert(at, line)
        write(self.file(path), ''.join(lines))

    def patch(self, text, name, *options):
        """Applies it; or takes it back, with -R."""
        done = subprocess.run(['patch', '-p1', '-s', '-f', '--no-backup-if-mismatch', *options],
                              cwd=self.path, input=text, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, text=True, check=False)
        if done.returncode:
            raise Failure(f'{name} cannot be {"taken back" if "-R" in options else "applied"}: '
                          f'{done.stdout.strip()}')

    def mail(self, out, subject, cover, signoff):
        """The patches, with a cover letter."""
        shutil.rmtree(out, ignore_errors=True)
        os.makedirs(out)
        self.git('format-patch', '-q', '--cover-letter', '-M', '-U3', '--no-signature',
                 '-o', out, 'base')
        letter = os.path.join(out, '0000-cover-letter.patch')
        write(letter, read(letter).replace('*** SUBJECT HERE ***', subject)
              .replace('*** BLURB HERE ***', cover.strip()))
        for name in sorted(os.listdir(out))[1:]:
            path = os.path.join(out, name)
            if signoff:
                write(path, re.sub(r'^---$', f'\nSigned-off-by: {signoff}\n---', read(path),
                                   count=1, flags=re.M))
        return len(os.listdir(out)) - 1


def message(subject, text):
    return f'{subject}\n\n{text.strip()}\n'


def of_patch(text):
    """Subject, body and changes of one of our patches."""
    header, _, changes = text.partition('\n---\n')
    subject = re.search(r'^Subject: (?:\[PATCH[^]]*\] )?(.*(?:\n .*)*)', header, re.M)
    body = header[subject.end():]
    body = re.sub(r'^SPDX-License-Identifier:.*\n?', '', body, flags=re.M)
    return ' '.join(subject[1].split()), body.strip(), changes
