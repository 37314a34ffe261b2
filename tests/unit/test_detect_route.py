"""The pure parts of the detect route: which reply is preferred, how long there is, what the query says."""

import pytest
from starlette.datastructures import Headers
from starlette.requests import Request

from tidesight.errors import InvalidOption
from tidesight.serving.detect_route import _deadline_s, _query, prefers_picture


@pytest.mark.parametrize(
    ("accept", "picture"),
    [
        ("", False), ("*/*", False), ("application/json", False), ("text/html", False), ("image/png", False),
        ("image/jpeg", True), ("IMAGE/JPEG", True), ("image/*", True), ("image/jpeg, */*;q=0.1", True),
        ("image/jpeg, application/json", False), ("application/json;q=0.9, image/jpeg", True),
        ("image/jpeg;q=0.5, application/json;q=0.8", False), ("image/jpeg;q=0", False), ("image/jpeg; q=0.001", True),
        ("image/jpeg;q=nan", False), ("image/jpeg;q=9, application/json", False), ("image/jpeg;q=1.5, application/json", False),
        ("image/jpeg;q=-1", False), ("image/jpeg;q=", False), ("image/jpeg;level=1;q=0.4", True), (",,;;=,", False),
        ("application/*;q=0.2, image/*;q=0.3", True), ("text/html,image/webp,image/jpeg", True),
    ],
)  # fmt: skip
def test_accept_header_ranks_the_picture_against_json(accept: str, picture: bool) -> None:
    assert prefers_picture(accept) is picture


@pytest.mark.parametrize(
    ("headers", "deadline_s"),
    [
        ({}, 10.0),
        ({"X-Request-Timeout-Ms": "1500"}, 1.5),
        ({"X-Envoy-Expected-Rq-Timeout-Ms": "250"}, 0.25),
        ({"X-Envoy-Expected-Rq-Timeout-Ms": "250", "X-Request-Timeout-Ms": "1500"}, 0.25),
        ({"X-Request-Timeout-Ms": "999999999"}, 999999.999),
    ],
)
def test_the_deadline_is_the_header_s_or_the_default(headers: dict[str, str], deadline_s: float) -> None:
    assert _deadline_s(Headers(headers), 10.0) == deadline_s


@pytest.mark.parametrize("value", ["0", "-1", "1.5", "", " ", "1e3", "0x10", "²", "9999999999", "nan", "1\n"])
def test_a_deadline_that_is_no_number_of_milliseconds_is_named(value: str) -> None:
    with pytest.raises(InvalidOption) as refused:
        _deadline_s(Headers({"X-Request-Timeout-Ms": value}), 10.0)
    assert refused.value.field == "x-request-timeout-ms"


def query(text: bytes) -> Request:
    return Request({"type": "http", "query_string": text, "headers": []})


def test_an_option_given_twice_is_refused() -> None:
    assert _query(query(b"iou=0.5&classes=cat%2Cdog")) == {"iou": "0.5", "classes": "cat,dog"}
    with pytest.raises(InvalidOption) as refused:
        _query(query(b"classes=cat&iou=0.5&classes=dog"))
    assert refused.value.field == "classes"
