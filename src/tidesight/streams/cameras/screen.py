"""The last picture of a camera with its boxes, for whoever looks; drawn only while somebody does."""

import asyncio
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import cv2

from tidesight.detection.annotate import annotate, encode_jpeg
from tidesight.detection.detections import Detection
from tidesight.detection.image import Pixels
from tidesight.streams.cameras.config import Camera
from tidesight.streams.jpeg import FrameEncoder, fitted

if TYPE_CHECKING:
    from collections.abc import Iterator

    import av

_LONGEST_PX = 960
_QUALITY = 80
_AMBER = (0, 176, 255)


class Screen:
    """One camera's picture. Viewers get the newest only: a slow one misses some and delays nobody.

    Args:
        camera: Its zones and lines are drawn.
    """

    def __init__(self, camera: Camera) -> None:
        self._camera = camera
        self._viewers = 0
        self._encoder: FrameEncoder | None = None
        self._changed = asyncio.Condition()
        self._drawing: asyncio.Task[None] | None = None
        self._next: tuple[Any, list[Detection]] | None = None
        self.jpeg = b""
        self.number = 0

    def show(self, frame: "av.VideoFrame", detections: Iterable[Detection]) -> None:
        """A newer picture; drawn in a thread, if somebody looks and the one before is done."""
        if not self._viewers:
            return
        self._next = (frame, list(detections))
        if self._drawing is None or self._drawing.done():
            self._drawing = asyncio.get_running_loop().create_task(self._draw())

    @contextmanager
    def watched(self) -> "Iterator[None]":
        """As long as somebody looks."""
        self._viewers += 1
        try:
            yield
        finally:
            self._viewers -= 1

    async def after(self, number: int) -> tuple[int, bytes]:
        """The next picture later than that of the number given."""
        async with self._changed:
            await self._changed.wait_for(lambda: self.number > number)
            return self.number, self.jpeg

    async def pictures(self) -> AsyncIterator[bytes]:
        """JPEGs as they come, for one viewer."""
        with self.watched():
            number = self.number
            while True:
                number, jpeg = await self.after(number)
                yield jpeg

    async def _draw(self) -> None:
        while self._next is not None:
            (frame, detections), self._next = self._next, None
            jpeg = await asyncio.to_thread(self._make, frame, detections)
            async with self._changed:
                self.jpeg, self.number = jpeg, self.number + 1
                self._changed.notify_all()

    def _make(self, frame: "av.VideoFrame", detections: Sequence[Detection]) -> bytes:
        if self._encoder is None:
            self._encoder = FrameEncoder(0)
        width, height = fitted(frame.width, frame.height, _LONGEST_PX)
        pixels = self._encoder.pixels(frame, width, height)
        scale = max(pixels.shape[:2]) / max(frame.width, frame.height)
        self._draw_places(pixels)
        drawn = annotate(pixels, [_scaled(one, scale) for one in detections])
        return encode_jpeg(drawn, _QUALITY)

    def _draw_places(self, pixels: Pixels) -> None:
        height, width = pixels.shape[:2]
        line_px = max(1, min(width, height) // 240)

        def at(point: tuple[float, float]) -> tuple[int, int]:
            return round(point[0] * width), round(point[1] * height)

        for shape in [*self._camera.zones.values(), *self._camera.lines.values()]:
            corners = [at(point) for point in shape]
            closed = corners[1:] + corners[:1] if len(corners) > 2 else corners[1:]
            for start, end in zip(corners, closed, strict=False):
                cv2.line(pixels, start, end, _AMBER, line_px, cv2.LINE_AA)
        for name, places in [*self._camera.zones.items(), *self._camera.lines.items()]:
            x, y = at(places[0])
            cv2.putText(pixels, name, (x + 4, max(14, y - 6)), _AMBER, cv2.FontFace("sans"), 14, 500)


def _scaled(one: Detection, scale: float) -> Detection:
    x1, y1, x2, y2 = (side * scale for side in one.box)
    return one._replace(box=(x1, y1, x2, y2))
