"""The stages of a search, on made-up figures."""

from collections import Counter
from dataclasses import replace

import pytest

from tidesight.errors import ModelError, TidesightError
from tidesight.tuning.candidates import Candidate, Space, default_sides, inputs, layouts
from tidesight.tuning.choosing import Bounds
from tidesight.tuning.search import Effort, Outcome, Search
from tidesight.tuning.trial import Measured

BASELINE = Candidate("onnxruntime", workers=2)
SPACE = Space(
    BASELINE,
    ("onnxruntime", "openvino"),
    {"onnxruntime": ("fp32", "int8"), "openvino": ("fp32",)},
    ((1, 2), (2, 1)),
    ((320, "square"), (320, "rect"), (416, "rect")),
    416,
)


class Machine:
    """A machine on which everything takes a known time."""

    def __init__(self) -> None:
        self.visits: Counter[Candidate] = Counter()
        self.scored: list[Candidate] = []
        self.said: list[str] = []
        self.broken: set[str] = set()
        self.int8_accuracy = 0.1
        self.one_worker = 0.8

    def measure(self, one: Candidate, with_latencies: bool) -> Measured:
        self.visits[one] += 1
        if one.engine in self.broken:
            raise ModelError(f"{one.engine} does not load")
        pixels = (one.side_px or 416) ** 2 * (0.75 if one.shape == "rect" else 1)
        per_s = (
            50
            * 416**2
            / pixels
            * (self.one_worker if one.workers == 1 else 1)
            * (0.7 if one.engine == "openvino" else 1)
        )
        per_s *= {"int8": 1.5, "bf16": 2.0}.get(one.precision, 1)
        return Measured(per_s, (2000 / per_s,) * 10 if with_latencies else (), 100)

    def score(self, one: Candidate) -> float:
        self.scored.append(one)
        if one.precision == "int8":
            return self.int8_accuracy
        return 0.32 - (0.03 if one.side_px == 320 else 0) - (0.002 if one.shape == "rect" else 0)

    def search(self, bounds: Bounds = Bounds(), space: Space = SPACE) -> Outcome:
        return Search(space, self.measure, self.score, self.said.append).run(bounds, Effort(3, 2))


def test_the_search_ends_with_the_fastest_that_holds() -> None:
    outcome = Machine().search()
    assert outcome.chosen is not None
    assert outcome.chosen.candidate == replace(BASELINE, side_px=416, shape="rect")
    assert outcome.chosen.speed / outcome.rows[0].speed == pytest.approx(1 / 0.75)
    assert outcome.reference == 0.32


def test_looser_bounds_allow_more() -> None:
    chosen = Machine().search(Bounds(max_drop=0.05)).chosen
    assert chosen is not None
    assert chosen.candidate == replace(BASELINE, side_px=320, shape="rect")


def test_a_bound_on_p99_leaves_nothing() -> None:
    outcome = Machine().search(Bounds(p99_ms=1))
    assert outcome.chosen is None
    assert [row.note for row in outcome.rows if row.latencies_ms and row is not outcome.rows[0]] == ["p99 is 30 ms"]


def test_the_baseline_comes_first_and_is_chosen_when_nothing_is_faster() -> None:
    outcome = Machine().search(space=replace(SPACE, inputs=()))
    assert outcome.rows[0].candidate == BASELINE
    assert outcome.chosen is outcome.rows[0]


def test_what_is_inaccurate_or_slow_is_not_refined() -> None:
    machine = Machine()
    machine.search()
    refined = {(one.engine, one.precision) for one in machine.visits if one.side_px}
    assert refined == {("onnxruntime", "fp32")}


def test_only_the_best_layout_is_refined() -> None:
    machine = Machine()
    machine.one_worker = 1.05  # faster than the baseline's two, though by no more than noise
    machine.search()
    assert {one.workers for one in machine.visits if one.side_px} == {1}


def test_accurate_int8_is_refined_too() -> None:
    machine = Machine()
    machine.int8_accuracy = 0.319
    chosen = machine.search().chosen
    assert chosen is not None
    assert chosen.candidate.precision == "int8"


def test_equal_detections_are_scored_once() -> None:
    machine = Machine()
    machine.search()
    variants = [one.variant for one in machine.scored]
    assert len(variants) == len(set(variants))
    assert ("", "fp32", None, "square") in variants


def test_finalists_are_measured_in_more_rounds() -> None:
    machine = Machine()
    outcome = machine.search()
    for row in outcome.rows:
        assert len(row.per_s) == machine.visits[row.candidate] == (5 if row.latencies_ms else 2)
    assert sum(bool(row.latencies_ms) for row in outcome.rows) == 2  # the baseline and the only one that holds


def test_an_engine_that_does_not_load_is_told_and_passed_over() -> None:
    machine = Machine()
    machine.broken = {"openvino"}
    outcome = machine.search()
    notes = {row.note for row in outcome.rows if row.candidate.engine == "openvino"}
    assert notes == {"openvino does not load"}
    assert outcome.chosen is not None


def test_a_baseline_that_does_not_run_ends_the_search() -> None:
    machine = Machine()
    machine.broken = {"onnxruntime"}
    with pytest.raises(TidesightError, match="cannot be measured as it is: onnxruntime does not load"):
        machine.search()


def test_the_reference_is_fp32_where_auto_is_not() -> None:
    machine = Machine()
    baseline = Candidate("openvino", "bf16", workers=2)
    machine.search(space=replace(SPACE, baseline=baseline))
    assert machine.scored[0] == Candidate("openvino", "fp32")
    cut = Machine()
    cut.search(space=replace(SPACE, baseline=replace(BASELINE, shape="rect+16")))
    assert cut.scored[0] == Candidate("onnxruntime", "fp32", shape="rect+16")


def test_layouts_are_searched_where_the_baseline_has_another_precision() -> None:
    """On a CPU with BF16 the baseline is faster than FP32 in every layout."""
    machine = Machine()
    machine.one_worker = 1.3
    baseline = Candidate("openvino", "bf16", workers=2)
    precisions = {"onnxruntime": ("fp32",), "openvino": ("fp32", "bf16", "int8")}
    outcome = machine.search(space=replace(SPACE, baseline=baseline, precisions=precisions))
    candidates = [row.candidate for row in outcome.rows]
    assert replace(baseline, workers=1, threads_each=2) in candidates
    assert len(set(candidates)) == len(candidates)
    outcome = Machine().search(space=replace(SPACE, baseline=baseline, precisions=precisions))
    candidates = [row.candidate for row in outcome.rows]
    assert len(set(candidates)) == len(candidates), "one layout is the best in both: nothing is measured twice"


def test_layouts_use_every_cpu() -> None:
    assert layouts(2) == ((1, 2), (2, 1), (3, 1))
    assert layouts(8) == ((1, 8), (4, 2), (8, 1), (9, 1))
    assert layouts(1) == ((1, 1), (2, 1))
    assert layouts(4, [2, 3]) == ((2, 2), (3, 1))


def test_inputs_are_all_sides_in_all_shapes() -> None:
    assert default_sides(416) == (320, 352, 416, 448)
    assert default_sides(640) == (480, 544, 640, 704)
    assert default_sides(32) == (32,)
    assert set(inputs((320, 416))) == {(side, shape) for side in (320, 416) for shape in ("square", "rect+16", "rect")}


@pytest.mark.parametrize("shape", ["square", "rect+16"])
def test_a_candidate_is_not_tried_again_at_its_own_size_and_shape(shape: str) -> None:
    space = replace(SPACE, baseline=replace(BASELINE, shape=shape), inputs=inputs((320, 416)))
    first = space.with_layouts()
    assert {one.shape for one in first} == {shape}
    others = {(one.side_px, one.shape) for one in space.with_inputs([first[0]])}
    assert others == set(inputs((320, 416))) - {(416, shape)}


def test_a_candidate_says_how_to_run_it() -> None:
    plan = Candidate("openvino", "bf16", 2, 3, 320, "rect+16").plan
    assert (plan.threads_each, plan.precision, plan.side_px, plan.margin_px) == (3, "bf16", 320, 16)
    plan = Candidate("openvino", "int8-conv").plan
    assert (plan.threads_each, plan.precision, plan.side_px, plan.margin_px) == (1, "auto", None, None)
