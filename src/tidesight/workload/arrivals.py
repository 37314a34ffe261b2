"""When requests are due in an open loop: a rate over time, and how arrivals are spaced along it.

Every pattern is a `RateCurve`, straight lines between points; arrivals follow by time rescaling (Cinlar, Introduction
to Stochastic Processes, 1975, ch. 4.7): a process of rate 1 is drawn, even or Poisson, and put where the curve's
integral reaches it. So the expected count of any stretch is the curve's area, whatever the pattern.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from random import Random
from typing import Literal, Protocol

from tidesight.errors import ConfigError

Spacing = Literal["poisson", "even"]
_DIURNAL_POINTS = 96  # for each cycle; straight lines between them stay within 0.06 % of the cosine's swing


@dataclass(frozen=True)
class RateCurve:
    """Requests a second over time: straight lines between points, jumps where two points share a time.

    Attributes:
        points: (t_s, rate_rps), times not falling, the first at 0; the last is the end.

    Raises:
        ConfigError: fewer than two points, times that fall, or a rate that is negative or not finite.
    """

    points: tuple[tuple[float, float], ...]

    def __post_init__(self) -> None:
        times = [t_s for t_s, _ in self.points]
        if len(times) < 2 or times[0] != 0 or times != sorted(times) or not 0 < times[-1] < math.inf:
            raise ConfigError("a rate over time needs points from 0 s to an end after it, in order", field="points")
        for t_s, rate_rps in self.points:
            if not 0 <= rate_rps < math.inf:
                raise ConfigError(f"expected a finite rate of at least 0, got {rate_rps:g}/s at {t_s:g} s", "rate_rps")

    @property
    def duration_s(self) -> float:
        """Its end."""
        return self.points[-1][0]

    @property
    def expected(self) -> float:
        """The mean number of arrivals."""
        return sum(0.5 * (a + b) * (end_s - start_s) for start_s, a, end_s, b in self._pieces())

    @property
    def peak_rps(self) -> float:
        """The highest rate."""
        return max(rate_rps for _, rate_rps in self.points)

    def arrivals(self, spacing: Spacing, random: Random) -> Iterator[float]:
        """Times of the arrivals in seconds, in order, from 0 to the curve's end.

        Args:
            spacing: "poisson" (exponential gaps of the rescaled time) or "even" (equal ones; the first at the start).
            random: Not used for "even".
        """
        target = 0.0 if spacing == "even" else random.expovariate(1.0)
        before = 0.0
        for start_s, a, end_s, b in self._pieces():
            area = 0.5 * (a + b) * (end_s - start_s)
            while target < before + area:
                yield start_s + _inverse(target - before, a, (b - a) / (end_s - start_s))
                target += 1.0 if spacing == "even" else random.expovariate(1.0)
            before += area

    def _pieces(self) -> Iterator[tuple[float, float, float, float]]:
        """(start, rate there, end, rate there), without the jumps."""
        for (start_s, a), (end_s, b) in pairwise(self.points):
            if end_s > start_s:
                yield start_s, a, end_s, b


def _inverse(area: float, rate: float, slope: float) -> float:
    """The x at which the integral of `rate + slope * x` from 0 reaches `area`."""
    # The usual formula for a quadratic's root with its fraction turned over: exact for slope 0 too.
    return 2 * area / (rate + math.sqrt(max(0.0, rate * rate + 2 * slope * area))) if area else 0.0


class Pattern(Protocol):
    """A rate over time that lasts as long as it is asked to, and how arrivals are spaced along it."""

    @property
    def spacing(self) -> Spacing:
        """How arrivals are spaced."""
        ...

    def curve(self, duration_s: float) -> RateCurve:
        """The rate from 0 to `duration_s`."""
        ...


@dataclass(frozen=True)
class Constant:
    """Evenly spaced requests at one rate. Understates queueing: real callers do not take turns."""

    rate_rps: float
    spacing: Spacing = "even"

    def curve(self, duration_s: float) -> RateCurve:
        """Flat."""
        return RateCurve(((0.0, self.rate_rps), (duration_s, self.rate_rps)))


@dataclass(frozen=True)
class Poisson:
    """Callers who know nothing of each other, at one mean rate."""

    rate_rps: float
    spacing: Spacing = "poisson"

    def curve(self, duration_s: float) -> RateCurve:
        """Flat."""
        return RateCurve(((0.0, self.rate_rps), (duration_s, self.rate_rps)))


@dataclass(frozen=True)
class Ramp:
    """From one rate to another in a straight line."""

    rate_rps: float
    peak_rps: float
    spacing: Spacing = "poisson"

    def curve(self, duration_s: float) -> RateCurve:
        """One line."""
        return RateCurve(((0.0, self.rate_rps), (duration_s, self.peak_rps)))


@dataclass(frozen=True)
class Step:
    """One rate, then another, then the first again; each change at once.

    Attributes:
        up_s: When the rate changes; None is after a third of the duration.
        down_s: When it changes back; None is after two thirds; beyond the end is never.
    """

    rate_rps: float
    peak_rps: float
    up_s: float | None = None
    down_s: float | None = None
    spacing: Spacing = "poisson"

    def curve(self, duration_s: float) -> RateCurve:
        """Three flat pieces."""
        up_s = duration_s / 3 if self.up_s is None else self.up_s
        down_s = 2 * duration_s / 3 if self.down_s is None else self.down_s
        if not 0 <= up_s <= down_s or up_s > duration_s:
            raise ConfigError(f"a step up at {up_s:g} s and down at {down_s:g} s does not fit in {duration_s:g} s")
        return _flat([(0.0, self.rate_rps), (up_s, self.peak_rps), (down_s, self.rate_rps)], duration_s)


@dataclass(frozen=True)
class Burst:
    """A base rate with a burst at the start of every period but the first.

    Attributes:
        period_s: From burst to burst.
        burst_s: How long each lasts.
    """

    rate_rps: float
    peak_rps: float
    period_s: float = 20.0
    burst_s: float = 2.0
    spacing: Spacing = "poisson"

    def curve(self, duration_s: float) -> RateCurve:
        """Flat pieces."""
        if not 0 < self.burst_s < self.period_s:
            raise ConfigError(f"bursts of {self.burst_s:g} s do not fit into periods of {self.period_s:g} s", "burst_s")
        starts = [(0.0, self.rate_rps)]
        for number in range(1, math.ceil(duration_s / self.period_s)):
            begin_s = number * self.period_s
            starts += [(begin_s, self.peak_rps), (begin_s + self.burst_s, self.rate_rps)]
        return _flat(starts, duration_s)


@dataclass(frozen=True)
class Diurnal:
    """A day: a cosine from the lowest rate to the highest and back.

    Attributes:
        rate_rps: The lowest, at the start.
        peak_rps: The highest, half a period later.
        period_s: Of a whole day; None is the duration.
    """

    rate_rps: float
    peak_rps: float
    period_s: float | None = None
    spacing: Spacing = "poisson"

    def curve(self, duration_s: float) -> RateCurve:
        """A cosine, by short straight lines."""
        period_s = self.period_s or duration_s
        count = max(1, math.ceil(_DIURNAL_POINTS * duration_s / period_s))
        middle, swing = (self.rate_rps + self.peak_rps) / 2, (self.peak_rps - self.rate_rps) / 2
        times = [duration_s * number / count for number in range(count + 1)]
        return RateCurve(tuple((t_s, middle - swing * math.cos(2 * math.pi * t_s / period_s)) for t_s in times))


def _flat(starts: Sequence[tuple[float, float]], duration_s: float) -> RateCurve:
    """Pieces of one rate each, from their starts (t_s, rate_rps), cut at the duration."""
    points: list[tuple[float, float]] = []
    ends = [t_s for t_s, _ in starts[1:]] + [math.inf]
    for (start_s, rate_rps), end_s in zip(starts, ends, strict=True):
        if start_s < duration_s or not points:
            points += [(start_s, rate_rps), (min(end_s, duration_s), rate_rps)]
    return RateCurve(tuple(points))
