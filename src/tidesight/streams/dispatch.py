"""Frames to a fleet with bounded parallelism: as many in flight as it takes, each until it is answered or given up."""

import asyncio
import heapq
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from time import monotonic

from tidesight.errors import FleetError
from tidesight.results.backoff import Backoff
from tidesight.streams.answers import Busy, Failed, Found, Model, Verdict
from tidesight.streams.client import FleetClient, Terms
from tidesight.streams.endpoints import Endpoint, Endpoints
from tidesight.streams.jpeg import Encoded
from tidesight.streams.limit import InFlightLimit
from tidesight.streams.options import FleetOptions

_RETRY = Backoff(first_s=0.1, longest_s=5.0)


@dataclass
class Progress:
    """Counters of a run, read by whoever shows them.

    Attributes:
        answered: Frames answered.
        failed: Frames given up.
        refused: Requests that were refused for now.
        retried: Requests that got no usable answer.
        in_flight: Requests under way.
        limit: How many may be.
        most_in_flight: The most there were.
        instances: Instances that answered, as far as they can be told apart.
    """

    answered: int = 0
    failed: int = 0
    refused: int = 0
    retried: int = 0
    in_flight: int = 0
    limit: int = 0
    most_in_flight: int = 0
    instances: set[str] = field(default_factory=set)


@dataclass(order=True)
class _Job:
    number: int
    picture: Encoded = field(compare=False)
    tries: int = field(default=0, compare=False)
    counted: int = field(default=0, compare=False)
    answered_before: int = field(default=0, compare=False)
    last: Endpoint | None = field(default=None, compare=False)


class Dispatcher:
    """Sends frames, oldest first; lives in one event loop.

    A refusal costs a frame nothing, however often. Another failure counts against it only if the fleet works: if it
    answered other frames since this one was first tried, or last failed, or says that it is ready where there are no
    others. While nothing is answered at all, it is the fleet that is at fault, and the frames wait.

    Args:
        client: Of the fleet.
        model: That it serves.
        options: Patience and bounds.
        deliver: Called with a frame's number and what became of it.
        progress: Kept up to date.
    """

    def __init__(
        self,
        client: FleetClient,
        model: Model,
        options: FleetOptions,
        deliver: Callable[[int, Found | Failed], None],
        progress: Progress,
    ) -> None:
        self._client = client
        self._model = model
        self._options = options
        self._deliver = deliver
        self._progress = progress
        self._random = Random()  # noqa: S311 - jitter
        self._endpoints = Endpoints(options.urls, self._random)
        self._limit = InFlightLimit(options.limit)
        self._terms = Terms(options.deadline_s, options.query)
        self._queue: list[_Job] = []
        self._waiting = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._heard_s = monotonic()
        self._last_reason = ""
        self._timer: asyncio.TimerHandle | None = None
        self.broken: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def send(self, number: int, picture: Encoded) -> None:
        """Take a frame; `number` orders it."""
        if not self._queue and not self._tasks and not self._waiting:
            self._heard_s = monotonic()  # an idle fleet is not a silent one
        heapq.heappush(self._queue, _Job(number, picture, answered_before=self._progress.answered))
        self._pump()

    async def stop(self) -> None:
        """Give up what is under way."""
        if self._timer is not None:
            self._timer.cancel()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _pump(self) -> None:
        self._progress.limit = self._limit.value
        while self._queue and len(self._tasks) < self._limit.value and not self.broken.done():
            now_s = monotonic()
            endpoint = self._endpoints.choose(now_s, avoid=self._queue[0].last)
            if endpoint is None:
                self._wake_at(self._endpoints.next_free_s())
                return
            job = heapq.heappop(self._queue)
            task = asyncio.get_running_loop().create_task(self._one(job, endpoint))
            self._tasks.add(task)
            self._progress.in_flight = len(self._tasks)
            self._progress.most_in_flight = max(self._progress.most_in_flight, len(self._tasks))

    def _wake_at(self, when_s: float) -> None:
        loop = asyncio.get_running_loop()
        if self._timer is not None:
            self._timer.cancel()
        self._timer = loop.call_later(max(0.001, when_s - monotonic()), self._pump)
        self._check_patience()

    async def _one(self, job: _Job, endpoint: Endpoint) -> None:
        endpoint.in_flight += 1
        sent_s = monotonic()
        try:
            verdict, instance = await self._client.detect(endpoint.url, job.picture, self._model, self._terms)
            if isinstance(verdict, Failed) and not verdict.final:
                job.counted += await self._fleet_works(job, endpoint)
            self._progress.instances.update(() if isinstance(verdict, Failed) else (instance,))
            self._settle(job, endpoint, verdict, sent_s)
        except FleetError as error:
            self._break(error)
        finally:
            endpoint.in_flight -= 1
            task = asyncio.current_task()
            if task is not None:
                self._tasks.discard(task)
            self._progress.in_flight = len(self._tasks)
            self._pump()

    async def _fleet_works(self, job: _Job, endpoint: Endpoint) -> bool:
        works = self._progress.answered > job.answered_before
        if not works and not self._queue and len(self._tasks) == 1:
            works = await self._client.is_ready(endpoint.url)
        job.answered_before = self._progress.answered
        return works

    def _settle(self, job: _Job, endpoint: Endpoint, verdict: Verdict, sent_s: float) -> None:
        now_s = monotonic()
        if isinstance(verdict, Found) or (isinstance(verdict, Failed) and verdict.final):
            self._heard_s = now_s
            self._endpoints.answered(endpoint)
            self._limit.answered(sent_s, now_s, len(self._tasks))
            self._finish(job, verdict)
            return
        self._last_reason = verdict.reason
        job.last, job.tries = endpoint, job.tries + 1
        wait_s = _RETRY.delay_s(job.tries, self._random)
        if isinstance(verdict, Busy):
            wait_s = self._hold_back(endpoint, verdict, sent_s, wait_s)
        else:
            self._progress.retried += 1
            self._endpoints.failed(endpoint, now_s)
            if job.counted >= self._options.attempts:
                self._finish(job, Failed(f"{verdict.reason} ({job.counted} attempts)", final=True))
                return
        self._waiting += 1
        asyncio.get_running_loop().call_later(wait_s, self._again, job)
        self._check_patience()

    def _hold_back(self, endpoint: Endpoint, verdict: Busy, sent_s: float, wait_s: float) -> float:
        """Fewer in flight; and where there is one only, none until the time that was asked for. The frame's wait."""
        self._progress.refused += 1
        if verdict.retry_after_s is not None:
            wait_s = max(wait_s, verdict.retry_after_s * self._random.uniform(1.0, 1.25))
        if self._limit.at_least or verdict.retry_after_s is None:
            self._endpoints.pause(endpoint, monotonic(), min(wait_s, verdict.retry_after_s or wait_s))
        self._limit.refused(sent_s, monotonic())
        return wait_s

    def _again(self, job: _Job) -> None:
        self._waiting -= 1
        heapq.heappush(self._queue, job)
        self._pump()

    def _finish(self, job: _Job, verdict: Found | Failed) -> None:
        if isinstance(verdict, Found):
            self._progress.answered += 1
        else:
            self._progress.failed += 1
        self._deliver(job.number, verdict)

    def _check_patience(self) -> None:
        silent_s = monotonic() - self._heard_s
        if silent_s > self._options.patience_s:
            self._break(FleetError(f"no frame was answered for {silent_s:.0f} s; the last reason: {self._last_reason}"))

    def _break(self, error: FleetError) -> None:
        if not self.broken.done():
            self.broken.set_exception(error)
