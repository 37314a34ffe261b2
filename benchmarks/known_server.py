"""A server whose delays are known: python -m benchmarks.known_server [--delay-ms D] [--stall-at S --stall-s S].

It reads each request whole and answers it after the delay, or at the end of a stall during which it answers nothing.
A stall begins so many seconds after the first request. With no delay it is the null server. With --log it writes, for
each answer, the first eight bytes of the request's body and when the answer was sent (seconds of `time.monotonic`).
"""

import argparse
import asyncio
import ssl
from time import monotonic

import httptools
import uvloop

_ANSWER = b"HTTP/1.1 %d %s\r\nContent-Type: application/json\r\nContent-Length: 2\r\n%s\r\n{}"


class _Connection(asyncio.Protocol):
    first_s: float | None = None

    def __init__(self, arguments: argparse.Namespace) -> None:
        self._arguments = arguments
        self._parser = httptools.HttpRequestParser(self)
        self._loop = asyncio.get_running_loop()
        self._name = b""
        self._answer = _ANSWER % (arguments.status, b"Known", b"X-Tidesight-Instance: known\r\n")

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # it is one here
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_body(self, body: bytes) -> None:
        self._name = self._name or body[:8]

    def on_message_complete(self) -> None:
        if self._arguments.reset:
            self._transport.abort()
            return
        now_s = monotonic()
        if _Connection.first_s is None:
            _Connection.first_s = now_s
        due_s = now_s + self._arguments.delay_ms / 1000
        stall_s = _Connection.first_s + self._arguments.stall_at
        if stall_s <= due_s < stall_s + self._arguments.stall_s:
            due_s = stall_s + self._arguments.stall_s
        name, self._name = self._name, b""
        if due_s > now_s:
            self._loop.call_later(due_s - now_s, self._reply, name)
        else:
            self._reply(name)

    def _reply(self, name: bytes) -> None:
        if not self._transport.is_closing():
            if self._arguments.log is not None:
                self._arguments.log.write(f"{name.decode()},{monotonic():.6f}\n")
            self._transport.write(self._answer)


def main() -> None:
    """Serve on a free port of 127.0.0.1, which is printed, until killed."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--delay-ms", type=float, default=0.0)
    parser.add_argument("--stall-at", type=float, default=0.0)
    parser.add_argument("--stall-s", type=float, default=0.0)
    parser.add_argument("--status", type=int, default=200)
    parser.add_argument("--reset", action="store_true", help="break the connection instead of answering")
    parser.add_argument("--certificate", help="PEM file of certificate and key: speak TLS")
    parser.add_argument("--log", type=argparse.FileType("w", bufsize=1))
    arguments = parser.parse_args()
    tls = None
    if arguments.certificate:
        tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        tls.load_cert_chain(arguments.certificate)

    async def serve() -> None:
        loop = asyncio.get_running_loop()
        server = await loop.create_server(lambda: _Connection(arguments), "127.0.0.1", 0, ssl=tls, backlog=4096)
        print(server.sockets[0].getsockname()[1], flush=True)
        await server.serve_forever()

    uvloop.run(serve())


if __name__ == "__main__":
    main()
