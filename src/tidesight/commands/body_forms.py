"""The forms in which a picture can be sent to `POST /v1/detect`."""

from collections.abc import Callable, Mapping
from urllib.parse import urlencode

import cv2
import msgspec
import pybase64

from tidesight.detection.image import Pixels

Body = tuple[bytes, str, str]
"""Body, content type, query (with its question mark, or empty)."""
Options = Mapping[str, object]

_BOUNDARY = "tidesight-form-boundary"


def _encoded(pixels: Pixels, suffix: str) -> bytes:
    return cv2.imencode(suffix, pixels)[1].tobytes()


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def raw(picture: bytes, content_type: str, options: Options) -> Body:
    """The picture's bytes as they are, options in the query."""
    query = urlencode({name: _text(value) for name, value in options.items()})
    return picture, content_type, f"?{query}" if query else ""


def multipart(picture: bytes, content_type: str, options: Options) -> Body:
    """An HTML form with the picture as its file."""
    parts = [
        f'--{_BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{_text(value)}\r\n'.encode()
        for name, value in options.items()
    ]
    head = (
        f'--{_BOUNDARY}\r\nContent-Disposition: form-data; name="image"; filename="picture.{content_type[6:]}"\r\n'
        f"Content-Type: {content_type}\r\n\r\n"
    )
    body = b"".join([*parts, head.encode(), picture, f"\r\n--{_BOUNDARY}--\r\n".encode()])
    return body, f"multipart/form-data; boundary={_BOUNDARY}", ""


def in_json(picture: bytes, content_type: str, options: Options) -> Body:
    """Base64 in a JSON object."""
    return msgspec.json.encode({"image": pybase64.b64encode(picture).decode(), **options}), "application/json", ""


def _data_uri(picture: bytes, content_type: str, options: Options) -> Body:
    image = f"data:{content_type};base64,{pybase64.b64encode(picture).decode()}"
    return msgspec.json.encode({"image": image, **options}), "application/json", ""


_Wrap = Callable[[bytes, str, Options], Body]


def _of_pixels(wrap: _Wrap, suffix: str, content_type: str) -> Callable[[Pixels, Options], Body]:
    return lambda pixels, options: wrap(_encoded(pixels, suffix), content_type, options)


FORMS: dict[str, Callable[[Pixels, Options], Body]] = {
    "raw JPEG": _of_pixels(raw, ".jpg", "image/jpeg"),
    "base64 in JSON": _of_pixels(in_json, ".jpg", "image/jpeg"),
    "multipart form": _of_pixels(multipart, ".jpg", "image/jpeg"),
    "raw PNG": _of_pixels(raw, ".png", "image/png"),
    "data: URI in JSON": _of_pixels(_data_uri, ".jpg", "image/jpeg"),
    "raw WebP": _of_pixels(raw, ".webp", "image/webp"),
}
BY_NAME: dict[str, _Wrap] = {"raw": raw, "json": in_json, "multipart": multipart}
"""The forms by the names that scenarios use; for pictures that are encoded already."""
