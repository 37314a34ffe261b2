"""Worker threads: each owns a detector and does one request from bytes to answer with the GIL mostly released.

A thread that dies or hangs loses its place to a new one. `WorkerPool.watch`, called a few times a second, finds it:
nothing is asked of a request but to note when it was begun. A thread cannot be ended from outside, so one that hangs
is retired: its caller is answered, and should it come back, it ends without touching the pool.

What a hung run blocks is up to the engine. ONNX Runtime runs a shared session in the caller's thread without a lock
around it, so the others go on. OpenVINO computes in as many streams as there are workers, and a hung run keeps its
stream; when all are taken, replacements cannot even begin, and the pool is `broken`. Native code that hangs with the
GIL held stops the whole process, `/healthz` with it: that is for the platform's liveness probe.
"""

import asyncio
import logging
import os
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from contextvars import Context, copy_context
from dataclasses import dataclass, field
from queue import SimpleQueue
from time import perf_counter
from typing import Any, Generic, TypeVar

from tidesight.detection.detector import Detector
from tidesight.errors import Overloaded, TidesightError, WorkerFailed

log = logging.getLogger(__name__)
_Answer = TypeVar("_Answer")
_RETIRED_PER_WORKER = 2
_KERNEL_THREADS = "/proc/self/task"  # where there is one


@dataclass(eq=False)
class Job(Generic[_Answer]):
    """One request on its way through a worker.

    Attributes:
        work: What to do, given the worker's detector.
        answer: Resolved on the event loop when it is done.
        expires_at_s: `perf_counter` time after which nobody waits for it.
        submitted_s: When it was queued.
        started_s: When a worker took it, or None.
        queue_s: Seconds it waited.
        service_s: Seconds a worker spent on it, or None while none did.
        worker: The place in the pool, counted from 0, whose worker was given it, or None.
        context: Of the request, so that what is logged for it says which it was.
    """

    work: Callable[[Detector], _Answer]
    answer: "asyncio.Future[_Answer]"
    expires_at_s: float
    submitted_s: float = field(default_factory=perf_counter)
    started_s: float | None = None
    queue_s: float = 0.0
    service_s: float | None = None
    worker: int | None = None
    context: Context = field(default_factory=copy_context)


class WorkerPool:
    """A fixed number of places for threads that take jobs in order.

    Args:
        detectors: One for each place; a replacement gets a clone.
        hang_s: Seconds after which a job is given up, with its thread.

    Attributes:
        broken: Why a lost worker was not replaced, or None. Retired threads that are still alive, and whatever they
            keep busy, are what a process cannot get rid of: twice as many of them as there are places are borne.
    """

    def __init__(self, detectors: list[Detector], hang_s: float = 30.0) -> None:
        self.broken: str | None = None
        self._hang_s = hang_s
        self._original = detectors[0]
        self._jobs: deque[Job[Any]] = deque()
        self._tokens: SimpleQueue[bool] = SimpleQueue()  # True for each job there is, False for each thread to end
        self._workers = [_Worker(place, self._run, detector) for place, detector in enumerate(detectors)]
        self._retired: list[threading.Thread] = []

    def __len__(self) -> int:
        return len(self._workers)

    @property
    def at_work(self) -> int:
        """Places with a worker."""
        return sum(not worker.left for worker in self._workers)

    def start(self) -> None:
        """Start the threads."""
        for worker in self._workers:
            worker.thread.start()

    def submit(self, job: Job[_Answer]) -> None:
        """Queue a job; its `answer` resolves on the loop that made it."""
        self._jobs.append(job)
        self._tokens.put(True)

    def oldest_queued_age_s(self, now_s: float) -> float:
        """Seconds that the oldest job has waited for a worker, of those whose caller has not left; 0 when none waits.

        Args:
            now_s: `perf_counter` time.
        """
        waiting = (job.submitted_s for job in self._jobs.copy() if not job.answer.cancelled())
        return max(0.0, now_s - next(waiting, now_s))

    def watch(self, now_s: float) -> list[str]:
        """Replace the workers that were lost; their callers are answered with `WorkerFailed`.

        Args:
            now_s: `perf_counter` time.

        Returns:
            For each that was lost, how: "died" (its thread ended) or "hung".
        """
        self._retired = [thread for thread in self._retired if thread.is_alive()]
        lost = [(worker, how) for worker in self._workers if (how := worker.lost(now_s, self._hang_s))]
        for worker, how in lost:
            # A copy: a thread that hangs is in the job's own, which no other may enter.
            about = worker.job.context.copy() if worker.job else Context()
            about.run(log.error, "worker %d %s", worker.place, how)
            if worker.job:
                _tell(_fail, worker.job.answer, WorkerFailed(f"the worker {how} on this picture"))
            if how == "hung":
                self._retired.append(worker.thread)
            self._replace(worker)
        return [how for _, how in lost]

    def stop(self, limit_s: float = 1.0) -> None:
        """Let the threads finish what is queued, and end.

        Args:
            limit_s: Seconds to wait for that.
        """
        for _ in self._workers:
            self._tokens.put(False)
        until_s = perf_counter() + limit_s
        for worker in self._workers:
            if not worker.left:
                worker.thread.join(max(0.0, until_s - perf_counter()))

    def _replace(self, lost: "_Worker") -> None:
        if len(self._retired) > _RETIRED_PER_WORKER * len(self):
            self.broken = f"{len(self._retired)} threads hang and cannot be ended"
        elif not lost.began:
            self.broken = "a new worker could not begin"
        else:
            worker = _Worker(lost.place, self._run, None)  # cloned in its thread: a broken engine may block
            try:
                worker.thread.start()
            except (RuntimeError, MemoryError) as error:
                self.broken = f"a worker cannot be replaced: {error}"
            else:
                self._workers[lost.place] = worker

    def _run(self, worker: "_Worker", detector: Detector | None) -> None:
        try:
            detector = detector or self._original.clone()
            worker.began = True
            while worker.is_free() and self._tokens.get():
                worker.job = job = self._jobs.popleft()
                job.context.run(_do, job, detector, worker.place)
                del job  # its picture is not held until the next one comes
            worker.left = True
        except BaseException:  # `watch` sees that the thread has ended, whatever ended it
            log.critical("worker %d ends", worker.place, exc_info=True)


class _Worker:
    """A thread in a place of the pool.

    Attributes:
        place: Which, from 0.
        thread: Itself.
        job: What it is at; only its own thread sets it.
        born_s: `perf_counter` time of its making.
        began: It has a detector and takes jobs.
        left: It has ended, or was given up: its place is another's.
    """

    def __init__(
        self, place: int, run: "Callable[[_Worker, Detector | None], None]", detector: Detector | None
    ) -> None:
        self.place = place
        self.job: Job[Any] | None = None
        self.born_s = perf_counter()
        self.began = False
        self.left = False
        self._deciding = threading.Lock()  # whether a job was finished or given up, in the moment that both happen
        self.thread = threading.Thread(target=run, args=(self, detector), name=f"worker-{place}", daemon=True)

    def is_free(self) -> bool:
        """Be done with a job; False when the worker was given up meanwhile."""
        with self._deciding:
            if not self.left:
                self.job = None
            return not self.left

    def lost(self, now_s: float, hang_s: float) -> str | None:
        """How the worker was lost since the last call, or None; it then `left`."""
        with self._deciding:
            if self.left or self.thread.ident is None:
                return None
            busy_since_s = self.job.started_s if self.job else None if self.began else self.born_s
            if self._has_ended():
                how = "died"
            elif busy_since_s is not None and now_s - busy_since_s > hang_s:
                how = "hung"
            else:
                return None
            self.left = True
            return how

    def _has_ended(self) -> bool:
        if self.job and os.path.isdir(_KERNEL_THREADS) and self.thread.is_alive():
            # Python does not learn of a thread that native code ended.
            return not os.path.exists(f"{_KERNEL_THREADS}/{self.thread.native_id}")
        return not self.thread.is_alive()


def _do(job: Job[Any], detector: Detector, place: int) -> None:
    started_s = perf_counter()
    job.queue_s = started_s - job.submitted_s
    if job.answer.cancelled():
        return
    if started_s > job.expires_at_s:
        _tell(_fail, job.answer, Overloaded("the deadline passed in the queue", None, 1.0, reason="expired"))
        return
    job.worker, job.started_s = place, started_s
    try:
        answer = job.work(detector)
    except TidesightError as error:
        _tell(_fail, job.answer, error)
    except Exception:
        log.exception("worker failed")
        _tell(_fail, job.answer, WorkerFailed("the detector failed on this picture"))
    else:
        job.service_s = perf_counter() - started_s
        _tell(_succeed, job.answer, answer)


def _tell(resolve: Callable[..., None], future: "asyncio.Future[Any]", outcome: object) -> None:
    with suppress(RuntimeError):  # the loop was closed under a worker: nobody is left to tell
        future.get_loop().call_soon_threadsafe(resolve, future, outcome)


def _succeed(future: "asyncio.Future[object]", answer: object) -> None:
    if not future.done():  # the caller may have left meanwhile, or been told that the worker was lost
        future.set_result(answer)


def _fail(future: "asyncio.Future[object]", error: Exception) -> None:
    if not future.done():
        future.set_exception(error)
