"""A server in a thread that answers with whatever bytes a test says."""

import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"
Handler = Callable[[socket.socket, int], None]
"""Given a connection and how many came before it."""


def read_request(connection: socket.socket) -> bytes:
    """One request, whole; empty when the caller has gone."""
    data = b""
    while b"\r\n\r\n" not in data:
        got = connection.recv(65536)
        if not got:
            return b""
        data += got
    head, _, body = data.partition(b"\r\n\r\n")
    length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
    while len(body) < length:
        body += connection.recv(65536)
    return head + b"\r\n\r\n" + body


def answering(*answers: bytes, close: bool = False) -> Handler:
    """Each request is answered with the next of these, the last again and again."""

    def handle(connection: socket.socket, _: int) -> None:
        left = list(answers)
        while read_request(connection):
            connection.sendall(left.pop(0) if len(left) > 1 else left[0])
            if close:
                return

    return handle


@contextmanager
def serving(handle: Handler, tls: ssl.SSLContext | None = None) -> Iterator[int]:
    """The port of a server that handles each connection in a thread."""
    with socket.create_server(("127.0.0.1", 0), backlog=128) as listener:
        threading.Thread(target=_accept, args=(listener, handle, tls), daemon=True).start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)


def _accept(listener: socket.socket, handle: Handler, tls: ssl.SSLContext | None) -> None:
    number = 0
    with suppress(OSError):
        while True:
            connection, _ = listener.accept()
            threading.Thread(target=_handle, args=(connection, handle, number, tls), daemon=True).start()
            number += 1


def _handle(connection: socket.socket, handle: Handler, number: int, tls: ssl.SSLContext | None) -> None:
    with suppress(OSError), connection:
        if tls is None:
            handle(connection, number)
        else:
            with tls.wrap_socket(connection, server_side=True) as secure:
                handle(secure, number)
