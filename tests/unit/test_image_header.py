"""The header reader: format and size without decoding, and a bounded time whatever the bytes are."""

import io
import struct
import time
import zlib

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from tidesight.detection.image_header import ImageHeader, read_header
from tidesight.errors import BadImage, TidesightError, UnsupportedType

PNG = b"\x89PNG\r\n\x1a\n"
END_OF_JPEG = b"\xff\xd9"


def picture(suffix: str, width_px: int = 50, height_px: int = 30, *parameters: int) -> bytes:
    """A grey-ramp picture as a file."""
    ramp = np.linspace(0, 255, width_px * height_px * 3).reshape(height_px, width_px, 3)
    return cv2.imencode(suffix, ramp.astype(np.uint8), list(parameters))[1].tobytes()


def chunk(kind: bytes, content: bytes = b"") -> bytes:
    """A PNG chunk."""
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png_header(width_px: int, height_px: int) -> bytes:
    """A PNG up to and with its header chunk."""
    return PNG + chunk(b"IHDR", struct.pack(">IIBBBBB", width_px, height_px, 8, 2, 0, 0, 0))


def jpeg_header(width_px: int, height_px: int, marker: int = 0xC0) -> bytes:
    """A JPEG up to and with its frame header."""
    return b"\xff\xd8\xff" + struct.pack(">BHBHHB", marker, 17, 8, height_px, width_px, 3) + bytes(9)


def webp(kind: bytes, content: bytes) -> bytes:
    """A WebP of one chunk."""
    return b"RIFF" + struct.pack("<I", len(content) + 12) + b"WEBP" + kind + struct.pack("<I", len(content)) + content


def vp8x(width_px: int, height_px: int, flags: int = 0) -> bytes:
    """An extended WebP header."""
    sides = (width_px - 1).to_bytes(3, "little") + (height_px - 1).to_bytes(3, "little")
    return webp(b"VP8X", bytes([flags, 0, 0, 0]) + sides)


FILES = {
    "jpeg": (picture(".jpg"), "jpeg"),
    "progressive jpeg": (picture(".jpg", 50, 30, cv2.IMWRITE_JPEG_PROGRESSIVE, 1), "jpeg"),
    "jpeg with restart markers": (picture(".jpg", 50, 30, cv2.IMWRITE_JPEG_RST_INTERVAL, 1), "jpeg"),
    "png": (picture(".png"), "png"),
    "lossy webp": (picture(".webp", 50, 30, cv2.IMWRITE_WEBP_QUALITY, 80), "webp"),
    "lossless webp": (picture(".webp", 50, 30, cv2.IMWRITE_WEBP_QUALITY, 101), "webp"),
}


@pytest.mark.parametrize("name", FILES)
def test_format_and_size(name: str) -> None:
    data, kind = FILES[name]
    assert read_header(data) == ImageHeader(kind, 50, 30)


def test_an_extended_webp_says_its_canvas() -> None:
    assert read_header(vp8x(16_384, 5)) == ImageHeader("webp", 16_384, 5)


@pytest.mark.parametrize("marker", sorted({*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}))
def test_every_kind_of_jpeg_frame_tells_its_size(marker: int) -> None:
    assert read_header(jpeg_header(640, 480, marker)) == ImageHeader("jpeg", 640, 480)


@pytest.mark.parametrize("marker", [0xC4, 0xC8, 0xCC])
def test_tables_are_not_taken_for_a_frame(marker: int) -> None:
    tables = b"\xff" + struct.pack(">BH", marker, 19) + b"\xff\xc0" * 8 + b"\0"
    data = b"\xff\xd8" + tables + jpeg_header(640, 480)[2:]
    assert read_header(data) == ImageHeader("jpeg", 640, 480)


def test_a_thumbnail_inside_metadata_is_not_the_picture() -> None:
    thumbnail = picture(".jpg", 16, 16)
    metadata = b"\xff\xe1" + struct.pack(">H", len(thumbnail) + 2) + thumbnail
    assert read_header(b"\xff\xd8" + metadata + FILES["jpeg"][0][2:]) == ImageHeader("jpeg", 50, 30)


def test_the_first_frame_header_counts() -> None:
    assert read_header(jpeg_header(9, 7) + jpeg_header(5000, 4000)[2:]) == ImageHeader("jpeg", 9, 7)


def test_fill_and_stray_bytes_between_jpeg_segments_are_skipped() -> None:
    data = jpeg_header(9, 7)
    assert read_header(data[:2] + b"\0\0abc\xff\0\xff\xd0\xff\x01\xff\xff" + data[2:]) == ImageHeader("jpeg", 9, 7)


@pytest.mark.parametrize(
    ("begins", "name"),
    [
        (b"GIF89a", "GIF"),
        (b"GIF87a", "GIF"),
        (b"BM\0\0\0\0", "BMP"),
        (b"II*\0", "TIFF"),
        (b"MM\0*", "TIFF"),
        (b"%PDF-1.7", "PDF"),
        (b"\0\0\1\0\1\0", "ICO"),
        (b"\x1a\x45\xdf\xa3", "WebM"),
        (b"\0\0\0\x18ftypheic", "HEIC"),
        (b"\0\0\0\x1cftypavif", "AVIF"),
        (b"\0\0\0\x18ftypmp42", "MP4"),
    ],
)
def test_a_format_sent_by_mistake_is_named(begins: bytes, name: str) -> None:
    with pytest.raises(UnsupportedType, match=rf"expected JPEG, PNG or WebP, got .*{name}"):
        read_header(begins + bytes(100))


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP"])
def test_animations_are_refused(kind: str) -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "green")]
    stream = io.BytesIO()
    frames[0].save(stream, kind, save_all=True, append_images=frames[1:], duration=100)
    with pytest.raises(UnsupportedType, match="GIF" if kind == "GIF" else "animated"):
        read_header(stream.getvalue())


def test_a_still_picture_with_an_animation_chunk_after_its_data_is_still() -> None:
    data = png_header(3, 2) + chunk(b"IDAT") + chunk(b"acTL", bytes(8))
    assert read_header(data) == ImageHeader("png", 3, 2)


@pytest.mark.parametrize(
    "data",
    [b"", b"\0", b"hello, world", b"RIFF\0\0\0\0WAVEfmt ", b"<svg xmlns='x'/>", b'{"image": 1}', b"\xff", b"RIFF"],
)
def test_bytes_that_are_no_picture(data: bytes) -> None:
    with pytest.raises(BadImage):
        read_header(data)


@pytest.mark.parametrize(
    "data",
    [
        png_header(0, 5),
        png_header(5, 0),
        jpeg_header(0, 5),
        jpeg_header(5, 0),
        webp(b"VP8 ", bytes(10)),
    ],
)
def test_a_side_of_zero_is_refused(data: bytes) -> None:
    with pytest.raises(BadImage, match="size is"):
        read_header(data)


@pytest.mark.parametrize("kind", ["jpeg", "png", "webp"])
def test_one_pixel(kind: str) -> None:
    assert read_header(picture(f".{kind}", 1, 1)) == ImageHeader(kind, 1, 1)


def test_data_without_a_frame_header() -> None:
    with pytest.raises(BadImage, match="frame header"):
        read_header(b"\xff\xd8\xff\xda\0\2" + bytes(50))
    with pytest.raises(BadImage, match="frame header"):
        read_header(b"\xff\xd8" + END_OF_JPEG)


def test_a_png_must_begin_with_its_header_chunk() -> None:
    with pytest.raises(BadImage, match="IHDR"):
        read_header(PNG + chunk(b"tEXt", bytes(20)))


def test_a_webp_of_an_unknown_kind() -> None:
    with pytest.raises(BadImage, match="WebP"):
        read_header(webp(b"ALPH", bytes(20)))


@pytest.mark.parametrize("name", FILES)
def test_cut_anywhere_within_the_header_is_an_error_of_ours(name: str) -> None:
    data, kind = FILES[name]
    for length in range(60):
        try:
            found = read_header(data[:length])
        except BadImage:
            continue
        assert found == ImageHeader(kind, 50, 30)


def repeated_scans(times: int) -> bytes:
    """A progressive JPEG whose last scan, of a few bytes, is repeated."""
    data = picture(".jpg", 64, 64, cv2.IMWRITE_JPEG_PROGRESSIVE, 1)
    last = data.rindex(b"\xff\xda")
    return data[:last] + data[last:-2] * times + END_OF_JPEG


def test_a_jpeg_of_many_scans_is_refused() -> None:
    assert read_header(repeated_scans(5)) == ImageHeader("jpeg", 64, 64)
    with pytest.raises(BadImage, match="scans"):
        read_header(repeated_scans(60))


def test_what_follows_the_end_of_a_jpeg_does_not_count() -> None:
    motion_photo = FILES["jpeg"][0] + b"\0\2" + b"\xff\xda\0\2" * 100
    assert read_header(motion_photo) == ImageHeader("jpeg", 50, 30)


@pytest.mark.parametrize(
    "data",
    [
        b"\xff\xd8" + bytes(4_000_000),
        b"\xff\xd8" + b"\xff" * 4_000_000,
        b"\xff\xd8" + b"\xff\xe0\0\2" * 1_000_000,
        jpeg_header(9, 9) + b"\xff\xda\0\2" * 1_000_000,
        png_header(9, 9) + chunk(b"tEXt") * 300_000,
    ],
    ids=["zeros", "fill bytes", "empty segments", "empty scans", "empty chunks"],
)
def test_no_bytes_make_the_header_reader_slow(data: bytes) -> None:
    started = time.process_time()
    with pytest.raises(BadImage):
        read_header(data)
    assert time.process_time() - started < 0.3  # a loop over these bytes in Python takes longer


MAGICS = st.sampled_from([b"\xff\xd8", PNG, b"RIFF\0\0\0\0WEBPVP8 ", b"RIFF\0\0\0\0WEBPVP8L", b"RIFF\0\0\0\0WEBPVP8X"])


@given(st.binary(max_size=200) | st.builds(lambda magic, rest: magic + rest, MAGICS, st.binary(max_size=200)))
def test_any_bytes_give_a_header_or_an_error_of_ours(data: bytes) -> None:
    try:
        header = read_header(data)
    except TidesightError:
        return
    assert header.width_px > 0
    assert header.height_px > 0
