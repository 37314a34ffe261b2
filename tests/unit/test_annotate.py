"""Drawing: legible and inside the picture at any size."""

import itertools

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tidesight.detection.annotate import annotate, class_colour, encode_jpeg
from tidesight.detection.detections import Detection, Detections
from tidesight.detection.image import Pixels
from tidesight.errors import TooLarge

GREY = 128


def grey(width_px: int, height_px: int) -> Pixels:
    return np.full((height_px, width_px, 3), GREY, np.uint8)


def one(box: tuple[float, float, float, float], label: str = "person", class_id: int = 0) -> list[Detection]:
    return [Detection(box, 0.87, class_id, label)]


def changed(pixels: Pixels) -> np.ndarray:
    """Where something was drawn on grey."""
    return np.argwhere((pixels != GREY).any(axis=2))


def extent_px(pixels: Pixels) -> tuple[int, int]:
    """Width and height of what was drawn."""
    rows, columns = changed(pixels).T
    return int(np.ptp(columns)) + 1, int(np.ptp(rows)) + 1


@pytest.mark.parametrize("size_px", [(1, 1), (1, 50), (50, 1), (17, 9), (320, 240), (1920, 1080), (4000, 3000)])
def test_any_size(size_px: tuple[int, int]) -> None:
    width, height = size_px
    drawn = annotate(grey(width, height), one((0, 0, width, height)))
    assert drawn.shape == (height, width, 3)
    assert drawn.dtype == np.uint8
    assert len(changed(drawn)) > 0


def test_the_picture_itself_is_not_touched() -> None:
    picture = grey(100, 80)
    picture.flags.writeable = False
    drawn = annotate(picture, one((10, 10, 60, 60)))
    assert not np.shares_memory(drawn, picture)
    assert (picture == GREY).all()


def test_nothing_found_draws_nothing() -> None:
    np.testing.assert_array_equal(annotate(grey(50, 40), []), grey(50, 40))


def test_the_box_is_drawn_where_it_is() -> None:
    drawn = annotate(grey(640, 480), one((100, 200, 300, 400)))
    colour = np.array(class_colour(0))
    for x, y in [(200, 400), (100, 300), (300, 300)]:  # the label covers a part of the upper edge
        assert np.abs(drawn[y, x].astype(int) - colour).max() <= 8
    assert (drawn[300, 200] == GREY).all()
    assert (drawn[100, 50] == GREY).all()


@pytest.mark.parametrize("size_px", [(320, 240), (1280, 960)])
def test_labels_stay_whole_at_every_corner(size_px: tuple[int, int]) -> None:
    width, height = size_px
    middle = (width / 2, height / 2, width / 2 + 1, height / 2 + 1)
    whole = extent_px(annotate(grey(width, height), one(middle)))
    for x, y in itertools.product((0, width / 2, width - 1), (0, height / 2, height - 1)):
        drawn = extent_px(annotate(grey(width, height), one((x, y, x + 1, y + 1))))
        # A box beside its label may lie within it; a pixel of line may fall outside the picture.
        line = max(1, round(min(width, height) / 240)) + 2
        assert drawn[0] >= whole[0] - 2 * line
        assert drawn[1] >= whole[1] - 2 * line


def test_a_label_stays_whole_in_a_picture_hardly_higher_than_it() -> None:
    whole = extent_px(annotate(grey(200, 20), one((50, 18, 51, 19))))
    beside = extent_px(annotate(grey(200, 20), one((50, 10, 51, 11))))
    assert beside[0] == whole[0]
    assert beside[1] >= 13


def test_text_and_lines_grow_with_the_picture() -> None:
    small = extent_px(annotate(grey(400, 300), one((200, 150, 201, 151))))
    large = extent_px(annotate(grey(4000, 3000), one((2000, 1500, 2001, 1501))))
    assert 6 <= large[1] / small[1] <= 12


def test_the_label_is_readable() -> None:
    drawn = annotate(grey(640, 480), one((200, 200, 400, 400), "zebra"))
    tag = drawn[170:200, 200:280].astype(int)
    ink = (np.abs(tag - 255).max(axis=2) < 30) | (tag.max(axis=2) < 30)
    assert ink.sum() > 50


@pytest.mark.parametrize("label", ["Fußgänger", "pieton éèê", "Пешеход", "行人", "", "x" * 300, "a\nb\tc", "🙂"])
def test_any_label(label: str) -> None:
    assert annotate(grey(200, 100), one((20, 30, 150, 90), label)).shape == (100, 200, 3)


def test_a_label_with_umlauts_has_ink_of_its_own() -> None:
    plain, umlaut = (annotate(grey(400, 300), one((50, 100, 300, 250), text)) for text in ("Bar", "Bär"))
    assert (plain != umlaut).any()


def test_the_best_is_drawn_last() -> None:
    box = (50.0, 50.0, 150.0, 150.0)
    found = [Detection(box, 0.9, 0, "a"), Detection(box, 0.5, 1, "b")]
    seen = annotate(grey(200, 200), found)[150, 100].astype(int)
    assert np.abs(seen - class_colour(0)).max() <= 30


def test_detections_are_drawn_as_their_items() -> None:
    detections = Detections(
        np.array([[10, 20, 60, 70]], np.float32), np.array([0.5], np.float32), np.array([1]), ("a", "b"), 100, 90
    )
    np.testing.assert_array_equal(annotate(grey(100, 90), detections), annotate(grey(100, 90), list(detections)))


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 200), st.integers(1, 200), st.lists(st.floats(0, 1), min_size=4, max_size=4))
def test_any_box_in_any_picture(width: int, height: int, corners: list[float]) -> None:
    x1, x2 = sorted(value * width for value in corners[:2])
    y1, y2 = sorted(value * height for value in corners[2:])
    assert annotate(grey(width, height), one((x1, y1, x2, y2))).shape == (height, width, 3)


def test_colours_are_stable() -> None:
    assert class_colour(0) == (31, 31, 204)
    assert [class_colour(i) for i in range(1000)] == [class_colour(i) for i in range(1000)]


def test_neighbours_differ() -> None:
    colours = np.array([class_colour(i) for i in range(200)])
    assert colours.min() >= 0
    assert colours.max() <= 255
    assert np.abs(np.diff(colours, axis=0)).max(axis=1).min() > 100


def test_eighty_classes_have_eighty_colours() -> None:
    assert len({class_colour(i) for i in range(80)}) == 80


@pytest.mark.parametrize("size_px", [(1, 1), (33, 17), (640, 480)])
def test_the_jpeg_decodes(size_px: tuple[int, int]) -> None:
    picture = grey(*size_px)
    data = encode_jpeg(picture)
    assert data[:3] == b"\xff\xd8\xff"
    decoded = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    assert decoded is not None
    assert decoded.shape == picture.shape
    assert np.abs(decoded.astype(int) - picture).max() <= 2


def test_quality_trades_bytes() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    assert len(encode_jpeg(noise, 30)) < len(encode_jpeg(noise, 95))


def test_a_side_that_no_jpeg_can_hold_is_too_large() -> None:
    with pytest.raises(TooLarge, match="no JPEG"):
        encode_jpeg(np.zeros((2, 70_000, 3), np.uint8))
