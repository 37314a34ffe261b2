"""The search: one dimension after another, so that what cannot win costs little.

1. Every layout of workers and threads on every engine, with the file as it is.
2. Each engine's best layout in the other precisions.
3. What is left and accurate enough, at other input sizes and shapes: a smaller input only loses more.
4. The fastest of those within the accuracy bound, several rounds in turns, with latencies.

A stage measures its candidates twice, the second time in reverse order, so that a busy minute of the machine does not
hit one candidate alone. Nothing here reads a clock: measuring is an argument.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median

from tidesight.errors import TidesightError
from tidesight.tuning.candidates import Candidate, Space
from tidesight.tuning.choosing import (
    NOISE,
    Bounds,
    Row,
    best_layouts,
    choose,
    finalists,
    give_up_hopeless,
    give_up_inaccurate,
)
from tidesight.tuning.trial import Measured

MeasureOne = Callable[[Candidate, bool], Measured]
ScoreOne = Callable[[Candidate], float]


@dataclass(frozen=True)
class Effort:
    """How much to measure: rounds of the final, and candidates in it beside the baseline."""

    rounds: int = 3
    finalists: int = 4


@dataclass(frozen=True)
class Outcome:
    """What a search found: every row (the baseline first), the chosen one or None, and the reference's accuracy."""

    rows: list[Row]
    chosen: Row | None
    reference: float

    @property
    def disturbed(self) -> float:
        """Share of the time that others took, the median of all rounds."""
        return median(share for row in self.rows for share in row.disturbed)


class Search:
    """Runs the stages over a space.

    Args:
        space: What to try.
        measure: Runs a candidate; True asks for latencies too.
        score: Accuracy of a candidate.
        say: Told what is being done, for a progress line.
    """

    def __init__(self, space: Space, measure: MeasureOne, score: ScoreOne, say: Callable[[str], None]) -> None:
        self._space = space
        self._measure = measure
        self._score = score
        self._say = say

    def run(self, bounds: Bounds, effort: Effort = Effort()) -> Outcome:
        """Search.

        Raises:
            TidesightError: the baseline itself cannot be run or scored.
        """
        rows = self._look(self._space.with_layouts(), "layouts")
        if rows[0].note:
            raise TidesightError(f"the model cannot be measured as it is: {rows[0].note}")
        best = best_layouts(rows)
        for row in rows[1:]:
            if not row.note and row not in best:
                row.note = "another layout is faster"
        tried = {row.candidate for row in rows}
        others = dict.fromkeys(self._space.with_precisions(row.candidate for row in best))
        rows += self._look([one for one in others if one not in tried], "precisions")
        give_up_hopeless(rows, self._space.native_px)
        reference = self._add_accuracy(rows)
        give_up_inaccurate(rows[1:], reference, bounds)
        # The baseline stays in the table whatever it is worth; it is refined only when its layout is the best one.
        able = [row for row in rows if not row.note and (row is not rows[0] or row in best) and not _beaten(row, rows)]
        rows += self._look(self._space.with_inputs(row.candidate for row in able), "sizes and shapes")
        give_up_hopeless(rows, self._space.native_px)
        self._add_accuracy(rows)
        give_up_inaccurate(rows[1:], reference, bounds)
        last = finalists(rows, effort.finalists)
        for number in range(effort.rounds):
            for row in last if number % 2 == 0 else reversed(last):
                self._add(row, True, f"final, round {number + 1} of {effort.rounds}")
        for row in last:
            if row.p99_ms is not None and row.p99_ms > bounds.p99_ms and row is not rows[0]:
                row.note = row.note or f"p99 is {row.p99_ms:.0f} ms"
        return Outcome(rows, choose(last, reference, bounds), reference)

    def _look(self, candidates: Sequence[Candidate], stage: str) -> list[Row]:
        rows = [Row(candidate) for candidate in candidates]
        for row in [*rows, *reversed(rows)]:
            self._add(row, False, stage)
        return rows

    def _add(self, row: Row, with_latencies: bool, stage: str) -> None:
        if row.note:
            return
        self._say(f"{stage}: {row.candidate.describe(self._space.native_px)}")
        try:
            found = self._measure(row.candidate, with_latencies)
        except TidesightError as error:
            row.note = error.detail
            return
        row.per_s.append(found.per_s)
        row.disturbed.append(found.disturbed)
        row.latencies_ms += found.latencies_ms
        row.memory_bytes = max(row.memory_bytes, found.memory_bytes)

    def _add_accuracy(self, rows: Sequence[Row]) -> float:
        """Score what may still win, once for all that find the same; the reference's accuracy."""
        baseline = self._space.baseline
        reference = Candidate(baseline.engine, shape=baseline.shape)  # what is run untuned, in FP32
        known = {row.candidate.variant: row.accuracy for row in rows if row.accuracy is not None}
        for candidate in [reference, *(row.candidate for row in rows if not row.note)]:
            if candidate.variant not in known:
                self._say(f"accuracy: {candidate.describe(self._space.native_px)}")
                known[candidate.variant] = self._score(candidate)
        for row in rows:
            row.accuracy = known.get(row.candidate.variant)
        return known[reference.variant]


def _beaten(row: Row, rows: Sequence[Row]) -> bool:
    """Whether another engine's row in the same precision is the faster one by more than noise."""
    same = [other for other in rows if not other.note and other.candidate.variant == row.candidate.variant]
    return any(other.best > row.best * (1 + NOISE) for other in same)
