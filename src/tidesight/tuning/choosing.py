"""From measured figures to a choice: which candidates cannot win, which are on the frontier, which one it is. Pure."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from statistics import median

import numpy as np

from tidesight.tuning.candidates import MARGINS_PX, PRECISIONS, Candidate

NOISE = 0.10  # a candidate has to be slower by more than this to be given up early
_EXACT = 1e-9  # what two sums of the same figures may differ by
_TIE = 0.03  # throughputs this close are one; the lower p99 decides
_SHAPES = tuple(MARGINS_PX)


@dataclass
class Row:
    """A candidate and what is known of it.

    Attributes:
        candidate: What was measured.
        per_s: Pictures a second when saturated, one figure a round.
        latencies_ms: From the due time to the end, at 70 % of the saturation, all rounds together.
        memory_bytes: Proportional set size of the process that ran it.
        disturbed: Share of the time that others took, one figure a round.
        accuracy: AP, or agreement with the reference; None while it is not known.
        note: Why it was given up; empty while it may win.
    """

    candidate: Candidate
    per_s: list[float] = field(default_factory=list)
    latencies_ms: list[float] = field(default_factory=list)
    memory_bytes: int = 0
    accuracy: float | None = None
    note: str = ""
    disturbed: list[float] = field(default_factory=list)

    @property
    def speed(self) -> float:
        """Median pictures a second; 0 when it could not run."""
        return median(self.per_s) if self.per_s else 0.0

    @property
    def best(self) -> float:
        """Most pictures a second in any round: what else the machine does can only slow a round down."""
        return max(self.per_s, default=0.0)

    @property
    def spread(self) -> float:
        """Range of the rounds as a share of the median."""
        return (max(self.per_s) - min(self.per_s)) / self.speed if self.speed else 0.0

    @property
    def p99_ms(self) -> float | None:
        """99th percentile of the latencies; None when they were not measured."""
        return float(np.percentile(self.latencies_ms, 99)) if self.latencies_ms else None


@dataclass(frozen=True)
class Bounds:
    """What a choice must keep.

    Attributes:
        p99_ms: At most this.
        max_drop: At most this much less accuracy than the reference.
    """

    p99_ms: float = 500.0
    max_drop: float = 0.005


def best_layouts(rows: Sequence[Row]) -> list[Row]:
    """The fastest row of each engine in each precision: a baseline in BF16 says nothing of layouts in FP32."""
    kinds: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        if row.speed:
            kinds.setdefault((row.candidate.engine, row.candidate.precision), []).append(row)
    return [max(own, key=lambda row: row.best) for own in kinds.values()]


def give_up_hopeless(rows: Sequence[Row], native_px: int) -> None:
    """Note on each row that another one beats on speed and cannot be less accurate than.

    Speed is the best round's here, as there are few. A finer precision, a larger input and more padding are taken to
    be no less accurate. The first row is the baseline, which stays.
    """
    for row in rows[1:]:
        if row.note or not row.speed:
            continue
        better = [other for other in rows if not other.note and _beats(other, row, native_px)]
        if better:
            fastest = max(better, key=lambda other: other.best)
            row.note = f"{_difference(row.candidate, fastest.candidate)} is {fastest.best / row.best:.2f}x as fast"


def _beats(one: Row, other: Row, native_px: int) -> bool:
    mine, theirs = one.candidate, other.candidate
    return (
        one.best > other.best * (1 + NOISE)
        and PRECISIONS.index(mine.precision) <= PRECISIONS.index(theirs.precision)
        and (mine.side_px or native_px) >= (theirs.side_px or native_px)
        and _SHAPES.index(mine.shape) <= _SHAPES.index(theirs.shape)
    )


def _difference(mine: Candidate, other: Candidate) -> str:
    """What the other one has that is not the same."""
    parts = [theirs for own, theirs in zip(_parts(mine), _parts(other), strict=True) if own != theirs]
    return " ".join(parts) or "another"


def _parts(one: Candidate) -> tuple[str, ...]:
    size = f"{one.side_px} px" if one.side_px else "the file's own size"
    return one.engine, one.precision, f"{one.workers}x{one.threads_each}", size, one.shape


def give_up_inaccurate(rows: Sequence[Row], reference: float, bounds: Bounds) -> None:
    """Note on each row that lost more accuracy than the bound allows."""
    for row in rows:
        if not row.note and row.accuracy is not None and reference - row.accuracy > bounds.max_drop + _EXACT:
            row.note = f"accuracy falls by {reference - row.accuracy:.4f}"


def finalists(rows: Sequence[Row], most: int) -> list[Row]:
    """The baseline (the first row) and the fastest of those that may win."""
    able = [row for row in rows[1:] if not row.note and row.speed and row.accuracy is not None]
    return [rows[0], *sorted(able, key=lambda row: -row.best)[:most]]


def choose(rows: Sequence[Row], reference: float, bounds: Bounds) -> Row | None:
    """The fastest row within the bounds; of those within 3 % of it, the one with the lowest p99; None without any.

    Args:
        rows: Those that were measured to the end.
        reference: Accuracy of the model in FP32.
        bounds: What the choice must keep.
    """
    good = [row for row in rows if not row.note and _within(row, reference, bounds)]
    fastest = max((row.speed for row in good), default=0.0)
    near = [row for row in good if row.speed >= fastest * (1 - _TIE)]
    return min(near, key=lambda row: row.p99_ms or 0.0, default=None)


def _within(row: Row, reference: float, bounds: Bounds) -> bool:
    if row.p99_ms is None or row.accuracy is None:
        return False
    return row.p99_ms <= bounds.p99_ms and reference - row.accuracy <= bounds.max_drop + _EXACT


def frontier(rows: Iterable[Row]) -> list[Row]:
    """Rows that no other beats in both speed and accuracy, the slowest first."""
    best = -1.0
    found = []
    known = [row for row in rows if row.accuracy is not None and row.speed]
    for row in sorted(known, key=lambda row: (-row.speed, -(row.accuracy or 0.0))):
        if row.accuracy is not None and row.accuracy > best:
            best = row.accuracy
            found.append(row)
    return found[::-1]
