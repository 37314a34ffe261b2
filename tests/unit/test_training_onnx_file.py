"""Self-describing files: weights out and in, other classes, metadata."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tidesight.detection.coco import COCO_NAMES
from tidesight.detection.detector import Detector
from tidesight.detection.embedded import embedded_model
from tidesight.detection.image import Pixels
from tidesight.errors import ModelError
from tidesight.training.onnx_file import (
    Convolution,
    average,
    class_count,
    get_metadata,
    input_side_px,
    load_model,
    read_convolutions,
    replace_convolutions,
    set_metadata,
)
from tidesight.training.transfer import with_classes

onnx = pytest.importorskip("onnx", reason="files are read with onnx (extra: train)")


@pytest.fixture(scope="module")
def model() -> Any:
    return load_model(embedded_model())


def test_the_embedded_model_is_a_yolox_nano(model: Any) -> None:
    convolutions = read_convolutions(model)
    assert (len(convolutions), class_count(model), input_side_px(model)) == (113, 80, 416)
    assert sum(c.weight.size + c.bias.size for c in convolutions) == 904_463


def test_changed_weights_arrive_in_the_file_and_the_original_stays(model: Any) -> None:
    before = read_convolutions(model)
    changed = replace_convolutions(model, [Convolution(c.weight * 2, c.bias + 1) for c in before], 80)
    for old, new, untouched in zip(before, read_convolutions(changed), read_convolutions(model), strict=True):
        np.testing.assert_array_equal(new.weight, old.weight * 2)
        np.testing.assert_array_equal(new.bias, old.bias + 1)
        np.testing.assert_array_equal(untouched.weight, old.weight)


def test_a_wrong_number_of_weights_is_refused(model: Any) -> None:
    with pytest.raises(ValueError, match="expected 113"):
        replace_convolutions(model, read_convolutions(model)[:-1], 80)


def test_fewer_classes_keep_what_is_known_of_them(model: Any, tmp_path: Path, astronaut: Pixels) -> None:
    names = ("tie", "unicorn", "person")
    smaller = replace_convolutions(model, with_classes(read_convolutions(model), COCO_NAMES, names, seed=0), 3)
    set_metadata(smaller, {"names": list(names)})
    onnx.checker.check_model(smaller, full_check=True)
    (tmp_path / "small.onnx").write_bytes(smaller.SerializeToString())
    full, small = Detector.open(engine="onnxruntime"), Detector.open(tmp_path / "small.onnx", engine="onnxruntime")
    assert small.class_names == names
    persons = [[d for d in each.detect(astronaut) if d.label == "person"] for each in (full, small)]
    assert len(persons[0]) == 1
    assert persons[1][0].box == pytest.approx(persons[0][0].box)
    assert persons[1][0].score == pytest.approx(persons[0][0].score)


def test_new_classes_start_unlikely_and_the_seed_decides() -> None:
    weights = [Convolution(np.ones((2, 4, 1, 1), np.float32), np.ones(2, np.float32)) for _ in range(36)]
    changed = with_classes(weights, ("a", "b"), ("b", "new"), seed=3)
    for at in (5, 17, 29):
        np.testing.assert_array_equal(changed[at].weight[0], weights[at].weight[1])
        assert changed[at].bias.tolist() == pytest.approx([1, np.log(0.01 / 0.99)])
        assert abs(changed[at].weight[1]).max() < 0.1
    assert all(changed[at] is weights[at] for at in range(36) if at not in (5, 17, 29))
    again, other = (with_classes(weights, ("a", "b"), ("b", "new"), seed)[5].weight for seed in (3, 4))
    np.testing.assert_array_equal(changed[5].weight, again)
    assert (again[1] != other[1]).any()


def test_averages_lie_on_the_line_from_start_to_trained() -> None:
    start = [Convolution(np.zeros((1, 1, 1, 1), np.float32), np.array([1], np.float32))]
    trained = [Convolution(np.full((1, 1, 1, 1), 4, np.float32), np.array([3], np.float32))]
    for share in (0.0, 0.25, 1.0):
        (between,) = average(start, trained, share)
        assert (between.weight.item(), between.bias.item()) == (4 * share, 1 + 2 * share)
        assert between.weight.dtype == np.float32


def test_metadata_is_text_json_and_the_last_word(model: Any) -> None:
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    set_metadata(copy, {"names": ["a", "ü"], "head": "yolox"})
    set_metadata(copy, {"head": "other"})
    metadata = get_metadata(copy)
    assert (metadata["tidesight.names"], metadata["tidesight.head"]) == ('["a","\\u00fc"]', "other")
    assert len(metadata) == len(copy.metadata_props)


@pytest.mark.parametrize("content", [b"", b"not onnx at all", None], ids=["empty", "text", "absent"])
def test_a_file_that_is_no_model_is_a_model_error(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "broken.onnx"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ModelError, match=r"broken\.onnx"):
        load_model(path)
