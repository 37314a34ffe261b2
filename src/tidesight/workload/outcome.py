"""What came of a load: percentiles, status classes, failures, and the goodput within an objective."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from tidesight.errors import MissingExtra

try:
    from hdrh.histogram import HdrHistogram
except ImportError:
    raise MissingExtra("hdrhistogram", "load") from None

_MICRO = 1e6
_HIGHEST_US = 3_600_000_000
_FIGURES = 3
PERCENTILES = (50.0, 90.0, 95.0, 99.0, 99.9)
REFUSALS = (429, 503)
"""Statuses by which an instance or its platform refuses work before doing it."""


class Failure(StrEnum):
    """Why a request has no answer; the words of the column `error`."""

    TIMEOUT = "timeout"
    REFUSED = "refused"
    """The connection was refused: nothing listens there."""
    RESET = "reset"
    """The connection broke before the answer was complete."""
    DNS = "dns"
    TLS = "tls"
    """No trusted connection could be made: wrong certificate, no TLS."""
    UNREACHABLE = "unreachable"
    """No way there: no route, no address."""
    PROTOCOL = "protocol"
    """What came back is not HTTP."""
    EXHAUSTED = "exhausted"
    """This machine has no more ports or file descriptors."""
    UNFINISHED = "unfinished"
    """Still under way when the run was stopped."""


ERRORS = tuple(Failure)


class Latencies:
    """Times in an HDR histogram: a microsecond to an hour, three significant digits, mergeable.

    Percentiles of parts must be merged, never averaged (Tene, hdrhistogram.org).
    """

    def __init__(self) -> None:
        self._histogram = HdrHistogram(1, _HIGHEST_US, _FIGURES)

    def add(self, seconds: float) -> None:
        """One time; what is outside the range counts as its end."""
        self._histogram.record_value(_clipped_us(seconds))

    def add_all(self, seconds: npt.NDArray[np.float64]) -> None:
        """Many times."""
        rounded = np.clip(np.rint(seconds * _MICRO), 0, _HIGHEST_US).astype(np.int64)
        for value, count in zip(*map(np.ndarray.tolist, np.unique(rounded, return_counts=True)), strict=True):
            self._histogram.record_value(value, count)

    def merge(self, other: "Latencies") -> None:
        """Add all of another's times."""
        self._histogram.add(other._histogram)

    @property
    def count(self) -> int:
        """How many times there are."""
        return int(self._histogram.get_total_count())

    def percentile_s(self, percent: float) -> float | None:
        """The time that `percent` of all do not exceed, exact to 0.1 %; None where there is none."""
        return self._histogram.get_value_at_percentile(percent) / _MICRO if self.count else None

    @property
    def max_s(self) -> float | None:
        """The longest time."""
        return self._histogram.get_max_value() / _MICRO if self.count else None

    @property
    def mean_s(self) -> float | None:
        """The mean."""
        return self._histogram.get_mean_value() / _MICRO if self.count else None

    def as_json(self) -> dict[str, float]:
        """Count, mean, percentiles and maximum in seconds; only the count where there is nothing."""
        if not self.count:
            return {"count": 0}
        named = {f"p{percent:g}_s": self.percentile_s(percent) for percent in PERCENTILES}
        found = {"count": self.count, "mean_s": self.mean_s, **named, "max_s": self.max_s}
        return {name: round(value, 6) for name, value in found.items() if value is not None}

    def encoded(self) -> str:
        """The histogram in HdrHistogram's own compressed base64 form, which its other tools read."""
        data: bytes = self._histogram.encode()
        return data.decode()

    @classmethod
    def decoded(cls, text: str) -> Self:
        """The histogram that `encoded` gave."""
        made = cls()
        made._histogram.decode_and_add(text.encode())
        return made


def _clipped_us(seconds: float) -> int:
    return min(max(round(seconds * _MICRO), 0), _HIGHEST_US)


@dataclass(frozen=True)
class Outcome:
    """The figures of a load, or of a part of it.

    Attributes:
        seconds: How long it lasted, from the first request due to the last one due or sent.
        sent: Requests that were due, whatever came of them.
        good: Answered with 2xx within the objective.
        statuses: Answers by status.
        failures: Requests without an answer, by `Failure`.
        latencies: Of answers with 2xx, from when they were due.
        refusals: Of answers with a status of `REFUSALS`, likewise.
        objective_s: What `good` was judged by.
    """

    seconds: float
    sent: int
    good: int
    statuses: dict[int, int]
    failures: dict[str, int]
    latencies: Latencies
    refusals: Latencies
    objective_s: float

    @property
    def answered(self) -> int:
        """Answers with 2xx, late ones too."""
        return self.latencies.count

    @property
    def refused(self) -> int:
        """Answers with a status of `REFUSALS`."""
        return self.refusals.count

    @property
    def goodput_rps(self) -> float:
        """Good answers a second."""
        return self.good / self.seconds if self.seconds else 0.0

    def as_json(self) -> dict[str, Any]:
        """Everything as plain values."""
        classes: Counter[str] = Counter()
        for status, count in self.statuses.items():
            classes[f"{status // 100}xx"] += count
        per_s = 1 / self.seconds if self.seconds else 0.0
        return {
            "seconds": round(self.seconds, 3),
            "sent": self.sent,
            "sent_rps": round(self.sent * per_s, 3),
            "answered": self.answered,
            "answered_rps": round(self.answered * per_s, 3),
            "good": self.good,
            "goodput_rps": round(self.goodput_rps, 3),
            "good_ratio": round(self.good / self.sent, 6) if self.sent else None,
            "objective_s": self.objective_s,
            "refused": self.refused,
            "timeouts": self.failures.get(Failure.TIMEOUT, 0),
            "status_classes": dict(sorted(classes.items())),
            "statuses": {str(status): count for status, count in sorted(self.statuses.items())},
            "failures": dict(sorted(self.failures.items())),
            "latency": self.latencies.as_json(),
            "refusal_latency": self.refusals.as_json(),
        }


class Tally:
    """Counts requests as they end; the sum of several tallies is that of all their requests."""

    def __init__(self, objective_s: float) -> None:
        self.objective_s = objective_s
        self.latencies = Latencies()
        self.refusals = Latencies()
        self.statuses: Counter[int] = Counter()
        self.failures: Counter[str] = Counter()
        self.good = 0

    def add(self, latency_s: float, status: int | None, error: str | None) -> bool:
        """Count a request that has ended.

        Args:
            latency_s: From when it was due.
            status: Of its answer, or None.
            error: Why there is none.

        Returns:
            Whether it is good: 2xx within the objective.
        """
        if error is not None or status is None:
            self.failures[error or Failure.RESET] += 1
            return False
        self.statuses[status] += 1
        if status in REFUSALS:
            self.refusals.add(latency_s)
        if not 200 <= status < 300:
            return False
        self.latencies.add(latency_s)
        good = latency_s <= self.objective_s
        self.good += good
        return good

    def add_all(
        self, latency_s: npt.NDArray[np.float64], status: npt.NDArray[np.int16], error: Iterable[str | None]
    ) -> None:
        """Count many that have ended, as the columns of a run: status 0 is no answer."""
        words = np.asarray(error, np.object_)
        failed = np.array([word is not None for word in words], np.bool_) | (status == 0)
        self.failures.update(word or Failure.RESET for word in words[failed])
        answered = status[~failed]
        self.statuses.update(dict(zip(*map(np.ndarray.tolist, np.unique(answered, return_counts=True)), strict=True)))
        good = ~failed & (status >= 200) & (status < 300)
        self.latencies.add_all(latency_s[good])
        self.refusals.add_all(latency_s[~failed & np.isin(status, REFUSALS)])
        self.good += int(np.count_nonzero(latency_s[good] <= self.objective_s))

    def merge(self, other: "Tally") -> None:
        """Add all that another has counted."""
        self.latencies.merge(other.latencies)
        self.refusals.merge(other.refusals)
        self.statuses += other.statuses
        self.failures += other.failures
        self.good += other.good

    @property
    def ended(self) -> int:
        """How many requests were counted."""
        return self.statuses.total() + self.failures.total()

    def outcome(self, seconds: float) -> Outcome:
        """What there is so far, as figures over `seconds`."""
        counts = (dict(self.statuses), dict(self.failures))
        return Outcome(seconds, self.ended, self.good, *counts, self.latencies, self.refusals, self.objective_s)
