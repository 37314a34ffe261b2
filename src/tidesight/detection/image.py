"""Guarded decode: bytes to pixels, with every limit checked on the header before any pixel is touched."""

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from tidesight.detection.image_header import ImageHeader, read_header
from tidesight.detection.png_chunks import require_whole_chunks
from tidesight.errors import BadImage, TooLarge

Pixels = npt.NDArray[np.uint8]
"""A picture: uint8, (height, width, 3), BGR as OpenCV has it."""

_MAX_SIDE_PX = 1_000_000  # libpng's own limit
# libjpeg-turbo decodes at 1/2, 1/4 or 1/8 size straight from the DCT coefficients.
_REDUCED = {2: cv2.IMREAD_REDUCED_COLOR_2, 4: cv2.IMREAD_REDUCED_COLOR_4, 8: cv2.IMREAD_REDUCED_COLOR_8}


@dataclass(frozen=True)
class ImageLimits:
    """What a picture may be at most.

    Attributes:
        max_bytes: Encoded size; 0 < max_bytes.
        max_pixels: Width times height as the header says; 0 < max_pixels.
    """

    max_bytes: int = 24 * 1024 * 1024
    max_pixels: int = 40_000_000


@dataclass(frozen=True)
class DecodedImage:
    """Pixels, and the size of the picture they stand for.

    Attributes:
        pixels: uint8 (h, w, 3) BGR, upright; smaller than the picture when it was decoded reduced.
        width_px: Width of the picture in full, after EXIF rotation.
        height_px: Height of the picture in full, after EXIF rotation.
    """

    pixels: Pixels
    width_px: int
    height_px: int


def decode_image(
    data: bytes, limits: ImageLimits = ImageLimits(), enough_px: tuple[int, int] | None = None
) -> DecodedImage:
    """Decode a JPEG, PNG or WebP picture; grey, palette, CMYK, 16 bit and alpha all become BGR.

    EXIF orientation is applied. Transparency is dropped. A JPEG at least twice as large as needed is
    decoded at 1/2, 1/4 or 1/8 of its size, which costs less and changes no box by more than rounding.

    Args:
        data: The encoded picture.
        limits: Byte and pixel limits, checked before decoding.
        enough_px: (width, height) of the box the picture will be fitted into, when a reduced decode
            will do; None decodes in full.

    Raises:
        TooLarge: more bytes or pixels than `limits` allow.
        UnsupportedType: neither JPEG, PNG nor WebP, or an animation.
        BadImage: truncated or corrupt.
    """
    if len(data) > limits.max_bytes:
        raise TooLarge(f"the image has {len(data)} bytes; the limit is {limits.max_bytes}")
    header = read_header(data)
    size = f"the image is {header.width_px}x{header.height_px}"
    if header.width_px * header.height_px > limits.max_pixels:
        raise TooLarge(f"{size}; the limit is {limits.max_pixels} pixels")
    if max(header.width_px, header.height_px) > _MAX_SIDE_PX:
        raise TooLarge(f"{size}; the limit of a side is {_MAX_SIDE_PX} pixels")
    if header.format == "png":
        require_whole_chunks(data)
    pixels = _decode(data, _REDUCED.get(_reduction(header, enough_px), cv2.IMREAD_COLOR))
    width, height = header.width_px, header.height_px
    if (pixels.shape[1] > pixels.shape[0]) != (width > height) and pixels.shape[0] != pixels.shape[1]:
        width, height = height, width  # EXIF turned it by a quarter
    return DecodedImage(pixels, width, height)


def _reduction(header: ImageHeader, enough_px: tuple[int, int] | None) -> int:
    """The largest of 1, 2, 4, 8 that still leaves at least the pixels the network sees."""
    if enough_px is None or header.format != "jpeg":
        return 1
    fit = max(header.width_px / enough_px[0], header.height_px / enough_px[1])
    if header.width_px != header.height_px:  # EXIF may turn it: take the smaller reduction
        fit = min(fit, max(header.height_px / enough_px[0], header.width_px / enough_px[1]))
    return next((by for by in (8, 4, 2) if fit >= by and _tells_turned(header, by)), 1)


def _tells_turned(header: ImageHeader, by: int) -> bool:
    """Whether a reduced decode still shows which side is longer, and so whether EXIF turned the picture."""
    square = header.width_px == header.height_px
    return square or -(-header.width_px // by) != -(-header.height_px // by)


def _decode(data: bytes, flags: int) -> Pixels:
    try:
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error:
        pixels = None
    if pixels is None:
        raise BadImage("the image is truncated or corrupt")
    return pixels  # type: ignore[return-value]  # OpenCV's stub says integer or float; IMREAD_COLOR is uint8


def be_quiet_about_bad_pictures() -> None:
    """Keep OpenCV from writing a line to standard error for each broken picture: callers would fill the log."""
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
