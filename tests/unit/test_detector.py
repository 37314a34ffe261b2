"""A detector from picture to objects: with engines that need no model, and with real ONNX files."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tidesight.detection.detector import DetectOptions, Detector
from tidesight.detection.engines import Runner, Signature, Tensor, TensorSpec
from tidesight.detection.image import ImageLimits
from tidesight.detection.model import describe
from tidesight.errors import BadImage, ConfigError, ModelError, TooLarge, UnsupportedType

TinyModel = Callable[..., Path]
GREY = np.full((64, 64, 3), 114, np.uint8)
STAGES = ["decode", "preprocess", "inference", "postprocess"]


class Canned:
    """An engine that gives one answer to every picture, and remembers what it was shown."""

    def __init__(self, output: Any, metadata: dict[str, str] | None = None) -> None:
        self.output = np.asarray(output, np.float32)
        self.seen: list[Tensor] = []
        self.compiles_shapes = False
        self.signature = Signature(
            (TensorSpec("images", (1, 3, 64, 64), "float32"),),
            (TensorSpec("output", self.output.shape, "float32"),),
            metadata or {"tidesight.names": '["cat", "dog", "cow"]'},
        )

    def runner(self) -> Runner:
        def run(tensor: Tensor) -> list[Tensor]:
            self.seen.append(tensor.copy())
            return [self.output]

        return run

    def detector(self) -> Detector:
        return Detector(self, describe(Path("canned.onnx"), self.signature, [self.output.shape], None))


def end_to_end(*rows: list[float]) -> Detector:
    """A detector whose network finds these x1 y1 x2 y2 score class in its 64x64 input."""
    return Canned([[*rows, *[[0.0] * 6] * (10 - len(rows))]]).detector()


def test_the_fake_engine_finds_its_cat() -> None:
    found = Detector.open("fake", engine="fake").detect(np.full((100, 200, 3), 255, np.uint8))
    (cat,) = found
    # 200x100 fills 64x32 in the middle of 64x64: rows 16 to 48.
    assert cat.box == pytest.approx((50, 0, 150, 100))
    assert cat.label == "cat"
    assert cat.score > 0.8
    assert (found.image_width_px, found.image_height_px) == (200, 100)
    assert list(found.timings_s) == STAGES
    assert all(seconds >= 0 for seconds in found.timings_s.values())


def test_boxes_are_in_pixels_of_the_picture() -> None:
    found = end_to_end([16, 24, 48, 40, 0.9, 1]).detect(np.zeros((320, 640, 3), np.uint8))
    assert found.boxes.tolist() == [[160, 80, 480, 240]]
    assert [d.label for d in found] == ["dog"]
    assert [a.dtype.name for a in (found.boxes, found.scores, found.class_ids)] == ["float32", "float32", "int64"]


def test_boxes_of_a_reduced_picture_are_in_pixels_of_the_picture_in_full() -> None:
    data = cv2.imencode(".jpg", np.zeros((320, 640, 3), np.uint8))[1].tobytes()
    found = end_to_end([16, 24, 48, 40, 0.9, 1]).detect(data)
    assert found.boxes.tolist() == [[160, 80, 480, 240]]
    assert (found.image_width_px, found.image_height_px) == (640, 320)


def test_boxes_end_with_the_picture() -> None:
    found = end_to_end([-9, -9, 90, 90, 0.9, 0]).detect(np.zeros((30, 60, 3), np.uint8))
    assert found.boxes.tolist() == [[0, 0, 60, 30]]


def test_what_lies_wholly_in_the_padding_is_nothing() -> None:
    assert len(end_to_end([5, 2, 30, 12, 0.9, 0]).detect(np.zeros((32, 64, 3), np.uint8))) == 0


def test_the_least_score_is_included() -> None:
    detector = end_to_end([1, 1, 9, 9, 0.5, 0], [20, 20, 30, 30, 0.4375, 0])
    assert detector.detect(GREY, DetectOptions(confidence=0.4375)).scores.tolist() == [0.5, 0.4375]
    assert detector.detect(GREY, DetectOptions(confidence=0.5)).scores.tolist() == [0.5]
    assert len(detector.detect(GREY, DetectOptions(confidence=0.51))) == 0


def test_best_first_and_at_most_so_many() -> None:
    detector = end_to_end([1, 1, 9, 9, 0.5, 0], [20, 20, 30, 30, 0.9, 1], [40, 40, 50, 50, 0.7, 2])
    np.testing.assert_allclose(detector.detect(GREY).scores, [0.9, 0.7, 0.5])
    assert detector.detect(GREY, DetectOptions(max_detections=2)).class_ids.tolist() == [1, 2]


def test_only_the_classes_asked_for() -> None:
    detector = end_to_end([1, 1, 9, 9, 0.5, 0], [20, 20, 30, 30, 0.9, 1], [40, 40, 50, 50, 0.7, 2])
    assert detector.detect(GREY, DetectOptions(classes=frozenset({0, 2}))).class_ids.tolist() == [2, 0]
    # They are chosen before the best are taken.
    chosen = detector.detect(GREY, DetectOptions(classes=frozenset({0}), max_detections=1))
    assert chosen.class_ids.tolist() == [0]
    assert len(detector.detect(GREY, DetectOptions(classes=frozenset()))) == 0


def test_overlap_follows_the_option() -> None:
    output = np.zeros((1, 7, 84), np.float32)
    output[0, :, 0] = [30, 30, 20, 20, 0.9, 0, 0]
    output[0, :, 1] = [34, 30, 20, 20, 0.8, 0, 0]  # IoU 16 / 24
    output[0, :, 2] = [34, 30, 20, 20, 0, 0.7, 0]
    detector = Canned(output).detector()
    assert detector.detect(GREY, DetectOptions(iou=0.6)).class_ids.tolist() == [0, 1]
    assert detector.detect(GREY, DetectOptions(iou=0.7)).class_ids.tolist() == [0, 0, 1]


def test_the_network_sees_what_its_kind_expects() -> None:
    picture = np.full((64, 32, 3), (10, 20, 30), np.uint8)
    ultralytics, yolox = Canned(np.zeros((1, 7, 84))), Canned(np.zeros((1, 84, 8)))
    ultralytics.detector().detect(picture)
    yolox.detector().detect(picture)
    np.testing.assert_allclose(ultralytics.seen[0][0, :, 5, 32] * 255, [30, 20, 10], rtol=1e-5)
    np.testing.assert_allclose(ultralytics.seen[0][0, :, 5, 0] * 255, [114] * 3, rtol=1e-5)
    assert yolox.seen[0][0, :, 5, 0].tolist() == [10, 20, 30]
    assert yolox.seen[0][0, :, 5, 40].tolist() == [114] * 3


@pytest.mark.parametrize(
    "pixels",
    [
        np.zeros((5, 5, 3), np.float32),
        np.zeros((5, 5, 3), np.uint16),
        np.zeros((5, 5), np.uint8),
        np.zeros((5, 5, 4), np.uint8),
        np.zeros((1, 5, 5, 3), np.uint8),
        np.zeros((3, 5, 5), np.uint8),
        np.zeros((0, 5, 3), np.uint8),
        np.zeros((5, 0, 3), np.uint8),
    ],
)
def test_pixels_of_another_kind(pixels: Any) -> None:
    with pytest.raises(ValueError, match=r"expected uint8 pixels \(h, w, 3\)"):
        end_to_end().detect(pixels)


def test_bytes_that_cannot_be_used() -> None:
    detector = Detector.open("fake", engine="fake", limits=ImageLimits(max_pixels=100))
    with pytest.raises(BadImage):
        detector.detect(b"nothing")
    with pytest.raises(UnsupportedType):
        detector.detect(b"GIF89a" + bytes(50))
    with pytest.raises(TooLarge):
        detector.clone().detect(cv2.imencode(".png", GREY)[1].tobytes())


def test_an_error_leaves_the_detector_as_it_was() -> None:
    detector = end_to_end([16, 24, 48, 40, 0.9, 1])
    before = list(detector.detect(GREY))
    with pytest.raises(BadImage):
        detector.detect(b"nothing")
    assert list(detector.detect(GREY)) == before != []


NAN, INF = float("nan"), float("inf")
GOOD = [10.0, 10.0, 30.0, 40.0, 0.9, 1.0]


@pytest.mark.parametrize("value", [NAN, INF, -INF])
@pytest.mark.parametrize("at", range(6))
def test_a_row_that_is_not_finite_is_no_detection(at: int, value: float) -> None:
    broken = [20.0, 20.0, 50.0, 60.0, 0.95, 2.0]
    broken[at] = value
    assert end_to_end(GOOD, broken).detect(GREY).class_ids.tolist() == [1]


@pytest.mark.parametrize("class_id", [-1, 3, 80, 1e30, -1e30])
def test_an_id_without_a_name_is_no_detection(class_id: float) -> None:
    assert end_to_end(GOOD, [20, 20, 50, 60, 0.95, class_id]).detect(GREY).class_ids.tolist() == [1]


@pytest.mark.parametrize("box", [[50, 20, 20, 60], [20, 60, 50, 20], [20, 20, 20, 60], [20, 20, 50, 20]])
def test_a_box_inside_out_is_no_detection(box: list[float]) -> None:
    detector = end_to_end(GOOD, [*box, 0.95, 2.0])
    assert detector.detect(GREY, DetectOptions(max_detections=1)).class_ids.tolist() == [1]


@settings(max_examples=100, deadline=None)
@given(
    st.sampled_from([(84, 8), (7, 84), (10, 6)]),
    st.lists(st.floats(width=32) | st.floats(0, 1, width=32) | st.just(1e30), min_size=1, max_size=40),
    st.integers(0, 2**32 - 1),
    st.sampled_from([0.0, 0.25]),
)
def test_no_output_breaks_the_contract(
    shape: tuple[int, int], values: list[float], seed: int, confidence: float
) -> None:
    output = np.random.default_rng(seed).choice(np.array(values, np.float32), (1, *shape))
    found = Canned(output).detector().detect(GREY, DetectOptions(confidence=confidence))
    assert np.isfinite(found.scores).all()
    assert (found.scores >= confidence).all()
    assert (np.diff(found.scores) <= 0).all()
    assert len(found) <= 100
    assert ((found.boxes >= 0) & (found.boxes <= 64)).all()
    assert (found.boxes[:, 2:] > found.boxes[:, :2]).all()


@pytest.mark.parametrize(
    ("shape", "names"),
    [((1, 84, 5), 0), ((1, 84, 6), 1), ((1, 84, 8), 3), ((1, 5, 84), 1), ((1, 84, 85), 80), ((1, 84, 84), 79)],
)
def test_a_model_of_any_number_of_classes(tiny_model: TinyModel, shape: tuple[int, ...], names: int) -> None:
    path = tiny_model(np.zeros(shape))
    if not names:
        with pytest.raises(ModelError, match="unknown output"):
            Detector.open(path, engine="onnxruntime")
        return
    detector = Detector.open(path, engine="onnxruntime")
    assert len(detector.class_names) == names
    assert len(detector.detect(GREY)) == 0


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("shape", [(1, 3, 64, 64), ("n", 3, 64, 64), (1, 3, "h", "w"), ("n", 3, "h", "w")])
def test_open_sizes_and_half_precision(tiny_model: TinyModel, shape: tuple[int | str, ...], dtype: str) -> None:
    output = np.zeros((1, 20, 6))
    output[0, 3] = [16, 24, 48, 40, 0.9, 1]
    metadata = {"imgsz": "[64, 64]", "names": "{0: 'cat', 1: 'dog'}"}
    path = tiny_model(output, input_shape=shape, dtype=dtype, metadata=metadata)
    (dog,) = Detector.open(path, engine="onnxruntime").detect(np.zeros((320, 640, 3), np.uint8))
    assert dog.box == pytest.approx((160, 80, 480, 240))
    assert dog.label == "dog"


def test_a_broken_export_finds_nothing(tiny_model: TinyModel) -> None:
    detector = Detector.open(tiny_model(np.full((1, 84, 8), np.nan)), engine="onnxruntime")
    assert len(detector.detect(GREY, DetectOptions(confidence=0))) == 0


@pytest.mark.parametrize("changes", [{"inputs": 2}, {"outputs": 2}, {"input_shape": (2, 3, 64, 64)}])
def test_a_file_that_is_no_detector(tiny_model: TinyModel, changes: dict[str, Any]) -> None:
    with pytest.raises(ModelError, match="not a detector"):
        Detector.open(tiny_model(np.zeros((1, 84, 8)), **changes), engine="onnxruntime")


def test_no_such_file(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"no model file .*absent\.onnx"):
        Detector.open(tmp_path / "absent.onnx")
    with pytest.raises(ModelError, match="no model file"):
        Detector.open(tmp_path)


def test_labels_that_do_not_fit(tmp_path: Path) -> None:
    labels = tmp_path / "labels.txt"
    labels.write_text("just one\n")
    with pytest.raises(ConfigError, match="1 names"):
        Detector.open(engine="onnxruntime", labels=labels)


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 400), st.integers(1, 400), st.integers(0, 2**32 - 1))
def test_any_picture_gives_boxes_inside_it(width: int, height: int, seed: int) -> None:
    output = np.random.default_rng(seed).uniform(-20, 90, (1, 10, 6))
    output[..., 4:] = [0.5, 1]
    found = Canned(output).detector().detect(np.zeros((height, width, 3), np.uint8))
    assert (found.boxes >= 0).all()
    assert (found.boxes[:, [0, 2]] <= width).all()
    assert (found.boxes[:, [1, 3]] <= height).all()
    assert (found.boxes[:, 2:] > found.boxes[:, :2]).all()
