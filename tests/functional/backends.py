"""Tiny instances and callers on one event loop, for tests of what is between them."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from functools import wraps

import httptools

from tidesight.fleet.endpoints import Endpoint


def in_loop(test: Callable[..., Awaitable[None]]) -> Callable[..., None]:
    """Run a test in an event loop of its own."""

    @wraps(test)
    def run(*args: object, **kwargs: object) -> None:
        async def limited() -> None:
            async with asyncio.timeout(150):
                await test(*args, **kwargs)
            await asyncio.sleep(0.01)  # connections that were closed end in the loop's next turn

        asyncio.run(limited())

    return run


@dataclass
class Message:
    """A request or an answer that came in full."""

    start: str = ""
    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""

    @property
    def path(self) -> str:
        return self.start.split(" ")[1]


class Parts:
    """Collects messages from an httptools parser."""

    def __init__(self) -> None:
        self.complete: list[Message] = []
        self._message, self._url = Message(), b""

    def on_message_begin(self) -> None:
        self._message, self._url = Message(), b""

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self._message.headers[name.decode().lower()] = value.decode()

    def on_body(self, data: bytes) -> None:
        self._message.body += data

    def on_message_complete(self) -> None:
        self._message.start = f"- {self._url.decode()}"
        self.complete.append(self._message)


class Backend:
    """An instance that answers as it is told.

    `delay_s` is per request, with as many at a time as come; `hangs` accepts and never answers, not even a probe.
    """

    def __init__(self, name: str = "backend", delay_s: float = 0.0, status: int = 200) -> None:
        self.name, self.delay_s, self.status = name, delay_s, status
        self.ready, self.hangs, self.closes_after_answer = True, False, False
        self.body: bytes = name.encode()
        self.requests: list[Message] = []
        self.probes = self.connections = 0
        self.active = self.most_active = 0
        self.left_early = 0
        self._server: asyncio.Server | None = None
        self.writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self, port: int = 0) -> Endpoint:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", port)
        return self.endpoint

    @property
    def endpoint(self) -> Endpoint:
        assert self._server is not None
        return Endpoint(*self._server.sockets[0].getsockname()[:2])

    async def stop(self) -> None:
        """Refuse and lose everything at once, as a process that is killed."""
        if self._server is not None:
            self._server.close()
            self.hangs = False
            for writer in list(self.writers):
                writer.transport.abort()
            if self._tasks:
                await asyncio.wait(self._tasks)

    async def has_got(self, requests: int) -> None:
        """Wait until it has got at least so many requests."""
        await until(lambda: len(self.requests) >= requests)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.writers.add(writer)
        self.connections += 1
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        parts = Parts()
        parser = httptools.HttpRequestParser(parts)
        try:
            while data := await reader.read(65536):
                parser.feed_data(data)
                while parts.complete:
                    await self._answer(parts.complete.pop(0), reader, writer)
        except ConnectionError:
            pass
        finally:
            self.writers.discard(writer)
            self._tasks.discard(task)
            writer.close()

    async def _answer(self, request: Message, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while self.hangs:
            await asyncio.sleep(0.05)
        probe = request.path in ("/readyz", "/healthz")
        status, body = (200 if self.ready else 503, b"") if probe else (self.status, self.body)
        if probe:
            self.probes += 1
        else:
            self.requests.append(request)
            await self._work(reader)
        if writer.is_closing():
            return
        close = "connection: close\r\n" if self.closes_after_answer else ""
        writer.write(f"HTTP/1.1 {status} X\r\n{close}content-length: {len(body)}\r\nx-by: {self.name}\r\n\r\n".encode())
        writer.write(body)
        await writer.drain()

    async def _work(self, reader: asyncio.StreamReader) -> None:
        self.active += 1
        self.most_active = max(self.most_active, self.active)
        try:
            until_s = asyncio.get_running_loop().time() + self.delay_s
            while (left_s := until_s - asyncio.get_running_loop().time()) > 0:
                await asyncio.sleep(min(left_s, 0.02))
                if reader.at_eof():
                    self.left_early += 1
                    return
        finally:
            self.active -= 1


class Caller:
    """One keep-alive connection; opens another when the server closed it."""

    def __init__(self, to: Endpoint) -> None:
        self._to = to
        self._stream: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def ask(self, path: str = "/v1/detect", body: bytes = b"x", method: str = "POST", **headers: str) -> Message:
        """Send one request; underscores in header names stand for dashes."""
        if self._stream is None:
            self._stream = await asyncio.open_connection(self._to.host, self._to.port)
        reader, writer = self._stream
        lines = [f"{method} {path} HTTP/1.1", "host: test", f"content-length: {len(body)}"]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        writer.write("\r\n".join([*lines, "", ""]).encode() + body)
        parts = Parts()
        parser = httptools.HttpResponseParser(parts)
        while not parts.complete:
            data = await reader.read(65536)
            if not data:
                self.leave()
                raise ConnectionResetError("no complete answer")
            parser.feed_data(data)
        answer = parts.complete[0]
        answer.status = parser.get_status_code()
        if answer.headers.get("connection") == "close":
            self.leave()
        return answer

    def leave(self) -> None:
        """Close the connection."""
        if self._stream is not None:
            self._stream[1].close()
            self._stream = None


async def ask(
    to: Endpoint, path: str = "/v1/detect", body: bytes = b"x", method: str = "POST", **headers: str
) -> Message:
    """One request on a connection of its own."""
    caller = Caller(to)
    try:
        return await caller.ask(path, body, method, **headers)
    finally:
        caller.leave()


class Load:
    """Callers that ask one request after another; `seen` counts the answers by status, 0 for a lost connection."""

    def __init__(self) -> None:
        self.seen: Counter[int] = Counter()
        self.why: list[str] = []

    @property
    def failed(self) -> int:
        return sum(count for status, count in self.seen.items() if status != 200)

    @asynccontextmanager
    async def on(self, to: Endpoint, callers: int, body: bytes = b"x") -> AsyncIterator[None]:
        """Keep asking for as long as the block lasts; what was asked is awaited."""
        stopping = asyncio.Event()
        tasks = [asyncio.create_task(self._ask(to, stopping, body)) for _ in range(callers)]
        try:
            yield
        finally:
            stopping.set()
            await asyncio.gather(*tasks)

    async def _ask(self, to: Endpoint, stopping: asyncio.Event, body: bytes) -> None:
        caller = Caller(to)
        while not stopping.is_set():
            try:
                answer = await caller.ask(body=body, content_type="image/jpeg")
                self.seen[answer.status] += 1
                if answer.status != 200:
                    self.why.append(answer.body.decode(errors="replace"))
            except OSError as error:
                caller.leave()
                self.seen[0] += 1
                self.why.append(repr(error))
                await asyncio.sleep(0.005)
        caller.leave()


async def until(condition: Callable[[], object], limit_s: float = 20.0) -> None:
    """Wait until a function returns something true."""
    async with asyncio.timeout(limit_s):
        while not condition():
            await asyncio.sleep(0.01)


async def stop_all(backends: Iterable[Backend]) -> None:
    """Stop them."""
    for backend in backends:
        with suppress(OSError):
            await backend.stop()
