"""The requests of a run, reduced to three columns: when due, how long, what became of it."""

from dataclasses import dataclass
from enum import IntEnum
from functools import cached_property
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from tidesight.runs.reader import Requests
from tidesight.workload.outcome import REFUSALS, Failure

Floats = npt.NDArray[np.float64]
_WIDTHS_S = (1.0, 2.0, 5.0, 10.0, 15.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0)
_MOST_BINS = 180
_RESOLUTION_S = 1e-6


class Fate(IntEnum):
    """What became of a request."""

    GOOD = 0
    LATE = 1
    REFUSED = 2
    CLIENT = 3
    SERVER = 4
    TIMEOUT = 5
    NONE = 6


FATES = {
    Fate.GOOD: "2xx within the objective",
    Fate.LATE: "2xx, too late",
    Fate.REFUSED: "refused (429, 503)",
    Fate.CLIENT: "other 1xx to 4xx",
    Fate.SERVER: "other 5xx",
    Fate.TIMEOUT: "caller gave up (time-out)",
    Fate.NONE: "connection failed, or unfinished",
}


@dataclass(frozen=True)
class Answers:
    """The requests of a run in the order in which they were due.

    Attributes:
        due_s: float64.
        latency_s: float64, from when due to the end; NaN for what had none.
        fate: int8, a `Fate`.
    """

    due_s: Floats
    latency_s: Floats
    fate: npt.NDArray[np.int8]

    def __len__(self) -> int:
        """How many."""
        return len(self.due_s)

    @cached_property
    def served(self) -> npt.NDArray[np.bool_]:
        """Which were answered with 2xx, late or not."""
        return self.fate <= Fate.LATE

    @property
    def first_s(self) -> float:
        """When the first was due."""
        return float(self.due_s[0])

    @property
    def seconds(self) -> float:
        """From the first one due to the last, at least a second."""
        return max(1.0, float(self.due_s[-1] - self.due_s[0])) if len(self) else 0.0

    def share(self, *fates: Fate) -> float | None:
        """The part of all requests with one of these fates."""
        return float(np.isin(self.fate, fates).mean()) if len(self) else None


def reduced(requests: Requests, objective_s: float | None) -> Answers:
    """Three columns from a run's eight. Without an objective every 2xx is good."""
    order = np.argsort(requests.intended_s, kind="stable")
    status, latency_s = requests.status, requests.latency_s
    failed = (status == 0) | (requests.error != None)  # noqa: E711  # element by element
    fate = np.full(len(requests), Fate.NONE, np.int8)
    fate[failed & (requests.error == Failure.TIMEOUT.value)] = Fate.TIMEOUT
    fate[~failed] = Fate.CLIENT
    fate[~failed & (status >= 500)] = Fate.SERVER
    fate[~failed & np.isin(status, REFUSALS)] = Fate.REFUSED
    fate[~failed & (status >= 200) & (status < 300)] = Fate.GOOD
    if objective_s is not None:
        fate[(fate == Fate.GOOD) & ~(latency_s <= objective_s)] = Fate.LATE
    return Answers(requests.intended_s[order], latency_s[order], fate[order])


def percentile_s(latency_s: Floats, percent: float) -> float | None:
    """The time that `percent` of all do not exceed: one that did occur, never one between two; None without any."""
    if not len(latency_s):
        return None
    return float(np.percentile(latency_s, percent, method="inverted_cdf"))


def bin_width_s(seconds: float) -> float:
    """A round width that gives some hundred bins at most, and never less than a second."""
    return next((width for width in _WIDTHS_S if seconds / width <= _MOST_BINS), max(_WIDTHS_S[-1], seconds / 100))


@dataclass(frozen=True)
class Binned:
    """What happened in each stretch of time; all columns are as long as `at_s`.

    Attributes:
        at_s: Where each bin begins, from the first request due.
        width_s: Of a bin.
        percentiles_s: Of 2xx, by percent; NaN in bins without one. A request belongs to the bin in which it was due.
        fates: By `Fate`, how many requests due in it.
        answered: 2xx answers that arrived in it.
        good: Of these, those within the objective.
    """

    at_s: Floats
    width_s: float
    percentiles_s: dict[float, Floats]
    fates: dict[Fate, npt.NDArray[np.int64]]
    answered: npt.NDArray[np.int64]
    good: npt.NDArray[np.int64]

    @property
    def middle_s(self) -> Floats:
        """The middle of each bin."""
        return self.at_s + self.width_s / 2

    @property
    def offered(self) -> npt.NDArray[np.int64]:
        """Requests due in each bin."""
        found: npt.NDArray[np.int64] = np.sum(list(self.fates.values()), axis=0).astype(np.int64)
        return found


def binned(answers: Answers, width_s: float, seconds: float, percents: tuple[float, ...]) -> Binned:
    """Reduce to bins.

    Args:
        answers: At least one.
        width_s: Of a bin.
        seconds: How long requests were sent; later ones count in the last bin.
        percents: Which percentiles.
    """
    count = max(1, int(np.ceil(seconds / width_s - 1e-9)))
    since_s = answers.due_s - answers.first_s + _RESOLUTION_S  # 2.9999995 s is 3 s as it was written
    place = np.minimum((since_s // width_s).astype(np.int64), count - 1)
    fates = {fate: np.bincount(place[answers.fate == fate], minlength=count) for fate in Fate}
    ends = (since_s[answers.served] + answers.latency_s[answers.served]) // width_s
    arrived = ends < count  # those answered after the last request was due have no bin
    good = answers.fate[answers.served] == Fate.GOOD
    return Binned(
        np.arange(count, dtype=np.float64) * width_s,
        width_s,
        _percentiles(place[answers.served], answers.latency_s[answers.served], count, percents),
        fates,
        np.bincount(ends[arrived].astype(np.int64), minlength=count),
        np.bincount(ends[arrived & good].astype(np.int64), minlength=count),
    )


def _percentiles(
    place: npt.NDArray[np.int64], latency_s: Floats, count: int, percents: tuple[float, ...]
) -> dict[float, Floats]:
    """`place` is in order, so that a bin is a slice."""
    edges = np.searchsorted(place, np.arange(count + 1))
    found = {percent: np.full(count, np.nan) for percent in percents}
    for bin_, (start, end) in enumerate(pairwise(edges.tolist())):
        if start < end:
            values = np.percentile(latency_s[start:end], percents, method="inverted_cdf")
            for percent, value in zip(percents, values, strict=True):
                found[percent][bin_] = value
    return found
