"""A recorded load: CSV with the columns `t_s,requests`, replayed faster or slower, with more or fewer requests."""

import csv
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from tidesight.errors import DataError
from tidesight.workload.arrivals import RateCurve, Spacing

_COLUMNS = ["t_s", "requests"]


@dataclass(frozen=True)
class Trace:
    """How many requests came in each stretch of time.

    Attributes:
        bins: (start_s, requests): from there to the next bin's start; the last is as long as the one before it.
    """

    bins: tuple[tuple[float, float], ...]

    @property
    def duration_s(self) -> float:
        """As recorded."""
        return self._ends()[-1] - self.bins[0][0]

    @property
    def mean_rps(self) -> float:
        """As recorded."""
        return sum(requests for _, requests in self.bins) / self.duration_s

    def curve(self, time_scale: float = 1.0, rate_scale: float = 1.0) -> RateCurve:
        """The recorded rate, flat in each bin, from 0.

        Args:
            time_scale: Seconds of replay for each recorded second: 0.1 replays ten times as fast. The rate stays what
                it was, so fewer requests are sent in all.
            rate_scale: Requests a second of the replay for each recorded one.
        """
        first_s, points = self.bins[0][0], []
        for (start_s, requests), end_s in zip(self.bins, self._ends(), strict=True):
            rate_rps = rate_scale * requests / (end_s - start_s)
            points += [(time_scale * (start_s - first_s), rate_rps), (time_scale * (end_s - first_s), rate_rps)]
        return RateCurve(tuple(points))

    def _ends(self) -> list[float]:
        starts = [start_s for start_s, _ in self.bins]
        return [*starts[1:], 2 * starts[-1] - starts[-2]]


@dataclass(frozen=True)
class Replay:
    """A trace as a pattern.

    Attributes:
        trace: What was recorded.
        time_scale: As in `Trace.curve`.
        rate_scale: As in `Trace.curve`.
        spacing: Of the arrivals within a bin.
    """

    trace: Trace
    time_scale: float = 1.0
    rate_scale: float = 1.0
    spacing: Spacing = "poisson"

    @property
    def duration_s(self) -> float:
        """Of the whole replay."""
        return self.time_scale * self.trace.duration_s

    def curve(self, duration_s: float) -> RateCurve:
        """The replay, cut at the duration; shorter when the trace is."""
        points = self.trace.curve(self.time_scale, self.rate_scale).points
        kept = [point for point in points if point[0] < duration_s]
        end_s = min(duration_s, points[-1][0])
        return RateCurve((*kept, (end_s, kept[-1][1])))


def read_trace(lines: Iterable[str], name: str = "trace") -> Trace:
    """Parse a trace.

    Args:
        lines: Of the CSV, the header first.
        name: Of the file, for errors.

    Raises:
        DataError: with the line's number, for what is not as it should be.
    """
    bins: list[tuple[float, float]] = []
    for number, cells in _rows(lines, name):
        try:
            start_s, requests = map(float, cells)
        except ValueError:
            raise DataError(f"{name}, line {number}: expected two numbers, got {','.join(cells)!r}") from None
        if not (math.isfinite(start_s) and 0 <= requests < math.inf):
            raise DataError(f"{name}, line {number}: expected a time and a count of at least 0, got {','.join(cells)}")
        if bins and start_s <= bins[-1][0]:
            raise DataError(f"{name}, line {number}: {start_s:g} s does not come after {bins[-1][0]:g} s")
        bins.append((start_s, requests))
    if len(bins) < 2:
        raise DataError(f"{name}: expected at least two lines below the header, got {len(bins)}")
    return Trace(tuple(bins))


def _rows(lines: Iterable[str], name: str) -> Iterator[tuple[int, list[str]]]:
    reader = csv.reader(lines)
    try:
        head = [cell.strip() for cell in next(reader, [])]
        if head != _COLUMNS:
            raise DataError(f"{name}, line 1: expected the columns t_s,requests, got {','.join(head) or 'nothing'}")
        for cells in reader:
            if cells:  # an empty line is no error
                yield reader.line_num, cells
    except csv.Error as error:
        raise DataError(f"{name}, line {reader.line_num}: {error}") from None
