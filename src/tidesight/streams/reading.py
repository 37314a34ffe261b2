"""A video file as pictures in the order in which they are shown, and a note for each that could not be had."""

import heapq
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from tidesight.errors import MissingExtra, SourceError, TooLarge
from tidesight.streams.timeline import Timeline

if TYPE_CHECKING:
    import av
    from av.container import InputContainer

MAX_PIXELS = 40_000_000
_JUMP_S = 1.0
_SHORT_S = 2.0  # by so much less than it says a file is short; sound may be a little longer than the pictures
_OPEN_TIMEOUT_S, _READ_TIMEOUT_S = 20.0, 20.0
_LARGE_PX = 1920 * 1080  # from here on a decoder with threads of its own pays
_HIDDEN = {"vp8"}  # has packets that are references only and are never shown, and does not mark them


@dataclass(frozen=True)
class Picture:
    """One decoded frame.

    Attributes:
        index: Its place among the frames of the file, from 0; frames that were lost count.
        timestamp_s: Seconds from the begin of the file; greater than that of every frame before.
        stored_s: What the container says, where that is something else; None where it is the same, or nothing.
        ticks: The timestamp in the stream's time base, not counted from the begin.
        frame: The pixels, in the decoder's own format.
        damaged: Whether the decoder found errors in its data and filled them in.
    """

    index: int
    timestamp_s: float
    stored_s: float | None
    ticks: int
    frame: "av.VideoFrame"
    damaged: bool = False


@dataclass(frozen=True)
class Lost:
    """A frame that is in the file and could not be decoded.

    Attributes:
        index: As for a picture.
        timestamp_s: As for a picture.
        reason: One line.
    """

    index: int
    timestamp_s: float
    reason: str


def import_av() -> Any:
    """PyAV, with FFmpeg's own messages off.

    Raises:
        MissingExtra: it is not installed.
    """
    try:
        import av
    except ImportError:
        raise MissingExtra("av", "streams") from None
    av.logging.set_level(av.logging.PANIC)
    return av


class VideoReader:
    """Reads a video once, from its begin; leaving the `with` block closes it.

    Args:
        source: A path, or a URL that FFmpeg reads.
        max_pixels: A frame may have at most so many; guards the memory.

    Attributes:
        cut_short: Why there is less in the file than it promises, once all is read; else None.

    Raises:
        SourceError: it cannot be opened, or has no video.
        TooLarge: its frames have too many pixels.
        MissingExtra: PyAV is not installed.
    """

    def __init__(self, source: str, max_pixels: int = MAX_PIXELS) -> None:
        self._av = import_av()
        self.source = source
        self.cut_short: str | None = None
        self._container = self._open()
        try:
            self.stream = self._video_stream(max_pixels)
        except BaseException:
            self._container.close()
            raise
        self.time_base: Fraction = self.stream.time_base or Fraction(1, 90_000)
        rate = self.stream.average_rate or self.stream.guessed_rate or Fraction(25)
        self._timeline = Timeline(round(1 / (rate * self.time_base)), round(_JUMP_S / self.time_base))
        # Player time: what the file begins with is at 0, be it sound or picture.
        self.origin_s: float = (self._container.start_time or 0) / self._av.time_base
        self._index = 0
        self._end_s = 0.0

    def __enter__(self) -> "VideoReader":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._container.close()

    @property
    def width_px(self) -> int:
        """Of a frame as stored."""
        return int(self.stream.codec_context.width)

    @property
    def height_px(self) -> int:
        """Of a frame as stored."""
        return int(self.stream.codec_context.height)

    @property
    def read_frames(self) -> int:
        """How many frames came so far, lost ones too."""
        return self._index

    @property
    def promised_frames(self) -> int:
        """How many frames the container says there are; 0 where it does not say."""
        return int(self.stream.frames)

    @property
    def duration_s(self) -> float | None:
        """How long the container says it is."""
        length = self._container.duration
        return None if length is None else float(length / self._av.time_base)

    @property
    def audio_streams(self) -> tuple[Any, ...]:
        """The sound in it."""
        return tuple(self._container.streams.audio)

    def frames(self) -> Iterator[Picture | Lost]:
        """Every frame in the order in which it is shown."""
        for _, frames in self.packets(()):
            yield from frames

    def packets(self, others: tuple[Any, ...]) -> Iterator[tuple[Any, list[Picture | Lost]]]:
        """Every packet of the video and of some `others` of its streams, in the file's order.

        Yields:
            The packet, and the frames that are known after it; None and the last frames at the end.
        """
        pending = _Pending(self._hides_packets())
        try:
            for packet in self._container.demux(self.stream, *others):
                if packet.stream is self.stream:
                    yield packet, self._decode(packet, pending)
                elif packet.size:
                    yield packet, []
        except self._av.error.FFmpegError as error:
            self.cut_short = f"reading ended early: {_words(error)}"
        yield None, [self._lost(pts, why) for pts, why in pending.rest()]
        self._check_whole()

    def _decode(self, packet: Any, pending: "_Pending") -> list[Picture | Lost]:
        found: list[Picture | Lost] = []
        pending.expect(packet)
        try:
            frames = packet.decode()
        except self._av.error.FFmpegError as error:
            pending.failed(packet, _words(error))
            return found
        for frame in frames:
            found += [self._lost(pts, why) for pts, why in pending.shown(frame.pts)]
            found.append(self._picture(frame))
        return found

    def _picture(self, frame: "av.VideoFrame") -> Picture:
        moment = self._timeline.place(frame.pts)
        index, self._index = self._index, self._index + 1
        self._end_s = self._seconds(moment.ticks)
        stored_s = None if moment.as_stored or frame.pts is None else self._seconds(frame.pts)
        return Picture(index, self._end_s, stored_s, moment.ticks, frame, bool(frame.is_corrupt))

    def _lost(self, pts: int | None, why: str) -> Lost:
        index, self._index = self._index, self._index + 1
        return Lost(index, self._seconds(self._timeline.place(pts).ticks), why)

    def _seconds(self, ticks: int) -> float:
        seconds: float = float(ticks * self.time_base) - self.origin_s
        return round(seconds, 6)

    def _hides_packets(self) -> bool:
        return self.stream.codec_context.name in _HIDDEN

    def _check_whole(self) -> None:
        if self.cut_short is not None:
            return
        if self.promised_frames > self._index:
            self.cut_short = f"of {self.promised_frames} frames that the container promises {self._index} are in it"
        elif not self.promised_frames and (self.duration_s or 0) > self._end_s + _SHORT_S:
            self.cut_short = f"the container says {self.duration_s:.1f} s, the pictures end at {self._end_s:.1f} s"

    def _open(self) -> "InputContainer":
        try:
            opened: InputContainer = self._av.open(self.source, timeout=(_OPEN_TIMEOUT_S, _READ_TIMEOUT_S))
        except (self._av.error.FFmpegError, OSError, ValueError) as error:
            raise SourceError(f"cannot read {self.source}: {_words(error)}") from None
        return opened

    def _video_stream(self, max_pixels: int) -> Any:
        stream: Any = self._container.streams.best("video")
        if stream is None:
            raise SourceError(f"{self.source} has no video stream")
        context = stream.codec_context
        if context is None:
            raise SourceError(f"{self.source}: this FFmpeg has no decoder for its video")
        if context.width * context.height > max_pixels:
            raise TooLarge(
                f"{self.source}: its frames have {context.width}x{context.height} pixels, more than {max_pixels} "
                "in all; scale it down first"
            )
        context.options = {"max_pixels": str(max_pixels)}  # frames may grow on the way
        large = context.width * context.height >= _LARGE_PX
        context.thread_type = "AUTO" if large else "NONE"
        if not large:
            context.thread_count = 1
        return stream


class _Pending:
    """Timestamps of packets of which no picture has come yet, to notice those of which none will."""

    def __init__(self, hides: bool) -> None:
        self._off = hides
        self._expected: list[int] = []
        self._why: dict[int, str] = {}
        self._unstamped: list[str] = []

    def expect(self, packet: Any) -> None:
        if packet.size and packet.pts is not None and not packet.is_discard and not self._off:
            heapq.heappush(self._expected, packet.pts)

    def failed(self, packet: Any, why: str) -> None:
        if packet.pts is None or self._off:
            self._unstamped.append(why)
        else:
            self._why[packet.pts] = why

    def shown(self, pts: int | None) -> list[tuple[int | None, str]]:
        """A picture came; what should have come before it and did not."""
        if pts is None:
            return self._without_stamp()
        lost = self._without_stamp()
        while self._expected and self._expected[0] < pts:
            lost.append(self._take())
        if self._expected and self._expected[0] == pts:
            heapq.heappop(self._expected)
        return lost

    def rest(self) -> list[tuple[int | None, str]]:
        """At the end: all that never came."""
        lost = self._without_stamp()
        while self._expected:
            lost.append(self._take())
        return lost

    def _take(self) -> tuple[int | None, str]:
        pts = heapq.heappop(self._expected)
        return pts, self._why.pop(pts, "the decoder made no picture of it")

    def _without_stamp(self) -> list[tuple[int | None, str]]:
        lost: list[tuple[int | None, str]] = [(None, why) for why in self._unstamped]
        self._unstamped.clear()
        return lost


def _words(error: Exception) -> str:
    return str(getattr(error, "strerror", None) or error)
