"""The annotated video: the same pictures at the same times with boxes on them, and the same sound."""

import errno
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from tidesight.detection.annotate import annotate
from tidesight.detection.detections import Detection
from tidesight.detection.image import Pixels
from tidesight.errors import TidesightError
from tidesight.streams.jpeg import FrameEncoder
from tidesight.streams.reading import Picture, VideoReader, import_av
from tidesight.streams.record import FrameLine, read_lines

if TYPE_CHECKING:
    from av.container import OutputContainer

_IN_MP4 = {"aac", "mp3", "mp2", "ac3", "eac3", "opus", "alac", "flac"}
_QUALITY = {"crf": "21", "preset": "veryfast"}


def render(source: str, lines: Path, folder: Path, seen: Callable[[int], None] = lambda _: None) -> Path:
    """Read the video again, draw what was found, copy the sound; frames between sampled ones keep the last boxes.

    Args:
        source: The video.
        lines: Its frames, as recorded.
        folder: For `annotated.mp4`, or `.mkv` where MP4 cannot hold the sound.
        seen: Called with the number of frames done.

    Returns:
        The file; it is there only once it is whole.

    Raises:
        SourceError: the video cannot be read.
        TidesightError: the file cannot be written.
    """
    av = import_av()
    with VideoReader(source) as reader:
        sound = {stream.codec_context.name for stream in reader.audio_streams}
        target = folder / ("annotated.mp4" if sound <= _IN_MP4 else "annotated.mkv")
        part = target.with_suffix(".part" + target.suffix)
        try:
            with av.open(str(part), "w") as output:
                _Rendering(av, reader, output, Boxes(read_lines(lines))).run(seen)
            part.replace(target)
        except (av.error.FFmpegError, OSError) as error:
            with suppress(OSError):
                part.unlink()
            words = "No space left on device" if error.errno == errno.ENOSPC else error.strerror or str(error)
            raise TidesightError(f"cannot write {target}: {words}") from None
    return target


class Boxes:
    """The boxes to draw, for frames asked for in order.

    Args:
        lines: Frames as recorded, in order.
    """

    def __init__(self, lines: Iterator[FrameLine]) -> None:
        self._lines = lines
        self._next = next(lines, None)
        self._boxes: list[Detection] = []

    def at(self, index: int) -> list[Detection]:
        """What was last found at or before this frame; nothing from a frame that failed."""
        while self._next is not None and self._next.frame <= index:
            self._boxes = self._next.objects()
            self._next = next(self._lines, None)
        return self._boxes


class _Rendering:
    """One pass over a video, from an open reader to an open output."""

    def __init__(self, av: Any, reader: VideoReader, output: "OutputContainer", boxes: Boxes) -> None:
        self._av = av
        self._reader = reader
        self._output = output
        self._boxes = boxes
        self._pixels = FrameEncoder(0)
        self._video: Any = None
        self._sound: dict[int, Any] = {}
        self._waiting: list[Any] = []

    def run(self, seen: Callable[[int], None]) -> None:
        # The stream is described by the first picture, which may be turned; sound that comes before it waits.
        for packet, frames in self._reader.packets(self._reader.audio_streams):
            if packet is not None and packet.stream is not self._reader.stream:
                self._copy(packet)
            for frame in frames:
                if isinstance(frame, Picture):
                    self._draw(frame)
                seen(frame.index + 1)
        if self._video is not None:
            self._output.mux(self._video.encode(None))

    def _draw(self, picture: Picture) -> None:
        frame = picture.frame
        pixels = self._pixels.pixels(frame, frame.width, frame.height)
        if self._video is None:
            self._begin(pixels)
        drawn = _sized(annotate(pixels, self._boxes.at(picture.index)), self._video.width, self._video.height)
        made = self._av.VideoFrame.from_ndarray(drawn, "bgr24")
        made.pts, made.time_base = picture.ticks, self._reader.time_base
        self._output.mux(self._video.encode(made))

    def _begin(self, pixels: Pixels) -> None:
        codec = "libx264" if "libx264" in self._av.codecs_available else "mpeg4"
        rate = self._reader.stream.average_rate or 25
        video: Any = self._output.add_stream(codec, rate=rate, options=_QUALITY if codec == "libx264" else {})
        height, width = pixels.shape[:2]
        video.width, video.height, video.pix_fmt = width + width % 2, height + height % 2, "yuv420p"
        video.codec_context.time_base = video.time_base = self._reader.time_base
        if codec == "mpeg4":
            video.codec_context.qmin, video.codec_context.qmax = 2, 6
        self._video = video
        for stream in self._reader.audio_streams:
            self._sound[stream.index] = self._output.add_stream_from_template(stream)
        for packet in self._waiting:
            self._copy(packet)
        self._waiting.clear()

    def _copy(self, packet: Any) -> None:
        if packet.dts is None:
            return
        if self._video is None:
            self._waiting.append(packet)
            return
        packet.stream = self._sound[packet.stream_index]
        self._output.mux(packet)


def _sized(pixels: Pixels, width: int, height: int) -> Pixels:
    """Of the video's size: an odd side is repeated at its edge, a picture of another size is scaled."""
    here_h, here_w = pixels.shape[:2]
    if (here_w, here_h) == (width, height):
        return pixels
    if width - here_w in (0, 1) and height - here_h in (0, 1):
        edged = cv2.copyMakeBorder(pixels, 0, height - here_h, 0, width - here_w, cv2.BORDER_REPLICATE)
        return edged.astype(np.uint8, copy=False)
    return cv2.resize(pixels, (width, height)).astype(np.uint8, copy=False)
