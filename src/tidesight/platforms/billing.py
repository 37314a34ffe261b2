"""What was used, and what that costs: exact arithmetic on whole microseconds and decimal prices.

Nothing is rounded that the platform does not round; a vendor rounds the lines of an invoice to the cent, we do not.
"""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from decimal import Decimal
from itertools import pairwise
from typing import Protocol

from tidesight.errors import DataError

US = 1_000_000
HOUR_S = 3600
MONTH_S = 730 * HOUR_S  # as price calculators count a month
Span = tuple[int, int]  # microseconds, from and to


@dataclass(frozen=True, slots=True)
class InstanceUse:
    """The life of one instance, in seconds on any one clock.

    Attributes:
        asked_s: When it was asked for; the platform's own part of the start begins.
        ended_s: When its process ended, or when the observation did.
        ready_s: When it was first ready; None when it never was.
        stopped_s: When it was told to end; None when it was not.
        placed_s: When there was a machine for it; None is at once.
        busy_s: From and to, for each time that a request was inside; these may overlap.

    Raises:
        DataError: times that are not in order or not finite.
    """

    asked_s: float
    ended_s: float
    ready_s: float | None = None
    stopped_s: float | None = None
    placed_s: float | None = None
    busy_s: tuple[tuple[float, float], ...] = ()

    def __post_init__(self) -> None:
        between = (self.placed_s, self.ready_s, self.stopped_s)
        marks = [self.asked_s, *(at_s for at_s in between if at_s is not None), self.ended_s]
        for start_s, end_s in (*pairwise(marks), *self.busy_s):
            if not -math.inf < start_s <= end_s < math.inf:
                raise DataError(f"the use of an instance: {start_s} s is not before {end_s} s", field="instances")

    @property
    def life(self) -> Span:
        """From asked to ended."""
        return span(self.asked_s, self.ended_s)

    @property
    def placed(self) -> Span:
        """From placed on a machine to ended."""
        return span(self.asked_s if self.placed_s is None else self.placed_s, self.ended_s)

    @property
    def busy(self) -> list[Span]:
        """The times with a request inside."""
        return [span(*one) for one in self.busy_s]

    @property
    def starting(self) -> Span:
        """From asked to ready; its whole life when it never was."""
        return span(self.asked_s, self.ended_s if self.ready_s is None else self.ready_s)

    @property
    def stopping(self) -> Span:
        """From told to end to ended; nothing when it was not told."""
        return span(self.ended_s if self.stopped_s is None else self.stopped_s, self.ended_s)


@dataclass(frozen=True, slots=True)
class Usage:
    """What a fleet did over some time.

    Attributes:
        start_s: When the billed time begins, on the clock of the instances.
        end_s: When it ends.
        instances: The life of each instance.
        requests: How many requests reached an instance.

    Raises:
        DataError: a time that ends before it begins, or a negative count.
    """

    start_s: float
    end_s: float
    instances: tuple[InstanceUse, ...] = ()
    requests: int = 0

    def __post_init__(self) -> None:
        if not -math.inf < self.start_s <= self.end_s < math.inf or self.requests < 0:
            raise DataError(f"usage: {self.start_s} to {self.end_s} s with {self.requests} requests", field="usage")

    @property
    def period(self) -> Span:
        """All of the billed time."""
        return span(self.start_s, self.end_s)

    @property
    def months(self) -> Decimal:
        """The billed time in months, for free tiers that are granted by the month."""
        return seconds(self.period[1] - self.period[0]) / MONTH_S


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a bill; `free` of the quantity is not charged."""

    what: str
    quantity: Decimal
    unit: str
    price_usd: Decimal
    free: Decimal = Decimal(0)

    @property
    def usd(self) -> Decimal:
        """What it costs."""
        return max(Decimal(0), self.quantity - self.free) * self.price_usd


@dataclass(frozen=True, slots=True)
class Bill:
    """What a usage costs, line by line."""

    lines: tuple[Line, ...]

    @property
    def usd(self) -> Decimal:
        """The sum of the lines."""
        return sum((line.usd for line in self.lines), Decimal(0))

    def per_thousand(self, good: int) -> Decimal | None:
        """The cost of 1000 good answers when there were `good`; None when there was none."""
        return self.usd * 1000 / good if good > 0 else None


class Billing(Protocol):
    """How a platform charges."""

    def bill(self, usage: Usage) -> Bill:
        """The cost of a usage."""
        ...


def span(start_s: float, end_s: float) -> Span:
    """Seconds in whole microseconds."""
    return round(start_s * US), round(end_s * US)


def seconds(microseconds: int) -> Decimal:
    """Microseconds in seconds, exactly."""
    return Decimal(microseconds) / US


def merged(spans: Iterable[Span], granule_s: float = 0, least_s: float = 0) -> list[Span]:
    """The union of spans: in order, none touching another.

    Args:
        spans: In any order, overlapping or not.
        granule_s: Every stretch of the union is made longer, up to a multiple of this.
        least_s: And no stretch is shorter than this.
    """
    union: list[Span] = []
    granule, least = max(1, round(granule_s * US)), round(least_s * US)
    for begin, end in sorted(one for one in spans if one[0] < one[1]):
        start, furthest = union.pop() if union and begin <= union[-1][1] else (begin, end)
        length = max(furthest - start, end - start, least)
        union.append((start, start + -(-length // granule) * granule))
    return union


def length_s(spans: Iterable[Span]) -> Decimal:
    """The total length of spans in seconds; what overlaps counts as often as it is there."""
    return seconds(sum(end - start for start, end in spans))


def counts(*tracks: Iterable[Span]) -> Iterator[tuple[Span, tuple[int, ...]]]:
    """How many spans of each track are under way, for every stretch of time in which that does not change."""
    changes: dict[int, list[int]] = {}
    for index, track in enumerate(tracks):
        for start, end in track:
            changes.setdefault(start, [0] * len(tracks))[index] += 1
            changes.setdefault(end, [0] * len(tracks))[index] -= 1
    now, before = (0,) * len(tracks), 0
    for at, change in sorted(changes.items()):
        if any(now):
            yield (before, at), now
        now, before = tuple(count + by for count, by in zip(now, change, strict=True)), at


def kept_s(charged: Iterable[tuple[Span, list[Span]]], least: int, idle: int = 0) -> Decimal:
    """Instance-seconds of those that are there only because a minimum is to be there, and not charged otherwise.

    Args:
        charged: For each instance its life and, none overlapping, the stretches that are charged already.
        least: How many are to be there at all times.
        idle: How many are to be there beyond those charged already.
    """
    lives, paid_for = [], []
    for life, stretches in charged:
        lives.append(life)
        paid_for += [(max(start, life[0]), min(end, life[1])) for start, end in stretches if start < life[1]]
    total = 0
    for (start, end), (present, paid) in counts(lives, paid_for):
        total += max(0, min(max(least, paid + idle), present) - paid) * (end - start)
    return seconds(total)
