# SPDX-License-Identifier: GPL-2.0-or-later
"""What a guest's network is tried with: an HTTP server in memory."""

import hashlib
import http.server
import random
import threading


class Server:
    """HTTP on the loopback interface, at an ephemeral port unless told; ends
    with us. Gives KIB of random data, and takes as much back; /next is what
    order() says."""

    def __init__(self, kib, order=str, port=0):
        data = random.Random().randbytes(kib << 10)
        checksum = hashlib.md5(data).hexdigest().encode()
        # Whether what was posted was what had been sent.
        self.received = []
        received = self.received

        class Handler(http.server.BaseHTTPRequestHandler):
            timeout = 200

            def answer(self, body):
                self.send_response(200)
                self.send_header('Content-Length', str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def do_GET(self):
                if self.path == '/next':
                    self.answer(order().encode())
                    return
                self.answer(data if self.path == '/data' else checksum)

            def do_POST(self):
                left = min(int(self.headers['Content-Length']), len(data))
                got = self.rfile.read(left)
                received.append(got == data)
                self.answer(hashlib.md5(got).hexdigest().encode())

            def log_message(self, *args):
                pass

        self.http = http.server.ThreadingHTTPServer(('127.0.0.1', port), Handler)
        self.port = self.http.server_address[1]
        threading.Thread(target=self.http.serve_forever, daemon=True).start()
