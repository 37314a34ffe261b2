"""An input cut to the picture: its size, where the picture lies, and the way back."""

import numpy as np
import pytest

from tidesight.detection.heads import recognise
from tidesight.detection.image import DecodedImage
from tidesight.detection.letterbox import PAD_VALUE, InputFormat, Letterbox

TOP_LEFT = InputFormat(centred=False, rgb=False, scale=1)
CENTRED = InputFormat(centred=True, rgb=True, scale=1)


def picture(width: int, height: int) -> DecodedImage:
    return DecodedImage(np.full((height, width, 3), 200, np.uint8), width, height)


@pytest.mark.parametrize(
    ("size", "margin", "expected"),
    [
        ((640, 480), 0, (416, 320)),  # 416x312
        ((480, 640), 0, (320, 416)),
        ((640, 480), 16, (416, 352)),  # 312 + 16 is more than 320
        ((640, 427), 16, (416, 320)),  # 277 + 16
        ((640, 640), 0, (416, 416)),
        ((640, 640), 16, (416, 416)),  # never more than the whole input
        ((4000, 10), 0, (416, 32)),
        ((640, 480), None, (416, 416)),
    ],
)
def test_the_input_is_cut_in_steps_of_32(size: tuple[int, int], margin: int | None, expected: tuple[int, int]) -> None:
    letterbox = Letterbox(416, 416, TOP_LEFT, margin_px=margin)
    placement = letterbox.fit(picture(*size))
    assert (placement.input_width_px, placement.input_height_px) == expected
    assert letterbox.tensor.shape == (1, 3, expected[1], expected[0])
    assert letterbox.tensor.flags.c_contiguous


@pytest.mark.parametrize("form", [TOP_LEFT, CENTRED])
def test_it_is_the_square_input_without_some_padding(form: InputFormat) -> None:
    source = DecodedImage(np.random.default_rng(0).integers(0, 255, (120, 200, 3), np.uint8), 200, 120)
    square, cut = Letterbox(128, 128, form), Letterbox(128, 128, form, margin_px=0)
    whole, part = square.fit(source), cut.fit(source)
    height, width = 77 if form.centred else 76, 128
    rows = slice(part.top_px, part.top_px + height), slice(part.left_px, part.left_px + width)
    full = slice(whole.top_px, whole.top_px + height), slice(whole.left_px, whole.left_px + width)
    np.testing.assert_array_equal(cut.tensor[0, :, *rows], square.tensor[0, :, *full])
    outside = np.ones(cut.tensor.shape[2:], bool)
    outside[rows] = False
    assert (cut.tensor[0][:, outside] == PAD_VALUE).all()


def test_shapes_follow_each_other_without_a_trace() -> None:
    letterbox = Letterbox(128, 128, CENTRED, margin_px=0)
    for size in ((200, 100), (100, 200), (50, 50), (200, 100)):
        placement = letterbox.fit(picture(*size))
        fresh = Letterbox(128, 128, CENTRED, margin_px=0)
        assert fresh.fit(picture(*size)) == placement
        np.testing.assert_array_equal(letterbox.tensor, fresh.tensor)


@pytest.mark.parametrize("form", [TOP_LEFT, CENTRED])
def test_boxes_find_their_way_back(form: InputFormat) -> None:
    placement = Letterbox(128, 128, form, margin_px=0).fit(picture(200, 100))
    left, top = placement.left_px, placement.top_px
    box = np.array([[left + 32, top + 16, left + 64, top + 32]], np.float32)
    np.testing.assert_allclose(placement.to_picture(box), [[50, 25, 100, 50]], atol=0.5)


def test_a_grid_of_another_size() -> None:
    square = recognise((1, 3549, 85), 416, 416)
    assert square is not None
    cut, same = square.at_size(416, 320), recognise((1, 2730, 85), 416, 320)
    output = np.random.default_rng(0).uniform(0, 1, (2730, 85)).astype(np.float32)
    one, other = cut.decode(output, 0.3), same.decode(output, 0.3) if same else None
    assert other is not None
    assert len(one.scores) > 100
    np.testing.assert_array_equal(one.boxes, other.boxes)


@pytest.mark.parametrize("shape", [(1, 84, 8400), (1, 300, 6)])
def test_other_heads_are_the_same_at_any_size(shape: tuple[int, ...]) -> None:
    head = recognise(shape, 640, 640)
    assert head is not None
    assert head.at_size(640, 480) is head
