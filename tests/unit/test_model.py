"""What a model file is, from the file alone."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tidesight.detection.coco import COCO_NAMES
from tidesight.detection.detector import Detector
from tidesight.detection.embedded import embedded_model
from tidesight.detection.engines import Signature, TensorSpec
from tidesight.detection.model import ModelInfo, describe, input_size, read_labels
from tidesight.errors import ConfigError, ModelError

FILE = Path("some/model.onnx")
Shape = tuple[int | None, ...]


def signature(
    input_shape: Shape = (1, 3, 64, 64), metadata: dict[str, str] | None = None, dtype: str = "float32"
) -> Signature:
    return Signature(
        (TensorSpec("images", input_shape, dtype),),
        (TensorSpec("output", (1, 84, 84), "float32"),),
        metadata or {},
    )


def described(classes: int, metadata: dict[str, str] | None = None, labels: Path | None = None) -> ModelInfo:
    """A YOLOX model of a 64x64 input with this many classes."""
    return describe(FILE, signature(metadata=metadata), [(1, 84, 5 + classes)], labels)


def labels_file(folder: Path, text: str | bytes) -> Path:
    file = folder / "labels.txt"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    return file


def test_coco_has_eighty_different_names() -> None:
    assert len(COCO_NAMES) == len(set(COCO_NAMES)) == 80
    assert COCO_NAMES[0] == "person"
    assert COCO_NAMES[9] == "traffic light"
    assert COCO_NAMES[79] == "toothbrush"
    assert all(name == name.strip() and "  " not in name for name in COCO_NAMES)


@pytest.mark.parametrize(
    "metadata",
    [
        {"tidesight.names": '["cat", "dog", "cow"]'},
        {"names": "{0: 'cat', 1: 'dog', 2: 'cow'}"},
        {"names": "{2: 'cow', 0: 'cat', 1: 'dog'}"},
        {"names": "['cat', 'dog', 'cow']"},
        {"names": "('cat', 'dog', 'cow')"},
        {"names": "{0: 'x', 1: 'y', 2: 'z'}", "tidesight.names": '["cat", "dog", "cow"]'},
    ],
)
def test_names_from_the_file(metadata: dict[str, str]) -> None:
    assert described(3, metadata).class_names == ("cat", "dog", "cow")


def test_names_that_are_not_ascii() -> None:
    assert described(1, {"tidesight.names": json.dumps(["Fußgänger"])}).class_names == ("Fußgänger",)


@pytest.mark.parametrize(
    "metadata",
    [
        {},
        {"names": ""},
        {"names": "cat, dog"},
        {"names": "{0: 'cat'"},
        {"names": "__import__('os').getpid()"},
        {"names": "5"},
        {"names": "'abc'"},
        {"names": "None"},
        {"names": "{0: 'cat', 'one': 'dog', 2: 'cow'}"},
        {"names": "{0: 'cat', 1: 'dog'}"},
        {"names": "[" * 5000 + "]" * 5000},
        {"names": "\0"},
        {"tidesight.names": "[1, 2"},
        {"tidesight.names": "5"},
        {"tidesight.names": '"abc"'},
        {"tidesight.names": '["too", "few"]'},
        {"tidesight.names": "[" * 100_000},
    ],
)
def test_without_usable_names_classes_are_numbered(metadata: dict[str, str]) -> None:
    assert described(3, metadata).class_names == ("class_0", "class_1", "class_2")


def test_eighty_classes_without_names_are_cocos() -> None:
    assert described(80).class_names == COCO_NAMES
    assert described(80, {"names": "{0: 'cat'}"}).class_names == COCO_NAMES


def test_an_end_to_end_output_takes_the_names_as_they_are() -> None:
    metadata = {"names": "{0: 'cat', 1: 'dog'}"}
    assert describe(FILE, signature(metadata=metadata), [(1, 300, 6)], None).class_names == ("cat", "dog")
    assert describe(FILE, signature(), [(1, 300, 6)], None).class_names == COCO_NAMES


def test_a_labels_file_wins(tmp_path: Path) -> None:
    file = labels_file(tmp_path, "a\r\n\n  bé \nc\n")
    assert described(3, {"tidesight.names": '["x", "y", "z"]'}, file).class_names == ("a", "bé", "c")


def test_a_labels_file_must_have_as_many_names_as_classes(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"2 names.*3 classes") as caught:
        described(3, labels=labels_file(tmp_path, "a\nb\n"))
    assert caught.value.field == "labels"


@pytest.mark.parametrize("content", [b"", b"\n \n", b"\xff\xfe\0"])
def test_a_labels_file_that_cannot_be_used(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(ConfigError) as caught:
        read_labels(labels_file(tmp_path, content))
    assert caught.value.field == "labels"


def test_a_labels_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="absent"):
        read_labels(tmp_path / "absent.txt")


@pytest.mark.parametrize(
    ("shape", "metadata", "expected"),
    [
        ((1, 3, 416, 320), {}, (320, 416)),
        ((None, 3, 416, 320), {}, (320, 416)),
        ((1, None, 64, 64), {}, (64, 64)),
        ((1, 3, None, None), {}, (640, 640)),
        ((1, 3, None, None), {"imgsz": "[480, 640]"}, (640, 480)),
        ((1, 3, None, None), {"imgsz": "(480, 640)"}, (640, 480)),
        ((1, 3, None, None), {"imgsz": "320"}, (320, 320)),
        ((1, 3, None, None), {"tidesight.input_size": "416x320"}, (320, 416)),
        ((1, 3, None, None), {"tidesight.input_size": "416x320", "imgsz": "[640, 640]"}, (320, 416)),
        ((1, 3, None, None), {"imgsz": "large"}, (640, 640)),
        ((1, 3, None, None), {"imgsz": "[1, 2, 3]"}, (640, 640)),
        ((1, 3, None, None), {"imgsz": "²"}, (640, 640)),
        ((1, 3, 416, None), {"imgsz": "[480, 640]"}, (640, 416)),
    ],
)
def test_input_size(shape: Shape, metadata: dict[str, str], expected: tuple[int, int]) -> None:
    assert input_size(FILE, signature(shape, metadata)) == expected


@pytest.mark.parametrize("shape", [(4, 3, 64, 64), (1, 1, 64, 64), (1, 64, 64, 3), (1, 3, 64), (3, 64, 64), ()])
def test_an_input_that_is_no_single_picture(shape: Shape) -> None:
    with pytest.raises(ModelError, match="one float picture 1x3xHxW"):
        input_size(FILE, signature(shape))


@pytest.mark.parametrize("dtype", ["uint8", "int64", "float64", "tensor(string)"])
def test_an_input_that_is_not_float(dtype: str) -> None:
    with pytest.raises(ModelError, match="one float picture"):
        input_size(FILE, signature(dtype=dtype))


@pytest.mark.parametrize("shape", [(1, 3, 31, 64), (1, 3, 64, 4097)])
def test_an_input_size_out_of_range(shape: Shape) -> None:
    with pytest.raises(ModelError, match="outside 32 to 4096"):
        input_size(FILE, signature(shape))


@pytest.mark.parametrize("task", ["pose", "segment", "obb", "classify"])
def test_another_task_is_refused_though_its_shape_would_fit(task: str) -> None:
    with pytest.raises(ModelError, match=f"task '{task}'"):
        describe(FILE, signature(metadata={"task": task}), [(1, 56, 84)], None)


def test_the_task_detect_is_taken() -> None:
    assert describe(FILE, signature(metadata={"task": "detect"}), [(1, 56, 84)], None).head.name == "ultralytics"


@pytest.mark.parametrize("shapes", [[(1, 1000)], [(1, 84, 84), (1, 32, 16, 16)], []])
def test_an_unknown_output_lists_what_there_is_and_what_would_do(shapes: list[tuple[int, ...]]) -> None:
    file = Signature(
        (TensorSpec("images", (1, 3, None, 64), "float16"),),
        (TensorSpec("logits", (1, 1000), "float32"), TensorSpec("mask", (1, 32, None, 16), "float32")),
    )
    with pytest.raises(ModelError) as caught:
        describe(FILE, file, shapes, None)
    message = caught.value.detail
    for part in (
        "model.onnx",
        "Inputs: images[1x3x?x64] float16",
        "Outputs: logits[1x1000] float32, mask[1x32x?x16] float32",
        "YOLOX",
        "v8",
        "11",
        "v10",
        "26",
    ):
        assert part in message
    assert "\n" not in message
    assert "some/" not in message


def test_what_is_known_of_the_embedded_model() -> None:
    info = Detector.open(engine="onnxruntime").model
    assert info.path == embedded_model()
    assert info.name == "yolox-nano-coco128"
    assert info.head.name == "yolox"
    assert (info.input_width_px, info.input_height_px, info.dtype) == (416, 416, "float32")
    assert info.class_names == COCO_NAMES
    assert info.sha256() == hashlib.sha256(embedded_model().read_bytes()).hexdigest()


def test_the_file_may_be_one_that_leaves_sizes_open(tiny_model: Callable[..., Path]) -> None:
    metadata = {"imgsz": "[96, 128]", "names": "{0: 'cat'}", "task": "detect"}
    grid = sum((128 // s) * (96 // s) for s in (8, 16, 32))
    path = tiny_model(np.zeros((1, 5, grid)), input_shape=("batch", 3, "height", "width"), metadata=metadata)
    info = Detector.open(path, engine="onnxruntime").model
    assert (info.input_width_px, info.input_height_px) == (128, 96)
    assert info.head.name == "ultralytics"
    assert info.class_names == ("cat",)
    assert info.metadata["task"] == "detect"
