"""Frames as the JPEGs that are sent: no larger than the network looks at, upright."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2

from tidesight.detection.image import Pixels

if TYPE_CHECKING:
    import av

DEFAULT_QUALITY = 95  # docs/guides/video.md has AP against bytes
_TURNS = {90: cv2.ROTATE_90_COUNTERCLOCKWISE, 180: cv2.ROTATE_180, 270: cv2.ROTATE_90_CLOCKWISE}


@dataclass(frozen=True)
class Encoded:
    """A picture to send.

    Attributes:
        jpeg: Its bytes.
        width_px: Width of the frame in full, upright.
        height_px: Height of the frame in full, upright.
    """

    jpeg: bytes
    width_px: int
    height_px: int


class FrameEncoder:
    """Makes JPEGs of frames; for one thread.

    Args:
        longest_px: Longer side of what is sent; 0 sends frames in full.
        quality: Of the JPEG, 1 to 100.
    """

    def __init__(self, longest_px: int, quality: int = DEFAULT_QUALITY) -> None:
        from av.video.reformatter import VideoReformatter

        self._longest_px = longest_px
        self._quality = [cv2.IMWRITE_JPEG_QUALITY, quality]
        self._reformatter = VideoReformatter()  # keeps its tables from frame to frame

    def encode(self, frame: "av.VideoFrame") -> Encoded:
        """Scale, turn upright, encode."""
        pixels = self.pixels(frame, *fitted(frame.width, frame.height, self._longest_px))
        turned = frame.rotation % 180 != 0
        width_px, height_px = (frame.height, frame.width) if turned else (frame.width, frame.height)
        return Encoded(cv2.imencode(".jpg", pixels, self._quality)[1].tobytes(), width_px, height_px)

    def pixels(self, frame: "av.VideoFrame", width_px: int, height_px: int) -> Pixels:
        """A frame as BGR of that size (before it is turned), upright."""
        from av.video.reformatter import Interpolation

        # By way of I420: of all formats swscale gets there fastest, and OpenCV's conversion is vectorised.
        planar = width_px % 2 == 0 and height_px % 2 == 0
        made = self._reformatter.reformat(
            frame,
            width_px,
            height_px,
            "yuv420p" if planar else "bgr24",
            interpolation=Interpolation.BILINEAR,
            threads=1,  # more would cost more to wake than they save
        )
        array = made.to_ndarray()
        pixels = cv2.cvtColor(array, cv2.COLOR_YUV2BGR_I420) if planar else array
        turn = _TURNS.get(round(frame.rotation) % 360)
        return pixels if turn is None else cv2.rotate(pixels, turn)  # type: ignore[return-value]  # uint8 stays


def fitted(width_px: int, height_px: int, longest_px: int) -> tuple[int, int]:
    """The size to send: the longer side at most `longest_px` (0: any), both even where it is made smaller."""
    longest = max(width_px, height_px)
    if not 0 < longest_px < longest:
        return width_px, height_px
    factor = longest_px / longest
    return max(2, round(width_px * factor / 2) * 2), max(2, round(height_px * factor / 2) * 2)
