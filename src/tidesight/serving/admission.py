"""Admission: whether a request can still be answered in time, decided before any work is done for it.

Order: first come, first served. An admitted request is done in the order in which its body was complete, whoever
sent it and however long it would still wait; none overtakes. That is fair among requests, not among callers: an
instance behind a load balancer sees one caller, so shares for callers belong where callers can be told apart.
To serve the most urgent first would not answer more in time either, for whoever is admitted is expected to be in time.

Refusals: a request is refused, at best from its head alone, when

- its predicted wait, with a margin for how far predictions were off lately, is longer than its deadline;
- `max_queue` requests wait already;
- the bodies held would take more memory than there is for them (`BodyBudget`).

Serving it anyway would only make those behind it late as well. `retry_after_s` is how long the work at hand has to
shrink until such a request would be let in, if nobody else came meanwhile.

The prediction: each worker's service time is a smoothed mean, in which one slow picture counts at most five times.
Workers take from one queue, so a place in it costs the time in which all of them together finish one request.
"""

from tidesight.errors import Overloaded

_SMOOTHING = 0.1  # weight of the newest service time
_OUTLIER = 5.0  # one slow picture counts at most this many times the current estimate
_DOUBT = (
    0.9  # how far one refusal while a worker is free lowers the idea of the quickest answer, and how far it is trusted
)
_FORGETTING = 1.01  # the quickest answer is forgotten by so much with every answer
_LATE_SHARE = 0.02  # the margin is one that this share of the admitted overruns
_MARGIN_STEP = 0.1
_LARGEST_MARGIN = 3.0  # a queue that was stopped for a while must not close the door for long


class Admission:
    """Counts what is in the instance and predicts waits; owned by the event loop.

    Args:
        workers: Worker threads, >= 1.
        max_queue: Requests that may wait beyond those being worked on, >= 0.
        service_s: First estimate of the seconds a worker takes for one request; learned from then on.

    Attributes:
        in_flight: Requests admitted and not yet finished.
        margin: What a predicted wait is multiplied by to be a cautious one, 1 to 3. All but a few of the admitted
            requests are done in that time: one that was not raises it, every other lowers it a fiftieth as much, so
            it rests where one in fifty is late. Neighbours on the CPUs show here before they show in service times.
    """

    def __init__(self, workers: int, max_queue: int, service_s: float) -> None:
        self.workers = workers
        self.max_queue = max_queue
        self.in_flight = 0
        self.margin = 1.0
        self._service_s = [service_s] * workers
        self._quickest_s = service_s
        self._doubted = False

    @property
    def service_s(self) -> float:
        """Seconds a worker takes for one request: the workers' harmonic mean, which is what they achieve together."""
        return self.workers / sum(1 / seconds for seconds in self._service_s)

    @property
    def queued(self) -> int:
        """Requests that wait for a worker."""
        return max(0, self.in_flight - self.workers)

    def predicted_wait_s(self) -> float:
        """Seconds until a request that came now would be done, its own service included."""
        ahead = max(0, self.in_flight - self.workers + 1)
        return (ahead / self.workers + 1) * self.service_s

    def latest_start_s(self, expires_at_s: float) -> float:
        """When a worker must begin, at the latest, for an answer by `expires_at_s` to be possible at all."""
        # With some slack: whoever was let in by these figures must not miss them by the time it takes to begin.
        return expires_at_s - _DOUBT * min(self._quickest_s, self.service_s)

    def admit(self, deadline_s: float) -> float:
        """Take a request in, whose body is there; `finish` must follow.

        Args:
            deadline_s: Seconds the caller will still wait.

        Returns:
            The seconds it is predicted to take.

        Raises:
            Overloaded: see `check`.
        """
        self.check(deadline_s)
        predicted_s = self.predicted_wait_s()
        self.in_flight += 1
        return predicted_s

    def check(self, deadline_s: float) -> None:
        """Whether a request could be taken in now; asked before its body is read.

        Args:
            deadline_s: Seconds the caller will still wait.

        Raises:
            Overloaded: it would wait too long, or the queue is full; `retry_after_s` says when it would not.
        """
        predicted_s = self.predicted_wait_s()
        cautious_s = predicted_s * self.margin
        if self.in_flight < self.workers:
            # A free worker tries whatever could be in time: nobody waits behind it. Else slow pictures could raise the
            # estimate over every deadline, and nothing admitted would lower it. Nor must the quickest answer seen be
            # believed for ever: after some refusals one request is let in to see.
            cautious_s = min(predicted_s, self._quickest_s)
            if cautious_s > deadline_s:
                self._quickest_s *= _DOUBT
                self._doubted = True
        if cautious_s > deadline_s:
            raise Overloaded(
                f"the answer could take {cautious_s:.2f} s and the deadline is {deadline_s:.2f} s; retry later",
                retry_after_s=max(self.service_s, predicted_s - deadline_s / self.margin),
            )
        if self.in_flight >= self.workers + self.max_queue:
            detail = f"{self.max_queue} requests are waiting already; retry later"
            raise Overloaded(detail, retry_after_s=predicted_s / 2, reason="queue_full")

    def finish(self, service_s: float | None = None, worker: int | None = None) -> None:
        """Let a request go; learn from the seconds a worker spent on it, when one did.

        Args:
            service_s: Seconds of work, or None when it was not done to the end.
            worker: Which worker, 0 to `workers` - 1.
        """
        self.in_flight -= 1
        if service_s is not None and worker is not None:
            # A request let in to see replaces what was doubted; any other can only show that it goes quicker.
            known_s = self._service_s[worker]
            seen_s = min(service_s, _OUTLIER * known_s)
            self._quickest_s = seen_s if self._doubted else min(self._quickest_s * _FORGETTING, seen_s)
            self._doubted = False
            self._service_s[worker] += _SMOOTHING * (seen_s - known_s)

    def learn_wait(self, predicted_s: float, took_s: float) -> None:
        """Learn how far a prediction was off.

        Args:
            predicted_s: What `admit` said.
            took_s: Seconds from then until the answer, or until it was given up for being late.
        """
        late = took_s > predicted_s * self.margin
        step = _MARGIN_STEP * (1 - _LATE_SHARE if late else -_LATE_SHARE)
        self.margin = min(max(1.0, self.margin + step), _LARGEST_MARGIN)


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
