"""The value type of a result."""

import dataclasses

import numpy as np
import pytest

from tidesight.detection.detections import Detection, Detections


def detections(n: int, **changes: object) -> Detections:
    """`n` boxes of class 1."""
    values: dict[str, object] = {
        "boxes": np.arange(4 * n, dtype=np.float32).reshape(n, 4),
        "scores": np.linspace(0.9, 0.1, n, dtype=np.float32),
        "class_ids": np.ones(n, np.int64),
        "class_names": ("cat", "dog"),
        "image_width_px": 640,
        "image_height_px": 480,
    }
    return Detections(**(values | changes))  # type: ignore[arg-type]


def test_iterating_gives_plain_values() -> None:
    found = list(detections(2))
    assert found[0] == Detection((0.0, 1.0, 2.0, 3.0), float(np.float32(0.9)), 1, "dog")
    assert [type(v) for v in (*found[1].box, found[1].score, found[1].class_id)] == [float] * 5 + [int]


def test_length() -> None:
    assert len(detections(3)) == 3
    assert len(detections(0)) == 0
    assert list(detections(0)) == []


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("boxes", np.zeros((3, 4), np.float32)),
        ("boxes", np.zeros((2, 5), np.float32)),
        ("boxes", np.zeros(8, np.float32)),
        ("class_ids", np.zeros(1, np.int64)),
        ("class_ids", np.zeros((2, 1), np.int64)),
        ("scores", np.zeros((2, 1), np.float32)),
    ],
)
def test_shapes_must_agree(name: str, value: object) -> None:
    with pytest.raises(ValueError, match="expected shape"):
        detections(2, **{name: value})


@pytest.mark.parametrize("ids", [[0, 2], [-1, 0]])
def test_every_id_needs_a_name(ids: list[int]) -> None:
    with pytest.raises(ValueError, match="class_ids: expected 0 to 1"):
        detections(2, class_ids=np.array(ids, np.int64))


def test_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        detections(1).image_width_px = 5  # type: ignore[misc]
