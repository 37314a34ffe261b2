"""From a network's raw output to candidate boxes: one small class per head, and the rule that tells them apart.

Heads:
    yolox: (1, n, 5 + c) raw grid, xy = (out + cell) * stride, wh = exp(out) * stride, objectness and class
        scores already through a sigmoid (Megvii YOLOX, `yolox/models/yolo_head.py`, `demo_utils.py`).
    ultralytics: (1, 4 + c, n), cx cy w h in input pixels, class scores (v5u, v8, v9, 11, 12).
    end_to_end: (1, k, 6), x1 y1 x2 y2 score class, NMS already done (v10, 26, or exported with `nms=True`).
"""

from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple, Protocol

import cv2
import numpy as np
import numpy.typing as npt

from tidesight.detection.letterbox import InputFormat

Floats = npt.NDArray[np.float32]
_MOST_END_TO_END = 1000
_STRIDES_PX = ((8, 16, 32), (8, 16, 32, 64))
# NMS takes time with the square of the candidates; at a confidence of 0.01 a crowded street has about 750.
_MAX_CANDIDATES = 2000
# OpenCV keeps classes apart by moving each beyond the greatest coordinate: none may be negative, or boundless.
_FAR_PX = 1e5
_ULTRALYTICS_INPUT = InputFormat(centred=True, rgb=True, scale=1 / 255)


class Candidates(NamedTuple):
    """Boxes above the confidence: float32 (n, 4) xyxy input pixels, (n,) scores, int64 (n,) class ids."""

    boxes: Floats
    scores: Floats
    class_ids: npt.NDArray[np.int64]

    def at(self, rows: npt.NDArray[Any]) -> "Candidates":
        """Those that a mask or indices name."""
        return Candidates(self.boxes[rows], self.scores[rows], self.class_ids[rows])


class Head(Protocol):
    """Decodes one network's raw output."""

    name: ClassVar[str]
    input_format: ClassVar[InputFormat]
    needs_nms: ClassVar[bool]

    @property
    def class_count(self) -> int | None:
        """How many classes, or None where the output does not tell."""
        ...

    def decode(self, output: Floats, confidence: float) -> Candidates:
        """Raw output without its batch axis -> candidates with score >= confidence."""
        ...

    def at_size(self, width_px: int, height_px: int) -> "Head":
        """The same head for another input size, in multiples of 32."""
        ...


@dataclass(frozen=True)
class YoloxHead:
    """See the module's docstring; `cells` is (n, 2) x y and `strides_px` (n, 1)."""

    class_count: int
    cells: Floats
    strides_px: Floats
    name: ClassVar[str] = "yolox"
    input_format: ClassVar[InputFormat] = InputFormat(centred=False, rgb=False, scale=1)
    needs_nms: ClassVar[bool] = True

    def decode(self, output: Floats, confidence: float) -> Candidates:
        """(n, 5 + c) -> candidates; the score is objectness times the best class."""
        # Objectness bounds the score, so most cells are out before their classes are looked at.
        likely = np.flatnonzero(output[:, 4] >= confidence)
        rows = output[likely]
        class_ids = rows[:, 5:].argmax(axis=1)
        scores = rows[:, 4] * np.take_along_axis(rows[:, 5:], class_ids[:, None], axis=1)[:, 0]
        keep = np.flatnonzero(scores >= confidence)
        rows, cells = rows[keep], likely[keep]
        strides = self.strides_px[cells]
        half = np.exp(rows[:, 2:4]) * strides / 2
        centre = (rows[:, :2] + self.cells[cells]) * strides
        boxes = np.hstack([centre - half, centre + half]).astype(np.float32, copy=False)
        return Candidates(boxes, scores[keep], class_ids[keep])

    def at_size(self, width_px: int, height_px: int) -> "YoloxHead":
        """The head with the grid of another input size."""
        strides = tuple(int(stride) for stride in np.unique(self.strides_px))
        return YoloxHead(self.class_count, *_grid(width_px, height_px, strides))


@dataclass(frozen=True)
class UltralyticsHead:
    """See the module's docstring."""

    class_count: int
    name: ClassVar[str] = "ultralytics"
    input_format: ClassVar[InputFormat] = _ULTRALYTICS_INPUT
    needs_nms: ClassVar[bool] = True

    def decode(self, output: Floats, confidence: float) -> Candidates:
        """(4 + c, n) -> candidates."""
        best = output[4:].max(axis=0)
        keep = np.flatnonzero(best >= confidence)
        columns = output[:, keep].T
        half = columns[:, 2:4] / 2
        boxes = np.hstack([columns[:, :2] - half, columns[:, :2] + half]).astype(np.float32, copy=False)
        return Candidates(boxes, best[keep], columns[:, 4:].argmax(axis=1))

    def at_size(self, width_px: int, height_px: int) -> "UltralyticsHead":
        """The head itself: its network knows the grid."""
        return self


@dataclass(frozen=True)
class EndToEndHead:
    """See the module's docstring; the output does not tell how many classes there are."""

    class_count: None = None
    name: ClassVar[str] = "end_to_end"
    input_format: ClassVar[InputFormat] = _ULTRALYTICS_INPUT
    needs_nms: ClassVar[bool] = False

    def decode(self, output: Floats, confidence: float) -> Candidates:
        """(k, 6) -> candidates."""
        rows = output[output[:, 4] >= confidence]
        # A broken export's ids may be anything; those that no integer can hold become ids of no class.
        class_ids = np.nan_to_num(rows[:, 5], nan=-1).clip(-1, 1e6).astype(np.int64)
        return Candidates(rows[:, :4], rows[:, 4], class_ids)

    def at_size(self, width_px: int, height_px: int) -> "EndToEndHead":
        """The head itself: its network knows the grid."""
        return self


def recognise(shape: tuple[int, ...], width_px: int, height_px: int) -> Head | None:
    """The head whose output has this shape for this input size, or None when there is none.

    Args:
        shape: Shape of the only output, with its batch axis.
        width_px: Network input width.
        height_px: Network input height.
    """
    if len(shape) != 3 or shape[0] != 1:
        return None
    rows, columns = shape[1:]
    for strides in _STRIDES_PX:
        if columns >= 6 and rows == sum((width_px // s) * (height_px // s) for s in strides):
            return YoloxHead(columns - 5, *_grid(width_px, height_px, strides))
    if columns == 6 and rows <= _MOST_END_TO_END:  # more rows are anchors: YOLOv5 or v7, whose rows hold something else
        return EndToEndHead()
    return UltralyticsHead(rows - 4) if 5 <= rows < columns else None


def _grid(width_px: int, height_px: int, strides: tuple[int, ...]) -> tuple[Floats, Floats]:
    cells, sizes = [], []
    for stride in strides:
        y, x = np.mgrid[: height_px // stride, : width_px // stride]
        cells.append(np.stack([x, y], axis=-1).reshape(-1, 2))
        sizes.append(np.full((x.size, 1), stride))
    return np.concatenate(cells).astype(np.float32), np.concatenate(sizes).astype(np.float32)


def suppress(candidates: Candidates, iou: float, max_detections: int) -> Candidates:
    """Class-wise non-maximum suppression (OpenCV's `NMSBoxesBatched`), best first.

    Args:
        candidates: What a head decoded; finite, and of more than 2000 only the best are looked at.
        iou: Of two boxes of a class that overlap by more than this, the lower-scored goes; 0 to 1.
        max_detections: Keep at most this many.
    """
    if not len(candidates.scores):
        return candidates
    if len(candidates.scores) > _MAX_CANDIDATES:
        candidates = take_best(candidates, np.arange(len(candidates.scores)), _MAX_CANDIDATES)
    boxes, scores, class_ids = candidates
    corners = np.clip(boxes.astype(np.float64), -_FAR_PX, _FAR_PX) + _FAR_PX
    rectangles = np.hstack([corners[:, :2], corners[:, 2:] - corners[:, :2]])
    # The stub asks for sequences; the binding takes arrays, without a Python object per number.
    suppress_boxes: Any = cv2.dnn.NMSBoxesBatched
    kept = suppress_boxes(rectangles, scores, class_ids.astype(np.int32), 0.0, iou)
    return take_best(candidates, np.asarray(kept, np.int64).ravel(), max_detections)


def take_best(candidates: Candidates, indices: npt.NDArray[np.int64], most: int) -> Candidates:
    """The `most` highest-scored of the candidates at `indices`, best first; ties keep their order."""
    order = indices[np.argsort(-candidates.scores[indices], kind="stable")][:most]
    return candidates.at(order)
