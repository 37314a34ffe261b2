"""From figures to a choice. Nothing is measured: the figures are arguments."""

from typing import Any

import pytest

from tidesight.tuning.candidates import Candidate
from tidesight.tuning.choosing import (
    Bounds,
    Row,
    best_layouts,
    choose,
    finalists,
    frontier,
    give_up_hopeless,
    give_up_inaccurate,
)

REFERENCE = 0.32


def row(
    per_s: float, accuracy: float | None = REFERENCE, p99_ms: float | None = 100, note: str = "", **candidate: object
) -> Row:
    latencies = [] if p99_ms is None else [p99_ms] * 100
    one = Candidate(**{"engine": "onnxruntime", **candidate})  # type: ignore[arg-type]
    return Row(one, [per_s], latencies, 1, accuracy, note)


def test_the_fastest_within_both_bounds() -> None:
    slow, late = row(50), row(90, p99_ms=501)
    poor, good = row(80, accuracy=REFERENCE - 0.0051), row(70, accuracy=REFERENCE - 0.005)
    assert choose([slow, late, poor, good], REFERENCE, Bounds(500, 0.005)) is good
    assert choose([slow, late, poor, good], REFERENCE, Bounds(501, 0.005)) is late
    assert choose([slow, late, poor, good], REFERENCE, Bounds(500, 0.01)) is poor


def test_nothing_within_the_bounds() -> None:
    assert choose([row(50, p99_ms=600)], REFERENCE, Bounds()) is None
    assert choose([], REFERENCE, Bounds()) is None


@pytest.mark.parametrize("unknown", [row(90, p99_ms=None), row(90, accuracy=None), row(90, note="broke")])
def test_what_is_not_known_or_given_up_is_not_chosen(unknown: Row) -> None:
    known = row(50)
    assert choose([known, unknown], REFERENCE, Bounds()) is known


def test_of_two_as_fast_the_one_with_the_lower_p99() -> None:
    fast, near, far = row(100, p99_ms=90), row(97.1, p99_ms=50), row(96.9, p99_ms=10)
    assert choose([fast, near, far], REFERENCE, Bounds()) is near


def test_speed_is_the_median_and_pruning_looks_at_the_best_round() -> None:
    disturbed = Row(Candidate("onnxruntime"), [60.0, 20.0, 50.0])
    assert (disturbed.speed, disturbed.best, disturbed.spread) == (50, 60, 0.8)
    assert Row(Candidate("onnxruntime")).speed == 0
    assert Row(Candidate("onnxruntime")).spread == 0
    assert Row(Candidate("onnxruntime")).p99_ms is None


def test_p99_is_near_the_slowest_of_a_hundred() -> None:
    p99_ms = Row(Candidate("onnxruntime"), latencies_ms=[float(n) for n in range(1, 102)]).p99_ms
    assert p99_ms == 100


def hopeless(first: Row, second: Row) -> list[bool]:
    """Which of two rows beside an untouchable baseline is given up."""
    rows = [row(1), first, second]
    give_up_hopeless(rows, 416)
    assert rows[0].note == ""
    return [bool(one.note) for one in rows[1:]]


def test_a_slower_engine_with_the_same_numbers_is_given_up() -> None:
    assert hopeless(row(50), row(40, engine="openvino")) == [False, True]
    assert hopeless(row(50), row(46, engine="openvino")) == [False, False]  # within noise


@pytest.mark.parametrize(
    "less",
    [
        {"precision": "int8"},
        {"side_px": 320},
        {"shape": "rect", "side_px": 416},
        {"precision": "bf16", "engine": "openvino"},
    ],
)
def test_what_can_only_be_less_accurate_has_to_be_faster(less: dict[str, Any]) -> None:
    more: dict[str, Any] = {"side_px": 416}
    assert hopeless(row(50, **more), row(40, **{**more, **less})) == [False, True]
    assert hopeless(row(40, **more), row(50, **{**more, **less})) == [False, False]


def test_the_file_as_it_is_counts_with_its_own_size() -> None:
    assert hopeless(row(50, side_px=None), row(40, side_px=320)) == [False, True]
    assert hopeless(row(50, side_px=None), row(40, side_px=448)) == [False, False]


def test_a_given_up_row_tells_what_is_better() -> None:
    rows = [row(1), row(50), row(25, engine="openvino")]
    give_up_hopeless(rows, 416)
    assert rows[2].note == "onnxruntime is 2.00x as fast"


def test_accuracy_is_given_up_by_its_drop() -> None:
    rows = [row(50), row(60, accuracy=0.31), row(70, accuracy=0.3151), row(80, accuracy=None), row(90, accuracy=0.9)]
    give_up_inaccurate(rows, REFERENCE, Bounds(max_drop=0.005))
    assert [one.note for one in rows] == ["", "accuracy falls by 0.0100", "", "", ""]


def test_each_engines_best_layout() -> None:
    slow, fast = row(40, workers=1), row(50, workers=2)
    other = row(30, engine="openvino")
    broken = Row(Candidate("openvino"), note="broke")
    assert best_layouts([slow, broken, fast, other]) == [fast, other]


def test_layouts_are_compared_within_a_precision() -> None:
    baseline = row(90, engine="openvino", precision="bf16", workers=2)
    slow, fast = row(40, engine="openvino", workers=2), row(50, engine="openvino", workers=1)
    assert best_layouts([baseline, slow, fast]) == [baseline, fast]


def test_finalists_are_the_baseline_and_the_fastest() -> None:
    rows = [row(10), row(50), row(70), row(60), row(80, note="lost"), row(90, accuracy=None)]
    assert [one.speed for one in finalists(rows, 2)] == [10, 70, 60]


def test_the_frontier() -> None:
    a, b, c = row(50, 0.32), row(60, 0.31), row(70, 0.30)
    beaten, same, unknown = row(55, 0.305), row(50, 0.31), row(90, None)
    assert frontier([same, c, a, unknown, beaten, b]) == [a, b, c]
    assert frontier([]) == []


def test_of_two_as_fast_the_more_accurate_is_on_the_frontier() -> None:
    worse, better = row(50, 0.30), row(50, 0.32)
    assert frontier([worse, better]) == [better]


def test_of_two_as_accurate_the_faster_is_on_the_frontier() -> None:
    slow, fast = row(50, 0.32), row(60, 0.32)
    assert frontier([slow, fast]) == [fast]
