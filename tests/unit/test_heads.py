"""Heads against figures worked out by hand, and non-maximum suppression against plain Python."""

import math
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tidesight.detection.heads import (
    Candidates,
    EndToEndHead,
    UltralyticsHead,
    YoloxHead,
    recognise,
    suppress,
    take_best,
)


def yolox(width_px: int, height_px: int, classes: int, cells: int) -> YoloxHead:
    head = recognise((1, cells, 5 + classes), width_px, height_px)
    assert isinstance(head, YoloxHead)
    return head


def test_a_yolox_cell_by_hand() -> None:
    # 64x32 input: strides 8 (8x4 cells), 16 (4x2), 32 (2x1): 32 + 8 + 2 cells.
    output = np.zeros((42, 7), np.float32)
    output[11] = [0.5, -0.25, math.log(3), math.log(2), 0.8, 0.5, 0.75]  # stride 8, row 1, column 3
    output[32 + 6] = [0.1, 0.2, 0, 0, 1.0, 0.9, 0.1]  # stride 16, row 1, column 2
    output[41] = [0, 0.5, 0, math.log(0.5), 0.9, 0.0, 1.0]  # stride 32, row 0, column 1
    found = yolox(64, 32, 2, 42).decode(output, 0.25)
    assert found.boxes.dtype == np.float32
    assert found.boxes.ravel().tolist() == pytest.approx(
        [
            # centre (3.5 * 8, 0.75 * 8) = (28, 6), 24 x 16
            *(16, -2, 40, 14),
            # centre (2.1 * 16, 1.2 * 16) = (33.6, 19.2), 16 x 16
            *(25.6, 11.2, 41.6, 27.2),
            # centre (1 * 32, 0.5 * 32) = (32, 16), 32 x 16
            *(16, 8, 48, 24),
        ],
        abs=1e-4,
    )
    np.testing.assert_allclose(found.scores, [0.6, 0.9, 0.9], rtol=1e-6)
    assert found.class_ids.tolist() == [1, 0, 1]


def test_yolox_scores_are_objectness_times_class() -> None:
    output = np.zeros((42, 6), np.float32)
    output[:4, 4:] = [[0.5, 0.5], [0.9, 0.2], [0.2, 0.9], [0.25, 1.0]]
    assert yolox(64, 32, 1, 42).decode(output, 0.25).scores.tolist() == [0.25, 0.25]


def test_an_ultralytics_column_by_hand() -> None:
    output = np.zeros((4 + 3, 9), np.float32)
    output[:, 4] = [100, 50, 20, 10, 0.1, 0.7, 0.2]
    output[:, 8] = [10, 20, 30, 40, 0.25, 0.0, 0.0]
    head = recognise((1, 7, 9), 640, 640)
    assert isinstance(head, UltralyticsHead)
    assert head.class_count == 3
    found = head.decode(output, 0.25)
    assert found.boxes.dtype == np.float32
    np.testing.assert_allclose(found.boxes, [[90, 45, 110, 55], [-5, 0, 25, 40]])
    np.testing.assert_allclose(found.scores, [0.7, 0.25])
    assert found.class_ids.tolist() == [1, 0]


def test_end_to_end_rows_by_hand() -> None:
    output = np.zeros((300, 6), np.float32)
    output[0] = [1, 2, 30, 40, 0.9, 7]
    output[3] = [5, 6, 50, 60, 0.25, 0]
    output[4] = [5, 6, 50, 60, 0.2499, 0]
    head = recognise((1, 300, 6), 640, 640)
    assert isinstance(head, EndToEndHead)
    found = head.decode(output, 0.25)
    assert found.boxes.tolist() == [[1, 2, 30, 40], [5, 6, 50, 60]]
    assert found.class_ids.tolist() == [7, 0]
    assert found.class_ids.dtype == np.int64
    assert not head.needs_nms


@pytest.mark.parametrize("head", [yolox(64, 32, 2, 42), UltralyticsHead(3), EndToEndHead()])
def test_nothing_above_the_confidence(head: YoloxHead | UltralyticsHead | EndToEndHead) -> None:
    shape = {"yolox": (42, 7), "ultralytics": (7, 42), "end_to_end": (300, 6)}[head.name]
    found = head.decode(np.zeros(shape, np.float32), 0.01)
    assert found.boxes.shape == (0, 4)
    assert found.scores.shape == found.class_ids.shape == (0,)


@pytest.mark.parametrize(
    ("shape", "width_px", "height_px", "name", "classes"),
    [
        ((1, 3549, 85), 416, 416, "yolox", 80),
        ((1, 8400, 85), 640, 640, "yolox", 80),
        ((1, 3549, 8), 416, 416, "yolox", 3),
        ((1, 3549, 6), 416, 416, "yolox", 1),  # an end-to-end output has a few hundred rows, not a grid's number
        ((1, 42, 7), 64, 32, "yolox", 2),
        ((1, 2 * 42, 7), 64, 64, "yolox", 2),
        ((1, 34000, 85), 1280, 1280, "yolox", 80),  # P6: strides 8, 16, 32 and 64
        ((1, 33600, 85), 1280, 1280, "yolox", 80),
        ((1, 84, 8400), 640, 640, "ultralytics", 80),
        ((1, 84, 2100), 320, 320, "ultralytics", 80),
        ((1, 84, 6300), 640, 480, "ultralytics", 80),
        ((1, 5, 8400), 640, 640, "ultralytics", 1),
        ((1, 605, 8400), 640, 640, "ultralytics", 601),
        ((1, 300, 6), 640, 640, "end_to_end", None),
        ((1, 100, 6), 416, 416, "end_to_end", None),
        ((1, 1, 6), 64, 64, "end_to_end", None),
    ],
)
def test_recognised(shape: tuple[int, ...], width_px: int, height_px: int, name: str, classes: int | None) -> None:
    head = recognise(shape, width_px, height_px)
    assert head is not None
    assert (head.name, head.class_count) == (name, classes)


@pytest.mark.parametrize(
    "shape",
    [
        (1, 8400, 84),  # transposed
        (1, 3548, 85),  # one cell short of 416x416
        (1, 4, 8400),  # boxes without classes
        (1, 3549, 5),  # no class
        (1, 300, 7),
        (2, 84, 8400),  # a batch
        (1, 84),
        (1, 85, 22, 22),
        (1000,),
        (),
    ],
)
def test_not_recognised(shape: tuple[int, ...]) -> None:
    assert recognise(shape, 416, 416) is None


def test_a_grid_of_an_input_that_is_not_square() -> None:
    head = yolox(96, 64, 1, 12 * 8 + 6 * 4 + 3 * 2)
    assert head.cells[0].tolist() == [0, 0]
    assert head.cells[11].tolist() == [11, 0]
    assert head.cells[12].tolist() == [0, 1]
    assert head.cells[-1].tolist() == [2, 1]
    assert head.strides_px.ravel().tolist() == [8] * 96 + [16] * 24 + [32] * 6


def test_the_grid_with_a_fourth_stride() -> None:
    head = yolox(128, 128, 1, 256 + 64 + 16 + 4)
    assert sorted(set(head.strides_px.ravel().tolist())) == [8, 16, 32, 64]


class Box(NamedTuple):
    """One candidate."""

    x1: float
    y1: float
    x2: float
    y2: float
    score: float
    class_id: int


def overlap(one: Box, other: Box) -> float:
    width = min(one.x2, other.x2) - max(one.x1, other.x1)
    height = min(one.y2, other.y2) - max(one.y1, other.y1)
    shared = max(0.0, width) * max(0.0, height)
    areas = (one.x2 - one.x1) * (one.y2 - one.y1) + (other.x2 - other.x1) * (other.y2 - other.y1)
    return shared / (areas - shared)


def slow_suppress(boxes: list[Box], iou: float, most: int) -> list[Box]:
    """Greedy and class-wise, as it is told in every paper."""
    kept: list[Box] = []
    for box in sorted(boxes, key=lambda b: -b.score):
        if all(box.class_id != other.class_id or overlap(box, other) <= iou for other in kept):
            kept.append(box)
    return kept[:most]


def candidates(boxes: list[Box]) -> Candidates:
    rows = np.array(boxes, np.float32).reshape(-1, 6)
    return Candidates(rows[:, :4], rows[:, 4], rows[:, 5].astype(np.int64))


@st.composite
def some_boxes(draw: st.DrawFn) -> list[Box]:
    """Boxes on a coarse grid, so that they often overlap; partly outside the picture, as real ones are."""
    count = draw(st.integers(0, 25))
    scores = draw(st.lists(st.integers(1, 1000), min_size=count, max_size=count, unique=True))
    found = []
    for score in scores:
        x, y = (draw(st.integers(-6, 40)) * 10 for _ in range(2))
        width, height = (draw(st.integers(1, 8)) * 10 for _ in range(2))
        found.append(Box(x, y, x + width, y + height, score / 1000, draw(st.integers(0, 3))))
    return found


# No two boxes on the grid overlap by exactly this much, where rounding would decide.
BETWEEN_OVERLAPS = [0.05031, 0.31337, 0.47123, 0.62717, 0.93371]


@settings(max_examples=300, deadline=None)
@given(some_boxes(), st.sampled_from(BETWEEN_OVERLAPS), st.integers(1, 30))
def test_suppression_agrees_with_plain_python(boxes: list[Box], iou: float, most: int) -> None:
    kept = suppress(candidates(boxes), iou, most)
    expected = candidates(slow_suppress(boxes, iou, most))
    np.testing.assert_array_equal(kept.scores, expected.scores)
    np.testing.assert_array_equal(kept.boxes, expected.boxes)
    np.testing.assert_array_equal(kept.class_ids, expected.class_ids)


def test_classes_do_not_suppress_each_other_across_the_corner() -> None:
    # To keep classes apart they are moved beyond the greatest coordinate; a negative one must not lead back.
    boxes = [Box(380, 380, 420, 420, 0.9, 0), Box(-41, -41, -1, -1, 0.8, 1)]
    assert len(suppress(candidates(boxes), 0.5, 100).scores) == 2


def test_a_vast_box_does_not_blur_the_others() -> None:
    near = [Box(10 * i, 0, 10 * i + 9, 9, 0.9 - i / 100, 1) for i in range(5)]
    vast = Box(-1e30, -1e30, 1e30, 1e30, 0.95, 0)
    assert len(suppress(candidates([vast, *near]), 0.5, 100).scores) == 6


def test_two_equal_boxes_with_equal_scores_are_one_object() -> None:
    box = Box(0, 0, 10, 10, 0.5, 0)
    kept = suppress(candidates([box, box._replace(x2=10.5)]), 0.5, 100)
    assert kept.boxes.tolist() == [[0, 0, 10, 10]]  # the first


def test_ties_keep_their_order() -> None:
    boxes = [Box(20 * i, 0, 20 * i + 10, 10, 0.5 if i % 3 else 0.6, i % 2) for i in range(60)]
    kept = suppress(candidates(boxes), 0.5, 30)
    better, rest = range(0, 60, 3), (i for i in range(60) if i % 3)
    assert kept.boxes[:, 0].tolist() == [20 * i for i in [*better, *list(rest)[:10]]]


def test_at_most_so_many_and_they_are_the_best() -> None:
    boxes = [Box(20 * i, 0, 20 * i + 10, 10, i / 100, 0) for i in range(1, 90)]
    np.testing.assert_allclose(suppress(candidates(boxes), 0.5, 3).scores, [0.89, 0.88, 0.87])


def test_thousands_of_candidates_still_give_the_best() -> None:
    rng = np.random.default_rng(3)
    corners = rng.uniform(0, 600, (8400, 2))
    boxes = np.hstack([corners, corners + 20]).astype(np.float32)
    scores = rng.random(8400, np.float32)
    kept = suppress(Candidates(boxes, scores, np.zeros(8400, np.int64)), 0.5, 50)
    assert kept.scores[0] == scores.max()
    assert len(kept.scores) == 50
    best = np.argsort(-scores)[:300]
    reference = slow_suppress([Box._make([*boxes[i].tolist(), float(scores[i]), 0]) for i in best], 0.5, 50)
    np.testing.assert_allclose(kept.scores, [box.score for box in reference])


def test_take_best_looks_only_at_its_indices() -> None:
    boxes = [Box(i, 0, i + 1, 1, score, 0) for i, score in enumerate([0.1, 0.9, 0.5, 0.7])]
    best = take_best(candidates(boxes), np.array([0, 2, 3]), 2)
    assert best.boxes[:, 0].tolist() == [3, 2]


def test_take_best_keeps_the_order_of_ties() -> None:
    scores = np.tile(np.array([0.5, 0.7, 0.6], np.float32), 100)
    best = take_best(Candidates(np.zeros((300, 4), np.float32), scores, np.arange(300)), np.arange(300), 150)
    assert best.class_ids.tolist() == [*range(1, 300, 3), *range(2, 152, 3)]
