"""OpenTelemetry spans of requests, from the times that are measured anyway; sent by OTLP over HTTP behind the requests.

The SDK reads its standard variables itself: OTEL_EXPORTER_OTLP_ENDPOINT and _HEADERS, OTEL_SERVICE_NAME,
OTEL_TRACES_SAMPLER (by default what the caller's `traceparent` says, else everything), OTEL_BSP_MAX_QUEUE_SIZE ...
"""

import threading
from collections.abc import Mapping
from typing import TYPE_CHECKING

from tidesight import __version__
from tidesight.errors import MissingExtra
from tidesight.serving.request_record import Answer, RequestRecord
from tidesight.serving.tracing import TraceContext

try:
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import SERVICE_NAME, Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor
    from opentelemetry.trace import (
        NonRecordingSpan,
        Span,
        SpanContext,
        SpanKind,
        StatusCode,
        TraceFlags,
        TraceState,
        set_span_in_context,
    )
except ModuleNotFoundError as error:
    raise MissingExtra("opentelemetry-exporter-otlp-proto-http", "otel") from error

if TYPE_CHECKING:
    from opentelemetry.context import Context

# In the order in which they happen; what follows here is laid end to end, for only lengths are measured.
_STAGES = ("body", "queue", "parse", "decode", "preprocess", "inference", "postprocess", "annotate", "store")
_NAME = "POST /v1/detect"


class OtlpTracer:
    """A span for each request with one in it for each stage.

    Ended spans wait in a queue of bounded length; what does not fit, or cannot be sent, is lost, and no request waits.
    """

    def __init__(self) -> None:
        self._provider = TracerProvider(resource=_resource(), shutdown_on_exit=False)
        self._provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        self._tracer = self._provider.get_tracer("tidesight", __version__)

    def begin(self, caller: TraceContext | None, started_unix_ns: int) -> tuple[TraceContext, Span]:
        """Begin a request's span, under the caller's where there is one."""
        parent = _context(caller) if caller else None
        span = self._tracer.start_span(_NAME, parent, SpanKind.SERVER, start_time=started_unix_ns)
        made = span.get_span_context()
        state = made.trace_state.to_header()
        sampled = made.trace_flags.sampled
        return TraceContext(f"{made.trace_id:032x}", f"{made.span_id:016x}", sampled, state), span

    def end(self, record: RequestRecord, answer: Answer) -> None:
        """End a request's span; a caller that asked for no record gets none."""
        span = record.span
        if not isinstance(span, Span) or not span.is_recording():
            return
        within = set_span_in_context(span)
        at_ns = record.started_unix_ns
        for stage in _in_order(record.timings_s):
            child = self._tracer.start_span(stage, within, start_time=at_ns)
            at_ns += round(record.timings_s[stage] * 1e9)
            child.end(at_ns)
        span.set_attributes(
            {
                "http.request.method": answer.method,
                "http.route": answer.path,
                "url.path": answer.path,
                "http.response.status_code": answer.status,
                "http.response.body.size": answer.sent_bytes,
                "tidesight.request_id": record.request_id,
            }
        )
        if answer.received_bytes is not None:
            span.set_attribute("http.request.body.size", answer.received_bytes)
        if answer.status >= 500:  # a caller's own mistake is no error of the server
            span.set_status(StatusCode.ERROR)
        span.end(record.started_unix_ns + round(answer.duration_s * 1e9))

    def close(self, limit_s: float) -> None:
        """Send what waits; what is not sent within the time is lost."""
        # The SDK's own end may take its whole export time-out; a process that is told to leave has less.
        ending = threading.Thread(target=self._provider.shutdown, name="spans-end", daemon=True)
        ending.start()
        ending.join(limit_s)


def _in_order(stages: Mapping[str, float]) -> list[str]:
    return [stage for stage in _STAGES if stage in stages]


def _context(caller: TraceContext) -> "Context":
    flags = TraceFlags(TraceFlags.SAMPLED if caller.sampled else TraceFlags.DEFAULT)
    state = TraceState.from_header([caller.state]) if caller.state else None
    remote = SpanContext(int(caller.trace_id, 16), int(caller.span_id, 16), True, flags, state)
    return set_span_in_context(NonRecordingSpan(remote))


def _resource() -> Resource:
    """What the spans come from; a name in OTEL_SERVICE_NAME or OTEL_RESOURCE_ATTRIBUTES wins over ours."""
    found = Resource.create({"service.version": __version__})
    unnamed = str(found.attributes[SERVICE_NAME]).startswith("unknown_service")
    return found.merge(Resource({SERVICE_NAME: "tidesight"})) if unnamed else found
