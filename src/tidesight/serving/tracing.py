"""Which trace a request belongs to: W3C Trace Context, level 1 (https://www.w3.org/TR/trace-context-1/)."""

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

_TRACEPARENT = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
_NO_TRACE, _NO_SPAN = "0" * 32, "0" * 16
_SAMPLED = 0x01
_KEY = r"[a-z][a-z0-9_*/-]{0,255}|[a-z0-9][a-z0-9_*/-]{0,240}@[a-z][a-z0-9_*/-]{0,13}"
_MEMBER = re.compile(rf"({_KEY})=[\x20-\x2b\x2d-\x3c\x3e-\x7e]{{0,255}}[\x21-\x2b\x2d-\x3c\x3e-\x7e]")
_MAX_MEMBERS = 32


class HeaderLines(Protocol):
    """Request headers, of which one name may come in several lines."""

    def getlist(self, key: str) -> list[str]:
        """All values of a name."""
        ...


@dataclass(frozen=True, slots=True)
class TraceContext:
    """A place in a trace.

    Attributes:
        trace_id: 32 lower-case hexadecimal digits, not all zero.
        span_id: 16 of them: the span that what follows belongs to.
        sampled: Whoever began the trace records it.
        state: `tracestate`: what other tracing systems want passed on; "" for nothing.
    """

    trace_id: str
    span_id: str
    sampled: bool = False
    state: str = ""

    @property
    def traceparent(self) -> str:
        """The header for calls that are made on behalf of this place."""
        return f"00-{self.trace_id}-{self.span_id}-{self.sampled:02x}"


def caller_s_trace(headers: HeaderLines) -> TraceContext | None:
    """The caller's place in a trace, or None where the caller named none, or none that can be understood."""
    lines = headers.getlist("traceparent")
    if len(lines) != 1:
        return None
    found = parse_traceparent(lines[0])
    if found is None or not (state := parse_tracestate(headers.getlist("tracestate"))):
        return found
    return TraceContext(found.trace_id, found.span_id, found.sampled, state)


def parse_traceparent(text: str) -> TraceContext | None:
    """A `traceparent` header; versions after 00 are read by what they share with it, as the standard asks."""
    found = _TRACEPARENT.fullmatch(text.strip(" \t"))
    if found is None:
        return None
    version, trace_id, span_id, flags, more = found.groups()
    if version == "ff" or (version == "00" and more is not None) or trace_id == _NO_TRACE or span_id == _NO_SPAN:
        return None
    return TraceContext(trace_id, span_id, bool(int(flags, 16) & _SAMPLED))


def parse_tracestate(lines: Sequence[str]) -> str:
    """All `tracestate` headers as one, or "" where any part of them is malformed."""
    members = [member for line in lines for part in line.split(",") if (member := part.strip(" \t"))]
    keys = [found[1] for member in members if (found := _MEMBER.fullmatch(member))]
    if len(keys) != len(members) or len(set(keys)) != len(keys) or len(keys) > _MAX_MEMBERS:
        return ""
    return ",".join(members)


def new_trace() -> TraceContext:
    """A trace that begins here, and that nobody records."""
    noise = os.urandom(24).hex()
    return TraceContext(noise[:32], noise[32:])
