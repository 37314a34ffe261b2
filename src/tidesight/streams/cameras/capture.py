"""A source read as it comes, for its freshest frame; connected anew whenever it ends or stalls."""

import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from random import Random
from time import monotonic, time
from typing import TYPE_CHECKING, Any

from tidesight.errors import SourceError, TidesightError
from tidesight.results.backoff import Backoff
from tidesight.streams.cameras.config import Camera
from tidesight.streams.reading import MAX_PIXELS, Picture, VideoReader, import_av

if TYPE_CHECKING:
    import av

_RECONNECT = Backoff(first_s=0.5, longest_s=30.0)
_SETTLED_S = 10.0  # a connection that held so long was a good one: the next wait is short again
_OPEN_TIMEOUT_S = 10.0


@dataclass(frozen=True)
class Captured:
    """A frame, when it came in (monotonic), and what the clock on the wall said then (since 1970)."""

    frame: "av.VideoFrame"
    at_s: float
    wall_s: float


class Capture:
    """Reads a camera in a thread of its own and keeps its last frame only.

    Args:
        camera: What to read.
        notify: Called, in that thread, when a frame came.

    Attributes:
        connected: Whether frames come.
        reconnects: How often it had to be connected anew.
        frames: How many came.
        trouble: Why it is not connected, else empty.
        drops: Why it was lost each time, for whoever tells of it; the last few.
    """

    def __init__(self, camera: Camera, notify: Callable[[], None]) -> None:
        self.connected = False
        self.reconnects = 0
        self.frames = 0
        self.trouble = "not connected yet"
        self.drops: deque[str] = deque(maxlen=8)
        self._camera = camera
        self._notify = notify
        self._latest: Captured | None = None
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"camera-{camera.name}", daemon=True)
        self._random = Random()  # noqa: S311 - jitter

    def start(self) -> None:
        """Begin to read."""
        self._thread.start()

    def stop(self, limit_s: float = 2.0) -> None:
        """Stop; a read that hangs is left to its own timeout."""
        self._stopping.set()
        self._thread.join(limit_s)

    @property
    def latest(self) -> Captured | None:
        """The last frame that nobody took, or None."""
        return self._latest

    def take(self) -> Captured | None:
        """The last frame; it is gone from here then."""
        taken, self._latest = self._latest, None
        return taken

    def _run(self) -> None:
        failures = 0
        while not self._stopping.is_set():
            began_s = monotonic()
            try:
                self._read()
                why = "it ended"
            except TidesightError as error:
                why = error.detail
            except Exception as error:
                why = f"{type(error).__name__}: {error}"
            if self.connected:
                self.drops.append(why)
            self.connected, self.trouble = False, why
            self._notify()
            failures = 1 if monotonic() - began_s > _SETTLED_S else failures + 1
            if self._stopping.wait(_RECONNECT.delay_s(failures, self._random)):
                return
            self.reconnects += 1

    def _read(self) -> None:
        for frame in _frames(self._camera, self._stopping):
            self._latest = Captured(frame, monotonic(), time())
            self.frames += 1
            if not self.connected:
                self.connected, self.trouble = True, ""
            self._notify()
            if self._stopping.is_set():
                return


def _frames(camera: Camera, stopping: threading.Event) -> Iterator["av.VideoFrame"]:
    if camera.kind == "device":
        return _device(camera)
    if camera.kind == "file":
        return _file(camera, stopping)
    return _stream(camera)


def _stream(camera: Camera) -> Iterator["av.VideoFrame"]:
    """Whatever FFmpeg reads as it comes; an error or `stall_s` without data end it."""
    av = import_av()
    options = {"fflags": "nobuffer", "flags": "low_delay"}
    if camera.source.startswith("rtsp"):
        options["rtsp_transport"] = camera.transport
    limits = (max(_OPEN_TIMEOUT_S, camera.stall_s), camera.stall_s)
    try:
        with av.open(camera.source, options=options, timeout=limits) as container:
            stream: Any = container.streams.best("video")
            if stream is None:
                raise SourceError("it has no video stream")
            stream.codec_context.options = {"max_pixels": str(MAX_PIXELS)}
            stream.codec_context.thread_count = 1  # more would hold frames back
            for packet in container.demux(stream):
                # A damaged packet costs a frame, not the connection.
                with suppress(av.error.InvalidDataError):
                    yield from packet.decode()
    except (av.error.FFmpegError, OSError) as error:
        raise SourceError(str(getattr(error, "strerror", None) or error)) from None


def _file(camera: Camera, stopping: threading.Event) -> Iterator["av.VideoFrame"]:
    """A file at the pace of its own timestamps, again and again if so wished."""
    while True:
        with VideoReader(camera.source) as reader:
            began_s: float | None = None
            for found in reader.frames():
                began_s = monotonic() - found.timestamp_s if began_s is None else began_s
                if stopping.wait(max(0.0, began_s + found.timestamp_s - monotonic())):
                    return
                if isinstance(found, Picture):
                    yield found.frame
        if not camera.loop:
            stopping.wait()
            return


def _device(camera: Camera) -> Iterator["av.VideoFrame"]:
    """A device by OpenCV: FFmpeg as PyAV brings it has no Video4Linux."""
    import cv2

    av = import_av()
    opened = cv2.VideoCapture(int(camera.source) if camera.source.isdecimal() else camera.source)
    try:
        if not opened.isOpened():
            raise SourceError("the device cannot be opened")
        while True:
            good, pixels = opened.read()
            if not good:
                raise SourceError("the device gives no picture")
            yield av.VideoFrame.from_ndarray(pixels, "bgr24")
    finally:
        opened.release()
