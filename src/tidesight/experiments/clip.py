"""A video made of pictures, for cameras where there is none."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from tidesight.detection.image import Pixels, decode_image

SIZE_PX = (640, 360)
_EACH_S = 2.0
_ROOM = 1.15  # a picture is so much larger than the frame, which wanders over it
_BITS_PER_S = 2_000_000


def write_clip(file: Path, pictures: Sequence[bytes], fps: float, frames: int | None = None) -> Path:
    """Show each picture for two seconds while the frame wanders over it, as a camera that turns.

    Args:
        file: To write, with the suffix of its container.
        pictures: At least one, in any format that an instance takes.
        fps: Frames a second.
        frames: How many; None is all pictures once, in ten at most.

    Raises:
        MissingExtra: PyAV is not installed.
        BadImage: a picture cannot be decoded.
    """
    from fractions import Fraction

    from tidesight.streams.reading import import_av

    av = import_av()
    each = max(1, round(_EACH_S * fps))
    count = each * min(len(pictures), 10) if frames is None else frames
    with av.open(str(file), "w") as output:
        video = output.add_stream("mpeg4", rate=Fraction(fps).limit_denominator(1000))
        video.width, video.height = SIZE_PX
        video.pix_fmt, video.bit_rate = "yuv420p", _BITS_PER_S
        for pixels in _wander(pictures, each, count):
            output.mux(video.encode(av.VideoFrame.from_ndarray(pixels, "bgr24")))
        output.mux(video.encode(None))
    return file


def _wander(pictures: Sequence[bytes], each: int, count: int) -> Iterator[Pixels]:
    width, height = SIZE_PX
    for number in range(count):
        place, step = divmod(number, each)
        if step == 0:
            larger = _covering(decode_image(pictures[place % len(pictures)]).pixels)
        part = step / each
        x, y = (round(part * (have - want)) for have, want in zip(larger.shape[1::-1], SIZE_PX, strict=True))
        yield np.ascontiguousarray(larger[y : y + height, x : x + width])


def _covering(pixels: Pixels) -> Pixels:
    import cv2

    factor = _ROOM * max(want / have for want, have in zip(SIZE_PX, pixels.shape[1::-1], strict=True))
    found: Pixels = cv2.resize(pixels, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)  # type: ignore[assignment]  # uint8 stays
    return found
