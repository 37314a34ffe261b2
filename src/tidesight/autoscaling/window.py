"""Windows over the past as Knative keeps them: averages of time buckets, and a maximum.

The rules are those of knative/serving `pkg/autoscaler/aggregation/bucketing.go` and `aggregation/max`.
"""

import math
from dataclasses import dataclass, replace
from typing import Literal

Algorithm = Literal["linear", "exponential"]
_WEIGHT_PRECISION = 0.9999
_MIN_EXPONENT = 0.2
_DIGITS = 1e6


def smoothing_coefficient(buckets: float) -> float:
    """The weight of the newest bucket: so that the weights of all add up to 0.9999, and at least 0.2."""
    return max(1 - math.pow(1 - _WEIGHT_PRECISION, 1 / buckets), _MIN_EXPONENT)


@dataclass(frozen=True, slots=True)
class AverageWindow:
    """The average over a window of time buckets; recording gives a new window.

    Attributes:
        window_s: Its length.
        granularity_s: The length of a bucket; values of the same bucket add up.
        algorithm: "linear": all buckets alike, those without a value are 0, and a window that is not yet full divides
            by what it covers. "exponential": newer buckets weigh more; not normalised, as upstream.
        first: The first bucket written since the window was last empty; None before any.
        last: The newest bucket written.
        buckets: (bucket, value) in no particular order; only those that can still count.
    """

    window_s: float
    granularity_s: float = 1.0
    algorithm: Algorithm = "linear"
    first: int | None = None
    last: int | None = None
    buckets: tuple[tuple[int, float], ...] = ()

    @property
    def size(self) -> int:
        """The number of buckets."""
        return math.ceil(self.window_s / self.granularity_s)

    def bucket(self, at_s: float) -> int:
        """The bucket of a time."""
        return math.floor(at_s / self.granularity_s)

    def record(self, at_s: float, value: float) -> "AverageWindow":
        """With `value` added to the bucket of `at_s`; a value that is a window late is dropped."""
        index, reach = self.bucket(at_s), self.window_s / self.granularity_s
        if self.last is None or self.first is None or index - self.last >= reach:
            return replace(self, first=index, last=index, buckets=((index, value),))
        if index != self.last and index + reach <= self.last:
            return self
        last = max(self.last, index)
        totals = {bucket: total for bucket, total in self.buckets if bucket > last - self.size}
        totals[index] = totals.get(index, 0.0) + value
        return replace(self, first=min(self.first, index), last=last, buckets=tuple(totals.items()))

    def is_empty(self, at_s: float) -> bool:
        """Whether nothing was recorded for longer than the window."""
        return self.last is None or (self.bucket(at_s) - self.last) * self.granularity_s > self.window_s

    def average(self, at_s: float) -> float:
        """The average at a time; 0 for an empty window."""
        if self.last is None or self.first is None or self.is_empty(at_s):
            return 0.0
        behind = max(0, self.bucket(at_s) - self.last)
        if self.algorithm == "exponential":
            return self._weighted(behind)
        if behind * self.granularity_s >= self.window_s:
            return 0.0
        total = math.fsum(value for bucket, value in self.buckets if bucket > self.last + behind - self.size)
        covered = min(self.last - self.first + 1, self.size - behind)
        return math.floor(total / covered * _DIGITS) / _DIGITS

    def _weighted(self, behind: int) -> float:
        assert self.last is not None
        coefficient = smoothing_coefficient(self.size)
        oldest = self.last + behind - self.size
        return math.fsum(
            value * coefficient * (1 - coefficient) ** (self.last + behind - bucket)
            for bucket, value in self.buckets
            if bucket > oldest
        )


@dataclass(frozen=True, slots=True)
class MaxWindow:
    """The maximum of what was recorded within a window; recording gives a new window.

    Attributes:
        window_s: Its length.
        granularity_s: The length of a bucket; of values in the same bucket the largest counts.
        maxima: (bucket, value) by time, each larger than all after it.
    """

    window_s: float
    granularity_s: float = 1.0
    maxima: tuple[tuple[int, int], ...] = ()

    def record(self, at_s: float, value: int) -> "MaxWindow":
        """With `value` in the bucket of `at_s`; times must not go back."""
        index = math.floor(at_s / self.granularity_s)
        size = math.ceil(self.window_s / self.granularity_s)
        kept = tuple((bucket, past) for bucket, past in self.maxima if past > value and index - bucket < size)
        if kept and kept[-1][0] == index:
            return replace(self, maxima=kept)
        return replace(self, maxima=(*kept, (index, value)))

    @property
    def current(self) -> int:
        """The maximum as of the last `record`; 0 before any."""
        return self.maxima[0][1] if self.maxima else 0
