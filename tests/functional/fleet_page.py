"""The page of a scripted fleet, served for real in a thread of its own."""

import asyncio
import threading
from collections.abc import Callable
from typing import Self

from tests.unit.fleet.scripted import ScriptedFleet
from tidesight.fleet.dashboard.listening import serve_page
from tidesight.fleet.dashboard.server import make_app
from tidesight.fleet.snapshot import Snapshot

TOKEN = "token-of-the-tests"
CHANGES_EVERY_S = 0.2


class ServedFleet:
    """A page whose fleet changes every 0.2 s, as the script says, until it is left.

    Args:
        script: The snapshot of each moment.
        begins_at_s: The fleet's age at the start; as many seconds are its past.
        port: To listen on.

    Attributes:
        script: May be replaced meanwhile.
    """

    def __init__(self, script: Callable[[float], Snapshot], begins_at_s: float = 0, port: int = 0) -> None:
        self.script = script
        self._begins_at_s = begins_at_s
        self._port = port
        self._listens = threading.Event()
        self._leave = asyncio.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), name="fleet-page")
        self.url = ""
        self.fleet: ScriptedFleet

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self.url.rpartition(":")[2])

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._listens.wait(10)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._leave.set)
        self._thread.join(10)
        assert not self._thread.is_alive()

    async def _run(self) -> None:
        self._loop = asyncio.get_running_loop()
        earlier = [
            self.script(float(at_s)) for at_s in range(max(0, int(self._begins_at_s) - 600), int(self._begins_at_s))
        ]
        self.fleet = ScriptedFleet(self.script(self._begins_at_s), earlier)
        async with serve_page(make_app(self.fleet, TOKEN), self._port) as self.url:
            self._listens.set()
            at_s = self._begins_at_s
            while not self._leave.is_set():
                at_s += CHANGES_EVERY_S
                self.fleet.show(self.script(at_s))
                try:
                    await asyncio.wait_for(self._leave.wait(), CHANGES_EVERY_S)
                except TimeoutError:
                    continue
