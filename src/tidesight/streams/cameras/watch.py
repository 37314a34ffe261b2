"""All cameras and one fleet: who sends next, what comes back, until it is told to stop."""

import asyncio
import logging
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from random import Random
from time import monotonic, time
from typing import Any

from tidesight.errors import FleetError
from tidesight.streams.answers import Busy, Failed, Found, Model, Verdict
from tidesight.streams.cameras import metrics
from tidesight.streams.cameras.capture import Capture, Captured
from tidesight.streams.cameras.config import Camera, CamerasConfig
from tidesight.streams.cameras.events import Events
from tidesight.streams.cameras.screen import Screen
from tidesight.streams.cameras.share import FairShare, Want
from tidesight.streams.cameras.tracking import LEAST_SCORE
from tidesight.streams.cameras.watched import Answer, Settled, Watched
from tidesight.streams.client import FleetClient, Terms
from tidesight.streams.endpoints import Endpoint, Endpoints
from tidesight.streams.jpeg import Encoded, FrameEncoder
from tidesight.streams.limit import InFlightLimit
from tidesight.streams.options import FleetOptions
from tidesight.telemetry import Telemetry

log = logging.getLogger(__name__)
_LOOK_S = 1.0
_SLACK_S = 0.25  # beyond a frame's freshness; then it is given up, answered or not
_GOAL_PART = 0.5  # of the strictest freshness: the latency up to which more is sent at once


class Watch:
    """Sends the freshest frames of all cameras in fair shares, and hands out what comes back.

    Made and used within one event loop.

    Args:
        config: The cameras; there may be none yet.
        fleet: Where to; its `limit.goal_s`, where there are cameras, and its deadline follow from their freshness.
        events_file: For events, or None.
        on_settled: Told what became of each frame, in order for each camera.

    Raises:
        ConfigError: the file for events cannot be written.
        MissingExtra: an optional package is not installed.
    """

    def __init__(
        self,
        config: CamerasConfig,
        fleet: FleetOptions,
        events_file: Path | None,
        on_settled: Callable[[Settled], None] = lambda _: None,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._on_settled = on_settled
        self._counts_every_s = config.counts_every_s
        self.telemetry = Telemetry(metrics.CATALOGUE)
        self.events = Events(events_file, config.webhook, self.telemetry)
        if config.cameras:
            freshness_s = min(camera.freshness_s for camera in config.cameras)
            fleet = replace(fleet, limit=replace(fleet.limit, goal_s=_GOAL_PART * freshness_s))
        self._fleet = fleet
        self._limit = InFlightLimit(self._fleet.limit)
        self._endpoints = Endpoints(fleet.urls, Random())  # noqa: S311 - jitter
        self._share = FairShare({})
        self.cameras: dict[str, Watched] = {}
        self._encoders = threading.local()
        self._client: FleetClient | None = None
        self._model: Model | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._timer: asyncio.TimerHandle | None = None
        self.trouble = "waiting for the fleet"
        for camera in config.cameras:
            self.add(camera)

    def add(self, camera: Camera) -> None:
        """Watch one more camera; also while it runs.

        Args:
            camera: Of a name of its own. How much is sent at once does not follow its freshness, but that of the
                cameras there were at first.
        """
        self._share.add(camera.name, Want(camera.fps, camera.weight))
        self.cameras[camera.name] = watched = Watched(
            camera, Capture(camera, self._notify), Screen(camera), self.events, self.telemetry, self._counts_every_s,
            self._on_settled,
        )  # fmt: skip
        if self._client is not None:
            watched.capture.start()

    async def remove(self, name: str) -> None:
        """Watch a camera no longer; frames of it that are under way are still told of."""
        watched = self.cameras.pop(name)
        self._share.remove(name)
        for metric in (metrics.UP, metrics.FPS, metrics.TARGET_FPS):
            self.telemetry.set(metric, 0.0, name)
        await asyncio.to_thread(watched.capture.stop)

    def _notify(self) -> None:
        """In the thread of a camera: it has a frame."""
        with suppress(RuntimeError):  # the loop is closed: nobody listens
            self._loop.call_soon_threadsafe(self._pump)

    async def run(self) -> None:
        """Watch until cancelled."""
        self._client = FleetClient(self._fleet)
        for watched in self.cameras.values():
            watched.capture.start()
        sending = asyncio.create_task(self.events.send())
        finding = asyncio.create_task(self._find_fleet())
        try:
            while True:
                self._look()
                await asyncio.sleep(_LOOK_S)
        finally:
            await self._end(sending, finding)

    async def _end(self, *others: asyncio.Task[None]) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._model = None
        tasks = [*others, *self._tasks]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        stops = [asyncio.to_thread(watched.capture.stop) for watched in self.cameras.values()]
        await asyncio.gather(*stops)
        if self._client is not None:
            await self._client.close()
        self.events.close()

    async def _find_fleet(self) -> None:
        """Until it is there; cameras are shown as they are meanwhile."""
        assert self._client is not None
        while self._model is None:
            try:
                self._model = await self._client.model()
            except FleetError as error:
                self.trouble = error.detail
                log.warning("%s", error.detail)
                await asyncio.sleep(_LOOK_S)
        self.trouble = ""
        self._pump()

    def _look(self) -> None:
        now_s, wall_s = monotonic(), time()
        for watched in self.cameras.values():
            watched.look(now_s, wall_s)
        self.telemetry.set(metrics.IN_FLIGHT, len(self._tasks))
        self.telemetry.set(metrics.LIMIT, self._limit.value)

    def status(self) -> dict[str, Any]:
        """For the page."""
        return {
            "fleet": self.trouble or "ok",
            "in_flight": len(self._tasks),
            "limit": self._limit.value,
            "cameras": [watched.status() for watched in self.cameras.values()],
        }

    def _pump(self) -> None:
        while self._model is not None and len(self._tasks) < self._limit.value:
            now_s = monotonic()
            ready = self._ready(now_s)
            endpoint = self._endpoints.choose(now_s)
            name = self._share.next(now_s, ready) if endpoint is not None else None
            if endpoint is None or name is None:
                self._wake_at(self._endpoints.next_free_s() if endpoint is None else self._share.next_due_s(ready))
                return
            watched = self.cameras[name]
            captured = watched.capture.take()
            if captured is None:  # its thread has just replaced it
                continue
            watched.skip(self._share.take(name, now_s))
            task = asyncio.get_running_loop().create_task(self._one(watched, captured, endpoint))
            self._tasks.add(task)

    def _ready(self, now_s: float) -> list[str]:
        return [
            name
            for name, watched in self.cameras.items()
            if (latest := watched.capture.latest) is not None and now_s - latest.at_s < watched.camera.freshness_s
        ]

    def _wake_at(self, when_s: float | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if when_s is not None:
            self._timer = asyncio.get_running_loop().call_later(max(0.001, when_s - monotonic()), self._pump)

    async def _one(self, watched: Watched, captured: Captured, endpoint: Endpoint) -> None:
        number, sent_s = watched.number(), monotonic()
        verdict: Verdict = Failed("given up", final=True)
        instance = ""
        endpoint.in_flight += 1
        try:
            verdict, instance = await self._ask(watched, captured, endpoint.url)
        except FleetError as error:
            verdict = Failed(error.detail, final=False)
        except Exception as error:
            log.exception("a frame of %s", watched.camera.name)
            verdict = Failed(f"{type(error).__name__}: {error}", final=True)
        finally:
            endpoint.in_flight -= 1
            self._judge(watched, verdict, endpoint, sent_s)
            task = asyncio.current_task()
            if task is not None:
                self._tasks.discard(task)
            watched.settle(number, Answer(captured, verdict, sent_s, instance), monotonic())
            self._pump()

    async def _ask(self, watched: Watched, captured: Captured, url: str) -> tuple[Verdict, str]:
        assert self._client is not None
        assert self._model is not None
        model = self._model
        picture = await asyncio.to_thread(self._encode, captured, max(model.input_px))
        left_s = captured.at_s + watched.camera.freshness_s - monotonic()
        if left_s <= 0:
            return Busy("too old to send", None), ""
        weak = {"confidence": f"{LEAST_SCORE:g}"} if watched.camera.track else {}
        terms = Terms(left_s, {**self._fleet.query, **weak}, _SLACK_S)
        return await self._client.detect(url, picture, model, terms)

    def _encode(self, captured: Captured, longest_px: int) -> Encoded:
        if not hasattr(self._encoders, "encoder"):
            self._encoders.encoder = FrameEncoder(longest_px)
        encoder: FrameEncoder = self._encoders.encoder
        return encoder.encode(captured.frame)

    def _judge(self, watched: Watched, verdict: Verdict, endpoint: Endpoint, sent_s: float) -> None:
        """What an answer says about the fleet: how many at once, and whom to ask."""
        now_s = monotonic()
        if isinstance(verdict, Found) or (isinstance(verdict, Failed) and verdict.final):
            self.trouble = ""
            self._endpoints.answered(endpoint)
            self._limit.answered(sent_s, now_s, len(self._tasks))
            return
        self._share.give_back(watched.camera.name, now_s)
        self._limit.refused(sent_s, now_s)
        if isinstance(verdict, Failed):
            self.trouble = verdict.reason
            self._endpoints.failed(endpoint, now_s)
        elif self._limit.at_least and verdict.retry_after_s is not None:
            self._endpoints.pause(endpoint, now_s, min(verdict.retry_after_s, 1.0))
