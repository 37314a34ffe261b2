"""YOLOX's input and output, after its own ONNX Runtime demo.

The demo's slow parts (a grid made for each picture, an NMS loop per class in NumPy) are replaced by what an
experienced user would write.
"""

from functools import cache
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

SIDE_PX = 416
_STRIDES_PX = (8, 16, 32)
Floats = npt.NDArray[np.float32]


def letterbox(image: npt.NDArray[Any]) -> tuple[Floats, float, tuple[float, float]]:
    """A picture (h, w, 3) -> the input (1, 3, 416, 416), the ratio of their sizes, and where the picture lies in it."""
    ratio = min(SIDE_PX / image.shape[0], SIDE_PX / image.shape[1])
    width, height = (int(side * ratio + 1e-6) for side in (image.shape[1], image.shape[0]))  # as YOLOX: truncated
    padded = np.full((SIDE_PX, SIDE_PX, 3), 114, np.uint8)
    padded[:height, :width] = cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR)
    return np.ascontiguousarray(padded.transpose(2, 0, 1)[None], np.float32), ratio, (0.0, 0.0)


def decode(output: Floats, confidence: float) -> tuple[Floats, Floats, npt.NDArray[np.int64]]:
    """Raw output (n, 85) -> boxes (k, 4) xyxy in input pixels, scores and class ids, before NMS."""
    cells, strides = _grid()
    class_ids = output[:, 5:].argmax(axis=1)
    scores = output[:, 4] * output[np.arange(len(output)), 5 + class_ids]
    keep = scores >= confidence
    output, cells, strides, scores, class_ids = (a[keep] for a in (output, cells, strides, scores, class_ids))
    size = np.exp(output[:, 2:4]) * strides
    corner = (output[:, :2] + cells) * strides - size / 2
    return np.hstack([corner, corner + size]), scores, class_ids


@cache
def _grid() -> tuple[Floats, Floats]:
    cells, strides = [], []
    for stride in _STRIDES_PX:
        y, x = np.mgrid[: SIDE_PX // stride, : SIDE_PX // stride]
        cells.append(np.stack([x, y], axis=-1).reshape(-1, 2))
        strides.append(np.full((x.size, 1), stride))
    return np.concatenate(cells).astype(np.float32), np.concatenate(strides).astype(np.float32)
