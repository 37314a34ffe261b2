"""An HTTP/1.1 client for one target and many requests: bounded keep-alive connections, failures by class.

Why it is not a general client: docs/decisions/0006-load-generator-client.md.
"""

import asyncio
import ssl
from collections import deque
from collections.abc import Callable
from time import monotonic

import httptools

from tidesight.loadtest.connecting import failure_of
from tidesight.loadtest.target import Prepared, Target
from tidesight.workload.outcome import Failure

INSTANCE_HEADER = b"x-tidesight-instance"
"""The answer's header that names the instance which gave it."""
_SWITCHING_PROTOCOLS = 101
_FRAMING = (b"content-length", b"transfer-encoding")


class Exchange:
    """One request and what came of it.

    Attributes:
        due_s: When it was to be sent (`time.monotonic`, like all times here).
        request: What to send.
        handed_s: When a connection was chosen, or one began to be opened; None while none is free.
        start_s: When it was handed to an open connection; None when it never was.
        end_s: When it ended; None while it is under way.
        status: Of the answer.
        bytes_in: Of the answer's body.
        instance: Which one answered, if the answer says so.
        error: Why there is no answer.
    """

    __slots__ = (
        "bytes_in", "connection", "due_s", "end_s", "error", "handed_s", "instance", "on_end", "request", "start_s",
        "status",
    )  # fmt: skip

    def __init__(self, due_s: float, request: Prepared, on_end: "Callable[[Exchange], None]") -> None:
        self.due_s = due_s
        self.request = request
        self.on_end = on_end
        self.handed_s: float | None = None
        self.start_s: float | None = None
        self.end_s: float | None = None
        self.status: int | None = None
        self.bytes_in = 0
        self.instance: str | None = None
        self.error: Failure | None = None
        self.connection: _Connection | None = None

    def fail(self, error: Failure) -> None:
        """End it without an answer; its connection, if it has one, is closed."""
        if self.end_s is not None:
            return
        connection, self.connection = self.connection, None
        self.error = error
        self.end_s = monotonic()
        if connection is not None:
            connection.abandon()
        self.on_end(self)

    def answer(self, status: int) -> None:
        """End it with an answer."""
        self.connection = None
        self.status = status
        self.end_s = monotonic()
        self.on_end(self)


class Pool:
    """Connections to a target; a request that finds none waits for one.

    Args:
        target: Where they lead.
        most: How many there may be.
        connect_s: How long one may take to open.

    Attributes:
        opened: Connections opened so far.
    """

    def __init__(self, target: Target, most: int, connect_s: float) -> None:
        self._connect_s = connect_s
        self._target = target
        self._most = most
        self._loop = asyncio.get_running_loop()
        self._idle: list[_Connection] = []
        self._open: set[_Connection] = set()
        self._connecting: set[asyncio.Task[None]] = set()
        self._waiting: deque[Exchange] = deque()
        self.opened = 0

    def send(self, exchange: Exchange) -> None:
        """Send a request over a free connection, the one used last; over a new one; or when one gets free."""
        if self._idle:
            exchange.handed_s = monotonic()
            self._idle.pop().send(exchange)
        elif len(self._open) + len(self._connecting) < self._most:
            self._connect_for(exchange)
        else:
            self._waiting.append(exchange)

    async def close(self) -> None:
        """Close all connections."""
        for task in list(self._connecting):
            task.cancel()
        for connection in list(self._open):
            connection.abandon()
        await asyncio.gather(*self._connecting, return_exceptions=True)

    def _connect_for(self, exchange: Exchange) -> None:
        exchange.handed_s = monotonic()
        self.opened += 1
        task = self._loop.create_task(self._connect(exchange))
        self._connecting.add(task)
        task.add_done_callback(self._connecting.discard)

    async def _connect(self, exchange: Exchange) -> None:
        target = self._target
        name = target.host if target.tls else None
        try:
            async with asyncio.timeout(self._connect_s):
                _, connection = await self._loop.create_connection(
                    lambda: _Connection(self), target.host, target.port, ssl=target.tls, server_hostname=name
                )
        except (OSError, UnicodeError) as error:
            self._connecting.discard(asyncio.current_task())
            exchange.fail(failure_of(error))
            self._serve_waiting()
            return
        if exchange.end_s is None:
            connection.send(exchange)
        else:
            self.release(connection)

    def _serve_waiting(self) -> None:
        while self._waiting and len(self._open) + len(self._connecting) < self._most:
            exchange = self._waiting.popleft()
            if exchange.end_s is None:
                self._connect_for(exchange)

    def add(self, connection: "_Connection") -> None:
        """A connection is open."""
        self._open.add(connection)

    def release(self, connection: "_Connection") -> None:
        """A connection is free: for a request that waits, or kept."""
        while self._waiting:
            exchange = self._waiting.popleft()
            if exchange.end_s is None:
                exchange.handed_s = monotonic()
                connection.send(exchange)
                return
        self._idle.append(connection)

    def remove(self, connection: "_Connection") -> None:
        """A connection is closed."""
        self._open.discard(connection)
        if connection in self._idle:
            self._idle.remove(connection)
        self._serve_waiting()


class _Connection(asyncio.Protocol):
    """A connection; free once the last request's body is sent and its answer read."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._exchange: Exchange | None = None
        self._sending = False
        self._framed = False  # the answer says how long it is; else it ends with the connection
        self._in_body = False
        self._transport: asyncio.Transport
        self._parser = httptools.HttpResponseParser(self)

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # it is one here
        self._transport = transport
        transport.set_write_buffer_limits(0)  # so that `resume_writing` says that the body is sent
        self._pool.add(self)

    def send(self, exchange: Exchange) -> None:
        """Send a request; the connection is free, or was lost a moment ago."""
        self._exchange = exchange
        exchange.connection = self
        exchange.start_s = monotonic()
        if self._transport.is_closing():
            exchange.fail(Failure.RESET)
        else:
            self._transport.write(exchange.request.data)

    def abandon(self) -> None:
        """Nobody wants the answer any more."""
        self._exchange = None
        self._transport.abort()

    def pause_writing(self) -> None:
        self._sending = True

    def resume_writing(self) -> None:
        self._sending = False
        self._release_if_free()

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self._end_badly(Failure.PROTOCOL)

    def connection_lost(self, exc: Exception | None) -> None:
        self._pool.remove(self)
        exchange, self._exchange = self._exchange, None
        if exchange is None:
            return
        exchange.connection = None
        if exc is None and self._in_body and not self._framed:
            exchange.answer(self._parser.get_status_code())
        else:
            exchange.fail(Failure.TLS if isinstance(exc, ssl.SSLError) else Failure.RESET)

    def on_message_begin(self) -> None:
        self._framed = self._in_body = False

    def on_header(self, name: bytes, value: bytes) -> None:
        name = name.lower()
        if name in _FRAMING:
            self._framed = True
        elif name == INSTANCE_HEADER and self._exchange is not None:
            self._exchange.instance = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        self._in_body = True

    def on_body(self, body: bytes) -> None:
        if self._exchange is not None:
            self._exchange.bytes_in += len(body)

    def on_message_complete(self) -> None:
        status = self._parser.get_status_code()
        if status < 200 and status != _SWITCHING_PROTOCOLS:
            return  # an early hint; the answer comes after it
        exchange, self._exchange = self._exchange, None
        if exchange is not None:
            exchange.answer(status)
        if self._parser.should_keep_alive():
            self._release_if_free()
        else:
            self._transport.close()

    def _end_badly(self, failure: Failure) -> None:
        exchange, self._exchange = self._exchange, None
        self._transport.abort()
        if exchange is not None:
            exchange.connection = None
            exchange.fail(failure)

    def _release_if_free(self) -> None:
        if self._exchange is None and not self._sending and not self._transport.is_closing():
            self._pool.release(self)
