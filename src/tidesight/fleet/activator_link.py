"""The activator's HTTP/1.1 towards instances: answers are passed on as they come, looked at to see where they end."""

import asyncio
from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Protocol, cast

import httptools

from tidesight.fleet.endpoints import Endpoint

_CONNECT_LIMIT_S = 1.0
_IDLE_LIMIT_S = 300.0  # an instance keeps a connection for 620 s


class Asker(Protocol):
    """Who waits for the answer."""

    def pass_on(self, data: bytes) -> None:
        """A piece of it."""
        ...

    def finish(self, *, last: bool = False) -> None:
        """That was all of it; nothing more may come on this connection if it was the last."""
        ...

    def drop(self) -> None:
        """It ends in the middle."""
        ...


class Job(Protocol):
    """What is asked of an instance."""

    method: bytes

    @property
    def asker(self) -> Asker:
        """Who gets the answer."""
        ...

    def write_to(self, transport: asyncio.WriteTransport, now_s: float) -> None:
        """Send it."""
        ...


class InstanceSide(asyncio.Protocol):
    """A connection to an instance: one request at a time, and kept for the next.

    Args:
        endpoint: The instance.
        when_lost: Called when the connection ends.

    Attributes:
        idle_since_s: When it was last put aside.
    """

    def __init__(self, endpoint: Endpoint, when_lost: "Callable[[InstanceSide], None]") -> None:
        self.endpoint = endpoint
        self._when_lost = when_lost
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._job: Job | None = None
        self._when_done: Callable[[bool], None] | None = None
        self._begun = self._complete = self._stays = False
        self.idle_since_s = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        self._transport = cast(asyncio.Transport, transport)  # uvloop's does all that it asks, and is none

    @property
    def usable(self) -> bool:
        """Whether it can take a request."""
        return self._transport is not None and not self._transport.is_closing() and self._job is None

    def send(self, job: Job, now_s: float, when_done: "Callable[[bool], None]") -> None:
        """Hand a request on; its answer goes to its caller.

        Args:
            job: The request.
            now_s: The event loop's time.
            when_done: Called once when the instance is done with it: whether it answered at all.
        """
        assert self._transport is not None
        self._job, self._when_done = job, when_done
        self._begun = self._complete = False
        self._parser = httptools.HttpResponseParser(self)
        job.write_to(self._transport, now_s)

    def data_received(self, data: bytes) -> None:
        """Pass it on; see whether that was all."""
        job = self._job
        if job is None:  # an answer to nothing
            self.close()
            return
        self._begun = True
        job.asker.pass_on(data)
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            job.asker.drop()
            self.close()
            self._done()
            return
        if self._complete:
            job.asker.finish(last=not self._stays)
            if not self._stays or job.method == b"HEAD":
                self.close()
            self._done()

    def on_headers_complete(self) -> None:
        """An answer to HEAD ends here, whatever length it gives."""
        self._stays = self._parser.should_keep_alive()
        if self._job is not None and self._job.method == b"HEAD":
            self._complete = True

    def on_message_complete(self) -> None:
        """All is there; an interim answer (1xx) is not all."""
        self._complete = self._parser.get_status_code() >= 200

    def connection_lost(self, exc: Exception | None) -> None:
        """The instance ended the connection, or did itself."""
        job = self._job
        if job is not None:
            if self._begun:
                job.asker.drop()
            self._done()
        self._when_lost(self)

    def _done(self) -> None:
        self._job, when_done = None, self._when_done
        self._when_done = None
        self.resume()
        if when_done is not None:
            when_done(self._begun)

    def abandon(self) -> None:
        """The caller left: so that the instance can see it, the connection ends."""
        self.close()
        self._done()

    def close(self) -> None:
        """End the connection."""
        if self._transport is not None:
            self._transport.abort()

    def pause(self) -> None:
        """Read no more."""
        if self._transport is not None:
            self._transport.pause_reading()

    def resume(self) -> None:
        """Read on."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()


class Links:
    """Connections to instances, kept for the next request; owned by an event loop."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._idle: defaultdict[Endpoint, list[InstanceSide]] = defaultdict(list)
        self._known: frozenset[Endpoint] = frozenset()

    def keep_only(self, endpoints: Iterable[Endpoint]) -> None:
        """Close those to other instances, once they are idle."""
        self._known = frozenset(endpoints)
        for gone in self._idle.keys() - self._known:
            for link in self._idle.pop(gone):
                link.close()

    def idle(self, endpoint: Endpoint) -> InstanceSide | None:
        """The one used last, if there is one."""
        links = self._idle[endpoint]
        while links:
            link = links.pop()
            if link.usable and self._loop.time() - link.idle_since_s < _IDLE_LIMIT_S:
                return link
            link.close()
        return None

    async def connect(self, endpoint: Endpoint) -> InstanceSide:
        """A new one.

        Raises:
            OSError: it was refused, or took too long.
        """
        link = InstanceSide(endpoint, self._lost)
        async with asyncio.timeout(_CONNECT_LIMIT_S):
            await self._loop.create_connection(lambda: link, endpoint.host, endpoint.port)
        if not link.usable:  # taken by the kernel, and lost before anybody looked
            raise ConnectionResetError(f"{endpoint} closed the connection at once")
        return link

    def put_aside(self, link: InstanceSide) -> None:
        """Keep one that is done, unless it or its instance is."""
        if link.endpoint in self._known and link.usable:
            link.idle_since_s = self._loop.time()
            self._idle[link.endpoint].append(link)
        else:
            link.close()

    def _lost(self, link: InstanceSide) -> None:
        links = self._idle.get(link.endpoint, [])
        if link in links:
            links.remove(link)
