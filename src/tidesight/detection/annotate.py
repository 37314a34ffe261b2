"""Draw detections on a picture, legible at any size."""

import colorsys
from collections.abc import Iterable

import cv2

from tidesight.detection.detections import Detection, Detections
from tidesight.detection.image import Pixels
from tidesight.errors import TooLarge

Colour = tuple[int, int, int]
_MAX_JPEG_SIDE_PX = 65_500  # libjpeg's own limit
_GOLDEN_ANGLE = 0.381966  # successive hues stay far apart however many classes there are
_WEIGHT = 500  # between regular (400) and bold (800)
_WHITE: Colour = (255, 255, 255)
_BLACK: Colour = (0, 0, 0)


def annotate(pixels: Pixels, detections: Detections | Iterable[Detection]) -> Pixels:
    """A copy of the picture with boxes, labels and scores; line width and text follow the picture's size.

    Args:
        pixels: uint8 (h, w, 3), BGR; of the size that the boxes refer to.
        detections: What to draw; the best-scored ends on top.
    """
    canvas = pixels.copy()
    short_side = min(canvas.shape[:2])
    line_px = max(1, round(short_side / 240))
    text_px = max(9, round(short_side / 32))
    font = cv2.FontFace("sans")
    for found in reversed(list(detections)):
        x1, y1, x2, y2 = (round(v) for v in found.box)
        colour = class_colour(found.class_id)
        cv2.rectangle(canvas, (x1, y1), (x2, y2), colour, line_px, cv2.LINE_AA)
        _label(canvas, font, f"{found.label} {found.score:.2f}", (x1, y1), colour, text_px)
    return canvas


def class_colour(class_id: int) -> Colour:
    """A colour (B, G, R) that is always the same for a class and unlike its neighbours'."""
    hue = (class_id * _GOLDEN_ANGLE) % 1
    red, green, blue = colorsys.hsv_to_rgb(hue, 0.85, 0.95 if class_id % 2 else 0.8)
    return round(blue * 255), round(green * 255), round(red * 255)


def _label(
    canvas: Pixels, font: cv2.FontFace, text: str, corner: tuple[int, int], colour: Colour, text_px: int
) -> None:
    """A filled tag at the box's top left corner, moved inward where the picture ends."""
    height, width = canvas.shape[:2]
    _, _, text_width, _ = cv2.getTextSize((width, height), text, (0, 0), font, text_px, _WEIGHT)
    pad = max(2, text_px // 4)
    tag_width, tag_height = text_width + 2 * pad, text_px + 2 * pad
    left = max(0, min(corner[0], width - tag_width))
    top = corner[1] - tag_height if corner[1] >= tag_height else corner[1]
    top = max(0, min(top, height - tag_height))
    cv2.rectangle(canvas, (left, top), (left + tag_width, top + tag_height), colour, cv2.FILLED)
    luminance = 0.114 * colour[0] + 0.587 * colour[1] + 0.299 * colour[2]
    baseline = (left + pad, top + pad + round(text_px * 0.85))
    cv2.putText(canvas, text, baseline, _BLACK if luminance > 140 else _WHITE, font, text_px, _WEIGHT)


def encode_jpeg(pixels: Pixels, quality: int = 85) -> bytes:
    """Encode a picture as JPEG.

    Args:
        pixels: uint8 (h, w, 3), BGR.
        quality: 1 to 100.

    Raises:
        TooLarge: a side is longer than a JPEG's can be.
    """
    if max(pixels.shape[:2]) > _MAX_JPEG_SIDE_PX:
        raise TooLarge(
            f"a side of the picture is over {_MAX_JPEG_SIDE_PX} pixels, which no JPEG can hold", field="image"
        )
    return cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, quality])[1].tobytes()


def warm_up_drawing() -> None:
    """Make OpenCV unpack its font now, which takes some 50 ms once."""
    cv2.getTextSize((64, 64), "0", (0, 0), cv2.FontFace("sans"), 12, _WEIGHT)
