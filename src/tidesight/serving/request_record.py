"""What is kept of each detection request beside its metrics: a line in the log, and spans where traces are wanted."""

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Mapping
from contextvars import Context
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from starlette.requests import Request
from starlette.responses import Response

from tidesight.errors import ConfigError
from tidesight.logs import fields, request_fields
from tidesight.serving.tracing import TraceContext, caller_s_trace, new_trace

log = logging.getLogger("tidesight.access")
ACCESS_LOGS = ("all", "errors", "off")
# Answers that cost next to nothing, so that there can be thousands a second: overloaded; starting or draining.
_REFUSED = (429, 503)
_SUMMARY_S = 1.0


@dataclass(slots=True)
class RequestRecord:
    """One request, as far as it is known.

    Attributes:
        request_id: Its id, by its headers or made up.
        trace: Its place in a trace.
        traceparent: To be passed on with what is done for it, or None for a trace that nobody knows of.
        started_s: `perf_counter` time at which it began.
        started_unix_ns: The same in wall-clock nanoseconds.
        span: What the tracer made for it, where there is a tracer.
        timings_s: Seconds by stage, once it is answered.
        detail: What was wrong with it.
    """

    request_id: str
    trace: TraceContext
    traceparent: str | None
    started_s: float
    started_unix_ns: int
    span: object = None
    timings_s: Mapping[str, float] = field(default_factory=dict)
    detail: str | None = None


class Answer(NamedTuple):
    """How a request ended.

    Attributes:
        method: Of the request.
        path: Of the request, without the query.
        status: The HTTP status.
        duration_s: From the request's head to the answer.
        received_bytes: The body's by its Content-Length, or None where there is none.
        sent_bytes: The answer's.
    """

    method: str
    path: str
    status: int
    duration_s: float
    received_bytes: int | None
    sent_bytes: int


class Tracer(Protocol):
    """Makes spans."""

    def begin(self, caller: TraceContext | None, started_unix_ns: int) -> tuple[TraceContext, object]:
        """Begin a request's span: its place in the trace, and the span."""
        ...

    def end(self, record: RequestRecord, answer: Answer) -> None:
        """End it, with a span in it for each stage."""
        ...

    def close(self, limit_s: float) -> None:
        """Send what waits, within a time."""
        ...


class Recorder:
    """Begins and ends the records of an instance's requests; owned by the event loop.

    Args:
        access_log: A line for "all" answers, for "errors" (400 and up), or "off". Refusals (429, 503) get no line each,
            but one for all of them in a second.

    Attributes:
        tracer: Makes spans, or None.

    Raises:
        ConfigError: `access_log` is something else.
    """

    def __init__(self, access_log: str = "off") -> None:
        if access_log not in ACCESS_LOGS:
            detail = f"access_log: expected one of {', '.join(ACCESS_LOGS)}, got {access_log!r}"
            raise ConfigError(detail, field="access_log")
        self.tracer: Tracer | None = None
        self._least_status = {"all": 0, "errors": 400, "off": 1000}[access_log]
        self._refused: Counter[int] = Counter()

    def begin(self, request: Request, request_id: str, started_s: float) -> RequestRecord:
        """A request has come; what is logged on its behalf from now on says so.

        Args:
            request: The request.
            request_id: Its id.
            started_s: `perf_counter` time.
        """
        caller, now_ns, span = caller_s_trace(request.headers), time.time_ns(), None
        if self.tracer:
            trace, span = self.tracer.begin(caller, now_ns)
        else:
            trace = caller or new_trace()
        request_fields.set({"request_id": request_id, "trace_id": trace.trace_id, "span_id": trace.span_id})
        known = trace.traceparent if caller or self.tracer else None
        return RequestRecord(request_id, trace, known, started_s, now_ns, span)

    def end(self, record: RequestRecord, request: Request, response: Response) -> None:
        """A request is answered; the rest happens once the answer is on its way."""
        if record.span is None and response.status_code < self._least_status:
            return
        length = request.headers.get("content-length", "")
        answer = Answer(
            request.method,
            request.scope["path"],
            response.status_code,
            time.perf_counter() - record.started_s,
            int(length) if length.isdecimal() and len(length) < 20 else None,
            len(response.body),
        )
        asyncio.get_running_loop().call_soon(self._finish, record, answer)

    def _finish(self, record: RequestRecord, answer: Answer) -> None:
        if self.tracer and record.span:
            self.tracer.end(record, answer)
        if answer.status in _REFUSED:
            self.refused(answer.status)
            return
        if answer.status < self._least_status:
            return
        extra = fields(
            method=answer.method,
            path=answer.path,
            status=answer.status,
            duration_ms=round(answer.duration_s * 1000, 2),
            received_bytes=answer.received_bytes,
            sent_bytes=answer.sent_bytes,
            detail=record.detail,
        )
        log.info("answered", extra=extra)

    def refused(self, status: int) -> None:
        """Count a request that was answered with as little work as can be."""
        if status < self._least_status:
            return
        if not self._refused:
            # In a context of its own: the line is about many requests, not about the first of them.
            asyncio.get_running_loop().call_later(_SUMMARY_S, self._summarise, context=Context())
        self._refused[status] += 1

    def _summarise(self) -> None:
        if self._refused:
            told = ", ".join(f"{count} with {status}" for status, count in sorted(self._refused.items()))
            by_status = {f"refused_{status}": count for status, count in self._refused.items()}
            log.warning("refused %s within %g s", told, _SUMMARY_S, extra=fields(**by_status))
            self._refused.clear()

    def close(self, limit_s: float) -> None:
        """Say and send what has not been, within a time."""
        self._summarise()
        if self.tracer:
            self.tracer.close(limit_s)
