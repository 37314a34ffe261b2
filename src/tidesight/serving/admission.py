"""Admission: whether a request can still be answered in time, decided before any work is done for it.

First come, first served: every admitted request is done in the order of admission, whoever sent it. A
request is refused when the queue is full or when its predicted wait exceeds its deadline; serving it
anyway would only make those behind it late as well.
"""

from dataclasses import dataclass

from tidesight.errors import Overloaded

_SMOOTHING = 0.1  # weight of the newest service time
_OUTLIER = 5.0  # one slow picture counts at most this many times the current estimate
_DOUBT = 0.9  # how far one refusal by an idle instance lowers its idea of the quickest answer


@dataclass
class Admission:
    """Counts what is in the instance and predicts waits; owned by the event loop.

    Attributes:
        workers: Worker threads, >= 1.
        max_queue: Requests that may wait beyond those being worked on, >= 0.
        service_s: Estimated seconds a worker takes for one request; set by the warm-up, then learned.
        in_flight: Requests admitted and not yet finished.
    """

    workers: int
    max_queue: int
    service_s: float
    in_flight: int = 0

    def __post_init__(self) -> None:
        self._quickest_s = self.service_s
        self._doubted = False

    def predicted_wait_s(self) -> float:
        """Seconds until a request that came now would be done, its own service included."""
        ahead = max(0, self.in_flight - self.workers + 1)
        return (ahead / self.workers + 1) * self.service_s

    def admit(self, deadline_s: float) -> None:
        """Take a request in, whose body is there; `finish` must follow.

        Args:
            deadline_s: Seconds the caller will still wait.

        Raises:
            Overloaded: see `check`.
        """
        self.check(deadline_s)
        self.in_flight += 1

    def check(self, deadline_s: float) -> None:
        """Whether a request could be taken in now; asked before its body is read.

        Args:
            deadline_s: Seconds the caller will still wait.

        Raises:
            Overloaded: it would wait too long, or the queue is full; `retry_after_s` says when it would not.
        """
        wait_s = self.predicted_wait_s()
        if self.in_flight == 0:
            # Else slow pictures could raise the estimate over every deadline, and nothing admitted would lower it. Nor
            # must the quickest answer seen be believed for ever: after some refusals one request is let in to see.
            wait_s = min(wait_s, self._quickest_s)
            if wait_s > deadline_s:
                self._quickest_s *= _DOUBT
                self._doubted = True
        if wait_s > deadline_s:
            raise Overloaded(
                f"the answer would take {wait_s:.2f} s and the deadline is {deadline_s:.2f} s; retry later",
                retry_after_s=max(self.service_s, wait_s - deadline_s),
            )
        if self.in_flight >= self.workers + self.max_queue:
            detail = f"{self.max_queue} requests are waiting already; retry later"
            raise Overloaded(detail, retry_after_s=wait_s / 2, reason="queue_full")

    def finish(self, service_s: float | None = None) -> None:
        """Let a request go; learn from the seconds a worker spent on it, when one did."""
        self.in_flight -= 1
        if service_s is not None:
            # A request let in to see replaces what was doubted; any other can only show that it goes quicker.
            self._quickest_s = service_s if self._doubted else min(self._quickest_s, service_s)
            self._doubted = False
            sample = min(service_s, _OUTLIER * self.service_s)
            self.service_s += _SMOOTHING * (sample - self.service_s)

    @property
    def queued(self) -> int:
        """Requests that wait for a worker."""
        return max(0, self.in_flight - self.workers)


class BodyBudget:
    """Bounds the bytes of all request bodies held at a time; owned by the event loop.

    Args:
        limit_bytes: Together, >= the largest single body.
    """

    def __init__(self, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self.held_bytes = 0

    def holding(self) -> "HeldBody":
        """Room for one more body, for as long as a `with` block lasts."""
        return HeldBody(self)

    def take(self, size_bytes: int) -> None:
        """Hold more.

        Raises:
            Overloaded: that would be too much.
        """
        if self.held_bytes + size_bytes > self._limit_bytes:
            raise Overloaded("too many bytes are waiting already; retry later", retry_after_s=1.0, reason="memory")
        self.held_bytes += size_bytes


class HeldBody:
    """What one request holds of a `BodyBudget`; leaving the `with` block gives it back."""

    def __init__(self, budget: BodyBudget) -> None:
        self._budget = budget
        self._size_bytes = 0

    def __enter__(self) -> "HeldBody":
        return self

    def __exit__(self, *_: object) -> None:
        self._budget.held_bytes -= self._size_bytes

    def grow(self, size_bytes: int) -> None:
        """Hold more.

        Raises:
            Overloaded: too much is held in all.
        """
        self._budget.take(size_bytes)
        self._size_bytes += size_bytes
