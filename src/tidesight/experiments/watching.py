"""Sends the load of a scenario of cameras: watches them with the fleet as `tidesight cameras` does, and records it."""

import asyncio
from collections import deque
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from time import monotonic, process_time, time

import numpy as np
import uvloop

from tidesight.experiments.clip import write_clip
from tidesight.experiments.sending import Sender
from tidesight.loadtest.plan import INTERRUPTED, Observer, Progress
from tidesight.loadtest.recorder import LoadResult
from tidesight.runs.rows import RequestRow, StreamRow
from tidesight.runs.writer import RunWriter
from tidesight.streams.answers import Busy, Found
from tidesight.streams.cameras.config import Camera, CamerasConfig
from tidesight.streams.cameras.watch import Watch
from tidesight.streams.cameras.watched import Settled, Watched
from tidesight.streams.limit import LimitSettings
from tidesight.streams.options import FleetOptions
from tidesight.workload.cameras import Cameras
from tidesight.workload.outcome import Failure, Latencies, Tally
from tidesight.workload.scenario import Scenario

_TICK_S = 0.05
_TELL_S = 0.2
_ROW_S = 4.0  # in two seconds a slow camera has so few frames that one more or less is a jump
_LEAST_ROW_S = 1.0
_LAST_S = 1.0  # beyond the freshness, for frames under way at the end
_GOAL_PART = 0.5  # of the freshness, as `tidesight cameras` has it
_LEAST_VIDEO_FPS = 10.0


@dataclass(frozen=True)
class CamerasSender(Sender):
    """Cameras instead of requests. A frame is recorded as a request that was due when it was captured."""

    @property
    def name(self) -> str:
        """Of what sends, as recorded in a run."""
        return "tidesight-cameras"

    def send(self, scenario: Scenario, url: str, seed: int, writer: RunWriter, observe: Observer) -> LoadResult:
        """Let the cameras come and go; Ctrl-C ends it early, with a result.

        Raises:
            MissingExtra: a package of the extra streams is not installed.
        """
        assert isinstance(scenario.load, Cameras)
        with TemporaryDirectory(prefix="tidesight-clip-") as folder:
            video = scenario.load.video
            if video is None:
                fps = max(_LEAST_VIDEO_FPS, 2 * scenario.load.fps)
                video = str(write_clip(Path(folder, "clip.mp4"), [one.data for one in self.bodies], fps))
            watching = _Watching(scenario, scenario.load, video, writer, observe)
            with suppress(KeyboardInterrupt):
                uvloop.run(watching.run(url, seed))
            return watching.result()


@dataclass
class _Stretch:
    """What a camera did since its last row."""

    since_s: float
    skipped: int = 0
    ages_s: list[float] = field(default_factory=list)


class _Watching:
    """One load on its way; all times are monotonic until they are written."""

    def __init__(self, scenario: Scenario, cameras: Cameras, video: str, writer: RunWriter, observe: Observer) -> None:
        self._scenario, self._cameras, self._video = scenario, cameras, video
        self._writer, self._observe = writer, observe
        self._tally = Tally(scenario.objective_s)
        self._stretches: dict[str, _Stretch] = {}
        self._stopped: str | None = INTERRUPTED  # until it comes to its end
        self._trouble = ""
        self._start_s, self._used_s = monotonic(), process_time()
        self._end_s = self._start_s
        self._zero_s = self._start_s - (time() - writer.started_epoch_s)

    async def run(self, url: str, seed: int) -> None:
        """Until the scenario's duration is over and no frame is under way any more."""
        goal = LimitSettings(goal_s=_GOAL_PART * self._scenario.objective_s, most=64)
        watch = Watch(CamerasConfig(()), FleetOptions((url.rstrip("/"),), limit=goal), None, self._settled)
        task = asyncio.create_task(watch.run())
        self._start_s, self._used_s = monotonic(), process_time()
        try:
            await self._come_and_go(watch, task, seed)
            await self._last_ones(watch)
            self._stopped = self._stopped if self._stopped != INTERRUPTED else None
        finally:
            self._trouble = watch.trouble
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _come_and_go(self, watch: Watch, task: "asyncio.Task[None]", seed: int) -> None:
        duration_s = self._scenario.duration_s
        changes = deque(self._cameras.changes(duration_s, seed))
        told_s = rows_s = 0.0
        while (now_s := monotonic() - self._start_s) < duration_s and not task.done():
            self._end_s = self._start_s + now_s
            while changes and changes[0][0] <= now_s:
                _, name, comes = changes.popleft()
                await self._change(watch, name, comes)
            if now_s - rows_s >= _ROW_S:
                rows_s = now_s
                for watched in watch.cameras.values():
                    self._row(watched)
            if now_s - told_s >= _TELL_S:
                told_s = now_s
                why = self._observe(self._progress(watch, now_s))
                if why is not None:
                    self._stopped = why
                    return
            await asyncio.sleep(_TICK_S)
        if task.done():
            task.result()  # why it ended

    async def _change(self, watch: Watch, name: str, comes: bool) -> None:
        if comes:
            freshness_s = self._scenario.objective_s
            watch.add(Camera(name, self._video, "file", self._cameras.fps, freshness_s))
            self._stretches[name] = _Stretch(monotonic())
        else:
            self._row(watch.cameras[name])
            await watch.remove(name)

    async def _last_ones(self, watch: Watch) -> None:
        self._end_s = monotonic()
        for name in list(watch.cameras):
            await self._change(watch, name, comes=False)
        limit_s = self._end_s + self._scenario.objective_s + _LAST_S
        while watch.status()["in_flight"] and monotonic() < limit_s:
            await asyncio.sleep(_TICK_S)

    def _row(self, watched: Watched) -> None:
        name, now_s = watched.camera.name, monotonic()
        stretch = self._stretches[name]
        seconds = now_s - stretch.since_s
        if seconds < _LEAST_ROW_S:
            return
        ages_s = stretch.ages_s
        p99_s = float(np.percentile(ages_s, 99, method="inverted_cdf")) if ages_s else None
        skipped = watched.skipped - stretch.skipped
        fps = len(ages_s) / seconds
        self._writer.stream(StreamRow(now_s - self._zero_s, name, watched.camera.fps, fps, p99_s, skipped))
        self._stretches[name] = _Stretch(now_s, watched.skipped)

    def _settled(self, settled: Settled) -> None:
        answer, at_s = settled.answer, settled.at_s
        zero_s, captured_s = self._zero_s, answer.captured.at_s
        age_s = at_s - captured_s
        status = 200 if isinstance(answer.verdict, Found) else answer.verdict.status
        # What nobody answered was given up once it was of no use any more; before that its connection broke.
        lost = Failure.TIMEOUT if age_s >= self._scenario.objective_s else Failure.RESET
        error = None if status is not None else lost
        unsent = isinstance(answer.verdict, Busy) and status is None  # it had waited here for too long
        if settled.outcome == "shown":
            self._stretches[settled.camera].ages_s.append(age_s)
        self._tally.add(age_s, status, error)
        self._writer.request(
            RequestRow(
                captured_s - zero_s, None if unsent else answer.sent_s - zero_s, at_s - zero_s, status,
                instance=answer.instance or None, error=error,
            )
        )  # fmt: skip

    def _progress(self, watch: Watch, elapsed_s: float) -> Progress:
        in_flight = watch.status()["in_flight"]
        return Progress(elapsed_s, self._tally.ended + in_flight, in_flight, self._tally.outcome(elapsed_s))

    def result(self) -> LoadResult:
        """What came of it."""
        seconds = max(_TICK_S, self._end_s - self._start_s)
        cpu_ratio = (process_time() - self._used_s) / max(_TICK_S, monotonic() - self._start_s)
        none = () if self._tally.ended else (f"no frame was sent: {self._trouble or 'the cameras had none'}",)
        return LoadResult(
            self._tally.outcome(seconds), Latencies(), cpu_ratio, 0, stopped=self._stopped, invalid=none,
            truncated=self._writer.truncated,
        )  # fmt: skip
