"""Training batches: libreyolo's YOLOX augmentation over our samples."""

import math
import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from tidesight.detection.image import Pixels, decode_image
from tidesight.errors import DataError, InputError
from tidesight.training.dataset import Boxes, Dataset

MAX_BOXES = 120  # per picture, as YOLOX trains; the rest is dropped


@dataclass(frozen=True)
class Batch:
    """What one training step sees.

    Attributes:
        pictures: float32 (n, 3, side, side), BGR, 0 to 255.
        boxes: float32 (n, MAX_BOXES, 5), class cx cy w h in pixels; rows of zeros are empty.
    """

    pictures: npt.NDArray[np.float32]
    boxes: npt.NDArray[np.float32]


class _Pictures:
    """What libreyolo's augmentation asks of a data set; decodes at every call, which is cheap beside a step."""

    def __init__(self, dataset: Dataset, side_px: int) -> None:
        self._samples = dataset.samples
        self._side_px = side_px

    def __len__(self) -> int:
        return len(self._samples)

    def load_anno(self, index: int) -> Boxes:
        """The boxes, of which only the number is looked at."""
        return self._samples[index].boxes

    def pull_item(self, index: int) -> tuple[Pixels, npt.NDArray[np.float32], tuple[int, int], int]:
        """Pixels, labels (n, 5) x1 y1 x2 y2 class in their pixels, (height, width), and the index again."""
        sample = self._samples[index]
        try:
            pixels = decode_image(sample.image.read_bytes(), enough_px=(self._side_px, self._side_px)).pixels
        except (InputError, OSError) as error:
            raise DataError(f"{sample.image}: {error}") from None
        height, width = pixels.shape[:2]
        labels = np.column_stack([sample.boxes * [width, height, width, height], sample.class_ids])
        return pixels, labels[~sample.crowd].astype(np.float32), (height, width), index


class Batches:
    """Shuffled, augmented batches, one pass after another.

    Draws from Python's and NumPy's global generators, since that is where libreyolo draws: seed them first.

    Args:
        dataset: The labelled pictures.
        side_px: Side of the square network input.
        batch_size: Pictures per batch; the last batch of a pass may be smaller.
        mosaic: Share of pictures put together from four, 0 to 1.
    """

    def __init__(self, dataset: Dataset, side_px: int, batch_size: int, mosaic: float) -> None:
        from libreyolo.data.augment.yolox import MosaicMixupDataset, TrainTransform

        self._source: Any = MosaicMixupDataset(
            _Pictures(dataset, side_px),
            img_size=(side_px, side_px),
            preproc=TrainTransform(max_labels=MAX_BOXES),
            enable_mixup=False,
            mosaic_prob=mosaic,
        )
        self._batch_size = batch_size

    def __len__(self) -> int:
        """Batches per pass."""
        return math.ceil(len(self._source) / self._batch_size)

    def one_pass(self, mosaic: bool = True) -> Iterator[Batch]:
        """Every picture once, in an order of its own; see the class for `mosaic`.

        Raises:
            DataError: a picture cannot be decoded.
        """
        self._source.enable_mosaic = mosaic
        order = random.sample(range(len(self._source)), len(self._source))
        for start in range(0, len(order), self._batch_size):
            items = [self._source[index][:2] for index in order[start : start + self._batch_size]]
            yield Batch(*(np.stack(column).astype(np.float32, copy=False) for column in zip(*items, strict=True)))
