"""Reading data sets: layouts, YAML forms, and errors that name the file and the line."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tidesight.errors import DataError
from tidesight.training.dataset import read_dataset

NAMES = ("cat", "dog")


def yolo_folder(root: Path, labels: dict[str, str | None]) -> Path:
    """A YOLO folder; None is a picture without a label file. Pictures are not opened when a data set is read."""
    for name, text in labels.items():
        for kind in ("images", "labels"):
            (root / kind / "train").mkdir(parents=True, exist_ok=True)
        (root / "images" / "train" / f"{name}.jpg").write_bytes(b"never decoded here")
        if text is not None:
            (root / "labels" / "train" / f"{name}.txt").write_text(text)
    return root


def coco_folder(root: Path, **changes: Any) -> Path:
    (root / "images").mkdir(parents=True)
    (root / "images" / "a.jpg").write_bytes(b"never decoded here")
    content: dict[str, Any] = {
        "images": [{"id": 7, "file_name": "a.jpg", "width": 200, "height": 100}],
        "categories": [{"id": 90, "name": "dog"}, {"id": 3, "name": "cat"}],
        "annotations": [
            {"id": 1, "image_id": 7, "category_id": 90, "bbox": [20, 10, 40, 50], "iscrowd": 0},
            {"id": 2, "image_id": 7, "category_id": 3, "bbox": [0, 0, 200, 100], "iscrowd": 1},
        ],
    }
    (root / "instances.json").write_text(json.dumps(content | changes))
    return root


def test_yolo_folder_gives_corners_as_fractions_and_backgrounds(tmp_path: Path) -> None:
    folder = yolo_folder(tmp_path / "pets", {"b": None, "a": "1 0.5 0.5 0.2 0.4\n\n0 0.1 0.1 0.2 0.2\n", "c": ""})
    dataset = read_dataset(folder, NAMES)
    assert dataset.name == "pets"
    assert [sample.image.stem for sample in dataset.samples] == ["a", "b", "c"]
    np.testing.assert_allclose(dataset.samples[0].boxes, [[0.4, 0.3, 0.6, 0.7], [0.0, 0.0, 0.2, 0.2]])
    assert dataset.samples[0].class_ids.tolist() == [1, 0]
    assert dataset.samples[1].boxes.shape == dataset.samples[2].boxes.shape == (0, 4)
    assert dataset.box_count == 2


def test_a_folder_within_images_is_a_data_set_too(tmp_path: Path) -> None:
    folder = yolo_folder(tmp_path, {"a": "0 0.5 0.5 0.1 0.1"})
    assert read_dataset(folder / "images" / "train", NAMES).box_count == 1


def test_boxes_that_stick_out_by_rounding_are_clipped(tmp_path: Path) -> None:
    dataset = read_dataset(yolo_folder(tmp_path, {"a": "0 0.5 0.5 1.0001 1.0001"}), NAMES)
    assert dataset.samples[0].boxes.tolist() == [[0, 0, 1, 1]]


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("0 0.5 0.5 0.1", "got 4 values"),
        ("0 0.5 0.5 0.1 0.1 0.9", "got 6 values"),
        ("cat 0.5 0.5 0.1 0.1", "not numbers"),
        ("0.5 0.5 0.5 0.1 0.1", "not numbers"),
        ("2 0.5 0.5 0.1 0.1", "class 2 is not among the 2 known"),
        ("-1 0.5 0.5 0.1 0.1", "class -1"),
        ("0 0.5 0.5 0 0.1", "empty"),
        ("0 0.5 0.5 nan 0.1", "empty"),
        ("0 320 240 50 50", "fractions"),
        ("0 0.99 0.5 0.1 0.1", "outside the picture"),
    ],
)
def test_a_bad_label_is_named_by_file_and_line(tmp_path: Path, line: str, complaint: str) -> None:
    folder = yolo_folder(tmp_path, {"fine": "0 0.5 0.5 0.1 0.1", "bad": f"1 0.5 0.5 0.1 0.1\n{line}\n"})
    with pytest.raises(DataError, match=r"bad\.txt:2: ") as raised:
        read_dataset(folder, NAMES)
    assert complaint in raised.value.detail


def test_label_files_in_the_wrong_place_are_not_taken_for_backgrounds(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no picture has a label file"):
        read_dataset(yolo_folder(tmp_path, {"a": None, "b": None}), NAMES)


@pytest.mark.parametrize("path", ["nowhere", "."])
def test_a_folder_that_is_no_data_set_is_refused(tmp_path: Path, path: str) -> None:
    with pytest.raises(DataError):
        read_dataset(tmp_path / path, NAMES)


def test_an_empty_data_set_is_refused(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    with pytest.raises(DataError, match="holds no picture"):
        read_dataset(tmp_path, NAMES)


def test_a_yolo_folder_without_names_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="names no classes"):
        read_dataset(yolo_folder(tmp_path, {"a": "0 0.5 0.5 0.1 0.1"}))


@pytest.mark.parametrize(
    "yaml",
    [
        "path: .\ntrain: images/train\nnames: [cow, hen]\n",
        "train: images/train/\nval: images/train\nnames: {1: hen, 0: cow}\nnc: 2\n",
        "train: [images/train]\nnames:\n  - cow\n  - hen\n",
        "path: ../farm\ntrain: list.txt\nnames: [cow, hen]\n",
    ],
    ids=["relative path", "mapping", "list of folders", "text file"],
)
def test_yaml_forms(tmp_path: Path, yaml: str) -> None:
    pytest.importorskip("yaml", reason="reads YAML, which needs PyYAML")
    folder = yolo_folder(tmp_path / "farm", {"a": "1 0.5 0.5 0.2 0.2", "b": None})
    (folder / "list.txt").write_text("./images/train/a.jpg\nimages/train/b.jpg\n")
    (folder / "data.yaml").write_text(yaml)
    for path in (folder, folder / "data.yaml"):
        dataset = read_dataset(path, NAMES, split="val")
        assert dataset.class_names == ("cow", "hen")
        assert [sample.image.name for sample in dataset.samples] == ["a.jpg", "b.jpg"]
        assert dataset.samples[0].class_ids.tolist() == [1]


@pytest.mark.parametrize(
    ("yaml", "complaint"),
    [
        ("names: [cow, hen]\n", "neither 'train' nor 'train'"),
        ("train: images/test\nnames: [cow, hen]\n", "neither a folder"),
        ("train: images/train\nnames: {0: cow, 2: hen}\n", "without gaps"),
        ("train: images/train\nnames: cow\n", "expected a list"),
        ("- train\n", "expected keys"),
        ("train: [\n", "not YAML"),
    ],
)
def test_bad_yaml_is_explained(tmp_path: Path, yaml: str, complaint: str) -> None:
    pytest.importorskip("yaml", reason="reads YAML, which needs PyYAML")
    folder = yolo_folder(tmp_path, {"a": "0 0.5 0.5 0.1 0.1"})
    (folder / "data.yaml").write_text(yaml)
    with pytest.raises(DataError, match=complaint):
        read_dataset(folder / "data.yaml")


def test_coco_ids_become_indices_and_crowds_are_kept_apart(tmp_path: Path) -> None:
    dataset = read_dataset(coco_folder(tmp_path / "coco"))
    assert dataset.class_names == ("cat", "dog")
    sample = dataset.samples[0]
    np.testing.assert_allclose(sample.boxes, [[0.1, 0.1, 0.3, 0.6], [0.0, 0.0, 1.0, 1.0]])
    assert (sample.class_ids.tolist(), sample.crowd.tolist()) == ([1, 0], [False, True])
    assert dataset.box_count == 1


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"images": [{"id": 7, "file_name": "gone.jpg", "width": 2, "height": 1}]}, r"gone\.jpg"),
        ({"annotations": [{"id": 5, "image_id": 7, "category_id": 1, "bbox": [0, 0, 1, 1]}]}, "annotation 5.*category"),
        ({"annotations": [{"id": 5, "image_id": 7, "category_id": 3, "bbox": [0, 0, 1, 0]}]}, "annotation 5.*bbox"),
        ({"annotations": [{"id": 5, "image_id": 8, "category_id": 3, "bbox": [0, 0, 1, 1]}]}, "annotations of image 8"),
        ({"categories": 3}, "not COCO"),
        ({"images": [{"id": 7}]}, "not COCO"),
    ],
)
def test_bad_coco_is_explained(tmp_path: Path, changes: dict[str, Any], complaint: str) -> None:
    with pytest.raises(DataError, match=complaint):
        read_dataset(coco_folder(tmp_path / "coco", **changes))


def test_json_that_is_not_json_is_explained(tmp_path: Path) -> None:
    (tmp_path / "instances.json").write_text("{")
    with pytest.raises(DataError, match="not JSON"):
        read_dataset(tmp_path)
