"""Average precision as COCO defines it, for any detector on any data set.

Counts matches with faster-coco-eval, the maintained C++ evaluator; it agrees with pycocotools.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tidesight.detection.detections import Detections
from tidesight.detection.detector import DetectOptions, Detector
from tidesight.errors import DataError, InputError, MissingExtra
from tidesight.training.dataset import Dataset

# Low confidence so that the whole precision-recall curve is seen; 100 is COCO's own limit.
OPTIONS = DetectOptions(confidence=0.01, iou=0.5, max_detections=100)


@dataclass(frozen=True)
class Evaluation:
    """How well a detector did; every figure is 0 to 1, over COCO's IoU thresholds and 101 recall points.

    Attributes:
        ap: AP over IoU 0.50 to 0.95 in steps of 0.05, the mean of all classes present in the data.
        ap50: AP at IoU 0.50.
        ap75: AP at IoU 0.75.
        ar100: Recall with at most 100 detections per picture, over IoU 0.50 to 0.95.
        per_class: AP by class name, only classes present in the data.
        images: Pictures evaluated.
        boxes: Boxes to be found, crowds left out.
    """

    ap: float
    ap50: float
    ap75: float
    ar100: float
    per_class: dict[str, float]
    images: int
    boxes: int

    def as_json(self) -> dict[str, Any]:
        """The figures under the names people know them by."""
        headline = {"AP": self.ap, "AP50": self.ap50, "AP75": self.ap75, "AR": self.ar100}
        return {**headline, "images": self.images, "boxes": self.boxes, "per_class": self.per_class}


def evaluate(detector: Detector, dataset: Dataset, on_image: Callable[[], None] = lambda: None) -> Evaluation:
    """Run the detector over the data set and score what it found.

    Args:
        detector: Any detector; classes are matched to the data set's by name.
        dataset: The labelled pictures.
        on_image: Called after every picture, for a progress bar.

    Raises:
        DataError: a picture cannot be decoded, or nothing can be scored.
        MissingExtra: faster-coco-eval is not installed.
    """
    _evaluator()  # missing? Then say so before minutes of detection, not after
    found = []
    for sample in dataset.samples:
        try:
            found.append(detector.detect(sample.image.read_bytes(), OPTIONS))
        except (InputError, OSError) as error:
            raise DataError(f"{sample.image}: {error}") from None
        on_image()
    return score(dataset, found)


def score(dataset: Dataset, found: Sequence[Detections]) -> Evaluation:
    """Score detections, one per sample and in the same order.

    A class in the data that the detector does not know counts with AP 0; detections of a class that the data
    do not have are left out.

    Raises:
        DataError: the data hold no box, or share no class with the detector.
        MissingExtra: faster-coco-eval is not installed.
    """
    if not dataset.box_count:
        raise DataError(f"{dataset.name}: holds no box, so average precision is not defined")
    if not set(dataset.class_names) & set(found[0].class_names):
        raise DataError(f"{dataset.name}: shares no class name with the model")
    return _summary(dataset, *_match(_truth(dataset, found), _results(dataset, found)))


def _truth(dataset: Dataset, found: Sequence[Detections]) -> dict[str, Any]:
    """The data set as COCO's dictionary; ids from 1, since the evaluator takes an id of 0 for "none"."""
    images: list[dict[str, int]] = []
    annotations: list[dict[str, Any]] = []
    for image_id, (sample, seen) in enumerate(zip(dataset.samples, found, strict=True), 1):
        images.append({"id": image_id, "width": seen.image_width_px, "height": seen.image_height_px})
        pixels = sample.boxes * ([seen.image_width_px, seen.image_height_px] * 2)
        for box, class_id, crowd in zip(_xywh(pixels), sample.class_ids.tolist(), sample.crowd.tolist(), strict=True):
            annotations.append(
                {"id": len(annotations) + 1, "image_id": image_id, "category_id": class_id + 1, "bbox": box}
                | {"area": box[2] * box[3], "iscrowd": int(crowd)}
            )
    categories = [{"id": class_id, "name": name} for class_id, name in enumerate(dataset.class_names, 1)]
    return {"images": images, "annotations": annotations, "categories": categories}


def _results(dataset: Dataset, found: Sequence[Detections]) -> list[dict[str, Any]]:
    category_of = {name: class_id for class_id, name in enumerate(dataset.class_names, 1)}
    return [
        {"image_id": image_id, "category_id": category_of[name], "bbox": box, "score": confidence}
        for image_id, seen in enumerate(found, 1)
        for box, confidence, class_id in zip(
            _xywh(seen.boxes.astype(np.float64)), seen.scores.tolist(), seen.class_ids.tolist(), strict=True
        )
        if (name := seen.class_names[class_id]) in category_of
    ]


def _xywh(boxes: Any) -> list[list[float]]:
    corners: list[list[float]] = np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1).tolist()
    return corners


def _evaluator() -> tuple[Any, Any]:
    try:
        from faster_coco_eval import COCO, COCOeval_faster
    except ImportError:
        raise MissingExtra("faster-coco-eval", "evaluate") from None
    return COCO, COCOeval_faster


def _match(truth: dict[str, Any], results: list[dict[str, Any]]) -> tuple[Any, Any]:
    """COCO's precision (IoU, recall, class) and recall (IoU, class), all areas, 100 detections; -1 is "no box"."""
    coco, coco_eval = _evaluator()
    expected = coco(truth)
    run = coco_eval(expected, expected.loadRes(results), "bbox", print_function=lambda *_: None)
    run.evaluate()
    run.accumulate()
    return run.eval["precision"][:, :, :, 0, -1], run.eval["recall"][:, :, 0, -1]


def _summary(dataset: Dataset, precision: Any, recall: Any) -> Evaluation:
    present = sorted({int(c) for s in dataset.samples for c in s.class_ids[~s.crowd]})
    by_class = precision[:, :, present].mean(axis=(0, 1))
    return Evaluation(
        ap=float(by_class.mean()),
        ap50=float(precision[0][:, present].mean()),
        ap75=float(precision[5][:, present].mean()),
        ar100=float(recall[:, present].mean()),
        per_class={dataset.class_names[c]: float(ap) for c, ap in zip(present, by_class, strict=True)},
        images=len(dataset.samples),
        boxes=dataset.box_count,
    )
