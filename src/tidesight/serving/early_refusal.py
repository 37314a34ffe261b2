"""Answers from a request's head alone, without the framework: under an overload most requests end here.

What a refusal costs is lacking for the pictures, and through the framework it costs about twice as much CPU time.
"""

import math

import msgspec

from tidesight import telemetry as metrics
from tidesight.errors import InputError, Overloaded, Refused
from tidesight.serving.instance import Instance, State
from tidesight.serving.request_head import check_head, deadline_s
from tidesight.serving.schemas import Problem, usable_id

Head = list[tuple[bytes, bytes]]
"""Names in lower case and values."""

_ANSWER = (
    "content-type: application/problem+json\r\ncontent-length: {length}\r\nx-content-type-options: nosniff\r\n"
    "retry-after: {retry_after_s}\r\nx-request-id: {request_id}\r\nx-tidesight-instance: {instance}\r\n\r\n"
)


def early_refusal(instance: Instance, head: Head) -> bytes | None:
    """The answer to a detect request that would miss its deadline, counted: what follows a status line of 429.

    None when the request is for the route: it is let in, or there is more wrong with it than the time.
    """
    if instance.state is not State.READY or not instance.api_keys.allows(head):
        return None
    headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in reversed(head)}  # the first counts
    try:
        check_head(headers)
        instance.ready.admission.check(deadline_s(headers, instance.limits.deadline_s))
    except InputError:
        return None
    except Overloaded as error:
        instance.telemetry.count(metrics.REFUSED, error.reason)
        instance.telemetry.count(metrics.REQUESTS, "429")
        instance.recorder.refused(429)
        return _rest_of(instance, error, headers.get("x-request-id", ""))
    return None


def no_more_connections(instance: Instance, head: Head) -> bytes:
    """The answer on a connection beyond the limit, counted: what follows a status line of 503."""
    instance.telemetry.count(metrics.REFUSED, "connections")
    instance.telemetry.count(metrics.REQUESTS, "503")
    instance.recorder.refused(503)
    request_id = dict(head).get(b"x-request-id", b"").decode("latin-1")
    limit = instance.limits.max_connections
    error = Refused(f"there are {limit} connections, the most there may be; retry later", retry_after_s=1.0)
    return _rest_of(instance, error, request_id)


def _rest_of(instance: Instance, error: Refused, request_id: str) -> bytes:
    request_id = usable_id(request_id)
    body = msgspec.json.encode(Problem(title=error.title, status=error.status, detail=error.detail, id=request_id))
    retry_after_s = max(1, math.ceil(error.retry_after_s or 1))
    named = {"request_id": request_id, "instance": instance.name}
    return _ANSWER.format(length=len(body), retry_after_s=retry_after_s, **named).encode() + body
