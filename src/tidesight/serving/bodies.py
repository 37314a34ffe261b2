"""Take a request's body apart: raw, multipart or base64 JSON -> picture bytes and options."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import msgspec
import pybase64

from tidesight.errors import BadImage, InputError, InvalidOption, UnsupportedType
from tidesight.serving.schemas import REQUEST_ID, DetectParameters, DetectRequest

if TYPE_CHECKING:
    from python_multipart.multipart import MultipartCallbacks

RAW_TYPES = ("image/jpeg", "image/png", "image/webp")
ACCEPTED = (*RAW_TYPES, "multipart/form-data", "application/json")
_JSON = msgspec.json.Decoder(DetectRequest)
_TO_STANDARD = bytes.maketrans(b"-_", b"+/")
_WHITESPACE = b" \t\r\n"
_MAX_FIELD_BYTES = 4096


@dataclass(frozen=True)
class ParsedBody:
    """A picture, still encoded, and what is asked of it."""

    image: bytes
    parameters: DetectParameters


def parse_body(body: bytes, content_type: str, query: Mapping[str, str]) -> ParsedBody:
    """Take a body apart by its content type.

    Args:
        body: The whole body.
        content_type: The header's value, parameters included.
        query: The query parameters; options in the body win over them.

    Raises:
        UnsupportedType, InvalidOption, BadImage, InputError: see `docs/guides/http-api.md`.
    """
    kind = media_type(content_type)
    if kind in RAW_TYPES:
        return ParsedBody(body, parameters_from_text(query))
    if kind == "application/json":
        return _from_json(body, query)
    return _from_multipart(body, content_type, query)


def media_type(content_type: str) -> str:
    """The accepted media type a header names, in lower case.

    Raises:
        UnsupportedType: it is not one of `ACCEPTED`.
    """
    kind = content_type.partition(";")[0].strip().lower()
    if kind not in ACCEPTED:
        raise UnsupportedType(f"content type {kind[:80] or '(none)'!r}; send one of {', '.join(ACCEPTED)}")
    return kind


def parameters_from_text(options: Mapping[str, str]) -> DetectParameters:
    """Options from a query string or form fields: numbers and booleans as in JSON, `classes` comma-separated.

    Raises:
        InvalidOption: an unknown option, or a value of the wrong type or outside its range.
    """
    values: dict[str, object] = {
        name: text if name in ("id", "captured_at") else _scalar(text) for name, text in options.items()
    }
    if "classes" in options:
        values["classes"] = [part.strip() for part in options["classes"].split(",") if part.strip()]
    return _checked(lambda: msgspec.convert(values, DetectParameters))


def _scalar(text: str) -> object:
    try:
        return msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError):
        return text  # which is of the wrong type, and will be refused as such


def _from_json(body: bytes, query: Mapping[str, str]) -> ParsedBody:
    if query:
        name = next(iter(query))
        raise InvalidOption("with a JSON body, options go into the body, not the query", field=name[:80])
    request = _checked(lambda: _JSON.decode(body))
    image = decode_base64(bytes(request.image))
    request.image = msgspec.Raw()  # the options live on until the answer; the body they came in must not
    return ParsedBody(image, request)


def _from_multipart(body: bytes, content_type: str, query: Mapping[str, str]) -> ParsedBody:
    fields = read_multipart(body, content_type)
    image = fields.pop("image", None)
    if image is None:
        raise InvalidOption("the form has no part named image", field="image")
    texts = {name: _field_text(name, value) for name, value in fields.items()}
    parameters_from_text(query)  # a wrong option is an error even where the form has a better one
    return ParsedBody(image, parameters_from_text({**query, **texts}))


def _field_text(name: str, value: bytes) -> str:
    if len(value) > _MAX_FIELD_BYTES:
        raise InvalidOption(f"a form field has at most {_MAX_FIELD_BYTES} bytes", field=name[:80])
    try:
        return value.decode()
    except UnicodeDecodeError:
        raise InvalidOption("not UTF-8 text", field=name[:80]) from None


def read_multipart(body: bytes, content_type: str) -> dict[str, bytes]:
    """Parts of a multipart/form-data body by name.

    Raises:
        InputError: no boundary, or not a well-formed multipart body.
        InvalidOption: two parts of one name, or more than 32 parts.
    """
    from python_multipart.exceptions import FormParserError
    from python_multipart.multipart import MultipartParser, parse_options_header

    boundary = parse_options_header(content_type)[1].get(b"boundary")
    if not boundary:
        raise InputError("multipart/form-data without a boundary")
    parts = _Parts()
    try:
        parser = MultipartParser(boundary, parts.callbacks())
        parser.write(body)
        parser.finalize()
    except FormParserError as error:
        raise InputError(f"malformed multipart body: {error}") from None
    if not parts.complete:
        raise InputError("the multipart body ends before its closing boundary")
    return parts.by_name


_Checked = TypeVar("_Checked", bound=DetectParameters)


def _checked(make: Callable[[], _Checked]) -> _Checked:
    """Turn what msgspec objects to into an error that names the field."""
    try:
        parameters = make()
    except msgspec.ValidationError as error:
        message, _, path = str(error).partition(" - at `$")
        named = re.search(r"(?:unknown|missing required) field `(.*)`", message)
        name = named[1] if named else path.strip("`.")
        raise InvalidOption(message[:200], field=name[:80] or None) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InputError(f"the body is not valid JSON: {str(error)[:200]}") from None
    # The schema's pattern ends in $, which to Python is also the place before a last line feed.
    if parameters.id is not None and not REQUEST_ID.fullmatch(parameters.id):
        raise InvalidOption("expected 1 to 128 letters, digits, '.', '_' or '-'", field="id")
    return parameters


def decode_base64(raw_json: bytes) -> bytes:
    """The bytes of a JSON string of base64: plain or URL-safe, padded or not, with whitespace, or a data: URI.

    Args:
        raw_json: The value as it stands in the body, quotes included.

    Raises:
        InvalidOption: not a string.
        BadImage: not base64.
    """
    if not raw_json.startswith(b'"'):
        raise InvalidOption("expected a string of base64", field="image")
    text = raw_json[1:-1]
    if b"\\" in text:  # escapes, such as the \/ some encoders write
        text = msgspec.json.decode(raw_json, type=str).encode()
    if text[:5].lower() == b"data:":
        header, comma, text = text.partition(b",")
        if not comma or not header.lower().endswith(b";base64"):
            raise BadImage("the data: URI holds no base64", field="image")
    try:
        return pybase64.b64decode(text, validate=True)  # the fast path: clean, padded, standard alphabet
    except ValueError:
        return _decode_odd_base64(text)


def _decode_odd_base64(text: bytes) -> bytes:
    text = text.translate(_TO_STANDARD, delete=_WHITESPACE).rstrip(b"=")
    try:
        return pybase64.b64decode(text + b"=" * (-len(text) % 4), validate=True)
    except ValueError:
        raise BadImage("the image is not valid base64", field="image") from None


class _Parts:
    """Collects the parts a multipart parser reports."""

    _MOST = 32

    def __init__(self) -> None:
        self.by_name: dict[str, bytes] = {}
        self.complete = False
        self._header = bytearray()
        self._value = bytearray()
        self._name = ""
        self._data = bytearray()

    def callbacks(self) -> "MultipartCallbacks":
        """What the parser calls."""
        return {
            "on_part_begin": self._begin,
            "on_part_data": lambda data, start, end: self._data.extend(memoryview(data)[start:end]),
            "on_part_end": self._end,
            "on_header_field": lambda data, start, end: self._header.extend(data[start:end]),
            "on_header_value": lambda data, start, end: self._value.extend(data[start:end]),
            "on_header_end": self._header_end,
            "on_end": self._finish,
        }

    def _begin(self) -> None:
        self._name, self._data = "", bytearray()

    def _header_end(self) -> None:
        from python_multipart.multipart import parse_options_header

        if self._header.lower() == b"content-disposition":
            self._name = parse_options_header(bytes(self._value))[1].get(b"name", b"").decode(errors="replace")
        self._header, self._value = bytearray(), bytearray()

    def _end(self) -> None:
        if self._name in self.by_name:
            raise InvalidOption("the form has two parts of this name", field=self._name[:80])
        if len(self.by_name) >= self._MOST:
            raise InvalidOption(f"the form has more than {self._MOST} parts")
        self.by_name[self._name] = bytes(self._data)

    def _finish(self) -> None:
        self.complete = True
