"""What a worker thread does for one request: take the body apart, detect, draw."""

from collections.abc import Mapping
from dataclasses import dataclass
from time import perf_counter

from tidesight.detection.annotate import annotate, encode_jpeg
from tidesight.detection.detections import Detections
from tidesight.detection.detector import DetectOptions, Detector, class_ids
from tidesight.detection.image import ImageLimits, decode_image
from tidesight.errors import InputError
from tidesight.serving.bodies import parse_body
from tidesight.serving.schemas import DetectParameters


@dataclass(frozen=True)
class WorkOrder:
    """A request's body and what its headers say of it.

    Attributes:
        body: The whole body.
        content_type: The header.
        query: Query parameters.
        picture_wanted: The reply is to be the annotated picture.
        limits: Of the picture.
    """

    body: bytes
    content_type: str
    query: Mapping[str, str]
    picture_wanted: bool
    limits: ImageLimits


@dataclass(frozen=True)
class Finding:
    """What a worker made of a request.

    Attributes:
        parameters: The options as they were understood.
        detections: What was found.
        annotated_jpeg: The picture with boxes, when something needs it.
        timings_s: Seconds by stage.
    """

    parameters: DetectParameters
    detections: Detections
    annotated_jpeg: bytes | None
    timings_s: Mapping[str, float]


def perform(order: WorkOrder, detector: Detector) -> Finding:
    """Do one request.

    Raises:
        InputError: the body, an option or the picture cannot be used.
    """
    started = perf_counter()
    parsed = parse_body(order.body, order.content_type, order.query)
    options = _options(parsed.parameters, detector.class_names)
    parsed_s = perf_counter() - started
    try:
        if order.picture_wanted or parsed.parameters.annotate or parsed.parameters.store:
            detections, jpeg, timings = _detect_and_draw(parsed.image, order.limits, detector, options)
        else:
            detections, jpeg = detector.detect(parsed.image, options), None
            timings = dict(detections.timings_s)
    except InputError as error:
        error.field = error.field or "image"
        raise
    return Finding(parsed.parameters, detections, jpeg, {"parse": parsed_s, **timings})


def _detect_and_draw(
    image: bytes, limits: ImageLimits, detector: Detector, options: DetectOptions
) -> tuple[Detections, bytes, dict[str, float]]:
    # Drawn on the picture in full, so it is decoded once, in full, for both.
    started = perf_counter()
    pixels = decode_image(image, limits).pixels
    decode_s = perf_counter() - started
    detections = detector.detect(pixels, options)
    drawing = perf_counter()
    jpeg = encode_jpeg(annotate(pixels, detections))
    return detections, jpeg, {**detections.timings_s, "decode": decode_s, "annotate": perf_counter() - drawing}


def _options(parameters: DetectParameters, class_names: tuple[str, ...]) -> DetectOptions:
    classes = None if parameters.classes is None else class_ids(parameters.classes, class_names)
    return DetectOptions(parameters.confidence, parameters.iou, parameters.max_detections, classes)
