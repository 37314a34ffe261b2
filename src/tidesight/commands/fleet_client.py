"""Asking a running fleet, over its page's address."""

import json
from typing import TYPE_CHECKING
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

from tidesight.errors import ConfigError, DataError

if TYPE_CHECKING:
    from tidesight.fleet.state import FleetState

_LIMIT_S = 5.0


def ask(fleet: "FleetState", path: str, body: bytes | None = None, limit_s: float = _LIMIT_S) -> bytes:
    """GET, or POST with a body.

    Args:
        fleet: Which.
        path: Of its page's address.
        body: What to post; None asks.
        limit_s: For the answer.

    Raises:
        ConfigError: the fleet refuses.
        DataError: it does not answer, or cannot do it.
    """
    headers = {"X-Tidesight-Token": fleet.token, "Content-Type": "application/json"}
    try:
        with urlopen(Request(fleet.page + path, body, headers), timeout=limit_s) as answer:  # noqa: S310 - our own http
            told: bytes = answer.read()
    except HTTPError as error:
        kind = ConfigError if error.code < 500 else DataError
        with error:
            raise kind(_detail(error.read()) or str(error)) from None
    except (URLError, OSError) as error:
        raise DataError(f"the fleet at {fleet.page} does not answer: {error}") from None
    return told


def _detail(problem: bytes) -> str:
    try:
        return str(json.loads(problem)["detail"])
    except (ValueError, KeyError, TypeError):
        return ""
