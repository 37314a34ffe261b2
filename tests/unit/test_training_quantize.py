"""Which INT8 model may be used, and what its recipes leave alone."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidesight.detection.embedded import embedded_model
from tidesight.training.dataset import Dataset, sample_of
from tidesight.training.onnx_file import load_model
from tidesight.training.quantize import RECIPES, Trial, choose, nodes_to_keep, spread


def trial(ap: float, inference_ms: float, name: str = "any") -> Trial:
    return Trial(name, ap, inference_ms, 1_000_000, Path("model.onnx"))


FP32 = trial(0.32, 20.0, "FP32")


def test_the_fastest_that_holds_is_chosen() -> None:
    fast_but_bad, good, slow = trial(0.05, 5.0), trial(0.315, 15.0), trial(0.32, 30.0)
    assert choose(FP32, [slow, fast_but_bad, good], max_drop=0.01) is good


def test_the_bound_itself_holds_and_just_beyond_does_not() -> None:
    at, beyond = trial(0.25, 1.0), trial(0.2499, 1.0)
    assert choose(trial(0.5, 1.0), [at], max_drop=0.25) is at
    assert choose(trial(0.5, 1.0), [beyond], max_drop=0.25) is None


def test_a_gain_is_no_drop() -> None:
    better = trial(0.33, 25.0)
    assert choose(FP32, [better], max_drop=0.0) is better


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(1, 100))), st.floats(0, 1))
def test_nothing_chosen_means_nothing_held(figures: list[tuple[float, float]], max_drop: float) -> None:
    trials = [trial(ap, ms) for ap, ms in figures]
    chosen = choose(FP32, trials, max_drop)
    held = [each for each in trials if FP32.ap - each.ap <= max_drop]
    assert (chosen is None) == (not held)
    assert chosen is None or chosen.inference_ms == min(each.inference_ms for each in held)


def test_samples_are_spread_from_the_first_to_the_last() -> None:
    dataset = Dataset("ten", ("a",), tuple(sample_of(Path(f"{n}.jpg"), []) for n in range(10)))
    assert [sample.image.stem for sample in spread(dataset, 4)] == ["0", "3", "6", "9"]
    assert len(spread(dataset, 99)) == 10


def test_parts_of_the_network_are_found_by_its_graph() -> None:
    pytest.importorskip("onnx", reason="files are read with onnx (extra: train)")
    model = load_model(embedded_model())
    kind = {node.name: node.op_type for node in model.graph.node}
    first = next(node.name for node in model.graph.node if node.op_type == "Conv")
    assert nodes_to_keep(model, frozenset({"stem"})) == {first}
    depthwise = nodes_to_keep(model, frozenset({"depthwise"}))
    assert len(depthwise) == 30  # 4 + 8 in the backbone, 6 in the neck, 12 in the head
    assert {kind[name] for name in depthwise} == {"Conv"}
    predictions = [kind[name] for name in nodes_to_keep(model, frozenset({"predictions"}))]
    assert (predictions.count("Conv"), predictions.count("Sigmoid"), predictions.count("Mul")) == (9, 6, 0)
    assert nodes_to_keep(model, frozenset()) == set()


def test_every_recipe_keeps_parts_that_exist() -> None:
    assert all(recipe.keep <= {"predictions", "stem", "depthwise"} for recipe in RECIPES)
    assert len({recipe.name for recipe in RECIPES}) == len(RECIPES)
