# SPDX-License-Identifier: GPL-2.0-or-later
"""A guest's serial console, as somebody uses it who logs in there."""

import os
import re
import select
import subprocess
import time

from agent import Failure, must

# Seconds that a boot, or a command, may take on a busy machine.
PATIENCE = 1800
ESCAPES = re.compile(r'\x1b(\[[0-9;?]*[A-Za-z]|[()][A-Z0-9]|[=>c7-8]|\][^\x07]*\x07)')


class Terminal:
    """QEMU, with the guest's console on its standard input and output; or another
    program, for which that is a TTY if it has to be one."""

    def __init__(self, command, log, cwd=None, tty=False):
        self.log = open(log, 'w', encoding='utf-8')
        self.text = ''
        self.number = 0
        if not tty:
            self.process = subprocess.Popen(command, cwd=cwd, stdin=subprocess.PIPE,
                                            stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
            return
        ours, theirs = os.openpty()
        with open(theirs, 'r+b', buffering=0) as end:
            # setsid takes it as the controlling terminal.
            self.process = subprocess.Popen(['setsid', '--ctty', *command], cwd=cwd, stdin=end,
                                            stdout=end, stderr=end)
        self.process.stdin = self.process.stdout = open(ours, 'r+b', buffering=0)

    def read(self, seconds):
        """More of what is said, within some time; False at the end of it."""
        if not select.select([self.process.stdout], [], [], seconds)[0]:
            return True
        data = os.read(self.process.stdout.fileno(), 65536).decode('utf-8', 'replace')
        self.log.write(data)
        self.log.flush()
        self.text += data
        return bool(data)

    def wait(self, pattern, seconds=PATIENCE):
        """Reads until the pattern comes: the match, and the text before it."""
        end = time.monotonic() + seconds
        while True:
            text = ESCAPES.sub('', self.text).replace('\r', '')
            if match := re.search(pattern, text):
                self.text = text[match.end():]
                return match, text[:match.start()]
            must(time.monotonic() < end, f'{pattern} did not come within {seconds} s')
            must(self.read(1), f'QEMU has ended, before {pattern}')

    def type(self, text):
        try:
            self.process.stdin.write(text.encode())
            self.process.stdin.flush()
        except OSError as error:
            raise Failure(f'QEMU has ended: {error}') from error

    def login(self, seconds=PATIENCE):
        """At the prompt that Debian has on a serial console, with a password."""
        self.wait('guest login: ', seconds)
        self.type('root\n')
        self.wait('Password: ')
        self.type('guest\n')
        self.wait(r'root@guest:~# ')
        # Commands are not to be seen twice, nor wrapped.
        self.type("stty -echo; bind 'set enable-bracketed-paste off'; export PS1= PAGER=; "
                  "dmesg -n 1; echo @''ready\n")
        self.wait('@ready\n')

    def run(self, command, seconds=PATIENCE):
        """The command's exit status, and the lines of its output."""
        self.number += 1
        self.type(f'{command}\nx=$?; echo; echo @{self.number} = $x\n')
        match, text = self.wait(rf'@{self.number} = (\d+)\n', seconds)
        return int(match[1]), text.strip('\n').split('\n')

    def do(self, command, seconds=PATIENCE):
        """The lines of the output; fails if the command does."""
        status, lines = self.run(command, seconds)
        must(status == 0, f'{command}: exit status {status}: ' + ' / '.join(lines[-4:]))
        return lines

    def monitor(self, command):
        """The lines that QEMU's monitor has to say."""
        self.type('\x01c')
        self.wait(r'\(qemu\) ')
        self.type(command + '\n')
        # It prints what is typed, again with each character.
        self.wait(re.escape(command) + '\n')
        _, text = self.wait(r'\(qemu\) ')
        self.type('\x01c')
        return text.splitlines()

    def ended(self, seconds=600):
        """Waits for QEMU's end; its exit status."""
        end = time.monotonic() + seconds
        while self.read(1):
            must(time.monotonic() < end, f'QEMU has not ended within {seconds} s')
        return self.process.wait(60)

    def end(self):
        self.process.kill()
        self.process.wait()
        self.log.close()
