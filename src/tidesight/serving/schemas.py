"""The request and reply bodies of the API, as typed structures; the OpenAPI document is made from them."""

import re
import uuid
from datetime import datetime
from typing import Annotated

import msgspec
from msgspec import UNSET, Meta, UnsetType

REQUEST_ID = re.compile("[A-Za-z0-9._-]{1,128}")
RequestId = Annotated[str, Meta(pattern=f"^{REQUEST_ID.pattern}$", description="Letters, digits, . _ - only.")]
UnitInterval = Annotated[float, Meta(ge=0, le=1)]


def usable_id(given: str) -> str:
    """The id that a caller gave a request, or one made up where it is none."""
    return given if REQUEST_ID.fullmatch(given) else uuid.uuid4().hex


class DetectParameters(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """Options of a detection, the same in JSON, as form fields and as query parameters."""

    confidence: Annotated[UnitInterval, Meta(description="Least score of an object.")] = 0.25
    iou: Annotated[UnitInterval, Meta(description="Overlap above which two boxes are one object.")] = 0.5
    max_detections: Annotated[int, Meta(ge=1, le=1000, description="At most this many, best first.")] = 100
    classes: Annotated[
        Annotated[list[str | int], Meta(max_length=1000)] | None,
        Meta(description="Class names or ids to keep; all when absent."),
    ] = None
    annotate: Annotated[bool, Meta(description="Put the annotated JPEG, in base64, into the reply.")] = False
    store: Annotated[bool, Meta(description="Put the annotated JPEG and the detections into the store.")] = False
    id: Annotated[RequestId | None, Meta(description="Your id of the request; made up when absent.")] = None
    captured_at: Annotated[
        Annotated[datetime, Meta(tz=True)] | None, Meta(description="When the picture was taken (RFC 3339).")
    ] = None


class DetectRequest(DetectParameters, forbid_unknown_fields=True, kw_only=True):
    """A picture in JSON."""

    # Taken as it stands in the body: decoding 100 kB of base64 as a JSON string first would copy it twice.
    image: msgspec.Raw


class ObjectReply(msgspec.Struct):
    """One object."""

    box: Annotated[list[float], Meta(min_length=4, max_length=4, description="x1, y1, x2, y2 in pixels.")]
    score: UnitInterval
    class_id: Annotated[int, Meta(ge=0)]
    label: str


class ImageReply(msgspec.Struct):
    """The picture as it was understood, upright."""

    width: Annotated[int, Meta(ge=1)]
    height: Annotated[int, Meta(ge=1)]


class ModelReply(msgspec.Struct):
    """The model that answered."""

    name: str


class ResultReply(msgspec.Struct):
    """Where the result is stored."""

    image_url: str | None
    detections_url: str


class DetectReply(msgspec.Struct, kw_only=True):
    """What was found."""

    id: str
    model: ModelReply
    image: ImageReply
    detections: list[ObjectReply]
    timings_ms: Annotated[dict[str, float], Meta(description="Milliseconds by stage, and in total.")]
    captured_at: datetime | UnsetType = UNSET
    annotated_image: Annotated[str, Meta(description="JPEG in base64, when asked for.")] | UnsetType = UNSET
    result: ResultReply | UnsetType = UNSET
    traceparent: (
        Annotated[str, Meta(description="Of a stored result: its place in the caller's trace, or in one we record.")]
        | UnsetType
    ) = UNSET


class ReadyModelReply(msgspec.Struct):
    """The model an instance is ready with."""

    name: str
    input: Annotated[list[int], Meta(min_length=2, max_length=2, description="Width and height in pixels.")]
    classes: list[str]


class ReadyReply(msgspec.Struct):
    """The instance takes requests."""

    status: str
    model: ReadyModelReply


class HealthReply(msgspec.Struct):
    """The process is alive."""

    status: str


class Problem(msgspec.Struct, kw_only=True):
    """RFC 9457 problem details."""

    title: str
    status: int
    detail: str
    type: str = "about:blank"
    field: Annotated[str, Meta(description="The option or field at fault.")] | UnsetType = UNSET
    id: Annotated[str, Meta(description="The request's id.")] | UnsetType = UNSET
