"""The file that says which cameras there are, and what is watched for in them."""

import math
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from tidesight.errors import ConfigError

Point = tuple[float, float]
_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")


class _Camera(msgspec.Struct, forbid_unknown_fields=True):
    """A `[[camera]]` as it is written."""

    name: str
    source: str
    fps: float = 5.0
    freshness_s: float = 1.0
    weight: float = 1.0
    kind: str = "auto"
    transport: str = "tcp"
    stall_s: float = 5.0
    loop: bool = True
    track: bool = False
    classes: list[str] | None = None
    zones: dict[str, list[Point]] = {}
    lines: dict[str, tuple[Point, Point]] = {}


class _Webhook(msgspec.Struct, forbid_unknown_fields=True):
    """`[webhook]` as it is written."""

    url: str
    headers: dict[str, str] = {}
    attempts: int = 8
    most_waiting: int = 1000


class _File(msgspec.Struct, forbid_unknown_fields=True):
    """The whole file."""

    camera: list[_Camera]
    webhook: _Webhook | None = None
    counts_every_s: float = 10.0


@dataclass(frozen=True)
class Camera:
    """One source.

    Attributes:
        name: Letters, digits, `_` and `-`; a label of its metrics.
        source: URL, file or device.
        kind: "stream" (RTSP, HTTP MJPEG, whatever FFmpeg reads as it comes), "file" (played as live) or "device".
        fps: Frames looked at in a second, if the fleet takes them (> 0).
        freshness_s: Age from which a frame or an answer is of no use any more (> 0).
        weight: Its share where there is too little for all (> 0).
        transport: Of RTSP: "tcp" or "udp".
        stall_s: Without a frame for so long, it is connected anew (> 0).
        loop: Whether a file begins again at its end.
        track: Whether objects are followed from frame to frame.
        classes: Labels that count, or None for all.
        zones: Polygons by name, in fractions of width and height, 0 to 1.
        lines: From, to, by name, in the same.
    """

    name: str
    source: str
    kind: str = "stream"
    fps: float = 5.0
    freshness_s: float = 1.0
    weight: float = 1.0
    transport: str = "tcp"
    stall_s: float = 5.0
    loop: bool = True
    track: bool = False
    classes: frozenset[str] | None = None
    zones: Mapping[str, tuple[Point, ...]] = field(default_factory=dict)
    lines: Mapping[str, tuple[Point, Point]] = field(default_factory=dict)


@dataclass(frozen=True)
class Webhook:
    """Where events go over HTTP.

    Attributes:
        url: POSTed to.
        headers: Of each request; a secret perhaps. Not shown.
        attempts: Of one event.
        most_waiting: Events that wait; the oldest goes when there are more.
    """

    url: str
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    attempts: int = 8
    most_waiting: int = 1000


@dataclass(frozen=True)
class CamerasConfig:
    """All that a file says.

    Attributes:
        cameras: At least one.
        webhook: Or none.
        counts_every_s: Between two events with counts (> 0).
    """

    cameras: tuple[Camera, ...]
    webhook: Webhook | None = None
    counts_every_s: float = 10.0


def load_config(path: Path) -> CamerasConfig:
    """Read and check a file.

    Raises:
        ConfigError: it cannot be read, or something in it is wrong; with the place.
    """
    try:
        with path.open("rb") as file:
            return parse_config(tomllib.load(file), path.parent)
    except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read {path}: {error}", field="config") from None
    except ConfigError as error:
        raise ConfigError(f"{path}: {error.detail}", field="config") from None


def parse_config(content: Mapping[str, Any], folder: Path = Path()) -> CamerasConfig:
    """Check what a file holds; relative paths of files are relative to `folder`.

    Raises:
        ConfigError: something is wrong.
    """
    try:
        written = msgspec.convert(content, _File)
    except msgspec.ValidationError as error:
        raise ConfigError(str(error)) from None
    if not written.camera:
        raise ConfigError("there is no [[camera]]")
    cameras = tuple(_camera(one, folder) for one in written.camera)
    names = [one.name for one in cameras]
    if len(set(names)) < len(names):
        raise ConfigError(f"two cameras are called {max(names, key=names.count)!r}; each needs a name of its own")
    _above_zero("counts_every_s", written.counts_every_s)
    return CamerasConfig(cameras, _webhook(written.webhook), written.counts_every_s)


def _webhook(written: _Webhook | None) -> Webhook | None:
    if written is None:
        return None
    if not written.url.startswith(("http://", "https://")):
        raise ConfigError(f"webhook: url: expected http://... or https://..., got {written.url!r}")
    if written.attempts < 1 or written.most_waiting < 1:
        raise ConfigError("webhook: attempts and most_waiting: expected at least 1")
    return Webhook(written.url, written.headers, written.attempts, written.most_waiting)


def _camera(one: _Camera, folder: Path) -> Camera:
    place = f"camera {one.name!r}"
    if not _NAME.fullmatch(one.name):
        raise ConfigError(f"{place}: a name is 1 to 64 letters, digits, _ and -")
    for name in ("fps", "freshness_s", "weight", "stall_s"):
        _above_zero(f"{place}: {name}", getattr(one, name))
    if one.transport not in ("tcp", "udp"):
        raise ConfigError(f"{place}: transport: expected tcp or udp, got {one.transport!r}")
    if one.lines and not one.track:
        raise ConfigError(f"{place}: lines need track = true: to cross is to be seen on both sides")
    kind = _kind(one.source) if one.kind == "auto" else one.kind
    if kind not in ("stream", "file", "device"):
        raise ConfigError(f"{place}: kind: expected auto, stream, file or device, got {one.kind!r}")
    source = str(folder / one.source) if kind == "file" and "://" not in one.source else one.source
    return Camera(
        one.name, source, kind, one.fps, one.freshness_s, one.weight, one.transport, one.stall_s, one.loop, one.track,
        None if one.classes is None else frozenset(one.classes),
        {name: _polygon(f"{place}: zone {name!r}", points) for name, points in one.zones.items()},
        {name: _line(f"{place}: line {name!r}", points) for name, points in one.lines.items()},
    )  # fmt: skip


def _kind(source: str) -> str:
    if "://" in source:
        return "stream"
    return "device" if source.startswith("/dev/") or source.isdecimal() else "file"


def _polygon(place: str, points: list[Point]) -> tuple[Point, ...]:
    if len(points) < 3:
        raise ConfigError(f"{place}: expected at least three points, got {len(points)}")
    return tuple(_inside(place, point) for point in points)


def _line(place: str, points: tuple[Point, Point]) -> tuple[Point, Point]:
    if points[0] == points[1]:
        raise ConfigError(f"{place}: its two points are the same")
    return _inside(place, points[0]), _inside(place, points[1])


def _inside(place: str, point: Point) -> Point:
    if not all(0 <= side <= 1 for side in point):
        raise ConfigError(f"{place}: expected fractions of width and height, 0 to 1, got {list(point)}")
    return point


def _above_zero(place: str, value: float) -> None:
    if not (math.isfinite(value) and value > 0):
        raise ConfigError(f"{place}: expected a number above 0, got {value}")
