"""What an answer of `/v1/detect` means for the frame that was sent."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

import msgspec
import numpy as np

from tidesight.detection.detections import Detections
from tidesight.errors import FleetError
from tidesight.streams.jpeg import Encoded

_BUSY = {429, 502, 503, 504}  # an instance or what stands before it: not now
_FRAME_AT_FAULT = {400, 413}
_SLOW_UPLOAD = 408  # of the way there, not of the frame
_MOST_RETRY_AFTER_S = 60.0
_MOST_CLASSES = 100_000


class _Object(msgspec.Struct):
    box: tuple[float, float, float, float]
    score: float
    class_id: Annotated[int, msgspec.Meta(ge=0, le=_MOST_CLASSES)]
    label: str


class _Image(msgspec.Struct):
    width: Annotated[int, msgspec.Meta(ge=1)]
    height: Annotated[int, msgspec.Meta(ge=1)]


class _Reply(msgspec.Struct):
    image: _Image
    detections: list[_Object]


class _Problem(msgspec.Struct):
    detail: str = ""


@dataclass(frozen=True)
class Model:
    """The model a fleet serves.

    Attributes:
        name: As the instance calls it.
        input_px: Width and height of the network's input.
        classes: Names of its classes.
    """

    name: str
    input_px: tuple[int, int]
    classes: tuple[str, ...]


@dataclass(frozen=True)
class Found:
    """An answer, in pixels of the frame in full."""

    detections: Detections


@dataclass(frozen=True)
class Busy:
    """Not now; the frame is none the worse for it. `retry_after_s` is None where nothing was said."""

    reason: str
    retry_after_s: float | None
    status: int | None = None


@dataclass(frozen=True)
class Failed:
    """No answer, or none of use; `final` where another try would give the same. `status` is None without an answer."""

    reason: str
    final: bool
    status: int | None = None


Verdict = Found | Busy | Failed
_decode_reply = msgspec.json.Decoder(_Reply).decode


def judge(status: int, headers: Mapping[str, str], body: bytes, sent: Encoded, model: Model) -> Verdict:
    """What an answer means.

    Raises:
        FleetError: every frame would be answered like this: a key, a route or an option is wrong.
    """
    if status == 200:
        try:
            return Found(_detections(_decode_reply(body), sent, model))
        except (msgspec.DecodeError, ValueError) as error:
            return Failed(f"an answer that cannot be read: {error}", final=False, status=status)
    reason = f"{status}: {_detail(body)}"
    if status in _BUSY:
        return Busy(reason, retry_after_s(headers.get("Retry-After")), status)
    if status in _FRAME_AT_FAULT:
        return Failed(reason, final=True, status=status)
    if status == _SLOW_UPLOAD:
        return Failed(reason, final=False, status=status)
    if 400 <= status < 500:
        raise FleetError(f"the fleet answers {reason}")
    return Failed(reason, final=False, status=status)


def retry_after_s(header: str | None) -> float | None:
    """The seconds in a `Retry-After`; None without one, or with a date."""
    try:
        seconds = float(header or "")
    except ValueError:
        return None
    return min(max(0.0, seconds), _MOST_RETRY_AFTER_S) if math.isfinite(seconds) else None


def _detail(body: bytes) -> str:
    try:
        return msgspec.json.decode(body, type=_Problem).detail or "no detail"
    except (msgspec.DecodeError, UnicodeDecodeError):
        return body[:200].decode(errors="replace").strip() or "no detail"


def _detections(reply: _Reply, sent: Encoded, model: Model) -> Detections:
    scale_x, scale_y = sent.width_px / reply.image.width, sent.height_px / reply.image.height
    boxes = np.array([found.box for found in reply.detections], np.float32).reshape(-1, 4)
    # To hundredths, as instances answer: more would be digits of the scaling only.
    boxes = np.round(boxes * np.array([scale_x, scale_y, scale_x, scale_y], np.float32), 2)
    return Detections(
        boxes,
        np.array([found.score for found in reply.detections], np.float32),
        np.array([found.class_id for found in reply.detections], np.int64),
        _names(reply, model),
        sent.width_px,
        sent.height_px,
    )


def _names(reply: _Reply, model: Model) -> tuple[str, ...]:
    """The model's class names; an instance with another one, during a roll-out, says its own."""
    names = model.classes
    for found in reply.detections:
        if not (found.class_id < len(names) and names[found.class_id] == found.label):
            more = list(names) + [""] * (found.class_id + 1 - len(names))
            more[found.class_id] = found.label
            names = tuple(more)
    return names
