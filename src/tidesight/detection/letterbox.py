"""Fit a picture into the network's input, and boxes back into the picture."""

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from tidesight.detection.image import DecodedImage

_ROUNDING = 1e-6  # what a side that fits exactly may miss by
STRIDE_PX = 32  # the coarsest grid of every supported network: sides are multiples of it
PAD_VALUE = 114  # both YOLOX and Ultralytics pad with this grey


@dataclass(frozen=True)
class InputFormat:
    """What a network expects its input tensor to be.

    Attributes:
        centred: The picture sits in the middle (Ultralytics) or in the top left corner (YOLOX).
        rgb: Channels are R, G, B; else B, G, R.
        scale: Factor from 0..255 to the network's range.
    """

    centred: bool
    rgb: bool
    scale: float


@dataclass(frozen=True)
class Placement:
    """Where a picture lies in the network's input: input = picture * (scale_x, scale_y) + (left, top).

    The picture is `width_px` x `height_px`, the input `input_width_px` x `input_height_px`.
    """

    scale_x: float
    scale_y: float
    left_px: int
    top_px: int
    width_px: int
    height_px: int
    input_width_px: int
    input_height_px: int

    def to_picture(self, boxes: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Boxes (n, 4) xyxy in input pixels -> the same in picture pixels, clipped to the picture."""
        offset = np.array([self.left_px, self.top_px] * 2, np.float32)
        scale = np.array([self.scale_x, self.scale_y] * 2, np.float32)
        limit = np.array([self.width_px, self.height_px] * 2, np.float32)
        fitted: npt.NDArray[np.float32] = np.clip((boxes - offset) / scale, 0, limit).astype(np.float32, copy=False)
        return fitted


class Letterbox:
    """Fills one input tensor again and again; belongs to one thread.

    Args:
        width_px: Network input width.
        height_px: Network input height.
        input_format: Channel order, range and placement.
        dtype: float32 or float16.
        margin_px: None fills the whole input; else the tensor is cut to the picture and at least this much padding
            to the right and below (or, centred, in all), in steps of 32.
    """

    def __init__(
        self,
        width_px: int,
        height_px: int,
        input_format: InputFormat,
        dtype: str = "float32",
        margin_px: int | None = None,
    ) -> None:
        self.width_px = width_px
        self.height_px = height_px
        self._format = input_format
        self._margin_px = margin_px
        # Memory for the largest input; smaller ones use the first part of it, so that each is in one piece.
        self._pixels = np.empty(3 * height_px * width_px, np.uint8)
        self._planes = np.empty(3 * height_px * width_px, np.uint8)
        self._values: npt.NDArray[np.floating] = np.zeros(3 * height_px * width_px, np.dtype(dtype))
        self._cut(width_px, height_px)

    def _cut(self, width_px: int, height_px: int) -> None:
        size = 3 * height_px * width_px
        self._canvas = self._pixels[:size].reshape(height_px, width_px, 3)
        self._channels = list(self._planes[:size].reshape(3, height_px, width_px))
        self.tensor = self._values[:size].reshape(1, 3, height_px, width_px)

    def _input_px(self, side_px: int, most_px: int) -> int:
        """Side of the input for a side of the fitted picture."""
        if self._margin_px is None:
            return most_px
        return min(most_px, -(-(side_px + self._margin_px) // STRIDE_PX) * STRIDE_PX)

    def fit(self, image: DecodedImage) -> Placement:
        """Write the picture into `self.tensor`, (1, 3, height, width), and say where it lies."""
        pixels = image.pixels
        ratio = min(self.width_px / pixels.shape[1], self.height_px / pixels.shape[0])
        # As each was trained: Ultralytics rounds, YOLOX truncates. A pixel here is worth 0.005 of AP.
        width, height = (
            max(1, round(side * ratio) if self._format.centred else int(side * ratio + _ROUNDING))
            for side in (pixels.shape[1], pixels.shape[0])
        )
        input_px = self._input_px(width, self.width_px), self._input_px(height, self.height_px)
        if input_px != (self.tensor.shape[3], self.tensor.shape[2]):
            self._cut(*input_px)
        left = round((input_px[0] - width) / 2 - 0.1) if self._format.centred else 0
        top = round((input_px[1] - height) / 2 - 0.1) if self._format.centred else 0
        self._canvas.fill(PAD_VALUE)
        target = self._canvas[top : top + height, left : left + width]
        if pixels.shape == target.shape:
            target[:] = pixels
        else:
            cv2.resize(pixels, (width, height), dst=target, interpolation=cv2.INTER_LINEAR)
        self._to_tensor()
        scale = width / image.width_px, height / image.height_px
        return Placement(*scale, left, top, image.width_px, image.height_px, *input_px)

    def _to_tensor(self) -> None:
        # Split first: a strided uint8 -> float conversion in NumPy takes four times as long.
        cv2.split(self._canvas, self._channels)
        for channel, plane in enumerate(reversed(self._channels) if self._format.rgb else self._channels):
            if self._format.scale == 1:
                self.tensor[0, channel] = plane
            else:
                np.multiply(plane, self._format.scale, out=self.tensor[0, channel], dtype=self.tensor.dtype)
