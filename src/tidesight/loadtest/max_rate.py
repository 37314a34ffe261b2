"""The highest Poisson rate whose latency percentile meets an objective, shown with confidence.

As MLPerf Inference's Server scenario has it: Poisson arrivals, a percentile under a bound, the highest rate by
bisection over runs, and the early stopping criterion instead of a fixed number of requests (`workload.early_stopping`).
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any

from tidesight.loadtest.plan import INTERRUPTED, Load, Progress
from tidesight.loadtest.recorder import LoadResult
from tidesight.loadtest.runner import run
from tidesight.workload.arrivals import Poisson
from tidesight.workload.early_stopping import CONFIDENCE, fails, passes, requests_needed
from tidesight.workload.outcome import Outcome

_RESOLUTION = 1.05
_LONGER = 3.0  # a try may last so many times the duration, to gather the requests that the claim needs
_MOST_TRIES = 24
_OBJECTIVES = 20  # a try should last so many times the objective: MLPerf's last 600 s
_LEAST_RPS = 0.1
_MISSED = "the objective is missed"


@dataclass(frozen=True)
class Try:
    """One rate that was tried.

    Attributes:
        rate_rps: The mean rate sent.
        seconds: How long.
        requests: How many were sent.
        late: Of these, those over the objective or not answered with 2xx.
        passed: Whether they show that the percentile meets the objective.
        needed: Requests that so many late ones would have needed.
        invalid: Reasons not to believe it.
    """

    rate_rps: float
    seconds: float
    requests: int
    late: int
    passed: bool
    needed: int
    invalid: tuple[str, ...] = ()

    def words(self) -> str:
        """For a reader."""
        said = f"{self.late} of {self.requests} late or failed in {self.seconds:.1f} s: "
        if self.passed:
            return said + "met"
        return said + (f"too few to tell, {self.needed} needed" if self.late * 100 < self.requests else "missed")


@dataclass(frozen=True)
class MaxRate:
    """What a search found.

    Attributes:
        rate_rps: The highest rate that passed; None when none did.
        percentile: In (0, 1).
        objective_s: Its bound.
        confidence: Of each claim.
        tries: All that were made, in order.
        interrupted: Whether it was cut off by Ctrl-C.
        doubts: What to bear in mind.
    """

    rate_rps: float | None
    percentile: float
    objective_s: float
    confidence: float
    tries: tuple[Try, ...]
    interrupted: bool = False
    doubts: tuple[str, ...] = ()

    @property
    def lowest_rps(self) -> float:
        """The lowest rate tried."""
        return min((one.rate_rps for one in self.tries), default=0.0)

    def as_json(self) -> dict[str, Any]:
        """Everything as plain values."""
        return asdict(self)


class _Interrupted(Exception):
    pass


def find_max_rate(load: Load, percentile: float, start_rps: float | None, tell: Callable[[Try], None]) -> MaxRate:
    """Search: double from where it begins until a rate misses, then halve the gap until it is 5 %.

    Args:
        load: What to send; its pattern is replaced, its duration is that of each try.
        percentile: In (0, 1).
        start_rps: Where to begin; None is 10 a second.
        tell: Called after each try.

    Raises:
        TidesightError: the target cannot be connected to.
    """
    tries: list[Try] = []

    def passed(rate_rps: float) -> bool:
        one, result = _try(replace(load, pattern=Poisson(rate_rps), seed=load.seed + len(tries)), rate_rps, percentile)
        tries.append(one)
        tell(one)
        if result.stopped == INTERRUPTED:
            raise _Interrupted
        return one.passed

    interrupted = False
    try:
        _bisect(passed, start_rps or 10.0, tries)
    except _Interrupted:
        interrupted = True
    best = max((one.rate_rps for one in tries if one.passed), default=None)
    doubts = tuple(dict.fromkeys(reason for one in tries for reason in one.invalid))
    if best is not None and any(one.rate_rps < best and not one.passed for one in tries):
        doubts = ("a lower rate failed and a higher one passed: the machine is not quiet", *doubts)
    if best is not None and load.duration_s < _OBJECTIVES * load.objective_s:
        short = f"tries of {load.duration_s:g} s end before a queue that grows reaches the objective; --duration"
        doubts = (f"{short} {_OBJECTIVES * load.objective_s:g} or more tells", *doubts)
    return MaxRate(best, percentile, load.objective_s, CONFIDENCE, tuple(tries), interrupted, doubts)


def _bisect(passed: Callable[[float], bool], start_rps: float, tries: list[Try]) -> None:
    low = high = start_rps
    if passed(start_rps):
        while passed(high := 2 * low):
            low = high
            if len(tries) >= _MOST_TRIES:
                return
    else:
        while not passed(low := high / 2):
            high = low
            if low < _LEAST_RPS or len(tries) >= _MOST_TRIES:
                return
    while high / low > _RESOLUTION and len(tries) < _MOST_TRIES:
        middle = (low * high) ** 0.5
        if passed(middle):
            low = middle
        else:
            high = middle


def _try(load: Load, rate_rps: float, percentile: float) -> tuple[Try, LoadResult]:
    """One rate, for the duration, or longer while the requests are too few to tell."""
    # The claim needs so many requests even if a usual share of the allowed late ones turns up.
    wanted = requests_needed(2, percentile) / rate_rps
    duration_s = min(max(load.duration_s, wanted), _LONGER * load.duration_s)

    def observe(now: Progress) -> str | None:
        requests, late = now.outcome.sent, now.outcome.sent - now.outcome.good
        return _MISSED if fails(requests, late, percentile) else None

    result = run(replace(load, duration_s=duration_s), None, observe)
    outcome = _complete(result)
    late = outcome.sent - outcome.good
    needed = requests_needed(late, percentile)
    met = result.stopped is None and passes(outcome.sent, late, percentile) and not result.unsent
    # What the generator did late only makes latencies longer: a pass is a pass, a miss may be the generator's.
    invalid = () if met else tuple(reason for reason in result.invalid)
    return Try(rate_rps, outcome.seconds, outcome.sent, late, met, needed, invalid), result


def _complete(result: LoadResult) -> Outcome:
    """The figures without what was given up when the try was stopped: those had not missed anything yet."""
    outcome = result.outcome
    given_up = outcome.failures.get("unfinished", 0)
    return replace(outcome, sent=outcome.sent - given_up) if result.stopped else outcome
