"""The input and output of YOLOv8 as Ultralytics exports it, after the usual ONNX Runtime examples for it."""

from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

SIDE_PX = 640
ROWS = 84  # four of the box, eighty classes
Floats = npt.NDArray[np.float32]


def letterbox(image: npt.NDArray[Any]) -> tuple[Floats, float, tuple[float, float]]:
    """A picture (h, w, 3) -> the input (1, 3, 640, 640), the ratio of their sizes, and where the picture lies in it."""
    ratio = min(SIDE_PX / image.shape[0], SIDE_PX / image.shape[1])
    width, height = round(image.shape[1] * ratio), round(image.shape[0] * ratio)
    left, top = (SIDE_PX - width) // 2, (SIDE_PX - height) // 2
    padded = np.full((SIDE_PX, SIDE_PX, 3), 114, np.uint8)
    padded[top : top + height, left : left + width] = cv2.resize(image, (width, height))
    tensor: Any = cv2.dnn.blobFromImage(padded, 1 / 255, swapRB=True)
    return tensor, ratio, (left, top)


def decode(output: Floats, confidence: float) -> tuple[Floats, Floats, npt.NDArray[np.int64]]:
    """Raw output (84, n) -> boxes (k, 4) xyxy in input pixels, scores and class ids, before NMS."""
    scores = output[4:].max(axis=0)
    keep = scores >= confidence
    found = output[:, keep]
    centre, size = found[:2].T, found[2:4].T
    return np.hstack([centre - size / 2, centre + size / 2]), scores[keep], found[4:].argmax(axis=0)
