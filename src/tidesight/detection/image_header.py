"""What a picture's header says, read without decoding it: format, size, frames, scans.

Reads JPEG (ITU T.81 Annex B), PNG (W3C PNG 3rd edition, sections 5 and 11) and WebP (RFC 9649) headers.
"""

import re
import struct
from dataclasses import dataclass

from tidesight.errors import BadImage, UnsupportedType

SUPPORTED = "JPEG, PNG or WebP"
# What people send by mistake, so that the error can name it.
_KNOWN_OTHERS = {
    b"GIF8": "GIF",
    b"BM": "BMP",
    b"II*\0": "TIFF",
    b"MM\0*": "TIFF",
    b"%PDF": "PDF",
    b"\0\0\1\0": "ICO",
    b"\x1a\x45\xdf\xa3": "Matroska or WebM video",
}
# The next segment, past entropy-coded data, fill and stray bytes; TEM and RSTn are no segments.
_JPEG_SEGMENT = re.compile(rb"\xff([\x02-\xcf\xd8-\xfe])")
_JPEG_FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}  # SOFn, without DHT, JPG and DAC
_JPEG_END, _JPEG_SCAN = 0xD9, 0xDA

# A JPEG scan of 40 bytes costs the decoder a pass over the whole picture: a small file of many scans would hold
# a worker for hours. Encoders write about ten scans, and metadata takes at most a few hundred segments.
_MAX_SCANS = 64
_MAX_SEGMENTS = 2000


@dataclass(frozen=True)
class ImageHeader:
    """A picture's header.

    Attributes:
        format: "jpeg", "png" or "webp".
        width_px: Stored width, before any EXIF rotation; > 0.
        height_px: Stored height; > 0.
    """

    format: str
    width_px: int
    height_px: int


def read_header(data: bytes) -> ImageHeader:
    """Read format and size of a picture, in time that its bytes bound whatever they are.

    Raises:
        UnsupportedType: another format, or an animation.
        BadImage: empty, no picture at all, truncated within the header, of zero size, or made to stall a decoder.
    """
    if not data:
        raise BadImage("the image is empty")
    try:
        header = _parse(data)
    except (struct.error, IndexError):
        raise BadImage("the image is truncated within its header") from None
    if header.width_px < 1 or header.height_px < 1:
        raise BadImage(f"the image's size is {header.width_px}x{header.height_px}")
    return header


def _parse(data: bytes) -> ImageHeader:
    if data[:2] == b"\xff\xd8":
        return _jpeg(data)
    if data[:8] == b"\x89PNG\r\n\x1a\n":
        return _png(data)
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return _webp(data)
    found = next((name for magic, name in _KNOWN_OTHERS.items() if data.startswith(magic)), None)
    if found is None and data[4:8] == b"ftyp":
        found = "HEIC, AVIF or MP4"
    if found is not None:
        raise UnsupportedType(f"expected {SUPPORTED}, got {found}")
    raise BadImage(f"the bytes are not a picture; expected {SUPPORTED}")


def _jpeg(data: bytes) -> ImageHeader:
    header, scans, at = None, 0, 2
    for _ in range(_MAX_SEGMENTS):
        found = _JPEG_SEGMENT.search(data, at)
        marker = found[1][0] if found else _JPEG_END
        if found is None or marker == _JPEG_END:
            break
        at = found.end()
        if header is None and marker in _JPEG_FRAMES:
            height, width = struct.unpack_from(">HH", data, at + 3)
            header = ImageHeader("jpeg", width, height)
        scans += marker == _JPEG_SCAN
        if scans and header is None:
            break
        if scans > _MAX_SCANS:
            raise BadImage(f"the JPEG has more than {_MAX_SCANS} scans")
        at += int.from_bytes(data[at : at + 2])
    else:
        raise BadImage(f"the JPEG has more than {_MAX_SEGMENTS} segments")
    if header is None:
        raise BadImage("the JPEG has no frame header before its data")
    return header


def _png(data: bytes) -> ImageHeader:
    if data[12:16] != b"IHDR":
        raise BadImage("the PNG does not begin with an IHDR chunk")
    width, height = struct.unpack_from(">II", data, 16)
    at = 33
    for _ in range(_MAX_SEGMENTS):
        length, kind = int.from_bytes(data[at : at + 4]), data[at + 4 : at + 8]
        if kind == b"acTL":
            raise UnsupportedType("animated PNG: send a single frame")
        if kind in (b"IDAT", b""):
            return ImageHeader("png", width, height)
        at += 12 + length
    raise BadImage(f"the PNG has more than {_MAX_SEGMENTS} chunks before its data")


def _webp(data: bytes) -> ImageHeader:
    kind = data[12:16]
    if kind == b"VP8X":
        if data[20] & 0x02:
            raise UnsupportedType("animated WebP: send a single frame")
        width, height = (1 + int.from_bytes(data[at : at + 3], "little") for at in (24, 27))
        if len(data) < 30:
            raise BadImage("the image is truncated within its header")
        return ImageHeader("webp", width, height)
    if kind == b"VP8 ":
        width, height = struct.unpack_from("<HH", data, 26)
        return ImageHeader("webp", width & 0x3FFF, height & 0x3FFF)
    if kind == b"VP8L":
        bits = struct.unpack_from("<I", data, 21)[0]
        return ImageHeader("webp", (bits & 0x3FFF) + 1, ((bits >> 14) & 0x3FFF) + 1)
    raise BadImage("the WebP has no known image chunk")
