"""Errors as HTTP answers: RFC 9457 problem details, with Retry-After where waiting helps."""

import logging
import math

import msgspec
from starlette.responses import Response

from tidesight.errors import TidesightError, Unauthorized
from tidesight.serving.schemas import Problem

log = logging.getLogger(__name__)


def problem_response(error: TidesightError, request_id: str | None = None) -> Response:
    """The answer to a request that failed with `error`; what callers are not told goes into the log."""
    if error.caller_detail is not None:
        log.warning("%s: %s", error.title, error.detail)
    problem = Problem(
        title=error.title,
        status=error.status,
        detail=error.caller_detail or error.detail,
        field=error.field or msgspec.UNSET,
        id=request_id or msgspec.UNSET,
    )
    headers = {"WWW-Authenticate": 'Bearer realm="tidesight"'} if isinstance(error, Unauthorized) else {}
    if error.retry_after_s is not None:
        headers["Retry-After"] = str(max(1, math.ceil(error.retry_after_s)))
    return Response(msgspec.json.encode(problem), error.status, headers, media_type="application/problem+json")
