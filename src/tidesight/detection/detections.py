"""What a detector found in one picture."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import numpy.typing as npt


class Detection(NamedTuple):
    """One object: box in pixels (x1, y1, x2, y2), score 0 to 1, class id and its label."""

    box: tuple[float, float, float, float]
    score: float
    class_id: int
    label: str


@dataclass(frozen=True)
class Detections:
    """What was found in one picture, by falling score.

    Attributes:
        boxes: float32 (n, 4), x1 y1 x2 y2 in pixels of the picture in full, inside it.
        scores: float32 (n,), 0 to 1.
        class_ids: int64 (n,), indices into `class_names`.
        class_names: Names of all classes of the model.
        image_width_px: Width of the picture in full, upright.
        image_height_px: Height of the picture in full, upright.
        timings_s: Seconds by stage: decode, preprocess, inference, postprocess.

    Raises:
        ValueError: the arrays' shapes do not agree.
    """

    boxes: npt.NDArray[np.float32]
    scores: npt.NDArray[np.float32]
    class_ids: npt.NDArray[np.int64]
    class_names: tuple[str, ...]
    image_width_px: int
    image_height_px: int
    timings_s: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        n = len(self.scores)
        expected = {"boxes": (n, 4), "scores": (n,), "class_ids": (n,)}
        for name, shape in expected.items():
            if getattr(self, name).shape != shape:
                raise ValueError(f"{name}: expected shape {shape}, got {getattr(self, name).shape}")
        if n and not 0 <= self.class_ids.min() <= self.class_ids.max() < len(self.class_names):
            raise ValueError(f"class_ids: expected 0 to {len(self.class_names) - 1}")

    def __len__(self) -> int:
        return len(self.scores)

    def __iter__(self) -> Iterator[Detection]:
        rows = zip(self.boxes.tolist(), self.scores.tolist(), self.class_ids.tolist(), strict=True)
        for box, score, class_id in rows:
            yield Detection(tuple(box), score, class_id, self.class_names[class_id])
