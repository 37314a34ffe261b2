"""Sends a load: an open loop, whose requests are due whatever the answers do, or a closed one of users who wait."""

import asyncio
import gc
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from random import Random
from time import monotonic, process_time, time

import uvloop

from tidesight.loadtest.client import Exchange, Pool
from tidesight.loadtest.connecting import check_reachable
from tidesight.loadtest.plan import INTERRUPTED, Load, Observer, Progress
from tidesight.loadtest.recorder import LoadResult, Recorder, doubts
from tidesight.loadtest.timer import Timer
from tidesight.runs.writer import RunWriter
from tidesight.workload.arrivals import Pattern
from tidesight.workload.outcome import Failure
from tidesight.workload.scenario import Users

_SWEEP_S = 0.01  # time-outs end this much late at most
_AT_ONCE = 32  # requests handed over before the loop looks at its sockets again
_TELL_S = 0.2
_CONNECT_S = 5.0
_MOST_COUNTED = 10_000_000
CANNOT_KEEP_UP = "this machine cannot send as fast as that"


def run(load: Load, writer: RunWriter | None = None, observe: Observer = lambda _: None) -> LoadResult:
    """Send a load from this thread, and wait for its end. In the main thread Ctrl-C ends it early, with a result.

    Args:
        load: What to send.
        writer: Records each request; its zero is the load's start.
        observe: Told how it goes.

    Raises:
        TidesightError: the target cannot be connected to.
    """

    async def whole() -> LoadResult:
        await check_reachable(load.target, _CONNECT_S)
        with _quiet_collector():  # before the load begins: it takes a while
            return await _Run(load, writer, observe).run()

    result = uvloop.run(whole())
    return result if writer is None else replace(result, truncated=writer.truncated)


class _Run:
    """One load on its way; `_Open` and `_Closed` say when requests are due."""

    def __init__(self, load: Load, writer: RunWriter | None, observe: Observer) -> None:
        self.load = load
        self._observe = observe
        self._requests = load.target.requests(load.bodies)
        self._loop = asyncio.get_running_loop()
        self._pool = Pool(load.target, load.connections, load.timeout_s)
        self.timer = Timer(self._loop)
        self.start_s = monotonic()
        self.end_s = self.start_s + load.duration_s
        zero_s = self.start_s if writer is None else self.start_s - (time() - writer.started_epoch_s)
        self._recorder = Recorder(load.objective_s, zero_s, writer)
        self._under_way: deque[Exchange] = deque()  # in the order they were due, those that ended among them
        self._sent = self._ended = 0
        self._all_due = False
        self.stopped: str | None = None
        self._done = asyncio.Event()

    async def run(self) -> LoadResult:
        """Until all that was due has ended."""
        pattern = self.load.pattern
        loop = _Closed(self, pattern) if isinstance(pattern, Users) else _Open(self, pattern)
        used_s = process_time()
        with _interruptible(self._loop, partial(self.stop, INTERRUPTED)):
            loop.begin()
            ticking = self._loop.create_task(self._tick())
            await self._done.wait()
            ticking.cancel()
        elapsed_s = monotonic() - self.start_s
        cpu_ratio = (process_time() - used_s) / elapsed_s
        self.timer.close()
        await self._pool.close()
        return self._result(self.end_s - self.start_s, cpu_ratio, loop.unsent())

    def ask(self, due_s: float, then: Callable[[float], None] | None = None) -> None:
        """Send the next request, which is due at `due_s`; `then` is told when it ended."""
        request = self._requests[self._sent % len(self._requests)]
        self._sent += 1
        exchange = Exchange(due_s, request, self._ends if then is None else partial(self._ends, then=then))
        self._under_way.append(exchange)
        self._pool.send(exchange)

    def all_due(self) -> None:
        """Nothing more comes; the load is over when all that is under way has ended."""
        self._all_due = True
        if self._ended == self._sent:
            self._done.set()

    def stop(self, why: str) -> None:
        """End early: nothing more is sent, and what is under way is given up."""
        if self.stopped is None and not self._done.is_set():
            self.stopped = why
            self.end_s = min(self.end_s, monotonic())
            for exchange in list(self._under_way):
                exchange.fail(Failure.UNFINISHED)
            self.all_due()

    @property
    def is_over(self) -> bool:
        """Whether nothing more is to be sent."""
        return monotonic() >= self.end_s

    def _ends(self, exchange: Exchange, then: Callable[[float], None] | None = None) -> None:
        self._ended += 1
        self._recorder.add(exchange)
        if self._all_due and self._ended == self._sent:
            self._done.set()
        if then is not None and exchange.end_s is not None:
            then(exchange.end_s)

    async def _tick(self) -> None:
        """Give up what has waited too long, and tell how it goes."""
        told_s = self.start_s
        while True:
            await asyncio.sleep(_SWEEP_S)
            now_s = monotonic()
            first_s = now_s - self.load.timeout_s
            while self._under_way and (self._under_way[0].end_s is not None or self._under_way[0].due_s < first_s):
                self._under_way.popleft().fail(Failure.TIMEOUT)
            if now_s - told_s >= _TELL_S:
                told_s = now_s
                why = self._observe(self._progress(now_s - self.start_s))
                if why is not None:
                    self.stop(why)

    def _progress(self, elapsed_s: float) -> Progress:
        return Progress(elapsed_s, self._sent, self._sent - self._ended, self._recorder.tally.outcome(elapsed_s))

    def _result(self, seconds: float, cpu_ratio: float, unsent: int) -> LoadResult:
        outcome, lag = self._recorder.tally.outcome(seconds), self._recorder.lag
        invalid = doubts(outcome, lag, cpu_ratio)
        if self.stopped == CANNOT_KEEP_UP:
            words = f"{CANNOT_KEEP_UP}: it sent {outcome.sent / seconds:.0f}/s of these requests; lower the rate"
            invalid = (words, *invalid)
        return LoadResult(outcome, lag, cpu_ratio, self._pool.opened, unsent, self.stopped, invalid)


class _Open:
    """Arrivals of a pattern."""

    def __init__(self, run: _Run, pattern: Pattern) -> None:
        self._run = run
        curve = pattern.curve(run.load.duration_s)
        run.end_s = run.start_s + curve.duration_s  # a trace may be shorter
        arrivals = curve.arrivals(pattern.spacing, Random(run.load.seed))  # noqa: S311 - repeatable, not secret
        self._times = (run.start_s + time_s for time_s in arrivals)
        self._next_s: float | None = None

    def begin(self) -> None:
        """Send the first request when it is due."""
        self._next_s = next(self._times, None)
        self._arrive()

    def unsent(self) -> int:
        """How many of those due by the end were not sent."""
        count = 0
        while self._next_s is not None and self._next_s <= self._run.end_s and count < _MOST_COUNTED:
            count, self._next_s = count + 1, next(self._times, None)
        return count

    def _arrive(self) -> None:
        run = self._run
        for _ in range(_AT_ONCE):
            if run.stopped is not None:
                return
            if self._next_s is None:
                run.all_due()
                return
            late_s = monotonic() - self._next_s
            if late_s < 0:
                break
            if late_s > run.load.timeout_s:
                run.stop(CANNOT_KEEP_UP)
                return
            run.ask(self._next_s)
            self._next_s = next(self._times, None)
        if self._next_s is None:
            run.all_due()
        else:
            run.timer.at(self._next_s, self._arrive)


class _Closed:
    """Users who each wait for their answer, think, and ask again."""

    def __init__(self, run: _Run, users: Users) -> None:
        self._run = run
        self._users = users
        self._started = 0

    def begin(self) -> None:
        """Start the first user."""
        self._run.timer.at(self._run.end_s, self._run.all_due)
        self._spawn()

    def unsent(self) -> int:
        """None: a user who is late asks later."""
        return 0

    def _spawn(self) -> None:
        self._ask(self._run.start_s + self._started / self._users.spawn_per_s)
        self._started += 1
        if self._started < self._users.users and not self._run.is_over:
            self._run.timer.at(self._run.start_s + self._started / self._users.spawn_per_s, self._spawn)

    def _ask(self, due_s: float) -> None:
        if not self._run.is_over:
            self._run.ask(due_s, self._think)

    def _think(self, answered_s: float) -> None:
        due_s = answered_s + self._users.think_s
        if due_s < self._run.end_s:
            # By way of the timer even without a pause: a target that refuses at once must not make this recursive.
            self._run.timer.at(due_s, partial(self._ask, due_s))


@contextmanager
def _quiet_collector() -> Iterator[None]:
    """Garbage collections over all that a load holds would be pauses of our making."""
    before = gc.get_threshold()
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 50, 1_000_000)
    try:
        yield
    finally:
        gc.set_threshold(*before)
        gc.unfreeze()


@contextmanager
def _interruptible(loop: asyncio.AbstractEventLoop, stop: Callable[[], None]) -> Iterator[None]:
    """Ctrl-C calls `stop`; only the main thread can be told."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    loop.add_signal_handler(signal.SIGINT, stop)
    try:
        yield
    finally:
        loop.remove_signal_handler(signal.SIGINT)
