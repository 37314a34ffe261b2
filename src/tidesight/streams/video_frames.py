"""A video's frames as they go to a fleet: sampled, encoded, or with the reason why not."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from tidesight.detection.image import Pixels
from tidesight.errors import SourceError
from tidesight.streams.answers import Failed, Model
from tidesight.streams.in_order import Item
from tidesight.streams.jpeg import Encoded, FrameEncoder
from tidesight.streams.options import DetectVideoOptions
from tidesight.streams.reading import Lost, Picture, VideoReader
from tidesight.streams.sampling import Sampler


class PixelReader:
    """A second reader that goes along with the outcomes, opened when the first pixels are asked for.

    Args:
        source: The video.
    """

    def __init__(self, source: str) -> None:
        self._source = source
        self._reader: VideoReader | None = None
        self._frames: Iterator[Picture | Lost] = iter(())
        self._encoder: FrameEncoder | None = None

    def read(self, index: int) -> Pixels:
        """The pixels of a frame, upright; what is before it is passed.

        Raises:
            SourceError: it was lost, or passed before.
        """
        if self._reader is None:
            self._reader = VideoReader(self._source)
            self._frames = self._reader.frames()
            self._encoder = FrameEncoder(0)
        assert self._encoder is not None
        for found in self._frames:
            if found.index == index and isinstance(found, Picture):
                return self._encoder.pixels(found.frame, found.frame.width, found.frame.height)
            if found.index >= index:
                break
        raise SourceError(f"{self._source}: no pixels of frame {index}; ask in the order of the frames, once for each")

    def close(self) -> None:
        """Close the file."""
        if self._reader is not None:
            self._reader.close()


@dataclass(frozen=True)
class VideoFrame:
    """One frame of a video.

    Attributes:
        index: Its place among the frames of the file, from 0.
        timestamp_s: Seconds from the begin; greater than that of every frame before.
        stored_s: What the container says, where that does not go forward; else None.
        damaged: Whether the decoder had to fill in for errors in the file.
        error: Why nothing was looked for in it; None where it was.
        width_px: Of the frame in full, upright.
        height_px: Of the frame in full, upright.
    """

    index: int
    timestamp_s: float
    stored_s: float | None = None
    damaged: bool = False
    error: str | None = None
    width_px: int = 0
    height_px: int = 0
    _pixels: PixelReader | None = field(default=None, repr=False, compare=False)

    def pixels(self) -> Pixels:
        """The frame in full: uint8 (height, width, 3), BGR, upright.

        It is read from the file again, by a second reader that goes along: nothing is kept in memory for it. Ask in
        the order of the frames, at most once for each.

        Raises:
            SourceError: the frame was lost, or passed before.
        """
        if self._pixels is None:
            raise SourceError(f"frame {self.index} has no pixels to give")
        return self._pixels.read(self.index)


class VideoFrames:
    """The frames to be sent, in order.

    Args:
        reader: Of the video, at its begin.
        options: Sampling, size and quality.
        done: So many of those to be sent are done already, and are passed over.
        pixels: For the pixels of frames, or None.
    """

    def __init__(
        self, reader: VideoReader, options: DetectVideoOptions, done: int = 0, pixels: PixelReader | None = None
    ) -> None:
        self._reader = reader
        self._options = options
        self._done = done
        self._pixels = pixels
        self.model: Model | None = None

    def items(self, model: Model) -> Iterator[Item[VideoFrame]]:
        """Each frame, and the picture to send or why there is none."""
        self.model = model
        longest_px = max(model.input_px) if self._options.longest_px is None else self._options.longest_px
        encoder, sampler, left = FrameEncoder(longest_px, self._options.quality), Sampler(self._options.sampling), 0
        for found in self._reader.frames():
            if not sampler.takes(found.index, found.timestamp_s):
                continue
            left += 1
            if left > self._done:
                yield self._item(found, encoder)

    def _item(self, found: Picture | Lost, encoder: FrameEncoder) -> Item[VideoFrame]:
        frame = VideoFrame(found.index, found.timestamp_s, _pixels=self._pixels)
        if isinstance(found, Lost):
            frame = replace(frame, width_px=self._reader.width_px, height_px=self._reader.height_px)
            return frame, Failed(f"not decoded: {found.reason}", final=True)
        picture: Encoded = encoder.encode(found.frame)
        seen = replace(
            frame,
            stored_s=found.stored_s,
            damaged=found.damaged,
            width_px=picture.width_px,
            height_px=picture.height_px,
        )
        return seen, picture
