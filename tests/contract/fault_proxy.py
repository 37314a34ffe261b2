"""A proxy in front of an emulator that delays, refuses, cuts and stalls, as a seed says."""

import http.client
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from random import Random

STATUSES = (408, 429, 500, 503)
# Per upload; what is left of 1 is passed on untouched.
CHANCES = {"delay": 0.15, "burst": 0.06, "status": 0.12, "cut before": 0.08, "cut after": 0.08, "hang": 0.015}
_BURST = 6


class FaultProxy(ThreadingHTTPServer):
    """Passes requests on to `upstream`, or not; counts what it did, by fault."""

    daemon_threads = True

    def __init__(self, upstream: str, seed: int) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.upstream = upstream.removeprefix("http://")
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.faults: Counter[str] = Counter()
        self.down = False
        self.answer: tuple[int, bytes] | None = None  # to every upload, instead of all faults
        self.stopping = threading.Event()
        self._random = Random(seed)
        self._guard = threading.Lock()
        self._burst_left = 0

    def choose(self, method: str) -> tuple[str, int]:
        """The fault of a request, and the status for it."""
        with self._guard:
            status = self._random.choice(STATUSES)
            if self.answer and method in ("PUT", "POST"):
                fault, status = "answer", self.answer[0]
            elif self.down:
                fault = self._random.choice(["cut before", "status"])
            elif method not in ("PUT", "POST"):
                fault = "none"
            elif self._burst_left:
                self._burst_left -= 1
                fault, status = "burst", 503
            else:
                kinds = [*CHANCES, "none"]
                fault = self._random.choices(kinds, [*CHANCES.values(), 1 - sum(CHANCES.values())])[0]
                self._burst_left = _BURST if fault == "burst" else 0
                status = 503 if fault == "burst" else status
            self.faults[fault] += 1
            return fault, status

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that left is nothing to print."""


class _Handler(BaseHTTPRequestHandler):
    server: FaultProxy
    protocol_version = "HTTP/1.1"

    def answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        fault, status = self.server.choose(self.command)
        if fault == "answer":
            assert self.server.answer
            self._reply(status, [], self.server.answer[1])
        elif fault in ("burst", "status"):
            self._reply(status, [], b"a fault")
        elif fault == "cut before":
            self._cut()
        elif fault == "hang":
            self.server.stopping.wait(5)
            self._cut()
        else:
            time.sleep(0.15 if fault == "delay" else 0)
            upstream = http.client.HTTPConnection(self.server.upstream, timeout=10)
            upstream.request(self.command, self.path, body, dict(self.headers))
            reply = upstream.getresponse()
            content = reply.read()
            upstream.close()
            if fault == "cut after":  # it is stored, but nobody learns it
                self._cut()
            else:
                kept = [
                    (k, v) for k, v in reply.getheaders() if k.lower() not in ("transfer-encoding", "content-length")
                ]
                self._reply(reply.status, kept, content)

    do_GET = do_PUT = do_POST = do_HEAD = answer

    def _reply(self, status: int, headers: list[tuple[str, str]], content: bytes) -> None:
        self.send_response_only(status)
        for name, value in [*headers, ("Content-Length", str(len(content)))]:
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def _cut(self) -> None:
        """Reset the connection."""
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()
        self.close_connection = True

    def log_message(self, *args: object) -> None:
        """Print nothing."""


@contextmanager
def fault_proxy(upstream: str, seed: int) -> Iterator[FaultProxy]:
    """Run a proxy in front of an emulator."""
    with FaultProxy(upstream, seed) as proxy:
        thread = threading.Thread(target=proxy.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield proxy
        finally:
            proxy.stopping.set()
            proxy.shutdown()
            thread.join()
