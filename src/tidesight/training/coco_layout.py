"""The COCO layout: `instances.json` beside `images/` (cocodataset.org, "Data format")."""

from collections import defaultdict
from pathlib import Path
from typing import Any

from tidesight.errors import DataError
from tidesight.training.dataset import Dataset, Sample, is_box, read_json, sample_of


def read_folder(folder: Path) -> Dataset:
    """Read `instances.json`; classes are numbered from 0 in the order of their category ids.

    COCO's own ids run to 90 with gaps, so nothing outside this file may see them.

    Raises:
        DataError: a key, a category or a picture is missing, or a box is wrong.
    """
    path = folder / "instances.json"
    content = read_json(path)
    try:
        categories = sorted(content["categories"], key=lambda category: category["id"])
        class_of = {category["id"]: index for index, category in enumerate(categories)}
        names = tuple(str(category["name"]) for category in categories)
        annotations = _by_image(path, content["annotations"], class_of)
        if unknown := set(annotations) - {image["id"] for image in content["images"]}:
            raise DataError(f"{path}: annotations of image {min(unknown)}, which is not listed")
        samples = [_sample(folder, image, annotations[image["id"]]) for image in content["images"]]
    except (KeyError, TypeError) as error:
        raise DataError(f"{path}: not COCO instances: {type(error).__name__} {error}") from None
    return Dataset(folder.resolve().name, names, tuple(sorted(samples, key=lambda sample: sample.image)))


def _by_image(path: Path, annotations: Any, class_of: dict[int, int]) -> dict[int, list[Any]]:
    found = defaultdict(list)
    for annotation in annotations:
        if annotation["category_id"] not in class_of:
            raise DataError(f"{path}: annotation {annotation['id']}: unknown category {annotation['category_id']}")
        if not is_box(annotation["bbox"]):
            raise DataError(f"{path}: annotation {annotation['id']}: bad bbox {annotation['bbox']}")
        class_id, crowd = class_of[annotation["category_id"]], bool(annotation.get("iscrowd", 0))
        found[annotation["image_id"]].append((class_id, annotation["bbox"], crowd))
    return found


def _sample(folder: Path, image: Any, annotations: list[Any]) -> Sample:
    path = folder / "images" / image["file_name"]
    if not path.is_file():
        raise DataError(f"{path}: listed in instances.json, but not there")
    width, height = image["width"], image["height"]
    rows = [
        (class_id, (x / width, y / height, (x + w) / width, (y + h) / height), crowd)
        for class_id, (x, y, w, h), crowd in annotations
    ]
    return sample_of(path, rows)
