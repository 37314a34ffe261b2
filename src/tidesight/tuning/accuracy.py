"""What a candidate finds, against labels or, where there are none, against what the model itself finds in FP32."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tidesight.detection.detections import Detections
from tidesight.detection.detector import DetectOptions, Detector
from tidesight.errors import DataError, InputError
from tidesight.training.dataset import IMAGE_SUFFIXES, Dataset, Sample, read_dataset, sample_of
from tidesight.training.evaluate import OPTIONS, score

_FOUND = DetectOptions(confidence=0.25, iou=0.5)  # what callers see by default


@dataclass(frozen=True)
class Yardstick:
    """What candidates are scored against.

    Attributes:
        dataset: Pictures and what should be found in them.
        labelled: Whether that is from labels; else it is what the model itself found.
    """

    dataset: Dataset
    labelled: bool

    @property
    def name(self) -> str:
        """What its score is called."""
        return "AP" if self.labelled else "agreement"

    def describe(self) -> str:
        """In words, for people."""
        seen = f"{len(self.dataset.samples)} pictures of {self.dataset.name}"
        if self.labelled:
            return f"AP on {seen}, {self.dataset.box_count} labelled boxes"
        return (
            f"agreement on {seen}, which have no labels: AP with the {self.dataset.box_count} boxes that the model "
            "finds in FP32 taken for the truth"
        )


def yardstick(data: Path, detector: Detector, most: int) -> Yardstick:
    """Read labelled pictures, or a folder of pictures without labels.

    Args:
        data: Folder or YAML file.
        detector: The model in FP32 as it is.
        most: Use this many pictures, spread over the data.

    Raises:
        DataError: nothing usable is there.
    """
    try:
        dataset = read_dataset(data, detector.class_names, split="val")
    except DataError:
        files = [file for file in sorted(data.glob("*")) if file.suffix.lower() in IMAGE_SUFFIXES]
        if not files:
            raise
        dataset = Dataset(data.name, detector.class_names, tuple(sample_of(file, []) for file in files))
    picked = np.unique(np.linspace(0, len(dataset.samples) - 1, most).round().astype(int))
    samples = tuple(dataset.samples[index] for index in picked)
    dataset = Dataset(dataset.name, dataset.class_names, samples)
    if dataset.box_count:
        return Yardstick(dataset, labelled=True)
    found = [_as_truth(sample, detector) for sample in samples]
    truth = Yardstick(Dataset(dataset.name, detector.class_names, tuple(found)), labelled=False)
    if not truth.dataset.box_count:
        raise DataError(f"{data}: no labels, and the model finds nothing in these pictures; give others")
    return truth


def _as_truth(sample: Sample, detector: Detector) -> Sample:
    found = _detect(sample, detector, _FOUND)
    size = [found.image_width_px, found.image_height_px] * 2
    rows = [(int(c), (box / size).tolist(), False) for c, box in zip(found.class_ids, found.boxes, strict=True)]
    return sample_of(sample.image, rows)


def accuracy(detectors: Sequence[Detector], stick: Yardstick) -> float:
    """AP, 0 to 1, of a candidate; its detectors share the pictures, one thread each."""
    samples = stick.dataset.samples

    def work(first: int) -> list[Detections]:
        return [_detect(sample, detectors[first], OPTIONS) for sample in samples[first :: len(detectors)]]

    with ThreadPoolExecutor(len(detectors)) as pool:
        parts = list(pool.map(work, range(len(detectors))))
    found = [parts[index % len(detectors)][index // len(detectors)] for index in range(len(samples))]
    return score(stick.dataset, found).ap if any(map(len, found)) else 0.0


def _detect(sample: Sample, detector: Detector, options: DetectOptions) -> Detections:
    try:
        return detector.detect(sample.image.read_bytes(), options)
    except (InputError, OSError) as error:
        raise DataError(f"{sample.image}: {error}") from None
