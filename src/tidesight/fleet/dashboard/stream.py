"""A fleet's snapshots as server-sent events: to each reader the newest, as fast as it reads."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable

import msgspec

from tidesight.fleet.dashboard.points import point_of
from tidesight.fleet.dashboard.view import FleetView
from tidesight.fleet.snapshot import Snapshot

_AGAIN_AFTER_MS = 1000
_ALIVE = b"event: alive\ndata:\n\n"
_END = b"event: end\ndata:\n\n"


class Stream:
    """The events of all readers.

    Events are `snapshot` (as JSON), `point` (the same for the charts), `alive` (nothing new) and `end` (the page is
    about to go). A reader that is slow finds the newest snapshot when it has taken the last one: nothing is queued.

    Args:
        view: The fleet.
        most_readers: At a time.
        alive_s: At most so long from one event to the next.
        pause_s: At least so long from one snapshot to the next.
    """

    def __init__(self, view: FleetView, most_readers: int = 32, alive_s: float = 5.0, pause_s: float = 0.1) -> None:
        self._view = view
        self._alive_s = alive_s
        self._pause_s = pause_s
        self._most_readers = most_readers
        self._waits: set[asyncio.Timeout] = set()
        self._encoded: tuple[Snapshot, bytes] | None = None
        self._closing = False
        self.readers = 0

    @property
    def full(self) -> bool:
        """Whether there is no room for another reader."""
        return self.readers >= self._most_readers

    def close(self) -> None:
        """Tell the readers that it ends."""
        self._closing = True
        for wait in self._waits:
            wait.reschedule(asyncio.get_running_loop().time())

    async def events(self) -> AsyncGenerator[bytes]:
        """The events of one reader, each as bytes; must be closed when it leaves."""
        self.readers += 1
        try:
            yield b"retry: %d\n\n" % _AGAIN_AFTER_MS
            seen: Snapshot | None = None
            while not self._closing:
                newest = self._view.snapshot()
                if newest is not seen:
                    seen = newest
                    yield self._encode(newest)
                    await self._wait(asyncio.sleep(self._pause_s))
                elif not await self._wait(self._view.changed()) and not self._closing:
                    yield _ALIVE
            yield _END
        finally:
            self.readers -= 1

    async def _wait(self, event: Awaitable[None]) -> bool:
        """Whether it came before it was time to say something."""
        try:
            async with asyncio.timeout(self._alive_s) as wait:
                self._waits.add(wait)
                try:
                    await event
                finally:
                    self._waits.discard(wait)
        except TimeoutError:
            return False
        return True

    def _encode(self, snapshot: Snapshot) -> bytes:
        """Once for all readers."""
        if self._encoded is None or self._encoded[0] is not snapshot:
            whole, point = msgspec.json.encode(snapshot), msgspec.json.encode(point_of(snapshot))
            self._encoded = snapshot, b"event: snapshot\ndata: %b\n\nevent: point\ndata: %b\n\n" % (whole, point)
        return self._encoded[1]
