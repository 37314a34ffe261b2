"""The input cut to the picture, as it is by default: where it is, what is found, and that no shape is dear."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from tidesight.detection.detector import DetectOptions, Detector
from tidesight.detection.engines import RunPlan, with_shape
from tidesight.detection.image import DecodedImage, Pixels
from tidesight.detection.letterbox import Letterbox
from tidesight.detection.probe import USUAL_MARGIN_PX
from tidesight.errors import ConfigError, ModelError
from tidesight.serving.memory import program_bytes

TinyModel = Callable[..., Path]
SIZES = [(512, 512), (512, 341), (341, 512), (500, 281), (333, 500), (512, 217), (511, 509)]


@pytest.fixture(scope="module")
def cut() -> Detector:
    return Detector.open(engine="onnxruntime")


@pytest.fixture(scope="module")
def square() -> Detector:
    return Detector.open(engine="onnxruntime", plan=RunPlan())


def network(path: Path, nodes: list[Any], values: list[Any] | None = None, side: int | str = 0) -> Path:
    """A network `images` -> `output0` whose input declares an open size (or a fixed side)."""
    sides = [side, side] if side else ["height", "width"]
    shapes = ["images", [1, 3, *sides]], ["output0", [1, None, None]]
    given, found = (helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in shapes)
    graph = helper.make_graph(nodes, "made", [given], [found], values or [])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 12)], ir_version=7), path)
    return path


def list_of_cells(path: Path, pool_px: int) -> Path:
    """An output (1, n, 6), as an end-to-end model has it, but with more rows the larger the input is."""
    nodes = [
        helper.make_node("AveragePool", ["images"], ["p"], kernel_shape=[pool_px] * 2, strides=[pool_px] * 2),
        helper.make_node("Reshape", ["p", "rows"], ["output0"]),
    ]
    return network(path, nodes, [numpy_helper.from_array(np.array([1, -1, 6], np.int64), "rows")])


def test_the_embedded_model_is_cut_to_the_picture(cut: Detector, square: Detector) -> None:
    assert (cut.plan.margin_px, square.plan.margin_px) == (USUAL_MARGIN_PX, None)
    assert (cut.model.input_width_px, cut.model.input_height_px) == (416, 416)
    assert cut.clone().plan == cut.plan


def test_a_fixed_model_stays_square(fixed_model: Path, square: Detector, astronaut: Pixels) -> None:
    fixed = Detector.open(fixed_model, engine="onnxruntime")
    assert fixed.plan == RunPlan()
    for picture in (astronaut, astronaut[:300]):
        one, other = fixed.detect(picture), square.detect(picture)
        np.testing.assert_array_equal(one.boxes, other.boxes)
        np.testing.assert_array_equal(one.scores, other.scores)


def test_openvino_stays_square_at_the_size_that_the_file_says(astronaut: Pixels, square: Detector) -> None:
    pytest.importorskip("openvino", reason="openvino is not installed")
    detector = Detector.open(engine="openvino")
    assert detector.plan == RunPlan()
    options = DetectOptions(confidence=0.4)
    one, other = detector.detect(astronaut[:300], options), square.detect(astronaut[:300], options)
    assert one.class_ids.tolist() == other.class_ids.tolist()
    np.testing.assert_allclose(one.boxes, other.boxes, atol=4.0)


def test_a_square_picture_is_found_the_same(cut: Detector, square: Detector, astronaut: Pixels) -> None:
    one, other = cut.detect(astronaut), square.detect(astronaut)
    assert len(one)
    np.testing.assert_array_equal(one.boxes, other.boxes)
    np.testing.assert_array_equal(one.scores, other.scores)


@pytest.mark.parametrize(("width", "height"), SIZES)
def test_other_shapes_are_found_much_the_same(
    width: int, height: int, cut: Detector, square: Detector, astronaut: Pixels
) -> None:
    picture = np.ascontiguousarray(astronaut[:height, :width])
    (one, *_), (other, *_) = cut.detect(picture), square.detect(picture)
    assert one.label == other.label == "person"
    assert one.score == pytest.approx(other.score, abs=0.1)
    np.testing.assert_allclose(one.box, other.box, atol=0.04 * 512)


@pytest.mark.parametrize(("width", "height"), [(1, 1), (2, 3), (1, 31), (3000, 100), (90, 2700), (5000, 1), (33, 32)])
def test_extreme_and_tiny_pictures(width: int, height: int, cut: Detector) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    found = cut.detect(picture, DetectOptions(confidence=0.0, iou=1.0))
    assert len(found)
    assert (found.boxes >= 0).all()
    assert (found.boxes <= [width, height, width, height]).all()


def test_one_detector_takes_all_shapes_in_turn(cut: Detector, astronaut: Pixels) -> None:
    pictures = [np.ascontiguousarray(astronaut[:h, :w]) for w, h in SIZES]
    alone = [Detector.open(engine="onnxruntime").detect(picture) for picture in pictures]
    for _ in range(2):
        for picture, expected in zip(pictures, alone, strict=True):
            np.testing.assert_array_equal(cut.detect(picture).boxes, expected.boxes)


def test_there_are_few_shapes(cut: Detector) -> None:
    """Sides are multiples of 32 and one of them is the model's: 13 + 12 at 416 px, whatever callers send."""
    box = Letterbox(416, 416, cut.model.head.input_format, margin_px=USUAL_MARGIN_PX)
    ratios = np.geomspace(1 / 1000, 1000, 3000)
    sizes = [(max(1, round(1000 * min(1, r))), max(1, round(1000 / max(1, r)))) for r in ratios]
    placed = [box.fit(DecodedImage(np.zeros((h, w, 3), np.uint8), w, h)) for w, h in sizes]
    assert len({(one.input_width_px, one.input_height_px) for one in placed}) == 25


# A picture of every shape, twice, as two workers would run them; what the process has grown to since it was loaded.
GROWTH = """
import sys
import numpy as np
from concurrent.futures import ThreadPoolExecutor
from tidesight.detection.detector import Detector

def resident():
    return next(int(line.split()[1]) * 1024 for line in open("/proc/self/status") if line.startswith("VmRSS"))

first = Detector.open(engine="onnxruntime", threads=2)
first.warm_up()
detectors = [first, first.clone()]
long = [(416, 32 * n - 16) for n in range(1, 14)]
pictures = [np.zeros((h, w, 3), np.uint8) for a, b in long for w, h in ((a, b), (b, a))]

def work(detector):
    for picture in pictures * 2:
        detector.detect(picture)

def round():
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(work, detectors))
    return resident()

once, again = round(), round()
print(once, again)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux")
def test_all_shapes_fit_the_memory_plan_and_none_leaks() -> None:
    done = subprocess.run([sys.executable, "-c", GROWTH], capture_output=True, text=True, check=True)
    once, again = map(int, done.stdout.split())
    assert again - once < 8 * 2**20
    assert again < program_bytes("onnxruntime", 4 * 2**20, 2)


def test_an_export_that_declares_what_it_does_not_hold_stays_square(tmp_path: Path) -> None:
    plane = numpy_helper.from_array(np.zeros((1, 3, 640, 640), np.float32), "plane")
    cells = numpy_helper.from_array(np.array([1, 12, -1], np.int64), "cells")
    nodes = [
        helper.make_node("Add", ["images", "plane"], ["sum"]),
        helper.make_node("AveragePool", ["sum"], ["p"], kernel_shape=[32, 32], strides=[32, 32]),
        helper.make_node("Reshape", ["p", "cells"], ["output0"]),
    ]
    detector = Detector.open(network(tmp_path / "baked.onnx", nodes, [plane, cells]), engine="onnxruntime")
    assert detector.plan == RunPlan()
    detector.detect(np.zeros((100, 200, 3), np.uint8))


def test_a_list_that_is_shorter_at_a_smaller_size_stays_square(tmp_path: Path) -> None:
    detector = Detector.open(list_of_cells(tmp_path / "short.onnx", 32), engine="onnxruntime")
    assert (detector.model.head.name, detector.plan) == ("end_to_end", RunPlan())


def test_what_is_refused_at_its_own_size_is_not_taken_for_another_when_small(tmp_path: Path) -> None:
    """YOLOv5 with one class: n x 6 with far more rows than a list has, but few at 640x32."""
    with pytest.raises(ModelError, match="unknown output"):
        Detector.open(list_of_cells(tmp_path / "anchors.onnx", 8), engine="onnxruntime")


def test_a_model_of_ones_own_with_an_open_size_is_cut(tiny_model: TinyModel) -> None:
    opened = tiny_model(np.zeros((1, 20, 6)), input_shape=("n", 3, "h", "w"))
    assert Detector.open(opened, engine="onnxruntime").plan == RunPlan(margin_px=USUAL_MARGIN_PX)
    half = tiny_model(np.zeros((1, 20, 6)), input_shape=(1, 3, 64, "w"), name="half")
    assert Detector.open(half, engine="onnxruntime").plan == RunPlan()


def test_the_square_can_be_had_back() -> None:
    tuned = RunPlan(2, "bf16", 320, 0)
    assert with_shape(None, "auto") is None
    assert with_shape(tuned, "auto") == tuned
    assert with_shape(None, "square") == RunPlan()
    assert with_shape(tuned, "square") == RunPlan(2, "bf16", 320, None)
    with pytest.raises(ConfigError, match="input_shape: expected auto or square, got 'round'"):
        with_shape(None, "round")
