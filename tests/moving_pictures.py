"""Small videos made on the spot: steady, with a variable frame rate, with sound, turned, broken."""

from collections.abc import Iterable, Sequence
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np

from tidesight.detection.image import Pixels

SIZE = (160, 96)


def picture(number: int, size: tuple[int, int] = SIZE) -> Pixels:
    """A frame unlike all others: a gradient, a block that moves, and its number."""
    width, height = size
    pixels = np.empty((height, width, 3), np.uint8)
    pixels[:] = np.linspace(0, 200, width, dtype=np.uint8)[None, :, None]
    x = number * 7 % (width - 20)
    pixels[height // 4 : height // 2, x : x + 20] = (number * 37 % 256, 80, 200)
    cv2.putText(pixels, str(number), (4, height - 8), cv2.FONT_HERSHEY_SIMPLEX, 0.8, (255, 255, 255), 2)
    return pixels


def write_video(
    path: Path,
    pictures: Iterable[Pixels],
    *,
    stamps_ms: Sequence[int] | None = None,
    sound_s: float = 0.0,
    codec: str = "libx264",
    turned: int = 0,
    gop: int = 12,
) -> Path:
    """A file whose frames have these timestamps (40 ms apart if none are given)."""
    with av.open(str(path), "w") as output:
        video = output.add_stream(codec, rate=25)
        video.time_base = video.codec_context.time_base = Fraction(1, 1000)
        video.codec_context.gop_size = gop
        audio = output.add_stream("aac", rate=16_000) if sound_s else None
        for number, pixels in enumerate(pictures):
            if number == 0:
                video.height, video.width = pixels.shape[:2]
                video.pix_fmt = "yuv420p" if codec != "mjpeg" else "yuvj420p"
                if turned:
                    video.set_display_rotation(turned)
            frame = av.VideoFrame.from_ndarray(pixels, "bgr24")
            frame.pts = stamps_ms[number] if stamps_ms else number * 40
            frame.time_base = Fraction(1, 1000)
            output.mux(video.encode(frame))
        output.mux(video.encode(None))
        if audio is not None:
            _write_sound(output, audio, sound_s)
    return path


def _write_sound(output: "av.container.OutputContainer", stream: "av.AudioStream", seconds: float) -> None:
    for number in range(int(seconds * 16_000) // 1024):
        wave = np.sin(np.arange(1024, dtype=np.float32) / 9)[None, :] * 0.2
        frame = av.AudioFrame.from_ndarray(wave.astype(np.float32), "fltp", "mono")
        frame.sample_rate, frame.pts, frame.time_base = 16_000, number * 1024, Fraction(1, 16_000)
        output.mux(stream.encode(frame))
    output.mux(stream.encode(None))
