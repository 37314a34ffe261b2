"""The parts of one instance, put together by the command line and shared by its routes."""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum
from typing import Protocol

from tidesight.detection.image import ImageLimits
from tidesight.detection.model import ModelInfo
from tidesight.errors import Unavailable
from tidesight.results.spool import SpoolStatus
from tidesight.serving.admission import Admission, BodyBudget
from tidesight.serving.api_keys import ApiKeys
from tidesight.serving.occupancy import Occupancy
from tidesight.serving.request_record import Recorder
from tidesight.serving.workers import WorkerPool
from tidesight.telemetry import (
    BUSY_TIME,
    READY,
    REQUEST_TIME,
    SPOOL_BYTES,
    SPOOL_OLDEST,
    SPOOL_RECORDS,
    UPLOADS,
    WORKER_RESTARTS,
    Telemetry,
)


class StoredAt(Protocol):
    """Where a result was put."""

    @property
    def image_url(self) -> str | None:
        """URL of the annotated picture."""
        ...

    @property
    def detections_url(self) -> str:
        """URL of the detections."""
        ...


class Results(Protocol):
    """Where results go."""

    async def put(self, request_id: str, at: datetime, jpeg: bytes, detections: bytes) -> StoredAt:
        """Store an annotated picture and its detections (JSON)."""
        ...

    def status(self) -> SpoolStatus:
        """What waits for the store."""
        ...


class State(Enum):
    """Where an instance is in its life."""

    STARTING = "starting"
    READY = "ready"
    DRAINING = "draining"


@dataclass(frozen=True)
class ServingLimits:
    """What one request may take.

    Attributes:
        max_body_bytes: Of a request body; base64 makes a picture a third larger.
        max_held_bytes: Of all bodies that are being read, wait or are worked on.
        image: Of the picture in it.
        body_timeout_s: For the body to arrive in full.
        deadline_s: For the answer, when the request does not say.
        max_connections: At a time; a few more are held for probes.
        max_answer_bytes: Of all drawn pictures that the store or their callers have not taken yet.
    """

    max_body_bytes: int = 24 * 1024 * 1024
    max_held_bytes: int = 256 * 1024 * 1024
    image: ImageLimits = field(default_factory=ImageLimits)
    body_timeout_s: float = 10.0
    deadline_s: float = 10.0
    max_connections: int = 2048
    max_answer_bytes: int = 160 * 1024 * 1024


@dataclass(frozen=True)
class Ready:
    """What exists once the model is loaded and warm."""

    model: ModelInfo
    engine: str
    workers: WorkerPool
    admission: Admission


class Instance:
    """The state of one instance.

    Args:
        limits: What one request may take.
        results: Where results go when a request asks for it.
        telemetry: Its metrics.
        api_keys: Who may ask; everybody by default.

    Attributes:
        name: Told in its answers, so that callers can tell instances apart; made up unless it is set.
        state: Where it is in its life.
        bodies: Bounds what their bodies take.
        answers: Bounds what drawn pictures take that are on their way out.
        abandoned: Requests that were accepted and not served, because the time to drain was over.
        recorder: Logs and traces its requests; neither, unless it is replaced.
        occupancy: How long requests were inside.
        connections: Tells how many are open; the server sets it.
    """

    def __init__(
        self, limits: ServingLimits, results: Results, telemetry: Telemetry, api_keys: ApiKeys | None = None
    ) -> None:
        self.limits = limits
        self.results = results
        self.telemetry = telemetry
        self.api_keys = api_keys or ApiKeys()
        self.name = os.urandom(4).hex()
        self.recorder = Recorder()
        self.connections: Callable[[], int] = lambda: 0
        self.state = State.STARTING
        self.abandoned = 0
        self.bodies = BodyBudget(limits.max_held_bytes)
        self.answers = BodyBudget(limits.max_answer_bytes)
        self.occupancy = Occupancy()
        self._ready: Ready | None = None
        self._uploads: Mapping[str, int] = {}
        self._occupied_s = {REQUEST_TIME: 0.0, BUSY_TIME: 0.0}

    def became_ready(self, ready: Ready) -> None:
        """The model is loaded and warm: take requests from now on."""
        self._ready = ready
        if self.state is State.STARTING:
            self._enter(State.READY)

    def drain(self) -> None:
        """Readiness goes; requests are still answered until the server stops listening."""
        self._enter(State.DRAINING)

    def _enter(self, state: State) -> None:
        self.state = state
        self.telemetry.set(READY, state is State.READY)

    @property
    def ready(self) -> Ready:
        """What serves requests.

        Raises:
            Unavailable: the model is not loaded yet.
        """
        if self._ready is None:
            raise Unavailable("the instance is starting", retry_after_s=1)
        return self._ready

    def watch_workers(self, now_s: float) -> WorkerPool | None:
        """Have workers that died or hang replaced; the pool, once there is one.

        Args:
            now_s: `perf_counter` time.
        """
        if self._ready is None:
            return None
        for reason in self._ready.workers.watch(now_s):
            self.telemetry.count(WORKER_RESTARTS, reason)
        return self._ready.workers

    def stop_workers(self) -> None:
        """End the worker threads, which have nothing left to do."""
        if self._ready:
            self._ready.workers.stop()

    def measure_occupancy(self) -> None:
        """Bring the metrics of how long requests were inside up to date."""
        occupied_s = {REQUEST_TIME: self.occupancy.request_s, BUSY_TIME: self.occupancy.busy_s}
        for metric, total_s in occupied_s.items():
            self.telemetry.count(metric, amount=total_s - self._occupied_s[metric])
        self._occupied_s = occupied_s

    def measure_spool(self) -> None:
        """Bring the metrics of the results that wait for the store up to date."""
        status = self.results.status()
        self.telemetry.set(SPOOL_RECORDS, status.records)
        self.telemetry.set(SPOOL_BYTES, status.size_bytes)
        self.telemetry.set(SPOOL_OLDEST, status.oldest_age_s)
        for outcome, total in status.uploads.items():
            self.telemetry.count(UPLOADS, outcome, amount=total - self._uploads.get(outcome, 0))
        self._uploads = status.uploads
