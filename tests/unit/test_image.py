"""Guarded decode: every mode becomes upright BGR, every limit holds before decoding, nothing else escapes."""

import io
import tracemalloc
import zlib

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from tidesight.detection.image import ImageLimits, Pixels, decode_image
from tidesight.errors import BadImage, TidesightError, TooLarge, UnsupportedType

WIDTH_PX, HEIGHT_PX = 80, 48


def scene(width_px: int = WIDTH_PX, height_px: int = HEIGHT_PX) -> Pixels:
    """A smooth picture with a different colour in each corner, so that a turn or swap shows and JPEG is close."""
    y, x = np.mgrid[:height_px, :width_px]
    blue, green = 255 * x / max(1, width_px - 1), 255 * y / max(1, height_px - 1)
    return np.stack([blue, green, (510 - blue - green) / 2], axis=-1).round().astype(np.uint8)


def pillow(pixels: Pixels, kind: str, mode: str = "RGB", **parameters: object) -> bytes:
    """A file as Pillow writes it."""
    stream = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels[:, :, ::-1])).convert(mode).save(stream, kind, **parameters)
    return stream.getvalue()


def opencv(pixels: np.ndarray, suffix: str, *parameters: int) -> bytes:
    """A file as OpenCV writes it."""
    return cv2.imencode(suffix, pixels, list(parameters))[1].tobytes()


def grey(pixels: Pixels) -> Pixels:
    """Without colour, by the luma that the formats use."""
    return np.repeat(cv2.cvtColor(pixels, cv2.COLOR_BGR2GRAY)[:, :, None], 3, axis=2)


def with_alpha(pixels: Pixels) -> np.ndarray:
    """Half transparent."""
    return np.dstack([pixels, np.full(pixels.shape[:2], 128, np.uint8)])


SCENE = scene()
SIXTEEN_BIT = SCENE.astype(np.uint16) * 257
# name: (file, what it shows, greatest mean difference)
EXACT, LOSSY = 0.01, 4.0
MODES = {
    "jpeg baseline": (opencv(SCENE, ".jpg"), SCENE, LOSSY),
    "jpeg progressive": (opencv(SCENE, ".jpg", cv2.IMWRITE_JPEG_PROGRESSIVE, 1), SCENE, LOSSY),
    "jpeg grey": (pillow(SCENE, "JPEG", "L"), grey(SCENE), LOSSY),
    "jpeg cmyk": (pillow(SCENE, "JPEG", "CMYK"), SCENE, LOSSY),
    "png 8 bit": (opencv(SCENE, ".png"), SCENE, EXACT),
    "png 16 bit": (opencv(SIXTEEN_BIT, ".png"), SCENE, EXACT),
    "png grey": (pillow(SCENE, "PNG", "L"), grey(SCENE), 1.0),
    "png grey 16 bit": (opencv(grey(SCENE)[:, :, 0].astype(np.uint16) * 257, ".png"), grey(SCENE), EXACT),
    "png palette": (pillow(SCENE, "PNG", "P", colors=256), SCENE, 20.0),
    "png one bit": (pillow((SCENE > 127) * np.uint8(255), "PNG", "1"), None, 0.0),
    "png alpha": (opencv(with_alpha(SCENE), ".png"), SCENE, EXACT),
    "png alpha 16 bit": (opencv(with_alpha(SCENE).astype(np.uint16) * 257, ".png"), SCENE, EXACT),
    "png grey alpha": (pillow(SCENE, "PNG", "LA"), grey(SCENE), 1.0),
    "webp lossy": (opencv(SCENE, ".webp", cv2.IMWRITE_WEBP_QUALITY, 90), SCENE, LOSSY),
    "webp lossless": (opencv(SCENE, ".webp", cv2.IMWRITE_WEBP_QUALITY, 101), SCENE, EXACT),
    "webp alpha": (pillow(SCENE, "WEBP", "RGBA", lossless=True), SCENE, EXACT),
}


@pytest.mark.parametrize("mode", MODES)
def test_every_mode_becomes_bgr(mode: str) -> None:
    data, shown, tolerance = MODES[mode]
    decoded = decode_image(data)
    assert decoded.pixels.shape == SCENE.shape
    assert decoded.pixels.dtype == np.uint8
    assert (decoded.width_px, decoded.height_px) == (WIDTH_PX, HEIGHT_PX)
    if shown is not None:
        assert np.abs(decoded.pixels.astype(int) - shown).mean() <= tolerance


def turned(kind: str, orientation: int, pixels: Pixels = SCENE) -> bytes:
    """A file whose EXIF says to show it turned."""
    exif = Image.Exif()
    exif[0x112] = orientation
    return pillow(pixels, kind, exif=exif, lossless=True)


def upright(data: bytes) -> Pixels:
    """The picture as Pillow shows it."""
    shown = ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB")
    return np.asarray(shown)[:, :, ::-1]


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_exif_orientation_is_applied(kind: str, orientation: int) -> None:
    data = turned(kind, orientation)
    decoded = decode_image(data)
    assert np.abs(decoded.pixels.astype(int) - upright(data)).mean() < 0.5
    size = (HEIGHT_PX, WIDTH_PX) if orientation >= 5 else (WIDTH_PX, HEIGHT_PX)
    assert (decoded.width_px, decoded.height_px) == size


@pytest.mark.parametrize("mode", ["jpeg baseline", "jpeg progressive", "png 8 bit", "webp lossy", "webp lossless"])
@pytest.mark.parametrize("percent", range(0, 100, 5))
def test_truncated_anywhere_is_a_bad_image(mode: str, percent: int) -> None:
    data = MODES[mode][0]
    with pytest.raises(BadImage):
        decode_image(data[: len(data) * percent // 100])


def test_the_byte_limit_is_inclusive() -> None:
    data = MODES["png 8 bit"][0]
    assert decode_image(data, ImageLimits(max_bytes=len(data))).width_px == WIDTH_PX
    with pytest.raises(TooLarge, match="bytes"):
        decode_image(data, ImageLimits(max_bytes=len(data) - 1))


@pytest.mark.parametrize("mode", ["jpeg baseline", "png 8 bit", "webp lossy", "webp alpha"])
def test_the_pixel_limit_is_inclusive(mode: str) -> None:
    data, pixels = MODES[mode][0], WIDTH_PX * HEIGHT_PX
    assert decode_image(data, ImageLimits(max_pixels=pixels)).width_px == WIDTH_PX
    with pytest.raises(TooLarge, match="80x48"):
        decode_image(data, ImageLimits(max_pixels=pixels - 1))


def vast(kind: str) -> bytes:
    """The header of a 30 000 x 30 000 picture with no data behind it."""
    side = 30_000
    if kind == "jpeg":
        sides = side.to_bytes(2) * 2
        return b"\xff\xd8\xff\xc0\0\x11\x08" + sides + b"\3\1\x11\0\2\x11\0\3\x11\0"
    ihdr = b"IHDR" + side.to_bytes(4) * 2 + b"\x08\2\0\0\0"
    return b"\x89PNG\r\n\x1a\n" + (13).to_bytes(4) + ihdr + zlib.crc32(ihdr).to_bytes(4)


@pytest.mark.parametrize("kind", ["jpeg", "png"])
def test_a_vast_header_is_refused_before_any_pixel_is_allocated(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cv2, "imdecode", lambda *_: pytest.fail("decoded"))
    tracemalloc.start()
    try:
        with pytest.raises(TooLarge, match="30000x30000"):
            decode_image(vast(kind))
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak_bytes < 100_000


def test_a_webp_whose_canvas_hides_a_larger_picture_is_refused() -> None:
    data = bytearray(pillow(scene(400, 300), "WEBP", "RGBA", lossless=True, exif=b"Exif\0\0x"))
    assert data[12:16] == b"VP8X"
    data[24:30] = bytes(6)  # 1x1
    with pytest.raises(BadImage):
        decode_image(bytes(data), ImageLimits(max_pixels=100))


def test_a_side_longer_than_the_decoder_takes_is_too_large() -> None:
    longest = 1_000_000
    assert decode_image(pillow(scene(longest, 1), "PNG")).width_px == longest
    with pytest.raises(TooLarge, match="1000001x1"):
        decode_image(pillow(scene(longest + 1, 1), "PNG"))


def test_an_error_inside_the_decoder_is_a_bad_image(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise cv2.error("insufficient memory")

    monkeypatch.setattr(cv2, "imdecode", fail)
    with pytest.raises(BadImage):
        decode_image(MODES["png 8 bit"][0])


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp"])
def test_one_pixel(suffix: str) -> None:
    decoded = decode_image(opencv(np.full((1, 1, 3), 200, np.uint8), suffix))
    assert decoded.pixels.shape == (1, 1, 3)
    assert np.abs(decoded.pixels.astype(int) - 200).max() <= 3


def test_what_opencv_could_decode_but_is_not_accepted() -> None:
    for suffix in (".bmp", ".tiff"):
        with pytest.raises(UnsupportedType):
            decode_image(opencv(SCENE, suffix))


# Needed size -> how much smaller than 400x240 it is decoded.
@pytest.mark.parametrize(
    ("enough_px", "by"),
    [
        ((400, 240), 1),
        ((201, 201), 1),
        ((200, 200), 2),
        ((101, 101), 2),
        ((100, 100), 4),
        ((51, 51), 4),
        ((50, 50), 8),
        ((1, 1), 8),
        ((200, 50), 4),
        ((50, 200), 4),  # EXIF might have turned it: then 240 / 50 decides
        (None, 1),
    ],
)
def test_a_large_jpeg_is_decoded_reduced(enough_px: tuple[int, int] | None, by: int) -> None:
    picture = scene(400, 240)
    decoded = decode_image(opencv(picture, ".jpg"), enough_px=enough_px)
    assert decoded.pixels.shape == (240 // by, 400 // by, 3)
    assert (decoded.width_px, decoded.height_px) == (400, 240)
    averaged = cv2.resize(picture, (400 // by, 240 // by), interpolation=cv2.INTER_AREA)
    assert np.abs(decoded.pixels.astype(int) - averaged).mean() < LOSSY


@pytest.mark.parametrize("suffix", [".png", ".webp"])
def test_other_formats_are_decoded_in_full(suffix: str) -> None:
    decoded = decode_image(opencv(scene(400, 240), suffix), enough_px=(32, 32))
    assert decoded.pixels.shape == (240, 400, 3)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("size_px", [(403, 241), (241, 403), (300, 300)])
def test_a_turned_jpeg_is_reduced_and_keeps_its_size_in_full(size_px: tuple[int, int], orientation: int) -> None:
    data = turned("JPEG", orientation, scene(*size_px))
    decoded = decode_image(data, enough_px=(100, 100))
    height, width = upright(data).shape[:2]
    assert (decoded.width_px, decoded.height_px) == (width, height)
    assert max(decoded.pixels.shape) < max(size_px) / 1.9
    shown = cv2.resize(upright(data), decoded.pixels.shape[1::-1], interpolation=cv2.INTER_AREA)
    assert np.abs(decoded.pixels.astype(int) - shown).mean() < LOSSY


@pytest.mark.parametrize("orientation", [1, 6])
@pytest.mark.parametrize("size_px", [(403, 401), (401, 403)])
def test_a_picture_that_reduced_would_be_square_keeps_its_size(size_px: tuple[int, int], orientation: int) -> None:
    data = turned("JPEG", orientation, scene(*size_px))
    decoded = decode_image(data, enough_px=(50, 50))  # at an eighth it is 51x51 either way
    assert (decoded.height_px, decoded.width_px) == upright(data).shape[:2]


@settings(max_examples=60)
@given(width=st.integers(1, 120), height=st.integers(1, 120), orientation=st.integers(1, 8), enough=st.integers(1, 64))
def test_sizes_of_any_turned_and_reduced_jpeg(width: int, height: int, orientation: int, enough: int) -> None:
    decoded = decode_image(turned("JPEG", orientation, scene(width, height)), enough_px=(enough, enough))
    expected = (height, width) if orientation >= 5 else (width, height)
    assert (decoded.width_px, decoded.height_px) == expected
    rows, columns = decoded.pixels.shape[:2]
    assert columns >= min(width, height, enough) or columns * 8 >= decoded.width_px
    # Both sides were divided by the same number, rounded up.
    by = next(n for n in (1, 2, 4, 8) if -(-expected[0] // n) == columns and -(-expected[1] // n) == rows)
    assert by == 1 or max(width, height) / by >= enough


SMALL = [MODES[mode][0] for mode in ("jpeg baseline", "jpeg progressive", "png palette", "webp lossy", "webp alpha")]
LIMITS = ImageLimits(max_pixels=1_000_000)  # a mutated header may ask for much


def decodes_or_is_refused(data: bytes) -> None:
    try:
        decoded = decode_image(data, LIMITS, (32, 32))
    except TidesightError:
        return
    assert decoded.pixels.dtype == np.uint8
    assert decoded.pixels.ndim == 3
    assert decoded.width_px * decoded.height_px <= LIMITS.max_pixels


@given(st.binary(max_size=300))
def test_arbitrary_bytes_raise_only_our_errors(data: bytes) -> None:
    decodes_or_is_refused(data)


@settings(max_examples=200)
@given(st.sampled_from(SMALL), st.data())
def test_mutated_pictures_raise_only_our_errors(original: bytes, draw: st.DataObject) -> None:
    data = bytearray(original)
    for _ in range(draw.draw(st.integers(1, 4))):
        data[draw.draw(st.integers(0, len(data) - 1))] = draw.draw(st.integers(0, 255))
    decodes_or_is_refused(bytes(data))


@given(st.sampled_from(SMALL), st.data())
def test_spliced_pictures_raise_only_our_errors(original: bytes, draw: st.DataObject) -> None:
    start, stop = sorted(draw.draw(st.integers(0, len(original))) for _ in range(2))
    decodes_or_is_refused(original[:start] + draw.draw(st.binary(max_size=40)) + original[stop:])
