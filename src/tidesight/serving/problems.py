"""Errors as HTTP answers: RFC 9457 problem details, with Retry-After where waiting helps."""

import math

import msgspec
from starlette.responses import Response

from tidesight.errors import TidesightError
from tidesight.serving.schemas import Problem


def problem_response(error: TidesightError, request_id: str | None = None) -> Response:
    """The answer to a request that failed with `error`."""
    problem = Problem(
        title=error.title,
        status=error.status,
        detail=error.detail,
        field=error.field or msgspec.UNSET,
        id=request_id or msgspec.UNSET,
    )
    headers = {}
    if error.retry_after_s is not None:
        headers["Retry-After"] = str(max(1, math.ceil(error.retry_after_s)))
    return Response(msgspec.json.encode(problem), error.status, headers, media_type="application/problem+json")
