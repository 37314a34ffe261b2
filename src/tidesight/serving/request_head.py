"""What a request's head says: whether its body can be read, how long its caller waits, what it prefers."""

import re
from collections.abc import Mapping

from tidesight.errors import InvalidOption, UnsupportedType
from tidesight.serving.bodies import media_type

_DEADLINE_HEADERS = ("x-envoy-expected-rq-timeout-ms", "x-request-timeout-ms")
# What a request's head and its answer are on the way: seen by the caller, not from here. Measured under overload.
_WAY_S, _WAY_SHARE = 0.015, 0.1


def check_head(headers: Mapping[str, str]) -> None:
    """Whether a body is announced that can be read at all.

    Raises:
        UnsupportedType: by its content type, or because it is compressed.
    """
    media_type(headers.get("content-type", ""))
    if headers.get("content-encoding", "identity").lower() != "identity":
        raise UnsupportedType("send the body as it is, without Content-Encoding", field="Content-Encoding")


def deadline_s(headers: Mapping[str, str], default_s: float) -> float:
    """Seconds in which to answer: what the caller waits, as its headers say, else the default, less the way.

    Raises:
        InvalidOption: not a whole number of milliseconds, at least 1.
    """
    given_s = _given_deadline_s(headers, default_s)
    return given_s - min(_WAY_S, given_s * _WAY_SHARE)


def _given_deadline_s(headers: Mapping[str, str], default_s: float) -> float:
    for name in _DEADLINE_HEADERS:
        if name in headers:
            if not re.fullmatch(r"[0-9]{1,9}", headers[name]) or int(headers[name]) == 0:
                raise InvalidOption("expected a whole number of milliseconds, at least 1", field=name)
            return int(headers[name]) / 1000
    return default_s


def prefers_picture(accept: str) -> bool:
    """Whether an Accept header ranks image/jpeg above JSON; `*/*` and no header mean JSON."""
    best = {"jpeg": 0.0, "json": 0.0}
    for item in accept.lower().split(","):
        kind, *parameters = (part.strip() for part in item.split(";"))
        quality = next((p[2:] for p in parameters if p.startswith("q=")), "1")
        weight = float(quality) if re.fullmatch(r"0(\.[0-9]{0,3})?|1(\.0{0,3})?", quality) else 0.0
        if kind in ("image/jpeg", "image/*"):
            best["jpeg"] = max(best["jpeg"], weight)
        elif kind in ("application/json", "application/*"):
            best["json"] = max(best["json"], weight)
    return best["jpeg"] > best["json"]
