"""Bodies taken apart: what every form means, and what is refused with which field."""

import base64
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from time import process_time

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidesight.errors import BadImage, InputError, InvalidOption, UnsupportedType
from tidesight.serving.bodies import decode_base64, media_type, parameters_from_text, parse_body, read_multipart

PICTURE = bytes(range(256)) * 3
BASE64 = base64.b64encode(PICTURE)
JSON = "application/json"
FORM = "multipart/form-data; boundary=edge"


def as_json(**members: object) -> bytes:
    return json.dumps({"image": BASE64.decode(), **members}).encode()


def as_form(parts: Mapping[str, bytes], boundary: bytes = b"edge") -> bytes:
    head = b'--%b\r\nContent-Disposition: form-data; name="%b"\r\n\r\n%b\r\n'
    return b"".join(head % (boundary, name.encode(), value) for name, value in parts.items()) + b"--%b--\r\n" % boundary


def refusal(body: bytes, content_type: str, query: Mapping[str, str] | None = None) -> tuple[type, str | None]:
    with pytest.raises(InputError) as refused:
        parse_body(body, content_type, query or {})
    assert refused.value.detail
    return type(refused.value), refused.value.field


@pytest.mark.parametrize("kind", ["image/jpeg", "image/png", "image/webp", "IMAGE/JPEG", "image/jpeg; q=1"])
def test_a_raw_body_is_the_picture_itself(kind: str) -> None:
    parsed = parse_body(PICTURE, kind, {"confidence": "0.5"})
    assert parsed.image is PICTURE
    assert parsed.parameters.confidence == 0.5


@pytest.mark.parametrize(
    "kind", ["", "text/plain", "image/gif", "application/octet-stream", "image", "image/jpegx", ";"]
)
def test_other_media_types_are_refused_by_name(kind: str) -> None:
    with pytest.raises(UnsupportedType, match="image/jpeg, image/png, image/webp"):
        media_type(kind)


@pytest.mark.parametrize(
    "text",
    [
        BASE64,
        BASE64.rstrip(b"="),
        BASE64.translate(bytes.maketrans(b"+/", b"-_")),
        BASE64[:100] + b"  " + BASE64[100:],
        b"data:image/jpeg;base64," + BASE64,
        b"DATA:;BASE64," + BASE64,
        b"data:image/svg+xml;charset=utf-8;base64," + BASE64,
        b"data:image/jpeg;base64," + BASE64.rstrip(b"=").translate(bytes.maketrans(b"+/", b"-_")),
    ],
)
def test_every_spelling_of_base64_is_the_same_picture(text: bytes) -> None:
    assert parse_body(b'{"image": "%b"}' % text, JSON, {}).image == PICTURE


def test_base64_may_have_lines_and_json_escapes() -> None:
    wrapped = base64.encodebytes(PICTURE).decode()
    assert "\n" in wrapped
    assert parse_body(json.dumps({"image": wrapped}).encode(), JSON, {}).image == PICTURE
    assert parse_body(b'{"image": "%b"}' % BASE64.replace(b"/", b"\\/"), JSON, {}).image == PICTURE
    assert parse_body(b'{"image": "%b"}' % BASE64.replace(b"A", b"\\u0041"), JSON, {}).image == PICTURE


@pytest.mark.parametrize(
    "text",
    ["!", "a", "aGk*", "aGk=aGk=x", "é", "data:image/jpeg,abc", "data:image/jpeg;base64", "data:", "data:;base64,a%3D"],
)
def test_what_is_not_base64_is_a_bad_image(text: str) -> None:
    assert refusal(as_json(image=text), JSON) == (BadImage, "image")


@given(st.binary(max_size=200), st.booleans(), st.booleans())
def test_base64_round_trip(data: bytes, urlsafe: bool, padded: bool) -> None:
    text = (base64.urlsafe_b64encode if urlsafe else base64.b64encode)(data)
    assert decode_base64(b'"%b"' % (text if padded else text.rstrip(b"="))) == data


def test_all_options_in_json() -> None:
    parsed = parse_body(
        as_json(
            confidence=0.1, iou=1, max_detections=1000, classes=["cat", 1], annotate=True, store=True,
            id="a.B_9-", captured_at="2026-03-09T08:05:04.5+01:00",
        ),
        JSON,
        {},
    ).parameters  # fmt: skip
    assert (parsed.confidence, parsed.iou, parsed.max_detections) == (0.1, 1.0, 1000)
    assert (parsed.classes, parsed.annotate, parsed.store, parsed.id) == (["cat", 1], True, True, "a.B_9-")
    assert parsed.captured_at == datetime(2026, 3, 9, 7, 5, 4, 500_000, tzinfo=UTC)


def test_options_as_text_mean_the_same_as_in_json() -> None:
    text = {
        "confidence": "0.1", "iou": "1", "max_detections": "7", "classes": " cat , 1,", "annotate": "true",
        "store": "false", "id": "x", "captured_at": "2026-03-09T07:05:04Z",
    }  # fmt: skip
    parameters = parameters_from_text(text)
    members = {**text, "confidence": 0.1, "iou": 1, "max_detections": 7, "classes": ["cat", "1"], "annotate": True, "store": False}  # fmt: skip
    in_json = parse_body(as_json(**members), JSON, {}).parameters
    assert msgspec.structs.asdict(parameters).items() <= msgspec.structs.asdict(in_json).items()


@pytest.mark.parametrize(
    ("member", "value"),
    [
        ("confidence", "0.5"), ("confidence", -0.01), ("confidence", 1.01), ("confidence", None), ("confidence", True),
        ("confidence", [0.5]), ("iou", 2), ("iou", {}), ("max_detections", 0), ("max_detections", 1001),
        ("max_detections", 1.5), ("max_detections", 10**30), ("annotate", 1), ("annotate", "true"), ("store", None),
        ("id", ""), ("id", "a b"), ("id", "a/b"), ("id", "é"), ("id", "a" * 129), ("id", "a\n"), ("id", "\na"), ("id", 5),
        ("captured_at", "yesterday"), ("captured_at", "2026-03-09"), ("captured_at", "2026-03-09T07:05:04"),
        ("captured_at", 1773039904), ("classes", "cat"), ("classes", ["cat"] * 1001), ("colour", "red"), ("image", 5),
        ("image", None), ("image", ["a"]), ("image", {"a": 1}),
    ],
)  # fmt: skip
def test_a_wrong_member_is_named(member: str, value: object) -> None:
    assert refusal(as_json(**{member: value}), JSON) == (InvalidOption, member)


def test_a_wrong_class_is_named_with_its_place() -> None:
    assert refusal(as_json(classes=["cat", 1.5]), JSON) == (InvalidOption, "classes[1]")


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("confidence", "nan"), ("confidence", "-nan"), ("iou", "NaN"), ("confidence", "inf"), ("iou", "-inf"),
        ("confidence", ""), ("confidence", "0,5"), ("confidence", "1e999"), ("confidence", "9" * 5000),
        ("max_detections", "1.5"), ("max_detections", "1_0"), ("max_detections", "5.0"), ("max_detections", "null"), ("annotate", "yes"), ("annotate", ""), ("annotate", "1"), ("store", "True"), ("confidence", "[" * 100_000), ("confidence", "{}"), ("confidence", '"0.5"'), ("id", "a\n"), ("id", ""),
        ("captured_at", "2026-03-09T07:05:04"), ("captured_at", "1773039904"), ("captured_at", "null"),
        ("captured_at", "1e300"), ("image", "aGk="), ("colour", "red"),
    ],
)  # fmt: skip
def test_a_wrong_text_option_is_named(option: str, value: str) -> None:
    assert refusal(PICTURE, "image/jpeg", {option: value}) == (InvalidOption, option)
    if option != "image":
        form = as_form({"image": PICTURE, option: value.encode()})
        assert refusal(form, FORM) == (InvalidOption, option)


@pytest.mark.parametrize(
    "body",
    [
        b"", b" ", b"{", b"[]", b"null", b'"image"', b"5", b"NaN", b'{"image": "aGk="} x', b"{'image': 'aGk='}",
        b'\xef\xbb\xbf{"image": "aGk="}', b'{"image": "aGk=", "id": "\\ud800"}', b'{"image": "\\ud800"}',
        b'{"image": "aGk=", "confidence": NaN}', b'{"image": ' + b"[" * 100_000, b"[" * 100_000,
        b'{"image": ' + b'{"a":' * 50_000 + b"1" + b"}" * 50_000 + b"}", b'{"image": "aGk=", "id": "\xff"}', b"\0" * 100,
    ],
)  # fmt: skip
def test_what_is_not_a_json_object_is_refused(body: bytes) -> None:
    kind, field = refusal(body, JSON)
    assert issubclass(kind, InputError)
    assert kind is not BadImage
    assert field is None or field == "image"


def test_unusual_but_correct_json_is_understood() -> None:
    assert parse_body(b" " * 10_000_000 + as_json(), JSON, {}).image == PICTURE
    assert parse_body(b'{"image": "' + b" " * 10_000_000 + BASE64 + b'"}', JSON, {}).image == PICTURE
    twice = parse_body(b'{"iou": 0.1, "image": "!", "image": "aGk=", "iou": 0.2}', JSON, {})
    assert (twice.image, twice.parameters.iou) == (b"hi", 0.2)  # the last one counts, as in nearly every parser


@pytest.mark.parametrize("name", ["a`b", "\0", "é", "x" * 1000, "", " ", "$", "`"])
def test_an_unknown_member_is_named_in_at_most_80_characters(name: str) -> None:
    kind, field = refusal(as_json(**{name: 1}), JSON)
    assert kind is InvalidOption
    assert field == (name[:80] or None)


def test_json_options_do_not_go_into_the_query() -> None:
    assert refusal(as_json(), JSON, {"iou": "0.5"}) == (InvalidOption, "iou")


def test_form_fields_win_over_the_query() -> None:
    parsed = parse_body(as_form({"image": PICTURE, "iou": b"0.1"}), FORM, {"iou": "0.9", "confidence": "0.4"})
    assert parsed.image == PICTURE
    assert (parsed.parameters.iou, parsed.parameters.confidence) == (0.1, 0.4)


def test_a_form_as_browsers_send_it() -> None:
    head = b'--edge\r\nContent-Disposition: form-data; name="image"; filename="a;\\"b.jpg"\r\nContent-Type: image/jpeg\r\n\r\n'
    body = b"preamble\r\n" + head + PICTURE + b"\r\n--edge--\r\nepilogue"
    assert read_multipart(body.removeprefix(b"preamble\r\n"), 'multipart/form-data; boundary="edge"') == {
        "image": PICTURE
    }


def test_a_picture_that_holds_the_boundary_s_beginning_is_whole() -> None:
    tricky = b"\r\n--edg\r\n--e--\r--edge\r\n-\r" + PICTURE + b"\r\n--edg"
    assert read_multipart(as_form({"image": tricky}), FORM)["image"] == tricky


@pytest.mark.parametrize(
    ("body", "content_type", "field"),
    [
        (as_form({"image": b"x"}), "multipart/form-data", None),
        (as_form({"image": b"x"}), "multipart/form-data; boundary=", None),
        (as_form({"image": b"x"}), "multipart/form-data; boundary=" + "b" * 300, None),
        (as_form({"image": b"x"}), "multipart/form-data; boundary=other", None),
        (as_form({"image": b"x"})[:-8], FORM, None),
        (b"", FORM, None),
        (b"--edge--\r\n", FORM, "image"),
        (as_form({}), FORM, "image"),
        (as_form({"picture": b"x"}), FORM, "image"),
        (as_form({"image": b"x"})[:-10] + as_form({"image": b"x"}), FORM, "image"),
        (b"--edge\r\nContent-Disposition: form-data\r\n\r\nx\r\n--edge--\r\n", FORM, "image"),
        (as_form({"image": b"x", "id": b"\xff"}), FORM, "id"),
        (as_form({"image": b"x", "id": b"a" * 5000}), FORM, "id"),
        (as_form({f"part{n}": b"" for n in range(10_000)}), FORM, None),
        (b"--edge\r\nX: " + b"a" * 1_000_000 + b"\r\n\r\nx\r\n--edge--\r\n", FORM, None),
        (b"--edge\r\n" + b"X: a\r\n" * 100_000 + b"\r\nx\r\n--edge--\r\n", FORM, None),
        (b"--edge\r\nContent-Disposition: form-data; name=" + b";" * 4000 + b"\r\n\r\nx\r\n--edge--\r\n", FORM, None),
    ],
)  # fmt: skip
def test_a_broken_form_is_refused(body: bytes, content_type: str, field: str | None) -> None:
    started = process_time()
    kind, named = refusal(body, content_type)
    assert process_time() - started < 1
    assert kind in (InputError, InvalidOption)
    if field is not None:
        assert named == field


def test_a_wrong_option_in_the_query_is_an_error_though_the_form_has_a_right_one() -> None:
    form = as_form({"image": b"x", "annotate": b"false"})
    assert parse_body(form, FORM, {"annotate": "true"}).parameters.annotate is False
    with pytest.raises(InvalidOption) as caught:
        parse_body(form, FORM, {"annotate": "perhaps"})
    assert caught.value.field == "annotate"
