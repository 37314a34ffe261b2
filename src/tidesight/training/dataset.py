"""Labelled pictures on disk, in one shape whatever their layout."""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tidesight.errors import DataError

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp"})
Boxes = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Sample:
    """One picture and what is in it.

    Attributes:
        image: Path of the picture.
        boxes: float64 (n, 4), x1 y1 x2 y2 as fractions (0 to 1) of the picture's width and height.
        class_ids: int64 (n,), indices into the data set's class names.
        crowd: bool (n,), boxes around a crowd: nothing is expected there and nothing is wrong there.
    """

    image: Path
    boxes: Boxes
    class_ids: npt.NDArray[np.int64]
    crowd: npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Dataset:
    """Labelled pictures.

    Attributes:
        name: What to call it in reports: the folder's or the YAML file's name.
        class_names: Names by class id.
        samples: By path; pictures without boxes are backgrounds.
    """

    name: str
    class_names: tuple[str, ...]
    samples: tuple[Sample, ...]

    @property
    def box_count(self) -> int:
        """Boxes to be found, crowds left out."""
        return int(sum((~sample.crowd).sum() for sample in self.samples))


def read_dataset(path: Path, class_names: Sequence[str] = (), split: str = "train") -> Dataset:
    """Read a data set, recognising its layout.

    Layouts: a YOLO data file (`data.yaml`); a folder that holds exactly one; a folder with
    `instances.json` and `images/` (COCO); a folder with pictures under `images/` and label files under `labels/`.

    Args:
        path: Folder or YAML file.
        class_names: Names for a folder that names no classes; usually those of the model.
        split: Which list of a YAML file to read; "val" falls back to "train".

    Raises:
        DataError: nothing usable is there, or a label is wrong (with file and line).
    """
    from tidesight.training import coco_layout, yolo_layout

    if path.suffix in {".yaml", ".yml"}:
        dataset = yolo_layout.read_yaml(path, split, class_names)
    elif not path.is_dir():
        raise DataError(f"{path}: no such folder or YAML file")
    elif (path / "instances.json").is_file():
        dataset = coco_layout.read_folder(path)
    elif len(yamls := sorted([*path.glob("*.yaml"), *path.glob("*.yml")])) == 1:
        dataset = yolo_layout.read_yaml(yamls[0], split, class_names)
    else:
        dataset = yolo_layout.read_folder(path, class_names)
    if not dataset.samples:
        raise DataError(f"{path}: holds no picture ({', '.join(sorted(IMAGE_SUFFIXES))})")
    return dataset


def sample_of(image: Path, rows: Sequence[tuple[int, Sequence[float], bool]]) -> Sample:
    """Make a sample from (class id, x1 y1 x2 y2 as fractions, crowd) rows; boxes are clipped to the picture."""
    boxes = np.array([box for _, box, _ in rows], np.float64).reshape(-1, 4).clip(0, 1)
    class_ids = np.array([class_id for class_id, _, _ in rows], np.int64)
    return Sample(image, boxes, class_ids, np.array([crowd for _, _, crowd in rows], np.bool_))


def is_box(values: Sequence[Any]) -> bool:
    """Whether these are four finite numbers, the last two (a width and a height) above 0."""
    if len(values) != 4 or not all(isinstance(v, int | float) and math.isfinite(v) for v in values):
        return False
    return bool(values[2] > 0 and values[3] > 0)


def read_json(path: Path) -> Any:
    """Parse a JSON file.

    Raises:
        DataError: unreadable or not JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise DataError(f"{path}: not JSON: {error}") from None
