"""Worker threads: each owns a detector and does one request from bytes to answer with the GIL mostly released."""

import asyncio
import logging
import queue
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any, Generic, TypeVar

from tidesight.detection.detector import Detector
from tidesight.errors import Overloaded, TidesightError, WorkerFailed

log = logging.getLogger(__name__)
_Answer = TypeVar("_Answer")


@dataclass
class Job(Generic[_Answer]):
    """One request on its way through a worker.

    Attributes:
        work: What to do, given the worker's detector.
        answer: Resolved on the event loop when it is done.
        expires_at_s: `perf_counter` time after which nobody waits for it.
        submitted_s: When it was queued.
        queue_s: Seconds it waited.
        service_s: Seconds a worker spent on it, or None while none did.
    """

    work: Callable[[Detector], _Answer]
    answer: "asyncio.Future[_Answer]"
    expires_at_s: float
    submitted_s: float = field(default_factory=perf_counter)
    queue_s: float = 0.0
    service_s: float | None = None


class WorkerPool:
    """A fixed number of threads that take jobs in order.

    Args:
        detectors: One for each thread.
    """

    def __init__(self, detectors: list[Detector]) -> None:
        self._jobs: queue.SimpleQueue[Job[object] | None] = queue.SimpleQueue()
        self._threads = [
            threading.Thread(target=self._run, args=(detector,), name=f"worker-{number}", daemon=True)
            for number, detector in enumerate(detectors)
        ]

    def __len__(self) -> int:
        return len(self._threads)

    def start(self) -> None:
        """Start the threads."""
        for thread in self._threads:
            thread.start()

    def submit(self, job: Job[_Answer]) -> None:
        """Queue a job; its `answer` resolves on the loop that made it."""
        self._jobs.put(job)  # type: ignore[arg-type]  # the queue holds jobs of every kind of answer

    def stop(self) -> None:
        """Let the threads finish what is queued, and end."""
        for _ in self._threads:
            self._jobs.put(None)
        for thread in self._threads:
            thread.join()

    def _run(self, detector: Detector) -> None:
        while (job := self._jobs.get()) is not None:
            self._do(job, detector)

    @staticmethod
    def _do(job: Job[object], detector: Detector) -> None:
        started = perf_counter()
        job.queue_s = started - job.submitted_s
        if job.answer.cancelled():
            return
        if started > job.expires_at_s:
            _tell(_fail, job.answer, Overloaded("the deadline passed in the queue", None, 1.0, reason="expired"))
            return
        try:
            answer = job.work(detector)
        except TidesightError as error:
            _tell(_fail, job.answer, error)
        except Exception:
            log.exception("worker failed")
            _tell(_fail, job.answer, WorkerFailed("the detector failed on this picture"))
        else:
            job.service_s = perf_counter() - started
            _tell(_succeed, job.answer, answer)


def _tell(resolve: Callable[..., None], future: "asyncio.Future[Any]", outcome: object) -> None:
    with suppress(RuntimeError):  # the loop was closed under a worker: nobody is left to tell
        future.get_loop().call_soon_threadsafe(resolve, future, outcome)


def _succeed(future: "asyncio.Future[object]", answer: object) -> None:
    if not future.done():  # the caller may have left meanwhile
        future.set_result(answer)


def _fail(future: "asyncio.Future[object]", error: Exception) -> None:
    if not future.done():
        future.set_exception(error)
