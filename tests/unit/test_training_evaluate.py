"""Average precision on data whose answer is known by hand."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tidesight.detection.detections import Detections
from tidesight.errors import DataError
from tidesight.training.dataset import Dataset, sample_of
from tidesight.training.evaluate import Evaluation, score

pytest.importorskip("faster_coco_eval", reason="scores need faster-coco-eval (extra: evaluate)")

NAMES = ("cat", "dog")
Box = tuple[float, float, float, float]
LEFT, RIGHT = (0.0, 0.0, 0.5, 0.5), (0.5, 0.5, 1.0, 1.0)


def dataset_of(*pictures: list[tuple[int, Box, bool]], names: tuple[str, ...] = NAMES) -> Dataset:
    samples = [sample_of(Path(f"{index}.jpg"), rows) for index, rows in enumerate(pictures)]
    return Dataset("made up", names, tuple(samples))


def found(*rows: tuple[int, Box, float], names: tuple[str, ...] = NAMES) -> Detections:
    """Detections in a picture of 200 x 100 px; boxes as fractions of it."""
    boxes = np.array([box for _, box, _ in rows], np.float32).reshape(-1, 4) * [200, 100, 200, 100]
    scores = np.array([confidence for _, _, confidence in rows], np.float32)
    return Detections(boxes.astype(np.float32), scores, np.array([c for c, _, _ in rows], np.int64), names, 200, 100)


def test_perfect_detections_score_one() -> None:
    data = dataset_of([(0, LEFT, False), (1, RIGHT, False)], [])
    result = score(data, [found((1, RIGHT, 0.6), (0, LEFT, 0.9)), found()])
    assert result == Evaluation(1, 1, 1, 1, {"cat": 1, "dog": 1}, images=2, boxes=2)
    assert result.as_json()["AP"] == 1


def test_nothing_found_scores_zero() -> None:
    result = score(dataset_of([(0, LEFT, False)]), [found()])
    assert (result.ap, result.ap50, result.ar100, result.per_class) == (0, 0, 0, {"cat": 0})


def test_a_box_of_iou_0_7_counts_for_half_of_the_thresholds() -> None:
    # 0.35 of 0.5 wide: IoU 0.7, which reaches the thresholds 0.50, 0.55, 0.60, 0.65 and (just) 0.70.
    result = score(dataset_of([(0, LEFT, False)]), [found((0, (0.0, 0.0, 0.36, 0.5), 0.9))])
    assert result.ap == pytest.approx(0.5)
    assert (result.ap50, result.ap75, result.ar100) == pytest.approx((1, 0, 0.5))


def test_a_better_scored_wrong_box_halves_the_precision() -> None:
    result = score(dataset_of([(0, LEFT, False)]), [found((0, RIGHT, 0.9), (0, LEFT, 0.8))])
    assert result.ap == pytest.approx(0.5)


def test_a_missed_second_box_leaves_51_of_101_recall_points() -> None:
    result = score(dataset_of([(0, LEFT, False), (0, RIGHT, False)]), [found((0, LEFT, 0.9))])
    assert result.ap == pytest.approx(51 / 101)


def test_what_lies_in_a_crowd_is_neither_right_nor_wrong() -> None:
    data = dataset_of([(0, LEFT, False), (0, RIGHT, True)])
    result = score(data, [found((0, RIGHT, 0.9), (0, LEFT, 0.8))])
    assert (result.ap, result.boxes) == (1, 1)


def test_classes_are_matched_by_name_whatever_their_numbers() -> None:
    data = dataset_of([(0, LEFT, False)])
    other_order = found((1, LEFT, 0.9), (0, RIGHT, 0.95), names=("bird", "cat"))
    assert score(data, [other_order]).per_class == {"cat": 1}


def test_a_class_the_model_does_not_know_counts_as_missed() -> None:
    data = dataset_of([(0, LEFT, False), (1, RIGHT, False)])
    result = score(data, [found((0, LEFT, 0.9), names=("cat",))])
    assert result.ap == pytest.approx(0.5)


def test_no_common_class_and_no_box_are_errors_not_zeros() -> None:
    with pytest.raises(DataError, match="shares no class name"):
        score(dataset_of([(0, LEFT, False)]), [found(names=("bird",))])
    with pytest.raises(DataError, match="holds no box"):
        score(dataset_of([]), [found()])


@settings(deadline=None)  # the first call loads the evaluator
@given(st.lists(st.tuples(st.sampled_from([0, 1]), st.sampled_from([LEFT, RIGHT]), st.floats(0.01, 1)), max_size=8))
def test_figures_stay_within_their_range(rows: list[tuple[int, Box, float]]) -> None:
    result = score(dataset_of([(0, LEFT, False), (1, RIGHT, False)]), [found(*rows)])
    figures = [result.ap, result.ap50, result.ap75, result.ar100, *result.per_class.values()]
    assert all(0 <= figure <= 1 for figure in figures)
    assert result.ap <= result.ap50 + 1e-12
