"""A stream of frames in, their outcomes out in the same order, from a thread of its own with an event loop."""

import asyncio
import threading
from collections.abc import Callable, Coroutine, Generator, Iterable
from contextlib import suppress
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Generic, TypeVar

from tidesight.streams.answers import Failed, Found, Model
from tidesight.streams.client import FleetClient
from tidesight.streams.dispatch import Dispatcher, Progress
from tidesight.streams.jpeg import Encoded
from tidesight.streams.options import FleetOptions
from tidesight.streams.reorder import Reorder

Frame = TypeVar("Frame")
_LOOK_S = 0.2


@dataclass(frozen=True)
class Outcome(Generic[Frame]):
    """What became of a frame."""

    frame: Frame
    verdict: Found | Failed


class _End:
    """After the last outcome; with the error that ended it, if one did."""

    def __init__(self, error: BaseException | None) -> None:
        self.error = error


Item = tuple[Frame, Encoded | Failed]
Frames = Callable[[Model], Iterable[Item[Frame]]]
"""Given the model: frames in order, each as the picture to send, or why there is none."""


class InOrder(Generic[Frame]):
    """Runs a fleet's answers through a bounded window.

    The caller's thread iterates over the outcomes; one thread reads and encodes frames, another talks HTTP. A frame
    holds a place in the window from when it is read until its outcome is taken, so a slow caller, a slow fleet and
    one stuck frame all stop the reading.

    Args:
        frames: What is to be sent.
        fleet: Where to.
        window: Places.
        progress: Kept up to date.
    """

    def __init__(self, frames: Frames[Frame], fleet: FleetOptions, window: int, progress: Progress) -> None:
        self._frames = frames
        self._fleet = fleet
        self._places = threading.Semaphore(window)
        self._progress = progress
        self._stopping = threading.Event()
        self._out: SimpleQueue[Outcome[Frame] | _End] = SimpleQueue()
        self._reorder: Reorder[Outcome[Frame]] = Reorder()
        self._held: dict[int, Frame] = {}
        self._read_all: int | None = None  # how many frames there were, once all are read
        self._read_error: BaseException | None = None
        self._given = 0
        self._all_done: asyncio.Future[None]

    def outcomes(self) -> Generator[Outcome[Frame], None, None]:
        """The outcomes, in the order of the frames; closing the generator ends what is under way.

        Raises:
            FleetError: the fleet cannot be used, or is gone; all outcomes before have been given.
            TidesightError: whatever reading the frames raised, after the outcomes of those before.
        """
        talking = threading.Thread(target=self._talk, name="fleet", daemon=True)
        talking.start()
        try:
            while not isinstance(item := self._out.get(), _End):
                yield item
                self._places.release()
            if item.error is not None:
                raise item.error
        finally:
            self._stopping.set()
            talking.join()

    def _talk(self) -> None:
        error: BaseException | None = None
        try:
            _run(self._main())
        except BaseException as raised:
            error = raised
        self._out.put(_End(error))

    async def _main(self) -> None:
        client = FleetClient(self._fleet)
        try:
            model = await self._until_stopped(client.model())
            if model is not None:
                await self._exchange(client, model)
        finally:
            await client.close()

    async def _exchange(self, client: FleetClient, model: Model) -> None:
        loop = asyncio.get_running_loop()
        self._all_done = all_done = loop.create_future()
        dispatcher = Dispatcher(client, model, self._fleet, self._settled, self._progress)
        reading = threading.Thread(target=self._read, args=(model, dispatcher, loop), name="frames", daemon=True)
        reading.start()
        try:
            while not self._stopping.is_set():
                done, _ = await asyncio.wait(
                    {all_done, dispatcher.broken}, timeout=_LOOK_S, return_when=asyncio.FIRST_COMPLETED
                )
                if done:
                    for future in done:
                        future.result()
                    return
        finally:
            self._stopping.set()
            await dispatcher.stop()
            await asyncio.to_thread(reading.join)
            for future in (all_done, dispatcher.broken):  # what nobody waits for any more
                future.cancel()
                if future.done() and not future.cancelled():
                    future.exception()

    def _read(self, model: Model, dispatcher: Dispatcher, loop: asyncio.AbstractEventLoop) -> None:
        """In the reading thread: frames into the loop, as places become free."""
        number, error = 0, None
        try:
            for frame, picture in self._frames(model):
                while not self._places.acquire(timeout=_LOOK_S):
                    if self._stopping.is_set():
                        return
                if self._stopping.is_set():
                    return
                loop.call_soon_threadsafe(self._take, dispatcher, number, frame, picture)
                number += 1
        except BaseException as raised:
            error = raised
        with suppress(RuntimeError):  # the loop is closed: nobody waits
            loop.call_soon_threadsafe(self._note_end, number, error)

    def _take(self, dispatcher: Dispatcher, number: int, frame: Frame, picture: Encoded | Failed) -> None:
        self._held[number] = frame
        if isinstance(picture, Failed):
            self._progress.failed += 1
            self._settled(number, picture)
        else:
            dispatcher.send(number, picture)

    def _settled(self, number: int, verdict: Found | Failed) -> None:
        for outcome in self._reorder.put(number, Outcome(self._held.pop(number), verdict)):
            self._out.put(outcome)
            self._given += 1
        self._maybe_done()

    def _note_end(self, count: int, error: BaseException | None) -> None:
        self._read_all, self._read_error = count, error
        self._maybe_done()

    def _maybe_done(self) -> None:
        if self._read_all is None or self._given < self._read_all or self._all_done.done():
            return
        if self._read_error is not None:
            self._all_done.set_exception(self._read_error)
        else:
            self._all_done.set_result(None)

    async def _until_stopped(self, waited_for: Coroutine[None, None, Model]) -> Model | None:
        task = asyncio.ensure_future(waited_for)
        while not task.done():
            await asyncio.wait({task}, timeout=_LOOK_S)
            if self._stopping.is_set():
                task.cancel()
                return None
        return task.result()


def _run(main: Coroutine[None, None, None]) -> None:
    import uvloop

    uvloop.run(main)
