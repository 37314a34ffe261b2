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


def _raw(suffix: str, content_type: str) -> Callable[[Pixels, Options], Body]:
    def form(pixels: Pixels, options: Options) -> Body:
        query = urlencode({name: _text(value) for name, value in options.items()})
        return _encoded(pixels, suffix), content_type, f"?{query}" if query else ""

    return form


def _multipart(pixels: Pixels, options: Options) -> Body:
    parts = [
        f'--{_BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{_text(value)}\r\n'.encode()
        for name, value in options.items()
    ]
    head = (
        f'--{_BOUNDARY}\r\nContent-Disposition: form-data; name="image"; filename="picture.jpg"\r\n'
        "Content-Type: image/jpeg\r\n\r\n"
    )
    body = b"".join([*parts, head.encode(), _encoded(pixels, ".jpg"), f"\r\n--{_BOUNDARY}--\r\n".encode()])
    return body, f"multipart/form-data; boundary={_BOUNDARY}", ""


def _json(prefix: str) -> Callable[[Pixels, Options], Body]:
    def form(pixels: Pixels, options: Options) -> Body:
        image = prefix + pybase64.b64encode(_encoded(pixels, ".jpg")).decode()
        return msgspec.json.encode({"image": image, **options}), "application/json", ""

    return form


FORMS: dict[str, Callable[[Pixels, Options], Body]] = {
    "raw JPEG": _raw(".jpg", "image/jpeg"),
    "base64 in JSON": _json(""),
    "multipart form": _multipart,
    "raw PNG": _raw(".png", "image/png"),
    "data: URI in JSON": _json("data:image/jpeg;base64,"),
    "raw WebP": _raw(".webp", "image/webp"),
}
