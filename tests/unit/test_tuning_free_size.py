"""Opening the input size of a file: the same answers at the native size, a true grid at every other, or a refusal."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from tidesight.detection.detector import DetectOptions, Detector
from tidesight.detection.embedded import embedded_model
from tidesight.detection.engines import RunPlan, load_engine
from tidesight.detection.image import Pixels
from tidesight.errors import ModelError
from tidesight.tuning.free_size import free_size

SIDE = 128
CELLS = 16 * 16 + 8 * 8 + 4 * 4
STRIDES = (8, 16, 32)


def grid(width: int, height: int) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Cell centres (1, 2, n) in cells and strides (1, n), written without the code under test."""
    centres = [(x + 0.5, y + 0.5, s) for s in STRIDES for y in range(height // s) for x in range(width // s)]
    table = np.array(centres, np.float32)
    return table[:, :2].T[None].copy(), table[:, 2][None].copy()


def ultralytics_like(path: Path, extra: Callable[[list[Any], list[Any]], None] = lambda nodes, values: None) -> Path:
    """A network with the tail of an Ultralytics export: every box is its cell's centre, every score the mean colour."""
    centres, strides = grid(SIDE, SIDE)
    values = [
        numpy_helper.from_array(centres, "anchors"),
        numpy_helper.from_array(strides, "strides"),
        numpy_helper.from_array(np.array([1, 3, -1], np.int64), "flat"),
        numpy_helper.from_array(np.array([1, 3, 1, CELLS], np.int64), "baked"),
        numpy_helper.from_array(np.array([1, 3, CELLS], np.int64), "baked3"),
    ]
    nodes = []
    for s in STRIDES:
        nodes.append(helper.make_node("AveragePool", ["images"], [f"p{s}"], kernel_shape=[s, s], strides=[s, s]))
        nodes.append(helper.make_node("Reshape", [f"p{s}", "flat"], [f"f{s}"]))
    nodes += [
        helper.make_node("Concat", [f"f{s}" for s in STRIDES], ["colours"], axis=2),
        helper.make_node("Reshape", ["colours", "baked"], ["four"]),
        helper.make_node("Reshape", ["four", "baked3"], ["scores"]),
        helper.make_node("Mul", ["anchors", "strides"], ["xy"]),
        helper.make_node("Concat", ["xy", "xy", "scores"], ["output0"], axis=1),
    ]
    extra(nodes, values)
    graph = helper.make_graph(
        nodes,
        "tail",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, [1, 3, SIDE, SIDE])],
        [helper.make_tensor_value_info("output0", TensorProto.FLOAT, [1, 7, CELLS])],
        values,
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 12)], ir_version=7), path)
    return path


def test_an_ultralytics_grid_follows_the_input(tmp_path: Path) -> None:
    source, opened = ultralytics_like(tmp_path / "fixed.onnx"), tmp_path / "open.onnx"
    free_size(source, opened)
    run = load_engine("onnxruntime", opened).runner()
    for width, height in ((128, 128), (96, 160), (224, 32)):
        picture = np.random.default_rng(1).uniform(0, 1, (1, 3, height, width)).astype(np.float32)
        (output,) = run(picture)
        centres, strides = grid(width, height)
        np.testing.assert_allclose(output[0, :2], (centres * strides)[0])
        np.testing.assert_allclose(output[0, 4:, 0], picture[0, :, :8, :8].mean(axis=(1, 2)), rtol=1e-5)
    assert Detector.open(opened, engine="onnxruntime").model.input_width_px == SIDE  # its own size is remembered


def test_a_grid_that_is_not_understood_is_refused(tmp_path: Path) -> None:
    def other_constant(nodes: list[Any], values: list[Any]) -> None:
        values.append(numpy_helper.from_array(np.ones((1, CELLS), np.float32), "mystery"))
        nodes[-2] = helper.make_node("Mul", ["anchors", "strides"], ["xy0"])
        nodes.insert(-1, helper.make_node("Mul", ["xy0", "mystery"], ["xy"]))

    source = ultralytics_like(tmp_path / "fixed.onnx", other_constant)
    with pytest.raises(ModelError, match=r"the constant mystery \[1, 336\] holds something for each cell of one size"):
        free_size(source, tmp_path / "open.onnx")


def test_what_breaks_at_another_size_is_refused(tmp_path: Path) -> None:
    def fixed_plane(nodes: list[Any], values: list[Any]) -> None:
        values.append(numpy_helper.from_array(np.zeros((1, 3, SIDE, SIDE), np.float32), "plane"))
        nodes.insert(0, helper.make_node("Add", ["images", "plane"], ["sum"]))
        nodes[1] = helper.make_node("AveragePool", ["sum"], ["p8"], kernel_shape=[8, 8], strides=[8, 8])

    source = ultralytics_like(tmp_path / "fixed.onnx", fixed_plane)
    with pytest.raises(ModelError, match="fails at another size"):
        free_size(source, tmp_path / "open.onnx")
    assert not (tmp_path / "open.onnx").exists()


def test_the_embedded_model_is_its_fixed_self_with_an_open_size(tmp_path: Path, fixed_model: Path) -> None:
    opened = tmp_path / "open.onnx"
    free_size(fixed_model, opened)
    assert opened.read_bytes() == embedded_model().read_bytes()
    picture = np.random.default_rng(0).uniform(0, 255, (1, 3, 416, 416)).astype(np.float32)
    (before,), (after,) = (load_engine("onnxruntime", file).runner()(picture) for file in (fixed_model, opened))
    np.testing.assert_array_equal(after, before)
    (output,) = load_engine("onnxruntime", opened).signature.outputs
    assert output.shape == (1, None, 85)  # the classes are what they were


def test_a_fixed_model_opened_finds_the_same(tmp_path: Path, fixed_model: Path, astronaut: Pixels) -> None:
    opened = tmp_path / "open.onnx"
    free_size(fixed_model, opened)
    options = DetectOptions(confidence=0.4)
    before = Detector.open(fixed_model, engine="onnxruntime").detect(astronaut, options)
    wide = astronaut[:320]  # 512x320: 416x260 in the input, of which a square one wastes a third
    whole = Detector.open(fixed_model, engine="onnxruntime").detect(wide, options)
    for plan in (RunPlan(), RunPlan(side_px=416), RunPlan(side_px=416, margin_px=16)):
        detector = Detector.open(opened, engine="onnxruntime", plan=plan)
        after = detector.detect(astronaut, options)
        np.testing.assert_allclose(after.boxes, before.boxes, atol=0.5)
        cut = detector.detect(wide, options)
        assert cut.class_ids.tolist() == whole.class_ids.tolist()
        np.testing.assert_allclose(cut.boxes, whole.boxes, atol=8)


def test_a_fixed_file_has_one_size(fixed_model: Path) -> None:
    for plan in (RunPlan(side_px=320), RunPlan(margin_px=0)):
        with pytest.raises(ModelError, match="fixed at 416x416"):
            Detector.open(fixed_model, engine="onnxruntime", plan=plan)
    assert Detector.open(fixed_model, engine="onnxruntime", plan=RunPlan(side_px=416)).model.input_width_px == 416


def test_an_open_file_runs_at_the_plans_size(tmp_path: Path) -> None:
    for engine in ("onnxruntime", "openvino"):
        model = Detector.open(engine=engine, plan=RunPlan(side_px=320)).model
        assert (model.input_width_px, model.input_height_px) == (320, 320)
    with pytest.raises(ModelError, match="open already"):
        free_size(embedded_model(), tmp_path / "again.onnx")
