"""Letterbox: a picture into the network's input, and boxes back to where they were."""

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tidesight.detection.image import DecodedImage, Pixels
from tidesight.detection.letterbox import PAD_VALUE, InputFormat, Letterbox, Placement

TOP_LEFT = InputFormat(centred=False, rgb=False, scale=1)
CENTRED = InputFormat(centred=True, rgb=True, scale=1 / 255)
RAW_CENTRED = InputFormat(centred=True, rgb=False, scale=1)
SIDES_PX = st.integers(1, 3000)


def whole(pixels: Pixels) -> DecodedImage:
    """A picture decoded in full."""
    return DecodedImage(pixels, pixels.shape[1], pixels.shape[0])


def flat(width_px: int, height_px: int, value: int = 0) -> DecodedImage:
    """A picture of one value."""
    return whole(np.full((height_px, width_px, 3), value, np.uint8))


def into_input(boxes: np.ndarray, placement: Placement) -> np.ndarray:
    """What `Placement` documents: input = picture * scale + offset."""
    scale = np.array([placement.scale_x, placement.scale_y] * 2)
    placed: np.ndarray = boxes * scale + np.array([placement.left_px, placement.top_px] * 2)
    return placed


@settings(max_examples=60, deadline=None)
@given(SIDES_PX, SIDES_PX, st.sampled_from([TOP_LEFT, CENTRED]), st.lists(st.floats(0, 1), min_size=4, max_size=4))
@example(1, 3000, TOP_LEFT, [0, 0, 1, 1])
@example(3000, 1, CENTRED, [0, 0, 1, 1])
@example(1, 1, CENTRED, [0, 0, 1, 1])
def test_boxes_go_there_and_back(width: int, height: int, form: InputFormat, corners: list[float]) -> None:
    placement = Letterbox(96, 64, form).fit(flat(width, height))
    boxes = np.array([corners]) * [width, height, width, height]
    back = placement.to_picture(into_input(boxes, placement).astype(np.float32))
    assert back.dtype == np.float32
    assert np.abs(back - boxes).max() < 1


@settings(max_examples=60, deadline=None)
@given(SIDES_PX, SIDES_PX, st.sampled_from([TOP_LEFT, CENTRED, RAW_CENTRED]))
def test_the_picture_fills_one_side_and_keeps_its_shape(width: int, height: int, form: InputFormat) -> None:
    placement = Letterbox(96, 64, form).fit(flat(width, height))
    left, top, right, bottom = into_input(np.array([[0, 0, width, height]]), placement)[0]
    assert left >= 0
    assert top >= 0
    assert right == pytest.approx(96) or bottom == pytest.approx(64)
    assert right <= 96 + 1e-6
    assert bottom <= 64 + 1e-6
    ratio = min(96 / width, 64 / height)
    # Ultralytics rounds, YOLOX truncates; each to a whole number of pixels.
    tolerance = 0.5001 if form.centred else 0.9999
    assert right - left == pytest.approx(max(1, width * ratio), abs=tolerance)
    assert bottom - top == pytest.approx(max(1, height * ratio), abs=tolerance)
    if form.centred:
        assert abs((96 - round(right)) - round(left)) <= 1
        assert abs((64 - round(bottom)) - round(top)) <= 1


@pytest.mark.parametrize(
    ("form", "rows"), [(TOP_LEFT, slice(0, 32)), (RAW_CENTRED, slice(16, 48))], ids=["top left", "centred"]
)
def test_the_rest_is_padded_with_114(form: InputFormat, rows: slice) -> None:
    letterbox = Letterbox(64, 64, form)
    letterbox.fit(flat(128, 64, 255))
    expected = np.full((64, 64), PAD_VALUE, np.float32)
    expected[rows] = 255
    assert PAD_VALUE == 114
    for channel in letterbox.tensor[0]:
        np.testing.assert_array_equal(channel, expected)


def test_padding_is_scaled_with_the_picture() -> None:
    letterbox = Letterbox(64, 64, CENTRED)
    letterbox.fit(flat(64, 32, 255))
    assert letterbox.tensor[0, 0, 0, 0] == pytest.approx(114 / 255)
    assert letterbox.tensor[0, 0, 32, 0] == pytest.approx(1)


@pytest.mark.parametrize(("form", "order"), [(TOP_LEFT, [10, 20, 30]), (CENTRED, [30, 20, 10])])
def test_channel_order(form: InputFormat, order: list[int]) -> None:
    letterbox = Letterbox(32, 32, form)
    letterbox.fit(whole(np.full((32, 32, 3), (10, 20, 30), np.uint8)))
    np.testing.assert_allclose(letterbox.tensor[0, :, 5, 5], np.array(order) * form.scale, rtol=1e-6)


@pytest.mark.parametrize("form", [TOP_LEFT, RAW_CENTRED])
@pytest.mark.parametrize("size_px", [(64, 48), (640, 480), (20, 30), (1, 500), (500, 1), (1, 1), (63, 64)])
def test_the_resized_picture_really_lies_in_the_input(size_px: tuple[int, int], form: InputFormat) -> None:
    """OpenCV quietly makes an array of its own where it cannot write into the one it is given."""
    letterbox = Letterbox(64, 48, form)
    placement = letterbox.fit(flat(*size_px, 200))
    left, top, right, bottom = into_input(np.array([[0, 0, *size_px]]), placement)[0].round().astype(int)
    expected = np.full((48, 64), PAD_VALUE, np.float32)
    expected[top:bottom, left:right] = 200
    np.testing.assert_array_equal(letterbox.tensor[0, 1], expected)


def test_a_resized_picture_keeps_its_orientation() -> None:
    pixels = np.zeros((100, 200, 3), np.uint8)
    pixels[:50, :100] = 255  # top left quarter
    letterbox = Letterbox(40, 40, TOP_LEFT)
    letterbox.fit(whole(pixels))
    shown = letterbox.tensor[0, 0]
    assert (shown[:9, :19] == 255).all()
    assert (shown[11:20, :] == 0).all()
    assert (shown[:20, 21:] == 0).all()


def test_nothing_is_left_of_the_picture_before() -> None:
    letterbox = Letterbox(64, 64, CENTRED)
    letterbox.fit(flat(64, 64, 255))
    letterbox.fit(flat(10, 64, 0))
    fresh = Letterbox(64, 64, CENTRED)
    fresh.fit(flat(10, 64, 0))
    np.testing.assert_array_equal(letterbox.tensor, fresh.tensor)


def test_the_same_tensor_is_filled_again() -> None:
    letterbox = Letterbox(64, 64, TOP_LEFT)
    tensor = letterbox.tensor
    letterbox.fit(flat(5, 5, 9))
    assert letterbox.tensor is tensor
    assert tensor.shape == (1, 3, 64, 64)
    assert tensor.flags.c_contiguous


@pytest.mark.parametrize("form", [TOP_LEFT, CENTRED])
def test_float16(form: InputFormat) -> None:
    rng = np.random.default_rng(1)
    picture = whole(rng.integers(0, 256, (48, 64, 3), np.uint8))
    half, full = Letterbox(64, 64, form, "float16"), Letterbox(64, 64, form)
    half.fit(picture)
    full.fit(picture)
    assert half.tensor.dtype == np.float16
    np.testing.assert_allclose(half.tensor, full.tensor, rtol=1e-3)


def test_pixels_that_are_views_are_read_right() -> None:
    rng = np.random.default_rng(2)
    pixels = rng.integers(0, 256, (90, 120, 3), np.uint8)
    for view in (pixels[::-1, ::-1], pixels[:, :, ::-1], pixels[10:50, 20:70], pixels[::2, ::3]):
        one, other = Letterbox(64, 64, TOP_LEFT), Letterbox(64, 64, TOP_LEFT)
        one.fit(whole(view))
        other.fit(whole(np.ascontiguousarray(view)))
        np.testing.assert_array_equal(one.tensor, other.tensor)


def test_a_reduced_picture_is_placed_as_the_picture_in_full() -> None:
    placement = Letterbox(64, 64, TOP_LEFT).fit(DecodedImage(np.zeros((50, 100, 3), np.uint8), 800, 400))
    box = placement.to_picture(np.array([[0, 0, 64, 32]], np.float32))
    np.testing.assert_allclose(box, [[0, 0, 800, 400]])


def test_boxes_are_clipped_to_the_picture() -> None:
    placement = Letterbox(64, 64, RAW_CENTRED).fit(flat(128, 64))
    boxes = placement.to_picture(np.array([[-9, -9, 99, 99], [5, 0, 9, 10]], np.float32))
    np.testing.assert_allclose(boxes, [[0, 0, 128, 64], [10, 0, 18, 0]])


def test_no_boxes() -> None:
    placement = Letterbox(64, 64, TOP_LEFT).fit(flat(128, 64))
    assert placement.to_picture(np.zeros((0, 4), np.float32)).shape == (0, 4)
