# SPDX-License-Identifier: GPL-2.0-or-later
"""Reads TAP, a line at a time."""

import re
import typing


class Result(typing.NamedTuple):
    """One test: SKIPPED is the reason, or None."""
    ok: bool
    text: str
    skipped: typing.Optional[str]

    def __str__(self):
        return self.text + (f' # SKIP {self.skipped}' if self.skipped is not None else '')


def listed(lines):
    """The paths that a program of GLib lists with -l; 2.84 makes comments of them."""
    return [line.removeprefix('# ') for line in lines if re.match('(# )?/', line)]


class Reader:
    """What a program has said so far of its tests."""

    def __init__(self, noisy=False):
        """NOISY: something else may be in front of a line, as on a console."""
        self.result = re.compile(r'(?:|.*?\W)(not ok|ok) \d+ - (.*)' if noisy else
                                 r'(not ok|ok)\b[ \d]*(?:- )?(.*)')
        # How many tests it has, once it has said so.
        self.plan = None
        # Why it has none, if so, and why it gave up.
        self.skipped = self.gave_up = None
        self.seen = self.failed = 0

    def line(self, line):
        """The Result in the line, or None."""
        if line.startswith('Bail out!'):
            self.gave_up = line[9:].strip()
        elif match := re.match(r'1\.\.(\d+)\s*(?:# SKIP (.*)|#.*)?$', line):
            self.plan, self.skipped = int(match[1]), match[2]
        elif match := self.result.match(line):
            self.seen += 1
            text, _, directive = match[2].partition(' # ')
            # GLib says 'SKIP' or 'skip'; a bare '# SKIP' has no text.
            skipped = directive.lower().startswith('skip')
            ok = match[1] == 'ok'
            self.failed += not ok and not skipped
            return Result(ok, text, directive[4:].strip() if skipped else None)
        return None

    def complete(self):
        """It had tests, and all of them have run."""
        return bool(self.plan) and self.plan == self.seen
