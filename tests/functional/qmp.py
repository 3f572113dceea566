# SPDX-License-Identifier: GPL-2.0-or-later
"""QEMU's monitor, for programs."""

import json
import socket
import time

# Seconds that a command may take, and QEMU until it listens.
PATIENCE = 300
START = 60


class Qmp:
    """QEMU's monitor."""

    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX)
        end = time.monotonic() + START
        while True:
            try:
                self.socket.connect(path)
                break
            except OSError:
                if time.monotonic() > end:
                    raise
                time.sleep(0.1)
        self.socket.settimeout(PATIENCE)
        self.lines = self.socket.makefile('r')
        self.lines.readline()
        self('qmp_capabilities')

    def __call__(self, command, **arguments):
        request = {'execute': command, 'arguments': arguments}
        self.socket.sendall(json.dumps(request).encode() + b'\n')
        while True:
            answer = json.loads(self.lines.readline())
            if 'return' in answer:
                return answer['return']
            if 'error' in answer:
                raise RuntimeError(f'{command}: {answer["error"]["desc"]}')
